/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * target - which kernel device is attached to which export of which server,
 * and how; as in a line of nbdtab, or on the command line (pure).
 *
 * Threads: any.
 */
#ifndef ATTACH_TARGET_H
#define ATTACH_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net_address.h"

enum {
    TARGET_INDEX_MAX = 65535,
    TARGET_NAME_SIZE = 16,    /* "nbd65535" and its end */
    TARGET_SERVER_SIZE = 256, /* a host or a path, and its end */
    TARGET_EXPORT_SIZE = 256, /* the name of an export, and its end */
    TARGET_LINE_SIZE = 1024,  /* what target_format writes, and its end */
    TARGET_CONNECTIONS_MAX = 16,
    TARGET_BLOCK_SIZE = 4096, /* unless told otherwise */
    TARGET_DEAD_TIMEOUT_S = 600,
    TARGET_TIMEOUT_MAX_S = 1 << 20, /* the kernel counts in its ticks */
    TARGET_PORT = 10809,
};

struct target {
    uint32_t index;                  /* N of nbdN */
    char server[TARGET_SERVER_SIZE]; /* a host; with a slash: a Unix socket */
    uint16_t port;                   /* of a host */
    char export_name[TARGET_EXPORT_SIZE];
    uint32_t connections;
    uint32_t block_size;
    uint64_t timeout_s;      /* of a request; 0: none */
    uint64_t dead_timeout_s; /* how long requests wait for a connection */
    bool read_only;
};

/* Set all that has a default; no device, server, export. */
void target_init(struct target *target);

/*
 * Take the number out of "nbd3" or "/dev/nbd3".  -EINVAL: it is none, as a
 * partition is none.
 */
int target_parse_device(const char *text, uint32_t *ret_index);

/* Write "nbd3"; returns name. */
const char *target_name(uint32_t index, char name[TARGET_NAME_SIZE]);

/* Returns whether the server is a Unix socket. */
bool target_is_unix(const struct target *target);

/*
 * Set the server: the path of a Unix socket, with at least one slash; a host,
 * name or numeric address; "host:port"; "[v6 address]:port".
 */
int target_set_server(struct target *target, const char *text,
                      struct net_failure *ret_failure);

/* Set the name of the export. */
int target_set_export(struct target *target, const char *text,
                      struct net_failure *ret_failure);

/*
 * Set one option as nbdtab has them: those of nbd-client(8), and dead=SECONDS,
 * ro.  value is NULL for one that has none.  -ENOTSUP: only nbd-client can do
 * this; -EINVAL: it is unknown, or its value is wrong.
 */
int target_set_option(struct target *target, const char *name,
                      const char *value, struct net_failure *ret_failure);

/*
 * Check what can be wrong only in the whole: that there is a server, a path
 * that is short enough, that TLS is not needed.  -EINVAL.
 */
int target_check(const struct target *target, struct net_failure *ret_failure);

/* Write it as a line of nbdtab, without its end; returns line. */
const char *target_format(const struct target *target,
                          char line[TARGET_LINE_SIZE]);

/* Write the server for messages: "/run/x.sock", "host:10809"; returns text. */
const char *target_server_name(const struct target *target,
                               char text[TARGET_SERVER_SIZE + 16]);

#endif
