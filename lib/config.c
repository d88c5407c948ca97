/* SPDX-License-Identifier: BSD-2-Clause */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/file.h"
#include "base/log.h"
#include "config_table.h"

enum {
    LINE_MAX_LEN = 4096,
    PROBLEMS_MAX = 100, /* who has more sees these first */
    NAME_SHOWN = 64,    /* bytes of a wrong name or value in a message */
};

/* ---- problems ------------------------------------------------------------ */

/* Where each setting was set, for messages; 0: not, line numbers start at 1. */
struct origins {
    unsigned section; /* the line of [device] */
    unsigned set[CONFIG_TABLE_COUNT];
    unsigned empty[CONFIG_TABLE_COUNT]; /* where it stands without a value */
};

struct parser {
    const char *file;
    struct config *config;
    struct config_problems *problems;
    unsigned line;
    struct origins globals;
    struct origins *devices; /* one for each in config->devices */
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

__attribute__((format(printf, 2, 0))) static int
problems_add(struct config_problems *problems, const char *format,
             va_list arguments)
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
static void wrong_value(struct parser *parser, size_t number, const char *value)
{
    const struct config_setting *setting = config_table_at(number);
    char allowed[CONFIG_TABLE_ALLOWED];

    config_table_describe_allowed(number, allowed);
    if (setting->is_secret)
        problem(parser, parser->line, "%s: not a valid value; allowed: %s",
                setting->name, allowed);
    else
        problem(parser, parser->line, "%s %.*s: not valid; allowed: %s",
                setting->name, NAME_SHOWN, value, allowed);
}

/* ---- lines --------------------------------------------------------------- */

/* Add a device of that name, for the settings that follow. */
static void add_device(struct parser *parser, const char *name)
{
    size_t number = parser->config->devices_count++;
    struct config_device *device = &parser->config->devices[number];

    device->name = strdup(name);
    if (!device->name)
        parser->error = -ENOMEM;
    config_table_store_defaults(CONFIG_DEVICE, device);
    parser->devices[number].section = parser->line;
    parser->in_section = true;
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
        if (!config_table_name_is_valid(name, strlen(name)))
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
    add_device(parser, name);
}

static void unknown_name(struct parser *parser, char *name)
{
    size_t nearest;

    /* name=value: what is behind it may be a secret, and is not shown */
    name[strcspn(name, "=:")] = '\0';
    nearest = config_table_find_nearest(name);
    if (nearest == CONFIG_TABLE_COUNT)
        problem(parser, parser->line,
                "%.*s: no such setting; s3blkdev.conf(5) tells which there are",
                NAME_SHOWN, name);
    else if (strcmp(config_table_at(nearest)->name, name) == 0)
        problem(parser, parser->line, "%s: allowed: a blank behind the name",
                name);
    else
        problem(parser, parser->line, "%.*s: no such setting; did you mean %s?",
                NAME_SHOWN, name, config_table_at(nearest)->name);
}

static void missing_value(struct parser *parser, size_t number)
{
    char allowed[CONFIG_TABLE_ALLOWED];

    config_table_describe_allowed(number, allowed);
    problem(parser, parser->line, "%s: has no value; allowed: %s",
            config_table_at(number)->name, allowed);
}

/* Store the value, a copy that may be changed, or tell why not. */
static void store_value(struct parser *parser, size_t number, char *value,
                        void *object)
{
    const struct config_setting *setting = config_table_at(number);
    int error = config_table_store(number, value, object);

    if (error == -EINVAL)
        wrong_value(parser, number, value);
    else if (error == -EEXIST)
        problem(parser, parser->line, "%s %.*s: is there already",
                setting->name, NAME_SHOWN, value);
    else if (error == -E2BIG)
        problem(parser, parser->line,
                "%s %.*s: too many; allowed: %u of this setting", setting->name,
                NAME_SHOWN, value, setting->repeats);
    else if (error)
        parser->error = error;
}

/* A setting without a value: the original's example has some. */
static void parse_empty(struct parser *parser, size_t number,
                        struct origins *origins)
{
    if (config_table_at(number)->may_be_empty)
        origins->empty[number] = parser->line;
    else
        missing_value(parser, number);
}

static void parse_setting(struct parser *parser, char *name, char *value)
{
    size_t number = config_table_find(name);
    struct origins *origins = &parser->globals;
    void *object = parser->config;

    if (number == CONFIG_TABLE_COUNT) {
        unknown_name(parser, name);
        return;
    }
    if (config_table_at(number)->scope == CONFIG_DEVICE) {
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
        parse_empty(parser, number, origins);
        return;
    }
    if (origins->set[number] && !config_table_at(number)->repeats) {
        problem(parser, parser->line, "%s: is set in line %u already", name,
                origins->set[number]);
        return;
    }
    if (!origins->set[number])
        origins->set[number] = parser->line;
    store_value(parser, number, value, object);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
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
    return parser->globals.set[config_table_find(name)];
}

/* The line where it stands without a value; 0 if it does not. */
static unsigned empty_at(const struct parser *parser, const char *name)
{
    return parser->globals.empty[config_table_find(name)];
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
    if (config->s3credentials)
        return;
    need_for_bucket(parser, "s3accesskey");
    need_for_bucket(parser, "s3secretkey");
}

/* The first has no sense without the second. */
static void check_needs(struct parser *parser, const char *name, bool is_met,
                        const char *needed)
{
    unsigned line = set_at(parser, name);

    if (line && !is_met)
        problem(parser, line, "%s: needs %s", name, needed);
}

/* Two that exclude each other. */
static void check_excludes(struct parser *parser, const char *one,
                           const char *other, const char *why)
{
    unsigned line = set_at(parser, one), other_line = set_at(parser, other);

    if (line && other_line)
        problem(parser, line > other_line ? line : other_line,
                "%s and %s: %s; the other is in line %u", one, other, why,
                line > other_line ? other_line : line);
}

static void check_s3(struct parser *parser)
{
    const struct config *config = parser->config;

    check_excludes(parser, "s3credentials", "s3accesskey",
                   "keys come from one place");
    check_needs(parser, "s3secretkey",
                config->s3accesskey || !config->s3credentials, "s3accesskey");
    check_needs(parser, "s3sessiontoken", config->s3accesskey,
                "s3accesskey and s3secretkey");
    check_needs(parser, "s3unsignedpayload",
                !config->s3unsigned_payload || config->s3ssl, "s3ssl 1");
    check_needs(parser, "s3ssekey", config->s3sse == CONFIG_SSE_KMS,
                "s3sse aws:kms");
    check_needs(parser, "s3ca", config->s3ssl, "s3ssl 1");
    check_needs(parser, "s3ca", !config->s3insecure,
                "s3insecure 0: else no certificate is looked at");
}

static void check_secret(struct parser *parser)
{
    static const char *const names[] = {"s3secretkey", "s3sessiontoken"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (set_at(parser, names[i]) && parser->others_may)
            problem(parser, set_at(parser, names[i]),
                    "%s: others can read or change this file; run: chmod o= %s",
                    names[i], parser->file);
    }
}

static void check_device(struct parser *parser, size_t number)
{
    static const char *const needed[] = {"cachedir", "size"};
    const struct origins *origins = &parser->devices[number];
    struct config_device *device = &parser->config->devices[number];
    unsigned image = origins->set[config_table_find("image")];
    unsigned writethrough = origins->set[config_table_find("writethrough")];

    if (device->image && device->write_through)
        problem(parser, writethrough,
                "writethrough: has no effect on an image, which is read-only; "
                "that is in line %u",
                image);
    device->read_only = device->read_only || device->image;

    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (!origins->set[config_table_find(needed[i])])
            problem(parser, origins->section, "[%.*s]: needs %s", NAME_SHOWN,
                    device->name, needed[i]);
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
    directory.line = origins->set[config_table_find(directory.setting)];
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
    check_s3(parser);
    check_secret(parser);
    for (size_t i = 0; i < parser->config->devices_count; i++)
        check_device(parser, i);
    check_directories(parser);
}

/* ---- public -------------------------------------------------------------- */

bool config_describe(size_t number, struct config_description *ret_description)
{
    const struct config_setting *setting;

    if (number >= CONFIG_TABLE_COUNT)
        return false;
    setting = config_table_at(number);
    *ret_description = (struct config_description){
        .name = setting->name,
        .scope = setting->scope == CONFIG_GLOBAL ? "global" : "device",
        .initial = setting->initial ? setting->initial : "",
        .help = setting->help,
        .is_reloaded = setting->is_reloaded,
    };
    config_table_describe_allowed(number, ret_description->allowed);
    return true;
}

static struct config *config_new(void)
{
    struct config *config = calloc(1, sizeof(*config));

    if (!config)
        return NULL;
    config->devices = calloc(CONFIG_DEVICES_MAX, sizeof(*config->devices));
    if (!config->devices) {
        free(config);
        return NULL;
    }
    config_table_store_defaults(CONFIG_GLOBAL, config);
    return config;
}

/* Parse and check with a parser that is ready; returns what was found. */
static int parse_all(struct parser *parser, const char *text, size_t len)
{
    parse_lines(parser, text, len);
    if (!parser->error)
        check_all(parser);
    if (parser->problems->count > 0 && parser->error != -ENOMEM)
        return -EINVAL;
    return parser->error;
}

int config_parse(const char *file, const char *text, size_t len,
                 bool others_may, struct config **ret_config,
                 struct config_problems *ret_problems)
{
    AUTO_FREE struct origins *origins =
        calloc(CONFIG_DEVICES_MAX, sizeof(*origins));
    struct parser parser = {
        .file = file,
        .config = config_new(),
        .devices = origins,
        .problems = ret_problems,
        .others_may = others_may,
    };
    int error;

    *ret_problems = (struct config_problems){.count = 0};
    error = origins && parser.config ? parse_all(&parser, text, len) : -ENOMEM;
    if (error) {
        config_free(parser.config);
        return error;
    }
    *ret_config = parser.config;
    return 0;
}

/* Read all of the file; the caller frees the text. */
static int read_file(const char *path, char **ret_text, size_t *ret_len,
                     mode_t *ret_mode)
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
    *ret_mode = st.st_mode;
    *ret_len = (size_t)len;
    *ret_text = take_pointer(&text);
    return 0;
}

int config_load(const char *path, struct config **ret_config,
                struct config_problems *ret_problems)
{
    struct parser parser = {.problems = ret_problems};
    struct config *config = NULL;
    char *text = NULL;
    mode_t mode = 0;
    size_t len = 0;
    int error;

    *ret_problems = (struct config_problems){.count = 0};
    error = read_file(path, &text, &len, &mode);
    if (error) {
        say(&parser, "%s: cannot be read: %s", path,
            error == -EINVAL ? "not a regular file" : log_errno(error));
        return error;
    }
    error = config_parse(path, text, len, (mode & (S_IROTH | S_IWOTH)) != 0,
                         &config, ret_problems);
    explicit_bzero(text, len);
    free(text);
    if (mode & S_IWOTH) {
        say(&parser, "%s: others can change this file; run: chmod o-w %s", path,
            path);
        error = error ? error : -EINVAL;
    }
    if (error)
        config_free(config);
    else
        *ret_config = config;
    return error;
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->devices_count; i++) {
        config_table_free_values(CONFIG_DEVICE, &config->devices[i]);
        free(config->devices[i].name);
    }
    config_table_free_values(CONFIG_GLOBAL, config);
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
