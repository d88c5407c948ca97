/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/state_contents.h"

#include "unit/test.h"

static int follow(struct state_facts *facts, enum state_change_kind kind,
                  uint64_t number, uint8_t byte)
{
    struct state_change change = {
        .kind = kind, .number = number, .time_ns = number + 1};

    memset(change.record, byte, STATE_RECORD_SIZE);
    return state_facts_follow(facts, &change);
}

TEST("a checkpoint begins, opens, and is published or dropped, in this order")
{
    struct state_facts facts = {.counter = 3};

    CHECK(follow(&facts, STATE_CHECKPOINT_CHUNK, 0, 0) == -EINVAL);
    CHECK(follow(&facts, STATE_CHECKPOINT_OPEN, 0, 0) == -EINVAL);
    CHECK(follow(&facts, STATE_CHECKPOINT_PUBLISHED, 0, 0) == -EINVAL);
    CHECK(follow(&facts, STATE_CHECKPOINT_BEGIN, 10, 0) == 0);
    CHECK(facts.phase == CHECKPOINT_FOLDING);
    CHECK(facts.checkpoint_position == 10 && facts.checkpoint_time_ns == 11);
    CHECK(follow(&facts, STATE_CHECKPOINT_BEGIN, 20, 0) == -EINVAL);
    CHECK(follow(&facts, STATE_CHECKPOINT_PUBLISHED, 0, 0) == -EINVAL);
    CHECK(follow(&facts, STATE_CHECKPOINT_CHUNK, 0, 0) == 0);
    CHECK(facts.folded_position == 0);
    CHECK(follow(&facts, STATE_CHECKPOINT_OPEN, 0, 0) == 0);
    CHECK(facts.phase == CHECKPOINT_OPEN && facts.checkpoint_position == 10);
    CHECK(facts.folded_position == 10);
    CHECK(follow(&facts, STATE_CHECKPOINT_OPEN, 0, 0) == -EINVAL);
    CHECK(follow(&facts, STATE_CHECKPOINT_CHUNK, 0, 0) == 0);
    CHECK(facts.published_time_ns == 0);
    CHECK(follow(&facts, STATE_CHECKPOINT_PUBLISHED, 0, 0) == 0);
    CHECK(facts.phase == CHECKPOINT_NONE && facts.published_time_ns == 11);
    CHECK(facts.checkpoint_position == 0 && facts.checkpoint_time_ns == 0);
    CHECK(follow(&facts, STATE_CHECKPOINT_BEGIN, 30, 0) == 0);
    CHECK(follow(&facts, STATE_CHECKPOINT_DROPPED, 0, 0) == 0);
    CHECK(facts.folded_position == 10);
    CHECK(facts.phase == CHECKPOINT_NONE && facts.published_time_ns == 11);
    CHECK(follow(&facts, STATE_CHECKPOINT_DROPPED, 0, 0) == 0);
    CHECK(facts.counter == 3);
}

TEST("an epoch that is not decided is not forgotten for another one")
{
    static const uint8_t zeros[STATE_RECORD_SIZE];
    struct state_facts facts = {.counter = 0};

    CHECK(follow(&facts, STATE_EPOCH_INTENT, 0, 7) == 0);
    CHECK(facts.has_intent && facts.intent[511] == 7 && !facts.has_epoch);
    CHECK(follow(&facts, STATE_EPOCH_INTENT, 0, 8) == -EINVAL);
    CHECK(follow(&facts, STATE_EPOCH_INTENT, 0, 7) == 0);
    CHECK(follow(&facts, STATE_EPOCH_DECIDED, 0, 7) == 0);
    CHECK(!facts.has_intent && facts.has_epoch && facts.epoch[0] == 7);
    CHECK(memcmp(facts.intent, zeros, sizeof(zeros)) == 0);
    CHECK(follow(&facts, STATE_EPOCH_INTENT, 0, 8) == 0);
    CHECK(follow(&facts, STATE_EPOCH_VOID, 0, 0) == 0);
    CHECK(!facts.has_intent && facts.has_epoch && facts.epoch[0] == 7);
}

TEST("the counter never goes back, and an adoption ends after it began")
{
    struct state_facts facts = {.counter = 0};

    CHECK(follow(&facts, STATE_COUNTER, 1024, 0) == 0);
    CHECK(follow(&facts, STATE_COUNTER, 1023, 0) == -EINVAL);
    CHECK(facts.counter == 1024);
    CHECK(follow(&facts, STATE_ADOPTED, 5, 0) == -EINVAL);
    CHECK(facts.published_time_ns == 0);
    CHECK(follow(&facts, STATE_ADOPT, 0, 3) == 0);
    CHECK(facts.must_adopt && facts.adopt[0] == 3);
    CHECK(follow(&facts, STATE_ADOPTED, 5, 0) == 0);
    CHECK(!facts.must_adopt && facts.published_time_ns == 6);
    CHECK(follow(&facts, (enum state_change_kind)14, 0, 0) == -EINVAL);
    CHECK(follow(&facts, (enum state_change_kind)0, 0, 0) == -EINVAL);
}

/* Prepare and apply an entry.  Returns the error of preparing. */
static int set(struct state_contents *contents, enum state_change_kind kind,
               uint64_t chunk, uint64_t generation, unsigned flags)
{
    struct state_change change = {
        .kind = kind,
        .chunk = chunk,
        .entry = {.generation = generation, .flags = flags},
    };
    struct chunk_object *objects = NULL;
    int error;

    change.entry.objects_count = generation > 0;
    error = state_contents_prepare(contents, &change, &objects);
    if (error == 0)
        state_contents_apply(contents, &change, objects);
    return error;
}

static void apply(struct state_contents *contents, enum state_change_kind kind)
{
    struct state_change change = {.kind = kind, .number = 5};
    struct chunk_object *objects = NULL;

    CHECK(state_contents_prepare(contents, &change, &objects) == 0);
    CHECK(objects == NULL);
    state_contents_apply(contents, &change, objects);
}

static uint64_t published(struct state_contents *contents, uint64_t chunk)
{
    struct catalog_entry entry;

    catalog_get(contents->catalog, chunk, &entry);
    return entry.published_generation;
}

TEST("what a checkpoint says is published as a whole, or dropped")
{
    struct state_contents contents = {.catalog = NULL};

    NEED(catalog_new(1000, &contents.catalog) == 0);
    NEED(catalog_new(1000, &contents.checkpoint) == 0);
    for (uint64_t chunk = 0; chunk < 1000; chunk++)
        CHECK(set(&contents, STATE_CHUNK, chunk, chunk + 1,
                  chunk == 7 ? CATALOG_HOLE : CATALOG_FILE) == 0);
    CHECK(set(&contents, STATE_CHECKPOINT_CHUNK, 3, 4, CATALOG_FILE) == 0);
    apply(&contents, STATE_CHECKPOINT_DROPPED);
    CHECK(catalog_count(contents.checkpoint) == 0);
    CHECK(published(&contents, 3) == 0);
    for (uint64_t chunk = 0; chunk < 999; chunk++)
        CHECK(set(&contents, STATE_CHECKPOINT_CHUNK, chunk, chunk + 1,
                  chunk == 7 ? CATALOG_HOLE : CATALOG_FILE) == 0);
    CHECK(set(&contents, STATE_CHUNK, 500, 2000, CATALOG_FILE) == 0);
    CHECK(set(&contents, STATE_CHECKPOINT_CHUNK, 9, 0, 0) == 0);
    CHECK(catalog_count(contents.catalog) == 1000);
    apply(&contents, STATE_CHECKPOINT_PUBLISHED);
    CHECK(catalog_count(contents.checkpoint) == 0);
    CHECK(catalog_count(contents.catalog) == 999);
    for (uint64_t chunk = 0; chunk < 1000; chunk++)
        CHECK(published(&contents, chunk) ==
              (chunk == 7 || chunk == 9 || chunk == 999 ? 0 : chunk + 1));
    CHECK(catalog_unpublished(contents.catalog) == 3); /* 9, 500, 999 */
    CHECK(contents.numbers.last_generation == 2000);
    apply(&contents, STATE_JOURNAL_BEGIN);
    CHECK(contents.numbers.journal_begin == 5);
    CHECK(set(&contents, STATE_CHUNK, 1000, 1, 0) == -EINVAL);
    CHECK(set(&contents, STATE_CHECKPOINT_CHUNK, 1000, 1, 0) == -EINVAL);
    state_contents_clear(&contents);
    CHECK(catalog_count(contents.catalog) == 0);
    CHECK(contents.numbers.last_generation == 0);
    catalog_free(contents.catalog);
    catalog_free(contents.checkpoint);
}
