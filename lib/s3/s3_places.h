/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_places - what is known of each endpoint as a place to send requests to:
 * its site, which a region that was learned may change, and its clock.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef S3_S3_PLACES_H
#define S3_S3_PLACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/s3_site.h"

struct s3_places;

/*
 * Copy count sites, one an endpoint, in the order of their numbers.
 * region_is_open: nobody has told which region is theirs.
 */
int s3_places_new(const struct s3_site sites[], size_t count,
                  bool region_is_open, struct s3_places **ret_places);

/* Free it; NULL does nothing. */
void s3_places_free(struct s3_places *places);

/*
 * Tell the site of an endpoint, and the time there, in seconds since 1970,
 * when here it is now_s.
 */
void s3_places_look(struct s3_places *places, size_t index, uint64_t now_s,
                    struct s3_site *ret_site, uint64_t *ret_there_s);

/* The endpoint says that it is there_s when here it is now_s. */
void s3_places_set_clock(struct s3_places *places, size_t index, uint64_t now_s,
                         uint64_t there_s);

/* Returns whether no region was set, by options or since. */
bool s3_places_region_is_open(struct s3_places *places);

/*
 * An endpoint answered a request that was signed for region used that the
 * bucket is in another one: go there from now on, by all endpoints.  Returns
 * whether a request would be signed for another region now; not so, too, if
 * what it said is no region.
 */
bool s3_places_set_region(struct s3_places *places, const char *used,
                          const char *region);

#endif
