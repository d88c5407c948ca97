/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/owner_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/geometry.h"
#include "cache/upload.h"
#include "support/memory_store.h"

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "owner_host: %s\n", what);
    abort();
}

static uint64_t connections(void *context)
{
    return ((struct owner_host *)context)->connections;
}

void owner_host_start(struct owner_host *host, uint64_t cachesize)
{
    struct owner_options options = {
        .device = host->fixture.device,
        .store = host->fixture.options.store,
        .limits =
            {
                .cachesize = cachesize,
                .keep = 2,
                .grace_ns = UINT64_C(86400) * 1000000000,
                .max_age_ns = 1,
                .uploads = 2,
                .upload_rate = host->upload_rate,
            },
        .share = host->share,
        .is_daemon = true,
        .connections = connections,
        .context = host,
    };

    need(owner_start(&options, &host->owner) == 0, __func__);
}

void owner_host_begin(struct owner_host *host, const char *dir,
                      uint64_t cachesize)
{
    memset(host, 0, sizeof(*host));
    fixture_begin(&host->fixture, dir, false);
    host->faults = fault_store_new(memory_store_new());
    host->fixture.options.store = fault_store_of(host->faults);
    host->fixture.options.cachesize = cachesize;
    host->fixture.options.journal_size = 32 << 20; /* no write is slowed */
    need(fixture_open(&host->fixture) == 0, __func__);
    owner_host_start(host, cachesize);
}

void owner_host_end(struct owner_host *host)
{
    owner_stop(host->owner);
    host->owner = NULL;
    fixture_end(&host->fixture);
}

void owner_host_ask(struct owner_host *host, struct control_message *request,
                    struct control_message *ret_reply)
{
    int error =
        owner_handle(host->owner, request, OWNER_HOST_HOLDER, ret_reply);

    if (error != 0)
        control_message_start_error(ret_reply, error, "%s", "");
    control_message_clear(request);
}

int owner_host_ask_for(struct owner_host *host, const char *verb,
                       const char *key, const char *value,
                       struct control_message *ret_reply)
{
    struct control_message request;
    uint64_t number = 0;

    control_message_start(&request, verb);
    if (key != NULL)
        control_message_add(&request, key, value);
    owner_host_ask(host, &request, ret_reply);
    if (!control_message_is(ret_reply, "error"))
        return 0;
    (void)control_message_get_number(ret_reply, "errno", 1, 4096, &number);
    return -(int)number;
}

uint64_t owner_host_number(const struct control_message *reply, const char *key)
{
    uint64_t number = UINT64_MAX;

    need(control_message_get_number(reply, key, 0, UINT64_MAX, &number) == 0,
         __func__);
    return number;
}

bool owner_host_upload(struct owner_host *host, const char *purpose)
{
    struct device *device = host->fixture.device;
    struct upload_context context = {
        .device_name = device_name(device),
        .store = host->fixture.options.store,
        .fetch = device_fetch(device),
        .chunk_dir = device_chunk_dir(device),
        .chunk_size = device_chunk_size(device),
    };
    struct control_message reply, request;
    struct control_lease lease;
    struct control_report report;
    int error;

    for (;;) {
        need(owner_host_ask_for(host, "lease", "purpose", purpose, &reply) == 0,
             __func__);
        if (!control_message_is(&reply, "wait"))
            break;
        control_message_clear(&reply);
    }
    if (!control_message_is(&reply, "ok")) {
        control_message_clear(&reply);
        return false;
    }
    error = control_lease_decode(&reply, &lease);
    control_message_clear(&reply);
    need(error == 0, __func__);
    if (error != 0)
        return false;
    report.lease = lease.lease;
    report.error = upload_chunk(&context, &lease.work, &report.result);
    control_report_encode(&report, &request);
    owner_host_ask(host, &request, &reply);
    control_message_clear(&reply);
    return true;
}

unsigned owner_host_sync(struct owner_host *host)
{
    struct control_message reply;
    unsigned count = 0;

    need(owner_host_ask_for(host, "checkpoint", NULL, NULL, &reply) == 0,
         __func__);
    control_message_clear(&reply);
    while (owner_host_upload(host, "image"))
        count++;
    need(owner_host_ask_for(host, "publish", NULL, NULL, &reply) == 0,
         __func__);
    need(owner_host_number(&reply, "left") == 0, __func__);
    control_message_clear(&reply);
    return count;
}

void owner_host_write(struct owner_host *host, uint64_t chunk, uint64_t seed)
{
    unsigned char data[4 * CACHE_BLOCK];

    fixture_fill(data, sizeof(data), seed);
    need(fixture_write(&host->fixture, chunk * OWNER_HOST_CHUNK, data,
                       sizeof(data), 0) == 0,
         __func__);
}

bool owner_host_has(struct owner_host *host, uint64_t chunk, uint64_t seed)
{
    unsigned char expected[4 * CACHE_BLOCK], data[4 * CACHE_BLOCK];

    fixture_fill(expected, sizeof(expected), seed);
    return fixture_read(&host->fixture, chunk * OWNER_HOST_CHUNK, data,
                        sizeof(data)) == 0 &&
           memcmp(data, expected, sizeof(data)) == 0;
}

uint64_t owner_host_calls(struct owner_host *host)
{
    uint64_t sum = 0;

    for (int call = 0; call < STORE_CALLS; call++)
        sum += fault_store_count(host->faults, (enum store_call)call);
    return sum;
}

void owner_host_evict(struct owner_host *host, uint64_t above)
{
    for (bool is_done = false; !is_done;) {
        struct control_message reply, request;
        const char *state;

        control_message_start(&request, "evict");
        control_message_add_number(&request, "above", above);
        owner_host_ask(host, &request, &reply);
        need(control_message_is(&reply, "ok"), __func__);
        state = control_message_get(&reply, "state");
        need(strcmp(state, "stuck") != 0, __func__);
        if (strcmp(state, "upload") == 0) {
            while (owner_host_upload(host, "space"))
                ;
        }
        is_done = strcmp(state, "done") == 0;
        control_message_clear(&reply);
    }
}

uint64_t owner_host_status(struct owner_host *host, const char *key)
{
    struct control_message reply;
    uint64_t number;

    need(owner_host_ask_for(host, "status", NULL, NULL, &reply) == 0, __func__);
    number = owner_host_number(&reply, key);
    control_message_clear(&reply);
    return number;
}
