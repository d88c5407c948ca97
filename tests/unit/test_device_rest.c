/* SPDX-License-Identifier: BSD-2-Clause */
/* links: device_fixture */
#include "cache/device_rest.h"

#include <sched.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "unit/test.h"

static struct device_fixture disk;
static unsigned char data[CACHE_BLOCK];

/* What the owner of a device is told, and who waits for it. */
struct told {
    struct mutex lock;
    struct condition changed;
    unsigned stirs;
    bool is_answered;
    int answer;
};

static void tell_stir(void *context)
{
    struct told *told = context;

    mutex_lock(&told->lock);
    told->stirs++;
    condition_broadcast(&told->changed);
    mutex_unlock(&told->lock);
}

static bool begin(struct told *told)
{
    log_set_level(LOG_LEVEL_ERROR);
    *told = (struct told){.stirs = 0};
    mutex_init(&told->lock);
    condition_init(&told->changed);
    fixture_fill(data, sizeof(data), 1);
    fixture_begin(&disk, test_dir(), false);
    if (!CHECK(fixture_open(&disk) == 0))
        return false;
    device_watch(disk.device, tell_stir, told);
    return true;
}

static void end(struct told *told)
{
    fixture_end(&disk);
    condition_done(&told->changed);
    mutex_done(&told->lock);
}

static void wait_for_stir(struct told *told, unsigned count)
{
    mutex_lock(&told->lock);
    while (told->stirs < count)
        condition_wait(&told->changed, &told->lock);
    mutex_unlock(&told->lock);
}

static void wait_for_rest(void)
{
    while (!device_is_resting(disk.device))
        (void)sched_yield();
}

TEST("a device with nothing to do rests until it is written, and again when "
     "all is folded; its watcher is told once")
{
    struct told told;

    NEED(begin(&told));
    wait_for_rest();
    CHECK(told.stirs == 0);
    clock_set_for_tests(1); /* so that nobody folds it by himself */
    CHECK(fixture_write(&disk, 0, data, sizeof(data), 0) == 0);
    wait_for_stir(&told, 1);
    CHECK(!device_is_resting(disk.device));
    CHECK(device_destage(disk.device) == 0);
    clock_set_for_tests(0);
    wait_for_rest();
    CHECK(told.stirs == 1);
    CHECK(fixture_read(&disk, 0, data, sizeof(data)) == 0);
    CHECK(device_is_resting(disk.device));
    CHECK(told.stirs == 1);
    end(&told);
}

TEST("a checkpoint ends the rest, as long as it is there")
{
    struct told told;

    NEED(begin(&told));
    CHECK(fixture_write(&disk, 0, data, sizeof(data), 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    wait_for_rest();
    CHECK(device_checkpoint(disk.device, 1) == 0);
    CHECK(told.stirs > 0);
    CHECK(!device_is_resting(disk.device));
    CHECK(device_drop_checkpoint(disk.device) == 0);
    wait_for_rest();
    end(&told);
}

static void answered(struct device_request *request, int error)
{
    struct told *told = request->caller;

    mutex_lock(&told->lock);
    told->is_answered = true;
    told->answer = error;
    condition_broadcast(&told->changed);
    mutex_unlock(&told->lock);
}

TEST("a request that waits at the gate is told of, and ends the rest")
{
    struct told told;
    struct device_request request = {
        .operation = DEVICE_WRITE,
        .length = sizeof(data),
        .data = data,
        .done = answered,
        .caller = &told,
    };
    struct device_request *requests[] = {&request};

    NEED(begin(&told));
    device_set_gate(disk.device, DEVICE_GATE_WAIT);
    wait_for_rest();
    device_submit(disk.device, requests, 1);
    wait_for_stir(&told, 1);
    CHECK(!device_is_resting(disk.device));
    device_set_gate(disk.device, DEVICE_GATE_OPEN);
    mutex_lock(&told.lock);
    while (!told.is_answered)
        condition_wait(&told.changed, &told.lock);
    mutex_unlock(&told.lock);
    CHECK(told.answer == 0);
    end(&told);
}

TEST("who watches no longer is not told")
{
    struct told told, other;

    NEED(begin(&told));
    other = (struct told){.stirs = 0};
    mutex_init(&other.lock);
    condition_init(&other.changed);
    wait_for_rest();
    device_watch(disk.device, tell_stir, &other);
    CHECK(fixture_write(&disk, 0, data, sizeof(data), 0) == 0);
    wait_for_stir(&other, 1);
    device_watch(disk.device, NULL, NULL);
    CHECK(device_destage(disk.device) == 0);
    wait_for_rest();
    CHECK(device_destage(disk.device) == 0);
    CHECK(told.stirs == 0 && other.stirs == 1);
    end(&told);
    condition_done(&other.changed);
    mutex_done(&other.lock);
}
