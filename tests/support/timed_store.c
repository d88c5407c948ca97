/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/timed_store.h"

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
    bool if_absent;
    size_t begun, ended;
};

struct timed_store {
    struct object_store store;
    struct object_store *inner;
    struct mutex mutex;
    struct change *changes GUARDED_BY(mutex);
    size_t count GUARDED_BY(mutex);
    size_t first GUARDED_BY(mutex); /* those before were made at the start */
    struct change late GUARDED_BY(mutex);
    uint64_t late_calls GUARDED_BY(mutex); /* until it comes; 0: none is late */
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

static struct change copy_of(const struct change *change)
{
    struct change copy = *change;

    copy.key = need(strdup(change->key));
    if (change->data != NULL) {
        copy.data = need(malloc(change->len + 1));
        memcpy(copy.data, change->data, change->len);
    }
    return copy;
}

static void add_locked(struct timed_store *timed, const struct change *change)
    REQUIRES(timed->mutex)
{
    timed->changes =
        need(realloc(timed->changes, (timed->count + 1) * sizeof(*change)));
    timed->changes[timed->count++] = copy_of(change);
}

/* What comes after the end of a recording is of no moment of it. */
static void note(struct timed_store *timed, const struct change *change)
{
    struct change noted = *change;

    mutex_lock(&timed->mutex); /* so that the moments ascend */
    if (fault_record_tell(&noted.ended))
        add_locked(timed, &noted);
    mutex_unlock(&timed->mutex);
}

static int make(struct timed_store *timed, struct change *change)
{
    struct object_store *inner = timed->inner;
    int error;

    change->begun = fault_record_position();
    error = change->data == NULL ? object_delete_one(inner, change->key)
                                 : inner->put(inner, change->key, change->data,
                                              change->len, change->if_absent);
    if (error == 0)
        note(timed, change);
    return error;
}

/* A call: what is late may come now. */
static void count_call(struct timed_store *timed)
{
    struct change late = {.key = NULL};

    mutex_lock(&timed->mutex);
    if (timed->late_calls > 0 && --timed->late_calls == 0) {
        late = timed->late;
        timed->late.key = timed->late.data = NULL;
    }
    mutex_unlock(&timed->mutex);
    if (late.key == NULL)
        return;
    (void)make(timed, &late); /* nobody hears of it */
    free(late.key);
    free(late.data);
}

static int timed_store_get(struct object_store *store, const char *key,
                           uint64_t offset, void *data, size_t len,
                           enum object_urgency urgency)
{
    count_call(of(store));
    return of(store)->inner->get(of(store)->inner, key, offset, data, len,
                                 urgency);
}

static int timed_store_put(struct object_store *store, const char *key,
                           const void *data, size_t len, bool if_absent)
{
    struct change change = {
        .key = (char *)(uintptr_t)key,   /* only read */
        .data = (void *)(uintptr_t)data, /* only read */
        .len = len,
        .if_absent = if_absent,
    };

    count_call(of(store));
    return make(of(store), &change);
}

static int timed_store_head(struct object_store *store, const char *key,
                            struct object_info *ret_info)
{
    count_call(of(store));
    return of(store)->inner->head(of(store)->inner, key, ret_info);
}

static int timed_store_delete(struct object_store *store,
                              const char *const keys[], size_t count)
{
    int error = 0;

    count_call(of(store));
    for (size_t i = 0; i < count && error == 0; i++) {
        struct change change = {.key = (char *)(uintptr_t)keys[i]};

        error = make(of(store), &change); /* only reads the key */
    }
    return error;
}

static int timed_store_list(struct object_store *store, const char *prefix,
                            const char *after, object_store_each *each,
                            void *context)
{
    count_call(of(store));
    return of(store)->inner->list(of(store)->inner, prefix, after, each,
                                  context);
}

static void timed_store_interrupt(struct object_store *store)
{
    struct object_store *inner = of(store)->inner;

    inner->interrupt(inner);
}

static char *timed_store_describe(struct object_store *store)
{
    struct object_store *inner = of(store)->inner;

    return inner->describe(inner);
}

static void timed_store_close(struct object_store *store)
{
    struct timed_store *timed = of(store);

    for (size_t i = 0; i < timed->count; i++) {
        free(timed->changes[i].key);
        free(timed->changes[i].data);
    }
    free(timed->changes);
    free(timed->late.key);
    free(timed->late.data);
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
        .interrupt = timed_store_interrupt,
        .describe = timed_store_describe,
        .close = timed_store_close,
    };
    timed->inner = memory_store_new();
    mutex_init(&timed->mutex);
    return &timed->store;
}

/* How many of the changes, from the first on, had surely been made. */
static size_t surely_made_locked(const struct timed_store *timed, size_t before)
    REQUIRES(timed->mutex)
{
    size_t count = timed->first;

    while (count < timed->count && timed->changes[count].ended < before)
        count++;
    return count;
}

struct object_store *timed_store_at(struct object_store *store, size_t moment,
                                    bool is_between, uint64_t seed)
{
    struct timed_store *timed = of(store);
    struct object_store *new = timed_store_new();
    struct timed_store *then = of(new);
    size_t sure, begun = 0, made;

    mutex_lock(&timed->mutex);
    sure = surely_made_locked(timed, is_between ? moment : moment + 1);
    for (size_t i = sure; i < timed->count; i++)
        begun += timed->changes[i].begun <= moment;
    made = crash_random(seed, 1) % (begun + 1);
    for (size_t i = 0; i < timed->count; i++) {
        struct change *change = &timed->changes[i];

        if (i >= sure && change->begun > moment)
            continue;
        if (i >= sure && made-- == 0) {
            then->late_calls = crash_random(seed, 2) % 64;
            if (then->late_calls > 0)
                then->late = copy_of(change);
            break;
        }
        if (change->data == NULL)
            (void)object_delete_one(then->inner, change->key);
        else
            (void)then->inner->put(then->inner, change->key, change->data,
                                   change->len, false);
        mutex_lock(&then->mutex);
        add_locked(then, change);
        mutex_unlock(&then->mutex);
    }
    mutex_unlock(&timed->mutex);
    then->first = then->count;
    return new;
}
