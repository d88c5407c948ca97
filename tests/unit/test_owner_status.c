/* SPDX-License-Identifier: BSD-2-Clause */
/* links: owner_host memory_store fault_store device_fixture */
#include "cache/owner_parts.h"

#include "support/owner_host.h"
#include "unit/test.h"

TEST("status tells what is dirty, and since when, until it is published")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 1 << 24);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "state"), "new") == 0);
    CHECK(strcmp(control_message_get(&reply, "checkpoint"), "none") == 0);
    CHECK(control_message_get(&reply, "image_epoch") == NULL);
    CHECK(control_message_get(&reply, "oldest_unpublished_ns") == NULL);
    control_message_clear(&reply);
    owner_host_write(&host, 1, 10);
    CHECK(owner_host_status(&host, "oldest_unpublished_ns") > 0);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_status(&host, "checkpoint_left") == 1);
    CHECK(owner_host_status(&host, "dirty_chunks") == 1);
    CHECK(owner_host_sync(&host) == 1);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "state"), "serving") == 0);
    CHECK(strcmp(control_message_get(&reply, "claim"), "claimed") == 0);
    CHECK(control_message_get(&reply, "oldest_unpublished_ns") == NULL);
    CHECK(owner_host_number(&reply, "image_epoch") > 0);
    CHECK(owner_host_number(&reply, "uploaded") > 0);
    CHECK(owner_host_number(&reply, "dirty_chunks") == 0);
    CHECK(owner_host_number(&reply, "behind") == 0);
    CHECK(owner_host_number(&reply, "cache_limit") == 1 << 24);
    control_message_clear(&reply);
    owner_host_end(&host);
}

TEST("status tells what the chunks are, and who uploads them")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 1 << 24);
    owner_host_write(&host, 1, 10);
    owner_host_write(&host, 3, 11);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strcmp(control_message_get(&reply, "syncs"), "") == 0);
    CHECK(owner_host_number(&reply, "dirty_chunks") == 2);
    CHECK(owner_host_number(&reply, "clean_chunks") == 0);
    CHECK(owner_host_number(&reply, "all_chunks") >= 4);
    CHECK(owner_host_number(&reply, "room_begin_percent") >
          owner_host_number(&reply, "room_end_percent"));
    control_message_clear(&reply);
    CHECK(owner_host_upload(&host, "image"));
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(strchr(control_message_get(&reply, "syncs"), ':') != NULL);
    CHECK(owner_host_number(&reply, "dirty_chunks") == 1);
    CHECK(owner_host_number(&reply, "clean_chunks") == 1);
    CHECK(owner_host_number(&reply, "uploaded_chunks") == 1);
    control_message_clear(&reply);
    owner_host_end(&host);
}

TEST("status tells what keeps a device from the bucket, and when it is over")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_upload(&host, "image"));
    fault_store_plan(host.faults, STORE_PUT, 1, 0, STORE_FAILS, -EIO);
    (void)owner_host_ask_for(&host, "publish", NULL, NULL, &reply);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(control_message_get(&reply, "held") != NULL);
    control_message_clear(&reply);
    fault_store_clear(host.faults);
    CHECK(owner_host_sync(&host) == 0);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(control_message_get(&reply, "held") == NULL);
    control_message_clear(&reply);
    owner_host_end(&host);
}

TEST("status has what the store says of itself as its payload")
{
    static const char text[] = "{\"endpoints\": []}";
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 1 << 24);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(reply.payload_size == 0);
    control_message_clear(&reply);
    fault_store_describe_as(host.faults, text);
    CHECK(owner_host_ask_for(&host, "status", NULL, NULL, &reply) == 0);
    CHECK(reply.payload_size == strlen(text) &&
          memcmp(reply.payload, text, strlen(text)) == 0);
    control_message_clear(&reply);
    owner_host_end(&host);
}
