/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/bytes.h"

#include "unit/test.h"

TEST("little-endian integers have their lowest byte first")
{
    static const unsigned char want[] = {0xef, 0xcd, 0xab, 0x89,
                                         0x67, 0x45, 0x23, 0x01};
    unsigned char bytes[8];

    put_le64(bytes, UINT64_C(0x0123456789abcdef));
    CHECK(memcmp(bytes, want, 8) == 0);
    CHECK(get_le64(want) == UINT64_C(0x0123456789abcdef));
    CHECK(get_le32(want) == 0x89abcdef);
    CHECK(get_le16(want) == 0xcdef);
    put_le32(bytes, 0x89abcdef);
    CHECK(memcmp(bytes, want, 4) == 0);
    put_le16(bytes, 0xcdef);
    CHECK(memcmp(bytes, want, 2) == 0);
}

TEST("big-endian integers have their highest byte first")
{
    static const unsigned char want[] = {0x01, 0x23, 0x45, 0x67,
                                         0x89, 0xab, 0xcd, 0xef};
    unsigned char bytes[8];

    put_be64(bytes, UINT64_C(0x0123456789abcdef));
    CHECK(memcmp(bytes, want, 8) == 0);
    CHECK(get_be64(want) == UINT64_C(0x0123456789abcdef));
    CHECK(get_be32(want) == 0x01234567);
    CHECK(get_be16(want) == 0x0123);
    put_be32(bytes, 0x01234567);
    CHECK(memcmp(bytes, want, 4) == 0);
    put_be16(bytes, 0x0123);
    CHECK(memcmp(bytes, want, 2) == 0);
}

TEST("integers may lie at any address, and touch nothing beside them")
{
    unsigned char bytes[24];

    for (size_t at = 0; at < 16; at++) {
        memset(bytes, 0x5a, sizeof(bytes));
        put_be64(bytes + at, UINT64_MAX);
        CHECK(get_le64(bytes + at) == UINT64_MAX);
        CHECK(at == 0 || bytes[at - 1] == 0x5a);
        CHECK(bytes[at + 8] == 0x5a);
    }
}

TEST("zero bytes are told from others wherever the other is")
{
    unsigned char bytes[100] = {0};

    CHECK(bytes_are_zero(bytes, 0));
    CHECK(bytes_are_zero(bytes, 1));
    CHECK(bytes_are_zero(bytes, sizeof(bytes)));
    for (size_t at = 0; at < sizeof(bytes); at++) {
        bytes[at] = 1;
        CHECK(!bytes_are_zero(bytes, sizeof(bytes)));
        CHECK(bytes_are_zero(bytes, at));
        CHECK(bytes_are_zero(bytes + at + 1, sizeof(bytes) - at - 1));
        bytes[at] = 0;
    }
}
