/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/device_model.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "support/crash_states.h"

/* One request; of a range only the sectors that it changes. */
struct request {
    enum model_kind kind;
    uint64_t first, end; /* sectors */
    uint32_t group;
    bool durable, failed;
    size_t submitted;
    size_t answered;        /* SIZE_MAX: not */
    size_t durable_from;    /* SIZE_MAX: not known to be durable ever */
    uint32_t answer_number; /* answers are counted from 1; 0: none */
    uint32_t flush_covers;  /* FLUSH: the last answer before it */
};

struct device_model {
    uint64_t sectors;
    unsigned char *base; /* content at the beginning, or NULL: zeros */
    uint32_t first_number;
    pthread_mutex_t lock; /* for what answers change */
    struct request *requests;
    uint32_t count, room;
    uint32_t group;
    uint32_t answers;
};

/* How a written sector begins. */
struct stamp {
    uint32_t magic;
    uint32_t number;
    uint64_t sector;
};

static const uint32_t MAGIC = 0x5ec70123;

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

struct device_model *model_new(uint64_t size, const unsigned char *content,
                               uint32_t first_number)
{
    struct device_model *model = must(calloc(1, sizeof(*model)));

    assert(size % MODEL_SECTOR == 0);
    model->sectors = size / MODEL_SECTOR;
    model->first_number = first_number;
    if (content) {
        model->base = must(malloc(size));
        memcpy(model->base, content, size);
    }
    (void)pthread_mutex_init(&model->lock, NULL);
    return model;
}

void model_free(struct device_model *model)
{
    if (!model)
        return;
    (void)pthread_mutex_destroy(&model->lock);
    free(model->base);
    free(model->requests);
    free(model);
}

uint32_t model_next_number(const struct device_model *model)
{
    return model->first_number + model->count;
}

void model_next_group(struct device_model *model)
{
    model->group++;
}

uint32_t model_begin(struct device_model *model, enum model_kind kind,
                     uint64_t offset, uint64_t length, bool durable,
                     size_t moment)
{
    struct request request = {
        .kind = kind,
        .first = offset / MODEL_SECTOR,
        .end = (offset + length) / MODEL_SECTOR,
        .group = model->group,
        .durable = durable,
        .submitted = moment,
        .answered = SIZE_MAX,
        .durable_from = SIZE_MAX,
    };

    assert(offset % MODEL_SECTOR == 0 && length % MODEL_SECTOR == 0);
    if (kind == MODEL_TRIM) {
        const uint64_t page = MODEL_PAGE / MODEL_SECTOR;

        request.first = (request.first + page - 1) / page * page;
        request.end = request.end / page * page;
        if (request.end < request.first)
            request.end = request.first;
    }
    (void)pthread_mutex_lock(&model->lock);
    request.flush_covers = model->answers;
    if (model->count == model->room) {
        model->room = model->room ? 2 * model->room : 64;
        model->requests = must(
            realloc(model->requests, model->room * sizeof(*model->requests)));
    }
    model->requests[model->count++] = request;
    (void)pthread_mutex_unlock(&model->lock);
    return model->first_number + model->count - 1;
}

void model_fill(uint32_t number, uint64_t offset, void *data, size_t length)
{
    unsigned char *at = data;

    assert(offset % MODEL_SECTOR == 0 && length % MODEL_SECTOR == 0);
    for (size_t i = 0; i < length; i += MODEL_SECTOR) {
        struct stamp stamp = {MAGIC, number, (offset + i) / MODEL_SECTOR};
        uint64_t words[MODEL_SECTOR / sizeof(uint64_t)] = {0};

        memcpy(words, &stamp, sizeof(stamp));
        /* A half compresses; some writes do not compress at all. */
        for (size_t w = 2; w < (number % 8 ? 32 : 64); w++)
            words[w] = crash_random(number, stamp.sector * 64 + w);
        memcpy(at + i, words, sizeof(words));
    }
}

void model_answered(struct device_model *model, uint32_t number, size_t moment)
{
    struct request *request;

    (void)pthread_mutex_lock(&model->lock);
    assert(number >= model->first_number &&
           number - model->first_number < model->count);
    request = &model->requests[number - model->first_number];
    request->answered = moment;
    request->answer_number = ++model->answers;
    if (request->durable)
        request->durable_from = moment;
    for (uint32_t i = 0; request->kind == MODEL_FLUSH && i < model->count;
         i++) {
        struct request *earlier = &model->requests[i];

        if (earlier->answer_number != 0 &&
            earlier->answer_number <= request->flush_covers &&
            earlier->durable_from > moment)
            earlier->durable_from = moment;
    }
    (void)pthread_mutex_unlock(&model->lock);
}

void model_failed(struct device_model *model, uint32_t number)
{
    (void)pthread_mutex_lock(&model->lock);
    assert(number >= model->first_number &&
           number - model->first_number < model->count);
    model->requests[number - model->first_number].failed = true;
    (void)pthread_mutex_unlock(&model->lock);
}

/* ---- checking ---- */

static const uint32_t NONE = UINT32_MAX;

/* A check under way: a number per sector.  0: as it was at the beginning. */
struct check {
    const struct device_model *model;
    const unsigned char *content;
    enum model_crash crash;
    size_t cut;
    FILE *report;
    uint32_t *found;    /* NONE: zeros, of whatever origin */
    uint32_t *required; /* the last that must be there */
    bool *is_possible;  /* zeros: some request or the beginning made them */
};

static bool sector_is_zero(const unsigned char *sector)
{
    static const unsigned char zeros[MODEL_SECTOR];

    return memcmp(sector, zeros, MODEL_SECTOR) == 0;
}

/* Whether the request must be there, and whether it may. */
static bool is_required(const struct check *check,
                        const struct request *request)
{
    if (request->kind == MODEL_FLUSH)
        return false;
    if (check->crash == MODEL_POWER_CUT)
        return request->durable_from <= check->cut;
    return request->answered <= check->cut;
}

static bool is_allowed(const struct check *check, const struct request *request)
{
    return request->kind != MODEL_FLUSH && request->submitted <= check->cut;
}

static bool say(const struct check *check, uint64_t sector, const char *what,
                uint32_t found, uint32_t other)
{
    if (check->report)
        (void)fprintf(check->report,
                      "# sector %" PRIu64 ": %s (found request %" PRId64
                      ", the other is %" PRId64 ")\n",
                      sector, what, found == NONE ? -1 : (int64_t)found,
                      other == NONE ? -1 : (int64_t)other);
    return false;
}

/* Name the request that each sector's content is from. */
static bool identify(struct check *check)
{
    const struct device_model *model = check->model;

    for (uint64_t s = 0; s < model->sectors; s++) {
        const unsigned char *sector = check->content + s * MODEL_SECTOR;
        const unsigned char *base =
            model->base ? model->base + s * MODEL_SECTOR : NULL;
        unsigned char whole[MODEL_SECTOR];
        const struct request *request;
        struct stamp stamp;

        if (sector_is_zero(sector)) {
            check->found[s] = NONE;
            continue;
        }
        memcpy(&stamp, sector, sizeof(stamp));
        if (stamp.magic != MAGIC || stamp.sector != s)
            return say(check, s, "was never written there", NONE, NONE);
        model_fill(stamp.number, s * MODEL_SECTOR, whole, MODEL_SECTOR);
        if (memcmp(whole, sector, MODEL_SECTOR) != 0)
            return say(check, s, "is torn", stamp.number, NONE);
        if (base && memcmp(base, sector, MODEL_SECTOR) == 0) {
            check->found[s] = 0;
            continue;
        }
        if (stamp.number < model->first_number ||
            stamp.number - model->first_number >= model->count)
            return say(check, s, "is from another time", stamp.number, NONE);
        request = &model->requests[stamp.number - model->first_number];
        if (request->kind != MODEL_WRITE || s < request->first ||
            s >= request->end || !is_allowed(check, request))
            return say(check, s, "is from the future", stamp.number, NONE);
        check->found[s] = stamp.number;
    }
    return true;
}

/* What was promised is there, and nothing older than that. */
static bool check_required(struct check *check)
{
    const struct device_model *model = check->model;

    for (uint64_t s = 0; s < model->sectors; s++)
        check->is_possible[s] =
            !model->base || sector_is_zero(model->base + s * MODEL_SECTOR);
    for (uint32_t i = 0; i < model->count; i++) {
        const struct request *request = &model->requests[i];
        bool required = is_required(check, request);

        if (!is_allowed(check, request))
            continue;
        for (uint64_t s = request->first; s < request->end; s++) {
            bool makes_zeros = request->kind != MODEL_WRITE;

            if (required) {
                check->required[s] = model->first_number + i;
                check->is_possible[s] = makes_zeros;
            } else if (makes_zeros) {
                check->is_possible[s] = true;
            }
        }
    }
    for (uint64_t s = 0; s < model->sectors; s++) {
        uint32_t found = check->found[s];

        if (found == NONE ? !check->is_possible[s] : found < check->required[s])
            return say(check, s, "lost what must be there", found,
                       check->required[s]);
    }
    return true;
}

/*
 * Groups come one after the other, so for some group all before it are there
 * and none after it.  Each sector gives bounds: at least the group that it is
 * from, at most the one that would have changed it next.
 */
static bool check_prefix(struct check *check)
{
    const struct device_model *model = check->model;
    uint32_t low = 0, high = model->group;
    uint64_t low_sector = 0, high_sector = 0;
    uint32_t *next = must(malloc(model->sectors * sizeof(*next)));

    for (uint64_t s = 0; s < model->sectors; s++)
        next[s] = NONE;
    for (uint32_t i = model->count; i-- > 0;) {
        const struct request *request = &model->requests[i];
        uint32_t number = model->first_number + i;

        if (request->kind == MODEL_FLUSH || request->failed)
            continue;
        for (uint64_t s = request->first; s < request->end; s++) {
            if (check->found[s] != NONE && number > check->found[s])
                next[s] = number;
        }
    }
    for (uint64_t s = 0; s < model->sectors; s++) {
        uint32_t found = check->found[s];

        if (found != NONE && found != 0 &&
            !model->requests[found - model->first_number].failed &&
            model->requests[found - model->first_number].group > low) {
            low = model->requests[found - model->first_number].group;
            low_sector = s;
        }
        if (next[s] != NONE &&
            model->requests[next[s] - model->first_number].group < high) {
            high = model->requests[next[s] - model->first_number].group;
            high_sector = s;
        }
    }
    free(next);
    if (low <= high)
        return true;
    (void)say(check, low_sector, "is newer than what another has lost",
              check->found[low_sector], NONE);
    return say(check, high_sector, "has lost what is older",
               check->found[high_sector], NONE);
}

bool model_check(const struct device_model *model, const unsigned char *content,
                 enum model_crash crash, size_t cut, FILE *report)
{
    struct check check = {
        .model = model,
        .content = content,
        .crash = crash,
        .cut = cut,
        .report = report,
        .found = must(calloc(model->sectors, sizeof(uint32_t))),
        .required = must(calloc(model->sectors, sizeof(uint32_t))),
        .is_possible = must(calloc(model->sectors, sizeof(bool))),
    };
    bool good = identify(&check) && check_required(&check) &&
                (crash == MODEL_NO_CRASH || check_prefix(&check));

    free(check.found);
    free(check.required);
    free(check.is_possible);
    return good;
}
