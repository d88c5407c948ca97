/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/control_message.h"

#include "unit/test.h"

static struct control_message made, read_back;
static char line[CONTROL_LINE_MAX];

/* Encode what was made; whether it is this line. */
static bool is_written(const char *expected)
{
    int len = control_message_encode(&made, line);

    if (len > 0 && (size_t)len == strlen(expected) + 1 &&
        memcmp(line, expected, (size_t)len - 1) == 0 && line[len - 1] == '\n')
        return true;
    printf("# instead: %d %.*s\n", len, len > 0 ? len : 0, line);
    return false;
}

/* Decode a line without payload. */
static int decode(const char *text)
{
    size_t size = 0;
    int error = control_message_decode(text, strlen(text), &read_back, &size);

    return error == 0 && size != 0 ? 1 : error;
}

TEST("a verb alone is a message")
{
    control_message_start(&made, "status");
    CHECK(is_written("status"));
    NEED(decode("status") == 0);
    CHECK(control_message_is(&read_back, "status"));
    CHECK(!control_message_is(&read_back, "statu"));
    CHECK(strcmp(control_message_verb(&read_back), "status") == 0);
    CHECK(!control_message_get(&read_back, "status"));
}

TEST("keys come in their order, bytes that are not plain as %XX")
{
    control_message_start(&made, "snapshot");
    control_message_add(&made, "name", "a b=c%\n\xc3\xbc\x7f");
    control_message_add_number(&made, "epoch", UINT64_MAX);
    control_message_add(&made, "empty", "");
    control_message_add(&made, "path", "/x/y.z_-,:+");
    CHECK(is_written("snapshot name=a%20b%3Dc%25%0A%C3%BC%7F "
                     "epoch=18446744073709551615 empty= path=/x/y.z_-,:+"));
    line[strlen("snapshot name=a%20b%3Dc%25%0A%C3%BC%7F "
                "epoch=18446744073709551615 empty= path=/x/y.z_-,:+")] = '\0';
    NEED(decode(line) == 0);
    CHECK(strcmp(control_message_get(&read_back, "name"),
                 "a b=c%\n\xc3\xbc\x7f") == 0);
    CHECK(strcmp(control_message_get(&read_back, "empty"), "") == 0);
    CHECK(strcmp(control_message_get(&read_back, "path"), "/x/y.z_-,:+") == 0);
}

TEST("numbers are checked when they are asked for")
{
    uint64_t value = 7;

    NEED(decode("ok left=12 word=x empty= zero=0 big=18446744073709551616") ==
         0);
    CHECK(control_message_get_number(&read_back, "left", 0, 12, &value) == 0);
    CHECK(value == 12);
    CHECK(control_message_get_number(&read_back, "left", 0, 11, &value) ==
          -EINVAL);
    CHECK(control_message_get_number(&read_back, "word", 0, 100, &value) ==
          -EINVAL);
    CHECK(control_message_get_number(&read_back, "empty", 0, 100, &value) ==
          -EINVAL);
    CHECK(control_message_get_number(&read_back, "big", 0, UINT64_MAX,
                                     &value) == -EINVAL);
    CHECK(control_message_get_number(&read_back, "right", 0, 100, &value) ==
          -ENOENT);
    CHECK(value == 12);
    CHECK(control_message_has(&read_back, "left"));
    CHECK(control_message_has(&read_back, "word"));
    CHECK(!control_message_has(&read_back, "zero"));
    CHECK(!control_message_has(&read_back, "right"));
}

TEST("an error says its number and its text")
{
    uint64_t number = 0;

    control_message_start_error(&made, -ESTALE, "lease %d: %s", 5, "changed");
    CHECK(is_written("error errno=116 text=lease%205:%20changed"));
    CHECK(control_message_get_number(&made, "errno", 1, 4095, &number) == 0 &&
          number == ESTALE);
}

TEST("an error whose text is too long is cut, not lost")
{
    char text[3000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    control_message_start_error(&made, -EIO, "%s", text);
    CHECK(control_message_encode(&made, line) > 1000);
}

TEST("a payload is announced, last, and belongs to the message")
{
    size_t size = 0;

    control_message_start(&made, "report");
    control_message_add_number(&made, "lease", 3);
    control_message_set_payload(&made, calloc(1, 5000), 5000);
    CHECK(is_written("report lease=3 payload=5000"));
    control_message_clear(&made);
    CHECK(!made.payload && made.payload_size == 0);
    CHECK(control_message_decode("report lease=3 payload=5000", 27, &read_back,
                                 &size) == 0);
    CHECK(size == 5000 && !control_message_get(&read_back, "payload"));
}

TEST("what is no message is refused")
{
    static const char *const lines[] = {
        "",
        " ",
        " ok",
        "ok ",
        "ok  a=1",
        "OK",
        "ok1",
        "ok\t",
        "ok a",
        "ok =1",
        "ok a=1 b",
        "ok A=1",
        "ok a1=1",
        "ok a=1 a=2",
        "ok a==1",
        "ok a=b=c",
        "ok a=%",
        "ok a=%2",
        "ok a=%2g",
        "ok a=%2f", /* one way to write it: upper case */
        "ok a=%41", /* A is plain */
        "ok a=%00",
        "ok a=\"x\"",
        "ok a=\xc3\xbc",
        "ok payload=",
        "ok payload=0",
        "ok payload=01",
        "ok payload=4194305",
        "ok payload=5 a=1",
        "ok payload=5 payload=5",
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        CHECK(decode(lines[i]) == -EBADMSG || (printf("# %s\n", lines[i]), 0));
}

TEST("a byte of value 0 anywhere in a line is refused")
{
    static const char text[] = "ok key=value";
    char copy[sizeof(text)];
    size_t size;

    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        memcpy(copy, text, sizeof(text));
        copy[i] = '\0';
        CHECK(control_message_decode(copy, sizeof(text) - 1, &read_back,
                                     &size) == -EBADMSG);
    }
}

TEST("what does not fit cannot be sent, and is not cut silently")
{
    char key[3] = "aa", value[CONTROL_LINE_MAX];

    control_message_start(&made, "ok");
    for (int i = 0; i <= CONTROL_PAIRS_MAX; i++) {
        key[0] = (char)('a' + i / 26);
        key[1] = (char)('a' + i % 26);
        CHECK(!made.is_too_long);
        control_message_add(&made, key, "x");
    }
    CHECK(control_message_encode(&made, line) == -E2BIG);

    memset(value, ' ', sizeof(value));
    value[CONTROL_LINE_MAX / 3] = '\0';
    control_message_start(&made, "ok");
    control_message_add(&made, "text", value);
    CHECK(control_message_encode(&made, line) == -E2BIG);
    value[CONTROL_LINE_MAX / 3 - 5] = '\0';
    control_message_start(&made, "ok");
    control_message_add(&made, "text", value);
    CHECK(control_message_encode(&made, line) > CONTROL_LINE_MAX - 15);

    memset(value, 'x', sizeof(value));
    value[CONTROL_LINE_MAX - 1] = '\0';
    control_message_start(&made, "ok");
    control_message_add(&made, "text", value);
    CHECK(control_message_encode(&made, line) == -E2BIG);

    control_message_start(&made, "ok");
    control_message_set_payload(&made, malloc(1), CONTROL_PAYLOAD_MAX + 1);
    CHECK(control_message_encode(&made, line) == -E2BIG);
    control_message_clear(&made);
}

TEST("the longest line and the most keys are read; one more is refused")
{
    char text[CONTROL_LINE_MAX + 1];
    size_t len, size;

    memset(text, 'x', sizeof(text));
    memcpy(text, "ok a=", 5);
    CHECK(control_message_decode(text, CONTROL_LINE_MAX - 1, &read_back,
                                 &size) == 0);
    CHECK(strlen(control_message_get(&read_back, "a")) == CONTROL_LINE_MAX - 6);
    CHECK(control_message_decode(text, CONTROL_LINE_MAX, &read_back, &size) ==
          -EBADMSG);
    len = 2;
    for (int i = 0; i < CONTROL_PAIRS_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                " %c%c=", 'a' + i / 26, 'a' + i % 26);
    CHECK(control_message_decode(text, len, &read_back, &size) == 0);
    len += (size_t)snprintf(text + len, sizeof(text) - len, " zz=");
    CHECK(control_message_decode(text, len, &read_back, &size) == -EBADMSG);
}

static struct control_lease lease_of(unsigned objects)
{
    struct control_lease lease = {
        .lease = 77,
        .chunk = 0x123456789,
        .generation = 42,
        .revision = UINT32_MAX,
        .id = {9, UINT64_MAX, 12},
        .rate = 1000000,
        .parallelism = 4,
        .objects_count = objects,
    };

    for (unsigned i = 0; i < objects; i++)
        lease.objects[i] = (struct chunk_object){
            .id = {UINT64_MAX, UINT64_MAX - i, i},
            .origin = i,
            .table_size = UINT32_MAX - i,
            .table_checksum = UINT32_MAX,
        };
    return lease;
}

TEST("a lease is read as it was written, with any number of objects")
{
    for (unsigned i = 0; i <= CHUNK_OBJECTS_MAX; i++) {
        struct control_lease lease = lease_of(i), again = {0};
        size_t size;
        int len;

        control_lease_encode(&lease, &made);
        len = control_message_encode(&made, line);
        NEED(len > 0);
        NEED(control_message_decode(line, (size_t)len - 1, &read_back, &size) ==
             0);
        NEED(control_lease_decode(&read_back, &again) == 0);
        CHECK(again.lease == lease.lease && again.chunk == lease.chunk);
        CHECK(again.generation == lease.generation);
        CHECK(again.revision == lease.revision && again.rate == lease.rate);
        CHECK(again.parallelism == lease.parallelism);
        CHECK(memcmp(&again.id, &lease.id, sizeof(lease.id)) == 0);
        NEED(again.objects_count == i);
        CHECK(memcmp(again.objects, lease.objects,
                     i * sizeof(lease.objects[0])) == 0);
    }
}

TEST("an answer that is no lease is refused")
{
    static const char whole[] = "lease=1 chunk=2 generation=3 revision=4 "
                                "id=1-2-3 rate=0 parallelism=1 objects=";
    static const char *const lines[] = {
        "none left=4",
        "wait milliseconds=5",
        "error errno=5 text=x",
        "ok chunk=2 generation=3 revision=4 id=1-2-3 rate=0 parallelism=1 "
        "objects=",
        "ok lease=1 chunk=2 generation=0 revision=4 id=1-2-3 rate=0 "
        "parallelism=1 objects=",
        "ok lease=1 chunk=2 generation=3 revision=4294967296 id=1-2-3 rate=0 "
        "parallelism=1 objects=",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2 rate=0 "
        "parallelism=1 objects=",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2-3-4 rate=0 "
        "parallelism=1 objects=",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2-3 rate=0 "
        "parallelism=0 objects=",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2-3 rate=0 "
        "parallelism=1",
    };
    static const char *const objects[] = {
        "1-2-3",         "1-2-3:0:0",
        "1-2-3:0:0:0:0", "1-2-3:0:0:100000000",
        "1-2-3:0:0:0,",  "1-2-3:0:0:0,,1-2-3:0:0:0",
        "-2-3:0:0:0",    "1-2-12345678901234567:0:0:0",
        "1-2-3:0:0:G",
    };
    struct control_lease lease;
    char text[512];

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        CHECK(decode(lines[i]) == 0);
        CHECK(control_lease_decode(&read_back, &lease) == -EBADMSG);
    }
    (void)snprintf(text, sizeof(text), "ok %s", whole);
    CHECK(decode(text) == 0 && control_lease_decode(&read_back, &lease) == 0);
    for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
        (void)snprintf(text, sizeof(text), "ok %s%s", whole, objects[i]);
        CHECK(decode(text) == 0);
        CHECK(control_lease_decode(&read_back, &lease) == -EBADMSG);
    }
}

TEST("one object more than there may be is refused")
{
    char text[4096] = "ok lease=1 chunk=2 generation=3 revision=4 id=1-2-3 "
                      "rate=0 parallelism=1 objects=1-1-1:0:0:0";
    size_t len = strlen(text);
    struct control_lease lease;

    for (unsigned i = 1; i <= CHUNK_OBJECTS_MAX; i++) {
        NEED(decode(text) == 0);
        CHECK(control_lease_decode(&read_back, &lease) == 0);
        CHECK(lease.objects_count == i);
        len += (size_t)snprintf(text + len, sizeof(text) - len, ",1-1-1:0:0:0");
    }
    NEED(decode(text) == 0);
    CHECK(control_lease_decode(&read_back, &lease) == -EBADMSG);
}
