/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which line continues another is told by how deep it stands, as by Python's
 * configparser, which the first of the programs that wrote such files uses:
 * so a section may be indented as a whole.
 */
#include "s3/credentials_file.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* What a value means: where it goes. */
static const struct {
    const char *name;
    size_t offset;
} settings[] = {
#define SETTING(name, field)                                                   \
    {                                                                          \
        name, offsetof(struct credentials_profile, field)                      \
    }
    SETTING("aws_access_key_id", access_key),
    SETTING("aws_secret_access_key", secret_key),
    SETTING("aws_session_token", session_token),
    SETTING("region", region),
    SETTING("role_arn", role_arn),
    SETTING("role_session_name", role_session_name),
    SETTING("web_identity_token_file", token_file),
#undef SETTING
};

/* Lines that make somebody else sign, by the beginning of their names. */
static const char *const foreign_names[] = {
    "source_profile", "credential_source", "credential_process",
    "sso_",           "login_session",
};

enum { SETTINGS_COUNT = sizeof(settings) / sizeof(settings[0]) };

struct parser {
    enum credentials_file_kind kind;
    struct credentials_text wanted; /* the profile's name */
    struct credentials_profile *profile;
    bool is_inside;           /* in a section of the profile */
    bool is_before;           /* no section has begun */
    bool is_long_default;     /* "[profile default]" was seen */
    bool has_name;            /* some line before may be continued: */
    size_t depth;             /* blanks in front of its name */
    bool is_value_of_ours;    /* it is one of settings[], and is_inside */
    const char *line_mistake; /* what is wrong with this line */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct credentials_text trimmed(struct credentials_text text)
{
    while (text.len > 0 && is_blank(text.bytes[0])) {
        text.bytes++;
        text.len--;
    }
    while (text.len > 0 && is_blank(text.bytes[text.len - 1]))
        text.len--;
    return text;
}

/* Returns the text without what stands behind a blank and "#" or ";". */
static struct credentials_text without_comment(struct credentials_text text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((text.bytes[i] == '#' || text.bytes[i] == ';') &&
            (i == 0 || is_blank(text.bytes[i - 1]))) {
            text.len = i;
            break;
        }
    }
    return trimmed(text);
}

static bool is_equal(struct credentials_text text,
                     struct credentials_text other)
{
    return text.len == other.len &&
           memcmp(text.bytes, other.bytes, text.len) == 0;
}

static bool begins_with(struct credentials_text text, const char *start)
{
    size_t len = strlen(start);

    return text.len >= len && strncasecmp(text.bytes, start, len) == 0;
}

/* If the name is "profile" and blanks and more, leave the more. */
static bool take_profile(struct credentials_text *name)
{
    const size_t len = strlen("profile");

    if (name->len <= len || memcmp(name->bytes, "profile", len) != 0 ||
        !is_blank(name->bytes[len]))
        return false;
    *name =
        trimmed((struct credentials_text){name->bytes + len, name->len - len});
    return true;
}

/* Whether a section of this name is of the wanted profile. */
static bool section_is_wanted(struct parser *parser,
                              struct credentials_text name)
{
    static const struct credentials_text is_default = {"default", 7};
    bool is_profile = take_profile(&name);

    if (parser->kind != CREDENTIALS_FILE_CONFIG)
        return !is_profile && is_equal(name, parser->wanted);
    if (!is_equal(name, parser->wanted))
        return false;
    if (!is_equal(name, is_default))
        return is_profile;
    /* Of the two ways to write it, the long one counts alone. */
    if (is_profile && !parser->is_long_default) {
        parser->is_long_default = true;
        *parser->profile = (struct credentials_profile){.is_there = true};
    }
    return is_profile == parser->is_long_default;
}

/* A line that begins with "[". */
static void parse_section(struct parser *parser, struct credentials_text line)
{
    const char *end = memchr(line.bytes, ']', line.len);
    struct credentials_text name, rest;

    if (!end) {
        parser->line_mistake = "has \"[\" without \"]\"";
        return;
    }
    name.bytes = line.bytes + 1;
    name.len = (size_t)(end - name.bytes);
    rest.bytes = end + 1;
    rest.len = line.len - name.len - 2;
    if (rest.len > 0 && rest.bytes[0] != '#' && rest.bytes[0] != ';' &&
        without_comment(rest).len > 0) {
        parser->line_mistake = "has something behind \"]\"";
        return;
    }
    parser->is_before = false;
    parser->has_name = false;
    parser->is_inside = section_is_wanted(parser, trimmed(name));
    if (parser->is_inside)
        parser->profile->is_there = true;
}

/* Returns where the value of that name goes, or NULL. */
static struct credentials_text *place_of(struct credentials_profile *profile,
                                         struct credentials_text name)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        if (name.len == strlen(settings[i].name) &&
            begins_with(name, settings[i].name))
            return (struct credentials_text *)(void *)((char *)profile +
                                                       settings[i].offset);
    }
    for (size_t i = 0; i < sizeof(foreign_names) / sizeof(foreign_names[0]);
         i++) {
        if (begins_with(name, foreign_names[i])) {
            profile->foreign = name;
            break;
        }
    }
    return NULL;
}

/* A line "name = value". */
static void parse_setting(struct parser *parser, struct credentials_text line,
                          size_t depth)
{
    const char *equals = memchr(line.bytes, '=', line.len);
    struct credentials_text name, value, *place;

    if (!equals || equals == line.bytes) {
        parser->line_mistake = "is not \"name = value\"";
        return;
    }
    name.bytes = line.bytes;
    name.len = (size_t)(equals - line.bytes);
    value.bytes = equals + 1;
    value.len = line.len - name.len - 1;
    value = without_comment(value);
    parser->has_name = true;
    parser->depth = depth;
    parser->is_value_of_ours = false;
    if (parser->is_before) {
        if (parser->kind != CREDENTIALS_FILE_OWN) {
            parser->line_mistake = "stands in front of the first section";
            return;
        }
        parser->is_inside =
            is_equal(parser->wanted, (struct credentials_text){"default", 7});
        parser->profile->is_there |= parser->is_inside;
    }
    if (!parser->is_inside)
        return;
    place = place_of(parser->profile, trimmed(name));
    if (!place)
        return;
    parser->is_value_of_ours = true;
    *place = value;
    if (value.len > 0 && (value.bytes[0] == '"' || value.bytes[0] == '\''))
        parser->line_mistake = "has a value in quotes; leave them out";
}

static void parse_line(struct parser *parser, struct credentials_text line)
{
    size_t depth = 0;

    while (depth < line.len && is_blank(line.bytes[depth]))
        depth++;
    line = trimmed(line);
    parser->line_mistake = NULL;
    if (memchr(line.bytes, '\0', line.len)) {
        parser->line_mistake = "has a zero byte";
    } else if (line.len == 0 || line.bytes[0] == '#' || line.bytes[0] == ';') {
        return;
    } else if (parser->has_name && depth > parser->depth) {
        if (parser->is_value_of_ours)
            parser->line_mistake =
                "stands deeper than the line before, whose value it continues";
    } else if (line.bytes[0] == '[') {
        parse_section(parser, line);
    } else {
        parse_setting(parser, line, depth);
    }
}

int credentials_file_parse(const char *text, size_t len,
                           enum credentials_file_kind kind, const char *profile,
                           struct credentials_profile *ret_profile,
                           struct credentials_file_mistake *ret_mistake)
{
    struct credentials_profile found = {0};
    struct parser parser = {
        .kind = kind,
        .wanted = {profile, strlen(profile)},
        .profile = &found,
        .is_before = true,
    };
    const char *end = text + len;

    for (unsigned number = 1; text < end; number++) {
        const char *next = memchr(text, '\n', (size_t)(end - text));
        struct credentials_text line = {text,
                                        (size_t)((next ? next : end) - text)};

        if (line.len > 0 && line.bytes[line.len - 1] == '\r')
            line.len--;
        parse_line(&parser, line);
        if (parser.line_mistake) {
            *ret_mistake =
                (struct credentials_file_mistake){number, parser.line_mistake};
            return -EINVAL;
        }
        text = next ? next + 1 : end;
    }
    *ret_profile = found;
    return 0;
}
