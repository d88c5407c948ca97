/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_restart - a server of nbd_client.h that is handed over to a successor in
 * the same process, as a restart does from one process to another.
 *
 * Threads: one.
 */
#ifndef SUPPORT_NBD_RESTART_H
#define SUPPORT_NBD_RESTART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/nbd_client.h"

enum { NBD_RESTART_MAX = 16 };

/* What was given away; all zero at first. */
struct nbd_restart {
    size_t count;
    struct nbd_restart_item {
        int fd;
        uint8_t *record;
        size_t record_len;
    } items[NBD_RESTART_MAX];
    int error;  /* what giving one returns; 0: it is kept */
    int result; /* of the last nbd_server_hand_over */
};

/* Hand the fixture's server over, and free it. */
void nbd_restart_hand_over(struct nbd_restart *restart,
                           struct nbd_fixture *fixture, unsigned deadline_ms);

/* Start a successor that neither listens nor has exports, and give it all. */
void nbd_restart_resume(struct nbd_restart *restart,
                        struct nbd_fixture *fixture);

/* Add the fixture's exports to the successor, and have it listen. */
void nbd_restart_open(struct nbd_fixture *fixture);

/* All three, with a deadline of 0. */
void nbd_restart_at_once(struct nbd_fixture *fixture);

/* Close and free what was given and not taken. */
void nbd_restart_done(struct nbd_restart *restart);

#endif
