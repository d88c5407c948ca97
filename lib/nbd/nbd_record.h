/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_record - a connection between two requests of any kind, as bytes: what
 * goes with its socket to the process that serves it next.
 *
 * The requests that were received and not run are kept as the bytes that the
 * client sent; so whoever goes on parses them as if they came now.
 *
 * Pure.  Nothing that is read is believed; what was read lies in the bytes
 * that it was read from.
 */
#ifndef NBD_RECORD_H
#define NBD_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/device.h"
#include "nbd/nbd_share.h"
#include "nbd/nbd_wire.h"

enum {
    /* What requests may take of memory, and then their heads. */
    NBD_RECORD_REQUESTS_MAX =
        NBD_OWN_MEMORY + NBD_SHARED_MEMORY_MAX + (1 << 20),
    /* With so many of an earlier record unsent, more may be added. */
    NBD_RECORD_REPLIES_FEW = 1 << 20,
    /* What replies may take of memory, and hold in themselves. */
    NBD_RECORD_REPLIES_MAX = NBD_RECORD_REPLIES_FEW + NBD_OWN_MEMORY +
                             NBD_SHARED_MEMORY_MAX + (2 << 20),
};

struct nbd_record {
    const char *name;        /* of the export */
    const char *incarnation; /* of its device, see device_incarnation */
    /* Of struct nbd_session. */
    bool structured, extended, block_status, is_durable;
    bool has_ended;  /* nothing comes behind ->requests */
    bool is_leaving; /* the client has said good-bye */
    /* A request whose payload is dropped as it comes, then answered. */
    bool is_discarding;
    struct nbd_request discarded;
    uint64_t discard_left;  /* bytes of its payload that are still to come */
    uint64_t discard_at;    /* they begin here in ->requests, or behind them */
    uint32_t discard_error; /* NBD_E... */
    const uint8_t *replies; /* to be sent before all others */
    size_t replies_len;
    const uint8_t *requests; /* received, and not run */
    size_t requests_len;
};

/* Returns how many bytes the record takes. */
size_t nbd_record_size(const struct nbd_record *record);

/*
 * Write all but replies and requests, of which only the lengths are looked
 * at, to nbd_record_size() bytes, and tell where the caller has to put these.
 */
void nbd_record_begin(const struct nbd_record *record, uint8_t *to,
                      uint8_t **ret_replies, uint8_t **ret_requests);

/* Write the checksum, when everything is there. */
void nbd_record_seal(uint8_t *bytes, size_t len);

/* Read a record: exactly len bytes.  -EPROTO if they are none. */
int nbd_record_read(const uint8_t *bytes, size_t len,
                    struct nbd_record *ret_record);

#endif
