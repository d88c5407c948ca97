/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/control_message.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

enum { ERRNO_MAX = 4095 }; /* the kernel's own bound */

static const char payload_key[] = "payload";

/* ---- texts -------------------------------------------------------------- */

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || c == '_';
}

/* Whether a byte of a value stands for itself. */
static bool is_plain_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
           (c >= 'a' && c <= 'z') || (c != '\0' && strchr("._-,:/+", c));
}

/* Append len bytes and their end.  Returns where, or -1 if they do not fit. */
static int append_text(struct control_message *message, const char *text,
                       size_t len)
{
    size_t at = message->text_len;

    if (len >= sizeof(message->text) - at) {
        message->is_too_long = true;
        return -1;
    }
    memcpy(message->text + at, text, len);
    message->text[at + len] = '\0';
    message->text_len = at + len + 1;
    return (int)at;
}

/* ---- making ------------------------------------------------------------- */

void control_message_start(struct control_message *message, const char *verb)
{
    message->text_len = message->pairs_count = message->payload_size = 0;
    message->payload = NULL;
    message->is_too_long = false;
    message->text[0] = '\0';
    (void)append_text(message, verb, strlen(verb));
}

void control_message_start_error(struct control_message *message, int error,
                                 const char *format, ...)
{
    char text[1024];
    va_list arguments;

    assert(error < 0);
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    control_message_start(message, "error");
    control_message_add_number(message, "errno", (uint64_t)-error);
    control_message_add(message, "text", text);
}

void control_message_clear(struct control_message *message)
{
    free(message->payload);
    message->payload = NULL;
    message->payload_size = 0;
}

/* Add a pair of len bytes each, which need not be ended by a 0. */
static void add_pair(struct control_message *message, const char *key,
                     size_t key_len, const char *value, size_t value_len)
{
    int key_at, value_at;

    if (message->pairs_count == CONTROL_PAIRS_MAX) {
        message->is_too_long = true;
        return;
    }
    key_at = append_text(message, key, key_len);
    value_at = append_text(message, value, value_len);
    if (key_at < 0 || value_at < 0)
        return;
    message->pairs[message->pairs_count].key = (uint16_t)key_at;
    message->pairs[message->pairs_count].value = (uint16_t)value_at;
    message->pairs_count++;
}

void control_message_add(struct control_message *message, const char *key,
                         const char *value)
{
    assert(*key != '\0' && !control_message_get(message, key));
    assert(strcmp(key, payload_key) != 0);
    for (const char *c = key; *c != '\0'; c++)
        assert(is_name_byte(*c));
    add_pair(message, key, strlen(key), value, strlen(value));
}

void control_message_add_number(struct control_message *message,
                                const char *key, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    control_message_add(message, key, text);
}

void control_message_set_payload(struct control_message *message, void *payload,
                                 size_t size)
{
    free(message->payload);
    message->payload = payload;
    message->payload_size = size;
    if (size > CONTROL_PAYLOAD_MAX)
        message->is_too_long = true;
}

/* ---- reading ------------------------------------------------------------ */

const char *control_message_verb(const struct control_message *message)
{
    return message->text;
}

bool control_message_is(const struct control_message *message, const char *verb)
{
    return strcmp(message->text, verb) == 0;
}

const char *control_message_get(const struct control_message *message,
                                const char *key)
{
    for (size_t i = 0; i < message->pairs_count; i++) {
        const char *found = message->text + message->pairs[i].key;

        /* Most differ in the first byte, and need no call to see that. */
        if (found[0] == key[0] && strcmp(found, key) == 0)
            return message->text + message->pairs[i].value;
    }
    return NULL;
}

int control_message_get_number(const struct control_message *message,
                               const char *key, uint64_t min, uint64_t max,
                               uint64_t *ret_value)
{
    const char *value = control_message_get(message, key);

    if (!value)
        return -ENOENT;
    return number_parse(value, min, max, ret_value) == 0 ? 0 : -EINVAL;
}

bool control_message_has(const struct control_message *message, const char *key)
{
    const char *value = control_message_get(message, key);

    return value && strcmp(value, "0") != 0;
}

/* ---- a line ------------------------------------------------------------- */

/* A line that is being written. */
struct line {
    char *bytes;
    size_t len;
    bool is_full;
};

static void put_byte(struct line *line, char c)
{
    if (line->len == CONTROL_LINE_MAX)
        line->is_full = true;
    else
        line->bytes[line->len++] = c;
}

static void put_text(struct line *line, const char *text)
{
    for (; *text != '\0'; text++)
        put_byte(line, *text);
}

static void put_value(struct line *line, const char *value)
{
    static const char digits[] = "0123456789ABCDEF";

    for (; *value != '\0'; value++) {
        unsigned char byte = (unsigned char)*value;

        if (is_plain_byte(*value)) {
            put_byte(line, *value);
        } else {
            put_byte(line, '%');
            put_byte(line, digits[byte >> 4]);
            put_byte(line, digits[byte & 15]);
        }
    }
}

int control_message_encode(const struct control_message *message,
                           char line[CONTROL_LINE_MAX])
{
    struct line to = {.bytes = line};
    char number[24];

    if (message->is_too_long)
        return -E2BIG;
    put_text(&to, message->text);
    for (size_t i = 0; i < message->pairs_count; i++) {
        put_byte(&to, ' ');
        put_text(&to, message->text + message->pairs[i].key);
        put_byte(&to, '=');
        put_value(&to, message->text + message->pairs[i].value);
    }
    if (message->payload_size > 0) {
        (void)snprintf(number, sizeof(number), "%zu", message->payload_size);
        put_byte(&to, ' ');
        put_text(&to, payload_key);
        put_byte(&to, '=');
        put_text(&to, number);
    }
    put_byte(&to, '\n');
    return to.is_full ? -E2BIG : (int)to.len;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/*
 * Decode a value in its place.  There is one way to write each: what need not
 * be escaped must not be.  Returns the length, or -EBADMSG.
 */
static int decode_value(char *value, size_t len)
{
    size_t to = 0;

    for (size_t i = 0; i < len; i++) {
        int high, low;

        if (is_plain_byte(value[i])) {
            value[to++] = value[i];
            continue;
        }
        if (value[i] != '%' || len - i < 3)
            return -EBADMSG;
        high = hex_digit(value[i + 1]);
        low = hex_digit(value[i + 2]);
        if (high < 0 || low < 0 || (high == 0 && low == 0) ||
            is_plain_byte((char)(high * 16 + low)))
            return -EBADMSG;
        value[to++] = (char)(high * 16 + low);
        i += 2;
    }
    return (int)to;
}

/* How many bytes of a name text begins with. */
static size_t name_len(const char *text, size_t len)
{
    size_t n = 0;

    while (n < len && is_name_byte(text[n]))
        n++;
    return n;
}

/*
 * Read the pair at text, of len bytes, which may be changed.  The one that
 * announces the payload is the last, and not kept as a pair.
 */
static int decode_pair(struct control_message *message, char *text, size_t len,
                       bool is_last, size_t *ret_payload_size)
{
    size_t key_len = name_len(text, len);
    uint64_t size;
    char *value;
    int value_len;

    if (key_len == 0 || key_len == len || text[key_len] != '=')
        return -EBADMSG;
    text[key_len] = '\0';
    value = text + key_len + 1;
    value_len = decode_value(value, len - key_len - 1);
    if (value_len < 0 || control_message_get(message, text))
        return -EBADMSG;
    value[value_len] = '\0';
    if (strcmp(text, payload_key) != 0) {
        add_pair(message, text, key_len, value, (size_t)value_len);
        return message->is_too_long ? -EBADMSG : 0;
    }
    if (!is_last || *value == '0' ||
        number_parse(value, 1, CONTROL_PAYLOAD_MAX, &size) != 0)
        return -EBADMSG;
    *ret_payload_size = (size_t)size;
    return 0;
}

int control_message_decode(const char *line, size_t len,
                           struct control_message *ret_message,
                           size_t *ret_payload_size)
{
    char text[CONTROL_LINE_MAX]; /* a copy, and a byte behind it */
    size_t at = name_len(line, len);
    int error = 0;

    control_message_start(ret_message, "");
    *ret_payload_size = 0;
    if (len >= sizeof(text) || at == 0)
        return -EBADMSG;
    memcpy(text, line, len);
    ret_message->text_len = 0;
    (void)append_text(ret_message, text, at);
    while (at < len && !error) {
        char *end;
        size_t pair_len;

        if (text[at] != ' ')
            return -EBADMSG;
        at++;
        end = memchr(text + at, ' ', len - at);
        pair_len = end ? (size_t)(end - text) - at : len - at;
        error = decode_pair(ret_message, text + at, pair_len,
                            at + pair_len == len, ret_payload_size);
        at += pair_len;
        /* The end of a value may have been written over the blank. */
        if (at < len)
            text[at] = ' ';
    }
    return error;
}

/* ---- leases ------------------------------------------------------------- */

/* A key and the number that belongs to it. */
struct number_key {
    const char *key;
    uint64_t min, max, *value;
};

static int get_numbers(const struct control_message *message,
                       const struct number_key keys[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (control_message_get_number(message, keys[i].key, keys[i].min,
                                       keys[i].max, keys[i].value) != 0)
            return -EBADMSG;
    }
    return 0;
}

void control_lease_encode(const struct control_lease *lease,
                          struct control_message *message)
{
    char id[OBJECT_ID_TEXT];

    control_message_start(message, "ok");
    control_message_add_number(message, "lease", lease->lease);
    control_message_add_number(message, "chunk", lease->work.chunk);
    control_message_add_number(message, "generation", lease->work.generation);
    control_message_add_number(message, "revision", lease->work.revision);
    object_id_format(&lease->work.id, id);
    control_message_add(message, "id", id);
    control_message_add_number(message, "loss", lease->work.loss);
    control_message_add_number(message, "rate", lease->rate);
    control_message_add_number(message, "parallelism", lease->parallelism);
}

/* Read hexadecimal digits up to the byte that ends them; move behind it. */
static int parse_hex(const char **text, char end, uint64_t *ret_value)
{
    char digits[17];
    size_t len = strspn(*text, "0123456789abcdef");

    if (len == 0 || len >= sizeof(digits) || (*text)[len] != end)
        return -EBADMSG;
    memcpy(digits, *text, len);
    digits[len] = '\0';
    *text += len + (end != '\0');
    return number_parse_hex(digits, 0, UINT64_MAX, ret_value);
}

static int parse_id(const char *text, struct object_id *ret_id)
{
    if (!text || parse_hex(&text, '-', &ret_id->epoch) != 0 ||
        parse_hex(&text, '-', &ret_id->nonce) != 0 ||
        parse_hex(&text, '\0', &ret_id->counter) != 0)
        return -EBADMSG;
    return 0;
}

int control_lease_decode(const struct control_message *message,
                         struct control_lease *ret_lease)
{
    struct control_lease lease = {0};
    uint64_t revision, loss, parallelism;
    const struct number_key keys[] = {
        {"lease", 0, UINT64_MAX, &lease.lease},
        {"chunk", 0, UINT64_MAX, &lease.work.chunk},
        {"generation", 1, UINT64_MAX, &lease.work.generation},
        {"revision", 0, UINT32_MAX, &revision},
        {"loss", 0, UPLOAD_TABLE_LOST, &loss},
        {"rate", 0, UINT64_MAX, &lease.rate},
        {"parallelism", 1, 65535, &parallelism},
    };

    if (!control_message_is(message, "ok") ||
        get_numbers(message, keys, sizeof(keys) / sizeof(keys[0])) != 0 ||
        parse_id(control_message_get(message, "id"), &lease.work.id) != 0)
        return -EBADMSG;
    lease.work.revision = (uint32_t)revision;
    lease.work.loss = (enum upload_loss)loss;
    lease.parallelism = (unsigned)parallelism;
    *ret_lease = lease;
    return 0;
}

void control_report_encode(const struct control_report *report,
                           struct control_message *message)
{
    const struct upload_result *result = &report->result;

    control_message_start(message, "report");
    control_message_add_number(message, "lease", report->lease);
    if (report->error) {
        control_message_add_number(message, "errno", (uint64_t)-report->error);
        return;
    }
    control_message_add_number(message, "size", result->size);
    control_message_add_number(message, "fetched", result->fetched);
    control_message_add_number(message, "damaged", result->damaged);
    control_message_set_payload(message, result->table, result->table_size);
}

int control_report_decode(const struct control_message *message,
                          struct control_report *ret_report)
{
    struct control_report report = {.error = 0};
    uint64_t lease, damaged, error;
    const struct number_key keys[] = {
        {"size", 1, UINT64_MAX, &report.result.size},
        {"fetched", 0, UINT64_MAX, &report.result.fetched},
        {"damaged", 0, UINT32_MAX, &damaged},
    };

    if (!control_message_is(message, "report") ||
        control_message_get_number(message, "lease", 0, UINT64_MAX, &lease) !=
            0)
        return -EBADMSG;
    report.lease = lease;
    if (control_message_get(message, "errno")) {
        if (control_message_get_number(message, "errno", 1, ERRNO_MAX,
                                       &error) != 0)
            return -EBADMSG;
        report.error = -(int)error;
    } else {
        if (get_numbers(message, keys, sizeof(keys) / sizeof(keys[0])) != 0 ||
            message->payload_size == 0)
            return -EBADMSG;
        report.result.damaged = (uint32_t)damaged;
        report.result.table = message->payload;
        report.result.table_size = message->payload_size;
    }
    *ret_report = report;
    return 0;
}
