/* SPDX-License-Identifier: BSD-2-Clause */
#include "sync_evict.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/human.h"
#include "base/log.h"
#include "common.h"
#include "sync_session.h"

enum {
    USED_TEXT = 32,
    ROOM_ABOVE = 70, /* percent, for a checkpoint that finds no room */
};

/* ---- eviction ----------------------------------------------------------- */

/* What a step of eviction came to. */
enum step { STEP_DONE, STEP_MORE, STEP_UPLOAD, STEP_STUCK, STEP_FAILED };

static enum step evict_step(struct sync *sync,
                            const struct config_device *device, unsigned above)
{
    const struct sync_command *command = &sync->command;
    struct control_message *message = sync_request(sync, "evict");
    const char *state;
    int error;

    control_message_add_number(message, "above", above);
    control_message_add_number(message, "from", command->start_percent);
    control_message_add_number(message, "to", command->stop_percent);
    error = sync_ask_any(sync);
    if (error) {
        (void)sync_fail_request(sync, device, "nothing is evicted", error);
        return STEP_FAILED;
    }
    state = control_message_get(&sync->reply, "state");
    if (!state || strcmp(state, "done") == 0)
        return STEP_DONE;
    if (strcmp(state, "upload") == 0)
        return STEP_UPLOAD;
    return strcmp(state, "more") == 0 ? STEP_MORE : STEP_STUCK;
}

/*
 * Upload what is in the way.  Returns false if there was nothing to upload,
 * or it failed, or there is no use in going on.
 */
static bool upload_for_space(struct sync *sync,
                             const struct config_device *device)
{
    struct sync_progress progress = {
        .device = device->name,
        .what = "uploaded, to be evicted,",
        .began_ns = clock_monotonic_ns(),
    };
    struct uploader_counts counts = {.chunks = 0};
    int error = sync_upload(sync, "space", &progress, &counts);

    if (error == -EPIPE || (!error && counts.is_cut_off))
        error = sync_session_renew(sync->session);
    if (error) {
        (void)sync_fail_request(sync, device, "nothing is uploaded", error);
        return false;
    }
    if (counts.last_error)
        (void)sync_fail(device, "%" PRIu64 " uploads failed: %s",
                        counts.failures, log_errno(counts.last_error));
    return !counts.last_error &&
           (counts.chunks + counts.outdated > 0 || counts.is_cut_off);
}

bool sync_make_room(struct sync *sync, const struct config_device *device)
{
    enum step step;

    do {
        step = evict_step(sync, device, ROOM_ABOVE);
    } while (!sync_is_stopping(sync) &&
             (step == STEP_MORE ||
              (step == STEP_UPLOAD && upload_for_space(sync, device))));
    return step == STEP_DONE;
}

/* ---- eviction of devices ------------------------------------------------ */

/* Evict until no more than the least is used; the session is open. */
static int evict(struct sync *sync, const struct config_device *device)
{
    unsigned above = sync->command.max_used;
    uint64_t chunks = 0, freed = 0;
    char used[USED_TEXT], bytes[HUMAN_TEXT];
    enum step step;

    for (;;) {
        step = evict_step(sync, device, above);
        chunks += sync_number(sync, "chunks");
        freed += sync_number(sync, "freed");
        if (sync_is_stopping(sync))
            return COMMON_TIME_UP;
        if (step == STEP_FAILED)
            return COMMON_FAILED;
        (void)snprintf(used, sizeof(used), "%s",
                       control_message_get(&sync->reply, "used")
                           ? control_message_get(&sync->reply, "used")
                           : "?");
        if (step == STEP_DONE || step == STEP_STUCK)
            break;
        above = sync->command.min_used;
        if (step == STEP_UPLOAD && !upload_for_space(sync, device)) {
            step = STEP_STUCK;
            break;
        }
    }
    sync_tell(sync,
              "%s: %" PRIu64 " chunks evicted, %s freed; %s percent are used",
              device->name, chunks, human_size(freed, bytes), used);
    if (step == STEP_DONE)
        return COMMON_OK;
    if (sync_is_stopping(sync))
        return COMMON_TIME_UP;
    return sync_fail(device, "%s percent are used, and no more can be evicted",
                     used);
}

int sync_evict_devices(struct sync *sync)
{
    size_t count;
    AUTO_FREE struct sync_candidate *list =
        sync_choose_devices(sync, false, &count);
    int code = COMMON_OK;

    if (!list)
        return COMMON_FAILED;
    for (size_t i = 0; i < count; i++) {
        int error = sync_is_stopping(sync)
                        ? -ECANCELED
                        : sync_open(sync, list[i].device, DEVICE_ATTACH_NORMAL);

        if (error == -ECANCELED)
            return sync_worse(code, COMMON_TIME_UP);
        if (error) {
            code = COMMON_FAILED;
            continue;
        }
        code = sync_worse(code, evict(sync, list[i].device));
        code = sync_worse(code, sync_close(sync));
    }
    return code;
}
