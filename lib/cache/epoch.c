/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/epoch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "object_store.h"

static const unsigned char MAGIC[8] = "s3bclaim";

/* The record; docs/FORMAT.md says the same in words. */
enum {
    VERSION = 1,

    /* These four, and the size, are the same in every later version. */
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_CHECKSUM = EPOCH_RECORD_SIZE - 4,

    AT_KIND = 16,
    AT_CHUNK_SIZE = 20,
    AT_EPOCH = 24,
    AT_NONCE = 32,
    AT_TIME = 40,
    AT_SIZE = 48,
    AT_DEVICE_ID = 56,
    AT_CACHEDIR_ID = 72,
    AT_HOST = 88,
    AT_IMAGE_EPOCH = 152,
    AT_IMAGE_NONCE = 160,
    AT_ROOT_EPOCH = 168,
    AT_ROOT_NONCE = 176,
    AT_ROOT_PAGE = 184,
    AT_ROOT_SIZE = 188,
    AT_ROOT_CHECKSUM = 192,
    AT_KEY_HAS_NONCE = 196,
    AT_CONTENT_TIME = 200,
    AT_CHUNKS = 208,
    AT_IS_ROLLBACK = 216,
    AT_RESERVED = 220,
};

void epoch_encode(const struct epoch_record *record,
                  uint8_t data[EPOCH_RECORD_SIZE])
{
    memset(data, 0, EPOCH_RECORD_SIZE);
    memcpy(data + AT_MAGIC, MAGIC, sizeof(MAGIC));
    put_le32(data + AT_VERSION, VERSION);
    put_le32(data + AT_KIND, (uint32_t)record->kind);
    put_le32(data + AT_CHUNK_SIZE, record->chunk_size);
    put_le64(data + AT_EPOCH, record->epoch);
    put_le64(data + AT_NONCE, record->nonce);
    put_le64(data + AT_TIME, record->time_ns);
    put_le64(data + AT_SIZE, record->size);
    memcpy(data + AT_DEVICE_ID, record->device_id, UUID_SIZE);
    memcpy(data + AT_CACHEDIR_ID, record->cachedir_id, UUID_SIZE);
    memcpy(data + AT_HOST, record->host,
           strnlen(record->host, sizeof(record->host) - 1));
    put_le64(data + AT_IMAGE_EPOCH, record->image_epoch);
    put_le64(data + AT_IMAGE_NONCE, record->image_nonce);
    put_le64(data + AT_ROOT_EPOCH, record->root.epoch);
    put_le64(data + AT_ROOT_NONCE, record->root.nonce);
    put_le32(data + AT_ROOT_PAGE, record->root.page);
    put_le32(data + AT_ROOT_SIZE, record->root.size);
    put_le32(data + AT_ROOT_CHECKSUM, record->root.checksum);
    put_le32(data + AT_KEY_HAS_NONCE, record->key_has_nonce ? 1 : 0);
    put_le64(data + AT_CONTENT_TIME, record->content_time_ns);
    put_le64(data + AT_CHUNKS, record->chunks);
    put_le32(data + AT_IS_ROLLBACK, record->is_rollback ? 1 : 0);
    put_le32(data + AT_CHECKSUM, crc32c(0, data, AT_CHECKSUM));
}

static bool is_control(char c)
{
    return (unsigned char)c < ' ' || c == 0x7f;
}

/* Whether a host's name can be shown in a message, and ends. */
static bool host_is_valid(const uint8_t *host, size_t size)
{
    size_t len = strnlen((const char *)host, size);

    for (size_t i = 0; i < len; i++) {
        if (is_control((char)host[i]))
            return false;
    }
    return len < size && bytes_are_zero(host + len, size - len);
}

/* Without an image, all that is said of it is zero. */
static bool image_is_valid(const uint8_t data[EPOCH_RECORD_SIZE])
{
    bool has_image = get_le64(data + AT_IMAGE_EPOCH) != 0;
    bool is_own = get_le32(data + AT_KIND) == EPOCH_IMAGE;

    if (get_le32(data + AT_KEY_HAS_NONCE) > 1 ||
        get_le32(data + AT_IS_ROLLBACK) > is_own)
        return false;
    if (!has_image)
        return !is_own &&
               bytes_are_zero(data + AT_IMAGE_EPOCH,
                              AT_KEY_HAS_NONCE - AT_IMAGE_EPOCH) &&
               bytes_are_zero(data + AT_CONTENT_TIME,
                              AT_IS_ROLLBACK - AT_CONTENT_TIME);
    if (is_own &&
        (get_le64(data + AT_IMAGE_EPOCH) != get_le64(data + AT_EPOCH) ||
         get_le64(data + AT_IMAGE_NONCE) != get_le64(data + AT_NONCE)))
        return false;
    return get_le32(data + AT_ROOT_SIZE) != 0 &&
           get_le64(data + AT_ROOT_EPOCH) != 0;
}

static bool fields_are_valid(const uint8_t data[EPOCH_RECORD_SIZE])
{
    uint32_t kind = get_le32(data + AT_KIND);
    uint32_t chunk_size = get_le32(data + AT_CHUNK_SIZE);

    return kind >= EPOCH_CLAIM && kind <= EPOCH_TOMBSTONE &&
           get_le64(data + AT_EPOCH) > 0 &&
           get_le64(data + AT_EPOCH) < UINT64_MAX &&
           get_le64(data + AT_NONCE) > 0 &&
           chunk_size >= DEVICE_CHUNK_SIZE_MIN &&
           chunk_size <= DEVICE_CHUNK_SIZE_MAX &&
           (chunk_size & (chunk_size - 1)) == 0 &&
           host_is_valid(data + AT_HOST, AT_IMAGE_EPOCH - AT_HOST) &&
           image_is_valid(data) &&
           bytes_are_zero(data + AT_RESERVED, AT_CHECKSUM - AT_RESERVED);
}

int epoch_decode(const uint8_t data[EPOCH_RECORD_SIZE],
                 struct epoch_record *ret_record)
{
    struct epoch_record *to = ret_record;

    if (memcmp(data + AT_MAGIC, MAGIC, sizeof(MAGIC)) != 0 ||
        get_le32(data + AT_CHECKSUM) != crc32c(0, data, AT_CHECKSUM))
        return -EBADMSG;
    if (get_le32(data + AT_VERSION) != VERSION ||
        get_le32(data + AT_FLAGS) != 0)
        return -EPROTONOSUPPORT;
    if (!fields_are_valid(data))
        return -EBADMSG;
    memset(to, 0, sizeof(*to));
    to->kind = (enum epoch_kind)get_le32(data + AT_KIND);
    to->epoch = get_le64(data + AT_EPOCH);
    to->nonce = get_le64(data + AT_NONCE);
    to->key_has_nonce = get_le32(data + AT_KEY_HAS_NONCE) != 0;
    to->time_ns = get_le64(data + AT_TIME);
    to->size = get_le64(data + AT_SIZE);
    to->chunk_size = get_le32(data + AT_CHUNK_SIZE);
    memcpy(to->device_id, data + AT_DEVICE_ID, UUID_SIZE);
    memcpy(to->cachedir_id, data + AT_CACHEDIR_ID, UUID_SIZE);
    memcpy(to->host, data + AT_HOST, sizeof(to->host));
    to->image_epoch = get_le64(data + AT_IMAGE_EPOCH);
    to->image_nonce = get_le64(data + AT_IMAGE_NONCE);
    to->root.epoch = get_le64(data + AT_ROOT_EPOCH);
    to->root.nonce = get_le64(data + AT_ROOT_NONCE);
    to->root.page = get_le32(data + AT_ROOT_PAGE);
    to->root.size = get_le32(data + AT_ROOT_SIZE);
    to->root.checksum = get_le32(data + AT_ROOT_CHECKSUM);
    to->content_time_ns = get_le64(data + AT_CONTENT_TIME);
    to->chunks = get_le64(data + AT_CHUNKS);
    to->is_rollback = get_le32(data + AT_IS_ROLLBACK) != 0;
    return 0;
}

void epoch_host(char host[EPOCH_HOST])
{
    memset(host, 0, EPOCH_HOST);
    if (gethostname(host, EPOCH_HOST - 1) != 0)
        host[0] = '\0';
    /* The kernel takes any bytes for a name. */
    for (char *c = host; *c != '\0'; c++) {
        if (is_control(*c))
            *c = '?';
    }
}

bool epoch_is_held(const struct epoch_record *record)
{
    return record->kind == EPOCH_CLAIM || record->kind == EPOCH_IMAGE;
}

bool epoch_is_same(const struct epoch_record *a, const struct epoch_record *b)
{
    return a->epoch == b->epoch && a->nonce == b->nonce;
}

/* ---- keys ---------------------------------------------------------------- */

enum {
    HEX_DIGITS = 16, /* of an epoch, or a nonce, in a key */
    PREFIX_MAX = DEVICE_NAME_MAX + sizeof("/epoch/"),
};

void epoch_key(const char *device_name, const struct epoch_record *record,
               char key[EPOCH_KEY_MAX])
{
    int len = record->key_has_nonce
                  ? snprintf(key, EPOCH_KEY_MAX,
                             "%s/epoch/%016" PRIx64 "-%016" PRIx64, device_name,
                             record->epoch, record->nonce)
                  : snprintf(key, EPOCH_KEY_MAX, "%s/epoch/%016" PRIx64,
                             device_name, record->epoch);

    assert(len > 0 && len < (int)EPOCH_KEY_MAX);
}

/* Read HEX_DIGITS lower-case digits.  Returns whether they are there. */
static bool parse_hex(const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (size_t i = 0; i < HEX_DIGITS; i++) {
        char c = text[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (unsigned)(c - 'a' + 10);
        else
            return false;
    }
    *ret_value = value;
    return true;
}

/* Read what follows the prefix in a key.  Returns whether it is an epoch's. */
static bool parse_name(const char *name, struct epoch_record *ret_record)
{
    size_t len = strlen(name);

    memset(ret_record, 0, sizeof(*ret_record));
    ret_record->key_has_nonce = len == 2 * HEX_DIGITS + 1;
    if (len != HEX_DIGITS && !ret_record->key_has_nonce)
        return false;
    if (!parse_hex(name, &ret_record->epoch) || ret_record->epoch == 0)
        return false;
    return !ret_record->key_has_nonce ||
           (name[HEX_DIGITS] == '-' &&
            parse_hex(name + HEX_DIGITS + 1, &ret_record->nonce));
}

struct listing {
    size_t prefix_len;
    uint64_t from;
    epoch_each *each;
    void *context;
};

/* An object_store_each. */
static int see_key(void *context, const char *key,
                   const struct object_info *info)
{
    const struct listing *listing = context;
    struct epoch_record record;

    if (!parse_name(key + listing->prefix_len, &record)) {
        log_warning("%s: not the key of an epoch, ignored", key);
        return 0;
    }
    if (record.epoch < listing->from) /* a store that ignores "after" */
        return 0;
    return listing->each(listing->context, key, &record, info);
}

int epoch_list(struct object_store *store, const char *device_name,
               uint64_t from, epoch_each *each, void *context)
{
    struct listing listing = {.from = from, .each = each, .context = context};
    char prefix[PREFIX_MAX], after[EPOCH_KEY_MAX] = "";
    int len, error;

    len = snprintf(prefix, sizeof(prefix), "%s/epoch/", device_name);
    assert(len > 0 && (size_t)len < sizeof(prefix));
    listing.prefix_len = (size_t)len;
    /* 'g' comes after every nonce of the epoch before. */
    if (from > 1)
        (void)snprintf(after, sizeof(after), "%s%016" PRIx64 "-g", prefix,
                       from - 1);
    error = store->list(store, prefix, after, see_key, &listing);
    if (error < 0)
        log_error("%s: cannot list the epochs in the bucket: %s", device_name,
                  log_errno(error));
    /* Only a list that succeeded may say that there is nothing. */
    return error == -ENOENT ? -EIO : error;
}

/* ---- reading ------------------------------------------------------------- */

int epoch_read(struct object_store *store, const char *key,
               const struct epoch_record *listed,
               struct epoch_record *ret_record)
{
    struct epoch_record record = {.epoch = 0};
    uint8_t data[EPOCH_RECORD_SIZE];
    int error =
        store->get(store, key, 0, data, sizeof(data), OBJECT_BACKGROUND);

    if (error == 0)
        error = epoch_decode(data, &record);
    if (error < 0) {
        log_error("%s: %s", key,
                  error == -EBADMSG ? "damaged, or no record of an epoch"
                  : error == -EPROTONOSUPPORT
                      ? "written by a later version of this program"
                      : log_errno(error));
        /* It was listed, so its absence does not mean that there is none. */
        return error == -ENOENT ? -EIO : error;
    }
    if (record.epoch != listed->epoch ||
        record.key_has_nonce != listed->key_has_nonce ||
        (listed->key_has_nonce && record.nonce != listed->nonce)) {
        log_error("%s: holds the record of another epoch", key);
        return -EBADMSG;
    }
    *ret_record = record;
    return 0;
}

/* The keys of the newest epoch that a list has shown. */
struct newest_keys {
    size_t count; /* may be more than are kept */
    struct epoch_record listed[2];
    char keys[2][EPOCH_KEY_MAX];
};

/* An epoch_each. */
static int keep_newest(void *context, const char *key,
                       const struct epoch_record *record,
                       const struct object_info *info)
{
    struct newest_keys *newest = context;
    size_t at;

    (void)info;
    if (newest->count > 0 && record->epoch < newest->listed[0].epoch)
        return 0; /* a list that does not ascend */
    if (newest->count > 0 && record->epoch > newest->listed[0].epoch)
        newest->count = 0;
    at = newest->count++;
    if (at < 2) {
        newest->listed[at] = *record;
        (void)snprintf(newest->keys[at], EPOCH_KEY_MAX, "%s", key);
    }
    return 0;
}

int epoch_read_newest(struct object_store *store, const char *device_name,
                      uint64_t from, struct epoch_newest *ret_newest)
{
    struct newest_keys keys = {.count = 0};
    struct epoch_newest newest = {.count = 0};
    int error = epoch_list(store, device_name, from, keep_newest, &keys);

    for (size_t i = 0; error == 0 && i < keys.count && i < 2; i++)
        error = epoch_read(store, keys.keys[i], &keys.listed[i],
                           &newest.records[i]);
    if (error != 0)
        return error;
    newest.count = keys.count;
    *ret_newest = newest;
    return 0;
}

/* ---- creating ------------------------------------------------------------ */

/*
 * The key is taken: perhaps by an earlier attempt of ours.  What makes no
 * sense there decides nothing.
 */
static int compare_taken(struct object_store *store, const char *key,
                         const struct epoch_record *record,
                         enum epoch_outcome *ret_outcome)
{
    struct epoch_record found;
    int error = epoch_read(store, key, record, &found);

    if (error == 0)
        *ret_outcome = epoch_is_same(&found, record) ? EPOCH_OURS : EPOCH_LOST;
    return error;
}

/*
 * The store knows no conditions, or not any more: an earlier attempt may have
 * been carried out when it did, or by one of its servers that does.
 */
static int look_after_refusal(struct object_store *store, const char *key,
                              const struct epoch_record *record,
                              enum epoch_outcome *ret_outcome)
{
    struct object_info info;
    int error = store->head(store, key, &info);

    if (error == 0)
        return compare_taken(store, key, record, ret_outcome);
    return error == -ENOENT ? -EOPNOTSUPP : error;
}

static int put_record(struct object_store *store, const char *key,
                      const struct epoch_record *record,
                      const struct epoch_pace *pace,
                      enum epoch_outcome *ret_outcome)
{
    uint8_t data[EPOCH_RECORD_SIZE];
    int error;

    epoch_encode(record, data);
    *ret_outcome = EPOCH_OURS;
    error = store->put(store, key, data, sizeof(data), !record->key_has_nonce);
    if (error == -EEXIST && !record->key_has_nonce)
        return compare_taken(store, key, record, ret_outcome);
    if (error == -EOPNOTSUPP && !record->key_has_nonce)
        error = look_after_refusal(store, key, record, ret_outcome);
    if (error < 0)
        log_error("%s: cannot create: %s", key, log_errno(error));
    else if (record->key_has_nonce)
        error = pace->wait(pace->context, pace->ns);
    return error;
}

/* What a list says about an epoch that we have made. */
struct beyond {
    const struct epoch_record *ours;
    bool is_listed; /* ours is */
    bool has_other; /* of the same number */
    bool has_newer;
};

/* An epoch_each. */
static int look_beyond(void *context, const char *key,
                       const struct epoch_record *record,
                       const struct object_info *info)
{
    struct beyond *beyond = context;
    const struct epoch_record *ours = beyond->ours;

    (void)key;
    (void)info;
    if (record->epoch > ours->epoch)
        beyond->has_newer = true;
    else if (record->key_has_nonce == ours->key_has_nonce &&
             (!ours->key_has_nonce || record->nonce == ours->nonce))
        beyond->is_listed = true;
    else
        beyond->has_other = true;
    return 0;
}

int epoch_create(struct object_store *store, const char *device_name,
                 const struct epoch_record *record,
                 const struct epoch_pace *pace, enum epoch_outcome *ret_outcome)
{
    struct beyond beyond = {.ours = record};
    enum epoch_outcome outcome;
    char key[EPOCH_KEY_MAX];
    int error;

    epoch_key(device_name, record, key);
    error = put_record(store, key, record, pace, &outcome);
    if (error == 0 && outcome == EPOCH_OURS) {
        error =
            epoch_list(store, device_name, record->epoch, look_beyond, &beyond);
        if (beyond.has_newer)
            outcome = EPOCH_LOST;
        else if (beyond.has_other)
            outcome = EPOCH_CONFLICT;
        else if (error == 0 && !beyond.is_listed) {
            log_error("%s: was created, and is not listed", key);
            error = -EIO;
        }
    }
    if (error == 0)
        *ret_outcome = outcome;
    return error;
}
