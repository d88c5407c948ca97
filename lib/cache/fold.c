/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/fold.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "cache/block_codec.h"
#include "cache/geometry.h"
#include "cache/scratch.h"

enum {
    /* A file may have this much dead space beside as much as is alive. */
    DEAD_BYTES_ALLOWED = 1 << 20,
};

/* The blocks that are appended to the file in one write. */
struct appended {
    unsigned char *data;
    size_t size;
    size_t capacity;
};

/* One block on its way from the old state to the new one. */
struct block_fold {
    unsigned known;       /* pages that the journal knows */
    unsigned zero;        /* pages with zeros */
    unsigned kept;        /* pages with zeros that are no hole */
    unsigned data;        /* pages whose content is in plain */
    unsigned damaged;     /* pages that are lost */
    unsigned char *plain; /* CACHE_BLOCK bytes */
};

static bool is_remote(const struct chunk_block *entry)
{
    return entry->base == BASE_OBJECT || entry->base == BASE_UNKNOWN;
}

static bool has_file(const struct fold *fold)
{
    return (fold->before.flags & CATALOG_FILE) != 0;
}

/* Whether the chunk's file has a table that rules. */
static bool has_table(const struct fold *fold)
{
    return has_file(fold) &&
           (fold->before.flags & (CATALOG_ZERO | CATALOG_HOLE)) == 0;
}

/*
 * A table for a chunk without a readable one, as if it were the one that
 * rules.
 */
static struct chunk_table *table_without_file(const struct fold *fold,
                                              struct chunk_reader *reader,
                                              bool was_lost)
{
    struct chunk_table *table =
        chunk_table_new(fold->chunk, reader->chunk_size);
    bool is_in_bucket = fold->before.objects_count > 0;

    if (table == NULL)
        return NULL;
    table->generation = fold->before.generation;
    table->revision = fold->before.revision;
    if (is_in_bucket &&
        (!was_lost || chunk_reader_is_clean(reader, &fold->before))) {
        table->objects_count = fold->before.objects_count;
        memcpy(table->objects, fold->before.objects,
               sizeof(table->objects[0]) * table->objects_count);
    }
    for (uint32_t block = 0; block < table->blocks_count; block++) {
        struct chunk_block *entry = &table->blocks[block];

        if (table->objects_count > 0)
            entry->base = BASE_UNKNOWN;
        else if (was_lost)
            entry->damaged_pages = ALL_PAGES;
        else if ((fold->before.flags & CATALOG_ZERO) != 0)
            entry->base = BASE_ZERO;
    }
    if (table->objects_count > 0)
        chunk_reader_learn(reader, table);
    return table;
}

/* The states that the next one must leave alone, and the file they are in. */
struct old_states {
    struct chunk_file *file;
    struct chunk_table *table;  /* to build on */
    struct chunk_table *pinned; /* or NULL: none, the same, or unreadable */
    bool was_lost;              /* the table: what it was cannot be read */
    bool pin_was_lost;
};

static void old_states_done(struct old_states *old)
{
    chunk_file_release(old->file);
    chunk_table_release(old->table);
    chunk_table_release(old->pinned);
}

/* Whether what failed with this error counts as lost, this time. */
static bool counts_as_lost(const struct fold *fold, int error)
{
    return error == -EBADMSG || (error == -EIO && fold->failed_before);
}

/* Open the file, and the table that rules, if the chunk has one. */
static int open_ruling(struct fold_device *device, const struct fold *fold,
                       struct old_states *old)
{
    struct chunk_reader *reader = device->reader;
    int error;

    if (has_table(fold)) {
        error = chunk_reader_open_file(reader, fold->chunk, &old->file,
                                       &old->table);
        if (error == 0)
            return 0;
        if (!counts_as_lost(fold, error))
            return error;
        old->was_lost = true;
    }
    old->table = table_without_file(fold, reader, old->was_lost);
    if (old->table == NULL)
        return -ENOMEM;
    if (!fold->is_pinned)
        return 0;
    do {
        error = chunk_file_open(reader->dir, fold->chunk, &old->file);
    } while (error != 0 && chunk_reader_may_try_again(reader, error));
    if (error == -ENOENT) {
        old->pin_was_lost = true;
        return 0;
    }
    return error;
}

/* Whether the table that rules is the very one that the checkpoint wants. */
static bool is_the_pinned(const struct fold *fold)
{
    return fold->checkpoint.generation == fold->before.generation &&
           fold->checkpoint.revision == fold->before.revision;
}

static int open_pinned(struct fold_device *device, const struct fold *fold,
                       struct old_states *old)
{
    int error;

    if (!fold->is_pinned || old->file == NULL || is_the_pinned(fold))
        return 0;
    error = chunk_reader_read_table(device->reader, fold->chunk, old->file,
                                    fold->checkpoint.generation,
                                    fold->checkpoint.revision, &old->pinned);
    if (error != 0 && counts_as_lost(fold, error)) {
        old->pin_was_lost = true;
        return 0;
    }
    return error;
}

static uint64_t live_bytes(const struct old_states *old)
{
    uint64_t live = chunk_table_live_bytes(old->table);

    for (uint32_t i = 0; old->pinned && i < old->pinned->blocks_count; i++) {
        const struct chunk_block *block = &old->pinned->blocks[i];

        if (block->local_pages != 0 &&
            (old->table->blocks[i].local_pages == 0 ||
             old->table->blocks[i].place != block->place))
            live += block->stored_size;
    }
    return live;
}

static bool has_much_dead_space(const struct old_states *old)
{
    uint64_t used =
        old->table->data_end - chunk_file_data_start(old->table->chunk_size);

    return used > 2 * live_bytes(old) + DEAD_BYTES_ALLOWED;
}

/* Move what the file must go on having to a new one. */
static int rewrite(struct fold_device *device, struct old_states *old)
{
    struct chunk_dir *dir = device->reader->dir;
    struct old_states new = {NULL, NULL, NULL, false, false};
    int error = 0;

    if (old->was_lost || old->pin_was_lost)
        error = chunk_file_set_aside(dir, old->table->chunk);
    if (error == 0)
        error = chunk_file_rewrite(dir, old->file, old->table, old->pinned,
                                   &new.file, &new.table, &new.pinned);
    if (error != 0)
        return error;
    atomic_fetch_add(&device->written, new.table->data_end);
    new.was_lost = old->was_lost;
    new.pin_was_lost = old->pin_was_lost;
    old_states_done(old);
    *old = new;
    return 0;
}

/* The file has nothing to keep, or nothing that can be. */
static void leave_file(struct old_states *old)
{
    chunk_file_release(old->file);
    chunk_table_release(old->pinned);
    old->file = NULL;
    old->pinned = NULL;
    old->table->data_end = chunk_file_data_start(old->table->chunk_size);
}

/*
 * Find the state to build on: fold->file and *ret_table.  Leaves fold->file
 * NULL where a file has to be created.
 *
 * The chunk moves to a new file if that is called for and can be done: else
 * it stays in the old one.  That is safe also after a sync of it has failed,
 * as the next state names nothing that was written since the last good one
 * and is not written again.  But without a table that can be read nobody
 * knows where to append, so then it must move, if it has anything to keep.
 */
static int open_old_states(struct fold_device *device, struct fold *fold,
                           struct chunk_table **ret_table)
{
    struct old_states old = {NULL, NULL, NULL, false, false};
    int error = open_ruling(device, fold, &old);

    if (error == 0)
        error = open_pinned(device, fold, &old);
    if (error == 0 && old.file != NULL && !has_table(fold))
        error = chunk_file_end(old.file, &old.table->data_end);
    if (error != 0)
        goto out;

    if (old.pinned == NULL && (old.was_lost || !has_table(fold)))
        leave_file(&old);
    fold->slots = CHUNK_SLOTS;
    if (old.file != NULL &&
        (old.was_lost || fold->failed_before || has_much_dead_space(&old))) {
        error = rewrite(device, &old);
        if (error == 0)
            fold->slots = old.pinned != NULL ? 3 : 2;
        else if (error != -ENOMEM && !old.was_lost)
            error = 0;
        else if (counts_as_lost(fold, error)) {
            leave_file(&old);
            error = 0;
        }
    }
    if (error != 0)
        goto out;
    if (has_table(fold))
        fold->taken |= 1U << old.table->slot;
    if (old.pinned != NULL)
        fold->taken |= 1U << old.pinned->slot;
    fold->file = take_pointer(&old.file);
    *ret_table = take_pointer(&old.table);
out:
    old_states_done(&old);
    return error;
}

/* Bring the pages that the journal knows into the block. */
static int take_journal_pages(struct fold_device *device,
                              const struct fold *fold, uint32_t block,
                              struct block_fold *to)
{
    const struct page_location *pages =
        &fold->set->pages[(size_t)block * PAGES_PER_BLOCK];

    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        unsigned bit = 1U << page;
        unsigned char *plain = to->plain + page * CACHE_PAGE;
        int error = 0;

        if (pages[page].kind == PAGE_ABSENT)
            continue;
        to->known |= bit;
        if (pages[page].kind != PAGE_RECORD) {
            to->zero |= bit;
            to->kept |= pages[page].kind == PAGE_ZERO ? bit : 0;
            memset(plain, 0, CACHE_PAGE);
            continue;
        }
        error = journal_read(device->journal, pages[page].position,
                             pages[page].checksum, 0, plain, CACHE_PAGE, false);
        if (error == -EBADMSG || (error == -EIO && fold->failed_before)) {
            to->damaged |= bit;
            memset(plain, 0, CACHE_PAGE);
            log_error("%s: chunk %016" PRIx64 ", block %" PRIu32
                      ", page %u: lost, the journal is damaged there",
                      device->device_name, fold->chunk, block, page);
        } else if (error != 0) {
            return error;
        } else if (bytes_are_zero(plain, CACHE_PAGE)) {
            to->zero |= bit;
        } else {
            to->data |= bit;
        }
    }
    return 0;
}

/*
 * Bring the pages of the old state into the block that are still wanted.
 * What cannot be read may be readable later; if it is not, it is lost.
 */
static int take_old_pages(struct fold_device *device, const struct fold *fold,
                          const struct chunk_table *old, uint32_t block,
                          struct block_fold *to)
{
    struct scratch *scratch = scratch_get();
    const struct chunk_block *entry = &old->blocks[block];
    unsigned wanted = chunk_block_stored_pages(entry) & ~to->known;
    unsigned zeros = entry->zero_pages & ~to->known;
    unsigned char *packed;
    const unsigned char *from;
    int error;

    if (scratch == NULL)
        return -ENOMEM;
    from = packed = scratch->fold_take_old_pages;

    to->damaged |= entry->damaged_pages & ~to->known;
    error = wanted == 0
                ? 0
                : chunk_file_read_block(fold->file, old, block, packed, false);
    if (error != 0 && error != -EBADMSG &&
        (error != -EIO || !fold->failed_before))
        return error;
    if (error != 0) {
        /* Unchanged since an object: it is there.  Else it is lost. */
        if (entry->local_pages == ALL_PAGES && is_remote(entry))
            return 0;
        to->damaged |= wanted;
        log_error("%s: chunk %016" PRIx64 ", block %" PRIu32
                  ": lost, its file is damaged there",
                  device->device_name, fold->chunk, block);
        return 0;
    }
    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        unsigned bit = 1U << page;

        if ((entry->local_pages & bit) == 0)
            continue;
        if ((zeros & bit) != 0) {
            memset(to->plain + page * CACHE_PAGE, 0, CACHE_PAGE);
            to->zero |= bit;
        } else if ((wanted & bit) != 0) {
            memcpy(to->plain + page * CACHE_PAGE, from, CACHE_PAGE);
            to->data |= bit;
        }
        from += CACHE_PAGE;
    }
    return 0;
}

static int append(struct appended *appended, const void *data, size_t size)
{
    if (appended->size + size > appended->capacity) {
        size_t capacity = appended->capacity * 2 + 16 * BLOCK_STORED_MAX;
        unsigned char *bigger = realloc(appended->data, capacity);

        if (bigger == NULL)
            return -ENOMEM;
        appended->data = bigger;
        appended->capacity = capacity;
    }
    memcpy(appended->data + appended->size, data, size);
    appended->size += size;
    return 0;
}

/* Store the pages of the mask, which lie in plain, and say so in entry. */
static int store_pages(struct chunk_block *entry, unsigned pages,
                       unsigned char *plain, uint32_t place,
                       struct appended *appended)
{
    struct scratch *scratch = scratch_get();
    unsigned char *stored;
    struct block_stored how;
    unsigned char *packed = plain;

    if (scratch == NULL)
        return -ENOMEM;
    stored = scratch->fold_store_pages;
    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        unsigned char *from = plain + page * CACHE_PAGE;

        if ((pages & (1U << page)) == 0)
            continue;
        if (packed != from)
            memcpy(packed, from, CACHE_PAGE);
        packed += CACHE_PAGE;
    }
    block_encode(plain, (size_t)(packed - plain), stored, &how);
    entry->local_pages = (uint8_t)pages;
    entry->codec = (uint8_t)how.codec;
    entry->stored_size = how.size;
    entry->checksum = how.checksum;
    entry->place = place + (uint32_t)appended->size;
    return append(appended, stored, how.size);
}

/* The next state of one block. */
static int fold_block(struct fold_device *device, const struct fold *fold,
                      const struct chunk_table *old, uint32_t block,
                      uint32_t place, struct chunk_block *ret_entry,
                      struct appended *appended)
{
    struct scratch *scratch = scratch_get();
    struct block_fold work = {0};
    const struct chunk_block *entry = &old->blocks[block];
    struct chunk_block next = {.base = BASE_HOLE};
    unsigned pages;
    int error;

    if (scratch == NULL)
        return -ENOMEM;
    work.plain = scratch->fold_block;
    error = take_journal_pages(device, fold, block, &work);
    if (error == 0)
        error = take_old_pages(device, fold, old, block, &work);
    if (error != 0)
        return error;

    pages = work.data;
    if (is_remote(entry) && (pages | work.zero | work.damaged) != ALL_PAGES) {
        pages |= work.zero; /* over a remote base they must be said */
        next = *entry;
    }
    if (!is_remote(&next)) {
        /* Zeros that are an object's may have been no hole before it. */
        bool was_zero = entry->base == BASE_ZERO || entry->zero_pages != 0;
        unsigned untouched =
            ALL_PAGES & ~(work.known | work.data | work.damaged);

        next.base = work.kept != 0 || (was_zero && untouched != 0) ? BASE_ZERO
                                                                   : BASE_HOLE;
    }
    next.local_pages = 0;
    next.zero_pages = 0;
    next.damaged_pages = (uint8_t)work.damaged;
    next.codec = 0;
    next.place = 0;
    next.checksum = 0;
    next.stored_size = 0;
    if (pages != 0)
        error = store_pages(&next, pages, work.plain, place, appended);
    if (error == 0)
        *ret_entry = next;
    return error;
}

static bool block_is_known(const struct page_set *set, uint32_t block)
{
    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        if (set->pages[(size_t)block * PAGES_PER_BLOCK + page].kind !=
            PAGE_ABSENT)
            return true;
    }
    return false;
}

/* All blocks: the new table, and what it appends to the file. */
static int build(struct fold_device *device, struct fold *fold,
                 const struct chunk_table *old, struct appended *appended)
{
    uint64_t place = round_up(old->data_end, CACHE_PAGE);
    struct chunk_table *table;

    /* Places have 32 bits: see GIVE_UP_CHUNKS for why this is never met. */
    if (place > UINT32_MAX - old->chunk_size)
        return -EFBIG;
    table = chunk_table_copy(old);
    if (table == NULL)
        return -ENOMEM;
    fold->table = table;
    table->generation = atomic_fetch_add(&device->generation, 1) + 1;
    table->revision = 0;
    table->slot = 0;
    for (uint32_t block = 0; block < table->blocks_count; block++) {
        int error;

        if (!block_is_known(fold->set, block))
            continue;
        error = fold_block(device, fold, old, block, (uint32_t)place,
                           &table->blocks[block], appended);
        if (error != 0)
            return error;
    }
    if (appended->size > 0)
        table->data_end = (uint32_t)(place + appended->size);
    return 0;
}

static bool has_damage(const struct chunk_table *table)
{
    for (uint32_t block = 0; block < table->blocks_count; block++) {
        if (table->blocks[block].damaged_pages != 0)
            return true;
    }
    return false;
}

/* Make a file for the next state; the old one, if any, cannot be read. */
static int make_file(const struct fold_device *device, struct fold *fold)
{
    struct chunk_dir *dir = device->reader->dir;
    int error = 0;

    fold->name_changed = true;
    fold->slots = 1;
    if (has_file(fold) && (has_damage(fold->table) || fold->is_pinned))
        error = chunk_file_set_aside(dir, fold->chunk);
    if (error != 0)
        return error;
    do {
        error = chunk_file_create(dir, fold->chunk, &fold->file);
    } while (chunk_reader_may_try_again(device->reader, error));
    return error;
}

/* Where the next state goes: its file, and the slot of its table. */
static int find_place(const struct fold_device *device, struct fold *fold)
{
    if (fold->file == NULL)
        return make_file(device, fold);
    fold->table->slot =
        chunk_file_choose_slot(fold->file, fold->table->generation,
                               fold->table->revision, fold->taken);
    return 0;
}

static int prepare(struct fold_device *device, struct fold *fold)
{
    struct chunk_reader *reader = device->reader;
    struct chunk_table *old = NULL;
    struct appended appended = {NULL, 0, 0};
    int error;

    catalog_get(reader->catalog, fold->chunk, &fold->before);
    catalog_get(device->checkpoint, fold->chunk, &fold->checkpoint);
    fold->is_pinned =
        has_file(fold) && !catalog_entry_is_clean(&fold->checkpoint);
    error = open_old_states(device, fold, &old);
    if (error == 0)
        error = build(device, fold, old, &appended);
    if (error != 0)
        goto out;

    if (chunk_table_is_hole(fold->table)) {
        fold->outcome = FOLD_HOLE;
    } else if (chunk_table_is_zero(fold->table)) {
        fold->outcome = FOLD_ZERO;
    } else {
        fold->outcome = FOLD_FILE;
        error = find_place(device, fold);
        if (error == 0 && appended.size > 0)
            error = chunk_file_write(fold->file, appended.data, appended.size,
                                     fold->table->data_end -
                                         (uint32_t)appended.size);
        atomic_fetch_add(&device->written, appended.size);
    }
out:
    chunk_table_release(old);
    free(appended.data);
    return error;
}

static bool has_records(const struct page_set *set)
{
    for (uint32_t page = 0; page < set->pages_per_chunk; page++) {
        if (set->pages[page].kind == PAGE_RECORD)
            return true;
    }
    return false;
}

void fold_prepare(struct fold_device *device, struct fold *fold)
{
    fold->outcome = FOLD_NOTHING;
    fold->set = page_set_new(device->index);
    if (fold->set == NULL) {
        fold->error = -ENOMEM;
        return;
    }
    page_index_collect(device->index, fold->chunk, fold->set);
    if (fold->set->known == 0 || (fold->zeros_only && has_records(fold->set)))
        return;
    fold->error = prepare(device, fold);
}

void fold_write_table(struct fold_device *device, struct fold *fold)
{
    if (fold->error != 0 || fold->outcome != FOLD_FILE)
        return;
    fold->error = chunk_file_write_slot(fold->file, fold->table);
    if (fold->error == 0)
        fold->error = chunk_file_sync(fold->file);
    atomic_fetch_add(&device->written, CACHE_PAGE);
}

/* What the catalog will say of the chunk; all zero: nothing. */
static void next_entry(const struct fold *fold, struct catalog_entry *ret_entry)
{
    const struct catalog_entry *before = &fold->before;
    const struct chunk_table *table = fold->table;
    bool is_hole = fold->outcome == FOLD_HOLE;

    *ret_entry = (struct catalog_entry){
        .generation = table->generation,
        .published_generation = before->published_generation,
    };
    if (fold->outcome == FOLD_FILE) {
        ret_entry->flags = CATALOG_FILE;
        ret_entry->file_pages = chunk_file_pages(table, fold->slots);
        /* They may have been lost, or void with an earlier state. */
        ret_entry->objects_count = table->objects_count;
        if (table->objects_count > 0)
            ret_entry->uploaded_generation = before->uploaded_generation;
        memcpy(ret_entry->objects, table->objects,
               sizeof(table->objects[0]) * table->objects_count);
        return;
    }
    if (is_hole && before->published_generation == 0 && !fold->is_pinned &&
        fold->checkpoint.generation == 0) {
        *ret_entry = (struct catalog_entry){.generation = 0};
        return;
    }
    ret_entry->flags = is_hole ? CATALOG_HOLE : CATALOG_ZERO;
    if (fold->is_pinned) {
        ret_entry->flags |= CATALOG_FILE;
        ret_entry->file_pages = before->file_pages;
    }
}

size_t fold_describe(const struct fold *fold,
                     struct state_change changes[FOLD_CHANGES_MAX])
{
    struct catalog_entry entry;

    assert(fold->error == 0);
    if (fold->outcome == FOLD_NOTHING)
        return 0;
    next_entry(fold, &entry);
    /* Zeros stay zeros, a hole a hole. */
    if (fold->outcome != FOLD_FILE && entry.flags == fold->before.flags &&
        (entry.generation == 0) == (fold->before.generation == 0))
        return 0;
    changes[0] = (struct state_change){
        .kind = STATE_CHUNK,
        .chunk = fold->chunk,
        .entry = entry,
    };
    return 1;
}

void fold_install(struct fold_device *device, struct fold *fold)
{
    struct chunk_reader *reader = device->reader;

    if (fold->outcome == FOLD_FILE) {
        open_chunk_release(reader->open_chunks,
                           open_chunks_put(reader->open_chunks, fold->chunk,
                                           chunk_file_hold(fold->file),
                                           chunk_table_hold(fold->table)));
        for (uint32_t block = 0; block < fold->table->blocks_count; block++) {
            if (block_is_known(fold->set, block))
                block_cache_update(reader->blocks, fold->chunk, block, NULL);
        }
    } else {
        open_chunks_drop(reader->open_chunks, fold->chunk);
        block_cache_drop_chunk(reader->blocks, fold->chunk,
                               fold->table->blocks_count);
        if (has_file(fold) && !fold->is_pinned) {
            int error = chunk_file_remove(reader->dir, fold->chunk);

            /* The state log says that it is void: only space is lost. */
            if (error != 0)
                log_warning("%s: chunk %016" PRIx64
                            ": its file cannot be removed: %s",
                            device->device_name, fold->chunk, log_errno(error));
        }
    }
    page_index_drop(device->index, fold->chunk, fold->set);
}

void fold_done(struct fold *fold)
{
    chunk_file_release(fold->file);
    chunk_table_release(fold->table);
    free(fold->set);
    fold->file = NULL;
    fold->table = NULL;
    fold->set = NULL;
}
