/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_claim - any bytes as a claim record, as they are and with a checksum
 * that is right.
 *
 * What is accepted is a record that encodes to the very same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/claim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_record(const uint8_t data[CLAIM_RECORD_SIZE])
{
    uint8_t again[CLAIM_RECORD_SIZE];
    struct claim_record record;

    if (claim_decode(data, &record) != 0)
        return;
    claim_encode(&record, again);
    if (memcmp(data, again, sizeof(again)) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t record[CLAIM_RECORD_SIZE] = {0};

    memcpy(record, data, size < sizeof(record) ? size : sizeof(record));
    try_record(record);
    put_le32(record + CLAIM_RECORD_SIZE - 4,
             crc32c(0, record, CLAIM_RECORD_SIZE - 4));
    try_record(record);
    return 0;
}
