/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_state_log - any bytes as a log, or as a snapshot, of the state.
 *
 * The first byte says which (REPAIR, SNAPSHOT, COMMIT); the rest is what
 * stands behind the first page, a good one.  REPAIR makes the checksums right,
 * so that what is behind them is reached.  What is opened is consistent; and
 * with COMMIT, a commit on top of it is there after opening it again, and
 * nothing else has changed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "cache/cache_dir.h"
#include "cache/state_log.h"
#include "cache/state_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REPAIR = 1, SNAPSHOT = 2, COMMIT = 4 };
enum { CHUNKS = 64, INPUT_MAX = 1 << 18 };

static const char LOG[] = "state/log.0000000000000001";
static const char CATALOG[] = "state/catalog.0000000000000001";

static char root[64];
static int root_fd = -1;

static struct state_header header = {
    .number = 1,
    .salt = 7,
    .cachedir_id = {1, 2, 3},
    .last_generation = 1000,
};

/* In place of the log: a hundred thousand complaints help nobody. */
void log_error(const char *format, ...)
{
    (void)format;
}

void log_warning(const char *format, ...)
{
    (void)format;
}

void log_info(const char *format, ...)
{
    (void)format;
}

bool log_limit_allows(struct log_limit *limit, uint64_t *ret_left_out)
{
    (void)limit;
    *ret_left_out = 0;
    return false;
}

const char *log_errno(int error)
{
    (void)error;
    return "";
}

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void remove_files(const char *name)
{
    int fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    require(dir != NULL);
    while ((entry = readdir(dir)) != NULL)
        (void)unlinkat(fd, entry->d_name, 0);
    (void)closedir(dir);
}

static void remove_root(void)
{
    remove_files("state");
    remove_files(".");
    (void)unlinkat(root_fd, "state", AT_REMOVEDIR);
    (void)rmdir(root);
}

static void make_root(void)
{
    struct superblock superblock = {.chunk_size = 8 << 20};
    struct cache_dir *dir = NULL;

    (void)snprintf(root, sizeof(root), "%s/s3blkdev-fuzz.XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    require(mkdtemp(root) != NULL);
    root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(root_fd >= 0 && mkdirat(root_fd, "state", 0700) == 0);
    memcpy(superblock.cachedir_id, header.cachedir_id, UUID_SIZE);
    require(cache_dir_open(root, false, &dir) == 0);
    require(cache_dir_write_superblock(dir, &superblock) == 0);
    cache_dir_close(dir);
    (void)atexit(remove_root);
}

static void write_file(const char *name, const void *data, size_t size)
{
    int fd =
        openat(root_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    (void)close(fd);
}

/* Make heads and checksums of groups right wherever a magic stands. */
static void repair_log(uint8_t *file, size_t size)
{
    uint32_t seed = state_seed(&header);

    for (size_t at = STATE_PAGE; at < size; at += STATE_PAGE) {
        uint8_t *head = file + at;
        struct state_group group = {
            .commit = get_le64(head + 24),
            .count = get_le64(head + 32),
            .size = get_le64(head + 40),
        };

        if (memcmp(head, "s3bstgrp", 8) != 0)
            continue;
        if (group.size <= size - at - STATE_GROUP_HEAD)
            group.checksum =
                crc32c(seed, head + STATE_GROUP_HEAD,
                       state_group_file_size(group.size) - STATE_GROUP_HEAD);
        state_group_encode(&group, &header, head);
    }
}

static void repair_snapshot(uint8_t *file, size_t size)
{
    uint32_t seed = state_seed(&header);
    uint8_t *last = file + size - STATE_PAGE;

    for (size_t at = STATE_PAGE; at + STATE_SHEET < size; at += STATE_SHEET)
        put_le32(file + at + STATE_SHEET - 4,
                 crc32c(seed, file + at, STATE_SHEET - 4));
    put_le32(last + STATE_PAGE - 4, crc32c(seed, last, STATE_PAGE - 4));
}

/* Write the input as log or snapshot, and the other one empty. */
static void write_files(uint8_t mode, const uint8_t *data, size_t size)
{
    static uint8_t file[INPUT_MAX + 2 * STATE_PAGE];
    uint8_t empty[2 * STATE_PAGE] = {0};
    struct state_end end = {0};
    size_t file_size;

    if (size > INPUT_MAX)
        size = INPUT_MAX;
    file_size = (STATE_PAGE + size + STATE_PAGE - 1) / STATE_PAGE * STATE_PAGE;
    memset(file, 0, sizeof(file));
    memcpy(file + STATE_PAGE, data, size);
    header.kind = mode & SNAPSHOT ? STATE_FILE_SNAPSHOT : STATE_FILE_LOG;
    header.size = mode & SNAPSHOT ? 0 : file_size;
    state_header_encode(&header, file);
    if (mode & REPAIR && mode & SNAPSHOT)
        repair_snapshot(file, file_size);
    else if (mode & REPAIR)
        repair_log(file, file_size);
    write_file(mode & SNAPSHOT ? CATALOG : LOG, file, file_size);

    header.kind = mode & SNAPSHOT ? STATE_FILE_LOG : STATE_FILE_SNAPSHOT;
    header.size = mode & SNAPSHOT ? sizeof(empty) : 0;
    state_header_encode(&header, empty);
    if (!(mode & SNAPSHOT))
        state_end_encode(&end, state_seed(&header), empty + STATE_PAGE);
    write_file(mode & SNAPSHOT ? LOG : CATALOG, empty, sizeof(empty));
}

struct state {
    struct cache_dir *dir;
    struct catalog *catalog, *checkpoint;
    struct state_log *log;
};

static int open_state(struct state *state, bool read_only)
{
    require(cache_dir_open(root, false, &state->dir) == 0);
    require(catalog_new(CHUNKS, &state->catalog) == 0);
    require(catalog_new(CHUNKS, &state->checkpoint) == 0);
    state->log = NULL;
    return state_log_open(state->dir, state->catalog, state->checkpoint, false,
                          read_only, &state->log);
}

static void close_state(struct state *state)
{
    state_log_close(state->log);
    catalog_free(state->checkpoint);
    catalog_free(state->catalog);
    cache_dir_close(state->dir);
}

/* All that a state says. */
struct said {
    struct catalog_entry entries[CHUNKS], checkpoint[CHUNKS];
    struct state_facts facts;
};

static void get_all(const struct state *state, struct said *said)
{
    memset(said, 0, sizeof(*said));
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        catalog_get(state->catalog, chunk, &said->entries[chunk]);
        catalog_get(state->checkpoint, chunk, &said->checkpoint[chunk]);
    }
    state_log_facts(state->log, &said->facts);
}

/* Without a checkpoint there is nothing of one, and so on. */
static void require_consistent(const struct state *state)
{
    uint64_t last = state_log_last_generation(state->log);
    static const uint8_t zeros[STATE_RECORD_SIZE];
    static struct said said;

    get_all(state, &said);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        require(said.entries[chunk].generation <= last);
        require(said.checkpoint[chunk].generation <= last);
    }
    require(said.facts.phase != CHECKPOINT_NONE ||
            catalog_count(state->checkpoint) == 0);
    require(said.facts.has_intent ||
            memcmp(said.facts.intent, zeros, sizeof(zeros)) == 0);
    require(said.facts.must_adopt ||
            memcmp(said.facts.adopt, zeros, sizeof(zeros)) == 0);
}

static bool facts_are_equal(const struct state_facts *a,
                            const struct state_facts *b)
{
    return a->phase == b->phase &&
           a->checkpoint_position == b->checkpoint_position &&
           a->checkpoint_time_ns == b->checkpoint_time_ns &&
           a->published_time_ns == b->published_time_ns &&
           a->counter == b->counter && a->has_epoch == b->has_epoch &&
           a->has_intent == b->has_intent && a->must_adopt == b->must_adopt &&
           memcmp(a->epoch, b->epoch, STATE_RECORD_SIZE) == 0 &&
           memcmp(a->intent, b->intent, STATE_RECORD_SIZE) == 0 &&
           memcmp(a->adopt, b->adopt, STATE_RECORD_SIZE) == 0;
}

static void commit_and_compare(void)
{
    static struct said before, after;
    struct state_change change = {.kind = STATE_CHUNK, .chunk = 5};
    struct state state;
    uint64_t commit;

    require(open_state(&state, false) == 0);
    change.entry.generation = 99;
    require(state_log_commit(state.log, &change, 1) == 0);
    commit = state_log_last_commit(state.log);
    get_all(&state, &before);
    close_state(&state);
    require(open_state(&state, true) == 0);
    get_all(&state, &after);
    require(state_log_last_commit(state.log) == commit);
    require(memcmp(before.entries, after.entries, sizeof(before.entries)) == 0);
    require(memcmp(before.checkpoint, after.checkpoint,
                   sizeof(before.checkpoint)) == 0);
    require(facts_are_equal(&before.facts, &after.facts));
    require(after.entries[5].generation == 99);
    close_state(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state state;
    int error;

    if (size == 0)
        return 0;
    if (root_fd < 0)
        make_root();
    remove_files("state");
    write_files(data[0], data + 1, size - 1);
    error = open_state(&state, true);
    require(error == 0 || error == -EUCLEAN || error == -ENOENT);
    if (error == 0)
        require_consistent(&state);
    close_state(&state);
    if (error == 0 && data[0] & COMMIT)
        commit_and_compare();
    return 0;
}
