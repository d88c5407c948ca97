/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/roots.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/auto.h"
#include "cache/catalog.h"
#include "cache/image.h"

struct roots {
    struct object_store *store;
    const char *device_name;
    struct image **images;
    size_t count;
    struct catalog *device; /* NULL: none */
    struct catalog *checkpoint;
};

int roots_new(struct object_store *store, const char *device_name,
              struct roots **ret_roots)
{
    struct roots *roots = calloc(1, sizeof(*roots));

    if (!roots)
        return -ENOMEM;
    roots->store = store;
    roots->device_name = device_name;
    *ret_roots = roots;
    return 0;
}

void roots_free(struct roots *roots)
{
    if (!roots)
        return;
    for (size_t i = 0; i < roots->count; i++)
        image_close(roots->images[i]);
    free(roots->images);
    free(roots);
}

struct image *roots_find(const struct roots *roots, const struct root_ref *root)
{
    for (size_t i = 0; i < roots->count; i++) {
        const struct root_ref *own = image_root_ref(roots->images[i]);

        if (own->epoch == root->epoch && own->nonce == root->nonce &&
            own->page == root->page)
            return roots->images[i];
    }
    return NULL;
}

int roots_add(struct roots *roots, const struct root_ref *root)
{
    struct image **images;
    int error;

    if (roots_find(roots, root))
        return 0;
    images = reallocarray(roots->images, roots->count + 1, sizeof(images[0]));
    if (!images)
        return -ENOMEM;
    roots->images = images;
    error = image_open(roots->store, roots->device_name, root,
                       &images[roots->count]);
    if (!error)
        roots->count++;
    return error;
}

void roots_add_catalogs(struct roots *roots, struct catalog *device,
                        struct catalog *checkpoint)
{
    roots->device = device;
    roots->checkpoint = checkpoint;
}

size_t roots_count(const struct roots *roots)
{
    return roots->count;
}

struct image *roots_image(const struct roots *roots, size_t index)
{
    assert(index < roots->count);
    return roots->images[index];
}

static bool image_names_page(const struct image *image, uint64_t epoch,
                             uint64_t nonce, uint64_t page)
{
    const struct root_ref *own = image_root_ref(image);
    const struct manifest_root *root = image_root(image);

    if (own->epoch == epoch && own->nonce == nonce && own->page == page)
        return true;
    for (uint32_t i = 0; i < root->leaves_count; i++) {
        const struct manifest_leaf_ref *leaf = &root->leaves[i];

        if (leaf->origin == 0 && leaf->epoch == epoch && leaf->nonce == nonce &&
            leaf->page == page)
            return true;
    }
    return false;
}

bool roots_name_page(const struct roots *roots, uint64_t epoch, uint64_t nonce,
                     uint64_t page)
{
    bool is_named = false;

    for (size_t i = 0; i < roots->count && !is_named; i++)
        is_named = image_names_page(roots->images[i], epoch, nonce, page);
    return is_named;
}

static bool is_same_leaf(const struct manifest_leaf_ref *a,
                         const struct manifest_leaf_ref *b)
{
    return a->epoch == b->epoch && a->nonce == b->nonce &&
           a->origin == b->origin && a->page == b->page;
}

bool roots_name_leaf(const struct roots *roots,
                     const struct manifest_leaf_ref *ref)
{
    for (size_t i = 0; i < roots->count; i++) {
        const struct manifest_leaf_ref *own =
            image_leaf_ref(roots->images[i], ref->number);

        if (own && is_same_leaf(own, ref))
            return true;
    }
    return false;
}

/* ---- which objects are named ----------------------------------------------
 */

/* What is being marked. */
struct marking {
    const struct condemned *objects;
    bool *is_named;
    size_t count;
};

static int compare(const void *a, const void *b)
{
    return condemned_compare(a, b);
}

/* An object of the device is named. */
static void mark(struct marking *marking, uint64_t chunk,
                 const struct chunk_object *object)
{
    struct condemned named = {.kind = CONDEMNED_OBJECT,
                              .chunk = chunk,
                              .epoch = object->id.epoch,
                              .nonce = object->id.nonce,
                              .number = object->id.counter};
    const struct condemned *found;

    if (object->origin != 0)
        return;
    found = bsearch(&named, marking->objects, marking->count, sizeof(named),
                    compare);
    if (found)
        marking->is_named[found - marking->objects] = true;
}

static int mark_leaf(struct marking *marking, struct image *image,
                     uint64_t number)
{
    const struct manifest_leaf *leaf = NULL;
    int result = image_read_leaf(image, number, &leaf);

    if (result <= 0)
        return result;
    for (unsigned i = 0; i < MANIFEST_LEAF_CHUNKS; i++) {
        for (uint32_t o = leaf->first[i]; o < leaf->first[i + 1]; o++)
            mark(marking, number * MANIFEST_LEAF_CHUNKS + i, &leaf->objects[o]);
    }
    image_forget_leaf(image);
    return 0;
}

/* Read each leaf of that number that is another one than those before. */
static int mark_images(struct roots *roots, struct marking *marking,
                       uint64_t number)
{
    AUTO_FREE const struct manifest_leaf_ref **seen =
        calloc(roots->count + 1, sizeof(seen[0]));
    size_t seen_count = 0;
    int error = 0;

    if (!seen)
        return -ENOMEM;
    for (size_t i = 0; i < roots->count && !error; i++) {
        const struct manifest_leaf_ref *ref =
            image_leaf_ref(roots->images[i], number);
        size_t s = 0;

        /* What another device wrote does not name objects of this one. */
        if (!ref || ref->origin != 0)
            continue;
        while (s < seen_count && !is_same_leaf(seen[s], ref))
            s++;
        if (s < seen_count)
            continue;
        seen[seen_count++] = ref;
        error = mark_leaf(marking, roots->images[i], number);
    }
    return error;
}

static void mark_catalog(struct marking *marking, struct catalog *catalog,
                         uint64_t number)
{
    uint64_t chunk = number * MANIFEST_LEAF_CHUNKS;
    uint64_t end = chunk + MANIFEST_LEAF_CHUNKS;

    while (catalog_next(catalog, chunk, end, &chunk)) {
        struct catalog_entry entry;

        catalog_get(catalog, chunk, &entry);
        for (unsigned i = 0; i < entry.objects_count; i++)
            mark(marking, chunk, &entry.objects[i]);
        chunk++;
    }
}

int roots_mark(struct roots *roots, const struct condemned objects[],
               bool is_named[], size_t count)
{
    struct marking marking = {objects, is_named, count};
    uint64_t number;

    if (count == 0)
        return 0;
    number = objects[0].chunk / MANIFEST_LEAF_CHUNKS;
    assert(objects[count - 1].chunk / MANIFEST_LEAF_CHUNKS == number);
    /* In this order, so that what moves from one to the other is seen. */
    if (roots->device)
        mark_catalog(&marking, roots->device, number);
    if (roots->checkpoint)
        mark_catalog(&marking, roots->checkpoint, number);
    return mark_images(roots, &marking, number);
}
