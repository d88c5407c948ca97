/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why a read never sees a mixture: tables are never changed, and what they
 * name is never overwritten while somebody holds the file.  Why a block in
 * memory is never stale: it is put there only if the catalog still has the
 * generation of the table that it was read by, checked under the lock that
 * the next state's update of that block takes after the catalog has changed.
 */
#include "cache/chunk_reader.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/geometry.h"
#include "cache/rebase.h"
#include "cache/scratch.h"

static struct log_limit damage_limit;

static void log_damage(struct chunk_reader *reader, uint64_t chunk,
                       uint32_t block, const char *what)
{
    uint64_t left_out;

    atomic_fetch_add(&reader->damaged, 1);
    if (!log_limit_allows(&damage_limit, &left_out))
        return;
    log_error("%s: chunk %016" PRIx64 ", block %" PRIu32 ": %s (%" PRIu64
              " like it not logged)",
              reader->device_name, chunk, block, what, left_out);
}

/* Log what is wrong with a chunk's file.  Returns what it comes to. */
static int unreadable_file(struct chunk_reader *reader, uint64_t chunk,
                           uint64_t generation, int error)
{
    bool is_damage = error == -ENOENT || error == -ESTALE || error == -EBADMSG;
    uint64_t left_out;

    atomic_fetch_add(&reader->damaged, is_damage ? 1 : 0);
    if (log_limit_allows(&damage_limit, &left_out))
        log_error("%s: chunk %016" PRIx64 ": its file %s (generation %" PRIu64
                  "; %" PRIu64 " like it not logged)",
                  reader->device_name, chunk,
                  error == -ENOENT    ? "is missing"
                  : error == -ESTALE  ? "has no table of the generation it must"
                  : error == -EBADMSG ? "has a damaged table"
                  : error == -EPROTONOSUPPORT
                      ? "has the table of a later version of this program"
                      : log_errno(error),
                  generation, left_out);
    return is_damage ? -EBADMSG : error;
}

bool chunk_reader_may_try_again(struct chunk_reader *reader, int error)
{
    return (error == -EMFILE || error == -ENFILE) &&
           open_chunks_make_room(reader->open_chunks);
}

/* Whether a chunk of which the catalog says this has a table of its own. */
static bool has_table(uint64_t generation, unsigned flags)
{
    return generation != 0 && (flags & (CATALOG_ZERO | CATALOG_HOLE)) == 0;
}

/* Whether the entry says of the chunk what the catalog says of it now. */
static bool still_rules(const struct chunk_reader *reader, uint64_t chunk,
                        const struct catalog_entry *entry)
{
    struct catalog_entry now;

    catalog_get(reader->catalog, chunk, &now);
    return now.generation == entry->generation &&
           now.revision == entry->revision && now.flags == entry->flags;
}

int chunk_reader_open_file(struct chunk_reader *reader, uint64_t chunk,
                           struct chunk_file **ret_file,
                           struct chunk_table **ret_table)
{
    struct catalog_entry entry;
    struct chunk_file *file = NULL;
    int error;

    /* A new state may be committed, and its file renamed, as we look. */
    do {
        chunk_file_release(file);
        file = NULL;
        catalog_get(reader->catalog, chunk, &entry);
        if (!has_table(entry.generation, entry.flags) ||
            (entry.flags & CATALOG_FILE) == 0)
            return -ESTALE;
        error = chunk_file_open(reader->dir, chunk, &file);
        if (error == 0)
            error = chunk_file_read_table(file, entry.generation,
                                          entry.revision, ret_table);
    } while (error != 0 && (!still_rules(reader, chunk, &entry) ||
                            chunk_reader_may_try_again(reader, error)));

    if (error == 0) {
        *ret_file = file;
        return 0;
    }
    chunk_file_release(file);
    return unreadable_file(reader, chunk, entry.generation, error);
}

int chunk_reader_read_table(struct chunk_reader *reader, uint64_t chunk,
                            struct chunk_file *file, uint64_t generation,
                            uint32_t revision, struct chunk_table **ret_table)
{
    int error = chunk_file_read_table(file, generation, revision, ret_table);

    return error == 0 ? 0 : unreadable_file(reader, chunk, generation, error);
}

bool chunk_reader_is_clean(const struct chunk_reader *reader,
                           const struct catalog_entry *entry)
{
    return reader->fetch != NULL && entry->objects_count > 0 &&
           entry->uploaded_generation == entry->generation;
}

/*
 * Have other readers find file and table, whose references are taken over.
 * Another revision may have come to rule, and its table taken this one's place
 * or dropped it, before it was there: then it must not stay, for it names
 * objects that nobody keeps, or a file that takes space without a name.
 */
static struct open_chunk *show(struct chunk_reader *reader, uint64_t chunk,
                               struct chunk_file *file,
                               struct chunk_table *table)
{
    struct open_chunk *open =
        open_chunks_put(reader->open_chunks, chunk, file, table);
    struct catalog_entry now;

    if (open == NULL)
        return NULL;
    catalog_get(reader->catalog, chunk, &now);
    if (now.generation != open->table->generation ||
        now.revision != open->table->revision)
        open_chunks_drop(reader->open_chunks, chunk);
    return open;
}

static enum object_urgency urgency_of(enum patience patience)
{
    return patience == PATIENCE_AHEAD ? OBJECT_AHEAD : OBJECT_WAITED_FOR;
}

/*
 * A chunk that is only in the bucket: its table is that of its object.  All
 * is taken from one reading of the entry: objects of one state under the
 * generation of the next would hide what has been written in between.
 */
static int hold_remote(struct chunk_reader *reader, uint64_t chunk,
                       const struct catalog_entry *entry,
                       enum patience patience, struct open_chunk **ret_open)
{
    struct chunk_table *table;
    int error;

    if (patience < PATIENCE_STORE)
        return -EAGAIN;
    if (reader->fetch == NULL || entry->objects_count == 0) {
        log_damage(reader, chunk, 0, "is neither here nor in the bucket");
        return -EIO;
    }
    error = fetch_table(reader->fetch, chunk, reader->chunk_size,
                        &entry->objects[entry->objects_count - 1],
                        urgency_of(patience), &table);
    if (error != 0)
        return error;
    table->generation = entry->generation;
    table->revision = entry->revision;
    *ret_open = show(reader, chunk, NULL, table);
    return *ret_open == NULL ? -ENOMEM : 0;
}

/* The chunk as it was in this entry, if that is all in the bucket. */
static int hold_clean(struct chunk_reader *reader, uint64_t chunk,
                      const struct catalog_entry *entry, enum patience patience,
                      struct open_chunk **ret_open, unsigned *ret_flags)
{
    /* It may have got a new file, lost it, or become zeros, as we looked. */
    if (!still_rules(reader, chunk, entry))
        return chunk_reader_hold(reader, chunk, patience, ret_open, ret_flags);
    /* A bad file that holds no more than its objects do is no loss. */
    if (chunk_reader_is_clean(reader, entry))
        return hold_remote(reader, chunk, entry, patience, ret_open);
    return -EIO;
}

int chunk_reader_hold(struct chunk_reader *reader, uint64_t chunk,
                      enum patience patience, struct open_chunk **ret_open,
                      unsigned *ret_flags)
{
    struct catalog_entry entry;
    struct chunk_file *file = NULL;
    struct chunk_table *table = NULL;
    int error;

    *ret_open = NULL;
    entry.generation = catalog_generation(reader->catalog, chunk, &entry.flags);
    *ret_flags = entry.flags;
    if (!has_table(entry.generation, entry.flags))
        return 0;
    *ret_open = open_chunks_get(reader->open_chunks, chunk, entry.generation);
    if (*ret_open != NULL)
        return 0;
    if (patience < PATIENCE_DISK)
        return -EAGAIN;
    catalog_get(reader->catalog, chunk, &entry);
    *ret_flags = entry.flags;
    if (!has_table(entry.generation, entry.flags))
        return 0;
    if ((entry.flags & CATALOG_FILE) == 0)
        return hold_remote(reader, chunk, &entry, patience, ret_open);

    error = chunk_reader_open_file(reader, chunk, &file, &table);
    if (error == 0) {
        *ret_open = show(reader, chunk, file, table);
        return *ret_open == NULL ? -ENOMEM : 0;
    }
    if (error == -ENOMEM || error == -EMFILE || error == -ENFILE)
        return error;
    return hold_clean(reader, chunk, &entry, patience, ret_open, ret_flags);
}

/*
 * Now that the table of its newest object is here, keep what it says of the
 * bases that the chunk's own table does not know: the next block needs no
 * second request.  Without memory it is asked for again.
 */
static void learn_bases(struct chunk_reader *reader,
                        const struct open_chunk *open,
                        const struct chunk_table *newest)
{
    struct chunk_table *table = chunk_table_copy(open->table);

    if (table == NULL)
        return;
    if (!rebase_learn(table, newest)) {
        chunk_table_release(table);
        return;
    }
    open_chunk_release(
        reader->open_chunks,
        show(reader, open->chunk,
             open->file == NULL ? NULL : chunk_file_hold(open->file), table));
}

void chunk_reader_learn(struct chunk_reader *reader, struct chunk_table *table)
{
    struct open_chunk *open =
        open_chunks_get(reader->open_chunks, table->chunk, table->generation);

    /* Only of the bases: it may have the blocks of a file before this one. */
    if (open != NULL && open->table->revision == table->revision)
        (void)rebase_learn(table, open->table);
    open_chunk_release(reader->open_chunks, open);
}

static void spread_pages(unsigned pages, const unsigned char *packed,
                         unsigned char *plain)
{
    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        if ((pages & (1U << page)) == 0)
            continue;
        memcpy(plain + page * CACHE_PAGE, packed, CACHE_PAGE);
        packed += CACHE_PAGE;
    }
}

/* Pages of a block that is here in part, over what is in plain. */
static int read_local(const struct open_chunk *open, uint32_t block,
                      unsigned char *plain, bool nowait)
{
    struct scratch *scratch = scratch_get();
    unsigned char *packed;
    int error;

    if (scratch == NULL)
        return -ENOMEM;
    packed = scratch->reader_read_local;
    error =
        chunk_file_read_block(open->file, open->table, block, packed, nowait);
    if (error == 0)
        spread_pages(open->table->blocks[block].local_pages, packed, plain);
    return error;
}

static int lost_block(struct chunk_reader *reader,
                      const struct open_chunk *open, uint32_t block, int error)
{
    log_damage(reader, open->chunk, block,
               error == -EBADMSG ? "is damaged in its file"
                                 : "cannot be read from its file");
    return -EIO;
}

/*
 * Read a block by its table into plain, so much of it that the wanted pages
 * are right.  *ret_whole: all of them are.  *ret_remote: nothing was read, the
 * bucket has to bring the base.
 */
static int read_block(struct chunk_reader *reader,
                      const struct open_chunk *open, uint32_t block,
                      unsigned wanted, unsigned char *plain, bool nowait,
                      bool *ret_whole, bool *ret_remote)
{
    const struct chunk_block *entry = &open->table->blocks[block];
    unsigned local = entry->local_pages;
    bool is_remote = entry->base == BASE_OBJECT || entry->base == BASE_UNKNOWN;
    int error;

    *ret_whole = entry->damaged_pages == 0;
    *ret_remote = false;
    if ((entry->damaged_pages & wanted) != 0) {
        log_damage(reader, open->chunk, block, "was lost earlier");
        return -EIO;
    }
    if (is_remote && (wanted & ~local) != 0) {
        *ret_remote = true;
        return 0;
    }
    if ((wanted & ~entry->zero_pages) == 0) {
        memset(plain, 0, CACHE_BLOCK);
        *ret_whole = false;
        return 0;
    }
    if (local == ALL_PAGES) {
        error = chunk_file_read_block(open->file, open->table, block, plain,
                                      nowait);
        if (error == 0 || error == -EAGAIN)
            return error;
        *ret_remote = is_remote;
        return is_remote ? 0 : lost_block(reader, open, block, error);
    }
    memset(plain, 0, CACHE_BLOCK);
    *ret_whole = *ret_whole && !is_remote;
    if (local == 0)
        return 0;
    error = read_local(open, block, plain, nowait);
    if (error == 0 || error == -EAGAIN)
        return error;
    *ret_whole = false;
    return (wanted & local) == 0 ? 0 : lost_block(reader, open, block, error);
}

struct currency {
    struct catalog *catalog;
    uint64_t chunk;
    uint64_t generation;
};

static bool is_current(void *context)
{
    const struct currency *is = context;

    return catalog_generation(is->catalog, is->chunk, NULL) == is->generation;
}

/* ---- a read -------------------------------------------------------------- */

enum { WANTED_AT_ONCE = 128 }; /* blocks; a longer read asks several times */

static const unsigned char zeros[CACHE_BLOCK];

/* A part of a chunk, and which of its blocks the bucket has to bring. */
struct reading {
    struct chunk_reader *reader;
    struct open_chunk *open;
    enum object_urgency urgency; /* of what the bucket has */
    unsigned char *data;         /* NULL: only into memory */
    uint32_t offset;             /* in the chunk, of data */
    size_t size;
    uint32_t *wanted; /* in ascending order */
    uint32_t *chosen; /* as much room: those of them that one table knows */
    size_t wanted_count;
    int error;                      /* of a block that arrived */
    void (*arrived)(void *context); /* NULL: nobody wants to know, any more */
    void *context;
};

/* The part of a block that is read. */
struct part {
    uint32_t inside; /* the block */
    size_t size;
    size_t done; /* before it, of the whole */
};

static struct part part_of(const struct reading *reading, uint32_t block)
{
    size_t begin = (size_t)block * CACHE_BLOCK;
    size_t from = begin > reading->offset ? begin : reading->offset;
    size_t to = begin + CACHE_BLOCK;

    if (to > reading->offset + reading->size)
        to = reading->offset + reading->size;
    return (struct part){(uint32_t)(from - begin), to - from,
                         from - reading->offset};
}

/* The pages of a block that a part of it touches. */
static unsigned pages_of(const struct part *part)
{
    unsigned first = part->inside / CACHE_PAGE;
    unsigned last = (part->inside + (unsigned)part->size - 1) / CACHE_PAGE;

    return (2U << last) - (1U << first);
}

static void remember(struct chunk_reader *reader, const struct open_chunk *open,
                     uint32_t block, const unsigned char *plain)
{
    struct currency currency = {reader->catalog, open->chunk,
                                open->table->generation};

    block_cache_put(reader->blocks, open->chunk, block, plain, is_current,
                    &currency);
}

/*
 * The base of a block is here, as another or the chunk's own table describes
 * it: put together what was asked for.
 */
static void place_base(struct reading *reading, uint32_t block,
                       const struct chunk_block *as_read,
                       const unsigned char *plain)
{
    struct scratch *scratch = scratch_get();
    const struct chunk_block *entry = &reading->open->table->blocks[block];
    struct part part = part_of(reading, block);
    unsigned lost =
        entry->damaged_pages | (as_read->damaged_pages & ~entry->local_pages);
    bool is_whole = lost == 0;

    if (reading->data != NULL && (pages_of(&part) & lost) != 0) {
        log_damage(reading->reader, reading->open->chunk, block,
                   "was lost earlier");
        reading->error = -EIO;
        return;
    }
    /* All pages local: the copy here is bad, or it had not been asked for. */
    if (entry->local_pages != 0 && entry->local_pages != ALL_PAGES) {
        unsigned char *merged;
        int error;

        if (scratch == NULL) {
            reading->error = -ENOMEM;
            return;
        }
        merged = scratch->reader_place_base;
        memcpy(merged, plain, CACHE_BLOCK);
        error = read_local(reading->open, block, merged, false);
        is_whole = is_whole && error == 0;
        if (error != 0 && (pages_of(&part) & entry->local_pages) != 0)
            reading->error =
                lost_block(reading->reader, reading->open, block, error);
        plain = merged;
    }
    if (is_whole)
        remember(reading->reader, reading->open, block, plain);
    if (reading->data != NULL)
        memcpy(reading->data + part.done, plain + part.inside, part.size);
}

/* Blocks that arrive, by the table that they were asked by. */
struct arrival {
    struct reading *reading;
    const struct chunk_table *table;
};

static void arrive(void *context, uint32_t block, const void *stored,
                   const void *plain)
{
    const struct arrival *arrival = context;
    struct reading *reading = arrival->reading;
    const struct chunk_reader *reader = reading->reader;
    const struct chunk_block *as_read = &arrival->table->blocks[block];

    if (reading->arrived != NULL)
        reading->arrived(reading->context);
    reading->arrived = NULL;
    if (reader->keep != NULL &&
        reading->open->table->blocks[block].local_pages == 0)
        reader->keep(reader->keep_context, arrival->table->chunk, block,
                     as_read, &arrival->table->objects[as_read->object].id,
                     stored);
    place_base(reading, block, as_read, plain);
}

static int fetch_chosen(struct reading *reading,
                        const struct chunk_table *table, size_t count)
{
    struct arrival arrival = {reading, table};

    return count == 0
               ? 0
               : fetch_blocks(reading->reader->fetch, table, reading->chosen,
                              count, reading->urgency, arrive, &arrival);
}

/* Those of the wanted blocks of which the chunk's own table knows. */
static int fetch_known(struct reading *reading, size_t *ret_unknown)
{
    const struct chunk_table *table = reading->open->table;
    size_t count = 0;

    for (size_t i = 0; i < reading->wanted_count; i++) {
        if (table->blocks[reading->wanted[i]].base == BASE_OBJECT)
            reading->chosen[count++] = reading->wanted[i];
    }
    *ret_unknown = reading->wanted_count - count;
    return fetch_chosen(reading, table, count);
}

/* The others, of which the table of the newest object does. */
static int fetch_unknown(struct reading *reading)
{
    const struct chunk_table *table = reading->open->table;
    struct chunk_table *newest;
    size_t count = 0;
    int error = fetch_table(
        reading->reader->fetch, table->chunk, table->chunk_size,
        &table->objects[table->objects_count - 1], reading->urgency, &newest);

    if (error != 0)
        return error;
    for (size_t i = 0; i < reading->wanted_count; i++) {
        uint32_t block = reading->wanted[i];

        if (table->blocks[block].base == BASE_OBJECT)
            continue;
        if (newest->blocks[block].base == BASE_OBJECT)
            reading->chosen[count++] = block;
        else
            place_base(reading, block, &newest->blocks[block], zeros);
    }
    error = fetch_chosen(reading, newest, count);
    learn_bases(reading->reader, reading->open, newest);
    chunk_table_release(newest);
    return error;
}

/* Get all wanted blocks from the bucket; none is wanted afterwards. */
static int fetch_wanted(struct reading *reading)
{
    size_t unknown;
    int error;

    if (reading->wanted_count == 0)
        return 0;
    assert(reading->open != NULL); /* it says which blocks are wanted */
    if (reading->reader->fetch == NULL ||
        reading->open->table->objects_count == 0) {
        log_damage(reading->reader, reading->open->chunk, reading->wanted[0],
                   "is in an object, but there is no store to ask");
        return -EIO;
    }
    error = fetch_known(reading, &unknown);
    if (error == 0 && unknown > 0)
        error = fetch_unknown(reading);
    reading->wanted_count = 0;
    return error != 0 ? error : reading->error;
}

/* One block, which is not in memory, by the chunk's table. */
static int read_part(struct reading *reading, uint32_t block,
                     enum patience patience)
{
    struct scratch *scratch = scratch_get();
    struct part part = part_of(reading, block);
    unsigned char *to = reading->data + part.done;
    unsigned char *plain;
    bool is_whole;
    bool is_remote;
    int error;

    if (scratch == NULL)
        return -ENOMEM;
    plain = part.size == CACHE_BLOCK ? to : scratch->reader_read_part;
    error = read_block(reading->reader, reading->open, block, pages_of(&part),
                       plain, patience == PATIENCE_NONE, &is_whole, &is_remote);
    if (error != 0)
        return error;
    if (is_remote) {
        if (patience < PATIENCE_STORE)
            return -EAGAIN;
        reading->wanted[reading->wanted_count++] = block;
        return reading->wanted_count == WANTED_AT_ONCE ? fetch_wanted(reading)
                                                       : 0;
    }
    if (is_whole)
        remember(reading->reader, reading->open, block, plain);
    if (plain != to)
        memcpy(to, plain + part.inside, part.size);
    return 0;
}

int chunk_reader_read(struct chunk_reader *reader, uint64_t chunk,
                      uint32_t offset, void *data, size_t size,
                      enum patience patience)
{
    uint32_t wanted[WANTED_AT_ONCE];
    uint32_t chosen[WANTED_AT_ONCE];
    struct reading reading = {.reader = reader,
                              .data = data,
                              .urgency = urgency_of(patience),
                              .offset = offset,
                              .size = size,
                              .wanted = wanted,
                              .chosen = chosen};
    uint32_t end = (uint32_t)((offset + size + CACHE_BLOCK - 1) / CACHE_BLOCK);
    bool is_held = false;
    int error = 0;

    for (uint32_t block = offset / CACHE_BLOCK; block < end && error == 0;
         block++) {
        struct part part = part_of(&reading, block);
        unsigned char *to = reading.data + part.done;
        unsigned flags;

        if (block_cache_get(reader->blocks, chunk, block, part.inside, to,
                            part.size))
            continue;
        if (!is_held)
            error = chunk_reader_hold(reader, chunk, patience, &reading.open,
                                      &flags);
        is_held = true;
        if (error == 0 && reading.open == NULL)
            memset(to, 0, part.size);
        else if (error == 0)
            error = read_part(&reading, block, patience);
    }
    if (error == 0)
        error = fetch_wanted(&reading);
    open_chunk_release(reader->open_chunks, reading.open);
    return error;
}

/* Whether memory has not got what only the bucket has of a block. */
static bool is_worth_fetching(const struct reading *reading, uint32_t block)
{
    const struct chunk_block *entry = &reading->open->table->blocks[block];

    return (entry->base == BASE_OBJECT || entry->base == BASE_UNKNOWN) &&
           entry->local_pages != ALL_PAGES && entry->damaged_pages == 0 &&
           !block_cache_has(reading->reader->blocks, reading->open->chunk,
                            block);
}

int chunk_reader_prefetch(struct chunk_reader *reader, uint64_t chunk,
                          uint32_t first, uint32_t count,
                          void (*arrived)(void *context), void *context)
{
    uint32_t *room = calloc(count, 2 * sizeof(*room));
    struct reading reading = {.reader = reader,
                              .urgency = OBJECT_AHEAD,
                              .offset = first * CACHE_BLOCK,
                              .size = (size_t)count * CACHE_BLOCK,
                              .wanted = room,
                              .arrived = arrived,
                              .context = context};
    unsigned flags;
    int error;

    if (room == NULL)
        return -ENOMEM;
    reading.chosen = room + count;
    error =
        chunk_reader_hold(reader, chunk, PATIENCE_AHEAD, &reading.open, &flags);
    for (uint32_t block = first;
         error == 0 && reading.open != NULL && block < first + count; block++) {
        if (is_worth_fetching(&reading, block))
            reading.wanted[reading.wanted_count++] = block;
    }
    if (error == 0)
        error = fetch_wanted(&reading);
    open_chunk_release(reader->open_chunks, reading.open);
    free(room);
    return error;
}
