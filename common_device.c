/* SPDX-License-Identifier: BSD-2-Clause */
#include "common_device.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/cache_dir.h"
#include "cache/control_client.h"
#include "cache/control_server.h"
#include "cache/device_grow.h"
#include "cache/device_tell.h"
#include "cache/owner.h"

/* Of the memory for plain blocks, one part in so many is for what nobody has
 * asked for yet. */
enum { READAHEAD_SHARE = 4 };

enum {
    YIELD_TIMEOUT_S = 60, /* for who has a cache directory that we want */
    YIELD_POLL_MS = 50,   /* while it has no socket yet; doubled each time */
    YIELD_POLL_MAX_MS = 2000,
};

/* Take "device@snapshot" apart. */
static int split_image(struct common_device *device,
                       struct device_options *options)
{
    char *at;

    if (!device->config->image)
        return 0;
    device->image = strdup(device->config->image);
    at = device->image ? strchr(device->image, '@') : NULL;
    if (!at)
        return -ENOMEM;
    *at = '\0';
    options->image_device = device->image;
    options->image_name = at + 1;
    return 0;
}

/* Open a device that nobody else has. */
static int open_device(const struct common_resources *resources,
                       struct common_device *device)
{
    const struct config_device *config = device->config;
    struct device_options options = {
        .name = config->name,
        .cachedir = config->cachedir,
        .journal_dir = config->journal,
        .size = config->size,
        .chunk_size = (uint32_t)config->chunk_size,
        .journal_size = config->journal_size,
        .block_cache_size = (size_t)config->cache_memory,
        .readahead = (size_t)config->cache_memory / READAHEAD_SHARE,
        .write_through = config->write_through,
        .read_only = config->read_only && !config->image,
        .cachesize = config->cache_size,
        .attach = device->opening->attach,
        .store = resources->store,
        .put_probe = resources->probe,
        .workers = resources->workers,
        .fetchers = resources->fetchers,
    };
    int error;

    free(device->image); /* of an attempt before */
    device->image = NULL;
    error = split_image(device, &options);
    return error ? error : device_open(&options, &device->device);
}

/*
 * A daemon is given the directory by whoever has it but another daemon.  Who
 * is about to open it has no socket yet, and is asked when it has.
 */
static int open_wanted_device(const struct common_resources *resources,
                              struct common_device *device)
{
    uint64_t deadline_ns =
        clock_monotonic_ns() + (uint64_t)YIELD_TIMEOUT_S * 1000000000U;
    int wait_ms = YIELD_POLL_MS;
    int error;

    for (;;) {
        error =
            control_client_ask_to_yield(device->config->cachedir, deadline_ns);
        if (error && error != -ENXIO) /* device_open says that better */
            return error;
        error = open_device(resources, device);
        if (error != -EWOULDBLOCK || clock_monotonic_ns() >= deadline_ns)
            return error;
        (void)poll(NULL, 0, wait_ms);
        if (wait_ms < YIELD_POLL_MAX_MS)
            wait_ms *= 2;
    }
}

static uint64_t connections_of(const struct common_device *device)
{
    return device->opening->connections(device->opening->context,
                                        device->device);
}

static void tell_clients_of(const struct common_device *device,
                            struct control_message *status)
{
    device->opening->tell_clients(device->opening->context, device->device,
                                  status);
}

/* The same for an owner, of which the device is the context. */
static uint64_t count_connections(void *context)
{
    return connections_of(context);
}

static void tell_clients(void *context, struct control_message *status)
{
    tell_clients_of(context, status);
}

/* What the configuration says of a device's limits. */
static struct owner_limits limits_of(const struct config *config,
                                     const struct config_device *device)
{
    return (struct owner_limits){
        .cachesize = device->cache_size,
        .keep = device->keep,
        .grace_ns = device->grace_s * 1000000000U,
        .max_age_ns = device->max_age_s * 1000000000U,
        .uploads = config->uploads,
        .upload_rate = config->upload_rate,
    };
}

static int start_owner(const struct common_resources *resources,
                       const struct config *config,
                       struct common_device *device)
{
    const struct common_opening *opening = device->opening;
    struct owner_options options = {
        .device = device->device,
        .store = resources->store,
        .limits = limits_of(config, device->config),
        .share = resources->share,
        .is_daemon = !opening->yield,
        .connections = opening->connections ? count_connections : NULL,
        .tell_clients = opening->tell_clients ? tell_clients : NULL,
        .context = device,
    };

    if (opening->uploads)
        options.limits.uploads = opening->uploads;
    return owner_start(&options, &device->owner);
}

void common_device_change(struct common_device *device,
                          const struct config *config,
                          const struct config_device *section)
{
    struct owner_limits limits = limits_of(config, section);

    if (device_grow(device->device, section->size) == 0 && device->control)
        control_server_set_size(device->control, section->size);
    if (device->owner)
        owner_set_limits(device->owner, &limits);
    else
        device_set_cachesize(device->device, limits.cachesize);
}

/* What is known of a device without an owner. */
static void describe_read_only(const struct common_device *device,
                               struct control_message *status)
{
    struct device_status known;

    device_status(device->device, &known);
    control_message_start(status, "ok");
    control_message_add(status, "device", device->config->name);
    control_message_add_number(status, "size", device_size(device->device));
    control_message_add_number(status, "chunk_size",
                               device_chunk_size(device->device));
    control_message_add(status, "state", "read-only");
    if (device->opening->connections)
        control_message_add_number(status, "connections",
                                   connections_of(device));
    control_message_add_number(status, "chunks", known.chunks_mapped);
    device_tell_chunks(device->device, status);
    control_message_add_number(status, "cold_reads", known.cold_reads);
    control_message_add_number(status, "damaged", known.damaged_reads);
    if (device->opening->tell_clients)
        tell_clients_of(device, status);
}

/* Answer for a device without an owner: there is nothing to ask of it. */
static int handle_read_only(void *context,
                            const struct control_message *request,
                            uint64_t holder, struct control_message *reply)
{
    (void)holder;
    if (control_message_is(request, "status"))
        describe_read_only(context, reply);
    else
        control_message_start_error(reply, -EROFS, "%s",
                                    "the device is only read");
    return 0;
}

static int serve_control(struct common_device *device)
{
    const struct common_opening *opening = device->opening;
    struct control_server_options options = {
        .dirfd = cache_dir_fd(device_cache_dir(device->device)),
        .device_name = device->config->name,
        .device_size = device_size(device->device),
        .chunk_size = device_chunk_size(device->device),
        .handler = {.handle = handle_read_only,
                    .context = device,
                    .yield = opening->yield,
                    .yield_context = opening->context},
    };
    int error;

    if (device->owner) {
        options.handler.handle = owner_handle;
        options.handler.gone = owner_holder_gone;
        options.handler.context = device->owner;
    }
    error = control_server_start(&options, &device->control);
    if (!error)
        return 0;
    if (!device->owner) {
        /* Its directory may be one that nobody can write to. */
        log_info("%s: cannot be asked how it is: no control socket: %s",
                 device->config->name, log_errno(error));
        return 0;
    }
    log_error("%s: the control socket cannot be served: %s",
              device->config->name, log_errno(error));
    return error;
}

int common_device_close(struct common_device *device, bool releases)
{
    int error;

    atomic_store(&device->state, COMMON_DEVICE_CLOSED);
    if (device->owner)
        owner_interrupt(device->owner);
    if (device->stays)
        control_server_leave(device->control);
    else
        control_server_stop(device->control);
    if (device->owner && releases)
        (void)owner_release(device->owner); /* logged; it stays ours */
    owner_stop(device->owner);
    error = device_close(device->device);
    free(device->image);
    device->control = NULL;
    device->owner = NULL;
    device->device = NULL;
    device->image = NULL;
    return error;
}

int common_device_open(struct common_device *device)
{
    const struct common_resources *resources = device->resources;
    int error;

    if (device->opening->yield)
        error = open_device(resources, device);
    else
        error = open_wanted_device(resources, device);
    if (error) {
        free(device->image);
        device->image = NULL;
        return error;
    }
    /* Who writes nothing here has nothing to upload, nor a claim. */
    if (!device->config->read_only)
        error = start_owner(resources, device->whole_config, device);
    if (!error)
        error = serve_control(device);
    if (error)
        (void)common_device_close(device, false);
    return error;
}

/* What is known of a device that is not open yet. */
static void describe_waiting(const struct common_device *device,
                             struct control_message *status)
{
    mutex_lock(&device->resources->places_lock);
    control_message_start(status, "ok");
    control_message_add(status, "device", device->config->name);
    control_message_add_number(status, "size", device->config->size);
    control_message_add_number(status, "chunk_size",
                               device->config->chunk_size);
    control_message_add(status, "state", "waiting");
    mutex_unlock(&device->resources->places_lock);
}

void common_device_describe(const struct common_device *device,
                            struct control_message *ret_status)
{
    if (atomic_load(&device->state) != COMMON_DEVICE_OPEN)
        describe_waiting(device, ret_status);
    else if (!device->owner)
        describe_read_only(device, ret_status);
    else
        owner_describe(device->owner, ret_status);
}
