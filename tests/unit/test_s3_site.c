/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_site.h"

#include "unit/test.h"

/* A site over TLS at this host, of the bucket "bucket". */
static struct s3_site_options at_host(const char *host)
{
    return (struct s3_site_options){
        .is_tls = true, .host = host, .port = 443, .bucket = "bucket"};
}

/* Whether the site's name of one kind is that. */
static bool host_field_is(const struct s3_site *site, const char *expected)
{
    char text[S3_HOST_FIELD_TEXT];

    return strcmp(s3_site_host_field(site, text), expected) == 0;
}

static bool tls_name_is(const struct s3_site *site, const char *expected)
{
    char text[S3_NAME_MAX + 1];

    return strcmp(s3_site_tls_name(site, text), expected) == 0;
}

static bool dns_name_is(const struct s3_site *site, const char *expected)
{
    char text[S3_NAME_MAX + 1];

    return strcmp(s3_site_dns_name(site, text), expected) == 0;
}

TEST("a custom host is addressed by path, AWS by the bucket's name")
{
    struct s3_site_options options = at_host("s3.example.com");
    struct s3_site site;

    NEED(s3_site_init(&site, &options) == 0);
    CHECK(!site.is_virtual && !site.is_aws);
    CHECK(host_field_is(&site, "s3.example.com"));
    CHECK(tls_name_is(&site, "s3.example.com"));
    CHECK(dns_name_is(&site, "s3.example.com"));

    options.host = "s3.eu-west-1.amazonaws.com";
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(site.is_virtual && site.is_aws);
    CHECK(host_field_is(&site, "bucket.s3.eu-west-1.amazonaws.com"));
    CHECK(tls_name_is(&site, "bucket.s3.eu-west-1.amazonaws.com"));
    CHECK(dns_name_is(&site, "bucket.s3.eu-west-1.amazonaws.com"));

    options.addressing = S3_ADDRESSING_PATH;
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(!site.is_virtual && site.is_aws);
    CHECK(host_field_is(&site, "s3.eu-west-1.amazonaws.com"));
}

TEST("a name with dots, capitals or too long is no label of AWS's wildcard")
{
    static const char *const buckets[] = {
        "my.bucket", "My", "my_bucket",
        "0123456789012345678901234567890123456789012345678901234567890123"};
    struct s3_site_options options = at_host("s3.amazonaws.com");
    struct s3_site site;

    for (size_t i = 0; i < sizeof(buckets) / sizeof(buckets[0]); i++) {
        options.bucket = buckets[i];
        NEED(s3_site_init(&site, &options) == 0);
        CHECK(!site.is_virtual);
    }
}

TEST("virtual style at a custom host connects to the host as it was given")
{
    struct s3_site_options options = at_host("storage.local");
    struct s3_site site;

    options.addressing = S3_ADDRESSING_VIRTUAL;
    options.bucket = "my.bucket";
    options.port = 9000;
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(dns_name_is(&site, "storage.local"));
    CHECK(tls_name_is(&site, "my.bucket.storage.local"));
    CHECK(host_field_is(&site, "my.bucket.storage.local:9000"));
}

TEST("an own name is for Host and certificate, not for the connection")
{
    struct s3_site_options options = at_host("10.0.0.1");
    struct s3_site site;

    options.name = "S3.Example.com";
    options.addressing = S3_ADDRESSING_VIRTUAL;
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(dns_name_is(&site, "10.0.0.1"));
    CHECK(tls_name_is(&site, "bucket.s3.example.com"));
    CHECK(host_field_is(&site, "bucket.s3.example.com"));

    options.name = "s3.eu-west-1.amazonaws.com";
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(site.is_aws && dns_name_is(&site, "10.0.0.1"));
}

TEST("Host has the port only if it is not the scheme's own")
{
    struct s3_site_options options = at_host("s3.example.com");
    struct s3_site site;

    options.port = 80;
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(host_field_is(&site, "s3.example.com:80"));
    options.is_tls = false;
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(host_field_is(&site, "s3.example.com"));
    options.port = 443;
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(host_field_is(&site, "s3.example.com:443"));
}

TEST("an IPv6 address has brackets in Host, with or without them before")
{
    static const char *const hosts[] = {"::1", "[::1]"};
    struct s3_site site;

    for (size_t i = 0; i < 2; i++) {
        struct s3_site_options options = at_host(hosts[i]);

        options.port = 7480;
        NEED(s3_site_init(&site, &options) == 0);
        CHECK(host_field_is(&site, "[::1]:7480"));
        CHECK(tls_name_is(&site, "::1"));
        CHECK(dns_name_is(&site, "::1"));
    }
}

TEST("the prefix ends with one slash and begins with none")
{
    static const char *const prefixes[][2] = {
        {NULL, ""},        {"", ""},
        {"/", ""},         {"a", "a/"},
        {"a/", "a/"},      {"//a/b", "a/b/"},
        {"a//b", "a//b/"}, {"\xc3\xa4 +%", "\xc3\xa4 +%/"},
    };
    struct s3_site_options options = at_host("s3.example.com");
    struct s3_site site;
    char longest[S3_PREFIX_MAX + 2];

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        options.prefix = prefixes[i][0];
        NEED(s3_site_init(&site, &options) == 0);
        CHECK(strcmp(site.prefix, prefixes[i][1]) == 0);
    }
    memset(longest, 'x', sizeof(longest));
    longest[S3_PREFIX_MAX - 1] = '\0';
    options.prefix = longest;
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(strlen(site.prefix) == S3_PREFIX_MAX);
    longest[S3_PREFIX_MAX - 1] = '/';
    longest[S3_PREFIX_MAX] = '\0';
    CHECK(s3_site_init(&site, &options) == -EINVAL);
}

TEST("the region is told by the option, else by the host's name")
{
    static const char *const regions[][2] = {
        {"s3.example.com", "us-east-1"},
        {"localhost", "us-east-1"},
        {"::1", "us-east-1"},
        {"s3.amazonaws.com", "us-east-1"},
        {"s3.eu-west-1.amazonaws.com", "eu-west-1"},
        {"S3.EU-WEST-1.AmazonAWS.com", "eu-west-1"},
        {"s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1"},
        {"s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"},
        {"s3-fips.dualstack.us-west-2.amazonaws.com", "us-west-2"},
        {"s3.cn-north-1.amazonaws.com.cn", "cn-north-1"},
        {"s3-accelerate.amazonaws.com", "us-east-1"},
        {"vpce-1.s3.eu-west-1.vpce.amazonaws.com", "us-east-1"},
        {"s3.eu-west-1.amazonaws.com.example.com", "us-east-1"},
        {"s3.eu-west-1.notamazonaws.com", "us-east-1"},
        {"amazonaws.com", "us-east-1"},
        {"0123456789abcdef.r2.cloudflarestorage.com", "auto"},
        {"s3.us-west-004.backblazeb2.com", "us-west-004"},
        {"s3.eu-central-1.wasabisys.com", "eu-central-1"},
        {"s3.wasabisys.com", "us-east-1"},
        {"fsn1.your-objectstorage.com", "fsn1"},
        {"bucket.fsn1.your-objectstorage.com", "fsn1"},
    };
    struct s3_site site;

    for (size_t i = 0; i < sizeof(regions) / sizeof(regions[0]); i++) {
        struct s3_site_options options = at_host(regions[i][0]);

        if (!CHECK(s3_site_init(&site, &options) == 0 &&
                   strcmp(site.region, regions[i][1]) == 0))
            printf("# %s: %s\n", regions[i][0], site.region);
        options.region = "garage";
        CHECK(s3_site_init(&site, &options) == 0);
        CHECK(strcmp(site.region, "garage") == 0);
    }
}

TEST("a learned region moves AWS's names, and no others")
{
    static const char *const moves[][2] = {
        {"s3.amazonaws.com", "s3.eu-north-1.amazonaws.com"},
        {"s3.eu-west-1.amazonaws.com", "s3.eu-north-1.amazonaws.com"},
        {"s3.dualstack.us-east-1.amazonaws.com",
         "s3.dualstack.eu-north-1.amazonaws.com"},
        {"s3-fips.us-east-1.amazonaws.com", "s3-fips.eu-north-1.amazonaws.com"},
        {"s3.cn-north-1.amazonaws.com.cn", "s3.eu-north-1.amazonaws.com.cn"},
        {"s3-accelerate.amazonaws.com", "s3-accelerate.amazonaws.com"},
        {"vpce-1.s3.eu-west-1.vpce.amazonaws.com",
         "vpce-1.s3.eu-west-1.vpce.amazonaws.com"},
        {"s3.us-west-004.backblazeb2.com", "s3.us-west-004.backblazeb2.com"},
        {"127.0.0.1", "127.0.0.1"},
    };

    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
        struct s3_site_options options = at_host(moves[i][0]);
        struct s3_site site;

        options.addressing = S3_ADDRESSING_PATH;
        NEED(s3_site_init(&site, &options) == 0);
        CHECK(s3_site_set_region(&site, "eu-north-1") == 0);
        CHECK(strcmp(site.region, "eu-north-1") == 0);
        CHECK(strcmp(site.name, moves[i][1]) == 0);
        CHECK(strcmp(site.host, moves[i][1]) == 0);
    }
}

TEST("a learned region leaves an own address alone")
{
    struct s3_site_options options = at_host("10.0.0.1");
    struct s3_site site;

    options.name = "s3.us-east-1.amazonaws.com";
    NEED(s3_site_init(&site, &options) == 0);
    CHECK(s3_site_set_region(&site, "eu-north-1") == 0);
    CHECK(host_field_is(&site, "bucket.s3.eu-north-1.amazonaws.com"));
    CHECK(dns_name_is(&site, "10.0.0.1"));
}

TEST("what is no region changes nothing")
{
    static const char *const regions[] = {
        "",
        "eu west",
        "eu/west",
        "evil.example.com/",
        "eu-west-1\r\n",
        "0123456789012345678901234567890123456789012345678901234567890123"};
    struct s3_site_options options = at_host("s3.amazonaws.com");
    struct s3_site site, before;

    NEED(s3_site_init(&site, &options) == 0);
    before = site;
    for (size_t i = 0; i < sizeof(regions) / sizeof(regions[0]); i++)
        CHECK(s3_site_set_region(&site, regions[i]) == -EINVAL);
    CHECK(memcmp(&site, &before, sizeof(site)) == 0);
}

TEST("hosts and buckets that no request can name are refused")
{
    static const char *const hosts[] = {
        "",     "a b",          "a/b", "a\r\nb",  "user@a",
        "a:80", "fe80::1%eth0", "[]",  "[::1]:80"};
    static const char *const buckets[] = {
        "", ".", "..", "a/b", "a b", "a\nb", "\xc3\xa4", "a?b", "a#b"};
    char longest[S3_HOST_MAX + 2];
    struct s3_site site;

    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct s3_site_options options = at_host(hosts[i]);

        if (!CHECK(s3_site_init(&site, &options) == -EINVAL))
            printf("# %s\n", hosts[i]);
    }
    for (size_t i = 0; i < sizeof(buckets) / sizeof(buckets[0]); i++) {
        struct s3_site_options options = at_host("s3.example.com");

        options.bucket = buckets[i];
        CHECK(s3_site_init(&site, &options) == -EINVAL);
    }
    memset(longest, 'a', sizeof(longest));
    longest[S3_HOST_MAX + 1] = '\0';
    {
        struct s3_site_options options = at_host(longest);

        CHECK(s3_site_init(&site, &options) == -EINVAL);
        longest[S3_HOST_MAX] = '\0';
        CHECK(s3_site_init(&site, &options) == 0);
    }
}

TEST("virtual style needs a name, and a bucket that can be part of it")
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    static const char *const buckets[] = {"Bucket", "my_bucket", "tenant:a"};
    struct s3_site site;

    for (size_t i = 0; i < 2; i++) {
        struct s3_site_options options = at_host(hosts[i]);

        options.addressing = S3_ADDRESSING_VIRTUAL;
        CHECK(s3_site_init(&site, &options) == -EINVAL);
        options.name = "s3.example.com";
        CHECK(s3_site_init(&site, &options) == 0);
    }
    for (size_t i = 0; i < 3; i++) {
        struct s3_site_options options = at_host("s3.example.com");

        options.bucket = buckets[i];
        CHECK(s3_site_init(&site, &options) == 0);
        options.addressing = S3_ADDRESSING_VIRTUAL;
        CHECK(s3_site_init(&site, &options) == -EINVAL);
    }
}
