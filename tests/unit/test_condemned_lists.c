/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/condemned_lists.h"

#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

static struct condemned entries[CONDEMNED_COUNT_MAX];

/* Put a page with one root in it. */
static void put_page(struct object_store *store, uint64_t epoch, uint32_t page,
                     bool is_end)
{
    static unsigned char data[CONDEMNED_PAGE_MAX];
    struct condemned root = {CONDEMNED_ROOT, 0, epoch, 7, 3};
    struct condemned_page head = {.epoch = epoch,
                                  .nonce = 9,
                                  .page = page,
                                  .is_end = is_end,
                                  .count = !is_end};
    char key[CONDEMNED_KEY_MAX];

    condemned_key("disk", &head, key);
    CHECK(store->put(store, key, data, condemned_encode(&head, &root, data),
                     true) == 0);
}

TEST("lists are told with their pages, gaps and ends")
{
    struct object_store *store = memory_store_new();
    struct condemned_lists lists;

    CHECK(condemned_lists_read(store, "disk", &lists) == 0);
    CHECK(lists.count == 0);
    condemned_lists_done(&lists);
    put_page(store, 1, 0, false);
    put_page(store, 1, 1, false);
    memory_store_set_time(store, 1234);
    put_page(store, 1, 2, true);
    put_page(store, 2, 1, false);
    put_page(store, 3, 0, true);
    CHECK(store->put(store, "disk/condemned/x", "", 0, true) == 0);
    CHECK(store->put(store,
                     "disk/condemned/0000000000000001-0000000000000009/ende",
                     "", 0, true) == 0);
    CHECK(condemned_lists_read(store, "disk", &lists) == 0);
    if (CHECK(lists.count == 3)) {
        CHECK(lists.items[0].epoch == 1 && lists.items[0].nonce == 9);
        CHECK(lists.items[0].pages == 2 && lists.items[0].has_end &&
              !lists.items[0].has_other && lists.items[0].ended_ns == 1234);
        CHECK(lists.items[1].pages == 0 && lists.items[1].has_other &&
              !lists.items[1].has_end);
        CHECK(lists.items[2].pages == 0 && lists.items[2].has_end);
    }
    condemned_lists_done(&lists);
    store->close(store);
}

TEST("a page is read, and must be the one that its key says")
{
    struct fault_store *fault = fault_store_new(memory_store_new());
    struct object_store *store = fault_store_of(fault);
    struct condemned_list list = {.epoch = 1, .nonce = 9};
    static unsigned char data[CONDEMNED_PAGE_MAX];
    struct condemned_page page = {.epoch = 2, .nonce = 9};
    char key[CONDEMNED_KEY_MAX];

    put_page(store, 1, 0, false);
    put_page(store, 1, 1, true);
    CHECK(condemned_lists_page(store, "disk", &list, 0, false, &page,
                               entries) == 0);
    CHECK(page.count == 1 && entries[0].number == 3);
    CHECK(condemned_lists_page(store, "disk", &list, 0, true, &page, entries) ==
          0);
    CHECK(page.count == 0 && page.page == 1);
    CHECK(condemned_lists_page(store, "disk", &list, 1, false, &page,
                               entries) == -EIO);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_CORRUPTS, 0);
    CHECK(condemned_lists_page(store, "disk", &list, 0, false, &page,
                               entries) == -EIO);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(condemned_lists_page(store, "disk", &list, 0, false, &page,
                               entries) == -ETIMEDOUT);
    fault_store_clear(fault);
    /* Another page below this key. */
    page = (struct condemned_page){.epoch = 2, .nonce = 9};
    list.epoch = 1;
    condemned_key("disk",
                  &(struct condemned_page){.epoch = 1, .nonce = 9, .page = 5},
                  key);
    CHECK(store->put(store, key, data, condemned_encode(&page, entries, data),
                     true) == 0);
    CHECK(condemned_lists_page(store, "disk", &list, 5, false, &page,
                               entries) == -EIO);
    store->close(store);
}

TEST("a root on any list is condemned; without an answer, nobody knows")
{
    struct fault_store *fault = fault_store_new(memory_store_new());
    struct object_store *store = fault_store_of(fault);
    struct root_ref root = {.epoch = 2, .nonce = 7, .page = 3, .size = 1};
    bool is_condemned = true;

    CHECK(condemned_lists_have_root(store, "disk", &root, &is_condemned) == 0);
    CHECK(!is_condemned);
    put_page(store, 1, 0, false);
    put_page(store, 2, 0, false);
    put_page(store, 3, 0, true);
    CHECK(condemned_lists_have_root(store, "disk", &root, &is_condemned) == 0);
    CHECK(is_condemned);
    root.page = 4;
    CHECK(condemned_lists_have_root(store, "disk", &root, &is_condemned) == 0);
    CHECK(!is_condemned);
    fault_store_plan(fault, STORE_GET, 2, 1, STORE_FAILS, -EIO);
    CHECK(condemned_lists_have_root(store, "disk", &root, &is_condemned) ==
          -EIO);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -ENOENT);
    CHECK(condemned_lists_have_root(store, "disk", &root, &is_condemned) ==
          -EIO);
    store->close(store);
}
