/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_http_chunks - any bytes as a chunked body.
 *
 * The first byte says in pieces of which size they come; how they come must
 * not matter to data, end and refusal.
 */
#include <stdlib.h>
#include <string.h>

#include "s3/http_chunks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
    int error;
    bool is_done;
    size_t used;
    char *data;
    size_t data_len;
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static struct reading read_pieces(const char *bytes, size_t size, size_t piece)
{
    struct reading reading = {.data = malloc(size + 1)};
    struct http_chunks chunks = {0};
    size_t end = 0;

    while (reading.used < size && !chunks.is_done && reading.error == 0) {
        ssize_t eaten;

        if (reading.used == end)
            end = size - end < piece ? size : end + piece;
        eaten =
            http_chunks_feed(&chunks, bytes + reading.used, end - reading.used);
        if (eaten < 0) {
            reading.error = (int)eaten;
        } else {
            size_t left;

            reading.used += (size_t)eaten;
            left = end - reading.used;
            require(left == 0 || chunks.left > 0 || chunks.is_done);
            if (left > chunks.left)
                left = (size_t)chunks.left;
            memcpy(reading.data + reading.data_len, bytes + reading.used, left);
            reading.data_len += left;
            reading.used += left;
            http_chunks_take(&chunks, left);
        }
    }
    reading.is_done = chunks.is_done;
    return reading;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reading whole, pieces;

    if (size < 2)
        return 0;
    whole = read_pieces((const char *)data + 1, size - 1, SIZE_MAX);
    pieces = read_pieces((const char *)data + 1, size - 1, 1U + data[0] % 32);
    require(whole.error == pieces.error && whole.is_done == pieces.is_done);
    require(whole.data_len == pieces.data_len);
    require(memcmp(whole.data, pieces.data, whole.data_len) == 0);
    require(whole.error < 0 || whole.used == pieces.used);
    free(whole.data);
    free(pieces.data);
    return 0;
}
