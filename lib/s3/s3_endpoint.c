/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_endpoint.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/json_string.h"
#include "base/log.h"
#include "base/mutex.h"

/* Costs that differ by less say nothing: then requests in flight decide. */
enum { EQUAL_FACTOR = 2 };

struct endpoint {
    char *host;
    char *name;
    uint16_t port;
    struct s3_breaker breaker;

    struct s3_tally tally;
    struct log_limit limit;
    bool is_told; /* that it is not well */
};

struct s3_endpoints {
    struct mutex mutex;
    struct condition changed;
    uint64_t changes;
    bool is_interrupted;
    uint64_t random;
    size_t last; /* whose turn was last */
    size_t count;
    struct endpoint *endpoints;
};

/* What became of an endpoint, to be said when the lock is free. */
struct news {
    const struct endpoint *endpoint; /* NULL: nothing */
    enum s3_endpoint_state state;
    uint64_t lasted_ns; /* the state before */
};

/* ---- the set --------------------------------------------------------------
 */

static int endpoint_init(struct endpoint *endpoint, const char *host,
                         uint16_t port, uint64_t now_ns)
{
    size_t size = strlen(host) + sizeof("[]:65535");
    bool is_ipv6 = strchr(host, ':') != NULL;

    endpoint->host = strdup(host);
    endpoint->name = malloc(size);
    endpoint->port = port;
    if (!endpoint->host || !endpoint->name)
        return -ENOMEM;
    (void)snprintf(endpoint->name, size, "%s%s%s:%u", is_ipv6 ? "[" : "", host,
                   is_ipv6 ? "]" : "", port);
    s3_breaker_init(&endpoint->breaker, now_ns);
    return 0;
}

static int endpoints_init(struct s3_endpoints *set,
                          const struct s3_endpoints_options *options)
{
    uint64_t now_ns = clock_monotonic_ns();
    int error = 0;

    set->endpoints = calloc(options->hosts_count * options->ports_count,
                            sizeof(*set->endpoints));
    if (!set->endpoints)
        return -ENOMEM;
    for (size_t i = 0; !error && i < options->hosts_count; i++) {
        for (size_t j = 0; !error && j < options->ports_count; j++)
            error = endpoint_init(&set->endpoints[set->count++],
                                  options->hosts[i], options->ports[j], now_ns);
    }
    return error;
}

int s3_endpoints_new(const struct s3_endpoints_options *options,
                     struct s3_endpoints **ret_endpoints)
{
    struct s3_endpoints *set = calloc(1, sizeof(*set));
    int error;

    assert(options->hosts_count > 0 && options->ports_count > 0);
    if (!set)
        return -ENOMEM;
    mutex_init(&set->mutex);
    condition_init(&set->changed);
    set->random = options->seed;
    error = endpoints_init(set, options);
    if (error) {
        s3_endpoints_free(set);
        return error;
    }
    *ret_endpoints = set;
    return 0;
}

void s3_endpoints_free(struct s3_endpoints *endpoints)
{
    if (!endpoints)
        return;
    for (size_t i = 0; i < endpoints->count; i++) {
        free(endpoints->endpoints[i].host);
        free(endpoints->endpoints[i].name);
    }
    free(endpoints->endpoints);
    condition_done(&endpoints->changed);
    mutex_done(&endpoints->mutex);
    free(endpoints);
}

size_t s3_endpoints_count(const struct s3_endpoints *endpoints)
{
    return endpoints->count;
}

const char *s3_endpoints_host(const struct s3_endpoints *endpoints,
                              size_t index)
{
    assert(index < endpoints->count);
    return endpoints->endpoints[index].host;
}

uint16_t s3_endpoints_port(const struct s3_endpoints *endpoints, size_t index)
{
    assert(index < endpoints->count);
    return endpoints->endpoints[index].port;
}

const char *s3_endpoints_name(const struct s3_endpoints *endpoints,
                              size_t index)
{
    assert(index < endpoints->count);
    return endpoints->endpoints[index].name;
}

/* Numbers that nobody needs to find hard to guess: splitmix64. */
static uint64_t random_locked(struct s3_endpoints *set) REQUIRES(set->mutex)
{
    uint64_t mixed = set->random += UINT64_C(0x9e3779b97f4a7c15);

    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

/* ---- changes of state -----------------------------------------------------
 */

/* Have everybody know of the state that an endpoint has now. */
static void change_locked(struct s3_endpoints *set, struct endpoint *endpoint,
                          uint64_t since_ns, struct news *news)
    REQUIRES(set->mutex)
{
    bool is_well = endpoint->breaker.state == S3_HEALTHY;
    uint64_t left_out;

    if (endpoint->breaker.state == S3_RESTING)
        endpoint->tally.rests++;
    set->changes++;
    condition_broadcast(&set->changed);
    /* One that comes and goes is told of now and then; both, or neither. */
    if (is_well ? !endpoint->is_told
                : !log_limit_allows(&endpoint->limit, &left_out))
        return;
    endpoint->is_told = !is_well;
    *news = (struct news){
        .endpoint = endpoint,
        .state = endpoint->breaker.state,
        .lasted_ns = endpoint->breaker.since_ns - since_ns,
    };
}

/* The text is why; it may be NULL. */
static void tell(const struct news *news, const char *text)
{
    char lasted[HUMAN_TEXT];

    if (!news->endpoint)
        return;
    switch (news->state) {
    case S3_RESTING:
        log_warning("%s: %s; it gets no requests until it answers again",
                    news->endpoint->name, text ? text : "it fails");
        break;
    case S3_SLOW:
        log_warning("%s: it is much slower than others and gets no requests "
                    "until it is not",
                    news->endpoint->name);
        break;
    case S3_HEALTHY:
        (void)human_duration(news->lasted_ns / 1000000000U, lasted);
        log_info("%s: it is well again after %s", news->endpoint->name, lasted);
        break;
    }
}

/* What the best of the others that are well does. */
static struct s3_breaker_others others_locked(struct s3_endpoints *set,
                                              const struct endpoint *endpoint,
                                              uint64_t now_ns)
    REQUIRES(set->mutex)
{
    struct s3_breaker_others best = {{0, 0}, UINT64_MAX};

    for (const struct endpoint *other = set->endpoints;
         other < set->endpoints + set->count; other++) {
        uint64_t silence_ns = s3_breaker_silence_ns(&other->breaker, now_ns);

        if (other == endpoint || other->breaker.state != S3_HEALTHY)
            continue;
        if (silence_ns < best.silence_ns)
            best.silence_ns = silence_ns;
        for (size_t i = 0; i < S3_BREAKER_KINDS; i++) {
            uint64_t cost_ns = s3_breaker_cost_ns(&other->breaker, i);

            if (cost_ns > 0 &&
                (best.costs_ns[i] == 0 || cost_ns < best.costs_ns[i]))
                best.costs_ns[i] = cost_ns;
        }
    }
    return best;
}

/* Find one that owes answers for too long: one at a time is soon enough. */
static void check_locked(struct s3_endpoints *set, uint64_t now_ns,
                         struct news *news) REQUIRES(set->mutex)
{
    for (size_t i = 0; i < set->count; i++) {
        struct endpoint *endpoint = &set->endpoints[i];
        uint64_t since_ns = endpoint->breaker.since_ns;
        struct s3_breaker_others others;

        if (endpoint->breaker.state != S3_HEALTHY ||
            s3_breaker_silence_ns(&endpoint->breaker, now_ns) == 0)
            continue;
        others = others_locked(set, endpoint, now_ns);
        s3_breaker_check(&endpoint->breaker, &others, now_ns);
        if (endpoint->breaker.state == S3_SLOW) {
            change_locked(set, endpoint, since_ns, news);
            return;
        }
    }
}

/* ---- choice ---------------------------------------------------------------
 */

/* Which endpoints come into question. */
struct choice {
    enum s3_endpoint_state state;
    size_t avoid;
    bool is_put;
    uint64_t unknown_cost_ns; /* of those whose cost is not known */
};

static bool fits(const struct s3_endpoints *set, const struct choice *choice,
                 size_t index)
{
    return set->endpoints[index].breaker.state == choice->state &&
           index != choice->avoid;
}

/* The first at or behind this one, of those that fit: there must be one. */
static size_t next_that_fits(const struct s3_endpoints *set,
                             const struct choice *choice, size_t index)
{
    index %= set->count;
    while (!fits(set, choice, index))
        index = (index + 1) % set->count;
    return index;
}

/* How long a request takes there, as far as is known. */
static double cost_of(const struct endpoint *endpoint,
                      const struct choice *choice, uint64_t now_ns)
{
    uint64_t silence_ns = s3_breaker_silence_ns(&endpoint->breaker, now_ns);
    uint64_t cost_ns = s3_breaker_cost_ns(&endpoint->breaker, choice->is_put);

    if (cost_ns == 0)
        cost_ns = choice->unknown_cost_ns;
    return (double)(cost_ns > silence_ns ? cost_ns : silence_ns);
}

/* Whether the second of two has less to do. */
static bool is_better(const struct endpoint *one, const struct endpoint *two,
                      const struct choice *choice, uint64_t now_ns)
{
    double cost_one = cost_of(one, choice, now_ns);
    double cost_two = cost_of(two, choice, now_ns);

    if (cost_one <= EQUAL_FACTOR * cost_two &&
        cost_two <= EQUAL_FACTOR * cost_one)
        cost_one = cost_two = 1;
    return (two->breaker.in_flight + 1) * cost_two <
           (one->breaker.in_flight + 1) * cost_one;
}

/*
 * The better one of two: whose turn it is, and any other.  Returns
 * S3_ENDPOINT_NONE if none fits.
 */
static size_t choose_of_locked(struct s3_endpoints *set,
                               const struct choice *choice, uint64_t now_ns)
    REQUIRES(set->mutex)
{
    size_t count = 0, one, two;

    for (size_t i = 0; i < set->count; i++)
        count += fits(set, choice, i);
    if (count == 0)
        return S3_ENDPOINT_NONE;
    one = set->last = next_that_fits(set, choice, set->last + 1);
    if (count == 1)
        return one;
    two = one;
    for (size_t skip = 1 + random_locked(set) % (count - 1); skip > 0; skip--)
        two = next_that_fits(set, choice, two + 1);
    if (!is_better(&set->endpoints[one], &set->endpoints[two], choice, now_ns))
        return one;
    s3_breaker_pass_over(&set->endpoints[one].breaker, choice->is_put);
    return two;
}

static size_t choose_locked(struct s3_endpoints *set, size_t avoid, bool is_put,
                            uint64_t now_ns) REQUIRES(set->mutex)
{
    static const enum s3_endpoint_state states[] = {S3_HEALTHY, S3_SLOW};
    struct s3_breaker_others best = others_locked(set, NULL, now_ns);
    struct choice choice = {.is_put = is_put,
                            .unknown_cost_ns = best.costs_ns[is_put]};

    if (choice.unknown_cost_ns == 0)
        choice.unknown_cost_ns = 1;
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        size_t index;

        choice.state = states[i];
        choice.avoid = avoid;
        index = choose_of_locked(set, &choice, now_ns);
        if (index == S3_ENDPOINT_NONE && avoid != S3_ENDPOINT_NONE) {
            choice.avoid = S3_ENDPOINT_NONE;
            index = choose_of_locked(set, &choice, now_ns);
        }
        if (index != S3_ENDPOINT_NONE)
            return index;
    }
    return S3_ENDPOINT_NONE;
}

int s3_endpoints_choose(struct s3_endpoints *endpoints, size_t avoid,
                        bool is_put, uint64_t bytes, uint64_t now_ns,
                        struct s3_turn *ret_turn)
{
    struct news news = {.endpoint = NULL};
    size_t index;

    mutex_lock(&endpoints->mutex);
    check_locked(endpoints, now_ns, &news);
    index = choose_locked(endpoints, avoid, is_put, now_ns);
    if (index != S3_ENDPOINT_NONE) {
        struct endpoint *chosen = &endpoints->endpoints[index];

        s3_breaker_begin(&chosen->breaker, is_put, bytes, now_ns, ret_turn);
        ret_turn->index = index;
        s3_tally_begin(&chosen->tally);
    }
    mutex_unlock(&endpoints->mutex);
    tell(&news, NULL);
    return index != S3_ENDPOINT_NONE ? 0 : -EHOSTDOWN;
}

/* ---- what came of it ------------------------------------------------------
 */

void s3_endpoints_done(struct s3_endpoints *endpoints,
                       const struct s3_turn *turn,
                       const struct s3_outcome *outcome, uint64_t now_ns)
{
    struct endpoint *endpoint = &endpoints->endpoints[turn->index];
    struct s3_breaker_others others;
    struct news news = {.endpoint = NULL};
    uint64_t since_ns;
    unsigned term;

    assert(turn->index < endpoints->count);
    mutex_lock(&endpoints->mutex);
    s3_tally_end(&endpoint->tally, outcome, now_ns);
    term = endpoint->breaker.term;
    since_ns = endpoint->breaker.since_ns;
    others = others_locked(endpoints, endpoint, now_ns);
    s3_breaker_end(&endpoint->breaker, turn, outcome->health,
                   outcome->latency_ns, &others, random_locked(endpoints),
                   now_ns);
    if (endpoint->breaker.term != term)
        change_locked(endpoints, endpoint, since_ns, &news);
    mutex_unlock(&endpoints->mutex);
    tell(&news, outcome->text);
}

/* ---- probes ---------------------------------------------------------------
 */

uint64_t s3_endpoints_probe(struct s3_endpoints *endpoints, uint64_t now_ns,
                            struct s3_turn *ret_turn)
{
    struct endpoint *first = NULL;
    uint64_t wait_ns = UINT64_MAX;

    mutex_lock(&endpoints->mutex);
    for (size_t i = 0; i < endpoints->count; i++) {
        struct endpoint *endpoint = &endpoints->endpoints[i];

        if (endpoint->breaker.state != S3_HEALTHY &&
            !endpoint->breaker.is_probed &&
            (!first || endpoint->breaker.probe_ns < first->breaker.probe_ns))
            first = endpoint;
    }
    if (first && first->breaker.probe_ns > now_ns) {
        wait_ns = first->breaker.probe_ns - now_ns;
    } else if (first) {
        wait_ns = 0;
        s3_breaker_begin_probe(&first->breaker, now_ns, ret_turn);
        ret_turn->index = (size_t)(first - endpoints->endpoints);
        s3_tally_begin(&first->tally);
    }
    mutex_unlock(&endpoints->mutex);
    return wait_ns;
}

uint64_t s3_endpoints_changes(struct s3_endpoints *endpoints)
{
    uint64_t changes;

    mutex_lock(&endpoints->mutex);
    changes = endpoints->changes;
    mutex_unlock(&endpoints->mutex);
    return changes;
}

int s3_endpoints_wait(struct s3_endpoints *endpoints, uint64_t changes,
                      uint64_t deadline_ns)
{
    bool is_in_time = true;
    int error = 0;

    mutex_lock(&endpoints->mutex);
    while (endpoints->changes <= changes && !endpoints->is_interrupted &&
           is_in_time) {
        if (deadline_ns == UINT64_MAX)
            condition_wait(&endpoints->changed, &endpoints->mutex);
        else
            is_in_time = condition_wait_until(&endpoints->changed,
                                              &endpoints->mutex, deadline_ns);
    }
    if (endpoints->is_interrupted)
        error = -ECANCELED;
    else if (endpoints->changes <= changes)
        error = -ETIMEDOUT;
    mutex_unlock(&endpoints->mutex);
    return error;
}

void s3_endpoints_interrupt(struct s3_endpoints *endpoints)
{
    mutex_lock(&endpoints->mutex);
    endpoints->is_interrupted = true;
    condition_broadcast(&endpoints->changed);
    mutex_unlock(&endpoints->mutex);
}

/* ---- as JSON --------------------------------------------------------------
 */

static const char *state_name(enum s3_endpoint_state state)
{
    switch (state) {
    case S3_HEALTHY:
        return "healthy";
    case S3_RESTING:
        return "resting";
    case S3_SLOW:
        return "slow";
    }
    return "";
}

char *s3_endpoints_describe(struct s3_endpoints *endpoints, uint64_t now_ns)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    uint64_t epoch_ns = clock_realtime_ns() - now_ns;

    if (!stream)
        return NULL;
    (void)fputs("{\"endpoints\": [", stream);
    for (size_t i = 0; i < endpoints->count; i++) {
        const struct endpoint *endpoint = &endpoints->endpoints[i];
        enum s3_endpoint_state state;
        struct s3_tally tally;
        uint64_t since_ns;

        mutex_lock(&endpoints->mutex);
        state = endpoint->breaker.state;
        since_ns = endpoint->breaker.since_ns;
        tally = endpoint->tally;
        mutex_unlock(&endpoints->mutex);
        (void)fputs(i > 0 ? ", {\"host\": " : "{\"host\": ", stream);
        json_string_write(stream, endpoint->host);
        (void)fprintf(stream,
                      ", \"port\": %u, \"state\": \"%s\", "
                      "\"state_since_ns\": %" PRIu64,
                      endpoint->port, state_name(state), since_ns + epoch_ns);
        s3_tally_write(&tally, epoch_ns, stream);
        (void)fputs("}", stream);
    }
    (void)fputs("]}", stream);
    if (fclose(stream) == 0)
        return text;
    free(text);
    return NULL;
}
