/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/block_device.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attach/target.h"
#include "base/auto.h"
#include "base/file.h"
#include "base/log.h"
#include "base/number.h"

enum {
    SECTOR = 512,
    MOUNTS_MAX = 1 << 22, /* bytes of /proc/self/mountinfo */
};

/* ---- files -------------------------------------------------------------- */

/* Read a small file, without the end of its line. */
static int read_text(const char *path, char *text, size_t size)
{
    AUTO_CLOSE int fd = file_open(AT_FDCWD, path, O_RDONLY, 0);
    ssize_t len;

    if (fd < 0)
        return fd;
    len = file_read(fd, text, size - 1, 0);
    if (len < 0)
        return (int)len;
    text[len] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return 0;
}

/* Read an attribute in /sys/block/nbd<index>. */
static int read_attribute(const char *root, uint32_t index, const char *name,
                          char *text, size_t size)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/sys/block/nbd%u/%s", root, index,
                   name);
    return read_text(path, text, size);
}

static int read_number(const char *root, uint32_t index, const char *name,
                       uint64_t *ret_value)
{
    char text[32];
    int error = read_attribute(root, index, name, text, sizeof(text));

    return error ? error : number_parse(text, 0, UINT64_MAX, ret_value);
}

/* ---- what it is --------------------------------------------------------- */

uint32_t block_device_attached_by(const char *root, uint32_t index)
{
    uint64_t pid;

    /* There is such a file only while it is attached. */
    if (read_number(root, index, "pid", &pid) != 0 || pid > UINT32_MAX)
        return 0;
    return (uint32_t)pid;
}

int block_device_read(const char *root, uint32_t index,
                      struct block_device *ret_device)
{
    struct block_device device = {0};
    uint64_t sectors = 0, read_only = 0, fua = 0, discard = 0;
    char cache[32] = "";
    int error = read_number(root, index, "size", &sectors);

    if (error == 0)
        error = read_number(root, index, "ro", &read_only);
    if (error == 0)
        error = read_attribute(root, index, "queue/write_cache", cache,
                               sizeof(cache));
    if (error == 0)
        error = read_number(root, index, "queue/fua", &fua);
    if (error == 0)
        error = read_number(root, index, "queue/discard_max_bytes", &discard);
    if (error)
        return error;
    /* There is no such file if the kernel was told nothing. */
    error = read_attribute(root, index, "backend", device.backend,
                           sizeof(device.backend));
    if (error && error != -ENOENT)
        return error;
    if (sectors > UINT64_MAX / SECTOR)
        return -ERANGE;
    device.size = sectors * SECTOR;
    device.is_read_only = read_only != 0;
    device.flushes = strcmp(cache, "write back") == 0;
    device.fua = fua != 0;
    device.trims = discard != 0;
    device.attached_by = block_device_attached_by(root, index);
    *ret_device = device;
    return 0;
}

int block_device_set_timer(const char *root, uint32_t index, unsigned ms)
{
    char path[PATH_MAX], text[16];
    AUTO_CLOSE int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/sys/block/nbd%u/queue/io_timeout",
                   root, index);
    (void)snprintf(text, sizeof(text), "%u", ms);
    fd = file_open(AT_FDCWD, path, O_WRONLY, 0);
    return fd < 0 ? fd : file_write(fd, text, strlen(text), 0);
}

/* ---- who uses it -------------------------------------------------------- */

/* The device and its partitions, one after the other. */
struct use {
    const char *root;
    char disk[TARGET_NAME_SIZE];
    struct net_failure *failure;
};

/* Read a file of /proc, whose size nobody knows, with a zero behind it. */
static int read_whole(const char *root, const char *name, char **ret_text)
{
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;
    AUTO_FREE char *text = malloc(MOUNTS_MAX);
    size_t len = 0;
    ssize_t got;

    (void)snprintf(path, sizeof(path), "%s/proc/%s", root, name);
    if (!text)
        return -ENOMEM;
    fd = file_open(AT_FDCWD, path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    do {
        got = file_read(fd, text + len, MOUNTS_MAX - 1 - len, len);
        if (got < 0)
            return (int)got;
        len += (size_t)got;
    } while (got > 0);
    text[len] = '\0';
    *ret_text = take_pointer(&text);
    return 0;
}

/* Returns the n-th word of a line, cut out of it, or NULL. */
static char *word_of(char *line, unsigned n)
{
    char *word = strsep(&line, " \t");

    while (word && n > 0) {
        word = strsep(&line, " \t");
        n--;
    }
    return word;
}

/* Whether a line of mountinfo is of this device; then *ret_where is set. */
static bool is_mounted(const char *line, const char *number, const char *path,
                       char *ret_where, size_t size)
{
    char copy[PATH_MAX * 2];
    const char *source = strstr(line, " - ");
    const char *word;

    (void)snprintf(copy, sizeof(copy), "%s", line);
    word = word_of(copy, 2);
    if (!word)
        return false;
    if (strcmp(word, number) != 0) {
        /* Some file systems have a number of their own: by the name then. */
        if (!source)
            return false;
        (void)snprintf(copy, sizeof(copy), "%s", source + 3);
        word = word_of(copy, 1);
        if (!word || strcmp(word, path) != 0)
            return false;
    }
    (void)snprintf(copy, sizeof(copy), "%s", line);
    word = word_of(copy, 4);
    (void)snprintf(ret_where, size, "%s", word ? word : "?");
    return true;
}

static int check_mounts(const struct use *use, const char *name,
                        const char *number)
{
    AUTO_FREE char *mounts = NULL;
    char path[64], where[128];
    char *rest, *line;
    int error = read_whole(use->root, "self/mountinfo", &mounts);

    (void)snprintf(path, sizeof(path), "/dev/%s", name);
    rest = mounts;
    while (error == 0 && (line = strsep(&rest, "\n")) != NULL) {
        if (is_mounted(line, number, path, where, sizeof(where))) {
            error = -EBUSY;
            net_failure_set(use->failure, error, "%s is mounted on %s", name,
                            where);
        }
    }
    return error;
}

static int check_swaps(const struct use *use, const char *name)
{
    AUTO_FREE char *swaps = NULL;
    char path[64];
    char *rest, *line;
    int error = read_whole(use->root, "swaps", &swaps);

    (void)snprintf(path, sizeof(path), "/dev/%s", name);
    rest = swaps;
    while (error == 0 && (line = strsep(&rest, "\n")) != NULL) {
        const char *word = word_of(line, 0);

        if (word && strcmp(word, path) == 0) {
            error = -EBUSY;
            net_failure_set(use->failure, error, "%s is used as swap", name);
        }
    }
    /* A kernel without swap has no such file. */
    return error == -ENOENT ? 0 : error;
}

static int name_holder(void *context, const char *name)
{
    const struct use *use = context;

    net_failure_set(use->failure, -EBUSY, "the device %s rests on %s", name,
                    use->disk);
    return -EBUSY;
}

/* Check one directory of /sys: the disk's, or that of a partition. */
static int check_part(struct use *use, const char *directory, const char *name)
{
    char path[PATH_MAX + 16], number[32];
    int error;

    (void)snprintf(path, sizeof(path), "%s/dev", directory);
    error = read_text(path, number, sizeof(number));
    if (error == 0)
        error = check_mounts(use, name, number);
    if (error == 0)
        error = check_swaps(use, name);
    if (error == 0) {
        (void)snprintf(path, sizeof(path), "%s/holders", directory);
        error = file_list(AT_FDCWD, path, name_holder, use);
    }
    return error;
}

static int check_partition(void *context, const char *name)
{
    struct use *use = context;
    size_t len = strlen(use->disk);
    char path[PATH_MAX];

    if (strncmp(name, use->disk, len) != 0 || name[len] != 'p')
        return 0;
    (void)snprintf(path, sizeof(path), "%s/sys/block/%s/%s", use->root,
                   use->disk, name);
    return check_part(use, path, name);
}

/* Ask the kernel, which knows also of other mount namespaces. */
static int check_claim(const struct use *use)
{
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/dev/%s", use->root, use->disk);
    fd = file_open(AT_FDCWD, path, O_RDONLY | O_EXCL | O_NONBLOCK, 0);
    if (fd == -EBUSY)
        net_failure_set(use->failure, -EBUSY,
                        "%s, or a partition of it, is in use, perhaps in "
                        "another mount namespace",
                        use->disk);
    return fd == -EBUSY ? -EBUSY : 0;
}

int block_device_check_unused(const char *root, uint32_t index,
                              struct net_failure *ret_failure)
{
    struct use use = {.root = root, .failure = ret_failure};
    char path[PATH_MAX];
    int error;

    target_name(index, use.disk);
    (void)snprintf(path, sizeof(path), "%s/sys/block/%s", root, use.disk);
    error = check_part(&use, path, use.disk);
    if (error == 0)
        error = file_list(AT_FDCWD, path, check_partition, &use);
    if (error == 0)
        error = check_claim(&use);
    if (error && error != -EBUSY)
        net_failure_set(ret_failure, error, "%s: %s", path, log_errno(error));
    return error;
}
