/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control_client - a connection to who owns a cache directory.
 *
 * Threads: one uses a connection; control_client_interrupt may be called by
 * any.
 */
#ifndef CACHE_CONTROL_CLIENT_H
#define CACHE_CONTROL_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/control_message.h"

struct control_client;

/* What the owner said of itself. */
struct control_owner {
    char device_name[64];
    uint64_t device_size;
    uint32_t chunk_size;
    uint64_t pid;
    bool is_daemon;
};

/*
 * Connect to `control` in that directory and say hello.  -ENOENT: there is
 * no socket; -ECONNREFUSED: one that nobody listens on; -EPROTO: who answers
 * does not speak this protocol in this version (logged); others are logged.
 */
int control_client_open(const char *cachedir,
                        struct control_client **ret_client,
                        struct control_owner *ret_owner);

/*
 * Send the request and wait for its answer, however long that takes.  The
 * request is kept; *ret_reply is cleared by the caller, on success only.  An
 * answer "error" is success here.  -EPIPE: the owner is gone; -ECANCELED:
 * interrupted.  After an error the connection is of no use any more.
 */
int control_client_ask(struct control_client *client,
                       const struct control_message *request,
                       struct control_message *ret_reply);

/* Let the running, and each further, call return -ECANCELED. */
void control_client_interrupt(struct control_client *client);

/* Close and free; NULL does nothing. */
void control_client_close(struct control_client *client);

/*
 * Ask who owns the directory to give up its lock, and return when it did, or
 * is gone; also if there is nobody.  -EBUSY: a daemon has it, and keeps it;
 * -ETIMEDOUT past the deadline.
 */
int control_client_ask_to_yield(const char *cachedir, uint64_t deadline_ns);

#endif
