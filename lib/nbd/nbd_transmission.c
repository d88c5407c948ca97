/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The number of requests that are outstanding is bounded: a client that does
 * not read its replies, or sends more than the device takes, is not read from
 * any more.  The same holds for bytes.
 *
 * Nothing waits long in the calls of the stream, only in the outbox, where
 * whoever stops or hands over the connection wakes it: the socket is shut down
 * by nothing but drop.  A TLS stream whose socket ended would not send replies.
 */
#include "nbd/nbd_transmission.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/stream.h"
#include "cache/device.h"
#include "nbd/nbd_carry.h"
#include "nbd/nbd_exports.h"
#include "nbd/nbd_pending.h"
#include "nbd/nbd_transmission_parts.h"

enum { RECEIVE_AFTER_LARGE = 4096 }; /* so that little more is copied */

/* A share of the memory may be had now. */
static void wake_waiter(struct nbd_memory_waiter *waiter)
{
    const void *t =
        (const char *)waiter - offsetof(struct nbd_transmission, share.waiter);

    nbd_outbox_wake(((const struct nbd_transmission *)t)->outbox);
}

/* ---- parsing ------------------------------------------------------------ */

/* Give the batch to the device. */
static void submit(struct nbd_transmission *t)
{
    size_t batch_count = t->batch_count;

    if (batch_count == 0)
        return;
    if (t->batch_writes > 0)
        (void)atomic_fetch_add(&t->writes, t->batch_writes);
    t->batch_count = 0;
    t->batch_writes = 0;
    nbd_tally_enter(t->tally, batch_count);
    device_submit(t->device, t->batch, batch_count);
}

static void add_to_batch(struct nbd_transmission *t,
                         struct nbd_pending *request)
{
    t->batch[t->batch_count++] = &request->device;
    t->batch_writes += request->command.writes;
    if (t->batch_count == NBD_BATCH_MAX)
        submit(t);
}

/*
 * Fill in what the device is asked, but a WRITE's data.  -EAGAIN and -ENOMEM
 * as nbd_share_borrow.
 */
static int prepare(struct nbd_transmission *t, struct nbd_pending *request)
{
    const struct nbd_command *command = &request->command;
    struct device_request *device = &request->device;

    device->operation = command->operation;
    device->flags = command->flags;
    device->offset = command->offset;
    device->length = command->length;
    device->data = NULL;
    device->extents = NULL;
    device->extents_max = 0;
    device->extents_count = 0;
    device->client_is_gone = &t->is_expelled;
    device->done = nbd_pending_done;
    if (command->operation == DEVICE_EXTENTS) {
        device->extents = (struct device_extent *)(void *)request->page;
        device->extents_max = NBD_PENDING_PAGE / sizeof(struct device_extent);
    } else if (command->operation == DEVICE_READ) {
        device->data = request->page;
        if (command->length > NBD_PENDING_PAGE) {
            int error = nbd_share_borrow(&t->share, (size_t)command->length,
                                         &request->buffer);

            if (error < 0)
                return error;
            device->data = request->buffer.bytes;
        }
    }
    return 0;
}

/*
 * Attach a WRITE's payload, of which available bytes are at from: in place if
 * that is all of it, else in a buffer of its own, which receive() fills.
 */
static int attach_payload(struct nbd_transmission *t,
                          struct nbd_pending *request, uint8_t *from,
                          size_t available)
{
    size_t len = (size_t)request->device.length;
    int error;

    if (available >= len) {
        request->device.data = from;
        request->input = nbd_inbox_hold(&t->inbox);
        return 0;
    }
    error = nbd_share_borrow(&t->share, len, &request->buffer);
    if (error < 0)
        return error;
    request->device.data = request->buffer.bytes;
    memcpy(request->buffer.bytes, from, available);
    t->receiving = request;
    t->received = available;
    return 0;
}

/* What follows cannot be read: say so, answer what was asked before, end. */
static void hang_up(struct nbd_transmission *t, const char *why)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (log_limit_allows(&limit, &left_out))
        log_warning("%s: closing a connection: %s (%llu more not shown)",
                    t->session.export->name, why, (unsigned long long)left_out);
    t->input_ended = true;
}

/* Run, or answer, a request whose head_len bytes are the next received. */
static bool start_request(struct nbd_transmission *t,
                          struct nbd_pending *request, size_t head_len,
                          size_t payload_len)
{
    size_t len;
    uint8_t *payload = nbd_inbox_bytes(&t->inbox, &len) + head_len;
    size_t available = len - head_len;
    size_t part = available < payload_len ? available : payload_len;
    int error = 0;

    if (request->command.verdict == NBD_VERDICT_RUN) {
        error = prepare(t, request);
        if (error == 0 && request->command.operation == DEVICE_WRITE)
            error = attach_payload(t, request, payload, available);
        if (error == -EAGAIN) {
            nbd_pending_abandon(t, request);
            return false;
        }
        if (error < 0) {
            request->command.verdict = NBD_VERDICT_ANSWER;
            request->command.error = NBD_ENOMEM;
            request->command.text = nbd_pending_text(NBD_ENOMEM);
        }
    }
    nbd_inbox_take(&t->inbox, head_len + part);
    if (request->command.verdict == NBD_VERDICT_RUN) {
        if (!t->receiving)
            add_to_batch(t, request);
    } else if (part < payload_len) {
        t->discarding = request;
        t->discard_left = payload_len - part;
    } else {
        nbd_pending_finish(t, request, request->command.error,
                           request->command.text);
    }
    return true;
}

/* Drop received bytes of a payload that nobody wants. */
static bool discard(struct nbd_transmission *t)
{
    struct nbd_pending *request = t->discarding;
    size_t part;

    (void)nbd_inbox_bytes(&t->inbox, &part);
    if (part > t->discard_left)
        part = (size_t)t->discard_left;
    nbd_inbox_take(&t->inbox, part);
    t->discard_left -= part;
    if (t->discard_left > 0)
        return false;
    t->discarding = NULL;
    nbd_pending_finish(t, request, request->command.error,
                       request->command.text);
    return true;
}

/* Whether a payload is used only once all of it was received. */
static bool is_used_in_place(const struct nbd_request *wire, uint64_t len)
{
    return len <= NBD_INBOX_IN_PLACE_MAX &&
           (wire->type == NBD_CMD_WRITE || wire->type == NBD_CMD_BLOCK_STATUS);
}

/* Parse one request; false if that takes more bytes, or may not be now. */
static bool parse_one(struct nbd_transmission *t)
{
    size_t head_len = nbd_request_size(t->session.extended);
    size_t available;
    const uint8_t *at = nbd_inbox_bytes(&t->inbox, &available);
    struct nbd_request wire;
    struct nbd_command command;
    struct nbd_pending *request;
    uint64_t payload_len;

    if (!t->discarding && nbd_carry_discard(t) < 0) {
        t->is_blocked = true;
        return false;
    }
    if (t->discarding)
        return discard(t);
    if (t->receiving || available < head_len)
        return false;
    if (nbd_get_request(at, t->session.extended, &wire) < 0) {
        hang_up(t, "what it sent is no request");
        return false;
    }
    payload_len = nbd_command_payload_len(&t->session, &wire);
    if (is_used_in_place(&wire, payload_len) &&
        available - head_len < payload_len)
        return false;
    command = nbd_command_check(
        &t->session, device_size(t->device), t->read_only, &wire,
        payload_len <= available - head_len ? at + head_len : NULL);
    if (command.verdict == NBD_VERDICT_HANG_UP) {
        hang_up(t, "a payload that is too long, or not announced");
        return false;
    }
    if (command.verdict == NBD_VERDICT_DISCONNECT) {
        atomic_store(&t->is_leaving, true);
        t->input_ended = true;
        return false;
    }
    request = nbd_pending_take(t);
    if (!request && t->outstanding == 0) {
        hang_up(t, "there is no memory for a request");
        return false;
    }
    t->receive_max = NBD_INBOX_SIZE;
    if (request) {
        request->wire = wire;
        request->command = command;
    }
    t->is_blocked =
        !request || !start_request(t, request, head_len, (size_t)payload_len);
    return !t->is_blocked;
}

static void parse(struct nbd_transmission *t)
{
    t->is_blocked = nbd_carry_is_full(t);
    while (!t->is_blocked && parse_one(t) && !t->input_ended)
        ;
    submit(t);
}

/* ---- receiving and waiting ---------------------------------------------- */

/* The peer cannot be reached any more, or is not worth it. */
static void break_off(struct nbd_transmission *t)
{
    atomic_store(&t->is_gone, true);
    atomic_store(&t->is_expelled, true);
    nbd_outbox_break(t->outbox);
}

/* The client ended the connection, or its direction of it. */
static void note_end(struct nbd_transmission *t)
{
    if (atomic_load(&t->is_leaving) || !t->is_given_up ||
        !t->is_given_up(t->context))
        return;
    /* What was done is answered, if anybody still listens. */
    atomic_store(&t->is_forsaken, true);
    atomic_store(&t->is_expelled, true);
    t->input_ended = true;
}

/*
 * A limit keeps us from reading: look whether the end is behind what was not
 * read, which must not run after what the client asks elsewhere by now.
 */
static void look_for_end(struct nbd_transmission *t)
{
    if (!t->is_blocked || t->end_is_seen ||
        stream_wait_fd(t->stream->fd, POLLRDHUP, STREAM_NOW) != 0)
        return;
    t->end_is_seen = true;
    note_end(t);
}

static void take_received(struct nbd_transmission *t, size_t got)
{
    struct nbd_pending *request = t->receiving;

    if (!request) {
        nbd_inbox_received(&t->inbox, got);
        return;
    }
    t->received += got;
    if (t->received < request->device.length)
        return;
    t->receiving = NULL;
    t->receive_max = RECEIVE_AFTER_LARGE;
    add_to_batch(t, request);
}

/*
 * Receive what is there or, of an idle client, what comes soon; false if
 * nothing came that changes what can be done now.
 */
static bool receive(struct nbd_transmission *t, bool is_idle)
{
    uint8_t *to;
    size_t len;
    ssize_t got;

    if (t->receiving) {
        to = (uint8_t *)t->receiving->device.data + t->received;
        len = (size_t)t->receiving->device.length - t->received;
    } else {
        int error = nbd_inbox_room(&t->inbox, &to, &len);

        if (error == -EAGAIN) {
            t->is_blocked = true;
            return false;
        }
        if (error < 0) {
            hang_up(t, "there is no memory to receive into");
            return true;
        }
        if (len > t->receive_max)
            len = t->receive_max;
    }
    got = nbd_carry_has_input(t)
              ? (ssize_t)nbd_carry_receive(t, to, len)
              : stream_receive(t->stream, to, len,
                               is_idle ? STREAM_SOON : STREAM_NOW);
    if (got == -EAGAIN)
        return false;
    if (got > 0) {
        t->received_ns = clock_monotonic_ns();
        take_received(t, (size_t)got);
        return true;
    }
    t->input_ended = true;
    if (got == 0)
        note_end(t);
    else
        break_off(t);
    return true;
}

/*
 * Sleep until something can be received or sent, or what blocks has changed.
 * -ETIMEDOUT past the deadline; also after a while without progress, if
 * others stand in line for the memory that this connection has.
 */
static int wait_for_change(struct nbd_transmission *t, uint64_t deadline_ns)
{
    struct nbd_outbox_sleep sleep = {
        .for_input = !t->input_ended && !t->is_blocked,
        .for_end = t->is_blocked && !t->input_ended && !t->end_is_seen &&
                   !atomic_load(&t->is_handed_over),
        .for_change = t->input_ended || t->is_blocked,
        .deadline_ns = deadline_ns,
        .full_deadline_ns = STREAM_FOREVER,
    };
    int error;

    if (nbd_share_is_used(&t->share)) {
        sleep.full_deadline_ns = clock_after_ms(t->stall_ms);
        if (t->receiving && sleep.full_deadline_ns < deadline_ns)
            sleep.deadline_ns = sleep.full_deadline_ns;
    }
    error = nbd_outbox_sleep(t->outbox, &sleep);
    if (error == -ETIMEDOUT && clock_monotonic_ns() < deadline_ns &&
        !nbd_share_is_missed(&t->share))
        return 0;
    return error;
}

/* ---- the whole ---------------------------------------------------------- */

int nbd_transmission_new(const struct nbd_transmission_options *options,
                         struct nbd_transmission **ret_transmission)
{
    const struct nbd_export *export = options->session.export;
    struct nbd_transmission *t = calloc(1, sizeof(*t));
    int error;

    if (!t)
        return -ENOMEM;
    t->stream = options->stream;
    t->session = options->session;
    t->device = export->device;
    t->read_only = export->read_only || device_is_read_only(export->device);
    t->tally = options->tally;
    t->received_ns = clock_monotonic_ns();
    t->drain_ms = options->drain_ms;
    t->stall_ms = options->stall_ms;
    t->is_given_up = options->is_given_up;
    t->context = options->context;
    t->receive_max = NBD_INBOX_SIZE;
    t->finished_end = &t->finished;
    t->kept_end = &t->kept;
    nbd_share_init(&t->share, options->memory, wake_waiter);
    mutex_init(&t->lock);
    condition_init(&t->writes_ended);
    error = nbd_outbox_new(t->stream, nbd_pending_release, &t->outbox);
    if (error == 0)
        error = nbd_inbox_init(&t->inbox, &t->share);
    if (error < 0) {
        nbd_transmission_free(t);
        return error;
    }
    if (options->carried)
        nbd_carry_in(t, options->carried_bytes, options->carried);
    *ret_transmission = t;
    return 0;
}

/* Let go of what was to be handed over. */
static void forget(struct nbd_transmission *t)
{
    nbd_outbox_break(t->outbox);
    (void)nbd_pending_send(t);
    nbd_pending_abandon_kept(t);
    nbd_pending_abandon(t, take_pointer(&t->receiving));
    nbd_pending_abandon(t, take_pointer(&t->discarding));
}

void nbd_transmission_free(struct nbd_transmission *t)
{
    if (!t)
        return;
    if (t->is_paused)
        forget(t);
    assert(t->outstanding == 0);
    nbd_carry_done(t);
    while (t->free) {
        struct nbd_pending *request = t->free;

        t->free = request->next;
        free(request);
    }
    nbd_inbox_done(&t->inbox);
    nbd_outbox_free(t->outbox);
    condition_done(&t->writes_ended);
    mutex_done(&t->lock);
    free(t);
}

/*
 * To be handed over: wait until the device has no request any more.  Returns
 * false if the client is gone by then.
 */
static bool pause_all(struct nbd_transmission *t)
{
    t->is_blocked = true;
    nbd_share_leave(&t->share);
    for (;;) {
        if (nbd_pending_send(t).is_broken || atomic_load(&t->is_gone))
            return false;
        if (nbd_pending_in_flight(t) == 0)
            break;
        /* The server has the deadline. */
        (void)wait_for_change(t, STREAM_FOREVER);
    }
    nbd_outbox_pause(t->outbox);
    t->is_paused = true;
    return true;
}

/* Answer what is in flight, as long as that can be and may be. */
static int drain(struct nbd_transmission *t)
{
    uint64_t deadline_ns = clock_after_ms(t->drain_ms);
    bool is_expelled = false;
    int result = 0;

    t->input_ended = true;
    nbd_share_leave(&t->share);
    nbd_pending_abandon(t, take_pointer(&t->receiving));
    nbd_pending_abandon(t, take_pointer(&t->discarding));
    if (atomic_load(&t->is_forsaken))
        device_expel(t->device);
    for (;;) {
        bool can_send = !nbd_pending_send(t).is_broken;

        if (atomic_load(&t->is_handed_over) && pause_all(t))
            return NBD_TRANSMISSION_PAUSED;
        nbd_pending_abandon_kept(t);
        if (t->outstanding == 0)
            break;
        if (!can_send && !is_expelled) {
            break_off(t);
            device_expel(t->device);
            is_expelled = true;
            continue;
        }
        if (atomic_load(&t->is_stopping))
            deadline_ns = atomic_load(&t->stop_deadline_ns);
        /* What the device has must come back, however long that takes. */
        if (wait_for_change(t, can_send ? deadline_ns : STREAM_FOREVER) < 0) {
            break_off(t);
            result = -ETIMEDOUT;
        }
    }
    if (!nbd_pending_send(t).is_broken)
        (void)stream_finish(t->stream, deadline_ns);
    return result;
}

/*
 * Receive, or sleep until that may be possible, or something else.  -ETIMEDOUT
 * as wait_for_change.
 */
static int receive_or_sleep(struct nbd_transmission *t)
{
    /*
     * With nothing outstanding, nobody has a reason to wake us but who stops
     * or hands over the connection: that can wait as long as it may take to
     * receive.  To sleep would be a system call more for each request of a
     * client that has one in flight.
     */
    if (!t->is_blocked && receive(t, t->outstanding == 0))
        return 0;
    return wait_for_change(t, STREAM_FOREVER);
}

int nbd_transmission_run(struct nbd_transmission *t)
{
    t->thread = pthread_self();
    if (nbd_carry_begin(t) < 0)
        break_off(t);
    while (!t->input_ended && !atomic_load(&t->is_stopping) &&
           !atomic_load(&t->is_gone) && !atomic_load(&t->is_handed_over)) {
        struct nbd_outbox_news news;

        look_for_end(t);
        if (t->input_ended)
            break;
        parse(t);
        news = nbd_pending_send(t);
        if (news.is_broken || t->input_ended)
            break;
        /* What blocked the parser may just have ended. */
        if (t->is_blocked && news.has_changed)
            continue;
        if (receive_or_sleep(t) < 0) {
            hang_up(t, "no progress, and others need its memory");
            break_off(t);
        }
    }
    /* It may have ended between a payload and the parser. */
    submit(t);
    if (atomic_load(&t->is_handed_over) && pause_all(t))
        return NBD_TRANSMISSION_PAUSED;
    return drain(t);
}

void nbd_transmission_stop(struct nbd_transmission *t, uint64_t deadline_ns)
{
    atomic_store(&t->stop_deadline_ns, deadline_ns);
    atomic_store(&t->is_stopping, true);
    nbd_outbox_wake(t->outbox);
}

void nbd_transmission_hand_over(struct nbd_transmission *t)
{
    atomic_store(&t->is_handed_over, true);
    nbd_outbox_wake(t->outbox);
}

void nbd_transmission_expel(struct nbd_transmission *t)
{
    atomic_store(&t->is_expelled, true);
}

int nbd_transmission_record(struct nbd_transmission *t, uint8_t **ret_bytes,
                            size_t *ret_len)
{
    return nbd_carry_out(t, ret_bytes, ret_len);
}

void nbd_transmission_drop(struct nbd_transmission *t)
{
    break_off(t);
    stream_shutdown(t->stream);
}

bool nbd_transmission_is_leaving(const struct nbd_transmission *t)
{
    return atomic_load(&t->is_leaving);
}

bool nbd_transmission_has_writes(const struct nbd_transmission *t)
{
    return atomic_load(&t->writes) > 0;
}

int nbd_transmission_wait_writes(struct nbd_transmission *t,
                                 uint64_t deadline_ns)
{
    int error = 0;

    mutex_lock(&t->lock);
    while (error == 0 && atomic_load(&t->writes) > 0) {
        if (!condition_wait_until(&t->writes_ended, &t->lock, deadline_ns))
            error = -ETIMEDOUT;
    }
    mutex_unlock(&t->lock);
    return error;
}
