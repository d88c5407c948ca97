/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log - what the program has to say, by level, to stderr or the journal.
 *
 * Any thread may log; errno is preserved.  Messages have no trailing newline
 * and name device, chunk and endpoint where there is one.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR,   /* data or service is affected: somebody must look */
    LOG_LEVEL_WARNING, /* something is wrong, and was handled */
    LOG_LEVEL_INFO,    /* start, stop, attach, recovery */
    LOG_LEVEL_DEBUG,   /* each request, each pass */
};

enum log_target {
    LOG_TARGET_AUTO,    /* the journal if stderr leads there, else stderr */
    LOG_TARGET_STDERR,  /* "name: level: message" lines */
    LOG_TARGET_JOURNAL, /* systemd's journal; without one, stderr */
};

/*
 * Say where messages go and which are dropped.  Before the first call:
 * stderr, LOG_LEVEL_INFO.  name must outlive the program's last message.
 */
void log_open(const char *name, enum log_target target, enum log_level level);

/* Change the level of what is dropped from now on. */
void log_set_level(enum log_level level);

/* Say something of this level, as printf does. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * One place that may repeat itself a million times a minute: declare it
 * static and zero.  Returns whether this occurrence may be logged (the first,
 * then at most one in 10 s), and the number left out since the last one.
 */
struct log_limit {
    _Atomic uint64_t next_ns;
    _Atomic uint64_t left_out;
};
bool log_limit_allows(struct log_limit *limit, uint64_t *ret_left_out);

/*
 * Returns the description of a negative errno, never NULL; good until the
 * next call of this thread.
 */
const char *log_errno(int error);

#endif
