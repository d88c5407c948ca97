/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/target.h"

#include "unit/test.h"

static struct target target;
static struct net_failure failure;

static bool is_device(const char *text, uint32_t index)
{
    uint32_t found = 77777;

    return target_parse_device(text, &found) == 0 && found == index;
}

static bool is_no_device(const char *text)
{
    uint32_t found;

    return target_parse_device(text, &found) == -EINVAL;
}

static int set(const char *name, const char *value)
{
    return target_set_option(&target, name, value, &failure);
}

static bool server_is(const char *text, const char *server, unsigned port)
{
    target_init(&target);
    return target_set_server(&target, text, &failure) == 0 &&
           strcmp(target.server, server) == 0 && target.port == port;
}

static bool server_is_refused(const char *text)
{
    target_init(&target);
    failure.text[0] = '\0';
    return target_set_server(&target, text, &failure) < 0 &&
           failure.text[0] != '\0';
}

TEST("a device is nbd and a number, with or without /dev")
{
    char name[TARGET_NAME_SIZE];

    CHECK(is_device("nbd0", 0));
    CHECK(is_device("/dev/nbd15", 15));
    CHECK(is_device("nbd65535", 65535));
    CHECK(is_no_device("nbd"));
    CHECK(is_no_device("nbd65536"));
    CHECK(is_no_device("nbd01"));
    CHECK(is_no_device("nbd0p1"));
    CHECK(is_no_device("/dev/sda"));
    CHECK(is_no_device("/dev/../dev/nbd0"));
    CHECK(is_no_device(""));
    CHECK(strcmp(target_name(65535, name), "nbd65535") == 0);
}

TEST("a server is a path, or a host with or without a port")
{
    CHECK(server_is("/run/s.sock", "/run/s.sock", 10809));
    CHECK(target_is_unix(&target));
    CHECK(server_is("./s.sock", "./s.sock", 10809));
    CHECK(server_is("host.example", "host.example", 10809));
    CHECK(!target_is_unix(&target));
    CHECK(server_is("host.example:1", "host.example", 1));
    CHECK(server_is("192.0.2.1:65535", "192.0.2.1", 65535));
    CHECK(server_is("2001:db8::1", "2001:db8::1", 10809));
    CHECK(server_is("[2001:db8::1]", "2001:db8::1", 10809));
    CHECK(server_is("[2001:db8::1]:10", "2001:db8::1", 10));
    CHECK(server_is_refused(""));
    CHECK(server_is_refused(":10809"));
    CHECK(server_is_refused("host:"));
    CHECK(server_is_refused("host:0"));
    CHECK(server_is_refused("host:65536"));
    CHECK(server_is_refused("[::1"));
    CHECK(server_is_refused("[::1]x"));
    CHECK(server_is_refused("[]"));
    CHECK(server_is_refused("[host]:7"));
    CHECK(server_is_refused("[a:1]:7"));
    CHECK(server_is_refused("[[::1]:7"));
    CHECK(server_is_refused("[#:a:b]:7"));
    CHECK(server_is_refused("a b"));
    CHECK(server_is_refused("a,b"));
}

TEST("a path of any length is no overflow")
{
    char path[400];

    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[TARGET_SERVER_SIZE - 1] = '\0';
    CHECK(server_is(path, path, 10809));
    CHECK(target_set_export(&target, "e", &failure) == 0);
    CHECK(target_check(&target, &failure) == -EINVAL);
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[TARGET_SERVER_SIZE] = '\0';
    CHECK(server_is_refused(path));
    memset(path, 'h', sizeof(path));
    path[TARGET_SERVER_SIZE] = '\0';
    CHECK(server_is_refused(path));
    path[sizeof(path) - 1] = '\0';
    memset(path, 'h', sizeof(path) - 1);
    CHECK(server_is_refused(path));
    CHECK(target_set_export(&target, path, &failure) == -ENAMETOOLONG);
}

TEST("options set what they say, within their limits")
{
    target_init(&target);
    CHECK(target.block_size == 4096 && target.connections == 1);
    CHECK(target.timeout_s == 0 && target.dead_timeout_s == 600);
    CHECK(set("bs", "512") == 0 && target.block_size == 512);
    CHECK(set("conns", "4") == 0 && target.connections == 4);
    CHECK(set("timeout", "30") == 0 && target.timeout_s == 30);
    CHECK(set("dead", "90") == 0 && target.dead_timeout_s == 90);
    CHECK(set("port", "1234") == 0 && target.port == 1234);
    CHECK(!target.read_only);
    CHECK(set("ro", NULL) == 0 && target.read_only);
    CHECK(set("unix", NULL) == 0 && set("persist", NULL) == 0);
    CHECK(set("_netdev", NULL) == 0 && set("_x", "1") == 0);
    CHECK(set("bs", "8192") == -EINVAL);
    CHECK(set("bs", "1000") == -EINVAL);
    CHECK(set("conns", "0") == -EINVAL);
    CHECK(set("conns", "17") == -EINVAL);
    CHECK(set("dead", "0") == -EINVAL);
    CHECK(set("timeout", "-1") == -EINVAL);
    CHECK(set("bs", NULL) == -EINVAL);
    CHECK(set("ro", "yes") == -EINVAL);
    CHECK(set("connections", "4") == -EINVAL);
    CHECK(strstr(failure.text, "connections") != NULL);
    CHECK(target.block_size == 512 && target.connections == 4);
}

TEST("what only nbd-client can do is said to be so")
{
    target_init(&target);
    CHECK(set("certfile", "/etc/cert.pem") == -ENOTSUP);
    CHECK(strstr(failure.text, "nbd-client") != NULL);
    CHECK(set("tlshostname", "h") == -ENOTSUP);
    CHECK(set("no_optgo", NULL) == -ENOTSUP);
    CHECK(set("swap", NULL) == -ENOTSUP);
}

TEST("a target without server or export is not whole")
{
    target_init(&target);
    CHECK(target_check(&target, &failure) == -EINVAL);
    NEED(target_set_server(&target, "host", &failure) == 0);
    CHECK(target_check(&target, &failure) == -EINVAL);
    CHECK(strstr(failure.text, "export") != NULL);
    CHECK(target_set_export(&target, "#comment", &failure) == -EINVAL);
    NEED(target_set_export(&target, "disk#1", &failure) == 0);
    CHECK(target_check(&target, &failure) == 0);
}

TEST("a target is written as a line of nbdtab")
{
    char line[TARGET_LINE_SIZE], server[TARGET_SERVER_SIZE + 16];

    target_init(&target);
    target.index = 3;
    NEED(target_set_server(&target, "[::1]:99", &failure) == 0);
    NEED(target_set_export(&target, "d", &failure) == 0);
    NEED(set("ro", NULL) == 0);
    CHECK(strcmp(target_format(&target, line),
                 "nbd3 ::1 d port=99,bs=4096,conns=1,timeout=0,dead=600,ro") ==
          0);
    CHECK(strcmp(target_server_name(&target, server), "[::1]:99") == 0);
    NEED(target_set_server(&target, "/s", &failure) == 0);
    CHECK(strcmp(target_format(&target, line),
                 "nbd3 /s d unix,bs=4096,conns=1,timeout=0,dead=600,ro") == 0);
    CHECK(strcmp(target_server_name(&target, server), "/s") == 0);
}
