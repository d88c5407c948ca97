/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * key_service - an HTTP service on this host that hands out credentials as a
 * test says, and an environment that leads there.
 *
 * A test lists the requests that it expects, in their order, each with its
 * answer; others are answered 599, and found by key_service_is_done.
 *
 * Threads: any.
 */
#ifndef SUPPORT_KEY_SERVICE_H
#define SUPPORT_KEY_SERVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "s3/credentials_reader.h"

enum { KEY_SERVICE_VARIABLES = 16 };

struct key_step {
    const char *method;
    const char *target;
    /* What its head or body has: "Accept: application/json"; NULL: anything;
     * a "!" in front: it has it not. */
    const char *has;
    unsigned status; /* 0: nobody answers, until the client is gone */
    const char *body;
};

struct key_service;

/*
 * Start a service, or one that only has an environment, if there are no steps.
 * The steps must live until key_service_stop.  Never NULL.
 */
struct key_service *key_service_start(const struct key_step steps[],
                                      size_t count);

/* Set a variable; "%s" in value stands for "http://127.0.0.1:PORT". */
void key_service_set(struct key_service *service, const char *name,
                     const char *value);

/* Returns a reader whose environment has these variables alone. */
const struct credentials_reader *key_service_reader(struct key_service *);

/* A credentials_environment; its context is the service. */
const char *key_service_environment(void *service, const char *name);

/* Wait until that many requests have come. */
void key_service_wait_for_requests(struct key_service *service, unsigned count);

/* Close the port: from now on connections are refused. */
void key_service_close(struct key_service *service);

/* Returns whether all steps, and nothing else, were asked for. */
bool key_service_is_done(struct key_service *service);

/* End all, free all. */
void key_service_stop(struct key_service *service);

#endif
