/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_block_codec - any bytes as what was stored of a block, under a right
 * checksum; and the same bytes as a block to be stored, which must come back.
 *
 * The first byte is the codec, the second the number of pages.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/crc32c.h"
#include "cache/block_codec.h"
#include "cache/geometry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* Memory of exactly that size, so that the sanitizer sees its borders. */
static void *room_of(size_t size)
{
    void *room = calloc(1, size);

    require(room);
    return room;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE unsigned char *plain = NULL, *stored = NULL, *back = NULL;
    struct block_stored how;
    size_t plain_size;

    if (size < 2)
        return 0;
    how.codec = (enum block_codec)data[0];
    plain_size = (1 + data[1] % PAGES_PER_BLOCK) * (size_t)CACHE_PAGE;
    data += 2;
    size -= 2;
    how.size = (uint16_t)(size <= CACHE_BLOCK ? size : 0);
    how.checksum = crc32c(0, data, how.size);
    plain = room_of(plain_size);
    (void)block_decode(&how, data, plain, plain_size);

    memset(plain, 0, plain_size);
    memcpy(plain, data, size < plain_size ? size : plain_size);
    stored = room_of(BLOCK_STORED_MAX);
    back = room_of(plain_size);
    block_encode(plain, plain_size, stored, &how);
    require(how.size >= 1 && how.size <= plain_size);
    require(block_decode(&how, stored, back, plain_size) == 0);
    require(memcmp(plain, back, plain_size) == 0);
    return 0;
}
