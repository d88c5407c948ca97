/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/scripted_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

static struct scripted_stream *script_of(struct stream *stream)
{
    return (struct scripted_stream *)stream;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void set_clock(struct scripted_stream *script, uint64_t now_ns)
{
    script->now_ns = now_ns;
    clock_set_for_tests(now_ns);
}

/* Nothing is there: let the time pass that the caller would wait. */
static ssize_t wait_for_nothing(struct scripted_stream *script,
                                uint64_t deadline_ns)
{
    if (deadline_ns == STREAM_NOW)
        return -EAGAIN;
    if (deadline_ns == STREAM_FOREVER)
        abort();
    if (deadline_ns > script->now_ns)
        set_clock(script, deadline_ns);
    return -ETIMEDOUT;
}

static ssize_t script_receive(struct stream *stream, void *data, size_t len,
                              uint64_t deadline_ns)
{
    struct scripted_stream *script = script_of(stream);
    size_t part;

    script->receives++;
    set_clock(script, script->now_ns + script->tick_ns);
    if (script->taken_len < script->answer_after)
        return wait_for_nothing(script, deadline_ns);
    part =
        least(script->answer_len - script->received, least(len, script->piece));
    if (script->received < script->split)
        part = least(part, script->split - script->received);
    if (part == 0)
        return script->end == -EAGAIN ? wait_for_nothing(script, deadline_ns)
                                      : script->end;
    memcpy(data, (const char *)script->answer + script->received, part);
    script->received += part;
    if (script->watched && (const char *)data >= script->watched &&
        (const char *)data < script->watched + script->watched_len)
        script->in_place += part;
    return (ssize_t)part;
}

static void take(struct scripted_stream *script, const void *data, size_t len)
{
    script->taken = realloc(script->taken, script->taken_len + len);
    if (!script->taken)
        abort();
    memcpy(script->taken + script->taken_len, data, len);
    script->taken_len += len;
}

static ssize_t script_send(struct stream *stream, const struct iovec *pieces,
                           size_t count, uint64_t deadline_ns)
{
    struct scripted_stream *script = script_of(stream);
    size_t room =
        least(script->takes, script->takes_in_all - script->taken_len);
    size_t sent = 0;

    script->sends++;
    if (room == 0)
        return script->send_error == -EAGAIN
                   ? wait_for_nothing(script, deadline_ns)
                   : script->send_error;
    for (size_t i = 0; i < count && sent < room; i++) {
        size_t part = least(pieces[i].iov_len, room - sent);

        if (part > 0)
            take(script, pieces[i].iov_base, part);
        sent += part;
    }
    return (ssize_t)sent;
}

static int script_finish(struct stream *stream, uint64_t deadline_ns)
{
    (void)stream;
    (void)deadline_ns;
    return 0;
}

static void script_close(struct stream *stream)
{
    (void)stream;
}

static const struct stream_functions script_functions = {
    .receive = script_receive,
    .send = script_send,
    .finish = script_finish,
    .close = script_close,
};

void scripted_stream_init(struct scripted_stream *script)
{
    *script = (struct scripted_stream){
        .stream = {.functions = &script_functions,
                   /* To poll, something that is always ready. */
                   .fd = eventfd(1, EFD_CLOEXEC)},
        .answer = "",
        .piece = SIZE_MAX,
        .takes = SIZE_MAX,
        .takes_in_all = SIZE_MAX,
    };
    if (script->stream.fd < 0)
        abort();
    set_clock(script, SCRIPTED_STREAM_BEGIN_NS);
}

void scripted_stream_done(struct scripted_stream *script)
{
    (void)close(script->stream.fd);
    free(script->taken);
    script->taken = NULL;
    clock_set_for_tests(0);
}
