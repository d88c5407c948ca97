/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Goes through the text once, without recursion: what is open is a stack of
 * brackets, and between tokens only the state says what may come.
 */
#include "base/json_check.h"

#include <string.h>

#include "base/utf8.h"

enum state {
    VALUE,         /* a value must come */
    VALUE_OR_END,  /* at the start of a list */
    MEMBER,        /* a name must come */
    MEMBER_OR_END, /* at the start of an object */
    COLON,
    MORE_OR_END, /* after a value */
    DONE,
};

struct reader {
    const char *at, *end;
    char open[JSON_CHECK_DEPTH]; /* '{' or '[' */
    size_t depth;
    enum state state;
};

static bool take(struct reader *reader, char c)
{
    if (reader->at == reader->end || *reader->at != c)
        return false;
    reader->at++;
    return true;
}

static bool is_digit(const struct reader *reader)
{
    return reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9';
}

static bool skip_digits(struct reader *reader)
{
    if (!is_digit(reader))
        return false;
    while (is_digit(reader))
        reader->at++;
    return true;
}

static bool skip_number(struct reader *reader)
{
    (void)take(reader, '-');
    if (!take(reader, '0') && !skip_digits(reader))
        return false;
    if (take(reader, '.') && !skip_digits(reader))
        return false;
    if (!take(reader, 'e') && !take(reader, 'E'))
        return true;
    if (!take(reader, '+'))
        (void)take(reader, '-');
    return skip_digits(reader);
}

/* One of these. */
static bool take_one_of(struct reader *reader, const char *bytes)
{
    if (reader->at == reader->end || !memchr(bytes, *reader->at, strlen(bytes)))
        return false;
    reader->at++;
    return true;
}

/* What follows a backslash. */
static bool skip_escape(struct reader *reader)
{
    if (!take(reader, 'u'))
        return take_one_of(reader, "\"\\/bfnrt");
    for (int i = 0; i < 4; i++) {
        if (!take_one_of(reader, "0123456789abcdefABCDEF"))
            return false;
    }
    return true;
}

/* A character that no terminal obeys, ASCII or not. */
static bool skip_character(struct reader *reader)
{
    size_t len =
        utf8_visible_len(reader->at, (size_t)(reader->end - reader->at));

    reader->at += len;
    return len > 0;
}

static bool skip_string(struct reader *reader)
{
    if (!take(reader, '"'))
        return false;
    while (reader->at < reader->end && *reader->at != '"') {
        if (take(reader, '\\') ? !skip_escape(reader) : !skip_character(reader))
            return false;
    }
    return take(reader, '"');
}

static bool skip_word(struct reader *reader, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(reader->end - reader->at) < len ||
        memcmp(reader->at, word, len) != 0)
        return false;
    reader->at += len;
    return true;
}

static bool open_bracket(struct reader *reader, char bracket)
{
    if (reader->depth == JSON_CHECK_DEPTH)
        return false;
    reader->open[reader->depth++] = bracket;
    reader->state = bracket == '{' ? MEMBER_OR_END : VALUE_OR_END;
    return true;
}

static void after_value(struct reader *reader)
{
    reader->state = reader->depth > 0 ? MORE_OR_END : DONE;
}

static bool read_value(struct reader *reader)
{
    if (take(reader, '{'))
        return open_bracket(reader, '{');
    if (take(reader, '['))
        return open_bracket(reader, '[');
    after_value(reader);
    switch (reader->at == reader->end ? '\0' : *reader->at) {
    case '"':
        return skip_string(reader);
    case 't':
        return skip_word(reader, "true");
    case 'f':
        return skip_word(reader, "false");
    case 'n':
        return skip_word(reader, "null");
    default:
        return skip_number(reader);
    }
}

/* The end of what was opened last; false if it is something else. */
static bool close_bracket(struct reader *reader)
{
    char open = reader->open[reader->depth - 1];

    if (!take(reader, open == '{' ? '}' : ']'))
        return false;
    reader->depth--;
    after_value(reader);
    return true;
}

static bool read_member(struct reader *reader)
{
    reader->state = COLON;
    return skip_string(reader);
}

static bool read_more(struct reader *reader)
{
    if (!take(reader, ','))
        return close_bracket(reader);
    reader->state = reader->open[reader->depth - 1] == '{' ? MEMBER : VALUE;
    return true;
}

/* Read the next token; false if it may not be there. */
static bool read_token(struct reader *reader)
{
    switch (reader->state) {
    case VALUE:
        return read_value(reader);
    case VALUE_OR_END:
        return close_bracket(reader) || read_value(reader);
    case MEMBER:
        return read_member(reader);
    case MEMBER_OR_END:
        return close_bracket(reader) || read_member(reader);
    case COLON:
        reader->state = VALUE;
        return take(reader, ':');
    case MORE_OR_END:
        return read_more(reader);
    case DONE:
        break;
    }
    return false;
}

bool json_check_object(const char *text, size_t len)
{
    struct reader reader = {.at = text, .end = text + len, .state = VALUE};

    if (len == 0 || text[0] != '{')
        return false;
    while (reader.state != DONE) {
        while (take(&reader, ' '))
            ;
        if (!read_token(&reader))
            return false;
    }
    return reader.at == reader.end;
}
