/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/state_record.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

static const unsigned char MAGIC_SNAPSHOT[8] = "s3bstcat";
static const unsigned char MAGIC_LOG[8] = "s3bstlog";
static const unsigned char MAGIC_GROUP[8] = "s3bstgrp";
static const unsigned char MAGIC_END[8] = "s3bstend";

enum {
    VERSION = 1,

    /* The header.  The first three and the last stay in later versions. */
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_CACHEDIR_ID = 16,
    AT_NUMBER = 32,
    AT_SALT = 40,
    AT_COMMIT = 48,
    AT_JOURNAL_BEGIN = 56,
    AT_LAST_GENERATION = 64,
    AT_SIZE = 72,
    AT_RESERVED = 80,
    AT_CHECKSUM = STATE_PAGE - 4,

    /* A change, and each of its objects. */
    CHANGE_CHUNK = 0,
    CHANGE_GENERATION = 8, /* or a number */
    CHANGE_UPLOADED = 16,  /* or a time */
    CHANGE_PUBLISHED = 24,
    CHANGE_REVISION = 32,
    CHANGE_FILE_PAGES = 36,
    CHANGE_KIND = 40,
    CHANGE_FLAGS = 41,
    CHANGE_OBJECTS_COUNT = 42,
    CHANGE_RESERVED = 43,
    CHANGE_SIZE = 44,
    OBJECT_EPOCH = 0,
    OBJECT_NONCE = 8,
    OBJECT_COUNTER = 16,
    OBJECT_ORIGIN = 24,
    OBJECT_TABLE_SIZE = 28,
    OBJECT_TABLE_CHECKSUM = 32,
    OBJECT_SIZE = 36,

    /* The head of a group. */
    GROUP_NUMBER = 8,
    GROUP_SALT = 16,
    GROUP_COMMIT = 24,
    GROUP_COUNT = 32,
    GROUP_SIZE = 40,
    GROUP_CHECKSUM = 48,
    GROUP_RESERVED = 52,
    GROUP_HEAD_CHECKSUM = STATE_GROUP_HEAD - 4,

    /* A sheet. */
    SHEET_INDEX = 0,
    SHEET_USED = 8,
    SHEET_RESERVED = 12,
    SHEET_CHECKSUM = STATE_SHEET - 4,

    /* The last page of a snapshot. */
    END_SHEETS = 8,
    END_ENTRIES = 16,
    END_CHECKPOINT_ENTRIES = 24,
    END_POSITION = 32,
    END_TIME = 40,
    END_PUBLISHED_TIME = 48,
    END_COUNTER = 56,
    END_PHASE = 64,
    END_HAS = 65,
    END_RESERVED = 66,
    END_EPOCH = 72,
    END_INTENT = END_EPOCH + STATE_RECORD_SIZE,
    END_ADOPT = END_INTENT + STATE_RECORD_SIZE,
    END_FOLDED = END_ADOPT + STATE_RECORD_SIZE,
    END_RESERVED_2 = END_FOLDED + 8,
};

_Static_assert(STATE_CHANGE_MAX ==
                   CHANGE_SIZE + CHUNK_OBJECTS_MAX * OBJECT_SIZE,
               "a change with all objects");

static const unsigned KNOWN_FLAGS = CATALOG_FILE | CATALOG_ZERO | CATALOG_HOLE;

/* What there is in a snapshot's last page. */
enum { HAS_EPOCH = 1, HAS_INTENT = 2, HAS_ADOPT = 4 };

/* ---- header -------------------------------------------------------------- */

void state_header_encode(const struct state_header *header, void *page)
{
    unsigned char *to = page;

    memset(to, 0, STATE_PAGE);
    memcpy(to + AT_MAGIC,
           header->kind == STATE_FILE_LOG ? MAGIC_LOG : MAGIC_SNAPSHOT,
           sizeof(MAGIC_LOG));
    put_le32(to + AT_VERSION, VERSION);
    memcpy(to + AT_CACHEDIR_ID, header->cachedir_id, UUID_SIZE);
    put_le64(to + AT_NUMBER, header->number);
    put_le64(to + AT_SALT, header->salt);
    put_le64(to + AT_COMMIT, header->commit);
    put_le64(to + AT_JOURNAL_BEGIN, header->journal_begin);
    put_le64(to + AT_LAST_GENERATION, header->last_generation);
    put_le64(to + AT_SIZE, header->size);
    put_le32(to + AT_CHECKSUM, crc32c(0, to, AT_CHECKSUM));
}

int state_header_decode(const void *page, enum state_file_kind kind,
                        struct state_header *ret_header)
{
    const unsigned char *from = page;

    if (memcmp(from + AT_MAGIC,
               kind == STATE_FILE_LOG ? MAGIC_LOG : MAGIC_SNAPSHOT,
               sizeof(MAGIC_LOG)) != 0 ||
        get_le32(from + AT_CHECKSUM) != crc32c(0, from, AT_CHECKSUM))
        return -EBADMSG;
    if (get_le32(from + AT_VERSION) != VERSION ||
        get_le32(from + AT_FLAGS) != 0)
        return -EPROTONOSUPPORT;
    if (get_le64(from + AT_LAST_GENERATION) > CATALOG_GENERATION_MAX ||
        !bytes_are_zero(from + AT_RESERVED, AT_CHECKSUM - AT_RESERVED))
        return -EBADMSG;
    ret_header->kind = kind;
    memcpy(ret_header->cachedir_id, from + AT_CACHEDIR_ID, UUID_SIZE);
    ret_header->number = get_le64(from + AT_NUMBER);
    ret_header->salt = get_le64(from + AT_SALT);
    ret_header->commit = get_le64(from + AT_COMMIT);
    ret_header->journal_begin = get_le64(from + AT_JOURNAL_BEGIN);
    ret_header->last_generation = get_le64(from + AT_LAST_GENERATION);
    ret_header->size = get_le64(from + AT_SIZE);
    return 0;
}

uint32_t state_seed(const struct state_header *header)
{
    unsigned char salt[8];

    put_le64(salt, header->salt);
    return crc32c(0, salt, sizeof(salt));
}

/* ---- changes ------------------------------------------------------------- */

/* What a kind of change says. */
struct saying {
    bool is_known, chunk, number, time, record;
};

static struct saying saying_of(enum state_change_kind kind)
{
    static const struct saying sayings[] = {
        [STATE_CHUNK] = {.is_known = true, .chunk = true},
        [STATE_JOURNAL_BEGIN] = {.is_known = true, .number = true},
        [STATE_CHECKPOINT_BEGIN] = {.is_known = true,
                                    .number = true,
                                    .time = true},
        [STATE_CHECKPOINT_CHUNK] = {.is_known = true, .chunk = true},
        [STATE_CHECKPOINT_OPEN] = {.is_known = true},
        [STATE_CHECKPOINT_PUBLISHED] = {.is_known = true},
        [STATE_CHECKPOINT_DROPPED] = {.is_known = true},
        [STATE_EPOCH_INTENT] = {.is_known = true, .record = true},
        [STATE_EPOCH_DECIDED] = {.is_known = true, .record = true},
        [STATE_EPOCH_VOID] = {.is_known = true},
        [STATE_COUNTER] = {.is_known = true, .number = true},
        [STATE_ADOPT] = {.is_known = true, .record = true},
        [STATE_ADOPTED] = {.is_known = true, .time = true},
    };
    static const struct saying unknown;

    return (size_t)kind < sizeof(sayings) / sizeof(sayings[0]) ? sayings[kind]
                                                               : unknown;
}

/* A hole has nothing but its chunk. */
static unsigned objects_count(const struct state_change *change)
{
    return saying_of(change->kind).chunk && change->entry.generation > 0
               ? change->entry.objects_count
               : 0;
}

size_t state_change_size(const struct state_change *change)
{
    if (saying_of(change->kind).record)
        return CHANGE_SIZE + STATE_RECORD_SIZE;
    return CHANGE_SIZE + (size_t)objects_count(change) * OBJECT_SIZE;
}

static void encode_object(const struct chunk_object *object, unsigned char *to)
{
    put_le64(to + OBJECT_EPOCH, object->id.epoch);
    put_le64(to + OBJECT_NONCE, object->id.nonce);
    put_le64(to + OBJECT_COUNTER, object->id.counter);
    put_le32(to + OBJECT_ORIGIN, object->origin);
    put_le32(to + OBJECT_TABLE_SIZE, object->table_size);
    put_le32(to + OBJECT_TABLE_CHECKSUM, object->table_checksum);
}

static void encode_entry(const struct state_change *change, unsigned char *to)
{
    const struct catalog_entry *entry = &change->entry;

    put_le64(to + CHANGE_CHUNK, change->chunk);
    if (entry->generation == 0)
        return;
    assert((entry->flags & ~KNOWN_FLAGS) == 0 &&
           entry->objects_count <= CHUNK_OBJECTS_MAX);
    put_le64(to + CHANGE_GENERATION, entry->generation);
    put_le64(to + CHANGE_UPLOADED, entry->uploaded_generation);
    put_le64(to + CHANGE_PUBLISHED, entry->published_generation);
    put_le32(to + CHANGE_REVISION, entry->revision);
    put_le32(to + CHANGE_FILE_PAGES, entry->file_pages);
    to[CHANGE_FLAGS] = (unsigned char)entry->flags;
    to[CHANGE_OBJECTS_COUNT] = (unsigned char)entry->objects_count;
    to += CHANGE_SIZE;
    for (unsigned i = 0; i < entry->objects_count; i++)
        encode_object(&entry->objects[i], to + (size_t)i * OBJECT_SIZE);
}

size_t state_change_encode(const struct state_change *change, void *data)
{
    struct saying says = saying_of(change->kind);
    unsigned char *to = data;

    assert(says.is_known);
    memset(to, 0, CHANGE_SIZE);
    to[CHANGE_KIND] = (unsigned char)change->kind;
    if (says.number)
        put_le64(to + CHANGE_GENERATION, change->number);
    if (says.time)
        put_le64(to + CHANGE_UPLOADED, change->time_ns);
    if (says.chunk)
        encode_entry(change, to);
    else if (says.record)
        memcpy(to + CHANGE_SIZE, change->record, STATE_RECORD_SIZE);
    return state_change_size(change);
}

static void decode_object(const unsigned char *from, struct chunk_object *to)
{
    to->id.epoch = get_le64(from + OBJECT_EPOCH);
    to->id.nonce = get_le64(from + OBJECT_NONCE);
    to->id.counter = get_le64(from + OBJECT_COUNTER);
    to->origin = get_le32(from + OBJECT_ORIGIN);
    to->table_size = get_le32(from + OBJECT_TABLE_SIZE);
    to->table_checksum = get_le32(from + OBJECT_TABLE_CHECKSUM);
}

/* Whether only the chunk and the kind are said. */
static bool is_bare(const unsigned char *from)
{
    return bytes_are_zero(from + CHANGE_GENERATION,
                          CHANGE_KIND - CHANGE_GENERATION) &&
           bytes_are_zero(from + CHANGE_FLAGS, CHANGE_SIZE - CHANGE_FLAGS);
}

static bool entry_is_valid(const struct catalog_entry *entry)
{
    const unsigned both = CATALOG_ZERO | CATALOG_HOLE;

    return entry->generation <= CATALOG_GENERATION_MAX &&
           entry->uploaded_generation <= CATALOG_GENERATION_MAX &&
           entry->published_generation <= CATALOG_GENERATION_MAX &&
           (entry->flags & ~KNOWN_FLAGS) == 0 &&
           (entry->flags & both) != both &&
           entry->objects_count <= CHUNK_OBJECTS_MAX;
}

static int decode_chunk(const unsigned char *from, size_t size,
                        struct state_change *to)
{
    struct catalog_entry *entry = &to->entry;

    to->chunk = get_le64(from + CHANGE_CHUNK);
    entry->generation = get_le64(from + CHANGE_GENERATION);
    entry->uploaded_generation = get_le64(from + CHANGE_UPLOADED);
    entry->published_generation = get_le64(from + CHANGE_PUBLISHED);
    entry->revision = get_le32(from + CHANGE_REVISION);
    entry->file_pages = get_le32(from + CHANGE_FILE_PAGES);
    entry->flags = from[CHANGE_FLAGS];
    entry->objects_count = from[CHANGE_OBJECTS_COUNT];
    if (!entry_is_valid(entry) || from[CHANGE_RESERVED] != 0 ||
        (entry->generation == 0 && !is_bare(from)) ||
        size < state_change_size(to))
        return -EBADMSG;
    from += CHANGE_SIZE;
    for (unsigned i = 0; i < entry->objects_count; i++)
        decode_object(from + (size_t)i * OBJECT_SIZE, &entry->objects[i]);
    return 0;
}

/* Decode a change that is not of a chunk. */
static int decode_other(const unsigned char *from, size_t size,
                        struct saying says, struct state_change *to)
{
    if (says.number)
        to->number = get_le64(from + CHANGE_GENERATION);
    if (says.time)
        to->time_ns = get_le64(from + CHANGE_UPLOADED);
    if (get_le64(from + CHANGE_CHUNK) != 0 ||
        get_le64(from + CHANGE_GENERATION) != to->number ||
        get_le64(from + CHANGE_UPLOADED) != to->time_ns ||
        !bytes_are_zero(from + CHANGE_PUBLISHED,
                        CHANGE_KIND - CHANGE_PUBLISHED) ||
        !bytes_are_zero(from + CHANGE_FLAGS, CHANGE_SIZE - CHANGE_FLAGS) ||
        size < state_change_size(to))
        return -EBADMSG;
    if (says.record)
        memcpy(to->record, from + CHANGE_SIZE, STATE_RECORD_SIZE);
    return 0;
}

int state_change_decode(const void *data, size_t size,
                        struct state_change *ret_change, size_t *ret_size)
{
    const unsigned char *from = data;
    struct saying says;
    int error;

    if (size < CHANGE_SIZE)
        return -EBADMSG;
    memset(ret_change, 0, sizeof(*ret_change));
    ret_change->kind = (enum state_change_kind)from[CHANGE_KIND];
    says = saying_of(ret_change->kind);
    if (!says.is_known)
        return -EBADMSG;
    error = says.chunk ? decode_chunk(from, size, ret_change)
                       : decode_other(from, size, says, ret_change);
    if (error == 0)
        *ret_size = state_change_size(ret_change);
    return error;
}

/* ---- groups -------------------------------------------------------------- */

void state_group_encode(const struct state_group *group,
                        const struct state_header *header, void *head)
{
    unsigned char *to = head;

    memset(to, 0, STATE_GROUP_HEAD);
    memcpy(to + AT_MAGIC, MAGIC_GROUP, sizeof(MAGIC_GROUP));
    put_le64(to + GROUP_NUMBER, header->number);
    put_le64(to + GROUP_SALT, header->salt);
    put_le64(to + GROUP_COMMIT, group->commit);
    put_le64(to + GROUP_COUNT, group->count);
    put_le64(to + GROUP_SIZE, group->size);
    put_le32(to + GROUP_CHECKSUM, group->checksum);
    put_le32(to + GROUP_HEAD_CHECKSUM,
             crc32c(state_seed(header), to, GROUP_HEAD_CHECKSUM));
}

int state_group_decode(const void *head, const struct state_header *header,
                       struct state_group *ret_group)
{
    const unsigned char *from = head;

    if (memcmp(from + AT_MAGIC, MAGIC_GROUP, sizeof(MAGIC_GROUP)) != 0 ||
        get_le32(from + GROUP_HEAD_CHECKSUM) !=
            crc32c(state_seed(header), from, GROUP_HEAD_CHECKSUM) ||
        get_le64(from + GROUP_NUMBER) != header->number ||
        get_le64(from + GROUP_SALT) != header->salt ||
        !bytes_are_zero(from + GROUP_RESERVED,
                        GROUP_HEAD_CHECKSUM - GROUP_RESERVED))
        return -EBADMSG;
    ret_group->commit = get_le64(from + GROUP_COMMIT);
    ret_group->count = get_le64(from + GROUP_COUNT);
    ret_group->size = get_le64(from + GROUP_SIZE);
    ret_group->checksum = get_le32(from + GROUP_CHECKSUM);
    return 0;
}

uint64_t state_group_file_size(uint64_t changes_size)
{
    return (STATE_GROUP_HEAD + changes_size + STATE_PAGE - 1) / STATE_PAGE *
           STATE_PAGE;
}

/* ---- sheets -------------------------------------------------------------- */

void state_sheet_seal(void *sheet, uint64_t index, size_t used, uint32_t seed)
{
    unsigned char *to = sheet;

    assert(used <= STATE_SHEET_ROOM);
    put_le64(to + SHEET_INDEX, index);
    put_le32(to + SHEET_USED, (uint32_t)used);
    put_le32(to + SHEET_RESERVED, 0);
    memset(to + STATE_SHEET_HEAD + used, 0, STATE_SHEET_ROOM - used);
    put_le32(to + SHEET_CHECKSUM, crc32c(seed, to, SHEET_CHECKSUM));
}

int state_sheet_check(const void *sheet, uint64_t index, uint32_t seed,
                      size_t *ret_used)
{
    const unsigned char *from = sheet;
    uint32_t used = get_le32(from + SHEET_USED);

    if (get_le32(from + SHEET_CHECKSUM) != crc32c(seed, from, SHEET_CHECKSUM) ||
        get_le64(from + SHEET_INDEX) != index || used > STATE_SHEET_ROOM ||
        get_le32(from + SHEET_RESERVED) != 0 ||
        !bytes_are_zero(from + STATE_SHEET_HEAD + used,
                        STATE_SHEET_ROOM - used))
        return -EBADMSG;
    *ret_used = used;
    return 0;
}

static void encode_facts(const struct state_facts *facts, unsigned char *to)
{
    put_le64(to + END_POSITION, facts->checkpoint_position);
    put_le64(to + END_TIME, facts->checkpoint_time_ns);
    put_le64(to + END_PUBLISHED_TIME, facts->published_time_ns);
    put_le64(to + END_COUNTER, facts->counter);
    put_le64(to + END_FOLDED, facts->folded_position);
    to[END_PHASE] = (unsigned char)facts->phase;
    to[END_HAS] = (unsigned char)((facts->has_epoch ? HAS_EPOCH : 0) |
                                  (facts->has_intent ? HAS_INTENT : 0) |
                                  (facts->must_adopt ? HAS_ADOPT : 0));
    memcpy(to + END_EPOCH, facts->epoch, STATE_RECORD_SIZE);
    memcpy(to + END_INTENT, facts->intent, STATE_RECORD_SIZE);
    memcpy(to + END_ADOPT, facts->adopt, STATE_RECORD_SIZE);
}

void state_end_encode(const struct state_end *end, uint32_t seed, void *page)
{
    unsigned char *to = page;

    memset(to, 0, STATE_PAGE);
    memcpy(to + AT_MAGIC, MAGIC_END, sizeof(MAGIC_END));
    put_le64(to + END_SHEETS, end->sheets);
    put_le64(to + END_ENTRIES, end->entries);
    put_le64(to + END_CHECKPOINT_ENTRIES, end->checkpoint_entries);
    encode_facts(&end->facts, to);
    put_le32(to + AT_CHECKSUM, crc32c(seed, to, AT_CHECKSUM));
}

/* Whether a record is there, or else zeros. */
static bool record_is_as_said(const unsigned char *record, bool is_said)
{
    return is_said || bytes_are_zero(record, STATE_RECORD_SIZE);
}

static int decode_facts(const unsigned char *from, struct state_facts *to)
{
    unsigned has = from[END_HAS];

    if (from[END_PHASE] > CHECKPOINT_OPEN ||
        has > (HAS_EPOCH | HAS_INTENT | HAS_ADOPT))
        return -EBADMSG;
    to->phase = (enum checkpoint_phase)from[END_PHASE];
    to->checkpoint_position = get_le64(from + END_POSITION);
    to->checkpoint_time_ns = get_le64(from + END_TIME);
    to->published_time_ns = get_le64(from + END_PUBLISHED_TIME);
    to->counter = get_le64(from + END_COUNTER);
    to->folded_position = get_le64(from + END_FOLDED);
    to->has_epoch = (has & HAS_EPOCH) != 0;
    to->has_intent = (has & HAS_INTENT) != 0;
    to->must_adopt = (has & HAS_ADOPT) != 0;
    if (!record_is_as_said(from + END_EPOCH, to->has_epoch) ||
        !record_is_as_said(from + END_INTENT, to->has_intent) ||
        !record_is_as_said(from + END_ADOPT, to->must_adopt))
        return -EBADMSG;
    memcpy(to->epoch, from + END_EPOCH, STATE_RECORD_SIZE);
    memcpy(to->intent, from + END_INTENT, STATE_RECORD_SIZE);
    memcpy(to->adopt, from + END_ADOPT, STATE_RECORD_SIZE);
    return 0;
}

int state_end_decode(const void *page, uint32_t seed, struct state_end *ret_end)
{
    const unsigned char *from = page;

    if (memcmp(from + AT_MAGIC, MAGIC_END, sizeof(MAGIC_END)) != 0 ||
        get_le32(from + AT_CHECKSUM) != crc32c(seed, from, AT_CHECKSUM) ||
        !bytes_are_zero(from + END_RESERVED, END_EPOCH - END_RESERVED) ||
        !bytes_are_zero(from + END_RESERVED_2, AT_CHECKSUM - END_RESERVED_2))
        return -EBADMSG;
    ret_end->sheets = get_le64(from + END_SHEETS);
    ret_end->entries = get_le64(from + END_ENTRIES);
    ret_end->checkpoint_entries = get_le64(from + END_CHECKPOINT_ENTRIES);
    return decode_facts(from, &ret_end->facts);
}
