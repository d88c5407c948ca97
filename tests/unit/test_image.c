/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/image.h"

#include "base/crc32c.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum { CHUNK_SIZE = 8 << 20, LEAF = MANIFEST_LEAF_CHUNKS };

static const uint64_t TEBI = UINT64_C(1) << 40;

/* ---- a store that counts what is put --------------------------------------
 */

struct counting_store {
    struct object_store store; /* first, so that one is the other */
    struct object_store *inner;
    uint64_t puts, put_bytes, gets;
};

static int counting_get(struct object_store *store, const char *key,
                        uint64_t offset, void *data, size_t len,
                        enum object_urgency urgency)
{
    struct counting_store *counting = (struct counting_store *)(void *)store;

    counting->gets++;
    return counting->inner->get(counting->inner, key, offset, data, len,
                                urgency);
}

static int counting_put(struct object_store *store, const char *key,
                        const void *data, size_t len, bool if_absent)
{
    struct counting_store *counting = (struct counting_store *)(void *)store;

    counting->puts++;
    counting->put_bytes += len;
    return counting->inner->put(counting->inner, key, data, len, if_absent);
}

static void counting_init(struct counting_store *counting)
{
    memset(counting, 0, sizeof(*counting));
    counting->inner = memory_store_new();
    counting->store.get = counting_get;
    counting->store.put = counting_put;
}

/* ---- changes --------------------------------------------------------------
 */

/* What a chunk's entry is: objects of it that differ by their counter. */
static struct image_entry entry_of(uint64_t chunk, unsigned objects,
                                   uint64_t counter)
{
    struct image_entry entry = {.objects_count = objects};

    for (unsigned i = 0; i < objects; i++) {
        entry.objects[i].id.epoch = 1;
        entry.objects[i].id.nonce = 0xabcd;
        entry.objects[i].id.counter = counter + chunk * 16 + i;
        entry.objects[i].table_size = 12288;
        entry.objects[i].table_checksum = (uint32_t)chunk;
    }
    return entry;
}

/* A list of changes as the iterator that image_update wants. */
struct list {
    const struct image_change *changes;
    size_t count, next;
    int error; /* returned after the last one, unless 0 */
};

static int next_of_list(void *context, struct image_change *ret_change)
{
    struct list *list = context;

    if (list->next == list->count)
        return list->error;
    *ret_change = list->changes[list->next++];
    return 1;
}

static struct image_change change_to(uint64_t chunk, unsigned objects,
                                     uint64_t counter)
{
    struct image_change change = {.chunk = chunk};

    change.entry = entry_of(chunk, objects, counter);
    return change;
}

static struct image_change change_to_hole(uint64_t chunk)
{
    return (struct image_change){.chunk = chunk, .is_hole = true};
}

static uint64_t next_nonce = 1;

static int update_sized(struct object_store *store, struct image *base,
                        uint64_t size, const struct image_change *changes,
                        size_t count, struct root_ref *ret_root)
{
    struct list list = {.changes = changes, .count = count};
    struct image_update update = {.store = store,
                                  .device_name = "disk",
                                  .base = base,
                                  .size = size,
                                  .chunk_size = CHUNK_SIZE,
                                  .epoch = 7,
                                  .nonce = next_nonce++,
                                  .next = next_of_list,
                                  .context = &list};

    return image_update(&update, ret_root);
}

static int update(struct object_store *store, struct image *base,
                  const struct image_change *changes, size_t count,
                  struct root_ref *ret_root)
{
    return update_sized(store, base, 10 * TEBI, changes, count, ret_root);
}

static struct image *open_image(struct object_store *store,
                                const struct root_ref *root)
{
    struct image *image = NULL;

    CHECK(image_open(store, "disk", root, &image) == 0);
    return image;
}

/* Make an image of these changes and open it. */
static struct image *make(struct object_store *store, struct image *base,
                          const struct image_change *changes, size_t count)
{
    struct root_ref root;

    CHECK(update(store, base, changes, count, &root) == 0);
    return open_image(store, &root);
}

static bool entry_equals(const struct image_entry *a,
                         const struct image_entry *b)
{
    if (a->objects_count != b->objects_count)
        return false;
    for (size_t i = 0; i < a->objects_count; i++) {
        const struct chunk_object *x = &a->objects[i], *y = &b->objects[i];

        if (memcmp(&x->id, &y->id, sizeof(x->id)) != 0 ||
            x->origin != y->origin || x->table_size != y->table_size ||
            x->table_checksum != y->table_checksum)
            return false;
    }
    return true;
}

/* Whether the image has exactly these entries, by both ways of asking. */
static void check_content(struct image *image,
                          const struct image_change *expected, size_t count)
{
    struct image_entry entry;
    uint64_t chunk, from = 0;

    for (size_t i = 0; i < count; i++) {
        CHECK(image_next(image, from, &chunk, &entry) == 1);
        CHECK(chunk == expected[i].chunk);
        CHECK(entry_equals(&entry, &expected[i].entry));
        from = chunk + 1;
    }
    CHECK(image_next(image, from, &chunk, &entry) == 0);
    for (size_t i = count; i-- > 0;) {
        CHECK(image_get(image, expected[i].chunk, &entry) == 1);
        CHECK(entry_equals(&entry, &expected[i].entry));
    }
    CHECK(image_root(image)->chunks == count);
}

static bool is_same_root(const struct root_ref *a, const struct root_ref *b)
{
    return a->epoch == b->epoch && a->nonce == b->nonce && a->page == b->page &&
           a->size == b->size && a->checksum == b->checksum;
}

/* ---- write and read -------------------------------------------------------
 */

TEST("an image has what it was made of")
{
    struct object_store *store = memory_store_new();
    struct image_change changes[] = {
        change_to(0, 1, 0),        change_to(1, 16, 0),
        change_to(LEAF - 1, 0, 0), change_to(LEAF, 2, 0),
        change_to(9 * LEAF, 1, 0), change_to(10 * TEBI / CHUNK_SIZE - 1, 3, 0),
    };
    struct image *image = make(store, NULL, changes, 6);
    struct image_entry entry;

    check_content(image, changes, 6);
    CHECK(image_get(image, 2, &entry) == 0);
    CHECK(image_get(image, 5 * LEAF, &entry) == 0);
    CHECK(image_get(image, UINT64_MAX, &entry) == 0);
    CHECK(image_root(image)->size == 10 * TEBI);
    CHECK(image_root(image)->chunk_size == CHUNK_SIZE);
    image_close(image);
    store->close(store);
}

TEST("an image of nothing is an image")
{
    struct object_store *store = memory_store_new();
    struct image *image = make(store, NULL, NULL, 0);
    uint64_t chunk;

    CHECK(image_next(image, 0, &chunk, NULL) == 0);
    CHECK(image_root(image)->chunks == 0);
    image_close(image);
    store->close(store);
}

TEST("an update changes what it names, and the image before stays as it was")
{
    struct object_store *store = memory_store_new();
    struct image_change before[] = {
        change_to(1, 1, 0),
        change_to(2, 1, 0),
        change_to(LEAF + 1, 1, 0),
        change_to(5 * LEAF, 1, 0),
        change_to(5 * LEAF + 7, 1, 0),
    };
    struct image_change changes[] = {
        change_to(0, 1, 9),
        change_to_hole(1),
        change_to(2, 2, 9),
        change_to_hole(LEAF + 1),
        change_to_hole(2 * LEAF),
        change_to(3 * LEAF, 0, 0),
        change_to(5 * LEAF + 9, 1, 9),
    };
    struct image_change after[] = {
        changes[0], changes[2], changes[5], before[3], before[4], changes[6],
    };
    struct image *old = make(store, NULL, before, 5);
    struct image *image = make(store, old, changes, 7);

    check_content(image, after, 6);
    check_content(old, before, 5);
    CHECK(image_root(image)->leaves_count == 3);
    image_close(image);
    image_close(old);
    store->close(store);
}

TEST("an update that changes nothing writes nothing and is its base")
{
    struct counting_store counting;
    struct image_change changes[] = {change_to(1, 1, 0), change_to(LEAF, 0, 0)};
    struct image_change same[] = {change_to(1, 1, 0), change_to_hole(2),
                                  change_to_hole(9 * LEAF)};
    struct root_ref root;
    struct image *image;
    uint64_t puts;

    counting_init(&counting);
    image = make(&counting.store, NULL, changes, 2);
    puts = counting.puts;
    CHECK(update(&counting.store, image, same, 3, &root) == 0);
    CHECK(is_same_root(&root, image_root_ref(image)));
    CHECK(update(&counting.store, image, NULL, 0, &root) == 0);
    CHECK(is_same_root(&root, image_root_ref(image)));
    CHECK(counting.puts == puts);
    image_close(image);
    counting.inner->close(counting.inner);
}

TEST("a device that has grown has an image of its new size")
{
    struct object_store *store = memory_store_new();
    struct image_change first = change_to(1, 1, 0);
    struct image_change last = change_to(10 * TEBI / CHUNK_SIZE, 1, 0);
    struct image *image = make(store, NULL, &first, 1), *grown;
    struct root_ref root;

    CHECK(update(store, image, &last, 1, &root) == -EINVAL);
    CHECK(update_sized(store, image, 10 * TEBI + 512, NULL, 0, &root) == 0);
    grown = open_image(store, &root);
    CHECK(image_root(grown)->size == 10 * TEBI + 512);
    check_content(grown, &first, 1);
    CHECK(update_sized(store, grown, 10 * TEBI, NULL, 0, &root) == -EINVAL);
    CHECK(update_sized(store, grown, 10 * TEBI + 512, &last, 1, &root) == 0);
    image_close(grown);
    image_close(image);
    store->close(store);
}

TEST("changes that make no sense are refused")
{
    struct object_store *store = memory_store_new();
    struct image_change twice[] = {change_to(5, 1, 0), change_to(5, 1, 1)};
    struct image_change back[] = {change_to(LEAF, 1, 0), change_to(5, 1, 1)};
    struct image_change foreign[] = {change_to(5, 1, 0)};
    struct image_change tableless[] = {change_to(5, 2, 0)};
    struct list list = {.error = -EINTR};
    struct image_update broken = {.store = store,
                                  .device_name = "disk",
                                  .size = TEBI,
                                  .chunk_size = CHUNK_SIZE,
                                  .next = next_of_list,
                                  .context = &list};
    struct root_ref root;

    CHECK(update(store, NULL, twice, 2, &root) == -EINVAL);
    CHECK(update(store, NULL, back, 2, &root) == -EINVAL);
    foreign[0].entry.objects[0].origin = 1;
    CHECK(update(store, NULL, foreign, 1, &root) == -EINVAL);
    tableless[0].entry.objects[1].table_size = 0;
    CHECK(update(store, NULL, tableless, 1, &root) == -EINVAL);
    tableless[0].entry.objects_count = 17;
    CHECK(update(store, NULL, tableless, 1, &root) == -EINVAL);
    CHECK(image_update(&broken, &root) == -EINTR);
    broken.chunk_size = 3 << 20;
    CHECK(image_update(&broken, &root) == -EINVAL);
    store->close(store);
}

/* ---- 10 TiB ---------------------------------------------------------------
 */

/* All chunks of a device, one object each. */
struct all {
    uint64_t next, end;
};

static int next_of_all(void *context, struct image_change *ret_change)
{
    struct all *all = context;

    if (all->next == all->end)
        return 0;
    ret_change->chunk = all->next++;
    ret_change->entry = entry_of(ret_change->chunk, 1, 0);
    return 1;
}

TEST("one change in 10 TiB of mapped data uploads far less than 1 MiB")
{
    struct counting_store counting;
    struct all all = {.end = 10 * TEBI / CHUNK_SIZE};
    struct image_update full = {.store = &counting.store,
                                .device_name = "disk",
                                .size = 10 * TEBI,
                                .chunk_size = CHUNK_SIZE,
                                .epoch = 1,
                                .nonce = 2,
                                .next = next_of_all,
                                .context = &all};
    struct image_change change = change_to(654321, 2, 5);
    struct root_ref root;
    struct image *image, *after;
    struct image_entry entry;

    counting_init(&counting);
    CHECK(image_update(&full, &root) == 0);
    image = open_image(&counting.store, &root);
    CHECK(image_root(image)->chunks == 10 * TEBI / CHUNK_SIZE);
    counting.puts = counting.put_bytes = counting.gets = 0;
    after = make(&counting.store, image, &change, 1);
    CHECK(counting.puts == 2 && counting.put_bytes <= 128 << 10);
    CHECK(counting.gets == 2); /* the leaf, and the new root */
    CHECK(image_get(after, 654321, &entry) == 1 && entry.objects_count == 2);
    CHECK(image_get(after, 654322, &entry) == 1 && entry.objects_count == 1);
    CHECK(image_root(after)->chunks == 10 * TEBI / CHUNK_SIZE);
    image_close(after);
    image_close(image);
    counting.inner->close(counting.inner);
}

TEST("at 40 million chunks a root, each leaf of another image, is below 1 MiB")
{
    struct manifest_root root = {.size = 10 * TEBI, .chunk_size = 256 << 10};
    void *data;
    size_t size;

    root.leaves_count = 10 * TEBI / (256 << 10) / LEAF;
    root.leaves = calloc(root.leaves_count, sizeof(*root.leaves));
    for (uint32_t i = 0; i < root.leaves_count; i++)
        root.leaves[i] = (struct manifest_leaf_ref){
            .number = i, .epoch = i, .size = 40000, .chunks = LEAF};
    CHECK(manifest_root_encode(&root, &data, &size) == 0);
    CHECK(size + (48 << 10) <= 1 << 20);
    manifest_root_done(&root);
    free(data);
}

/* ---- clones ---------------------------------------------------------------
 */

TEST("a clone is one page, and names the source's leaves and objects")
{
    struct counting_store counting;
    struct image_change changes[] = {change_to(1, 1, 0), change_to(LEAF, 2, 0)};
    struct image_change change = change_to(2, 1, 9);
    uint32_t golden = manifest_origin("disk");
    struct image *source, *clone, *second;
    struct root_ref root;
    struct image_entry entry;

    counting_init(&counting);
    source = make(&counting.store, NULL, changes, 2);
    counting.puts = 0;
    CHECK(image_clone(source, "copy", 1, 77, &root) == 0);
    CHECK(counting.puts == 1);
    CHECK(image_open(&counting.store, "copy", &root, &clone) == 0);
    CHECK(image_root(clone)->chunks == 2);
    CHECK(image_get(clone, 1, &entry) == 1);
    CHECK(entry.objects_count == 1 && entry.objects[0].origin == golden);

    /* Its own next image keeps saying whose the old objects are. */
    {
        struct list list = {.changes = &change, .count = 1};
        struct image_update update = {.store = &counting.store,
                                      .device_name = "copy",
                                      .base = clone,
                                      .size = 10 * TEBI,
                                      .chunk_size = CHUNK_SIZE,
                                      .epoch = 2,
                                      .nonce = 78,
                                      .next = next_of_list,
                                      .context = &list};

        CHECK(image_update(&update, &root) == 0);
    }
    image_close(clone);
    CHECK(image_open(&counting.store, "copy", &root, &clone) == 0);
    CHECK(image_get(clone, 1, &entry) == 1 &&
          entry.objects[0].origin == golden);
    CHECK(image_get(clone, 2, &entry) == 1 && entry.objects[0].origin == 0);
    CHECK(image_get(clone, LEAF, &entry) == 1 &&
          entry.objects[1].origin == golden);

    /* And a clone of the clone knows both. */
    CHECK(image_clone(clone, "third", 1, 79, &root) == 0);
    CHECK(image_open(&counting.store, "third", &root, &second) == 0);
    CHECK(image_get(second, 1, &entry) == 1 &&
          entry.objects[0].origin == golden);
    CHECK(image_get(second, 2, &entry) == 1 &&
          entry.objects[0].origin == manifest_origin("copy"));
    CHECK(image_get(second, LEAF, &entry) == 1 &&
          entry.objects[1].origin == golden);
    CHECK(image_clone(second, "disk", 1, 80, &root) == -EEXIST);
    image_close(second);
    image_close(clone);
    image_close(source);
    counting.inner->close(counting.inner);
}

/* ---- lies -----------------------------------------------------------------
 */

TEST("a page that is missing, short or changed is an error, never a hole")
{
    struct fault_store *fault = fault_store_new(memory_store_new());
    struct object_store *store = fault_store_of(fault);
    struct image_change change = change_to(1, 1, 0), other = change_to(2, 1, 0);
    struct image *image = make(store, NULL, &change, 1);
    struct root_ref root = *image_root_ref(image), bad;
    struct image_entry entry;
    struct image *opened;
    char key[IMAGE_KEY_MAX];

    image_close(image);
    for (int i = 0; i < 2; i++) {
        enum store_fault kind = i == 0 ? STORE_CUTS : STORE_CORRUPTS;

        fault_store_plan(fault, STORE_GET, 1, 1, kind, 0);
        CHECK(image_open(store, "disk", &root, &opened) == -EIO);
        image = open_image(store, &root);
        fault_store_plan(fault, STORE_GET, 1, 1, kind, 0);
        CHECK(image_get(image, 1, &entry) == -EIO);
        CHECK(image_get(image, 1, &entry) == 1); /* it was not remembered */
        fault_store_plan(fault, STORE_GET, 1, 1, kind, 0);
        CHECK(update(store, image, &other, 1, &bad) == 0); /* leaf in memory */
        image_close(image);
    }
    fault_store_clear(fault);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(image_open(store, "disk", &root, &opened) == -ETIMEDOUT);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ENOENT);
    CHECK(image_open(store, "disk", &root, &opened) == -EIO);

    bad = root;
    bad.size = UINT32_MAX;
    CHECK(image_open(store, "disk", &bad, &opened) == -EIO);
    bad.size = 0;
    CHECK(image_open(store, "disk", &bad, &opened) == -EIO);
    bad = root;
    bad.checksum ^= 1;
    CHECK(image_open(store, "disk", &bad, &opened) == -EIO);

    image = open_image(store, &root);
    image_page_key("disk", root.epoch, root.nonce, 0, key);
    CHECK(object_delete_one(store, key) == 0);
    CHECK(image_get(image, 1, &entry) == -EIO);
    CHECK(update(store, image, &other, 1, &bad) == -EIO);
    image_close(image);
    store->close(store);
}

TEST("a page of another image, or leaf, does not pass for this one's")
{
    struct object_store *store = memory_store_new();
    struct image_change change = change_to(1, 1, 0);
    struct image *image = make(store, NULL, &change, 1), *opened;
    struct root_ref root = *image_root_ref(image), lie = root;
    struct manifest_root forged = *image_root(image);
    struct manifest_leaf_ref leaf = forged.leaves[0];
    struct image_entry entry;
    char from[IMAGE_KEY_MAX], to[IMAGE_KEY_MAX];
    unsigned char bytes[4096];
    void *data;
    size_t size;

    /* The same bytes below another nonce. */
    lie.nonce = 0x999;
    image_page_key("disk", root.epoch, root.nonce, root.page, from);
    image_page_key("disk", lie.epoch, lie.nonce, lie.page, to);
    CHECK(store->get(store, from, 0, bytes, root.size, OBJECT_BACKGROUND) == 0);
    CHECK(store->put(store, to, bytes, root.size, true) == 0);
    CHECK(image_open(store, "disk", &lie, &opened) == -EIO);

    /* A root that names a leaf by a wrong number, or count. */
    for (int i = 0; i < 2; i++) {
        struct manifest_leaf_ref other = leaf;

        if (i == 0)
            other.number = 3;
        else
            other.chunks++;
        forged.leaves = &other;
        CHECK(manifest_root_encode(&forged, &data, &size) == 0);
        lie = root;
        lie.page = 100 + (uint32_t)i;
        lie.size = (uint32_t)size;
        lie.checksum = crc32c(0, data, size);
        image_page_key("disk", lie.epoch, lie.nonce, lie.page, to);
        CHECK(store->put(store, to, data, size, true) == 0);
        free(data);
        opened = open_image(store, &lie);
        CHECK(image_get(opened, other.number * LEAF + 1, &entry) == -EIO);
        image_close(opened);
    }

    /* A device that is too small for the chunk. */
    forged.leaves = &leaf;
    forged.size = CHUNK_SIZE;
    CHECK(manifest_root_encode(&forged, &data, &size) == 0);
    lie.page = 200;
    lie.size = (uint32_t)size;
    lie.checksum = crc32c(0, data, size);
    image_page_key("disk", lie.epoch, lie.nonce, lie.page, to);
    CHECK(store->put(store, to, data, size, true) == 0);
    free(data);
    opened = open_image(store, &lie);
    CHECK(image_get(opened, 1, &entry) == -EIO);
    image_close(opened);
    image_close(image);
    store->close(store);
}

TEST("whichever put of an update fails, the update fails")
{
    struct image_change changes[] = {change_to(1, 1, 0), change_to(LEAF, 1, 0)};

    for (uint64_t nth = 1; nth <= 3; nth++) {
        struct fault_store *fault = fault_store_new(memory_store_new());
        struct object_store *store = fault_store_of(fault);
        struct root_ref root;

        fault_store_plan(fault, STORE_PUT, nth, 1, STORE_FAILS, -ETIMEDOUT);
        CHECK(update(store, NULL, changes, 2, &root) == -ETIMEDOUT);
        CHECK(update(store, NULL, changes, 2, &root) == 0);
        store->close(store);
    }
}
