/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_story - a journal with the list of what was appended to it, and of
 * what its last replay told.
 *
 * Every page that is appended has a content of its own, which can be told
 * from any other.  Threads: one, but for the callbacks.
 */
#ifndef SUPPORT_JOURNAL_STORY_H
#define SUPPORT_JOURNAL_STORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/journal.h"

enum {
    STORY_SEGMENT = 64 << 10, /* bytes, unless changed before story_open */
    STORY_SEGMENTS = 6,
    STORY_STEPS_MAX = 1 << 14,
    STORY_PAGES_MAX = 12, /* of one record */
};

/* One record that was appended, or replayed. */
struct story_step {
    enum journal_kind kind;
    bool hole;
    uint64_t page;
    uint64_t count;
    uint64_t position; /* of the content */
    uint64_t value;    /* what its pages are filled from */
    uint32_t checksums[STORY_PAGES_MAX];
};

struct story {
    struct journal_options options;
    struct journal *journal;
    struct story_step *appended; /* that were placed */
    size_t appended_count;
    struct story_step *replayed;
    size_t replayed_count;
    uint64_t next_value;
    uint64_t durable_count; /* of appended, when the last sync returned 0 */
    atomic_uint spaces;     /* calls of events.space */
    atomic_uint failures;   /* calls of events.failed */
    size_t doubtful;        /* records that failed: they may be there, last */
    int refuse;             /* what admit says */
};

/* Make a story in a directory, which is opened; nothing else is done. */
void story_init(struct story *story, const char *dir);
/* Close the journal, if it is open, and free. */
void story_done(struct story *story);

/* Open the journal (create: a new one).  Returns what journal_open does. */
int story_open(struct story *story, bool create);
int story_close(struct story *story);

/* Append one record of pages, or zeros.  Returns the item's error. */
int story_write(struct story *story, uint64_t page, uint64_t count);
int story_zero(struct story *story, uint64_t page, uint64_t count, bool hole);

/* As story_write, and again until there is space. */
int story_write_patiently(struct story *story, uint64_t page, uint64_t count);

/* Sync; what was appended so far must be there from now on. */
int story_sync(struct story *story);

/* Say that nothing is needed but what is in the newest segment. */
void story_retire(struct story *story);

/* Fill one page as the number i of a record with this value. */
void story_fill_page(uint64_t value, uint64_t i, unsigned char page[4096]);

/*
 * Whether the replay told exactly the records first .. first + n - 1 of those
 * appended, for some n, up to all that were durable at least.  Says on
 * standard output what is wrong.
 */
bool story_list_is_right(const struct story *story, size_t first);

/* ... and their pages read, through the journal, as they were written. */
bool story_replay_is_right(struct story *story, size_t first);

/* Returns the first appended record whose segment is at or after number. */
size_t story_first_in(const struct story *story, uint64_t number);

/* The events.replay of a story, whose context is the story. */
int story_replay(void *context, const struct journal_record *record,
                 uint64_t position, const uint32_t *checksums);

/*
 * Return when the journal has prepared all that it wants to: two segments
 * ahead of the newest, and a third file to prepare, if there may be one.
 */
void story_settle(struct story *story);

/* Copy the journal's files as they are now, settled, to that directory. */
void story_copy_files(struct story *story, const char *to);

/* Drop from the list what the replay did not tell: it is void. */
void story_accept(struct story *story, size_t first);

#endif
