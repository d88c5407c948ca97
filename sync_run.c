/* SPDX-License-Identifier: BSD-2-Clause */
#include "sync_run.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
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
#include "common.h"
#include "sync_session.h"

enum {
    PROGRESS_MS = 500,
    HURRY_MS = 60000,        /* after a signal, for chunks in hand */
    FAILURE_DELAY_MS = 1000, /* after an upload that failed; doubled */
    FAILURE_DELAY_MAX_MS = 60000,
    FAILURES_MAX = 5, /* in a row, if there is no time to be up */
};

/* ---- what is said ------------------------------------------------------- */

int sync_fail(const struct config_device *device, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    log_error("%s: %s", device->name, text);
    return COMMON_FAILED;
}

int sync_worse(int a, int b)
{
    static const int order[] = {COMMON_FAILED, COMMON_BEHIND, COMMON_TIME_UP};

    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (a == order[i] || b == order[i])
            return order[i];
    }
    return COMMON_OK;
}

/* ---- the end ------------------------------------------------------------ */

bool sync_is_stopping(struct sync *sync)
{
    bool result;

    mutex_lock(&sync->mutex);
    result = sync->is_stopping;
    mutex_unlock(&sync->mutex);
    return result;
}

bool sync_rest(const struct sync *sync, int milliseconds)
{
    struct pollfd stop = {.fd = sync->stop_fd, .events = POLLIN};

    return poll(&stop, 1, milliseconds) == 0;
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

/* After a signal: the first one, and another one. */
static void hear_signal(struct sync *sync)
{
    struct signalfd_siginfo info;

    if (read(sync->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    log_info("signal %u: ending", info.ssi_signo);
    if (sync_is_stopping(sync))
        (void)eventfd_write(sync->hurry_fd, 1);
    else
        stop(sync);
}

/* Hear signals until the run has ended. */
static void *hear_signals(void *context)
{
    struct sync *sync = context;

    for (;;) {
        int wait_ms = sync_is_stopping(sync) ? HURRY_MS : -1;
        int ready;
        struct pollfd polled[] = {
            {.fd = sync->signal_fd, .events = POLLIN},
            {.fd = sync->end_fd, .events = POLLIN},
        };

        ready = poll(polled, 2, wait_ms);
        if (ready > 0 && polled[1].revents)
            return NULL;
        if (ready > 0)
            hear_signal(sync);
        else if (ready == 0)
            (void)eventfd_write(sync->hurry_fd, 1);
    }
}

int sync_start_hearing(struct sync *sync)
{
    int error = common_open_signals(&sync->signal_fd);

    if (error)
        return error;
    sync->end_fd = eventfd(0, EFD_CLOEXEC);
    sync->stop_fd = eventfd(0, EFD_CLOEXEC);
    sync->hurry_fd = eventfd(0, EFD_CLOEXEC);
    if (sync->end_fd < 0 || sync->stop_fd < 0 || sync->hurry_fd < 0)
        return -errno;
    return -pthread_create(&sync->signal_thread, NULL, hear_signals, sync);
}

void sync_stop_hearing(struct sync *sync)
{
    (void)eventfd_write(sync->end_fd, 1);
    (void)pthread_join(sync->signal_thread, NULL);
}

/* ---- a session ---------------------------------------------------------- */

int sync_open(struct sync *sync, const struct config_device *device,
              enum device_attach attach)
{
    const struct sync_session_options options = {
        .config = sync->config,
        .device = device,
        .wait_ns = sync->command.wait_s * 1000000000U,
        .stop_fd = sync->stop_fd,
        .hurry_fd = sync->hurry_fd,
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

int sync_close(struct sync *sync)
{
    struct sync_session *session;

    mutex_lock(&sync->mutex);
    session = take_pointer(&sync->session);
    mutex_unlock(&sync->mutex);
    return sync_session_close(session) ? COMMON_FAILED : COMMON_OK;
}

struct control_message *sync_request(struct sync *sync, const char *verb)
{
    control_message_start(&sync->request, verb);
    return &sync->request;
}

int sync_ask(struct sync *sync)
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

int sync_ask_any(struct sync *sync)
{
    int error = sync_ask(sync);

    while (error == -EPIPE && !sync_is_stopping(sync)) {
        error = sync_session_renew(sync->session);
        if (!error)
            error = sync_ask(sync);
    }
    return error;
}

const char *sync_reason(const struct sync *sync, int error)
{
    const char *text = control_message_get(&sync->reply, "text");

    return text ? text : log_errno(error);
}

uint64_t sync_number(const struct sync *sync, const char *key)
{
    uint64_t value;

    return control_message_get_number(&sync->reply, key, 0, UINT64_MAX,
                                      &value) == 0
               ? value
               : 0;
}

int sync_fail_request(struct sync *sync, const struct config_device *device,
                      const char *what, int error)
{
    if (error == -ECANCELED && sync_is_stopping(sync))
        return COMMON_TIME_UP;
    return sync_fail(device, "%s: %s", what, sync_reason(sync, error));
}

/* ---- progress ----------------------------------------------------------- */

static void show_progress(const struct sync *sync,
                          const struct sync_progress *progress,
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

void sync_tell(const struct sync *sync, const char *format, ...)
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

/* ---- uploads ------------------------------------------------------------ */

/* Wait for the threads, showing how it goes. */
static void watch_uploader(struct sync *sync, struct uploader *uploader,
                           const struct sync_progress *progress,
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

int sync_upload(struct sync *sync, const char *purpose,
                const struct sync_progress *progress,
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

/* ---- devices ------------------------------------------------------------ */

static bool is_chosen(const struct sync *sync, const char *name)
{
    const struct sync_command *command = &sync->command;

    for (size_t i = 0; i < command->devices_count; i++) {
        if (strcmp(command->devices[i], name) == 0)
            return true;
    }
    return command->devices_count == 0;
}

const struct config_device *sync_find_device(const struct sync *sync,
                                             const char *name)
{
    for (size_t i = 0; i < sync->config->devices_count; i++) {
        if (strcmp(sync->config->devices[i].name, name) == 0)
            return &sync->config->devices[i];
    }
    return NULL;
}

struct sync_candidate *sync_choose_devices(const struct sync *sync,
                                           bool for_all, size_t *ret_count)
{
    const struct config *config = sync->config;
    struct sync_candidate *list =
        calloc(config->devices_count + 1, sizeof(*list));
    size_t count = 0;

    for (size_t i = 0; list && i < config->devices_count; i++) {
        const struct config_device *device = &config->devices[i];

        /* What is only read has nothing to upload, nor an owner. */
        if (is_chosen(sync, device->name) && (for_all || !device->read_only))
            list[count++] = (struct sync_candidate){.device = device};
    }
    *ret_count = count;
    return list;
}
