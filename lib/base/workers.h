/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers - a fixed number of threads that run tasks in the order given, and
 * others when they have nothing better to do.
 *
 * Used for what may block.  A task is embedded in what it works on; nothing
 * is allocated to run it.  Threads: any may submit, also a running task.
 */
#ifndef BASE_WORKERS_H
#define BASE_WORKERS_H

#include <stddef.h>

struct workers;

/* Set run before workers_submit; next belongs to the pool until run. */
struct workers_task {
    void (*run)(struct workers_task *task);
    struct workers_task *next;
};

/*
 * Start count threads, named name (at most 15 bytes) for ps and perf.
 * Signals are blocked in them.  The caller ends them by workers_stop.
 */
int workers_start(const char *name, size_t count, struct workers **ret_workers);

/*
 * Have the task run by one of the threads; the caller must not touch it until
 * then.  run() may submit it again or free it.
 */
void workers_submit(struct workers *workers, struct workers_task *task);

/*
 * The same for a task that nobody waits for: it is run when no other task is
 * waiting, and one thread (of two or more) is always left for those.  If
 * others never end, one such task runs at a time beside them.
 */
void workers_submit_idle(struct workers *workers, struct workers_task *task);

/*
 * Called in a running task: if it is an idle one, what it has still to do is
 * soon done, so that the next idle task may begin on another thread.
 */
void workers_idle_is_ending(struct workers *workers);

/* Run all tasks that are waiting, then end and free; NULL does nothing. */
void workers_stop(struct workers *workers);

#endif
