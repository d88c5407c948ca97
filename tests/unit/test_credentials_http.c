/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_http.h"

#include <pthread.h>

#include "support/key_service.h"
#include "support/tls_peer.h"
#include "unit/test.h"

#define SECOND UINT64_C(1000000000)

/* Parse what must be a URL. */
static struct credentials_url url_of(const char *text)
{
    struct credentials_url url = {0};

    CHECK(credentials_url_parse(text, &url) == 0);
    return url;
}

static bool is_url(const char *text, bool is_tls, const char *host,
                   uint16_t port, const char *path)
{
    struct credentials_url url = url_of(text);

    return url.is_tls == is_tls && strcmp(url.host, host) == 0 &&
           url.port == port && strcmp(url.path, path) == 0;
}

/* A service, and where it is. */
static struct credentials_url start(struct key_service **ret_service,
                                    const struct key_step steps[], size_t count)
{
    *ret_service = key_service_start(steps, count);
    key_service_set(*ret_service, "URL", "%s/");
    return url_of(key_service_environment(*ret_service, "URL"));
}

static struct credentials_http *http_of(struct key_service *service)
{
    return key_service_reader(service)->http;
}

TEST("a URL has scheme, host, perhaps a port, path and query")
{
    CHECK(is_url("http://a", false, "a", 80, "/"));
    CHECK(is_url("https://a/", true, "a", 443, "/"));
    CHECK(is_url("http://169.254.170.2/v2/x?y=z", false, "169.254.170.2", 80,
                 "/v2/x?y=z"));
    CHECK(is_url("https://[fd00:ec2::23]:8443/v1", true, "fd00:ec2::23", 8443,
                 "/v1"));
    CHECK(is_url("http://a:65535?q", false, "a", 65535, "/?q"));
}

TEST("what is no URL, or has more than it may, is refused")
{
    static const char *const texts[] = {
        "",
        "a",
        "ftp://a",
        "http://",
        "http:///x",
        "http://:80",
        "http://a:",
        "http://a:0",
        "http://a:65536",
        "http://a:8x",
        "http://[::1",
        "http://[::1]x",
        "http://u@a",
        "http://a/#f",
        "http://a/ b",
        "http://a/\r\nX: y",
        "http://[]/",
        "HTTP//a",
        "http://a\x7f",
    };
    static char long_url[2 * CREDENTIALS_URL_PATH_MAX];
    struct credentials_url url;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (!CHECK(credentials_url_parse(texts[i], &url) == -EINVAL))
            printf("# %s\n", texts[i]);
    }
    memset(long_url, 'a', sizeof(long_url) - 1);
    memcpy(long_url, "http://", 7);
    CHECK(credentials_url_parse(long_url, &url) == -EMSGSIZE);
    long_url[20] = '/';
    CHECK(credentials_url_parse(long_url, &url) == -EMSGSIZE);
}

TEST("a path is appended with one slash in between")
{
    struct credentials_url url = url_of("http://a");

    CHECK(credentials_url_append(&url, "/b/") == 0);
    CHECK(credentials_url_append(&url, "/c") == 0);
    CHECK(strcmp(url.path, "/b/c") == 0);
    memset(url.path, 'x', CREDENTIALS_URL_PATH_MAX);
    CHECK(credentials_url_append(&url, "y") == -EMSGSIZE);
    CHECK(url.path[CREDENTIALS_URL_PATH_MAX] == '\0');
}

TEST("a request has its method, path, fields and body; the answer comes back")
{
    static const struct key_step steps[] = {
        {"GET", "/x?y", "Host: 127.0.0.1:", 200, "some text"},
        {"GET", "/x?y", "!Content-Length", 204, ""},
        {"PUT", "/x?y", "Content-Length: 0\r\n", 200, ""},
        {"PUT", "/x?y", "A: b\r\n", 404, "not here"},
        {"POST", "/x?y", "the body", 200, "ok"},
    };
    struct key_service *service;
    struct credentials_url url = start(&service, steps, 5);
    struct credentials_http_request request = {
        .method = "GET", .url = &url, .timeout_ns = 60 * SECOND};
    struct credentials_http_answer answer;
    struct net_failure failure;
    struct credentials_http *http = http_of(service);

    NEED(credentials_url_append(&url, "x?y") == 0);
    NEED(credentials_http_run(http, &request, &answer, &failure) == 0);
    CHECK(answer.status == 200 && answer.len == 9);
    CHECK(strcmp(answer.body, "some text") == 0);
    NEED(credentials_http_run(http, &request, &answer, &failure) == 0);
    CHECK(answer.status == 204 && answer.len == 0 && answer.body[0] == '\0');
    request.method = "PUT";
    request.has_body = true;
    NEED(credentials_http_run(http, &request, &answer, &failure) == 0);
    CHECK(answer.status == 200 && answer.len == 0);
    request.fields[0] = (struct credentials_http_field){"A", "b"};
    NEED(credentials_http_run(http, &request, &answer, &failure) == 0);
    CHECK(answer.status == 404 && strcmp(answer.body, "not here") == 0);
    request.method = "POST";
    request.body = "the body";
    request.body_len = 8;
    NEED(credentials_http_run(http, &request, &answer, &failure) == 0);
    CHECK(strcmp(answer.body, "ok") == 0);
    CHECK(key_service_is_done(service));
    key_service_stop(service);
}

TEST("a refused connection, and silence, are told with host and port")
{
    static const struct key_step steps[] = {{"GET", "/", NULL, 0, ""}};
    struct key_service *service;
    struct credentials_url url = start(&service, steps, 1);
    struct credentials_http_request request = {
        .method = "GET", .url = &url, .timeout_ns = SECOND / 50};
    struct credentials_http_answer answer;
    struct net_failure failure;
    char where[64];

    (void)snprintf(where, sizeof(where), "127.0.0.1:%u: ", (unsigned)url.port);
    CHECK(credentials_http_run(http_of(service), &request, &answer, &failure) ==
          -ETIMEDOUT);
    CHECK(strncmp(failure.text, where, strlen(where)) == 0);
    CHECK(strstr(failure.text, "does not answer in time") != NULL);
    key_service_close(service);
    request.timeout_ns = 60 * SECOND;
    CHECK(credentials_http_run(http_of(service), &request, &answer, &failure) ==
          -ECONNREFUSED);
    CHECK(strncmp(failure.text, where, strlen(where)) == 0);
    CHECK(failure.error == -ECONNREFUSED);
    key_service_stop(service);
}

TEST("an answer that is too long is an error, and one status another")
{
    static char long_text[CREDENTIALS_HTTP_ANSWER_MAX + 2];
    static const struct key_step steps[] = {{"GET", "/", NULL, 200, long_text},
                                            {"GET", "/", NULL, 500, long_text}};
    struct key_service *service;
    struct credentials_url url = start(&service, steps, 2);
    struct credentials_http_request request = {
        .method = "GET", .url = &url, .timeout_ns = 60 * SECOND};
    struct credentials_http_answer answer;
    struct net_failure failure;

    memset(long_text, 'x', sizeof(long_text) - 1);
    CHECK(credentials_http_run(http_of(service), &request, &answer, &failure) ==
          -EMSGSIZE);
    CHECK(strstr(failure.text, "answers too much") != NULL);
    CHECK(credentials_http_run(http_of(service), &request, &answer, &failure) ==
          0);
    CHECK(answer.status == 500 && answer.len == CREDENTIALS_HTTP_ANSWER_MAX);
    credentials_http_refused(&request, 500, &failure);
    CHECK(strstr(failure.text, ": GET / is answered with status 500") != NULL);
    key_service_stop(service);
}

TEST("what may stay on this host only is sent nowhere else without TLS")
{
    static const char *const elsewhere[] = {
        "http://192.0.2.1/", "http://169.254.169.254/", "http://[2001:db8::1]/",
        "http://10.127.0.1"};
    struct key_service *service = key_service_start(NULL, 0);

    for (size_t i = 0; i < 4; i++) {
        struct credentials_url url = url_of(elsewhere[i]);
        struct credentials_http_request request = {.method = "GET",
                                                   .url = &url,
                                                   .is_local = true,
                                                   .timeout_ns = 60 * SECOND};
        struct credentials_http_answer answer;
        struct net_failure failure;

        CHECK(credentials_http_run(http_of(service), &request, &answer,
                                   &failure) == -EACCES);
        CHECK(strstr(failure.text, "only by https") != NULL);
    }
    key_service_stop(service);
}

TEST("a field that would end its line is not sent")
{
    struct key_service *service;
    static const struct key_step steps[] = {{"GET", "/", NULL, 200, ""}};
    struct credentials_url url = start(&service, steps, 1);
    struct credentials_http_request request = {
        .method = "GET",
        .url = &url,
        .fields = {{"Authorization", "a\r\nB: c"}},
        .timeout_ns = 60 * SECOND};
    struct credentials_http_answer answer;
    struct net_failure failure;

    CHECK(credentials_http_run(http_of(service), &request, &answer, &failure) ==
          -EINVAL);
    CHECK(strstr(failure.text, "cannot be sent") != NULL);
    CHECK(!key_service_is_done(service));
    key_service_stop(service);
}

/* Interrupt once the service has the request. */
static void *interrupt(void *argument)
{
    struct key_service *service = argument;

    key_service_wait_for_requests(service, 1);
    credentials_http_interrupt(http_of(service));
    return NULL;
}

TEST("an interrupt ends the request that runs, and all that follow")
{
    static const struct key_step steps[] = {{"GET", "/", NULL, 0, ""}};
    struct key_service *service;
    struct credentials_url url = start(&service, steps, 1);
    struct credentials_http_request request = {
        .method = "GET", .url = &url, .timeout_ns = 3600 * SECOND};
    struct credentials_http_answer answer;
    struct net_failure failure;
    pthread_t thread;

    NEED(pthread_create(&thread, NULL, interrupt, service) == 0);
    CHECK(credentials_http_run(http_of(service), &request, &answer, &failure) ==
          -ECANCELED);
    CHECK(credentials_http_run(http_of(service), &request, &answer, &failure) ==
          -ECANCELED);
    (void)pthread_join(thread, NULL);
    key_service_stop(service);
}

/* Answer one request over TLS, whatever it is. */
static void answer_over_tls(void *context,
                            struct tls_peer_connection *connection)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n"
                                 "Connection: close\r\n\r\nsecret";
    char request[1024];
    size_t len = 0;

    (void)context;
    while (!memmem(request, len, "\r\n\r\n", 4)) {
        size_t got =
            tls_peer_receive(connection, request + len, sizeof(request) - len);

        if (got == 0)
            return;
        len += got;
    }
    (void)tls_peer_send(connection, answer, strlen(answer));
    tls_peer_bye(connection);
}

/* Ask a TLS server on this host, which ca_file is to have signed. */
static int ask_over_tls(const struct tls_peer *peer, const char *ca_file,
                        struct net_failure *failure)
{
    struct credentials_url url = {
        .is_tls = true,
        .port = tls_peer_port(peer),
        .host = "127.0.0.1",
        .path = "/",
    };
    struct credentials_http_request request = {.method = "GET",
                                               .url = &url,
                                               .is_local = true,
                                               .timeout_ns = 60 * SECOND};
    struct credentials_http_answer answer;
    struct credentials_http *http;
    int error;

    if (credentials_http_new(ca_file, &http) != 0)
        abort();
    error = credentials_http_run(http, &request, &answer, failure);
    CHECK(error ||
          (answer.status == 200 && strcmp(answer.body, "secret") == 0));
    credentials_http_free(http);
    return error;
}

TEST("over TLS the server must prove who it is")
{
    struct tls_peer_setup setup = {.certificate = {.address = "127.0.0.1"},
                                   .serve = answer_over_tls};
    struct net_failure failure;
    struct tls_peer *peer;
    char ca_file[PATH_MAX + 64];

    (void)snprintf(ca_file, sizeof(ca_file), "%s/ca-cert.pem", test_dir());
    peer = tls_peer_start(test_dir(), &setup);
    CHECK(ask_over_tls(peer, ca_file, &failure) == 0);
    CHECK(ask_over_tls(peer, "/nonexistent/ca", &failure) == -ENOENT);
    CHECK(strstr(failure.text, "certificates cannot be loaded") != NULL);
    tls_peer_stop(peer);
    setup.is_signed_by_other = true;
    peer = tls_peer_start(test_dir(), &setup);
    CHECK(ask_over_tls(peer, ca_file, &failure) == -EKEYREJECTED);
    CHECK(strncmp(failure.text, "127.0.0.1:", 10) == 0);
    tls_peer_stop(peer);
}
