/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_complaint.h"

#include "unit/test.h"

static const uint64_t MINUTE_NS = UINT64_C(60) * 1000000000;

TEST("what is refused is said once, and again after ten minutes")
{
    struct s3_complaint complaint;

    s3_complaint_init(&complaint);
    CHECK(s3_complaint_say(&complaint, "no permission", 1));
    CHECK(!s3_complaint_say(&complaint, "no permission", 2));
    CHECK(!s3_complaint_say(&complaint, "no permission", 9 * MINUTE_NS));
    CHECK(s3_complaint_say(&complaint, "no permission", 11 * MINUTE_NS));
    CHECK(!s3_complaint_say(&complaint, "no permission", 12 * MINUTE_NS));
    s3_complaint_done(&complaint);
}

TEST("another reason is said at once")
{
    struct s3_complaint complaint;

    s3_complaint_init(&complaint);
    CHECK(s3_complaint_say(&complaint, "no permission", 1));
    CHECK(s3_complaint_say(&complaint, "no bucket", 2));
    CHECK(!s3_complaint_say(&complaint, "no bucket", 3));
    s3_complaint_done(&complaint);
}

TEST("after something was granted, a complaint is news again")
{
    struct s3_complaint complaint;

    s3_complaint_init(&complaint);
    s3_complaint_settle(&complaint);
    CHECK(s3_complaint_say(&complaint, "no permission", 1));
    s3_complaint_settle(&complaint);
    CHECK(s3_complaint_say(&complaint, "no permission", 2));
    s3_complaint_done(&complaint);
}

TEST("a text that is too long is cut off, and still compared")
{
    struct s3_complaint complaint;
    char text[2000];

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    s3_complaint_init(&complaint);
    CHECK(s3_complaint_say(&complaint, text, 1));
    CHECK(!s3_complaint_say(&complaint, text, 2));
    s3_complaint_done(&complaint);
}
