/* SPDX-License-Identifier: BSD-2-Clause */
#include "config.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/file.h"
#include "base/log.h"
#include "base/number.h"

enum {
    LINE_MAX_LEN = 4096,
    PROBLEMS_MAX = 100, /* who has more sees these first */
    NAME_SHOWN = 64,    /* bytes of a wrong name or value in a message */
    S3_HOSTS_MAX = 4,
};

/* ---- the table ----------------------------------------------------------- */

enum scope { GLOBAL, DEVICE };

enum type {
    NUMBER,  /* unsigned */
    SIZE,    /* uint64_t */
    SWITCH,  /* bool */
    CHOICE,  /* unsigned: which of the words in choices */
    PATH,    /* char *, absolute, made canonical */
    ADDRESS, /* char *, what one can listen on */
    WORD,    /* char *, without blanks */
    TEXT,    /* char *, any UTF-8 */
};

enum rule { ANY, MULTIPLE_OF_512, MULTIPLE_OF_4096, POWER_OF_TWO };

struct setting {
    const char *name;
    enum scope scope;
    enum type type;
    const char *initial; /* NULL: not set */
    uint64_t min, max;   /* of NUMBER, SIZE; max also of a string's length */
    size_t offset;       /* in struct config or struct config_device */
    const char *help;
    const char *choices; /* of CHOICE, separated by | */
    unsigned repeats;    /* if not 0: a config_list, of so many at most */
    enum rule rule;      /* of SIZE */
    bool may_be_empty;   /* as in the original's example: then it is not set */
    bool is_secret;      /* its value is not shown in a message */
};

#define IN_CONFIG(field)                                                       \
    .scope = GLOBAL, .offset = offsetof(struct config, field)
#define IN_DEVICE(field)                                                       \
    .scope = DEVICE, .offset = offsetof(struct config_device, field)
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define TIB(n) ((uint64_t)(n) << 40)
#define PIB(n) ((uint64_t)(n) << 50)

/* clang-format off */
static const struct setting settings[] = {
    {"listen", IN_CONFIG(listen), .type = ADDRESS, .max = 255,
     .repeats = CONFIG_LIST_MAX,
     .help = "where clients connect: an address or a Unix socket, up to 16 times"},
    {"port", IN_CONFIG(port), .type = NUMBER, .initial = "10809",
     .min = 1, .max = 65535,
     .help = "TCP port of every address in listen"},
    {"workers", IN_CONFIG(workers), .type = NUMBER, .initial = "8",
     .min = 1, .max = 127,
     .help = "threads that wait for the local disk"},
    {"fetchers", IN_CONFIG(fetchers), .type = NUMBER, .initial = "2",
     .min = 1, .max = 127,
     .help = "threads that wait for the store, not more than workers"},
    {"maxconnections", IN_CONFIG(max_connections), .type = NUMBER,
     .initial = "100", .min = 1, .max = 10000,
     .help = "connections of clients at the same time"},
    {"handshaketimeout", IN_CONFIG(handshake_timeout_ms), .type = NUMBER,
     .initial = "10000", .min = 100, .max = 3600000,
     .help = "milliseconds until a client must have chosen its device"},
    {"loglevel", IN_CONFIG(log_level), .type = CHOICE, .initial = "info",
     .choices = "error|warning|info|debug",
     .help = "the least important messages that are logged"},
    {"tls", IN_CONFIG(tls), .type = CHOICE, .initial = "off",
     .choices = "off|on|required",
     .help = "whether clients may, or must, encrypt"},
    {"tlscertificates", IN_CONFIG(tls_certificates), .type = PATH,
     .help = "directory with server-cert.pem, server-key.pem and ca-cert.pem"},
    {"tlspsk", IN_CONFIG(tls_psk), .type = PATH,
     .help = "file with pre-shared keys, as psktool writes it"},
    {"tlsverify", IN_CONFIG(tls_verify), .type = SWITCH, .initial = "0",
     .help = "whether clients must show a certificate signed by ca-cert.pem"},
    {"s3dir", IN_CONFIG(s3dir), .type = PATH,
     .help = "directory that keeps the objects, in place of a bucket"},
    {"s3host", IN_CONFIG(s3hosts), .type = WORD, .max = 255,
     .repeats = S3_HOSTS_MAX, .may_be_empty = true,
     .help = "host name or address of the S3 service, up to 4 times"},
    {"s3port", IN_CONFIG(s3ports), .type = NUMBER, .min = 1, .max = 65535,
     .repeats = S3_HOSTS_MAX, .may_be_empty = true,
     .help = "TCP port of the S3 service, up to 4 times; if none, 443 or 80"},
    {"s3ssl", IN_CONFIG(s3ssl), .type = SWITCH, .initial = "1",
     .help = "whether to encrypt connections to the S3 service"},
    {"s3accesskey", IN_CONFIG(s3accesskey), .type = WORD, .max = 255,
     .may_be_empty = true,
     .help = "name of the key that the S3 service gave out"},
    {"s3secretkey", IN_CONFIG(s3secretkey), .type = WORD, .max = 255,
     .may_be_empty = true, .is_secret = true,
     .help = "the key; others must not be able to read the file then"},
    {"s3bucket", IN_CONFIG(s3bucket), .type = WORD, .max = 255,
     .may_be_empty = true,
     .help = "name of the bucket"},
    {"s3timeout", IN_CONFIG(s3timeout_ms), .type = NUMBER, .initial = "10000",
     .min = 100, .max = 3600000,
     .help = "milliseconds until the S3 service must have gone on"},
    {"s3name", IN_CONFIG(s3name), .type = WORD, .max = 255,
     .may_be_empty = true,
     .help = "host name to ask for, if it is not s3host"},
    {"s3maxreqsperconn", IN_CONFIG(s3maxreqsperconn), .type = NUMBER,
     .initial = "100", .max = 65535,
     .help = "requests on one connection to the S3 service; 0: no limit"},
    {"cachedir", IN_DEVICE(cachedir), .type = PATH,
     .help = "directory of the device, of its own, on a local disk"},
    {"size", IN_DEVICE(size), .type = SIZE, .min = 512, .max = PIB(1024),
     .rule = MULTIPLE_OF_512,
     .help = "bytes of the device; it may grow, but never shrinks"},
    {"chunksize", IN_DEVICE(chunk_size), .type = SIZE, .initial = "8M",
     .min = KIB(256), .max = MIB(32), .rule = POWER_OF_TWO,
     .help = "bytes in a file or object; fixed when the device is created"},
    {"journal", IN_DEVICE(journal), .type = PATH,
     .help = "directory of the journal, if it is not to be in cachedir"},
    {"journalsize", IN_DEVICE(journal_size), .type = SIZE, .initial = "1G",
     .min = MIB(16), .max = TIB(1), .rule = MULTIPLE_OF_4096,
     .help = "bytes that the journal takes on its disk"},
    {"cachemem", IN_DEVICE(cache_memory), .type = SIZE, .initial = "256M",
     .min = MIB(1), .max = TIB(1),
     .help = "bytes of memory for decompressed blocks of the device"},
    {"writethrough", IN_DEVICE(write_through), .type = SWITCH, .initial = "0",
     .help = "whether every write is on the disk before it is answered"},
    {"readonly", IN_DEVICE(read_only), .type = SWITCH, .initial = "0",
     .help = "whether clients can only read"},
    {"description", IN_DEVICE(description), .type = TEXT, .max = 255,
     .help = "what a list of devices shows beside the name"},
};
/* clang-format on */

enum { SETTINGS_COUNT = sizeof(settings) / sizeof(settings[0]) };

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

static void describe_size(const struct setting *setting, char *text,
                          size_t size)
{
    static const char *const rules[] = {
        [ANY] = "",
        [MULTIPLE_OF_512] = ", a multiple of 512",
        [MULTIPLE_OF_4096] = ", a multiple of 4096",
        [POWER_OF_TWO] = ", a power of two",
    };
    char min[NUMBER_SIZE_TEXT], max[NUMBER_SIZE_TEXT];

    (void)snprintf(text, size, "a size from %s to %s, such as 200G%s",
                   number_format_size(setting->min, min),
                   number_format_size(setting->max, max), rules[setting->rule]);
}

/* Write what values the setting may have. */
static void describe_allowed(const struct setting *setting, char *text,
                             size_t size)
{
    switch (setting->type) {
    case NUMBER:
        (void)snprintf(text, size, "a number from %" PRIu64 " to %" PRIu64,
                       setting->min, setting->max);
        break;
    case SIZE:
        describe_size(setting, text, size);
        break;
    case SWITCH:
        (void)snprintf(text, size, "0 or 1");
        break;
    case CHOICE:
        list_choices(setting->choices, text, size);
        break;
    case PATH:
        (void)snprintf(text, size, "an absolute path without . and .., not /");
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
                       setting->max);
        break;
    case TEXT:
        (void)snprintf(text, size, "up to %" PRIu64 " bytes of UTF-8 text",
                       setting->max);
        break;
    }
}

bool config_describe(size_t number, struct config_description *ret_description)
{
    const struct setting *setting;

    if (number >= SETTINGS_COUNT)
        return false;
    setting = &settings[number];
    *ret_description = (struct config_description){
        .name = setting->name,
        .scope = setting->scope == GLOBAL ? "global" : "device",
        .initial = setting->initial ? setting->initial : "",
        .help = setting->help,
    };
    describe_allowed(setting, ret_description->allowed,
                     sizeof(ret_description->allowed));
    return true;
}

/* ---- problems ------------------------------------------------------------ */

/* Where each setting was set, for messages; 0: not, line numbers start at 1. */
struct origins {
    unsigned section; /* the line of [device] */
    unsigned set[SETTINGS_COUNT];
    unsigned empty[SETTINGS_COUNT]; /* where it stands without a value */
};

struct parser {
    const char *file;
    struct config *config;
    struct config_problems *problems;
    unsigned line;
    struct origins globals;
    struct origins *devices; /* as many as config->devices */
    bool in_section;         /* the last device is being described */
    bool others_may;
    int error; /* -ENOMEM: nothing else counts */
};

/* What is shown must not play tricks with a terminal. */
static void replace_control_bytes(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

__attribute__((format(printf, 2, 0))) static int problems_add(
    struct config_problems *problems, const char *format, va_list arguments)
{
    char **lines;
    char *text;

    if (problems->count == PROBLEMS_MAX)
        return 0;
    lines = reallocarray(problems->lines, problems->count + 1, sizeof(*lines));
    if (!lines)
        return -ENOMEM;
    problems->lines = lines;
    if (problems->count == PROBLEMS_MAX - 1)
        text = strdup("there are more mistakes, which are not shown");
    else if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    if (!text)
        return -ENOMEM;
    replace_control_bytes(text);
    lines[problems->count++] = text;
    return 0;
}

/* Add a problem, in its final form. */
__attribute__((format(printf, 2, 3))) static void say(struct parser *parser,
                                                      const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (problems_add(parser->problems, format, arguments) != 0)
        parser->error = -ENOMEM;
    va_end(arguments);
}

/* say(), with the file and a line in front. */
#define problem(parser, at, format, ...)                                       \
    say(parser, "%s:%u: " format, (parser)->file, at, __VA_ARGS__)

/* What a value is, and what is allowed instead. */
static void wrong_value(struct parser *parser, const struct setting *setting,
                        const char *value)
{
    char allowed[96];

    describe_allowed(setting, allowed, sizeof(allowed));
    if (setting->is_secret)
        problem(parser, parser->line, "%s: not a valid value; allowed: %s",
                setting->name, allowed);
    else
        problem(parser, parser->line, "%s %.*s: not valid; allowed: %s",
                setting->name, NAME_SHOWN, value, allowed);
}

/* ---- values -------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* How many bytes a UTF-8 character that starts so has; 0: none starts so. */
static size_t utf8_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

static bool is_text(const char *value)
{
    while (*value != '\0') {
        size_t len = utf8_length((unsigned char)*value);

        if (len == 0 || (len == 1 && iscntrl((unsigned char)*value)))
            return false;
        for (size_t i = 1; i < len; i++) {
            if (((unsigned char)value[i] & 0xc0) != 0x80)
                return false;
        }
        value += len;
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

/* Whether the text is valid for its setting. */
static bool string_is_valid(const struct setting *setting, const char *value)
{
    uint64_t number;

    switch (setting->type) {
    case PATH:
        return path_is_valid(value);
    case ADDRESS:
        return address_is_valid(value);
    case WORD:
        return strlen(value) <= setting->max && is_word(value);
    case TEXT:
        return strlen(value) <= setting->max && is_text(value);
    case NUMBER: /* in a list */
        return number_parse(value, setting->min, setting->max, &number) == 0;
    case SIZE:
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
static bool store_scalar(const struct setting *setting, const char *value,
                         void *field)
{
    uint64_t number;
    unsigned small;
    bool on;
    int choice;

    switch (setting->type) {
    case NUMBER:
        if (number_parse(value, setting->min, setting->max, &number) != 0)
            return false;
        small = (unsigned)number;
        memcpy(field, &small, sizeof(small));
        return true;
    case SIZE:
        if (number_parse_size(value, setting->min, setting->max, &number) !=
                0 ||
            !obeys_rule(setting->rule, number))
            return false;
        memcpy(field, &number, sizeof(number));
        return true;
    case SWITCH:
        if (number_parse_boolean(value, &on) != 0)
            return false;
        memcpy(field, &on, sizeof(on));
        return true;
    case CHOICE:
        choice = find_choice(setting->choices, value);
        if (choice < 0)
            return false;
        small = (unsigned)choice;
        memcpy(field, &small, sizeof(small));
        return true;
    case PATH:
    case ADDRESS:
    case WORD:
    case TEXT:
        break;
    }
    assert(false); /* these are strings */
    return false;
}

static bool is_string(const struct setting *setting)
{
    return setting->type == PATH || setting->type == ADDRESS ||
           setting->type == WORD || setting->type == TEXT;
}

static char *copy_string(struct parser *parser, const char *value)
{
    char *copy = strdup(value);

    if (!copy)
        parser->error = -ENOMEM;
    return copy;
}

static void append_to_list(struct parser *parser, const struct setting *setting,
                           const char *value, struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i], value) == 0) {
            problem(parser, parser->line, "%s %.*s: is there already",
                    setting->name, NAME_SHOWN, value);
            return;
        }
    }
    if (list->count == setting->repeats) {
        problem(parser, parser->line,
                "%s %.*s: too many; allowed: %u of this setting", setting->name,
                NAME_SHOWN, value, setting->repeats);
        return;
    }
    list->items[list->count] = copy_string(parser, value);
    list->count += list->items[list->count] != NULL;
}

/* Check the value and store it; value is a copy that may be changed. */
static void store_value(struct parser *parser, const struct setting *setting,
                        char *value, void *object)
{
    void *field = (char *)object + setting->offset;
    char *copy;

    if (!setting->repeats && !is_string(setting)) {
        if (!store_scalar(setting, value, field))
            wrong_value(parser, setting, value);
        return;
    }
    if (!string_is_valid(setting, value)) {
        wrong_value(parser, setting, value);
        return;
    }
    if (value[0] == '/' && (setting->type == PATH || setting->type == ADDRESS))
        make_canonical(value);
    if (setting->repeats) {
        append_to_list(parser, setting, value, field);
        return;
    }
    copy = copy_string(parser, value);
    memcpy(field, &copy, sizeof(copy));
}

/* Store the default of every setting that has one; the table's are valid. */
static void store_defaults(enum scope scope, void *object)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        void *field = (char *)object + settings[i].offset;
        bool is_stored;

        if (settings[i].scope != scope || !settings[i].initial)
            continue;
        is_stored = store_scalar(&settings[i], settings[i].initial, field);
        assert(is_stored);
    }
}

/* ---- lines --------------------------------------------------------------- */

static bool name_is_valid(const char *name)
{
    size_t len = strlen(name);

    return len >= 1 && len <= CONFIG_DEVICE_NAME_MAX &&
           strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz"
                        "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-") == len &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Returns a new device of that name, at the end of the list, or NULL. */
static struct config_device *add_device(struct parser *parser, const char *name)
{
    struct config *config = parser->config;
    size_t count = config->devices_count;
    struct config_device *devices;
    struct origins *origins;

    devices = reallocarray(config->devices, count + 1, sizeof(*devices));
    if (devices)
        config->devices = devices;
    origins = reallocarray(parser->devices, count + 1, sizeof(*origins));
    if (origins)
        parser->devices = origins;
    if (!devices || !origins) {
        parser->error = -ENOMEM;
        return NULL;
    }
    devices[count] = (struct config_device){.name = copy_string(parser, name)};
    origins[count] = (struct origins){.section = parser->line};
    config->devices_count++;
    store_defaults(DEVICE, &devices[count]);
    return &devices[count];
}

static void parse_section(struct parser *parser, char *line)
{
    struct config *config = parser->config;
    size_t len = strlen(line);
    char *name = line + 1;

    if (line[len - 1] != ']') {
        problem(parser, parser->line,
                "%.*s: a section; allowed: [, the device's name, ]", NAME_SHOWN,
                line);
    } else {
        line[len - 1] = '\0';
        if (!name_is_valid(name))
            problem(parser, parser->line,
                    "[%.*s]: not valid as name of a device; allowed: up to %d "
                    "of 0-9 a-z A-Z . _ -",
                    NAME_SHOWN, name, CONFIG_DEVICE_NAME_MAX);
    }
    for (size_t i = 0; i < config->devices_count; i++) {
        if (config->devices[i].name &&
            strcmp(config->devices[i].name, name) == 0) {
            problem(parser, parser->line,
                    "[%.*s]: this device is in line %u already", NAME_SHOWN,
                    name, parser->devices[i].section);
            break;
        }
    }
    if (config->devices_count == CONFIG_DEVICES_MAX) {
        problem(parser, parser->line, "[%.*s]: too many; allowed: %d devices",
                NAME_SHOWN, name, CONFIG_DEVICES_MAX);
        parser->error = -E2BIG;
        return;
    }
    /* Also a wrong one is described, for its mistakes to be found. */
    parser->in_section = add_device(parser, name) != NULL;
}

/* How many letters one must insert, delete or change to get b from a. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_SHOWN + 1];
    size_t b_len = strlen(b);

    assert(b_len <= NAME_SHOWN);
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

static void unknown_name(struct parser *parser, const char *name)
{
    const char *nearest = NULL;
    size_t nearest_distance = strlen(name) / 3 + 1; /* more is another word */

    for (size_t i = 0; i < SETTINGS_COUNT && strlen(name) < NAME_SHOWN; i++) {
        size_t d = distance(name, settings[i].name);

        if (d <= nearest_distance && (!nearest || d < nearest_distance)) {
            nearest = settings[i].name;
            nearest_distance = d;
        }
    }
    if (nearest)
        problem(parser, parser->line, "%.*s: no such setting; did you mean %s?",
                NAME_SHOWN, name, nearest);
    else
        problem(parser, parser->line,
                "%.*s: no such setting; s3blkdev.conf(5) tells which there are",
                NAME_SHOWN, name);
}

static const struct setting *find_setting(const char *name)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        if (strcmp(settings[i].name, name) == 0)
            return &settings[i];
    }
    return NULL;
}

static void missing_value(struct parser *parser, const struct setting *setting)
{
    char allowed[96];

    describe_allowed(setting, allowed, sizeof(allowed));
    problem(parser, parser->line, "%s: has no value; allowed: %s",
            setting->name, allowed);
}

static void parse_setting(struct parser *parser, char *name, char *value)
{
    const struct setting *setting = find_setting(name);
    struct origins *origins = &parser->globals;
    void *object = parser->config;
    size_t index;

    if (!setting) {
        /* name=value: what is behind it may be a secret, and is not shown */
        name[strcspn(name, "=:")] = '\0';
        unknown_name(parser, name);
        return;
    }
    index = (size_t)(setting - settings);
    if (setting->scope == DEVICE) {
        size_t last = parser->config->devices_count - 1;

        if (!parser->in_section) {
            problem(parser, parser->line,
                    "%s: belongs to a device; allowed: below a [name]", name);
            return;
        }
        origins = &parser->devices[last];
        object = &parser->config->devices[last];
    }
    if (value[0] == '\0') {
        if (setting->may_be_empty)
            origins->empty[index] = parser->line;
        else
            missing_value(parser, setting);
        return;
    }
    if (origins->set[index] && !setting->repeats) {
        problem(parser, parser->line, "%s: is set in line %u already", name,
                origins->set[index]);
        return;
    }
    if (!origins->set[index])
        origins->set[index] = parser->line;
    store_value(parser, setting, value, object);
}

/* End the line where a comment begins, and cut blanks at both ends. */
static char *strip(char *line)
{
    size_t len;

    while (is_blank(*line))
        line++;
    if (*line == '#' || *line == ';')
        *line = '\0';
    for (char *c = line; *c != '\0'; c++) {
        if (is_blank(*c) && (c[1] == '#' || c[1] == ';')) {
            *c = '\0';
            break;
        }
    }
    len = strlen(line);
    while (len > 0 && is_blank(line[len - 1]))
        len--;
    line[len] = '\0';
    return line;
}

/* Parse a line, a copy that may be changed. */
static void parse_line(struct parser *parser, char *line)
{
    char *value;

    line = strip(line);
    if (*line == '\0')
        return;
    if (*line == '[') {
        parse_section(parser, line);
        return;
    }
    for (value = line; *value != '\0' && !is_blank(*value);)
        value++;
    while (is_blank(*value))
        *value++ = '\0';
    parse_setting(parser, line, value);
}

static void parse_lines(struct parser *parser, const char *text, size_t len)
{
    char line[LINE_MAX_LEN + 1];

    while (len > 0 && !parser->error) {
        const char *end = memchr(text, '\n', len);
        size_t line_len = end ? (size_t)(end - text) : len;

        parser->line++;
        if (line_len > LINE_MAX_LEN) {
            problem(parser, parser->line,
                    "%zu bytes in a line; allowed: up to %d", line_len,
                    LINE_MAX_LEN);
        } else if (memchr(text, '\0', line_len)) {
            problem(parser, parser->line, "%s",
                    "a byte of value 0; allowed: text");
        } else {
            memcpy(line, text, line_len);
            line[line_len] = '\0';
            parse_line(parser, line);
        }
        text += line_len;
        len -= line_len;
        if (end) {
            text++;
            len--;
        }
    }
    explicit_bzero(line, sizeof(line)); /* one may have held a secret */
}

/* ---- what must fit together ---------------------------------------------- */

/* The line where a global setting was set; 0 if it was not. */
static unsigned set_at(const struct parser *parser, const char *name)
{
    return parser->globals.set[find_setting(name) - settings];
}

/* The line where it stands without a value; 0 if it does not. */
static unsigned empty_at(const struct parser *parser, const char *name)
{
    return parser->globals.empty[find_setting(name) - settings];
}

static void check_threads(struct parser *parser)
{
    struct config *config = parser->config;
    unsigned line = set_at(parser, "fetchers");

    if (config->fetchers <= config->workers)
        return;
    if (line)
        problem(parser, line,
                "fetchers %u: more than workers; allowed: up to %u",
                config->fetchers, config->workers);
    else
        config->fetchers = config->workers;
}

static void check_tls(struct parser *parser)
{
    const struct config *config = parser->config;
    unsigned certificates = set_at(parser, "tlscertificates");
    unsigned psk = set_at(parser, "tlspsk");
    unsigned tls = set_at(parser, "tls");

    if (config->tls != CONFIG_TLS_OFF && !certificates && !psk)
        problem(parser, tls, "%s",
                "tls: has nothing to encrypt with; needed: tlscertificates or "
                "tlspsk");
    if (!tls && (certificates || psk))
        problem(parser, certificates ? certificates : psk,
                "%s: has no effect without tls; needed: tls on, or tls "
                "required",
                certificates ? "tlscertificates" : "tlspsk");
    if (config->tls_verify && !certificates)
        problem(parser, set_at(parser, "tlsverify"), "%s",
                "tlsverify: needs tlscertificates");
}

/* A setting without which there is no bucket; is at its empty line, if any. */
static void need_for_bucket(struct parser *parser, const char *name)
{
    unsigned empty = empty_at(parser, name);

    if (set_at(parser, name))
        return;
    if (empty)
        problem(parser, empty, "%s: has no value, and [%.*s] needs it", name,
                NAME_SHOWN, parser->config->devices[0].name);
    else
        problem(parser, parser->devices[0].section, "[%.*s]: needs %s",
                NAME_SHOWN, parser->config->devices[0].name, name);
}

static void check_store(struct parser *parser)
{
    const struct config *config = parser->config;
    unsigned s3dir = set_at(parser, "s3dir");
    unsigned s3host = set_at(parser, "s3host");

    if (s3dir && s3host)
        problem(parser, s3host > s3dir ? s3host : s3dir,
                "s3dir and s3host: objects are kept in one place; the other "
                "is in line %u",
                s3host > s3dir ? s3dir : s3host);
    if (s3dir || config->devices_count == 0)
        return;
    if (!s3host && !empty_at(parser, "s3host")) {
        problem(parser, parser->devices[0].section,
                "[%.*s]: needs a place for its objects: s3dir, or s3host and "
                "what belongs to it",
                NAME_SHOWN, config->devices[0].name);
        return;
    }
    need_for_bucket(parser, "s3host");
    need_for_bucket(parser, "s3bucket");
    need_for_bucket(parser, "s3accesskey");
    need_for_bucket(parser, "s3secretkey");
}

static void check_secret(struct parser *parser)
{
    if (parser->config->s3secretkey && parser->others_may)
        problem(parser, set_at(parser, "s3secretkey"),
                "s3secretkey: others can read or change this file; run: chmod "
                "o= %s",
                parser->file);
}

static void check_device(struct parser *parser, size_t number)
{
    static const char *const needed[] = {"cachedir", "size"};
    const struct origins *origins = &parser->devices[number];

    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (!origins->set[find_setting(needed[i]) - settings])
            problem(parser, origins->section, "[%.*s]: needs %s", NAME_SHOWN,
                    parser->config->devices[number].name, needed[i]);
    }
}

/* A directory that belongs to one device, or to the store, alone. */
struct directory {
    const char *setting;
    const char *path;
    unsigned line;
};

/* Fill in the n-th directory; the path is NULL if it is not set. */
static struct directory directory_at(const struct parser *parser, size_t n)
{
    const struct config *config = parser->config;
    const struct config_device *device;
    struct directory directory = {"s3dir", config->s3dir, 0};
    const struct origins *origins = &parser->globals;

    if (n > 0) {
        device = &config->devices[(n - 1) / 2];
        origins = &parser->devices[(n - 1) / 2];
        directory.setting = n % 2 ? "cachedir" : "journal";
        directory.path = n % 2 ? device->cachedir : device->journal;
    }
    directory.line = origins->set[find_setting(directory.setting) - settings];
    return directory;
}

/* Whether one is the other, or lies in it. */
static bool overlap(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    size_t len = a_len < b_len ? a_len : b_len;

    return strncmp(a, b, len) == 0 && (a[len] == '\0' || a[len] == '/') &&
           (b[len] == '\0' || b[len] == '/');
}

static void check_directories(struct parser *parser)
{
    size_t count = 1 + 2 * parser->config->devices_count;

    for (size_t i = 0; i < count; i++) {
        struct directory this = directory_at(parser, i);

        for (size_t j = 0; this.path && j < i; j++) {
            struct directory other = directory_at(parser, j);

            if (other.path && overlap(this.path, other.path))
                problem(parser, this.line,
                        "%s %s: is, or lies in, or holds %s of line %u; "
                        "allowed: a directory of its own",
                        this.setting, this.path, other.setting, other.line);
        }
    }
}

static void check_all(struct parser *parser)
{
    check_threads(parser);
    check_tls(parser);
    check_store(parser);
    check_secret(parser);
    for (size_t i = 0; i < parser->config->devices_count; i++)
        check_device(parser, i);
    check_directories(parser);
}

/* ---- public -------------------------------------------------------------- */

int config_parse(const char *file, const char *text, size_t len,
                 bool others_may, struct config **ret_config,
                 struct config_problems *ret_problems)
{
    struct parser parser = {
        .file = file,
        .config = calloc(1, sizeof(*parser.config)),
        .problems = ret_problems,
        .others_may = others_may,
    };
    int error;

    *ret_problems = (struct config_problems){.count = 0};
    if (!parser.config)
        return -ENOMEM;
    store_defaults(GLOBAL, parser.config);
    parse_lines(&parser, text, len);
    if (!parser.error)
        check_all(&parser);
    error = parser.error;
    if (ret_problems->count > 0 && error != -ENOMEM)
        error = -EINVAL;
    free(parser.devices);
    if (error) {
        config_free(parser.config);
        return error;
    }
    *ret_config = parser.config;
    return 0;
}

/* Read all of the file; the caller frees the text. */
static int read_file(const char *path, char **ret_text, size_t *ret_len,
                     bool *ret_others_may)
{
    AUTO_CLOSE int fd = file_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
    AUTO_FREE char *text = NULL;
    struct stat st;
    ssize_t len;

    if (fd < 0)
        return fd;
    if (fstat(fd, &st) != 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (st.st_size > CONFIG_FILE_MAX)
        return -EFBIG;
    text = malloc((size_t)st.st_size + 1);
    if (!text)
        return -ENOMEM;
    len = file_read(fd, text, (size_t)st.st_size, 0);
    if (len < 0)
        return (int)len;
    *ret_others_may = (st.st_mode & (S_IROTH | S_IWOTH)) != 0;
    *ret_len = (size_t)len;
    *ret_text = take_pointer(&text);
    return 0;
}

int config_load(const char *path, struct config **ret_config,
                struct config_problems *ret_problems)
{
    struct parser parser = {.problems = ret_problems};
    bool others_may;
    char *text;
    size_t len;
    int error;

    *ret_problems = (struct config_problems){.count = 0};
    error = read_file(path, &text, &len, &others_may);
    if (error) {
        say(&parser, "%s: cannot be read: %s", path,
            error == -EINVAL ? "not a regular file" : log_errno(error));
        return error;
    }
    error = config_parse(path, text, len, others_may, ret_config, ret_problems);
    explicit_bzero(text, len);
    free(text);
    return error;
}

static void free_string(const struct setting *setting, char *text)
{
    if (setting->is_secret && text)
        explicit_bzero(text, strlen(text));
    free(text);
}

/* Free all strings that settings of this scope have in the object. */
static void free_strings(enum scope scope, void *object)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        void *field = (char *)object + settings[i].offset;
        struct config_list list;
        char *text;

        if (settings[i].scope != scope)
            continue;
        if (settings[i].repeats) {
            memcpy(&list, field, sizeof(list));
            for (size_t j = 0; j < list.count; j++)
                free_string(&settings[i], list.items[j]);
        } else if (is_string(&settings[i])) {
            memcpy(&text, field, sizeof(text));
            free_string(&settings[i], text);
        }
    }
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->devices_count; i++) {
        free_strings(DEVICE, &config->devices[i]);
        free(config->devices[i].name);
    }
    free_strings(GLOBAL, config);
    free(config->devices);
    free(config);
}

void config_problems_free(struct config_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        free(problems->lines[i]);
    free(problems->lines);
    *problems = (struct config_problems){.count = 0};
}
