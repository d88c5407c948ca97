/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/device_ahead.h"

#include <stdlib.h>

#include "base/workers.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"

enum {
    /* What one task fetches: so much that a request is worth it, so little
     * that who waits for its first block does not wait long. */
    PIECE_MIN = 128 << 10,
    PIECE_MAX = 8 << 20,
    REST_PIECE = 1 << 20, /* what a read does at a time, too */
    TASKS_MAX = 64,       /* what would be more is left to who reads it */
};

/* Some blocks of a chunk. */
struct ahead_task {
    struct workers_task task; /* first, see run_task */
    struct device *device;
    uint64_t chunk;
    uint32_t first;
    uint32_t count;
};

void device_ahead_init(struct device *device)
{
    struct device_ahead *ahead = &device->ahead;

    mutex_init(&ahead->mutex);
    condition_init(&ahead->task_ended);
    readahead_init(
        &ahead->readahead, device_size(device), device->options.chunk_size,
        device->options.store == NULL ? 0 : device->options.readahead);
}

void device_ahead_grow(struct device *device)
{
    struct device_ahead *ahead = &device->ahead;

    mutex_lock(&ahead->mutex);
    readahead_grow(&ahead->readahead, device_size(device));
    mutex_unlock(&ahead->mutex);
}

void device_ahead_settle(struct device *device)
{
    struct device_ahead *ahead = &device->ahead;

    mutex_lock(&ahead->mutex);
    while (ahead->tasks > 0)
        condition_wait(&ahead->task_ended, &ahead->mutex);
    mutex_unlock(&ahead->mutex);
}

void device_ahead_done(struct device *device)
{
    struct device_ahead *ahead = &device->ahead;

    mutex_lock(&ahead->mutex);
    ahead->is_stopping = true;
    mutex_unlock(&ahead->mutex);
    device_ahead_settle(device);
    condition_done(&ahead->task_ended);
    mutex_done(&ahead->mutex);
}

/* Let the next piece be on its way while this one is put into memory. */
static void arrived(void *context)
{
    workers_idle_is_ending(context);
}

static void run_task(struct workers_task *task)
{
    struct ahead_task piece = *(struct ahead_task *)(void *)task;
    struct device_ahead *ahead = &piece.device->ahead;
    bool is_stopping;

    free(task);
    mutex_lock(&ahead->mutex);
    is_stopping = ahead->is_stopping;
    mutex_unlock(&ahead->mutex);
    if (!is_stopping) {
        /* Nobody waits: who reads it will be told what is wrong. */
        (void)chunk_reader_prefetch(&piece.device->reader, piece.chunk,
                                    piece.first, piece.count, arrived,
                                    piece.device->options.fetchers);
    }
    mutex_lock(&ahead->mutex);
    ahead->tasks--;
    condition_broadcast(&ahead->task_ended);
    mutex_unlock(&ahead->mutex);
}

/* Returns whether one more task may be submitted now, and counts it. */
static bool admit(struct device_ahead *ahead)
{
    bool is_admitted;

    mutex_lock(&ahead->mutex);
    is_admitted = !ahead->is_stopping && ahead->tasks < TASKS_MAX;
    ahead->tasks += is_admitted;
    mutex_unlock(&ahead->mutex);
    return is_admitted;
}

static void submit(struct device *device, uint64_t from, uint64_t to)
{
    uint64_t chunk = from / device->options.chunk_size;
    uint64_t begin = chunk * device->options.chunk_size;
    struct ahead_task *task = malloc(sizeof(*task));

    if (task == NULL)
        return;
    if (!admit(&device->ahead)) {
        free(task);
        return;
    }
    *task = (struct ahead_task){
        .task.run = run_task,
        .device = device,
        .chunk = chunk,
        .first = (uint32_t)((from - begin) / CACHE_BLOCK),
    };
    task->count =
        (uint32_t)((to - begin + CACHE_BLOCK - 1) / CACHE_BLOCK) - task->first;
    workers_submit_idle(device->options.fetchers, &task->task);
}

/* Have the range fetched, in pieces that do not cross a chunk's border. */
static void submit_pieces(struct device *device, uint64_t from, uint64_t to,
                          uint64_t piece)
{
    uint64_t end;

    for (; from < to; from = end) {
        end = round_down(from, device->options.chunk_size) +
              device->options.chunk_size;
        if (end > from + piece)
            end = from + piece;
        if (end > to)
            end = to;
        submit(device, from, end);
    }
}

/* Two or more pieces, so that one can be used while the next one comes. */
static void submit_range(struct device *device, struct readahead_range range)
{
    uint64_t piece = round_up((range.to - range.from) / 2, CACHE_BLOCK);

    if (piece < PIECE_MIN)
        piece = PIECE_MIN;
    if (piece > PIECE_MAX)
        piece = PIECE_MAX;
    submit_pieces(device, range.from, range.to, piece);
}

void device_ahead_missed(struct device *device, uint64_t offset,
                         uint64_t length)
{
    struct device_ahead *ahead = &device->ahead;
    struct readahead_range range;

    mutex_lock(&ahead->mutex);
    range = readahead_missed(&ahead->readahead, offset, length);
    mutex_unlock(&ahead->mutex);
    submit_range(device, range);
}

void device_ahead_served(struct device *device, uint64_t offset,
                         uint64_t length)
{
    struct device_ahead *ahead = &device->ahead;
    struct readahead_range range;

    if (!readahead_is_due(&ahead->readahead, offset, length))
        return;
    mutex_lock(&ahead->mutex);
    range = readahead_served(&ahead->readahead, offset, length);
    mutex_unlock(&ahead->mutex);
    submit_range(device, range);
}

void device_ahead_rest(struct device *device, uint64_t from, uint64_t to)
{
    uint64_t begin = round_up(from, CACHE_BLOCK);

    if (device->fetch == NULL || begin >= to)
        return;
    if (to - begin > device->options.readahead)
        to = begin + device->options.readahead;
    submit_pieces(device, begin, to, REST_PIECE);
}
