/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_json_check - any bytes as an object of JSON.
 *
 * What is accepted has no control characters, is accepted inside of another
 * object, too, and without its last byte it is not.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char before[] = "{\"a\": [1, ", after[] = "]}";
    size_t len = sizeof(before) - 1;
    char *text = malloc(size + sizeof(before) + sizeof(after));

    if (!text)
        abort();
    memcpy(text, before, len);
    memcpy(text + len, data, size);
    memcpy(text + len + size, after, sizeof(after) - 1);
    if (json_check_object((const char *)data, size)) {
        size_t depth = 0, deepest = 0;

        for (size_t i = 0; i < size; i++) {
            if (data[i] < 0x20 || data[i] == 0x7f)
                abort();
            depth += data[i] == '{' || data[i] == '[';
            deepest = depth > deepest ? depth : deepest;
        }
        if (json_check_object((const char *)data, size - 1) ||
            (deepest + 2 <= JSON_CHECK_DEPTH &&
             !json_check_object(text, len + size + sizeof(after) - 1)))
            abort();
    }
    free(text);
    return 0;
}
