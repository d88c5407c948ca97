/* SPDX-License-Identifier: BSD-2-Clause */
/* links: owner_host memory_store fault_store device_fixture */
#include "cache/owner.h"

#include "cache/owner_parts.h"
#include "support/owner_host.h"
#include "unit/test.h"

TEST("an idle run after a restart makes at most 3 requests")
{
    struct owner_host host;
    struct control_message reply;
    uint64_t before;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    CHECK(owner_host_sync(&host) == 1);
    CHECK(owner_host_ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    owner_stop(host.owner);
    before = owner_host_calls(&host);
    NEED(fixture_reopen(&host.fixture) == 0);
    owner_host_start(&host, 0);
    CHECK(owner_host_sync(&host) == 0);
    CHECK(owner_host_ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_calls(&host) - before <= 3);
    owner_host_end(&host);
}

TEST("a checkpoint that was open when the process ended goes on")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    owner_host_write(&host, 2, 20);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_upload(&host, "image"));
    owner_host_write(&host, 2, 21);
    owner_stop(host.owner);
    NEED(fixture_crash(&host.fixture) == 0);
    owner_host_start(&host, 0);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    CHECK(owner_host_number(&reply, "joined") == 1);
    CHECK(owner_host_number(&reply, "left") == 1);
    control_message_clear(&reply);
    CHECK(owner_host_sync(&host) == 1);
    CHECK(owner_host_has(&host, 2, 21));
    CHECK(owner_host_sync(&host) == 1);
    owner_host_end(&host);
}

TEST("a device of which all is published is released, and claimed again")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    CHECK(owner_host_ask_for(&host, "release", NULL, NULL, &reply) ==
          -ENOTEMPTY);
    control_message_clear(&reply);
    CHECK(owner_host_sync(&host) == 1);
    CHECK(owner_host_ask_for(&host, "release", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "claim"), "released") == 0);
    control_message_clear(&reply);
    /* The owner notices that a write waits. */
    owner_host_write(&host, 1, 11);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "claim"), "claimed") == 0);
    control_message_clear(&reply);
    owner_host_end(&host);
}

TEST("an upload's rate is its part of the device's limit, or of what devices "
     "share; who makes room has no limit of its own")
{
    static const struct bandwidth_entry limit = {600, 0, BANDWIDTH_DAY};
    struct upload_sharer other;
    struct upload_share *share;
    struct owner_host host;

    NEED(upload_share_new(&limit, 1, &share) == 0);
    upload_share_join(share, &other);
    owner_host_begin(&host, test_dir(), 0);
    CHECK(owner_upload_rate(host.owner, LEASE_CHECKPOINT, 2) == 0);
    owner_stop(host.owner);
    host.upload_rate = 401;
    owner_host_start(&host, 0);
    CHECK(owner_upload_rate(host.owner, LEASE_CHECKPOINT, 2) == 201);
    CHECK(owner_upload_rate(host.owner, LEASE_EVICTION, 2) == 0);
    owner_stop(host.owner);
    host.share = share;
    owner_host_start(&host, 0);
    CHECK(owner_upload_rate(host.owner, LEASE_CHECKPOINT, 1) == 401);
    CHECK(owner_upload_rate(host.owner, LEASE_EVICTION, 1) == 600);
    CHECK(upload_share_rate(share, &other) == 300);
    CHECK(owner_upload_rate(host.owner, LEASE_CHECKPOINT, 2) == 150);
    CHECK(owner_upload_rate(host.owner, LEASE_EVICTION, 1) == 300);
    owner_stop(host.owner);
    host.upload_rate = 0;
    owner_host_start(&host, 0);
    CHECK(owner_upload_rate(host.owner, LEASE_CHECKPOINT, 2) == 150);
    owner_host_end(&host);
    upload_share_leave(share, &other);
    upload_share_free(share);
}

TEST("a lease says how fast it may go")
{
    static unsigned char data[3 * OWNER_HOST_CHUNK];
    struct control_message reply;
    struct control_lease lease;
    struct owner_host host;

    owner_host_begin(&host, test_dir(), 0);
    owner_stop(host.owner);
    NEED(fixture_reopen(&host.fixture) == 0);
    host.upload_rate = 1000;
    owner_host_start(&host, 0);
    fixture_fill(data, sizeof(data), 1);
    CHECK(fixture_write(&host.fixture, 0, data, sizeof(data), 0) == 0);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "lease", "purpose", "image", &reply) == 0);
    NEED(control_lease_decode(&reply, &lease) == 0);
    CHECK(lease.parallelism == 2 && lease.rate == 500);
    control_message_clear(&reply);
    owner_host_end(&host);
}

TEST("limits that change hold at once, for what is asked from then on")
{
    struct owner_limits limits = {
        .cachesize = 32 << 20,
        .keep = 2,
        .grace_ns = 1,
        .max_age_ns = UINT64_MAX,
        .uploads = 5,
        .upload_rate = 1000,
    };
    struct control_message reply;
    struct control_lease lease;
    struct device_status status;
    struct owner_host host;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 0, 1);
    CHECK(owner_host_status(&host, "behind") == 1);
    owner_set_limits(host.owner, &limits);
    CHECK(owner_host_status(&host, "behind") == 0);
    CHECK(owner_host_status(&host, "cache_limit") == 32 << 20);
    device_status(host.fixture.device, &status);
    CHECK(status.cache_limit == 32 << 20);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "lease", "purpose", "image", &reply) == 0);
    NEED(control_lease_decode(&reply, &lease) == 0);
    CHECK(lease.parallelism == 5 && lease.rate == 200);
    control_message_clear(&reply);
    owner_host_end(&host);
}
