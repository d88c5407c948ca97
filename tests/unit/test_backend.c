/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_device */
#include "attach/backend.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/clock.h"
#include "nbd/nbd_protocol.h"
#include "support/export_server.h"
#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "unit/test.h"

static struct target target;
static struct net_failure failure;
static struct backend backend;
static char path[300];
static int fds[4];

static void make_target(void)
{
    (void)snprintf(path, sizeof(path), "%s/s", test_dir());
    target_init(&target);
    CHECK(target_set_server(&target, path, &failure) == 0);
    CHECK(target_set_export(&target, "disk", &failure) == 0);
}

static uint64_t deadline(void)
{
    return clock_monotonic_ns() + UINT64_C(60000000000);
}

static int open_backend(uint32_t count)
{
    return backend_open(&target, fds, count, deadline(), &backend, &failure);
}

static void close_all(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)close(fds[i]);
}

TEST("connections are to one incarnation, and as the kernel wants them")
{
    struct timeval timeout = {1, 1};
    socklen_t len = sizeof(timeout);
    struct export_server *server;
    char name[BACKEND_NAME_SIZE];

    make_target();
    server = export_server_start(path, export_server_good(1 << 20));
    NEED(open_backend(3) == 0);
    CHECK(strcmp(backend.name, "disk@0123456789abcdef-1") == 0);
    CHECK(backend.export_info.size == 1 << 20);
    export_server_wait_chosen(server, 3);
    CHECK(getsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &timeout, &len) == 0);
    CHECK(timeout.tv_sec == 0 && timeout.tv_usec == 0);
    CHECK((fcntl(fds[0], F_GETFL) & O_NONBLOCK) == 0);
    close_all(3);
    CHECK(backend_look(&target, deadline(), name, &failure) == 0);
    CHECK(strcmp(name, backend.name) == 0);
    export_server_wait_chosen(server, 0);
    export_server_kill(server);
}

TEST("our own server tells an incarnation, and another of another content")
{
    struct nbd_fixture fixture;
    char before[BACKEND_NAME_SIZE];

    nbd_fixture_init(&fixture, test_dir());
    nbd_fixture_start(&fixture);
    target_init(&target);
    NEED(target_set_server(&target, fixture.socket, &failure) == 0);
    NEED(target_set_export(&target, "main", &failure) == 0);
    NEED(backend_look(&target, deadline(), before, &failure) == 0);
    NEED(open_backend(2) == 0);
    CHECK(strncmp(before, "main@", 5) == 0 && strlen(before) > 5);
    CHECK(strcmp(backend.name, before) == 0);
    CHECK(backend.export_info.size == NBD_FIXTURE_SIZE);
    CHECK((backend.export_info.flags & NBD_FLAG_CAN_MULTI_CONN) != 0);
    close_all(2);
    memory_device_set_incarnation(fixture.device, 2);
    NEED(open_backend(1) == 0);
    CHECK(strcmp(backend.name, before) != 0);
    close_all(1);
    NEED(target_set_export(&target, "nothing", &failure) == 0);
    CHECK(open_backend(1) == -ENOENT);
    nbd_fixture_done(&fixture);
}

TEST("a content that is replaced meanwhile is refused, and nothing stays open")
{
    struct export_server_script script = export_server_good(1 << 20);
    struct export_server *server;

    make_target();
    script.next_at = 2; /* the question after the connections */
    script.next_incarnation = "0123456789abcdef-2";
    server = export_server_start(path, script);
    CHECK(open_backend(2) == -EAGAIN);
    export_server_wait_chosen(server, 0);
    CHECK(open_backend(1) == 0);
    CHECK(strcmp(backend.name, "disk@0123456789abcdef-2") == 0);
    close_all(1);
    export_server_kill(server);
}

TEST("a server that knows no incarnation has no name")
{
    struct export_server_script script = export_server_good(1 << 20);
    struct export_server *server;

    make_target();
    script.incarnation = NULL;
    server = export_server_start(path, script);
    NEED(open_backend(1) == 0);
    CHECK(backend.name[0] == '\0');
    close_all(1);
    export_server_kill(server);
}

TEST("where nobody listens, or the export is not there, is said in words")
{
    struct export_server_script script = export_server_good(1 << 20);
    struct export_server *server;
    char name[BACKEND_NAME_SIZE];

    make_target();
    CHECK(open_backend(1) == -ENOENT);
    CHECK(strstr(failure.text, path) != NULL);
    CHECK(backend_look(&target, deadline(), name, &failure) == -ENOENT);
    script.refusal = NBD_REP_ERR_UNKNOWN;
    server = export_server_start(path, script);
    CHECK(open_backend(1) == -ENOENT);
    CHECK(strstr(failure.text, "export disk") != NULL);
    CHECK(export_server_chosen(server) == 0);
    export_server_kill(server);
}

TEST("a full backlog is waited for no longer than the deadline")
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    char server[64];
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    /* It accepts, by its backlog, and says nothing. */
    NEED(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    NEED(listen(fd, 8) == 0);
    NEED(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    make_target();
    (void)snprintf(server, sizeof(server), "127.0.0.1:%u",
                   ntohs(address.sin_port));
    NEED(target_set_server(&target, server, &failure) == 0);
    CHECK(backend_open(&target, fds, 1, clock_monotonic_ns() + 1000000,
                       &backend, &failure) == -ETIMEDOUT);
    CHECK(strstr(failure.text, server) != NULL);
    (void)close(fd);
    CHECK(open_backend(1) == -ECONNREFUSED);
}

TEST("a name is of an export whatever its incarnation")
{
    CHECK(backend_is_of_export("disk@00-1", "disk"));
    CHECK(backend_is_of_export("di@sk@00-1", "di@sk"));
    CHECK(!backend_is_of_export("disk@00-1", "dis"));
    CHECK(!backend_is_of_export("disk@00-1", "disk2"));
    CHECK(!backend_is_of_export("disk", "disk"));
    CHECK(!backend_is_of_export("", "disk"));
}

static struct block_device device;

/* What is said of a backend that has these flags, for a device of all. */
static int check(uint16_t flags)
{
    backend.export_info.flags = flags;
    failure.text[0] = '\0';
    return backend_check(&backend, &device, &failure);
}

TEST("a device goes on only with what is the same and no less")
{
    const uint16_t all = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
                         NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM;

    backend = (struct backend){.name = "disk@1"};
    backend.export_info.size = 8192;
    device = (struct block_device){.size = 8192,
                                   .flushes = true,
                                   .fua = true,
                                   .trims = true,
                                   .backend = "disk@1"};
    CHECK(check(all) == 0);
    CHECK(check(all & ~NBD_FLAG_SEND_FLUSH) == -ESTALE);
    CHECK(check(all & ~NBD_FLAG_SEND_FUA) == -ESTALE);
    CHECK(check(all & ~NBD_FLAG_SEND_TRIM) == -ESTALE);
    CHECK(check(all | NBD_FLAG_READ_ONLY) == -ESTALE);
    CHECK(strstr(failure.text, "writing") != NULL);
    device.flushes = false;
    CHECK(check(all & ~NBD_FLAG_SEND_FLUSH) == 0);
    CHECK(check(all) == -ESTALE);
    CHECK(strstr(failure.text, "writethrough") != NULL);
    device.is_read_only = true;
    CHECK(check(all) == 0);
    device.flushes = true;
    CHECK(check(all | NBD_FLAG_READ_ONLY) == 0);
    backend.export_info.size = 16384;
    CHECK(check(all) == 0);
    backend.export_info.size = 4096;
    CHECK(check(all) == -ESTALE);
    backend.export_info.size = 8192;
    (void)snprintf(backend.name, sizeof(backend.name), "disk@2");
    CHECK(check(all) == -ESTALE);
    CHECK(strstr(failure.text, "disk@1") && strstr(failure.text, "disk@2"));
    backend.name[0] = '\0';
    CHECK(check(all) == -ESTALE);
}
