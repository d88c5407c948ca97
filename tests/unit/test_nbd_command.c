/* SPDX-License-Identifier: BSD-2-Clause */
/* What goes over a socket is in test_nbd_transmission.c; here, the table. */
#include "nbd/nbd_command.h"

#include "base/bytes.h"
#include "unit/test.h"

enum { SIZE = 1 << 20 };

static const struct nbd_session simple = {0};
static const struct nbd_session structured = {.structured = true,
                                              .block_status = true};
static const struct nbd_session extended = {
    .structured = true, .extended = true, .block_status = true};

static struct nbd_command check(const struct nbd_session *session,
                                uint16_t flags, uint16_t type, uint64_t offset,
                                uint64_t length)
{
    const struct nbd_request request = {flags, type, 1, offset, length};

    return nbd_command_check(session, SIZE, false, &request, NULL);
}

TEST("each command becomes its operation of the device, with its range")
{
    static const struct {
        uint16_t type;
        enum device_operation operation;
        bool writes;
    } commands[] = {
        {NBD_CMD_READ, DEVICE_READ, false},
        {NBD_CMD_WRITE, DEVICE_WRITE, true},
        {NBD_CMD_TRIM, DEVICE_TRIM, true},
        {NBD_CMD_CACHE, DEVICE_PREFETCH, false},
        {NBD_CMD_WRITE_ZEROES, DEVICE_ZERO, true},
        {NBD_CMD_BLOCK_STATUS, DEVICE_EXTENTS, false},
    };
    struct nbd_command command;

    for (size_t i = 0; i < 6; i++) {
        command = check(&structured, 0, commands[i].type, SIZE - 512, 512);
        CHECK(command.verdict == NBD_VERDICT_RUN);
        CHECK(command.operation == commands[i].operation);
        CHECK(command.writes == commands[i].writes);
        CHECK(command.offset == SIZE - 512 && command.length == 512);
        CHECK(command.flags == 0);
    }
    command = check(&structured, 0, NBD_CMD_FLUSH, UINT64_MAX, UINT64_MAX);
    CHECK(command.verdict == NBD_VERDICT_RUN);
    CHECK(command.operation == DEVICE_FLUSH);
    CHECK(command.offset == 0 && command.length == 0);
    /* DISC is good-bye whatever its flags. */
    command = check(&simple, 0xffff, NBD_CMD_DISC, 1, 2);
    CHECK(command.verdict == NBD_VERDICT_DISCONNECT);
}

TEST("flags reach the device where they say something to it")
{
    CHECK(check(&structured, NBD_CMD_FLAG_FUA, NBD_CMD_WRITE, 0, 1).flags ==
          DEVICE_FUA);
    CHECK(check(&structured, NBD_CMD_FLAG_FUA, NBD_CMD_READ, 0, 1).flags == 0);
    CHECK(check(&structured, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE,
                NBD_CMD_WRITE_ZEROES, 0, 1)
              .flags == (DEVICE_FUA | DEVICE_NO_HOLE));
    CHECK(check(&structured, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 0, 1)
              .flags == DEVICE_ONE_EXTENT);
    CHECK(check(&structured, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 0, 1)
              .flags == 0);
}

TEST("a payload follows a compact WRITE, and whatever announces one in "
     "extended headers")
{
    struct nbd_request request = {0, NBD_CMD_WRITE, 1, 0, 77};

    CHECK(nbd_command_payload_len(&simple, &request) == 77);
    CHECK(nbd_command_payload_len(&extended, &request) == 0);
    request.flags = NBD_CMD_FLAG_PAYLOAD_LEN;
    CHECK(nbd_command_payload_len(&extended, &request) == 77);
    request.type = 4711;
    CHECK(nbd_command_payload_len(&extended, &request) == 77);
    CHECK(nbd_command_payload_len(&simple, &request) == 0);
}

TEST("block status with contexts asks about the length in its payload, which "
     "is checked like any other")
{
    struct nbd_request request = {NBD_CMD_FLAG_PAYLOAD_LEN,
                                  NBD_CMD_BLOCK_STATUS, 1, 4096, 12};
    uint8_t payload[12];
    struct nbd_command command;

    put_be64(payload, SIZE - 4096);
    put_be32(payload + 8, NBD_CONTEXT_ALLOCATION);
    command = nbd_command_check(&extended, SIZE, false, &request, payload);
    CHECK(command.verdict == NBD_VERDICT_RUN);
    CHECK(command.length == SIZE - 4096 && command.offset == 4096);
    put_be64(payload, SIZE - 4095);
    command = nbd_command_check(&extended, SIZE, false, &request, payload);
    CHECK(command.verdict == NBD_VERDICT_ANSWER);
    CHECK(command.error == NBD_EINVAL);
    put_be64(payload, 0);
    command = nbd_command_check(&extended, SIZE, false, &request, payload);
    CHECK(command.error == NBD_EINVAL);
    command = nbd_command_check(&extended, SIZE, false, &request, NULL);
    CHECK(command.error == NBD_EINVAL);
}

TEST("no range that ends past the device is run, for any pair of extremes")
{
    static const uint64_t values[] = {0,
                                      1,
                                      511,
                                      512,
                                      SIZE - 1,
                                      SIZE,
                                      SIZE + 1,
                                      UINT32_MAX,
                                      1ULL << 32,
                                      INT64_MAX,
                                      1ULL << 63,
                                      UINT64_MAX - 511,
                                      UINT64_MAX - 1,
                                      UINT64_MAX};
    const size_t count = sizeof(values) / sizeof(values[0]);

    for (uint16_t type = 0; type < 8; type++) {
        for (size_t i = 0; i < count * count; i++) {
            uint64_t offset = values[i / count], length = values[i % count];
            struct nbd_command command =
                check(&structured, 0, type, offset, length);
            bool fits = offset <= SIZE && length <= SIZE - offset;

            if (command.verdict == NBD_VERDICT_RUN && type != NBD_CMD_FLUSH)
                CHECK(fits && length > 0);
            else if (command.verdict == NBD_VERDICT_ANSWER && !fits)
                CHECK(command.error == NBD_EINVAL ||
                      command.error == NBD_ENOSPC);
        }
    }
}
