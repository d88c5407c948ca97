/* SPDX-License-Identifier: BSD-2-Clause */
#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "base/auto.h"
#include "base/log.h"
#include "base/workers.h"
#include "cache/device.h"
#include "object_store.h"
#include "s3/dir_store.h"

/* Of the memory for plain blocks, one part in so many is for what nobody has
 * asked for yet. */
enum { READAHEAD_SHARE = 4 };

/* ---- options ------------------------------------------------------------- */

enum long_option { OPTION_SINGLE = 256 };

static const struct option long_options[] = {
    {"single", no_argument, NULL, OPTION_SINGLE},
    {NULL, 0, NULL, 0},
};

int common_parse_options(const struct common_program *program, int argc,
                         char **argv, struct common_options *ret_options)
{
    const struct option *longs = long_options;
    struct common_options options = {
        .config_path = COMMON_CONFIG_PATH,
    };
    int option;

    if (!strchr(program->letters, 't'))
        longs = &long_options[sizeof(long_options) / sizeof(*longs) - 1];
    while ((option = getopt_long(argc, argv, program->letters, longs, NULL)) !=
           -1) {
        switch (option) {
        case 'c':
            options.config_path = optarg;
            break;
        case 'p':
            options.pid_path = optarg;
            break;
        case 't':
            options.check_only = true;
            break;
        case OPTION_SINGLE:
            options.single = true;
            break;
        case 'h':
            (void)printf("usage: %s", program->usage);
            return COMMON_OK;
        case 'V':
            (void)printf("%s %s\n", program->name, COMMON_VERSION);
            return COMMON_OK;
        default: /* getopt_long said what is wrong */
            (void)fprintf(stderr, "%s -h tells the options\n", program->name);
            return COMMON_USAGE;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "%s: %s: there are no arguments but options\n",
                      program->name, argv[optind]);
        return COMMON_USAGE;
    }
    *ret_options = options;
    return COMMON_GO_ON;
}

/* ---- configuration and log ----------------------------------------------- */

int common_load_config(const struct common_program *program, const char *path,
                       struct config **ret_config)
{
    struct config_problems problems;
    int error = config_load(path, ret_config, &problems);

    for (size_t i = 0; i < problems.count; i++)
        (void)fprintf(stderr, "%s\n", problems.lines[i]);
    config_problems_free(&problems);
    if (error)
        return COMMON_CONFIG;
    log_open(program->name, LOG_TARGET_AUTO,
             (enum log_level)(*ret_config)->log_level);
    return COMMON_GO_ON;
}

static void check_directory(const char *setting, const char *path)
{
    struct stat st;

    if (!path)
        return;
    if (stat(path, &st) != 0)
        log_warning("%s %s: %s", setting, path, log_errno(-errno));
    else if (!S_ISDIR(st.st_mode))
        log_warning("%s %s: not a directory", setting, path);
}

void common_check_directories(const struct config *config)
{
    check_directory("s3dir", config->s3dir);
    check_directory("tlscertificates", config->tls_certificates);
    for (size_t i = 0; i < config->devices_count; i++) {
        check_directory("cachedir", config->devices[i].cachedir);
        check_directory("journal", config->devices[i].journal);
    }
}

/* ---- process ------------------------------------------------------------- */

void common_prepare_process(void)
{
    struct rlimit files;

    (void)signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0)
            log_warning("the number of open files stays limited: %s",
                        log_errno(-errno));
    }
}

/* ---- systemd ------------------------------------------------------------- */

int common_take_sockets(struct common_sockets *ret_sockets)
{
    struct common_sockets sockets = {.connected = -1};
    int count = sd_listen_fds(1);

    *ret_sockets = sockets;
    if (count <= 0)
        return count;
    sockets.listening = calloc((size_t)count, sizeof(*sockets.listening));
    if (!sockets.listening)
        return -ENOMEM;
    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;

        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) > 0) {
            sockets.listening[sockets.count++] = fd;
        } else if (count == 1 &&
                   sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 0) > 0) {
            sockets.connected = fd;
        } else {
            log_error("descriptor %d of LISTEN_FDS: neither a socket that "
                      "listens nor a single one that is connected",
                      fd);
            free(sockets.listening);
            return -ENOTSOCK;
        }
    }
    *ret_sockets = sockets;
    return 0;
}

void common_notify(const char *format, ...)
{
    AUTO_FREE char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    if (text)
        (void)sd_notify(0, text);
}

int common_notify_interval_ms(int max_ms)
{
    uint64_t watchdog_us;

    /* Twice as often as it must be. */
    if (sd_watchdog_enabled(0, &watchdog_us) > 0 &&
        watchdog_us / 2000 < (uint64_t)max_ms)
        return (int)(watchdog_us / 2000);
    return max_ms;
}

/* ---- store and devices --------------------------------------------------- */

static int open_store(const struct config *config,
                      struct object_store **ret_store)
{
    if (config->s3dir)
        return dir_store_open(config->s3dir, ret_store);
    log_error("s3host: this version has no S3 client yet; s3dir keeps the "
              "objects in a directory");
    return -EPROTONOSUPPORT;
}

static int open_device(const struct common_resources *resources,
                       const struct config_device *config,
                       struct device **ret_device)
{
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
        .read_only = config->read_only,
        .store = resources->store,
        .workers = resources->workers,
        .fetchers = resources->fetchers,
    };

    return device_open(&options, ret_device);
}

/* Open all that can be opened.  Returns the last error if there is none. */
static int open_devices(const struct config *config,
                        struct common_resources *resources)
{
    int error = 0;

    resources->devices =
        calloc(config->devices_count, sizeof(*resources->devices));
    if (!resources->devices)
        return -ENOMEM;
    for (size_t i = 0; i < config->devices_count; i++) {
        struct common_device *next =
            &resources->devices[resources->devices_count];
        int this_error =
            open_device(resources, &config->devices[i], &next->device);

        if (this_error) {
            log_error("%s: cannot be opened, and is not served: %s",
                      config->devices[i].name, log_errno(this_error));
            error = this_error;
            continue;
        }
        next->config = &config->devices[i];
        resources->devices_count++;
    }
    return resources->devices_count > 0 ? 0 : error;
}

int common_open_resources(const struct config *config,
                          struct common_resources *ret_resources)
{
    struct common_resources resources = {.store = NULL};
    int error;

    if (config->devices_count == 0) {
        log_error("there is no device in the configuration");
        return -ENXIO;
    }
    error = open_store(config, &resources.store);
    if (!error)
        error = workers_start("worker", config->workers, &resources.workers);
    if (!error)
        error = workers_start("fetcher", config->fetchers, &resources.fetchers);
    if (!error)
        error = open_devices(config, &resources);
    if (error) {
        (void)common_close_resources(&resources);
        return error;
    }
    *ret_resources = resources;
    return 0;
}

int common_close_resources(struct common_resources *resources)
{
    int first_error = 0;

    for (size_t i = resources->devices_count; i > 0; i--) {
        int error = device_close(resources->devices[i - 1].device);

        if (error)
            log_error("%s: was closed with an error: %s",
                      resources->devices[i - 1].config->name, log_errno(error));
        first_error = first_error ? first_error : error;
    }
    workers_stop(resources->fetchers);
    workers_stop(resources->workers);
    if (resources->store)
        resources->store->close(resources->store);
    free(resources->devices);
    *resources = (struct common_resources){.store = NULL};
    return first_error;
}
