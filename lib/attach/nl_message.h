/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nl_message - messages of generic netlink, to and from bytes (pure).
 *
 * All integers are in the host's order, all is aligned to four bytes.
 * Threads: any.
 */
#ifndef ATTACH_NL_MESSAGE_H
#define ATTACH_NL_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NL_MESSAGE_MAX = 4096 }; /* bytes of one that is sent */

/* ---- to bytes ----------------------------------------------------------- */

/* A message that is being put together; what does not fit marks it full. */
struct nl_message {
    _Alignas(8) uint8_t bytes[NL_MESSAGE_MAX];
    size_t len;
    bool is_full; /* something did not fit: it must not be sent */
};

/* Begin a message to a family, or with type 0x10 to the controller of all. */
void nl_begin(struct nl_message *message, uint16_t family, uint16_t flags,
              uint32_t sequence, uint8_t command, uint8_t version);

/* Add an attribute: of any bytes, a number, a string with its end. */
void nl_put(struct nl_message *message, uint16_t type, const void *data,
            size_t len);
void nl_put_u32(struct nl_message *message, uint16_t type, uint32_t value);
void nl_put_u64(struct nl_message *message, uint16_t type, uint64_t value);
void nl_put_string(struct nl_message *message, uint16_t type, const char *text);

/* Begin an attribute that holds others; returns what nl_end_nest wants. */
size_t nl_begin_nest(struct nl_message *message, uint16_t type);
void nl_end_nest(struct nl_message *message, size_t nest);

/* ---- from bytes --------------------------------------------------------- */

/* What is still to be read; it points into somebody's memory. */
struct nl_bytes {
    const uint8_t *data;
    size_t len;
};

/* One message that was received. */
struct nl_received {
    uint16_t type;
    uint16_t flags;
    uint32_t sequence;
    struct nl_bytes payload;
};

/*
 * Take the next message off the front of a datagram.  False at its end, also
 * if what is left is no message.
 */
bool nl_next_message(struct nl_bytes *datagram,
                     struct nl_received *ret_message);

/* The error in a message of type NLMSG_ERROR; 0: it is an acknowledgement. */
int nl_get_error(const struct nl_received *message);

/* The command of a message of generic netlink, and its attributes. */
bool nl_get_command(const struct nl_received *message, uint8_t *ret_command,
                    struct nl_bytes *ret_attributes);

struct nl_attribute {
    uint16_t type; /* without the flags of nesting and byte order */
    struct nl_bytes value;
};

/* Take the next attribute off the front; false at the end. */
bool nl_next_attribute(struct nl_bytes *attributes,
                       struct nl_attribute *ret_attribute);

/* Find the first attribute of a type; false: there is none. */
bool nl_find_attribute(struct nl_bytes attributes, uint16_t type,
                       struct nl_bytes *ret_value);

/* The value of an attribute; false if it is of another size, or no string. */
bool nl_get_u8(struct nl_bytes value, uint8_t *ret_number);
bool nl_get_u16(struct nl_bytes value, uint16_t *ret_number);
bool nl_get_u32(struct nl_bytes value, uint32_t *ret_number);
bool nl_is_string(struct nl_bytes value, const char *text);

#endif
