/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_control_message - any bytes as a line of the control socket.
 *
 * What is accepted is written again as the very same bytes, and a lease in it
 * is read again as the same lease.
 */
#include <stdlib.h>
#include <string.h>

#include "cache/control_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_lease(const struct control_message *message)
{
    static struct control_message again;
    struct control_lease lease, second;

    if (control_lease_decode(message, &lease) != 0)
        return;
    control_lease_encode(&lease, &again);
    if (control_lease_decode(&again, &second) != 0 ||
        memcmp(&lease.work.id, &second.work.id, sizeof(lease.work.id)) != 0 ||
        lease.work.generation != second.work.generation)
        abort();
}

static void try_report(const struct control_message *message)
{
    struct control_report report;

    if (control_report_decode(message, &report) == 0 && report.error == 0 &&
        report.result.table != message->payload)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct control_message message;
    static char line[CONTROL_LINE_MAX];
    size_t payload_size;
    int len;

    if (control_message_decode((const char *)data, size, &message,
                               &payload_size) != 0)
        return 0;
    if (payload_size > 0)
        control_message_set_payload(&message, malloc(1), payload_size);
    len = control_message_encode(&message, line);
    if (len < 0 || (size_t)len != size + 1 || memcmp(line, data, size) != 0)
        abort();
    try_lease(&message);
    try_report(&message);
    control_message_clear(&message);
    return 0;
}
