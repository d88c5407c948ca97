/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hostile_store - an s3_store on the server of hostile_s3, for tests of what
 * comes of each fault.
 *
 *     struct hostile_store h;
 *
 *     if (!hostile_store_open(&h, &(struct hostile_store_options){0}))
 *         SKIP("node is not installed");
 *     ...
 *     hostile_store_close(&h);
 *
 * Threads: the store's calls, any; all else, one at a time.
 */
#ifndef SUPPORT_HOSTILE_STORE_H
#define SUPPORT_HOSTILE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "object_store.h"
#include "s3/s3_store.h"
#include "support/hostile_s3.h"

enum {
    /* Far more than any answer takes: for tests of other things. */
    HOSTILE_STORE_TIMEOUT_MS = 20000,
    /* For tests where nobody answers. */
    HOSTILE_STORE_SHORT_MS = 300,
};

struct hostile_store_options {
    const char *dir;    /* for certificates; needed if is_tls */
    unsigned endpoints; /* 0: one */
    bool is_tls;
    unsigned timeout_ms; /* 0: HOSTILE_STORE_TIMEOUT_MS */
    const char *prefix;  /* as s3_options have it */
    /* Change what the store is opened with; may be NULL. */
    void (*change)(struct s3_options *options);
};

struct hostile_store {
    struct hostile_s3 *server;
    struct object_store *store;
};

/*
 * Start the server, and open a store on it that is right in all it says.
 * Returns false if there is no node.
 */
bool hostile_store_open(struct hostile_store *h,
                        const struct hostile_store_options *options);

/*
 * Close the store, then the server.  Returns whether the server has no word
 * against what the store sent: no signature that was refused, nothing that is
 * not HTTP, no request before the last one's answer.  If it has, it is printed.
 */
bool hostile_store_close(struct hostile_store *h);

/* As hostile_store_close, for tests that have signatures refused. */
void hostile_store_end(struct hostile_store *h);

#endif
