/* SPDX-License-Identifier: BSD-2-Clause */
#include "config.h"

#include "base/log.h"
#include "unit/test.h"

static struct config *config;           /* of the last parse, or NULL */
static struct config_problems problems; /* likewise */

/* Parse the text as file "f", after forgetting the last one. */
static int parse_as(const char *text, size_t len, bool others_may)
{
    config_free(config);
    config = NULL;
    config_problems_free(&problems);
    return config_parse("f", text, len, others_may, &config, &problems);
}

static bool is_accepted(const char *text)
{
    int error = parse_as(text, strlen(text), false);

    for (size_t i = 0; i < problems.count; i++)
        printf("# %s\n", problems.lines[i]);
    return error == 0 && config && problems.count == 0;
}

static bool has_problem(const char *line)
{
    for (size_t i = 0; i < problems.count; i++) {
        if (strcmp(problems.lines[i], line) == 0)
            return true;
    }
    for (size_t i = 0; i < problems.count; i++)
        printf("# instead: %s\n", problems.lines[i]);
    return false;
}

/* Whether the text is refused, and this line is all that is said. */
static bool is_refused(const char *text, const char *line)
{
    return parse_as(text, strlen(text), false) == -EINVAL && !config &&
           has_problem(line) && problems.count == 1;
}

/* ---- what is accepted -----------------------------------------------------
 */

static const char original_example[] = "listen /tmp/s3blkdevd.sock\n"
                                       "port 10809\n"
                                       "workers 8\n"
                                       "fetchers 2\n"
                                       "\n"
                                       "s3host \n"
                                       "s3port \n"
                                       "s3ssl 1\n"
                                       "s3accesskey \n"
                                       "s3secretkey \n"
                                       "s3bucket \n"
                                       "s3timeout 10000\n"
                                       "# s3name\n"
                                       "# s3maxreqsperconn 100\n"
                                       "\n"
                                       "# [device1]\n"
                                       "# cachedir /ssd/device1\n"
                                       "# size 200000000000\n";

TEST("the example of the original is accepted as it is")
{
    NEED(is_accepted(original_example));
    CHECK(config->listen.count == 1);
    CHECK(strcmp(config->listen.items[0], "/tmp/s3blkdevd.sock") == 0);
    CHECK(config->port == 10809 && config->workers == 8);
    CHECK(config->fetchers == 2 && config->s3timeout_ms == 10000);
    CHECK(config->s3ssl);
    CHECK(config->s3hosts.count == 0 && config->s3ports.count == 0);
    CHECK(!config->s3accesskey && !config->s3secretkey && !config->s3bucket);
    CHECK(config->devices_count == 0);
}

TEST("the example of the original, filled in, gives a device on a bucket")
{
    NEED(is_accepted("listen 0.0.0.0\nport 10810\nworkers 127\nfetchers 127\n"
                     "s3host a.example\ns3host b.example\ns3port 80\n"
                     "s3port 443\ns3ssl 0\ns3accesskey AK\ns3secretkey s/e+c=\n"
                     "s3bucket buck\ns3timeout 5000\ns3name n.example\n"
                     "s3maxreqsperconn 7\n"
                     "[device1]\ncachedir /ssd/device1\nsize 200000000000\n"));
    CHECK(config->s3hosts.count == 2 && config->s3ports.count == 2);
    CHECK(strcmp(config->s3hosts.items[1], "b.example") == 0);
    CHECK(strcmp(config->s3ports.items[0], "80") == 0);
    CHECK(!config->s3ssl && config->s3maxreqsperconn == 7);
    CHECK(strcmp(config->s3secretkey, "s/e+c=") == 0);
    CHECK(strcmp(config->s3name, "n.example") == 0);
    NEED(config->devices_count == 1);
    CHECK(strcmp(config->devices[0].name, "device1") == 0);
    CHECK(strcmp(config->devices[0].cachedir, "/ssd/device1") == 0);
    CHECK(config->devices[0].size == 200000000000);
}

TEST("an empty file has the defaults that the table shows")
{
    NEED(is_accepted(""));
    CHECK(config->listen.count == 0 && config->port == 10809);
    CHECK(config->workers == 8 && config->fetchers == 2);
    CHECK(config->max_connections == 100);
    CHECK(config->handshake_timeout_ms == 10000);
    CHECK(config->log_level == LOG_LEVEL_INFO);
    CHECK(config->tls == CONFIG_TLS_OFF && !config->tls_verify);
    CHECK(config->s3ssl && config->s3timeout_ms == 10000);
    CHECK(config->s3maxreqsperconn == 100);
}

TEST("a device has the defaults that the table shows")
{
    NEED(is_accepted("s3dir /store\n[d]\ncachedir /c\nsize 512\n"));
    CHECK(config->devices[0].chunk_size == 8 << 20);
    CHECK(config->devices[0].journal_size == 1 << 30);
    CHECK(config->devices[0].cache_memory == 256 << 20);
    CHECK(!config->devices[0].write_through && !config->devices[0].read_only);
    CHECK(!config->devices[0].journal && !config->devices[0].description);
    CHECK(config->devices[0].cache_size == 0 && !config->devices[0].image);
    CHECK(config->devices[0].keep == 7 && config->devices[0].grace_s == 86400);
    CHECK(config->devices[0].max_age_s == (uint64_t)2 * 86400);
    CHECK(config->uploads == 4 && !config->status);
}

TEST("every setting of a device is taken")
{
    NEED(is_accepted("s3dir /store\n[d.1_x-Y]\ncachedir /c\nsize 1T\n"
                     "chunksize 256K\njournal /j\njournalsize 2G\n"
                     "cachemem 64M\nwritethrough 1\nreadonly 1\n"
                     "description Grüße, all of it\n"));
    CHECK(config->devices[0].size == (uint64_t)1 << 40);
    CHECK(config->devices[0].chunk_size == 256 << 10);
    CHECK(config->devices[0].journal_size == (uint64_t)2 << 30);
    CHECK(config->devices[0].cache_memory == 64 << 20);
    CHECK(config->devices[0].write_through && config->devices[0].read_only);
    CHECK(strcmp(config->devices[0].journal, "/j") == 0);
    CHECK(strcmp(config->devices[0].description, "Grüße, all of it") == 0);
}

TEST("what is kept in the bucket, and how long, is taken")
{
    NEED(is_accepted(
        "s3dir /store\nuploads 16\nuploadrate 2M\nstatus /run//s\n[d]\n"
        "cachedir /c\nsize 1T\ncachesize 256M\nkeep 1\n"
        "grace 90m\nmaxage 36h\n"));
    CHECK(config->upload_rate == 2 << 20);
    CHECK(config->uploads == 16 && strcmp(config->status, "/run/s") == 0);
    CHECK(config->devices[0].cache_size == 256 << 20);
    CHECK(config->devices[0].keep == 1 && config->devices[0].grace_s == 5400);
    CHECK(config->devices[0].max_age_s == 129600);
}

TEST("an image is a device and a snapshot, and read-only")
{
    NEED(is_accepted("s3dir /store\n[d]\ncachedir /c\nsize 1T\n"
                     "image mail@2026-11-22\n"));
    CHECK(config->devices[0].read_only);
    CHECK(strcmp(config->devices[0].image, "mail@2026-11-22") == 0);
    CHECK(is_refused(
        "s3dir /store\n[d]\ncachedir /c\nsize 1T\nimage mail@a\n"
        "writethrough 1\n",
        "f:6: writethrough: has no effect on an image, which is read-only; "
        "that is in line 5"));
}

TEST("loglevel and tls count as their enums do")
{
    NEED(is_accepted("loglevel error\n"));
    CHECK(config->log_level == LOG_LEVEL_ERROR);
    NEED(is_accepted("loglevel debug\ntls on\ntlspsk /keys\n"));
    CHECK(config->log_level == LOG_LEVEL_DEBUG);
    CHECK(config->tls == CONFIG_TLS_ON);
    NEED(is_accepted("loglevel warning\ntls required\n"
                     "tlscertificates /pki\ntlsverify 1\n"));
    CHECK(config->log_level == LOG_LEVEL_WARNING);
    CHECK(config->tls == CONFIG_TLS_REQUIRED && config->tls_verify);
    CHECK(strcmp(config->tls_certificates, "/pki") == 0);
}

TEST("blanks, tabs, comments, CRLF and a missing last newline do no harm")
{
    NEED(is_accepted("  # comment\n;comment\n\t port\t 11\t; why\r\n\r\n"
                     " [d] # the device\n  cachedir   /c \n\tsize 1G#2\n") ==
         false);
    CHECK(has_problem("f:7: size 1G#2: not valid; allowed: a size from 512 to "
                      "1024P, such as 200G, a multiple of 512"));
    NEED(is_accepted("  # comment\n;comment\n\t port\t 11\t; why\r\n\r\n"
                     " [d] # the device\n  cachedir   /c \n\tsize 1G\n"
                     "s3dir /my store"));
    CHECK(config->port == 11);
    CHECK(strcmp(config->devices[0].cachedir, "/c") == 0);
    CHECK(strcmp(config->s3dir, "/my store") == 0);
}

TEST("a global setting is global also behind a device, as in the original")
{
    NEED(is_accepted("[a]\ncachedir /a\nsize 1G\nworkers 3\ns3dir /s\n"
                     "cachemem 1M\n[b]\ncachedir /b\nport 99\nsize 2G\n"));
    CHECK(config->workers == 3 && config->port == 99);
    CHECK(config->devices[0].cache_memory == 1 << 20);
    CHECK(config->devices[1].cache_memory == 256 << 20);
    CHECK(config->devices[1].size == (uint64_t)2 << 30);
}

TEST("paths are made canonical, and listen takes every kind of address")
{
    NEED(is_accepted("listen //run///x.sock/\nlisten ::1\nlisten 127.0.0.1\n"
                     "s3dir /store//\n[d]\ncachedir ///c/./\nsize 1G") ==
         false);
    CHECK(has_problem("f:6: cachedir ///c/./: not valid; allowed: an absolute "
                      "path without . and .., not /"));
    NEED(is_accepted("listen //run///x.sock/\nlisten ::1\nlisten 127.0.0.1\n"
                     "s3dir /store//\n[d]\ncachedir ///c.//..d\nsize 1G"));
    CHECK(config->listen.count == 3);
    CHECK(strcmp(config->listen.items[0], "/run/x.sock") == 0);
    CHECK(strcmp(config->s3dir, "/store") == 0);
    CHECK(strcmp(config->devices[0].cachedir, "/c./..d") == 0);
}

TEST("without a fetchers line there are never more fetchers than workers")
{
    NEED(is_accepted("workers 1\n"));
    CHECK(config->fetchers == 1);
}

/* ---- what the original got wrong
 * --------------------------------------------- */

TEST("size 200G is 200 GiB, not 200 bytes")
{
    NEED(is_accepted("s3dir /s\n[d]\ncachedir /c\nsize 200G\n"));
    CHECK(config->devices[0].size == (uint64_t)200 << 30);
}

TEST("workers 65544 is refused, not 8")
{
    CHECK(is_refused("workers 65544\n",
                     "f:1: workers 65544: not valid; allowed: a number from 1 "
                     "to 127"));
    CHECK(is_refused("workers 18446744073709551624\n",
                     "f:1: workers 18446744073709551624: not valid; allowed: a "
                     "number from 1 to 127"));
}

TEST("s3timeout 10s is refused, not 10 ms")
{
    CHECK(is_refused("s3timeout 10s\n",
                     "f:1: s3timeout 10s: not valid; allowed: a number from "
                     "100 to 3600000"));
}

TEST("a setting without a value is refused")
{
    CHECK(is_refused("workers\n", "f:1: workers: has no value; allowed: a "
                                  "number from 1 to 127"));
    CHECK(is_refused("\nport  # none\n", "f:2: port: has no value; allowed: a "
                                         "number from 1 to 65535"));
    CHECK(is_refused("listen ",
                     "f:1: listen: has no value; allowed: an IPv4 or IPv6 "
                     "address, or the absolute path (up to 107 bytes) of a "
                     "socket"));
    CHECK(is_refused("s3dir /s\n[d]\ncachedir /c\nsize\nsize 1G\n",
                     "f:4: size: has no value; allowed: a size from 512 to "
                     "1024P, such as 200G, a multiple of 512"));
}

TEST("an empty s3host is not set, takes no other line's text, and is reported")
{
    static const char text[] = "listen /run/a.sock\ns3host \ns3bucket b\n"
                               "s3accesskey a\ns3secretkey s\n[d]\n"
                               "cachedir /c\nsize 1G\n";

    CHECK(is_refused(text, "f:2: s3host: has no value, and [d] needs it"));
}

TEST("all mistakes of a file are reported at once, in their order")
{
    static const char text[] = "workers 0\nport 65536\nsiez 3\n[a b]\n"
                               "size 1000\n";
    static const char *const expected[] = {
        "f:1: workers 0: not valid; allowed: a number from 1 to 127",
        "f:2: port 65536: not valid; allowed: a number from 1 to 65535",
        "f:3: siez: no such setting; did you mean size?",
        "f:4: [a b]: not valid as name of a device; allowed: up to 63 of 0-9 "
        "a-z A-Z . _ -",
        "f:5: size 1000: not valid; allowed: a size from 512 to 1024P, such "
        "as 200G, a multiple of 512",
        "f:4: [a b]: needs a place for its objects: s3dir, or s3host and what "
        "belongs to it",
    };

    CHECK(parse_as(text, strlen(text), false) == -EINVAL);
    NEED(problems.count >= sizeof(expected) / sizeof(expected[0]));
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        CHECK(strcmp(problems.lines[i], expected[i]) == 0);
    CHECK(has_problem("f:4: [a b]: needs cachedir"));
}

/* ---- single values ---------------------------------------------------------
 */

TEST("an unknown setting names the nearest, if there is one")
{
    CHECK(is_refused("worker 3\n",
                     "f:1: worker: no such setting; did you mean workers?"));
    CHECK(is_refused("lisen x\n",
                     "f:1: lisen: no such setting; did you mean listen?"));
    CHECK(is_refused("colour red\n",
                     "f:1: colour: no such setting; s3blkdev.conf(5) tells "
                     "which there are"));
}

TEST("a secret never shows in a message")
{
    static const char *const texts[] = {
        "s3secretkey=TOPSECRET\n",
        "s3secretkey: TOPSECRET\n",
        "s3secretkey TOPSECRET TOPSECRET\n",
        "s3accesskey A\ns3sessiontoken TOPSECRET TOPSECRET\n",
        "s3secretkey TOPSECRET1\ns3secretkey TOPSECRET2\n",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        CHECK(parse_as(texts[i], strlen(texts[i]), false) == -EINVAL);
        NEED(problems.count == 1);
        CHECK(strstr(problems.lines[0], "s3se") != NULL);
        CHECK(strstr(problems.lines[0], "TOP") == NULL);
    }
}

TEST("a second value of a setting that has one names the line of the first")
{
    CHECK(is_refused("port 1\n\nport 2\n", "f:3: port: is set in line 1 "
                                           "already"));
    CHECK(is_refused("s3dir /s\n[d]\nsize 1G\ncachedir /c\nsize 1G\n",
                     "f:5: size: is set in line 3 already"));
}

TEST("listen and s3host may be repeated, not without end and not alike")
{
    NEED(is_accepted("s3host a\ns3host b\ns3host c\ns3host d\n"));
    CHECK(config->s3hosts.count == 4);
    CHECK(is_refused("s3host a\ns3host b\ns3host c\ns3host d\ns3host e\n",
                     "f:5: s3host e: too many; allowed: 4 of this setting"));
    CHECK(is_refused("listen ::1\nlisten ::1\n",
                     "f:2: listen ::1: is there already"));
}

TEST("listen takes neither names nor relative or overlong paths")
{
    char text[200] = "listen /";

    CHECK(!is_accepted("listen localhost\n"));
    CHECK(!is_accepted("listen run/x.sock\n"));
    CHECK(!is_accepted("listen 1.2.3\n"));
    memset(text + 8, 's', 106);
    CHECK(is_accepted(text));
    text[8 + 106] = 's';
    CHECK(!is_accepted(text));
}

TEST("numbers out of range and of another form are refused")
{
    static const char *const texts[] = {
        "workers 0",
        "workers 128",
        "workers -1",
        "workers +1",
        "workers 8.0",
        "workers 0x8",
        "workers 8 8",
        "port 0",
        "port 70000",
        "s3port 0",
        "s3port http",
        "s3timeout 99",
        "s3ssl 2",
        "s3ssl x",
        "s3maxreqsperconn 65536",
        "loglevel all",
        "tls maybe",
        "maxconnections 0",
        "fetchers 9",
        "loglevel",
        "loglevel inf",
        "loglevel info|warning",
        "uploads 0",
        "status run/status",
        "status 192.0.2.1",
        "keep 7",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        CHECK(parse_as(texts[i], strlen(texts[i]), false) == -EINVAL);
        CHECK(problems.count == 1);
    }
}

TEST("what is no image, no time and no number of images is refused")
{
    static const char *const lines[] = {
        "image mail", "image @a",     "image mail@",    "image mail@a@b",
        "image ..@a", "image mail@.", "image mail@a b", "image ma/il@a",
        "keep 0",     "keep 10001",   "grace 0",        "grace 1w",
        "grace 366d", "maxage -1d",   "cachesize 15M",  "cachesize 1G 1",
    };
    char text[128];

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        (void)snprintf(text, sizeof(text),
                       "s3dir /store\n[d]\ncachedir /c\nsize 1T\n%s\n",
                       lines[i]);
        CHECK(parse_as(text, strlen(text), false) == -EINVAL);
        CHECK(problems.count == 1);
    }
}

TEST("sizes that the device could not have are refused")
{
    static const char *const lines[] = {
        "size 0",
        "size 511",
        "size 513",
        "size 1025P",
        "size 200X",
        "size G",
        "chunksize 128K",
        "chunksize 64M",
        "chunksize 3M",
        "journalsize 1M",
        "cachemem 1K",
        "journalsize 99999T",
        "size 99999999999999999999",
        "size 16384P",
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char text[128];

        (void)snprintf(text, sizeof(text), "s3dir /s\n[d]\ncachedir /c\n%s%s\n",
                       lines[i],
                       strncmp(lines[i], "size", 4) == 0 ? "" : "\nsize 1G");
        CHECK(parse_as(text, strlen(text), false) == -EINVAL);
        CHECK(problems.count == 1);
    }
}

TEST("fetchers may not exceed workers")
{
    CHECK(is_refused("workers 4\nfetchers 5\n",
                     "f:2: fetchers 5: more than workers; allowed: up to 4"));
}

/* ---- devices
 * ----------------------------------------------------------------- */

TEST("a device's setting in front of all devices is refused")
{
    CHECK(
        is_refused("size 1G\n",
                   "f:1: size: belongs to a device; allowed: below a [name]"));
}

TEST("a device without cachedir or size is refused at its section")
{
    CHECK(is_refused("s3dir /s\n[d]\nsize 1G\n", "f:2: [d]: needs cachedir"));
    CHECK(is_refused("s3dir /s\n[d]\ncachedir /c\n", "f:2: [d]: needs size"));
}

TEST("names of devices are unique, short, and fit into a key")
{
    static const char device[] = "[a]\ncachedir /a\nsize 1G\n";
    char text[256];

    (void)snprintf(text, sizeof(text), "s3dir /s\n%s[a]\ncachedir /b\nsize 1G",
                   device);
    CHECK(is_refused(text, "f:5: [a]: this device is in line 2 already"));
    CHECK(!is_accepted("s3dir /s\n[]\ncachedir /a\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[.]\ncachedir /a\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[..]\ncachedir /a\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[a/b]\ncachedir /a\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[a\ncachedir /a\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[a]b\ncachedir /a\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[\xc3\xa4]\ncachedir /a\nsize 1G\n"));
    CHECK(is_accepted("s3dir /s\n[0123456789012345678901234567890123456789012"
                      "34567890123456789012]\ncachedir /a\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[0123456789012345678901234567890123456789012"
                       "345678901234567890123]\ncachedir /a\nsize 1G\n"));
}

TEST("no directory is shared, nor lies in another one")
{
    CHECK(is_refused("s3dir /s\n[a]\ncachedir /x\nsize 1G\n[b]\ncachedir /x/\n"
                     "size 1G\n",
                     "f:6: cachedir /x: is, or lies in, or holds cachedir of "
                     "line 3; allowed: a directory of its own"));
    CHECK(!is_accepted("s3dir /s\n[a]\ncachedir /x\nsize 1G\n[b]\n"
                       "cachedir /x/y\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[a]\ncachedir /x/y\nsize 1G\n[b]\n"
                       "cachedir /x\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[a]\ncachedir /x\njournal /x/j\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /x/s\n[a]\ncachedir /x\nsize 1G\n"));
    CHECK(!is_accepted("s3dir /s\n[a]\ncachedir /\nsize 1G\n"));
    CHECK(is_accepted("s3dir /s\n[a]\ncachedir /x\nsize 1G\n[b]\ncachedir /xy\n"
                      "size 1G\njournal /j\n"));
}

TEST("a device needs s3dir or a whole bucket, not both")
{
    static const char device[] = "[a]\ncachedir /a\nsize 1G\n";
    char text[256];

    CHECK(is_refused(device, "f:1: [a]: needs a place for its objects: s3dir, "
                             "or s3host and what belongs to it"));
    (void)snprintf(text, sizeof(text), "s3host h\n%s", device);
    CHECK(parse_as(text, strlen(text), false) == -EINVAL);
    CHECK(problems.count == 3);
    CHECK(has_problem("f:2: [a]: needs s3bucket"));
    (void)snprintf(text, sizeof(text), "s3dir /s\ns3host h\n%s", device);
    CHECK(is_refused(text, "f:2: s3dir and s3host: objects are kept in one "
                           "place; the other is in line 1"));
}

#define BUCKET "s3host h\ns3bucket b\n"

TEST("keys are in the file, or come from a source, not both")
{
    static const char device[] = "[a]\ncachedir /a\nsize 1G\n";
    char text[256];

    (void)snprintf(text, sizeof(text), BUCKET "s3credentials auto\n%s", device);
    NEED(is_accepted(text));
    CHECK(strcmp(config->s3credentials, "auto") == 0);
    (void)snprintf(text, sizeof(text), BUCKET "%s", device);
    CHECK(parse_as(text, strlen(text), false) == -EINVAL);
    CHECK(problems.count == 2);
    CHECK(has_problem("f:3: [a]: needs s3accesskey"));
    CHECK(has_problem("f:3: [a]: needs s3secretkey"));
    CHECK(is_refused("s3accesskey A\ns3secretkey S\ns3credentials imds\n",
                     "f:3: s3credentials and s3accesskey: keys come from one "
                     "place; the other is in line 1"));
    CHECK(is_refused("s3credentials imds\ns3sessiontoken T\n",
                     "f:2: s3sessiontoken: needs s3accesskey and "
                     "s3secretkey"));
    NEED(is_accepted("s3accesskey A\ns3secretkey S\ns3sessiontoken T\n"));
    CHECK(strcmp(config->s3sessiontoken, "T") == 0);
}

TEST("settings of the bucket without which others make no sense are asked for")
{
    CHECK(is_refused("s3unsignedpayload 1\ns3ssl 0\n",
                     "f:1: s3unsignedpayload: needs s3ssl 1"));
    CHECK(is_accepted("s3unsignedpayload 0\ns3ssl 0\n"));
    CHECK(is_accepted("s3unsignedpayload 1\n"));
    CHECK(is_refused("s3ssekey k\n", "f:1: s3ssekey: needs s3sse aws:kms"));
    CHECK(is_refused("s3sse AES256\ns3ssekey k\n",
                     "f:2: s3ssekey: needs s3sse aws:kms"));
    CHECK(is_accepted("s3sse aws:kms\ns3ssekey k\n"));
    CHECK(is_refused("s3ca /c\ns3ssl 0\n", "f:1: s3ca: needs s3ssl 1"));
    CHECK(is_refused("s3insecure 1\ns3ca /c\n",
                     "f:2: s3ca: needs s3insecure 0: else no certificate is "
                     "looked at"));
}

TEST("all settings of the bucket are taken")
{
    NEED(is_accepted("s3region eu-1\ns3addressing virtual\ns3prefix /a/b/\n"
                     "s3ca /etc/ca.pem\ns3storageclass GLACIER_IR\n"
                     "s3sse AES256\ns3upload 2M 08:00-23:00\ns3upload 0\n"
                     "s3download 1G\ns3credentials file:/etc/keys\n"));
    CHECK(strcmp(config->s3region, "eu-1") == 0);
    CHECK(config->s3addressing == CONFIG_ADDRESSING_VIRTUAL);
    CHECK(strcmp(config->s3prefix, "/a/b/") == 0);
    CHECK(strcmp(config->s3ca, "/etc/ca.pem") == 0 && !config->s3insecure);
    CHECK(strcmp(config->s3storage_class, "GLACIER_IR") == 0);
    CHECK(config->s3sse == CONFIG_SSE_AES256 && !config->s3sse_key);
    CHECK(config->s3uploads.count == 2 && config->s3downloads.count == 1);
    CHECK(strcmp(config->s3uploads.items[0], "2M 08:00-23:00") == 0);
    CHECK(strcmp(config->s3credentials, "file:/etc/keys") == 0);
    CHECK(!config->s3unsigned_payload && !config->s3sessiontoken);
}

TEST("every source of keys is taken")
{
    static const char *const sources[] = {
        "auto",      "systemd", "environment",        "profile",
        "container", "imds",    "webidentity",        "systemd:s3.keys",
        "profile:a", "file:/k", "file:/etc/s3/a b-c",
    };
    char text[64];

    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        (void)snprintf(text, sizeof(text), "s3credentials %s\n", sources[i]);
        NEED(is_accepted(text));
        CHECK(strcmp(config->s3credentials, sources[i]) == 0);
    }
}

TEST("values of the bucket's settings that could not work are refused")
{
    static const char *const lines[] = {
        "s3addressing dns",
        "s3prefix /",
        "s3prefix a//b",
        "s3prefix a/../b",
        "s3prefix a b",
        "s3prefix a%b",
        "s3ca ca.pem",
        "s3insecure maybe",
        "s3credentials keys",
        "s3credentials AUTO",
        "s3credentials file:keys",
        "s3credentials file:",
        "s3credentials systemd:",
        "s3credentials systemd:a/b",
        "s3credentials systemd:../b",
        "s3credentials profile:a b",
        "s3upload fast",
        "s3upload 2M 8-23",
        "s3upload 2M 08:00-23:00 weekdays",
        "s3download -1",
        "s3sse aes256",
        "s3region eu central",
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        CHECK(parse_as(lines[i], strlen(lines[i]), false) == -EINVAL);
        CHECK(problems.count == 1);
    }
}

TEST("tls needs something to encrypt with, and is not forgotten")
{
    CHECK(is_refused("tls on\n", "f:1: tls: has nothing to encrypt with; "
                                 "needed: tlscertificates or tlspsk"));
    CHECK(is_refused("tlspsk /k\n", "f:1: tlspsk: has no effect without tls; "
                                    "needed: tls on, or tls required"));
    CHECK(is_accepted("tlspsk /k\ntls off\n"));
    CHECK(is_refused("tls on\ntlspsk /k\ntlsverify 1\n",
                     "f:3: tlsverify: needs tlscertificates"));
}

/* ---- hostile text
 * -------------------------------------------------------------- */

TEST("bytes of value 0, control characters and wrong UTF-8 are refused")
{
    CHECK(parse_as("port 1\0"
                   "1\n",
                   9, false) == -EINVAL);
    CHECK(has_problem("f:1: a byte of value 0; allowed: text"));
    CHECK(!is_accepted("s3bucket a\x1b[2Jb\n"));
    CHECK(problems.count == 1 && !strchr(problems.lines[0], '\x1b'));
    CHECK(!is_accepted("s3dir /a\x01\n"));
    CHECK(!is_accepted("s3dir /s\n[d]\ncachedir /c\nsize 1G\n"
                       "description \xff\n"));
    CHECK(!is_accepted("s3dir /s\n[d]\ncachedir /c\nsize 1G\n"
                       "description \xc3\n"));
}

TEST("a line that is too long is refused, and the next one is read")
{
    char text[6000];

    memset(text, 'x', sizeof(text));
    memcpy(text + sizeof(text) - 10, "\nport 0\n\n\n", 10);
    CHECK(parse_as(text, sizeof(text), false) == -EINVAL);
    CHECK(problems.count == 2);
    CHECK(has_problem("f:1: 5990 bytes in a line; allowed: up to 4096"));
    CHECK(has_problem("f:2: port 0: not valid; allowed: a number from 1 to "
                      "65535"));
}

TEST("a file of nothing but mistakes is not reported without end")
{
    char text[2000];

    for (size_t i = 0; i < sizeof(text); i += 2)
        memcpy(text + i, "x\n", 2);
    CHECK(parse_as(text, sizeof(text), false) == -EINVAL);
    CHECK(problems.count == 100);
    CHECK(has_problem("there are more mistakes, which are not shown"));
}

TEST("a file with more devices than allowed is refused")
{
    size_t len = 0, size = 300 * 64;
    char *text = malloc(size);

    NEED(text);
    len += (size_t)snprintf(text, size, "s3dir /s\n");
    for (int i = 0; i < 257; i++)
        len += (size_t)snprintf(text + len, size - len,
                                "[d%d]\ncachedir /c%d\nsize 1G\n", i, i);
    CHECK(parse_as(text, len, false) == -EINVAL);
    CHECK(has_problem("f:770: [d256]: too many; allowed: 256 devices"));
    free(text);
}

/* ---- files
 * --------------------------------------------------------------------- */

/* Write the file and load it, after forgetting the last one. */
static int load(const char *text, mode_t mode)
{
    char path[PATH_MAX];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/conf", test_dir());
    file = fopen(path, "we");
    if (!file)
        return -errno;
    (void)fputs(text, file);
    if (fclose(file) != 0 || chmod(path, mode) != 0)
        return -errno;
    config_free(config);
    config = NULL;
    config_problems_free(&problems);
    return config_load(path, &config, &problems);
}

TEST("a file is loaded")
{
    CHECK(load(original_example, 0644) == 0);
    CHECK(config && config->workers == 8);
}

TEST("a file with a secret that others can read is refused")
{
    static const char text[] = "s3secretkey sesame\n";
    char line[PATH_MAX + 200];

    CHECK(load(text, 0600) == 0);
    CHECK(load(text, 0640) == 0);
    CHECK(load(text, 0644) == -EINVAL);
    (void)snprintf(line, sizeof(line),
                   "%s/conf:1: s3secretkey: others can read or change this "
                   "file; run: chmod o= %s/conf",
                   test_dir(), test_dir());
    CHECK(has_problem(line));
    CHECK(load(text, 0602) == -EINVAL);
    CHECK(load("s3secretkey\n", 0644) == 0);
    CHECK(load("s3accesskey A\ns3sessiontoken T\n", 0600) == 0);
    CHECK(load("s3accesskey A\ns3sessiontoken T\n", 0644) == -EINVAL);
}

TEST("a file that others can change is refused, whatever is in it")
{
    char line[PATH_MAX + 100];

    CHECK(load(original_example, 0664) == 0);
    CHECK(load(original_example, 0602) == -EINVAL);
    CHECK(config == NULL);
    (void)snprintf(line, sizeof(line),
                   "%s/conf: others can change this file; run: chmod o-w "
                   "%s/conf",
                   test_dir(), test_dir());
    CHECK(problems.count == 1);
    CHECK(has_problem(line));
    CHECK(load("workers 0\n", 0666) == -EINVAL);
    CHECK(problems.count == 2);
    CHECK(has_problem(line));
}

TEST("what is no readable file is reported as such")
{
    char line[PATH_MAX + 100];

    config_problems_free(&problems);
    CHECK(config_load("/nonexistent/s3blkdev.conf", &config, &problems) ==
          -ENOENT);
    CHECK(has_problem("/nonexistent/s3blkdev.conf: cannot be read: No such "
                      "file or directory"));
    config_problems_free(&problems);
    CHECK(config_load(test_dir(), &config, &problems) == -EISDIR);
    (void)snprintf(line, sizeof(line), "%s: cannot be read: Is a directory",
                   test_dir());
    CHECK(has_problem(line));
    config_problems_free(&problems);
    CHECK(config_load("/dev/zero", &config, &problems) == -EINVAL);
    CHECK(has_problem("/dev/zero: cannot be read: not a regular file"));
}

TEST("a file larger than 1 MiB is not read")
{
    char path[PATH_MAX];

    CHECK(load("", 0600) == 0);
    (void)snprintf(path, sizeof(path), "%s/conf", test_dir());
    CHECK(truncate(path, CONFIG_FILE_MAX + 1) == 0);
    config_problems_free(&problems);
    CHECK(config_load(path, &config, &problems) == -EFBIG);
    CHECK(problems.count == 1);
}
