/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_reply - a finished request to the bytes that answer it, in the form
 * that was agreed upon: simple, structured, or extended.
 *
 * Pure.
 */
#ifndef NBD_REPLY_H
#define NBD_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "cache/device.h"
#include "nbd/nbd_handshake.h"
#include "nbd/nbd_wire.h"

enum {
    NBD_REPLY_TEXT_MAX = 80, /* of an error; what is longer is cut */
    NBD_REPLY_HEAD_MAX = NBD_EXTENDED_CHUNK_SIZE + 6 + NBD_REPLY_TEXT_MAX,
};

/* What to send: the head, then the data. */
struct nbd_reply {
    size_t head_len;
    size_t data_len;
    const void *data; /* belongs to whoever built the reply */
    uint8_t head[NBD_REPLY_HEAD_MAX];
};

/* Returns what a negative errno (or 0) of the device is on the wire. */
uint32_t nbd_error_of(int error);

/* Build the reply to a request that failed; text says it to people. */
void nbd_reply_error(struct nbd_reply *reply, const struct nbd_session *session,
                     const struct nbd_request *request, uint32_t error,
                     const char *text);

/* Build the reply to a request that succeeded and brings nothing back. */
void nbd_reply_ok(struct nbd_reply *reply, const struct nbd_session *session,
                  const struct nbd_request *request);

/*
 * Build the reply to a READ of len bytes at offset, more than 0, which must
 * stay at data until the reply was sent.
 */
void nbd_reply_data(struct nbd_reply *reply, const struct nbd_session *session,
                    const struct nbd_request *request, const void *data,
                    size_t len);

/*
 * Build the reply to a BLOCK_STATUS, from count extents, at least one.  They
 * are turned into the reply's data where they are, and must stay until it was
 * sent.
 */
void nbd_reply_extents(struct nbd_reply *reply,
                       const struct nbd_session *session,
                       const struct nbd_request *request,
                       struct device_extent *extents, size_t count);

#endif
