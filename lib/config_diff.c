/* SPDX-License-Identifier: BSD-2-Clause */
#include "config_diff.h"

#include <assert.h>
#include <string.h>

#include "config_table.h"

static_assert((int)CONFIG_DIFF_TEXT >= (int)CONFIG_TABLE_SHOWN,
              "there is room for every value");

static void diff(enum config_scope scope, const char *device, const void *from,
                 const void *to, config_diff_each *each, void *context)
{
    for (size_t i = 0; i < CONFIG_TABLE_COUNT; i++) {
        const struct config_setting *setting = config_table_at(i);
        struct config_change change = {
            .device = device,
            .setting = setting->name,
            .is_reloaded = setting->is_reloaded,
        };

        if (setting->scope != scope || config_table_is_equal(i, from, to))
            continue;
        config_table_show(i, from, change.from);
        config_table_show(i, to, change.to);
        each(context, &change);
    }
}

void config_diff_globals(const struct config *from, const struct config *to,
                         config_diff_each *each, void *context)
{
    diff(CONFIG_GLOBAL, NULL, from, to, each, context);
}

void config_diff_device(const struct config_device *from,
                        const struct config_device *to, config_diff_each *each,
                        void *context)
{
    diff(CONFIG_DEVICE, to->name, from, to, each, context);
}

const struct config_device *config_diff_find(const struct config *config,
                                             const char *name)
{
    for (size_t i = 0; i < config->devices_count; i++) {
        if (strcmp(config->devices[i].name, name) == 0)
            return &config->devices[i];
    }
    return NULL;
}
