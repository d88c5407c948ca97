/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_places.h"

#include "unit/test.h"

static struct s3_places *places_at(const char *first, const char *second,
                                   bool region_is_open)
{
    struct s3_site sites[2];
    struct s3_site_options options = {.port = 80, .bucket = "bucket"};
    struct s3_places *places = NULL;

    options.host = first;
    if (s3_site_init(&sites[0], &options) != 0)
        return NULL;
    options.host = second;
    if (s3_site_init(&sites[1], &options) != 0 ||
        s3_places_new(sites, 2, region_is_open, &places) != 0)
        return NULL;
    return places;
}

static bool region_is(struct s3_places *places, size_t index,
                      const char *region)
{
    struct s3_site site;
    uint64_t there_s;

    s3_places_look(places, index, 0, &site, &there_s);
    return strcmp(site.region, region) == 0;
}

TEST("each endpoint has its own host and its own clock, ahead or behind")
{
    struct s3_places *places = places_at("one.test", "two.test", true);
    struct s3_site site;
    uint64_t there_s;

    NEED(places);
    s3_places_look(places, 1, 1000, &site, &there_s);
    CHECK(strcmp(site.host, "two.test") == 0 && there_s == 1000);
    s3_places_set_clock(places, 0, 1000, 4600);
    s3_places_set_clock(places, 1, 5000, 1400);
    s3_places_look(places, 0, 10000, &site, &there_s);
    CHECK(strcmp(site.host, "one.test") == 0 && there_s == 13600);
    s3_places_look(places, 1, 10000, &site, &there_s);
    CHECK(there_s == 6400);
    s3_places_set_clock(places, 1, 10000, 10000);
    s3_places_look(places, 1, 10001, &site, &there_s);
    CHECK(there_s == 10001);
    s3_places_free(places);
}

TEST("a region that was learned counts for all endpoints")
{
    struct s3_places *places = places_at("one.test", "two.test", true);

    NEED(places);
    CHECK(s3_places_region_is_open(places));
    CHECK(region_is(places, 0, "us-east-1"));
    CHECK(s3_places_set_region(places, "us-east-1", "garage"));
    CHECK(region_is(places, 0, "garage") && region_is(places, 1, "garage"));
    CHECK(!s3_places_region_is_open(places));
    s3_places_free(places);
}

TEST("a request that was signed before the region was learned is repeated")
{
    struct s3_places *places = places_at("one.test", "two.test", true);

    NEED(places);
    CHECK(s3_places_set_region(places, "us-east-1", "garage"));
    CHECK(s3_places_set_region(places, "us-east-1", "garage"));
    CHECK(!s3_places_set_region(places, "garage", "garage"));
    s3_places_free(places);
}

TEST("what is no region changes nothing")
{
    struct s3_places *places = places_at("one.test", "two.test", false);

    NEED(places);
    CHECK(!s3_places_set_region(places, "us-east-1", "x\r\nHost: evil"));
    CHECK(!s3_places_set_region(places, "us-east-1", "evil.test/"));
    CHECK(region_is(places, 0, "us-east-1"));
    CHECK(!s3_places_region_is_open(places));
    s3_places_free(places);
}
