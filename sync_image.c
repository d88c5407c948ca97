/* SPDX-License-Identifier: BSD-2-Clause */
#include "sync_image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/human.h"
#include "base/log.h"
#include "common.h"
#include "sync_evict.h"
#include "sync_session.h"

enum {
    CHECKPOINT_TRIES = 5, /* while the disk is full */
    REST_MS = 1000,       /* while the store does not answer; doubled */
    REST_MAX_MS = 60000,
};

/* ---- images ------------------------------------------------------------- */

/* Say what is left of a checkpoint.  Returns the exit code. */
static int tell_left(struct sync *sync, const struct config_device *device,
                     const struct uploader_counts *counts)
{
    bool has_ended = !sync_is_stopping(sync) && !counts->is_time_up;

    /* Where nothing worked, it is not time that is missing. */
    if (counts->last_error && !sync_is_stopping(sync) &&
        (has_ended || counts->chunks == 0))
        return sync_fail(
            device,
            "%" PRIu64 " chunks are left, %" PRIu64 " uploads failed: %s",
            counts->left, counts->failures, log_errno(counts->last_error));
    if (has_ended)
        return COMMON_OK; /* our share is done; others have theirs */
    if (counts->failures > 0)
        log_warning("%s: %" PRIu64 " uploads failed, the last one: %s",
                    device->name, counts->failures,
                    log_errno(counts->last_error));
    sync_tell(sync, "%s: %" PRIu64 " chunks are left for the next run",
              device->name, counts->left);
    return COMMON_TIME_UP;
}

/* A request failed; perhaps only since the store does not answer now. */
static int fail_request(struct sync *sync, const struct config_device *device,
                        const char *what, int error, struct sync_image *image)
{
    image->may_be_later =
        error == -ETIMEDOUT || error == -EIO || error == -EBUSY;
    return sync_fail_request(sync, device, what, error);
}

/* All of ours is uploaded: the owner makes the image if that was the rest. */
static int publish(struct sync *sync, const struct config_device *device,
                   const struct uploader_counts *counts,
                   struct sync_image *ret_image)
{
    char moment[HUMAN_TEXT];
    int error;

    (void)sync_request(sync, "publish");
    error = sync_ask_any(sync);
    if (error)
        return fail_request(sync, device, "the image is not published", error,
                            ret_image);
    if (sync_number(sync, "left") > 0)
        return tell_left(sync, device, counts);
    ret_image->is_made = true;
    ret_image->epoch = sync_number(sync, "epoch");
    sync_tell(sync, "%s: image %" PRIu64 " of %s is published", device->name,
              ret_image->epoch,
              human_time(sync_number(sync, "time_ns"), moment));
    return COMMON_OK;
}

/*
 * Have the owner open a checkpoint, or join the open one.  A full disk has no
 * room for it: then room is made first.
 */
static int ask_for_checkpoint(struct sync *sync,
                              const struct config_device *device)
{
    int error = -ENOSPC;

    for (int i = 0; i < CHECKPOINT_TRIES; i++) {
        (void)sync_request(sync, "checkpoint");
        error = sync_ask_any(sync);
        if (error != -ENOSPC || sync_is_stopping(sync) ||
            clock_monotonic_ns() >= sync->deadline_ns)
            return error;
        (void)sync_make_room(sync, device);
    }
    return error;
}

int sync_make_image(struct sync *sync, const struct config_device *device,
                    struct sync_image *ret_image)
{
    struct sync_progress progress = {
        .device = device->name,
        .what = "uploaded",
        .began_ns = clock_monotonic_ns(),
    };
    struct uploader_counts counts;
    int error;

    do {
        counts = (struct uploader_counts){.chunks = 0};
        *ret_image = (struct sync_image){.is_made = false};
        error = ask_for_checkpoint(sync, device);
        if (error)
            return fail_request(sync, device, "no checkpoint", error,
                                ret_image);
        ret_image->joined = sync_number(sync, "joined") != 0;
        counts.left = sync_number(sync, "left");
        if (sync_number(sync, "time_ns") == 0)
            return COMMON_OK; /* nothing changed since the last image */
        progress.chunks = counts.left;
        if (counts.left > 0)
            error = sync_upload(sync, "image", &progress, &counts);
        if (!error && counts.is_cut_off && !sync_is_stopping(sync))
            error = sync_session_renew(sync->session);
        else if (error == -EPIPE)
            counts.is_cut_off = true; /* by whom asks for the checkpoint */
        else if (error)
            return sync_fail_request(sync, device, "nothing is uploaded",
                                     error);
    } while (counts.is_cut_off && !sync_is_stopping(sync));
    if (sync_is_stopping(sync) || (counts.is_time_up && counts.left > 0))
        return tell_left(sync, device, &counts);
    return publish(sync, device, &counts, ret_image);
}

/* Whether the status in the reply says so of the device; it is told then. */
static bool status_is_behind(const struct sync *sync,
                             const struct config_device *device)
{
    char age[HUMAN_TEXT];

    if (sync_number(sync, "behind") == 0)
        return false;
    log_warning("%s: its oldest write that no image holds is %s old, more "
                "than maxage",
                device->name,
                human_duration((clock_realtime_ns() -
                                sync_number(sync, "oldest_unpublished_ns")) /
                                   1000000000U,
                               age));
    return true;
}

/* The same, asking for it. */
static bool is_behind(struct sync *sync, const struct config_device *device)
{
    (void)sync_request(sync, "status");
    return !sync_is_stopping(sync) && sync_ask_any(sync) == 0 &&
           status_is_behind(sync, device);
}

/* Delete what nothing names any more.  Failing that is no harm. */
static void collect(struct sync *sync, const struct config_device *device)
{
    int error;

    do { /* some thousand objects at a time */
        (void)sync_request(sync, "collect");
        error = sync_ask_any(sync);
    } while (!error && sync_number(sync, "more") > 0 &&
             !sync_is_stopping(sync) &&
             clock_monotonic_ns() < sync->deadline_ns);
    if (error && !sync_is_stopping(sync))
        log_warning("%s: nothing is deleted from the bucket: %s", device->name,
                    sync_reason(sync, error));
}

/* *ret_again: it came to nothing because the store does not answer now. */
static int upload_device(struct sync *sync, const struct config_device *device,
                         bool *ret_again)
{
    struct sync_image image = {.is_made = false};
    int code, error = sync_open(sync, device, DEVICE_ATTACH_NORMAL);

    if (error)
        return error == -ECANCELED ? COMMON_TIME_UP : COMMON_FAILED;
    code = sync_make_image(sync, device, &image);
    *ret_again = image.may_be_later;
    if (code == COMMON_OK)
        collect(sync, device);
    if (code == COMMON_TIME_UP && is_behind(sync, device))
        code = COMMON_BEHIND;
    return sync_worse(code, sync_close(sync));
}

static int by_age(const void *a, const void *b)
{
    const struct sync_candidate *first = a, *second = b;

    if (first->unpublished_ns != second->unpublished_ns)
        return first->unpublished_ns < second->unpublished_ns ? -1 : 1;
    return first->device < second->device ? -1 : 1; /* as configured */
}

/* Ask the devices how old their oldest unpublished writes are, and sort. */
static int sort_by_age(struct sync *sync, struct sync_candidate *list,
                       size_t count)
{
    int code = COMMON_OK;

    for (size_t i = 0; i < count && !sync_is_stopping(sync); i++) {
        list[i].unpublished_ns = UINT64_MAX;
        if (sync_open(sync, list[i].device, DEVICE_ATTACH_NORMAL) != 0)
            continue; /* said again when its turn comes */
        (void)sync_request(sync, "status");
        if (sync_ask_any(sync) == 0 &&
            sync_number(sync, "oldest_unpublished_ns") > 0) {
            list[i].unpublished_ns = sync_number(sync, "oldest_unpublished_ns");
            list[i].is_behind = sync_number(sync, "behind") > 0;
        }
        code = sync_worse(code, sync_close(sync));
    }
    qsort(list, count, sizeof(*list), by_age);
    return code;
}

/* What a device comes to for which there was no time. */
static int pass_over(const struct sync_candidate *candidate)
{
    if (candidate->unpublished_ns == UINT64_MAX)
        return COMMON_OK;
    if (!candidate->is_behind)
        return COMMON_TIME_UP;
    log_warning("%s: its oldest write that no image holds is older than "
                "maxage, and there was no time for it",
                candidate->device->name);
    return COMMON_BEHIND;
}

/* Try what is left, once.  Returns whether something is left again. */
static bool upload_round(struct sync *sync, struct sync_candidate *list,
                         size_t count)
{
    bool is_any_left = false;

    for (size_t i = 0; i < count && !sync_is_stopping(sync); i++) {
        struct sync_candidate *candidate = &list[i];
        bool has_time = clock_monotonic_ns() < sync->deadline_ns;

        if (!candidate->is_left)
            continue;
        candidate->is_left = false;
        /* Of a single one nothing is known yet. */
        if (has_time || count == 1)
            candidate->code =
                upload_device(sync, candidate->device, &candidate->is_left);
        else
            candidate->code = pass_over(candidate);
        is_any_left |= candidate->is_left;
    }
    return is_any_left;
}

/* Wait before another round.  Returns whether there is time for one. */
static bool rest(const struct sync *sync, unsigned rounds)
{
    uint64_t now_ns = clock_monotonic_ns(), left_ms;
    int wait_ms = REST_MS;

    if (now_ns >= sync->deadline_ns)
        return false;
    left_ms = (sync->deadline_ns - now_ns) / 1000000 + 1;
    while (--rounds > 0 && wait_ms < REST_MAX_MS)
        wait_ms *= 2;
    if ((uint64_t)wait_ms > left_ms)
        wait_ms = (int)left_ms;
    return sync_rest(sync, wait_ms) && clock_monotonic_ns() < sync->deadline_ns;
}

int sync_upload_devices(struct sync *sync)
{
    size_t count;
    AUTO_FREE struct sync_candidate *list =
        sync_choose_devices(sync, false, &count);
    unsigned rounds = 1;
    int code = COMMON_OK;

    if (!list)
        return COMMON_FAILED;
    sync->deadline_ns =
        clock_monotonic_ns() + sync->command.seconds * 1000000000U;
    if (count > 1)
        code = sort_by_age(sync, list, count);
    for (size_t i = 0; i < count; i++) {
        list[i].is_left = true;
        list[i].code = COMMON_TIME_UP; /* if a signal ends all before */
    }
    while (upload_round(sync, list, count) && rest(sync, rounds))
        rounds++;
    for (size_t i = 0; i < count; i++)
        code = sync_worse(code, list[i].code);
    return code;
}
