/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_describe.h"

#include "object_store.h"
#include "s3/s3_parts.h"
#include "support/s3_peer.h"
#include "unit/test.h"

/* Returns whether brackets close as they open, and strings end. */
static bool is_balanced(const char *text)
{
    char open[32];
    size_t depth = 0;
    bool in_string = false;

    for (; *text; text++) {
        if (in_string && *text == '\\' && text[1] != '\0')
            text++;
        else if (*text == '"')
            in_string = !in_string;
        else if (in_string)
            continue;
        else if (*text == '{' || *text == '[')
            open[depth++] = *text == '{' ? '}' : ']';
        else if ((*text == '}' || *text == ']') &&
                 (depth == 0 || open[--depth] != *text))
            return false;
        if (depth == sizeof(open) || *text == '\n')
            return false;
    }
    return depth == 0 && !in_string;
}

TEST("what is told is one object, whatever texts there are")
{
    struct s3_peer *peer = s3_peer_start(2);
    struct s3_peer_options options;
    struct object_store *store = NULL;
    char *text;

    s3_peer_fill_options(peer, &options);
    options.options.prefix = "pre/fix";
    options.options.region = "garage";
    options.credentials.access_key = "\"\\}";
    NEED(s3_store_open(&options.options, &store) == 0);
    CHECK(store->put(store, "key", "text", 4, false) == 0);
    text = s3_describe(s3_parts_of_store(store));
    NEED(text);
    CHECK(is_balanced(text));
    CHECK(strstr(text, "\"prefix\": \"pre/fix/\""));
    CHECK(strstr(text, "\"region\": \"garage\""));
    CHECK(strstr(text, "\"places\": 32, \"places_max\": 32"));
    CHECK(strstr(text, "\"hedges\": {\"gets\": 0, \"begun\": 0, \"won\": 0}"));
    CHECK(strstr(text, "\"requests\": 1"));
    free(text);
    store->close(store);
    s3_peer_stop(peer);
}
