/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/net.h"

/*
 * The ciphers are named because of pre-shared keys: those are bound to
 * SHA-256, which excludes AES-256-GCM under TLS 1.3, and "NORMAL" then takes
 * ChaCha20 before AES-128-GCM: a tenth of the speed where AES is in hardware.
 */
#define PRIORITY_START                                                         \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:+PSK:"     \
    "%SERVER_PRECEDENCE:-CIPHER-ALL:"
#define PRIORITY_AES_FIRST                                                     \
    PRIORITY_START "+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305"
#define PRIORITY_CHACHA_FIRST                                                  \
    PRIORITY_START "+CHACHA20-POLY1305:+AES-256-GCM:+AES-128-GCM"

/* The most that one TLS record holds. */
enum { RECORD_MAX = 16384 };

struct tls_context {
    gnutls_certificate_credentials_t certificates; /* or NULL */
    gnutls_psk_server_credentials_t keys;          /* or NULL */
    gnutls_priority_t priority;
    bool verify_peer;
};

struct tls_stream {
    struct stream stream; /* first: the functions get a pointer to it */
    struct stream *plain;
    gnutls_session_t session;
    int error; /* of the plain stream, behind a GNUTLS_E_PUSH/PULL_ERROR */
    /* A record that GnuTLS took and could not send yet: its length, or 0. */
    size_t unsent_len;
    unsigned char record[RECORD_MAX]; /* small pieces, put together */
};

static struct tls_stream *tls_stream_of(struct stream *stream)
{
    return (struct tls_stream *)stream;
}

static bool processor_has_aes(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & HWCAP_AES) != 0;
#else
    return false;
#endif
}

static int load_certificates(struct tls_context *context, const char *dir,
                             bool verify_peer)
{
    char ca[PATH_MAX], certificate[PATH_MAX], key[PATH_MAX];
    int code;

    if (snprintf(ca, sizeof(ca), "%s/ca-cert.pem", dir) >= PATH_MAX ||
        snprintf(certificate, sizeof(certificate), "%s/server-cert.pem", dir) >=
            PATH_MAX ||
        snprintf(key, sizeof(key), "%s/server-key.pem", dir) >= PATH_MAX) {
        log_error("%s: the path is too long", dir);
        return -ENAMETOOLONG;
    }
    if (access(certificate, R_OK) < 0 || access(key, R_OK) < 0 ||
        (verify_peer && access(ca, R_OK) < 0)) {
        int error = -errno;

        log_error("%s: server-cert.pem, server-key.pem%s: %s", dir,
                  verify_peer ? " or ca-cert.pem" : "", log_errno(error));
        return error;
    }
    if (gnutls_certificate_allocate_credentials(&context->certificates) < 0)
        return -ENOMEM;
    code = gnutls_certificate_set_x509_key_file(
        context->certificates, certificate, key, GNUTLS_X509_FMT_PEM);
    if (code < 0) {
        log_error("%s: server-cert.pem, server-key.pem: %s", dir,
                  gnutls_strerror(code));
        return -EINVAL;
    }
    if (!verify_peer)
        return 0;
    code = gnutls_certificate_set_x509_trust_file(context->certificates, ca,
                                                  GNUTLS_X509_FMT_PEM);
    if (code <= 0) {
        log_error("%s: %s", ca,
                  code < 0 ? gnutls_strerror(code) : "no certificate in it");
        return -EINVAL;
    }
    return 0;
}

static int load_keys(struct tls_context *context, const char *path)
{
    int code;

    if (access(path, R_OK) < 0) {
        int error = -errno;

        log_error("%s: %s", path, log_errno(error));
        return error;
    }
    if (gnutls_psk_allocate_server_credentials(&context->keys) < 0)
        return -ENOMEM;
    code = gnutls_psk_set_server_credentials_file(context->keys, path);
    if (code < 0) {
        log_error("%s: %s", path, gnutls_strerror(code));
        return -EINVAL;
    }
    (void)gnutls_psk_set_server_known_dh_params(context->keys,
                                                GNUTLS_SEC_PARAM_MEDIUM);
    return 0;
}

int tls_server_new(const struct tls_server_options *options,
                   struct tls_context **ret_context)
{
    struct tls_context *context;
    int error = 0;

    if ((!options->certificates_dir && !options->psk_file) ||
        (options->verify_peer && !options->certificates_dir))
        return -EINVAL;
    context = calloc(1, sizeof(*context));
    if (!context)
        return -ENOMEM;
    context->verify_peer = options->verify_peer;
    if (options->certificates_dir)
        error = load_certificates(context, options->certificates_dir,
                                  options->verify_peer);
    if (error == 0 && options->psk_file)
        error = load_keys(context, options->psk_file);
    if (error == 0 &&
        gnutls_priority_init(&context->priority,
                             processor_has_aes() ? PRIORITY_AES_FIRST
                                                 : PRIORITY_CHACHA_FIRST,
                             NULL) < 0)
        error = -ENOMEM;
    if (error < 0) {
        tls_free(context);
        return error;
    }
    *ret_context = context;
    return 0;
}

void tls_free(struct tls_context *context)
{
    if (!context)
        return;
    if (context->certificates)
        gnutls_certificate_free_credentials(context->certificates);
    if (context->keys)
        gnutls_psk_free_server_credentials(context->keys);
    if (context->priority)
        gnutls_priority_deinit(context->priority);
    free(context);
}

/* ---- between GnuTLS and the plain stream -------------------------------- */

static ssize_t fail_transport(struct tls_stream *tls, ssize_t error)
{
    if (error != -EAGAIN)
        tls->error = (int)error;
    gnutls_transport_set_errno(tls->session, (int)-error);
    return -1;
}

static ssize_t pull(gnutls_transport_ptr_t pointer, void *data, size_t len)
{
    struct tls_stream *tls = pointer;
    ssize_t got = stream_receive(tls->plain, data, len, STREAM_NOW);

    return got < 0 ? fail_transport(tls, got) : got;
}

static int pull_timeout(gnutls_transport_ptr_t pointer, unsigned ms)
{
    const struct tls_stream *tls = pointer;
    uint64_t deadline = STREAM_NOW;
    int error;

    if (ms > 0)
        deadline = clock_monotonic_ns() + (uint64_t)ms * 1000000U;
    error = stream_wait_fd(tls->plain->fd, POLLIN, deadline);
    return error == 0 ? 1 : error == -ETIMEDOUT || error == -EAGAIN ? 0 : -1;
}

static ssize_t push(gnutls_transport_ptr_t pointer, const giovec_t *pieces,
                    int count)
{
    struct tls_stream *tls = pointer;
    ssize_t sent = stream_send(tls->plain, pieces, (size_t)count, STREAM_NOW);

    return sent < 0 ? fail_transport(tls, sent) : sent;
}

/*
 * After a call of GnuTLS returned code, below 0: 0 if it should be called
 * again, waiting first when it wanted to; else a negative errno.
 */
static int after(struct tls_stream *tls, ssize_t code, uint64_t deadline_ns)
{
    if (code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED) {
        short events =
            gnutls_record_get_direction(tls->session) ? POLLOUT : POLLIN;

        return stream_wait_fd(tls->plain->fd, events, deadline_ns);
    }
    if (code == GNUTLS_E_PREMATURE_TERMINATION)
        return -ECONNRESET;
    if ((code == GNUTLS_E_PUSH_ERROR || code == GNUTLS_E_PULL_ERROR) &&
        tls->error < 0)
        return tls->error;
    /* A peer that asks for another handshake is refused: none needs it. */
    if (gnutls_error_is_fatal((int)code) || code == GNUTLS_E_REHANDSHAKE)
        return -EPROTO;
    /* A warning: whoever sends nothing else must still meet the deadline. */
    return deadline_ns != STREAM_NOW && deadline_ns < clock_monotonic_ns()
               ? -ETIMEDOUT
               : 0;
}

static ssize_t tls_receive(struct stream *stream, void *data, size_t len,
                           uint64_t deadline_ns)
{
    struct tls_stream *tls = tls_stream_of(stream);

    for (;;) {
        ssize_t got = gnutls_record_recv(tls->session, data, len);
        int error;

        if (got >= 0)
            return got;
        error = after(tls, got, deadline_ns);
        if (error < 0)
            return error;
    }
}

/* What is still to be sent: the pieces without the first skip bytes. */
struct outgoing {
    const struct iovec *pieces;
    size_t count;
    size_t skip; /* less than the first piece has */
};

static void outgoing_advance(struct outgoing *outgoing, size_t len)
{
    outgoing->skip += len;
    while (outgoing->count > 0 &&
           outgoing->skip >= outgoing->pieces[0].iov_len) {
        outgoing->skip -= outgoing->pieces[0].iov_len;
        outgoing->pieces++;
        outgoing->count--;
    }
}

/*
 * Choose what the next record holds: the first piece in place if it fills a
 * record or is the last, else as many as fit, put together.
 */
static const void *next_record(struct tls_stream *tls,
                               const struct outgoing *outgoing, size_t *ret_len)
{
    size_t skip = outgoing->skip;
    size_t len = outgoing->pieces[0].iov_len - skip;
    size_t filled = 0;

    if (outgoing->count == 1 || len >= RECORD_MAX) {
        *ret_len = len < RECORD_MAX ? len : RECORD_MAX;
        return (const unsigned char *)outgoing->pieces[0].iov_base + skip;
    }
    for (size_t i = 0; i < outgoing->count && filled < RECORD_MAX; i++) {
        const struct iovec *piece = &outgoing->pieces[i];
        size_t part = piece->iov_len - skip;

        if (part > RECORD_MAX - filled)
            part = RECORD_MAX - filled;
        memcpy(tls->record + filled,
               (const unsigned char *)piece->iov_base + skip, part);
        filled += part;
        skip = 0;
    }
    *ret_len = filled;
    return tls->record;
}

/* Send one record; returns how much of the outgoing bytes it held. */
static ssize_t send_record(struct tls_stream *tls, const void *data, size_t len,
                           uint64_t deadline_ns)
{
    for (;;) {
        /* What GnuTLS took it keeps: it is asked to go on, with nothing. */
        ssize_t sent = tls->unsent_len > 0
                           ? gnutls_record_send(tls->session, NULL, 0)
                           : gnutls_record_send(tls->session, data, len);
        int error;

        if (sent >= 0) {
            if (tls->unsent_len > 0)
                sent = (ssize_t)tls->unsent_len;
            tls->unsent_len = 0;
            return sent;
        }
        if ((sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED) &&
            tls->unsent_len == 0)
            tls->unsent_len = len;
        error = after(tls, sent, deadline_ns);
        if (error < 0)
            return error;
    }
}

static ssize_t tls_send(struct stream *stream, const struct iovec *pieces,
                        size_t count, uint64_t deadline_ns)
{
    struct tls_stream *tls = tls_stream_of(stream);
    struct outgoing outgoing = {
        .pieces = pieces,
        .count = count < STREAM_IOV_MAX ? count : STREAM_IOV_MAX,
    };
    ssize_t total = 0;

    outgoing_advance(&outgoing, 0); /* past pieces of no bytes */
    while (outgoing.count > 0) {
        size_t len;
        const void *data = next_record(tls, &outgoing, &len);
        ssize_t sent = send_record(tls, data, len, deadline_ns);

        if (sent < 0)
            return total > 0 ? total : sent;
        total += sent;
        outgoing_advance(&outgoing, (size_t)sent);
    }
    return total;
}

static int tls_finish(struct stream *stream, uint64_t deadline_ns)
{
    struct tls_stream *tls = tls_stream_of(stream);

    for (;;) {
        int code = gnutls_bye(tls->session, GNUTLS_SHUT_WR);
        int error;

        if (code == 0)
            return stream_finish(tls->plain, deadline_ns);
        error = after(tls, code, deadline_ns);
        if (error < 0)
            return error;
    }
}

static void tls_close(struct stream *stream)
{
    struct tls_stream *tls = tls_stream_of(stream);

    gnutls_deinit(tls->session);
    stream_close(tls->plain);
    free(tls);
}

static const struct stream_functions tls_functions = {
    .receive = tls_receive,
    .send = tls_send,
    .finish = tls_finish,
    .close = tls_close,
};

/* ---- the handshake ------------------------------------------------------ */

static int session_new(const struct tls_context *context,
                       struct tls_stream *tls)
{
    if (gnutls_init(&tls->session,
                    GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
        return -ENOMEM;
    if (gnutls_priority_set(tls->session, context->priority) < 0 ||
        (context->certificates &&
         gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE,
                                context->certificates) < 0) ||
        (context->keys && gnutls_credentials_set(tls->session, GNUTLS_CRD_PSK,
                                                 context->keys) < 0)) {
        gnutls_deinit(tls->session);
        return -ENOMEM;
    }
    if (context->verify_peer) {
        gnutls_certificate_server_set_request(tls->session,
                                              GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert(tls->session, NULL, 0);
    }
    gnutls_transport_set_ptr(tls->session, tls);
    gnutls_transport_set_pull_function(tls->session, pull);
    gnutls_transport_set_pull_timeout_function(tls->session, pull_timeout);
    gnutls_transport_set_vec_push_function(tls->session, push);
    return 0;
}

static int shake_hands(struct tls_stream *tls, uint64_t deadline_ns)
{
    static struct log_limit limit;
    uint64_t left_out;
    char peer[80];

    for (;;) {
        int code = gnutls_handshake(tls->session);
        int error;

        if (code == 0)
            return 0;
        error = after(tls, code, deadline_ns);
        if (error == 0)
            continue;
        /* Tell the peer why, if it is still there; it is lost anyway. */
        (void)gnutls_alert_send_appropriate(tls->session, code);
        if (log_limit_allows(&limit, &left_out)) {
            net_peer_name(tls->plain->fd, peer, sizeof(peer));
            log_warning(
                "%s: TLS handshake failed: %s (%llu more not shown)", peer,
                error == -ETIMEDOUT ? log_errno(error) : gnutls_strerror(code),
                (unsigned long long)left_out);
        }
        return error;
    }
}

int tls_accept(struct tls_context *context, struct stream **stream,
               uint64_t deadline_ns)
{
    struct tls_stream *tls = calloc(1, sizeof(*tls));
    int error;

    if (!tls)
        return -ENOMEM;
    tls->stream.functions = &tls_functions;
    tls->stream.fd = (*stream)->fd;
    tls->stream.one_thread = true;
    tls->plain = *stream;
    error = session_new(context, tls);
    if (error < 0) {
        free(tls);
        return error;
    }
    error = shake_hands(tls, deadline_ns);
    if (error < 0) {
        gnutls_deinit(tls->session);
        free(tls);
        return error;
    }
    *stream = &tls->stream;
    return 0;
}
