/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * state_files - the names of the state's files: find, remove, complain.
 *
 * For state_log.c and state_replay.c.  A file is known by its kind and number.
 */
#ifndef CACHE_STATE_FILES_H
#define CACHE_STATE_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "cache/state_record.h"

/* The directory `state`; it belongs to who opened it. */
struct state_files {
    int dirfd;
    const char *cachedir; /* path of the cache directory, for messages */
};

/* Room for a name, and its terminator. */
enum { STATE_FILE_NAME = sizeof("catalog.") + 16 };

/* Write the name of a file. */
void state_file_name(enum state_file_kind kind, uint64_t number,
                     char name[STATE_FILE_NAME]);

/* Returns the name that a file has until it is whole. */
const char *state_file_new_name(enum state_file_kind kind);

/* Log what is wrong with a file.  Returns error. */
int state_file_complain(const struct state_files *files,
                        enum state_file_kind kind, uint64_t number,
                        const char *what, int error);

/* Log what cannot be done in the directory, and why.  Returns error. */
int state_files_complain(const struct state_files *files, const char *what,
                         int error);

/* Numbers, from 1, in ascending order. */
struct state_file_numbers {
    uint64_t *list;
    size_t count, room;
};

/* What there is. */
struct state_inventory {
    struct state_file_numbers logs, snapshots;
};

/*
 * List the files, logging errors.  The caller calls state_inventory_done, also
 * after an error.
 */
int state_files_list(const struct state_files *files,
                     struct state_inventory *ret_inventory);
void state_inventory_done(struct state_inventory *inventory);

/* Returns the highest number, 0 if there is none. */
uint64_t state_newest(const struct state_file_numbers *numbers);

/*
 * Remove a name if it is there, or all files with a number below this.  What
 * fails costs only room: it is logged, and that is all.
 */
void state_file_remove(const struct state_files *files, const char *name);
void state_files_remove_older(const struct state_files *files, uint64_t number);

#endif
