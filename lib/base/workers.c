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

enum {
    THREAD_NAME_SIZE = 16, /* what the kernel keeps, with the zero */
    /* While tasks never end, an idle one has its turn after so many. */
    TASKS_PER_IDLE = 8,
};

/* Whether what this thread runs counts as an idle task. */
static _Thread_local bool runs_idle;

/* Tasks in the order given. */
struct queue {
    struct workers_task *first;
    struct workers_task **end;
};

struct workers {
    struct mutex lock; /* a leaf: nothing is called under it */
    struct condition task_waits;
    struct queue tasks GUARDED_BY(lock);
    struct queue idle_tasks GUARDED_BY(lock);
    size_t idle_running GUARDED_BY(lock); /* threads that run one of these */
    size_t idle_max;                      /* how many may */
    size_t passed_over GUARDED_BY(lock);  /* tasks taken while an idle one
                                             waited and none ran */
    bool is_stopping GUARDED_BY(lock);
    bool is_single; /* there is but one thread */
    char name[THREAD_NAME_SIZE];
    size_t count; /* of threads that were started */
    pthread_t threads[];
};

static void queue_init(struct queue *queue)
{
    queue->first = NULL;
    queue->end = &queue->first;
}

static void queue_put(struct queue *queue, struct workers_task *task)
{
    task->next = NULL;
    *queue->end = task;
    queue->end = &task->next;
}

/* Returns the first task, which is taken out; NULL if there is none. */
static struct workers_task *queue_take(struct queue *queue)
{
    struct workers_task *task = queue->first;

    if (task) {
        queue->first = task->next;
        if (!queue->first)
            queue->end = &queue->first;
        task->next = NULL;
    }
    return task;
}

/*
 * Whether an idle task has waited long enough: what it does, such as to fetch
 * ahead, is what would have the others end sooner.
 */
static bool idle_has_turn_locked(struct workers *workers)
    REQUIRES(workers->lock)
{
    if (workers->is_single || workers->idle_running > 0 ||
        !workers->idle_tasks.first) {
        workers->passed_over = 0;
        return false;
    }
    return workers->passed_over++ >= TASKS_PER_IDLE;
}

/* Returns the next task; *ret_is_idle says of which kind. NULL: none now. */
static struct workers_task *next_task_locked(struct workers *workers,
                                             bool *ret_is_idle)
    REQUIRES(workers->lock)
{
    struct workers_task *task = NULL;

    *ret_is_idle = false;
    if (!idle_has_turn_locked(workers))
        task = queue_take(&workers->tasks);
    if (!task && workers->idle_running < workers->idle_max) {
        task = queue_take(&workers->idle_tasks);
        *ret_is_idle = task != NULL;
    }
    return task;
}

/*
 * Returns the next task, or NULL when there is none and all is to end: idle
 * tasks that still wait then are for those who run some already.
 */
static struct workers_task *take_task(struct workers *workers)
{
    bool was_idle = runs_idle;
    struct workers_task *task;

    mutex_lock(&workers->lock);
    if (was_idle)
        workers->idle_running--;
    while ((task = next_task_locked(workers, &runs_idle)) == NULL &&
           !workers->is_stopping)
        condition_wait(&workers->task_waits, &workers->lock);
    if (runs_idle)
        workers->idle_running++;
    else if (was_idle && workers->idle_tasks.first) /* another thread may */
        condition_signal(&workers->task_waits);
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
    queue_init(&workers->tasks);
    queue_init(&workers->idle_tasks);
    workers->is_single = count == 1;
    workers->idle_max = count > 1 ? count - 1 : 1;
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

static void submit(struct workers *workers, struct queue *queue,
                   struct workers_task *task)
{
    assert(task->run);
    mutex_lock(&workers->lock);
    queue_put(queue, task);
    /* Once the task can run, and we do not hold the lock, all of the pool may
     * be gone: who submits may be of another one. */
    condition_signal(&workers->task_waits);
    mutex_unlock(&workers->lock);
}

void workers_submit(struct workers *workers, struct workers_task *task)
{
    submit(workers, &workers->tasks, task);
}

void workers_submit_idle(struct workers *workers, struct workers_task *task)
{
    submit(workers, &workers->idle_tasks, task);
}

void workers_idle_is_ending(struct workers *workers)
{
    if (!runs_idle)
        return;
    runs_idle = false;
    mutex_lock(&workers->lock);
    workers->idle_running--;
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
