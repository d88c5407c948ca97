/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/attach.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "attach/attach_state.h"
#include "attach/block_device.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/stream.h"
#include "nbd/nbd_protocol.h"

/*
 * A request that was under way when its connection was lost is sent again when
 * its timer fires, which is 30 s by default.  A device with one connection and
 * without a timeout does nothing else at that timer, so it may be short; one
 * with several takes the connection of a slow request for dead.
 */
enum { TIMER_MS = 5000, TIMER_DEFAULT_MS = 30000 };

/* Between two looks whether a device is still open. */
static const uint64_t OPEN_PAUSE_NS = UINT64_C(50000000);

static uint64_t deadline(void)
{
    return clock_monotonic_ns() + ATTACH_PATIENCE_S * UINT64_C(1000000000);
}

static int driver_failed(uint32_t index, int error, const char *what,
                         struct net_failure *ret_failure)
{
    char name[TARGET_NAME_SIZE];

    net_failure_set(ret_failure, error, "%s: %s: %s", target_name(index, name),
                    what, log_errno(error));
    return error;
}

int attach_check(const struct attach_host *host, uint32_t index,
                 struct net_failure *ret_failure)
{
    bool is_configured;
    char name[TARGET_NAME_SIZE];
    int error = nbd_driver_is_configured(host->driver, index, &is_configured);

    if (error)
        return driver_failed(index, error, "cannot ask the kernel",
                             ret_failure);
    /* One that somebody has open is configured, with nothing. */
    if (is_configured && block_device_attached_by(host->root, index) != 0)
        return 0;
    net_failure_set(ret_failure, -ENOTCONN, "%s is not attached",
                    target_name(index, name));
    return -ENOTCONN;
}

/* ---- attach ------------------------------------------------------------- */

/* Check what the kernel would not take, or make of it something else. */
static int check_export(const struct target *target,
                        const struct client_export *export_info,
                        struct net_failure *ret_failure)
{
    if (export_info->size == 0 || export_info->size % target->block_size != 0) {
        net_failure_set(ret_failure, -EINVAL,
                        "the export has %llu bytes, which is no multiple of "
                        "the block size %u",
                        (unsigned long long)export_info->size,
                        target->block_size);
        return -EINVAL;
    }
    if (export_info->block_size_min > target->block_size) {
        net_failure_set(ret_failure, -EINVAL,
                        "the server wants blocks of at least %u bytes, not %u",
                        export_info->block_size_min, target->block_size);
        return -EINVAL;
    }
    return 0;
}

/* Whether somebody has the device open, which is not attached. */
static bool is_only_open(const struct attach_host *host, uint32_t index)
{
    bool is_configured;

    return nbd_driver_is_configured(host->driver, index, &is_configured) == 0 &&
           is_configured && block_device_attached_by(host->root, index) == 0;
}

/*
 * The kernel refuses a device that somebody has open, and something on each
 * host opens devices that appear or change, for a moment, to see what they are.
 * The kernel logs what it refuses, so that it is asked when it may agree.
 */
static int connect_when_closed(const struct attach_host *host,
                               const struct nbd_driver_config *config)
{
    uint64_t deadline_ns = deadline();
    int error;

    do {
        while (is_only_open(host, config->index) &&
               clock_monotonic_ns() < deadline_ns) {
            struct pollfd none = {.fd = -1};

            (void)stream_wait_fds(&none, 1,
                                  clock_monotonic_ns() + OPEN_PAUSE_NS);
        }
        error = nbd_driver_connect(host->driver, config);
    } while (error == -EBUSY && is_only_open(host, config->index) &&
             clock_monotonic_ns() < deadline_ns);
    return error;
}

static int configure(const struct attach_host *host,
                     const struct target *target, const struct backend *backend,
                     const int fds[], struct net_failure *ret_failure)
{
    struct nbd_driver_config config = {
        .index = target->index,
        .size = backend->export_info.size,
        .block_size = target->block_size,
        .flags = backend->export_info.flags,
        .timeout_s = target->timeout_s,
        .dead_timeout_s = target->dead_timeout_s,
        .backend = backend->name[0] ? backend->name : NULL,
        .fds = fds,
        .fds_count = target->connections,
    };
    char name[TARGET_NAME_SIZE];
    int error;

    if (target->read_only)
        config.flags |= NBD_FLAG_READ_ONLY;
    error = connect_when_closed(host, &config);
    if (error == -EBUSY)
        net_failure_set(ret_failure, error,
                        "%s is attached, or still mounted or open since then",
                        target_name(target->index, name));
    else if (error)
        (void)driver_failed(target->index, error,
                            "the kernel does not attach it", ret_failure);
    return error;
}

/* Have the connections watched: before the kernel gets them, and then closed.
 */
static int watch_all(struct links *links, const int fds[], uint32_t count,
                     struct net_failure *ret_failure)
{
    for (uint32_t i = 0; i < count; i++) {
        int error = links_watch(links, fds[i]);

        if (error) {
            net_failure_set(ret_failure, error, "epoll: %s", log_errno(error));
            return error;
        }
    }
    return 0;
}

static void close_all(const int fds[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
    }
}

/* What should be so, and is not worth to fail for. */
static void finish_attach(const struct attach_host *host,
                          const struct target *target)
{
    char name[TARGET_NAME_SIZE];
    int error = 0;

    (void)target_name(target->index, name);
    if (target->connections == 1 && target->timeout_s == 0)
        error = block_device_set_timer(host->root, target->index, TIMER_MS);
    if (error)
        log_warning("%s: queue/io_timeout: %s: after a crash of the server "
                    "requests may take 30 s longer",
                    name, log_errno(error));
    error =
        attach_state_save(host->state_dir, target, target->connections,
                          block_device_attached_by(host->root, target->index));
    if (error)
        log_warning("%s: %s: %s: list and reconnect will not know of it", name,
                    host->state_dir, log_errno(error));
}

/* Connections to the export: as many as the server allows. */
static int open_backend(struct target *target, int fds[],
                        struct backend *ret_backend,
                        struct net_failure *ret_failure)
{
    char name[TARGET_NAME_SIZE];
    int error = backend_open(target, fds, target->connections, deadline(),
                             ret_backend, ret_failure);

    if (error || target->connections == 1 ||
        (ret_backend->export_info.flags & NBD_FLAG_CAN_MULTI_CONN) != 0)
        return error;
    log_warning("%s: the server allows one connection to this export, not %u",
                target_name(target->index, name), target->connections);
    close_all(fds + 1, target->connections - 1);
    target->connections = 1;
    return 0;
}

int attach_device(const struct attach_host *host, struct target *target,
                  struct links *links, struct net_failure *ret_failure)
{
    int fds[TARGET_CONNECTIONS_MAX];
    struct backend backend;
    char name[TARGET_NAME_SIZE];
    int error = open_backend(target, fds, &backend, ret_failure);

    if (error)
        return error;
    error = check_export(target, &backend.export_info, ret_failure);
    if (error == 0)
        error = watch_all(links, fds, target->connections, ret_failure);
    if (error == 0)
        error = configure(host, target, &backend, fds, ret_failure);
    close_all(fds, target->connections);
    if (error)
        return error;
    if (backend.name[0] == '\0')
        log_warning("%s: this server does not tell whether its content is "
                    "still the same, as s3blkdevd does: the device will not "
                    "be connected again by itself",
                    target_name(target->index, name));
    finish_attach(host, target);
    return 0;
}

/* ---- new connections ---------------------------------------------------- */

static size_t count_alive(struct links *links)
{
    struct links_count count;

    return links_count(links, &count) == 0 ? count.alive : 0;
}

/* The kernel refused: because of what? */
static int offer_failed(const struct attach_host *host, uint32_t index,
                        int error, struct net_failure *ret_failure)
{
    char name[TARGET_NAME_SIZE];

    if (error != -EINVAL)
        return driver_failed(
            index, error, "the kernel does not take a connection", ret_failure);
    error = attach_check(host, index, ret_failure);
    if (error)
        return error;
    net_failure_set(ret_failure, -EINVAL,
                    "%s: the kernel does not take a connection: it was "
                    "attached by other means, or detached while in use",
                    target_name(index, name));
    return -EINVAL;
}

/* Say the device's name in front of why it stays as it is. */
static int check_same(const struct target *target,
                      const struct backend *backend,
                      const struct block_device *device, bool any_content,
                      struct net_failure *ret_failure)
{
    struct backend assumed = *backend;
    struct net_failure failure;
    char name[TARGET_NAME_SIZE];
    int error;

    if (any_content && device->backend[0] == '\0')
        assumed.name[0] = '\0';
    else if (device->backend[0] == '\0') {
        net_failure_set(ret_failure, -ESTALE,
                        "%s: nobody knows which content it was attached to: "
                        "its server did not tell, or it was attached by "
                        "other means",
                        target_name(target->index, name));
        return -ESTALE;
    }
    error = backend_check(&assumed, device, &failure);
    if (error)
        net_failure_set(ret_failure, error, "%s: %s",
                        target_name(target->index, name), failure.text);
    return error;
}

/* Read what the device is; it is there, for it is attached. */
static int read_device(const struct attach_host *host, uint32_t index,
                       struct block_device *ret_device,
                       struct net_failure *ret_failure)
{
    int error = attach_check(host, index, ret_failure);

    if (error)
        return error;
    error = block_device_read(host->root, index, ret_device);
    return error ? driver_failed(index, error, "/sys/block", ret_failure) : 0;
}

/*
 * Offer connections until the kernel does not take one: that is seen when
 * nobody else holds it any more.  Those that were offered are closed.
 */
static int offer_all(const struct attach_host *host, uint32_t index,
                     const char *backend, int fds[], uint32_t count,
                     struct links *links, uint32_t *ret_taken,
                     struct net_failure *ret_failure)
{
    for (uint32_t i = 0; i < count; i++) {
        size_t alive = count_alive(links);
        int error = watch_all(links, &fds[i], 1, ret_failure);

        if (error)
            return error;
        error = nbd_driver_offer(host->driver, index, backend, fds[i]);
        if (error)
            return offer_failed(host, index, error, ret_failure);
        (void)close(fds[i]);
        fds[i] = -1;
        if (count_alive(links) <= alive)
            return 0;
        ++*ret_taken;
    }
    return 0;
}

int attach_restore(const struct attach_host *host, const struct target *target,
                   bool any_content, struct links *links, uint32_t *ret_taken,
                   struct net_failure *ret_failure)
{
    int fds[TARGET_CONNECTIONS_MAX];
    size_t alive = count_alive(links);
    struct block_device device;
    struct backend backend;
    uint32_t missing;
    int error = read_device(host, target->index, &device, ret_failure);

    *ret_taken = 0;
    if (error || alive >= target->connections)
        return error;
    missing = target->connections - (uint32_t)alive;
    error =
        backend_open(target, fds, missing, deadline(), &backend, ret_failure);
    if (error)
        return error;
    error = check_same(target, &backend, &device, any_content, ret_failure);
    if (error == 0)
        error = offer_all(host, target->index,
                          device.backend[0] ? device.backend : NULL, fds,
                          missing, links, ret_taken, ret_failure);
    close_all(fds, missing);
    return error;
}

/* ---- size, and the end -------------------------------------------------- */

int attach_resize(const struct attach_host *host, const struct target *target,
                  bool any_content, uint64_t *ret_before, uint64_t *ret_now,
                  struct net_failure *ret_failure)
{
    struct block_device device;
    struct backend backend;
    int fd = -1;
    int error = read_device(host, target->index, &device, ret_failure);

    if (error == 0)
        error = backend_open(target, &fd, 1, deadline(), &backend, ret_failure);
    if (error)
        return error;
    error = check_same(target, &backend, &device, any_content, ret_failure);
    if (error == 0)
        error = check_export(target, &backend.export_info, ret_failure);
    (void)close(fd);
    if (error)
        return error;
    *ret_before = device.size;
    *ret_now = backend.export_info.size;
    if (*ret_now == *ret_before)
        return 0;
    error =
        nbd_driver_resize(host->driver, target->index,
                          device.backend[0] ? device.backend : NULL, *ret_now);
    return error ? driver_failed(target->index, error,
                                 "the kernel does not change its size",
                                 ret_failure)
                 : 0;
}

int attach_detach(const struct attach_host *host, uint32_t index, bool force,
                  struct net_failure *ret_failure)
{
    char name[TARGET_NAME_SIZE];
    int error = attach_check(host, index, ret_failure);

    if (error == 0 && !force)
        error = block_device_check_unused(host->root, index, ret_failure);
    if (error)
        return error;
    error = nbd_driver_disconnect(host->driver, index);
    if (error)
        return driver_failed(index, error, "the kernel does not detach it",
                             ret_failure);
    /* It would stay for whoever attaches the device next. */
    (void)block_device_set_timer(host->root, index, TIMER_DEFAULT_MS);
    (void)attach_state_remove(host->state_dir, index);
    log_info("%s: detached", target_name(index, name));
    return 0;
}

int attach_detach_service(const struct attach_host *host, uint32_t index,
                          bool force, const char *service_result,
                          bool has_ended, struct net_failure *ret_failure)
{
    char name[TARGET_NAME_SIZE];
    int error;

    if (strcmp(service_result, "success") != 0) {
        log_info("%s: stays attached, for its watcher only has failed",
                 target_name(index, name));
        return 0;
    }
    if (has_ended)
        return 0;
    error = attach_detach(host, index, force, ret_failure);
    return error == -ENOTCONN ? 0 : error;
}
