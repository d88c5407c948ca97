/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http - HTTP/1.1 as a client needs it: the head of a request to bytes, bytes
 * to the head of an answer, and how the body that follows is framed.
 *
 * Pure; http_exchange.c moves the bytes, http_chunks.c reads a chunked body.
 * Strict (RFC 9112): an answer that two readers might understand differently
 * is refused, because the next answer on the connection would be a guess.
 * Lines end with CR LF and nothing else, fields are not folded, lengths agree.
 */
#ifndef S3_HTTP_H
#define S3_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    HTTP_HEAD_MAX = 64 << 10, /* bytes of the head of an answer */
    HTTP_LINE_MAX = 16 << 10, /* of one line in it */
    HTTP_FIELDS_MAX = 100
};

/* ---- requests ----------------------------------------------------------- */

/* The head of a request on its way into a buffer.  Errors stick. */
struct http_composer {
    char *bytes;
    size_t size, len;
    int error;
};

/*
 * Begin with the request line, in a buffer of the caller's.  target is as it
 * goes over the wire: encoded, beginning with a slash.
 */
void http_compose(struct http_composer *composer, char *bytes, size_t size,
                  const char *method, const char *target);

/* Add a field; any byte that is no text of ASCII is an error. */
void http_compose_field(struct http_composer *composer, const char *name,
                        const char *value);

/* Add a field that has a number. */
void http_compose_number(struct http_composer *composer, const char *name,
                         uint64_t value);

/*
 * End the head.  Returns its length; -EINVAL if one of the texts had a byte
 * that may not be there; -EMSGSIZE if the buffer is too small.  The buffer may
 * hold secrets then, too: it is for the caller to wipe.
 */
ssize_t http_compose_end(struct http_composer *composer);

/* ---- answers ------------------------------------------------------------ */

/* How the body after a head ends. */
enum http_framing { HTTP_NO_BODY, HTTP_LENGTH, HTTP_CHUNKED, HTTP_UNTIL_CLOSE };

struct http_field {
    const char *name, *value;
};

/* The head of an answer; its texts lie in the bytes that were parsed. */
struct http_head {
    unsigned status; /* 100 to 599 */
    bool is_persistent;
    bool is_encoded; /* there is a Content-Encoding */
    enum http_framing framing;
    bool has_length;
    uint64_t length; /* if has_length, also of a body that is not sent */
    size_t fields_count;
    struct http_field fields[HTTP_FIELDS_MAX];
};

/* How far bytes were searched for the end of a head; zero to begin. */
struct http_search {
    size_t line; /* where the line begins that is not complete yet */
    size_t seen;
    size_t lines; /* complete ones */
};

/*
 * Look for the end of the head in the first len bytes of what was received,
 * of which the earlier ones are the same as in the call before.  Returns its
 * length, with the empty line; 0: there must be more; -EPROTO: this is no
 * answer, whatever comes; -EMSGSIZE: too long, or too many fields.
 */
ssize_t http_head_search(struct http_search *search, const char *bytes,
                         size_t len);

/*
 * Parse a head of exactly len bytes.  The bytes are changed (names and values
 * get end marks) and must live as long as ret_head is used.  -EPROTO or
 * -EMSGSIZE: see above; the bytes may be changed then, too.
 */
int http_head_parse(char *bytes, size_t len, bool is_answer_to_head,
                    struct http_head *ret_head);

/* Returns the value of the first field of this name, or NULL. */
const char *http_head_get(const struct http_head *head, const char *name);

/* What a Content-Range says: the bytes first to last, of total. */
struct http_range {
    uint64_t first, last;
    bool has_total;
    uint64_t total;
};

/* Parse the value of a Content-Range; -EPROTO: not one, or impossible. */
int http_range_parse(const char *value, struct http_range *ret_range);

#endif
