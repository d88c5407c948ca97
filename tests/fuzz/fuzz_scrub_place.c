/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_scrub_place - any bytes as the file `scrub`, as they are and with a
 * checksum that is right.
 *
 * What is accepted encodes to the very same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/scrub_place.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_place(const uint8_t data[SCRUB_PLACE_SIZE])
{
    uint8_t again[SCRUB_PLACE_SIZE];
    struct scrub_place place;

    if (scrub_place_decode(data, &place) != 0)
        return;
    scrub_place_encode(&place, again);
    if (memcmp(data, again, SCRUB_PLACE_SIZE) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[SCRUB_PLACE_SIZE] = {0};

    memcpy(bytes, data, size < sizeof(bytes) ? size : sizeof(bytes));
    try_place(bytes);
    put_le32(bytes + SCRUB_PLACE_SIZE - 4,
             crc32c(0, bytes, SCRUB_PLACE_SIZE - 4));
    try_place(bytes);
    return 0;
}
