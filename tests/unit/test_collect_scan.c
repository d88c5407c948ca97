/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect_parts.h"

#include "support/grace.h"
#include "support/memory_store.h"
#include "unit/test.h"

TEST("a scan leaves alone what may be under way, or is young, or another's")
{
    struct grace f;
    struct chunk_object former, foreign, mine, flying, object;
    struct collect_options options;

    grace_begin(&f);
    former = bucket_upload(&f.bucket, 4);
    f.bucket.claim_epoch = 99; /* none that is known */
    foreign = bucket_upload(&f.bucket, 4);
    bucket_epoch(&f.bucket, EPOCH_CLAIM, GRACE_HERE);
    mine = bucket_upload(&f.bucket, 4);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    flying = bucket_upload(&f.bucket, 4);
    grace_collect_all(&f, 1);
    options = bucket_options(&f.bucket, 1, GRACE_TIME);
    options.scan = true;
    options.counter = flying.id.counter;
    memory_store_set_time(f.memory, 1000 * GRACE_HOUR + GRACE_TIME - 1);
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(f.counts.condemned == 0);
    grace_pass(&f, 0);
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(f.counts.condemned == 2);
    grace_pass(&f, GRACE_TIME);
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(!bucket_has(&f.bucket, 4, &former));
    CHECK(!bucket_has(&f.bucket, 4, &mine));
    CHECK(bucket_has(&f.bucket, 4, &flying));
    CHECK(bucket_has(&f.bucket, 4, &foreign));
    CHECK(grace_missing(&f, &f.bucket.own) == 0);
    grace_end(&f);
}

TEST("a scan does not condemn again what a list has")
{
    struct grace f;
    struct chunk_object object;
    struct collect_options options;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    (void)bucket_upload(&f.bucket, 2); /* in no image */
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    grace_pass(&f, GRACE_TIME);
    options = bucket_options(&f.bucket, 1, GRACE_TIME);
    options.scan = true;
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(f.counts.condemned == 4 && !f.counts.has_more); /* 3 of the image */
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(f.counts.condemned == 0 && f.counts.is_waiting);
    grace_pass(&f, GRACE_TIME);
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(f.counts.deleted == 4 && f.counts.condemned == 0);
    CHECK(grace_objects(&f) == 1 && bucket_has(&f.bucket, 1, &object));
    grace_end(&f);
}
