/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_learn.h"

#include "object_store.h"
#include "s3/credentials.h"
#include "s3/s3_attempt.h"
#include "s3/s3_parts.h"
#include "s3/s3_places.h"
#include "support/s3_peer.h"
#include "unit/test.h"

static const struct s3_operation operation = {
    .verb = S3_GET, .key = "key", .len = 4};

struct scene {
    struct s3_peer *peer;
    struct object_store *store;
    struct s3_parts *parts;
    struct s3_attempt attempt; /* that was answered */
};

static void begin(struct scene *scene, unsigned status, const char *code)
{
    scene->peer = s3_peer_start(1);
    scene->store = s3_peer_open_store(scene->peer);
    scene->parts = s3_parts_of_store(scene->store);
    CHECK(s3_attempt_init(&scene->attempt, &operation) == 0);
    CHECK(credentials_borrow(scene->parts->credentials, UINT64_MAX,
                             &scene->attempt.credentials) == 0);
    scene->attempt.endpoint = 0;
    scene->attempt.now_s = 1000000;
    (void)snprintf(scene->attempt.region, sizeof(scene->attempt.region),
                   "us-east-1");
    scene->attempt.seen.is_connected = true;
    scene->attempt.seen.status = status;
    scene->attempt.seen.code = code;
}

static void end(struct scene *scene)
{
    s3_attempt_done(scene->parts, &scene->attempt);
    scene->store->close(scene->store);
    s3_peer_stop(scene->peer);
}

static enum s3_verdict learn(struct scene *scene)
{
    return s3_learn(scene->parts, &scene->attempt);
}

TEST("the time there is learned, once")
{
    struct scene scene;
    struct s3_site site;
    uint64_t there_s;

    begin(&scene, 403, "RequestTimeTooSkewed");
    scene.attempt.answer_s = 1003600;
    CHECK(learn(&scene) == S3_VERDICT_CLOCK);
    s3_places_look(scene.parts->places, 0, 5, &site, &there_s);
    CHECK(there_s == 3605);
    CHECK(learn(&scene) == S3_VERDICT_AGAIN);
    end(&scene);
}

TEST("without a time in the answer there is nothing to learn")
{
    struct scene scene;

    begin(&scene, 403, "RequestTimeTooSkewed");
    CHECK(learn(&scene) == S3_VERDICT_AGAIN);
    end(&scene);
}

TEST("the region is learned, once, if it is another one")
{
    struct scene scene;

    begin(&scene, 400, "AuthorizationHeaderMalformed");
    (void)snprintf(scene.attempt.other_region,
                   sizeof(scene.attempt.other_region), "eu-west-1");
    CHECK(learn(&scene) == S3_VERDICT_REGION);
    CHECK(learn(&scene) == S3_VERDICT_CONFIGURATION);
    end(&scene);
    begin(&scene, 301, "");
    (void)snprintf(scene.attempt.other_region,
                   sizeof(scene.attempt.other_region), "us-east-1");
    CHECK(learn(&scene) == S3_VERDICT_CONFIGURATION);
    end(&scene);
}

TEST("keys that are the same when read again are refused for good")
{
    struct scene scene;

    begin(&scene, 403, "InvalidAccessKeyId");
    CHECK(learn(&scene) == S3_VERDICT_CONFIGURATION);
    CHECK(scene.attempt.seen.credentials_read);
    end(&scene);
}

TEST("what teaches nothing is judged as it is")
{
    struct scene scene;

    begin(&scene, 404, "NoSuchKey");
    scene.attempt.seen.may_be_absent = true;
    CHECK(learn(&scene) == S3_VERDICT_ABSENT);
    end(&scene);
}
