/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <sched.h>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/stream.h"
#include "unit/test.h"

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define START  (1000 * SECOND) /* of the clock, while it stands still */

/* Stands in for the system's lookup. */
struct names {
    struct mutex lock;
    struct condition changed;
    bool is_held; /* lookups wait */
    int status;   /* what they return, or 0 and this address */
    const char *address;
    unsigned begun; /* lookups so far */
    unsigned running;
    char host[300]; /* the last one asked for */
};

static int look_up(void *context, const char *host,
                   struct net_address addresses[], size_t max,
                   size_t *ret_count)
{
    struct names *names = context;
    int status;

    mutex_lock(&names->lock);
    (void)snprintf(names->host, sizeof(names->host), "%s", host);
    names->begun++;
    names->running++;
    condition_broadcast(&names->changed);
    while (names->is_held)
        condition_wait(&names->changed, &names->lock);
    status = names->status;
    *ret_count = status == 0 ? max : 0;
    for (size_t i = 0; i < *ret_count; i++) {
        if (net_address_parse(names->address, 0, &addresses[i]) < 0)
            abort();
    }
    names->running--;
    condition_broadcast(&names->changed);
    mutex_unlock(&names->lock);
    return status;
}

static struct resolver *resolver_start(struct names *names)
{
    struct resolver *resolver;

    *names = (struct names){.address = "192.0.2.1"};
    mutex_init(&names->lock);
    condition_init(&names->changed);
    if (resolver_new(MINUTE, &resolver) < 0)
        abort();
    resolver_set_lookup_for_tests(resolver, look_up, names);
    return resolver;
}

static void resolver_end(struct resolver *resolver, struct names *names)
{
    resolver_free(resolver);
    mutex_lock(&names->lock);
    while (names->running > 0)
        condition_wait(&names->changed, &names->lock);
    mutex_unlock(&names->lock);
    condition_done(&names->changed);
    mutex_done(&names->lock);
}

static void names_set(struct names *names, int status, const char *address)
{
    mutex_lock(&names->lock);
    names->status = status;
    names->address = address;
    mutex_unlock(&names->lock);
}

static void names_hold(struct names *names, bool is_held)
{
    mutex_lock(&names->lock);
    names->is_held = is_held;
    condition_broadcast(&names->changed);
    mutex_unlock(&names->lock);
}

static unsigned names_begun(struct names *names)
{
    unsigned begun;

    mutex_lock(&names->lock);
    begun = names->begun;
    mutex_unlock(&names->lock);
    return begun;
}

static void names_await(struct names *names, unsigned begun)
{
    mutex_lock(&names->lock);
    while (names->begun < begun)
        condition_wait(&names->changed, &names->lock);
    mutex_unlock(&names->lock);
}

/* Ask for one address: its text, or that of the failure. */
static int ask(struct resolver *resolver, const char *host, char text[256])
{
    struct net_address addresses[3];
    struct net_failure failure = {0};
    int count = resolver_addresses(resolver, host, 443, addresses, 3,
                                   STREAM_FOREVER, &failure);

    if (count > 0) {
        (void)net_address_format(&addresses[0], text);
        return count;
    }
    (void)snprintf(text, 256, "%s", failure.text);
    CHECK(failure.error == count);
    return count;
}

TEST("numeric addresses, localhost and what is below it need no lookup")
{
    static const char *const hosts[] = {"192.0.2.7",   "[2001:db8::7]",
                                        "2001:db8::7", "localhost",
                                        "LocalHost.",  "bucket.s3.localhost"};
    static const char *const first[] = {
        "192.0.2.7:443", "[2001:db8::7]:443", "[2001:db8::7]:443",
        "127.0.0.1:443", "127.0.0.1:443",     "127.0.0.1:443"};
    struct names names;
    struct resolver *resolver = resolver_start(&names);
    struct net_address addresses[3];
    struct net_failure failure;
    char text[256];

    for (int i = 0; i < 6; i++) {
        CHECK(ask(resolver, hosts[i], text) == (i < 3 ? 1 : 2));
        CHECK(strcmp(text, first[i]) == 0);
    }
    CHECK(resolver_addresses(resolver, "localhost", 80, addresses, 1,
                             STREAM_NOW, &failure) == 1);
    CHECK(names_begun(&names) == 0);
    CHECK(ask(resolver, "notlocalhost", text) == 3);
    CHECK(ask(resolver, "localhost.example", text) == 3);
    CHECK(names_begun(&names) == 2);
    resolver_end(resolver, &names);
}

TEST("a name is looked up once, whatever its case, and remembered for the "
     "time given")
{
    struct names names;
    struct resolver *resolver = resolver_start(&names);
    char text[256];

    clock_set_for_tests(START);
    CHECK(ask(resolver, "s3.example", text) == 3);
    CHECK(strcmp(text, "192.0.2.1:443") == 0);
    CHECK(strcmp(names.host, "s3.example") == 0);
    clock_set_for_tests(START + MINUTE - 1);
    CHECK(ask(resolver, "S3.Example", text) == 3);
    CHECK(names_begun(&names) == 1);
    clock_set_for_tests(0);
    resolver_end(resolver, &names);
}

TEST("old addresses are used while new ones are looked up")
{
    struct names names;
    struct resolver *resolver = resolver_start(&names);
    char text[256];

    clock_set_for_tests(START);
    CHECK(ask(resolver, "s3.example", text) == 3);
    clock_set_for_tests(START + MINUTE);
    names_hold(&names, true);
    names_set(&names, 0, "192.0.2.2");
    for (int i = 0; i < 3; i++) {
        CHECK(ask(resolver, "s3.example", text) == 3);
        CHECK(strcmp(text, "192.0.2.1:443") == 0);
    }
    names_await(&names, 2);
    names_hold(&names, false);
    do {
        (void)sched_yield();
        CHECK(ask(resolver, "s3.example", text) == 3);
    } while (strcmp(text, "192.0.2.1:443") == 0);
    CHECK(strcmp(text, "192.0.2.2:443") == 0);
    CHECK(names_begun(&names) == 2);
    clock_set_for_tests(0);
    resolver_end(resolver, &names);
}

TEST("addresses are kept when they are not found again")
{
    struct names names;
    struct resolver *resolver = resolver_start(&names);
    uint64_t now = START;
    char text[256];

    clock_set_for_tests(now);
    CHECK(ask(resolver, "s3.example", text) == 3);
    names_set(&names, EAI_NONAME, NULL);
    /* Each second it is tried again, when the one before has failed. */
    while (names_begun(&names) < 4) {
        now += MINUTE;
        clock_set_for_tests(now);
        CHECK(ask(resolver, "s3.example", text) == 3);
        CHECK(strcmp(text, "192.0.2.1:443") == 0);
    }
    clock_set_for_tests(0);
    resolver_end(resolver, &names);
}

TEST("an unknown host is told from a name server that does not answer, and "
     "both are asked for again, but not at once")
{
    static const int statuses[] = {EAI_NONAME, EAI_AGAIN, EAI_FAIL};
    static const int errors[] = {-EADDRNOTAVAIL, -ETIMEDOUT, -ETIMEDOUT};
    static const char *const words[] = {"host \"s3.exmple\" is unknown",
                                        "no name server tells",
                                        "no name server tells"};

    for (int i = 0; i < 3; i++) {
        struct names names;
        struct resolver *resolver = resolver_start(&names);
        char text[256];

        clock_set_for_tests(START);
        names_set(&names, statuses[i], NULL);
        CHECK(ask(resolver, "s3.exmple", text) == errors[i]);
        CHECK(strstr(text, words[i]) && strstr(text, "s3.exmple"));
        CHECK(ask(resolver, "s3.exmple", text) == errors[i]);
        CHECK(names_begun(&names) == 1);
        names_set(&names, 0, "192.0.2.3");
        clock_set_for_tests(START + SECOND);
        CHECK(ask(resolver, "s3.exmple", text) == 3);
        CHECK(names_begun(&names) == 2);
        clock_set_for_tests(0);
        resolver_end(resolver, &names);
    }
}

TEST("what can be no name is unknown without a lookup")
{
    struct names names;
    struct resolver *resolver = resolver_start(&names);
    char text[256], name[256];

    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    CHECK(ask(resolver, name, text) == -EADDRNOTAVAIL);
    CHECK(ask(resolver, "", text) == -EADDRNOTAVAIL);
    CHECK(names_begun(&names) == 0);
    resolver_end(resolver, &names);
}

TEST("the first time waits to the deadline, and no longer; the answer that "
     "comes later is there for the next")
{
    struct names names;
    struct resolver *resolver = resolver_start(&names);
    struct net_address address;
    struct net_failure failure;
    char text[256];

    names_hold(&names, true);
    CHECK(resolver_addresses(resolver, "s3.example", 80, &address, 1,
                             clock_monotonic_ns() + 1000000,
                             &failure) == -ETIMEDOUT);
    CHECK(failure.error == -ETIMEDOUT);
    CHECK(strstr(failure.text, "\"s3.example\""));
    CHECK(resolver_addresses(resolver, "s3.example", 80, &address, 1,
                             STREAM_NOW, &failure) == -ETIMEDOUT);
    names_await(&names, 1);
    names_hold(&names, false);
    CHECK(ask(resolver, "s3.example", text) == 3);
    CHECK(names_begun(&names) == 1);
    resolver_end(resolver, &names);
}

struct asker {
    struct resolver *resolver;
    const char *host;
    int result;
};

static void *ask_in_thread(void *argument)
{
    struct asker *asker = argument;
    char text[256];

    asker->result = ask(asker->resolver, asker->host, text);
    return NULL;
}

TEST("a name whose lookup hangs holds up no other name")
{
    struct names names, others;
    struct resolver *resolver = resolver_start(&names);
    struct asker asker = {resolver, "slow.example", 0};
    pthread_t thread;
    char text[256];

    names_hold(&names, true);
    NEED(pthread_create(&thread, NULL, ask_in_thread, &asker) == 0);
    names_await(&names, 1);
    others = (struct names){.address = "192.0.2.9"};
    mutex_init(&others.lock);
    condition_init(&others.changed);
    resolver_set_lookup_for_tests(resolver, look_up, &others);
    CHECK(ask(resolver, "quick.example", text) == 3);
    names_hold(&names, false);
    (void)pthread_join(thread, NULL);
    CHECK(asker.result == 3);
    resolver_end(resolver, &names);
    condition_done(&others.changed);
    mutex_done(&others.lock);
}

TEST("an interrupt ends all waiting, now and later")
{
    struct names names;
    struct resolver *resolver = resolver_start(&names);
    struct asker asker = {resolver, "s3.example", 0};
    pthread_t thread;
    char text[256];

    CHECK(ask(resolver, "known.example", text) == 3);
    names_hold(&names, true);
    NEED(pthread_create(&thread, NULL, ask_in_thread, &asker) == 0);
    names_await(&names, 2);
    resolver_interrupt(resolver);
    (void)pthread_join(thread, NULL);
    CHECK(asker.result == -ECANCELED);
    CHECK(ask(resolver, "known.example", text) == -ECANCELED);
    CHECK(ask(resolver, "new.example", text) == -ECANCELED);
    CHECK(names_begun(&names) == 2);
    names_hold(&names, false);
    resolver_end(resolver, &names);
}

TEST("a lookup that hangs does not hold up the end")
{
    /* Outlives the test: the lookup comes back some time after it. */
    static struct names names;
    struct resolver *resolver = resolver_start(&names);
    struct net_address address;
    struct net_failure failure;

    names_hold(&names, true);
    CHECK(resolver_addresses(resolver, "s3.example", 80, &address, 1,
                             STREAM_NOW, &failure) == -ETIMEDOUT);
    resolver_free(resolver);
    names_hold(&names, false);
    resolver_free(NULL);
}

TEST("no more names are remembered than there is room for")
{
    struct names names;
    struct resolver *resolver = resolver_start(&names);
    char text[256], host[32];

    for (int i = 0; i < RESOLVER_NAMES_MAX; i++) {
        (void)snprintf(host, sizeof(host), "host%d.example", i);
        CHECK(ask(resolver, host, text) == 3);
    }
    CHECK(ask(resolver, "one-more.example", text) == -ENOBUFS);
    CHECK(ask(resolver, "host0.example", text) == 3);
    resolver_end(resolver, &names);
}

TEST("the system itself is asked")
{
    struct resolver *resolver;
    char text[256], label[80];

    NEED(resolver_new(MINUTE, &resolver) == 0);
    /* An old way to write an address, which the C library knows. */
    CHECK(ask(resolver, "127.1", text) == 1);
    CHECK(strcmp(text, "127.0.0.1:443") == 0);
    /* DNS has no labels as long as that, so no server is asked. */
    memset(label, 'a', sizeof(label) - 1);
    label[sizeof(label) - 1] = '\0';
    CHECK(ask(resolver, label, text) == -EADDRNOTAVAIL);
    resolver_free(resolver);
}
