/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/device_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/workers.h"
#include "object_store.h"

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

static void join_path(char path[PATH_MAX], const char *dir, const char *name)
{
    int len = snprintf(path, PATH_MAX, "%s/%s", dir, name);

    need(len > 0 && len < PATH_MAX, "path");
}

void fixture_begin(struct device_fixture *fixture, const char *dir, bool apart)
{
    *fixture = (struct device_fixture){
        .options =
            {
                .name = "disk",
                .size = 16 << 20,
                .chunk_size = 256 << 10,
                .journal_size = 1 << 20,
                .segment_size = 64 << 10,
                .block_cache_size = 1 << 20,
            },
    };
    (void)snprintf(fixture->dir, sizeof(fixture->dir), "%s", dir);
    join_path(fixture->cachedir, dir, "cache");
    need(mkdir(fixture->cachedir, 0700) == 0, fixture->cachedir);
    if (apart) {
        join_path(fixture->journal_dir, dir, "apart");
        need(mkdir(fixture->journal_dir, 0700) == 0, fixture->journal_dir);
    }
    need(workers_start("worker", 2, &fixture->options.workers) == 0, "workers");
    need(workers_start("fetcher", 2, &fixture->options.fetchers) == 0,
         "fetchers");
}

void fixture_end(struct device_fixture *fixture)
{
    (void)fixture_close(fixture);
    workers_stop(fixture->options.workers);
    workers_stop(fixture->options.fetchers);
    if (fixture->options.store != NULL)
        fixture->options.store->close(fixture->options.store);
}

int fixture_open(struct device_fixture *fixture)
{
    fixture->options.cachedir = fixture->cachedir;
    fixture->options.journal_dir =
        fixture->journal_dir[0] != '\0' ? fixture->journal_dir : NULL;
    return device_open(&fixture->options, &fixture->device);
}

int fixture_close(struct device_fixture *fixture)
{
    int error = device_close(fixture->device);

    fixture->device = NULL;
    return error;
}

int fixture_reopen(struct device_fixture *fixture)
{
    int error = fixture_close(fixture);

    return error != 0 ? error : fixture_open(fixture);
}

static void copy_file(int from_dirfd, int to_dirfd, const char *name)
{
    int from = openat(from_dirfd, name, O_RDONLY | O_CLOEXEC);
    char *buffer = malloc(1 << 16);
    ssize_t size;
    int to;

    if (from < 0 && errno == ENOENT) { /* it was not there for long */
        free(buffer);
        return;
    }
    to = openat(to_dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    need(from >= 0 && to >= 0 && buffer != NULL, name);
    while ((size = read(from, buffer, 1 << 16)) > 0)
        need(write(to, buffer, (size_t)size) == size, name);
    need(size == 0, name);
    free(buffer);
    (void)close(from);
    (void)close(to);
}

/* Copy what is in one directory into another, which is made. */
static void copy_tree(int from_dirfd, const char *from, const char *to)
{
    int from_fd = openat(from_dirfd, from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = from_fd >= 0 ? fdopendir(from_fd) : NULL;
    struct dirent *entry;
    int to_fd;

    need(dir != NULL && mkdir(to, 0700) == 0, to);
    to_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    need(to_fd >= 0, to);
    while ((entry = readdir(dir)) != NULL) {
        struct stat status;
        char path[PATH_MAX];

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fstatat(from_fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
            need(errno == ENOENT, entry->d_name); /* gone meanwhile */
            continue;
        }
        join_path(path, to, entry->d_name);
        if (S_ISDIR(status.st_mode))
            copy_tree(from_fd, entry->d_name, path);
        else
            copy_file(from_fd, to_fd, entry->d_name);
    }
    (void)closedir(dir);
    (void)close(to_fd);
}

static void copy_dir(struct device_fixture *fixture, const char *what,
                     const char *path, char copy[PATH_MAX])
{
    char name[64];

    (void)snprintf(name, sizeof(name), "%s.%u", what, fixture->copies);
    join_path(copy, fixture->dir, name);
    copy_tree(AT_FDCWD, path, copy);
}

int fixture_crash(struct device_fixture *fixture)
{
    char cachedir[PATH_MAX];
    char journal_dir[PATH_MAX] = "";
    uint64_t written;
    int error;

    /* No picture of one moment, unless nothing is written meanwhile. */
    do {
        written = fixture_status(fixture).cache_written;
        fixture->copies++;
        copy_dir(fixture, "cache", fixture->cachedir, cachedir);
        if (fixture->journal_dir[0] != '\0')
            copy_dir(fixture, "apart", fixture->journal_dir, journal_dir);
    } while (fixture_status(fixture).cache_written != written);
    error = fixture_close(fixture);
    memcpy(fixture->cachedir, cachedir, sizeof(cachedir));
    memcpy(fixture->journal_dir, journal_dir, sizeof(journal_dir));
    return error != 0 ? error : fixture_open(fixture);
}

int fixture_read(struct device_fixture *fixture, uint64_t offset, void *data,
                 size_t length)
{
    struct device_request request = {
        .operation = DEVICE_READ,
        .offset = offset,
        .length = length,
        .data = data,
    };

    return device_run(fixture->device, &request);
}

int fixture_write(struct device_fixture *fixture, uint64_t offset,
                  const void *data, size_t length, unsigned flags)
{
    struct device_request request = {
        .operation = DEVICE_WRITE,
        .flags = flags,
        .offset = offset,
        .length = length,
        .data = (void *)(uintptr_t)data, /* only read */
    };

    return device_run(fixture->device, &request);
}

static int run(struct device_fixture *fixture, enum device_operation operation,
               uint64_t offset, uint64_t length, unsigned flags)
{
    struct device_request request = {
        .operation = operation,
        .flags = flags,
        .offset = offset,
        .length = length,
    };

    return device_run(fixture->device, &request);
}

int fixture_zero(struct device_fixture *fixture, uint64_t offset,
                 uint64_t length, unsigned flags)
{
    return run(fixture, DEVICE_ZERO, offset, length, flags);
}

int fixture_trim(struct device_fixture *fixture, uint64_t offset,
                 uint64_t length)
{
    return run(fixture, DEVICE_TRIM, offset, length, 0);
}

int fixture_flush(struct device_fixture *fixture)
{
    return run(fixture, DEVICE_FLUSH, 0, 0, 0);
}

int fixture_prefetch(struct device_fixture *fixture, uint64_t offset,
                     uint64_t length)
{
    return run(fixture, DEVICE_PREFETCH, offset, length, 0);
}

int fixture_extent_at(struct device_fixture *fixture, uint64_t offset)
{
    struct device_extent extent;
    struct device_request request = {
        .operation = DEVICE_EXTENTS,
        .flags = DEVICE_ONE_EXTENT,
        .offset = offset,
        .length = DEVICE_SECTOR,
        .extents = &extent,
        .extents_max = 1,
    };
    int error = device_run(fixture->device, &request);

    if (error == 0 && request.extents_count != 1)
        return -EINVAL;
    return error != 0 ? error : (int)extent.flags;
}

struct device_status fixture_status(struct device_fixture *fixture)
{
    struct device_status status;

    device_status(fixture->device, &status);
    return status;
}

void fixture_fill(void *data, size_t length, uint64_t seed)
{
    unsigned char *bytes = data;
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

    for (size_t i = 0; i < length; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        bytes[i] = (unsigned char)(1 + (state >> 33) % 255);
    }
}

void fixture_chunk_path(const struct device_fixture *fixture, uint64_t chunk,
                        char path[PATH_MAX])
{
    int len = snprintf(path, PATH_MAX, "%s/chunk/%08" PRIx64 "/%016" PRIx64,
                       fixture->cachedir, chunk / 4096, chunk);

    need(len > 0 && len < PATH_MAX, "path");
}
