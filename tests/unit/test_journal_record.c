/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/journal_record.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "unit/test.h"

enum { SALT = 0x5eed5a17 };

static const uint32_t page_checksums[3] = {1, 0xffffffff, 0x12345678};

static struct journal_record pages_record(void)
{
    return (struct journal_record){
        .kind = JOURNAL_PAGES,
        .page = 0x123456789a,
        .count = 3,
        .position = 0x1122334455660,
        .durable = 0x1122334455000,
        .gap = 416,
    };
}

static bool records_are_equal(const struct journal_record *a,
                              const struct journal_record *b)
{
    return a->kind == b->kind && a->hole == b->hole && a->page == b->page &&
           a->count == b->count && a->position == b->position &&
           a->durable == b->durable && a->gap == b->gap;
}

static struct journal_segment_header some_header(void)
{
    struct journal_segment_header header = {
        .number = 77,
        .begin = 70,
        .previous = 75,
        .previous_end = 75ULL * 65536 + 5000,
        .state_commit = 99,
        .segment_size = 65536,
        .salt = SALT,
        .slots = 12,
    };

    memset(header.journal_id, 0xa1, UUID_SIZE);
    memset(header.cachedir_id, 0xb2, UUID_SIZE);
    return header;
}

TEST("every kind of record comes back as it was encoded")
{
    struct journal_record records[] = {
        pages_record(),
        {.kind = JOURNAL_ZERO, .page = 5, .count = 1ULL << 40, .position = 8},
        {.kind = JOURNAL_ZERO, .hole = true, .count = 1, .position = 8},
        {.kind = JOURNAL_MARK, .position = 4096, .durable = 4096},
        {.kind = JOURNAL_END, .position = 1ULL << 50, .gap = 4095},
    };

    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        unsigned char head[JOURNAL_HEAD_MAX];
        size_t size = journal_record_head_size(&records[i]);
        struct journal_record back;
        uint32_t checksums[JOURNAL_RECORD_PAGES_MAX];

        journal_record_encode(&records[i], page_checksums, SALT, head);
        CHECK(size % JOURNAL_RECORD_ALIGN == 0);
        CHECK(journal_record_decode(head, size, records[i].position, SALT,
                                    &back, checksums) == 0);
        CHECK(records_are_equal(&records[i], &back));
        if (records[i].kind == JOURNAL_PAGES)
            CHECK(memcmp(checksums, page_checksums, sizeof(page_checksums)) ==
                  0);
    }
}

TEST("sizes count the header, the checksums, their padding and the pages")
{
    struct journal_record record = pages_record();

    CHECK(journal_record_head_size(&record) == 64 + 16);
    CHECK(journal_record_size(&record) == 64 + 16 + 3 * 4096);
    record.count = JOURNAL_RECORD_PAGES_MAX;
    CHECK(journal_record_head_size(&record) == JOURNAL_HEAD_MAX);
    record.kind = JOURNAL_ZERO;
    CHECK(journal_record_size(&record) == 64);
}

TEST("a record with any byte changed is none")
{
    struct journal_record record = pages_record();
    unsigned char head[JOURNAL_HEAD_MAX];
    size_t size = journal_record_head_size(&record);
    struct journal_record back;

    journal_record_encode(&record, page_checksums, SALT, head);
    for (size_t i = 0; i < size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            head[i] ^= (unsigned char)(1U << bit);
            CHECK(journal_record_decode(head, size, record.position, SALT,
                                        &back, NULL) == -EBADMSG);
            head[i] ^= (unsigned char)(1U << bit);
        }
    }
}

TEST("a record elsewhere, of another salt, or cut short is none")
{
    struct journal_record record = pages_record();
    unsigned char head[JOURNAL_HEAD_MAX];
    size_t size = journal_record_head_size(&record);
    struct journal_record back;

    journal_record_encode(&record, page_checksums, SALT, head);
    CHECK(journal_record_decode(head, size, record.position + 8, SALT, &back,
                                NULL) == -EBADMSG);
    CHECK(journal_record_decode(head, size, record.position, SALT + 1, &back,
                                NULL) == -EBADMSG);
    for (size_t less = 0; less < size; less++)
        CHECK(journal_record_decode(head, less, record.position, SALT, &back,
                                    NULL) == -EBADMSG);
}

TEST("a whole record that makes no sense is none")
{
    struct journal_record good = pages_record();
    struct journal_record bad[] = {good, good, good, good, good, good};

    bad[0].durable = good.position + 1;
    bad[1].gap = 4096;
    bad[2].kind = JOURNAL_ZERO;
    bad[2].count = 0;
    bad[3].kind = JOURNAL_ZERO;
    bad[3].page = UINT64_MAX - 1;
    bad[4].kind = JOURNAL_MARK; /* with pages */
    bad[5].hole = true;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        unsigned char head[JOURNAL_HEAD_MAX];
        struct journal_record back;

        journal_record_encode(&bad[i], page_checksums, SALT, head);
        CHECK(journal_record_decode(head, sizeof(head), bad[i].position, SALT,
                                    &back, NULL) == -EBADMSG);
    }
}

TEST("a record of a kind of a later version is told apart from none")
{
    struct journal_record record = {
        .kind = (enum journal_kind)9,
        .position = 4096,
    };
    unsigned char head[JOURNAL_HEAD_MAX];
    struct journal_record back;

    journal_record_encode(&record, NULL, SALT, head);
    CHECK(journal_record_decode(head, sizeof(head), 4096, SALT, &back, NULL) ==
          -EPROTONOSUPPORT);
}

TEST("what a later version says in reserved bytes is refused, not ignored")
{
    static const size_t reserved[] = {6, 7, 48, 59};
    struct journal_record record = pages_record();
    struct journal_segment_header header = some_header();
    unsigned char page[JOURNAL_HEADER_SIZE];

    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        size_t size = journal_record_head_size(&record);

        journal_record_encode(&record, page_checksums, SALT, page);
        page[reserved[i]] = 1;
        put_le32(page + 60,
                 crc32c(crc32c(SALT, page, 60), page + 64, size - 64));
        CHECK(journal_record_decode(page, size, record.position, SALT, &record,
                                    NULL) == -EPROTONOSUPPORT);
    }
    journal_header_encode(&header, page);
    page[100] = 1;
    put_le32(page + 508, crc32c(0, page, 508));
    CHECK(journal_header_decode(page, &header) == -EPROTONOSUPPORT);
    journal_header_encode(&header, page);
    put_le32(page + 8, 2);
    put_le32(page + 508, crc32c(0, page, 508));
    CHECK(journal_header_decode(page, &header) == -EPROTONOSUPPORT);
}

TEST("a page's checksum depends on the salt")
{
    unsigned char page[4096] = {1};

    CHECK(journal_page_checksum(SALT, page) !=
          journal_page_checksum(SALT + 1, page));
}

TEST("a segment's header comes back as it was encoded")
{
    struct journal_segment_header header = some_header();
    struct journal_segment_header back;
    unsigned char page[JOURNAL_HEADER_SIZE];

    journal_header_encode(&header, page);
    CHECK(journal_header_decode(page, &back) == 0);
    CHECK(memcmp(back.journal_id, header.journal_id, UUID_SIZE) == 0);
    CHECK(memcmp(back.cachedir_id, header.cachedir_id, UUID_SIZE) == 0);
    CHECK(back.number == 77 && back.begin == 70 && back.previous == 75);
    CHECK(back.previous_end == header.previous_end);
    CHECK(back.state_commit == 99 && back.segment_size == 65536);
    CHECK(back.salt == SALT && back.slots == 12);
}

TEST("a header with any byte changed is none")
{
    struct journal_segment_header header = some_header();
    struct journal_segment_header back;
    unsigned char page[JOURNAL_HEADER_SIZE];

    journal_header_encode(&header, page);
    for (size_t i = 0; i < sizeof(page); i++) {
        page[i] ^= 0x10;
        CHECK(journal_header_decode(page, &back) == -EBADMSG);
        page[i] ^= 0x10;
    }
}

TEST("a header, torn between sectors while it replaced another, is either")
{
    struct journal_segment_header old = some_header();
    struct journal_segment_header new = some_header();
    unsigned char before[JOURNAL_HEADER_SIZE];
    unsigned char after[JOURNAL_HEADER_SIZE];

    new.number = 99;
    new.salt = 4711;
    journal_header_encode(&old, before);
    journal_header_encode(&new, after);
    for (unsigned mask = 0; mask < 256; mask++) {
        unsigned char page[JOURNAL_HEADER_SIZE];
        struct journal_segment_header back;

        for (unsigned sector = 0; sector < 8; sector++)
            memcpy(page + sector * 512,
                   (mask >> sector & 1 ? after : before) + sector * 512, 512);
        CHECK(journal_header_decode(page, &back) == 0);
        CHECK(back.number == (mask & 1 ? 99 : 77));
    }
}

TEST("a whole header that makes no sense is none")
{
    struct journal_segment_header bad[] = {some_header(), some_header(),
                                           some_header(), some_header(),
                                           some_header(), some_header()};

    bad[0].segment_size = 4096;
    bad[1].segment_size = 65537;
    bad[2].number = 0;
    bad[3].number = UINT64_MAX / 4;
    bad[4].previous = bad[4].number;
    bad[5].begin = bad[5].number + 1;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        unsigned char page[JOURNAL_HEADER_SIZE];
        struct journal_segment_header back;

        journal_header_encode(&bad[i], page);
        CHECK(journal_header_decode(page, &back) == -EBADMSG);
    }
}
