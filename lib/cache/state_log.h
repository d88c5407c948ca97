/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * state_log - what became of the chunks: append, sync, snapshot of the
 * catalog.
 *
 *   state/catalog.<number, 16 hex>  a snapshot
 *   state/log.<number, 16 hex>      the changes since that snapshot
 *
 * A commit is one group of changes, durable as a whole or not at all.  The
 * log is a file written full beforehand, so a full disk fails no commit; a
 * group begins on a page of its own, so a torn write harms no older one.
 * When the log is full, a snapshot is written and the next log begun; the
 * last two snapshots and the logs from the older one on are kept.
 *
 * Only the group at the very end can have been torn by a power cut, as each
 * commit is synced before the next begins.  A bad group before that, or the
 * loss of what the journal knows was committed, is damage.
 *
 * Threads: any; commits take their turn.  Reading the catalogs, and what is
 * at the end of this file, is free.
 */
#ifndef CACHE_STATE_LOG_H
#define CACHE_STATE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/catalog.h"

struct state_log;
struct cache_dir;

enum { STATE_RECORD_SIZE = 512 };

enum state_change_kind {
    STATE_CHUNK = 1,         /* chunk: its whole new entry; 0: a hole */
    STATE_JOURNAL_BEGIN = 2, /* number: the oldest segment still needed */
    /* number: position of the cut; time_ns: of the cut.  Phase FOLDING. */
    STATE_CHECKPOINT_BEGIN = 3,
    /* chunk: its entry in the checkpoint; generation 0: none */
    STATE_CHECKPOINT_CHUNK = 4,
    /* All that it has of chunks is said.  Phase OPEN. */
    STATE_CHECKPOINT_OPEN = 5,
    /*
     * It is an image: for each of its chunks published_generation becomes
     * that of its entry, 0 for a HOLE, and a HOLE of which the image knows
     * leaves the catalog, unless it has a file.  Phase NONE, and no chunks.
     */
    STATE_CHECKPOINT_PUBLISHED = 6,
    STATE_CHECKPOINT_DROPPED = 7, /* phase NONE, and no chunks */
    /* record: of the epoch about to be created.  Another one has been
     * decided, or is void, before. */
    STATE_EPOCH_INTENT = 8,
    STATE_EPOCH_DECIDED = 9, /* record: the newest of ours; no intent */
    STATE_EPOCH_VOID = 10,   /* no intent */
    STATE_COUNTER = 11,      /* number: ids of objects below it are used up */
    STATE_ADOPT = 12,        /* record: the image that the catalog becomes */
    STATE_ADOPTED = 13,      /* it is now; time_ns: of the cut of that image */
};

struct state_change {
    enum state_change_kind kind;
    uint64_t chunk;
    uint64_t number;
    uint64_t time_ns; /* since 1970 */
    struct catalog_entry entry;
    uint8_t record[STATE_RECORD_SIZE]; /* claim.h; here only bytes */
};

enum checkpoint_phase {
    CHECKPOINT_NONE,
    CHECKPOINT_FOLDING, /* cut; what was before it is being folded */
    CHECKPOINT_OPEN,    /* its chunks are known; being uploaded */
};

/* What the state says besides the chunks. */
struct state_facts {
    enum checkpoint_phase phase;
    uint64_t checkpoint_position; /* in the journal */
    /* Of the last checkpoint that was OPEN: chunk files have all that the
     * journal has before it. */
    uint64_t folded_position;
    uint64_t checkpoint_time_ns;
    uint64_t published_time_ns; /* of the cut of the last image; 0: none */
    uint64_t counter;
    bool has_epoch, has_intent, must_adopt;
    uint8_t epoch[STATE_RECORD_SIZE];
    uint8_t intent[STATE_RECORD_SIZE];
    uint8_t adopt[STATE_RECORD_SIZE];
};

/*
 * Read the state into the two empty catalogs, that of the device and that of
 * the open checkpoint, or begin it in a directory without any (create), and
 * make durable what was read.  The directory has its
 * superblock, and both are of one cachedir_id.  dir and catalogs must
 * outlive the log.  -ENOENT: there is none; -EUCLEAN: it is damaged (logged:
 * what, where); -EPROTONOSUPPORT: of a later version; then the catalog is of no
 * use. read_only: nothing is created, written or synced; a commit is -EROFS.
 */
int state_log_open(struct cache_dir *dir, struct catalog *catalog,
                   struct catalog *checkpoint, bool create, bool read_only,
                   struct state_log **ret_log);

/* Free; every commit is durable already.  NULL does nothing. */
void state_log_close(struct state_log *log);

/*
 * Make the changes, any number of them, durable, then apply them to the
 * catalog.  -ENOSPC (the disk is full, and so is the log; the reserve was
 * given up), -ENOMEM, -EINVAL (a chunk past the end, or a change that makes no
 * sense now): nothing was changed, and the same may be tried again.  After any
 * other error (logged) they are not applied, the log is closed for good and
 * every later commit fails too: whether they are durable is not known.
 */
int state_log_commit(struct state_log *log, const struct state_change changes[],
                     size_t count);

/*
 * Write a snapshot of the catalog and begin a new log, unless that has been
 * done since the last commit.  For tests: a commit does it by itself when it
 * must be.  Errors as of a commit.
 */
int state_log_snapshot(struct state_log *log);

/* Returns the number of the last durable commit; it grows by 1 for each. */
uint64_t state_log_last_commit(struct state_log *log);

/* Tell, of one moment, what the state says besides the chunks. */
void state_log_facts(struct state_log *log, struct state_facts *ret_facts);

/* Returns the oldest journal segment that is still needed; 0 at creation. */
uint64_t state_log_journal_begin(struct state_log *log);

/* Returns the highest chunk generation ever committed. */
uint64_t state_log_last_generation(struct state_log *log);

/* Returns how many bytes all commits and snapshots wrote. */
uint64_t state_log_written(struct state_log *log);

#endif
