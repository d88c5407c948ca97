/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/memory_store.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/mutex.h"

struct object {
    struct object *next; /* with the next greater key */
    char *key;
    unsigned char *data;
    struct object_info info;
};

struct memory_store {
    struct object_store store;  /* first, so that one is the other */
    atomic_bool is_interrupted; /* nothing else depends on it */
    struct mutex mutex;
    struct object *objects GUARDED_BY(mutex);
    uint64_t time_ns GUARDED_BY(mutex); /* 0: of the real clock */
};

static struct memory_store *of(struct object_store *store)
{
    return (struct memory_store *)(void *)store;
}

/* Returns what points to the first object whose key is not below this one. */
static struct object **find_locked(struct memory_store *memory, const char *key)
    REQUIRES(memory->mutex)
{
    struct object **link = &memory->objects;

    while (*link && strcmp((*link)->key, key) < 0)
        link = &(*link)->next;
    return link;
}

static bool is_key(const struct object *object, const char *key)
{
    return object && strcmp(object->key, key) == 0;
}

static int memory_store_get(struct object_store *store, const char *key,
                            uint64_t offset, void *data, size_t len,
                            enum object_urgency urgency)
{
    struct memory_store *memory = of(store);
    const struct object *object;
    int error = 0;

    (void)urgency;
    assert(object_key_is_valid(key));
    if (atomic_load(&memory->is_interrupted))
        return -ECANCELED;
    mutex_lock(&memory->mutex);
    object = *find_locked(memory, key);
    if (!is_key(object, key))
        error = -ENOENT;
    else if (offset > object->info.size || len > object->info.size - offset)
        error = -EIO;
    else
        memcpy(data, object->data + offset, len);
    mutex_unlock(&memory->mutex);
    return error;
}

static struct object *object_new(const char *key, const void *data, size_t len)
{
    struct object *object = calloc(1, sizeof(*object));

    assert(object);
    object->key = strdup(key);
    object->data = malloc(len + 1);
    assert(object->key && object->data);
    memcpy(object->data, data, len);
    object->info.size = len;
    return object;
}

static void object_free(struct object *object)
{
    free(object->key);
    free(object->data);
    free(object);
}

static int memory_store_put(struct object_store *store, const char *key,
                            const void *data, size_t len, bool if_absent)
{
    struct memory_store *memory = of(store);
    struct object *object, *old = NULL;
    struct object **link;
    int error = 0;

    assert(object_key_is_valid(key));
    if (atomic_load(&memory->is_interrupted))
        return -ECANCELED;
    object = object_new(key, data, len);
    mutex_lock(&memory->mutex);
    object->info.modified_ns =
        memory->time_ns == 0 ? clock_realtime_ns() : memory->time_ns;
    link = find_locked(memory, key);
    if (is_key(*link, key))
        old = *link;
    if (old && if_absent) {
        error = -EEXIST;
        old = object;
    } else {
        object->next = old ? old->next : *link;
        *link = object;
    }
    mutex_unlock(&memory->mutex);
    if (old)
        object_free(old);
    return error;
}

static int memory_store_head(struct object_store *store, const char *key,
                             struct object_info *ret_info)
{
    struct memory_store *memory = of(store);
    const struct object *object;
    bool is_there;

    if (atomic_load(&memory->is_interrupted))
        return -ECANCELED;
    mutex_lock(&memory->mutex);
    object = *find_locked(memory, key);
    is_there = is_key(object, key);
    if (is_there)
        *ret_info = object->info;
    mutex_unlock(&memory->mutex);
    return is_there ? 0 : -ENOENT;
}

static void delete_one(struct memory_store *memory, const char *key)
{
    struct object **link, *object = NULL;

    mutex_lock(&memory->mutex);
    link = find_locked(memory, key);
    if (is_key(*link, key)) {
        object = *link;
        *link = object->next;
    }
    mutex_unlock(&memory->mutex);
    if (object)
        object_free(object);
}

static int memory_store_delete(struct object_store *store,
                               const char *const keys[], size_t count)
{
    struct memory_store *memory = of(store);

    assert(count > 0);
    if (atomic_load(&memory->is_interrupted))
        return -ECANCELED;
    for (size_t i = 0; i < count; i++)
        delete_one(memory, keys[i]);
    return 0;
}

/* Returns a copy of the first key after that one; NULL if there is none. */
static char *next_key(struct memory_store *memory, const char *after,
                      struct object_info *ret_info)
{
    struct object *object;
    char *key = NULL;

    mutex_lock(&memory->mutex);
    object = *find_locked(memory, after);
    if (is_key(object, after))
        object = object->next;
    if (object) {
        key = strdup(object->key);
        assert(key);
        *ret_info = object->info;
    }
    mutex_unlock(&memory->mutex);
    return key;
}

static int memory_store_list(struct object_store *store, const char *prefix,
                             const char *after, object_store_each *each,
                             void *context)
{
    struct memory_store *memory = of(store);
    struct object_info info;
    AUTO_FREE char *key = next_key(memory, after, &info);
    int result = 0;

    if (atomic_load(&memory->is_interrupted))
        return -ECANCELED;
    while (key && result == 0) {
        char *next;

        if (strncmp(key, prefix, strlen(prefix)) == 0)
            result = each(context, key, &info);
        next = next_key(memory, key, &info);
        free(key);
        key = next;
    }
    return result;
}

static void memory_store_interrupt(struct object_store *store)
{
    atomic_store(&of(store)->is_interrupted, true);
}

static char *memory_store_describe(struct object_store *store)
{
    (void)store;
    return NULL;
}

static void memory_store_close(struct object_store *store)
{
    struct memory_store *memory = of(store);

    while (memory->objects) {
        struct object *object = memory->objects;

        memory->objects = object->next;
        object_free(object);
    }
    mutex_done(&memory->mutex);
    free(memory);
}

struct object_store *memory_store_new(void)
{
    struct memory_store *memory = calloc(1, sizeof(*memory));

    assert(memory);
    memory->store = (struct object_store){
        .get = memory_store_get,
        .put = memory_store_put,
        .head = memory_store_head,
        .delete = memory_store_delete,
        .list = memory_store_list,
        .interrupt = memory_store_interrupt,
        .describe = memory_store_describe,
        .close = memory_store_close,
    };
    mutex_init(&memory->mutex);
    return &memory->store;
}

void memory_store_set_time(struct object_store *store, uint64_t time_ns)
{
    struct memory_store *memory = of(store);

    mutex_lock(&memory->mutex);
    memory->time_ns = time_ns;
    mutex_unlock(&memory->mutex);
}
