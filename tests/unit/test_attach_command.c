/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/attach_command.h"

#include "unit/test.h"

static struct attach_command command;
static struct net_failure failure;
static char line_copy[512]; /* what argv points to */

/* Parse the words of a line, as a shell without quotes would pass them. */
static int parse(const char *line)
{
    char *argv[64] = {(char[]){"s3blkdev-attach"}};
    int argc = 1;
    char *rest = line_copy;

    (void)snprintf(line_copy, sizeof(line_copy), "%s", line);
    for (char *word = strsep(&rest, " "); word; word = strsep(&rest, " ")) {
        if (*word != '\0')
            argv[argc++] = word;
    }
    failure.text[0] = '\0';
    return attach_command_parse(argc, argv, &command, &failure);
}

static bool is_refused(const char *line)
{
    if (parse(line) == -EINVAL && failure.text[0] != '\0')
        return true;
    printf("# accepted: %s\n", line);
    return false;
}

TEST("each command takes what is its own")
{
    NEED(parse("attach nbd0") == 0);
    CHECK(command.verb == ATTACH_ATTACH && command.index == 0);
    CHECK(!command.watch && !command.server && !command.nbdtab);
    NEED(parse("attach --watch -c /tab /dev/nbd7") == 0);
    CHECK(command.watch && command.index == 7);
    CHECK(strcmp(command.nbdtab, "/tab") == 0);
    NEED(parse("attach nbd1 disk /run/s --read-only") == 0);
    CHECK(strcmp(command.export_name, "disk") == 0);
    CHECK(strcmp(command.server, "/run/s") == 0);
    NEED(parse("detach --force nbd1") == 0);
    CHECK(command.verb == ATTACH_DETACH && command.force);
    NEED(parse("list") == 0 && command.verb == ATTACH_LIST);
    NEED(parse("resize nbd2") == 0 && command.verb == ATTACH_RESIZE);
    NEED(parse("reconnect nbd2") == 0 && command.verb == ATTACH_RECONNECT);
    CHECK(!command.all);
    NEED(parse("reconnect --all") == 0 && command.all);
    NEED(parse("-h") == 0 && command.verb == ATTACH_HELP);
    NEED(parse("--version") == 0 && command.verb == ATTACH_VERSION);
}

TEST("what is wrong is refused, in words")
{
    CHECK(is_refused(""));
    CHECK(is_refused("mount nbd0"));
    CHECK(is_refused("attach"));
    CHECK(is_refused("attach sda"));
    CHECK(is_refused("attach nbd0 disk"));
    CHECK(is_refused("attach nbd0 disk /s more"));
    CHECK(is_refused("attach --force nbd0"));
    CHECK(is_refused("attach --all nbd0"));
    CHECK(is_refused("attach --connections"));
    CHECK(is_refused("attach --nonsense nbd0"));
    CHECK(is_refused("detach"));
    CHECK(is_refused("detach nbd0 nbd1"));
    CHECK(is_refused("detach --watch nbd0"));
    CHECK(is_refused("detach --timeout 5 nbd0"));
    CHECK(is_refused("list nbd0"));
    CHECK(is_refused("resize --all"));
    CHECK(is_refused("reconnect"));
    CHECK(is_refused("reconnect --all nbd0"));
}

TEST("the command line comes after what nbdtab says")
{
    struct target target;

    target_init(&target);
    NEED(target_set_server(&target, "host", &failure) == 0);
    NEED(target_set_export(&target, "e", &failure) == 0);
    target.connections = 2;
    target.timeout_s = 9;
    NEED(parse("attach -C 4 --dead-timeout 30 --block-size 512 nbd0") == 0);
    NEED(attach_command_apply(&command, &target, &failure) == 0);
    CHECK(target.connections == 4 && target.dead_timeout_s == 30);
    CHECK(target.block_size == 512 && target.timeout_s == 9);
    CHECK(strcmp(target.server, "host") == 0);
    NEED(parse("attach --connections 99 nbd0") == 0);
    CHECK(attach_command_apply(&command, &target, &failure) == -EINVAL);
    CHECK(strstr(failure.text, "conns") != NULL);
    NEED(parse("attach nbd0 disk h:9 --read-only --timeout 1") == 0);
    NEED(attach_command_apply(&command, &target, &failure) == 0);
    CHECK(strcmp(target.export_name, "disk") == 0 && target.port == 9);
    CHECK(target.read_only && target.timeout_s == 1);
}

TEST("a target without a server is not whole")
{
    struct target target;

    target_init(&target);
    NEED(parse("attach nbd0") == 0);
    CHECK(attach_command_apply(&command, &target, &failure) == -EINVAL);
}
