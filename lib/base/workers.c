/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/workers.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mutex.h"

enum { THREAD_NAME_SIZE = 16 }; /* what the kernel keeps, with the zero */

struct workers {
    struct mutex lock; /* a leaf: nothing is called under it */
    struct condition task_waits;
    struct workers_task *first GUARDED_BY(lock);
    struct workers_task **end GUARDED_BY(lock);
    bool is_stopping GUARDED_BY(lock);
    char name[THREAD_NAME_SIZE];
    size_t count; /* of threads that were started */
    pthread_t threads[];
};

/* Returns the next task, or NULL when there is none and all is to end. */
static struct workers_task *take_task(struct workers *workers)
{
    struct workers_task *task;

    mutex_lock(&workers->lock);
    while (!workers->first && !workers->is_stopping)
        condition_wait(&workers->task_waits, &workers->lock);
    task = workers->first;
    if (task) {
        workers->first = task->next;
        if (!workers->first)
            workers->end = &workers->first;
        task->next = NULL;
    }
    mutex_unlock(&workers->lock);
    return task;
}

static void *run_tasks(void *argument)
{
    struct workers *workers = argument;
    struct workers_task *task;

    (void)pthread_setname_np(pthread_self(), workers->name);
    while ((task = take_task(workers)) != NULL)
        task->run(task);
    return NULL;
}

int workers_start(const char *name, size_t count, struct workers **ret_workers)
{
    struct workers *workers;
    sigset_t all, before;
    int error = 0;

    assert(count > 0);
    workers = calloc(1, sizeof(*workers) + count * sizeof(pthread_t));
    if (!workers)
        return -ENOMEM;
    mutex_init(&workers->lock);
    condition_init(&workers->task_waits);
    workers->end = &workers->first;
    (void)snprintf(workers->name, sizeof(workers->name), "%s", name);

    /* A thread inherits the mask: the main thread alone takes signals. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (error == 0 && workers->count < count) {
        error = pthread_create(&workers->threads[workers->count], NULL,
                               run_tasks, workers);
        if (error == 0)
            workers->count++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        workers_stop(workers);
        return -error;
    }
    *ret_workers = workers;
    return 0;
}

void workers_submit(struct workers *workers, struct workers_task *task)
{
    assert(task->run);
    task->next = NULL;
    mutex_lock(&workers->lock);
    *workers->end = task;
    workers->end = &task->next;
    mutex_unlock(&workers->lock);
    condition_signal(&workers->task_waits);
}

void workers_stop(struct workers *workers)
{
    if (!workers)
        return;
    mutex_lock(&workers->lock);
    workers->is_stopping = true;
    mutex_unlock(&workers->lock);
    condition_broadcast(&workers->task_waits);
    for (size_t i = 0; i < workers->count; i++)
        (void)pthread_join(workers->threads[i], NULL);
    condition_done(&workers->task_waits);
    mutex_done(&workers->lock);
    free(workers);
}
