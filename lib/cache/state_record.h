/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * state_record - the bytes of the state log and of catalog snapshots.
 *
 * Pure.  docs/FORMAT.md says the same in words.  Every file begins with a
 * header page.  In a log, groups of changes follow; in a snapshot, sheets
 * full of changes, each of which gives one chunk its entry, and a last page
 * with the facts.
 * All checksums behind the header are seeded by the file's own salt, so that
 * nothing of another file passes.
 */
#ifndef CACHE_STATE_RECORD_H
#define CACHE_STATE_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "cache/cache_dir.h"
#include "cache/state_log.h"

enum {
    STATE_PAGE = 4096,      /* a header; groups begin at multiples of it */
    STATE_SHEET = 65536,    /* the unit of a snapshot */
    STATE_GROUP_HEAD = 64,  /* bytes of a group before its changes */
    STATE_CHANGE_MAX = 620, /* bytes of a change with all its objects */
};

enum state_file_kind {
    STATE_FILE_SNAPSHOT,
    STATE_FILE_LOG,
};

/* The first page of a file. */
struct state_header {
    enum state_file_kind kind;
    uint8_t cachedir_id[UUID_SIZE];
    uint64_t number;          /* also in its name */
    uint64_t salt;            /* random; that of number's log and snapshot */
    uint64_t commit;          /* the last one in the snapshot */
    uint64_t journal_begin;   /* at that commit */
    uint64_t last_generation; /* at that commit */
    uint64_t size;            /* LOG: of the file; SNAPSHOT: 0 */
};

/*
 * Encode and decode STATE_PAGE bytes.  -EBADMSG: damaged, or of another kind;
 * -EPROTONOSUPPORT: whole, but of a later version.
 */
void state_header_encode(const struct state_header *header, void *page);
int state_header_decode(const void *page, enum state_file_kind kind,
                        struct state_header *ret_header);

/* Returns the seed of all checksums behind this header. */
uint32_t state_seed(const struct state_header *header);

/* Returns how many bytes a change takes. */
size_t state_change_size(const struct state_change *change);

/* Encode a change.  Returns its size. */
size_t state_change_encode(const struct state_change *change, void *data);

/*
 * Decode a change, of which at most size bytes are there; *ret_size is what
 * it took.  -EBADMSG: none that this version writes.
 */
int state_change_decode(const void *data, size_t size,
                        struct state_change *ret_change, size_t *ret_size);

/* The head of a group; size bytes of changes follow, then zeros. */
struct state_group {
    uint64_t commit;   /* its number */
    uint64_t count;    /* of changes */
    uint64_t size;     /* of all changes, bytes */
    uint32_t checksum; /* of the changes */
};

/* Encode and decode a head, STATE_GROUP_HEAD bytes.  -EBADMSG: none. */
void state_group_encode(const struct state_group *group,
                        const struct state_header *header, void *head);
int state_group_decode(const void *head, const struct state_header *header,
                       struct state_group *ret_group);

/* Returns the bytes of a group in the file, a multiple of STATE_PAGE. */
uint64_t state_group_file_size(uint64_t changes_size);

/* Where a sheet's changes begin, and how many bytes of them it can take. */
enum {
    STATE_SHEET_HEAD = 16,
    STATE_SHEET_ROOM = STATE_SHEET - STATE_SHEET_HEAD - 4,
};

/* Complete sheet number index, which holds used bytes of changes. */
void state_sheet_seal(void *sheet, uint64_t index, size_t used, uint32_t seed);

/* Check a sheet and tell how many bytes of changes it holds.  -EBADMSG. */
int state_sheet_check(const void *sheet, uint64_t index, uint32_t seed,
                      size_t *ret_used);

/* The last page of a snapshot: how much must have come before it, and what
 * the state says besides. */
struct state_end {
    uint64_t sheets;
    uint64_t entries;            /* of the device's catalog */
    uint64_t checkpoint_entries; /* of the open checkpoint's */
    struct state_facts facts;
};

/* Encode and decode STATE_PAGE bytes.  -EBADMSG. */
void state_end_encode(const struct state_end *end, uint32_t seed, void *page);
int state_end_decode(const void *page, uint32_t seed,
                     struct state_end *ret_end);

#endif
