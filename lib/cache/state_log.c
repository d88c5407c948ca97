/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Snapshot n has all commits up to some number c, log n those from c + 1 on.
 * The step from n - 1 to n:
 *
 *   1 catalog.new and log.new are written full and synced
 *   2 log.new becomes log n, and the directory is synced
 *   3 catalog.new becomes catalog n, and the directory is synced
 *   4 commits go to log n; what is older than n - 1 is removed
 *
 * A power cut, or a full disk, before 3 leaves n - 1 in force, with an empty
 * log n at most: a newest log that is empty and has no snapshot is void.
 * After 3 it is n.  So wherever there is snapshot n there is log n, and one
 * that is missing, or shorter than its header says, is damage.
 *
 * Where the newest snapshot is damaged, an older one and all logs from there
 * on give the same state; that each begins with the commit after the last one
 * before it is checked.  Then a new snapshot is written at once, and the older
 * one is kept until there is another: two good ones, always.
 *
 * What a torn group left is overwritten with zeros, and that is synced, before
 * the next commit takes its place and number.  That happens in place and as
 * late as that: a start needs no room, and destroys no evidence while it is
 * not known whether the commit was more than torn.
 */
#include "cache/state_log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/cache_dir.h"
#include "cache/geometry.h"
#include "cache/state_contents.h"
#include "cache/state_files.h"
#include "cache/state_record.h"
#include "cache/state_replay.h"
#include "cache/state_snapshot.h"

static const char STATE[] = "state";

/*
 * A log takes about as many bytes of commits as two snapshots, so that
 * snapshots cost no more than the commits; but a start reads all of it.
 */
static const uint64_t LOG_SIZE_MIN = 1 << 20;
static const uint64_t LOG_SIZE_MAX = 64 << 20;

/* Zeros are written in pieces of this size. */
enum { ZEROS_SIZE = 1 << 18 };

struct state_log {
    struct cache_dir *cache_dir;
    bool read_only;
    struct state_files files;

    struct mutex lock;
    struct condition turn_ended;
    bool is_taken GUARDED_BY(lock); /* somebody's turn; the rest is his */

    int error;                  /* the final one */
    int fd;                     /* of the log in use, -1: none */
    struct state_header header; /* of the log in use */
    uint64_t used;              /* where the next group begins */
    uint64_t torn_end;          /* up to here there may be a torn one */
    uint64_t early;             /* from here a new log is tried for */
    uint64_t snapshot;          /* number of the newest good one; 0: none */
    uint8_t cachedir_id[UUID_SIZE];
    struct log_limit full_limit;
    struct state_contents contents; /* facts: changed under the lock too */
    _Atomic uint64_t written;
};

/* ---- the next snapshot and log ------------------------------------------- */

/* Whether nothing is wrong but that there is no room now. */
static bool is_lack_of_room(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -ENOMEM ||
           error == -EMFILE || error == -ENFILE;
}

/* Write zeros and sync them. */
static int write_zeros(struct state_log *log, int fd, uint64_t from,
                       uint64_t end)
{
    AUTO_FREE unsigned char *zeros = calloc(1, ZEROS_SIZE);
    int error = zeros ? 0 : -ENOMEM;

    while (error == 0 && from < end) {
        size_t size = end - from < ZEROS_SIZE ? end - from : ZEROS_SIZE;

        error = file_write(fd, zeros, size, from);
        from += size;
        log->written += size;
    }
    return error < 0 ? error : file_sync_data(fd);
}

/* Write an empty log, full of zeros, and sync it; not its name. */
static int write_log(struct state_log *log, const struct state_header *header,
                     int *ret_fd)
{
    unsigned char page[STATE_PAGE];
    int error, fd;

    fd = file_open(log->files.dirfd, state_file_new_name(STATE_FILE_LOG),
                   O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return fd;
    state_header_encode(header, page);
    error = file_write(fd, page, sizeof(page), 0);
    if (error == 0)
        error = write_zeros(log, fd, STATE_PAGE, header->size);
    if (error < 0)
        (void)file_close(fd);
    else
        *ret_fd = fd;
    return error;
}

static uint64_t choose_log_size(uint64_t snapshot_size, uint64_t group_size)
{
    uint64_t size = 2 * snapshot_size;

    if (size > LOG_SIZE_MAX)
        size = LOG_SIZE_MAX;
    if (size < LOG_SIZE_MIN)
        size = LOG_SIZE_MIN;
    if (size < STATE_PAGE + 2 * group_size)
        size = STATE_PAGE + 2 * group_size;
    return round_up(size, STATE_PAGE);
}

/* Step 1: both files, under their temporary names. */
static int write_new_files(struct state_log *log, uint64_t group_size,
                           struct state_header *header, int *ret_fd)
{
    uint64_t size = 0;
    int error;

    header->kind = STATE_FILE_SNAPSHOT;
    header->size = 0;
    error = state_snapshot_write(log->files.dirfd,
                                 state_file_new_name(STATE_FILE_SNAPSHOT),
                                 header, &log->contents, &size);
    if (error < 0)
        return error;
    log->written += size;
    header->kind = STATE_FILE_LOG;
    header->size = choose_log_size(size, group_size);
    return write_log(log, header, ret_fd);
}

/*
 * Steps 2 and 3.  *ret_is_final: it is not known any more which snapshot the
 * next start finds.
 */
static int name_new_files(struct state_log *log, uint64_t number,
                          bool *ret_is_final)
{
    char log_name[STATE_FILE_NAME], snapshot_name[STATE_FILE_NAME];
    int error;

    state_file_name(STATE_FILE_LOG, number, log_name);
    state_file_name(STATE_FILE_SNAPSHOT, number, snapshot_name);
    *ret_is_final = false;
    error = file_rename(log->files.dirfd, state_file_new_name(STATE_FILE_LOG),
                        log->files.dirfd, log_name);
    if (error < 0)
        return error;
    error = file_sync(log->files.dirfd);
    if (error == 0)
        error = file_rename(log->files.dirfd,
                            state_file_new_name(STATE_FILE_SNAPSHOT),
                            log->files.dirfd, snapshot_name);
    if (error < 0) {
        state_file_remove(&log->files, log_name);
        return error;
    }
    error = file_sync(log->files.dirfd);
    *ret_is_final = error < 0;
    return error;
}

static void use_log(struct state_log *log, int fd,
                    const struct state_header *header)
{
    if (log->fd >= 0)
        (void)file_close(log->fd);
    log->fd = fd;
    log->header = *header;
    log->used = log->torn_end = STATE_PAGE;
    log->early = header->size / 4 * 3;
}

/* One attempt at steps 1 to 3. */
static int try_next(struct state_log *log, uint64_t group_size,
                    bool *ret_is_final)
{
    struct state_header header = {
        .number = log->header.number + 1,
        .commit = log->contents.numbers.commit,
        .journal_begin = log->contents.numbers.journal_begin,
        .last_generation = log->contents.numbers.last_generation,
    };
    int error, fd = -1;

    *ret_is_final = false;
    if (getrandom(&header.salt, sizeof(header.salt), 0) != sizeof(header.salt))
        return -EIO;
    memcpy(header.cachedir_id, log->cachedir_id, UUID_SIZE);
    error = write_new_files(log, group_size, &header, &fd);
    if (error == 0)
        error = name_new_files(log, header.number, ret_is_final);
    if (error < 0) {
        if (fd >= 0)
            (void)file_close(fd);
        state_file_remove(&log->files, state_file_new_name(STATE_FILE_LOG));
        state_file_remove(&log->files,
                          state_file_new_name(STATE_FILE_SNAPSHOT));
        return error;
    }
    use_log(log, fd, &header);
    return 0;
}

/*
 * Go on with the next snapshot and log, which has room for a group of
 * group_size.  For lack of room (not logged): -ENOSPC or -ENOMEM, and all is
 * as before.  Any other error is final.
 */
static int begin_next(struct state_log *log, uint64_t group_size)
{
    bool is_final;
    int error = try_next(log, group_size, &is_final);

    if (!is_final && (error == -ENOSPC || error == -EDQUOT) &&
        cache_dir_release_reserve(log->cache_dir))
        error = try_next(log, group_size, &is_final);
    if (error < 0 && !is_final && is_lack_of_room(error))
        return error == -ENOMEM ? error : -ENOSPC;
    if (error < 0) {
        log->error = error;
        return state_files_complain(&log->files, "write a snapshot", error);
    }
    if (log->snapshot > 0)
        state_files_remove_older(&log->files, log->snapshot);
    log->snapshot = log->header.number;
    return 0;
}

/* ---- open ---------------------------------------------------------------- */

/* Read snapshot number.  -EBADMSG: it cannot be used, another one might. */
static int read_snapshot(struct state_log *log, uint64_t number,
                         struct state_header *ret_header)
{
    char name[STATE_FILE_NAME];
    int error;

    state_file_name(STATE_FILE_SNAPSHOT, number, name);
    error = state_snapshot_read(log->files.dirfd, name, !log->read_only,
                                &log->contents, ret_header);
    if (error == 0 && ret_header->number != number)
        error = -EBADMSG;
    if (error == 0 &&
        memcmp(ret_header->cachedir_id, log->cachedir_id, UUID_SIZE) != 0)
        return state_file_complain(&log->files, STATE_FILE_SNAPSHOT, number,
                                   "belongs to another cache directory",
                                   -EUCLEAN);
    if (error == -EPROTONOSUPPORT)
        return state_file_complain(&log->files, STATE_FILE_SNAPSHOT, number,
                                   "written by a later version of this program",
                                   error);
    if (error == -EINVAL)
        return state_file_complain(&log->files, STATE_FILE_SNAPSHOT, number,
                                   "has a chunk past the end of the device",
                                   -EUCLEAN);
    if (error == -EBADMSG || error == -EIO) {
        log_warning("%s/state/%s: %s; looking for an older one",
                    log->files.cachedir, name,
                    error == -EIO ? log_errno(error) : "damaged");
        state_contents_clear(&log->contents);
        return -EBADMSG;
    }
    if (error < 0)
        return state_file_complain(&log->files, STATE_FILE_SNAPSHOT, number,
                                   log_errno(error), error);
    return 0;
}

/*
 * Read the newest snapshot that is good.  The first one was empty: it can be
 * done without as long as there is the log that begins with commit 1.
 */
static int find_snapshot(struct state_log *log,
                         const struct state_inventory *inventory,
                         struct state_header *ret_header)
{
    const struct state_file_numbers *snapshots = &inventory->snapshots;

    for (size_t i = snapshots->count; i > 0; i--) {
        int error = read_snapshot(log, snapshots->list[i - 1], ret_header);

        if (error == 0)
            log->snapshot = ret_header->number;
        if (error != -EBADMSG)
            return error;
    }
    if (inventory->logs.count > 0 && inventory->logs.list[0] == 1) {
        *ret_header = (struct state_header){.number = 1};
        return 0;
    }
    log_error("%s/state: no snapshot of the catalog is good",
              log->files.cachedir);
    return -EUCLEAN;
}

static int open_log(struct state_log *log, uint64_t number,
                    struct state_replay *ret_replay)
{
    return state_replay_open(&log->files, number, log->cachedir_id,
                             log->read_only, ret_replay);
}

/* Replay the logs from the snapshot's to last, which stays in use. */
static int replay_logs(struct state_log *log,
                       const struct state_header *snapshot, uint64_t last)
{
    for (uint64_t number = snapshot->number; number <= last; number++) {
        struct state_replay replay;
        int error = open_log(log, number, &replay);

        if (error < 0)
            return error;
        if (number == log->snapshot && replay.header.salt != snapshot->salt)
            error = state_file_complain(&log->files, STATE_FILE_LOG, number,
                                        "does not belong to its snapshot",
                                        -EUCLEAN);
        if (error == 0)
            error = state_replay_run(&replay, !log->read_only, &log->contents);
        if (error < 0) {
            (void)file_close(replay.fd);
            return error;
        }
        use_log(log, replay.fd, &replay.header);
        log->used = replay.end;
        log->torn_end = replay.torn_end;
    }
    return 0;
}

/*
 * Tell whether a log, which has no snapshot, was only prepared, and which was
 * the last commit then.
 */
static int log_is_void(struct state_log *log, uint64_t number,
                       uint64_t *ret_commit, bool *ret_is_void)
{
    struct state_replay replay;
    int error = open_log(log, number, &replay);

    if (error < 0)
        return error;
    error = state_replay_is_empty(&replay, ret_is_void);
    (void)file_close(replay.fd);
    *ret_commit = replay.header.commit;
    return error;
}

static int begin_first(struct state_log *log)
{
    int error;

    log->header.number = 0;
    error = begin_next(log, 0);
    if (error == -ENOSPC || error == -ENOMEM)
        return state_files_complain(&log->files, "begin", error);
    if (error < 0)
        return error;
    error = file_sync(cache_dir_fd(log->cache_dir));
    return error < 0 ? state_files_complain(&log->files, "sync its name", error)
                     : 0;
}

/* Make the names durable that were read, and remove what nobody needs. */
static int settle_names(struct state_log *log, uint64_t void_log)
{
    char name[STATE_FILE_NAME];
    int error = file_sync(log->files.dirfd);

    if (error == 0)
        error = file_sync(cache_dir_fd(log->cache_dir));
    if (error < 0)
        return state_files_complain(&log->files, "sync it", error);
    state_file_remove(&log->files, state_file_new_name(STATE_FILE_LOG));
    state_file_remove(&log->files, state_file_new_name(STATE_FILE_SNAPSHOT));
    state_file_name(STATE_FILE_LOG, void_log, name);
    if (void_log > 0)
        state_file_remove(&log->files, name);
    return 0;
}

/* Read what there is: the newest good snapshot and the logs since. */
static int read_state(struct state_log *log,
                      const struct state_inventory *inventory)
{
    uint64_t last = state_newest(&inventory->logs);
    uint64_t void_log = 0, void_commit = 0;
    struct state_header snapshot;
    bool is_void = false;
    int error = 0;

    if (last < state_newest(&inventory->snapshots))
        return state_file_complain(&log->files, STATE_FILE_LOG,
                                   state_newest(&inventory->snapshots),
                                   "missing", -EUCLEAN);
    if (last > state_newest(&inventory->snapshots))
        error = log_is_void(log, last, &void_commit, &is_void);
    if (is_void)
        void_log = last--;
    if (error == 0)
        error = find_snapshot(log, inventory, &snapshot);
    if (error == 0)
        error = replay_logs(log, &snapshot, last);
    if (error == 0 && void_commit > log->contents.numbers.commit)
        error =
            state_file_complain(&log->files, STATE_FILE_LOG, void_log,
                                "commits in front of it are missing", -EUCLEAN);
    if (error < 0 || log->read_only)
        return error;
    error = settle_names(log, void_log);
    if (error < 0 || log->snapshot == last)
        return error;
    error = begin_next(log, 0);
    if (error == -ENOSPC || error == -ENOMEM) {
        log_warning("%s/state: no room for a snapshot in place of the damaged"
                    " one",
                    log->files.cachedir);
        error = 0;
    }
    return error;
}

/* Whether there never was a state: nothing, or one that was not finished. */
static int state_is_absent(struct state_log *log,
                           const struct state_inventory *inventory,
                           bool *ret_is)
{
    uint64_t commit = 0;

    *ret_is = false;
    if (inventory->snapshots.count > 0)
        return 0;
    *ret_is = inventory->logs.count == 0;
    if (inventory->logs.count != 1 || state_newest(&inventory->logs) != 1)
        return 0;
    return log_is_void(log, 1, &commit, ret_is);
}

static int read_or_begin(struct state_log *log, bool create)
{
    struct state_inventory inventory;
    bool is_absent = false;
    int error = state_files_list(&log->files, &inventory);

    if (error == 0)
        error = state_is_absent(log, &inventory, &is_absent);
    if (error == 0 && is_absent)
        error = create ? begin_first(log) : -ENOENT;
    else if (error == 0)
        error = read_state(log, &inventory);
    state_inventory_done(&inventory);
    return error;
}

static int open_dir(struct state_log *log, bool create)
{
    int parent = cache_dir_fd(log->cache_dir), error = 0;

    if (create)
        error = file_make_dir(parent, STATE, 0700);
    if (error < 0 && error != -EEXIST)
        return state_files_complain(&log->files, "make it", error);
    log->files.dirfd = file_open(parent, STATE, O_RDONLY | O_DIRECTORY, 0);
    if (log->files.dirfd == -ENOENT)
        return log->files.dirfd;
    return log->files.dirfd < 0
               ? state_files_complain(&log->files, "open it", log->files.dirfd)
               : 0;
}

int state_log_open(struct cache_dir *dir, struct catalog *catalog,
                   struct catalog *checkpoint, bool create, bool read_only,
                   struct state_log **ret_log)
{
    struct state_log *log = calloc(1, sizeof(*log));
    struct superblock superblock;
    int error;

    if (!log)
        return -ENOMEM;
    assert(catalog_count(catalog) == 0 && catalog_count(checkpoint) == 0);
    mutex_init(&log->lock);
    condition_init(&log->turn_ended);
    log->cache_dir = dir;
    log->contents.catalog = catalog;
    log->contents.checkpoint = checkpoint;
    log->read_only = read_only;
    log->files.cachedir = cache_dir_path(dir);
    log->files.dirfd = log->fd = -1;
    error = cache_dir_read_superblock(dir, &superblock);
    if (error == 0) {
        memcpy(log->cachedir_id, superblock.cachedir_id, UUID_SIZE);
        error = open_dir(log, create && !read_only);
    }
    if (error == 0)
        error = read_or_begin(log, create && !read_only);
    if (error == 0)
        *ret_log = take_pointer(&log);
    state_log_close(log);
    return error;
}

void state_log_close(struct state_log *log)
{
    if (!log)
        return;
    /* What was committed is synced; the rest is nobody's. */
    if (log->fd >= 0)
        (void)file_close(log->fd);
    if (log->files.dirfd >= 0)
        (void)file_close(log->files.dirfd);
    condition_done(&log->turn_ended);
    mutex_done(&log->lock);
    free(log);
}

/* ---- commit -------------------------------------------------------------- */

/* Wait for one's turn: no lock is held across a sync. */
static void take_turn(struct state_log *log) EXCLUDES(log->lock)
{
    mutex_lock(&log->lock);
    while (log->is_taken)
        condition_wait(&log->turn_ended, &log->lock);
    log->is_taken = true;
    mutex_unlock(&log->lock);
}

static void end_turn(struct state_log *log) EXCLUDES(log->lock)
{
    mutex_lock(&log->lock);
    log->is_taken = false;
    condition_signal(&log->turn_ended);
    mutex_unlock(&log->lock);
}

/*
 * See whether the changes fit, one after the other, and what the facts will
 * be; and take what applying them will need, which free_objects gives up.
 */
static int prepare(struct state_log *log, const struct state_change changes[],
                   size_t count, struct state_facts *facts,
                   struct chunk_object *objects[])
{
    int error = 0;

    *facts = log->contents.facts;
    for (size_t i = 0; error == 0 && i < count; i++) {
        error = state_facts_follow(facts, &changes[i]);
        if (error == 0)
            error = state_contents_prepare(&log->contents, &changes[i],
                                           &objects[i]);
    }
    return error;
}

static void free_objects(struct chunk_object *objects[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(objects[i]);
}

static void apply(struct state_log *log, const struct state_change changes[],
                  size_t count, const struct state_facts *facts,
                  struct chunk_object *objects[])
{
    for (size_t i = 0; i < count; i++)
        state_contents_apply(&log->contents, &changes[i],
                             take_pointer(&objects[i]));
    mutex_lock(&log->lock);
    log->contents.facts = *facts;
    mutex_unlock(&log->lock);
}

/* See to it that the log in use has room for the group. */
static int make_room(struct state_log *log, uint64_t group_size)
{
    uint64_t left_out;
    int error;

    if (log->used < log->early && group_size <= log->header.size - log->used)
        return 0;
    error = begin_next(log, group_size);
    if (error != -ENOSPC && error != -ENOMEM)
        return error;
    if (log_limit_allows(&log->full_limit, &left_out))
        log_warning("%s/state: no room for a snapshot of the catalog; %" PRIu64
                    " bytes of the log are left",
                    log->files.cachedir, log->header.size - log->used);
    if (group_size > log->header.size - log->used)
        return error;
    log->early = log->used + log->header.size / 16;
    return 0;
}

/* Write the group where zeros are, or have been put now. */
static int write_over_zeros(struct state_log *log, const void *data,
                            uint64_t size)
{
    int error = 0;

    if (log->torn_end > log->used)
        error = write_zeros(log, log->fd, log->used, log->torn_end);
    if (error < 0)
        return error;
    log->torn_end = log->used + size;
    return file_write(log->fd, data, size, log->used);
}

/* Write the group and sync it.  For lack of room: -ENOSPC, -ENOMEM. */
static int write_group(struct state_log *log, const void *data, uint64_t size)
{
    int error = write_over_zeros(log, data, size);

    /* What was written full may still need room to be written again: btrfs. */
    if ((error == -ENOSPC || error == -EDQUOT) &&
        cache_dir_release_reserve(log->cache_dir))
        error = write_over_zeros(log, data, size);
    if (error == -ENOSPC || error == -EDQUOT || error == -ENOMEM)
        return error == -EDQUOT ? -ENOSPC : error;
    if (error == 0)
        error = file_sync_data(log->fd);
    if (error < 0) {
        log->error = error;
        return state_file_complain(&log->files, STATE_FILE_LOG,
                                   log->header.number, log_errno(error), error);
    }
    log->used += size;
    log->written += size;
    return 0;
}

/* Encode a group whose file size is known and write it. */
static int encode_and_write(struct state_log *log,
                            const struct state_change changes[], size_t count,
                            uint64_t changes_size)
{
    uint64_t size = state_group_file_size(changes_size);
    AUTO_FREE unsigned char *data = calloc(1, size);
    struct state_group group = {
        .commit = log->contents.numbers.commit + 1,
        .count = count,
        .size = changes_size,
    };
    size_t at = STATE_GROUP_HEAD;

    if (!data)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        at += state_change_encode(&changes[i], data + at);
    group.checksum = crc32c(state_seed(&log->header), data + STATE_GROUP_HEAD,
                            size - STATE_GROUP_HEAD);
    state_group_encode(&group, &log->header, data);
    return write_group(log, data, size);
}

static int commit_in_turn(struct state_log *log,
                          const struct state_change changes[], size_t count,
                          struct chunk_object *objects[])
{
    struct state_facts facts;
    uint64_t changes_size = 0;
    int error;

    if (log->read_only || log->error < 0)
        return log->read_only ? -EROFS : log->error;
    for (size_t i = 0; i < count; i++)
        changes_size += state_change_size(&changes[i]);
    error = prepare(log, changes, count, &facts, objects);
    if (error == 0)
        error = make_room(log, state_group_file_size(changes_size));
    if (error == 0)
        error = encode_and_write(log, changes, count, changes_size);
    if (error == 0) {
        apply(log, changes, count, &facts, objects);
        log->contents.numbers.commit++;
    }
    return error;
}

int state_log_commit(struct state_log *log, const struct state_change changes[],
                     size_t count)
{
    AUTO_FREE struct chunk_object **objects =
        calloc(count + 1, sizeof(objects[0]));
    int error;

    if (!objects)
        return -ENOMEM;
    take_turn(log);
    error = commit_in_turn(log, changes, count, objects);
    end_turn(log);
    free_objects(objects, count);
    return error;
}

static int snapshot_in_turn(struct state_log *log)
{
    if (log->read_only || log->error < 0)
        return log->read_only ? -EROFS : log->error;
    if (log->contents.numbers.commit == log->header.commit &&
        log->snapshot == log->header.number)
        return 0;
    return begin_next(log, 0);
}

int state_log_snapshot(struct state_log *log)
{
    int error;

    take_turn(log);
    error = snapshot_in_turn(log);
    end_turn(log);
    return error;
}

void state_log_facts(struct state_log *log, struct state_facts *ret_facts)
{
    mutex_lock(&log->lock);
    *ret_facts = log->contents.facts;
    mutex_unlock(&log->lock);
}

uint64_t state_log_last_commit(struct state_log *log)
{
    return log->contents.numbers.commit;
}

uint64_t state_log_journal_begin(struct state_log *log)
{
    return log->contents.numbers.journal_begin;
}

uint64_t state_log_last_generation(struct state_log *log)
{
    return log->contents.numbers.last_generation;
}

uint64_t state_log_written(struct state_log *log)
{
    return log->written;
}
