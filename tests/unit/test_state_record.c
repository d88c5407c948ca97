/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/state_record.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "unit/test.h"

static struct state_header make_header(enum state_file_kind kind)
{
    struct state_header header = {
        .kind = kind,
        .number = 0x0102030405060708,
        .salt = 0x1112131415161718,
        .commit = 0x2122232425262728,
        .journal_begin = 0x3132333435363738,
        .last_generation = CATALOG_GENERATION_MAX,
        .size = 1 << 20,
    };

    for (unsigned i = 0; i < UUID_SIZE; i++)
        header.cachedir_id[i] = (uint8_t)(i * 3 + 1);
    return header;
}

static struct state_change make_chunk(unsigned objects)
{
    struct state_change change;

    memset(&change, 0, sizeof(change));
    change.kind = STATE_CHUNK;
    change.chunk = 0x0102030405060708;
    change.entry.generation = CATALOG_GENERATION_MAX;
    change.entry.uploaded_generation = 3;
    change.entry.flags = CATALOG_FILE;
    change.entry.objects_count = objects;
    for (unsigned i = 0; i < objects; i++) {
        change.entry.objects[i].id.epoch = i + 1;
        change.entry.objects[i].id.nonce = ~(uint64_t)i;
        change.entry.objects[i].id.counter = (uint64_t)i << 50;
        change.entry.objects[i].origin = 1000 + i;
        change.entry.objects[i].table_size = 4096 * i;
        change.entry.objects[i].table_checksum = 0xfedcba98 - i;
    }
    return change;
}

/* ---- header -------------------------------------------------------------- */

TEST("a header comes back as it was, and not as one of the other kind")
{
    struct state_header decoded;
    unsigned char page[STATE_PAGE];

    for (int kind = STATE_FILE_SNAPSHOT; kind <= STATE_FILE_LOG; kind++) {
        struct state_header header = make_header((enum state_file_kind)kind);

        state_header_encode(&header, page);
        memset(&decoded, 0, sizeof(decoded));
        CHECK(state_header_decode(page, header.kind, &decoded) == 0);
        CHECK(decoded.kind == header.kind);
        CHECK(decoded.number == header.number && decoded.salt == header.salt);
        CHECK(decoded.commit == header.commit && decoded.size == header.size);
        CHECK(decoded.journal_begin == header.journal_begin);
        CHECK(decoded.last_generation == header.last_generation);
        CHECK(memcmp(decoded.cachedir_id, header.cachedir_id, UUID_SIZE) == 0);
        CHECK(state_header_decode(page,
                                  kind == STATE_FILE_LOG ? STATE_FILE_SNAPSHOT
                                                         : STATE_FILE_LOG,
                                  &decoded) == -EBADMSG);
    }
}

TEST("a header with any byte changed is damaged")
{
    struct state_header header = make_header(STATE_FILE_LOG), decoded;
    unsigned char page[STATE_PAGE];

    state_header_encode(&header, page);
    for (size_t i = 0; i < STATE_PAGE; i++) {
        page[i] ^= 0x40;
        CHECK(state_header_decode(page, STATE_FILE_LOG, &decoded) == -EBADMSG);
        page[i] ^= 0x40;
    }
}

TEST("a whole header of a later version, or with a strange value, is refused")
{
    static const struct {
        size_t at;
        int error;
    } changes[] = {{8, -EPROTONOSUPPORT},
                   {15, -EPROTONOSUPPORT},
                   {71, -EBADMSG}, /* a generation too large */
                   {80, -EBADMSG},
                   {4091, -EBADMSG}};
    struct state_header header = make_header(STATE_FILE_LOG), decoded;
    unsigned char page[STATE_PAGE];

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        state_header_encode(&header, page);
        page[changes[i].at] ^= 2;
        put_le32(page + STATE_PAGE - 4, crc32c(0, page, STATE_PAGE - 4));
        CHECK(state_header_decode(page, STATE_FILE_LOG, &decoded) ==
              changes[i].error);
    }
}

/* ---- changes ------------------------------------------------------------- */

TEST("a change comes back as it was, and takes the bytes that it said")
{
    static const unsigned counts[] = {0, 1, CHUNK_OBJECTS_MAX};
    unsigned char data[STATE_CHANGE_MAX + 8], again[STATE_CHANGE_MAX];
    struct state_change decoded;

    for (size_t i = 0; i < 3; i++) {
        struct state_change change = make_chunk(counts[i]);
        size_t size = state_change_size(&change), used = 0;

        CHECK(size <= STATE_CHANGE_MAX);
        CHECK(state_change_encode(&change, data) == size);
        CHECK(state_change_decode(data, sizeof(data), &decoded, &used) == 0);
        CHECK(used == size);
        CHECK(decoded.chunk == change.chunk);
        CHECK(decoded.entry.objects_count == counts[i]);
        CHECK(decoded.entry.flags == CATALOG_FILE);
        CHECK(state_change_encode(&decoded, again) == size);
        CHECK(memcmp(data, again, size) == 0);
        for (size_t less = 0; less < size; less++)
            CHECK(state_change_decode(data, less, &decoded, &used) == -EBADMSG);
    }
}

TEST("a begin of the journal comes back, a hole has nothing but its chunk")
{
    unsigned char data[STATE_CHANGE_MAX];
    struct state_change change = make_chunk(2), decoded;
    size_t used = 0;

    change.entry.generation = 0;
    CHECK(state_change_encode(&change, data) == 28);
    CHECK(state_change_decode(data, 28, &decoded, &used) == 0 && used == 28);
    CHECK(decoded.kind == STATE_CHUNK && decoded.chunk == change.chunk);
    CHECK(decoded.entry.generation == 0 && decoded.entry.flags == 0);
    CHECK(decoded.entry.objects_count == 0);
    change.kind = STATE_JOURNAL_BEGIN;
    change.number = UINT64_MAX - 1;
    CHECK(state_change_encode(&change, data) == 28);
    CHECK(state_change_decode(data, 28, &decoded, &used) == 0 && used == 28);
    CHECK(decoded.kind == STATE_JOURNAL_BEGIN);
    CHECK(decoded.number == change.number);
}

TEST("a change that this version never writes is refused")
{
    static const struct {
        size_t at;
        unsigned char value;
    } changes[] = {
        {15, 1},  /* generation too large */
        {23, 1},  /* uploaded generation too large */
        {24, 0},  /* kind */
        {24, 3},  /* kind */
        {24, 2},  /* a begin of the journal with a chunk */
        {25, 4},  /* a flag */
        {26, 17}, /* objects */
        {27, 1},  /* reserved */
    };
    unsigned char data[STATE_CHANGE_MAX];
    struct state_change change = make_chunk(1), decoded;
    size_t used;

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        memset(data, 0, sizeof(data));
        (void)state_change_encode(&change, data);
        data[changes[i].at] = changes[i].value;
        CHECK(state_change_decode(data, sizeof(data), &decoded, &used) ==
              -EBADMSG);
    }
    /* A hole with something besides its chunk. */
    change.entry.generation = 0;
    for (size_t at = 16; at < 27; at += at == 16 ? 9 : 1) {
        (void)state_change_encode(&change, data);
        data[at] = 1;
        CHECK(state_change_decode(data, sizeof(data), &decoded, &used) ==
              -EBADMSG);
    }
}

/* ---- groups, sheets, the end --------------------------------------------- */

TEST("the head of a group passes in its own file only, and unchanged")
{
    struct state_header header = make_header(STATE_FILE_LOG), other = header;
    struct state_group group = {5, 6, 7, 8}, decoded;
    unsigned char head[STATE_GROUP_HEAD];

    state_group_encode(&group, &header, head);
    CHECK(state_group_decode(head, &header, &decoded) == 0);
    CHECK(decoded.commit == 5 && decoded.count == 6 && decoded.size == 7 &&
          decoded.checksum == 8);
    other.salt ^= 1;
    CHECK(state_group_decode(head, &other, &decoded) == -EBADMSG);
    other = header;
    other.number ^= 1;
    CHECK(state_group_decode(head, &other, &decoded) == -EBADMSG);
    for (size_t i = 0; i < sizeof(head); i++) {
        head[i] ^= 0x10;
        CHECK(state_group_decode(head, &header, &decoded) == -EBADMSG);
        head[i] ^= 0x10;
    }
}

TEST("a group takes whole pages")
{
    CHECK(state_group_file_size(0) == STATE_PAGE);
    CHECK(state_group_file_size(STATE_PAGE - STATE_GROUP_HEAD) == STATE_PAGE);
    CHECK(state_group_file_size(STATE_PAGE - STATE_GROUP_HEAD + 1) ==
          (uint64_t)2 * STATE_PAGE);
}

TEST("a sheet passes in its own place and file only, and unchanged")
{
    static unsigned char sheet[STATE_SHEET];
    size_t used = 0;

    memset(sheet, 0xaa, sizeof(sheet));
    state_sheet_seal(sheet, 3, 100, 77);
    CHECK(state_sheet_check(sheet, 3, 77, &used) == 0 && used == 100);
    CHECK(state_sheet_check(sheet, 4, 77, &used) == -EBADMSG);
    CHECK(state_sheet_check(sheet, 3, 78, &used) == -EBADMSG);
    for (size_t i = 0; i < sizeof(sheet); i += i < 200 ? 1 : 997) {
        sheet[i] ^= 1;
        CHECK(state_sheet_check(sheet, 3, 77, &used) == -EBADMSG);
        sheet[i] ^= 1;
    }
    state_sheet_seal(sheet, 0, STATE_SHEET_ROOM, 77);
    CHECK(state_sheet_check(sheet, 0, 77, &used) == 0);
    CHECK(used == STATE_SHEET_ROOM);
    /* More than there is room for, or bytes that nobody reads. */
    state_sheet_seal(sheet, 0, 5, 77);
    put_le32(sheet + 8, STATE_SHEET_ROOM + 1);
    put_le32(sheet + STATE_SHEET - 4, crc32c(77, sheet, STATE_SHEET - 4));
    CHECK(state_sheet_check(sheet, 0, 77, &used) == -EBADMSG);
    put_le32(sheet + 8, 4);
    put_le32(sheet + STATE_SHEET - 4, crc32c(77, sheet, STATE_SHEET - 4));
    CHECK(state_sheet_check(sheet, 0, 77, &used) == -EBADMSG);
}

TEST("the end of a snapshot passes in its own file only, and unchanged")
{
    struct state_end end = {12, 3456}, decoded;
    unsigned char page[STATE_PAGE];

    state_end_encode(&end, 77, page);
    CHECK(state_end_decode(page, 77, &decoded) == 0);
    CHECK(decoded.sheets == 12 && decoded.entries == 3456);
    CHECK(state_end_decode(page, 78, &decoded) == -EBADMSG);
    for (size_t i = 0; i < sizeof(page); i++) {
        page[i] ^= 0x80;
        CHECK(state_end_decode(page, 77, &decoded) == -EBADMSG);
        page[i] ^= 0x80;
    }
}
