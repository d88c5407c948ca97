/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/links.h"

#include <poll.h>
#include <sys/socket.h>

#include "unit/test.h"

static struct links *links;
static int pairs[3][2]; /* [0] is ours, [1] the server's */
static int kernels[3];  /* what the kernel would hold of ours */

static void make_pair(int i)
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]) == 0);
}

/* Watch a connection, and hand it on or not. */
static void hand_on(int i, bool is_taken)
{
    make_pair(i);
    CHECK(links_watch(links, pairs[i][0]) == 0);
    kernels[i] = is_taken ? fcntl(pairs[i][0], F_DUPFD_CLOEXEC, 0) : -1;
    (void)close(pairs[i][0]);
}

static bool count_is(size_t alive, size_t dead)
{
    struct links_count count;

    if (!CHECK(links_count(links, &count) == 0))
        return false;
    if (count.alive == alive && count.dead == dead)
        return true;
    printf("# %zu alive, %zu dead\n", count.alive, count.dead);
    return false;
}

static bool is_readable(void)
{
    struct pollfd polled = {.fd = links_fd(links), .events = POLLIN};

    return poll(&polled, 1, 0) == 1;
}

TEST("a connection that was taken counts, one that was not is gone")
{
    NEED(links_new(&links) == 0);
    CHECK(count_is(0, 0));
    hand_on(0, true);
    CHECK(count_is(1, 0));
    hand_on(1, false);
    CHECK(count_is(1, 0));
    hand_on(2, true);
    CHECK(count_is(2, 0));
    (void)close(kernels[0]);
    CHECK(count_is(1, 0));
    (void)close(kernels[2]);
    CHECK(count_is(0, 0));
    for (int i = 0; i < 3; i++)
        (void)close(pairs[i][1]);
    links_free(links);
}

TEST("a connection that its server closed is dead until it is replaced")
{
    NEED(links_new(&links) == 0);
    hand_on(0, true);
    hand_on(1, true);
    CHECK(!is_readable());
    (void)close(pairs[0][1]);
    CHECK(is_readable());
    CHECK(count_is(1, 1));
    /* It is told once. */
    CHECK(!is_readable());
    CHECK(count_is(1, 1));
    hand_on(2, true);
    (void)close(kernels[0]);
    CHECK(count_is(2, 0));
    CHECK(shutdown(kernels[2], SHUT_RDWR) == 0);
    CHECK(is_readable() && count_is(1, 1));
    (void)close(kernels[1]);
    (void)close(kernels[2]);
    (void)close(pairs[1][1]);
    (void)close(pairs[2][1]);
    links_free(links);
}

TEST("data that arrive are nothing lost")
{
    NEED(links_new(&links) == 0);
    hand_on(0, true);
    CHECK(send(pairs[0][1], "x", 1, 0) == 1);
    CHECK(!is_readable() && count_is(1, 0));
    (void)close(kernels[0]);
    (void)close(pairs[0][1]);
    links_free(links);
}
