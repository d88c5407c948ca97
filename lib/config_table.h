/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config_table - one row for each setting: what it may be, and where it goes.
 *
 * Used by config.c, which knows lines, sections and what must fit together;
 * here is what a single value is.  Settings have numbers, in the order of the
 * documentation.
 *
 * Threads: any; nothing here changes.
 */
#ifndef CONFIG_TABLE_H
#define CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>

enum {
    CONFIG_TABLE_COUNT = 51,    /* settings; no setting has this number */
    CONFIG_TABLE_ALLOWED = 128, /* room for what is allowed, as text */
    CONFIG_TABLE_SHOWN = 128,   /* room for a value, as text */
    CONFIG_TABLE_NAME_MAX = 64, /* a longer name is near to none */
};

enum config_scope { CONFIG_GLOBAL, CONFIG_DEVICE };

/* What others need to know of a row. */
struct config_setting {
    const char *name;
    enum config_scope scope;
    const char *initial; /* the default, or NULL */
    const char *help;    /* in a few words, for the documentation */
    unsigned repeats;    /* if not 0: a list, of so many at most */
    bool may_be_empty;   /* as in the original's example: then it is not set */
    bool is_secret;      /* its value is not to be shown */
    bool is_reloaded;    /* a reload applies it; else it takes a restart */
};

/* Returns the setting of that number, which is below CONFIG_TABLE_COUNT. */
const struct config_setting *config_table_at(size_t number);

/* Returns the number of the setting, or CONFIG_TABLE_COUNT. */
size_t config_table_find(const char *name);

/*
 * Returns the number of the setting whose name is spelled most like this one,
 * or CONFIG_TABLE_COUNT if none is near.
 */
size_t config_table_find_nearest(const char *name);

/* Returns whether these bytes may be the name of a device or snapshot. */
bool config_table_name_is_valid(const char *name, size_t len);

/* Write what values are allowed to text, of CONFIG_TABLE_ALLOWED bytes. */
void config_table_describe_allowed(size_t number, char *text);

/*
 * Store the value in the object: a struct config or a struct config_device,
 * as the scope says.  A path is made canonical, in value.  -EINVAL: the value
 * is not allowed; -EEXIST: the list has it already; -E2BIG: the list is full;
 * -ENOMEM.
 */
int config_table_store(size_t number, char *value, void *object);

/* Store the defaults of that scope in an object that is all zeros. */
void config_table_store_defaults(enum config_scope scope, void *object);

/* Returns whether two objects of the setting's scope have the same value. */
bool config_table_is_equal(size_t number, const void *a, const void *b);

/*
 * Write the value in the object to text, of CONFIG_TABLE_SHOWN bytes, cut off
 * if it is longer; of a secret only that it is set.
 */
void config_table_show(size_t number, const void *object, char *text);

/* Free all strings of that scope in the object, secrets overwritten. */
void config_table_free_values(enum config_scope scope, void *object);

#endif
