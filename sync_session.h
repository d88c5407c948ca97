/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sync_session - s3blkdev-sync's way to a device: the connection to whoever
 * owns its cache directory; if nobody does, to itself.
 *
 * Without an owner the directory is opened here, by the same steps as in
 * s3blkdevd, and its control socket is served; then we are a client of that
 * socket like any other.  A daemon that starts meanwhile gets the directory at
 * once, and the session goes on as its client after sync_session_renew.
 *
 * As root, the session takes on the uid of who owns the directory before it
 * opens anything, and gives it up when it is closed.
 *
 * Threads: one, but for sync_session_interrupt and sync_session_upload.
 */
#ifndef SYNC_SESSION_H
#define SYNC_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/control_client.h"
#include "cache/device.h"
#include "cache/upload.h"

struct config;
struct config_device;
struct sync_session;

struct sync_session_options {
    const struct config *config;
    const struct config_device *device;
    uint64_t wait_ns; /* for a daemon that is restarting */
    int stop_fd;      /* readable: nothing is waited for any more */
    int hurry_fd;     /* readable: what waits for the store is cut off */
    /*
     * How to open the device if nobody has it.  Not NORMAL: an owner that has
     * it is told so by the caller, see sync_session_is_own.
     */
    enum device_attach attach;
};

/*
 * Find the owner, or be it.  -EBUSY: another process has the directory and
 * does not answer; -ECANCELED: stop_fd; others.  All are logged but
 * -ECANCELED.  options is copied; what it points to must outlive the session.
 */
int sync_session_open(const struct sync_session_options *options,
                      struct sync_session **ret_session);

/*
 * Close the connection; if we own the directory, close it, too, and mark the
 * device as released if everything is published.  Returns the error of that.
 * NULL does nothing.
 */
int sync_session_close(struct sync_session *session);

/* Returns the cache directory's path, which lives as long as the options. */
const char *sync_session_cachedir(const struct sync_session *session);

/* Whether we are the owner: then what attach asked for is done. */
bool sync_session_is_own(const struct sync_session *session);

/*
 * Ask the owner; see control_client_ask.  -EPIPE: it is gone, and
 * sync_session_renew finds the next one, or makes us the owner.
 */
int sync_session_ask(struct sync_session *session,
                     const struct control_message *request,
                     struct control_message *ret_reply);
int sync_session_renew(struct sync_session *session);

/* Let who asks return -ECANCELED, now and later. */
void sync_session_interrupt(struct sync_session *session);

/*
 * Be ready for sync_session_upload, which is uploader_options.upload with the
 * session as context; also after sync_session_renew.
 */
int sync_session_prepare_uploads(struct sync_session *session);
int sync_session_upload(void *session, const struct upload_work *work,
                        struct upload_result *ret_result);

#endif
