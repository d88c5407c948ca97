/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log_recent - the last warnings and errors that were logged, to be shown.
 *
 * Threads: any.  Locks: its own, a leaf.  Memory: bounded, and static.
 */
#ifndef BASE_LOG_RECENT_H
#define BASE_LOG_RECENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

enum {
    LOG_RECENT_MAX = 64,   /* lines that are kept */
    LOG_RECENT_TEXT = 400, /* bytes of one, with its 0; the rest is cut off */
};

struct log_recent {
    uint64_t number;  /* 1 is the first of this process */
    uint64_t time_ns; /* since 1970 */
    enum log_level level;
    char text[LOG_RECENT_TEXT];
};

/* Keep a line, in the place of the oldest one.  For log.c. */
void log_recent_add(enum log_level level, const char *text);

/*
 * Tell the lines that are kept, at most max of them: the newest, in the order
 * in which they came.  Returns how many.
 */
size_t log_recent_get(struct log_recent *ret_lines, size_t max);

#endif
