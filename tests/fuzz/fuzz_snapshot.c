/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_snapshot - any bytes as a pin, as they are and with checksums that are
 * right.
 *
 * What is accepted is a pin that encodes to the very same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_pin(const uint8_t data[PIN_SIZE])
{
    uint8_t again[PIN_SIZE];
    struct pin pin;

    if (pin_decode(data, &pin) != 0)
        return;
    pin_encode(&pin, again);
    if (memcmp(data, again, sizeof(again)) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { AT_CHECKSUM = 124, AT_RECORD = 128, AT_LAST = PIN_SIZE - 4 };
    uint8_t pin[PIN_SIZE] = {0};

    memcpy(pin, data, size < sizeof(pin) ? size : sizeof(pin));
    try_pin(pin);
    put_le32(pin + AT_CHECKSUM, crc32c(0, pin, AT_CHECKSUM));
    put_le32(pin + AT_LAST, crc32c(0, pin + AT_RECORD, AT_LAST - AT_RECORD));
    try_pin(pin);
    return 0;
}
