/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3blkdevd - serve the devices of the configuration over NBD.
 *
 * First of the five files of a request: here the server starts and listens;
 * nbd_server.c accepts, nbd_handshake.c finds the device, and from there
 * nbd_transmission.c takes one request after the other.
 *
 * Read main() from the top: options, configuration, sockets that systemd
 * hands over, background, devices, listening, readiness; then it waits for a
 * signal and undoes all of it in reverse.  Signals are blocked in every
 * thread and read from a descriptor, so nothing runs in a handler.
 *
 * With --hand-over clients do not see a restart: at the end their connections
 * are left with systemd (base/fd_store.h), and the next start goes on with
 * them before it listens.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/background.h"
#include "base/clock.h"
#include "base/fd_store.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/net.h"
#include "base/pid_file.h"
#include "base/tls.h"
#include "cache/device.h"
#include "common.h"
#include "common_reload.h"
#include "common_status.h"
#include "nbd/nbd_server.h"
#include "nbd/nbd_tally.h"
#include "object_store.h"

enum {
    STOP_DEADLINE_MS = 10000,  /* for requests in flight at the end */
    STORE_DEADLINE_MS = 30000, /* for the store, from then on */
    /* The same if clients wait for the next process. */
    HAND_OVER_DEADLINE_MS = 1000,
    HAND_OVER_STORE_DEADLINE_MS = 1000,
    STATUS_INTERVAL_MS = 10000,
    ADDRESSES_MAX = 16, /* of one listen setting */
    SOCKET_MODE = 0660, /* of Unix sockets: who may connect */
};

static const struct common_program program = {
    .name = "s3blkdevd",
    .usage =
        "s3blkdevd [-c FILE] [-p FILE] [-t] [--hand-over | --single]\n"
        "       s3blkdevd -h | -V\n"
        "\n"
        "  -c FILE      the configuration, instead of " COMMON_CONFIG_PATH "\n"
        "  -p FILE      go into the background, and write the pid there\n"
        "  -t           only check the configuration\n"
        "  --hand-over  leave clients to systemd, and so to the next start\n"
        "  --single     serve one connection, on standard input\n"
        "  -h, -V       show this help; show the version\n",
    .letters = "c:p:hVt",
};

/* A Unix socket that was made here and is removed at the end. */
struct socket_path {
    const char *path;
    dev_t device;
    ino_t inode;
};

struct daemon {
    struct common_options options;
    struct config *config;
    struct fd_store fds; /* that were handed over, and that will be */
    int signals;         /* signalfd */
    int finished;        /* eventfd: the one connection has ended */
    int report_fd;       /* to the process in the foreground, or -1 */
    struct pid_file pid_file;
    struct common_opening opening;
    struct common_resources resources;
    struct common_reload reload;
    struct mutex server_lock;  /* for owners, who ask for connections, and
                                  for devices that are opened late */
    struct nbd_server *server; /* changed here, under the lock */
    size_t unresumed;          /* connections that were handed over and are not
                                  the server's yet; changed likewise */
    struct socket_path paths[CONFIG_LIST_MAX];
    size_t paths_count;
    size_t listeners; /* sockets that we listen on */
    pthread_t single_thread;
};

/* ---- sockets ------------------------------------------------------------ */

/*
 * Take standard input as the one connection; from here on nothing else can
 * read from it or write to it by accident.
 */
static int take_standard_input(struct daemon *daemon)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int listens;
    socklen_t len = sizeof(listens);

    if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) !=
            0 ||
        listens) {
        log_error("--single: standard input is not a connected socket");
        return -ENOTSOCK;
    }
    daemon->fds.connected = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (daemon->fds.connected < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0)
        return -errno;
    return close(null) == 0 ? 0 : -errno;
}

/* Wait for the one connection on the socket that was handed over. */
static int accept_one(struct daemon *daemon)
{
    int listening = daemon->fds.listening[0];
    int fd;

    do {
        struct pollfd wait_for = {.fd = listening, .events = POLLIN};

        (void)poll(&wait_for, 1, -1);
        fd = net_accept(listening);
    } while (fd == -EAGAIN);
    if (fd < 0)
        return fd;
    (void)close(listening);
    daemon->fds.listening_count = 0;
    daemon->fds.connected = fd;
    return 0;
}

/* Find out what to serve: what was handed over rules over "listen". */
static int take_sockets(struct daemon *daemon)
{
    int error = fd_store_open(&daemon->fds);

    if (!error && daemon->options.single && daemon->fds.connected < 0)
        error = daemon->fds.listening_count == 1 ? accept_one(daemon)
                                                 : take_standard_input(daemon);
    if (error || daemon->fds.connected >= 0 || daemon->fds.listening_count > 0)
        return error;
    if (daemon->config->listen.count == 0) {
        log_error("%s: nothing to listen on; set listen",
                  daemon->options.config_path);
        return -EDESTADDRREQ;
    }
    return 0;
}

/* ---- start -------------------------------------------------------------- */

/* Say what will not be as it was asked for. */
static void check_hand_over(const struct daemon *daemon)
{
    if (daemon->options.hand_over && !fd_store_is_there())
        log_warning("--hand-over: NOTIFY_SOCKET is not set, so nobody keeps "
                    "the connections of clients: they end with this process");
}

/* Block the signals that we read; threads made later inherit that. */
static int open_signals(struct daemon *daemon)
{
    sigset_t wanted;

    (void)sigemptyset(&wanted);
    (void)sigaddset(&wanted, SIGTERM);
    (void)sigaddset(&wanted, SIGINT);
    (void)sigaddset(&wanted, SIGHUP);
    if (pthread_sigmask(SIG_BLOCK, &wanted, NULL) != 0)
        return -EINVAL;
    daemon->signals = signalfd(-1, &wanted, SFD_CLOEXEC);
    daemon->finished = eventfd(0, EFD_CLOEXEC);
    return daemon->signals < 0 || daemon->finished < 0 ? -errno : 0;
}

/* Tell an owner how many clients its device has. */
static uint64_t count_connections(void *context, const struct device *device)
{
    struct daemon *daemon = context;
    size_t count = 0;

    mutex_lock(&daemon->server_lock);
    count = daemon->unresumed; /* any of them may have it */
    if (daemon->server)
        count = nbd_server_attached(daemon->server, device);
    mutex_unlock(&daemon->server_lock);
    return count;
}

/* Tell what the clients of a device did. */
static void tell_clients(void *context, const struct device *device,
                         struct control_message *status)
{
    struct daemon *daemon = context;
    struct nbd_tally_sums sums;
    bool is_known = false;

    mutex_lock(&daemon->server_lock);
    if (daemon->server)
        is_known = nbd_server_tally(daemon->server, device_name(device), &sums);
    mutex_unlock(&daemon->server_lock);
    if (is_known)
        common_tell_clients(&sums, status);
}

/* Serve an open device to clients; the server is there. */
static int export_device(struct nbd_server *server,
                         const struct common_device *device)
{
    const struct nbd_export export = {
        .device = device->device,
        .name = device->config->name,
        .description = device->config->description,
        .read_only = device->config->read_only,
    };
    int error = nbd_server_add_export(server, &export);

    /* It was opened while the server started: both have seen that. */
    return error == -EEXIST ? 0 : error;
}

/*
 * common_opening.opened: a server that is not there yet takes all that are
 * open when it starts; one that is stopped takes no more.
 */
static void export_late(void *context, struct common_device *device)
{
    struct daemon *daemon = context;
    int error = 0;

    common_reload_opened(&daemon->reload, device);
    mutex_lock(&daemon->server_lock);
    if (daemon->server)
        error = export_device(daemon->server, device);
    mutex_unlock(&daemon->server_lock);
    if (error && error != -ESHUTDOWN)
        log_error("%s: cannot be served: %s", device->config->name,
                  log_errno(error));
}

/* Whether a device of that name is served, or will be when it can. */
static bool is_awaited(void *context, const char *name)
{
    const struct daemon *daemon = context;

    for (size_t i = 0; i < daemon->resources.devices_count; i++) {
        const struct common_device *device = &daemon->resources.devices[i];

        /* A reload may take the place of what is left out for another one. */
        if (atomic_load(&device->state) != COMMON_DEVICE_LEFT_OUT &&
            strcmp(device->config->name, name) == 0)
            return true;
    }
    return false;
}

/* common_opening.left_out: nobody goes on waiting for it. */
static void give_up(void *context, struct common_device *device)
{
    struct daemon *daemon = context;

    (void)device;
    mutex_lock(&daemon->server_lock);
    if (daemon->server)
        nbd_server_close_waiting(daemon->server, is_awaited, daemon);
    mutex_unlock(&daemon->server_lock);
}

/* Let owners ask the server or, with NULL, none.  Returns the one before. */
static struct nbd_server *exchange_server(struct daemon *daemon,
                                          struct nbd_server *server)
{
    struct nbd_server *old;

    mutex_lock(&daemon->server_lock);
    old = daemon->server;
    daemon->server = server;
    daemon->unresumed = 0;
    mutex_unlock(&daemon->server_lock);
    return old;
}

static int open_resources(struct daemon *daemon)
{
    daemon->opening = (struct common_opening){
        .connections = count_connections,
        .tell_clients = tell_clients,
        /* The one connection would not wait for a device. */
        .opened = daemon->options.single ? NULL : export_late,
        .left_out = give_up,
        .is_urgent = daemon->fds.pairs_count > 0,
        .context = daemon,
    };
    daemon->unresumed = daemon->fds.pairs_count;
    return common_open_resources(daemon->config, &daemon->opening,
                                 &daemon->resources);
}

/* Requests that wait for the store must come back. */
static void interrupt_store(void *context)
{
    struct daemon *daemon = context;

    daemon->resources.store->interrupt(daemon->resources.store);
}

/* For fd_store_resume. */
static int resume_connection(void *context, int fd, const void *record,
                             size_t len)
{
    return nbd_server_resume(context, fd, record, len);
}

/* Go on with what the process before left, before anybody else can come. */
static void resume_connections(struct daemon *daemon, struct nbd_server *server)
{
    size_t count = daemon->fds.pairs_count;
    size_t resumed = fd_store_resume(&daemon->fds, resume_connection, server);

    if (count > 0)
        log_info("connections of the process before: %zu, resumed: %zu", count,
                 resumed);
}

static int start_server(struct daemon *daemon, struct tls_context *tls)
{
    const struct common_resources *resources = &daemon->resources;
    const struct nbd_server_options options = {
        /* As long as it is not there, no other takes its place. */
        .default_name = resources->devices[0].config->name,
        .tls = tls,
        .tls_required = daemon->config->tls == CONFIG_TLS_REQUIRED,
        .max_connections = daemon->config->max_connections,
        .handshake_timeout_ms = daemon->config->handshake_timeout_ms,
        .late = interrupt_store,
        .late_context = daemon,
    };
    struct nbd_server *server;
    int error = nbd_server_start(&options, &server);

    if (error)
        return error;
    resume_connections(daemon, server);
    (void)exchange_server(daemon, server);
    for (size_t i = 0; i < resources->devices_count && !error; i++) {
        const struct common_device *device = &resources->devices[i];

        if (atomic_load(&device->state) == COMMON_DEVICE_OPEN)
            error = export_device(server, device);
    }
    nbd_server_close_waiting(server, is_awaited, daemon);
    return error;
}

static int listen_on_fd(struct daemon *daemon, int fd)
{
    int error = nbd_server_listen(daemon->server, fd);

    daemon->listeners += error == 0;
    return error;
}

static int listen_on_path(struct daemon *daemon, const char *path)
{
    int fd = net_listen_unix(path, SOCKET_MODE);
    struct stat st;

    if (fd < 0)
        return fd;
    if (stat(path, &st) == 0)
        daemon->paths[daemon->paths_count++] =
            (struct socket_path){path, st.st_dev, st.st_ino};
    return listen_on_fd(daemon, fd);
}

static int listen_on_address(struct daemon *daemon, const char *address)
{
    int fds[ADDRESSES_MAX];
    int error = 0;
    int count = net_listen_tcp(address, (uint16_t)daemon->config->port, fds,
                               ADDRESSES_MAX);

    for (int i = 0; i < count; i++) {
        int this_error = listen_on_fd(daemon, fds[i]);

        error = error ? error : this_error;
    }
    return count < 0 ? count : error;
}

/* Listen on what was handed over, or else on what the configuration says. */
static int start_listening(struct daemon *daemon)
{
    const struct config_list *listen = &daemon->config->listen;
    int error = 0;

    for (size_t i = 0; !error && i < daemon->fds.listening_count; i++)
        error = listen_on_fd(daemon, daemon->fds.listening[i]);
    if (error || daemon->fds.listening_count > 0 || daemon->fds.connected >= 0)
        return error;
    for (size_t i = 0; !error && i < listen->count; i++) {
        const char *item = listen->items[i];

        error = item[0] == '/' ? listen_on_path(daemon, item)
                               : listen_on_address(daemon, item);
        if (error)
            log_error("listen %s: %s%s", item, log_errno(error),
                      error == -EADDRINUSE ? ": is a server running there?"
                                           : "");
    }
    return error;
}

static void *serve_single(void *context)
{
    struct daemon *daemon = context;
    int error = nbd_server_serve(daemon->server, daemon->fds.connected);

    if (error && error != -ESHUTDOWN)
        log_error("the connection: %s", log_errno(error));
    (void)eventfd_write(daemon->finished, 1);
    return NULL;
}

static int start_single(struct daemon *daemon)
{
    int error;

    if (daemon->fds.connected < 0)
        return 0;
    net_prepare(daemon->fds.connected);
    error = -pthread_create(&daemon->single_thread, NULL, serve_single, daemon);
    if (error) {
        (void)close(daemon->fds.connected);
        daemon->fds.connected = -1;
    }
    return error;
}

/* All steps of a start, in order. */
static int start(struct daemon *daemon)
{
    struct tls_context *tls = NULL;
    int error = open_signals(daemon);

    if (!error)
        error = common_load_tls(daemon->config, &tls);
    if (!error)
        error = open_resources(daemon);
    if (!error)
        error = start_server(daemon, tls);
    tls_free(tls); /* the server holds it */
    if (!error)
        error = common_serve_status(daemon->config, &daemon->resources);
    if (!error)
        error = start_listening(daemon);
    if (!error)
        error = start_single(daemon);
    if (!error)
        error = pid_file_write(&daemon->pid_file);
    return error;
}

/* ---- while it runs ------------------------------------------------------ */

/*
 * Tell systemd how it goes, and that it goes.  The status of server and
 * devices is asked under the locks that every request takes: if one of them
 * is stuck, so is this, and the watchdog is not fed.  What waits for a slow
 * disk or store holds none of them, and is no reason to be killed.
 */
static void tell_status(struct daemon *daemon)
{
    struct nbd_server_status server;
    uint64_t journal_used = 0, parked = 0;
    size_t failed = 0, open = 0, waiting;

    nbd_server_status(daemon->server, &server);
    for (size_t i = 0; i < daemon->resources.devices_count; i++) {
        const struct common_device *device = &daemon->resources.devices[i];
        struct device_status status;

        if (atomic_load(&device->state) != COMMON_DEVICE_OPEN)
            continue;
        open++;
        device_status(device->device, &status);
        journal_used += status.journal_used;
        parked += status.parked;
        failed += status.failed;
    }
    waiting = common_count_devices(&daemon->resources, COMMON_DEVICE_WAITS);
    common_notify(
        "WATCHDOG=1\nSTATUS=%zu of %zu devices on %zu sockets, "
        "%zu failed, %zu waiting for the store; %zu connections, "
        "%" PRIu64 " requests waiting for space, %" PRIu64 " MiB in journals",
        open, daemon->resources.devices_count, daemon->listeners, failed,
        waiting, server.connections, parked, journal_used >> 20);
}

/* Read the configuration again; what is wrong with it is logged. */
static void reload(struct daemon *daemon)
{
    log_info("SIGHUP: %s is read again", daemon->reload.path);
    common_notify("RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                  clock_monotonic_ns() / 1000);
    (void)common_reload_run(&daemon->reload, daemon->server);
    common_notify("READY=1");
}

/* Returns whether the signal that was received says to end. */
static bool signal_says_end(struct daemon *daemon)
{
    struct signalfd_siginfo info;

    if (read(daemon->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return false;
    if (info.ssi_signo == SIGHUP) {
        reload(daemon);
        return false;
    }
    log_info("signal %u: ending", info.ssi_signo);
    return true;
}

/* Return when a signal says to end, or the one connection has ended. */
static void wait_for_end(struct daemon *daemon)
{
    int interval_ms = common_notify_interval_ms(STATUS_INTERVAL_MS);

    for (;;) {
        struct pollfd wait_for[] = {
            {.fd = daemon->signals, .events = POLLIN},
            {.fd = daemon->finished, .events = POLLIN},
        };

        tell_status(daemon);
        if (poll(wait_for, 2, interval_ms) <= 0)
            continue;
        if (wait_for[1].revents ||
            (wait_for[0].revents && signal_says_end(daemon)))
            return;
    }
}

/* ---- end ---------------------------------------------------------------- */

static void remove_sockets(struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->paths_count; i++) {
        const struct socket_path *path = &daemon->paths[i];
        struct stat st;

        /* Somebody may have put another one in its place. */
        if (stat(path->path, &st) == 0 && st.st_dev == path->device &&
            st.st_ino == path->inode && unlink(path->path) != 0)
            log_warning("%s: cannot be removed: %s", path->path,
                        log_errno(-errno));
    }
    daemon->paths_count = 0;
}

/* Whether clients are left to the next process. */
static bool hands_over(const struct daemon *daemon)
{
    return daemon->options.hand_over && fd_store_is_there() &&
           daemon->fds.connected < 0;
}

/* For nbd_server_hand_over. */
static int leave_connection(void *context, int fd, const void *record,
                            size_t len)
{
    return fd_store_put(context, fd, record, len);
}

/*
 * End all connections, but leave those that can go on to the next process; if
 * there are any, closing is to be quick.
 */
static int hand_over(struct daemon *daemon)
{
    size_t count;
    int error;

    /* Of what has clients nothing is changed in the bucket in between. */
    for (size_t i = 0; i < daemon->resources.devices_count; i++) {
        struct common_device *device = &daemon->resources.devices[i];

        /* Clients may wait for one that is not open; it may be just now. */
        device->stays = atomic_load(&device->state) != COMMON_DEVICE_OPEN ||
                        nbd_server_attached(daemon->server, device->device) > 0;
    }
    error = nbd_server_hand_over(daemon->server, HAND_OVER_DEADLINE_MS,
                                 leave_connection, &daemon->fds, &count);
    log_info("connections left to the next process: %zu", count);
    common_limit_closing(&daemon->resources, daemon->signals,
                         count > 0 ? HAND_OVER_STORE_DEADLINE_MS
                                   : STORE_DEADLINE_MS);
    return error;
}

/* End all connections, with time for what is in flight. */
static int end_connections(struct daemon *daemon)
{
    common_limit_closing(&daemon->resources, daemon->signals,
                         STORE_DEADLINE_MS);
    return nbd_server_stop(daemon->server, STOP_DEADLINE_MS);
}

static void stop_server(struct daemon *daemon)
{
    int error =
        hands_over(daemon) ? hand_over(daemon) : end_connections(daemon);

    if (error)
        log_warning("some requests were not answered: %s", log_errno(error));
    if (daemon->fds.connected >= 0)
        (void)pthread_join(daemon->single_thread, NULL);
    nbd_server_free(exchange_server(daemon, NULL));
}

/*
 * Undo start(), however far it came: accept nobody, answer what is in flight,
 * sync and close the devices.  What waits for the store is cut off when it is
 * too late, or at another signal; reads that are cut off are not answered.
 */
static int stop(struct daemon *daemon)
{
    int close_error;

    remove_sockets(daemon);
    if (daemon->server)
        stop_server(daemon);
    else
        common_limit_closing(&daemon->resources, daemon->signals,
                             STORE_DEADLINE_MS);
    close_error = common_close_resources(&daemon->resources, true);
    fd_store_close(&daemon->fds);
    if (daemon->signals >= 0)
        (void)close(daemon->signals);
    if (daemon->finished >= 0)
        (void)close(daemon->finished);
    pid_file_remove(&daemon->pid_file);
    return close_error;
}

/* All is well: the process in the foreground may end. */
static void leave_foreground(struct daemon *daemon)
{
    if (daemon->report_fd < 0)
        return;
    if (!background_leave_terminal())
        log_open(program.name, LOG_TARGET_JOURNAL,
                 (enum log_level)daemon->config->log_level);
    background_report(&daemon->report_fd, COMMON_OK);
}

static int run(struct daemon *daemon)
{
    int error = start(daemon);

    if (!error) {
        log_info("serving; devices: %zu, sockets: %zu",
                 common_count_devices(&daemon->resources, COMMON_DEVICE_OPEN),
                 daemon->listeners);
        common_notify("READY=1");
        leave_foreground(daemon);
        wait_for_end(daemon);
        common_notify("STOPPING=1");
    }
    if (error)
        (void)stop(daemon);
    else
        error = stop(daemon);
    log_info("%s", error ? "ended, with an error" : "ended");
    return error ? COMMON_FAILED : COMMON_OK;
}

/* Whether the bucket can be used; the directory is looked at elsewhere. */
static void check_bucket(const struct config *config)
{
    struct object_store *store;

    if (config->s3dir || config->devices_count == 0 ||
        common_open_store(config, &store) != 0)
        return;
    (void)common_check_store(config, store);
    store->close(store);
}

/* Check the configuration, and whether what it names is there. */
static int check_only(const struct daemon *daemon)
{
    if (daemon->config->devices_count == 0)
        log_warning("%s: there is no device", daemon->options.config_path);
    if (daemon->config->listen.count == 0)
        log_warning("%s: there is no listen; sockets have to be handed over",
                    daemon->options.config_path);
    common_check_directories(daemon->config);
    check_bucket(daemon->config);
    (void)printf("%s: no mistakes\n", daemon->options.config_path);
    return COMMON_OK;
}

int main(int argc, char **argv)
{
    struct daemon daemon = {
        .fds = {.connected = -1},
        .signals = -1,
        .finished = -1,
        .report_fd = -1,
        .pid_file = {.fd = -1},
    };
    int code = common_parse_options(&program, argc, argv, &daemon.options);

    if (code != COMMON_GO_ON)
        return code;
    code = common_load_config(&program, daemon.options.config_path,
                              &daemon.config);
    if (code != COMMON_GO_ON)
        return code;
    if (daemon.options.check_only) {
        code = check_only(&daemon);
        config_free(daemon.config);
        return code;
    }
    common_prepare_process();
    check_hand_over(&daemon);
    mutex_init(&daemon.server_lock);
    common_reload_init(&daemon.reload, daemon.options.config_path,
                       daemon.config, &daemon.resources);
    code = COMMON_FAILED;
    if (take_sockets(&daemon) == 0 &&
        pid_file_take(daemon.options.pid_path, false, &daemon.pid_file) == 0 &&
        (!daemon.options.pid_path || background_enter(&daemon.report_fd) == 0))
        code = run(&daemon);
    background_report(&daemon.report_fd, code);
    common_reload_done(&daemon.reload);
    mutex_done(&daemon.server_lock);
    config_free(daemon.config);
    return code;
}
