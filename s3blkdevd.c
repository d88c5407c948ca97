/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3blkdevd - serve the devices of the configuration over NBD.
 *
 * First of the five files of a request: here the server starts and listens;
 * nbd_listener.c accepts, nbd_handshake.c finds the device, and from there
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
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/background.h"
#include "base/clock.h"
#include "base/fd_store.h"
#include "base/log.h"
#include "base/net.h"
#include "base/pid_file.h"
#include "base/tls.h"
#include "cache/device.h"
#include "common.h"
#include "common_reload.h"
#include "daemon_clients.h"
#include "daemon_sockets.h"
#include "nbd/nbd_server.h"
#include "object_store.h"

enum { STATUS_INTERVAL_MS = 10000 };

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

struct daemon {
    struct common_options options;
    struct config *config;
    int signals;   /* signalfd */
    int finished;  /* eventfd: the one connection has ended */
    int report_fd; /* to the process in the foreground, or -1 */
    struct pid_file pid_file;
    struct common_opening opening;
    struct common_resources resources;
    struct common_reload reload;
    struct daemon_sockets sockets;
    struct daemon_clients clients;
    bool single_has_thread; /* the one connection */
    pthread_t single_thread;
};

/* ---- start -------------------------------------------------------------- */

/* Say what will not be as it was asked for. */
static void check_hand_over(const struct daemon *daemon,
                            const struct config *config)
{
    size_t room = fd_store_room();

    if (!daemon->options.hand_over)
        return;
    if (!fd_store_is_there())
        log_warning("--hand-over: NOTIFY_SOCKET is not set, so nobody keeps "
                    "the connections of clients: they end with this process");
    else if (config->max_connections > room)
        log_warning("maxconnections is %u, but no more than %zu connections "
                    "outlive a restart: the service needs "
                    "FileDescriptorStoreMax=%u and, to tell so, "
                    "Environment=FDSTORE_MAX=%u",
                    config->max_connections, room, 2 * config->max_connections,
                    2 * config->max_connections);
}

static int open_resources(struct daemon *daemon)
{
    daemon_clients_opening(&daemon->clients, daemon->options.single,
                           &daemon->opening);
    return common_open_resources(daemon->config, &daemon->opening,
                                 &daemon->resources);
}

static void *serve_single(void *context)
{
    struct daemon *daemon = context;
    int error = nbd_server_serve(daemon->clients.server,
                                 daemon->sockets.handed_over.connected);

    if (error && error != -ESHUTDOWN)
        log_error("the connection: %s", log_errno(error));
    (void)eventfd_write(daemon->finished, 1);
    return NULL;
}

static int start_single(struct daemon *daemon)
{
    int error;

    if (daemon->sockets.handed_over.connected < 0)
        return 0;
    net_prepare(daemon->sockets.handed_over.connected);
    error = -pthread_create(&daemon->single_thread, NULL, serve_single, daemon);
    daemon->single_has_thread = error == 0;
    if (error) {
        (void)close(daemon->sockets.handed_over.connected);
        daemon->sockets.handed_over.connected = -1;
    }
    return error;
}

/* All steps of a start, in order. */
static int start(struct daemon *daemon)
{
    struct tls_context *tls = NULL;
    int error = common_open_signals(&daemon->signals);

    if (!error) {
        daemon->finished = eventfd(0, EFD_CLOEXEC);
        error = daemon->finished < 0 ? -errno : 0;
    }
    if (!error)
        error = common_load_tls(daemon->config, &tls);
    if (!error)
        error = open_resources(daemon);
    if (!error)
        error = daemon_clients_start(&daemon->clients, tls);
    tls_free(tls); /* the server holds it */
    if (!error)
        error = common_serve_status(daemon->config, &daemon->resources);
    if (!error)
        error = daemon_sockets_listen(&daemon->sockets, daemon->config,
                                      daemon->clients.server);
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

    nbd_server_status(daemon->clients.server, &server);
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
        open, daemon->resources.devices_count, daemon->sockets.listeners,
        failed, waiting, server.connections, parked, journal_used >> 20);
}

/* Read the configuration again; what is wrong with it is logged. */
static void reload(struct daemon *daemon)
{
    log_info("SIGHUP: %s is read again", daemon->reload.path);
    common_notify("RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                  clock_monotonic_ns() / 1000);
    if (common_reload_run(&daemon->reload, daemon->clients.server) == 0)
        check_hand_over(daemon, daemon->reload.current);
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

/* Whether clients are left to the next process. */
static bool hands_over(const struct daemon *daemon)
{
    return daemon->options.hand_over && fd_store_is_there() &&
           daemon->sockets.handed_over.connected < 0;
}

/*
 * Undo start(), however far it came: accept nobody, answer what is in flight,
 * sync and close the devices.  What waits for the store is cut off when it is
 * too late, or at another signal; reads that are cut off are not answered.
 */
static int stop(struct daemon *daemon)
{
    int close_error;

    daemon_sockets_remove(&daemon->sockets);
    daemon_clients_stop(&daemon->clients, daemon->signals, hands_over(daemon));
    if (daemon->single_has_thread)
        (void)pthread_join(daemon->single_thread, NULL);
    daemon_clients_free(&daemon->clients);
    close_error = common_close_resources(&daemon->resources, true);
    fd_store_close(&daemon->sockets.handed_over);
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
                 daemon->sockets.listeners);
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
static bool check_bucket(const struct config *config)
{
    struct object_store *store;
    int error;

    if (config->s3dir || config->devices_count == 0)
        return true;
    error = common_open_store(config, &store);
    if (error == 0) {
        error = common_check_store(config, store);
        store->close(store);
    }
    return error == 0;
}

/*
 * Check the configuration, and whether what it names is there.  If not, that
 * is told and is no error: a disk or a store that is away comes back.
 */
static int check_only(const struct daemon *daemon)
{
    bool is_usable;

    if (daemon->config->devices_count == 0)
        log_warning("%s: there is no device", daemon->options.config_path);
    if (daemon->config->listen.count == 0)
        log_warning("%s: there is no listen; sockets have to be handed over",
                    daemon->options.config_path);
    is_usable = common_check_directories(daemon->config);
    is_usable &= check_bucket(daemon->config);
    (void)printf("%s: no mistakes%s\n", daemon->options.config_path,
                 is_usable ? ""
                           : " in it, but not all that it names can be used");
    return COMMON_OK;
}

int main(int argc, char **argv)
{
    struct daemon daemon = {
        .sockets = {.handed_over = {.connected = -1}},
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
    if (code == COMMON_CONFIG && !daemon.options.check_only &&
        fd_store_has_left())
        return COMMON_FAILED; /* which is tried again: clients wait */
    if (code != COMMON_GO_ON)
        return code;
    if (daemon.options.check_only) {
        code = check_only(&daemon);
        config_free(daemon.config);
        return code;
    }
    common_prepare_process();
    check_hand_over(&daemon, daemon.config);
    common_reload_init(&daemon.reload, daemon.options.config_path,
                       daemon.config, &daemon.resources);
    daemon.clients = (struct daemon_clients){
        .config = daemon.config,
        .resources = &daemon.resources,
        .reload = &daemon.reload,
        .handed_over = &daemon.sockets.handed_over,
    };
    daemon_clients_init(&daemon.clients);
    code = COMMON_FAILED;
    if (daemon_sockets_take(&daemon.sockets, daemon.config,
                            daemon.options.config_path,
                            daemon.options.single) == 0 &&
        pid_file_take(daemon.options.pid_path, false, &daemon.pid_file) == 0 &&
        (!daemon.options.pid_path || background_enter(&daemon.report_fd) == 0))
        code = run(&daemon);
    background_report(&daemon.report_fd, code);
    daemon_clients_done(&daemon.clients);
    common_reload_done(&daemon.reload);
    config_free(daemon.config);
    return code;
}
