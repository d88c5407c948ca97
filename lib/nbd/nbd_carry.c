/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_carry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "nbd/nbd_exports.h"
#include "nbd/nbd_pending.h"

/* ---- out ---------------------------------------------------------------- */

/* A place to write to; without one, bytes are only counted. */
struct writer {
    uint8_t *to;
    size_t len;
};

static void put_bytes(struct writer *writer, const void *bytes, size_t len)
{
    if (writer->to && len > 0)
        memcpy(writer->to + writer->len, bytes, len);
    writer->len += len;
}

static void put_head(const struct nbd_transmission *t, struct writer *writer,
                     const struct nbd_request *wire)
{
    uint8_t head[NBD_EXTENDED_REQUEST_SIZE];

    put_bytes(writer, head, nbd_put_request(head, t->session.extended, wire));
}

/* A request as the client sent it. */
static void put_kept(const struct nbd_transmission *t, struct writer *writer,
                     const struct nbd_pending *request)
{
    uint8_t contexts[12];

    put_head(t, writer, &request->wire);
    if (request->command.operation == DEVICE_WRITE) {
        put_bytes(writer, request->device.data, (size_t)request->device.length);
    } else if (nbd_command_payload_len(&t->session, &request->wire) > 0) {
        /* Of BLOCK_STATUS: what it is about, and the only context. */
        put_be64(contexts, request->command.length);
        put_be32(contexts + 8, NBD_CONTEXT_ALLOCATION);
        put_bytes(writer, contexts, sizeof(contexts));
    }
}

/* What was received and not run; returns where a dropped payload continues. */
static size_t put_requests(struct nbd_transmission *t, struct writer *writer)
{
    const struct nbd_record *carried = &t->carried.record;
    size_t rest = carried->requests_len - t->carried.requests_taken;
    const uint8_t *unparsed;
    size_t len, discard_at;

    mutex_lock(&t->lock);
    for (const struct nbd_pending *request = t->kept; request;
         request = request->next)
        put_kept(t, writer, request);
    mutex_unlock(&t->lock);
    discard_at = writer->len;
    if (t->input_ended)
        return discard_at;
    if (t->receiving) {
        put_head(t, writer, &t->receiving->wire);
        put_bytes(writer, t->receiving->device.data, t->received);
    }
    unparsed = nbd_inbox_bytes(&t->inbox, &len);
    put_bytes(writer, unparsed, len);
    if (carried->is_discarding)
        discard_at = writer->len +
                     (size_t)(carried->discard_at - t->carried.requests_taken);
    if (rest > 0)
        put_bytes(writer, carried->requests + t->carried.requests_taken, rest);
    return discard_at;
}

static void describe_discard(const struct nbd_transmission *t,
                             struct nbd_record *record)
{
    const struct nbd_record *carried = &t->carried.record;

    if (t->input_ended)
        return;
    if (t->discarding) {
        record->is_discarding = true;
        record->discarded = t->discarding->wire;
        record->discard_left = t->discard_left;
        record->discard_error = t->discarding->command.error;
    } else if (carried->is_discarding) {
        record->is_discarding = true;
        record->discarded = carried->discarded;
        record->discard_left = carried->discard_left;
        record->discard_error = carried->discard_error;
    }
}

int nbd_carry_out(struct nbd_transmission *t, uint8_t **ret_bytes,
                  size_t *ret_len)
{
    char incarnation[DEVICE_INCARNATION_SIZE];
    struct writer count = {.to = NULL}, writer = {.to = NULL};
    struct nbd_record record = {
        .name = t->session.export->name,
        .incarnation = incarnation,
        .structured = t->session.structured,
        .extended = t->session.extended,
        .block_status = t->session.block_status,
        .is_durable = t->session.is_durable,
        .has_ended = t->input_ended || t->carried.record.has_ended,
        .is_leaving = atomic_load(&t->is_leaving),
    };
    uint8_t *bytes, *replies;
    size_t len;

    assert(t->is_paused);
    device_incarnation(t->device, incarnation);
    describe_discard(t, &record);
    record.discard_at = put_requests(t, &count);
    record.requests_len = count.len;
    record.replies_len = nbd_outbox_unsent(t->outbox);
    len = nbd_record_size(&record);
    bytes = malloc(len);
    if (!bytes)
        return -ENOMEM;
    nbd_record_begin(&record, bytes, &replies, &writer.to);
    nbd_outbox_copy_unsent(t->outbox, replies);
    (void)put_requests(t, &writer);
    nbd_record_seal(bytes, len);
    *ret_bytes = bytes;
    *ret_len = len;
    return 0;
}

/* ---- in ----------------------------------------------------------------- */

void nbd_carry_in(struct nbd_transmission *t, uint8_t *bytes,
                  const struct nbd_record *record)
{
    t->carried.bytes = bytes;
    t->carried.record = *record;
    if (record->is_leaving)
        atomic_store(&t->is_leaving, true);
}

void nbd_carry_done(struct nbd_transmission *t)
{
    free(t->carried.bytes);
    t->carried = (struct nbd_carried){.bytes = NULL};
}

/* Free the bytes once nobody looks at them. */
static void settle(struct nbd_carried *carried)
{
    if (carried->replies ||
        carried->requests_taken < carried->record.requests_len)
        return;
    free(carried->bytes);
    carried->bytes = NULL;
}

int nbd_carry_begin(struct nbd_transmission *t)
{
    struct nbd_carried *carried = &t->carried;

    if (carried->bytes && carried->record.replies_len > 0) {
        struct nbd_pending *request = nbd_pending_take(t);

        if (!request)
            return -ENOMEM;
        request->outgoing.reply.head_len = 0;
        request->outgoing.reply.data = carried->record.replies;
        request->outgoing.reply.data_len = carried->record.replies_len;
        carried->replies = request;
        *t->finished_end = &request->outgoing;
        t->finished_end = &request->outgoing.next;
    }
    settle(carried);
    return 0;
}

bool nbd_carry_is_full(const struct nbd_transmission *t)
{
    return t->carried.replies &&
           t->carried.record.replies_len > NBD_RECORD_REPLIES_FEW;
}

void nbd_carry_sent(struct nbd_transmission *t,
                    const struct nbd_pending *request)
{
    if (!t->carried.replies || t->carried.replies != request)
        return;
    t->carried.replies = NULL;
    settle(&t->carried);
}

/* Returns how many bytes can be taken before something else is to be done. */
static size_t bytes_left(const struct nbd_carried *carried)
{
    size_t end = carried->record.is_discarding
                     ? (size_t)carried->record.discard_at
                     : carried->record.requests_len;

    return end - carried->requests_taken;
}

bool nbd_carry_has_input(const struct nbd_transmission *t)
{
    return bytes_left(&t->carried) > 0 || t->carried.record.has_ended;
}

size_t nbd_carry_receive(struct nbd_transmission *t, uint8_t *to, size_t len)
{
    struct nbd_carried *carried = &t->carried;
    size_t part = bytes_left(carried);

    if (part > len)
        part = len;
    if (part == 0)
        return 0;
    memcpy(to, carried->record.requests + carried->requests_taken, part);
    carried->requests_taken += part;
    settle(carried);
    return part;
}

int nbd_carry_discard(struct nbd_transmission *t)
{
    struct nbd_carried *carried = &t->carried;
    struct nbd_pending *request;
    size_t unparsed;

    (void)nbd_inbox_bytes(&t->inbox, &unparsed);
    if (!carried->record.is_discarding || bytes_left(carried) > 0 ||
        unparsed > 0 || t->receiving)
        return 0;
    request = nbd_pending_take(t);
    if (!request)
        return -EAGAIN;
    request->wire = carried->record.discarded;
    request->command = (struct nbd_command){
        .verdict = NBD_VERDICT_ANSWER,
        .error = carried->record.discard_error,
        .text = nbd_pending_text(carried->record.discard_error),
    };
    t->discarding = request;
    t->discard_left = carried->record.discard_left;
    carried->record.is_discarding = false;
    return 0;
}
