/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_attempt.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/moment.h"
#include "s3/credentials.h"
#include "s3/s3_hold.h"
#include "s3/s3_limits.h"
#include "s3/s3_parts.h"
#include "s3/s3_places.h"
#include "s3/s3_pool.h"
#include "s3/s3_region.h"

static const uint64_t S_NS = 1000000000;

static const uint64_t RACED_CONNECT_NS = UINT64_C(1500) * 1000000;

/*
 * The slowest line that is worth waiting for.  What is slower all the time
 * would never end; http_exchange's floor finds what has stopped.
 */
static const uint64_t FLOOR_BYTES_PER_S = 4096;

int s3_attempt_init(struct s3_attempt *attempt,
                    const struct s3_operation *operation)
{
    *attempt = (struct s3_attempt){
        .operation = operation,
        .only = S3_ENDPOINT_NONE,
        .avoid = S3_ENDPOINT_NONE,
        .endpoint = S3_ENDPOINT_NONE,
        .request = malloc(sizeof(*attempt->request)),
    };
    return attempt->request ? 0 : -ENOMEM;
}

/* Forget the last run. */
static void forget(struct s3_parts *parts, struct s3_attempt *attempt)
{
    http_exchange_done(&attempt->exchange);
    credentials_return(parts->credentials, attempt->credentials);
    attempt->credentials = NULL;
}

void s3_attempt_done(struct s3_parts *parts, struct s3_attempt *attempt)
{
    forget(parts, attempt);
    free(attempt->request);
    attempt->request = NULL;
}

/* Returns how many bytes of bodies the operation moves, about. */
static uint64_t bytes_of(const struct s3_operation *operation)
{
    switch (operation->verb) {
    case S3_GET:
        return operation->len;
    case S3_PUT:
    case S3_DELETE_MANY:
        return operation->body->len;
    case S3_LIST:
        return (uint64_t)64 << 10;
    case S3_HEAD:
    case S3_DELETE:
    case S3_HEAD_BUCKET:
        break;
    }
    return 0;
}

static uint64_t default_deadline(const struct s3_parts *parts,
                                 const struct s3_operation *operation,
                                 uint64_t now_ns)
{
    uint64_t bytes = bytes_of(operation);

    return now_ns + 2 * parts->timeout_ns + bytes / FLOOR_BYTES_PER_S * S_NS +
           s3_limits_time_ns(parts->limits, bytes);
}

/* ---- what an answer says ------------------------------------------------ */

static void learn_from_head(struct s3_attempt *attempt)
{
    const struct http_head *answer = &attempt->exchange.answer;
    const char *date = http_head_get(answer, "Date");
    const char *region = http_head_get(answer, "x-amz-bucket-region");
    uint64_t there_s = attempt->there_s;

    if (date &&
        moment_parse_http(date, attempt->now_s, &attempt->answer_s) == 0)
        attempt->seen.skew_s = attempt->answer_s > there_s
                                   ? attempt->answer_s - there_s
                                   : there_s - attempt->answer_s;
    attempt->retry_after_ns = s3_retry_after_ns(
        http_head_get(answer, "Retry-After"),
        http_head_get(answer, "x-amz-retry-after"),
        attempt->answer_s ? attempt->answer_s : attempt->now_s);
    attempt->seen.has_retry_after = attempt->retry_after_ns > 0;
    if (region)
        (void)snprintf(attempt->other_region, sizeof(attempt->other_region),
                       "%s", region);
}

static void learn_from_document(struct s3_attempt *attempt)
{
    const struct http_exchange *exchange = &attempt->exchange;

    /* Also of a success: some stores begin it before they know. */
    if (!exchange->text || s3_error_parse(exchange->text, exchange->text_len,
                                          &attempt->document) != 0) {
        attempt->document = (struct s3_error){0};
        return;
    }
    attempt->seen.code = attempt->document.code;
    if (attempt->document.region[0] != '\0')
        memcpy(attempt->other_region, attempt->document.region,
               sizeof(attempt->other_region));
    /* What the store itself says goes before what a proxy's header does. */
    if (attempt->document.server_time_s != 0)
        attempt->answer_s = attempt->document.server_time_s;
}

/* ---- is it what was asked for ------------------------------------------- */

/* Exactly the range: a 206 that says so, or all of an object so long. */
static bool is_the_range(const struct s3_attempt *attempt)
{
    const struct http_exchange *exchange = &attempt->exchange;
    const struct s3_operation *operation = attempt->operation;
    const char *field;
    struct http_range range;

    if (exchange->len != operation->len)
        return false;
    if (exchange->answer.status == 200)
        return operation->offset == 0;
    field = http_head_get(&exchange->answer, "Content-Range");
    return exchange->answer.status == 206 && field &&
           http_range_parse(field, &range) == 0 &&
           range.first == operation->offset &&
           range.last == operation->offset + operation->len - 1;
}

static bool tells_the_object(struct s3_attempt *attempt)
{
    const struct http_head *answer = &attempt->exchange.answer;
    const char *modified = http_head_get(answer, "Last-Modified");
    uint64_t modified_s = 0;

    /* Not all stores tell when, and nothing rests on it but ages. */
    if (modified)
        (void)moment_parse_http(modified, attempt->now_s, &modified_s);
    attempt->size = answer->length;
    attempt->modified_ns = modified_s * S_NS;
    return answer->status == 200 && answer->has_length;
}

/*
 * A store says which object it has stored.  A page that welcomes whoever comes
 * by is no such answer; nor is the promise to do it later.
 */
static bool tells_of_storing(const struct http_head *answer)
{
    return answer->status == 201 || answer->status == 204 ||
           (answer->status == 200 && http_head_get(answer, "ETag"));
}

/* Returns whether an answer of 2xx is the one to what was asked. */
static bool is_the_answer(struct s3_attempt *attempt)
{
    const struct http_exchange *exchange = &attempt->exchange;

    switch (attempt->operation->verb) {
    case S3_GET:
        return is_the_range(attempt);
    case S3_HEAD:
        return tells_the_object(attempt);
    case S3_LIST:
    case S3_DELETE_MANY:
        return exchange->answer.status == 200 &&
               (!attempt->accept ||
                attempt->accept(attempt->accept_context,
                                exchange->text ? exchange->text : "",
                                exchange->text_len) == 0);
    case S3_PUT:
        return tells_of_storing(&exchange->answer);
    case S3_DELETE:
    case S3_HEAD_BUCKET:
        break;
    }
    return true;
}

/* ---- words -------------------------------------------------------------- */

static const char *words_of_error(int error)
{
    switch (error) {
    case -ETIMEDOUT:
        return "it does not go on answering";
    case -ECONNRESET:
    case -ECONNABORTED:
    case -EPIPE:
        return "it closed the connection before its answer was whole";
    case -EPROTO:
        return "its answer makes no sense";
    case -EMSGSIZE:
        return "its answer is longer than it may be";
    default:
        return log_errno(error);
    }
}

static void say_what_was_answered(struct s3_attempt *attempt)
{
    const struct s3_error *document = &attempt->document;

    (void)snprintf(attempt->words, sizeof(attempt->words), "HTTP %u%s%s%s%s",
                   attempt->seen.status, document->code[0] ? " " : "",
                   document->code, document->message[0] ? ": " : "",
                   document->message);
}

static void say_what_happened(struct s3_attempt *attempt)
{
    const struct s3_seen *seen = &attempt->seen;

    if (seen->status >= 300 || attempt->document.code[0])
        say_what_was_answered(attempt);
    else if (seen->status != 0 && seen->error == -EPROTO)
        (void)snprintf(attempt->words, sizeof(attempt->words),
                       "its answer, HTTP %u, is not to what it was asked",
                       seen->status);
    else if (seen->error)
        (void)snprintf(attempt->words, sizeof(attempt->words), "%s",
                       words_of_error(seen->error));
}

/* ---- the exchange ------------------------------------------------------- */

static void judge_answer(struct s3_attempt *attempt, int error)
{
    struct http_exchange *exchange = &attempt->exchange;
    struct s3_seen *seen = &attempt->seen;

    seen->error = error;
    seen->status = exchange->answer.status;
    seen->any_byte = exchange->received > 0;
    seen->is_sent = exchange->sent >= exchange->head_len + exchange->body_len;
    if (seen->status != 0) {
        learn_from_head(attempt);
        learn_from_document(attempt);
    }
    if (!error && seen->status < 300 && attempt->document.code[0] == '\0' &&
        !is_the_answer(attempt))
        seen->error = -EPROTO;
    say_what_happened(attempt);
}

static void exchange_over(struct s3_parts *parts, struct s3_attempt *attempt,
                          struct s3_connection *connection)
{
    const struct s3_operation *operation = attempt->operation;
    struct http_exchange *exchange = &attempt->exchange;
    bool has_text =
        operation->verb == S3_LIST || operation->verb == S3_DELETE_MANY;

    *exchange = (struct http_exchange){
        .head = attempt->request->head,
        .head_len = attempt->request->head_len,
        .body = operation->body ? operation->body->data : NULL,
        .body_len = operation->body ? operation->body->len : 0,
        .is_head = attempt->request->is_head,
        .up = s3_limits_up(parts->limits),
        .down = s3_limits_down(parts->limits),
        .data = operation->verb == S3_GET ? attempt->data : NULL,
        .room = operation->verb == S3_GET ? (size_t)operation->len : 0,
        .text_max = has_text ? S3_ANSWER_MAX : 0,
        .progress_ns = parts->timeout_ns,
        .deadline_ns = attempt->deadline_ns,
    };
    judge_answer(attempt,
                 http_exchange_run(s3_connection_stream(connection), exchange));
    attempt->first_byte_ns = exchange->first_byte_ns;
}

static int compose(struct s3_parts *parts, struct s3_attempt *attempt)
{
    struct s3_site site;
    struct sigv4_key key = {0}; /* derived anew: that takes a microsecond */
    const struct credentials_set *set = attempt->credentials;
    const struct sigv4_credentials credentials = {
        .access_key = set->access_key,
        .secret_key = set->secret_key,
        .session_token = set->session_token[0] ? set->session_token : NULL,
    };
    int error;

    if (set->region[0] != '\0')
        s3_region_offer(parts, set->region);
    attempt->now_s = clock_realtime_ns() / S_NS;
    s3_places_look(parts->places, attempt->endpoint, attempt->now_s, &site,
                   &attempt->there_s);
    memcpy(attempt->region, site.region, sizeof(attempt->region));
    error = s3_request_compose(attempt->operation, &site, &parts->storage,
                               &credentials, &key, attempt->there_s,
                               attempt->request);
    explicit_bzero(&key, sizeof(key));
    return error;
}

/* A range of an object that is too short is cut: no fault of the endpoint. */
static enum s3_health health_of(const struct s3_attempt *attempt)
{
    if (attempt->operation->verb == S3_GET && attempt->seen.status == 206 &&
        attempt->seen.error == -EPROTO)
        return S3_HEALTH_ANSWERED;
    return s3_retry_health(&attempt->seen);
}

/*
 * Connecting cannot be ended by a second attempt that has won.  Where there is
 * another endpoint, nobody waits long for one that may be gone, at first: if
 * the line is slow, the caller's next attempt may take its time.
 */
static bool connects_shortly(const struct s3_parts *parts,
                             const struct s3_attempt *attempt)
{
    return attempt->hold && !attempt->may_connect_long &&
           s3_endpoints_count(parts->endpoints) > 1;
}

static uint64_t connect_deadline(const struct s3_parts *parts,
                                 const struct s3_attempt *attempt)
{
    uint64_t deadline_ns = clock_monotonic_ns() + RACED_CONNECT_NS;
    bool is_short =
        connects_shortly(parts, attempt) && deadline_ns < attempt->deadline_ns;

    return is_short ? deadline_ns : attempt->deadline_ns;
}

/*
 * Ask the endpoint.  An error: see s3_attempt_run; else seen says what came of
 * it, and health.
 */
static int ask(struct s3_parts *parts, struct s3_attempt *attempt)
{
    struct s3_hold *hold = attempt->hold;
    struct s3_connection *connection;
    struct net_failure failure;
    bool goes_on;
    int error;

    attempt->health = S3_HEALTH_ABANDONED;
    if (hold && !s3_hold_choose(hold, attempt->endpoint))
        return -ECANCELED;
    error = compose(parts, attempt);
    if (error)
        return error;
    error =
        s3_pool_borrow(parts->pool, attempt->endpoint, attempt->is_fresh,
                       connect_deadline(parts, attempt), &connection, &failure);
    if (error == -ECANCELED)
        return error;
    if (error) {
        attempt->seen.error = error;
        (void)snprintf(attempt->words, sizeof(attempt->words), "%s",
                       failure.text);
        attempt->health = s3_retry_health(&attempt->seen);
        /* So little time proves nothing alone. */
        if (error == -ETIMEDOUT && connects_shortly(parts, attempt))
            attempt->health = S3_HEALTH_BROKEN;
        return 0;
    }
    attempt->seen.is_connected = true;
    attempt->seen.is_reused = s3_connection_is_reused(connection);
    goes_on = !hold || s3_hold_take(hold, connection);
    if (goes_on) {
        exchange_over(parts, attempt, connection);
        goes_on = !hold || s3_hold_release(hold);
        attempt->health = health_of(attempt);
    }
    s3_pool_return(parts->pool, connection,
                   goes_on && attempt->exchange.is_reusable);
    if (attempt->seen.error && s3_bell_is_interrupted(&parts->bell))
        goes_on = false;
    /* It may have been answered at the very moment when it was ended. */
    if (!goes_on && (attempt->seen.error || attempt->seen.status == 0)) {
        attempt->health = S3_HEALTH_ABANDONED;
        return -ECANCELED;
    }
    return 0;
}

/* ---- an attempt --------------------------------------------------------- */

void s3_attempt_end_turn(struct s3_parts *parts,
                         const struct s3_attempt *attempt,
                         const struct s3_turn *turn)
{
    const struct http_exchange *exchange = &attempt->exchange;
    const struct s3_outcome outcome = {
        .health = attempt->health,
        .latency_ns = attempt->first_byte_ns,
        .bytes_up = exchange->sent > exchange->head_len
                        ? exchange->sent - exchange->head_len
                        : 0,
        .bytes_down = exchange->len,
        .text = attempt->words[0] ? attempt->words : NULL,
    };

    s3_endpoints_done(parts->endpoints, turn, &outcome, clock_monotonic_ns());
}

/* All that the run before left is forgotten, but what the caller has set. */
static void begin_anew(struct s3_parts *parts, struct s3_attempt *attempt)
{
    const struct s3_operation *operation = attempt->operation;
    const struct s3_seen last = attempt->seen;

    forget(parts, attempt);
    attempt->exchange = (struct http_exchange){0};
    attempt->seen = (struct s3_seen){
        .is_conditional = operation->verb == S3_PUT && operation->if_absent,
        .may_be_absent = operation->verb == S3_GET ||
                         operation->verb == S3_HEAD ||
                         operation->verb == S3_DELETE,
        .is_head =
            operation->verb == S3_HEAD || operation->verb == S3_HEAD_BUCKET,
        .may_be_applied = last.may_be_applied,
        .free_is_used = last.free_is_used,
        .clock_is_fixed = last.clock_is_fixed,
        .credentials_read = last.credentials_read,
        .region_followed = last.region_followed,
    };
    attempt->document = (struct s3_error){0};
    attempt->endpoint = S3_ENDPOINT_NONE;
    attempt->health = S3_HEALTH_ABANDONED;
    attempt->retry_after_ns = 0;
    attempt->answer_s = 0;
    attempt->region[0] = '\0';
    attempt->other_region[0] = '\0';
    attempt->words[0] = '\0';
    attempt->first_byte_ns = 0;
}

static int borrow_credentials(struct s3_parts *parts,
                              struct s3_attempt *attempt, uint64_t now_ns)
{
    uint64_t deadline_ns = now_ns + parts->timeout_ns;
    struct credentials_summary summary;
    int error;

    if (deadline_ns > attempt->deadline_ns)
        deadline_ns = attempt->deadline_ns;
    error = credentials_borrow(parts->credentials, deadline_ns,
                               &attempt->credentials);
    if (error) {
        attempt->credentials = NULL;
        credentials_summarize(parts->credentials, &summary);
        (void)snprintf(attempt->words, sizeof(attempt->words),
                       "there are no credentials: %s",
                       summary.problem[0] ? summary.problem : log_errno(error));
    }
    return error;
}

static int run_at_chosen(struct s3_parts *parts, struct s3_attempt *attempt,
                         uint64_t now_ns)
{
    const struct s3_operation *operation = attempt->operation;
    bool was_fresh = attempt->is_fresh;
    struct s3_turn turn;
    int error;

    error = s3_endpoints_choose(parts->endpoints, attempt->avoid,
                                operation->verb == S3_PUT, bytes_of(operation),
                                now_ns, &turn);
    if (error)
        return error;
    attempt->endpoint = turn.index;
    attempt->is_fresh = was_fresh || turn.index == attempt->avoid;
    error = ask(parts, attempt);
    attempt->is_fresh = was_fresh;
    s3_attempt_end_turn(parts, attempt, &turn);
    return error;
}

int s3_attempt_run(struct s3_parts *parts, struct s3_attempt *attempt)
{
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t deadline_ns = attempt->deadline_ns;
    int error;

    begin_anew(parts, attempt);
    s3_limits_refresh(parts->limits, clock_realtime_ns(), now_ns);
    if (deadline_ns == 0)
        attempt->deadline_ns =
            default_deadline(parts, attempt->operation, now_ns);
    error = borrow_credentials(parts, attempt, now_ns);
    if (!error && attempt->only != S3_ENDPOINT_NONE) {
        attempt->endpoint = attempt->only;
        error = ask(parts, attempt);
    } else if (!error) {
        error = run_at_chosen(parts, attempt, now_ns);
    }
    attempt->deadline_ns = deadline_ns;
    attempt->took_ns = clock_monotonic_ns() - now_ns;
    return error;
}
