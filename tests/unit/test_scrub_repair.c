/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What cannot be done, and what is said of it; the rest is in test_scrub.c,
 * with whole images.
 */
#include "cache/scrub_repair.h"

#include <errno.h>
#include <stdlib.h>

#include "cache/device.h"
#include "cache/geometry.h"
#include "cache/scrub_chunk.h"
#include "support/device_fixture.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/remote_chunk.h"
#include "unit/test.h"

enum { CHUNK = 256 << 10, BLOCKS = CHUNK / CACHE_BLOCK, NUMBER = 3 };

static struct device_fixture fixture;
static struct fault_store *fault;
static struct chunk_object object;
static struct scrub_how how;
static struct scrub_repair repair;
static unsigned char plain[CHUNK];
static int answer; /* of claim */
static char *text;
static size_t text_size;

static int pace(void *context, size_t size, bool is_in_bucket)
{
    (void)context;
    (void)size;
    (void)is_in_bucket;
    return 0;
}

static int be_claimed(void *context)
{
    (void)context;
    return answer;
}

static bool begin(void)
{
    fixture_begin(&fixture, test_dir(), false);
    fault = fault_store_new(memory_store_new());
    fixture.options.store = fault_store_of(fault);
    fixture_fill(plain, sizeof(plain), 1);
    answer = 0;
    if (!CHECK(fixture_open(&fixture) == 0))
        return false;
    remote_put(fixture.device, NUMBER, 1, plain, &object);
    remote_commit_resident(fixture.device, NUMBER, &object, plain);
    how = (struct scrub_how){
        .device = fixture.device,
        .store = fixture.options.store,
        .sample = 100,
        .pace = pace,
    };
    repair = (struct scrub_repair){.how = &how, .claim = be_claimed};
    return true;
}

static void end(void)
{
    free(text);
    text = NULL;
    fixture_end(&fixture);
}

/* Look, and repair what is bad; returns what scrub_repair does. */
static int look_and_repair(void)
{
    struct image_entry image = {.objects_count = 1, .objects = {object}};
    struct scrub_chunk c;
    int error = 1;

    free(text);
    text = NULL;
    repair.text = open_memstream(&text, &text_size);
    repair.bad = repair.repaired = 0;
    if (!CHECK(repair.text != NULL))
        return error;
    CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == 0);
    if (CHECK(c.is_bad))
        error = scrub_repair(&repair, &c);
    scrub_chunk_done(&c);
    CHECK(fclose(repair.text) == 0);
    return error;
}

static bool said(const char *what)
{
    bool is_there = text != NULL && strstr(text, what) != NULL;

    if (!is_there)
        printf("# '%s' is not in: %s\n", what, text);
    return is_there;
}

TEST("nothing is uploaded again while the device cannot be claimed")
{
    if (!begin())
        return;
    remote_delete(fixture.device, NUMBER, &object);
    answer = -ESTALE;
    CHECK(look_and_repair() == 0);
    CHECK(repair.bad == BLOCKS + 1 && repair.repaired == 0);
    CHECK(said("cannot be repaired now: the object's table, blocks 0-15\n"));
    CHECK(fixture_status(&fixture).dirty_chunks == 0);
    answer = 0;
    CHECK(look_and_repair() == 0);
    CHECK(repair.repaired == BLOCKS + 1);
    CHECK(fixture_status(&fixture).dirty_chunks == 1);
    end();
}

TEST("blocks are told in runs")
{
    struct image_entry image = {.objects_count = 1, .objects = {object}};
    struct scrub_chunk c;

    if (!begin())
        return;
    image.objects[0] = object;
    repair.text = open_memstream(&text, &text_size);
    CHECK(scrub_chunk_look(&how, NUMBER, &image, &c) == 0);
    c.flags[0] |= SCRUB_BASE;
    for (unsigned i = 3; i < 6; i++)
        c.flags[i] |= SCRUB_BASE;
    c.flags[BLOCKS - 1] |= SCRUB_BASE;
    c.states[0] = OBJECT_SHORT;
    CHECK(scrub_repair(&repair, &c) == 0);
    CHECK(fclose(repair.text) == 0);
    scrub_chunk_done(&c);
    CHECK(said("is too short: blocks 0, 3-5, 15\n"));
    CHECK(repair.bad == 5 && repair.repaired == 5);
    end();
}

TEST("that nobody can tell what needs an object keeps it from nothing")
{
    if (!begin())
        return;
    remote_delete(fixture.device, NUMBER, &object);
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -EACCES);
    CHECK(look_and_repair() == 0);
    CHECK(said("what needs it cannot be told: "));
    CHECK(repair.bad == BLOCKS + 1 && repair.repaired == repair.bad);
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -ECANCELED);
    remote_put(fixture.device, NUMBER, 2, plain, &object);
    remote_commit_resident(fixture.device, NUMBER, &object, plain);
    remote_delete(fixture.device, NUMBER, &object);
    CHECK(look_and_repair() == -ECANCELED);
    end();
}

TEST("a block that the table here has elsewhere is nothing to be repaired")
{
    struct chunk_object other;

    if (!begin())
        return;
    remote_put(fixture.device, NUMBER, 2, plain, &other);
    remote_commit_resident(fixture.device, NUMBER, &other, plain);
    remote_delete(fixture.device, NUMBER, &object);
    CHECK(look_and_repair() == 0);
    /* No table tells what was in that object. */
    CHECK(repair.bad == 1 && repair.repaired == 1);
    CHECK(said("other content by now, which the next image will have: "
               "the object's table\n"));
    end();
}
