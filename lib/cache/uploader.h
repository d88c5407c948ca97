/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uploader - uploads what the owner of a cache directory hands out: lease,
 * upload, report, in several threads, until there is nothing left or no time.
 *
 * Each thread has a connection of its own, so that a chunk goes back to the
 * owner when its thread ends, however it ends.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef CACHE_UPLOADER_H
#define CACHE_UPLOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/upload.h"

struct uploader;

struct uploader_options {
    const char *cachedir; /* whose owner to ask */
    const char *purpose;  /* "image" or "space", see control_message.h */
    unsigned start_percent, stop_percent; /* 0 and 100: all */
    unsigned threads;
    uint64_t deadline_ns; /* no chunk is begun after it; UINT64_MAX: none */
    /*
     * After a failure a thread waits so long, and twice as long, up to
     * failure_delay_max_ms, after each further one in a row; so that a sick
     * store is not hammered.  After failures_max of them it ends; 0: it does
     * not, for the store may be well again before the deadline.
     */
    unsigned failure_delay_ms, failure_delay_max_ms;
    unsigned failures_max;
    /*
     * upload_chunk, or what a test puts in its place; many at once.  A thread
     * whose upload is -ECANCELED ends, and nothing is said of its chunk.
     */
    int (*upload)(void *context, const struct upload_work *work,
                  struct upload_result *ret_result);
    void *context;
};

/* How far it is, at one moment. */
struct uploader_counts {
    uint64_t chunks;   /* uploaded, and recorded by the owner */
    uint64_t bytes;    /* of their objects */
    uint64_t fetched;  /* bytes that had to be read from the bucket */
    uint64_t outdated; /* uploaded in vain: the chunk had changed meanwhile */
    uint64_t failures; /* uploads that failed */
    uint64_t left;     /* of the checkpoint, as the owner said last */
    bool knows_left;
    bool is_time_up; /* the deadline came before the end */
    bool is_cut_off; /* the owner is gone */
    int last_error;  /* of an upload, or what the owner answered; or 0 */
};

/* Start the threads.  options is copied; what it points to must outlive it. */
int uploader_start(const struct uploader_options *options,
                   struct uploader **ret_uploader);

/* Tell how far it is. */
void uploader_count(struct uploader *uploader,
                    struct uploader_counts *ret_counts);

/*
 * Wait until all threads have ended: because there is nothing left, time is
 * up, the owner is gone, or after uploader_finish.  Returns false if the
 * deadline came before that.
 */
bool uploader_wait(struct uploader *uploader, uint64_t deadline_ns);

/* Have no further chunk begun; those in hand are finished. */
void uploader_finish(struct uploader *uploader);

/* Finish, wait and free.  NULL does nothing. */
void uploader_free(struct uploader *uploader);

#endif
