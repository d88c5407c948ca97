/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_prober.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"
#include "s3/s3_attempt.h"
#include "s3/s3_endpoint.h"
#include "s3/s3_limits.h"
#include "s3/s3_parts.h"
#include "s3/s3_pool.h"
#include "s3/s3_store.h"

enum {
    THREADS_MAX = 4,
    SHORT_PROBES = 4, /* that were all silence, before a long one */
};

static const uint64_t TIDY_NS = UINT64_C(10) * 1000000000;
static const uint64_t LONG_PROBE_NS = UINT64_C(10) * 1000000000;

struct s3_prober {
    struct s3_parts *parts;
    pthread_t threads[THREADS_MAX];
    size_t count;
    /* Of each endpoint: probes in a row that ended in silence.  They are the
     * thread's that has its turn. */
    unsigned silences[S3_ENDPOINTS_MAX];
};

uint64_t s3_prober_patience_ns(unsigned silences, uint64_t timeout_ns)
{
    bool is_long = silences % (SHORT_PROBES + 1) == SHORT_PROBES;
    uint64_t patience_ns = is_long ? LONG_PROBE_NS : S3_PROBE_NS;

    return timeout_ns < patience_ns ? timeout_ns : patience_ns;
}

/* Whether a proxy may have answered instead of a store. */
static bool may_be_page(const struct s3_attempt *attempt)
{
    return attempt->seen.status == 404 || attempt->seen.status == 503;
}

/* Any answer of a store will do; the endpoint's turn is told what came. */
static void probe(struct s3_prober *prober, const struct s3_turn *turn)
{
    static const struct s3_operation operation = {.verb = S3_HEAD_BUCKET};
    /* Its answer has words, even if it refuses; but it costs more. */
    static const struct s3_operation in_words = {.verb = S3_LIST,
                                                 .max_keys = 1};
    struct s3_parts *parts = prober->parts;
    unsigned *silences = &prober->silences[turn->index];
    struct s3_attempt attempt;

    if (s3_attempt_init(&attempt, &operation) == 0) {
        attempt.only = turn->index;
        attempt.is_fresh = true;
        attempt.deadline_ns =
            clock_monotonic_ns() +
            s3_prober_patience_ns(*silences, parts->timeout_ns);
        /* Why it did not begin does not matter: then health says nothing. */
        (void)s3_attempt_run(parts, &attempt);
        attempt.operation = &in_words;
        if (may_be_page(&attempt))
            (void)s3_attempt_run(parts, &attempt);
    }
    *silences = attempt.seen.error == -ETIMEDOUT ? *silences + 1 : 0;
    s3_attempt_end_turn(parts, &attempt, turn);
    s3_attempt_done(parts, &attempt);
}

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
            probe(prober, &turn);
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

static int start_threads(struct s3_prober *prober)
{
    size_t wanted = s3_endpoints_count(prober->parts->endpoints);
    int error = 0;

    if (wanted > THREADS_MAX)
        wanted = THREADS_MAX;
    while (!error && prober->count < wanted) {
        error = thread_start("s3 probe", run_thread, prober,
                             &prober->threads[prober->count]);
        if (!error)
            prober->count++;
    }
    return error;
}

int s3_prober_new(struct s3_parts *parts, struct s3_prober **ret_prober)
{
    struct s3_prober *prober = calloc(1, sizeof(*prober));
    int error;

    if (!prober)
        return -ENOMEM;
    prober->parts = parts;
    error = start_threads(prober);
    /* With one thread all is done, only later. */
    if (error && prober->count == 0) {
        free(prober);
        return error;
    }
    *ret_prober = prober;
    return 0;
}

void s3_prober_free(struct s3_prober *prober)
{
    if (!prober)
        return;
    for (size_t i = 0; i < prober->count; i++)
        (void)pthread_join(prober->threads[i], NULL);
    free(prober);
}
