/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbdtab - find a device's line in /etc/nbdtab, as nbd-client reads it (pure).
 *
 *     nbd0 HOST-OR-SOCKET EXPORT [OPTION[=VALUE],...]   # comment
 *
 * Threads: any.
 */
#ifndef ATTACH_NBDTAB_H
#define ATTACH_NBDTAB_H

#include <stddef.h>
#include <stdint.h>

#include "attach/target.h"
#include "base/net_address.h"

enum { NBDTAB_MAX = 1 << 18 }; /* a file that is longer is none */

/*
 * Fill in the target of nbd<index>, from text of len bytes.  -ENOENT: there is
 * no line of it; -EINVAL, -ENOTSUP: it is wrong, or only for nbd-client, in
 * words with the number of the line.  Lines of other devices do not matter.
 */
int nbdtab_find(const char *text, size_t len, uint32_t index,
                struct target *ret_target, struct net_failure *ret_failure);

#endif
