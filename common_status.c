/* SPDX-License-Identifier: BSD-2-Clause */
#include "common_status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "base/json_string.h"
#include "base/log_recent.h"
#include "cache/control_server.h"
#include "cache/device_tell.h"
#include "cache/status_text.h"
#include "common.h"
#include "common_device.h"
#include "nbd/nbd_tally.h"
#include "object_store.h"

enum {
    STATUS_VERSION = 1, /* of the answer; grows when a key changes */
    MAP_CELLS = 2048,   /* if the question does not say */
};

/* ---- status ------------------------------------------------------------- */

/* The ends of the buckets of all lists of latencies. */
static void write_bucket_ends(FILE *stream)
{
    (void)fputs(", \"latency_le_ns\": [", stream);
    for (size_t i = 0; i < HISTOGRAM_HALVES - 1; i++)
        (void)fprintf(stream, "%" PRIu64 ", ", histogram_half_end_ns(i));
    (void)fputs("null]", stream);
}

static void write_daemon(FILE *stream, const struct common_resources *resources)
{
    (void)fprintf(stream,
                  "\"daemon\": {\"version\": \"%s\", \"pid\": %ld, "
                  "\"start_time_ns\": %" PRIu64 ", \"now_ns\": %" PRIu64
                  ", \"devices\": %zu, \"left_out\": %zu",
                  COMMON_VERSION, (long)getpid(), resources->serving_since_ns,
                  clock_realtime_ns(), resources->devices_count,
                  common_count_devices(resources, COMMON_DEVICE_LEFT_OUT));
    write_bucket_ends(stream);
    (void)fputc('}', stream);
}

static void write_store(FILE *stream, struct object_store *store)
{
    AUTO_FREE char *text = store->describe(store);

    if (text)
        (void)fprintf(stream, ",\n\"store\": %s", text);
}

static int write_log(FILE *stream)
{
    AUTO_FREE struct log_recent *lines =
        calloc(LOG_RECENT_MAX, sizeof(lines[0]));
    size_t count;

    if (!lines)
        return -ENOMEM;
    count = log_recent_get(lines, LOG_RECENT_MAX);
    (void)fputs(",\n\"log\": [", stream);
    for (size_t i = 0; i < count; i++) {
        const struct log_recent *line = &lines[i];

        (void)fprintf(stream,
                      "%s\n  {\"number\": %" PRIu64 ", \"time_ns\": %" PRIu64
                      ", \"level\": \"%s\", \"text\": ",
                      i > 0 ? "," : "", line->number, line->time_ns,
                      line->level == LOG_LEVEL_ERROR ? "error" : "warning");
        json_string_write(stream, line->text);
        (void)fputc('}', stream);
    }
    (void)fputc(']', stream);
    return 0;
}

static int write_devices(FILE *stream, const struct common_resources *resources)
{
    AUTO_FREE struct control_message *status = calloc(1, sizeof(*status));
    const char *separator = "";

    if (!status)
        return -ENOMEM;
    (void)fputs(",\n\"devices\": [", stream);
    for (size_t i = 0; i < resources->devices_count; i++) {
        const struct common_device *device = &resources->devices[i];

        if (atomic_load(&device->state) == COMMON_DEVICE_LEFT_OUT)
            continue;
        common_device_describe(device, status);
        (void)fprintf(stream, "%s\n  ", separator);
        status_text_write(stream, status);
        control_message_clear(status);
        separator = ",";
    }
    (void)fputs("\n]", stream);
    return 0;
}

static int answer_status(const struct common_resources *resources,
                         struct control_message *reply)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    int error;

    if (!stream)
        return -ENOMEM;
    (void)fprintf(stream, "{\"version\": %d,\n", STATUS_VERSION);
    write_daemon(stream, resources);
    write_store(stream, resources->store);
    error = write_log(stream);
    if (!error)
        error = write_devices(stream, resources);
    (void)fputs("}\n", stream);
    if (fclose(stream) != 0)
        error = -ENOMEM;
    if (error) {
        free(text);
        return error;
    }
    control_message_start(reply, "ok");
    control_message_set_payload(reply, text, size);
    return 0;
}

/* ---- map ---------------------------------------------------------------- */

/* Returns the open device of that name, or NULL. */
static const struct common_device *
find_open(const struct common_resources *resources, const char *name)
{
    for (size_t i = 0; name && i < resources->devices_count; i++) {
        const struct common_device *device = &resources->devices[i];

        if (atomic_load(&device->state) == COMMON_DEVICE_OPEN &&
            strcmp(device->config->name, name) == 0)
            return device;
    }
    return NULL;
}

/* Read a number of the question, unless it has none.  Returns whether so. */
static bool take_number(const struct control_message *request, const char *key,
                        uint64_t min, uint64_t max, uint64_t *value)
{
    int error = control_message_get_number(request, key, min, max, value);

    return error == 0 || error == -ENOENT;
}

static int answer_map(const struct common_resources *resources,
                      const struct control_message *request,
                      struct control_message *reply)
{
    const struct common_device *device =
        find_open(resources, control_message_get(request, "device"));
    struct device_map map = {.to = UINT64_MAX, .cells = MAP_CELLS};
    char *text;

    if (!device) {
        control_message_start_error(reply, -ENODEV, "%s",
                                    "no device of that name is open");
        return 0;
    }
    if (!take_number(request, "from", 0, UINT64_MAX, &map.from) ||
        !take_number(request, "to", 0, UINT64_MAX, &map.to) ||
        !take_number(request, "cells", 1, DEVICE_MAP_CELLS_MAX, &map.cells)) {
        control_message_start_error(reply, -EINVAL, "%s",
                                    "from, to or cells is no number, or is "
                                    "out of bounds");
        return 0;
    }
    text = device_map_json(device->device, &map);
    if (!text)
        return -ENOMEM;
    control_message_start(reply, "ok");
    control_message_set_payload(reply, text, strlen(text));
    return 0;
}

/* ---- clients ------------------------------------------------------------ */

/* Add a list of how many requests took how long; zeros at its end are not. */
static void tell_latency(const char *key, const struct histogram *histogram,
                         struct control_message *status)
{
    uint64_t counts[HISTOGRAM_HALVES];
    char text[HISTOGRAM_HALVES * 21 + 1] = "";
    size_t count = HISTOGRAM_HALVES, len = 0;

    histogram_get_halves(histogram, counts);
    while (count > 0 && counts[count - 1] == 0)
        count--;
    for (size_t i = 0; i < count; i++) {
        int added = snprintf(text + len, sizeof(text) - len, "%s%" PRIu64,
                             i > 0 ? "," : "", counts[i]);

        if (added > 0)
            len += (size_t)added;
    }
    control_message_add(status, key, text);
}

void common_tell_clients(const struct nbd_tally_sums *sums,
                         struct control_message *status)
{
    const struct {
        const char *key;
        uint64_t number;
    } numbers[] = {
        {"read_requests", sums->requests[NBD_TALLY_READ]},
        {"write_requests", sums->requests[NBD_TALLY_WRITE]},
        {"flush_requests", sums->requests[NBD_TALLY_FLUSH]},
        {"trim_requests", sums->requests[NBD_TALLY_TRIM]},
        {"zero_requests", sums->requests[NBD_TALLY_ZERO]},
        {"other_requests", sums->requests[NBD_TALLY_OTHER]},
        {"read_bytes", sums->bytes_read},
        {"written_bytes", sums->bytes_written},
        {"errors_io", sums->errors[NBD_TALLY_IO]},
        {"errors_space", sums->errors[NBD_TALLY_SPACE]},
        {"errors_refused", sums->errors[NBD_TALLY_REFUSED]},
        {"errors_other", sums->errors[NBD_TALLY_ELSE]},
        {"in_flight", sums->in_flight},
        {"read_ns", sums->time_ns[NBD_TALLY_READ]},
        {"write_ns", sums->time_ns[NBD_TALLY_WRITE]},
        {"flush_ns", sums->time_ns[NBD_TALLY_FLUSH]},
    };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        control_message_add_number(status, numbers[i].key, numbers[i].number);
    tell_latency("read_latency", &sums->latencies[NBD_TALLY_READ], status);
    tell_latency("write_latency", &sums->latencies[NBD_TALLY_WRITE], status);
    tell_latency("flush_latency", &sums->latencies[NBD_TALLY_FLUSH], status);
}

/* ---- the socket --------------------------------------------------------- */

/* control_handler.handle */
static int answer(void *context, const struct control_message *request,
                  uint64_t holder, struct control_message *reply)
{
    const struct common_resources *resources = context;

    (void)holder;
    if (control_message_is(request, "map"))
        return answer_map(resources, request, reply);
    return answer_status(resources, reply);
}

int common_serve_status(const struct config *config,
                        struct common_resources *resources)
{
    struct control_handler handler = {
        .handle = answer,
        .context = resources,
    };

    resources->serving_since_ns = clock_realtime_ns();
    if (!config->status)
        return 0;
    return control_server_start_status(config->status, &handler,
                                       &resources->status);
}
