/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/nl_message.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <string.h>

enum { ALIGNMENT = 4 };

_Static_assert(sizeof(struct nlmsghdr) == 16 && sizeof(struct nlattr) == 4 &&
                   sizeof(struct genlmsghdr) == 4,
               "heads have no holes, and leave what follows aligned");

static size_t align(size_t len)
{
    return (len + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

/* ---- to bytes ----------------------------------------------------------- */

/* The length of the whole stands in its head, always true. */
static void set_length(struct nl_message *message)
{
    uint32_t len = (uint32_t)message->len;

    memcpy(message->bytes, &len, sizeof(len));
}

/* Append the bytes, zeros up to the alignment, and say where they are. */
static uint8_t *append(struct nl_message *message, const void *data, size_t len)
{
    uint8_t *to = message->bytes + message->len;

    if (len > NL_MESSAGE_MAX || align(len) > NL_MESSAGE_MAX - message->len) {
        message->is_full = true;
        return NULL;
    }
    if (len > 0)
        memcpy(to, data, len);
    memset(to + len, 0, align(len) - len);
    message->len += align(len);
    set_length(message);
    return to;
}

void nl_begin(struct nl_message *message, uint16_t family, uint16_t flags,
              uint32_t sequence, uint8_t command, uint8_t version)
{
    struct nlmsghdr head = {
        .nlmsg_type = family,
        .nlmsg_flags = flags,
        .nlmsg_seq = sequence,
    };
    struct genlmsghdr generic = {.cmd = command, .version = version};

    message->len = 0;
    message->is_full = false;
    (void)append(message, &head, sizeof(head));
    (void)append(message, &generic, sizeof(generic));
}

void nl_put(struct nl_message *message, uint16_t type, const void *data,
            size_t len)
{
    struct nlattr head = {.nla_type = type};

    if (len > NL_MESSAGE_MAX ||
        align(sizeof(head) + len) > NL_MESSAGE_MAX - message->len) {
        message->is_full = true;
        return;
    }
    head.nla_len = (uint16_t)(sizeof(head) + len);
    (void)append(message, &head, sizeof(head));
    (void)append(message, data, len);
}

void nl_put_u32(struct nl_message *message, uint16_t type, uint32_t value)
{
    nl_put(message, type, &value, sizeof(value));
}

void nl_put_u64(struct nl_message *message, uint16_t type, uint64_t value)
{
    nl_put(message, type, &value, sizeof(value));
}

void nl_put_string(struct nl_message *message, uint16_t type, const char *text)
{
    nl_put(message, type, text, strlen(text) + 1);
}

size_t nl_begin_nest(struct nl_message *message, uint16_t type)
{
    size_t nest = message->len;

    nl_put(message, (uint16_t)(type | NLA_F_NESTED), NULL, 0);
    return nest;
}

void nl_end_nest(struct nl_message *message, size_t nest)
{
    uint16_t len = (uint16_t)(message->len - nest);

    if (!message->is_full)
        memcpy(message->bytes + nest, &len, sizeof(len));
}

/* ---- from bytes --------------------------------------------------------- */

/*
 * Take len bytes, of which the first head are no payload, off the front, and
 * what aligns them.  len was in the bytes themselves.
 */
static bool take(struct nl_bytes *from, size_t head, size_t len,
                 struct nl_bytes *ret_payload)
{
    size_t whole = align(len);

    if (len < head || len > from->len)
        return false;
    *ret_payload = (struct nl_bytes){from->data + head, len - head};
    /* The last one need not be filled up. */
    if (whole > from->len)
        whole = from->len;
    from->data += whole;
    from->len -= whole;
    return true;
}

bool nl_next_message(struct nl_bytes *datagram, struct nl_received *ret_message)
{
    struct nlmsghdr head;
    struct nl_received message;

    if (datagram->len < sizeof(head))
        return false;
    memcpy(&head, datagram->data, sizeof(head));
    if (!take(datagram, sizeof(head), head.nlmsg_len, &message.payload))
        return false;
    message.type = head.nlmsg_type;
    message.flags = head.nlmsg_flags;
    message.sequence = head.nlmsg_seq;
    *ret_message = message;
    return true;
}

int nl_get_error(const struct nl_received *message)
{
    int32_t error;

    if (message->type != NLMSG_ERROR || message->payload.len < sizeof(error))
        return -EPROTO;
    memcpy(&error, message->payload.data, sizeof(error));
    return error > 0 || error < -4095 ? -EPROTO : error;
}

bool nl_get_command(const struct nl_received *message, uint8_t *ret_command,
                    struct nl_bytes *ret_attributes)
{
    struct genlmsghdr generic;

    if (message->type < NLMSG_MIN_TYPE ||
        message->payload.len < sizeof(generic))
        return false;
    memcpy(&generic, message->payload.data, sizeof(generic));
    *ret_command = generic.cmd;
    *ret_attributes = (struct nl_bytes){message->payload.data + sizeof(generic),
                                        message->payload.len - sizeof(generic)};
    return true;
}

bool nl_next_attribute(struct nl_bytes *attributes,
                       struct nl_attribute *ret_attribute)
{
    struct nlattr head;
    struct nl_attribute attribute;

    if (attributes->len < sizeof(head))
        return false;
    memcpy(&head, attributes->data, sizeof(head));
    if (!take(attributes, sizeof(head), head.nla_len, &attribute.value))
        return false;
    attribute.type = head.nla_type & (uint16_t)NLA_TYPE_MASK;
    *ret_attribute = attribute;
    return true;
}

bool nl_find_attribute(struct nl_bytes attributes, uint16_t type,
                       struct nl_bytes *ret_value)
{
    struct nl_attribute attribute;

    while (nl_next_attribute(&attributes, &attribute)) {
        if (attribute.type == type) {
            *ret_value = attribute.value;
            return true;
        }
    }
    return false;
}

static bool get_number(struct nl_bytes value, void *number, size_t size)
{
    if (value.len != size)
        return false;
    memcpy(number, value.data, size);
    return true;
}

bool nl_get_u8(struct nl_bytes value, uint8_t *ret_number)
{
    return get_number(value, ret_number, sizeof(*ret_number));
}

bool nl_get_u16(struct nl_bytes value, uint16_t *ret_number)
{
    return get_number(value, ret_number, sizeof(*ret_number));
}

bool nl_get_u32(struct nl_bytes value, uint32_t *ret_number)
{
    return get_number(value, ret_number, sizeof(*ret_number));
}

bool nl_is_string(struct nl_bytes value, const char *text)
{
    size_t len = strlen(text);

    return value.len == len + 1 && memcmp(value.data, text, len + 1) == 0;
}
