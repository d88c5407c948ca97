/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/crc32c.h"

#include "unit/test.h"

TEST("the check value of CRC-32C is right")
{
    CHECK(crc32c(0, "123456789", 9) == 0xe3069283);
    CHECK(crc32c(0, "", 0) == 0);
}

TEST("the values of RFC 3720, appendix B.4, are right")
{
    unsigned char data[32];

    memset(data, 0, sizeof(data));
    CHECK(crc32c(0, data, sizeof(data)) == 0x8a9136aa);
    memset(data, 0xff, sizeof(data));
    CHECK(crc32c(0, data, sizeof(data)) == 0x62a8ab43);
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)i;
    CHECK(crc32c(0, data, sizeof(data)) == 0x46dd794e);
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(31 - i);
    CHECK(crc32c(0, data, sizeof(data)) == 0x113fdb5c);
}

TEST("parts one after the other give the checksum of the whole")
{
    unsigned char data[1000];
    uint32_t whole;

    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 7 + i / 13);
    whole = crc32c(0, data, sizeof(data));
    for (size_t cut = 0; cut <= sizeof(data); cut++) {
        uint32_t first = crc32c(0, data, cut);

        CHECK(crc32c(first, data + cut, sizeof(data) - cut) == whole);
    }
}

TEST("every flipped bit changes the checksum, under any seed")
{
    unsigned char data[64] = "some bytes";
    uint32_t seeded = crc32c(0x12345678, data, sizeof(data));

    CHECK(seeded != crc32c(0, data, sizeof(data)));
    for (unsigned bit = 0; bit < sizeof(data) * 8; bit++) {
        data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        CHECK(crc32c(0x12345678, data, sizeof(data)) != seeded);
        data[bit / 8] ^= (unsigned char)(1U << bit % 8);
    }
}
