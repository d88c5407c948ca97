/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_rate - how fast the S3 client is, by itself.
 *
 *   s3_rate put|get SERVER SIZE OBJECTS THREADS SECONDS
 *       whole objects of SIZE bytes, by a store as the programs have it
 *   s3_rate range SERVER SIZE OBJECTS LENGTH SECONDS
 *       ranges of LENGTH bytes here and there, one at a time, by that store
 *   s3_rate bare SERVER SIZE OBJECTS LENGTH SECONDS
 *       the same, each a signed GET on one connection and nothing else
 *   s3_rate trace SERVER SIZE OBJECTS LENGTH SECONDS
 *       ranges by that store, eight at a time; before them a line "begun", and
 *       in the end what was done in each tenth of a second
 *
 * SERVER is host,port,CA,bucket,access key,secret key; CA is "" for HTTP, and
 * port may be two, "9000+9001".
 * Objects are bench/0, bench/1 ...; all but put want them put before.
 * Prints JSON.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/bandwidth.h"
#include "base/clock.h"
#include "base/connect.h"
#include "base/histogram.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/number.h"
#include "base/resolve.h"
#include "base/stream.h"
#include "base/tls.h"
#include "object_store.h"
#include "s3/credentials.h"
#include "s3/http_exchange.h"
#include "s3/s3_request.h"
#include "s3/s3_store.h"

enum {
    KEY_MAX = 64,
    TIMEOUT_MS = 10000,
    THREADS_MAX = 64,
    TRACE_THREADS = 8,
    TENTHS_MAX = 1200,
};

#define SECOND_NS 1000000000U

struct server {
    char *host;
    uint16_t port;
    uint16_t other_port; /* 0: there is none */
    char *ca;            /* NULL: no TLS */
    char *bucket, *access_key, *secret_key;
};

static struct server server;
static struct object_store *store;
static uint64_t size, objects, length, deadline_ns;
static const char *mode;
static uint64_t begin_ns;
static atomic_uint_fast64_t next, bytes, requests;

/* What ended in a tenth of a second. */
static struct mutex tenths_mutex;
static struct histogram tenths[TENTHS_MAX];

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "s3_rate: %s\n", what);
    exit(EXIT_FAILURE);
}

static uint64_t number(const char *text)
{
    uint64_t value = 0;

    need(number_parse(text, 0, UINT32_MAX, &value) == 0, "not a number");
    return value;
}

static void parse_server(char *text)
{
    char *ports;

    server.host = strsep(&text, ",");
    need(text != NULL, "SERVER has six parts");
    ports = strsep(&text, ",");
    need(text != NULL, "SERVER has six parts");
    server.port = (uint16_t)number(strsep(&ports, "+"));
    server.other_port = ports ? (uint16_t)number(ports) : 0;
    server.ca = strsep(&text, ",");
    server.bucket = strsep(&text, ",");
    server.access_key = strsep(&text, ",");
    server.secret_key = text;
    need(text != NULL, "SERVER has six parts");
    if (*server.ca == '\0')
        server.ca = NULL;
}

static void open_store(void)
{
    const char *hosts[] = {server.host};
    const uint16_t ports[] = {server.port, server.other_port};
    struct credentials_options credentials = {
        .access_key = server.access_key,
        .secret_key = server.secret_key,
    };
    struct s3_options options = {
        .hosts = hosts,
        .hosts_count = 1,
        .ports = ports,
        .ports_count = server.other_port ? 2 : 1,
        .is_tls = server.ca != NULL,
        .ca_file = server.ca,
        .bucket = server.bucket,
        .timeout_ms = TIMEOUT_MS,
        .concurrency = THREADS_MAX,
        .credentials = &credentials,
    };

    need(s3_store_open(&options, &store) == 0, "the store cannot be opened");
}

/* Fill with what does not compress, and is not the same twice. */
static void fill(unsigned char *data, size_t len, uint64_t seed)
{
    uint64_t word = seed * 0x9e3779b97f4a7c15U + 1;

    for (size_t at = 0; at + sizeof(word) <= len; at += sizeof(word)) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        memcpy(data + at, &word, sizeof(word));
    }
}

static void make_key(char key[KEY_MAX], uint64_t object)
{
    (void)snprintf(key, KEY_MAX, "bench/%u", (unsigned)(object % objects));
}

/* ---- whole objects ------------------------------------------------------- */

static void *run_thread(void *unused)
{
    unsigned char *data = malloc(size);
    bool puts = strcmp(mode, "put") == 0;
    char key[KEY_MAX];

    (void)unused;
    need(data != NULL, "no memory");
    fill(data, size, (uint64_t)(uintptr_t)data);
    while (clock_monotonic_ns() < deadline_ns) {
        uint64_t object = atomic_fetch_add(&next, 1);

        /* Every object is put, however little time there is. */
        make_key(key, object);
        if (puts)
            need(store->put(store, key, data, size, false) == 0, "put");
        else
            need(store->get(store, key, 0, data, size, OBJECT_WAITED_FOR) == 0,
                 "get");
        atomic_fetch_add(&bytes, size);
        atomic_fetch_add(&requests, 1);
    }
    free(data);
    return NULL;
}

static void run_whole(uint64_t threads)
{
    pthread_t running[THREADS_MAX];

    need(threads > 0 && threads <= THREADS_MAX, "THREADS is too large");
    for (uint64_t i = 0; i < threads; i++)
        need(pthread_create(&running[i], NULL, run_thread, NULL) == 0,
             "no thread");
    for (uint64_t i = 0; i < threads; i++)
        need(pthread_join(running[i], NULL) == 0, "no end of a thread");
}

/* ---- ranges -------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static struct stream *connect_to_server(struct tls_context **ret_tls)
{
    struct tls_client_options options = {.ca_file = server.ca};
    struct net_address addresses[8];
    struct net_failure failure;
    struct resolver *resolver = NULL;
    struct stream *stream = NULL;
    uint64_t deadline = clock_monotonic_ns() + 10 * (uint64_t)SECOND_NS;
    int count, fd;

    need(resolver_new(60 * (uint64_t)SECOND_NS, &resolver) == 0, "resolver");
    count = resolver_addresses(resolver, server.host, server.port, addresses, 8,
                               deadline, &failure);
    need(count > 0, "no such host");
    resolver_free(resolver);
    fd = connect_any(addresses, (size_t)count, deadline, -1, NULL, &failure);
    need(fd >= 0, "no connection");
    need(stream_open(fd, &stream) == 0, "no memory");
    *ret_tls = NULL;
    if (server.ca) {
        need(tls_client_new(&options, ret_tls) == 0, "CA");
        need(tls_connect(*ret_tls, server.host, &stream, deadline, &failure) ==
                 0,
             "no TLS");
    }
    return stream;
}

struct bare {
    struct stream *stream;
    struct s3_site site;
    struct sigv4_key key;
    struct s3_request request;
    struct tls_context *tls;
};

static void bare_get(struct bare *bare, const char *key, uint64_t offset,
                     void *data)
{
    struct sigv4_credentials credentials = {
        .access_key = server.access_key,
        .secret_key = server.secret_key,
    };
    struct s3_operation operation = {
        .verb = S3_GET, .key = key, .offset = offset, .len = length};
    struct http_exchange exchange = {
        .data = data,
        .room = length,
        .progress_ns = 10 * (uint64_t)SECOND_NS,
        .deadline_ns = STREAM_FOREVER,
    };

    need(s3_request_compose(&operation, &bare->site, NULL, &credentials,
                            &bare->key, clock_realtime_ns() / SECOND_NS,
                            &bare->request) == 0,
         "the request cannot be composed");
    exchange.head = bare->request.head;
    exchange.head_len = bare->request.head_len;
    need(http_exchange_run(bare->stream, &exchange) == 0 &&
             exchange.answer.status == 206 && exchange.len == length &&
             exchange.is_reusable,
         "a bare GET went wrong");
    http_exchange_done(&exchange);
}

static void begin_bare(struct bare *bare)
{
    struct s3_site_options options = {
        .is_tls = server.ca != NULL,
        .host = server.host,
        .port = server.port,
        .bucket = server.bucket,
    };

    need(s3_site_init(&bare->site, &options) == 0, "no such site");
    bare->stream = connect_to_server(&bare->tls);
}

/* Read ranges and print how long they took. */
static void run_ranges(bool is_bare)
{
    static uint64_t times[1 << 20];
    static struct bare bare;
    unsigned char *data = malloc(length);
    uint64_t word = 0x2545f4914f6cdd1dU;
    size_t count = 0, median, tail;
    double sum = 0;

    need(data != NULL && length > 0 && length <= size, "LENGTH is wrong");
    if (is_bare)
        begin_bare(&bare);
    while (clock_monotonic_ns() < deadline_ns &&
           count < sizeof(times) / sizeof(*times)) {
        uint64_t begin, offset;
        char key[KEY_MAX];

        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        offset = (word >> 20) % (size - length + 1);
        make_key(key, word % objects);
        begin = clock_monotonic_ns();
        if (is_bare)
            bare_get(&bare, key, offset, data);
        else
            need(store->get(store, key, offset, data, length,
                            OBJECT_WAITED_FOR) == 0,
                 "get");
        times[count] = clock_monotonic_ns() - begin;
        sum += (double)times[count++];
    }
    need(count > 0, "no request fitted into the time");
    qsort(times, count, sizeof(*times), compare);
    median = count / 2;
    tail = count * 99 / 100;
    (void)printf("{\"requests\": %zu, \"mean_us\": %.1f, \"p50_us\": %.1f, "
                 "\"p99_us\": %.1f}\n",
                 count, sum / (double)count / 1e3, (double)times[median] / 1e3,
                 (double)times[tail] / 1e3);
    if (is_bare) {
        stream_close(bare.stream);
        tls_free(bare.tls);
    }
    free(data);
}

/* ---- in time ------------------------------------------------------------- */

static void *trace_thread(void *number_of)
{
    uint64_t word = 0x2545f4914f6cdd1dU ^ (uintptr_t)number_of << 32;
    unsigned char *data = malloc(length);

    need(data != NULL, "no memory");
    while (clock_monotonic_ns() < deadline_ns) {
        uint64_t begin = clock_monotonic_ns(), end;
        char key[KEY_MAX];

        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        make_key(key, word % objects);
        need(store->get(store, key, (word >> 20) % (size - length + 1), data,
                        length, OBJECT_WAITED_FOR) == 0,
             "get");
        end = clock_monotonic_ns();
        mutex_lock(&tenths_mutex);
        if ((end - begin_ns) / (SECOND_NS / 10) < TENTHS_MAX)
            histogram_add(&tenths[(end - begin_ns) / (SECOND_NS / 10)],
                          end - begin);
        mutex_unlock(&tenths_mutex);
    }
    free(data);
    return NULL;
}

/* Print a tenth: [microseconds at most, how many], ... */
static void print_tenth(const struct histogram *tenth)
{
    const char *separator = "";

    (void)printf("[");
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (tenth->counts[i] == 0)
            continue;
        (void)printf("%s[%.0f, %u]", separator,
                     (double)histogram_bucket_end_ns(i) / 1e3,
                     (unsigned)tenth->counts[i]);
        separator = ", ";
    }
    (void)printf("]");
}

static void run_trace(void)
{
    pthread_t running[TRACE_THREADS];
    size_t count = (deadline_ns - begin_ns) / (SECOND_NS / 10);

    need(length > 0 && length <= size && count <= TENTHS_MAX,
         "LENGTH or SECONDS is wrong");
    mutex_init(&tenths_mutex);
    (void)printf("begun\n");
    (void)fflush(stdout);
    for (uintptr_t i = 0; i < TRACE_THREADS; i++)
        need(pthread_create(&running[i], NULL, trace_thread, (void *)i) == 0,
             "no thread");
    for (size_t i = 0; i < TRACE_THREADS; i++)
        need(pthread_join(running[i], NULL) == 0, "no end of a thread");
    (void)printf("[");
    for (size_t i = 0; i < count; i++) {
        print_tenth(&tenths[i]);
        (void)printf("%s", i + 1 < count ? ",\n" : "]\n");
    }
}

/* -------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct rusage used;

    need(getrusage(RUSAGE_SELF, &used) == 0, "getrusage");
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    double seconds;

    need(argc == 7, "MODE SERVER SIZE OBJECTS THREADS|LENGTH SECONDS");
    log_open("s3_rate", LOG_TARGET_STDERR, LOG_LEVEL_WARNING);
    mode = argv[1];
    parse_server(argv[2]);
    size = number(argv[3]);
    objects = number(argv[4]);
    length = number(argv[5]);
    need(size > 0 && objects > 0, "SIZE or OBJECTS is 0");
    if (strcmp(mode, "bare") != 0)
        open_store();
    begin_ns = clock_monotonic_ns();
    deadline_ns = begin_ns + number(argv[6]) * SECOND_NS;
    if (strcmp(mode, "bare") == 0 || strcmp(mode, "range") == 0) {
        run_ranges(strcmp(mode, "bare") == 0);
    } else if (strcmp(mode, "trace") == 0) {
        run_trace();
    } else {
        run_whole(length);
        seconds = (double)(clock_monotonic_ns() - begin_ns) / 1e9;
        (void)printf("{\"requests\": %u, \"mb_s\": %.1f, "
                     "\"cpu_s_per_gib\": %.3f}\n",
                     (unsigned)requests, (double)bytes / seconds / 1e6,
                     cpu_seconds() / ((double)bytes / (1 << 30)));
    }
    if (store)
        store->close(store);
    return EXIT_SUCCESS;
}
