/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_segment - the file of a slot of the journal: made, opened, headed.
 *
 * Used by journal_replay.c and journal.c.  Threads: any, one for a slot.
 * Promise: a file with a segment's name has its whole size, and its header
 * is one that was written, or zeros.
 */
#ifndef CACHE_JOURNAL_SEGMENT_H
#define CACHE_JOURNAL_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/journal_record.h"

enum {
    JOURNAL_SLOTS_MAX = 1 << 16,
    JOURNAL_SEGMENT_NAME = sizeof("segment.0000.new"),
};

/* Write the name of a slot's file, below `journal`. */
void journal_segment_name(unsigned slot, char name[JOURNAL_SEGMENT_NAME]);

/*
 * Tell which slot a file of this name belongs to.  Returns whether it is one;
 * *ret_is_new: it was never finished, and nothing is in it.
 */
bool journal_segment_parse(const char *name, unsigned *ret_slot,
                           bool *ret_is_new);

/*
 * Make the file of a slot, full of zeros; file and name are durable on
 * return.  Returns the descriptor, which the caller closes; after an error
 * (-ENOSPC, ...) there is no such name.
 */
int journal_segment_create(int dirfd, unsigned slot, uint32_t size);

/*
 * Read the header.  -ENODATA: there has never been one (zeros); -EBADMSG,
 * -EPROTONOSUPPORT: see journal_header_decode; others: cannot be read.
 */
int journal_segment_read_header(int fd,
                                struct journal_segment_header *ret_header);

/* Write the header; durable on return. */
int journal_segment_write_header(int fd,
                                 const struct journal_segment_header *header);

#endif
