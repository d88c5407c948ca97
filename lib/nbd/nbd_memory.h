/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_memory - the buffers of requests: a budget that the connections of an
 * export share, and buffers kept for the next who needs one.
 *
 * Who finds the budget used up stands in line: first come, first served, so
 * that small requests do not starve a large one for ever.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef NBD_MEMORY_H
#define NBD_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct nbd_memory;

/* A place in the line.  wake is called, under the lock, when it may be worth
 * asking again; it must not call this module. */
struct nbd_memory_waiter {
    void (*wake)(struct nbd_memory_waiter *waiter);
    struct nbd_memory_waiter *next;
    bool is_in_line;
};

/* Make a budget of max bytes. */
int nbd_memory_new(size_t max, struct nbd_memory **ret_memory);

/*
 * Change the budget.  Of a smaller one nothing is taken back: as long as more
 * than that is taken, nobody gets any.
 */
void nbd_memory_limit(struct nbd_memory *memory, size_t max);

/* Free it; every buffer must have been returned.  NULL does nothing. */
void nbd_memory_free(struct nbd_memory *memory);

/* Returns how large the buffer is that holds len bytes (at least 1). */
size_t nbd_memory_buffer_size(size_t len);

/*
 * Take size bytes of the budget.  false: not now; the waiter stands in line
 * until it gets them or leaves.
 */
bool nbd_memory_take(struct nbd_memory *memory,
                     struct nbd_memory_waiter *waiter, size_t size);

/* Give bytes of the budget back. */
void nbd_memory_give(struct nbd_memory *memory, size_t size);

/* Leave the line, if in it. */
void nbd_memory_leave(struct nbd_memory *memory,
                      struct nbd_memory_waiter *waiter);

/* Whether somebody else than this waiter stands in line. */
bool nbd_memory_is_short(struct nbd_memory *memory,
                         const struct nbd_memory_waiter *waiter);

/* Returns how much of the budget is taken. */
size_t nbd_memory_used(struct nbd_memory *memory);

/*
 * Borrow a buffer of this size, one of nbd_memory_buffer_size: NULL when the
 * system has none.  Its contents are whatever they were.  It counts for
 * nothing: what is counted is up to the borrower.
 */
void *nbd_memory_borrow(struct nbd_memory *memory, size_t size);

/* Return a buffer with the size that it was borrowed with; NULL: nothing. */
void nbd_memory_return(struct nbd_memory *memory, void *buffer, size_t size);

#endif
