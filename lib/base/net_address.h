/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * net_address - the address of a socket, to and from text; and in words, why
 * one could not be reached.
 *
 * Pure.  Threads: any.
 */
#ifndef BASE_NET_ADDRESS_H
#define BASE_NET_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct net_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
};

/* Room for "[fe80::1%interface-name]:65535". */
enum { NET_ADDRESS_TEXT = 80 };

/*
 * Why something on the way to a peer failed: a negative errno, and the same
 * in words that a person understands, which tell what was to be reached but
 * begin with no capital and end without a full stop.
 */
struct net_failure {
    int error;
    char text[256];
};

/*
 * Parse a numeric address: "192.0.2.1", "2001:db8::1" or "[2001:db8::1]",
 * "fe80::1%eth0".  -EINVAL: it is none, as a name is none.
 */
int net_address_parse(const char *text, uint16_t port,
                      struct net_address *ret_address);

/* Returns how many bytes of the address connect(2) wants. */
socklen_t net_address_len(const struct net_address *address);

/* Set the port. */
void net_address_set_port(struct net_address *address, uint16_t port);

/* Returns whether both are the same, port included. */
bool net_address_equals(const struct net_address *a,
                        const struct net_address *b);

/* Write "192.0.2.1:443" or "[2001:db8::1]:443"; returns text. */
const char *net_address_format(const struct net_address *address,
                               char text[NET_ADDRESS_TEXT]);

/* Set the failure, as printf does; what is too long ends in "...". */
void net_failure_set(struct net_failure *failure, int error, const char *format,
                     ...) __attribute__((format(printf, 3, 4)));

#endif
