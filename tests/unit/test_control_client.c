/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/control_client.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stream.h"
#include "unit/test.h"

/* ---- an owner that says what a test wants it to ------------------------- */

static const char *const *answers; /* each to one line; NULL: end */
static int listening;
static pthread_t owner_thread;
static sem_t has_heard; /* a line that is not answered */
static struct control_message request, reply;
static struct control_owner owner;

/* Receive up to a newline.  Returns whether one came. */
static bool hear_line(int fd)
{
    char c = '\0';

    while (c != '\n') {
        if (recv(fd, &c, 1, 0) != 1)
            return false;
    }
    return true;
}

static void *run_owner(void *context)
{
    int fd = accept(listening, NULL, NULL);
    size_t i;

    (void)context;
    for (i = 0; answers[i] && hear_line(fd); i++)
        (void)send(fd, answers[i], strlen(answers[i]), MSG_NOSIGNAL);
    if (i > 0 && hear_line(fd)) {
        (void)sem_post(&has_heard);
        (void)hear_line(fd); /* until the client ends it */
    }
    (void)close(fd);
    return NULL;
}

static bool start_owner(const char *const *with)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    answers = with;
    (void)sem_init(&has_heard, 0, 0);
    log_set_level(LOG_LEVEL_ERROR);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control",
                   test_dir());
    (void)unlink(address.sun_path);
    listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return bind(listening, (struct sockaddr *)&address, sizeof(address)) == 0 &&
           listen(listening, 1) == 0 &&
           pthread_create(&owner_thread, NULL, run_owner, NULL) == 0;
}

static void stop_owner(void)
{
    (void)pthread_join(owner_thread, NULL);
    (void)close(listening);
}

#define HELLO                                                                  \
    "ok version=1 device=disk size=1024 chunksize=512 daemon=0 pid=12\n"

TEST("what the owner says of itself is told")
{
    static const char *const with[] = {HELLO, NULL};
    struct control_client *client = NULL;

    NEED(start_owner(with));
    NEED(control_client_open(test_dir(), &client, &owner) == 0);
    CHECK(strcmp(owner.device_name, "disk") == 0 && owner.pid == 12);
    CHECK(owner.device_size == 1024 && owner.chunk_size == 512);
    CHECK(!owner.is_daemon);
    control_client_close(client);
    stop_owner();
}

TEST("no socket, and one that nobody listens on, are told apart")
{
    struct control_client *client;
    static const char *const with[] = {NULL};

    log_set_level(LOG_LEVEL_ERROR);
    CHECK(control_client_open(test_dir(), &client, &owner) == -ENOENT);
    NEED(start_owner(with));
    /* It takes the connection and ends: as if it did not listen. */
    CHECK(control_client_open(test_dir(), &client, &owner) == -ECONNREFUSED);
    stop_owner();
    CHECK(control_client_open(test_dir(), &client, &owner) == -ECONNREFUSED);
    CHECK(control_client_open("/nonexistent/directory", &client, &owner) ==
          -ENXIO);
    CHECK(control_client_ask_to_yield(test_dir(), STREAM_FOREVER) == 0);
    CHECK(control_client_ask_to_yield("/nonexistent/directory",
                                      STREAM_FOREVER) == -ENXIO);
}

TEST("who answers something else is refused")
{
    static const char *const wrong[] = {
        "ok version=2 device=disk size=1024 chunksize=512 daemon=0 pid=12\n",
        "ok version=1 size=1024 chunksize=512 daemon=0 pid=12\n",
        "ok version=1 device=disk size=0 chunksize=512 daemon=0 pid=12\n",
        "ok version=1 device=disk size=1 chunksize=4294967296 pid=12\n",
        "ok version=1 device=disk size=1024 chunksize=512 daemon=0 pid=0\n",
        ("ok version=1 device=01234567890123456789012345678901234567890123456"
         "78901234567890123 size=1024 chunksize=512 pid=12\n"),
        "error errno=71 text=no\n",
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const char *const with[] = {wrong[i], NULL};
        struct control_client *client;

        NEED(start_owner(with));
        CHECK(control_client_open(test_dir(), &client, &owner) == -EPROTO);
        stop_owner();
    }
}

TEST("an answer may be an error; an owner that ends is another one")
{
    static const char *const with[] = {HELLO, "error errno=5 text=bad\n", NULL};
    struct control_client *client;

    NEED(start_owner(with));
    NEED(control_client_open(test_dir(), &client, &owner) == 0);
    control_message_start(&request, "publish");
    CHECK(control_client_ask(client, &request, &reply) == 0);
    CHECK(control_message_is(&reply, "error"));
    control_client_close(client);
    stop_owner();
}

TEST("an owner that ends instead of answering is told as gone")
{
    struct control_client *client;
    static const char *const with[] = {HELLO, "ok\n", NULL};

    NEED(start_owner(with));
    NEED(control_client_open(test_dir(), &client, &owner) == 0);
    control_message_start(&request, "status");
    CHECK(control_client_ask(client, &request, &reply) == 0);
    /* The next two lines have no answer, and it ends after them. */
    control_message_add(&request, "text", "x");
    control_message_set_payload(&request, strdup("x\n"), 2);
    CHECK(control_client_ask(client, &request, &reply) == -EPIPE);
    control_message_clear(&request);
    control_client_close(client);
    stop_owner();
}

static void *interrupt_when_heard(void *context)
{
    while (sem_wait(&has_heard) != 0)
        continue;
    control_client_interrupt(context);
    return NULL;
}

TEST("who waits for an answer is interrupted, and does not ask again")
{
    static const char *const with[] = {HELLO, NULL};
    struct control_client *client;
    pthread_t thread;

    NEED(start_owner(with));
    NEED(control_client_open(test_dir(), &client, &owner) == 0);
    NEED(pthread_create(&thread, NULL, interrupt_when_heard, client) == 0);
    control_message_start(&request, "publish");
    CHECK(control_client_ask(client, &request, &reply) == -ECANCELED);
    CHECK(control_client_ask(client, &request, &reply) == -ECANCELED);
    (void)pthread_join(thread, NULL);
    control_client_close(client);
    stop_owner();
}

TEST("a yield that does not come is not waited for past the deadline")
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    /* It listens, and never accepts. */
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control",
                   test_dir());
    NEED(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
         listen(fd, 1) == 0);
    CHECK(control_client_ask_to_yield(test_dir(), clock_monotonic_ns() +
                                                      1000000) == -ETIMEDOUT);
    (void)close(fd);
}
