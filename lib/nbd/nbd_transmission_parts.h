/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_transmission_parts - what a transmission consists of.
 *
 * For nbd_transmission.c, nbd_pending.c and nbd_carry.c only; others see
 * nbd_transmission.h.
 */
#ifndef NBD_TRANSMISSION_PARTS_H
#define NBD_TRANSMISSION_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mutex.h"
#include "cache/device.h"
#include "nbd/nbd_handshake.h"
#include "nbd/nbd_inbox.h"
#include "nbd/nbd_outbox.h"
#include "nbd/nbd_record.h"
#include "nbd/nbd_share.h"
#include "nbd/nbd_tally.h"
#include "nbd/nbd_transmission.h"

struct nbd_pending;

enum { NBD_BATCH_MAX = 64 }; /* requests submitted together */

/*
 * What came with the socket from the process before us; see nbd_carry.h.  Of
 * the record, .has_ended and .is_discarding hold until they were acted upon.
 */
struct nbd_carried {
    uint8_t *bytes; /* that the record lies in; NULL: it was all used */
    struct nbd_record record;
    size_t requests_taken;       /* bytes of record.requests */
    struct nbd_pending *replies; /* that stands for record.replies */
};

struct nbd_transmission {
    /* Set before it runs, and then only read. */
    struct stream *stream;
    struct nbd_session session;
    struct device *device;
    bool read_only;
    struct nbd_tally *tally;
    unsigned drain_ms, stall_ms;
    bool (*is_given_up)(void *context);
    void *context;
    struct nbd_outbox *outbox;

    /* The connection's own thread alone. */
    pthread_t thread;
    struct nbd_inbox inbox;
    size_t receive_max;
    struct nbd_pending *receiving; /* a WRITE whose own buffer is filled */
    size_t received;
    struct nbd_pending *discarding; /* answered when its payload has passed */
    uint64_t discard_left;
    struct device_request *batch[NBD_BATCH_MAX];
    size_t batch_count, batch_writes;
    struct nbd_outgoing *finished, **finished_end;
    size_t finished_writes;
    struct nbd_pending *free;
    size_t outstanding;
    bool input_ended;     /* no request is parsed any more */
    bool is_blocked;      /* by a limit, in front of the next request */
    bool is_paused;       /* it has run, and can be handed over */
    bool end_is_seen;     /* of the client, behind what is not read yet */
    uint64_t received_ns; /* when the last bytes came */
    struct nbd_carried carried;

    /* Any thread.  The order is the default one: none of it is hot. */
    struct nbd_share share;
    atomic_bool is_gone;        /* the client */
    atomic_bool is_expelled;    /* the device's client_is_gone */
    atomic_bool is_forsaken;    /* the client asks elsewhere by now */
    atomic_bool is_handed_over; /* what is canceled is kept, unless forsaken */
    atomic_bool is_stopping;
    atomic_bool is_leaving;
    _Atomic uint64_t stop_deadline_ns; /* stored before is_stopping */
    atomic_size_t writes;              /* in flight, that change the device */
    struct mutex lock;
    struct condition writes_ended;
    struct nbd_pending *kept GUARDED_BY(lock);      /* to be handed over, */
    struct nbd_pending **kept_end GUARDED_BY(lock); /* as they came back */
    size_t kept_count GUARDED_BY(lock);
};

#endif
