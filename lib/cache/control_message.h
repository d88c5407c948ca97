/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control_message - what the owner of a cache directory and s3blkdev-sync say
 * to each other ⇄ bytes (pure).
 *
 * A message is one line, "verb key=value key=value\n", and behind it as many
 * bytes of payload as its key "payload" says, none without that key.  Bytes
 * of a value other than 0-9 A-Z a-z . _ - , : / + are written as %XX.  Numbers
 * are decimal.  A request is answered by one message: "ok", or "error" with
 * errno=NUMBER and text=WHAT, or where the table says so another verb.
 *
 * The socket is that of one device, so no request names it.
 *
 *   request     keys, [may be missing]       answer
 *   hello       version                      ok version device size chunksize
 *                                               daemon=0|1 pid
 *   status                                   ok, with the keys of
 *                                               status_text.h, and its payload
 *   origins                                  ok, payload: for each a line
 *                                               "number device"
 *       of what devices objects are, besides ours: fetch_set_origin
 *   checkpoint                               ok time_ns joined=0|1 chunks left
 *                                               bytes
 *       join the open checkpoint, or open one; returns when it is OPEN.
 *       joined=0: it was cut after this request came.  chunks: of them all,
 *       left and bytes: to be uploaded.  time_ns=0: nothing changed since the
 *       last image, and there is no checkpoint.  error ENOSPC: it finds no
 *       room on the disk
 *   lease       purpose=image|space          ok, with a struct control_lease
 *               [from to]                    wait milliseconds
 *                                            none left
 *       a chunk to upload; image: of the open checkpoint; space: so that it
 *       can be evicted.  from, to: only chunks whose hash is in [from, to),
 *       percent.  wait: ask again after that time, for reads go first, or
 *       all that is left is leased to others.  none: nothing (more) to do in
 *       from...to; left: of the checkpoint in all
 *   report      control_report                ok left
 *       what became of a lease; if it was not uploaded, it goes back.  error
 *       ESTALE: it was no lease (any more), or its chunk changed; what was
 *       uploaded is garbage
 *   progress                                 ok chunks left bytes uploaded
 *                                               evicted
 *       of the open checkpoint; uploaded, evicted: bytes, since it started
 *   evict       above [from to]              ok state=done|more|upload|stuck
 *                                               used chunks freed
 *       one step; used: percent with two digits, such as 71.05; done: no more
 *       than above percent are used; more: ask again; upload: what is left
 *       must be uploaded first: lease purpose=space, which hands out none
 *       while others upload it, or just after it was uploaded in vain; stuck:
 *       nothing is left of those hundredths
 *   publish                                  ok left epoch time_ns
 *       make the image if all of the checkpoint is there; left=0: it is made
 *       (also by somebody else just before): epoch, time_ns of its cut
 *   collect                                  ok condemned deleted more
 *       condemn and delete what nothing names any more; counts of objects;
 *       more=1: ask again
 *   snapshot    name [epoch]                 ok epoch
 *       the image of that epoch, or the newest, gets that name
 *   snapshots                                ok, payload: for each a line
 *                                               "name epoch time_ns"
 *   rollback    name [discard=1]             ok epoch
 *   clone       to [name]                    ok epoch
 *   release                                  ok epoch
 *   fork        to                           ok epoch
 *   takeover discard                         error EBUSY
 *       not while a daemon has the device.  Without one s3blkdev-sync opens it
 *       as device_attach says, which for takeover and discard is all
 *   scrub       [restart=1] [local=1]        ok done=0|1 position chunks
 *               [sample] [rate] [others=1]      objects blocks bytes bad
 *                                               repaired [condemned],
 *                                               payload: lines
 *       one step of a second or so, from where the last one ended; restart:
 *       from the beginning.  sample: percent of blocks; rate: bytes a second.
 *       Numbers are of this step, but position: chunks done of chunks.  Lines
 *       tell what is bad, and what names it.  condemned, at the end: objects
 *       that came into no image; without it they could not be looked for.
 *       others: as in collect_options, and the claim is made for it
 *   drop        [name]                       ok
 *       the snapshot of that name; or the device, after which the owner has
 *       nothing more to own
 *   yield                                    no answer: the connection ends
 *                                               when the lock is free
 *       asked by a daemon that starts.  error EBUSY: the owner is a daemon
 */
#ifndef CACHE_CONTROL_MESSAGE_H
#define CACHE_CONTROL_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/upload.h"

enum {
    CONTROL_VERSION = 1,
    CONTROL_LINE_MAX = 8192,       /* bytes of a line, its end included */
    CONTROL_PAIRS_MAX = 128,       /* keys of a message */
    CONTROL_PAYLOAD_MAX = 4 << 20, /* bytes */
};

/*
 * A message that is being made or was received; a few KiB, no pointers but
 * payload.  Zero but for verb: of use after control_message_start only.
 */
struct control_message {
    char text[CONTROL_LINE_MAX]; /* verb, keys, values, each with its 0 */
    size_t text_len;
    struct {
        uint16_t key, value; /* where they begin in text */
    } pairs[CONTROL_PAIRS_MAX];
    size_t pairs_count;
    bool is_too_long; /* something did not fit: it cannot be encoded */
    void *payload;    /* malloc'ed, freed by control_message_clear; or NULL */
    size_t payload_size;
};

/* Begin a message, which is not initialised or was cleared. */
void control_message_start(struct control_message *message, const char *verb);

/* Begin an answer "error" for a negative errno, saying what, as printf does. */
void control_message_start_error(struct control_message *message, int error,
                                 const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Free the payload; the struct can be started again. */
void control_message_clear(struct control_message *message);

/*
 * Add a key, of letters a-z and _, once each, and its value: any text.  What
 * does not fit makes control_message_encode fail.
 */
void control_message_add(struct control_message *message, const char *key,
                         const char *value);
void control_message_add_number(struct control_message *message,
                                const char *key, uint64_t value);

/* Give the message a payload, malloc'ed, which belongs to it from now on. */
void control_message_set_payload(struct control_message *message, void *payload,
                                 size_t size);

/* Returns the verb, and whether it is this one. */
const char *control_message_verb(const struct control_message *message);
bool control_message_is(const struct control_message *message,
                        const char *verb);

/* Returns the value of a key, "" without a value, NULL if it is not there. */
const char *control_message_get(const struct control_message *message,
                                const char *key);

/*
 * Tell the number of a key; -ENOENT: the key is not there; -EINVAL: it is no
 * number from min to max.
 */
int control_message_get_number(const struct control_message *message,
                               const char *key, uint64_t min, uint64_t max,
                               uint64_t *ret_value);

/* Returns whether the key is there and not 0. */
bool control_message_has(const struct control_message *message,
                         const char *key);

/*
 * Write the line, its newline included, without the payload's bytes but with
 * the key that announces them.  Returns its length, or -E2BIG.
 */
int control_message_encode(const struct control_message *message,
                           char line[CONTROL_LINE_MAX]);

/*
 * Read a line of len bytes, without the newline.  -EBADMSG: it is no message.
 * The payload is still to come: *ret_payload_size bytes, at most
 * CONTROL_PAYLOAD_MAX; control_message_set_payload then.
 */
int control_message_decode(const char *line, size_t len,
                           struct control_message *ret_message,
                           size_t *ret_payload_size);

/* ---- leases ------------------------------------------------------------- */

/* A chunk that its holder is to upload: the answer to "lease". */
struct control_lease {
    uint64_t lease; /* its number, for the report */
    struct upload_work work;
    uint64_t rate;        /* bytes a second for each; 0: no limit */
    unsigned parallelism; /* how many uploads at once, of all holders */
};

/* Begin an answer "ok" with the lease, and read one; -EBADMSG: it is none. */
void control_lease_encode(const struct control_lease *lease,
                          struct control_message *message);
int control_lease_decode(const struct control_message *message,
                         struct control_lease *ret_lease);

/* What became of one: the request "report". */
struct control_report {
    uint64_t lease;
    int error;                   /* of upload_chunk; if it is 0: */
    struct upload_result result; /* its table is the payload */
};

/*
 * Begin a request "report", to which the table belongs from now on; and read
 * one, whose table stays the message's.  -EBADMSG: it is none.
 */
void control_report_encode(const struct control_report *report,
                           struct control_message *message);
int control_report_decode(const struct control_message *message,
                          struct control_report *ret_report);

#endif
