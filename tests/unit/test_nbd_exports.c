/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_exports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbd/nbd_memory.h"
#include "unit/test.h"

enum { MIB = 1 << 20 };

static struct nbd_exports *make(const char *default_name, size_t memory_max)
{
    struct nbd_exports *exports = NULL;

    if (nbd_exports_new(default_name, memory_max, &exports) != 0)
        abort();
    return exports;
}

static int add(struct nbd_exports *exports, const char *name)
{
    return nbd_exports_add(exports, &(struct nbd_export){.name = name});
}

static const struct nbd_export *find(struct nbd_exports *exports,
                                     const char *name)
{
    return nbd_exports_find(exports, (struct nbd_string){name, strlen(name)});
}

TEST("an export is found by its name, and stays where it is when others come")
{
    struct nbd_exports *exports = make(NULL, 0);
    const struct nbd_export *b;

    CHECK(find(exports, "b") == NULL);
    CHECK(nbd_exports_next(exports, NULL) == NULL);
    CHECK(add(exports, "b") == 0);
    b = find(exports, "b");
    NEED(b);
    CHECK(strcmp(b->name, "b") == 0);
    CHECK(add(exports, "a") == 0);
    CHECK(find(exports, "b") == b);
    CHECK(nbd_exports_next(exports, NULL) == b);
    CHECK(nbd_exports_next(exports, b) == find(exports, "a"));
    CHECK(nbd_exports_next(exports, find(exports, "a")) == NULL);
    CHECK(find(exports, "bb") == NULL);
    nbd_exports_free(exports);
    nbd_exports_free(NULL);
}

TEST("without a name the first one is found, or else the one that was said, "
     "once it is there")
{
    struct nbd_exports *exports = make(NULL, 0);

    CHECK(find(exports, "") == NULL);
    CHECK(add(exports, "b") == 0 && add(exports, "a") == 0);
    CHECK(find(exports, "") == find(exports, "b"));
    nbd_exports_free(exports);
    exports = make("a", 0);
    CHECK(add(exports, "b") == 0);
    CHECK(find(exports, "") == NULL);
    CHECK(add(exports, "a") == 0);
    CHECK(find(exports, "") == find(exports, "a"));
    nbd_exports_free(exports);
}

TEST("a name that is there, too long, or no UTF-8 is refused")
{
    struct nbd_exports *exports = make(NULL, 0);
    char *name = calloc(1, 4098);

    NEED(name);
    memset(name, 'n', 4097);
    CHECK(add(exports, "a") == 0);
    CHECK(add(exports, "a") == -EEXIST);
    CHECK(add(exports, "\xc3") == -EINVAL);
    CHECK(add(exports, name) == -EINVAL);
    CHECK(nbd_exports_next(exports, find(exports, "a")) == NULL);
    name[4096] = '\0';
    CHECK(add(exports, name) == 0);
    CHECK(find(exports, name) != NULL);
    nbd_exports_free(exports);
    free(name);
}

static void no_wake(struct nbd_memory_waiter *waiter)
{
    (void)waiter;
}

/* Whether so many bytes, and no more, are to be had for the export. */
static bool has_memory(const struct nbd_export *export, size_t bytes)
{
    struct nbd_memory *memory = nbd_exports_memory(export);
    struct nbd_memory_waiter waiter = {.wake = no_wake};
    bool has = nbd_memory_take(memory, &waiter, bytes);
    bool has_more = has && nbd_memory_take(memory, &waiter, 1);

    nbd_memory_leave(memory, &waiter);
    if (has)
        nbd_memory_give(memory, has_more ? bytes + 1 : bytes);
    return has && !has_more;
}

TEST("the memory is divided anew when an export is added, down to 64 MiB each")
{
    struct nbd_exports *exports = make(NULL, (size_t)256 * MIB);
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    static const size_t shares[] = {256, 128, 85, 64, 64};

    for (size_t i = 0; i < 5; i++) {
        CHECK(add(exports, names[i]) == 0);
        for (size_t j = 0; j <= i; j++)
            CHECK(has_memory(find(exports, names[j]),
                             i == 2 ? (size_t)256 * MIB / 3 : shares[i] * MIB));
    }
    nbd_exports_free(exports);
}
