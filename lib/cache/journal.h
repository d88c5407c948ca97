/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal - the write-ahead log of a device's data: append, group sync,
 * replay, retire.
 *
 * Fourth of the five files of a request, for a write: device.c before it; it
 * is acknowledged from here.
 *
 * Segments are files written full once and recycled in order:
 *
 *   journal/segment.<slot, 4 hex>
 *
 * Appends go one after the other: who comes while one is under way waits and
 * is taken along by the next.  An append never waits for space or a sync.
 *
 * Promises: a record is acknowledged when it and all records before it are
 * written.  journal_when_durable answers after a sync that covers the
 * position.  A replay gives all records that were durable, and of the others
 * a prefix, in the order in which they were placed.  Damage in what some
 * record says was durable is never cut off.
 *
 * After a failed write or sync the journal is lost for good: everything
 * answers -EIO; what can be read, is.
 *
 * Threads: any.  The callbacks run without the journal's locks, but for the
 * turn to append, which is theirs during admit and placed.
 */
#ifndef CACHE_JOURNAL_H
#define CACHE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "cache/cache_dir.h"
#include "cache/journal_record.h"

struct journal;

/* One thing to append; the caller's until the append returns. */
struct journal_item {
    enum journal_kind kind; /* JOURNAL_PAGES or JOURNAL_ZERO */
    bool hole;
    uint64_t page;
    uint64_t count;         /* PAGES: at most journal_pages_max */
    struct iovec pieces[3]; /* PAGES: the content, in order */
    unsigned pieces_count;
    void *owner; /* of the caller, for the callbacks */

    /* Set by the append. */
    int error;           /* 0: placed and written; -EAGAIN: no space now;
                            -EIO: the journal is lost; -EROFS: it is opened
                            read-only; or what admit said */
    uint64_t position;   /* of the first page's content; ZERO: the record */
    uint32_t *checksums; /* of each page, during placed */
};

struct journal_events {
    /*
     * The item is next, and there is space: may it take its place now?  0, or
     * an error that becomes the item's.  Called in the order of the places.
     */
    int (*admit)(void *context, struct journal_item *item);
    /* The item is written: the index shows it from now on. Same order. */
    void (*placed)(void *context, struct journal_item *item);
    /* There is space again, after an item was refused for lack of it. */
    void (*space)(void *context);
    /* The journal is lost. Called once. */
    void (*failed)(void *context, int error);
    /* Replay: one record, in order. checksums as in struct journal_item. */
    int (*replay)(void *context, const struct journal_record *record,
                  uint64_t position, const uint32_t *checksums);
    void *context;
};

struct journal_options {
    const char *device_name; /* for messages */
    int dirfd;               /* where `journal` is; stays the caller's */
    uint8_t journal_id[UUID_SIZE];
    uint8_t cachedir_id[UUID_SIZE];
    /* Bytes, a multiple of 4096, at least 32 KiB; a journal that is there
     * keeps its own, and then has fewer or more segments. */
    uint32_t segment_size;
    unsigned segments_max; /* at least 4 */
    uint64_t begin;        /* from the state log; 0: there is no log yet */
    bool create;           /* make it; -EEXIST if a segment is there */
    bool read_only;        /* write nothing; after damage, serve the rest */
    /* Asked when a header is written, and at the start, when an earlier one
     * than a header knows of is damage: the state log's last commit. */
    uint64_t (*state_commit)(void *context);
    struct journal_events events;
};

/*
 * Open: read the segments from begin on, replay, sync all of it, and begin a
 * fresh segment.  -EUCLEAN: damaged, -ENXIO: (part of) it is missing or
 * belongs to another cache directory; logged: which segment, what is wrong.
 * read_only: as much as is sure is replayed, and 0 returned, also then.
 */
int journal_open(const struct journal_options *options,
                 struct journal **ret_journal);

/*
 * Sync, write a mark and sync it, free.  No append may be under way; waiters
 * have been answered.  Returns the error of the sync.
 */
int journal_close(struct journal *journal);

/* Returns how many pages one item may have. */
uint64_t journal_pages_max(const struct journal *journal);

/*
 * Append items, each in one record, in the order given but for those that are
 * refused (see error; zeros may find space where pages do not).  Returns when
 * all are decided, and with them those whose appends were under way: also with
 * count 0.  *ret_end is the position up to which the log must be durable for
 * all of them to be; 0: none was placed.
 */
void journal_append(struct journal *journal, struct journal_item *items[],
                    size_t count, uint64_t *ret_end);

/*
 * Have at_cut() called where nobody can append, and everything is placed and
 * written that ever will be before position, and nothing from there on.
 * Returns what at_cut() returned; or -EIO, and it was not called: the journal
 * is lost.
 */
int journal_cut(struct journal *journal,
                int (*at_cut)(void *context, uint64_t position), void *context);

/* Embedded in who waits; set position and done. */
struct journal_waiter {
    uint64_t position;
    void (*done)(struct journal_waiter *waiter, int error);
    struct journal_waiter *next;
};

/* Returns the position up to which everything is written, and placed. */
uint64_t journal_head(struct journal *journal);

/*
 * Have done() called, by another thread, when the log is durable up to
 * waiter->position, or lost.  If it is already: at once, by this thread.
 */
void journal_when_durable(struct journal *journal,
                          struct journal_waiter *waiter);

/* Return when all that was placed until now is durable, or the log lost. */
int journal_sync(struct journal *journal);

/*
 * Read size bytes of a page's content at position (+ offset inside the page).
 * checksum is checked over the whole page.  -ESTALE: the segment was recycled
 * meanwhile, look in the index again; -EBADMSG: damaged; nowait: -EAGAIN
 * rather than wait for the disk.
 */
int journal_read(struct journal *journal, uint64_t position, uint32_t checksum,
                 size_t offset, void *data, size_t size, bool nowait);

/* Returns the first position of a segment. */
uint64_t journal_segment_start(const struct journal *journal, uint64_t number);

/*
 * Segments below begin are not needed any more, as the state log durably
 * says; they are recycled.
 */
void journal_retire(struct journal *journal, uint64_t begin);

/*
 * End the segment in use, if it has records, so that it can be retired.
 * Waits for a segment that is being prepared; -EAGAIN if none is.
 */
int journal_rotate(struct journal *journal);

struct journal_fill {
    uint64_t used;           /* bytes that cannot be used again yet */
    uint64_t capacity;       /* bytes of all segments that may be */
    uint64_t begin;          /* number of the oldest segment in use */
    uint64_t newest;         /* number of the one appended to; whatever was
                                written to older ones has been placed */
    uint64_t written;        /* bytes written since it was opened */
    uint64_t last_append_ns; /* by the monotonic clock */
    bool is_lost;            /* nothing more is written or synced */
};

/* Tell how full the journal is: cheap, for every write. */
void journal_get_fill(struct journal *journal, struct journal_fill *ret_fill);

#endif
