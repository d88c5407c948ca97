/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/uploader.h"

#include <pthread.h>
#include <semaphore.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/control_server.h"
#include "unit/test.h"

enum { CHUNKS = 50 };

/* ---- an owner that lends chunks ----------------------------------------- */

enum state { WAITING, LENT, UPLOADED };

static struct {
    struct mutex mutex;
    enum state states[CHUNKS];
    uint64_t holders[CHUNKS];
    unsigned waits;    /* so many times it says "wait" first */
    int refusal;       /* of every lease */
    int report_answer; /* to reports of uploads */
    unsigned reports, from, to;
    bool is_space;
    bool is_late; /* "none" is said when another holder has gone */
} book;

static sem_t is_held, has_gone; /* of is_late */

static struct control_server *server;
static int test_dirfd;

static unsigned count_left(void)
{
    unsigned left = 0;

    for (int i = 0; i < CHUNKS; i++)
        left += book.states[i] != UPLOADED;
    return left;
}

static void lend(uint64_t holder, struct control_message *reply)
{
    struct control_lease lease = {
        .work = {.generation = 1, .id = {1, 2, 3}},
        .parallelism = 4,
    };

    for (unsigned i = 0; i < CHUNKS; i++) {
        if (book.states[i] != WAITING)
            continue;
        book.states[i] = LENT;
        book.holders[i] = holder;
        lease.lease = lease.work.chunk = i;
        control_lease_encode(&lease, reply);
        return;
    }
    control_message_start(reply, "none");
    control_message_add_number(reply, "left", count_left());
}

static void wait_for(sem_t *event)
{
    while (sem_wait(event) != 0)
        continue;
}

static int answer_lease(const struct control_message *request, uint64_t holder,
                        struct control_message *reply)
{
    uint64_t from = 999, to = 999;
    const char *purpose = control_message_get(request, "purpose");

    (void)control_message_get_number(request, "from", 0, 100, &from);
    (void)control_message_get_number(request, "to", 0, 100, &to);
    book.from = (unsigned)from;
    book.to = (unsigned)to;
    book.is_space = purpose && strcmp(purpose, "space") == 0;
    if (book.refusal)
        return book.refusal;
    if (book.waits > 0) {
        book.waits--;
        control_message_start(reply, "wait");
        control_message_add_number(reply, "milliseconds", 0);
        return 0;
    }
    lend(holder, reply);
    return 0;
}

static int answer_report(const struct control_message *request, uint64_t holder,
                         struct control_message *reply)
{
    struct control_report report;

    if (control_report_decode(request, &report) != 0 || report.lease >= CHUNKS)
        return -EBADMSG;
    CHECK(book.states[report.lease] == LENT);
    CHECK(book.holders[report.lease] == holder);
    book.reports++;
    book.states[report.lease] = WAITING;
    if (book.report_answer == -ESTALE) /* it changed, and is clean again */
        book.states[report.lease] = UPLOADED;
    if (book.report_answer)
        return book.report_answer;
    if (!report.error) {
        CHECK(report.result.table_size == 6 &&
              memcmp(report.result.table, "table", 6) == 0);
        book.states[report.lease] = UPLOADED;
    }
    control_message_start(reply, "ok");
    control_message_add_number(reply, "left", count_left());
    return 0;
}

static int handle(void *context, const struct control_message *request,
                  uint64_t holder, struct control_message *reply)
{
    int error = -EINVAL;
    bool is_late;

    (void)context;
    mutex_lock(&book.mutex);
    if (control_message_is(request, "lease"))
        error = answer_lease(request, holder, reply);
    else if (control_message_is(request, "report"))
        error = answer_report(request, holder, reply);
    is_late =
        book.is_late && control_message_is(reply, "none") && count_left() > 0;
    mutex_unlock(&book.mutex);
    if (is_late) {
        (void)sem_post(&is_held);
        wait_for(&has_gone);
    }
    return error;
}

static void gone(void *context, uint64_t holder)
{
    (void)context;
    (void)holder;
    (void)sem_post(&has_gone);
}

static bool start_owner(void)
{
    struct control_server_options options = {
        .device_name = "disk",
        .device_size = 1 << 30,
        .chunk_size = 8 << 20,
        .handler = {.handle = handle, .gone = gone},
    };

    log_set_level(LOG_LEVEL_ERROR);
    memset(&book, 0, sizeof(book));
    mutex_init(&book.mutex);
    (void)sem_init(&is_held, 0, 0);
    (void)sem_init(&has_gone, 0, 0);
    test_dirfd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    options.dirfd = test_dirfd;
    return control_server_start(&options, &server) == 0;
}

static void stop_owner(void)
{
    control_server_stop(server);
    server = NULL;
    mutex_done(&book.mutex);
    (void)close(test_dirfd);
}

/* ---- uploads ------------------------------------------------------------ */

static atomic_uint uploads, failing; /* so many of them fail, at first */
static int failure;                  /* with this error */
static sem_t has_begun, may_end;

static int upload(void *context, const struct upload_work *work,
                  struct upload_result *ret_result)
{
    (void)context;
    CHECK(work->generation == 1 && work->chunk < CHUNKS);
    uploads++;
    if (failing > 0) {
        failing--;
        return failure;
    }
    *ret_result = (struct upload_result){
        .table = strdup("table"),
        .table_size = 6,
        .size = 1000,
        .fetched = 10,
    };
    return 0;
}

/* The same, but the test says when it ends. */
static int upload_when_told(void *context, const struct upload_work *work,
                            struct upload_result *ret_result)
{
    (void)sem_post(&has_begun);
    wait_for(&may_end);
    return upload(context, work, ret_result);
}

static struct uploader *uploader;
static struct uploader_counts counts;

static struct uploader_options options_for(unsigned threads)
{
    uploads = 0;
    failure = -EIO;
    (void)sem_init(&has_begun, 0, 0);
    (void)sem_init(&may_end, 0, 0);
    return (struct uploader_options){
        .cachedir = test_dir(),
        .purpose = "image",
        .stop_percent = 100,
        .threads = threads,
        .deadline_ns = UINT64_MAX,
        .failures_max = 5,
        .upload = upload,
    };
}

/* Start with these options, wait for the end, and count. */
static bool run(const struct uploader_options *options)
{
    if (uploader_start(options, &uploader) != 0)
        return false;
    CHECK(uploader_wait(uploader, UINT64_MAX));
    uploader_count(uploader, &counts);
    uploader_free(uploader);
    return true;
}

TEST("every chunk is uploaded and reported once, by several threads")
{
    struct uploader_options options = options_for(8);

    NEED(start_owner());
    book.waits = 3;
    NEED(run(&options));
    stop_owner();
    CHECK(uploads == CHUNKS && book.reports == CHUNKS && count_left() == 0);
    CHECK(counts.chunks == CHUNKS && counts.bytes == CHUNKS * 1000);
    CHECK(counts.fetched == CHUNKS * 10);
    CHECK(counts.knows_left && counts.left == 0);
    CHECK(counts.failures == 0 && counts.last_error == 0);
    CHECK(!counts.is_time_up && !counts.is_cut_off);
}

TEST("an answer that comes late does not hide what is known since")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    for (int i = 1; i < CHUNKS; i++)
        book.states[i] = UPLOADED;
    book.is_late = true; /* for the thread that has no chunk, one is left */
    options.upload = upload_when_told;
    NEED(uploader_start(&options, &uploader) == 0);
    wait_for(&is_held);
    (void)sem_post(&may_end);
    CHECK(uploader_wait(uploader, UINT64_MAX));
    uploader_count(uploader, &counts);
    uploader_free(uploader);
    stop_owner();
    CHECK(counts.chunks == 1 && counts.knows_left && counts.left == 0);
}

TEST("purpose and percentages are what was asked for")
{
    struct uploader_options options = options_for(1);

    options.purpose = "space";
    options.start_percent = 25;
    options.stop_percent = 50;
    NEED(start_owner());
    NEED(run(&options));
    stop_owner();
    CHECK(book.is_space && book.from == 25 && book.to == 50);
}

TEST("what failed goes back and is uploaded later")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    failing = 3;
    NEED(run(&options));
    stop_owner();
    CHECK(counts.failures == 3 && counts.chunks == CHUNKS);
    CHECK(uploads == CHUNKS + 3 && count_left() == 0);
    CHECK(counts.last_error == -EIO);
}

TEST("a store that is down is given up, and nothing stays lent")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    failing = UINT32_MAX;
    NEED(run(&options));
    stop_owner();
    failing = 0;
    CHECK(counts.chunks == 0 && counts.failures == 10);
    CHECK(counts.left == CHUNKS && count_left() == CHUNKS);
    for (int i = 0; i < CHUNKS; i++)
        CHECK(book.states[i] == WAITING);
}

TEST("an upload that is cut off is no failure: nothing is said of its chunk")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    failing = UINT32_MAX;
    failure = -ECANCELED;
    NEED(run(&options));
    stop_owner();
    failing = 0;
    CHECK(uploads == 2 && book.reports == 0);
    CHECK(counts.failures == 0 && counts.chunks == 0 && counts.last_error == 0);
}

TEST("without a limit, a store that is down is tried until it works again")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    failing = 100;
    options.failures_max = 0;
    NEED(run(&options));
    stop_owner();
    CHECK(counts.failures == 100 && counts.chunks == CHUNKS);
    CHECK(count_left() == 0);
}

TEST("a store that is down is tried less and less often")
{
    struct uploader_options options = options_for(1);
    uint64_t began_ns = clock_monotonic_ns();

    NEED(start_owner());
    failing = UINT32_MAX;
    options.failure_delay_ms = 1;
    options.failure_delay_max_ms = 4;
    NEED(run(&options));
    stop_owner();
    failing = 0;
    /* 1, 2, 4, 4, and 4 after the last, at least. */
    CHECK(clock_monotonic_ns() - began_ns >= 15000000);
    CHECK(counts.failures == 5);
}

TEST("chunks that changed meanwhile are no failures")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    book.report_answer = -ESTALE;
    NEED(run(&options));
    stop_owner();
    CHECK(counts.outdated == CHUNKS && counts.chunks == 0);
    CHECK(counts.failures == 0 && counts.last_error == 0);
}

TEST("chunks that changed before they were read are none, either, for space")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    options.purpose = "space";
    failing = 3;
    failure = -ESTALE;
    NEED(run(&options));
    stop_owner();
    CHECK(counts.outdated == 3 && counts.failures == 0);
    CHECK(counts.last_error == 0);
    /* What an image wants must be there. */
    NEED(start_owner());
    options.purpose = "image";
    failing = 1;
    NEED(run(&options));
    stop_owner();
    failure = -EIO;
    CHECK(counts.outdated == 0 && counts.failures == 1);
    CHECK(counts.last_error == -ESTALE);
}

TEST("an owner that cannot record what was uploaded is given up")
{
    struct uploader_options options = options_for(1);

    NEED(start_owner());
    book.report_answer = -ENOSPC;
    NEED(run(&options));
    stop_owner();
    CHECK(counts.failures == 5 && counts.last_error == -ENOSPC);
}

TEST("an owner that lends nothing is an error, not the end of the work")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    book.refusal = -EPERM;
    NEED(run(&options));
    stop_owner();
    CHECK(uploads == 0 && counts.last_error == -EPERM && !counts.knows_left);
}

TEST("past the deadline no chunk is begun")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    options.deadline_ns = clock_monotonic_ns();
    NEED(run(&options));
    stop_owner();
    CHECK(uploads == 0 && counts.is_time_up && !counts.knows_left);
}

TEST("finishing ends with the chunks in hand, uploaded and reported")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    options.upload = upload_when_told;
    NEED(uploader_start(&options, &uploader) == 0);
    for (int i = 0; i < 2; i++)
        wait_for(&has_begun);
    CHECK(!uploader_wait(uploader, clock_monotonic_ns()));
    uploader_finish(uploader);
    for (int i = 0; i < 2; i++)
        (void)sem_post(&may_end);
    CHECK(uploader_wait(uploader, UINT64_MAX));
    uploader_count(uploader, &counts);
    uploader_free(uploader);
    stop_owner();
    CHECK(counts.chunks == 2 && count_left() == CHUNKS - 2);
    CHECK(!counts.is_time_up && !counts.is_cut_off);
}

TEST("who waits for an owner's word is finished at once")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    failing = 2;
    options.failure_delay_ms = UINT32_MAX; /* longer than any test */
    options.failure_delay_max_ms = UINT32_MAX;
    NEED(uploader_start(&options, &uploader) == 0);
    while (uploads < 2)
        (void)sched_yield();
    uploader_finish(uploader);
    CHECK(uploader_wait(uploader, UINT64_MAX));
    uploader_free(uploader);
    stop_owner();
    CHECK(book.reports == 2);
}

TEST("an owner that goes away in the middle cuts off, and a new one goes on")
{
    struct uploader_options options = options_for(2);

    NEED(start_owner());
    options.upload = upload_when_told;
    NEED(uploader_start(&options, &uploader) == 0);
    for (int i = 0; i < 2; i++)
        wait_for(&has_begun);
    stop_owner();
    for (int i = 0; i < 2; i++)
        (void)sem_post(&may_end);
    CHECK(uploader_wait(uploader, UINT64_MAX));
    uploader_count(uploader, &counts);
    uploader_free(uploader);
    CHECK(counts.is_cut_off && counts.chunks == 0);

    options = options_for(2);
    NEED(run(&options));
    CHECK(counts.is_cut_off && uploads == 0); /* nobody is there */
    NEED(start_owner());
    NEED(run(&options));
    stop_owner();
    CHECK(!counts.is_cut_off && counts.chunks == CHUNKS);
}
