/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_pending.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/clock.h"
#include "nbd/nbd_carry.h"
#include "nbd/nbd_reply.h"

static struct nbd_pending *request_of(struct nbd_outgoing *outgoing)
{
    void *request = (char *)outgoing - offsetof(struct nbd_pending, outgoing);

    return request;
}

/* ---- taking and putting back -------------------------------------------- */

struct nbd_pending *nbd_pending_take(struct nbd_transmission *t)
{
    struct nbd_pending *request = t->free;

    if (t->outstanding >= NBD_IN_FLIGHT_MAX)
        return NULL;
    if (request) {
        t->free = request->next;
    } else {
        request = aligned_alloc(64, sizeof(*request));
        if (!request)
            return NULL;
        request->transmission = t;
    }
    request->next = NULL;
    request->input = NULL;
    request->buffer = (struct nbd_buffer){0};
    request->begun_ns = t->received_ns;
    t->outstanding++;
    return request;
}

static void put_back(struct nbd_transmission *t, struct nbd_pending *request)
{
    request->next = t->free;
    t->free = request;
    t->outstanding--;
}

void nbd_pending_abandon(struct nbd_transmission *t,
                         struct nbd_pending *request)
{
    if (!request)
        return;
    nbd_input_release(&t->share, request->input);
    nbd_share_return(&t->share, &request->buffer);
    put_back(t, request);
}

void nbd_pending_abandon_kept(struct nbd_transmission *t)
{
    struct nbd_pending *kept;

    mutex_lock(&t->lock);
    kept = t->kept;
    t->kept = NULL;
    t->kept_end = &t->kept;
    t->kept_count = 0;
    mutex_unlock(&t->lock);
    while (kept) {
        struct nbd_pending *request = kept;

        kept = request->next;
        nbd_pending_abandon(t, request);
    }
}

/* ---- counting and sending ----------------------------------------------- */

static void count_request(const struct nbd_pending *request, uint32_t error)
{
    nbd_tally_count(request->transmission->tally, request->wire.type, error,
                    request->wire.length,
                    clock_monotonic_ns() - request->begun_ns);
}

/* As many requests that change the device are not in flight any more. */
static void writes_end(struct nbd_transmission *t, size_t number)
{
    (void)atomic_fetch_sub(&t->writes, number);
    /* Whoever waits has set is_gone before it looked at the number. */
    if (atomic_load(&t->is_gone)) {
        mutex_lock(&t->lock);
        condition_broadcast(&t->writes_ended);
        mutex_unlock(&t->lock);
    }
}

void nbd_pending_release(struct nbd_outgoing *outgoing)
{
    struct nbd_pending *request = request_of(outgoing);

    nbd_share_return(&request->transmission->share, &request->buffer);
}

/* Put requests back whose replies have left the outbox. */
static void collect(struct nbd_transmission *t, struct nbd_outgoing *released)
{
    while (released) {
        struct nbd_pending *request = request_of(released);

        released = released->next;
        nbd_carry_sent(t, request);
        put_back(t, request);
    }
}

struct nbd_outbox_news nbd_pending_send(struct nbd_transmission *t)
{
    struct nbd_outbox_news news;

    if (t->finished_writes > 0)
        writes_end(t, t->finished_writes);
    t->finished_writes = 0;
    news = nbd_outbox_send(t->outbox, t->finished, t->finished_end);
    t->finished = NULL;
    t->finished_end = &t->finished;
    collect(t, news.released);
    return news;
}

/* ---- finishing ---------------------------------------------------------- */

const char *nbd_pending_text(uint32_t error)
{
    switch (error) {
    case NBD_EIO:
        return "input/output error; the server's log says more";
    case NBD_ENOSPC:
        return "no space left";
    case NBD_ENOMEM:
        return "the server is out of memory";
    case NBD_EPERM:
        return "the device is read-only";
    case NBD_ESHUTDOWN:
        return "the server is stopping";
    default:
        return "the device refused this";
    }
}

static void build_reply(struct nbd_pending *request, uint32_t error,
                        const char *text)
{
    const struct nbd_session *session = &request->transmission->session;
    const struct device_request *device = &request->device;
    struct nbd_reply *reply = &request->outgoing.reply;

    if (error != NBD_OK)
        nbd_reply_error(reply, session, &request->wire, error, text);
    else if (request->command.verdict == NBD_VERDICT_RUN &&
             request->command.operation == DEVICE_READ)
        nbd_reply_data(reply, session, &request->wire, device->data,
                       (size_t)device->length);
    else if (request->command.verdict == NBD_VERDICT_RUN &&
             request->command.operation == DEVICE_EXTENTS)
        nbd_reply_extents(reply, session, &request->wire, device->extents,
                          device->extents_count);
    else
        nbd_reply_ok(reply, session, &request->wire);
}

void nbd_pending_finish(struct nbd_transmission *t, struct nbd_pending *request,
                        uint32_t error, const char *text)
{
    build_reply(request, error, text);
    count_request(request, error);
    *t->finished_end = &request->outgoing;
    t->finished_end = &request->outgoing.next;
}

/*
 * It was neither carried out nor did it fail: whoever goes on for us runs it.
 * The own thread may end as soon as it can see that.
 */
static void keep(struct nbd_transmission *t, struct nbd_pending *request)
{
    if (request->command.writes)
        writes_end(t, 1);
    mutex_lock(&t->lock);
    request->next = NULL;
    *t->kept_end = request;
    t->kept_end = &request->next;
    t->kept_count++;
    nbd_outbox_wake(t->outbox);
    mutex_unlock(&t->lock);
}

void nbd_pending_done(struct device_request *device, int device_error)
{
    struct nbd_pending *request = (struct nbd_pending *)(void *)device;
    struct nbd_transmission *t = request->transmission;
    uint32_t error = nbd_error_of(device_error);

    nbd_tally_leave(t->tally);
    if (device_error == -ECANCELED && atomic_load(&t->is_handed_over) &&
        !atomic_load(&t->is_gone) && !atomic_load(&t->is_forsaken)) {
        keep(t, request);
        return;
    }
    /* It was not carried out, and must not seem to have failed. */
    if (device_error == -ECANCELED)
        nbd_transmission_drop(t);
    if (error == NBD_OK && device->operation == DEVICE_EXTENTS &&
        device->extents_count == 0)
        error = NBD_EIO;
    /* What was written is not needed for the reply. */
    nbd_input_release(&t->share, request->input);
    request->input = NULL;
    if (device->operation == DEVICE_WRITE)
        nbd_share_return(&t->share, &request->buffer);
    if (pthread_equal(pthread_self(), t->thread)) {
        t->finished_writes += request->command.writes;
        nbd_pending_finish(t, request, error, nbd_pending_text(error));
        return;
    }
    build_reply(request, error, nbd_pending_text(error));
    count_request(request, error);
    if (request->command.writes)
        writes_end(t, 1);
    nbd_outbox_post(t->outbox, &request->outgoing);
}

/*
 * The three numbers are not of one moment, but what leaves the device can
 * only make it seem to have more.
 */
size_t nbd_pending_in_flight(struct nbd_transmission *t)
{
    size_t others = (t->receiving ? 1U : 0U) + (t->discarding ? 1U : 0U);

    mutex_lock(&t->lock);
    others += t->kept_count;
    mutex_unlock(&t->lock);
    return t->outstanding - others - nbd_outbox_count(t->outbox);
}
