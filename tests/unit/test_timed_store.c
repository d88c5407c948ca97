/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "unit/test.h"

#include "base/file.h"
#include "support/fault_file.h"
#include "support/timed_store.h"

static bool has(struct object_store *store, const char *key)
{
    struct object_info info;

    return store->head(store, key, &info) == 0;
}

/* Returns whether a store as of the moment has the key, whatever the seed. */
static bool had(struct object_store *store, size_t moment, const char *key)
{
    unsigned count = 0;

    for (uint64_t seed = 0; seed < 20; seed++) {
        struct object_store *then = timed_store_at(store, moment, false, seed);

        count += has(then, key);
        then->close(then);
    }
    CHECK(count == 0 || count == 20);
    return count == 20;
}

static void make_entry(int fd)
{
    CHECK(file_write(fd, "x", 1, 0) == 0);
}

TEST("a store as of a moment has what had been put by then, and not been "
     "deleted")
{
    struct object_store *store = timed_store_new();
    char path[PATH_MAX];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/a", test_dir());
    fault_record_begin(test_dir());
    fd = file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600); /* entry 0 */
    NEED(fd >= 0);
    CHECK(store->put(store, "a", "1", 1, false) == 0);
    make_entry(fd);
    CHECK(store->put(store, "b", "1", 1, false) == 0);
    CHECK(object_delete_one(store, "a") == 0);
    make_entry(fd);
    make_entry(fd);
    recording_free(fault_record_end());
    CHECK(!had(store, 0, "a") && !had(store, 0, "b"));
    CHECK(had(store, 1, "a") && !had(store, 1, "b"));
    CHECK(!had(store, 3, "a") && had(store, 3, "b"));
    store->close(store);
    CHECK(file_close(fd) == 0);
}

TEST("what happens when the recording has ended is of no moment of it")
{
    struct object_store *store = timed_store_new();
    char path[PATH_MAX];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/a", test_dir());
    fault_record_begin(test_dir());
    fd = file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
    NEED(fd >= 0);
    CHECK(store->put(store, "a", "1", 1, false) == 0);
    make_entry(fd);
    recording_free(fault_record_end());
    CHECK(object_delete_one(store, "a") == 0);
    CHECK(store->put(store, "b", "1", 1, false) == 0);
    for (size_t moment = 1; moment < 3; moment++)
        CHECK(had(store, moment, "a") && !had(store, moment, "b"));
    CHECK(!has(store, "a") && has(store, "b"));
    store->close(store);
    CHECK(file_close(fd) == 0);
}
