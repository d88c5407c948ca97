/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_site.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char default_region[] = "us-east-1";

/* Providers whose hosts are SOMETHING.REGION.their.domain, or REGION.that. */
static const char *const regional_domains[] = {
    ".backblazeb2.com",
    ".wasabisys.com",
    ".your-objectstorage.com",
};

static bool is_lower_or_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
}

static bool is_alphanumeric(char c)
{
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

/* Whether it is 1 to max letters, digits, and bytes of others. */
static bool is_made_of(const char *text, const char *others, size_t max)
{
    size_t len = strnlen(text, max + 1);

    if (len == 0 || len > max)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_alphanumeric(text[i]) && !strchr(others, text[i]))
            return false;
    }
    return true;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static bool name_is_ipv6(const char *name)
{
    return strchr(name, ':') != NULL;
}

static bool name_is_address(const char *name)
{
    return name_is_ipv6(name) || name[strspn(name, "0123456789.")] == '\0';
}

/* Whether bucket can be a label in front of a host's name. */
static bool bucket_is_label(const char *bucket)
{
    size_t len = strlen(bucket);

    for (size_t i = 0; i < len; i++) {
        if (!is_lower_or_digit(bucket[i]) && bucket[i] != '-')
            return false;
    }
    return len <= 63;
}

/* ---- regions ------------------------------------------------------------ */

/* A piece of a host's name. */
struct piece {
    const char *start;
    size_t len;
};

/* Whether it is one label, and not the service's own. */
static bool piece_is_region(const struct piece *piece)
{
    return piece->len > 0 && piece->len <= S3_REGION_MAX &&
           !memchr(piece->start, '.', piece->len) &&
           !(piece->len == 2 && memcmp(piece->start, "s3", 2) == 0);
}

/* What name has of AWS in its end, or NULL. */
static const char *aws_domain(const char *name)
{
    static const char domain[] = ".amazonaws.com", chinese[] = ".cn";
    size_t len = strlen(name);

    if (ends_with(name, chinese))
        len -= strlen(chinese);
    if (len <= strlen(domain) ||
        strncmp(name + len - strlen(domain), domain, strlen(domain)) != 0)
        return NULL;
    return name + len - strlen(domain);
}

/*
 * Find the region in "s3.REGION", "s3.dualstack.REGION", "s3-fips.REGION" and
 * so on, in front of AWS's domain; of length 0 in "s3" alone, which is in
 * us-east-1, and where the region would follow.  Other names of AWS's, of
 * private links for one, have none that could be another.
 */
static bool find_aws_region(const char *name, struct piece *ret_region)
{
    static const char *const services[] = {"s3", "s3-fips"};
    static const char dualstack[] = "dualstack.";
    const char *domain = aws_domain(name);

    for (size_t i = 0; domain && i < 2; i++) {
        size_t len = strlen(services[i]);
        struct piece rest = {name + len, (size_t)(domain - name) - len};

        if ((size_t)(domain - name) < len ||
            strncmp(name, services[i], len) != 0)
            continue;
        if (rest.len == 0) {
            *ret_region = rest;
            return true;
        }
        if (*rest.start != '.')
            continue;
        rest.start++;
        rest.len--;
        if (rest.len > strlen(dualstack) &&
            strncmp(rest.start, dualstack, strlen(dualstack)) == 0) {
            rest.start += strlen(dualstack);
            rest.len -= strlen(dualstack);
        }
        *ret_region = rest;
        return piece_is_region(&rest);
    }
    return false;
}

/* Find the label before the domain of another provider. */
static bool find_other_region(const char *name, struct piece *ret_region)
{
    for (size_t i = 0;
         i < sizeof(regional_domains) / sizeof(regional_domains[0]); i++) {
        struct piece piece = {name, 0};

        if (!ends_with(name, regional_domains[i]))
            continue;
        piece.len = strlen(name) - strlen(regional_domains[i]);
        for (size_t at = piece.len; at > 0; at--) {
            if (name[at - 1] == '.') {
                piece.start += at;
                piece.len -= at;
                break;
            }
        }
        *ret_region = piece;
        return piece_is_region(&piece);
    }
    return false;
}

static void guess_region(struct s3_site *site)
{
    struct piece region = {default_region, strlen(default_region)};
    struct piece found;

    if (ends_with(site->name, ".r2.cloudflarestorage.com"))
        region = (struct piece){"auto", 4};
    else if ((find_aws_region(site->name, &found) && found.len > 0) ||
             find_other_region(site->name, &found))
        region = found;
    memcpy(site->region, region.start, region.len);
    site->region[region.len] = '\0';
}

static bool region_is_valid(const char *region)
{
    return is_made_of(region, "-_", S3_REGION_MAX);
}

/* Put the region into the name, where one of AWS's has it. */
static void move_name(char name[S3_HOST_MAX + 1], const char *region)
{
    char moved[S3_HOST_MAX + 1];
    struct piece old;
    int len;

    if (!find_aws_region(name, &old))
        return;
    len = snprintf(moved, sizeof(moved), "%.*s%s%s%s", (int)(old.start - name),
                   name, old.len == 0 ? "." : "", region, old.start + old.len);
    if (len > 0 && (size_t)len < sizeof(moved))
        memcpy(name, moved, (size_t)len + 1);
}

int s3_site_set_region(struct s3_site *site, const char *region)
{
    bool is_same_host = strcmp(site->host, site->name) == 0;

    if (!region_is_valid(region))
        return -EINVAL;
    memcpy(site->region, region, strlen(region) + 1);
    move_name(site->name, region);
    if (is_same_host)
        memcpy(site->host, site->name, sizeof(site->host));
    return 0;
}

/* ---- the rest ----------------------------------------------------------- */

/* Copy a name or address in lower case, without brackets: whether it is one. */
static bool copy_name(const char *text, char name[S3_HOST_MAX + 1])
{
    size_t len = strlen(text);
    struct in6_addr address;

    if (len > 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len > S3_HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool is_upper = text[i] >= 'A' && text[i] <= 'Z';

        name[i] = is_upper ? (char)(text[i] - 'A' + 'a') : text[i];
    }
    name[len] = '\0';
    if (name_is_ipv6(name))
        return inet_pton(AF_INET6, name, &address) == 1;
    return is_made_of(name, ".-_", S3_HOST_MAX);
}

/* Copy the prefix with no slash in front and one at its end: if it fits. */
static bool copy_prefix(const char *text, char prefix[S3_PREFIX_MAX + 1])
{
    size_t len;

    text += strspn(text, "/");
    len = strnlen(text, S3_PREFIX_MAX);
    if (len == S3_PREFIX_MAX)
        return false;
    memcpy(prefix, text, len);
    if (len > 0 && prefix[len - 1] != '/')
        prefix[len++] = '/';
    prefix[len] = '\0';
    return true;
}

/* Decide the style; whether the bucket can be reached by it. */
static bool choose_addressing(struct s3_site *site,
                              enum s3_addressing addressing)
{
    const char *bucket = site->bucket;

    switch (addressing) {
    case S3_ADDRESSING_AUTO:
        site->is_virtual = site->is_aws && bucket_is_label(bucket);
        return true;
    case S3_ADDRESSING_VIRTUAL:
        site->is_virtual = true;
        return !name_is_address(site->name) &&
               bucket[strcspn(bucket, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_:")] == '\0';
    case S3_ADDRESSING_PATH:
        return true;
    }
    return false;
}

int s3_site_init(struct s3_site *site, const struct s3_site_options *options)
{
    const char *name = options->name ? options->name : options->host;
    const char *bucket = options->bucket;
    const char *region = options->region ? options->region : "";

    memset(site, 0, sizeof(*site));
    site->is_tls = options->is_tls;
    site->port = options->port;
    if (!copy_name(options->host, site->host) || !copy_name(name, site->name) ||
        !copy_prefix(options->prefix ? options->prefix : "", site->prefix))
        return -EINVAL;
    /* "tenant:bucket" is Ceph's way to name another tenant's. */
    if (!is_made_of(bucket, ".-_:", S3_BUCKET_MAX) ||
        strcmp(bucket, ".") == 0 || strcmp(bucket, "..") == 0 ||
        (*region != '\0' && !region_is_valid(region)))
        return -EINVAL;
    memcpy(site->bucket, bucket, strlen(bucket) + 1);
    site->is_aws = aws_domain(site->name) != NULL;
    if (!choose_addressing(site, options->addressing))
        return -EINVAL;
    if (*region != '\0')
        memcpy(site->region, region, strlen(region) + 1);
    else
        guess_region(site);
    return 0;
}

const char *s3_site_tls_name(const struct s3_site *site,
                             char name[S3_NAME_MAX + 1])
{
    (void)snprintf(name, S3_NAME_MAX + 1, "%s%s%s",
                   site->is_virtual ? site->bucket : "",
                   site->is_virtual ? "." : "", site->name);
    return name;
}

const char *s3_site_dns_name(const struct s3_site *site,
                             char name[S3_NAME_MAX + 1])
{
    if (site->is_aws && strcmp(site->host, site->name) == 0)
        return s3_site_tls_name(site, name);
    (void)snprintf(name, S3_NAME_MAX + 1, "%s", site->host);
    return name;
}

const char *s3_site_host_field(const struct s3_site *site,
                               char text[S3_HOST_FIELD_TEXT])
{
    bool is_ipv6 = name_is_ipv6(site->name);
    char name[S3_NAME_MAX + 1];
    char port[8] = "";

    if (site->port != (site->is_tls ? 443 : 80))
        (void)snprintf(port, sizeof(port), ":%u", (unsigned)site->port);
    (void)snprintf(text, S3_HOST_FIELD_TEXT, "%s%s%s%s", is_ipv6 ? "[" : "",
                   s3_site_tls_name(site, name), is_ipv6 ? "]" : "", port);
    return text;
}
