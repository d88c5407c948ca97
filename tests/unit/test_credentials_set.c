/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_set.h"

#include "unit/test.h"

TEST("a new set is empty, and does not expire")
{
    struct credentials_set *set;

    NEED(credentials_set_new(&set) == 0);
    CHECK(set->access_key[0] == '\0' && set->session_token[0] == '\0');
    CHECK(set->expires_ns == CREDENTIALS_NEVER);
    credentials_set_free(set);
    credentials_set_free(NULL);
}

TEST("a text replaces the one before it, wholly")
{
    struct credentials_set *set;

    NEED(credentials_set_new(&set) == 0);
    CHECK(!credentials_set_put(set, CREDENTIALS_ACCESS_KEY, "long name", 4));
    CHECK(strcmp(set->access_key, "long") == 0);
    CHECK(!credentials_set_put(set, CREDENTIALS_ACCESS_KEY, "ab", 2));
    CHECK(memcmp(set->access_key, "ab\0\0", 4) == 0);
    CHECK(!credentials_set_put(set, CREDENTIALS_SECRET_KEY, "s/e+ c=", 7));
    CHECK(!credentials_set_put(set, CREDENTIALS_SESSION_TOKEN, "t", 1));
    CHECK(!credentials_set_put(set, CREDENTIALS_REGION, "eu-x-1", 6));
    CHECK(strcmp(set->secret_key, "s/e+ c=") == 0);
    CHECK(strcmp(set->session_token, "t") == 0);
    CHECK(strcmp(set->region, "eu-x-1") == 0);
    credentials_set_free(set);
}

TEST("what could end a line, or is not printable, is refused")
{
    static const char bad[][5] = {"a\nb", "a\rb", "a\0b", "\x7f", "a\tb"};
    struct credentials_set *set;

    NEED(credentials_set_new(&set) == 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (unsigned field = CREDENTIALS_ACCESS_KEY;
             field <= CREDENTIALS_REGION; field++)
            CHECK(credentials_set_put(set, (enum credentials_field)field,
                                      bad[i], i == 3 ? 1 : 3) != NULL);
    }
    CHECK(credentials_set_put(set, CREDENTIALS_ACCESS_KEY, "a b", 3) != NULL);
    CHECK(credentials_set_put(set, CREDENTIALS_ACCESS_KEY, "\xc3\xa4", 2) !=
          NULL);
    CHECK(set->access_key[0] == '\0' && set->secret_key[0] == '\0');
    credentials_set_free(set);
}

TEST("a text may be as long as its room, and no longer")
{
    static char text[CREDENTIALS_TOKEN_SIZE];
    struct credentials_set *set;

    memset(text, 'x', sizeof(text));
    NEED(credentials_set_new(&set) == 0);
    CHECK(credentials_set_put(set, CREDENTIALS_SESSION_TOKEN, text,
                              CREDENTIALS_TOKEN_SIZE) != NULL);
    CHECK(credentials_set_put(set, CREDENTIALS_SESSION_TOKEN, text,
                              CREDENTIALS_TOKEN_SIZE - 1) == NULL);
    CHECK(credentials_set_put(set, CREDENTIALS_ACCESS_KEY, text,
                              CREDENTIALS_KEY_SIZE) != NULL);
    CHECK(credentials_set_put(set, CREDENTIALS_SECRET_KEY, text,
                              CREDENTIALS_KEY_SIZE - 1) == NULL);
    CHECK(credentials_set_put(set, CREDENTIALS_REGION, text,
                              CREDENTIALS_REGION_SIZE) != NULL);
    credentials_set_free(set);
}

TEST("the same keys are those with the same access key, secret and token")
{
    struct credentials_set *one, *other;

    NEED(credentials_set_new(&one) == 0);
    NEED(credentials_set_new(&other) == 0);
    other->expires_ns = 1;
    (void)credentials_set_put(other, CREDENTIALS_REGION, "r", 1);
    CHECK(credentials_set_has_same_keys(one, other));
    for (unsigned field = CREDENTIALS_ACCESS_KEY;
         field <= CREDENTIALS_SESSION_TOKEN; field++) {
        (void)credentials_set_put(one, (enum credentials_field)field, "a", 1);
        CHECK(!credentials_set_has_same_keys(one, other));
        (void)credentials_set_put(other, (enum credentials_field)field, "a", 1);
        CHECK(credentials_set_has_same_keys(one, other));
    }
    credentials_set_free(one);
    credentials_set_free(other);
}
