/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_breaker.h"

#include <assert.h>

static const uint64_t MS = 1000000;
static const uint64_t S = 1000000000;

enum {
    FAILURES_MAX = 3, /* in a row */
    SLOW_FACTOR = 5,
    QUICK_FACTOR = 2,    /* not twice as slow is quick */
    SILENT_MIN = 3,      /* so many must wait before silence says something */
    QUICK_PROBES = 3,    /* in a row, before it is well again, doubled ... */
    RELAPSES_MAX = 3,    /* ... so often */
    SAMPLES_MIN = 3,     /* requests before their mean is believed */
    COST_MEMORY = 8,     /* requests that a mean is of, more or less */
    COST_FORGOTTEN = 64, /* the part of it that is each time passed over */
    OUTLIER_FACTOR = 8,  /* a single one does not count for more */
    WEIGHT_ONE = 1024,   /* of a request without bytes; each KiB adds one */
};

/*
 * Differences below it are no reason, whatever the factor: a busy host has
 * whoever is on it wait for some ten milliseconds, now one and now the other.
 */
#define SLOW_MIN_NS (50 * MS)

/* Pauses between the beginnings of two probes. */
#define REST_FIRST_NS   (50 * MS)
#define REST_LONGEST_NS (1500 * MS)
#define QUICK_PAUSE_NS  (50 * MS)
#define SLOW_PAUSE_NS   (500 * MS)

/* Slow again within this time after it was well again: it did not last. */
#define RELAPSE_NS (10 * S)

void s3_breaker_init(struct s3_breaker *breaker, uint64_t now_ns)
{
    *breaker = (struct s3_breaker){
        .state = S3_HEALTHY,
        .since_ns = now_ns,
        .heard_ns = now_ns,
    };
}

/* Callers' times may be a little older than each other's. */
static uint64_t age_ns(uint64_t now_ns, uint64_t then_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

uint64_t s3_breaker_cost_ns(const struct s3_breaker *breaker, bool is_put)
{
    return breaker->samples[is_put] < SAMPLES_MIN ? 0
                                                  : breaker->costs_ns[is_put];
}

void s3_breaker_pass_over(struct s3_breaker *breaker, bool is_put)
{
    uint64_t *cost_ns = &breaker->costs_ns[is_put];

    *cost_ns -= *cost_ns / COST_FORGOTTEN;
}

uint64_t s3_breaker_silence_ns(const struct s3_breaker *breaker,
                               uint64_t now_ns)
{
    if (breaker->in_flight < SILENT_MIN)
        return 0;
    return (uint64_t)((double)age_ns(now_ns, breaker->heard_ns) * WEIGHT_ONE *
                      breaker->in_flight / (double)breaker->weights);
}

/* ---- states ------------------------------------------------------------- */

static void enter(struct s3_breaker *breaker, enum s3_endpoint_state state,
                  uint64_t now_ns)
{
    const struct s3_breaker before = *breaker;

    s3_breaker_init(breaker, now_ns);
    breaker->state = state;
    breaker->term = before.term + 1;
    breaker->relapses = before.relapses;
    breaker->probe_ns = now_ns;
    breaker->is_probed = before.is_probed;
    breaker->is_awaited = before.is_awaited;
}

/* Enter a state in which what it cost before is the best that is known. */
static void enter_as_known(struct s3_breaker *breaker,
                           enum s3_endpoint_state state, uint64_t now_ns)
{
    const struct s3_breaker before = *breaker;

    enter(breaker, state, now_ns);
    for (size_t i = 0; i < S3_BREAKER_KINDS; i++) {
        breaker->costs_ns[i] = before.costs_ns[i];
        breaker->samples[i] = before.samples[i];
    }
}

/* Take it that this is what requests without a body cost. */
static void set_cost(struct s3_breaker *breaker, uint64_t cost_ns)
{
    breaker->costs_ns[false] = cost_ns > 0 ? cost_ns : 1;
    breaker->samples[false] = SAMPLES_MIN;
}

static void enter_slow(struct s3_breaker *breaker, uint64_t now_ns)
{
    if (breaker->state == S3_HEALTHY) {
        bool is_relapse =
            breaker->term > 0 && age_ns(now_ns, breaker->since_ns) < RELAPSE_NS;

        if (!is_relapse)
            breaker->relapses = 0;
        else if (breaker->relapses < RELAPSES_MAX)
            breaker->relapses++;
    }
    enter_as_known(breaker, S3_SLOW, now_ns);
}

void s3_breaker_promote(struct s3_breaker *breaker, uint64_t now_ns)
{
    assert(breaker->state == S3_SLOW);
    enter_as_known(breaker, S3_HEALTHY, now_ns);
}

/* A pause, of which up to a quarter is left to chance. */
static uint64_t jittered(uint64_t pause_ns, uint64_t random)
{
    return pause_ns - random % (pause_ns / 4);
}

static void enter_rest(struct s3_breaker *breaker, uint64_t random,
                       uint64_t now_ns)
{
    enter(breaker, S3_RESTING, now_ns);
    breaker->probe_ns = now_ns + jittered(REST_FIRST_NS, random);
}

/* Whether it is so many times what the best of the others takes. */
static bool is_times(uint64_t ns, unsigned factor, uint64_t best_ns)
{
    return best_ns > 0 && ns >= factor * best_ns && ns - best_ns >= SLOW_MIN_NS;
}

void s3_breaker_check(struct s3_breaker *breaker,
                      const struct s3_breaker_others *others, uint64_t now_ns)
{
    uint64_t silence_ns = s3_breaker_silence_ns(breaker, now_ns);
    uint64_t best_ns = others->costs_ns[0] > others->costs_ns[1]
                           ? others->costs_ns[0]
                           : others->costs_ns[1];

    /* When all are silent it is the way to them. */
    if (breaker->state == S3_HEALTHY &&
        is_times(silence_ns, SLOW_FACTOR, best_ns) &&
        silence_ns >= SLOW_FACTOR * others->silence_ns) {
        enter_slow(breaker, now_ns);
        set_cost(breaker, silence_ns);
    }
}

/* ---- requests ----------------------------------------------------------- */

static void begin(struct s3_breaker *breaker, uint64_t bytes, uint64_t now_ns,
                  struct s3_turn *turn)
{
    turn->started_ns = now_ns;
    turn->term = breaker->term;
    turn->weight = WEIGHT_ONE + bytes / 1024;
    if (breaker->in_flight == 0)
        breaker->heard_ns = now_ns;
    breaker->in_flight++;
    breaker->weights += turn->weight;
}

void s3_breaker_begin(struct s3_breaker *breaker, bool is_put, uint64_t bytes,
                      uint64_t now_ns, struct s3_turn *ret_turn)
{
    *ret_turn = (struct s3_turn){.is_put = is_put};
    begin(breaker, bytes, now_ns, ret_turn);
}

void s3_breaker_begin_probe(struct s3_breaker *breaker, uint64_t now_ns,
                            struct s3_turn *ret_turn)
{
    assert(breaker->state != S3_HEALTHY && !breaker->is_probed);
    *ret_turn = (struct s3_turn){.is_probe = true};
    begin(breaker, 0, now_ns, ret_turn);
    breaker->is_probed = true;
}

void s3_breaker_begin_patient(struct s3_breaker *breaker, uint64_t now_ns,
                              struct s3_turn *ret_turn)
{
    assert(breaker->state == S3_RESTING && !breaker->is_awaited);
    *ret_turn = (struct s3_turn){.is_probe = true, .is_patient = true};
    begin(breaker, 0, now_ns, ret_turn);
    breaker->is_awaited = true;
}

/* Count a failure; too many are followed by a rest. */
static void fail(struct s3_breaker *breaker, const struct s3_ending *ending)
{
    breaker->failures++;
    if (ending->health == S3_HEALTH_UNREACHABLE ||
        breaker->failures >= FAILURES_MAX)
        enter_rest(breaker, ending->random, ending->now_ns);
}

static bool is_answered(const struct s3_ending *ending)
{
    return ending->health == S3_HEALTH_ANSWERED ||
           ending->health == S3_HEALTH_THROTTLED;
}

/* How long a probe took: to its answer, not to make the connection. */
static uint64_t probe_ns(const struct s3_turn *turn,
                         const struct s3_ending *ending)
{
    return ending->latency_ns > 0 ? ending->latency_ns
                                  : age_ns(ending->now_ns, turn->started_ns);
}

/* Whether a probe took about as long as it does elsewhere, if that is known. */
static bool is_quick(const struct s3_turn *turn, const struct s3_ending *ending)
{
    const uint64_t *costs_ns = ending->others.costs_ns;

    return !is_times(probe_ns(turn, ending), QUICK_FACTOR,
                     costs_ns[0] > 0 ? costs_ns[0] : costs_ns[1]);
}

static void end_rest_probe(struct s3_breaker *breaker,
                           const struct s3_turn *turn,
                           const struct s3_ending *ending)
{
    uint64_t pause_ns = REST_FIRST_NS;

    if (is_answered(ending)) {
        if (is_quick(turn, ending)) {
            enter(breaker, S3_HEALTHY, ending->now_ns);
        } else {
            enter_slow(breaker, ending->now_ns);
            set_cost(breaker, probe_ns(turn, ending));
        }
        return;
    }
    breaker->pauses++;
    for (unsigned i = 0; i < breaker->pauses && pause_ns < REST_LONGEST_NS; i++)
        pause_ns *= 2;
    if (pause_ns > REST_LONGEST_NS)
        pause_ns = REST_LONGEST_NS;
    breaker->probe_ns = turn->started_ns + jittered(pause_ns, ending->random);
}

static void end_slow_probe(struct s3_breaker *breaker,
                           const struct s3_turn *turn,
                           const struct s3_ending *ending)
{
    set_cost(breaker, probe_ns(turn, ending));
    if (!is_answered(ending)) {
        breaker->quick = 0;
        breaker->probe_ns =
            turn->started_ns + jittered(SLOW_PAUSE_NS, ending->random);
        fail(breaker, ending);
        return;
    }
    breaker->failures = 0;
    breaker->quick = is_quick(turn, ending) ? breaker->quick + 1 : 0;
    if (breaker->quick >= (unsigned)QUICK_PROBES << breaker->relapses)
        enter(breaker, S3_HEALTHY, ending->now_ns);
    else if (breaker->quick > 0)
        breaker->probe_ns = ending->now_ns + QUICK_PAUSE_NS;
    else
        breaker->probe_ns =
            turn->started_ns + jittered(SLOW_PAUSE_NS, ending->random);
}

static void end_patient(struct s3_breaker *breaker, const struct s3_turn *turn,
                        const struct s3_ending *ending)
{
    breaker->is_awaited = false;
    if (turn->term == breaker->term && is_answered(ending))
        end_rest_probe(breaker, turn, ending);
}

static void end_probe(struct s3_breaker *breaker, const struct s3_turn *turn,
                      const struct s3_ending *ending)
{
    breaker->is_probed = false;
    if (turn->term != breaker->term)
        return;
    if (ending->health == S3_HEALTH_ABANDONED)
        breaker->probe_ns = ending->now_ns + REST_FIRST_NS;
    else if (breaker->state == S3_RESTING)
        end_rest_probe(breaker, turn, ending);
    else if (breaker->state == S3_SLOW)
        end_slow_probe(breaker, turn, ending);
}

/* Remember how long it took, for its size; or if it was given up, at least. */
static void learn(struct s3_breaker *breaker, const struct s3_turn *turn,
                  const struct s3_ending *ending)
{
    uint64_t *cost_ns = &breaker->costs_ns[turn->is_put];
    unsigned *samples = &breaker->samples[turn->is_put];
    uint64_t age = age_ns(ending->now_ns, turn->started_ns);
    uint64_t took_ns =
        (uint64_t)((double)age * WEIGHT_ONE / (double)turn->weight);

    if (ending->health == S3_HEALTH_ABANDONED && took_ns <= *cost_ns)
        return;
    if (*samples > 0 && took_ns > OUTLIER_FACTOR * *cost_ns)
        took_ns = OUTLIER_FACTOR * *cost_ns;
    if (*samples < COST_MEMORY)
        ++*samples;
    *cost_ns = *cost_ns - *cost_ns / *samples + took_ns / *samples;
    if (*cost_ns == 0)
        *cost_ns = 1;
}

static void end_request(struct s3_breaker *breaker, const struct s3_turn *turn,
                        const struct s3_ending *ending)
{
    bool is_abandoned = ending->health == S3_HEALTH_ABANDONED;

    if (is_answered(ending))
        breaker->failures = 0;
    else if (!is_abandoned)
        fail(breaker, ending);
    if (ending->health == S3_HEALTH_ANSWERED || is_abandoned)
        learn(breaker, turn, ending);
    for (size_t i = 0; i < S3_BREAKER_KINDS; i++) {
        if (breaker->state == S3_HEALTHY &&
            is_times(s3_breaker_cost_ns(breaker, i), SLOW_FACTOR,
                     ending->others.costs_ns[i]))
            enter_slow(breaker, ending->now_ns);
    }
}

void s3_breaker_end(struct s3_breaker *breaker, const struct s3_turn *turn,
                    const struct s3_ending *ending)
{
    bool is_of_term = turn->term == breaker->term;

    if (is_of_term) {
        breaker->in_flight--;
        breaker->weights -= turn->weight;
        if (is_answered(ending) || ending->health == S3_HEALTH_SERVER_ERROR)
            breaker->heard_ns = ending->now_ns;
    }
    if (turn->is_patient)
        end_patient(breaker, turn, ending);
    else if (turn->is_probe)
        end_probe(breaker, turn, ending);
    else if (is_of_term)
        end_request(breaker, turn, ending);
}
