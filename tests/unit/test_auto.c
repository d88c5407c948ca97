/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/auto.h"

#include "unit/test.h"

static int open_null(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool fd_is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

TEST("a descriptor is closed at the end of its scope")
{
    int seen;

    {
        AUTO_CLOSE int fd = open_null();

        seen = fd;
        CHECK(fd_is_open(seen));
    }
    CHECK(!fd_is_open(seen));
}

TEST("a descriptor that was taken stays open, and -1 is let be")
{
    int seen, errno_after;

    {
        AUTO_CLOSE int fd = open_null();

        seen = take_fd(&fd);
        CHECK(fd == -1);
        errno = 0;
    }
    errno_after = errno;
    CHECK(errno_after == 0);
    CHECK(fd_is_open(seen));
    CHECK(close(seen) == 0);
}

static char *make_text(bool keep)
{
    AUTO_FREE char *text = strdup("text");

    if (keep)
        return take_pointer(&text);
    return NULL;
}

TEST("memory that was taken is the caller's, other memory is freed")
{
    char *text = make_text(true);

    NEED(text != NULL);
    CHECK(strcmp(text, "text") == 0);
    free(text);
    /* The leak checker of the asan variant sees it if this is not freed. */
    CHECK(make_text(false) == NULL);
}
