/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any bytes as a record's head and as a segment's header: what is accepted
 * encodes to the same bytes again.  The first 16 say salt, position and what
 * to put right, so that the checksum does not stop everything.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/journal_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_right(unsigned char *head, size_t size, uint32_t salt,
                      uint64_t position)
{
    uint32_t head_size;
    uint32_t checksum;

    if (size < JOURNAL_RECORD_HEADER)
        return;
    put_le32(head, 0x72623373);
    put_le64(head + 8, position);
    head_size = get_le32(head + 44);
    if (head_size < JOURNAL_RECORD_HEADER || head_size > size)
        return;
    checksum = crc32c(salt, head, 60);
    put_le32(head + 60, crc32c(checksum, head + 64, head_size - 64));
}

static void try_record(const unsigned char *head, size_t size, uint32_t salt,
                       uint64_t position)
{
    uint32_t checksums[JOURNAL_RECORD_PAGES_MAX];
    unsigned char again[JOURNAL_HEAD_MAX];
    struct journal_record record;
    struct journal_record back;
    size_t used;

    if (journal_record_decode(head, size, position, salt, &record, checksums) !=
        0)
        return;
    used = journal_record_head_size(&record);
    assert(used <= size && used <= sizeof(again));
    assert(record.position == position && record.durable <= position);
    journal_record_encode(&record, checksums, salt, again);
    assert(journal_record_decode(again, used, position, salt, &back, NULL) ==
           0);
    assert(back.kind == record.kind && back.count == record.count);
}

static void try_header(const unsigned char *data, size_t size)
{
    unsigned char page[JOURNAL_HEADER_SIZE] = {0};
    unsigned char again[JOURNAL_HEADER_SIZE];
    struct journal_segment_header header;

    memcpy(page, data, size < 508 ? size : 508);
    memcpy(page, "s3bjourn", 8);
    put_le32(page + 508, crc32c(0, page, 508));
    if (journal_header_decode(page, &header) != 0)
        return;
    assert(header.number > header.previous);
    journal_header_encode(&header, again);
    assert(journal_header_decode(again, &header) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *head;
    uint32_t salt;
    uint64_t position;

    if (size < 16)
        return 0;
    salt = get_le32(data);
    position = get_le64(data + 4);
    head = malloc(size - 16 + 1); /* exact, so that reading on is noticed */
    assert(head);
    memcpy(head, data + 16, size - 16);
    if ((data[12] & 1) != 0)
        put_right(head, size - 16, salt, position);
    try_record(head, size - 16, salt, position);
    try_header(data, size);
    free(head);
    return 0;
}
