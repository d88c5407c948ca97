/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * common_systemd - what systemd, or who speaks its protocol, is told; what it
 * hands over is in base/fd_store.c.
 *
 * Threads: the program's first.
 */
#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "base/auto.h"
#include "common.h"

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
