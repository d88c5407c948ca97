/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/s3_peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mutex.h"
#include "base/net.h"
#include "base/number.h"
#include "object_store.h"
#include "s3/s3_site.h"
#include "support/memory_store.h"

enum {
    HEAD_MAX = 64 << 10,
    BODY_MAX = 64 << 20,
    KEYS_OF_A_PAGE = 1000,
    TEXT_MAX = 4 << 20, /* of a document that is made here */
};

struct s3_peer_connection {
    struct s3_peer *peer;
    size_t port;
    int fd;
    struct s3_peer_connection *next;
};

struct port {
    struct s3_peer *peer;
    uint16_t number;
    int fd; /* that listens, or -1 */
    pthread_t thread;
    unsigned requests;
};

struct s3_peer {
    struct object_store *objects;
    struct port ports[S3_PEER_PORTS_MAX];
    size_t port_count;
    struct mutex mutex;
    struct condition changed;
    s3_peer_script *script GUARDED_BY(mutex);
    void *context GUARDED_BY(mutex);
    struct s3_peer_connection *connections GUARDED_BY(mutex);
    unsigned requests GUARDED_BY(mutex);
};

/* ---- answers ------------------------------------------------------------ */

static void *must_have(void *memory)
{
    assert(memory);
    return memory;
}

void s3_peer_respond(struct s3_peer_answer *answer, unsigned status,
                     const char *fields, const void *body, size_t len)
{
    char head[8192];
    char date[64];
    time_t now = time(NULL);
    struct tm parts;
    int head_len;

    assert(gmtime_r(&now, &parts));
    assert(strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &parts) >
           0);
    head_len = snprintf(head, sizeof(head),
                        "HTTP/1.1 %u whatever\r\nServer: s3_peer\r\n"
                        "%s%s%s%sContent-Length: %zu\r\n\r\n",
                        status, strstr(fields, "Date: ") ? "" : "Date: ",
                        strstr(fields, "Date: ") ? "" : date,
                        strstr(fields, "Date: ") ? "" : "\r\n", fields, len);
    assert(head_len > 0 && (size_t)head_len < sizeof(head));
    free(answer->bytes);
    answer->len = (size_t)head_len + len;
    answer->bytes = must_have(malloc(answer->len + 1));
    memcpy(answer->bytes, head, (size_t)head_len);
    if (len > 0)
        memcpy(answer->bytes + head_len, body, len);
}

void s3_peer_refuse(struct s3_peer_answer *answer, unsigned status,
                    const char *fields, const char *code, const char *elements)
{
    char body[2048];
    int len = snprintf(body, sizeof(body),
                       "<?xml version=\"1.0\"?><Error><Code>%s</Code>"
                       "<Message>scripted</Message>%s</Error>",
                       code, elements);

    assert(len > 0 && (size_t)len < sizeof(body));
    s3_peer_respond(answer, status, fields, body, (size_t)len);
}

void s3_peer_respond_raw(struct s3_peer_answer *answer, const char *bytes)
{
    free(answer->bytes);
    answer->len = strlen(bytes);
    answer->bytes = must_have(strdup(bytes));
    answer->is_last = true;
}

char *s3_peer_field(const struct s3_peer_request *request, const char *name)
{
    const char *line = strstr(request->head, "\r\n");
    size_t len = strlen(name);

    while (line && line[2] != '\r') {
        line += 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            const char *value = line + len + 1;

            value += strspn(value, " ");
            return must_have(strndup(value, strcspn(value, "\r")));
        }
        line = strstr(line, "\r\n");
    }
    return NULL;
}

void s3_peer_wait_until_gone(const struct s3_peer_request *request)
{
    struct pollfd polled = {.fd = request->connection->fd, .events = POLLRDHUP};

    while (poll(&polled, 1, -1) < 0)
        assert(errno == EINTR);
}

/* ---- what a good server does -------------------------------------------- */

static int digit_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : c - 'a' + 10;
}

/* Take the %XX out of len bytes; returns a new text. */
static char *decode(const char *text, size_t len)
{
    char *decoded = must_have(malloc(len + 1));
    size_t used = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%' && i + 2 < len) {
            decoded[used++] =
                (char)(digit_of(text[i + 1]) * 16 + digit_of(text[i + 2]));
            i += 2;
        } else {
            decoded[used++] = text[i];
        }
    }
    decoded[used] = '\0';
    return decoded;
}

/* Returns the key of the target, decoded, "" for the bucket itself. */
static char *key_of(const struct s3_peer_request *request)
{
    size_t len = strcspn(request->target, "?");
    const char *slash =
        len > 1 ? memchr(request->target + 1, '/', len - 1) : NULL;

    if (!slash)
        return must_have(strdup(""));
    slash++;
    return decode(slash, len - (size_t)(slash - request->target));
}

/* Returns the value of a parameter of the query, decoded, or NULL. */
static char *parameter_of(const struct s3_peer_request *request,
                          const char *name)
{
    const char *at = strchr(request->target, '?');
    size_t len = strlen(name);

    while (at) {
        at++;
        if (strncmp(at, name, len) == 0 && (at[len] == '=' || !at[len])) {
            at += len + (at[len] == '=');
            return decode(at, strcspn(at, "&"));
        }
        at = strchr(at, '&');
    }
    return NULL;
}

static void serve_put(struct s3_peer *peer,
                      const struct s3_peer_request *request, const char *key,
                      struct s3_peer_answer *answer)
{
    char *condition = s3_peer_field(request, "If-None-Match");
    int error = peer->objects->put(peer->objects, key, request->body,
                                   request->body_len, condition != NULL);

    free(condition);
    if (error == -EEXIST) {
        s3_peer_refuse(answer, 412, "", "PreconditionFailed", "");
        return;
    }
    assert(error == 0);
    s3_peer_respond(answer, 200, "ETag: \"x\"\r\n", "", 0);
}

/* Take "bytes=first-last" apart, and cut it to the size. */
static bool range_of(const struct s3_peer_request *request, uint64_t size,
                     uint64_t *ret_first, uint64_t *ret_last)
{
    char *field = s3_peer_field(request, "Range");
    bool is_there = field && sscanf(field, "bytes=%" SCNu64 "-%" SCNu64,
                                    ret_first, ret_last) == 2;

    free(field);
    if (is_there && *ret_last >= size)
        *ret_last = size - 1;
    return is_there;
}

static void serve_get(struct s3_peer *peer,
                      const struct s3_peer_request *request, const char *key,
                      struct s3_peer_answer *answer)
{
    struct object_info info;
    uint64_t first = 0, last;
    char fields[128] = "";
    char *data;
    bool is_part;

    if (peer->objects->head(peer->objects, key, &info) != 0) {
        s3_peer_refuse(answer, 404, "", "NoSuchKey", "");
        return;
    }
    last = info.size ? info.size - 1 : 0;
    is_part = range_of(request, info.size, &first, &last);
    if (is_part && first >= info.size) {
        s3_peer_refuse(answer, 416, "", "InvalidRange", "");
        return;
    }
    if (is_part)
        (void)snprintf(fields, sizeof(fields),
                       "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64
                       "\r\n",
                       first, last, info.size);
    info.size = info.size ? last - first + 1 : 0;
    data = must_have(malloc(info.size + 1));
    assert(peer->objects->get(peer->objects, key, first, data, info.size,
                              OBJECT_BACKGROUND) == 0);
    s3_peer_respond(answer, is_part ? 206 : 200, fields, data, info.size);
    free(data);
}

/* As the answer to a GET, whose body nobody sends. */
static void serve_head(struct s3_peer *peer, const char *key,
                       struct s3_peer_answer *answer)
{
    struct object_info info;
    char head[256];
    time_t seconds;
    struct tm parts;
    char date[64];

    if (*key == '\0') {
        s3_peer_respond(answer, 200, "", "", 0);
        return;
    }
    if (peer->objects->head(peer->objects, key, &info) != 0) {
        s3_peer_respond(answer, 404, "", "", 0);
        return;
    }
    seconds = (time_t)(info.modified_ns / 1000000000U);
    assert(gmtime_r(&seconds, &parts));
    assert(strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &parts) >
           0);
    (void)snprintf(head, sizeof(head),
                   "HTTP/1.1 200 OK\r\nLast-Modified: %s\r\n"
                   "Content-Length: %" PRIu64 "\r\n\r\n",
                   date, info.size);
    s3_peer_respond_raw(answer, head);
    answer->is_last = false;
}

static void serve_delete_many(struct s3_peer *peer,
                              const struct s3_peer_request *request,
                              struct s3_peer_answer *answer)
{
    static const char nothing[] = "<DeleteResult></DeleteResult>";
    const char *at = request->body;

    while ((at = strstr(at, "<Key>")) != NULL) {
        char *key;

        at += strlen("<Key>");
        key = must_have(strndup(at, strcspn(at, "<")));
        (void)object_delete_one(peer->objects, key);
        free(key);
    }
    s3_peer_respond(answer, 200, "", nothing, strlen(nothing));
}

/* A page of a list that is made. */
struct page {
    char *text;
    size_t len;
    uint64_t room; /* for so many keys more */
    char last[OBJECT_KEY_MAX + 1];
    bool is_truncated;
};

static int add_to_page(void *context, const char *key,
                       const struct object_info *info)
{
    struct page *page = context;
    time_t seconds = (time_t)(info->modified_ns / 1000000000U);
    struct tm parts;
    char date[64];

    if (page->room == 0) {
        page->is_truncated = true;
        return 1;
    }
    page->room--;
    assert(gmtime_r(&seconds, &parts));
    assert(strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S.000Z", &parts) > 0);
    page->len += (size_t)snprintf(
        page->text + page->len, TEXT_MAX - page->len,
        "<Contents><Key>%s</Key><LastModified>%s</LastModified>"
        "<ETag>&quot;x&quot;</ETag><Size>%" PRIu64 "</Size></Contents>",
        key, date, info->size);
    assert(page->len < TEXT_MAX);
    (void)snprintf(page->last, sizeof(page->last), "%s", key);
    return 0;
}

static void serve_list(struct s3_peer *peer,
                       const struct s3_peer_request *request,
                       struct s3_peer_answer *answer)
{
    struct page page = {.room = KEYS_OF_A_PAGE};
    char *prefix = parameter_of(request, "prefix");
    char *after = parameter_of(request, "start-after");
    char *token = parameter_of(request, "continuation-token");
    char *most = parameter_of(request, "max-keys");

    page.text = must_have(malloc(TEXT_MAX));
    if (most)
        assert(number_parse(most, 1, KEYS_OF_A_PAGE, &page.room) == 0);
    page.len = (size_t)snprintf(page.text, TEXT_MAX, "<ListBucketResult>");
    (void)peer->objects->list(peer->objects, prefix ? prefix : "",
                              token   ? token
                              : after ? after
                                      : "",
                              add_to_page, &page);
    page.len += (size_t)snprintf(page.text + page.len, TEXT_MAX - page.len,
                                 "<IsTruncated>%s</IsTruncated>",
                                 page.is_truncated ? "true" : "false");
    if (page.is_truncated)
        page.len += (size_t)snprintf(
            page.text + page.len, TEXT_MAX - page.len,
            "<NextContinuationToken>%s</NextContinuationToken>", page.last);
    page.len += (size_t)snprintf(page.text + page.len, TEXT_MAX - page.len,
                                 "</ListBucketResult>");
    assert(page.len < TEXT_MAX);
    s3_peer_respond(answer, 200, "Content-Type: application/xml\r\n", page.text,
                    page.len);
    free(page.text);
    free(prefix);
    free(after);
    free(token);
    free(most);
}

void s3_peer_serve(struct s3_peer *peer, const struct s3_peer_request *request,
                   struct s3_peer_answer *answer)
{
    char *key = key_of(request);

    if (strcmp(request->method, "PUT") == 0) {
        serve_put(peer, request, key, answer);
    } else if (strcmp(request->method, "POST") == 0) {
        serve_delete_many(peer, request, answer);
    } else if (strcmp(request->method, "HEAD") == 0) {
        serve_head(peer, key, answer);
    } else if (strcmp(request->method, "DELETE") == 0) {
        (void)object_delete_one(peer->objects, key);
        s3_peer_respond_raw(answer, "HTTP/1.1 204 No Content\r\n\r\n");
        answer->is_last = false;
    } else if (*key == '\0') {
        serve_list(peer, request, answer);
    } else {
        serve_get(peer, request, key, answer);
    }
    free(key);
}

/* ---- connections -------------------------------------------------------- */

/* Receive until there are len bytes; false: the client has gone. */
static bool receive(int fd, char *bytes, size_t *have, size_t len)
{
    while (*have < len) {
        ssize_t got = recv(fd, bytes + *have, len - *have, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        *have += (size_t)got;
    }
    return true;
}

/* Receive a head, byte by byte: slow, and never too much. */
static bool receive_head(int fd, struct s3_peer_request *request)
{
    size_t have = 0;

    request->head = must_have(malloc(HEAD_MAX + 1));
    for (;;) {
        assert(have < HEAD_MAX);
        if (!receive(fd, request->head, &have, have + 1))
            return false;
        request->head[have] = '\0';
        if (have >= 4 && strcmp(request->head + have - 4, "\r\n\r\n") == 0)
            return true;
    }
}

static bool receive_request(int fd, struct s3_peer_request *request)
{
    char *length;
    uint64_t len = 0;
    size_t have = 0;

    if (!receive_head(fd, request))
        return false;
    assert(sscanf(request->head, "%7s %4095s HTTP/1.1\r\n", request->method,
                  request->target) == 2);
    length = s3_peer_field(request, "Content-Length");
    if (length)
        assert(number_parse(length, 0, BODY_MAX, &len) == 0);
    free(length);
    request->body_len = (size_t)len;
    request->body = must_have(calloc(1, request->body_len + 1));
    return receive(fd, request->body, &have, request->body_len);
}

static bool send_answer(int fd, const struct s3_peer_answer *answer)
{
    size_t sent = 0;

    while (sent < answer->len) {
        ssize_t len =
            send(fd, answer->bytes + sent, answer->len - sent, MSG_NOSIGNAL);

        if (len < 0 && errno == EINTR)
            continue;
        if (len <= 0)
            return false;
        sent += (size_t)len;
    }
    return !answer->is_last;
}

/* Returns whether another request may follow. */
static bool serve_one(struct s3_peer_connection *connection)
{
    struct s3_peer *peer = connection->peer;
    struct s3_peer_request request = {.port = connection->port,
                                      .connection = connection};
    struct s3_peer_answer answer = {0};
    bool goes_on = receive_request(connection->fd, &request);

    if (goes_on) {
        s3_peer_script *script;
        void *context;

        mutex_lock(&peer->mutex);
        request.number = ++peer->requests;
        peer->ports[connection->port].requests++;
        script = peer->script;
        context = peer->context;
        condition_broadcast(&peer->changed);
        mutex_unlock(&peer->mutex);
        if (script)
            script(context, peer, &request, &answer);
        else
            s3_peer_serve(peer, &request, &answer);
        goes_on = answer.bytes && send_answer(connection->fd, &answer);
    }
    free(answer.bytes);
    free(request.head);
    free(request.body);
    return goes_on;
}

static void *run_connection(void *argument)
{
    struct s3_peer_connection *connection = argument;
    struct s3_peer *peer = connection->peer;

    while (serve_one(connection))
        ;
    mutex_lock(&peer->mutex);
    for (struct s3_peer_connection **at = &peer->connections; *at;
         at = &(*at)->next) {
        if (*at == connection) {
            *at = connection->next;
            break;
        }
    }
    /* After this, and the unlock, the peer may be freed. */
    (void)close(connection->fd);
    condition_broadcast(&peer->changed);
    mutex_unlock(&peer->mutex);
    free(connection);
    return NULL;
}

static void *run_port(void *argument)
{
    struct port *port = argument;
    struct s3_peer *peer = port->peer;
    int fd;

    while ((fd = net_accept(port->fd)) >= 0 || fd == -EAGAIN) {
        struct s3_peer_connection *connection;
        pthread_t thread;

        if (fd < 0)
            continue;
        connection = must_have(calloc(1, sizeof(*connection)));
        connection->peer = peer;
        connection->port = (size_t)(port - peer->ports);
        connection->fd = fd;
        mutex_lock(&peer->mutex);
        connection->next = peer->connections;
        peer->connections = connection;
        mutex_unlock(&peer->mutex);
        assert(pthread_create(&thread, NULL, run_connection, connection) == 0);
        assert(pthread_detach(thread) == 0);
    }
    return NULL;
}

/* ---- start and stop ----------------------------------------------------- */

void s3_peer_open_port(struct s3_peer *peer, size_t number)
{
    struct port *port = &peer->ports[number];
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    int fd;

    assert(net_listen_tcp("127.0.0.1", port->number, &fd, 1) == 1);
    assert(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    port->peer = peer;
    port->fd = fd;
    port->number = ntohs(address.sin_port);
    assert(pthread_create(&port->thread, NULL, run_port, port) == 0);
}

struct s3_peer *s3_peer_start(size_t ports)
{
    struct s3_peer *peer = must_have(calloc(1, sizeof(*peer)));

    assert(ports <= S3_PEER_PORTS_MAX);
    mutex_init(&peer->mutex);
    condition_init(&peer->changed);
    peer->objects = memory_store_new();
    peer->port_count = ports;
    for (size_t i = 0; i < ports; i++)
        s3_peer_open_port(peer, i);
    return peer;
}

void s3_peer_close_port(struct s3_peer *peer, size_t number)
{
    struct port *port = &peer->ports[number];

    if (port->fd < 0)
        return;
    (void)shutdown(port->fd, SHUT_RDWR); /* ends the accept */
    assert(pthread_join(port->thread, NULL) == 0);
    (void)close(port->fd);
    port->fd = -1;
    mutex_lock(&peer->mutex);
    for (struct s3_peer_connection *one = peer->connections; one;
         one = one->next) {
        if (one->port == number)
            (void)shutdown(one->fd, SHUT_RDWR);
    }
    mutex_unlock(&peer->mutex);
}

void s3_peer_stop(struct s3_peer *peer)
{
    for (size_t i = 0; i < peer->port_count; i++)
        s3_peer_close_port(peer, i);
    mutex_lock(&peer->mutex);
    while (peer->connections)
        condition_wait(&peer->changed, &peer->mutex);
    mutex_unlock(&peer->mutex);
    peer->objects->close(peer->objects);
    condition_done(&peer->changed);
    mutex_done(&peer->mutex);
    free(peer);
}

uint16_t s3_peer_port(const struct s3_peer *peer, size_t port)
{
    return peer->ports[port].number;
}

void s3_peer_set_script(struct s3_peer *peer, s3_peer_script *script,
                        void *context)
{
    mutex_lock(&peer->mutex);
    peer->script = script;
    peer->context = context;
    mutex_unlock(&peer->mutex);
}

unsigned s3_peer_requests(struct s3_peer *peer)
{
    unsigned count;

    mutex_lock(&peer->mutex);
    count = peer->requests;
    mutex_unlock(&peer->mutex);
    return count;
}

unsigned s3_peer_requests_at(struct s3_peer *peer, size_t port)
{
    unsigned count;

    mutex_lock(&peer->mutex);
    count = peer->ports[port].requests;
    mutex_unlock(&peer->mutex);
    return count;
}

void s3_peer_wait_for_requests(struct s3_peer *peer, unsigned count)
{
    mutex_lock(&peer->mutex);
    while (peer->requests < count)
        condition_wait(&peer->changed, &peer->mutex);
    mutex_unlock(&peer->mutex);
}

struct object_store *s3_peer_objects(struct s3_peer *peer)
{
    return peer->objects;
}

/* ---- stores ------------------------------------------------------------- */

void s3_peer_fill_options(const struct s3_peer *peer,
                          struct s3_peer_options *ret_options)
{
    struct s3_peer_options *o = ret_options;

    *o = (struct s3_peer_options){
        .credentials = {.access_key = "AKIATEST", .secret_key = "secret"},
        .hosts = {"127.0.0.1"},
    };
    for (size_t i = 0; i < peer->port_count; i++)
        o->ports[i] = peer->ports[i].number;
    o->options = (struct s3_options){
        .hosts = o->hosts,
        .hosts_count = 1,
        .ports = o->ports,
        .ports_count = peer->port_count,
        .bucket = "bucket",
        .addressing = S3_ADDRESSING_PATH,
        .timeout_ms = 10000,
        .concurrency = 32,
        .credentials = &o->credentials,
    };
}

struct object_store *s3_peer_open_store(const struct s3_peer *peer)
{
    struct s3_peer_options options;
    struct object_store *store = NULL;

    s3_peer_fill_options(peer, &options);
    assert(s3_store_open(&options.options, &store) == 0);
    return store;
}
