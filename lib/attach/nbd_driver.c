/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/nbd_driver.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "attach/nl_message.h"
#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/stream.h"

enum {
    ANSWER_SIZE = 1 << 18, /* a list of some thousand devices */
    /* The kernel answers before send(2) returns; this is for others. */
    ANSWER_TIMEOUT_S = 10,
};

struct nbd_driver {
    int fd;
    uint16_t family;
    uint32_t group; /* that events are sent to; 0: there is none */
    uint32_t sequence;
    struct nl_message request;
    _Alignas(8) uint8_t answer[ANSWER_SIZE];
};

/* ---- ask and be answered ------------------------------------------------ */

/* What is done with each message of an answer but the last. */
typedef int use_answer(void *context, uint8_t command,
                       struct nl_bytes attributes);

static void begin(struct nbd_driver *driver, uint8_t command)
{
    nl_begin(&driver->request, driver->family, NLM_F_REQUEST | NLM_F_ACK,
             ++driver->sequence, command, NBD_GENL_VERSION);
}

/* Whether it was the kernel that sent this; or a test's pair of sockets. */
static bool is_from_kernel(const struct sockaddr_nl *from, socklen_t len)
{
    return len < sizeof(*from) || from->nl_family != AF_NETLINK ||
           from->nl_pid == 0;
}

/* Receive one datagram of the kernel's; -EAGAIN: none is there. */
static int receive(struct nbd_driver *driver, struct nl_bytes *ret_datagram)
{
    for (;;) {
        struct sockaddr_nl from = {0};
        struct iovec piece = {driver->answer, sizeof(driver->answer)};
        struct msghdr message = {
            .msg_name = &from,
            .msg_namelen = sizeof(from),
            .msg_iov = &piece,
            .msg_iovlen = 1,
        };
        ssize_t len = recvmsg(driver->fd, &message, MSG_DONTWAIT);

        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            return -errno;
        if (!is_from_kernel(&from, message.msg_namelen))
            continue;
        if (len == 0)
            return -EPIPE;
        if ((message.msg_flags & MSG_TRUNC) != 0)
            return -EMSGSIZE;
        *ret_datagram = (struct nl_bytes){driver->answer, (size_t)len};
        return 0;
    }
}

/* Use the messages of a datagram; 1: the last one of the answer was there. */
static int use_datagram(struct nbd_driver *driver, struct nl_bytes datagram,
                        use_answer *use, void *context)
{
    struct nl_received message;

    while (nl_next_message(&datagram, &message)) {
        struct nl_bytes attributes;
        uint8_t command;
        int error;

        if (message.sequence != driver->sequence)
            continue;
        if (message.type == NLMSG_ERROR) {
            error = nl_get_error(&message);
            return error == 0 ? 1 : error;
        }
        if (!use || !nl_get_command(&message, &command, &attributes))
            continue;
        error = use(context, command, attributes);
        if (error < 0)
            return error;
    }
    return 0;
}

/* Send the request, and use what is answered until it is acknowledged. */
static int ask(struct nbd_driver *driver, use_answer *use, void *context)
{
    uint64_t deadline_ns =
        clock_monotonic_ns() + ANSWER_TIMEOUT_S * UINT64_C(1000000000);
    int result = 0;

    if (driver->request.is_full)
        return -EMSGSIZE;
    if (send(driver->fd, driver->request.bytes, driver->request.len,
             MSG_NOSIGNAL) < 0)
        return -errno;
    while (result == 0) {
        struct nl_bytes datagram;

        result = receive(driver, &datagram);
        if (result == -EAGAIN)
            result = stream_wait_fd(driver->fd, POLLIN, deadline_ns);
        else if (result == 0)
            result = use_datagram(driver, datagram, use, context);
    }
    return result < 0 ? result : 0;
}

/* ---- the driver --------------------------------------------------------- */

/* Find the group of events among those of the family. */
static void find_group(struct nbd_driver *driver, struct nl_bytes groups)
{
    struct nl_attribute item;
    struct nl_bytes name, id;

    while (nl_next_attribute(&groups, &item)) {
        if (nl_find_attribute(item.value, CTRL_ATTR_MCAST_GRP_NAME, &name) &&
            nl_is_string(name, NBD_GENL_MCAST_GROUP_NAME) &&
            nl_find_attribute(item.value, CTRL_ATTR_MCAST_GRP_ID, &id))
            (void)nl_get_u32(id, &driver->group);
    }
}

static int use_family(void *context, uint8_t command,
                      struct nl_bytes attributes)
{
    struct nbd_driver *driver = context;
    struct nl_bytes value;

    if (command != CTRL_CMD_NEWFAMILY)
        return 0;
    if (nl_find_attribute(attributes, CTRL_ATTR_FAMILY_ID, &value))
        (void)nl_get_u16(value, &driver->family);
    if (nl_find_attribute(attributes, CTRL_ATTR_MCAST_GROUPS, &value))
        find_group(driver, value);
    return 0;
}

static int find_family(struct nbd_driver *driver)
{
    int error;

    nl_begin(&driver->request, GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_ACK,
             ++driver->sequence, CTRL_CMD_GETFAMILY, 1);
    nl_put_string(&driver->request, CTRL_ATTR_FAMILY_NAME,
                  NBD_GENL_FAMILY_NAME);
    error = ask(driver, use_family, driver);
    if (error == 0 && driver->family == 0)
        error = -EPROTO;
    return error == -ENOENT ? -ENODEV : error;
}

int nbd_driver_open_over(int fd, struct nbd_driver **ret_driver,
                         struct net_failure *ret_failure)
{
    struct nbd_driver *driver = calloc(1, sizeof(*driver));
    int error;

    if (!driver) {
        (void)close(fd);
        net_failure_set(ret_failure, -ENOMEM, "no memory");
        return -ENOMEM;
    }
    driver->fd = fd;
    error = find_family(driver);
    if (error == 0) {
        *ret_driver = driver;
        return 0;
    }
    nbd_driver_close(driver);
    if (error == -ENODEV)
        net_failure_set(ret_failure, error,
                        "the kernel's module nbd is not loaded: \"modprobe "
                        "nbd\" does it now, a line \"nbd\" in "
                        "/etc/modules-load.d/nbd.conf at each boot");
    else
        net_failure_set(ret_failure, error, "generic netlink: %s",
                        log_errno(error));
    return error;
}

int nbd_driver_open(struct nbd_driver **ret_driver,
                    struct net_failure *ret_failure)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);

    if (fd < 0) {
        int error = -errno;

        net_failure_set(ret_failure, error, "netlink socket: %s",
                        log_errno(error));
        return error;
    }
    return nbd_driver_open_over(fd, ret_driver, ret_failure);
}

void nbd_driver_close(struct nbd_driver *driver)
{
    if (!driver)
        return;
    (void)close(driver->fd);
    free(driver);
}

/* ---- devices ------------------------------------------------------------ */

static void put_sockets(struct nl_message *message, const int fds[],
                        size_t count)
{
    size_t list = nl_begin_nest(message, NBD_ATTR_SOCKETS);

    for (size_t i = 0; i < count; i++) {
        size_t item = nl_begin_nest(message, NBD_SOCK_ITEM);

        nl_put_u32(message, NBD_SOCK_FD, (uint32_t)fds[i]);
        nl_end_nest(message, item);
    }
    nl_end_nest(message, list);
}

int nbd_driver_connect(struct nbd_driver *driver,
                       const struct nbd_driver_config *config)
{
    struct nl_message *request = &driver->request;

    begin(driver, NBD_CMD_CONNECT);
    nl_put_u32(request, NBD_ATTR_INDEX, config->index);
    nl_put_u64(request, NBD_ATTR_SIZE_BYTES, config->size);
    nl_put_u64(request, NBD_ATTR_BLOCK_SIZE_BYTES, config->block_size);
    nl_put_u64(request, NBD_ATTR_SERVER_FLAGS, config->flags);
    nl_put_u64(request, NBD_ATTR_TIMEOUT, config->timeout_s);
    nl_put_u64(request, NBD_ATTR_DEAD_CONN_TIMEOUT, config->dead_timeout_s);
    if (config->backend)
        nl_put_string(request, NBD_ATTR_BACKEND_IDENTIFIER, config->backend);
    put_sockets(request, config->fds, config->fds_count);
    return ask(driver, NULL, NULL);
}

/* Begin to change what an attached device is configured with. */
static void begin_reconfigure(struct nbd_driver *driver, uint32_t index,
                              const char *backend)
{
    begin(driver, NBD_CMD_RECONFIGURE);
    nl_put_u32(&driver->request, NBD_ATTR_INDEX, index);
    if (backend)
        nl_put_string(&driver->request, NBD_ATTR_BACKEND_IDENTIFIER, backend);
}

int nbd_driver_offer(struct nbd_driver *driver, uint32_t index,
                     const char *backend, int fd)
{
    begin_reconfigure(driver, index, backend);
    put_sockets(&driver->request, &fd, 1);
    return ask(driver, NULL, NULL);
}

int nbd_driver_resize(struct nbd_driver *driver, uint32_t index,
                      const char *backend, uint64_t size)
{
    begin_reconfigure(driver, index, backend);
    nl_put_u64(&driver->request, NBD_ATTR_SIZE_BYTES, size);
    return ask(driver, NULL, NULL);
}

int nbd_driver_disconnect(struct nbd_driver *driver, uint32_t index)
{
    begin(driver, NBD_CMD_DISCONNECT);
    nl_put_u32(&driver->request, NBD_ATTR_INDEX, index);
    return ask(driver, NULL, NULL);
}

/* The devices that are configured, as they are told. */
struct found {
    uint32_t *indexes;
    size_t count;
};

static int use_item(struct found *found, struct nl_bytes item)
{
    struct nl_bytes value;
    uint32_t index;
    uint8_t is_configured;
    uint32_t *more;

    if (!nl_find_attribute(item, NBD_DEVICE_INDEX, &value) ||
        !nl_get_u32(value, &index) ||
        !nl_find_attribute(item, NBD_DEVICE_CONNECTED, &value) ||
        !nl_get_u8(value, &is_configured))
        return -EPROTO;
    if (is_configured == 0)
        return 0;
    more = reallocarray(found->indexes, found->count + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    found->indexes = more;
    found->indexes[found->count++] = index;
    return 0;
}

static int use_status(void *context, uint8_t command,
                      struct nl_bytes attributes)
{
    struct nl_attribute item;
    struct nl_bytes list;
    int error = 0;

    if (command != NBD_CMD_STATUS ||
        !nl_find_attribute(attributes, NBD_ATTR_DEVICE_LIST, &list))
        return 0;
    while (error == 0 && nl_next_attribute(&list, &item)) {
        if (item.type == NBD_DEVICE_ITEM)
            error = use_item(context, item.value);
    }
    return error;
}

static int compare_indexes(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

int nbd_driver_list(struct nbd_driver *driver, uint32_t **ret_indexes,
                    size_t *ret_count)
{
    struct found found = {0};
    int error;

    begin(driver, NBD_CMD_STATUS);
    error = ask(driver, use_status, &found);
    if (error) {
        free(found.indexes);
        return error;
    }
    if (found.count > 0)
        qsort(found.indexes, found.count, sizeof(found.indexes[0]),
              compare_indexes);
    *ret_indexes = found.indexes;
    *ret_count = found.count;
    return 0;
}

int nbd_driver_is_configured(struct nbd_driver *driver, uint32_t index,
                             bool *ret_is_configured)
{
    struct found found = {0};
    bool is_configured = false;
    int error;

    begin(driver, NBD_CMD_STATUS);
    nl_put_u32(&driver->request, NBD_ATTR_INDEX, index);
    error = ask(driver, use_status, &found);
    for (size_t i = 0; i < found.count; i++)
        is_configured |= found.indexes[i] == index;
    free(found.indexes);
    if (error == 0)
        *ret_is_configured = is_configured;
    return error;
}

/* ---- events ------------------------------------------------------------- */

int nbd_driver_listen(struct nbd_driver *driver)
{
    uint32_t group = driver->group;

    if (group == 0)
        return -EOPNOTSUPP;
    return setsockopt(driver->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group,
                      sizeof(group)) < 0
               ? -errno
               : 0;
}

int nbd_driver_fd(const struct nbd_driver *driver)
{
    return driver->fd;
}

/* The index in an event; -ENOENT: it is something else. */
static int read_event(const struct nbd_driver *driver, struct nl_bytes datagram,
                      uint32_t *ret_index)
{
    struct nl_received message;
    struct nl_bytes attributes, value;
    uint8_t command;

    while (nl_next_message(&datagram, &message)) {
        if (message.type == driver->family &&
            nl_get_command(&message, &command, &attributes) &&
            command == NBD_CMD_LINK_DEAD &&
            nl_find_attribute(attributes, NBD_ATTR_INDEX, &value) &&
            nl_get_u32(value, ret_index))
            return 0;
    }
    return -ENOENT;
}

int nbd_driver_next_event(struct nbd_driver *driver, uint32_t *ret_index)
{
    for (;;) {
        struct nl_bytes datagram;
        int error = receive(driver, &datagram);

        if (error == 0)
            error = read_event(driver, datagram, ret_index);
        if (error != -ENOENT)
            return error;
    }
}
