/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "base/clock.h"
#include "base/tls_parts.h"

/* Without data in between, a peer that sends so many records wants no good. */
enum { IDLE_RECORDS_MAX = 64 };

static struct tls_stream *tls_stream_of(struct stream *stream)
{
    return (struct tls_stream *)stream;
}

bool tls_processor_has_aes(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & HWCAP_AES) != 0;
#else
    return false;
#endif
}

struct tls_context *tls_hold(struct tls_context *context)
{
    if (context)
        atomic_fetch_add(&context->holders, 1);
    return context;
}

void tls_free(struct tls_context *context)
{
    if (!context || atomic_fetch_sub(&context->holders, 1) > 0)
        return;
    if (context->certificates)
        gnutls_certificate_free_credentials(context->certificates);
    if (context->keys)
        gnutls_psk_free_server_credentials(context->keys);
    if (context->priority)
        gnutls_priority_deinit(context->priority);
    tls_tickets_free(context->tickets);
    free(context->trusts);
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

/* Get from the socket what is there; keep the first bytes of all. */
static ssize_t fill_incoming(struct tls_stream *tls)
{
    ssize_t got =
        stream_receive(tls->plain, tls->incoming, TLS_INCOMING, STREAM_NOW);
    size_t len = got > 0 ? (size_t)got : 0;

    tls->incoming_at = 0;
    tls->incoming_end = len;
    if (tls->first_len < TLS_FIRST_BYTES) {
        if (len > TLS_FIRST_BYTES - tls->first_len)
            len = TLS_FIRST_BYTES - tls->first_len;
        memcpy(tls->first + tls->first_len, tls->incoming, len);
        tls->first_len += len;
    }
    return got;
}

static ssize_t pull(gnutls_transport_ptr_t pointer, void *data, size_t len)
{
    struct tls_stream *tls = pointer;

    if (tls->incoming_at == tls->incoming_end) {
        ssize_t got = fill_incoming(tls);

        if (got <= 0)
            return got < 0 ? fail_transport(tls, got) : 0;
    }
    if (len > tls->incoming_end - tls->incoming_at)
        len = tls->incoming_end - tls->incoming_at;
    memcpy(data, tls->incoming + tls->incoming_at, len);
    tls->incoming_at += len;
    return (ssize_t)len;
}

static int pull_timeout(gnutls_transport_ptr_t pointer, unsigned ms)
{
    const struct tls_stream *tls = pointer;
    uint64_t deadline = STREAM_NOW;
    int error;

    if (tls->incoming_at < tls->incoming_end)
        return 1;
    if (ms > 0)
        deadline = clock_after_ms(ms);
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

static bool is_over(uint64_t deadline_ns)
{
    return deadline_ns != STREAM_NOW && deadline_ns != STREAM_FOREVER &&
           deadline_ns <= clock_monotonic_ns();
}

/* Wait until GnuTLS can go on.  0, or a negative errno. */
static int wait_for_peer(const struct tls_stream *tls, uint64_t deadline_ns)
{
    bool is_sending = gnutls_record_get_direction(tls->session);
    int error = 0;

    /* A record that was no data may be followed by more that is here. */
    if (is_sending || tls->incoming_at == tls->incoming_end)
        error = stream_wait_fd(tls->plain->fd, is_sending ? POLLOUT : POLLIN,
                               deadline_ns);
    /* A peer that always sends, but no data, must not be waited for either. */
    return error == 0 && is_over(deadline_ns) ? -ETIMEDOUT : error;
}

/*
 * After a call of GnuTLS returned code, below 0: 0 if it should be called
 * again, waiting first when it wanted to; else a negative errno.
 */
static int after(struct tls_stream *tls, ssize_t code, uint64_t deadline_ns)
{
    if (code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED)
        return wait_for_peer(tls, deadline_ns);
    if (code == GNUTLS_E_PREMATURE_TERMINATION)
        return -ECONNABORTED;
    if ((code == GNUTLS_E_PUSH_ERROR || code == GNUTLS_E_PULL_ERROR) &&
        tls->error < 0)
        return tls->error;
    /* A peer that asks for another handshake is refused: none needs it. */
    if (gnutls_error_is_fatal((int)code) || code == GNUTLS_E_REHANDSHAKE)
        return -EPROTO;
    /* A warning: whoever sends nothing else must still meet the deadline. */
    return is_over(deadline_ns) ? -ETIMEDOUT : 0;
}

/* Keep what the server gave for a later handshake. */
static void keep_ticket(struct tls_stream *tls)
{
    gnutls_datum_t data;

    if (!(gnutls_session_get_flags(tls->session) &
          GNUTLS_SFLAGS_SESSION_TICKET))
        return;
    if (gnutls_session_get_data2(tls->session, &data) == 0) {
        tls_tickets_put(tls->tickets, tls->name, data.data, data.size);
        gnutls_memset(data.data, 0, data.size);
        gnutls_free(data.data);
    }
    tls->tickets = NULL;
}

static ssize_t tls_receive(struct stream *stream, void *data, size_t len,
                           uint64_t deadline_ns)
{
    struct tls_stream *tls = tls_stream_of(stream);

    for (unsigned idle = 0; idle < IDLE_RECORDS_MAX;
         idle += deadline_ns == STREAM_NOW) {
        ssize_t got = gnutls_record_recv(tls->session, data, len);
        int error;

        if (tls->tickets)
            keep_ticket(tls);
        if (got >= 0)
            return got;
        error = after(tls, got, deadline_ns);
        if (error < 0)
            return error;
    }
    return -EPROTO;
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

    if (outgoing->count == 1 || len >= TLS_RECORD_MAX) {
        *ret_len = len < TLS_RECORD_MAX ? len : TLS_RECORD_MAX;
        return (const unsigned char *)outgoing->pieces[0].iov_base + skip;
    }
    for (size_t i = 0; i < outgoing->count && filled < TLS_RECORD_MAX; i++) {
        const struct iovec *piece = &outgoing->pieces[i];
        size_t part = piece->iov_len - skip;

        if (part > TLS_RECORD_MAX - filled)
            part = TLS_RECORD_MAX - filled;
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

void tls_stream_drop(struct tls_stream *tls)
{
    gnutls_deinit(tls->session);
    tls_free(tls->context);
    free(tls->name);
    free(tls);
}

static void tls_close(struct stream *stream)
{
    struct stream *plain = tls_stream_of(stream)->plain;

    tls_stream_drop(tls_stream_of(stream));
    stream_close(plain);
}

static const struct stream_functions tls_functions = {
    .receive = tls_receive,
    .send = tls_send,
    .finish = tls_finish,
    .close = tls_close,
};

/* ---- the handshake ------------------------------------------------------ */

struct tls_stream *tls_stream_new(struct tls_context *context,
                                  struct stream *plain, unsigned flags)
{
    struct tls_stream *tls = calloc(1, sizeof(*tls));

    if (!tls)
        return NULL;
    tls->stream.functions = &tls_functions;
    tls->stream.fd = plain->fd;
    tls->stream.one_thread = true;
    tls->plain = plain;
    if (gnutls_init(&tls->session, flags | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) <
        0) {
        free(tls);
        return NULL;
    }
    tls->context = tls_hold(context);
    if (gnutls_priority_set(tls->session, context->priority) < 0 ||
        (context->certificates &&
         gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE,
                                context->certificates) < 0)) {
        tls_stream_drop(tls);
        return NULL;
    }
    gnutls_transport_set_ptr(tls->session, tls);
    gnutls_transport_set_pull_function(tls->session, pull);
    gnutls_transport_set_pull_timeout_function(tls->session, pull_timeout);
    gnutls_transport_set_vec_push_function(tls->session, push);
    return tls;
}

int tls_stream_handshake(struct tls_stream *tls, uint64_t deadline_ns,
                         int *ret_code)
{
    for (;;) {
        int error;

        *ret_code = gnutls_handshake(tls->session);
        if (*ret_code == 0)
            return 0;
        error = after(tls, *ret_code, deadline_ns);
        if (error == 0)
            continue;
        (void)gnutls_alert_send_appropriate(tls->session, *ret_code);
        return error == -EAGAIN ? -ETIMEDOUT : error;
    }
}
