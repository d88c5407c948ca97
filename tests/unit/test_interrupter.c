/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/interrupter.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "object_store.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

/* A call that the store holds until it is interrupted. */
struct held {
    struct fault_store *fault;
    struct object_store *store;
    pthread_t thread;
    int error;
};

static void *get(void *context)
{
    struct held *held = context;
    char byte;

    held->error =
        held->store->get(held->store, "a", 0, &byte, 1, OBJECT_WAITED_FOR);
    return NULL;
}

static void begin(struct held *held)
{
    log_set_level(LOG_LEVEL_ERROR);
    held->fault = fault_store_new(memory_store_new());
    held->store = fault_store_of(held->fault);
    held->error = 0;
    fault_store_plan(held->fault, STORE_GET, 1, 1, STORE_HOLDS, 0);
    CHECK(pthread_create(&held->thread, NULL, get, held) == 0);
    fault_store_wait_held(held->fault, 1);
}

static void end(struct held *held, struct interrupter *interrupter, int error)
{
    CHECK(pthread_join(held->thread, NULL) == 0);
    CHECK(held->error == error);
    interrupter_stop(interrupter);
    held->store->close(held->store);
}

TEST("a store is interrupted when the descriptor can be read")
{
    struct interrupter *interrupter;
    struct held held;
    int fd = eventfd(0, EFD_CLOEXEC);

    begin(&held);
    NEED(interrupter_start(held.store, fd, UINT64_MAX, &interrupter) == 0);
    CHECK(eventfd_write(fd, 1) == 0);
    end(&held, interrupter, -ECANCELED);
    (void)close(fd);
}

TEST("a store is interrupted when time is up")
{
    struct interrupter *interrupter;
    struct held held;

    begin(&held);
    NEED(interrupter_start(held.store, -1, clock_monotonic_ns() + 1000000,
                           &interrupter) == 0);
    end(&held, interrupter, -ECANCELED);
}

TEST("a store is left alone when the watch ends before that")
{
    struct interrupter *interrupter;
    struct held held;
    int fd = eventfd(0, EFD_CLOEXEC);

    begin(&held);
    NEED(interrupter_start(held.store, fd, UINT64_MAX, &interrupter) == 0);
    interrupter_stop(interrupter);
    CHECK(eventfd_write(fd, 1) == 0);
    fault_store_release(held.fault);
    end(&held, NULL, -ENOENT);
    (void)close(fd);
}
