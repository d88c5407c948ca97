/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * status_text - the answer to "status" as JSON, and as a table for people
 * (pure).
 *
 * Keys of the answer; a key that does not apply is left out.  ..._ns are
 * nanoseconds since 1970, sizes are bytes.
 *
 *   device               name
 *   size chunk_size
 *   state                serving, new (no image yet), failed, fenced,
 *                        read-only, waiting (for the store, to be opened)
 *   claim                unknown, ours, claimed, released, fenced
 *   claim_epoch          newest that we know of
 *   claim_host           who wrote it
 *   writethrough         0, 1
 *   conditional_put      0: the store has none; 1
 *   connections          of NBD clients
 *   journal_used journal_size
 *   cache_used           what its chunk files take
 *   cache_limit          cachesize; 0: none
 *   disk_total disk_available    of the cache directory's file system
 *   room_begin_percent   of the limit, or the disk: when more is used the
 *   room_end_percent     daemon makes room by itself, until it is this
 *   chunks               mapped; they are one of:
 *   zero_chunks          zeros
 *   remote_chunks        only in the bucket
 *   clean_chunks         in the bucket, and here at least in part
 *   dirty_chunks dirty_bytes     not in the bucket; what is only in the journal
 *                        yet counts as bytes, but makes no chunk anything
 *   all_chunks           of the device; those that are not mapped are holes
 *   oldest_unpublished_ns        when the oldest write came that no image has
 *   behind               1: it is older than maxage
 *   max_age_ns           maxage; 0: any
 *   image_epoch image_time_ns    last image: its epoch, and when it was cut
 *   checkpoint           none, folding, open
 *   checkpoint_time_ns checkpoint_chunks checkpoint_left checkpoint_bytes
 *   checkpoint_failing   chunks of it whose last upload failed
 *   upload_error         why the last upload failed, as text
 *   leases               chunks in somebody's hand
 *   syncs                who uploads, as a list of: number, since when
 *                        (nanoseconds), chunks in its hands, chunks and bytes
 *                        that it has uploaded
 *   uploaded_chunks      since the owner started
 *   uploaded evicted fetched     bytes, since then
 *   requests             to the store, since then
 *   parked               requests that wait for space
 *   cold_reads           that wait for the bucket
 *   user_written cache_written   bytes: of WRITE requests, and what was
 *                        written to the cache directory because of all
 *   damaged              blocks and pages that failed their check
 *   alarms               mapped objects that the store did not have
 *   held                 what keeps the device from being uploaded, as text
 *
 * Of its clients, since the daemon started:
 *   read_requests write_requests flush_requests trim_requests zero_requests
 *   other_requests       that were answered
 *   read_bytes written_bytes     of READ and WRITE
 *   errors_io errors_space errors_refused errors_other
 *                        answers that were errors
 *   in_flight            requests that are not answered yet
 *   read_ns write_ns flush_ns    how long all of them took together
 *   read_latency write_latency flush_latency
 *                        lists: how many took as long as each bucket says,
 *                        see histogram_halves; zeros at the end are left out
 *
 * payload                the store, as object_store.h's describe tells it
 */
#ifndef CACHE_STATUS_TEXT_H
#define CACHE_STATUS_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cache/control_message.h"

/*
 * Write the answer as a JSON object.  Keys that are not in the list above are
 * left out; a number or a list that is none is null.  Errors are those of the
 * stream.
 */
void status_text_write(FILE *stream, const struct control_message *status);

/*
 * Returns several devices as one JSON object, {"store": {...}, "devices":
 * [...]}, and a newline, malloc'ed, or NULL without memory.  The store is that
 * of the first one that tells of it, and missing if there is none.
 */
char *status_text_json_of_all(const struct control_message statuses[],
                              size_t count);

/*
 * Returns what people want to know of a device, in a few lines, malloc'ed,
 * or NULL without memory.  now_ns is the time since 1970.
 */
char *status_text_table(const struct control_message *status, uint64_t now_ns);

#endif
