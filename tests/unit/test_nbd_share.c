/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_share.h"

#include "unit/test.h"

enum { MIB = 1 << 20 };

static void ignore(struct nbd_memory_waiter *waiter)
{
    (void)waiter;
}

TEST("the first MiB is the connection's own, and more comes out of the budget")
{
    struct nbd_memory *memory = NULL;
    struct nbd_share share;
    struct nbd_buffer small[5] = {{0}};

    NEED(nbd_memory_new(64 * MIB, &memory) == 0);
    nbd_share_init(&share, memory, ignore);
    for (size_t i = 0; i < 5; i++) {
        CHECK(nbd_share_borrow(&share, 200000, &small[i]) == 0);
        CHECK(small[i].size == 262144 && small[i].is_shared == (i == 4));
    }
    CHECK(nbd_memory_used(memory) == 262144);
    CHECK(nbd_share_is_used(&share) && !nbd_share_is_missed(&share));
    for (size_t i = 0; i < 5; i++)
        nbd_share_return(&share, &small[i]);
    nbd_share_return(&share, &small[0]);
    CHECK(nbd_memory_used(memory) == 0 && !nbd_share_is_used(&share));
    nbd_memory_free(memory);
}

TEST("one connection gets no more than its part of the budget, and the "
     "largest buffer when it has none")
{
    struct nbd_memory *memory = NULL;
    struct nbd_share share;
    struct nbd_buffer large = {0}, more = {0};

    NEED(nbd_memory_new(512U * MIB, &memory) == 0);
    nbd_share_init(&share, memory, ignore);
    CHECK(nbd_share_borrow(&share, NBD_SHARED_MEMORY_MAX, &large) == 0);
    CHECK(nbd_share_borrow(&share, 2 * MIB, &more) == -EAGAIN);
    CHECK(more.size == 0);
    nbd_share_return(&share, &large);
    CHECK(nbd_share_borrow(&share, 2 * MIB, &more) == 0);
    nbd_share_return(&share, &more);
    nbd_memory_free(memory);
}

TEST("what one connection has, another one misses that stands in line, until "
     "it leaves")
{
    struct nbd_memory *memory = NULL;
    struct nbd_share has, misses;
    struct nbd_buffer buffer = {0}, other = {0};

    NEED(nbd_memory_new(64 * MIB, &memory) == 0);
    nbd_share_init(&has, memory, ignore);
    nbd_share_init(&misses, memory, ignore);
    CHECK(nbd_share_borrow(&has, 64 * MIB, &buffer) == 0);
    CHECK(nbd_share_borrow(&misses, 2 * MIB, &other) == -EAGAIN);
    CHECK(nbd_share_is_missed(&has) && !nbd_share_is_missed(&misses));
    nbd_share_leave(&misses);
    CHECK(!nbd_share_is_missed(&has));
    /* What is its own it gets all the same. */
    CHECK(nbd_share_borrow(&misses, MIB, &other) == 0);
    nbd_share_return(&misses, &other);
    nbd_share_return(&has, &buffer);
    nbd_memory_free(memory);
}
