/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_list.h"

#include "support/s3_peer.h"
#include "unit/test.h"

/* What a list has handed over. */
struct found {
    unsigned count, end_at; /* 0: never */
    char last[OBJECT_KEY_MAX + 1];
    uint64_t sizes;
};

static int take(void *context, const char *key, const struct object_info *info)
{
    struct found *found = context;

    CHECK(strcmp(key, found->last) > 0);
    (void)snprintf(found->last, sizeof(found->last), "%s", key);
    found->sizes += info->size;
    return ++found->count == found->end_at ? 77 : 0;
}

static int list(struct object_store *store, const char *prefix,
                const char *after, struct found *ret_found)
{
    *ret_found = (struct found){.count = 0};
    return store->list(store, prefix, after, take, ret_found);
}

static void put_many(struct s3_peer *peer, const char *prefix, unsigned count)
{
    struct object_store *objects = s3_peer_objects(peer);
    char key[64];

    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(key, sizeof(key), "%s%05u", prefix, i);
        CHECK(objects->put(objects, key, "12", 2, false) == 0);
    }
}

TEST("a list has all keys below the prefix, in order, page after page")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct found found;

    put_many(peer, "a/", 3);
    put_many(peer, "b/", 2500);
    put_many(peer, "c/", 3);
    CHECK(list(store, "b/", "", &found) == 0);
    CHECK(found.count == 2500 && found.sizes == 5000);
    CHECK(strcmp(found.last, "b/02499") == 0);
    CHECK(s3_peer_requests(peer) == 3);
    CHECK(list(store, "", "", &found) == 0 && found.count == 2506);
    CHECK(list(store, "d/", "", &found) == 0 && found.count == 0);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("a list goes on behind a key")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct found found;

    put_many(peer, "b/", 10);
    CHECK(list(store, "b/", "b/00006", &found) == 0 && found.count == 3);
    CHECK(list(store, "b/", "b/00009", &found) == 0 && found.count == 0);
    CHECK(list(store, "b/", "b/000065", &found) == 0 && found.count == 3);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("who takes the keys ends the list by other than 0")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct found found = {.end_at = 4};

    put_many(peer, "b/", 10);
    CHECK(store->list(store, "b/", "", take, &found) == 77);
    CHECK(found.count == 4);
    store->close(store);
    s3_peer_stop(peer);
}

/* Answers that the test has written, one after the other; then good ones. */
struct pages {
    const char *pages[8];
    unsigned next;
};

static void script_pages(void *context, struct s3_peer *peer,
                         const struct s3_peer_request *request,
                         struct s3_peer_answer *answer)
{
    struct pages *pages = context;
    const char *page = pages->pages[pages->next];

    if (page && strcmp(request->method, "GET") == 0) {
        pages->next++;
        s3_peer_respond(answer, 200, "", page, strlen(page));
    } else {
        s3_peer_serve(peer, request, answer);
    }
}

#define KEY(key)                                                               \
    "<Contents><Key>" key "</Key><Size>2</Size>"                               \
    "<LastModified>2026-01-02T03:04:05Z</LastModified></Contents>"
#define PAGE(contents)                                                         \
    "<ListBucketResult>" contents                                              \
    "<IsTruncated>false</IsTruncated></ListBucketResult>"
#define PAGE_MORE(contents, token)                                             \
    "<ListBucketResult>" contents "<IsTruncated>true</IsTruncated>"            \
    "<NextContinuationToken>" token "</NextContinuationToken>"                 \
    "</ListBucketResult>"

/* Returns how many requests a list of "b/" made, and what it found. */
static unsigned list_pages(const struct pages *written, const char *site_prefix,
                           int *ret_result, struct found *ret_found)
{
    struct s3_peer *peer = s3_peer_start(1);
    struct s3_peer_options options;
    struct object_store *store = NULL;
    struct pages pages = *written;
    unsigned requests;

    s3_peer_fill_options(peer, &options);
    options.options.prefix = site_prefix;
    CHECK(s3_store_open(&options.options, &store) == 0);
    s3_peer_set_script(peer, script_pages, &pages);
    *ret_result = list(store, "b/", "", ret_found);
    requests = s3_peer_requests(peer);
    store->close(store);
    s3_peer_stop(peer);
    return requests;
}

TEST("a page whose keys are not what was asked for is asked for again")
{
    static const struct pages all[] = {
        {{PAGE(KEY("b/2") KEY("b/1"))}, 0},
        {{PAGE(KEY("b/1") KEY("b/1"))}, 0},
        {{PAGE(KEY("a/1"))}, 0},
        {{PAGE(KEY("b"))}, 0},
        {{"<ListBucketResult>" KEY("b/1")}, 0},
        {{"<html>hello</html>"}, 0},
        {{""}, 0},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct found found;
        int result;

        CHECK(list_pages(&all[i], NULL, &result, &found) == 2);
        CHECK(result == 0 && found.count == 0);
    }
}

TEST("a page that makes no sense time and again is an error")
{
    static const struct pages pages = {{PAGE(KEY("x")), PAGE(KEY("x")),
                                        PAGE(KEY("x")), PAGE(KEY("x")),
                                        PAGE(KEY("x")), PAGE(KEY("x"))},
                                       0};
    struct found found;
    int result;

    CHECK(list_pages(&pages, NULL, &result, &found) >= 5);
    CHECK(result == -EIO && found.count == 0);
}

TEST("a page must lie behind the one before")
{
    static const struct pages pages = {{PAGE_MORE(KEY("b/1") KEY("b/3"), "t"),
                                        PAGE(KEY("b/2")), PAGE(KEY("b/4"))},
                                       0};
    struct found found;
    int result;

    CHECK(list_pages(&pages, NULL, &result, &found) == 3);
    CHECK(result == 0 && found.count == 3);
}

TEST("a token that does not advance ends the list with an error")
{
    static const struct pages pages = {
        {PAGE_MORE(KEY("b/1"), "t"), PAGE_MORE("", "t")}, 0};
    struct found found;
    int result;

    CHECK(list_pages(&pages, NULL, &result, &found) == 2);
    CHECK(result == -EIO && found.count == 1);
}

static void script_empty_for_ever(void *context, struct s3_peer *peer,
                                  const struct s3_peer_request *request,
                                  struct s3_peer_answer *answer)
{
    unsigned *count = context;
    char page[512];

    (void)peer;
    (void)request;
    (void)snprintf(page, sizeof(page), PAGE_MORE("", "t%u"), ++*count);
    s3_peer_respond(answer, 200, "", page, strlen(page));
}

TEST("pages without keys do not go on for ever")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct found found;
    unsigned count = 0;

    s3_peer_set_script(peer, script_empty_for_ever, &count);
    CHECK(list(store, "b/", "", &found) == -EIO);
    CHECK(count < 1000);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("without a token the list goes on behind its last key")
{
    static const struct pages pages = {{"<ListBucketResult>" KEY("b/1")
                                            KEY("b/2") "<IsTruncated>true"
                                                       "</IsTruncated>"
                                                       "</ListBucketResult>"},
                                       0};
    struct found found;
    int result;

    CHECK(list_pages(&pages, NULL, &result, &found) == 2);
    CHECK(result == 0 && found.count == 2);
}

TEST("keys that cannot be ours are passed over")
{
    static const struct pages pages = {
        {PAGE(KEY("b/") KEY("b/%20x") KEY("b/1") KEY("b/1//2") KEY("b/2"))}, 0};
    struct found found;
    int result;

    CHECK(list_pages(&pages, NULL, &result, &found) == 1);
    CHECK(result == 0 && found.count == 2);
}

TEST("keys outside of the store's prefix are never handed over")
{
    static const struct pages pages = {{PAGE(KEY("pre/b/1")), PAGE(KEY("b/1"))},
                                       0};
    struct found found;
    int result;

    CHECK(list_pages(&pages, "pre", &result, &found) == 1);
    CHECK(result == 0 && found.count == 1);
    CHECK(strcmp(found.last, "b/1") == 0);
    CHECK(list_pages(&(struct pages){{PAGE(KEY("b/1"))}, 0}, "pre", &result,
                     &found) == 2);
    CHECK(result == 0 && found.count == 0);
}
