/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/scrub_repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "cache/chunk_reader.h"
#include "cache/chunk_work.h"
#include "cache/device.h"
#include "cache/fetch.h"
#include "cache/geometry.h"
#include "cache/holders.h"
#include "cache/scrub_chunk.h"

/* What becomes of something bad. */
enum fate {
    FATE_NONE,   /* it is not bad */
    FATE_UPLOAD, /* all of it is here: a new object */
    FATE_DROP,   /* the bucket has it: away with the copy here */
    FATE_PASSED, /* the device has something else there by now */
    FATE_LATER,  /* it could be repaired, but not now */
    FATE_LOST,   /* no good copy is left */
    FATES,
};

static const char *const SAYINGS[FATES] = {
    [FATE_UPLOAD] = "will be uploaded again, for the next image:",
    [FATE_DROP] = "taken from the bucket from now on:",
    [FATE_PASSED] = "other content by now, which the next image will have:",
    [FATE_LATER] = "cannot be repaired now:",
    [FATE_LOST] = "no good copy is left, an error until it is written again:",
};

struct repair {
    struct scrub_repair *of;
    const struct scrub_chunk *c;
    enum fate *fates;     /* of each block */
    enum fate table_fate; /* of the table of the image's newest object */
    enum fate file_fate;  /* of the file, if its table is damaged */
};

/* ---- what can be done ---------------------------------------------------- */

static const struct object_id *base_id(const struct chunk_table *table,
                                       uint32_t block)
{
    return &table->objects[table->blocks[block].object].id;
}

/* Whether what is here may still rest on that object. */
static bool entry_names(const struct scrub_chunk *c, const struct object_id *id)
{
    for (unsigned i = 0; i < c->entry.objects_count; i++) {
        if (object_id_is(&c->entry.objects[i].id, id))
            return true;
    }
    return false;
}

/* Whether the file has the only copy of what is in it. */
static bool is_dirty(const struct repair *repair)
{
    const struct scrub_chunk *c = repair->c;

    return c->has_content &&
           !chunk_reader_is_clean(device_reader(repair->of->how->device),
                                  &c->entry);
}

/* A block is bad in the object that the image has it in. */
static enum fate fate_of_base(const struct repair *repair, uint32_t block)
{
    const struct scrub_chunk *c = repair->c;
    const struct object_id *id = base_id(c->bases, block);
    const struct chunk_block *here;

    if (!c->has_content)
        return FATE_PASSED;
    if (c->local == NULL)
        return entry_names(c, id) || is_dirty(repair) ? FATE_LOST : FATE_PASSED;
    here = &c->local->blocks[block];
    if (here->base == BASE_UNKNOWN)
        return entry_names(c, id) ? FATE_LOST : FATE_PASSED;
    if (here->base != BASE_OBJECT ||
        here->object_place != c->bases->blocks[block].object_place ||
        !object_id_is(base_id(c->local, block), id))
        return FATE_PASSED;
    return here->local_pages == ALL_PAGES && (c->flags[block] & SCRUB_COPY) == 0
               ? FATE_UPLOAD
               : FATE_LOST;
}

/* A block is bad in the chunk's file. */
static enum fate fate_of_copy(const struct repair *repair, uint32_t block)
{
    const struct scrub_chunk *c = repair->c;
    const struct chunk_block *here = &c->local->blocks[block];

    return here->base == BASE_OBJECT && here->local_pages == ALL_PAGES &&
                   (c->flags[block] & SCRUB_OWN) == 0
               ? FATE_DROP
               : FATE_LOST;
}

static enum fate fate_of_block(const struct repair *repair, uint32_t block)
{
    unsigned flags = repair->c->flags[block];
    enum fate fate = FATE_NONE;

    if ((flags & SCRUB_BASE) != 0)
        fate = fate_of_base(repair, block);
    if ((flags & SCRUB_COPY) != 0 && fate != FATE_LOST)
        fate = fate_of_copy(repair, block);
    if ((flags & SCRUB_EARLIER) != 0)
        fate = FATE_LOST;
    return fate;
}

static enum fate fate_of_table(const struct repair *repair)
{
    const struct scrub_chunk *c = repair->c;
    const struct object_id *id;

    if (!c->has_image || c->remote != NULL || c->table_state == OBJECT_GOOD)
        return FATE_NONE;
    id = &scrub_newest_of_image(c)->id;
    if (!c->has_content)
        return FATE_PASSED;
    if (c->bases == c->local && c->bases != NULL)
        return FATE_UPLOAD;
    return entry_names(c, id) || (c->local_error != 0 && is_dirty(repair))
               ? FATE_LOST
               : FATE_PASSED;
}

static enum fate fate_of_file(const struct repair *repair)
{
    const struct scrub_chunk *c = repair->c;

    if (c->local_error == 0)
        return FATE_NONE;
    if (is_dirty(repair))
        return FATE_LOST;
    return c->local_error == -EBADMSG ? FATE_DROP : FATE_LATER;
}

/* Whether something of the chunk can still be found by a table of it. */
static bool is_worth_a_table(const struct repair *repair)
{
    const struct chunk_table *bases = repair->c->bases;

    for (uint32_t i = 0; i < repair->c->blocks_count; i++) {
        if (bases->blocks[i].base == BASE_OBJECT &&
            repair->fates[i] != FATE_LOST)
            return true;
    }
    return false;
}

static void decide(struct repair *repair)
{
    for (uint32_t i = 0; i < repair->c->blocks_count; i++)
        repair->fates[i] = fate_of_block(repair, i);
    repair->table_fate = fate_of_table(repair);
    if (repair->table_fate == FATE_UPLOAD && !is_worth_a_table(repair))
        repair->table_fate = FATE_LOST;
    repair->file_fate = fate_of_file(repair);
}

/* ---- doing it ------------------------------------------------------------ */

/* Another fate for all that have this one. */
static void change_fate(struct repair *repair, enum fate from, enum fate to)
{
    for (uint32_t i = 0; i < repair->c->blocks_count; i++) {
        if (repair->fates[i] == from)
            repair->fates[i] = to;
    }
    if (repair->table_fate == from)
        repair->table_fate = to;
    if (repair->file_fate == from)
        repair->file_fate = to;
}

static void not_now(struct repair *repair, enum fate fate, const char *why)
{
    (void)fprintf(repair->of->text, "%s: chunk %016" PRIx64 ": %s\n",
                  device_name(repair->of->how->device), repair->c->chunk, why);
    change_fate(repair, fate, FATE_LATER);
}

/* Do without the copies of that fate.  -ENOMEM. */
static int distrust(struct repair *repair, enum fate fate)
{
    const struct scrub_chunk *c = repair->c;
    AUTO_FREE struct bad_copy *copies =
        calloc(c->blocks_count, sizeof(copies[0]));
    struct distrusted what = {.chunk = c->chunk, .copies = copies};
    int error = 0;

    if (copies == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < c->blocks_count; i++) {
        if (repair->fates[i] != fate)
            continue;
        copies[what.count++] = (struct bad_copy){
            .block = i,
            .is_in_bucket = fate == FATE_UPLOAD,
            .as_read = c->local->blocks[i],
            .id = *base_id(c->local, i),
        };
    }
    if (fate == FATE_UPLOAD && repair->table_fate == fate)
        what.table_of = &scrub_newest_of_image(c)->id;
    if (what.count == 0 && what.table_of == NULL)
        return 0;
    /* What is to go up makes the device differ from its image. */
    if (fate == FATE_UPLOAD)
        error = repair->of->claim(repair->of->context);
    if (error == 0)
        error = device_distrust(repair->of->how->device, &what);
    if (error != 0)
        not_now(repair, fate,
                error == -EBUSY    ? "the open checkpoint waits for it"
                : error == -ESTALE ? "it has changed meanwhile"
                                   : log_errno(error));
    return 0;
}

/* Remove a damaged file whose content is all in the bucket. */
static void remove_file(struct repair *repair)
{
    const struct scrub_chunk *c = repair->c;
    uint64_t freed = 0;
    bool has_all;
    int error;

    if (repair->file_fate != FATE_DROP)
        return;
    /* Clean, it has objects; but are those the ones that were looked at? */
    has_all = c->remote != NULL && object_id_is(&scrub_newest_here(c)->id,
                                                &scrub_newest_of_image(c)->id);
    for (uint32_t i = 0; i < c->blocks_count; i++)
        has_all = has_all && repair->fates[i] != FATE_LOST;
    if (!has_all) {
        repair->file_fate = FATE_LATER;
        return;
    }
    /* What is in it may be all there is, if the bucket is another's by now. */
    error = repair->of->claim(repair->of->context);
    if (error == 0)
        error = device_evict(repair->of->how->device, &c->chunk, 1, EVICT_FILE,
                             &freed);
    if (error != 0)
        not_now(repair, FATE_DROP, log_errno(error));
    else if (freed == 0)
        not_now(repair, FATE_DROP, "the open checkpoint waits for it");
}

/* ---- telling it ---------------------------------------------------------- */

/* Begin a line about the chunk. */
static FILE *begin_line(const struct repair *repair)
{
    (void)fprintf(repair->of->text, "%s: chunk %016" PRIx64 ": ",
                  device_name(repair->of->how->device), repair->c->chunk);
    return repair->of->text;
}

/* Whether a line is about that block. */
typedef bool is_meant(const struct repair *repair, uint32_t block,
                      unsigned what);

/* Write "blocks 1-5, 7" of those that are meant, if any, behind before. */
static void tell_blocks(const struct repair *repair, const char *before,
                        is_meant *is, unsigned what)
{
    FILE *text = repair->of->text;
    uint32_t count = repair->c->blocks_count;
    const char *comma = "blocks ";

    for (uint32_t i = 0; i < count; i++) {
        uint32_t end = i;

        while (end < count && is(repair, end, what))
            end++;
        if (end == i)
            continue;
        (void)fprintf(text, "%s%s%" PRIu32, before, comma, i);
        if (end > i + 1)
            (void)fprintf(text, "-%" PRIu32, end - 1);
        before = "";
        comma = ", ";
        i = end;
    }
}

static bool has_any(const struct repair *repair, is_meant *is, unsigned what)
{
    for (uint32_t i = 0; i < repair->c->blocks_count; i++) {
        if (is(repair, i, what))
            return true;
    }
    return false;
}

static bool has_flag(const struct repair *repair, uint32_t block, unsigned flag)
{
    return (repair->c->flags[block] & flag) != 0;
}

static bool has_fate(const struct repair *repair, uint32_t block, unsigned fate)
{
    return repair->fates[block] == (enum fate)fate;
}

static bool is_bad_in(const struct repair *repair, uint32_t block,
                      unsigned object)
{
    return has_flag(repair, block, SCRUB_BASE) &&
           repair->c->bases->blocks[block].object == object;
}

/* Of holders_each. */
static int tell_holder(void *context, const char *what, int result)
{
    const struct repair *repair = context;
    FILE *text = begin_line(repair);

    if (result > 0)
        (void)fprintf(text, "%s needs it\n", what);
    else
        (void)fprintf(text, "%s may need it: %s\n", what, log_errno(result));
    return 0;
}

/* Tell which images need an object. */
static int tell_holders(struct repair *repair,
                        const struct chunk_object *object, const char *owner)
{
    const char *own = device_name(repair->of->how->device);
    struct holders *holders;
    int error = holders_new(repair->of->how->store, owner,
                            object->origin == 0 ? NULL : own, &holders);

    if (error == -ENOMEM || error == -ECANCELED)
        return error;
    if (error != 0) { /* it can be repaired all the same */
        (void)fprintf(begin_line(repair), "what needs it cannot be told: %s\n",
                      log_errno(error));
        return 0;
    }
    error = holders_each(holders, repair->c->chunk, &object->id, tell_holder,
                         repair);
    holders_free(holders);
    return error;
}

/* Tell of a bad object of the image: what of it is bad, and who needs it. */
static int tell_object(struct repair *repair, const struct chunk_object *object,
                       enum object_state state, bool is_table, int index)
{
    char owner[DEVICE_NAME_MAX + 1],
        key[FETCH_KEY_MAX] = "of an unknown device";
    FILE *text = begin_line(repair);
    bool is_known =
        scrub_origin_name(repair->of->how, object->origin, owner) == 0;

    if (is_known)
        fetch_object_key(owner, repair->c->chunk, &object->id, key);
    (void)fprintf(text, "object %s %s:%s", key, object_state_text(state),
                  is_table ? " its table" : "");
    if (index >= 0)
        tell_blocks(repair, is_table ? ", " : " ", is_bad_in, (unsigned)index);
    (void)fprintf(text, "\n");
    return is_known ? tell_holders(repair, object, owner) : 0;
}

static int tell_objects(struct repair *repair)
{
    const struct scrub_chunk *c = repair->c;
    bool has_bad_table = repair->table_fate != FATE_NONE;
    int error = 0;

    if (has_bad_table && c->bases == NULL)
        return tell_object(repair, scrub_newest_of_image(c), c->table_state,
                           true, -1);
    for (unsigned i = 0;
         c->bases != NULL && i < c->bases->objects_count && error == 0; i++) {
        bool is_table = has_bad_table && i + 1 == c->bases->objects_count;

        if (is_table || has_any(repair, is_bad_in, i))
            error = tell_object(repair, &c->bases->objects[i],
                                is_table ? c->table_state : c->states[i],
                                is_table, (int)i);
    }
    return error;
}

static void tell_here(const struct repair *repair)
{
    if (repair->c->local_error != 0)
        (void)fprintf(begin_line(repair), "the table of its file %s\n",
                      repair->c->local_error == -EBADMSG
                          ? "is damaged"
                          : log_errno(repair->c->local_error));
    if (has_any(repair, has_flag, SCRUB_COPY)) {
        (void)fprintf(begin_line(repair), "damaged in its file:");
        tell_blocks(repair, " ", has_flag, SCRUB_COPY);
        (void)fprintf(repair->of->text, "\n");
    }
    if (has_any(repair, has_flag, SCRUB_EARLIER)) {
        (void)fprintf(begin_line(repair), "pages were lost earlier of");
        tell_blocks(repair, " ", has_flag, SCRUB_EARLIER);
        (void)fprintf(repair->of->text, "\n");
    }
}

static void tell_fates(struct repair *repair)
{
    for (unsigned fate = FATE_NONE + 1; fate < FATES; fate++) {
        bool is_table = repair->table_fate == (enum fate)fate;
        bool is_file = repair->file_fate == (enum fate)fate;

        if (!is_table && !is_file && !has_any(repair, has_fate, fate))
            continue;
        (void)fprintf(begin_line(repair), "%s%s%s", SAYINGS[fate],
                      is_table ? " the object's table" : "",
                      is_file ? " its file" : "");
        tell_blocks(repair, is_table || is_file ? ", " : " ", has_fate, fate);
        (void)fprintf(repair->of->text, "\n");
    }
}

static void count_one(struct scrub_repair *sums, enum fate fate)
{
    if (fate == FATE_NONE)
        return;
    sums->bad++;
    if (fate != FATE_LOST && fate != FATE_LATER)
        sums->repaired++;
}

int scrub_repair(struct scrub_repair *of, const struct scrub_chunk *chunk)
{
    struct repair repair = {.of = of, .c = chunk};
    AUTO_FREE enum fate *fates = calloc(chunk->blocks_count, sizeof(fates[0]));
    uint64_t bad = of->bad, repaired = of->repaired;
    int error;

    if (fates == NULL)
        return -ENOMEM;
    repair.fates = fates;
    decide(&repair);
    error = tell_objects(&repair);
    if (error != 0)
        return error;
    tell_here(&repair);
    error = distrust(&repair, FATE_UPLOAD);
    if (error == 0)
        error = distrust(&repair, FATE_DROP);
    if (error == 0)
        remove_file(&repair);
    tell_fates(&repair);
    for (uint32_t i = 0; i < chunk->blocks_count; i++)
        count_one(of, fates[i]);
    count_one(of, repair.table_fate);
    count_one(of, repair.file_fate);
    log_warning("%s: chunk %016" PRIx64 ": scrub found %" PRIu64
                " bad copies, of which %" PRIu64 " are repaired",
                device_name(of->how->device), chunk->chunk, of->bad - bad,
                of->repaired - repaired);
    return error;
}
