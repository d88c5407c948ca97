/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_moment - any text as a date.
 *
 * A moment that was read can be written in the basic form, and read again.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/moment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_moment(uint64_t moment_s)
{
    char text[MOMENT_BASIC_TEXT];
    uint64_t again_s;

    /* A leap second, or an offset, at the end of 9999 leads beyond it. */
    if (moment_s > UINT64_C(253402300799))
        return;
    if (moment_parse_iso(moment_format_basic(moment_s, text), &again_s, NULL) !=
            0 ||
        again_s != moment_s)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[64];
    uint64_t moment_s;
    uint32_t ns;

    if (size >= sizeof(text))
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (moment_parse_iso(text, &moment_s, &ns) == 0) {
        if (ns >= 1000000000)
            abort();
        check_moment(moment_s);
    }
    if (moment_parse_http(text, UINT64_C(1795406400), &moment_s) == 0)
        check_moment(moment_s);
    return 0;
}
