/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sync_run - what every run of s3blkdev-sync has: its command, its session
 * with the owner of a device, the end that a signal asks for, and how it is
 * told.
 *
 * One session is open at a time.  Functions that return an int without a word
 * about it return an exit code (enum common_exit).
 *
 * Threads: the first one runs all of it; one more hears signals.
 */
#ifndef SYNC_RUN_H
#define SYNC_RUN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mutex.h"
#include "cache/control_message.h"
#include "cache/device.h"
#include "cache/uploader.h"
#include "config.h"
#include "sync_command.h"

struct sync_session;

/* All that a run knows. */
struct sync {
    struct sync_command command;
    struct config *config;
    uint64_t deadline_ns;  /* to begin chunks; UINT64_MAX: none */
    bool has_terminal;     /* somebody watches */
    int signal_fd, end_fd; /* of the thread that hears signals */
    int stop_fd;           /* eventfd: a signal came */
    int hurry_fd; /* eventfd: another one, or it was long ago: nothing is
                     waited for that the store does not give */
    pthread_t signal_thread;
    struct mutex mutex;           /* for the thread that hears signals */
    struct sync_session *session; /* GUARDED_BY(mutex), for that thread */
    struct uploader *uploader;    /* GUARDED_BY(mutex), for that thread */
    bool is_stopping;             /* GUARDED_BY(mutex): a signal came */
    struct control_message request, reply;
};

/* ---- what is said ------------------------------------------------------- */

/* Say, on standard error, what went wrong with a device: COMMON_FAILED. */
int sync_fail(const struct config_device *device, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Returns, of two exit codes, the one that says more. */
int sync_worse(int a, int b);

/* Say something to people who watch. */
void sync_tell(const struct sync *sync, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- the end ------------------------------------------------------------ */

/* Whether a signal came: nothing more is begun then. */
bool sync_is_stopping(struct sync *sync);

/* Wait so long, or until a signal comes.  Returns whether none came. */
bool sync_rest(const struct sync *sync, int milliseconds);

/*
 * Block the signals that say to end, and hear them in a thread; end it.  0 or
 * a negative errno.
 */
int sync_start_hearing(struct sync *sync);
void sync_stop_hearing(struct sync *sync);

/* ---- a session ---------------------------------------------------------- */

/* Open a session with the owner of a device: 0 or a negative errno, logged. */
int sync_open(struct sync *sync, const struct config_device *device,
              enum device_attach attach);

/* Close it. */
int sync_close(struct sync *sync);

/* Begin a request, which is returned to add keys to. */
struct control_message *sync_request(struct sync *sync, const char *verb);

/*
 * Ask what was begun; the reply stays until the next one.  Returns 0 or a
 * negative errno, which may be that of an answer "error".
 */
int sync_ask(struct sync *sync);

/*
 * The same for what does no harm when it is done twice: an owner that goes
 * away is followed by the next one.
 */
int sync_ask_any(struct sync *sync);

/* Returns why it failed, in the owner's words if it said something. */
const char *sync_reason(const struct sync *sync, int error);

/* Returns the number of a key of the reply; 0 without one. */
uint64_t sync_number(const struct sync *sync, const char *key);

/* Say that a request failed, unless a signal was the reason. */
int sync_fail_request(struct sync *sync, const struct config_device *device,
                      const char *what, int error);

/* ---- uploads ------------------------------------------------------------ */

/* What has been done since then, for people who watch. */
struct sync_progress {
    const char *device;
    const char *what;
    uint64_t began_ns;
    uint64_t chunks; /* to be done; 0: not known */
};

/*
 * Upload what the owner hands out until there is no more, or no more time.
 * purpose: see control_message.h.  Returns an error (negative errno) only if
 * nothing could be begun.
 */
int sync_upload(struct sync *sync, const char *purpose,
                const struct sync_progress *progress,
                struct uploader_counts *ret_counts);

/* ---- devices ------------------------------------------------------------ */

/* A device, and since when it has something that no image holds. */
struct sync_candidate {
    const struct config_device *device;
    uint64_t unpublished_ns; /* UINT64_MAX: nothing */
    bool is_behind;
    int code;     /* what it came to */
    bool is_left; /* it is to be tried, perhaps again */
};

/* Returns the device of that name, or NULL. */
const struct config_device *sync_find_device(const struct sync *sync,
                                             const char *name);

/*
 * Returns the devices that are to be worked on, for_all: also those that are
 * only read; an array for free(), NULL without memory.
 */
struct sync_candidate *sync_choose_devices(const struct sync *sync,
                                           bool for_all, size_t *ret_count);

#endif
