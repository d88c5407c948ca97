/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fd_store: what is put there is found by the next process, once, and nothing
 * else is.  A thread keeps what is sent, as systemd does.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/bytes.h"
#include "base/fd_store.h"
#include "unit/test.h"

enum { KEPT_MAX = 16, NAME_SIZE = 64, RECORD_MAX = 256 };

/* Who keeps descriptors. */
struct keeper {
    int notify; /* what it reads from */
    int ours;   /* closed: the end */
    int theirs;
    pthread_t thread;
    /* Read by the test after keeper_stop, or when a barrier has returned. */
    int fds[KEPT_MAX];
    char names[KEPT_MAX][NAME_SIZE];
    size_t count;
    size_t max; /* that it keeps, of KEPT_MAX */
    size_t removed;
    bool all_unwatched; /* FDPOLL=0 was always said */
};

/* ---- keeper ------------------------------------------------------------- */

/* What a barrier orders, in words that the thread sanitizer understands. */
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep(struct keeper *keeper, const char *text, int fd)
{
    const char *name = strstr(text, "FDNAME=");

    (void)pthread_mutex_lock(&kept_lock);
    if (strstr(text, "FDSTORE=1") && name && fd >= 0 &&
        keeper->count < keeper->max) {
        size_t len = strcspn(name + 7, "\n");

        if (!strstr(text, "FDPOLL=0"))
            keeper->all_unwatched = false;
        if (len < NAME_SIZE)
            memcpy(keeper->names[keeper->count], name + 7, len);
        keeper->fds[keeper->count++] = fd;
    } else {
        keeper->removed += strstr(text, "FDSTOREREMOVE=1") != NULL;
        if (fd >= 0)
            (void)close(fd); /* of a barrier, or one too many */
    }
    (void)pthread_mutex_unlock(&kept_lock);
}

static void *keeper_run(void *context)
{
    struct keeper *keeper = context;
    struct pollfd wait_for[] = {{.fd = keeper->notify, .events = POLLIN},
                                {.fd = keeper->theirs, .events = POLLIN}};

    while (poll(wait_for, 2, -1) > 0 &&
           (wait_for[0].revents || !wait_for[1].revents)) {
        char text[512] = "";
        struct iovec data = {.iov_base = text, .iov_len = sizeof(text) - 1};
        union {
            struct cmsghdr head;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof(control)};
        struct cmsghdr *ancillary;
        int fd = -1;

        if (recvmsg(keeper->notify, &message, MSG_CMSG_CLOEXEC) <= 0)
            break;
        ancillary = CMSG_FIRSTHDR(&message);
        if (ancillary && ancillary->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(ancillary), sizeof(fd));
        keep(keeper, text, fd);
    }
    return NULL;
}

/* Keep what this process sends from now on. */
static bool keeper_start(struct keeper *keeper)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int ends[2];

    *keeper = (struct keeper){.max = KEPT_MAX, .all_unwatched = true};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify",
                   test_dir());
    (void)unlink(address.sun_path); /* of one before */
    keeper->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (!CHECK(bind(keeper->notify, (struct sockaddr *)&address,
                    sizeof(address)) == 0) ||
        !CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0))
        return false;
    keeper->ours = ends[0];
    keeper->theirs = ends[1];
    return CHECK(setenv("NOTIFY_SOCKET", address.sun_path, 1) == 0) &&
           CHECK(pthread_create(&keeper->thread, NULL, keeper_run, keeper) ==
                 0);
}

/* Have it take all that was sent, and end; what it keeps stays. */
static void keeper_stop(struct keeper *keeper)
{
    (void)close(keeper->ours);
    (void)pthread_join(keeper->thread, NULL);
    (void)close(keeper->theirs);
    (void)close(keeper->notify);
    (void)unsetenv("NOTIFY_SOCKET");
}

/* Hand over what is kept, as to a process that starts: all is duplicated. */
static int keeper_hand_over(const struct keeper *keeper, struct fd_store *store)
{
    char names[KEPT_MAX][NAME_SIZE];
    char *list[KEPT_MAX];
    int fds[KEPT_MAX];

    memcpy(names, keeper->names, sizeof(names));
    for (size_t i = 0; i < keeper->count; i++) {
        /* The order is that of nobody. */
        size_t from = keeper->count - 1 - i;

        fds[i] = fcntl(keeper->fds[from], F_DUPFD_CLOEXEC, 0);
        list[i] = names[from];
    }
    return fd_store_take(store, fds, list, keeper->count);
}

static void keeper_drop(struct keeper *keeper)
{
    for (size_t i = 0; i < keeper->count; i++)
        (void)close(keeper->fds[i]);
    keeper->count = 0;
}

/* ---- what was resumed --------------------------------------------------- */

struct resumed {
    int sockets[KEPT_MAX];
    char records[KEPT_MAX][RECORD_MAX];
    size_t count;
    int error; /* that the next one ends with */
};

/* For fd_store_resume. */
static int resume(void *context, int fd, const void *record, size_t len)
{
    struct resumed *resumed = context;

    if (len < RECORD_MAX)
        memcpy(resumed->records[resumed->count], record, len);
    resumed->sockets[resumed->count++] = fd;
    return resumed->error;
}

static void close_resumed(struct resumed *resumed)
{
    for (size_t i = 0; i < resumed->count; i++)
        (void)close(resumed->sockets[i]);
}

/* A connection, of which the far end is ours. */
struct connection {
    int far, near;
};

static bool connect_pair(struct connection *connection)
{
    int ends[2];

    if (!CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0))
        return false;
    *connection = (struct connection){ends[0], ends[1]};
    return true;
}

/* Whether the other end is closed, wherever it was. */
static bool is_closed(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* Put one there; the keeper has taken it when this returns. */
static int put(struct fd_store *store, int fd, const char *record)
{
    int error = fd_store_put(store, fd, record, strlen(record));

    (void)pthread_mutex_lock(&kept_lock);
    (void)pthread_mutex_unlock(&kept_lock);
    return error;
}

/* Put one there as a process that ends then. */
static int put_one(struct connection *connection, const char *record)
{
    struct fd_store store;
    int error = fd_store_take(&store, NULL, NULL, 0);

    if (!error)
        error = put(&store, connection->near, record);
    (void)close(connection->near);
    fd_store_close(&store);
    return error;
}

/* ---- tests -------------------------------------------------------------- */

TEST("what is put there is resumed by the next process, each with its record")
{
    struct connection first, second;
    struct resumed resumed = {.count = 0};
    struct fd_store store;
    struct keeper keeper;
    char byte = 0;

    NEED(keeper_start(&keeper));
    NEED(connect_pair(&first) && connect_pair(&second));
    CHECK(fd_store_is_there());
    NEED(fd_store_take(&store, NULL, NULL, 0) == 0);
    CHECK(put(&store, first.near, "one") == 0);
    CHECK(put(&store, second.near, "second") == 0);
    (void)close(first.near);
    (void)close(second.near);
    fd_store_close(&store);
    CHECK(keeper.count == 4 && keeper.all_unwatched);

    NEED(keeper_hand_over(&keeper, &store) == 0);
    CHECK(store.pairs_count == 2);
    CHECK(fd_store_resume(&store, resume, &resumed) == 2);
    CHECK(store.pairs_count == 0);
    NEED(resumed.count == 2);
    for (size_t i = 0; i < 2; i++) {
        bool is_first = strcmp(resumed.records[i], "one") == 0;

        CHECK(is_first || strcmp(resumed.records[i], "second") == 0);
        CHECK(write(resumed.sockets[i], is_first ? "1" : "2", 1) == 1);
    }
    CHECK(read(first.far, &byte, 1) == 1 && byte == '1');
    CHECK(read(second.far, &byte, 1) == 1 && byte == '2');
    fd_store_close(&store);
    close_resumed(&resumed);
    keeper_stop(&keeper);
    CHECK(keeper.removed == 4);
    keeper_drop(&keeper);
    CHECK(is_closed(first.far));
    (void)close(first.far);
    (void)close(second.far);
}

/* Put connections there where so many descriptors are kept: returns how many
 * are, and are resumed then. */
static size_t kept_of(size_t connections_count, size_t max)
{
    struct connection connections[KEPT_MAX];
    struct resumed resumed = {.count = 0};
    struct fd_store store;
    struct keeper keeper;
    size_t kept = 0;

    if (!keeper_start(&keeper) ||
        !CHECK(fd_store_take(&store, NULL, NULL, 0) == 0))
        return SIZE_MAX;
    (void)pthread_mutex_lock(&kept_lock);
    keeper.max = max;
    (void)pthread_mutex_unlock(&kept_lock);
    for (size_t i = 0; i < connections_count; i++) {
        int error;

        if (!connect_pair(&connections[i]))
            return SIZE_MAX;
        error = put(&store, connections[i].near, "record");
        kept += error == 0;
        CHECK(error == (i < max / 2 ? 0 : -EMFILE));
        (void)close(connections[i].near);
    }
    CHECK(store.is_full == (connections_count > max / 2));
    fd_store_close(&store);
    keeper_stop(&keeper);
    CHECK(keeper_hand_over(&keeper, &store) == 0);
    CHECK(fd_store_resume(&store, resume, &resumed) == kept);
    fd_store_close(&store);
    close_resumed(&resumed);
    keeper_drop(&keeper);
    for (size_t i = 0; i < connections_count; i++)
        (void)close(connections[i].far);
    return kept;
}

TEST("one that finds no room is not taken for one that is kept")
{
    CHECK(kept_of(3, 6) == 3);
    CHECK(kept_of(3, 4) == 2);
    CHECK(kept_of(3, 5) == 2); /* a socket is there, and its record is not */
    CHECK(kept_of(2, 1) == 0);
    CHECK(kept_of(2, 0) == 0);
}

TEST("how many are kept is what systemd says, or else the service")
{
    CHECK(fd_store_room() == SIZE_MAX);
    NEED(setenv("FDSTORE_MAX", "512", 1) == 0);
    CHECK(fd_store_room() == 256);
    NEED(setenv("FDSTORE", "7", 1) == 0);
    CHECK(fd_store_room() == 3);
    NEED(setenv("FDSTORE", "0", 1) == 0);
    CHECK(fd_store_room() == 0);
    NEED(setenv("FDSTORE", "many", 1) == 0);
    CHECK(fd_store_room() == 256);
    NEED(setenv("FDSTORE_MAX", "-1", 1) == 0);
    CHECK(fd_store_room() == SIZE_MAX);
    (void)unsetenv("FDSTORE");
    (void)unsetenv("FDSTORE_MAX");
}

TEST("a record is used once, also if nobody took it out of the store")
{
    struct resumed resumed = {.count = 0};
    struct connection connection;
    struct fd_store store;
    struct keeper keeper;

    NEED(keeper_start(&keeper));
    NEED(connect_pair(&connection));
    NEED(put_one(&connection, "once") == 0);
    NEED(keeper_hand_over(&keeper, &store) == 0);
    CHECK(fd_store_resume(&store, resume, &resumed) == 1);
    fd_store_close(&store);
    close_resumed(&resumed);

    NEED(keeper_hand_over(&keeper, &store) == 0);
    CHECK(store.pairs_count == 0);
    CHECK(fd_store_resume(&store, resume, &resumed) == 0);
    CHECK(resumed.count == 1);
    fd_store_close(&store);
    keeper_stop(&keeper);
    keeper_drop(&keeper);
    CHECK(is_closed(connection.far));
    (void)close(connection.far);
}

TEST("what is not resumed stays there, as it came")
{
    struct resumed resumed = {.count = 0};
    struct connection connection;
    struct fd_store store;
    struct keeper keeper;

    NEED(keeper_start(&keeper));
    NEED(connect_pair(&connection));
    NEED(put_one(&connection, "patience") == 0);
    NEED(keeper_hand_over(&keeper, &store) == 0);
    CHECK(store.pairs_count == 1);
    fd_store_close(&store); /* the start failed */
    CHECK(!is_closed(connection.far));

    NEED(keeper_hand_over(&keeper, &store) == 0);
    CHECK(fd_store_resume(&store, resume, &resumed) == 1);
    CHECK(strcmp(resumed.records[0], "patience") == 0);
    fd_store_close(&store);
    close_resumed(&resumed);
    keeper_stop(&keeper);
    keeper_drop(&keeper);
    (void)close(connection.far);
}

TEST("an error of one that is resumed is its own, and it is not resumed again")
{
    struct resumed resumed = {.error = -EPROTO};
    struct connection connection;
    struct fd_store store;
    struct keeper keeper;

    NEED(keeper_start(&keeper));
    NEED(connect_pair(&connection));
    NEED(put_one(&connection, "odd") == 0);
    NEED(keeper_hand_over(&keeper, &store) == 0);
    CHECK(fd_store_resume(&store, resume, &resumed) == 0);
    CHECK(resumed.count == 1 && store.pairs_count == 0);
    fd_store_close(&store);
    close_resumed(&resumed);
    NEED(keeper_hand_over(&keeper, &store) == 0);
    CHECK(store.pairs_count == 0);
    fd_store_close(&store);
    keeper_stop(&keeper);
    keeper_drop(&keeper);
    (void)close(connection.far);
}

/* Have only what is named so be there; returns whether it was refused. */
static bool half_is_refused(const char *kind)
{
    struct connection connection;
    struct fd_store store;
    struct keeper keeper;
    bool is_refused;

    if (!keeper_start(&keeper) || !connect_pair(&connection) ||
        !CHECK(put_one(&connection, "half") == 0))
        return false;
    for (size_t i = 0; i < keeper.count; i++) {
        if (strstr(keeper.names[i], kind))
            continue;
        (void)close(keeper.fds[i]);
        keeper.fds[i] = keeper.fds[--keeper.count];
        memcpy(keeper.names[i], keeper.names[keeper.count], NAME_SIZE);
        i--;
    }
    is_refused = CHECK(keeper.count == 1) &&
                 CHECK(keeper_hand_over(&keeper, &store) == 0) &&
                 CHECK(store.pairs_count == 0);
    fd_store_close(&store);
    keeper_stop(&keeper);
    CHECK(keeper.removed == 2);
    keeper_drop(&keeper);
    CHECK(is_closed(connection.far));
    (void)close(connection.far);
    return is_refused;
}

TEST("a socket without a record is closed and removed")
{
    CHECK(half_is_refused("socket"));
}

TEST("a record without a socket is closed and removed")
{
    CHECK(half_is_refused("record"));
}

/* Put this in the place of the record that is kept; returns whether it is
 * refused then. */
static bool record_is_refused(int fd)
{
    struct connection connection;
    struct fd_store store;
    struct keeper keeper;
    bool is_refused;

    if (!keeper_start(&keeper) || !connect_pair(&connection) ||
        !CHECK(put_one(&connection, "good") == 0))
        return false;
    for (size_t i = 0; i < keeper.count; i++) {
        if (strstr(keeper.names[i], "record"))
            (void)dup2(fd, keeper.fds[i]);
    }
    is_refused =
        CHECK(keeper_hand_over(&keeper, &store) == 0) && store.pairs_count == 0;
    fd_store_close(&store);
    keeper_stop(&keeper);
    keeper_drop(&keeper);
    CHECK(is_closed(connection.far));
    (void)close(connection.far);
    (void)close(fd);
    return is_refused;
}

/* Returns a memfd with that content, sealed or not. */
static int make_memfd(const void *content, size_t len, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    CHECK(fd >= 0 && write(fd, content, len) == (ssize_t)len);
    CHECK(fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

TEST("what is no whole record of ours is refused, whatever it is")
{
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW, SIZE = 24 + 4 };
    unsigned char bytes[SIZE + 1] = "s3bl-fds";
    int ends[2];

    put_le32(bytes + 8, 1);
    put_le64(bytes + 16, 4);
    CHECK(!record_is_refused(make_memfd(bytes, SIZE, SEALS)));

    CHECK(record_is_refused(make_memfd(bytes, SIZE, 0)));
    CHECK(record_is_refused(make_memfd(bytes, SIZE, F_SEAL_GROW)));
    CHECK(record_is_refused(make_memfd(bytes, 0, SEALS)));
    CHECK(record_is_refused(make_memfd(bytes, 23, SEALS)));
    CHECK(record_is_refused(make_memfd(bytes, 24, SEALS)));
    CHECK(record_is_refused(make_memfd(bytes, SIZE - 1, SEALS)));
    CHECK(record_is_refused(make_memfd(bytes, SIZE + 1, SEALS)));
    put_le64(bytes + 16, UINT64_MAX - 20);
    CHECK(record_is_refused(make_memfd(bytes, SIZE, SEALS)));
    put_le64(bytes + 16, 4);
    put_le32(bytes + 8, 2);
    CHECK(record_is_refused(make_memfd(bytes, SIZE, SEALS)));
    put_le32(bytes + 8, 1);
    put_le32(bytes + 12, 1);
    CHECK(record_is_refused(make_memfd(bytes, SIZE, SEALS)));
    put_le32(bytes + 12, 0);
    bytes[0] = 'S';
    CHECK(record_is_refused(make_memfd(bytes, SIZE, SEALS)));

    CHECK(record_is_refused(open("/dev/null", O_RDWR | O_CLOEXEC)));
    NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    (void)close(ends[1]);
    CHECK(record_is_refused(ends[0]));
}

TEST("what has the name of a socket and is none is refused")
{
    struct connection connection;
    struct fd_store store;
    struct keeper keeper;

    NEED(keeper_start(&keeper));
    NEED(connect_pair(&connection));
    NEED(put_one(&connection, "good") == 0);
    for (size_t i = 0; i < keeper.count; i++) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (strstr(keeper.names[i], "socket"))
            (void)dup2(null, keeper.fds[i]);
        (void)close(null);
    }
    CHECK(keeper_hand_over(&keeper, &store) == 0 && store.pairs_count == 0);
    fd_store_close(&store);
    keeper_stop(&keeper);
    keeper_drop(&keeper);
    (void)close(connection.far);
}

TEST("of two with the same name none is resumed, whatever their order")
{
    static const char *const orders[][3] = {
        {"nbd-7-socket", "nbd-7-socket", "nbd-7-record"},
        {"nbd-7-socket", "nbd-7-record", "nbd-7-record"},
        {"nbd-7-record", "nbd-7-socket", "nbd-7-socket"},
    };

    for (size_t i = 0; i < 3; i++) {
        struct connection connection;
        struct fd_store store;
        struct keeper keeper;
        char names[3][NAME_SIZE];
        char *list[] = {names[0], names[1], names[2]};
        int fds[3];

        NEED(keeper_start(&keeper));
        NEED(connect_pair(&connection));
        NEED(put_one(&connection, "good") == 0);
        NEED(keeper.count == 2 && strstr(keeper.names[0], "socket"));
        for (size_t j = 0; j < 3; j++) {
            (void)snprintf(names[j], NAME_SIZE, "%s", orders[i][j]);
            fds[j] = fcntl(keeper.fds[strstr(names[j], "socket") ? 0 : 1],
                           F_DUPFD_CLOEXEC, 0);
        }
        keeper_drop(&keeper);
        CHECK(fd_store_take(&store, fds, list, 3) == 0);
        CHECK(store.pairs_count == 0 && store.next_number == 8);
        CHECK(is_closed(connection.far));
        fd_store_close(&store);
        keeper_stop(&keeper);
        (void)close(connection.far);
    }
}

TEST("no name is used again that may still be there")
{
    struct connection first, second;
    struct fd_store store;
    struct keeper keeper;

    NEED(keeper_start(&keeper));
    NEED(connect_pair(&first) && connect_pair(&second));
    NEED(put_one(&first, "first") == 0);
    NEED(keeper_hand_over(&keeper, &store) == 0);
    CHECK(put(&store, second.near, "next") == 0);
    fd_store_close(&store);
    keeper_stop(&keeper);
    NEED(keeper.count == 4);
    CHECK(strcmp(keeper.names[0], "nbd-0-socket") == 0);
    CHECK(strcmp(keeper.names[1], "nbd-0-record") == 0);
    CHECK(strcmp(keeper.names[2], "nbd-1-socket") == 0);
    CHECK(strcmp(keeper.names[3], "nbd-1-record") == 0);
    keeper_drop(&keeper);
    (void)close(first.far);
    (void)close(second.far);
    (void)close(second.near);
}

/* Returns a socket that listens. */
static int listen_somewhere(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    /* Linux makes a name up. */
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    CHECK(listen(fd, 1) == 0);
    return fd;
}

TEST("sockets that listen are told from a single connection and from the rest")
{
    char listening[] = "s3blkdevd.socket", odd[] = "nbd-1-socket-",
         huge[] = "nbd-18446744073709551615-socket", zero[] = "nbd-01-socket";
    char *names[] = {listening, listening};
    struct connection connection;
    struct fd_store store;
    int fds[2];

    fds[0] = listen_somewhere();
    fds[1] = listen_somewhere();
    CHECK(fd_store_take(&store, fds, names, 2) == 0);
    CHECK(store.listening_count == 2 && store.connected == -1);
    CHECK(store.listening[0] == fds[0] && store.listening[1] == fds[1]);
    fd_store_close(&store);
    (void)close(fds[1]);

    NEED(connect_pair(&connection));
    fds[1] = connection.near;
    CHECK(fd_store_take(&store, fds + 1, names, 1) == 0);
    CHECK(store.listening_count == 0 && store.connected == connection.near);
    fd_store_close(&store);
    CHECK(fd_store_take(&store, fds, names, 2) == -ENOTSOCK);
    fd_store_close(&store);
    for (size_t i = 0; i < 3; i++) {
        names[1] = (char *[]){odd, huge, zero}[i];
        CHECK(fd_store_take(&store, fds, names, 2) == -ENOTSOCK);
        fd_store_close(&store);
    }
    (void)close(fds[0]);
    (void)close(connection.near);
    (void)close(connection.far);
}

TEST("what LISTEN_FDS names is taken, and cannot be inherited")
{
    struct connection connection;
    struct keeper keeper;
    int listening, status = -1;
    pid_t child;

    NEED(keeper_start(&keeper));
    NEED(connect_pair(&connection));
    NEED(put_one(&connection, "over there") == 0);
    keeper_stop(&keeper);
    listening = listen_somewhere();
    child = fork();
    if (child == 0) {
        struct resumed resumed = {.count = 0};
        struct fd_store store;
        int fds[] = {listening, keeper.fds[0], keeper.fds[1]};
        char pid[32];
        bool ok = true;

        for (int i = 0; i < 3; i++)
            fds[i] = fcntl(fds[i], F_DUPFD, 100);
        for (int i = 0; i < 3; i++)
            ok &= dup2(fds[i], 3 + i) == 3 + i;
        (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
        ok &= setenv("LISTEN_PID", pid, 1) == 0 &&
              setenv("LISTEN_FDS", "3", 1) == 0 &&
              setenv("LISTEN_FDNAMES", "s:nbd-0-socket:nbd-0-record", 1) == 0;
        ok &= fd_store_open(&store) == 0;
        ok &= store.listening_count == 1 && store.listening[0] == 3 &&
              store.pairs_count == 1;
        for (int fd = 3; fd < 6; fd++)
            ok &= (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
        ok &= getenv("LISTEN_FDS") == NULL;
        ok &= fd_store_resume(&store, resume, &resumed) == 1 &&
              strcmp(resumed.records[0], "over there") == 0;
        fd_store_close(&store);
        _exit(ok ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    keeper_drop(&keeper);
    (void)close(listening);
    (void)close(connection.far);
}

TEST("without LISTEN_FDS there is nothing, and that is no error")
{
    struct fd_store store;

    CHECK(fd_store_open(&store) == 0);
    CHECK(store.listening_count == 0 && store.connected == -1 &&
          store.pairs_count == 0);
    fd_store_close(&store);
}

TEST("what the process before left is known by its names")
{
    static const struct {
        const char *names;
        bool has_left;
    } cases[] = {
        {"", false},
        {"s3blkdevd.socket", false},
        {"my-nbd-0-socket:x", false},
        {"nbd-0-record:nbd-0-socket", true},
        {"s3blkdevd.socket:nbd-7-record", true},
    };

    (void)unsetenv("LISTEN_FDNAMES");
    CHECK(!fd_store_has_left());
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        NEED(setenv("LISTEN_FDNAMES", cases[i].names, 1) == 0);
        CHECK(fd_store_has_left() == cases[i].has_left);
    }
    (void)unsetenv("LISTEN_FDNAMES");
}

TEST("where nobody keeps anything, putting fails, and says so")
{
    struct connection connection;

    CHECK(!fd_store_is_there());
    NEED(connect_pair(&connection));
    CHECK(put_one(&connection, "lost") == -EDESTADDRREQ);
    (void)close(connection.far);
    NEED(setenv("NOTIFY_SOCKET", "", 1) == 0);
    CHECK(!fd_store_is_there());
    NEED(setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1) == 0);
    NEED(connect_pair(&connection));
    CHECK(put_one(&connection, "lost") == -ENOENT);
    (void)close(connection.far);
    (void)unsetenv("NOTIFY_SOCKET");
}

TEST("who does not hear is not waited for again")
{
    struct connection connection;
    struct fd_store store;
    struct keeper keeper;

    NEED(keeper_start(&keeper));
    NEED(connect_pair(&connection));
    (void)close(keeper.ours); /* from here on it reads nothing */
    (void)pthread_join(keeper.thread, NULL);
    NEED(fd_store_take(&store, NULL, NULL, 0) == 0);
    store.patience_us = 1;
    CHECK(fd_store_put(&store, connection.near, "?", 1) == -ETIMEDOUT);
    store.patience_us = UINT64_MAX;
    CHECK(fd_store_put(&store, connection.near, "?", 1) == -ETIMEDOUT);
    fd_store_close(&store);
    (void)close(keeper.theirs);
    (void)close(keeper.notify);
    (void)unsetenv("NOTIFY_SOCKET");
    (void)close(connection.near);
    (void)close(connection.far);
}
