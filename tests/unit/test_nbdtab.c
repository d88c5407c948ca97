/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/nbdtab.h"

#include "unit/test.h"

static struct target target;
static struct net_failure failure;

static int find(const char *text, uint32_t index)
{
    failure.text[0] = '\0';
    return nbdtab_find(text, strlen(text), index, &target, &failure);
}

TEST("the line of a device is found among others, with its options")
{
    static const char text[] =
        "# devices\n"
        "\n"
        "nbd0 host one\n"
        "  nbd1\t/run/s.sock   two  unix,bs=512,conns=4,dead=30,ro # mine\n"
        "nbd10 host ten port=7";

    NEED(find(text, 1) == 0);
    CHECK(target.index == 1 && strcmp(target.server, "/run/s.sock") == 0);
    CHECK(strcmp(target.export_name, "two") == 0);
    CHECK(target.block_size == 512 && target.connections == 4);
    CHECK(target.dead_timeout_s == 30 && target.read_only);
    NEED(find(text, 0) == 0);
    CHECK(strcmp(target.server, "host") == 0 && target.port == 10809);
    CHECK(target.connections == 1 && !target.read_only);
    NEED(find(text, 10) == 0);
    CHECK(target.port == 7);
    CHECK(find(text, 2) == -ENOENT);
    CHECK(find("", 0) == -ENOENT && failure.text[0] != '\0');
}

TEST("a commented line is none, nor is one with a nul or of any length")
{
    static const char nul[] = "nbd0 host e\0nbd1 host f\n";
    static char line[20000];

    CHECK(find("#nbd0 host e\n", 0) == -ENOENT);
    CHECK(nbdtab_find(nul, sizeof(nul) - 1, 0, &target, &failure) == -ENOENT);
    memset(line, 'x', sizeof(line));
    memcpy(line, "nbd0 host ", 10);
    CHECK(nbdtab_find(line, sizeof(line), 0, &target, &failure) == -ENOENT);
}

TEST("what is wrong in a device's line is told with its number")
{
    CHECK(find("\nnbd0 host\n", 0) == -EINVAL);
    CHECK(strstr(failure.text, "line 2:") != NULL);
    CHECK(find("nbd0 host e bs=4096 extra\n", 0) == -EINVAL);
    CHECK(find("nbd0 host e bs=\n", 0) == -EINVAL);
    CHECK(find("nbd0 host e conns=4,,ro\n", 0) == -EINVAL);
    CHECK(find("nbd0 host e connections=4\n", 0) == -EINVAL);
    CHECK(find("nbd0 host e certfile=/c\n", 0) == -ENOTSUP);
}

TEST("what is wrong in the line of another device does not matter")
{
    NEED(find("nbd0 host\nnbd1 host e\n", 1) == 0);
    CHECK(strcmp(target.export_name, "e") == 0);
}

TEST("what target writes is read back to the same")
{
    char line[TARGET_LINE_SIZE], again[TARGET_LINE_SIZE];

    NEED(find("nbd5 h e port=8,bs=1024,conns=2,timeout=9,dead=8,ro", 5) == 0);
    (void)target_format(&target, line);
    NEED(find(line, 5) == 0);
    CHECK(strcmp(target_format(&target, again), line) == 0);
}
