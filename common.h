/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * common - the first and the last thing that both programs do.
 *
 * A file for each concern: common.c has options, configuration and process;
 * common_systemd.c what systemd hands over and hears; common_store.c opens the
 * store, common_device.c one device, common_resources.c all that is open;
 * common_status.c answers for it.  The one place that knows both cache and s3;
 * nothing under lib/ includes it.
 *
 * Threads: one, the program's first; others open devices.
 */
#ifndef COMMON_H
#define COMMON_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mutex.h"
#include "cache/device.h"
#include "config.h"

#define COMMON_VERSION "1.0-dev"

#ifndef SYSCONFDIR
#define SYSCONFDIR "/usr/local/etc"
#endif
#define COMMON_CONFIG_PATH SYSCONFDIR "/s3blkdev.conf"

/* How a program ends; the manual pages say the same. */
enum common_exit {
    COMMON_OK = 0,
    COMMON_FAILED = 1, /* something that is needed did not work: see the log */
    COMMON_USAGE = 2,  /* options are wrong */
    COMMON_CONFIG = 3, /* the configuration cannot be read, or has mistakes */
    /* Of s3blkdev-sync: */
    COMMON_RUNS_ALREADY = 4, /* another process has the pid file */
    COMMON_TIME_UP = 5,      /* there is work left for the next run */
    COMMON_BEHIND = 6, /* and a device has older writes than maxage allows */
    COMMON_GO_ON = -1, /* of functions here: do not end */
};

/* ---- options ------------------------------------------------------------- */

struct common_program {
    const char *name;
    const char *usage;   /* for -h: lines, the first behind "usage: " */
    const char *letters; /* of its options, as for getopt(3) */
};

struct common_options {
    const char *config_path;
    const char *pid_path; /* -p, or NULL */
    bool check_only;      /* -t */
    bool single;          /* --single */
    bool hand_over;       /* --hand-over */
};

/*
 * Parse the options of a program.  Long ones are taken only by a program
 * whose letters include t.  Returns COMMON_GO_ON, or how to end: -h and -V
 * were answered, or what is wrong was said on stderr.
 */
int common_parse_options(const struct common_program *program, int argc,
                         char **argv, struct common_options *ret_options);

/* ---- configuration and log ----------------------------------------------- */

/*
 * Load the configuration, which the caller frees by config_free, and open
 * the log as it says.  Returns COMMON_GO_ON or, after telling all mistakes on
 * stderr, COMMON_CONFIG.
 */
int common_load_config(const struct common_program *program, const char *path,
                       struct config **ret_config);

/*
 * Warn of each directory in the configuration that does not exist: not a
 * mistake of the file, but what a start would fail by.  Returns whether all
 * are there.
 */
bool common_check_directories(const struct config *config);

/* ---- process ------------------------------------------------------------- */

/*
 * Block SIGTERM, SIGINT and SIGHUP, also in threads made later, and have them
 * read from a signalfd, which is the caller's.
 */
int common_open_signals(int *ret_fd);

/*
 * What every program needs before its first thread: SIGPIPE ignored, as many
 * descriptors as the system lets us have, and a malloc that gives back what
 * was freed.
 */
void common_prepare_process(void);

/* ---- systemd ------------------------------------------------------------- */

/* Tell systemd, if it wants to hear: lines such as "READY=1". */
void common_notify(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Returns how often the watchdog wants to hear of us, at most max_ms. */
int common_notify_interval_ms(int max_ms);

/* ---- store and devices --------------------------------------------------- */

struct bandwidth_entry;
struct control_message;
struct control_server;
struct device;
struct interrupter;
struct opener;
struct owner;
struct upload_share;

enum common_device_state {
    COMMON_DEVICE_CLOSED,
    COMMON_DEVICE_WAITS, /* for the store, which is needed to open it */
    COMMON_DEVICE_OPEN,
    COMMON_DEVICE_LEFT_OUT, /* it cannot be opened */
};

struct common_device {
    const struct config_device *config;
    /*
     * Whoever reads that it is open may use what follows: it was set before,
     * and stays until it is closed.  Until then only its opener does.
     */
    _Atomic enum common_device_state state;
    _Atomic bool is_told; /* whoever is to hear that it is open has heard */
    struct device *device;
    struct owner *owner; /* NULL: read-only */
    struct control_server *control;
    char *image; /* names of device and snapshot, each with its 0; or NULL */
    int error;   /* why it is left out */
    bool stays;  /* it is opened again soon after it is closed: it is not
                    released, and whoever asks for it waits */
    const struct config *whole_config;
    const struct common_opening *opening;
    struct common_resources *resources;
};

/* What is opened, and how. */
struct common_opening {
    const struct config_device *only; /* NULL: all devices */
    enum device_attach attach;
    unsigned uploads; /* at once, for a device; 0: as configured */
    /*
     * A daemon that starts wants the directory: see control_handler.  NULL: we
     * are a daemon, and want it ourselves.
     */
    void (*yield)(void *context, int fd);
    /* How many clients a device has; NULL: none, ever. */
    uint64_t (*connections)(void *context, const struct device *device);
    /* Add what status_text.h has of its clients; NULL: nobody knows. */
    void (*tell_clients)(void *context, const struct device *device,
                         struct control_message *status);
    /*
     * A device that cannot be opened without an answer of the store waits for
     * it, and this is called, in another thread, when it is open; perhaps
     * before common_open_resources returns.  NULL: it is left out.
     */
    void (*opened)(void *context, struct common_device *device);
    /* One that waited is left out, in that thread as well.  NULL: so be it. */
    void (*left_out)(void *context, struct common_device *device);
    /*
     * Clients wait for us: what the store does not answer soon is taken as no
     * answer.
     */
    bool is_urgent;
    void *context;
};

/* Whether the store can be used is asked beside what else there is to do. */
struct common_check {
    const struct config *config;
    struct object_store *store;
    pthread_t thread;
    bool is_running;
};

/* What is open; all zeros: nothing. */
struct common_resources {
    struct object_store *store;
    struct interrupter *interrupter; /* of the store; NULL: none so far */
    struct put_probe *probe;         /* of the store */
    struct upload_share *share;      /* of what goes to it */
    struct workers *workers;
    struct workers *fetchers;
    struct common_check check;
    /* All that are to be opened; of a daemon there may be more later, and
     * there is room for CONFIG_DEVICES_MAX: who reads the count may use them.
     */
    struct common_device *devices;
    _Atomic size_t devices_count;
    /* A leaf: other threads than the first hold it while they use ->config of
     * a device that is not open, as its place may be given to another. */
    struct mutex places_lock;
    struct opener *opener;         /* NULL: none is opened later */
    struct control_server *status; /* NULL: none is configured */
    uint64_t serving_since_ns;     /* since 1970: common_serve_status */
};

/*
 * Fill in what the configuration, which was checked, says of limits; there is
 * room for CONFIG_LIST_MAX.  Returns how many.
 */
size_t common_take_limits(const struct config_list *list,
                          struct bandwidth_entry *entries);

/* Open the store of the configuration; it need not answer for that. */
int common_open_store(const struct config *config,
                      struct object_store **ret_store);

/*
 * Have an open store obey what a configuration, of the same store, says now of
 * limits and keys; keys are read again.  Errors are logged.
 */
int common_change_store(const struct config *config,
                        struct object_store *store);

/*
 * Have the store, if it is a bucket, take what it does not get within so long
 * as no answer, but for what clients wait for.  0: no longer.
 */
void common_hurry_store(const struct config *config, struct object_store *store,
                        unsigned ms);

/*
 * Ask a bucket whether it can be used, and log why not.  Takes as long as
 * s3timeout at most.
 */
int common_check_store(const struct config *config, struct object_store *store);

/*
 * Open the store, start the workers, open devices side by side, own them
 * towards the bucket, and serve their control sockets.  A device that cannot
 * be opened is logged and left out, or waits.  Returns 0 or a negative errno:
 * then what is needed for all of them failed, or every single one and none of
 * them waits, and nothing is open.
 * -EWOULDBLOCK: another process has it (all).  config, opening and
 * *ret_resources must stay where they are until it is closed.
 */
int common_open_resources(const struct config *config,
                          const struct common_opening *opening,
                          struct common_resources *ret_resources);

/*
 * Open one more device, in the background, as a daemon does; or again one that
 * was left out, with what the configuration says of it now.  config must stay
 * where it is until it is closed.  -EOPNOTSUPP: none is opened later; -ENOSPC:
 * there are too many; another error: there are no means.
 */
int common_open_more(struct common_resources *resources,
                     const struct config *config,
                     const struct config_device *device);

/* Returns how many devices are in that state now. */
size_t common_count_devices(const struct common_resources *resources,
                            enum common_device_state state);

/*
 * Serve the status socket, if there is one in the configuration.
 */
int common_serve_status(const struct config *config,
                        struct common_resources *resources);

/*
 * Closing, which is to follow, must not take for ever: what still waits for
 * the store is cut off after so long, or when fd (-1: none) is readable.
 */
void common_limit_closing(struct common_resources *resources, int fd,
                          unsigned ms);

/*
 * Sync and close all of it, in reverse.  No request may be in flight.
 * releases: a device of which everything is published is marked as released,
 * unless it stays.
 * Returns the first error of a device.
 */
int common_close_resources(struct common_resources *resources, bool releases);

#endif
