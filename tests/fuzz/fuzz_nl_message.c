/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_nl_message - any bytes as a datagram; all that is read lies inside.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attach/nl_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEPTH_MAX = 4 };

static void require_inside(struct nl_bytes inner, struct nl_bytes outer)
{
    if (inner.data < outer.data || inner.len > outer.len ||
        (size_t)(inner.data - outer.data) > outer.len - inner.len)
        abort();
}

/* Read attributes, and what they hold as attributes, too. */
static void read_attributes(struct nl_bytes attributes, unsigned depth)
{
    struct nl_bytes rest = attributes, value;
    struct nl_attribute attribute;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;

    while (nl_next_attribute(&rest, &attribute)) {
        require_inside(attribute.value, attributes);
        require_inside(rest, attributes);
        (void)nl_get_u8(attribute.value, &u8);
        (void)nl_get_u16(attribute.value, &u16);
        (void)nl_get_u32(attribute.value, &u32);
        (void)nl_is_string(attribute.value, "nbd");
        if (!nl_find_attribute(attributes, attribute.type, &value))
            abort();
        if (depth < DEPTH_MAX)
            read_attributes(attribute.value, depth + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nl_bytes all = {data, size}, rest = all, attributes;
    struct nl_received message;
    uint8_t command;

    /* Each attribute is looked for again: that is quadratic. */
    if (size > 4096)
        return 0;
    while (nl_next_message(&rest, &message)) {
        require_inside(message.payload, all);
        if (nl_get_error(&message) > 0)
            abort();
        if (!nl_get_command(&message, &command, &attributes))
            continue;
        require_inside(attributes, message.payload);
        read_attributes(attributes, 0);
    }
    return 0;
}
