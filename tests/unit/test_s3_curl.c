/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What curl signs, which knows nothing of us, we sign alike: it sends to a
 * socket of the test's, and what arrives there is composed again.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/auto.h"
#include "base/moment.h"
#include "s3/s3_request.h"

#include "unit/test.h"

extern char **environ;

enum { ARGUMENTS_MAX = 48, PATIENCE_MS = 30000, ROUNDS = 40 };

static const struct sigv4_credentials credentials = {
    .access_key = "AKIDEXAMPLE",
    .secret_key = "wJalrXUtnFEMI/bPxRfiCYEXAMPLEKEY",
    .session_token = "FwoGZXIvYXdzEPT//////////wEaDE+x==",
};

/* ---- curl, and the socket that it sends to ------------------------------ */

/* A listening socket, and what came of the last request. */
struct server {
    int fd;
    uint16_t port;
    char head[S3_REQUEST_HEAD_MAX];
};

static bool server_open(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->fd < 0 ||
        bind(server->fd, (struct sockaddr *)&address, len) != 0 ||
        listen(server->fd, 1) != 0 ||
        getsockname(server->fd, (struct sockaddr *)&address, &len) != 0)
        return false;
    server->port = ntohs(address.sin_port);
    return true;
}

/* Whether it can be read from before our patience ends. */
static bool wait_readable(int fd)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};

    return poll(&polled, 1, PATIENCE_MS) == 1;
}

/* Receive one head, without the empty line, and answer. */
static bool server_receive(struct server *server)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
                                 "Connection: close\r\n\r\n";
    size_t len = 0;
    char *end = NULL;
    AUTO_CLOSE int fd = -1;

    if (!wait_readable(server->fd))
        return false;
    fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
    while (fd >= 0 && !end && len < sizeof(server->head) - 1) {
        ssize_t count = -1;

        if (wait_readable(fd))
            count =
                recv(fd, server->head + len, sizeof(server->head) - 1 - len, 0);
        if (count <= 0)
            return false;
        len += (size_t)count;
        server->head[len] = '\0';
        end = strstr(server->head, "\r\n\r\n");
    }
    if (!end)
        return false;
    end[2] = '\0';
    return send(fd, answer, strlen(answer), MSG_NOSIGNAL) ==
           (ssize_t)strlen(answer);
}

/* The arguments of a curl that is to be run. */
struct curl {
    const char *arguments[ARGUMENTS_MAX + 1];
    size_t count;
};

static void add(struct curl *curl, const char *argument)
{
    if (curl->count < ARGUMENTS_MAX)
        curl->arguments[curl->count++] = argument;
}

/* Begin with what makes curl send exactly what it is given. */
static void curl_begin(struct curl *curl)
{
    static const char *const always[] = {
        "curl",
        "-q",
        "-s",
        "-o",
        "/dev/null",
        "--noproxy",
        "*",
        "--path-as-is",
        "--globoff",
        "--max-time",
        "20",
        "--aws-sigv4",
        "aws:amz:us-east-1:s3",
        "--user",
        "AKIDEXAMPLE:wJalrXUtnFEMI/bPxRfiCYEXAMPLEKEY",
    };

    memset(curl, 0, sizeof(*curl));
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        add(curl, always[i]);
}

/* Run curl and receive what it sends: whether it went as it should. */
static bool curl_run(const struct curl *curl, struct server *server)
{
    char *arguments[ARGUMENTS_MAX + 1] = {NULL};
    int status = -1;
    bool is_running, has_received;
    pid_t pid;

    for (size_t i = 0; i < curl->count; i++)
        arguments[i] = strdup(curl->arguments[i]);
    is_running =
        posix_spawnp(&pid, "curl", NULL, NULL, arguments, environ) == 0;
    for (size_t i = 0; i < curl->count; i++)
        free(arguments[i]);
    if (!is_running)
        return false;
    has_received = server_receive(server);
    return waitpid(pid, &status, 0) == pid && status == 0 && has_received;
}

/* Whether there is a curl, and it can sign. */
static bool curl_is_here(void)
{
    static char curl[] = "curl", option[] = "--aws-sigv4", what[] = "aws:amz",
                version[] = "--version";
    char *arguments[] = {curl, option, what, version, NULL};
    posix_spawn_file_actions_t quiet;
    int status = -1;
    bool is_here = false;
    pid_t pid;

    if (posix_spawn_file_actions_init(&quiet) != 0)
        return false;
    if (posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0) ==
            0 &&
        posix_spawn_file_actions_adddup2(&quiet, 1, 2) == 0 &&
        posix_spawnp(&pid, curl, &quiet, NULL, arguments, environ) == 0)
        is_here = waitpid(pid, &status, 0) == pid && status == 0;
    (void)posix_spawn_file_actions_destroy(&quiet);
    return is_here;
}

/* Whether it signs the fields that it is given, as those since 7.87 do. */
static bool curl_signs_fields(struct server *server)
{
    struct curl curl;
    char url[64];

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/",
                   (unsigned)server->port);
    curl_begin(&curl);
    add(&curl, "-H");
    add(&curl, "x-amz-content-sha256: UNSIGNED-PAYLOAD");
    add(&curl, url);
    return CHECK(curl_run(&curl, server)) &&
           strstr(server->head,
                  "SignedHeaders=host;x-amz-content-sha256;x-amz-date,");
}

/* ---- what we compose ---------------------------------------------------- */

static struct s3_site site_at(const struct server *server, const char *prefix)
{
    struct s3_site_options options = {
        .host = "127.0.0.1",
        .port = server->port,
        .bucket = "bucket",
        .prefix = prefix,
    };
    struct s3_site site;

    CHECK(s3_site_init(&site, &options) == 0);
    return site;
}

/* Copy the value of the field, of any case, in the head: "" if not there. */
static void get_field(const char *head, const char *name, char *value,
                      size_t size)
{
    char start[64];
    const char *found;

    (void)snprintf(start, sizeof(start), "\n%s: ", name);
    found = strcasestr(head, start);
    value[0] = '\0';
    if (found) {
        found += strlen(start);
        (void)snprintf(value, size, "%.*s", (int)strcspn(found, "\r"), found);
    }
}

/* Fields that curl writes by itself, or that are not signed. */
static bool is_curls_own(const char *line)
{
    static const char *const names[] = {
        "host:", "x-amz-date:", "authorization:", "user-agent:",
        "content-length:"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(line, names[i], strlen(names[i])) == 0)
            return true;
    }
    return false;
}

/* Give curl the request's method, target and fields; lines holds them. */
static void curl_add_request(struct curl *curl, struct s3_request *request,
                             const struct server *server, char *lines,
                             char *url, size_t url_size)
{
    char *rest = lines, *line;

    memcpy(lines, request->head, request->head_len);
    lines[request->head_len] = '\0';
    (void)snprintf(url, url_size, "http://127.0.0.1:%u%s",
                   (unsigned)server->port, request->target);
    add(curl, request->is_head ? "-I" : "-X");
    line = strsep(&rest, " ");
    if (!request->is_head)
        add(curl, line);
    (void)strsep(&rest, "\n");
    while ((line = strsep(&rest, "\r")) != NULL && *line != '\0') {
        if (!is_curls_own(line)) {
            add(curl, "-H");
            add(curl, line);
        }
        rest += rest ? strspn(rest, "\n") : 0;
    }
    add(curl, url);
}

/*
 * Whether curl, given the same request, signs it as we do for the time that
 * curl has taken.
 */
static bool curl_signs_it_alike(const struct s3_operation *operation,
                                const struct s3_site *site,
                                const struct s3_storage *storage,
                                struct server *server)
{
    static struct s3_request request;
    static char lines[S3_REQUEST_HEAD_MAX + 1], url[S3_TARGET_MAX + 64];
    struct sigv4_key key = {0};
    struct curl curl;
    char date[64], theirs[SIGV4_AUTHORIZATION_TEXT];
    char ours[SIGV4_AUTHORIZATION_TEXT];
    uint64_t now_s;

    curl_begin(&curl);
    if (!CHECK(s3_request_compose(operation, site, storage, &credentials, &key,
                                  0, &request) == 0))
        return false;
    curl_add_request(&curl, &request, server, lines, url, sizeof(url));
    if (!CHECK(curl_run(&curl, server)))
        return false;
    get_field(server->head, "x-amz-date", date, sizeof(date));
    get_field(server->head, "authorization", theirs, sizeof(theirs));
    if (!CHECK(moment_parse_iso(date, &now_s, NULL) == 0 &&
               s3_request_compose(operation, site, storage, &credentials, &key,
                                  now_s, &request) == 0))
        return false;
    get_field(request.head, "authorization", ours, sizeof(ours));
    if (strcspn(server->head, "\r") == strcspn(request.head, "\r") &&
        strncmp(server->head, request.head, strcspn(request.head, "\r")) == 0 &&
        strcmp(ours, theirs) == 0)
        return true;
    printf("# %.*s\n# %s\n# %.*s\n# %s\n", (int)strcspn(request.head, "\r"),
           request.head, ours, (int)strcspn(server->head, "\r"), server->head,
           theirs);
    return false;
}

/* A key of 1 to 60 bytes, most of them odd; the same for the same seed. */
static void odd_key(uint32_t *seed, char key[64])
{
    static const char *const pieces[] = {
        " ",  "+",  "%",        "//",           "/",   ".",  "..",   "~",
        "a",  "Z0", "\xc3\xa4", "\xe2\x82\xac", "%2F", "&=", "?",    "#",
        "\"", "\\", "{x}",      "[1-2]",        "*",   "\n", "\x01", "\xff",
    };
    size_t len = 0;

    do {
        const char *piece;

        *seed = *seed * 1664525 + 1013904223;
        piece = pieces[(*seed >> 16) % (sizeof(pieces) / sizeof(pieces[0]))];
        len += (size_t)snprintf(key + len, 64 - len, "%s", piece);
    } while (len < 58 && (*seed >> 8) % 16 != 0);
}

TEST("curl signs every operation as we do, however odd the key is")
{
    /* No id of a key: some curls sort its field before "...-encryption". */
    static const struct s3_storage storage = {
        .storage_class = "REDUCED  REDUNDANCY", .sse = "AES256"};
    struct server server = {.fd = -1};
    struct s3_site site;
    uint32_t seed = 4;

    if (!curl_is_here())
        SKIP("no curl that can sign");
    NEED(server_open(&server));
    if (!curl_signs_fields(&server)) {
        (void)close(server.fd);
        SKIP("a curl that signs no fields");
    }
    site = site_at(&server, "vol ume/+");
    for (size_t i = 0; i < ROUNDS; i++) {
        char key[64];
        const char *key_pointer = key;
        struct s3_body body;
        char *data = NULL;
        struct s3_operation operation = {
            .verb = (enum s3_verb)(i % (S3_HEAD_BUCKET + 1)),
            .key = key,
            .offset = i * 4096,
            .len = 4096,
            .if_absent = i % 2 == 0,
            .body = &body,
            .list_prefix = key,
            .start_after = i % 3 == 0 ? key : NULL,
            .token = i % 3 == 1 ? key : NULL,
            .max_keys = 1000,
        };

        odd_key(&seed, key);
        s3_body_init(&body, &site, key, strlen(key), false);
        if (operation.verb == S3_DELETE_MANY) {
            key_pointer = "a<&>";
            NEED(s3_body_of_keys(&site, &key_pointer, 1, &body, &data) == 0);
        }
        CHECK(curl_signs_it_alike(&operation, &site, &storage, &server));
        free(data);
    }
    (void)close(server.fd);
}

/* Change the digits of every "%xx" to capitals. */
static void capitalise_escapes(char *text)
{
    for (; *text != '\0'; text++) {
        for (int i = 1; *text == '%' && i <= 2; i++) {
            if (text[i] >= 'a' && text[i] <= 'f')
                text[i] = (char)(text[i] - 'a' + 'A');
        }
    }
}

TEST("curl encodes every byte of a key as we do")
{
    static struct s3_request request;
    struct server server = {.fd = -1};
    struct curl curl;
    struct s3_site site;
    struct s3_operation operation = {.verb = S3_GET};
    struct sigv4_key key = {0};
    char name[256], path[PATH_MAX], url[128];
    size_t len = 0;
    int fd;

    if (!curl_is_here())
        SKIP("no curl that can sign");
    NEED(server_open(&server));
    site = site_at(&server, "");
    /* curl takes the last part of a file's name, also behind a backslash. */
    for (int c = 1; c < 256; c++) {
        if (c != '/' && c != '\\')
            name[len++] = (char)c;
    }
    name[len] = '\0';
    (void)snprintf(path, sizeof(path), "%s/%s", test_dir(), name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    NEED(fd >= 0);
    (void)close(fd);

    operation.key = name;
    NEED(s3_request_compose(&operation, &site, NULL, &credentials, &key, 0,
                            &request) == 0);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/bucket/",
                   (unsigned)server.port);
    curl_begin(&curl);
    add(&curl, "-T");
    add(&curl, path);
    add(&curl, url);
    NEED(curl_run(&curl, &server));
    capitalise_escapes(server.head);
    CHECK(strncmp(server.head, "PUT ", 4) == 0);
    CHECK(strlen(request.target) > 2 * len);
    CHECK(strcspn(server.head + 4, " ") == strlen(request.target));
    CHECK(strncmp(server.head + 4, request.target, strlen(request.target)) ==
          0);
    (void)close(server.fd);
}
