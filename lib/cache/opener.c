/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/opener.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread.h"

static const uint64_t PAUSE_NS = UINT64_C(1000000000);
static const uint64_t PAUSE_MAX_NS = UINT64_C(30000000000);

struct item {
    struct item *next;
    struct opener *opener;
    void *what;
    pthread_t thread;
    _Atomic bool is_ended; /* the last that the thread does */
};

struct opener {
    int (*open)(void *item, unsigned tries);
    uint64_t (*pause_ns)(unsigned tries);
    struct mutex lock;
    struct condition changed;
    size_t untried GUARDED_BY(lock); /* of those that have a thread */
    bool is_ending GUARDED_BY(lock);
    struct item *items; /* that have a thread */
};

uint64_t opener_pause_ns(unsigned tries)
{
    uint64_t pause_ns = PAUSE_NS;

    for (; tries > 1 && pause_ns < PAUSE_MAX_NS; tries--)
        pause_ns *= 2;
    return pause_ns < PAUSE_MAX_NS ? pause_ns : PAUSE_MAX_NS;
}

/* Wait before the next try.  Returns whether there is to be one. */
static bool pause_before_next(struct opener *opener, unsigned tries)
{
    uint64_t deadline_ns = clock_monotonic_ns() + opener->pause_ns(tries);
    bool is_in_time = true, goes_on;

    mutex_lock(&opener->lock);
    if (tries == 1) {
        opener->untried--;
        condition_broadcast(&opener->changed);
    }
    while (!opener->is_ending && is_in_time)
        is_in_time =
            condition_wait_until(&opener->changed, &opener->lock, deadline_ns);
    goes_on = !opener->is_ending;
    mutex_unlock(&opener->lock);
    return goes_on;
}

static void *run(void *argument)
{
    struct item *item = argument;
    struct opener *opener = item->opener;
    unsigned tries = 0;

    while (opener->open(item->what, tries) == -EHOSTDOWN) {
        if (!pause_before_next(opener, ++tries))
            return NULL;
    }
    mutex_lock(&opener->lock);
    if (tries == 0) {
        opener->untried--;
        condition_broadcast(&opener->changed);
    }
    mutex_unlock(&opener->lock);
    atomic_store(&item->is_ended, true);
    return NULL;
}

/* Let go of threads that have ended, or wait for all of them. */
static void reap(struct opener *opener, bool all)
{
    struct item **link = &opener->items;

    while (*link) {
        struct item *item = *link;

        if (!all && !atomic_load(&item->is_ended)) {
            link = &item->next;
            continue;
        }
        *link = item->next;
        (void)pthread_join(item->thread, NULL);
        free(item);
    }
}

int opener_add(struct opener *opener, void *what)
{
    struct item *item = calloc(1, sizeof(*item));
    int error;

    reap(opener, false);
    if (!item)
        return -ENOMEM;
    item->opener = opener;
    item->what = what;
    mutex_lock(&opener->lock);
    opener->untried++;
    mutex_unlock(&opener->lock);
    error = thread_start("opener", run, item, &item->thread);
    if (error) {
        mutex_lock(&opener->lock);
        opener->untried--;
        mutex_unlock(&opener->lock);
        free(item);
        return error;
    }
    item->next = opener->items;
    opener->items = item;
    return 0;
}

int opener_start(const struct opener_options *options,
                 struct opener **ret_opener)
{
    struct opener *opener = calloc(1, sizeof(*opener));
    int error = 0;

    if (!opener)
        return -ENOMEM;
    opener->open = options->open;
    opener->pause_ns = options->pause_ns ? options->pause_ns : opener_pause_ns;
    mutex_init(&opener->lock);
    condition_init(&opener->changed);
    for (size_t i = 0; i < options->items_count && !error; i++)
        error = opener_add(opener, options->items[i]);
    if (error) {
        opener_stop(opener);
        return error;
    }
    mutex_lock(&opener->lock);
    while (opener->untried > 0)
        condition_wait(&opener->changed, &opener->lock);
    mutex_unlock(&opener->lock);
    reap(opener, false);
    *ret_opener = opener;
    return 0;
}

void opener_interrupt(struct opener *opener)
{
    if (!opener)
        return;
    mutex_lock(&opener->lock);
    opener->is_ending = true;
    condition_broadcast(&opener->changed);
    mutex_unlock(&opener->lock);
}

void opener_stop(struct opener *opener)
{
    if (!opener)
        return;
    opener_interrupt(opener);
    reap(opener, true);
    condition_done(&opener->changed);
    mutex_done(&opener->lock);
    free(opener);
}
