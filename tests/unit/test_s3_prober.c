/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_prober.h"

#include <limits.h>

#include "base/mutex.h"
#include "object_store.h"
#include "s3/s3_endpoint.h"
#include "s3/s3_parts.h"
#include "support/s3_peer.h"
#include "unit/test.h"

/* Count heads of the bucket: probes. */
static void script_probes(void *context, struct s3_peer *peer,
                          const struct s3_peer_request *request,
                          struct s3_peer_answer *answer)
{
    atomic_uint *probes = context;

    if (strcmp(request->method, "HEAD") == 0)
        atomic_fetch_add(probes, 1);
    s3_peer_serve(peer, request, answer);
}

static int put(struct object_store *store)
{
    return store->put(store, "key", "text", 4, false);
}

/* Wait until the store takes the put. */
static void put_until_taken(struct object_store *store)
{
    struct s3_endpoints *endpoints = s3_parts_of_store(store)->endpoints;

    for (;;) {
        uint64_t changes = s3_endpoints_changes(endpoints);

        if (put(store) == 0)
            return;
        (void)s3_endpoints_wait(endpoints, changes, UINT64_MAX);
    }
}

TEST("an endpoint that comes back is found by probes, with no request lost")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    atomic_uint probes = 0;

    s3_peer_set_script(peer, script_probes, &probes);
    CHECK(put(store) == 0);
    s3_peer_close_port(peer, 0);
    CHECK(put(store) == -EIO);
    CHECK(put(store) == -EIO);
    s3_peer_open_port(peer, 0);
    put_until_taken(store);
    CHECK(atomic_load(&probes) >= 1);
    store->close(store);
    s3_peer_stop(peer);
}

/* Refuse probes, which is an answer. */
static void script_refuse(void *context, struct s3_peer *peer,
                          const struct s3_peer_request *request,
                          struct s3_peer_answer *answer)
{
    (void)context;
    if (strcmp(request->method, "HEAD") == 0)
        s3_peer_respond(answer, 403, "", "", 0);
    else
        s3_peer_serve(peer, request, answer);
}

TEST("any answer to a probe will do, also one that refuses")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);

    s3_peer_set_script(peer, script_refuse, NULL);
    s3_peer_close_port(peer, 0);
    CHECK(put(store) == -EIO);
    s3_peer_open_port(peer, 0);
    put_until_taken(store);
    store->close(store);
    s3_peer_stop(peer);
}

/* A proxy that has lost its server, and says so in one way or the other. */
struct proxy {
    unsigned status;
    atomic_uint gets; /* of objects */
};

static void script_proxy(void *context, struct s3_peer *peer,
                         const struct s3_peer_request *request,
                         struct s3_peer_answer *answer)
{
    static const char page[] = "no server is available";
    struct proxy *proxy = context;
    bool is_head = strcmp(request->method, "HEAD") == 0;

    (void)peer;
    if (strstr(request->target, "/key"))
        atomic_fetch_add(&proxy->gets, 1);
    s3_peer_respond(answer, proxy->status, "", page,
                    is_head ? 0 : strlen(page));
}

TEST("the page of a proxy is no answer to a probe")
{
    static const unsigned statuses[] = {404, 503};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        struct s3_peer *peer = s3_peer_start(1);
        struct object_store *store = s3_peer_open_store(peer);
        struct proxy proxy = {.status = statuses[i]};
        char data[4];

        s3_peer_set_script(peer, script_proxy, &proxy);
        for (int j = 0; j < 3; j++)
            CHECK(store->get(store, "key", 0, data, 4, OBJECT_AHEAD) < 0);
        s3_peer_wait_for_requests(peer, 3 + 8);
        CHECK(store->get(store, "key", 0, data, 4, OBJECT_AHEAD) == -EIO);
        CHECK(atomic_load(&proxy.gets) == 3);
        s3_peer_set_script(peer, NULL, NULL);
        put_until_taken(store);
        store->close(store);
        s3_peer_stop(peer);
    }
}

TEST("a patient probe may take longer, but no longer than requests may")
{
    static const uint64_t s = 1000000000;

    CHECK(s3_prober_patience_ns(false, 3600 * s) == S3_PROBE_NS);
    CHECK(s3_prober_patience_ns(false, s / 2) == s / 2);
    CHECK(s3_prober_patience_ns(true, 3600 * s) == 10 * s);
    CHECK(s3_prober_patience_ns(true, 2 * s) == 4 * s);
}

TEST("endpoints that are always wanted take turns, whoever else is wanted")
{
    bool wanted[4] = {false};

    CHECK(s3_prober_next(wanted, 4, 0) == 4);
    wanted[2] = true;
    CHECK(s3_prober_next(wanted, 4, 0) == 2);
    CHECK(s3_prober_next(wanted, 4, 2) == 2);
    CHECK(s3_prober_next(wanted, 4, 3) == 2);
    wanted[0] = wanted[1] = wanted[3] = true;
    for (size_t last = 0; last < 4; last++)
        CHECK(s3_prober_next(wanted, 4, last) == (last + 1) % 4);
}

/* Probes get no answer until so many have none at the same time. */
struct silence {
    unsigned until;
    struct mutex mutex;
    struct condition more;
    unsigned hanging; /* now */
    bool is_over;
};

static void silence_init(struct silence *silence, unsigned until)
{
    *silence = (struct silence){.until = until};
    mutex_init(&silence->mutex);
    condition_init(&silence->more);
}

static void silence_done(struct silence *silence)
{
    condition_done(&silence->more);
    mutex_done(&silence->mutex);
}

/* Returns whether it is over; else the client has gone. */
static bool hang(struct silence *silence, const struct s3_peer_request *request)
{
    bool is_over;

    mutex_lock(&silence->mutex);
    is_over = silence->is_over;
    silence->hanging += !is_over;
    if (silence->hanging >= silence->until)
        silence->is_over = true;
    condition_broadcast(&silence->more);
    mutex_unlock(&silence->mutex);
    if (is_over)
        return true;
    s3_peer_wait_until_gone(request);
    mutex_lock(&silence->mutex);
    silence->hanging--;
    mutex_unlock(&silence->mutex);
    return false;
}

static void script_silence(void *context, struct s3_peer *peer,
                           const struct s3_peer_request *request,
                           struct s3_peer_answer *answer)
{
    if (strcmp(request->method, "HEAD") != 0 || hang(context, request))
        s3_peer_serve(peer, request, answer);
}

TEST("an endpoint is found again while an older probe still gets no answer")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct silence silence;

    silence_init(&silence, 2);
    s3_peer_close_port(peer, 0);
    CHECK(put(store) == -EIO);
    s3_peer_set_script(peer, script_silence, &silence);
    s3_peer_open_port(peer, 0);
    put_until_taken(store);
    mutex_lock(&silence.mutex);
    CHECK(silence.is_over);
    mutex_unlock(&silence.mutex);
    store->close(store);
    s3_peer_stop(peer);
    silence_done(&silence);
}

TEST("many endpoints that keep silent are all probed at the same time")
{
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    struct s3_peer *peer = s3_peer_start(4);
    struct s3_peer_options options;
    struct object_store *store;
    struct silence silence;

    silence_init(&silence, UINT_MAX);
    s3_peer_fill_options(peer, &options);
    options.options.hosts = hosts;
    options.options.hosts_count = 2;
    CHECK(s3_store_open(&options.options, &store) == 0);
    for (size_t i = 0; i < 4; i++)
        s3_peer_close_port(peer, i);
    CHECK(put(store) == -EIO);
    s3_peer_set_script(peer, script_silence, &silence);
    for (size_t i = 0; i < 4; i++)
        s3_peer_open_port(peer, i);
    mutex_lock(&silence.mutex);
    while (silence.hanging < 8)
        condition_wait(&silence.more, &silence.mutex);
    mutex_unlock(&silence.mutex);
    store->close(store);
    s3_peer_stop(peer);
    silence_done(&silence);
}

/*
 * As behind a line on which an answer takes longer than a short probe: it comes
 * when two more have.  While a short one lasts there can be but a patient one.
 */
struct slow_line {
    struct mutex mutex;
    struct condition more;
    unsigned probes;
    bool is_over;
};

static void script_slow_line(void *context, struct s3_peer *peer,
                             const struct s3_peer_request *request,
                             struct s3_peer_answer *answer)
{
    struct slow_line *line = context;
    unsigned number;

    if (strcmp(request->method, "HEAD") == 0) {
        mutex_lock(&line->mutex);
        number = ++line->probes;
        condition_broadcast(&line->more);
        while (!line->is_over && line->probes < number + 2)
            condition_wait(&line->more, &line->mutex);
        mutex_unlock(&line->mutex);
    }
    s3_peer_serve(peer, request, answer);
}

TEST("an endpoint that answers no short probe is found by a patient one")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct slow_line line = {.probes = 0};

    mutex_init(&line.mutex);
    condition_init(&line.more);
    s3_peer_close_port(peer, 0);
    CHECK(put(store) == -EIO);
    s3_peer_set_script(peer, script_slow_line, &line);
    s3_peer_open_port(peer, 0);
    put_until_taken(store);
    mutex_lock(&line.mutex);
    CHECK(line.probes > 2);
    line.is_over = true;
    condition_broadcast(&line.more);
    mutex_unlock(&line.mutex);
    store->close(store);
    s3_peer_stop(peer);
    condition_done(&line.more);
    mutex_done(&line.mutex);
}

TEST("while one endpoint rests, requests go to the others")
{
    struct s3_peer *peer = s3_peer_start(3);
    struct object_store *store = s3_peer_open_store(peer);

    s3_peer_close_port(peer, 1);
    for (int i = 0; i < 20; i++)
        CHECK(put(store) == 0);
    CHECK(s3_peer_requests_at(peer, 1) == 0);
    CHECK(s3_peer_requests_at(peer, 0) + s3_peer_requests_at(peer, 2) == 20);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("a store is closed while its endpoints are probed")
{
    struct s3_peer *peer = s3_peer_start(3);
    struct object_store *store = s3_peer_open_store(peer);

    for (size_t i = 0; i < 3; i++)
        s3_peer_close_port(peer, i);
    CHECK(put(store) == -EIO);
    store->close(store);
    s3_peer_stop(peer);
}
