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
    change.entry.published_generation = 5;
    change.entry.revision = 0xfedcba98;
    change.entry.file_pages = 0x12345678;
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

    for (size_t i = 0; i < 6; i++) {
        struct state_change change = make_chunk(counts[i % 3]);
        size_t size, used = 0;

        if (i >= 3)
            change.kind = STATE_CHECKPOINT_CHUNK;
        size = state_change_size(&change);
        CHECK(size <= STATE_CHANGE_MAX);
        CHECK(state_change_encode(&change, data) == size);
        CHECK(state_change_decode(data, sizeof(data), &decoded, &used) == 0);
        CHECK(used == size);
        CHECK(decoded.kind == change.kind);
        CHECK(decoded.chunk == change.chunk);
        CHECK(decoded.entry.published_generation == 5);
        CHECK(decoded.entry.revision == 0xfedcba98);
        CHECK(decoded.entry.file_pages == 0x12345678);
        CHECK(decoded.entry.objects_count == counts[i % 3]);
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
    CHECK(state_change_encode(&change, data) == 44);
    CHECK(state_change_decode(data, 44, &decoded, &used) == 0 && used == 44);
    CHECK(decoded.kind == STATE_CHUNK && decoded.chunk == change.chunk);
    CHECK(decoded.entry.generation == 0 && decoded.entry.flags == 0);
    CHECK(decoded.entry.objects_count == 0);
    change.kind = STATE_JOURNAL_BEGIN;
    change.number = UINT64_MAX - 1;
    CHECK(state_change_encode(&change, data) == 44);
    CHECK(state_change_decode(data, 44, &decoded, &used) == 0 && used == 44);
    CHECK(decoded.kind == STATE_JOURNAL_BEGIN);
    CHECK(decoded.number == change.number);
}

TEST("what is said besides the chunks comes back, each kind with its own")
{
    static const struct {
        enum state_change_kind kind;
        bool number, time, record;
    } kinds[] = {
        {STATE_CHECKPOINT_BEGIN, true, true, false},
        {STATE_CHECKPOINT_OPEN, false, false, false},
        {STATE_CHECKPOINT_PUBLISHED, false, false, false},
        {STATE_CHECKPOINT_DROPPED, false, false, false},
        {STATE_EPOCH_INTENT, false, false, true},
        {STATE_EPOCH_DECIDED, false, false, true},
        {STATE_EPOCH_VOID, false, false, false},
        {STATE_COUNTER, true, false, false},
        {STATE_ADOPT, false, false, true},
        {STATE_ADOPTED, false, true, false},
    };
    unsigned char data[STATE_CHANGE_MAX];
    struct state_change decoded;
    size_t used = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct state_change change = {
            .kind = kinds[i].kind, .number = 77, .time_ns = 88};
        size_t size = state_change_size(&change);

        memset(change.record, 99, STATE_RECORD_SIZE);
        CHECK(state_change_encode(&change, data) == size);
        CHECK(size == (kinds[i].record ? 44 + 512 : 44));
        CHECK(state_change_decode(data, size, &decoded, &used) == 0);
        CHECK(used == size && decoded.kind == kinds[i].kind);
        CHECK(decoded.number == (kinds[i].number ? 77 : 0));
        CHECK(decoded.time_ns == (kinds[i].time ? 88 : 0));
        CHECK(decoded.record[511] == (kinds[i].record ? 99 : 0));
        CHECK(state_change_decode(data, size - 1, &decoded, &used) == -EBADMSG);
        data[7] = 1; /* a chunk, where there is none */
        CHECK(state_change_decode(data, size, &decoded, &used) == -EBADMSG);
        data[7] = 0;
        data[32] = 1;
        CHECK(state_change_decode(data, size, &decoded, &used) == -EBADMSG);
        data[32] = 0;
        data[41] = 1;
        CHECK(state_change_decode(data, size, &decoded, &used) == -EBADMSG);
    }
}

TEST("a change that this version never writes is refused")
{
    static const struct {
        size_t at;
        unsigned char value;
    } changes[] = {
        {15, 1},   /* generation too large */
        {23, 1},   /* uploaded generation too large */
        {31, 1},   /* published generation too large */
        {40, 0},   /* kind */
        {40, 14},  /* kind */
        {40, 255}, /* kind */
        {40, 2},   /* a begin of the journal with a chunk */
        {41, 6},   /* zeros and a hole */
        {41, 8},   /* a flag */
        {42, 17},  /* objects */
        {43, 1},   /* reserved */
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
    for (size_t at = 16; at < 44; at += at == 39 ? 2 : 1) {
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
    struct state_end end = {12, 3456, 77, {.counter = 5}}, decoded;
    unsigned char page[STATE_PAGE];

    end.facts.phase = CHECKPOINT_OPEN;
    end.facts.checkpoint_position = 6;
    end.facts.checkpoint_time_ns = 7;
    end.facts.folded_position = 10;
    end.facts.published_time_ns = 8;
    end.facts.has_intent = true;
    memset(end.facts.intent, 9, STATE_RECORD_SIZE);
    state_end_encode(&end, 77, page);
    CHECK(state_end_decode(page, 77, &decoded) == 0);
    CHECK(decoded.sheets == 12 && decoded.entries == 3456);
    CHECK(decoded.checkpoint_entries == 77 && decoded.facts.counter == 5);
    CHECK(decoded.facts.phase == CHECKPOINT_OPEN);
    CHECK(decoded.facts.checkpoint_position == 6);
    CHECK(decoded.facts.checkpoint_time_ns == 7);
    CHECK(decoded.facts.folded_position == 10);
    CHECK(decoded.facts.published_time_ns == 8);
    CHECK(decoded.facts.has_intent && !decoded.facts.has_epoch &&
          !decoded.facts.must_adopt);
    CHECK(decoded.facts.intent[511] == 9 && decoded.facts.epoch[0] == 0);
    CHECK(state_end_decode(page, 78, &decoded) == -EBADMSG);
    for (size_t i = 0; i < sizeof(page); i++) {
        page[i] ^= 0x80;
        CHECK(state_end_decode(page, 77, &decoded) == -EBADMSG);
        page[i] ^= 0x80;
    }
}

TEST("the end of a snapshot with a phase, a flag or a record too many is none")
{
    static const struct {
        size_t at;
        unsigned char value;
    } changes[] = {{64, 3}, {65, 8},  {65, 3},   {66, 1},  {71, 1},
                   {72, 1}, {583, 1}, {1607, 1}, {1616, 1}};
    const struct state_end end = {0};
    unsigned char page[STATE_PAGE];
    struct state_end decoded;

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        bool is_said = changes[i].value == 3 && changes[i].at == 65;

        state_end_encode(&end, 77, page);
        page[changes[i].at] = changes[i].value;
        put_le32(page + STATE_PAGE - 4, crc32c(77, page, STATE_PAGE - 4));
        CHECK(state_end_decode(page, 77, &decoded) == (is_said ? 0 : -EBADMSG));
    }
}
