/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_inbox.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "nbd/nbd_protocol.h"

enum {
    ROOM_MIN = 64 << 10, /* to receive into, else begin anew */
    WHOLE_MAX = NBD_EXTENDED_REQUEST_SIZE + NBD_INBOX_IN_PLACE_MAX,
};
static_assert(WHOLE_MAX + ROOM_MIN <= NBD_INBOX_SIZE,
              "what is left of a request, and room behind it, fit together");

struct nbd_input {
    atomic_size_t holders; /* the inbox, and requests in flight */
    struct nbd_buffer buffer;
};

static int input_new(struct nbd_share *share, struct nbd_input **ret_input)
{
    AUTO_FREE struct nbd_input *input = calloc(1, sizeof(*input));
    int error;

    if (!input)
        return -ENOMEM;
    error = nbd_share_borrow(share, NBD_INBOX_SIZE, &input->buffer);
    if (error < 0)
        return error;
    atomic_init(&input->holders, 1);
    *ret_input = take_pointer(&input);
    return 0;
}

void nbd_input_release(struct nbd_share *share, struct nbd_input *input)
{
    if (!input || atomic_fetch_sub(&input->holders, 1) > 1)
        return;
    nbd_share_return(share, &input->buffer);
    free(input);
}

int nbd_inbox_init(struct nbd_inbox *inbox, struct nbd_share *share)
{
    *inbox = (struct nbd_inbox){.share = share};
    return input_new(share, &inbox->input);
}

void nbd_inbox_done(struct nbd_inbox *inbox)
{
    nbd_input_release(inbox->share, inbox->input);
    inbox->input = NULL;
}

uint8_t *nbd_inbox_bytes(const struct nbd_inbox *inbox, size_t *ret_len)
{
    *ret_len = inbox->end - inbox->start;
    return (uint8_t *)inbox->input->buffer.bytes + inbox->start;
}

void nbd_inbox_take(struct nbd_inbox *inbox, size_t len)
{
    assert(len <= inbox->end - inbox->start);
    inbox->start += len;
}

struct nbd_input *nbd_inbox_hold(struct nbd_inbox *inbox)
{
    (void)atomic_fetch_add(&inbox->input->holders, 1);
    return inbox->input;
}

/* Begin at the front again: in other memory, if somebody holds this. */
static int begin_anew(struct nbd_inbox *inbox, bool is_held)
{
    struct nbd_input *fresh = inbox->input;
    size_t left;
    const uint8_t *bytes = nbd_inbox_bytes(inbox, &left);
    int error;

    if (is_held) {
        error = input_new(inbox->share, &fresh);
        if (error < 0)
            return error;
    }
    memmove(fresh->buffer.bytes, bytes, left);
    if (is_held)
        nbd_input_release(inbox->share, inbox->input);
    inbox->input = fresh;
    inbox->start = 0;
    inbox->end = left;
    return 0;
}

int nbd_inbox_room(struct nbd_inbox *inbox, uint8_t **ret_to, size_t *ret_len)
{
    bool is_held = atomic_load(&inbox->input->holders) > 1;
    int error;

    if (inbox->start == inbox->end && !is_held)
        inbox->start = inbox->end = 0;
    if (NBD_INBOX_SIZE - inbox->end < ROOM_MIN ||
        NBD_INBOX_SIZE - inbox->start < WHOLE_MAX) {
        error = begin_anew(inbox, is_held);
        if (error < 0)
            return error;
    }
    *ret_to = (uint8_t *)inbox->input->buffer.bytes + inbox->end;
    *ret_len = NBD_INBOX_SIZE - inbox->end;
    return 0;
}

void nbd_inbox_received(struct nbd_inbox *inbox, size_t len)
{
    assert(len <= NBD_INBOX_SIZE - inbox->end);
    inbox->end += len;
}
