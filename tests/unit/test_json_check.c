/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/json_check.h"

#include <string.h>

#include "unit/test.h"

/* In memory of just that size, so that reading past it is found. */
static bool is_object(const char *text)
{
    size_t len = strlen(text);
    char *copy = malloc(len + 1);
    bool result;

    if (!copy)
        return false;
    memcpy(copy, text, len);
    result = json_check_object(copy, len);
    free(copy);
    return result;
}

TEST("objects of all kinds of values are taken")
{
    static const char *const good[] = {
        "{}",
        "{ }",
        "{\"a\":1}",
        "{\"a\": [ ], \"b\": [1, \"x\", {}, [null]], \"c\": {\"d\": true}}",
        "{\"a\": -0, \"b\": 0.5, \"c\": 1e9, \"d\": -12.25E-3, \"e\": 1E+2}",
        "{\"a\": false, \"\": \"\"}",
        "{\"a\": \"\\\" \\\\ \\/ \\b\\f\\n\\r\\t \\u00fF {[,:]}\"}",
        "{\"gr\xc3\xbc\xc3\x9f\": \"\xe2\x82\xac \xc2\xa0 \xf0\x9f\x98\x80\"}",
    };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        CHECK(is_object(good[i]));
}

TEST("what is no object, or not only one, is not")
{
    static const char *const bad[] = {
        "",
        " {}",
        "{} ",
        "{}{}",
        "{},",
        "[]",
        "1",
        "\"a\"",
        "{",
        "}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\" 1}",
        "{a:1}",
        "{1:1}",
        "{,}",
        "{\"a\":[}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1}]",
        "{\"a\":[1 2]}",
        "{\"a\":[1]",
        "{\"a\":1]}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(!is_object(bad[i]));
}

TEST("values that JSON does not have are refused")
{
    static const char *const bad[] = {
        "01",       "+1",       ".5",           "1.",
        "1e",       "-",        "1e+",          "0x1",
        "True",     "nul",      "nan",          "'a'",
        "\"a",      "\"\\x\"",  "\"\\u12g4\"",  "\"\\u123\"",
        "\"\\\"",   "\"\n\"",   "\"\x7f\"",     "\"\xc3(\"",
        "\"\xc3",   "\"\xff\"", "\"\xc2\x9b\"", "\"\xed\xa0\x80\"",
        "\xc3\xa4", "\t1",      "\n1",          "1\n",
        "tru",
    };
    char text[64];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(text, sizeof(text), "{\"a\":%s}", bad[i]);
        CHECK(!is_object(text));
    }
    CHECK(!json_check_object("{\0}", 3));
    CHECK(!json_check_object("{\"a\0\":1}", 8));
    CHECK(!json_check_object("{\"a\\\0\":1}", 9));
    CHECK(!json_check_object("{\"a\\u123\0\":1}", 13));
}

TEST("what ends in the middle is not taken for what comes then")
{
    CHECK(!is_object("{\"\":\"\x84"
                     "7}"));
    CHECK(!is_object("{\"\":\"\\x\"}"));
    CHECK(!is_object("{\"\":tr7}"));
    CHECK(!is_object("{\"\":\"a"));
    CHECK(!is_object("{\"\":"));
}

TEST("what is nested too deeply is refused")
{
    char text[4 * JSON_CHECK_DEPTH + 16] = "{\"a\":";
    size_t len = strlen(text);

    for (int i = 1; i < JSON_CHECK_DEPTH; i++)
        text[len++] = '[';
    for (int i = 1; i < JSON_CHECK_DEPTH; i++)
        text[len++] = ']';
    text[len] = '}';
    CHECK(is_object(text));
    memcpy(text, "{\"a\":[", 6);
    memmove(text + 7, text + 6, len - 5);
    text[6] = '[';
    text[len + 1] = ']';
    text[len + 2] = '}';
    CHECK(!is_object(text));
}
