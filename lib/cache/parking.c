/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/parking.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mutex.h"

/* The due time of those that wait for space. */
static const uint64_t FOR_SPACE = UINT64_MAX;

struct parking {
    void (*run)(void *context, struct device_request *requests);
    void (*expelled)(void *context, struct device_request *request);
    void (*waits)(void *context);
    void *context;
    pthread_t thread;

    struct mutex lock;
    struct condition wake;
    bool is_stopping GUARDED_BY(lock);
    struct device_request *first GUARDED_BY(lock); /* the longest here */
    struct device_request **end GUARDED_BY(lock);
    size_t count GUARDED_BY(lock);
    uint64_t wakes GUARDED_BY(lock);
    bool has_newcomer GUARDED_BY(lock); /* for space; nobody was told yet */
};

typedef bool chooses(const struct device_request *request, uint64_t now_ns);

static bool is_due(const struct device_request *request, uint64_t now_ns)
{
    return request->due_ns <= now_ns;
}

static bool is_expelled(const struct device_request *request, uint64_t now_ns)
{
    (void)now_ns;
    return request->client_is_gone != NULL &&
           atomic_load(request->client_is_gone);
}

/* Take those out that are chosen, in their order. */
static struct device_request *take_locked(struct parking *parking,
                                          chooses *chosen, uint64_t now_ns)
{
    struct device_request *taken = NULL;
    struct device_request **taken_end = &taken;
    struct device_request **link = &parking->first;

    while (*link != NULL) {
        struct device_request *request = *link;

        if (!chosen(request, now_ns)) {
            link = &request->next;
            continue;
        }
        *link = request->next;
        request->next = NULL;
        *taken_end = request;
        taken_end = &request->next;
        parking->count--;
    }
    parking->end = link;
    return taken;
}

static uint64_t earliest_locked(const struct parking *parking)
{
    uint64_t earliest = FOR_SPACE;

    for (const struct device_request *request = parking->first; request != NULL;
         request = request->next) {
        if (request->due_ns < earliest)
            earliest = request->due_ns;
    }
    return earliest;
}

static void *parking_main(void *context)
{
    struct parking *parking = context;

    mutex_lock(&parking->lock);
    while (!parking->is_stopping) {
        struct device_request *due =
            take_locked(parking, is_due, clock_monotonic_ns());
        uint64_t earliest;

        if (due != NULL) {
            mutex_unlock(&parking->lock);
            parking->run(parking->context, due);
            mutex_lock(&parking->lock);
            continue;
        }
        if (parking->has_newcomer) {
            parking->has_newcomer = false;
            mutex_unlock(&parking->lock);
            parking->waits(parking->context);
            mutex_lock(&parking->lock);
            continue;
        }
        earliest = earliest_locked(parking);
        if (earliest == FOR_SPACE)
            condition_wait(&parking->wake, &parking->lock);
        else
            (void)condition_wait_until(&parking->wake, &parking->lock,
                                       earliest);
    }
    mutex_unlock(&parking->lock);
    return NULL;
}

int parking_start(void (*run)(void *context, struct device_request *requests),
                  void (*expelled)(void *context,
                                   struct device_request *request),
                  void (*waits)(void *context), void *context,
                  struct parking **ret_parking)
{
    struct parking *parking = calloc(1, sizeof(*parking));
    int error;

    if (parking == NULL)
        return -ENOMEM;
    parking->run = run;
    parking->expelled = expelled;
    parking->waits = waits;
    parking->context = context;
    parking->end = &parking->first;
    mutex_init(&parking->lock);
    condition_init(&parking->wake);
    error = -pthread_create(&parking->thread, NULL, parking_main, parking);
    if (error != 0) {
        condition_done(&parking->wake);
        mutex_done(&parking->lock);
        free(parking);
        return error;
    }
    (void)pthread_setname_np(parking->thread, "parking");
    *ret_parking = parking;
    return 0;
}

void parking_stop(struct parking *parking)
{
    if (parking == NULL)
        return;
    mutex_lock(&parking->lock);
    assert(parking->first == NULL);
    parking->is_stopping = true;
    condition_signal(&parking->wake);
    mutex_unlock(&parking->lock);
    (void)pthread_join(parking->thread, NULL);
    condition_done(&parking->wake);
    mutex_done(&parking->lock);
    free(parking);
}

static void add_locked(struct parking *parking, struct device_request *request,
                       uint64_t due_ns)
{
    /* One that comes too late for parking_expel does not stay either. */
    request->due_ns = is_expelled(request, 0) ? 1 : due_ns;
    request->next = NULL;
    *parking->end = request;
    parking->end = &request->next;
    parking->count++;
    if (request->due_ns == FOR_SPACE)
        parking->has_newcomer = true;
    condition_signal(&parking->wake);
}

void parking_add(struct parking *parking, struct device_request *request,
                 uint64_t due_ns)
{
    mutex_lock(&parking->lock);
    add_locked(parking, request, due_ns);
    mutex_unlock(&parking->lock);
}

uint64_t parking_wakes(struct parking *parking)
{
    uint64_t wakes;

    mutex_lock(&parking->lock);
    wakes = parking->wakes;
    mutex_unlock(&parking->lock);
    return wakes;
}

void parking_add_for_space(struct parking *parking,
                           struct device_request *request, uint64_t wakes)
{
    mutex_lock(&parking->lock);
    add_locked(parking, request, parking->wakes == wakes ? FOR_SPACE : 1);
    mutex_unlock(&parking->lock);
}

void parking_wake(struct parking *parking)
{
    mutex_lock(&parking->lock);
    parking->wakes++;
    for (struct device_request *request = parking->first; request != NULL;
         request = request->next) {
        if (request->due_ns == FOR_SPACE)
            request->due_ns = 1;
    }
    if (parking->first != NULL)
        condition_signal(&parking->wake);
    mutex_unlock(&parking->lock);
}

void parking_expel(struct parking *parking)
{
    struct device_request *expelled;

    mutex_lock(&parking->lock);
    expelled = take_locked(parking, is_expelled, 0);
    mutex_unlock(&parking->lock);
    while (expelled != NULL) {
        struct device_request *request = expelled;

        expelled = request->next;
        parking->expelled(parking->context, request);
    }
}

size_t parking_count(struct parking *parking)
{
    size_t count;

    mutex_lock(&parking->lock);
    count = parking->count;
    mutex_unlock(&parking->lock);
    return count;
}
