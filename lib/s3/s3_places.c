/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_places.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mutex.h"

struct place {
    struct s3_site site;
    int64_t ahead_s; /* its clock, of ours */
};

struct s3_places {
    struct mutex mutex;
    size_t count;
    bool region_is_open GUARDED_BY(mutex);
    struct place places[] GUARDED_BY(mutex);
};

int s3_places_new(const struct s3_site sites[], size_t count,
                  bool region_is_open, struct s3_places **ret_places)
{
    struct s3_places *places =
        calloc(1, sizeof(*places) + count * sizeof(places->places[0]));

    if (!places)
        return -ENOMEM;
    mutex_init(&places->mutex);
    places->count = count;
    places->region_is_open = region_is_open;
    for (size_t i = 0; i < count; i++)
        places->places[i].site = sites[i];
    *ret_places = places;
    return 0;
}

void s3_places_free(struct s3_places *places)
{
    if (!places)
        return;
    mutex_done(&places->mutex);
    free(places);
}

void s3_places_look(struct s3_places *places, size_t index, uint64_t now_s,
                    struct s3_site *ret_site, uint64_t *ret_there_s)
{
    assert(index < places->count);
    mutex_lock(&places->mutex);
    *ret_site = places->places[index].site;
    *ret_there_s = now_s + (uint64_t)places->places[index].ahead_s;
    mutex_unlock(&places->mutex);
}

void s3_places_set_clock(struct s3_places *places, size_t index, uint64_t now_s,
                         uint64_t there_s)
{
    assert(index < places->count);
    mutex_lock(&places->mutex);
    places->places[index].ahead_s = (int64_t)(there_s - now_s);
    mutex_unlock(&places->mutex);
}

bool s3_places_region_is_open(struct s3_places *places)
{
    bool is_open;

    mutex_lock(&places->mutex);
    is_open = places->region_is_open;
    mutex_unlock(&places->mutex);
    return is_open;
}

bool s3_places_set_region(struct s3_places *places, const char *used,
                          const char *region)
{
    int error = 0;

    if (strcmp(region, used) == 0)
        return false;
    mutex_lock(&places->mutex);
    for (size_t i = 0; !error && i < places->count; i++)
        error = s3_site_set_region(&places->places[i].site, region);
    if (!error)
        places->region_is_open = false;
    mutex_unlock(&places->mutex);
    return !error;
}
