/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backend - the export that a kernel's device rests on: connections to it,
 * and the certainty that it is still the same content.
 *
 * s3blkdevd tells an incarnation of each export, which is another one as soon
 * as what it had answered may be lost (a power cut) or was replaced.  A device
 * whose file system remembers what was there must not be connected to it then.
 *
 * Threads: any.  Each wait ends at the deadline.
 */
#ifndef ATTACH_BACKEND_H
#define ATTACH_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "attach/block_device.h"
#include "attach/client_handshake.h"
#include "attach/target.h"
#include "base/net_address.h"

/* "<export>@<incarnation>" and its end. */
enum { BACKEND_NAME_SIZE = TARGET_EXPORT_SIZE + CLIENT_INCARNATION_SIZE };

/* What was found behind a target. */
struct backend {
    struct client_export export_info;
    /* What the kernel is told, and compares; "": the server is none of ours,
     * and nobody can know whether its content is the same. */
    char name[BACKEND_NAME_SIZE];
};

/*
 * Make count connections to the target's export, ready for the kernel; they
 * belong to the caller.  All are to one incarnation, the one in ret_backend.
 * Errors are those of client_handshake_go, -ECONNREFUSED and others when
 * nobody listens; -EAGAIN: the content was replaced right now.
 */
int backend_open(const struct target *target, int fds[], uint32_t count,
                 uint64_t deadline_ns, struct backend *ret_backend,
                 struct net_failure *ret_failure);

/*
 * Ask which content is behind the target now, without a connection that stays:
 * its name as in struct backend, "" too.
 */
int backend_look(const struct target *target, uint64_t deadline_ns,
                 char ret_name[BACKEND_NAME_SIZE],
                 struct net_failure *ret_failure);

/*
 * Check that an attached device may go on with what was found.  -ESTALE, and
 * why not: it is another incarnation, smaller, or can do less.
 */
int backend_check(const struct backend *backend,
                  const struct block_device *device,
                  struct net_failure *ret_failure);

/*
 * Returns whether a name that the kernel was told is one of this export, of
 * whatever incarnation.
 */
bool backend_is_of_export(const char *name, const char *export_name);

#endif
