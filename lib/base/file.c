/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Offsets come from records on disk: off_t must hold the last byte's. */
static bool range_is_valid(size_t len, uint64_t offset)
{
    return len <= SSIZE_MAX && offset <= (uint64_t)INT64_MAX - len;
}

int file_open(int dirfd, const char *path, int flags, mode_t mode)
{
    int fd;

    do {
        fd = openat(dirfd, path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

int file_close(int fd)
{
    /* After EINTR Linux has closed it; a second call might hit another. */
    if (close(fd) < 0 && errno != EINTR)
        return -errno;
    return 0;
}

int file_make_dir(int dirfd, const char *path, mode_t mode)
{
    return mkdirat(dirfd, path, mode) < 0 ? -errno : 0;
}

ssize_t file_read(int fd, void *data, size_t len, uint64_t offset)
{
    unsigned char *to = data;
    size_t done = 0;

    if (!range_is_valid(len, offset))
        return -EINVAL;
    while (done < len) {
        ssize_t n = pread(fd, to + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

ssize_t file_read_nowait(int fd, void *data, size_t len, uint64_t offset)
{
    unsigned char *to = data;
    size_t done = 0;

    if (!range_is_valid(len, offset))
        return -EINVAL;
    while (done < len) {
        struct iovec piece = {to + done, len - done};
        ssize_t n = preadv2(fd, &piece, 1, (off_t)(offset + done), RWF_NOWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        /* A file system that cannot tell may always have to wait. */
        if (n < 0)
            return errno == EOPNOTSUPP ? -EAGAIN : -errno;
        /* The end; but Linux 5.9 and 5.10 say so of what is not cached. */
        if (n == 0)
            return -EAGAIN;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int file_write(int fd, const void *data, size_t len, uint64_t offset)
{
    const unsigned char *from = data;
    size_t done = 0;

    if (!range_is_valid(len, offset))
        return -EINVAL;
    while (done < len) {
        ssize_t n = pwrite(fd, from + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) /* never for a file with len > 0; do not spin on it */
            return -EIO;
        done += (size_t)n;
    }
    return 0;
}

/* Take n bytes that were written off the front; returns the pieces left. */
static int drop_written(struct iovec **pieces, int count, size_t n)
{
    while (count > 0 && n >= (*pieces)->iov_len) {
        n -= (*pieces)->iov_len;
        (*pieces)++;
        count--;
    }
    if (count > 0) {
        (*pieces)->iov_base = (unsigned char *)(*pieces)->iov_base + n;
        (*pieces)->iov_len -= n;
    }
    return count;
}

int file_writev(int fd, struct iovec *pieces, int count, uint64_t offset)
{
    assert(count >= 0 && count <= FILE_IOV_MAX);
    count = drop_written(&pieces, count, 0);
    while (count > 0) {
        ssize_t n;

        if (!range_is_valid(0, offset))
            return -EINVAL;
        n = pwritev(fd, pieces, count, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        offset += (uint64_t)n;
        count = drop_written(&pieces, count, (size_t)n);
    }
    return 0;
}

int file_sync_data(int fd)
{
    /* Not repeated after EINTR: the error may have been told and cleared. */
    return fdatasync(fd) < 0 ? -errno : 0;
}

int file_sync(int fd)
{
    return fsync(fd) < 0 ? -errno : 0;
}

int file_truncate(int fd, uint64_t size)
{
    int result;

    if (!range_is_valid(0, size))
        return -EINVAL;
    do {
        result = ftruncate(fd, (off_t)size);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

int file_size(int fd, uint64_t *ret_size)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -errno;
    *ret_size = (uint64_t)status.st_size;
    return 0;
}

int file_rename(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
    return renameat(from_dirfd, from, to_dirfd, to) < 0 ? -errno : 0;
}

int file_link(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
    return linkat(from_dirfd, from, to_dirfd, to, 0) < 0 ? -errno : 0;
}

int file_unlink(int dirfd, const char *path)
{
    return unlinkat(dirfd, path, 0) < 0 ? -errno : 0;
}

int file_lock(int fd)
{
    int result;

    do {
        result = flock(fd, LOCK_EX | LOCK_NB);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

int file_space(int fd, struct file_space *ret_space)
{
    struct statvfs status;
    int result;

    do {
        result = fstatvfs(fd, &status);
    } while (result < 0 && errno == EINTR);
    if (result < 0)
        return -errno;
    *ret_space = (struct file_space){
        .total = (uint64_t)status.f_blocks * status.f_frsize,
        .available = (uint64_t)status.f_bavail * status.f_frsize,
        .inodes_total = status.f_files,
        .inodes_available = status.f_favail,
    };
    return 0;
}

static bool is_dot_name(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int file_list(int dirfd, const char *path,
              int (*each)(void *context, const char *name), void *context)
{
    int fd = file_open(dirfd, path, O_RDONLY | O_DIRECTORY, 0);
    int result = 0;
    DIR *dir;

    if (fd < 0)
        return fd;
    dir = fdopendir(fd);
    if (!dir) {
        result = -errno;
        (void)file_close(fd);
        return result;
    }
    while (result == 0) {
        struct dirent *entry;

        errno = 0;
        /* No other thread has this stream. */
        entry = readdir(dir); /* NOLINT(concurrency-mt-unsafe) */
        if (!entry) {
            result = -errno;
            break;
        }
        if (!is_dot_name(entry->d_name))
            result = each(context, entry->d_name);
    }
    (void)closedir(dir);
    return result;
}
