/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block_codec - plain bytes of a block, or of some of its pages, to stored
 * bytes and back: snappy, or raw where snappy saves less than an eighth.
 *
 * Pure.  The checksum is CRC-32C of the stored bytes.
 */
#ifndef CACHE_BLOCK_CODEC_H
#define CACHE_BLOCK_CODEC_H

#include <stddef.h>
#include <stdint.h>

enum block_codec {
    BLOCK_RAW = 0,
    BLOCK_SNAPPY = 1,
    /* 2 is kept for zstd */
};

/* Stored bytes never need more room than this while being made. */
enum { BLOCK_STORED_MAX = 32 + 16384 + 16384 / 6 };

struct block_stored {
    enum block_codec codec;
    uint16_t size; /* bytes, 1 .. CACHE_BLOCK */
    uint32_t checksum;
};

/*
 * Encode size plain bytes (1 to 4 pages) into stored, which has room for
 * BLOCK_STORED_MAX.
 */
void block_encode(const void *plain, size_t size, void *stored,
                  struct block_stored *ret_stored);

/*
 * Check the checksum and decode into exactly plain_size bytes.  -EBADMSG if
 * checksum, codec or length are wrong; plain is undefined then.  For BLOCK_RAW
 * stored and plain may be the same memory.
 */
int block_decode(const struct block_stored *how, const void *stored,
                 void *plain, size_t plain_size);

#endif
