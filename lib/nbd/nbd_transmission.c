/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A request is in one of these places, and goes down the list:
 *
 *   free        in transmission->free
 *   unfinished  transmission->receiving or ->discarding: its payload comes
 *   batch       to be submitted
 *   in flight   the device has it
 *   finished    answered by the connection's own thread
 *   outbox      its reply is to be sent, is being sent, or was
 *
 * All that are not free are counted in ->outstanding, and their number is
 * bounded: a client that does not read its replies, or sends more than the
 * device takes, is not read from any more.  The same holds for bytes.
 *
 * Nothing waits in the socket's calls but in one place (receive), and there
 * only when no request is outstanding, so that no other thread can have a
 * reason to wake it but stop and drop, which shut the socket down.
 */
#include "nbd/nbd_transmission.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/stream.h"
#include "cache/device.h"
#include "nbd/nbd_command.h"
#include "nbd/nbd_inbox.h"
#include "nbd/nbd_outbox.h"
#include "nbd/nbd_reply.h"
#include "nbd/nbd_server.h"
#include "nbd/nbd_share.h"
#include "nbd/nbd_wire.h"

enum {
    BATCH_MAX = 64,             /* requests submitted together */
    RECEIVE_AFTER_LARGE = 4096, /* so that little of the next is copied */
    PAGE = 4096,                /* data that a request holds in itself */
};

struct request {
    struct device_request device; /* first: done() gets a pointer to it */
    struct nbd_transmission *transmission;
    struct request *next; /* that is free */
    struct nbd_request wire;
    struct nbd_command command;
    struct nbd_input *input;  /* that holds the payload, or NULL */
    struct nbd_buffer buffer; /* data of its own, more than a page */
    struct nbd_outgoing outgoing;
    _Alignas(64) uint8_t page[PAGE];
};

/* What nbd_counters count, of one batch. */
struct counts {
    uint64_t requests, errors, bytes_read, bytes_written;
};

struct nbd_transmission {
    /* Set before it runs, and then only read. */
    struct stream *stream;
    struct nbd_session session;
    struct device *device;
    uint64_t size;
    bool read_only;
    struct nbd_counters *counters;
    unsigned drain_ms, stall_ms;
    struct nbd_outbox *outbox;

    /* The connection's own thread alone. */
    pthread_t thread;
    struct nbd_inbox inbox;
    size_t receive_max;
    struct request *receiving; /* a WRITE whose own buffer is being filled */
    size_t received;
    struct request *discarding; /* answered when its payload has passed */
    uint64_t discard_left;
    struct device_request *batch[BATCH_MAX];
    size_t batch_count, batch_writes;
    struct nbd_outgoing *finished, **finished_end;
    size_t finished_writes;
    struct request *free;
    size_t outstanding;
    bool input_ended;     /* no request is parsed any more */
    bool is_blocked;      /* by a limit, in front of the next request */
    struct counts counts; /* of requests finished, to be added up */

    /* Any thread.  The order is the default one: none of it is hot. */
    struct nbd_share share;
    atomic_bool is_gone; /* the device's client_is_gone */
    atomic_bool is_stopping;
    atomic_bool is_leaving;
    _Atomic uint64_t stop_deadline_ns; /* stored before is_stopping */
    atomic_size_t writes;              /* in flight, that change the device */
    struct mutex lock;                 /* of the condition alone */
    struct condition writes_ended;
};

static struct request *request_of(struct nbd_outgoing *outgoing)
{
    void *request = (char *)outgoing - offsetof(struct request, outgoing);

    return request;
}

/* A share of the memory may be had now. */
static void wake_waiter(struct nbd_memory_waiter *waiter)
{
    const void *t =
        (const char *)waiter - offsetof(struct nbd_transmission, share.waiter);

    nbd_outbox_wake(((const struct nbd_transmission *)t)->outbox);
}

/* ---- requests ----------------------------------------------------------- */

/* Returns a request of which only the transmission is set, or NULL. */
static struct request *take_request(struct nbd_transmission *t)
{
    struct request *request = t->free;

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
    t->outstanding++;
    return request;
}

/* Put back a request, of the own thread's, that will not be answered. */
static void abandon(struct nbd_transmission *t, struct request *request)
{
    if (!request)
        return;
    nbd_share_return(&t->share, &request->buffer);
    request->next = t->free;
    t->free = request;
    t->outstanding--;
}

/* ---- counting and sending
 * ------------------------------------------------------------ */

static void count_request(struct counts *counts, const struct request *request,
                          uint32_t error)
{
    counts->requests++;
    if (error != NBD_OK)
        counts->errors++;
    else if (request->wire.type == NBD_CMD_READ)
        counts->bytes_read += request->wire.length;
    else if (request->wire.type == NBD_CMD_WRITE)
        counts->bytes_written += request->wire.length;
}

static void add_number(_Atomic uint64_t *to, uint64_t number)
{
    if (number > 0)
        (void)atomic_fetch_add_explicit(to, number, memory_order_relaxed);
}

static void add_up(struct nbd_counters *counters, struct counts *counts)
{
    add_number(&counters->requests, counts->requests);
    add_number(&counters->errors, counts->errors);
    add_number(&counters->bytes_read, counts->bytes_read);
    add_number(&counters->bytes_written, counts->bytes_written);
    *counts = (struct counts){0};
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

/* A reply was sent, or never will be: its data are not needed any more. */
static void release_data(struct nbd_outgoing *outgoing)
{
    struct request *request = request_of(outgoing);

    nbd_share_return(&request->transmission->share, &request->buffer);
}

/* Put requests back whose replies have left the outbox. */
static void collect(struct nbd_transmission *t, struct nbd_outgoing *released)
{
    while (released) {
        struct request *request = request_of(released);

        released = released->next;
        request->next = t->free;
        t->free = request;
        t->outstanding--;
    }
}

/* Send what is finished, and what others left in the outbox. */
static struct nbd_outbox_news send_replies(struct nbd_transmission *t)
{
    struct nbd_outbox_news news;

    add_up(t->counters, &t->counts);
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

static const char *text_of(uint32_t error)
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

static void build_reply(struct request *request, uint32_t error,
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

/* The own thread has the answer. */
static void finish(struct nbd_transmission *t, struct request *request,
                   uint32_t error, const char *text)
{
    build_reply(request, error, text);
    count_request(&t->counts, request, error);
    *t->finished_end = &request->outgoing;
    t->finished_end = &request->outgoing.next;
}

/* The device has the answer: in the own thread, or in any other. */
static void request_done(struct device_request *device, int device_error)
{
    struct request *request = (struct request *)(void *)device;
    struct nbd_transmission *t = request->transmission;
    uint32_t error = nbd_error_of(device_error);
    struct counts counts = {0};

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
        finish(t, request, error, text_of(error));
        return;
    }
    build_reply(request, error, text_of(error));
    count_request(&counts, request, error);
    add_up(t->counters, &counts);
    if (request->command.writes)
        writes_end(t, 1);
    nbd_outbox_post(t->outbox, &request->outgoing);
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
    device_submit(t->device, t->batch, batch_count);
}

static void add_to_batch(struct nbd_transmission *t, struct request *request)
{
    t->batch[t->batch_count++] = &request->device;
    t->batch_writes += request->command.writes;
    if (t->batch_count == BATCH_MAX)
        submit(t);
}

/*
 * Fill in what the device is asked, but a WRITE's data.  -EAGAIN and -ENOMEM
 * as nbd_share_borrow.
 */
static int prepare(struct nbd_transmission *t, struct request *request)
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
    device->client_is_gone = &t->is_gone;
    device->done = request_done;
    if (command->operation == DEVICE_EXTENTS) {
        device->extents = (struct device_extent *)(void *)request->page;
        device->extents_max = PAGE / sizeof(struct device_extent);
    } else if (command->operation == DEVICE_READ) {
        device->data = request->page;
        if (command->length > PAGE) {
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
static int attach_payload(struct nbd_transmission *t, struct request *request,
                          uint8_t *from, size_t available)
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
static bool start_request(struct nbd_transmission *t, struct request *request,
                          size_t head_len, size_t payload_len)
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
            abandon(t, request);
            return false;
        }
        if (error < 0) {
            request->command.verdict = NBD_VERDICT_ANSWER;
            request->command.error = NBD_ENOMEM;
            request->command.text = text_of(NBD_ENOMEM);
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
        finish(t, request, request->command.error, request->command.text);
    }
    return true;
}

/* Drop received bytes of a payload that nobody wants. */
static bool discard(struct nbd_transmission *t)
{
    struct request *request = t->discarding;
    size_t part;

    (void)nbd_inbox_bytes(&t->inbox, &part);
    if (part > t->discard_left)
        part = (size_t)t->discard_left;
    nbd_inbox_take(&t->inbox, part);
    t->discard_left -= part;
    if (t->discard_left > 0)
        return false;
    t->discarding = NULL;
    finish(t, request, request->command.error, request->command.text);
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
    struct request *request;
    uint64_t payload_len;

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
        &t->session, t->size, t->read_only, &wire,
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
    request = take_request(t);
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
    t->is_blocked = false;
    while (parse_one(t) && !t->input_ended)
        ;
    submit(t);
}

/* ---- receiving and waiting ---------------------------------------------- */

/* The peer cannot be reached any more, or is not worth it. */
static void break_off(struct nbd_transmission *t)
{
    atomic_store(&t->is_gone, true);
    nbd_outbox_break(t->outbox);
}

static void take_received(struct nbd_transmission *t, size_t got)
{
    struct request *request = t->receiving;

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

/* Receive; false if nothing came that changes what can be done now. */
static bool receive(struct nbd_transmission *t, uint64_t deadline_ns)
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
    got = stream_receive(t->stream, to, len, deadline_ns);
    if (got == -EAGAIN)
        return false;
    if (got > 0) {
        take_received(t, (size_t)got);
        return true;
    }
    t->input_ended = true;
    /* Stopping ends a TLS stream in mid-air, but only one way. */
    if (got < 0 && !atomic_load(&t->is_stopping))
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
        .for_change = t->input_ended || t->is_blocked,
        .deadline_ns = deadline_ns,
        .full_deadline_ns = STREAM_FOREVER,
    };
    int error;

    if (nbd_share_is_used(&t->share)) {
        sleep.full_deadline_ns =
            clock_monotonic_ns() + (uint64_t)t->stall_ms * 1000000U;
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
    t->size = device_size(export->device);
    t->read_only = export->read_only || device_is_read_only(export->device);
    t->counters = options->counters;
    t->drain_ms = options->drain_ms;
    t->stall_ms = options->stall_ms;
    t->receive_max = NBD_INBOX_SIZE;
    t->finished_end = &t->finished;
    nbd_share_init(&t->share, options->memory, wake_waiter);
    mutex_init(&t->lock);
    condition_init(&t->writes_ended);
    error = nbd_outbox_new(t->stream, release_data, &t->outbox);
    if (error == 0)
        error = nbd_inbox_init(&t->inbox, &t->share);
    if (error < 0) {
        nbd_transmission_free(t);
        return error;
    }
    *ret_transmission = t;
    return 0;
}

void nbd_transmission_free(struct nbd_transmission *t)
{
    if (!t)
        return;
    assert(t->outstanding == 0);
    while (t->free) {
        struct request *request = t->free;

        t->free = request->next;
        free(request);
    }
    nbd_inbox_done(&t->inbox);
    nbd_outbox_free(t->outbox);
    condition_done(&t->writes_ended);
    mutex_done(&t->lock);
    free(t);
}

/* Answer what is in flight, as long as that can be and may be. */
static int drain(struct nbd_transmission *t)
{
    uint64_t deadline_ns =
        clock_monotonic_ns() + (uint64_t)t->drain_ms * 1000000U;
    bool is_expelled = false;
    int result = 0;

    t->input_ended = true;
    nbd_share_leave(&t->share);
    abandon(t, take_pointer(&t->receiving));
    abandon(t, take_pointer(&t->discarding));
    for (;;) {
        bool can_send = !send_replies(t).is_broken;

        if (t->outstanding == 0)
            break;
        if (!can_send && !is_expelled) {
            atomic_store(&t->is_gone, true);
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
    if (!send_replies(t).is_broken)
        (void)stream_finish(t->stream, deadline_ns);
    return result;
}

int nbd_transmission_run(struct nbd_transmission *t)
{
    t->thread = pthread_self();
    while (!t->input_ended && !atomic_load(&t->is_stopping) &&
           !atomic_load(&t->is_gone)) {
        struct nbd_outbox_news news;

        parse(t);
        news = send_replies(t);
        if (news.is_broken || t->input_ended)
            break;
        /* What blocked the parser may just have ended. */
        if (t->is_blocked && news.has_changed)
            continue;
        /* With nothing outstanding nobody else has a reason to wake us. */
        if (t->outstanding == 0 && !t->is_blocked)
            (void)receive(t, STREAM_FOREVER);
        else if (t->is_blocked || !receive(t, STREAM_NOW)) {
            if (wait_for_change(t, STREAM_FOREVER) < 0) {
                hang_up(t, "no progress, and others need its memory");
                break_off(t);
            }
        }
    }
    return drain(t);
}

void nbd_transmission_stop(struct nbd_transmission *t, uint64_t deadline_ns)
{
    atomic_store(&t->stop_deadline_ns, deadline_ns);
    atomic_store(&t->is_stopping, true);
    (void)shutdown(t->stream->fd, SHUT_RD);
    nbd_outbox_wake(t->outbox);
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
