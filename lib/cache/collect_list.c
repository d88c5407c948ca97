/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/log.h"
#include "cache/image.h"
#include "object_store.h"

enum { EPOCHS_ALONE = 16 }; /* so many are worth a list */

static int put_list_page(struct collect *c, const struct condemned items[])
{
    struct object_store *store = c->options->store;
    AUTO_FREE void *data = malloc(CONDEMNED_PAGE_MAX);
    char key[CONDEMNED_KEY_MAX];
    int error = collect_check_stop(c);

    if (!data)
        return -ENOMEM;
    if (error)
        return error;
    condemned_key(c->options->device_name, &c->page, key);
    error = store->put(store, key, data,
                       condemned_encode(&c->page, items, data), false);
    if (error)
        log_error("%s: cannot create: %s", key, log_errno(error));
    c->page.page++;
    c->page.count = 0;
    return error;
}

/* Write page 0: from now on nobody can pin, or name, the doomed images. */
static int begin_list(struct collect *c)
{
    int error = collect_check_claim(c);

    c->page = (struct condemned_page){.epoch = c->options->own.epoch};
    if (!error && getrandom(&c->page.nonce, sizeof(c->page.nonce), 0) !=
                      (ssize_t)sizeof(c->page.nonce))
        error = -EIO;
    for (size_t i = 0; i < roots_count(c->doomed) && !error; i++) {
        const struct root_ref *root = image_root_ref(roots_image(c->doomed, i));

        c->list[c->page.count++] = (struct condemned){.kind = CONDEMNED_ROOT,
                                                      .epoch = root->epoch,
                                                      .nonce = root->nonce,
                                                      .number = root->page};
    }
    c->counts->condemned += c->page.count;
    if (!error)
        error = put_list_page(c, c->list);
    c->has_begun = !error;
    return error;
}

/* Add one to the list, which begins with the first. */
int collect_condemn_one(struct collect *c, const struct condemned *item)
{
    int error = c->has_begun ? 0 : begin_list(c);

    if (!error && c->page.count == CONDEMNED_COUNT_MAX)
        error = put_list_page(c, c->list);
    if (error)
        return error;
    c->list[c->page.count++] = *item;
    c->counts->condemned++;
    return 0;
}

/* Condemn those of the objects, all of one leaf, that no root names. */
int collect_condemn_objects(struct collect *c, struct heap *objects)
{
    AUTO_FREE bool *is_named = calloc(objects->count + 1, sizeof(bool));
    size_t kept = 0;
    int error;

    if (!is_named)
        return -ENOMEM;
    if (objects->count == 0)
        return 0;
    qsort(objects->items, objects->count, sizeof(objects->items[0]),
          collect_compare);
    for (size_t i = 1; i < objects->count; i++) {
        if (condemned_compare(&objects->items[i], &objects->items[kept]) != 0)
            objects->items[++kept] = objects->items[i];
    }
    objects->count = kept + 1;
    error = roots_mark(c->roots, objects->items, is_named, objects->count);
    for (size_t i = 0; i < objects->count && !error; i++) {
        if (!is_named[i])
            error = collect_condemn_one(c, &objects->items[i]);
    }
    return error;
}

/* Whether an earlier doomed image has the same leaf. */
static bool was_seen(const struct collect *c, size_t index,
                     const struct manifest_leaf_ref *ref)
{
    bool was = false;

    for (size_t i = 0; i < index && !was; i++) {
        const struct manifest_leaf_ref *other =
            image_leaf_ref(roots_image(c->doomed, i), ref->number);

        was = other && other->origin == 0 && other->epoch == ref->epoch &&
              other->nonce == ref->nonce && other->page == ref->page;
    }
    return was;
}

/* Add the objects of a leaf that are this device's, and free. */
static int gather(struct collect *c, struct image *image, uint64_t number,
                  struct heap *objects)
{
    const struct manifest_leaf *leaf = NULL;
    int result = image_read_leaf(image, number, &leaf);

    for (unsigned i = 0; result > 0 && i < MANIFEST_LEAF_CHUNKS; i++) {
        for (uint32_t o = leaf->first[i]; result > 0 && o < leaf->first[i + 1];
             o++) {
            const struct chunk_object *object = &leaf->objects[o];
            struct condemned item = {.kind = CONDEMNED_OBJECT,
                                     .chunk = number * MANIFEST_LEAF_CHUNKS + i,
                                     .epoch = object->id.epoch,
                                     .nonce = object->id.nonce,
                                     .number = object->id.counter};

            if (object->origin == 0 &&
                history_id_is_free(&c->history, object->id.epoch) &&
                collect_push(objects, &item) != 0)
                result = -ENOMEM;
        }
    }
    image_forget_leaf(image);
    return result < 0 ? result : 0;
}

/* Condemn what the doomed images have in the leaf of that number. */
static int condemn_leaf(struct collect *c, uint64_t number)
{
    struct heap objects = {.count = 0};
    int error = collect_check_stop(c);

    for (size_t i = 0; i < roots_count(c->doomed) && !error; i++) {
        struct image *image = roots_image(c->doomed, i);
        const struct manifest_leaf_ref *ref = image_leaf_ref(image, number);
        struct condemned page = {.kind = CONDEMNED_PAGE};

        if (!ref || ref->origin != 0 || was_seen(c, i, ref) ||
            roots_name_leaf(c->roots, ref))
            continue;
        page.epoch = ref->epoch;
        page.nonce = ref->nonce;
        page.number = ref->page;
        error = collect_condemn_one(c, &page);
        if (!error)
            error = gather(c, image, number, &objects);
    }
    if (!error)
        error = collect_condemn_objects(c, &objects);
    free(objects.items);
    return error;
}

/* Tell the lowest number >= from of a leaf that a doomed image has. */
static bool next_leaf(const struct collect *c, uint64_t from,
                      uint64_t *ret_number)
{
    bool is_found = false;

    for (size_t i = 0; i < roots_count(c->doomed); i++) {
        uint64_t number;

        if (image_next_leaf(roots_image(c->doomed, i), from, &number) &&
            (!is_found || number < *ret_number)) {
            *ret_number = number;
            is_found = true;
        }
    }
    return is_found;
}

int collect_end_list(struct collect *c)
{
    int error = 0;

    if (c->page.count > 0)
        error = put_list_page(c, c->list);
    if (error)
        return error;
    c->page.is_end = true;
    c->page.count = (uint32_t)c->ends.count;
    error = put_list_page(c, c->ends.items);
    if (!error)
        c->counts->is_waiting = true;
    return error;
}

/* Whether it is worth a list: some epochs alone can wait for an image. */
static bool has_doomed(const struct collect *c)
{
    size_t pins = 0;

    for (size_t i = 0; i < c->ends.count; i++)
        pins += c->ends.items[i].kind == CONDEMNED_PIN;
    return roots_count(c->doomed) > 0 || pins > 0 ||
           c->ends.count >= EPOCHS_ALONE;
}

/* Condemn what the doomed images have, and no root. */
int collect_condemn(struct collect *c)
{
    uint64_t number = 0;
    int error = 0;

    if (has_doomed(c))
        error = begin_list(c);
    while (!error && next_leaf(c, number, &number))
        error = condemn_leaf(c, number++);
    return error;
}
