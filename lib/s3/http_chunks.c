/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/http_chunks.h"

#include <assert.h>
#include <errno.h>

/*
 * The framing, byte by byte; data are between SIZE_LF and DATA_CR.
 *
 *     SIZE*  [PADDING* | EXTENSION*]  CR  LF  data  CR LF   and so on; size 0:
 *     "0" CR LF  TRAILER_START [TRAILER* CR LF]*  CR LF
 */
enum state {
    SIZE, /* digits */
    PADDING,
    EXTENSION,
    SIZE_LF,
    DATA_CR,
    DATA_LF,
    TRAILER_START, /* of a line */
    TRAILER,
    TRAILER_LF,
    END_LF
};

/* 15 hexadecimal digits cannot overflow, whatever they are. */
enum { DIGITS_MAX = 15 };

/* Returns the value of a hexadecimal digit, or -1. */
static int digit_of(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F')
        return byte - 'A' + 10;
    return -1;
}

/* A byte of a line that is passed over: text, and not too much of it. */
static int pass_over(struct http_chunks *chunks, char byte)
{
    if (((unsigned char)byte < ' ' && byte != '\t') || byte == 127)
        return -EPROTO;
    return ++chunks->extra > HTTP_CHUNKS_EXTRA_MAX ? -EMSGSIZE : 0;
}

/* Expect this byte, and go on with that state. */
static int expect(struct http_chunks *chunks, char byte, char expected,
                  enum state next)
{
    if (byte != expected)
        return -EPROTO;
    chunks->state = next;
    return 0;
}

/* The line of a size has ended: data follow, or the trailers. */
static int end_size(struct http_chunks *chunks, char byte)
{
    int error =
        expect(chunks, byte, '\n', chunks->size > 0 ? DATA_CR : TRAILER_START);

    if (error < 0)
        return error;
    chunks->left = chunks->size;
    chunks->size = 0;
    chunks->digits = 0;
    return 0;
}

static int feed_size(struct http_chunks *chunks, char byte)
{
    int digit = digit_of(byte);

    if (digit >= 0) {
        if (++chunks->digits > DIGITS_MAX)
            return -EPROTO;
        chunks->size = chunks->size << 4 | (unsigned)digit;
        return 0;
    }
    if (chunks->digits == 0)
        return -EPROTO;
    chunks->state = byte == '\r' ? SIZE_LF : byte == ';' ? EXTENSION : PADDING;
    if (byte == '\r')
        return 0;
    return byte == ';' || byte == ' ' || byte == '\t' ? pass_over(chunks, byte)
                                                      : -EPROTO;
}

/* Between the digits and an extension, or the end of the line. */
static int feed_padding(struct http_chunks *chunks, char byte)
{
    if (byte == '\r') {
        chunks->state = SIZE_LF;
        return 0;
    }
    if (byte == ';')
        chunks->state = EXTENSION;
    else if (byte != ' ' && byte != '\t')
        return -EPROTO;
    return pass_over(chunks, byte);
}

/* In a line that only its end matters of. */
static int feed_text(struct http_chunks *chunks, char byte, enum state at_end)
{
    if (byte != '\r')
        return pass_over(chunks, byte);
    chunks->state = at_end;
    return 0;
}

static int feed_byte(struct http_chunks *chunks, char byte)
{
    switch ((enum state)chunks->state) {
    case SIZE:
        return feed_size(chunks, byte);
    case PADDING:
        return feed_padding(chunks, byte);
    case EXTENSION:
        return feed_text(chunks, byte, SIZE_LF);
    case SIZE_LF:
        return end_size(chunks, byte);
    case DATA_CR:
        return expect(chunks, byte, '\r', DATA_LF);
    case DATA_LF:
        return expect(chunks, byte, '\n', SIZE);
    case TRAILER_START:
        if (byte == '\r') {
            chunks->state = END_LF;
            return 0;
        }
        chunks->state = TRAILER;
        return pass_over(chunks, byte);
    case TRAILER:
        return feed_text(chunks, byte, TRAILER_LF);
    case TRAILER_LF:
        return expect(chunks, byte, '\n', TRAILER_START);
    case END_LF:
        chunks->is_done = byte == '\n';
        return chunks->is_done ? 0 : -EPROTO;
    }
    return -EPROTO;
}

ssize_t http_chunks_feed(struct http_chunks *chunks, const char *bytes,
                         size_t len)
{
    size_t eaten = 0;

    while (eaten < len && chunks->left == 0 && !chunks->is_done) {
        int error = feed_byte(chunks, bytes[eaten]);

        if (error < 0)
            return error;
        eaten++;
    }
    return (ssize_t)eaten;
}

void http_chunks_take(struct http_chunks *chunks, uint64_t len)
{
    assert(len <= chunks->left);
    chunks->left -= len;
}
