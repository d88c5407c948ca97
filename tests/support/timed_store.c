/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/timed_store.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mutex.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "support/memory_store.h"

/* A put, or a delete (data NULL), that was done; begun and ended: when. */
struct change {
    char *key;
    void *data;
    size_t len;
    size_t begun, ended;
};

struct timed_store {
    struct object_store store;
    struct object_store *inner;
    struct mutex mutex;
    struct change *changes GUARDED_BY(mutex);
    size_t count GUARDED_BY(mutex);
};

static struct timed_store *of(struct object_store *store)
{
    return (struct timed_store *)(void *)store;
}

static void *need(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void note(struct timed_store *timed, const char *key, const void *data,
                 size_t len, size_t begun)
{
    struct change change = {
        .key = need(strdup(key)),
        .len = len,
        .begun = begun,
        .ended = fault_record_position(),
    };

    if (data != NULL) {
        change.data = need(malloc(len + 1));
        memcpy(change.data, data, len);
    }
    mutex_lock(&timed->mutex);
    timed->changes =
        need(realloc(timed->changes, (timed->count + 1) * sizeof(change)));
    timed->changes[timed->count++] = change;
    mutex_unlock(&timed->mutex);
}

static int timed_store_get(struct object_store *store, const char *key,
                           uint64_t offset, void *data, size_t len)
{
    return of(store)->inner->get(of(store)->inner, key, offset, data, len);
}

static int timed_store_put(struct object_store *store, const char *key,
                           const void *data, size_t len, bool if_absent)
{
    size_t begun = fault_record_position();
    int error =
        of(store)->inner->put(of(store)->inner, key, data, len, if_absent);

    if (error == 0)
        note(of(store), key, data, len, begun);
    return error;
}

static int timed_store_head(struct object_store *store, const char *key,
                            struct object_info *ret_info)
{
    return of(store)->inner->head(of(store)->inner, key, ret_info);
}

static int timed_store_delete(struct object_store *store, const char *key)
{
    size_t begun = fault_record_position();
    int error = of(store)->inner->delete (of(store)->inner, key);

    if (error == 0)
        note(of(store), key, NULL, 0, begun);
    return error;
}

static int timed_store_list(struct object_store *store, const char *prefix,
                            const char *after, object_store_each *each,
                            void *context)
{
    return of(store)->inner->list(of(store)->inner, prefix, after, each,
                                  context);
}

static void timed_store_close(struct object_store *store)
{
    struct timed_store *timed = of(store);

    for (size_t i = 0; i < timed->count; i++) {
        free(timed->changes[i].key);
        free(timed->changes[i].data);
    }
    free(timed->changes);
    timed->inner->close(timed->inner);
    mutex_done(&timed->mutex);
    free(timed);
}

struct object_store *timed_store_new(void)
{
    struct timed_store *timed = need(calloc(1, sizeof(*timed)));

    timed->store = (struct object_store){
        .get = timed_store_get,
        .put = timed_store_put,
        .head = timed_store_head,
        .delete = timed_store_delete,
        .list = timed_store_list,
        .close = timed_store_close,
    };
    timed->inner = memory_store_new();
    mutex_init(&timed->mutex);
    return &timed->store;
}

struct object_store *timed_store_at(struct object_store *store, size_t moment,
                                    uint64_t seed)
{
    struct timed_store *timed = of(store);
    struct object_store *then = memory_store_new();

    mutex_lock(&timed->mutex);
    for (size_t i = 0; i < timed->count; i++) {
        const struct change *change = &timed->changes[i];
        int error;

        if (change->begun > moment ||
            (change->ended > moment && crash_random(seed, i) % 2 == 0))
            continue;
        error = change->data == NULL
                    ? then->delete (then, change->key)
                    : then->put(then, change->key, change->data, change->len,
                                false);
        if (error != 0)
            abort();
    }
    mutex_unlock(&timed->mutex);
    return then;
}
