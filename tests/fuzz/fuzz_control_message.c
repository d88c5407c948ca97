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
        memcmp(&lease.id, &second.id, sizeof(lease.id)) != 0 ||
        lease.objects_count != second.objects_count ||
        memcmp(lease.objects, second.objects,
               lease.objects_count * sizeof(lease.objects[0])) != 0)
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
    control_message_clear(&message);
    try_lease(&message);
    return 0;
}
