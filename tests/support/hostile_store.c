/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/hostile_store.h"

#include <assert.h>
#include <stdio.h>

#include "s3/credentials.h"
#include "s3/s3_site.h"

enum { ENDPOINTS_MAX = 4 };

bool hostile_store_open(struct hostile_store *h,
                        const struct hostile_store_options *options)
{
    unsigned endpoints = options->endpoints > 0 ? options->endpoints : 1;
    const struct credentials_options credentials = {
        .access_key = HOSTILE_S3_ACCESS_KEY,
        .secret_key = HOSTILE_S3_SECRET_KEY,
    };
    const char *const hosts[] = {"127.0.0.1"};
    uint16_t ports[ENDPOINTS_MAX];
    struct s3_options s3 = {
        .hosts = hosts,
        .hosts_count = 1,
        .ports = ports,
        .ports_count = endpoints,
        .is_tls = options->is_tls,
        .bucket = "bucket",
        .prefix = options->prefix,
        .addressing = S3_ADDRESSING_AUTO,
        .timeout_ms = options->timeout_ms > 0 ? options->timeout_ms
                                              : HOSTILE_STORE_TIMEOUT_MS,
        .concurrency = 16,
        .credentials = &credentials,
    };
    char settings[80];
    int error;

    assert(endpoints <= ENDPOINTS_MAX);
    (void)snprintf(settings, sizeof(settings), "{'endpoints':%u,'tls':%s}",
                   endpoints, options->is_tls ? "true" : "false");
    h->server = hostile_s3_start(options->dir ? options->dir : ".", settings);
    if (!h->server)
        return false;
    for (unsigned i = 0; i < endpoints; i++) {
        ports[i] = options->is_tls ? hostile_s3_tls_port(h->server, i)
                                   : hostile_s3_port(h->server, i);
    }
    if (options->is_tls)
        s3.ca_file = hostile_s3_ca(h->server);
    if (options->change)
        options->change(&s3);
    error = s3_store_open(&s3, &h->store);
    assert(error == 0);
    return true;
}

bool hostile_store_close(struct hostile_store *h)
{
    bool is_good;

    h->store->close(h->store);
    is_good = hostile_s3_count(h->server, "refused") == 0 &&
              hostile_s3_count(h->server, "complaints") == 0;
    if (!is_good)
        printf("# %s\n", hostile_s3_tell(h->server, "{'counters':true}"));
    hostile_s3_stop(h->server);
    return is_good;
}

void hostile_store_end(struct hostile_store *h)
{
    h->store->close(h->store);
    hostile_s3_stop(h->server);
}
