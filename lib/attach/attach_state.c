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

static const char ALIVE[] = "\nalive ";

/* Write where something of a device is: "" its state, or ".lock", ".new". */
static void path_of(const char *dir, uint32_t index, const char *suffix,
                    char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%s/nbd%u%s", dir, index, suffix);
}

/* ---- the lock ----------------------------------------------------------- */

int attach_state_lock(const char *dir, uint32_t index)
{
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;
    int error = file_make_dir(AT_FDCWD, dir, 0755);

    if (error && error != -EEXIST)
        return error;
    path_of(dir, index, ".lock", path);
    fd = file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        return fd;
    error = file_lock(fd);
    return error ? error : take_fd(&fd);
}

bool attach_state_is_locked(const char *dir, uint32_t index)
{
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;

    path_of(dir, index, ".lock", path);
    fd = file_open(AT_FDCWD, path, O_RDONLY, 0);
    return fd >= 0 && file_lock(fd) == -EWOULDBLOCK;
}

/* ---- the state ---------------------------------------------------------- */

int attach_state_save(const char *dir, const struct target *target,
                      uint32_t alive)
{
    char path[PATH_MAX], new_path[PATH_MAX];
    char line[TARGET_LINE_SIZE], text[TARGET_LINE_SIZE + 32];
    AUTO_CLOSE int fd = -1;
    int len = snprintf(text, sizeof(text), "%s%s%u\n",
                       target_format(target, line), ALIVE, alive);
    int error;

    path_of(dir, target->index, "", path);
    path_of(dir, target->index, ".new", new_path);
    fd = file_open(AT_FDCWD, new_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return fd;
    error = file_write(fd, text, (size_t)len, 0);
    return error ? error : file_rename(AT_FDCWD, new_path, AT_FDCWD, path);
}

/* The number behind "alive". */
static int read_alive(const char *text, uint32_t *ret_alive)
{
    const char *at = strstr(text, ALIVE);
    char digits[16];
    uint64_t alive;
    size_t len;

    if (!at)
        return -EINVAL;
    at += strlen(ALIVE);
    len = strcspn(at, "\n");
    if (len >= sizeof(digits))
        return -EINVAL;
    memcpy(digits, at, len);
    digits[len] = '\0';
    if (number_parse(digits, 0, TARGET_CONNECTIONS_MAX, &alive) != 0)
        return -EINVAL;
    *ret_alive = (uint32_t)alive;
    return 0;
}

int attach_state_load(const char *dir, uint32_t index,
                      struct target *ret_target, uint32_t *ret_alive)
{
    char path[PATH_MAX], text[TARGET_LINE_SIZE + 32];
    struct net_failure failure;
    struct target target;
    uint32_t alive;
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
        read_alive(text, &alive) != 0)
        return -EINVAL;
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
