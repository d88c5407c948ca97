/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lease - the owner's book of uploads: which chunk goes next, to whom, how
 * fast; and what became of it.
 *
 *   waiting -> leased -> uploaded
 *      ^         |
 *      +---------+   failed, or the holder is gone
 *
 * Work comes from the open checkpoint (every chunk that is pending in it, most
 * recently used first), and from candidates for eviction (dirty chunks that
 * must go; the state of the checkpoint before the newest).  A chunk has one
 * lease at most, and only what is reported for a lease is applied, so an
 * uploader that was thought to be gone changes nothing.
 *
 * Object ids: their counter is reserved in the state log before the first of
 * them is given out, so that no id is ever given out twice.
 *
 * Threads: any.  Locks: its own, above those of catalogs and use; not held
 * across a commit or a callback.
 */
#ifndef CACHE_LEASE_H
#define CACHE_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/catalog.h"
#include "cache/lease_holders.h"
#include "cache/upload.h"

struct leases;
struct state_log;
struct uploaded; /* of destage.h */
struct use;

/* How much others need the line and the disk, now. */
struct lease_pressure {
    bool reads_wait;  /* somebody waits for the bucket */
    bool writes_wait; /* somebody waits for room */
};

struct lease_options {
    const char *device_name;
    uint32_t chunk_size;
    struct catalog *catalog;    /* of the device */
    struct catalog *checkpoint; /* of the open checkpoint */
    struct state_log *state_log;
    struct chunk_dir *chunk_dir; /* to look whether a state is lost */
    struct use *use;             /* NULL: in the order of the catalog */
    unsigned parallel;           /* uploads at once, at least 1 */
    /* Record what was uploaded: device_uploaded; sets each one's error. */
    int (*uploaded)(void *context, struct uploaded *list[], size_t count);
    void (*pressure)(void *context, struct lease_pressure *ret_pressure);
    /* The last chunk of the checkpoint has been uploaded: publish. */
    void (*complete)(void *context);
    void *context;
};

/* Everything in options must outlive the leases.  -ENOMEM. */
int leases_new(const struct lease_options *options, struct leases **ret_leases);

/* Free; no call may be in progress.  NULL does nothing. */
void leases_free(struct leases *leases);

/* From now on there are so many uploads at once, at least 1, at most. */
void leases_set_parallel(struct leases *leases, unsigned parallel);

/*
 * The claim whose epoch and nonce new object ids carry; epoch 0: there is
 * none (now), nothing is given out, and what was given out is void.
 */
void leases_set_claim(struct leases *leases, uint64_t epoch, uint64_t nonce);

/*
 * A checkpoint was opened, or one was found open at the start: its pending
 * chunks wait from now on.  Leases of the checkpoint before are void.
 * *ret_count: how many chunks; with 0 it is complete, and nobody will call
 * complete().  -ENOMEM.
 */
int leases_begin_checkpoint(struct leases *leases, uint64_t *ret_count);

/* The checkpoint is an image, or was dropped: its leases are void. */
void leases_end_checkpoint(struct leases *leases);

/*
 * These chunks, all of these hundredths, should be uploaded soon, so that they
 * can be evicted, in this order; they take the place of the hundredths'
 * candidates before.  Those that are neither pending nor dirty when their turn
 * comes are passed over.  -ENOMEM.
 */
int leases_set_candidates(struct leases *leases, unsigned start_percent,
                          unsigned stop_percent, const uint64_t chunks[],
                          size_t count);

/*
 * Whether the chunk would be given out now, if it was a candidate: nobody has
 * it, and it does not wait after an upload that came to nothing.
 */
bool lease_may_begin(struct leases *leases, uint64_t chunk);

/* Returns which hundredth a chunk belongs to, 0 .. 99; even and stable. */
unsigned lease_percent(uint64_t chunk);

/* Whether start <= that < stop: 0, 100 is every chunk. */
bool lease_is_in_part(uint64_t chunk, unsigned start_percent,
                      unsigned stop_percent);

/*
 * Returns a counter: uploads by leases of the present claim whose ids have a
 * lower one have ended, and what became of them is recorded.
 */
uint64_t lease_first_counter(struct leases *leases);

enum lease_purpose {
    LEASE_CHECKPOINT, /* what the checkpoint wants */
    LEASE_EVICTION,   /* candidates */
};

/* Who asks, and for what. */
struct lease_wish {
    uint64_t holder; /* names who is gone in lease_holder_gone */
    enum lease_purpose purpose;
    unsigned start_percent; /* only chunks of these hundredths: */
    unsigned stop_percent;  /* start <= lease_percent < stop */
};

struct lease {
    uint64_t number;         /* its name; never 0 */
    struct upload_work work; /* for upload_chunk */
    bool is_for_checkpoint;
    unsigned parallel; /* how many the holders together may have now: fewer
                          when the store was busy (-EBUSY was reported) */
};

/*
 * Take a lease, if it is time for one: uploads that fail are tried again
 * later, and while somebody waits for the bucket uploads get a small share of
 * the time only, unless somebody waits for room.
 *   -EAGAIN  not now: ask again after *ret_wait_ns at the latest
 *   -ENODATA no chunk of these hundredths waits, now or later, unless an
 *            upload that is under way fails
 *   -EPERM   there is no claim
 *   others   the ids cannot be made durable (logged)
 * Whatever came of it, lease_report must follow, or lease_holder_gone.
 */
int lease_take(struct leases *leases, const struct lease_wish *wish,
               struct lease *ret_lease, uint64_t *ret_wait_ns);

/*
 * Say what became of a lease: error of upload_chunk, and its result if that
 * is 0 (the table stays the caller's).  Records the upload durably, before it
 * returns.  -ESTALE: there is no such lease (any more), or the chunk has
 * changed: the object is garbage; -EBADMSG: this is not the table of that
 * work; others: it could not be recorded, and is handed out again.
 */
int lease_report(struct leases *leases, uint64_t holder, uint64_t number,
                 int error, const struct upload_result *result);

/* All leases of that holder are void; their chunks wait again. */
void lease_holder_gone(struct leases *leases, uint64_t holder);

struct lease_counts {
    uint64_t waiting;  /* chunks of the checkpoint in these hundredths */
    uint64_t leased;   /* being uploaded, of these hundredths */
    uint64_t failing;  /* of the waiting: those whose last upload failed */
    uint64_t pages;    /* that the files of waiting and leased take */
    uint64_t uploaded; /* chunks, since leases_new, of all hundredths */
    uint64_t bytes;    /* of their objects */
    int last_error;    /* of an upload; 0: the last one went well */
};

/* Tell what is left of the checkpoint, and what was done. */
void lease_count(struct leases *leases, unsigned start_percent,
                 unsigned stop_percent, struct lease_counts *ret_counts);

/* Tell who takes leases, besides the owner itself. */
void lease_get_holders(struct leases *leases,
                       struct lease_holders *ret_holders);

#endif
