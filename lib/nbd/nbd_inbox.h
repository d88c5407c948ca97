/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_inbox - received bytes, from which requests are parsed, and payloads
 * used in place.
 *
 * Who uses bytes in place holds what they lie in; meanwhile receiving goes on
 * behind them, or in memory of its own.  Threads: one; any may release.
 */
#ifndef NBD_INBOX_H
#define NBD_INBOX_H

#include <stddef.h>
#include <stdint.h>

#include "nbd/nbd_share.h"

enum {
    NBD_INBOX_SIZE = 256 << 10,        /* one receive brings at most this */
    NBD_INBOX_IN_PLACE_MAX = 64 << 10, /* payloads that are waited for whole */
};

/* Memory that holds received bytes, as long as anybody holds it. */
struct nbd_input;

struct nbd_inbox {
    struct nbd_share *share;
    struct nbd_input *input;
    size_t start, end; /* of what was received and not yet taken */
};

/* Make ready; -EAGAIN and -ENOMEM as nbd_share_borrow. */
int nbd_inbox_init(struct nbd_inbox *inbox, struct nbd_share *share);

/* Release what it holds; one that is all zero holds nothing. */
void nbd_inbox_done(struct nbd_inbox *inbox);

/* Returns the bytes that are not yet taken, and how many there are. */
uint8_t *nbd_inbox_bytes(const struct nbd_inbox *inbox, size_t *ret_len);

/* Take len of them off. */
void nbd_inbox_take(struct nbd_inbox *inbox, size_t len);

/* Returns what the bytes lie in, which the caller holds from now on. */
struct nbd_input *nbd_inbox_hold(struct nbd_inbox *inbox);

/* Hold it no more; any thread; NULL does nothing. */
void nbd_input_release(struct nbd_share *share, struct nbd_input *input);

/*
 * Find room to receive into, behind the bytes that are there, such that a
 * request with a payload of NBD_INBOX_IN_PLACE_MAX can be completed.  The
 * bytes may move, if nobody holds them.  -EAGAIN, -ENOMEM: as
 * nbd_share_borrow.
 */
int nbd_inbox_room(struct nbd_inbox *inbox, uint8_t **ret_to, size_t *ret_len);

/* As many bytes were received into the room. */
void nbd_inbox_received(struct nbd_inbox *inbox, size_t len);

#endif
