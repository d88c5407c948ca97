/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_json.h"

#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>

#include "base/moment.h"

enum { SHOWN_MAX = 64 }; /* bytes of a text from outside, in a message */

static void free_overwritten(void *memory)
{
    if (memory)
        explicit_bzero(memory, malloc_usable_size(memory));
    free(memory);
}

static void choose_memory(void)
{
    json_set_alloc_funcs(malloc, free_overwritten);
}

/* Copy what can be shown of a text from outside. */
static const char *shown(const char *text, char to[SHOWN_MAX])
{
    size_t len = 0;

    for (; len < SHOWN_MAX - 1 && text[len] != '\0'; len++)
        to[len] = text[len] >= 0x20 && text[len] < 0x7f ? text[len] : '?';
    to[len] = '\0';
    return to;
}

static int refuse(struct net_failure *failure, const char *what,
                  const char *why)
{
    net_failure_set(failure, -EBADMSG, "the answer's %s %s", what, why);
    return -EBADMSG;
}

/* Store a member in the set; an absent one only if it may be absent. */
static int take_text(const json_t *document, const char *name, bool is_needed,
                     enum credentials_field field, struct credentials_set *set,
                     struct net_failure *failure)
{
    const json_t *member = json_object_get(document, name);
    const char *mistake;

    if (!is_needed && (!member || json_is_null(member)))
        return 0;
    if (!json_is_string(member) ||
        (is_needed && json_string_length(member) == 0))
        return refuse(failure, name, "is missing");
    mistake = credentials_set_put(set, field, json_string_value(member),
                                  json_string_length(member));
    return mistake ? refuse(failure, name, mistake) : 0;
}

/* Store when the keys expire, if that is told. */
static int take_expiration(const json_t *document, struct credentials_set *set,
                           struct net_failure *failure)
{
    const json_t *member = json_object_get(document, "Expiration");
    uint64_t seconds;

    if (!member || json_is_null(member))
        return 0;
    if (!json_is_string(member) ||
        moment_parse_iso(json_string_value(member), &seconds, NULL) != 0)
        return refuse(failure, "Expiration", "is no date");
    set->expires_ns = seconds * 1000000000U;
    return 0;
}

static int take_all(const json_t *document, struct credentials_set *set,
                    struct net_failure *failure)
{
    const json_t *code = json_object_get(document, "Code");
    const char *code_text = json_string_value(code);
    char text[SHOWN_MAX];
    int error;

    if (!json_is_object(document)) {
        net_failure_set(failure, -EBADMSG, "the answer is no JSON object");
        return -EBADMSG;
    }
    if (code && (!code_text || strcmp(code_text, "Success") != 0)) {
        net_failure_set(failure, -EBADMSG, "the answer has no keys, but: %s",
                        code_text ? shown(code_text, text) : "?");
        return -EBADMSG;
    }
    error = take_text(document, "AccessKeyId", true, CREDENTIALS_ACCESS_KEY,
                      set, failure);
    if (!error)
        error = take_text(document, "SecretAccessKey", true,
                          CREDENTIALS_SECRET_KEY, set, failure);
    if (!error)
        error = take_text(document, "Token", false, CREDENTIALS_SESSION_TOKEN,
                          set, failure);
    return error ? error : take_expiration(document, set, failure);
}

int credentials_json_parse(const char *text, size_t len,
                           struct credentials_set *set,
                           struct net_failure *ret_failure)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    json_t *document;
    json_error_t error;
    int result;

    (void)pthread_once(&once, choose_memory);
    if (len > CREDENTIALS_JSON_MAX) {
        net_failure_set(ret_failure, -EBADMSG, "the answer is too long");
        return -EBADMSG;
    }
    document = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!document) {
        bool is_memory = json_error_code(&error) == json_error_out_of_memory;

        /* jansson's own words would show what it read. */
        result = is_memory ? -ENOMEM : -EBADMSG;
        net_failure_set(ret_failure, result,
                        is_memory ? "no memory"
                                  : "the answer is no JSON document");
    } else {
        result = take_all(document, set, ret_failure);
    }
    json_decref(document);
    explicit_bzero(&error, sizeof(error));
    return result;
}
