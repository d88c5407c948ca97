/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * condemned - a page of a list of what may be deleted later (collect.h).
 *
 *   <device>/condemned/<epoch, 16 hex>-<nonce, 16 hex>/<page, 8 hex>
 *                                                     /end
 *
 * Pure.  What does not decode to what it must be is -EBADMSG, and of a later
 * version -EPROTONOSUPPORT; one page has one form.
 */
#ifndef CACHE_CONDEMNED_H
#define CACHE_CONDEMNED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/device.h"

enum condemned_kind {
    CONDEMNED_ROOT = 1,   /* page number of manifest epoch-nonce */
    CONDEMNED_PAGE = 2,   /* the same, a leaf */
    CONDEMNED_OBJECT = 3, /* of a chunk: epoch, nonce, counter in number */
    CONDEMNED_EPOCH = 4,  /* number 1: its key has the nonce; else 0 */
    CONDEMNED_PIN = 5,    /* its uuid: high half in epoch, low in nonce */
};

struct condemned {
    enum condemned_kind kind;
    uint64_t chunk; /* of an object; else 0 */
    uint64_t epoch;
    uint64_t nonce;
    uint64_t number;
};

struct condemned_page {
    uint64_t epoch; /* of the list, as in its key */
    uint64_t nonce;
    uint32_t page; /* of the end: how many pages are before it */
    bool is_end;
    uint32_t count;
};

enum {
    CONDEMNED_COUNT_MAX = 4000, /* in one page: what one run works off */
    CONDEMNED_HEADER = 64,
    CONDEMNED_ENTRY = 36,
    CONDEMNED_PAGE_MAX =
        CONDEMNED_HEADER + CONDEMNED_COUNT_MAX * CONDEMNED_ENTRY,
    CONDEMNED_KEY_MAX = DEVICE_NAME_MAX + 11 + 16 + 1 + 16 + 1 + 8 + 1,
};

/*
 * Encode page->count entries into data, which has room for CONDEMNED_PAGE_MAX.
 * Returns the size.
 */
size_t condemned_encode(const struct condemned_page *page,
                        const struct condemned entries[], void *data);

/* Decode and check; entries has room for CONDEMNED_COUNT_MAX. */
int condemned_decode(const void *data, size_t size,
                     struct condemned_page *ret_page,
                     struct condemned entries[]);

/* Returns < 0, 0, > 0: by kind, then chunk, epoch, nonce, number. */
int condemned_compare(const struct condemned *a, const struct condemned *b);

/* Write the key of a page of a list. */
void condemned_key(const char *device_name, const struct condemned_page *page,
                   char key[CONDEMNED_KEY_MAX]);

#endif
