/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_pool.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "support/tls_peer.h"
#include "unit/test.h"

#define SECOND UINT64_C(1000000000)
#define START  (1000 * SECOND) /* of the clock, while it stands still */

enum { ENDPOINTS = 2 };

/* Servers that accept when they are told to, and a pool that leads there. */
struct fixture {
    int fds[ENDPOINTS]; /* that listen */
    struct s3_pool_endpoint endpoints[ENDPOINTS];
    struct resolver *resolver;
    struct s3_pool *pool;
};

static int bind_at(const char *host, uint16_t *port)
{
    struct net_address address;
    socklen_t len = sizeof(address);
    const int yes = 1;
    int fd;

    if (net_address_parse(host, *port, &address) < 0)
        abort();
    fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
        bind(fd, &address.any, net_address_len(&address)) < 0 ||
        getsockname(fd, &address.any, &len) < 0)
        abort();
    *port = ntohs(address.v4.sin_port);
    return fd;
}

static int listen_at(const char *host, uint16_t *port)
{
    int fd = bind_at(host, port);

    if (listen(fd, 16) < 0)
        abort();
    return fd;
}

/* Start; the options may name less than all that there is. */
static void fixture_start(struct fixture *fixture,
                          struct s3_pool_options options)
{
    for (size_t i = 0; i < ENDPOINTS; i++) {
        uint16_t port = 0;

        fixture->fds[i] = listen_at("127.0.0.1", &port);
        fixture->endpoints[i] = (struct s3_pool_endpoint){"127.0.0.1", port, 0};
    }
    if (resolver_new(60 * SECOND, &fixture->resolver) < 0)
        abort();
    options.endpoints = fixture->endpoints;
    options.endpoint_count = ENDPOINTS;
    options.resolver = fixture->resolver;
    options.connect_ns = UINT64_MAX;
    if (s3_pool_new(&options, &fixture->pool) < 0)
        abort();
}

static void fixture_end(struct fixture *fixture)
{
    s3_pool_free(fixture->pool);
    resolver_free(fixture->resolver);
    for (size_t i = 0; i < ENDPOINTS; i++)
        (void)close(fixture->fds[i]);
}

static struct s3_connection *borrow(struct fixture *fixture, size_t endpoint,
                                    bool is_fresh)
{
    struct s3_connection *connection = NULL;
    struct net_failure failure;

    if (!CHECK(s3_pool_borrow(fixture->pool, endpoint, is_fresh, STREAM_FOREVER,
                              &connection, &failure) == 0))
        abort();
    return connection;
}

/* Wait for the other end to close; false: it sends instead. */
static bool is_closed_at(int fd)
{
    char byte;

    return recv(fd, &byte, 1, 0) <= 0;
}

static bool is_open_at(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

TEST("a connection that came back is lent again, the one used last first")
{
    struct fixture fixture;
    struct s3_connection *a, *b;

    fixture_start(&fixture, (struct s3_pool_options){0});
    a = borrow(&fixture, 0, false);
    b = borrow(&fixture, 0, false);
    CHECK(a != b);
    CHECK(!s3_connection_is_reused(a) && !s3_connection_is_reused(b));
    s3_pool_return(fixture.pool, b, true);
    s3_pool_return(fixture.pool, a, true);
    CHECK(borrow(&fixture, 0, false) == a);
    CHECK(s3_connection_is_reused(a));
    CHECK(borrow(&fixture, 0, false) == b);
    s3_pool_return(fixture.pool, a, false);
    s3_pool_return(fixture.pool, b, false);
    fixture_end(&fixture);
}

TEST("endpoints have connections of their own, and bytes pass")
{
    struct fixture fixture;

    fixture_start(&fixture, (struct s3_pool_options){0});
    for (size_t i = 0; i < ENDPOINTS; i++) {
        struct s3_connection *connection = borrow(&fixture, i, false);
        struct stream *stream = s3_connection_stream(connection);
        int peer = accept(fixture.fds[i], NULL, NULL);
        char byte = 0;

        CHECK(!s3_connection_is_reused(connection));
        CHECK(stream_send_all(stream, "x", 1, STREAM_FOREVER) == 0);
        CHECK(recv(peer, &byte, 1, 0) == 1 && byte == 'x');
        CHECK(send(peer, "y", 1, 0) == 1);
        CHECK(stream_receive(stream, &byte, 1, STREAM_FOREVER) == 1);
        CHECK(byte == 'y');
        s3_pool_return(fixture.pool, connection, true);
        (void)close(peer);
    }
    fixture_end(&fixture);
}

TEST("a fresh one is made although another is idle")
{
    struct fixture fixture;
    struct s3_connection *idle, *fresh;

    fixture_start(&fixture, (struct s3_pool_options){0});
    idle = borrow(&fixture, 0, false);
    s3_pool_return(fixture.pool, idle, true);
    fresh = borrow(&fixture, 0, true);
    CHECK(fresh != idle && !s3_connection_is_reused(fresh));
    s3_pool_return(fixture.pool, fresh, false);
    CHECK(borrow(&fixture, 0, false) == idle);
    s3_pool_return(fixture.pool, idle, false);
    fixture_end(&fixture);
}

TEST("one that is not reusable, or was shut down, is closed when it comes back")
{
    struct fixture fixture;

    fixture_start(&fixture, (struct s3_pool_options){0});
    for (int is_shut = 0; is_shut < 2; is_shut++) {
        struct s3_connection *connection = borrow(&fixture, 0, false);
        int peer = accept(fixture.fds[0], NULL, NULL);

        CHECK(!s3_connection_is_reused(connection));
        if (is_shut)
            s3_connection_shutdown(connection);
        else
            CHECK(is_open_at(peer));
        s3_pool_return(fixture.pool, connection, is_shut);
        CHECK(is_closed_at(peer));
        (void)close(peer);
    }
    fixture_end(&fixture);
}

TEST("one that the peer closed, or talked to, while it was idle is not lent")
{
    struct fixture fixture;

    fixture_start(&fixture, (struct s3_pool_options){0});
    for (int talks = 0; talks < 2; talks++) {
        struct s3_connection *connection = borrow(&fixture, 0, false);
        int fd = s3_connection_stream(connection)->fd;
        int peer = accept(fixture.fds[0], NULL, NULL);

        s3_pool_return(fixture.pool, connection, true);
        if (talks)
            CHECK(send(peer, "HTTP/1.1 408", 12, 0) == 12);
        else
            CHECK(shutdown(peer, SHUT_WR) == 0);
        CHECK(stream_wait_fd(fd, POLLIN, STREAM_FOREVER) == 0);
        connection = borrow(&fixture, 0, false);
        CHECK(!s3_connection_is_reused(connection));
        CHECK(is_closed_at(peer));
        s3_pool_return(fixture.pool, connection, false);
        (void)close(peer);
        peer = accept(fixture.fds[0], NULL, NULL);
        (void)close(peer);
    }
    fixture_end(&fixture);
}

TEST("of many that the peer closed, none is lent, and a live one still is")
{
    struct fixture fixture;
    struct s3_connection *connections[5], *live;
    int peers[5];

    fixture_start(&fixture, (struct s3_pool_options){0});
    for (int i = 0; i < 5; i++) {
        connections[i] = borrow(&fixture, 0, false);
        peers[i] = accept(fixture.fds[0], NULL, NULL);
    }
    for (int i = 0; i < 5; i++) {
        if (i > 0)
            CHECK(shutdown(peers[i], SHUT_WR) == 0);
        if (i > 0)
            CHECK(stream_wait_fd(s3_connection_stream(connections[i])->fd,
                                 POLLIN, STREAM_FOREVER) == 0);
        s3_pool_return(fixture.pool, connections[i], true);
    }
    live = borrow(&fixture, 0, false);
    CHECK(live == connections[0] && s3_connection_is_reused(live));
    s3_pool_return(fixture.pool, live, false);
    for (int i = 0; i < 5; i++)
        (void)close(peers[i]);
    fixture_end(&fixture);
}

TEST("one that was idle too long is closed: by who borrows, who returns, or "
     "who tidies up")
{
    struct fixture fixture;

    fixture_start(&fixture, (struct s3_pool_options){.idle_ns = 7 * SECOND});
    for (int way = 0; way < 3; way++) {
        struct s3_connection *idle, *other = NULL;
        int peer;

        clock_set_for_tests(START);
        idle = borrow(&fixture, 0, false);
        peer = accept(fixture.fds[0], NULL, NULL);
        if (way == 1) {
            other = borrow(&fixture, 0, true);
            (void)close(accept(fixture.fds[0], NULL, NULL));
        }
        s3_pool_return(fixture.pool, idle, true);
        clock_set_for_tests(START + 7 * SECOND - 1);
        s3_pool_tidy(fixture.pool);
        CHECK(is_open_at(peer));
        clock_set_for_tests(START + 7 * SECOND);
        if (way == 0) {
            other = borrow(&fixture, 0, false);
            CHECK(!s3_connection_is_reused(other));
            (void)close(accept(fixture.fds[0], NULL, NULL));
        } else if (way == 2) {
            s3_pool_tidy(fixture.pool);
        }
        if (other)
            s3_pool_return(fixture.pool, other, false);
        CHECK(is_closed_at(peer));
        (void)close(peer);
    }
    clock_set_for_tests(0);
    fixture_end(&fixture);
}

TEST("one that is too old, or has served enough requests, is not lent again")
{
    struct fixture fixture;
    struct s3_connection *connection;
    int peer;

    fixture_start(&fixture, (struct s3_pool_options){.requests_max = 3});
    clock_set_for_tests(START);
    for (int i = 0; i < 3; i++) {
        connection = borrow(&fixture, 0, false);
        CHECK(s3_connection_is_reused(connection) == (i > 0));
        s3_pool_return(fixture.pool, connection, true);
    }
    peer = accept(fixture.fds[0], NULL, NULL);
    CHECK(is_closed_at(peer));
    (void)close(peer);
    connection = borrow(&fixture, 0, false);
    CHECK(!s3_connection_is_reused(connection));
    peer = accept(fixture.fds[0], NULL, NULL);
    clock_set_for_tests(START + 300 * SECOND);
    s3_pool_return(fixture.pool, connection, true);
    CHECK(is_closed_at(peer));
    (void)close(peer);
    clock_set_for_tests(0);
    fixture_end(&fixture);
}

/* ---- failures ----------------------------------------------------------- */

TEST("why there is no connection is told")
{
    struct fixture fixture;
    struct s3_connection *connection = NULL;
    struct net_failure failure;
    char text[64];

    fixture_start(&fixture, (struct s3_pool_options){0});
    (void)snprintf(text, sizeof(text), "127.0.0.1:%u: Connection refused",
                   (unsigned)fixture.endpoints[0].port);
    /* The port stays taken, but nobody listens. */
    (void)close(fixture.fds[0]);
    fixture.fds[0] = bind_at("127.0.0.1", &fixture.endpoints[0].port);
    CHECK(s3_pool_borrow(fixture.pool, 0, false, STREAM_FOREVER, &connection,
                         &failure) == -ECONNREFUSED);
    CHECK(failure.error == -ECONNREFUSED && strcmp(failure.text, text) == 0);
    CHECK(!connection);
    fixture_end(&fixture);
}

/* Knows one host, which has two addresses. */
static int two_addresses(void *context, const char *host,
                         struct net_address addresses[], size_t max,
                         size_t *ret_count)
{
    (void)context;
    if (strcmp(host, "two.example") != 0 || max < 2)
        return EAI_NONAME;
    if (net_address_parse("127.0.0.1", 0, &addresses[0]) < 0 ||
        net_address_parse("127.0.0.2", 0, &addresses[1]) < 0)
        abort();
    *ret_count = 2;
    return 0;
}

TEST("a redirect leads elsewhere; connections to the old place are closed")
{
    struct fixture fixture;
    struct s3_connection *idle, *borrowed, *connection = NULL;
    struct net_failure failure;
    int peers[2];

    fixture_start(&fixture, (struct s3_pool_options){0});
    resolver_set_lookup_for_tests(fixture.resolver, two_addresses, NULL);
    idle = borrow(&fixture, 0, false);
    borrowed = borrow(&fixture, 0, false);
    for (int i = 0; i < 2; i++)
        peers[i] = accept(fixture.fds[0], NULL, NULL);
    s3_pool_return(fixture.pool, idle, true);
    CHECK(is_open_at(peers[0]));
    CHECK(s3_pool_redirect(fixture.pool, 0, &fixture.endpoints[1]) == 0);
    CHECK(is_closed_at(peers[0]));
    CHECK(is_open_at(peers[1]));
    s3_pool_return(fixture.pool, borrowed, true);
    CHECK(is_closed_at(peers[1]));
    connection = borrow(&fixture, 0, false);
    (void)close(peers[0]);
    peers[0] = accept(fixture.fds[1], NULL, NULL);
    CHECK(is_open_at(peers[0]));
    s3_pool_return(fixture.pool, connection, true);
    CHECK(s3_pool_redirect(
              fixture.pool, 0,
              &(struct s3_pool_endpoint){"no.example", 80, NULL}) == 0);
    connection = NULL;
    CHECK(s3_pool_borrow(fixture.pool, 0, false, STREAM_FOREVER, &connection,
                         &failure) == -EADDRNOTAVAIL);
    CHECK(strstr(failure.text, "\"no.example\" is unknown"));
    CHECK(!connection);
    (void)close(peers[0]);
    (void)close(peers[1]);
    fixture_end(&fixture);
}

TEST("all addresses of a host are used, and one that refuses is left out")
{
    struct fixture fixture;
    struct s3_pool_endpoint to = {"two.example", 0, NULL};
    int fds[2], peer;

    fixture_start(&fixture, (struct s3_pool_options){0});
    resolver_set_lookup_for_tests(fixture.resolver, two_addresses, NULL);
    fds[0] = listen_at("127.0.0.1", &to.port);
    fds[1] = listen_at("127.0.0.2", &to.port);
    CHECK(s3_pool_redirect(fixture.pool, 0, &to) == 0);
    for (int i = 0; i < 4; i++) {
        struct s3_connection *connection = borrow(&fixture, 0, true);

        peer = accept(fds[i % 2], NULL, NULL);
        s3_pool_return(fixture.pool, connection, false);
        CHECK(is_closed_at(peer));
        (void)close(peer);
    }
    (void)close(fds[0]);
    for (int i = 0; i < 4; i++) {
        struct s3_connection *connection = borrow(&fixture, 0, true);

        peer = accept(fds[1], NULL, NULL);
        s3_pool_return(fixture.pool, connection, false);
        CHECK(is_closed_at(peer));
        (void)close(peer);
    }
    (void)close(fds[1]);
    fixture_end(&fixture);
}

/* ---- interrupts --------------------------------------------------------- */

struct borrower {
    struct fixture *fixture;
    int result;
};

static void *borrow_in_thread(void *argument)
{
    struct borrower *borrower = argument;
    struct s3_connection *connection;
    struct net_failure failure;

    borrower->result = s3_pool_borrow(borrower->fixture->pool, 0, false,
                                      STREAM_FOREVER, &connection, &failure);
    CHECK(borrower->result == failure.error);
    return NULL;
}

static void *receive_in_thread(void *argument)
{
    struct s3_connection *connection = argument;
    char byte;

    CHECK(stream_receive(s3_connection_stream(connection), &byte, 1,
                         STREAM_FOREVER) == 0);
    return NULL;
}

TEST("an interrupt ends an exchange, and no connection is lent after it")
{
    struct fixture fixture;
    struct s3_connection *connection, *idle;
    struct net_failure failure;
    pthread_t thread;

    fixture_start(&fixture, (struct s3_pool_options){0});
    connection = borrow(&fixture, 0, false);
    idle = borrow(&fixture, 1, false);
    s3_pool_return(fixture.pool, idle, true);
    NEED(pthread_create(&thread, NULL, receive_in_thread, connection) == 0);
    s3_pool_interrupt(fixture.pool);
    (void)pthread_join(thread, NULL);
    s3_pool_return(fixture.pool, connection, true);
    for (size_t i = 0; i < ENDPOINTS; i++) {
        CHECK(s3_pool_borrow(fixture.pool, i, false, STREAM_FOREVER,
                             &connection, &failure) == -ECANCELED);
        CHECK(s3_pool_borrow(fixture.pool, i, true, STREAM_FOREVER, &connection,
                             &failure) == -ECANCELED);
        CHECK(failure.error == -ECANCELED);
    }
    fixture_end(&fixture);
}

/* Looks up for as long as the test wants. */
struct slow_name {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_asked, is_told;
};

static int look_up_slowly(void *context, const char *host,
                          struct net_address addresses[], size_t max,
                          size_t *ret_count)
{
    struct slow_name *name = context;

    (void)host;
    (void)addresses;
    (void)max;
    (void)ret_count;
    (void)pthread_mutex_lock(&name->lock);
    name->is_asked = true;
    (void)pthread_cond_broadcast(&name->changed);
    while (!name->is_told)
        (void)pthread_cond_wait(&name->changed, &name->lock);
    (void)pthread_mutex_unlock(&name->lock);
    return EAI_NONAME;
}

TEST("an interrupt ends a lookup")
{
    static struct slow_name name = {PTHREAD_MUTEX_INITIALIZER,
                                    PTHREAD_COND_INITIALIZER, false, false};
    struct fixture fixture;
    struct borrower borrower = {&fixture, 0};
    pthread_t thread;

    fixture_start(&fixture, (struct s3_pool_options){0});
    resolver_set_lookup_for_tests(fixture.resolver, look_up_slowly, &name);
    NEED(s3_pool_redirect(
             fixture.pool, 0,
             &(struct s3_pool_endpoint){"slow.example", 80, NULL}) == 0);
    NEED(pthread_create(&thread, NULL, borrow_in_thread, &borrower) == 0);
    (void)pthread_mutex_lock(&name.lock);
    while (!name.is_asked)
        (void)pthread_cond_wait(&name.changed, &name.lock);
    (void)pthread_mutex_unlock(&name.lock);
    s3_pool_interrupt(fixture.pool);
    (void)pthread_join(thread, NULL);
    CHECK(borrower.result == -ECANCELED);
    fixture_end(&fixture);
    (void)pthread_mutex_lock(&name.lock);
    name.is_told = true;
    (void)pthread_cond_broadcast(&name.changed);
    (void)pthread_mutex_unlock(&name.lock);
}

TEST("an interrupt ends a connect that is not answered")
{
    enum { CROWD = 24 };
    struct fixture fixture;
    struct borrower borrower = {&fixture, 0};
    struct net_address address;
    int crowd[CROWD];
    pthread_t thread;

    fixture_start(&fixture, (struct s3_pool_options){0});
    NEED(listen(fixture.fds[0], 0) == 0);
    NEED(net_address_parse("127.0.0.1", fixture.endpoints[0].port, &address) ==
         0);
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        NEED(crowd[i] >= 0);
        (void)connect(crowd[i], &address.any, sizeof(address.v4));
    }
    NEED(pthread_create(&thread, NULL, borrow_in_thread, &borrower) == 0);
    s3_pool_interrupt(fixture.pool);
    (void)pthread_join(thread, NULL);
    CHECK(borrower.result == -ECANCELED);
    for (int i = 0; i < CROWD; i++)
        (void)close(crowd[i]);
    fixture_end(&fixture);
}

/* ---- TLS ---------------------------------------------------------------- */

/* Have endpoint 0 speak TLS with a name, at this port. */
static void use_tls(struct fixture *fixture, uint16_t port, const char *name)
{
    CHECK(s3_pool_redirect(
              fixture->pool, 0,
              &(struct s3_pool_endpoint){"127.0.0.1", port, name}) == 0);
}

static const struct certificate_setup certificate = {
    .common_name = "s3",
    .names = {"s3.example"},
};

TEST("an interrupt ends a handshake that is not answered")
{
    struct fixture fixture;
    struct borrower borrower = {&fixture, 0};
    struct tls_context *tls;
    pthread_t thread;
    char hello;
    int peer;

    tls_peer_stop(tls_peer_start(
        test_dir(), &(struct tls_peer_setup){.certificate = certificate}));
    tls = tls_peer_client(test_dir(), false);
    fixture_start(&fixture, (struct s3_pool_options){.tls = tls});
    use_tls(&fixture, fixture.endpoints[0].port, "s3.example");
    NEED(pthread_create(&thread, NULL, borrow_in_thread, &borrower) == 0);
    peer = accept(fixture.fds[0], NULL, NULL);
    CHECK(recv(peer, &hello, 1, 0) == 1);
    s3_pool_interrupt(fixture.pool);
    (void)pthread_join(thread, NULL);
    CHECK(borrower.result == -ECANCELED);
    (void)close(peer);
    fixture_end(&fixture);
    tls_free(tls);
}

/* Send back what comes, and for a '!' a ticket instead. */
static void serve_late_tickets(void *context,
                               struct tls_peer_connection *connection)
{
    char command;

    (void)context;
    while (tls_peer_receive(connection, &command, 1) == 1) {
        if (command == '!')
            tls_peer_give_ticket(connection);
        else if (!tls_peer_send(connection, &command, 1))
            return;
    }
    tls_peer_bye(connection);
}

TEST("over TLS, a ticket that comes while a connection is idle does not end "
     "it; a farewell does")
{
    const struct tls_peer_setup setup = {.certificate = certificate,
                                         .gives_tickets = true,
                                         .serve = serve_late_tickets};
    struct tls_peer *peer = tls_peer_start(test_dir(), &setup);
    struct tls_context *tls = tls_peer_client(test_dir(), false);
    struct fixture fixture;
    struct s3_connection *connection;
    struct net_failure failure;
    int fd;

    fixture_start(&fixture, (struct s3_pool_options){.tls = tls});
    use_tls(&fixture, tls_peer_port(peer), "s3.example");
    connection = borrow(&fixture, 0, false);
    fd = s3_connection_stream(connection)->fd;
    CHECK(stream_send_all(s3_connection_stream(connection), "!", 1,
                          STREAM_FOREVER) == 0);
    s3_pool_return(fixture.pool, connection, true);
    CHECK(stream_wait_fd(fd, POLLIN, STREAM_FOREVER) == 0);
    CHECK(borrow(&fixture, 0, false) == connection);
    CHECK(s3_connection_is_reused(connection));
    CHECK(tls_peer_echoes(s3_connection_stream(connection)));
    s3_pool_return(fixture.pool, connection, true);
    tls_peer_stop(peer);
    CHECK(stream_wait_fd(fd, POLLIN, STREAM_FOREVER) == 0);
    CHECK(s3_pool_borrow(fixture.pool, 0, false, STREAM_FOREVER, &connection,
                         &failure) == -ECONNREFUSED);
    fixture_end(&fixture);
    tls_free(tls);
}

TEST("a certificate for another name is refused in words, with the address")
{
    const struct tls_peer_setup setup = {.certificate = certificate};
    struct tls_peer *peer = tls_peer_start(test_dir(), &setup);
    struct tls_context *tls = tls_peer_client(test_dir(), false);
    struct fixture fixture;
    struct s3_connection *connection;
    struct net_failure failure;

    fixture_start(&fixture, (struct s3_pool_options){.tls = tls});
    use_tls(&fixture, tls_peer_port(peer), "other.example");
    CHECK(s3_pool_borrow(fixture.pool, 0, false, STREAM_FOREVER, &connection,
                         &failure) == -EKEYREJECTED);
    CHECK(strstr(failure.text, "127.0.0.1:") == failure.text);
    CHECK(strstr(failure.text, "\"other.example\"") &&
          strstr(failure.text, "for other names: \"s3.example\""));
    fixture_end(&fixture);
    tls_free(tls);
    tls_peer_stop(peer);
}

TEST("connecting, lookup and TLS together have their time, and no more")
{
    struct fixture fixture;
    struct tls_context *tls;
    struct s3_pool *pool;
    struct s3_connection *connection;
    struct net_failure failure;

    tls_peer_stop(tls_peer_start(
        test_dir(), &(struct tls_peer_setup){.certificate = certificate}));
    tls = tls_peer_client(test_dir(), false);
    fixture_start(&fixture, (struct s3_pool_options){.tls = tls});
    fixture.endpoints[0].tls_name = "s3.example";
    NEED(s3_pool_new(&(struct s3_pool_options){.endpoints = fixture.endpoints,
                                               .endpoint_count = 1,
                                               .tls = tls,
                                               .resolver = fixture.resolver,
                                               .connect_ns = 5000000},
                     &pool) == 0);
    CHECK(s3_pool_borrow(pool, 0, false, STREAM_FOREVER, &connection,
                         &failure) == -ETIMEDOUT);
    CHECK(s3_pool_borrow(pool, 0, false, STREAM_NOW, &connection, &failure) ==
          -ETIMEDOUT);
    s3_pool_free(pool);
    s3_pool_free(NULL);
    fixture_end(&fixture);
    tls_free(tls);
}
