/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_memory.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mutex.h"

enum {
    SMALLEST_SHIFT = 13, /* 8 KiB */
    CLASSES = 14,        /* up to 64 MiB */
    /* Kept for the next: what malloc gives back to the kernel costs a page
     * fault for each 4 KiB when it is needed again. */
    KEPT_MAX = 32 << 20,
    ALIGNMENT = 4096,
};

/* A buffer that nobody uses: the link is in its first bytes. */
struct kept {
    struct kept *next;
};

struct nbd_memory {
    struct mutex lock;
    size_t max GUARDED_BY(lock);
    size_t used GUARDED_BY(lock);
    struct nbd_memory_waiter *first GUARDED_BY(lock);
    struct kept *kept[CLASSES] GUARDED_BY(lock);
    size_t kept_size GUARDED_BY(lock);
};

int nbd_memory_new(size_t max, struct nbd_memory **ret_memory)
{
    struct nbd_memory *memory = calloc(1, sizeof(*memory));

    if (!memory)
        return -ENOMEM;
    mutex_init(&memory->lock);
    memory->max = max;
    *ret_memory = memory;
    return 0;
}

void nbd_memory_free(struct nbd_memory *memory)
{
    if (!memory)
        return;
    for (size_t i = 0; i < CLASSES; i++) {
        while (memory->kept[i]) {
            struct kept *kept = memory->kept[i];

            memory->kept[i] = kept->next;
            free(kept);
        }
    }
    mutex_done(&memory->lock);
    free(memory);
}

/* Returns the smallest class whose buffers hold len bytes. */
static size_t class_of(size_t len)
{
    size_t class = 0;

    while (class < CLASSES - 1 && ((size_t)1 << (SMALLEST_SHIFT + class)) < len)
        class ++;
    return class;
}

size_t nbd_memory_buffer_size(size_t len)
{
    return (size_t)1 << (SMALLEST_SHIFT + class_of(len));
}

static void wake_first_locked(struct nbd_memory *memory) REQUIRES(memory->lock)
{
    if (memory->first)
        memory->first->wake(memory->first);
}

void nbd_memory_limit(struct nbd_memory *memory, size_t max)
{
    mutex_lock(&memory->lock);
    memory->max = max;
    wake_first_locked(memory);
    mutex_unlock(&memory->lock);
}

/* Take the waiter out of the line; whoever is first then may have luck. */
static void leave_locked(struct nbd_memory *memory,
                         struct nbd_memory_waiter *waiter)
    REQUIRES(memory->lock)
{
    struct nbd_memory_waiter **at = &memory->first;

    if (!waiter->is_in_line)
        return;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    waiter->is_in_line = false;
    wake_first_locked(memory);
}

static void stand_in_line_locked(struct nbd_memory *memory,
                                 struct nbd_memory_waiter *waiter)
    REQUIRES(memory->lock)
{
    struct nbd_memory_waiter **at = &memory->first;

    if (waiter->is_in_line)
        return;
    while (*at)
        at = &(*at)->next;
    waiter->next = NULL;
    waiter->is_in_line = true;
    *at = waiter;
}

bool nbd_memory_take(struct nbd_memory *memory,
                     struct nbd_memory_waiter *waiter, size_t size)
{
    bool taken;

    mutex_lock(&memory->lock);
    taken = (!memory->first || memory->first == waiter) &&
            memory->used <= memory->max && size <= memory->max - memory->used;
    if (taken) {
        memory->used += size;
        leave_locked(memory, waiter);
    } else {
        stand_in_line_locked(memory, waiter);
    }
    mutex_unlock(&memory->lock);
    return taken;
}

void nbd_memory_give(struct nbd_memory *memory, size_t size)
{
    mutex_lock(&memory->lock);
    memory->used -= size;
    wake_first_locked(memory);
    mutex_unlock(&memory->lock);
}

void nbd_memory_leave(struct nbd_memory *memory,
                      struct nbd_memory_waiter *waiter)
{
    mutex_lock(&memory->lock);
    leave_locked(memory, waiter);
    mutex_unlock(&memory->lock);
}

bool nbd_memory_is_short(struct nbd_memory *memory,
                         const struct nbd_memory_waiter *waiter)
{
    const struct nbd_memory_waiter *first;
    bool is_short;

    mutex_lock(&memory->lock);
    first = memory->first;
    is_short = first && (first != waiter || first->next);
    mutex_unlock(&memory->lock);
    return is_short;
}

size_t nbd_memory_used(struct nbd_memory *memory)
{
    size_t used;

    mutex_lock(&memory->lock);
    used = memory->used;
    mutex_unlock(&memory->lock);
    return used;
}

void *nbd_memory_borrow(struct nbd_memory *memory, size_t size)
{
    size_t class = class_of(size);
    struct kept *kept;

    mutex_lock(&memory->lock);
    kept = memory->kept[class];
    if (kept) {
        memory->kept[class] = kept->next;
        memory->kept_size -= size;
    }
    mutex_unlock(&memory->lock);
    return kept ? kept : aligned_alloc(ALIGNMENT, size);
}

/* Take one that is kept out of another class than this; NULL: none. */
static struct kept *evict_locked(struct nbd_memory *memory, size_t class)
    REQUIRES(memory->lock)
{
    for (size_t i = 0; i < CLASSES; i++) {
        struct kept *kept = memory->kept[i];

        if (i == class || !kept)
            continue;
        memory->kept[i] = kept->next;
        memory->kept_size -= (size_t)1 << (SMALLEST_SHIFT + i);
        return kept;
    }
    return NULL;
}

void nbd_memory_return(struct nbd_memory *memory, void *buffer, size_t size)
{
    size_t class = class_of(size);
    struct kept *kept = buffer;
    struct kept *unkept = NULL;

    if (!kept)
        return;
    mutex_lock(&memory->lock);
    /* What is used now is used next: other sizes make room for it. */
    while (memory->kept_size + size > KEPT_MAX) {
        struct kept *evicted = evict_locked(memory, class);

        if (!evicted)
            break;
        evicted->next = unkept;
        unkept = evicted;
    }
    if (memory->kept_size + size <= KEPT_MAX) {
        kept->next = memory->kept[class];
        memory->kept[class] = kept;
        memory->kept_size += size;
    } else {
        kept->next = unkept;
        unkept = kept;
    }
    mutex_unlock(&memory->lock);
    while (unkept) {
        kept = unkept;
        unkept = kept->next;
        free(kept);
    }
}
