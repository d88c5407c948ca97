/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * state_replay - read one log of the state back.
 *
 * For state_log.c.  In a log, a group is overwritten only if it never was
 * whole: behind the last good group there are zeros, or what a torn group
 * left.  The head of a group has a checksum of its own; one that is found
 * further on says that the commit before it was durable, so that it is
 * damaged and not torn.
 *
 * All errors are logged.
 */
#ifndef CACHE_STATE_REPLAY_H
#define CACHE_STATE_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/state_contents.h"
#include "cache/state_files.h"
#include "cache/state_record.h"

struct state_replay {
    const struct state_files *files; /* where it is */
    int fd;                          /* who opened it closes it */
    struct state_header header;
    uint64_t end;      /* behind the last good group */
    uint64_t torn_end; /* behind the last byte that is not zero */
};

/*
 * Open the log of that number and check its header.  files must outlive it.
 * -EUCLEAN: it is missing, or damaged, or not the one of this cache directory;
 * -EPROTONOSUPPORT: of a later version.
 */
int state_replay_open(const struct state_files *files, uint64_t number,
                      const uint8_t cachedir_id[UUID_SIZE], bool read_only,
                      struct state_replay *ret_replay);

/* Returns whether nothing stands in the log.  Reads all of it. */
int state_replay_is_empty(struct state_replay *replay, bool *ret_is_empty);

/*
 * Apply the log, which must begin where the contents stand; sync: make it
 * durable first.  -EUCLEAN: it is damaged.
 */
int state_replay_run(struct state_replay *replay, bool sync,
                     struct state_contents *contents);

#endif
