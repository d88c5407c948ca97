/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An update goes once over the base's leaves and the changes, both in
 * ascending order, with one leaf of each in memory.  The root comes last, so
 * that it never names a page that is not there.
 */
#include "cache/image.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "object_store.h"

struct image {
    struct object_store *store;
    char device_name[DEVICE_NAME_MAX + 1];
    struct root_ref root_ref;
    struct manifest_root root;
    bool has_leaf; /* the one that was read last: */
    uint32_t leaf_index;
    struct manifest_leaf leaf;
};

void image_page_key(const char *device_name, uint64_t epoch, uint64_t nonce,
                    uint32_t page, char key[IMAGE_KEY_MAX])
{
    (void)snprintf(key, IMAGE_KEY_MAX,
                   "%s/manifest/%016" PRIx64 "-%016" PRIx64 "/%08" PRIx32,
                   device_name, epoch, nonce, page);
}

/* ---- read ---------------------------------------------------------------- */

static int bad_page(const char *key, const char *what, int error)
{
    log_error("%s: %s", key, what);
    return error;
}

/* Read a page of that size and checksum; *ret_data is for free(). */
static int read_page(struct object_store *store, const char *key, uint32_t size,
                     uint32_t checksum, void **ret_data)
{
    AUTO_FREE void *data = malloc(size);
    int error;

    if (!data)
        return -ENOMEM;
    error = store->get(store, key, 0, data, size, OBJECT_BACKGROUND);
    if (error == -ENOENT)
        return bad_page(key, "an image names it, but it is missing", -EIO);
    if (error)
        return bad_page(key, log_errno(error), error);
    if (crc32c(0, data, size) != checksum)
        return bad_page(key, "damaged", -EIO);
    *ret_data = take_pointer(&data);
    return 0;
}

static int bad_form(const char *key, int error)
{
    if (error == -EBADMSG)
        return bad_page(key, "no valid page of a manifest", -EIO);
    if (error == -EPROTONOSUPPORT)
        return bad_page(key, "written by a later version of this program",
                        error);
    return error;
}

static int read_root(struct image *image)
{
    const struct root_ref *ref = &image->root_ref;
    AUTO_FREE void *data = NULL;
    char key[IMAGE_KEY_MAX];
    int error;

    image_page_key(image->device_name, ref->epoch, ref->nonce, ref->page, key);
    if (ref->size == 0 || ref->size > MANIFEST_ROOT_MAX)
        return bad_page(key, "no root has such a size", -EIO);
    error = read_page(image->store, key, ref->size, ref->checksum, &data);
    if (error)
        return error;
    error = manifest_root_decode(data, ref->size, &image->root);
    if (error)
        return bad_form(key, error);
    if (image->root.epoch != ref->epoch || image->root.nonce != ref->nonce)
        return bad_page(key, "holds the root of another image", -EIO);
    return 0;
}

int image_open(struct object_store *store, const char *device_name,
               const struct root_ref *root, struct image **ret_image)
{
    struct image *image = calloc(1, sizeof(*image));
    int error;

    if (!image)
        return -ENOMEM;
    assert(strlen(device_name) <= DEVICE_NAME_MAX);
    memcpy(image->device_name, device_name, strlen(device_name));
    image->store = store;
    image->root_ref = *root;
    error = read_root(image);
    if (error)
        image_close(image);
    else
        *ret_image = image;
    return error;
}

static void drop_leaf(struct image *image)
{
    if (image->has_leaf)
        manifest_leaf_done(&image->leaf);
    image->has_leaf = false;
}

void image_close(struct image *image)
{
    if (!image)
        return;
    drop_leaf(image);
    manifest_root_done(&image->root);
    free(image);
}

const struct manifest_root *image_root(const struct image *image)
{
    return &image->root;
}

const struct root_ref *image_root_ref(const struct image *image)
{
    return &image->root_ref;
}

/* Returns the name of the device of that number; NULL if it is unknown. */
static const char *name_of_origin(const struct image *image, uint32_t origin)
{
    if (origin == 0)
        return image->device_name;
    for (uint32_t i = 0; i < image->root.origins_count; i++) {
        if (manifest_origin(image->root.origins[i]) == origin)
            return image->root.origins[i];
    }
    return NULL;
}

/* Say everything as this device would; returns whether it can. */
static bool translate_origins(const struct image *image, uint32_t origin,
                              struct manifest_leaf *leaf)
{
    uint32_t count = leaf->first[MANIFEST_LEAF_CHUNKS], known = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct chunk_object *object = &leaf->objects[i];

        if (object->origin == 0)
            object->origin = origin;
        if (object->origin != known && !name_of_origin(image, object->origin))
            return false;
        known = object->origin;
    }
    return true;
}

static uint64_t chunks_of(uint64_t size, uint32_t chunk_size)
{
    return size / chunk_size + (size % chunk_size != 0);
}

/* Whether the leaf's last entry is a chunk that the device has. */
static bool is_inside(const struct manifest_root *root,
                      const struct manifest_leaf *leaf)
{
    uint64_t end = chunks_of(root->size, root->chunk_size);
    unsigned last = MANIFEST_LEAF_CHUNKS - 1;

    while (last > 0 && !leaf->is_mapped[last])
        last--;
    return leaf->number * MANIFEST_LEAF_CHUNKS + last < end;
}

static int read_leaf(const struct image *image,
                     const struct manifest_leaf_ref *ref,
                     struct manifest_leaf *ret_leaf)
{
    AUTO_FREE void *data = NULL;
    char key[IMAGE_KEY_MAX];
    int error;

    image_page_key(name_of_origin(image, ref->origin), ref->epoch, ref->nonce,
                   ref->page, key);
    error = read_page(image->store, key, ref->size, ref->checksum, &data);
    if (error)
        return error;
    error = manifest_leaf_decode(data, ref->size, ret_leaf);
    if (error)
        return bad_form(key, error);
    if (ret_leaf->number != ref->number || ret_leaf->count != ref->chunks ||
        !is_inside(&image->root, ret_leaf) ||
        !translate_origins(image, ref->origin, ret_leaf)) {
        manifest_leaf_done(ret_leaf);
        return bad_page(key, "is not the page that the image names", -EIO);
    }
    return 0;
}

/* Have the leaf of that index in image->leaf. */
static int load_leaf(struct image *image, uint32_t index)
{
    int error;

    if (image->has_leaf && image->leaf_index == index)
        return 0;
    drop_leaf(image);
    error = read_leaf(image, &image->root.leaves[index], &image->leaf);
    if (error)
        return error;
    image->has_leaf = true;
    image->leaf_index = index;
    return 0;
}

/* Returns the index of the first leaf whose number is at least this. */
static uint32_t find_leaf(const struct image *image, uint64_t number)
{
    uint32_t low = 0, high = image->root.leaves_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (image->root.leaves[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Tell the entry of a chunk of a leaf that has it. */
static void get_entry(const struct manifest_leaf *leaf, unsigned i,
                      struct image_entry *ret_entry)
{
    uint32_t first = leaf->first[i];

    memset(ret_entry, 0, sizeof(*ret_entry));
    ret_entry->objects_count = leaf->first[i + 1] - first;
    for (unsigned o = 0; o < ret_entry->objects_count; o++)
        ret_entry->objects[o] = leaf->objects[first + o];
}

int image_next(struct image *image, uint64_t from, uint64_t *ret_chunk,
               struct image_entry *ret_entry)
{
    uint64_t number = from / MANIFEST_LEAF_CHUNKS;
    uint32_t index = find_leaf(image, number);

    for (; index < image->root.leaves_count; index++) {
        const struct manifest_leaf *leaf = &image->leaf;
        int error = load_leaf(image, index);
        unsigned i;

        if (error)
            return error;
        i = leaf->number == number ? from % MANIFEST_LEAF_CHUNKS : 0;
        while (i < MANIFEST_LEAF_CHUNKS && !leaf->is_mapped[i])
            i++;
        if (i == MANIFEST_LEAF_CHUNKS)
            continue;
        *ret_chunk = leaf->number * MANIFEST_LEAF_CHUNKS + i;
        if (ret_entry)
            get_entry(leaf, i, ret_entry);
        return 1;
    }
    return 0;
}

int image_get(struct image *image, uint64_t chunk,
              struct image_entry *ret_entry)
{
    const struct manifest_leaf *leaf = NULL;
    unsigned i = chunk % MANIFEST_LEAF_CHUNKS;
    int result = image_read_leaf(image, chunk / MANIFEST_LEAF_CHUNKS, &leaf);

    if (result <= 0)
        return result;
    assert(leaf);
    if (!leaf->is_mapped[i])
        return 0;
    get_entry(leaf, i, ret_entry);
    return 1;
}

bool image_next_leaf(const struct image *image, uint64_t from,
                     uint64_t *ret_number)
{
    uint32_t index = find_leaf(image, from);

    if (index == image->root.leaves_count)
        return false;
    *ret_number = image->root.leaves[index].number;
    return true;
}

const struct manifest_leaf_ref *image_leaf_ref(const struct image *image,
                                               uint64_t number)
{
    uint32_t index = find_leaf(image, number);

    return index < image->root.leaves_count &&
                   image->root.leaves[index].number == number
               ? &image->root.leaves[index]
               : NULL;
}

int image_read_leaf(struct image *image, uint64_t number,
                    const struct manifest_leaf **ret_leaf)
{
    const struct manifest_leaf_ref *ref = image_leaf_ref(image, number);
    int error;

    if (!ref)
        return 0;
    error = load_leaf(image, (uint32_t)(ref - image->root.leaves));
    if (error)
        return error;
    *ret_leaf = &image->leaf;
    return 1;
}

void image_forget_leaf(struct image *image)
{
    drop_leaf(image);
}

static bool objects_are_equal(const struct chunk_object *a,
                              const struct chunk_object *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (a[i].id.epoch != b[i].id.epoch || a[i].id.nonce != b[i].id.nonce ||
            a[i].id.counter != b[i].id.counter || a[i].origin != b[i].origin ||
            a[i].table_size != b[i].table_size ||
            a[i].table_checksum != b[i].table_checksum)
            return false;
    }
    return true;
}

/* ---- the next image ------------------------------------------------------ */

/* An update that is under way. */
struct writer {
    const struct image_update *update;
    struct manifest_root root; /* so far */
    uint32_t room;             /* in root.leaves */
    uint32_t base_index;       /* of the first leaf not gone over yet */
    uint32_t pages;            /* written */
    bool is_changed;
    bool has_change; /* the next one: */
    struct image_change change;
    struct manifest_leaf leaf; /* being put together */
    uint32_t leaf_next;        /* its first chunk that is not decided yet */
};

static int put_page(struct object_store *store, const char *device_name,
                    uint64_t epoch, uint64_t nonce, uint32_t page,
                    const void *data, size_t size)
{
    char key[IMAGE_KEY_MAX];
    int error;

    image_page_key(device_name, epoch, nonce, page, key);
    error = store->put(store, key, data, size, false);
    return error ? bad_page(key, log_errno(error), error) : 0;
}

static int append_ref(struct writer *writer,
                      const struct manifest_leaf_ref *ref)
{
    struct manifest_root *root = &writer->root;

    if (root->leaves_count == writer->room) {
        uint32_t room = writer->room * 2 + 64;
        struct manifest_leaf_ref *leaves;

        if (room > MANIFEST_ROOT_MAX / 16)
            return -EFBIG;
        leaves = reallocarray(root->leaves, room, sizeof(*leaves));
        if (!leaves)
            return -ENOMEM;
        root->leaves = leaves;
        writer->room = room;
    }
    root->leaves[root->leaves_count++] = *ref;
    root->chunks += ref->chunks;
    return 0;
}

static const struct manifest_leaf_ref *
next_base_ref(const struct writer *writer)
{
    const struct image *base = writer->update->base;

    return base && writer->base_index < base->root.leaves_count
               ? &base->root.leaves[writer->base_index]
               : NULL;
}

/* Take over the leaves of base below this number. */
static int keep_leaves(struct writer *writer, uint64_t number)
{
    const struct manifest_leaf_ref *ref = next_base_ref(writer);
    int error = 0;

    while (ref && ref->number < number && !error) {
        error = append_ref(writer, ref);
        writer->base_index++;
        ref = next_base_ref(writer);
    }
    return error;
}

/* Whether its objects are of devices that base knows. */
static bool change_is_valid(const struct writer *writer,
                            const struct image_change *change)
{
    const struct image *base = writer->update->base;
    const struct image_entry *entry = &change->entry;

    if (change->chunk >=
        chunks_of(writer->update->size, writer->update->chunk_size))
        return false;
    if (change->is_hole)
        return true;
    if (entry->objects_count > CHUNK_OBJECTS_MAX)
        return false;
    for (unsigned i = 0; i < entry->objects_count; i++) {
        const struct chunk_object *object = &entry->objects[i];

        if (object->table_size == 0 ||
            object->table_size > chunk_table_encoded_max(DEVICE_CHUNK_SIZE_MAX))
            return false;
        if (object->origin != 0 &&
            (!base || !name_of_origin(base, object->origin)))
            return false;
    }
    return true;
}

/* Ask for the next change. */
static int pull_change(struct writer *writer)
{
    uint64_t before = writer->change.chunk;
    bool had_one = writer->has_change;
    int result;

    memset(&writer->change, 0, sizeof(writer->change));
    result = writer->update->next(writer->update->context, &writer->change);
    if (result < 0)
        return result;
    writer->has_change = result > 0;
    if (writer->has_change && ((had_one && writer->change.chunk <= before) ||
                               !change_is_valid(writer, &writer->change))) {
        log_error("%s: chunk %016" PRIx64 ": cannot be in an image",
                  writer->update->device_name, writer->change.chunk);
        return -EINVAL;
    }
    return 0;
}

static void begin_leaf(struct writer *writer, uint64_t number)
{
    writer->leaf.number = number;
    writer->leaf.count = 0;
    writer->leaf.first[0] = 0;
    writer->leaf_next = 0;
}

/* Decide the next chunk of the leaf; without objects if NULL. */
static void append_chunk(struct writer *writer, bool is_mapped,
                         const struct chunk_object *objects, unsigned count)
{
    struct manifest_leaf *leaf = &writer->leaf;
    uint32_t i = writer->leaf_next++, at = leaf->first[i];

    leaf->is_mapped[i] = is_mapped;
    leaf->count += is_mapped;
    for (unsigned o = 0; o < count; o++)
        leaf->objects[at + o] = objects[o];
    leaf->first[i + 1] = at + count;
}

/* Take over the chunks of old, which may be NULL, below chunk end. */
static void keep_chunks(struct writer *writer, const struct manifest_leaf *old,
                        unsigned end)
{
    while (writer->leaf_next < end) {
        uint32_t i = writer->leaf_next;

        if (old && old->is_mapped[i])
            append_chunk(writer, true, old->objects + old->first[i],
                         old->first[i + 1] - old->first[i]);
        else
            append_chunk(writer, false, NULL, 0);
    }
}

static bool leaf_equals(const struct manifest_leaf *a,
                        const struct manifest_leaf *b)
{
    return memcmp(a->first, b->first, sizeof(a->first)) == 0 &&
           memcmp(a->is_mapped, b->is_mapped, sizeof(a->is_mapped)) == 0 &&
           objects_are_equal(a->objects, b->objects,
                             a->first[MANIFEST_LEAF_CHUNKS]);
}

/* Write the leaf that was put together, and name it in the root. */
static int put_leaf(struct writer *writer)
{
    const struct image_update *update = writer->update;
    struct manifest_leaf_ref ref = {.number = writer->leaf.number,
                                    .epoch = update->epoch,
                                    .nonce = update->nonce,
                                    .page = writer->pages,
                                    .chunks = (uint16_t)writer->leaf.count};
    AUTO_FREE void *data = NULL;
    size_t size;
    int error = manifest_leaf_encode(&writer->leaf, &data, &size);

    if (!error)
        error = put_page(update->store, update->device_name, update->epoch,
                         update->nonce, ref.page, data, size);
    if (error)
        return error;
    ref.size = (uint32_t)size;
    ref.checksum = crc32c(0, data, size);
    writer->pages++;
    return append_ref(writer, &ref);
}

/* Make the leaf of the next change, and write it if it is another one. */
static int update_leaf(struct writer *writer)
{
    uint64_t number = writer->change.chunk / MANIFEST_LEAF_CHUNKS;
    const struct manifest_leaf_ref *ref = next_base_ref(writer);
    const struct manifest_leaf *old = NULL;
    int error = 0;

    if (ref && ref->number == number) {
        error = load_leaf(writer->update->base, writer->base_index);
        if (error)
            return error;
        old = &writer->update->base->leaf;
        writer->base_index++;
    }
    begin_leaf(writer, number);
    while (!error && writer->has_change &&
           writer->change.chunk / MANIFEST_LEAF_CHUNKS == number) {
        const struct image_change *change = &writer->change;

        keep_chunks(writer, old, change->chunk % MANIFEST_LEAF_CHUNKS);
        append_chunk(writer, !change->is_hole, change->entry.objects,
                     change->is_hole ? 0 : change->entry.objects_count);
        error = pull_change(writer);
    }
    if (error)
        return error;
    keep_chunks(writer, old, MANIFEST_LEAF_CHUNKS);
    if (old && leaf_equals(old, &writer->leaf))
        return append_ref(writer, ref);
    if (!old && writer->leaf.count == 0)
        return 0;
    writer->is_changed = true;
    return writer->leaf.count > 0 ? put_leaf(writer) : 0;
}

/* Write a root, and tell how to find it again. */
static int put_root(struct object_store *store, const char *device_name,
                    const struct manifest_root *root, uint32_t page,
                    struct root_ref *ret_root)
{
    AUTO_FREE void *data = NULL;
    size_t size;
    int error = manifest_root_encode(root, &data, &size);

    if (!error)
        error = put_page(store, device_name, root->epoch, root->nonce, page,
                         data, size);
    if (error)
        return error;
    ret_root->epoch = root->epoch;
    ret_root->nonce = root->nonce;
    ret_root->page = page;
    ret_root->size = (uint32_t)size;
    ret_root->checksum = crc32c(0, data, size);
    return 0;
}

static int begin_update(struct writer *writer)
{
    const struct image_update *update = writer->update;
    const struct image *base = update->base;
    struct manifest_root *root = &writer->root;

    if (update->size == 0 || update->chunk_size < DEVICE_CHUNK_SIZE_MIN ||
        update->chunk_size > DEVICE_CHUNK_SIZE_MAX ||
        (update->chunk_size & (update->chunk_size - 1)) != 0 ||
        (base && (update->size < base->root.size ||
                  update->chunk_size != base->root.chunk_size)))
        return -EINVAL;
    root->epoch = update->epoch;
    root->nonce = update->nonce;
    root->size = update->size;
    root->chunk_size = update->chunk_size;
    root->origins_count = base ? base->root.origins_count : 0;
    root->origins = calloc(root->origins_count + 1UL, sizeof(root->origins[0]));
    writer->leaf.objects =
        calloc((size_t)MANIFEST_LEAF_CHUNKS * CHUNK_OBJECTS_MAX,
               sizeof(writer->leaf.objects[0]));
    if (!root->origins || !writer->leaf.objects)
        return -ENOMEM;
    for (uint32_t i = 0; i < root->origins_count; i++)
        memcpy(root->origins[i], base->root.origins[i],
               sizeof(root->origins[i]));
    writer->is_changed = !base || base->root.size != update->size;
    return pull_change(writer);
}

static int write_image(struct writer *writer, struct root_ref *ret_root)
{
    const struct image_update *update = writer->update;
    int error = begin_update(writer);

    while (!error && writer->has_change) {
        error =
            keep_leaves(writer, writer->change.chunk / MANIFEST_LEAF_CHUNKS);
        if (!error)
            error = update_leaf(writer);
    }
    if (!error)
        error = keep_leaves(writer, UINT64_MAX);
    if (error)
        return error;
    if (!writer->is_changed) {
        *ret_root = update->base->root_ref;
        return 0;
    }
    return put_root(update->store, update->device_name, &writer->root,
                    writer->pages, ret_root);
}

int image_update(const struct image_update *update, struct root_ref *ret_root)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    int error;

    if (!writer)
        return -ENOMEM;
    writer->update = update;
    error = write_image(writer, ret_root);
    manifest_leaf_done(&writer->leaf);
    manifest_root_done(&writer->root);
    free(writer);
    return error;
}

/* ---- clone --------------------------------------------------------------- */

/* Add a name to the origins, in its place.  There is room for it. */
static int add_origin(struct manifest_root *root, const char *name)
{
    uint32_t number = manifest_origin(name), at = root->origins_count;

    while (at > 0 && manifest_origin(root->origins[at - 1]) >= number) {
        if (manifest_origin(root->origins[at - 1]) == number)
            return -EEXIST;
        at--;
    }
    memmove(&root->origins[at + 1], &root->origins[at],
            (root->origins_count - at) * sizeof(root->origins[0]));
    memset(root->origins[at], 0, sizeof(root->origins[at]));
    memcpy(root->origins[at], name, strlen(name));
    root->origins_count++;
    return 0;
}

static int copy_root(const struct image *source, const char *device_name,
                     struct manifest_root *root)
{
    const struct manifest_root *from = &source->root;
    int error;

    if (from->origins_count == MANIFEST_ORIGINS_MAX)
        return -EMLINK;
    root->leaves = calloc(from->leaves_count + 1UL, sizeof(root->leaves[0]));
    root->origins = calloc(from->origins_count + 1UL, sizeof(root->origins[0]));
    if (!root->leaves || !root->origins)
        return -ENOMEM;
    for (uint32_t i = 0; i < from->leaves_count; i++) {
        root->leaves[i] = from->leaves[i];
        if (root->leaves[i].origin == 0)
            root->leaves[i].origin = manifest_origin(source->device_name);
    }
    for (uint32_t i = 0; i < from->origins_count; i++)
        memcpy(root->origins[i], from->origins[i], sizeof(root->origins[i]));
    root->origins_count = from->origins_count;
    error = add_origin(root, source->device_name);
    for (uint32_t i = 0; i < root->origins_count; i++) {
        if (manifest_origin(root->origins[i]) == manifest_origin(device_name))
            error = -EEXIST;
    }
    return error;
}

int image_clone(struct image *source, const char *device_name, uint64_t epoch,
                uint64_t nonce, struct root_ref *ret_root)
{
    struct manifest_root root = {
        .epoch = epoch,
        .nonce = nonce,
        .size = source->root.size,
        .chunk_size = source->root.chunk_size,
        .chunks = source->root.chunks,
        .leaves_count = source->root.leaves_count,
    };
    int error = copy_root(source, device_name, &root);

    if (error == -EEXIST)
        log_error("%s: cannot be a clone of %s under this name: choose "
                  "another",
                  device_name, source->device_name);
    if (!error)
        error = put_root(source->store, device_name, &root, 0, ret_root);
    manifest_root_done(&root);
    return error;
}
