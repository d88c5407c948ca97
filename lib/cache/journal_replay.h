/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_replay - what the segments of a journal say: which of them are the
 * log, where it ends, and its records in order.
 *
 * Used by journal.c at start.  Reads only.  Threads: one.
 * Promise: whatever the files hold, all records that were durable are told,
 * or an error; of the others a prefix; nothing that was never appended.
 */
#ifndef CACHE_JOURNAL_REPLAY_H
#define CACHE_JOURNAL_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/journal.h"
#include "cache/journal_record.h"

/* A slot as it was found; fd -1: it has no file. */
struct journal_found_slot {
    int fd;
    bool has_header;
    struct journal_segment_header header;
};

/* What a start has to know. */
struct journal_found {
    uint32_t segment_size;
    unsigned slots;        /* how many files the newest header counts on */
    uint64_t begin;        /* no older segment is needed */
    uint64_t highest;      /* number of any segment ever seen */
    uint64_t known_commit; /* highest state commit in a header */
    uint64_t last;         /* the last segment with records; 0: none has */
    uint64_t end;          /* position after the last valid record; or 0 */
    uint64_t durable;      /* somebody vouches for all before that position */
    unsigned *log;         /* slots of the segments begin .. last, in order */
    size_t log_count;      /* freed by journal_replay_done */
};

/*
 * Read the headers of count slots into slots (which have fd set), find the
 * log, verify it, and call options->events.replay for each of its records.
 * Errors as journal_open.  Of read_only's leniency: *ret_found is what is
 * sure.
 */
int journal_replay(const struct journal_options *options,
                   struct journal_found_slot slots[], unsigned count,
                   struct journal_found *ret_found);

/* Free what belongs to found. */
void journal_replay_done(struct journal_found *found);

#endif
