/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"

/* A lookup that failed is not repeated before. */
#define RETRY_NS UINT64_C(1000000000)

/* The longest name that DNS knows. */
enum { HOST_MAX = 253 };

struct name {
    char *host; /* does not change */
    struct net_address found[RESOLVER_ADDRESSES_MAX];
    size_t count;               /* 0: none was found yet */
    struct net_failure failure; /* of the last lookup; while count is 0 */
    bool is_running;            /* a lookup */
    uint64_t next_ns;           /* no lookup before */
};

struct resolver {
    struct mutex lock;
    struct condition answered; /* a lookup ended, or all is to end */
    uint64_t refresh_ns;
    size_t users GUARDED_BY(lock); /* the owner, and lookups that run */
    bool is_interrupted GUARDED_BY(lock);
    struct name *names[RESOLVER_NAMES_MAX] GUARDED_BY(lock);
    size_t names_count GUARDED_BY(lock);
    resolver_lookup *lookup GUARDED_BY(lock);
    void *lookup_context GUARDED_BY(lock);
};

/* What the thread of a lookup is given. */
struct task {
    struct resolver *resolver;
    struct name *name;
    resolver_lookup *lookup;
    void *lookup_context;
};

/* ---- what this host knows ----------------------------------------------- */

static int lookup_by_host(void *context, const char *host,
                          struct net_address addresses[], size_t max,
                          size_t *ret_count)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *found;
    int status = getaddrinfo(host, NULL, &hints, &found);
    size_t count = 0;

    (void)context;
    if (status != 0)
        return status;
    for (const struct addrinfo *info = found; info && count < max;
         info = info->ai_next) {
        if (info->ai_addrlen > sizeof(addresses[0]))
            continue;
        memset(&addresses[count], 0, sizeof(addresses[count]));
        memcpy(&addresses[count], info->ai_addr, info->ai_addrlen);
        count++;
    }
    freeaddrinfo(found);
    *ret_count = count;
    return count > 0 ? 0 : EAI_NONAME;
}

/* RFC 6761: localhost, and what ends in .localhost, is this host. */
static bool is_localhost(const char *host)
{
    static const char local[] = "localhost";
    size_t len = strlen(host), local_len = sizeof(local) - 1;

    if (len > 0 && host[len - 1] == '.')
        len--;
    return len >= local_len &&
           strncasecmp(host + len - local_len, local, local_len) == 0 &&
           (len == local_len || host[len - local_len - 1] == '.');
}

/* Returns how many addresses need no lookup: 0, this name does. */
static int known_addresses(const char *host, uint16_t port,
                           struct net_address addresses[], size_t max)
{
    /* More servers listen on the first only than on the second only. */
    static const char *const loopback[] = {"127.0.0.1", "::1"};
    int count = 0;

    if (net_address_parse(host, port, &addresses[0]) == 0)
        return 1;
    if (!is_localhost(host))
        return 0;
    for (size_t i = 0; i < 2 && i < max; i++) {
        if (net_address_parse(loopback[i], port, &addresses[count]) == 0)
            count++;
    }
    return count;
}

static void explain_lookup(struct net_failure *ret_failure, const char *host,
                           int status)
{
    switch (status) {
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        net_failure_set(ret_failure, -EADDRNOTAVAIL,
                        "the host \"%s\" is unknown: no address has this name",
                        host);
        break;
    case EAI_MEMORY:
        net_failure_set(ret_failure, -ENOMEM, "looking up \"%s\": %s", host,
                        log_errno(-ENOMEM));
        break;
    default:
        net_failure_set(ret_failure, -ETIMEDOUT,
                        "no name server tells the addresses of \"%s\": %s",
                        host, gai_strerror(status));
    }
}

/* ---- lookups ------------------------------------------------------------ */

static void resolver_destroy(struct resolver *resolver)
{
    for (size_t i = 0; i < resolver->names_count; i++) {
        free(resolver->names[i]->host);
        free(resolver->names[i]);
    }
    condition_done(&resolver->answered);
    mutex_done(&resolver->lock);
    free(resolver);
}

/* One user less; the last one frees it. */
static void resolver_leave(struct resolver *resolver)
{
    bool is_last;

    mutex_lock(&resolver->lock);
    is_last = --resolver->users == 0;
    mutex_unlock(&resolver->lock);
    if (is_last)
        resolver_destroy(resolver);
}

static void *run_lookup(void *argument)
{
    static struct log_limit limit;
    struct task *task = argument;
    struct resolver *resolver = task->resolver;
    struct name *name = task->name;
    struct net_address found[RESOLVER_ADDRESSES_MAX];
    uint64_t pause_ns = resolver->refresh_ns;
    struct net_failure failure;
    uint64_t left_out;
    size_t count = 0;
    bool is_kept;
    int status;

    (void)pthread_setname_np(pthread_self(), "lookup");
    status = task->lookup(task->lookup_context, name->host, found,
                          RESOLVER_ADDRESSES_MAX, &count);
    free(task);
    mutex_lock(&resolver->lock);
    if (status == 0) {
        memcpy(name->found, found, count * sizeof(found[0]));
        name->count = count;
    } else if (pause_ns > RETRY_NS) {
        pause_ns = RETRY_NS;
    }
    if (status != 0)
        explain_lookup(&name->failure, name->host, status);
    failure = name->failure;
    is_kept = status != 0 && name->count > 0;
    name->next_ns = clock_monotonic_ns() + pause_ns;
    name->is_running = false;
    condition_broadcast(&resolver->answered);
    mutex_unlock(&resolver->lock);
    if (is_kept && log_limit_allows(&limit, &left_out))
        log_warning("%s; its addresses of before are used (%llu more not "
                    "shown)",
                    failure.text, (unsigned long long)left_out);
    resolver_leave(resolver);
    return NULL;
}

/* Start a thread that nobody joins; it takes no signals. */
static int start_detached(void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_t thread;
    int error = pthread_attr_init(&attributes);

    if (error != 0)
        return -error;
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, &attributes, run, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return -error;
}

/* Have the name looked up, if it is time and nobody does. */
static int refresh_locked(struct resolver *resolver, struct name *name)
    REQUIRES(resolver->lock)
{
    struct task *task;
    int error;

    if (name->is_running || clock_monotonic_ns() < name->next_ns)
        return 0;
    task = malloc(sizeof(*task));
    if (!task)
        return -ENOMEM;
    *task = (struct task){resolver, name, resolver->lookup,
                          resolver->lookup_context};
    error = start_detached(run_lookup, task);
    if (error < 0) {
        free(task);
        return error;
    }
    name->is_running = true;
    resolver->users++;
    return 0;
}

/* Find a name, or begin to remember it. */
static int find_name_locked(struct resolver *resolver, const char *host,
                            struct name **ret_name) REQUIRES(resolver->lock)
{
    struct name *name;

    for (size_t i = 0; i < resolver->names_count; i++) {
        if (strcasecmp(resolver->names[i]->host, host) == 0) {
            *ret_name = resolver->names[i];
            return 0;
        }
    }
    if (resolver->names_count == RESOLVER_NAMES_MAX)
        return -ENOBUFS;
    name = calloc(1, sizeof(*name));
    if (!name)
        return -ENOMEM;
    name->host = strdup(host);
    if (!name->host) {
        free(name);
        return -ENOMEM;
    }
    resolver->names[resolver->names_count++] = name;
    *ret_name = name;
    return 0;
}

/*
 * Wait until the name has addresses.  Returns their number, or an error: 0 in
 * ret_failure->error says that it is still to be put into words.
 */
static int await_locked(struct resolver *resolver, const struct name *name,
                        uint64_t deadline_ns, struct net_failure *ret_failure)
    REQUIRES(resolver->lock)
{
    bool is_over = false;

    for (;;) {
        if (resolver->is_interrupted)
            return -ECANCELED;
        if (name->count > 0)
            return (int)name->count;
        if (!name->is_running) {
            *ret_failure = name->failure;
            return name->failure.error;
        }
        if (is_over)
            return -ETIMEDOUT;
        is_over = !condition_wait_until(&resolver->answered, &resolver->lock,
                                        deadline_ns);
    }
}

static int addresses_locked(struct resolver *resolver, const char *host,
                            uint64_t deadline_ns, struct name **ret_name,
                            struct net_failure *ret_failure)
    REQUIRES(resolver->lock)
{
    struct name *name;
    int error = find_name_locked(resolver, host, &name);

    if (error < 0)
        return error;
    error = resolver->is_interrupted ? 0 : refresh_locked(resolver, name);
    if (error < 0 && name->count == 0)
        return error;
    *ret_name = name;
    return await_locked(resolver, name, deadline_ns, ret_failure);
}

int resolver_addresses(struct resolver *resolver, const char *host,
                       uint16_t port, struct net_address addresses[],
                       size_t max, uint64_t deadline_ns,
                       struct net_failure *ret_failure)
{
    int count = known_addresses(host, port, addresses, max);
    struct net_failure failure = {0};
    struct name *name = NULL;

    if (count > 0)
        return count;
    if (host[0] == '\0' || strlen(host) > HOST_MAX) {
        explain_lookup(ret_failure, host, EAI_NONAME);
        return ret_failure->error;
    }
    mutex_lock(&resolver->lock);
    count = addresses_locked(resolver, host, deadline_ns, &name, &failure);
    if (count > 0) {
        count = count < (int)max ? count : (int)max;
        memcpy(addresses, name->found, (size_t)count * sizeof(addresses[0]));
    }
    mutex_unlock(&resolver->lock);
    for (int i = 0; i < count; i++)
        net_address_set_port(&addresses[i], port);
    if (count < 0 && failure.error == 0)
        net_failure_set(&failure, count, "looking up \"%s\": %s", host,
                        count == -ETIMEDOUT ? "no name server has answered yet"
                                            : log_errno(count));
    if (count < 0)
        *ret_failure = failure;
    return count;
}

/* ---- beginning and end -------------------------------------------------- */

int resolver_new(uint64_t refresh_ns, struct resolver **ret_resolver)
{
    struct resolver *resolver = calloc(1, sizeof(*resolver));

    if (!resolver)
        return -ENOMEM;
    mutex_init(&resolver->lock);
    condition_init(&resolver->answered);
    resolver->refresh_ns = refresh_ns;
    resolver->users = 1;
    resolver->lookup = lookup_by_host;
    *ret_resolver = resolver;
    return 0;
}

void resolver_interrupt(struct resolver *resolver)
{
    mutex_lock(&resolver->lock);
    resolver->is_interrupted = true;
    condition_broadcast(&resolver->answered);
    mutex_unlock(&resolver->lock);
}

void resolver_free(struct resolver *resolver)
{
    if (resolver)
        resolver_leave(resolver);
}

void resolver_set_lookup_for_tests(struct resolver *resolver,
                                   resolver_lookup *lookup, void *context)
{
    mutex_lock(&resolver->lock);
    resolver->lookup = lookup;
    resolver->lookup_context = context;
    mutex_unlock(&resolver->lock);
}
