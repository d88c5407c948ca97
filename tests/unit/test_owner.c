/* SPDX-License-Identifier: BSD-2-Clause */
/* links: owner_host memory_store fault_store device_fixture */
#include "cache/owner.h"

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
