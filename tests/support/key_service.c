/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/key_service.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "s3/credentials_http.h"
#include "support/s3_peer.h"

struct variable {
    const char *name;
    char *value;
};

struct key_service {
    struct s3_peer *peer;
    const struct key_step *steps;
    size_t count;
    atomic_size_t next;      /* which step is expected */
    atomic_bool is_mistaken; /* something else came */
    struct variable variables[KEY_SERVICE_VARIABLES];
    struct credentials_reader reader;
};

/* Whether head or body has, or has not, what the step says. */
static bool has_it(const struct s3_peer_request *request, const char *has)
{
    bool is_wanted = has && has[0] != '!';
    const char *text = has && !is_wanted ? has + 1 : has;

    return !has ||
           is_wanted ==
               (strstr(request->head, text) ||
                (request->body_len > 0 &&
                 memmem(request->body, request->body_len, text, strlen(text))));
}

static void answer_step(void *context, struct s3_peer *peer,
                        const struct s3_peer_request *request,
                        struct s3_peer_answer *answer)
{
    struct key_service *service = context;
    size_t number = atomic_fetch_add(&service->next, 1);
    const struct key_step *step = &service->steps[number];

    (void)peer;
    if (number >= service->count ||
        strcmp(step->method, request->method) != 0 ||
        strcmp(step->target, request->target) != 0 ||
        !has_it(request, step->has)) {
        printf("# request %zu is unexpected: %s %s\n", number, request->method,
               request->target);
        atomic_store(&service->is_mistaken, true);
        s3_peer_respond(answer, 599, "", "", 0);
    } else if (step->status == 0) {
        s3_peer_wait_until_gone(request);
    } else {
        s3_peer_respond(answer, step->status, "", step->body,
                        strlen(step->body));
    }
}

struct key_service *key_service_start(const struct key_step steps[],
                                      size_t count)
{
    struct key_service *service = calloc(1, sizeof(*service));

    if (!service)
        abort();
    service->steps = steps;
    service->count = count;
    if (count > 0) {
        service->peer = s3_peer_start(1);
        s3_peer_set_script(service->peer, answer_step, service);
    }
    if (credentials_http_new(NULL, &service->reader.http) != 0)
        abort();
    service->reader.environment = key_service_environment;
    service->reader.environment_context = service;
    return service;
}

void key_service_set(struct key_service *service, const char *name,
                     const char *value)
{
    const char *place = strstr(value, "%s");
    struct variable *variable = service->variables;
    char url[64] = "";

    while (variable->name && strcmp(variable->name, name) != 0)
        variable++;
    if (service->peer)
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u",
                       (unsigned)s3_peer_port(service->peer, 0));
    free(variable->value);
    variable->name = name;
    if (asprintf(&variable->value, "%.*s%s%s", (int)(place ? place - value : 0),
                 value, place ? url : "", place ? place + 2 : value) < 0)
        abort();
}

const char *key_service_environment(void *service, const char *name)
{
    const struct variable *variable =
        ((struct key_service *)service)->variables;

    while (variable->name && strcmp(variable->name, name) != 0)
        variable++;
    return variable->value;
}

const struct credentials_reader *key_service_reader(struct key_service *service)
{
    return &service->reader;
}

void key_service_wait_for_requests(struct key_service *service, unsigned count)
{
    s3_peer_wait_for_requests(service->peer, count);
}

void key_service_close(struct key_service *service)
{
    s3_peer_close_port(service->peer, 0);
}

bool key_service_is_done(struct key_service *service)
{
    return atomic_load(&service->next) == service->count &&
           !atomic_load(&service->is_mistaken);
}

void key_service_stop(struct key_service *service)
{
    if (service->peer)
        s3_peer_stop(service->peer);
    credentials_http_free(service->reader.http);
    for (size_t i = 0; i < KEY_SERVICE_VARIABLES; i++)
        free(service->variables[i].value);
    free(service);
}
