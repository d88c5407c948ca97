/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hook_store - an object_store around another one that calls out before its
 * n-th call, so that a test can do in between whatever others could do.
 *
 * Threads: one.
 */
#ifndef SUPPORT_HOOK_STORE_H
#define SUPPORT_HOOK_STORE_H

#include "object_store.h"

struct hook_store {
    struct object_store store; /* first, so that one is the other */
    struct object_store *inner;
    uint64_t calls; /* so far */
    uint64_t nth;
    void (*hook)(void *context);
    void *context;
};

/* Begin; the hook is called before the nth call from now on (1: the next). */
void hook_store_init(struct hook_store *hooked, struct object_store *inner,
                     uint64_t nth, void (*hook)(void *context), void *context);

#endif
