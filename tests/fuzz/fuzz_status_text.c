/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_status_text - any message as the answer to "status".
 *
 * JSON is ASCII, and each quote in it that is not escaped opens or closes.
 */
#include <stdlib.h>
#include <string.h>

#include "cache/status_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(const char *json)
{
    size_t quotes = 0;

    for (const char *c = json; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            abort();
        if (*c == '\\')
            c++;
        else
            quotes += *c == '"';
    }
    if (json[0] != '{' || json[strlen(json) - 1] != '}' || quotes % 2 != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct control_message message;
    size_t payload_size;
    char *text;

    if (control_message_decode((const char *)data, size, &message,
                               &payload_size) != 0)
        return 0;
    text = status_text_json(&message);
    if (text)
        check_json(text);
    free(text);
    free(status_text_table(&message, UINT64_C(1) << 60));
    return 0;
}
