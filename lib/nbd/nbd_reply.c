/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_reply.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"

/*
 * The longest run that a 32-bit descriptor tells of: one byte more would
 * wrap, and a whole number of sectors is asked for.
 */
#define NARROW_EXTENT_MAX (UINT32_MAX - 511U)

uint32_t nbd_error_of(int error)
{
    switch (-error) {
    case 0:
        return NBD_OK;
    case EPERM:
    case EACCES:
    case EROFS:
        return NBD_EPERM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EINVAL:
        return NBD_EINVAL;
    case ENOMEM:
        return NBD_ENOMEM;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

/* Put the head of the only chunk that this reply has. */
static void put_chunk(struct nbd_reply *reply,
                      const struct nbd_session *session,
                      const struct nbd_request *request, uint16_t type,
                      size_t length)
{
    const struct nbd_chunk chunk = {
        .flags = NBD_REPLY_FLAG_DONE,
        .type = type,
        .cookie = request->cookie,
        .offset = request->offset,
        .length = length,
    };

    reply->head_len = nbd_put_chunk(reply->head, session->extended, &chunk);
    reply->data = NULL;
    reply->data_len = 0;
}

static void put_simple(struct nbd_reply *reply,
                       const struct nbd_request *request, uint32_t error)
{
    reply->head_len = nbd_put_simple_reply(reply->head, error, request->cookie);
    reply->data = NULL;
    reply->data_len = 0;
}

void nbd_reply_error(struct nbd_reply *reply, const struct nbd_session *session,
                     const struct nbd_request *request, uint32_t error,
                     const char *text)
{
    char cut[NBD_REPLY_TEXT_MAX + 1];
    size_t len = strnlen(text, NBD_REPLY_TEXT_MAX);

    if (!session->structured) {
        put_simple(reply, request, error);
        return;
    }
    memcpy(cut, text, len);
    cut[len] = '\0';
    put_chunk(reply, session, request, NBD_REPLY_ERROR, 6 + len);
    reply->head_len += nbd_put_error(reply->head + reply->head_len, error, cut);
}

void nbd_reply_ok(struct nbd_reply *reply, const struct nbd_session *session,
                  const struct nbd_request *request)
{
    /* A structured READ never gets a simple reply; others may, and it is
     * shorter. */
    if (session->extended ||
        (session->structured && request->type == NBD_CMD_READ))
        put_chunk(reply, session, request, NBD_REPLY_NONE, 0);
    else
        put_simple(reply, request, NBD_OK);
}

void nbd_reply_data(struct nbd_reply *reply, const struct nbd_session *session,
                    const struct nbd_request *request, const void *data,
                    size_t len)
{
    if (!session->structured) {
        put_simple(reply, request, NBD_OK);
        reply->data = data;
        reply->data_len = len;
        return;
    }
    /*
     * Looking costs little: other data differ within the first bytes, and
     * zeros that are not sent are copied neither here nor there.
     */
    if ((request->flags & NBD_CMD_FLAG_DF) == 0 && bytes_are_zero(data, len)) {
        put_chunk(reply, session, request, NBD_REPLY_OFFSET_HOLE, 12);
        put_be64(reply->head + reply->head_len, request->offset);
        put_be32(reply->head + reply->head_len + 8, (uint32_t)len);
        reply->head_len += 12;
        return;
    }
    put_chunk(reply, session, request, NBD_REPLY_OFFSET_DATA, 8 + len);
    put_be64(reply->head + reply->head_len, request->offset);
    reply->head_len += 8;
    reply->data = data;
    reply->data_len = len;
}

void nbd_reply_extents(struct nbd_reply *reply,
                       const struct nbd_session *session,
                       const struct nbd_request *request,
                       struct device_extent *extents, size_t count)
{
    /* A descriptor is never longer than the struct that it comes from. */
    uint8_t *data = (uint8_t *)extents;
    bool extended = session->extended;
    size_t data_len = 0, used = 0;

    assert(count > 0);
    while (used < count) {
        struct device_extent extent = extents[used++];
        bool is_cut = !extended && extent.length > NARROW_EXTENT_MAX;

        if (is_cut)
            extent.length = NARROW_EXTENT_MAX;
        data_len += nbd_put_extent(data + data_len, extended, extent.length,
                                   extent.flags);
        /* What follows would not begin where this one ends. */
        if (is_cut)
            break;
    }
    put_chunk(reply, session, request,
              extended ? NBD_REPLY_BLOCK_STATUS_EXT : NBD_REPLY_BLOCK_STATUS,
              (extended ? 8 : 4) + data_len);
    put_be32(reply->head + reply->head_len, NBD_CONTEXT_ALLOCATION);
    reply->head_len += 4;
    if (extended) {
        put_be32(reply->head + reply->head_len, (uint32_t)used);
        reply->head_len += 4;
    }
    reply->data = data;
    reply->data_len = data_len;
}
