/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/nbd_client.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/net.h"
#include "cache/device.h"
#include "support/memory_device.h"
#include "support/tls_client.h"

/* ---- the server --------------------------------------------------------- */

void nbd_fixture_init(struct nbd_fixture *fixture, const char *dir)
{
    *fixture = (struct nbd_fixture){0};
    fixture->device = memory_device_new(NBD_FIXTURE_SIZE);
    fixture->second = memory_device_new(1 << 20);
    fixture->exports[0] = (struct nbd_export){
        .device = fixture->device,
        .name = "main",
        .description = "a disk of 8 MiB",
    };
    fixture->exports[1] = (struct nbd_export){
        .device = fixture->second,
        .name = "second",
        .read_only = true,
    };
    fixture->options.exports = fixture->exports;
    fixture->options.exports_count = 2;
    (void)snprintf(fixture->socket, sizeof(fixture->socket), "%s/nbd.sock",
                   dir);
}

void nbd_fixture_start(struct nbd_fixture *fixture)
{
    int error = nbd_server_start(&fixture->options, &fixture->server);
    int fd = net_listen_unix(fixture->socket, 0600);

    assert(error == 0 && fd >= 0);
    error = nbd_server_listen(fixture->server, fd);
    assert(error == 0);
}

void nbd_fixture_done(struct nbd_fixture *fixture)
{
    if (fixture->server) {
        (void)nbd_server_stop(fixture->server, 1000);
        nbd_server_free(fixture->server);
    }
    (void)device_close(fixture->device);
    (void)device_close(fixture->second);
}

int nbd_fixture_connect(const struct nbd_fixture *fixture)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert(fd >= 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s",
                   fixture->socket);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

void nbd_fixture_wait_connections(const struct nbd_fixture *fixture,
                                  size_t count)
{
    struct nbd_server_status status;

    for (;;) {
        nbd_server_status(fixture->server, &status);
        if (status.connections == count)
            return;
        (void)sched_yield();
    }
}

/* ---- bytes -------------------------------------------------------------- */

bool nbd_client_send(struct nbd_client *client, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        ssize_t sent = client->tls ? tls_client_send(client->tls, from, len)
                                   : send(client->fd, from, len, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        from += sent;
        len -= (size_t)sent;
    }
    return true;
}

bool nbd_client_receive(struct nbd_client *client, void *data, size_t len)
{
    uint8_t *to = data;

    while (len > 0) {
        ssize_t got = client->tls ? tls_client_receive(client->tls, to, len)
                                  : recv(client->fd, to, len, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        to += got;
        len -= (size_t)got;
    }
    return true;
}

void nbd_client_close(struct nbd_client *client)
{
    tls_client_free(client->tls);
    client->tls = NULL;
    if (client->fd >= 0)
        (void)close(client->fd);
    client->fd = -1;
}

bool nbd_client_is_hung_up(struct nbd_client *client)
{
    uint8_t byte;
    bool more = nbd_client_receive(client, &byte, 1);

    nbd_client_close(client);
    return !more;
}

/* ---- the handshake ------------------------------------------------------ */

bool nbd_client_greet(struct nbd_client *client,
                      const struct nbd_fixture *fixture, uint32_t flags)
{
    uint8_t bytes[NBD_GREETING_SIZE];

    *client = (struct nbd_client){.fd = nbd_fixture_connect(fixture)};
    if (client->fd < 0 || !nbd_client_receive(client, bytes, sizeof(bytes)) ||
        memcmp(bytes, "NBDMAGICIHAVEOPT", 16) != 0 || get_be16(bytes + 16) != 3)
        return false;
    put_be32(bytes, flags);
    return nbd_client_send(client, bytes, 4);
}

bool nbd_client_send_option(struct nbd_client *client, uint32_t option,
                            const void *data, size_t len)
{
    uint8_t bytes[NBD_OPTION_SIZE + 8192];
    size_t part = len < 8192 ? len : 8192;

    memcpy(bytes, "IHAVEOPT", 8);
    put_be32(bytes + 8, option);
    put_be32(bytes + 12, (uint32_t)len);
    /* Together: a server that hangs up at the head has received the data. */
    if (part > 0)
        memcpy(bytes + NBD_OPTION_SIZE, data, part);
    return nbd_client_send(client, bytes, NBD_OPTION_SIZE + part) &&
           nbd_client_send(client, (const uint8_t *)data + part, len - part);
}

bool nbd_client_receive_answer(struct nbd_client *client,
                               struct nbd_client_answer *answer)
{
    uint8_t bytes[NBD_OPTION_REPLY_SIZE];

    if (!nbd_client_receive(client, bytes, sizeof(bytes)) ||
        get_be64(bytes) != NBD_OPTION_REPLY_MAGIC)
        return false;
    answer->option = get_be32(bytes + 8);
    answer->type = get_be32(bytes + 12);
    answer->len = get_be32(bytes + 16);
    return answer->len <= sizeof(answer->data) &&
           nbd_client_receive(client, answer->data, answer->len);
}

uint32_t nbd_client_ask(struct nbd_client *client, uint32_t option,
                        const void *data, size_t len)
{
    struct nbd_client_answer answer;

    if (!nbd_client_send_option(client, option, data, len) ||
        !nbd_client_receive_answer(client, &answer) || answer.option != option)
        return 0;
    return answer.type;
}

static size_t put_string(uint8_t *to, const char *string)
{
    size_t len = strlen(string);

    put_be32(to, (uint32_t)len);
    memcpy(to + 4, string, len);
    return 4 + len;
}

size_t nbd_client_put_info(uint8_t *to, const char *name, const uint16_t *types,
                           size_t count)
{
    size_t len = put_string(to, name);

    put_be16(to + len, (uint16_t)count);
    len += 2;
    for (size_t i = 0; i < count; i++, len += 2)
        put_be16(to + len, types[i]);
    return len;
}

size_t nbd_client_put_context(uint8_t *to, const char *name,
                              const char *const queries[], size_t count)
{
    size_t len = put_string(to, name);

    put_be32(to + len, (uint32_t)count);
    len += 4;
    for (size_t i = 0; i < count; i++)
        len += put_string(to + len, queries[i]);
    return len;
}

bool nbd_client_go(struct nbd_client *client, const char *name)
{
    struct nbd_client_answer answer;
    uint8_t data[64];

    if (!nbd_client_send_option(client, NBD_OPT_GO, data,
                                nbd_client_put_info(data, name, NULL, 0)))
        return false;
    do {
        if (!nbd_client_receive_answer(client, &answer))
            return false;
        if (answer.type == NBD_REP_INFO && answer.len == 12 &&
            get_be16(answer.data) == NBD_INFO_EXPORT) {
            client->size = get_be64(answer.data + 2);
            client->flags = get_be16(answer.data + 10);
        }
    } while (answer.type == NBD_REP_INFO);
    return answer.type == NBD_REP_ACK;
}

bool nbd_client_enter(struct nbd_client *client,
                      const struct nbd_fixture *fixture,
                      enum nbd_client_mode mode, const char *name)
{
    static const char *const queries[] = {"base:allocation"};
    struct nbd_client_answer answer;
    uint8_t data[64];
    size_t len = nbd_client_put_context(data, name, queries, 1);

    if (!nbd_client_greet(client, fixture, 3))
        return false;
    if (mode == NBD_CLIENT_SIMPLE)
        return nbd_client_go(client, name);
    client->structured = true;
    client->extended = mode == NBD_CLIENT_EXTENDED;
    return nbd_client_ask(client,
                          client->extended ? NBD_OPT_EXTENDED_HEADERS
                                           : NBD_OPT_STRUCTURED_REPLY,
                          NULL, 0) == NBD_REP_ACK &&
           nbd_client_ask(client, NBD_OPT_SET_META_CONTEXT, data, len) ==
               NBD_REP_META_CONTEXT &&
           nbd_client_receive_answer(client, &answer) &&
           answer.type == NBD_REP_ACK && nbd_client_go(client, name);
}

/* ---- transmission ------------------------------------------------------- */

bool nbd_client_request(struct nbd_client *client, uint16_t flags,
                        uint16_t type, uint64_t cookie, uint64_t offset,
                        uint64_t length)
{
    uint8_t bytes[32];

    put_be32(bytes, client->extended ? 0x21e41c71 : 0x25609513);
    put_be16(bytes + 4, flags);
    put_be16(bytes + 6, type);
    put_be64(bytes + 8, cookie);
    put_be64(bytes + 16, offset);
    if (client->extended)
        put_be64(bytes + 24, length);
    else
        put_be32(bytes + 24, (uint32_t)length);
    return nbd_client_send(client, bytes, client->extended ? 32 : 28);
}

int64_t nbd_client_simple(struct nbd_client *client, uint64_t cookie)
{
    uint8_t bytes[16];

    if (!nbd_client_receive(client, bytes, sizeof(bytes)) ||
        get_be32(bytes) != 0x67446698 || get_be64(bytes + 8) != cookie)
        return -1;
    return get_be32(bytes + 4);
}

static void get_chunk(const struct nbd_client *client, const uint8_t *bytes,
                      struct nbd_client_chunk *chunk)
{
    chunk->flags = get_be16(bytes + 4);
    chunk->type = get_be16(bytes + 6);
    chunk->cookie = get_be64(bytes + 8);
    chunk->offset = client->extended ? get_be64(bytes + 16) : 0;
    chunk->length =
        client->extended ? get_be64(bytes + 24) : get_be32(bytes + 16);
}

bool nbd_client_chunk(struct nbd_client *client, struct nbd_client_chunk *chunk)
{
    uint8_t bytes[32];

    if (!nbd_client_receive(client, bytes, client->extended ? 32 : 20) ||
        get_be32(bytes) != (client->extended ? 0x6e8a278c : 0x668e33ef))
        return false;
    get_chunk(client, bytes, chunk);
    return true;
}

/* Receive what follows the head of a chunk that has no data. */
static int64_t chunk_result(struct nbd_client *client,
                            const struct nbd_client_chunk *chunk)
{
    uint8_t bytes[6 + 4096];

    if (chunk->flags != NBD_REPLY_FLAG_DONE)
        return -1;
    if (chunk->type == NBD_REPLY_NONE)
        return chunk->length == 0 ? 0 : -1;
    if (chunk->type != NBD_REPLY_ERROR || chunk->length < 6 ||
        chunk->length > sizeof(bytes) ||
        !nbd_client_receive(client, bytes, (size_t)chunk->length) ||
        get_be16(bytes + 4) != chunk->length - 6)
        return -1;
    return get_be32(bytes);
}

int64_t nbd_client_result(struct nbd_client *client, uint64_t cookie)
{
    struct nbd_client_chunk chunk;
    uint8_t bytes[32];

    if (!client->structured)
        return nbd_client_simple(client, cookie);
    if (client->extended)
        return nbd_client_chunk(client, &chunk) && chunk.cookie == cookie
                   ? chunk_result(client, &chunk)
                   : -1;
    /* Either kind may come: 16 bytes belong to both. */
    if (!nbd_client_receive(client, bytes, 16) || get_be64(bytes + 8) != cookie)
        return -1;
    if (get_be32(bytes) == 0x67446698)
        return get_be32(bytes + 4);
    if (get_be32(bytes) != 0x668e33ef ||
        !nbd_client_receive(client, bytes + 16, 4))
        return -1;
    get_chunk(client, bytes, &chunk);
    return chunk_result(client, &chunk);
}

int64_t nbd_client_write(struct nbd_client *client, uint16_t flags,
                         uint64_t offset, const void *data, size_t len)
{
    static uint64_t cookie = 0x1000;

    if (client->extended)
        flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
    cookie++;
    if (!nbd_client_request(client, flags, NBD_CMD_WRITE, cookie, offset,
                            len) ||
        !nbd_client_send(client, data, len))
        return -1;
    return nbd_client_result(client, cookie);
}

int64_t nbd_client_read(struct nbd_client *client, uint16_t flags,
                        uint64_t offset, void *data, size_t len)
{
    static uint64_t cookie = 0x2000;
    struct nbd_client_chunk chunk;
    uint8_t bytes[12];

    cookie++;
    if (!nbd_client_request(client, flags, NBD_CMD_READ, cookie, offset, len))
        return -1;
    if (!client->structured) {
        int64_t error = nbd_client_simple(client, cookie);

        return error != 0 || nbd_client_receive(client, data, len) ? error : -1;
    }
    if (!nbd_client_chunk(client, &chunk) || chunk.cookie != cookie)
        return -1;
    if (client->extended && chunk.offset != offset)
        return -1;
    if (chunk.type == NBD_REPLY_OFFSET_HOLE) {
        memset(data, 0, len);
        return chunk.flags == 1 && chunk.length == 12 &&
                       nbd_client_receive(client, bytes, 12) &&
                       get_be64(bytes) == offset && get_be32(bytes + 8) == len
                   ? 0
                   : -1;
    }
    if (chunk.type != NBD_REPLY_OFFSET_DATA)
        return chunk_result(client, &chunk);
    return chunk.flags == 1 && chunk.length == 8 + len &&
                   nbd_client_receive(client, bytes, 8) &&
                   get_be64(bytes) == offset &&
                   nbd_client_receive(client, data, len)
               ? 0
               : -1;
}

int64_t nbd_client_do(struct nbd_client *client, uint16_t flags, uint16_t type,
                      uint64_t offset, uint64_t length)
{
    static uint64_t cookie = 0x3000;

    cookie++;
    if (!nbd_client_request(client, flags, type, cookie, offset, length))
        return -1;
    return nbd_client_result(client, cookie);
}

bool nbd_client_is_alive(struct nbd_client *client)
{
    return nbd_client_do(client, 0, NBD_CMD_FLUSH, 0, 0) == 0;
}

void nbd_client_send_held(const struct nbd_fixture *fixture,
                          struct nbd_client *client, size_t count)
{
    static char page[4096];

    memset(page, 'w', sizeof(page));
    memory_device_hold(fixture->device, 1U << DEVICE_WRITE);
    for (uint64_t i = 0; i < count; i++) {
        if (!nbd_client_request(client, 0, NBD_CMD_WRITE, i, i * sizeof(page),
                                sizeof(page)) ||
            !nbd_client_send(client, page, sizeof(page)))
            abort();
    }
    memory_device_wait_held(fixture->device, count);
}
