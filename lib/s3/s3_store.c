/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The object_store's functions put together what s3_call.c then attempts, and
 * decide what only all attempts together can tell.
 */
#include "s3/s3_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/log.h"
#include "base/resolve.h"
#include "base/tls.h"
#include "object_store.h"
#include "s3/credentials.h"
#include "s3/s3_call.h"
#include "s3/s3_delete.h"
#include "s3/s3_describe.h"
#include "s3/s3_endpoint.h"
#include "s3/s3_gate.h"
#include "s3/s3_hedge.h"
#include "s3/s3_limits.h"
#include "s3/s3_list.h"
#include "s3/s3_parts.h"
#include "s3/s3_places.h"
#include "s3/s3_pool.h"
#include "s3/s3_prober.h"

static const uint64_t MS_NS = 1000000;
static const uint64_t DNS_REFRESH_NS = UINT64_C(60) * 1000000000;
static const uint64_t CONNECT_NS = UINT64_C(5) * 1000000000;

struct s3_store {
    struct object_store store; /* first */
    struct s3_parts parts;
    struct s3_prober *prober;
    struct resolver *resolver;
    struct tls_context *tls;
    /* What parts.storage points to. */
    char *storage_class, *sse, *sse_key_id;
};

static struct s3_store *of_store(struct object_store *store)
{
    return (struct s3_store *)(void *)store;
}

struct s3_parts *s3_parts_of_store(struct object_store *store)
{
    return &of_store(store)->parts;
}

/* ---- get, head ---------------------------------------------------------- */

static int head(struct s3_parts *parts, const char *key,
                enum object_urgency urgency, struct object_info *ret_info)
{
    const struct s3_operation operation = {.verb = S3_HEAD, .key = key};
    struct s3_call call = {.operation = &operation, .urgency = urgency};
    int error = s3_call_run(parts, &call);

    if (!error)
        *ret_info = (struct object_info){.size = call.size,
                                         .modified_ns = call.modified_ns};
    return error;
}

static int get(struct s3_parts *parts, const char *key, uint64_t offset,
               void *data, size_t len, enum object_urgency urgency)
{
    const struct s3_operation operation = {
        .verb = S3_GET,
        .key = key,
        .offset = offset,
        .len = len,
    };
    struct s3_call call = {
        .operation = &operation,
        .urgency = urgency,
        .data = data,
    };

    return s3_call_run(parts, &call);
}

/*
 * A head of what is not there; but its answer has no document that tells what
 * that is, nor who says so.  The answer to a get has.
 */
static int head_in_words(struct s3_parts *parts, const char *key,
                         enum object_urgency urgency,
                         struct object_info *ret_info)
{
    int error = head(parts, key, urgency, ret_info);
    char byte;

    if (error == -ENOENT) {
        error = get(parts, key, 0, &byte, 1, urgency);
        if (!error)
            error = -EIO; /* there, and not there */
    }
    return error;
}

static int s3_store_head(struct object_store *store, const char *key,
                         struct object_info *ret_info)
{
    if (!object_key_is_valid(key))
        return -EINVAL;
    return head_in_words(s3_parts_of_store(store), key, OBJECT_BACKGROUND,
                         ret_info);
}

static int s3_store_get(struct object_store *store, const char *key,
                        uint64_t offset, void *data, size_t len,
                        enum object_urgency urgency)
{
    struct object_info info;
    int error;

    if (!object_key_is_valid(key) || offset > UINT64_MAX - len)
        return -EINVAL;
    if (len > 0)
        return get(s3_parts_of_store(store), key, offset, data, len, urgency);
    /* There is no range of no bytes. */
    error = head_in_words(s3_parts_of_store(store), key, urgency, &info);
    return error == 0 && offset > info.size ? -EIO : error;
}

/* ---- put ---------------------------------------------------------------- */

/*
 * The key of a conditional put is taken, but perhaps by an attempt of it whose
 * answer was lost: then the object is what was to be put.
 */
static int compare(struct s3_parts *parts, const char *key, const void *data,
                   size_t len)
{
    AUTO_FREE void *there = NULL;
    struct object_info info;
    int error;

    error = head(parts, key, OBJECT_BACKGROUND, &info);
    if (!error && info.size != len)
        return -EEXIST;
    if (!error && len > 0) {
        there = malloc(len);
        if (!there)
            return -ENOMEM;
        error = get(parts, key, 0, there, len, OBJECT_BACKGROUND);
    }
    /* Taken, and then not there: nothing is known. */
    if (error)
        return error == -ENOENT ? -EIO : error;
    return len == 0 || memcmp(there, data, len) == 0 ? 0 : -EEXIST;
}

static int s3_store_put(struct object_store *store, const char *key,
                        const void *data, size_t len, bool if_absent)
{
    struct s3_parts *parts = s3_parts_of_store(store);
    struct s3_body body;
    const struct s3_operation operation = {
        .verb = S3_PUT,
        .key = key,
        .if_absent = if_absent,
        .body = &body,
    };
    struct s3_call call = {
        .operation = &operation,
        .urgency = OBJECT_BACKGROUND,
    };
    int error;

    if (!object_key_is_valid(key))
        return -EINVAL;
    s3_body_init(&body, &parts->site, data, len, parts->is_unsigned);
    error = s3_call_run(parts, &call);
    return error == -EALREADY ? compare(parts, key, data, len) : error;
}

/* ---- delete, list ------------------------------------------------------- */

static int s3_store_delete(struct object_store *store, const char *const keys[],
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!object_key_is_valid(keys[i]))
            return -EINVAL;
    }
    return s3_delete_run(s3_parts_of_store(store), keys, count);
}

static int s3_store_list(struct object_store *store, const char *prefix,
                         const char *after, object_store_each *each,
                         void *context)
{
    return s3_list_run(s3_parts_of_store(store), prefix, after, each, context);
}

/* ---- interrupt, describe, close ----------------------------------------- */

static void s3_store_interrupt(struct object_store *store)
{
    struct s3_parts *parts = s3_parts_of_store(store);

    /* First what says why the rest ends. */
    s3_bell_interrupt(&parts->bell);
    s3_endpoints_interrupt(parts->endpoints);
    s3_gate_interrupt(parts->gate);
    credentials_interrupt(parts->credentials);
    s3_pool_interrupt(parts->pool);
}

static char *s3_store_describe(struct object_store *store)
{
    return s3_describe(s3_parts_of_store(store));
}

/* Free what there is of it: also when it was not opened wholly. */
static void free_store(struct s3_store *s3)
{
    struct s3_parts *parts = &s3->parts;

    s3_prober_free(s3->prober);
    s3_hedges_free(parts->hedges);
    s3_pool_free(parts->pool);
    resolver_free(s3->resolver);
    tls_free(s3->tls);
    credentials_free(parts->credentials);
    s3_limits_free(parts->limits);
    s3_gate_free(parts->gate);
    s3_places_free(parts->places);
    s3_endpoints_free(parts->endpoints);
    for (size_t i = 0; i < S3_VERBS; i++)
        s3_complaint_done(&parts->complaints[i]);
    s3_bell_done(&parts->bell);
    free(s3->storage_class);
    free(s3->sse);
    free(s3->sse_key_id);
    free(s3);
}

static void s3_store_close(struct object_store *store)
{
    s3_store_interrupt(store);
    free_store(of_store(store));
}

/* ---- open --------------------------------------------------------------- */

static void credentials_changed(void *context)
{
    struct s3_parts *parts = context;

    s3_bell_ring(&parts->bell);
}

static bool is_told(const char *text)
{
    return text && text[0] != '\0';
}

static int copy_text(const char *text, char **ret_copy)
{
    if (!is_told(text))
        return 0;
    *ret_copy = strdup(text);
    return *ret_copy ? 0 : -ENOMEM;
}

static int copy_storage(struct s3_store *s3, const struct s3_options *options)
{
    int error = copy_text(options->storage_class, &s3->storage_class);

    if (!error)
        error = copy_text(options->sse, &s3->sse);
    if (!error)
        error = copy_text(options->sse_key_id, &s3->sse_key_id);
    s3->parts.storage = (struct s3_storage){
        .storage_class = s3->storage_class,
        .sse = s3->sse,
        .sse_key_id = s3->sse_key_id,
    };
    return error;
}

static int make_endpoints(struct s3_parts *parts,
                          const struct s3_options *options)
{
    struct s3_endpoints_options endpoints = {
        .hosts = options->hosts,
        .hosts_count = options->hosts_count,
        .ports = options->ports,
        .ports_count = options->ports_count,
    };

    if (options->hosts_count == 0 || options->ports_count == 0 ||
        options->hosts_count > S3_HOSTS_MAX ||
        options->ports_count > S3_PORTS_MAX)
        return -EINVAL;
    if (getrandom(&endpoints.seed, sizeof(endpoints.seed), 0) !=
        (ssize_t)sizeof(endpoints.seed))
        return -EIO;
    return s3_endpoints_new(&endpoints, &parts->endpoints);
}

static int make_sites(const struct s3_parts *parts,
                      const struct s3_options *options, struct s3_site sites[])
{
    int error = 0;

    for (size_t i = 0; !error && i < s3_endpoints_count(parts->endpoints);
         i++) {
        const struct s3_site_options site = {
            .is_tls = options->is_tls,
            .host = s3_endpoints_host(parts->endpoints, i),
            .name = is_told(options->name) ? options->name : NULL,
            .port = s3_endpoints_port(parts->endpoints, i),
            .addressing = (enum s3_addressing)options->addressing,
            .bucket = options->bucket,
            .prefix = options->prefix,
            .region = options->region,
        };

        error = s3_site_init(&sites[i], &site);
        if (error)
            log_error("S3 %s, bucket %s: there can be no requests for these: "
                      "host, bucket, prefix or region is wrong",
                      s3_endpoints_name(parts->endpoints, i), options->bucket);
    }
    return error;
}

/* Names of the pool's endpoints, while it is made. */
struct names {
    char dns[S3_NAME_MAX + 1];
    char tls[S3_NAME_MAX + 1];
};

static int make_pool(struct s3_store *s3, const struct s3_options *options,
                     const struct s3_site sites[])
{
    size_t count = s3_endpoints_count(s3->parts.endpoints);
    struct s3_pool_endpoint endpoints[S3_ENDPOINTS_MAX];
    AUTO_FREE struct names *names = calloc(count, sizeof(*names));
    const struct tls_client_options tls = {
        .ca_file = is_told(options->ca_file) ? options->ca_file : NULL,
        .is_insecure = options->is_insecure,
    };
    struct s3_pool_options pool = {
        .endpoints = endpoints,
        .endpoint_count = count,
        .requests_max = options->max_requests_per_connection,
        .connect_ns = s3->parts.timeout_ns < CONNECT_NS ? s3->parts.timeout_ns
                                                        : CONNECT_NS,
    };
    int error = names ? 0 : -ENOMEM;

    if (!error)
        error = resolver_new(DNS_REFRESH_NS, &s3->resolver);
    if (!error && options->is_tls)
        error = tls_client_new(&tls, &s3->tls);
    if (error)
        return error;
    for (size_t i = 0; i < count; i++) {
        const struct s3_site *site = &sites[i];

        endpoints[i] = (struct s3_pool_endpoint){
            .host = s3_site_dns_name(site, names[i].dns),
            .port = site->port,
            .tls_name =
                site->is_tls ? s3_site_tls_name(site, names[i].tls) : NULL,
        };
    }
    pool.tls = s3->tls;
    pool.resolver = s3->resolver;
    return s3_pool_new(&pool, &s3->parts.pool);
}

/* What the store knows better than the configuration. */
static struct credentials_options
complete_credentials(struct s3_parts *parts,
                     const struct credentials_options *configured)
{
    struct credentials_options credentials = {0};

    if (configured)
        credentials = *configured;
    credentials.is_aws = parts->site.is_aws;
    credentials.changed = credentials_changed;
    credentials.changed_context = parts;
    return credentials;
}

static int make_credentials(struct s3_parts *parts,
                            const struct s3_options *options)
{
    struct credentials_options credentials =
        complete_credentials(parts, options->credentials);

    return credentials_new(&credentials, &parts->credentials);
}

static int make_places(struct s3_store *s3, const struct s3_options *options)
{
    struct s3_parts *parts = &s3->parts;
    size_t count = s3_endpoints_count(parts->endpoints);
    AUTO_FREE struct s3_site *sites = calloc(count, sizeof(*sites));
    int error = sites ? make_sites(parts, options, sites) : -ENOMEM;

    if (error)
        return error;
    parts->site = sites[0];
    error =
        s3_places_new(sites, count, !is_told(options->region), &parts->places);
    return error ? error : make_pool(s3, options, sites);
}

/* Threads come last: they see all that there is. */
static int make_parts(struct s3_store *s3, const struct s3_options *options)
{
    struct s3_parts *parts = &s3->parts;
    int error;

    parts->timeout_ns = options->timeout_ms * MS_NS;
    parts->is_unsigned = options->is_unsigned_payload && options->is_tls;
    error = copy_storage(s3, options);
    if (!error)
        error = make_endpoints(parts, options);
    if (!error)
        error = make_places(s3, options);
    if (!error)
        error = s3_gate_new(options->concurrency, &parts->gate);
    if (!error)
        error =
            s3_limits_new(options->upload_limits, options->upload_limits_count,
                          options->download_limits,
                          options->download_limits_count, &parts->limits);
    if (!error)
        error = make_credentials(parts, options);
    if (!error)
        error = s3_hedges_new(parts, &parts->hedges);
    if (!error)
        error = s3_prober_new(parts, &s3->prober);
    return error;
}

void s3_store_hurry(struct object_store *store, unsigned ms)
{
    atomic_store(&s3_parts_of_store(store)->hurry_ns, ms * MS_NS);
}

int s3_store_open(const struct s3_options *options,
                  struct object_store **ret_store)
{
    struct s3_store *s3 = calloc(1, sizeof(*s3));
    int error;

    if (!s3)
        return -ENOMEM;
    s3->store = (struct object_store){
        .get = s3_store_get,
        .put = s3_store_put,
        .head = s3_store_head,
        .delete = s3_store_delete,
        .list = s3_store_list,
        .interrupt = s3_store_interrupt,
        .describe = s3_store_describe,
        .close = s3_store_close,
    };
    s3_bell_init(&s3->parts.bell);
    for (size_t i = 0; i < S3_VERBS; i++)
        s3_complaint_init(&s3->parts.complaints[i]);
    error = make_parts(s3, options);
    if (error) {
        log_error("S3 bucket %s: cannot be opened: %s", options->bucket,
                  log_errno(error));
        free_store(s3);
        return error;
    }
    *ret_store = &s3->store;
    return 0;
}

/* ---- change ------------------------------------------------------------- */

int s3_store_change(struct object_store *store,
                    const struct s3_changes *changes)
{
    struct s3_parts *parts = s3_parts_of_store(store);
    struct credentials_options credentials =
        complete_credentials(parts, changes->credentials);
    int error, limits_error;

    s3_gate_set_max(parts->gate, changes->concurrency);
    limits_error = s3_limits_set(
        parts->limits, changes->upload_limits, changes->upload_limits_count,
        changes->download_limits, changes->download_limits_count);
    if (limits_error)
        log_error("s3upload, s3download: stay as they were: %s",
                  log_errno(limits_error));
    error = credentials_change(parts->credentials, &credentials);
    return error ? error : limits_error;
}
