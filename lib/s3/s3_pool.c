/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_pool.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "s3/s3_target.h"

/* Then a new one, by a new lookup, finds what a name means by now. */
#define LIFETIME_NS UINT64_C(300000000000)

struct endpoint {
    struct s3_target *target;
    struct s3_connection *idle; /* the one used last first */
};

struct s3_connection {
    struct s3_pool *pool;
    size_t endpoint;
    struct s3_target *target; /* held */
    struct stream *stream;
    struct stream *plain; /* the same, or below it: does not change */
    uint64_t made_ns, idle_since_ns;
    uint64_t requests; /* that it has served */
    /* Set by shutdown; relaxed: who returns it has been told otherwise. */
    atomic_bool is_shut;
    /* In pool->busy, or (next alone) in an endpoint's idle ones. */
    struct s3_connection *next, *previous;
};

struct s3_pool {
    struct mutex lock;
    struct tls_context *tls;
    struct resolver *resolver;
    uint64_t requests_max, idle_ns, lifetime_ns, connect_ns;
    int interrupt_fd; /* readable once interrupted */
    bool is_interrupted GUARDED_BY(lock);
    struct s3_connection *busy GUARDED_BY(lock); /* borrowed, or shake hands */
    size_t endpoint_count;
    struct endpoint endpoints[] GUARDED_BY(lock);
};

/* ---- lists -------------------------------------------------------------- */

static void busy_add_locked(struct s3_pool *pool, struct s3_connection *added)
    REQUIRES(pool->lock)
{
    added->previous = NULL;
    added->next = pool->busy;
    if (added->next)
        added->next->previous = added;
    pool->busy = added;
}

static void busy_remove_locked(struct s3_pool *pool,
                               struct s3_connection *removed)
    REQUIRES(pool->lock)
{
    if (removed->previous)
        removed->previous->next = removed->next;
    else
        pool->busy = removed->next;
    if (removed->next)
        removed->next->previous = removed->previous;
}

/*
 * Take out those that are not to be used again, as a list; the others were
 * used later.
 */
static struct s3_connection *take_stale_locked(struct s3_pool *pool,
                                               size_t index, uint64_t now_ns)
    REQUIRES(pool->lock)
{
    struct endpoint *endpoint = &pool->endpoints[index];
    uint64_t idle_ns =
        pool->idle_ns > 0 ? pool->idle_ns : s3_target_idle_ns(endpoint->target);
    struct s3_connection **at = &endpoint->idle, *stale;

    while (*at && now_ns < (*at)->idle_since_ns + idle_ns &&
           (*at)->target == endpoint->target)
        at = &(*at)->next;
    stale = *at;
    *at = NULL;
    return stale;
}

/* ---- the end of connections --------------------------------------------- */

/* Free one that is in no list; is_idle: the peer expects a farewell. */
static void connection_close(struct s3_connection *connection, bool is_idle)
{
    if (is_idle)
        (void)stream_finish(connection->stream, STREAM_NOW);
    stream_close(connection->stream);
    s3_target_release(connection->target);
    free(connection);
}

static void close_idle(struct s3_connection *list)
{
    while (list) {
        struct s3_connection *next = list->next;

        connection_close(list, true);
        list = next;
    }
}

/*
 * Whether nothing came while nobody used it.  What came is lost: the
 * connection is closed then.  A ticket of TLS is taken in and is nothing.
 */
static bool is_quiet(struct s3_connection *connection)
{
    char byte;

    return stream_receive(connection->stream, &byte, 1, STREAM_NOW) == -EAGAIN;
}

/* ---- making one --------------------------------------------------------- */

static int fail_interrupted(struct net_failure *ret_failure)
{
    net_failure_set(ret_failure, -ECANCELED, "%s", log_errno(-ECANCELED));
    return -ECANCELED;
}

/* Let it be interrupted from now on, unless it is too late for that. */
static int connection_list(struct s3_connection *connection)
{
    struct s3_pool *pool = connection->pool;
    bool is_late;

    mutex_lock(&pool->lock);
    is_late = pool->is_interrupted;
    if (!is_late)
        busy_add_locked(pool, connection);
    mutex_unlock(&pool->lock);
    return is_late ? -ECANCELED : 0;
}

static void connection_unlist(struct s3_connection *connection)
{
    mutex_lock(&connection->pool->lock);
    busy_remove_locked(connection->pool, connection);
    mutex_unlock(&connection->pool->lock);
}

static bool is_interrupted(struct s3_pool *pool)
{
    bool result;

    mutex_lock(&pool->lock);
    result = pool->is_interrupted;
    mutex_unlock(&pool->lock);
    return result;
}

/* Make the stream of a connection, which is listed then. */
static int connection_open(struct s3_connection *connection,
                           uint64_t deadline_ns,
                           struct net_failure *ret_failure)
{
    struct s3_pool *pool = connection->pool;
    struct net_address address;
    int fd = s3_target_connect(connection->target, pool->resolver,
                               pool->interrupt_fd, deadline_ns, &address,
                               ret_failure);
    int error;

    if (fd < 0)
        return fd;
    error = stream_open(fd, &connection->plain);
    if (error < 0) {
        net_failure_set(ret_failure, error, "%s", log_errno(error));
        return error;
    }
    connection->stream = connection->plain;
    if (connection_list(connection) < 0)
        return -ECANCELED; /* told below */
    if (s3_target_is_tls(connection->target))
        error = s3_target_secure(connection->target, pool->tls, &address,
                                 &connection->stream, deadline_ns, ret_failure);
    if (error < 0)
        connection_unlist(connection);
    return error;
}

/* Prepare one; NULL: no memory. */
static struct s3_connection *connection_new(struct s3_pool *pool, size_t index)
{
    struct s3_connection *connection = calloc(1, sizeof(*connection));

    if (!connection)
        return NULL;
    connection->pool = pool;
    connection->endpoint = index;
    connection->made_ns = clock_monotonic_ns();
    mutex_lock(&pool->lock);
    connection->target = s3_target_hold(pool->endpoints[index].target);
    mutex_unlock(&pool->lock);
    return connection;
}

static int make_connection(struct s3_pool *pool, size_t index,
                           uint64_t deadline_ns,
                           struct s3_connection **ret_connection,
                           struct net_failure *ret_failure)
{
    struct s3_connection *connection = connection_new(pool, index);
    int error;

    if (!connection) {
        net_failure_set(ret_failure, -ENOMEM, "%s", log_errno(-ENOMEM));
        return -ENOMEM;
    }
    if (deadline_ns > connection->made_ns &&
        deadline_ns - connection->made_ns > pool->connect_ns)
        deadline_ns = connection->made_ns + pool->connect_ns;
    error = connection_open(connection, deadline_ns, ret_failure);
    if (error < 0) {
        connection_close(connection, false);
        return is_interrupted(pool) ? fail_interrupted(ret_failure) : error;
    }
    *ret_connection = connection;
    return 0;
}

/* ---- lending ------------------------------------------------------------ */

/* Take an idle one, NULL if there is none, or -ECANCELED. */
static int take_idle(struct s3_pool *pool, size_t index,
                     struct s3_connection **ret_connection)
{
    struct s3_connection *taken = NULL, *stale = NULL;
    bool is_late;

    mutex_lock(&pool->lock);
    is_late = pool->is_interrupted;
    if (!is_late) {
        stale = take_stale_locked(pool, index, clock_monotonic_ns());
        taken = pool->endpoints[index].idle;
    }
    if (taken) {
        pool->endpoints[index].idle = taken->next;
        busy_add_locked(pool, taken);
    }
    mutex_unlock(&pool->lock);
    close_idle(stale);
    *ret_connection = taken;
    return is_late ? -ECANCELED : 0;
}

int s3_pool_borrow(struct s3_pool *pool, size_t endpoint, bool is_fresh,
                   uint64_t deadline_ns, struct s3_connection **ret_connection,
                   struct net_failure *ret_failure)
{
    struct s3_connection *connection = NULL;

    assert(endpoint < pool->endpoint_count);
    while (!is_fresh) {
        if (take_idle(pool, endpoint, &connection) < 0)
            return fail_interrupted(ret_failure);
        if (!connection)
            break;
        if (is_quiet(connection)) {
            *ret_connection = connection;
            return 0;
        }
        connection_unlist(connection);
        connection_close(connection, false);
    }
    return make_connection(pool, endpoint, deadline_ns, ret_connection,
                           ret_failure);
}

/* Whether it may be lent once more. */
static bool is_good_locked(const struct s3_pool *pool,
                           const struct s3_connection *connection,
                           uint64_t now_ns) REQUIRES(pool->lock)
{
    return !pool->is_interrupted &&
           !atomic_load_explicit(&connection->is_shut, memory_order_relaxed) &&
           connection->target == pool->endpoints[connection->endpoint].target &&
           now_ns < connection->made_ns + pool->lifetime_ns &&
           (pool->requests_max == 0 ||
            connection->requests < pool->requests_max);
}

void s3_pool_return(struct s3_pool *pool, struct s3_connection *connection,
                    bool is_reusable)
{
    struct endpoint *endpoint = &pool->endpoints[connection->endpoint];
    uint64_t now_ns = clock_monotonic_ns();
    struct s3_connection *stale;
    bool is_kept;

    connection->requests++;
    mutex_lock(&pool->lock);
    busy_remove_locked(pool, connection);
    is_kept = is_reusable && is_good_locked(pool, connection, now_ns);
    stale = take_stale_locked(pool, connection->endpoint, now_ns);
    if (is_kept) {
        connection->idle_since_ns = now_ns;
        connection->next = endpoint->idle;
        endpoint->idle = connection;
    }
    mutex_unlock(&pool->lock);
    close_idle(stale);
    if (!is_kept)
        connection_close(connection, is_reusable);
}

struct stream *s3_connection_stream(const struct s3_connection *connection)
{
    return connection->stream;
}

bool s3_connection_is_reused(const struct s3_connection *connection)
{
    return connection->requests > 0;
}

void s3_connection_shutdown(struct s3_connection *connection)
{
    atomic_store_explicit(&connection->is_shut, true, memory_order_relaxed);
    stream_shutdown(connection->plain);
}

/* ---- the pool ----------------------------------------------------------- */

static struct s3_target *target_of(const struct s3_pool_endpoint *endpoint)
{
    return s3_target_new(endpoint->host, endpoint->port, endpoint->tls_name);
}

int s3_pool_redirect(struct s3_pool *pool, size_t endpoint,
                     const struct s3_pool_endpoint *to)
{
    struct s3_target *target = target_of(to), *before;
    struct s3_connection *stale;

    assert(endpoint < pool->endpoint_count);
    assert(!to->tls_name || pool->tls);
    if (!target)
        return -ENOMEM;
    mutex_lock(&pool->lock);
    before = pool->endpoints[endpoint].target;
    pool->endpoints[endpoint].target = target;
    stale = take_stale_locked(pool, endpoint, clock_monotonic_ns());
    mutex_unlock(&pool->lock);
    s3_target_release(before);
    close_idle(stale);
    return 0;
}

void s3_pool_tidy(struct s3_pool *pool)
{
    for (size_t i = 0; i < pool->endpoint_count; i++) {
        struct s3_connection *stale;

        mutex_lock(&pool->lock);
        stale = take_stale_locked(pool, i, clock_monotonic_ns());
        mutex_unlock(&pool->lock);
        close_idle(stale);
    }
}

void s3_pool_interrupt(struct s3_pool *pool)
{
    const uint64_t one = 1;
    ssize_t written;

    mutex_lock(&pool->lock);
    pool->is_interrupted = true;
    /* It blocks on nothing, and nobody else closes what is in the list. */
    for (struct s3_connection *busy = pool->busy; busy; busy = busy->next)
        s3_connection_shutdown(busy);
    mutex_unlock(&pool->lock);
    written = write(pool->interrupt_fd, &one, sizeof(one));
    assert(written == (ssize_t)sizeof(one));
    resolver_interrupt(pool->resolver);
}

int s3_pool_new(const struct s3_pool_options *options,
                struct s3_pool **ret_pool)
{
    size_t count = options->endpoint_count;
    struct s3_pool *pool =
        calloc(1, sizeof(*pool) + count * sizeof(pool->endpoints[0]));
    int error = 0;

    if (!pool)
        return -ENOMEM;
    mutex_init(&pool->lock);
    pool->tls = options->tls;
    pool->resolver = options->resolver;
    pool->requests_max = options->requests_max;
    pool->idle_ns = options->idle_ns;
    pool->lifetime_ns =
        options->lifetime_ns > 0 ? options->lifetime_ns : LIFETIME_NS;
    pool->connect_ns = options->connect_ns;
    pool->endpoint_count = count;
    pool->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->interrupt_fd < 0)
        error = -errno;
    for (size_t i = 0; i < count && error == 0; i++) {
        assert(!options->endpoints[i].tls_name || options->tls);
        pool->endpoints[i].target = target_of(&options->endpoints[i]);
        if (!pool->endpoints[i].target)
            error = -ENOMEM;
    }
    if (error < 0) {
        s3_pool_free(pool);
        return error;
    }
    *ret_pool = pool;
    return 0;
}

void s3_pool_free(struct s3_pool *pool)
{
    if (!pool)
        return;
    assert(!pool->busy);
    for (size_t i = 0; i < pool->endpoint_count; i++) {
        close_idle(pool->endpoints[i].idle);
        s3_target_release(pool->endpoints[i].target);
    }
    if (pool->interrupt_fd >= 0)
        (void)close(pool->interrupt_fd);
    mutex_done(&pool->lock);
    free(pool);
}
