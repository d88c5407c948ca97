/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several connections at once over a device that answers from threads of its
 * own: overlapping reads, writes and flushes, clients that leave without a
 * word, and a stop in the middle of it.  For the thread sanitizer; what is
 * checked beside is that every reply belongs to a request, and that a page is
 * never a mixture of two writes.
 */
/* links: memory_device */
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "unit/test.h"

enum { CLIENTS = 4, ROUNDS = 60, DEPTH = 32, PAGE = 4096, PAGES = 64 };

struct traffic {
    const struct nbd_fixture *fixture;
    unsigned seed;
    enum nbd_client_mode mode;
    bool leaves;           /* without reading the replies, now and then */
    atomic_bool *stopping; /* an end of the connection is expected then */
    bool ok;
};

/* A generator of its own for each thread. */
static unsigned next_number(unsigned *seed)
{
    *seed = *seed * 1103515245 + 12345;
    return *seed >> 8;
}

/* Whether all of a page was written by the same request. */
static bool is_one_page(const uint8_t *page)
{
    for (size_t i = 1; i < PAGE; i++) {
        if (page[i] != page[0])
            return false;
    }
    return true;
}

static bool send_some(struct traffic *traffic, struct nbd_client *client,
                      uint16_t types[DEPTH])
{
    static const uint16_t choice[] = {NBD_CMD_READ,  NBD_CMD_WRITE,
                                      NBD_CMD_WRITE, NBD_CMD_FLUSH,
                                      NBD_CMD_TRIM,  NBD_CMD_WRITE_ZEROES};
    uint8_t page[PAGE];

    for (uint64_t i = 0; i < DEPTH; i++) {
        unsigned number = next_number(&traffic->seed);
        uint64_t offset = number / 8 % PAGES * PAGE;
        uint16_t flags = 0;

        types[i] = choice[number % 6];
        if (types[i] == NBD_CMD_WRITE && client->extended)
            flags = NBD_CMD_FLAG_PAYLOAD_LEN;
        if (!nbd_client_request(client, flags, types[i], i, offset, PAGE))
            return false;
        memset(page, (int)(number >> 12), PAGE);
        if (types[i] == NBD_CMD_WRITE && !nbd_client_send(client, page, PAGE))
            return false;
    }
    return true;
}

/* Receive one reply; its cookie is stored.  Errors are none of the replies. */
static bool receive_one(struct nbd_client *client, const uint16_t types[DEPTH],
                        uint64_t *ret_cookie)
{
    uint8_t bytes[32], page[PAGE];
    size_t data_len = 0;

    if (!nbd_client_receive(client, bytes, 16))
        return false;
    *ret_cookie = get_be64(bytes + 8);
    if (*ret_cookie >= DEPTH)
        return false;
    if (get_be32(bytes) == NBD_SIMPLE_REPLY_MAGIC) {
        if (get_be32(bytes + 4) != 0)
            return false;
        if (types[*ret_cookie] == NBD_CMD_READ)
            data_len = PAGE;
    } else {
        size_t rest = client->extended ? 16 : 4;
        uint16_t type = get_be16(bytes + 6);

        if (!nbd_client_receive(client, bytes + 16, rest))
            return false;
        if (type == NBD_REPLY_OFFSET_HOLE)
            return nbd_client_receive(client, page, 12);
        if (type == NBD_REPLY_OFFSET_DATA) {
            data_len = PAGE;
            if (!nbd_client_receive(client, page, 8))
                return false;
        } else if (type != NBD_REPLY_NONE) {
            return false;
        }
    }
    return data_len == 0 ||
           (nbd_client_receive(client, page, PAGE) && is_one_page(page));
}

static bool receive_all(struct nbd_client *client, const uint16_t types[DEPTH])
{
    uint64_t seen = 0;

    for (int i = 0; i < DEPTH; i++) {
        uint64_t cookie;

        if (!receive_one(client, types, &cookie) || (seen >> cookie & 1) != 0)
            return false;
        seen |= UINT64_C(1) << cookie;
    }
    return true;
}

static void *run_traffic(void *argument)
{
    struct traffic *traffic = argument;
    uint16_t types[DEPTH];

    for (int round = 0; round < ROUNDS; round++) {
        struct nbd_client client;
        bool ok =
            nbd_client_enter(&client, traffic->fixture, traffic->mode, "main");

        for (int i = 0; i < 4 && ok; i++) {
            ok = send_some(traffic, &client, types);
            if (ok && traffic->leaves && next_number(&traffic->seed) % 4 == 0)
                break;
            ok = ok && receive_all(&client, types);
        }
        nbd_client_close(&client);
        if (!ok) {
            traffic->ok = atomic_load(traffic->stopping);
            return NULL;
        }
    }
    traffic->ok = true;
    return NULL;
}

/* Hold back and release, so that replies come from another thread. */
static void *run_device(void *argument)
{
    const struct traffic *traffic = argument;
    struct device *device = traffic->fixture->device;

    while (!atomic_load(traffic->stopping)) {
        memory_device_hold(device, 1U << DEVICE_FLUSH | 1U << DEVICE_WRITE |
                                       1U << DEVICE_READ);
        (void)sched_yield();
        memory_device_release(device);
        (void)sched_yield();
    }
    memory_device_release(device);
    return NULL;
}

struct race {
    struct nbd_fixture fixture;
    atomic_bool stopping;
    struct traffic traffic[CLIENTS];
    pthread_t clients[CLIENTS];
    pthread_t device;
};

static void race_start(struct race *race, bool leaves)
{
    static const enum nbd_client_mode modes[3] = {
        NBD_CLIENT_SIMPLE, NBD_CLIENT_STRUCTURED, NBD_CLIENT_EXTENDED};

    nbd_fixture_init(&race->fixture, test_dir());
    nbd_fixture_start(&race->fixture);
    atomic_init(&race->stopping, false);
    for (unsigned i = 0; i < CLIENTS; i++) {
        race->traffic[i] = (struct traffic){
            .fixture = &race->fixture,
            .seed = i + 1,
            .mode = modes[i % 3],
            .leaves = leaves,
            .stopping = &race->stopping,
        };
        if (pthread_create(&race->clients[i], NULL, run_traffic,
                           &race->traffic[i]) != 0)
            abort();
    }
    if (pthread_create(&race->device, NULL, run_device, &race->traffic[0]) != 0)
        abort();
}

static void race_join(struct race *race)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        (void)pthread_join(race->clients[i], NULL);
        CHECK(race->traffic[i].ok);
    }
    atomic_store(&race->stopping, true);
    (void)pthread_join(race->device, NULL);
}

TEST("overlapping requests of several connections are all answered, with "
     "whole pages")
{
    static struct race race;

    race_start(&race, false);
    race_join(&race);
    nbd_fixture_done(&race.fixture);
}

TEST("clients that leave in the middle of it harm no other")
{
    static struct race race;

    race_start(&race, true);
    race_join(&race);
    nbd_fixture_done(&race.fixture);
}

enum { FLOOD = 600, FLOOD_LEN = 300000 };

static void *send_flood(void *argument)
{
    struct nbd_client *client = argument;
    static char payload[FLOOD_LEN];

    for (uint64_t i = 0; i < FLOOD; i++) {
        bool is_write = i % 5 == 0;

        if (!nbd_client_request(client, 0,
                                is_write ? NBD_CMD_WRITE : NBD_CMD_READ, i, 0,
                                FLOOD_LEN) ||
            (is_write && !nbd_client_send(client, payload, FLOOD_LEN)))
            return NULL;
    }
    return client;
}

static bool receive_flood(struct nbd_client *client)
{
    static uint8_t data[FLOOD_LEN];
    uint8_t head[16];

    for (int i = 0; i < FLOOD; i++) {
        if (!nbd_client_receive(client, head, sizeof(head)) ||
            get_be32(head + 4) != 0 || get_be64(head + 8) >= FLOOD)
            return false;
        if (get_be64(head + 8) % 5 != 0 &&
            !nbd_client_receive(client, data, sizeof(data)))
            return false;
    }
    return true;
}

TEST("a client that always asks for more than its limits allow is served to "
     "the end, while others are, too")
{
    static struct race race;
    struct nbd_client client;
    pthread_t sender;
    void *sent;

    race_start(&race, false);
    CHECK(nbd_client_enter(&client, &race.fixture, NBD_CLIENT_SIMPLE, "main"));
    NEED(pthread_create(&sender, NULL, send_flood, &client) == 0);
    CHECK(receive_flood(&client));
    (void)pthread_join(sender, &sent);
    CHECK(sent == &client);
    nbd_client_close(&client);
    race_join(&race);
    nbd_fixture_done(&race.fixture);
}

TEST("a stop in the middle of it ends everything")
{
    static struct race race;
    struct nbd_server_status status;

    race_start(&race, false);
    do {
        nbd_server_status(race.fixture.server, &status);
        (void)sched_yield();
    } while (status.requests < 2000);
    atomic_store(&race.stopping, true);
    CHECK(nbd_server_stop(race.fixture.server, 60000) == 0);
    nbd_server_status(race.fixture.server, &status);
    CHECK(status.connections == 0 && status.memory_used == 0);
    race_join(&race);
    nbd_server_free(race.fixture.server);
    race.fixture.server = NULL;
    nbd_fixture_done(&race.fixture);
}

enum { ADDED = 40, ADDING = 2, LISTING = 2 };

struct growth {
    struct nbd_fixture *fixture;
    char names[ADDED][8];
    atomic_size_t next;
};

/* Add exports that the others have not added yet. */
static bool add_exports(struct growth *growth)
{
    for (;;) {
        size_t i = atomic_fetch_add(&growth->next, 1);
        struct nbd_export export = {.device = growth->fixture->device};

        if (i >= ADDED)
            return true;
        export.name = growth->names[i];
        if (nbd_server_add_export(growth->fixture->server, &export) != 0)
            return false;
        (void)sched_yield();
    }
}

/* LIST until all are there, on one connection; what was there once stays. */
static bool list_exports(struct growth *growth)
{
    struct nbd_client_answer answer;
    struct nbd_server_status status;
    struct nbd_client client;
    size_t count = 0, before = 0;
    bool ok = nbd_client_greet(&client, growth->fixture, 3);

    while (ok && count < ADDED + 2) {
        nbd_server_status(growth->fixture->server, &status);
        count = 0;
        ok = nbd_client_send_option(&client, NBD_OPT_LIST, NULL, 0);
        while (ok && (ok = nbd_client_receive_answer(&client, &answer)) &&
               answer.type == NBD_REP_SERVER)
            count++;
        ok = ok && answer.type == NBD_REP_ACK && count >= before;
        before = count;
    }
    nbd_client_close(&client);
    return ok;
}

struct growth_thread {
    struct growth *growth;
    bool (*run)(struct growth *growth);
    bool ok;
};

static void *run_growth(void *argument)
{
    struct growth_thread *thread = argument;

    thread->ok = thread->run(thread->growth);
    return NULL;
}

TEST("exports are added by several while others ask for the list, and all of "
     "them are found and served")
{
    static struct race race;
    static struct growth growth;
    struct growth_thread threads[ADDING + LISTING];
    pthread_t ids[ADDING + LISTING];
    struct nbd_client client;

    race_start(&race, false);
    growth.fixture = &race.fixture;
    for (size_t i = 0; i < ADDED; i++)
        (void)snprintf(growth.names[i], sizeof(growth.names[i]), "disk%zu", i);
    for (size_t i = 0; i < ADDING + LISTING; i++) {
        threads[i] = (struct growth_thread){
            &growth, i < ADDING ? add_exports : list_exports, false};
        NEED(pthread_create(&ids[i], NULL, run_growth, &threads[i]) == 0);
    }
    for (size_t i = 0; i < ADDING + LISTING; i++) {
        (void)pthread_join(ids[i], NULL);
        CHECK(threads[i].ok);
    }
    for (size_t i = 0; i < ADDED; i++) {
        CHECK(nbd_client_enter(&client, &race.fixture, NBD_CLIENT_STRUCTURED,
                               growth.names[i]));
        nbd_client_close(&client);
    }
    race_join(&race);
    nbd_fixture_done(&race.fixture);
}
