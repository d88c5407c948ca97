/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads ask endpoints that fail by chance, others probe those that rest,
 * some wait for changes, one describes them all, until it is interrupted.
 * Each that began is counted, nobody waits for ever.
 */
#include "s3/s3_endpoint.h"

#include <pthread.h>
#include <sched.h>

#include "base/clock.h"
#include "base/log.h"
#include "unit/test.h"

enum {
    ENDPOINTS = 3,
    ASKING = 4,
    PROBING = 2,
    ROUNDS = 2000, /* of each that asks */
};

static struct s3_endpoints *set;
static _Atomic unsigned asked, asking_ended;
static _Atomic uint64_t time_ns;

/* A moment later than all that were told before. */
static uint64_t later_ns(void)
{
    return atomic_fetch_add(&time_ns, 1000000) + 1000000;
}

static void end_turn(const struct s3_turn *turn, unsigned number)
{
    static const enum s3_health ends[] = {
        S3_HEALTH_ANSWERED, S3_HEALTH_BROKEN,      S3_HEALTH_ANSWERED,
        S3_HEALTH_ANSWERED, S3_HEALTH_UNREACHABLE, S3_HEALTH_SERVER_ERROR,
        S3_HEALTH_ANSWERED, S3_HEALTH_THROTTLED,   S3_HEALTH_ABANDONED};
    const struct s3_outcome outcome = {
        .health = ends[number % (sizeof(ends) / sizeof(ends[0]))],
        .latency_ns = 1 + number,
        .text = "by chance"};

    s3_endpoints_done(set, turn, &outcome, later_ns());
    atomic_fetch_add(&asked, 1);
}

static void *ask(void *unused)
{
    struct s3_turn turn;

    (void)unused;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t changes = s3_endpoints_changes(set);
        int error = s3_endpoints_choose(set, i % ENDPOINTS, i % 2, i * 1000,
                                        later_ns(), &turn);

        if (error == 0)
            end_turn(&turn, i);
        else if (CHECK(error == -EHOSTDOWN))
            CHECK(s3_endpoints_wait(set, changes, UINT64_MAX) == 0);
    }
    atomic_fetch_add(&asking_ended, 1);
    return NULL;
}

static void *probe(void *unused)
{
    struct s3_turn turn;

    (void)unused;
    for (unsigned i = 0;; i++) {
        uint64_t changes = s3_endpoints_changes(set);
        uint64_t wait_ns = s3_endpoints_probe(set, later_ns(), &turn);

        if (wait_ns == 0)
            end_turn(&turn, i);
        else if (wait_ns < UINT64_MAX)
            atomic_fetch_add(&time_ns, wait_ns);
        else if (s3_endpoints_wait(set, changes, UINT64_MAX) == -ECANCELED)
            return NULL;
    }
}

/* The sum of the numbers that this key has in the text. */
static uint64_t sum_of(const char *text, const char *key)
{
    uint64_t sum = 0, number;

    while ((text = strstr(text, key)) != NULL) {
        text += strlen(key);
        for (number = 0; *text >= '0' && *text <= '9'; text++)
            number = number * 10 + (uint64_t)(*text - '0');
        sum += number;
    }
    return sum;
}

TEST("whatever ends and begins at once, all is counted and nobody waits on")
{
    static const char *const hosts[ENDPOINTS] = {"a.test", "b.test", "c.test"};
    static const uint16_t ports[] = {443};
    const struct s3_endpoints_options options = {hosts, ENDPOINTS, ports, 1, 9};
    pthread_t threads[ASKING + PROBING];
    char *text;

    log_set_level(LOG_LEVEL_ERROR);
    clock_set_for_tests(1);
    NEED(s3_endpoints_new(&options, &set) == 0);
    for (size_t i = 0; i < ASKING + PROBING; i++)
        NEED(pthread_create(&threads[i], NULL, i < ASKING ? ask : probe,
                            NULL) == 0);
    while (atomic_load(&asking_ended) < ASKING) {
        text = s3_endpoints_describe(set, later_ns());
        CHECK(text && strncmp(text, "{\"endpoints\": [{", 16) == 0);
        free(text);
        (void)sched_yield();
    }
    s3_endpoints_interrupt(set);
    for (size_t i = 0; i < ASKING + PROBING; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    text = s3_endpoints_describe(set, later_ns());
    NEED(text != NULL);
    CHECK(sum_of(text, "\"in_flight\": ") == 0);
    CHECK(sum_of(text, "\"requests\": ") == atomic_load(&asked));
    CHECK(atomic_load(&asked) > ROUNDS);
    free(text);
    s3_endpoints_free(set);
}
