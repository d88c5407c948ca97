/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http_chunks - what is between the data of a chunked body (pure).
 *
 * http_chunks_feed eats the framing up to the next data; these the caller
 * takes from wherever they are, so that they need not be copied.  Extensions
 * and trailers are passed over, within HTTP_CHUNKS_EXTRA_MAX bytes for the
 * whole body.
 */
#ifndef S3_HTTP_CHUNKS_H
#define S3_HTTP_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { HTTP_CHUNKS_EXTRA_MAX = 64 << 10 };

/* Where in a body the reader is; zero to begin. */
struct http_chunks {
    bool is_done;  /* the body has ended */
    uint64_t left; /* data that come now, before any framing */

    /* internal */
    unsigned state, digits;
    uint64_t size;
    size_t extra;
};

/*
 * Eat framing from the bytes, until data come (left > 0), the body has ended
 * (is_done), or all len bytes are eaten.  Returns how many were; -EPROTO:
 * this is no chunked body; -EMSGSIZE: too much beside the data.
 */
ssize_t http_chunks_feed(struct http_chunks *chunks, const char *bytes,
                         size_t len);

/* Tell that len bytes of the data, at most left, were taken. */
void http_chunks_take(struct http_chunks *chunks, uint64_t len);

#endif
