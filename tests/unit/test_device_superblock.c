/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/device_superblock.h"

#include "base/log.h"
#include "cache/device_parts.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "unit/test.h"

static struct device_fixture disk;

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    fixture_begin(&disk, test_dir(), false);
    return CHECK(fixture_open(&disk) == 0);
}

static void end(void)
{
    fault_reset();
    fixture_end(&disk);
}

static void set_incarnation(struct superblock *superblock, uint64_t value)
{
    superblock->incarnation = value;
}

static uint64_t incarnation_on_disk(void)
{
    struct superblock superblock = {.size = 0};

    CHECK(cache_dir_read_superblock(device_cache_dir(disk.device),
                                    &superblock) == 0);
    CHECK(superblock.size == disk.options.size);
    CHECK(!superblock.clean || disk.options.read_only);
    return superblock.incarnation;
}

TEST("a change is on the disk, and seen, and outlives a crash")
{
    NEED(begin());
    CHECK(device_superblock_change(disk.device, set_incarnation, 7) == 0);
    CHECK(disk.device->superblock.incarnation == 7);
    CHECK(incarnation_on_disk() == 7);
    CHECK(fixture_crash(&disk) == 0);
    CHECK(disk.device->superblock.incarnation == 7);
    end();
}

TEST("a change that cannot be made durable is not seen")
{
    static const struct fault_calls sync = {FAULT_SYNC_DATA, "superblock", 1};

    NEED(begin());
    fault_fail(&sync, -EIO, false, 0);
    CHECK(device_superblock_change(disk.device, set_incarnation, 7) == -EIO);
    CHECK(disk.device->superblock.incarnation == 1);
    CHECK(incarnation_on_disk() == 1);
    CHECK(device_superblock_change(disk.device, set_incarnation, 8) == 0);
    CHECK(incarnation_on_disk() == 8);
    end();
}

TEST("of a device that is only read, nothing is changed")
{
    NEED(begin());
    NEED(CHECK(fixture_close(&disk) == 0));
    disk.options.read_only = true;
    NEED(CHECK(fixture_open(&disk) == 0));
    CHECK(device_superblock_change(disk.device, set_incarnation, 7) == -EROFS);
    CHECK(incarnation_on_disk() == 1);
    end();
}
