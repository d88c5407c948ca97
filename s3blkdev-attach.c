/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3blkdev-attach - attach devices of the kernel to exports, so that they
 * survive the end of the server.
 *
 * The kernel does all of the work on a device; this tells it what to do
 * (lib/attach/nbd_driver.c), makes the connections that it wants
 * (lib/attach/backend.c), and with --watch brings back those that are lost
 * (lib/attach/watch.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "attach/attach.h"
#include "attach/attach_command.h"
#include "attach/attach_state.h"
#include "attach/block_device.h"
#include "attach/nbdtab.h"
#include "attach/watch.h"
#include "base/auto.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/human.h"
#include "base/log.h"

#define PROGRAM     "s3blkdev-attach"
#define VERSION     "1.0-dev"
#define NBDTAB_PATH "/etc/nbdtab"

enum { LOOK_PATIENCE_S = 3 }; /* of list, for each server */

/* How the program ends; the manual page says the same. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NBDTAB = 3, /* no line of the device, or a wrong one */
    EXIT_IN_USE = 4, /* the device is mounted, or attached already */
    EXIT_STALE = 5,  /* the server's content is not the device's */
};

static const char usage[] =
    "usage: " PROGRAM " attach [OPTION...] NBDN\n"
    "           attach it as its line in " NBDTAB_PATH " says\n"
    "       " PROGRAM " attach [OPTION...] NBDN EXPORT SOCKET|HOST[:PORT]\n"
    "       " PROGRAM " detach [--force] NBDN\n"
    "       " PROGRAM " list\n"
    "       " PROGRAM " resize NBDN\n"
    "           after the export has grown\n"
    "       " PROGRAM " reconnect [--force] NBDN | --all\n"
    "           give it connections in place of lost ones\n"
    "       " PROGRAM " -h | -V\n"
    "\n"
    "  --watch             stay, and bring back connections that are lost\n"
    "  -C, --connections N use so many connections (1)\n"
    "  --block-size BYTES  of the device (4096)\n"
    "  --timeout S         after which a connection that leaves a request\n"
    "                      unanswered is given up (0: never)\n"
    "  --dead-timeout S    how long requests wait without a connection (600)\n"
    "  --read-only         let nobody write\n"
    "  --force             detach: also if it is in use;\n"
    "                      reconnect: also if nobody knows what it was\n"
    "                      attached to\n"
    "  -c, --nbdtab FILE   instead of " NBDTAB_PATH "\n"
    "  -h, -V              show this help; show the version\n";

static enum exit_code exit_code_of(int error)
{
    switch (error) {
    case 0:
        return EXIT_OK;
    case -EBUSY:
        return EXIT_IN_USE;
    case -ESTALE:
        return EXIT_STALE;
    default:
        return EXIT_FAILED;
    }
}

/* Say what went wrong; returns how to end. */
static enum exit_code failed(int error, const struct net_failure *failure)
{
    if (error)
        log_error("%s", failure->text);
    return exit_code_of(error);
}

/* ---- targets ------------------------------------------------------------ */

static int read_nbdtab(const char *path, uint32_t index,
                       struct target *ret_target,
                       struct net_failure *ret_failure)
{
    AUTO_FREE char *text = malloc(NBDTAB_MAX);
    AUTO_CLOSE int fd = file_open(AT_FDCWD, path, O_RDONLY, 0);
    struct net_failure inner;
    ssize_t len;
    int error;

    if (!text || fd < 0) {
        error = text ? fd : -ENOMEM;
        net_failure_set(ret_failure, error, "%s: %s", path, log_errno(error));
        return error;
    }
    len = file_read(fd, text, NBDTAB_MAX, 0);
    if (len < 0 || len == NBDTAB_MAX) {
        error = len < 0 ? (int)len : -EFBIG;
        net_failure_set(ret_failure, error, "%s: %s", path, log_errno(error));
        return error;
    }
    error = nbdtab_find(text, (size_t)len, index, ret_target, &inner);
    if (error)
        net_failure_set(ret_failure, error, "%s: %s", path, inner.text);
    return error;
}

/* What the command line, and nbdtab, say that is to be attached. */
static int target_of_command(const struct attach_command *command,
                             struct target *ret_target,
                             struct net_failure *ret_failure)
{
    int error = 0;

    target_init(ret_target);
    ret_target->index = command->index;
    if (!command->server)
        error = read_nbdtab(command->nbdtab ? command->nbdtab : NBDTAB_PATH,
                            command->index, ret_target, ret_failure);
    return error ? error
                 : attach_command_apply(command, ret_target, ret_failure);
}

/* Load what was kept of the device as it is attached now. */
static bool load_kept(const struct attach_host *host, uint32_t index,
                      struct target *ret_target, uint32_t *ret_alive)
{
    return attach_state_load(host->state_dir, index,
                             block_device_attached_by(host->root, index),
                             ret_target, ret_alive) == 0;
}

/*
 * What an attached device is attached to, as it was kept, or in nbdtab, which
 * for a device that was attached by other means need not be true.
 */
static int target_of_device(const struct attach_host *host,
                            const struct attach_command *command,
                            uint32_t index, struct target *ret_target,
                            bool *ret_is_kept, struct net_failure *ret_failure)
{
    uint32_t alive;

    *ret_is_kept = load_kept(host, index, ret_target, &alive);
    if (*ret_is_kept)
        return 0;
    return read_nbdtab(command->nbdtab ? command->nbdtab : NBDTAB_PATH, index,
                       ret_target, ret_failure);
}

/* Take the device's lock, so that no two of us work on it; or say why not. */
static int lock(const struct attach_host *host, uint32_t index,
                struct net_failure *ret_failure)
{
    char name[TARGET_NAME_SIZE];
    int fd = attach_state_lock(host->state_dir, index);

    (void)target_name(index, name);
    if (fd == -EWOULDBLOCK) {
        net_failure_set(ret_failure, -EBUSY,
                        "%s: another " PROGRAM " watches it, or is at work",
                        name);
        return -EBUSY;
    }
    if (fd < 0)
        net_failure_set(ret_failure, fd, "%s: %s", host->state_dir,
                        log_errno(fd));
    return fd;
}

/* ---- attach ------------------------------------------------------------- */

static void tell_systemd(void *context, const char *text)
{
    char message[600];

    (void)context;
    (void)snprintf(message, sizeof(message), "READY=1\nSTATUS=%s", text);
    (void)sd_notify(0, message);
}

/*
 * What a process needs that a disk waits for: its memory must not have to be
 * read from that disk first, nor be had by writing to it.  Without either it
 * works as well, but for such a disk.
 */
static void prepare_watcher(void)
{
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        log_warning("mlockall: %s", log_errno(-errno));
    if (prctl(PR_SET_IO_FLUSHER, 1UL, 0UL, 0UL, 0UL) < 0)
        log_warning("PR_SET_IO_FLUSHER: %s", log_errno(-errno));
}

static int watch(const struct attach_host *host, struct target *target,
                 struct net_failure *ret_failure)
{
    struct watch_options options = {.host = host, .tell = tell_systemd};
    char name[TARGET_NAME_SIZE];
    int error = nbd_driver_open(&options.events, ret_failure);

    if (error)
        return error;
    prepare_watcher();
    error = nbd_driver_listen(options.events);
    if (error)
        net_failure_set(ret_failure, error, "netlink events: %s",
                        log_errno(error));
    else
        error = watch_run(&options, target, ret_failure);
    nbd_driver_close(options.events);
    if (error == 0)
        log_info("%s: is detached", target_name(target->index, name));
    return error;
}

/* Attach and go: nothing is watched, the connections are the kernel's. */
static int attach_once(const struct attach_host *host, struct target *target,
                       struct net_failure *ret_failure)
{
    char name[TARGET_NAME_SIZE];
    struct links *links;
    int error = links_new(&links);

    if (error) {
        net_failure_set(ret_failure, error, "epoll: %s", log_errno(error));
        return error;
    }
    error = attach_device(host, target, links, ret_failure);
    links_free(links);
    if (error == 0)
        log_info("%s: attached", target_name(target->index, name));
    return error;
}

static enum exit_code run_attach(const struct attach_host *host,
                                 const struct attach_command *command)
{
    struct net_failure failure;
    struct target target;
    AUTO_CLOSE int lock_fd = -1;
    int error = target_of_command(command, &target, &failure);

    if (error) {
        (void)failed(error, &failure);
        return command->server ? EXIT_USAGE : EXIT_NBDTAB;
    }
    lock_fd = lock(host, target.index, &failure);
    if (lock_fd < 0)
        return failed(lock_fd, &failure);
    error = command->watch ? watch(host, &target, &failure)
                           : attach_once(host, &target, &failure);
    return failed(error, &failure);
}

/* ---- detach, resize, reconnect ------------------------------------------ */

static enum exit_code run_detach(const struct attach_host *host,
                                 const struct attach_command *command)
{
    /* Of systemd, the second one when there is no watcher any more.  There is
     * one thread. */
    /* NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *result = getenv("SERVICE_RESULT");
    /* NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *code = getenv("EXIT_CODE");
    /* One that was killed did not see its device go. */
    bool has_ended = code && strcmp(code, "exited") == 0;
    struct net_failure failure;
    int error =
        result ? attach_detach_service(host, command->index, command->force,
                                       result, has_ended, &failure)
               : attach_detach(host, command->index, command->force, &failure);

    return failed(error, &failure);
}

static enum exit_code run_resize(const struct attach_host *host,
                                 const struct attach_command *command)
{
    char name[TARGET_NAME_SIZE], before_text[HUMAN_TEXT], now_text[HUMAN_TEXT];
    struct net_failure failure;
    struct target target;
    uint64_t before = 0, now = 0;
    bool is_kept;
    int error = target_of_device(host, command, command->index, &target,
                                 &is_kept, &failure);

    /* A server that tells no incarnation may have grown its export, too. */
    if (error == 0)
        error = attach_resize(host, &target, is_kept, &before, &now, &failure);
    if (error)
        return failed(error, &failure);
    (void)target_name(target.index, name);
    if (now == before)
        (void)printf("%s: has %s, as its export\n", name,
                     human_size(now, now_text));
    else
        (void)printf("%s: has grown from %s to %s\n", name,
                     human_size(before, before_text),
                     human_size(now, now_text));
    return EXIT_OK;
}

static int reconnect(const struct attach_host *host,
                     const struct attach_command *command, uint32_t index,
                     uint32_t *ret_taken, struct net_failure *ret_failure)
{
    struct target target;
    struct links *links;
    bool is_kept;
    AUTO_CLOSE int lock_fd = lock(host, index, ret_failure);
    int error = lock_fd < 0 ? lock_fd : 0;

    if (error == 0)
        error = target_of_device(host, command, index, &target, &is_kept,
                                 ret_failure);
    if (error)
        return error;
    error = links_new(&links);
    if (error) {
        net_failure_set(ret_failure, error, "epoll: %s", log_errno(error));
        return error;
    }
    error = attach_restore(host, &target, command->force, links, ret_taken,
                           ret_failure);
    links_free(links);
    return error;
}

static enum exit_code run_reconnect_one(const struct attach_host *host,
                                        const struct attach_command *command,
                                        uint32_t index)
{
    char name[TARGET_NAME_SIZE];
    struct net_failure failure;
    uint32_t taken = 0;
    int error = reconnect(host, command, index, &taken, &failure);

    (void)target_name(index, name);
    if (taken > 0)
        (void)printf("%s: %u connections replaced\n", name, taken);
    else if (error == 0)
        (void)printf("%s: no connection is missing\n", name);
    return failed(error, &failure);
}

static enum exit_code run_reconnect(const struct attach_host *host,
                                    const struct attach_command *command)
{
    enum exit_code worst = EXIT_OK;
    AUTO_FREE uint32_t *indexes = NULL;
    size_t count;
    int error;

    if (!command->all)
        return run_reconnect_one(host, command, command->index);
    error = nbd_driver_list(host->driver, &indexes, &count);
    if (error) {
        log_error("netlink: %s", log_errno(error));
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        enum exit_code code = run_reconnect_one(host, command, indexes[i]);

        if (code > worst)
            worst = code;
    }
    return worst;
}

/* ---- list --------------------------------------------------------------- */

/* What can be said of a device that nobody watches: how is its server? */
static const char *state_of_server(const struct target *target,
                                   const struct block_device *device)
{
    uint64_t deadline_ns =
        clock_monotonic_ns() + LOOK_PATIENCE_S * UINT64_C(1000000000);
    struct net_failure failure;
    char name[BACKEND_NAME_SIZE];

    if (backend_look(target, deadline_ns, name, &failure) != 0)
        return "no answer";
    return strcmp(name, device->backend) == 0 ? "server there"
                                              : "other content";
}

static void list_device(const struct attach_host *host, uint32_t index)
{
    char name[TARGET_NAME_SIZE], size[HUMAN_TEXT], connections[32] = "?";
    char server[TARGET_SERVER_SIZE + 16] = "?";
    struct block_device device;
    struct target target;
    const char *state = "foreign";
    uint32_t alive;

    if (block_device_read(host->root, index, &device) != 0)
        return; /* it is gone by now */
    (void)human_size(device.size, size);
    if (device.attached_by == 0) /* somebody has it open, no more */
        return;
    if (load_kept(host, index, &target, &alive)) {
        (void)target_server_name(&target, server);
        if (attach_state_is_locked(host->state_dir, index)) {
            (void)snprintf(connections, sizeof(connections), "%u/%u", alive,
                           target.connections);
            state = alive == target.connections ? "watched" : "reconnecting";
        } else {
            (void)snprintf(connections, sizeof(connections), "%u",
                           target.connections);
            state = state_of_server(&target, &device);
        }
    }
    (void)printf("%-8s %10s %11s  %-13s %s %s\n", target_name(index, name),
                 size, connections, state, server,
                 device.backend[0] ? device.backend : "?");
}

static enum exit_code run_list(const struct attach_host *host)
{
    AUTO_FREE uint32_t *indexes = NULL;
    size_t count;
    int error = nbd_driver_list(host->driver, &indexes, &count);

    if (error) {
        log_error("netlink: %s", log_errno(error));
        return EXIT_FAILED;
    }
    if (count > 0)
        (void)printf("%-8s %10s %11s  %-13s %s\n", "DEVICE", "SIZE",
                     "CONNECTIONS", "STATE", "SERVER EXPORT");
    for (size_t i = 0; i < count; i++)
        list_device(host, indexes[i]);
    return EXIT_OK;
}

/* ---- main --------------------------------------------------------------- */

static enum exit_code run(const struct attach_host *host,
                          const struct attach_command *command)
{
    switch (command->verb) {
    case ATTACH_ATTACH:
        return run_attach(host, command);
    case ATTACH_DETACH:
        return run_detach(host, command);
    case ATTACH_LIST:
        return run_list(host);
    case ATTACH_RESIZE:
        return run_resize(host, command);
    case ATTACH_RECONNECT:
        return run_reconnect(host, command);
    case ATTACH_HELP:
        (void)printf("%s", usage);
        return EXIT_OK;
    case ATTACH_VERSION:
        (void)printf("%s %s\n", PROGRAM, VERSION);
        return EXIT_OK;
    }
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct attach_host host = {.root = "", .state_dir = ATTACH_STATE_DIR};
    struct attach_command command;
    struct net_failure failure;
    enum exit_code code;
    int error = attach_command_parse(argc, argv, &command, &failure);

    if (error) {
        (void)fprintf(stderr, "%s: %s\n%s", PROGRAM, failure.text, usage);
        return EXIT_USAGE;
    }
    log_open(PROGRAM, LOG_TARGET_AUTO, LOG_LEVEL_INFO);
    (void)signal(SIGPIPE, SIG_IGN);
    if (command.verb != ATTACH_HELP && command.verb != ATTACH_VERSION) {
        error = nbd_driver_open(&host.driver, &failure);
        if (error)
            return (int)failed(error, &failure);
    }
    code = run(&host, &command);
    nbd_driver_close(host.driver);
    return (int)code;
}
