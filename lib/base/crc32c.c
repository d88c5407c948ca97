/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/crc32c.h"

#include <isa-l/crc.h>
#include <limits.h>

uint32_t crc32c(uint32_t seed, const void *data, size_t len)
{
    /* The library's signature lacks a const; it only reads. */
    unsigned char *bytes = (unsigned char *)(uintptr_t)data;
    uint32_t crc = ~seed;

    while (len > 0) {
        size_t part = len < INT_MAX ? len : INT_MAX;

        crc = crc32_iscsi(bytes, (int)part, crc);
        bytes += part;
        len -= part;
    }
    return ~crc;
}
