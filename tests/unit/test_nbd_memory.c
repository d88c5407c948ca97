/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_memory.h"

#include <stdint.h>

#include "unit/test.h"

struct counted {
    struct nbd_memory_waiter waiter; /* first */
    int woken;
};

static void wake(struct nbd_memory_waiter *waiter)
{
    ((struct counted *)waiter)->woken++;
}

static struct nbd_memory *make(size_t max)
{
    struct nbd_memory *memory = NULL;

    if (nbd_memory_new(max, &memory) < 0)
        abort();
    return memory;
}

TEST("the budget is given out to its last byte, and no further")
{
    struct nbd_memory *memory = make(100);
    struct counted one = {.waiter.wake = wake};

    CHECK(nbd_memory_take(memory, &one.waiter, 60));
    CHECK(nbd_memory_take(memory, &one.waiter, 40));
    CHECK(nbd_memory_used(memory) == 100);
    CHECK(!nbd_memory_take(memory, &one.waiter, 1));
    nbd_memory_give(memory, 40);
    CHECK(one.woken == 1);
    CHECK(nbd_memory_take(memory, &one.waiter, 1));
    nbd_memory_give(memory, 61);
    CHECK(nbd_memory_used(memory) == 0);
    CHECK(one.woken == 1);
    nbd_memory_free(memory);
    nbd_memory_free(NULL);
}

TEST("who came first is served first, also when another needs less")
{
    struct nbd_memory *memory = make(100);
    struct counted large = {.waiter.wake = wake};
    struct counted small = {.waiter.wake = wake};

    CHECK(nbd_memory_take(memory, &small.waiter, 50));
    CHECK(!nbd_memory_take(memory, &large.waiter, 60));
    CHECK(!nbd_memory_take(memory, &small.waiter, 10));
    CHECK(!nbd_memory_take(memory, &large.waiter, 60));
    nbd_memory_give(memory, 50);
    CHECK(large.woken == 1 && small.woken == 0);
    CHECK(!nbd_memory_take(memory, &small.waiter, 10));
    CHECK(nbd_memory_take(memory, &large.waiter, 60));
    CHECK(small.woken == 1);
    CHECK(nbd_memory_take(memory, &small.waiter, 10));
    nbd_memory_give(memory, 70);
    nbd_memory_free(memory);
}

TEST("who leaves the line lets the next one come, from any place in it")
{
    struct nbd_memory *memory = make(10);
    struct counted all[3] = {
        {.waiter.wake = wake}, {.waiter.wake = wake}, {.waiter.wake = wake}};
    struct counted holder = {.waiter.wake = wake};

    CHECK(!nbd_memory_is_short(memory, &holder.waiter));
    CHECK(nbd_memory_take(memory, &holder.waiter, 10));
    CHECK(!nbd_memory_take(memory, &all[0].waiter, 1));
    CHECK(nbd_memory_is_short(memory, &holder.waiter));
    CHECK(!nbd_memory_is_short(memory, &all[0].waiter));
    CHECK(!nbd_memory_take(memory, &all[1].waiter, 1));
    CHECK(nbd_memory_is_short(memory, &all[0].waiter));
    CHECK(!nbd_memory_take(memory, &all[2].waiter, 1));
    nbd_memory_leave(memory, &all[1].waiter);
    nbd_memory_leave(memory, &all[1].waiter);
    nbd_memory_leave(memory, &all[0].waiter);
    CHECK(all[2].woken > 0);
    nbd_memory_give(memory, 10);
    CHECK(nbd_memory_take(memory, &all[2].waiter, 1));
    nbd_memory_give(memory, 1);
    nbd_memory_free(memory);
}

TEST("buffers are powers of two from 8 KiB to 64 MiB, and come back to who "
     "needs that size next")
{
    struct nbd_memory *memory = make(1);
    void *first, *second;

    CHECK(nbd_memory_buffer_size(1) == 8192);
    CHECK(nbd_memory_buffer_size(8192) == 8192);
    CHECK(nbd_memory_buffer_size(8193) == 16384);
    CHECK(nbd_memory_buffer_size((1 << 20) + 1) == 2 << 20);
    CHECK(nbd_memory_buffer_size(64 << 20) == 64 << 20);
    first = nbd_memory_borrow(memory, 1 << 20);
    NEED(first);
    CHECK((uintptr_t)first % 4096 == 0);
    memset(first, 1, 1 << 20);
    nbd_memory_return(memory, first, 1 << 20);
    second = nbd_memory_borrow(memory, 1 << 20);
    CHECK(second == first);
    nbd_memory_return(memory, second, 1 << 20);
    nbd_memory_return(memory, NULL, 1 << 20);
    nbd_memory_free(memory);
}

TEST("a size that is used now displaces kept buffers of another")
{
    struct nbd_memory *memory = make(1);
    void *small[40], *large, *again;

    for (size_t i = 0; i < 40; i++) {
        small[i] = nbd_memory_borrow(memory, 1 << 20);
        NEED(small[i]);
    }
    for (size_t i = 0; i < 40; i++)
        nbd_memory_return(memory, small[i], 1 << 20);
    large = nbd_memory_borrow(memory, 16 << 20);
    NEED(large);
    nbd_memory_return(memory, large, 16 << 20);
    again = nbd_memory_borrow(memory, 16 << 20);
    CHECK(again == large);
    nbd_memory_return(memory, again, 16 << 20);
    nbd_memory_free(memory);
}

TEST("a budget that grows serves who is first in line, and one that shrinks "
     "waits for what is taken")
{
    struct nbd_memory *memory = make(100);
    struct counted one = {.waiter.wake = wake}, two = {.waiter.wake = wake};

    CHECK(nbd_memory_take(memory, &one.waiter, 100));
    CHECK(!nbd_memory_take(memory, &two.waiter, 50));
    nbd_memory_limit(memory, 150);
    CHECK(two.woken == 1);
    CHECK(nbd_memory_take(memory, &two.waiter, 50));
    nbd_memory_limit(memory, 60);
    CHECK(!nbd_memory_take(memory, &one.waiter, 1));
    nbd_memory_give(memory, 90);
    CHECK(!nbd_memory_take(memory, &one.waiter, 1));
    nbd_memory_give(memory, 10);
    CHECK(nbd_memory_take(memory, &one.waiter, 10));
    CHECK(nbd_memory_used(memory) == 60);
    nbd_memory_give(memory, 60);
    nbd_memory_free(memory);
}
