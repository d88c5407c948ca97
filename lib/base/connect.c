/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/net.h"
#include "base/stream.h"

/* RFC 8305, "Connection Attempt Delay". */
#define STAGGER_NS UINT64_C(250000000)

struct race {
    const struct net_address *addresses;
    size_t count;
    size_t order[CONNECT_ADDRESSES_MAX]; /* in which they are tried */
    int results[CONNECT_ADDRESSES_MAX];  /* by address */
    size_t next;                         /* in order: not tried yet */
    uint64_t next_ns;                    /* when to try it, at the latest */
    /* Those that run, and behind them what interrupts. */
    struct pollfd polled[CONNECT_ADDRESSES_MAX + 1];
    size_t running[CONNECT_ADDRESSES_MAX]; /* their addresses */
    size_t running_count;
    int interrupt_fd;
};

/* Families take turns, each in the order given, beginning with the first's. */
static void race_order(struct race *race)
{
    size_t next[2] = {0, 0};
    sa_family_t first = race->addresses[0].any.sa_family;
    bool wants_first = true;

    for (size_t done = 0; done < race->count;) {
        size_t *at = &next[wants_first ? 0 : 1];

        while (*at < race->count &&
               (race->addresses[*at].any.sa_family == first) != wants_first)
            (*at)++;
        if (*at < race->count)
            race->order[done++] = (*at)++;
        wants_first = !wants_first;
    }
}

/*
 * Begin with one address.  Returns the descriptor if it is connected already,
 * -EINPROGRESS if it runs now, or its error.
 */
static int race_start(struct race *race, size_t which)
{
    const struct net_address *address = &race->addresses[which];
    int fd = socket(address->any.sa_family,
                    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error;

    if (fd < 0)
        return -errno;
    if (connect(fd, &address->any, net_address_len(address)) == 0)
        return fd;
    if (errno == EINPROGRESS || errno == EINTR) {
        race->polled[race->running_count] =
            (struct pollfd){.fd = fd, .events = POLLOUT};
        race->running[race->running_count++] = which;
        return -EINPROGRESS;
    }
    error = -errno;
    (void)close(fd);
    return error;
}

/* Whether this host, not the address, is what a socket failed for. */
static bool is_shortage(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM ||
           error == -ENOBUFS;
}

/* Whether it says only that this host has no use for such addresses. */
static bool is_no_way(int error)
{
    /* -EINVAL: an address of a link, which one is not said. */
    return error == -ENETUNREACH || error == -EADDRNOTAVAIL ||
           error == -EAFNOSUPPORT || error == -EINVAL;
}

/*
 * Try the next address, and those after it as long as they fail at once.
 * Returns the descriptor if one is connected, or -EINPROGRESS: see what runs.
 */
static int race_go_on(struct race *race)
{
    while (race->next < race->count) {
        size_t which = race->order[race->next++];
        int fd = race_start(race, which);

        race->results[which] = fd < 0 ? fd : 0;
        if (fd >= 0 || is_shortage(fd))
            return fd;
        if (fd == -EINPROGRESS) {
            race->next_ns = clock_monotonic_ns() + STAGGER_NS;
            break;
        }
    }
    return -EINPROGRESS;
}

/* Take one that runs out of the race; returns its descriptor. */
static int race_take(struct race *race, size_t index)
{
    int fd = race->polled[index].fd;

    race->running_count--;
    race->polled[index] = race->polled[race->running_count];
    race->running[index] = race->running[race->running_count];
    return fd;
}

/*
 * Returns what came of an attempt that is ready: 0, or its error.  A socket
 * whose own port the kernel chose as the one that it tries has itself at the
 * other end, which only shows that nobody listens there.
 */
static int attempt_result(int fd)
{
    struct net_address own = {0}, peer = {0};
    socklen_t own_len = sizeof(own), peer_len = sizeof(peer);
    int error = 0;
    socklen_t len = sizeof(error);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        return -errno;
    if (error != 0)
        return -error;
    if (getsockname(fd, &own.any, &own_len) < 0 ||
        getpeername(fd, &peer.any, &peer_len) < 0)
        return -errno;
    return net_address_equals(&own, &peer) ? -ECONNREFUSED : 0;
}

/*
 * Look at those that became ready.  Returns the descriptor of one that is
 * connected, or -EINPROGRESS.
 */
static int race_look(struct race *race)
{
    for (size_t i = race->running_count; i-- > 0;) {
        size_t which = race->running[i];
        int fd;

        if (race->polled[i].revents == 0)
            continue;
        fd = race_take(race, i);
        race->results[which] = attempt_result(fd);
        if (race->results[which] == 0)
            return fd;
        (void)close(fd);
        race->next_ns = 0; /* do not wait with the next one */
    }
    return -EINPROGRESS;
}

/* Wait for any of them, or the time to try the next.  0 or an error. */
static int race_wait(struct race *race, uint64_t deadline_ns)
{
    bool is_last = race->next == race->count || race->next_ns > deadline_ns;
    size_t count = race->running_count;
    int error;

    for (size_t i = 0; i < count; i++)
        race->polled[i].revents = 0;
    /* poll passes over a descriptor of -1. */
    race->polled[count] =
        (struct pollfd){.fd = race->interrupt_fd, .events = POLLIN};
    error = stream_wait_fds(race->polled, count + 1,
                            is_last ? deadline_ns : race->next_ns);
    if (race->polled[count].revents != 0)
        return -ECANCELED;
    if (error == -EAGAIN || (error == -ETIMEDOUT && is_last))
        return -ETIMEDOUT;
    return error == -ETIMEDOUT ? 0 : error;
}

/* Returns the descriptor of the first that is connected, or an error. */
static int race_run(struct race *race, uint64_t deadline_ns)
{
    for (;;) {
        int fd = -EINPROGRESS, error;

        if (race->running_count == 0 || clock_monotonic_ns() >= race->next_ns)
            fd = race_go_on(race);
        if (fd != -EINPROGRESS)
            return fd;
        if (race->running_count == 0)
            return -EHOSTUNREACH; /* all failed: see race_error */
        error = race_wait(race, deadline_ns);
        if (error < 0)
            return error;
        fd = race_look(race);
        if (fd != -EINPROGRESS)
            return fd;
    }
}

/* Returns what to say if all failed: the error that tells most. */
static int race_error(const struct race *race)
{
    for (size_t i = 0; i < race->count; i++) {
        int error = race->results[race->order[i]];

        if (!is_no_way(error))
            return error;
    }
    return race->results[race->order[0]];
}

static void race_explain(const struct race *race, int error,
                         struct net_failure *ret_failure)
{
    char text[1024] = "", address[NET_ADDRESS_TEXT];
    size_t len = 0;

    for (size_t i = 0; i < race->count && len < sizeof(text); i++) {
        size_t which = race->order[i];
        int result = race->results[which];
        const char *separator = len > 0 ? "; " : "";
        int added;

        if (result == CONNECT_NOT_TRIED)
            continue;
        added =
            snprintf(text + len, sizeof(text) - len, "%s%s: %s", separator,
                     net_address_format(&race->addresses[which], address),
                     result == -EINPROGRESS ? "no answer" : log_errno(result));
        len += (size_t)(added > 0 ? added : 0);
    }
    if (error == -ECANCELED || len == 0)
        net_failure_set(ret_failure, error, "connecting: %s", log_errno(error));
    else
        net_failure_set(ret_failure, error, "%s", text);
}

static void race_close(struct race *race)
{
    while (race->running_count > 0)
        (void)close(race_take(race, race->running_count - 1));
}

int connect_any(const struct net_address addresses[], size_t count,
                uint64_t deadline_ns, int interrupt_fd, int results[],
                struct net_failure *ret_failure)
{
    struct race race = {
        .addresses = addresses,
        .count = count < CONNECT_ADDRESSES_MAX ? count : CONNECT_ADDRESSES_MAX,
        .interrupt_fd = interrupt_fd,
    };
    int fd;

    for (size_t i = 0; i < race.count; i++)
        race.results[i] = CONNECT_NOT_TRIED;
    race_order(&race);
    fd = race_run(&race, deadline_ns);
    race_close(&race);
    if (fd == -EHOSTUNREACH)
        fd = race_error(&race);
    if (fd < 0)
        race_explain(&race, fd, ret_failure);
    for (size_t i = 0; results && i < count; i++)
        results[i] = i < race.count ? race.results[i] : CONNECT_NOT_TRIED;
    if (fd < 0)
        return fd;
    /* A stream without a deadline waits in the call itself. */
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    net_prepare(fd);
    return fd;
}
