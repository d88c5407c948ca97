/* SPDX-License-Identifier: BSD-2-Clause */
#include "config_diff.h"

#include "unit/test.h"

/* What was told, in lines. */
static char told[4096];

static void tell(void *context, const struct config_change *change)
{
    size_t len = strlen(told);

    (void)context;
    (void)snprintf(told + len, sizeof(told) - len, "%s%s%s: %s > %s%s\n",
                   change->device ? change->device : "",
                   change->device ? "." : "", change->setting, change->from,
                   change->to, change->is_reloaded ? "" : " (restart)");
}

static struct config *parse(const char *text)
{
    struct config_problems problems;
    struct config *config = NULL;
    int error =
        config_parse("test", text, strlen(text), false, &config, &problems);

    for (size_t i = 0; i < problems.count; i++)
        printf("# %s\n", problems.lines[i]);
    config_problems_free(&problems);
    if (!CHECK(error == 0))
        abort();
    return config;
}

/* Returns what is told of all that is another. */
static const char *diff(const char *from_text, const char *to_text)
{
    struct config *from = parse(from_text), *to = parse(to_text);

    told[0] = '\0';
    config_diff_globals(from, to, tell, NULL);
    for (size_t i = 0; i < from->devices_count; i++) {
        const struct config_device *device =
            config_diff_find(to, from->devices[i].name);

        if (device)
            config_diff_device(&from->devices[i], device, tell, NULL);
    }
    config_free(from);
    config_free(to);
    return told;
}

#define DISK "s3dir /store\n[disk]\ncachedir /c/disk\nsize 1G\n"

TEST("the same settings in other words are no change")
{
    CHECK(strcmp(diff(DISK, DISK), "") == 0);
    CHECK(strcmp(diff("s3dir /store\n[disk]\ncachedir /c/disk\nsize 1G\n",
                      "loglevel info\ns3dir //store/\n[disk]\nsize 1024M\n"
                      "grace 1440m\ncachedir /c/disk\n"),
                 "") == 0);
}

TEST("values of every type are told as they were and are")
{
    CHECK(strcmp(diff(DISK, "uploads 9\nuploadrate 2M\nloglevel debug\n"
                            "s3upload 1M 08:00-20:00\ns3upload 5M\n"
                            "s3maxreqsperconn 0\n" DISK),
                 "uploads: 4 > 9\n"
                 "uploadrate: 0 > 2M\n"
                 "loglevel: info > debug\n"
                 "s3maxreqsperconn: 100 > 0 (restart)\n"
                 "s3upload: not set > 1M 08:00-20:00, 5M\n") == 0);
    CHECK(strcmp(diff(DISK, DISK "grace 2h\ndescription a disk\n"
                                 "writethrough 1\ncachesize 64M\n"),
                 "disk.cachesize: 0 > 64M\n"
                 "disk.grace: 1d > 2h\n"
                 "disk.writethrough: 0 > 1 (restart)\n"
                 "disk.description: not set > a disk (restart)\n") == 0);
}

TEST("lists differ by their order, too")
{
    CHECK(strcmp(diff("s3upload 1M 08:00-20:00\ns3upload 5M\n" DISK,
                      "s3upload 5M\ns3upload 1M 08:00-20:00\n" DISK),
                 "s3upload: 1M 08:00-20:00, 5M > 5M, 1M 08:00-20:00\n") == 0);
}

TEST("of a secret it is told that it is another, and not what it is")
{
    static const char first[] =
        "s3host h\ns3bucket b\ns3accesskey A\ns3secretkey hidden1\n";
    static const char second[] =
        "s3host h\ns3bucket b\ns3accesskey B\ns3secretkey hidden2\n";

    CHECK(strcmp(diff(first, second),
                 "s3accesskey: A > B\n"
                 "s3secretkey: (secret) > (secret)\n") == 0);
}

TEST("what is too long to be shown is cut off")
{
    char text[1024], long_name[256];

    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[255] = '\0';
    (void)snprintf(text, sizeof(text), "%sdescription %s\n", DISK, long_name);
    (void)diff(DISK, text);
    CHECK(strncmp(told, "disk.description: not set > xxxx", 32) == 0);
    CHECK(strlen(told) == strlen("disk.description: not set >  (restart)\n") +
                              CONFIG_DIFF_TEXT - 1);
}

TEST("a device is found by its name")
{
    struct config *config = parse(DISK "[other]\ncachedir /c/other\nsize 1M\n");

    CHECK(config_diff_find(config, "disk") == &config->devices[0]);
    CHECK(config_diff_find(config, "other") == &config->devices[1]);
    CHECK(!config_diff_find(config, "Disk"));
    config_free(config);
}
