/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/moment_store.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mutex.h"
#include "support/memory_store.h"

struct moment {
    uint64_t first, rest; /* after how many changes */
    bool has_first, has_rest;
    uint64_t number;
    struct object_store *copy;
};

struct moment_store {
    struct object_store store;
    struct object_store *inner;
    const _Atomic uint64_t *number;
    struct mutex mutex;
    uint64_t changes GUARDED_BY(mutex);
    unsigned count GUARDED_BY(mutex);
    struct moment moments[MOMENTS_MAX] GUARDED_BY(mutex);
};

static struct moment_store *of(struct object_store *store)
{
    return (struct moment_store *)(void *)store;
}

static void need(bool ok)
{
    if (!ok)
        abort();
}

/* ---- copies ---------------------------------------------------------------
 */

struct copying {
    struct object_store *from, *to;
    bool wants_first;
};

static bool goes_first(const char *key)
{
    return strstr(key, "/epoch/") != NULL || strstr(key, "/manifest/") != NULL;
}

/* object_store_each */
static int copy_one(void *context, const char *key,
                    const struct object_info *info)
{
    const struct copying *copying = context;
    void *data;

    if (goes_first(key) != copying->wants_first)
        return 0;
    data = malloc(info->size + 1);
    need(data != NULL);
    need(copying->from->get(copying->from, key, 0, data, info->size,
                            OBJECT_BACKGROUND) == 0);
    need(copying->to->put(copying->to, key, data, info->size, false) == 0);
    free(data);
    return 0;
}

static void copy(struct moment_store *moments, struct moment *moment,
                 bool wants_first)
{
    struct copying copying = {moments->inner, moment->copy, wants_first};

    need(moments->inner->list(moments->inner, "", "", copy_one, &copying) == 0);
}

/* Take what is due after so many changes. */
static void look_locked(struct moment_store *moments, uint64_t changes)
    REQUIRES(moments->mutex)
{
    for (unsigned i = 0; i < moments->count; i++) {
        struct moment *moment = &moments->moments[i];

        if (!moment->has_first && changes >= moment->first) {
            moment->has_first = true;
            moment->number = atomic_load(moments->number);
            copy(moments, moment, true);
        }
        if (moment->has_first && !moment->has_rest && changes >= moment->rest) {
            moment->has_rest = true;
            copy(moments, moment, false);
        }
    }
}

/* ---- the store ------------------------------------------------------------
 */

static int moment_store_get(struct object_store *store, const char *key,
                            uint64_t offset, void *data, size_t len,
                            enum object_urgency urgency)
{
    return of(store)->inner->get(of(store)->inner, key, offset, data, len,
                                 urgency);
}

static int moment_store_put(struct object_store *store, const char *key,
                            const void *data, size_t len, bool if_absent)
{
    struct moment_store *moments = of(store);
    int error;

    mutex_lock(&moments->mutex);
    error = moments->inner->put(moments->inner, key, data, len, if_absent);
    look_locked(moments, ++moments->changes);
    mutex_unlock(&moments->mutex);
    return error;
}

static int moment_store_head(struct object_store *store, const char *key,
                             struct object_info *ret_info)
{
    return of(store)->inner->head(of(store)->inner, key, ret_info);
}

static int moment_store_delete(struct object_store *store,
                               const char *const keys[], size_t count)
{
    struct moment_store *moments = of(store);
    int error = 0;

    for (size_t i = 0; i < count && error == 0; i++) {
        mutex_lock(&moments->mutex);
        error = object_delete_one(moments->inner, keys[i]);
        look_locked(moments, ++moments->changes);
        mutex_unlock(&moments->mutex);
    }
    return error;
}

static int moment_store_list(struct object_store *store, const char *prefix,
                             const char *after, object_store_each *each,
                             void *context)
{
    return of(store)->inner->list(of(store)->inner, prefix, after, each,
                                  context);
}

static void moment_store_interrupt(struct object_store *store)
{
    struct object_store *inner = of(store)->inner;

    inner->interrupt(inner);
}

static char *moment_store_describe(struct object_store *store)
{
    struct object_store *inner = of(store)->inner;

    return inner->describe(inner);
}

static void moment_store_close(struct object_store *store)
{
    struct moment_store *moments = of(store);

    for (unsigned i = 0; i < moments->count; i++) {
        if (moments->moments[i].copy != NULL)
            moments->moments[i].copy->close(moments->moments[i].copy);
    }
    moments->inner->close(moments->inner);
    mutex_done(&moments->mutex);
    free(moments);
}

struct moment_store *moment_store_new(struct object_store *inner,
                                      const _Atomic uint64_t *number)
{
    struct moment_store *moments = calloc(1, sizeof(*moments));

    need(moments != NULL);
    moments->store = (struct object_store){
        .get = moment_store_get,
        .put = moment_store_put,
        .head = moment_store_head,
        .delete = moment_store_delete,
        .list = moment_store_list,
        .interrupt = moment_store_interrupt,
        .describe = moment_store_describe,
        .close = moment_store_close,
    };
    moments->inner = inner;
    moments->number = number;
    mutex_init(&moments->mutex);
    return moments;
}

struct object_store *moment_store_of(struct moment_store *moments)
{
    return &moments->store;
}

void moment_store_plan(struct moment_store *moments, uint64_t first,
                       uint64_t rest)
{
    mutex_lock(&moments->mutex);
    need(moments->count < MOMENTS_MAX);
    moments->moments[moments->count++] = (struct moment){
        .first = first,
        .rest = rest,
        .copy = memory_store_new(),
    };
    mutex_unlock(&moments->mutex);
}

void moment_store_finish(struct moment_store *moments)
{
    mutex_lock(&moments->mutex);
    look_locked(moments, UINT64_MAX);
    mutex_unlock(&moments->mutex);
}

struct object_store *moment_store_take(struct moment_store *moments, unsigned i,
                                       uint64_t *ret_number)
{
    struct object_store *copy;

    mutex_lock(&moments->mutex);
    need(i < moments->count && moments->moments[i].has_rest);
    copy = moments->moments[i].copy;
    moments->moments[i].copy = NULL;
    *ret_number = moments->moments[i].number;
    mutex_unlock(&moments->mutex);
    return copy;
}
