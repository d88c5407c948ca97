/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * upload_host - a device fixture whose checkpoints are uploaded and published
 * step by step, by what its owner and uploaders are made of: claim, leases,
 * upload_chunk, publish_checkpoint.
 *
 * Threads: one; requests to the device: any.
 */
#ifndef SUPPORT_UPLOAD_HOST_H
#define SUPPORT_UPLOAD_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/claim.h"
#include "cache/lease.h"
#include "support/device_fixture.h"

struct upload_host {
    struct device_fixture fixture; /* options: until upload_host_open */
    struct leases *leases;         /* NULL: the device is closed */
    struct claim *claim;           /* the device's */
    unsigned completed;            /* checkpoints, as the leases say */
};

/*
 * Open the device and claim it; goes on with a checkpoint that is open.
 * Returns the first error; the device may be open after it, without claim.
 */
int upload_host_open(struct upload_host *host);

/* Close the device, if it is open. */
int upload_host_close(struct upload_host *host);

/* Kill the process, and open what is left: see fixture_crash. */
int upload_host_crash(struct upload_host *host);

/* Have a checkpoint cut, and its chunks wait.  The store is not needed. */
int upload_host_checkpoint(struct upload_host *host, uint64_t time_ns);

/*
 * Upload up to max chunks, for the checkpoint or of the candidates.
 * *ret_count: how many were recorded.  Returns the first error, if one failed;
 * -EAGAIN: it is not time for the next one.
 */
int upload_host_upload(struct upload_host *host, enum lease_purpose purpose,
                       uint64_t max, uint64_t *ret_count);

/* publish_checkpoint. */
int upload_host_publish(struct upload_host *host, bool *ret_is_new);

/*
 * Upload all that waits, and publish; time_ns != 0: of a checkpoint that is
 * cut first.  Returns the first error.
 */
int upload_host_finish(struct upload_host *host, uint64_t time_ns);

/* Evict those chunks that may go, of a share that depends on the seed. */
int upload_host_evict(struct upload_host *host, uint64_t seed,
                      enum evict_depth depth);

/* Read all of the device. */
int upload_host_read(struct upload_host *host, unsigned char *content);

#endif
