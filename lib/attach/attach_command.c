/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/attach_command.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

enum long_option {
    OPTION_WATCH = 256,
    OPTION_FORCE,
    OPTION_ALL,
    OPTION_BLOCK_SIZE,
    OPTION_TIMEOUT,
    OPTION_DEAD_TIMEOUT,
    OPTION_READ_ONLY,
};

static const struct option long_options[] = {
    {"nbdtab", required_argument, NULL, 'c'},
    {"connections", required_argument, NULL, 'C'},
    {"block-size", required_argument, NULL, OPTION_BLOCK_SIZE},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"dead-timeout", required_argument, NULL, OPTION_DEAD_TIMEOUT},
    {"read-only", no_argument, NULL, OPTION_READ_ONLY},
    {"watch", no_argument, NULL, OPTION_WATCH},
    {"force", no_argument, NULL, OPTION_FORCE},
    {"all", no_argument, NULL, OPTION_ALL},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

/* What an option sets in a target. */
static const struct {
    int option;
    const char *name;
} target_options[] = {
    {'C', "conns"},
    {OPTION_BLOCK_SIZE, "bs"},
    {OPTION_TIMEOUT, "timeout"},
    {OPTION_DEAD_TIMEOUT, "dead"},
    {OPTION_READ_ONLY, "ro"},
};

/* What each verb takes. */
static const struct verb {
    const char *name;
    enum attach_verb verb;
    int arguments_min, arguments_max; /* behind it */
    bool watch, force, all, settings; /* are allowed */
} verbs[] = {
    {"attach", ATTACH_ATTACH, 1, 3, true, false, false, true},
    {"detach", ATTACH_DETACH, 1, 1, false, true, false, false},
    {"list", ATTACH_LIST, 0, 0, false, false, false, false},
    {"resize", ATTACH_RESIZE, 1, 1, false, false, false, false},
    {"reconnect", ATTACH_RECONNECT, 0, 1, false, true, true, false},
};

static int wrong(struct net_failure *failure, const char *text)
{
    net_failure_set(failure, -EINVAL, "%s", text);
    return -EINVAL;
}

static int add_setting(struct attach_command *command, const char *name,
                       const char *value, struct net_failure *ret_failure)
{
    if (command->settings_count == ATTACH_SETTINGS_MAX)
        return wrong(ret_failure, "there are too many options");
    command->settings[command->settings_count++] =
        (struct attach_setting){name, value};
    return 0;
}

static int use_option(struct attach_command *command, int option,
                      struct net_failure *ret_failure)
{
    for (size_t i = 0; i < sizeof(target_options) / sizeof(target_options[0]);
         i++) {
        if (target_options[i].option == option)
            return add_setting(command, target_options[i].name, optarg,
                               ret_failure);
    }
    switch (option) {
    case 'c':
        command->nbdtab = optarg;
        return 0;
    case OPTION_WATCH:
        command->watch = true;
        return 0;
    case OPTION_FORCE:
        command->force = true;
        return 0;
    case OPTION_ALL:
        command->all = true;
        return 0;
    case 'h':
        command->verb = ATTACH_HELP;
        return 1;
    case 'V':
        command->verb = ATTACH_VERSION;
        return 1;
    default:
        return wrong(ret_failure, option == ':' ? "an option lacks its value"
                                                : "there is an unknown option");
    }
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

/* Check that no option was given that the verb has no use for. */
static int check_options(const struct attach_command *command,
                         const struct verb *verb,
                         struct net_failure *ret_failure)
{
    if (command->watch && !verb->watch)
        return wrong(ret_failure, "--watch belongs to attach");
    if (command->force && !verb->force)
        return wrong(ret_failure, "--force belongs to detach and reconnect");
    if (command->all && !verb->all)
        return wrong(ret_failure, "--all belongs to reconnect");
    if (command->settings_count > 0 && !verb->settings)
        return wrong(ret_failure, "options of a connection belong to attach");
    return 0;
}

/* Read the arguments behind the verb. */
static int use_arguments(struct attach_command *command,
                         const struct verb *verb, int count, char **arguments,
                         struct net_failure *ret_failure)
{
    command->verb = verb->verb;
    if (verb->verb == ATTACH_RECONNECT && command->all == (count == 1))
        return wrong(ret_failure, "reconnect wants a device, or --all");
    if (count < verb->arguments_min || count > verb->arguments_max ||
        (verb->verb == ATTACH_ATTACH && count == 2)) {
        net_failure_set(ret_failure, -EINVAL,
                        "these are too few or too many arguments of %s",
                        verb->name);
        return -EINVAL;
    }
    if (count > 0 && target_parse_device(arguments[0], &command->index) != 0) {
        net_failure_set(ret_failure, -EINVAL,
                        "\"%s\" is no device: they are nbd0, nbd1, ...",
                        arguments[0]);
        return -EINVAL;
    }
    if (count == 3) {
        command->export_name = arguments[1];
        command->server = arguments[2];
    }
    return 0;
}

int attach_command_parse(int argc, char **argv,
                         struct attach_command *ret_command,
                         struct net_failure *ret_failure)
{
    struct attach_command command = {0};
    const struct verb *verb;
    int option, result;

    optind = 0; /* begin anew, also for tests */
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":c:C:hV", long_options, NULL)) !=
           -1) {
        result = use_option(&command, option, ret_failure);
        if (result < 0)
            return result;
        if (result > 0) {
            *ret_command = command;
            return 0;
        }
    }
    if (optind == argc)
        return wrong(ret_failure, "what is to be done is missing");
    verb = find_verb(argv[optind]);
    if (!verb) {
        net_failure_set(ret_failure, -EINVAL, "\"%s\" is no command",
                        argv[optind]);
        return -EINVAL;
    }
    result = check_options(&command, verb, ret_failure);
    if (result == 0)
        result = use_arguments(&command, verb, argc - optind - 1,
                               argv + optind + 1, ret_failure);
    if (result == 0)
        *ret_command = command;
    return result;
}

int attach_command_apply(const struct attach_command *command,
                         struct target *target, struct net_failure *ret_failure)
{
    int error = 0;

    if (command->server)
        error = target_set_server(target, command->server, ret_failure);
    if (error == 0 && command->export_name)
        error = target_set_export(target, command->export_name, ret_failure);
    for (size_t i = 0; error == 0 && i < command->settings_count; i++)
        error = target_set_option(target, command->settings[i].name,
                                  command->settings[i].value, ret_failure);
    return error ? error : target_check(target, ret_failure);
}
