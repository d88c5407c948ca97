/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "unit/test.h"

/* What stderr was, while a test has a file in its place. */
static int saved_stderr = -1;

static void begin_capture(void)
{
    char path[PATH_MAX + 8];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/stderr", test_dir());
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    saved_stderr = dup(STDERR_FILENO);
    CHECK(fd >= 0 && saved_stderr >= 0);
    CHECK(dup2(fd, STDERR_FILENO) >= 0);
    (void)close(fd);
}

/* Put stderr back; returns what was written, until the next call. */
static const char *end_capture(void)
{
    static char text[16384];
    ssize_t len = pread(STDERR_FILENO, text, sizeof(text) - 1, 0);

    CHECK(dup2(saved_stderr, STDERR_FILENO) >= 0);
    (void)close(saved_stderr);
    text[len > 0 ? len : 0] = '\0';
    return text;
}

TEST("before it is opened, messages of level info and above go to stderr")
{
    begin_capture();
    log_info("started %d", 1);
    log_debug("not shown");
    CHECK(strcmp(end_capture(), "s3blkdev: info: started 1\n") == 0);
}

TEST("each level has its name, and lower ones are dropped as told")
{
    begin_capture();
    log_open("tester", LOG_TARGET_STDERR, LOG_LEVEL_DEBUG);
    log_error("a");
    log_warning("b");
    log_info("c");
    log_debug("d");
    log_set_level(LOG_LEVEL_ERROR);
    log_error("e");
    log_warning("f");
    CHECK(strcmp(end_capture(), "tester: error: a\n"
                                "tester: warning: b\n"
                                "tester: info: c\n"
                                "tester: debug: d\n"
                                "tester: error: e\n") == 0);
}

TEST("logging leaves errno as it was, shown or not")
{
    begin_capture();
    log_open("tester", LOG_TARGET_STDERR, LOG_LEVEL_INFO);
    (void)close(STDERR_FILENO); /* so that the write fails and sets errno */
    errno = ENOTTY;
    log_error("a");
    CHECK(errno == ENOTTY);
    log_debug("b");
    CHECK(errno == ENOTTY);
    (void)end_capture();
}

TEST("a message from outside cannot start a line of its own")
{
    begin_capture();
    log_open("tester", LOG_TARGET_STDERR, LOG_LEVEL_INFO);
    log_info("export '%s'", "a\ntester: error: b\x1b[2J\x7f");
    CHECK(strcmp(end_capture(),
                 "tester: info: export 'a?tester: error: b?[2J?'\n") == 0);
}

TEST("nothing in a message is obeyed by a terminal, or a blob to the journal")
{
    begin_capture();
    log_open("tester", LOG_TARGET_STDERR, LOG_LEVEL_INFO);
    log_info("host %s", "\xc2\x9b[2J, \x9b[2J, gr\xfc\xdf");
    log_info("host %s", "gr\xc3\xbc\xc3\x9f, \xe2\x82\xac");
    CHECK(strcmp(end_capture(),
                 "tester: info: host ??[2J, ?[2J, gr??\n"
                 "tester: info: host gr\xc3\xbc\xc3\x9f, \xe2\x82\xac\n") == 0);
}

TEST("a message that is too long is cut, and says so")
{
    static char name[5000];
    const char *text;
    size_t len;

    memset(name, 'x', sizeof(name) - 1);
    begin_capture();
    log_open("tester", LOG_TARGET_STDERR, LOG_LEVEL_INFO);
    log_info("%s", name);
    text = end_capture();
    len = strlen(text);
    CHECK(len > 2000 && len < 2200);
    CHECK(strcmp(text + len - 5, "x...\n") == 0);
}

TEST("no half of a character is left where a message is cut")
{
    static char name[5000];
    const char *text;

    for (size_t i = 0; i < sizeof(name) - 1; i++)
        name[i] = i % 2 == 0 ? '\xc3' : '\xbc';
    for (int odd = 0; odd < 2; odd++) {
        size_t len, at = 0;

        begin_capture();
        log_open("tester", LOG_TARGET_STDERR, LOG_LEVEL_INFO);
        log_info("%s%s", odd ? "x" : "", name);
        text = end_capture();
        len = strlen(text) - 1; /* without the end of the line */
        while (at < len && utf8_visible_len(text + at, len - at) > 0)
            at += utf8_visible_len(text + at, len - at);
        CHECK(at == len);
    }
}

TEST("auto is stderr when that is not the journal's stream")
{
    (void)setenv("JOURNAL_STREAM", "1:1", 1);
    begin_capture();
    log_open("tester", LOG_TARGET_AUTO, LOG_LEVEL_INFO);
    log_info("a");
    CHECK(strcmp(end_capture(), "tester: info: a\n") == 0);
    (void)setenv("JOURNAL_STREAM", "nonsense", 1);
    begin_capture();
    log_open("tester", LOG_TARGET_AUTO, LOG_LEVEL_INFO);
    log_info("b");
    CHECK(strcmp(end_capture(), "tester: info: b\n") == 0);
    (void)unsetenv("JOURNAL_STREAM");
}

TEST("a journal that cannot be reached swallows no message")
{
    char stream[64];
    struct stat status;

    if (access("/run/systemd/journal/socket", F_OK) == 0)
        SKIP("there is a journal on this machine");
    begin_capture();
    log_open("tester", LOG_TARGET_JOURNAL, LOG_LEVEL_INFO);
    log_info("a");
    CHECK(strcmp(end_capture(), "tester: info: a\n") == 0);
    begin_capture();
    CHECK(fstat(STDERR_FILENO, &status) == 0);
    (void)snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)status.st_dev,
                   (uintmax_t)status.st_ino);
    (void)setenv("JOURNAL_STREAM", stream, 1);
    log_open("tester", LOG_TARGET_AUTO, LOG_LEVEL_INFO);
    (void)unsetenv("JOURNAL_STREAM");
    log_info("b");
    CHECK(strcmp(end_capture(), "tester: info: b\n") == 0);
}

TEST("what may repeat itself is let through once in ten seconds, and counted")
{
    struct log_limit limit = {0};
    uint64_t left_out = 99;

    clock_set_for_tests(UINT64_C(1000000000));
    CHECK(log_limit_allows(&limit, &left_out) && left_out == 0);
    CHECK(!log_limit_allows(&limit, &left_out));
    clock_set_for_tests(UINT64_C(10999999999));
    CHECK(!log_limit_allows(&limit, &left_out));
    CHECK(left_out == 0);
    clock_set_for_tests(UINT64_C(11000000000));
    CHECK(log_limit_allows(&limit, &left_out) && left_out == 2);
    CHECK(!log_limit_allows(&limit, &left_out));
    clock_set_for_tests(UINT64_C(21000000000));
    CHECK(log_limit_allows(&limit, &left_out) && left_out == 1);
    clock_set_for_tests(0);
}

TEST("a negative errno has a description, anything else is named")
{
    CHECK(strcmp(log_errno(-EIO), "Input/output error") == 0);
    CHECK(strcmp(log_errno(-ENOSPC), "No space left on device") == 0);
    CHECK(strcmp(log_errno(0), "no error number: 0") == 0);
    CHECK(strcmp(log_errno(5), "no error number: 5") == 0);
    CHECK(strcmp(log_errno(INT_MIN), "no error number: -2147483648") == 0);
    CHECK(strstr(log_errno(-4000), "4000") != NULL);
}
