/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which configuration is compared with which: what a reload applies, with the
 * one that held until now, so that each change is told once; what takes a
 * restart, with the one that is in use, so that it is told as long as it is
 * not: that of the start or, for a device, the one that it was opened with.
 */
#include "common_reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bandwidth.h"
#include "base/log.h"
#include "base/tls.h"
#include "cache/upload_share.h"
#include "common_device.h"
#include "config_diff.h"
#include "nbd/nbd_server.h"

void common_reload_init(struct common_reload *reload, const char *path,
                        const struct config *config,
                        struct common_resources *resources)
{
    char dir[PATH_MAX] = "";

    *reload = (struct common_reload){
        .started = config,
        .resources = resources,
        .current = config,
    };
    mutex_init(&reload->lock);
    condition_init(&reload->is_free);
    if (path[0] != '/' && !getcwd(dir, sizeof(dir)))
        dir[0] = '\0';
    if (snprintf(reload->path, sizeof(reload->path), "%s%s%s", dir,
                 dir[0] != '\0' ? "/" : "", path) >= (int)sizeof(reload->path))
        log_warning("%s: is too long to be read again", path);
}

/* ---- what is told -------------------------------------------------------- */

/* "device: " of a setting of a device, or nothing. */
static const char *name_of(const struct config_change *change)
{
    return change->device ? change->device : "";
}

static const char *separator_of(const struct config_change *change)
{
    return change->device ? ": " : "";
}

/* config_diff_each */
static void say_applied(void *context, const struct config_change *change)
{
    size_t *count = context;

    if (!change->is_reloaded)
        return;
    (*count)++;
    log_info("reload: %s%s%s: %s, was %s", name_of(change),
             separator_of(change), change->setting, change->to, change->from);
}

/* config_diff_each */
static void say_restart(void *context, const struct config_change *change)
{
    size_t *count = context;

    if (change->is_reloaded)
        return;
    (*count)++;
    log_warning("reload: %s%s%s: %s takes a restart; it is still %s",
                name_of(change), separator_of(change), change->setting,
                change->to, change->from);
}

/* config_diff_each: whether the store is another one. */
static void look_for_store(void *context, const struct config_change *change)
{
    static const char *const which[] = {"s3dir",    "s3host", "s3port",
                                        "s3bucket", "s3name", "s3region"};
    bool *is_other = context;

    for (size_t i = 0; i < sizeof(which) / sizeof(which[0]); i++)
        *is_other |= strcmp(change->setting, which[i]) == 0;
}

/* ---- applying ------------------------------------------------------------ */

int common_load_tls(const struct config *config, struct tls_context **ret_tls)
{
    const struct tls_server_options options = {
        .certificates_dir = config->tls_certificates,
        .psk_file = config->tls_psk,
        .verify_peer = config->tls_verify,
    };

    *ret_tls = NULL;
    return config->tls == CONFIG_TLS_OFF ? 0
                                         : tls_server_new(&options, ret_tls);
}

/* Errors are logged. */
static void change_server(struct nbd_server *server,
                          const struct config *config, struct tls_context *tls)
{
    const struct nbd_server_changes changes = {
        .tls = tls,
        .tls_required = config->tls == CONFIG_TLS_REQUIRED,
        .max_connections = config->max_connections,
        .handshake_timeout_ms = config->handshake_timeout_ms,
    };
    int error = nbd_server_change(server, &changes);

    if (error)
        log_error("reload: connections: %s", log_errno(error));
}

/* Keys and limits of another store are not for the one that is in use. */
static void change_store(struct common_reload *reload,
                         const struct config *config)
{
    struct bandwidth_entry limits[CONFIG_LIST_MAX];
    struct common_resources *resources = reload->resources;
    bool is_other = false;

    config_diff_globals(reload->started, config, look_for_store, &is_other);
    if (is_other) {
        log_warning("reload: keys and limits of the store stay as they are: "
                    "with the restart there is another one");
        return;
    }
    if (upload_share_set_limits(
            resources->share, limits,
            common_take_limits(&config->s3uploads, limits)) != 0)
        log_error("reload: s3upload: %s", log_errno(-ENOMEM));
    (void)common_change_store(config, resources->store); /* logged */
}

/* In a turn who opens a device comes before a reload, or after it. */
static void begin_turn(struct common_reload *reload)
{
    mutex_lock(&reload->lock);
    while (reload->is_busy)
        condition_wait(&reload->is_free, &reload->lock);
    reload->is_busy = true;
    mutex_unlock(&reload->lock);
}

static void end_turn(struct common_reload *reload)
{
    mutex_lock(&reload->lock);
    reload->is_busy = false;
    condition_signal(&reload->is_free);
    mutex_unlock(&reload->lock);
}

static void change_devices(struct common_reload *reload)
{
    struct common_resources *resources = reload->resources;

    for (size_t i = 0; i < resources->devices_count; i++) {
        struct common_device *device = &resources->devices[i];
        const struct config_device *section =
            config_diff_find(reload->current, device->config->name);

        if (section && atomic_load(&device->state) == COMMON_DEVICE_OPEN)
            common_device_change(device, reload->current, section);
    }
}

void common_reload_opened(struct common_reload *reload,
                          struct common_device *device)
{
    const struct config_device *section;

    begin_turn(reload);
    section = config_diff_find(reload->current, device->config->name);
    if (section && reload->current != device->whole_config)
        common_device_change(device, reload->current, section);
    end_turn(reload);
}

/* ---- devices that come and go -------------------------------------------- */

/* Returns the place of a device that is, or is about to be, served; or NULL. */
static const struct common_device *
find_served(const struct common_resources *resources, const char *name)
{
    for (size_t i = 0; i < resources->devices_count; i++) {
        const struct common_device *device = &resources->devices[i];

        if (atomic_load(&device->state) != COMMON_DEVICE_LEFT_OUT &&
            strcmp(device->config->name, name) == 0)
            return device;
    }
    return NULL;
}

static void open_new_devices(struct common_reload *reload,
                             const struct config *config)
{
    for (size_t i = 0; i < config->devices_count; i++) {
        const struct config_device *section = &config->devices[i];
        int error;

        if (find_served(reload->resources, section->name))
            continue;
        log_info("reload: %s: is opened", section->name);
        error = common_open_more(reload->resources, config, section);
        if (error)
            log_error("reload: %s: cannot be opened before a restart: %s",
                      section->name, log_errno(error));
    }
}

/* ---- the lives of configurations ----------------------------------------- */

static bool is_needed(const struct common_reload *reload,
                      const struct config *current, const struct config *config)
{
    const struct common_resources *resources = reload->resources;

    for (size_t i = 0; i < resources->devices_count; i++) {
        if (resources->devices[i].whole_config == config)
            return true;
    }
    return config == current;
}

/* Free those that nobody points into any more. */
static void free_unneeded(struct common_reload *reload,
                          const struct config *current)
{
    size_t kept = 0;

    for (size_t i = 0; i < reload->kept_count; i++) {
        if (is_needed(reload, current, reload->kept[i]))
            reload->kept[kept++] = reload->kept[i];
        else
            config_free(reload->kept[i]);
    }
    reload->kept_count = kept;
}

void common_reload_done(struct common_reload *reload)
{
    for (size_t i = 0; i < reload->kept_count; i++)
        config_free(reload->kept[i]);
    reload->kept_count = 0;
    condition_done(&reload->is_free);
    mutex_done(&reload->lock);
}

/* ---- all of it ----------------------------------------------------------- */

/* Read the file, and what it names.  Errors are logged. */
static int load(const struct common_reload *reload, struct config **ret_config,
                struct tls_context **ret_tls)
{
    struct config_problems problems;
    int error = config_load(reload->path, ret_config, &problems);

    for (size_t i = 0; i < problems.count; i++)
        log_error("reload: %s", problems.lines[i]);
    config_problems_free(&problems);
    if (error)
        return -EINVAL;
    error = common_load_tls(*ret_config, ret_tls);
    if (error)
        config_free(*ret_config);
    return error ? -EINVAL : 0;
}

/* Tell what is another, of all that is served. */
static void tell_changes(const struct common_reload *reload,
                         const struct config *before,
                         const struct config *config)
{
    const struct common_resources *resources = reload->resources;
    size_t applied = 0, left = 0;

    config_diff_globals(before, config, say_applied, &applied);
    config_diff_globals(reload->started, config, say_restart, &left);
    for (size_t i = 0; i < resources->devices_count; i++) {
        const struct config_device *opened = resources->devices[i].config;
        const struct config_device *old =
            config_diff_find(before, opened->name);
        const struct config_device *section =
            config_diff_find(config, opened->name);

        if (!find_served(resources, opened->name))
            continue;
        if (section) {
            config_diff_device(old ? old : opened, section, say_applied,
                               &applied);
            config_diff_device(opened, section, say_restart, &left);
        } else {
            left++;
            log_warning("reload: %s: has no section any more; it is served "
                        "until a restart",
                        opened->name);
        }
    }
    log_info("reload: %s: settings that changed: %zu; that take a restart: %zu",
             reload->path, applied, left);
}

int common_reload_run(struct common_reload *reload, struct nbd_server *server)
{
    struct tls_context *tls;
    struct config *config;
    int error = load(reload, &config, &tls);

    if (error) {
        log_error("reload: nothing has changed");
        return error;
    }
    /* There is room: one for each place of a device, the one before, and this
     * one. */
    reload->kept[reload->kept_count++] = config;
    tell_changes(reload, reload->current, config); /* changed below alone */
    log_set_level((enum log_level)config->log_level);
    change_server(server, config, tls);
    tls_free(tls); /* the server holds it */
    change_store(reload, config);
    begin_turn(reload);
    reload->current = config;
    change_devices(reload);
    end_turn(reload);
    open_new_devices(reload, config);
    free_unneeded(reload, config);
    return 0;
}
