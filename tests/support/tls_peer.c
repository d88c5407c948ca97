/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/tls_peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/connect.h"
#include "base/mutex.h"
#include "base/net.h"

enum { CONNECTIONS_MAX = 512 };

struct tls_peer_connection {
    struct tls_peer *peer;
    gnutls_session_t session;
    int fd;
    pthread_t thread;
};

struct tls_peer {
    struct tls_peer_setup setup;
    struct certificate ca, certificate;
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t ticket_key;
    int fd;
    uint16_t port;
    pthread_t thread;
    atomic_uint handshakes, resumed;
    struct mutex lock;
    char name[256] GUARDED_BY(lock);    /* told last */
    char protocol[32] GUARDED_BY(lock); /* chosen last */
    bool is_stopping GUARDED_BY(lock);
    struct tls_peer_connection connections[CONNECTIONS_MAX] GUARDED_BY(lock);
    size_t count GUARDED_BY(lock);
};

static void must(int code)
{
    assert(code >= 0);
    (void)code;
}

bool tls_peer_send(struct tls_peer_connection *connection, const void *data,
                   size_t len)
{
    const unsigned char *from = data;

    while (len > 0) {
        ssize_t sent = gnutls_record_send(connection->session, from, len);

        if (sent < 0 && gnutls_error_is_fatal((int)sent))
            return false;
        if (sent > 0) {
            from += sent;
            len -= (size_t)sent;
        }
    }
    return true;
}

size_t tls_peer_receive(struct tls_peer_connection *connection, void *data,
                        size_t len)
{
    ssize_t got;

    do {
        got = gnutls_record_recv(connection->session, data, len);
    } while (got < 0 && !gnutls_error_is_fatal((int)got));
    return got > 0 ? (size_t)got : 0;
}

void tls_peer_give_ticket(struct tls_peer_connection *connection)
{
    must(gnutls_session_ticket_send(connection->session, 1, 0));
}

void tls_peer_bye(struct tls_peer_connection *connection)
{
    (void)gnutls_bye(connection->session, GNUTLS_SHUT_WR);
}

int tls_peer_fd(const struct tls_peer_connection *connection)
{
    return connection->fd;
}

static void echo(struct tls_peer_connection *connection)
{
    char data[4096];
    size_t len;

    while ((len = tls_peer_receive(connection, data, sizeof(data))) > 0) {
        if (!tls_peer_send(connection, data, len))
            return;
    }
    tls_peer_bye(connection);
}

static bool shake_hands(struct tls_peer_connection *connection)
{
    static unsigned char h2[] = "h2", http[] = "http/1.1";
    const gnutls_datum_t protocols[] = {{h2, 2}, {http, 8}};
    const struct tls_peer *peer = connection->peer;
    const char *priority = peer->setup.priority;
    unsigned flags = GNUTLS_SERVER | GNUTLS_NO_SIGNAL;
    int code;

    /* The test says when. */
    if (peer->setup.serve)
        flags |= GNUTLS_NO_AUTO_SEND_TICKET;
    must(gnutls_init(&connection->session, flags));
    must(gnutls_priority_set_direct(connection->session,
                                    priority ? priority : "NORMAL", NULL));
    must(gnutls_credentials_set(connection->session, GNUTLS_CRD_CERTIFICATE,
                                peer->credentials));
    must(gnutls_alpn_set_protocols(connection->session, protocols, 2, 0));
    if (peer->setup.gives_tickets)
        must(gnutls_session_ticket_enable_server(connection->session,
                                                 &peer->ticket_key));
    gnutls_transport_set_int(connection->session, connection->fd);
    do {
        code = gnutls_handshake(connection->session);
    } while (code < 0 && !gnutls_error_is_fatal(code));
    return code == 0;
}

static void note_handshake(struct tls_peer_connection *connection)
{
    struct tls_peer *peer = connection->peer;
    gnutls_datum_t protocol = {0};
    unsigned type;
    size_t len;

    mutex_lock(&peer->lock);
    len = sizeof(peer->name);
    if (gnutls_server_name_get(connection->session, peer->name, &len, &type,
                               0) < 0)
        peer->name[0] = '\0';
    if (gnutls_alpn_get_selected_protocol(connection->session, &protocol) < 0 ||
        protocol.size >= sizeof(peer->protocol))
        protocol.size = 0;
    if (protocol.size > 0)
        memcpy(peer->protocol, protocol.data, protocol.size);
    peer->protocol[protocol.size] = '\0';
    mutex_unlock(&peer->lock);
    if (gnutls_session_is_resumed(connection->session))
        atomic_fetch_add(&peer->resumed, 1);
    atomic_fetch_add(&peer->handshakes, 1);
}

static void *serve_connection(void *argument)
{
    struct tls_peer_connection *connection = argument;
    struct tls_peer *peer = connection->peer;

    if (shake_hands(connection)) {
        note_handshake(connection);
        if (peer->setup.serve)
            peer->setup.serve(peer->setup.context, connection);
        else
            echo(connection);
    }
    gnutls_deinit(connection->session);
    mutex_lock(&peer->lock);
    (void)close(connection->fd);
    connection->fd = -1;
    mutex_unlock(&peer->lock);
    return NULL;
}

static void *accept_connections(void *argument)
{
    struct tls_peer *peer = argument;
    bool is_stopping = false;

    while (!is_stopping) {
        int fd = accept4(peer->fd, NULL, NULL, SOCK_CLOEXEC);

        mutex_lock(&peer->lock);
        is_stopping = peer->is_stopping;
        if (fd >= 0 && !is_stopping) {
            struct tls_peer_connection *connection =
                &peer->connections[peer->count++];

            assert(peer->count <= CONNECTIONS_MAX);
            connection->peer = peer;
            connection->fd = fd;
            net_prepare(fd); /* nothing that it sends waits for more */
            must(-pthread_create(&connection->thread, NULL, serve_connection,
                                 connection));
        } else if (fd >= 0) {
            (void)close(fd);
        }
        mutex_unlock(&peer->lock);
    }
    return NULL;
}

/* ---- beginning and end -------------------------------------------------- */

static void make_certificates(struct tls_peer *peer, const char *dir)
{
    struct certificate other = certificate_make(
        &(struct certificate_setup){.common_name = "other authority"}, NULL);

    peer->ca = certificate_make(
        &(struct certificate_setup){.common_name = "test authority"}, NULL);
    certificate_write(&peer->ca, dir, "ca");
    peer->certificate =
        certificate_make(&peer->setup.certificate,
                         peer->setup.is_signed_by_other ? &other : &peer->ca);
    certificate_free(&other);
    must(gnutls_certificate_allocate_credentials(&peer->credentials));
    must(gnutls_certificate_set_x509_key(peer->credentials,
                                         &peer->certificate.certificate, 1,
                                         peer->certificate.key));
    must(gnutls_session_ticket_key_generate(&peer->ticket_key));
}

static void start_listening(struct tls_peer *peer)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(address);

    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(peer->fd);
    must(bind(peer->fd, (struct sockaddr *)&address, len));
    must(listen(peer->fd, 64));
    must(getsockname(peer->fd, (struct sockaddr *)&address, &len));
    peer->port = ntohs(address.sin_port);
}

struct tls_peer *tls_peer_start(const char *dir,
                                const struct tls_peer_setup *setup)
{
    struct tls_peer *peer = calloc(1, sizeof(*peer));

    assert(peer);
    peer->setup = *setup;
    mutex_init(&peer->lock);
    make_certificates(peer, dir);
    start_listening(peer);
    must(-pthread_create(&peer->thread, NULL, accept_connections, peer));
    return peer;
}

void tls_peer_stop(struct tls_peer *peer)
{
    mutex_lock(&peer->lock);
    peer->is_stopping = true;
    (void)shutdown(peer->fd, SHUT_RDWR);
    for (size_t i = 0; i < peer->count; i++) {
        if (peer->connections[i].fd >= 0)
            (void)shutdown(peer->connections[i].fd, SHUT_RDWR);
    }
    mutex_unlock(&peer->lock);
    (void)pthread_join(peer->thread, NULL);
    for (size_t i = 0; i < peer->count; i++)
        (void)pthread_join(peer->connections[i].thread, NULL);
    (void)close(peer->fd);
    gnutls_certificate_free_credentials(peer->credentials);
    gnutls_free(peer->ticket_key.data);
    certificate_free(&peer->certificate);
    certificate_free(&peer->ca);
    mutex_done(&peer->lock);
    free(peer);
}

uint16_t tls_peer_port(const struct tls_peer *peer)
{
    return peer->port;
}

unsigned tls_peer_handshakes(const struct tls_peer *peer)
{
    return atomic_load(&peer->handshakes);
}

unsigned tls_peer_resumed(const struct tls_peer *peer)
{
    return atomic_load(&peer->resumed);
}

void tls_peer_protocol(struct tls_peer *peer, char protocol[32])
{
    mutex_lock(&peer->lock);
    memcpy(protocol, peer->protocol, sizeof(peer->protocol));
    mutex_unlock(&peer->lock);
}

void tls_peer_name(struct tls_peer *peer, char name[256])
{
    mutex_lock(&peer->lock);
    memcpy(name, peer->name, sizeof(peer->name));
    mutex_unlock(&peer->lock);
}

/* ---- for clients -------------------------------------------------------- */

struct tls_context *tls_peer_client(const char *dir, bool is_insecure)
{
    char ca[PATH_MAX];
    struct tls_context *context;

    (void)snprintf(ca, sizeof(ca), "%s/ca-cert.pem", dir);
    must(tls_client_new(
        &(struct tls_client_options){.ca_file = ca, .is_insecure = is_insecure},
        &context));
    return context;
}

struct stream *tls_peer_plain(uint16_t port)
{
    struct net_address address;
    struct net_failure failure;
    struct stream *stream;
    int fd;

    must(net_address_parse("127.0.0.1", port, &address));
    fd = connect_any(&address, 1, STREAM_FOREVER, -1, NULL, &failure);
    must(fd);
    must(stream_open(fd, &stream));
    return stream;
}

struct stream *tls_peer_meet(const struct tls_peer *peer,
                             struct tls_context *context, const char *name,
                             struct net_failure *ret_failure)
{
    struct stream *stream = tls_peer_plain(tls_peer_port(peer));
    const struct stream *plain = stream;
    int error =
        tls_connect(context, name, &stream, STREAM_FOREVER, ret_failure);

    if (error == 0)
        return stream;
    assert(error == ret_failure->error && stream == plain);
    stream_close(stream);
    return NULL;
}

bool tls_peer_echoes(struct stream *stream)
{
    char bytes[] = "to and fro";

    return stream_send_all(stream, bytes, sizeof(bytes), STREAM_FOREVER) == 0 &&
           stream_receive_all(stream, bytes, sizeof(bytes), STREAM_FOREVER) ==
               0 &&
           strcmp(bytes, "to and fro") == 0;
}
