/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * common_status - the status socket: how all devices are, as JSON.
 *
 * Threads: those of the control server.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "cache/control_server.h"
#include "cache/status_text.h"
#include "common.h"
#include "common_device.h"

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
            error = common_device_describe(device, &statuses[count++]);
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
