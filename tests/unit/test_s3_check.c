/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_check.h"

#include <time.h>

#include "base/clock.h"
#include "base/moment.h"
#include "object_store.h"
#include "support/s3_peer.h"
#include "unit/test.h"

/* All that a check has said. */
struct said {
    unsigned errors, warnings;
    char text[4096];
};

static void say(void *context, bool is_error, const char *text)
{
    struct said *said = context;
    size_t len = strlen(said->text);

    if (is_error)
        said->errors++;
    else
        said->warnings++;
    (void)snprintf(said->text + len, sizeof(said->text) - len, "%s\n", text);
}

/* Returns what a check of a store at the peer returns, and what it said. */
static int check(struct s3_peer *peer, struct said *ret_said)
{
    struct object_store *store = s3_peer_open_store(peer);
    int result;

    *ret_said = (struct said){.errors = 0};
    result = s3_check(store, say, ret_said);
    store->close(store);
    return result;
}

TEST("of a store where all is well nothing is said")
{
    struct s3_peer *peer = s3_peer_start(3);
    struct said said;

    CHECK(check(peer, &said) == 0);
    CHECK(said.errors == 0 && said.warnings == 0);
    for (size_t i = 0; i < 3; i++)
        CHECK(s3_peer_requests_at(peer, i) == 1);
    s3_peer_stop(peer);
}

TEST("an endpoint that is not there is named; another one serves")
{
    struct s3_peer *peer = s3_peer_start(2);
    struct said said;
    char name[32];

    s3_peer_close_port(peer, 1);
    CHECK(check(peer, &said) == 0);
    CHECK(said.errors == 1 && said.warnings == 0);
    (void)snprintf(name, sizeof(name), "127.0.0.1:%u",
                   (unsigned)s3_peer_port(peer, 1));
    CHECK(strstr(said.text, name));
    CHECK(strstr(said.text, "refused"));
    s3_peer_close_port(peer, 0);
    CHECK(check(peer, &said) == -ECONNREFUSED);
    CHECK(said.errors == 2);
    s3_peer_stop(peer);
}

/* What all requests are answered. */
struct refusal {
    unsigned status;
    const char *code;
};

static void script_refuse(void *context, struct s3_peer *peer,
                          const struct s3_peer_request *request,
                          struct s3_peer_answer *answer)
{
    const struct refusal *refusal = context;

    (void)peer;
    (void)request;
    s3_peer_refuse(answer, refusal->status, "", refusal->code, "");
}

TEST("what is wrong is told in words")
{
    static const struct {
        struct refusal refusal;
        const char *words;
    } all[] = {
        {{403, "InvalidAccessKeyId"}, "does not know the access key AKIA..."},
        {{403, "SignatureDoesNotMatch"}, "secret key"},
        {{403, "AccessDenied"}, "has no permission to list objects"},
        {{404, "NoSuchBucket"}, "there is no bucket bucket"},
        {{500, "InternalError"}, "HTTP 500 InternalError"},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct s3_peer *peer = s3_peer_start(1);
        struct refusal refusal = all[i].refusal;
        struct said said;

        s3_peer_set_script(peer, script_refuse, &refusal);
        CHECK(check(peer, &said) < 0);
        CHECK(said.errors == 1 && strstr(said.text, all[i].words));
        s3_peer_stop(peer);
    }
}

static void script_web_page(void *context, struct s3_peer *peer,
                            const struct s3_peer_request *request,
                            struct s3_peer_answer *answer)
{
    (void)context;
    (void)peer;
    (void)request;
    s3_peer_respond(answer, 200, "Content-Type: text/html\r\n",
                    "<html>It works!</html>", 22);
}

static void script_no_http(void *context, struct s3_peer *peer,
                           const struct s3_peer_request *request,
                           struct s3_peer_answer *answer)
{
    (void)context;
    (void)peer;
    (void)request;
    s3_peer_respond_raw(answer, "220 mail.test ESMTP\r\n");
}

TEST("what is no store is not taken for one")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct said said;

    s3_peer_set_script(peer, script_web_page, NULL);
    CHECK(check(peer, &said) < 0);
    CHECK(said.errors == 1 && strstr(said.text, "not to what it was asked"));
    s3_peer_set_script(peer, script_no_http, NULL);
    CHECK(check(peer, &said) < 0);
    CHECK(said.errors == 1 && strstr(said.text, "as an S3 server does"));
    s3_peer_stop(peer);
}

/* A server whose clock is an hour ahead, and that refuses other times. */
static void script_an_hour_ahead(void *context, struct s3_peer *peer,
                                 const struct s3_peer_request *request,
                                 struct s3_peer_answer *answer)
{
    char *date = s3_peer_field(request, "x-amz-date");
    uint64_t date_s = 0, now_s = clock_realtime_ns() / 1000000000U;
    time_t there = (time_t)now_s + 3600;
    char field[128];
    struct tm parts;

    (void)context;
    CHECK(date && moment_parse_iso(date, &date_s, NULL) == 0);
    free(date);
    if (date_s > now_s + 3000) {
        s3_peer_serve(peer, request, answer);
        return;
    }
    CHECK(gmtime_r(&there, &parts));
    CHECK(strftime(field, sizeof(field), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n",
                   &parts) > 0);
    s3_peer_refuse(answer, 403, field, "RequestTimeTooSkewed", "");
}

TEST("a clock that is off is told, and corrected")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct said said;

    s3_peer_set_script(peer, script_an_hour_ahead, NULL);
    CHECK(check(peer, &said) == 0);
    CHECK(said.errors == 0 && said.warnings == 1);
    CHECK(strstr(said.text, "clock here is 60 minutes behind"));
    s3_peer_stop(peer);
}

static void script_elsewhere(void *context, struct s3_peer *peer,
                             const struct s3_peer_request *request,
                             struct s3_peer_answer *answer)
{
    char *field = s3_peer_field(request, "Authorization");

    (void)context;
    if (field && strstr(field, "/garage/s3/"))
        s3_peer_serve(peer, request, answer);
    else
        s3_peer_refuse(answer, 400, "", "AuthorizationHeaderMalformed",
                       "<Region>garage</Region>");
    free(field);
}

TEST("a bucket in another region is told, and followed")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct said said;

    s3_peer_set_script(peer, script_elsewhere, NULL);
    CHECK(check(peer, &said) == 0);
    CHECK(said.errors == 0 && said.warnings == 1);
    CHECK(strstr(said.text, "in region garage, not us-east-1"));
    s3_peer_stop(peer);
}
