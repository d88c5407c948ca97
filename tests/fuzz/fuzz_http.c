/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_http - any bytes as the head of an answer.
 *
 * Where a head ends does not depend on how its bytes come; its texts lie in
 * it and have no control characters; what decides over the body is consistent.
 */
#include <stdlib.h>
#include <string.h>

#include "s3/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* Search as if the bytes came in pieces of this size. */
static ssize_t search_pieces(const char *bytes, size_t size, size_t piece)
{
    struct http_search search = {0};
    ssize_t found = 0;

    for (size_t len = 0; len < size && found == 0;) {
        len = size - len < piece ? size : len + piece;
        found = http_head_search(&search, bytes, len);
    }
    return found;
}

static void check_text(const char *text, const char *bytes, size_t len)
{
    require(text >= bytes && text < bytes + len);
    for (; *text != '\0'; text++) {
        require(text < bytes + len);
        require((unsigned char)*text >= ' ' || *text == '\t');
    }
}

static void check_head(const struct http_head *head, bool is_answer_to_head)
{
    bool has_none = is_answer_to_head || head->status < 200 ||
                    head->status == 204 || head->status == 304;

    require(head->status >= 100 && head->status <= 599);
    require(head->fields_count <= HTTP_FIELDS_MAX);
    require((head->framing == HTTP_NO_BODY) == has_none);
    require(head->framing != HTTP_LENGTH || head->has_length);
    require(head->framing != HTTP_CHUNKED || !head->has_length);
    require(head->framing != HTTP_UNTIL_CLOSE || !head->is_persistent);
    require(!head->has_length || head->length <= INT64_MAX);
    require(!(http_head_get(head, "transfer-encoding") &&
              http_head_get(head, "content-length")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_head head;
    struct http_range range;
    ssize_t len = search_pieces((const char *)data, size, SIZE_MAX);

    for (size_t piece = 1; piece < 40; piece += 13) {
        ssize_t other = search_pieces((const char *)data, size, piece);

        /* Of two faults, another may be seen first. */
        require(other == len || (other < 0 && len < 0));
    }
    for (int is_head = 0; is_head < 2; is_head++) {
        /* Also what no search has seen before. */
        size_t parsed = len > 0 ? (size_t)len : size;
        char *bytes = malloc(parsed > 0 ? parsed : 1);
        int error;

        memcpy(bytes, data, parsed);
        error = http_head_parse(bytes, parsed, is_head > 0, &head);
        require(error == 0 || error < 0);
        require(len > 0 || error < 0 || size > HTTP_HEAD_MAX);
        if (error == 0) {
            check_head(&head, is_head > 0);
            for (size_t i = 0; i < head.fields_count; i++) {
                check_text(head.fields[i].name, bytes, parsed);
                check_text(head.fields[i].value, bytes, parsed);
                if (http_range_parse(head.fields[i].value, &range) == 0)
                    require(range.first <= range.last &&
                            (!range.has_total || range.last < range.total));
            }
        }
        free(bytes);
    }
    return 0;
}
