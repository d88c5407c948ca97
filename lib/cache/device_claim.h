/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_claim - what the claim means for a device that is opened: whether it
 * may be, with which content, and who may write then.
 *
 * For device_parts.c.  A start goes through these in order:
 *
 *   device_claim_ask_new   nothing is here: may there be something?
 *   device_claim_attach    the newest epoch is looked up; its image is loaded,
 *                          if the device went on elsewhere
 *   (the superblock says that the device is open)
 *   device_claim_finish    a new device, or one that is taken over, is claimed
 *
 * Power may go after each: the next start decides anew by what it finds.
 * Threads: that which opens the device.
 */
#ifndef CACHE_DEVICE_CLAIM_H
#define CACHE_DEVICE_CLAIM_H

#include "cache/device_parts.h"

/*
 * Before anything is made in an empty cache directory: find out whether the
 * device is new, or in the store, from where its ids are put in the
 * superblock.  -ENXIO: it may not be opened here; -EAGAIN: the store does not
 * answer; -EINVAL: its sizes are others.  Logged.
 */
int device_claim_ask_new(struct device *device);

/* Returns whose objects the device reads: its own, or those of its image. */
const char *device_claim_prefix(const struct device *device);

/*
 * Parts of it, for device_image.c.  Whether the record fits (-EINVAL, logged);
 * make the catalog equal to the image of a record; bring to its end what was
 * begun of that; let objects of other devices be found, if there are some.
 */
int device_claim_check_sizes(const struct device *device,
                             const struct epoch_record *record);
int device_claim_load_image(struct device *device,
                            const struct epoch_record *record);
int device_claim_finish_adoption(struct device *device);
int device_claim_find_origins(struct device *device,
                              const struct epoch_record *content);

/* Errors as above, and those of adopt and state log. */
int device_claim_attach(struct device *device);

/* -ENXIO: another was faster (logged); others: of the store, or state log. */
int device_claim_finish(struct device *device);

/* Returns whether something here is in no image; the gate must be shut, if
 * that is to stay so. */
bool device_claim_is_dirty(struct device *device);

/* Free the claim; no call of it is under way. */
void device_claim_close(struct device *device);

#endif
