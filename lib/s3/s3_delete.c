/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_delete.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "s3/s3_answer.h"
#include "s3/s3_call.h"
#include "s3/s3_parts.h"

static int delete_one(struct s3_parts *parts, const char *key)
{
    const struct s3_operation operation = {.verb = S3_DELETE, .key = key};
    struct s3_call call = {
        .operation = &operation,
        .urgency = OBJECT_BACKGROUND,
    };
    int error = s3_call_run(parts, &call);

    return error == -ENOENT ? 0 : error;
}

/* Up to a thousand keys, and what became of them. */
struct batch {
    const char *site_prefix;
    const char *const *keys;
    size_t count;
    bool is_left[S3_DELETE_KEYS_MAX];
};

/*
 * The store could not delete this one.  It may name what it likes: only what
 * was asked for is looked for, and tried again.
 */
static int note_left(void *context, const char *key,
                     const struct s3_error *error)
{
    struct batch *batch = context;
    size_t site_len = strlen(batch->site_prefix);
    bool is_ours = strncmp(key, batch->site_prefix, site_len) == 0;
    bool is_found = false;

    (void)error; /* the attempt alone will tell it anew */
    for (size_t i = 0; is_ours && i < batch->count; i++) {
        if (strcmp(key + site_len, batch->keys[i]) == 0)
            batch->is_left[i] = is_found = true;
    }
    /* Written in another way, perhaps: then it may be any. */
    if (!is_found)
        memset(batch->is_left, true, sizeof(batch->is_left));
    return 0;
}

static int take_answer(void *context, const char *text, size_t len)
{
    struct batch *batch = context;

    memset(batch->is_left, 0, sizeof(batch->is_left));
    return s3_deleted_parse(text, len, note_left, batch);
}

static int delete_by_one_request(struct s3_parts *parts, struct batch *batch)
{
    AUTO_FREE char *data = NULL;
    struct s3_body body;
    const struct s3_operation operation = {
        .verb = S3_DELETE_MANY,
        .body = &body,
    };
    struct s3_call call = {
        .operation = &operation,
        .urgency = OBJECT_BACKGROUND,
        .accept = take_answer,
        .accept_context = batch,
    };
    int error =
        s3_body_of_keys(&parts->site, batch->keys, batch->count, &body, &data);

    return error ? error : s3_call_run(parts, &call);
}

/* Delete what is left, one by one. */
static int delete_left(struct s3_parts *parts, const struct batch *batch)
{
    int error = 0;

    for (size_t i = 0; !error && i < batch->count; i++) {
        if (batch->is_left[i])
            error = delete_one(parts, batch->keys[i]);
    }
    return error;
}

/*
 * Some stores know no delete of many, and say so in all sorts of ways: if it
 * is refused and a single one is not, it is not tried again.
 */
static int delete_batch(struct s3_parts *parts, struct batch *batch)
{
    int error = -EACCES;

    if (!atomic_load_explicit(&parts->deletes_singly, memory_order_relaxed))
        error = delete_by_one_request(parts, batch);
    if (error == -EACCES) {
        memset(batch->is_left, true, sizeof(batch->is_left));
        error = delete_left(parts, batch);
        if (!error)
            atomic_store_explicit(&parts->deletes_singly, true,
                                  memory_order_relaxed);
        return error;
    }
    return error ? error : delete_left(parts, batch);
}

int s3_delete_run(struct s3_parts *parts, const char *const keys[],
                  size_t count)
{
    AUTO_FREE struct batch *batch = NULL;
    int error = 0;

    if (count == 1)
        return delete_one(parts, keys[0]);
    batch = calloc(1, sizeof(*batch));
    if (!batch)
        return -ENOMEM;
    batch->site_prefix = parts->site.prefix;
    for (size_t i = 0; !error && i < count; i += batch->count) {
        batch->keys = keys + i;
        batch->count =
            count - i < S3_DELETE_KEYS_MAX ? count - i : S3_DELETE_KEYS_MAX;
        error = delete_batch(parts, batch);
    }
    return error;
}
