/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/status_text.h"

#include "unit/test.h"

static struct control_message status;
static char *text;

static bool json_is(const char *expected)
{
    FILE *stream;
    size_t len;
    bool is_same;

    free(text);
    text = NULL;
    stream = open_memstream(&text, &len);
    if (!stream)
        abort();
    status_text_write(stream, &status);
    is_same = fclose(stream) == 0 && strcmp(text, expected) == 0;
    if (!is_same)
        printf("# instead: %s\n", text ? text : "nothing");
    return is_same;
}

static bool table_has(const char *line)
{
    free(text);
    text = status_text_table(&status, UINT64_C(1000000) * 1000000000);
    if (text && strstr(text, line))
        return true;
    printf("# instead: %s\n", text ? text : "nothing");
    return false;
}

TEST("what is known becomes JSON, in the order of the list")
{
    control_message_start(&status, "ok");
    CHECK(json_is("{}"));
    control_message_add_number(&status, "dirty_bytes", UINT64_MAX);
    control_message_add(&status, "device", "disk");
    control_message_add(&status, "unheard_of", "x");
    control_message_add(&status, "behind", "1");
    control_message_add(&status, "writethrough", "0");
    CHECK(json_is("{\"device\": \"disk\", \"writethrough\": false, "
                  "\"dirty_bytes\": 18446744073709551615, \"behind\": true}"));
}

TEST("nothing that an owner says can break out of the JSON")
{
    control_message_start(&status, "ok");
    control_message_add(&status, "device", "a\"b\\c\n\x7f\xff\xc3\xa4");
    control_message_add(&status, "size", "1, \"x\": 2");
    control_message_add(&status, "behind", "2");
    CHECK(json_is("{\"device\": \"a\\\"b\\\\c\\u000a\\u007f\\ufffd\xc3\xa4\", "
                  "\"size\": null, \"behind\": null}"));
}

TEST("lists and rows of numbers become lists; what is none becomes null")
{
    control_message_start(&status, "ok");
    control_message_add(&status, "read_latency", "1,0,18446744073709551615");
    control_message_add(&status, "write_latency", "");
    control_message_add(&status, "flush_latency", "007");
    control_message_add(&status, "syncs", "3:4:5:6:7,8:9:10:11:12");
    CHECK(json_is("{\"syncs\": [{\"number\": 3, \"since_ns\": 4, "
                  "\"leased\": 5, \"chunks\": 6, \"bytes\": 7}, "
                  "{\"number\": 8, \"since_ns\": 9, \"leased\": 10, "
                  "\"chunks\": 11, \"bytes\": 12}], "
                  "\"read_latency\": [1, 0, 18446744073709551615], "
                  "\"write_latency\": [], \"flush_latency\": [7]}"));
    static const char *const bad_lists[] = {
        ",",
        "1,",
        ",1",
        "1,,2",
        "-1",
        "1 ",
        "1;2",
        "18446744073709551616",
        "000000000000000000001",
        "x",
    };
    static const char *const bad_rows[] = {
        ":", "1:2:3:4", "1:2:3:4:x", "1:2:3:4:5:6", "1,2,3,4,5", "\"",
    };
    for (size_t i = 0; i < sizeof(bad_lists) / sizeof(bad_lists[0]); i++) {
        control_message_start(&status, "ok");
        control_message_add(&status, "read_latency", bad_lists[i]);
        CHECK(json_is("{\"read_latency\": null}"));
    }
    for (size_t i = 0; i < sizeof(bad_rows) / sizeof(bad_rows[0]); i++) {
        control_message_start(&status, "ok");
        control_message_add(&status, "syncs", bad_rows[i]);
        CHECK(json_is("{\"syncs\": []}"));
    }
}

TEST("several devices, or none, are one object")
{
    static struct control_message two[2];

    control_message_start(&two[0], "ok");
    control_message_add(&two[0], "device", "a");
    control_message_start(&two[1], "ok");
    control_message_add(&two[1], "device", "b");
    free(text);
    text = status_text_json_of_all(two, 2);
    CHECK(text && strcmp(text, "{\"devices\": [\n  {\"device\": \"a\"},\n  "
                               "{\"device\": \"b\"}\n]}\n") == 0);
    free(text);
    text = status_text_json_of_all(two, 0);
    CHECK(text && strcmp(text, "{\"devices\": [\n]}\n") == 0);
}

/* Give the message this payload. */
static void set_store(struct control_message *message, const char *payload)
{
    control_message_clear(message);
    control_message_set_payload(message, strdup(payload), strlen(payload));
}

static bool all_is(const struct control_message statuses[], size_t count,
                   const char *expected)
{
    free(text);
    text = status_text_json_of_all(statuses, count);
    if (text && strcmp(text, expected) == 0)
        return true;
    printf("# instead: %s\n", text ? text : "nothing");
    return false;
}

TEST("the store is what the first device tells of it, and nothing but an "
     "object of JSON")
{
    static const char *const bad[] = {
        "", "{", "1", "{}, \"x\": 1", "{\"a\": \"\n\"}", "{\"\xff\": 1}",
    };
    static const char without[] = "{\"devices\": [\n  {\"device\": \"a\"},\n"
                                  "  {\"device\": \"b\"}\n]}\n";
    static struct control_message two[2];

    control_message_start(&two[0], "ok");
    control_message_add(&two[0], "device", "a");
    control_message_start(&two[1], "ok");
    control_message_add(&two[1], "device", "b");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        set_store(&two[1], bad[i]);
        CHECK(all_is(two, 2, without));
    }
    set_store(&two[0], "[]");
    set_store(&two[1], "{\"endpoints\": [1, 2]}");
    CHECK(all_is(two, 2,
                 "{\"store\": {\"endpoints\": [1, 2]}, \"devices\": [\n  "
                 "{\"device\": \"a\"},\n  {\"device\": \"b\"}\n]}\n"));
    set_store(&two[0], "{\"first\": true}");
    CHECK(all_is(two, 1,
                 "{\"store\": {\"first\": true}, \"devices\": [\n  "
                 "{\"device\": \"a\"}\n]}\n"));
    control_message_clear(&two[0]);
    control_message_clear(&two[1]);
}

TEST("people see what their device holds back from the bucket")
{
    control_message_start(&status, "ok");
    control_message_add(&status, "device", "disk");
    control_message_add(&status, "state", "serving");
    control_message_add_number(&status, "size", UINT64_C(64) << 30);
    control_message_add_number(&status, "connections", 1);
    control_message_add_number(&status, "cache_used", 128 << 20);
    control_message_add_number(&status, "cache_limit", 256 << 20);
    control_message_add_number(&status, "journal_used", 16 << 20);
    control_message_add_number(&status, "journal_size", 64 << 20);
    control_message_add_number(&status, "chunks", 40);
    control_message_add_number(&status, "dirty_chunks", 3);
    control_message_add_number(&status, "dirty_bytes", 3 << 20);
    CHECK(table_has("disk: serving, 64.0 GiB, 1 connections\n"));
    CHECK(table_has("cache       128.0 MiB of 256.0 MiB (50 %); journal "
                    "16.0 MiB of 64.0 MiB (25 %)\n"));
    CHECK(table_has("dirty       3 of 40 chunks, 3.0 MiB with the journal\n"));
    CHECK(table_has("unpublished nothing\n"));
    CHECK(table_has("image       none yet\n"));
    CHECK(table_has("claim       unknown\n"));
    CHECK(!strstr(text, "checkpoint") && !strstr(text, "alarms"));
    control_message_add_number(&status, "oldest_unpublished_ns",
                               UINT64_C(990000) * 1000000000);
    control_message_add_number(&status, "behind", 1);
    CHECK(table_has(
        "unpublished oldest write 2 h 46 min ago: more than maxage\n"));
}

TEST("people see the image, the claim and the open checkpoint")
{
    control_message_start(&status, "ok");
    control_message_add_number(&status, "image_epoch", 7);
    control_message_add_number(&status, "image_time_ns",
                               UINT64_C(999940) * 1000000000);
    control_message_add(&status, "claim", "ours");
    control_message_add_number(&status, "claim_epoch", 8);
    control_message_add(&status, "claim_host", "alpha");
    control_message_add(&status, "checkpoint", "open");
    control_message_add_number(&status, "checkpoint_time_ns",
                               UINT64_C(2000000) * 1000000000); /* a clock */
    control_message_add_number(&status, "checkpoint_chunks", 10);
    control_message_add_number(&status, "checkpoint_left", 4);
    control_message_add_number(&status, "checkpoint_bytes", 4 << 20);
    CHECK(
        table_has("image       7 of 1970-01-12 13:45:40 UTC, 1 min 0 s ago\n"));
    CHECK(table_has("claim       ours, epoch 8 of alpha\n"));
    CHECK(
        table_has("checkpoint  open, 0 s ago, 4 of 10 chunks left, 4.0 MiB\n"));
}

TEST("a terminal obeys nothing in the name of another host")
{
    control_message_start(&status, "ok");
    control_message_add(&status, "claim", "fenced");
    control_message_add_number(&status, "claim_epoch", 8);
    control_message_add(&status, "claim_host",
                        "gr\xc3\xbc\xc3\x9f\xc2\x9b[2J\x1b[2J\x9b\n");
    CHECK(table_has(
        "claim       fenced, epoch 8 of gr\xc3\xbc\xc3\x9f??[2J?[2J??\n"));
}

TEST("people see troubles, and only when there are some")
{
    control_message_start(&status, "ok");
    control_message_add_number(&status, "disk_total", 1000);
    control_message_add_number(&status, "disk_available", 250);
    control_message_add_number(&status, "conditional_put", 1);
    CHECK(table_has("cache       0 B; disk 750 B of 1000 B (75 %)"));
    CHECK(!strstr(text, "store") && !strstr(text, "damaged") &&
          !strstr(text, "held") && !strstr(text, "writethrough"));
    control_message_start(&status, "ok");
    control_message_add_number(&status, "conditional_put", 0);
    control_message_add_number(&status, "damaged", 2);
    control_message_add_number(&status, "alarms", 3);
    control_message_add(&status, "held", "the claim is another host's");
    control_message_add(&status, "writethrough", "1");
    CHECK(table_has("store       cannot keep two hosts apart"));
    CHECK(table_has("damaged     2 blocks or pages\n"));
    CHECK(table_has("alarms      3 objects are missing\n"));
    CHECK(table_has("held        the claim is another host's\n"));
    CHECK(table_has("writethrough an image of this device"));
}
