/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/connect.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/stream.h"
#include "unit/test.h"

enum { CROWD = 8 };

/* A port of this host that listens, or only refuses. */
struct place {
    struct net_address address;
    int fd;
    int crowd[CROWD]; /* who waits there to be accepted */
    char text[NET_ADDRESS_TEXT];
};

/* Take a port; false: this host has no such address. */
static bool place_take(struct place *place, const char *host)
{
    socklen_t len = sizeof(place->address);

    if (net_address_parse(host, 0, &place->address) < 0)
        abort();
    place->fd = socket(place->address.any.sa_family, SOCK_STREAM, 0);
    if (place->fd < 0 || bind(place->fd, &place->address.any,
                              net_address_len(&place->address)) < 0)
        return false;
    if (getsockname(place->fd, &place->address.any, &len) < 0)
        abort();
    (void)net_address_format(&place->address, place->text);
    for (size_t i = 0; i < CROWD; i++)
        place->crowd[i] = -1;
    return true;
}

static void place_listen(struct place *place, int backlog)
{
    if (listen(place->fd, backlog) < 0)
        abort();
}

/* Listen, but let nobody in any more: who comes now gets no answer. */
static void place_fill(struct place *place)
{
    place_listen(place, 0);
    for (size_t i = 0; i < CROWD; i++) {
        place->crowd[i] = socket(place->address.any.sa_family,
                                 SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (place->crowd[i] < 0)
            abort();
        (void)connect(place->crowd[i], &place->address.any,
                      net_address_len(&place->address));
    }
}

static void place_leave(struct place *place)
{
    (void)close(place->fd);
    for (size_t i = 0; i < CROWD; i++) {
        if (place->crowd[i] >= 0)
            (void)close(place->crowd[i]);
    }
}

static bool leads_to(int fd, const struct place *place)
{
    struct net_address peer;
    socklen_t len = sizeof(peer);

    return getpeername(fd, &peer.any, &len) == 0 &&
           net_address_equals(&peer, &place->address);
}

TEST("a connection is made, and made ready for requests")
{
    struct place place;
    struct net_failure failure;
    int fd, result = 1, no_delay = 0, alive = 0;
    socklen_t len = sizeof(int);

    NEED(place_take(&place, "127.0.0.1"));
    place_listen(&place, 4);
    fd = connect_any(&place.address, 1, STREAM_FOREVER, -1, &result, &failure);
    NEED(fd >= 0);
    CHECK(result == 0);
    CHECK(leads_to(fd, &place));
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &len) == 0);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &alive, &len) == 0);
    CHECK(no_delay && alive);
    (void)close(fd);
    place_leave(&place);
}

TEST("a refused connection names the address and the port")
{
    struct place place;
    struct net_failure failure;
    char text[160];
    int result = 1;

    NEED(place_take(&place, "127.0.0.1"));
    CHECK(connect_any(&place.address, 1, STREAM_FOREVER, -1, &result,
                      &failure) == -ECONNREFUSED);
    CHECK(result == -ECONNREFUSED);
    CHECK(failure.error == -ECONNREFUSED);
    (void)snprintf(text, sizeof(text), "%s: Connection refused", place.text);
    CHECK(strcmp(failure.text, text) == 0);
    place_leave(&place);
}

TEST("where one address refuses, the next is tried at once")
{
    struct place places[3];
    struct net_address addresses[3];
    struct net_failure failure;
    int fd, results[3] = {1, 1, 1};

    for (int i = 0; i < 3; i++) {
        NEED(place_take(&places[i], "127.0.0.1"));
        addresses[i] = places[i].address;
    }
    place_listen(&places[1], 4);
    place_listen(&places[2], 4);
    /* Time stands still: who waited for it would wait for ever. */
    clock_set_for_tests(clock_monotonic_ns());
    fd = connect_any(addresses, 3, STREAM_FOREVER, -1, results, &failure);
    clock_set_for_tests(0);
    CHECK(fd >= 0 && leads_to(fd, &places[1]));
    CHECK(results[0] == -ECONNREFUSED);
    CHECK(results[1] == 0 && results[2] == CONNECT_NOT_TRIED);
    (void)close(fd);
    for (int i = 0; i < 3; i++)
        place_leave(&places[i]);
}

TEST("where one address does not answer, the next one wins after a while")
{
    struct place silent, good;
    struct net_address addresses[2];
    struct net_failure failure;
    int fd, results[2] = {1, 1};

    NEED(place_take(&silent, "127.0.0.1") && place_take(&good, "127.0.0.1"));
    place_fill(&silent);
    place_listen(&good, 4);
    addresses[0] = silent.address;
    addresses[1] = good.address;
    fd = connect_any(addresses, 2, STREAM_FOREVER, -1, results, &failure);
    CHECK(fd >= 0 && leads_to(fd, &good));
    CHECK(results[0] == -EINPROGRESS && results[1] == 0);
    (void)close(fd);
    place_leave(&silent);
    place_leave(&good);
}

TEST("families take turns: a second kind is the second that is tried")
{
    struct place v4[2], v6;
    struct net_address addresses[3];
    struct net_failure failure;
    int fd, results[3] = {1, 1, 1};

    NEED(place_take(&v4[0], "127.0.0.1") && place_take(&v4[1], "127.0.0.1"));
    if (!place_take(&v6, "::1"))
        SKIP("this host has no IPv6");
    place_listen(&v4[1], 4);
    place_listen(&v6, 4);
    addresses[0] = v4[0].address;
    addresses[1] = v4[1].address;
    addresses[2] = v6.address;
    fd = connect_any(addresses, 3, STREAM_FOREVER, -1, results, &failure);
    CHECK(fd >= 0 && leads_to(fd, &v6));
    CHECK(results[0] == -ECONNREFUSED && results[1] == CONNECT_NOT_TRIED &&
          results[2] == 0);
    (void)close(fd);
    place_leave(&v4[0]);
    place_leave(&v4[1]);
    place_leave(&v6);
}

TEST("if all fail, all are told, and the error is not that of a network that "
     "this host lacks")
{
    struct place place;
    struct net_address addresses[2];
    struct net_failure failure;
    int results[2];

    NEED(place_take(&place, "127.0.0.1"));
    /* Of a link, but of none in particular: there is no way to it. */
    NEED(net_address_parse("fe80::1", 9, &addresses[0]) == 0);
    addresses[1] = place.address;
    CHECK(connect_any(addresses, 2, STREAM_FOREVER, -1, results, &failure) < 0);
    CHECK(results[0] < 0 && results[1] == -ECONNREFUSED);
    CHECK(failure.error == -ECONNREFUSED);
    CHECK(strstr(failure.text, "[fe80::1]:9: ") == failure.text);
    CHECK(strstr(failure.text, place.text) != NULL);
    CHECK(strstr(failure.text, "Connection refused") != NULL);
    place_leave(&place);
}

TEST("the deadline ends it, and who did not answer is told")
{
    struct place silent;
    struct net_failure failure;
    int result = 1;

    NEED(place_take(&silent, "127.0.0.1"));
    place_fill(&silent);
    CHECK(connect_any(&silent.address, 1, clock_monotonic_ns() + 1000000, -1,
                      &result, &failure) == -ETIMEDOUT);
    CHECK(result == -EINPROGRESS);
    CHECK(strstr(failure.text, silent.text) != NULL);
    CHECK(strstr(failure.text, "no answer") != NULL);
    CHECK(connect_any(&silent.address, 1, STREAM_NOW, -1, NULL, &failure) ==
          -ETIMEDOUT);
    place_leave(&silent);
}

struct caller {
    struct net_address address;
    int interrupt_fd;
    int result;
};

static void *call_silent(void *argument)
{
    struct caller *caller = argument;
    struct net_failure failure;

    caller->result = connect_any(&caller->address, 1, STREAM_FOREVER,
                                 caller->interrupt_fd, NULL, &failure);
    return NULL;
}

TEST("an interrupt ends it, before and during the wait")
{
    struct place silent;
    struct caller caller = {.interrupt_fd = eventfd(0, EFD_CLOEXEC)};
    const uint64_t one = 1;
    pthread_t thread;

    NEED(place_take(&silent, "127.0.0.1"));
    place_fill(&silent);
    caller.address = silent.address;
    NEED(caller.interrupt_fd >= 0);
    NEED(pthread_create(&thread, NULL, call_silent, &caller) == 0);
    CHECK(write(caller.interrupt_fd, &one, sizeof(one)) == sizeof(one));
    (void)pthread_join(thread, NULL);
    CHECK(caller.result == -ECANCELED);
    (void)call_silent(&caller);
    CHECK(caller.result == -ECANCELED);
    (void)close(caller.interrupt_fd);
    place_leave(&silent);
}

TEST("without descriptors it fails as such, and does not blame the address")
{
    struct rlimit before, none;
    struct place place;
    struct net_failure failure;
    int error;

    NEED(place_take(&place, "127.0.0.1"));
    place_listen(&place, 4);
    NEED(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    none.rlim_cur = 0;
    NEED(setrlimit(RLIMIT_NOFILE, &none) == 0);
    error = connect_any(&place.address, 1, STREAM_FOREVER, -1, NULL, &failure);
    NEED(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(error == -EMFILE && failure.error == -EMFILE);
    place_leave(&place);
}

TEST("more addresses than are looked at do no harm")
{
    struct net_address addresses[CONNECT_ADDRESSES_MAX + 3];
    int results[CONNECT_ADDRESSES_MAX + 3];
    struct place place;
    struct net_failure failure;

    NEED(place_take(&place, "127.0.0.1"));
    for (size_t i = 0; i < CONNECT_ADDRESSES_MAX + 3; i++)
        addresses[i] = place.address;
    CHECK(connect_any(addresses, CONNECT_ADDRESSES_MAX + 3, STREAM_FOREVER, -1,
                      results, &failure) == -ECONNREFUSED);
    CHECK(results[CONNECT_ADDRESSES_MAX - 1] == -ECONNREFUSED);
    CHECK(results[CONNECT_ADDRESSES_MAX] == CONNECT_NOT_TRIED);
    CHECK(results[CONNECT_ADDRESSES_MAX + 2] == CONNECT_NOT_TRIED);
    CHECK(strstr(failure.text, "...") != NULL);
    place_leave(&place);
}
