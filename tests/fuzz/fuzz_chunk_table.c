/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_chunk_table - any bytes as a table; then the same under a magic, size
 * and checksum that are right, so that everything behind them is looked at.
 *
 * What is accepted is what encode makes of it again, and encode ends the
 * process when a number is out of its range.  The input is followed by zeros
 * up to a whole page, as a table is: so a small one suffices.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/chunk_table.h"
#include "cache/geometry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void decode(const unsigned char *bytes, size_t size)
{
    struct chunk_table *table = NULL;
    AUTO_FREE unsigned char *again = NULL;
    size_t again_size;

    if (chunk_table_decode(bytes, size, &table) != 0) {
        require(!table);
        return;
    }
    again = malloc(chunk_table_encoded_max(table->chunk_size));
    require(again);
    again_size = chunk_table_encode(table, again);
    require(again_size <= size && memcmp(bytes, again, again_size) == 0);
    require(chunk_table_live_bytes(table) <= UINT32_MAX);
    require(!chunk_table_is_hole(table) || chunk_table_is_zero(table));
    chunk_table_release(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t room = size == 0 ? CACHE_PAGE : round_up(size, CACHE_PAGE);
    AUTO_FREE unsigned char *bytes = calloc(1, room);
    AUTO_FREE unsigned char *exact = malloc(size + 1);
    uint32_t checksum;

    require(bytes && exact);
    memcpy(exact, data, size);
    decode(exact, size);

    memcpy(bytes, data, size);
    memcpy(bytes, "s3btable", 8);
    put_le32(bytes + 8, 1);
    put_le32(bytes + 12, 0);
    put_le32(bytes + 16, (uint32_t)room);
    checksum = crc32c(crc32c(0, bytes, 20), bytes + 24, room - 24);
    put_le32(bytes + 20, checksum);
    decode(bytes, room);
    return 0;
}
