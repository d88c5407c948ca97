/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/file.h"
#include "base/log.h"

enum {
    PID_TEXT = 32,    /* room for a pid and a newline */
    TAKE_TRIES = 100, /* against a file that is removed when we have it */
};

/* Returns a copy of path that stays valid when the directory changes. */
static char *make_absolute(const char *path)
{
    AUTO_FREE char *here = NULL;
    char *absolute;

    if (path[0] == '/')
        return strdup(path);
    here = getcwd(NULL, 0);
    if (!here || asprintf(&absolute, "%s/%s", here, path) < 0)
        return NULL;
    return absolute;
}

static void say_who_has_it(const char *path, int fd, bool is_expected)
{
    char pid[PID_TEXT] = "";
    ssize_t len = file_read(fd, pid, sizeof(pid) - 1, 0);

    pid[len < 0 ? 0 : (size_t)len] = '\0';
    pid[strspn(pid, "0123456789")] = '\0';
    if (is_expected)
        log_info("%s: is held by a running process%s%s", path,
                 pid[0] ? ", pid " : "", pid);
    else
        log_error("%s: is held by a running process%s%s; it has to end first",
                  path, pid[0] ? ", pid " : "", pid);
}

/* Whether path is still the name of the open file. */
static bool is_named(int fd, const char *path)
{
    struct stat ours, named;

    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 &&
           ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

/*
 * The directory may be that of a user who means harm to root, who is asked to
 * use it: the file must be one that can be emptied.  And what root leaves there
 * must not keep the user out, whose service has the same pid file.
 */
static int check_file(int fd, const char *path)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *dir =
        strndup(path, slash == path ? 1 : (size_t)(slash - path));
    struct stat file, of_dir;

    if (!dir)
        return -ENOMEM;
    if (fstat(fd, &file) != 0 || stat(dir, &of_dir) != 0)
        return -errno;
    if (!S_ISREG(file.st_mode) || file.st_nlink > 1)
        return -EINVAL;
    if (geteuid() == 0 && of_dir.st_uid != file.st_uid &&
        fchown(fd, of_dir.st_uid, of_dir.st_gid) != 0)
        return -errno;
    return 0;
}

/*
 * Open and lock the file that has the name path.  Returns the descriptor;
 * -EAGAIN: another process removed the file before it was locked here.
 */
static int open_locked(const char *path, bool is_expected)
{
    AUTO_CLOSE int fd =
        file_open(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
    int error = fd < 0 ? fd : check_file(fd, path);

    if (error) {
        log_error("%s: cannot be opened: %s", path,
                  error == -ELOOP || error == -EINVAL
                      ? "a pid file is a regular file, without links to it"
                      : log_errno(error));
        return error;
    }
    error = file_lock(fd);
    if (error == -EWOULDBLOCK) {
        say_who_has_it(path, fd, is_expected);
        return -EBUSY;
    }
    if (error)
        return error;
    return is_named(fd, path) ? take_fd(&fd) : -EAGAIN;
}

int pid_file_take(const char *path, bool is_expected,
                  struct pid_file *ret_pid_file)
{
    AUTO_FREE char *absolute = NULL;
    AUTO_CLOSE int fd = -1;
    int result = -EAGAIN;

    *ret_pid_file = (struct pid_file){.fd = -1};
    if (!path)
        return 0;
    absolute = make_absolute(path);
    if (!absolute)
        return -ENOMEM;
    for (int i = 0; result == -EAGAIN && i < TAKE_TRIES; i++)
        result = open_locked(absolute, is_expected);
    if (result < 0)
        return result;
    fd = result;
    /* What a dead process left there must not be read as ours. */
    result = file_truncate(fd, 0);
    if (result)
        return result;
    ret_pid_file->path = take_pointer(&absolute);
    ret_pid_file->fd = take_fd(&fd);
    return 0;
}

int pid_file_write(const struct pid_file *pid_file)
{
    char text[PID_TEXT];
    int len, error;

    if (!pid_file->path)
        return 0;
    len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    error = file_write(pid_file->fd, text, (size_t)len, 0);
    if (error)
        log_error("%s: cannot be written: %s", pid_file->path,
                  log_errno(error));
    return error;
}

void pid_file_remove(struct pid_file *pid_file)
{
    if (!pid_file->path)
        return;
    /* Somebody may have put another one in its place. */
    if (is_named(pid_file->fd, pid_file->path) && unlink(pid_file->path) != 0)
        log_warning("%s: cannot be removed: %s", pid_file->path,
                    log_errno(-errno));
    (void)close(pid_file->fd);
    free(pid_file->path);
    *pid_file = (struct pid_file){.fd = -1};
}
