/* SPDX-License-Identifier: BSD-2-Clause */
#include "sync_command.h"

#include "unit/test.h"

static struct sync_command command;
static char problem[SYNC_PROBLEM_SIZE];
static char line_copy[1024]; /* what argv points to */

/* Parse the words of a line, as a shell without quotes would pass them. */
static int parse(const char *line)
{
    char *argv[64] = {(char[]){"s3blkdev-sync"}};
    int argc = 1;
    char *rest = line_copy;

    (void)snprintf(line_copy, sizeof(line_copy), "%s", line);
    for (char *word = strsep(&rest, " "); word; word = strsep(&rest, " ")) {
        if (*word != '\0')
            argv[argc++] = word;
    }
    problem[0] = '\0';
    return sync_command_parse(argc, argv, &command, problem);
}

static bool is_refused(const char *line)
{
    if (parse(line) == -EINVAL && problem[0] != '\0')
        return true;
    printf("# accepted: %s\n", line);
    return false;
}

TEST("the original's two ways to evict")
{
    NEED(parse("-p /run/sync.pid 90 80") == 0);
    CHECK(command.verb == SYNC_EVICT);
    CHECK(command.max_used == 90 && command.min_used == 80);
    CHECK(command.start_percent == 0 && command.stop_percent == 100);
    CHECK(strcmp(command.pid_path, "/run/sync.pid") == 0);
    CHECK(!command.config_path && command.devices_count == 0);
    NEED(parse("-c f -p p 100 0 25 50") == 0);
    CHECK(command.max_used == 100 && command.min_used == 0);
    CHECK(command.start_percent == 25 && command.stop_percent == 50);
    CHECK(strcmp(command.config_path, "f") == 0);
}

TEST("the original's two ways to upload")
{
    NEED(parse("-p p 3600") == 0);
    CHECK(command.verb == SYNC_UPLOAD && command.seconds == 3600);
    CHECK(command.start_percent == 0 && command.stop_percent == 100);
    NEED(parse("-p p 1 99 100") == 0);
    CHECK(command.seconds == 1);
    CHECK(command.start_percent == 99 && command.stop_percent == 100);
}

TEST("options may stand behind, and -d names devices")
{
    NEED(parse("3600 -d a -p p -d b.c_d-e -w 5m") == 0);
    CHECK(command.verb == SYNC_UPLOAD && command.devices_count == 2);
    CHECK(strcmp(command.devices[0], "a") == 0);
    CHECK(strcmp(command.devices[1], "b.c_d-e") == 0);
    CHECK(command.wait_s == 300);
    NEED(parse("-p p 3600") == 0);
    CHECK(command.wait_s == 60 && command.devices_count == 0);
}

TEST("help and version need nothing else, and look at nothing behind them")
{
    CHECK(parse("-h") == 0 && command.verb == SYNC_HELP);
    CHECK(parse("-V") == 0 && command.verb == SYNC_VERSION);
    CHECK(parse("status -V -x") == 0 && command.verb == SYNC_VERSION);
    CHECK(is_refused("-x -h"));
}

TEST("every command is known by its word")
{
    static const struct {
        const char *line;
        enum sync_verb verb;
        const char *device, *name, *to;
    } lines[] = {
        {"status", SYNC_STATUS, "", "", ""},
        {"snapshot a b", SYNC_SNAPSHOT, "a", "b", ""},
        {"snapshots a", SYNC_SNAPSHOTS, "a", "", ""},
        {"rollback a b", SYNC_ROLLBACK, "a", "b", ""},
        {"clone a b", SYNC_CLONE, "a", "", "b"},
        {"clone a@2026-11-22 b", SYNC_CLONE, "a", "2026-11-22", "b"},
        {"takeover a", SYNC_TAKEOVER, "a", "", ""},
        {"fork a b", SYNC_FORK, "a", "", "b"},
        {"discard a", SYNC_DISCARD, "a", "", ""},
        {"release a", SYNC_RELEASE, "a", "", ""},
        {"scrub a", SYNC_SCRUB, "a", "", ""},
        {"drop a", SYNC_DROP, "a", "", ""},
        {"drop a@b", SYNC_DROP, "a", "b", ""},
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        NEED(parse(lines[i].line) == 0);
        CHECK(command.verb == lines[i].verb);
        CHECK(strcmp(command.device, lines[i].device) == 0);
        CHECK(strcmp(command.name, lines[i].name) == 0);
        CHECK(strcmp(command.to, lines[i].to) == 0);
    }
}

TEST("some commands have options")
{
    NEED(parse("status --json -d a") == 0);
    CHECK(command.json && command.devices_count == 1);
    NEED(parse("snapshot a b --now") == 0);
    CHECK(command.now);
    NEED(parse("rollback --discard a b") == 0);
    CHECK(command.discard);
    NEED(parse("drop a --yes") == 0);
    CHECK(command.yes);
    NEED(parse("scrub a") == 0);
    CHECK(!command.local && !command.restart && !command.others &&
          command.sample == 100 && command.rate == 0);
    NEED(parse("scrub a --sample 5 --rate=20M --restart") == 0);
    CHECK(command.sample == 5 && command.rate == 20 << 20 && command.restart);
    NEED(parse("scrub a --local") == 0);
    CHECK(command.local);
    NEED(parse("scrub a --others --sample 5") == 0);
    CHECK(command.others && command.sample == 5);
}

TEST("what is wrong or contradictory is refused")
{
    static const char *const lines[] = {
        "",
        "-p p",
        "3600",    /* no -p */
        "90 80",   /* no -p */
        "-p p 0",  /* no time at all */
        "-p p -1", /* an option, if anything */
        "-p p 1h",
        "-p p 31622401",
        "-p p 101 80",
        "-p p 90 x",
        "-p p 90% 80%",
        "-p p 80 90", /* to come down to more than there is */
        "-p p 3600 50 50",
        "-p p 3600 50 25",
        "-p p 3600 0 101",
        "-p p 90 80 50 50",
        "-p p 90 80 50 100 1",
        "-p p 3600 status",
        "-p p 3600 --json",
        "-p p -p q 3600",
        "-c a -c b status",
        "-d a -d a status",
        "-d a/b status",
        "-d .. status",
        "-d",
        "-p",
        "-w 2d status",
        "-w x status",
        "-x status",
        "--frobnicate status",
        "--json=1 status",
        "stat",
        "STATUS",
        "status a",
        "status --now",
        "snapshot a",
        "snapshot a b c",
        "snapshot a b c d",
        "snapshot a@b c",
        "snapshot a b --json",
        "snapshots",
        "snapshots a b",
        "rollback a",
        "rollback a .",
        "clone a",
        "clone a a",
        "clone a@b a",
        "clone a@ b",
        "clone @b c",
        "clone a@b@c d",
        "clone a b@c",
        "takeover",
        "takeover a b",
        "fork a a",
        "drop",
        "drop a b",
        "drop a@",
        "scrub a --sample 0",
        "scrub a --sample 101",
        "scrub a --sample",
        "scrub a --rate 0",
        "scrub a --local --sample 5",
        "scrub a --local --others",
        "takeover a --others",
        "-d a scrub a",
        "snapshot a/b c",
        ("takeover "
         "0123456789012345678901234567890123456789012345678901234567890123"),
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        CHECK(is_refused(lines[i]));
}

TEST("what is wrong is said")
{
    CHECK(is_refused("-p p 80 90"));
    CHECK(strcmp(problem, "80 90: the first is the most used, the second what "
                          "to come down to") == 0);
    CHECK(is_refused("-q status"));
    CHECK(strcmp(problem, "-q: there is no such option") == 0);
    CHECK(is_refused("scrub a --rate"));
    CHECK(strcmp(problem, "--rate: needs a value") == 0);
    CHECK(is_refused("snapshot a b --json"));
    CHECK(strcmp(problem, "--json: snapshot has no such option") == 0);
    CHECK(is_refused("rollback a"));
    CHECK(strcmp(problem, "rollback: needs the name of a snapshot") == 0);
}
