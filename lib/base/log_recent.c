/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/log_recent.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mutex.h"

/* A process logs before it could have made a mutex ready. */
static struct mutex lock = {.pthread = PTHREAD_MUTEX_INITIALIZER};
static struct log_recent lines[LOG_RECENT_MAX] GUARDED_BY(lock);
static uint64_t count GUARDED_BY(lock); /* that ever came */

void log_recent_add(enum log_level level, const char *text)
{
    uint64_t now_ns = clock_realtime_ns();
    struct log_recent *line;

    mutex_lock(&lock);
    line = &lines[count % LOG_RECENT_MAX];
    line->number = ++count;
    line->time_ns = now_ns;
    line->level = level;
    if (snprintf(line->text, sizeof(line->text), "%s", text) < 0)
        line->text[0] = '\0';
    mutex_unlock(&lock);
}

size_t log_recent_get(struct log_recent *ret_lines, size_t max)
{
    size_t kept;

    mutex_lock(&lock);
    kept = count < LOG_RECENT_MAX ? (size_t)count : LOG_RECENT_MAX;
    kept = kept < max ? kept : max;
    for (size_t i = 0; i < kept; i++)
        ret_lines[i] = lines[(count - kept + i) % LOG_RECENT_MAX];
    mutex_unlock(&lock);
    return kept;
}
