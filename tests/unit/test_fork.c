/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/fork.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cache/claim.h"
#include "cache/geometry.h"
#include "object_store.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/upload_host.h"
#include "unit/test.h"

enum {
    CHUNK = 256 << 10,
    CHUNKS = 8,
    SIZE = CHUNKS * CHUNK,
};

/* The device, who took it over, and who opens the fork. */
static struct upload_host hosts[3];
static struct device_fixture *disks[3];
static struct fault_store *fault;
static unsigned char wanted[SIZE];
static unsigned char got[SIZE];

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fault = fault_store_new(memory_store_new());
    memset(wanted, 0, sizeof(wanted));
    for (unsigned i = 0; i < 3; i++) {
        char dir[PATH_MAX];

        memset(&hosts[i], 0, sizeof(hosts[i]));
        disks[i] = &hosts[i].fixture;
        if (snprintf(dir, sizeof(dir), "%s/host%u", test_dir(), i) >=
                (int)sizeof(dir) ||
            mkdir(dir, 0700) != 0)
            return false;
        fixture_begin(disks[i], dir, false);
        disks[i]->options.size = SIZE;
        disks[i]->options.store = fault_store_of(fault);
    }
    disks[2]->options.name = "fork";
    return true;
}

static void end(void)
{
    struct object_store *store = fault_store_of(fault);

    for (unsigned i = 0; i < 3; i++) {
        (void)upload_host_close(&hosts[i]);
        disks[i]->options.store = NULL;
        fixture_end(disks[i]);
    }
    store->close(store);
    fault_reset();
    test_dir_remove();
}

static bool put(size_t offset, size_t size, uint64_t seed)
{
    fixture_fill(wanted + offset, size, seed);
    return fixture_write(disks[0], offset, wanted + offset, size, 0) == 0;
}

/*
 * A device with chunks of all sorts: changed since the image, a part of one
 * only; not changed, here and evicted; zeros, holes, and one that is new.
 * Then another host takes it over, and writes to it.
 */
static bool begin_lost(void)
{
    static unsigned char other[CHUNK];
    uint64_t freed;
    const uint64_t evicted[] = {0, 1, 2};

    if (!begin() || upload_host_open(&hosts[0]) != 0)
        return false;
    for (unsigned i = 0; i < 6; i++) {
        if (!put((size_t)i * CHUNK, CHUNK, i + 1))
            return false;
    }
    if (upload_host_finish(&hosts[0], 100) != 0 ||
        device_evict(disks[0]->device, evicted, 2, EVICT_FILE, &freed) != 0 ||
        device_evict(disks[0]->device, evicted + 2, 1, EVICT_BLOCKS, &freed) !=
            0)
        return false;
    if (!put(CHUNK + 5000, 3000, 11) ||
        !put(3 * CHUNK + CACHE_PAGE, CACHE_PAGE, 12) ||
        !put(6 * CHUNK, CHUNK, 13))
        return false;
    memset(wanted + 4 * CHUNK, 0, 2 * CHUNK);
    if (fixture_trim(disks[0], 4 * CHUNK, CHUNK) != 0 ||
        fixture_zero(disks[0], 5 * CHUNK, CHUNK, DEVICE_NO_HOLE) != 0)
        return false;
    disks[1]->options.attach = DEVICE_ATTACH_TAKEOVER;
    if (fixture_open(disks[1]) != 0)
        return false;
    fixture_fill(other, sizeof(other), 99);
    return fixture_write(disks[1], 0, other, sizeof(other), 0) == 0 &&
           upload_host_close(&hosts[0]) == 0;
}

/* Open what is refused otherwise. */
static bool open_to_fork(void)
{
    disks[0]->options.attach = DEVICE_ATTACH_NORMAL;
    if (!CHECK(fixture_open(disks[0]) == -ENXIO))
        return false;
    disks[0]->options.attach = DEVICE_ATTACH_FORK;
    return CHECK(fixture_open(disks[0]) == 0) &&
           CHECK(claim_state(device_claim(disks[0]->device)) == CLAIM_FENCED);
}

static struct fork_plan plan_of(const char *name)
{
    return (struct fork_plan){
        .device = disks[0]->device,
        .store = fault_store_of(fault),
        .name = name,
        .host = "here",
        .time_ns = 12345,
    };
}

static int make_fork(void)
{
    struct fork_plan plan = plan_of("fork");
    struct epoch_record record;

    return fork_create(&plan, &record);
}

/* An object_store_each: a key of the old device goes. */
static int delete_key(void *context, const char *key,
                      const struct object_info *info)
{
    struct object_store *store = fault_store_of(fault);

    (void)context;
    (void)info;
    return object_delete_one(store, key);
}

TEST("a fork has all that was here, and needs nothing of the old device")
{
    struct object_store *store;
    struct epoch_record record;
    struct fork_plan plan;

    NEED(begin_lost());
    store = fault_store_of(fault);
    NEED(open_to_fork());
    CHECK(upload_host_read(&hosts[0], got) == 0);
    CHECK(memcmp(got, wanted, SIZE) == 0);
    CHECK(fixture_write(disks[0], 0, got, CHUNK, 0) == -EIO);
    plan = plan_of("fork");
    CHECK(fork_create(&plan, &record) == 0);
    CHECK(record.epoch == 1 && record.kind == EPOCH_FORK);
    CHECK(record.content_time_ns == 12345 && record.chunks == 6);
    CHECK(fixture_close(disks[0]) == 0);
    /* The other host goes on, and deletes what it has no use for. */
    CHECK(fixture_close(disks[1]) == 0);
    CHECK(store->list(store, "disk/", "", delete_key, NULL) == 0);
    NEED(upload_host_open(&hosts[2]) == 0);
    CHECK(upload_host_read(&hosts[2], got) == 0);
    CHECK(memcmp(got, wanted, SIZE) == 0);
    CHECK(fixture_extent_at(disks[2], 4 * CHUNK) ==
          (DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO));
    CHECK(fixture_extent_at(disks[2], 5 * CHUNK) == DEVICE_EXTENT_ZERO);
    CHECK(fixture_write(disks[2], 0, wanted + CHUNK, CHUNK, 0) == 0);
    CHECK(upload_host_finish(&hosts[2], 200) == 0);
    end();
}

TEST("after a fork what was here can be discarded")
{
    NEED(begin_lost());
    NEED(open_to_fork());
    CHECK(make_fork() == 0);
    CHECK(fixture_close(disks[0]) == 0);
    disks[0]->options.attach = DEVICE_ATTACH_DISCARD;
    NEED(fixture_open(disks[0]) == 0);
    CHECK(claim_state(device_claim(disks[0]->device)) == CLAIM_FENCED);
    CHECK(upload_host_read(&hosts[0], got) == 0);
    fixture_fill(wanted + CHUNK, CHUNK, 2); /* as in the image */
    CHECK(memcmp(got + CHUNK, wanted + CHUNK, CHUNK) == 0);
    end();
}

TEST("a device that is ours can be forked, too, and stays ours")
{
    NEED(begin());
    NEED(upload_host_open(&hosts[0]) == 0);
    CHECK(put(0, CHUNK, 1) && put(CHUNK, CHUNK / 2, 2));
    CHECK(make_fork() == 0);
    CHECK(claim_state(hosts[0].claim) == CLAIM_CLAIMED);
    CHECK(upload_host_finish(&hosts[0], 100) == 0);
    NEED(upload_host_open(&hosts[2]) == 0);
    CHECK(upload_host_read(&hosts[2], got) == 0);
    CHECK(memcmp(got, wanted, SIZE) == 0);
    end();
}

TEST("a device without anything in it has a fork like it")
{
    NEED(begin());
    NEED(upload_host_open(&hosts[0]) == 0);
    CHECK(make_fork() == 0);
    NEED(upload_host_open(&hosts[2]) == 0);
    CHECK(upload_host_read(&hosts[2], got) == 0);
    CHECK(memcmp(got, wanted, SIZE) == 0);
    end();
}

TEST("no device is made anew by a fork, but one that was dropped")
{
    struct epoch_record tombstone = {
        .kind = EPOCH_TOMBSTONE,
        .epoch = 17,
        .nonce = 3,
        .chunk_size = CHUNK,
    };
    struct object_store *store;
    struct epoch_record record;
    enum epoch_outcome outcome;
    struct fork_plan plan;

    NEED(begin());
    store = fault_store_of(fault);
    NEED(upload_host_open(&hosts[0]) == 0);
    CHECK(put(0, CHUNK, 1));
    CHECK(make_fork() == 0);
    CHECK(make_fork() == -EEXIST);
    plan = plan_of("disk");
    CHECK(fork_create(&plan, &record) == -EINVAL);
    plan = plan_of("");
    CHECK(fork_create(&plan, &record) == -EINVAL);
    plan = plan_of("a/b");
    CHECK(fork_create(&plan, &record) == -EINVAL);
    plan = plan_of("..");
    CHECK(fork_create(&plan, &record) == -EINVAL);
    CHECK(epoch_create(store, "old", &tombstone, NULL, &outcome) == 0);
    plan = plan_of("old");
    CHECK(fork_create(&plan, &record) == 0 && record.epoch == 18);
    end();
}

static bool stop_at_once(void *context)
{
    (void)context;
    return true;
}

TEST("a fork that fails or is stopped leaves no device, and is made later")
{
    static const enum store_call kinds[] = {STORE_PUT, STORE_GET, STORE_LIST};
    struct fork_plan plan;
    struct epoch_record record;
    unsigned failures = 0;

    NEED(begin_lost());
    NEED(open_to_fork());
    plan = plan_of("fork");
    plan.must_stop = stop_at_once;
    CHECK(fork_create(&plan, &record) == -ECANCELED);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t last = kinds[i] == STORE_LIST ? 1 : 3;

        for (uint64_t nth = 1; nth <= last; nth++) {
            fault_store_plan(fault, kinds[i], nth, 0, STORE_FAILS, -ETIMEDOUT);
            failures += make_fork() == -ETIMEDOUT;
            fault_store_clear(fault);
        }
    }
    CHECK(failures > 4);
    fault_store_plan(fault, STORE_LIST, 2, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(make_fork() == 0);
    NEED(upload_host_open(&hosts[2]) == 0);
    CHECK(upload_host_read(&hosts[2], got) == 0);
    CHECK(memcmp(got, wanted, SIZE) == 0);
    end();
}

TEST("what is gone from the bucket is damaged in the fork, and nothing else")
{
    struct object_store *store;

    NEED(begin_lost());
    store = fault_store_of(fault);
    NEED(open_to_fork());
    CHECK(store->list(store, "disk/chunk/0000000000000000/", "", delete_key,
                      NULL) == 0);
    CHECK(store->list(store, "disk/chunk/0000000000000001/", "", delete_key,
                      NULL) == 0);
    CHECK(make_fork() == 0);
    NEED(upload_host_open(&hosts[2]) == 0);
    CHECK(fixture_read(disks[2], 0, got, CHUNK) == -EIO);
    CHECK(fixture_read(disks[2], CHUNK + CACHE_BLOCK, got, CACHE_PAGE) == -EIO);
    CHECK(fixture_read(disks[2], 2 * CHUNK, got, 6 * CHUNK) == 0);
    CHECK(memcmp(got, wanted + 2 * CHUNK, 6 * CHUNK) == 0);
    end();
}
