/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/pid_file.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "unit/test.h"

/* Returns the path of the test's pid file. */
static const char *path(void)
{
    static char text[PATH_MAX];

    (void)snprintf(text, sizeof(text), "%s/pid", test_dir());
    return text;
}

/* Whether the file holds exactly this. */
static bool file_is(const char *expected)
{
    char text[64] = "";
    FILE *file = fopen(path(), "re");

    if (!file)
        return false;
    (void)!fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    return strcmp(text, expected) == 0;
}

static void write_file(const char *text)
{
    FILE *file = fopen(path(), "we");

    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

TEST("a pid file is empty until it is written, and gone when it is removed")
{
    struct pid_file file;
    char expected[32];

    NEED(pid_file_take(path(), false, &file) == 0);
    CHECK(file_is(""));
    CHECK(pid_file_write(&file) == 0);
    (void)snprintf(expected, sizeof(expected), "%d\n", (int)getpid());
    CHECK(file_is(expected));
    pid_file_remove(&file);
    CHECK(access(path(), F_OK) != 0);
    CHECK(!file.path);
}

TEST("without a path there is no pid file, and nothing fails")
{
    struct pid_file file;

    CHECK(pid_file_take(NULL, false, &file) == 0);
    CHECK(pid_file_write(&file) == 0);
    pid_file_remove(&file);
}

TEST("what a dead process left is taken over, also if its number lives again")
{
    struct pid_file file;
    char ours[32];

    (void)snprintf(ours, sizeof(ours), "%d\n", (int)getpid());
    write_file(ours);
    NEED(pid_file_take(path(), false, &file) == 0);
    CHECK(file_is(""));
    pid_file_remove(&file);
    write_file("no number at all, and much longer than any pid is\n");
    NEED(pid_file_take(path(), false, &file) == 0);
    CHECK(pid_file_write(&file) == 0);
    CHECK(file_is(ours));
    pid_file_remove(&file);
}

TEST("a live process keeps its pid file, and what stands in it")
{
    struct pid_file file, second;
    char ours[32];

    (void)snprintf(ours, sizeof(ours), "%d\n", (int)getpid());
    NEED(pid_file_take(path(), false, &file) == 0 &&
         pid_file_write(&file) == 0);
    CHECK(pid_file_take(path(), false, &second) == -EBUSY);
    pid_file_remove(&second);
    CHECK(file_is(ours));
    pid_file_remove(&file);
    CHECK(pid_file_take(path(), false, &second) == 0);
    pid_file_remove(&second);
}

TEST("a child keeps the lock that its parent took, until it dies")
{
    struct pid_file file, second;
    int to_child[2], status;
    pid_t child;

    NEED(pipe(to_child) == 0);
    NEED(pid_file_take(path(), false, &file) == 0);
    child = fork();
    NEED(child >= 0);
    if (child == 0) {
        char byte;

        (void)close(to_child[1]);
        _exit((int)read(to_child[0], &byte, 1));
    }
    CHECK(close(file.fd) == 0); /* as by the death of the parent */
    CHECK(pid_file_take(path(), false, &second) == -EBUSY);
    CHECK(close(to_child[1]) == 0 && close(to_child[0]) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(pid_file_take(path(), false, &second) == 0);
    pid_file_remove(&second);
    free(file.path);
}

TEST("a file that somebody put in the place of ours is not removed")
{
    struct pid_file file;

    NEED(pid_file_take(path(), false, &file) == 0);
    CHECK(unlink(path()) == 0);
    write_file("another's\n");
    pid_file_remove(&file);
    CHECK(file_is("another's\n"));
}

TEST("a pid file where none can be is an error")
{
    struct pid_file file;

    CHECK(pid_file_take("/nonexistent/pid", false, &file) == -ENOENT);
    CHECK(pid_file_take(test_dir(), false, &file) == -EISDIR);
    pid_file_remove(&file);
}

TEST("a link in the place of a pid file is refused, and what it leads to kept")
{
    struct pid_file file;
    char target[PATH_MAX];

    (void)snprintf(target, sizeof(target), "%s/target", test_dir());
    write_file("content");
    CHECK(rename(path(), target) == 0);
    CHECK(symlink(target, path()) == 0);
    CHECK(pid_file_take(path(), false, &file) == -ELOOP);
    CHECK(!file.path);
    CHECK(file_is("content"));
    CHECK(unlink(path()) == 0 && link(target, path()) == 0);
    CHECK(pid_file_take(path(), false, &file) == -EINVAL);
    CHECK(!file.path);
    CHECK(file_is("content"));
}

TEST("what is no file is refused as a pid file, at once")
{
    struct pid_file file;

    CHECK(mkfifo(path(), 0600) == 0);
    CHECK(pid_file_take(path(), false, &file) == -EINVAL);
    CHECK(!file.path);
}

/*
 * A service runs as a user of its own; root does its work by hand, with the
 * same pid file, and is killed: the service must be able to take it.
 */
TEST("the pid file that root leaves in a user's directory is the user's")
{
    enum { USER = 47110 };
    struct pid_file file;
    struct stat st;

    if (geteuid() != 0)
        return;
    CHECK(chown(test_dir(), USER, USER) == 0);
    NEED(pid_file_take(path(), false, &file) == 0);
    CHECK(stat(path(), &st) == 0);
    CHECK(st.st_uid == USER && st.st_gid == USER);
    pid_file_remove(&file);
    CHECK(chown(test_dir(), 0, 0) == 0);
}
