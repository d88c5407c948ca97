/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_epoch - any bytes as the record of an epoch, as they are and with a
 * checksum that is right.
 *
 * What is accepted is a record that encodes to the very same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/epoch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_record(const uint8_t data[EPOCH_RECORD_SIZE])
{
    uint8_t again[EPOCH_RECORD_SIZE];
    struct epoch_record record;

    if (epoch_decode(data, &record) != 0)
        return;
    epoch_encode(&record, again);
    if (memcmp(data, again, sizeof(again)) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t record[EPOCH_RECORD_SIZE] = {0};

    memcpy(record, data, size < sizeof(record) ? size : sizeof(record));
    try_record(record);
    put_le32(record + EPOCH_RECORD_SIZE - 4,
             crc32c(0, record, EPOCH_RECORD_SIZE - 4));
    try_record(record);
    return 0;
}
