/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach_state - what was attached, and how, for who comes after; and who
 * watches it.
 *
 * A directory in /run, with a file for each attached device: its line as in
 * nbdtab, how many connections its watcher last saw alive, and which process
 * attached it: by that a file is known to be of an attachment that is over,
 * which others may have ended without telling us.  Whether a device is watched
 * is whether somebody has the lock beside it.  Nothing of it outlives the
 * kernel whose devices it is about.
 *
 * Threads: any.
 */
#ifndef ATTACH_ATTACH_STATE_H
#define ATTACH_ATTACH_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "attach/target.h"

#define ATTACH_STATE_DIR "/run/s3blkdev-attach"

/*
 * Take the lock of nbd<index>, making the directory if need be.  Returns the
 * descriptor that holds it; -EWOULDBLOCK: another process has it.
 */
int attach_state_lock(const char *dir, uint32_t index);

/*
 * Returns whether a process has the lock; false also if that is not known.
 * Nobody who wants the lock is kept from it meanwhile.
 */
bool attach_state_is_locked(const char *dir, uint32_t index);

/*
 * Keep what is attached, replacing what was kept; attached_by is as
 * block_device_attached_by tells.
 */
int attach_state_save(const char *dir, const struct target *target,
                      uint32_t alive, uint32_t attached_by);

/*
 * Read back what was kept of the attachment that this process made.  -ENOENT:
 * nothing is, or of another one; -EINVAL: what is kept makes no sense.
 */
int attach_state_load(const char *dir, uint32_t index, uint32_t attached_by,
                      struct target *ret_target, uint32_t *ret_alive);

/* Forget it; nothing kept is no error. */
int attach_state_remove(const char *dir, uint32_t index);

#endif
