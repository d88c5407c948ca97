/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include <errno.h>

#include "base/log.h"
#include "cache/destage_parts.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum { PAGE = CACHE_PAGE, CHUNK = 256 << 10 };

static struct device_fixture disk;

static bool begin(uint64_t cachesize)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    disk.options.cachesize = cachesize;
    return CHECK(fixture_open(&disk) == 0);
}

static void end(void)
{
    fault_reset();
    fixture_end(&disk);
}

struct item {
    _Atomic unsigned runs;
    struct fold_device *device;
};

static void run_item(struct fold_device *device, void *context)
{
    struct item *item = context;

    item->device = device;
    atomic_fetch_add(&item->runs, 1);
}

TEST("a step runs once for each item, and has ended when it returns")
{
    static struct item items[300];

    NEED(begin(0));
    for (size_t count = 0; count <= 300; count += 75) {
        memset(items, 0, sizeof(items));
        destage_for_all(disk.device->destage, items, sizeof(items[0]), count,
                        run_item);
        for (size_t i = 0; i < 300; i++) {
            CHECK(atomic_load(&items[i].runs) == (i < count ? 1 : 0));
            CHECK(i >= count || items[i].device == &disk.device->fold);
        }
    }
    end();
}

TEST("helpers are there from the first step of two items on; stopped before "
     "that, a destage has none")
{
    static struct item items[2];
    struct destage *destage;

    NEED(begin(0));
    destage = disk.device->destage;
    CHECK(destage->helpers == NULL);
    destage_for_all(destage, items, sizeof(items[0]), 1, run_item);
    CHECK(destage->helpers == NULL && atomic_load(&items[0].runs) == 1);
    NEED(fixture_reopen(&disk) == 0);
    destage = disk.device->destage;
    destage_for_all(destage, items, sizeof(items[0]), 2, run_item);
    CHECK(destage->helpers != NULL);
    CHECK(atomic_load(&items[0].runs) == 2 && atomic_load(&items[1].runs) == 1);
    end();
}

TEST("full is what a disk, or a quota, says")
{
    CHECK(destage_is_full(-ENOSPC) && destage_is_full(-EDQUOT));
    CHECK(!destage_is_full(0) && !destage_is_full(-EIO));
}

TEST("what chunk files take is measured against cachesize, or the disk")
{
    unsigned char data[PAGE];
    struct destage_space space;

    NEED(begin(0));
    destage_get_space(disk.device->destage, &space);
    CHECK(space.used == 0 && space.limit > 0 && space.room == space.limit);
    CHECK(space.tight > 0 && space.tight < space.limit);
    CHECK(fixture_close(&disk) == 0);
    disk.options.cachesize = 1 << 20;
    NEED(fixture_open(&disk) == 0);
    fixture_fill(data, PAGE, 1);
    CHECK(fixture_write(&disk, 0, data, PAGE, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    destage_get_space(disk.device->destage, &space);
    CHECK(space.used > PAGE && space.used % PAGE == 0);
    CHECK(space.limit == 1 << 20);
    CHECK(space.room == space.limit - space.used);
    CHECK(space.tight == space.limit / 16);
    CHECK(fixture_status(&disk).cache_used == space.used);
    CHECK(fixture_status(&disk).cache_limit == space.limit);
    CHECK(fixture_status(&disk).dirty_chunks == 1);
    CHECK(fixture_status(&disk).dirty_bytes >= space.used);
    end();
}

TEST("a state log that is lost ends destage; a full disk does not")
{
    struct fault_calls writes = {FAULT_WRITE, "/state/", 1};
    struct state_change change = {.kind = STATE_COUNTER, .number = 5};

    NEED(begin(0));
    CHECK(destage_commit(disk.device->destage, &change, 0) == 0);
    CHECK(destage_commit(disk.device->destage, &change, 1) == 0);
    change = (struct state_change){
        .kind = STATE_CHUNK,
        .chunk = UINT64_MAX,
        .entry = {.generation = 1, .flags = CATALOG_ZERO},
    };
    CHECK(destage_commit(disk.device->destage, &change, 1) == -EINVAL);
    CHECK(!fixture_status(&disk).failed);
    change = (struct state_change){.kind = STATE_COUNTER, .number = 6};
    fault_fail(&writes, -EIO, false, 0);
    CHECK(destage_commit(disk.device->destage, &change, 1) == -EIO);
    CHECK(fixture_status(&disk).failed);
    CHECK(destage_commit(disk.device->destage, &change, 1) == -EIO);
    end();
}
