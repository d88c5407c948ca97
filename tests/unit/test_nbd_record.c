/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_record.h"

#include "base/bytes.h"
#include "unit/test.h"

/* A record with everything that there can be at once. */
static struct nbd_record full_record(void)
{
    return (struct nbd_record){
        .name = "disk",
        .incarnation = "0123-7",
        .structured = true,
        .extended = true,
        .block_status = true,
        .is_leaving = true,
        .is_discarding = true,
        .discarded = {.flags = 3,
                      .type = 1,
                      .cookie = 0x1122334455667788,
                      .offset = 1 << 20,
                      .length = 1 << 16},
        .discard_left = 5000,
        .discard_at = 4,
        .discard_error = NBD_EPERM,
        .replies = (const uint8_t *)"replies",
        .replies_len = 7,
        .requests = (const uint8_t *)"requests",
        .requests_len = 8,
    };
}

/* Write a record to memory that the caller frees. */
static uint8_t *write_record(const struct nbd_record *record, size_t *ret_len)
{
    size_t len = nbd_record_size(record);
    uint8_t *bytes = malloc(len), *replies, *requests;

    nbd_record_begin(record, bytes, &replies, &requests);
    memcpy(replies, record->replies, record->replies_len);
    memcpy(requests, record->requests, record->requests_len);
    CHECK(requests + record->requests_len == bytes + len);
    nbd_record_seal(bytes, len);
    *ret_len = len;
    return bytes;
}

TEST("what was written is read")
{
    struct nbd_record from = full_record(), to;
    size_t len;
    uint8_t *bytes = write_record(&from, &len);

    NEED(nbd_record_read(bytes, len, &to) == 0);
    CHECK(strcmp(to.name, "disk") == 0);
    CHECK(strcmp(to.incarnation, "0123-7") == 0);
    CHECK(to.structured && to.extended && to.block_status);
    CHECK(to.is_leaving && !to.has_ended && to.is_discarding);
    CHECK(to.discarded.flags == 3 && to.discarded.type == 1);
    CHECK(to.discarded.cookie == 0x1122334455667788);
    CHECK(to.discarded.offset == 1 << 20 && to.discarded.length == 1 << 16);
    CHECK(to.discard_left == 5000 && to.discard_at == 4);
    CHECK(to.discard_error == NBD_EPERM);
    CHECK(to.replies_len == 7 && memcmp(to.replies, "replies", 7) == 0);
    CHECK(to.requests_len == 8 && memcmp(to.requests, "requests", 8) == 0);
    free(bytes);
}

TEST("each flag is itself alone")
{
    for (int i = 0; i < 6; i++) {
        struct nbd_record from = {.name = "", .incarnation = ""}, to;
        uint8_t *bytes;
        size_t len;

        from.structured = i <= 2;
        from.extended = i == 1;
        from.block_status = i == 2;
        from.has_ended = i == 3;
        from.is_leaving = i == 4;
        from.is_durable = i == 5;
        from.replies = from.requests = (const uint8_t *)"";
        bytes = write_record(&from, &len);
        NEED(nbd_record_read(bytes, len, &to) == 0);
        CHECK(to.structured == from.structured && to.extended == (i == 1));
        CHECK(to.block_status == (i == 2) && to.has_ended == (i == 3));
        CHECK(to.is_leaving == (i == 4) && !to.is_discarding);
        CHECK(to.is_durable == (i == 5));
        CHECK(to.name[0] == '\0' && to.replies_len == 0);
        free(bytes);
    }
}

TEST("a record of which a byte is another, or missing, or too much, is none")
{
    struct nbd_record from = full_record(), to;
    size_t len;
    uint8_t *bytes = write_record(&from, &len);
    uint8_t *longer = calloc(1, len + 1);

    for (size_t i = 0; i < len; i++) {
        uint8_t *shorter = malloc(i + 1);

        bytes[i] ^= 0x10;
        CHECK(nbd_record_read(bytes, len, &to) == -EPROTO);
        bytes[i] ^= 0x10;
        /* In memory of its own, so that a look past the end is seen. */
        memcpy(shorter, bytes, i);
        CHECK(nbd_record_read(shorter, i, &to) == -EPROTO);
        free(shorter);
    }
    memcpy(longer, bytes, len);
    CHECK(nbd_record_read(longer, len + 1, &to) == -EPROTO);
    CHECK(nbd_record_read(bytes, len, &to) == 0);
    free(longer);
    free(bytes);
}

/* Change a field, and have the checksum say that this is right. */
static int read_changed(size_t at, uint64_t value, size_t size)
{
    struct nbd_record from = full_record(), to;
    size_t len;
    uint8_t *bytes = write_record(&from, &len);
    uint8_t field[8];
    int result;

    put_le64(field, value);
    memcpy(bytes + at, field, size);
    nbd_record_seal(bytes, len);
    result = nbd_record_read(bytes, len, &to);
    free(bytes);
    return result;
}

TEST("with a checksum that is right, lengths, flags and texts are still not "
     "believed")
{
    static const struct {
        size_t at, size;
        uint64_t value;
    } changes[] = {
        {8, 4, 2},       /* version */
        {16, 8, 1},      /* length of all */
        {24, 4, 1 << 7}, /* a flag that there is not */
        {24, 4, 1 << 1}, /* extended, and not structured */
        {24, 4, 1 << 2}, /* block status, and not structured */
        {24, 4, 0x28},   /* ended, and more to discard than is there */
        {28, 4, 5},      /* name */
        {28, 4, UINT32_MAX},
        {32, 4, UINT32_MAX}, /* incarnation */
        {40, 8, UINT64_MAX}, /* replies */
        {40, 8, UINT64_MAX - 7},
        {48, 8, UINT64_MAX}, /* requests */
        {56, 8, 0},          /* left to discard */
        {56, 8, UINT64_MAX},
        {92, 4, 1},     /* zero */
        {96, 8, 9},     /* where the discarded begins */
        {104, 1, 0},    /* the name has an end mark in it */
        {105, 1, 0xff}, /* or is no text */
        {108, 1, 'x'},  /* or has no end mark */
    };

    CHECK(read_changed(8, 1, 4) == 0);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
        CHECK(read_changed(changes[i].at, changes[i].value, changes[i].size) ==
              -EPROTO);
}

TEST(
    "a payload that is dropped may be all there, with nothing behind it to come")
{
    struct nbd_record from = full_record(), to;
    uint8_t *bytes;
    size_t len;

    from.has_ended = true;
    from.discard_left = from.requests_len - from.discard_at;
    bytes = write_record(&from, &len);
    CHECK(nbd_record_read(bytes, len, &to) == 0);
    CHECK(to.has_ended && to.is_discarding);
    free(bytes);
    from.discard_left++;
    bytes = write_record(&from, &len);
    CHECK(nbd_record_read(bytes, len, &to) == -EPROTO);
    free(bytes);
}

TEST("lengths that are all there, but more than there may be, are refused")
{
    static const size_t at[] = {40, 48};

    for (int i = 0; i < 2; i++) {
        struct nbd_record record = {.name = "n", .incarnation = "i"}, read;
        size_t more = i == 0 ? NBD_RECORD_REPLIES_MAX : NBD_RECORD_REQUESTS_MAX;
        size_t len = nbd_record_size(&record) + more + 1;
        uint8_t *bytes = calloc(1, len), *replies, *requests;

        NEED(bytes);
        nbd_record_begin(&record, bytes, &replies, &requests);
        put_le64(bytes + 16, len - 1);
        put_le64(bytes + at[i], more);
        nbd_record_seal(bytes, len - 1);
        CHECK(nbd_record_read(bytes, len - 1, &read) == 0);
        put_le64(bytes + 16, len);
        put_le64(bytes + at[i], more + 1);
        nbd_record_seal(bytes, len);
        CHECK(nbd_record_read(bytes, len, &read) == -EPROTO);
        free(bytes);
    }
}
