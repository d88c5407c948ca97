/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/history.h"

#include "support/bucket.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum { HERE = 1, THERE = 2, OTHER = 3, EPOCHS_MAX = 32 };

static struct history_epoch epochs[EPOCHS_MAX];
static struct history history = {epochs, 0};

static void clear(void)
{
    memset(epochs, 0, sizeof(epochs));
    history.count = 0;
}

/* Add an epoch that has the image of that number; 0: none. */
static void add(uint64_t epoch, enum epoch_kind kind, uint8_t holder,
                uint64_t image)
{
    struct epoch_record *record = &epochs[history.count++].record;

    record->kind = kind;
    record->epoch = epoch;
    record->nonce = 100 + history.count;
    memset(record->cachedir_id, holder, UUID_SIZE);
    record->root.size = image > 0;
    record->root.nonce = image;
}

static void judge(unsigned keep)
{
    for (size_t i = 0; i < history.count; i++)
        epochs[i] = (struct history_epoch){.record = epochs[i].record};
    history_judge(&history, keep, NULL, 0, false);
}

/* Which records are kept, one character each. */
static const char *kept(void)
{
    static char text[EPOCHS_MAX + 1];

    for (size_t i = 0; i < history.count; i++)
        text[i] = epochs[i].is_kept ? 'k' : '.';
    text[history.count] = '\0';
    return text;
}

TEST("the newest images are kept, with the epochs that brought them")
{
    clear();
    add(1, EPOCH_CLAIM, HERE, 0);
    add(2, EPOCH_IMAGE, HERE, 1);
    add(3, EPOCH_IMAGE, HERE, 2);
    add(4, EPOCH_CLAIM, HERE, 2);
    add(5, EPOCH_IMAGE, HERE, 3);
    judge(1);
    CHECK(strcmp(kept(), "....k") == 0);
    judge(2);
    CHECK(strcmp(kept(), "..k.k") == 0);
    CHECK(epochs[2].has_kept_image && epochs[3].has_kept_image);
    judge(3);
    CHECK(strcmp(kept(), ".kk.k") == 0);
    judge(100);
    CHECK(strcmp(kept(), ".kk.k") == 0);
    CHECK(!epochs[0].has_kept_image && epochs[1].has_kept_image);
}

TEST("an image that came back (rollback) counts once")
{
    clear();
    add(1, EPOCH_IMAGE, HERE, 1);
    add(2, EPOCH_IMAGE, HERE, 2);
    add(3, EPOCH_IMAGE, HERE, 1);
    judge(1);
    CHECK(strcmp(kept(), "..k") == 0);
    CHECK(epochs[0].has_kept_image);
    judge(2);
    CHECK(strcmp(kept(), ".kk") == 0);
}

TEST("a claim whose image has no other epoch any more is kept for it")
{
    clear();
    add(3, EPOCH_CLAIM, HERE, 1);
    add(4, EPOCH_CLAIM, HERE, 1);
    add(5, EPOCH_IMAGE, HERE, 2);
    judge(2);
    CHECK(strcmp(kept(), ".kk") == 0);
}

TEST("the last epoch of each tenure is kept, and tombstones, and conflicts")
{
    clear();
    add(1, EPOCH_CLAIM, HERE, 0);
    add(2, EPOCH_IMAGE, HERE, 1);
    add(3, EPOCH_IMAGE, HERE, 2); /* taken over */
    add(4, EPOCH_CLAIM, THERE, 2);
    add(5, EPOCH_TOMBSTONE, THERE, 0);
    add(6, EPOCH_CLAIM, THERE, 0);
    add(7, EPOCH_IMAGE, THERE, 3);
    add(7, EPOCH_IMAGE, OTHER, 4);
    add(8, EPOCH_CLAIM, THERE, 3);
    add(9, EPOCH_IMAGE, THERE, 5);
    judge(1);
    CHECK(strcmp(kept(), "..k.k.kk.k") == 0);
}

TEST("an image whose root is condemned is not kept, but the newest")
{
    struct condemned roots[] = {{.kind = CONDEMNED_ROOT, .nonce = 2},
                                {.kind = CONDEMNED_ROOT, .nonce = 3}};

    clear();
    add(1, EPOCH_IMAGE, HERE, 1);
    add(2, EPOCH_IMAGE, HERE, 2);
    add(3, EPOCH_IMAGE, HERE, 3);
    history_judge(&history, 2, roots, 2, false);
    CHECK(strcmp(kept(), "k.k") == 0);
}

TEST("ids of a tenure that was taken over are not free until it came back")
{
    clear();
    add(10, EPOCH_CLAIM, HERE, 0);
    add(12, EPOCH_IMAGE, HERE, 1); /* 11 is gone */
    add(13, EPOCH_CLAIM, THERE, 1);
    add(15, EPOCH_IMAGE, THERE, 2);
    judge(1);
    CHECK(!history_id_is_free(&history, 9));
    CHECK(!history_id_is_free(&history, 11));
    CHECK(!history_id_is_free(&history, 12));
    CHECK(history_id_is_free(&history, 13));
    CHECK(history_id_is_free(&history, 14));
    CHECK(history_id_is_free(&history, 15));
    CHECK(!history_id_is_free(&history, 16)); /* not known here */
    add(16, EPOCH_RELEASE, THERE, 2);
    add(17, EPOCH_CLAIM, HERE, 2);
    judge(1);
    CHECK(history_id_is_free(&history, 11));
    CHECK(history_id_is_free(&history, 14)); /* was released */
    CHECK(history_id_is_free(&history, 17));

    /* The same with all removed that may be. */
    clear();
    add(12, EPOCH_IMAGE, HERE, 1);
    add(15, EPOCH_IMAGE, THERE, 2);
    judge(1);
    CHECK(!history_id_is_free(&history, 10));
    CHECK(history_id_is_free(&history, 13));
    history_judge(&history, 1, NULL, 0, true);
    CHECK(history_id_is_free(&history, 10));
}

TEST("ids of two claims of one epoch are free only if both are")
{
    clear();
    add(4, EPOCH_RELEASE, HERE, 1);
    add(5, EPOCH_CLAIM, HERE, 1);
    add(5, EPOCH_CLAIM, OTHER, 1);
    add(6, EPOCH_CLAIM, HERE, 1);
    judge(1);
    CHECK(!history_id_is_free(&history, 5));
}

TEST("an epoch is found by its number and nonce")
{
    clear();
    add(4, EPOCH_CLAIM, HERE, 1);
    CHECK(history_find(&history, 4, 101) == &epochs[0]);
    CHECK(history_find(&history, 4, 102) == NULL);
    CHECK(history_find(&history, 5, 101) == NULL);
}

TEST("all epochs in the bucket are read, or none")
{
    struct fault_store *fault = fault_store_new(memory_store_new());
    struct history found = {NULL, 0};
    struct bucket bucket;

    bucket_init(&bucket, fault_store_of(fault), "disk", HERE);
    bucket_epoch(&bucket, EPOCH_RELEASE, HERE);
    bucket_epoch(&bucket, EPOCH_CLAIM, THERE);
    CHECK(history_read(bucket.store, "disk", &found) == 0);
    CHECK(found.count == 3 && found.epochs[2].record.kind == EPOCH_CLAIM);
    history_done(&found);
    CHECK(history_read(bucket.store, "other", &found) == 0);
    CHECK(found.count == 0);
    fault_store_plan(fault, STORE_GET, 2, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(history_read(bucket.store, "disk", &found) == -ETIMEDOUT);
    fault_store_plan(fault, STORE_GET, 2, 1, STORE_CORRUPTS, 0);
    CHECK(history_read(bucket.store, "disk", &found) < 0);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -EIO);
    CHECK(history_read(bucket.store, "disk", &found) == -EIO);
    bucket_done(&bucket);
    bucket.store->close(bucket.store);
}
