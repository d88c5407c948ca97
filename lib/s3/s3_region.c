/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_region.h"

#include "base/log.h"
#include "s3/s3_endpoint.h"
#include "s3/s3_parts.h"
#include "s3/s3_places.h"
#include "s3/s3_pool.h"

/* Connect by the names that the sites have now. */
static void redirect(struct s3_parts *parts, size_t index)
{
    char dns_name[S3_NAME_MAX + 1], tls_name[S3_NAME_MAX + 1];
    struct s3_pool_endpoint to;
    struct s3_site site;
    uint64_t there_s;
    int error;

    s3_places_look(parts->places, index, 0, &site, &there_s);
    if (!site.is_aws)
        return;
    to = (struct s3_pool_endpoint){
        .host = s3_site_dns_name(&site, dns_name),
        .port = site.port,
        .tls_name = site.is_tls ? s3_site_tls_name(&site, tls_name) : NULL,
    };
    error = s3_pool_redirect(parts->pool, index, &to);
    if (error)
        log_warning("S3 %s: cannot connect to %s instead: %s",
                    s3_endpoints_name(parts->endpoints, index), to.host,
                    log_errno(error));
}

bool s3_region_follow(struct s3_parts *parts, const char *used,
                      const char *region)
{
    size_t count = s3_endpoints_count(parts->endpoints);

    if (!s3_places_set_region(parts->places, used, region))
        return false;
    log_info("S3: the bucket is in region %s, not %s", region, used);
    for (size_t i = 0; i < count; i++)
        redirect(parts, i);
    return true;
}

void s3_region_offer(struct s3_parts *parts, const char *region)
{
    struct s3_site site;
    uint64_t there_s;

    if (!s3_places_region_is_open(parts->places))
        return;
    s3_places_look(parts->places, 0, 0, &site, &there_s);
    (void)s3_region_follow(parts, site.region, region);
}
