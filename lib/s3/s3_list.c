/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_list.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "s3/s3_answer.h"
#include "s3/s3_call.h"
#include "s3/s3_parts.h"

/* Pages in sequence that bring no key: some stores have them, none many. */
enum { EMPTY_PAGES_MAX = 100 };

struct item {
    size_t key_at; /* in the page's keys */
    struct object_info info;
};

struct listing {
    const char *site_prefix; /* of all keys in the answers */
    const char *prefix;

    /* The page that is taken in. */
    struct item *items;
    size_t count, room;
    char *keys;
    size_t keys_len, keys_room;
    struct s3_list answer;
    char last[S3_KEY_MAX + 1]; /* the greatest key of it, without the prefix */

    char done[S3_KEY_MAX + 1]; /* the greatest key of the pages before */
};

/* Make room for count more of the size; *array may move. */
static int make_room(void **array, size_t *room, size_t used, size_t count,
                     size_t size)
{
    size_t wanted = *room ? *room : 64;
    void *grown;

    if (used + count <= *room)
        return 0;
    while (wanted < used + count)
        wanted *= 2;
    grown = reallocarray(*array, wanted, size);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *room = wanted;
    return 0;
}

static int keep(struct listing *listing, const char *key,
                const struct object_info *info)
{
    size_t len = strlen(key) + 1;
    void *items = listing->items, *keys = listing->keys;
    int error;

    error = make_room(&items, &listing->room, listing->count, 1,
                      sizeof(listing->items[0]));
    listing->items = items;
    if (!error)
        error =
            make_room(&keys, &listing->keys_room, listing->keys_len, len, 1);
    listing->keys = keys;
    if (error)
        return error;
    listing->items[listing->count++] =
        (struct item){.key_at = listing->keys_len, .info = *info};
    memcpy(listing->keys + listing->keys_len, key, len);
    listing->keys_len += len;
    return 0;
}

/* An object of the answer. */
static int take_object(void *context, const char *key, uint64_t size,
                       uint64_t modified_ns)
{
    struct listing *listing = context;
    const struct object_info info = {.size = size, .modified_ns = modified_ns};
    size_t site_len = strlen(listing->site_prefix);

    if (strncmp(key, listing->site_prefix, site_len) != 0)
        return -EBADMSG;
    key += site_len;
    if (strncmp(key, listing->prefix, strlen(listing->prefix)) != 0 ||
        strcmp(key, listing->last) <= 0 || strlen(key) > S3_KEY_MAX)
        return -EBADMSG;
    memcpy(listing->last, key, strlen(key) + 1);
    return object_key_is_valid(key) ? keep(listing, key, &info) : 0;
}

/* Take in a page; what an attempt before has brought is forgotten. */
static int take_page(void *context, const char *text, size_t len)
{
    struct listing *listing = context;

    listing->count = 0;
    listing->keys_len = 0;
    memcpy(listing->last, listing->done, sizeof(listing->last));
    return s3_list_parse(text, len, take_object, listing, &listing->answer);
}

static int hand_over(const struct listing *listing, object_store_each *each,
                     void *context)
{
    int result = 0;

    for (size_t i = 0; !result && i < listing->count; i++)
        result = each(context, listing->keys + listing->items[i].key_at,
                      &listing->items[i].info);
    return result;
}

/* Ask for the page behind the last one, with its token if there was any. */
static int get_page(struct s3_parts *parts, struct listing *listing,
                    const char *token)
{
    const struct s3_operation operation = {
        .verb = S3_LIST,
        .list_prefix = listing->prefix,
        .start_after =
            token[0] == '\0' && listing->done[0] ? listing->done : NULL,
        .token = token[0] ? token : NULL,
        .max_keys = S3_LIST_KEYS_MAX,
    };
    struct s3_call call = {
        .operation = &operation,
        .urgency = OBJECT_BACKGROUND,
        .accept = take_page,
        .accept_context = listing,
    };

    return s3_call_run(parts, &call);
}

static int list_pages(struct s3_parts *parts, struct listing *listing,
                      object_store_each *each, void *context)
{
    char token[S3_TOKEN_MAX + 1] = "";
    unsigned empty_pages = 0;
    int result;

    for (;;) {
        bool is_new;

        result = get_page(parts, listing, token);
        if (!result)
            result = hand_over(listing, each, context);
        if (result || !listing->answer.is_truncated)
            return result;
        is_new = strcmp(listing->last, listing->done) != 0;
        empty_pages = is_new ? 0 : empty_pages + 1;
        if (empty_pages > EMPTY_PAGES_MAX ||
            (!is_new && strcmp(token, listing->answer.next_token) == 0)) {
            log_error("S3: list of %s: the pages do not advance",
                      listing->prefix);
            return -EIO;
        }
        memcpy(token, listing->answer.next_token, sizeof(token));
        memcpy(listing->done, listing->last, sizeof(listing->done));
    }
}

int s3_list_run(struct s3_parts *parts, const char *prefix, const char *after,
                object_store_each *each, void *context)
{
    struct listing *listing;
    int result;

    if (strlen(after) > S3_KEY_MAX)
        return -EINVAL;
    listing = calloc(1, sizeof(*listing));
    if (!listing)
        return -ENOMEM;
    listing->site_prefix = parts->site.prefix;
    listing->prefix = prefix;
    memcpy(listing->done, after, strlen(after) + 1);
    result = list_pages(parts, listing, each, context);
    free(listing->items);
    free(listing->keys);
    free(listing);
    return result;
}
