/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each connection is watched for one event, which is that it is lost: from
 * then on the kernel lists it with no event that it waits for.
 */
#include "attach/links.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/file.h"
#include "base/number.h"

enum {
    LIST_SIZE = 1 << 16, /* some hundred connections; there are few */
    EVENTS_AT_ONCE = 16,
};

struct links {
    int epoll;
};

int links_new(struct links **ret_links)
{
    struct links *links = calloc(1, sizeof(*links));

    if (!links)
        return -ENOMEM;
    links->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (links->epoll < 0) {
        int error = -errno;

        free(links);
        return error;
    }
    *ret_links = links;
    return 0;
}

void links_free(struct links *links)
{
    if (!links)
        return;
    (void)close(links->epoll);
    free(links);
}

int links_watch(struct links *links, int fd)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT};

    return epoll_ctl(links->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int links_fd(const struct links *links)
{
    return links->epoll;
}

/* Have the kernel mark those that are lost. */
static int take_events(struct links *links)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int count;

    do
        count = epoll_wait(links->epoll, events, EVENTS_AT_ONCE, 0);
    while (count > 0 || (count < 0 && errno == EINTR));
    return count < 0 ? -errno : 0;
}

/* Read what is watched: lines "tfd: 5 events: 40002000 data: ...". */
static int read_list(const struct links *links, char *list, size_t size)
{
    char path[64];
    AUTO_CLOSE int fd = -1;
    ssize_t len;

    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", links->epoll);
    fd = file_open(AT_FDCWD, path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    len = file_read(fd, list, size, 0);
    if (len < 0)
        return (int)len;
    if ((size_t)len == size)
        return -EMSGSIZE;
    list[len] = '\0';
    return 0;
}

/* Read the events of a line of the list; -EINVAL: it has none. */
static int read_events(const char *line, uint64_t *ret_events)
{
    static const char label[] = "events:";
    const char *at = strstr(line, label);
    char digits[24];
    size_t len;

    if (!at)
        return -EINVAL;
    at += strlen(label);
    at += strspn(at, " ");
    len = strcspn(at, " ");
    if (len >= sizeof(digits))
        return -EINVAL;
    memcpy(digits, at, len);
    digits[len] = '\0';
    return number_parse_hex(digits, 0, UINT32_MAX, ret_events);
}

int links_count(struct links *links, struct links_count *ret_count)
{
    AUTO_FREE char *list = malloc(LIST_SIZE);
    struct links_count count = {0};
    char *rest = list;
    int error = list ? take_events(links) : -ENOMEM;

    if (error == 0)
        error = read_list(links, list, LIST_SIZE);
    while (error == 0 && rest) {
        const char *line = strsep(&rest, "\n");
        uint64_t events;

        if (strncmp(line, "tfd:", 4) != 0)
            continue;
        error = read_events(line, &events);
        if (error == 0 && (events & EPOLLRDHUP) != 0)
            count.alive++;
        else
            count.dead++;
    }
    if (error == 0)
        *ret_count = count;
    return error;
}
