/* SPDX-License-Identifier: BSD-2-Clause */
/* links: owner_host memory_store fault_store device_fixture remote_chunk */
#include "cache/owner_parts.h"

#include <pthread.h>

#include "cache/geometry.h"
#include "support/owner_host.h"
#include "support/remote_chunk.h"
#include "unit/test.h"

TEST("what was written becomes an image, and then nothing is left to do")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    owner_host_write(&host, 5, 50);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    CHECK(owner_host_number(&reply, "chunks") == 2);
    CHECK(owner_host_number(&reply, "left") == 2);
    CHECK(owner_host_number(&reply, "joined") == 0);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    CHECK(owner_host_number(&reply, "joined") == 1);
    control_message_clear(&reply);
    CHECK(owner_host_sync(&host) == 2);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    CHECK(owner_host_number(&reply, "chunks") == 0);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "state"), "serving") == 0);
    CHECK(owner_host_number(&reply, "dirty_chunks") == 0);
    CHECK(control_message_get(&reply, "oldest_unpublished_ns") == NULL);
    control_message_clear(&reply);
    owner_host_end(&host);
}

TEST("what changed nothing is in the image that there is")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    CHECK(owner_host_sync(&host) == 1);
    /* As fstrim does, where nothing ever was. */
    CHECK(fixture_trim(&host.fixture, UINT64_C(3) * OWNER_HOST_CHUNK,
                       2 * OWNER_HOST_CHUNK) == 0);
    CHECK(owner_host_sync(&host) == 0);
    NEED(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(control_message_get(&reply, "oldest_unpublished_ns") == NULL);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "release", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    owner_host_end(&host);
}

TEST("an idle run of a published device asks the store nothing")
{
    struct owner_host host;
    struct control_message reply;
    uint64_t before;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    CHECK(owner_host_sync(&host) == 1);
    CHECK(owner_host_ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    before = owner_host_calls(&host);
    CHECK(owner_host_sync(&host) == 0);
    CHECK(owner_host_ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_calls(&host) == before);
    owner_host_end(&host);
}

TEST("an idle run of 100,000 clean chunks asks the store nothing, nor after a"
     " restart more than 3 times")
{
    const uint64_t chunks = 100000;
    struct owner_host host;
    struct control_message reply;
    uint64_t before;

    owner_host_begin(&host, test_dir(), 0);
    owner_stop(host.owner);
    host.fixture.options.size = chunks * OWNER_HOST_CHUNK;
    NEED(fixture_reopen(&host.fixture) == 0);
    remote_commit_many(host.fixture.device, chunks);
    owner_host_start(&host, 0);
    CHECK(owner_host_sync(&host) == 0); /* an image of what is there */
    CHECK(owner_host_ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_status(&host, "chunks") == chunks);
    before = owner_host_calls(&host);
    CHECK(owner_host_sync(&host) == 0);
    CHECK(owner_host_ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_calls(&host) == before);

    owner_stop(host.owner);
    NEED(fixture_close(&host.fixture) == 0);
    before = owner_host_calls(&host);
    NEED(fixture_open(&host.fixture) == 0);
    owner_host_start(&host, 0);
    CHECK(owner_host_sync(&host) == 0);
    CHECK(owner_host_ask_for(&host, "collect", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_status(&host, "chunks") == chunks);
    CHECK(owner_host_calls(&host) - before <= 3);
    owner_host_end(&host);
}

TEST("a rollback brings the content of the snapshot, and keeps the present")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    owner_host_write(&host, 2, 20);
    CHECK(owner_host_sync(&host) == 2);
    CHECK(owner_host_ask_for(&host, "snapshot", "name", "monday", &reply) == 0);
    control_message_clear(&reply);
    owner_host_write(&host, 2, 21);
    owner_host_write(&host, 3, 30);
    CHECK(owner_host_ask_for(&host, "rollback", "name", "monday", &reply) ==
          -ENOTEMPTY);
    control_message_clear(&reply);
    CHECK(owner_host_sync(&host) == 2);
    host.connections = 1;
    CHECK(owner_host_ask_for(&host, "rollback", "name", "monday", &reply) ==
          -EBUSY);
    control_message_clear(&reply);
    host.connections = 0;
    CHECK(owner_host_ask_for(&host, "rollback", "name", "tuesday", &reply) ==
          -ENOENT);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "rollback", "name", "monday", &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_has(&host, 1, 10));
    CHECK(owner_host_has(&host, 2, 20));
    CHECK(!owner_host_has(&host, 3, 30));
    CHECK(owner_host_ask_for(&host, "snapshots", NULL, NULL, &reply) == 0);
    NEED(reply.payload != NULL);
    CHECK(memmem(reply.payload, reply.payload_size, "before-rollback-", 16) !=
          NULL);
    control_message_clear(&reply);
    /* And on from there. */
    owner_host_write(&host, 3, 31);
    CHECK(owner_host_sync(&host) == 1);
    CHECK(owner_host_has(&host, 2, 20) && owner_host_has(&host, 3, 31));
    owner_host_end(&host);
}

/* Rolls back while the test goes on. */
static void *roll_back(void *context)
{
    struct owner_host *host = context;
    struct control_message reply;
    int error = owner_host_ask_for(host, "rollback", "name", "monday", &reply);

    control_message_clear(&reply);
    return error == 0 ? host : NULL;
}

TEST("who attaches while a rollback is made gets neither content, nor a write")
{
    struct owner_host host;
    struct control_message reply;
    pthread_t thread;
    char data[CACHE_PAGE] = "new";
    void *result;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    CHECK(owner_host_sync(&host) == 1);
    CHECK(owner_host_ask_for(&host, "snapshot", "name", "monday", &reply) == 0);
    control_message_clear(&reply);
    owner_host_write(&host, 1, 11);
    CHECK(owner_host_sync(&host) == 1);
    fault_store_plan(host.faults, STORE_PUT, 2, 1, STORE_HOLDS, 0);
    NEED(pthread_create(&thread, NULL, roll_back, &host) == 0);
    fault_store_wait_held(host.faults, 1);
    CHECK(fixture_read(&host.fixture, OWNER_HOST_CHUNK, data, CACHE_PAGE) ==
          -EIO);
    CHECK(fixture_write(&host.fixture, 0, data, CACHE_PAGE, 0) == -EIO);
    fault_store_release(host.faults);
    CHECK(pthread_join(thread, &result) == 0 && result != NULL);
    CHECK(owner_host_has(&host, 1, 10));
    owner_host_write(&host, 1, 12);
    CHECK(owner_host_has(&host, 1, 12));
    owner_host_end(&host);
}
