/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials.h"

#include <pthread.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mutex.h"
#include "support/key_service.h"
#include "unit/test.h"

#define SECOND UINT64_C(1000000000)
#define LATER  UINT64_MAX
#define START  (UINT64_C(1795317011) * SECOND) /* 2026-11-22T03:10:11Z */

/* Keys of that name, which expire at this time of the day above. */
#define KEYS(name, time)                                                       \
    "{\"AccessKeyId\":\"" name "\",\"SecretAccessKey\":\"hidden\","            \
    "\"Expiration\":\"2026-11-22T" time "Z\"}"

/* Credentials under test, and what they tell. */
struct fixture {
    struct credentials *credentials;
    struct key_service *service;
    struct mutex lock;
    struct condition changed;
    unsigned changes;
};

static void note_change(void *context)
{
    struct fixture *fixture = context;

    mutex_lock(&fixture->lock);
    fixture->changes++;
    condition_broadcast(&fixture->changed);
    mutex_unlock(&fixture->lock);
}

/* Wait until keys have changed that often. */
static void wait_for_changes(struct fixture *fixture, unsigned count)
{
    mutex_lock(&fixture->lock);
    while (fixture->changes < count)
        condition_wait(&fixture->changed, &fixture->lock);
    mutex_unlock(&fixture->lock);
}

/* Have this source read, at START. */
static struct fixture *start(const char *source, const struct key_step steps[],
                             size_t count)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct credentials_options options = {
        .source = source,
        .environment = key_service_environment,
        .changed = note_change,
        .changed_context = fixture,
    };

    if (!fixture)
        abort();
    clock_set_for_tests(START);
    mutex_init(&fixture->lock);
    condition_init(&fixture->changed);
    fixture->service = key_service_start(steps, count);
    key_service_set(fixture->service, "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "%s/");
    options.environment_context = fixture->service;
    if (credentials_new(&options, &fixture->credentials) != 0)
        abort();
    return fixture;
}

/* End it all; returns whether all steps were asked for. */
static bool end(struct fixture *fixture)
{
    bool is_done = key_service_is_done(fixture->service);

    credentials_free(fixture->credentials);
    key_service_stop(fixture->service);
    condition_done(&fixture->changed);
    mutex_done(&fixture->lock);
    free(fixture);
    clock_set_for_tests(0);
    return is_done;
}

/* Whether borrowing gives this access key now. */
static bool gives(struct fixture *fixture, const char *key)
{
    const struct credentials_set *set = NULL;
    bool is = credentials_borrow(fixture->credentials, LATER, &set) == 0 &&
              strcmp(set->access_key, key) == 0;

    credentials_return(fixture->credentials, set);
    return is;
}

/* Make or replace the file, at once; returns its path. */
static const char *make_file(const char *key)
{
    static char path[PATH_MAX + 64], new_path[PATH_MAX + 128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/keys", test_dir());
    (void)snprintf(new_path, sizeof(new_path), "%s.new", path);
    file = fopen(new_path, "we");
    if (!file ||
        fprintf(file,
                "aws_access_key_id = %s\naws_secret_access_key = hidden\n",
                key) < 0 ||
        fclose(file) != 0 || chmod(new_path, 0600) != 0 ||
        rename(new_path, path) != 0)
        abort();
    return path;
}

static const char *file_source(void)
{
    static char source[PATH_MAX + 128];

    (void)snprintf(source, sizeof(source), "file:%s/keys", test_dir());
    return source;
}

TEST("options that contradict each other are refused at once")
{
    struct credentials_options options = {.access_key = "AK"};
    struct credentials *credentials;

    CHECK(credentials_new(&options, &credentials) == -EINVAL);
    options = (struct credentials_options){.source = "nowhere"};
    CHECK(credentials_new(&options, &credentials) == -EINVAL);
    credentials_free(NULL);
}

TEST("keys of the configuration are lent, and told without the secret")
{
    struct credentials_options options = {.access_key = "AKIDEXAMPLE",
                                          .secret_key = "hidden",
                                          .session_token = "t"};
    struct credentials_summary summary;
    struct credentials *credentials;
    const struct credentials_set *set = NULL;

    NEED(credentials_new(&options, &credentials) == 0);
    NEED(credentials_borrow(credentials, UINT64_MAX, &set) == 0);
    CHECK(strcmp(set->access_key, "AKIDEXAMPLE") == 0);
    CHECK(strcmp(set->secret_key, "hidden") == 0);
    CHECK(strcmp(set->session_token, "t") == 0);
    credentials_return(credentials, set);
    credentials_return(credentials, NULL);
    credentials_summarize(credentials, &summary);
    CHECK(strcmp(summary.source, "configuration") == 0);
    CHECK(strcmp(summary.access_key_start, "AKID") == 0);
    CHECK(summary.expires_ns == CREDENTIALS_NEVER);
    CHECK(summary.problem[0] == '\0');
    credentials_free(credentials);
}

TEST("keys are renewed five minutes ahead; what was borrowed stays as it was")
{
    static const struct key_step steps[] = {
        {"GET", "/", NULL, 200, KEYS("ONE", "04:10:11")},
        {"GET", "/", NULL, 200, KEYS("TWO", "05:10:11")}};
    struct fixture *fixture = start("container", steps, 2);
    const struct credentials_set *set = NULL;

    NEED(credentials_borrow(fixture->credentials, LATER, &set) == 0);
    CHECK(strcmp(set->access_key, "ONE") == 0);
    clock_set_for_tests(START + 3239 * SECOND);
    CHECK(gives(fixture, "ONE"));
    clock_set_for_tests(START + 3301 * SECOND);
    CHECK(gives(fixture, "ONE") || gives(fixture, "TWO"));
    wait_for_changes(fixture, 2);
    CHECK(gives(fixture, "TWO"));
    CHECK(strcmp(set->access_key, "ONE") == 0);
    CHECK(strcmp(set->secret_key, "hidden") == 0);
    credentials_return(fixture->credentials, set);
    CHECK(end(fixture));
}

TEST("keys that cannot be renewed stay in use, and are asked for again")
{
    static const struct key_step steps[] = {
        {"GET", "/", NULL, 200, KEYS("ONE", "04:10:11")},
        {"GET", "/", NULL, 403, ""},
        {"GET", "/", NULL, 403, ""},
        {"GET", "/", NULL, 200, KEYS("TWO", "06:10:11")}};
    struct fixture *fixture = start("container", steps, 4);
    struct credentials_summary summary;
    const struct credentials_set *set = NULL;

    wait_for_changes(fixture, 1);
    NEED(credentials_borrow(fixture->credentials, LATER, &set) == 0);
    /* The two readings that fail are waited for: refused keys are others'. */
    for (unsigned i = 0; i < 2; i++) {
        clock_set_for_tests(START + (7200 + 100 * i) * SECOND);
        CHECK(!credentials_refused(fixture->credentials, set, LATER));
        CHECK(gives(fixture, "ONE"));
        credentials_summarize(fixture->credentials, &summary);
        CHECK(strstr(summary.problem, "answered with status 403") != NULL);
        CHECK(strcmp(summary.source, "container") == 0);
    }
    credentials_return(fixture->credentials, set);
    clock_set_for_tests(START + 7400 * SECOND);
    (void)gives(fixture, "ONE");
    wait_for_changes(fixture, 2);
    CHECK(gives(fixture, "TWO"));
    credentials_summarize(fixture->credentials, &summary);
    CHECK(summary.problem[0] == '\0');
    CHECK(summary.expires_ns == START + 3 * 3600 * SECOND);
    CHECK(end(fixture));
}

TEST("keys that come expired are used, and not asked for again at once")
{
    static const struct key_step steps[] = {
        {"GET", "/", NULL, 200, KEYS("OLD", "03:00:00")},
        {"GET", "/", NULL, 200, KEYS("NEW", "05:00:00")}};
    struct fixture *fixture = start("container", steps, 2);

    wait_for_changes(fixture, 1);
    CHECK(gives(fixture, "OLD"));
    clock_set_for_tests(START + 599 * SECOND);
    CHECK(gives(fixture, "OLD"));
    clock_set_for_tests(START + 1200 * SECOND);
    (void)gives(fixture, "OLD");
    wait_for_changes(fixture, 2);
    CHECK(gives(fixture, "NEW"));
    CHECK(end(fixture));
}

TEST("refused keys are read again at once, but not more than each ten seconds")
{
    struct fixture *fixture;
    const struct credentials_set *set = NULL;

    (void)make_file("ONE");
    fixture = start(file_source(), NULL, 0);
    NEED(credentials_borrow(fixture->credentials, LATER, &set) == 0);
    CHECK(!credentials_refused(fixture->credentials, set, LATER));
    (void)make_file("TWO");
    CHECK(!credentials_refused(fixture->credentials, set, LATER));
    CHECK(gives(fixture, "ONE"));
    clock_set_for_tests(START + 10 * SECOND);
    CHECK(credentials_refused(fixture->credentials, set, LATER));
    CHECK(gives(fixture, "TWO"));
    /* Who is refused later than others need not read again. */
    CHECK(credentials_refused(fixture->credentials, set, 0));
    credentials_return(fixture->credentials, set);
    wait_for_changes(fixture, 2);
    (void)end(fixture);
}

TEST("who is refused does not wait past the deadline")
{
    static const struct key_step steps[] = {
        {"GET", "/", NULL, 200, KEYS("ONE", "04:10:11")},
        {"GET", "/", NULL, 0, ""}};
    struct fixture *fixture = start("container", steps, 2);
    const struct credentials_set *set = NULL;

    NEED(credentials_borrow(fixture->credentials, LATER, &set) == 0);
    CHECK(!credentials_refused(fixture->credentials, set, 1));
    key_service_wait_for_requests(fixture->service, 2);
    CHECK(gives(fixture, "ONE"));
    credentials_return(fixture->credentials, set);
    (void)end(fixture);
}

TEST("without keys borrowing says why, and works once there are some")
{
    struct fixture *fixture = start(file_source(), NULL, 0);
    struct credentials_summary summary;
    const struct credentials_set *set = NULL;

    CHECK(credentials_borrow(fixture->credentials, LATER, &set) == -EACCES);
    credentials_summarize(fixture->credentials, &summary);
    CHECK(strstr(summary.problem, "/keys: No such file") != NULL);
    CHECK(summary.source[0] == '\0' && summary.access_key_start[0] == '\0');
    (void)make_file("ONE");
    clock_set_for_tests(START + 10 * SECOND);
    (void)credentials_borrow(fixture->credentials, LATER, &set);
    credentials_return(fixture->credentials, set);
    wait_for_changes(fixture, 1);
    CHECK(gives(fixture, "ONE"));
    (void)end(fixture);
}

TEST("the first reading is waited for, not past the deadline")
{
    static const struct key_step steps[] = {{"GET", "/", NULL, 0, ""}};
    struct fixture *fixture = start("container", steps, 1);
    const struct credentials_set *set = NULL;

    CHECK(credentials_borrow(fixture->credentials, 1, &set) == -ETIMEDOUT);
    (void)end(fixture);
}

/* ---- another source ------------------------------------------------------ */

TEST("another source is read at once, and takes the place of the one before")
{
    struct credentials_options options = {
        .access_key = "FIRST", .secret_key = "hidden", .changed = note_change};
    struct credentials_summary summary;
    struct fixture fixture = {.changes = 0};
    const struct credentials_set *old = NULL;

    mutex_init(&fixture.lock);
    condition_init(&fixture.changed);
    options.changed_context = &fixture;
    NEED(credentials_new(&options, &fixture.credentials) == 0);
    NEED(credentials_borrow(fixture.credentials, LATER, &old) == 0);
    wait_for_changes(&fixture, 1);
    options.access_key = "SECOND";
    CHECK(credentials_change(fixture.credentials, &options) == 0);
    wait_for_changes(&fixture, 2);
    CHECK(gives(&fixture, "SECOND"));
    CHECK(strcmp(old->access_key, "FIRST") == 0);
    credentials_return(fixture.credentials, old);
    options = (struct credentials_options){.access_key = "HALF"};
    CHECK(credentials_change(fixture.credentials, &options) == -EINVAL);
    CHECK(gives(&fixture, "SECOND"));
    make_file("THIRD");
    options = (struct credentials_options){.source = file_source()};
    CHECK(credentials_change(fixture.credentials, &options) == 0);
    wait_for_changes(&fixture, 3);
    CHECK(gives(&fixture, "THIRD"));
    /* The same source again: what is in it by now. */
    make_file("FOURTH");
    CHECK(credentials_change(fixture.credentials, &options) == 0);
    wait_for_changes(&fixture, 4);
    CHECK(gives(&fixture, "FOURTH"));
    credentials_summarize(fixture.credentials, &summary);
    CHECK(strncmp(summary.source, "file", 4) == 0);
    credentials_free(fixture.credentials);
    condition_done(&fixture.changed);
    mutex_done(&fixture.lock);
}

TEST("a source that says nothing does not keep another one from being read")
{
    static const struct key_step steps[] = {{"GET", "/", NULL, 0, ""}};
    struct fixture *fixture = start("container", steps, 1);
    const struct credentials_options options = {.access_key = "OTHER",
                                                .secret_key = "hidden"};

    key_service_wait_for_requests(fixture->service, 1);
    CHECK(credentials_change(fixture->credentials, &options) == 0);
    CHECK(gives(fixture, "OTHER"));
    (void)end(fixture);
}

/* ---- the end ------------------------------------------------------------- */

/* Borrow for ever. */
static void *borrow(void *argument)
{
    struct fixture *fixture = argument;
    const struct credentials_set *set = NULL;

    CHECK(credentials_borrow(fixture->credentials, LATER, &set) == -ECANCELED);
    return NULL;
}

TEST("an interrupt ends all waiting, and the request to the source")
{
    static const struct key_step steps[] = {{"GET", "/", NULL, 0, ""}};
    struct fixture *fixture = start("container", steps, 1);
    pthread_t thread;

    NEED(pthread_create(&thread, NULL, borrow, fixture) == 0);
    key_service_wait_for_requests(fixture->service, 1);
    credentials_interrupt(fixture->credentials);
    (void)pthread_join(thread, NULL);
    (void)borrow(fixture);
    (void)end(fixture);
}
