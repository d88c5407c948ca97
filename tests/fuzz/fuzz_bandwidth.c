/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_bandwidth - any text as a limit with hours.
 *
 * What is accepted has times of a day, holds at one minute at least, and
 * written out and parsed again it is the same.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bandwidth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct bandwidth_entry *entry)
{
    struct bandwidth_entry again;
    char text[64];

    (void)snprintf(text, sizeof(text), "%" PRIu64 " %02u:%02u-%02u:%02u",
                   entry->bytes_per_s, entry->from / 60, entry->from % 60,
                   entry->to / 60, entry->to % 60);
    if (bandwidth_parse(text, &again) != 0 ||
        again.bytes_per_s != entry->bytes_per_s || again.from != entry->from ||
        again.to != entry->to)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bandwidth_entry entry;
    char *text = malloc(size + 1);

    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    if (bandwidth_parse(text, &entry) == 0) {
        if (entry.from >= BANDWIDTH_DAY || entry.to > BANDWIDTH_DAY ||
            entry.from == entry.to ||
            bandwidth_limit(&entry, 1, entry.from) != entry.bytes_per_s)
            abort();
        check_again(&entry);
    }
    free(text);
    return 0;
}
