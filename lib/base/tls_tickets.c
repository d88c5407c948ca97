/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/tls_tickets.h"

#include <stdlib.h>
#include <string.h>

#include "base/mutex.h"

struct ticket {
    char *name;
    void *bytes;
    size_t len;
};

struct tls_tickets {
    struct mutex lock;
    struct ticket tickets[TLS_TICKETS_MAX] GUARDED_BY(lock); /* oldest first */
    size_t count GUARDED_BY(lock);
};

void tls_tickets_wipe(void *bytes, size_t len)
{
    if (bytes)
        explicit_bzero(bytes, len);
    free(bytes);
}

struct tls_tickets *tls_tickets_new(void)
{
    struct tls_tickets *tickets = calloc(1, sizeof(*tickets));

    if (tickets)
        mutex_init(&tickets->lock);
    return tickets;
}

static struct ticket remove_locked(struct tls_tickets *tickets, size_t index)
    REQUIRES(tickets->lock)
{
    struct ticket ticket = tickets->tickets[index];

    tickets->count--;
    memmove(&tickets->tickets[index], &tickets->tickets[index + 1],
            (tickets->count - index) * sizeof(ticket));
    return ticket;
}

static void ticket_done(struct ticket *ticket)
{
    tls_tickets_wipe(ticket->bytes, ticket->len);
    free(ticket->name);
}

void tls_tickets_put(struct tls_tickets *tickets, const char *name,
                     const void *bytes, size_t len)
{
    struct ticket ticket = {.len = len}, oldest = {0};

    if (len == 0 || len > TLS_TICKET_BYTES)
        return;
    ticket.name = strdup(name);
    ticket.bytes = malloc(len);
    if (!ticket.name || !ticket.bytes) {
        free(ticket.name);
        free(ticket.bytes);
        return;
    }
    memcpy(ticket.bytes, bytes, len);
    mutex_lock(&tickets->lock);
    if (tickets->count == TLS_TICKETS_MAX)
        oldest = remove_locked(tickets, 0);
    tickets->tickets[tickets->count++] = ticket;
    mutex_unlock(&tickets->lock);
    ticket_done(&oldest);
}

void *tls_tickets_take(struct tls_tickets *tickets, const char *name,
                       size_t *ret_len)
{
    struct ticket ticket = {0};

    mutex_lock(&tickets->lock);
    for (size_t i = tickets->count; i-- > 0;) {
        if (strcmp(tickets->tickets[i].name, name) == 0) {
            ticket = remove_locked(tickets, i);
            break;
        }
    }
    mutex_unlock(&tickets->lock);
    free(ticket.name);
    *ret_len = ticket.len;
    return ticket.bytes;
}

void tls_tickets_free(struct tls_tickets *tickets)
{
    if (!tickets)
        return;
    for (size_t i = 0; i < tickets->count; i++)
        ticket_done(&tickets->tickets[i]);
    mutex_done(&tickets->lock);
    free(tickets);
}
