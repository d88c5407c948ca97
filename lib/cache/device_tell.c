/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/device_tell.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_string.h"
#include "cache/catalog.h"
#include "cache/control_message.h"
#include "cache/device.h"

static uint64_t count_chunks(const struct device *device)
{
    uint64_t chunk_size = device_chunk_size(device);

    return (device_size(device) + chunk_size - 1) / chunk_size;
}

void device_tell_chunks(const struct device *device,
                        struct control_message *reply)
{
    uint64_t counts[CATALOG_KINDS];

    catalog_count_all_kinds(device_catalog(device), counts);
    control_message_add_number(reply, "zero_chunks", counts[CATALOG_KIND_ZERO]);
    control_message_add_number(reply, "remote_chunks",
                               counts[CATALOG_KIND_REMOTE]);
    control_message_add_number(reply, "clean_chunks",
                               counts[CATALOG_KIND_CLEAN]);
    control_message_add_number(reply, "all_chunks", count_chunks(device));
}

/* A cell, and how many like it follow one another. */
struct run {
    uint64_t count;
    uint64_t kinds[CATALOG_KINDS];
};

static void write_run(FILE *stream, const struct run *run, bool is_first)
{
    (void)fprintf(stream, "%s[%" PRIu64, is_first ? "" : ", ", run->count);
    for (size_t i = 0; i < CATALOG_KINDS; i++)
        (void)fprintf(stream, ", %" PRIu64, run->kinds[i]);
    (void)fputc(']', stream);
}

static void write_cells(FILE *stream, const struct device *device,
                        uint64_t from, uint64_t to, uint64_t step)
{
    struct run run = {.count = 0}, next = {.count = 1};
    bool is_first = true;

    for (uint64_t at = from; at < to; at += step) {
        uint64_t end = to - at < step ? to : at + step;

        catalog_count_kinds(device_catalog(device), at, end, next.kinds);
        if (run.count > 0 &&
            memcmp(run.kinds, next.kinds, sizeof(run.kinds)) == 0) {
            run.count++;
            continue;
        }
        if (run.count > 0) {
            write_run(stream, &run, is_first);
            is_first = false;
        }
        run = next;
    }
    if (run.count > 0)
        write_run(stream, &run, is_first);
}

char *device_map_json(const struct device *device, const struct device_map *map)
{
    uint64_t all = count_chunks(device), step = 1;
    uint64_t to = map->to < all ? map->to : all;
    uint64_t from = map->from < to ? map->from : to;
    char *text = NULL;
    FILE *stream;
    size_t len;

    /* Cells begin at a multiple of the step, so that most of them are whole
     * leaves of the catalog. */
    while ((to + step - 1) / step - from / step > map->cells)
        step *= 2;
    from -= from % step;
    stream = open_memstream(&text, &len);
    if (!stream)
        return NULL;
    (void)fputs("{\"device\": ", stream);
    json_string_write(stream, device_name(device));
    (void)fprintf(stream,
                  ", \"chunk_size\": %" PRIu32 ", \"all_chunks\": %" PRIu64
                  ", \"from\": %" PRIu64 ", \"to\": %" PRIu64
                  ", \"step\": %" PRIu64 ", \"cells\": [",
                  device_chunk_size(device), all, from, to, step);
    write_cells(stream, device, from, to, step);
    (void)fputs("]}\n", stream);
    if (fclose(stream) == 0)
        return text;
    free(text);
    return NULL;
}
