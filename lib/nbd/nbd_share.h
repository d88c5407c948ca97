/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_share - the memory that one connection may use: a little of its own,
 * and a bounded part of the budget that it shares with others.
 *
 * Threads: one borrows; any return.
 */
#ifndef NBD_SHARE_H
#define NBD_SHARE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "nbd/nbd_memory.h"

enum {
    NBD_OWN_MEMORY = 1 << 20,         /* bytes that need no budget */
    NBD_SHARED_MEMORY_MAX = 64 << 20, /* bytes of it for one connection */
};

struct nbd_share {
    struct nbd_memory *memory;
    struct nbd_memory_waiter waiter;
    atomic_size_t own_used, shared_used;
};

/* A buffer, or nothing: all zero. */
struct nbd_buffer {
    void *bytes;
    size_t size;
    bool is_shared;
};

/* Make ready; wake is that of struct nbd_memory_waiter. */
void nbd_share_init(struct nbd_share *share, struct nbd_memory *memory,
                    void (*wake)(struct nbd_memory_waiter *waiter));

/*
 * Borrow a buffer for len bytes.  -EAGAIN: the limits do not allow it now; it
 * is worth another try after a buffer was returned, or a wake.  -ENOMEM: the
 * system has none.
 */
int nbd_share_borrow(struct nbd_share *share, size_t len,
                     struct nbd_buffer *ret_buffer);

/* Return a buffer, if there is one; it is nothing then. */
void nbd_share_return(struct nbd_share *share, struct nbd_buffer *buffer);

/* Borrow no more: others need not stand in line behind us. */
void nbd_share_leave(struct nbd_share *share);

/* Whether we hold something of the budget. */
bool nbd_share_is_used(const struct nbd_share *share);

/* Whether others stand in line for what we hold. */
bool nbd_share_is_missed(struct nbd_share *share);

#endif
