/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/parking.h"

#include "base/clock.h"
#include "base/mutex.h"
#include "test.h"

struct yard {
    struct mutex lock;
    struct condition came;
    struct device_request *run[16];
    size_t run_count;
    struct device_request *expelled[16];
    size_t expelled_count;
    size_t waits;
};

static void run(void *context, struct device_request *requests)
{
    struct yard *yard = context;

    mutex_lock(&yard->lock);
    for (; requests != NULL; requests = requests->next)
        yard->run[yard->run_count++] = requests;
    condition_broadcast(&yard->came);
    mutex_unlock(&yard->lock);
}

static void expelled(void *context, struct device_request *request)
{
    struct yard *yard = context;

    yard->expelled[yard->expelled_count++] = request;
}

static void waits(void *context)
{
    struct yard *yard = context;

    mutex_lock(&yard->lock);
    yard->waits++;
    condition_broadcast(&yard->came);
    mutex_unlock(&yard->lock);
}

static struct parking *begin(struct yard *yard)
{
    struct parking *parking = NULL;

    memset(yard, 0, sizeof(*yard));
    mutex_init(&yard->lock);
    condition_init(&yard->came);
    CHECK(parking_start(run, expelled, waits, yard, &parking) == 0);
    return parking;
}

static void wait_for(struct yard *yard, size_t count)
{
    mutex_lock(&yard->lock);
    while (yard->run_count < count)
        condition_wait(&yard->came, &yard->lock);
    mutex_unlock(&yard->lock);
}

static void end(struct yard *yard, struct parking *parking)
{
    parking_stop(parking);
    condition_done(&yard->came);
    mutex_done(&yard->lock);
}

TEST("a request whose time has come runs; one whose time is far off does not")
{
    struct yard yard;
    struct parking *parking = begin(&yard);
    struct device_request due = {.length = 1};
    struct device_request late = {.length = 2};
    atomic_bool is_gone = false;

    late.client_is_gone = &is_gone;
    parking_add(parking, &late,
                clock_monotonic_ns() + UINT64_C(1) * 3600 * 1000000000);
    parking_add(parking, &due, clock_monotonic_ns());
    wait_for(&yard, 1);
    CHECK(yard.run_count == 1 && yard.run[0] == &due);
    CHECK(parking_count(parking) == 1);
    atomic_store(&is_gone, true);
    parking_expel(parking);
    CHECK(yard.expelled_count == 1 && yard.expelled[0] == &late);
    end(&yard, parking);
}

TEST("who waits for space goes on when there is some, in the order of coming")
{
    struct yard yard;
    struct parking *parking = begin(&yard);
    struct device_request requests[4] = {{.length = 0}};
    uint64_t wakes = parking_wakes(parking);

    for (size_t i = 0; i < 4; i++)
        parking_add_for_space(parking, &requests[i], wakes);
    CHECK(parking_count(parking) == 4);
    CHECK(yard.run_count == 0);
    parking_wake(parking);
    wait_for(&yard, 4);
    for (size_t i = 0; i < 4; i++)
        CHECK(yard.run[i] == &requests[i]);
    CHECK(parking_count(parking) == 0);
    end(&yard, parking);
}

TEST("who waits for space is told of; who waits for a time is not")
{
    struct yard yard;
    struct parking *parking = begin(&yard);
    struct device_request later = {.length = 1};
    struct device_request requests[2] = {{.length = 2}};

    parking_add(parking, &later, clock_monotonic_ns() + 1);
    wait_for(&yard, 1);
    CHECK(yard.waits == 0);
    parking_add_for_space(parking, &requests[0], parking_wakes(parking));
    mutex_lock(&yard.lock);
    while (yard.waits == 0)
        condition_wait(&yard.came, &yard.lock);
    mutex_unlock(&yard.lock);
    CHECK(parking_count(parking) == 1);
    parking_add_for_space(parking, &requests[1], parking_wakes(parking));
    mutex_lock(&yard.lock);
    while (yard.waits == 1)
        condition_wait(&yard.came, &yard.lock);
    mutex_unlock(&yard.lock);
    parking_wake(parking);
    wait_for(&yard, 3);
    end(&yard, parking);
    CHECK(yard.waits == 2);
}

TEST("space that came between the refusal and the parking is not missed")
{
    struct yard yard;
    struct parking *parking = begin(&yard);
    struct device_request request = {.length = 1};
    uint64_t wakes = parking_wakes(parking);

    parking_wake(parking);
    parking_add_for_space(parking, &request, wakes);
    wait_for(&yard, 1);
    CHECK(yard.run[0] == &request);
    end(&yard, parking);
}

TEST(
    "what is parked when its client is gone already does not stay, whatever it "
    "waits for")
{
    struct yard yard;
    struct parking *parking = begin(&yard);
    struct device_request requests[2] = {{.length = 1}, {.length = 2}};
    atomic_bool is_gone = true;
    uint64_t wakes = parking_wakes(parking);

    requests[0].client_is_gone = requests[1].client_is_gone = &is_gone;
    parking_expel(parking);
    parking_add_for_space(parking, &requests[0], wakes);
    wait_for(&yard, 1);
    parking_add(parking, &requests[1],
                clock_monotonic_ns() + UINT64_C(1) * 3600 * 1000000000);
    wait_for(&yard, 2);
    CHECK(yard.run[0] == &requests[0] && yard.run[1] == &requests[1]);
    CHECK(yard.expelled_count == 0);
    end(&yard, parking);
}

TEST("only requests of a client that is gone are expelled")
{
    struct yard yard;
    struct parking *parking = begin(&yard);
    struct device_request requests[3] = {{.length = 0}};
    atomic_bool is_gone = false;
    atomic_bool is_here = false;
    uint64_t wakes = parking_wakes(parking);

    requests[0].client_is_gone = &is_here;
    requests[1].client_is_gone = &is_gone;
    for (size_t i = 0; i < 3; i++)
        parking_add_for_space(parking, &requests[i], wakes);
    atomic_store(&is_gone, true);
    parking_expel(parking);
    CHECK(yard.expelled_count == 1 && yard.expelled[0] == &requests[1]);
    parking_wake(parking);
    wait_for(&yard, 2);
    CHECK(yard.run[0] == &requests[0] && yard.run[1] == &requests[2]);
    end(&yard, parking);
}
