/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sync_device - the commands on one device: snapshots, clones, claims, scrub,
 * drop.
 *
 * Threads: one.
 */
#ifndef SYNC_DEVICE_H
#define SYNC_DEVICE_H

#include "sync_run.h"

/* Do what the command says with the device that it names, which there is. */
int sync_run_command(struct sync *sync);

#endif
