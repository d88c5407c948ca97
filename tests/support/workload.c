/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/workload.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "support/crash_states.h"
#include "support/fault_file.h"

enum {
    GROUP_MAX = 8,
    /* Most are small: a journal that is always full makes writes wait. */
    SMALL_MAX = 8 << 10,
    MEDIUM_MAX = 32 << 10,
    LARGE_MAX = 200 << 10,
    EXTENTS = 7,
};

/* Requests that are in flight together. */
struct group {
    struct workload *workload;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    unsigned in_flight;
};

struct one {
    struct device_request request;
    struct group *group;
    uint32_t number;
};

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static void answer(struct device_request *request, int error)
{
    struct one *one = (struct one *)(void *)request;
    struct group *group = one->group;

    (void)pthread_mutex_lock(&group->lock);
    if (error == 0) {
        model_answered(group->workload->model, one->number,
                       fault_record_position());
    } else {
        model_failed(group->workload->model, one->number);
        group->workload->failed++;
    }
    if (--group->in_flight == 0)
        (void)pthread_cond_signal(&group->answered);
    (void)pthread_mutex_unlock(&group->lock);
}

/* Choose what a request is, from 64 random bits. */
static void choose(const struct workload *workload, uint64_t dice,
                   struct device_request *request)
{
    uint64_t size = device_size(workload->device);
    uint64_t most = dice & 1                ? SMALL_MAX
                    : (dice >> 60) % 8 == 0 ? LARGE_MAX
                                            : MEDIUM_MAX;

    request->length = (1 + (dice >> 8) % (most / MODEL_SECTOR)) * MODEL_SECTOR;
    /* Half of all falls on a quarter of the device, to overwrite often. */
    request->offset = (dice >> 24) %
                      ((dice & 2 ? size / 4 : size) / MODEL_SECTOR) *
                      MODEL_SECTOR;
    if (dice & 4) {
        request->offset &= ~(uint64_t)(MODEL_PAGE - 1);
        request->length =
            (request->length + MODEL_PAGE - 1) & ~(uint64_t)(MODEL_PAGE - 1);
    }
    if (request->length > size - request->offset)
        request->length = size - request->offset;
    request->operation = DEVICE_WRITE;
    switch ((dice >> 48) % 16) {
    case 0:
        request->operation = DEVICE_ZERO;
        request->flags = dice & 8 ? DEVICE_NO_HOLE : 0;
        break;
    case 1:
        request->operation = DEVICE_TRIM;
        break;
    case 2:
        request->operation = DEVICE_FLUSH;
        request->offset = 0;
        request->length = 0;
        break;
    default:
        break;
    }
    if (request->operation != DEVICE_FLUSH && (dice >> 56) % 16 == 0)
        request->flags |= DEVICE_FUA;
}

static bool overlaps(const struct one *ones, unsigned count,
                     const struct device_request *request)
{
    for (unsigned i = 0; i < count; i++) {
        const struct device_request *other = &ones[i].request;

        if (request->offset < other->offset + other->length &&
            other->offset < request->offset + request->length)
            return true;
    }
    return false;
}

static void begin(struct workload *workload, struct one *one,
                  struct group *group)
{
    static const enum model_kind kinds[] = {
        [DEVICE_WRITE] = MODEL_WRITE,
        [DEVICE_ZERO] = MODEL_ZERO,
        [DEVICE_TRIM] = MODEL_TRIM,
        [DEVICE_FLUSH] = MODEL_FLUSH,
    };
    struct device_request *request = &one->request;
    bool durable = (request->flags & DEVICE_FUA) ||
                   !device_has_volatile_cache(workload->device);

    one->group = group;
    one->number =
        model_begin(workload->model, kinds[request->operation], request->offset,
                    request->length, durable, fault_record_position());
    if (request->operation == DEVICE_WRITE) {
        request->data = must(malloc(request->length));
        model_fill(one->number, request->offset, request->data,
                   request->length);
    }
    request->done = answer;
}

static void run_group(struct workload *workload)
{
    uint64_t dice = crash_random(workload->seed, workload->steps++);
    unsigned wanted = 1 + (unsigned)(dice % GROUP_MAX), count = 0;
    struct one *ones = must(calloc(GROUP_MAX, sizeof(*ones)));
    struct device_request *requests[GROUP_MAX];
    struct group group = {.workload = workload};

    (void)pthread_mutex_init(&group.lock, NULL);
    (void)pthread_cond_init(&group.answered, NULL);
    model_next_group(workload->model);
    while (wanted-- > 0) {
        struct device_request request = {.operation = DEVICE_WRITE};

        choose(workload, crash_random(workload->seed, workload->steps++),
               &request);
        if (overlaps(ones, count, &request))
            continue;
        ones[count].request = request;
        begin(workload, &ones[count], &group);
        requests[count] = &ones[count].request;
        count++;
    }
    group.in_flight = count;
    if (count > 0)
        device_submit(workload->device, requests, count);
    (void)pthread_mutex_lock(&group.lock);
    while (group.in_flight > 0)
        (void)pthread_cond_wait(&group.answered, &group.lock);
    (void)pthread_mutex_unlock(&group.lock);
    (void)pthread_mutex_destroy(&group.lock);
    (void)pthread_cond_destroy(&group.answered);
    for (unsigned i = 0; i < count; i++)
        free(ones[i].request.data);
    free(ones);
}

void workload_run(struct workload *workload, unsigned groups)
{
    for (unsigned i = 0; i < groups; i++)
        run_group(workload);
}

int workload_flush(struct workload *workload)
{
    struct device_request request = {.operation = DEVICE_FLUSH};
    uint32_t number;
    int error;

    model_next_group(workload->model);
    number = model_begin(workload->model, MODEL_FLUSH, 0, 0, false,
                         fault_record_position());
    error = device_run(workload->device, &request);
    if (error == 0)
        model_answered(workload->model, number, fault_record_position());
    else
        workload->failed++;
    return error;
}

int workload_read(struct device *device, uint64_t seed, unsigned char *content)
{
    uint64_t size = device_size(device);

    for (uint64_t at = 0, n = 0; at < size; n++) {
        uint64_t most = crash_random(seed, n) % 4 ? LARGE_MAX : SMALL_MAX;
        struct device_request request = {
            .operation = DEVICE_READ,
            .offset = at,
            .length = (1 + crash_random(seed, n) / 4 % (most / MODEL_SECTOR)) *
                      MODEL_SECTOR,
            .data = content + at,
        };
        int error;

        if (request.length > size - at)
            request.length = size - at;
        error = device_run(device, &request);
        if (error != 0)
            return error;
        at += request.length;
    }
    return 0;
}

/* Whether one extent is true.  Says to report why not. */
static bool check_extent(const struct device_extent *extent, uint64_t at,
                         uint64_t size, const unsigned char *content,
                         FILE *report)
{
    if (extent->length == 0 || at + extent->length > size) {
        (void)fprintf(report, "# extent at %" PRIu64 ": length %" PRIu64 "\n",
                      at, extent->length);
        return false;
    }
    if ((extent->flags & DEVICE_EXTENT_ZERO) == 0)
        return true;
    for (uint64_t i = at; i < at + extent->length; i++) {
        if (content[i] != 0) {
            (void)fprintf(report,
                          "# extent at %" PRIu64 ", length %" PRIu64
                          ": called zero, but is data at %" PRIu64 "\n",
                          at, extent->length, i);
            return false;
        }
    }
    return true;
}

bool workload_check_extents(struct device *device, const unsigned char *content,
                            FILE *report)
{
    uint64_t size = device_size(device), at = 0;

    while (at < size) {
        struct device_extent extents[EXTENTS];
        struct device_request request = {
            .operation = DEVICE_EXTENTS,
            .offset = at,
            .length = size - at,
            .extents = extents,
            .extents_max = EXTENTS,
        };
        int error = device_run(device, &request);

        if (error != 0 || request.extents_count == 0 ||
            request.extents_count > EXTENTS) {
            (void)fprintf(report, "# extents at %" PRIu64 ": error %d, %zu\n",
                          at, error, request.extents_count);
            return false;
        }
        for (size_t i = 0; i < request.extents_count; i++) {
            if (!check_extent(&extents[i], at, size, content, report))
                return false;
            at += extents[i].length;
        }
    }
    return true;
}
