/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach - attach a kernel's device to an export, give it new connections,
 * change its size, detach it.
 *
 * Threads: one.
 */
#ifndef ATTACH_ATTACH_H
#define ATTACH_ATTACH_H

#include <stdbool.h>
#include <stdint.h>

#include "attach/backend.h"
#include "attach/links.h"
#include "attach/nbd_driver.h"
#include "attach/target.h"
#include "base/net_address.h"

/* What a server has to connect and to answer in, each time. */
enum { ATTACH_PATIENCE_S = 10 };

/* Where all happens. */
struct attach_host {
    struct nbd_driver *driver;
    const char *root;      /* in front of /sys, /proc and /dev: "" */
    const char *state_dir; /* ATTACH_STATE_DIR */
};

/*
 * Attach the target's device, which is not attached; target->connections is
 * set to 1 if the server allows no more (logged).  Its connections are watched
 * by links from now on.  One that is only open is waited for, for a while.
 * Errors of backend_open and nbd_driver_connect, in words: -EBUSY, it is in
 * use.
 */
int attach_device(const struct attach_host *host, struct target *target,
                  struct links *links, struct net_failure *ret_failure);

/*
 * Give the attached device connections in place of lost ones, if the target's
 * export is still what it was attached to: until there are as many as there
 * should be, or the kernel takes no more; *ret_taken tells how many it took,
 * also after an error.  links watches them.  any_content: also a device of
 * which nobody knows what it was attached to.
 *   -ESTALE   the export is not what it was (see backend_check)
 *   -ENOTCONN the device is not attached any more
 *   -EINVAL   it was not attached by netlink, or is being detached
 *   others    the server cannot be reached now
 */
int attach_restore(const struct attach_host *host, const struct target *target,
                   bool any_content, struct links *links, uint32_t *ret_taken,
                   struct net_failure *ret_failure);

/*
 * Give the device the size that its export has now.  any_content: also a
 * device of which nobody knows what it was attached to; so that must be the
 * target.  -ESTALE: it is smaller, or another content.  Returns the sizes
 * before and now.
 */
int attach_resize(const struct attach_host *host, const struct target *target,
                  bool any_content, uint64_t *ret_before, uint64_t *ret_now,
                  struct net_failure *ret_failure);

/*
 * Detach the device.  -EBUSY: it is in use, unless force; -ENOTCONN: it is
 * not attached.
 */
int attach_detach(const struct attach_host *host, uint32_t index, bool force,
                  struct net_failure *ret_failure);

/*
 * The same for systemd, which calls this also when the watcher has ended by
 * itself (has_ended), and tells how in service_result.  One that has failed
 * leaves the device to the next; and one ends well only when the device is
 * detached, or was, and then attached by others: it stays theirs.
 */
int attach_detach_service(const struct attach_host *host, uint32_t index,
                          bool force, const char *service_result,
                          bool has_ended, struct net_failure *ret_failure);

/*
 * Check that the device is attached.  -ENOTCONN: it is not, though somebody may
 * have it open.
 */
int attach_check(const struct attach_host *host, uint32_t index,
                 struct net_failure *ret_failure);

#endif
