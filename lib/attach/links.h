/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * links - which of the connections that were handed to the kernel are in use,
 * and which of those are alive.
 *
 * The driver does not tell whether it took a connection that it was offered,
 * nor how many it has.  But an epoll instance goes on watching a socket whose
 * descriptor was closed, for as long as somebody, here the kernel, has the
 * socket open, and /proc lists what it watches.
 *
 * Threads: one.
 */
#ifndef ATTACH_LINKS_H
#define ATTACH_LINKS_H

#include <stddef.h>

struct links;

/* Begin with none. */
int links_new(struct links **ret_links);

/* Stop watching; NULL does nothing. */
void links_free(struct links *links);

/*
 * Watch a connected socket, of which the caller closes its descriptor when
 * the kernel has, or refuses, it.
 */
int links_watch(struct links *links, int fd);

/* Returns the descriptor that is readable when a connection was lost. */
int links_fd(const struct links *links);

struct links_count {
    size_t alive;
    size_t dead; /* the kernel still holds them, and waits for others */
};

/* Count the connections that are in use now. */
int links_count(struct links *links, struct links_count *ret_count);

#endif
