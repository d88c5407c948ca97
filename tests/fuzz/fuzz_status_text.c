/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_status_text - any message as the answer to "status" is JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json_check.h"
#include "cache/status_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(const struct control_message *message)
{
    char *text = NULL;
    size_t len;
    FILE *stream = open_memstream(&text, &len);

    if (!stream)
        abort();
    status_text_write(stream, message);
    if (fclose(stream) != 0 || !json_check_object(text, len))
        abort();
    free(text);
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

    if (control_message_decode((const char *)data, size, &message,
                               &payload_size) != 0)
        return 0;
    check_json(&message);
    check_store(&message, data, size);
    free(status_text_table(&message, UINT64_C(1) << 60));
    return 0;
}
