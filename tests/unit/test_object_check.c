/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/object_check.h"

#include <errno.h>

#include "base/crc32c.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

static struct fault_store *fault;
static struct object_store *store;
static const char CONTENT[] = "what was written";
enum { SIZE = sizeof(CONTENT) };

static void begin(void)
{
    fault = fault_store_new(memory_store_new());
    store = fault_store_of(fault);
    CHECK(store->put(store, "a/b", CONTENT, SIZE, false) == 0);
}

/* Returns the state, or the error. */
static int check(const char *key, uint64_t place, size_t size)
{
    char data[2 * SIZE];
    enum object_state state;
    uint32_t checksum =
        place + size <= SIZE ? crc32c(0, CONTENT + place, size) : 0;
    int error = object_check(store, key, place, data, size, checksum, &state);

    return error != 0 ? error : (int)state;
}

TEST("what is there as it was written is good, in part too")
{
    begin();
    CHECK(check("a/b", 0, SIZE) == OBJECT_GOOD);
    CHECK(check("a/b", 5, 3) == OBJECT_GOOD);
    store->close(store);
}

TEST("missing, short and changed are told apart")
{
    begin();
    CHECK(check("a/c", 0, SIZE) == OBJECT_MISSING);
    CHECK(check("a/b", 1, SIZE) == OBJECT_SHORT);
    CHECK(check("a/b", SIZE + 5, 1) == OBJECT_SHORT);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_CORRUPTS, 0);
    CHECK(check("a/b", 0, SIZE) == OBJECT_CHANGED);
    store->close(store);
}

TEST("a store that does not answer has not lost anything")
{
    begin();
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -ETIMEDOUT);
    CHECK(check("a/b", 0, SIZE) == -ETIMEDOUT);
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
    fault_store_plan(fault, STORE_HEAD, 1, 0, STORE_FAILS, -EACCES);
    CHECK(check("a/b", 0, SIZE) == -EACCES);
    store->close(store);
}

TEST("what the store knows of and cannot read is tried twice")
{
    begin();
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -EIO);
    CHECK(check("a/b", 0, SIZE) == OBJECT_GOOD);
    fault_store_plan(fault, STORE_GET, 1, 2, STORE_FAILS, -EIO);
    CHECK(check("a/b", 0, SIZE) == OBJECT_UNREADABLE);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ENOENT);
    CHECK(check("a/b", 0, SIZE) == OBJECT_GOOD);
    store->close(store);
}

TEST("each state has its words")
{
    for (int state = OBJECT_GOOD; state <= OBJECT_UNREADABLE; state++) {
        for (int other = OBJECT_GOOD; other < state; other++)
            CHECK(strcmp(object_state_text((enum object_state)state),
                         object_state_text((enum object_state)other)) != 0);
    }
}
