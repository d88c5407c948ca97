/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Most tests simulate a store and those who use it, event by event, in a time
 * of their own: the same in each run.
 */
#include "s3/s3_endpoint.h"

#include <inttypes.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/log.h"
#include "unit/test.h"

static const uint64_t MS = 1000000;
static const uint64_t S = 1000000000;
static const uint64_t MIB = 1 << 20;

enum {
    SERVERS = 4,
    WORKERS = 16,
    AT_ONCE = 8, /* requests that a server does without being slower */
    SEEDS = 40,  /* of stories that are told with other chances each time */
    /* As of s3_hedge. */
    BUDGET_OF_ATTEMPT = 20,
    BUDGET_MAX = 10 * BUDGET_OF_ATTEMPT,
};

/* ---- the simulation ----------------------------------------------------- */

enum mode {
    UP,
    REFUSING, /* no connection, those there are reset */
    SILENT,   /* takes requests and does not answer */
    FAILING,  /* answers 500 at once */
};

struct server {
    enum mode mode;
    uint64_t latency_ns;      /* of a request without bytes */
    uint64_t head_latency_ns; /* of a probe */
    unsigned fails_in_1000;
    unsigned in_flight;
    unsigned asked, answered; /* since clear_counts, without probes */
    unsigned probes;
};

/* One who asks, one request at a time; or the prober. */
struct worker {
    bool is_busy, is_waiting, is_put;
    struct s3_turn turn;
    struct s3_outcome outcome;
    uint64_t end_ns;
    uint64_t overdue_ns; /* when it is looked whether to ask elsewhere */
    size_t avoid;
    uint64_t random;
};

static struct simulation {
    struct s3_endpoints *set;
    uint64_t now_ns;
    uint64_t bytes[4]; /* of requests, one of these by chance */
    unsigned puts_in_8;
    size_t servers_count, workers_count;
    struct server servers[SERVERS];
    struct worker workers[WORKERS], prober;
    unsigned answered;
    uint64_t changes;
    bool is_noisy;       /* the host is busy, and so are the servers */
    uint64_t overdue_ns; /* who waits longer asks elsewhere; 0: never */
    unsigned budget;     /* for asking elsewhere */
} sim;

static uint64_t seed; /* of all chances */

static const uint64_t SILENCE_NS = UINT64_C(10000000000);

static uint64_t chance(struct worker *worker)
{
    worker->random = worker->random * UINT64_C(6364136223846793005) +
                     UINT64_C(1442695040888963407);
    return worker->random >> 33;
}

static void begin_simulation(size_t servers, size_t workers)
{
    static const char *const hosts[] = {"a.test", "b.test", "c.test", "d.test"};
    static const uint16_t ports[] = {443};
    const struct s3_endpoints_options options = {hosts, servers, ports, 1,
                                                 42 + seed};

    memset(&sim, 0, sizeof(sim));
    log_set_level(LOG_LEVEL_ERROR);
    sim.now_ns = 1000 * S;
    clock_set_for_tests(sim.now_ns);
    sim.servers_count = servers;
    sim.workers_count = workers;
    for (size_t i = 0; i < servers; i++)
        sim.servers[i] =
            (struct server){.latency_ns = 30 * MS, .head_latency_ns = 20 * MS};
    for (size_t i = 0; i < workers; i++)
        sim.workers[i] =
            (struct worker){.avoid = S3_ENDPOINT_NONE,
                            .random = i + 1 + seed * UINT64_C(0x9e3779b97f4a)};
    if (!CHECK(s3_endpoints_new(&options, &sim.set) == 0))
        abort();
    sim.changes = s3_endpoints_changes(sim.set);
}

static void end_simulation(void)
{
    s3_endpoints_free(sim.set);
    clock_set_for_tests(0);
    log_set_level(LOG_LEVEL_INFO);
}

static void clear_counts(void)
{
    sim.answered = 0;
    for (size_t i = 0; i < sim.servers_count; i++)
        sim.servers[i].asked = sim.servers[i].answered = sim.servers[i].probes =
            0;
}

/*
 * One of those who stand still now and then, the host of the client or a
 * server: five times a second for up to 30 ms, mostly for less.  What would
 * end meanwhile ends together, behind it.
 */
static uint64_t behind_standstill(uint64_t who, uint64_t end_ns)
{
    uint64_t slot = end_ns / (200 * MS);
    struct worker dice = {.random = (seed << 40) ^ (slot << 8) ^ who};
    uint64_t begin_ns, until_ns;

    (void)chance(&dice);
    begin_ns = slot * 200 * MS + chance(&dice) % (170 * MS);
    until_ns = begin_ns + 30 * MS / (1 + chance(&dice) % 10);
    return end_ns >= begin_ns && end_ns < until_ns ? until_ns : end_ns;
}

/* When it ends on a busy host what would end then on one that has nothing
 * else to do. */
static uint64_t with_noise(struct worker *worker, size_t server,
                           uint64_t end_ns)
{
    if (chance(worker) % 20 == 0)
        end_ns += 30 * MS / (1 + chance(worker) % 16);
    return behind_standstill(SERVERS, behind_standstill(server, end_ns));
}

/* How a request that begins now will end, as things stand. */
static void foresee(struct worker *worker, const struct server *server,
                    uint64_t latency_ns, uint64_t bytes)
{
    unsigned crowd = server->in_flight > AT_ONCE ? server->in_flight : AT_ONCE;
    uint64_t took_ns = latency_ns * (700 + chance(worker) % 600) / 1000;

    if (chance(worker) % 100 == 0)
        took_ns *= 10; /* the tail that every store has */
    took_ns += latency_ns * bytes / MIB;
    took_ns = took_ns * crowd / AT_ONCE;
    worker->outcome = (struct s3_outcome){.health = S3_HEALTH_ANSWERED};
    if (chance(worker) % 1000 < server->fails_in_1000) {
        worker->outcome.health =
            chance(worker) % 2 ? S3_HEALTH_BROKEN : S3_HEALTH_SERVER_ERROR;
    } else if (server->mode == REFUSING) {
        worker->outcome.health = S3_HEALTH_UNREACHABLE;
        took_ns = MS;
    } else if (server->mode == SILENT) {
        worker->outcome.health = S3_HEALTH_BROKEN;
        took_ns = SILENCE_NS;
    } else if (server->mode == FAILING) {
        worker->outcome.health = S3_HEALTH_SERVER_ERROR;
        took_ns = MS;
    }
    if (worker->outcome.health == S3_HEALTH_ANSWERED)
        worker->outcome.latency_ns = took_ns;
    worker->end_ns = sim.now_ns + took_ns;
    if (sim.is_noisy)
        worker->end_ns = with_noise(worker, worker->turn.index, worker->end_ns);
    worker->overdue_ns =
        sim.overdue_ns > 0 ? sim.now_ns + sim.overdue_ns : UINT64_MAX;
    if (sim.budget < BUDGET_MAX)
        sim.budget++;
    worker->is_busy = true;
}

static void begin_request(struct worker *worker)
{
    uint64_t bytes = sim.bytes[chance(worker) % 4];
    struct server *server;

    worker->is_put = chance(worker) % 8 < sim.puts_in_8;
    worker->is_waiting =
        s3_endpoints_choose(sim.set, worker->avoid, worker->is_put, bytes,
                            sim.now_ns, &worker->turn) != 0;
    if (worker->is_waiting)
        return;
    server = &sim.servers[worker->turn.index];
    server->asked++;
    server->in_flight++;
    foresee(worker, server, server->latency_ns * (worker->is_put ? 5 : 1),
            bytes);
}

static void end_request(struct worker *worker)
{
    struct server *server = &sim.servers[worker->turn.index];
    bool is_answered = worker->outcome.health == S3_HEALTH_ANSWERED;

    worker->is_busy = false;
    server->in_flight--;
    s3_endpoints_done(sim.set, &worker->turn, &worker->outcome, sim.now_ns);
    worker->avoid = is_answered ? S3_ENDPOINT_NONE : worker->turn.index;
    if (worker == &sim.prober)
        return;
    server->answered += is_answered;
    sim.answered += is_answered;
}

/* Who waits for too long asks elsewhere, if that may be: as of s3_hedge. */
static void look_at_overdue(struct worker *worker)
{
    bool is_left =
        s3_endpoints_is_left(sim.set, worker->turn.index, sim.now_ns);

    if (!is_left && sim.budget < BUDGET_OF_ATTEMPT) {
        worker->overdue_ns += sim.overdue_ns;
        return;
    }
    if (!is_left)
        sim.budget -= BUDGET_OF_ATTEMPT;
    worker->outcome = (struct s3_outcome){.health = S3_HEALTH_ABANDONED};
    end_request(worker);
}

/* Begin the probe that is due; returns when to ask again. */
static uint64_t begin_probe(void)
{
    struct worker *prober = &sim.prober;
    uint64_t wait_ns = s3_endpoints_probe(sim.set, sim.now_ns, &prober->turn);
    struct server *server = &sim.servers[prober->turn.index];

    if (wait_ns > 0)
        return wait_ns < UINT64_MAX ? sim.now_ns + wait_ns : UINT64_MAX;
    server->probes++;
    server->in_flight++;
    foresee(prober, server, server->head_latency_ns, 0);
    prober->overdue_ns = UINT64_MAX;
    if (prober->end_ns > sim.now_ns + S3_PROBE_NS) {
        prober->end_ns = sim.now_ns + S3_PROBE_NS;
        prober->outcome.health = S3_HEALTH_BROKEN;
        prober->outcome.latency_ns = 0;
    }
    return UINT64_MAX;
}

/* Let all who can begin; returns when something happens next. */
static uint64_t begin_all(void)
{
    uint64_t changes = s3_endpoints_changes(sim.set), next_ns = UINT64_MAX;

    for (size_t i = 0; i < sim.workers_count; i++) {
        struct worker *worker = &sim.workers[i];

        if (!worker->is_busy && (!worker->is_waiting || changes != sim.changes))
            begin_request(worker);
        if (worker->is_busy && worker->end_ns < next_ns)
            next_ns = worker->end_ns;
        if (worker->is_busy && worker->overdue_ns < next_ns)
            next_ns = worker->overdue_ns;
    }
    sim.changes = changes;
    if (!sim.prober.is_busy) {
        uint64_t due_ns = begin_probe();

        if (due_ns < next_ns)
            next_ns = due_ns;
    }
    if (sim.prober.is_busy && sim.prober.end_ns < next_ns)
        next_ns = sim.prober.end_ns;
    return next_ns;
}

static void run_for(uint64_t ns)
{
    uint64_t until_ns = sim.now_ns + ns;

    for (;;) {
        uint64_t next_ns = begin_all();

        if (next_ns > until_ns)
            break;
        sim.now_ns = next_ns;
        clock_set_for_tests(next_ns);
        for (size_t i = 0; i < sim.workers_count; i++) {
            struct worker *worker = &sim.workers[i];

            if (worker->is_busy && worker->end_ns <= next_ns)
                end_request(worker);
            else if (worker->is_busy && worker->overdue_ns <= next_ns)
                look_at_overdue(worker);
        }
        if (sim.prober.is_busy && sim.prober.end_ns <= next_ns)
            end_request(&sim.prober);
    }
    sim.now_ns = until_ns;
    clock_set_for_tests(until_ns);
}

/* Change what a server does, also to those who wait for it. */
static void set_mode(size_t index, enum mode mode)
{
    sim.servers[index].mode = mode;
    for (size_t i = 0; i <= sim.workers_count; i++) {
        struct worker *worker =
            i < sim.workers_count ? &sim.workers[i] : &sim.prober;

        if (!worker->is_busy || worker->turn.index != index || mode == UP)
            continue;
        worker->outcome = (struct s3_outcome){.health = S3_HEALTH_BROKEN};
        if (mode == REFUSING)
            worker->end_ns = sim.now_ns;
        else if (mode == SILENT && worker != &sim.prober)
            worker->end_ns = worker->turn.started_ns + SILENCE_NS;
    }
}

static void set_latency(size_t index, uint64_t latency_ns)
{
    sim.servers[index].latency_ns = latency_ns;
    sim.servers[index].head_latency_ns = latency_ns * 2 / 3;
}

/* Run for so long, and return the answers in each second, in thousandths. */
static unsigned rate_of(uint64_t ns)
{
    clear_counts();
    run_for(ns);
    return (unsigned)(sim.answered * 1000 * S / ns);
}

/* The share of the requests that this server got, in percent. */
static unsigned share_of(size_t index)
{
    unsigned asked = 0;

    for (size_t i = 0; i < sim.servers_count; i++)
        asked += sim.servers[i].asked;
    return asked > 0 ? sim.servers[index].asked * 100 / asked : 0;
}

/* ---- stories ------------------------------------------------------------ */

TEST("endpoints that are alike get equal shares")
{
    for (size_t count = 1; count <= SERVERS; count++) {
        begin_simulation(count, WORKERS);
        clear_counts();
        run_for(60 * S);
        for (size_t i = 0; i < count; i++) {
            CHECK(share_of(i) >= 100 / count - 3);
            CHECK(share_of(i) <= 100 / count + 3);
            CHECK(sim.servers[i].probes <= 60);
        }
        end_simulation();
    }
}

TEST("one at a time, they take turns")
{
    for (size_t count = 2; count <= SERVERS; count++) {
        begin_simulation(count, 1);
        clear_counts();
        run_for(600 * S);
        for (size_t i = 0; i < count; i++) {
            CHECK(share_of(i) >= 80 / count);
            CHECK(share_of(i) <= 120 / count);
        }
        end_simulation();
    }
}

TEST("one of two refuses: the other does all, and it is used again within 2 s")
{
    /* However long it was away. */
    static const uint64_t away_ms[] = {100, 700, 3000, 30000, 300000};

    for (size_t i = 0; i < sizeof(away_ms) / sizeof(away_ms[0]); i++) {
        unsigned normal, lone, again;

        begin_simulation(2, WORKERS);
        run_for(10 * S);
        normal = rate_of(20 * S);
        set_mode(1, REFUSING);
        lone = rate_of(away_ms[i] * MS);
        CHECK(away_ms[i] < 1000 || lone >= normal * 4 / 10);
        /* The first is refused, and then a probe now and then. */
        CHECK(sim.servers[1].asked <= 2);
        CHECK(sim.servers[1].probes <= away_ms[i] / 1000 + 6);
        set_mode(1, UP);
        run_for(2 * S);
        again = rate_of(20 * S);
        CHECK(again >= normal * 95 / 100);
        CHECK(share_of(1) >= 45 && share_of(1) <= 55);
        end_simulation();
    }
}

TEST("one of two is silent: few requests hang, and it is used again within 2 s")
{
    static const uint64_t away_ms[] = {500, 3000, 30000, 300000};

    for (seed = 0; seed < SEEDS; seed++) {
        uint64_t away = away_ms[seed % 4];
        unsigned normal, lone, again;

        begin_simulation(2, WORKERS);
        sim.overdue_ns = 200 * MS;
        run_for(10 * S);
        normal = rate_of(20 * S);
        set_mode(1, SILENT);
        lone = rate_of(away * MS);
        CHECK(away < 1000 || lone >= normal * 4 / 10);
        /* Before the silence was noticed; then for want of a third one, if
         * the other took long, until the silent one rests. */
        CHECK(sim.servers[1].asked <= 24);
        set_mode(1, UP);
        run_for(2 * S);
        again = rate_of(20 * S);
        CHECK(share_of(1) >= 40 && share_of(1) <= 60);
        CHECK(again >= normal * 90 / 100);
        end_simulation();
    }
    seed = 0;
}

TEST("one of two is 100 times slower: it gets few requests, until it is not")
{
    static const uint64_t away_ms[] = {1000, 5000, 30000, 300000};

    for (size_t i = 0; i < sizeof(away_ms) / sizeof(away_ms[0]); i++) {
        unsigned normal, lone, again;

        begin_simulation(2, WORKERS);
        run_for(10 * S);
        normal = rate_of(20 * S);
        set_latency(1, 3000 * MS);
        lone = rate_of(away_ms[i] * MS);
        CHECK(lone >= normal * 4 / 10);
        CHECK(sim.servers[1].asked <= WORKERS);
        CHECK(sim.servers[1].probes <= away_ms[i] / 500 + 3);
        set_latency(1, 30 * MS);
        run_for(2 * S);
        again = rate_of(20 * S);
        CHECK(share_of(1) >= 40 && share_of(1) <= 60);
        CHECK(again >= normal * 85 / 100);
        end_simulation();
    }
}

TEST("one of two is 10 times slower, and fast again within 2 s")
{
    unsigned normal;

    begin_simulation(2, WORKERS);
    run_for(10 * S);
    normal = rate_of(20 * S);
    set_latency(1, 300 * MS);
    CHECK(rate_of(30 * S) >= normal * 4 / 10);
    CHECK(share_of(1) <= 1);
    set_latency(1, 30 * MS);
    run_for(2 * S);
    CHECK(rate_of(20 * S) >= normal * 95 / 100);
    CHECK(share_of(1) >= 45);
    end_simulation();
}

TEST("one that is 3 times slower gets its share, which is the smaller one")
{
    begin_simulation(2, WORKERS);
    set_latency(1, 90 * MS);
    run_for(10 * S);
    clear_counts();
    run_for(60 * S);
    CHECK(share_of(1) >= 5 && share_of(1) <= 30);
    end_simulation();
}

TEST("one whose probes are quick and whose requests are not gets few of them")
{
    begin_simulation(2, WORKERS);
    run_for(10 * S);
    sim.servers[1].latency_ns = 3000 * MS;
    clear_counts();
    run_for(120 * S);
    CHECK(share_of(1) <= 2);
    set_latency(1, 30 * MS);
    run_for(8 * S);
    clear_counts();
    run_for(5 * S);
    CHECK(share_of(1) >= 45);
    end_simulation();
}

TEST("one of two fails each request: it rests, and comes back within 2 s")
{
    unsigned normal;

    begin_simulation(2, WORKERS);
    run_for(10 * S);
    normal = rate_of(20 * S);
    set_mode(1, FAILING);
    CHECK(rate_of(30 * S) >= normal * 4 / 10);
    CHECK(sim.servers[1].asked <= 6);
    set_mode(1, UP);
    run_for(2 * S);
    CHECK(rate_of(20 * S) >= normal * 95 / 100);
    end_simulation();
}

TEST("all are gone: nobody is asked but by probes; all are back within 2 s")
{
    unsigned normal;

    begin_simulation(4, WORKERS);
    run_for(10 * S);
    normal = rate_of(20 * S);
    for (size_t i = 0; i < 4; i++)
        set_mode(i, REFUSING);
    clear_counts();
    run_for(60 * S);
    CHECK(sim.answered == 0);
    for (size_t i = 0; i < 4; i++) {
        CHECK(sim.servers[i].asked <= WORKERS);
        CHECK(sim.servers[i].probes >= 30 && sim.servers[i].probes <= 66);
        set_mode(i, UP);
    }
    run_for(2 * S);
    CHECK(rate_of(20 * S) >= normal * 95 / 100);
    for (size_t i = 0; i < 4; i++)
        CHECK(share_of(i) >= 20 && share_of(i) <= 30);
    end_simulation();
}

TEST("all are silent for a while, and work again within 2 s")
{
    unsigned normal;

    begin_simulation(2, WORKERS);
    run_for(10 * S);
    normal = rate_of(20 * S);
    set_mode(0, SILENT);
    set_mode(1, SILENT);
    run_for(60 * S);
    set_mode(0, UP);
    set_mode(1, UP);
    run_for(2 * S);
    CHECK(rate_of(20 * S) >= normal * 95 / 100);
    end_simulation();
}

TEST("failures now and then are no reason to rest")
{
    unsigned normal;

    begin_simulation(2, WORKERS);
    run_for(10 * S);
    normal = rate_of(60 * S);
    sim.servers[0].fails_in_1000 = sim.servers[1].fails_in_1000 = 20;
    CHECK(rate_of(60 * S) >= normal * 95 / 100);
    CHECK(sim.servers[0].probes + sim.servers[1].probes <= 10);
    end_simulation();
}

TEST("requests of all sizes, up and down, make no endpoint slow")
{
    begin_simulation(2, WORKERS);
    sim.bytes[0] = 4096;
    sim.bytes[1] = 64 << 10;
    sim.bytes[2] = MIB;
    sim.bytes[3] = 8 * MIB;
    sim.puts_in_8 = 4;
    run_for(10 * S);
    clear_counts();
    run_for(120 * S);
    CHECK(share_of(0) >= 45 && share_of(0) <= 55);
    CHECK(sim.servers[0].probes + sim.servers[1].probes <= 12);
    end_simulation();
}

TEST("uploads alone: one that is 100 times slower gets few, until it is not")
{
    unsigned normal;

    begin_simulation(2, WORKERS);
    sim.puts_in_8 = 8;
    sim.bytes[3] = 4 * MIB;
    run_for(20 * S);
    normal = rate_of(60 * S);
    set_latency(1, 3000 * MS);
    CHECK(rate_of(200 * S) >= normal * 4 / 10);
    CHECK(sim.servers[1].asked <= 24);
    set_latency(1, 30 * MS);
    run_for(2 * S);
    CHECK(rate_of(20 * S) >= normal * 90 / 100);
    CHECK(share_of(1) >= 35);
    end_simulation();
}

/* ---- on a busy host ----------------------------------------------------- */

/* Two that answer within a millisecond or two, but for the noise. */
static void begin_noisy(size_t workers)
{
    begin_simulation(2, workers);
    set_latency(0, 3 * MS / 2);
    set_latency(1, 3 * MS / 2);
    sim.is_noisy = true;
    sim.overdue_ns = 50 * MS;
    sim.budget = BUDGET_MAX;
}

/* Have one taken for slow that is not, by requests that took so long. */
static void mark_slow(size_t index, uint64_t took_ns)
{
    struct s3_turn turns[8];
    const struct s3_outcome outcome = {.health = S3_HEALTH_ANSWERED,
                                       .latency_ns = took_ns};

    for (size_t i = 0; i < 8; i++)
        CHECK(s3_endpoints_choose(sim.set, 1 - index, false, 0,
                                  sim.now_ns - took_ns, &turns[i]) == 0);
    for (size_t i = 0; i < 8; i++)
        s3_endpoints_done(sim.set, &turns[i], &outcome, sim.now_ns);
    CHECK(s3_endpoints_is_left(sim.set, index, sim.now_ns));
}

TEST("noise makes no endpoint slow")
{
    static const size_t workers[] = {1, 8, 16};

    for (seed = 0; seed < SEEDS; seed++) {
        begin_noisy(workers[seed % 3]);
        run_for(10 * S);
        CHECK(s3_endpoints_changes(sim.set) == 0);
        end_simulation();
    }
    seed = 0;
}

TEST("in noise, one that is 100 times slower is left after a few requests")
{
    for (seed = 0; seed < SEEDS; seed++) {
        size_t ill = seed % 2;
        unsigned normal, lone;

        begin_noisy(8);
        run_for(3 * S);
        normal = rate_of(3 * S);
        set_latency(ill, 150 * MS);
        lone = rate_of(3 * S);
        CHECK(lone >= normal * 6 / 10);
        CHECK(sim.servers[ill].asked <= 24);
        set_latency(ill, 3 * MS / 2);
        run_for(2 * S);
        (void)rate_of(3 * S);
        CHECK(share_of(ill) >= 30 && share_of(ill) <= 70);
        end_simulation();
    }
    seed = 0;
}

TEST("in noise, one that is 10 times slower is left within 2 s")
{
    for (seed = 0; seed < SEEDS; seed++) {
        size_t ill = seed % 2;
        unsigned normal;

        begin_noisy(8);
        run_for(3 * S);
        normal = rate_of(3 * S);
        set_latency(ill, 15 * MS);
        run_for(2 * S);
        CHECK(rate_of(3 * S) >= normal * 6 / 10);
        CHECK(share_of(ill) <= 10);
        end_simulation();
    }
    seed = 0;
}

TEST("one falls silent: who waits there asks the other, even if that is slow")
{
    for (seed = 0; seed < SEEDS; seed++) {
        static const size_t workers[] = {1, 3, 8, 16};
        size_t ill = seed % 2;
        unsigned normal;

        begin_noisy(workers[seed / 4 % 4]);
        run_for(3 * S);
        normal = rate_of(3 * S);
        /* The other one has only just been taken for slow. */
        if (seed / 2 % 2)
            mark_slow(1 - ill, 150 * MS);
        set_mode(ill, SILENT);
        run_for(S / 2);
        CHECK(rate_of(5 * S) >= normal * 4 / 10);
        set_mode(ill, UP);
        run_for(2 * S);
        CHECK(rate_of(3 * S) >= normal * 75 / 100);
        CHECK(share_of(ill) >= 30 && share_of(ill) <= 70);
        end_simulation();
    }
    seed = 0;
}

TEST("one is slow, the other falls silent: the slow one does what it can")
{
    for (seed = 0; seed < SEEDS; seed++) {
        static const unsigned latencies_ms[] = {20, 60, 150};
        unsigned latency_ms = latencies_ms[seed / 2 % 3];
        size_t ill = seed % 2;

        begin_noisy(8);
        run_for(3 * S);
        set_latency(1 - ill, latency_ms * MS);
        run_for(3 * S);
        set_mode(ill, SILENT);
        run_for(3 * S / 2);
        /* Of eight at a time that take so long; in thousandths. */
        CHECK(rate_of(5 * S) >= 8 * 1000 * 1000 / latency_ms * 4 / 10);
        end_simulation();
    }
    seed = 0;
}

/* ---- one thing at a time ------------------------------------------------ */

/* A set of two, and the time at which it was made. */
static struct s3_endpoints *new_pair(uint64_t *ret_now_ns)
{
    begin_simulation(2, 0);
    *ret_now_ns = sim.now_ns;
    return sim.set;
}

static void done(struct s3_endpoints *set, const struct s3_turn *turn,
                 enum s3_health health, uint64_t now_ns)
{
    const struct s3_outcome outcome = {.health = health, .text = "in a test"};

    s3_endpoints_done(set, turn, &outcome, now_ns);
}

/* Have an endpoint rest. */
static void rest(struct s3_endpoints *set, size_t index, uint64_t now_ns)
{
    struct s3_turn turn;

    CHECK(s3_endpoints_choose(set, 1 - index, false, 0, now_ns, &turn) == 0);
    CHECK(turn.index == index);
    done(set, &turn, S3_HEALTH_UNREACHABLE, now_ns);
}

TEST("each host with each port is an endpoint, IPv6 is in brackets")
{
    static const char *const hosts[] = {"s3.test", "2001:db8::1"};
    static const uint16_t ports[] = {80, 7480, 65535};
    const struct s3_endpoints_options options = {hosts, 2, ports, 3, 0};
    struct s3_endpoints *set = NULL;

    NEED(s3_endpoints_new(&options, &set) == 0);
    CHECK(s3_endpoints_count(set) == 6);
    CHECK(strcmp(s3_endpoints_host(set, 0), "s3.test") == 0);
    CHECK(strcmp(s3_endpoints_host(set, 5), "2001:db8::1") == 0);
    CHECK(s3_endpoints_port(set, 0) == 80);
    CHECK(s3_endpoints_port(set, 4) == 7480);
    CHECK(strcmp(s3_endpoints_name(set, 1), "s3.test:7480") == 0);
    CHECK(strcmp(s3_endpoints_name(set, 5), "[2001:db8::1]:65535") == 0);
    s3_endpoints_free(set);
    s3_endpoints_free(NULL);
}

TEST("the one to be avoided is chosen only when no other is well")
{
    uint64_t now_ns;
    struct s3_endpoints *set = new_pair(&now_ns);
    struct s3_turn turn;

    for (unsigned i = 0; i < 20; i++) {
        CHECK(s3_endpoints_choose(set, i % 2, false, 0, now_ns, &turn) == 0);
        CHECK(turn.index == 1 - i % 2);
        done(set, &turn, S3_HEALTH_ANSWERED, now_ns + MS);
    }
    rest(set, 1, now_ns);
    CHECK(s3_endpoints_choose(set, 0, false, 0, now_ns, &turn) == 0);
    CHECK(turn.index == 0);
    done(set, &turn, S3_HEALTH_ANSWERED, now_ns + MS);
    end_simulation();
}

TEST("when all rest nobody is chosen, and a probe is due soon")
{
    uint64_t now_ns, wait_ns;
    struct s3_endpoints *set = new_pair(&now_ns);
    struct s3_turn turn, probe;

    CHECK(s3_endpoints_probe(set, now_ns, &probe) == UINT64_MAX);
    rest(set, 0, now_ns);
    rest(set, 1, now_ns);
    CHECK(s3_endpoints_choose(set, S3_ENDPOINT_NONE, false, 0, now_ns, &turn) ==
          -EHOSTDOWN);
    CHECK(s3_endpoints_choose(set, 1, false, 0, now_ns, &turn) == -EHOSTDOWN);
    wait_ns = s3_endpoints_probe(set, now_ns, &probe);
    CHECK(wait_ns > 0 && wait_ns <= 50 * MS);
    CHECK(s3_endpoints_probe(set, now_ns + wait_ns, &probe) == 0);
    done(set, &probe, S3_HEALTH_ANSWERED, now_ns + 60 * MS);
    CHECK(s3_endpoints_choose(set, S3_ENDPOINT_NONE, false, 0, now_ns + 60 * MS,
                              &turn) == 0);
    CHECK(turn.index == probe.index);
    done(set, &turn, S3_HEALTH_ANSWERED, now_ns + 70 * MS);
    end_simulation();
}

TEST("an endpoint is probed by one at a time, several by several")
{
    uint64_t now_ns;
    struct s3_endpoints *set = new_pair(&now_ns);
    struct s3_turn one, two, three;

    rest(set, 0, now_ns);
    rest(set, 1, now_ns);
    now_ns += S;
    CHECK(s3_endpoints_probe(set, now_ns, &one) == 0);
    CHECK(s3_endpoints_probe(set, now_ns, &two) == 0);
    CHECK(one.index != two.index);
    CHECK(s3_endpoints_probe(set, now_ns, &three) == UINT64_MAX);
    done(set, &one, S3_HEALTH_UNREACHABLE, now_ns);
    done(set, &two, S3_HEALTH_ABANDONED, now_ns);
    CHECK(s3_endpoints_probe(set, now_ns, &three) <= 100 * MS);
    CHECK(s3_endpoints_probe(set, now_ns + 100 * MS, &three) == 0);
    done(set, &three, S3_HEALTH_ABANDONED, now_ns + 100 * MS);
    end_simulation();
}

TEST("a slow endpoint is better than none")
{
    uint64_t now_ns;
    struct s3_endpoints *set = new_pair(&now_ns);
    struct s3_turn turn, turns[3];

    for (unsigned i = 0; i < 20; i++) {
        CHECK(s3_endpoints_choose(set, 1, false, 0, now_ns, &turn) == 0);
        now_ns += MS;
        done(set, &turn, S3_HEALTH_ANSWERED, now_ns);
    }
    for (unsigned i = 0; i < 3; i++)
        CHECK(s3_endpoints_choose(set, 0, false, 0, now_ns, &turns[i]) == 0);
    now_ns += S;
    /* It has owed answers for a second: now it is slow. */
    for (unsigned i = 0; i < 5; i++) {
        CHECK(s3_endpoints_choose(set, S3_ENDPOINT_NONE, false, 0, now_ns,
                                  &turn) == 0);
        CHECK(turn.index == 0);
        done(set, &turn, S3_HEALTH_ANSWERED, now_ns + MS);
    }
    CHECK(s3_endpoints_is_left(set, 1, now_ns) &&
          !s3_endpoints_is_left(set, 0, now_ns));
    CHECK(s3_endpoints_choose(set, 0, false, 0, now_ns, &turn) == 0);
    CHECK(turn.index == 1);
    done(set, &turn, S3_HEALTH_ABANDONED, now_ns);
    rest(set, 0, now_ns);
    CHECK(s3_endpoints_is_left(set, 0, now_ns) &&
          !s3_endpoints_is_left(set, 1, now_ns));
    CHECK(s3_endpoints_choose(set, 1, false, 0, now_ns, &turn) == 0);
    CHECK(turn.index == 1);
    done(set, &turn, S3_HEALTH_UNREACHABLE, now_ns);
    /* There is nowhere else to go. */
    CHECK(!s3_endpoints_is_left(set, 0, now_ns) &&
          !s3_endpoints_is_left(set, 1, now_ns));
    for (unsigned i = 0; i < 3; i++)
        done(set, &turns[i], S3_HEALTH_ABANDONED, now_ns);
    end_simulation();
}

TEST("throttling and being given up are no failures")
{
    uint64_t now_ns;
    struct s3_endpoints *set = new_pair(&now_ns);
    struct s3_turn turn;

    for (unsigned i = 0; i < 10; i++) {
        CHECK(s3_endpoints_choose(set, 1, false, 0, now_ns, &turn) == 0);
        CHECK(turn.index == 0);
        done(set, &turn, i % 2 ? S3_HEALTH_THROTTLED : S3_HEALTH_ABANDONED,
             now_ns);
    }
    CHECK(s3_endpoints_changes(set) == 0);
    end_simulation();
}

struct waiting {
    pthread_t thread;
    struct s3_endpoints *set;
    uint64_t changes;
    int error;
};

static void *wait_for_change(void *context)
{
    struct waiting *waiting = context;

    waiting->error =
        s3_endpoints_wait(waiting->set, waiting->changes, UINT64_MAX);
    return NULL;
}

TEST("who waits is woken when an endpoint rests, and when it is back")
{
    uint64_t now_ns;
    struct s3_endpoints *set = new_pair(&now_ns);
    struct waiting waiting = {.set = set, .changes = 0, .error = 1};
    struct s3_turn probe;

    CHECK(s3_endpoints_changes(set) == 0);
    CHECK(s3_endpoints_wait(set, 0, 1) == -ETIMEDOUT);
    NEED(pthread_create(&waiting.thread, NULL, wait_for_change, &waiting) == 0);
    rest(set, 0, now_ns);
    CHECK(pthread_join(waiting.thread, NULL) == 0);
    CHECK(waiting.error == 0);

    waiting.changes = s3_endpoints_changes(set);
    CHECK(s3_endpoints_wait(set, waiting.changes - 1, 1) == 0);
    NEED(pthread_create(&waiting.thread, NULL, wait_for_change, &waiting) == 0);
    CHECK(s3_endpoints_probe(set, now_ns + S, &probe) == 0);
    done(set, &probe, S3_HEALTH_ANSWERED, now_ns + S);
    CHECK(pthread_join(waiting.thread, NULL) == 0);
    CHECK(waiting.error == 0);
    end_simulation();
}

TEST("interrupted, nobody waits any more")
{
    uint64_t now_ns;
    struct s3_endpoints *set = new_pair(&now_ns);
    struct waiting waiting = {.set = set, .changes = 0, .error = 1};

    NEED(pthread_create(&waiting.thread, NULL, wait_for_change, &waiting) == 0);
    s3_endpoints_interrupt(set);
    CHECK(pthread_join(waiting.thread, NULL) == 0);
    CHECK(waiting.error == -ECANCELED);
    CHECK(s3_endpoints_wait(set, 0, UINT64_MAX) == -ECANCELED);
    end_simulation();
}

/* Whether the text begins with the first piece, has all in their order, up to
 * a NULL, and ends with the last. */
static bool has_pieces(const char *text, const char *const pieces[])
{
    size_t len = 0;

    if (strncmp(text, pieces[0], strlen(pieces[0])) != 0)
        return false;
    for (size_t i = 0; pieces[i]; i++) {
        text = strstr(text + len, pieces[i]);
        if (!text)
            return false;
        len = strlen(pieces[i]);
    }
    return text[len] == '\0';
}

TEST("the description is JSON with a member for each endpoint")
{
    /* Between them are percentiles, which are not exact. */
    static const char *const pieces[] = {
        "{\"endpoints\": [{\"host\": \"a.test\", \"port\": 443, "
        "\"state\": \"healthy\", \"state_since_ns\": 1000000000000, "
        "\"requests\": 1, \"errors\": 0, \"throttled\": 0, \"rests\": 0, "
        "\"bytes_up\": 7, \"bytes_down\": 4096, \"in_flight\": 1, "
        "\"latency_p50_ns\": 3",
        ", \"latency_p99_ns\": 3",
        ", \"latency_sum_ns\": 30000000, "
        "\"latency_buckets\": [{\"le_ns\": 33554431, \"count\": 1}], "
        "\"last_error\": \"\", \"last_error_ns\": 0}, "
        "{\"host\": \"b.test\", \"port\": 443, \"state\": \"resting\", "
        "\"state_since_ns\": 1002000000000, \"requests\": 1, "
        "\"errors\": 1, \"throttled\": 0, \"rests\": 1, \"bytes_up\": 0, "
        "\"bytes_down\": 0, \"in_flight\": 0, \"latency_p50_ns\": 0, "
        "\"latency_p99_ns\": 0, \"latency_sum_ns\": 0, "
        "\"latency_buckets\": [], "
        "\"last_error\": \"\\\"\\ufffd\\u000a\", "
        "\"last_error_ns\": 1002000000000}]}",
        NULL,
    };
    uint64_t now_ns;
    struct s3_endpoints *set = new_pair(&now_ns);
    struct s3_outcome outcome = {.health = S3_HEALTH_ANSWERED,
                                 .latency_ns = 30 * MS,
                                 .bytes_up = 7,
                                 .bytes_down = 4096};
    struct s3_turn turn;
    char *text;

    CHECK(s3_endpoints_choose(set, 1, false, 4096, now_ns, &turn) == 0);
    s3_endpoints_done(set, &turn, &outcome, now_ns + 30 * MS);
    outcome = (struct s3_outcome){.health = S3_HEALTH_UNREACHABLE,
                                  .text = "\"\xff\n"};
    CHECK(s3_endpoints_choose(set, 0, false, 4096, now_ns, &turn) == 0);
    s3_endpoints_done(set, &turn, &outcome, now_ns + 2 * S);
    /* Both clocks stand still at the same number. */
    clock_set_for_tests(now_ns + 3 * S);
    CHECK(s3_endpoints_choose(set, 1, false, 0, now_ns, &turn) == 0);
    text = s3_endpoints_describe(set, now_ns + 3 * S);
    done(set, &turn, S3_HEALTH_ABANDONED, now_ns);
    NEED(text != NULL);
    CHECK(has_pieces(text, pieces));
    free(text);
    end_simulation();
}
