/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/control_server.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/stream.h"
#include "cache/control_client.h"
#include "cache/control_wire.h"
#include "unit/test.h"

/* ---- an owner ----------------------------------------------------------- */

static struct control_server *server;
static int test_dirfd = -1;
static atomic_ulong asked, gone, last_gone;
static sem_t somebody_went, somebody_waits, go_on, has_yielded;
static int yielded_fd;

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0)
        continue;
}

/* Answers ok with payload and holder, but for a few verbs. */
static int handle(void *context, const struct control_message *request,
                  uint64_t holder, struct control_message *reply)
{
    char *copy;

    CHECK(context == &server);
    asked++;
    if (control_message_is(request, "fail"))
        return -ENOSPC;
    if (control_message_is(request, "wait")) {
        (void)sem_post(&somebody_waits);
        wait_for(&go_on);
    }
    control_message_start(reply, "ok");
    control_message_add_number(reply, "holder", holder);
    reply->is_too_long = control_message_is(request, "long");
    if (request->payload_size > 0) {
        copy = malloc(request->payload_size);
        if (!copy)
            return -ENOMEM;
        memcpy(copy, request->payload, request->payload_size);
        control_message_set_payload(reply, copy, request->payload_size);
    }
    return 0;
}

static void holder_gone(void *context, uint64_t holder)
{
    CHECK(context == &server);
    last_gone = holder;
    gone++;
    (void)sem_post(&somebody_went);
}

static void yield(void *context, int fd)
{
    CHECK(context == &server);
    yielded_fd = fd;
    (void)sem_post(&has_yielded);
}

static const struct control_handler handler = {
    .handle = handle,
    .gone = holder_gone,
    .context = &server,
};

static const struct control_handler handler_that_yields = {
    .handle = handle,
    .gone = holder_gone,
    .yield = yield,
    .yield_context = &server,
    .context = &server,
};

static bool start_server(const struct control_handler *with)
{
    struct control_server_options options = {
        .device_name = "disk",
        .device_size = 1 << 30,
        .chunk_size = 8 << 20,
        .handler = *with,
    };

    log_set_level(LOG_LEVEL_ERROR);
    (void)sem_init(&somebody_went, 0, 0);
    (void)sem_init(&somebody_waits, 0, 0);
    (void)sem_init(&go_on, 0, 0);
    (void)sem_init(&has_yielded, 0, 0);
    asked = gone = last_gone = 0;
    test_dirfd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    options.dirfd = test_dirfd;
    return test_dirfd >= 0 && control_server_start(&options, &server) == 0;
}

static void stop_server(void)
{
    control_server_stop(server);
    (void)close(test_dirfd);
}

/* ---- a client ----------------------------------------------------------- */

static struct control_message request, reply;

static int ask(struct control_client *client, const char *verb)
{
    control_message_start(&request, verb);
    return control_client_ask(client, &request, &reply);
}

static bool is_error(int error)
{
    uint64_t number;

    return control_message_is(&reply, "error") &&
           control_message_get_number(&reply, "errno", 1, 4095, &number) == 0 &&
           (int)number == -error;
}

static uint64_t holder_of_reply(void)
{
    uint64_t holder = 0;

    CHECK(control_message_get_number(&reply, "holder", 1, UINT64_MAX,
                                     &holder) == 0);
    return holder;
}

static struct control_client *connect_client(void)
{
    struct control_client *client = NULL;
    struct control_owner owner;

    CHECK(control_client_open(test_dir(), &client, &owner) == 0);
    return client;
}

TEST("the owner says what it is, in a socket of mode 0600")
{
    struct control_client *client;
    struct control_owner owner;
    struct stat info;

    NEED(start_server(&handler));
    CHECK(fstatat(test_dirfd, "control", &info, AT_SYMLINK_NOFOLLOW) == 0 &&
          S_ISSOCK(info.st_mode) && (info.st_mode & 07777) == 0600);
    NEED(control_client_open(test_dir(), &client, &owner) == 0);
    CHECK(strcmp(owner.device_name, "disk") == 0);
    CHECK(owner.device_size == 1 << 30 && owner.chunk_size == 8 << 20);
    CHECK(owner.is_daemon && owner.pid == (uint64_t)getpid());
    control_client_close(client);
    control_server_set_size(server, (uint64_t)1 << 40);
    NEED(control_client_open(test_dir(), &client, &owner) == 0);
    CHECK(owner.device_size == (uint64_t)1 << 40);
    control_client_close(client);
    stop_server();
    CHECK(fstatat(test_dirfd, "control", &info, 0) != 0);
    CHECK(asked == 0 && gone == 0); /* nobody asked the handler */
}

TEST("requests of a connection have one holder, whose end is told once")
{
    struct control_client *first, *second;
    uint64_t first_holder;

    NEED(start_server(&handler));
    first = connect_client();
    second = connect_client();
    NEED(first && second);
    CHECK(ask(first, "one") == 0);
    first_holder = holder_of_reply();
    CHECK(ask(first, "two") == 0 && holder_of_reply() == first_holder);
    CHECK(ask(second, "one") == 0 && holder_of_reply() != first_holder);
    control_client_close(first);
    wait_for(&somebody_went);
    CHECK(gone == 1 && last_gone == first_holder);
    CHECK(ask(second, "two") == 0);
    control_client_close(second);
    stop_server();
    CHECK(gone == 2 && asked == 4);
}

TEST("a payload goes there and back")
{
    struct control_client *client;
    char *payload = malloc(100000);

    NEED(payload && start_server(&handler));
    memset(payload, 'x', 100000);
    client = connect_client();
    NEED(client);
    control_message_start(&request, "report");
    control_message_set_payload(&request, payload, 100000);
    NEED(control_client_ask(client, &request, &reply) == 0);
    CHECK(reply.payload_size == 100000);
    CHECK(memcmp(reply.payload, payload, 100000) == 0);
    control_message_clear(&reply);
    control_message_clear(&request);
    control_client_close(client);
    stop_server();
}

TEST("what fails is answered, and the connection goes on")
{
    struct control_client *client;

    NEED(start_server(&handler));
    client = connect_client();
    NEED(client);
    CHECK(ask(client, "fail") == 0 && is_error(-ENOSPC));
    CHECK(ask(client, "long") == 0 && is_error(-E2BIG));
    CHECK(ask(client, "one") == 0 && control_message_is(&reply, "ok"));
    control_client_close(client);
    stop_server();
}

TEST("what is no request is answered with an error, and ended")
{
    struct control_client *client;
    struct control_wire wire;
    struct stream *stream;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    NEED(start_server(&handler));
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control",
                   test_dir());
    NEED(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    NEED(stream_open(fd, &stream) == 0);
    control_wire_init(&wire, stream);
    CHECK(stream_send_all(stream, "HELO?\n", 6, STREAM_FOREVER) == 0);
    CHECK(control_wire_receive(&wire, &reply, STREAM_FOREVER) == 0);
    CHECK(is_error(-EBADMSG));
    CHECK(control_wire_receive(&wire, &reply, STREAM_FOREVER) == -EPIPE);
    stream_close(stream);
    client = connect_client();
    CHECK(client && ask(client, "hello") == 0 && is_error(-EPROTO));
    control_client_close(client);
    stop_server();
    CHECK(asked == 0 && gone == 0);
}

static void *ask_to_wait(void *context)
{
    int error = ask(context, "wait");

    /* The stop may be faster than the reply. */
    CHECK(error == 0 || error == -EPIPE);
    return NULL;
}

static void *stop_in_thread(void *context)
{
    control_server_stop(context);
    return NULL;
}

TEST("a stop ends idle connections, and returns after what runs has")
{
    struct control_client *busy, *idle;
    pthread_t asking, stopping;

    NEED(start_server(&handler));
    busy = connect_client();
    idle = connect_client();
    NEED(busy && idle && ask(idle, "one") == 0);
    NEED(pthread_create(&asking, NULL, ask_to_wait, busy) == 0);
    wait_for(&somebody_waits);
    NEED(pthread_create(&stopping, NULL, stop_in_thread, server) == 0);
    wait_for(&somebody_went); /* the idle one: the stop has begun */
    CHECK(gone == 1);
    (void)sem_post(&go_on);
    (void)pthread_join(stopping, NULL);
    CHECK(gone == 2 && asked == 2);
    (void)pthread_join(asking, NULL);
    control_client_close(busy);
    control_client_close(idle);
    (void)close(test_dirfd);
}

TEST("a socket that was left refuses at once, and the next owner replaces it")
{
    struct control_client *client, *idle;
    struct control_owner owner;
    struct stat info;

    NEED(start_server(&handler));
    idle = connect_client();
    NEED(idle && ask(idle, "one") == 0);
    control_server_leave(server);
    CHECK(gone == 1);
    CHECK(fstatat(test_dirfd, "control", &info, 0) == 0);
    CHECK(control_client_open(test_dir(), &client, &owner) == -ECONNREFUSED);
    (void)close(test_dirfd);
    NEED(start_server(&handler));
    client = connect_client();
    CHECK(client && ask(client, "one") == 0);
    control_client_close(client);
    control_client_close(idle);
    stop_server();
}

TEST("the socket that a dead owner left is replaced, a file is not")
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct control_client *client;

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control",
                   test_dir());
    NEED(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    (void)close(fd);
    NEED(start_server(&handler));
    client = connect_client();
    CHECK(client != NULL);
    control_client_close(client);
    stop_server();

    fd = open(address.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    NEED(fd >= 0);
    (void)close(fd);
    log_set_level(LOG_LEVEL_ERROR);
    CHECK(!start_server(&handler));
    CHECK(access(address.sun_path, F_OK) == 0);
    (void)close(test_dirfd);
}

TEST("a directory whose path is longer than a socket's address serves, too")
{
    char path[PATH_MAX], name[101] = "";
    struct control_client *client = NULL;
    struct control_server_options options = {
        .device_name = "disk",
        .device_size = 512,
        .chunk_size = 8 << 20,
        .handler = handler,
    };
    struct control_owner owner;

    memset(name, 'n', 100);
    (void)snprintf(path, sizeof(path), "%s/%s", test_dir(), name);
    NEED(mkdir(path, 0700) == 0);
    options.dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    NEED(control_server_start(&options, &server) == 0);
    CHECK(control_client_open(path, &client, &owner) == 0);
    control_client_close(client);
    control_server_stop(server);
    (void)close(options.dirfd);
}

/* Asks for the lock; returns what came of it. */
static void *ask_to_yield(void *context)
{
    int *error = context;

    *error = control_client_ask_to_yield(test_dir(), STREAM_FOREVER);
    return NULL;
}

TEST("who asks to yield hears the end only when the lock is free")
{
    int error = 1;
    pthread_t thread;
    struct pollfd polled = {.events = POLLIN};

    NEED(start_server(&handler_that_yields));
    NEED(pthread_create(&thread, NULL, ask_to_yield, &error) == 0);
    wait_for(&has_yielded);
    stop_server();
    /* The connection lives on: the peer has not closed its end. */
    polled.fd = yielded_fd;
    CHECK(poll(&polled, 1, 0) == 0);
    (void)close(yielded_fd);
    (void)pthread_join(thread, NULL);
    CHECK(error == 0 && gone == 0);
}

TEST("a daemon does not yield, and an empty directory is no obstacle")
{
    NEED(start_server(&handler));
    CHECK(control_client_ask_to_yield(test_dir(), STREAM_FOREVER) == -EBUSY);
    stop_server();
    CHECK(control_client_ask_to_yield(test_dir(), STREAM_FOREVER) == 0);
}

/* In a child that is nobody: connect, and say how the server answers. */
static int ask_as_nobody(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char answer[256] = "";

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control",
                   test_dir());
    if (setgid(65534) != 0 || setuid(65534) != 0)
        return 10;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return errno == EACCES ? 11 : 12;
    /* The refusal may come, and the connection end, before this is sent. */
    (void)send(fd, "status\n", 7, MSG_NOSIGNAL);
    if (recv(fd, answer, sizeof(answer) - 1, 0) <= 0)
        return 13;
    return strncmp(answer, "error errno=13 ", 15) == 0 ? 14 : 15;
}

/* Returns how the child ended. */
static int run_as_nobody(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(ask_as_nobody());
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

TEST("another uid can neither connect nor, if the mode lets it, ask")
{
    if (geteuid() != 0)
        SKIP("only root can be somebody else");
    NEED(start_server(&handler));
    NEED(chmod(test_dir(), 0755) == 0);
    CHECK(run_as_nobody() == 11);
    NEED(fchmodat(test_dirfd, "control", 0666, 0) == 0);
    log_set_level(LOG_LEVEL_ERROR);
    CHECK(run_as_nobody() == 14);
    stop_server();
    CHECK(asked == 0);
}

TEST("the status socket answers status and map to its group, and nothing else")
{
    char path[PATH_MAX];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct control_wire wire;
    struct stream *stream;
    struct stat info;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(path, sizeof(path), "%s/status", test_dir());
    (void)memcpy(address.sun_path, path, strlen(path));
    asked = gone = 0;
    NEED(control_server_start_status(path, &handler, &server) == 0);
    CHECK(stat(path, &info) == 0 && (info.st_mode & 07777) == 0660);
    NEED(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    NEED(stream_open(fd, &stream) == 0);
    control_wire_init(&wire, stream);
    CHECK(stream_send_all(stream, "drop name=x\nhello version=1\nyield\n", 34,
                          STREAM_FOREVER) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(control_wire_receive(&wire, &reply, STREAM_FOREVER) == 0 &&
              is_error(-EACCES));
    CHECK(asked == 0);
    CHECK(stream_send_all(stream, "status\nmap device=x\n", 20,
                          STREAM_FOREVER) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(control_wire_receive(&wire, &reply, STREAM_FOREVER) == 0 &&
              control_message_is(&reply, "ok"));
    CHECK(asked == 2);
    stream_close(stream);
    control_server_stop(server);
    CHECK(stat(path, &info) != 0);
}

TEST("a status socket that somebody replaced is not removed")
{
    char path[PATH_MAX];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/status", test_dir());
    NEED(control_server_start_status(path, &handler, &server) == 0);
    NEED(unlink(path) == 0);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    NEED(fd >= 0);
    (void)close(fd);
    control_server_stop(server);
    CHECK(access(path, F_OK) == 0);
}
