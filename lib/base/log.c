/* SPDX-License-Identifier: BSD-2-Clause */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_recent.h"
#include "base/utf8.h"

enum {
    MESSAGE_SIZE = 2048, /* longer ones are cut, with "..." */
    LIMIT_SECONDS = 10,
};

static const char JOURNAL_SOCKET[] = "/run/systemd/journal/socket";

static const struct {
    const char *name;
    int priority; /* of syslog and the journal */
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", LOG_ERR},
    [LOG_LEVEL_WARNING] = {"warning", LOG_WARNING},
    [LOG_LEVEL_INFO] = {"info", LOG_INFO},
    [LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
};

/*
 * Written at start, while there is one thread, but for the level: an old one
 * for an instant does no harm, so relaxed order suffices.
 */
static const char *program_name = "s3blkdev";
static bool to_journal;
static _Atomic int max_level = LOG_LEVEL_INFO;

/*
 * systemd sets JOURNAL_STREAM to the device and inode of the stream that it
 * connected; if stderr is another one now, somebody redirected it.
 */
static bool stderr_is_journal(void)
{
    /* No thread but this one exists yet: log_open is for the start. */
    /* NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *stream = getenv("JOURNAL_STREAM");
    uintmax_t device, inode;
    struct stat status;

    if (!stream ||
        sscanf(stream, "%" SCNuMAX ":%" SCNuMAX, &device, &inode) != 2)
        return false;
    return fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device &&
           status.st_ino == inode;
}

void log_open(const char *name, enum log_target target, enum log_level level)
{
    program_name = name;
    to_journal = target == LOG_TARGET_JOURNAL ||
                 (target == LOG_TARGET_AUTO && stderr_is_journal());
    /* Without a journal sd_journal_send says nothing, and returns 0. */
    if (to_journal && access(JOURNAL_SOCKET, W_OK) != 0)
        to_journal = false;
    log_set_level(level);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

/* One write each, so that lines of several threads do not mix. */
static void write_line(enum log_level level, const char *message)
{
    char line[MESSAGE_SIZE + 64];
    int len = snprintf(line, sizeof(line), "%s: %s: %s\n", program_name,
                       levels[level].name, message);

    if (len < 0)
        return;
    if ((size_t)len >= sizeof(line)) {
        len = (int)sizeof(line) - 1;
        line[len - 1] = '\n';
    }
    /* Where should it be told that telling failed? */
    (void)!write(STDERR_FILENO, line, (size_t)len);
}

static __attribute__((format(printf, 2, 0))) void
log_message(enum log_level level, const char *format, va_list arguments)
{
    int saved_errno = errno;
    char message[MESSAGE_SIZE];
    int len;

    if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
        return;
    len = vsnprintf(message, sizeof(message), format, arguments);
    if (len >= (int)sizeof(message))
        memcpy(message + sizeof(message) - 4, "...", 4);
    if (len >= 0) {
        /* Guests and servers choose parts of it: they start no new line, nor
         * is there anything that a terminal obeys, or for which the journal
         * shows the line as a blob. */
        utf8_make_visible(message);
        if (level <= LOG_LEVEL_WARNING)
            log_recent_add(level, message);
        if (!to_journal ||
            sd_journal_send("MESSAGE=%s", message, "PRIORITY=%i",
                            levels[level].priority, "SYSLOG_IDENTIFIER=%s",
                            program_name, NULL) < 0)
            write_line(level, message);
    }
    errno = saved_errno;
}

void log_error(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_message(LOG_LEVEL_ERROR, format, arguments);
    va_end(arguments);
}

void log_warning(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_message(LOG_LEVEL_WARNING, format, arguments);
    va_end(arguments);
}

void log_info(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_message(LOG_LEVEL_INFO, format, arguments);
    va_end(arguments);
}

void log_debug(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_message(LOG_LEVEL_DEBUG, format, arguments);
    va_end(arguments);
}

bool log_limit_allows(struct log_limit *limit, uint64_t *ret_left_out)
{
    /* Only the one whose exchange wins logs; the count is for the reader. */
    uint64_t now = clock_monotonic_ns();
    uint64_t next = atomic_load_explicit(&limit->next_ns, memory_order_relaxed);

    if (now < next ||
        !atomic_compare_exchange_strong_explicit(
            &limit->next_ns, &next, now + LIMIT_SECONDS * UINT64_C(1000000000),
            memory_order_relaxed, memory_order_relaxed)) {
        (void)atomic_fetch_add_explicit(&limit->left_out, 1,
                                        memory_order_relaxed);
        return false;
    }
    *ret_left_out =
        atomic_exchange_explicit(&limit->left_out, 0, memory_order_relaxed);
    return true;
}

const char *log_errno(int error)
{
    static _Thread_local char text[64];

    /* An int's lowest value has no positive one, and is no errno. */
    if (error >= 0 || error < -4095) {
        (void)snprintf(text, sizeof(text), "no error number: %d", error);
        return text;
    }
    return strerror_r(-error, text, sizeof(text));
}
