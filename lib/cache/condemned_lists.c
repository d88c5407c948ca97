/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/condemned_lists.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "base/number.h"
#include "object_store.h"

enum { HEX = 16, NAME_MAX_LEN = HEX + 1 + HEX + 1 + 8 };

struct reading {
    struct condemned_lists lists;
    size_t prefix_len;
};

/* Read len hexadecimal digits, as keys have them. */
static bool take_hex(const char *text, size_t len, uint64_t *ret_value)
{
    char digits[HEX + 1];

    memcpy(digits, text, len);
    digits[len] = '\0';
    return strspn(digits, "0123456789abcdef") == len &&
           number_parse_hex(digits, 0, UINT64_MAX, ret_value) == 0;
}

/* Returns the list of that key's, the last one or a new one; NULL: memory. */
static struct condemned_list *list_of(struct condemned_lists *lists,
                                      uint64_t epoch, uint64_t nonce)
{
    struct condemned_list *list;

    if (lists->count > 0) {
        list = &lists->items[lists->count - 1];
        if (list->epoch == epoch && list->nonce == nonce)
            return list;
    }
    list = reallocarray(lists->items, lists->count + 1, sizeof(*list));
    if (!list)
        return NULL;
    lists->items = list;
    list += lists->count++;
    *list = (struct condemned_list){.epoch = epoch, .nonce = nonce};
    return list;
}

/* An object_store_each. */
static int see_key(void *context, const char *key,
                   const struct object_info *info)
{
    struct reading *reading = context;
    const char *name = key + reading->prefix_len, *page = name + 2 * HEX + 2;
    struct condemned_list *list;
    uint64_t epoch, nonce, number = 0;
    size_t len = strnlen(name, NAME_MAX_LEN + 1);
    bool is_end;

    if (len > NAME_MAX_LEN || len < 2 * HEX + 2 + 3 || name[HEX] != '-' ||
        name[2 * HEX + 1] != '/' || !take_hex(name, HEX, &epoch) ||
        !take_hex(name + HEX + 1, HEX, &nonce))
        goto strange;
    is_end = strcmp(page, "end") == 0;
    if (!is_end && (strlen(page) != 8 || !take_hex(page, 8, &number)))
        goto strange;
    list = list_of(&reading->lists, epoch, nonce);
    if (!list)
        return -ENOMEM;
    if (is_end) {
        list->has_end = true;
        list->ended_ns = info->modified_ns;
    } else if (number == list->pages) {
        list->pages++;
    } else {
        list->has_other = true;
    }
    return 0;
strange:
    log_warning("%s: not the key of a page of a list, ignored", key);
    return 0;
}

int condemned_lists_read(struct object_store *store, const char *device_name,
                         struct condemned_lists *ret_lists)
{
    struct reading reading = {.prefix_len = 0};
    char prefix[DEVICE_NAME_MAX + sizeof("/condemned/")];
    int len, error;

    len = snprintf(prefix, sizeof(prefix), "%s/condemned/", device_name);
    assert(len > 0 && (size_t)len < sizeof(prefix));
    reading.prefix_len = (size_t)len;
    error = store->list(store, prefix, "", see_key, &reading);
    if (error) {
        log_error("%s: cannot list what is condemned: %s", device_name,
                  log_errno(error));
        condemned_lists_done(&reading.lists);
        return error == -ENOENT ? -EIO : error;
    }
    *ret_lists = reading.lists;
    return 0;
}

void condemned_lists_done(struct condemned_lists *lists)
{
    free(lists->items);
    lists->items = NULL;
    lists->count = 0;
}

/* Read and decode what is at key. */
static int read_key(struct object_store *store, const char *key,
                    struct condemned_page *ret_page, struct condemned entries[])
{
    AUTO_FREE void *data = NULL;
    struct object_info info;
    int error = store->head(store, key, &info);

    if (!error && info.size > CONDEMNED_PAGE_MAX)
        error = -EBADMSG;
    if (!error) {
        data = malloc((size_t)info.size + 1);
        error = data ? store->get(store, key, 0, data, (size_t)info.size,
                                  OBJECT_BACKGROUND)
                     : -ENOMEM;
    }
    if (!error)
        error = condemned_decode(data, (size_t)info.size, ret_page, entries);
    return error;
}

int condemned_lists_page(struct object_store *store, const char *device_name,
                         const struct condemned_list *list, uint32_t page,
                         bool is_end, struct condemned_page *ret_page,
                         struct condemned entries[])
{
    struct condemned_page wanted = {.epoch = list->epoch,
                                    .nonce = list->nonce,
                                    .page = page,
                                    .is_end = is_end};
    char key[CONDEMNED_KEY_MAX];
    int error;

    condemned_key(device_name, &wanted, key);
    error = read_key(store, key, ret_page, entries);
    if (!error &&
        (ret_page->epoch != wanted.epoch || ret_page->nonce != wanted.nonce ||
         ret_page->is_end != is_end || (!is_end && ret_page->page != page)))
        error = -EBADMSG;
    if (error)
        log_error("%s: %s", key,
                  error == -EBADMSG ? "no valid page of a list"
                  : error == -EPROTONOSUPPORT
                      ? "written by a later version of this program"
                      : log_errno(error));
    return error == -ENOENT || error == -EBADMSG ? -EIO : error;
}

int condemned_lists_have_root(struct object_store *store,
                              const char *device_name,
                              const struct root_ref *root,
                              bool *ret_is_condemned)
{
    AUTO_FREE struct condemned *entries =
        calloc(CONDEMNED_COUNT_MAX, sizeof(*entries));
    struct condemned_lists lists = {.items = NULL};
    bool is_condemned = false;
    int error;

    if (!entries)
        return -ENOMEM;
    error = condemned_lists_read(store, device_name, &lists);
    for (size_t i = 0; i < lists.count && !error; i++) {
        struct condemned_page page;

        if (lists.items[i].pages == 0)
            continue; /* what is left of a list that is being removed */
        error = condemned_lists_page(store, device_name, &lists.items[i], 0,
                                     false, &page, entries);
        for (uint32_t e = 0; !error && e < page.count; e++)
            is_condemned |= entries[e].kind == CONDEMNED_ROOT &&
                            entries[e].epoch == root->epoch &&
                            entries[e].nonce == root->nonce &&
                            entries[e].number == root->page;
    }
    condemned_lists_done(&lists);
    if (!error)
        *ret_is_condemned = is_condemned;
    return error;
}
