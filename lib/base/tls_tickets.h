/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tls_tickets - what servers gave to make later handshakes short, by name.
 *
 * Each is used once: an observer must not see that two connections are of the
 * same client.  They are secrets, and wiped when they go.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef BASE_TLS_TICKETS_H
#define BASE_TLS_TICKETS_H

#include <stddef.h>

enum {
    TLS_TICKETS_MAX = 64,       /* the oldest goes for a new one */
    TLS_TICKET_BYTES = 1 << 15, /* longer ones are not kept */
};

struct tls_tickets;

/* Make a place for tickets, NULL if there is no memory; free it: or NULL. */
struct tls_tickets *tls_tickets_new(void);
void tls_tickets_free(struct tls_tickets *tickets);

/* Keep a copy for this name; one that does not fit is forgotten. */
void tls_tickets_put(struct tls_tickets *tickets, const char *name,
                     const void *bytes, size_t len);

/*
 * Returns the newest for this name, which is taken out and freed by
 * tls_tickets_wipe; NULL: there is none.
 */
void *tls_tickets_take(struct tls_tickets *tickets, const char *name,
                       size_t *ret_len);

/* Wipe and free what was taken. */
void tls_tickets_wipe(void *bytes, size_t len);

#endif
