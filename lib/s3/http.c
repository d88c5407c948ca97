/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/http.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/number.h"

/* Bytes of a status line before the reason: "HTTP/1.1 200". */
enum { STATUS_LEN = 12 };

static const char version_start[] = "HTTP/1.";

/* What a method or a field may be called: RFC 9110, 5.6.2, "token". */
static bool is_token_byte(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
           (byte >= 'A' && byte <= 'Z') ||
           (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool is_token(const char *text)
{
    const char *at = text;

    while (is_token_byte(*at))
        at++;
    return at > text && *at == '\0';
}

/* Control characters are in no part of a head; bytes from 128 on may be. */
static bool is_control(char byte)
{
    return (unsigned char)byte < ' ' || byte == 127;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* ---- requests ----------------------------------------------------------- */

static void put(struct http_composer *composer, const char *text)
{
    size_t len = strlen(text);

    if (composer->error < 0)
        return;
    if (len > composer->size - composer->len) {
        composer->error = -EMSGSIZE;
        return;
    }
    memcpy(composer->bytes + composer->len, text, len);
    composer->len += len;
}

/* Have the composer fail unless all of text is ASCII from the byte low on. */
static void require_text(struct http_composer *composer, const char *text,
                         unsigned char low)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < low || (unsigned char)*text > '~')
            composer->error = -EINVAL;
    }
}

void http_compose(struct http_composer *composer, char *bytes, size_t size,
                  const char *method, const char *target)
{
    *composer = (struct http_composer){.bytes = bytes, .size = size};
    if (!is_token(method) || target[0] != '/')
        composer->error = -EINVAL;
    require_text(composer, target, '!');
    put(composer, method);
    put(composer, " ");
    put(composer, target);
    put(composer, " HTTP/1.1\r\n");
}

void http_compose_field(struct http_composer *composer, const char *name,
                        const char *value)
{
    if (!is_token(name))
        composer->error = -EINVAL;
    require_text(composer, value, ' ');
    put(composer, name);
    put(composer, ": ");
    put(composer, value);
    put(composer, "\r\n");
}

void http_compose_number(struct http_composer *composer, const char *name,
                         uint64_t value)
{
    char digits[24];

    (void)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
    http_compose_field(composer, name, digits);
}

ssize_t http_compose_end(struct http_composer *composer)
{
    put(composer, "\r\n");
    return composer->error < 0 ? composer->error : (ssize_t)composer->len;
}

/* ---- where a head ends -------------------------------------------------- */

/* Whether the first bytes, as far as they are there, begin an answer. */
static bool may_be_answer(const char *bytes, size_t len)
{
    size_t part = sizeof(version_start) - 1;

    return memcmp(bytes, version_start, len < part ? len : part) == 0;
}

ssize_t http_head_search(struct http_search *search, const char *bytes,
                         size_t len)
{
    const char *end;

    if (!may_be_answer(bytes, len))
        return -EPROTO;
    while ((end = memchr(bytes + search->seen, '\n', len - search->seen))) {
        size_t after = (size_t)(end - bytes) + 1;
        size_t line_len = after - search->line;

        if (line_len < 2 || end[-1] != '\r')
            return -EPROTO;
        if (line_len > HTTP_LINE_MAX || after > HTTP_HEAD_MAX)
            return -EMSGSIZE;
        search->line = search->seen = after;
        if (line_len == 2)
            return (ssize_t)after;
        /* The first line is that of the status. */
        if (++search->lines > 1 + HTTP_FIELDS_MAX)
            return -EMSGSIZE;
    }
    search->seen = len;
    return len - search->line >= HTTP_LINE_MAX || len >= HTTP_HEAD_MAX
               ? -EMSGSIZE
               : 0;
}

/* ---- the head of an answer ---------------------------------------------- */

/*
 * Give the line that begins at bytes an end mark in place of its CR LF; end
 * is behind the head.  Returns the line after it, or NULL: not a line.
 */
static char *take_line(char *bytes, const char *end)
{
    char *line_end = memchr(bytes, '\n', (size_t)(end - bytes));

    if (!line_end || line_end == bytes || line_end[-1] != '\r')
        return NULL;
    line_end[-1] = '\0';
    for (const char *at = bytes; at < line_end - 1; at++) {
        if (is_control(*at) && *at != '\t')
            return NULL;
    }
    return line_end + 1;
}

/* Parse "HTTP/1.1 200 Reason"; the reason may be anything, or not be. */
static int parse_status(const char *line, struct http_head *head,
                        bool *ret_is_1_1)
{
    char digits[4];
    uint64_t status;

    if (strlen(line) < STATUS_LEN || !may_be_answer(line, STATUS_LEN) ||
        (line[7] != '0' && line[7] != '1') || line[8] != ' ' ||
        (line[STATUS_LEN] != '\0' && line[STATUS_LEN] != ' '))
        return -EPROTO;
    memcpy(digits, line + 9, 3);
    digits[3] = '\0';
    if (number_parse(digits, 100, 599, &status) < 0)
        return -EPROTO;
    head->status = (unsigned)status;
    *ret_is_1_1 = line[7] == '1';
    return 0;
}

/* Parse "Name: value".  A line that continues another begins with a blank,
 * which is no name. */
static int parse_field(char *line, struct http_field *field)
{
    char *colon = strchr(line, ':');
    char *value, *end;

    if (!colon)
        return -EPROTO;
    *colon = '\0';
    if (!is_token(line))
        return -EPROTO;
    for (value = colon + 1; is_blank(*value); value++)
        ;
    for (end = value + strlen(value); end > value && is_blank(end[-1]); end--)
        ;
    *end = '\0';
    field->name = line;
    field->value = value;
    return 0;
}

/*
 * Copy the next part of a list, "a, b ,c", to item; a part that has no room
 * there becomes "", which nobody looks for.  Returns what follows, or NULL at
 * the end.
 */
static const char *next_item(const char *list, char *item, size_t size)
{
    const char *end;
    size_t len;

    if (!list || *list == '\0')
        return NULL;
    while (is_blank(*list))
        list++;
    end = strchrnul(list, ',');
    for (len = (size_t)(end - list); len > 0 && is_blank(list[len - 1]); len--)
        ;
    if (len >= size)
        len = 0;
    memcpy(item, list, len);
    item[len] = '\0';
    return *end == ',' ? end + 1 : end;
}

/* Take a Content-Length: digits, and if they are told again, the same. */
static int take_length(struct http_head *head, const char *value)
{
    char item[24];
    const char *rest = value;

    if (*value == '\0')
        return -EPROTO;
    while ((rest = next_item(rest, item, sizeof(item)))) {
        uint64_t length;

        if (number_parse(item, 0, INT64_MAX, &length) < 0 ||
            (head->has_length && head->length != length))
            return -EPROTO;
        head->has_length = true;
        head->length = length;
    }
    return 0;
}

static bool list_has(const char *list, const char *wanted)
{
    char item[16];

    while ((list = next_item(list, item, sizeof(item)))) {
        if (strcasecmp(item, wanted) == 0)
            return true;
    }
    return false;
}

/* Take from the fields what decides over body and connection. */
static int read_fields(struct http_head *head, bool *ret_is_chunked)
{
    *ret_is_chunked = false;
    for (size_t i = 0; i < head->fields_count; i++) {
        const struct http_field *field = &head->fields[i];
        int error = 0;

        if (strcasecmp(field->name, "Content-Length") == 0) {
            error = take_length(head, field->value);
        } else if (strcasecmp(field->name, "Transfer-Encoding") == 0) {
            /* Once, and no other coding: nobody asked for one. */
            if (*ret_is_chunked || strcasecmp(field->value, "chunked") != 0)
                error = -EPROTO;
            *ret_is_chunked = true;
        } else if (strcasecmp(field->name, "Connection") == 0) {
            if (list_has(field->value, "close"))
                head->is_persistent = false;
        } else if (strcasecmp(field->name, "Content-Encoding") == 0) {
            head->is_encoded = true;
        }
        if (error < 0)
            return error;
    }
    return 0;
}

/* Decide how the body is framed, in the order of RFC 9112, 6.3. */
static int decide_framing(struct http_head *head, bool is_chunked,
                          bool is_answer_to_head, bool is_1_1)
{
    if (is_chunked && (head->has_length || !is_1_1))
        return -EPROTO;
    if (is_answer_to_head || head->status == 304) {
        head->framing = HTTP_NO_BODY;
    } else if (head->status < 200 || head->status == 204) {
        head->framing = HTTP_NO_BODY;
        /* A body was announced that must not be: it may come all the same. */
        if (is_chunked || (head->has_length && head->length > 0))
            head->is_persistent = false;
    } else if (is_chunked) {
        head->framing = HTTP_CHUNKED;
    } else if (head->has_length) {
        head->framing = HTTP_LENGTH;
    } else {
        head->framing = HTTP_UNTIL_CLOSE;
        head->is_persistent = false;
    }
    return 0;
}

int http_head_parse(char *bytes, size_t len, bool is_answer_to_head,
                    struct http_head *ret_head)
{
    struct http_head *head = ret_head;
    const char *end = bytes + len;
    bool is_1_1, is_chunked;
    char *line = bytes, *next;
    int error;

    *head = (struct http_head){.framing = HTTP_NO_BODY};
    if (len > HTTP_HEAD_MAX)
        return -EMSGSIZE;
    next = take_line(line, end);
    if (!next || parse_status(line, head, &is_1_1) < 0)
        return -EPROTO;
    head->is_persistent = is_1_1;
    for (;;) {
        line = next;
        next = take_line(line, end);
        if (!next)
            return -EPROTO;
        if (*line == '\0')
            break;
        if (head->fields_count == HTTP_FIELDS_MAX ||
            next - line > HTTP_LINE_MAX)
            return -EMSGSIZE;
        error = parse_field(line, &head->fields[head->fields_count]);
        if (error < 0)
            return error;
        head->fields_count++;
    }
    if (next != end)
        return -EPROTO;
    error = read_fields(head, &is_chunked);
    if (error < 0)
        return error;
    return decide_framing(head, is_chunked, is_answer_to_head, is_1_1);
}

const char *http_head_get(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->fields_count; i++) {
        if (strcasecmp(head->fields[i].name, name) == 0)
            return head->fields[i].value;
    }
    return NULL;
}

/* ---- ranges ------------------------------------------------------------- */

/* Parse the digits from *at up to the byte end, and step over that. */
static int take_number(const char **at, char end, uint64_t *ret_value)
{
    char digits[24];
    const char *stop = strchr(*at, end);
    size_t len;

    if (!stop)
        return -EPROTO;
    len = (size_t)(stop - *at);
    if (len >= sizeof(digits))
        return -EPROTO;
    memcpy(digits, *at, len);
    digits[len] = '\0';
    if (number_parse(digits, 0, UINT64_MAX, ret_value) < 0)
        return -EPROTO;
    *at = stop + (end != '\0');
    return 0;
}

int http_range_parse(const char *value, struct http_range *ret_range)
{
    static const char unit[] = "bytes ";
    struct http_range range = {.has_total = true};
    const char *at = value + sizeof(unit) - 1;

    if (strncasecmp(value, unit, sizeof(unit) - 1) != 0 ||
        take_number(&at, '-', &range.first) < 0 ||
        take_number(&at, '/', &range.last) < 0)
        return -EPROTO;
    if (strcmp(at, "*") == 0)
        range.has_total = false;
    else if (take_number(&at, '\0', &range.total) < 0)
        return -EPROTO;
    if (range.first > range.last ||
        (range.has_total && range.last >= range.total))
        return -EPROTO;
    *ret_range = range;
    return 0;
}
