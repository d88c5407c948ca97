/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/attach_state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "attach/nbdtab.h"
#include "base/auto.h"
#include "base/file.h"
#include "base/number.h"

/* The lines behind that of nbdtab. */
static const char ALIVE[] = "\nalive ", ATTACHED_BY[] = "\nattached-by ";

enum { LINES_SIZE = 64 }; /* of both */

/* Write where something of a device is: "" its state, or ".lock", ".new". */
static void path_of(const char *dir, uint32_t index, const char *suffix,
                    char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%s/nbd%u%s", dir, index, suffix);
}

/* ---- the lock ----------------------------------------------------------- */

/*
 * A lock of the open file, as of flock(2), but one that can be asked for
 * without being taken.
 */
static struct flock whole_file(void)
{
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
}

int attach_state_lock(const char *dir, uint32_t index)
{
    struct flock wanted = whole_file();
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;
    int error = file_make_dir(AT_FDCWD, dir, 0755);

    if (error && error != -EEXIST)
        return error;
    path_of(dir, index, ".lock", path);
    fd = file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        return fd;
    if (fcntl(fd, F_OFD_SETLK, &wanted) < 0)
        return errno == EACCES || errno == EAGAIN ? -EWOULDBLOCK : -errno;
    return take_fd(&fd);
}

bool attach_state_is_locked(const char *dir, uint32_t index)
{
    struct flock found = whole_file();
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;

    path_of(dir, index, ".lock", path);
    fd = file_open(AT_FDCWD, path, O_RDONLY, 0);
    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &found) == 0 &&
           found.l_type != F_UNLCK;
}

/* ---- the state ---------------------------------------------------------- */

int attach_state_save(const char *dir, const struct target *target,
                      uint32_t alive, uint32_t attached_by)
{
    char path[PATH_MAX], new_path[PATH_MAX];
    char line[TARGET_LINE_SIZE], text[TARGET_LINE_SIZE + LINES_SIZE];
    AUTO_CLOSE int fd = -1;
    int len = snprintf(text, sizeof(text), "%s%s%u%s%u\n",
                       target_format(target, line), ALIVE, alive, ATTACHED_BY,
                       attached_by);
    int error;

    path_of(dir, target->index, "", path);
    path_of(dir, target->index, ".new", new_path);
    fd = file_open(AT_FDCWD, new_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return fd;
    error = file_write(fd, text, (size_t)len, 0);
    return error ? error : file_rename(AT_FDCWD, new_path, AT_FDCWD, path);
}

/* Read the number on the line that begins so. */
static int read_number(const char *text, const char *label, uint32_t max,
                       uint32_t *ret_number)
{
    const char *at = strstr(text, label);
    char digits[16];
    uint64_t number;
    size_t len;

    if (!at)
        return -EINVAL;
    at += strlen(label);
    len = strcspn(at, "\n");
    if (len >= sizeof(digits))
        return -EINVAL;
    memcpy(digits, at, len);
    digits[len] = '\0';
    if (number_parse(digits, 0, max, &number) != 0)
        return -EINVAL;
    *ret_number = (uint32_t)number;
    return 0;
}

int attach_state_load(const char *dir, uint32_t index, uint32_t attached_by,
                      struct target *ret_target, uint32_t *ret_alive)
{
    char path[PATH_MAX], text[TARGET_LINE_SIZE + LINES_SIZE];
    struct net_failure failure;
    struct target target;
    uint32_t alive, by;
    AUTO_CLOSE int fd = -1;
    ssize_t len;

    path_of(dir, index, "", path);
    fd = file_open(AT_FDCWD, path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    len = file_read(fd, text, sizeof(text) - 1, 0);
    if (len < 0)
        return (int)len;
    text[len] = '\0';
    if (nbdtab_find(text, (size_t)len, index, &target, &failure) != 0 ||
        read_number(text, ALIVE, TARGET_CONNECTIONS_MAX, &alive) != 0 ||
        read_number(text, ATTACHED_BY, UINT32_MAX, &by) != 0)
        return -EINVAL;
    if (by == 0 || by != attached_by)
        return -ENOENT;
    *ret_target = target;
    *ret_alive = alive;
    return 0;
}

int attach_state_remove(const char *dir, uint32_t index)
{
    char path[PATH_MAX];
    int error;

    path_of(dir, index, "", path);
    error = file_unlink(AT_FDCWD, path);
    return error == -ENOENT ? 0 : error;
}
