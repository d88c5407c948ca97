/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach_command - the command line of s3blkdev-attach.
 *
 * Threads: one, for getopt(3) has but one state.
 */
#ifndef ATTACH_ATTACH_COMMAND_H
#define ATTACH_ATTACH_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attach/target.h"
#include "base/net_address.h"

enum attach_verb {
    ATTACH_HELP,    /* -h */
    ATTACH_VERSION, /* -V */
    ATTACH_ATTACH,  /* nbdN [export server] */
    ATTACH_DETACH,  /* nbdN */
    ATTACH_LIST,
    ATTACH_RESIZE,    /* nbdN */
    ATTACH_RECONNECT, /* nbdN, or all */
};

enum { ATTACH_SETTINGS_MAX = 16 };

/* What is to be done; strings are those of argv. */
struct attach_command {
    enum attach_verb verb;
    const char *nbdtab; /* -c, or NULL */
    bool watch, force, all;
    uint32_t index;          /* N of nbdN */
    const char *export_name; /* or NULL: as in nbdtab */
    const char *server;
    /* Options of target.h, which are set after those of nbdtab. */
    struct attach_setting {
        const char *name, *value; /* value: or NULL */
    } settings[ATTACH_SETTINGS_MAX];
    size_t settings_count;
};

/*
 * Read the arguments.  -EINVAL: they are wrong or contradict each other, in
 * words in *ret_failure.
 */
int attach_command_parse(int argc, char **argv,
                         struct attach_command *ret_command,
                         struct net_failure *ret_failure);

/* Set what the command line says in a target; its device is set already. */
int attach_command_apply(const struct attach_command *command,
                         struct target *target,
                         struct net_failure *ret_failure);

#endif
