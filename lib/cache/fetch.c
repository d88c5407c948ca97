/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fourth of the five files of a request: device.c before it; after it the
 * store, s3_store.c or dir_store.c.
 *
 * Who asks for bytes that nobody is getting begins a get: the bytes, checked,
 * are for all who ask before it is finished, good or bad.  The next one after
 * that begins another, so an error is never remembered.
 */
#include "cache/fetch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/block_codec.h"
#include "cache/chunk_file.h"
#include "cache/geometry.h"
#include "object_store.h"

/* Which bytes of an object, and what they must be. */
struct wanted {
    uint64_t chunk;
    struct object_id id;
    uint32_t place;
    uint32_t size;
    uint32_t checksum;
};

struct get {
    struct wanted wanted;
    struct get *next;    /* of those in progress */
    unsigned references; /* GUARDED_BY fetch's mutex, as the next two */
    bool is_done;
    int error;
    struct condition done;
    unsigned char bytes[]; /* wanted.size; nobody writes them when done */
};

struct fetch {
    struct object_store *store;
    const char *device_name;
    struct mutex mutex;
    struct get *gets GUARDED_BY(mutex);
    size_t waiting GUARDED_BY(mutex);
};

int fetch_new(struct object_store *store, const char *device_name,
              struct fetch **ret_fetch)
{
    struct fetch *fetch = calloc(1, sizeof(*fetch));

    if (!fetch)
        return -ENOMEM;
    fetch->store = store;
    fetch->device_name = device_name;
    mutex_init(&fetch->mutex);
    *ret_fetch = fetch;
    return 0;
}

void fetch_free(struct fetch *fetch)
{
    if (!fetch)
        return;
    assert(!fetch->gets);
    mutex_done(&fetch->mutex);
    free(fetch);
}

size_t fetch_waiting(struct fetch *fetch)
{
    size_t waiting;

    mutex_lock(&fetch->mutex);
    waiting = fetch->waiting;
    mutex_unlock(&fetch->mutex);
    return waiting;
}

void fetch_object_key(const char *device_name, uint64_t chunk,
                      const struct object_id *id, char key[FETCH_KEY_MAX])
{
    char text[OBJECT_ID_TEXT];

    object_id_format(id, text);
    (void)snprintf(key, FETCH_KEY_MAX, "%s/chunk/%016" PRIx64 "/%s",
                   device_name, chunk, text);
}

/* ---- one get for all who ask --------------------------------------------- */

/* Log what is wrong with the object, and return the error. */
static int bad_object(const struct fetch *fetch, const struct wanted *wanted,
                      const char *what, int error)
{
    static struct log_limit limit;
    char key[FETCH_KEY_MAX];
    uint64_t left_out;

    fetch_object_key(fetch->device_name, wanted->chunk, &wanted->id, key);
    if (log_limit_allows(&limit, &left_out))
        log_error("%s: chunk %016" PRIx64 ": object %s %s (%" PRIu32
                  " bytes at %" PRIu32 "; %" PRIu64 " like it not logged)",
                  fetch->device_name, wanted->chunk, key, what, wanted->size,
                  wanted->place, left_out);
    return error;
}

/* Log that the store gave no answer; there may be many of these at once. */
static int no_answer(const struct fetch *fetch, const struct wanted *wanted,
                     int error)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (log_limit_allows(&limit, &left_out))
        log_error("%s: chunk %016" PRIx64 ": cannot fetch from the store: %s "
                  "(%" PRIu64 " like it not logged)",
                  fetch->device_name, wanted->chunk, log_errno(error),
                  left_out);
    return error;
}

static int ask_store(const struct fetch *fetch, const struct wanted *wanted,
                     void *bytes)
{
    char key[FETCH_KEY_MAX];
    int error;

    fetch_object_key(fetch->device_name, wanted->chunk, &wanted->id, key);
    error = fetch->store->get(fetch->store, key, wanted->place, bytes,
                              wanted->size);
    if (error == -ENOENT)
        return bad_object(fetch, wanted, "is mapped, but missing", -EIO);
    if (error == -EAGAIN || error == -ESTALE)
        error = -EIO; /* our callers try again for these, without end */
    if (error)
        return no_answer(fetch, wanted, error);
    if (crc32c(0, bytes, wanted->size) != wanted->checksum)
        return bad_object(fetch, wanted, "is damaged", -EIO);
    return 0;
}

static bool is_same(const struct wanted *a, const struct wanted *b)
{
    return a->chunk == b->chunk && a->id.epoch == b->id.epoch &&
           a->id.nonce == b->id.nonce && a->id.counter == b->id.counter &&
           a->place == b->place && a->size == b->size &&
           a->checksum == b->checksum;
}

static struct get *get_new(const struct wanted *wanted)
{
    struct get *get = calloc(1, sizeof(*get) + wanted->size);

    if (!get)
        return NULL;
    get->wanted = *wanted;
    get->references = 1;
    condition_init(&get->done);
    return get;
}

static void get_free(struct get *get)
{
    condition_done(&get->done);
    free(get);
}

/* Returns the get in progress for these bytes, held; NULL if there is none. */
static struct get *join_locked(struct fetch *fetch, const struct wanted *wanted)
    REQUIRES(fetch->mutex)
{
    struct get *get = fetch->gets;

    while (get && !is_same(&get->wanted, wanted))
        get = get->next;
    if (get)
        get->references++;
    return get;
}

static void wait_locked(struct fetch *fetch, struct get *get)
    REQUIRES(fetch->mutex)
{
    fetch->waiting++;
    while (!get->is_done)
        condition_wait(&get->done, &fetch->mutex);
    fetch->waiting--;
}

static void finish_locked(struct fetch *fetch, struct get *get, int error)
    REQUIRES(fetch->mutex)
{
    struct get **link = &fetch->gets;

    while (*link != get)
        link = &(*link)->next;
    *link = get->next;
    get->error = error;
    get->is_done = true;
    condition_broadcast(&get->done);
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

/*
 * Get the bytes, or wait for who is getting them already.  On success
 * *ret_get has them until release_get.
 */
static int get_bytes(struct fetch *fetch, const struct wanted *wanted,
                     struct get **ret_get)
{
    struct get *own = get_new(wanted), *get;
    int error;

    if (!own)
        return -ENOMEM;
    mutex_lock(&fetch->mutex);
    get = join_locked(fetch, wanted);
    if (get) {
        wait_locked(fetch, get);
    } else {
        own->next = fetch->gets;
        fetch->gets = own;
    }
    mutex_unlock(&fetch->mutex);

    if (get) {
        get_free(own);
    } else {
        get = own;
        error = ask_store(fetch, wanted, get->bytes);
        mutex_lock(&fetch->mutex);
        finish_locked(fetch, get, error);
        mutex_unlock(&fetch->mutex);
    }
    error = get->error; /* final, now that the get is done */
    if (error)
        release_get(fetch, get);
    else
        *ret_get = get;
    return error;
}

/* ---- what is made of the bytes ------------------------------------------- */

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

static int decode_table(const struct fetch *fetch, const struct get *get,
                        uint32_t chunk_size, const struct chunk_object *object,
                        struct chunk_table **ret_table)
{
    const struct wanted *wanted = &get->wanted;
    struct chunk_table *table;
    int error = chunk_table_decode(get->bytes, wanted->size, &table);

    if (error == -EPROTONOSUPPORT)
        return bad_object(fetch, wanted, "is of a later program", error);
    if (error == -EBADMSG)
        return bad_object(fetch, wanted, "has no valid table", -EIO);
    if (error)
        return error;
    if (!table_is_of(table, wanted->chunk, chunk_size, object)) {
        chunk_table_release(table);
        return bad_object(fetch, wanted, "has the table of another", -EIO);
    }
    table->objects[table->objects_count - 1] = *object;
    table->data_end = chunk_file_data_start(chunk_size);
    *ret_table = table;
    return 0;
}

int fetch_table(struct fetch *fetch, uint64_t chunk, uint32_t chunk_size,
                const struct chunk_object *object,
                struct chunk_table **ret_table)
{
    struct wanted wanted = {.chunk = chunk,
                            .id = object->id,
                            .place = 0,
                            .size = object->table_size,
                            .checksum = object->table_checksum};
    struct get *get;
    int error;

    if (object->origin != 0)
        return bad_object(fetch, &wanted, "is of an unknown device", -EIO);
    if (object->table_size > chunk_table_encoded_max(chunk_size))
        return bad_object(fetch, &wanted, "cannot have such a table", -EIO);
    error = get_bytes(fetch, &wanted, &get);
    if (error)
        return error;
    error = decode_table(fetch, get, chunk_size, object, ret_table);
    release_get(fetch, get);
    return error;
}

int fetch_block(struct fetch *fetch, const struct chunk_table *table,
                uint32_t block, void *plain)
{
    const struct chunk_block *b = &table->blocks[block];
    const struct chunk_object *object = &table->objects[b->object];
    struct block_stored how = {b->object_codec, b->object_size,
                               b->object_checksum};
    struct wanted wanted = {.chunk = table->chunk,
                            .id = object->id,
                            .place = b->object_place,
                            .size = b->object_size,
                            .checksum = b->object_checksum};
    struct get *get;
    int error;

    assert(block < table->blocks_count && b->base == BASE_OBJECT &&
           b->object < table->objects_count);
    if (object->origin != 0)
        return bad_object(fetch, &wanted, "is of an unknown device", -EIO);
    error = get_bytes(fetch, &wanted, &get);
    if (error)
        return error;
    if (block_decode(&how, get->bytes, plain, CACHE_BLOCK))
        error =
            bad_object(fetch, &wanted, "has a block of no valid form", -EIO);
    release_get(fetch, get);
    return error;
}
