/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/slow_store.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#include "base/mutex.h"

enum { QUANTUM = 64 << 10 }; /* bytes, after which it is another's turn */

static const uint64_t SECOND_NS = 1000000000;

struct slow_store {
    struct object_store store; /* first, so that one is the other */
    struct object_store *inner;
    uint64_t latency_ns;
    uint64_t bytes_per_s;
    struct mutex mutex;
    struct condition nothing; /* to wait for, until a time is over */
    uint64_t line_is_free_ns GUARDED_BY(mutex); /* from then on */
};

static struct slow_store *of(struct object_store *store)
{
    return (struct slow_store *)(void *)store;
}

/* The real time, which no test sets. */
static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* Whether it is late or early does not matter to anybody's result. */
static void wait_until(struct slow_store *slow, uint64_t until_ns)
{
    mutex_lock(&slow->mutex);
    while (condition_wait_until(&slow->nothing, &slow->mutex, until_ns))
        continue; /* nobody signals it */
    mutex_unlock(&slow->mutex);
}

/* Returns when so many bytes, ready to be sent since then, have passed. */
static uint64_t send(struct slow_store *slow, size_t size, uint64_t ready_ns)
{
    uint64_t end_ns;

    mutex_lock(&slow->mutex);
    if (slow->line_is_free_ns < ready_ns)
        slow->line_is_free_ns = ready_ns;
    slow->line_is_free_ns += size * SECOND_NS / slow->bytes_per_s;
    end_ns = slow->line_is_free_ns;
    mutex_unlock(&slow->mutex);
    return end_ns;
}

/*
 * Take the rest of the time of a call that moves so many bytes: what the
 * other store took since it began is a part of it, and what it takes this
 * thread to wake up is not the line's.
 */
static void take_time(struct slow_store *slow, uint64_t begin_ns, size_t size)
{
    uint64_t at_ns = begin_ns + slow->latency_ns;

    wait_until(slow, at_ns);
    while (slow->bytes_per_s > 0 && size > 0) {
        size_t part = size < QUANTUM ? size : QUANTUM;

        at_ns = send(slow, part, at_ns);
        wait_until(slow, at_ns);
        size -= part;
    }
}

static int slow_store_get(struct object_store *store, const char *key,
                          uint64_t offset, void *data, size_t len,
                          enum object_urgency urgency)
{
    struct slow_store *slow = of(store);
    uint64_t begin_ns = now_ns();
    int error = slow->inner->get(slow->inner, key, offset, data, len, urgency);

    take_time(slow, begin_ns, len);
    return error;
}

static int slow_store_put(struct object_store *store, const char *key,
                          const void *data, size_t len, bool if_absent)
{
    struct slow_store *slow = of(store);
    uint64_t begin_ns = now_ns();
    int error = slow->inner->put(slow->inner, key, data, len, if_absent);

    take_time(slow, begin_ns, len);
    return error;
}

static int slow_store_head(struct object_store *store, const char *key,
                           struct object_info *ret_info)
{
    struct slow_store *slow = of(store);
    uint64_t begin_ns = now_ns();
    int error = slow->inner->head(slow->inner, key, ret_info);

    take_time(slow, begin_ns, 0);
    return error;
}

static int slow_store_delete(struct object_store *store,
                             const char *const keys[], size_t count)
{
    struct slow_store *slow = of(store);
    uint64_t begin_ns = now_ns();
    int error = slow->inner->delete (slow->inner, keys, count);

    take_time(slow, begin_ns, 0);
    return error;
}

static int slow_store_list(struct object_store *store, const char *prefix,
                           const char *after, object_store_each *each,
                           void *context)
{
    struct slow_store *slow = of(store);
    uint64_t begin_ns = now_ns();
    int error = slow->inner->list(slow->inner, prefix, after, each, context);

    take_time(slow, begin_ns, 0);
    return error;
}

static void slow_store_interrupt(struct object_store *store)
{
    struct object_store *inner = of(store)->inner;

    inner->interrupt(inner);
}

static char *slow_store_describe(struct object_store *store)
{
    struct object_store *inner = of(store)->inner;

    return inner->describe(inner);
}

static void slow_store_close(struct object_store *store)
{
    struct slow_store *slow = of(store);

    slow->inner->close(slow->inner);
    condition_done(&slow->nothing);
    mutex_done(&slow->mutex);
    free(slow);
}

struct object_store *slow_store_new(struct object_store *inner,
                                    uint64_t latency_ns, uint64_t bytes_per_s)
{
    struct slow_store *slow = calloc(1, sizeof(*slow));

    assert(slow);
    slow->store = (struct object_store){
        .get = slow_store_get,
        .put = slow_store_put,
        .head = slow_store_head,
        .delete = slow_store_delete,
        .list = slow_store_list,
        .interrupt = slow_store_interrupt,
        .describe = slow_store_describe,
        .close = slow_store_close,
    };
    slow->inner = inner;
    slow->latency_ns = latency_ns;
    slow->bytes_per_s = bytes_per_s;
    mutex_init(&slow->mutex);
    condition_init(&slow->nothing);
    return &slow->store;
}
