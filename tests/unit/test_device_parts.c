/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/device_parts.h"

#include <sys/stat.h>

#include "base/log.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum {
    KIB = 1 << 10,
    MIB = 1 << 20,
    PAGE = CACHE_PAGE,
    CHUNK = 256 * KIB,
    PATH_SIZE = PATH_MAX + 64,
};

static struct device_fixture disk;
static unsigned char data[CHUNK];
static unsigned char got[CHUNK];

static bool begin(bool apart)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), apart);
    return CHECK(fixture_open(&disk) == 0);
}

static void end(void)
{
    fault_reset();
    fixture_end(&disk);
}

static bool put(uint64_t offset, size_t size, uint64_t seed)
{
    fixture_fill(data, size, seed);
    return fixture_write(&disk, offset, data, size, 0) == 0;
}

static bool reads(uint64_t offset, size_t size, uint64_t seed)
{
    fixture_fill(data, size, seed);
    return fixture_read(&disk, offset, got, size) == 0 &&
           memcmp(got, data, size) == 0;
}

static const char *path_of(const char *name)
{
    static char path[PATH_SIZE];

    (void)snprintf(path, sizeof(path), "%s/%s", disk.cachedir, name);
    return path;
}

/* Give a name in the cache directory another one. */
static bool move(const char *from, const char *to)
{
    char old[PATH_SIZE];

    (void)snprintf(old, sizeof(old), "%s/%s", disk.cachedir, from);
    return rename(old, path_of(to)) == 0;
}

TEST("a device keeps a reserve, small beside its journal")
{
    struct stat status;

    NEED(begin(false));
    CHECK(stat(path_of("reserve"), &status) == 0);
    CHECK(status.st_size == MIB / 8);
    end();
}

TEST("a full disk is no reason not to open, only to have no reserve")
{
    struct fault_calls calls = {FAULT_WRITE, "/reserve", 1};

    NEED(begin(false));
    CHECK(fixture_close(&disk) == 0);
    CHECK(unlink(path_of("reserve")) == 0);
    fault_fail(&calls, -ENOSPC, true, 0);
    CHECK(fixture_open(&disk) == 0);
    CHECK(fault_count() > 0);
    CHECK(put(0, PAGE, 1) && reads(0, PAGE, 1));
    end();
}

TEST("a damaged superblock is refused, never made anew")
{
    struct stat status;
    int fd;

    NEED(begin(false));
    CHECK(put(0, PAGE, 1));
    CHECK(fixture_close(&disk) == 0);
    fd = open(path_of("superblock"), O_WRONLY | O_CLOEXEC);
    NEED(fd >= 0);
    CHECK(pwrite(fd, "????", 4, 30) == 4);
    CHECK(fixture_open(&disk) == -EUCLEAN);
    CHECK(ftruncate(fd, 0) == 0);
    CHECK(fixture_open(&disk) == -EUCLEAN);
    (void)close(fd);
    CHECK(stat(path_of("state"), &status) == 0);
    end();
}

TEST("without its state, chunks or journal a device is refused")
{
    static const char *const parts[] = {"state", "chunk", "journal"};

    NEED(begin(false));
    CHECK(put(0, CHUNK, 1));
    CHECK(device_destage(disk.device) == 0);
    CHECK(put(CHUNK, PAGE, 2));
    CHECK(fixture_close(&disk) == 0);
    for (unsigned i = 0; i < 3; i++) {
        int error;

        CHECK(move(parts[i], "away"));
        error = fixture_open(&disk);
        CHECK(error == -EUCLEAN || error == -ENXIO);
        (void)rmdir(path_of(parts[i]));
        CHECK(move("away", parts[i]));
    }
    NEED(fixture_open(&disk) == 0);
    CHECK(reads(0, CHUNK, 1) && reads(CHUNK, PAGE, 2));
    end();
}

TEST("a state log older than what the journal knows of is refused; read-only "
     "it is served")
{
    char copy[PATH_SIZE];

    NEED(begin(false));
    CHECK(put(0, CHUNK, 1));
    CHECK(device_destage(disk.device) == 0);
    NEED(fixture_crash(&disk) == 0);
    (void)snprintf(copy, sizeof(copy), "%s/cache/state", disk.dir);
    /* The first cache directory stays what it was at the crash. */
    for (uint64_t i = 0; i < 8; i++) {
        CHECK(put(i * CHUNK, CHUNK, 10 + i));
        CHECK(device_destage(disk.device) == 0);
    }
    CHECK(fixture_close(&disk) == 0);
    CHECK(move("state", "state.newer"));
    CHECK(rename(copy, path_of("state")) == 0);
    CHECK(fixture_open(&disk) == -EUCLEAN);
    disk.options.read_only = true;
    CHECK(fixture_open(&disk) == 0);
    CHECK(fixture_close(&disk) == 0);
    disk.options.read_only = false;
    CHECK(fixture_open(&disk) == -EUCLEAN);
    CHECK(move("state", "state.older"));
    CHECK(move("state.newer", "state"));
    NEED(fixture_open(&disk) == 0);
    for (uint64_t i = 0; i < 8; i++)
        CHECK(reads(i * CHUNK, CHUNK, 10 + i));
    end();
}

/*
 * A device whose state is that of one destage ago.  Returns what is said of it
 * the first time that it is opened; *ret_later: a few starts later.
 */
static int open_with_older_state(uint64_t rounds, int *ret_later)
{
    char copy[PATH_SIZE];
    int first;

    if (!begin(false))
        return -EIO;
    for (uint64_t i = 0; i < rounds; i++)
        CHECK(put(i * CHUNK, CHUNK, i) && device_destage(disk.device) == 0);
    CHECK(fixture_crash(&disk) == 0);
    (void)snprintf(copy, sizeof(copy), "%s/cache/state", disk.dir);
    /* Whose commits only the newest header knows of. */
    for (uint64_t i = 0; i < 2; i++)
        CHECK(put(0, PAGE, i) && device_destage(disk.device) == 0);
    CHECK(fixture_close(&disk) == 0);
    CHECK(move("state", "state.newer"));
    CHECK(rename(copy, path_of("state")) == 0);
    first = fixture_open(&disk);
    *ret_later = first;
    for (unsigned i = 0; i < 4 && *ret_later == first && first != 0; i++)
        *ret_later = fixture_open(&disk);
    end();
    return first;
}

TEST("a state log that is refused once is refused at every start")
{
    unsigned refused = 0;

    for (uint64_t rounds = 0; rounds < 12; rounds++) {
        int later = 0;
        int first = open_with_older_state(rounds, &later);

        CHECK(later == first);
        refused += first == -EUCLEAN;
        test_dir_remove();
    }
    CHECK(refused > 0);
}

/* Make an empty file in the cache directory. */
static bool touch(const char *name)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    return fd >= 0 && close(fd) == 0;
}

TEST("read-only, nothing is changed, though there is much to recover")
{
    struct fault_calls changes = {FAULT_ANY_CHANGE, NULL, 1};

    NEED(begin(false));
    CHECK(put(0, CHUNK, 1));
    CHECK(device_destage(disk.device) == 0);
    CHECK(put(CHUNK, CHUNK, 2));
    disk.options.read_only = true;
    NEED(fixture_crash(&disk) == 0);
    NEED(fixture_close(&disk) == 0);
    CHECK(touch("superblock.new") && touch("chunk/0000000000000007.new"));
    CHECK(touch("state/log.new") && touch("journal/segment.0050.new"));
    fault_fail(&changes, -EROFS, true, 0);
    NEED(fixture_open(&disk) == 0);
    CHECK(reads(0, CHUNK, 1) && reads(CHUNK, CHUNK, 2));
    CHECK(fixture_close(&disk) == 0);
    CHECK(fault_count() == 0);
    end();
}

TEST("a new device does not take the journal of another for its own, nor harm "
     "it")
{
    char saved[PATH_MAX];

    NEED(begin(true));
    CHECK(put(0, CHUNK, 1));
    CHECK(fixture_close(&disk) == 0);
    memcpy(saved, disk.cachedir, sizeof(saved));
    (void)snprintf(disk.cachedir, sizeof(disk.cachedir), "%.200s/second",
                   disk.dir);
    CHECK(mkdir(disk.cachedir, 0700) == 0);
    for (unsigned i = 0; i < 2; i++)
        CHECK(fixture_open(&disk) == -ENXIO);
    memcpy(disk.cachedir, saved, sizeof(saved));
    NEED(fixture_open(&disk) == 0);
    CHECK(reads(0, CHUNK, 1));
    end();
}

TEST("the superblock says that a device is clean only if it was closed in "
     "order, and all was synced")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/journal/", 1};
    struct superblock superblock;

    NEED(begin(false));
    CHECK(cache_dir_read_superblock(disk.device->cache_dir, &superblock) == 0);
    CHECK(!superblock.clean && superblock.incarnation == 1);
    CHECK(put(0, PAGE, 1));
    fault_fail(&calls, -EIO, true, 0);
    CHECK(fixture_close(&disk) == -EIO);
    fault_reset();
    fault_skip_syncs(true);
    disk.options.read_only = true;
    NEED(fixture_open(&disk) == 0);
    CHECK(!disk.device->superblock.clean);
    CHECK(fixture_close(&disk) == 0);
    disk.options.read_only = false;
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_close(&disk) == 0);
    disk.options.read_only = true;
    NEED(fixture_open(&disk) == 0);
    CHECK(disk.device->superblock.clean);
    end();
}
