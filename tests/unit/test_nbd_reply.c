/* SPDX-License-Identifier: BSD-2-Clause */
/* What goes over a socket is in test_nbd_transmission.c. */
#include "nbd/nbd_reply.h"

#include "base/bytes.h"
#include "unit/test.h"

static const struct nbd_session sessions[3] = {
    {0}, {.structured = true}, {.structured = true, .extended = true}};
static const struct nbd_request request = {0, NBD_CMD_READ, 0x77, 4096, 512};

TEST("an error has its number, and words where there is room for them, which "
     "are cut")
{
    static const size_t text_at[3] = {0, 26, 38};
    char text[200];
    struct nbd_reply reply;

    memset(text, 'w', sizeof(text));
    text[199] = '\0';
    nbd_reply_error(&reply, &sessions[0], &request, NBD_EIO, text);
    CHECK(reply.head_len == 16 && reply.data_len == 0);
    CHECK(get_be32(reply.head + 4) == NBD_EIO);
    for (size_t i = 1; i < 3; i++) {
        nbd_reply_error(&reply, &sessions[i], &request, NBD_EIO, text);
        CHECK(reply.head_len == text_at[i] + NBD_REPLY_TEXT_MAX);
        CHECK(reply.head_len <= sizeof(reply.head));
        CHECK(reply.data_len == 0);
        CHECK(get_be16(reply.head + 6) == NBD_REPLY_ERROR);
        CHECK(get_be32(reply.head + text_at[i] - 6) == NBD_EIO);
        CHECK(get_be16(reply.head + text_at[i] - 2) == NBD_REPLY_TEXT_MAX);
        nbd_reply_error(&reply, &sessions[i], &request, NBD_EINVAL, "");
        CHECK(reply.head_len == text_at[i]);
    }
}

TEST("success without data is simple where it may be, and a chunk for a "
     "structured READ and in extended headers")
{
    static const struct nbd_request flush = {0, NBD_CMD_FLUSH, 1, 0, 0};
    struct nbd_reply reply;

    nbd_reply_ok(&reply, &sessions[0], &request);
    CHECK(reply.head_len == 16);
    nbd_reply_ok(&reply, &sessions[1], &request);
    CHECK(reply.head_len == 20 && get_be16(reply.head + 6) == NBD_REPLY_NONE);
    nbd_reply_ok(&reply, &sessions[1], &flush);
    CHECK(reply.head_len == 16);
    nbd_reply_ok(&reply, &sessions[2], &flush);
    CHECK(reply.head_len == 32 && reply.data_len == 0);
}

TEST("data that are zeros but for their last byte are sent as data")
{
    struct nbd_reply reply;
    uint8_t data[512] = {0};

    nbd_reply_data(&reply, &sessions[1], &request, data, sizeof(data));
    CHECK(get_be16(reply.head + 6) == NBD_REPLY_OFFSET_HOLE);
    CHECK(reply.head_len == 20 + 12 && reply.data_len == 0);
    data[511] = 1;
    nbd_reply_data(&reply, &sessions[1], &request, data, sizeof(data));
    CHECK(get_be16(reply.head + 6) == NBD_REPLY_OFFSET_DATA);
    CHECK(reply.data == data && reply.data_len == 512);
    nbd_reply_data(&reply, &sessions[0], &request, data, sizeof(data));
    CHECK(reply.head_len == 16 && reply.data_len == 512);
}

TEST("256 extents are turned into descriptors where they are, narrow and wide")
{
    struct device_extent extents[256];
    struct nbd_reply reply;

    for (size_t wide = 0; wide < 2; wide++) {
        size_t size = wide ? 16 : 8;

        for (size_t i = 0; i < 256; i++)
            extents[i] =
                (struct device_extent){4096 * (i + 1), (uint32_t)i % 4};
        nbd_reply_extents(&reply, &sessions[1 + wide], &request, extents, 256);
        CHECK(reply.data_len == 256 * size);
        for (size_t i = 0; i < 256; i++) {
            const uint8_t *at = (const uint8_t *)reply.data + i * size;

            CHECK((wide ? get_be64(at) : get_be32(at)) == 4096 * (i + 1));
            CHECK((wide ? get_be64(at + 8) : get_be32(at + 4)) == i % 4);
        }
        CHECK(get_be32(reply.head + (wide ? 32 : 20)) == 1);
        CHECK(!wide || get_be32(reply.head + 36) == 256);
    }
}

TEST("errors of the wire are those of the specification and no others")
{
    for (int error = 0; error < 200; error++) {
        uint32_t wire = nbd_error_of(-error);

        CHECK(wire == NBD_OK || wire == NBD_EPERM || wire == NBD_EIO ||
              wire == NBD_ENOMEM || wire == NBD_EINVAL || wire == NBD_ENOSPC ||
              wire == NBD_ESHUTDOWN);
        CHECK((wire == NBD_OK) == (error == 0));
    }
}
