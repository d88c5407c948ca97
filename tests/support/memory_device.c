/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/memory_device.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/mutex.h"

enum { PAGE = 4096, STRIPES = 64, STRIPE_SHIFT = 20, FIXED_EXTENTS_MAX = 4 };
#define MAPPED_MAX (UINT64_C(16) << 30)
#define GROWTH     (UINT64_C(64) << 20) /* of which there are data */

struct device {
    _Atomic uint64_t size;
    atomic_uint incarnation;
    uint64_t mapped;
    unsigned char *bytes;
    bool read_only, write_through;
    struct mutex stripes[STRIPES]; /* a MiB each, in turn */
    struct mutex lock;
    struct condition changed;
    unsigned hold;
    struct device_request *held;
    size_t held_count;
    int fail[MEMORY_DEVICE_OPERATIONS];
    struct device_extent extents[FIXED_EXTENTS_MAX];
    size_t extents_count;
    struct memory_device_seen seen;
};

struct device *memory_device_new(uint64_t size)
{
    struct device *device = calloc(1, sizeof(*device));

    assert(device);
    atomic_init(&device->size, size);
    atomic_init(&device->incarnation, 1);
    device->mapped = size < MAPPED_MAX - GROWTH ? size + GROWTH : MAPPED_MAX;
    device->bytes = mmap(NULL, device->mapped, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(device->bytes != MAP_FAILED);
    for (size_t i = 0; i < STRIPES; i++)
        mutex_init(&device->stripes[i]);
    mutex_init(&device->lock);
    condition_init(&device->changed);
    return device;
}

int device_open(const struct device_options *options,
                struct device **ret_device)
{
    *ret_device = memory_device_new(options->size);
    (*ret_device)->read_only = options->read_only;
    (*ret_device)->write_through = options->write_through;
    return 0;
}

int device_close(struct device *device)
{
    if (!device)
        return 0;
    assert(device->held_count == 0);
    (void)munmap(device->bytes, device->mapped);
    for (size_t i = 0; i < STRIPES; i++)
        mutex_done(&device->stripes[i]);
    condition_done(&device->changed);
    mutex_done(&device->lock);
    free(device);
    return 0;
}

const char *device_name(const struct device *device)
{
    (void)device;
    return "memory";
}

uint64_t device_size(const struct device *device)
{
    return device->size;
}

uint32_t device_chunk_size(const struct device *device)
{
    (void)device;
    return 8 << 20;
}

bool device_is_read_only(const struct device *device)
{
    return device->read_only;
}

bool device_has_volatile_cache(const struct device *device)
{
    return !device->write_through;
}

bool device_check_range(const struct device *device, uint64_t offset,
                        uint64_t length)
{
    return length <= device->size && offset <= device->size - length;
}

void device_incarnation(const struct device *device,
                        char ret_text[DEVICE_INCARNATION_SIZE])
{
    (void)snprintf(ret_text, DEVICE_INCARNATION_SIZE,
                   "000102030405060708090a0b0c0d0e0f-%u",
                   atomic_load(&device->incarnation));
}

void memory_device_set_incarnation(struct device *device, unsigned number)
{
    atomic_store(&device->incarnation, number);
}

void memory_device_grow(struct device *device, uint64_t size)
{
    assert(size >= atomic_load(&device->size));
    atomic_store(&device->size, size);
}

void memory_device_set_read_only(struct device *device, bool read_only)
{
    device->read_only = read_only;
}

void memory_device_set_write_through(struct device *device, bool write_through)
{
    device->write_through = write_through;
}

const unsigned char *memory_device_bytes(const struct device *device)
{
    return device->bytes;
}

/* ---- what a request does ------------------------------------------------ */

static void zero(unsigned char *at, uint64_t length)
{
    uint64_t lead = (PAGE - (uintptr_t)at % PAGE) % PAGE;
    uint64_t pages;

    if (lead >= length) {
        memset(at, 0, length);
        return;
    }
    memset(at, 0, lead);
    pages = (length - lead) / PAGE * PAGE;
    if (pages > 0)
        (void)madvise(at + lead, pages, MADV_DONTNEED);
    memset(at + lead + pages, 0, length - lead - pages);
}

/* Apply the request to the bytes, stripe by stripe. */
static void apply(struct device *device, const struct device_request *request)
{
    uint64_t at = request->offset, end = at + request->length;

    if (end > device->mapped)
        end = device->mapped;
    while (at < end) {
        uint64_t part =
            (UINT64_C(1) << STRIPE_SHIFT) - at % (UINT64_C(1) << STRIPE_SHIFT);
        struct mutex *stripe = &device->stripes[(at >> STRIPE_SHIFT) % STRIPES];
        unsigned char *data =
            (unsigned char *)request->data + (at - request->offset);

        if (part > end - at)
            part = end - at;
        mutex_lock(stripe);
        if (request->operation == DEVICE_READ)
            memcpy(data, device->bytes + at, part);
        else if (request->operation == DEVICE_WRITE)
            memcpy(device->bytes + at, data, part);
        else
            zero(device->bytes + at, part);
        mutex_unlock(stripe);
        at += part;
    }
}

/* Tell which pages are zeros. */
static void find_extents(struct device *device, struct device_request *request)
{
    uint64_t at = request->offset, end = at + request->length;
    size_t count = 0;

    while (at < end) {
        uint64_t part = PAGE - at % PAGE;
        struct mutex *stripe = &device->stripes[(at >> STRIPE_SHIFT) % STRIPES];
        uint32_t flags;

        if (part > end - at)
            part = end - at;
        mutex_lock(stripe);
        flags = at >= device->mapped || bytes_are_zero(device->bytes + at, part)
                    ? DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO
                    : 0;
        mutex_unlock(stripe);
        if (count > 0 && request->extents[count - 1].flags == flags) {
            request->extents[count - 1].length += part;
        } else {
            if (count == request->extents_max ||
                (count == 1 && (request->flags & DEVICE_ONE_EXTENT) != 0))
                break;
            request->extents[count++] = (struct device_extent){part, flags};
        }
        at += part;
    }
    request->extents_count = count;
}

static int execute(struct device *device, struct device_request *request)
{
    switch (request->operation) {
    case DEVICE_READ:
    case DEVICE_WRITE:
        if (request->offset + request->length > device->mapped)
            return -EIO;
        apply(device, request);
        return 0;
    case DEVICE_ZERO:
    case DEVICE_TRIM:
        apply(device, request);
        return 0;
    case DEVICE_EXTENTS:
        if (device->extents_count > 0) {
            memcpy(request->extents, device->extents,
                   device->extents_count * sizeof(device->extents[0]));
            request->extents_count = device->extents_count;
        } else {
            find_extents(device, request);
        }
        return 0;
    case DEVICE_FLUSH:
    case DEVICE_PREFETCH:
    default:
        return 0;
    }
}

static bool is_canceled(struct device *device,
                        const struct device_request *request)
{
    if (!request->client_is_gone || !atomic_load(request->client_is_gone))
        return false;
    mutex_lock(&device->lock);
    device->seen.canceled++;
    mutex_unlock(&device->lock);
    return true;
}

static void finish(struct device *device, struct device_request *request)
{
    int error;

    mutex_lock(&device->lock);
    error = device->fail[request->operation];
    mutex_unlock(&device->lock);
    if (is_canceled(device, request))
        error = -ECANCELED;
    if (error == 0)
        error = execute(device, request);
    if (error == 0) {
        mutex_lock(&device->lock);
        device->seen.executed[request->operation]++;
        mutex_unlock(&device->lock);
    }
    request->done(request, error);
}

/* ---- holding back ------------------------------------------------------- */

static void note_locked(struct device *device,
                        struct device_request *requests[], size_t count)
{
    struct memory_device_seen *seen = &device->seen;

    if (count > seen->largest_batch)
        seen->largest_batch = count;
    for (size_t i = 0; i < count; i++) {
        const struct device_request *request = requests[i];

        seen->count[request->operation]++;
        seen->flags[request->operation] = request->flags;
        seen->offset[request->operation] = request->offset;
        seen->length[request->operation] = request->length;
    }
}

void device_submit(struct device *device, struct device_request *requests[],
                   size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert(device_check_range(device, requests[i]->offset,
                                  requests[i]->length));
    mutex_lock(&device->lock);
    note_locked(device, requests, count);
    for (size_t i = 0; i < count; i++) {
        struct device_request *request = requests[i];

        if ((device->hold & (1U << request->operation)) == 0)
            continue;
        requests[i] = NULL;
        request->next = device->held;
        device->held = request;
        device->held_count++;
        condition_broadcast(&device->changed);
    }
    mutex_unlock(&device->lock);
    for (size_t i = 0; i < count; i++) {
        if (requests[i])
            finish(device, requests[i]);
    }
}

void memory_device_hold(struct device *device, unsigned operations)
{
    mutex_lock(&device->lock);
    device->hold = operations;
    mutex_unlock(&device->lock);
}

void memory_device_wait_held(struct device *device, size_t count)
{
    mutex_lock(&device->lock);
    while (device->held_count < count)
        condition_wait(&device->changed, &device->lock);
    mutex_unlock(&device->lock);
}

void memory_device_release(struct device *device)
{
    struct device_request *held;

    mutex_lock(&device->lock);
    device->hold = 0;
    held = device->held;
    device->held = NULL;
    device->held_count = 0;
    mutex_unlock(&device->lock);
    while (held) {
        struct device_request *request = held;

        held = request->next;
        finish(device, request);
    }
}

/* Finish those held back whose client is gone, the others stay. */
void device_expel(struct device *device)
{
    struct device_request *gone = NULL, **at;

    mutex_lock(&device->lock);
    device->seen.expelled++;
    at = &device->held;
    while (*at) {
        struct device_request *request = *at;

        if (request->client_is_gone && atomic_load(request->client_is_gone)) {
            *at = request->next;
            device->held_count--;
            request->next = gone;
            gone = request;
        } else {
            at = &request->next;
        }
    }
    mutex_unlock(&device->lock);
    while (gone) {
        struct device_request *request = gone;

        gone = request->next;
        finish(device, request);
    }
}

void memory_device_fail(struct device *device, enum device_operation operation,
                        int error)
{
    mutex_lock(&device->lock);
    device->fail[operation] = error;
    mutex_unlock(&device->lock);
}

void memory_device_set_extents(struct device *device,
                               const struct device_extent *extents,
                               size_t count)
{
    assert(count <= FIXED_EXTENTS_MAX);
    mutex_lock(&device->lock);
    if (count > 0)
        memcpy(device->extents, extents, count * sizeof(*extents));
    device->extents_count = count;
    mutex_unlock(&device->lock);
}

struct memory_device_seen memory_device_seen(struct device *device)
{
    struct memory_device_seen seen;

    mutex_lock(&device->lock);
    seen = device->seen;
    mutex_unlock(&device->lock);
    return seen;
}

/* ---- the rest of device.h, which lib/nbd does not use ------------------- */

struct waited {
    struct mutex lock;
    struct condition changed;
    bool is_done;
    int error;
};

static void waited_done(struct device_request *request, int error)
{
    struct waited *waited = request->scratch;

    mutex_lock(&waited->lock);
    waited->error = error;
    waited->is_done = true;
    condition_signal(&waited->changed);
    mutex_unlock(&waited->lock);
}

int device_run(struct device *device, struct device_request *request)
{
    struct waited waited = {.error = 0};

    mutex_init(&waited.lock);
    condition_init(&waited.changed);
    request->scratch = &waited;
    request->done = waited_done;
    device_submit(device, &request, 1);
    mutex_lock(&waited.lock);
    while (!waited.is_done)
        condition_wait(&waited.changed, &waited.lock);
    mutex_unlock(&waited.lock);
    condition_done(&waited.changed);
    mutex_done(&waited.lock);
    return waited.error;
}

void device_status(struct device *device, struct device_status *ret_status)
{
    (void)device;
    *ret_status = (struct device_status){0};
}

int device_destage(struct device *device)
{
    (void)device;
    return 0;
}
