/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thread - start a thread that no signal is delivered to.
 *
 * Signals are for the program's first thread.  Threads: any.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

/*
 * Start run(argument) in a thread of that name (at most 15 bytes), which the
 * caller joins.  0, or a negative errno.
 */
int thread_start(const char *name, void *(*run)(void *), void *argument,
                 pthread_t *ret_thread);

#endif
