/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/condemned.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "unit/test.h"

static const struct condemned ENTRIES[] = {
    {CONDEMNED_ROOT, 0, 1, 2, 3},
    {CONDEMNED_PAGE, 0, 1, 2, UINT32_MAX},
    {CONDEMNED_OBJECT, UINT64_MAX, 4, 5, UINT64_MAX},
    {CONDEMNED_EPOCH, 0, 6, 7, 1},
    {CONDEMNED_PIN, 0, UINT64_MAX, 8, 0},
};

enum { COUNT = sizeof(ENTRIES) / sizeof(ENTRIES[0]) };

static unsigned char bytes[CONDEMNED_PAGE_MAX];
static struct condemned found[CONDEMNED_COUNT_MAX];

static size_t encode(uint32_t count)
{
    struct condemned_page page = {
        .epoch = 9, .nonce = 10, .page = 11, .is_end = true, .count = count};

    return condemned_encode(&page, ENTRIES, bytes);
}

static void seal(size_t size)
{
    uint32_t checksum = crc32c(0, bytes, 20);

    put_le32(bytes + 20, crc32c(checksum, bytes + 24, size - 24));
}

TEST("a page is decoded to what was encoded")
{
    struct condemned_page page;
    size_t size = encode(COUNT);

    CHECK(condemned_decode(bytes, size, &page, found) == 0);
    CHECK(page.epoch == 9 && page.nonce == 10 && page.page == 11);
    CHECK(page.is_end && page.count == COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK(condemned_compare(&found[i], &ENTRIES[i]) == 0);
    size = encode(0);
    CHECK(condemned_decode(bytes, size, &page, found) == 0 && page.count == 0);
}

TEST("a page with any one bit changed is refused")
{
    struct condemned_page page;
    size_t size = encode(COUNT);

    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1U << bit % 8);
        CHECK(condemned_decode(bytes, size, &page, found) == -EBADMSG);
        bytes[bit / 8] ^= (unsigned char)(1U << bit % 8);
    }
    CHECK(condemned_decode(bytes, size - 1, &page, found) == -EBADMSG);
    CHECK(condemned_decode(bytes, 0, &page, found) == -EBADMSG);
}

/* What decode says to the page with a number changed. */
static int decode_with(size_t offset, uint32_t value)
{
    struct condemned_page page;
    size_t size = encode(COUNT);

    put_le32(bytes + offset, value);
    seal(size);
    return condemned_decode(bytes, size, &page, found);
}

TEST("every number in a page is checked, whatever the checksum says")
{
    enum { ENTRY = CONDEMNED_HEADER };

    CHECK(decode_with(40, 12) == 0);
    CHECK(decode_with(8, 2) == -EPROTONOSUPPORT);
    CHECK(decode_with(12, 1) == -EPROTONOSUPPORT);
    CHECK(decode_with(44, 2) == -EBADMSG);
    CHECK(decode_with(48, COUNT - 1) == -EBADMSG);
    CHECK(decode_with(48, UINT32_MAX) == -EBADMSG);
    CHECK(decode_with(60, 1) == -EBADMSG);
    CHECK(decode_with(ENTRY, 0) == -EBADMSG);
    CHECK(decode_with(ENTRY, 6) == -EBADMSG);
    CHECK(decode_with(ENTRY + 4, 1) == -EBADMSG);  /* chunk of a root */
    CHECK(decode_with(ENTRY + 32, 1) == -EBADMSG); /* 2^32 of a root */
    CHECK(decode_with(ENTRY + 3 * 36 + 28, 2) == -EBADMSG);
    CHECK(decode_with(ENTRY + 3 * 36 + 12, 0) == -EBADMSG);
    CHECK(decode_with(ENTRY + 4 * 36 + 28, 1) == -EBADMSG);
}

TEST("keys sort pages by their number, and the end behind them")
{
    char key[CONDEMNED_KEY_MAX], end[CONDEMNED_KEY_MAX];
    struct condemned_page page = {.epoch = 1, .nonce = 2, .page = 0x0fffffff};

    condemned_key("disk", &page, key);
    CHECK(strcmp(key, "disk/condemned/0000000000000001-0000000000000002/"
                      "0fffffff") == 0);
    page.is_end = true;
    condemned_key("disk", &page, end);
    CHECK(strcmp(end, "disk/condemned/0000000000000001-0000000000000002/"
                      "end") == 0);
    CHECK(strcmp(key, end) < 0);
}
