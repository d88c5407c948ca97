/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim_decide - what a start does, by what is here and what is the newest
 * epoch in the bucket (pure).
 */
#ifndef CACHE_CLAIM_DECIDE_H
#define CACHE_CLAIM_DECIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/epoch.h"

/* What the user wants: the first is what every ordinary start says. */
enum claim_mode {
    CLAIM_NORMAL,
    CLAIM_TAKEOVER, /* the device is ours from now on, whoever had it */
    CLAIM_DISCARD,  /* what is not in the newest image may be lost */
};

/* What is here. */
struct claim_local {
    bool is_empty; /* the cache directory has nothing of the device */
    bool is_dirty; /* something here is in no image */
    bool has_epoch;
    struct epoch_record epoch; /* whose content was published here last */
    uint8_t cachedir_id[UUID_SIZE];
};

enum claim_action {
    CLAIM_CREATE,       /* a new device; its number goes on after a tombstone */
    CLAIM_GO_ON,        /* the newest epoch is ours, or what we have already */
    CLAIM_LOAD,         /* make the catalog equal to the newest image */
    CLAIM_TAKE,         /* the same, with a snapshot of it, and claim */
    CLAIM_TAKE_OWN,     /* a conflict: ours goes on; a snapshot of the other */
    CLAIM_SERVE,        /* no answer: serve what is here, ask again */
    CLAIM_SERVE_LOST,   /* the bucket has only older epochs than ours: so too */
    CLAIM_WAIT,         /* no answer, and nothing here */
    CLAIM_REFUSE_HELD,  /* another writes it */
    CLAIM_REFUSE_COPY,  /* we wrote it, but this is an old copy of the disk */
    CLAIM_REFUSE_DIRTY, /* it went on elsewhere, and what is here is in no
                           image: fork or discard */
    CLAIM_REFUSE_DROPPED,  /* the device was dropped */
    CLAIM_REFUSE_CONFLICT, /* two hosts wrote it, and nobody said who goes on */
};

/*
 * Decide what a start does.  newest: what the bucket has; NULL: it gave no
 * answer.  *ret_which: which of the newest records the action means.
 */
enum claim_action claim_decide(enum claim_mode mode,
                               const struct claim_local *local,
                               const struct epoch_newest *newest,
                               size_t *ret_which);

/* Whether the action ends the start. */
bool claim_action_refuses(enum claim_action action);

#endif
