/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/nl_message.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include "unit/test.h"

static struct nl_message message;

static struct nl_bytes bytes_of(const struct nl_message *of)
{
    return (struct nl_bytes){of->bytes, of->len};
}

TEST("a message has its length, family, command and attributes in front")
{
    static const uint8_t expected[] = {
        36, 0, 0,  0, 0x23, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0, /* nlmsghdr */
        3,  1, 0,  0,                                        /* genlmsghdr */
        8,  0, 1,  0, 7,    0, 0, 0,                         /* u32 */
        6,  0, 10, 0, 'h',  0, 0, 0,                         /* string */
    };

    nl_begin(&message, 0x23, NLM_F_REQUEST | NLM_F_ACK, 9, 3, 1);
    nl_put_u32(&message, 1, 7);
    nl_put_string(&message, 10, "h");
    CHECK(!message.is_full && message.len == 36);
    CHECK(memcmp(message.bytes, expected, sizeof(expected)) == 0);
}

TEST("nested attributes are read back as they were put")
{
    struct nl_bytes datagram, attributes, list, value;
    struct nl_received received;
    struct nl_attribute item;
    uint8_t command;
    uint32_t number;
    size_t nest, inner;

    nl_begin(&message, 0x23, 0, 1, 3, 1);
    nest = nl_begin_nest(&message, 7);
    inner = nl_begin_nest(&message, 1);
    nl_put_u32(&message, 2, 11);
    nl_end_nest(&message, inner);
    nl_end_nest(&message, nest);
    nl_put_u64(&message, 3, UINT64_C(1) << 40);
    datagram = bytes_of(&message);
    NEED(nl_next_message(&datagram, &received));
    CHECK(received.type == 0x23 && received.sequence == 1);
    CHECK(!nl_next_message(&datagram, &received));
    NEED(nl_get_command(&received, &command, &attributes) && command == 3);
    NEED(nl_find_attribute(attributes, 7, &list) && list.len == 12);
    NEED(nl_next_attribute(&list, &item) && item.type == 1);
    CHECK(!nl_next_attribute(&list, &item));
    NEED(nl_find_attribute(item.value, 2, &value));
    CHECK(nl_get_u32(value, &number) && number == 11);
    NEED(nl_find_attribute(attributes, 3, &value));
    CHECK(value.len == 8 && !nl_get_u32(value, &number));
    CHECK(!nl_find_attribute(attributes, 4, &value));
}

TEST("what does not fit marks the message, and writes nothing behind it")
{
    char text[NL_MESSAGE_MAX];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    nl_begin(&message, 0x23, 0, 1, 3, 1);
    nl_put_string(&message, 10, text);
    CHECK(message.is_full && message.len == 20);
    text[NL_MESSAGE_MAX - 20 - 4 - 1] = '\0';
    nl_begin(&message, 0x23, 0, 1, 3, 1);
    nl_put_string(&message, 10, text);
    CHECK(!message.is_full && message.len == NL_MESSAGE_MAX);
    nl_put_u32(&message, 1, 1);
    CHECK(message.is_full && message.len == NL_MESSAGE_MAX);
}

TEST("lengths that lie end the reading")
{
    struct nl_received received;
    struct nl_attribute attribute;
    struct nl_bytes bytes;

    nl_begin(&message, 0x23, 0, 1, 3, 1);
    nl_put_u32(&message, 1, 7);
    for (unsigned len = 0; len < 16; len++) {
        message.bytes[0] = (uint8_t)len;
        bytes = bytes_of(&message);
        CHECK(!nl_next_message(&bytes, &received));
    }
    message.bytes[0] = (uint8_t)(message.len + 1);
    bytes = bytes_of(&message);
    CHECK(!nl_next_message(&bytes, &received));
    for (unsigned len = 0; len < 4; len++) {
        message.bytes[20] = (uint8_t)len;
        bytes = (struct nl_bytes){message.bytes + 20, 8};
        CHECK(!nl_next_attribute(&bytes, &attribute));
    }
    message.bytes[20] = 9;
    bytes = (struct nl_bytes){message.bytes + 20, 8};
    CHECK(!nl_next_attribute(&bytes, &attribute));
    bytes = (struct nl_bytes){message.bytes + 20, 3};
    CHECK(!nl_next_attribute(&bytes, &attribute));
}

TEST("an error is a negative errno, an acknowledgement is none")
{
    int32_t number = -22;
    struct nl_received received = {
        .type = NLMSG_ERROR,
        .payload = {(const uint8_t *)&number, sizeof(number)},
    };

    CHECK(nl_get_error(&received) == -22);
    number = 0;
    CHECK(nl_get_error(&received) == 0);
    number = 22;
    CHECK(nl_get_error(&received) == -EPROTO);
    number = -5000;
    CHECK(nl_get_error(&received) == -EPROTO);
    received.payload.len = 3;
    CHECK(nl_get_error(&received) == -EPROTO);
    received.type = 0x23;
    CHECK(nl_get_error(&received) == -EPROTO);
}

TEST("strings are compared with their end")
{
    CHECK(nl_is_string((struct nl_bytes){(const uint8_t *)"nbd", 4}, "nbd"));
    CHECK(!nl_is_string((struct nl_bytes){(const uint8_t *)"nbd", 3}, "nbd"));
    CHECK(!nl_is_string((struct nl_bytes){(const uint8_t *)"nbe", 4}, "nbd"));
}
