/* SPDX-License-Identifier: BSD-2-Clause */
#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
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
#include "base/bandwidth.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/number.h"
#include "base/workers.h"
#include "cache/cache_dir.h"
#include "cache/control_client.h"
#include "cache/control_server.h"
#include "cache/interrupter.h"
#include "cache/opener.h"
#include "cache/owner.h"
#include "cache/put_probe.h"
#include "cache/status_text.h"
#include "cache/upload_share.h"
#include "object_store.h"
#include "s3/credentials.h"
#include "s3/dir_store.h"
#include "s3/s3_check.h"
#include "s3/s3_site.h"
#include "s3/s3_store.h"

enum { OTHER_REQUESTS = 4 }; /* besides reads and uploads, at once */

/* Of the memory for plain blocks, one part in so many is for what nobody has
 * asked for yet. */
enum { READAHEAD_SHARE = 4 };

enum {
    YIELD_TIMEOUT_S = 60, /* for who has a cache directory that we want */
    YIELD_POLL_MS = 50,   /* while it has no socket yet; doubled each time */
    YIELD_POLL_MAX_MS = 2000,
};

/* ---- options ------------------------------------------------------------ */

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

/* ---- configuration and log ---------------------------------------------- */

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

/* ---- process ------------------------------------------------------------ */

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

/* ---- systemd ------------------------------------------------------------ */

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

/* ---- store and devices -------------------------------------------------- */

/* What s3_options points to, while a store is opened. */
struct bucket {
    char hosts[S3_HOSTS_MAX][S3_HOST_MAX + 3];
    const char *host_list[S3_HOSTS_MAX];
    uint16_t ports[S3_PORTS_MAX];
    struct bandwidth_entry uploads[CONFIG_LIST_MAX], downloads[CONFIG_LIST_MAX];
    struct credentials_options credentials;
};

/* An address of IPv6 may be in brackets, as in a URL. */
static int take_hosts(const struct config *config, struct bucket *bucket,
                      struct s3_options *options)
{
    for (size_t i = 0; i < config->s3hosts.count; i++) {
        const char *text = config->s3hosts.items[i];
        size_t len = strlen(text);

        if (text[0] == '[' && text[len - 1] == ']') {
            text++;
            len -= 2;
        }
        if (len >= sizeof(bucket->hosts[i])) {
            log_error("s3host %s: is too long", config->s3hosts.items[i]);
            return -EINVAL;
        }
        memcpy(bucket->hosts[i], text, len);
        bucket->hosts[i][len] = '\0';
        bucket->host_list[i] = bucket->hosts[i];
    }
    options->hosts = bucket->host_list;
    options->hosts_count = config->s3hosts.count;
    return 0;
}

static void take_ports(const struct config *config, struct bucket *bucket,
                       struct s3_options *options)
{
    uint64_t port = config->s3ssl ? 443 : 80;

    options->ports_count = config->s3ports.count;
    for (size_t i = 0; i < config->s3ports.count; i++) {
        (void)number_parse(config->s3ports.items[i], 1, UINT16_MAX, &port);
        bucket->ports[i] = (uint16_t)port;
    }
    if (options->ports_count == 0)
        bucket->ports[options->ports_count++] = (uint16_t)port;
    options->ports = bucket->ports;
}

/* Fill in what the configuration, which was checked, says of limits. */
static size_t take_limits(const struct config_list *list,
                          struct bandwidth_entry *entries)
{
    for (size_t i = 0; i < list->count; i++)
        (void)bandwidth_parse(list->items[i], &entries[i]);
    return list->count;
}

static int open_bucket(const struct config *config,
                       struct object_store **ret_store)
{
    static const enum s3_addressing addressing[] = {
        [CONFIG_ADDRESSING_AUTO] = S3_ADDRESSING_AUTO,
        [CONFIG_ADDRESSING_PATH] = S3_ADDRESSING_PATH,
        [CONFIG_ADDRESSING_VIRTUAL] = S3_ADDRESSING_VIRTUAL,
    };
    static const char *const sse[] = {[CONFIG_SSE_NONE] = NULL,
                                      [CONFIG_SSE_AES256] = "AES256",
                                      [CONFIG_SSE_KMS] = "aws:kms"};
    AUTO_FREE struct bucket *bucket = calloc(1, sizeof(*bucket));
    struct s3_options options = {
        .name = config->s3name,
        .is_tls = config->s3ssl,
        .is_insecure = config->s3insecure,
        .ca_file = config->s3ca,
        .bucket = config->s3bucket,
        .prefix = config->s3prefix,
        .region = config->s3region,
        .addressing = addressing[config->s3addressing],
        .timeout_ms = config->s3timeout_ms,
        .concurrency = config->fetchers + config->uploads + OTHER_REQUESTS,
        .max_requests_per_connection = config->s3maxreqsperconn,
        .is_unsigned_payload = config->s3unsigned_payload,
        .storage_class = config->s3storage_class,
        .sse = sse[config->s3sse],
        .sse_key_id = config->s3sse_key,
    };
    int error = bucket ? take_hosts(config, bucket, &options) : -ENOMEM;

    if (error)
        return error;
    if (config->s3insecure)
        log_warning("s3insecure is set: nobody knows who answers in the place "
                    "of the S3 service; whoever is on the way can read and "
                    "change everything, and take the keys");
    take_ports(config, bucket, &options);
    bucket->credentials = (struct credentials_options){
        .access_key = config->s3accesskey,
        .secret_key = config->s3secretkey,
        .session_token = config->s3sessiontoken,
        .source = config->s3credentials,
        .region = config->s3region,
        .ca_file = config->s3ca,
    };
    options.credentials = &bucket->credentials;
    options.upload_limits = bucket->uploads;
    options.upload_limits_count =
        take_limits(&config->s3uploads, bucket->uploads);
    options.download_limits = bucket->downloads;
    options.download_limits_count =
        take_limits(&config->s3downloads, bucket->downloads);
    return s3_store_open(&options, ret_store);
}

int common_open_store(const struct config *config,
                      struct object_store **ret_store)
{
    return config->s3dir ? dir_store_open(config->s3dir, ret_store)
                         : open_bucket(config, ret_store);
}

/* An s3_check_say. */
static void say_of_store(void *context, bool is_error, const char *text)
{
    (void)context;
    if (is_error)
        log_error("%s", text);
    else
        log_warning("%s", text);
}

int common_check_store(const struct config *config, struct object_store *store)
{
    if (config->s3dir)
        return 0;
    return s3_check(store, say_of_store, NULL);
}

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

static uint64_t count_connections(void *context)
{
    const struct common_device *device = context;

    return device->opening->connections(device->opening->context,
                                        device->device);
}

static int start_owner(const struct common_resources *resources,
                       const struct config *config,
                       struct common_device *device)
{
    const struct common_opening *opening = device->opening;
    struct owner_options options = {
        .device = device->device,
        .store = resources->store,
        .cachesize = device->config->cache_size,
        .keep = device->config->keep,
        .grace_ns = device->config->grace_s * 1000000000U,
        .max_age_ns = device->config->max_age_s * 1000000000U,
        .uploads = opening->uploads ? opening->uploads : config->uploads,
        .upload_rate = config->upload_rate,
        .share = resources->share,
        .is_daemon = !opening->yield,
        .connections = opening->connections ? count_connections : NULL,
        .context = device,
    };

    return owner_start(&options, &device->owner);
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
    control_message_add_number(status, "chunks", known.chunks_mapped);
    control_message_add_number(status, "damaged", known.damaged_reads);
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

/* Undo what was done for the device, in reverse.  Returns its error. */
static int close_device(struct common_device *device, bool releases)
{
    int error;

    atomic_store(&device->state, COMMON_DEVICE_CLOSED);
    if (device->owner)
        owner_interrupt(device->owner);
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

/* Open the device and all that belongs to it. */
static int open_whole_device(struct common_device *device)
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
        (void)close_device(device, false);
    return error;
}

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
    int error = open_whole_device(device);

    if (!error) {
        atomic_store(&device->state, COMMON_DEVICE_OPEN);
        if (opening->opened)
            opening->opened(opening->context, device);
        if (tries > 0)
            log_info("%s: waits no longer, and is served",
                     device->config->name);
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
    return 0; /* done with */
}

/* Prepare a place for each device that is to be opened. */
static int list_devices(const struct config *config,
                        const struct common_opening *opening,
                        struct common_resources *resources)
{
    resources->devices =
        calloc(config->devices_count, sizeof(*resources->devices));
    if (!resources->devices)
        return -ENOMEM;
    for (size_t i = 0; i < config->devices_count; i++) {
        struct common_device *next =
            &resources->devices[resources->devices_count];

        if (opening->only && opening->only != &config->devices[i])
            continue;
        next->config = &config->devices[i];
        next->whole_config = config;
        next->opening = opening;
        next->resources = resources;
        resources->devices_count++;
    }
    return 0;
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
    error = opener_start(&options, &resources->opener);
    if (error)
        return error;
    if (common_count_devices(resources, COMMON_DEVICE_WAITS) == 0) {
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
    size_t count = take_limits(&config->s3uploads, limits);

    return upload_share_new(limits, count, &resources->share);
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
    /* Without an answer what is here can be served all the same. */
    if (!error)
        (void)common_check_store(config, resources->store);
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

/* ---- status ------------------------------------------------------------- */

/* What is known of a device that is not open yet. */
static void describe_waiting(const struct common_device *device,
                             struct control_message *status)
{
    control_message_start(status, "ok");
    control_message_add(status, "device", device->config->name);
    control_message_add_number(status, "size", device->config->size);
    control_message_add_number(status, "chunk_size",
                               device->config->chunk_size);
    control_message_add(status, "state", "waiting");
}

static int describe(const struct common_device *device,
                    struct control_message *status)
{
    struct control_message request;

    if (atomic_load(&device->state) != COMMON_DEVICE_OPEN) {
        describe_waiting(device, status);
        return 0;
    }
    if (!device->owner) {
        describe_read_only(device, status);
        return 0;
    }
    control_message_start(&request, "status");
    return owner_handle(device->owner, &request, 0, status);
}

/* Answer the status socket: all devices as JSON. */
static int handle_status(void *context, const struct control_message *request,
                         uint64_t holder, struct control_message *reply)
{
    const struct common_resources *resources = context;
    AUTO_FREE struct control_message *statuses =
        calloc(resources->devices_count, sizeof(*statuses));
    size_t count = 0;
    char *text = NULL;
    int error = 0;

    (void)request;
    (void)holder;
    if (!statuses)
        return -ENOMEM;
    for (size_t i = 0; i < resources->devices_count && !error; i++) {
        const struct common_device *device = &resources->devices[i];

        if (atomic_load(&device->state) != COMMON_DEVICE_LEFT_OUT)
            error = describe(device, &statuses[count++]);
    }
    if (!error)
        text = status_text_json_of_all(statuses, count);
    for (size_t i = 0; i < count; i++)
        control_message_clear(&statuses[i]);
    if (error)
        return error;
    if (!text)
        return -ENOMEM;
    control_message_start(reply, "ok");
    control_message_set_payload(reply, text, strlen(text));
    return 0;
}

int common_serve_status(const struct config *config,
                        struct common_resources *resources)
{
    struct control_handler handler = {
        .handle = handle_status,
        .context = resources,
    };

    if (!config->status)
        return 0;
    return control_server_start_status(config->status, &handler,
                                       &resources->status);
}

/* ---- end ---------------------------------------------------------------- */

void common_limit_closing(struct common_resources *resources, int fd,
                          unsigned ms)
{
    uint64_t deadline_ns = clock_monotonic_ns() + (uint64_t)ms * 1000000U;
    int error = 0;

    if (resources->store && !resources->interrupter)
        error = interrupter_start(resources->store, fd, deadline_ns,
                                  &resources->interrupter);
    if (error)
        log_warning("closing may take long: %s", log_errno(error));
}

/* Close those that are open.  Returns the first error. */
static int close_devices(struct common_resources *resources, bool releases)
{
    int first_error = 0;

    for (size_t i = resources->devices_count; i > 0; i--) {
        struct common_device *device = &resources->devices[i - 1];
        int error = 0;

        if (atomic_load(&device->state) == COMMON_DEVICE_OPEN)
            error = close_device(device, releases);
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
    interrupter_stop(resources->interrupter);
    if (resources->store)
        resources->store->close(resources->store);
    free(resources->devices);
    *resources = (struct common_resources){.store = NULL};
    return first_error;
}
