/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What comes of each thing that a server can do wrong with a put, a delete or
 * a list.
 */
#include "unit/test.h"

#include <stdint.h>

#include "base/auto.h"
#include "support/hostile_store.h"

enum { BIG = 8 << 20, MANY = 2500 };

static const struct hostile_store_options usual;
static const struct hostile_store_options impatient = {
    .timeout_ms = HOSTILE_STORE_SHORT_MS,
};

static int put(struct hostile_store *h, const char *text, bool if_absent)
{
    return h->store->put(h->store, "key", text, strlen(text), if_absent);
}

/* Returns whether the object has this text now. */
static bool has(struct hostile_store *h, const char *text)
{
    char wanted[100];

    (void)snprintf(wanted, sizeof(wanted), "\"data\":\"%s\"", text);
    return strstr(hostile_s3_tell(h->server, "{'get':'key'}"), wanted) != NULL;
}

static bool is_absent(struct hostile_store *h)
{
    return strstr(hostile_s3_tell(h->server, "{'get':'key'}"), "absent") !=
           NULL;
}

/* Set this fault alone, and have no object. */
static void set_fault(struct hostile_store *h, const char *fault)
{
    (void)hostile_s3_tell(h->server, "{'remove':'key'}");
    (void)hostile_s3_tell(h->server, "{'clear':true}");
    (void)hostile_s3_tell(h->server, "{'fault':%s}", fault);
}

/* ---- put ---------------------------------------------------------------- */

TEST("a put that fails for a while succeeds in the end")
{
    static const char *const faults[] = {
        "{'op':'put','status':500,'code':'InternalError'}",
        "{'op':'put','status':503,'code':'SlowDown'}",
        "{'op':'put','status':400,'code':'RequestTimeout','end':'fin'}",
        "{'op':'put','status':400,'code':'BadDigest'}",
        "{'op':'put','status':409,'code':'OperationAborted'}",
        "{'op':'put','apply':false,'drop':'fin'}",
        "{'op':'put','apply':false,'drop':'rst'}",
        "{'op':'put','apply':true,'drop':'fin'}",
        "{'op':'put','apply':true,'drop':'rst'}",
        "{'op':'put','apply':true,'status':500}",
        "{'op':'put','cut_head':20}",
        "{'op':'put','lengths':['1','2']}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        int plain, conditional;

        set_fault(&h, faults[i]);
        plain = put(&h, "plain", false);
        CHECK(has(&h, "plain"));
        CHECK(hostile_s3_hits(h.server, 0) == 1);
        /* Nobody else puts the same: an earlier attempt is told from others. */
        set_fault(&h, faults[i]);
        conditional = put(&h, "conditional", true);
        CHECK(has(&h, "conditional"));
        CHECK(hostile_s3_hits(h.server, 0) == 1);
        if (!CHECK(plain == 0) || !CHECK(conditional == 0))
            printf("# %d, %d: %s\n", plain, conditional, faults[i]);
    }
    CHECK(hostile_store_close(&h));
}

TEST("an answer to a put that names what was stored is taken, as it is")
{
    static const char *const faults[] = {
        "{'op':'put','headers':{'ETag':'\\\"0000\\\"'}}",
        "{'op':'put','body':'<html>thank you</html>'}",
        "{'op':'put','status':201,'apply':true}",
        "{'op':'put','informational':2}",
        "{'op':'put','chunked':{}}",
        "{'op':'put','end':'rst'}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        set_fault(&h, faults[i]);
        if (!CHECK(put(&h, "text", false) == 0))
            printf("# %s\n", faults[i]);
        CHECK(has(&h, "text"));
        CHECK(hostile_s3_hits(h.server, 0) == 1);
    }
    CHECK(hostile_s3_count(h.server, "put") ==
          sizeof(faults) / sizeof(faults[0]));
    CHECK(hostile_store_close(&h));
}

TEST("an answer to a put that does not name what was stored is none")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    set_fault(&h, "{'op':'put','headers':{'ETag':null}}");
    CHECK(put(&h, "text", false) == 0);
    CHECK(has(&h, "text"));
    CHECK(hostile_s3_count(h.server, "put") == 2);
    CHECK(hostile_store_close(&h));
}

TEST("an answer in the middle of a put's body is seen, and what it says done")
{
    static const struct {
        const char *fault;
        int result;
        bool if_absent;
    } cases[] = {
        {"{'op':'put','early':true,'status':503,'code':'SlowDown'}", 0, false},
        {"{'op':'put','early':true,'status':503,'end':'rst'}", 0, false},
        {"{'op':'put','early':true,'status':500,'end':'hang'}", 0, false},
        {"{'op':'put','early':true,'status':412,'code':'PreconditionFailed'}",
         -EEXIST, true},
        {"{'op':'put','early':true,'status':412,'code':'PreconditionFailed',"
         "'end':'hang'}",
         -EEXIST, true},
        {"{'op':'put','early':true,'status':403,'code':'AccessDenied'}",
         -EACCES, false},
    };
    AUTO_FREE char *body = malloc(BIG);
    struct hostile_store h;

    NEED(body);
    memset(body, 'b', BIG);
    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int result;

        set_fault(&h, cases[i].fault);
        /* What is refused is refused also the next time. */
        if (cases[i].result == -EACCES)
            (void)hostile_s3_tell(h.server, "{'fault':%s}", cases[i].fault);
        result = h.store->put(h.store, "key", body, BIG, cases[i].if_absent);
        if (!CHECK(result == cases[i].result))
            printf("# %d: %s\n", result, cases[i].fault);
        CHECK(hostile_s3_hits(h.server, 0) == 1);
    }
    CHECK(hostile_store_close(&h));
}

TEST("a server that stops reading in the middle of a body is left")
{
    AUTO_FREE char *body = malloc(BIG);
    struct hostile_store h;
    int result;

    NEED(body);
    memset(body, 'b', BIG);
    if (!hostile_store_open(&h, &impatient))
        SKIP("node is not installed");
    set_fault(&h, "{'op':'put','stall_after':100000}");
    result = h.store->put(h.store, "key", body, BIG, false);
    /* Its patience may end before the second attempt, on a slow machine. */
    CHECK(result == 0 || result == -ETIMEDOUT || result == -EIO);
    CHECK(hostile_s3_hits(h.server, 0) == 1);
    CHECK(hostile_store_close(&h));
}

TEST("a put that timed out and is carried out later does no harm")
{
    struct hostile_store h;
    char byte;
    int result;

    if (!hostile_store_open(&h, &impatient))
        SKIP("node is not installed");
    set_fault(&h, "{'op':'put','apply':'later','silence':true,'count':-1}");
    result = put(&h, "first", true);
    CHECK(result == -ETIMEDOUT || result == -EIO);
    CHECK(is_absent(&h));
    (void)hostile_s3_tell(h.server, "{'clear':true}");
    /* Who waits is answered when the endpoint has rested. */
    (void)hostile_s3_tell(h.server, "{'put':'other','data':'x'}");
    CHECK(h.store->get(h.store, "other", 0, &byte, 1, OBJECT_WAITED_FOR) == 0);
    CHECK(put(&h, "second", true) == 0);
    (void)hostile_s3_tell(h.server, "{'apply':true}");
    CHECK(has(&h, "second"));
    CHECK(hostile_store_close(&h));
}

/* ---- conditional put ---------------------------------------------------- */

TEST("a key that is taken is told so, in whatever way the store says it")
{
    static const char *const modes[] = {"obeyed", "304", "409"};
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put(&h, "first", true) == 0);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        (void)hostile_s3_tell(h.server, "{'set':{'conditional':'%s'}}",
                              modes[i]);
        CHECK(put(&h, "second", true) == -EEXIST);
        CHECK(has(&h, "first"));
    }
    CHECK(hostile_store_close(&h));
}

TEST("a store that knows no condition is told so, and nothing is put")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    (void)hostile_s3_tell(h.server, "{'set':{'conditional':'unknown'}}");
    CHECK(put(&h, "text", true) == -EOPNOTSUPP);
    CHECK(is_absent(&h));
    CHECK(put(&h, "text", false) == 0);
    set_fault(&h, "{'op':'put','status':400,'code':'NotImplemented'}");
    CHECK(put(&h, "text", true) == -EOPNOTSUPP);
    CHECK(hostile_store_close(&h));
}

TEST("a conflict of two who create a key is tried again")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    set_fault(&h, "{'op':'put','status':409,"
                  "'code':'ConditionalRequestConflict'}");
    CHECK(put(&h, "text", true) == 0);
    CHECK(hostile_s3_hits(h.server, 0) == 1);
    CHECK(has(&h, "text"));
    CHECK(hostile_store_close(&h));
}

TEST("one's own put is told from another's when the answer was lost")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    /* The first attempt is lost, and somebody else is faster then. */
    (void)hostile_s3_tell(h.server, "{'put':'key','data':'theirs'}");
    (void)hostile_s3_tell(h.server, "{'fault':{'op':'put','apply':false,"
                                    "'drop':'rst'}}");
    CHECK(put(&h, "ours!!", true) == -EEXIST);
    CHECK(has(&h, "theirs"));
    /* As long, and another length. */
    (void)hostile_s3_tell(h.server, "{'clear':true}");
    (void)hostile_s3_tell(h.server, "{'fault':{'op':'put','apply':false,"
                                    "'drop':'rst'}}");
    CHECK(put(&h, "ours, but longer", true) == -EEXIST);
    CHECK(has(&h, "theirs"));
    CHECK(hostile_store_close(&h));
}

/* ---- delete ------------------------------------------------------------- */

/* Make the keys many/0000 ... on the server, and an array of them. */
static char (*make_many(struct hostile_store *h, const char *keys[MANY]))[16]
{
    char(*names)[16] = calloc(MANY, sizeof(*names));

    if (!names)
        return NULL;
    for (unsigned i = 0; i < MANY; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "many/%04u", i);
        (void)hostile_s3_tell(h->server, "{'put':'%s','data':'%u'}", names[i],
                              i);
        keys[i] = names[i];
    }
    return names;
}

static bool are_gone(struct hostile_store *h, const char *prefix)
{
    return strstr(hostile_s3_tell(h->server, "{'keys':'%s'}", prefix),
                  "\"keys\":[]") != NULL;
}

TEST("many objects are deleted in few requests, absent ones too")
{
    const char *keys[MANY];
    char(*names)[16];
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    names = make_many(&h, keys);
    NEED(names);
    (void)hostile_s3_tell(h.server, "{'remove':'many/0007'}");
    CHECK(h.store->delete (h.store, keys, MANY) == 0);
    CHECK(are_gone(&h, "many/"));
    CHECK(hostile_s3_count(h.server, "delete_many") == 3);
    free(names);
    CHECK(hostile_store_close(&h));
}

TEST("a delete that fails for a while succeeds in the end")
{
    static const char *const faults[] = {
        "{'op':'delete_many','status':500,'code':'InternalError'}",
        "{'op':'delete_many','apply':true,'drop':'rst'}",
        "{'op':'delete_many','apply':false,'drop':'fin'}",
        "{'op':'delete_many','body':'<html>no answer</html>'}",
        "{'op':'delete_many','body':'<DeleteResult><Err'}",
        "{'op':'delete_many','cut_body':30}",
    };
    static const char *const keys[] = {"some/1", "some/2", "some/3"};
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        int result;

        (void)hostile_s3_tell(h.server, "{'put':'some/1','data':'1'}");
        (void)hostile_s3_tell(h.server, "{'put':'some/2','data':'2'}");
        set_fault(&h, faults[i]);
        result = h.store->delete (h.store, keys, 3);
        if (!CHECK(result == 0) || !CHECK(are_gone(&h, "some/")))
            printf("# %d: %s\n", result, faults[i]);
        CHECK(hostile_s3_hits(h.server, 0) == 1);
    }
    CHECK(hostile_store_close(&h));
}

TEST("an object that cannot be deleted is told, and the others are gone")
{
    static const char *const keys[] = {"some/1", "some/2", "some/3"};
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    for (size_t i = 0; i < 3; i++)
        (void)hostile_s3_tell(h.server, "{'put':'%s','data':'1'}", keys[i]);
    (void)hostile_s3_tell(h.server,
                          "{'set':{'undeletable':{'some/2':'AccessDenied'}}}");
    CHECK(h.store->delete (h.store, keys, 3) == -EACCES);
    CHECK(are_gone(&h, "some/1") && are_gone(&h, "some/3"));
    CHECK(!are_gone(&h, "some/2"));
    CHECK(hostile_store_close(&h));
}

TEST("one object is deleted; a second time it is success, too")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put(&h, "text", false) == 0);
    (void)hostile_s3_tell(h.server, "{'fault':{'status':500}}");
    CHECK(object_delete_one(h.store, "key") == 0);
    CHECK(is_absent(&h));
    CHECK(object_delete_one(h.store, "key") == 0);
    CHECK(hostile_store_close(&h));
}

/* ---- list --------------------------------------------------------------- */

struct listed {
    unsigned count, sum;
    bool is_sorted;
    char last[64];
};

static int note_key(void *context, const char *key,
                    const struct object_info *info)
{
    struct listed *listed = context;

    if (strcmp(listed->last, key) >= 0)
        listed->is_sorted = false;
    (void)snprintf(listed->last, sizeof(listed->last), "%s", key);
    listed->count++;
    listed->sum += (unsigned)info->size;
    return 0;
}

static int list(struct hostile_store *h, const char *prefix, const char *after,
                struct listed *ret_listed)
{
    *ret_listed = (struct listed){.is_sorted = true};
    return h->store->list(h->store, prefix, after, note_key, ret_listed);
}

TEST("thousands of keys are listed, page by page, whatever befalls a page")
{
    static const char *const faults[] = {
        "{'op':'list','skip':1,'status':500}",
        "{'op':'list','skip':2,'drop':'rst'}",
        "{'op':'list','skip':1,'cut_body':5000}",
        "{'op':'list','chunked':{'size':100}}",
        "{'op':'list','skip':1,'body':'<html>sorry</html>'}",
        "{'op':'list','skip':1,'body':''}",
    };
    const char *keys[MANY];
    char(*names)[16];
    struct listed listed;
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    names = make_many(&h, keys);
    NEED(names);
    (void)hostile_s3_tell(h.server, "{'put':'a/before','data':'1'}");
    (void)hostile_s3_tell(h.server, "{'put':'z/behind','data':'1'}");
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        int result;

        set_fault(&h, faults[i]);
        result = list(&h, "many/", "", &listed);
        if (!CHECK(result == 0) || !CHECK(listed.count == MANY))
            printf("# %d, %u keys: %s\n", result, listed.count, faults[i]);
        CHECK(listed.is_sorted);
        CHECK(hostile_s3_hits(h.server, 0) == 1);
    }
    CHECK(list(&h, "many/", "many/2400", &listed) == 0 && listed.count == 99);
    CHECK(list(&h, "many/249", "", &listed) == 0 && listed.count == 10);
    CHECK(list(&h, "none/", "", &listed) == 0 && listed.count == 0);
    free(names);
    CHECK(hostile_store_close(&h));
}

TEST("a list that cannot be right is an error, and ends")
{
    static const char *const bodies[] = {
        /* A token that does not go on. */
        "<ListBucketResult><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
        /* There is more, and no way to it. */
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        /* Not in order, twice, not what was asked for. */
        "<ListBucketResult><IsTruncated>false</IsTruncated>"
        "<Contents><Key>many/2</Key><Size>1</Size></Contents>"
        "<Contents><Key>many/1</Key><Size>1</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated>"
        "<Contents><Key>many/1</Key><Size>1</Size></Contents>"
        "<Contents><Key>many/1</Key><Size>1</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated>"
        "<Contents><Key>other/1</Key><Size>1</Size></Contents>"
        "</ListBucketResult>",
        /* Numbers and documents that are none. */
        "<ListBucketResult><IsTruncated>false</IsTruncated>"
        "<Contents><Key>many/1</Key><Size>-1</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated>",
        "<!DOCTYPE a [<!ENTITY x \\\"y\\\">]><ListBucketResult>"
        "<IsTruncated>false</IsTruncated></ListBucketResult>",
        "<Error><Code>InternalError</Code></Error>",
    };
    struct listed listed;
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        int result;

        (void)hostile_s3_tell(h.server, "{'clear':true}");
        (void)hostile_s3_tell(h.server,
                              "{'fault':{'op':'list','count':-1,"
                              "'body':'%s'}}",
                              bodies[i]);
        result = list(&h, "many/", "", &listed);
        if (!CHECK(result == -EIO))
            printf("# %d: %s\n", result, bodies[i]);
    }
    CHECK(hostile_store_close(&h));
}
