/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What comes of servers that do not answer, of connections that end when they
 * like, of certificates, clocks and regions that are not as expected.
 */
#include "unit/test.h"

#include <pthread.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/clock.h"
#include "s3/s3_check.h"
#include "s3/s3_site.h"
#include "support/hostile_store.h"

static const struct hostile_store_options usual;

static int put(struct hostile_store *h)
{
    return h->store->put(h->store, "key", "text", 4, false);
}

/* Read what put has put.  Returns the result, or 1 if it is something else. */
static int get(struct hostile_store *h, enum object_urgency urgency)
{
    char text[4] = "";
    int result = h->store->get(h->store, "key", 0, text, 4, urgency);

    if (result == 0 && memcmp(text, "text", 4) != 0)
        result = 1;
    return result;
}

/* ---- connections -------------------------------------------------------- */

TEST("connections are used again, and what ends in between costs nothing")
{
    static const char *const faults[] = {
        /* Closed when it has answered, or reset, or when it is asked next. */
        "{'end':'fin'}",
        "{'end':'rst'}",
        "{'end':'next'}",
        "{'reused':true,'drop':'fin'}",
        "{'reused':true,'drop':'rst'}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put(&h) == 0);
    for (unsigned i = 0; i < 20; i++)
        CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_s3_count(h.server, "connections") <= 2);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        (void)hostile_s3_tell(h.server, "{'clear':true}");
        (void)hostile_s3_tell(h.server, "{'fault':%s}", faults[i]);
        for (unsigned j = 0; j < 3; j++) {
            /* Read-ahead has no second attempt, but for what is free. */
            if (!CHECK(get(&h, OBJECT_AHEAD) == 0))
                printf("# %s\n", faults[i]);
        }
        CHECK(hostile_s3_hits(h.server, 0) == 1);
    }
    CHECK(hostile_store_close(&h));
}

static void set_connection_limit(struct s3_options *options)
{
    options->max_requests_per_connection = 5;
}

TEST("a connection carries as many requests as it may, and no more")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &(struct hostile_store_options){
                                    .change = set_connection_limit}))
        SKIP("node is not installed");
    CHECK(put(&h) == 0);
    for (unsigned i = 0; i < 49; i++)
        CHECK(get(&h, OBJECT_BACKGROUND) == 0);
    CHECK(hostile_s3_count(h.server, "connections") == 10);
    CHECK(hostile_store_close(&h));
}

/* ---- endpoints ---------------------------------------------------------- */

TEST("what one endpoint does wrong, another one does right")
{
    static const char *const faults[] = {
        "{'endpoint':0,'count':-1,'status':500}",
        "{'endpoint':0,'count':-1,'status':503}",
        "{'endpoint':0,'count':-1,'drop':'rst'}",
        "{'endpoint':0,'count':-1,'cut_head':10}",
        "{'endpoint':0,'count':-1,'raw':'hello\\r\\n\\r\\n'}",
        "{'endpoint':0,'count':-1,'headers':{'Content-Range':'nonsense'}}",
    };
    struct hostile_store h;

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (!hostile_store_open(
                &h, &(struct hostile_store_options){.endpoints = 2}))
            SKIP("node is not installed");
        CHECK(put(&h) == 0);
        (void)hostile_s3_tell(h.server, "{'fault':%s}", faults[i]);
        for (unsigned j = 0; j < 20; j++) {
            if (!CHECK(get(&h, OBJECT_WAITED_FOR) == 0))
                printf("# %s\n", faults[i]);
        }
        CHECK(hostile_s3_count(h.server, "endpoint1") >= 20);
        CHECK(hostile_store_close(&h));
    }
}

TEST("an endpoint that refuses, resets or is silent is no hindrance")
{
    static const char *const states[] = {"down", "reset", "mute"};
    struct hostile_store h;

    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        if (!hostile_store_open(&h, &(struct hostile_store_options){
                                        .endpoints = 2, .timeout_ms = 1000}))
            SKIP("node is not installed");
        CHECK(put(&h) == 0);
        (void)hostile_s3_tell(h.server, "{'endpoint':0,'state':'%s'}",
                              states[i]);
        for (unsigned j = 0; j < 20; j++) {
            if (!CHECK(get(&h, OBJECT_WAITED_FOR) == 0))
                printf("# %s\n", states[i]);
        }
        CHECK(hostile_store_close(&h));
    }
}

TEST("with all endpoints gone, who does not wait is told at once")
{
    struct hostile_store h;
    uint64_t begin;

    if (!hostile_store_open(&h,
                            &(struct hostile_store_options){.endpoints = 2}))
        SKIP("node is not installed");
    CHECK(put(&h) == 0);
    (void)hostile_s3_tell(h.server, "{'endpoint':0,'state':'down'}");
    (void)hostile_s3_tell(h.server, "{'endpoint':1,'state':'down'}");
    begin = clock_monotonic_ns();
    CHECK(get(&h, OBJECT_AHEAD) == -EIO);
    CHECK(get(&h, OBJECT_BACKGROUND) == -EIO);
    CHECK(put(&h) == -EIO);
    /* Before its patience, which is twice the timeout, is over. */
    CHECK(clock_monotonic_ns() - begin <
          HOSTILE_STORE_TIMEOUT_MS * UINT64_C(1000000));
    CHECK(hostile_store_close(&h));
}

struct reader {
    struct hostile_store *h;
    int result;
    pthread_t thread;
};

static void *read_in_thread(void *context)
{
    struct reader *reader = context;

    reader->result = get(reader->h, OBJECT_WAITED_FOR);
    return NULL;
}

static bool start_reader(struct reader *reader, struct hostile_store *h)
{
    reader->h = h;
    return pthread_create(&reader->thread, NULL, read_in_thread, reader) == 0;
}

static int end_reader(struct reader *reader)
{
    (void)pthread_join(reader->thread, NULL);
    return reader->result;
}

TEST("with all endpoints gone, who waits gets the data when one is back")
{
    struct hostile_store h;
    struct reader reader;

    if (!hostile_store_open(&h,
                            &(struct hostile_store_options){.endpoints = 2}))
        SKIP("node is not installed");
    CHECK(put(&h) == 0);
    (void)hostile_s3_tell(h.server, "{'endpoint':0,'state':'down'}");
    (void)hostile_s3_tell(h.server, "{'endpoint':1,'state':'down'}");
    CHECK(get(&h, OBJECT_BACKGROUND) == -EIO);
    NEED(start_reader(&reader, &h));
    (void)hostile_s3_tell(h.server, "{'endpoint':1,'state':'up'}");
    CHECK(end_reader(&reader) == 0);
    /* The other one comes back by itself, too. */
    (void)hostile_s3_tell(h.server, "{'endpoint':0,'state':'up'}");
    (void)hostile_s3_tell(h.server, "{'endpoint':1,'state':'down'}");
    CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_store_close(&h));
}

TEST("an answer that does not come, or byte by byte, is no answer")
{
    static const char *const faults[] = {
        "{'op':'get','count':-1,'silence':true}",
        "{'op':'get','count':-1,'pace':{'bytes':1,'every_ms':100}}",
        "{'op':'get','count':-1,'cut_head':100,'end':'hang'}",
        "{'op':'get','count':-1,'cut_body':2,'end':'hang'}",
    };
    struct hostile_store h;

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        int result;

        if (!hostile_store_open(
                &h, &(struct hostile_store_options){.timeout_ms = 500}))
            SKIP("node is not installed");
        CHECK(put(&h) == 0);
        (void)hostile_s3_tell(h.server, "{'fault':%s}", faults[i]);
        result = get(&h, OBJECT_BACKGROUND);
        /* -EIO: the endpoint rests, so there is nobody left to ask. */
        if (!CHECK(result == -ETIMEDOUT || result == -EIO))
            printf("# %d: %s\n", result, faults[i]);
        /* Who waits does so until there is an answer. */
        (void)hostile_s3_tell(h.server, "{'clear':true}");
        CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
        CHECK(hostile_store_close(&h));
    }
}

TEST("a get that takes long is asked for twice, and one answer is taken")
{
    struct hostile_store h;
    unsigned gets = 40;

    if (!hostile_store_open(&h,
                            &(struct hostile_store_options){.endpoints = 2}))
        SKIP("node is not installed");
    CHECK(put(&h) == 0);
    for (unsigned i = 0; i < gets; i++)
        CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    /* It is never answered before the second one is. */
    (void)hostile_s3_tell(h.server,
                          "{'fault':{'op':'get','hold':true,'count':1}}");
    CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_s3_hits(h.server, 0) == 1);
    CHECK(hostile_s3_count(h.server, "get") == gets + 2);
    (void)hostile_s3_tell(h.server, "{'release':true}");
    CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_store_close(&h));
}

TEST("an interrupted store answers everyone, whatever they wait for")
{
    struct hostile_store h;
    struct reader silent, down;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put(&h) == 0);
    (void)hostile_s3_tell(h.server, "{'fault':{'op':'get','count':-1,"
                                    "'silence':true}}");
    NEED(start_reader(&silent, &h));
    (void)hostile_s3_tell(h.server, "{'await':'get','count':1}");
    h.store->interrupt(h.store);
    CHECK(end_reader(&silent) == -ECANCELED);
    CHECK(get(&h, OBJECT_BACKGROUND) == -ECANCELED);
    CHECK(put(&h) == -ECANCELED);
    CHECK(hostile_store_close(&h));

    NEED(hostile_store_open(&h, &usual));
    CHECK(put(&h) == 0);
    (void)hostile_s3_tell(h.server, "{'endpoint':0,'state':'down'}");
    CHECK(get(&h, OBJECT_BACKGROUND) == -EIO);
    NEED(start_reader(&down, &h));
    h.store->interrupt(h.store);
    CHECK(end_reader(&down) == -ECANCELED);
    CHECK(hostile_store_close(&h));
}

TEST("a store that asks to slow down all the time is told so")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &(struct hostile_store_options){
                                    .timeout_ms = HOSTILE_STORE_SHORT_MS}))
        SKIP("node is not installed");
    (void)hostile_s3_tell(h.server, "{'fault':{'count':-1,'status':503,"
                                    "'code':'SlowDown'}}");
    CHECK(put(&h) == -EBUSY);
    CHECK(get(&h, OBJECT_BACKGROUND) == -EBUSY);
    (void)hostile_s3_tell(h.server, "{'clear':true}");
    CHECK(hostile_store_close(&h));
}

/* ---- TLS ---------------------------------------------------------------- */

/* What s3_check says, one line behind the other. */
struct words {
    bool has_error;
    char text[2000];
};

static void note_words(void *context, bool is_error, const char *text)
{
    struct words *words = context;
    size_t len = strlen(words->text);

    words->has_error = words->has_error || is_error;
    (void)snprintf(words->text + len, sizeof(words->text) - len, "%s\n", text);
}

/*
 * Returns whether the check at start says this word, as an error or not, and
 * returns as it should.
 */
static bool check_says(struct hostile_store *h, bool is_error,
                       const char *wanted)
{
    struct words words = {0};
    int result = s3_check(h->store, note_words, &words);
    bool is_good = strstr(words.text, wanted) != NULL &&
                   words.has_error == is_error && (result != 0) == is_error;

    if (!is_good)
        printf("# not %s: %d, %s", wanted, result, words.text);
    return is_good;
}

TEST("a store behind TLS works, and connections are resumed")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &(struct hostile_store_options){
                                    .is_tls = true, .dir = test_dir()}))
        SKIP("node is not installed");
    CHECK(put(&h) == 0);
    CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    (void)hostile_s3_tell(h.server, "{'disconnect':true}");
    CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_s3_count(h.server, "resumed") > 0);
    CHECK(hostile_store_close(&h));
}

TEST("TLS that ends without its word is an end before its time")
{
    static const char *const faults[] = {
        "{'op':'get','drop':'bare'}",
        "{'op':'get','cut_head':30,'end':'bare'}",
        "{'op':'get','cut_body':2,'end':'bare'}",
        "{'op':'get','lengths':[],'cut_body':2,'end':'bare'}",
        "{'op':'get','lengths':[],'cut_body':2}",
        "{'op':'get','end':'bare'}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &(struct hostile_store_options){
                                    .is_tls = true, .dir = test_dir()}))
        SKIP("node is not installed");
    CHECK(put(&h) == 0);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        (void)hostile_s3_tell(h.server, "{'clear':true}");
        (void)hostile_s3_tell(h.server, "{'fault':%s}", faults[i]);
        if (!CHECK(get(&h, OBJECT_WAITED_FOR) == 0) ||
            !CHECK(hostile_s3_hits(h.server, 0) == 1))
            printf("# %s\n", faults[i]);
    }
    CHECK(hostile_store_close(&h));
}

TEST("a certificate that is not right is told in words, and nothing is sent")
{
    static const struct {
        const char *kind, *word;
    } cases[] = {
        {"expired", "expired"},        {"early", "not valid before"},
        {"other_name", "example.org"}, {"no_address", "127.0.0.1"},
        {"unknown", "not trusted"},
    };
    struct hostile_store h;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (!hostile_store_open(&h, &(struct hostile_store_options){
                                        .is_tls = true, .dir = test_dir()}))
            SKIP("node is not installed");
        (void)hostile_s3_tell(h.server, "{'tls':{'certificate':'%s'}}",
                              cases[i].kind);
        CHECK(check_says(&h, true, cases[i].word));
        CHECK(put(&h) < 0);
        CHECK(hostile_s3_count(h.server, "requests") == 0);
        /* It is put right while we run. */
        (void)hostile_s3_tell(h.server, "{'tls':{}}");
        CHECK(h.store->put(h.store, "key", "text", 4, false) == 0 ||
              get(&h, OBJECT_WAITED_FOR) == -ENOENT);
        CHECK(hostile_store_close(&h));
    }
}

TEST("a server that has only old TLS, or none, is not spoken to")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &(struct hostile_store_options){
                                    .is_tls = true, .dir = test_dir()}))
        SKIP("node is not installed");
    (void)hostile_s3_tell(h.server, "{'tls':{'version':'TLSv1.1'}}");
    CHECK(put(&h) < 0);
    CHECK(hostile_s3_count(h.server, "requests") == 0);
    hostile_store_end(&h);
}

static void be_insecure(struct s3_options *options)
{
    options->ca_file = NULL;
    options->is_insecure = true;
}

TEST("any certificate will do for who says so")
{
    struct hostile_store h;

    if (!hostile_store_open(
            &h, &(struct hostile_store_options){
                    .is_tls = true, .dir = test_dir(), .change = be_insecure}))
        SKIP("node is not installed");
    (void)hostile_s3_tell(h.server, "{'tls':{'certificate':'expired'}}");
    CHECK(put(&h) == 0);
    CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_store_close(&h));
}

/* ---- what is configured ------------------------------------------------- */

TEST("a clock that is off is told, and corrected")
{
    static const int minutes[] = {-600, -20, 20, 600};
    struct hostile_store h;

    for (size_t i = 0; i < sizeof(minutes) / sizeof(minutes[0]); i++) {
        if (!hostile_store_open(&h, &usual))
            SKIP("node is not installed");
        (void)hostile_s3_tell(h.server, "{'set':{'clock_ms':%d}}",
                              minutes[i] * 60000);
        CHECK(check_says(&h, false, "clock"));
        CHECK(put(&h) == 0);
        CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
        /* One signature was refused, and no more. */
        CHECK(hostile_s3_count(h.server, "refused") == 1);
        /* It jumps while we run. */
        (void)hostile_s3_tell(h.server, "{'set':{'clock_ms':%d}}",
                              -minutes[i] * 60000);
        CHECK(put(&h) == 0);
        CHECK(hostile_s3_count(h.server, "refused") == 2);
        hostile_store_end(&h);
    }
}

TEST("a region that is another one is followed")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    (void)hostile_s3_tell(h.server, "{'set':{'region':'eu-central-2'}}");
    CHECK(check_says(&h, false, "eu-central-2"));
    CHECK(put(&h) == 0);
    CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_s3_count(h.server, "refused") == 1);
    hostile_store_end(&h);

    /* A permanent redirect has it in a field of the head. */
    NEED(hostile_store_open(&h, &usual));
    (void)hostile_s3_tell(h.server, "{'set':{'region':'eu-central-2'}}");
    (void)hostile_s3_tell(h.server,
                          "{'fault':{'status':301,'code':'PermanentRedirect',"
                          "'headers':{'x-amz-bucket-region':'eu-central-2'}}}");
    CHECK(put(&h) == 0);
    CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    hostile_store_end(&h);
}

TEST("a redirect to somewhere else is not followed")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &(struct hostile_store_options){
                                    .endpoints = 2, .timeout_ms = 2000}))
        SKIP("node is not installed");
    (void)hostile_s3_tell(
        h.server,
        "{'fault':{'count':-1,'status':307,'code':'TemporaryRedirect',"
        "'xml':{'Endpoint':'bucket.example.org'},"
        "'headers':{'Location':'http://bucket.example.org/key'}}}");
    CHECK(put(&h) == -EACCES);
    (void)hostile_s3_tell(h.server, "{'clear':true}");
    CHECK(put(&h) == 0);
    CHECK(hostile_store_close(&h));
}

TEST("keys and buckets that are wrong are told in words")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    (void)hostile_s3_tell(h.server,
                          "{'access':{'key':'testkey12345','secret':'no'}}");
    CHECK(check_says(&h, true, "secret"));
    CHECK(put(&h) == -EACCES);
    (void)hostile_s3_tell(h.server, "{'access':{'key':'other','secret':'no'}}");
    CHECK(check_says(&h, true, "access key"));
    hostile_store_end(&h);

    NEED(hostile_store_open(&h, &usual));
    (void)hostile_s3_tell(h.server, "{'fault':{'count':-1,'status':404,"
                                    "'code':'NoSuchBucket'}}");
    CHECK(check_says(&h, true, "no bucket"));
    (void)hostile_s3_tell(h.server, "{'clear':true}");
    (void)hostile_s3_tell(h.server, "{'fault':{'count':-1,'status':403,"
                                    "'code':'AccessDenied'}}");
    CHECK(check_says(&h, true, "permission"));
    (void)hostile_s3_tell(h.server, "{'clear':true}");
    (void)hostile_s3_tell(h.server, "{'fault':{'count':-1,'raw':"
                                    "'220 mail.example.org ESMTP\\r\\n'}}");
    CHECK(check_says(&h, true, "S3"));
    CHECK(hostile_store_close(&h));
}

static void set_storage(struct s3_options *options)
{
    options->name = "s3.localhost";
    options->addressing = S3_ADDRESSING_VIRTUAL;
    options->is_unsigned_payload = true;
    options->storage_class = "STANDARD_IA";
    options->sse = "aws:kms";
    options->sse_key_id = "arn:aws:kms:eu-central-1:1:key/2";
}

TEST("bucket in the name, prefix, unsigned bodies, storage class, encryption")
{
    struct hostile_store h;
    const char *answer;

    if (!hostile_store_open(
            &h, &(struct hostile_store_options){.is_tls = true,
                                                .dir = test_dir(),
                                                .prefix = "/pre/fix",
                                                .change = set_storage}))
        SKIP("node is not installed");
    CHECK(put(&h) == 0);
    CHECK(get(&h, OBJECT_WAITED_FOR) == 0);
    answer = hostile_s3_tell(h.server, "{'get':'pre/fix/key'}");
    CHECK(strstr(answer, "\"data\":\"text\"") != NULL);
    CHECK(strstr(answer, "\"x-amz-storage-class\":\"STANDARD_IA\"") != NULL);
    CHECK(strstr(answer, "encryption\":\"aws:kms\"") != NULL);
    CHECK(strstr(answer, "key-id\":\"arn:aws:kms:eu-central-1:1:key/2\""));
    answer = hostile_s3_tell(h.server, "{'log':true}");
    CHECK(strstr(answer, "\"host\":\"bucket.s3.localhost") != NULL);
    CHECK(hostile_store_close(&h));
}
