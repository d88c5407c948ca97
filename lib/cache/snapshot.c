/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why a clone cannot lose what it needs: its pin is durable before it looks
 * whether the image is still there.  The source's owner puts an image on a
 * list before it deletes anything of it, looks for pins after that, and
 * removes the image's epoch (or snapshot) before the list.  So of the two at
 * least one sees the other: the owner the pin, and keeps all; or the clone
 * the list, or later that the epoch is gone, and gives up.
 */
#include "cache/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "cache/condemned_lists.h"
#include "cache/image.h"
#include "object_store.h"

enum {
    HEX = 16,
    UUID_HEX = 2 * UUID_SIZE,
    PREFIX_MAX = DEVICE_NAME_MAX + sizeof("/snapshot/"),
    SNAPSHOT_KEY_MAX = PREFIX_MAX + SNAPSHOT_NAME_MAX + 1 + HEX + 1 + HEX + 1,
    PIN_KEY_MAX = PREFIX_MAX + UUID_HEX + 1,
};

bool snapshot_name_is_valid(const char *name)
{
    return strnlen(name, SNAPSHOT_NAME_MAX + 1) <= SNAPSHOT_NAME_MAX &&
           object_key_is_valid(name) && !strchr(name, '/') && name[0] != '-';
}

/* ---- keys ---------------------------------------------------------------- */

/* The keys of a list, which are read when it is over. */
struct keys {
    char **items;
    uint64_t *made_ns;
    size_t count;
};

static void keys_done(struct keys *keys)
{
    for (size_t i = 0; i < keys->count; i++)
        free(keys->items[i]);
    free(keys->items);
    free(keys->made_ns);
}

/* An object_store_each. */
static int keep_key(void *context, const char *key,
                    const struct object_info *info)
{
    struct keys *keys = context;
    char **items = reallocarray(keys->items, keys->count + 1, sizeof(items[0]));
    uint64_t *made_ns;

    if (!items)
        return -ENOMEM;
    keys->items = items;
    made_ns = reallocarray(keys->made_ns, keys->count + 1, sizeof(made_ns[0]));
    if (!made_ns)
        return -ENOMEM;
    keys->made_ns = made_ns;
    items[keys->count] = strdup(key);
    if (!items[keys->count])
        return -ENOMEM;
    made_ns[keys->count++] = info->modified_ns;
    return 0;
}

/* List what is below <device>/<what>/; keys_done frees, also after errors. */
static int list_keys(struct object_store *store, const char *device_name,
                     const char *what, struct keys *ret_keys,
                     size_t *ret_prefix_len)
{
    char prefix[PREFIX_MAX];
    int len = snprintf(prefix, sizeof(prefix), "%s/%s/", device_name, what);
    int error;

    assert(len > 0 && (size_t)len < sizeof(prefix));
    error = store->list(store, prefix, "", keep_key, ret_keys);
    if (error)
        log_error("%s: cannot list in the bucket: %s", prefix,
                  log_errno(error));
    *ret_prefix_len = (size_t)len;
    return error == -ENOENT ? -EIO : error;
}

/* Get exactly size bytes; what was listed must be there (logged). */
static int get_listed(struct object_store *store, const char *key, void *data,
                      size_t size)
{
    int error = store->get(store, key, 0, data, size, OBJECT_BACKGROUND);

    if (error)
        log_error("%s: %s", key, log_errno(error));
    return error == -ENOENT ? -EIO : error;
}

static int bad_record(const char *key, int error)
{
    log_error("%s: %s", key,
              error == -EPROTONOSUPPORT
                  ? "written by a later version of this program"
                  : "damaged, or not what it must be");
    return error == -EBADMSG ? -EIO : error;
}

/* ---- snapshots ----------------------------------------------------------- */

static void snapshot_key(const char *device_name, const char *name,
                         const struct epoch_record *record,
                         char key[SNAPSHOT_KEY_MAX])
{
    (void)snprintf(key, SNAPSHOT_KEY_MAX,
                   "%s/snapshot/%s/%016" PRIx64 "-%016" PRIx64, device_name,
                   name, record->image_epoch, record->image_nonce);
}

/* Read the snapshot behind a key of a list. */
static int read_snapshot(struct object_store *store, const char *device_name,
                         const char *key, size_t prefix_len, uint64_t made_ns,
                         struct snapshot *ret_snapshot)
{
    size_t len = strcspn(key + prefix_len, "/");
    struct snapshot snapshot = {.made_ns = made_ns};
    uint8_t data[EPOCH_RECORD_SIZE];
    char expected[SNAPSHOT_KEY_MAX];
    int error;

    if (len > SNAPSHOT_NAME_MAX)
        return bad_record(key, -EBADMSG);
    memcpy(snapshot.name, key + prefix_len, len);
    error = get_listed(store, key, data, sizeof(data));
    if (error)
        return error;
    error = epoch_decode(data, &snapshot.record);
    if (error)
        return bad_record(key, error);
    snapshot_key(device_name, snapshot.name, &snapshot.record, expected);
    if (strcmp(key, expected) != 0 || snapshot.record.root.size == 0)
        return bad_record(key, -EBADMSG);
    *ret_snapshot = snapshot;
    return 0;
}

int snapshot_list(struct object_store *store, const char *device_name,
                  snapshot_each *each, void *context)
{
    struct keys keys = {.count = 0};
    size_t prefix_len;
    int result = list_keys(store, device_name, "snapshot", &keys, &prefix_len);

    for (size_t i = 0; i < keys.count && result == 0; i++) {
        struct snapshot snapshot = {.made_ns = 0};

        result = read_snapshot(store, device_name, keys.items[i], prefix_len,
                               keys.made_ns[i], &snapshot);
        if (result == 0)
            result = each(context, &snapshot);
    }
    keys_done(&keys);
    return result;
}

struct search {
    const char *name;
    bool is_found;
    uint64_t made_ns; /* of the one that was found */
    struct snapshot *ret_snapshot;
};

/* A snapshot_each: keep the last one of the name. */
static int match_name(void *context, const struct snapshot *snapshot)
{
    struct search *search = context;

    if (strcmp(snapshot->name, search->name) == 0 &&
        (!search->is_found || snapshot->made_ns >= search->made_ns)) {
        search->is_found = true;
        search->made_ns = snapshot->made_ns;
        *search->ret_snapshot = *snapshot;
    }
    return 0;
}

int snapshot_find(struct object_store *store, const char *device_name,
                  const char *name, struct snapshot *ret_snapshot)
{
    struct search search = {.name = name, .ret_snapshot = ret_snapshot};
    int error = snapshot_list(store, device_name, match_name, &search);

    return error == 0 && !search.is_found ? -ENOENT : error;
}

int snapshot_create(struct object_store *store, const char *device_name,
                    const char *name, const struct epoch_record *record)
{
    uint8_t data[EPOCH_RECORD_SIZE];
    char key[SNAPSHOT_KEY_MAX];
    struct snapshot found;
    bool is_condemned = false;
    int error;

    if (!snapshot_name_is_valid(name))
        return -EINVAL;
    if (record->root.size == 0)
        return -ENODATA;
    error = snapshot_find(store, device_name, name, &found);
    if (error == 0)
        return found.record.image_epoch == record->image_epoch &&
                       found.record.image_nonce == record->image_nonce
                   ? 0
                   : -EEXIST;
    if (error == -ENOENT)
        error = condemned_lists_have_root(store, device_name, &record->root,
                                          &is_condemned);
    if (error)
        return error;
    if (is_condemned)
        return -ESTALE;
    epoch_encode(record, data);
    snapshot_key(device_name, name, record, key);
    error = store->put(store, key, data, sizeof(data), false);
    if (error)
        log_error("%s: cannot create: %s", key, log_errno(error));
    return error;
}

int snapshot_delete(struct object_store *store, const char *device_name,
                    const struct snapshot *snapshot)
{
    char key[SNAPSHOT_KEY_MAX];
    int error;

    snapshot_key(device_name, snapshot->name, &snapshot->record, key);
    error = object_delete_one(store, key);
    if (error)
        log_error("%s: cannot delete: %s", key, log_errno(error));
    return error;
}

/* ---- pins ---------------------------------------------------------------- */

static const unsigned char PIN_MAGIC[8] = "s3bclpin";

enum {
    PIN_VERSION = 1,

    /* These four, and the size, are the same in every later version. */
    PIN_AT_MAGIC = 0,
    PIN_AT_VERSION = 8,
    PIN_AT_FLAGS = 12,
    PIN_AT_CHECKSUM = 124,

    PIN_AT_UUID = 16,
    PIN_AT_CLONE = 32,
    PIN_AT_CLONE_EPOCH = 96,
    PIN_AT_RESERVED = 104,
    PIN_AT_RECORD = 128,
};

_Static_assert(PIN_AT_RECORD + EPOCH_RECORD_SIZE == PIN_SIZE, "no gap");

void pin_encode(const struct pin *pin, uint8_t data[PIN_SIZE])
{
    memset(data, 0, PIN_SIZE);
    memcpy(data + PIN_AT_MAGIC, PIN_MAGIC, sizeof(PIN_MAGIC));
    put_le32(data + PIN_AT_VERSION, PIN_VERSION);
    memcpy(data + PIN_AT_UUID, pin->uuid, UUID_SIZE);
    memcpy(data + PIN_AT_CLONE, pin->clone, strlen(pin->clone));
    put_le64(data + PIN_AT_CLONE_EPOCH, pin->clone_epoch);
    put_le32(data + PIN_AT_CHECKSUM, crc32c(0, data, PIN_AT_CHECKSUM));
    epoch_encode(&pin->record, data + PIN_AT_RECORD);
}

static bool clone_name_is_valid(const uint8_t *name, size_t size)
{
    size_t len = strnlen((const char *)name, size);

    return len < size && bytes_are_zero(name + len, size - len) &&
           object_key_is_valid((const char *)name) && !memchr(name, '/', len);
}

int pin_decode(const uint8_t data[PIN_SIZE], struct pin *ret_pin)
{
    struct pin pin;
    int error;

    if (memcmp(data + PIN_AT_MAGIC, PIN_MAGIC, sizeof(PIN_MAGIC)) != 0 ||
        get_le32(data + PIN_AT_CHECKSUM) != crc32c(0, data, PIN_AT_CHECKSUM))
        return -EBADMSG;
    if (get_le32(data + PIN_AT_VERSION) != PIN_VERSION ||
        get_le32(data + PIN_AT_FLAGS) != 0)
        return -EPROTONOSUPPORT;
    if (!clone_name_is_valid(data + PIN_AT_CLONE, sizeof(pin.clone)) ||
        get_le64(data + PIN_AT_CLONE_EPOCH) == 0 ||
        !bytes_are_zero(data + PIN_AT_RESERVED,
                        PIN_AT_CHECKSUM - PIN_AT_RESERVED))
        return -EBADMSG;
    memcpy(pin.uuid, data + PIN_AT_UUID, UUID_SIZE);
    memcpy(pin.clone, data + PIN_AT_CLONE, sizeof(pin.clone));
    pin.clone_epoch = get_le64(data + PIN_AT_CLONE_EPOCH);
    error = epoch_decode(data + PIN_AT_RECORD, &pin.record);
    if (!error && pin.record.root.size == 0)
        error = -EBADMSG;
    if (!error)
        *ret_pin = pin;
    return error;
}

static void pin_key(const char *device_name, const uint8_t uuid[UUID_SIZE],
                    char key[PIN_KEY_MAX])
{
    int len = snprintf(key, PIN_KEY_MAX, "%s/pin/", device_name);

    assert(len > 0 && len < (int)PIN_KEY_MAX);
    for (size_t i = 0; i < UUID_SIZE; i++, len += 2)
        (void)snprintf(key + len, PIN_KEY_MAX - (size_t)len, "%02x", uuid[i]);
}

int pin_list(struct object_store *store, const char *device_name,
             pin_each *each, void *context)
{
    struct keys keys = {.count = 0};
    size_t prefix_len;
    int result = list_keys(store, device_name, "pin", &keys, &prefix_len);

    for (size_t i = 0; i < keys.count && result == 0; i++) {
        uint8_t data[PIN_SIZE];
        char expected[PIN_KEY_MAX];
        struct pin pin;

        result = get_listed(store, keys.items[i], data, sizeof(data));
        if (result)
            break;
        result = pin_decode(data, &pin);
        if (result) {
            result = bad_record(keys.items[i], result);
            break;
        }
        pin_key(device_name, pin.uuid, expected);
        result = strcmp(keys.items[i], expected) == 0
                     ? each(context, &pin)
                     : bad_record(keys.items[i], -EBADMSG);
    }
    keys_done(&keys);
    return result;
}

int pin_delete(struct object_store *store, const char *device_name,
               const uint8_t uuid[UUID_SIZE])
{
    char key[PIN_KEY_MAX];
    int error;

    pin_key(device_name, uuid, key);
    error = object_delete_one(store, key);
    if (error)
        log_error("%s: cannot delete: %s", key, log_errno(error));
    return error;
}

/* What a list of the epochs of a clone shows. */
struct epoch_keys {
    struct epoch_record *records; /* only what the keys say */
    size_t count;
};

/* An epoch_each. */
static int keep_epoch(void *context, const char *key,
                      const struct epoch_record *record,
                      const struct object_info *info)
{
    struct epoch_keys *epochs = context;
    struct epoch_record *records =
        reallocarray(epochs->records, epochs->count + 1, sizeof(*records));

    (void)key;
    (void)info;
    if (!records)
        return -ENOMEM;
    epochs->records = records;
    records[epochs->count++] = *record;
    return 0;
}

int pin_is_needed(struct object_store *store, const struct pin *pin,
                  bool *ret_is_needed)
{
    struct epoch_keys epochs = {.count = 0};
    bool is_dropped = false;
    int error =
        epoch_list(store, pin->clone, pin->clone_epoch, keep_epoch, &epochs);

    for (size_t i = epochs.count; i-- > 0 && !error && !is_dropped;) {
        struct epoch_record record;
        char key[EPOCH_KEY_MAX];

        epoch_key(pin->clone, &epochs.records[i], key);
        error = epoch_read(store, key, &epochs.records[i], &record);
        is_dropped = !error && record.kind == EPOCH_TOMBSTONE;
    }
    free(epochs.records);
    if (!error)
        *ret_is_needed = !is_dropped;
    return error;
}

/* ---- clones -------------------------------------------------------------- */

/* Tell the record of the image that is to be cloned. */
static int find_source(const struct clone_plan *plan,
                       struct epoch_record *ret_record)
{
    struct epoch_newest newest;
    struct snapshot snapshot;
    int error = epoch_read_newest(plan->store, plan->source, 0, &newest);

    if (error)
        return error;
    if (newest.count == 0 || newest.records[0].kind == EPOCH_TOMBSTONE)
        return -ENOENT;
    if (plan->snapshot) {
        error =
            snapshot_find(plan->store, plan->source, plan->snapshot, &snapshot);
        if (!error)
            *ret_record = snapshot.record;
        return error;
    }
    if (newest.count > 1) {
        log_error("%s: two hosts wrote it: name a snapshot", plan->source);
        return -EIO;
    }
    *ret_record = newest.records[0];
    return ret_record->root.size == 0 ? -ENOENT : 0;
}

/* Tell the first epoch that the clone can have. */
static int find_place(const struct clone_plan *plan, uint64_t *ret_epoch)
{
    struct epoch_newest newest;
    int error = epoch_read_newest(plan->store, plan->name, 0, &newest);

    if (error)
        return error;
    if (newest.count > 0 && newest.records[0].kind != EPOCH_TOMBSTONE)
        return -EEXIST;
    *ret_epoch = newest.count == 0 ? 1 : newest.records[0].epoch + 1;
    return 0;
}

static int put_pin(const struct clone_plan *plan, const struct pin *pin)
{
    uint8_t data[PIN_SIZE];
    char key[PIN_KEY_MAX];
    int error;

    pin_encode(pin, data);
    pin_key(plan->source, pin->uuid, key);
    error = plan->store->put(plan->store, key, data, sizeof(data), false);
    if (error)
        log_error("%s: cannot create: %s", key, log_errno(error));
    return error;
}

/* Now that it is pinned: whether the image is there, and will stay. */
static int look_again(const struct clone_plan *plan,
                      const struct epoch_record *record)
{
    char key[EPOCH_KEY_MAX + SNAPSHOT_KEY_MAX];
    struct epoch_newest newest;
    struct object_info info;
    bool is_condemned;
    int error = condemned_lists_have_root(plan->store, plan->source,
                                          &record->root, &is_condemned);

    if (error)
        return error;
    if (is_condemned)
        return -ESTALE;
    error = epoch_read_newest(plan->store, plan->source, 0, &newest);
    if (error)
        return error;
    if (newest.count == 0 || newest.records[0].kind == EPOCH_TOMBSTONE)
        return -ESTALE;
    if (plan->snapshot)
        snapshot_key(plan->source, plan->snapshot, record, key);
    else
        epoch_key(plan->source, record, key);
    error = plan->store->head(plan->store, key, &info);
    if (error && error != -ENOENT)
        log_error("%s: %s", key, log_errno(error));
    return error == -ENOENT ? -ESTALE : error;
}

static int random_bytes(void *data, size_t size)
{
    return getrandom(data, size, 0) == (ssize_t)size ? 0 : -EIO;
}

/* Write the root of the clone, and say what its first epoch is. */
static int make_record(const struct clone_plan *plan, const struct pin *pin,
                       struct epoch_record *ret_record)
{
    struct epoch_record record = {.kind = EPOCH_FORK,
                                  .epoch = pin->clone_epoch,
                                  .key_has_nonce = plan->key_has_nonce,
                                  .time_ns = plan->time_ns,
                                  .image_epoch = pin->clone_epoch,
                                  .content_time_ns =
                                      pin->record.content_time_ns};
    struct image *source = NULL;
    int error = random_bytes(&record.nonce, sizeof(record.nonce));

    record.nonce |= 1; /* never 0 */
    record.image_nonce = record.nonce;
    if (!error)
        error =
            image_open(plan->store, plan->source, &pin->record.root, &source);
    if (error)
        return error;
    record.size = image_root(source)->size;
    record.chunk_size = image_root(source)->chunk_size;
    record.chunks = image_root(source)->chunks;
    memcpy(record.device_id, plan->device_id, UUID_SIZE);
    memcpy(record.cachedir_id, plan->cachedir_id, UUID_SIZE);
    (void)snprintf(record.host, sizeof(record.host), "%s", plan->host);
    error = image_clone(source, plan->name, record.epoch, record.nonce,
                        &record.root);
    image_close(source);
    if (!error)
        *ret_record = record;
    return error;
}

/* Whether the clone's first epoch is another's, and so never will be ours. */
static bool is_taken(const struct clone_plan *plan,
                     const struct epoch_record *record)
{
    struct epoch_record found;
    char key[EPOCH_KEY_MAX];

    epoch_key(plan->name, record, key);
    return epoch_read(plan->store, key, record, &found) == 0 &&
           !epoch_is_same(&found, record);
}

int clone_create(const struct clone_plan *plan, struct epoch_record *ret_record)
{
    enum epoch_outcome outcome = EPOCH_LOST;
    struct epoch_record record = {.epoch = 0};
    struct pin pin = {.clone_epoch = 0};
    bool is_undecided = false;
    int error;

    if (strlen(plan->name) > DEVICE_NAME_MAX ||
        strcmp(plan->name, plan->source) == 0)
        return -EINVAL;
    memcpy(pin.clone, plan->name, strlen(plan->name));
    error = find_source(plan, &pin.record);
    if (!error)
        error = find_place(plan, &pin.clone_epoch);
    if (!error)
        error = random_bytes(pin.uuid, UUID_SIZE);
    if (!error)
        error = put_pin(plan, &pin);
    if (error)
        return error;

    error = look_again(plan, &pin.record);
    if (!error)
        error = make_record(plan, &pin, &record);
    if (!error) {
        error = epoch_create(plan->store, plan->name, &record, plan->pace,
                             &outcome);
        /* Lost is also what somebody has gone on from already. */
        is_undecided = error != 0 || outcome == EPOCH_CONFLICT ||
                       (outcome == EPOCH_LOST && !is_taken(plan, &record));
    }
    if (!error && outcome != EPOCH_OURS)
        error = -EBUSY;
    if (error && !is_undecided)
        (void)pin_delete(plan->store, plan->source, pin.uuid);
    if (!error)
        *ret_record = record;
    return error;
}
