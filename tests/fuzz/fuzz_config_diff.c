/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_config_diff - any two configurations, with a zero byte between.
 *
 * One does not differ from itself; and as much differs from the first to the
 * second as back, with the values exchanged.
 */
#include "config_diff.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The changes of one direction, to be met in the other. */
struct met {
    struct config_change changes[128];
    size_t count, met;
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void note(void *context, const struct config_change *change)
{
    struct met *met = context;

    require(met->count < 128);
    require(change->from[0] != '\0' && change->to[0] != '\0');
    require(strlen(change->from) < CONFIG_DIFF_TEXT);
    met->changes[met->count++] = *change;
}

static void meet(void *context, const struct config_change *change)
{
    struct met *met = context;
    const struct config_change *other = &met->changes[met->met++];

    require(met->met <= met->count);
    require(strcmp(change->setting, other->setting) == 0);
    require(strcmp(change->from, other->to) == 0);
    require(strcmp(change->to, other->from) == 0);
    require(change->is_reloaded == other->is_reloaded);
}

static void never(void *context, const struct config_change *change)
{
    (void)context;
    (void)change;
    abort();
}

static struct config *parse(const uint8_t *data, size_t size)
{
    struct config_problems problems;
    struct config *config = NULL;

    (void)config_parse("file", (const char *)data, size, false, &config,
                       &problems);
    config_problems_free(&problems);
    return config;
}

static void compare(const struct config *from, const struct config *to)
{
    struct met met = {.count = 0};

    config_diff_globals(from, from, never, NULL);
    config_diff_globals(from, to, note, &met);
    config_diff_globals(to, from, meet, &met);
    require(met.met == met.count);
    for (size_t i = 0; i < from->devices_count; i++) {
        const struct config_device *device = &from->devices[i];
        const struct config_device *other = config_diff_find(to, device->name);

        require(config_diff_find(from, device->name) == device);
        config_diff_device(device, device, never, NULL);
        met.count = met.met = 0;
        if (!other)
            continue;
        config_diff_device(device, other, note, &met);
        config_diff_device(other, device, meet, &met);
        require(met.met == met.count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = memchr(data, 0, size);
    size_t first = zero ? (size_t)(zero - data) : size;
    struct config *from = parse(data, first);
    struct config *to = zero ? parse(zero + 1, size - first - 1) : NULL;

    if (from)
        compare(from, to ? to : from);
    config_free(from);
    config_free(to);
    return 0;
}
