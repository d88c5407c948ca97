/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lying_store - an object_store around another one, which now and then does
 * not do what it says, or says what is not.
 *
 * fault_store has a test name the call that goes wrong; this one draws it by
 * lot, from a seed, so that what follows is the same each time as long as one
 * thread calls.  Threads: any.  Locks: its own, a leaf; not held in calls of
 * the other.
 */
#ifndef SUPPORT_LYING_STORE_H
#define SUPPORT_LYING_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "object_store.h"

enum lie {
    LIE_FAILS,     /* nothing is done: -EIO or -ETIMEDOUT */
    LIE_LOST,      /* put, delete: it is done: -ETIMEDOUT all the same */
    LIE_DENIED,    /* get, head: -ENOENT; list: leaves keys out */
    LIE_CHANGED,   /* get: one byte is another */
    LIE_SHORT,     /* get: the end of the bytes is zeros */
    LIE_EMPTY,     /* get: all of them are */
    LIE_SPOILED,   /* put: what is kept has one byte that is another; told as
                      success */
    LIE_LATE,      /* put: -ETIMEDOUT, and it is done at lying_store_land */
    LIE_OVERRULED, /* put: if_absent is ignored */
    LIES,          /* how many there are */
};

struct lying_store;

/* Wrap inner, which is closed with it.  It lies from lying_store_tell on. */
struct lying_store *lying_store_new(struct object_store *inner, uint64_t seed);

/* Returns the store to be used; its close frees the lying_store too. */
struct object_store *lying_store_of(struct lying_store *lying);

/*
 * From now on, of so many calls that one of these lies (a bit for each) is
 * possible for, one is answered with one of them.  0: it is honest again.
 */
void lying_store_tell(struct lying_store *lying, unsigned lies,
                      unsigned one_in);

/* Returns how often it told this lie. */
uint64_t lying_store_told(struct lying_store *lying, enum lie lie);

/*
 * Let so many of the puts that are late arrive now, in any order, each with
 * its condition; nobody learns what became of them.  Returns how many did.
 */
size_t lying_store_land(struct lying_store *lying, size_t most);

#endif
