/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control_server - the sockets by which others talk to who owns a cache
 * directory.
 *
 * `<cachedir>/control` (mode 0600) takes the requests of control_message.h
 * from root and from the owner's own uid.  It exists while its directory's
 * lock is held, and only the holder of that lock removes or replaces it.  The
 * status socket (mode 0660) answers "status" and "map", to whoever can open
 * it.
 *
 * Threads: a connection has one of its own, which runs its requests one after
 * the other.  No lock is held while a callback runs.
 */
#ifndef CACHE_CONTROL_SERVER_H
#define CACHE_CONTROL_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/control_message.h"

struct control_server;

/*
 * What serves requests: owner_handle and its like, many threads at once.
 * holder is the number of the connection, which its server never uses again.
 * *reply is not started; it must be when 0 is returned.  A negative errno is
 * answered as "error", and logged by whom it comes from.
 */
struct control_handler {
    int (*handle)(void *context, const struct control_message *request,
                  uint64_t holder, struct control_message *reply);
    /* A connection that had a request has ended; NULL: nobody asks. */
    void (*gone)(void *context, uint64_t holder);
    /*
     * A daemon that starts wants the lock: the descriptor belongs to the
     * callee, which closes it when the lock is free.  NULL: it is not given
     * up, for the owner is a daemon.
     */
    void (*yield)(void *yield_context, int fd);
    void *yield_context;
    void *context; /* of the others */
};

struct control_server_options {
    int dirfd; /* of the cache directory, whose lock is held; stays open */
    const char *device_name;
    uint64_t device_size;
    uint32_t chunk_size;
    struct control_handler handler;
};

/*
 * Serve `control` in the directory.  options is copied; dirfd and the strings
 * must outlive the server.  Errors are the caller's to log.
 */
int control_server_start(const struct control_server_options *options,
                         struct control_server **ret_server);

/*
 * Serve the status socket: handler.handle is asked "status" and "map", which
 * change nothing.
 * A socket that a dead process left at path is replaced.  Errors are logged.
 */
int control_server_start_status(const char *path,
                                const struct control_handler *handler,
                                struct control_server **ret_server);

/* The device has grown: who says hello from now on is told so. */
void control_server_set_size(struct control_server *server,
                             uint64_t device_size);

/*
 * Remove the socket, end all connections, return when no callback runs any
 * more, and free.  Requests that wait for something of the handler must be
 * woken by who calls this, before.  NULL does nothing.
 */
void control_server_stop(struct control_server *server);

/*
 * The same, but the socket stays, and refuses: whoever finds it waits for the
 * next owner, as after one that died.
 */
void control_server_leave(struct control_server *server);

#endif
