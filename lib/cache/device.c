/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A request is tried where it was submitted, waiting for nothing; what would
 * have to wait goes to a pool that may wait for the disk, and from there to
 * one that may wait for the bucket.  So a hit never queues behind a miss.
 */
#include "cache/device.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/workers.h"
#include "cache/device_ahead.h"
#include "cache/device_parts.h"
#include "cache/device_read.h"
#include "cache/device_write.h"
#include "cache/geometry.h"

enum {
    /* Longer reads are decoded by a worker, beside their neighbours. */
    READ_AT_ONCE_MAX = 128 << 10,
    /* What is read at a time of what is not here: as device_read.c does. */
    PREFETCH_AT_ONCE = 1 << 20,
    WRITES_AT_ONCE = 128,
};

static const uint64_t SAVE_USE_EVERY_NS = UINT64_C(300) * 1000000000;

/* A request in a pool, or one that waits for a sync. */
struct errand {
    struct workers_task task; /* first, see run_errand */
    struct journal_waiter waiter;
    struct device *device;
    struct device_request *request;
    enum patience patience;
};

static bool is_write(const struct device_request *request)
{
    return request->operation == DEVICE_WRITE ||
           request->operation == DEVICE_ZERO ||
           request->operation == DEVICE_TRIM;
}

static void finish(struct device_request *request, int error)
{
    request->done(request, error);
}

static void prefetch(struct device *device,
                     const struct device_request *request)
{
    unsigned char *data = malloc(PREFETCH_AT_ONCE);
    uint64_t end = request->offset + request->length;
    uint64_t most = device->options.block_cache_size / 2;
    uint64_t at = round_down(request->offset, CACHE_BLOCK);

    if (end - at > most)
        end = at + most;
    if (data != NULL)
        device_ahead_rest(device, at + PREFETCH_AT_ONCE, end);
    while (data != NULL && at < end) {
        size_t size =
            end - at < PREFETCH_AT_ONCE ? (size_t)(end - at) : PREFETCH_AT_ONCE;
        uint64_t progress = 0;

        /* Only a hint: who reads it will be told what is wrong. */
        if (device_read_range(device, at, size, data, PATIENCE_AHEAD,
                              &progress) != 0)
            break;
        at += size;
    }
    free(data);
}

/* As much patience as it has, and what is read ahead because of it. */
static int run_read(struct device *device, struct device_request *request,
                    enum patience patience)
{
    int error;

    if (patience == PATIENCE_NONE && request->length > READ_AT_ONCE_MAX)
        return -EAGAIN;
    if (patience == PATIENCE_STORE) {
        device_ahead_rest(
            device, request->offset + request->progress + PREFETCH_AT_ONCE,
            request->offset + request->length);
        device_ahead_missed(device, request->offset, request->length);
    }
    error = device_read_range(device, request->offset, request->length,
                              request->data, patience, &request->progress);
    if (error == 0 && patience < PATIENCE_STORE)
        device_ahead_served(device, request->offset, request->length);
    return error;
}

/* Run one request that does not write.  -EAGAIN: not with this patience. */
static int run(struct device *device, struct device_request *request,
               enum patience patience)
{
    if (atomic_load_explicit(&device->is_between, memory_order_relaxed))
        return -EIO;
    switch (request->operation) {
    case DEVICE_READ:
        return run_read(device, request, patience);
    case DEVICE_EXTENTS:
        return device_read_extents(device, request, patience);
    case DEVICE_PREFETCH:
        if (patience < PATIENCE_STORE)
            return -EAGAIN;
        prefetch(device, request);
        return 0;
    case DEVICE_WRITE:
    case DEVICE_ZERO:
    case DEVICE_TRIM:
    case DEVICE_FLUSH:
        break;
    }
    assert(request->operation == DEVICE_READ); /* others go elsewhere */
    return -EINVAL;
}

static bool is_cold_read(const struct device_request *request,
                         enum patience patience)
{
    return request->operation == DEVICE_READ && patience == PATIENCE_STORE;
}

static void run_errand(struct workers_task *task)
{
    struct errand errand = *(struct errand *)task;
    struct device_request *request = errand.request;
    int error;

    free(task);
    if (is_write(request)) {
        device_write_requests(errand.device, &request, 1, errand.patience);
        return;
    }
    error = run(errand.device, request, errand.patience);
    if (is_cold_read(request, errand.patience)) /* before it is finished */
        atomic_fetch_sub(&errand.device->cold_reads, 1);
    if (error == -EAGAIN)
        device_run_later(errand.device, request, errand.patience + 1);
    else
        finish(request, error);
}

void device_run_later(struct device *device, struct device_request *request,
                      enum patience patience)
{
    struct errand *errand = malloc(sizeof(*errand));

    if (request->operation == DEVICE_PREFETCH)
        patience = PATIENCE_STORE;
    if (errand == NULL) {
        device_write_abandon(request);
        finish(request, -ENOMEM);
        return;
    }
    errand->task.run = run_errand;
    errand->device = device;
    errand->request = request;
    errand->patience = patience;
    if (is_cold_read(request, patience))
        atomic_fetch_add(&device->cold_reads, 1);
    workers_submit(patience == PATIENCE_STORE ? device->options.fetchers
                                              : device->options.workers,
                   &errand->task);
}

static void flushed(struct journal_waiter *waiter, int error)
{
    struct errand *errand =
        (struct errand *)(void *)((char *)waiter -
                                  offsetof(struct errand, waiter));
    struct device_request *request = errand->request;

    free(errand);
    finish(request, error);
}

static void flush(struct device *device, struct device_request *request)
{
    struct errand *errand;

    if (device->options.read_only) {
        finish(request, 0);
        return;
    }
    if (atomic_load(&device->has_failed) ||
        atomic_load(&device->gate) == DEVICE_GATE_FENCED) {
        finish(request, -EIO);
        return;
    }
    errand = malloc(sizeof(*errand));
    if (errand == NULL) {
        finish(request, -ENOMEM);
        return;
    }
    errand->request = request;
    errand->waiter.position = journal_head(device->journal);
    errand->waiter.done = flushed;
    journal_when_durable(device->journal, &errand->waiter);
}

void device_submit(struct device *device, struct device_request *requests[],
                   size_t count)
{
    struct device_request *writes[WRITES_AT_ONCE];
    struct device_request *flushes = NULL;
    size_t writes_count = 0;

    for (size_t i = 0; i < count; i++) {
        struct device_request *request = requests[i];
        int error;

        request->scratch = NULL;
        request->progress = 0;
        request->due_ns = 0;
        request->extents_count = 0;
        if (is_write(request)) {
            if (device->options.read_only) {
                finish(request, -EROFS);
                continue;
            }
            writes[writes_count++] = request;
            if (writes_count == WRITES_AT_ONCE) {
                device_write_requests(device, writes, writes_count,
                                      PATIENCE_NONE);
                writes_count = 0;
            }
        } else if (request->operation == DEVICE_FLUSH) {
            request->next = flushes;
            flushes = request;
        } else {
            error = run(device, request, PATIENCE_NONE);
            if (error == -EAGAIN)
                device_run_later(device, request, PATIENCE_DISK);
            else
                finish(request, error);
        }
    }
    if (writes_count > 0)
        device_write_requests(device, writes, writes_count, PATIENCE_NONE);
    /* Last, so that they cover their neighbours too. */
    while (flushes != NULL) {
        struct device_request *request = flushes;

        flushes = request->next;
        flush(device, request);
    }
}

/* What parking lets go on. */
static void unpark(void *context, struct device_request *requests)
{
    struct device *device = context;
    struct device_request *writes[WRITES_AT_ONCE];
    size_t count = 0;

    while (requests != NULL) {
        writes[count++] = requests;
        requests = requests->next;
        if (count == WRITES_AT_ONCE || requests == NULL) {
            device_write_requests(device, writes, count, PATIENCE_NONE);
            count = 0;
        }
    }
}

static void expelled(void *context, struct device_request *request)
{
    (void)context;
    device_write_abandon(request);
    finish(request, -ECANCELED);
}

static void made_room(void *context)
{
    struct device *device = context;

    if (device->parking != NULL)
        parking_wake(device->parking);
}

static void failed(void *context, int error)
{
    struct device *device = context;

    if (!atomic_exchange(&device->has_failed, true))
        log_error("%s: failed (%s): writes and flushes get an error from now"
                  " on, reads go on",
                  device->options.name, log_errno(error));
    made_room(device);
}

static void cut(void *context, bool is_cut)
{
    struct device *device = context;

    if (is_cut)
        unpublished_cut(&device->unpublished);
    else
        unpublished_drop(&device->unpublished);
}

static void published(void *context)
{
    struct device *device = context;

    unpublished_publish(&device->unpublished);
}

/* Now and then, by the destage thread. */
static void looked(void *context)
{
    struct device *device = context;
    uint64_t now_ns = clock_monotonic_ns();

    if (now_ns - device->use_saved_ns < SAVE_USE_EVERY_NS)
        return;
    device->use_saved_ns = now_ns;
    use_save(device->use);
}

int device_open(const struct device_options *options,
                struct device **ret_device)
{
    static const struct device_callbacks callbacks = {
        .admit = device_write_admit,
        .placed = device_write_placed,
        .made_room = made_room,
        .failed = failed,
        .cut = cut,
        .published = published,
        .looked = looked,
        .stirred = device_stirred,
        .unpark = unpark,
        .expelled = expelled,
    };
    struct device *device = calloc(1, sizeof(*device));
    int error;

    if (device == NULL)
        return -ENOMEM;
    device->options = *options;
    error = device_parts_open(device, &callbacks);
    if (error != 0) {
        (void)device_parts_close(device, false);
        free(device);
        return error;
    }
    *ret_device = device;
    return 0;
}

int device_close(struct device *device)
{
    int error;

    if (device == NULL)
        return 0;
    error = device_parts_close(device, true);
    free(device);
    return error;
}

const char *device_name(const struct device *device)
{
    return device->options.name;
}

uint64_t device_size(const struct device *device)
{
    return atomic_load(&device->size);
}

uint32_t device_chunk_size(const struct device *device)
{
    return device->options.chunk_size;
}

bool device_is_read_only(const struct device *device)
{
    return device->options.read_only || device->options.image_device != NULL;
}

bool device_has_volatile_cache(const struct device *device)
{
    return !device->options.write_through;
}

bool device_check_range(const struct device *device, uint64_t offset,
                        uint64_t length)
{
    uint64_t size = device_size(device);

    return length <= size && offset <= size - length;
}

/* One request that somebody waits for. */
struct rendezvous {
    struct device_request *request;
    struct mutex lock;
    struct condition arrived;
    bool has_arrived;
    int error;
};

static void arrive(struct device_request *request, int error)
{
    struct rendezvous *rendezvous = request->caller;

    mutex_lock(&rendezvous->lock);
    rendezvous->error = error;
    rendezvous->has_arrived = true;
    condition_signal(&rendezvous->arrived);
    mutex_unlock(&rendezvous->lock);
}

int device_run(struct device *device, struct device_request *request)
{
    struct rendezvous rendezvous = {.request = request};

    mutex_init(&rendezvous.lock);
    condition_init(&rendezvous.arrived);
    request->caller = &rendezvous;
    request->done = arrive;
    device_submit(device, &request, 1);
    mutex_lock(&rendezvous.lock);
    while (!rendezvous.has_arrived)
        condition_wait(&rendezvous.arrived, &rendezvous.lock);
    mutex_unlock(&rendezvous.lock);
    condition_done(&rendezvous.arrived);
    mutex_done(&rendezvous.lock);
    return rendezvous.error;
}

/* Return when what was being appended has its place. */
static void wait_for_appends(struct device *device)
{
    struct journal_item *none[1];
    uint64_t end;

    journal_append(device->journal, none, 0, &end);
}

void device_expel(struct device *device)
{
    if (device->parking == NULL)
        return;
    parking_expel(device->parking);
    wait_for_appends(device);
}

void device_set_gate(struct device *device, enum device_gate gate)
{
    if (device->parking == NULL)
        return;
    atomic_store(&device->gate, (int)gate);
    wait_for_appends(device);
    /* Those that wait try again, and wait, or are refused. */
    parking_wake(device->parking);
}

void device_set_cachesize(struct device *device, uint64_t cachesize)
{
    if (device->destage != NULL)
        destage_set_cachesize(device->destage, cachesize);
}

static void tell_cache(struct device *device, struct device_status *status)
{
    struct destage_space space;

    status->dirty_chunks = catalog_dirty(device->catalog);
    status->dirty_bytes = status->journal_used +
                          catalog_dirty_pages(device->catalog) * CACHE_PAGE;
    status->cache_used = catalog_file_pages(device->catalog) * CACHE_PAGE;
    if (device->destage == NULL)
        return;
    destage_get_space(device->destage, &space);
    status->cache_used = space.used;
    status->cache_limit = space.limit;
}

void device_status(struct device *device, struct device_status *ret_status)
{
    struct journal_fill fill;

    journal_get_fill(device->journal, &fill);
    *ret_status = (struct device_status){
        .failed = atomic_load(&device->has_failed),
        .gate = (enum device_gate)atomic_load(&device->gate),
        .journal_used = fill.used,
        .journal_size = fill.capacity,
        .chunks_mapped = catalog_count(device->catalog),
        .damaged_reads = atomic_load(&device->reader.damaged),
        .cache_written = fill.written + state_log_written(device->state_log) +
                         atomic_load(&device->fold.written),
        .user_written = atomic_load(&device->user_written),
        .cold_reads = atomic_load(&device->cold_reads),
        .unpublished_since_ns = unpublished_since(&device->unpublished),
    };
    tell_cache(device, ret_status);
    if (device->destage != NULL)
        ret_status->passes = destage_passes(device->destage);
    if (device->parking != NULL)
        ret_status->parked = parking_count(device->parking);
}

/* ---- what the owner has done --------------------------------------------- */

/* Returns why destage cannot do anything for this device; or 0. */
static int why_not(const struct device *device)
{
    if (device->destage == NULL)
        return -EROFS;
    return atomic_load(&device->has_failed) ? -EIO : 0;
}

int device_destage(struct device *device)
{
    int error = why_not(device);

    if (error == -EROFS)
        return 0;
    return error != 0 ? error : destage_all(device->destage);
}

int device_checkpoint(struct device *device, uint64_t time_ns)
{
    int error = why_not(device);

    return error != 0 ? error : destage_checkpoint(device->destage, time_ns);
}

int device_uploaded(struct device *device, struct uploaded *list[],
                    size_t count)
{
    int error = why_not(device);

    if (error == 0)
        return destage_uploaded(device->destage, list, count);
    for (size_t i = 0; i < count; i++)
        list[i]->error = error;
    return error;
}

int device_evict(struct device *device, const uint64_t chunks[], size_t count,
                 enum evict_depth depth, uint64_t *ret_pages_freed)
{
    int error = why_not(device);

    if (error == 0)
        return destage_evict(device->destage, chunks, count, depth,
                             ret_pages_freed);
    *ret_pages_freed = 0;
    return error;
}

int device_distrust(struct device *device, const struct distrusted *what)
{
    int error = why_not(device);
    bool may_be_new = what->table_of != NULL;

    for (size_t i = 0; i < what->count; i++)
        may_be_new |= what->copies[i].is_in_bucket;
    if (error == 0)
        error = destage_distrust(device->destage, what);
    /* A new state is in no image, although nobody wrote it. */
    if (error == 0 && may_be_new)
        unpublished_note(&device->unpublished, clock_realtime_ns());
    return error;
}

void device_keep(struct device *device, uint64_t chunk, uint32_t block,
                 const struct chunk_block *as_read, const struct object_id *id,
                 const void *stored)
{
    if (why_not(device) == 0)
        destage_keep(device->destage, chunk, block, as_read, id, stored);
}

int device_published(struct device *device, const uint8_t epoch_record[512])
{
    int error = why_not(device);

    return error != 0 ? error
                      : destage_published(device->destage, epoch_record);
}

int device_drop_checkpoint(struct device *device)
{
    int error = why_not(device);

    return error != 0 ? error : destage_drop_checkpoint(device->destage);
}

int device_adopt(struct device *device, int (*adopt)(void *context),
                 void *context)
{
    int error = why_not(device);

    if (error == 0)
        error = destage_adopt(device->destage, adopt, context);
    if (error == 0)
        unpublished_set(&device->unpublished, 0, 0);
    return error;
}

struct cache_dir *device_cache_dir(const struct device *device)
{
    return device->cache_dir;
}

struct catalog *device_catalog(const struct device *device)
{
    return device->catalog;
}

struct catalog *device_checkpoint_catalog(const struct device *device)
{
    return device->checkpoint_catalog;
}

struct state_log *device_state_log(const struct device *device)
{
    return device->state_log;
}

struct chunk_dir *device_chunk_dir(const struct device *device)
{
    return device->chunk_dir;
}

struct chunk_reader *device_reader(struct device *device)
{
    return &device->reader;
}

struct use *device_use(const struct device *device)
{
    return device->use;
}

struct fetch *device_fetch(const struct device *device)
{
    return device->fetch;
}

struct claim *device_claim(const struct device *device)
{
    return device->claim;
}

void device_ids(const struct device *device, uint8_t ret_device_id[16],
                uint8_t ret_cachedir_id[16])
{
    memcpy(ret_device_id, device->superblock.device_id, UUID_SIZE);
    memcpy(ret_cachedir_id, device->superblock.cachedir_id, UUID_SIZE);
}

void device_incarnation(const struct device *device,
                        char ret_text[DEVICE_INCARNATION_SIZE])
{
    size_t len = 0;

    for (size_t i = 0; i < UUID_SIZE; i++)
        len += (size_t)snprintf(ret_text + len, DEVICE_INCARNATION_SIZE - len,
                                "%02x", device->superblock.cachedir_id[i]);
    (void)snprintf(ret_text + len, DEVICE_INCARNATION_SIZE - len, "-%" PRIu64,
                   atomic_load(&device->superblock.incarnation));
}
