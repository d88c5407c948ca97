/* SPDX-License-Identifier: BSD-2-Clause */
/* links: common */
/*
 * race_reload - a device that was left out is opened again, with another
 * configuration, while others ask how it is; and the end comes while one is
 * opened.
 */
#include <pthread.h>

#include "base/log.h"
#include "cache/control_message.h"
#include "common.h"
#include "common_device.h"
#include "config.h"
#include "unit/test.h"

enum { ROUNDS = 200 };

static struct common_resources resources;
static atomic_bool is_over;

/* The directories that there are. */
static void make_dirs(void)
{
    static const char *const names[] = {"store", "good", "second"};
    char path[PATH_MAX + 16];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", test_dir(), names[i]);
        NEED(mkdir(path, 0700) == 0);
    }
}

/* A configuration of two devices, the second of which is there, or so big. */
static struct config *load(const char *dir, const char *second,
                           const char *size)
{
    char path[PATH_MAX + 16];
    struct config_problems problems;
    struct config *config = NULL;
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/conf", dir);
    file = fopen(path, "we");
    if (!file ||
        fprintf(file,
                "s3dir %s/store\nworkers 1\nfetchers 1\n"
                "[good]\ncachedir %s/good\nsize 64M\njournalsize 64M\n"
                "[other]\ncachedir %s\nsize %s\njournalsize 64M\n",
                dir, dir, second, size) < 0 ||
        fclose(file) != 0)
        abort();
    (void)config_load(path, &config, &problems);
    config_problems_free(&problems);
    return config;
}

/*
 * common_opening.opened: tell of a device for so long that another one is
 * closed meanwhile.
 */
static void tell_long(void *context, struct common_device *device)
{
    if (device == &resources.devices[0])
        return;
    atomic_store((atomic_bool *)context, true);
    while (atomic_load(&resources.devices[0].state) == COMMON_DEVICE_OPEN)
        ;
    CHECK(device_size(device->device) == 64 << 20);
}

/* common_opening.opened and .left_out */
static void hear(void *context, struct common_device *device)
{
    (void)context;
    (void)device;
}

static void *ask(void *argument)
{
    const struct common_device *bad = &resources.devices[1];

    (void)argument;
    while (!atomic_load(&is_over)) {
        struct control_message status;
        const char *name;

        common_device_describe(bad, &status);
        name = control_message_get(&status, "device");
        CHECK(name && strcmp(name, "other") == 0);
        control_message_clear(&status);
    }
    return NULL;
}

TEST("whoever asks of a device sees one configuration of it, or the other")
{
    const struct common_opening opening = {.opened = hear, .left_out = hear};
    struct config *configs[2];
    pthread_t asker;

    log_set_level((enum log_level)(LOG_LEVEL_ERROR - 1)); /* say nothing */
    make_dirs();
    for (int i = 0; i < 2; i++) {
        configs[i] =
            load(test_dir(), "/dev/null/other", i == 0 ? "64M" : "128M");
        NEED(configs[i]);
    }
    NEED(common_open_resources(configs[0], &opening, &resources) == 0);
    NEED(pthread_create(&asker, NULL, ask, NULL) == 0);
    for (int round = 1; round <= ROUNDS; round++) {
        const struct config *config = configs[round % 2];

        while (atomic_load(&resources.devices[1].state) !=
               COMMON_DEVICE_LEFT_OUT)
            ;
        CHECK(common_open_more(&resources, config, &config->devices[1]) == 0);
    }
    atomic_store(&is_over, true);
    NEED(pthread_join(asker, NULL) == 0);
    CHECK(common_close_resources(&resources, true) == 0);
    config_free(configs[0]);
    config_free(configs[1]);
}

TEST("a device that was just opened is not closed while others are told of it")
{
    atomic_bool is_telling = false;
    struct common_opening opening = {.opened = tell_long,
                                     .context = &is_telling};
    char path[PATH_MAX + 16];
    struct config *config;

    make_dirs();
    (void)snprintf(path, sizeof(path), "%s/second", test_dir());
    config = load(test_dir(), path, "64M");
    NEED(config);
    opening.only = &config->devices[0];
    NEED(common_open_resources(config, &opening, &resources) == 0);
    NEED(common_open_more(&resources, config, &config->devices[1]) == 0);
    while (!atomic_load(&is_telling))
        ;
    CHECK(common_close_resources(&resources, true) == 0);
    config_free(config);
}
