/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/lease_holders.h"

#include "unit/test.h"

TEST("what a holder has in its hands, and has done, is counted")
{
    struct lease_holders holders = {.count = 0};

    lease_holders_take(&holders, 7, 1000);
    lease_holders_take(&holders, 9, 2000);
    lease_holders_take(&holders, 7, 3000);
    lease_holders_uploaded(&holders, 7, 500);
    lease_holders_give_back(&holders, 7);
    CHECK(holders.count == 2);
    CHECK(holders.list[0].holder == 7 && holders.list[0].since_ns == 1000);
    CHECK(holders.list[0].leased == 1 && holders.list[0].chunks == 1 &&
          holders.list[0].bytes == 500);
    CHECK(holders.list[1].holder == 9 && holders.list[1].since_ns == 2000);
    CHECK(holders.list[1].leased == 1 && holders.list[1].chunks == 0);
}

TEST("the owner itself is not told of")
{
    struct lease_holders holders = {.count = 0};

    lease_holders_take(&holders, 0, 1000);
    lease_holders_uploaded(&holders, 0, 500);
    lease_holders_give_back(&holders, 0);
    lease_holders_remove(&holders, 0);
    CHECK(holders.count == 0);
}

TEST("one that is gone leaves, and the others stay as they are")
{
    struct lease_holders holders = {.count = 0};

    for (uint64_t i = 1; i <= 3; i++)
        lease_holders_take(&holders, i, i);
    lease_holders_remove(&holders, 2);
    lease_holders_remove(&holders, 2);
    CHECK(holders.count == 2);
    CHECK(holders.list[0].holder == 1 && holders.list[1].holder == 3);
    CHECK(holders.list[1].since_ns == 3 && holders.list[1].leased == 1);
    lease_holders_give_back(&holders, 2);
    lease_holders_uploaded(&holders, 2, 1);
    CHECK(holders.list[0].leased == 1 && holders.list[1].chunks == 0);
}

TEST("more than there is room for are not told of, and harm nothing")
{
    struct lease_holders holders = {.count = 0};

    for (uint64_t i = 1; i <= LEASE_HOLDERS_MAX + 2; i++)
        lease_holders_take(&holders, i, i);
    CHECK(holders.count == LEASE_HOLDERS_MAX);
    lease_holders_give_back(&holders, LEASE_HOLDERS_MAX + 1);
    lease_holders_uploaded(&holders, LEASE_HOLDERS_MAX + 1, 1);
    lease_holders_remove(&holders, LEASE_HOLDERS_MAX + 1);
    lease_holders_remove(&holders, 1);
    CHECK(holders.count == LEASE_HOLDERS_MAX - 1);
    lease_holders_take(&holders, 100, 5);
    CHECK(holders.list[LEASE_HOLDERS_MAX - 1].holder == 100);
}
