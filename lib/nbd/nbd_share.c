/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_share.h"

#include <errno.h>

void nbd_share_init(struct nbd_share *share, struct nbd_memory *memory,
                    void (*wake)(struct nbd_memory_waiter *waiter))
{
    share->memory = memory;
    share->waiter = (struct nbd_memory_waiter){.wake = wake};
    atomic_init(&share->own_used, 0);
    atomic_init(&share->shared_used, 0);
}

int nbd_share_borrow(struct nbd_share *share, size_t len,
                     struct nbd_buffer *ret_buffer)
{
    struct nbd_buffer buffer = {.size = nbd_memory_buffer_size(len)};

    /* Others only return meanwhile: what is allowed now stays allowed. */
    buffer.is_shared =
        atomic_load(&share->own_used) + buffer.size > NBD_OWN_MEMORY;
    if (buffer.is_shared &&
        (atomic_load(&share->shared_used) + buffer.size >
             NBD_SHARED_MEMORY_MAX ||
         !nbd_memory_take(share->memory, &share->waiter, buffer.size)))
        return -EAGAIN;
    (void)atomic_fetch_add(
        buffer.is_shared ? &share->shared_used : &share->own_used, buffer.size);
    buffer.bytes = nbd_memory_borrow(share->memory, buffer.size);
    if (!buffer.bytes) {
        nbd_share_return(share, &buffer);
        return -ENOMEM;
    }
    *ret_buffer = buffer;
    return 0;
}

void nbd_share_return(struct nbd_share *share, struct nbd_buffer *buffer)
{
    if (buffer->size == 0)
        return;
    nbd_memory_return(share->memory, buffer->bytes, buffer->size);
    (void)atomic_fetch_sub(buffer->is_shared ? &share->shared_used
                                             : &share->own_used,
                           buffer->size);
    if (buffer->is_shared)
        nbd_memory_give(share->memory, buffer->size);
    *buffer = (struct nbd_buffer){0};
}

void nbd_share_leave(struct nbd_share *share)
{
    nbd_memory_leave(share->memory, &share->waiter);
}

bool nbd_share_is_used(const struct nbd_share *share)
{
    return atomic_load(&share->shared_used) > 0;
}

bool nbd_share_is_missed(struct nbd_share *share)
{
    return nbd_share_is_used(share) &&
           nbd_memory_is_short(share->memory, &share->waiter);
}
