/* SPDX-License-Identifier: BSD-2-Clause */
#include "config_table.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/bandwidth.h"
#include "base/number.h"
#include "base/secret.h"
#include "base/utf8.h"
#include "config.h"

enum { S3_HOSTS_MAX = 4 };

/* ---- the table ---------------------------------------------------------- */

enum type {
    NUMBER,  /* unsigned */
    SIZE,    /* uint64_t */
    TIME,    /* uint64_t, seconds */
    SWITCH,  /* bool */
    CHOICE,  /* unsigned: which of the words in choices */
    PATH,    /* char *, absolute, made canonical */
    ADDRESS, /* char *, what one can listen on */
    WORD,    /* char *, without blanks */
    TEXT,    /* char *, any UTF-8 */
    IMAGE,   /* char *, "device@snapshot" */
    LIMIT,   /* char *, as bandwidth.h says */
    SOURCE,  /* char *, where credentials come from */
    PREFIX,  /* char *, the beginning of names of objects */
};

enum rule { ANY, MULTIPLE_OF_512, MULTIPLE_OF_4096, POWER_OF_TWO };

struct row {
    struct config_setting setting;
    enum type type;
    uint64_t min,
        max;       /* of NUMBER, SIZE, TIME; max also of a string's length */
    size_t offset; /* in the struct of its scope */
    const char *choices; /* of CHOICE, separated by | */
    enum rule rule;      /* of SIZE */
};

#define IN_CONFIG(field)                                                       \
    .setting.scope = CONFIG_GLOBAL, .offset = offsetof(struct config, field)
#define IN_DEVICE(field)                                                       \
    .setting.scope = CONFIG_DEVICE,                                            \
    .offset = offsetof(struct config_device, field)
#define RELOADED .setting.is_reloaded = true
#define KIB(n)   ((uint64_t)(n) << 10)
#define MIB(n)   ((uint64_t)(n) << 20)
#define TIB(n)   ((uint64_t)(n) << 40)
#define PIB(n)   ((uint64_t)(n) << 50)

/* clang-format off */
static const struct row rows[CONFIG_TABLE_COUNT] = {
    {.setting.name = "listen", IN_CONFIG(listen), .type = ADDRESS, .max = 255,
     .setting.repeats = CONFIG_LIST_MAX,
     .setting.help = "where clients connect: an address or a Unix socket, up to 16 times"},
    {.setting.name = "status", IN_CONFIG(status), .type = PATH, .max = 107,
     .setting.help = "Unix socket that answers how the devices are"},
    {.setting.name = "port", IN_CONFIG(port), .type = NUMBER, .setting.initial = "10809",
     .min = 1, .max = 65535,
     .setting.help = "TCP port of every address in listen"},
    {.setting.name = "workers", IN_CONFIG(workers), .type = NUMBER, .setting.initial = "8",
     .min = 1, .max = 127,
     .setting.help = "threads that wait for the local disk"},
    {.setting.name = "fetchers", IN_CONFIG(fetchers), .type = NUMBER, .setting.initial = "2",
     .min = 1, .max = 127,
     .setting.help = "threads that wait for the store, not more than workers"},
    {.setting.name = "uploads", IN_CONFIG(uploads), RELOADED, .type = NUMBER, .setting.initial = "4",
     .min = 1, .max = 127,
     .setting.help = "chunks that s3blkdev-sync uploads at the same time"},
    {.setting.name = "uploadrate", IN_CONFIG(upload_rate), RELOADED, .type = SIZE, .setting.initial = "0",
     .max = PIB(1),
     .setting.help = "bytes a second that a device's uploads take at most; 0: no limit"},
    {.setting.name = "maxconnections", IN_CONFIG(max_connections), RELOADED, .type = NUMBER,
     .setting.initial = "100", .min = 1, .max = 10000,
     .setting.help = "connections of clients at the same time"},
    {.setting.name = "handshaketimeout", IN_CONFIG(handshake_timeout_ms), RELOADED, .type = NUMBER,
     .setting.initial = "10000", .min = 100, .max = 3600000,
     .setting.help = "milliseconds until a client must have chosen its device"},
    {.setting.name = "loglevel", IN_CONFIG(log_level), RELOADED, .type = CHOICE, .setting.initial = "info",
     .choices = "error|warning|info|debug",
     .setting.help = "the least important messages that are logged"},
    {.setting.name = "tls", IN_CONFIG(tls), RELOADED, .type = CHOICE, .setting.initial = "off",
     .choices = "off|on|required",
     .setting.help = "whether clients may, or must, encrypt"},
    {.setting.name = "tlscertificates", IN_CONFIG(tls_certificates), RELOADED, .type = PATH,
     .setting.help = "directory with server-cert.pem, server-key.pem and ca-cert.pem"},
    {.setting.name = "tlspsk", IN_CONFIG(tls_psk), RELOADED, .type = PATH,
     .setting.help = "file with pre-shared keys, as psktool writes it"},
    {.setting.name = "tlsverify", IN_CONFIG(tls_verify), RELOADED, .type = SWITCH, .setting.initial = "0",
     .setting.help = "whether clients must show a certificate signed by ca-cert.pem"},
    {.setting.name = "s3dir", IN_CONFIG(s3dir), .type = PATH,
     .setting.help = "directory that keeps the objects, in place of a bucket"},
    {.setting.name = "s3host", IN_CONFIG(s3hosts), .type = WORD, .max = 255,
     .setting.repeats = S3_HOSTS_MAX, .setting.may_be_empty = true,
     .setting.help = "host name or address of the S3 service, up to 4 times"},
    {.setting.name = "s3port", IN_CONFIG(s3ports), .type = NUMBER, .min = 1, .max = 65535,
     .setting.repeats = S3_HOSTS_MAX, .setting.may_be_empty = true,
     .setting.help = "TCP port of the S3 service, up to 4 times; if none, 443 or 80"},
    {.setting.name = "s3ssl", IN_CONFIG(s3ssl), .type = SWITCH, .setting.initial = "1",
     .setting.help = "whether to encrypt connections to the S3 service"},
    {.setting.name = "s3accesskey", IN_CONFIG(s3accesskey), RELOADED, .type = WORD, .max = 255,
     .setting.may_be_empty = true,
     .setting.help = "name of the key that the S3 service gave out"},
    {.setting.name = "s3secretkey", IN_CONFIG(s3secretkey), RELOADED, .type = WORD, .max = 255,
     .setting.may_be_empty = true, .setting.is_secret = true,
     .setting.help = "the key; others must not be able to read the file then"},
    {.setting.name = "s3bucket", IN_CONFIG(s3bucket), .type = WORD, .max = 255,
     .setting.may_be_empty = true,
     .setting.help = "name of the bucket"},
    {.setting.name = "s3timeout", IN_CONFIG(s3timeout_ms), .type = NUMBER, .setting.initial = "10000",
     .min = 100, .max = 3600000,
     .setting.help = "milliseconds until the S3 service must have gone on"},
    {.setting.name = "s3name", IN_CONFIG(s3name), .type = WORD, .max = 255,
     .setting.may_be_empty = true,
     .setting.help = "host name to ask for, if it is not s3host"},
    {.setting.name = "s3maxreqsperconn", IN_CONFIG(s3maxreqsperconn), .type = NUMBER,
     .setting.initial = "100", .max = 65535,
     .setting.help = "requests on one connection to the S3 service; 0: no limit"},
    {.setting.name = "s3region", IN_CONFIG(s3region), .type = WORD, .max = 63,
     .setting.help = "region to sign for; if not set, the service tells it"},
    {.setting.name = "s3addressing", IN_CONFIG(s3addressing), .type = CHOICE,
     .setting.initial = "auto", .choices = "auto|path|virtual",
     .setting.help = "whether the bucket's name is part of the path or of the host's name"},
    {.setting.name = "s3prefix", IN_CONFIG(s3prefix), .type = PREFIX, .max = 512,
     .setting.help = "beginning of the names of all objects"},
    {.setting.name = "s3ca", IN_CONFIG(s3ca), .type = PATH,
     .setting.help = "file with the certificates to trust, in place of the system's"},
    {.setting.name = "s3insecure", IN_CONFIG(s3insecure), .type = SWITCH, .setting.initial = "0",
     .setting.help = "whether any certificate is taken: for tests only"},
    {.setting.name = "s3sessiontoken", IN_CONFIG(s3sessiontoken), RELOADED, .type = WORD, .max = 4000,
     .setting.is_secret = true,
     .setting.help = "token that came with a key for a limited time"},
    {.setting.name = "s3credentials", IN_CONFIG(s3credentials), RELOADED, .type = SOURCE, .max = 1023,
     .setting.help = "where keys come from, if they are not in this file"},
    {.setting.name = "s3unsignedpayload", IN_CONFIG(s3unsigned_payload), .type = SWITCH,
     .setting.initial = "0",
     .setting.help = "whether to save the time of signing contents, too; needs s3ssl"},
    {.setting.name = "s3upload", IN_CONFIG(s3uploads), RELOADED, .type = LIMIT,
     .setting.repeats = CONFIG_LIST_MAX,
     .setting.help = "bytes a second to the store, and at what hours, up to 16 times"},
    {.setting.name = "s3download", IN_CONFIG(s3downloads), RELOADED, .type = LIMIT,
     .setting.repeats = CONFIG_LIST_MAX,
     .setting.help = "bytes a second from the store, and at what hours, up to 16 times"},
    {.setting.name = "s3storageclass", IN_CONFIG(s3storage_class), .type = WORD, .max = 63,
     .setting.help = "storage class of new objects; if not set, the bucket's"},
    {.setting.name = "s3sse", IN_CONFIG(s3sse), .type = CHOICE, .setting.initial = "none",
     .choices = "none|AES256|aws:kms",
     .setting.help = "how the service is told to encrypt new objects"},
    {.setting.name = "s3ssekey", IN_CONFIG(s3sse_key), .type = WORD, .max = 2047,
     .setting.help = "id of the key that s3sse aws:kms is to use"},
    {.setting.name = "cachedir", IN_DEVICE(cachedir), .type = PATH,
     .setting.help = "directory of the device, of its own, on a local disk"},
    {.setting.name = "size", IN_DEVICE(size), RELOADED, .type = SIZE, .min = 512, .max = PIB(1024),
     .rule = MULTIPLE_OF_512,
     .setting.help = "bytes of the device; it may grow, but never shrinks"},
    {.setting.name = "chunksize", IN_DEVICE(chunk_size), .type = SIZE, .setting.initial = "8M",
     .min = KIB(256), .max = MIB(32), .rule = POWER_OF_TWO,
     .setting.help = "bytes in a file or object; fixed when the device is created"},
    {.setting.name = "journal", IN_DEVICE(journal), .type = PATH,
     .setting.help = "directory of the journal, if it is not to be in cachedir"},
    {.setting.name = "journalsize", IN_DEVICE(journal_size), .type = SIZE, .setting.initial = "1G",
     .min = MIB(16), .max = TIB(1), .rule = MULTIPLE_OF_4096,
     .setting.help = "bytes that the journal takes on its disk"},
    {.setting.name = "cachesize", IN_DEVICE(cache_size), RELOADED, .type = SIZE, .min = MIB(16), .max = PIB(1024),
     .setting.help = "bytes that chunks may take in cachedir; if not set, its whole disk"},
    {.setting.name = "cachemem", IN_DEVICE(cache_memory), .type = SIZE, .setting.initial = "256M",
     .min = MIB(1), .max = TIB(1),
     .setting.help = "bytes of memory for decompressed blocks of the device"},
    {.setting.name = "keep", IN_DEVICE(keep), RELOADED, .type = NUMBER, .setting.initial = "7",
     .min = 1, .max = 10000,
     .setting.help = "images that stay in the bucket besides snapshots"},
    {.setting.name = "grace", IN_DEVICE(grace_s), RELOADED, .type = TIME, .setting.initial = "24h",
     .min = 1, .max = 31536000,
     .setting.help = "time between condemning an object and deleting it"},
    {.setting.name = "maxage", IN_DEVICE(max_age_s), RELOADED, .type = TIME, .setting.initial = "2d",
     .min = 1, .max = 31536000,
     .setting.help = "age of a write without an image that is reported"},
    {.setting.name = "image", IN_DEVICE(image), .type = IMAGE, .max = 127,
     .setting.help = "serve this snapshot of a device, device@snapshot, read-only"},
    {.setting.name = "writethrough", IN_DEVICE(write_through), .type = SWITCH, .setting.initial = "0",
     .setting.help = "whether every write is on the disk before it is answered"},
    {.setting.name = "readonly", IN_DEVICE(read_only), .type = SWITCH, .setting.initial = "0",
     .setting.help = "whether clients can only read"},
    {.setting.name = "description", IN_DEVICE(description), .type = TEXT, .max = 255,
     .setting.help = "what a list of devices shows beside the name"},
};
/* clang-format on */

/* ---- finding ------------------------------------------------------------ */

const struct config_setting *config_table_at(size_t number)
{
    assert(number < CONFIG_TABLE_COUNT);
    return &rows[number].setting;
}

size_t config_table_find(const char *name)
{
    size_t number = 0;

    while (number < CONFIG_TABLE_COUNT &&
           strcmp(rows[number].setting.name, name) != 0)
        number++;
    return number;
}

/* How many letters one must insert, delete or change to get b from a. */
static size_t distance(const char *a, const char *b)
{
    size_t row[CONFIG_TABLE_NAME_MAX + 1];
    size_t b_len = strlen(b);

    assert(b_len <= CONFIG_TABLE_NAME_MAX);
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 0; j < b_len; j++) {
            size_t best = diagonal + (a[i] != b[j]);

            if (best > row[j] + 1)
                best = row[j] + 1;
            if (best > row[j + 1] + 1)
                best = row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[b_len];
}

size_t config_table_find_nearest(const char *name)
{
    size_t nearest = CONFIG_TABLE_COUNT;
    size_t max = strlen(name) / 3 + 1; /* more is another word */

    if (strlen(name) > CONFIG_TABLE_NAME_MAX)
        return CONFIG_TABLE_COUNT;
    for (size_t i = 0; i < CONFIG_TABLE_COUNT; i++) {
        size_t d = distance(name, rows[i].setting.name);

        if (d < max || (d == max && nearest == CONFIG_TABLE_COUNT)) {
            nearest = i;
            max = d;
        }
    }
    return nearest;
}

/* ---- what is allowed ---------------------------------------------------- */

/* Write "off, on or required" for "off|on|required". */
static void list_choices(const char *choices, char *text, size_t size)
{
    size_t len = 0;

    for (const char *c = choices; *c != '\0' && len + 5 < size; c++) {
        bool is_last = strchr(c, '|') == strrchr(c, '|');

        if (*c == '|')
            len += (size_t)snprintf(text + len, size - len, "%s",
                                    is_last ? " or " : ", ");
        else
            text[len++] = *c;
    }
    text[len] = '\0';
}

static void describe_size(const struct row *row, char *text, size_t size)
{
    static const char *const rules[] = {
        [ANY] = "",
        [MULTIPLE_OF_512] = ", a multiple of 512",
        [MULTIPLE_OF_4096] = ", a multiple of 4096",
        [POWER_OF_TWO] = ", a power of two",
    };
    char min[NUMBER_SIZE_TEXT], max[NUMBER_SIZE_TEXT];

    (void)snprintf(
        text, size, "a size from %s to %s, such as %s%s",
        number_format_size(row->min, min), number_format_size(row->max, max),
        row->setting.initial ? row->setting.initial : "200G", rules[row->rule]);
}

static void describe_time(const struct row *row, char *text, size_t size)
{
    char min[NUMBER_SIZE_TEXT], max[NUMBER_SIZE_TEXT];

    (void)snprintf(text, size, "a time from %s to %s, such as %s",
                   number_format_duration(row->min, min),
                   number_format_duration(row->max, max), row->setting.initial);
}

void config_table_describe_allowed(size_t number, char *text)
{
    const struct row *row = &rows[number];
    size_t size = CONFIG_TABLE_ALLOWED;

    switch (row->type) {
    case NUMBER:
        (void)snprintf(text, size, "a number from %" PRIu64 " to %" PRIu64,
                       row->min, row->max);
        break;
    case SIZE:
        describe_size(row, text, size);
        break;
    case TIME:
        describe_time(row, text, size);
        break;
    case SWITCH:
        (void)snprintf(text, size, "0 or 1");
        break;
    case CHOICE:
        list_choices(row->choices, text, size);
        break;
    case PATH:
        (void)snprintf(text, size, "an absolute path without . and .., not /");
        if (row->max > 0)
            (void)snprintf(text + strlen(text), size - strlen(text),
                           ", up to %" PRIu64 " bytes", row->max);
        break;
    case ADDRESS:
        (void)snprintf(text, size,
                       "an IPv4 or IPv6 address, or the absolute path (up to "
                       "%zu bytes) of a socket",
                       sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
        break;
    case WORD:
        (void)snprintf(text, size,
                       "up to %" PRIu64 " printable characters, no blanks",
                       row->max);
        break;
    case TEXT:
        (void)snprintf(text, size, "up to %" PRIu64 " bytes of UTF-8 text",
                       row->max);
        break;
    case IMAGE:
        (void)snprintf(text, size,
                       "the names of a device and of its snapshot, with @ "
                       "between");
        break;
    case LIMIT:
        (void)snprintf(text, size,
                       "a size or 0, and hours if it is not for all day, such "
                       "as 2M 08:00-23:00");
        break;
    case SOURCE:
        (void)snprintf(text, size,
                       "auto, environment, webidentity, container, imds, "
                       "systemd[:NAME], profile[:NAME] or file:/PATH");
        break;
    case PREFIX:
        (void)snprintf(text, size,
                       "up to %" PRIu64 " of 0-9 a-z A-Z . _ - and, between "
                       "names, /",
                       row->max);
        break;
    }
}

/* ---- values ------------------------------------------------------------- */

static bool is_text(const char *value)
{
    size_t left = strlen(value);

    while (left > 0) {
        size_t len = utf8_character_len(value, left);

        if (len == 0 || (len == 1 && iscntrl((unsigned char)*value)))
            return false;
        value += len;
        left -= len;
    }
    return true;
}

static bool is_word(const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value <= ' ' || *value >= 0x7f)
            return false;
    }
    return true;
}

/* Whether the path is absolute, not the root, and has no part "." or "..". */
static bool path_is_valid(const char *path)
{
    bool has_part = false;

    if (*path != '/' || !is_text(path))
        return false;
    while (*path != '\0') {
        size_t len;

        path += strspn(path, "/");
        len = strcspn(path, "/");
        if ((len == 1 && path[0] == '.') ||
            (len == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        has_part = has_part || len > 0;
        path += len;
    }
    return has_part;
}

/* Leave single slashes, and none at the end of a valid path. */
static void make_canonical(char *path)
{
    char *to = path;

    for (const char *from = path; *from != '\0'; from++) {
        if (*from != '/' || (from[1] != '/' && from[1] != '\0'))
            *to++ = *from;
    }
    *to = '\0';
}

static bool address_is_valid(const char *value)
{
    unsigned char address[sizeof(struct in6_addr)];

    if (value[0] == '/')
        return path_is_valid(value) &&
               strlen(value) < sizeof(((struct sockaddr_un *)NULL)->sun_path);
    return inet_pton(AF_INET, value, address) == 1 ||
           inet_pton(AF_INET6, value, address) == 1;
}

bool config_table_name_is_valid(const char *name, size_t len)
{
    if (len < 1 || len > CONFIG_DEVICE_NAME_MAX ||
        strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz"
                     "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-") < len)
        return false;
    return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

static bool image_is_valid(const char *value)
{
    size_t len = strcspn(value, "@");

    return value[len] == '@' && config_table_name_is_valid(value, len) &&
           config_table_name_is_valid(value + len + 1, strlen(value + len + 1));
}

static bool limit_is_valid(const char *value)
{
    struct bandwidth_entry entry;

    return bandwidth_parse(value, &entry) == 0;
}

/* Returns what follows the start of the text, or NULL if it starts otherwise */
static const char *after(const char *text, const char *start)
{
    size_t len = strlen(start);

    return strncmp(text, start, len) == 0 ? text + len : NULL;
}

static bool source_is_valid(const char *value)
{
    static const char *const words[] = {
        "auto",        "systemd",   "environment", "profile",
        "webidentity", "container", "imds",
    };
    const char *path = after(value, "file:");
    const char *name = after(value, "systemd:");

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(value, words[i]) == 0)
            return true;
    }
    if (path)
        return path_is_valid(path);
    if (!name)
        name = after(value, "profile:");
    return name && name[0] != '\0' && name[0] != '.' && is_word(name) &&
           !strchr(name, '/');
}

/* Names with slashes between; also in front, and one at the end. */
static bool prefix_is_valid(const char *value)
{
    while (*value == '/')
        value++;
    do {
        size_t len = strcspn(value, "/");

        if (!config_table_name_is_valid(value, len))
            return false;
        value += len;
        value += *value == '/';
    } while (*value != '\0');
    return true;
}

/* Whether the text is valid for its setting. */
static bool string_is_valid(const struct row *row, const char *value)
{
    uint64_t number;

    switch (row->type) {
    case PATH:
        return path_is_valid(value) &&
               (row->max == 0 || strlen(value) <= row->max);
    case ADDRESS:
        return address_is_valid(value);
    case WORD:
        return strlen(value) <= row->max && is_word(value);
    case TEXT:
        return strlen(value) <= row->max && is_text(value);
    case IMAGE:
        return image_is_valid(value);
    case LIMIT:
        return limit_is_valid(value);
    case SOURCE:
        return strlen(value) <= row->max && source_is_valid(value);
    case PREFIX:
        return strlen(value) <= row->max && prefix_is_valid(value);
    case NUMBER: /* in a list */
        return number_parse(value, row->min, row->max, &number) == 0;
    case SIZE:
    case TIME:
    case SWITCH:
    case CHOICE:
        break;
    }
    assert(false); /* these are no strings */
    return false;
}

static bool obeys_rule(enum rule rule, uint64_t value)
{
    switch (rule) {
    case MULTIPLE_OF_512:
        return value % 512 == 0;
    case MULTIPLE_OF_4096:
        return value % 4096 == 0;
    case POWER_OF_TWO:
        return (value & (value - 1)) == 0;
    case ANY:
        break;
    }
    return true;
}

/* Which of the choices the value is; -1: none. */
static int find_choice(const char *choices, const char *value)
{
    size_t value_len = strlen(value);

    for (int index = 0;; index++) {
        size_t len = strcspn(choices, "|");

        if (len == value_len && strncmp(choices, value, len) == 0)
            return index;
        if (choices[len] == '\0')
            return -1;
        choices += len + 1;
    }
}

/* Store what is not a string.  Returns false if the value is not valid. */
static bool store_scalar(const struct row *row, const char *value, void *field)
{
    uint64_t number;
    unsigned small;
    bool on;
    int choice;

    switch (row->type) {
    case NUMBER:
        if (number_parse(value, row->min, row->max, &number) != 0)
            return false;
        small = (unsigned)number;
        memcpy(field, &small, sizeof(small));
        return true;
    case SIZE:
        if (number_parse_size(value, row->min, row->max, &number) != 0 ||
            !obeys_rule(row->rule, number))
            return false;
        memcpy(field, &number, sizeof(number));
        return true;
    case TIME:
        if (number_parse_duration(value, row->min, row->max, &number) != 0)
            return false;
        memcpy(field, &number, sizeof(number));
        return true;
    case SWITCH:
        if (number_parse_boolean(value, &on) != 0)
            return false;
        memcpy(field, &on, sizeof(on));
        return true;
    case CHOICE:
        choice = find_choice(row->choices, value);
        if (choice < 0)
            return false;
        small = (unsigned)choice;
        memcpy(field, &small, sizeof(small));
        return true;
    case PATH:
    case ADDRESS:
    case WORD:
    case TEXT:
    case IMAGE:
    case LIMIT:
    case SOURCE:
    case PREFIX:
        break;
    }
    assert(false); /* these are strings */
    return false;
}

static bool is_string(const struct row *row)
{
    return row->type == PATH || row->type == ADDRESS || row->type == WORD ||
           row->type == TEXT || row->type == IMAGE || row->type == LIMIT ||
           row->type == SOURCE || row->type == PREFIX;
}

static int append_to_list(const struct row *row, const char *value,
                          struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i], value) == 0)
            return -EEXIST;
    }
    if (list->count == row->setting.repeats)
        return -E2BIG;
    list->items[list->count] = strdup(value);
    if (!list->items[list->count])
        return -ENOMEM;
    list->count++;
    return 0;
}

/* A secret is kept where it does not come into a core dump. */
static char *copy_string(const struct row *row, const char *value)
{
    size_t size = strlen(value) + 1;
    char *copy;

    if (!row->setting.is_secret)
        return strdup(value);
    copy = secret_new(size);
    if (copy)
        memcpy(copy, value, size);
    return copy;
}

int config_table_store(size_t number, char *value, void *object)
{
    const struct row *row = &rows[number];
    void *field = (char *)object + row->offset;
    char *copy;

    if (!row->setting.repeats && !is_string(row))
        return store_scalar(row, value, field) ? 0 : -EINVAL;
    if (!string_is_valid(row, value))
        return -EINVAL;
    if (value[0] == '/' && (row->type == PATH || row->type == ADDRESS))
        make_canonical(value);
    if (row->setting.repeats)
        return append_to_list(row, value, field);
    copy = copy_string(row, value);
    if (!copy)
        return -ENOMEM;
    memcpy(field, &copy, sizeof(copy));
    return 0;
}

void config_table_store_defaults(enum config_scope scope, void *object)
{
    for (size_t i = 0; i < CONFIG_TABLE_COUNT; i++) {
        void *field = (char *)object + rows[i].offset;
        bool is_stored;

        if (rows[i].setting.scope != scope || !rows[i].setting.initial)
            continue;
        is_stored = store_scalar(&rows[i], rows[i].setting.initial, field);
        assert(is_stored); /* what the table says is valid */
    }
}

/* ---- comparing and showing ----------------------------------------------- */

static bool is_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_same_list(const struct config_list *a,
                         const struct config_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    }
    return true;
}

/* What the row has in an object; only what the row's type says is filled in. */
struct value {
    struct config_list list;
    const char *text;
    uint64_t number;
};

static struct value value_in(const struct row *row, const void *object)
{
    const void *field = (const char *)object + row->offset;
    struct value value = {.number = 0};
    unsigned small;
    bool on;

    if (row->setting.repeats) {
        memcpy(&value.list, field, sizeof(value.list));
    } else if (is_string(row)) {
        memcpy(&value.text, field, sizeof(value.text));
    } else if (row->type == SIZE || row->type == TIME) {
        memcpy(&value.number, field, sizeof(value.number));
    } else if (row->type == SWITCH) {
        memcpy(&on, field, sizeof(on));
        value.number = on;
    } else {
        memcpy(&small, field, sizeof(small));
        value.number = small;
    }
    return value;
}

bool config_table_is_equal(size_t number, const void *a, const void *b)
{
    struct value one = value_in(&rows[number], a);
    struct value other = value_in(&rows[number], b);

    return one.number == other.number && is_same_text(one.text, other.text) &&
           is_same_list(&one.list, &other.list);
}

static void show_list(const struct config_list *list, char *text)
{
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < list->count && len < CONFIG_TABLE_SHOWN; i++)
        len += (size_t)snprintf(text + len, CONFIG_TABLE_SHOWN - len, "%s%s",
                                i > 0 ? ", " : "", list->items[i]);
}

/* Write the word of that number. */
static void show_choice(const char *choices, uint64_t number, char *text)
{
    size_t len;

    for (; number > 0; number--)
        choices += strcspn(choices, "|") + 1;
    len = strcspn(choices, "|");
    (void)snprintf(text, CONFIG_TABLE_SHOWN, "%.*s", (int)len, choices);
}

void config_table_show(size_t number, const void *object, char *text)
{
    const struct row *row = &rows[number];
    struct value value = value_in(row, object);
    char short_text[NUMBER_SIZE_TEXT];

    if (row->setting.repeats)
        show_list(&value.list, text);
    else if (is_string(row))
        (void)snprintf(text, CONFIG_TABLE_SHOWN, "%s",
                       !value.text              ? ""
                       : row->setting.is_secret ? "(secret)"
                                                : value.text);
    else if (row->type == SIZE)
        (void)snprintf(text, CONFIG_TABLE_SHOWN, "%s",
                       number_format_size(value.number, short_text));
    else if (row->type == TIME)
        (void)snprintf(text, CONFIG_TABLE_SHOWN, "%s",
                       number_format_duration(value.number, short_text));
    else if (row->type == CHOICE)
        show_choice(row->choices, value.number, text);
    else
        (void)snprintf(text, CONFIG_TABLE_SHOWN, "%" PRIu64, value.number);
    if (text[0] == '\0')
        (void)snprintf(text, CONFIG_TABLE_SHOWN, "not set");
}

/* ---- freeing ------------------------------------------------------------- */

static void free_string(const struct row *row, char *text)
{
    if (row->setting.is_secret && text)
        secret_free(text, strlen(text) + 1);
    else
        free(text);
}

void config_table_free_values(enum config_scope scope, void *object)
{
    for (size_t i = 0; i < CONFIG_TABLE_COUNT; i++) {
        const void *field = (const char *)object + rows[i].offset;
        struct config_list list;
        char *text;

        if (rows[i].setting.scope != scope)
            continue;
        if (rows[i].setting.repeats) {
            memcpy(&list, field, sizeof(list));
            for (size_t j = 0; j < list.count; j++)
                free_string(&rows[i], list.items[j]);
        } else if (is_string(&rows[i])) {
            memcpy(&text, field, sizeof(text));
            free_string(&rows[i], text);
        }
    }
}
