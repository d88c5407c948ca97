/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_store - an object_store in a bucket of an S3 server.
 *
 * Fifth of the five files of a request; fetch.c before it.
 *
 * A call borrows a connection to one of the endpoints (each host with each
 * port), exchanges a signed request for an answer, and tries again where that
 * is worth it, elsewhere if it can.  How long it tries depends on who waits:
 * see object_store.h.
 *
 * Threads: any, many at once; a few of its own (hedges, probes).
 * Promise: data that get hands over is exactly the range asked for, from an
 * answer that was whole; a put that returns 0 was confirmed by the store.
 */
#ifndef S3_S3_STORE_H
#define S3_S3_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bandwidth_entry;
struct credentials_options;
struct object_store;

enum {
    S3_HOSTS_MAX = 4,
    S3_PORTS_MAX = 4,
    S3_ENDPOINTS_MAX = S3_HOSTS_MAX * S3_PORTS_MAX,
};

/* All that there is to know; what is pointed to is copied by s3_store_open. */
struct s3_options {
    const char *const *hosts; /* names, or addresses; IPv6 without brackets */
    size_t hosts_count;
    const uint16_t *ports;
    size_t ports_count;
    const char *name; /* for Host and certificate, instead of host; or NULL */
    bool is_tls;
    bool is_insecure;    /* certificates are not looked at */
    const char *ca_file; /* NULL: the system's authorities */
    const char *bucket;
    const char *prefix;   /* of all keys, with or without slash; or NULL */
    const char *region;   /* NULL: told by the credentials or the server */
    unsigned addressing;  /* of enum s3_addressing */
    unsigned timeout_ms;  /* the longest silence; patience is twice that */
    unsigned concurrency; /* requests in flight, at most */
    unsigned max_requests_per_connection; /* 0: no limit */
    bool is_unsigned_payload;             /* only with is_tls */
    const char *storage_class;            /* NULL: the bucket's default */
    const char *sse;                      /* AES256, aws:kms, or NULL */
    const char *sse_key_id;               /* with aws:kms; or NULL */
    const struct credentials_options *credentials;
    const struct bandwidth_entry *upload_limits; /* the first that fits */
    size_t upload_limits_count;
    const struct bandwidth_entry *download_limits;
    size_t download_limits_count;
};

/* What of the options may change while the store is open. */
struct s3_changes {
    unsigned concurrency;
    const struct credentials_options *credentials;
    const struct bandwidth_entry *upload_limits;
    size_t upload_limits_count;
    const struct bandwidth_entry *download_limits;
    size_t download_limits_count;
};

/*
 * Have these hold from now on; they are copied.  The credentials are read
 * again, also if they are the same; until there are others, those before stay
 * in use.  An error, which is logged: some of it was not taken over.
 */
int s3_store_change(struct object_store *store,
                    const struct s3_changes *changes);

/*
 * Have calls for which nobody waits end within so long from now on, at the
 * price of calling what is slow absent.  0: as long as their patience lasts.
 */
void s3_store_hurry(struct object_store *store, unsigned ms);

/*
 * Open the store; asks no server anything, so it succeeds also when none is
 * there (s3_check tells).  Call it after the process is in the background:
 * it starts threads.  The caller ends it by (*ret_store)->close.  The reason
 * of an error, which lies in the options or on this host, is logged.
 */
int s3_store_open(const struct s3_options *options,
                  struct object_store **ret_store);

#endif
