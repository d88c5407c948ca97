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

struct endpoint {
    char *host;
    char *name;
    uint16_t port;
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
    struct s3_breaker *breakers; /* one for each */
};

/* What became of an endpoint, to be said when the lock is free. */
struct news {
    const struct endpoint *endpoint; /* NULL: nothing */
    enum s3_endpoint_state state;
    uint64_t lasted_ns; /* the state before */
};

/* ---- the set ------------------------------------------------------------ */

static void endpoint_done(struct endpoint *endpoint)
{
    free(endpoint->host);
    free(endpoint->name);
}

static int endpoint_init(struct endpoint *endpoint, const char *host,
                         uint16_t port)
{
    size_t size = strlen(host) + sizeof("[]:65535");
    bool is_ipv6 = strchr(host, ':') != NULL;

    endpoint->host = strdup(host);
    endpoint->name = malloc(size);
    endpoint->port = port;
    if (!endpoint->host || !endpoint->name) {
        endpoint_done(endpoint);
        return -ENOMEM;
    }
    (void)snprintf(endpoint->name, size, "%s%s%s:%u", is_ipv6 ? "[" : "", host,
                   is_ipv6 ? "]" : "", port);
    return 0;
}

static int endpoints_init(struct s3_endpoints *set,
                          const struct s3_endpoints_options *options)
{
    size_t count = options->hosts_count * options->ports_count;
    uint64_t now_ns = clock_monotonic_ns();

    set->endpoints = calloc(count, sizeof(*set->endpoints));
    set->breakers = calloc(count, sizeof(*set->breakers));
    if (!set->endpoints || !set->breakers)
        return -ENOMEM;
    for (; set->count < count; set->count++) {
        const char *host = options->hosts[set->count / options->ports_count];
        uint16_t port = options->ports[set->count % options->ports_count];

        s3_breaker_init(&set->breakers[set->count], now_ns);
        if (endpoint_init(&set->endpoints[set->count], host, port) != 0)
            return -ENOMEM;
    }
    return 0;
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
    for (size_t i = 0; i < endpoints->count; i++)
        endpoint_done(&endpoints->endpoints[i]);
    free(endpoints->endpoints);
    free(endpoints->breakers);
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

/* ---- changes of state --------------------------------------------------- */

static bool another_is_well_locked(const struct s3_endpoints *set, size_t index)
    REQUIRES(set->mutex)
{
    for (size_t i = 0; i < set->count; i++) {
        if (i != index && set->breakers[i].state == S3_HEALTHY)
            return true;
    }
    return false;
}

/*
 * One is not well any more.  When none is, the best of the slow ones is: much
 * slower than which others?
 */
static void promote_locked(struct s3_endpoints *set, uint64_t now_ns)
    REQUIRES(set->mutex)
{
    size_t best = s3_choice_best_slow(set->breakers, set->count);

    if (best != S3_ENDPOINT_NONE &&
        !another_is_well_locked(set, S3_ENDPOINT_NONE))
        s3_breaker_promote(&set->breakers[best], now_ns);
}

/* Have everybody know of the state that an endpoint has now. */
static void change_locked(struct s3_endpoints *set, size_t index,
                          uint64_t since_ns, struct news *news)
    REQUIRES(set->mutex)
{
    const struct s3_breaker *breaker = &set->breakers[index];
    struct endpoint *endpoint = &set->endpoints[index];
    bool is_well = breaker->state == S3_HEALTHY;
    uint64_t left_out;

    if (breaker->state == S3_RESTING)
        endpoint->tally.rests++;
    set->changes++;
    condition_broadcast(&set->changed);
    if (!is_well)
        promote_locked(set, breaker->since_ns);
    /* One that comes and goes is told of now and then; both, or neither. */
    if (is_well ? !endpoint->is_told
                : !log_limit_allows(&endpoint->limit, &left_out))
        return;
    endpoint->is_told = !is_well;
    *news = (struct news){
        .endpoint = endpoint,
        .state = breaker->state,
        .lasted_ns = breaker->since_ns - since_ns,
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

/*
 * Find one that owes answers for too long: one at a time is soon enough.  If
 * it is the last that is well, a slow one that does answer is better.
 */
static void check_locked(struct s3_endpoints *set, uint64_t now_ns,
                         struct news *news) REQUIRES(set->mutex)
{
    for (size_t i = 0; i < set->count; i++) {
        struct s3_breaker *breaker = &set->breakers[i];
        uint64_t since_ns = breaker->since_ns;
        struct s3_breaker_others others;

        if (breaker->state != S3_HEALTHY ||
            s3_breaker_silence_ns(breaker, now_ns) == 0)
            continue;
        others = s3_choice_others(
            set->breakers, set->count,
            another_is_well_locked(set, i) ? S3_HEALTHY : S3_SLOW, i, now_ns);
        s3_breaker_check(breaker, &others, now_ns);
        if (breaker->state != S3_HEALTHY) {
            change_locked(set, i, since_ns, news);
            return;
        }
    }
}

/* ---- requests ----------------------------------------------------------- */

int s3_endpoints_choose(struct s3_endpoints *endpoints, size_t avoid,
                        bool is_put, uint64_t bytes, uint64_t now_ns,
                        struct s3_turn *ret_turn)
{
    struct news news = {.endpoint = NULL};
    struct s3_choice choice = {
        .is_put = is_put, .avoid = avoid, .now_ns = now_ns};
    size_t index;

    mutex_lock(&endpoints->mutex);
    check_locked(endpoints, now_ns, &news);
    choice.random = random_locked(endpoints);
    index = s3_choice_make(endpoints->breakers, endpoints->count,
                           &endpoints->last, &choice);
    if (index != S3_ENDPOINT_NONE) {
        s3_breaker_begin(&endpoints->breakers[index], is_put, bytes, now_ns,
                         ret_turn);
        ret_turn->index = index;
        s3_tally_begin(&endpoints->endpoints[index].tally);
    }
    mutex_unlock(&endpoints->mutex);
    tell(&news, NULL);
    return index != S3_ENDPOINT_NONE ? 0 : -EHOSTDOWN;
}

/* ---- what came of it ---------------------------------------------------- */

void s3_endpoints_done(struct s3_endpoints *endpoints,
                       const struct s3_turn *turn,
                       const struct s3_outcome *outcome, uint64_t now_ns)
{
    struct s3_breaker *breaker = &endpoints->breakers[turn->index];
    struct s3_ending ending = {.health = outcome->health,
                               .latency_ns = outcome->latency_ns,
                               .now_ns = now_ns};
    struct news news = {.endpoint = NULL};
    uint64_t since_ns;
    unsigned term;

    assert(turn->index < endpoints->count);
    mutex_lock(&endpoints->mutex);
    s3_tally_end(&endpoints->endpoints[turn->index].tally, outcome, now_ns);
    term = breaker->term;
    since_ns = breaker->since_ns;
    ending.random = random_locked(endpoints);
    ending.others = s3_choice_others(endpoints->breakers, endpoints->count,
                                     S3_HEALTHY, turn->index, now_ns);
    s3_breaker_end(breaker, turn, &ending);
    if (breaker->term != term)
        change_locked(endpoints, turn->index, since_ns, &news);
    mutex_unlock(&endpoints->mutex);
    tell(&news, outcome->text);
}

bool s3_endpoints_is_left(struct s3_endpoints *endpoints, size_t index,
                          uint64_t now_ns)
{
    struct news news = {.endpoint = NULL};
    bool is_left;

    assert(index < endpoints->count);
    mutex_lock(&endpoints->mutex);
    check_locked(endpoints, now_ns, &news);
    is_left = endpoints->breakers[index].state != S3_HEALTHY &&
              another_is_well_locked(endpoints, index);
    mutex_unlock(&endpoints->mutex);
    tell(&news, NULL);
    return is_left;
}

/* ---- probes ------------------------------------------------------------- */

/* The endpoint whose probe is due first; S3_ENDPOINT_NONE: all are well. */
static size_t first_probe_locked(struct s3_endpoints *set) REQUIRES(set->mutex)
{
    const struct s3_breaker *breakers = set->breakers;
    size_t first = S3_ENDPOINT_NONE;

    for (size_t i = 0; i < set->count; i++) {
        if (breakers[i].state != S3_HEALTHY && !breakers[i].is_probed &&
            (first == S3_ENDPOINT_NONE ||
             breakers[i].probe_ns < breakers[first].probe_ns))
            first = i;
    }
    return first;
}

uint64_t s3_endpoints_probe(struct s3_endpoints *endpoints, uint64_t now_ns,
                            struct s3_turn *ret_turn)
{
    struct news news = {.endpoint = NULL};
    uint64_t wait_ns = UINT64_MAX;
    size_t first;

    mutex_lock(&endpoints->mutex);
    /* Those who would ask may all wait for the one that is silent. */
    check_locked(endpoints, now_ns, &news);
    first = first_probe_locked(endpoints);
    if (first != S3_ENDPOINT_NONE) {
        struct s3_breaker *breaker = &endpoints->breakers[first];

        wait_ns = breaker->probe_ns > now_ns ? breaker->probe_ns - now_ns : 0;
        if (wait_ns == 0) {
            s3_breaker_begin_probe(breaker, now_ns, ret_turn);
            ret_turn->index = first;
            s3_tally_begin(&endpoints->endpoints[first].tally);
        }
    }
    mutex_unlock(&endpoints->mutex);
    tell(&news, NULL);
    return wait_ns;
}

bool s3_endpoints_await(struct s3_endpoints *endpoints, size_t index,
                        uint64_t now_ns, struct s3_turn *ret_turn)
{
    struct s3_breaker *breaker = &endpoints->breakers[index];
    bool begins;

    assert(index < endpoints->count);
    mutex_lock(&endpoints->mutex);
    begins = breaker->state == S3_RESTING && !breaker->is_awaited;
    if (begins) {
        s3_breaker_begin_patient(breaker, now_ns, ret_turn);
        ret_turn->index = index;
        s3_tally_begin(&endpoints->endpoints[index].tally);
    }
    mutex_unlock(&endpoints->mutex);
    return begins;
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

/* ---- as JSON ------------------------------------------------------------ */

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
        state = endpoints->breakers[i].state;
        since_ns = endpoints->breakers[i].since_ns;
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
