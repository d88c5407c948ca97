/* SPDX-License-Identifier: BSD-2-Clause */
/* links: owner_host memory_store fault_store device_fixture */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cache/catalog.h"
#include "cache/geometry.h"
#include "cache/owner_parts.h"

#include "support/owner_host.h"
#include "unit/test.h"

TEST("clean chunks are evicted and come back from the bucket")
{
    struct owner_host host;
    struct control_message reply, request;
    bool is_done = false;

    owner_host_begin(&host, test_dir(), 64 << 20);
    for (uint64_t chunk = 0; chunk < 8; chunk++)
        owner_host_write(&host, chunk, 100 + chunk);
    CHECK(owner_host_sync(&host) == 8);
    while (!is_done) {
        control_message_start(&request, "evict");
        control_message_add_number(&request, "above", 0);
        owner_host_ask(&host, &request, &reply);
        NEED(control_message_is(&reply, "ok"));
        is_done = strcmp(control_message_get(&reply, "state"), "more") != 0;
        if (is_done)
            CHECK(strcmp(control_message_get(&reply, "state"), "done") == 0);
        control_message_clear(&reply);
    }
    CHECK(catalog_file_pages(device_catalog(host.fixture.device)) == 0);
    for (uint64_t chunk = 0; chunk < 8; chunk++)
        CHECK(owner_host_has(&host, chunk, 100 + chunk));
    owner_host_end(&host);
}

TEST("what is dirty is uploaded for room, and goes")
{
    struct owner_host host;
    struct control_message reply, request;
    unsigned rounds = 0;

    owner_host_begin(&host, test_dir(), 64 << 20);
    for (uint64_t chunk = 0; chunk < 4; chunk++)
        owner_host_write(&host, chunk, 100 + chunk);
    CHECK(device_destage(host.fixture.device) == 0);
    for (;;) {
        const char *state;
        bool is_done;

        control_message_start(&request, "evict");
        control_message_add_number(&request, "above", 0);
        owner_host_ask(&host, &request, &reply);
        NEED(control_message_is(&reply, "ok"));
        state = control_message_get(&reply, "state");
        is_done = strcmp(state, "done") == 0;
        if (strcmp(state, "upload") == 0) {
            CHECK(rounds++ < 4);
            while (owner_host_upload(&host, "space"))
                ;
        }
        control_message_clear(&reply);
        if (is_done || test_has_failed)
            break;
    }
    for (uint64_t chunk = 0; chunk < 4; chunk++)
        CHECK(owner_host_has(&host, chunk, 100 + chunk));
    owner_host_end(&host);
}

/* Evict a little, and lease what must be uploaded first: its chunk + 1, or 0.
 */
static uint64_t lease_for_space(struct owner_host *host)
{
    struct control_message reply;
    struct control_lease lease = {.lease = 0};
    char above[8];

    CHECK(owner_host_ask_for(host, "evict", "above", "100", &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "state"), "done") == 0);
    /* "12.34" percent are used. */
    (void)snprintf(above, sizeof(above), "%s",
                   control_message_get(&reply, "used"));
    above[strcspn(above, ".")] = '\0';
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(host, "evict", "above", above, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "state"), "upload") == 0);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(host, "lease", "purpose", "space", &reply) == 0);
    if (!control_message_is(&reply, "wait"))
        CHECK(control_lease_decode(&reply, &lease) == 0);
    control_message_clear(&reply);
    return lease.lease == 0 ? 0 : lease.work.chunk + 1;
}

TEST("what others upload for room does not hide what they do not")
{
    enum { CHUNKS = 2 }; /* as many as may be uploaded at once */
    struct owner_host host;
    bool has[CHUNKS + 1] = {false};

    owner_host_begin(&host, test_dir(), 1 << 20);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        owner_host_write(&host, chunk, 100 + chunk);
    CHECK(device_destage(host.fixture.device) == 0);
    for (unsigned i = 0; i < CHUNKS; i++) {
        uint64_t number = lease_for_space(&host);

        NEED(number >= 1 && number <= CHUNKS);
        CHECK(!has[number]);
        has[number] = true;
    }
    /* Nothing else is there, but what is in the way can go: soon. */
    CHECK(lease_for_space(&host) == 0);
    owner_host_end(&host);
}

TEST("nights too short by far still make images, and room")
{
    enum { NIGHTS = 24, CHANGED = 40, UPLOADS = 4, CACHE = 4 << 20 };
    struct owner_host host;
    struct control_message reply;
    unsigned images = 0, behind = 0;
    uint64_t seed = 0;

    owner_host_begin(&host, test_dir(), CACHE);
    for (unsigned night = 0; night < NIGHTS; night++) {
        for (uint64_t chunk = 0; chunk < CHANGED; chunk++)
            owner_host_write(&host, chunk, ++seed);
        CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
        control_message_clear(&reply);
        for (unsigned i = 0; i < UPLOADS; i++)
            (void)owner_host_upload(&host, "image");
        CHECK(owner_host_ask_for(&host, "publish", NULL, NULL, &reply) == 0);
        images += owner_host_number(&reply, "left") == 0;
        control_message_clear(&reply);
        owner_host_evict(&host, 60);
        CHECK(catalog_file_pages(device_catalog(host.fixture.device)) *
                  CACHE_PAGE <=
              CACHE / 100 * 60);
        behind += owner_host_status(&host, "behind") == 1;
    }
    CHECK(images >= 2);
    CHECK(behind >= NIGHTS / 2); /* now and then room needs all of it */
    for (uint64_t chunk = 0; chunk < CHANGED; chunk++)
        CHECK(owner_host_has(&host, chunk, seed - CHANGED + 1 + chunk));
    owner_host_end(&host);
}

TEST("room is made while the store does not answer")
{
    struct owner_host host;

    log_set_level(LOG_LEVEL_ERROR);
    owner_host_begin(&host, test_dir(), 64 << 20);
    for (uint64_t chunk = 0; chunk < 8; chunk++)
        owner_host_write(&host, chunk, 100 + chunk);
    CHECK(owner_host_sync(&host) == 8);
    owner_stop(host.owner);
    /* Without an answer at the start, the owner asks at once. */
    fault_store_plan(host.faults, STORE_LIST, 1, 1, STORE_FAILS, -ETIMEDOUT);
    NEED(fixture_reopen(&host.fixture) == 0);
    fault_store_plan(host.faults, STORE_LIST, 1, 0, STORE_HOLDS, 0);
    owner_host_start(&host, 16 << 10); /* less than there is */
    fault_store_wait_held(host.faults, 1);
    while (owner_host_status(&host, "evicted") == 0)
        (void)sched_yield();
    fault_store_clear(host.faults);
    for (uint64_t chunk = 0; chunk < 8; chunk++)
        CHECK(owner_host_has(&host, chunk, 100 + chunk));
    owner_host_end(&host);
}

TEST("a cache that may be smaller from now on is made so, by more at once")
{
    struct owner_limits limits = {
        .cachesize = 16 << 10, /* less than there is */
        .keep = 2,
        .grace_ns = 1,
        .uploads = 7,
    };
    struct owner_host host;

    owner_host_begin(&host, test_dir(), 64 << 20);
    for (uint64_t chunk = 0; chunk < 8; chunk++)
        owner_host_write(&host, chunk, 100 + chunk);
    CHECK(device_destage(host.fixture.device) == 0);
    CHECK(owner_host_status(&host, "evicted") == 0);
    owner_set_limits(host.owner, &limits);
    while (owner_host_status(&host, "evicted") == 0)
        (void)sched_yield();
    /* What was dirty was uploaded first. */
    CHECK(host.owner->uploaders_count == 7);
    for (uint64_t chunk = 0; chunk < 8; chunk++)
        CHECK(owner_host_has(&host, chunk, 100 + chunk));
    owner_host_end(&host);
}
