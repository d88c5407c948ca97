/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * First one after the other: a second conditional put of a key must be told
 * that it is taken.  Some stores pass that and yet let two of several through
 * that race, perhaps only by different endpoints; so a few keys are raced
 * for, by threads, whose requests the store spreads over its endpoints.
 */
#include "cache/put_probe.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/workers.h"
#include "cache/cache_dir.h"
#include "cache/device.h"
#include "object_store.h"

enum {
    RACERS = 4,
    ROUNDS = 4,
    KEY_MAX = DEVICE_NAME_MAX + sizeof("/probe/") + 32 + 1 + 2 + 1,
};

static const uint64_t ASK_AGAIN_NS = UINT64_C(7) * 24 * 60 * 60 * 1000000000;

void put_probe_init(struct put_probe *probe)
{
    mutex_init(&probe->mutex);
    probe->is_known = false;
    probe->is_obeyed = false;
    probe->has_failed = false;
    probe->asked_ns = 0;
}

void put_probe_done(struct put_probe *probe)
{
    mutex_done(&probe->mutex);
}

/* One question to a store: its keys are this one's alone. */
struct question {
    struct object_store *store;
    const char *device_name;
    uint8_t id[UUID_SIZE];
};

static void key_of(const struct question *question, unsigned number,
                   char key[KEY_MAX])
{
    uint64_t halves[2];
    int len;

    memcpy(halves, question->id, sizeof(halves));
    len = snprintf(key, KEY_MAX, "%s/probe/%016" PRIx64 "%016" PRIx64 "-%02x",
                   question->device_name, halves[0], halves[1], number);
    assert(len > 0 && len < (int)KEY_MAX);
}

/* ---- one after the other ------------------------------------------------- */

/*
 * Returns 1 if the second of two puts of a key is refused, 0 if not, or an
 * error, also if a put was not answered: then nothing is known.
 */
static int ask_twice(const struct question *question, const char *key)
{
    struct object_store *store = question->store;
    int error = store->put(store, key, "1", 1, true);

    if (error == 0)
        error = store->put(store, key, "2", 1, true);
    switch (error) {
    case -EEXIST:
        return 1;
    case 0:
    case -EOPNOTSUPP:
        return 0;
    default:
        return error;
    }
}

/* ---- in a race ----------------------------------------------------------- */

struct race {
    const struct question *question;
    const char *key;
    struct mutex mutex;
    struct condition changed;
    unsigned running GUARDED_BY(mutex);
};

struct racer {
    struct workers_task task; /* first, so that one is the other */
    struct race *race;
    char body;
    int result;
};

static void run_racer(struct workers_task *task)
{
    struct racer *racer = (struct racer *)(void *)task;
    struct race *race = racer->race;
    struct object_store *store = race->question->store;

    racer->result = store->put(store, race->key, &racer->body, 1, true);
    mutex_lock(&race->mutex);
    race->running--;
    condition_signal(&race->changed);
    mutex_unlock(&race->mutex);
}

static void run_race(struct race *race, struct workers *workers,
                     struct racer racers[RACERS])
{
    mutex_lock(&race->mutex);
    race->running = RACERS;
    mutex_unlock(&race->mutex);
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){
            .task = {.run = run_racer},
            .race = race,
            .body = (char)('a' + i),
        };
        workers_submit(workers, &racers[i].task);
    }
    mutex_lock(&race->mutex);
    while (race->running > 0)
        condition_wait(&race->changed, &race->mutex);
    mutex_unlock(&race->mutex);
}

/* Returns 1 if exactly one has won, and its body is there; 0; an error. */
static int judge(const struct question *question, const char *key,
                 const struct racer racers[RACERS])
{
    unsigned winners = 0;
    char winner = 0, found = 0;
    int error;

    for (unsigned i = 0; i < RACERS; i++) {
        if (racers[i].result == 0) {
            winners++;
            winner = racers[i].body;
        } else if (racers[i].result != -EEXIST) {
            return racers[i].result;
        }
    }
    if (winners != 1)
        return 0;
    error = question->store->get(question->store, key, 0, &found, 1,
                                 OBJECT_BACKGROUND);
    return error < 0 ? error : found == winner;
}

static int ask_in_races(const struct question *question)
{
    struct race race = {.question = question};
    struct racer racers[RACERS];
    struct workers *workers;
    char key[KEY_MAX];
    int result = workers_start("probe", RACERS, &workers);

    if (result < 0)
        return result;
    mutex_init(&race.mutex);
    condition_init(&race.changed);
    race.key = key;
    result = 1;
    for (unsigned i = 1; result == 1 && i <= ROUNDS; i++) {
        key_of(question, i, key);
        run_race(&race, workers, racers);
        result = judge(question, key, racers);
    }
    workers_stop(workers);
    condition_done(&race.changed);
    mutex_done(&race.mutex);
    return result;
}

/* ---- both ---------------------------------------------------------------- */

/* Whatever cannot be removed is a byte of garbage. */
static void clean_up(const struct question *question)
{
    char key[KEY_MAX];

    for (unsigned i = 0; i <= ROUNDS; i++) {
        key_of(question, i, key);
        (void)object_delete_one(question->store, key);
    }
}

/* Returns 1 or 0, or an error. */
static int ask(struct object_store *store, const char *device_name)
{
    struct question question = {.store = store, .device_name = device_name};
    char key[KEY_MAX];
    int result = uuid_make(question.id);

    if (result < 0)
        return result;
    key_of(&question, 0, key);
    result = ask_twice(&question, key);
    if (result == 1)
        result = ask_in_races(&question);
    clean_up(&question);
    return result;
}

/* Who asks again in an outage says it again only to who looks closely. */
static void tell_failure(struct put_probe *probe, const char *device_name,
                         int error)
{
    bool is_news;

    mutex_lock(&probe->mutex);
    is_news = !probe->has_failed;
    probe->has_failed = true;
    mutex_unlock(&probe->mutex);
    (is_news ? log_error : log_debug)(
        "%s: whether the store obeys a conditional put is not known: %s",
        device_name, log_errno(error));
}

static void tell_disobedience(const char *device_name, bool was_disobedient)
{
    (was_disobedient ? log_info : log_warning)(
        "%s: the store does not obey conditional puts: it cannot keep two"
        " hosts from writing one device, only tell afterwards that they did",
        device_name);
}

int put_probe_ask(struct put_probe *probe, struct object_store *store,
                  const char *device_name, bool was_disobedient,
                  bool *ret_is_obeyed)
{
    uint64_t now_ns = clock_monotonic_ns();
    bool is_known, is_obeyed;
    int result;

    mutex_lock(&probe->mutex);
    is_known = probe->is_known && now_ns - probe->asked_ns < ASK_AGAIN_NS;
    is_obeyed = probe->is_obeyed;
    mutex_unlock(&probe->mutex);
    if (!is_known) {
        result = ask(store, device_name);
        if (result < 0) {
            tell_failure(probe, device_name, result);
            return result;
        }
        is_obeyed = result == 1;
        mutex_lock(&probe->mutex);
        probe->has_failed = false;
        probe->is_known = true;
        probe->is_obeyed = is_obeyed;
        probe->asked_ns = now_ns;
        mutex_unlock(&probe->mutex);
    }
    /* Of a device that is new, also if others of its store are not. */
    if (!is_obeyed && (!is_known || !was_disobedient))
        tell_disobedience(device_name, was_disobedient);
    *ret_is_obeyed = is_obeyed;
    return 0;
}

void put_probe_doubt(struct put_probe *probe)
{
    mutex_lock(&probe->mutex);
    probe->is_known = false;
    mutex_unlock(&probe->mutex);
}
