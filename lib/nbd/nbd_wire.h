/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_wire - bytes of the NBD protocol to options, requests and replies, and
 * back.
 *
 * Pure.  The get functions believe nothing that they read; the put functions
 * write at most what their comment says and return how much.  Strings that
 * were got lie in the bytes they were got from, and have no end mark.
 */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/nbd_protocol.h"

/* ---- the handshake ------------------------------------------------------ */

/* A string inside of something received. */
struct nbd_string {
    const char *bytes;
    size_t len;
};

/* Whether the string is text, of that length, byte for byte. */
bool nbd_string_is(struct nbd_string string, const char *text);

/* Whether the string may name something: not too long, UTF-8, no NUL. */
bool nbd_string_is_valid(struct nbd_string string);

/* Write the greeting: NBD_GREETING_SIZE bytes. */
size_t nbd_put_greeting(uint8_t *to, uint16_t flags);

struct nbd_option {
    uint32_t option;
    uint32_t len; /* of the data that follow */
};

/* Read NBD_OPTION_SIZE bytes; -EPROTO if the magic is wrong. */
int nbd_get_option(const uint8_t *from, struct nbd_option *ret_option);

/* Write the head of an answer: NBD_OPTION_REPLY_SIZE bytes. */
size_t nbd_put_option_reply(uint8_t *to, uint32_t option, uint32_t type,
                            uint32_t len);

/* The data of INFO and GO. */
struct nbd_info_request {
    struct nbd_string name;
    size_t count;         /* information asked for */
    const uint8_t *types; /* u16 each */
};

/* Read all len bytes of INFO or GO; -EINVAL if they are not exactly that. */
int nbd_get_info_request(const uint8_t *from, size_t len,
                         struct nbd_info_request *ret_request);

/* Whether the request asks for this information. */
bool nbd_info_request_has(const struct nbd_info_request *request,
                          uint16_t type);

/* The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
struct nbd_context_request {
    struct nbd_string name;
    uint32_t count;         /* queries */
    const uint8_t *queries; /* the first of them */
};

/* As nbd_get_info_request; the queries' lengths were all checked. */
int nbd_get_context_request(const uint8_t *from, size_t len,
                            struct nbd_context_request *ret_request);

/* Take the next query off the request; false when there is none. */
bool nbd_next_query(struct nbd_context_request *request,
                    struct nbd_string *ret_query);

/* Write INFO_EXPORT: 12 bytes. */
size_t nbd_put_info_export(uint8_t *to, uint64_t size, uint16_t flags);

/* Write INFO_BLOCK_SIZE: 14 bytes. */
size_t nbd_put_info_block_size(uint8_t *to, uint32_t minimum,
                               uint32_t preferred, uint32_t maximum);

/*
 * Write the answer to EXPORT_NAME: NBD_EXPORT_SIZE bytes, and
 * NBD_EXPORT_PADDING zeros if padded.
 */
size_t nbd_put_export(uint8_t *to, uint64_t size, uint16_t flags, bool padded);

/* ---- transmission ------------------------------------------------------- */

struct nbd_request {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;
    uint64_t offset;
    uint64_t length;
};

/* How many bytes the head of a request has. */
size_t nbd_request_size(bool extended);

/* Read that many bytes; -EPROTO if the magic is wrong. */
int nbd_get_request(const uint8_t *from, bool extended,
                    struct nbd_request *ret_request);

/* Write it again, as it was read: returns nbd_request_size(). */
size_t nbd_put_request(uint8_t *to, bool extended,
                       const struct nbd_request *request);

/* Write a simple reply: NBD_SIMPLE_REPLY_SIZE bytes. */
size_t nbd_put_simple_reply(uint8_t *to, uint32_t error, uint64_t cookie);

/* What the head of a chunk of a reply says. */
struct nbd_chunk {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;
    uint64_t offset; /* the request's; extended chunks repeat it */
    uint64_t length; /* bytes that follow: below 2^32 if not extended */
};

/* Write it: up to NBD_EXTENDED_CHUNK_SIZE bytes. */
size_t nbd_put_chunk(uint8_t *to, bool extended, const struct nbd_chunk *chunk);

/* Write the payload of a chunk of type ERROR: 6 bytes and the text. */
size_t nbd_put_error(uint8_t *to, uint32_t error, const char *text);

/*
 * Write one run of a block status: 8 bytes, or 16 if extended.  If not, the
 * length must be below 2^32.
 */
size_t nbd_put_extent(uint8_t *to, bool extended, uint64_t length,
                      uint32_t flags);

#endif
