/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/device_claim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cache/adopt.h"
#include "cache/claim.h"
#include "cache/device_image.h"
#include "cache/device_superblock.h"
#include "cache/image.h"
#include "cache/snapshot.h"

static enum claim_mode mode_of(const struct device *device)
{
    switch (device->options.attach) {
    case DEVICE_ATTACH_NORMAL:
    case DEVICE_ATTACH_FORK:
        break;
    case DEVICE_ATTACH_TAKEOVER:
        return CLAIM_TAKEOVER;
    case DEVICE_ATTACH_DISCARD:
        return CLAIM_DISCARD;
    }
    return CLAIM_NORMAL;
}

static int refusal(enum claim_action action)
{
    return action == CLAIM_WAIT ? -EHOSTDOWN : -ENXIO;
}

const char *device_claim_prefix(const struct device *device)
{
    return device->options.image_device != NULL ? device->options.image_device
                                                : device->options.name;
}

/* ---- nothing is here ----------------------------------------------------- */

/* Whether the device in the store is the one of the configuration. */
int device_claim_check_sizes(const struct device *device,
                             const struct epoch_record *record)
{
    const struct device_options *options = &device->options;
    uint64_t size = device_size(device);

    if (record->chunk_size != options->chunk_size) {
        log_error("%s: was made with chunksize %" PRIu32 ", which cannot be"
                  " changed to %" PRIu32,
                  options->name, record->chunk_size, options->chunk_size);
        return -EINVAL;
    }
    if (record->size > size) {
        log_error("%s: has %" PRIu64 " bytes in the store and cannot shrink to"
                  " %" PRIu64,
                  options->name, record->size, size);
        return -EINVAL;
    }
    return 0;
}

int device_claim_ask_new(struct device *device)
{
    struct epoch_record record;
    enum claim_action action;

    if (device->options.store == NULL)
        return 0;
    if (device->options.image_device != NULL)
        return device_image_ask_new(device);
    action = claim_ask_for_new(device->options.store, device->options.name,
                               mode_of(device), &record);
    if (action == CLAIM_WAIT)
        return refusal(action);
    if (claim_action_refuses(action)) {
        log_error("%s: there is nothing of the device in %s",
                  device->options.name, device->options.cachedir);
        return refusal(action);
    }
    if (action == CLAIM_CREATE)
        return 0;
    memcpy(device->superblock.device_id, record.device_id, UUID_SIZE);
    return device_claim_check_sizes(device, &record);
}

/* ---- attach -------------------------------------------------------------- */

bool device_claim_is_dirty(struct device *device)
{
    return catalog_unpublished(device->catalog) > 0 ||
           !page_index_is_empty(device->index);
}

static bool is_dirty(void *context)
{
    return device_claim_is_dirty(context);
}

static int published(void *context, const uint8_t record[EPOCH_RECORD_SIZE])
{
    return device_published(context, record);
}

/*
 * Whether another content is about to take the place of the one that is here,
 * or may be: a rollback is decided, or not known not to be.
 */
static bool is_between(struct device *device) REQUIRES(device->gate_mutex)
{
    struct epoch_record intent;
    struct state_facts facts;

    state_log_facts(device->state_log, &facts);
    return device->is_shut || facts.must_adopt ||
           (facts.has_intent && epoch_decode(facts.intent, &intent) == 0 &&
            intent.is_rollback);
}

static enum device_gate gate_of(struct device *device)
    REQUIRES(device->gate_mutex)
{
    if (atomic_load(&device->is_between))
        return DEVICE_GATE_FENCED;
    if (device->claim != NULL && claim_state(device->claim) == CLAIM_FENCED)
        return DEVICE_GATE_FENCED;
    if (device->claim != NULL && !claim_may_write(device->claim))
        return DEVICE_GATE_WAIT;
    return DEVICE_GATE_OPEN;
}

/* By what is true now; who comes last sees all of it. */
static void set_gate(struct device *device)
{
    mutex_lock(&device->gate_mutex);
    atomic_store(&device->is_between, is_between(device));
    device_set_gate(device, gate_of(device));
    mutex_unlock(&device->gate_mutex);
}

void device_shut(struct device *device, bool is_shut)
{
    mutex_lock(&device->gate_mutex);
    device->is_shut = is_shut;
    mutex_unlock(&device->gate_mutex);
    set_gate(device);
}

/* ---- origins --------------------------------------------------------------
 */

/* Of a clone: whose objects it has besides its own. */
static int set_origins(struct device *device, const struct image *image)
{
    const struct manifest_root *root = image_root(image);
    int error = 0;

    for (uint32_t i = 0; error == 0 && i < root->origins_count; i++)
        error = fetch_set_origin(
            device->fetch, manifest_origin(root->origins[i]), root->origins[i]);
    return error;
}

/* Whether the catalog names objects of other devices. */
static bool has_origins(const struct device *device)
{
    struct catalog_entry entry;
    uint64_t chunk = 0;

    for (; catalog_next(device->catalog, chunk, UINT64_MAX, &chunk); chunk++) {
        catalog_get(device->catalog, chunk, &entry);
        for (unsigned i = 0; i < entry.objects_count; i++) {
            if (entry.objects[i].origin != 0)
                return true;
        }
    }
    return false;
}

static int learn_origins(struct device *device,
                         const struct epoch_record *content)
{
    struct image *image;
    int error = image_open(device->options.store, device_claim_prefix(device),
                           &content->root, &image);

    if (error != 0)
        return error;
    error = set_origins(device, image);
    image_close(image);
    return error;
}

int device_claim_find_origins(struct device *device,
                              const struct epoch_record *content)
{
    return has_origins(device) ? learn_origins(device, content) : 0;
}

/* The names of these are only in the image.  Without an answer they are asked
 * for when the store has answered something else. */
static void find_origins(struct device *device)
{
    struct epoch_record content;
    int error = -ENOENT;

    if (claim_content(device->claim, &content) == 0 && content.root.size != 0)
        error = learn_origins(device, &content);
    if (error != 0)
        log_warning("%s: whose objects it has besides its own is not known"
                    " yet: %s",
                    device->options.name, log_errno(error));
    device->lacks_origins = error != 0;
}

/* claim_options.changed: in a turn of the claim, or before it is used. */
static void follow_claim(void *context)
{
    struct device *device = context;

    set_gate(device);
    if (device->lacks_origins && claim_state(device->claim) != CLAIM_UNKNOWN)
        find_origins(device);
}

static void find_needed_origins(struct device *device)
{
    if (has_origins(device))
        find_origins(device);
}

static int make_claim(struct device *device)
{
    struct claim_options options = {
        .device_name = device->options.name,
        .store = device->options.store,
        .probe = device->options.put_probe,
        .state_log = device->state_log,
        .superblock = &device->superblock,
        .published = published,
        .is_dirty = is_dirty,
        .changed = follow_claim,
        .context = device,
        .read_back_ns = device->options.read_back_ns,
    };

    if (options.probe == NULL) {
        put_probe_init(&device->own_probe);
        options.probe = &device->own_probe;
    }
    return claim_new(&options, &device->claim);
}

/* ---- images -------------------------------------------------------------- */

static void add_to_incarnation(struct superblock *superblock, uint64_t number)
{
    superblock->incarnation += number;
}

/*
 * Before another content takes the place of what was served: who attached to
 * that must not go on.
 */
static int change_incarnation(struct device *device)
{
    /* One that was never served stays so: see mark_opened. */
    if (device->superblock.incarnation == 0)
        return 0;
    return device_superblock_change(device, add_to_incarnation, 1);
}

/* Make the catalog equal to the image of a record. */
int device_claim_load_image(struct device *device,
                            const struct epoch_record *record)
{
    const struct device_options *options = &device->options;
    uint8_t data[EPOCH_RECORD_SIZE];
    struct adoption adoption = {
        .reader = &device->reader,
        .state_log = device->state_log,
        .chunks_count = device_parts_chunks(device, device_size(device)),
        .record = data,
        .time_ns = record->content_time_ns,
    };
    struct image *image = NULL;
    int error = device_claim_check_sizes(device, record);

    if (error == 0 && record->root.size != 0)
        error = image_open(options->store, device_claim_prefix(device),
                           &record->root, &image);
    if (error == 0 && image != NULL)
        error = set_origins(device, image);
    if (error == 0)
        error = adopt_load(&adoption, image);
    if (error == 0)
        error = change_incarnation(device);
    if (error == 0) {
        epoch_encode(record, data);
        error = device_adopt(device, adopt_apply, &adoption);
    }
    if (error == 0)
        log_info("%s: the image of epoch %" PRIu64 " is loaded: %" PRIu64
                 " chunks are still here, %" PRIu64 " are others",
                 options->name, record->image_epoch, adoption.kept,
                 adoption.changed);
    adopt_done(&adoption);
    image_close(image);
    /* No answer any more, in the middle of it. */
    return error == -ETIMEDOUT || error == -EBUSY ? -EHOSTDOWN : error;
}

static int load(struct device *device, const struct epoch_record *record)
{
    int error = device_claim_load_image(device, record);

    if (error != 0)
        return error;
    memcpy(device->superblock.device_id, record->device_id, UUID_SIZE);
    return claim_loaded(device->claim, record);
}

/* Bring to its end what is said to have been begun. */
int device_claim_finish_adoption(struct device *device)
{
    struct epoch_record record;
    struct state_facts facts;
    int error;

    state_log_facts(device->state_log, &facts);
    if (!facts.must_adopt)
        return 0;
    error = epoch_decode(facts.adopt, &record);
    if (error != 0)
        return error == -EBADMSG ? -EUCLEAN : error;
    return device_claim_load_image(device, &record);
}

int device_adopt_published(struct device *device)
{
    int error = device_claim_finish_adoption(device);

    if (error != 0)
        log_error("%s: what is here is not what the newest epoch says: nothing"
                  " is served before it is",
                  device->options.name);
    set_gate(device);
    return error;
}

/* What nobody has written to, and what the store was never told of, is not
 * known to be ours. */
static bool is_unheard_of(struct device *device)
{
    struct epoch_record content;

    return claim_content(device->claim, &content) == -ENOENT &&
           !device_claim_is_dirty(device);
}

/*
 * To be forked, the device stays as it is here, whoever has it now; it is not
 * ours, and what is loaded would replace what the user wants to keep.
 */
static bool must_stand_aside(const struct device *device)
{
    return device->options.attach == DEVICE_ATTACH_FORK &&
           device->superblock.incarnation != 0 &&
           (claim_action_refuses(device->attached) ||
            device->attached == CLAIM_LOAD);
}

/* Nothing is here: so there is nothing that could be discarded. */
static enum claim_mode mode_of_attach(const struct device *device)
{
    enum claim_mode mode = mode_of(device);

    return device->superblock.incarnation == 0 && mode == CLAIM_DISCARD
               ? CLAIM_NORMAL
               : mode;
}

int device_claim_attach(struct device *device)
{
    int error;

    if (device->options.store == NULL)
        return 0;
    if (device->options.image_device != NULL)
        return device_image_attach(device);
    error = make_claim(device);
    if (error == 0)
        error = device_claim_finish_adoption(device);
    if (error == 0)
        error = claim_attach(device->claim, mode_of_attach(device),
                             device_claim_is_dirty(device), &device->attached,
                             &device->attached_record);
    if (error != 0)
        return error;
    if (must_stand_aside(device)) {
        find_needed_origins(device);
        return claim_stand_aside(device->claim);
    }
    if (claim_action_refuses(device->attached))
        return refusal(device->attached);
    if (device->attached == CLAIM_SERVE && is_unheard_of(device))
        return -EHOSTDOWN;
    if (device->attached == CLAIM_LOAD || device->attached == CLAIM_TAKE)
        return load(device, &device->attached_record);
    /* A rollback that was begun and is decided now. */
    error = device_claim_finish_adoption(device);
    if (error != 0)
        return error;
    set_gate(device);
    find_needed_origins(device);
    return 0;
}

/* ---- the first epoch of this start ----------------------------------------
 */

/* Give an image a name, so that it stays. */
static int keep_image(struct device *device, const char *why,
                      const struct epoch_record *record)
{
    char name[SNAPSHOT_NAME_MAX + 1];
    int error;

    if (record->root.size == 0)
        return 0;
    (void)snprintf(name, sizeof(name), "%s-%" PRIu64, why, record->epoch);
    error = snapshot_create(device->options.store, device->options.name, name,
                            record);
    if (error == -EEXIST) {
        (void)snprintf(name, sizeof(name), "%s-%" PRIu64 "-%016" PRIx64, why,
                       record->epoch, record->nonce);
        error = snapshot_create(device->options.store, device->options.name,
                                name, record);
    }
    if (error == 0)
        log_info("%s: the image that was found is kept as %s@%s",
                 device->options.name, device->options.name, name);
    else
        log_error("%s: the image that was found cannot be kept as %s@%s: %s",
                  device->options.name, device->options.name, name,
                  log_errno(error));
    return error;
}

/* What others made last is kept, before anything comes after it. */
static int take_over(struct device *device)
{
    struct epoch_record other;
    int error = 0;

    if (device->attached == CLAIM_TAKE)
        error = keep_image(device, "takeover", &device->attached_record);
    if (error == 0 && claim_holder(device->claim, &other) == 0 &&
        !epoch_is_same(&other, &device->attached_record))
        error = keep_image(device, "conflict", &other);
    return error != 0 ? error : claim_takeover(device->claim);
}

int device_claim_finish(struct device *device)
{
    int error = 0;

    if (device->claim == NULL)
        return 0;
    if (device->attached == CLAIM_CREATE)
        error = claim_take(device->claim);
    if (device->attached == CLAIM_TAKE || device->attached == CLAIM_TAKE_OWN)
        error = take_over(device);
    if (error == -ESTALE) {
        log_error("%s: another host claimed the device just now",
                  device->options.name);
        return -ENXIO;
    }
    /* Not decided yet: that is no lock of another process (EWOULDBLOCK). */
    return error == -EAGAIN ? -EHOSTDOWN : error;
}

void device_claim_close(struct device *device)
{
    if (device->claim == NULL)
        return;
    claim_free(device->claim);
    if (device->options.put_probe == NULL)
        put_probe_done(&device->own_probe);
}
