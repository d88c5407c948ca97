/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_record - a record, and a segment's header, to bytes and back.
 *
 * Pure.  A position is a byte of the log since it began: the segment's
 * number times the segment size, plus the offset in the segment.  Positions
 * grow and never repeat.
 */
#ifndef CACHE_JOURNAL_RECORD_H
#define CACHE_JOURNAL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/cache_dir.h"

enum journal_kind {
    JOURNAL_PAGES = 1, /* the new content of whole pages */
    JOURNAL_ZERO = 2,  /* pages are zeros from now on, any number */
    JOURNAL_MARK = 3,  /* nothing but how far the log was durable */
    JOURNAL_END = 4,   /* the last record of this segment */
};

enum {
    JOURNAL_HEADER_SIZE = 4096,     /* of a segment, a page of its own */
    JOURNAL_RECORD_HEADER = 64,     /* of a record, before the checksums */
    JOURNAL_RECORD_ALIGN = 8,       /* records begin at multiples of this */
    JOURNAL_RECORD_PAGES_MAX = 256, /* 1 MiB */
    /* No record's head is longer. */
    JOURNAL_HEAD_MAX = JOURNAL_RECORD_HEADER + 4 * JOURNAL_RECORD_PAGES_MAX,
};

/*
 * Then follow, for JOURNAL_PAGES, a CRC-32C (seeded by the salt) for each
 * page, zeros up to a multiple of JOURNAL_RECORD_ALIGN, and the pages.
 */
struct journal_record {
    enum journal_kind kind;
    bool hole;         /* JOURNAL_ZERO: as a hole */
    uint64_t page;     /* the first */
    uint64_t count;    /* of pages */
    uint64_t position; /* of the record itself */
    uint64_t durable;  /* the log before this position was durable */
    uint32_t gap;      /* bytes between the record before it and this one */
};

/* The head of one use of a segment. */
struct journal_segment_header {
    uint8_t journal_id[UUID_SIZE];
    uint8_t cachedir_id[UUID_SIZE];
    uint64_t number;       /* of this use: the log's segments, in order */
    uint64_t begin;        /* the oldest segment needed when written */
    uint64_t previous;     /* the number of the one before */
    uint64_t previous_end; /* the position where that one ends; 0: at its
                              JOURNAL_END */
    uint64_t state_commit; /* of the state log, durable when written */
    uint32_t segment_size; /* bytes */
    uint32_t salt;         /* of every checksum of this use */
    uint32_t slots;        /* how many files there were when written */
};

/* Returns the bytes of a record before its pages, and of all of it. */
size_t journal_record_head_size(const struct journal_record *record);
uint64_t journal_record_size(const struct journal_record *record);

/*
 * Encode the record's head, journal_record_head_size bytes; checksums has
 * one for each page of JOURNAL_PAGES, else it is NULL.
 */
void journal_record_encode(const struct journal_record *record,
                           const uint32_t *checksums, uint32_t salt,
                           void *head);

/* Returns the checksum of one page of a record. */
uint32_t journal_page_checksum(uint32_t salt, const void *page);

/*
 * Decode the head of a record at position, of which size bytes are there.
 * ret_checksums (room for JOURNAL_RECORD_PAGES_MAX) may be NULL.  -EBADMSG if
 * there is no such record, -EPROTONOSUPPORT if it is whole, but of a kind or
 * flag of a later version.
 */
int journal_record_decode(const void *head, size_t size, uint64_t position,
                          uint32_t salt, struct journal_record *ret_record,
                          uint32_t *ret_checksums);

/*
 * Encode and decode a segment's header, JOURNAL_HEADER_SIZE bytes.  All that
 * it says is in the first sector, so a power cut cannot tear it.  -EBADMSG,
 * -EPROTONOSUPPORT: as above.
 */
void journal_header_encode(const struct journal_segment_header *header,
                           void *data);
int journal_header_decode(const void *data,
                          struct journal_segment_header *ret_header);

#endif
