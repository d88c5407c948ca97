/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * common_resources - all that is open: the store, the workers, the devices.
 *
 * Devices are opened side by side (cache/opener.h); what needs the store and
 * does not reach it waits, or is left out.
 *
 * Threads: the program's first; try_device, those of the opener.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bandwidth.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/workers.h"
#include "cache/control_server.h"
#include "cache/interrupter.h"
#include "cache/opener.h"
#include "cache/put_probe.h"
#include "cache/upload_share.h"
#include "common.h"
#include "common_device.h"
#include "object_store.h"

/* What the store does not answer by then, it does not answer. */
enum { URGENT_MS = 3000 };

/* Say, once, that it is not served, and until when. */
static void say_not_open(const struct common_device *device, int error)
{
    const char *name = device->config->name;

    /* Another process may well have it, if we are no daemon. */
    if (error == -EWOULDBLOCK && device->opening->yield)
        return;
    if (error == -EHOSTDOWN && device->opening->opened)
        log_warning("%s: waits: the store is needed to open it; it is served "
                    "as soon as that answers",
                    name);
    else
        log_error("%s: cannot be opened, and is not served: %s", name,
                  error == -EHOSTDOWN ? "the store is needed for that"
                                      : log_errno(error));
}

/* opener_options.open */
static int try_device(void *item, unsigned tries)
{
    struct common_device *device = item;
    const struct common_opening *opening = device->opening;
    int error = common_device_open(device);

    if (!error) {
        atomic_store(&device->state, COMMON_DEVICE_OPEN);
        if (opening->opened)
            opening->opened(opening->context, device);
        if (tries > 0)
            log_info("%s: waits no longer, and is served",
                     device->config->name);
        atomic_store(&device->is_told, true);
        return 0;
    }
    if (error == -EHOSTDOWN && opening->opened) {
        if (tries == 0)
            say_not_open(device, error);
        atomic_store(&device->state, COMMON_DEVICE_WAITS);
        return error;
    }
    if (error != -ECANCELED) /* else it is the end */
        say_not_open(device, error);
    device->error = error;
    atomic_store(&device->state, COMMON_DEVICE_LEFT_OUT);
    if (opening->left_out)
        opening->left_out(opening->context, device);
    return 0; /* done with */
}

/* Prepare the next place for a device. */
static void add_place(struct common_resources *resources,
                      const struct config *config,
                      const struct config_device *device,
                      const struct common_opening *opening)
{
    struct common_device *next = &resources->devices[resources->devices_count];

    next->config = device;
    next->whole_config = config;
    next->opening = opening;
    next->resources = resources;
    resources->devices_count++; /* last: others may use it from now on */
}

/* Prepare a place for each device that is to be opened. */
static int list_devices(const struct config *config,
                        const struct common_opening *opening,
                        struct common_resources *resources)
{
    resources->devices =
        calloc(CONFIG_DEVICES_MAX, sizeof(*resources->devices));
    if (!resources->devices)
        return -ENOMEM;
    mutex_init(&resources->places_lock);
    for (size_t i = 0; i < config->devices_count; i++) {
        const struct config_device *device = &config->devices[i];

        if (!opening->only || opening->only == device)
            add_place(resources, config, device, opening);
    }
    return 0;
}

/* Returns the place of a device that was left out, or NULL. */
static struct common_device *find_left_out(struct common_resources *resources,
                                           const char *name)
{
    for (size_t i = 0; i < resources->devices_count; i++) {
        struct common_device *device = &resources->devices[i];

        if (atomic_load(&device->state) == COMMON_DEVICE_LEFT_OUT &&
            strcmp(device->config->name, name) == 0)
            return device;
    }
    return NULL;
}

int common_open_more(struct common_resources *resources,
                     const struct config *config,
                     const struct config_device *device)
{
    struct common_device *place = find_left_out(resources, device->name);
    int error;

    if (!resources->opener)
        return -EOPNOTSUPP;
    if (!place && resources->devices_count == CONFIG_DEVICES_MAX)
        return -ENOSPC;
    if (place) {
        mutex_lock(&resources->places_lock);
        place->config = device;
        place->whole_config = config;
        atomic_store(&place->state, COMMON_DEVICE_CLOSED);
        mutex_unlock(&resources->places_lock);
    } else {
        place = &resources->devices[resources->devices_count];
        add_place(resources, config, device, resources->devices[0].opening);
    }
    error = opener_add(resources->opener, place);
    if (error)
        atomic_store(&place->state, COMMON_DEVICE_LEFT_OUT);
    return error;
}

size_t common_count_devices(const struct common_resources *resources,
                            enum common_device_state state)
{
    size_t count = 0;

    for (size_t i = 0; i < resources->devices_count; i++)
        count += atomic_load(&resources->devices[i].state) == state;
    return count;
}

/* Open all that can be opened.  Returns the last error if there is none. */
static int open_devices(const struct config *config,
                        const struct common_opening *opening,
                        struct common_resources *resources)
{
    AUTO_FREE void **items = calloc(config->devices_count, sizeof(*items));
    struct opener_options options = {.open = try_device, .items = items};
    int error = items ? list_devices(config, opening, resources) : -ENOMEM;

    if (error)
        return error;
    options.items_count = resources->devices_count;
    for (size_t i = 0; i < options.items_count; i++)
        items[i] = &resources->devices[i];
    if (opening->is_urgent)
        common_hurry_store(config, resources->store, URGENT_MS);
    error = opener_start(&options, &resources->opener);
    common_hurry_store(config, resources->store, 0);
    if (error)
        return error;
    if (!opening->opened) { /* then none waits */
        opener_stop(resources->opener);
        resources->opener = NULL;
    }
    if (common_count_devices(resources, COMMON_DEVICE_LEFT_OUT) <
        resources->devices_count)
        return 0;
    return resources->devices[resources->devices_count - 1].error;
}

static int make_probe(struct common_resources *resources)
{
    resources->probe = calloc(1, sizeof(*resources->probe));
    if (!resources->probe)
        return -ENOMEM;
    put_probe_init(resources->probe);
    return 0;
}

/* What goes to the store is limited also where that is a directory. */
static int make_share(const struct config *config,
                      struct common_resources *resources)
{
    struct bandwidth_entry limits[CONFIG_LIST_MAX];
    size_t count = common_take_limits(&config->s3uploads, limits);

    return upload_share_new(limits, count, &resources->share);
}

static void *run_check(void *context)
{
    struct common_check *check = context;

    (void)common_check_store(check->config, check->store);
    return NULL;
}

/*
 * Ask whether the store can be used, beside the start if that is urgent.
 * Without an answer what is here can be served all the same.
 */
static void begin_check(const struct config *config,
                        const struct common_opening *opening,
                        struct common_resources *resources)
{
    struct common_check *check = &resources->check;

    check->config = config;
    check->store = resources->store;
    if (opening->is_urgent)
        check->is_running =
            thread_start("check", run_check, check, &check->thread) == 0;
    if (!check->is_running)
        (void)run_check(check);
}

static void end_check(struct common_check *check)
{
    if (check->is_running)
        (void)pthread_join(check->thread, NULL);
    check->is_running = false;
}

int common_open_resources(const struct config *config,
                          const struct common_opening *opening,
                          struct common_resources *ret_resources)
{
    struct common_resources *resources = ret_resources;
    int error;

    *resources = (struct common_resources){.store = NULL};
    if (config->devices_count == 0) {
        log_error("there is no device in the configuration");
        return -ENXIO;
    }
    error = common_open_store(config, &resources->store);
    if (!error)
        begin_check(config, opening, resources);
    if (!error)
        error = make_probe(resources);
    if (!error)
        error = make_share(config, resources);
    if (!error)
        error = workers_start("worker", config->workers, &resources->workers);
    if (!error)
        error =
            workers_start("fetcher", config->fetchers, &resources->fetchers);
    if (!error)
        error = open_devices(config, opening, resources);
    if (error)
        (void)common_close_resources(resources, false);
    return error;
}

void common_limit_closing(struct common_resources *resources, int fd,
                          unsigned ms)
{
    uint64_t deadline_ns = clock_after_ms(ms);
    int error = 0;

    if (resources->store && !resources->interrupter)
        error = interrupter_start(resources->store, fd, deadline_ns,
                                  &resources->interrupter);
    if (error)
        log_warning("closing may take long: %s", log_errno(error));
}

/*
 * Close those that are open, but none that its opener still uses.  Returns the
 * first error.
 */
static int close_devices(struct common_resources *resources, bool releases)
{
    int first_error = 0;

    for (size_t i = resources->devices_count; i > 0; i--) {
        struct common_device *device = &resources->devices[i - 1];
        int error = 0;

        if (atomic_load(&device->state) == COMMON_DEVICE_OPEN &&
            atomic_load(&device->is_told))
            error = common_device_close(device, releases && !device->stays);
        if (error)
            log_error("%s: was closed with an error: %s", device->config->name,
                      log_errno(error));
        first_error = first_error ? first_error : error;
    }
    return first_error;
}

int common_close_resources(struct common_resources *resources, bool releases)
{
    int first_error, error;

    control_server_stop(resources->status);
    opener_interrupt(resources->opener);
    first_error = close_devices(resources, releases);
    /* A try that runs is cut off, now that nobody else needs the store; it
     * may have opened a device, too. */
    if (resources->opener)
        resources->store->interrupt(resources->store);
    opener_stop(resources->opener);
    error = close_devices(resources, false);
    first_error = first_error ? first_error : error;
    workers_stop(resources->fetchers);
    workers_stop(resources->workers);
    if (resources->probe)
        put_probe_done(resources->probe);
    free(resources->probe);
    upload_share_free(resources->share);
    end_check(&resources->check);
    interrupter_stop(resources->interrupter);
    if (resources->store)
        resources->store->close(resources->store);
    if (resources->devices)
        mutex_done(&resources->places_lock);
    free(resources->devices);
    *resources = (struct common_resources){.store = NULL};
    return first_error;
}
