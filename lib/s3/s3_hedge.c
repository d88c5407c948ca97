/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Of a race, the hedged get (on the stack of who waits) and a thread here
 * know.  All that follows is decided under the mutex:
 *
 *   RUNNING   the second attempt runs, and the first one does or waits for it
 *   WON       the second one was answered first: its data are in the race,
 *             which is now the first one's; that one was ended
 *   FAILED    it was not answered.  The first one, if it still runs, knows of
 *             the race no more, and may be raced again; else it goes its way
 *   LOST      the first one has left: the second one was ended, and what it
 *             still brings is dropped
 *
 * The first attempt leaves (s3_hedge_end) only when the state is not RUNNING,
 * and takes RUNNING to LOST itself if it was answered, or had no answer and has
 * waited long enough for the second one.  So while it is RUNNING
 * the hedged get exists, and may be touched by the thread.  Each attempt
 * writes only to memory of its own: the caller's data and the race's.
 */
#include "s3/s3_hedge.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "base/log.h"
#include "base/thread.h"
#include "s3/s3_attempt.h"
#include "s3/s3_endpoint.h"
#include "s3/s3_gate.h"
#include "s3/s3_parts.h"

enum {
    THREADS = 4,
    /* The budget, in parts of a second attempt: what a get adds, what one
     * costs, and how much may be saved up. */
    BUDGET_OF_GET = 1,
    BUDGET_OF_ATTEMPT = 20,
    BUDGET_MAX = 10 * BUDGET_OF_ATTEMPT,
    LEARN_EACH = 32,   /* gets between two looks at the histogram */
    REMEMBERED = 1024, /* gets in it, before their weight is halved */
    OVERDUE_PER_MILLE = 950,
};

static const uint64_t DELAY_MIN_NS = UINT64_C(50) * 1000000;
/* Of the time that bodies of such a size took, so often is still usual. */
static const uint64_t BODY_TIMES = 2;
/* So long does a first attempt that failed wait for the second one. */
static const uint64_t PATIENCE_NS = UINT64_C(1000) * 1000000;
/* So long, and twice the time of usual bodies, has a second attempt. */
static const uint64_t SECOND_NS = UINT64_C(3000) * 1000000;
static const uint64_t THROTTLED_NS = UINT64_C(5000) * 1000000;

enum race_state { RUNNING, WON, FAILED, LOST };

struct s3_race {
    enum race_state state;
    bool is_awaited;          /* the first attempt has failed, and waits */
    unsigned users;           /* 2: who waits, and the thread; then 1 */
    struct s3_hedged *hedged; /* while RUNNING */
    size_t avoid;
    uint64_t deadline_ns;
    struct s3_hold hold;
    struct s3_operation operation;
    char *key;
    void *data;
};

struct s3_hedges {
    struct s3_parts *parts;
    pthread_t threads[THREADS];
    size_t threads_count;

    struct mutex mutex;
    struct condition due;   /* for the threads: the next one came earlier */
    struct condition ended; /* a race is not RUNNING any more */
    bool is_closing GUARDED_BY(mutex);
    struct s3_hedged *first GUARDED_BY(mutex); /* under way, and no race yet */
    uint64_t wake_ns GUARDED_BY(mutex); /* when a thread looks, at the latest */
    unsigned budget GUARDED_BY(mutex);
    unsigned racing GUARDED_BY(mutex); /* threads */
    uint64_t paused_until_ns GUARDED_BY(mutex);
    struct histogram first_bytes GUARDED_BY(mutex);
    unsigned learned GUARDED_BY(mutex);
    uint64_t delay_ns GUARDED_BY(mutex);
    uint64_t body_ns_per_kib GUARDED_BY(mutex); /* a moving average */
    struct s3_hedge_counts counts GUARDED_BY(mutex);
};

/* ---- races -------------------------------------------------------------- */

static void race_free(struct s3_race *race)
{
    if (!race)
        return;
    s3_hold_done(&race->hold);
    free(race->key);
    free(race->data);
    free(race);
}

/* Returns NULL without memory: then there is no race. */
static struct s3_race *race_new(struct s3_hedged *hedged)
{
    struct s3_race *race = calloc(1, sizeof(*race));

    if (!race)
        return NULL;
    s3_hold_init(&race->hold);
    race->state = RUNNING;
    race->users = 2;
    race->hedged = hedged;
    race->avoid = s3_hold_endpoint(&hedged->hold);
    race->operation = *hedged->operation;
    race->key = strdup(hedged->operation->key);
    race->data = malloc((size_t)hedged->operation->len);
    if (!race->key || !race->data) {
        race_free(race);
        return NULL;
    }
    race->operation.key = race->key;
    return race;
}

/* Returns the race if it has no users any more, to be freed, else NULL. */
static struct s3_race *leave_locked(struct s3_hedges *hedges,
                                    struct s3_race *race)
    REQUIRES(hedges->mutex)
{
    (void)hedges;
    return --race->users == 0 ? race : NULL;
}

/* ---- the second attempt ------------------------------------------------- */

/* Returns whether it was answered with what was asked for. */
static bool attempt_second(struct s3_parts *parts, struct s3_race *race)
{
    struct s3_attempt attempt;
    struct s3_pass pass;
    bool is_answered = false;

    if (s3_attempt_init(&attempt, &race->operation) != 0)
        return false;
    attempt.data = race->data;
    attempt.avoid = race->avoid;
    attempt.deadline_ns = race->deadline_ns;
    attempt.hold = &race->hold;
    /* It is an extra request: there must be a place for it now. */
    if (s3_gate_enter(parts->gate, OBJECT_WAITED_FOR, 0, &pass) == 0) {
        if (s3_attempt_run(parts, &attempt) == 0)
            is_answered = s3_retry_judge(&attempt.seen) == S3_VERDICT_DONE;
        s3_gate_leave(parts->gate, &pass, attempt.health);
    }
    s3_attempt_done(parts, &attempt);
    return is_answered;
}

/* ---- which gets are under way ------------------------------------------- */

static void link_locked(struct s3_hedges *hedges, struct s3_hedged *hedged)
    REQUIRES(hedges->mutex)
{
    hedged->next = hedges->first;
    if (hedged->next)
        hedged->next->at = &hedged->next;
    hedges->first = hedged;
    hedged->at = &hedges->first;
}

static void unlink_locked(struct s3_hedges *hedges, struct s3_hedged *hedged)
    REQUIRES(hedges->mutex)
{
    (void)hedges;
    if (!hedged->at)
        return;
    *hedged->at = hedged->next;
    if (hedged->next)
        hedged->next->at = hedged->at;
    hedged->at = NULL;
}

/* Returns how long bodies of this size usually take. */
static uint64_t body_ns_locked(const struct s3_hedges *hedges,
                               const struct s3_operation *operation)
    REQUIRES(hedges->mutex)
{
    return BODY_TIMES * hedges->body_ns_per_kib * (operation->len >> 10);
}

/* ---- the end of a race -------------------------------------------------- */

/*
 * The second attempt was in vain, and the first one still runs: there may be
 * another one.  The race has one user less.
 */
static void begin_anew_locked(struct s3_hedges *hedges, struct s3_race *race)
    REQUIRES(hedges->mutex)
{
    struct s3_hedged *hedged = race->hedged;

    hedged->race = NULL;
    (void)leave_locked(hedges, race);
    hedged->due_ns = clock_monotonic_ns() + hedges->delay_ns;
    link_locked(hedges, hedged);
}

/* A thread has run the second attempt.  Returns the race if it is to go. */
static struct s3_race *end_race_locked(struct s3_hedges *hedges,
                                       struct s3_race *race, bool is_answered)
    REQUIRES(hedges->mutex)
{
    hedges->racing--;
    if (race->state == RUNNING) {
        race->state = is_answered ? WON : FAILED;
        if (is_answered) {
            hedges->counts.won++;
            s3_hold_end(&race->hedged->hold);
        } else if (!race->is_awaited) {
            begin_anew_locked(hedges, race);
        }
        race->hedged = NULL;
        condition_broadcast(&hedges->ended);
    }
    return leave_locked(hedges, race);
}

/* ---- the threads -------------------------------------------------------- */

/* Returns the get that is due first, or NULL. */
static struct s3_hedged *find_due_locked(struct s3_hedges *hedges)
    REQUIRES(hedges->mutex)
{
    struct s3_hedged *found = NULL;

    for (struct s3_hedged *one = hedges->first; one; one = one->next) {
        if (!found || one->due_ns < found->due_ns)
            found = one;
    }
    return found;
}

/* Whether it waits at an endpoint that is not well, and another one is. */
static bool is_left_locked(struct s3_hedges *hedges, struct s3_hedged *hedged,
                           uint64_t now_ns) REQUIRES(hedges->mutex)
{
    size_t endpoint = s3_hold_endpoint(&hedged->hold);

    return endpoint != S3_ENDPOINT_NONE &&
           s3_endpoints_is_left(hedges->parts->endpoints, endpoint, now_ns);
}

/*
 * Returns a race for this get, which is due, if there may be one.  All but one
 * of the threads run races: that one looks after those that wait meanwhile.
 */
static struct s3_race *begin_race_locked(struct s3_hedges *hedges,
                                         struct s3_hedged *hedged,
                                         uint64_t now_ns)
    REQUIRES(hedges->mutex)
{
    hedged->was_due = true;
    if (is_left_locked(hedges, hedged, now_ns)) {
        /* This is no request more: it needs no budget, and no place. */
        unlink_locked(hedges, hedged);
        hedged->is_moved = true;
        s3_hold_end(&hedged->hold);
        return NULL;
    }
    if (hedges->racing < THREADS - 1 && hedges->budget >= BUDGET_OF_ATTEMPT &&
        now_ns >= hedges->paused_until_ns)
        hedged->race = race_new(hedged);
    if (!hedged->race) {
        hedged->due_ns = now_ns + hedges->delay_ns;
        return NULL;
    }
    unlink_locked(hedges, hedged);
    hedged->race->deadline_ns =
        now_ns + SECOND_NS + body_ns_locked(hedges, hedged->operation);
    hedges->budget -= BUDGET_OF_ATTEMPT;
    hedges->racing++;
    hedges->counts.begun++;
    return hedged->race;
}

/* Wait for a race to run; NULL: no more, all is being closed. */
static struct s3_race *next_race_locked(struct s3_hedges *hedges)
    REQUIRES(hedges->mutex)
{
    while (!hedges->is_closing) {
        struct s3_hedged *hedged = find_due_locked(hedges);
        uint64_t now_ns = clock_monotonic_ns();
        struct s3_race *race;

        if (!hedged || hedged->due_ns > now_ns) {
            hedges->wake_ns = hedged ? hedged->due_ns : UINT64_MAX;
            if (hedged)
                (void)condition_wait_until(&hedges->due, &hedges->mutex,
                                           hedged->due_ns);
            else
                condition_wait(&hedges->due, &hedges->mutex);
            continue;
        }
        race = begin_race_locked(hedges, hedged, now_ns);
        if (race)
            return race;
    }
    return NULL;
}

static void *run_thread(void *argument)
{
    struct s3_hedges *hedges = argument;
    struct s3_race *race;

    mutex_lock(&hedges->mutex);
    while ((race = next_race_locked(hedges)) != NULL) {
        bool is_answered;

        /* Another thread may have to look while this one is busy. */
        condition_signal(&hedges->due);
        mutex_unlock(&hedges->mutex);
        is_answered = attempt_second(hedges->parts, race);
        mutex_lock(&hedges->mutex);
        race = end_race_locked(hedges, race, is_answered);
        mutex_unlock(&hedges->mutex);
        race_free(race);
        mutex_lock(&hedges->mutex);
    }
    mutex_unlock(&hedges->mutex);
    return NULL;
}

static int start_threads(struct s3_hedges *hedges)
{
    int error = 0;

    while (!error && hedges->threads_count < THREADS) {
        error = thread_start("s3 hedge", run_thread, hedges,
                             &hedges->threads[hedges->threads_count]);
        if (!error)
            hedges->threads_count++;
    }
    return error;
}

int s3_hedges_new(struct s3_parts *parts, struct s3_hedges **ret_hedges)
{
    struct s3_hedges *hedges = calloc(1, sizeof(*hedges));
    int error;

    if (!hedges)
        return -ENOMEM;
    hedges->parts = parts;
    mutex_init(&hedges->mutex);
    condition_init(&hedges->due);
    condition_init(&hedges->ended);
    hedges->wake_ns = UINT64_MAX;
    hedges->budget = BUDGET_MAX;
    hedges->delay_ns = DELAY_MIN_NS;
    error = start_threads(hedges);
    if (error)
        s3_hedges_free(hedges);
    else
        *ret_hedges = hedges;
    return error;
}

void s3_hedges_free(struct s3_hedges *hedges)
{
    if (!hedges)
        return;
    mutex_lock(&hedges->mutex);
    hedges->is_closing = true;
    condition_broadcast(&hedges->due);
    mutex_unlock(&hedges->mutex);
    for (size_t i = 0; i < hedges->threads_count; i++)
        (void)pthread_join(hedges->threads[i], NULL);
    assert(!hedges->first);
    condition_done(&hedges->ended);
    condition_done(&hedges->due);
    mutex_done(&hedges->mutex);
    free(hedges);
}

/* ---- the first attempt -------------------------------------------------- */

void s3_hedge_begin(struct s3_hedges *hedges, struct s3_hedged *hedged,
                    const struct s3_operation *operation)
{
    uint64_t now_ns = clock_monotonic_ns();

    s3_hold_init(&hedged->hold);
    hedged->operation = operation;
    hedged->race = NULL;
    hedged->was_due = hedged->is_moved = false;
    mutex_lock(&hedges->mutex);
    hedges->counts.gets++;
    if (hedges->budget < BUDGET_MAX)
        hedges->budget += BUDGET_OF_GET;
    hedged->due_ns =
        now_ns + hedges->delay_ns + body_ns_locked(hedges, operation);
    link_locked(hedges, hedged);
    if (hedged->due_ns < hedges->wake_ns) {
        /* Of a thread that is awake by then, the next look is soon enough. */
        hedges->wake_ns = hedged->due_ns;
        condition_signal(&hedges->due);
    }
    mutex_unlock(&hedges->mutex);
}

/* Wait for the second attempt, for a while; then it is not RUNNING. */
static void settle_locked(struct s3_hedges *hedges, struct s3_race *race,
                          bool is_answered) REQUIRES(hedges->mutex)
{
    uint64_t deadline_ns = clock_monotonic_ns() + PATIENCE_NS;
    bool is_early = !is_answered;

    race->is_awaited = true;
    while (race->state == RUNNING && is_early)
        is_early =
            condition_wait_until(&hedges->ended, &hedges->mutex, deadline_ns);
    if (race->state == RUNNING) {
        race->state = LOST;
        race->hedged = NULL;
        s3_hold_end(&race->hold);
    }
}

bool s3_hedge_end(struct s3_hedges *hedges, struct s3_hedged *hedged,
                  bool is_answered, void *data)
{
    struct s3_race *race;
    bool has_won = false;

    mutex_lock(&hedges->mutex);
    unlink_locked(hedges, hedged);
    race = hedged->race;
    if (race) {
        settle_locked(hedges, race, is_answered);
        has_won = race->state == WON && !is_answered;
    }
    mutex_unlock(&hedges->mutex);
    /* A race that was won has no other writer, and no thread looks at it. */
    if (has_won)
        memcpy(data, race->data, (size_t)race->operation.len);
    mutex_lock(&hedges->mutex);
    if (race)
        race = leave_locked(hedges, race);
    mutex_unlock(&hedges->mutex);
    race_free(race);
    s3_hold_done(&hedged->hold);
    return has_won;
}

bool s3_hedge_was_due(struct s3_hedges *hedges, struct s3_hedged *hedged)
{
    bool was_due;

    mutex_lock(&hedges->mutex);
    was_due = hedged->was_due;
    mutex_unlock(&hedges->mutex);
    return was_due;
}

/* ---- what is usual ------------------------------------------------------ */

void s3_hedge_learn(struct s3_hedges *hedges, const struct s3_attempt *attempt)
{
    uint64_t kib = attempt->operation->len >> 10;
    uint64_t body_ns = attempt->took_ns > attempt->first_byte_ns
                           ? attempt->took_ns - attempt->first_byte_ns
                           : 0;

    mutex_lock(&hedges->mutex);
    histogram_add(&hedges->first_bytes, attempt->first_byte_ns);
    if (kib >= 64) /* of smaller ones the first byte brings most */
        hedges->body_ns_per_kib =
            (hedges->body_ns_per_kib * 7 + body_ns / kib) / 8;
    if (hedges->learned++ % LEARN_EACH == 0) {
        uint64_t usual_ns =
            histogram_percentile(&hedges->first_bytes, OVERDUE_PER_MILLE);

        hedges->delay_ns = usual_ns > DELAY_MIN_NS ? usual_ns : DELAY_MIN_NS;
    }
    if (hedges->first_bytes.total >= REMEMBERED)
        histogram_halve(&hedges->first_bytes);
    mutex_unlock(&hedges->mutex);
}

void s3_hedge_pause(struct s3_hedges *hedges)
{
    uint64_t now_ns = clock_monotonic_ns();

    mutex_lock(&hedges->mutex);
    hedges->paused_until_ns = now_ns + THROTTLED_NS;
    mutex_unlock(&hedges->mutex);
}

void s3_hedge_look(struct s3_hedges *hedges, struct s3_hedge_counts *ret_counts)
{
    mutex_lock(&hedges->mutex);
    *ret_counts = hedges->counts;
    mutex_unlock(&hedges->mutex);
}
