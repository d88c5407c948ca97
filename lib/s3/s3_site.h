/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_site - where a bucket is: host, port, style of address, region (pure).
 *
 * A site is a plain value: a store has one for each endpoint, copies it for a
 * request, and changes it when a region was learned.  Threads: any.
 */
#ifndef S3_S3_SITE_H
#define S3_S3_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum s3_addressing {
    S3_ADDRESSING_AUTO,    /* virtual for AWS and bucket names without dots */
    S3_ADDRESSING_PATH,    /* https://host/bucket/key */
    S3_ADDRESSING_VIRTUAL, /* https://bucket.host/key */
};

enum {
    S3_HOST_MAX = 253,
    S3_BUCKET_MAX = 255,
    S3_REGION_MAX = 63,
    S3_PREFIX_MAX = 512,
    S3_NAME_MAX = S3_BUCKET_MAX + 1 + S3_HOST_MAX,
};

struct s3_site {
    bool is_tls;
    bool is_virtual;            /* requests are for the name bucket.name */
    bool is_aws;                /* name is one of AWS's own */
    char host[S3_HOST_MAX + 1]; /* to connect to; IPv6 without brackets */
    char name[S3_HOST_MAX + 1]; /* of the service; mostly the same */
    uint16_t port;
    char bucket[S3_BUCKET_MAX + 1];
    char prefix[S3_PREFIX_MAX + 1]; /* in front of each key, or "" */
    char region[S3_REGION_MAX + 1];
};

struct s3_site_options {
    bool is_tls;
    const char *host; /* a name, or an address, also in brackets */
    const char *name; /* for Host and certificate, if not host; else NULL */
    uint16_t port;
    enum s3_addressing addressing;
    const char *bucket;
    const char *prefix; /* NULL or "": none; slashes in front are dropped,
                           one at the end is added if missing */
    const char *region; /* NULL or "": told by the name, or us-east-1 */
};

/*
 * Fill in a site.  -EINVAL: host, name, bucket, prefix or region is one that no
 * request can name.
 */
int s3_site_init(struct s3_site *site, const struct s3_site_options *options);

/*
 * The store said that the bucket is in this region: sign for it from now on,
 * and, if the name is one of AWS's, which has the region in it, go there.
 * -EINVAL: it is no region.
 */
int s3_site_set_region(struct s3_site *site, const char *region);

/*
 * Write the name that the connection asks for by TLS, and its certificate
 * must have: with the bucket's in front if the site is virtual.  Returns
 * name.
 */
const char *s3_site_tls_name(const struct s3_site *site,
                             char name[S3_NAME_MAX + 1]);

/*
 * Write the name or address to connect to: AWS has each bucket's name in its
 * DNS, other hosts are taken as they were given.  Returns name.
 */
const char *s3_site_dns_name(const struct s3_site *site,
                             char name[S3_NAME_MAX + 1]);

/* Room for the field Host: brackets, ":" and five digits more. */
enum { S3_HOST_FIELD_TEXT = S3_NAME_MAX + 9 };

/*
 * Write the value of the field Host: lower case, IPv6 in brackets, the port
 * unless it is that of http or https.  Returns text.
 */
const char *s3_site_host_field(const struct s3_site *site,
                               char text[S3_HOST_FIELD_TEXT]);

#endif
