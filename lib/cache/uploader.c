/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/uploader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/control_client.h"

enum { WAIT_MAX_MS = 10000 };

struct uploader {
    struct uploader_options options;
    struct mutex mutex;            /* a leaf */
    struct condition changed;      /* running, or is_finishing */
    struct uploader_counts counts; /* GUARDED_BY(mutex) */
    uint64_t asked;                /* GUARDED_BY(mutex): questions so far */
    uint64_t left_asked;           /* GUARDED_BY(mutex): of counts.left */
    unsigned running;              /* GUARDED_BY(mutex): threads */
    bool is_finishing;             /* GUARDED_BY(mutex) */
    unsigned threads;              /* that were started */
    pthread_t ids[];
};

/* What a thread has to itself. */
struct thread {
    struct uploader *uploader;
    struct control_client *client;
    struct control_message request, reply;
    uint64_t asked;    /* the number of the last question */
    unsigned failures; /* in a row */
};

/* ---- asking ------------------------------------------------------------- */

static void note_error(struct uploader *uploader, int error)
{
    mutex_lock(&uploader->mutex);
    uploader->counts.last_error = error;
    mutex_unlock(&uploader->mutex);
}

/*
 * What is left, unless another thread knows better: the answer to an older
 * question may be read after that to a newer one.
 */
static void note_left(struct thread *thread)
{
    struct uploader *uploader = thread->uploader;
    uint64_t left;

    if (control_message_get_number(&thread->reply, "left", 0, UINT64_MAX,
                                   &left) != 0)
        return;
    mutex_lock(&uploader->mutex);
    if (thread->asked > uploader->left_asked) {
        uploader->left_asked = thread->asked;
        uploader->counts.left = left;
        uploader->counts.knows_left = true;
    }
    mutex_unlock(&uploader->mutex);
}

/*
 * Ask what is in thread->request; the reply is to be cleared.  Returns an
 * error only if the connection is lost, or nothing was understood.
 */
static int ask(struct thread *thread)
{
    struct uploader *uploader = thread->uploader;
    int error;

    mutex_lock(&uploader->mutex);
    thread->asked = ++uploader->asked;
    mutex_unlock(&uploader->mutex);
    error =
        control_client_ask(thread->client, &thread->request, &thread->reply);
    control_message_clear(&thread->request);
    if (!error)
        return 0;
    mutex_lock(&uploader->mutex);
    uploader->counts.is_cut_off = true;
    mutex_unlock(&uploader->mutex);
    return error;
}

/* The errno of an answer "error"; 0 for any other answer. */
static int error_of_reply(const struct control_message *reply)
{
    uint64_t number;

    if (!control_message_is(reply, "error"))
        return 0;
    if (control_message_get_number(reply, "errno", 1, 4095, &number) != 0)
        return -EPROTO;
    return -(int)number;
}

/* ---- waiting ------------------------------------------------------------ */

/* Whether another chunk may be begun. */
static bool goes_on(struct uploader *uploader)
{
    bool result;

    mutex_lock(&uploader->mutex);
    result = !uploader->is_finishing && !uploader->counts.is_cut_off;
    if (result && clock_monotonic_ns() >= uploader->options.deadline_ns) {
        uploader->counts.is_time_up = true;
        result = false;
    }
    mutex_unlock(&uploader->mutex);
    return result;
}

/* Wait so long, but not for more than there is time, nor for a chunk less. */
static void rest(struct uploader *uploader, uint64_t until_ns)
{
    if (until_ns > uploader->options.deadline_ns)
        until_ns = uploader->options.deadline_ns;
    mutex_lock(&uploader->mutex);
    while (!uploader->is_finishing && !uploader->counts.is_cut_off &&
           condition_wait_until(&uploader->changed, &uploader->mutex, until_ns))
        continue;
    mutex_unlock(&uploader->mutex);
}

static void rest_ms(struct uploader *uploader, uint64_t ms)
{
    rest(uploader, clock_monotonic_ns() + ms * 1000000);
}

/* Let an upload that began then have taken as long as its rate says. */
static void keep_pace(struct uploader *uploader, uint64_t began_ns,
                      uint64_t size, uint64_t rate)
{
    if (rate > 0)
        rest(uploader,
             began_ns + (uint64_t)((double)size * 1e9 / (double)rate));
}

/* ---- a chunk ------------------------------------------------------------ */

/*
 * Then a chunk that changed before it was read is no news; an image's must be
 * there.
 */
static bool is_for_space(const struct uploader *uploader)
{
    return strcmp(uploader->options.purpose, "space") == 0;
}

/* What the owner made of a report. */
static void note_report(struct thread *thread,
                        const struct control_report *report)
{
    struct uploader *uploader = thread->uploader;
    int error = error_of_reply(&thread->reply);
    bool is_outdated = report->error
                           ? report->error == -ESTALE && is_for_space(uploader)
                           : error == -ESTALE;

    note_left(thread);
    mutex_lock(&uploader->mutex);
    if (is_outdated) {
        uploader->counts.outdated++;
    } else if (report->error || error) {
        uploader->counts.failures++;
        uploader->counts.last_error = report->error ? report->error : error;
    } else {
        uploader->counts.chunks++;
        uploader->counts.bytes += report->result.size;
    }
    uploader->counts.fetched += report->result.fetched;
    mutex_unlock(&uploader->mutex);
    /* A chunk that changed, or was lent anew, says nothing of the store. */
    if (report->error == -ESTALE || error == -ESTALE)
        return;
    thread->failures = report->error || error ? thread->failures + 1 : 0;
}

/* How long to wait after so many failures in a row. */
static uint64_t delay_ms(const struct uploader_options *options,
                         unsigned failures)
{
    uint64_t delay = options->failure_delay_ms;

    for (unsigned i = 1; i < failures && delay < options->failure_delay_max_ms;
         i++)
        delay *= 2;
    return delay < options->failure_delay_max_ms
               ? delay
               : options->failure_delay_max_ms;
}

/* Upload what was leased, and report.  Returns false if nobody hears it. */
static bool upload_leased(struct thread *thread,
                          const struct control_lease *lease)
{
    struct uploader *uploader = thread->uploader;
    const struct uploader_options *options = &uploader->options;
    struct control_report report = {.lease = lease->lease};
    uint64_t began_ns = clock_monotonic_ns();
    unsigned failures = thread->failures;

    control_message_clear(&thread->reply);
    report.error =
        options->upload(options->context, &lease->work, &report.result);
    if (report.error == -ECANCELED)
        return false; /* the chunk goes back when the connection ends */
    if (report.error)
        report.result = (struct upload_result){.table = NULL};
    control_report_encode(&report, &thread->request); /* takes the table */
    if (ask(thread) != 0)
        return false;
    note_report(thread, &report);
    control_message_clear(&thread->reply);
    if (thread->failures > failures)
        rest_ms(uploader, delay_ms(options, thread->failures));
    else
        keep_pace(uploader, began_ns, report.result.size, lease->rate);
    return true;
}

static void ask_for_lease(struct thread *thread)
{
    const struct uploader_options *options = &thread->uploader->options;

    control_message_start(&thread->request, "lease");
    control_message_add(&thread->request, "purpose", options->purpose);
    control_message_add_number(&thread->request, "from",
                               options->start_percent);
    control_message_add_number(&thread->request, "to", options->stop_percent);
}

static void rest_as_told(struct thread *thread)
{
    uint64_t ms;

    if (control_message_get_number(&thread->reply, "milliseconds", 0,
                                   WAIT_MAX_MS, &ms) != 0)
        ms = WAIT_MAX_MS;
    rest_ms(thread->uploader, ms);
}

/* Do what the answer to "lease" says.  Returns whether to ask for another. */
static bool take_answer(struct thread *thread)
{
    struct control_lease lease;
    int error = error_of_reply(&thread->reply);

    note_left(thread);
    if (control_message_is(&thread->reply, "none"))
        return false;
    if (control_message_is(&thread->reply, "wait")) {
        rest_as_told(thread);
        return true;
    }
    if (!error)
        error = control_lease_decode(&thread->reply, &lease);
    if (!error)
        return upload_leased(thread, &lease);
    note_error(thread->uploader, error);
    log_warning("%s: no chunk to upload: %s",
                thread->uploader->options.cachedir,
                control_message_get(&thread->reply, "text")
                    ? control_message_get(&thread->reply, "text")
                    : log_errno(error));
    return false;
}

static void upload_all(struct thread *thread)
{
    unsigned failures_max = thread->uploader->options.failures_max;

    while ((failures_max == 0 || thread->failures < failures_max) &&
           goes_on(thread->uploader)) {
        bool is_answered;

        ask_for_lease(thread);
        if (ask(thread) != 0)
            return;
        is_answered = take_answer(thread);
        control_message_clear(&thread->reply);
        if (!is_answered)
            return;
    }
}

/* ---- threads ------------------------------------------------------------ */

static void *run_thread(void *context)
{
    struct uploader *uploader = context;
    AUTO_FREE struct thread *thread = calloc(1, sizeof(*thread));
    struct control_owner owner;
    int error = -ENOMEM;

    if (thread) {
        thread->uploader = uploader;
        error = control_client_open(uploader->options.cachedir, &thread->client,
                                    &owner);
    }
    if (!error) {
        upload_all(thread);
        control_client_close(thread->client);
    }
    mutex_lock(&uploader->mutex);
    if (error == -ENOENT || error == -ECONNREFUSED)
        uploader->counts.is_cut_off = true;
    else if (error)
        uploader->counts.last_error = error;
    uploader->running--;
    condition_broadcast(&uploader->changed);
    mutex_unlock(&uploader->mutex);
    return NULL;
}

int uploader_start(const struct uploader_options *options,
                   struct uploader **ret_uploader)
{
    struct uploader *uploader = calloc(
        1, sizeof(*uploader) + options->threads * sizeof(uploader->ids[0]));
    int error = 0;

    if (!uploader)
        return -ENOMEM;
    uploader->options = *options;
    mutex_init(&uploader->mutex);
    condition_init(&uploader->changed);
    mutex_lock(&uploader->mutex);
    while (uploader->threads < options->threads && !error) {
        error = -pthread_create(&uploader->ids[uploader->threads], NULL,
                                run_thread, uploader);
        if (!error)
            uploader->threads = ++uploader->running;
    }
    mutex_unlock(&uploader->mutex);
    if (uploader->threads == 0) {
        uploader_free(uploader);
        return error;
    }
    *ret_uploader = uploader; /* with as many as there are */
    return 0;
}

void uploader_count(struct uploader *uploader,
                    struct uploader_counts *ret_counts)
{
    mutex_lock(&uploader->mutex);
    *ret_counts = uploader->counts;
    mutex_unlock(&uploader->mutex);
}

bool uploader_wait(struct uploader *uploader, uint64_t deadline_ns)
{
    bool has_ended;

    mutex_lock(&uploader->mutex);
    while (
        uploader->running > 0 &&
        condition_wait_until(&uploader->changed, &uploader->mutex, deadline_ns))
        continue;
    has_ended = uploader->running == 0;
    mutex_unlock(&uploader->mutex);
    return has_ended;
}

void uploader_finish(struct uploader *uploader)
{
    mutex_lock(&uploader->mutex);
    uploader->is_finishing = true;
    condition_broadcast(&uploader->changed);
    mutex_unlock(&uploader->mutex);
}

void uploader_free(struct uploader *uploader)
{
    if (!uploader)
        return;
    uploader_finish(uploader);
    for (unsigned i = 0; i < uploader->threads; i++)
        (void)pthread_join(uploader->ids[i], NULL);
    condition_done(&uploader->changed);
    mutex_done(&uploader->mutex);
    free(uploader);
}
