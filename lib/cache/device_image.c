/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * That an image is here is said by the state log's newest epoch: the record of
 * that image.  It is committed after the catalog was made equal to the image,
 * which is begun anew if a power cut came before.
 */
#include "cache/device_image.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "cache/device_claim.h"
#include "cache/snapshot.h"

/* Find the snapshot.  Returns -EHOSTDOWN without an answer. */
static int find(struct device *device, struct epoch_record *ret_record)
{
    const struct device_options *options = &device->options;
    struct snapshot snapshot;
    int error = snapshot_find(options->store, options->image_device,
                              options->image_name, &snapshot);

    if (error == 0) {
        *ret_record = snapshot.record;
        return 0;
    }
    log_error("%s: image %s@%s: %s", options->name, options->image_device,
              options->image_name,
              error == -ENOENT ? "there is no such snapshot"
                               : log_errno(error));
    return error == -ENOENT ? -ENXIO : -EHOSTDOWN;
}

int device_image_ask_new(struct device *device)
{
    struct epoch_record record;
    int error = find(device, &record);

    if (error != 0)
        return error;
    memcpy(device->superblock.device_id, record.device_id, UUID_SIZE);
    return device_claim_check_sizes(device, &record);
}

static int load(struct device *device, const struct epoch_record *record)
{
    struct state_change change = {.kind = STATE_EPOCH_DECIDED};
    int error = device_claim_load_image(device, record);

    if (error != 0)
        return error;
    epoch_encode(record, change.record);
    return state_log_commit(device->state_log, &change, 1);
}

/* Whether it is the directory of the device itself. */
static bool is_written_here(struct device *device,
                            const struct epoch_record *record)
{
    return device_claim_is_dirty(device) ||
           memcmp(record->cachedir_id, device->superblock.cachedir_id,
                  UUID_SIZE) == 0;
}

int device_image_attach(struct device *device)
{
    const struct device_options *options = &device->options;
    bool is_new = device->superblock.incarnation == 0;
    struct epoch_record record, here = {.epoch = 0};
    struct state_facts facts;
    int error = device_claim_finish_adoption(device);

    if (error != 0)
        return error;
    state_log_facts(device->state_log, &facts);
    if (facts.has_epoch && epoch_decode(facts.epoch, &here) != 0)
        return -EUCLEAN;
    error = find(device, &record);
    if (error == -EHOSTDOWN && facts.has_epoch && !is_new) {
        log_warning("%s: no answer: what is here is served", options->name);
        return 0;
    }
    if (error != 0)
        return error;
    if (facts.has_epoch && epoch_is_same(&here, &record) &&
        !is_written_here(device, &record))
        return device_claim_find_origins(device, &record);
    if (!is_new) {
        log_error("%s: %s is of another image or device: image %s@%s needs an "
                  "empty directory",
                  options->name, options->cachedir, options->image_device,
                  options->image_name);
        return -ENXIO;
    }
    return load(device, &record);
}
