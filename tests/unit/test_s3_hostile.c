/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What comes of each thing that a server can do wrong with a read: the right
 * data, or an error, and never for long.  The others are test_s3_hostile_*.
 */
#include "unit/test.h"

#include <stdint.h>

#include "base/auto.h"
#include "support/hostile_store.h"

enum { OBJECT_LEN = 100000, OFFSET = 1000, LEN = 50000 };

static const struct hostile_store_options usual;

/* Byte number i of the object. */
static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

/* Put the object that the tests read. */
static bool put_object(struct hostile_store *h)
{
    AUTO_FREE uint8_t *data = malloc(OBJECT_LEN);

    if (!data)
        return false;
    for (uint64_t i = 0; i < OBJECT_LEN; i++)
        data[i] = byte_at(i);
    return h->store->put(h->store, "object", data, OBJECT_LEN, false) == 0;
}

/* Read a range.  Returns the result, or 1 if the data is wrong. */
static int read_range(struct hostile_store *h, uint64_t offset, size_t len,
                      enum object_urgency urgency)
{
    AUTO_FREE uint8_t *data = calloc(1, len);
    int result;

    if (!data)
        return 1;
    result = h->store->get(h->store, "object", offset, data, len, urgency);
    for (size_t i = 0; i < len && result == 0; i++) {
        if (data[i] != byte_at(offset + i))
            result = 1;
    }
    return result;
}

/* Set this fault alone. */
static void set_fault(struct hostile_store *h, const char *fault)
{
    (void)hostile_s3_tell(h->server, "{'clear':true}");
    (void)hostile_s3_tell(h->server, "{'fault':%s}", fault);
}

/*
 * Read with each of the faults, once: the data is right in the end.  is_again:
 * there was another request for it.
 */
static void read_through(struct hostile_store *h, const char *const faults[],
                         size_t count, bool is_again)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t before = hostile_s3_count(h->server, "requests");
        uint64_t requests;
        bool is_good;
        int result;

        set_fault(h, faults[i]);
        /* Not such a read as is asked for twice when it takes long. */
        result = read_range(h, OFFSET, LEN, OBJECT_BACKGROUND);
        requests = hostile_s3_count(h->server, "requests") - before;
        is_good = CHECK(result == 0);
        is_good = CHECK(hostile_s3_hits(h->server, 0) == 1) && is_good;
        is_good = CHECK(is_again == (requests > 1)) && is_good;
        if (!is_good)
            printf("# result %d, %d requests: %s\n", result, (int)requests,
                   faults[i]);
    }
}

#define READ_THROUGH(h, faults, is_again)                                      \
    read_through(h, faults, sizeof(faults) / sizeof((faults)[0]), is_again)

TEST("an answer that says to come again is heeded")
{
    static const char *const faults[] = {
        "{'op':'get','status':500,'code':'InternalError'}",
        "{'op':'get','status':500}",
        "{'op':'get','status':502,'body':'<html>Bad <b>gateway</html>'}",
        "{'op':'get','status':504,'body':'upstream'}",
        "{'op':'get','status':503,'code':'SlowDown',"
        "'headers':{'x-amz-retry-after':'20'}}",
        "{'op':'get','status':503,'code':'ServiceUnavailable',"
        "'headers':{'Retry-After':'0'}}",
        "{'op':'get','status':429,"
        "'headers':{'Retry-After':'Wed, 21 Oct 2015 07:28:00 GMT'}}",
        "{'op':'get','status':400,'code':'RequestTimeout'}",
        "{'op':'get','status':408}",
        "{'op':'get','status':409,'code':'OperationAborted'}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    READ_THROUGH(&h, faults, true);
    CHECK(hostile_store_close(&h));
}

TEST("an answer that is not the range that was asked for is not taken")
{
    static const char *const faults[] = {
        "{'op':'get','status':204}",
        "{'op':'get','status':202}",
        "{'op':'get','status':304}",
        "{'op':'get','status':412,'code':'PreconditionFailed'}",
        "{'op':'get','status':416,'code':'InvalidRange'}",
        "{'op':'get','status':200,'body':'<Error><Code>A</Code></Error>'}",
        "{'op':'get','whole':true}",
        "{'op':'get','headers':{'Content-Range':null}}",
        "{'op':'get','headers':{'Content-Range':'bytes 0-49999/100000'}}",
        "{'op':'get','headers':{'Content-Range':'bytes 1000-51000/100000'}}",
        "{'op':'get','headers':{'Content-Range':'bytes 1000-50999/40000'}}",
        "{'op':'get','headers':{'Content-Range':'lines 1000-50999/100000'}}",
        "{'op':'get','headers':{'Content-Range':'bytes 1000-50999'}}",
        "{'op':'get','headers':{'Content-Encoding':'gzip'}}",
        "{'op':'get','body':'short'}",
        "{'op':'get','lengths':['49999']}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    READ_THROUGH(&h, faults, true);
    CHECK(hostile_store_close(&h));
}

TEST("an answer that is not HTTP as it must be is not taken")
{
    static const char *const faults[] = {
        "{'op':'get','lengths':['50000','50001']}",
        "{'op':'get','lengths':['-1']}",
        "{'op':'get','lengths':['+50000']}",
        "{'op':'get','lengths':['50000, 50001']}",
        "{'op':'get','lengths':['0xc350']}",
        "{'op':'get','lengths':['18446744073709601616']}",
        "{'op':'get','lengths':['18446744073709551615']}",
        "{'op':'get','lengths':['']}",
        "{'op':'get','lengths':[]}",
        "{'op':'get','chunked':{},'lengths':['50000']}",
        "{'op':'get','lines':['Transfer-Encoding: gzip']}",
        "{'op':'get','lines':['X-Folded: a',' b']}",
        "{'op':'get','lines':['there is no colon here']}",
        "{'op':'get','lines':['X-Zero: a\\u0000b']}",
        "{'op':'get','lines':['X Space: b']}",
        "{'op':'get','bomb':{'lines':1,'length':102400}}",
        "{'op':'get','bomb':{'lines':200,'length':1000}}",
        "{'op':'get','bomb':{'lines':5000,'length':1}}",
        "{'op':'get','informational':20}",
        "{'op':'get','raw':'hello\\n'}",
        "{'op':'get','raw':'SSH-2.0-OpenSSH_9.2\\r\\n'}",
        "{'op':'get','raw':'HTTP/2 206 OK\\r\\n\\r\\n'}",
        "{'op':'get','raw':'HTTP/1.1 20 OK\\r\\n\\r\\n'}",
        "{'op':'get','raw':'HTTP/1.1 2060 OK\\r\\n\\r\\n'}",
        "{'op':'get','raw':'\\r\\n\\r\\n\\r\\n'}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    READ_THROUGH(&h, faults, true);
    CHECK(hostile_store_close(&h));
}

TEST("chunks that are not as they must be are not taken")
{
    static const char *const bodies[] = {
        "c350\\r\\nshort",
        "g\\r\\n",
        "-1\\r\\n",
        "ffffffffffffffff\\r\\n",
        "10000000000000001\\r\\nx\\r\\n",
        "5\\r\\nhello;;0\\r\\n\\r\\n",
        "c351\\r\\n",
        "0\\r\\n\\r\\n",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        char fault[400];
        const char *const faults[] = {fault};

        (void)snprintf(fault, sizeof(fault),
                       "{'op':'get','raw':'HTTP/1.1 206 Partial\\r\\n"
                       "Content-Range: bytes 1000-50999/100000\\r\\n"
                       "Transfer-Encoding: chunked\\r\\n\\r\\n%s'}",
                       bodies[i]);
        READ_THROUGH(&h, faults, true);
    }
    CHECK(hostile_store_close(&h));
}

TEST("an answer that is cut off is asked for again")
{
    static const char *const faults[] = {
        "{'op':'get','drop':'fin'}",
        "{'op':'get','drop':'rst'}",
        "{'op':'get','cut_head':1}",
        "{'op':'get','cut_head':40}",
        "{'op':'get','cut_head':40,'end':'rst'}",
        "{'op':'get','cut_body':0}",
        "{'op':'get','cut_body':1}",
        "{'op':'get','cut_body':49999}",
        "{'op':'get','cut_body':30000,'end':'rst'}",
        "{'op':'get','chunked':{'size':1000},'cut_body':20000}",
        "{'op':'get','status':500,'code':'InternalError','cut_body':10}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    READ_THROUGH(&h, faults, true);
    CHECK(hostile_store_close(&h));
}

TEST("an answer that is only unusual is taken at once")
{
    static const char *const faults[] = {
        "{'op':'get','informational':3}",
        "{'op':'get','chunked':{'size':1000}}",
        "{'op':'get','chunked':{'extension':';a=b;c=\\\"d\\\"'}}",
        "{'op':'get','chunked':{'trailers':['X-Sum: 1','X-Other: 2']}}",
        "{'op':'get','chunked':{'size':1}}",
        "{'op':'get','version':'HTTP/1.0'}",
        "{'op':'get','lines':['connection: Keep-Alive, CLOSE','X-Empty:']}",
        "{'op':'get','extra':'HTTP/1.1 206 Not yours\\r\\n\\r\\n'}",
        "{'op':'get','lengths':['00050000']}",
        "{'op':'get','pace':{'bytes':997,'every_ms':0}}",
        "{'op':'get','end':'fin'}",
        "{'op':'get','end':'rst'}",
        "{'op':'get','end':'next'}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    READ_THROUGH(&h, faults, false);
    CHECK(hostile_store_close(&h));
}

TEST("what is behind an answer is nobody's")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    /* Each answer has another one behind it, with a body that looks right. */
    set_fault(&h, "{'op':'get','count':-1,'extra':"
                  "'HTTP/1.1 206 Partial\\r\\nContent-Length: 10\\r\\n"
                  "Content-Range: bytes 1000-1009/100000\\r\\n\\r\\n"
                  "0123456789'}");
    for (unsigned i = 0; i < 20; i++)
        CHECK(read_range(&h, OFFSET, 10, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_s3_hits(h.server, 0) == 20);
    CHECK(hostile_store_close(&h));
}

TEST("a head may come byte by byte")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    set_fault(&h, "{'op':'get','pace':{'bytes':1,'every_ms':0}}");
    CHECK(read_range(&h, OFFSET, 100, OBJECT_BACKGROUND) == 0);
    CHECK(hostile_s3_hits(h.server, 0) == 1);
    CHECK(hostile_s3_count(h.server, "get") == 1);
    CHECK(hostile_store_close(&h));
}

TEST("a server that knows no ranges is read from, if all is asked for")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    set_fault(&h, "{'op':'get','count':-1,'whole':true}");
    CHECK(read_range(&h, 0, OBJECT_LEN, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_s3_count(h.server, "get") == 1);
    CHECK(read_range(&h, OFFSET, LEN, OBJECT_BACKGROUND) == -EIO);
    CHECK(hostile_store_close(&h));
}

TEST("what never makes sense is an error, also to who waits")
{
    static const char *const faults[] = {
        "{'op':'get','count':-1,'headers':"
        "{'Content-Range':'bytes 0-49999/100000'}}",
        "{'op':'get','count':-1,'body':'short'}",
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        set_fault(&h, faults[i]);
        CHECK(read_range(&h, OFFSET, LEN, OBJECT_WAITED_FOR) == -EIO);
        CHECK(read_range(&h, OFFSET, LEN, OBJECT_BACKGROUND) == -EIO);
    }
    CHECK(hostile_store_close(&h));
}

TEST("a range that is not wholly in the object is an error")
{
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    CHECK(read_range(&h, OBJECT_LEN - 10, 11, OBJECT_WAITED_FOR) == -EIO);
    CHECK(read_range(&h, OBJECT_LEN, 1, OBJECT_BACKGROUND) == -EIO);
    CHECK(read_range(&h, OBJECT_LEN - 10, 10, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_store_close(&h));
}

TEST("an object that is said to be absent once is there; always, it is not")
{
    struct hostile_store h;
    struct object_info info;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    /* The first reads do not see the object yet. */
    (void)hostile_s3_tell(h.server, "{'set':{'lag':1}}");
    CHECK(put_object(&h));
    CHECK(read_range(&h, OFFSET, LEN, OBJECT_WAITED_FOR) == 0);
    CHECK(hostile_s3_count(h.server, "get") == 2);
    CHECK(h.store->head(h.store, "object", &info) == 0);
    CHECK(info.size == OBJECT_LEN);
    (void)hostile_s3_tell(h.server, "{'remove':'object'}");
    CHECK(read_range(&h, OFFSET, LEN, OBJECT_WAITED_FOR) == -ENOENT);
    CHECK(read_range(&h, OFFSET, LEN, OBJECT_BACKGROUND) == -ENOENT);
    CHECK(h.store->head(h.store, "object", &info) == -ENOENT);
    CHECK(hostile_store_close(&h));
}

TEST("the length of an object is what the head says, whatever follows it")
{
    static const char *const faults[] = {
        "{'op':'head','extra':'this does not belong here'}",
        "{'op':'head','status':500}",
        "{'op':'head','drop':'rst'}",
        "{'op':'head','lengths':[]}",
        "{'op':'head','lengths':['1','2']}",
    };
    struct hostile_store h;
    struct object_info info;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        set_fault(&h, faults[i]);
        info.size = 0;
        if (!CHECK(h.store->head(h.store, "object", &info) == 0) ||
            !CHECK(info.size == OBJECT_LEN))
            printf("# %s\n", faults[i]);
        CHECK(read_range(&h, OFFSET, LEN, OBJECT_WAITED_FOR) == 0);
    }
    CHECK(hostile_store_close(&h));
}

TEST("what the store refuses is told apart, to who does not wait")
{
    static const struct {
        const char *fault;
        int result;
    } cases[] = {
        {"{'count':-1,'status':403,'code':'AccessDenied'}", -EACCES},
        {"{'count':-1,'status':403,'code':'SignatureDoesNotMatch'}", -EACCES},
        {"{'count':-1,'status':403,'code':'InvalidAccessKeyId'}", -EACCES},
        {"{'count':-1,'status':403}", -EACCES},
        {"{'count':-1,'status':404,'code':'NoSuchBucket'}", -EACCES},
        {"{'count':-1,'status':301,'code':'PermanentRedirect'}", -EACCES},
        {"{'count':-1,'status':404,'code':'NoSuchKey'}", -ENOENT},
        {"{'count':-1,'status':400,'code':'InvalidRequest'}", -EACCES},
    };
    struct hostile_store h;

    if (!hostile_store_open(&h, &usual))
        SKIP("node is not installed");
    CHECK(put_object(&h));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int result;

        set_fault(&h, cases[i].fault);
        result = read_range(&h, OFFSET, LEN, OBJECT_BACKGROUND);
        if (!CHECK(result == cases[i].result))
            printf("# %d: %s\n", result, cases[i].fault);
    }
    CHECK(hostile_store_close(&h));
}
