/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/state_contents.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* ---- facts --------------------------------------------------------------- */

static void end_checkpoint(struct state_facts *facts)
{
    facts->phase = CHECKPOINT_NONE;
    facts->checkpoint_position = facts->checkpoint_time_ns = 0;
}

static int follow_checkpoint(struct state_facts *facts,
                             const struct state_change *change)
{
    enum checkpoint_phase phase = facts->phase;

    if (change->kind == STATE_CHECKPOINT_BEGIN) {
        if (phase != CHECKPOINT_NONE)
            return -EINVAL;
        facts->phase = CHECKPOINT_FOLDING;
        facts->checkpoint_position = change->number;
        facts->checkpoint_time_ns = change->time_ns;
    } else if (change->kind == STATE_CHECKPOINT_CHUNK) {
        return phase == CHECKPOINT_NONE ? -EINVAL : 0;
    } else if (change->kind == STATE_CHECKPOINT_OPEN) {
        if (phase != CHECKPOINT_FOLDING)
            return -EINVAL;
        facts->phase = CHECKPOINT_OPEN;
        facts->folded_position = facts->checkpoint_position;
    } else if (change->kind == STATE_CHECKPOINT_PUBLISHED) {
        if (phase != CHECKPOINT_OPEN)
            return -EINVAL;
        facts->published_time_ns = facts->checkpoint_time_ns;
        end_checkpoint(facts);
    } else {
        end_checkpoint(facts);
    }
    return 0;
}

static int follow_intent(struct state_facts *facts, const uint8_t *record)
{
    /* An undecided epoch may yet turn out to have been created. */
    if (facts->has_intent &&
        memcmp(facts->intent, record, STATE_RECORD_SIZE) != 0)
        return -EINVAL;
    facts->has_intent = true;
    memcpy(facts->intent, record, STATE_RECORD_SIZE);
    return 0;
}

static void end_intent(struct state_facts *facts)
{
    facts->has_intent = false;
    memset(facts->intent, 0, STATE_RECORD_SIZE);
}

static int end_adoption(struct state_facts *facts, uint64_t time_ns)
{
    if (!facts->must_adopt)
        return -EINVAL;
    facts->published_time_ns = time_ns;
    facts->must_adopt = false;
    memset(facts->adopt, 0, STATE_RECORD_SIZE);
    return 0;
}

int state_facts_follow(struct state_facts *facts,
                       const struct state_change *change)
{
    switch (change->kind) {
    case STATE_CHUNK:
    case STATE_JOURNAL_BEGIN:
        return 0;
    case STATE_CHECKPOINT_BEGIN:
    case STATE_CHECKPOINT_CHUNK:
    case STATE_CHECKPOINT_OPEN:
    case STATE_CHECKPOINT_PUBLISHED:
    case STATE_CHECKPOINT_DROPPED:
        return follow_checkpoint(facts, change);
    case STATE_EPOCH_INTENT:
        return follow_intent(facts, change->record);
    case STATE_EPOCH_DECIDED:
        end_intent(facts);
        facts->has_epoch = true;
        memcpy(facts->epoch, change->record, STATE_RECORD_SIZE);
        return 0;
    case STATE_EPOCH_VOID:
        end_intent(facts);
        return 0;
    case STATE_COUNTER:
        if (change->number < facts->counter)
            return -EINVAL;
        facts->counter = change->number;
        return 0;
    case STATE_ADOPT:
        facts->must_adopt = true;
        memcpy(facts->adopt, change->record, STATE_RECORD_SIZE);
        return 0;
    case STATE_ADOPTED:
        return end_adoption(facts, change->time_ns);
    }
    return -EINVAL;
}

/* ---- catalogs ------------------------------------------------------------ */

/* Returns the catalog of which a change sets an entry, or NULL. */
static struct catalog *catalog_of(struct state_contents *contents,
                                  const struct state_change *change)
{
    if (change->kind == STATE_CHUNK)
        return contents->catalog;
    return change->kind == STATE_CHECKPOINT_CHUNK ? contents->checkpoint : NULL;
}

int state_contents_prepare(struct state_contents *contents,
                           const struct state_change *change,
                           struct chunk_object **ret_objects)
{
    struct catalog *catalog = catalog_of(contents, change);

    *ret_objects = NULL;
    return catalog ? catalog_prepare(catalog, change->chunk, &change->entry,
                                     ret_objects)
                   : 0;
}

static void publish(struct state_contents *contents)
{
    struct catalog_entry entry;
    uint64_t chunk = 0;

    while (catalog_next(contents->checkpoint, chunk, UINT64_MAX, &chunk)) {
        catalog_get(contents->checkpoint, chunk, &entry);
        catalog_publish(contents->catalog, chunk, &entry);
        chunk++;
    }
    catalog_clear(contents->checkpoint);
}

static void note_numbers(struct state_numbers *numbers,
                         const struct state_change *change)
{
    if (change->kind == STATE_JOURNAL_BEGIN)
        numbers->journal_begin = change->number;
    else if (change->entry.generation > numbers->last_generation)
        numbers->last_generation = change->entry.generation;
}

void state_contents_apply(struct state_contents *contents,
                          const struct state_change *change,
                          struct chunk_object *objects)
{
    struct catalog *catalog = catalog_of(contents, change);

    if (catalog)
        catalog_apply(catalog, change->chunk, &change->entry, objects);
    else if (change->kind == STATE_CHECKPOINT_PUBLISHED)
        publish(contents);
    else if (change->kind == STATE_CHECKPOINT_DROPPED)
        catalog_clear(contents->checkpoint);
    note_numbers(&contents->numbers, change);
}

void state_contents_clear(struct state_contents *contents)
{
    catalog_clear(contents->catalog);
    catalog_clear(contents->checkpoint);
    memset(&contents->facts, 0, sizeof(contents->facts));
    contents->numbers.commit = 0;
    contents->numbers.journal_begin = 0;
    contents->numbers.last_generation = 0;
}
