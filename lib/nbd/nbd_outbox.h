/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_outbox - replies on their way to the socket, whichever thread has them.
 *
 * A thread that is not the connection's own sends what the socket takes at
 * once, and once only; whatever is left is the own thread's, which is woken
 * for it.  So a client that does not read keeps nobody waiting but its own
 * connection.  The own thread also sleeps here, for input or a change.
 *
 * Threads: the connection's own, and any, as each function says.
 * Locks: its own; that of nbd_memory may be taken under it.
 */
#ifndef NBD_OUTBOX_H
#define NBD_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd/nbd_reply.h"

struct nbd_outbox;
struct stream;

/* A reply, embedded in what it belongs to. */
struct nbd_outgoing {
    struct nbd_outgoing *next;
    struct nbd_reply reply;
};

/*
 * Make one for the stream, which must outlive it.  release is called under
 * its lock, by any thread, when a reply was sent or never will be.
 */
int nbd_outbox_new(struct stream *stream,
                   void (*release)(struct nbd_outgoing *outgoing),
                   struct nbd_outbox **ret_outbox);

/* Free it, when it is empty and nobody knows it; NULL does nothing. */
void nbd_outbox_free(struct nbd_outbox *outbox);

/* What nbd_outbox_send tells. */
struct nbd_outbox_news {
    struct nbd_outgoing *released; /* since the last call: a list */
    bool has_changed; /* since the last call something was posted or released */
    bool is_broken;   /* nothing can be sent any more */
};

/*
 * The own thread: append a list, of which end is the last next pointer (or
 * NULL and anything), and send all there is until the socket is full.
 */
struct nbd_outbox_news nbd_outbox_send(struct nbd_outbox *outbox,
                                       struct nbd_outgoing *first,
                                       struct nbd_outgoing **end);

/*
 * Any other thread: append one, and send what the socket takes.  When it
 * returns the outbox may be gone.
 */
void nbd_outbox_post(struct nbd_outbox *outbox, struct nbd_outgoing *outgoing);

/* Any thread: send nothing more, and release all. */
void nbd_outbox_break(struct nbd_outbox *outbox);

/*
 * The own thread, when nobody posts any more: have nothing sent from now on.
 * On return nobody is sending.
 */
void nbd_outbox_pause(struct nbd_outbox *outbox);

/* Returns how many replies are in it, also one that was sent in part. */
size_t nbd_outbox_count(struct nbd_outbox *outbox);

/* Returns how many bytes of these were not sent. */
size_t nbd_outbox_unsent(struct nbd_outbox *outbox);

/* Write these bytes; it has to be paused. */
void nbd_outbox_copy_unsent(struct nbd_outbox *outbox, uint8_t *to);

/* Any thread: end the own thread's sleep, or the next if it does not. */
void nbd_outbox_wake(struct nbd_outbox *outbox);

struct nbd_outbox_sleep {
    bool for_input;  /* wake when something can be received */
    bool for_end;    /* wake when the peer has ended its direction, at least */
    bool for_change; /* wake when something was posted or released */
    uint64_t deadline_ns;
    uint64_t full_deadline_ns; /* a second one, while the socket is full */
};

/*
 * The own thread: sleep until there is what it sleeps for, or something can
 * be sent; not at all if that has happened since nbd_outbox_send.
 * -ETIMEDOUT: a deadline is over.
 */
int nbd_outbox_sleep(struct nbd_outbox *outbox,
                     const struct nbd_outbox_sleep *sleep);

#endif
