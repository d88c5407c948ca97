/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crash_states - from a recording of file calls, what a crash may leave.
 *
 * The disk is wound forward through a recording, entry by entry.  Wherever it
 * stands the power may go, and then of what was not synced
 *   - each 512-byte sector of a file has the content that it had after some
 *     write since the sync, the last, the first or none: writes are lost,
 *     reordered and torn;
 *   - a file's size is one of those that it has had since the sync, and what
 *     was not written shows zeros;
 *   - changes of names are there up to some moment, or any subset of them; a
 *     rename is there or not, also when the data of the file is not.
 * A write that is the next entry may have begun.  A sync that failed leaves
 * some of what it was for on the disk, and never again tries the rest, which
 * can still be read until the power goes.
 *
 * Or the process is killed: then everything up to there is in the files, but
 * still no more of it durable, and the disk can be continued with a recording
 * of what the next process did.
 *
 * Threads: one at a time.
 */
#ifndef SUPPORT_CRASH_STATES_H
#define SUPPORT_CRASH_STATES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "support/fault_file.h"

struct crash_disk;

/*
 * The disk as it was when the recording, which must outlive it, began: with
 * directories at most.
 */
struct crash_disk *crash_disk_new(const struct recording *recording);
void crash_disk_free(struct crash_disk *disk);

/* Wind forward to just before entry cut, which is not behind. */
void crash_disk_advance(struct crash_disk *disk, size_t cut);

/*
 * Write a state that a power cut now may leave into the empty directory root;
 * the same seed gives the same state.  recipe, unless NULL, is told what was
 * kept and what was lost.
 */
void crash_disk_power_cut(const struct crash_disk *disk, uint64_t seed,
                          const char *root, FILE *recipe);

/*
 * Kill the process now: write what the files hold into the empty directory
 * root.  The next write may be there in part, by the seed.  After it the disk
 * takes power cuts, which may still lose what the process had not synced, and
 * crash_disk_continue.
 */
void crash_disk_kill(struct crash_disk *disk, uint64_t seed, const char *root);

/*
 * Go on with a recording that began in the root which crash_disk_kill wrote.
 */
void crash_disk_continue(struct crash_disk *disk,
                         const struct recording *recording);

/* Returns a number that depends on seed and n alone and looks random. */
uint64_t crash_random(uint64_t seed, uint64_t n);

#endif
