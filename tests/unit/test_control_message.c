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

/* Encode what was made, and decode it. */
static bool goes_there_and_back(void)
{
    size_t size;
    int len = control_message_encode(&made, line);

    return len > 0 && control_message_decode(line, (size_t)len - 1, &read_back,
                                             &size) == 0;
}

TEST("a lease is read as it was written")
{
    const struct control_lease lease = {
        .lease = 77,
        .work = {.chunk = 0x123456789,
                 .generation = UINT64_MAX,
                 .revision = UINT32_MAX,
                 .id = {9, UINT64_MAX, 12},
                 .loss = UPLOAD_TABLE_LOST},
        .rate = 1000000,
        .parallelism = 4,
    };
    struct control_lease again;

    control_lease_encode(&lease, &made);
    NEED(goes_there_and_back());
    NEED(control_lease_decode(&read_back, &again) == 0);
    CHECK(again.lease == lease.lease && again.rate == lease.rate);
    CHECK(again.work.chunk == lease.work.chunk);
    CHECK(again.work.generation == lease.work.generation);
    CHECK(again.work.revision == lease.work.revision);
    CHECK(again.work.loss == lease.work.loss);
    CHECK(again.work.id.epoch == 9 && again.work.id.nonce == UINT64_MAX &&
          again.work.id.counter == 12);
    CHECK(again.parallelism == lease.parallelism);
}

TEST("an answer that is no lease is refused")
{
    static const char *const lines[] = {
        "none left=4",
        "wait milliseconds=5",
        "error errno=5 text=x",
        "ok chunk=2 generation=3 revision=4 id=1-2-3 loss=0 rate=0 "
        "parallelism=1",
        "ok lease=1 chunk=2 generation=0 revision=4 id=1-2-3 loss=0 rate=0 "
        "parallelism=1",
        "ok lease=1 chunk=2 generation=3 revision=4294967296 id=1-2-3 loss=0 "
        "rate=0 parallelism=1",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2 loss=0 rate=0 "
        "parallelism=1",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2-3-4 loss=0 rate=0 "
        "parallelism=1",
        "ok lease=1 chunk=2 generation=3 revision=4 id=-2-3 loss=0 rate=0 "
        "parallelism=1",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2-12345678901234567 "
        "loss=0 rate=0 parallelism=1",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2-G loss=0 rate=0 "
        "parallelism=1",
        "ok lease=1 chunk=2 generation=3 revision=4 loss=0 rate=0 "
        "parallelism=1",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2-3 loss=3 rate=0 "
        "parallelism=1",
        "ok lease=1 chunk=2 generation=3 revision=4 id=1-2-3 loss=0 rate=0 "
        "parallelism=0",
    };
    struct control_lease lease;

    CHECK(decode("ok lease=1 chunk=2 generation=3 revision=4 id=1-2-3 loss=0 "
                 "rate=0 parallelism=1") == 0 &&
          control_lease_decode(&read_back, &lease) == 0);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        CHECK(decode(lines[i]) == 0);
        CHECK(control_lease_decode(&read_back, &lease) == -EBADMSG);
    }
}

TEST("a report brings the object's table, or why there is none")
{
    struct control_report report = {
        .lease = 5,
        .result = {.table = strdup("table"),
                   .table_size = 5,
                   .size = UINT64_MAX,
                   .fetched = 3,
                   .damaged = 2},
    };
    struct control_report again;

    control_report_encode(&report, &made);
    NEED(control_report_decode(&made, &again) == 0);
    CHECK(again.lease == 5 && again.error == 0 &&
          again.result.size == UINT64_MAX);
    CHECK(again.result.fetched == 3 && again.result.damaged == 2);
    CHECK(again.result.table_size == 5 &&
          memcmp(again.result.table, "table", 5) == 0);
    control_message_clear(&made);
    CHECK(control_report_decode(&made, &again) == -EBADMSG); /* no table */

    report.error = -EIO;
    report.result = (struct upload_result){.table = NULL};
    control_report_encode(&report, &made);
    CHECK(is_written("report lease=5 errno=5"));
    NEED(goes_there_and_back());
    NEED(control_report_decode(&read_back, &again) == 0);
    CHECK(again.lease == 5 && again.error == -EIO);
}

TEST("a request that is no report is refused")
{
    static const char *const lines[] = {
        "lease purpose=image",
        "report",
        "report errno=5",
        "report lease=x errno=5",
        "report lease=1 errno=0",
        "report lease=1 errno=4096",
        "report lease=1 size=5 fetched=0 damaged=0",
    };
    struct control_report report;

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        CHECK(decode(lines[i]) == 0);
        CHECK(control_report_decode(&read_back, &report) == -EBADMSG);
    }
    NEED(decode("report lease=1 size=0 fetched=0 damaged=0") == 0);
    control_message_set_payload(&read_back, malloc(1), 1);
    CHECK(control_report_decode(&read_back, &report) == -EBADMSG);
    control_message_clear(&read_back);
}
