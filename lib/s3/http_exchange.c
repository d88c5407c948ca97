/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A run goes through three steps, each of which may be the last:
 *
 *     send_request   what comes meanwhile is looked at: an answer of a final
 *                    status ends the sending, and so does a lost connection,
 *                    behind which an answer may still lie in the socket
 *     receive_head   interim answers (1xx) are passed over
 *     receive_body   into its place, or what of it was received with the head
 *                    copied there
 */
#include "s3/http_exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rate.h"
#include "s3/http_chunks.h"
#include "s3/http_wire.h"

enum {
    /* Sent or received at once; after each, somebody looks what else is up. */
    PIECE_MAX = 256 << 10,
    PIECE_PACED = 16 << 10, /* while a rate has us wait */
    TEXT_SIZE = 4 << 10,    /* of a text, to begin with */
    INTERIM_MAX = 8         /* 1xx answers */
};

struct run {
    struct http_exchange *exchange;
    struct http_wire wire;
    struct http_search search; /* begins with what is in the inbox */
    unsigned interims;
    int lost;        /* why no more can be sent, or 0 */
    bool has_looked; /* the stream itself had nothing to receive */
    size_t up_piece, down_piece;
    uint64_t down_until_ns; /* by then more may be received */

    /* Where the body goes. */
    bool is_text, may_be_cut;
    size_t body_max, text_size;
    bool is_cut;
};

/* ---- the head of the answer --------------------------------------------- */

static bool all_was_sent(const struct run *run)
{
    return run->wire.sent ==
           (uint64_t)run->exchange->head_len + run->exchange->body_len;
}

/* Parse the head of len bytes that begins the unused ones. */
static int parse_head(struct run *run, size_t len)
{
    struct http_exchange *exchange = run->exchange;
    char *bytes = malloc(len);
    int error;

    if (!bytes)
        return -ENOMEM;
    memcpy(bytes, run->wire.inbox + run->wire.from, len);
    run->wire.from += len;
    run->search = (struct http_search){0};
    free(exchange->answer_bytes);
    exchange->answer_bytes = bytes;
    error = http_head_parse(bytes, len, exchange->is_head, &exchange->answer);
    /* Nobody asked for another protocol. */
    if (error == 0 && exchange->answer.status == 101)
        error = -EPROTO;
    if (error == 0 && exchange->answer.status < 200 &&
        ++run->interims > INTERIM_MAX)
        error = -EPROTO;
    if (error < 0 || exchange->answer.status < 200)
        exchange->answer.status = 0;
    return error;
}

/*
 * Look among what was received for the head of a final answer.  1: it is
 * there, and parsed; 0: more must come.
 */
static int take_head(struct run *run)
{
    struct http_exchange *exchange = run->exchange;

    while (exchange->answer.status == 0) {
        ssize_t len =
            http_head_search(&run->search, run->wire.inbox + run->wire.from,
                             run->wire.to - run->wire.from);
        int error;

        if (len <= 0)
            return (int)len;
        error = parse_head(run, (size_t)len);
        if (error < 0)
            return error;
    }
    /* Whoever says so cannot have stored what was not sent. */
    if (exchange->answer.status < 300 && !all_was_sent(run))
        return run->lost < 0 ? run->lost : -EPROTO;
    return 1;
}

static int receive_head(struct run *run)
{
    int found = take_head(run);

    while (found == 0) {
        ssize_t got = http_wire_fill(&run->wire, true);

        if (got > 0)
            found = take_head(run);
        else if (run->lost < 0)
            found = run->lost;
        else
            found = got == 0 ? -ECONNRESET : (int)got;
    }
    return found < 0 ? found : 0;
}

/* ---- sending ------------------------------------------------------------ */

/* Look whether an answer comes while we send.  1: its head is here; 0: no. */
static int look(struct run *run)
{
    for (;;) {
        ssize_t got = http_wire_fill(&run->wire, false);
        int found;

        if (got == -EAGAIN) {
            run->has_looked = true;
            return 0;
        }
        if (got <= 0)
            return got == 0 ? -ECONNRESET : (int)got;
        found = take_head(run);
        if (found != 0)
            return found;
    }
}

/* Wait as a rate demands.  1: an answer came while we are sending. */
static int wait_for_rate(struct run *run, uint64_t until_ns, bool is_sending)
{
    int result;

    do {
        result = is_sending ? look(run) : 0;
        if (result != 0)
            return result;
        result = http_wire_pause(&run->wire, until_ns, is_sending);
    } while (result == 1 && is_sending);
    /* That it is closed is told by whoever receives next. */
    return result < 0 ? result : 0;
}

/*
 * Count bytes of a rate.  Returns the moment by which it is their turn, or 0:
 * now.  The next piece is a small one if there is something to wait for.
 */
static uint64_t take_from_rate(struct rate *rate, uint64_t bytes, size_t *piece)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t wait = rate_take(rate, bytes, now);

    if (wait > 0) {
        *piece = PIECE_PACED;
        return now + wait;
    }
    if (*piece < PIECE_MAX)
        *piece *= 2;
    return 0;
}

/* Send what is left up to goal, which is in the body or at its ends. */
static ssize_t send_some(struct run *run, uint64_t goal)
{
    const struct http_exchange *exchange = run->exchange;
    uint64_t head_len = exchange->head_len, sent = run->wire.sent;
    struct iovec pieces[2];
    size_t count = 0;

    /* The type lacks a const; sending only reads. */
    if (sent < head_len) {
        pieces[count].iov_base = (char *)(uintptr_t)exchange->head + sent;
        pieces[count++].iov_len = head_len - sent;
        sent = head_len;
    }
    if (sent < goal) {
        pieces[count].iov_base =
            (char *)(uintptr_t)exchange->body + (sent - head_len);
        pieces[count++].iov_len = goal - sent;
    }
    return http_wire_send(&run->wire, pieces, count);
}

/*
 * Send everything before goal.  1: no more is to be sent, because an answer
 * came or the connection was lost.
 */
static int send_up_to(struct run *run, uint64_t goal)
{
    bool may_look = run->wire.sent > 0;

    while (run->wire.sent < goal) {
        int result = may_look ? look(run) : 0;
        ssize_t sent;

        if (result != 0)
            return result;
        may_look = false;
        sent = send_some(run, goal);
        if (sent == -EAGAIN && !run->has_looked) {
            may_look = true; /* over TLS, only then the socket tells all */
        } else if (sent == -EAGAIN) {
            result = http_wire_wait(&run->wire, &may_look);
            if (result < 0)
                return result;
        } else if (sent == -ETIMEDOUT) {
            return -ETIMEDOUT;
        } else if (sent < 0) {
            run->lost = (int)sent;
            return 1;
        }
    }
    return 0;
}

static int send_request(struct run *run)
{
    struct http_exchange *exchange = run->exchange;
    int result = 0;

    while (result == 0 && !all_was_sent(run)) {
        uint64_t body_sent =
            run->wire.sent > 0 ? run->wire.sent - exchange->head_len : 0;
        uint64_t piece = exchange->body_len - body_sent;
        uint64_t until = 0;

        if (piece > run->up_piece)
            piece = run->up_piece;
        if (exchange->up && piece > 0)
            until = take_from_rate(exchange->up, piece, &run->up_piece);
        if (until > 0)
            result = wait_for_rate(run, until, true);
        if (result == 0)
            result = send_up_to(run, exchange->head_len + body_sent + piece);
    }
    if (exchange->body_len > 0)
        http_wire_sent_all(&run->wire);
    return result < 0 ? result : 0;
}

/* ---- the body of the answer --------------------------------------------- */

/* Choose where the body goes, and refuse one that has no business to be. */
static int prepare_body(struct run *run)
{
    struct http_exchange *exchange = run->exchange;
    const struct http_head *answer = &exchange->answer;
    bool is_success = answer->status < 300;

    if (is_success &&
        (answer->is_encoded || answer->framing == HTTP_UNTIL_CLOSE))
        return -EPROTO;
    run->is_text = !is_success || !exchange->data;
    run->may_be_cut = run->is_text && (!is_success || exchange->text_max == 0);
    run->body_max = !run->is_text      ? exchange->room
                    : !run->may_be_cut ? exchange->text_max
                                       : HTTP_EXCHANGE_TEXT_MAX;
    if (answer->framing == HTTP_LENGTH && !run->may_be_cut &&
        answer->length > run->body_max)
        return -EMSGSIZE;
    return 0;
}

/* Have the text hold len bytes and an end mark. */
static int grow_text(struct run *run, size_t len)
{
    size_t size = run->text_size > 0 ? run->text_size : TEXT_SIZE;
    char *text;

    while (size <= len)
        size *= 2;
    if (size > run->body_max)
        size = run->body_max + 1;
    if (size == run->text_size)
        return 0;
    text = realloc(run->exchange->text, size);
    if (!text)
        return -ENOMEM;
    run->exchange->text = text;
    run->text_size = size;
    return 0;
}

/*
 * Find room for more of the body, left bytes of which are to come: how much
 * may be put at *ret_to, and counted by body_add.  0: what comes is too much.
 */
static ssize_t body_room(struct run *run, uint64_t left, char **ret_to)
{
    struct http_exchange *exchange = run->exchange;
    size_t len = run->is_text ? exchange->text_len : exchange->len;
    uint64_t room = run->body_max - len;

    if (room > left)
        room = left;
    if (room > run->down_piece)
        room = run->down_piece;
    if (run->is_text) {
        if (grow_text(run, len + room) < 0)
            return -ENOMEM;
        *ret_to = exchange->text + len;
    } else {
        *ret_to = (char *)exchange->data + len;
    }
    return (ssize_t)room;
}

/* Count bytes that were put where body_room said. */
static void body_add(struct run *run, size_t len)
{
    struct http_exchange *exchange = run->exchange;

    if (run->is_text)
        exchange->text_len += len;
    else
        exchange->len += len;
    if (exchange->down)
        run->down_until_ns =
            take_from_rate(exchange->down, len, &run->down_piece);
}

/*
 * Receive some of the body: to its place; but the end of a chunk together with
 * what is behind it, into the inbox, from where it is taken then.
 */
static ssize_t receive_body_part(struct run *run, char *to, size_t len)
{
    int error = 0;

    if (run->down_until_ns > 0)
        error = wait_for_rate(run, run->down_until_ns, false);
    if (error < 0)
        return error;
    if (run->exchange->answer.framing == HTTP_CHUNKED && len < HTTP_WIRE_INBOX)
        return http_wire_fill(&run->wire, true);
    return http_wire_receive(&run->wire, to, len, true);
}

/*
 * Take some of the body, of which left bytes are to come.  Returns how many;
 * 0: the peer has ended, or (is_cut) there is no room for more.
 */
static ssize_t take_body(struct run *run, uint64_t left)
{
    struct http_wire *wire = &run->wire;
    char *to;
    ssize_t len = body_room(run, left, &to);

    if (len == 0) {
        run->is_cut = true;
        return run->may_be_cut ? 0 : -EMSGSIZE;
    }
    if (len > 0 && wire->from == wire->to) {
        ssize_t got = receive_body_part(run, to, (size_t)len);

        if (got <= 0 || wire->from == wire->to)
            len = got;
    }
    if (len > 0 && wire->from < wire->to) {
        if ((size_t)len > wire->to - wire->from)
            len = (ssize_t)(wire->to - wire->from);
        memcpy(to, wire->inbox + wire->from, (size_t)len);
        wire->from += (size_t)len;
    }
    if (len > 0)
        body_add(run, (size_t)len);
    return len;
}

/* Take len bytes of the body, or all until the peer ends: UINT64_MAX. */
static int receive_run(struct run *run, uint64_t len)
{
    uint64_t left = len;

    while (left > 0) {
        ssize_t got = take_body(run, left);

        if (got < 0)
            return (int)got;
        if (got == 0)
            return run->is_cut || len == UINT64_MAX ? 0 : -ECONNRESET;
        left -= len == UINT64_MAX ? 0 : (uint64_t)got;
    }
    return 0;
}

static int receive_chunks(struct run *run)
{
    struct http_chunks chunks = {0};

    while (!chunks.is_done && !run->is_cut) {
        ssize_t eaten =
            http_chunks_feed(&chunks, run->wire.inbox + run->wire.from,
                             run->wire.to - run->wire.from);
        int error = 0;

        if (eaten < 0)
            return (int)eaten;
        run->wire.from += (size_t)eaten;
        if (chunks.left > 0) {
            error = receive_run(run, chunks.left);
            http_chunks_take(&chunks, chunks.left);
        } else if (!chunks.is_done) {
            ssize_t got = http_wire_fill(&run->wire, true);

            error = got == 0 ? -ECONNRESET : got < 0 ? (int)got : 0;
        }
        if (error < 0)
            return error;
    }
    return 0;
}

static int receive_body(struct run *run)
{
    struct http_exchange *exchange = run->exchange;
    int error = prepare_body(run);

    if (error < 0)
        return error;
    http_wire_begin_window(&run->wire);
    switch (exchange->answer.framing) {
    case HTTP_NO_BODY:
        break;
    case HTTP_LENGTH:
        error = receive_run(run, exchange->answer.length);
        break;
    case HTTP_CHUNKED:
        error = receive_chunks(run);
        break;
    case HTTP_UNTIL_CLOSE:
        error = receive_run(run, UINT64_MAX);
        break;
    }
    /* Only now: what came too late was received, too, and not counted. */
    if (exchange->text)
        exchange->text[exchange->text_len] = '\0';
    /* Nobody can read it; what matters of an error is its status. */
    if (exchange->answer.is_encoded) {
        free(exchange->text);
        exchange->text = NULL;
        exchange->text_len = 0;
    }
    return error;
}

/* ---- the whole ---------------------------------------------------------- */

int http_exchange_run(struct stream *stream, struct http_exchange *exchange)
{
    struct run run = {
        .exchange = exchange,
        .up_piece = exchange->up ? PIECE_PACED : PIECE_MAX,
        .down_piece = exchange->down ? PIECE_PACED : SIZE_MAX,
    };
    int error = http_wire_init(&run.wire, stream, exchange->progress_ns,
                               exchange->deadline_ns);

    if (error < 0)
        return error;
    error = send_request(&run);
    if (error == 0)
        error = receive_head(&run);
    if (error == 0)
        error = receive_body(&run);
    exchange->sent = run.wire.sent;
    exchange->received = run.wire.received;
    exchange->first_byte_ns = run.wire.first_byte_ns;
    /* Bytes behind the answer belong to no request. */
    exchange->is_reusable = error == 0 && exchange->answer.is_persistent &&
                            all_was_sent(&run) && !run.is_cut &&
                            run.wire.from == run.wire.to;
    http_wire_done(&run.wire);
    return error;
}

void http_exchange_done(struct http_exchange *exchange)
{
    free(exchange->answer_bytes);
    exchange->answer_bytes = NULL;
    exchange->answer = (struct http_head){.status = 0};
    free(exchange->text);
    exchange->text = NULL;
    exchange->text_len = 0;
}
