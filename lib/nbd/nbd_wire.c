/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_wire.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/utf8.h"

/* ---- the handshake ------------------------------------------------------ */

bool nbd_string_is(struct nbd_string string, const char *text)
{
    size_t len = strlen(text);

    return string.len == len && memcmp(string.bytes, text, len) == 0;
}

bool nbd_string_is_valid(struct nbd_string string)
{
    size_t at = 0;

    if (string.len > NBD_STRING_MAX)
        return false;
    while (at < string.len) {
        size_t len = utf8_character_len(string.bytes + at, string.len - at);

        if (len == 0)
            return false;
        at += len;
    }
    return true;
}

size_t nbd_put_greeting(uint8_t *to, uint16_t flags)
{
    put_be64(to, NBD_MAGIC);
    put_be64(to + 8, NBD_OPTION_MAGIC);
    put_be16(to + 16, flags);
    return NBD_GREETING_SIZE;
}

int nbd_get_option(const uint8_t *from, struct nbd_option *ret_option)
{
    if (get_be64(from) != NBD_OPTION_MAGIC)
        return -EPROTO;
    ret_option->option = get_be32(from + 8);
    ret_option->len = get_be32(from + 12);
    return 0;
}

size_t nbd_put_option_reply(uint8_t *to, uint32_t option, uint32_t type,
                            uint32_t len)
{
    put_be64(to, NBD_OPTION_REPLY_MAGIC);
    put_be32(to + 8, option);
    put_be32(to + 12, type);
    put_be32(to + 16, len);
    return NBD_OPTION_REPLY_SIZE;
}

/* What is left of an option's data while it is read. */
struct reader {
    const uint8_t *at;
    size_t left;
};

static bool read_u32(struct reader *reader, uint32_t *ret_value)
{
    if (reader->left < 4)
        return false;
    *ret_value = get_be32(reader->at);
    reader->at += 4;
    reader->left -= 4;
    return true;
}

/* Read a u32 and as many bytes; an unfit string is not one. */
static bool read_string(struct reader *reader, struct nbd_string *ret_string)
{
    uint32_t len;

    if (!read_u32(reader, &len) || len > reader->left)
        return false;
    ret_string->bytes = (const char *)reader->at;
    ret_string->len = len;
    reader->at += len;
    reader->left -= len;
    return nbd_string_is_valid(*ret_string);
}

int nbd_get_info_request(const uint8_t *from, size_t len,
                         struct nbd_info_request *ret_request)
{
    struct reader reader = {from, len};
    struct nbd_info_request request;

    if (!read_string(&reader, &request.name) || reader.left < 2)
        return -EINVAL;
    request.count = get_be16(reader.at);
    request.types = reader.at + 2;
    if (reader.left - 2 != request.count * 2)
        return -EINVAL;
    *ret_request = request;
    return 0;
}

bool nbd_info_request_has(const struct nbd_info_request *request, uint16_t type)
{
    for (size_t i = 0; i < request->count; i++) {
        if (get_be16(request->types + 2 * i) == type)
            return true;
    }
    return false;
}

int nbd_get_context_request(const uint8_t *from, size_t len,
                            struct nbd_context_request *ret_request)
{
    struct reader reader = {from, len};
    struct nbd_context_request request;

    if (!read_string(&reader, &request.name) ||
        !read_u32(&reader, &request.count))
        return -EINVAL;
    request.queries = reader.at;
    /* Each takes at least four bytes, which bounds this loop by len. */
    for (uint32_t i = 0; i < request.count; i++) {
        struct nbd_string query;

        if (!read_string(&reader, &query))
            return -EINVAL;
    }
    if (reader.left != 0)
        return -EINVAL;
    *ret_request = request;
    return 0;
}

bool nbd_next_query(struct nbd_context_request *request,
                    struct nbd_string *ret_query)
{
    if (request->count == 0)
        return false;
    ret_query->len = get_be32(request->queries);
    ret_query->bytes = (const char *)request->queries + 4;
    request->queries += 4 + ret_query->len;
    request->count--;
    return true;
}

size_t nbd_put_info_export(uint8_t *to, uint64_t size, uint16_t flags)
{
    put_be16(to, NBD_INFO_EXPORT);
    put_be64(to + 2, size);
    put_be16(to + 10, flags);
    return 12;
}

size_t nbd_put_info_block_size(uint8_t *to, uint32_t minimum,
                               uint32_t preferred, uint32_t maximum)
{
    put_be16(to, NBD_INFO_BLOCK_SIZE);
    put_be32(to + 2, minimum);
    put_be32(to + 6, preferred);
    put_be32(to + 10, maximum);
    return 14;
}

size_t nbd_put_export(uint8_t *to, uint64_t size, uint16_t flags, bool padded)
{
    put_be64(to, size);
    put_be16(to + 8, flags);
    if (!padded)
        return NBD_EXPORT_SIZE;
    memset(to + NBD_EXPORT_SIZE, 0, NBD_EXPORT_PADDING);
    return NBD_EXPORT_SIZE + NBD_EXPORT_PADDING;
}

/* ---- transmission ------------------------------------------------------- */

size_t nbd_request_size(bool extended)
{
    return extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
}

int nbd_get_request(const uint8_t *from, bool extended,
                    struct nbd_request *ret_request)
{
    if (get_be32(from) !=
        (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
        return -EPROTO;
    ret_request->flags = get_be16(from + 4);
    ret_request->type = get_be16(from + 6);
    ret_request->cookie = get_be64(from + 8);
    ret_request->offset = get_be64(from + 16);
    ret_request->length = extended ? get_be64(from + 24) : get_be32(from + 24);
    return 0;
}

size_t nbd_put_request(uint8_t *to, bool extended,
                       const struct nbd_request *request)
{
    put_be32(to, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    put_be16(to + 4, request->flags);
    put_be16(to + 6, request->type);
    put_be64(to + 8, request->cookie);
    put_be64(to + 16, request->offset);
    if (extended)
        put_be64(to + 24, request->length);
    else
        put_be32(to + 24, (uint32_t)request->length);
    return nbd_request_size(extended);
}

size_t nbd_put_simple_reply(uint8_t *to, uint32_t error, uint64_t cookie)
{
    put_be32(to, NBD_SIMPLE_REPLY_MAGIC);
    put_be32(to + 4, error);
    put_be64(to + 8, cookie);
    return NBD_SIMPLE_REPLY_SIZE;
}

size_t nbd_put_chunk(uint8_t *to, bool extended, const struct nbd_chunk *chunk)
{
    put_be32(to, extended ? NBD_EXTENDED_CHUNK_MAGIC : NBD_CHUNK_MAGIC);
    put_be16(to + 4, chunk->flags);
    put_be16(to + 6, chunk->type);
    put_be64(to + 8, chunk->cookie);
    if (!extended) {
        put_be32(to + 16, (uint32_t)chunk->length);
        return NBD_CHUNK_SIZE;
    }
    put_be64(to + 16, chunk->offset);
    put_be64(to + 24, chunk->length);
    return NBD_EXTENDED_CHUNK_SIZE;
}

size_t nbd_put_error(uint8_t *to, uint32_t error, const char *text)
{
    size_t len = strlen(text);

    if (len > NBD_STRING_MAX)
        len = NBD_STRING_MAX;
    put_be32(to, error);
    put_be16(to + 4, (uint16_t)len);
    memcpy(to + 6, text, len);
    return 6 + len;
}

size_t nbd_put_extent(uint8_t *to, bool extended, uint64_t length,
                      uint32_t flags)
{
    if (!extended) {
        put_be32(to, (uint32_t)length);
        put_be32(to + 4, flags);
        return 8;
    }
    put_be64(to, length);
    put_be64(to + 8, flags);
    return 16;
}
