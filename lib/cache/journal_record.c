/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A record's head (little-endian; docs/FORMAT.md has the same table):
 *
 *    0  4  magic            32  8  durable
 *    4  1  kind             40  4  gap
 *    5  1  flags            44  4  bytes of the head
 *    6  2  zero             48  8  zero
 *    8  8  position         56  4  zero
 *   16  8  page             60  4  checksum of all of the head but this
 *   24  8  count            64     checksums of the pages, padding
 */
#include "cache/journal_record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/geometry.h"

static const uint32_t RECORD_MAGIC = 0x72623373; /* "s3br" */
static const char HEADER_MAGIC[] = "s3bjourn";   /* 8 bytes in the file */
static const uint32_t HEADER_VERSION = 1;

enum {
    RECORD_FLAG_HOLE = 1 << 0,
    RECORD_FLAGS = RECORD_FLAG_HOLE,

    RECORD_KIND = 4,
    RECORD_FLAGS_BYTE = 5,
    RECORD_ZERO = 6,
    RECORD_POSITION = 8,
    RECORD_PAGE = 16,
    RECORD_COUNT = 24,
    RECORD_DURABLE = 32,
    RECORD_GAP = 40,
    RECORD_HEAD_SIZE = 44,
    RECORD_END = 48,
    RECORD_CHECKSUM = 60,

    HEADER_MAGIC_SIZE = 8,
    HEADER_VERSION_AT = 8,
    HEADER_FLAGS = 12,
    HEADER_JOURNAL_ID = 16,
    HEADER_CACHEDIR_ID = 32,
    HEADER_NUMBER = 48,
    HEADER_BEGIN = 56,
    HEADER_PREVIOUS = 64,
    HEADER_PREVIOUS_END = 72,
    HEADER_STATE_COMMIT = 80,
    HEADER_SEGMENT_SIZE = 88,
    HEADER_SALT = 92,
    HEADER_SLOTS = 96,
    HEADER_END = 100,
    HEADER_CHECKSUM = 508,
    HEADER_SECTOR = 512, /* nothing but zeros after that */
};

size_t journal_record_head_size(const struct journal_record *record)
{
    size_t size = JOURNAL_RECORD_HEADER;

    if (record->kind == JOURNAL_PAGES)
        size += (size_t)record->count * sizeof(uint32_t);
    return (size_t)round_up(size, JOURNAL_RECORD_ALIGN);
}

uint64_t journal_record_size(const struct journal_record *record)
{
    uint64_t size = journal_record_head_size(record);

    return record->kind == JOURNAL_PAGES ? size + record->count * CACHE_PAGE
                                         : size;
}

uint32_t journal_page_checksum(uint32_t salt, const void *page)
{
    return crc32c(salt, page, CACHE_PAGE);
}

static uint32_t head_checksum(const unsigned char *head, size_t size,
                              uint32_t salt)
{
    uint32_t checksum = crc32c(salt, head, RECORD_CHECKSUM);

    return crc32c(checksum, head + JOURNAL_RECORD_HEADER,
                  size - JOURNAL_RECORD_HEADER);
}

void journal_record_encode(const struct journal_record *record,
                           const uint32_t *checksums, uint32_t salt, void *head)
{
    unsigned char *to = head;
    size_t size = journal_record_head_size(record);
    size_t used = JOURNAL_RECORD_HEADER;

    memset(to, 0, JOURNAL_RECORD_HEADER);
    put_le32(to, RECORD_MAGIC);
    to[RECORD_KIND] = (unsigned char)record->kind;
    to[RECORD_FLAGS_BYTE] = record->hole ? RECORD_FLAG_HOLE : 0;
    put_le64(to + RECORD_POSITION, record->position);
    put_le64(to + RECORD_PAGE, record->page);
    put_le64(to + RECORD_COUNT, record->count);
    put_le64(to + RECORD_DURABLE, record->durable);
    put_le32(to + RECORD_GAP, record->gap);
    put_le32(to + RECORD_HEAD_SIZE, (uint32_t)size);
    if (record->kind == JOURNAL_PAGES) {
        assert(checksums && record->count <= JOURNAL_RECORD_PAGES_MAX);
        for (uint64_t i = 0; i < record->count; i++, used += sizeof(uint32_t))
            put_le32(to + used, checksums[i]);
        memset(to + used, 0, size - used);
    }
    put_le32(to + RECORD_CHECKSUM, head_checksum(to, size, salt));
}

/* Whether a record with this content can have been written by us. */
static bool record_is_sane(const struct journal_record *record, size_t size)
{
    if (record->durable > record->position || record->gap >= CACHE_PAGE)
        return false;
    switch (record->kind) {
    case JOURNAL_PAGES:
        if (record->hole || record->count > JOURNAL_RECORD_PAGES_MAX)
            return false;
        break;
    case JOURNAL_ZERO:
        break;
    case JOURNAL_MARK:
    case JOURNAL_END:
        return !record->hole && record->page == 0 && record->count == 0 &&
               size == JOURNAL_RECORD_HEADER;
    }
    return record->count > 0 && record->page <= UINT64_MAX - record->count &&
           size == journal_record_head_size(record);
}

int journal_record_decode(const void *head, size_t size, uint64_t position,
                          uint32_t salt, struct journal_record *ret_record,
                          uint32_t *ret_checksums)
{
    const unsigned char *from = head;
    struct journal_record record;
    size_t head_size;

    if (size < JOURNAL_RECORD_HEADER || get_le32(from) != RECORD_MAGIC ||
        get_le64(from + RECORD_POSITION) != position)
        return -EBADMSG;
    head_size = get_le32(from + RECORD_HEAD_SIZE);
    if (head_size < JOURNAL_RECORD_HEADER || head_size > size ||
        head_size > JOURNAL_HEAD_MAX || head_size % JOURNAL_RECORD_ALIGN != 0 ||
        get_le32(from + RECORD_CHECKSUM) !=
            head_checksum(from, head_size, salt))
        return -EBADMSG;
    if (from[RECORD_KIND] < JOURNAL_PAGES || from[RECORD_KIND] > JOURNAL_END ||
        (from[RECORD_FLAGS_BYTE] & ~RECORD_FLAGS) != 0 ||
        !bytes_are_zero(from + RECORD_ZERO, RECORD_POSITION - RECORD_ZERO) ||
        !bytes_are_zero(from + RECORD_END, RECORD_CHECKSUM - RECORD_END))
        return -EPROTONOSUPPORT;
    record = (struct journal_record){
        .kind = (enum journal_kind)from[RECORD_KIND],
        .hole = (from[RECORD_FLAGS_BYTE] & RECORD_FLAG_HOLE) != 0,
        .page = get_le64(from + RECORD_PAGE),
        .count = get_le64(from + RECORD_COUNT),
        .position = position,
        .durable = get_le64(from + RECORD_DURABLE),
        .gap = get_le32(from + RECORD_GAP),
    };
    if (!record_is_sane(&record, head_size))
        return -EBADMSG;
    if (record.kind == JOURNAL_PAGES && ret_checksums) {
        for (size_t i = 0; i < record.count; i++)
            ret_checksums[i] =
                get_le32(from + JOURNAL_RECORD_HEADER + i * sizeof(uint32_t));
    }
    *ret_record = record;
    return 0;
}

void journal_header_encode(const struct journal_segment_header *header,
                           void *data)
{
    unsigned char *to = data;

    memset(to, 0, JOURNAL_HEADER_SIZE);
    memcpy(to, HEADER_MAGIC, HEADER_MAGIC_SIZE);
    put_le32(to + HEADER_VERSION_AT, HEADER_VERSION);
    memcpy(to + HEADER_JOURNAL_ID, header->journal_id, UUID_SIZE);
    memcpy(to + HEADER_CACHEDIR_ID, header->cachedir_id, UUID_SIZE);
    put_le64(to + HEADER_NUMBER, header->number);
    put_le64(to + HEADER_BEGIN, header->begin);
    put_le64(to + HEADER_PREVIOUS, header->previous);
    put_le64(to + HEADER_PREVIOUS_END, header->previous_end);
    put_le64(to + HEADER_STATE_COMMIT, header->state_commit);
    put_le32(to + HEADER_SEGMENT_SIZE, header->segment_size);
    put_le32(to + HEADER_SALT, header->salt);
    put_le32(to + HEADER_SLOTS, header->slots);
    put_le32(to + HEADER_CHECKSUM, crc32c(0, to, HEADER_CHECKSUM));
}

int journal_header_decode(const void *data,
                          struct journal_segment_header *ret_header)
{
    const unsigned char *from = data;
    struct journal_segment_header header;

    if (memcmp(from, HEADER_MAGIC, HEADER_MAGIC_SIZE) != 0 ||
        get_le32(from + HEADER_CHECKSUM) != crc32c(0, from, HEADER_CHECKSUM) ||
        !bytes_are_zero(from + HEADER_SECTOR,
                        JOURNAL_HEADER_SIZE - HEADER_SECTOR))
        return -EBADMSG;
    if (get_le32(from + HEADER_VERSION_AT) != HEADER_VERSION ||
        get_le32(from + HEADER_FLAGS) != 0 ||
        !bytes_are_zero(from + HEADER_END, HEADER_CHECKSUM - HEADER_END))
        return -EPROTONOSUPPORT;
    header = (struct journal_segment_header){
        .number = get_le64(from + HEADER_NUMBER),
        .begin = get_le64(from + HEADER_BEGIN),
        .previous = get_le64(from + HEADER_PREVIOUS),
        .previous_end = get_le64(from + HEADER_PREVIOUS_END),
        .state_commit = get_le64(from + HEADER_STATE_COMMIT),
        .segment_size = get_le32(from + HEADER_SEGMENT_SIZE),
        .salt = get_le32(from + HEADER_SALT),
        .slots = get_le32(from + HEADER_SLOTS),
    };
    memcpy(header.journal_id, from + HEADER_JOURNAL_ID, UUID_SIZE);
    memcpy(header.cachedir_id, from + HEADER_CACHEDIR_ID, UUID_SIZE);
    /* Else positions would wrap around, or sizes make no sense. */
    if (header.segment_size < 2 * CACHE_PAGE ||
        header.segment_size % CACHE_PAGE != 0 || header.number == 0 ||
        header.number >= (uint64_t)INT64_MAX / header.segment_size ||
        header.previous >= header.number || header.begin > header.number ||
        header.previous_end > header.number * header.segment_size)
        return -EBADMSG;
    *ret_header = header;
    return 0;
}
