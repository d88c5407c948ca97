/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * owner - what the holder of a cache directory's lock does for its device
 * towards the bucket.
 *
 * A thread per device looks, every second and whenever it is woken, for what
 * is to be done (while the device rests, every ten seconds: device_rest.h), and
 * does it in this order:
 *
 *   claim    find out whether somebody else owns the device by now
 *   publish  a checkpoint of which all is uploaded becomes an image
 *   collect  condemn and delete what no image needs
 *
 * Another one makes room when the cache runs full, so that writes go on, also
 * while the first one waits for a store that does not answer: it evicts what
 * is clean, and uploads what is not.
 *
 * Beside it, commands come from the control socket.  What changes the
 * device's history in the bucket (publish, rollback, ...) is done by one of
 * them at a time, whoever it is.
 *
 * Threads: any.  Locks: its own, a leaf, not held while anything is done.
 */
#ifndef CACHE_OWNER_H
#define CACHE_OWNER_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/control_message.h"

struct device;
struct object_store;
struct owner;
struct upload_share;

/* What may change while it runs. */
struct owner_limits {
    uint64_t cachesize;   /* bytes that chunk files may take; 0: the disk's */
    unsigned keep;        /* images, besides those that have a name */
    uint64_t grace_ns;    /* between condemning and deleting an object */
    uint64_t max_age_ns;  /* of a write that no image has; 0: any */
    unsigned uploads;     /* at once, of all who upload for this device */
    uint64_t upload_rate; /* bytes a second, of all of them; 0: no limit */
};

struct owner_options {
    struct device *device;
    struct object_store *store;
    struct owner_limits limits; /* at first */
    struct upload_share *share; /* what devices may use together; NULL: all */
    bool is_daemon;             /* it serves clients: told to whom says hello */
    /* How many clients are attached now; NULL: there are none, ever. */
    uint64_t (*connections)(void *context);
    /* Add what status_text.h has of clients; NULL: nobody knows. */
    void (*tell_clients)(void *context, struct control_message *status);
    void *context;
};

/*
 * Start to own the device, which is open.  options is copied; what it points
 * to must outlive the owner.
 */
int owner_start(const struct owner_options *options, struct owner **ret_owner);

/*
 * From now on these limits hold; also that of the device's cache.  What was
 * begun under others goes on under them.
 */
void owner_set_limits(struct owner *owner, const struct owner_limits *limits);

/*
 * Have whoever waits in owner_handle return, with -ECANCELED from now on: for
 * who is about to stop the control server.
 */
void owner_interrupt(struct owner *owner);

/*
 * Release the claim if everything is published, and nobody writes any more;
 * else it stays ours.  For a stop in order, after the last client has gone
 * and before owner_stop.
 */
int owner_release(struct owner *owner);

/* End the thread after what it has in hand, and free.  NULL does nothing. */
void owner_stop(struct owner *owner);

/*
 * Begin an answer to "status" and fill it in, but for what the store says of
 * itself.
 */
void owner_describe(struct owner *owner, struct control_message *ret_status);

/*
 * Answer a request of control_message.h, from the connection that is named
 * holder; control_handler.handle and .gone.
 */
int owner_handle(void *owner, const struct control_message *request,
                 uint64_t holder, struct control_message *reply);
void owner_holder_gone(void *owner, uint64_t holder);

#endif
