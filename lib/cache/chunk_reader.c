/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why a read never sees a mixture: tables are never changed, and what they
 * name is never overwritten while somebody holds the file.  Why a block in
 * memory is never stale: it is put there only if the catalog still has the
 * generation of the table that it was read by, checked under the lock that
 * the next state's update of that block takes after the catalog has changed.
 */
#include "cache/chunk_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "cache/geometry.h"

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

/* Whether the chunk has, or had in this entry, a table of its own. */
static bool has_table(const struct catalog_entry *entry)
{
    return entry->generation != 0 &&
           (entry->flags & (CATALOG_ZERO | CATALOG_HOLE)) == 0;
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
        if (!has_table(&entry) || (entry.flags & CATALOG_FILE) == 0)
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
                        &entry->objects[entry->objects_count - 1], &table);
    if (error != 0)
        return error;
    table->generation = entry->generation;
    table->revision = entry->revision;
    *ret_open = open_chunks_put(reader->open_chunks, chunk, NULL, table);
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
    if (!has_table(&entry))
        return 0;
    *ret_open = open_chunks_get(reader->open_chunks, chunk, entry.generation);
    if (*ret_open != NULL)
        return 0;
    if (patience < PATIENCE_DISK)
        return -EAGAIN;
    catalog_get(reader->catalog, chunk, &entry);
    *ret_flags = entry.flags;
    if (!has_table(&entry))
        return 0;
    if ((entry.flags & CATALOG_FILE) == 0)
        return hold_remote(reader, chunk, &entry, patience, ret_open);

    error = chunk_reader_open_file(reader, chunk, &file, &table);
    if (error == 0) {
        *ret_open = open_chunks_put(reader->open_chunks, chunk, file, table);
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
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        struct chunk_block *block = &table->blocks[i];
        const struct chunk_block *base = &newest->blocks[i];

        if (block->base == BASE_OBJECT) {
            chunk_table_release(table); /* its objects may be others */
            return;
        }
        if (block->base != BASE_UNKNOWN)
            continue;
        block->base = base->base;
        block->object = base->object;
        block->object_codec = base->object_codec;
        block->object_size = base->object_size;
        block->object_place = base->object_place;
        block->object_checksum = base->object_checksum;
    }
    table->objects_count = newest->objects_count;
    memcpy(table->objects, newest->objects, sizeof(table->objects));
    open_chunk_release(
        reader->open_chunks,
        open_chunks_put(reader->open_chunks, open->chunk,
                        open->file == NULL ? NULL : chunk_file_hold(open->file),
                        table));
}

/* The base of a block, whole, from the bucket. */
static int fetch_base(struct chunk_reader *reader,
                      const struct open_chunk *open, uint32_t block,
                      void *plain, enum patience patience)
{
    const struct chunk_table *table = open->table;
    struct chunk_table *newest;
    int error;

    if (patience < PATIENCE_STORE)
        return -EAGAIN;
    if (reader->fetch == NULL || table->objects_count == 0) {
        log_damage(reader, table->chunk, block,
                   "is in an object, but there is no store to ask");
        return -EIO;
    }
    if (table->blocks[block].base == BASE_OBJECT)
        return fetch_block(reader->fetch, table, block, plain);

    error = fetch_table(reader->fetch, table->chunk, table->chunk_size,
                        &table->objects[table->objects_count - 1], &newest);
    if (error != 0)
        return error;
    if (newest->blocks[block].base == BASE_OBJECT)
        error = fetch_block(reader->fetch, newest, block, plain);
    else
        memset(plain, 0, CACHE_BLOCK);
    learn_bases(reader, open, newest);
    chunk_table_release(newest);
    return error;
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

/*
 * Read a block by its table into plain, so much of it that the wanted pages
 * are right.  *ret_whole: all of them are.
 */
static int read_block(struct chunk_reader *reader,
                      const struct open_chunk *open, uint32_t block,
                      unsigned wanted, unsigned char *plain,
                      enum patience patience, bool *ret_whole)
{
    static _Thread_local unsigned char packed[CACHE_BLOCK];
    const struct chunk_block *entry = &open->table->blocks[block];
    unsigned local = entry->local_pages;
    bool is_remote = entry->base == BASE_OBJECT || entry->base == BASE_UNKNOWN;
    int error;

    if ((entry->damaged_pages & wanted) != 0) {
        log_damage(reader, open->chunk, block, "was lost earlier");
        return -EIO;
    }
    *ret_whole = entry->damaged_pages == 0;
    if (local == ALL_PAGES) {
        error = chunk_file_read_block(open->file, open->table, block, plain,
                                      patience == PATIENCE_NONE);
        if (error == 0 || error == -EAGAIN)
            return error;
        if (is_remote)
            return fetch_base(reader, open, block, plain, patience);
        log_damage(reader, open->chunk, block,
                   error == -EBADMSG ? "is damaged in its file"
                                     : "cannot be read from its file");
        return -EIO;
    }
    if (is_remote && (wanted & ~local) != 0) {
        error = fetch_base(reader, open, block, plain, patience);
        if (error != 0)
            return error;
    } else {
        memset(plain, 0, CACHE_BLOCK);
        *ret_whole = *ret_whole && !is_remote;
    }
    if (local == 0)
        return 0;
    error = chunk_file_read_block(open->file, open->table, block, packed,
                                  patience == PATIENCE_NONE);
    if (error == 0) {
        spread_pages(local, packed, plain);
        return 0;
    }
    if (error == -EAGAIN)
        return error;
    *ret_whole = false;
    if ((wanted & local) == 0)
        return 0;
    log_damage(reader, open->chunk, block,
               error == -EBADMSG ? "is damaged in its file"
                                 : "cannot be read from its file");
    return -EIO;
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

/* The pages of a block that size bytes at offset inside it touch. */
static unsigned pages_of(uint32_t offset, size_t size)
{
    unsigned first = offset / CACHE_PAGE;
    unsigned last = (unsigned)((offset + size - 1) / CACHE_PAGE);

    return ((2U << last) - 1) & ~((1U << first) - 1);
}

/* Read a part of one block that is not in memory. */
static int read_part(struct chunk_reader *reader, const struct open_chunk *open,
                     uint32_t block, uint32_t offset, unsigned char *data,
                     size_t size, enum patience patience)
{
    static _Thread_local unsigned char buffer[CACHE_BLOCK];
    unsigned char *plain = size == CACHE_BLOCK ? data : buffer;
    struct currency currency = {reader->catalog, open->chunk,
                                open->table->generation};
    bool is_whole;
    int error = read_block(reader, open, block, pages_of(offset, size), plain,
                           patience, &is_whole);

    if (error != 0)
        return error;
    if (is_whole)
        block_cache_put(reader->blocks, open->chunk, block, plain, is_current,
                        &currency);
    if (plain != data)
        memcpy(data, plain + offset, size);
    return 0;
}

int chunk_reader_read(struct chunk_reader *reader, uint64_t chunk,
                      uint32_t offset, void *data, size_t size,
                      enum patience patience)
{
    struct open_chunk *open = NULL;
    unsigned char *to = data;
    bool is_held = false;
    int error = 0;

    while (size > 0 && error == 0) {
        uint32_t block = offset / CACHE_BLOCK;
        uint32_t inside = offset % CACHE_BLOCK;
        size_t part = CACHE_BLOCK - inside;
        unsigned flags;

        if (part > size)
            part = size;
        if (!block_cache_get(reader->blocks, chunk, block, inside, to, part)) {
            if (!is_held)
                error =
                    chunk_reader_hold(reader, chunk, patience, &open, &flags);
            is_held = true;
            if (error == 0 && open == NULL)
                memset(to, 0, part);
            else if (error == 0)
                error =
                    read_part(reader, open, block, inside, to, part, patience);
        }
        to += part;
        offset += (uint32_t)part;
        size -= part;
    }
    open_chunk_release(reader->open_chunks, open);
    return error;
}
