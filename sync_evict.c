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
    REST_MS = 100,
};

/*
 * For so long nothing may come of it: what is in the way may be in the hands
 * of others just now, or be written again while it is uploaded.
 */
static const uint64_t PATIENCE_NS = UINT64_C(10) * 1000000000;

/* ---- eviction ----------------------------------------------------------- */

/* What a step of eviction came to. */
enum step {
    STEP_DONE,
    STEP_MORE,
    STEP_UPLOAD,
    STEP_STUCK,   /* nothing is left of our part */
    STEP_IN_VAIN, /* something is, and stays */
    STEP_FAILED,
};

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
 * Upload what is in the way.  *ret_chunks: how many; none if others have what
 * there is, or it was written again meanwhile.  0 or a negative errno, told.
 */
static int upload_for_space(struct sync *sync,
                            const struct config_device *device,
                            uint64_t *ret_chunks)
{
    struct sync_progress progress = {
        .device = device->name,
        .what = "uploaded, to be evicted,",
        .began_ns = clock_monotonic_ns(),
    };
    struct uploader_counts counts = {.chunks = 0};
    int error = sync_upload(sync, "space", &progress, &counts);

    *ret_chunks = counts.chunks;
    if (error == -EPIPE || (!error && counts.is_cut_off))
        error = sync_session_renew(sync->session);
    if (error)
        (void)sync_fail_request(sync, device, "nothing is uploaded", error);
    else if (counts.last_error)
        (void)sync_fail(device, "%" PRIu64 " uploads failed: %s",
                        counts.failures, log_errno(counts.last_error));
    return error ? error : counts.last_error;
}

/* What eviction came to. */
struct room {
    uint64_t chunks, freed;
    char used[USED_TEXT]; /* percent */
};

/* One step, and what must be uploaded for the next.  *ret_has_more: room. */
static enum step make_some_room(struct sync *sync,
                                const struct config_device *device,
                                unsigned above, struct room *room,
                                bool *ret_has_more)
{
    enum step step = evict_step(sync, device, above);
    uint64_t freed = sync_number(sync, "freed"), uploaded = 0;
    const char *used = control_message_get(&sync->reply, "used");

    if (step == STEP_FAILED)
        return step;
    room->chunks += sync_number(sync, "chunks");
    room->freed += freed;
    (void)snprintf(room->used, sizeof(room->used), "%s", used ? used : "?");
    if (step == STEP_UPLOAD && !sync_is_stopping(sync) &&
        upload_for_space(sync, device, &uploaded) != 0)
        step = STEP_IN_VAIN;
    *ret_has_more = freed > 0 || uploaded > 0;
    return step;
}

/*
 * Evict, if more than first are used, until no more than then are.  Returns
 * the last step; STEP_MORE or STEP_UPLOAD: a signal came.
 */
static enum step make_room(struct sync *sync,
                           const struct config_device *device, unsigned first,
                           unsigned then, struct room *room)
{
    uint64_t moved_ns = clock_monotonic_ns();
    unsigned above = first;

    for (;;) {
        bool has_more = false;
        enum step step = make_some_room(sync, device, above, room, &has_more);

        if ((step != STEP_MORE && step != STEP_UPLOAD) ||
            sync_is_stopping(sync))
            return step;
        above = then;
        if (has_more)
            moved_ns = clock_monotonic_ns();
        else if (clock_monotonic_ns() - moved_ns > PATIENCE_NS ||
                 clock_monotonic_ns() >= sync->deadline_ns)
            return STEP_IN_VAIN;
        else
            (void)sync_rest(sync, REST_MS);
    }
}

bool sync_make_room(struct sync *sync, const struct config_device *device)
{
    struct room room = {.chunks = 0};

    return make_room(sync, device, ROOM_ABOVE, ROOM_ABOVE, &room) == STEP_DONE;
}

/* ---- eviction of devices ------------------------------------------------ */

static bool is_part(const struct sync *sync)
{
    return sync->command.start_percent > 0 || sync->command.stop_percent < 100;
}

/* Evict until no more than the least is used; the session is open. */
static int evict(struct sync *sync, const struct config_device *device)
{
    struct room room = {.chunks = 0};
    char bytes[HUMAN_TEXT];
    enum step step = make_room(sync, device, sync->command.max_used,
                               sync->command.min_used, &room);

    if (sync_is_stopping(sync))
        return COMMON_TIME_UP;
    if (step == STEP_FAILED)
        return COMMON_FAILED;
    sync_tell(
        sync, "%s: %" PRIu64 " chunks evicted, %s freed; %s percent are used",
        device->name, room.chunks, human_size(room.freed, bytes), room.used);
    if (step == STEP_DONE || (step == STEP_STUCK && is_part(sync)))
        return COMMON_OK; /* our part is done; others have theirs */
    return sync_fail(device, "%s percent are used, and no more can be evicted",
                     room.used);
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
