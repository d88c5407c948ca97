/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * common_reload - a daemon's configuration is read again while it serves.
 *
 * What the table of settings lets a reload change is changed, new devices are
 * opened; of all else it is said that it takes a restart.  No connection is
 * dropped, and a file with mistakes changes nothing.
 *
 * Threads: one begins, reloads and ends; any may call common_reload_opened.
 * Locks: its own, a leaf, for the turn to change devices.
 */
#ifndef COMMON_RELOAD_H
#define COMMON_RELOAD_H

#include <limits.h>

#include "base/mutex.h"
#include "common.h"

struct nbd_server;
struct tls_context;

struct common_reload {
    char path[PATH_MAX]; /* of the file, wherever we are by now */
    const struct config *started;
    struct common_resources *resources;
    struct mutex lock;
    struct condition is_free;
    bool is_busy GUARDED_BY(lock); /* somebody changes devices */
    const struct config *current;  /* what holds now; in a turn */
    /* Those besides the first that hold now, or that a device was opened with:
     * others point into them. */
    struct config *kept[CONFIG_DEVICES_MAX + 2];
    size_t kept_count;
};

/*
 * Begin, before the process goes into the background and the resources are
 * opened, with the configuration that they are
 * opened with, which stays the caller's.  All must outlive the reload.
 */
void common_reload_init(struct common_reload *reload, const char *path,
                        const struct config *config,
                        struct common_resources *resources);

/*
 * A device is open since just now: have it obey what holds by now, before
 * clients see it.
 */
void common_reload_opened(struct common_reload *reload,
                          struct common_device *device);

/*
 * Read the file again, and have it obeyed; log what has changed.  -EINVAL: it
 * has mistakes, which are logged, or what it names is not usable, and nothing
 * has changed.
 */
int common_reload_run(struct common_reload *reload, struct nbd_server *server);

/*
 * Load what clients are shown, and must know, with TLS; *ret_tls is NULL if a
 * configuration wants none.  The reason of an error is logged.
 */
int common_load_tls(const struct config *config, struct tls_context **ret_tls);

/* End, when the resources are closed, and free the configurations. */
void common_reload_done(struct common_reload *reload);

#endif
