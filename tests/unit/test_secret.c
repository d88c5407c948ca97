/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "base/secret.h"

#include <inttypes.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "support/fault_file.h"
#include "unit/test.h"

/* Returns whether the kernel leaves the page of this address out of dumps. */
static bool is_left_out(const void *memory)
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    bool is_here = false, is_left_out = false;
    char line[512], start[32];

    (void)snprintf(start, sizeof(start), "%" PRIxPTR "-", (uintptr_t)memory);
    while (maps && fgets(line, sizeof(line), maps)) {
        if (strncmp(line, start, strlen(start)) == 0)
            is_here = true;
        if (is_here && strncmp(line, "VmFlags:", 8) == 0) {
            is_left_out = strstr(line, " dd ") != NULL;
            break;
        }
    }
    if (maps)
        (void)fclose(maps);
    return is_left_out;
}

/* Make a file, and return its path, good until the next call. */
static const char *make_file(const char *text, size_t len, mode_t mode)
{
    static char path[PATH_MAX + 64];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/file", test_dir());
    file = fopen(path, "we");
    if (!file || fwrite(text, 1, len, file) != len || fclose(file) != 0 ||
        chmod(path, mode) != 0)
        abort();
    return path;
}

TEST("secret memory is zero, and left out of core dumps")
{
    char *memory = secret_new(10000);

    NEED(memory != NULL);
    CHECK(memory[0] == 0 && memory[9999] == 0);
    CHECK(is_left_out(memory));
    secret_free(memory, 10000);
    secret_free(NULL, 10000);
}

TEST("a file is read as it is, with its owner and mode")
{
    const char *path = make_file("a\0b\n", 4, 0640);
    struct net_failure failure;
    struct secret_text text;

    NEED(secret_read(path, 4, &text, &failure) == 0);
    CHECK(text.len == 4 && memcmp(text.bytes, "a\0b\n", 5) == 0);
    CHECK(text.owner == geteuid() && (text.mode & 0777) == 0640);
    CHECK(secret_check(path, &text, &failure) == 0);
    secret_text_free(&text);
    CHECK(text.bytes == NULL);
    secret_text_free(&text);
}

TEST("an empty file has no bytes")
{
    struct net_failure failure;
    struct secret_text text;

    NEED(secret_read(make_file("", 0, 0600), 4, &text, &failure) == 0);
    CHECK(text.len == 0 && text.bytes[0] == '\0');
    secret_text_free(&text);
}

TEST("what is not there, no file or too long is refused, by its name")
{
    struct secret_text text = {0};
    struct net_failure failure;
    char path[PATH_MAX + 64];

    CHECK(secret_read(make_file("12345", 5, 0600), 4, &text, &failure) ==
          -EFBIG);
    CHECK(strstr(failure.text, "/file: is too long") != NULL);
    CHECK(secret_read(test_dir(), 4, &text, &failure) == -EINVAL);
    CHECK(strstr(failure.text, "is not a regular file") != NULL);
    (void)snprintf(path, sizeof(path), "%s/fifo", test_dir());
    NEED(mkfifo(path, 0600) == 0);
    CHECK(secret_read(path, 4, &text, &failure) == -EINVAL);
    (void)snprintf(path, sizeof(path), "%s/none", test_dir());
    CHECK(secret_read(path, 4, &text, &failure) == -ENOENT);
    CHECK(strstr(failure.text, "/none: No such file") != NULL);
    (void)snprintf(path, sizeof(path), "%s/file/below", test_dir());
    CHECK(secret_read(path, 4, &text, &failure) == -ENOENT);
    CHECK(text.bytes == NULL);
}

TEST("a file that others may read or write is refused, with what mends it")
{
    static const mode_t modes[] = {0604, 0602, 0601};
    struct net_failure failure;
    struct secret_text text;

    for (size_t i = 0; i < 3; i++) {
        const char *path = make_file("x", 1, modes[i]);
        char command[PATH_MAX + 32];

        NEED(secret_read(path, 4, &text, &failure) == 0);
        CHECK(secret_check(path, &text, &failure) == -EACCES);
        (void)snprintf(command, sizeof(command), "run: chmod o-rwx '%s'", path);
        CHECK(strstr(failure.text, command) != NULL);
        secret_text_free(&text);
    }
}

TEST("a file of another user is refused, unless that is root")
{
    struct secret_text text = {.owner = geteuid() + 1, .mode = 0600};
    struct net_failure failure;

    CHECK(secret_check("/x", &text, &failure) == -EACCES);
    CHECK(strstr(failure.text, "run: chown root '/x'") != NULL);
    text.owner = 0;
    CHECK(secret_check("/x", &text, &failure) == 0);
}

TEST("a file that cannot be opened or read says why")
{
    static const unsigned kinds[] = {FAULT_OPEN, FAULT_READ};
    const char *path = make_file("x", 1, 0600);
    struct secret_text text = {0};
    struct net_failure failure;

    for (size_t i = 0; i < 2; i++) {
        const struct fault_calls calls = {kinds[i], "file", 1};

        fault_fail(&calls, -EIO, false, 0);
        CHECK(secret_read(path, 4, &text, &failure) == -EIO);
        CHECK(strstr(failure.text, "/file: Input/output error") != NULL);
        fault_reset();
    }
    CHECK(text.bytes == NULL);
}
