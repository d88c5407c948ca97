/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "object_store.h"

/* An epoch_each: only what the key says. */
static int keep_key(void *context, const char *key,
                    const struct epoch_record *record,
                    const struct object_info *info)
{
    struct history *history = context;
    struct history_epoch *epochs =
        reallocarray(history->epochs, history->count + 1, sizeof(epochs[0]));

    (void)key;
    (void)info;
    if (!epochs)
        return -ENOMEM;
    history->epochs = epochs;
    epochs[history->count++] = (struct history_epoch){.record = *record};
    return 0;
}

int history_read(struct object_store *store, const char *device_name,
                 struct history *ret_history)
{
    struct history history = {.count = 0};
    int error = epoch_list(store, device_name, 0, keep_key, &history);

    for (size_t i = 0; i < history.count && !error; i++) {
        struct epoch_record listed = history.epochs[i].record;
        char key[EPOCH_KEY_MAX];

        epoch_key(device_name, &listed, key);
        error = epoch_read(store, key, &listed, &history.epochs[i].record);
        if (!error && i > 0 &&
            listed.epoch < history.epochs[i - 1].record.epoch)
            error = -EIO; /* the store's list does not ascend */
    }
    if (error)
        history_done(&history);
    else
        *ret_history = history;
    return error;
}

void history_done(struct history *history)
{
    free(history->epochs);
    history->epochs = NULL;
    history->count = 0;
}

static bool is_same_root(const struct root_ref *a, const struct root_ref *b)
{
    return a->size > 0 && b->size > 0 && a->epoch == b->epoch &&
           a->nonce == b->nonce && a->page == b->page;
}

bool history_names_root(const struct condemned roots[], size_t roots_count,
                        const struct root_ref *root)
{
    for (size_t i = 0; i < roots_count; i++) {
        if (roots[i].kind == CONDEMNED_ROOT && roots[i].epoch == root->epoch &&
            roots[i].nonce == root->nonce && roots[i].number == root->page)
            return true;
    }
    return false;
}

static bool is_of_same_holder(const struct epoch_record *a,
                              const struct epoch_record *b)
{
    return memcmp(a->cachedir_id, b->cachedir_id, UUID_SIZE) == 0;
}

/*
 * Mark all epochs that have the image of this one, the newest of them; and keep
 * the newest that brought it, or this one.
 */
static void keep_image(struct history *history, size_t index)
{
    struct history_epoch *bringer = &history->epochs[index];
    const struct root_ref *root = &bringer->record.root;
    bool is_found = false;

    for (size_t i = index + 1; i-- > 0;) {
        struct history_epoch *epoch = &history->epochs[i];
        enum epoch_kind kind = epoch->record.kind;

        if (!is_same_root(&epoch->record.root, root))
            continue;
        epoch->has_kept_image = true;
        if (!is_found && (kind == EPOCH_IMAGE || kind == EPOCH_FORK)) {
            bringer = epoch;
            is_found = true;
        }
    }
    bringer->is_kept = true;
}

static void choose_images(struct history *history, unsigned keep,
                          const struct condemned roots[], size_t roots_count)
{
    unsigned kept = 0;

    for (size_t i = history->count; i-- > 0;) {
        const struct history_epoch *epoch = &history->epochs[i];
        bool is_newest = i + 1 == history->count;

        if (epoch->record.root.size == 0 || epoch->has_kept_image)
            continue;
        if (!is_newest &&
            (kept >= keep ||
             history_names_root(roots, roots_count, &epoch->record.root)))
            continue;
        keep_image(history, i);
        kept++;
    }
}

/* Whether the record must stay, whatever its image. */
static bool is_landmark(const struct history *history, size_t i)
{
    const struct epoch_record *record = &history->epochs[i].record;
    const struct epoch_record *next;

    if (i + 1 == history->count || record->kind == EPOCH_TOMBSTONE ||
        (i > 0 && history->epochs[i - 1].record.epoch == record->epoch))
        return true;
    next = &history->epochs[i + 1].record;
    return next->epoch == record->epoch || !is_of_same_holder(record, next);
}

/* Whether the tenure that ends with this epoch leaves nothing behind. */
static bool tenure_is_settled(const struct history *history, size_t last)
{
    const struct epoch_record *record = &history->epochs[last].record;

    if (last + 1 == history->count || !epoch_is_held(record))
        return true;
    for (size_t i = last + 1; i < history->count; i++) {
        if (is_of_same_holder(record, &history->epochs[i].record))
            return true; /* it came back, so it gave up what it had */
    }
    return false;
}

void history_judge(struct history *history, unsigned keep,
                   const struct condemned roots[], size_t roots_count,
                   bool others)
{
    bool is_settled = true;

    choose_images(history, keep, roots, roots_count);
    for (size_t i = history->count; i-- > 0;) {
        struct history_epoch *epoch = &history->epochs[i];

        if (i + 1 == history->count ||
            !is_of_same_holder(&epoch->record, &epoch[1].record))
            is_settled = tenure_is_settled(history, i);
        epoch->is_landmark = is_landmark(history, i);
        epoch->is_kept = epoch->is_kept || epoch->is_landmark;
        epoch->ids_are_free = is_settled || others;
    }
}

bool history_id_is_free(const struct history *history, uint64_t epoch)
{
    size_t i = 0;
    bool is_free = true;

    /* The record itself may be gone; the next one is of the same tenure. */
    while (i < history->count && history->epochs[i].record.epoch < epoch)
        i++;
    if (i == history->count)
        return false;
    epoch = history->epochs[i].record.epoch;
    for (; i < history->count && history->epochs[i].record.epoch == epoch; i++)
        is_free = is_free && history->epochs[i].ids_are_free;
    return is_free;
}

const struct history_epoch *history_find(const struct history *history,
                                         uint64_t epoch, uint64_t nonce)
{
    for (size_t i = 0; i < history->count; i++) {
        if (history->epochs[i].record.epoch == epoch &&
            history->epochs[i].record.nonce == nonce)
            return &history->epochs[i];
    }
    return NULL;
}
