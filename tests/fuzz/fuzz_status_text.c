/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_status_text - any message as the answer to "status".
 *
 * JSON is ASCII, and each quote in it that is not escaped opens or closes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json_check.h"
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

/* All of it as what a store says of itself: it may be left out. */
static void check_store(struct control_message *message, const uint8_t *data,
                        size_t size)
{
    char *payload = malloc(size + 1), *text;

    if (!payload)
        abort();
    memcpy(payload, data, size);
    control_message_set_payload(message, payload, size);
    text = status_text_json_of_all(message, 1);
    control_message_clear(message);
    if (!text)
        abort();
    for (char *c = text; *c != '\0'; c++) {
        if (*c == '\n')
            *c = ' ';
    }
    if (!json_check_object(text, strlen(text) - 1))
        abort();
    free(text);
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
    check_store(&message, data, size);
    free(status_text_table(&message, UINT64_C(1) << 60));
    return 0;
}
