/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/mutex.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

/* The analysis sees the annotations in the header; here is what they mean. */
#define UNCHECKED THREAD_ANNOTATION(no_thread_safety_analysis)

static void must(int error)
{
    assert(error == 0);
    (void)error;
}

void mutex_init(struct mutex *mutex)
{
    must(pthread_mutex_init(&mutex->pthread, NULL));
}

void mutex_done(struct mutex *mutex)
{
    must(pthread_mutex_destroy(&mutex->pthread));
}

UNCHECKED void mutex_lock(struct mutex *mutex)
{
    must(pthread_mutex_lock(&mutex->pthread));
}

UNCHECKED void mutex_unlock(struct mutex *mutex)
{
    must(pthread_mutex_unlock(&mutex->pthread));
}

void condition_init(struct condition *condition)
{
    pthread_condattr_t attributes;

    must(pthread_condattr_init(&attributes));
    must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
    must(pthread_cond_init(&condition->pthread, &attributes));
    must(pthread_condattr_destroy(&attributes));
}

void condition_done(struct condition *condition)
{
    must(pthread_cond_destroy(&condition->pthread));
}

void condition_wait(struct condition *condition, struct mutex *mutex)
{
    must(pthread_cond_wait(&condition->pthread, &mutex->pthread));
}

bool condition_wait_until(struct condition *condition, struct mutex *mutex,
                          uint64_t deadline_ns)
{
    struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / 1000000000U),
        .tv_nsec = (long)(deadline_ns % 1000000000U),
    };
    int error =
        pthread_cond_timedwait(&condition->pthread, &mutex->pthread, &deadline);

    assert(error == 0 || error == ETIMEDOUT);
    return error == 0;
}

void condition_signal(struct condition *condition)
{
    must(pthread_cond_signal(&condition->pthread));
}

void condition_broadcast(struct condition *condition)
{
    must(pthread_cond_broadcast(&condition->pthread));
}
