/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/target.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/number.h"

enum {
    BLOCK_SIZE_MIN = 512,
    BLOCK_SIZE_MAX = 4096
}; /* what the kernel takes */

void target_init(struct target *target)
{
    *target = (struct target){
        .port = TARGET_PORT,
        .connections = 1,
        .block_size = TARGET_BLOCK_SIZE,
        .dead_timeout_s = TARGET_DEAD_TIMEOUT_S,
    };
}

int target_parse_device(const char *text, uint32_t *ret_index)
{
    static const char dev[] = "/dev/", nbd[] = "nbd";
    uint64_t index;

    if (strncmp(text, dev, strlen(dev)) == 0)
        text += strlen(dev);
    if (strncmp(text, nbd, strlen(nbd)) != 0)
        return -EINVAL;
    text += strlen(nbd);
    /* "nbd01" is no name of the kernel's. */
    if ((text[0] == '0' && text[1] != '\0') ||
        number_parse(text, 0, TARGET_INDEX_MAX, &index) != 0)
        return -EINVAL;
    *ret_index = (uint32_t)index;
    return 0;
}

const char *target_name(uint32_t index, char name[TARGET_NAME_SIZE])
{
    (void)snprintf(name, TARGET_NAME_SIZE, "nbd%" PRIu32, index);
    return name;
}

bool target_is_unix(const struct target *target)
{
    return strchr(target->server, '/') != NULL;
}

/* Whether a word can stand in a line of nbdtab and come out the same. */
static bool is_word(const char *text)
{
    if (*text == '\0' || *text == '#')
        return false;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c <= ' ' || c == 0x7f || c == ',' || c == '=')
            return false;
    }
    return true;
}

/* Copy a word that fits; what is its name for messages. */
static int set_word(char *to, size_t size, const char *text, const char *what,
                    struct net_failure *ret_failure)
{
    int error = 0;

    if (!is_word(text))
        error = -EINVAL;
    else if (strlen(text) >= size)
        error = -ENAMETOOLONG;
    if (error == -EINVAL)
        net_failure_set(ret_failure, error,
                        "\"%s\" cannot be %s: it is empty, or has a space, a "
                        "comma, an equals sign, or a # in front",
                        text, what);
    else if (error)
        net_failure_set(ret_failure, error, "%s is longer than %zu characters",
                        what, size - 1);
    else
        memcpy(to, text, strlen(text) + 1);
    return error;
}

/*
 * Find where the host and its port are in text: "host", "host:port",
 * "[address]:port"; an address with colons and no brackets has no port.
 * *ret_port is NULL if there is none.
 */
static int split_port(const char *text, const char **ret_host, size_t *ret_len,
                      const char **ret_port)
{
    const char *colon = strchr(text, ':');
    const char *end = text + strlen(text);

    if (*text == '[') {
        text++;
        end = strchr(text, ']');
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return -EINVAL;
        /* Only an address may be in brackets, and it has two colons.  Without
         * them it must not look like a comment. */
        if (*text == '#' || !colon || colon >= end ||
            !memchr(colon + 1, ':', (size_t)(end - colon) - 1) ||
            memchr(text, '[', (size_t)(end - text)))
            return -EINVAL;
        colon = end[1] == ':' ? end + 1 : NULL;
    } else if (colon && !strchr(colon + 1, ':')) {
        end = colon;
    } else {
        colon = NULL;
    }
    if (end == text)
        return -EINVAL;
    *ret_host = text;
    *ret_len = (size_t)(end - text);
    *ret_port = colon ? colon + 1 : NULL;
    return 0;
}

int target_set_server(struct target *target, const char *text,
                      struct net_failure *ret_failure)
{
    char word[TARGET_SERVER_SIZE + 16];
    const char *host, *port;
    size_t len;
    uint64_t number = target->port;
    int error = set_word(word, sizeof(word), text, "a server", ret_failure);

    if (error)
        return error;
    if (strchr(word, '/'))
        return set_word(target->server, sizeof(target->server), word,
                        "the path of a socket", ret_failure);
    if (split_port(word, &host, &len, &port) != 0 ||
        len >= sizeof(target->server) ||
        (port && number_parse(port, 1, UINT16_MAX, &number) != 0)) {
        net_failure_set(
            ret_failure, -EINVAL,
            "\"%s\" is neither the path of a socket nor HOST[:PORT]", word);
        return -EINVAL;
    }
    memcpy(target->server, host, len);
    target->server[len] = '\0';
    target->port = (uint16_t)number;
    return 0;
}

int target_set_export(struct target *target, const char *text,
                      struct net_failure *ret_failure)
{
    return set_word(target->export_name, sizeof(target->export_name), text,
                    "the name of an export", ret_failure);
}

/* ---- options ------------------------------------------------------------ */

enum option_kind {
    OPTION_BLOCK_SIZE,
    OPTION_CONNECTIONS,
    OPTION_TIMEOUT,
    OPTION_DEAD,
    OPTION_PORT,
    OPTION_READ_ONLY,
    OPTION_NOTHING,     /* what we do anyway */
    OPTION_TLS,         /* of nbd-client only */
    OPTION_UNSUPPORTED, /* the same */
};

static const struct target_option {
    const char *name;
    enum option_kind kind;
    bool has_value;
    uint64_t min, max;
} options[] = {
    {"bs", OPTION_BLOCK_SIZE, true, BLOCK_SIZE_MIN, BLOCK_SIZE_MAX},
    {"conns", OPTION_CONNECTIONS, true, 1, TARGET_CONNECTIONS_MAX},
    {"timeout", OPTION_TIMEOUT, true, 0, TARGET_TIMEOUT_MAX_S},
    {"dead", OPTION_DEAD, true, 1, TARGET_TIMEOUT_MAX_S},
    {"port", OPTION_PORT, true, 1, UINT16_MAX},
    {"ro", OPTION_READ_ONLY, false, 0, 0},
    {"readonly", OPTION_READ_ONLY, false, 0, 0},
    {"unix", OPTION_NOTHING, false, 0, 0},
    {"persist", OPTION_NOTHING, false, 0, 0},
    {"certfile", OPTION_TLS, true, 0, 0},
    {"keyfile", OPTION_TLS, true, 0, 0},
    {"cacertfile", OPTION_TLS, true, 0, 0},
    {"tlshostname", OPTION_TLS, true, 0, 0},
    {"swap", OPTION_UNSUPPORTED, false, 0, 0},
    {"sdp", OPTION_UNSUPPORTED, false, 0, 0},
    {"no_optgo", OPTION_UNSUPPORTED, false, 0, 0},
};

static const struct target_option *find_option(const char *name)
{
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    }
    return NULL;
}

static void apply(struct target *target, enum option_kind kind, uint64_t value)
{
    switch (kind) {
    case OPTION_BLOCK_SIZE:
        target->block_size = (uint32_t)value;
        break;
    case OPTION_CONNECTIONS:
        target->connections = (uint32_t)value;
        break;
    case OPTION_TIMEOUT:
        target->timeout_s = value;
        break;
    case OPTION_DEAD:
        target->dead_timeout_s = value;
        break;
    case OPTION_PORT:
        target->port = (uint16_t)value;
        break;
    case OPTION_READ_ONLY:
        target->read_only = true;
        break;
    case OPTION_NOTHING:
    case OPTION_TLS:
    case OPTION_UNSUPPORTED:
        break;
    }
}

static int refuse_kind(const struct target_option *option,
                       struct net_failure *ret_failure)
{
    if (option->kind == OPTION_TLS)
        net_failure_set(ret_failure, -ENOTSUP,
                        "option %s: the kernel knows no TLS; nbd-client has "
                        "a helper for that, attach by it",
                        option->name);
    else
        net_failure_set(ret_failure, -ENOTSUP,
                        "option %s: only nbd-client knows this", option->name);
    return -ENOTSUP;
}

int target_set_option(struct target *target, const char *name,
                      const char *value, struct net_failure *ret_failure)
{
    const struct target_option *option = find_option(name);
    uint64_t number = 0;

    /* Those are for others who read the file. */
    if (name[0] == '_')
        return 0;
    if (!option) {
        net_failure_set(ret_failure, -EINVAL, "unknown option \"%s\"", name);
        return -EINVAL;
    }
    if (option->kind == OPTION_TLS || option->kind == OPTION_UNSUPPORTED)
        return refuse_kind(option, ret_failure);
    if ((value != NULL) != option->has_value) {
        net_failure_set(ret_failure, -EINVAL,
                        option->has_value ? "option %s needs a value"
                                          : "option %s has no value",
                        name);
        return -EINVAL;
    }
    if (value &&
        (number_parse(value, option->min, option->max, &number) != 0 ||
         (option->kind == OPTION_BLOCK_SIZE && (number & (number - 1)) != 0))) {
        net_failure_set(
            ret_failure, -EINVAL,
            "option %s=%s: it must be %s%" PRIu64 " to %" PRIu64, name, value,
            option->kind == OPTION_BLOCK_SIZE ? "a power of two, " : "",
            option->min, option->max);
        return -EINVAL;
    }
    apply(target, option->kind, number);
    return 0;
}

/* ---- the whole ---------------------------------------------------------- */

int target_check(const struct target *target, struct net_failure *ret_failure)
{
    struct sockaddr_un address;

    if (target->server[0] == '\0' || target->export_name[0] == '\0') {
        net_failure_set(ret_failure, -EINVAL, "%s is missing",
                        target->server[0] == '\0' ? "the server"
                                                  : "the name of the export");
        return -EINVAL;
    }
    if (target_is_unix(target) &&
        strlen(target->server) >= sizeof(address.sun_path)) {
        net_failure_set(ret_failure, -EINVAL,
                        "the path of a socket has at most %zu characters",
                        sizeof(address.sun_path) - 1);
        return -EINVAL;
    }
    return 0;
}

const char *target_format(const struct target *target,
                          char line[TARGET_LINE_SIZE])
{
    char port[16] = "unix";

    if (!target_is_unix(target))
        (void)snprintf(port, sizeof(port), "port=%u", target->port);
    (void)snprintf(line, TARGET_LINE_SIZE,
                   "nbd%" PRIu32 " %s %s %s,bs=%" PRIu32 ",conns=%" PRIu32
                   ",timeout=%" PRIu64 ",dead=%" PRIu64 "%s",
                   target->index, target->server, target->export_name, port,
                   target->block_size, target->connections, target->timeout_s,
                   target->dead_timeout_s, target->read_only ? ",ro" : "");
    return line;
}

const char *target_server_name(const struct target *target,
                               char text[TARGET_SERVER_SIZE + 16])
{
    if (target_is_unix(target))
        (void)snprintf(text, TARGET_SERVER_SIZE + 16, "%s", target->server);
    else if (strchr(target->server, ':'))
        (void)snprintf(text, TARGET_SERVER_SIZE + 16, "[%s]:%u", target->server,
                       target->port);
    else
        (void)snprintf(text, TARGET_SERVER_SIZE + 16, "%s:%u", target->server,
                       target->port);
    return text;
}
