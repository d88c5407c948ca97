/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/cache_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "cache/device.h"

static const char LOCK[] = "lock";
static const char SUPERBLOCK[] = "superblock";
static const char SUPERBLOCK_NEW[] = "superblock.new";
static const char RESERVE[] = "reserve";
static const char BOOT_ID[] = "/proc/sys/kernel/random/boot_id";

static const unsigned char MAGIC[8] = "s3bsuper";

/* The superblock; docs/FORMAT.md says the same in words. */
enum {
    VERSION = 1,
    SUPERBLOCK_SIZE = 4096,

    /* These four, and the size, are the same in every later version. */
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_CHECKSUM = SUPERBLOCK_SIZE - 4,

    AT_CACHEDIR_ID = 16,
    AT_JOURNAL_ID = 32,
    AT_DEVICE_ID = 48,
    AT_BOOT_ID = 64,
    AT_DEVICE_NAME = 80,
    AT_SIZE = 144,
    AT_INCARNATION = 152,
    AT_CHUNK_SIZE = 160,
    AT_CLEAN = 164,
    AT_UNPUBLISHED_SINCE = 168,
    AT_RESERVED = 176,
};

/* The reserve grows by this much at a time. */
enum { RESERVE_STEP = 1 << 20 };

struct cache_dir {
    char *path; /* for messages */
    int fd;
    int lock_fd;
};

static void log_holder(const char *path, int lock_fd)
{
    char text[32] = "";
    ssize_t size = file_read(lock_fd, text, sizeof(text) - 1, 0);
    size_t digits = size > 0 ? strspn(text, "0123456789") : 0;

    text[digits] = '\0';
    log_info("%s: another process%s%s has it", path, digits > 0 ? ", pid " : "",
             text);
}

/*
 * Who looks at a lock that is taken learns from the file by whom.  What may
 * still stand behind the end of the line is cut off last.
 */
static int write_holder(int lock_fd)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    int error = file_write(lock_fd, text, (size_t)len, 0);

    return error < 0 ? error : file_truncate(lock_fd, (uint64_t)len);
}

static int take_lock(struct cache_dir *dir, bool read_only)
{
    int error;

    dir->lock_fd =
        file_open(dir->fd, LOCK, read_only ? O_RDONLY : O_RDWR | O_CREAT, 0600);
    if (dir->lock_fd < 0) {
        log_error("%s/%s: %s", dir->path, LOCK, log_errno(dir->lock_fd));
        return read_only && dir->lock_fd == -ENOENT ? -ENXIO : dir->lock_fd;
    }
    error = file_lock(dir->lock_fd);
    if (error == -EWOULDBLOCK) {
        log_holder(dir->path, dir->lock_fd);
        return error;
    }
    if (error < 0) {
        log_error("%s/%s: cannot lock: %s", dir->path, LOCK, log_errno(error));
        return error;
    }
    if (read_only)
        return 0;
    /* The lock holds without the text; a full disk must not stop a start. */
    error = write_holder(dir->lock_fd);
    if (error < 0)
        log_warning("%s/%s: cannot write the pid: %s", dir->path, LOCK,
                    log_errno(error));
    return 0;
}

int cache_dir_check_access(int dirfd, const char *path)
{
    struct stat info;

    if (fstat(dirfd, &info) != 0) {
        int error = -errno;

        log_error("%s: %s", path, log_errno(error));
        return error;
    }
    if (!(info.st_mode & S_IWOTH))
        return 0;
    log_error("%s: every user can put files into this directory, in the place "
              "of those of the device; run: chmod o-w '%s'",
              path, path);
    return -EACCES;
}

int cache_dir_open(const char *path, bool read_only, struct cache_dir **ret_dir)
{
    struct cache_dir *dir = calloc(1, sizeof(*dir));
    int error = -ENOMEM;

    if (!dir)
        return error;
    dir->fd = dir->lock_fd = -1;
    dir->path = strdup(path);
    if (!dir->path)
        goto out;
    dir->fd = file_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    if (dir->fd < 0) {
        error = dir->fd;
        log_error("%s: %s", path, log_errno(error));
        goto out;
    }
    error = cache_dir_check_access(dir->fd, path);
    if (error == 0)
        error = take_lock(dir, read_only);
    if (error < 0)
        goto out;
    if (!read_only)
        error = file_unlink(dir->fd, SUPERBLOCK_NEW);
    if (error < 0 && error != -ENOENT) {
        log_error("%s/%s: cannot remove: %s", path, SUPERBLOCK_NEW,
                  log_errno(error));
        goto out;
    }
    *ret_dir = take_pointer(&dir);
    error = 0;
out:
    cache_dir_close(dir);
    return error;
}

void cache_dir_close(struct cache_dir *dir)
{
    if (!dir)
        return;
    /* Nothing that matters was written through either of them. */
    if (dir->lock_fd >= 0)
        (void)file_close(dir->lock_fd);
    if (dir->fd >= 0)
        (void)file_close(dir->fd);
    free(dir->path);
    free(dir);
}

int cache_dir_fd(const struct cache_dir *dir)
{
    return dir->fd;
}

const char *cache_dir_path(const struct cache_dir *dir)
{
    return dir->path;
}

static int stop_at_other(void *context, const char *name)
{
    (void)context;
    return strcmp(name, LOCK) != 0 && strcmp(name, "lost+found") != 0;
}

int cache_dir_is_empty(struct cache_dir *dir, bool *ret_is_empty)
{
    int result = file_list(dir->fd, ".", stop_at_other, NULL);

    if (result < 0) {
        log_error("%s: cannot list: %s", dir->path, log_errno(result));
        return result;
    }
    *ret_is_empty = result == 0;
    return 0;
}

/* ---- superblock --------------------------------------------------------- */

static void encode(const struct superblock *from,
                   unsigned char data[SUPERBLOCK_SIZE])
{
    memset(data, 0, SUPERBLOCK_SIZE);
    memcpy(data + AT_MAGIC, MAGIC, sizeof(MAGIC));
    put_le32(data + AT_VERSION, VERSION);
    memcpy(data + AT_CACHEDIR_ID, from->cachedir_id, UUID_SIZE);
    memcpy(data + AT_JOURNAL_ID, from->journal_id, UUID_SIZE);
    memcpy(data + AT_DEVICE_ID, from->device_id, UUID_SIZE);
    memcpy(data + AT_BOOT_ID, from->boot_id, UUID_SIZE);
    memcpy(data + AT_DEVICE_NAME, from->device_name,
           strnlen(from->device_name, sizeof(from->device_name) - 1));
    put_le64(data + AT_SIZE, from->size);
    put_le64(data + AT_INCARNATION, from->incarnation);
    put_le32(data + AT_CHUNK_SIZE, from->chunk_size);
    data[AT_CLEAN] = from->clean;
    put_le64(data + AT_UNPUBLISHED_SINCE, from->unpublished_since_ns);
    put_le32(data + AT_CHECKSUM, crc32c(0, data, AT_CHECKSUM));
}

/* Whether every field has a value that this version may have written. */
static bool fields_are_valid(const unsigned char data[SUPERBLOCK_SIZE])
{
    uint32_t chunk_size = get_le32(data + AT_CHUNK_SIZE);

    return data[AT_SIZE - 1] == '\0' && data[AT_CLEAN] <= 1 &&
           chunk_size >= DEVICE_CHUNK_SIZE_MIN &&
           chunk_size <= DEVICE_CHUNK_SIZE_MAX &&
           (chunk_size & (chunk_size - 1)) == 0 &&
           bytes_are_zero(data + AT_CLEAN + 1,
                          AT_UNPUBLISHED_SINCE - AT_CLEAN - 1) &&
           bytes_are_zero(data + AT_RESERVED, AT_CHECKSUM - AT_RESERVED);
}

static int decode(const unsigned char data[SUPERBLOCK_SIZE],
                  struct superblock *to)
{
    if (memcmp(data + AT_MAGIC, MAGIC, sizeof(MAGIC)) != 0 ||
        get_le32(data + AT_CHECKSUM) != crc32c(0, data, AT_CHECKSUM))
        return -EBADMSG;
    if (get_le32(data + AT_VERSION) != VERSION ||
        get_le32(data + AT_FLAGS) != 0)
        return -EPROTONOSUPPORT;
    if (!fields_are_valid(data))
        return -EBADMSG;
    memset(to, 0, sizeof(*to));
    memcpy(to->cachedir_id, data + AT_CACHEDIR_ID, UUID_SIZE);
    memcpy(to->journal_id, data + AT_JOURNAL_ID, UUID_SIZE);
    memcpy(to->device_id, data + AT_DEVICE_ID, UUID_SIZE);
    memcpy(to->boot_id, data + AT_BOOT_ID, UUID_SIZE);
    memcpy(to->device_name, data + AT_DEVICE_NAME, sizeof(to->device_name));
    to->size = get_le64(data + AT_SIZE);
    to->incarnation = get_le64(data + AT_INCARNATION);
    to->chunk_size = get_le32(data + AT_CHUNK_SIZE);
    to->clean = data[AT_CLEAN];
    to->unpublished_since_ns = get_le64(data + AT_UNPUBLISHED_SINCE);
    return 0;
}

/* Read exactly the superblock's size.  -EBADMSG: the file has another. */
static int read_whole(int dirfd, unsigned char data[SUPERBLOCK_SIZE])
{
    uint64_t size = 0;
    ssize_t n = 0;
    int error, fd = file_open(dirfd, SUPERBLOCK, O_RDONLY, 0);

    if (fd < 0)
        return fd;
    error = file_size(fd, &size);
    if (error == 0 && size != SUPERBLOCK_SIZE)
        error = -EBADMSG;
    if (error == 0)
        n = file_read(fd, data, SUPERBLOCK_SIZE, 0);
    if (error == 0 && n != SUPERBLOCK_SIZE)
        error = n < 0 ? (int)n : -EBADMSG;
    (void)file_close(fd);
    return error;
}

int cache_dir_read_superblock(struct cache_dir *dir,
                              struct superblock *ret_superblock)
{
    unsigned char data[SUPERBLOCK_SIZE];
    int error = read_whole(dir->fd, data);

    if (error == 0)
        error = decode(data, ret_superblock);
    if (error == -EBADMSG)
        log_error("%s/%s: damaged", dir->path, SUPERBLOCK);
    else if (error == -EPROTONOSUPPORT)
        log_error("%s/%s: version %" PRIu32 ", flags %#" PRIx32
                  ": written by a later version of this program",
                  dir->path, SUPERBLOCK, get_le32(data + AT_VERSION),
                  get_le32(data + AT_FLAGS));
    else if (error < 0 && error != -ENOENT)
        log_error("%s/%s: %s", dir->path, SUPERBLOCK, log_errno(error));
    return error;
}

static int write_new(int dirfd, const unsigned char data[SUPERBLOCK_SIZE])
{
    int error, close_error;
    int fd =
        file_open(dirfd, SUPERBLOCK_NEW, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0)
        return fd;
    error = file_write(fd, data, SUPERBLOCK_SIZE, 0);
    if (error == 0)
        error = file_sync_data(fd);
    close_error = file_close(fd);
    return error < 0 ? error : close_error;
}

/* Order: content synced, then renamed, then the directory synced. */
int cache_dir_write_superblock(struct cache_dir *dir,
                               const struct superblock *superblock)
{
    unsigned char data[SUPERBLOCK_SIZE];
    int error;

    encode(superblock, data);
    error = write_new(dir->fd, data);
    if ((error == -ENOSPC || error == -EDQUOT) &&
        cache_dir_release_reserve(dir))
        error = write_new(dir->fd, data);
    if (error == 0)
        error = file_rename(dir->fd, SUPERBLOCK_NEW, dir->fd, SUPERBLOCK);
    if (error == 0)
        error = file_sync(dir->fd);
    if (error < 0)
        log_error("%s/%s: cannot write: %s", dir->path, SUPERBLOCK,
                  log_errno(error));
    return error;
}

/* ---- reserve ------------------------------------------------------------ */

/* Bytes that no file system can compress, or keep only once. */
static void fill_randomly(unsigned char *data, size_t size, uint64_t *seed)
{
    for (size_t i = 0; i + sizeof(*seed) <= size; i += sizeof(*seed)) {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        put_le64(data + i, *seed);
    }
}

/* Write the file on from where it ends.  The seed is not 0. */
static int extend_reserve(int fd, uint64_t from, uint64_t size, uint64_t seed)
{
    AUTO_FREE unsigned char *data = malloc(RESERVE_STEP);
    int error = data ? 0 : -ENOMEM;

    while (error == 0 && from < size) {
        size_t step = size - from < RESERVE_STEP ? size - from : RESERVE_STEP;

        fill_randomly(data, RESERVE_STEP, &seed);
        error = file_write(fd, data, step, from);
        from += step;
    }
    return error < 0 ? error : file_sync_data(fd);
}

int cache_dir_keep_reserve(struct cache_dir *dir, uint64_t size)
{
    uint64_t has = 0, seed = 0;
    int error, fd;

    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        return -EIO;
    fd = file_open(dir->fd, RESERVE, O_WRONLY | O_CREAT, 0600);
    error = fd < 0 ? fd : file_size(fd, &has);
    if (error == 0 && has < size)
        error = extend_reserve(fd, has, size, seed | 1);
    else if (error == 0 && has > size)
        error = file_truncate(fd, size);
    if (fd >= 0)
        (void)file_close(fd); /* synced; and it holds nothing */
    if (error < 0) {
        /* Half a reserve would look like one; and others need the room. */
        (void)file_unlink(dir->fd, RESERVE);
        if (error == -EDQUOT)
            error = -ENOSPC;
        if (error != -ENOSPC)
            log_error("%s/%s: %s", dir->path, RESERVE, log_errno(error));
    }
    return error;
}

bool cache_dir_release_reserve(struct cache_dir *dir)
{
    int error = file_unlink(dir->fd, RESERVE);
    bool was_there = error == 0;

    /* Many file systems give the blocks out only after that. */
    if (was_there)
        error = file_sync(dir->fd);
    if (error < 0 && error != -ENOENT)
        log_warning("%s/%s: cannot give it up: %s", dir->path, RESERVE,
                    log_errno(error));
    return was_there;
}

int cache_dir_space(struct cache_dir *dir, struct file_space *ret_space)
{
    int error = file_space(dir->fd, ret_space);

    if (error < 0)
        log_error("%s: cannot tell how full it is: %s", dir->path,
                  log_errno(error));
    return error;
}

/* ---- ids ---------------------------------------------------------------- */

int uuid_make(uint8_t id[UUID_SIZE])
{
    uint8_t made[UUID_SIZE];

    if (getrandom(made, sizeof(made), 0) != sizeof(made))
        return -EIO;
    memcpy(id, made, sizeof(made));
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int uuid_of_boot(uint8_t id[UUID_SIZE])
{
    char text[64];
    uint8_t read_id[UUID_SIZE];
    size_t digits = 0;
    AUTO_CLOSE int fd = file_open(AT_FDCWD, BOOT_ID, O_RDONLY, 0);
    ssize_t size = fd < 0 ? fd : file_read(fd, text, sizeof(text), 0);

    if (size < 0) {
        log_error("%s: %s", BOOT_ID, log_errno((int)size));
        return (int)size;
    }
    memset(read_id, 0, sizeof(read_id));
    for (ssize_t i = 0; i < size && digits < 2 * UUID_SIZE; i++) {
        int digit = hex_digit(text[i]);

        if (digit < 0)
            continue;
        read_id[digits / 2] = (uint8_t)(read_id[digits / 2] * 16 + digit);
        digits++;
    }
    if (digits < 2 * UUID_SIZE) {
        log_error("%s: no id in it", BOOT_ID);
        return -EIO;
    }
    memcpy(id, read_id, sizeof(read_id));
    return 0;
}
