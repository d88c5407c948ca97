/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "s3/s3_explain.h"
#include "s3/s3_gate.h"
#include "s3/s3_hedge.h"
#include "s3/s3_learn.h"
#include "s3/s3_parts.h"

enum {
    ABSENT_TRIES = 3,   /* of a read that somebody waits for */
    NONSENSE_TRIES = 5, /* of any */
    /* Of a read's pauses when throttled: they double no more than so often. */
    THROTTLED_DOUBLINGS_MAX = 2,
    FAILURE_SIZE = S3_KEY_MAX + S3_EXPLANATION_SIZE + 512,
};

static const uint64_t MS = 1000000;
static const uint64_t ABSENT_PAUSE_NS = UINT64_C(400) * 1000000;
static const uint64_t MEMORY_PAUSE_NS = UINT64_C(100) * 1000000;
static const uint64_t REST_NS = UINT64_C(2000) * 1000000;
static const uint64_t REFUSED_NS = UINT64_C(30000) * 1000000;
static const uint64_t LONG_NS = UINT64_C(10000) * 1000000;

/* A call as it goes on. */
struct run {
    struct s3_parts *parts;
    struct s3_call *call;
    struct s3_attempt attempt;
    uint64_t begun_ns;
    uint64_t deadline_ns; /* UINT64_MAX: none */
    uint64_t failed_ns;   /* first; 0: not yet */
    uint64_t nonsense_ns; /* first; 0: not yet */
    uint64_t changes;     /* of endpoints, before the attempt */
    uint64_t rings;       /* of the bell, before the attempt */
    bool was_connected;   /* an endpoint was there, whatever it did then */
    unsigned failures, throttles, absences, nonsenses;
};

/* What to do after an attempt. */
enum step {
    STEP_END,     /* with the result */
    STEP_NOW,     /* another attempt at once */
    STEP_PAUSE,   /* another one after the pause; none left: the result */
    STEP_REST,    /* wait until an endpoint comes back; the same */
    STEP_REFUSED, /* wait until somebody changes something; the same */
};

struct decision {
    enum step step;
    int result;
    uint64_t pause_ns;
};

static const char *name_of(enum s3_verb verb)
{
    static const char *const names[] = {
        [S3_GET] = "get",
        [S3_PUT] = "put",
        [S3_HEAD] = "head",
        [S3_DELETE] = "delete",
        [S3_LIST] = "list",
        [S3_DELETE_MANY] = "delete of many",
        [S3_HEAD_BUCKET] = "head of the bucket",
    };

    return names[verb];
}

/* ---- what is said ------------------------------------------------------- */

/* Write where it failed and why. */
static void describe_failure(const struct run *run, char text[FAILURE_SIZE])
{
    char why[S3_EXPLANATION_SIZE];
    const struct s3_operation *operation = run->call->operation;
    const struct s3_attempt *attempt = &run->attempt;
    const char *key = operation->key           ? operation->key
                      : operation->list_prefix ? operation->list_prefix
                                               : "";
    bool is_somewhere = attempt->endpoint != S3_ENDPOINT_NONE;

    if (!is_somewhere && attempt->words[0] == '\0')
        (void)snprintf(why, sizeof(why), "no endpoint can be reached");
    else
        (void)s3_explain(attempt, &run->parts->site, why, sizeof(why));
    (void)snprintf(text, FAILURE_SIZE, "S3%s%s: %s%s%s: %s",
                   is_somewhere ? " " : "",
                   is_somewhere ? s3_endpoints_name(run->parts->endpoints,
                                                    attempt->endpoint)
                                : "",
                   name_of(operation->verb), key[0] ? " " : "", key, why);
}

static void log_end(const struct run *run, int result)
{
    static struct log_limit limit;
    uint64_t left_out;
    char text[FAILURE_SIZE];

    if (!log_limit_allows(&limit, &left_out))
        return;
    describe_failure(run, text);
    log_warning("%s: given up: %s (%" PRIu64 " more like this)", text,
                log_errno(result), left_out);
}

static void log_long_wait(const struct run *run, uint64_t now_ns)
{
    static struct log_limit limit;
    uint64_t left_out;
    char text[FAILURE_SIZE];

    if (now_ns - run->begun_ns < LONG_NS ||
        !log_limit_allows(&limit, &left_out))
        return;
    describe_failure(run, text);
    log_warning("%s: a read waits for %" PRIu64 " s (%" PRIu64
                " more like this)",
                text, (now_ns - run->begun_ns) / (1000 * MS), left_out);
}

/* What may be granted for one verb is refused for another. */
static struct s3_complaint *complaint_of(struct s3_parts *parts,
                                         const struct s3_call *call)
{
    return &parts->complaints[call->operation->verb];
}

/* ---- how long ----------------------------------------------------------- */

static uint64_t random_bits(void)
{
    uint64_t bits = 0;

    /* Without any, all pauses are short: others still differ. */
    (void)!getrandom(&bits, sizeof(bits), 0);
    return bits;
}

static bool is_waited_for(const struct run *run)
{
    return run->call->urgency == OBJECT_WAITED_FOR;
}

/*
 * Returns whether there is patience for another attempt after that pause.  It
 * is counted from the first failure: an upload may take long.
 */
static bool has_patience(struct run *run, uint64_t now_ns, uint64_t pause_ns)
{
    if (run->failed_ns == 0)
        run->failed_ns = now_ns;
    if (run->deadline_ns != UINT64_MAX && now_ns + pause_ns > run->deadline_ns)
        return false;
    switch (run->call->urgency) {
    case OBJECT_WAITED_FOR:
        return true;
    case OBJECT_BACKGROUND:
        return now_ns + pause_ns - run->failed_ns <= 2 * run->parts->timeout_ns;
    case OBJECT_AHEAD:
        break;
    }
    return false;
}

/* ---- an attempt --------------------------------------------------------- */

static bool is_answered(const struct s3_attempt *attempt, int error)
{
    return error == 0 && s3_retry_judge(&attempt->seen) == S3_VERDICT_DONE;
}

/*
 * Run an attempt that may be raced, or moved.  Returns 1 if another one has
 * won; -EAGAIN: it was ended, another endpoint is better; else as
 * s3_attempt_run.
 */
static int attempt_raced(struct run *run)
{
    struct s3_hedges *hedges = run->parts->hedges;
    struct s3_attempt *attempt = &run->attempt;
    struct s3_hedged hedged;
    bool answered;
    int error;

    s3_hedge_begin(hedges, &hedged, run->call->operation);
    attempt->hold = &hedged.hold;
    error = s3_attempt_run(run->parts, attempt);
    attempt->hold = NULL;
    answered = is_answered(attempt, error);
    if (s3_hedge_end(hedges, &hedged, answered, run->call->data))
        return 1;
    if (answered)
        s3_hedge_learn(hedges, attempt);
    return error == -ECANCELED && hedged.is_moved ? -EAGAIN : error;
}

/* Returns 1 if another one has won; 0: seen says; or why it did not begin. */
static int attempt_once(struct run *run)
{
    struct s3_parts *parts = run->parts;
    enum object_urgency urgency = run->call->urgency;
    uint64_t deadline_ns = run->deadline_ns;
    struct s3_pass pass;
    int error;

    if (urgency == OBJECT_AHEAD && deadline_ns == UINT64_MAX)
        deadline_ns = clock_monotonic_ns() + parts->timeout_ns;
    error = s3_gate_enter(parts->gate, urgency, deadline_ns, &pass);
    if (error)
        return error;
    /* Before the attempt, so that what happens during it is not missed. */
    run->changes = s3_endpoints_changes(parts->endpoints);
    run->rings = s3_bell_rings(&parts->bell);
    error = is_waited_for(run) ? attempt_raced(run)
                               : s3_attempt_run(parts, &run->attempt);
    s3_gate_leave(parts->gate, &pass, run->attempt.health);
    return error;
}

/* ---- what next ---------------------------------------------------------- */

static struct decision end_with(int result)
{
    return (struct decision){.step = STEP_END, .result = result};
}

static struct decision again_at_once(void)
{
    return (struct decision){.step = STEP_NOW};
}

static struct decision again_after(struct run *run, int result,
                                   uint64_t pause_ns)
{
    run->attempt.avoid = run->attempt.endpoint;
    run->attempt.may_connect_long = true;
    return (struct decision){
        .step = STEP_PAUSE, .result = result, .pause_ns = pause_ns};
}

static struct decision again(struct run *run, int error)
{
    return again_after(run, error == -ETIMEDOUT ? -ETIMEDOUT : -EIO,
                       s3_retry_delay_ns(++run->failures, false,
                                         run->attempt.retry_after_ns,
                                         random_bits()));
}

static struct decision throttled(struct run *run)
{
    unsigned times = ++run->throttles;

    s3_hedge_pause(run->parts->hedges);
    if (is_waited_for(run) && times > THROTTLED_DOUBLINGS_MAX)
        times = THROTTLED_DOUBLINGS_MAX;
    return again_after(run, -EBUSY,
                       s3_retry_delay_ns(times, true,
                                         run->attempt.retry_after_ns,
                                         random_bits()));
}

static struct decision refused(void)
{
    return (struct decision){.step = STEP_REFUSED, .result = -EACCES};
}

static struct decision absent(struct run *run)
{
    if (!is_waited_for(run) || ++run->absences >= ABSENT_TRIES)
        return end_with(-ENOENT);
    return again_after(run, -ENOENT, ABSENT_PAUSE_NS);
}

/*
 * Whether what makes no sense has done so for long enough.  Of an object that
 * is not as it must be, a few answers tell; but if it is a page of somebody
 * who has nothing to do with S3, the store may be there again before long.
 */
static bool is_nonsense_for_good(struct run *run, uint64_t now_ns)
{
    const struct s3_seen *seen = &run->attempt.seen;
    bool is_of_object = seen->status == 206 || seen->status == 416;

    if (run->nonsense_ns == 0)
        run->nonsense_ns = now_ns;
    return ++run->nonsenses >= NONSENSE_TRIES &&
           (is_of_object || !is_waited_for(run) ||
            now_ns - run->nonsense_ns >= 2 * run->parts->timeout_ns);
}

static struct decision nonsense(struct run *run)
{
    if (is_nonsense_for_good(run, clock_monotonic_ns()))
        return end_with(-EIO);
    return again_after(
        run, -EIO, s3_retry_delay_ns(run->nonsenses, false, 0, random_bits()));
}

static struct decision decide(struct run *run)
{
    struct s3_seen *seen = &run->attempt.seen;

    switch (s3_learn(run->parts, &run->attempt)) {
    case S3_VERDICT_DONE:
        return end_with(0);
    case S3_VERDICT_ABSENT:
        return absent(run);
    case S3_VERDICT_EXISTS:
        return end_with(-EEXIST);
    case S3_VERDICT_COMPARE:
        return end_with(-EALREADY);
    case S3_VERDICT_CLOCK:
    case S3_VERDICT_CREDENTIALS:
    case S3_VERDICT_REGION:
        return again_at_once();
    case S3_VERDICT_AGAIN_NOW:
        seen->free_is_used = true;
        run->attempt.is_fresh = true;
        return again_at_once();
    case S3_VERDICT_THROTTLED:
        return throttled(run);
    case S3_VERDICT_NO_CONDITIONAL:
        return end_with(-EOPNOTSUPP);
    case S3_VERDICT_NONSENSE:
        return nonsense(run);
    case S3_VERDICT_AGAIN:
        return again(run, seen->error);
    case S3_VERDICT_CONFIGURATION:
        break;
    }
    return refused();
}

/* What next after an attempt that did not begin. */
static struct decision decide_unbegun(struct run *run, int error)
{
    switch (error) {
    case -EAGAIN:
        run->attempt.avoid = run->attempt.endpoint;
        return again_at_once();
    case -EHOSTDOWN:
        return (struct decision){.step = STEP_REST, .result = -EIO};
    case -EACCES:
        return refused();
    case -ETIMEDOUT:
    case -ENOMEM:
        return again(run, error);
    case -EMSGSIZE:
        return end_with(-EINVAL);
    default:
        return end_with(error);
    }
}

/* ---- waiting ------------------------------------------------------------ */

static int wait_for_change(struct run *run, uint64_t now_ns)
{
    char text[FAILURE_SIZE];

    describe_failure(run, text);
    (void)s3_complaint_say(complaint_of(run->parts, run->call), text, now_ns);
    if (!is_waited_for(run))
        return -EACCES;
    log_long_wait(run, now_ns);
    run->attempt.seen.region_followed = false;
    return s3_bell_wait_for_ring(&run->parts->bell, run->rings,
                                 now_ns + REFUSED_NS);
}

/* Returns 0 to try again; else how the call ends. */
static int wait_before_next(struct run *run, const struct decision *decision)
{
    uint64_t now_ns = clock_monotonic_ns();
    int error;

    if (s3_bell_is_interrupted(&run->parts->bell))
        return -ECANCELED;
    /* What was learned may be out of date when the wait ends. */
    if (decision->step != STEP_NOW) {
        run->attempt.seen.clock_is_fixed = false;
        run->attempt.seen.credentials_read = false;
    }
    switch (decision->step) {
    case STEP_NOW:
        return 0;
    case STEP_REFUSED:
        return wait_for_change(run, now_ns);
    case STEP_REST:
        /* Who is not there is not waited for, by whom nobody waits for. */
        if (!is_waited_for(run) &&
            (!run->was_connected || !has_patience(run, now_ns, REST_NS)))
            break;
        if (is_waited_for(run))
            log_long_wait(run, now_ns);
        error = s3_endpoints_wait(run->parts->endpoints, run->changes,
                                  now_ns + REST_NS);
        return error == -ECANCELED ? error : 0;
    case STEP_PAUSE:
        if (!has_patience(run, now_ns, decision->pause_ns))
            break;
        if (is_waited_for(run))
            log_long_wait(run, now_ns);
        return s3_bell_wait(&run->parts->bell, now_ns + decision->pause_ns);
    case STEP_END:
        break;
    }
    return decision->result;
}

/* Returns what became of an attempt and what to do next. */
static struct decision try_once(struct run *run)
{
    struct s3_seen *seen = &run->attempt.seen;
    struct decision decision;
    int error;

    error = attempt_once(run);
    run->attempt.is_fresh = false;
    if (error > 0)
        return end_with(0);
    if (error < 0)
        return decide_unbegun(run, error);
    if (seen->is_connected)
        run->was_connected = true;
    decision = decide(run);
    if (s3_retry_may_be_applied(seen))
        seen->may_be_applied = true;
    return decision;
}

/* Who waits waits for memory, too. */
static int init_attempt(struct s3_parts *parts, const struct s3_call *call,
                        struct s3_attempt *attempt)
{
    int error, wait_error = 0;

    do {
        error = s3_attempt_init(attempt, call->operation);
        if (error && call->urgency == OBJECT_WAITED_FOR)
            wait_error = s3_bell_wait(&parts->bell,
                                      clock_monotonic_ns() + MEMORY_PAUSE_NS);
    } while (error && call->urgency == OBJECT_WAITED_FOR && !wait_error);
    return wait_error ? wait_error : error;
}

/* Nobody is to wait for what nobody waits for. */
static void hurry(struct run *run)
{
    uint64_t hurry_ns = atomic_load(&run->parts->hurry_ns);

    run->deadline_ns = UINT64_MAX;
    if (hurry_ns == 0 || is_waited_for(run))
        return;
    run->deadline_ns = run->begun_ns + hurry_ns;
    run->attempt.deadline_ns = run->deadline_ns;
}

int s3_call_run(struct s3_parts *parts, struct s3_call *call)
{
    struct run run = {
        .parts = parts,
        .call = call,
        .begun_ns = clock_monotonic_ns(),
    };
    struct decision decision = {.step = STEP_NOW};
    int result;

    result = init_attempt(parts, call, &run.attempt);
    if (result)
        return result;
    hurry(&run);
    run.attempt.data = call->data;
    run.attempt.accept = call->accept;
    run.attempt.accept_context = call->accept_context;
    while (!result) {
        decision = try_once(&run);
        result = decision.result;
        if (decision.step == STEP_END)
            break;
        result = wait_before_next(&run, &decision);
    }
    if (!result) {
        call->size = run.attempt.size;
        call->modified_ns = run.attempt.modified_ns;
        s3_complaint_settle(complaint_of(parts, call));
    } else if (result == -EIO || result == -ETIMEDOUT || result == -EBUSY) {
        log_end(&run, result);
    }
    s3_attempt_done(parts, &run.attempt);
    return result;
}
