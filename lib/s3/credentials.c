/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The thread sleeps until the plan says that it is time, or until it is woken
 * by who was refused.  Who borrows looks at the plan, too: so nobody signs
 * with keys that expired while the host slept without the thread knowing it.
 *
 * A set is freed when it is not the current one any more, and nobody holds it.
 */
#include "s3/credentials.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/workers.h"
#include "s3/credentials_chain.h"
#include "s3/credentials_plan.h"

#define FORCED_PAUSE_NS (10 * UINT64_C(1000000000))

struct credentials {
    struct workers *workers; /* the one thread */
    struct workers_task task;
    void (*changed)(void *context);
    void *changed_context;

    struct mutex lock;
    struct condition wake;   /* the thread has something to do */
    struct condition loaded; /* a reading has ended, or all is interrupted */
    /* The thread reads it without the lock, and alone replaces it. */
    struct credentials_chain *chain GUARDED_BY(lock);
    struct credentials_chain *next_chain GUARDED_BY(lock); /* or NULL */
    struct credentials_set *set GUARDED_BY(lock); /* the current; or NULL */
    struct credentials_plan plan GUARDED_BY(lock);
    bool is_loading GUARDED_BY(lock);
    bool is_forced GUARDED_BY(lock); /* read now, whatever the plan says */
    bool is_interrupted GUARDED_BY(lock);
    uint64_t loads GUARDED_BY(lock);             /* readings that have ended */
    uint64_t may_force_ns GUARDED_BY(lock);      /* not before, monotonic */
    struct net_failure failure GUARDED_BY(lock); /* of the last one, or 0 */
};

static struct credentials_now now(void)
{
    return (struct credentials_now){clock_monotonic_ns(), clock_realtime_ns()};
}

static uint32_t random_number(void)
{
    uint32_t random = 0;

    /* Without it, this host alone has no jitter. */
    (void)!getrandom(&random, sizeof(random), 0);
    return random;
}

/* ---- the thread --------------------------------------------------------- */

/* Wait for the next reading to be due; false: all is to end. */
static bool wait_for_turn(struct credentials *credentials)
{
    bool goes_on;

    mutex_lock(&credentials->lock);
    while (!credentials->is_interrupted && !credentials->is_forced) {
        struct credentials_now moment = now();
        uint64_t wait_ns = credentials_plan_wait_ns(&credentials->plan, moment);

        if (wait_ns == 0)
            break;
        (void)condition_wait_until(&credentials->wake, &credentials->lock,
                                   moment.monotonic_ns + wait_ns);
    }
    goes_on = !credentials->is_interrupted;
    credentials->is_forced = false;
    credentials->is_loading = goes_on;
    mutex_unlock(&credentials->lock);
    return goes_on;
}

/* Make the set, or NULL, the current one. */
static void replace_locked(struct credentials *credentials,
                           struct credentials_set *set)
    REQUIRES(credentials->lock)
{
    struct credentials_set *old = credentials->set;

    credentials->set = set;
    if (old && old->holders == 0)
        credentials_set_free(old);
}

/* What a reading has changed. */
struct change {
    bool of_keys;
    bool of_failure; /* another one, or none any more */
};

/* Take the set, which is the credentials' now, or the failure. */
static void install_locked(struct credentials *credentials,
                           struct credentials_set *set,
                           const struct net_failure *failure,
                           struct change *change) REQUIRES(credentials->lock)
{
    change->of_failure = strcmp(failure->text, credentials->failure.text) != 0;
    credentials->failure = *failure;
    if (!set) {
        credentials_plan_failure(&credentials->plan, now(), random_number());
        return;
    }
    credentials_plan_success(&credentials->plan, now(), set->expires_ns,
                             random_number());
    change->of_keys = !credentials->set ||
                      !credentials_set_has_same_keys(set, credentials->set);
    if (change->of_keys || set->expires_ns != credentials->set->expires_ns)
        replace_locked(credentials, set);
    else
        credentials_set_free(set);
}

static void summarize_locked(const struct credentials *credentials,
                             struct credentials_summary *summary)
    REQUIRES(credentials->lock)
{
    const struct credentials_set *set = credentials->set;

    *summary = (struct credentials_summary){0};
    if (set) {
        (void)snprintf(summary->source, sizeof(summary->source), "%s",
                       set->source);
        (void)snprintf(summary->access_key_start,
                       sizeof(summary->access_key_start), "%.4s",
                       set->access_key);
        summary->expires_ns = set->expires_ns;
    }
    (void)snprintf(summary->problem, sizeof(summary->problem), "%s",
                   credentials->failure.text);
}

/* Log what has changed, once. */
static void report(const struct credentials_summary *summary,
                   struct change change)
{
    bool ends = summary->expires_ns != CREDENTIALS_NEVER;
    char time[HUMAN_TEXT];

    if (summary->problem[0] != '\0') {
        if (!change.of_failure)
            return;
        if (summary->source[0] != '\0')
            log_warning("credentials: %s; those of %s stay in use",
                        summary->problem, summary->source);
        else
            log_error("credentials: %s", summary->problem);
    } else if (change.of_keys || change.of_failure) {
        log_info("credentials: key %s... from %s%s%s",
                 summary->access_key_start, summary->source,
                 ends ? ", until " : "",
                 ends ? human_time(summary->expires_ns, time) : "");
    }
}

/* Returns the chain that is to be read: the newest. */
static struct credentials_chain *take_chain(struct credentials *credentials)
{
    struct credentials_chain *chain, *old = NULL;

    mutex_lock(&credentials->lock);
    /* The one that is there was interrupted, the next one was not. */
    if (credentials->next_chain && !credentials->is_interrupted) {
        old = credentials->chain;
        credentials->chain = credentials->next_chain;
        credentials->next_chain = NULL;
    }
    chain = credentials->chain;
    mutex_unlock(&credentials->lock);
    credentials_chain_free(old);
    return chain;
}

static bool has_next_chain(struct credentials *credentials)
{
    bool has_next;

    mutex_lock(&credentials->lock);
    has_next = credentials->next_chain && !credentials->is_interrupted;
    mutex_unlock(&credentials->lock);
    return has_next;
}

static void load_once(struct credentials *credentials)
{
    struct net_failure failure;
    struct credentials_set *set = NULL;
    struct credentials_summary summary;
    struct change change = {0};
    int error;

    do { /* what those before fail with is of no interest */
        failure = (struct net_failure){0};
        error = credentials_chain_load(take_chain(credentials), &set, &failure);
    } while (error && has_next_chain(credentials));
    if (!error)
        failure = (struct net_failure){0};
    mutex_lock(&credentials->lock);
    install_locked(credentials, set, &failure, &change);
    summarize_locked(credentials, &summary);
    credentials->is_loading = false;
    credentials->loads++;
    condition_broadcast(&credentials->loaded);
    mutex_unlock(&credentials->lock);
    if (error != -ECANCELED)
        report(&summary, change);
    if (change.of_keys && credentials->changed)
        credentials->changed(credentials->changed_context);
}

static void run(struct workers_task *task)
{
    struct credentials *credentials =
        (struct credentials *)(void *)((char *)task -
                                       offsetof(struct credentials, task));

    while (wait_for_turn(credentials))
        load_once(credentials);
}

/* ---- making and ending -------------------------------------------------- */

int credentials_new(const struct credentials_options *options,
                    struct credentials **ret_credentials)
{
    struct credentials *credentials = calloc(1, sizeof(*credentials));
    struct net_failure failure;
    int error;

    if (!credentials)
        return -ENOMEM;
    mutex_init(&credentials->lock);
    condition_init(&credentials->wake);
    condition_init(&credentials->loaded);
    credentials->changed = options->changed;
    credentials->changed_context = options->changed_context;
    credentials->task.run = run;
    error = credentials_chain_new(options, &credentials->chain, &failure);
    if (error) {
        log_error("credentials: %s", failure.text);
    } else {
        error = workers_start("credentials", 1, &credentials->workers);
        if (!error)
            workers_submit(credentials->workers, &credentials->task);
    }
    if (error)
        credentials_free(credentials);
    else
        *ret_credentials = credentials;
    return error;
}

void credentials_interrupt(struct credentials *credentials)
{
    mutex_lock(&credentials->lock);
    credentials->is_interrupted = true;
    condition_broadcast(&credentials->wake);
    condition_broadcast(&credentials->loaded);
    credentials_chain_interrupt(credentials->chain);
    mutex_unlock(&credentials->lock);
}

int credentials_change(struct credentials *credentials,
                       const struct credentials_options *options)
{
    struct credentials_chain *chain, *passed_over;
    struct net_failure failure;
    int error = credentials_chain_new(options, &chain, &failure);

    if (error) {
        log_error("credentials: %s; they stay as they were", failure.text);
        return error;
    }
    mutex_lock(&credentials->lock);
    passed_over = credentials->next_chain;
    credentials->next_chain = chain;
    credentials->is_forced = true;
    condition_signal(&credentials->wake);
    credentials_chain_interrupt(credentials->chain);
    mutex_unlock(&credentials->lock);
    credentials_chain_free(passed_over);
    return 0;
}

void credentials_free(struct credentials *credentials)
{
    if (!credentials)
        return;
    if (credentials->chain)
        credentials_interrupt(credentials);
    workers_stop(credentials->workers);
    credentials_chain_free(credentials->chain);
    credentials_chain_free(credentials->next_chain);
    assert(!credentials->set || credentials->set->holders == 0);
    credentials_set_free(credentials->set);
    condition_done(&credentials->wake);
    condition_done(&credentials->loaded);
    mutex_done(&credentials->lock);
    free(credentials);
}

/* ---- borrowing ---------------------------------------------------------- */

/* Have the thread look at its plan if the time has come. */
static void wake_if_due_locked(struct credentials *credentials)
    REQUIRES(credentials->lock)
{
    if (!credentials->is_loading &&
        credentials_plan_wait_ns(&credentials->plan, now()) == 0)
        condition_signal(&credentials->wake);
}

static int borrow_locked(struct credentials *credentials, uint64_t deadline_ns,
                         const struct credentials_set **ret_set)
    REQUIRES(credentials->lock)
{
    while (!credentials->set && !credentials->is_interrupted &&
           (credentials->is_loading || credentials->loads == 0)) {
        if (!condition_wait_until(&credentials->loaded, &credentials->lock,
                                  deadline_ns))
            break;
    }
    if (credentials->is_interrupted)
        return -ECANCELED;
    wake_if_due_locked(credentials);
    if (credentials->set) {
        credentials->set->holders++;
        *ret_set = credentials->set;
        return 0;
    }
    if (credentials->is_loading || credentials->loads == 0)
        return -ETIMEDOUT;
    return credentials->failure.error == -ENOMEM ? -ENOMEM : -EACCES;
}

int credentials_borrow(struct credentials *credentials, uint64_t deadline_ns,
                       const struct credentials_set **ret_set)
{
    int error;

    mutex_lock(&credentials->lock);
    error = borrow_locked(credentials, deadline_ns, ret_set);
    mutex_unlock(&credentials->lock);
    return error;
}

void credentials_return(struct credentials *credentials,
                        const struct credentials_set *set)
{
    /* What others see as constant is ours. */
    struct credentials_set *own = (struct credentials_set *)(uintptr_t)set;

    if (!set)
        return;
    mutex_lock(&credentials->lock);
    own->holders--;
    if (own->holders == 0 && own != credentials->set)
        credentials_set_free(own);
    mutex_unlock(&credentials->lock);
}

static bool has_others_locked(const struct credentials *credentials,
                              const struct credentials_set *set)
    REQUIRES(credentials->lock)
{
    return credentials->set &&
           !credentials_set_has_same_keys(credentials->set, set);
}

/* Have a reading begin, unless one runs; false: it is too early for one. */
static bool force_locked(struct credentials *credentials)
    REQUIRES(credentials->lock)
{
    uint64_t moment_ns = clock_monotonic_ns();

    if (credentials->is_loading || credentials->is_forced)
        return true;
    if (moment_ns < credentials->may_force_ns)
        return false;
    credentials->may_force_ns = moment_ns + FORCED_PAUSE_NS;
    credentials->is_forced = true;
    condition_signal(&credentials->wake);
    return true;
}

bool credentials_refused(struct credentials *credentials,
                         const struct credentials_set *set,
                         uint64_t deadline_ns)
{
    bool has_others;

    mutex_lock(&credentials->lock);
    has_others = has_others_locked(credentials, set);
    if (!has_others && force_locked(credentials)) {
        uint64_t loads = credentials->loads;

        while (credentials->loads == loads && !credentials->is_interrupted &&
               condition_wait_until(&credentials->loaded, &credentials->lock,
                                    deadline_ns))
            continue;
        has_others = has_others_locked(credentials, set);
    }
    mutex_unlock(&credentials->lock);
    return has_others;
}

void credentials_summarize(struct credentials *credentials,
                           struct credentials_summary *ret_summary)
{
    mutex_lock(&credentials->lock);
    summarize_locked(credentials, ret_summary);
    mutex_unlock(&credentials->lock);
}
