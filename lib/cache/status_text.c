/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/status_text.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/human.h"
#include "base/json_check.h"
#include "base/json_string.h"
#include "base/number.h"
#include "base/utf8.h"

/* ---- text that grows ---------------------------------------------------- */

struct text {
    FILE *stream;
    char *bytes;
    size_t len;
};

static bool text_begin(struct text *text)
{
    *text = (struct text){NULL, NULL, 0};
    text->stream = open_memstream(&text->bytes, &text->len);
    return text->stream != NULL;
}

/* Returns the bytes, which are the caller's, or NULL without memory. */
static char *text_end(struct text *text)
{
    if (fclose(text->stream) == 0)
        return text->bytes;
    free(text->bytes);
    return NULL;
}

__attribute__((format(printf, 2, 3))) static void add(struct text *text,
                                                      const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vfprintf(text->stream, format, arguments);
    va_end(arguments);
}

/* ---- JSON --------------------------------------------------------------- */

enum kind { TEXT, NUMBER, YES_OR_NO, LIST, ROWS };

static const struct {
    const char *name;
    enum kind kind;
} keys[] = {
    {"device", TEXT},
    {"size", NUMBER},
    {"chunk_size", NUMBER},
    {"state", TEXT},
    {"claim", TEXT},
    {"claim_epoch", NUMBER},
    {"claim_host", TEXT},
    {"writethrough", YES_OR_NO},
    {"conditional_put", YES_OR_NO},
    {"connections", NUMBER},
    {"journal_used", NUMBER},
    {"journal_size", NUMBER},
    {"cache_used", NUMBER},
    {"cache_limit", NUMBER},
    {"disk_total", NUMBER},
    {"disk_available", NUMBER},
    {"room_begin_percent", NUMBER},
    {"room_end_percent", NUMBER},
    {"chunks", NUMBER},
    {"zero_chunks", NUMBER},
    {"remote_chunks", NUMBER},
    {"clean_chunks", NUMBER},
    {"dirty_chunks", NUMBER},
    {"dirty_bytes", NUMBER},
    {"all_chunks", NUMBER},
    {"oldest_unpublished_ns", NUMBER},
    {"behind", YES_OR_NO},
    {"max_age_ns", NUMBER},
    {"image_epoch", NUMBER},
    {"image_time_ns", NUMBER},
    {"checkpoint", TEXT},
    {"checkpoint_time_ns", NUMBER},
    {"checkpoint_chunks", NUMBER},
    {"checkpoint_left", NUMBER},
    {"checkpoint_bytes", NUMBER},
    {"checkpoint_failing", NUMBER},
    {"upload_error", TEXT},
    {"leases", NUMBER},
    {"syncs", ROWS},
    {"uploaded_chunks", NUMBER},
    {"uploaded", NUMBER},
    {"evicted", NUMBER},
    {"fetched", NUMBER},
    {"requests", NUMBER},
    {"parked", NUMBER},
    {"cold_reads", NUMBER},
    {"user_written", NUMBER},
    {"cache_written", NUMBER},
    {"damaged", NUMBER},
    {"alarms", NUMBER},
    {"held", TEXT},
    {"read_requests", NUMBER},
    {"write_requests", NUMBER},
    {"flush_requests", NUMBER},
    {"trim_requests", NUMBER},
    {"zero_requests", NUMBER},
    {"other_requests", NUMBER},
    {"read_bytes", NUMBER},
    {"written_bytes", NUMBER},
    {"errors_io", NUMBER},
    {"errors_space", NUMBER},
    {"errors_refused", NUMBER},
    {"errors_other", NUMBER},
    {"in_flight", NUMBER},
    {"read_ns", NUMBER},
    {"write_ns", NUMBER},
    {"flush_ns", NUMBER},
    {"read_latency", LIST},
    {"write_latency", LIST},
    {"flush_latency", LIST},
};

/* What a row of ROWS consists of. */
static const char *const columns[] = {"number", "since_ns", "leased", "chunks",
                                      "bytes"};
enum { COLUMNS = sizeof(columns) / sizeof(columns[0]) };

/*
 * Read a number as JSON has it, with nothing around it; move behind it.
 * Returns whether it is one.
 */
static bool take_number(const char **text, uint64_t *ret_value)
{
    char digits[21];
    size_t len = strspn(*text, "0123456789");

    if (len == 0 || len >= sizeof(digits))
        return false;
    memcpy(digits, *text, len);
    digits[len] = '\0';
    if (number_parse(digits, 0, UINT64_MAX, ret_value) != 0)
        return false;
    *text += len;
    return true;
}

/* Whether it is numbers with commas between them, or nothing. */
static bool is_list(const char *text)
{
    uint64_t number;

    if (*text == '\0')
        return true;
    while (take_number(&text, &number) && *text == ',')
        text++;
    return *text == '\0' && text[-1] != ',';
}

/* "1,2,3" as [1, 2, 3]. */
static void write_list(FILE *stream, const char *text)
{
    uint64_t number;

    if (!is_list(text)) {
        (void)fputs("null", stream);
        return;
    }
    (void)fputc('[', stream);
    while (take_number(&text, &number)) {
        (void)fprintf(stream, "%" PRIu64 "%s", number,
                      *text == ',' ? ", " : "");
        text += *text == ',';
    }
    (void)fputc(']', stream);
}

/* Read a row, "1:2:3:4:5", and what ends it; move behind it. */
static bool take_row(const char **text, uint64_t row[COLUMNS])
{
    for (size_t i = 0; i < COLUMNS; i++) {
        char end = i < COLUMNS - 1 ? ':' : ',';

        if (!take_number(text, &row[i]))
            return false;
        if (**text == end)
            (*text)++;
        else if (end == ':' || **text != '\0')
            return false;
    }
    return true;
}

static void write_row(FILE *stream, const uint64_t row[COLUMNS])
{
    for (size_t i = 0; i < COLUMNS; i++)
        (void)fprintf(stream, "%s\"%s\": %" PRIu64, i == 0 ? "{" : ", ",
                      columns[i], row[i]);
    (void)fputc('}', stream);
}

/* Rows as a list of objects, up to the first that is none. */
static void write_rows(FILE *stream, const char *text)
{
    const char *separator = "";
    uint64_t row[COLUMNS];

    (void)fputc('[', stream);
    while (*text != '\0' && take_row(&text, row)) {
        (void)fputs(separator, stream);
        write_row(stream, row);
        separator = ", ";
    }
    (void)fputc(']', stream);
}

static void write_number(FILE *stream, const char *value)
{
    uint64_t number;

    if (number_parse(value, 0, UINT64_MAX, &number) != 0)
        (void)fputs_unlocked("null", stream);
    else if (value[0] != '0')
        (void)fputs_unlocked(value, stream); /* as JSON has it */
    else
        (void)fprintf(stream, "%" PRIu64, number);
}

static void write_yes_or_no(FILE *stream, const char *value)
{
    uint64_t number;

    if (number_parse(value, 0, 1, &number) != 0)
        (void)fputs_unlocked("null", stream);
    else
        (void)fputs_unlocked(number ? "true" : "false", stream);
}

static void write_value(FILE *stream, const char *value, enum kind kind)
{
    switch (kind) {
    case TEXT:
        json_string_write(stream, value);
        break;
    case NUMBER:
        write_number(stream, value);
        break;
    case YES_OR_NO:
        write_yes_or_no(stream, value);
        break;
    case LIST:
        write_list(stream, value);
        break;
    case ROWS:
        write_rows(stream, value);
        break;
    }
}

/*
 * Returns the value of a key, or NULL.  Most keys come in the order of the
 * table: so the one behind the last one that was found, *next, is looked at
 * first, and many devices are told of at little cost.
 */
static const char *find(const struct control_message *status, const char *key,
                        size_t *next)
{
    for (size_t i = 0; i < status->pairs_count; i++) {
        size_t at = (*next + i) % status->pairs_count;

        if (strcmp(status->text + status->pairs[at].key, key) == 0) {
            *next = at + 1;
            return status->text + status->pairs[at].value;
        }
    }
    return NULL;
}

/* Nobody else has the stream: it need not be locked for each word. */
void status_text_write(FILE *stream, const struct control_message *status)
{
    const char *separator = "\"";
    size_t next = 0;

    (void)fputc('{', stream);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const char *value = find(status, keys[i].name, &next);

        if (!value)
            continue;
        (void)fputs_unlocked(separator, stream);
        (void)fputs_unlocked(keys[i].name, stream);
        (void)fputs_unlocked("\": ", stream);
        write_value(stream, value, keys[i].kind);
        separator = ", \"";
    }
    (void)fputc('}', stream);
}

/* What a store says of itself goes as it is, if it is what it should be. */
static void add_store(struct text *text,
                      const struct control_message statuses[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct control_message *status = &statuses[i];

        if (status->payload_size == 0 || status->payload_size > INT_MAX ||
            !json_check_object(status->payload, status->payload_size))
            continue;
        add(text, "\"store\": %.*s, ", (int)status->payload_size,
            (const char *)status->payload);
        return;
    }
}

char *status_text_json_of_all(const struct control_message statuses[],
                              size_t count)
{
    struct text text;

    if (!text_begin(&text))
        return NULL;
    add(&text, "{");
    add_store(&text, statuses, count);
    add(&text, "\"devices\": [");
    for (size_t i = 0; i < count; i++) {
        add(&text, "%s\n  ", i > 0 ? "," : "");
        status_text_write(text.stream, &statuses[i]);
    }
    add(&text, "\n]}\n");
    return text_end(&text);
}

/* ---- a table ------------------------------------------------------------ */

/* Whether the key has a number. */
static bool get(const struct control_message *status, const char *key,
                uint64_t *ret_value)
{
    return control_message_get_number(status, key, 0, UINT64_MAX, ret_value) ==
           0;
}

/* The number of a key, or 0. */
static uint64_t number_of(const struct control_message *status, const char *key)
{
    uint64_t value;

    return get(status, key, &value) ? value : 0;
}

static const char *text_of(const struct control_message *status,
                           const char *key, const char *otherwise)
{
    const char *value = control_message_get(status, key);

    return value ? value : otherwise;
}

/* Another host chose its name. */
static void add_host(struct text *text, const char *name)
{
    AUTO_FREE char *visible = strdup(name);

    if (visible)
        utf8_make_visible(visible);
    add(text, "%s", visible ? visible : "?");
}

/* "used of size (share)". */
static void add_share(struct text *text, uint64_t used, uint64_t size)
{
    char used_text[HUMAN_TEXT], size_text[HUMAN_TEXT];

    add(text, "%s of %s", human_size(used, used_text),
        human_size(size, size_text));
    if (size > 0)
        add(text, " (%.0f %%)", 100.0 * (double)used / (double)size);
}

static void add_ago(struct text *text, uint64_t time_ns, uint64_t now_ns)
{
    char length[HUMAN_TEXT];
    uint64_t age_ns = time_ns < now_ns ? now_ns - time_ns : 0;

    add(text, "%s ago", human_duration(age_ns / 1000000000U, length));
}

static void add_cache(struct text *text, const struct control_message *status)
{
    uint64_t limit = number_of(status, "cache_limit"), total, available;
    char used[HUMAN_TEXT];

    add(text, "  cache       ");
    if (limit > 0)
        add_share(text, number_of(status, "cache_used"), limit);
    else
        add(text, "%s", human_size(number_of(status, "cache_used"), used));
    if (limit == 0 && get(status, "disk_total", &total) &&
        get(status, "disk_available", &available) && available <= total) {
        add(text, "; disk ");
        add_share(text, total - available, total);
    }
    add(text, "; journal ");
    add_share(text, number_of(status, "journal_used"),
              number_of(status, "journal_size"));
    add(text, "\n");
}

static void add_not_in_bucket(struct text *text,
                              const struct control_message *status,
                              uint64_t now_ns)
{
    uint64_t oldest;
    char bytes[HUMAN_TEXT];

    add(text,
        "  dirty       %" PRIu64 " of %" PRIu64
        " chunks, %s with the journal\n",
        number_of(status, "dirty_chunks"), number_of(status, "chunks"),
        human_size(number_of(status, "dirty_bytes"), bytes));
    add(text, "  unpublished ");
    if (get(status, "oldest_unpublished_ns", &oldest)) {
        add(text, "oldest write ");
        add_ago(text, oldest, now_ns);
        if (control_message_has(status, "behind"))
            add(text, ": more than maxage");
    } else {
        add(text, "nothing");
    }
    add(text, "\n");
}

static void add_image(struct text *text, const struct control_message *status,
                      uint64_t now_ns)
{
    uint64_t epoch, time_ns;
    char moment[HUMAN_TEXT];

    add(text, "  image       ");
    if (get(status, "image_epoch", &epoch) &&
        get(status, "image_time_ns", &time_ns)) {
        add(text, "%" PRIu64 " of %s, ", epoch, human_time(time_ns, moment));
        add_ago(text, time_ns, now_ns);
    } else {
        add(text, "none yet");
    }
    add(text, "\n  claim       %s", text_of(status, "claim", "unknown"));
    if (get(status, "claim_epoch", &epoch)) {
        add(text, ", epoch %" PRIu64 " of ", epoch);
        add_host(text, text_of(status, "claim_host", "?"));
    }
    add(text, "\n");
}

static void add_checkpoint(struct text *text,
                           const struct control_message *status,
                           uint64_t now_ns)
{
    const char *phase = text_of(status, "checkpoint", "none");
    char bytes[HUMAN_TEXT];
    uint64_t time_ns;

    if (strcmp(phase, "none") == 0)
        return;
    add(text, "  checkpoint  %s, ", phase);
    if (get(status, "checkpoint_time_ns", &time_ns)) {
        add_ago(text, time_ns, now_ns);
        add(text, ", ");
    }
    add(text, "%" PRIu64 " of %" PRIu64 " chunks left, %s\n",
        number_of(status, "checkpoint_left"),
        number_of(status, "checkpoint_chunks"),
        human_size(number_of(status, "checkpoint_bytes"), bytes));
}

/* What should not be: a line only if it is. */
static void add_troubles(struct text *text,
                         const struct control_message *status)
{
    uint64_t value;

    if (control_message_get(status, "held"))
        add(text, "  held        %s\n", text_of(status, "held", ""));
    if (number_of(status, "damaged") > 0)
        add(text, "  damaged     %" PRIu64 " blocks or pages\n",
            number_of(status, "damaged"));
    if (number_of(status, "alarms") > 0)
        add(text, "  alarms      %" PRIu64 " objects are missing\n",
            number_of(status, "alarms"));
    if (get(status, "conditional_put", &value) && value == 0)
        add(text, "  store       cannot keep two hosts apart: it has no "
                  "conditional put\n");
    if (control_message_has(status, "writethrough"))
        add(text, "  writethrough an image of this device is not a whole file "
                  "system if its journal is on another\n");
}

char *status_text_table(const struct control_message *status, uint64_t now_ns)
{
    char size[HUMAN_TEXT];
    struct text text;

    if (!text_begin(&text))
        return NULL;
    add(&text, "%s: %s, %s, %" PRIu64 " connections\n",
        text_of(status, "device", "?"), text_of(status, "state", "unknown"),
        human_size(number_of(status, "size"), size),
        number_of(status, "connections"));
    add_cache(&text, status);
    add_not_in_bucket(&text, status, now_ns);
    add_image(&text, status, now_ns);
    add_checkpoint(&text, status, now_ns);
    add_troubles(&text, status);
    return text_end(&text);
}
