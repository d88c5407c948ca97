/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_pending - a request of a transmission, from when its head was received
 * to when its reply was sent.
 *
 * It is in one of these places, and goes down the list:
 *
 *   free        in transmission->free
 *   unfinished  transmission->receiving or ->discarding: its payload comes
 *   batch       to be submitted
 *   in flight   the device has it
 *   kept        the device gave it back, neither run nor failed, and it is to
 *               be handed over: in transmission->kept
 *   finished    answered by the connection's own thread
 *   outbox      its reply is to be sent, is being sent, or was
 *
 * All that are not free are counted in ->outstanding.
 *
 * For nbd_transmission.c and nbd_carry.c.  Threads: the connection's own, but
 * for nbd_pending_done.  Locks: those of transmission and outbox, leaves.
 */
#ifndef NBD_PENDING_H
#define NBD_PENDING_H

#include "nbd/nbd_command.h"
#include "nbd/nbd_transmission_parts.h"

enum { NBD_PENDING_PAGE = 4096 }; /* data that a request holds in itself */

struct nbd_pending {
    struct device_request device; /* first: done() gets a pointer to it */
    struct nbd_transmission *transmission;
    struct nbd_pending *next; /* that is free, or kept */
    struct nbd_request wire;
    struct nbd_command command;
    uint64_t begun_ns;        /* when it was received */
    struct nbd_input *input;  /* that holds the payload, or NULL */
    struct nbd_buffer buffer; /* data of its own, more than a page */
    struct nbd_outgoing outgoing;
    _Alignas(64) uint8_t page[NBD_PENDING_PAGE];
};

/*
 * Returns a request of which only the transmission is set, or NULL: there are
 * NBD_IN_FLIGHT_MAX, or no memory.
 */
struct nbd_pending *nbd_pending_take(struct nbd_transmission *t);

/* Put back one that will not be answered; NULL does nothing. */
void nbd_pending_abandon(struct nbd_transmission *t,
                         struct nbd_pending *request);

/* Put back those that are kept. */
void nbd_pending_abandon_kept(struct nbd_transmission *t);

/* Returns what an error on the wire is to people. */
const char *nbd_pending_text(uint32_t error);

/* The own thread has the answer. */
void nbd_pending_finish(struct nbd_transmission *t, struct nbd_pending *request,
                        uint32_t error, const char *text);

/* The device has the answer: in the own thread, or in any other. */
void nbd_pending_done(struct device_request *device, int device_error);

/* The outbox's release: the data of a reply are not needed any more. */
void nbd_pending_release(struct nbd_outgoing *outgoing);

/* Send what is finished, and what others left in the outbox. */
struct nbd_outbox_news nbd_pending_send(struct nbd_transmission *t);

/*
 * Returns how many requests the device has, when none is in a batch or
 * finished.  As long as there is one, the end of its stay wakes the outbox.
 */
size_t nbd_pending_in_flight(struct nbd_transmission *t);

#endif
