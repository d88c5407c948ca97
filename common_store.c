/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * common_store - open the store that the configuration names, and ask whether
 * it can be used.
 *
 * Threads: the program's first, before all others; common_check_store: any.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bandwidth.h"
#include "base/log.h"
#include "base/number.h"
#include "common.h"
#include "object_store.h"
#include "s3/credentials.h"
#include "s3/dir_store.h"
#include "s3/s3_check.h"
#include "s3/s3_site.h"
#include "s3/s3_store.h"

enum { OTHER_REQUESTS = 4 }; /* besides reads and uploads, at once */

/* What s3_options points to, while a store is opened. */
struct bucket {
    char hosts[S3_HOSTS_MAX][S3_HOST_MAX + 3];
    const char *host_list[S3_HOSTS_MAX];
    uint16_t ports[S3_PORTS_MAX];
    struct bandwidth_entry uploads[CONFIG_LIST_MAX], downloads[CONFIG_LIST_MAX];
    struct credentials_options credentials;
};

/* An address of IPv6 may be in brackets, as in a URL. */
static int take_hosts(const struct config *config, struct bucket *bucket,
                      struct s3_options *options)
{
    for (size_t i = 0; i < config->s3hosts.count; i++) {
        const char *text = config->s3hosts.items[i];
        size_t len = strlen(text);

        if (text[0] == '[' && text[len - 1] == ']') {
            text++;
            len -= 2;
        }
        if (len >= sizeof(bucket->hosts[i])) {
            log_error("s3host %s: is too long", config->s3hosts.items[i]);
            return -EINVAL;
        }
        memcpy(bucket->hosts[i], text, len);
        bucket->hosts[i][len] = '\0';
        bucket->host_list[i] = bucket->hosts[i];
    }
    options->hosts = bucket->host_list;
    options->hosts_count = config->s3hosts.count;
    return 0;
}

static void take_ports(const struct config *config, struct bucket *bucket,
                       struct s3_options *options)
{
    uint64_t port = config->s3ssl ? 443 : 80;

    options->ports_count = config->s3ports.count;
    for (size_t i = 0; i < config->s3ports.count; i++) {
        (void)number_parse(config->s3ports.items[i], 1, UINT16_MAX, &port);
        bucket->ports[i] = (uint16_t)port;
    }
    if (options->ports_count == 0)
        bucket->ports[options->ports_count++] = (uint16_t)port;
    options->ports = bucket->ports;
}

size_t common_take_limits(const struct config_list *list,
                          struct bandwidth_entry *entries)
{
    for (size_t i = 0; i < list->count; i++)
        (void)bandwidth_parse(list->items[i], &entries[i]);
    return list->count;
}

/* Where keys come from. */
static struct credentials_options credentials_of(const struct config *config)
{
    return (struct credentials_options){
        .access_key = config->s3accesskey,
        .secret_key = config->s3secretkey,
        .session_token = config->s3sessiontoken,
        .source = config->s3credentials,
        .region = config->s3region,
        .ca_file = config->s3ca,
    };
}

static unsigned concurrency_of(const struct config *config)
{
    return config->fetchers + config->uploads + OTHER_REQUESTS;
}

static int open_bucket(const struct config *config,
                       struct object_store **ret_store)
{
    static const enum s3_addressing addressing[] = {
        [CONFIG_ADDRESSING_AUTO] = S3_ADDRESSING_AUTO,
        [CONFIG_ADDRESSING_PATH] = S3_ADDRESSING_PATH,
        [CONFIG_ADDRESSING_VIRTUAL] = S3_ADDRESSING_VIRTUAL,
    };
    static const char *const sse[] = {[CONFIG_SSE_NONE] = NULL,
                                      [CONFIG_SSE_AES256] = "AES256",
                                      [CONFIG_SSE_KMS] = "aws:kms"};
    AUTO_FREE struct bucket *bucket = calloc(1, sizeof(*bucket));
    struct s3_options options = {
        .name = config->s3name,
        .is_tls = config->s3ssl,
        .is_insecure = config->s3insecure,
        .ca_file = config->s3ca,
        .bucket = config->s3bucket,
        .prefix = config->s3prefix,
        .region = config->s3region,
        .addressing = addressing[config->s3addressing],
        .timeout_ms = config->s3timeout_ms,
        .concurrency = concurrency_of(config),
        .max_requests_per_connection = config->s3maxreqsperconn,
        .is_unsigned_payload = config->s3unsigned_payload,
        .storage_class = config->s3storage_class,
        .sse = sse[config->s3sse],
        .sse_key_id = config->s3sse_key,
    };
    int error = bucket ? take_hosts(config, bucket, &options) : -ENOMEM;

    if (error)
        return error;
    if (config->s3insecure)
        log_warning("s3insecure is set: nobody knows who answers in the place "
                    "of the S3 service; whoever is on the way can read and "
                    "change everything, and take the keys");
    take_ports(config, bucket, &options);
    bucket->credentials = credentials_of(config);
    options.credentials = &bucket->credentials;
    options.upload_limits = bucket->uploads;
    options.upload_limits_count =
        common_take_limits(&config->s3uploads, bucket->uploads);
    options.download_limits = bucket->downloads;
    options.download_limits_count =
        common_take_limits(&config->s3downloads, bucket->downloads);
    return s3_store_open(&options, ret_store);
}

int common_open_store(const struct config *config,
                      struct object_store **ret_store)
{
    return config->s3dir ? dir_store_open(config->s3dir, ret_store)
                         : open_bucket(config, ret_store);
}

int common_change_store(const struct config *config, struct object_store *store)
{
    struct bandwidth_entry uploads[CONFIG_LIST_MAX], downloads[CONFIG_LIST_MAX];
    const struct credentials_options credentials = credentials_of(config);
    const struct s3_changes changes = {
        .concurrency = concurrency_of(config),
        .credentials = &credentials,
        .upload_limits = uploads,
        .upload_limits_count = common_take_limits(&config->s3uploads, uploads),
        .download_limits = downloads,
        .download_limits_count =
            common_take_limits(&config->s3downloads, downloads),
    };

    return config->s3dir ? 0 : s3_store_change(store, &changes);
}

void common_hurry_store(const struct config *config, struct object_store *store,
                        unsigned ms)
{
    if (!config->s3dir)
        s3_store_hurry(store, ms);
}

/* An s3_check_say. */
static void say_of_store(void *context, bool is_error, const char *text)
{
    (void)context;
    if (is_error)
        log_error("%s", text);
    else
        log_warning("%s", text);
}

int common_check_store(const struct config *config, struct object_store *store)
{
    if (config->s3dir)
        return 0;
    return s3_check(store, say_of_store, NULL);
}
