/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fourth of the five files of a request: device.c before it; after it the
 * store, s3_store.c or dir_store.c.
 *
 * Who asks for bytes that nobody is getting begins a get; who asks for bytes
 * that a get will bring waits for it, and all of them look at what came with
 * their own eyes: what a get brings is not yet known to be right.  It can be
 * joined until who began it has handed over what came, so that nobody asks
 * for a block that is on its way into memory.  One that failed cannot: who
 * asks after that begins another, so an error is never remembered.
 *
 * A get is joined by who is as urgent or less.  Besides, whoever a request
 * waits for joins what is read ahead, which is on its way already; but when
 * that fails, or takes much longer than is usual, it begins its own: the
 * store gives up read-ahead soon, and does not look for a faster way for it.
 *
 * Who waits for the get of another has none of its own unfinished: so nobody
 * waits for himself.
 */
#include "cache/fetch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/block_codec.h"
#include "cache/chunk_file.h"
#include "cache/device.h"
#include "cache/geometry.h"
#include "cache/scratch.h"
#include "object_store.h"

enum {
    /* To read so much that nobody wants takes less time than a request. */
    GAP_MAX = 64 << 10,
    /* As much as is got at once, so that memory stays bounded. */
    RANGE_MAX = 8 << 20,
    /* The gets of others that one caller waits for at a time. */
    JOINED_MAX = 8,
    /* So many times what is usual is much longer. */
    MUCH_LONGER = 3,
};

static const uint64_t WAIT_MIN_NS = 100000000; /* for what is read ahead */
static const uint64_t USUAL_NS = 1000000000;   /* until it is known */

/* Bytes of an object. */
struct range {
    uint64_t chunk;
    uint32_t origin;
    struct object_id id;
    uint32_t place;
    uint32_t size;
};

struct get {
    struct range range;
    enum object_urgency urgency;
    uint64_t began_ns;
    struct get *next;    /* of those that can be joined */
    unsigned references; /* GUARDED_BY fetch's mutex, as the next three */
    bool can_be_joined;
    bool is_done;
    int error;
    struct condition done;
    unsigned char bytes[]; /* range.size; nobody writes them when done */
};

/* Whose objects have this number. */
struct origin {
    struct origin *next;
    uint32_t number;
    char device_name[DEVICE_NAME_MAX + 1];
};

struct fetch {
    struct object_store *store;
    const char *device_name;
    struct mutex mutex;
    struct get *gets GUARDED_BY(mutex);
    struct origin *origins GUARDED_BY(mutex);
    struct fetch_counts counts GUARDED_BY(mutex);
    size_t waiting GUARDED_BY(mutex);
    uint64_t usual_ns GUARDED_BY(mutex); /* that read-ahead takes */
};

int fetch_new(struct object_store *store, const char *device_name,
              struct fetch **ret_fetch)
{
    struct fetch *fetch = calloc(1, sizeof(*fetch));

    if (!fetch)
        return -ENOMEM;
    fetch->store = store;
    fetch->device_name = device_name;
    fetch->usual_ns = USUAL_NS;
    mutex_init(&fetch->mutex);
    *ret_fetch = fetch;
    return 0;
}

void fetch_free(struct fetch *fetch)
{
    if (!fetch)
        return;
    assert(!fetch->gets);
    while (fetch->origins) {
        struct origin *origin = fetch->origins;

        fetch->origins = origin->next;
        free(origin);
    }
    mutex_done(&fetch->mutex);
    free(fetch);
}

/* ---- names --------------------------------------------------------------- */

static struct origin *find_origin_locked(struct fetch *fetch, uint32_t number)
    REQUIRES(fetch->mutex)
{
    struct origin *origin = fetch->origins;

    while (origin && origin->number != number)
        origin = origin->next;
    return origin;
}

int fetch_set_origin(struct fetch *fetch, uint32_t number,
                     const char *device_name)
{
    struct origin *fresh = calloc(1, sizeof(*fresh)), *origin;

    assert(number != 0 && strlen(device_name) <= DEVICE_NAME_MAX);
    if (!fresh)
        return -ENOMEM;
    mutex_lock(&fetch->mutex);
    origin = find_origin_locked(fetch, number);
    if (!origin) {
        origin = fresh;
        fresh = NULL;
        origin->number = number;
        origin->next = fetch->origins;
        fetch->origins = origin;
    }
    (void)snprintf(origin->device_name, sizeof(origin->device_name), "%s",
                   device_name);
    mutex_unlock(&fetch->mutex);
    free(fresh);
    return 0;
}

int fetch_each_origin(struct fetch *fetch,
                      int (*each)(void *context, uint32_t origin,
                                  const char *device_name),
                      void *context)
{
    int result = 0;

    mutex_lock(&fetch->mutex);
    for (const struct origin *origin = fetch->origins; origin && result == 0;
         origin = origin->next)
        result = each(context, origin->number, origin->device_name);
    mutex_unlock(&fetch->mutex);
    return result;
}

void fetch_object_key(const char *device_name, uint64_t chunk,
                      const struct object_id *id, char key[FETCH_KEY_MAX])
{
    char text[OBJECT_ID_TEXT];

    object_id_format(id, text);
    (void)snprintf(key, FETCH_KEY_MAX, "%s/chunk/%016" PRIx64 "/%s",
                   device_name, chunk, text);
}

/* Write the key of a range's object.  Returns whether its device is known. */
static bool key_of(struct fetch *fetch, const struct range *range,
                   char key[FETCH_KEY_MAX])
{
    const struct origin *origin = NULL;

    mutex_lock(&fetch->mutex);
    if (range->origin != 0)
        origin = find_origin_locked(fetch, range->origin);
    fetch_object_key(origin ? origin->device_name : fetch->device_name,
                     range->chunk, &range->id, key);
    mutex_unlock(&fetch->mutex);
    return range->origin == 0 || origin;
}

/* ---- counters and messages ----------------------------------------------- */

size_t fetch_waiting(struct fetch *fetch)
{
    size_t waiting;

    mutex_lock(&fetch->mutex);
    waiting = fetch->waiting;
    mutex_unlock(&fetch->mutex);
    return waiting;
}

void fetch_get_counts(struct fetch *fetch, struct fetch_counts *ret_counts)
{
    mutex_lock(&fetch->mutex);
    *ret_counts = fetch->counts;
    mutex_unlock(&fetch->mutex);
}

/* Log what is wrong with the object, and return the error. */
static int bad_object(struct fetch *fetch, const struct range *range,
                      const char *what, int error)
{
    static struct log_limit limit;
    char key[FETCH_KEY_MAX];
    uint64_t left_out;

    mutex_lock(&fetch->mutex);
    fetch->counts.alarms++;
    mutex_unlock(&fetch->mutex);
    (void)key_of(fetch, range, key);
    if (log_limit_allows(&limit, &left_out))
        log_error("%s: chunk %016" PRIx64 ": object %s %s (%" PRIu32
                  " bytes at %" PRIu32 "; %" PRIu64 " like it not logged)",
                  fetch->device_name, range->chunk, key, what, range->size,
                  range->place, left_out);
    return error;
}

/*
 * Log that the store gave no answer, if anybody hears of it; there may be many
 * of these at once.
 */
static int no_answer(const struct fetch *fetch, const struct range *range,
                     enum object_urgency urgency, int error)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (error != -ECANCELED && urgency != OBJECT_AHEAD &&
        log_limit_allows(&limit, &left_out))
        log_error("%s: chunk %016" PRIx64 ": cannot fetch from the store: %s "
                  "(%" PRIu64 " like it not logged)",
                  fetch->device_name, range->chunk, log_errno(error), left_out);
    return error;
}

/* ---- one get for all who ask --------------------------------------------- */

static int ask_store(struct fetch *fetch, const struct range *range,
                     void *bytes, enum object_urgency urgency)
{
    char key[FETCH_KEY_MAX];
    int error;

    if (!key_of(fetch, range, key))
        return bad_object(fetch, range, "is of an unknown device", -EIO);
    mutex_lock(&fetch->mutex);
    fetch->counts.requests++;
    fetch->counts.bytes += range->size;
    mutex_unlock(&fetch->mutex);
    error = fetch->store->get(fetch->store, key, range->place, bytes,
                              range->size, urgency);
    if (error == -ENOENT)
        return bad_object(fetch, range, "is mapped, but missing", -EIO);
    if (error == -EAGAIN || error == -ESTALE)
        error = -EIO; /* our callers try again for these, without end */
    return error ? no_answer(fetch, range, urgency, error) : 0;
}

static bool is_same_object(const struct range *a, const struct range *b)
{
    return a->chunk == b->chunk && a->origin == b->origin &&
           a->id.epoch == b->id.epoch && a->id.nonce == b->id.nonce &&
           a->id.counter == b->id.counter;
}

/* Whether all of inner is in outer. */
static bool is_within(const struct range *inner, const struct range *outer)
{
    return is_same_object(inner, outer) && inner->place >= outer->place &&
           inner->place - outer->place <= outer->size &&
           inner->size <= outer->size - (inner->place - outer->place);
}

/* With how urgent gets one is content. */
struct demand {
    enum object_urgency urgency;
    bool takes_ahead; /* also with what is read ahead */
};

static struct demand demand_of(enum object_urgency urgency)
{
    return (struct demand){urgency, true};
}

static bool is_content(const struct demand *demand, const struct get *get)
{
    return get->urgency <= demand->urgency ||
           (demand->takes_ahead && get->urgency == OBJECT_AHEAD);
}

/* Returns a get that brings the range, and can be joined, or NULL. */
static struct get *find_locked(struct fetch *fetch, const struct range *range,
                               const struct demand *demand)
    REQUIRES(fetch->mutex)
{
    struct get *get = fetch->gets;

    while (get && (!is_content(demand, get) || !is_within(range, &get->range)))
        get = get->next;
    return get;
}

/* Returns a get with room for so many bytes; NULL without memory. */
static struct get *get_new(size_t size)
{
    struct get *get = malloc(sizeof(*get) + size);

    if (!get)
        return NULL;
    get->references = 1;
    get->can_be_joined = false;
    get->is_done = false;
    get->error = 0;
    condition_init(&get->done);
    return get;
}

static void get_free(struct get *get)
{
    if (!get)
        return;
    condition_done(&get->done);
    free(get);
}

/* Drop a reference to a get that is done. */
static void release_get(struct fetch *fetch, struct get *get)
{
    bool is_last;

    mutex_lock(&fetch->mutex);
    is_last = --get->references == 0;
    mutex_unlock(&fetch->mutex);
    if (is_last)
        get_free(get);
}

static void begin_locked(struct fetch *fetch, struct get *get,
                         const struct range *range, enum object_urgency urgency)
    REQUIRES(fetch->mutex)
{
    get->range = *range;
    get->urgency = urgency;
    get->began_ns = clock_monotonic_ns();
    get->can_be_joined = true;
    get->next = fetch->gets;
    fetch->gets = get;
}

/* Nobody can join the get any more. */
static void close_locked(struct fetch *fetch, struct get *get)
    REQUIRES(fetch->mutex)
{
    struct get **link = &fetch->gets;

    if (!get->can_be_joined)
        return;
    while (*link != get)
        link = &(*link)->next;
    *link = get->next;
    get->can_be_joined = false;
}

/* Read-ahead took so long: that counts for an eighth. */
static void note_usual_locked(struct fetch *fetch, uint64_t took_ns)
    REQUIRES(fetch->mutex)
{
    fetch->usual_ns += took_ns / 8;
    fetch->usual_ns -= fetch->usual_ns / 8;
}

/* Get what was begun; afterwards it is done. */
static void run_get(struct fetch *fetch, struct get *get)
{
    int error = ask_store(fetch, &get->range, get->bytes, get->urgency);

    mutex_lock(&fetch->mutex);
    if (error)
        close_locked(fetch, get);
    else if (get->urgency == OBJECT_AHEAD)
        note_usual_locked(fetch, clock_monotonic_ns() - get->began_ns);
    get->error = error;
    get->is_done = true;
    condition_broadcast(&get->done);
    mutex_unlock(&fetch->mutex);
}

/* End what run_get ran, once what it brought was handed over. */
static void end_get(struct fetch *fetch, struct get *get)
{
    mutex_lock(&fetch->mutex);
    close_locked(fetch, get);
    mutex_unlock(&fetch->mutex);
    release_get(fetch, get);
}

/* Returns until when to wait for a get that was joined. */
static uint64_t patience_locked(const struct fetch *fetch,
                                const struct get *get,
                                enum object_urgency urgency)
    REQUIRES(fetch->mutex)
{
    uint64_t wait_ns = fetch->usual_ns * MUCH_LONGER;

    if (get->urgency <= urgency)
        return UINT64_MAX;
    return get->began_ns + (wait_ns > WAIT_MIN_NS ? wait_ns : WAIT_MIN_NS);
}

/*
 * Wait for a get that was joined.  Returns whether what came of it is good
 * enough for who is so urgent; else it begins its own.
 */
static bool wait_for(struct fetch *fetch, struct get *get,
                     enum object_urgency urgency)
{
    bool is_good, is_in_time = true;
    uint64_t deadline_ns;

    mutex_lock(&fetch->mutex);
    fetch->waiting++;
    deadline_ns = patience_locked(fetch, get, urgency);
    while (!get->is_done && is_in_time) {
        if (deadline_ns == UINT64_MAX)
            condition_wait(&get->done, &fetch->mutex);
        else
            is_in_time =
                condition_wait_until(&get->done, &fetch->mutex, deadline_ns);
    }
    fetch->waiting--;
    is_good = get->is_done && (get->error == 0 || get->urgency <= urgency);
    mutex_unlock(&fetch->mutex);
    return is_good;
}

/* ---- tables -------------------------------------------------------------- */

/* Whether this is the table of the object that the reference names. */
static bool table_is_of(const struct chunk_table *table, uint64_t chunk,
                        uint32_t chunk_size, const struct chunk_object *object)
{
    const struct object_id *own;

    if (table->chunk != chunk || table->chunk_size != chunk_size ||
        table->data_end != 0)
        return false;
    own = &table->objects[table->objects_count - 1].id;
    return own->epoch == object->id.epoch && own->nonce == object->id.nonce &&
           own->counter == object->id.counter;
}

static int decode_table(struct fetch *fetch, const struct get *get,
                        uint32_t chunk_size, const struct chunk_object *object,
                        struct chunk_table **ret_table)
{
    const struct range *range = &get->range;
    struct chunk_table *table;
    int error;

    if (get->error)
        return get->error;
    if (crc32c(0, get->bytes, range->size) != object->table_checksum)
        return bad_object(fetch, range, "is damaged", -EIO);
    error = chunk_table_decode(get->bytes, range->size, &table);
    if (error == -EPROTONOSUPPORT)
        return bad_object(fetch, range, "is of a later program", error);
    if (error == -EBADMSG)
        return bad_object(fetch, range, "has no valid table", -EIO);
    if (error)
        return error;
    if (!table_is_of(table, range->chunk, chunk_size, object)) {
        chunk_table_release(table);
        return bad_object(fetch, range, "has the table of another", -EIO);
    }
    /* Whose table it is calls its own objects those of origin 0. */
    for (unsigned i = 0; i < table->objects_count; i++) {
        if (table->objects[i].origin == 0)
            table->objects[i].origin = object->origin;
    }
    table->objects[table->objects_count - 1] = *object;
    table->data_end = chunk_file_data_start(chunk_size);
    *ret_table = table;
    return 0;
}

/*
 * Join a get of just this range, or run one.  Returns a get that is done and
 * good enough, and whether it is our own to end; NULL without memory.
 */
static struct get *get_whole(struct fetch *fetch, const struct range *range,
                             struct demand demand, bool *ret_is_own)
{
    struct get *own = get_new(range->size), *get;

    if (!own)
        return NULL;
    mutex_lock(&fetch->mutex);
    get = find_locked(fetch, range, &demand);
    if (get && get->range.size == range->size)
        get->references++;
    else
        get = NULL;
    if (!get)
        begin_locked(fetch, own, range, demand.urgency);
    mutex_unlock(&fetch->mutex);
    *ret_is_own = !get;
    if (!get) {
        run_get(fetch, own);
        return own;
    }
    get_free(own);
    if (wait_for(fetch, get, demand.urgency))
        return get;
    release_get(fetch, get);
    demand.takes_ahead = false; /* so that this is the second time at most */
    return get_whole(fetch, range, demand, ret_is_own);
}

int fetch_table(struct fetch *fetch, uint64_t chunk, uint32_t chunk_size,
                const struct chunk_object *object, enum object_urgency urgency,
                struct chunk_table **ret_table)
{
    struct range range = {.chunk = chunk,
                          .origin = object->origin,
                          .id = object->id,
                          .place = 0,
                          .size = object->table_size};
    struct get *get;
    bool is_own;
    int error;

    if (object->table_size > chunk_table_encoded_max(chunk_size))
        return bad_object(fetch, &range, "cannot have such a table", -EIO);
    get = get_whole(fetch, &range, demand_of(urgency), &is_own);
    if (!get)
        return -ENOMEM;
    error = decode_table(fetch, get, chunk_size, object, ret_table);
    if (is_own)
        end_get(fetch, get);
    else
        release_get(fetch, get);
    return error;
}

/* ---- blocks -------------------------------------------------------------- */

/* What one call is about. */
struct errand {
    struct fetch *fetch;
    const struct chunk_table *table;
    const uint32_t *blocks;
    enum object_urgency urgency;
    fetch_each *each;
    void *context;
    int error; /* the first */
};

/* Blocks of the errand that a get of another caller brings. */
struct joined {
    struct get *get;
    size_t first, end; /* in blocks */
};

/* The place of the i-th block. */
static struct range range_of(const struct errand *errand, size_t i)
{
    const struct chunk_block *block = &errand->table->blocks[errand->blocks[i]];
    const struct chunk_object *object = &errand->table->objects[block->object];

    assert(block->base == BASE_OBJECT &&
           block->object < errand->table->objects_count);
    return (struct range){.chunk = errand->table->chunk,
                          .origin = object->origin,
                          .id = object->id,
                          .place = block->object_place,
                          .size = block->object_size};
}

/* Whether one request may bring both; then *range becomes that of both. */
static bool extend(struct range *range, const struct range *next)
{
    uint32_t end = range->place + range->size;
    uint64_t size = (uint64_t)next->place + next->size - range->place;

    if (!is_same_object(range, next) || next->place < end ||
        next->place - end > GAP_MAX || size > RANGE_MAX)
        return false;
    range->size = (uint32_t)size;
    return true;
}

static void note_error(struct errand *errand, int error)
{
    if (errand->error == 0)
        errand->error = error;
}

/* Check a block that a get brought, and hand it over. */
static void deliver_block(struct errand *errand, const struct get *get,
                          size_t i)
{
    struct scratch *scratch = scratch_get();
    const struct chunk_block *block = &errand->table->blocks[errand->blocks[i]];
    struct block_stored how = {block->object_codec, block->object_size,
                               block->object_checksum};
    struct range range = range_of(errand, i);
    const unsigned char *stored = get->bytes + (range.place - get->range.place);

    if (scratch == NULL)
        note_error(errand, -ENOMEM);
    else if (crc32c(0, stored, range.size) != how.checksum)
        note_error(errand,
                   bad_object(errand->fetch, &range, "is damaged", -EIO));
    else if (block_decode(&how, stored, scratch->fetch_deliver_block,
                          CACHE_BLOCK))
        note_error(errand, bad_object(errand->fetch, &range,
                                      "has a block of no valid form", -EIO));
    else
        errand->each(errand->context, errand->blocks[i], stored,
                     scratch->fetch_deliver_block);
}

/* Hand over blocks first .. end - 1, which the get, now done, was for. */
static void deliver(struct errand *errand, struct get *get, size_t first,
                    size_t end)
{
    if (get->error)
        note_error(errand, get->error);
    for (size_t i = first; i < end && !get->error; i++)
        deliver_block(errand, get, i);
}

static void get_blocks(struct errand *errand, struct demand demand,
                       size_t first, size_t last);

static void deliver_joined(struct errand *errand, const struct joined joined[],
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool is_good = wait_for(errand->fetch, joined[i].get, errand->urgency);

        if (is_good)
            deliver(errand, joined[i].get, joined[i].first, joined[i].end);
        release_get(errand->fetch, joined[i].get);
        if (!is_good)
            get_blocks(errand, (struct demand){errand->urgency, false},
                       joined[i].first, joined[i].end);
    }
}

/*
 * Begin a get, or join one, for the first-th block and so many after it,
 * before the last-th, as it can bring.  *ret_get is that get; returns where
 * the blocks go on.
 */
static size_t begin_or_join(struct errand *errand, const struct demand *demand,
                            size_t first, size_t last, struct get *own,
                            struct get **ret_get)
{
    struct fetch *fetch = errand->fetch;
    struct range whole = range_of(errand, first), next;
    size_t end = first + 1;
    struct get *get;

    mutex_lock(&fetch->mutex);
    get = find_locked(fetch, &whole, demand);
    for (; end < last; end++) {
        next = range_of(errand, end);
        /* What another one is getting is not asked for twice. */
        if (find_locked(fetch, &next, demand) != get ||
            (!get && !extend(&whole, &next)))
            break;
    }
    if (get)
        get->references++;
    else
        begin_locked(fetch, own, &whole, demand->urgency);
    mutex_unlock(&fetch->mutex);
    *ret_get = get ? get : own;
    return end;
}

/* Returns how many bytes from the first-th block on go into one request. */
static size_t most_bytes(const struct errand *errand, size_t first, size_t last)
{
    struct range whole = range_of(errand, first), next;

    for (size_t i = first + 1; i < last; i++) {
        next = range_of(errand, i);
        if (!extend(&whole, &next))
            break;
    }
    return whole.size;
}

/* Hand over the blocks from the first-th on, before the last-th. */
static void get_blocks(struct errand *errand, struct demand demand,
                       size_t first, size_t last)
{
    struct fetch *fetch = errand->fetch;
    struct joined joined[JOINED_MAX];
    size_t joined_count = 0;

    while (first < last) {
        struct get *own = get_new(most_bytes(errand, first, last)), *get;
        size_t end;

        if (!own) {
            note_error(errand, -ENOMEM);
            break;
        }
        end = begin_or_join(errand, &demand, first, last, own, &get);
        if (get == own) {
            run_get(fetch, own);
            deliver(errand, own, first, end);
            end_get(fetch, own);
        } else {
            get_free(own);
            joined[joined_count++] = (struct joined){get, first, end};
        }
        if (joined_count == JOINED_MAX) {
            deliver_joined(errand, joined, joined_count);
            joined_count = 0;
        }
        first = end;
    }
    deliver_joined(errand, joined, joined_count);
}

int fetch_blocks(struct fetch *fetch, const struct chunk_table *table,
                 const uint32_t blocks[], size_t count,
                 enum object_urgency urgency, fetch_each *each, void *context)
{
    struct errand errand = {.fetch = fetch,
                            .table = table,
                            .blocks = blocks,
                            .urgency = urgency,
                            .each = each,
                            .context = context};

    get_blocks(&errand, demand_of(urgency), 0, count);
    return errand.error;
}
