/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/scrub_chunk.h"

#include <errno.h>

#include "cache/device.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/remote_chunk.h"
#include "unit/test.h"

enum { CHUNK = 256 << 10, BLOCKS = CHUNK / CACHE_BLOCK, NUMBER = 3 };

static struct device_fixture fixture;
static struct fault_store *fault;
static struct chunk_object object;
static struct image_entry image;
static struct scrub_how how;
static struct scrub_chunk c;
static unsigned char plain[CHUNK];
static uint64_t paced;
static int answer; /* of pace */

static int pace(void *context, size_t size, bool is_in_bucket)
{
    (void)context;
    paced += is_in_bucket ? size : 0;
    return answer;
}

/* A device with a chunk that is in an object, and, resident, here too. */
static bool begin(bool resident)
{
    fixture_begin(&fixture, test_dir(), false);
    fault = fault_store_new(memory_store_new());
    fixture.options.store = fault_store_of(fault);
    fixture_fill(plain, sizeof(plain), 1);
    answer = 0;
    paced = 0;
    if (!CHECK(fixture_open(&fixture) == 0))
        return false;
    remote_put(fixture.device, NUMBER, 1, plain, &object);
    if (resident)
        remote_commit_resident(fixture.device, NUMBER, &object, plain);
    else
        remote_commit(fixture.device, NUMBER, &object);
    image = (struct image_entry){.objects_count = 1, .objects = {object}};
    how = (struct scrub_how){
        .device = fixture.device,
        .store = fixture.options.store,
        .sample = 100,
        .pace = pace,
    };
    return true;
}

static void end(void)
{
    scrub_chunk_done(&c);
    fixture_end(&fixture);
}

static unsigned count_flags(unsigned flag)
{
    unsigned count = 0;

    for (uint32_t i = 0; i < c.blocks_count; i++)
        count += (c.flags[i] & flag) != 0;
    return count;
}

TEST("a chunk that is only in the bucket takes one request beside its table")
{
    uint64_t gets;

    if (!begin(false))
        return;
    gets = fault_store_count(fault, STORE_GET);
    CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == 0);
    CHECK(fault_store_count(fault, STORE_GET) == gets + 2);
    CHECK(!c.is_bad && c.has_content && !c.has_file && c.has_image);
    CHECK(c.objects == 1 && c.blocks == BLOCKS);
    CHECK(c.bytes == paced && c.bases == c.remote && c.remote != NULL);
    end();
}

TEST("a chunk that is here too has each block looked at twice")
{
    if (!begin(true))
        return;
    CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == 0);
    CHECK(!c.is_bad && c.has_file && c.local != NULL);
    CHECK(c.blocks == (uint64_t)2 * BLOCKS);
    end();
}

TEST("without the image, or where that is a hole, nothing is asked for")
{
    uint64_t gets;

    if (!begin(true))
        return;
    gets = fault_store_count(fault, STORE_GET);
    CHECK(scrub_chunk_look(&how, NUMBER, NULL, &c) == 0);
    CHECK(!c.is_bad && !c.has_image && c.blocks == BLOCKS);
    scrub_chunk_done(&c);
    CHECK(scrub_chunk_look(&how, NUMBER + 1, NULL, &c) == 0);
    CHECK(!c.is_bad && !c.has_content && c.blocks == 0);
    CHECK(fault_store_count(fault, STORE_GET) == gets);
    end();
}

TEST("of a missing object every block is bad, those of no sample too")
{
    if (!begin(true))
        return;
    remote_delete(fixture.device, NUMBER, &object);
    how.sample = 1;
    CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == 0);
    CHECK(c.is_bad && c.table_state == OBJECT_MISSING);
    CHECK(c.remote == NULL && c.bases == c.local);
    CHECK(count_flags(SCRUB_BASE) == BLOCKS);
    /* So all that could take its place was looked at. */
    CHECK(count_flags(SCRUB_SEEN) == BLOCKS && count_flags(SCRUB_COPY) == 0);
    CHECK(c.states[0] == OBJECT_MISSING);
    end();
}

TEST("of a run whose bytes do not come each block is asked for by itself")
{
    if (!begin(false))
        return;
    /* The table; the run, twice; then the first block, twice. */
    fault_store_plan(fault, STORE_GET, 2, 4, STORE_FAILS, -EIO);
    CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == 0);
    CHECK(c.is_bad && count_flags(SCRUB_BASE) == 1);
    CHECK((c.flags[0] & SCRUB_BASE) != 0);
    CHECK(c.states[0] == OBJECT_UNREADABLE);
    end();
}

TEST("an object of a device that nobody knows cannot be read")
{
    if (!begin(true))
        return;
    image.objects[0].origin = 12345;
    CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == 0);
    CHECK(c.is_bad && c.table_state == OBJECT_UNREADABLE);
    end();
}

TEST("who paces can end it, and so can a store that does not answer")
{
    if (!begin(true))
        return;
    answer = -ECANCELED;
    CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == -ECANCELED);
    scrub_chunk_done(&c);
    answer = 0;
    fault_store_plan(fault, STORE_GET, 2, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == -ETIMEDOUT);
    end();
}

TEST("a sample is the same for the same seed, and another for another")
{
    uint64_t blocks[2], bytes[2];
    bool differ = false;

    if (!begin(false))
        return;
    how.sample = 30;
    for (uint64_t seed = 1; seed < 20; seed++) {
        how.seed = seed;
        for (unsigned i = 0; i < 2; i++) {
            CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == 0);
            blocks[i] = c.blocks;
            bytes[i] = c.bytes;
            scrub_chunk_done(&c);
        }
        CHECK(blocks[0] == blocks[1] && bytes[0] == bytes[1]);
        CHECK(blocks[0] >= 1 && blocks[0] < BLOCKS);
        if (seed == 1)
            paced = blocks[0];
        differ = differ || paced != blocks[0];
    }
    CHECK(differ);
    end();
}
