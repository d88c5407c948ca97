/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Restarts in the middle of traffic, at any moment: clients with requests of
 * all kinds and lengths, cut anywhere by what the socket takes, and a device
 * that answers at once, later, or not before the successor asks again.  Every
 * request is answered once, and was carried out once; what is read is what a
 * model of the device says, and in the end the device is that model.
 */
/* links: memory_device */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "support/nbd_restart.h"
#include "unit/test.h"

enum {
    CLIENTS = 4,
    ROUNDS = 200,
    DEPTH = 14, /* requests of a round, each in a slot of its own */
    SLOTS = 16,
    SLOT = 128 << 10,      /* more than is waited for whole */
    REGION = SLOTS * SLOT, /* of a client */
    PAGE = 4096,
    BUFFER = 2 << 20,
};

struct ask {
    uint16_t type;
    uint64_t offset; /* in the region */
    size_t len;
    bool is_answered;
};

struct traffic {
    struct nbd_client client;
    uint64_t region; /* where it begins in the device */
    unsigned seed;
    struct ask asks[DEPTH];
    uint8_t *model, *out, *in;
    size_t out_len, out_sent, in_len, answered;
    size_t carried_out[MEMORY_DEVICE_OPERATIONS];
    atomic_bool *has_failed;
    atomic_size_t *running;
};

/* A generator of its own for each thread. */
static unsigned next_number(unsigned *seed)
{
    *seed = *seed * 1103515245 + 12345;
    return *seed >> 8;
}

static void put_ask(struct traffic *traffic, uint64_t cookie)
{
    struct ask *ask = &traffic->asks[cookie];
    bool extended = traffic->client.extended;
    uint8_t *to = traffic->out + traffic->out_len;
    uint16_t flags = 0;

    if (extended && ask->type == NBD_CMD_WRITE)
        flags = NBD_CMD_FLAG_PAYLOAD_LEN;
    put_be32(to, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    put_be16(to + 4, flags);
    put_be16(to + 6, ask->type);
    put_be64(to + 8, cookie);
    put_be64(to + 16,
             ask->type == NBD_CMD_FLUSH ? 0 : traffic->region + ask->offset);
    if (extended)
        put_be64(to + 24, ask->len);
    else
        put_be32(to + 24, (uint32_t)ask->len);
    traffic->out_len += extended ? 32 : 28;
    if (ask->type != NBD_CMD_WRITE)
        return;
    to = traffic->out + traffic->out_len;
    for (size_t i = 0; i < ask->len; i++)
        to[i] = (uint8_t)next_number(&traffic->seed);
    /* No other request of the round is there. */
    memcpy(traffic->model + ask->offset, to, ask->len);
    traffic->out_len += ask->len;
}

/* Choose what a round asks for, and put it all into the buffer. */
static void put_round(struct traffic *traffic)
{
    static const uint16_t types[] = {
        NBD_CMD_READ, NBD_CMD_READ,         NBD_CMD_WRITE, NBD_CMD_WRITE,
        NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLUSH, NBD_CMD_WRITE};
    static const size_t lengths[] = {1, 512, PAGE, 20000, 70000, SLOT};
    unsigned shift = next_number(&traffic->seed);

    traffic->out_len = traffic->out_sent = traffic->answered = 0;
    for (unsigned i = 0; i < DEPTH; i++) {
        struct ask *ask = &traffic->asks[i];
        unsigned number = next_number(&traffic->seed);
        uint64_t slot = (shift + i) % SLOTS * SLOT;

        ask->type = types[number % 8];
        ask->len = lengths[number / 8 % 6];
        ask->offset = slot + number / 64 % (SLOT - ask->len + 1);
        ask->is_answered = false;
        if (ask->type == NBD_CMD_TRIM) { /* of whole pages, all of it */
            ask->offset = slot + PAGE;
            ask->len = 2 * PAGE;
        }
        if (ask->type == NBD_CMD_FLUSH)
            ask->len = 0;
        put_ask(traffic, i);
        if (ask->type == NBD_CMD_TRIM || ask->type == NBD_CMD_WRITE_ZEROES)
            memset(traffic->model + ask->offset, 0, ask->len);
    }
}

/* Take the reply to a request: what it brings, if anything. */
static bool take_reply(struct traffic *traffic, uint64_t cookie,
                       const uint8_t *data, bool is_hole)
{
    static const uint8_t zeros[SLOT];
    static const enum device_operation operations[] = {
        [NBD_CMD_READ] = DEVICE_READ,
        [NBD_CMD_WRITE] = DEVICE_WRITE,
        [NBD_CMD_FLUSH] = DEVICE_FLUSH,
        [NBD_CMD_TRIM] = DEVICE_TRIM,
        [NBD_CMD_WRITE_ZEROES] = DEVICE_ZERO};
    struct ask *ask = &traffic->asks[cookie];

    if (ask->is_answered)
        return false;
    ask->is_answered = true;
    traffic->answered++;
    traffic->carried_out[operations[ask->type]]++;
    if (ask->type != NBD_CMD_READ)
        return !data && !is_hole;
    return memcmp(is_hole ? zeros : data, traffic->model + ask->offset,
                  ask->len) == 0;
}

/*
 * Take the first reply out of what was received.  Returns how many bytes it
 * has; 0: it is not whole; SIZE_MAX: it is wrong.
 */
static size_t parse_reply(struct traffic *traffic)
{
    const uint8_t *in = traffic->in;
    bool extended = traffic->client.extended;
    size_t head_len = 16, data_len = 0, lead = 0;
    const struct ask *ask;
    uint64_t cookie;
    bool is_hole = false;

    if (traffic->in_len < head_len)
        return 0;
    cookie = get_be64(in + 8);
    if (cookie >= DEPTH)
        return SIZE_MAX;
    ask = &traffic->asks[cookie];
    if (get_be32(in) == NBD_SIMPLE_REPLY_MAGIC) {
        if (get_be32(in + 4) != 0)
            return SIZE_MAX;
        if (ask->type == NBD_CMD_READ)
            data_len = ask->len;
    } else {
        head_len = extended ? 32 : 20;
        if (traffic->in_len < head_len)
            return 0;
        is_hole = get_be16(in + 6) == NBD_REPLY_OFFSET_HOLE;
        data_len = extended ? get_be64(in + 24) : get_be32(in + 16);
        if (get_be16(in + 6) == NBD_REPLY_OFFSET_DATA)
            lead = 8;
        else if (!is_hole && get_be16(in + 6) != NBD_REPLY_NONE)
            return SIZE_MAX;
        if (data_len != (lead > 0 ? 8 + ask->len : is_hole ? 12U : 0U))
            return SIZE_MAX;
    }
    if (traffic->in_len < head_len + data_len)
        return 0;
    if (!take_reply(traffic, cookie,
                    data_len > 0 && !is_hole ? in + head_len + lead : NULL,
                    is_hole))
        return SIZE_MAX;
    return head_len + data_len;
}

static bool take_replies(struct traffic *traffic)
{
    size_t len;

    while ((len = parse_reply(traffic)) > 0) {
        if (len == SIZE_MAX)
            return false;
        traffic->in_len -= len;
        memmove(traffic->in, traffic->in + len, traffic->in_len);
    }
    return true;
}

/* Send some, or receive some, as the socket takes or has it. */
static bool move_bytes(struct traffic *traffic)
{
    size_t left = traffic->out_len - traffic->out_sent;
    struct pollfd polled = {.fd = traffic->client.fd,
                            .events = left > 0 ? POLLIN | POLLOUT : POLLIN};
    ssize_t moved;

    if (poll(&polled, 1, -1) < 0)
        return errno == EINTR;
    if ((polled.revents & POLLOUT) != 0) {
        size_t part = 1 + next_number(&traffic->seed) % 100000;

        moved = send(traffic->client.fd, traffic->out + traffic->out_sent,
                     part < left ? part : left, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (moved < 0 && errno != EAGAIN)
            return false;
        traffic->out_sent += moved > 0 ? (size_t)moved : 0;
    }
    if ((polled.revents & ~POLLOUT) == 0)
        return true;
    moved = recv(traffic->client.fd, traffic->in + traffic->in_len,
                 1 + next_number(&traffic->seed) % 100000, MSG_DONTWAIT);
    if (moved <= 0)
        return moved < 0 && errno == EAGAIN;
    traffic->in_len += (size_t)moved;
    return take_replies(traffic);
}

static void *run_traffic(void *argument)
{
    struct traffic *traffic = argument;
    bool ok = true;

    for (int round = 0; round < ROUNDS && ok; round++) {
        put_round(traffic);
        while (ok && traffic->answered < DEPTH)
            ok = move_bytes(traffic);
        ok = ok && traffic->in_len == 0;
    }
    if (!ok)
        atomic_store(traffic->has_failed, true);
    (void)atomic_fetch_sub(traffic->running, 1);
    return NULL;
}

struct race {
    struct nbd_fixture fixture;
    struct traffic traffic[CLIENTS];
    pthread_t clients[CLIENTS], device;
    atomic_size_t running;
    atomic_bool has_failed, is_over;
};

/* Hold back and release, so that what is asked waits now and then. */
static void *run_device(void *argument)
{
    struct race *race = argument;

    while (!atomic_load(&race->is_over)) {
        memory_device_hold(race->fixture.device, UINT32_MAX);
        (void)sched_yield();
        memory_device_release(race->fixture.device);
        (void)sched_yield();
    }
    memory_device_release(race->fixture.device);
    return NULL;
}

static bool start_client(struct race *race, unsigned i)
{
    static const enum nbd_client_mode modes[3] = {
        NBD_CLIENT_SIMPLE, NBD_CLIENT_STRUCTURED, NBD_CLIENT_EXTENDED};
    struct traffic *traffic = &race->traffic[i];

    *traffic = (struct traffic){
        .region = (uint64_t)i * REGION,
        .seed = i + 1,
        .model = calloc(1, REGION),
        .out = malloc(BUFFER),
        .in = malloc(BUFFER),
        .has_failed = &race->has_failed,
        .running = &race->running,
    };
    return traffic->model && traffic->out && traffic->in &&
           nbd_client_enter(&traffic->client, &race->fixture, modes[i % 3],
                            "main") &&
           nbd_client_do(&traffic->client, 0, NBD_CMD_FLUSH, 0, 0) == 0 &&
           pthread_create(&race->clients[i], NULL, run_traffic, traffic) == 0;
}

/* Restart when some more requests were answered, until the clients end. */
static size_t restart_all_the_time(struct race *race)
{
    unsigned seed = 99;
    size_t count = 0;

    while (atomic_load(&race->running) > 0) {
        struct nbd_restart restart = {.count = 0};
        struct nbd_server_status status;
        unsigned number = next_number(&seed);
        uint64_t wanted = number % 200;

        do {
            nbd_server_status(race->fixture.server, &status);
            (void)sched_yield();
        } while (status.requests < wanted && atomic_load(&race->running) > 0);
        nbd_restart_hand_over(&restart, &race->fixture,
                              number % 3 == 0 ? 60000 : 0);
        CHECK(restart.count == CLIENTS && restart.result == 0);
        nbd_restart_resume(&restart, &race->fixture);
        nbd_restart_open(&race->fixture);
        count++;
    }
    return count;
}

/* What clients were told is what the device did, and has. */
static void check_all(struct race *race)
{
    struct memory_device_seen seen = memory_device_seen(race->fixture.device);
    size_t sums[MEMORY_DEVICE_OPERATIONS] = {[DEVICE_FLUSH] = CLIENTS};

    for (unsigned i = 0; i < CLIENTS; i++) {
        const struct traffic *traffic = &race->traffic[i];

        for (int j = 0; j < MEMORY_DEVICE_OPERATIONS; j++)
            sums[j] += traffic->carried_out[j];
        CHECK(
            memcmp(memory_device_bytes(race->fixture.device) + traffic->region,
                   traffic->model, REGION) == 0);
    }
    for (int j = 0; j < MEMORY_DEVICE_OPERATIONS; j++)
        CHECK(sums[j] == seen.executed[j]);
    CHECK(seen.canceled > 0);
}

TEST("through restarts at any moment every request is answered once, and "
     "carried out once")
{
    static struct race race;
    size_t restarts;

    nbd_fixture_init(&race.fixture, test_dir());
    nbd_fixture_start(&race.fixture);
    atomic_init(&race.running, CLIENTS);
    atomic_init(&race.has_failed, false);
    atomic_init(&race.is_over, false);
    for (unsigned i = 0; i < CLIENTS; i++)
        NEED(start_client(&race, i));
    NEED(pthread_create(&race.device, NULL, run_device, &race) == 0);
    restarts = restart_all_the_time(&race);
    for (unsigned i = 0; i < CLIENTS; i++)
        (void)pthread_join(race.clients[i], NULL);
    atomic_store(&race.is_over, true);
    (void)pthread_join(race.device, NULL);
    CHECK(!atomic_load(&race.has_failed));
    CHECK(restarts > 3);
    check_all(&race);
    for (unsigned i = 0; i < CLIENTS; i++) {
        CHECK(nbd_client_do(&race.traffic[i].client, 0, NBD_CMD_FLUSH, 0, 0) ==
              0);
        nbd_client_close(&race.traffic[i].client);
        free(race.traffic[i].model);
        free(race.traffic[i].out);
        free(race.traffic[i].in);
    }
    nbd_fixture_done(&race.fixture);
}
