/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/interrupter.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "object_store.h"

struct interrupter {
    struct object_store *store;
    int fd;
    int stop_fd; /* eventfd: watch no more */
    uint64_t deadline_ns;
    pthread_t thread;
};

/* Milliseconds to the deadline, rounded up. */
static int time_left_ms(const struct interrupter *interrupter)
{
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t left_ms;

    if (now_ns >= interrupter->deadline_ns)
        return 0;
    left_ms = (interrupter->deadline_ns - now_ns) / 1000000 + 1;
    return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}

static void *watch(void *context)
{
    struct interrupter *interrupter = context;
    struct pollfd polled[] = {
        {.fd = interrupter->stop_fd, .events = POLLIN},
        {.fd = interrupter->fd, .events = POLLIN},
    };
    int wait_ms;

    do {
        wait_ms = time_left_ms(interrupter);
        if (poll(polled, 2, wait_ms) < 0)
            continue; /* a signal */
        if (polled[0].revents)
            return NULL;
    } while (!polled[1].revents && wait_ms > 0);
    log_warning("the store does not answer in time: what waits for it ends");
    interrupter->store->interrupt(interrupter->store);
    return NULL;
}

int interrupter_start(struct object_store *store, int fd, uint64_t deadline_ns,
                      struct interrupter **ret_interrupter)
{
    struct interrupter *interrupter = calloc(1, sizeof(*interrupter));
    int error;

    if (!interrupter)
        return -ENOMEM;
    interrupter->store = store;
    interrupter->fd = fd;
    interrupter->deadline_ns = deadline_ns;
    interrupter->stop_fd = eventfd(0, EFD_CLOEXEC);
    error = interrupter->stop_fd < 0 ? -errno : 0;
    if (!error)
        error = -pthread_create(&interrupter->thread, NULL, watch, interrupter);
    if (error) {
        if (interrupter->stop_fd >= 0)
            (void)close(interrupter->stop_fd);
        free(interrupter);
        return error;
    }
    *ret_interrupter = interrupter;
    return 0;
}

void interrupter_stop(struct interrupter *interrupter)
{
    if (!interrupter)
        return;
    (void)eventfd_write(interrupter->stop_fd, 1);
    (void)pthread_join(interrupter->thread, NULL);
    (void)close(interrupter->stop_fd);
    free(interrupter);
}
