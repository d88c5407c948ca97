/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What may have happened to a connection is told three ways: by the socket
 * itself, which links.c watches; by the driver's event, which is all there is
 * of connections that an earlier watcher made; and, if events were lost, by
 * offering one more connection and seeing whether the driver takes it.
 */
#include "attach/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "attach/attach_state.h"
#include "attach/block_device.h"
#include "base/clock.h"
#include "base/human.h"
#include "base/log.h"
#include "base/stream.h"

enum {
    DELAY_FIRST_MS = 100,
    DELAY_MAX_MS = 2000,
    LOOK_MS = 10000, /* whether the device is still attached */
};

struct watch {
    const struct watch_options *options;
    struct target *target;
    struct links *links;
    char name[TARGET_NAME_SIZE];
    uint32_t attached_by; /* tells our attachment from a later one */
    /* The driver may have lost a connection that links does not know of. */
    bool may_lack;
    uint32_t heard;       /* events of lost connections, since all were there */
    bool is_lost;         /* and was said to be */
    uint64_t lost_at_ns;  /* when that was */
    uint64_t next_try_ns; /* not before */
    unsigned delay_ms;
    char said[256]; /* why the last attempt failed, as it was logged */
};

unsigned watch_next_delay_ms(unsigned delay_ms)
{
    if (delay_ms == 0)
        return DELAY_FIRST_MS;
    return delay_ms < DELAY_MAX_MS / 2 ? delay_ms * 2 : DELAY_MAX_MS;
}

/* Whether it makes no sense to try again. */
static bool is_final(int error)
{
    switch (error) {
    case -ESTALE:   /* another content */
    case -EINVAL:   /* the kernel, or what the export is, does not fit */
    case -EPERM:    /* we are not root */
    case -ENOTSUP:  /* TLS */
    case -EBUSY:    /* of attaching: the device is in use */
    case -EMSGSIZE: /* the kernel's lists are not as we know them */
        return true;
    default:
        return false;
    }
}

static void wait_ms(unsigned ms)
{
    struct pollfd none = {.fd = -1};
    uint64_t deadline_ns = clock_monotonic_ns() + ms * UINT64_C(1000000);

    (void)stream_wait_fds(&none, 1, deadline_ns);
}

/* Log why an attempt failed, but not the same again and again. */
static void say_failure(struct watch *watch, const struct net_failure *failure)
{
    if (strcmp(watch->said, failure->text) == 0)
        return;
    (void)snprintf(watch->said, sizeof(watch->said), "%s", failure->text);
    log_warning("%s: %s; trying again", watch->name, failure->text);
}

static void plan_next_try(struct watch *watch)
{
    watch->delay_ms = watch_next_delay_ms(watch->delay_ms);
    watch->next_try_ns =
        clock_monotonic_ns() + watch->delay_ms * UINT64_C(1000000);
}

/* Tell how many connections there are. */
static void tell(struct watch *watch, uint32_t alive)
{
    char server[TARGET_SERVER_SIZE + 16], text[512];
    const struct target *target = watch->target;

    (void)snprintf(text, sizeof(text),
                   "%s: %" PRIu32 " of %" PRIu32
                   " connections to export %s of %s",
                   watch->name, alive, target->connections, target->export_name,
                   target_server_name(target, server));
    watch->options->tell(watch->options->context, text);
    (void)attach_state_save(watch->options->host->state_dir, target, alive,
                            watch->attached_by);
}

/* ---- the beginning ------------------------------------------------------ */

/* Whether the device could not be had only because somebody has it open. */
static bool is_only_open(const struct watch *watch, int error)
{
    struct net_failure failure;

    return error == -EBUSY &&
           attach_check(watch->options->host, watch->target->index, &failure) ==
               -ENOTCONN;
}

/* Attach, and wait for the server if it is not there. */
static int attach_when_possible(struct watch *watch,
                                struct net_failure *ret_failure)
{
    for (;;) {
        int error = attach_device(watch->options->host, watch->target,
                                  watch->links, ret_failure);

        if (error == 0 || (is_final(error) && !is_only_open(watch, error)))
            return error;
        say_failure(watch, ret_failure);
        plan_next_try(watch);
        wait_ms(watch->delay_ms);
    }
}

/*
 * Go on with a device that is attached, as it was attached: what an earlier
 * watcher kept is truer than what a file says now.
 */
static int take_over(struct watch *watch, struct net_failure *ret_failure)
{
    const struct attach_host *host = watch->options->host;
    uint32_t index = watch->target->index, alive;
    struct block_device device;
    struct target kept;
    int error = block_device_read(host->root, index, &device);

    if (error) {
        net_failure_set(ret_failure, error, "%s: /sys/block: %s", watch->name,
                        log_errno(error));
        return error;
    }
    if (!backend_is_of_export(device.backend, watch->target->export_name)) {
        net_failure_set(ret_failure, -EBUSY,
                        "%s is attached to %s%s: detach it first", watch->name,
                        device.backend[0] ? "export " : "",
                        device.backend[0] ? device.backend
                                          : "something, by other means or to "
                                            "a server other than s3blkdevd");
        return -EBUSY;
    }
    if (attach_state_load(host->state_dir, index, device.attached_by, &kept,
                          &alive) == 0 &&
        backend_is_of_export(device.backend, kept.export_name))
        watch->target->connections = kept.connections;
    watch->may_lack = true;
    log_info("%s: is attached to %s already, and watched from now on",
             watch->name, device.backend);
    return 0;
}

static int begin(struct watch *watch, struct net_failure *ret_failure)
{
    const struct attach_host *host = watch->options->host;
    uint32_t index = watch->target->index;
    int error = attach_check(host, index, ret_failure);

    if (error == 0) {
        error = take_over(watch, ret_failure);
    } else if (error == -ENOTCONN) {
        error = attach_when_possible(watch, ret_failure);
        if (error == 0)
            log_info("%s: attached", watch->name);
    }
    watch->attached_by = block_device_attached_by(host->root, index);
    return error;
}

/* ---- from then on ------------------------------------------------------- */

/* Take the driver's events: is one of them about us? */
static int take_events(struct watch *watch, struct net_failure *ret_failure)
{
    for (;;) {
        uint32_t index;
        int error = nbd_driver_next_event(watch->options->events, &index);

        if (error == -EAGAIN)
            return 0;
        if (error == -ENOBUFS)
            watch->may_lack = true;
        if (error == 0 && index == watch->target->index) {
            watch->may_lack = true;
            watch->heard++;
        }
        if (error != 0 && error != -ENOBUFS) {
            net_failure_set(ret_failure, error, "netlink events: %s",
                            log_errno(error));
            return error;
        }
    }
}

/* Say that connections are lost: so many as far as we know. */
static void note_lost(struct watch *watch, size_t lost)
{
    uint32_t all = watch->target->connections;

    if (watch->is_lost)
        return;
    watch->is_lost = true;
    watch->lost_at_ns = clock_monotonic_ns();
    log_warning("%s: a connection is lost; connecting again", watch->name);
    tell(watch, lost < all ? all - (uint32_t)lost : 0);
}

static void note_restored(struct watch *watch, uint32_t taken, uint32_t alive)
{
    char length[HUMAN_TEXT];
    uint64_t ns = clock_monotonic_ns() - watch->lost_at_ns;

    if (watch->is_lost || taken > 0)
        log_info("%s: connected again%s%s", watch->name,
                 watch->is_lost ? ", after " : "",
                 watch->is_lost ? human_duration(ns / 1000000000, length) : "");
    watch->is_lost = false;
    watch->heard = 0;
    watch->delay_ms = 0;
    watch->said[0] = '\0';
    tell(watch, alive);
}

static int count(struct watch *watch, struct links_count *ret_count,
                 struct net_failure *ret_failure)
{
    int error = links_count(watch->links, ret_count);

    if (error)
        net_failure_set(ret_failure, error, "/proc/self/fdinfo: %s",
                        log_errno(error));
    return error;
}

/* Try to give the device what it lacks. */
static int restore(struct watch *watch, struct net_failure *ret_failure)
{
    struct net_failure failure;
    struct links_count after;
    uint32_t taken;
    int error = attach_restore(watch->options->host, watch->target, false,
                               watch->links, &taken, &failure);
    int counted;

    if (is_final(error)) {
        *ret_failure = failure;
        return error;
    }
    if (error == -ENOTCONN)
        return error;
    if (error)
        say_failure(watch, &failure);
    counted = count(watch, &after, ret_failure);
    if (counted)
        return counted;
    /* One that is dead was not replaced: the driver has not seen it yet. */
    if (error || after.dead > 0) {
        plan_next_try(watch);
        return 0;
    }
    watch->may_lack = false;
    note_restored(watch, taken, watch->target->connections);
    return 0;
}

/* -ENOTCONN: the device is detached, or was, and then attached by others. */
static int check_ours(const struct watch *watch,
                      struct net_failure *ret_failure)
{
    const struct attach_host *host = watch->options->host;
    uint32_t index = watch->target->index;
    int error = attach_check(host, index, ret_failure);

    if (error == 0 &&
        block_device_attached_by(host->root, index) != watch->attached_by) {
        net_failure_set(ret_failure, -ENOTCONN, "%s was attached by others",
                        watch->name);
        error = -ENOTCONN;
    }
    return error;
}

/* Do what there is to do; -ENOTCONN: the device is no longer ours. */
static int step(struct watch *watch, struct net_failure *ret_failure)
{
    struct links_count now;
    int error = take_events(watch, ret_failure);

    if (error == 0)
        error = check_ours(watch, ret_failure);
    if (error == 0)
        error = count(watch, &now, ret_failure);
    if (error)
        return error;
    if (now.dead > 0 || watch->heard > 0)
        note_lost(watch, now.dead > watch->heard ? now.dead : watch->heard);
    if ((now.dead == 0 && !watch->may_lack) ||
        clock_monotonic_ns() < watch->next_try_ns)
        return 0;
    return restore(watch, ret_failure);
}

/* Wait for an event, the next attempt, or the next look. */
static void wait_for_event(const struct watch *watch)
{
    struct pollfd polled[] = {
        {.fd = nbd_driver_fd(watch->options->events), .events = POLLIN},
        {.fd = links_fd(watch->links), .events = POLLIN},
    };
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t deadline_ns = now_ns + LOOK_MS * UINT64_C(1000000);

    if (watch->next_try_ns > now_ns && watch->next_try_ns < deadline_ns)
        deadline_ns = watch->next_try_ns;
    (void)stream_wait_fds(polled, sizeof(polled) / sizeof(polled[0]),
                          deadline_ns);
}

int watch_run(const struct watch_options *options, struct target *target,
              struct net_failure *ret_failure)
{
    struct watch watch = {.options = options, .target = target};
    int error = links_new(&watch.links);

    (void)target_name(target->index, watch.name);
    if (error) {
        net_failure_set(ret_failure, error, "epoll: %s", log_errno(error));
        return error;
    }
    error = begin(&watch, ret_failure);
    if (error == 0)
        tell(&watch, target->connections);
    while (error == 0) {
        error = step(&watch, ret_failure);
        if (error == 0)
            wait_for_event(&watch);
    }
    links_free(watch.links);
    if (error != -ENOTCONN)
        return error;
    /* We may have kept it once more after who detached it had it forgotten. */
    (void)attach_state_remove(options->host->state_dir, target->index);
    return 0;
}
