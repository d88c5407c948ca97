/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "unit/test.h"

#include <pthread.h>

#include "base/file.h"
#include "support/fault_file.h"

static int make_file(const char *name)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/%s", test_dir(), name);
    return file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
}

TEST("the n-th call of a kind fails, once, and the others do not")
{
    struct fault_calls second = {FAULT_SYNC_DATA, NULL, 2};
    int fd = make_file("a");

    NEED(fd >= 0);
    fault_fail(&second, -EIO, false, 0);
    CHECK(file_write(fd, "x", 1, 0) == 0);
    CHECK(file_sync_data(fd) == 0);
    CHECK(file_sync_data(fd) == -EIO);
    CHECK(file_sync_data(fd) == 0);
    CHECK(fault_count() == 3);
    fault_reset();
    CHECK(file_close(fd) == 0);
}

TEST("from the n-th call on all fail, but only on the files that are meant")
{
    struct fault_calls first = {FAULT_ANY_CHANGE, "/bad", 1};
    int good = make_file("good"), bad = make_file("bad");

    NEED(good >= 0 && bad >= 0);
    fault_fail(&first, -ENOSPC, true, 0);
    for (int i = 0; i < 3; i++) {
        CHECK(file_write(good, "x", 1, 0) == 0);
        CHECK(file_write(bad, "x", 1, 0) == -ENOSPC);
    }
    CHECK(file_sync(bad) == -ENOSPC);
    CHECK(make_file("bad2") == -ENOSPC);
    fault_reset();
    CHECK(file_write(bad, "x", 1, 0) == 0);
    CHECK(file_close(good) == 0 && file_close(bad) == 0);
}

TEST("a write that fails leaves whole sectors of it")
{
    struct fault_calls first = {FAULT_WRITE, NULL, 1};
    struct iovec pieces[2];
    int fd = make_file("a");
    char data[4096];
    uint64_t size;

    NEED(fd >= 0);
    memset(data, 'a', sizeof(data));
    pieces[0] = (struct iovec){data, 700};
    pieces[1] = (struct iovec){data + 700, sizeof(data) - 700};
    fault_fail(&first, -EIO, false, 1500);
    CHECK(file_writev(fd, pieces, 2, 0) == -EIO);
    CHECK(file_size(fd, &size) == 0 && size == 1024);
    fault_reset();
    CHECK(file_close(fd) == 0);
}

struct slow_write {
    int fd;
    char data[8192];
};

static void *write_slowly(void *argument)
{
    struct slow_write *slow = argument;

    CHECK(file_write(slow->fd, slow->data, sizeof(slow->data), 0) == 0);
    return NULL;
}

TEST("a write stops in the gate with half of it done, until it is let go")
{
    struct fault_calls first = {FAULT_WRITE, NULL, 1};
    struct slow_write slow = {.fd = make_file("a")};
    pthread_t thread;
    uint64_t size;

    NEED(slow.fd >= 0);
    fault_gate_set(&first);
    NEED(pthread_create(&thread, NULL, write_slowly, &slow) == 0);
    fault_gate_wait();
    CHECK(file_size(slow.fd, &size) == 0 && size == sizeof(slow.data) / 2);
    /* Others pass. */
    CHECK(file_write(slow.fd, "x", 1, 0) == 0);
    fault_gate_open();
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(file_size(slow.fd, &size) == 0 && size == sizeof(slow.data));
    fault_reset();
    CHECK(file_close(slow.fd) == 0);
}

static bool entry_is(const struct recording *recording, size_t n,
                     enum record_kind kind, const char *name)
{
    const struct record_entry *entry = &recording->entries[n];

    if (n >= recording->entries_count || entry->kind != kind)
        return false;
    return !name || (entry->name && strcmp(entry->name, name) == 0);
}

TEST("the recorder tells every change below its root, in order, and no other")
{
    struct recording *recording;
    char root[PATH_MAX];
    int dir, fd, outside, sub;

    (void)snprintf(root, sizeof(root), "%s/root", test_dir());
    outside = make_file("outside");
    NEED(outside >= 0 && mkdir(root, 0700) == 0);
    fault_record_begin(root);
    CHECK(file_write(outside, "x", 1, 0) == 0);
    dir = file_open(AT_FDCWD, root, O_RDONLY | O_DIRECTORY, 0);
    CHECK(file_make_dir(dir, "sub", 0700) == 0);
    CHECK(file_make_dir(dir, "sub", 0700) == -EEXIST);
    fd = file_open(dir, "sub/a.new", O_RDWR | O_CREAT, 0600);
    CHECK(file_write(fd, "abc", 3, 5) == 0);
    CHECK(file_truncate(fd, 6) == 0);
    CHECK(fault_record_position() == 4);
    CHECK(file_sync_data(fd) == 0);
    CHECK(file_rename(dir, "sub/a.new", dir, "sub/a") == 0);
    sub = file_open(dir, "sub", O_RDONLY | O_DIRECTORY, 0);
    CHECK(file_sync(sub) == 0);
    CHECK(file_link(dir, "sub/a", dir, "b") == 0);
    CHECK(file_unlink(dir, "sub/a") == 0);
    CHECK(file_unlink(dir, "sub/a") == -ENOENT);
    CHECK(file_close(file_open(dir, "b", O_RDWR | O_TRUNC, 0)) == 0);
    recording = fault_record_end();
    CHECK(file_write(fd, "abc", 3, 5) == 0);

    CHECK(recording->entries_count == 10);
    CHECK(entry_is(recording, 0, RECORD_MAKE_DIR, "sub"));
    CHECK(entry_is(recording, 1, RECORD_CREATE, "a.new"));
    CHECK(entry_is(recording, 2, RECORD_WRITE, NULL));
    CHECK(recording->entries[2].offset == 5 && recording->entries[2].size == 3);
    CHECK(memcmp(recording->entries[2].bytes, "abc", 3) == 0);
    CHECK(entry_is(recording, 3, RECORD_TRUNCATE, NULL));
    CHECK(entry_is(recording, 4, RECORD_SYNC, NULL));
    CHECK(recording->entries[4].offset == 4);
    CHECK(recording->entries[4].node == recording->entries[1].node);
    CHECK(entry_is(recording, 5, RECORD_RENAME, "a.new"));
    CHECK(strcmp(recording->entries[5].to_name, "a") == 0);
    CHECK(entry_is(recording, 6, RECORD_SYNC, NULL));
    CHECK(recording->entries[6].node == recording->entries[0].node);
    CHECK(entry_is(recording, 7, RECORD_LINK, "b"));
    CHECK(recording->entries[7].dir == 0);
    CHECK(entry_is(recording, 8, RECORD_UNLINK, "a"));
    CHECK(entry_is(recording, 9, RECORD_TRUNCATE, NULL));
    recording_free(recording);
    CHECK(file_close(fd) == 0 && file_close(sub) == 0);
    CHECK(file_close(dir) == 0 && file_close(outside) == 0);
}
