/* SPDX-License-Identifier: BSD-2-Clause */
/* The rules H1 to H22 of docs/NBD.md, on a socket, byte by byte. */
/* links: memory_device */
#include "nbd/nbd_handshake.h"

#include <sys/socket.h>

#include "base/bytes.h"
#include "base/stream.h"
#include "base/tls.h"
#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "support/tls_client.h"
#include "unit/test.h"

enum { FIXED = NBD_FLAG_FIXED_NEWSTYLE, NO_ZEROES = NBD_FLAG_NO_ZEROES };

static void start(struct nbd_fixture *fixture)
{
    nbd_fixture_init(fixture, test_dir());
    nbd_fixture_start(fixture);
}

/* A fixture with TLS by certificates and keys. */
static void start_tls(struct nbd_fixture *fixture, bool required,
                      bool verify_peer)
{
    char keys[PATH_MAX];
    const struct tls_server_options options = {
        .certificates_dir = test_dir(),
        .psk_file = keys,
        .verify_peer = verify_peer,
    };

    (void)snprintf(keys, sizeof(keys), "%s/keys.psk", test_dir());
    tls_client_make_files(test_dir());
    nbd_fixture_init(fixture, test_dir());
    CHECK(tls_server_new(&options, &fixture->options.tls) == 0);
    fixture->options.tls_required = required;
    nbd_fixture_start(fixture);
}

static void stop_tls(struct nbd_fixture *fixture)
{
    struct tls_context *tls = fixture->options.tls;

    nbd_fixture_done(fixture);
    tls_free(tls);
}

/* Whether the connection still answers options: LIST brings both exports. */
static bool is_in_sync(struct nbd_client *client)
{
    struct nbd_client_answer answer;

    if (!nbd_client_send_option(client, NBD_OPT_LIST, NULL, 0))
        return false;
    for (int i = 0; i < 2; i++) {
        if (!nbd_client_receive_answer(client, &answer) ||
            answer.option != NBD_OPT_LIST || answer.type != NBD_REP_SERVER)
            return false;
    }
    return nbd_client_receive_answer(client, &answer) &&
           answer.type == NBD_REP_ACK && answer.len == 0;
}

/* Whether a connection of its own works, and so the server lives. */
static bool server_lives(const struct nbd_fixture *fixture)
{
    struct nbd_client client;
    bool lives = nbd_client_greet(&client, fixture, FIXED | NO_ZEROES) &&
                 is_in_sync(&client);

    nbd_client_close(&client);
    return lives;
}

TEST("H1: the greeting has the magics, and the flags FIXED_NEWSTYLE and "
     "NO_ZEROES only")
{
    struct nbd_fixture fixture;
    struct nbd_client client = {0};
    uint8_t bytes[18];

    start(&fixture);
    client.fd = nbd_fixture_connect(&fixture);
    CHECK(nbd_client_receive(&client, bytes, sizeof(bytes)));
    CHECK(memcmp(bytes, "NBDMAGICIHAVEOPT\0\3", 18) == 0);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H2: an unknown client flag ends the connection")
{
    static const uint32_t flags[] = {0x80000003, 4, 7, 0xffffffff};
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    for (size_t i = 0; i < 4; i++) {
        CHECK(nbd_client_greet(&client, &fixture, flags[i]));
        CHECK(nbd_client_is_hung_up(&client));
    }
    CHECK(server_lives(&fixture));
    nbd_fixture_done(&fixture);
}

TEST("H3: without FIXED_NEWSTYLE only EXPORT_NAME is understood")
{
    static const uint32_t others[] = {NBD_OPT_LIST, NBD_OPT_GO, 0x7654321};
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t export[10];

    start(&fixture);
    for (size_t i = 0; i < 3; i++) {
        CHECK(nbd_client_greet(&client, &fixture, 0));
        CHECK(nbd_client_send_option(&client, others[i], NULL, 0));
        CHECK(nbd_client_is_hung_up(&client));
    }
    CHECK(nbd_client_greet(&client, &fixture, NO_ZEROES));
    CHECK(nbd_client_send_option(&client, NBD_OPT_EXPORT_NAME, "main", 4));
    CHECK(nbd_client_receive(&client, export, sizeof(export)));
    CHECK(get_be64(export) == NBD_FIXTURE_SIZE);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H4: EXPORT_NAME is followed by 124 zeros unless NO_ZEROES was agreed "
     "upon, and GO never is")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t export[NBD_EXPORT_SIZE + NBD_EXPORT_PADDING];

    start(&fixture);
    for (int no_zeroes = 0; no_zeroes < 2; no_zeroes++) {
        size_t len = no_zeroes ? 10 : 134;

        CHECK(nbd_client_greet(&client, &fixture,
                               FIXED | (no_zeroes ? NO_ZEROES : 0)));
        CHECK(nbd_client_send_option(&client, NBD_OPT_EXPORT_NAME, "main", 4));
        CHECK(nbd_client_receive(&client, export, len));
        CHECK(get_be64(export) == NBD_FIXTURE_SIZE);
        CHECK((get_be16(export + 8) & NBD_FLAG_HAS_FLAGS) != 0);
        CHECK(no_zeroes || bytes_are_zero(export + 10, 124));
        /* The next byte is that of a reply. */
        CHECK(nbd_client_do(&client, 0, NBD_CMD_FLUSH, 0, 0) == 0);
        nbd_client_close(&client);

        CHECK(nbd_client_greet(&client, &fixture,
                               FIXED | (no_zeroes ? NO_ZEROES : 0)));
        CHECK(nbd_client_go(&client, "main"));
        CHECK(nbd_client_do(&client, 0, NBD_CMD_FLUSH, 0, 0) == 0);
        nbd_client_close(&client);
    }
    nbd_fixture_done(&fixture);
}

TEST("H5: an unknown option is answered ERR_UNSUP, its data are skipped, and "
     "the next option is understood")
{
    static const size_t lens[] = {0, 4, 65536, 65537, 1 << 20};
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t *data = calloc(1, 1 << 20);

    NEED(data);
    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    for (size_t i = 0; i < 5; i++) {
        CHECK(nbd_client_ask(&client, 0x7654321, data, lens[i]) ==
              NBD_REP_ERR_UNSUP);
        CHECK(is_in_sync(&client));
    }
    /* PEEK_EXPORT was withdrawn. */
    CHECK(nbd_client_ask(&client, 4, data, 3) == NBD_REP_ERR_UNSUP);
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
    free(data);
}

TEST("H6: a wrong option magic, or a huge length, ends the connection at once")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t bytes[16];

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_send(&client, "IHAVEOPS\0\0\0\3\0\0\0\0", 16));
    CHECK(nbd_client_is_hung_up(&client));
    for (uint32_t option = 0; option <= 12; option++) {
        static const uint32_t lens[] = {UINT32_MAX, UINT32_MAX - 1,
                                        (32 << 20) + 1};

        for (size_t i = 0; i < 3; i++) {
            CHECK(nbd_client_greet(&client, &fixture, FIXED));
            memcpy(bytes, "IHAVEOPT", 8);
            put_be32(bytes + 8, option);
            put_be32(bytes + 12, lens[i]);
            CHECK(nbd_client_send(&client, bytes, 16));
            CHECK(nbd_client_is_hung_up(&client));
        }
    }
    CHECK(server_lives(&fixture));
    nbd_fixture_done(&fixture);
}

TEST("H7: STRUCTURED_REPLY and EXTENDED_HEADERS a second time are invalid")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0) ==
          NBD_REP_ACK);
    CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0) ==
          NBD_REP_ERR_INVALID);
    CHECK(nbd_client_ask(&client, NBD_OPT_EXTENDED_HEADERS, NULL, 0) ==
          NBD_REP_ACK);
    CHECK(nbd_client_ask(&client, NBD_OPT_EXTENDED_HEADERS, NULL, 0) ==
          NBD_REP_ERR_INVALID);
    CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0) ==
          NBD_REP_ERR_INVALID);
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H8: options that are wrong a hundred times are answered a hundred "
     "times, and too many end the connection")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    int answered = 0;

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    for (int i = 0; i < 100; i++)
        CHECK(nbd_client_ask(&client, NBD_OPT_GO, "x", 1) ==
              NBD_REP_ERR_INVALID);
    CHECK(is_in_sync(&client));
    while (nbd_client_ask(&client, NBD_OPT_INFO, "x", 1) != 0)
        answered++;
    CHECK(answered < 2000);
    nbd_client_close(&client);
    CHECK(server_lives(&fixture));
    nbd_fixture_done(&fixture);
}

TEST("H8: a server that is stopping says so to every option but ABORT")
{
    static const struct {
        const char *bytes;
        uint32_t type; /* of the answer, or 0 for none */
        int result;
    } options[] = {
        {"\0\0\0\3IHAVEOPT\0\0\0\3\0\0\0\0", NBD_REP_ERR_SHUTDOWN, -ESHUTDOWN},
        {"\0\0\0\3IHAVEOPT\0\0\0\x77\0\0\0\0", NBD_REP_ERR_SHUTDOWN,
         -ESHUTDOWN},
        {"\0\0\0\3IHAVEOPT\0\0\0\2\0\0\0\0", NBD_REP_ACK, -ECONNABORTED},
        {"\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0", 0, -ESHUTDOWN},
    };
    atomic_bool stopping = true;
    const struct nbd_handshake_options handshake = {
        .exports = NULL, /* never looked at */
        .stopping = &stopping,
        .deadline_ns = STREAM_FOREVER,
    };

    for (size_t i = 0; i < 4; i++) {
        struct nbd_client client = {0};
        struct nbd_client_answer answer;
        struct nbd_session session;
        struct stream *stream;
        uint8_t greeting[NBD_GREETING_SIZE];
        int fds[2];

        NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        NEED(stream_open(fds[0], &stream) == 0);
        client.fd = fds[1];
        CHECK(nbd_client_send(&client, options[i].bytes, 20));
        CHECK(nbd_handshake(&handshake, &stream, &session) ==
              options[i].result);
        stream_close(stream);
        CHECK(nbd_client_receive(&client, greeting, sizeof(greeting)));
        if (options[i].type != 0) {
            CHECK(nbd_client_receive_answer(&client, &answer));
            CHECK(answer.type == options[i].type);
        }
        CHECK(nbd_client_is_hung_up(&client));
    }
}

TEST("H9: EXPORT_NAME of an unknown export, or with an impossible name, ends "
     "the connection; the empty name is the first export")
{
    static const char bad_utf8[] = "\xff\xfe";
    struct nbd_fixture fixture;
    struct nbd_client client;
    char *name = malloc(4097);
    uint8_t export[10];

    NEED(name);
    memset(name, 'x', 4097);
    start(&fixture);
    for (int i = 0; i < 6; i++) {
        static const size_t lens[] = {4096, 4097, 3, 5, 2, 4};
        const char *names[] = {name, name, "mai", "main\0", bad_utf8, "MAIN"};

        CHECK(nbd_client_greet(&client, &fixture, FIXED | NO_ZEROES));
        CHECK(nbd_client_send_option(&client, NBD_OPT_EXPORT_NAME, names[i],
                                     lens[i]));
        CHECK(nbd_client_is_hung_up(&client));
    }
    CHECK(nbd_client_greet(&client, &fixture, FIXED | NO_ZEROES));
    CHECK(nbd_client_send_option(&client, NBD_OPT_EXPORT_NAME, NULL, 0));
    CHECK(nbd_client_receive(&client, export, sizeof(export)));
    CHECK(get_be64(export) == NBD_FIXTURE_SIZE);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
    free(name);
}

TEST("H10: ABORT is acknowledged, whatever data it has, and then the "
     "connection ends; the client need not wait for it")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    for (size_t len = 0; len < 6; len += 5) {
        CHECK(nbd_client_greet(&client, &fixture, FIXED));
        CHECK(nbd_client_ask(&client, NBD_OPT_ABORT, "bye!!", len) ==
              NBD_REP_ACK);
        CHECK(nbd_client_is_hung_up(&client));
    }
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_send_option(&client, NBD_OPT_ABORT, NULL, 0));
    nbd_client_close(&client);
    nbd_fixture_wait_connections(&fixture, 0);
    CHECK(server_lives(&fixture));
    nbd_fixture_done(&fixture);
}

TEST("H11: LIST tells names and descriptions, and is invalid with data")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct nbd_client_answer answer;

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_send_option(&client, NBD_OPT_LIST, NULL, 0));
    CHECK(nbd_client_receive_answer(&client, &answer));
    CHECK(answer.type == NBD_REP_SERVER && answer.len == 4 + 4 + 15);
    CHECK(memcmp(answer.data, "\0\0\0\4maina disk of 8 MiB", 23) == 0);
    CHECK(nbd_client_receive_answer(&client, &answer));
    CHECK(answer.type == NBD_REP_SERVER && answer.len == 4 + 6);
    CHECK(memcmp(answer.data, "\0\0\0\6second", 10) == 0);
    CHECK(nbd_client_receive_answer(&client, &answer));
    CHECK(answer.type == NBD_REP_ACK);
    CHECK(nbd_client_ask(&client, NBD_OPT_LIST, "x", 1) == NBD_REP_ERR_INVALID);
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H12: INFO and GO with lengths that contradict each other are invalid, "
     "and leave the connection in step")
{
    static const struct {
        size_t len;
        const char *data;
    } wrong[] = {
        {0, ""},
        {1, "\0"},
        {4, "\0\0\0\0"},
        {5, "\0\0\0\0\0"},
        {6, "\0\0\0\1\0\0"},              /* the name takes the count */
        {10, "\0\0\0\5main\0\0"},         /* one too many */
        {10, "\xff\xff\xff\xffmain\0\0"}, /* CVE-2022-26495 */
        {10, "\xff\xff\xff\xfemain\0\0"},
        {10, "\x7f\xff\xff\xffmain\0\0"},
        {10, "\0\0\0\4main\0\1"},      /* a type is missing */
        {11, "\0\0\0\4main\0\1\0"},    /* half a type */
        {12, "\0\0\0\4main\0\0\0\3"},  /* a type too many */
        {13, "\0\0\0\4main\0\1\0\3x"}, /* trailing byte */
        {10, "\0\0\0\4main\xff\xff"},
        {10, "\0\0\0\4ma\0n\0\0"},       /* NUL in a name */
        {8, "\0\0\0\2\xc0\x80\0\0"},     /* overlong NUL */
        {9, "\0\0\0\3\xed\xa0\x80\0\0"}, /* a surrogate */
    };
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK(nbd_client_ask(&client, NBD_OPT_INFO, wrong[i].data,
                             wrong[i].len) == NBD_REP_ERR_INVALID);
        CHECK(nbd_client_ask(&client, NBD_OPT_GO, wrong[i].data,
                             wrong[i].len) == NBD_REP_ERR_INVALID);
        CHECK(is_in_sync(&client));
    }
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H12: the data of an option may be too long to look at, and are skipped")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t *data = calloc(1, 70000);

    NEED(data);
    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_ask(&client, NBD_OPT_GO, data, 70000) ==
          NBD_REP_ERR_TOO_BIG);
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
    free(data);
}

/* What INFO or GO told. */
struct infos {
    uint64_t size;
    uint16_t flags;
    int exports, names, descriptions, block_sizes;
    uint32_t minimum, preferred, maximum;
    char name[64], description[64];
};

static bool receive_infos(struct nbd_client *client, struct infos *infos)
{
    struct nbd_client_answer answer;

    memset(infos, 0, sizeof(*infos));
    for (;;) {
        if (!nbd_client_receive_answer(client, &answer))
            return false;
        if (answer.type != NBD_REP_INFO)
            return answer.type == NBD_REP_ACK && answer.len == 0;
        switch (get_be16(answer.data)) {
        case NBD_INFO_EXPORT:
            infos->exports += answer.len == 12;
            infos->size = get_be64(answer.data + 2);
            infos->flags = get_be16(answer.data + 10);
            break;
        case NBD_INFO_NAME:
            infos->names++;
            memcpy(infos->name, answer.data + 2, answer.len - 2);
            break;
        case NBD_INFO_DESCRIPTION:
            infos->descriptions++;
            memcpy(infos->description, answer.data + 2, answer.len - 2);
            break;
        case NBD_INFO_BLOCK_SIZE:
            infos->block_sizes += answer.len == 14;
            infos->minimum = get_be32(answer.data + 2);
            infos->preferred = get_be32(answer.data + 6);
            infos->maximum = get_be32(answer.data + 10);
            break;
        default:
            return false;
        }
    }
}

TEST("H13: INFO tells EXPORT and BLOCK_SIZE always, NAME and DESCRIPTION when "
     "asked, and ignores what it does not know")
{
    static const uint16_t types[] = {77, NBD_INFO_NAME, 0xffff,
                                     NBD_INFO_DESCRIPTION};
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct infos infos;
    uint8_t data[64];

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_send_option(&client, NBD_OPT_INFO, data,
                                 nbd_client_put_info(data, "main", NULL, 0)));
    CHECK(receive_infos(&client, &infos));
    CHECK(infos.exports == 1 && infos.block_sizes == 1);
    CHECK(infos.names == 0 && infos.descriptions == 0);
    CHECK(infos.size == NBD_FIXTURE_SIZE);

    CHECK(nbd_client_send_option(&client, NBD_OPT_INFO, data,
                                 nbd_client_put_info(data, "", types, 4)));
    CHECK(receive_infos(&client, &infos));
    CHECK(infos.exports == 1 && infos.names == 1 && infos.descriptions == 1);
    CHECK(strcmp(infos.name, "main") == 0);
    CHECK(strcmp(infos.description, "a disk of 8 MiB") == 0);
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H14: an unknown export is ERR_UNKNOWN without any INFO, also with a "
     "name of 4096 bytes; GO after INFO tells the same")
{
    static uint8_t data[8192];
    char *name = calloc(1, 4097);
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct infos info, go;
    size_t len;

    NEED(name);
    memset(name, 'x', 4096);
    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    len = nbd_client_put_info(data, name, NULL, 0);
    CHECK(nbd_client_ask(&client, NBD_OPT_INFO, data, len) ==
          NBD_REP_ERR_UNKNOWN);
    CHECK(nbd_client_ask(&client, NBD_OPT_GO, data, len) ==
          NBD_REP_ERR_UNKNOWN);
    CHECK(is_in_sync(&client));
    len = nbd_client_put_info(data, "main", NULL, 0);
    CHECK(nbd_client_send_option(&client, NBD_OPT_INFO, data, len));
    CHECK(receive_infos(&client, &info));
    CHECK(nbd_client_send_option(&client, NBD_OPT_GO, data, len));
    CHECK(receive_infos(&client, &go));
    CHECK(memcmp(&info, &go, sizeof(info)) == 0);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
    free(name);
}

TEST("H15: a client that does not ask for block sizes gets in, and may send "
     "single bytes")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    char byte;

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_go(&client, "main"));
    CHECK(nbd_client_write(&client, 0, 4095, "x", 1) == 0);
    CHECK(nbd_client_read(&client, 0, 4095, &byte, 1) == 0 && byte == 'x');
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H16: block sizes are powers of two in order, and 32 MiB is the most")
{
    static const uint16_t types[] = {NBD_INFO_BLOCK_SIZE};
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct infos infos;
    uint8_t data[64];

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_send_option(&client, NBD_OPT_INFO, data,
                                 nbd_client_put_info(data, "main", types, 1)));
    CHECK(receive_infos(&client, &infos));
    CHECK(infos.block_sizes == 1);
    CHECK(infos.minimum == 1 && infos.preferred == 4096);
    CHECK(infos.maximum == 32 << 20);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H17: STRUCTURED_REPLY has no data; after it a READ is answered in "
     "chunks")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    char bytes[16];

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, "x", 1) ==
          NBD_REP_ERR_INVALID);
    CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0) ==
          NBD_REP_ACK);
    CHECK(nbd_client_go(&client, "main"));
    CHECK((client.flags & NBD_FLAG_SEND_DF) != 0);
    client.structured = true;
    CHECK(nbd_client_read(&client, 0, 0, bytes, sizeof(bytes)) == 0);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

/* Ask about contexts: how many are answered, or -1 for an error in *type. */
static int contexts(struct nbd_client *client, uint32_t option,
                    const char *export, const char *const queries[],
                    size_t count, uint32_t *type)
{
    struct nbd_client_answer answer;
    uint8_t data[256];
    size_t len = nbd_client_put_context(data, export, queries, count);
    int found = 0;

    *type = 0;
    if (!nbd_client_send_option(client, option, data, len))
        return -1;
    for (;;) {
        if (!nbd_client_receive_answer(client, &answer))
            return -1;
        *type = answer.type;
        if (answer.type != NBD_REP_META_CONTEXT)
            return answer.type == NBD_REP_ACK ? found : -1;
        if (option == NBD_OPT_LIST_META_CONTEXT && answer.len > 27 &&
            memcmp(answer.data + 4, "x-s3blkdev:incarnation/", 23) == 0) {
            found++;
            continue;
        }
        if (answer.len != 19 ||
            memcmp(answer.data + 4, "base:allocation", 15) != 0)
            return -1;
        if (option == NBD_OPT_SET_META_CONTEXT && get_be32(answer.data) != 1)
            return -1;
        found++;
    }
}

TEST("H18: contexts are listed and selected by name, base: is a wildcard only "
     "in LIST, and what is unknown is passed over")
{
    static const char *const allocation[] = {"base:allocation"};
    static const char *const twice[] = {"base:allocation", "base:allocation"};
    static const char *const wildcard[] = {"base:"};
    static const char *const unknown[] = {"base:depth", "qemu:dirty-bitmap:x",
                                          "x", ""};
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint32_t list = NBD_OPT_LIST_META_CONTEXT, set = NBD_OPT_SET_META_CONTEXT;
    uint32_t type;

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(contexts(&client, set, "main", allocation, 1, &type) == -1);
    CHECK(type == NBD_REP_ERR_INVALID);
    CHECK(contexts(&client, list, "main", allocation, 1, &type) == -1);
    CHECK(type == NBD_REP_ERR_INVALID);
    CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0) ==
          NBD_REP_ACK);
    CHECK(contexts(&client, list, "main", NULL, 0, &type) == 2);
    CHECK(contexts(&client, list, "main", wildcard, 1, &type) == 1);
    CHECK(contexts(&client, list, "main", allocation, 1, &type) == 1);
    CHECK(contexts(&client, list, "main", unknown, 4, &type) == 0);
    CHECK(contexts(&client, list, "nope", NULL, 0, &type) == -1);
    CHECK(type == NBD_REP_ERR_UNKNOWN);
    CHECK(contexts(&client, set, "main", NULL, 0, &type) == 0);
    CHECK(contexts(&client, set, "main", wildcard, 1, &type) == 0);
    CHECK(contexts(&client, set, "main", unknown, 4, &type) == 0);
    CHECK(contexts(&client, set, "nope", allocation, 1, &type) == -1);
    CHECK(type == NBD_REP_ERR_UNKNOWN);
    CHECK(contexts(&client, set, "main", twice, 2, &type) == 1);
    CHECK(contexts(&client, set, "main", allocation, 1, &type) == 1);
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST(
    "H23: the incarnation of the device is in a list of contexts, and cannot be "
    "selected")
{
    static const char expected[] =
        "x-s3blkdev:incarnation/000102030405060708090a0b0c0d0e0f-7";
    static const char *const queries[] = {
        "x-s3blkdev:incarnation", "x-s3blkdev:", expected, "x-s3blkdev"};
    struct nbd_client_answer answer;
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t data[256];
    uint32_t type;

    start(&fixture);
    memory_device_set_incarnation(fixture.device, 7);
    NEED(nbd_client_greet(&client, &fixture, 3));
    CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0) ==
          NBD_REP_ACK);
    for (size_t i = 0; i < 4; i++) {
        size_t len = nbd_client_put_context(data, "main", &queries[i], 1);

        CHECK(contexts(&client, NBD_OPT_SET_META_CONTEXT, "main", &queries[i],
                       1, &type) == 0);
        CHECK(nbd_client_send_option(&client, NBD_OPT_LIST_META_CONTEXT, data,
                                     len));
        CHECK(nbd_client_receive_answer(&client, &answer));
        if (i < 2) {
            CHECK(answer.type == NBD_REP_META_CONTEXT);
            CHECK(answer.len == 4 + strlen(expected) &&
                  memcmp(answer.data + 4, expected, strlen(expected)) == 0);
            CHECK(nbd_client_receive_answer(&client, &answer));
        }
        CHECK(answer.type == NBD_REP_ACK);
    }
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H18: context options with lengths that contradict each other are "
     "invalid, and leave the connection in step")
{
    static const struct {
        size_t len;
        const char *data;
    } wrong[] = {
        {0, ""},
        {7, "\0\0\0\0\0\0\0"},
        {8, "\0\0\0\0\0\0\0\1"},
        {12, "\0\0\0\4main\0\0\0\1"},
        {16, "\0\0\0\4main\0\0\0\1\0\0\0\1"},
        {16, "\0\0\0\4main\0\0\0\1\xff\xff\xff\xff"},
        {12, "\xff\xff\xff\xffmain\0\0\0\0"},
        {13, "\0\0\0\4main\0\0\0\0x"},
        {16, "\0\0\0\4main\xff\xff\xff\xff\0\0\0\0"},
    };
    static const uint32_t options[] = {NBD_OPT_LIST_META_CONTEXT,
                                       NBD_OPT_SET_META_CONTEXT};
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0) ==
          NBD_REP_ACK);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        for (size_t j = 0; j < 2; j++)
            CHECK(nbd_client_ask(&client, options[j], wrong[i].data,
                                 wrong[i].len) == NBD_REP_ERR_INVALID);
        CHECK(is_in_sync(&client));
    }
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

/* Whether block status is served after GO to the export. */
static bool has_status(struct nbd_client *client, const char *export)
{
    struct nbd_client_chunk chunk;
    uint8_t data[64];

    client->structured = true;
    return nbd_client_go(client, export) &&
           nbd_client_request(client, 0, NBD_CMD_BLOCK_STATUS, 9, 0, 4096) &&
           nbd_client_chunk(client, &chunk) &&
           nbd_client_receive(client, data, (size_t)chunk.length) &&
           chunk.type == NBD_REPLY_BLOCK_STATUS;
}

TEST("H18, H19: a selection replaces the one before also when it fails, and "
     "holds only for its export")
{
    static const char *const allocation[] = {"base:allocation"};
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint32_t set = NBD_OPT_SET_META_CONTEXT;
    uint32_t type;
    static uint8_t long_data[70000];

    start(&fixture);
    for (int i = 0; i < 6; i++) {
        CHECK(nbd_client_greet(&client, &fixture, FIXED));
        CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0) ==
              NBD_REP_ACK);
        CHECK(contexts(&client, set, i == 1 ? "" : "main", allocation, 1,
                       &type) == 1);
        if (i == 2)
            CHECK(contexts(&client, set, "main", NULL, 0, &type) == 0);
        if (i == 3)
            CHECK(contexts(&client, set, "nope", NULL, 0, &type) == -1);
        if (i == 4)
            CHECK(nbd_client_ask(&client, set, "x", 1) == NBD_REP_ERR_INVALID);
        if (i == 5)
            CHECK(nbd_client_ask(&client, set, long_data, sizeof(long_data)) ==
                  NBD_REP_ERR_TOO_BIG);
        CHECK(has_status(&client, "main") == (i < 2));
        nbd_client_close(&client);
    }
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_ask(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0) ==
          NBD_REP_ACK);
    CHECK(contexts(&client, set, "main", allocation, 1, &type) == 1);
    CHECK(!has_status(&client, "second"));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("H20: without TLS, STARTTLS is refused by policy, and nothing ever says "
     "that TLS is required")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_ask(&client, NBD_OPT_STARTTLS, NULL, 0) ==
          NBD_REP_ERR_POLICY);
    CHECK(nbd_client_ask(&client, NBD_OPT_STARTTLS, "x", 1) ==
          NBD_REP_ERR_INVALID);
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

/* Greet, start TLS with these options, and be a client over it. */
static bool enter_tls(struct nbd_client *client,
                      const struct nbd_fixture *fixture,
                      const struct tls_client_setup *options)
{
    if (!nbd_client_greet(client, fixture, FIXED | NO_ZEROES) ||
        nbd_client_ask(client, NBD_OPT_STARTTLS, NULL, 0) != NBD_REP_ACK)
        return false;
    client->tls = tls_client_start(options, client->fd);
    return client->tls != NULL;
}

TEST("H20: STARTTLS works with a certificate and with a key, and requests "
     "pass through it; a second one is invalid")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    char bytes[10000], back[10000];

    start_tls(&fixture, false, false);
    memset(bytes, 'b', sizeof(bytes));
    for (int psk = 0; psk < 2; psk++) {
        const struct tls_client_setup options = {.dir = test_dir(),
                                                 .psk = psk == 1};

        CHECK(enter_tls(&client, &fixture, &options));
        CHECK(nbd_client_ask(&client, NBD_OPT_STARTTLS, NULL, 0) ==
              NBD_REP_ERR_INVALID);
        CHECK(is_in_sync(&client));
        CHECK(nbd_client_go(&client, "main"));
        CHECK(nbd_client_write(&client, 0, 777, bytes, sizeof(bytes)) == 0);
        CHECK(nbd_client_read(&client, 0, 777, back, sizeof(back)) == 0);
        CHECK(memcmp(bytes, back, sizeof(back)) == 0);
        nbd_client_close(&client);
    }
    stop_tls(&fixture);
}

TEST("H20: what was agreed upon in plain text is forgotten when TLS starts "
     "(CVE-2021-3716)")
{
    static const char *const allocation[] = {"base:allocation"};
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint32_t type;
    char byte;

    start_tls(&fixture, false, false);
    CHECK(nbd_client_greet(&client, &fixture, FIXED | NO_ZEROES));
    CHECK(nbd_client_ask(&client, NBD_OPT_EXTENDED_HEADERS, NULL, 0) ==
          NBD_REP_ACK);
    CHECK(contexts(&client, NBD_OPT_SET_META_CONTEXT, "main", allocation, 1,
                   &type) == 1);
    CHECK(nbd_client_ask(&client, NBD_OPT_STARTTLS, NULL, 0) == NBD_REP_ACK);
    client.tls = tls_client_start(&(struct tls_client_setup){.dir = test_dir()},
                                  client.fd);
    NEED(client.tls);
    CHECK(contexts(&client, NBD_OPT_SET_META_CONTEXT, "main", allocation, 1,
                   &type) == -1);
    CHECK(type == NBD_REP_ERR_INVALID);
    CHECK(nbd_client_go(&client, "main"));
    CHECK((client.flags & NBD_FLAG_SEND_DF) == 0);
    /* A simple reply to a request of 28 bytes. */
    CHECK(nbd_client_read(&client, 0, 0, &byte, 1) == 0);
    nbd_client_close(&client);
    stop_tls(&fixture);
}

TEST("H20: options that were sent in plain text behind STARTTLS are not "
     "interpreted, and end the connection")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t bytes[32];

    start_tls(&fixture, false, false);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    memcpy(bytes, "IHAVEOPT\0\0\0\5\0\0\0\0IHAVEOPT\0\0\0\3\0\0\0\0", 32);
    CHECK(nbd_client_send(&client, bytes, 32));
    CHECK(nbd_client_receive(&client, bytes, 20));
    CHECK(get_be32(bytes + 12) == NBD_REP_ACK);
    /* At most an alert of TLS follows, and then the end. */
    CHECK(!nbd_client_receive(&client, bytes, 20));
    nbd_client_close(&client);
    CHECK(server_lives(&fixture));
    stop_tls(&fixture);
}

TEST("H20: a TLS handshake that fails ends the connection: no TLS at all, a "
     "wrong key, an old version")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    static char garbage[4096];

    start_tls(&fixture, false, false);
    memset(garbage, 'g', sizeof(garbage));
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_ask(&client, NBD_OPT_STARTTLS, NULL, 0) == NBD_REP_ACK);
    (void)nbd_client_send(&client, garbage, sizeof(garbage));
    CHECK(!nbd_client_receive(&client, garbage, sizeof(garbage)));
    nbd_client_close(&client);

    CHECK(
        !enter_tls(&client, &fixture,
                   &(struct tls_client_setup){.psk = true, .wrong_psk = true}));
    nbd_client_close(&client);
    CHECK(!enter_tls(
        &client, &fixture,
        &(struct tls_client_setup){
            .dir = test_dir(), .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1"}));
    nbd_client_close(&client);
    CHECK(enter_tls(
        &client, &fixture,
        &(struct tls_client_setup){
            .dir = test_dir(), .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2"}));
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    stop_tls(&fixture);
}

TEST("H21: with TLS required, everything but STARTTLS and ABORT is told so "
     "before, and nothing after")
{
    static const uint32_t options[] = {NBD_OPT_LIST,
                                       NBD_OPT_INFO,
                                       NBD_OPT_GO,
                                       NBD_OPT_STRUCTURED_REPLY,
                                       NBD_OPT_LIST_META_CONTEXT,
                                       NBD_OPT_SET_META_CONTEXT,
                                       NBD_OPT_EXTENDED_HEADERS,
                                       0x7654321,
                                       0};
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t data[64];
    size_t len = nbd_client_put_info(data, "main", NULL, 0);

    start_tls(&fixture, true, false);
    CHECK(nbd_client_greet(&client, &fixture, FIXED | NO_ZEROES));
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        CHECK(nbd_client_ask(&client, options[i], data, len) ==
              NBD_REP_ERR_TLS_REQD);
    }
    CHECK(nbd_client_ask(&client, NBD_OPT_STARTTLS, NULL, 0) == NBD_REP_ACK);
    client.tls = tls_client_start(&(struct tls_client_setup){.dir = test_dir()},
                                  client.fd);
    NEED(client.tls);
    CHECK(is_in_sync(&client));
    CHECK(nbd_client_go(&client, "main"));
    nbd_client_close(&client);

    CHECK(nbd_client_greet(&client, &fixture, FIXED | NO_ZEROES));
    CHECK(nbd_client_send_option(&client, NBD_OPT_EXPORT_NAME, "main", 4));
    CHECK(nbd_client_is_hung_up(&client));
    CHECK(nbd_client_greet(&client, &fixture, FIXED | NO_ZEROES));
    CHECK(nbd_client_ask(&client, NBD_OPT_ABORT, NULL, 0) == NBD_REP_ACK);
    CHECK(nbd_client_is_hung_up(&client));
    stop_tls(&fixture);
}

TEST("H21: with TLS allowed, a client in plain text gets in")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start_tls(&fixture, false, false);
    CHECK(nbd_client_greet(&client, &fixture, FIXED | NO_ZEROES));
    CHECK(is_in_sync(&client));
    CHECK(nbd_client_go(&client, "main"));
    nbd_client_close(&client);
    stop_tls(&fixture);
}

TEST("H21: when clients are verified, one that the authority signed gets in, "
     "and one with no certificate or another's does not")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    bool got_in;

    start_tls(&fixture, true, true);
    CHECK(enter_tls(&client, &fixture,
                    &(struct tls_client_setup){.dir = test_dir(),
                                               .certificate = "client"}));
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    for (int i = 0; i < 2; i++) {
        /* Under TLS 1.3 the client believes to be in until it reads. */
        got_in = enter_tls(&client, &fixture,
                           &(struct tls_client_setup){
                               .dir = test_dir(),
                               .certificate = i == 0 ? "other" : NULL}) &&
                 is_in_sync(&client);
        CHECK(!got_in);
        nbd_client_close(&client);
    }
    /* A client with a key has shown who it is. */
    CHECK(
        enter_tls(&client, &fixture, &(struct tls_client_setup){.psk = true}));
    CHECK(is_in_sync(&client));
    nbd_client_close(&client);
    stop_tls(&fixture);
}

TEST("the device is not touched before the client has been let in "
     "(CVE-2019-14850)")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t data[64];
    size_t len = nbd_client_put_info(data, "main", NULL, 0);

    start_tls(&fixture, true, false);
    CHECK(nbd_client_greet(&client, &fixture, FIXED));
    CHECK(nbd_client_ask(&client, NBD_OPT_GO, data, len) ==
          NBD_REP_ERR_TLS_REQD);
    CHECK(nbd_client_request(&client, 0, NBD_CMD_FLUSH, 1, 0, 0));
    CHECK(nbd_client_is_hung_up(&client));
    CHECK(memory_device_seen(fixture.device).count[DEVICE_FLUSH] == 0);
    stop_tls(&fixture);
}

TEST("flags tell what the export can do: a read-only one, one without a "
     "volatile cache, and one with extended headers")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    const int always = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FUA |
                       NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;
    const int writable = NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
                         NBD_FLAG_SEND_FAST_ZERO;

    nbd_fixture_init(&fixture, test_dir());
    memory_device_set_write_through(fixture.second, true);
    nbd_fixture_start(&fixture);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(client.flags == (always | writable | NBD_FLAG_SEND_FLUSH));
    nbd_client_close(&client);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_EXTENDED, "main"));
    CHECK(client.flags == (always | writable | NBD_FLAG_SEND_FLUSH |
                           NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STATUS_PAYLOAD));
    nbd_client_close(&client);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "second"));
    CHECK(client.flags == (always | NBD_FLAG_READ_ONLY));
    CHECK(client.size == 1 << 20);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("a client may leave after any byte of the handshake, and only its own "
     "connection ends (CVE-2011-1925, CVE-2013-7441, CVE-2017-9524)")
{
    static const uint8_t stream[] =
        "\0\0\0\3"
        "IHAVEOPT\0\0\0\10\0\0\0\0"
        "IHAVEOPT\0\0\0\12\0\0\0\37\0\0\0\4main\0\0\0\1\0\0\0\17base:allocation"
        "IHAVEOPT\0\0\0\7\0\0\0\14\0\0\0\4main\0\1\0\3";
    struct nbd_fixture fixture;
    struct nbd_client client = {0};

    start(&fixture);
    for (size_t len = 0; len < sizeof(stream); len++) {
        client.fd = nbd_fixture_connect(&fixture);
        CHECK(nbd_client_send(&client, stream, len));
        nbd_client_close(&client);
    }
    nbd_fixture_wait_connections(&fixture, 0);
    CHECK(server_lives(&fixture));
    nbd_fixture_done(&fixture);
}

TEST("options in every order of three do no harm (CVE-2019-14851)")
{
    static const uint32_t options[] = {NBD_OPT_LIST,
                                       NBD_OPT_STARTTLS,
                                       NBD_OPT_INFO,
                                       NBD_OPT_STRUCTURED_REPLY,
                                       NBD_OPT_SET_META_CONTEXT,
                                       NBD_OPT_EXTENDED_HEADERS};
    static const char *const allocation[] = {"base:allocation"};
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct nbd_client_answer answer;
    uint8_t info[64], context[64];
    size_t info_len = nbd_client_put_info(info, "main", NULL, 0);
    size_t context_len = nbd_client_put_context(context, "main", allocation, 1);
    char byte;

    start(&fixture);
    for (int order = 0; order < 6 * 6 * 6; order++) {
        CHECK(nbd_client_greet(&client, &fixture, FIXED | NO_ZEROES));
        for (int step = 0, left = order; step < 3; step++, left /= 6) {
            uint32_t option = options[left % 6];

            if (option == NBD_OPT_INFO)
                CHECK(nbd_client_send_option(&client, option, info, info_len));
            else if (option == NBD_OPT_SET_META_CONTEXT)
                CHECK(nbd_client_send_option(&client, option, context,
                                             context_len));
            else
                CHECK(nbd_client_send_option(&client, option, NULL, 0));
            do {
                CHECK(nbd_client_receive_answer(&client, &answer));
                if (option == NBD_OPT_EXTENDED_HEADERS &&
                    answer.type == NBD_REP_ACK)
                    client.extended = client.structured = true;
                if (option == NBD_OPT_STRUCTURED_REPLY &&
                    answer.type == NBD_REP_ACK)
                    client.structured = true;
            } while (answer.type > NBD_REP_ACK &&
                     answer.type <= NBD_REP_META_CONTEXT);
        }
        CHECK(nbd_client_go(&client, "main"));
        CHECK(nbd_client_read(&client, 0, 0, &byte, 1) == 0);
        nbd_client_close(&client);
    }
    nbd_fixture_done(&fixture);
}

TEST("a handshake that dawdles is closed, wherever it has come to "
     "(CVE-2024-7409)")
{
    static const uint8_t stream[] = "\0\0\0\3IHAVEOPT\0\0\0\7\0\0\0\14";
    struct nbd_fixture fixture;
    struct nbd_client clients[4];
    uint8_t greeting[NBD_GREETING_SIZE];

    nbd_fixture_init(&fixture, test_dir());
    fixture.options.handshake_timeout_ms = 20;
    nbd_fixture_start(&fixture);
    for (size_t i = 0; i < 4; i++) {
        clients[i] = (struct nbd_client){.fd = nbd_fixture_connect(&fixture)};
        (void)nbd_client_send(&clients[i], stream, i * 6);
    }
    for (size_t i = 0; i < 4; i++) {
        CHECK(nbd_client_receive(&clients[i], greeting, sizeof(greeting)));
        CHECK(nbd_client_is_hung_up(&clients[i]));
    }
    nbd_fixture_done(&fixture);
}
