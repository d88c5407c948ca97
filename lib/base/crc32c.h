/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crc32c - CRC-32C (Castagnoli), the checksum of everything in the cache
 * directory and in objects.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * Returns the CRC-32C of len bytes, continuing from seed: 0 starts a plain
 * CRC-32C ("123456789" gives 0xe3069283); the CRC of a first part continues
 * it with a second; any other seed gives a checksum that only who knows the
 * seed can verify or forge.
 */
uint32_t crc32c(uint32_t seed, const void *data, size_t len);

#endif
