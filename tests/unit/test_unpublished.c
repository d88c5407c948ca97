/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/unpublished.h"

#include "unit/test.h"

TEST("the first write counts, until an image has it")
{
    struct unpublished times;

    unpublished_init(&times);
    CHECK(unpublished_since(&times) == 0);
    CHECK(unpublished_is_none(&times));
    unpublished_note(&times, 100);
    unpublished_note(&times, 200);
    CHECK(!unpublished_is_none(&times));
    CHECK(unpublished_since(&times) == 100);
    unpublished_cut(&times);
    CHECK(unpublished_is_none(&times));
    CHECK(unpublished_since(&times) == 100);
    unpublished_note(&times, 300);
    CHECK(unpublished_since(&times) == 100);
    unpublished_publish(&times);
    CHECK(unpublished_since(&times) == 300);
    unpublished_cut(&times);
    unpublished_publish(&times);
    CHECK(unpublished_since(&times) == 0);
    unpublished_done(&times);
}

TEST("what a dropped checkpoint had is as old as it was")
{
    struct unpublished times;

    unpublished_init(&times);
    unpublished_note(&times, 100);
    unpublished_cut(&times);
    unpublished_drop(&times);
    CHECK(unpublished_since(&times) == 100);
    unpublished_cut(&times);
    unpublished_note(&times, 300);
    unpublished_drop(&times);
    unpublished_publish(&times);
    CHECK(unpublished_since(&times) == 100);
    unpublished_set(&times, 0, 7);
    unpublished_drop(&times);
    CHECK(unpublished_since(&times) == 7);
    unpublished_set(&times, 9, 7);
    CHECK(unpublished_since(&times) == 7);
    unpublished_publish(&times);
    CHECK(unpublished_since(&times) == 9);
    unpublished_done(&times);
}
