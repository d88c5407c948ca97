/* SPDX-License-Identifier: BSD-2-Clause */
#include "sync_command.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "config_table.h"

enum {
    WAIT_S = 60, /* a daemon that restarts is back by then */
    SECONDS_MAX = 366 * 86400,
};

/* ---- what there is ------------------------------------------------------ */

/* Options that only some verbs take; values for getopt_long, too. */
enum option_value {
    OPTION_JSON = 256,
    OPTION_NOW,
    OPTION_YES,
    OPTION_LOCAL,
    OPTION_SAMPLE,
    OPTION_RATE,
    OPTION_RESTART,
    OPTION_DISCARD,
    OPTION_OTHERS,
    OPTIONS_END,
};
#define TAKES(option) (1U << ((option)-OPTION_JSON))

static const struct option long_options[] = {
    {"json", no_argument, NULL, OPTION_JSON},
    {"now", no_argument, NULL, OPTION_NOW},
    {"yes", no_argument, NULL, OPTION_YES},
    {"local", no_argument, NULL, OPTION_LOCAL},
    {"sample", required_argument, NULL, OPTION_SAMPLE},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"restart", no_argument, NULL, OPTION_RESTART},
    {"discard", no_argument, NULL, OPTION_DISCARD},
    {"others", no_argument, NULL, OPTION_OTHERS},
    {NULL, 0, NULL, 0},
};

enum argument {
    NOTHING,
    DEVICE,
    DEVICE_AND_MAYBE_NAME, /* device[@name] */
    NAME,                  /* of a snapshot */
    NEW_DEVICE,
};

static const struct word {
    const char *word;
    enum sync_verb verb;
    enum argument arguments[2];
    unsigned options; /* TAKES */
} words[] = {
    {"status", SYNC_STATUS, {NOTHING}, TAKES(OPTION_JSON)},
    {"snapshot", SYNC_SNAPSHOT, {DEVICE, NAME}, TAKES(OPTION_NOW)},
    {"snapshots", SYNC_SNAPSHOTS, {DEVICE}, 0},
    {"rollback", SYNC_ROLLBACK, {DEVICE, NAME}, TAKES(OPTION_DISCARD)},
    {"clone", SYNC_CLONE, {DEVICE_AND_MAYBE_NAME, NEW_DEVICE}, 0},
    {"takeover", SYNC_TAKEOVER, {DEVICE}, 0},
    {"fork", SYNC_FORK, {DEVICE, NEW_DEVICE}, 0},
    {"discard", SYNC_DISCARD, {DEVICE}, 0},
    {"release", SYNC_RELEASE, {DEVICE}, 0},
    {"scrub",
     SYNC_SCRUB,
     {DEVICE},
     TAKES(OPTION_LOCAL) | TAKES(OPTION_SAMPLE) | TAKES(OPTION_RATE) |
         TAKES(OPTION_RESTART) | TAKES(OPTION_OTHERS)},
    {"drop", SYNC_DROP, {DEVICE_AND_MAYBE_NAME}, TAKES(OPTION_YES)},
};

struct parser {
    struct sync_command *command;
    unsigned options; /* TAKES: that were given */
    char *problem;
    char **arguments;
    int count;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct parser *parser,
                                                        const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(parser->problem, SYNC_PROBLEM_SIZE, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* ---- options ------------------------------------------------------------ */

static int set_path(struct parser *parser, const char **path, int option,
                    const char *value)
{
    if (*path)
        return refuse(parser, "-%c: given twice", option);
    if (*value == '\0')
        return refuse(parser, "-%c: needs a path", option);
    *path = value;
    return 0;
}

static int add_device(struct parser *parser, const char *name)
{
    struct sync_command *command = parser->command;

    if (!config_table_name_is_valid(name, strlen(name)))
        return refuse(parser, "-d %s: not the name of a device", name);
    for (size_t i = 0; i < command->devices_count; i++) {
        if (strcmp(command->devices[i], name) == 0)
            return refuse(parser, "-d %s: given twice", name);
    }
    if (command->devices_count == SYNC_DEVICES_MAX)
        return refuse(parser, "-d %s: too many devices", name);
    command->devices[command->devices_count++] = name;
    return 0;
}

static int take_short(struct parser *parser, int option, const char *value)
{
    struct sync_command *command = parser->command;

    switch (option) {
    case 'c':
        return set_path(parser, &command->config_path, option, value);
    case 'p':
        return set_path(parser, &command->pid_path, option, value);
    case 'd':
        return add_device(parser, value);
    case 'w':
        if (number_parse_duration(value, 0, 86400, &command->wait_s) == 0)
            return 0;
        return refuse(parser, "-w %s: allowed: a time up to 1d", value);
    case ':':
        if (optopt < OPTION_JSON)
            return refuse(parser, "-%c: needs a value", optopt);
        return refuse(parser, "--%s: needs a value",
                      long_options[optopt - OPTION_JSON].name);
    default:
        if (optopt > 0 && optopt < 256)
            return refuse(parser, "-%c: there is no such option", optopt);
        return refuse(parser, "there is no such option, or it has no value");
    }
}

static int take_long(struct parser *parser, int option, const char *value)
{
    struct sync_command *command = parser->command;
    uint64_t percent;

    parser->options |= TAKES(option);
    switch ((enum option_value)option) {
    case OPTION_JSON:
        command->json = true;
        break;
    case OPTION_NOW:
        command->now = true;
        break;
    case OPTION_YES:
        command->yes = true;
        break;
    case OPTION_LOCAL:
        command->local = true;
        break;
    case OPTION_RESTART:
        command->restart = true;
        break;
    case OPTION_DISCARD:
        command->discard = true;
        break;
    case OPTION_OTHERS:
        command->others = true;
        break;
    case OPTION_SAMPLE:
        if (number_parse(value, 1, 100, &percent) != 0)
            return refuse(parser, "--sample %s: allowed: 1 to 100 percent",
                          value);
        command->sample = (unsigned)percent;
        break;
    case OPTION_RATE:
        if (number_parse_size(value, 1, UINT64_MAX, &command->rate) != 0)
            return refuse(parser,
                          "--rate %s: allowed: bytes a second, such as 20M",
                          value);
        break;
    case OPTIONS_END:
        break;
    }
    return 0;
}

/* Take all options.  *ret_end: -h or -V was one, and nothing else counts. */
static int take_options(struct parser *parser, int argc, char **argv,
                        bool *ret_end)
{
    int option, error = 0;

    optind = 0; /* begin anew */
    opterr = 0;
    while (!error && (option = getopt_long(argc, argv, ":c:p:d:w:hV",
                                           long_options, NULL)) != -1) {
        if (option == 'h' || option == 'V') {
            parser->command->verb = option == 'h' ? SYNC_HELP : SYNC_VERSION;
            *ret_end = true;
            return 0;
        }
        error = option >= OPTION_JSON ? take_long(parser, option, optarg)
                                      : take_short(parser, option, optarg);
    }
    parser->arguments = argv + optind;
    parser->count = argc - optind;
    return error;
}

/* ---- numbers ------------------------------------------------------------ */

static int take_percent(struct parser *parser, int at, const char *what,
                        unsigned *ret_percent)
{
    uint64_t percent;

    if (number_parse(parser->arguments[at], 0, 100, &percent) != 0)
        return refuse(parser, "%s: %s is 0 to 100 percent",
                      parser->arguments[at], what);
    *ret_percent = (unsigned)percent;
    return 0;
}

/* The last two of the arguments say which chunks. */
static int take_share(struct parser *parser, int at)
{
    struct sync_command *command = parser->command;

    if (take_percent(parser, at, "where to start", &command->start_percent) ||
        take_percent(parser, at + 1, "where to stop", &command->stop_percent))
        return -EINVAL;
    if (command->start_percent >= command->stop_percent)
        return refuse(parser, "%u %u: it starts where it stops, or behind",
                      command->start_percent, command->stop_percent);
    return 0;
}

static int take_evict(struct parser *parser)
{
    struct sync_command *command = parser->command;

    command->verb = SYNC_EVICT;
    if (take_percent(parser, 0, "the most used", &command->max_used) ||
        take_percent(parser, 1, "the least used", &command->min_used))
        return -EINVAL;
    if (command->min_used > command->max_used)
        return refuse(parser,
                      "%u %u: the first is the most used, the second "
                      "what to come down to",
                      command->max_used, command->min_used);
    return parser->count == 4 ? take_share(parser, 2) : 0;
}

static int take_upload(struct parser *parser)
{
    struct sync_command *command = parser->command;

    command->verb = SYNC_UPLOAD;
    if (number_parse(parser->arguments[0], 1, SECONDS_MAX, &command->seconds) !=
        0)
        return refuse(parser, "%s: allowed: seconds, from 1 to %d",
                      parser->arguments[0], SECONDS_MAX);
    return parser->count == 3 ? take_share(parser, 1) : 0;
}

static int take_numbers(struct parser *parser)
{
    if (!parser->command->pid_path)
        return refuse(parser, "needs -p, so that it does not run twice");
    if (parser->options != 0)
        return refuse(parser, "only some commands have such options");
    if (parser->count == 1 || parser->count == 3)
        return take_upload(parser);
    if (parser->count == 2 || parser->count == 4)
        return take_evict(parser);
    return refuse(parser, "%d numbers are too many", parser->count);
}

/* ---- words -------------------------------------------------------------- */

/* Copy a name of len bytes, after looking at it. */
static int take_name(struct parser *parser, const char *text, size_t len,
                     const char *what, char *to)
{
    if (!config_table_name_is_valid(text, len))
        return refuse(parser, "%s: not the name of a %s", text, what);
    memcpy(to, text, len);
    to[len] = '\0';
    return 0;
}

static int take_argument(struct parser *parser, enum argument argument,
                         const char *text)
{
    struct sync_command *command = parser->command;
    size_t len = strlen(text), device_len = strcspn(text, "@");
    int error;

    switch (argument) {
    case DEVICE:
        return take_name(parser, text, len, "device", command->device);
    case NAME:
        return take_name(parser, text, len, "snapshot", command->name);
    case NEW_DEVICE:
        error = take_name(parser, text, len, "device", command->to);
        if (!error && strcmp(command->to, command->device) == 0)
            return refuse(parser, "%s: is the device itself", text);
        return error;
    case DEVICE_AND_MAYBE_NAME:
        error = take_name(parser, text, device_len, "device", command->device);
        if (error || device_len == len)
            return error;
        return take_name(parser, text + device_len + 1, len - device_len - 1,
                         "snapshot", command->name);
    case NOTHING:
        break;
    }
    return refuse(parser, "%s: one argument too many", text);
}

static int take_arguments(struct parser *parser, const struct word *word)
{
    static const char *const missing[] = {
        [NOTHING] = "",
        [DEVICE] = "the name of a device",
        [DEVICE_AND_MAYBE_NAME] = "the name of a device",
        [NAME] = "the name of a snapshot",
        [NEW_DEVICE] = "the name of the new device",
    };
    int error = 0;

    for (int i = 0; i < 2 && !error; i++) {
        if (i + 1 < parser->count)
            error = take_argument(parser, word->arguments[i],
                                  parser->arguments[i + 1]);
        else if (word->arguments[i] != NOTHING)
            error = refuse(parser, "%s: needs %s", word->word,
                           missing[word->arguments[i]]);
    }
    if (!error && parser->count > 3)
        return refuse(parser, "%s: one argument too many",
                      parser->arguments[3]);
    return error;
}

static int take_word(struct parser *parser, const struct word *word)
{
    struct sync_command *command = parser->command;
    unsigned wrong = parser->options & ~word->options;

    command->verb = word->verb;
    if (command->devices_count > 0 && word->arguments[0] != NOTHING)
        return refuse(parser, "-d: %s names its device itself", word->word);
    for (int option = OPTION_JSON; option < OPTIONS_END; option++) {
        if (wrong & TAKES(option))
            return refuse(parser, "--%s: %s has no such option",
                          long_options[option - OPTION_JSON].name, word->word);
    }
    if (command->local && (parser->options & TAKES(OPTION_SAMPLE)))
        return refuse(parser, "--local and --sample: all that is here is "
                              "looked at, or a part of what is in the bucket");
    if (command->local && command->others)
        return refuse(parser, "--local and --others: what others uploaded is "
                              "in the bucket");
    return take_arguments(parser, word);
}

static int take_command(struct parser *parser)
{
    if (parser->count == 0)
        return refuse(parser, "nothing to do");
    if (strspn(parser->arguments[0], "0123456789") > 0)
        return take_numbers(parser);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(parser->arguments[0], words[i].word) == 0)
            return take_word(parser, &words[i]);
    }
    return refuse(parser, "%s: there is no such command", parser->arguments[0]);
}

int sync_command_parse(int argc, char **argv, struct sync_command *ret_command,
                       char problem[SYNC_PROBLEM_SIZE])
{
    struct sync_command command = {
        .stop_percent = 100,
        .wait_s = WAIT_S,
        .sample = 100,
    };
    struct parser parser = {.command = &command, .problem = problem};
    bool has_ended = false;
    int error = take_options(&parser, argc, argv, &has_ended);

    if (!error && !has_ended)
        error = take_command(&parser);
    if (!error)
        *ret_command = command;
    return error;
}
