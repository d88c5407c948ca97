/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_transmission - receive, run, reply: what follows the handshake.
 *
 * Second of the five files of a request: nbd_connection.c before it,
 * device.c after it.
 *
 * The connection's thread parses every request that one receive brought and
 * submits them together; what the device answers at once is sent with one
 * call.  What it answers later is sent by the thread that finished it, if the
 * socket takes it without waiting, else by the connection's own: a client
 * that does not read its replies stops nobody but itself.
 *
 * Threads: nbd_transmission_run is the connection's thread; the other
 * functions may be called by any, while it runs too.
 * Locks: one of its own, taken after none, under which nothing else is.
 */
#ifndef NBD_TRANSMISSION_H
#define NBD_TRANSMISSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "nbd/nbd_handshake.h"

struct nbd_memory;
struct nbd_record;
struct nbd_tally;
struct nbd_transmission;
struct stream;

enum { NBD_IN_FLIGHT_MAX = 256 }; /* requests of one connection */

struct nbd_transmission_options {
    struct stream *stream; /* stays the caller's */
    struct nbd_session session;
    struct nbd_memory *memory;
    struct nbd_tally *tally; /* where its requests are counted */
    unsigned drain_ms;       /* for the last replies, when no request follows */
    unsigned stall_ms; /* without progress, while others need the memory */
    /*
     * Nothing more comes of a client that has not said good-bye: whether it
     * may ask again elsewhere what it asked here, so that nothing may wait for
     * its place in the journal any longer.  NULL: no.
     */
    bool (*is_given_up)(void *context);
    void *context;
    /*
     * What to go on from, or NULL; and the bytes that it lies in, which belong
     * to the transmission when it could be made, and are freed by it.
     */
    const struct nbd_record *carried;
    uint8_t *carried_bytes;
};

/* What nbd_transmission_run returns, beside 0 and errors. */
enum { NBD_TRANSMISSION_PAUSED = 1 };

/* Make ready what nbd_transmission_run needs. */
int nbd_transmission_new(const struct nbd_transmission_options *options,
                         struct nbd_transmission **ret_transmission);

/*
 * Serve until the client leaves, breaks the protocol, or is stopped, dropped
 * or handed over.  When it returns no request is in flight.  -ETIMEDOUT: some
 * were not answered, because a deadline was over.  NBD_TRANSMISSION_PAUSED: it
 * can be handed over, and its socket was not shut down.
 */
int nbd_transmission_run(struct nbd_transmission *transmission);

/* Free it after it has run, or before, when nobody else knows it.  NULL:
 * nothing. */
void nbd_transmission_free(struct nbd_transmission *transmission);

/*
 * Read no more requests; those that run are answered, but nothing is sent
 * past the deadline.
 */
void nbd_transmission_stop(struct nbd_transmission *transmission,
                           uint64_t deadline_ns);

/*
 * Not over TLS: read no more, have what is in flight end, and then pause.
 * What the device cancels is kept.
 */
void nbd_transmission_hand_over(struct nbd_transmission *transmission);

/*
 * While it is handed over: have the next device_expel cancel what has no place
 * in the journal.
 */
void nbd_transmission_expel(struct nbd_transmission *transmission);

/*
 * When it has paused, by any thread: make a record (see nbd_record.h) of what
 * a successor needs besides the socket, which the caller frees.  -ENOMEM.
 */
int nbd_transmission_record(struct nbd_transmission *transmission,
                            uint8_t **ret_bytes, size_t *ret_len);

/*
 * The client is gone: run nothing more and send nothing more.  Its requests
 * without a place in the journal are dropped by the next device_expel.
 */
void nbd_transmission_drop(struct nbd_transmission *transmission);

/* Whether the client has said good-bye: it expects what it sent to be done. */
bool nbd_transmission_is_leaving(const struct nbd_transmission *transmission);

/* Whether a request that changes the device is in flight. */
bool nbd_transmission_has_writes(const struct nbd_transmission *transmission);

/*
 * Wait until no request that changes the device is in flight; to be called
 * after nbd_transmission_drop.  -ETIMEDOUT past the deadline.
 */
int nbd_transmission_wait_writes(struct nbd_transmission *transmission,
                                 uint64_t deadline_ns);

#endif
