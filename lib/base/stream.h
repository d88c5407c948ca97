/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stream - bytes with a deadline: a plain socket, or TLS over one, behind one
 * struct of functions.
 *
 * Used by servers and clients alike.  A deadline is a moment of
 * clock_monotonic_ns(), or one of STREAM_NOW, _SOON and _FOREVER.  Over TLS the
 * socket may have nothing to read while the stream has: poll it only after a
 * receive returned -EAGAIN.
 *
 * Threads: one receives, and one sends, at a time; over TLS both must be the
 * same thread (stream->one_thread).  stream_shutdown may be called by any.
 */
#ifndef BASE_STREAM_H
#define BASE_STREAM_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define STREAM_NOW     0U         /* do not wait: -EAGAIN instead */
#define STREAM_FOREVER UINT64_MAX /* wait without a deadline */
/*
 * To receive, and no longer than STREAM_SOON_MS: -EAGAIN then.  Of a plain
 * stream that is one system call, whether it waits or not; over TLS nothing is
 * waited for.
 */
#define STREAM_SOON (UINT64_MAX - 1)

enum {
    STREAM_IOV_MAX = 256, /* pieces that one send looks at */
    STREAM_SOON_MS = 20,
};

struct stream;

/* What a kind of stream does; callers use the functions below. */
struct stream_functions {
    ssize_t (*receive)(struct stream *stream, void *data, size_t len,
                       uint64_t deadline_ns);
    ssize_t (*send)(struct stream *stream, const struct iovec *pieces,
                    size_t count, uint64_t deadline_ns);
    int (*finish)(struct stream *stream, uint64_t deadline_ns);
    void (*close)(struct stream *stream);
};

/* Embedded as the first member by each kind of stream. */
struct stream {
    const struct stream_functions *functions;
    int fd;          /* to poll; it belongs to the stream */
    bool one_thread; /* who receives must also be who sends */
    bool is_timed;   /* the socket itself waits no longer than STREAM_SOON */
};

/*
 * Make a plain stream of a connected socket (or a socket pair's end), which
 * belongs to the stream from now on, also when -ENOMEM is returned.
 */
int stream_open(int fd, struct stream **ret_stream);

/*
 * Receive at least one byte, up to len (not 0).  Returns how many; 0 when the
 * peer sends no more; -EAGAIN (STREAM_NOW, _SOON) or -ETIMEDOUT when nothing
 * came; -ECONNRESET and others when the connection is lost.
 */
ssize_t stream_receive(struct stream *stream, void *data, size_t len,
                       uint64_t deadline_ns);

/* Receive exactly len bytes; -EPIPE if the peer ends before that. */
int stream_receive_all(struct stream *stream, void *data, size_t len,
                       uint64_t deadline_ns);

/*
 * Send from the pieces, in order; looks at the first STREAM_IOV_MAX of them.
 * Returns how many bytes went out, at least one; -EAGAIN or -ETIMEDOUT when
 * none did; -EPIPE and others when the connection is lost.  After less than
 * all went out, the next send must begin with the bytes that follow.
 */
ssize_t stream_send(struct stream *stream, const struct iovec *pieces,
                    size_t count, uint64_t deadline_ns);

/* Send all len bytes, or fail; then an unknown part of them was sent. */
int stream_send_all(struct stream *stream, const void *data, size_t len,
                    uint64_t deadline_ns);

/*
 * Tell the peer that nothing more will be sent, by TLS's own words and by
 * shutdown(2).  0, or why the peer may not have heard it.
 */
int stream_finish(struct stream *stream, uint64_t deadline_ns);

/* End all waiting in the stream, from any thread: it stays open, and dead. */
void stream_shutdown(struct stream *stream);

/* Close the socket at once and free the stream; NULL does nothing. */
void stream_close(struct stream *stream);

/*
 * Wait until one of the descriptors is ready (see poll(2), which fills in the
 * revents).  0, or -ETIMEDOUT past the deadline; STREAM_NOW only asks
 * (-EAGAIN).
 */
int stream_wait_fds(struct pollfd polled[], size_t count, uint64_t deadline_ns);

/* The same for one descriptor and these events. */
int stream_wait_fd(int fd, short events, uint64_t deadline_ns);

#endif
