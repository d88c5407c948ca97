/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_slots - the segments of a journal: which are free, prepared or in
 * use; made, headed, synced and recycled.
 *
 * Used by journal.c, which alone knows what is appended to them.
 * Threads: any, and one of its own, which prepares.  Locks: its own, a leaf;
 * the events are called without it.
 * Promise: a segment's header is durable before the segment is given out, and
 * headers are written in the order of their numbers.
 */
#ifndef CACHE_JOURNAL_SLOTS_H
#define CACHE_JOURNAL_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/journal.h"

struct journal_slots;

/* A segment; it belongs to the slots, and lives as long as they do. */
struct journal_slot;

struct journal_slots_events {
    /* There is a segment again, after journal_slots_take had none. */
    void (*space)(void *context);
    /* A header could not be written: nothing is prepared any more. */
    void (*failed)(void *context, int error);
    void *context;
};

/* Where the log that was found ends. */
struct journal_log_end {
    uint64_t position; /* 0: there are no records */
    uint64_t segment;  /* number of the last one with records; or 0 */
};

/*
 * Open the files, or make them, replay, sync all of it, and prepare a fresh
 * segment if one is free.  Options, results and leniency are journal_open's;
 * the options must outlive the slots.
 */
int journal_slots_open(const struct journal_options *options,
                       const struct journal_slots_events *events,
                       struct journal_slots **ret_slots,
                       struct journal_log_end *ret_end);

/* Begin to prepare segments ahead, and to make more of them. */
int journal_slots_start(struct journal_slots *slots);

/* Prepare nothing more: the journal is lost. */
void journal_slots_stop(struct journal_slots *slots);

/* End the thread: no event comes any more. */
void journal_slots_end(struct journal_slots *slots);

/* End the thread, close the files, free.  NULL does nothing. */
void journal_slots_close(struct journal_slots *slots);

/* Returns the bytes of a segment. */
uint32_t journal_slots_segment_size(const struct journal_slots *slots);

/*
 * Take the next prepared segment out; one at a time does.  NULL if there is
 * none: events.space will tell.
 */
struct journal_slot *journal_slots_take(struct journal_slots *slots);

/* The segment that was taken is the newest in use from now on. */
void journal_slots_use(struct journal_slots *slots, struct journal_slot *slot);

/* Return when a segment is prepared, or none will be: then false. */
bool journal_slots_wait(struct journal_slots *slots);

/* What a segment is, as long as it is in use. */
uint64_t journal_slot_number(const struct journal_slot *slot);
uint32_t journal_slot_salt(const struct journal_slot *slot);
int journal_slot_fd(const struct journal_slot *slot);

/*
 * Sync all segments in use, the oldest first, up to this one.  One at a time
 * does.
 */
int journal_slots_sync(struct journal_slots *slots,
                       const struct journal_slot *last);

/* Free the segments below begin, but for those that are not synced yet. */
void journal_slots_retire(struct journal_slots *slots, uint64_t begin);

/*
 * Find the segment with this number, without a lock.  NULL: there is none any
 * more.  After its bytes were read, journal_slot_is tells whether they were
 * of that use of the segment.
 */
struct journal_slot *journal_slots_find(struct journal_slots *slots,
                                        uint64_t number);
bool journal_slot_is(const struct journal_slot *slot, uint64_t number);

/* What journal_get_fill tells, as far as it is known here: cheap. */
struct journal_slots_fill {
    uint64_t in_use;   /* segments */
    uint64_t capacity; /* bytes of all that there may be */
    uint64_t oldest;   /* numbers */
    uint64_t newest;
    uint64_t written; /* bytes of headers and new files */
};
void journal_slots_get_fill(struct journal_slots *slots,
                            struct journal_slots_fill *ret_fill);

#endif
