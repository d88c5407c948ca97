/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Room in the cache.  Chunks whose content is in the bucket go first, the
 * least recently used before others, their blocks before their tables; then
 * such that must be uploaded, and go when they have been.
 */
#include "cache/owner_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/workers.h"
#include "cache/cache_dir.h"
#include "cache/catalog.h"
#include "cache/evict.h"
#include "cache/geometry.h"
#include "cache/upload.h"

enum {
    /* A step: so that who asks for one hears of it soon. */
    EVICT_AT_ONCE = 256,
    CANDIDATES = 64,
    PERCENT = 100,
};

/* Its holder, which is no connection: they count from 1. */
static const uint64_t OWNER_ITSELF = 0;

static const uint64_t UPLOAD_FOR_NS = UINT64_C(1000000000);

int owner_space(struct owner *owner, struct owner_space *ret_space)
{
    struct device *device = owner->options.device;
    uint64_t cachesize = owner_limits(owner).cachesize;
    struct file_space space;
    int error;

    if (cachesize > 0) {
        ret_space->used =
            catalog_file_pages(device_catalog(device)) * CACHE_PAGE;
        ret_space->limit = cachesize;
        return 0;
    }
    error = cache_dir_space(device_cache_dir(device), &space);
    if (error == 0)
        *ret_space =
            (struct owner_space){space.total - space.available, space.total};
    return error;
}

static struct evict_from evict_from(const struct owner *owner, unsigned start,
                                    unsigned stop)
{
    struct device *device = owner->options.device;

    return (struct evict_from){
        .catalog = device_catalog(device),
        .checkpoint = device_checkpoint_catalog(device),
        .use = device_use(device),
        .leases = owner->leases,
        .chunk_size = device_chunk_size(device),
        .start_percent = start,
        .stop_percent = stop,
    };
}

/*
 * Evict at one depth.  evict->freed stays 0 if there was nothing; *ret_is_any
 * becomes true if there was, also if others were faster.
 */
static int evict_at(struct owner *owner, const struct evict_from *from,
                    enum evict_depth depth, uint64_t pages,
                    struct owner_evict *evict, bool *ret_is_any)
{
    AUTO_FREE uint64_t *chunks = calloc(EVICT_AT_ONCE, sizeof(chunks[0]));
    uint64_t chosen, freed = 0;
    size_t count;
    int error;

    if (chunks == NULL)
        return -ENOMEM;
    count = evict_choose(from, depth, pages, chunks, EVICT_AT_ONCE, &chosen);
    if (count == 0)
        return 0;
    *ret_is_any = true;
    error = device_evict(owner->options.device, chunks, count, depth, &freed);
    evict->freed += freed * CACHE_PAGE;
    evict->chunks += freed > 0 ? count : 0;
    atomic_fetch_add(&owner->evicted, freed * CACHE_PAGE);
    return error;
}

/*
 * Let be uploaded what is in the way.  *ret_has_some: there is something, be
 * it that it is uploaded already, or waits.
 */
static int choose_candidates(struct owner *owner, const struct evict_from *from,
                             uint64_t pages, bool *ret_has_some)
{
    struct evict_from from_all = *from;
    uint64_t chunks[CANDIDATES], chunk, chosen;
    size_t count = evict_choose_dirty(from, pages, chunks, CANDIDATES, &chosen);

    from_all.leases = NULL;
    *ret_has_some =
        count > 0 || evict_choose_dirty(&from_all, 1, &chunk, 1, &chosen) > 0;
    return leases_set_candidates(owner->leases, from->start_percent,
                                 from->stop_percent, chunks, count);
}

int owner_evict(struct owner *owner, struct owner_evict *evict)
{
    struct evict_from from =
        evict_from(owner, evict->start_percent, evict->stop_percent);
    struct owner_space space;
    uint64_t pages;
    bool has_dirty, has_clean = false;
    int error = owner_space(owner, &space);

    evict->chunks = evict->freed = 0;
    if (error != 0)
        return error;
    evict->state = OWNER_EVICT_DONE;
    if (space.used <= evict->above)
        return 0;
    /* A fenced owner drops nothing: it may be all that there is. */
    if (claim_state(owner->claim) == CLAIM_FENCED)
        return -ESTALE;
    pages = (space.used - evict->above + CACHE_PAGE - 1) / CACHE_PAGE;
    evict->state = OWNER_EVICT_MORE;
    error = evict_at(owner, &from, EVICT_BLOCKS, pages, evict, &has_clean);
    if (error != 0 || evict->freed > 0)
        return error;
    error = choose_candidates(owner, &from, pages, &has_dirty);
    if (error != 0)
        return error;
    evict->state = OWNER_EVICT_UPLOAD;
    if (has_dirty)
        return 0;
    /* Tables are the last to go: the next read has to ask for them too. */
    evict->state = OWNER_EVICT_MORE;
    error = evict_at(owner, &from, EVICT_FILE, pages, evict, &has_clean);
    if (error != 0 || has_clean)
        return error;
    /* Unless others have made room since it was looked. */
    error = owner_space(owner, &space);
    evict->state =
        space.used <= evict->above ? OWNER_EVICT_DONE : OWNER_EVICT_STUCK;
    return error;
}

/* ---- uploads of the owner itself ----------------------------------------- */

/* Several of these run side by side, for a while. */
struct errand {
    struct workers_task task; /* first, see run_errand */
    struct owner *owner;
    uint64_t deadline_ns;
    struct mutex *lock;
    struct condition *done;
    size_t *running;
};

/* Let an upload that began then have taken as long as its rate says. */
static void keep_pace(struct owner *owner, uint64_t began_ns, uint64_t size,
                      uint64_t rate)
{
    uint64_t took_ns = clock_monotonic_ns() - began_ns;
    uint64_t pace_ns =
        rate == 0 ? 0 : (uint64_t)((double)size * 1e9 / (double)rate);

    if (pace_ns > took_ns)
        (void)owner_wait(owner, pace_ns - took_ns);
}

/* Returns whether there may be another. */
static bool upload_one(struct owner *owner)
{
    struct device *device = owner->options.device;
    struct upload_context context = {
        .device_name = device_name(device),
        .store = owner->options.store,
        .fetch = device_fetch(device),
        .chunk_dir = device_chunk_dir(device),
        .chunk_size = device_chunk_size(device),
    };
    struct lease_wish wish = {
        .holder = OWNER_ITSELF,
        .purpose = LEASE_EVICTION,
        .stop_percent = PERCENT,
    };
    struct upload_result result = {.table = NULL};
    uint64_t began_ns = clock_monotonic_ns(), wait_ns;
    struct lease lease;
    int error = lease_take(owner->leases, &wish, &lease, &wait_ns);

    if (error != 0)
        return false;
    error = upload_chunk(&context, &lease.work, &result);
    if (error == 0)
        atomic_fetch_add(&owner->uploaded, result.size);
    error =
        lease_report(owner->leases, OWNER_ITSELF, lease.number, error, &result);
    free(result.table);
    keep_pace(owner, began_ns, error == 0 ? result.size : 0,
              owner_upload_rate(owner, LEASE_EVICTION, lease.parallel));
    return error == 0 || error == -ESTALE;
}

static void run_errand(struct workers_task *task)
{
    struct errand *errand = (struct errand *)task; /* its first member */

    while (clock_monotonic_ns() < errand->deadline_ns &&
           upload_one(errand->owner))
        ;
    mutex_lock(errand->lock);
    if (--*errand->running == 0)
        condition_signal(errand->done);
    mutex_unlock(errand->lock);
}

/* Have as many threads as uploads may run at once; or those there are. */
static int have_uploaders(struct owner *owner)
{
    unsigned count = owner_limits(owner).uploads;
    struct workers *workers;
    int error;

    if (owner->uploaders_count == count)
        return 0;
    error = workers_start("upload", count, &workers);
    if (error != 0)
        return owner->uploaders != NULL ? 0 : error;
    workers_stop(owner->uploaders);
    owner->uploaders = workers;
    owner->uploaders_count = count;
    return 0;
}

static int upload_candidates(struct owner *owner)
{
    AUTO_FREE struct errand *errands = NULL;
    struct mutex lock;
    struct condition done;
    size_t count, running;
    int error = have_uploaders(owner);

    if (error != 0)
        return error;
    running = count = owner->uploaders_count;
    errands = calloc(count, sizeof(errands[0]));
    if (errands == NULL)
        return -ENOMEM;
    mutex_init(&lock);
    condition_init(&done);
    for (size_t i = 0; i < count; i++) {
        errands[i] = (struct errand){
            .task = {.run = run_errand},
            .owner = owner,
            .deadline_ns = clock_monotonic_ns() + UPLOAD_FOR_NS,
            .lock = &lock,
            .done = &done,
            .running = &running,
        };
        workers_submit(owner->uploaders, &errands[i].task);
    }
    mutex_lock(&lock);
    while (running > 0)
        condition_wait(&done, &lock);
    mutex_unlock(&lock);
    condition_done(&done);
    mutex_done(&lock);
    return 0;
}

bool owner_make_room(struct owner *owner)
{
    static struct log_limit limit;
    struct owner_evict evict = {.stop_percent = PERCENT};
    struct owner_space space;
    uint64_t uploaded = atomic_load(&owner->uploaded);
    uint64_t left_out;
    int error = owner_space(owner, &space);

    if (error != 0 || space.used / OWNER_FULL_PERCENT < space.limit / PERCENT)
        return false;
    evict.above = space.limit / PERCENT * OWNER_ROOM_PERCENT;
    do {
        error = owner_evict(owner, &evict);
        if (error == 0 && evict.state == OWNER_EVICT_UPLOAD) {
            error = owner_claim(owner);
            if (error == 0)
                error = upload_candidates(owner);
        }
        /* One round of uploads, then the claim and the image have a look. */
    } while (error == 0 && evict.state == OWNER_EVICT_MORE && evict.freed > 0 &&
             !owner_is_interrupted(owner));
    if ((error != 0 || evict.state == OWNER_EVICT_STUCK) &&
        log_limit_allows(&limit, &left_out))
        log_warning("%s: the cache is full, and nothing can be evicted: %s"
                    " (%" PRIu64 " like it not logged)",
                    device_name(owner->options.device),
                    error == 0 ? "what is there is waiting to be folded, or"
                                 " belongs to others"
                               : log_errno(error),
                    left_out);
    return error == 0 && evict.state == OWNER_EVICT_UPLOAD &&
           atomic_load(&owner->uploaded) != uploaded;
}
