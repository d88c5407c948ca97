/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3blkdev-sync - bring what changed into the bucket, make room, and what
 * else there is to do with devices and their images.
 *
 * Everything is asked of the owner of a device's cache directory, over its
 * control socket (control_message.h); without one, sync_session.c makes us the
 * owner.  Only the uploading itself is done here (uploader.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/human.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/number.h"
#include "base/pid_file.h"
#include "cache/status_text.h"
#include "cache/uploader.h"
#include "common.h"
#include "sync_command.h"
#include "sync_session.h"

enum {
    PROGRESS_MS = 500,
    FAILURE_DELAY_MS = 1000, /* after an upload that failed; doubled */
    FAILURE_DELAY_MAX_MS = 60000,
    FAILURES_MAX = 5, /* in a row, if there is no time to be up */
    NAME_LINE = 128,
    CHECKPOINT_TRIES = 5, /* while the disk is full */
    ROOM_ABOVE = 70,      /* percent, for a checkpoint that finds no room */
};

static const struct common_program program = {
    .name = "s3blkdev-sync",
    .usage =
        "s3blkdev-sync [OPTION...] -p FILE MAX MIN [START STOP]\n"
        "           evict what is in the bucket when more than MAX percent "
        "are used,\n"
        "           until no more than MIN percent are\n"
        "       s3blkdev-sync [OPTION...] -p FILE SECONDS [START STOP]\n"
        "           upload what changed, for so long\n"
        "       s3blkdev-sync [OPTION...] COMMAND\n"
        "           status [--json]\n"
        "           snapshot DEVICE NAME [--now]\n"
        "           snapshots DEVICE\n"
        "           rollback DEVICE NAME [--discard]\n"
        "           clone DEVICE[@NAME] NEW-DEVICE\n"
        "           takeover DEVICE\n"
        "           fork DEVICE NEW-DEVICE\n"
        "           discard DEVICE\n"
        "           release DEVICE\n"
        "           scrub DEVICE [--local | --sample PERCENT] [--rate BYTES] "
        "[--restart]\n"
        "           drop DEVICE[@NAME] [--yes]\n"
        "       s3blkdev-sync -h | -V\n"
        "\n"
        "  -c FILE    the configuration, instead of " COMMON_CONFIG_PATH "\n"
        "  -d DEVICE  only this one; can be given several times\n"
        "  -p FILE    where to write the pid, so that it does not run twice\n"
        "  -w TIME    how long to look for a daemon that restarts (60s)\n"
        "  -h, -V     show this help; show the version\n"
        "\n"
        "START and STOP, percent, choose a part of the chunks: several can "
        "share the work.\n",
};

/* All that a run knows. */
struct sync {
    struct sync_command command;
    struct config *config;
    uint64_t deadline_ns;  /* to begin chunks; UINT64_MAX: none */
    bool has_terminal;     /* somebody watches */
    int signal_fd, end_fd; /* of the thread that hears signals */
    int stop_fd;           /* eventfd: a signal came */
    pthread_t signal_thread;
    struct mutex mutex;           /* for the thread that hears signals */
    struct sync_session *session; /* GUARDED_BY(mutex), for that thread */
    struct uploader *uploader;    /* GUARDED_BY(mutex), for that thread */
    bool is_stopping;             /* GUARDED_BY(mutex): a signal came */
    struct control_message request, reply;
};

/* ---- what is said ---------------------------------------------------------
 */

/* Say what went wrong with a device.  Returns COMMON_FAILED. */
__attribute__((format(printf, 2, 3))) static int
fail(const struct config_device *device, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    log_error("%s: %s", device->name, text);
    return COMMON_FAILED;
}

/* Of two exit codes, the one that says more. */
static int worse(int a, int b)
{
    static const int order[] = {COMMON_FAILED, COMMON_BEHIND, COMMON_TIME_UP};

    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (a == order[i] || b == order[i])
            return order[i];
    }
    return COMMON_OK;
}

/* ---- the end --------------------------------------------------------------
 */

static bool is_stopping(struct sync *sync)
{
    bool result;

    mutex_lock(&sync->mutex);
    result = sync->is_stopping;
    mutex_unlock(&sync->mutex);
    return result;
}

/* Chunks in hand are finished, and nothing else is begun. */
static void stop(struct sync *sync)
{
    mutex_lock(&sync->mutex);
    sync->is_stopping = true;
    (void)eventfd_write(sync->stop_fd, 1);
    if (sync->uploader)
        uploader_finish(sync->uploader);
    else if (sync->session)
        sync_session_interrupt(sync->session);
    mutex_unlock(&sync->mutex);
}

/* Hear signals until the run has ended. */
static void *hear_signals(void *context)
{
    struct sync *sync = context;
    struct signalfd_siginfo info;

    for (;;) {
        struct pollfd polled[] = {
            {.fd = sync->signal_fd, .events = POLLIN},
            {.fd = sync->end_fd, .events = POLLIN},
        };

        if (poll(polled, 2, -1) < 0)
            continue;
        if (polled[1].revents)
            return NULL;
        if (read(sync->signal_fd, &info, sizeof(info)) ==
            (ssize_t)sizeof(info)) {
            log_info("signal %u: ending", info.ssi_signo);
            stop(sync);
        }
    }
}

/* Block the signals that say to end, in all threads, and hear them in one. */
static int start_hearing(struct sync *sync)
{
    sigset_t wanted;

    (void)sigemptyset(&wanted);
    (void)sigaddset(&wanted, SIGTERM);
    (void)sigaddset(&wanted, SIGINT);
    (void)sigaddset(&wanted, SIGHUP);
    if (pthread_sigmask(SIG_BLOCK, &wanted, NULL) != 0)
        return -EINVAL;
    sync->signal_fd = signalfd(-1, &wanted, SFD_CLOEXEC);
    sync->end_fd = eventfd(0, EFD_CLOEXEC);
    sync->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (sync->signal_fd < 0 || sync->end_fd < 0 || sync->stop_fd < 0)
        return -errno;
    return -pthread_create(&sync->signal_thread, NULL, hear_signals, sync);
}

static void stop_hearing(struct sync *sync)
{
    (void)eventfd_write(sync->end_fd, 1);
    (void)pthread_join(sync->signal_thread, NULL);
}

/* ---- a session -------------------------------------------------------------
 */

/* Open a session, of which the thread that hears signals knows. */
static int open_session(struct sync *sync, const struct config_device *device,
                        enum device_attach attach)
{
    const struct sync_session_options options = {
        .config = sync->config,
        .device = device,
        .wait_ns = sync->command.wait_s * 1000000000U,
        .stop_fd = sync->stop_fd,
        .attach = attach,
    };
    struct sync_session *session;
    int error = sync_session_open(&options, &session);

    if (error)
        return error;
    mutex_lock(&sync->mutex);
    sync->session = session;
    if (sync->is_stopping)
        sync_session_interrupt(session);
    mutex_unlock(&sync->mutex);
    return 0;
}

/* Close it.  Returns an exit code. */
static int close_session(struct sync *sync)
{
    struct sync_session *session;

    mutex_lock(&sync->mutex);
    session = take_pointer(&sync->session);
    mutex_unlock(&sync->mutex);
    return sync_session_close(session) ? COMMON_FAILED : COMMON_OK;
}

/* Begin a request. */
static struct control_message *request(struct sync *sync, const char *verb)
{
    control_message_start(&sync->request, verb);
    return &sync->request;
}

/*
 * Ask what was begun; the reply stays until the next one.  An answer "error"
 * is its errno.
 */
static int ask(struct sync *sync)
{
    uint64_t number;
    int error;

    control_message_clear(&sync->reply);
    control_message_start(&sync->reply, "");
    error = sync_session_ask(sync->session, &sync->request, &sync->reply);
    if (error)
        control_message_start(&sync->reply, "");
    if (error || !control_message_is(&sync->reply, "error"))
        return error;
    if (control_message_get_number(&sync->reply, "errno", 1, 4095, &number) !=
        0)
        return -EPROTO;
    return -(int)number;
}

/*
 * The same for what does no harm when it is done twice: an owner that goes
 * away is followed by the next one.
 */
static int ask_any_owner(struct sync *sync)
{
    int error = ask(sync);

    while (error == -EPIPE && !is_stopping(sync)) {
        error = sync_session_renew(sync->session);
        if (!error)
            error = ask(sync);
    }
    return error;
}

/* Why it failed, in the owner's words if it said something. */
static const char *reason(const struct sync *sync, int error)
{
    const char *text = control_message_get(&sync->reply, "text");

    return text ? text : log_errno(error);
}

/* The number of a key of the reply; 0 without one. */
static uint64_t number_of(const struct sync *sync, const char *key)
{
    uint64_t value;

    return control_message_get_number(&sync->reply, key, 0, UINT64_MAX,
                                      &value) == 0
               ? value
               : 0;
}

/* Say that a request failed, unless a signal was the reason. */
static int fail_request(struct sync *sync, const struct config_device *device,
                        const char *what, int error)
{
    if (error == -ECANCELED && is_stopping(sync))
        return COMMON_TIME_UP;
    return fail(device, "%s: %s", what, reason(sync, error));
}

/* ---- progress -------------------------------------------------------------
 */

/* What has been done since then, for people who watch. */
struct progress {
    const char *device;
    const char *what;
    uint64_t began_ns;
    uint64_t chunks; /* to be done; 0: not known */
};

static void show_progress(const struct sync *sync,
                          const struct progress *progress,
                          const struct uploader_counts *counts)
{
    double seconds = (double)(clock_monotonic_ns() - progress->began_ns) / 1e9;
    uint64_t done = counts->knows_left && counts->left <= progress->chunks
                        ? progress->chunks - counts->left
                        : counts->chunks;
    char bytes[HUMAN_TEXT], rate[HUMAN_TEXT], left[HUMAN_TEXT] = "?";

    if (!sync->has_terminal)
        return;
    if (done > 0)
        (void)human_duration((uint64_t)(seconds / (double)done *
                                        (double)(progress->chunks - done)),
                             left);
    (void)human_size(counts->bytes, bytes);
    (void)human_size(
        (uint64_t)((double)counts->bytes / (seconds > 0.1 ? seconds : 0.1)),
        rate);
    if (progress->chunks > 0)
        (void)printf("\r%s: %s %" PRIu64 " of %" PRIu64
                     " chunks, %s, %s/s, %s left\033[K",
                     progress->device, progress->what, done, progress->chunks,
                     bytes, rate, left);
    else
        (void)printf("\r%s: %s %" PRIu64 " chunks, %s, %s/s\033[K",
                     progress->device, progress->what, counts->chunks, bytes,
                     rate);
    (void)fflush(stdout);
}

/* Say it to people who watch. */
__attribute__((format(printf, 2, 3))) static void tell(const struct sync *sync,
                                                       const char *format, ...)
{
    va_list arguments;

    if (!sync->has_terminal)
        return;
    va_start(arguments, format);
    (void)printf("\r");
    (void)vprintf(format, arguments);
    (void)printf("\033[K\n");
    (void)fflush(stdout);
    va_end(arguments);
}

/* ---- uploads --------------------------------------------------------------
 */

/* Wait for the threads, showing how it goes. */
static void watch_uploader(struct sync *sync, struct uploader *uploader,
                           const struct progress *progress,
                           struct uploader_counts *ret_counts)
{
    bool has_ended;

    do {
        uint64_t until_ns = clock_monotonic_ns() + PROGRESS_MS * 1000000U;

        has_ended =
            uploader_wait(uploader, sync->has_terminal ? until_ns : UINT64_MAX);
        uploader_count(uploader, ret_counts);
        show_progress(sync, progress, ret_counts);
    } while (!has_ended);
}

/*
 * Upload what the owner hands out until there is no more, or no more time.
 * purpose: see control_message.h.  Returns an error only if nothing could be
 * begun.
 */
static int upload(struct sync *sync, const char *purpose,
                  const struct progress *progress,
                  struct uploader_counts *ret_counts)
{
    const struct uploader_options options = {
        .cachedir = sync_session_cachedir(sync->session),
        .purpose = purpose,
        .start_percent = sync->command.start_percent,
        .stop_percent = sync->command.stop_percent,
        .threads = sync->config->uploads,
        .deadline_ns = sync->deadline_ns,
        .failure_delay_ms = FAILURE_DELAY_MS,
        .failure_delay_max_ms = FAILURE_DELAY_MAX_MS,
        .failures_max = sync->deadline_ns == UINT64_MAX ? FAILURES_MAX : 0,
        .upload = sync_session_upload,
        .context = sync->session,
    };
    struct uploader *uploader = NULL;
    int error = sync_session_prepare_uploads(sync->session);

    if (!error)
        error = uploader_start(&options, &uploader);
    if (error)
        return error;
    mutex_lock(&sync->mutex);
    sync->uploader = uploader;
    if (sync->is_stopping)
        uploader_finish(uploader);
    mutex_unlock(&sync->mutex);
    watch_uploader(sync, uploader, progress, ret_counts);
    mutex_lock(&sync->mutex);
    sync->uploader = NULL;
    mutex_unlock(&sync->mutex);
    uploader_free(uploader);
    return 0;
}

/* ---- eviction -------------------------------------------------------------
 */

/* What a step of eviction came to. */
enum step { STEP_DONE, STEP_MORE, STEP_UPLOAD, STEP_STUCK, STEP_FAILED };

static enum step evict_step(struct sync *sync,
                            const struct config_device *device, unsigned above)
{
    const struct sync_command *command = &sync->command;
    struct control_message *message = request(sync, "evict");
    const char *state;
    int error;

    control_message_add_number(message, "above", above);
    control_message_add_number(message, "from", command->start_percent);
    control_message_add_number(message, "to", command->stop_percent);
    error = ask_any_owner(sync);
    if (error) {
        (void)fail_request(sync, device, "nothing is evicted", error);
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
    struct progress progress = {
        .device = device->name,
        .what = "uploaded, to be evicted,",
        .began_ns = clock_monotonic_ns(),
    };
    struct uploader_counts counts = {.chunks = 0};
    int error = upload(sync, "space", &progress, &counts);

    if (error == -EPIPE || (!error && counts.is_cut_off))
        error = sync_session_renew(sync->session);
    if (error) {
        (void)fail_request(sync, device, "nothing is uploaded", error);
        return false;
    }
    if (counts.last_error)
        (void)fail(device, "%" PRIu64 " uploads failed: %s", counts.failures,
                   log_errno(counts.last_error));
    return !counts.last_error &&
           (counts.chunks + counts.outdated > 0 || counts.is_cut_off);
}

/* Evict until a good part is free.  Returns whether that was possible. */
static bool make_room(struct sync *sync, const struct config_device *device)
{
    enum step step;

    do {
        step = evict_step(sync, device, ROOM_ABOVE);
    } while (!is_stopping(sync) &&
             (step == STEP_MORE ||
              (step == STEP_UPLOAD && upload_for_space(sync, device))));
    return step == STEP_DONE;
}

/* ---- images ---------------------------------------------------------------
 */

/* An image that was asked for. */
struct image {
    bool joined; /* it was begun before we asked */
    bool is_made;
    uint64_t epoch;
};

/* Say what is left of a checkpoint.  Returns the exit code. */
static int tell_left(struct sync *sync, const struct config_device *device,
                     const struct uploader_counts *counts)
{
    bool has_ended = !is_stopping(sync) && !counts->is_time_up;

    /* Where nothing worked, it is not time that is missing. */
    if (counts->last_error && !is_stopping(sync) &&
        (has_ended || counts->chunks == 0))
        return fail(
            device,
            "%" PRIu64 " chunks are left, %" PRIu64 " uploads failed: %s",
            counts->left, counts->failures, log_errno(counts->last_error));
    if (has_ended)
        return COMMON_OK; /* our share is done; others have theirs */
    if (counts->failures > 0)
        log_warning("%s: %" PRIu64 " uploads failed, the last one: %s",
                    device->name, counts->failures,
                    log_errno(counts->last_error));
    tell(sync, "%s: %" PRIu64 " chunks are left for the next run", device->name,
         counts->left);
    return COMMON_TIME_UP;
}

/* All of ours is uploaded: the owner makes the image if that was the rest. */
static int publish(struct sync *sync, const struct config_device *device,
                   const struct uploader_counts *counts,
                   struct image *ret_image)
{
    char moment[HUMAN_TEXT];
    int error;

    (void)request(sync, "publish");
    error = ask_any_owner(sync);
    if (error)
        return fail_request(sync, device, "the image is not published", error);
    if (number_of(sync, "left") > 0)
        return tell_left(sync, device, counts);
    ret_image->is_made = true;
    ret_image->epoch = number_of(sync, "epoch");
    tell(sync, "%s: image %" PRIu64 " of %s is published", device->name,
         ret_image->epoch, human_time(number_of(sync, "time_ns"), moment));
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
        (void)request(sync, "checkpoint");
        error = ask_any_owner(sync);
        if (error != -ENOSPC || is_stopping(sync) ||
            clock_monotonic_ns() >= sync->deadline_ns)
            return error;
        (void)make_room(sync, device);
    }
    return error;
}

/*
 * Work on the device's checkpoint until it is an image, or time is up.
 * *ret_image: without one there was nothing to publish.
 */
static int make_image(struct sync *sync, const struct config_device *device,
                      struct image *ret_image)
{
    struct progress progress = {
        .device = device->name,
        .what = "uploaded",
        .began_ns = clock_monotonic_ns(),
    };
    struct uploader_counts counts;
    int error;

    do {
        counts = (struct uploader_counts){.chunks = 0};
        *ret_image = (struct image){.is_made = false};
        error = ask_for_checkpoint(sync, device);
        if (error)
            return fail_request(sync, device, "no checkpoint", error);
        ret_image->joined = number_of(sync, "joined") != 0;
        counts.left = number_of(sync, "left");
        if (number_of(sync, "time_ns") == 0)
            return COMMON_OK; /* nothing changed since the last image */
        progress.chunks = counts.left;
        if (counts.left > 0)
            error = upload(sync, "image", &progress, &counts);
        if (!error && counts.is_cut_off && !is_stopping(sync))
            error = sync_session_renew(sync->session);
        else if (error == -EPIPE)
            counts.is_cut_off = true; /* by whom asks for the checkpoint */
        else if (error)
            return fail_request(sync, device, "nothing is uploaded", error);
    } while (counts.is_cut_off && !is_stopping(sync));
    if (is_stopping(sync) || (counts.is_time_up && counts.left > 0))
        return tell_left(sync, device, &counts);
    return publish(sync, device, &counts, ret_image);
}

/* Whether the status in the reply says so of the device; it is told then. */
static bool status_is_behind(const struct sync *sync,
                             const struct config_device *device)
{
    char age[HUMAN_TEXT];

    if (number_of(sync, "behind") == 0)
        return false;
    log_warning("%s: its oldest write that no image holds is %s old, more "
                "than maxage",
                device->name,
                human_duration((clock_realtime_ns() -
                                number_of(sync, "oldest_unpublished_ns")) /
                                   1000000000U,
                               age));
    return true;
}

/* The same, asking for it. */
static bool is_behind(struct sync *sync, const struct config_device *device)
{
    (void)request(sync, "status");
    return !is_stopping(sync) && ask_any_owner(sync) == 0 &&
           status_is_behind(sync, device);
}

/* Delete what nothing names any more.  Failing that is no harm. */
static void collect(struct sync *sync, const struct config_device *device)
{
    int error;

    do { /* some thousand objects at a time */
        (void)request(sync, "collect");
        error = ask_any_owner(sync);
    } while (!error && number_of(sync, "more") > 0 && !is_stopping(sync) &&
             clock_monotonic_ns() < sync->deadline_ns);
    if (error && !is_stopping(sync))
        log_warning("%s: nothing is deleted from the bucket: %s", device->name,
                    reason(sync, error));
}

static int upload_device(struct sync *sync, const struct config_device *device)
{
    struct image image;
    int code, error = open_session(sync, device, DEVICE_ATTACH_NORMAL);

    if (error)
        return error == -ECANCELED ? COMMON_TIME_UP : COMMON_FAILED;
    code = make_image(sync, device, &image);
    if (code == COMMON_OK)
        collect(sync, device);
    if (code == COMMON_TIME_UP && is_behind(sync, device))
        code = COMMON_BEHIND;
    return worse(code, close_session(sync));
}

/* ---- which devices, in which order ----------------------------------------
 */

/* A device, and since when it has something that no image holds. */
struct candidate {
    const struct config_device *device;
    uint64_t unpublished_ns; /* UINT64_MAX: nothing */
    bool is_behind;
};

static bool is_chosen(const struct sync *sync, const char *name)
{
    const struct sync_command *command = &sync->command;

    for (size_t i = 0; i < command->devices_count; i++) {
        if (strcmp(command->devices[i], name) == 0)
            return true;
    }
    return command->devices_count == 0;
}

/* Returns the device of that name, or NULL. */
static const struct config_device *find_device(const struct sync *sync,
                                               const char *name)
{
    for (size_t i = 0; i < sync->config->devices_count; i++) {
        if (strcmp(sync->config->devices[i].name, name) == 0)
            return &sync->config->devices[i];
    }
    return NULL;
}

/* The devices that are to be worked on; the array is the caller's. */
static struct candidate *choose_devices(const struct sync *sync, bool for_all,
                                        size_t *ret_count)
{
    const struct config *config = sync->config;
    struct candidate *list = calloc(config->devices_count + 1, sizeof(*list));
    size_t count = 0;

    for (size_t i = 0; list && i < config->devices_count; i++) {
        const struct config_device *device = &config->devices[i];

        /* What is only read has nothing to upload, nor an owner. */
        if (is_chosen(sync, device->name) && (for_all || !device->read_only))
            list[count++] = (struct candidate){.device = device};
    }
    *ret_count = count;
    return list;
}

static int by_age(const void *a, const void *b)
{
    const struct candidate *first = a, *second = b;

    if (first->unpublished_ns != second->unpublished_ns)
        return first->unpublished_ns < second->unpublished_ns ? -1 : 1;
    return first->device < second->device ? -1 : 1; /* as configured */
}

/* Ask the devices how old their oldest unpublished writes are, and sort. */
static int sort_by_age(struct sync *sync, struct candidate *list, size_t count)
{
    int code = COMMON_OK;

    for (size_t i = 0; i < count && !is_stopping(sync); i++) {
        list[i].unpublished_ns = UINT64_MAX;
        if (open_session(sync, list[i].device, DEVICE_ATTACH_NORMAL) != 0)
            continue; /* said again when its turn comes */
        (void)request(sync, "status");
        if (ask_any_owner(sync) == 0 &&
            number_of(sync, "oldest_unpublished_ns") > 0) {
            list[i].unpublished_ns = number_of(sync, "oldest_unpublished_ns");
            list[i].is_behind = number_of(sync, "behind") > 0;
        }
        code = worse(code, close_session(sync));
    }
    qsort(list, count, sizeof(*list), by_age);
    return code;
}

/* What a device comes to for which there was no time. */
static int pass_over(const struct candidate *candidate)
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

/* Upload all devices, for as long as there is time. */
static int upload_devices(struct sync *sync)
{
    size_t count;
    AUTO_FREE struct candidate *list = choose_devices(sync, false, &count);
    int code = COMMON_OK;

    if (!list)
        return COMMON_FAILED;
    sync->deadline_ns =
        clock_monotonic_ns() + sync->command.seconds * 1000000000U;
    if (count > 1)
        code = sort_by_age(sync, list, count);
    for (size_t i = 0; i < count; i++) {
        bool has_time = clock_monotonic_ns() < sync->deadline_ns;

        if (is_stopping(sync))
            return worse(code, COMMON_TIME_UP);
        /* Of a single one nothing is known yet. */
        code = worse(code, has_time || count == 1
                               ? upload_device(sync, list[i].device)
                               : pass_over(&list[i]));
    }
    return code;
}

/* ---- eviction of devices --------------------------------------------------
 */

/* Evict until no more than the least is used; the session is open. */
static int evict(struct sync *sync, const struct config_device *device)
{
    unsigned above = sync->command.max_used;
    uint64_t chunks = 0, freed = 0;
    char used[NAME_LINE], bytes[HUMAN_TEXT];
    enum step step;

    for (;;) {
        step = evict_step(sync, device, above);
        chunks += number_of(sync, "chunks");
        freed += number_of(sync, "freed");
        if (is_stopping(sync))
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
    tell(sync, "%s: %" PRIu64 " chunks evicted, %s freed; %s percent are used",
         device->name, chunks, human_size(freed, bytes), used);
    if (step == STEP_DONE)
        return COMMON_OK;
    if (is_stopping(sync))
        return COMMON_TIME_UP;
    return fail(device, "%s percent are used, and no more can be evicted",
                used);
}

static int evict_devices(struct sync *sync)
{
    size_t count;
    AUTO_FREE struct candidate *list = choose_devices(sync, false, &count);
    int code = COMMON_OK;

    if (!list)
        return COMMON_FAILED;
    for (size_t i = 0; i < count; i++) {
        int error = is_stopping(sync) ? -ECANCELED
                                      : open_session(sync, list[i].device,
                                                     DEVICE_ATTACH_NORMAL);

        if (error == -ECANCELED)
            return worse(code, COMMON_TIME_UP);
        if (error) {
            code = COMMON_FAILED;
            continue;
        }
        code = worse(code, evict(sync, list[i].device));
        code = worse(code, close_session(sync));
    }
    return code;
}

/* ---- status ---------------------------------------------------------------
 */

/* Fill in what is known of a device; returns an exit code. */
static int ask_status(struct sync *sync, const struct config_device *device,
                      struct control_message *ret_status)
{
    int error = open_session(sync, device, DEVICE_ATTACH_NORMAL);
    int code = COMMON_OK;

    if (!error) {
        (void)request(sync, "status");
        error = ask_any_owner(sync);
        if (!error)
            *ret_status = sync->reply; /* it has no payload */
        code = close_session(sync);
    }
    if (!error)
        return code;
    control_message_start(ret_status, "ok");
    control_message_add(ret_status, "device", device->name);
    control_message_add_number(ret_status, "size", device->size);
    control_message_add(ret_status, "state", "not to be asked");
    control_message_add(ret_status, "held", log_errno(error));
    return COMMON_FAILED;
}

static int show_statuses(const struct sync *sync,
                         const struct control_message statuses[], size_t count)
{
    uint64_t now_ns = clock_realtime_ns();
    char *text;

    if (sync->command.json) {
        text = status_text_json_of_all(statuses, count);
        (void)printf("%s", text ? text : "");
        free(text);
        return text ? COMMON_OK : COMMON_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        text = status_text_table(&statuses[i], now_ns);
        (void)printf("%s", text ? text : "");
        if (!text)
            return COMMON_FAILED;
        free(text);
    }
    return COMMON_OK;
}

static int show_status(struct sync *sync)
{
    size_t count;
    AUTO_FREE struct candidate *list = choose_devices(sync, true, &count);
    AUTO_FREE struct control_message *statuses =
        calloc(count + 1, sizeof(*statuses));
    int code = COMMON_OK;

    if (!list || !statuses)
        return COMMON_FAILED;
    for (size_t i = 0; i < count; i++)
        code = worse(code, ask_status(sync, list[i].device, &statuses[i]));
    return worse(code, show_statuses(sync, statuses, count));
}

/* ---- commands on one device -----------------------------------------------
 */

/* Ask what was begun, once; returns an exit code. */
static int ask_once(struct sync *sync, const struct config_device *device)
{
    char verb[NAME_LINE];
    int error;

    (void)snprintf(verb, sizeof(verb), "%s",
                   control_message_verb(&sync->request));
    error = ask(sync);
    if (error == -EPIPE)
        return fail(device,
                    "%s: the owner went away; whether it is done, status "
                    "tells",
                    verb);
    return error ? fail_request(sync, device, verb, error) : COMMON_OK;
}

/* Say what an epoch and a snapshot in the reply mean. */
static void tell_epoch(struct sync *sync, const struct config_device *device,
                       const char *what)
{
    const char *snapshot = control_message_get(&sync->reply, "snapshot");

    (void)printf("%s: %s; epoch %" PRIu64, device->name, what,
                 number_of(sync, "epoch"));
    if (snapshot)
        (void)printf("; what was before is snapshot %s", snapshot);
    (void)printf("\n");
}

static int take_snapshot(struct sync *sync, const struct config_device *device)
{
    struct image image = {.is_made = false};
    int code = COMMON_OK;

    if (sync->command.now) {
        code = make_image(sync, device, &image);
        /* It began before it was asked for: the next one is wanted. */
        if (code == COMMON_OK && image.joined && image.is_made)
            code = make_image(sync, device, &image);
    }
    if (code != COMMON_OK)
        return code;
    control_message_add(request(sync, "snapshot"), "name", sync->command.name);
    if (image.is_made)
        control_message_add_number(&sync->request, "epoch", image.epoch);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        (void)printf("%s: image %" PRIu64 " is snapshot %s\n", device->name,
                     number_of(sync, "epoch"), sync->command.name);
    return code;
}

/* Show a line "name epoch time". */
static void show_snapshot(char *line)
{
    char *name = strsep(&line, " "), *epoch = strsep(&line, " ");
    char moment[HUMAN_TEXT] = "?";
    uint64_t time_ns;

    if (line && number_parse(line, 0, UINT64_MAX, &time_ns) == 0)
        (void)human_time(time_ns, moment);
    if (epoch)
        (void)printf("%s\timage %s of %s\n", name, epoch, moment);
}

static int show_snapshots(struct sync *sync, const struct config_device *device)
{
    AUTO_FREE char *text = NULL;
    char *rest;
    int code;

    (void)request(sync, "snapshots");
    code = ask_once(sync, device);
    if (code != COMMON_OK || sync->reply.payload_size == 0)
        return code;
    text = strndup(sync->reply.payload, sync->reply.payload_size);
    rest = text;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        if (*line != '\0')
            show_snapshot(line);
    }
    return text ? COMMON_OK : COMMON_FAILED;
}

static int roll_back(struct sync *sync, const struct config_device *device)
{
    int code;

    control_message_add(request(sync, "rollback"), "name", sync->command.name);
    if (sync->command.discard)
        control_message_add_number(&sync->request, "discard", 1);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        tell_epoch(sync, device, "is what the snapshot holds");
    return code;
}

static int make_clone(struct sync *sync, const struct config_device *device)
{
    int code;

    control_message_add(request(sync, "clone"), "to", sync->command.to);
    if (sync->command.name[0] != '\0')
        control_message_add(&sync->request, "name", sync->command.name);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        (void)printf("%s: device %s is a clone of it\n", device->name,
                     sync->command.to);
    return code;
}

/* What was done when we opened the device, or what its owner does. */
static int change_claim(struct sync *sync, const struct config_device *device,
                        const char *verb, const char *what)
{
    int code;

    (void)request(sync, sync_session_is_own(sync->session) ? "status" : verb);
    code = ask_once(sync, device);
    if (code != COMMON_OK)
        return code;
    (void)printf("%s: %s\n", device->name, what);
    return code;
}

static int take_over(struct sync *sync, const struct config_device *device)
{
    return change_claim(sync, device, "takeover", "belongs to this host now");
}

static int discard(struct sync *sync, const struct config_device *device)
{
    return change_claim(sync, device, "discard",
                        "is what its last image holds");
}

static int release(struct sync *sync, const struct config_device *device)
{
    int code;

    (void)request(sync, "release");
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        tell_epoch(sync, device, "can be attached by another host");
    return code;
}

static int fork_device(struct sync *sync, const struct config_device *device)
{
    int code;

    control_message_add(request(sync, "fork"), "to", sync->command.to);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        (void)printf("%s: what is here is device %s, too\n", device->name,
                     sync->command.to);
    return code;
}

/* ---- scrub ----------------------------------------------------------------
 */

/* What all steps found. */
struct scrub {
    uint64_t objects, blocks, bytes, bad, repaired;
};

static void show_scrub(const struct sync *sync,
                       const struct config_device *device,
                       const struct scrub *scrub, const char *end)
{
    char bytes[HUMAN_TEXT];

    (void)printf(
        "%s%s: chunk %" PRIu64 " of %" PRIu64 ": %" PRIu64 " objects, %" PRIu64
        " blocks, %s; %" PRIu64 " bad, %" PRIu64 " repaired%s",
        sync->has_terminal ? "\r" : "", device->name,
        number_of(sync, "position"), number_of(sync, "chunks"), scrub->objects,
        scrub->blocks, human_size(scrub->bytes, bytes), scrub->bad,
        scrub->repaired, sync->has_terminal ? "\033[K" : "");
    (void)printf("%s", end);
    (void)fflush(stdout);
}

static void begin_scrub_step(struct sync *sync, bool is_first)
{
    const struct sync_command *command = &sync->command;
    struct control_message *message = request(sync, "scrub");

    if (is_first && command->restart)
        control_message_add_number(message, "restart", 1);
    if (command->local)
        control_message_add_number(message, "local", 1);
    if (command->sample < 100)
        control_message_add_number(message, "sample", command->sample);
    if (command->rate > 0)
        control_message_add_number(message, "rate", command->rate);
}

static int scrub(struct sync *sync, const struct config_device *device)
{
    struct scrub sum = {.objects = 0};
    bool is_first = true;

    do {
        int error;

        begin_scrub_step(sync, is_first);
        error = ask_any_owner(sync);
        if (error)
            return fail_request(sync, device, "scrub", error);
        is_first = false;
        sum.objects += number_of(sync, "objects");
        sum.blocks += number_of(sync, "blocks");
        sum.bytes += number_of(sync, "bytes");
        sum.bad += number_of(sync, "bad");
        sum.repaired += number_of(sync, "repaired");
        if (sync->reply.payload_size > 0)
            (void)printf("%s%.*s", sync->has_terminal ? "\r\033[K" : "",
                         (int)sync->reply.payload_size,
                         (const char *)sync->reply.payload);
        if (sync->has_terminal)
            show_scrub(sync, device, &sum, "");
    } while (number_of(sync, "done") == 0 && !is_stopping(sync));
    if (sync->has_terminal || sum.bad > 0)
        show_scrub(sync, device, &sum, "\n");
    if (sum.bad > sum.repaired)
        return COMMON_FAILED;
    return number_of(sync, "done") ? COMMON_OK : COMMON_TIME_UP;
}

/* ---- drop -----------------------------------------------------------------
 */

/* Whether the user means it. */
static bool is_confirmed(const struct sync *sync,
                         const struct config_device *device)
{
    char line[NAME_LINE];

    if (sync->command.yes)
        return true;
    if (!isatty(STDIN_FILENO)) {
        (void)fail(device, "%s", "drop needs --yes, or a terminal to ask on");
        return false;
    }
    if (sync->command.name[0] != '\0')
        (void)printf("Snapshot %s of device %s is deleted.\n",
                     sync->command.name, device->name);
    else
        (void)printf("Device %s is deleted, with all its images, and what is "
                     "in its cache directory.\n",
                     device->name);
    (void)printf("Type the device's name if you mean it: ");
    (void)fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        return false;
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, device->name) == 0)
        return true;
    (void)printf("Nothing is deleted.\n");
    return false;
}

static int drop(struct sync *sync, const struct config_device *device)
{
    int code;

    (void)request(sync, "drop");
    if (sync->command.name[0] != '\0')
        control_message_add(&sync->request, "name", sync->command.name);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        (void)printf("%s%s%s: is dropped\n", device->name,
                     sync->command.name[0] != '\0' ? "@" : "",
                     sync->command.name);
    return code;
}

/* ---- main -----------------------------------------------------------------
 */

/* What is done with one device, in a session. */
typedef int device_command(struct sync *sync,
                           const struct config_device *device);

static const struct {
    enum sync_verb verb;
    device_command *run;
    enum device_attach attach;
} commands[] = {
    {SYNC_SNAPSHOT, take_snapshot, DEVICE_ATTACH_NORMAL},
    {SYNC_SNAPSHOTS, show_snapshots, DEVICE_ATTACH_NORMAL},
    {SYNC_ROLLBACK, roll_back, DEVICE_ATTACH_NORMAL},
    {SYNC_CLONE, make_clone, DEVICE_ATTACH_NORMAL},
    {SYNC_TAKEOVER, take_over, DEVICE_ATTACH_TAKEOVER},
    {SYNC_FORK, fork_device, DEVICE_ATTACH_FORK},
    {SYNC_DISCARD, discard, DEVICE_ATTACH_DISCARD},
    {SYNC_RELEASE, release, DEVICE_ATTACH_NORMAL},
    {SYNC_SCRUB, scrub, DEVICE_ATTACH_NORMAL},
    {SYNC_DROP, drop, DEVICE_ATTACH_NORMAL},
};

static int run_command(struct sync *sync)
{
    const struct config_device *device =
        find_device(sync, sync->command.device);
    int code, error;

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (commands[i].verb != sync->command.verb)
            continue;
        if (sync->command.verb == SYNC_DROP && !is_confirmed(sync, device))
            return COMMON_FAILED;
        error = open_session(sync, device, commands[i].attach);
        if (error)
            return error == -ECANCELED ? COMMON_TIME_UP : COMMON_FAILED;
        code = commands[i].run(sync, device);
        return worse(code, close_session(sync));
    }
    return COMMON_USAGE; /* the parser knows no other */
}

static int run(struct sync *sync)
{
    if (sync->command.verb == SYNC_EVICT)
        return evict_devices(sync);
    if (sync->command.verb == SYNC_UPLOAD)
        return upload_devices(sync);
    if (sync->command.verb == SYNC_STATUS)
        return show_status(sync);
    return run_command(sync);
}

/* Whether all devices that were named are in the configuration. */
static bool devices_are_known(const struct sync *sync)
{
    const struct sync_command *command = &sync->command;
    const char *missing = NULL;

    for (size_t i = 0; i < command->devices_count; i++) {
        if (!find_device(sync, command->devices[i]))
            missing = command->devices[i];
    }
    if (command->device[0] != '\0' && !find_device(sync, command->device))
        missing = command->device;
    if (missing)
        (void)fprintf(stderr, "%s: %s: no such device in the configuration\n",
                      program.name, missing);
    return missing == NULL;
}

/* Run with signals heard, and the pid file, if any, taken. */
static int run_alone(struct sync *sync)
{
    struct pid_file pid_file;
    int code = COMMON_FAILED;
    int error = pid_file_take(sync->command.pid_path, true, &pid_file);

    if (error)
        return error == -EBUSY ? COMMON_RUNS_ALREADY : COMMON_FAILED;
    mutex_init(&sync->mutex);
    control_message_start(&sync->reply, "");
    if (pid_file_write(&pid_file) == 0 && start_hearing(sync) == 0) {
        code = run(sync);
        stop_hearing(sync);
    }
    control_message_clear(&sync->reply);
    mutex_done(&sync->mutex);
    pid_file_remove(&pid_file);
    return code;
}

/* Answer -h and -V, or what is wrong with the arguments; else go on. */
static int parse(struct sync *sync, int argc, char **argv)
{
    char problem[SYNC_PROBLEM_SIZE];

    if (sync_command_parse(argc, argv, &sync->command, problem) != 0) {
        (void)fprintf(stderr, "%s: %s\nusage: %s", program.name, problem,
                      program.usage);
        return COMMON_USAGE;
    }
    if (sync->command.verb == SYNC_HELP) {
        (void)printf("usage: %s", program.usage);
        return COMMON_OK;
    }
    if (sync->command.verb == SYNC_VERSION) {
        (void)printf("%s %s\n", program.name, COMMON_VERSION);
        return COMMON_OK;
    }
    return COMMON_GO_ON;
}

int main(int argc, char **argv)
{
    struct sync *sync = calloc(1, sizeof(*sync));
    int code = COMMON_FAILED;

    if (!sync)
        return code;
    sync->deadline_ns = UINT64_MAX;
    sync->has_terminal = isatty(STDOUT_FILENO);
    code = parse(sync, argc, argv);
    if (code == COMMON_GO_ON)
        code = common_load_config(&program,
                                  sync->command.config_path
                                      ? sync->command.config_path
                                      : COMMON_CONFIG_PATH,
                                  &sync->config);
    if (code == COMMON_GO_ON) {
        /* What goes as it should is no news: cron would send it by mail. */
        if (sync->config->log_level == LOG_LEVEL_INFO)
            log_set_level(LOG_LEVEL_WARNING);
        common_prepare_process();
        code = devices_are_known(sync) ? run_alone(sync) : COMMON_USAGE;
        config_free(sync->config);
    }
    free(sync);
    return code;
}
