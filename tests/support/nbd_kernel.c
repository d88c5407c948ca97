/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/nbd_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FAMILY = 0x23,
    GROUP = 7,
    FIRST_PID = 4711,
    CONNECTIONS_MAX = 16,
    CLIENTS_MAX = 8,
    FLAG_MULTI_CONN = 0x100,
    FLAG_READ_ONLY = 2,
    FLAG_FLUSH = 4,
    FLAG_FUA = 8,
    FLAG_TRIM = 0x20,
};

struct message {
    _Alignas(8) unsigned char bytes[4096];
    size_t len;
};

struct nbd_kernel {
    char root[256];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t offers;
    int fail_next, fail_change;
    unsigned attachments; /* so far */
    struct device {
        struct nbd_kernel_device told;
        unsigned opened; /* for so many questions; it is not attached */
        int fds[CONNECTIONS_MAX];
        bool dead[CONNECTIONS_MAX];
    } devices[NBD_KERNEL_DEVICES];
    size_t clients_count;
    struct client {
        struct nbd_kernel *kernel;
        pthread_t thread;
        int fd;
        bool hears;
    } clients[CLIENTS_MAX];
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* ---- files -------------------------------------------------------------- */

void nbd_kernel_write(struct nbd_kernel *kernel, const char *path,
                      const char *text)
{
    char name[512];
    FILE *file;

    require(snprintf(name, sizeof(name), "%s/%s", kernel->root, path) <
            (int)sizeof(name));
    for (char *slash = name + strlen(kernel->root) + 1;
         (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        require(mkdir(name, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
    file = fopen(name, "we");
    require(file && fputs(text, file) >= 0);
    require(fclose(file) == 0);
}

static void write_attribute(struct nbd_kernel *kernel, size_t index,
                            const char *name, const char *format,
                            unsigned long long value)
{
    char path[128], text[64];

    (void)snprintf(path, sizeof(path), "sys/block/nbd%zu/%s", index, name);
    (void)snprintf(text, sizeof(text),
                   strcmp(format, "number") == 0 ? "%llu\n" : "43:%llu\n",
                   value);
    nbd_kernel_write(kernel, path, text);
}

/* Have the files of a device say what it is. */
static void write_files(struct nbd_kernel *kernel, size_t index)
{
    const struct nbd_kernel_device *told = &kernel->devices[index].told;
    char path[512];

    write_attribute(kernel, index, "size", "number", told->size / 512);
    write_attribute(kernel, index, "dev", "device", index * 32);
    write_attribute(kernel, index, "ro", "number",
                    (told->flags & FLAG_READ_ONLY) != 0);
    write_attribute(kernel, index, "queue/fua", "number",
                    (told->flags & FLAG_FUA) != 0);
    write_attribute(kernel, index, "queue/discard_max_bytes", "number",
                    (told->flags & FLAG_TRIM) != 0 ? 1UL << 41 : 0);
    (void)snprintf(path, sizeof(path), "sys/block/nbd%zu/queue/write_cache",
                   index);
    nbd_kernel_write(kernel, path,
                     (told->flags & FLAG_FLUSH) != 0 ? "write back\n"
                                                     : "write through\n");
    (void)snprintf(path, sizeof(path), "sys/block/nbd%zu/holders/x", index);
    nbd_kernel_write(kernel, path, "");
    (void)snprintf(path, sizeof(path), "%s/sys/block/nbd%zu/holders/x",
                   kernel->root, index);
    require(unlink(path) == 0);
    (void)snprintf(path, sizeof(path), "%s/sys/block/nbd%zu/backend",
                   kernel->root, index);
    (void)unlink(path);
    if (told->backend[0] != '\0')
        nbd_kernel_write(kernel, path + strlen(kernel->root), told->backend);
    (void)snprintf(path, sizeof(path), "%s/sys/block/nbd%zu/pid", kernel->root,
                   index);
    if (!told->is_configured)
        (void)unlink(path);
    else if (access(path, F_OK) != 0)
        write_attribute(kernel, index, "pid", "number", told->attached_by);
    (void)snprintf(path, sizeof(path), "dev/nbd%zu", index);
    nbd_kernel_write(kernel, path, "");
}

/* ---- messages ----------------------------------------------------------- */

static size_t align(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

static void append(struct message *message, const void *data, size_t len)
{
    uint32_t whole;

    require(message->len + align(len) <= sizeof(message->bytes));
    memset(message->bytes + message->len, 0, align(len));
    if (len > 0)
        memcpy(message->bytes + message->len, data, len);
    message->len += align(len);
    whole = (uint32_t)message->len;
    memcpy(message->bytes, &whole, sizeof(whole));
}

static void begin(struct message *message, uint16_t type, uint32_t sequence,
                  uint8_t command)
{
    struct nlmsghdr head = {.nlmsg_type = type, .nlmsg_seq = sequence};
    struct genlmsghdr generic = {.cmd = command, .version = 1};

    message->len = 0;
    append(message, &head, sizeof(head));
    append(message, &generic, sizeof(generic));
}

static void put(struct message *message, uint16_t type, const void *data,
                size_t len)
{
    struct nlattr head = {.nla_type = type,
                          .nla_len = (uint16_t)(sizeof(head) + len)};

    append(message, &head, sizeof(head));
    append(message, data, len);
}

static size_t begin_nest(struct message *message, uint16_t type)
{
    size_t at = message->len;

    put(message, type, NULL, 0);
    return at;
}

static void end_nest(struct message *message, size_t at)
{
    uint16_t len = (uint16_t)(message->len - at);

    memcpy(message->bytes + at, &len, sizeof(len));
}

/* Find an attribute; returns its data, or NULL. */
static const unsigned char *find(const unsigned char *from, size_t len,
                                 uint16_t type, size_t *ret_len)
{
    while (len >= sizeof(struct nlattr)) {
        struct nlattr head;

        memcpy(&head, from, sizeof(head));
        require(head.nla_len >= sizeof(head) && head.nla_len <= len);
        if ((head.nla_type & NLA_TYPE_MASK) == type) {
            *ret_len = head.nla_len - sizeof(head);
            return from + sizeof(head);
        }
        from += align(head.nla_len);
        len -= align(head.nla_len) < len ? align(head.nla_len) : len;
    }
    return NULL;
}

struct request {
    uint32_t sequence;
    uint8_t command;
    const unsigned char *attributes;
    size_t len;
};

static bool get_number(const struct request *request, uint16_t type,
                       uint64_t *ret_value)
{
    size_t len;
    const unsigned char *data =
        find(request->attributes, request->len, type, &len);

    if (!data)
        return false;
    require(len == 4 || len == 8);
    *ret_value = 0;
    memcpy(ret_value, data, len); /* the tests' machines are little-endian */
    return true;
}

/* Tell who hears that a connection is lost. */
static void send_event(struct nbd_kernel *kernel, uint32_t index)
{
    struct message event;

    begin(&event, FAMILY, 0, NBD_CMD_LINK_DEAD);
    put(&event, NBD_ATTR_INDEX, &index, sizeof(index));
    for (size_t i = 0; i < kernel->clients_count; i++) {
        if (kernel->clients[i].hears)
            (void)send(kernel->clients[i].fd, event.bytes, event.len,
                       MSG_NOSIGNAL);
    }
}

/* ---- commands ----------------------------------------------------------- */

static int take_sockets(struct nbd_kernel *kernel, struct device *device,
                        const struct request *request, bool is_connect)
{
    size_t len, item_len;
    const unsigned char *list =
        find(request->attributes, request->len, NBD_ATTR_SOCKETS, &len);
    const unsigned char *item;

    while (list && (item = find(list, len, NBD_SOCK_ITEM, &item_len))) {
        size_t fd_len, at = device->told.connections;
        const unsigned char *data = find(item, item_len, NBD_SOCK_FD, &fd_len);
        int fd;

        require(data && fd_len == sizeof(fd));
        memcpy(&fd, data, sizeof(fd));
        for (size_t i = 0; !is_connect && i < device->told.connections; i++) {
            if (device->dead[i])
                at = i;
        }
        kernel->offers += is_connect ? 0 : 1;
        if (at == device->told.connections && !is_connect)
            return 0;
        if (is_connect)
            device->told.connections++;
        else
            (void)close(device->fds[at]);
        device->fds[at] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        require(device->fds[at] >= 0);
        device->dead[at] = false;
        len -= (size_t)(item + align(item_len) - list);
        list = item + align(item_len);
    }
    return 0;
}

/* Whether the message repeats the identifier, if there is one. */
static bool is_same_backend(const struct device *device,
                            const struct request *request)
{
    size_t len;
    const unsigned char *backend = find(request->attributes, request->len,
                                        NBD_ATTR_BACKEND_IDENTIFIER, &len);

    if (device->told.backend[0] == '\0')
        return true;
    return backend && strcmp((const char *)backend, device->told.backend) == 0;
}

static int run_connect(struct nbd_kernel *kernel, struct device *device,
                       const struct request *request)
{
    struct nbd_kernel_device *told = &device->told;
    size_t len;
    const unsigned char *backend = find(request->attributes, request->len,
                                        NBD_ATTR_BACKEND_IDENTIFIER, &len);

    if (told->is_configured)
        return -EBUSY;
    if (device->opened > 0) {
        device->opened--;
        return -EBUSY;
    }
    *told = (struct nbd_kernel_device){
        .is_configured = true,
        .attached_by = FIRST_PID + kernel->attachments++,
    };
    require(get_number(request, NBD_ATTR_SIZE_BYTES, &told->size));
    require(get_number(request, NBD_ATTR_BLOCK_SIZE_BYTES, &told->block_size));
    require(get_number(request, NBD_ATTR_SERVER_FLAGS, &told->flags));
    require(get_number(request, NBD_ATTR_TIMEOUT, &told->timeout_s));
    require(
        get_number(request, NBD_ATTR_DEAD_CONN_TIMEOUT, &told->dead_timeout_s));
    if (backend)
        memcpy(told->backend, backend, len);
    (void)take_sockets(kernel, device, request, true);
    require(told->connections == 1 || (told->flags & FLAG_MULTI_CONN) != 0);
    return 0;
}

static int run_reconfigure(struct nbd_kernel *kernel, struct device *device,
                           const struct request *request)
{
    if (!device->told.is_configured || !is_same_backend(device, request))
        return -EINVAL;
    (void)get_number(request, NBD_ATTR_SIZE_BYTES, &device->told.size);
    return take_sockets(kernel, device, request, false);
}

static void detach(struct device *device)
{
    for (size_t i = 0; i < device->told.connections; i++) {
        (void)shutdown(device->fds[i], SHUT_RDWR);
        (void)close(device->fds[i]);
    }
    device->told = (struct nbd_kernel_device){0};
}

static void put_status(struct message *message, struct nbd_kernel *kernel,
                       const struct request *request)
{
    size_t list = begin_nest(message, NBD_ATTR_DEVICE_LIST);
    uint64_t only;
    bool has_only = get_number(request, NBD_ATTR_INDEX, &only);

    /* In whatever order. */
    for (uint32_t i = NBD_KERNEL_DEVICES; i-- > 0;) {
        struct device *device = &kernel->devices[i];
        uint8_t connected = device->told.is_configured || device->opened > 0;
        size_t item;

        if (has_only && i != only)
            continue;
        device->opened -= device->opened > 0;
        item = begin_nest(message, NBD_DEVICE_ITEM);
        put(message, NBD_DEVICE_INDEX, &i, sizeof(i));
        put(message, NBD_DEVICE_CONNECTED, &connected, sizeof(connected));
        end_nest(message, item);
    }
    end_nest(message, list);
}

static void put_family(struct message *message)
{
    uint16_t family = FAMILY;
    uint32_t group = GROUP;
    size_t list, item;

    put(message, CTRL_ATTR_FAMILY_NAME, "nbd", 4);
    put(message, CTRL_ATTR_FAMILY_ID, &family, sizeof(family));
    list = begin_nest(message, CTRL_ATTR_MCAST_GROUPS);
    item = begin_nest(message, 1);
    put(message, CTRL_ATTR_MCAST_GRP_ID, &group, sizeof(group));
    put(message, CTRL_ATTR_MCAST_GRP_NAME, NBD_GENL_MCAST_GROUP_NAME,
        sizeof(NBD_GENL_MCAST_GROUP_NAME));
    end_nest(message, item);
    end_nest(message, list);
}

/* Run a command of the driver; what it answers is put into the message. */
static int run_command(struct nbd_kernel *kernel, const struct request *request,
                       struct message *message)
{
    uint64_t index = 0;
    bool has_index = get_number(request, NBD_ATTR_INDEX, &index);
    struct device *device = &kernel->devices[index];
    int error = kernel->fail_next;

    kernel->fail_next = 0;
    if (error)
        return error;
    begin(message, FAMILY, request->sequence, request->command);
    if (request->command == NBD_CMD_STATUS) {
        put_status(message, kernel, request);
        return 0;
    }
    error = kernel->fail_change;
    kernel->fail_change = 0;
    if (error)
        return error;
    require(has_index && index < NBD_KERNEL_DEVICES);
    if (request->command == NBD_CMD_CONNECT) {
        error = run_connect(kernel, device, request);
        put(message, NBD_ATTR_INDEX, &index, 4);
    } else if (request->command == NBD_CMD_RECONFIGURE) {
        message->len = 0;
        error = run_reconfigure(kernel, device, request);
    } else {
        require(request->command == NBD_CMD_DISCONNECT);
        message->len = 0;
        detach(device);
    }
    write_files(kernel, index);
    return error;
}

static void acknowledge(struct client *client, uint32_t sequence, int error)
{
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
    } answer = {
        .head = {.nlmsg_len = sizeof(answer),
                 .nlmsg_type = NLMSG_ERROR,
                 .nlmsg_seq = sequence},
        .error = {.error = error},
    };

    (void)send(client->fd, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static void run_request(struct client *client, const unsigned char *bytes,
                        size_t len)
{
    struct nbd_kernel *kernel = client->kernel;
    struct message message = {.len = 0};
    struct request request;
    struct genlmsghdr generic;
    struct nlmsghdr head;
    int error = 0;

    require(len >= sizeof(head) + sizeof(generic));
    memcpy(&head, bytes, sizeof(head));
    memcpy(&generic, bytes + sizeof(head), sizeof(generic));
    require(head.nlmsg_len == len && (head.nlmsg_flags & NLM_F_ACK) != 0);
    request = (struct request){head.nlmsg_seq, generic.cmd,
                               bytes + sizeof(head) + sizeof(generic),
                               len - sizeof(head) - sizeof(generic)};
    (void)pthread_mutex_lock(&kernel->mutex);
    if (head.nlmsg_type == GENL_ID_CTRL) {
        begin(&message, GENL_ID_CTRL, request.sequence, CTRL_CMD_NEWFAMILY);
        put_family(&message);
    } else {
        require(head.nlmsg_type == FAMILY);
        error = run_command(kernel, &request, &message);
    }
    if (error == 0 && message.len > 0)
        (void)send(client->fd, message.bytes, message.len, MSG_NOSIGNAL);
    acknowledge(client, request.sequence, error);
    (void)pthread_cond_broadcast(&kernel->changed);
    (void)pthread_mutex_unlock(&kernel->mutex);
}

static void *run_client(void *argument)
{
    struct client *client = argument;
    _Alignas(8) unsigned char bytes[4096];
    ssize_t len;

    while ((len = recv(client->fd, bytes, sizeof(bytes), 0)) > 0)
        run_request(client, bytes, (size_t)len);
    return NULL;
}

/* ---- the whole ---------------------------------------------------------- */

struct nbd_kernel *nbd_kernel_start(const char *root)
{
    struct nbd_kernel *kernel = calloc(1, sizeof(*kernel));

    require(kernel && strlen(root) < sizeof(kernel->root));
    (void)snprintf(kernel->root, sizeof(kernel->root), "%s", root);
    require(pthread_mutex_init(&kernel->mutex, NULL) == 0 &&
            pthread_cond_init(&kernel->changed, NULL) == 0);
    for (size_t i = 0; i < NBD_KERNEL_DEVICES; i++) {
        write_files(kernel, i);
        write_attribute(kernel, i, "queue/io_timeout", "number", 30000);
    }
    nbd_kernel_write(kernel, "proc/self/mountinfo",
                     "22 1 254:0 / / rw - ext4 /dev/vda rw\n");
    nbd_kernel_write(kernel, "proc/swaps", "Filename Type Size\n");
    return kernel;
}

void nbd_kernel_stop(struct nbd_kernel *kernel)
{
    for (size_t i = 0; i < kernel->clients_count; i++) {
        (void)pthread_join(kernel->clients[i].thread, NULL);
        (void)close(kernel->clients[i].fd);
    }
    for (size_t i = 0; i < NBD_KERNEL_DEVICES; i++)
        detach(&kernel->devices[i]);
    (void)pthread_cond_destroy(&kernel->changed);
    (void)pthread_mutex_destroy(&kernel->mutex);
    free(kernel);
}

int nbd_kernel_open(struct nbd_kernel *kernel, bool hears)
{
    struct client *client;
    int pair[2];

    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    (void)pthread_mutex_lock(&kernel->mutex);
    require(kernel->clients_count < CLIENTS_MAX);
    client = &kernel->clients[kernel->clients_count++];
    *client = (struct client){.kernel = kernel, .fd = pair[0], .hears = hears};
    require(pthread_create(&client->thread, NULL, run_client, client) == 0);
    (void)pthread_mutex_unlock(&kernel->mutex);
    return pair[1];
}

void nbd_kernel_fail_next(struct nbd_kernel *kernel, int error)
{
    (void)pthread_mutex_lock(&kernel->mutex);
    kernel->fail_next = error;
    (void)pthread_mutex_unlock(&kernel->mutex);
}

void nbd_kernel_fail_change(struct nbd_kernel *kernel, int error)
{
    (void)pthread_mutex_lock(&kernel->mutex);
    kernel->fail_change = error;
    (void)pthread_mutex_unlock(&kernel->mutex);
}

struct nbd_kernel_device nbd_kernel_device(struct nbd_kernel *kernel,
                                           uint32_t index)
{
    struct nbd_kernel_device told;

    (void)pthread_mutex_lock(&kernel->mutex);
    told = kernel->devices[index].told;
    told.dead = 0;
    for (size_t i = 0; i < told.connections; i++)
        told.dead += kernel->devices[index].dead[i] ? 1 : 0;
    (void)pthread_mutex_unlock(&kernel->mutex);
    return told;
}

size_t nbd_kernel_notice(struct nbd_kernel *kernel, uint32_t index, bool heard)
{
    struct device *device = &kernel->devices[index];
    size_t count = 0;

    (void)pthread_mutex_lock(&kernel->mutex);
    for (size_t i = 0; i < device->told.connections; i++) {
        struct pollfd polled = {.fd = device->fds[i], .events = POLLRDHUP};

        if (device->dead[i] || poll(&polled, 1, 0) <= 0)
            continue;
        (void)shutdown(device->fds[i], SHUT_RDWR);
        device->dead[i] = true;
        count++;
        if (heard)
            send_event(kernel, index);
    }
    (void)pthread_mutex_unlock(&kernel->mutex);
    return count;
}

void nbd_kernel_detach(struct nbd_kernel *kernel, uint32_t index)
{
    (void)pthread_mutex_lock(&kernel->mutex);
    detach(&kernel->devices[index]);
    write_files(kernel, index);
    (void)pthread_mutex_unlock(&kernel->mutex);
}

void nbd_kernel_keep_open(struct nbd_kernel *kernel, uint32_t index,
                          unsigned times)
{
    (void)pthread_mutex_lock(&kernel->mutex);
    kernel->devices[index].opened = times;
    (void)pthread_mutex_unlock(&kernel->mutex);
}

void nbd_kernel_attach_foreign(struct nbd_kernel *kernel, uint32_t index,
                               uint64_t size)
{
    struct device *device = &kernel->devices[index];

    (void)pthread_mutex_lock(&kernel->mutex);
    detach(device);
    write_files(kernel, index);
    device->told = (struct nbd_kernel_device){
        .is_configured = true,
        .attached_by = FIRST_PID + kernel->attachments++,
        .size = size,
        .flags = FLAG_FLUSH,
    };
    write_files(kernel, index);
    send_event(kernel, index);
    (void)pthread_mutex_unlock(&kernel->mutex);
}

void nbd_kernel_wait_offers(struct nbd_kernel *kernel, size_t count)
{
    (void)pthread_mutex_lock(&kernel->mutex);
    while (kernel->offers < count)
        (void)pthread_cond_wait(&kernel->changed, &kernel->mutex);
    (void)pthread_mutex_unlock(&kernel->mutex);
}

size_t nbd_kernel_offers(struct nbd_kernel *kernel)
{
    size_t offers;

    (void)pthread_mutex_lock(&kernel->mutex);
    offers = kernel->offers;
    (void)pthread_mutex_unlock(&kernel->mutex);
    return offers;
}
