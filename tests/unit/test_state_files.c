/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/state_files.h"

#include "support/fault_file.h"
#include "unit/test.h"

static struct state_files open_files(void)
{
    struct state_files files = {-1, "cache"};

    fault_reset();
    files.dirfd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return files;
}

static void make_file(const struct state_files *files, const char *name)
{
    int fd = openat(files->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && close(fd) == 0);
}

static void make_numbered(const struct state_files *files,
                          enum state_file_kind kind, uint64_t number)
{
    char name[STATE_FILE_NAME];

    state_file_name(kind, number, name);
    make_file(files, name);
}

static bool exists(const struct state_files *files, const char *name)
{
    return faccessat(files->dirfd, name, F_OK, 0) == 0;
}

TEST("names are those of the format")
{
    char name[STATE_FILE_NAME];

    state_file_name(STATE_FILE_LOG, 1, name);
    CHECK(strcmp(name, "log.0000000000000001") == 0);
    state_file_name(STATE_FILE_SNAPSHOT, UINT64_MAX - 1, name);
    CHECK(strcmp(name, "catalog.fffffffffffffffe") == 0);
    CHECK(strcmp(state_file_new_name(STATE_FILE_LOG), "log.new") == 0);
    CHECK(strcmp(state_file_new_name(STATE_FILE_SNAPSHOT), "catalog.new") == 0);
}

TEST("all files are listed by their numbers, in order, and nothing else is")
{
    static const char *const others[] = {
        "log.new",
        "catalog.new",
        "log.",
        "log.000000000000001",
        "log.00000000000000001",
        "log.000000000000000A",
        "log.0000000000000000",
        "log.ffffffffffffffff",
        "xlog.0000000000000001",
        "catalog.0000000000000001~",
    };
    struct state_files files = open_files();
    struct state_inventory found;

    CHECK(state_files_list(&files, &found) == 0);
    CHECK(found.logs.count == 0 && found.snapshots.count == 0);
    CHECK(state_newest(&found.logs) == 0);
    state_inventory_done(&found);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        make_file(&files, others[i]);
    for (uint64_t number = 50; number > 0; number--)
        make_numbered(&files, STATE_FILE_LOG, number * 3);
    make_numbered(&files, STATE_FILE_SNAPSHOT, UINT64_MAX - 1);
    make_numbered(&files, STATE_FILE_SNAPSHOT, 0xabcdef);
    CHECK(state_files_list(&files, &found) == 0);
    CHECK(found.logs.count == 50 && found.snapshots.count == 2);
    for (size_t i = 0; i < found.logs.count; i++)
        CHECK(found.logs.list[i] == 3 * (i + 1));
    CHECK(state_newest(&found.logs) == 150);
    CHECK(found.snapshots.list[0] == 0xabcdef);
    CHECK(state_newest(&found.snapshots) == UINT64_MAX - 1);
    state_inventory_done(&found);
    (void)close(files.dirfd);
}

TEST("older files are removed, whichever of them cannot be")
{
    struct state_files files = open_files();
    struct fault_calls calls = {
        .kinds = FAULT_UNLINK, .path_part = "log.0000000000000002", .nth = 1};

    for (uint64_t number = 1; number <= 5; number++) {
        make_numbered(&files, STATE_FILE_LOG, number);
        make_numbered(&files, STATE_FILE_SNAPSHOT, number);
    }
    make_file(&files, "log.new");
    fault_fail(&calls, -EIO, true, 0);
    state_files_remove_older(&files, 4);
    fault_reset();
    CHECK(!exists(&files, "log.0000000000000001"));
    CHECK(exists(&files, "log.0000000000000002"));
    CHECK(!exists(&files, "log.0000000000000003"));
    CHECK(exists(&files, "log.0000000000000004"));
    CHECK(!exists(&files, "catalog.0000000000000003"));
    CHECK(exists(&files, "catalog.0000000000000004"));
    CHECK(exists(&files, "catalog.0000000000000005"));
    CHECK(exists(&files, "log.new"));
    state_file_remove(&files, "log.new");
    CHECK(!exists(&files, "log.new"));
    state_file_remove(&files, "log.new");
    (void)close(files.dirfd);
}
