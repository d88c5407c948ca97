/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A request is in one of these places, and goes down the list:
 *
 *   free        in transmission->free, or in ->returned on the way there
 *   unfinished  transmission->receiving or ->discarding: its payload comes
 *   batch       to be submitted
 *   in flight   the device has it
 *   finished    answered by the connection's own thread, not yet in the queue
 *   queue       its reply is to be sent, or being sent
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
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/stream.h"
#include "cache/device.h"
#include "nbd/nbd_command.h"
#include "nbd/nbd_memory.h"
#include "nbd/nbd_reply.h"
#include "nbd/nbd_server.h"
#include "nbd/nbd_wire.h"

enum {
    BATCH_MAX = 64,             /* requests submitted together */
    ROUND_MAX = 64,             /* replies sent with one call */
    RECEIVE_SIZE = 256 << 10,   /* one receive brings at most this */
    IN_PLACE_MAX = 64 << 10,    /* longer payloads get a buffer of their own */
    ROOM_MIN = 64 << 10,        /* to receive into, else begin a new buffer */
    RECEIVE_AFTER_LARGE = 4096, /* so that little of the next is copied */
    PAGE = 4096,                /* data that a request holds in itself */
};
static_assert(IN_PLACE_MAX + NBD_EXTENDED_REQUEST_SIZE + ROOM_MIN <=
                  RECEIVE_SIZE,
              "a request that is used in place fits, with room");
static_assert(ROUND_MAX * 2 <= STREAM_IOV_MAX, "one send takes a round");

/* Memory that counts for the connection's own share or for the budget. */
struct buffer {
    void *bytes;
    size_t size;
    bool is_shared;
};

/* Received bytes; payloads are used in place, so requests hold them too. */
struct input {
    atomic_size_t holders;
    struct buffer buffer;
};

struct request {
    struct device_request device; /* first: done() gets a pointer to it */
    struct nbd_transmission *transmission;
    struct request *next;
    struct nbd_request wire;
    struct nbd_command command;
    struct input *input;  /* that holds the payload, or NULL */
    struct buffer buffer; /* data of its own, more than a page */
    struct nbd_reply reply;
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
    struct nbd_memory *memory;
    struct nbd_counters *counters;
    unsigned drain_ms, stall_ms;
    int wake_fd;

    /* The connection's own thread alone. */
    pthread_t thread;
    struct input *input;
    size_t start, end; /* of what is received in it and not yet parsed */
    size_t receive_max;
    struct request *receiving; /* a WRITE whose own buffer is being filled */
    size_t received;
    struct request *discarding; /* answered when its payload has passed */
    uint64_t discard_left;
    struct device_request *batch[BATCH_MAX];
    size_t batch_count, batch_writes;
    struct request *finished, **finished_end;
    size_t finished_writes;
    struct request *free;
    size_t outstanding;
    bool input_ended; /* no request is parsed any more */
    bool is_blocked;  /* by a limit, in front of the request at start */
    uint64_t changes_collected; /* ->changes when ->returned was emptied */
    uint64_t changes_seen;      /* the same, when last acted upon */
    struct counts counts; /* of requests finished, to be added up */

    /* Any thread.  The order is the default one: none of it is hot. */
    atomic_bool is_gone; /* the device's client_is_gone */
    atomic_bool is_stopping;
    atomic_bool is_leaving;
    _Atomic uint64_t stop_deadline_ns; /* stored before is_stopping */
    atomic_size_t writes;              /* in flight, that change the device */
    atomic_size_t own_used, shared_used;
    struct nbd_memory_waiter waiter;

    struct mutex lock;
    struct condition writes_ended;
    struct request *queue GUARDED_BY(lock);
    struct request **queue_end GUARDED_BY(lock);
    size_t queue_sent GUARDED_BY(lock); /* of the first reply's bytes */
    struct request *returned GUARDED_BY(lock);
    uint64_t changes GUARDED_BY(lock); /* counts what may end being blocked */
    bool is_sending GUARDED_BY(lock);  /* somebody is, without the lock */
    bool socket_is_full GUARDED_BY(lock); /* only the own thread finds out */
    bool is_broken GUARDED_BY(lock);      /* nothing can be sent any more */
    bool is_sleeping GUARDED_BY(lock);    /* the own thread polls */
    bool wants_changes GUARDED_BY(lock);  /* and not only what to send */
};

static void wake(const struct nbd_transmission *t)
{
    const uint64_t one = 1;

    /* It can only fail by being full, and then it wakes all the same. */
    if (write(t->wake_fd, &one, sizeof(one)) < 0)
        return;
}

static void wake_waiter(struct nbd_memory_waiter *waiter)
{
    const void *t =
        (const char *)waiter - offsetof(struct nbd_transmission, waiter);

    wake(t);
}

/* ---- memory ------------------------------------------------------------- */

static void give_back(struct nbd_transmission *t, struct buffer *buffer)
{
    if (buffer->size == 0)
        return;
    nbd_memory_return(t->memory, buffer->bytes, buffer->size);
    (void)atomic_fetch_sub(buffer->is_shared ? &t->shared_used : &t->own_used,
                           buffer->size);
    if (buffer->is_shared)
        nbd_memory_give(t->memory, buffer->size);
    *buffer = (struct buffer){0};
}

/*
 * Borrow a buffer for len bytes.  -EAGAIN: the limits do not allow it now,
 * which ends with a change or a wake.  The limits are minded by the own
 * thread alone; others only give back.
 */
static int borrow(struct nbd_transmission *t, size_t len, struct buffer *ret)
{
    struct buffer buffer = {.size = nbd_memory_buffer_size(len)};

    buffer.is_shared = atomic_load(&t->own_used) + buffer.size > NBD_OWN_MEMORY;
    if (buffer.is_shared &&
        (atomic_load(&t->shared_used) + buffer.size > NBD_SHARED_MEMORY_MAX ||
         !nbd_memory_take(t->memory, &t->waiter, buffer.size)))
        return -EAGAIN;
    (void)atomic_fetch_add(buffer.is_shared ? &t->shared_used : &t->own_used,
                           buffer.size);
    buffer.bytes = nbd_memory_borrow(t->memory, buffer.size);
    if (!buffer.bytes) {
        give_back(t, &buffer);
        return -ENOMEM;
    }
    *ret = buffer;
    return 0;
}

static int input_new(struct nbd_transmission *t, struct input **ret_input)
{
    AUTO_FREE struct input *input = calloc(1, sizeof(*input));
    int error;

    if (!input)
        return -ENOMEM;
    error = borrow(t, RECEIVE_SIZE, &input->buffer);
    if (error < 0)
        return error;
    atomic_init(&input->holders, 1);
    *ret_input = take_pointer(&input);
    return 0;
}

static void release_input(struct nbd_transmission *t, struct input *input)
{
    if (!input || atomic_fetch_sub(&input->holders, 1) > 1)
        return;
    give_back(t, &input->buffer);
    free(input);
}

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
    request->buffer = (struct buffer){0};
    t->outstanding++;
    return request;
}

/* Put back a request, of the own thread's, that will not be answered. */
static void abandon(struct nbd_transmission *t, struct request *request)
{
    if (!request)
        return;
    give_back(t, &request->buffer);
    request->next = t->free;
    t->free = request;
    t->outstanding--;
}

/* ---- sending ------------------------------------------------------------ */

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

/* Take the first reply off the queue: it was sent, or never will be. */
static void drop_first_locked(struct nbd_transmission *t) REQUIRES(t->lock)
{
    struct request *request = t->queue;

    t->queue = request->next;
    if (!t->queue)
        t->queue_end = &t->queue;
    t->queue_sent = 0;
    give_back(t, &request->buffer);
    request->next = t->returned;
    t->returned = request;
    t->changes++;
}

/* Once nothing can be sent any more, nothing stays in the queue. */
static void settle_locked(struct nbd_transmission *t) REQUIRES(t->lock)
{
    while (t->is_broken && !t->is_sending && t->queue)
        drop_first_locked(t);
}

static void take_sent_locked(struct nbd_transmission *t, size_t sent)
    REQUIRES(t->lock)
{
    t->queue_sent += sent;
    while (t->queue) {
        const struct nbd_reply *reply = &t->queue->reply;
        size_t len = reply->head_len + reply->data_len;
        size_t rest;

        if (t->queue_sent < len)
            return;
        rest = t->queue_sent - len;
        drop_first_locked(t);
        t->queue_sent = rest;
    }
}

/* Add what is left of len bytes behind the first skip to the pieces. */
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

static bool can_send_locked(const struct nbd_transmission *t) REQUIRES(t->lock)
{
    return t->queue && !t->is_sending && !t->socket_is_full && !t->is_broken;
}

/*
 * Send, once and without waiting, from the front of the queue.  The lock is
 * not held meanwhile: others may only append to the queue.
 */
static void send_round_locked(struct nbd_transmission *t) REQUIRES(t->lock)
{
    struct iovec pieces[2 * ROUND_MAX];
    size_t pieces_count = 0, skip = t->queue_sent;
    struct request *request = t->queue;
    ssize_t sent;

    for (int i = 0; i < ROUND_MAX && request; i++, request = request->next) {
        const struct nbd_reply *reply = &request->reply;

        pieces_count += add_piece(&pieces[pieces_count], reply->head,
                                  reply->head_len, &skip);
        pieces_count += add_piece(&pieces[pieces_count], reply->data,
                                  reply->data_len, &skip);
    }
    t->is_sending = true;
    mutex_unlock(&t->lock);
    sent = stream_send(t->stream, pieces, pieces_count, STREAM_NOW);
    mutex_lock(&t->lock);
    t->is_sending = false;
    if (sent == -EAGAIN)
        t->socket_is_full = true;
    else if (sent < 0)
        t->is_broken = true;
    else
        take_sent_locked(t, (size_t)sent);
    settle_locked(t);
}

static void append_locked(struct nbd_transmission *t, struct request *first,
                          struct request **end) REQUIRES(t->lock)
{
    *t->queue_end = first;
    t->queue_end = end;
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

/*
 * The own thread's part of sending: everything, until the socket is full.
 * Returns false when nothing can be sent any more.
 */
static bool send_replies(struct nbd_transmission *t)
{
    bool is_broken;

    add_up(t->counters, &t->counts);
    if (t->finished_writes > 0)
        writes_end(t, t->finished_writes);
    t->finished_writes = 0;
    mutex_lock(&t->lock);
    if (t->finished) {
        append_locked(t, t->finished, t->finished_end);
        t->finished = NULL;
        t->finished_end = &t->finished;
    }
    while (can_send_locked(t))
        send_round_locked(t);
    settle_locked(t);
    while (t->returned) {
        struct request *request = t->returned;

        t->returned = request->next;
        request->next = t->free;
        t->free = request;
        t->outstanding--;
    }
    t->changes_collected = t->changes;
    is_broken = t->is_broken;
    mutex_unlock(&t->lock);
    return !is_broken;
}

/*
 * The part of any other thread, which must not be kept: one round.  What is
 * left then is the own thread's, which is woken if it sleeps; if it does not,
 * it looks into the queue before it does.  After the unlock the transmission
 * may be gone.
 */
static void send_elsewhere(struct nbd_transmission *t, struct request *request)
{
    mutex_lock(&t->lock);
    append_locked(t, request, &request->next);
    t->changes++;
    settle_locked(t);
    if (can_send_locked(t) && !t->stream->one_thread)
        send_round_locked(t);
    if (t->is_sleeping &&
        (t->wants_changes || t->is_broken || (t->queue && !t->is_sending))) {
        t->is_sleeping = false;
        wake(t);
    }
    mutex_unlock(&t->lock);
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

    if (error != NBD_OK)
        nbd_reply_error(&request->reply, session, &request->wire, error, text);
    else if (request->command.verdict == NBD_VERDICT_RUN &&
             request->command.operation == DEVICE_READ)
        nbd_reply_data(&request->reply, session, &request->wire, device->data,
                       (size_t)device->length);
    else if (request->command.verdict == NBD_VERDICT_RUN &&
             request->command.operation == DEVICE_EXTENTS)
        nbd_reply_extents(&request->reply, session, &request->wire,
                          device->extents, device->extents_count);
    else
        nbd_reply_ok(&request->reply, session, &request->wire);
}

/* The own thread has the answer. */
static void finish(struct nbd_transmission *t, struct request *request,
                   uint32_t error, const char *text)
{
    build_reply(request, error, text);
    count_request(&t->counts, request, error);
    request->next = NULL;
    *t->finished_end = request;
    t->finished_end = &request->next;
}

/* The device has the answer: in the own thread, or in any other. */
static void request_done(struct device_request *device, int device_error)
{
    struct request *request = (struct request *)(void *)device;
    struct nbd_transmission *t = request->transmission;
    uint32_t error = nbd_error_of(device_error);
    struct counts counts = {0};

    if (error == NBD_OK && device->operation == DEVICE_EXTENTS &&
        device->extents_count == 0)
        error = NBD_EIO;
    /* What was written is not needed for the reply. */
    release_input(t, request->input);
    request->input = NULL;
    if (device->operation == DEVICE_WRITE)
        give_back(t, &request->buffer);
    if (pthread_equal(pthread_self(), t->thread)) {
        t->finished_writes += request->command.writes;
        finish(t, request, error, text_of(error));
        return;
    }
    build_reply(request, error, text_of(error));
    count_request(&counts, request, error);
    add_up(t->counters, &counts);
    request->next = NULL;
    if (request->command.writes)
        writes_end(t, 1);
    send_elsewhere(t, request);
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
 * as borrow.
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
            int error = borrow(t, (size_t)command->length, &request->buffer);

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
        request->input = t->input;
        (void)atomic_fetch_add(&t->input->holders, 1);
        return 0;
    }
    error = borrow(t, len, &request->buffer);
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
    uint8_t *payload = (uint8_t *)t->input->buffer.bytes + t->start + head_len;
    size_t available = t->end - t->start - head_len;
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
    t->start += head_len + part;
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
    size_t part = t->end - t->start;

    if (part > t->discard_left)
        part = (size_t)t->discard_left;
    t->start += part;
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
    return len <= IN_PLACE_MAX &&
           (wire->type == NBD_CMD_WRITE || wire->type == NBD_CMD_BLOCK_STATUS);
}

/* Parse one request; false if that takes more bytes, or may not be now. */
static bool parse_one(struct nbd_transmission *t)
{
    size_t head_len = nbd_request_size(t->session.extended);
    const uint8_t *at = (const uint8_t *)t->input->buffer.bytes + t->start;
    size_t available = t->end - t->start;
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
    t->receive_max = RECEIVE_SIZE;
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
    t->changes_seen = t->changes_collected;
    while (parse_one(t) && !t->input_ended)
        ;
    submit(t);
}

/* ---- receiving and waiting ---------------------------------------------- */

/*
 * Have room to receive into, and so much behind start that every request
 * that is used in place can be completed there.  -EAGAIN as borrow.
 */
static int make_room(struct nbd_transmission *t)
{
    size_t left = t->end - t->start;
    bool is_held = atomic_load(&t->input->holders) > 1;
    struct input *fresh;
    int error;

    if (left == 0 && !is_held)
        t->start = t->end = 0;
    if (RECEIVE_SIZE - t->end >= ROOM_MIN &&
        RECEIVE_SIZE - t->start >= IN_PLACE_MAX + NBD_EXTENDED_REQUEST_SIZE)
        return 0;
    if (is_held) {
        error = input_new(t, &fresh);
        if (error < 0)
            return error;
        memcpy(fresh->buffer.bytes,
               (uint8_t *)t->input->buffer.bytes + t->start, left);
        release_input(t, t->input);
        t->input = fresh;
    } else {
        memmove(t->input->buffer.bytes,
                (uint8_t *)t->input->buffer.bytes + t->start, left);
    }
    t->start = 0;
    t->end = left;
    return 0;
}

/* The peer cannot be reached any more, or is not worth it. */
static void break_off(struct nbd_transmission *t)
{
    atomic_store(&t->is_gone, true);
    mutex_lock(&t->lock);
    t->is_broken = true;
    settle_locked(t);
    mutex_unlock(&t->lock);
}

static void take_received(struct nbd_transmission *t, size_t got)
{
    struct request *request = t->receiving;

    if (!request) {
        t->end += got;
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
        int error = make_room(t);

        if (error == -EAGAIN) {
            t->is_blocked = true;
            return false;
        }
        if (error < 0) {
            hang_up(t, "there is no memory to receive into");
            return true;
        }
        to = (uint8_t *)t->input->buffer.bytes + t->end;
        len = RECEIVE_SIZE - t->end;
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

/* Returns until when wait() may poll; *ret_stall: whether that is a stall. */
static uint64_t poll_deadline(const struct nbd_transmission *t, bool is_full,
                              uint64_t deadline_ns, bool *ret_stall)
{
    uint64_t stall_ns;

    *ret_stall = false;
    if (atomic_load(&t->shared_used) == 0 || (!is_full && !t->receiving))
        return deadline_ns;
    stall_ns = clock_monotonic_ns() + (uint64_t)t->stall_ms * 1000000U;
    if (stall_ns >= deadline_ns)
        return deadline_ns;
    *ret_stall = true;
    return stall_ns;
}

/* Poll; returns what the socket is ready for, or -ETIMEDOUT. */
static int poll_both(struct nbd_transmission *t, bool is_full,
                     uint64_t deadline_ns)
{
    short events = (short)((is_full ? POLLOUT : 0) |
                           (t->input_ended || t->is_blocked ? 0 : POLLIN));
    /* A socket that is asked nothing would still tell of its end. */
    struct pollfd polled[2] = {
        {.fd = events != 0 ? t->stream->fd : -1, .events = events},
        {.fd = t->wake_fd, .events = POLLIN},
    };
    uint64_t woken;
    int error = stream_wait_fds(polled, 2, deadline_ns);

    if (error < 0)
        return error;
    if (polled[1].revents != 0 && read(t->wake_fd, &woken, sizeof(woken)) < 0 &&
        errno != EAGAIN)
        return -errno;
    return polled[0].revents;
}

/*
 * Sleep until something can be received or sent, or what blocks has changed.
 * -ETIMEDOUT past the deadline, also that of a stall which others suffer.
 */
static int wait_for_change(struct nbd_transmission *t, uint64_t deadline_ns)
{
    bool is_full, is_stall;
    int result;

    mutex_lock(&t->lock);
    /* What changed since we last looked may be all that ever changes. */
    if (can_send_locked(t) ||
        ((t->is_blocked || t->input_ended) && t->changes != t->changes_seen)) {
        mutex_unlock(&t->lock);
        return 0;
    }
    is_full = t->socket_is_full;
    t->is_sleeping = true;
    t->wants_changes = t->is_blocked || t->input_ended;
    mutex_unlock(&t->lock);

    deadline_ns = poll_deadline(t, is_full, deadline_ns, &is_stall);
    result = poll_both(t, is_full, deadline_ns);

    mutex_lock(&t->lock);
    t->is_sleeping = false;
    if (result > 0 && (result & (POLLOUT | POLLERR | POLLHUP)) != 0)
        t->socket_is_full = false;
    mutex_unlock(&t->lock);
    if (result == -ETIMEDOUT && is_stall &&
        !nbd_memory_is_short(t->memory, &t->waiter))
        return 0;
    return result < 0 ? result : 0;
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
    t->memory = options->memory;
    t->counters = options->counters;
    t->drain_ms = options->drain_ms;
    t->stall_ms = options->stall_ms;
    t->receive_max = RECEIVE_SIZE;
    t->finished_end = &t->finished;
    t->queue_end = &t->queue;
    t->waiter.wake = wake_waiter;
    mutex_init(&t->lock);
    condition_init(&t->writes_ended);
    t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = t->wake_fd < 0 ? -errno : input_new(t, &t->input);
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
    release_input(t, t->input);
    if (t->wake_fd >= 0)
        (void)close(t->wake_fd);
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
    nbd_memory_leave(t->memory, &t->waiter);
    abandon(t, take_pointer(&t->receiving));
    abandon(t, take_pointer(&t->discarding));
    for (;;) {
        bool can_send = send_replies(t);

        t->changes_seen = t->changes_collected;
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
    if (send_replies(t))
        (void)stream_finish(t->stream, deadline_ns);
    return result;
}

int nbd_transmission_run(struct nbd_transmission *t)
{
    t->thread = pthread_self();
    while (!t->input_ended && !atomic_load(&t->is_stopping) &&
           !atomic_load(&t->is_gone)) {
        parse(t);
        if (!send_replies(t) || t->input_ended)
            break;
        /* With nothing outstanding nobody else has a reason to wake us. */
        if (t->outstanding == 0 && !t->is_blocked)
            (void)receive(t, STREAM_FOREVER);
        else if (t->is_blocked || !receive(t, STREAM_NOW)) {
            if (wait_for_change(t, STREAM_FOREVER) < 0)
                break_off(t);
        }
    }
    return drain(t);
}

void nbd_transmission_stop(struct nbd_transmission *t, uint64_t deadline_ns)
{
    atomic_store(&t->stop_deadline_ns, deadline_ns);
    atomic_store(&t->is_stopping, true);
    (void)shutdown(t->stream->fd, SHUT_RD);
    wake(t);
}

void nbd_transmission_drop(struct nbd_transmission *t)
{
    break_off(t);
    stream_shutdown(t->stream);
    wake(t);
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
