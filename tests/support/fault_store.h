/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fault_store - an object_store around another one, which fails, holds, cuts,
 * corrupts or delays the calls that a test names, and counts all.
 *
 * Threads: any.  Locks: its own, a leaf; not held in calls of the other.
 */
#ifndef SUPPORT_FAULT_STORE_H
#define SUPPORT_FAULT_STORE_H

#include "object_store.h"

enum store_call {
    STORE_GET,
    STORE_PUT,
    STORE_HEAD,
    STORE_DELETE,
    STORE_LIST,
    STORE_CALLS, /* how many kinds there are */
};

enum store_fault {
    STORE_FAILS,       /* return error, and do nothing */
    STORE_FAILS_AFTER, /* do it, and return error all the same */
    STORE_HOLDS,       /* begin when fault_store_release is called */
    STORE_CUTS,     /* get, put: the second half of the bytes is zeros, absent;
                       delete: of the first half of the keys, then error */
    STORE_CORRUPTS, /* get, put: one bit in the middle is the other way */
    STORE_LATE,     /* put: return error; it is done by fault_store_land */
    STORE_UNCONDITIONAL, /* put: as if not if_absent */
};

struct fault_store;

/* Wrap inner, which is closed with it.  Never NULL. */
struct fault_store *fault_store_new(struct object_store *inner);

/*
 * Returns the store to be used; its close frees the fault_store too.  Its
 * interrupt ends what is held, too.
 */
struct object_store *fault_store_of(struct fault_store *fault);

/*
 * Have this happen to the nth call of that kind from now on (1: the next
 * one), and to times - 1 calls after it (0: to all).  error is for STORE_FAILS
 * (-ENOENT: what is there is denied), STORE_FAILS_AFTER (the answer is lost),
 * STORE_LATE, and STORE_CUTS of a delete.  Replaces an earlier plan for that
 * kind.
 */
void fault_store_plan(struct fault_store *fault, enum store_call call,
                      uint64_t nth, uint64_t times, enum store_fault kind,
                      int error);

/* Forget all plans, and let held calls go on. */
void fault_store_clear(struct fault_store *fault);

/* Returns how many calls of that kind were made since the start. */
uint64_t fault_store_count(struct fault_store *fault, enum store_call call);

/* Return when so many calls are held at once. */
void fault_store_wait_held(struct fault_store *fault, uint64_t count);

/* Let all calls that are held now go on; or fail, without doing anything. */
void fault_store_release(struct fault_store *fault);
void fault_store_fail_held(struct fault_store *fault, int error);

/* Returns how urgent the get was that was asked for last. */
enum object_urgency fault_store_urgency(struct fault_store *fault);

/*
 * From now on the store describes itself by this text, which is not copied;
 * NULL, as at first: by what the other one says.
 */
void fault_store_describe_as(struct fault_store *fault, const char *text);

/*
 * Let the puts that are late arrive now, in their order, each with its
 * condition; nobody learns what became of them.  Returns how many there were.
 */
size_t fault_store_land(struct fault_store *fault);

#endif
