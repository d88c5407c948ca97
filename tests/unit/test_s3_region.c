/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_region.h"

#include "object_store.h"
#include "s3/s3_parts.h"
#include "s3/s3_places.h"
#include "support/s3_peer.h"
#include "unit/test.h"

/* Open a store whose region is this, or not told, at a name of AWS's. */
static struct object_store *open_store(const struct s3_peer *peer,
                                       const char *region, bool is_aws)
{
    struct s3_peer_options options;
    struct object_store *store = NULL;

    s3_peer_fill_options(peer, &options);
    options.options.region = region;
    if (is_aws) {
        options.hosts[0] = "s3.amazonaws.com";
        options.options.addressing = S3_ADDRESSING_AUTO;
    }
    return s3_store_open(&options.options, &store) == 0 ? store : NULL;
}

static struct s3_site site_of(struct object_store *store)
{
    struct s3_site site;
    uint64_t there_s;

    s3_places_look(s3_parts_of_store(store)->places, 0, 0, &site, &there_s);
    return site;
}

TEST("a region that an answer names is followed, if it is another one")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = open_store(peer, "us-east-1", false);

    NEED(store);
    CHECK(
        !s3_region_follow(s3_parts_of_store(store), "us-east-1", "us-east-1"));
    CHECK(!s3_region_follow(s3_parts_of_store(store), "us-east-1", "a b"));
    CHECK(s3_region_follow(s3_parts_of_store(store), "us-east-1", "eu-west-1"));
    CHECK(strcmp(site_of(store).region, "eu-west-1") == 0);
    CHECK(strcmp(site_of(store).host, "127.0.0.1") == 0);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("at Amazon it leads to another host")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = open_store(peer, "us-east-1", true);

    NEED(store);
    CHECK(s3_region_follow(s3_parts_of_store(store), "us-east-1", "eu-west-1"));
    CHECK(strstr(site_of(store).host, "eu-west-1.amazonaws.com"));
    store->close(store);
    s3_peer_stop(peer);
}

TEST("the credentials' region is taken only if nobody has told another")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = open_store(peer, NULL, false);

    NEED(store);
    s3_region_offer(s3_parts_of_store(store), "eu-west-1");
    CHECK(strcmp(site_of(store).region, "eu-west-1") == 0);
    s3_region_offer(s3_parts_of_store(store), "eu-west-2");
    CHECK(strcmp(site_of(store).region, "eu-west-1") == 0);
    store->close(store);
    store = open_store(peer, "garage", false);
    NEED(store);
    s3_region_offer(s3_parts_of_store(store), "eu-west-1");
    CHECK(strcmp(site_of(store).region, "garage") == 0);
    store->close(store);
    s3_peer_stop(peer);
}
