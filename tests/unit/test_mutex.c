/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/mutex.h"

#include "base/clock.h"
#include "unit/test.h"

enum { THREADS = 4, TURNS = 20000 };

/* A number that is only right if no two threads are ever in at once. */
struct counted {
    struct mutex lock;
    struct condition changed;
    unsigned count GUARDED_BY(lock);
};

static void counted_init(struct counted *counted)
{
    mutex_init(&counted->lock);
    condition_init(&counted->changed);
    counted->count = 0;
}

static void counted_done(struct counted *counted)
{
    condition_done(&counted->changed);
    mutex_done(&counted->lock);
}

static void *add_turns(void *argument)
{
    struct counted *counted = argument;

    for (unsigned i = 0; i < TURNS; i++) {
        mutex_lock(&counted->lock);
        counted->count++;
        mutex_unlock(&counted->lock);
    }
    return NULL;
}

TEST("a mutex lets one thread in at a time")
{
    pthread_t threads[THREADS];
    struct counted counted;

    counted_init(&counted);
    for (unsigned i = 0; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, add_turns, &counted) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(counted.count == THREADS * TURNS);
    counted_done(&counted);
}

static void *try_lock(void *argument)
{
    struct mutex *mutex = argument;

    if (pthread_mutex_trylock(&mutex->pthread) != 0)
        return NULL;
    (void)pthread_mutex_unlock(&mutex->pthread);
    return mutex;
}

/* Returns whether another thread gets the mutex at once. */
static bool another_gets(struct mutex *mutex)
{
    pthread_t thread;
    void *result = NULL;

    CHECK(pthread_create(&thread, NULL, try_lock, mutex) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    return result != NULL;
}

static void *add_one_when_odd(void *argument)
{
    struct counted *counted = argument;

    for (unsigned i = 0; i < 100; i++) {
        mutex_lock(&counted->lock);
        while (counted->count % 2 == 0)
            condition_wait(&counted->changed, &counted->lock);
        counted->count++;
        mutex_unlock(&counted->lock);
        condition_signal(&counted->changed);
    }
    return NULL;
}

TEST("two threads that wait for each other take turns")
{
    struct counted counted;
    pthread_t other;

    counted_init(&counted);
    NEED(pthread_create(&other, NULL, add_one_when_odd, &counted) == 0);
    for (unsigned i = 0; i < 100; i++) {
        mutex_lock(&counted.lock);
        while (counted.count % 2 == 1)
            condition_wait(&counted.changed, &counted.lock);
        counted.count++;
        mutex_unlock(&counted.lock);
        condition_signal(&counted.changed);
    }
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(counted.count == 200);
    counted_done(&counted);
}

static void *wait_for_go(void *argument)
{
    struct counted *counted = argument;

    mutex_lock(&counted->lock);
    while (counted->count == 0)
        condition_wait(&counted->changed, &counted->lock);
    mutex_unlock(&counted->lock);
    return NULL;
}

TEST("a broadcast wakes everybody who waits")
{
    pthread_t threads[THREADS];
    struct counted counted;

    counted_init(&counted);
    for (unsigned i = 0; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, wait_for_go, &counted) == 0);
    mutex_lock(&counted.lock);
    counted.count = 1;
    mutex_unlock(&counted.lock);
    condition_broadcast(&counted.changed);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    counted_done(&counted);
}

TEST("a wait whose deadline is over ends, with the mutex held")
{
    struct counted counted;

    counted_init(&counted);
    mutex_lock(&counted.lock);
    while (condition_wait_until(&counted.changed, &counted.lock,
                                clock_monotonic_ns()))
        ;
    CHECK(!another_gets(&counted.lock));
    mutex_unlock(&counted.lock);
    counted_done(&counted);
}
