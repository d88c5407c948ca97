/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/block_codec.h"

#include <assert.h>
#include <errno.h>
#include <snappy-c.h>
#include <stdbool.h>
#include <string.h>

#include "base/crc32c.h"
#include "cache/geometry.h"

static bool is_pages(size_t size)
{
    return size >= CACHE_PAGE && size <= CACHE_BLOCK && size % CACHE_PAGE == 0;
}

void block_encode(const void *plain, size_t size, void *stored,
                  struct block_stored *ret_stored)
{
    size_t stored_size = BLOCK_STORED_MAX;

    assert(is_pages(size));
    if (snappy_compress(plain, size, stored, &stored_size) == SNAPPY_OK &&
        stored_size <= size - size / 8) {
        ret_stored->codec = BLOCK_SNAPPY;
    } else {
        ret_stored->codec = BLOCK_RAW;
        stored_size = size;
        memcpy(stored, plain, size);
    }
    ret_stored->size = (uint16_t)stored_size;
    ret_stored->checksum = crc32c(0, stored, stored_size);
}

int block_decode(const struct block_stored *how, const void *stored,
                 void *plain, size_t plain_size)
{
    size_t decoded_size = plain_size;

    assert(is_pages(plain_size));
    if (how->size == 0 || how->size > CACHE_BLOCK ||
        crc32c(0, stored, how->size) != how->checksum)
        return -EBADMSG;
    switch (how->codec) {
    case BLOCK_RAW:
        if (how->size != plain_size)
            return -EBADMSG;
        if (plain != stored)
            memcpy(plain, stored, plain_size);
        return 0;
    case BLOCK_SNAPPY:
        /* snappy itself keeps within decoded_size, whatever the bytes say. */
        if (snappy_uncompress(stored, how->size, plain, &decoded_size) !=
                SNAPPY_OK ||
            decoded_size != plain_size)
            return -EBADMSG;
        return 0;
    default:
        return -EBADMSG;
    }
}
