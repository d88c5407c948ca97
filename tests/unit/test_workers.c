/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/workers.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/mutex.h"
#include "unit/test.h"

enum { MANY = 1000 };

/* Returns the struct of this type whose member task is. */
#define holder_of(task, type)                                                  \
    ((type *)(void *)((char *)(task)-offsetof(type, task)))

struct numbered {
    struct workers_task task;
    unsigned number;
    unsigned *results;
    _Atomic unsigned *done;
};

static void note_number(struct workers_task *task)
{
    struct numbered *numbered = holder_of(task, struct numbered);

    numbered->results[atomic_fetch_add(numbered->done, 1)] = numbered->number;
}

TEST("one thread runs tasks in the order given, and stop waits for all")
{
    static struct numbered tasks[MANY];
    static unsigned results[MANY];
    struct workers *workers;
    _Atomic unsigned done = 0;

    NEED(workers_start("one", 1, &workers) == 0);
    for (unsigned i = 0; i < MANY; i++) {
        tasks[i] = (struct numbered){{note_number, NULL}, i, results, &done};
        workers_submit(workers, &tasks[i].task);
    }
    workers_stop(workers);
    CHECK(done == MANY);
    for (unsigned i = 0; i < MANY; i++)
        CHECK(results[i] == i);
}

TEST("several threads run each task exactly once")
{
    static struct numbered tasks[MANY];
    static unsigned results[MANY];
    static bool seen[MANY];
    struct workers *workers;
    _Atomic unsigned done = 0;

    NEED(workers_start("several", 4, &workers) == 0);
    for (unsigned i = 0; i < MANY; i++) {
        tasks[i] = (struct numbered){{note_number, NULL}, i, results, &done};
        workers_submit(workers, &tasks[i].task);
    }
    workers_stop(workers);
    NEED(done == MANY);
    for (unsigned i = 0; i < MANY; i++) {
        CHECK(!seen[results[i]]);
        seen[results[i]] = true;
    }
}

struct again {
    struct workers_task task;
    struct workers *workers;
    unsigned left;
};

static void run_again(struct workers_task *task)
{
    struct again *again = holder_of(task, struct again);

    if (again->left > 0) {
        again->left--;
        workers_submit(again->workers, task);
    } else {
        free(again);
    }
}

TEST("a task may submit itself again, also during stop, and may free itself")
{
    struct again *again = calloc(1, sizeof(*again));
    struct workers *workers;

    NEED(again != NULL);
    NEED(workers_start("again", 2, &workers) == 0);
    *again = (struct again){{run_again, NULL}, workers, 100};
    workers_submit(workers, &again->task);
    workers_stop(workers);
}

/* Two tasks that can only both end if they run at the same time. */
struct meeting {
    struct mutex lock;
    struct condition arrived;
    unsigned count;
};

struct guest {
    struct workers_task task;
    struct meeting *meeting;
};

static void meet(struct workers_task *task)
{
    struct meeting *meeting = holder_of(task, struct guest)->meeting;

    mutex_lock(&meeting->lock);
    meeting->count++;
    condition_broadcast(&meeting->arrived);
    while (meeting->count < 2)
        condition_wait(&meeting->arrived, &meeting->lock);
    mutex_unlock(&meeting->lock);
}

TEST("two threads run two tasks side by side")
{
    struct meeting meeting = {.count = 0};
    struct guest guests[2] = {{{meet, NULL}, &meeting},
                              {{meet, NULL}, &meeting}};
    struct workers *workers;

    mutex_init(&meeting.lock);
    condition_init(&meeting.arrived);
    NEED(workers_start("two", 2, &workers) == 0);
    workers_submit(workers, &guests[0].task);
    workers_submit(workers, &guests[1].task);
    workers_stop(workers);
    CHECK(meeting.count == 2);
    condition_done(&meeting.arrived);
    mutex_done(&meeting.lock);
}

/* A task that waits until it may go on, and tells when it runs. */
struct gate {
    struct mutex lock;
    struct condition changed;
    unsigned waiting;
    unsigned passed;
    bool is_open;
};

struct visitor {
    struct workers_task task;
    struct gate *gate;
};

static void wait_at_gate(struct workers_task *task)
{
    struct gate *gate = holder_of(task, struct visitor)->gate;

    mutex_lock(&gate->lock);
    gate->waiting++;
    condition_broadcast(&gate->changed);
    while (!gate->is_open)
        condition_wait(&gate->changed, &gate->lock);
    mutex_unlock(&gate->lock);
}

static void pass_gate(struct workers_task *task)
{
    struct gate *gate = holder_of(task, struct visitor)->gate;

    mutex_lock(&gate->lock);
    gate->passed++;
    condition_broadcast(&gate->changed);
    mutex_unlock(&gate->lock);
}

static void gate_init(struct gate *gate)
{
    *gate = (struct gate){.waiting = 0};
    mutex_init(&gate->lock);
    condition_init(&gate->changed);
}

static void gate_done(struct gate *gate)
{
    condition_done(&gate->changed);
    mutex_done(&gate->lock);
}

/* Return when so many wait at the gate. */
static void gate_wait(struct gate *gate, unsigned waiting, unsigned passed)
{
    mutex_lock(&gate->lock);
    while (gate->waiting < waiting || gate->passed < passed)
        condition_wait(&gate->changed, &gate->lock);
    mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate)
{
    mutex_lock(&gate->lock);
    gate->is_open = true;
    condition_broadcast(&gate->changed);
    mutex_unlock(&gate->lock);
}

TEST("idle tasks leave a thread to the others, and run after them")
{
    struct gate gate;
    struct visitor idle[3] = {{{wait_at_gate, NULL}, &gate},
                              {{wait_at_gate, NULL}, &gate},
                              {{wait_at_gate, NULL}, &gate}};
    struct visitor task = {{pass_gate, NULL}, &gate};
    struct workers *workers;

    gate_init(&gate);
    NEED(workers_start("idle", 3, &workers) == 0);
    for (size_t i = 0; i < 3; i++)
        workers_submit_idle(workers, &idle[i].task);
    gate_wait(&gate, 2, 0);
    /* Though all three could run now, this one does not wait for them. */
    workers_submit(workers, &task.task);
    gate_wait(&gate, 2, 1);
    mutex_lock(&gate.lock);
    CHECK(gate.waiting == 2);
    mutex_unlock(&gate.lock);
    gate_open(&gate);
    workers_stop(workers);
    CHECK(gate.waiting == 3);
    gate_done(&gate);
}

struct ending {
    struct workers_task task;
    struct workers *workers;
    struct gate *gate;
};

/* As wait_at_gate, but lets other idle tasks begin, as often as it says so. */
static void end_at_gate(struct workers_task *task)
{
    struct ending *ending = holder_of(task, struct ending);
    struct visitor visitor = {.gate = ending->gate};

    workers_idle_is_ending(ending->workers);
    workers_idle_is_ending(ending->workers);
    wait_at_gate(&visitor.task);
}

TEST("an idle task that is ending lets one other begin")
{
    struct gate gate;
    struct ending first = {.task.run = end_at_gate, .gate = &gate};
    struct visitor idle[2] = {{{wait_at_gate, NULL}, &gate},
                              {{wait_at_gate, NULL}, &gate}};
    struct visitor task = {{pass_gate, NULL}, &gate};

    gate_init(&gate);
    NEED(workers_start("ending", 3, &first.workers) == 0);
    workers_submit_idle(first.workers, &first.task);
    gate_wait(&gate, 1, 0);
    workers_submit_idle(first.workers, &idle[0].task);
    workers_submit_idle(first.workers, &idle[1].task);
    gate_wait(&gate, 3, 0); /* of three threads: two are its, and one more */
    gate_open(&gate);
    workers_submit(first.workers, &task.task);
    gate_wait(&gate, 3, 1);
    workers_idle_is_ending(first.workers); /* from no task: nothing */
    workers_stop(first.workers);
    gate_done(&gate);
}

TEST("one thread runs what waits before idle tasks, and these in their order")
{
    static struct numbered tasks[4];
    static unsigned results[4];
    struct gate gate;
    struct visitor first = {{wait_at_gate, NULL}, &gate};
    struct workers *workers;
    _Atomic unsigned done = 0;

    gate_init(&gate);
    NEED(workers_start("one", 1, &workers) == 0);
    workers_submit(workers, &first.task);
    gate_wait(&gate, 1, 0);
    for (unsigned i = 0; i < 4; i++)
        tasks[i] = (struct numbered){{note_number, NULL}, i, results, &done};
    workers_submit_idle(workers, &tasks[2].task);
    workers_submit_idle(workers, &tasks[3].task);
    workers_submit(workers, &tasks[0].task);
    workers_submit(workers, &tasks[1].task);
    gate_open(&gate);
    workers_stop(workers);
    NEED(done == 4);
    for (unsigned i = 0; i < 4; i++)
        CHECK(results[i] == i);
    gate_done(&gate);
}

TEST("many idle tasks and others, all mixed, run exactly once")
{
    static struct numbered tasks[MANY];
    static unsigned results[MANY];
    static bool seen[MANY];
    struct workers *workers;
    _Atomic unsigned done = 0;

    NEED(workers_start("mixed", 3, &workers) == 0);
    for (unsigned i = 0; i < MANY; i++) {
        tasks[i] = (struct numbered){{note_number, NULL}, i, results, &done};
        (i % 3 == 0 ? workers_submit : workers_submit_idle)(workers,
                                                            &tasks[i].task);
    }
    while (done < MANY) /* and not only once it is stopped */
        (void)sched_yield();
    workers_stop(workers);
    for (unsigned i = 0; i < MANY; i++) {
        CHECK(!seen[results[i]]);
        seen[results[i]] = true;
    }
}

struct portrait {
    struct workers_task task;
    char name[16];
    bool term_is_blocked;
};

static void paint(struct workers_task *task)
{
    struct portrait *portrait = holder_of(task, struct portrait);
    sigset_t mask;

    (void)pthread_getname_np(pthread_self(), portrait->name,
                             sizeof(portrait->name));
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    portrait->term_is_blocked = sigismember(&mask, SIGTERM) == 1;
}

TEST("the threads have their name and take no signals, who starts them does")
{
    struct portrait portrait = {.task = {paint, NULL}};
    struct workers *workers;
    sigset_t mask;

    NEED(workers_start("a name that is too long", 1, &workers) == 0);
    workers_submit(workers, &portrait.task);
    workers_stop(workers);
    CHECK(strcmp(portrait.name, "a name that is ") == 0);
    CHECK(portrait.term_is_blocked);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    CHECK(sigismember(&mask, SIGTERM) == 0);
}

struct endless {
    struct workers_task task;
    struct workers *workers;
    atomic_bool *is_over;
};

/* Come again until it is over. */
static void come_again(struct workers_task *task)
{
    struct endless *endless = holder_of(task, struct endless);

    if (!atomic_load(endless->is_over))
        workers_submit(endless->workers, task);
}

struct last_one {
    struct workers_task task;
    atomic_bool is_over;
};

static void end_it(struct workers_task *task)
{
    atomic_store(&holder_of(task, struct last_one)->is_over, true);
}

TEST("an idle task has its turn although others never end")
{
    struct last_one last = {.task = {end_it, NULL}, .is_over = false};
    struct endless endless[4];
    struct workers *workers;

    NEED(workers_start("busy", 2, &workers) == 0);
    for (size_t i = 0; i < 4; i++) {
        endless[i] = (struct endless){
            .task = {come_again, NULL},
            .workers = workers,
            .is_over = &last.is_over,
        };
        workers_submit(workers, &endless[i].task);
    }
    workers_submit_idle(workers, &last.task);
    workers_stop(workers); /* returns when all have ended */
    CHECK(atomic_load(&last.is_over));
}

TEST("stopping nobody does nothing")
{
    workers_stop(NULL);
}

TEST("threads that cannot be started are an error, and none is left")
{
    struct workers *workers = NULL;
    pthread_attr_t before, huge;

    /* A stack of half the address space is more than there is memory. */
    NEED(pthread_getattr_default_np(&before) == 0);
    NEED(pthread_getattr_default_np(&huge) == 0);
    NEED(pthread_attr_setstacksize(&huge, (size_t)1 << 46) == 0);
    NEED(pthread_setattr_default_np(&huge) == 0);
    CHECK(workers_start("none", 2, &workers) == -EAGAIN);
    CHECK(workers == NULL);
    CHECK(pthread_setattr_default_np(&before) == 0);
    CHECK(workers_start("one", 1, &workers) == 0);
    workers_stop(workers);
    (void)pthread_attr_destroy(&huge);
    (void)pthread_attr_destroy(&before);
}
