/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/background.h"

#include <sys/wait.h>

#include "unit/test.h"

/* The new process writes what it found out here, and the test reads it. */
static int found[2];

static void tell(char c)
{
    (void)!write(found[1], &c, 1);
}

/*
 * Run in_background in a process that goes into the background.  Returns the
 * exit code of the process that stays in the foreground.
 */
static int run(void (*in_background)(int *report_fd))
{
    int status, report_fd;
    pid_t child = fork();

    if (child == 0) {
        pid_t foreground = getpid();

        if (background_enter(&report_fd) != 0)
            _exit(99);
        tell(getpid() != foreground && getsid(0) != getpid() ? 'd' : '?');
        in_background(&report_fd);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Whether the background told exactly this, and has ended. */
static bool told(const char *expected)
{
    char text[16] = "";
    size_t len = 0;
    ssize_t n;

    (void)close(found[1]);
    while (len < sizeof(text) - 1 &&
           (n = read(found[0], text + len, sizeof(text) - 1 - len)) > 0)
        len += (size_t)n;
    (void)close(found[0]);
    return strcmp(text, expected) == 0;
}

static void report_success(int *report_fd)
{
    background_report(report_fd, 0);
    tell(*report_fd == -1 ? 'r' : '?');
    background_report(report_fd, 5); /* comes too late, and does nothing */
}

TEST("the foreground ends with success once the background reports it")
{
    NEED(pipe(found) == 0);
    CHECK(run(report_success) == 0);
    CHECK(told("dr"));
}

static void report_failure(int *report_fd)
{
    background_report(report_fd, 3);
}

TEST("the foreground ends with the exit code that the background reports")
{
    NEED(pipe(found) == 0);
    CHECK(run(report_failure) == 3);
    CHECK(told("d"));
}

static void die(int *report_fd)
{
    (void)report_fd;
    abort();
}

TEST("the foreground ends with failure when the background dies silently")
{
    NEED(pipe(found) == 0);
    CHECK(run(die) == EXIT_FAILURE);
    CHECK(told("d"));
}

/* Whether the descriptor is /dev/null. */
static bool is_null(int fd)
{
    struct stat null, st;

    return stat("/dev/null", &null) == 0 && fstat(fd, &st) == 0 &&
           st.st_rdev == null.st_rdev;
}

static void leave_pipe(int *report_fd)
{
    char here[PATH_MAX];

    tell(getcwd(here, sizeof(here)) && strcmp(here, "/") == 0 ? '/' : '?');
    (void)dup2(found[1], STDERR_FILENO);
    tell(background_leave_terminal() ? '?' : 'l');
    tell(is_null(0) && is_null(1) && is_null(2) ? 'n' : '?');
    background_report(report_fd, 0);
}

TEST("the background is in the root directory and leaves the terminal")
{
    NEED(pipe(found) == 0);
    CHECK(run(leave_pipe) == 0);
    CHECK(told("d/ln"));
}

static void leave_file(int *report_fd)
{
    (void)dup2(fileno(tmpfile()), STDERR_FILENO);
    tell(background_leave_terminal() ? 's' : '?');
    tell(is_null(0) && is_null(1) && !is_null(2) ? 'f' : '?');
    background_report(report_fd, 0);
}

TEST("a regular file stays the standard error of the background")
{
    NEED(pipe(found) == 0);
    CHECK(run(leave_file) == 0);
    CHECK(told("dsf"));
}
