/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_prober.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "s3/s3_attempt.h"
#include "s3/s3_endpoint.h"
#include "s3/s3_limits.h"
#include "s3/s3_parts.h"
#include "s3/s3_pool.h"
#include "s3/s3_store.h"

enum {
    PATIENT_THREADS = 2,
    THREADS_MAX = S3_ENDPOINTS_MAX + PATIENT_THREADS,
};

static const uint64_t TIDY_NS = UINT64_C(10) * 1000000000;
static const uint64_t PATIENCE_NS = UINT64_C(10) * 1000000000;

struct s3_prober {
    struct s3_parts *parts;
    pthread_t threads[THREADS_MAX];
    size_t count;
    /* Held while no other lock is. */
    struct mutex mutex;
    struct condition wanted; /* a patient probe, or the end */
    bool is_closing GUARDED_BY(mutex);
    bool is_wanted[S3_ENDPOINTS_MAX] GUARDED_BY(mutex); /* of that endpoint */
    size_t last GUARDED_BY(mutex); /* of which one was taken */
};

uint64_t s3_prober_patience_ns(bool is_patient, uint64_t timeout_ns)
{
    uint64_t patience_ns = is_patient ? PATIENCE_NS : S3_PROBE_NS;

    if (is_patient)
        timeout_ns *= 2;
    return timeout_ns < patience_ns ? timeout_ns : patience_ns;
}

/* Whether a proxy may have answered instead of a store. */
static bool may_be_page(const struct s3_attempt *attempt)
{
    return attempt->seen.status == 404 || attempt->seen.status == 503;
}

/*
 * Any answer of a store will do; the endpoint's turn is told what came.
 * Returns whether it was silence.
 */
static bool probe(struct s3_prober *prober, const struct s3_turn *turn)
{
    static const struct s3_operation operation = {.verb = S3_HEAD_BUCKET};
    /* Its answer has words, even if it refuses; but it costs more. */
    static const struct s3_operation in_words = {.verb = S3_LIST,
                                                 .max_keys = 1};
    struct s3_parts *parts = prober->parts;
    struct s3_attempt attempt;
    bool is_silent;

    if (s3_attempt_init(&attempt, &operation) == 0) {
        attempt.only = turn->index;
        attempt.is_fresh = true;
        attempt.deadline_ns =
            clock_monotonic_ns() +
            s3_prober_patience_ns(turn->is_patient, parts->timeout_ns);
        /* Why it did not begin does not matter: then health says nothing. */
        (void)s3_attempt_run(parts, &attempt);
        attempt.operation = &in_words;
        if (may_be_page(&attempt))
            (void)s3_attempt_run(parts, &attempt);
    }
    is_silent = attempt.seen.error == -ETIMEDOUT;
    s3_attempt_end_turn(parts, &attempt, turn);
    s3_attempt_done(parts, &attempt);
    return is_silent;
}

/* ---- patient probes ----------------------------------------------------- */

static void want_patient(struct s3_prober *prober, size_t index)
{
    mutex_lock(&prober->mutex);
    prober->is_wanted[index] = true;
    condition_signal(&prober->wanted);
    mutex_unlock(&prober->mutex);
}

size_t s3_prober_next(const bool wanted[], size_t count, size_t last)
{
    for (size_t i = 1; i <= count; i++) {
        size_t index = (last + i) % count;

        if (wanted[index])
            return index;
    }
    return count;
}

/* Returns whether one is wanted, and of which endpoint, wanted no more. */
static bool take_wanted_locked(struct s3_prober *prober, size_t *ret_index)
    REQUIRES(prober->mutex)
{
    size_t index =
        s3_prober_next(prober->is_wanted, S3_ENDPOINTS_MAX, prober->last);

    if (index == S3_ENDPOINTS_MAX)
        return false;
    prober->is_wanted[index] = false;
    prober->last = index;
    *ret_index = index;
    return true;
}

/* Wait until one is wanted; false: all is to end. */
static bool next_wanted(struct s3_prober *prober, size_t *ret_index)
{
    bool goes_on;

    mutex_lock(&prober->mutex);
    while (!prober->is_closing && !take_wanted_locked(prober, ret_index))
        condition_wait(&prober->wanted, &prober->mutex);
    goes_on = !prober->is_closing;
    mutex_unlock(&prober->mutex);
    return goes_on;
}

static void *run_patient(void *argument)
{
    struct s3_prober *prober = argument;
    struct s3_turn turn;
    size_t index;

    while (next_wanted(prober, &index)) {
        if (s3_endpoints_await(prober->parts->endpoints, index,
                               clock_monotonic_ns(), &turn))
            (void)probe(prober, &turn);
    }
    return NULL;
}

/* ---- short probes ------------------------------------------------------- */

static void *run_thread(void *argument)
{
    struct s3_prober *prober = argument;
    struct s3_parts *parts = prober->parts;

    for (;;) {
        uint64_t changes = s3_endpoints_changes(parts->endpoints);
        uint64_t now_ns = clock_monotonic_ns();
        struct s3_turn turn;
        uint64_t wait_ns;

        wait_ns = s3_endpoints_probe(parts->endpoints, now_ns, &turn);
        if (wait_ns == 0) {
            if (probe(prober, &turn))
                want_patient(prober, turn.index);
            wait_ns = 1; /* whether it is time to end is asked below */
        }
        if (wait_ns > TIDY_NS)
            wait_ns = TIDY_NS;
        if (s3_endpoints_wait(parts->endpoints, changes, now_ns + wait_ns) ==
            -ECANCELED)
            return NULL;
        s3_pool_tidy(parts->pool);
        s3_limits_refresh(parts->limits, clock_realtime_ns(),
                          clock_monotonic_ns());
    }
}

/* ---- beginning and end -------------------------------------------------- */

static int start_threads(struct s3_prober *prober, size_t wanted,
                         const char *name, void *(*run)(void *))
{
    int error = 0;

    for (size_t i = 0; !error && i < wanted; i++) {
        error =
            thread_start(name, run, prober, &prober->threads[prober->count]);
        if (!error)
            prober->count++;
    }
    return error;
}

int s3_prober_new(struct s3_parts *parts, struct s3_prober **ret_prober)
{
    size_t endpoints = s3_endpoints_count(parts->endpoints);
    struct s3_prober *prober = calloc(1, sizeof(*prober));
    int error;

    if (!prober)
        return -ENOMEM;
    prober->parts = parts;
    mutex_init(&prober->mutex);
    condition_init(&prober->wanted);
    error = start_threads(prober, endpoints, "s3 probe", run_thread);
    /* With one thread all is done, only later. */
    if (error && prober->count == 0) {
        s3_prober_free(prober);
        return error;
    }
    (void)start_threads(
        prober, endpoints < PATIENT_THREADS ? endpoints : PATIENT_THREADS,
        "s3 patience", run_patient);
    *ret_prober = prober;
    return 0;
}

void s3_prober_free(struct s3_prober *prober)
{
    if (!prober)
        return;
    mutex_lock(&prober->mutex);
    prober->is_closing = true;
    condition_broadcast(&prober->wanted);
    mutex_unlock(&prober->mutex);
    for (size_t i = 0; i < prober->count; i++)
        (void)pthread_join(prober->threads[i], NULL);
    condition_done(&prober->wanted);
    mutex_done(&prober->mutex);
    free(prober);
}
