/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/lying_store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/mutex.h"

enum {
    FOR_GET = 1 << LIE_FAILS | 1 << LIE_DENIED | 1 << LIE_CHANGED |
              1 << LIE_SHORT | 1 << LIE_EMPTY,
    FOR_PUT = 1 << LIE_FAILS | 1 << LIE_LOST | 1 << LIE_SPOILED | 1 << LIE_LATE,
    FOR_HEAD = 1 << LIE_FAILS | 1 << LIE_DENIED,
    FOR_DELETE = 1 << LIE_FAILS | 1 << LIE_LOST,
    FOR_LIST = 1 << LIE_FAILS,
};

/* A put that has not arrived yet. */
struct late_put {
    struct late_put *next;
    char *key;
    unsigned char *data;
    size_t len;
    bool if_absent;
};

struct lying_store {
    struct object_store store; /* first, so that one is the other */
    struct object_store *inner;
    struct mutex mutex;
    uint64_t state GUARDED_BY(mutex); /* of the lots */
    unsigned lies GUARDED_BY(mutex);
    unsigned one_in GUARDED_BY(mutex);
    uint64_t told[LIES] GUARDED_BY(mutex);
    struct late_put *late GUARDED_BY(mutex);
    size_t late_count GUARDED_BY(mutex);
};

static struct lying_store *of(struct object_store *store)
{
    return (struct lying_store *)(void *)store;
}

/* Returns a number below end. */
static uint64_t draw_locked(struct lying_store *lying, uint64_t end)
    REQUIRES(lying->mutex)
{
    lying->state =
        lying->state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (lying->state >> 33) % end;
}

static uint64_t draw(struct lying_store *lying, uint64_t end)
{
    uint64_t lot;

    mutex_lock(&lying->mutex);
    lot = draw_locked(lying, end);
    mutex_unlock(&lying->mutex);
    return lot;
}

/* Returns one of these lies, which is told now; LIES: the truth. */
static enum lie choose(struct lying_store *lying, unsigned possible)
{
    enum lie chosen = LIES;

    mutex_lock(&lying->mutex);
    possible &= lying->lies;
    if (possible != 0 && lying->one_in != 0 &&
        draw_locked(lying, lying->one_in) == 0) {
        do
            chosen = (enum lie)draw_locked(lying, LIES);
        while ((possible & 1U << chosen) == 0);
        lying->told[chosen]++;
    }
    mutex_unlock(&lying->mutex);
    return chosen;
}

static int failure(struct lying_store *lying)
{
    return draw(lying, 2) == 0 ? -EIO : -ETIMEDOUT;
}

static int lying_store_get(struct object_store *store, const char *key,
                           uint64_t offset, void *data, size_t len,
                           enum object_urgency urgency)
{
    struct lying_store *lying = of(store);
    enum lie lie = choose(lying, FOR_GET);
    unsigned char *bytes = data;
    size_t at;
    int error;

    if (lie == LIE_FAILS)
        return failure(lying);
    if (lie == LIE_DENIED)
        return -ENOENT;
    error = lying->inner->get(lying->inner, key, offset, data, len, urgency);
    if (error != 0 || len == 0)
        return error;
    at = draw(lying, len);
    if (lie == LIE_CHANGED)
        bytes[at] ^= (unsigned char)(1 + draw(lying, 255));
    if (lie == LIE_SHORT)
        memset(bytes + at, 0, len - at);
    if (lie == LIE_EMPTY)
        memset(bytes, 0, len);
    return 0;
}

static void late_free(struct late_put *late)
{
    free(late->key);
    free(late->data);
    free(late);
}

static void put_later(struct lying_store *lying, const char *key,
                      const void *data, size_t len, bool if_absent)
{
    struct late_put *late = calloc(1, sizeof(*late));

    assert(late);
    late->key = strdup(key);
    late->data = malloc(len + 1);
    assert(late->key && late->data);
    memcpy(late->data, data, len);
    late->len = len;
    late->if_absent = if_absent;
    mutex_lock(&lying->mutex);
    late->next = lying->late;
    lying->late = late;
    lying->late_count++;
    mutex_unlock(&lying->mutex);
}

static int put_spoiled(struct lying_store *lying, const char *key,
                       const void *data, size_t len, bool if_absent)
{
    AUTO_FREE unsigned char *bytes = malloc(len + 1);

    assert(bytes);
    memcpy(bytes, data, len);
    if (len > 0)
        bytes[draw(lying, len)] ^= (unsigned char)(1 + draw(lying, 255));
    return lying->inner->put(lying->inner, key, bytes, len, if_absent);
}

static int lying_store_put(struct object_store *store, const char *key,
                           const void *data, size_t len, bool if_absent)
{
    struct lying_store *lying = of(store);
    enum lie lie =
        choose(lying, FOR_PUT | (if_absent ? 1U << LIE_OVERRULED : 0));
    int error;

    if (lie == LIE_FAILS)
        return failure(lying);
    if (lie == LIE_LATE) {
        put_later(lying, key, data, len, if_absent);
        return -ETIMEDOUT;
    }
    if (lie == LIE_SPOILED)
        return put_spoiled(lying, key, data, len, if_absent);
    error = lying->inner->put(lying->inner, key, data, len,
                              if_absent && lie != LIE_OVERRULED);
    return lie == LIE_LOST ? -ETIMEDOUT : error;
}

static int lying_store_head(struct object_store *store, const char *key,
                            struct object_info *ret_info)
{
    struct lying_store *lying = of(store);
    enum lie lie = choose(lying, FOR_HEAD);

    if (lie == LIE_FAILS)
        return failure(lying);
    if (lie == LIE_DENIED)
        return -ENOENT;
    return lying->inner->head(lying->inner, key, ret_info);
}

static int lying_store_delete(struct object_store *store,
                              const char *const keys[], size_t count)
{
    struct lying_store *lying = of(store);
    enum lie lie = choose(lying, FOR_DELETE);
    int error;

    if (lie == LIE_FAILS) {
        size_t some = draw(lying, count);

        if (some > 0)
            (void)lying->inner->delete (lying->inner, keys, some);
        return failure(lying);
    }
    error = lying->inner->delete (lying->inner, keys, count);
    return lie == LIE_LOST ? -ETIMEDOUT : error;
}

/* A list of which keys are left out. */
struct listing {
    struct lying_store *lying;
    object_store_each *each;
    void *context;
};

static int list_key(void *context, const char *key,
                    const struct object_info *info)
{
    const struct listing *listing = context;

    if (choose(listing->lying, 1U << LIE_DENIED) == LIE_DENIED)
        return 0;
    return listing->each(listing->context, key, info);
}

static int lying_store_list(struct object_store *store, const char *prefix,
                            const char *after, object_store_each *each,
                            void *context)
{
    struct lying_store *lying = of(store);
    struct listing listing = {lying, each, context};

    if (choose(lying, FOR_LIST) == LIE_FAILS)
        return failure(lying);
    return lying->inner->list(lying->inner, prefix, after, list_key, &listing);
}

static void lying_store_interrupt(struct object_store *store)
{
    struct object_store *inner = of(store)->inner;

    inner->interrupt(inner);
}

static char *lying_store_describe(struct object_store *store)
{
    struct object_store *inner = of(store)->inner;

    return inner->describe(inner);
}

static void lying_store_close(struct object_store *store)
{
    struct lying_store *lying = of(store);

    while (lying->late) {
        struct late_put *late = lying->late;

        lying->late = late->next;
        late_free(late);
    }
    lying->inner->close(lying->inner);
    mutex_done(&lying->mutex);
    free(lying);
}

struct lying_store *lying_store_new(struct object_store *inner, uint64_t seed)
{
    struct lying_store *lying = calloc(1, sizeof(*lying));

    assert(lying);
    lying->store = (struct object_store){
        .get = lying_store_get,
        .put = lying_store_put,
        .head = lying_store_head,
        .delete = lying_store_delete,
        .list = lying_store_list,
        .interrupt = lying_store_interrupt,
        .describe = lying_store_describe,
        .close = lying_store_close,
    };
    lying->inner = inner;
    lying->state = seed;
    mutex_init(&lying->mutex);
    return lying;
}

struct object_store *lying_store_of(struct lying_store *lying)
{
    return &lying->store;
}

void lying_store_tell(struct lying_store *lying, unsigned lies, unsigned one_in)
{
    mutex_lock(&lying->mutex);
    lying->lies = lies;
    lying->one_in = one_in;
    mutex_unlock(&lying->mutex);
}

uint64_t lying_store_told(struct lying_store *lying, enum lie lie)
{
    uint64_t told;

    mutex_lock(&lying->mutex);
    told = lying->told[lie];
    mutex_unlock(&lying->mutex);
    return told;
}

/* Returns one of the late puts, drawn by lot; NULL if there is none. */
static struct late_put *take_late(struct lying_store *lying)
{
    struct late_put **link = &lying->late, *late = NULL;

    mutex_lock(&lying->mutex);
    if (lying->late_count > 0) {
        for (uint64_t i = draw_locked(lying, lying->late_count); i > 0; i--)
            link = &(*link)->next;
        late = *link;
        *link = late->next;
        lying->late_count--;
    }
    mutex_unlock(&lying->mutex);
    return late;
}

size_t lying_store_land(struct lying_store *lying, size_t most)
{
    struct late_put *late;
    size_t count = 0;

    while (count < most && (late = take_late(lying)) != NULL) {
        (void)lying->inner->put(lying->inner, late->key, late->data, late->len,
                                late->if_absent);
        late_free(late);
        count++;
    }
    return count;
}
