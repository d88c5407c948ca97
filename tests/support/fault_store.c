/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/fault_store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/mutex.h"

struct plan {
    uint64_t first, end; /* calls first .. end - 1; none if they are equal */
    enum store_fault kind;
    int error;
};

/* A put that has not arrived yet. */
struct late_put {
    struct late_put *next;
    char *key;
    unsigned char *data;
    size_t len;
    bool if_absent;
};

struct fault_store {
    struct object_store store; /* first, so that one is the other */
    struct object_store *inner;
    struct mutex mutex;
    struct condition changed; /* held or round did */
    uint64_t counts[STORE_CALLS] GUARDED_BY(mutex);
    struct plan plans[STORE_CALLS] GUARDED_BY(mutex);
    struct late_put *late GUARDED_BY(mutex);
    uint64_t held GUARDED_BY(mutex);
    uint64_t round GUARDED_BY(mutex); /* grows by one at each release */
    int held_error GUARDED_BY(mutex);
    enum object_urgency urgency GUARDED_BY(mutex); /* of the last get */
    bool is_interrupted GUARDED_BY(mutex);
    const char *description GUARDED_BY(mutex);
};

/* What is to happen to one call, once it was held as long as it had to be. */
struct fault {
    bool is_planned;
    enum store_fault kind;
    int error;
};

static struct fault_store *of(struct object_store *store)
{
    return (struct fault_store *)(void *)store;
}

/* Returns the error that it ends with; 0: it goes on. */
static int hold_locked(struct fault_store *fault) REQUIRES(fault->mutex)
{
    uint64_t round = fault->round;

    fault->held++;
    condition_broadcast(&fault->changed);
    while (fault->round == round && !fault->is_interrupted)
        condition_wait(&fault->changed, &fault->mutex);
    fault->held--;
    return fault->held_error;
}

/* Count the call, hold it if that is the plan, and tell what else to do. */
static struct fault begin(struct fault_store *fault, enum store_call call)
{
    const struct plan *plan = &fault->plans[call];
    struct fault found = {.is_planned = false};
    uint64_t number;

    mutex_lock(&fault->mutex);
    number = ++fault->counts[call];
    if (number >= plan->first && number < plan->end) {
        found.is_planned = plan->kind != STORE_HOLDS;
        found.kind = plan->kind;
        found.error = plan->error;
        if (plan->kind == STORE_HOLDS) {
            found.error = hold_locked(fault);
            found.is_planned = found.error != 0;
            found.kind = STORE_FAILS;
        }
    }
    if (fault->is_interrupted)
        found = (struct fault){true, STORE_FAILS, -ECANCELED};
    mutex_unlock(&fault->mutex);
    return found;
}

static bool fails_before(const struct fault *fault)
{
    return fault->is_planned && fault->kind == STORE_FAILS;
}

static int result(const struct fault *fault, int error)
{
    return fault->is_planned && fault->kind == STORE_FAILS_AFTER ? fault->error
                                                                 : error;
}

static int fault_store_get(struct object_store *store, const char *key,
                           uint64_t offset, void *data, size_t len,
                           enum object_urgency urgency)
{
    struct fault_store *fault = of(store);
    unsigned char *bytes = data;
    struct fault found;
    int error;

    mutex_lock(&fault->mutex);
    fault->urgency = urgency;
    mutex_unlock(&fault->mutex);
    found = begin(fault, STORE_GET);
    if (fails_before(&found))
        return found.error;
    error = fault->inner->get(fault->inner, key, offset, data, len, urgency);
    if (!error && found.is_planned && found.kind == STORE_CUTS)
        memset(bytes + len / 2, 0, len - len / 2);
    if (!error && found.is_planned && found.kind == STORE_CORRUPTS)
        bytes[len / 2] ^= 1;
    return result(&found, error);
}

static void late_free(struct late_put *late)
{
    free(late->key);
    free(late->data);
    free(late);
}

/* The put will arrive when it is let, after those that are late already. */
static void put_later(struct fault_store *fault, const char *key,
                      const void *data, size_t len, bool if_absent)
{
    struct late_put *late = calloc(1, sizeof(*late)), **link;

    assert(late);
    late->key = strdup(key);
    late->data = malloc(len + 1);
    assert(late->key && late->data);
    memcpy(late->data, data, len);
    late->len = len;
    late->if_absent = if_absent;
    mutex_lock(&fault->mutex);
    link = &fault->late;
    while (*link)
        link = &(*link)->next;
    *link = late;
    mutex_unlock(&fault->mutex);
}

static int fault_store_put(struct object_store *store, const char *key,
                           const void *data, size_t len, bool if_absent)
{
    struct fault_store *fault = of(store);
    struct fault found = begin(fault, STORE_PUT);
    AUTO_FREE unsigned char *bytes = malloc(len + 1);

    if (fails_before(&found))
        return found.error;
    if (found.is_planned && found.kind == STORE_LATE) {
        put_later(fault, key, data, len, if_absent);
        return found.error;
    }
    assert(bytes);
    memcpy(bytes, data, len);
    if (found.is_planned && found.kind == STORE_CUTS)
        len /= 2;
    if (found.is_planned && found.kind == STORE_CORRUPTS)
        bytes[len / 2] ^= 1;
    if (found.is_planned && found.kind == STORE_UNCONDITIONAL)
        if_absent = false;
    return result(&found,
                  fault->inner->put(fault->inner, key, bytes, len, if_absent));
}

size_t fault_store_land(struct fault_store *fault)
{
    struct late_put *late;
    size_t count = 0;

    mutex_lock(&fault->mutex);
    late = fault->late;
    fault->late = NULL;
    mutex_unlock(&fault->mutex);
    while (late) {
        struct late_put *next = late->next;

        (void)fault->inner->put(fault->inner, late->key, late->data, late->len,
                                late->if_absent);
        late_free(late);
        late = next;
        count++;
    }
    return count;
}

static int fault_store_head(struct object_store *store, const char *key,
                            struct object_info *ret_info)
{
    struct fault_store *fault = of(store);
    struct fault found = begin(fault, STORE_HEAD);

    if (fails_before(&found))
        return found.error;
    return result(&found, fault->inner->head(fault->inner, key, ret_info));
}

static int fault_store_delete(struct object_store *store,
                              const char *const keys[], size_t count)
{
    struct fault_store *fault = of(store);
    struct fault found = begin(fault, STORE_DELETE);

    if (fails_before(&found))
        return found.error;
    if (found.is_planned && found.kind == STORE_CUTS) {
        if (count > 1)
            (void)fault->inner->delete (fault->inner, keys, count / 2);
        return found.error;
    }
    return result(&found, fault->inner->delete (fault->inner, keys, count));
}

static int fault_store_list(struct object_store *store, const char *prefix,
                            const char *after, object_store_each *each,
                            void *context)
{
    struct fault_store *fault = of(store);
    struct fault found = begin(fault, STORE_LIST);

    if (fails_before(&found))
        return found.error;
    return result(
        &found, fault->inner->list(fault->inner, prefix, after, each, context));
}

static void fault_store_interrupt(struct object_store *store)
{
    struct fault_store *fault = of(store);

    mutex_lock(&fault->mutex);
    fault->is_interrupted = true;
    condition_broadcast(&fault->changed);
    mutex_unlock(&fault->mutex);
    fault->inner->interrupt(fault->inner);
}

static char *fault_store_describe(struct object_store *store)
{
    struct fault_store *fault = of(store);
    const char *description;

    mutex_lock(&fault->mutex);
    description = fault->description;
    mutex_unlock(&fault->mutex);
    return description ? strdup(description)
                       : fault->inner->describe(fault->inner);
}

static void fault_store_close(struct object_store *store)
{
    struct fault_store *fault = of(store);

    while (fault->late) {
        struct late_put *late = fault->late;

        fault->late = late->next;
        late_free(late);
    }
    fault->inner->close(fault->inner);
    condition_done(&fault->changed);
    mutex_done(&fault->mutex);
    free(fault);
}

struct fault_store *fault_store_new(struct object_store *inner)
{
    struct fault_store *fault = calloc(1, sizeof(*fault));

    assert(fault);
    fault->store = (struct object_store){
        .get = fault_store_get,
        .put = fault_store_put,
        .head = fault_store_head,
        .delete = fault_store_delete,
        .list = fault_store_list,
        .interrupt = fault_store_interrupt,
        .describe = fault_store_describe,
        .close = fault_store_close,
    };
    fault->inner = inner;
    mutex_init(&fault->mutex);
    condition_init(&fault->changed);
    return fault;
}

struct object_store *fault_store_of(struct fault_store *fault)
{
    return &fault->store;
}

void fault_store_plan(struct fault_store *fault, enum store_call call,
                      uint64_t nth, uint64_t times, enum store_fault kind,
                      int error)
{
    struct plan plan = {.kind = kind, .error = error};

    assert(nth > 0);
    mutex_lock(&fault->mutex);
    plan.first = fault->counts[call] + nth;
    plan.end = times == 0 ? UINT64_MAX : plan.first + times;
    fault->plans[call] = plan;
    mutex_unlock(&fault->mutex);
}

void fault_store_clear(struct fault_store *fault)
{
    mutex_lock(&fault->mutex);
    memset(fault->plans, 0, sizeof(fault->plans));
    mutex_unlock(&fault->mutex);
    fault_store_release(fault);
}

uint64_t fault_store_count(struct fault_store *fault, enum store_call call)
{
    uint64_t count;

    mutex_lock(&fault->mutex);
    count = fault->counts[call];
    mutex_unlock(&fault->mutex);
    return count;
}

void fault_store_wait_held(struct fault_store *fault, uint64_t count)
{
    mutex_lock(&fault->mutex);
    while (fault->held < count)
        condition_wait(&fault->changed, &fault->mutex);
    mutex_unlock(&fault->mutex);
}

void fault_store_fail_held(struct fault_store *fault, int error)
{
    mutex_lock(&fault->mutex);
    fault->held_error = error;
    fault->round++;
    condition_broadcast(&fault->changed);
    mutex_unlock(&fault->mutex);
}

void fault_store_release(struct fault_store *fault)
{
    fault_store_fail_held(fault, 0);
}

void fault_store_describe_as(struct fault_store *fault, const char *text)
{
    mutex_lock(&fault->mutex);
    fault->description = text;
    mutex_unlock(&fault->mutex);
}

enum object_urgency fault_store_urgency(struct fault_store *fault)
{
    enum object_urgency urgency;

    mutex_lock(&fault->mutex);
    urgency = fault->urgency;
    mutex_unlock(&fault->mutex);
    return urgency;
}
