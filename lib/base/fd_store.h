/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fd_store - descriptors that systemd, or who speaks its protocols, hands to a
 * process: sockets to listen on, and connections that the process before left
 * with it, each beside a record of how to go on.
 *
 * A connection is kept as two descriptors, nbd-N-socket and nbd-N-record; the
 * record is a memfd.  Before a record is used it is marked in itself, so that
 * no process that comes later can use it again, wherever this one ends.
 *
 * Threads: one, the program's first.
 * Promise: a record is used once at most, with its own socket, and whole.
 */
#ifndef BASE_FD_STORE_H
#define BASE_FD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A connection that was left, and not resumed yet. */
struct fd_store_pair {
    uint64_t number;
    int socket, record; /* -1: there is none */
    bool is_doubled;    /* two of a name: nobody knows which is right */
};

struct fd_store {
    /* Sockets that listen; each belongs to who takes it out of here. */
    int *listening;
    size_t listening_count;
    int connected; /* the only connection that is to be served, or -1 */
    struct fd_store_pair *pairs;
    size_t pairs_count;
    uint64_t next_number; /* of a pair: no other has it that may be kept */
    uint64_t patience_us; /* for an answer to what is put there */
    bool is_stuck;        /* there was none */
    bool is_full;         /* no more are kept */
};

/*
 * Take what LISTEN_FDS hands over; before any fork.  What was left there and
 * is not whole is closed, removed from the store, and said.  -ENOTSOCK: there
 * is something else (logged); also on an error *store is to be closed.
 */
int fd_store_open(struct fd_store *store);

/*
 * What fd_store_open does, with these descriptors and their names.  All belong
 * to the store now.
 */
int fd_store_take(struct fd_store *store, const int fds[], char *const names[],
                  size_t count);

/* Returns whether there is somebody who may keep descriptors for us. */
bool fd_store_is_there(void);

/*
 * Returns whether the process before seems to have left connections, which end
 * when whoever keeps them does not start us again.
 */
bool fd_store_has_left(void);

/*
 * Returns how many connections are kept for us, as far as the environment
 * tells: systemd does in $FDSTORE, from version 254 on, or the service in
 * $FDSTORE_MAX, both in descriptors.  SIZE_MAX: it is not known.
 */
size_t fd_store_room(void);

/*
 * Leave a connection and its record for the next process.  Both stay the
 * caller's: they are duplicated, and kept when this returns.  Returns 0 or a
 * negative errno: -ETIMEDOUT if nobody hears, -EMFILE (logged) if no more are
 * kept, both also at once for all that follow.
 */
int fd_store_put(struct fd_store *store, int socket, const void *record,
                 size_t len);

/*
 * Take all that was left out of the store, and go on with each by
 *
 *   resume(context, socket, record, len)
 *
 * to which the socket belongs then, also after an error; the record is there
 * until it returns.  It logs its errors.  Returns how many were resumed.
 */
size_t fd_store_resume(struct fd_store *store,
                       int (*resume)(void *context, int socket,
                                     const void *record, size_t len),
                       void *context);

/*
 * Close what is still here of connections, and free the rest.  What was not
 * resumed stays in the store, for the next process.
 */
void fd_store_close(struct fd_store *store);

#endif
