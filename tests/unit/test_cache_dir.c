/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/cache_dir.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum { SIZE = 4096 };

static struct cache_dir *open_dir(void)
{
    struct cache_dir *dir = NULL;

    return cache_dir_open(test_dir(), false, &dir) == 0 ? dir : NULL;
}

static struct superblock make_superblock(uint8_t seed)
{
    struct superblock made;

    memset(&made, 0, sizeof(made));
    for (unsigned i = 0; i < UUID_SIZE; i++) {
        made.cachedir_id[i] = (uint8_t)(seed + i);
        made.journal_id[i] = (uint8_t)(seed + 2 * i);
        made.device_id[i] = (uint8_t)(seed + 3 * i);
        made.boot_id[i] = (uint8_t)(seed + 5 * i);
    }
    (void)snprintf(made.device_name, sizeof(made.device_name), "disk-%u", seed);
    made.size = UINT64_C(0x0102030405060000) + seed;
    made.incarnation = UINT64_C(0x1112131415161718) + seed;
    made.unpublished_since_ns = UINT64_C(0x2122232425262728) + seed;
    made.chunk_size = 8 << 20;
    made.clean = seed % 2 == 0;
    return made;
}

static bool superblocks_are_equal(const struct superblock *a,
                                  const struct superblock *b)
{
    return memcmp(a->cachedir_id, b->cachedir_id, UUID_SIZE) == 0 &&
           memcmp(a->journal_id, b->journal_id, UUID_SIZE) == 0 &&
           memcmp(a->device_id, b->device_id, UUID_SIZE) == 0 &&
           memcmp(a->boot_id, b->boot_id, UUID_SIZE) == 0 &&
           strcmp(a->device_name, b->device_name) == 0 && a->size == b->size &&
           a->incarnation == b->incarnation && a->chunk_size == b->chunk_size &&
           a->clean == b->clean &&
           a->unpublished_since_ns == b->unpublished_since_ns;
}

/* Read a small file of the directory whole; returns its size, or -1. */
static ssize_t load(struct cache_dir *dir, const char *name, uint8_t *data,
                    size_t room)
{
    int fd = openat(cache_dir_fd(dir), name, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : pread(fd, data, room, 0);

    if (fd >= 0)
        (void)close(fd);
    return size;
}

static void store(struct cache_dir *dir, const char *name, const uint8_t *data,
                  size_t size)
{
    int fd = openat(cache_dir_fd(dir), name,
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    CHECK(close(fd) == 0);
}

static bool exists(struct cache_dir *dir, const char *name)
{
    return faccessat(cache_dir_fd(dir), name, F_OK, 0) == 0;
}

/* ---- lock ---------------------------------------------------------------- */

TEST("a directory that is open cannot be opened again, closed it can")
{
    struct cache_dir *dir = open_dir(), *other = NULL;

    NEED(dir);
    CHECK(cache_dir_open(test_dir(), false, &other) == -EWOULDBLOCK);
    CHECK(!other);
    cache_dir_close(dir);
    dir = open_dir();
    CHECK(dir);
    cache_dir_close(dir);
    cache_dir_close(NULL);
}

TEST("a directory that everybody can write to is refused, untouched")
{
    struct cache_dir *dir = NULL;
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/lock", test_dir());
    CHECK(chmod(test_dir(), 0777) == 0);
    CHECK(cache_dir_open(test_dir(), false, &dir) == -EACCES);
    CHECK(cache_dir_open(test_dir(), true, &dir) == -EACCES);
    CHECK(chmod(test_dir(), 01777) == 0);
    CHECK(cache_dir_open(test_dir(), false, &dir) == -EACCES);
    CHECK(!dir && access(path, F_OK) != 0);
    CHECK(chmod(test_dir(), 0775) == 0);
    CHECK(cache_dir_open(test_dir(), false, &dir) == 0);
    cache_dir_close(dir);
}

TEST("the lock tells the pid of who has it, also where a longer one stood")
{
    struct cache_dir *dir = open_dir();
    uint8_t text[64];
    char expected[64];
    int len = snprintf(expected, sizeof(expected), "%ld\n", (long)getpid());

    NEED(dir);
    store(dir, "lock", (const uint8_t *)"99999999999999999999\n", 21);
    cache_dir_close(dir);
    dir = open_dir();
    NEED(dir);
    CHECK(load(dir, "lock", text, sizeof(text)) == len);
    CHECK(memcmp(text, expected, (size_t)len) == 0);
    cache_dir_close(dir);
}

TEST("a lock whose owner was killed is free")
{
    struct cache_dir *dir;
    int status = 0, pipe_fds[2];
    char byte;
    pid_t child;

    (void)test_dir();
    NEED(pipe(pipe_fds) == 0);
    child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        dir = open_dir();
        _exit(dir && write(pipe_fds[1], "x", 1) == 1 ? pause() : 1);
    }
    CHECK(child > 0 && read(pipe_fds[0], &byte, 1) == 1);
    CHECK(cache_dir_open(test_dir(), false, &dir) == -EWOULDBLOCK);
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, &status, 0) == child);
    dir = open_dir();
    CHECK(dir);
    cache_dir_close(dir);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

TEST("a full disk is no reason not to take the lock, an error of it is")
{
    struct fault_calls calls = {.kinds = FAULT_WRITE, .path_part = "lock"};
    struct cache_dir *dir = NULL;

    calls.nth = 1;
    fault_fail(&calls, -ENOSPC, true, 0);
    dir = open_dir();
    CHECK(dir);
    cache_dir_close(dir);
    calls.kinds = FAULT_CREATE;
    fault_fail(&calls, -EROFS, true, 0);
    CHECK(cache_dir_open(test_dir(), false, &dir) == -EROFS);
    calls.kinds = FAULT_UNLINK;
    calls.path_part = "superblock.new";
    fault_fail(&calls, -EIO, true, 0);
    CHECK(cache_dir_open(test_dir(), false, &dir) == -EIO);
    fault_reset();
    dir = open_dir(); /* none of them has kept it */
    CHECK(dir);
    cache_dir_close(dir);
}

TEST("to be read only, a directory is locked too, and nothing is written")
{
    struct fault_calls calls = {FAULT_ANY_CHANGE, NULL, 1};
    struct cache_dir *dir = NULL, *other = NULL;

    CHECK(cache_dir_open(test_dir(), true, &dir) == -ENXIO);
    dir = open_dir();
    NEED(dir);
    store(dir, "superblock.new", (const uint8_t *)"x", 1);
    CHECK(cache_dir_open(test_dir(), true, &other) == -EWOULDBLOCK);
    cache_dir_close(dir);
    fault_fail(&calls, -EROFS, true, 0);
    NEED(cache_dir_open(test_dir(), true, &dir) == 0);
    CHECK(cache_dir_open(test_dir(), true, &other) == -EWOULDBLOCK);
    cache_dir_close(dir);
    CHECK(fault_count() == 0);
    fault_reset();
}

TEST("a path that is no directory is refused and nothing is created")
{
    char path[PATH_MAX];
    struct cache_dir *dir = NULL;

    (void)snprintf(path, sizeof(path), "%s/absent", test_dir());
    CHECK(cache_dir_open(path, false, &dir) == -ENOENT);
    CHECK(access(path, F_OK) < 0);
    CHECK(cache_dir_open("/dev/null", false, &dir) == -ENOTDIR);
    CHECK(!dir);
}

TEST("a directory with nothing but what opening and mkfs put there is empty")
{
    struct cache_dir *dir = open_dir();
    bool is_empty = false;

    NEED(dir);
    CHECK(cache_dir_is_empty(dir, &is_empty) == 0 && is_empty);
    CHECK(mkdirat(cache_dir_fd(dir), "lost+found", 0700) == 0);
    CHECK(cache_dir_is_empty(dir, &is_empty) == 0 && is_empty);
    store(dir, ".hidden", NULL, 0);
    CHECK(cache_dir_is_empty(dir, &is_empty) == 0 && !is_empty);
    cache_dir_close(dir);
}

/* ---- superblock ---------------------------------------------------------- */

TEST("the superblock that was written last is read, also after opening anew")
{
    struct superblock first = make_superblock(1), second = make_superblock(2);
    struct superblock found;
    struct cache_dir *dir = open_dir();

    NEED(dir);
    CHECK(cache_dir_read_superblock(dir, &found) == -ENOENT);
    CHECK(cache_dir_write_superblock(dir, &first) == 0);
    CHECK(cache_dir_read_superblock(dir, &found) == 0);
    CHECK(superblocks_are_equal(&found, &first));
    memset(second.device_name, 'x', sizeof(second.device_name) - 1);
    CHECK(cache_dir_write_superblock(dir, &second) == 0);
    CHECK(!exists(dir, "superblock.new"));
    cache_dir_close(dir);
    dir = open_dir();
    NEED(dir);
    CHECK(cache_dir_read_superblock(dir, &found) == 0);
    CHECK(superblocks_are_equal(&found, &second));
    cache_dir_close(dir);
}

TEST("what an unfinished replacement left over is removed and is never read")
{
    struct superblock first = make_superblock(1), found;
    struct cache_dir *dir = open_dir();
    bool is_empty = false;

    NEED(dir);
    store(dir, "superblock.new", (const uint8_t *)"half", 4);
    cache_dir_close(dir);
    dir = open_dir();
    NEED(dir);
    CHECK(!exists(dir, "superblock.new"));
    CHECK(cache_dir_is_empty(dir, &is_empty) == 0 && is_empty);
    CHECK(cache_dir_read_superblock(dir, &found) == -ENOENT);
    CHECK(cache_dir_write_superblock(dir, &first) == 0);
    store(dir, "superblock.new", (const uint8_t *)"half", 4);
    CHECK(cache_dir_read_superblock(dir, &found) == 0);
    CHECK(superblocks_are_equal(&found, &first));
    cache_dir_close(dir);
}

TEST("a superblock with any byte changed, cut or too long is damaged")
{
    struct superblock first = make_superblock(1), found = first;
    struct cache_dir *dir = open_dir();
    uint8_t data[SIZE + 1];

    NEED(dir);
    CHECK(cache_dir_write_superblock(dir, &first) == 0);
    NEED(load(dir, "superblock", data, sizeof(data)) == SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        data[i] ^= (uint8_t)(1U << i % 8);
        store(dir, "superblock", data, SIZE);
        CHECK(cache_dir_read_superblock(dir, &found) == -EBADMSG);
        data[i] ^= (uint8_t)(1U << i % 8);
    }
    data[SIZE] = 0;
    store(dir, "superblock", data, SIZE - 1);
    CHECK(cache_dir_read_superblock(dir, &found) == -EBADMSG);
    store(dir, "superblock", data, 0);
    CHECK(cache_dir_read_superblock(dir, &found) == -EBADMSG);
    store(dir, "superblock", data, SIZE + 1);
    CHECK(cache_dir_read_superblock(dir, &found) == -EBADMSG);
    CHECK(superblocks_are_equal(&found, &first));
    store(dir, "superblock", data, SIZE);
    CHECK(cache_dir_read_superblock(dir, &found) == 0);
    cache_dir_close(dir);
}

TEST(
    "a whole superblock of a later version, or with strange values, is refused")
{
    static const struct {
        size_t at;
        uint8_t value;
        int error;
    } changes[] = {
        {8, 2, -EPROTONOSUPPORT},  /* version */
        {12, 1, -EPROTONOSUPPORT}, /* a flag */
        {143, 'x', -EBADMSG},      /* the name does not end */
        {160, 1, -EBADMSG},        /* chunk size: no power of two */
        {163, 0x40, -EBADMSG},     /* chunk size */
        {162, 0, -EBADMSG},        /* chunk size 0 */
        {164, 2, -EBADMSG},        /* clean */
        {165, 1, -EBADMSG},        /* reserved */
        {176, 1, -EBADMSG},        /* reserved */
        {SIZE - 5, 1, -EBADMSG},   /* reserved */
    };
    struct superblock first = make_superblock(1), found;
    struct cache_dir *dir = open_dir();
    uint8_t data[SIZE];

    NEED(dir);
    CHECK(cache_dir_write_superblock(dir, &first) == 0);
    NEED(load(dir, "superblock", data, sizeof(data)) == SIZE);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        uint8_t before = data[changes[i].at];

        data[changes[i].at] = changes[i].value;
        put_le32(data + SIZE - 4, crc32c(0, data, SIZE - 4));
        store(dir, "superblock", data, SIZE);
        CHECK(cache_dir_read_superblock(dir, &found) == changes[i].error);
        data[changes[i].at] = before;
    }
    cache_dir_close(dir);
}

TEST("whichever call of a replacement fails, the old or the new one is there")
{
    struct superblock first = make_superblock(1), second = make_superblock(2);
    struct superblock found;
    unsigned long nth;

    for (nth = 1;; nth++) {
        struct fault_calls calls = {
            .kinds = FAULT_ANY_CHANGE, .path_part = NULL, .nth = nth};
        struct cache_dir *dir = open_dir();
        int error;

        NEED(dir);
        CHECK(cache_dir_write_superblock(dir, &first) == 0);
        fault_fail(&calls, -EIO, false, 512);
        error = cache_dir_write_superblock(dir, &second);
        if (fault_count() < nth)
            nth = 0;
        fault_reset();
        CHECK(error == (nth == 0 ? 0 : -EIO));
        CHECK(cache_dir_read_superblock(dir, &found) == 0);
        CHECK(superblocks_are_equal(&found, &second) ||
              (error < 0 && superblocks_are_equal(&found, &first)));
        cache_dir_close(dir);
        if (nth == 0)
            break;
    }
}

TEST("whichever call of reading fails, that is told")
{
    struct superblock first = make_superblock(1), found;
    struct cache_dir *dir = open_dir();
    struct fault_calls calls = {.kinds = FAULT_OPEN, .nth = 1};

    NEED(dir);
    CHECK(cache_dir_write_superblock(dir, &first) == 0);
    fault_fail(&calls, -EMFILE, false, 0);
    CHECK(cache_dir_read_superblock(dir, &found) == -EMFILE);
    calls.kinds = FAULT_READ;
    fault_fail(&calls, -EIO, false, 0);
    CHECK(cache_dir_read_superblock(dir, &found) == -EIO);
    fault_reset();
    CHECK(cache_dir_read_superblock(dir, &found) == 0);
    cache_dir_close(dir);
}

TEST("a power cut leaves the old superblock or the new one, whole")
{
    struct superblock blocks[4], found;
    size_t written_at[4] = {0};
    char root[PATH_MAX], after[PATH_MAX];
    struct recording *recording;
    struct cache_dir *dir = NULL;

    (void)snprintf(root, sizeof(root), "%s/root", test_dir());
    (void)snprintf(after, sizeof(after), "%s/after", test_dir());
    NEED(mkdir(root, 0700) == 0);
    fault_skip_syncs(true);
    fault_record_begin(root);
    NEED(cache_dir_open(root, false, &dir) == 0);
    for (uint8_t i = 0; i < 4; i++) {
        blocks[i] = make_superblock(i);
        CHECK(cache_dir_write_superblock(dir, &blocks[i]) == 0);
        written_at[i] = fault_record_position();
    }
    cache_dir_close(dir);
    recording = fault_record_end();
    for (unsigned i = 0; i < 40; i++) {
        size_t span = recording->entries_count + 1 - written_at[0], last = 0;
        size_t cut = written_at[0] + crash_random(i, 1) % span;
        struct crash_disk *disk = crash_disk_new(recording);

        while (last < 3 && written_at[last + 1] <= cut)
            last++;
        crash_disk_advance(disk, cut);
        NEED(mkdir(after, 0700) == 0);
        crash_disk_power_cut(disk, i, after, NULL);
        CHECK(cache_dir_open(after, false, &dir) == 0);
        CHECK(cache_dir_read_superblock(dir, &found) == 0);
        CHECK(superblocks_are_equal(&found, &blocks[last]) ||
              (last < 3 && superblocks_are_equal(&found, &blocks[last + 1])));
        cache_dir_close(dir);
        crash_disk_free(disk);
        test_remove_tree(AT_FDCWD, after);
    }
    recording_free(recording);
    fault_reset();
}

/* ---- reserve ------------------------------------------------------------- */

TEST("on a full disk the superblock takes the room of the reserve")
{
    struct superblock first = make_superblock(1), found;
    struct cache_dir *dir = open_dir();
    struct fault_calls calls = {
        .kinds = FAULT_WRITE, .path_part = "superblock.new", .nth = 1};

    NEED(dir);
    fault_fail(&calls, -ENOSPC, false, 0);
    CHECK(cache_dir_write_superblock(dir, &first) == -ENOSPC);
    CHECK(cache_dir_keep_reserve(dir, 8192) == 0);
    fault_fail(&calls, -EDQUOT, false, 512);
    CHECK(cache_dir_write_superblock(dir, &first) == 0);
    CHECK(!exists(dir, "reserve"));
    CHECK(cache_dir_read_superblock(dir, &found) == 0);
    cache_dir_close(dir);
    fault_reset();
}

TEST("a reserve for which there is no room is not there in part")
{
    static const unsigned kinds[] = {FAULT_CREATE, FAULT_WRITE,
                                     FAULT_SYNC_DATA};
    struct cache_dir *dir = open_dir();

    NEED(dir);
    for (size_t i = 0; i < 3; i++) {
        struct fault_calls calls = {.kinds = kinds[i],
                                    .path_part = "reserve",
                                    .nth = kinds[i] == FAULT_WRITE ? 3 : 1};

        fault_fail(&calls, i == 0 ? -EDQUOT : -ENOSPC, false, 512);
        CHECK(cache_dir_keep_reserve(dir, 3 << 20) == -ENOSPC);
        CHECK(!exists(dir, "reserve"));
    }
    fault_reset();
    CHECK(cache_dir_keep_reserve(dir, 3 << 20) == 0);
    cache_dir_close(dir);
}

TEST("the reserve is written full, grows, shrinks and can be given up once")
{
    enum { MIB = 1 << 20 };
    struct cache_dir *dir = open_dir();
    struct stat status;

    NEED(dir);
    CHECK(!cache_dir_release_reserve(dir));
    CHECK(cache_dir_keep_reserve(dir, 5 * MIB / 2) == 0);
    CHECK(fstatat(cache_dir_fd(dir), "reserve", &status, 0) == 0);
    CHECK(status.st_size == 5 * MIB / 2);
    CHECK(status.st_blocks * 512 >= 5 * MIB / 2);
    CHECK(cache_dir_keep_reserve(dir, 4 * MIB) == 0);
    CHECK(fstatat(cache_dir_fd(dir), "reserve", &status, 0) == 0);
    CHECK(status.st_size == 4 * MIB);
    CHECK(cache_dir_keep_reserve(dir, MIB) == 0);
    CHECK(fstatat(cache_dir_fd(dir), "reserve", &status, 0) == 0);
    CHECK(status.st_size == MIB);
    CHECK(cache_dir_release_reserve(dir));
    CHECK(!exists(dir, "reserve"));
    CHECK(!cache_dir_release_reserve(dir));
    cache_dir_close(dir);
}

TEST("no two parts of the reserve are alike, nor do they compress")
{
    struct cache_dir *dir = open_dir();
    enum { LEN = 8192 };
    uint8_t data[LEN], other[LEN];
    unsigned counts[256], most = 0;

    NEED(dir);
    memset(counts, 0, sizeof(counts));
    CHECK(cache_dir_keep_reserve(dir, LEN) == 0);
    CHECK(load(dir, "reserve", data, sizeof(data)) == LEN);
    CHECK(memcmp(data, data + LEN / 2, LEN / 2) != 0);
    for (size_t i = 0; i < LEN; i++)
        counts[data[i]]++;
    for (size_t i = 0; i < 256; i++)
        most = counts[i] > most ? counts[i] : most;
    CHECK(most < 100); /* 32 expected */
    CHECK(cache_dir_release_reserve(dir));
    CHECK(cache_dir_keep_reserve(dir, LEN) == 0);
    CHECK(load(dir, "reserve", other, sizeof(other)) == LEN);
    CHECK(memcmp(data, other, LEN) != 0);
    cache_dir_close(dir);
}

TEST("the space of the disk is told")
{
    struct cache_dir *dir = open_dir();
    struct file_space space = {0, 0, 0, 0};

    NEED(dir);
    CHECK(cache_dir_space(dir, &space) == 0);
    CHECK(space.total > 0 && space.available <= space.total);
    cache_dir_close(dir);
}

/* ---- ids ----------------------------------------------------------------- */

TEST("two ids differ, and the boot id stays the same")
{
    uint8_t a[UUID_SIZE], b[UUID_SIZE], boot[UUID_SIZE], again[UUID_SIZE];

    CHECK(uuid_make(a) == 0 && uuid_make(b) == 0);
    CHECK(memcmp(a, b, UUID_SIZE) != 0);
    CHECK(uuid_of_boot(boot) == 0 && uuid_of_boot(again) == 0);
    CHECK(memcmp(boot, again, UUID_SIZE) == 0);
    CHECK(!bytes_are_zero(boot, UUID_SIZE));
}
