/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/thread.h"

#include <signal.h>

int thread_start(const char *name, void *(*run)(void *), void *argument,
                 pthread_t *ret_thread)
{
    sigset_t all, before;
    int error;

    /* A thread inherits the mask, from its first moment on. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(ret_thread, NULL, run, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return -error;
    (void)pthread_setname_np(*ret_thread, name);
    return 0;
}
