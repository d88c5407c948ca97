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

/* Ask for a chunk of these hundredths, as a holder of its own. */
static void ask_for_lease(struct owner_host *host, uint64_t holder,
                          unsigned from, unsigned to,
                          struct control_message *ret_reply)
{
    struct control_message request;

    control_message_start(&request, "lease");
    control_message_add(&request, "purpose", "image");
    control_message_add_number(&request, "from", from);
    control_message_add_number(&request, "to", to);
    CHECK(owner_handle(host->owner, &request, holder, ret_reply) == 0);
    control_message_clear(&request);
}

TEST("while others have chunks of its share in hand, nobody is done with it")
{
    unsigned percent = lease_percent(1);
    struct owner_host host;
    struct control_message reply;

    owner_host_begin(&host, test_dir(), 0);
    owner_host_write(&host, 1, 10);
    CHECK(owner_host_ask_for(&host, "checkpoint", NULL, NULL, &reply) == 0);
    control_message_clear(&reply);
    ask_for_lease(&host, 100, 0, 100, &reply);
    CHECK(control_message_is(&reply, "ok"));
    control_message_clear(&reply);

    ask_for_lease(&host, 101, 0, 100, &reply);
    CHECK(control_message_is(&reply, "wait"));
    control_message_clear(&reply);
    ask_for_lease(&host, 101, percent, percent + 1, &reply);
    CHECK(control_message_is(&reply, "wait"));
    control_message_clear(&reply);
    /* The share of others is theirs. */
    ask_for_lease(&host, 101, percent == 0, percent == 0 ? 100 : percent,
                  &reply);
    CHECK(control_message_is(&reply, "none"));
    CHECK(owner_host_number(&reply, "left") == 1);
    control_message_clear(&reply);

    owner_holder_gone(host.owner, 100);
    ask_for_lease(&host, 101, 0, 100, &reply);
    CHECK(control_message_is(&reply, "ok"));
    control_message_clear(&reply);
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
