/* SPDX-License-Identifier: BSD-2-Clause */
#include "object_store.h"
#include "unit/test.h"

TEST("the keys of the design are valid")
{
    CHECK(object_key_is_valid("disk1/chunk/0123456789abcdef/1-a-2"));
    CHECK(object_key_is_valid("disk1/epoch/0000000000000001"));
    CHECK(object_key_is_valid("Disk_1.old-2"));
    CHECK(object_key_is_valid(".hidden/..."));
}

TEST("an empty key, and an empty part anywhere, is invalid")
{
    CHECK(!object_key_is_valid(""));
    CHECK(!object_key_is_valid("/"));
    CHECK(!object_key_is_valid("/a"));
    CHECK(!object_key_is_valid("a/"));
    CHECK(!object_key_is_valid("a//b"));
}

TEST("a part that walks through directories is invalid")
{
    CHECK(!object_key_is_valid("."));
    CHECK(!object_key_is_valid(".."));
    CHECK(!object_key_is_valid("../a"));
    CHECK(!object_key_is_valid("a/../b"));
    CHECK(!object_key_is_valid("a/."));
    CHECK(object_key_is_valid("..a"));
    CHECK(object_key_is_valid("a.."));
}

TEST("of all bytes only letters, digits, dot, underscore and dash pass")
{
    unsigned valid = 0;

    for (int c = 1; c < 256; c++) {
        char key[] = {'a', (char)c, 'b', '\0'};

        valid += object_key_is_valid(key);
    }
    CHECK(valid == 26 + 26 + 10 + 3 + 1); /* a slash between parts, too */
    CHECK(!object_key_is_valid("a b"));
    CHECK(!object_key_is_valid("a~b"));
    CHECK(!object_key_is_valid("\xc3\xa4"));
}

TEST("a key of the greatest length is valid, one byte more is not")
{
    char key[OBJECT_KEY_MAX + 2];

    memset(key, 'k', sizeof(key));
    key[OBJECT_KEY_MAX] = '\0';
    CHECK(object_key_is_valid(key));
    key[OBJECT_KEY_MAX] = 'k';
    key[OBJECT_KEY_MAX + 1] = '\0';
    CHECK(!object_key_is_valid(key));
}
