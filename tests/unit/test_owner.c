/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_store fault_store device_fixture */
#include "cache/owner.h"

#include <inttypes.h>

#include "base/clock.h"
#include "cache/cache_dir.h"
#include "cache/catalog.h"
#include "cache/control_message.h"
#include "cache/epoch.h"
#include "cache/geometry.h"
#include "cache/state_log.h"
#include "support/device_fixture.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum { CHUNK = 1 << 18, HOLDER = 7 };

/* A device with an owner, over a store that counts. */
struct host {
    struct device_fixture fixture;
    struct fault_store *faults;
    struct owner *owner;
    uint64_t connections;
};

static uint64_t connections(void *context)
{
    return ((struct host *)context)->connections;
}

static void start_owner(struct host *host, uint64_t cachesize)
{
    struct owner_options options = {
        .device = host->fixture.device,
        .store = host->fixture.options.store,
        .cachesize = cachesize,
        .keep = 2,
        .grace_ns = UINT64_C(86400) * 1000000000,
        .max_age_ns = 1,
        .uploads = 2,
        .is_daemon = true,
        .connections = connections,
        .context = host,
    };

    NEED(owner_start(&options, &host->owner) == 0);
}

static void begin_with(struct host *host, uint64_t cachesize)
{
    memset(host, 0, sizeof(*host));
    fixture_begin(&host->fixture, test_dir(), false);
    host->faults = fault_store_new(memory_store_new());
    host->fixture.options.store = fault_store_of(host->faults);
    host->fixture.options.cachesize = cachesize;
    host->fixture.options.journal_size = 32 << 20; /* no write is slowed */
    NEED(fixture_open(&host->fixture) == 0);
    start_owner(host, cachesize);
}

static void begin(struct host *host)
{
    begin_with(host, 0);
}

static void end(struct host *host)
{
    owner_stop(host->owner);
    host->owner = NULL;
    fixture_end(&host->fixture);
}

/* Ask; the reply is to be cleared. */
static void ask(struct host *host, struct control_message *request,
                struct control_message *ret_reply)
{
    int error = owner_handle(host->owner, request, HOLDER, ret_reply);

    if (error != 0)
        control_message_start_error(ret_reply, error, "%s", "");
    control_message_clear(request);
}

/* Ask with one key.  Returns the negative errno of an answer "error". */
static int ask_for(struct host *host, const char *verb, const char *key,
                   const char *value, struct control_message *ret_reply)
{
    struct control_message request;
    uint64_t number = 0;

    control_message_start(&request, verb);
    if (key != NULL)
        control_message_add(&request, key, value);
    ask(host, &request, ret_reply);
    if (!control_message_is(ret_reply, "error"))
        return 0;
    (void)control_message_get_number(ret_reply, "errno", 1, 4096, &number);
    return -(int)number;
}

static uint64_t number_of(const struct control_message *reply, const char *key)
{
    uint64_t number = UINT64_MAX;

    CHECK(control_message_get_number(reply, key, 0, UINT64_MAX, &number) == 0);
    return number;
}

/* Upload one chunk as s3blkdev-sync does.  Returns whether there was one. */
static bool upload_one(struct host *host, const char *purpose)
{
    struct device *device = host->fixture.device;
    struct upload_context context = {
        .device_name = device_name(device),
        .store = host->fixture.options.store,
        .fetch = device_fetch(device),
        .chunk_dir = device_chunk_dir(device),
        .chunk_size = device_chunk_size(device),
    };
    struct control_message reply, request;
    struct control_lease lease;
    struct control_report report;
    int error;

    for (;;) {
        CHECK(ask_for(host, "lease", "purpose", purpose, &reply) == 0);
        if (!control_message_is(&reply, "wait"))
            break;
        control_message_clear(&reply);
    }
    if (!control_message_is(&reply, "ok")) {
        control_message_clear(&reply);
        return false;
    }
    error = control_lease_decode(&reply, &lease);
    control_message_clear(&reply);
    CHECK(error == 0);
    if (error != 0)
        return false;
    report.lease = lease.lease;
    report.error = upload_chunk(&context, &lease.work, &report.result);
    control_report_encode(&report, &request);
    ask(host, &request, &reply);
    control_message_clear(&reply);
    return true;
}

/* Checkpoint, upload all, publish.  Returns how many chunks were uploaded. */
static unsigned sync_all(struct host *host)
{
    struct control_message reply;
    unsigned count = 0;

    CHECK(ask_for(host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    while (upload_one(host, "image"))
        count++;
    CHECK(ask_for(host, "publish", NULL, NULL, &reply) == 0);
    CHECK(number_of(&reply, "left") == 0);
    control_message_clear(&reply);
    return count;
}

static void write_chunk(struct host *host, uint64_t chunk, uint64_t seed)
{
    unsigned char data[4 * CACHE_BLOCK];

    fixture_fill(data, sizeof(data), seed);
    CHECK(fixture_write(&host->fixture, chunk * CHUNK, data, sizeof(data), 0) ==
          0);
}

static bool chunk_has(struct host *host, uint64_t chunk, uint64_t seed)
{
    unsigned char expected[4 * CACHE_BLOCK], data[4 * CACHE_BLOCK];

    fixture_fill(expected, sizeof(expected), seed);
    return fixture_read(&host->fixture, chunk * CHUNK, data, sizeof(data)) ==
               0 &&
           memcmp(data, expected, sizeof(data)) == 0;
}

static uint64_t all_calls(struct host *host)
{
    uint64_t sum = 0;

    for (int call = 0; call < STORE_CALLS; call++)
        sum += fault_store_count(host->faults, (enum store_call)call);
    return sum;
}

TEST("what was written becomes an image, and then nothing is left to do")
{
    struct host host;
    struct control_message reply;

    begin(&host);
    write_chunk(&host, 1, 10);
    write_chunk(&host, 5, 50);
    CHECK(ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    CHECK(number_of(&reply, "chunks") == 2);
    CHECK(number_of(&reply, "left") == 2);
    CHECK(number_of(&reply, "joined") == 0);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    CHECK(number_of(&reply, "joined") == 1);
    control_message_clear(&reply);
    CHECK(sync_all(&host) == 2);
    CHECK(ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    CHECK(number_of(&reply, "chunks") == 0);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "state"), "serving") == 0);
    CHECK(number_of(&reply, "dirty_chunks") == 0);
    CHECK(control_message_get(&reply, "oldest_unpublished_ns") == NULL);
    control_message_clear(&reply);
    end(&host);
}

TEST("an idle run of a published device asks the store nothing")
{
    struct host host;
    struct control_message reply;
    uint64_t before;

    begin(&host);
    write_chunk(&host, 1, 10);
    CHECK(sync_all(&host) == 1);
    CHECK(ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    before = all_calls(&host);
    CHECK(sync_all(&host) == 0);
    CHECK(ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(all_calls(&host) == before);
    end(&host);
}

TEST("an idle run after a restart makes at most 3 requests")
{
    struct host host;
    struct control_message reply;
    uint64_t before;

    begin(&host);
    write_chunk(&host, 1, 10);
    CHECK(sync_all(&host) == 1);
    CHECK(ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    owner_stop(host.owner);
    before = all_calls(&host);
    NEED(fixture_reopen(&host.fixture) == 0);
    start_owner(&host, 0);
    CHECK(sync_all(&host) == 0);
    CHECK(ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(all_calls(&host) - before <= 3);
    end(&host);
}

TEST("clean chunks are evicted and come back from the bucket")
{
    struct host host;
    struct control_message reply, request;
    bool is_done = false;

    begin_with(&host, 64 << 20);
    for (uint64_t chunk = 0; chunk < 8; chunk++)
        write_chunk(&host, chunk, 100 + chunk);
    CHECK(sync_all(&host) == 8);
    while (!is_done) {
        control_message_start(&request, "evict");
        control_message_add_number(&request, "above", 0);
        ask(&host, &request, &reply);
        NEED(control_message_is(&reply, "ok"));
        is_done = strcmp(control_message_get(&reply, "state"), "more") != 0;
        if (is_done)
            CHECK(strcmp(control_message_get(&reply, "state"), "done") == 0);
        control_message_clear(&reply);
    }
    CHECK(catalog_file_pages(device_catalog(host.fixture.device)) == 0);
    for (uint64_t chunk = 0; chunk < 8; chunk++)
        CHECK(chunk_has(&host, chunk, 100 + chunk));
    end(&host);
}

TEST("what is dirty is uploaded for room, and goes")
{
    struct host host;
    struct control_message reply, request;
    unsigned rounds = 0;

    begin_with(&host, 64 << 20);
    for (uint64_t chunk = 0; chunk < 4; chunk++)
        write_chunk(&host, chunk, 100 + chunk);
    CHECK(device_destage(host.fixture.device) == 0);
    for (;;) {
        const char *state;
        bool is_done;

        control_message_start(&request, "evict");
        control_message_add_number(&request, "above", 0);
        ask(&host, &request, &reply);
        NEED(control_message_is(&reply, "ok"));
        state = control_message_get(&reply, "state");
        is_done = strcmp(state, "done") == 0;
        if (strcmp(state, "upload") == 0) {
            CHECK(rounds++ < 4);
            while (upload_one(&host, "space"))
                ;
        }
        control_message_clear(&reply);
        if (is_done || test_has_failed)
            break;
    }
    for (uint64_t chunk = 0; chunk < 4; chunk++)
        CHECK(chunk_has(&host, chunk, 100 + chunk));
    end(&host);
}

TEST("a rollback brings the content of the snapshot, and keeps the present")
{
    struct host host;
    struct control_message reply;

    begin(&host);
    write_chunk(&host, 1, 10);
    write_chunk(&host, 2, 20);
    CHECK(sync_all(&host) == 2);
    CHECK(ask_for(&host, "snapshot", "name", "monday", &reply) == 0);
    control_message_clear(&reply);
    write_chunk(&host, 2, 21);
    write_chunk(&host, 3, 30);
    CHECK(ask_for(&host, "rollback", "name", "monday", &reply) == -ENOTEMPTY);
    control_message_clear(&reply);
    CHECK(sync_all(&host) == 2);
    host.connections = 1;
    CHECK(ask_for(&host, "rollback", "name", "monday", &reply) == -EBUSY);
    control_message_clear(&reply);
    host.connections = 0;
    CHECK(ask_for(&host, "rollback", "name", "tuesday", &reply) == -ENOENT);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "rollback", "name", "monday", &reply) == 0);
    control_message_clear(&reply);
    CHECK(chunk_has(&host, 1, 10));
    CHECK(chunk_has(&host, 2, 20));
    CHECK(!chunk_has(&host, 3, 30));
    CHECK(ask_for(&host, "snapshots", NULL, NULL, &reply) == 0);
    NEED(reply.payload != NULL);
    CHECK(memmem(reply.payload, reply.payload_size, "before-rollback-", 16) !=
          NULL);
    control_message_clear(&reply);
    /* And on from there. */
    write_chunk(&host, 3, 31);
    CHECK(sync_all(&host) == 1);
    CHECK(chunk_has(&host, 2, 20) && chunk_has(&host, 3, 31));
    end(&host);
}

TEST("leases of a connection that ended come back")
{
    struct host host;
    struct control_message reply;

    begin(&host);
    write_chunk(&host, 1, 10);
    CHECK(ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "lease", "purpose", "image", &reply) == 0);
    CHECK(control_message_is(&reply, "ok"));
    control_message_clear(&reply);
    CHECK(ask_for(&host, "lease", "purpose", "image", &reply) == 0);
    CHECK(!control_message_is(&reply, "ok"));
    control_message_clear(&reply);
    owner_holder_gone(host.owner, HOLDER);
    CHECK(sync_all(&host) == 1);
    end(&host);
}

TEST("a checkpoint that was open when the process ended goes on")
{
    struct host host;
    struct control_message reply;

    begin(&host);
    write_chunk(&host, 1, 10);
    write_chunk(&host, 2, 20);
    CHECK(ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(upload_one(&host, "image"));
    write_chunk(&host, 2, 21);
    owner_stop(host.owner);
    NEED(fixture_crash(&host.fixture) == 0);
    start_owner(&host, 0);
    CHECK(ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    CHECK(number_of(&reply, "joined") == 1);
    CHECK(number_of(&reply, "left") == 1);
    control_message_clear(&reply);
    CHECK(sync_all(&host) == 1);
    CHECK(chunk_has(&host, 2, 21));
    CHECK(sync_all(&host) == 1);
    end(&host);
}

TEST("a device of which all is published is released, and claimed again")
{
    struct host host;
    struct control_message reply;

    begin(&host);
    write_chunk(&host, 1, 10);
    CHECK(ask_for(&host, "release", NULL, NULL, &reply) == -ENOTEMPTY);
    control_message_clear(&reply);
    CHECK(sync_all(&host) == 1);
    CHECK(ask_for(&host, "release", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "claim"), "released") == 0);
    control_message_clear(&reply);
    /* The owner notices that a write waits. */
    write_chunk(&host, 1, 11);
    CHECK(ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "claim"), "claimed") == 0);
    control_message_clear(&reply);
    end(&host);
}

/* Evict until no more than so many percent are used. */
static void evict_to(struct host *host, uint64_t above)
{
    for (bool is_done = false; !is_done && !test_has_failed;) {
        struct control_message reply, request;
        const char *state;

        control_message_start(&request, "evict");
        control_message_add_number(&request, "above", above);
        ask(host, &request, &reply);
        NEED(control_message_is(&reply, "ok"));
        state = control_message_get(&reply, "state");
        CHECK(strcmp(state, "stuck") != 0);
        if (strcmp(state, "upload") == 0) {
            while (upload_one(host, "space"))
                ;
        }
        is_done = strcmp(state, "done") == 0;
        control_message_clear(&reply);
    }
}

/* Returns the number that the owner's status has for a key. */
static uint64_t status_of(struct host *host, const char *key)
{
    struct control_message reply;
    uint64_t number;

    CHECK(ask_for(host, "status", NULL, NULL, &reply) == 0);
    number = number_of(&reply, key);
    control_message_clear(&reply);
    return number;
}

TEST("nights too short by far still make images, and room")
{
    enum { NIGHTS = 24, CHANGED = 40, UPLOADS = 4, CACHE = 4 << 20 };
    struct host host;
    struct control_message reply;
    unsigned images = 0;
    uint64_t seed = 0;

    begin_with(&host, CACHE);
    for (unsigned night = 0; night < NIGHTS; night++) {
        for (uint64_t chunk = 0; chunk < CHANGED; chunk++)
            write_chunk(&host, chunk, ++seed);
        CHECK(ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
        control_message_clear(&reply);
        for (unsigned i = 0; i < UPLOADS; i++)
            (void)upload_one(&host, "image");
        CHECK(ask_for(&host, "publish", NULL, NULL, &reply) == 0);
        images += number_of(&reply, "left") == 0;
        control_message_clear(&reply);
        evict_to(&host, 60);
        CHECK(catalog_file_pages(device_catalog(host.fixture.device)) *
                  CACHE_PAGE <=
              CACHE / 100 * 60);
        CHECK(status_of(&host, "behind") == 1);
    }
    CHECK(images >= 2);
    for (uint64_t chunk = 0; chunk < CHANGED; chunk++)
        CHECK(chunk_has(&host, chunk, seed - CHANGED + 1 + chunk));
    end(&host);
}

TEST("requests that make no sense are answered, and change nothing")
{
    struct host host;
    struct control_message reply;

    begin(&host);
    CHECK(ask_for(&host, "dance", NULL, NULL, &reply) == -EOPNOTSUPP);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "lease", "purpose", "fun", &reply) == -EINVAL);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "evict", "above", "101", &reply) == -EINVAL);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "snapshot", "name", "../x", &reply) == -EINVAL);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "report", "lease", "1", &reply) == -EINVAL);
    control_message_clear(&reply);
    CHECK(ask_for(&host, "takeover", NULL, NULL, &reply) == -EBUSY);
    control_message_clear(&reply);
    end(&host);
}
