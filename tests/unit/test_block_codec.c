/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/block_codec.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/geometry.h"
#include "unit/test.h"

static unsigned char plain[CACHE_BLOCK];
static unsigned char stored[BLOCK_STORED_MAX];
static unsigned char back[CACHE_BLOCK];
static struct block_stored how;

/* Bytes that snappy cannot shorten, the same for the same seed. */
static void fill_noise(unsigned char *to, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        to[i] = (unsigned char)(seed >> 56);
    }
}

static void fill_text(unsigned char *to, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (unsigned char)"the same words again "[i % 21];
}

static bool round_trip(size_t size)
{
    block_encode(plain, size, stored, &how);
    memset(back, 0xa5, sizeof(back));
    return block_decode(&how, stored, back, size) == 0 &&
           memcmp(back, plain, size) == 0;
}

TEST("text of one to four pages is stored by snappy and comes back")
{
    fill_text(plain, sizeof(plain));
    for (size_t size = CACHE_PAGE; size <= CACHE_BLOCK; size += CACHE_PAGE) {
        CHECK(round_trip(size));
        CHECK(how.codec == BLOCK_SNAPPY);
        CHECK(how.size < size / 4);
        CHECK(how.checksum == crc32c(0, stored, how.size));
    }
}

TEST("noise of one to four pages is stored raw and comes back")
{
    fill_noise(plain, sizeof(plain), 1);
    for (size_t size = CACHE_PAGE; size <= CACHE_BLOCK; size += CACHE_PAGE) {
        CHECK(round_trip(size));
        CHECK(how.codec == BLOCK_RAW);
        CHECK(how.size == size);
    }
}

TEST("a block that snappy shortens by less than an eighth is stored raw")
{
    fill_noise(plain, sizeof(plain), 2);
    memset(plain, 7, CACHE_BLOCK / 8 - 512);
    CHECK(round_trip(CACHE_BLOCK));
    CHECK(how.codec == BLOCK_RAW);
    memset(plain, 7, CACHE_BLOCK / 8 + 1024);
    CHECK(round_trip(CACHE_BLOCK));
    CHECK(how.codec == BLOCK_SNAPPY);
    CHECK(how.size <= CACHE_BLOCK - CACHE_BLOCK / 8);
}

TEST("a raw block is decoded in place")
{
    fill_noise(plain, sizeof(plain), 3);
    block_encode(plain, CACHE_BLOCK, stored, &how);
    CHECK(block_decode(&how, stored, stored, CACHE_BLOCK) == 0);
    CHECK(memcmp(stored, plain, CACHE_BLOCK) == 0);
}

TEST("any flipped byte of a stored block is found")
{
    fill_text(plain, sizeof(plain));
    fill_noise(plain, CACHE_BLOCK / 2, 4);
    block_encode(plain, CACHE_BLOCK, stored, &how);
    NEED(how.codec == BLOCK_SNAPPY);
    for (size_t i = 0; i < how.size; i++) {
        stored[i] ^= (unsigned char)(1 + i % 255);
        if (!CHECK(block_decode(&how, stored, back, CACHE_BLOCK) == -EBADMSG))
            break;
        stored[i] ^= (unsigned char)(1 + i % 255);
    }
    CHECK(block_decode(&how, stored, back, CACHE_BLOCK) == 0);
}

TEST("a wrong size, codec or number of pages is found")
{
    struct block_stored wrong;

    fill_text(plain, sizeof(plain));
    block_encode(plain, CACHE_BLOCK, stored, &how);
    CHECK(block_decode(&how, stored, back, CACHE_BLOCK - CACHE_PAGE) ==
          -EBADMSG);
    wrong = how;
    wrong.codec = BLOCK_RAW;
    CHECK(block_decode(&wrong, stored, back, CACHE_BLOCK) == -EBADMSG);
    wrong.codec = (enum block_codec)2;
    CHECK(block_decode(&wrong, stored, back, CACHE_BLOCK) == -EBADMSG);
    wrong = how;
    wrong.size = 0;
    wrong.checksum = 0;
    CHECK(block_decode(&wrong, stored, back, CACHE_BLOCK) == -EBADMSG);
    wrong = how;
    wrong.size = (uint16_t)(how.size - 1);
    CHECK(block_decode(&wrong, stored, back, CACHE_BLOCK) == -EBADMSG);
    wrong.size = CACHE_BLOCK + 1;
    CHECK(block_decode(&wrong, stored, back, CACHE_BLOCK) == -EBADMSG);
}

TEST("snappy bytes that promise more or less than they hold are refused")
{
    /* A length of five bytes, then a literal of one byte; then the same with
     * a length of 4 GiB - 1, of nothing, of an endless number. */
    static const unsigned char lies[][8] = {
        {0x80, 0x80, 0x01, 0x00, 'x'},
        {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 'x'},
        {0x00},
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    };

    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        how = (struct block_stored){BLOCK_SNAPPY, sizeof(lies[i]),
                                    crc32c(0, lies[i], sizeof(lies[i]))};
        CHECK(block_decode(&how, lies[i], back, CACHE_BLOCK) == -EBADMSG);
    }
}

TEST("a valid snappy stream of another length does not leave its room")
{
    unsigned char guarded[CACHE_PAGE + 64];

    fill_text(plain, sizeof(plain));
    block_encode(plain, CACHE_BLOCK, stored, &how);
    memset(guarded, 0xa5, sizeof(guarded));
    CHECK(block_decode(&how, stored, guarded, CACHE_PAGE) == -EBADMSG);
    for (size_t i = CACHE_PAGE; i < sizeof(guarded); i++)
        CHECK(guarded[i] == 0xa5);
}
