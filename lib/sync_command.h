/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sync_command - the command line of s3blkdev-sync.
 *
 * Numbers alone evict or upload, as in the original: two or four of them are
 * percentages of use, one or three begin with seconds.  Everything else
 * begins with a word.
 *
 * Threads: one, for getopt(3) has but one state.
 */
#ifndef SYNC_COMMAND_H
#define SYNC_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sync_verb {
    SYNC_HELP,    /* -h */
    SYNC_VERSION, /* -V */
    SYNC_EVICT,   /* max min [start stop] */
    SYNC_UPLOAD,  /* seconds [start stop] */
    SYNC_STATUS,
    SYNC_SNAPSHOT,  /* device name */
    SYNC_SNAPSHOTS, /* device */
    SYNC_ROLLBACK,  /* device name */
    SYNC_CLONE,     /* device[@name] to */
    SYNC_TAKEOVER,  /* device */
    SYNC_FORK,      /* device to */
    SYNC_DISCARD,   /* device */
    SYNC_RELEASE,   /* device */
    SYNC_SCRUB,     /* device */
    SYNC_DROP,      /* device[@name] */
};

enum {
    SYNC_DEVICES_MAX = 256,
    SYNC_NAME_SIZE = 64,     /* of a device or snapshot, and its end */
    SYNC_PROBLEM_SIZE = 256, /* room for what is wrong */
};

/* What is to be done; strings that are pointers are those of argv. */
struct sync_command {
    enum sync_verb verb;
    const char *config_path;               /* -c, or NULL */
    const char *pid_path;                  /* -p, or NULL */
    const char *devices[SYNC_DEVICES_MAX]; /* -d; none: all */
    size_t devices_count;
    unsigned max_used, min_used;          /* percent */
    unsigned start_percent, stop_percent; /* of the chunks; 0, 100: all */
    uint64_t seconds;                     /* to upload for */
    uint64_t wait_s;             /* -w: for a daemon that is restarting */
    char device[SYNC_NAME_SIZE]; /* of those verbs that name one */
    char name[SYNC_NAME_SIZE];   /* of a snapshot; "": none */
    char to[SYNC_NAME_SIZE];     /* of the new device */
    bool json, now, yes, local, discard, restart, others;
    unsigned sample; /* percent of blocks; 100: all */
    uint64_t rate;   /* bytes a second; 0: no limit */
};

/*
 * Read the arguments.  -EINVAL: they are wrong or contradict each other, and
 * problem says how.
 */
int sync_command_parse(int argc, char **argv, struct sync_command *ret_command,
                       char problem[SYNC_PROBLEM_SIZE]);

#endif
