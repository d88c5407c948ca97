/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * daemon_sockets - where clients come from: sockets that systemd or a process
 * before hands over, or else those of the configuration.
 *
 * Threads: one, the program's first.
 */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/fd_store.h"
#include "config.h"

struct nbd_server;

/* A Unix socket that was made here and is removed at the end. */
struct daemon_socket_path {
    const char *path;
    dev_t device;
    ino_t inode;
};

struct daemon_sockets {
    struct fd_store handed_over; /* to us, and later by us */
    size_t listeners;            /* sockets that we listen on */
    struct daemon_socket_path paths[CONFIG_LIST_MAX];
    size_t paths_count;
};

/*
 * Take what was handed over, in place of "listen"; before any fork.  is_single:
 * one connection is to be served, standard input or the first that comes; it
 * is handed_over.connected then.  -EDESTADDRREQ and others are logged.
 */
int daemon_sockets_take(struct daemon_sockets *sockets,
                        const struct config *config, const char *config_path,
                        bool is_single);

/*
 * Have the server listen on what was handed over, or else on what the
 * configuration says, whose paths must stay where they are.
 */
int daemon_sockets_listen(struct daemon_sockets *sockets,
                          const struct config *config,
                          struct nbd_server *server);

/* Remove the Unix sockets that were made here: nobody new can come. */
void daemon_sockets_remove(struct daemon_sockets *sockets);

#endif
