/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_command.h"

#include <stddef.h>

#include "base/bytes.h"

/* What a command is to us; the index is its number. */
static const struct rules {
    enum device_operation operation;
    uint16_t flags; /* that it may have; FUA may be on every command */
    bool writes;
    bool has_range;
    bool has_data;        /* length counts bytes that are sent, either way */
    uint32_t range_error; /* what it gets when it ends past the device */
} rules[] = {
    [NBD_CMD_READ] = {DEVICE_READ, NBD_CMD_FLAG_DF, false, true, true,
                      NBD_EINVAL},
    [NBD_CMD_WRITE] = {DEVICE_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, true, true, true,
                       NBD_ENOSPC},
    [NBD_CMD_FLUSH] = {DEVICE_FLUSH, 0, false, false, false, 0},
    [NBD_CMD_TRIM] = {DEVICE_TRIM, 0, true, true, false, NBD_EINVAL},
    [NBD_CMD_CACHE] = {DEVICE_PREFETCH, 0, false, true, false, NBD_EINVAL},
    /* Zeroing is one small record: FAST_ZERO can always be kept. */
    [NBD_CMD_WRITE_ZEROES] = {DEVICE_ZERO,
                              NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
                              true, true, false, NBD_ENOSPC},
    [NBD_CMD_BLOCK_STATUS] = {DEVICE_EXTENTS,
                              NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_PAYLOAD_LEN,
                              false, true, false, NBD_EINVAL},
};

static bool has_payload_flag(const struct nbd_session *session,
                             const struct nbd_request *request)
{
    return session->extended &&
           (request->flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0;
}

uint64_t nbd_command_payload_len(const struct nbd_session *session,
                                 const struct nbd_request *request)
{
    if (session->extended)
        return has_payload_flag(session, request) ? request->length : 0;
    return request->type == NBD_CMD_WRITE ? request->length : 0;
}

static struct nbd_command answer(uint32_t error, const char *text)
{
    return (struct nbd_command){
        .verdict = NBD_VERDICT_ANSWER,
        .error = error,
        .text = text,
    };
}

/* Whether the flags fit the command, and what was agreed upon. */
static bool flags_fit(const struct nbd_session *session,
                      const struct rules *rule,
                      const struct nbd_request *request)
{
    unsigned allowed = rule->flags | (unsigned)NBD_CMD_FLAG_FUA;

    if (!session->structured)
        allowed &= ~(unsigned)NBD_CMD_FLAG_DF;
    if (!session->extended)
        allowed &= ~(unsigned)NBD_CMD_FLAG_PAYLOAD_LEN;
    return (request->flags & ~allowed) == 0;
}

static unsigned device_flags_of(const struct nbd_session *session,
                                const struct rules *rule, uint16_t flags)
{
    unsigned result = 0;

    /* On a READ it is harmless, and on a FLUSH it says nothing new. */
    if (rule->writes &&
        (session->is_durable || (flags & NBD_CMD_FLAG_FUA) != 0))
        result |= DEVICE_FUA;
    if ((flags & NBD_CMD_FLAG_NO_HOLE) != 0)
        result |= DEVICE_NO_HOLE;
    if ((flags & NBD_CMD_FLAG_REQ_ONE) != 0)
        result |= DEVICE_ONE_EXTENT;
    return result;
}

/*
 * The payload of BLOCK_STATUS: the length that is asked about, and numbers of
 * contexts, of which there is only ours.
 */
static bool context_payload_fits(const uint8_t *payload, uint64_t len)
{
    return payload && len == 12 &&
           get_be32(payload + 8) == NBD_CONTEXT_ALLOCATION;
}

/* Check the length and the range of a command that has them. */
static struct nbd_command check_range(const struct rules *rule,
                                      struct nbd_command command, uint64_t size)
{
    if (rule->has_data && command.length > DEVICE_REQUEST_MAX)
        return answer(NBD_EINVAL, "more than 64 MiB in one request");
    /* In this order nothing wraps, whatever the client sent. */
    if (command.length > size || command.offset > size - command.length)
        return answer(rule->range_error, "this ends past the device");
    if (command.length == 0 && rule->operation == DEVICE_EXTENTS)
        return answer(NBD_EINVAL, "block status of nothing");
    if (command.length == 0)
        return answer(NBD_OK, "");
    return command;
}

struct nbd_command nbd_command_check(const struct nbd_session *session,
                                     uint64_t size, bool read_only,
                                     const struct nbd_request *request,
                                     const uint8_t *payload)
{
    uint64_t payload_len = nbd_command_payload_len(session, request);
    const struct rules *rule;
    struct nbd_command command = {
        .verdict = NBD_VERDICT_RUN,
        .offset = request->offset,
        .length = request->length,
    };

    if (request->type == NBD_CMD_DISC)
        return (struct nbd_command){.verdict = NBD_VERDICT_DISCONNECT};
    /*
     * No payload that long is skipped.  And an extended WRITE that does not
     * say that it has one may yet be followed by it, which must not be taken
     * for requests.
     */
    if (payload_len > DEVICE_REQUEST_MAX ||
        (session->extended && request->type == NBD_CMD_WRITE &&
         !has_payload_flag(session, request)))
        return (struct nbd_command){.verdict = NBD_VERDICT_HANG_UP};
    if (request->type >= sizeof(rules) / sizeof(rules[0]))
        return answer(NBD_EINVAL, "this server does not know the command");
    rule = &rules[request->type];
    if (!flags_fit(session, rule, request))
        return answer(NBD_EINVAL, "a flag does not fit the command");
    command.operation = rule->operation;
    command.flags = device_flags_of(session, rule, request->flags);
    command.writes = rule->writes;
    if (rule->writes && read_only)
        return answer(NBD_EPERM, "the export is read-only");
    if (rule->operation == DEVICE_EXTENTS) {
        if (!session->block_status)
            return answer(NBD_EINVAL, "no context of block status selected");
        if (has_payload_flag(session, request)) {
            if (!context_payload_fits(payload, payload_len))
                return answer(NBD_EINVAL, "these contexts are not selected");
            command.length = get_be64(payload);
        }
    }
    if (!rule->has_range) {
        command.offset = 0;
        command.length = 0;
        return command;
    }
    return check_range(rule, command, size);
}
