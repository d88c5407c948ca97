/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/connect.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/number.h"
#include "base/resolve.h"
#include "base/secret.h"
#include "base/stream.h"
#include "base/tls.h"
#include "s3/http_exchange.h"

enum {
    HEAD_MAX = 32 << 10, /* bytes of a request's head: a token, mostly */
    AUTHORITY_MAX = 264, /* "[", host, "]:65535" */
    EVENT = sizeof(uint64_t),
};

#define REFRESH_NS (60 * UINT64_C(1000000000)) /* of names' addresses */

/* What is not for other memory. */
struct buffers {
    char head[HEAD_MAX];
    char answer[CREDENTIALS_HTTP_ANSWER_MAX + 1];
};

struct credentials_http {
    char *ca_file;
    struct resolver *resolver;
    struct buffers *buffers;
    int interrupt_fd; /* readable from credentials_http_interrupt on */
    struct mutex lock;
    bool is_interrupted GUARDED_BY(lock);
    int fd GUARDED_BY(lock); /* of the exchange that runs, or -1 */
};

/* ---- URLs --------------------------------------------------------------- */

/* Take what stands between brackets, or up to the port or the path. */
static int take_host(const char **text, struct credentials_url *url)
{
    bool is_bracketed = **text == '[';
    const char *start = *text + is_bracketed;
    size_t len = strcspn(start, is_bracketed ? "]/" : ":/?");

    if (len == 0 || (is_bracketed && start[len] != ']'))
        return -EINVAL;
    if (len > CREDENTIALS_URL_HOST_MAX)
        return -EMSGSIZE;
    memcpy(url->host, start, len);
    url->host[len] = '\0';
    *text = start + len + is_bracketed;
    return 0;
}

/* Take the port, if there is one. */
static int take_port(const char **text, struct credentials_url *url)
{
    char digits[6] = "";
    size_t len;
    uint64_t port;

    url->port = url->is_tls ? 443 : 80;
    if (**text != ':')
        return 0;
    len = strcspn(++*text, "/?");
    if (len >= sizeof(digits))
        return -EINVAL;
    memcpy(digits, *text, len);
    if (number_parse(digits, 1, UINT16_MAX, &port) != 0)
        return -EINVAL;
    url->port = (uint16_t)port;
    *text += len;
    return 0;
}

int credentials_url_parse(const char *text, struct credentials_url *ret_url)
{
    struct credentials_url url = {0};
    int error;

    for (const char *c = text; *c != '\0'; c++) {
        if (*c <= 0x20 || *c >= 0x7f || *c == '@' || *c == '#')
            return -EINVAL;
    }
    if (strncmp(text, "https://", 8) == 0) {
        url.is_tls = true;
        text += 8;
    } else if (strncmp(text, "http://", 7) == 0) {
        text += 7;
    } else {
        return -EINVAL;
    }
    error = take_host(&text, &url);
    if (!error)
        error = take_port(&text, &url);
    if (error)
        return error;
    if (*text != '\0' && *text != '/' && *text != '?')
        return -EINVAL;
    url.path[0] = '/';
    error = credentials_url_append(&url, text);
    if (!error)
        *ret_url = url;
    return error;
}

int credentials_url_append(struct credentials_url *url, const char *path)
{
    size_t len = strlen(url->path);

    if (path[0] == '/' && len > 0 && url->path[len - 1] == '/')
        len--;
    if (len + strlen(path) > CREDENTIALS_URL_PATH_MAX)
        return -EMSGSIZE;
    (void)snprintf(url->path + len, sizeof(url->path) - len, "%s", path);
    return 0;
}

/* Write host and port as a URL has them, the port only if it must be. */
static void format_authority(const struct credentials_url *url,
                             char text[AUTHORITY_MAX])
{
    bool is_address = strchr(url->host, ':') != NULL;
    int len =
        snprintf(text, AUTHORITY_MAX, is_address ? "[%s]" : "%s", url->host);

    if (url->port != (url->is_tls ? 443 : 80) && len > 0 && len < AUTHORITY_MAX)
        (void)snprintf(text + len, (size_t)(AUTHORITY_MAX - len), ":%u",
                       (unsigned)url->port);
}

/* ---- making and ending -------------------------------------------------- */

int credentials_http_new(const char *ca_file,
                         struct credentials_http **ret_http)
{
    struct credentials_http *http = calloc(1, sizeof(*http));
    int error = 0;

    if (!http)
        return -ENOMEM;
    http->fd = -1;
    mutex_init(&http->lock);
    http->ca_file = ca_file ? strdup(ca_file) : NULL;
    http->buffers = secret_new(sizeof(*http->buffers));
    http->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (http->interrupt_fd < 0)
        error = -errno;
    else if (!http->buffers || (ca_file && !http->ca_file))
        error = -ENOMEM;
    else
        error = resolver_new(REFRESH_NS, &http->resolver);
    if (error)
        credentials_http_free(http);
    else
        *ret_http = http;
    return error;
}

void credentials_http_free(struct credentials_http *http)
{
    if (!http)
        return;
    resolver_free(http->resolver);
    if (http->interrupt_fd >= 0)
        (void)close(http->interrupt_fd);
    secret_free(http->buffers, sizeof(*http->buffers));
    mutex_done(&http->lock);
    free(http->ca_file);
    free(http);
}

void credentials_http_interrupt(struct credentials_http *http)
{
    const uint64_t one = 1;

    mutex_lock(&http->lock);
    http->is_interrupted = true;
    if (http->fd >= 0)
        (void)shutdown(http->fd, SHUT_RDWR);
    mutex_unlock(&http->lock);
    resolver_interrupt(http->resolver);
    /* Readable already if it does not fit. */
    if (write(http->interrupt_fd, &one, EVENT) != EVENT)
        return;
}

/* Say which socket an interrupt is to shut down; false: it has happened. */
static bool may_go_on(struct credentials_http *http, int fd)
{
    bool is_interrupted;

    mutex_lock(&http->lock);
    is_interrupted = http->is_interrupted;
    http->fd = is_interrupted ? -1 : fd;
    mutex_unlock(&http->lock);
    return !is_interrupted;
}

/* ---- requests ----------------------------------------------------------- */

/* Whether what is sent to this address stays where it cannot be read. */
static bool is_local(const struct net_address *address)
{
    static const char *const places[] = {"169.254.170.2", "169.254.170.23",
                                         "fd00:ec2::23", "::1"};
    uint16_t port =
        ntohs(address->any.sa_family == AF_INET ? address->v4.sin_port
                                                : address->v6.sin6_port);
    struct net_address place;

    if (address->any.sa_family == AF_INET &&
        ntohl(address->v4.sin_addr.s_addr) >> 24 == 127)
        return true;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (net_address_parse(places[i], port, &place) == 0 &&
            net_address_equals(address, &place))
            return true;
    }
    return false;
}

/* Find where to connect to, and check that it may be. */
static int find_addresses(struct credentials_http *http,
                          const struct credentials_http_request *request,
                          struct net_address addresses[RESOLVER_ADDRESSES_MAX],
                          uint64_t deadline_ns, struct net_failure *failure)
{
    const struct credentials_url *url = request->url;
    int count =
        resolver_addresses(http->resolver, url->host, url->port, addresses,
                           RESOLVER_ADDRESSES_MAX, deadline_ns, failure);

    for (int i = 0; i < count; i++) {
        if (request->is_local && !url->is_tls && !is_local(&addresses[i])) {
            net_failure_set(failure, -EACCES,
                            "is no address of this host: only by https");
            return -EACCES;
        }
    }
    return count;
}

/* Connect, and shake hands; *ret_stream is the caller's. */
static int connect_stream(struct credentials_http *http,
                          const struct credentials_http_request *request,
                          uint64_t deadline_ns, struct stream **ret_stream,
                          struct net_failure *failure)
{
    const struct tls_client_options options = {.ca_file = http->ca_file};
    struct net_address addresses[RESOLVER_ADDRESSES_MAX];
    struct tls_context *context = NULL;
    struct stream *stream = NULL;
    int count, fd, error;

    count = find_addresses(http, request, addresses, deadline_ns, failure);
    if (count < 0)
        return count;
    fd = connect_any(addresses, (size_t)count, deadline_ns, http->interrupt_fd,
                     NULL, failure);
    if (fd < 0)
        return fd;
    error = stream_open(fd, &stream);
    if (error) {
        net_failure_set(failure, error, "%s", log_errno(error));
        return error;
    }
    if (!may_go_on(http, fd))
        error = -ECANCELED;
    if (!error && request->url->is_tls) {
        error = tls_client_new(&options, &context);
        if (error)
            net_failure_set(failure, error,
                            "trusted certificates cannot be loaded: %s",
                            log_errno(error));
        else
            error = tls_connect(context, request->url->host, &stream,
                                deadline_ns, failure);
        tls_free(context);
    }
    *ret_stream = stream;
    return error;
}

/* Write the head; returns its length. */
static ssize_t compose(const struct credentials_http_request *request,
                       char *head)
{
    char authority[AUTHORITY_MAX];
    struct http_composer composer;

    format_authority(request->url, authority);
    http_compose(&composer, head, HEAD_MAX, request->method,
                 request->url->path);
    http_compose_field(&composer, "Host", authority);
    http_compose_field(&composer, "User-Agent", "s3blkdev");
    http_compose_field(&composer, "Connection", "close");
    for (size_t i = 0;
         i < CREDENTIALS_HTTP_FIELDS_MAX && request->fields[i].name; i++)
        http_compose_field(&composer, request->fields[i].name,
                           request->fields[i].value);
    if (request->has_body)
        http_compose_number(&composer, "Content-Length", request->body_len);
    return http_compose_end(&composer);
}

/* Send and receive; the answer's body ends up in the buffer, whatever it is. */
static int exchange(struct credentials_http *http,
                    const struct credentials_http_request *request,
                    size_t head_len, struct stream *stream,
                    struct credentials_http_answer *ret_answer,
                    struct net_failure *failure)
{
    char *answer = http->buffers->answer;
    struct http_exchange exchange = {
        .head = http->buffers->head,
        .head_len = head_len,
        .body = request->body,
        .body_len = request->body_len,
        .data = answer,
        .room = CREDENTIALS_HTTP_ANSWER_MAX,
        .progress_ns = request->timeout_ns,
        .deadline_ns = clock_monotonic_ns() + request->timeout_ns,
    };
    int error = http_exchange_run(stream, &exchange);
    size_t len = exchange.len;

    if (error && exchange.answer.status < 300) {
        net_failure_set(failure, error, "%s",
                        error == -ETIMEDOUT  ? "does not answer in time"
                        : error == -EPROTO   ? "does not answer as HTTP wants"
                        : error == -EMSGSIZE ? "answers too much"
                                             : log_errno(error));
    } else {
        error = 0;
        if (exchange.text) {
            len = exchange.text_len < CREDENTIALS_HTTP_ANSWER_MAX
                      ? exchange.text_len
                      : CREDENTIALS_HTTP_ANSWER_MAX;
            memcpy(answer, exchange.text, len);
            explicit_bzero(exchange.text, exchange.text_len);
        } else if (exchange.answer.status >= 300) {
            len = 0;
        }
        answer[len] = '\0';
        *ret_answer = (struct credentials_http_answer){exchange.answer.status,
                                                       answer, len};
    }
    http_exchange_done(&exchange);
    return error;
}

/* Put in front of a failure's words where it happened. */
static void tell_where(const struct credentials_url *url,
                       struct net_failure *failure)
{
    struct net_failure before = *failure;
    char authority[AUTHORITY_MAX];

    format_authority(url, authority);
    net_failure_set(failure, before.error, "%s: %s", authority, before.text);
}

int credentials_http_run(struct credentials_http *http,
                         const struct credentials_http_request *request,
                         struct credentials_http_answer *ret_answer,
                         struct net_failure *ret_failure)
{
    uint64_t deadline_ns = clock_monotonic_ns() + request->timeout_ns;
    ssize_t head_len = compose(request, http->buffers->head);
    struct stream *stream = NULL;
    int error = 0;

    if (head_len < 0) {
        error = -EINVAL;
        net_failure_set(ret_failure, error,
                        "a name, path or token cannot be sent");
    }
    if (!error)
        error =
            connect_stream(http, request, deadline_ns, &stream, ret_failure);
    if (!error)
        error = exchange(http, request, (size_t)head_len, stream, ret_answer,
                         ret_failure);
    explicit_bzero(http->buffers->head, HEAD_MAX);
    if (!may_go_on(http, -1) && error) {
        error = -ECANCELED;
        net_failure_set(ret_failure, error, "interrupted");
    }
    stream_close(stream);
    if (error)
        tell_where(request->url, ret_failure);
    return error;
}

void credentials_http_refused(const struct credentials_http_request *request,
                              unsigned status, struct net_failure *failure)
{
    net_failure_set(failure, -EACCES, "%s %.100s is answered with status %u",
                    request->method, request->url->path, status);
    tell_where(request->url, failure);
}
