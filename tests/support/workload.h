/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workload - random requests to a device, kept account of in a model.
 *
 * Threads: one uses a workload; the device answers from any.
 */
#ifndef SUPPORT_WORKLOAD_H
#define SUPPORT_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cache/device.h"
#include "support/device_model.h"

struct workload {
    struct device *device;
    struct device_model *model;
    uint64_t seed;
    uint64_t steps;  /* taken so far: what comes next depends on it */
    unsigned failed; /* requests that got an error */
};

/*
 * Run groups of requests, one after the other: writes of 512 bytes to
 * 200 KiB at odd places, zeros, trims, some with FUA, and flushes.  Needs no
 * recording; with one, the model learns its moments.
 */
void workload_run(struct workload *workload, unsigned groups);

/* Flush.  Returns the error. */
int workload_flush(struct workload *workload);

/*
 * Read all of the device in pieces of odd sizes into content.  Returns an
 * error of the device.
 */
int workload_read(struct device *device, uint64_t seed, unsigned char *content);

/*
 * Ask for the extents of all of the device: they must cover it, in order, and
 * what they call zero must be zero in content.  Says to report what is not.
 */
bool workload_check_extents(struct device *device, const unsigned char *content,
                            FILE *report);

#endif
