/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/hostile_s3.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/number.h"

enum {
    ANSWER_MAX = 4 << 20,
    COMMAND_MAX = 65536,
    ENDPOINTS_MAX = 16,
    PATIENCE_MS = 60000, /* of a command; only ends what hangs */
};

struct hostile_s3 {
    pid_t pid;
    int fd; /* its standard input and output */
    uint16_t ports[ENDPOINTS_MAX];
    uint16_t tls_ports[ENDPOINTS_MAX];
    char ca[PATH_MAX];
    char answer[ANSWER_MAX];
};

/* The test cannot go on. */
static _Noreturn void give_up(const struct hostile_s3 *server, const char *why)
{
    (void)fprintf(stderr, "hostile_s3: %s: %.2000s\n", why, server->answer);
    abort();
}

/* ---- a line in each direction ------------------------------------------- */

static void write_all(const struct hostile_s3 *server, const char *text,
                      size_t len)
{
    while (len > 0) {
        ssize_t n = send(server->fd, text, len, MSG_NOSIGNAL);

        if (n < 0)
            give_up(server, "it takes no commands");
        text += n;
        len -= (size_t)n;
    }
}

/* Receive a line into server->answer, without its end. */
static void read_answer(struct hostile_s3 *server)
{
    struct pollfd readable = {.fd = server->fd, .events = POLLIN};
    size_t len = 0;

    server->answer[0] = '\0';
    while (len == 0 || server->answer[len - 1] != '\n') {
        ssize_t n;

        if (poll(&readable, 1, PATIENCE_MS) != 1)
            give_up(server, "no answer");
        n = recv(server->fd, server->answer + len, ANSWER_MAX - 1 - len, 0);
        if (n <= 0)
            give_up(server, "it has ended");
        len += (size_t)n;
        server->answer[len] = '\0';
    }
    server->answer[len - 1] = '\0';
    if (strncmp(server->answer, "{\"ok\":true", strlen("{\"ok\":true")) != 0)
        give_up(server, "a command failed");
}

/*
 * Find the value of this name in the answer, whose names are all different;
 * NULL: it is not there.
 */
static const char *find(const struct hostile_s3 *server, const char *name)
{
    char quoted[80];
    const char *at;

    (void)snprintf(quoted, sizeof(quoted), "\"%s\":", name);
    at = strstr(server->answer, quoted);
    return at ? at + strlen(quoted) : NULL;
}

/* Read the digits at *at, and step behind them. */
static uint64_t read_number(const struct hostile_s3 *server, const char **at)
{
    size_t len = strspn(*at, "0123456789");
    char digits[24];
    uint64_t value;

    if (len == 0 || len >= sizeof(digits))
        give_up(server, "no number");
    memcpy(digits, *at, len);
    digits[len] = '\0';
    if (number_parse(digits, 0, UINT64_MAX, &value) != 0)
        give_up(server, "no number");
    *at += len;
    return value;
}

/* JSON, from a text in which ' stands for ". */
static void make_quotes(char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            *text = '"';
    }
}

/* ---- the child ---------------------------------------------------------- */

/* Start node with fd as its standard input and output; 0, or an errno. */
static int spawn(pid_t *ret_pid, int fd, const char *dir, const char *settings)
{
    char program[] = "node", script[] = "tests/support/hostile_s3.mjs";
    char *dir_copy = strdup(dir), *settings_copy = strdup(settings);
    char *const arguments[] = {program, script, dir_copy, settings_copy, NULL};
    posix_spawn_file_actions_t actions;
    int error;

    assert(dir_copy && settings_copy);
    make_quotes(settings_copy);
    error = posix_spawn_file_actions_init(&actions);
    assert(error == 0);
    error = posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
    assert(error == 0);
    error = posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
    assert(error == 0);
    error = posix_spawnp(ret_pid, program, &actions, NULL, arguments, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    free(dir_copy);
    free(settings_copy);
    return error;
}

static void read_ports(const struct hostile_s3 *server, const char *name,
                       uint16_t ports[ENDPOINTS_MAX])
{
    const char *at = find(server, name);

    if (!at)
        give_up(server, "no ports");
    at++;
    for (unsigned i = 0; i < ENDPOINTS_MAX && *at != ']'; i++) {
        ports[i] = (uint16_t)read_number(server, &at);
        if (*at == ',')
            at++;
    }
}

struct hostile_s3 *hostile_s3_start(const char *dir, const char *settings)
{
    struct hostile_s3 *server = calloc(1, sizeof(*server));
    int ends[2], error;
    const char *ca;

    assert(server);
    error = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
    assert(error == 0);
    error = spawn(&server->pid, ends[1], dir, settings);
    (void)close(ends[1]);
    server->fd = ends[0];
    if (error == ENOENT) {
        (void)close(server->fd);
        free(server);
        return NULL;
    }
    assert(error == 0);
    read_answer(server);
    read_ports(server, "http", server->ports);
    read_ports(server, "https", server->tls_ports);
    ca = find(server, "ca");
    if (ca)
        (void)snprintf(server->ca, sizeof(server->ca), "%.*s",
                       (int)strcspn(ca + 1, "\""), ca + 1);
    return server;
}

void hostile_s3_stop(struct hostile_s3 *server)
{
    if (!server)
        return;
    /* It ends with its standard input. */
    (void)close(server->fd);
    while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    free(server);
}

/* ---- commands ----------------------------------------------------------- */

const char *hostile_s3_tell(struct hostile_s3 *server, const char *format, ...)
{
    char *line = malloc(COMMAND_MAX);
    va_list arguments;
    int len;

    assert(line);
    va_start(arguments, format);
    len = vsnprintf(line, COMMAND_MAX - 1, format, arguments);
    va_end(arguments);
    assert(len > 0 && len < COMMAND_MAX - 1);
    make_quotes(line);
    line[len] = '\n';
    write_all(server, line, (size_t)len + 1);
    free(line);
    read_answer(server);
    return server->answer;
}

uint64_t hostile_s3_count(struct hostile_s3 *server, const char *name)
{
    const char *at;

    (void)hostile_s3_tell(server, "{'counters':true}");
    at = find(server, name);
    return at ? read_number(server, &at) : 0;
}

uint64_t hostile_s3_hits(struct hostile_s3 *server, unsigned number)
{
    const char *at;

    (void)hostile_s3_tell(server, "{'hits':%u}", number);
    at = find(server, "hits");
    if (!at)
        give_up(server, "no hits");
    return read_number(server, &at);
}

uint16_t hostile_s3_port(const struct hostile_s3 *server, unsigned endpoint)
{
    assert(endpoint < ENDPOINTS_MAX);
    return server->ports[endpoint];
}

uint16_t hostile_s3_tls_port(const struct hostile_s3 *server, unsigned endpoint)
{
    assert(endpoint < ENDPOINTS_MAX);
    return server->tls_ports[endpoint];
}

const char *hostile_s3_ca(const struct hostile_s3 *server)
{
    return server->ca;
}
