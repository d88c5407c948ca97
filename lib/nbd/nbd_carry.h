/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_carry - a transmission that has paused to the record of it, and the
 * record to a transmission that goes on there.
 *
 * Replies that were not sent go out before all others; if they are many, also
 * before any request is run, so that hand-overs in a row do not add up to more
 * and more of them.  The requests are received from the record as from a
 * socket, and then from the socket.
 *
 * For nbd_transmission.c.  Threads: the connection's own; nbd_carry_out by any
 * other instead, when that has ended its run.
 */
#ifndef NBD_CARRY_H
#define NBD_CARRY_H

#include "nbd/nbd_transmission_parts.h"

/* Make the record of one that is paused; as nbd_transmission_record. */
int nbd_carry_out(struct nbd_transmission *t, uint8_t **ret_bytes,
                  size_t *ret_len);

/*
 * Before it runs: go on from the record that lies in these bytes, which belong
 * to the transmission from now on.
 */
void nbd_carry_in(struct nbd_transmission *t, uint8_t *bytes,
                  const struct nbd_record *record);

/* When it runs: have the replies sent.  -ENOMEM. */
int nbd_carry_begin(struct nbd_transmission *t);

/* Whether so much of the record has to be sent that no request may be run. */
bool nbd_carry_is_full(const struct nbd_transmission *t);

/* A reply was sent, perhaps that of nbd_carry_begin. */
void nbd_carry_sent(struct nbd_transmission *t,
                    const struct nbd_pending *request);

/* Whether bytes, or the end, can be had without the socket. */
bool nbd_carry_has_input(const struct nbd_transmission *t);

/* Take up to len bytes; returns how many, 0 at the end. */
size_t nbd_carry_receive(struct nbd_transmission *t, uint8_t *to, size_t len);

/*
 * If what comes next belongs to a payload that is dropped, have it dropped
 * (transmission->discarding).  -EAGAIN: not before another request was
 * answered.
 */
int nbd_carry_discard(struct nbd_transmission *t);

/* Free what is left of the record. */
void nbd_carry_done(struct nbd_transmission *t);

#endif
