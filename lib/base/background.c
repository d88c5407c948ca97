/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/log.h"

/* The old process: end as the new one reports, or as it ended. */
static _Noreturn void wait_for_report(int fd)
{
    unsigned char code = EXIT_FAILURE;
    ssize_t len;

    do {
        len = read(fd, &code, 1);
    } while (len < 0 && errno == EINTR);
    _exit(len == 1 ? code : EXIT_FAILURE);
}

int background_enter(int *ret_report_fd)
{
    int ends[2];
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    child = fork();
    if (child < 0) {
        int error = -errno;

        (void)close(ends[0]);
        (void)close(ends[1]);
        return error;
    }
    if (child > 0) {
        (void)close(ends[1]);
        wait_for_report(ends[0]);
    }
    (void)close(ends[0]);
    /* A session of its own; the second fork keeps it without a terminal. */
    (void)setsid();
    child = fork();
    if (child != 0)
        _exit(child < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
    if (chdir("/") != 0)
        log_warning("cannot change to /: %s", log_errno(-errno));
    *ret_report_fd = ends[1];
    return 0;
}

bool background_leave_terminal(void)
{
    AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct stat st;
    bool stays = fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode);

    if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0 ||
        (!stays && dup2(null, STDERR_FILENO) < 0))
        log_warning("cannot leave the terminal: %s", log_errno(-errno));
    return stays;
}

void background_report(int *report_fd, int exit_code)
{
    unsigned char code = (unsigned char)exit_code;

    if (*report_fd < 0)
        return;
    /* That the old process is gone does not matter to us. */
    (void)!write(*report_fd, &code, 1);
    (void)close(*report_fd);
    *report_fd = -1;
}
