/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test - the harness of all unit, race and crash tests.
 *
 * A test program includes this once, in its only source file:
 *
 *     TEST("what must be true, as a sentence")
 *     {
 *         CHECK(expression);
 *     }
 *
 * Tests run in the order of the file, in one process; each reports one line
 * of TAP.  The program closes with "N passed, N failed" and its exit status
 * says whether all passed.  With arguments, only tests whose sentence
 * contains one of them run.  A crash ends the program without its last line,
 * which tests/run counts as a failure.
 */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct test_case {
    const char *sentence;
    void (*run)(void);
    struct test_case *next;
};

static struct test_case *test_first, **test_end = &test_first;
static const char *test_skip_reason;
static atomic_bool test_has_failed;
static char test_dir_path[PATH_MAX];

#define TEST_JOIN(a, b)  TEST_JOIN_(a, b)
#define TEST_JOIN_(a, b) a##b

/* Define a test, named by a sentence; the body follows. */
#define TEST(text) TEST_DEFINE(text, TEST_JOIN(test_at_line_, __LINE__))
#define TEST_DEFINE(text, name)                                                \
    static void name(void);                                                    \
    __attribute__((constructor)) static void TEST_JOIN(name, _add)(void)       \
    {                                                                          \
        static struct test_case this_case = {text, name, NULL};                \
                                                                               \
        *test_end = &this_case;                                                \
        test_end = &this_case.next;                                            \
    }                                                                          \
    static void name(void)

/* The test fails, and goes on, unless the expression is true.  Any thread. */
#define CHECK(expression)                                                      \
    test_check((expression) ? true : false, __FILE__, __LINE__, #expression)

/* As CHECK, but the test function returns: for what the rest rests on. */
#define NEED(expression)                                                       \
    do {                                                                       \
        if (!CHECK(expression))                                                \
            return;                                                            \
    } while (0)

/* The test counts as skipped, for this reason; its function returns. */
#define SKIP(why)                                                              \
    do {                                                                       \
        test_skip_reason = (why);                                              \
        return;                                                                \
    } while (0)

/* Returns ok; if it is false, says where and has the running test fail. */
__attribute__((unused)) static bool test_check(bool ok, const char *file,
                                               int line, const char *what)
{
    if (!ok) {
        atomic_store(&test_has_failed, true);
        printf("# %s:%d: %s\n", file, line, what);
        (void)fflush(stdout);
    }
    return ok;
}

/* Remove path, a name in dirfd, and all below it; follows no symlink. */
__attribute__((unused)) static void test_remove_tree(int dirfd,
                                                     const char *path)
{
    int fd =
        openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        (void)unlinkat(dirfd, path, 0);
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            test_remove_tree(fd, entry->d_name);
    }
    (void)closedir(dir);
    (void)unlinkat(dirfd, path, AT_REMOVEDIR);
}

/*
 * Returns the path of a directory of the running test alone: empty at the
 * first call in a test, removed with its contents when the test has ended.
 */
__attribute__((unused)) static const char *test_dir(void)
{
    const char *parent = getenv("TMPDIR");

    if (test_dir_path[0] != '\0')
        return test_dir_path;
    if (!parent || parent[0] != '/')
        parent = "/tmp";
    (void)snprintf(test_dir_path, sizeof(test_dir_path),
                   "%s/s3blkdev-test.XXXXXX", parent);
    if (!mkdtemp(test_dir_path)) {
        perror(test_dir_path);
        abort();
    }
    return test_dir_path;
}

/* Remove what test_dir made, and nothing that it did not make. */
static void test_dir_remove(void)
{
    if (strstr(test_dir_path, "/s3blkdev-test.") != NULL)
        test_remove_tree(AT_FDCWD, test_dir_path);
    test_dir_path[0] = '\0';
}

/* Whether one of the words (or there is none) is in the sentence. */
static bool test_is_wanted(const struct test_case *this_case, char **words)
{
    if (!*words)
        return true;
    for (; *words; words++) {
        if (strstr(this_case->sentence, *words))
            return true;
    }
    return false;
}

/* Runs what was registered: see above. */
int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0, skipped = 0, number = 0, wanted = 0;

    (void)argc;
    for (struct test_case *t = test_first; t; t = t->next)
        wanted += test_is_wanted(t, argv + 1);
    printf("1..%u\n", wanted);
    for (struct test_case *t = test_first; t; t = t->next) {
        if (!test_is_wanted(t, argv + 1))
            continue;
        (void)fflush(stdout);
        atomic_store(&test_has_failed, false);
        test_skip_reason = NULL;
        t->run();
        test_dir_remove();
        number++;
        if (atomic_load(&test_has_failed)) {
            failed++;
            printf("not ok %u - %s\n", number, t->sentence);
        } else if (test_skip_reason) {
            skipped++;
            printf("ok %u - %s # SKIP %s\n", number, t->sentence,
                   test_skip_reason);
        } else {
            passed++;
            printf("ok %u - %s\n", number, t->sentence);
        }
    }
    printf("%u passed, %u failed", passed, failed);
    if (skipped > 0)
        printf(", %u skipped", skipped);
    printf("\n");
    return failed > 0;
}

#endif
