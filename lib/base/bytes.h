/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bytes - integers in files (little-endian) and on the wire (big-endian).
 *
 * Any alignment.  Nothing on a disk or a socket is read or written through a
 * struct: every integer goes through one of these.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BYTES_ACCESSORS(bits, order)                                           \
    static inline uint##bits##_t get_##order##bits(const void *from)           \
    {                                                                          \
        uint##bits##_t value;                                                  \
                                                                               \
        memcpy(&value, from, sizeof(value));                                   \
        return order##bits##toh(value);                                        \
    }                                                                          \
    static inline void put_##order##bits(void *to, uint##bits##_t value)       \
    {                                                                          \
        value = hto##order##bits(value);                                       \
        memcpy(to, &value, sizeof(value));                                     \
    }

BYTES_ACCESSORS(16, le)
BYTES_ACCESSORS(32, le)
BYTES_ACCESSORS(64, le)
BYTES_ACCESSORS(16, be)
BYTES_ACCESSORS(32, be)
BYTES_ACCESSORS(64, be)

/* Whether all len bytes are zero. */
static inline bool bytes_are_zero(const void *data, size_t len)
{
    const unsigned char *bytes = data;

    return len == 0 ||
           (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

#endif
