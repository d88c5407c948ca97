/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config_diff - what is another in one configuration than in another (pure).
 *
 * For who reads a configuration again: the table of settings says for each
 * whether that can be applied while the program runs.
 *
 * Threads: any.
 */
#ifndef CONFIG_DIFF_H
#define CONFIG_DIFF_H

#include <stdbool.h>

#include "config.h"

enum { CONFIG_DIFF_TEXT = 128 };

/* A setting with another value; valid during the call that hands it over. */
struct config_change {
    const char *device; /* NULL: it is global */
    const char *setting;
    bool is_reloaded; /* a reload applies it; else it takes a restart */
    char from[CONFIG_DIFF_TEXT], to[CONFIG_DIFF_TEXT]; /* no secrets */
};
typedef void config_diff_each(void *context,
                              const struct config_change *change);

/* Call each() for every global setting that has another value now. */
void config_diff_globals(const struct config *from, const struct config *to,
                         config_diff_each *each, void *context);

/* The same for the settings of a device. */
void config_diff_device(const struct config_device *from,
                        const struct config_device *to, config_diff_each *each,
                        void *context);

/* Returns the device of that name in a configuration, or NULL. */
const struct config_device *config_diff_find(const struct config *config,
                                             const char *name);

#endif
