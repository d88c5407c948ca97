/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/claim.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "cache/device.h"
#include "object_store.h"

static const unsigned char MAGIC[8] = "s3bclaim";

/* The record; docs/FORMAT.md says the same in words. */
enum {
    VERSION = 1,

    /* These four, and the size, are the same in every later version. */
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_CHECKSUM = CLAIM_RECORD_SIZE - 4,

    AT_KIND = 16,
    AT_CHUNK_SIZE = 20,
    AT_EPOCH = 24,
    AT_NONCE = 32,
    AT_TIME = 40,
    AT_SIZE = 48,
    AT_DEVICE_ID = 56,
    AT_CACHEDIR_ID = 72,
    AT_HOST = 88,
    AT_RESERVED = 152,
};

void claim_encode(const struct claim_record *record,
                  uint8_t data[CLAIM_RECORD_SIZE])
{
    memset(data, 0, CLAIM_RECORD_SIZE);
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
    put_le32(data + AT_CHECKSUM, crc32c(0, data, AT_CHECKSUM));
}

/* Whether a host's name can be shown in a message, and ends. */
static bool host_is_valid(const uint8_t *host, size_t size)
{
    size_t len = strnlen((const char *)host, size);

    for (size_t i = 0; i < len; i++) {
        if (host[i] < ' ' || host[i] == 0x7f)
            return false;
    }
    return len < size && bytes_are_zero(host + len, size - len);
}

static bool fields_are_valid(const uint8_t data[CLAIM_RECORD_SIZE])
{
    uint32_t kind = get_le32(data + AT_KIND);
    uint32_t chunk_size = get_le32(data + AT_CHUNK_SIZE);

    return kind >= CLAIM_CLAIM && kind <= CLAIM_TOMBSTONE &&
           get_le64(data + AT_EPOCH) > 0 &&
           chunk_size >= DEVICE_CHUNK_SIZE_MIN &&
           chunk_size <= DEVICE_CHUNK_SIZE_MAX &&
           (chunk_size & (chunk_size - 1)) == 0 &&
           host_is_valid(data + AT_HOST, AT_RESERVED - AT_HOST) &&
           bytes_are_zero(data + AT_RESERVED, AT_CHECKSUM - AT_RESERVED);
}

int claim_decode(const uint8_t data[CLAIM_RECORD_SIZE],
                 struct claim_record *ret_record)
{
    struct claim_record *to = ret_record;

    if (memcmp(data + AT_MAGIC, MAGIC, sizeof(MAGIC)) != 0 ||
        get_le32(data + AT_CHECKSUM) != crc32c(0, data, AT_CHECKSUM))
        return -EBADMSG;
    if (get_le32(data + AT_VERSION) != VERSION ||
        get_le32(data + AT_FLAGS) != 0)
        return -EPROTONOSUPPORT;
    if (!fields_are_valid(data))
        return -EBADMSG;
    memset(to, 0, sizeof(*to));
    to->kind = (enum claim_kind)get_le32(data + AT_KIND);
    to->epoch = get_le64(data + AT_EPOCH);
    to->nonce = get_le64(data + AT_NONCE);
    to->time_ns = get_le64(data + AT_TIME);
    to->size = get_le64(data + AT_SIZE);
    to->chunk_size = get_le32(data + AT_CHUNK_SIZE);
    memcpy(to->device_id, data + AT_DEVICE_ID, UUID_SIZE);
    memcpy(to->cachedir_id, data + AT_CACHEDIR_ID, UUID_SIZE);
    memcpy(to->host, data + AT_HOST, sizeof(to->host));
    return 0;
}

/* ---- in the store ------------------------------------------------------- */

enum {
    HEX_DIGITS = 16, /* of an epoch, or a nonce, in a key */
    PREFIX_MAX = DEVICE_NAME_MAX + sizeof("/epoch/"),
    KEY_MAX = PREFIX_MAX + HEX_DIGITS + 1 + HEX_DIGITS,
};

/* The newest key that a list has shown. */
struct newest {
    size_t prefix_len;
    uint64_t epoch;   /* 0: none */
    bool is_conflict; /* another key has the same epoch */
    bool has_nonce;
    uint64_t nonce; /* has_nonce: that the key names */
    char key[KEY_MAX];
};

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

/* An object_store_each: keep the newest of the keys that are an epoch's. */
static int see_key(void *context, const char *key,
                   const struct object_info *info)
{
    struct newest *newest = context;
    const char *name = key + newest->prefix_len;
    uint64_t epoch, nonce = 0;
    size_t len = strlen(name);
    bool has_nonce = len == 2 * HEX_DIGITS + 1;

    (void)info;
    if ((len != HEX_DIGITS && !has_nonce) || !parse_hex(name, &epoch) ||
        epoch == 0 ||
        (has_nonce && (name[HEX_DIGITS] != '-' ||
                       !parse_hex(name + HEX_DIGITS + 1, &nonce)))) {
        log_warning("%s: not the key of an epoch, ignored", key);
        return 0;
    }
    if (epoch < newest->epoch)
        return 0;
    newest->is_conflict = epoch == newest->epoch;
    newest->epoch = epoch;
    newest->has_nonce = has_nonce;
    newest->nonce = nonce;
    memcpy(newest->key, key, newest->prefix_len + len + 1);
    return 0;
}

/* Find the newest key; epoch stays 0 if there is none. */
static int find_newest(struct object_store *store, const char *device_name,
                       struct newest *ret_newest)
{
    char prefix[PREFIX_MAX];
    int len, error;

    len = snprintf(prefix, sizeof(prefix), "%s/epoch/", device_name);
    assert(len > 0 && (size_t)len < sizeof(prefix));
    memset(ret_newest, 0, sizeof(*ret_newest));
    ret_newest->prefix_len = (size_t)len;
    error = store->list(store, prefix, "", see_key, ret_newest);
    if (error != 0) {
        log_error("%s: cannot list the epochs in the bucket: %s", device_name,
                  log_errno(error));
        /* Only a list that succeeded may say that there is nothing. */
        return error == -ENOENT ? -EIO : error;
    }
    if (ret_newest->is_conflict) {
        log_error("%s: two hosts created epoch %" PRIu64, device_name,
                  ret_newest->epoch);
        return -EIO;
    }
    return 0;
}

static int read_record(struct object_store *store, const char *key,
                       struct claim_record *ret_record)
{
    uint8_t data[CLAIM_RECORD_SIZE];
    int error = store->get(store, key, 0, data, sizeof(data));

    if (error == 0)
        error = claim_decode(data, ret_record);
    if (error < 0)
        log_error("%s: %s", key,
                  error == -EBADMSG ? "damaged, or no claim record"
                  : error == -EPROTONOSUPPORT
                      ? "written by a later version of this program"
                      : log_errno(error));
    /* It was listed, so its absence does not mean that there is none. */
    return error == -ENOENT ? -EIO : error;
}

int claim_read_newest(struct object_store *store, const char *device_name,
                      struct claim_record *ret_record)
{
    struct claim_record record;
    struct newest newest;
    int error = find_newest(store, device_name, &newest);

    if (error < 0)
        return error;
    if (newest.epoch == 0)
        return -ENOENT;
    error = read_record(store, newest.key, &record);
    if (error != 0)
        return error;
    if (record.epoch != newest.epoch ||
        (newest.has_nonce && record.nonce != newest.nonce)) {
        log_error("%s: holds the record of another epoch", newest.key);
        return -EBADMSG;
    }
    *ret_record = record;
    return 0;
}

/* The key is taken: perhaps by an earlier attempt of ours. */
static int check_own(struct object_store *store, const char *key,
                     const uint8_t data[CLAIM_RECORD_SIZE])
{
    uint8_t found[CLAIM_RECORD_SIZE];
    int error = store->get(store, key, 0, found, sizeof(found));

    if (error < 0) {
        log_error("%s: exists, but: %s", key, log_errno(error));
        return error == -ENOENT ? -EIO : error;
    }
    return memcmp(found, data, sizeof(found)) == 0 ? 0 : -EEXIST;
}

int claim_create_first(struct object_store *store, const char *device_name,
                       const struct claim_record *record)
{
    uint8_t data[CLAIM_RECORD_SIZE];
    struct newest newest;
    char key[KEY_MAX];
    int error;

    assert(record->epoch == 1);
    claim_encode(record, data);
    (void)snprintf(key, sizeof(key), "%s/epoch/%016" PRIx64, device_name,
                   record->epoch);
    error = store->put(store, key, data, sizeof(data), true);
    if (error == -EEXIST)
        error = check_own(store, key, data);
    else if (error < 0)
        log_error("%s: cannot create: %s", key, log_errno(error));
    if (error < 0)
        return error;
    /* A higher one: this device had epochs before, of which 1 is deleted. */
    error = find_newest(store, device_name, &newest);
    if (error == 0 && (newest.epoch != 1 || newest.has_nonce))
        error = -EEXIST;
    return error;
}
