/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_command - what a request asks for, checked against what the export has
 * and what was agreed upon.
 *
 * Pure.
 */
#ifndef NBD_COMMAND_H
#define NBD_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/device.h"
#include "nbd/nbd_handshake.h"
#include "nbd/nbd_wire.h"

/* Block status with more bytes of context numbers than this is refused. */
enum { NBD_CONTEXT_PAYLOAD_MAX = 1 << 16 };

enum nbd_verdict {
    NBD_VERDICT_RUN,        /* give it to the device */
    NBD_VERDICT_ANSWER,     /* answer at once, with .error (or NBD_OK) */
    NBD_VERDICT_DISCONNECT, /* the client says good-bye */
    NBD_VERDICT_HANG_UP,    /* what follows in the stream cannot be told */
};

struct nbd_command {
    enum nbd_verdict verdict;
    uint32_t error;   /* NBD_E... */
    const char *text; /* the same in words, for people */
    /* For RUN. */
    enum device_operation operation;
    unsigned flags; /* of device_flags */
    uint64_t offset;
    uint64_t length;
    bool writes; /* changes the device */
};

/* Returns how many bytes of payload follow the request's head. */
uint64_t nbd_command_payload_len(const struct nbd_session *session,
                                 const struct nbd_request *request);

/*
 * Check a request to an export of size bytes.  payload is needed only for a
 * BLOCK_STATUS that has one of at most NBD_CONTEXT_PAYLOAD_MAX bytes.  After
 * any verdict but HANG_UP, the payload is part of the request: it has to be
 * taken off the stream also when it is not used.
 */
struct nbd_command nbd_command_check(const struct nbd_session *session,
                                     uint64_t size, bool read_only,
                                     const struct nbd_request *request,
                                     const uint8_t *payload);

#endif
