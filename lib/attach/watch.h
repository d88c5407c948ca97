/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * watch - stay beside an attached device, and bring its connections back.
 *
 * As long as all are there it only listens.  When one is lost, because the
 * server ended or the network did, it connects again, again and again, for as
 * long as the device is attached; unless what the server has is another
 * content than before: then nothing may be connected, and it ends.
 *
 * Threads: one.
 */
#ifndef ATTACH_WATCH_H
#define ATTACH_WATCH_H

#include <stdint.h>

#include "attach/attach.h"
#include "attach/target.h"
#include "base/net_address.h"

/* What watch_run is told, and tells. */
struct watch_options {
    const struct attach_host *host;
    /* Another one than host->driver: it was told to listen, events arrive
     * there. */
    struct nbd_driver *events;
    /*
     * Called when the device is attached, and each time something changes;
     * text is one line about the connections.
     */
    void (*tell)(void *context, const char *text);
    void *context;
};

/*
 * Attach the target's device, waiting for its server, or go on with one that
 * is attached to it already; then keep it connected.  Returns 0 when somebody
 * detached it.  Never ends otherwise but by
 *   -ESTALE   the server's content is not the device's; the device stays
 *             attached, and its requests fail after its dead timeout
 *   -EBUSY    the device is attached to something else, or in use
 *   -EPERM, -EINVAL, -ENOTSUP and others: it cannot be attached at all
 */
int watch_run(const struct watch_options *options, struct target *target,
              struct net_failure *ret_failure);

/* How long to wait before the next attempt, after one that failed (pure). */
unsigned watch_next_delay_ms(unsigned delay_ms);

#endif
