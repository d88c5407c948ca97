/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_gate.h"

#include <pthread.h>
#include <sched.h>

#include "unit/test.h"

enum { CLIENTS = 64 };

/* One who enters, from a thread of its own, and stays in. */
struct client {
    pthread_t thread;
    struct s3_gate *gate;
    enum object_urgency urgency;
    uint64_t deadline_ns;
    int error;
    struct s3_pass pass;
};

static struct s3_gate *new_gate(unsigned max)
{
    struct s3_gate *gate = NULL;

    if (!CHECK(s3_gate_new(max, &gate) == 0))
        abort();
    return gate;
}

static struct s3_gate_state look(struct s3_gate *gate)
{
    struct s3_gate_state state;

    s3_gate_look(gate, &state);
    return state;
}

/* Enter without waiting; returns whether there was a place. */
static bool try_enter(struct s3_gate *gate, enum object_urgency urgency,
                      struct s3_pass *ret_pass)
{
    int error = s3_gate_enter(gate, urgency, 0, ret_pass);

    CHECK(error == 0 || error == -ETIMEDOUT);
    return error == 0;
}

/* Enter as often as there are places, at most CLIENTS; returns how often. */
static unsigned fill(struct s3_gate *gate, enum object_urgency urgency,
                     struct s3_pass passes[CLIENTS])
{
    unsigned count = 0;

    while (count < CLIENTS && try_enter(gate, urgency, &passes[count]))
        count++;
    return count;
}

static void leave_all(struct s3_gate *gate, const struct s3_pass passes[],
                      unsigned count, enum s3_health health)
{
    for (unsigned i = 0; i < count; i++)
        s3_gate_leave(gate, &passes[i], health);
}

static void *run_client(void *context)
{
    struct client *client = context;

    client->error = s3_gate_enter(client->gate, client->urgency,
                                  client->deadline_ns, &client->pass);
    return NULL;
}

/* Have one wait, behind all that wait already. */
static void queue_client(struct client *client, struct s3_gate *gate,
                         enum object_urgency urgency)
{
    unsigned before = look(gate).waiting[urgency];

    *client = (struct client){.gate = gate,
                              .urgency = urgency,
                              .deadline_ns = UINT64_MAX,
                              .error = 1};
    if (!CHECK(pthread_create(&client->thread, NULL, run_client, client) == 0))
        abort();
    while (look(gate).waiting[urgency] == before)
        (void)sched_yield();
}

/* Wait until that one is in. */
static void join_client(struct client *client)
{
    CHECK(pthread_join(client->thread, NULL) == 0);
    CHECK(client->error == 0);
}

/* Wait until that one is in, and have it leave. */
static void end_client(struct client *client)
{
    join_client(client);
    s3_gate_leave(client->gate, &client->pass, S3_HEALTH_ABANDONED);
}

TEST("there are as many places as given, and what leaves makes room")
{
    struct s3_gate *gate = new_gate(5);
    struct s3_pass passes[CLIENTS], more;

    CHECK(fill(gate, OBJECT_WAITED_FOR, passes) == 5);
    CHECK(look(gate).in_flight[OBJECT_WAITED_FOR] == 5);
    s3_gate_leave(gate, &passes[0], S3_HEALTH_ANSWERED);
    CHECK(try_enter(gate, OBJECT_WAITED_FOR, &more));
    CHECK(!try_enter(gate, OBJECT_WAITED_FOR, &passes[0]));
    s3_gate_leave(gate, &more, S3_HEALTH_ANSWERED);
    leave_all(gate, passes + 1, 4, S3_HEALTH_ANSWERED);
    CHECK(look(gate).in_flight[OBJECT_WAITED_FOR] == 0);
    CHECK(look(gate).waiting[OBJECT_WAITED_FOR] == 0);
    CHECK(look(gate).places == 5);
    s3_gate_free(gate);
}

TEST("there can be more places, and those who wait go, and fewer, as they end")
{
    struct s3_gate *gate = new_gate(2);
    struct s3_pass passes[CLIENTS], more;
    struct client client;

    CHECK(fill(gate, OBJECT_WAITED_FOR, passes) == 2);
    queue_client(&client, gate, OBJECT_WAITED_FOR);
    s3_gate_set_max(gate, 4);
    join_client(&client);
    CHECK(try_enter(gate, OBJECT_WAITED_FOR, &more));
    CHECK(look(gate).places == 4 && look(gate).max == 4);
    s3_gate_set_max(gate, 1);
    leave_all(gate, passes, 2, S3_HEALTH_ANSWERED);
    s3_gate_leave(gate, &more, S3_HEALTH_ANSWERED);
    CHECK(!try_enter(gate, OBJECT_WAITED_FOR, &more));
    s3_gate_leave(gate, &client.pass, S3_HEALTH_ANSWERED);
    CHECK(try_enter(gate, OBJECT_WAITED_FOR, &more));
    CHECK(!try_enter(gate, OBJECT_WAITED_FOR, &passes[0]));
    s3_gate_leave(gate, &more, S3_HEALTH_ANSWERED);
    /* What the store bears is not more because more is allowed. */
    s3_gate_set_max(gate, 8);
    CHECK(try_enter(gate, OBJECT_WAITED_FOR, &more));
    s3_gate_leave(gate, &more, S3_HEALTH_THROTTLED);
    s3_gate_set_max(gate, 20);
    CHECK(look(gate).places == 4 && look(gate).max == 20);
    s3_gate_free(gate);
}

TEST("background leaves a quarter free, read-ahead an eighth, reads nothing")
{
    static const struct {
        unsigned places, background, ahead;
    } rows[] = {{1, 1, 1}, {2, 1, 1},    {3, 2, 2},   {4, 3, 3},
                {8, 6, 7}, {16, 12, 14}, {32, 24, 28}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct s3_gate *gate = new_gate(rows[i].places);
        struct s3_pass background[CLIENTS], ahead[CLIENTS], reads[CLIENTS];
        unsigned count = fill(gate, OBJECT_BACKGROUND, background);
        unsigned aheads = fill(gate, OBJECT_AHEAD, ahead);
        unsigned read = fill(gate, OBJECT_WAITED_FOR, reads);

        CHECK(count == rows[i].background);
        CHECK(count + aheads == rows[i].ahead);
        /* The only place is taken: the first read goes all the same. */
        CHECK(count + aheads + read ==
              (rows[i].places > 1 ? rows[i].places : 2));
        leave_all(gate, background, count, S3_HEALTH_ANSWERED);
        leave_all(gate, ahead, aheads, S3_HEALTH_ANSWERED);
        leave_all(gate, reads, read, S3_HEALTH_ANSWERED);
        s3_gate_free(gate);
    }
}

TEST("a read goes at once while none is in flight, whatever is")
{
    struct s3_gate *gate = new_gate(16);
    struct s3_pass background[CLIENTS], read, second;

    CHECK(fill(gate, OBJECT_BACKGROUND, background) == 12);
    s3_gate_leave(gate, &background[0], S3_HEALTH_THROTTLED);
    CHECK(look(gate).places == 8);
    CHECK(look(gate).in_flight[OBJECT_BACKGROUND] == 11);
    CHECK(try_enter(gate, OBJECT_WAITED_FOR, &read));
    CHECK(!try_enter(gate, OBJECT_WAITED_FOR, &second));
    s3_gate_leave(gate, &read, S3_HEALTH_ANSWERED);
    CHECK(try_enter(gate, OBJECT_WAITED_FOR, &read));
    s3_gate_leave(gate, &read, S3_HEALTH_ANSWERED);
    leave_all(gate, background + 1, 11, S3_HEALTH_ANSWERED);
    s3_gate_free(gate);
}

TEST("who waits goes in the order of urgency, and of coming among equals")
{
    static struct client clients[6];
    struct s3_gate *gate = new_gate(2);
    struct s3_pass passes[CLIENTS];

    CHECK(fill(gate, OBJECT_WAITED_FOR, passes) == 2);
    queue_client(&clients[0], gate, OBJECT_BACKGROUND);
    queue_client(&clients[1], gate, OBJECT_AHEAD);
    queue_client(&clients[2], gate, OBJECT_BACKGROUND);
    queue_client(&clients[3], gate, OBJECT_WAITED_FOR);
    queue_client(&clients[4], gate, OBJECT_AHEAD);
    queue_client(&clients[5], gate, OBJECT_WAITED_FOR);

    s3_gate_leave(gate, &passes[0], S3_HEALTH_ANSWERED);
    join_client(&clients[3]);
    s3_gate_leave(gate, &passes[1], S3_HEALTH_ANSWERED);
    join_client(&clients[5]);
    CHECK(look(gate).waiting[OBJECT_AHEAD] == 2);
    /* One place stays free of those who are not waited for. */
    s3_gate_leave(gate, &clients[3].pass, S3_HEALTH_ANSWERED);
    CHECK(look(gate).waiting[OBJECT_AHEAD] == 2);
    s3_gate_leave(gate, &clients[5].pass, S3_HEALTH_ANSWERED);
    end_client(&clients[1]);
    end_client(&clients[4]);
    end_client(&clients[0]);
    end_client(&clients[2]);
    s3_gate_free(gate);
}

/*
 * Reads that never cease: as soon as one ends, another waits.  Returns after
 * how many of them the one background request got its turn.
 */
static unsigned reads_before_background(unsigned places)
{
    static struct client reads[CLIENTS], background;
    struct s3_gate *gate = new_gate(places);
    struct s3_pass passes[CLIENTS];
    unsigned ended = 0, queued = 0, in = fill(gate, OBJECT_WAITED_FOR, passes);

    CHECK(in == places);
    queue_client(&reads[queued++], gate, OBJECT_WAITED_FOR);
    queue_client(&background, gate, OBJECT_BACKGROUND);
    while (look(gate).in_flight[OBJECT_BACKGROUND] == 0) {
        if (!CHECK(queued < CLIENTS))
            abort();
        queue_client(&reads[queued++], gate, OBJECT_WAITED_FOR);
        if (ended < in)
            s3_gate_leave(gate, &passes[ended], S3_HEALTH_ABANDONED);
        else
            end_client(&reads[ended - in]);
        ended++;
    }
    end_client(&background);
    for (; ended < in; ended++)
        s3_gate_leave(gate, &passes[ended], S3_HEALTH_ABANDONED);
    for (; ended - in < queued; ended++)
        end_client(&reads[ended - in]);
    s3_gate_free(gate);
    return ended - queued;
}

TEST("background work cannot starve, however many reads come, at any size")
{
    static const unsigned sizes[] = {1, 2, 3, 8, 16, 20};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        CHECK(reads_before_background(sizes[i]) == sizes[i]);
}

TEST("while reads wait, one turn in eight is background work's, to an eighth")
{
    enum { PLACES = 16, READS = 30 };
    static struct client reads[READS], background[4];
    struct s3_gate *gate = new_gate(PLACES);
    struct s3_pass passes[CLIENTS];
    unsigned turns = 0;

    CHECK(fill(gate, OBJECT_WAITED_FOR, passes) == PLACES);
    for (unsigned i = 0; i < READS; i++)
        queue_client(&reads[i], gate, OBJECT_WAITED_FOR);
    for (unsigned i = 0; i < 4; i++)
        queue_client(&background[i], gate, OBJECT_BACKGROUND);
    for (; turns < 16; turns++) {
        s3_gate_leave(gate, &passes[turns], S3_HEALTH_ABANDONED);
        CHECK(look(gate).in_flight[OBJECT_BACKGROUND] == (turns + 1) / 8);
    }
    /* An eighth is reached: the next turns are all of reads. */
    for (unsigned i = 0; i < 14; i++) {
        end_client(&reads[i]);
        CHECK(look(gate).in_flight[OBJECT_BACKGROUND] == 2);
    }
    end_client(&background[0]);
    CHECK(look(gate).in_flight[OBJECT_BACKGROUND] == 2);
    for (unsigned i = 14; i < READS; i++)
        end_client(&reads[i]);
    for (unsigned i = 1; i < 4; i++)
        end_client(&background[i]);
    s3_gate_free(gate);
}

TEST("throttling halves the places, once for all that were in flight")
{
    struct s3_gate *gate = new_gate(16);
    struct s3_pass passes[CLIENTS], later[CLIENTS];

    CHECK(fill(gate, OBJECT_WAITED_FOR, passes) == 16);
    leave_all(gate, passes, 8, S3_HEALTH_THROTTLED);
    CHECK(look(gate).places == 8 && look(gate).cuts == 1);
    CHECK(!try_enter(gate, OBJECT_WAITED_FOR, &later[0]));
    leave_all(gate, passes + 8, 8, S3_HEALTH_THROTTLED);
    CHECK(look(gate).places == 8 && look(gate).cuts == 1);

    CHECK(fill(gate, OBJECT_WAITED_FOR, later) == 8);
    leave_all(gate, later, 8, S3_HEALTH_THROTTLED);
    CHECK(look(gate).places == 4 && look(gate).cuts == 2);
    for (unsigned i = 0; i < 5; i++) {
        CHECK(try_enter(gate, OBJECT_BACKGROUND, &later[0]));
        s3_gate_leave(gate, &later[0], S3_HEALTH_THROTTLED);
    }
    CHECK(look(gate).places == 1);
    s3_gate_free(gate);
}

TEST("places grow by one for as many answers as there are, if all were used")
{
    struct s3_gate *gate = new_gate(8);
    struct s3_pass passes[CLIENTS], one;

    CHECK(try_enter(gate, OBJECT_WAITED_FOR, &one));
    s3_gate_leave(gate, &one, S3_HEALTH_THROTTLED);
    CHECK(look(gate).places == 4);
    /* One at a time proves nothing of five. */
    for (unsigned i = 0; i < 100; i++) {
        CHECK(try_enter(gate, OBJECT_WAITED_FOR, &one));
        s3_gate_leave(gate, &one, S3_HEALTH_ANSWERED);
    }
    CHECK(look(gate).places == 4);
    /* Neither do failures. */
    for (unsigned i = 0; i < 10; i++) {
        CHECK(fill(gate, OBJECT_WAITED_FOR, passes) == 4);
        leave_all(gate, passes, 4, S3_HEALTH_BROKEN);
    }
    CHECK(look(gate).places == 4);
    CHECK(fill(gate, OBJECT_WAITED_FOR, passes) == 4);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(look(gate).places == 4);
        s3_gate_leave(gate, &passes[0], S3_HEALTH_ANSWERED);
        passes[0] = passes[1];
        CHECK(i == 3 || try_enter(gate, OBJECT_WAITED_FOR, &passes[1]));
    }
    CHECK(look(gate).places == 5);
    leave_all(gate, passes, 3, S3_HEALTH_ABANDONED);
    s3_gate_free(gate);
}

TEST("background work alone makes the places grow again, up to the most")
{
    struct s3_gate *gate = new_gate(32);
    struct s3_pass passes[CLIENTS];
    unsigned rounds = 0;

    CHECK(fill(gate, OBJECT_BACKGROUND, passes) == 24);
    s3_gate_leave(gate, &passes[0], S3_HEALTH_THROTTLED);
    leave_all(gate, passes + 1, 23, S3_HEALTH_ANSWERED);
    CHECK(look(gate).places == 16);
    while (look(gate).places < 32 && rounds < 10000) {
        unsigned count = fill(gate, OBJECT_BACKGROUND, passes);

        for (unsigned i = 0; i < count; i++) {
            s3_gate_leave(gate, &passes[i], S3_HEALTH_ANSWERED);
            CHECK(try_enter(gate, OBJECT_BACKGROUND, &passes[i]));
        }
        leave_all(gate, passes, count, S3_HEALTH_ABANDONED);
        rounds++;
    }
    CHECK(rounds < 10000);
    for (unsigned i = 0; i < 100; i++) {
        unsigned count = fill(gate, OBJECT_WAITED_FOR, passes);

        leave_all(gate, passes, count, S3_HEALTH_ANSWERED);
    }
    CHECK(look(gate).places == 32);
    s3_gate_free(gate);
}

/*
 * A store that answers so many at once and throttles the rest, asked for so
 * many rounds by who has always more to ask.  Returns the sum of answers.
 */
static unsigned ask(struct s3_gate *gate, unsigned capacity, unsigned rounds,
                    unsigned *ret_least, unsigned *ret_most)
{
    struct s3_pass passes[CLIENTS];
    unsigned answers = 0, count = fill(gate, OBJECT_WAITED_FOR, passes);

    *ret_least = UINT32_MAX;
    *ret_most = 0;
    for (unsigned i = 0; i < rounds; i++) {
        /* The oldest one ends, and others come. */
        bool is_answered = count <= capacity;

        s3_gate_leave(gate, &passes[0],
                      is_answered ? S3_HEALTH_ANSWERED : S3_HEALTH_THROTTLED);
        answers += is_answered;
        count--;
        memmove(passes, passes + 1, count * sizeof(passes[0]));
        while (try_enter(gate, OBJECT_WAITED_FOR, &passes[count]))
            count++;
        if (look(gate).places < *ret_least)
            *ret_least = look(gate).places;
        if (look(gate).places > *ret_most)
            *ret_most = look(gate).places;
    }
    leave_all(gate, passes, count, S3_HEALTH_ABANDONED);
    return answers;
}

TEST("the places settle between half of what the store bears and just above")
{
    static const unsigned capacities[] = {1, 2, 5, 10, 24, 40};

    for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
        unsigned capacity = capacities[i], least, most, answers;
        struct s3_gate *gate = new_gate(48);

        (void)ask(gate, capacity, 1000, &least, &most);
        answers = ask(gate, capacity, 10000, &least, &most);
        CHECK(least >= (capacity + 1) / 2);
        CHECK(most <= capacity + 1);
        CHECK(capacity < 5 || answers > 8000);
        CHECK(answers > 3000);
        s3_gate_free(gate);
    }
}

TEST("the places come back after a store that bears nothing bears all again")
{
    unsigned least, most;
    struct s3_gate *gate = new_gate(32);

    (void)ask(gate, 0, 100, &least, &most);
    CHECK(look(gate).places == 1);
    (void)ask(gate, 64, 32 * 32, &least, &most);
    CHECK(look(gate).places == 32);
    s3_gate_free(gate);
}

TEST("nobody waits past a deadline, which is not waited for if it is over")
{
    struct s3_gate *gate = new_gate(1);
    struct s3_pass read, late;

    CHECK(try_enter(gate, OBJECT_WAITED_FOR, &read));
    CHECK(s3_gate_enter(gate, OBJECT_WAITED_FOR, 1, &late) == -ETIMEDOUT);
    CHECK(s3_gate_enter(gate, OBJECT_BACKGROUND, 1, &late) == -ETIMEDOUT);
    CHECK(look(gate).waiting[OBJECT_WAITED_FOR] == 0);
    CHECK(look(gate).waiting[OBJECT_BACKGROUND] == 0);
    s3_gate_leave(gate, &read, S3_HEALTH_ANSWERED);
    CHECK(try_enter(gate, OBJECT_BACKGROUND, &late));
    s3_gate_leave(gate, &late, S3_HEALTH_ANSWERED);
    s3_gate_free(gate);
}

TEST("one who gives up in the middle of a queue leaves the others in order")
{
    static struct client clients[3];
    struct s3_gate *gate = new_gate(1);
    struct s3_pass read, late;

    CHECK(try_enter(gate, OBJECT_WAITED_FOR, &read));
    queue_client(&clients[0], gate, OBJECT_WAITED_FOR);
    CHECK(!try_enter(gate, OBJECT_WAITED_FOR, &late));
    queue_client(&clients[1], gate, OBJECT_WAITED_FOR);
    CHECK(!try_enter(gate, OBJECT_WAITED_FOR, &late));
    queue_client(&clients[2], gate, OBJECT_WAITED_FOR);
    s3_gate_leave(gate, &read, S3_HEALTH_ANSWERED);
    end_client(&clients[0]);
    end_client(&clients[1]);
    end_client(&clients[2]);
    s3_gate_free(gate);
}

TEST("interrupted, those who wait are sent away, and who comes later, too")
{
    static struct client clients[3];
    struct s3_gate *gate = new_gate(2);
    struct s3_pass passes[CLIENTS], late;

    CHECK(fill(gate, OBJECT_WAITED_FOR, passes) == 2);
    for (unsigned i = 0; i < S3_GATE_URGENCIES; i++)
        queue_client(&clients[i], gate, i);
    s3_gate_interrupt(gate);
    for (unsigned i = 0; i < S3_GATE_URGENCIES; i++) {
        CHECK(pthread_join(clients[i].thread, NULL) == 0);
        CHECK(clients[i].error == -ECANCELED);
    }
    leave_all(gate, passes, 2, S3_HEALTH_ABANDONED);
    CHECK(s3_gate_enter(gate, OBJECT_WAITED_FOR, UINT64_MAX, &late) ==
          -ECANCELED);
    s3_gate_free(gate);
    s3_gate_free(NULL);
}
