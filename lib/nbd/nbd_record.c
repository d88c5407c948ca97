/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The head, little-endian:
 *
 *    0  8  magic
 *    8  4  version: 1
 *   12  4  CRC-32C of everything, as if this were zero
 *   16  8  length of everything
 *   24  4  flags, see below
 *   28  4  length of the name, without its end mark
 *   32  4  length of the incarnation, likewise
 *   36  4  error of the request that is discarded
 *   40  8  length of the replies
 *   48  8  length of the requests
 *   56  8  bytes that are still to be discarded
 *   64  8  cookie, 72  8  offset, 80  8  length, 88  2  type, 90  2  flags of
 *          the request that is discarded
 *   92  4  zero
 *   96  8  where in the requests that payload continues
 *
 * Then the name, its end mark, the incarnation, its end mark, the replies,
 * the requests.
 */
#include "nbd/nbd_record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

enum {
    VERSION = 1,
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_CHECKSUM = 12,
    AT_SIZE = 16,
    AT_FLAGS = 24,
    AT_NAME_LEN = 28,
    AT_INCARNATION_LEN = 32,
    AT_DISCARD_ERROR = 36,
    AT_REPLIES_LEN = 40,
    AT_REQUESTS_LEN = 48,
    AT_DISCARD_LEFT = 56,
    AT_COOKIE = 64,
    AT_OFFSET = 72,
    AT_LENGTH = 80,
    AT_TYPE = 88,
    AT_REQUEST_FLAGS = 90,
    AT_ZERO = 92,
    AT_DISCARD_AT = 96,
    HEAD_SIZE = 104,
};

enum {
    FLAG_STRUCTURED = 1 << 0,
    FLAG_EXTENDED = 1 << 1,
    FLAG_BLOCK_STATUS = 1 << 2,
    FLAG_HAS_ENDED = 1 << 3,
    FLAG_IS_LEAVING = 1 << 4,
    FLAG_IS_DISCARDING = 1 << 5,
    FLAG_IS_DURABLE = 1 << 6,
    FLAGS_ALL = (1 << 7) - 1,
};

static const uint8_t magic[8] = {'s', '3', 'b', 'n', 'b', 'd', 'r', '\n'};

static uint32_t flags_of(const struct nbd_record *record)
{
    return (record->structured ? (uint32_t)FLAG_STRUCTURED : 0) |
           (record->extended ? (uint32_t)FLAG_EXTENDED : 0) |
           (record->block_status ? (uint32_t)FLAG_BLOCK_STATUS : 0) |
           (record->has_ended ? (uint32_t)FLAG_HAS_ENDED : 0) |
           (record->is_leaving ? (uint32_t)FLAG_IS_LEAVING : 0) |
           (record->is_discarding ? (uint32_t)FLAG_IS_DISCARDING : 0) |
           (record->is_durable ? (uint32_t)FLAG_IS_DURABLE : 0);
}

size_t nbd_record_size(const struct nbd_record *record)
{
    return HEAD_SIZE + strlen(record->name) + 1 + strlen(record->incarnation) +
           1 + record->replies_len + record->requests_len;
}

void nbd_record_begin(const struct nbd_record *record, uint8_t *to,
                      uint8_t **ret_replies, uint8_t **ret_requests)
{
    size_t name_len = strlen(record->name);
    size_t incarnation_len = strlen(record->incarnation);
    uint8_t *at = to + HEAD_SIZE;

    assert(record->replies_len <= NBD_RECORD_REPLIES_MAX &&
           record->requests_len <= NBD_RECORD_REQUESTS_MAX);
    memset(to, 0, HEAD_SIZE);
    memcpy(to + AT_MAGIC, magic, sizeof(magic));
    put_le32(to + AT_VERSION, VERSION);
    put_le64(to + AT_SIZE, nbd_record_size(record));
    put_le32(to + AT_FLAGS, flags_of(record));
    put_le32(to + AT_NAME_LEN, (uint32_t)name_len);
    put_le32(to + AT_INCARNATION_LEN, (uint32_t)incarnation_len);
    put_le64(to + AT_REPLIES_LEN, record->replies_len);
    put_le64(to + AT_REQUESTS_LEN, record->requests_len);
    if (record->is_discarding) {
        put_le32(to + AT_DISCARD_ERROR, record->discard_error);
        put_le64(to + AT_DISCARD_LEFT, record->discard_left);
        put_le64(to + AT_DISCARD_AT, record->discard_at);
        put_le64(to + AT_COOKIE, record->discarded.cookie);
        put_le64(to + AT_OFFSET, record->discarded.offset);
        put_le64(to + AT_LENGTH, record->discarded.length);
        put_le16(to + AT_TYPE, record->discarded.type);
        put_le16(to + AT_REQUEST_FLAGS, record->discarded.flags);
    }
    memcpy(at, record->name, name_len + 1);
    at += name_len + 1;
    memcpy(at, record->incarnation, incarnation_len + 1);
    at += incarnation_len + 1;
    *ret_replies = at;
    *ret_requests = at + record->replies_len;
}

static uint32_t checksum_of(const uint8_t *bytes, size_t len)
{
    static const uint8_t zero[4];
    uint32_t sum = crc32c(0, bytes, AT_CHECKSUM);

    sum = crc32c(sum, zero, sizeof(zero));
    return crc32c(sum, bytes + AT_CHECKSUM + 4, len - AT_CHECKSUM - 4);
}

void nbd_record_seal(uint8_t *bytes, size_t len)
{
    put_le32(bytes + AT_CHECKSUM, checksum_of(bytes, len));
}

/* Whether the lengths are allowed, and those of all that is there. */
static bool lengths_fit(const uint8_t *bytes, size_t len)
{
    uint64_t name_len = get_le32(bytes + AT_NAME_LEN);
    uint64_t incarnation_len = get_le32(bytes + AT_INCARNATION_LEN);
    uint64_t replies_len = get_le64(bytes + AT_REPLIES_LEN);
    uint64_t requests_len = get_le64(bytes + AT_REQUESTS_LEN);

    return name_len <= NBD_STRING_MAX &&
           incarnation_len < DEVICE_INCARNATION_SIZE &&
           replies_len <= NBD_RECORD_REPLIES_MAX &&
           requests_len <= NBD_RECORD_REQUESTS_MAX &&
           HEAD_SIZE + name_len + 1 + incarnation_len + 1 + replies_len +
                   requests_len ==
               len;
}

/* Whether this is text of that length, and its end mark. */
static bool is_text(const uint8_t *bytes, size_t len)
{
    return nbd_string_is_valid((struct nbd_string){(const char *)bytes, len}) &&
           bytes[len] == '\0';
}

static bool flags_fit(uint32_t flags)
{
    return (flags & ~(uint32_t)FLAGS_ALL) == 0 &&
           ((flags & FLAG_STRUCTURED) != 0 ||
            (flags & (FLAG_EXTENDED | FLAG_BLOCK_STATUS)) == 0);
}

/* Of a payload that is dropped when nothing comes any more, all is there. */
static bool discard_fits(const struct nbd_record *record)
{
    return !record->is_discarding ||
           (record->discard_left > 0 &&
            record->discard_left <= DEVICE_REQUEST_MAX &&
            record->discard_at <= record->requests_len &&
            (!record->has_ended ||
             record->discard_left <=
                 record->requests_len - record->discard_at));
}

static void read_discard(const uint8_t *bytes, struct nbd_record *record)
{
    record->discard_error = get_le32(bytes + AT_DISCARD_ERROR);
    record->discard_left = get_le64(bytes + AT_DISCARD_LEFT);
    record->discard_at = get_le64(bytes + AT_DISCARD_AT);
    record->discarded = (struct nbd_request){
        .flags = get_le16(bytes + AT_REQUEST_FLAGS),
        .type = get_le16(bytes + AT_TYPE),
        .cookie = get_le64(bytes + AT_COOKIE),
        .offset = get_le64(bytes + AT_OFFSET),
        .length = get_le64(bytes + AT_LENGTH),
    };
}

int nbd_record_read(const uint8_t *bytes, size_t len,
                    struct nbd_record *ret_record)
{
    struct nbd_record record = {.name = NULL};
    const uint8_t *at = bytes + HEAD_SIZE;
    size_t name_len, incarnation_len;
    uint32_t flags;

    if (len < HEAD_SIZE || memcmp(bytes, magic, sizeof(magic)) != 0 ||
        get_le32(bytes + AT_VERSION) != VERSION ||
        get_le64(bytes + AT_SIZE) != len || !lengths_fit(bytes, len) ||
        get_le32(bytes + AT_CHECKSUM) != checksum_of(bytes, len))
        return -EPROTO;
    flags = get_le32(bytes + AT_FLAGS);
    name_len = get_le32(bytes + AT_NAME_LEN);
    incarnation_len = get_le32(bytes + AT_INCARNATION_LEN);
    if (!flags_fit(flags) || !is_text(at, name_len) ||
        !is_text(at + name_len + 1, incarnation_len) ||
        get_le32(bytes + AT_ZERO) != 0)
        return -EPROTO;
    record.name = (const char *)at;
    at += name_len + 1;
    record.incarnation = (const char *)at;
    at += incarnation_len + 1;
    record.structured = (flags & FLAG_STRUCTURED) != 0;
    record.extended = (flags & FLAG_EXTENDED) != 0;
    record.block_status = (flags & FLAG_BLOCK_STATUS) != 0;
    record.has_ended = (flags & FLAG_HAS_ENDED) != 0;
    record.is_leaving = (flags & FLAG_IS_LEAVING) != 0;
    record.is_discarding = (flags & FLAG_IS_DISCARDING) != 0;
    record.is_durable = (flags & FLAG_IS_DURABLE) != 0;
    read_discard(bytes, &record);
    record.replies_len = get_le64(bytes + AT_REPLIES_LEN);
    record.requests_len = get_le64(bytes + AT_REQUESTS_LEN);
    record.replies = at;
    record.requests = at + record.replies_len;
    if (!discard_fits(&record))
        return -EPROTO;
    *ret_record = record;
    return 0;
}
