/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A tree of three fixed levels: root → branches → leaves of slots.  Branches
 * and leaves are made on demand and freed only with the catalog; when the
 * device grows, a longer root takes the place of the old one, which stays too.
 * So whoever has found a slot may use it without a lock.
 *
 * Ordering.  A root, branch or leaf is filled in before the pointer to it is
 * stored with release, and pointers are loaded with acquire: nobody sees a
 * node that is not ready.  A slot's generation and flags are one word, so
 * they always belong together; it is stored with release and loaded with
 * acquire, so who sees a generation also sees all that was done before it was
 * committed.  The rest of a slot is read and written under the lock.
 */
#include "cache/catalog.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/mutex.h"

enum {
    LEAF_SLOTS = 256,     /* 10 KiB: little for a chunk that is alone */
    BRANCH_LEAVES = 4096, /* 1 Mi chunks: 8 TiB of chunks of 8 MiB */
    FLAGS_BITS = 8,
    FLAGS_MASK = (1 << FLAGS_BITS) - 1,
};

static const uint64_t BRANCH_SLOTS = (uint64_t)BRANCH_LEAVES * LEAF_SLOTS;

struct slot {
    _Atomic uint64_t generation; /* << FLAGS_BITS, and the flags */
    uint64_t uploaded;           /* << FLAGS_BITS, and how many objects */
    uint64_t published;
    uint32_t revision;
    uint32_t file_pages;
    struct chunk_object *objects;
};

struct leaf {
    _Atomic unsigned mapped;               /* slots that are no hole */
    _Atomic uint16_t kinds[CATALOG_KINDS]; /* how many slots are of each */
    struct slot slots[LEAF_SLOTS];
};

struct branch {
    _Atomic(struct leaf *) leaves[BRANCH_LEAVES];
};

struct root {
    struct root *replaced; /* the shorter one before */
    uint64_t branches_count;
    _Atomic(struct branch *) branches[];
};

struct catalog {
    struct mutex lock;
    uint64_t chunks_count GUARDED_BY(lock);
    uint32_t table_pages; /* set before there is an entry */
    _Atomic(struct root *) root;
    _Atomic uint64_t mapped, unpublished, file_pages, dirty_pages;
    _Atomic uint64_t kinds[CATALOG_KINDS];
};

static struct root *new_root(uint64_t chunks_count)
{
    uint64_t count = chunks_count / BRANCH_SLOTS + 1;
    struct root *root;

    if (count > (SIZE_MAX - sizeof(*root)) / sizeof(root->branches[0]))
        return NULL;
    root = calloc(1, sizeof(*root) + count * sizeof(root->branches[0]));
    if (root)
        root->branches_count = count;
    return root;
}

int catalog_new(uint64_t chunks_count, struct catalog **ret_catalog)
{
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    struct root *root = new_root(chunks_count);

    if (!catalog || !root) {
        free(catalog);
        free(root);
        return -ENOMEM;
    }
    mutex_init(&catalog->lock);
    catalog->chunks_count = chunks_count;
    atomic_init(&catalog->root, root);
    *ret_catalog = catalog;
    return 0;
}

void catalog_set_table_pages(struct catalog *catalog, uint32_t pages)
{
    assert(catalog_count(catalog) == 0);
    catalog->table_pages = pages;
}

static void free_leaf(struct leaf *leaf)
{
    if (!leaf)
        return;
    for (size_t i = 0; i < LEAF_SLOTS; i++)
        free(leaf->slots[i].objects);
    free(leaf);
}

static void free_branch(struct branch *branch)
{
    if (!branch)
        return;
    for (size_t i = 0; i < BRANCH_LEAVES; i++)
        free_leaf(atomic_load(&branch->leaves[i]));
    free(branch);
}

void catalog_free(struct catalog *catalog)
{
    struct root *root;

    if (!catalog)
        return;
    root = atomic_load(&catalog->root);
    for (uint64_t i = 0; i < root->branches_count; i++)
        free_branch(atomic_load(&root->branches[i]));
    while (root) {
        struct root *replaced = root->replaced;

        free(root);
        root = replaced;
    }
    mutex_done(&catalog->lock);
    free(catalog);
}

static int grow_locked(struct catalog *catalog, uint64_t chunks_count)
    REQUIRES(catalog->lock)
{
    struct root *old = atomic_load(&catalog->root), *root;

    if (chunks_count / BRANCH_SLOTS >= old->branches_count) {
        root = new_root(chunks_count);
        if (!root)
            return -ENOMEM;
        /* Branches are added under the lock only: none is left behind. */
        for (uint64_t i = 0; i < old->branches_count; i++)
            atomic_init(&root->branches[i], atomic_load(&old->branches[i]));
        root->replaced = old;
        atomic_store_explicit(&catalog->root, root, memory_order_release);
    }
    catalog->chunks_count = chunks_count;
    return 0;
}

int catalog_grow(struct catalog *catalog, uint64_t chunks_count)
{
    int error = 0;

    mutex_lock(&catalog->lock);
    if (chunks_count > catalog->chunks_count)
        error = grow_locked(catalog, chunks_count);
    mutex_unlock(&catalog->lock);
    return error;
}

/* Returns the leaf of a chunk, NULL if there is none. */
static struct leaf *find_leaf(struct catalog *catalog, uint64_t chunk)
{
    struct root *root =
        atomic_load_explicit(&catalog->root, memory_order_acquire);
    uint64_t index = chunk / BRANCH_SLOTS;
    struct branch *branch;

    if (index >= root->branches_count)
        return NULL;
    branch = atomic_load_explicit(&root->branches[index], memory_order_acquire);
    if (!branch)
        return NULL;
    return atomic_load_explicit(
        &branch->leaves[chunk / LEAF_SLOTS % BRANCH_LEAVES],
        memory_order_acquire);
}

static uint64_t load_generation(struct slot *slot)
{
    return atomic_load_explicit(&slot->generation, memory_order_acquire);
}

void catalog_get(struct catalog *catalog, uint64_t chunk,
                 struct catalog_entry *ret_entry)
{
    struct leaf *leaf = find_leaf(catalog, chunk);
    uint64_t generation;
    struct slot *slot;

    memset(ret_entry, 0, sizeof(*ret_entry));
    if (!leaf)
        return;
    slot = &leaf->slots[chunk % LEAF_SLOTS];
    mutex_lock(&catalog->lock);
    generation = load_generation(slot);
    ret_entry->generation = generation >> FLAGS_BITS;
    ret_entry->flags = (unsigned)(generation & FLAGS_MASK);
    ret_entry->revision = slot->revision;
    ret_entry->uploaded_generation = slot->uploaded >> FLAGS_BITS;
    ret_entry->published_generation = slot->published;
    ret_entry->file_pages = slot->file_pages;
    ret_entry->objects_count = (unsigned)(slot->uploaded & FLAGS_MASK);
    if (slot->objects)
        memcpy(ret_entry->objects, slot->objects,
               ret_entry->objects_count * sizeof(ret_entry->objects[0]));
    mutex_unlock(&catalog->lock);
}

uint64_t catalog_generation(struct catalog *catalog, uint64_t chunk,
                            unsigned *ret_flags)
{
    struct leaf *leaf = find_leaf(catalog, chunk);
    uint64_t generation =
        leaf ? load_generation(&leaf->slots[chunk % LEAF_SLOTS]) : 0;

    if (ret_flags)
        *ret_flags = (unsigned)(generation & FLAGS_MASK);
    return generation >> FLAGS_BITS;
}

/*
 * Returns how far it is from chunk to the end of the leaf, or the branch,
 * around it, of which nothing is there; 0 if the leaf may have something.
 */
static uint64_t absent_chunks(struct root *root, uint64_t chunk,
                              struct leaf **ret_leaf)
{
    struct branch *branch = atomic_load_explicit(
        &root->branches[chunk / BRANCH_SLOTS], memory_order_acquire);
    struct leaf *leaf;

    if (!branch)
        return BRANCH_SLOTS - chunk % BRANCH_SLOTS;
    leaf = atomic_load_explicit(
        &branch->leaves[chunk / LEAF_SLOTS % BRANCH_LEAVES],
        memory_order_acquire);
    /* A slot is counted before it is set, see catalog_apply. */
    if (!leaf || atomic_load(&leaf->mapped) == 0)
        return LEAF_SLOTS - chunk % LEAF_SLOTS;
    *ret_leaf = leaf;
    return 0;
}

bool catalog_next(struct catalog *catalog, uint64_t from, uint64_t end,
                  uint64_t *ret_chunk)
{
    struct root *root =
        atomic_load_explicit(&catalog->root, memory_order_acquire);
    uint64_t past = root->branches_count * BRANCH_SLOTS;
    uint64_t chunk = from;

    if (end > past)
        end = past;
    while (chunk < end) {
        struct leaf *leaf = NULL;
        uint64_t absent = absent_chunks(root, chunk, &leaf);

        if (absent > 0) {
            chunk += absent;
            continue;
        }
        do {
            if (load_generation(&leaf->slots[chunk % LEAF_SLOTS]) != 0) {
                *ret_chunk = chunk;
                return true;
            }
            chunk++;
        } while (chunk < end && chunk % LEAF_SLOTS != 0);
    }
    return false;
}

uint64_t catalog_count(struct catalog *catalog)
{
    return atomic_load(&catalog->mapped);
}

uint64_t catalog_dirty(struct catalog *catalog)
{
    return atomic_load(&catalog->kinds[CATALOG_KIND_DIRTY]);
}

uint64_t catalog_unpublished(struct catalog *catalog)
{
    return atomic_load(&catalog->unpublished);
}

/* Returns what the chunk of a slot is that is mapped. */
static enum catalog_kind kind_of_locked(struct catalog *catalog,
                                        struct slot *slot)
    REQUIRES(catalog->lock)
{
    uint64_t word = load_generation(slot);

    if ((word & (CATALOG_ZERO | CATALOG_HOLE)) != 0)
        return CATALOG_KIND_ZERO;
    if (slot->uploaded >> FLAGS_BITS != word >> FLAGS_BITS)
        return CATALOG_KIND_DIRTY;
    return slot->file_pages > catalog->table_pages ? CATALOG_KIND_CLEAN
                                                   : CATALOG_KIND_REMOTE;
}

void catalog_count_all_kinds(struct catalog *catalog,
                             uint64_t ret_counts[CATALOG_KINDS])
{
    for (size_t i = 0; i < CATALOG_KINDS; i++)
        ret_counts[i] = atomic_load(&catalog->kinds[i]);
}

/* Count what is mapped of some slots of a leaf. */
static void count_slots(struct catalog *catalog, struct leaf *leaf, size_t from,
                        size_t end, uint64_t counts[CATALOG_KINDS])
{
    mutex_lock(&catalog->lock);
    for (size_t i = from; i < end; i++) {
        if (load_generation(&leaf->slots[i]) != 0)
            counts[kind_of_locked(catalog, &leaf->slots[i])]++;
    }
    mutex_unlock(&catalog->lock);
}

void catalog_count_kinds(struct catalog *catalog, uint64_t from, uint64_t end,
                         uint64_t ret_counts[CATALOG_KINDS])
{
    struct root *root =
        atomic_load_explicit(&catalog->root, memory_order_acquire);
    uint64_t past = root->branches_count * BRANCH_SLOTS, next;

    memset(ret_counts, 0, CATALOG_KINDS * sizeof(ret_counts[0]));
    if (end > past)
        end = past;
    for (; from < end; from = next) {
        struct leaf *leaf = NULL;
        uint64_t first = from % LEAF_SLOTS;

        next = from + absent_chunks(root, from, &leaf);
        if (!leaf)
            continue;
        next = from - first + LEAF_SLOTS;
        if (first > 0 || next > end) {
            next = next < end ? next : end;
            count_slots(catalog, leaf, first, first + (next - from),
                        ret_counts);
            continue;
        }
        for (size_t i = 0; i < CATALOG_KINDS; i++)
            ret_counts[i] +=
                atomic_load_explicit(&leaf->kinds[i], memory_order_relaxed);
    }
}

uint64_t catalog_file_pages(struct catalog *catalog)
{
    return atomic_load(&catalog->file_pages);
}

uint64_t catalog_dirty_pages(struct catalog *catalog)
{
    return atomic_load(&catalog->dirty_pages);
}

int catalog_set(struct catalog *catalog, uint64_t chunk,
                const struct catalog_entry *entry)
{
    struct chunk_object *objects = NULL;
    int error = catalog_prepare(catalog, chunk, entry, &objects);

    if (error < 0)
        return error;
    catalog_apply(catalog, chunk, entry, objects);
    return 0;
}

static int make_leaf_locked(struct catalog *catalog, uint64_t chunk)
    REQUIRES(catalog->lock)
{
    struct root *root = atomic_load(&catalog->root);
    _Atomic(struct branch *) *at = &root->branches[chunk / BRANCH_SLOTS];
    struct branch *branch = atomic_load(at);
    _Atomic(struct leaf *) *leaf_at;
    struct leaf *leaf;

    if (!branch) {
        branch = calloc(1, sizeof(*branch));
        if (!branch)
            return -ENOMEM;
        atomic_store_explicit(at, branch, memory_order_release);
    }
    leaf_at = &branch->leaves[chunk / LEAF_SLOTS % BRANCH_LEAVES];
    if (!atomic_load(leaf_at)) {
        leaf = calloc(1, sizeof(*leaf));
        if (!leaf)
            return -ENOMEM;
        atomic_store_explicit(leaf_at, leaf, memory_order_release);
    }
    return 0;
}

static bool entry_is_valid(const struct catalog_entry *entry)
{
    const unsigned both = CATALOG_ZERO | CATALOG_HOLE;

    return entry->generation <= CATALOG_GENERATION_MAX &&
           entry->uploaded_generation <= CATALOG_GENERATION_MAX &&
           entry->published_generation <= CATALOG_GENERATION_MAX &&
           entry->flags <= FLAGS_MASK && (entry->flags & both) != both &&
           entry->objects_count <= CHUNK_OBJECTS_MAX;
}

int catalog_prepare(struct catalog *catalog, uint64_t chunk,
                    const struct catalog_entry *entry,
                    struct chunk_object **ret_objects)
{
    AUTO_FREE struct chunk_object *objects = NULL;
    size_t size = entry->objects_count * sizeof(objects[0]);
    int error = 0;

    if (!entry_is_valid(entry))
        return -EINVAL;
    if (entry->generation > 0 && size > 0) {
        objects = malloc(size);
        if (!objects)
            return -ENOMEM;
        memcpy(objects, entry->objects, size);
    }
    mutex_lock(&catalog->lock);
    if (chunk >= catalog->chunks_count)
        error = -EINVAL;
    else if (entry->generation > 0)
        error = make_leaf_locked(catalog, chunk);
    mutex_unlock(&catalog->lock);
    if (error == 0)
        *ret_objects = take_pointer(&objects);
    return error;
}

/* Whether a slot's chunk is mapped, and which of the counts it is part of. */
struct share {
    bool is_mapped;
    enum catalog_kind kind; /* if it is */
    unsigned dirty, unpublished;
    uint32_t file_pages;
};

static struct share share_of_locked(struct catalog *catalog, struct slot *slot)
    REQUIRES(catalog->lock)
{
    uint64_t generation = load_generation(slot) >> FLAGS_BITS;
    struct share share = {.is_mapped = generation != 0};

    if (!share.is_mapped)
        return share;
    share.kind = kind_of_locked(catalog, slot);
    share.dirty = share.kind == CATALOG_KIND_DIRTY;
    share.unpublished = slot->published != generation;
    share.file_pages = slot->file_pages;
    return share;
}

/*
 * Put an entry's generation and flags into its slot, of which the rest is set.
 * A chunk is counted before it is set and after it is removed, so that
 * catalog_next never skips one that is mapped.
 */
static void store_generation_locked(struct catalog *catalog, struct leaf *leaf,
                                    struct slot *slot, uint64_t word)
    REQUIRES(catalog->lock)
{
    bool was_mapped = load_generation(slot) != 0, is_mapped = word != 0;

    if (is_mapped && !was_mapped) {
        atomic_fetch_add(&leaf->mapped, 1);
        atomic_fetch_add(&catalog->mapped, 1);
    }
    atomic_store_explicit(&slot->generation, word, memory_order_release);
    if (!is_mapped && was_mapped) {
        atomic_fetch_sub(&leaf->mapped, 1);
        atomic_fetch_sub(&catalog->mapped, 1);
    }
}

static void count_locked(struct catalog *catalog, struct leaf *leaf,
                         const struct share *before, const struct share *after)
    REQUIRES(catalog->lock)
{
    if (before->is_mapped) {
        atomic_fetch_sub(&leaf->kinds[before->kind], 1);
        atomic_fetch_sub(&catalog->kinds[before->kind], 1);
    }
    if (after->is_mapped) {
        atomic_fetch_add(&leaf->kinds[after->kind], 1);
        atomic_fetch_add(&catalog->kinds[after->kind], 1);
    }
    atomic_fetch_add(&catalog->unpublished,
                     (uint64_t)after->unpublished - before->unpublished);
    atomic_fetch_add(&catalog->file_pages,
                     (uint64_t)after->file_pages - before->file_pages);
    atomic_fetch_add(&catalog->dirty_pages,
                     (uint64_t)after->file_pages * after->dirty -
                         (uint64_t)before->file_pages * before->dirty);
}

/* Set a slot; a hole has nothing.  Returns the objects it had, to be freed. */
static struct chunk_object *
set_slot_locked(struct catalog *catalog, struct leaf *leaf, struct slot *slot,
                const struct catalog_entry *entry, struct chunk_object *objects)
    REQUIRES(catalog->lock)
{
    static const struct catalog_entry hole;
    const struct share before = share_of_locked(catalog, slot);
    struct chunk_object *replaced = slot->objects;
    struct share after;

    if (entry->generation == 0)
        entry = &hole;
    slot->objects = objects;
    slot->uploaded =
        entry->uploaded_generation << FLAGS_BITS | entry->objects_count;
    slot->published = entry->published_generation;
    slot->revision = entry->revision;
    slot->file_pages = entry->file_pages;
    store_generation_locked(catalog, leaf, slot,
                            entry->generation << FLAGS_BITS | entry->flags);
    after = share_of_locked(catalog, slot);
    count_locked(catalog, leaf, &before, &after);
    return replaced;
}

void catalog_apply(struct catalog *catalog, uint64_t chunk,
                   const struct catalog_entry *entry,
                   struct chunk_object *objects)
{
    struct leaf *leaf = find_leaf(catalog, chunk);

    if (!leaf) {
        assert(entry->generation == 0 && !objects);
        return;
    }
    mutex_lock(&catalog->lock);
    objects = set_slot_locked(catalog, leaf, &leaf->slots[chunk % LEAF_SLOTS],
                              entry, objects);
    mutex_unlock(&catalog->lock);
    free(objects);
}

void catalog_publish(struct catalog *catalog, uint64_t chunk,
                     const struct catalog_entry *entry)
{
    static const struct catalog_entry hole;
    const unsigned hole_flags = CATALOG_HOLE | CATALOG_FILE;
    struct leaf *leaf = find_leaf(catalog, chunk);
    struct chunk_object *replaced = NULL;
    struct share before, after;
    struct slot *slot;

    if (!leaf)
        return;
    slot = &leaf->slots[chunk % LEAF_SLOTS];
    mutex_lock(&catalog->lock);
    before = share_of_locked(catalog, slot);
    if (before.is_mapped) {
        slot->published =
            (entry->flags & CATALOG_HOLE) != 0 ? 0 : entry->generation;
        after = share_of_locked(catalog, slot);
        count_locked(catalog, leaf, &before, &after);
        if (slot->published == 0 &&
            (load_generation(slot) & hole_flags) == CATALOG_HOLE)
            replaced = set_slot_locked(catalog, leaf, slot, &hole, NULL);
    }
    mutex_unlock(&catalog->lock);
    free(replaced);
}

void catalog_clear(struct catalog *catalog)
{
    static const struct catalog_entry hole;
    uint64_t chunk = 0;

    while (catalog_next(catalog, chunk, UINT64_MAX, &chunk))
        catalog_apply(catalog, chunk, &hole, NULL);
}
