/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * opener - opens things side by side, and again later those that cannot be
 * opened yet.
 *
 * Each has a thread of its own until it is open, or never will be; so what
 * one of them waits for keeps no other from being opened.
 *
 * Threads: one begins, adds and ends; any may interrupt.  Locks: its own, a
 * leaf.
 */
#ifndef CACHE_OPENER_H
#define CACHE_OPENER_H

#include <stddef.h>
#include <stdint.h>

struct opener;

struct opener_options {
    /*
     * Open one of them, in its thread.  tries: how often it was tried before.
     * Returns 0; -EHOSTDOWN: not yet, try again after a pause; others: never.
     */
    int (*open)(void *item, unsigned tries);
    void *const *items;
    size_t items_count;
    /* How long to wait after so many tries; NULL: opener_pause_ns. */
    uint64_t (*pause_ns)(unsigned tries);
};

/* Returns a second after the first try, then twice as long, up to 30 s. */
uint64_t opener_pause_ns(unsigned tries);

/*
 * Start to open all of them, and return when each was tried once; items is
 * not used from then on, what is in it must outlive the opener.  An error:
 * there are no means to begin; those already opened are the caller's.
 */
int opener_start(const struct opener_options *options,
                 struct opener **ret_opener);

/*
 * Open one more, in a thread of its own; does not wait for it.  What is in it
 * must outlive the opener.  An error: there are no means to begin.
 */
int opener_add(struct opener *opener, void *item);

/* No more tries: what does not run now does not begin.  NULL does nothing. */
void opener_interrupt(struct opener *opener);

/* The same, wait for those that run, and free.  NULL does nothing. */
void opener_stop(struct opener *opener);

#endif
