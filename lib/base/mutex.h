/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mutex - pthread mutexes and condition variables that clang can check.
 *
 * Locking cannot fail here: an error of pthreads is a bug of ours and ends
 * the process.  Condition variables wait on CLOCK_MONOTONIC.
 */
#ifndef BASE_MUTEX_H
#define BASE_MUTEX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define THREAD_ANNOTATION(x) __attribute__((x))
#else
#define THREAD_ANNOTATION(x)
#endif

/* The mutex must be held, must not be held, by who calls the function. */
#define REQUIRES(...) THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
/* The field is read and written under that mutex only: for the reader. */
#define GUARDED_BY(x)

struct THREAD_ANNOTATION(capability("mutex")) mutex {
    pthread_mutex_t pthread;
};

struct condition {
    pthread_cond_t pthread;
};

/* Make a mutex ready, and release what it holds once nobody locks it. */
void mutex_init(struct mutex *mutex);
void mutex_done(struct mutex *mutex);

/* Wait for the mutex and hold it; or let go of it, by who holds it. */
void mutex_lock(struct mutex *mutex)
    THREAD_ANNOTATION(acquire_capability(*mutex));
void mutex_unlock(struct mutex *mutex)
    THREAD_ANNOTATION(release_capability(*mutex));

/* Make a condition variable ready, and release it once nobody waits. */
void condition_init(struct condition *condition);
void condition_done(struct condition *condition);

/* Wait to be woken, which may also happen for no reason: test in a loop. */
void condition_wait(struct condition *condition, struct mutex *mutex)
    REQUIRES(*mutex);

/*
 * As condition_wait, but not past deadline_ns of clock_monotonic_ns().
 * Returns false when the deadline is over.
 */
bool condition_wait_until(struct condition *condition, struct mutex *mutex,
                          uint64_t deadline_ns) REQUIRES(*mutex);

/* Wake one, or all, of those who wait. */
void condition_signal(struct condition *condition);
void condition_broadcast(struct condition *condition);

#endif
