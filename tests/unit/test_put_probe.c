/* SPDX-License-Identifier: BSD-2-Clause */
/* links: said */
#include "cache/put_probe.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "object_store.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/said.h"
#include "unit/test.h"

static const uint64_t HOUR_NS = UINT64_C(3600) * 1000000000;

/* ---- stores that are not what they should be ------------------------------
 */

enum obedience {
    IGNORES, /* the condition */
    RACES,   /* obeys what it saw when the call began: two may pass */
};

struct strange_store {
    struct object_store store; /* first, so that one is the other */
    struct object_store *inner;
    enum obedience obedience;
    struct mutex mutex;
    struct condition changed;
    unsigned passing GUARDED_BY(mutex); /* of a race: have seen nothing */
};

/*
 * A put that finds the key absent waits until another has, too, when there is
 * another: every second key of this probe is raced for by four.
 */
static void pass_together(struct strange_store *strange)
{
    mutex_lock(&strange->mutex);
    strange->passing++;
    condition_broadcast(&strange->changed);
    while (strange->passing < 2)
        condition_wait(&strange->changed, &strange->mutex);
    mutex_unlock(&strange->mutex);
}

static int strange_put(struct object_store *store, const char *key,
                       const void *data, size_t len, bool if_absent)
{
    struct strange_store *strange = (struct strange_store *)(void *)store;
    struct object_store *inner = strange->inner;
    struct object_info info;
    bool is_race = strcmp(key + strlen(key) - 3, "-00") != 0;

    if (strange->obedience == IGNORES)
        return inner->put(inner, key, data, len, false);
    if (!is_race)
        return inner->put(inner, key, data, len, if_absent);
    if (inner->head(inner, key, &info) == 0)
        return -EEXIST;
    pass_together(strange);
    return inner->put(inner, key, data, len, false);
}

static int strange_get(struct object_store *store, const char *key,
                       uint64_t offset, void *data, size_t len,
                       enum object_urgency urgency)
{
    struct object_store *inner = ((struct strange_store *)(void *)store)->inner;

    return inner->get(inner, key, offset, data, len, urgency);
}

static int strange_delete(struct object_store *store, const char *const keys[],
                          size_t count)
{
    struct object_store *inner = ((struct strange_store *)(void *)store)->inner;

    return inner->delete (inner, keys, count);
}

static bool is_obeyed_by_strange(enum obedience obedience)
{
    struct strange_store strange = {
        .store =
            {
                .put = strange_put,
                .get = strange_get,
                .delete = strange_delete,
            },
        .inner = memory_store_new(),
        .obedience = obedience,
    };
    struct put_probe probe;
    bool is_obeyed = true;

    log_set_level(LOG_LEVEL_ERROR);
    mutex_init(&strange.mutex);
    condition_init(&strange.changed);
    put_probe_init(&probe);
    CHECK(put_probe_ask(&probe, &strange.store, "disk", false, &is_obeyed) ==
          0);
    put_probe_done(&probe);
    condition_done(&strange.changed);
    mutex_done(&strange.mutex);
    strange.inner->close(strange.inner);
    return is_obeyed;
}

TEST("a store that ignores conditions is found out")
{
    CHECK(!is_obeyed_by_strange(IGNORES));
}

TEST("a store that lets two through that race is found out")
{
    CHECK(!is_obeyed_by_strange(RACES));
}

/* ---- others ---------------------------------------------------------------
 */

static struct fault_store *fault;
static struct object_store *store;
static struct put_probe probe;

static void begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault = fault_store_new(memory_store_new());
    store = fault_store_of(fault);
    put_probe_init(&probe);
}

static void end(void)
{
    put_probe_done(&probe);
    store->close(store);
}

static bool was_disobedient; /* so far */

/* Returns 1 if it is obeyed, 0 if not, or an error. */
static int ask(void)
{
    bool is_obeyed;
    int error =
        put_probe_ask(&probe, store, "disk", was_disobedient, &is_obeyed);

    return error != 0 ? error : is_obeyed;
}

/* An object_store_each. */
static int count_key(void *context, const char *key,
                     const struct object_info *info)
{
    unsigned *count = context;

    (void)key;
    (void)info;
    (*count)++;
    return 0;
}

TEST("a store that obeys is believed, and nothing stays in it")
{
    unsigned count = 0;

    begin();
    CHECK(ask() == 1);
    CHECK(store->list(store, "", "", count_key, &count) == 0);
    CHECK(count == 0);
    end();
}

TEST("a store that refuses conditional puts is told apart from one that "
     "fails")
{
    begin();
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(ask() == -ETIMEDOUT);
    fault_store_plan(fault, STORE_PUT, 2, 1, STORE_FAILS, -EIO);
    CHECK(ask() == -EIO);
    fault_store_plan(fault, STORE_PUT, 5, 1, STORE_FAILS_AFTER, -EIO);
    CHECK(ask() == -EIO);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -EIO);
    CHECK(ask() == -EIO);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -EOPNOTSUPP);
    CHECK(ask() == 0);
    put_probe_doubt(&probe);
    CHECK(ask() == 1);
    end();
}

/* What is said of a store that knows none, when it is asked and is known. */
static const char *said_when(bool is_known, bool device_knows)
{
    const char *said;

    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -EOPNOTSUPP);
    if (!is_known)
        put_probe_doubt(&probe);
    was_disobedient = device_knows;
    said_begin();
    CHECK(ask() == 0);
    said = said_end();
    was_disobedient = false;
    return said;
}

TEST("that it does not obey is a warning to each device that did not know")
{
    static const char warning[] = "test: warning: disk: the store does not";
    static const char info[] = "test: info: disk: the store does not";

    begin();
    CHECK(strncmp(said_when(false, false), warning, strlen(warning)) == 0);
    CHECK(strncmp(said_when(true, false), warning, strlen(warning)) == 0);
    CHECK(strcmp(said_when(true, true), "") == 0);
    CHECK(strncmp(said_when(false, true), info, strlen(info)) == 0);
    end();
}

/* Returns how many lines are said of a store that does not answer. */
static unsigned lines_of_outage(void)
{
    const char *said;
    unsigned count = 0;

    said_begin();
    for (unsigned i = 0; i < 3; i++) {
        fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -ETIMEDOUT);
        CHECK(ask() == -ETIMEDOUT);
    }
    for (said = said_end(); *said != '\0'; said++)
        count += *said == '\n';
    return count;
}

TEST("that it does not answer is said once, until it has answered")
{
    begin();
    CHECK(lines_of_outage() == 1);
    CHECK(lines_of_outage() == 0);
    CHECK(ask() == 1);
    put_probe_doubt(&probe);
    CHECK(lines_of_outage() == 1);
    end();
}

TEST("an answer is good for a week, or until it is doubted")
{
    uint64_t count;

    begin();
    clock_set_for_tests(HOUR_NS);
    CHECK(ask() == 1);
    count = fault_store_count(fault, STORE_PUT);
    clock_set_for_tests(7 * 24 * HOUR_NS);
    CHECK(ask() == 1);
    CHECK(fault_store_count(fault, STORE_PUT) == count);
    clock_set_for_tests((7 * 24 + 1) * HOUR_NS);
    CHECK(ask() == 1);
    CHECK(fault_store_count(fault, STORE_PUT) > count);
    count = fault_store_count(fault, STORE_PUT);
    put_probe_doubt(&probe);
    CHECK(ask() == 1);
    CHECK(fault_store_count(fault, STORE_PUT) > count);
    clock_set_for_tests(0);
    end();
}
