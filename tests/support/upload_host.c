/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/upload_host.h"

#include <errno.h>
#include <stdlib.h>

#include "cache/fetch.h"
#include "cache/publish.h"
#include "cache/state_log.h"
#include "cache/upload.h"
#include "support/crash_states.h"

/* lease_options.uploaded */
static int uploaded(void *context, struct uploaded *list[], size_t count)
{
    struct upload_host *host = context;

    return device_uploaded(host->fixture.device, list, count);
}

static void pressure(void *context, struct lease_pressure *ret_pressure)
{
    (void)context;
    *ret_pressure = (struct lease_pressure){false, false};
}

static void complete(void *context)
{
    struct upload_host *host = context;

    host->completed++;
}

/*
 * Let the leases know what checkpoint there is, if any.  One that was being
 * folded when the process ended is folded first.
 */
static int begin_leases(struct upload_host *host)
{
    struct state_facts facts;
    uint64_t count;
    int error = 0;

    state_log_facts(device_state_log(host->fixture.device), &facts);
    if (facts.phase == CHECKPOINT_FOLDING) {
        error = device_destage(host->fixture.device);
        state_log_facts(device_state_log(host->fixture.device), &facts);
    }
    if (error != 0)
        return error;
    return facts.phase == CHECKPOINT_OPEN
               ? leases_begin_checkpoint(host->leases, &count)
               : 0;
}

/* The device is open: be its owner. */
static int begin_owner(struct upload_host *host)
{
    struct device *device = host->fixture.device;
    struct lease_options options = {
        .device_name = device_name(device),
        .chunk_size = device_chunk_size(device),
        .catalog = device_catalog(device),
        .checkpoint = device_checkpoint_catalog(device),
        .state_log = device_state_log(device),
        .chunk_dir = device_chunk_dir(device),
        .use = device_use(device),
        .parallel = 1,
        .uploaded = uploaded,
        .pressure = pressure,
        .complete = complete,
        .context = host,
    };
    uint64_t epoch = 0, nonce = 0;
    int error = leases_new(&options, &host->leases);

    if (error != 0)
        return error;
    host->claim = device_claim(device);
    error = begin_leases(host);
    if (error == 0)
        error = claim_take(host->claim);
    if (error == 0)
        error = claim_id(host->claim, &epoch, &nonce);
    if (error == 0)
        leases_set_claim(host->leases, epoch, nonce);
    return error;
}

int upload_host_open(struct upload_host *host)
{
    int error = fixture_open(&host->fixture);

    return error != 0 ? error : begin_owner(host);
}

static void end_owner(struct upload_host *host)
{
    leases_free(host->leases);
    host->leases = NULL;
}

int upload_host_close(struct upload_host *host)
{
    end_owner(host);
    return fixture_close(&host->fixture);
}

int upload_host_crash(struct upload_host *host)
{
    int error;

    end_owner(host);
    error = fixture_crash(&host->fixture);
    return error != 0 ? error : begin_owner(host);
}

int upload_host_checkpoint(struct upload_host *host, uint64_t time_ns)
{
    int error = device_checkpoint(host->fixture.device, time_ns);

    return error != 0 ? error : begin_leases(host);
}

/* Do what a lease says, and report it. */
static int upload_leased(struct upload_host *host, const struct lease *lease)
{
    struct device *device = host->fixture.device;
    struct upload_context context = {
        .device_name = device_name(device),
        .store = host->fixture.options.store,
        .fetch = device_fetch(device),
        .chunk_dir = device_chunk_dir(device),
        .chunk_size = device_chunk_size(device),
    };
    struct upload_result result = {.table = NULL};
    int error = upload_chunk(&context, &lease->work, &result);
    int answer = lease_report(host->leases, 1, lease->number, error, &result);

    free(result.table);
    return error != 0 ? error : answer;
}

int upload_host_upload(struct upload_host *host, enum lease_purpose purpose,
                       uint64_t max, uint64_t *ret_count)
{
    struct lease_wish wish = {1, purpose, 0, 100};
    int error = 0;

    *ret_count = 0;
    while (*ret_count < max && error == 0) {
        struct lease lease;
        uint64_t wait_ns;

        error = lease_take(host->leases, &wish, &lease, &wait_ns);
        if (error == -ENODATA)
            return 0;
        if (error != 0)
            break;
        error = upload_leased(host, &lease);
        if (error == 0)
            ++*ret_count;
        else if (error == -ESTALE && !lease.is_for_checkpoint)
            error = 0; /* it was written to meanwhile */
    }
    return error;
}

int upload_host_publish(struct upload_host *host, bool *ret_is_new)
{
    int error =
        publish_checkpoint(host->fixture.device, host->fixture.options.store,
                           host->claim, ret_is_new);

    if (error == 0)
        leases_end_checkpoint(host->leases);
    return error;
}

int upload_host_finish(struct upload_host *host, uint64_t time_ns)
{
    uint64_t count;
    bool is_new;
    int error = time_ns != 0 ? upload_host_checkpoint(host, time_ns) : 0;

    if (error == 0)
        error = upload_host_upload(host, LEASE_CHECKPOINT, UINT64_MAX, &count);
    return error != 0 ? error : upload_host_publish(host, &is_new);
}

int upload_host_evict(struct upload_host *host, uint64_t seed,
                      enum evict_depth depth)
{
    struct device *device = host->fixture.device;
    uint64_t count = 0, freed, chunk = 0;
    uint64_t *chunks =
        calloc(catalog_count(device_catalog(device)) + 1, sizeof(*chunks));
    uint64_t room = catalog_count(device_catalog(device));
    int error;

    if (chunks == NULL)
        return -ENOMEM;
    while (count < room &&
           catalog_next(device_catalog(device), chunk, UINT64_MAX, &chunk)) {
        if (crash_random(seed, chunk) % 2 == 0)
            chunks[count++] = chunk;
        chunk++;
    }
    error = device_evict(device, chunks, count, depth, &freed);
    free(chunks);
    return error;
}

int upload_host_read(struct upload_host *host, unsigned char *content)
{
    uint64_t size = device_size(host->fixture.device), piece = 1 << 20;
    int error = 0;

    for (uint64_t at = 0; at < size && error == 0; at += piece) {
        size_t length = (size_t)(size - at < piece ? size - at : piece);

        error = fixture_read(&host->fixture, at, content + at, length);
    }
    return error;
}
