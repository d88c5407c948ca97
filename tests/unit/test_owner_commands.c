/* SPDX-License-Identifier: BSD-2-Clause */
/* links: owner_host memory_store fault_store device_fixture */
#include "cache/owner_parts.h"

#include "support/owner_host.h"
#include "unit/test.h"

TEST("leases of a connection that ended come back")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "lease", "purpose", "image", &reply) == 0);
    CHECK(control_message_is(&reply, "ok"));
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "lease", "purpose", "image", &reply) == 0);
    CHECK(!control_message_is(&reply, "ok"));
    control_message_clear(&reply);
    owner_holder_gone(host.owner, OWNER_HOST_HOLDER);
    CHECK(owner_host_sync(&host) == 1);
    owner_host_end(&host);
}

TEST("requests that make no sense are answered, and change nothing")
{
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 0);
    CHECK(owner_host_ask_for(&host, "dance", NULL, NULL, &reply) ==
          -EOPNOTSUPP);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "lease", "purpose", "fun", &reply) ==
          -EINVAL);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "evict", "above", "101", &reply) ==
          -EINVAL);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "snapshot", "name", "../x", &reply) ==
          -EINVAL);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "report", "lease", "1", &reply) == -EINVAL);
    control_message_clear(&reply);
    CHECK(owner_host_ask_for(&host, "takeover", NULL, NULL, &reply) == -EBUSY);
    control_message_clear(&reply);
    owner_host_end(&host);
}
