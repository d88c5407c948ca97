/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>

#include "cache/destage_parts.h"
#include "cache/geometry.h"

enum {
    /* More than this many syncs side by side gain nothing on one disk. */
    HELPERS = 8,
    /* The reserve is made again when it is one part of what is free. */
    RESERVE_ROOM = 8,
    /* Room is tight in the last such part of the limit. */
    TIGHT_SHARE = 16,
};
static const uint64_t TIGHT_MAX = UINT64_C(1) << 30;

/* A step of all items of a batch, run side by side. */
struct step {
    struct workers_task task;
    void (*run)(struct fold_device *device, void *item);
    struct fold_device *device;
    unsigned char *items;
    size_t size;
    size_t count;
    _Atomic size_t *next; /* the first that nobody has taken */
    struct mutex *lock;
    struct condition *done;
    size_t *running;
};

static void run_step(struct workers_task *task)
{
    struct step *step = (struct step *)task; /* its first member */

    for (;;) {
        size_t i = atomic_fetch_add(step->next, 1);

        if (i >= step->count)
            break;
        step->run(step->device, step->items + i * step->size);
    }
    mutex_lock(step->lock);
    if (--*step->running == 0)
        condition_signal(step->done);
    mutex_unlock(step->lock);
}

/* Many devices never need them.  Without any the thread does it all. */
static bool have_helpers(struct destage *destage)
{
    if (destage->helpers == NULL)
        (void)workers_start("destage", HELPERS, &destage->helpers);
    return destage->helpers != NULL;
}

static void run_side_by_side(struct destage *destage, void *items, size_t size,
                             size_t count,
                             void (*run)(struct fold_device *device,
                                         void *item))
{
    struct step steps[HELPERS];
    _Atomic size_t next = 0;
    struct mutex lock;
    struct condition done;
    size_t running = count < HELPERS ? count : HELPERS;
    size_t started = running;

    mutex_init(&lock);
    condition_init(&done);
    for (size_t i = 0; i < started; i++) {
        steps[i] = (struct step){
            .task = {.run = run_step},
            .run = run,
            .device = destage->options.fold,
            .items = items,
            .size = size,
            .count = count,
            .next = &next,
            .lock = &lock,
            .done = &done,
            .running = &running,
        };
        workers_submit(destage->helpers, &steps[i].task);
    }
    mutex_lock(&lock);
    while (running > 0)
        condition_wait(&done, &lock);
    mutex_unlock(&lock);
    condition_done(&done);
    mutex_done(&lock);
}

void destage_for_all(struct destage *destage, void *items, size_t size,
                     size_t count,
                     void (*run)(struct fold_device *device, void *item))
{
    if (count > 1 && have_helpers(destage)) {
        run_side_by_side(destage, items, size, count, run);
        return;
    }
    for (size_t i = 0; i < count; i++)
        run(destage->options.fold, (unsigned char *)items + i * size);
}

int destage_commit(struct destage *destage, const struct state_change changes[],
                   size_t count)
{
    const struct destage_options *options = &destage->options;
    int error;

    if (destage->lost != 0)
        return destage->lost;
    if (count == 0)
        return 0;
    error = state_log_commit(options->state_log, changes, count);
    if (error == -ENOSPC) /* it has given up the reserve for another try */
        error = state_log_commit(options->state_log, changes, count);
    /* After these nothing was changed; any other is the log's end. */
    if (error != 0 && error != -ENOMEM && error != -ENOSPC &&
        error != -EINVAL) {
        destage->lost = error;
        options->failed(options->context, error);
    }
    return error;
}

bool destage_is_full(int error)
{
    return error == -ENOSPC || error == -EDQUOT;
}

void destage_measure(struct destage *destage)
{
    const struct destage_options *options = &destage->options;
    uint64_t used =
        catalog_file_pages(options->fold->reader->catalog) * CACHE_PAGE;
    uint64_t cachesize = atomic_load(&destage->cachesize);
    uint64_t limit = UINT64_MAX;
    struct file_space space;

    if (cache_dir_space(options->cache_dir, &space) == 0)
        limit = used + space.available;
    if (cachesize != 0 && cachesize < limit)
        limit = cachesize;
    atomic_store(&destage->used, used);
    atomic_store(&destage->limit, limit);
}

void destage_get_space(struct destage *destage, struct destage_space *ret_space)
{
    uint64_t used = atomic_load(&destage->used);
    uint64_t limit = atomic_load(&destage->limit);
    uint64_t tight = limit / TIGHT_SHARE;

    *ret_space = (struct destage_space){
        .used = used,
        .limit = limit,
        .room = used < limit ? limit - used : 0,
        .tight = tight < TIGHT_MAX ? tight : TIGHT_MAX,
    };
}

void destage_release_reserve(struct destage *destage)
{
    (void)cache_dir_release_reserve(destage->options.cache_dir);
}

/* For the next time that the disk is full. */
void destage_renew_reserve(struct destage *destage)
{
    const struct destage_options *options = &destage->options;
    struct file_space space;

    if (cache_dir_space(options->cache_dir, &space) == 0 &&
        space.available / RESERVE_ROOM >= options->reserve_size)
        (void)cache_dir_keep_reserve(options->cache_dir, options->reserve_size);
}
