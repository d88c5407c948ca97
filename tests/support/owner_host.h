/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * owner_host - a device fixture with its owner, over a store in memory that
 * counts and fails, and what a client asks of the owner.
 *
 * Threads: one.  What must go well, and does not, ends the process.
 */
#ifndef SUPPORT_OWNER_HOST_H
#define SUPPORT_OWNER_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/control_message.h"
#include "cache/owner.h"
#include "support/device_fixture.h"
#include "support/fault_store.h"

enum {
    OWNER_HOST_CHUNK = 1 << 18,
    OWNER_HOST_HOLDER = 7, /* who asks */
};

struct owner_host {
    struct device_fixture fixture;
    struct fault_store *faults;
    struct owner *owner;
    uint64_t connections; /* what the owner is told */
    /* For the next owner_host_start: see owner_options. */
    uint64_t upload_rate;
    struct upload_share *share;
};

/*
 * Make a device of 16 MiB below dir, open it, and start its owner, which
 * keeps 2 images and what was condemned for a day.
 */
void owner_host_begin(struct owner_host *host, const char *dir,
                      uint64_t cachesize);

/* Start another owner, after owner_stop. */
void owner_host_start(struct owner_host *host, uint64_t cachesize);

/* Stop the owner, close everything. */
void owner_host_end(struct owner_host *host);

/* Ask, and clear the request; the reply is to be cleared. */
void owner_host_ask(struct owner_host *host, struct control_message *request,
                    struct control_message *ret_reply);

/*
 * Ask with one key; NULL: with none.  Returns the negative errno of an answer
 * "error", else 0; the reply is to be cleared.
 */
int owner_host_ask_for(struct owner_host *host, const char *verb,
                       const char *key, const char *value,
                       struct control_message *ret_reply);

/* Returns the number that a reply, or the status, has for a key. */
uint64_t owner_host_number(const struct control_message *reply,
                           const char *key);
uint64_t owner_host_status(struct owner_host *host, const char *key);

/* Upload one chunk as s3blkdev-sync does.  Returns whether there was one. */
bool owner_host_upload(struct owner_host *host, const char *purpose);

/* Checkpoint, upload all, publish.  Returns how many chunks were uploaded. */
unsigned owner_host_sync(struct owner_host *host);

/* Evict, uploading what must be, until so many percent are used at most. */
void owner_host_evict(struct owner_host *host, uint64_t above);

/* Write bytes that depend on the seed to a chunk; whether they are there. */
void owner_host_write(struct owner_host *host, uint64_t chunk, uint64_t seed);
bool owner_host_has(struct owner_host *host, uint64_t chunk, uint64_t seed);

/* Returns how many requests the store has had. */
uint64_t owner_host_calls(struct owner_host *host);

#endif
