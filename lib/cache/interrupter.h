/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * interrupter - lets a program end although a store does not answer.
 *
 * A thread that interrupts the store when a descriptor is readable, or time is
 * up.  Threads: any.
 */
#ifndef CACHE_INTERRUPTER_H
#define CACHE_INTERRUPTER_H

#include <stdint.h>

struct interrupter;
struct object_store;

/*
 * Start to watch: store->interrupt is called once when fd (-1: none), from
 * which nothing is read, is readable, or at deadline_ns of
 * clock_monotonic_ns().  The store must not be closed before
 * interrupter_stop.
 */
int interrupter_start(struct object_store *store, int fd, uint64_t deadline_ns,
                      struct interrupter **ret_interrupter);

/* Watch no more, and free.  NULL does nothing. */
void interrupter_stop(struct interrupter *interrupter);

#endif
