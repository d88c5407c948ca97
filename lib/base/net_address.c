/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/net_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Parse "fe80::1%eth0": the interface of a link's own address. */
static int parse_v6(const char *text, struct sockaddr_in6 *ret_v6)
{
    char digits[INET6_ADDRSTRLEN];
    const char *zone = strchr(text, '%');
    size_t len = zone ? (size_t)(zone - text) : strlen(text);

    if (len >= sizeof(digits))
        return -EINVAL;
    memcpy(digits, text, len);
    digits[len] = '\0';
    if (inet_pton(AF_INET6, digits, &ret_v6->sin6_addr) != 1)
        return -EINVAL;
    if (zone) {
        ret_v6->sin6_scope_id = if_nametoindex(zone + 1);
        if (ret_v6->sin6_scope_id == 0)
            return -EINVAL;
    }
    ret_v6->sin6_family = AF_INET6;
    return 0;
}

int net_address_parse(const char *text, uint16_t port,
                      struct net_address *ret_address)
{
    struct net_address address = {0};
    char inner[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    size_t len = strlen(text);

    if (text[0] == '[') {
        if (text[len - 1] != ']' || len - 2 >= sizeof(inner))
            return -EINVAL;
        memcpy(inner, text + 1, len - 2);
        inner[len - 2] = '\0';
        if (parse_v6(inner, &address.v6) < 0)
            return -EINVAL;
    } else if (inet_pton(AF_INET, text, &address.v4.sin_addr) == 1) {
        address.v4.sin_family = AF_INET;
    } else if (parse_v6(text, &address.v6) < 0) {
        return -EINVAL;
    }
    net_address_set_port(&address, port);
    *ret_address = address;
    return 0;
}

socklen_t net_address_len(const struct net_address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof(address->v6)
                                              : sizeof(address->v4);
}

void net_address_set_port(struct net_address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET6)
        address->v6.sin6_port = htons(port);
    else
        address->v4.sin_port = htons(port);
}

bool net_address_equals(const struct net_address *a,
                        const struct net_address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET6)
        return a->v6.sin6_port == b->v6.sin6_port &&
               a->v6.sin6_scope_id == b->v6.sin6_scope_id &&
               memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr,
                      sizeof(a->v6.sin6_addr)) == 0;
    return a->v4.sin_port == b->v4.sin_port &&
           a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
}

const char *net_address_format(const struct net_address *address,
                               char text[NET_ADDRESS_TEXT])
{
    char digits[INET6_ADDRSTRLEN] = "?", zone[IF_NAMESIZE + 1] = "";

    if (address->any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &address->v6.sin6_addr, digits,
                        sizeof(digits));
        if (address->v6.sin6_scope_id != 0 &&
            if_indextoname(address->v6.sin6_scope_id, zone + 1))
            zone[0] = '%';
        (void)snprintf(text, NET_ADDRESS_TEXT, "[%s%s]:%u", digits, zone,
                       (unsigned)ntohs(address->v6.sin6_port));
    } else {
        (void)inet_ntop(AF_INET, &address->v4.sin_addr, digits, sizeof(digits));
        (void)snprintf(text, NET_ADDRESS_TEXT, "%s:%u", digits,
                       (unsigned)ntohs(address->v4.sin_port));
    }
    return text;
}

void net_failure_set(struct net_failure *failure, int error, const char *format,
                     ...)
{
    static const char cut[] = "...";
    va_list arguments;
    int len;

    failure->error = error;
    va_start(arguments, format);
    len = vsnprintf(failure->text, sizeof(failure->text), format, arguments);
    va_end(arguments);
    if (len < 0)
        failure->text[0] = '\0';
    else if ((size_t)len >= sizeof(failure->text))
        memcpy(failure->text + sizeof(failure->text) - sizeof(cut), cut,
               sizeof(cut));
}
