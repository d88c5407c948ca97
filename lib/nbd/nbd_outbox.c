/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_outbox.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mutex.h"
#include "base/stream.h"

enum { ROUND_MAX = 64 }; /* replies sent with one call */
static_assert(ROUND_MAX * 2 <= STREAM_IOV_MAX, "one send takes a round");

struct nbd_outbox {
    struct stream *stream;
    void (*release)(struct nbd_outgoing *outgoing);
    int wake_fd;
    uint64_t changes_told; /* the own thread's: ->changes as last told */

    struct mutex lock;
    struct condition sending_ended; /* of somebody's, once it is paused */
    struct nbd_outgoing *first GUARDED_BY(lock);
    struct nbd_outgoing **end GUARDED_BY(lock);
    size_t first_sent GUARDED_BY(lock); /* how much of its bytes */
    struct nbd_outgoing *released GUARDED_BY(lock);
    uint64_t changes GUARDED_BY(lock);
    bool is_sending GUARDED_BY(lock);     /* somebody is, without the lock */
    bool socket_is_full GUARDED_BY(lock); /* only the own thread finds out */
    bool is_broken GUARDED_BY(lock);
    bool is_paused GUARDED_BY(lock);
    bool is_asleep GUARDED_BY(lock); /* the own thread */
    bool wants_change GUARDED_BY(lock);
};

int nbd_outbox_new(struct stream *stream,
                   void (*release)(struct nbd_outgoing *outgoing),
                   struct nbd_outbox **ret_outbox)
{
    struct nbd_outbox *outbox = calloc(1, sizeof(*outbox));

    if (!outbox)
        return -ENOMEM;
    outbox->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (outbox->wake_fd < 0) {
        int error = -errno;

        free(outbox);
        return error;
    }
    outbox->stream = stream;
    outbox->release = release;
    outbox->end = &outbox->first;
    mutex_init(&outbox->lock);
    condition_init(&outbox->sending_ended);
    *ret_outbox = outbox;
    return 0;
}

void nbd_outbox_free(struct nbd_outbox *outbox)
{
    if (!outbox)
        return;
    assert(!outbox->first && !outbox->released);
    (void)close(outbox->wake_fd);
    condition_done(&outbox->sending_ended);
    mutex_done(&outbox->lock);
    free(outbox);
}

void nbd_outbox_wake(struct nbd_outbox *outbox)
{
    const uint64_t one = 1;

    /* It can only fail by being full, and then it wakes all the same. */
    if (write(outbox->wake_fd, &one, sizeof(one)) < 0)
        return;
}

/* ---- sending ------------------------------------------------------------ */

static void append_locked(struct nbd_outbox *outbox, struct nbd_outgoing *first,
                          struct nbd_outgoing **end) REQUIRES(outbox->lock)
{
    *end = NULL;
    *outbox->end = first;
    outbox->end = end;
}

/* Take the first off the queue: it was sent, or never will be. */
static void release_first_locked(struct nbd_outbox *outbox)
    REQUIRES(outbox->lock)
{
    struct nbd_outgoing *outgoing = outbox->first;

    outbox->first = outgoing->next;
    if (!outbox->first)
        outbox->end = &outbox->first;
    outbox->first_sent = 0;
    outbox->release(outgoing);
    outgoing->next = outbox->released;
    outbox->released = outgoing;
    outbox->changes++;
}

/* Once nothing can be sent any more, nothing stays. */
static void settle_locked(struct nbd_outbox *outbox) REQUIRES(outbox->lock)
{
    while (outbox->is_broken && !outbox->is_sending && outbox->first)
        release_first_locked(outbox);
}

static void take_sent_locked(struct nbd_outbox *outbox, size_t sent)
    REQUIRES(outbox->lock)
{
    outbox->first_sent += sent;
    while (outbox->first) {
        const struct nbd_reply *reply = &outbox->first->reply;
        size_t len = reply->head_len + reply->data_len;
        size_t rest;

        if (outbox->first_sent < len)
            return;
        rest = outbox->first_sent - len;
        release_first_locked(outbox);
        outbox->first_sent = rest;
    }
}

/* Fill in a piece with what is behind the first skip bytes, if anything. */
static size_t add_piece(struct iovec *piece, const void *bytes, size_t len,
                        size_t *skip)
{
    size_t skipped = *skip < len ? *skip : len;

    *skip -= skipped;
    if (len == skipped)
        return 0;
    /* The type lacks a const; sending only reads. */
    piece->iov_base = (uint8_t *)(uintptr_t)bytes + skipped;
    piece->iov_len = len - skipped;
    return 1;
}

static bool can_send_locked(const struct nbd_outbox *outbox)
    REQUIRES(outbox->lock)
{
    return outbox->first && !outbox->is_sending && !outbox->socket_is_full &&
           !outbox->is_broken && !outbox->is_paused;
}

/*
 * Send, once and without waiting, from the front.  The lock is not held
 * meanwhile: others may only append.
 */
static void send_round_locked(struct nbd_outbox *outbox) REQUIRES(outbox->lock)
{
    struct iovec pieces[2 * ROUND_MAX];
    size_t count = 0, skip = outbox->first_sent;
    struct nbd_outgoing *outgoing = outbox->first;
    ssize_t sent;

    for (int i = 0; i < ROUND_MAX && outgoing; i++, outgoing = outgoing->next) {
        const struct nbd_reply *reply = &outgoing->reply;

        count += add_piece(&pieces[count], reply->head, reply->head_len, &skip);
        count += add_piece(&pieces[count], reply->data, reply->data_len, &skip);
    }
    outbox->is_sending = true;
    mutex_unlock(&outbox->lock);
    sent = stream_send(outbox->stream, pieces, count, STREAM_NOW);
    mutex_lock(&outbox->lock);
    outbox->is_sending = false;
    if (sent == -EAGAIN)
        outbox->socket_is_full = true;
    else if (sent < 0)
        outbox->is_broken = true;
    else
        take_sent_locked(outbox, (size_t)sent);
    settle_locked(outbox);
    if (outbox->is_paused)
        condition_broadcast(&outbox->sending_ended);
}

struct nbd_outbox_news nbd_outbox_send(struct nbd_outbox *outbox,
                                       struct nbd_outgoing *first,
                                       struct nbd_outgoing **end)
{
    struct nbd_outbox_news news;

    mutex_lock(&outbox->lock);
    if (first)
        append_locked(outbox, first, end);
    while (can_send_locked(outbox))
        send_round_locked(outbox);
    settle_locked(outbox);
    news.released = outbox->released;
    news.has_changed = outbox->changes != outbox->changes_told;
    news.is_broken = outbox->is_broken;
    outbox->released = NULL;
    outbox->changes_told = outbox->changes;
    mutex_unlock(&outbox->lock);
    return news;
}

void nbd_outbox_post(struct nbd_outbox *outbox, struct nbd_outgoing *outgoing)
{
    mutex_lock(&outbox->lock);
    append_locked(outbox, outgoing, &outgoing->next);
    outbox->changes++;
    settle_locked(outbox);
    if (can_send_locked(outbox) && !outbox->stream->one_thread)
        send_round_locked(outbox);
    /* If it is awake, it looks here before it sleeps. */
    if (outbox->is_asleep && (outbox->wants_change || outbox->is_broken ||
                              (outbox->first && !outbox->is_sending))) {
        outbox->is_asleep = false;
        nbd_outbox_wake(outbox);
    }
    mutex_unlock(&outbox->lock);
}

void nbd_outbox_break(struct nbd_outbox *outbox)
{
    mutex_lock(&outbox->lock);
    outbox->is_broken = true;
    settle_locked(outbox);
    nbd_outbox_wake(outbox);
    mutex_unlock(&outbox->lock);
}

/* ---- being handed over -------------------------------------------------- */

void nbd_outbox_pause(struct nbd_outbox *outbox)
{
    mutex_lock(&outbox->lock);
    outbox->is_paused = true;
    while (outbox->is_sending)
        condition_wait(&outbox->sending_ended, &outbox->lock);
    mutex_unlock(&outbox->lock);
}

size_t nbd_outbox_count(struct nbd_outbox *outbox)
{
    const struct nbd_outgoing *outgoing;
    size_t count = 0;

    mutex_lock(&outbox->lock);
    for (outgoing = outbox->first; outgoing; outgoing = outgoing->next)
        count++;
    mutex_unlock(&outbox->lock);
    return count;
}

size_t nbd_outbox_unsent(struct nbd_outbox *outbox)
{
    const struct nbd_outgoing *outgoing;
    size_t len = 0;

    mutex_lock(&outbox->lock);
    for (outgoing = outbox->first; outgoing; outgoing = outgoing->next)
        len += outgoing->reply.head_len + outgoing->reply.data_len;
    len -= outbox->first_sent;
    mutex_unlock(&outbox->lock);
    return len;
}

void nbd_outbox_copy_unsent(struct nbd_outbox *outbox, uint8_t *to)
{
    const struct nbd_outgoing *outgoing;
    size_t skip;

    mutex_lock(&outbox->lock);
    assert(outbox->is_paused && !outbox->is_sending);
    skip = outbox->first_sent;
    for (outgoing = outbox->first; outgoing; outgoing = outgoing->next) {
        const struct nbd_reply *reply = &outgoing->reply;
        struct iovec pieces[2];
        size_t count = add_piece(pieces, reply->head, reply->head_len, &skip);

        count += add_piece(&pieces[count], reply->data, reply->data_len, &skip);
        for (size_t i = 0; i < count; i++) {
            memcpy(to, pieces[i].iov_base, pieces[i].iov_len);
            to += pieces[i].iov_len;
        }
    }
    mutex_unlock(&outbox->lock);
}

/* ---- sleeping ----------------------------------------------------------- */

/* Poll; returns what the socket is ready for, or -ETIMEDOUT. */
static int poll_both(const struct nbd_outbox *outbox, short events,
                     uint64_t deadline_ns)
{
    /* A socket that is asked nothing would still tell of its end. */
    struct pollfd polled[2] = {
        {.fd = events != 0 ? outbox->stream->fd : -1, .events = events},
        {.fd = outbox->wake_fd, .events = POLLIN},
    };
    uint64_t woken;
    int error = stream_wait_fds(polled, 2, deadline_ns);

    if (error < 0)
        return error;
    if (polled[1].revents != 0 &&
        read(outbox->wake_fd, &woken, sizeof(woken)) < 0 && errno != EAGAIN)
        return -errno;
    return polled[0].revents;
}

int nbd_outbox_sleep(struct nbd_outbox *outbox,
                     const struct nbd_outbox_sleep *sleep)
{
    uint64_t deadline_ns = sleep->deadline_ns;
    short events = sleep->for_input ? POLLIN : 0;
    int result;

    if (sleep->for_end)
        events |= POLLRDHUP;
    mutex_lock(&outbox->lock);
    /* What has changed may be all that ever changes. */
    if (can_send_locked(outbox) ||
        (sleep->for_change && outbox->changes != outbox->changes_told)) {
        mutex_unlock(&outbox->lock);
        return 0;
    }
    if (outbox->socket_is_full) {
        events |= POLLOUT;
        if (sleep->full_deadline_ns < deadline_ns)
            deadline_ns = sleep->full_deadline_ns;
    }
    outbox->is_asleep = true;
    outbox->wants_change = sleep->for_change;
    mutex_unlock(&outbox->lock);

    result = poll_both(outbox, events, deadline_ns);

    mutex_lock(&outbox->lock);
    outbox->is_asleep = false;
    if (result > 0 && (result & (POLLOUT | POLLERR | POLLHUP)) != 0)
        outbox->socket_is_full = false;
    mutex_unlock(&outbox->lock);
    return result < 0 ? result : 0;
}
