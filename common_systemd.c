/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * common_systemd - what systemd, or who speaks its protocols, hands over to a
 * program, and what it is told.
 *
 * Threads: the program's first.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "base/auto.h"
#include "base/log.h"
#include "common.h"

int common_take_sockets(struct common_sockets *ret_sockets)
{
    struct common_sockets sockets = {.connected = -1};
    int count = sd_listen_fds(1);

    *ret_sockets = sockets;
    if (count <= 0)
        return count;
    sockets.listening = calloc((size_t)count, sizeof(*sockets.listening));
    if (!sockets.listening)
        return -ENOMEM;
    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;

        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) > 0) {
            sockets.listening[sockets.count++] = fd;
        } else if (count == 1 &&
                   sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 0) > 0) {
            sockets.connected = fd;
        } else {
            log_error("descriptor %d of LISTEN_FDS: neither a socket that "
                      "listens nor a single one that is connected",
                      fd);
            free(sockets.listening);
            return -ENOTSOCK;
        }
    }
    *ret_sockets = sockets;
    return 0;
}

void common_notify(const char *format, ...)
{
    AUTO_FREE char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    if (text)
        (void)sd_notify(0, text);
}

int common_notify_interval_ms(int max_ms)
{
    uint64_t watchdog_us;

    /* Twice as often as it must be. */
    if (sd_watchdog_enabled(0, &watchdog_us) > 0 &&
        watchdog_us / 2000 < (uint64_t)max_ms)
        return (int)(watchdog_us / 2000);
    return max_ms;
}
