/* SPDX-License-Identifier: BSD-2-Clause */
/* The rules T1 to T20 of docs/NBD.md, on a socket, byte by byte. */
/* links: memory_device */
#include "nbd/nbd_transmission.h"

#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/stream.h"
#include "base/tls.h"
#include "nbd/nbd_memory.h"
#include "nbd/nbd_share.h"
#include "nbd/nbd_tally.h"
#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "support/tls_client.h"
#include "unit/test.h"

enum { MIB = 1 << 20, MODES = 3 };

static const enum nbd_client_mode modes[MODES] = {
    NBD_CLIENT_SIMPLE, NBD_CLIENT_STRUCTURED, NBD_CLIENT_EXTENDED};

static void start(struct nbd_fixture *fixture)
{
    nbd_fixture_init(fixture, test_dir());
    nbd_fixture_start(fixture);
}

/* Start, and enter transmission of "main". */
static void start_and_enter(struct nbd_fixture *fixture,
                            struct nbd_client *client,
                            enum nbd_client_mode mode)
{
    start(fixture);
    CHECK(nbd_client_enter(client, fixture, mode, "main"));
}

static void end(struct nbd_fixture *fixture, struct nbd_client *client)
{
    nbd_client_close(client);
    nbd_fixture_done(fixture);
}

/* Bytes that differ from place to place. */
static uint8_t *pattern(size_t len, unsigned seed)
{
    uint8_t *data = malloc(len + 4);

    if (!data)
        abort();
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)((i * 31 + i / 251 + seed) | 1);
    return data;
}

TEST("what was written is read back, in every mode, at odd places and lengths "
     "from 1 byte to 8 MiB")
{
    static const size_t lens[] = {1,     511,        4096,         4097,
                                  65536, 65537,      200000,       262144,
                                  MIB,   MIB + 4097, 8 * MIB - 77, 3};
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t *back = malloc(8 * MIB);

    NEED(back);
    for (size_t mode = 0; mode < MODES; mode++) {
        start_and_enter(&fixture, &client, modes[mode]);
        for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
            uint8_t *data = pattern(lens[i], (unsigned)i);
            uint64_t offset = 8 * MIB - lens[i] < 77 ? 0 : 77;

            CHECK(nbd_client_write(&client, 0, offset, data, lens[i]) == 0);
            memset(back, 0, lens[i]);
            CHECK(nbd_client_read(&client, 0, offset, back, lens[i]) == 0);
            CHECK(memcmp(back, data, lens[i]) == 0);
            CHECK(memcmp(memory_device_bytes(fixture.device) + offset, data,
                         lens[i]) == 0);
            free(data);
        }
        end(&fixture, &client);
    }
    free(back);
}

TEST("T1: what is no request ends the connection, after what was asked before "
     "is answered")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t bytes[56] = {0};

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    put_be32(bytes, 0x25609513);
    put_be16(bytes + 6, NBD_CMD_FLUSH);
    put_be64(bytes + 8, 5);
    put_be32(bytes + 28, 0x25609514);
    CHECK(nbd_client_send(&client, bytes, sizeof(bytes)));
    CHECK(nbd_client_simple(&client, 5) == 0);
    CHECK(nbd_client_is_hung_up(&client));
    /* An extended request where it was not agreed upon, and the reverse. */
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    client.extended = true;
    CHECK(nbd_client_request(&client, 0, NBD_CMD_FLUSH, 1, 0, 0));
    CHECK(nbd_client_is_hung_up(&client));
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_EXTENDED, "main"));
    client.extended = false;
    CHECK(nbd_client_request(&client, 0, NBD_CMD_FLUSH, 1, 0, 0));
    CHECK(nbd_client_send(&client, bytes, 4));
    CHECK(nbd_client_is_hung_up(&client));
    nbd_fixture_done(&fixture);
}

TEST("T2: cookies come back bit by bit, also when replies overtake each other")
{
    static const uint64_t cookies[] = {0, UINT64_MAX, UINT64_C(1) << 63,
                                       0x0123456789abcdef};
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t bytes[4096];

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    for (size_t i = 0; i < 4; i++) {
        CHECK(nbd_client_request(&client, 0, NBD_CMD_FLUSH, cookies[i], 0, 0));
        CHECK(nbd_client_simple(&client, cookies[i]) == 0);
    }
    /* A flush that waits does not hold up a read behind it. */
    memory_device_hold(fixture.device, 1U << DEVICE_FLUSH);
    CHECK(nbd_client_request(&client, 0, NBD_CMD_FLUSH, 1, 0, 0));
    CHECK(nbd_client_request(&client, 0, NBD_CMD_FLUSH, 2, 0, 0));
    CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, 3, 0, 4096));
    CHECK(nbd_client_simple(&client, 3) == 0);
    CHECK(nbd_client_receive(&client, bytes, 4096));
    memory_device_wait_held(fixture.device, 2);
    memory_device_release(fixture.device);
    CHECK(nbd_client_simple(&client, 2) == 0);
    CHECK(nbd_client_simple(&client, 1) == 0);
    end(&fixture, &client);
}

TEST("T3: a structured READ is answered in chunks also when it fails, with a "
     "text; without agreement every reply is simple")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct nbd_client_chunk chunk;
    uint8_t bytes[128];

    start_and_enter(&fixture, &client, NBD_CLIENT_STRUCTURED);
    CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, 7, 8 * MIB, 1));
    CHECK(nbd_client_chunk(&client, &chunk));
    CHECK(chunk.flags == NBD_REPLY_FLAG_DONE && chunk.cookie == 7);
    CHECK(chunk.type == NBD_REPLY_ERROR);
    CHECK(chunk.length > 6 && chunk.length < sizeof(bytes));
    CHECK(nbd_client_receive(&client, bytes, (size_t)chunk.length));
    CHECK(get_be32(bytes) == NBD_EINVAL);
    CHECK(get_be16(bytes + 4) == chunk.length - 6);
    nbd_client_close(&client);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, 8, 8 * MIB, 1));
    CHECK(nbd_client_simple(&client, 8) == NBD_EINVAL);
    CHECK(nbd_client_is_alive(&client));
    end(&fixture, &client);
}

TEST("T4: data come in one chunk that covers the request, zeros as a hole, "
     "and a device's error brings no data")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct nbd_client_chunk chunk;
    uint8_t bytes[8192];
    uint8_t *data = pattern(4096, 1);

    for (size_t mode = 1; mode < MODES; mode++) {
        start_and_enter(&fixture, &client, modes[mode]);
        CHECK(nbd_client_write(&client, 0, 4096, data, 4096) == 0);
        CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, 1, 0, 8192));
        CHECK(nbd_client_chunk(&client, &chunk));
        CHECK(chunk.type == NBD_REPLY_OFFSET_DATA && chunk.flags == 1);
        CHECK(chunk.length == 8 + 8192);
        CHECK(nbd_client_receive(&client, bytes, 8));
        CHECK(get_be64(bytes) == 0);
        CHECK(nbd_client_receive(&client, bytes, 8192));
        CHECK(bytes_are_zero(bytes, 4096));
        CHECK(memcmp(bytes + 4096, data, 4096) == 0);

        CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, 2, 8192, 12288));
        CHECK(nbd_client_chunk(&client, &chunk));
        CHECK(chunk.type == NBD_REPLY_OFFSET_HOLE && chunk.flags == 1);
        CHECK(chunk.length == 12);
        CHECK(nbd_client_receive(&client, bytes, 12));
        CHECK(get_be64(bytes) == 8192 && get_be32(bytes + 8) == 12288);

        memory_device_fail(fixture.device, DEVICE_READ, -EIO);
        CHECK(nbd_client_read(&client, 0, 0, bytes, 8192) == NBD_EIO);
        memory_device_fail(fixture.device, DEVICE_READ, 0);
        CHECK(nbd_client_is_alive(&client));
        end(&fixture, &client);
    }
    free(data);
}

TEST("T5: DF brings one chunk of data, zeros too, and is wrong without "
     "structured replies")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct nbd_client_chunk chunk;
    static uint8_t bytes[4 * MIB];
    static const size_t lens[] = {512, 65536, 4 * MIB};

    start_and_enter(&fixture, &client, NBD_CLIENT_STRUCTURED);
    for (size_t i = 0; i < 3; i++) {
        CHECK(nbd_client_request(&client, NBD_CMD_FLAG_DF, NBD_CMD_READ, i, 0,
                                 lens[i]));
        CHECK(nbd_client_chunk(&client, &chunk));
        CHECK(chunk.type == NBD_REPLY_OFFSET_DATA && chunk.flags == 1);
        CHECK(chunk.length == 8 + lens[i]);
        CHECK(nbd_client_receive(&client, bytes, 8));
        CHECK(nbd_client_receive(&client, bytes, lens[i]));
        CHECK(bytes_are_zero(bytes, lens[i]));
    }
    nbd_client_close(&client);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_read(&client, NBD_CMD_FLAG_DF, 0, bytes, 512) ==
          NBD_EINVAL);
    CHECK(nbd_client_is_alive(&client));
    end(&fixture, &client);
}

TEST("T6: past the end, what writes gets ENOSPC and the rest EINVAL, also "
     "where offset and length would wrap")
{
    static const struct {
        uint64_t offset;
        uint32_t length;
    } ranges[] = {
        {8 * MIB, 1},
        {8 * MIB - 511, 512},
        {0, 8 * MIB + 1},
        {8 * MIB + 4096, 4096},
        {UINT64_MAX - 511, 1024},
        {UINT64_MAX, 1},
        {UINT64_C(1) << 63, 512},
        {UINT64_MAX - 4095, 4096},
    };
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t *data = calloc(1, 8 * MIB + 1);

    NEED(data);
    for (size_t mode = 0; mode < MODES; mode++) {
        start_and_enter(&fixture, &client, modes[mode]);
        for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
            uint64_t offset = ranges[i].offset;
            uint32_t length = ranges[i].length;

            CHECK(nbd_client_read(&client, 0, offset, data, length) ==
                  NBD_EINVAL);
            CHECK(nbd_client_write(&client, 0, offset, data, length) ==
                  NBD_ENOSPC);
            CHECK(nbd_client_do(&client, 0, NBD_CMD_TRIM, offset, length) ==
                  NBD_EINVAL);
            CHECK(nbd_client_do(&client, 0, NBD_CMD_CACHE, offset, length) ==
                  NBD_EINVAL);
            CHECK(nbd_client_do(&client, 0, NBD_CMD_WRITE_ZEROES, offset,
                                length) == NBD_ENOSPC);
            CHECK(nbd_client_do(&client, 0, NBD_CMD_BLOCK_STATUS, offset,
                                length) == NBD_EINVAL);
        }
        CHECK(nbd_client_is_alive(&client));
        /* The last byte is inside. */
        CHECK(nbd_client_write(&client, 0, 8 * MIB - 1, "z", 1) == 0);
        CHECK(nbd_client_read(&client, 0, 8 * MIB - 1, data, 1) == 0);
        CHECK(data[0] == 'z');
        data[0] = 0;
        end(&fixture, &client);
    }
    free(data);
}

TEST("T7: on a read-only export, and on a read-only device, what writes gets "
     "EPERM and changes nothing")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    char byte;

    nbd_fixture_init(&fixture, test_dir());
    memory_device_set_read_only(fixture.device, true);
    nbd_fixture_start(&fixture);
    for (int i = 0; i < 2; i++) {
        CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_STRUCTURED,
                               i == 0 ? "main" : "second"));
        CHECK((client.flags & NBD_FLAG_READ_ONLY) != 0);
        CHECK(nbd_client_write(&client, 0, 0, "x", 1) == NBD_EPERM);
        CHECK(nbd_client_do(&client, 0, NBD_CMD_TRIM, 0, 4096) == NBD_EPERM);
        CHECK(nbd_client_do(&client, 0, NBD_CMD_WRITE_ZEROES, 0, 4096) ==
              NBD_EPERM);
        CHECK(nbd_client_read(&client, 0, 0, &byte, 1) == 0 && byte == 0);
        CHECK(nbd_client_is_alive(&client));
        nbd_client_close(&client);
    }
    nbd_fixture_done(&fixture);
}

TEST("T8: unknown commands and flags that do not fit get EINVAL; FUA fits "
     "every command")
{
    static const uint16_t types[] = {NBD_CMD_READ, NBD_CMD_FLUSH, NBD_CMD_TRIM,
                                     NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES};
    /* Besides FUA, what each of them may have. */
    static const uint16_t fitting[] = {NBD_CMD_FLAG_DF, 0, 0, 0,
                                       NBD_CMD_FLAG_NO_HOLE |
                                           NBD_CMD_FLAG_FAST_ZERO};
    struct nbd_fixture fixture;
    struct nbd_client client;
    char bytes[4096];

    start_and_enter(&fixture, &client, NBD_CLIENT_STRUCTURED);
    for (uint32_t type = 8; type < 0x10000; type = type * 3 + 1)
        CHECK(nbd_client_do(&client, 0, (uint16_t)type, 0, 4096) == NBD_EINVAL);
    for (int bit = 0; bit < 16; bit++) {
        uint16_t flag = (uint16_t)(1 << bit);

        for (size_t i = 1; i < 5; i++) {
            bool fits = ((fitting[i] | NBD_CMD_FLAG_FUA) & flag) != 0;

            CHECK(nbd_client_do(&client, flag, types[i], 0, 4096) ==
                  (fits ? 0 : NBD_EINVAL));
        }
        CHECK(nbd_client_read(&client, flag, 0, bytes, sizeof(bytes)) ==
              ((flag & (NBD_CMD_FLAG_DF | NBD_CMD_FLAG_FUA)) != 0
                   ? 0
                   : NBD_EINVAL));
        CHECK(nbd_client_write(&client, flag, 0, bytes, sizeof(bytes)) ==
              (flag == NBD_CMD_FLAG_FUA ? 0 : NBD_EINVAL));
        if (flag != NBD_CMD_FLAG_REQ_ONE && flag != NBD_CMD_FLAG_FUA)
            CHECK(nbd_client_do(&client, flag, NBD_CMD_BLOCK_STATUS, 0, 4096) ==
                  NBD_EINVAL);
    }
    CHECK(nbd_client_is_alive(&client));
    end(&fixture, &client);
}

/* Whether a rejected WRITE of this length leaves the connection in step. */
static void check_rejected_write(struct nbd_client *client, size_t len)
{
    uint8_t *data = pattern(len, 3);

    /* The payload looks like requests, were it taken for some. */
    put_be32(data, 0x25609513);
    CHECK(nbd_client_write(client, 0, 8 * MIB, data, len) == NBD_ENOSPC);
    CHECK(nbd_client_is_alive(client));
    CHECK(nbd_client_write(client, NBD_CMD_FLAG_DF, 0, data, len) ==
          NBD_EINVAL);
    CHECK(nbd_client_is_alive(client));
    free(data);
}

TEST("T9: the payload of a rejected WRITE is skipped, from 1 byte to 64 MiB")
{
    static const size_t lens[] = {
        1, 28, 65536, 65537, 262144 - 28, 262144, MIB + 1, 32 * MIB, 64 * MIB};
    struct nbd_fixture fixture;
    struct nbd_client client;

    for (size_t mode = 0; mode < MODES; mode++) {
        start_and_enter(&fixture, &client, modes[mode]);
        for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
            check_rejected_write(&client, lens[i]);
        CHECK(memory_device_seen(fixture.device).count[DEVICE_WRITE] == 0);
        end(&fixture, &client);
    }
}

TEST("T9: the payload of a rejected WRITE is skipped through TLS, too")
{
    const struct tls_server_options options = {.certificates_dir = test_dir()};
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct tls_context *tls = NULL;

    tls_client_make_files(test_dir());
    nbd_fixture_init(&fixture, test_dir());
    CHECK(tls_server_new(&options, &tls) == 0);
    fixture.options.tls = tls;
    fixture.options.tls_required = true;
    nbd_fixture_start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, 3));
    CHECK(nbd_client_ask(&client, NBD_OPT_STARTTLS, NULL, 0) == NBD_REP_ACK);
    client.tls = tls_client_start(&(struct tls_client_setup){.dir = test_dir()},
                                  client.fd);
    NEED(client.tls);
    CHECK(nbd_client_go(&client, "main"));
    check_rejected_write(&client, 1);
    check_rejected_write(&client, 100000);
    check_rejected_write(&client, 3 * MIB);
    end(&fixture, &client);
    tls_free(tls);
}

TEST("T9: a WRITE of more than 64 MiB ends the connection before anything is "
     "allocated for it, and no other")
{
    static const uint32_t lens[] = {(64 << 20) + 1, UINT32_MAX, UINT32_MAX - 27,
                                    0x80000000};
    struct nbd_fixture fixture;
    struct nbd_client client, other;

    start(&fixture);
    CHECK(nbd_client_enter(&other, &fixture, NBD_CLIENT_SIMPLE, "main"));
    for (size_t i = 0; i < 4; i++) {
        CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
        CHECK(nbd_client_request(&client, 0, NBD_CMD_WRITE, 1, 0, lens[i]));
        CHECK(nbd_client_is_hung_up(&client));
    }
    CHECK(nbd_client_is_alive(&other));
    end(&fixture, &other);
}

TEST("T9: a READ of more than 64 MiB is refused (CVE-2005-3534)")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    nbd_fixture_init(&fixture, test_dir());
    (void)device_close(fixture.device);
    fixture.device = memory_device_new(UINT64_C(8) << 30);
    fixture.exports[0].device = fixture.device;
    nbd_fixture_start(&fixture);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_STRUCTURED, "main"));
    CHECK(nbd_client_do(&client, 0, NBD_CMD_READ, 0, (64 << 20) + 1) ==
          NBD_EINVAL);
    CHECK(nbd_client_do(&client, 0, NBD_CMD_READ, 0, UINT32_MAX) == NBD_EINVAL);
    CHECK(nbd_client_is_alive(&client));
    end(&fixture, &client);
}

TEST("T10: requests of no bytes succeed without effect, but BLOCK_STATUS is "
     "wrong")
{
    static const uint16_t types[] = {NBD_CMD_READ, NBD_CMD_TRIM,
                                     NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE};
    struct nbd_fixture fixture;
    struct nbd_client client;

    for (size_t mode = 0; mode < MODES; mode++) {
        start_and_enter(&fixture, &client, modes[mode]);
        for (size_t i = 0; i < 4; i++) {
            CHECK(nbd_client_do(&client, 0, types[i], 0, 0) == 0);
            CHECK(nbd_client_do(&client, 0, types[i], 8 * MIB, 0) == 0);
            CHECK(nbd_client_do(&client, 0, types[i], 8 * MIB + 1, 0) > 0);
        }
        CHECK(nbd_client_write(&client, 0, 512, "", 0) == 0);
        CHECK(nbd_client_do(&client, 0, NBD_CMD_BLOCK_STATUS, 0, 0) ==
              NBD_EINVAL);
        CHECK(nbd_client_is_alive(&client));
        end(&fixture, &client);
    }
}

TEST("T11: FLUSH reaches the device, whatever its offset and length, and its "
     "error the client")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    CHECK(nbd_client_do(&client, 0, NBD_CMD_FLUSH, 0, 0) == 0);
    CHECK(nbd_client_do(&client, 0, NBD_CMD_FLUSH, UINT64_MAX, 77) == 0);
    CHECK(memory_device_seen(fixture.device).count[DEVICE_FLUSH] == 2);
    memory_device_fail(fixture.device, DEVICE_FLUSH, -EIO);
    CHECK(nbd_client_do(&client, 0, NBD_CMD_FLUSH, 0, 0) == NBD_EIO);
    memory_device_fail(fixture.device, DEVICE_FLUSH, 0);
    /* It is answered when the device says so, and not before. */
    memory_device_hold(fixture.device, 1U << DEVICE_FLUSH);
    CHECK(nbd_client_request(&client, 0, NBD_CMD_FLUSH, 1, 0, 0));
    CHECK(nbd_client_request(&client, 0, NBD_CMD_CACHE, 2, 0, 512));
    memory_device_wait_held(fixture.device, 1);
    CHECK(nbd_client_simple(&client, 2) == 0);
    memory_device_release(fixture.device);
    CHECK(nbd_client_simple(&client, 1) == 0);
    end(&fixture, &client);
}

TEST("T12: FUA reaches the device with WRITE, TRIM and WRITE_ZEROES, and only "
     "when it was asked for")
{
    static const uint16_t types[] = {NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES};
    static const enum device_operation operations[] = {DEVICE_TRIM,
                                                       DEVICE_ZERO};
    struct nbd_fixture fixture;
    struct nbd_client client;

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    for (int fua = 0; fua < 2; fua++) {
        uint16_t flags = fua ? NBD_CMD_FLAG_FUA : 0;
        unsigned expected = fua ? DEVICE_FUA : 0;

        CHECK(nbd_client_write(&client, flags, 0, "x", 1) == 0);
        CHECK(memory_device_seen(fixture.device).flags[DEVICE_WRITE] ==
              expected);
        for (size_t i = 0; i < 2; i++) {
            CHECK(nbd_client_do(&client, flags, types[i], 0, 4096) == 0);
            CHECK(memory_device_seen(fixture.device).flags[operations[i]] ==
                  expected);
        }
    }
    end(&fixture, &client);
}

TEST("T13: TRIM and WRITE_ZEROES read as zeros afterwards; NO_HOLE reaches "
     "the device; FAST_ZERO is never refused")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t *data = pattern(16384, 5);
    uint8_t back[16384];

    start_and_enter(&fixture, &client, NBD_CLIENT_STRUCTURED);
    CHECK(nbd_client_write(&client, 0, 0, data, 16384) == 0);
    CHECK(nbd_client_do(&client, 0, NBD_CMD_TRIM, 0, 4096) == 0);
    CHECK(nbd_client_do(&client, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES,
                        4096, 4096) == 0);
    CHECK(memory_device_seen(fixture.device).flags[DEVICE_ZERO] ==
          DEVICE_NO_HOLE);
    CHECK(nbd_client_do(&client, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES,
                        8192 + 7, 4096) == 0);
    CHECK(memory_device_seen(fixture.device).flags[DEVICE_ZERO] == 0);
    CHECK(nbd_client_read(&client, 0, 0, back, sizeof(back)) == 0);
    CHECK(bytes_are_zero(back, 8192));
    CHECK(memcmp(back + 8192, data + 8192, 7) == 0);
    CHECK(bytes_are_zero(back + 8199, 4096));
    CHECK(memcmp(back + 12295, data + 12295, 16384 - 12295) == 0);
    free(data);
    end(&fixture, &client);
}

TEST("T14: commands without payload may be as long as 32 bits, or 64, say")
{
    static const uint16_t types[] = {NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES,
                                     NBD_CMD_CACHE};
    static const enum device_operation operations[] = {DEVICE_TRIM, DEVICE_ZERO,
                                                       DEVICE_PREFETCH};
    const uint64_t size = UINT64_MAX / 2 - 511;
    struct nbd_fixture fixture;
    struct nbd_client client;

    nbd_fixture_init(&fixture, test_dir());
    (void)device_close(fixture.device);
    fixture.device = memory_device_new(size);
    fixture.exports[0].device = fixture.device;
    nbd_fixture_start(&fixture);
    for (size_t mode = 0; mode < MODES; mode++) {
        uint64_t length =
            modes[mode] == NBD_CLIENT_EXTENDED ? size : UINT32_MAX;

        CHECK(nbd_client_enter(&client, &fixture, modes[mode], "main"));
        CHECK(client.size == size);
        for (size_t i = 0; i < 3; i++) {
            CHECK(nbd_client_do(&client, 0, types[i], 0, length) == 0);
            CHECK(memory_device_seen(fixture.device).length[operations[i]] ==
                  length);
        }
        CHECK(nbd_client_do(&client, 0, NBD_CMD_TRIM, size - 4096, 4096) == 0);
        nbd_client_close(&client);
    }
    nbd_fixture_done(&fixture);
}

TEST("T15: CACHE is a prefetch, and a flag that is unknown there an error")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    CHECK(nbd_client_do(&client, 0, NBD_CMD_CACHE, 4096, 8192) == 0);
    CHECK(memory_device_seen(fixture.device).offset[DEVICE_PREFETCH] == 4096);
    CHECK(memory_device_seen(fixture.device).length[DEVICE_PREFETCH] == 8192);
    CHECK(nbd_client_do(&client, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_CACHE, 0, 512) ==
          NBD_EINVAL);
    CHECK(nbd_client_is_alive(&client));
    end(&fixture, &client);
}

/* A block status, as received. */
struct extents {
    size_t count;
    struct {
        uint64_t length;
        uint64_t flags;
    } of[600];
};

static bool ask_status(struct nbd_client *client, uint16_t flags,
                       uint64_t offset, uint64_t length,
                       struct extents *extents)
{
    struct nbd_client_chunk chunk;
    static uint8_t bytes[16384];
    size_t head = client->extended ? 8 : 4, size = client->extended ? 16 : 8;

    memset(extents, 0, sizeof(*extents));
    if (!nbd_client_request(client, flags, NBD_CMD_BLOCK_STATUS, 99, offset,
                            length) ||
        !nbd_client_chunk(client, &chunk) || chunk.cookie != 99 ||
        chunk.flags != 1 || chunk.length < head + size ||
        chunk.length > sizeof(bytes) || (chunk.length - head) % size != 0 ||
        chunk.type != (client->extended ? NBD_REPLY_BLOCK_STATUS_EXT
                                        : NBD_REPLY_BLOCK_STATUS) ||
        !nbd_client_receive(client, bytes, (size_t)chunk.length) ||
        get_be32(bytes) != 1)
        return false;
    extents->count = (size_t)(chunk.length - head) / size;
    if (client->extended && get_be32(bytes + 4) != extents->count)
        return false;
    for (size_t i = 0; i < extents->count; i++) {
        const uint8_t *at = bytes + head + i * size;

        extents->of[i].length = client->extended ? get_be64(at) : get_be32(at);
        extents->of[i].flags =
            client->extended ? get_be64(at + 8) : get_be32(at + 4);
    }
    return true;
}

TEST("T16: BLOCK_STATUS tells zeros from data, one extent when asked so, and "
     "is wrong unless its context was selected")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct extents extents;
    uint8_t *data = pattern(8192, 1);

    for (size_t mode = 1; mode < MODES; mode++) {
        start_and_enter(&fixture, &client, modes[mode]);
        CHECK(nbd_client_write(&client, 0, 4096, data, 8192) == 0);
        CHECK(ask_status(&client, 0, 0, 8 * MIB, &extents));
        CHECK(extents.count == 3);
        CHECK(extents.of[0].length == 4096 && extents.of[0].flags == 3);
        CHECK(extents.of[1].length == 8192 && extents.of[1].flags == 0);
        CHECK(extents.of[2].length == 8 * MIB - 12288);
        CHECK(ask_status(&client, NBD_CMD_FLAG_REQ_ONE, 4096, 4096, &extents));
        CHECK(extents.count == 1 && extents.of[0].length == 4096);
        end(&fixture, &client);
    }
    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    CHECK(nbd_client_do(&client, 0, NBD_CMD_BLOCK_STATUS, 0, 4096) ==
          NBD_EINVAL);
    CHECK(nbd_client_is_alive(&client));
    end(&fixture, &client);
    free(data);
}

TEST("T16: an extent that 32 bits cannot hold is cut to whole sectors, and is "
     "the last (CVE-2025-47711)")
{
    static const uint64_t lengths[] = {
        UINT32_MAX - 511, UINT32_MAX, (UINT64_C(1) << 32),
        (UINT64_C(1) << 32) + 4096, UINT64_MAX / 2 - 511};
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct extents got;

    for (size_t mode = 1; mode < MODES; mode++) {
        nbd_fixture_init(&fixture, test_dir());
        (void)device_close(fixture.device);
        fixture.device = memory_device_new(UINT64_MAX / 2 - 511);
        fixture.exports[0].device = fixture.device;
        nbd_fixture_start(&fixture);
        CHECK(nbd_client_enter(&client, &fixture, modes[mode], "main"));
        for (size_t i = 0; i < 5; i++) {
            struct device_extent extents[2] = {{4096, 0}, {lengths[i], 3}};
            uint64_t most = modes[mode] == NBD_CLIENT_EXTENDED
                                ? UINT64_MAX
                                : UINT32_MAX - 511;
            uint64_t told = lengths[i] < most ? lengths[i] : most;

            memory_device_set_extents(fixture.device, extents, 2);
            CHECK(ask_status(&client, 0, 0, UINT32_MAX, &got));
            CHECK(got.count == 2);
            CHECK(got.of[0].length == 4096 && got.of[1].length == told);
            extents[0].length = lengths[i];
            extents[0].flags = 3;
            extents[1] = (struct device_extent){4096, 0};
            memory_device_set_extents(fixture.device, extents, 2);
            CHECK(ask_status(&client, 0, 0, UINT32_MAX, &got));
            CHECK(got.count == (told == lengths[i] ? 2 : 1));
            CHECK(got.of[0].length == told);
        }
        end(&fixture, &client);
    }
}

TEST("T16: a device that tells of nothing makes an error, not an empty reply")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start_and_enter(&fixture, &client, NBD_CLIENT_STRUCTURED);
    memory_device_fail(fixture.device, DEVICE_EXTENTS, -EIO);
    CHECK(nbd_client_do(&client, 0, NBD_CMD_BLOCK_STATUS, 0, 4096) == NBD_EIO);
    CHECK(nbd_client_is_alive(&client));
    end(&fixture, &client);
}

TEST("T17: after DISC, and after the client shut its side down, everything "
     "that was asked is answered, and then the connection ends")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    for (int way = 0; way < 2; way++) {
        unsigned seen = 0;

        start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
        memory_device_hold(fixture.device,
                           1U << DEVICE_WRITE | 1U << DEVICE_FLUSH);
        for (uint64_t i = 0; i < 8; i++) {
            CHECK(nbd_client_request(&client, 0, NBD_CMD_WRITE, i, 4096 * i,
                                     4096));
            CHECK(nbd_client_send(&client, memory_device_bytes(fixture.device),
                                  4096));
        }
        if (way == 0)
            CHECK(nbd_client_request(&client, 0, NBD_CMD_DISC, 0, 0, 0));
        else
            CHECK(shutdown(client.fd, SHUT_WR) == 0);
        memory_device_wait_held(fixture.device, 8);
        memory_device_release(fixture.device);
        for (int i = 0; i < 8; i++) {
            uint8_t bytes[16];

            CHECK(nbd_client_receive(&client, bytes, 16));
            CHECK(get_be32(bytes) == 0x67446698 && get_be32(bytes + 4) == 0);
            seen |= 1U << get_be64(bytes + 8);
        }
        CHECK(seen == 0xff);
        CHECK(nbd_client_is_hung_up(&client));
        CHECK(memory_device_seen(fixture.device).canceled == 0);
        nbd_fixture_done(&fixture);
    }
}

TEST("T17: what follows a DISC is not run")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t bytes[56] = {0};

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    put_be32(bytes, 0x25609513);
    put_be16(bytes + 6, NBD_CMD_DISC);
    put_be32(bytes + 28, 0x25609513);
    put_be16(bytes + 28 + 6, NBD_CMD_FLUSH);
    CHECK(nbd_client_send(&client, bytes, sizeof(bytes)));
    CHECK(nbd_client_is_hung_up(&client));
    CHECK(memory_device_seen(fixture.device).count[DEVICE_FLUSH] == 0);
    nbd_fixture_done(&fixture);
}

TEST("T18: every error of the device becomes one of the specification's")
{
    static const struct {
        int error;
        int64_t wire;
    } errors[] = {{-EPERM, NBD_EPERM},    {-EROFS, NBD_EPERM},
                  {-EACCES, NBD_EPERM},   {-ENOSPC, NBD_ENOSPC},
                  {-EDQUOT, NBD_ENOSPC},  {-EFBIG, NBD_ENOSPC},
                  {-EIO, NBD_EIO},        {-EINVAL, NBD_EINVAL},
                  {-ENOMEM, NBD_ENOMEM},  {-ETIMEDOUT, NBD_EIO},
                  {-EUCLEAN, NBD_EIO},    {-ENOENT, NBD_EIO},
                  {-EOVERFLOW, NBD_EIO},  {-EAGAIN, NBD_EIO},
                  {-EOPNOTSUPP, NBD_EIO}, {-ESHUTDOWN, NBD_ESHUTDOWN}};
    struct nbd_fixture fixture;
    struct nbd_client client;
    char byte;

    for (size_t mode = 0; mode < MODES; mode++) {
        start_and_enter(&fixture, &client, modes[mode]);
        for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
            memory_device_fail(fixture.device, DEVICE_WRITE, errors[i].error);
            memory_device_fail(fixture.device, DEVICE_READ, errors[i].error);
            CHECK(nbd_client_write(&client, 0, 0, "x", 1) == errors[i].wire);
            CHECK(nbd_client_read(&client, 0, 0, &byte, 1) == errors[i].wire);
        }
        end(&fixture, &client);
    }
}

TEST("T18: when the server stops, what runs is answered, and what was not "
     "read is neither run nor answered")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct nbd_server_status status;
    int64_t result;

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    CHECK(nbd_client_write(&client, 0, 0, "x", 1) == 0);
    CHECK(nbd_server_stop(fixture.server, 10000) == 0);
    nbd_server_status(fixture.server, &status);
    CHECK(status.connections == 0 && status.requests == 1);
    result = nbd_client_do(&client, 0, NBD_CMD_FLUSH, 0, 0);
    CHECK(result == -1);
    CHECK(memory_device_seen(fixture.device).count[DEVICE_FLUSH] == 0);
    nbd_client_close(&client);
    nbd_server_free(fixture.server);
    fixture.server = NULL;
    nbd_fixture_done(&fixture);
}

TEST("T19: a flush on one connection answers for what was written on another")
{
    struct nbd_fixture fixture;
    struct nbd_client one, two;
    char byte;

    start_and_enter(&fixture, &one, NBD_CLIENT_SIMPLE);
    CHECK((one.flags & NBD_FLAG_CAN_MULTI_CONN) != 0);
    CHECK(nbd_client_enter(&two, &fixture, NBD_CLIENT_EXTENDED, "main"));
    CHECK(nbd_client_write(&one, 0, 4096, "q", 1) == 0);
    CHECK(nbd_client_read(&two, 0, 4096, &byte, 1) == 0 && byte == 'q');
    CHECK(nbd_client_is_alive(&two));
    CHECK(memory_device_seen(fixture.device).count[DEVICE_FLUSH] == 1);
    nbd_client_close(&two);
    end(&fixture, &one);
}

TEST("T20: a client that leaves in the middle of a head, of a payload, or "
     "with replies unread, takes only its own connection with it")
{
    struct nbd_fixture fixture;
    struct nbd_client client, other;
    static uint8_t zeros[300000];

    start_and_enter(&fixture, &other, NBD_CLIENT_SIMPLE);
    for (size_t mode = 0; mode < MODES; mode++) {
        static const size_t parts[] = {0, 1, 4095, 65535, 66000, 299999};

        for (size_t len = 1; len < 28; len += 9) {
            CHECK(nbd_client_enter(&client, &fixture, modes[mode], "main"));
            CHECK(nbd_client_send(&client, zeros, 0));
            CHECK(nbd_client_send(&client, "\x25\x60\x95\x13", len & 3));
            nbd_client_close(&client);
        }
        for (size_t i = 0; i < 6; i++) {
            CHECK(nbd_client_enter(&client, &fixture, modes[mode], "main"));
            CHECK(nbd_client_request(
                &client, client.extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0,
                NBD_CMD_WRITE, 1, 0, sizeof(zeros)));
            CHECK(nbd_client_send(&client, zeros, parts[i]));
            nbd_client_close(&client);
        }
        for (uint64_t i = 1; i < 100; i += 7) {
            CHECK(nbd_client_enter(&client, &fixture, modes[mode], "main"));
            for (uint64_t j = 0; j < i; j++)
                (void)nbd_client_request(&client, NBD_CMD_FLAG_DF * (mode > 0),
                                         NBD_CMD_READ, j, 0, 4 * MIB);
            nbd_client_close(&client);
        }
    }
    nbd_fixture_wait_connections(&fixture, 1);
    CHECK(nbd_client_is_alive(&other));
    /* Not one of the writes was whole, so none was run. */
    CHECK(memory_device_seen(fixture.device).count[DEVICE_WRITE] == 0);
    end(&fixture, &other);
}

/* ---- extended headers (1.3) ---------------------------------------------- */

TEST("extended: a WRITE that does not announce its payload ends the "
     "connection, and a payload above 64 MiB does, whatever the command")
{
    static const struct {
        uint16_t flags, type;
        uint64_t length;
    } wrong[] = {
        {0, NBD_CMD_WRITE, 4096},
        {0, NBD_CMD_WRITE, 0},
        {NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE, (64 << 20) + 1},
        {NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE, UINT64_MAX},
        {NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_READ, UINT64_C(1) << 32},
        {NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, UINT64_MAX},
        {NBD_CMD_FLAG_PAYLOAD_LEN, 77, (64 << 20) + 1},
    };
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_EXTENDED, "main"));
        CHECK(nbd_client_request(&client, wrong[i].flags, wrong[i].type, 1, 0,
                                 wrong[i].length));
        CHECK(nbd_client_is_hung_up(&client));
    }
    nbd_fixture_done(&fixture);
}

TEST("extended: the payload of a command that takes none is skipped, and the "
     "command refused")
{
    static const uint16_t types[] = {NBD_CMD_READ,         NBD_CMD_FLUSH,
                                     NBD_CMD_TRIM,         NBD_CMD_CACHE,
                                     NBD_CMD_WRITE_ZEROES, 99};
    static const size_t lens[] = {1, 4096, 65537, 3 * MIB};
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t *data = pattern(3 * MIB, 1);

    start_and_enter(&fixture, &client, NBD_CLIENT_EXTENDED);
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 4; j++) {
            CHECK(nbd_client_request(&client, NBD_CMD_FLAG_PAYLOAD_LEN,
                                     types[i], 4, 0, lens[j]));
            CHECK(nbd_client_send(&client, data, lens[j]));
            CHECK(nbd_client_result(&client, 4) == NBD_EINVAL);
        }
    }
    CHECK(nbd_client_is_alive(&client));
    free(data);
    end(&fixture, &client);
}

TEST("extended: BLOCK_STATUS may name contexts: ours is answered, unknown, "
     "repeated, missing or overlong ones are refused, and skipped")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct nbd_client_chunk chunk;
    static uint8_t payload[70000];
    static const size_t wrong_lens[] = {0,  1,  7,     8,     11,
                                        13, 16, 65536, 65537, 70000};
    const uint16_t flag = NBD_CMD_FLAG_PAYLOAD_LEN;

    start_and_enter(&fixture, &client, NBD_CLIENT_EXTENDED);
    put_be64(payload, 8 * MIB);
    put_be32(payload + 8, 1);
    put_be32(payload + 12, 1);
    CHECK(nbd_client_request(&client, flag, NBD_CMD_BLOCK_STATUS, 1, 0, 12));
    CHECK(nbd_client_send(&client, payload, 12));
    CHECK(nbd_client_chunk(&client, &chunk));
    CHECK(chunk.type == NBD_REPLY_BLOCK_STATUS_EXT);
    CHECK(chunk.length == 8 + 16);
    CHECK(nbd_client_receive(&client, payload + 16, 24));
    CHECK(get_be64(payload + 16 + 8) == 8 * MIB);
    for (size_t i = 0; i < sizeof(wrong_lens) / sizeof(wrong_lens[0]); i++) {
        CHECK(nbd_client_request(&client, flag, NBD_CMD_BLOCK_STATUS, 2, 0,
                                 wrong_lens[i]));
        CHECK(nbd_client_send(&client, payload, wrong_lens[i]));
        CHECK(nbd_client_result(&client, 2) == NBD_EINVAL);
    }
    put_be32(payload + 8, 2);
    CHECK(nbd_client_request(&client, flag, NBD_CMD_BLOCK_STATUS, 3, 0, 12));
    CHECK(nbd_client_send(&client, payload, 12));
    CHECK(nbd_client_result(&client, 3) == NBD_EINVAL);
    CHECK(nbd_client_is_alive(&client));
    end(&fixture, &client);
}

/* ---- limits -------------------------------------------------------------- */

TEST("at least 128 requests of a connection are in flight together, and those "
     "beyond its limit wait, and are run")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    enum { COUNT = NBD_IN_FLIGHT_MAX + 100 };
    size_t answered = 0;
    uint8_t bytes[16];

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    memory_device_hold(fixture.device, 1U << DEVICE_FLUSH);
    for (uint64_t i = 0; i < COUNT; i++)
        CHECK(nbd_client_request(&client, 0, NBD_CMD_FLUSH, i, 0, 0));
    memory_device_wait_held(fixture.device, NBD_IN_FLIGHT_MAX);
    CHECK(memory_device_seen(fixture.device).count[DEVICE_FLUSH] ==
          NBD_IN_FLIGHT_MAX);
    memory_device_release(fixture.device);
    while (answered < COUNT && nbd_client_receive(&client, bytes, 16))
        answered++;
    CHECK(answered == COUNT);
    end(&fixture, &client);
}

TEST("many requests that come together are submitted together")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t bytes[28 * 32] = {0};

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    for (size_t i = 0; i < 32; i++) {
        put_be32(bytes + 28 * i, 0x25609513);
        put_be16(bytes + 28 * i + 6, NBD_CMD_FLUSH);
        put_be64(bytes + 28 * i + 8, i);
    }
    CHECK(nbd_client_send(&client, bytes, sizeof(bytes)));
    for (uint64_t i = 0; i < 32; i++)
        CHECK(nbd_client_simple(&client, i) == 0);
    CHECK(memory_device_seen(fixture.device).largest_batch == 32);
    end(&fixture, &client);
}

TEST("payloads stay what they were while their writes wait, however much is "
     "received meanwhile")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    enum { COUNT = 200, LEN = 12288 };
    uint8_t bytes[16];

    start_and_enter(&fixture, &client, NBD_CLIENT_SIMPLE);
    memory_device_hold(fixture.device, 1U << DEVICE_WRITE);
    for (uint64_t i = 0; i < COUNT; i++) {
        uint8_t *data = pattern(LEN, (unsigned)i);

        CHECK(nbd_client_request(&client, 0, NBD_CMD_WRITE, i, i * LEN, LEN));
        CHECK(nbd_client_send(&client, data, LEN));
        free(data);
    }
    memory_device_wait_held(fixture.device, COUNT);
    memory_device_release(fixture.device);
    for (int i = 0; i < COUNT; i++)
        CHECK(nbd_client_receive(&client, bytes, 16));
    for (uint64_t i = 0; i < COUNT; i++) {
        uint8_t *data = pattern(LEN, (unsigned)i);

        CHECK(memcmp(memory_device_bytes(fixture.device) + i * LEN, data,
                     LEN) == 0);
        free(data);
    }
    end(&fixture, &client);
}

TEST("a client that does not read its replies takes no more memory than its "
     "limit, and stops nobody but itself")
{
    struct nbd_fixture fixture;
    struct nbd_client lazy, other;
    struct nbd_server_status status;
    static uint8_t data[MIB];
    bool is_full = false;
    uint64_t asked = 0, answered = 0;
    uint8_t head[28];

    start_and_enter(&fixture, &lazy, NBD_CLIENT_STRUCTURED);
    CHECK(nbd_client_enter(&other, &fixture, NBD_CLIENT_SIMPLE, "main"));
    /* Ask until the server does not read any more. */
    memset(data, 'd', sizeof(data));
    CHECK(nbd_client_write(&other, 0, 0, data, sizeof(data)) == 0);
    while (!is_full) {
        uint8_t request[28] = {0x25, 0x60, 0x95, 0x13};

        put_be64(request + 8, asked);
        put_be32(request + 24, MIB);
        is_full = send(lazy.fd, request, 28, MSG_DONTWAIT | MSG_NOSIGNAL) != 28;
        asked += !is_full;
    }
    for (int i = 0; i < 100; i++)
        CHECK(nbd_client_write(&other, 0, 0, data, 65536) == 0);
    CHECK(nbd_client_read(&other, 0, 0, data, MIB) == 0);
    nbd_server_status(fixture.server, &status);
    /* The other one may just be giving back its own. */
    CHECK(status.memory_used <= NBD_SHARED_MEMORY_MAX + MIB);
    /* And it is served to the end when it reads after all. */
    while (answered < asked && nbd_client_receive(&lazy, head, 28) &&
           nbd_client_receive(&lazy, data, MIB))
        answered++;
    CHECK(answered == asked);
    nbd_client_close(&other);
    end(&fixture, &lazy);
}

TEST("the largest request is served, 64 MiB, both ways")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    size_t len = 64 * MIB;
    uint8_t *data = pattern(len, 9), *back = malloc(len);

    NEED(back);
    nbd_fixture_init(&fixture, test_dir());
    (void)device_close(fixture.device);
    fixture.device = memory_device_new(len);
    fixture.exports[0].device = fixture.device;
    nbd_fixture_start(&fixture);
    for (size_t mode = 0; mode < MODES; mode++) {
        CHECK(nbd_client_enter(&client, &fixture, modes[mode], "main"));
        CHECK(nbd_client_write(&client, 0, 0, data, len) == 0);
        CHECK(nbd_client_read(&client, 0, 0, back, len) == 0);
        CHECK(memcmp(data, back, len) == 0);
        nbd_client_close(&client);
    }
    nbd_fixture_done(&fixture);
    free(data);
    free(back);
}

TEST("over TLS, replies of other threads arrive, keys may change, and DISC "
     "ends with TLS's own good-bye")
{
    const struct tls_server_options options = {.certificates_dir = test_dir()};
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct tls_context *tls = NULL;
    uint8_t *data = pattern(MIB, 4), *back = malloc(MIB);
    uint8_t byte;

    NEED(back);
    tls_client_make_files(test_dir());
    nbd_fixture_init(&fixture, test_dir());
    CHECK(tls_server_new(&options, &tls) == 0);
    fixture.options.tls = tls;
    nbd_fixture_start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, 3));
    CHECK(nbd_client_ask(&client, NBD_OPT_STARTTLS, NULL, 0) == NBD_REP_ACK);
    client.tls = tls_client_start(&(struct tls_client_setup){.dir = test_dir()},
                                  client.fd);
    NEED(client.tls);
    CHECK(nbd_client_go(&client, "main"));
    CHECK(nbd_client_write(&client, 0, 5, data, MIB) == 0);
    tls_client_update_key(client.tls);
    CHECK(nbd_client_read(&client, 0, 5, back, MIB) == 0);
    CHECK(memcmp(data, back, MIB) == 0);
    memory_device_hold(fixture.device, 1U << DEVICE_FLUSH);
    CHECK(nbd_client_request(&client, 0, NBD_CMD_FLUSH, 1, 0, 0));
    memory_device_wait_held(fixture.device, 1);
    memory_device_release(fixture.device);
    CHECK(nbd_client_simple(&client, 1) == 0);
    CHECK(nbd_client_request(&client, 0, NBD_CMD_DISC, 0, 0, 0));
    CHECK(tls_client_receive(client.tls, &byte, 1) == 0);
    end(&fixture, &client);
    tls_free(tls);
    free(data);
    free(back);
}

/* ---- a transmission without its server ----------------------------------- */

struct bare {
    struct device *device;
    struct nbd_export export;
    struct nbd_memory *memory;
    struct nbd_tally tally;
    struct stream *stream;
    struct nbd_transmission *transmission;
    struct nbd_client client;
    int result;
};

/* A transmission in simple replies, with these deadlines, not yet running. */
static void bare_init(struct bare *bare, unsigned drain_ms, unsigned stall_ms)
{
    struct nbd_transmission_options options = {.drain_ms = drain_ms,
                                               .stall_ms = stall_ms};
    int fds[2];

    *bare = (struct bare){.device = memory_device_new(NBD_FIXTURE_SIZE)};
    bare->export = (struct nbd_export){.device = bare->device, .name = "bare"};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 ||
        stream_open(fds[0], &bare->stream) < 0 ||
        nbd_memory_new(64 * MIB, &bare->memory) < 0)
        abort();
    bare->client.fd = fds[1];
    options.stream = bare->stream;
    options.session.export = &bare->export;
    options.memory = bare->memory;
    options.tally = &bare->tally;
    if (nbd_transmission_new(&options, &bare->transmission) < 0)
        abort();
}

static void bare_done(struct bare *bare)
{
    nbd_transmission_free(bare->transmission);
    stream_close(bare->stream);
    nbd_client_close(&bare->client);
    nbd_memory_free(bare->memory);
    (void)device_close(bare->device);
}

TEST("a client that left, and does not read its last replies, is waited for "
     "until a deadline")
{
    struct bare bare;

    bare_init(&bare, 5, 1000000);
    CHECK(nbd_client_request(&bare.client, 0, NBD_CMD_READ, 1, 0, 4 * MIB));
    CHECK(nbd_client_request(&bare.client, 0, NBD_CMD_DISC, 2, 0, 0));
    CHECK(nbd_transmission_run(bare.transmission) == -ETIMEDOUT);
    CHECK(nbd_transmission_is_leaving(bare.transmission));
    bare_done(&bare);
}

static void ignore(struct nbd_memory_waiter *waiter)
{
    (void)waiter;
}

static void *run_bare(void *argument)
{
    struct bare *bare = argument;

    bare->result = nbd_transmission_run(bare->transmission);
    return NULL;
}

TEST("a client that makes no progress is given up when others stand in line "
     "for the memory that it holds: with replies unread, or a payload unsent")
{
    static const uint16_t types[] = {NBD_CMD_READ, NBD_CMD_WRITE};

    for (int way = 0; way < 2; way++) {
        struct nbd_memory_waiter other = {.wake = ignore};
        struct bare bare;
        pthread_t thread;

        bare_init(&bare, 1000000, 5);
        CHECK(nbd_client_request(&bare.client, 0, types[way], 1, 0, 4 * MIB));
        NEED(pthread_create(&thread, NULL, run_bare, &bare) == 0);
        while (nbd_memory_used(bare.memory) < 4 * MIB)
            (void)sched_yield();
        CHECK(!nbd_memory_take(bare.memory, &other, 62 * MIB));
        (void)pthread_join(thread, NULL);
        CHECK(nbd_memory_take(bare.memory, &other, 62 * MIB));
        nbd_memory_give(bare.memory, 62 * MIB);
        bare_done(&bare);
    }
}

/* A stream during whose receiving, with the byte at a place, the end comes. */
struct ending_stream {
    struct stream stream;
    struct stream *inner;
    struct bare *bare;
    size_t received, at;
    bool is_handed_over;
};

static ssize_t receive_to_the_end(struct stream *stream, void *data, size_t len,
                                  uint64_t deadline_ns)
{
    struct ending_stream *ending = (struct ending_stream *)(void *)stream;
    struct nbd_transmission *transmission = ending->bare->transmission;
    ssize_t got = stream_receive(ending->inner, data, len, deadline_ns);

    if (got <= 0)
        return got;
    ending->received += (size_t)got;
    if (ending->received < ending->at)
        return got;
    if (ending->is_handed_over)
        nbd_transmission_hand_over(transmission);
    else
        nbd_transmission_stop(transmission, STREAM_FOREVER);
    return got;
}

static ssize_t send_as_it_is(struct stream *stream, const struct iovec *pieces,
                             size_t count, uint64_t deadline_ns)
{
    struct ending_stream *ending = (struct ending_stream *)(void *)stream;

    return stream_send(ending->inner, pieces, count, deadline_ns);
}

static int finish_as_it_is(struct stream *stream, uint64_t deadline_ns)
{
    struct ending_stream *ending = (struct ending_stream *)(void *)stream;

    return stream_finish(ending->inner, deadline_ns);
}

TEST("a WRITE whose payload is whole when the end comes is carried out")
{
    static const struct stream_functions functions = {
        .receive = receive_to_the_end,
        .send = send_as_it_is,
        .finish = finish_as_it_is,
    };
    uint8_t *data = pattern(4 * MIB, 3);

    NEED(data);
    for (int way = 0; way < 2; way++) {
        struct ending_stream ending = {.stream.functions = &functions,
                                       .at = 28 + 4 * MIB,
                                       .is_handed_over = way == 0};
        struct bare bare;
        pthread_t thread;

        bare_init(&bare, 1000000, 1000000);
        ending.inner = bare.stream;
        ending.bare = &bare;
        ending.stream.fd = bare.stream->fd;
        nbd_transmission_free(bare.transmission);
        bare.stream = &ending.stream;
        NEED(nbd_transmission_new(
                 &(struct nbd_transmission_options){
                     .stream = bare.stream,
                     .session.export = &bare.export,
                     .memory = bare.memory,
                     .tally = &bare.tally,
                     .drain_ms = 1000000,
                     .stall_ms = 1000000,
                 },
                 &bare.transmission) == 0);
        NEED(pthread_create(&thread, NULL, run_bare, &bare) == 0);
        CHECK(
            nbd_client_request(&bare.client, 0, NBD_CMD_WRITE, 1, 0, 4 * MIB));
        CHECK(nbd_client_send(&bare.client, data, 4 * MIB));
        (void)pthread_join(thread, NULL);
        CHECK(bare.result == (way == 0 ? NBD_TRANSMISSION_PAUSED : 0));
        CHECK(memory_device_seen(bare.device).executed[DEVICE_WRITE] == 1);
        bare.stream = ending.inner;
        bare_done(&bare);
    }
    free(data);
}

TEST("a device that grew is served to its new end on connections that were "
     "there before")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t page[4096];

    memset(page, 'g', sizeof(page));
    nbd_fixture_init(&fixture, test_dir());
    nbd_fixture_start(&fixture);
    NEED(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_write(&client, 0, NBD_FIXTURE_SIZE, page, sizeof(page)) ==
          NBD_ENOSPC);
    memory_device_grow(fixture.device, NBD_FIXTURE_SIZE + sizeof(page));
    CHECK(nbd_client_write(&client, 0, NBD_FIXTURE_SIZE, page, sizeof(page)) ==
          0);
    memset(page, 0, sizeof(page));
    CHECK(nbd_client_read(&client, 0, NBD_FIXTURE_SIZE, page, sizeof(page)) ==
          0);
    CHECK(page[0] == 'g' && page[sizeof(page) - 1] == 'g');
    CHECK(nbd_client_write(&client, 0, NBD_FIXTURE_SIZE + 1, page,
                           sizeof(page)) == NBD_ENOSPC);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}
