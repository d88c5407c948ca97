/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/thread.h"

#include <signal.h>

#include "unit/test.h"

static void *tell_mask(void *mask)
{
    (void)pthread_sigmask(SIG_SETMASK, NULL, mask);
    return mask;
}

TEST("a thread takes no signals, who starts it goes on to")
{
    pthread_t thread;
    sigset_t there, here;
    void *result = NULL;

    NEED(thread_start("mask", tell_mask, &there, &thread) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == &there);
    CHECK(sigismember(&there, SIGTERM) == 1);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &here);
    CHECK(sigismember(&here, SIGTERM) == 0);
}

static void *wait_for(void *lock)
{
    (void)pthread_mutex_lock(lock);
    (void)pthread_mutex_unlock(lock);
    return NULL;
}

TEST("a thread has its name")
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    char name[16] = "";
    pthread_t thread;

    (void)pthread_mutex_lock(&lock);
    NEED(thread_start("worker", wait_for, &lock, &thread) == 0);
    CHECK(pthread_getname_np(thread, name, sizeof(name)) == 0);
    CHECK(strcmp(name, "worker") == 0);
    (void)pthread_mutex_unlock(&lock);
    CHECK(pthread_join(thread, NULL) == 0);
}
