/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_s3_answer - any bytes as each of the documents of a store.
 *
 * What is handed over keeps its promises: keys have a length, texts are
 * printable, and a list hands over as many objects as it says.
 */
#include <stdlib.h>
#include <string.h>

#include "s3/s3_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_key(const char *key)
{
    size_t len = strlen(key);

    if (len == 0 || len > S3_KEY_MAX)
        abort();
}

static void check_printable(const char *text, size_t size)
{
    size_t len = strnlen(text, size);

    if (len == size)
        abort();
    for (size_t i = 0; i < len; i++) {
        if (text[i] < ' ' || text[i] > '~')
            abort();
    }
}

static void check_error(const struct s3_error *error)
{
    check_printable(error->code, sizeof(error->code));
    check_printable(error->message, sizeof(error->message));
    check_printable(error->region, sizeof(error->region));
    check_printable(error->endpoint, sizeof(error->endpoint));
    check_printable(error->request_id, sizeof(error->request_id));
}

static int see(void *context, const char *key, uint64_t size,
               uint64_t modified_ns)
{
    size_t *count = context;

    (void)size;
    (void)modified_ns;
    check_key(key);
    (*count)++;
    return 0;
}

static int fail(void *context, const char *key, const struct s3_error *error)
{
    (void)context;
    check_key(key);
    check_error(error);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct s3_sts_credentials credentials;
    struct s3_error error;
    struct s3_list list;
    const char *body = (const char *)data;
    size_t count = 0;

    if (s3_error_parse(body, size, &error) == 0)
        check_error(&error);
    if (s3_list_parse(body, size, see, &count, &list) == 0 &&
        (count != list.count ||
         strnlen(list.next_token, sizeof(list.next_token)) > S3_TOKEN_MAX))
        abort();
    (void)s3_deleted_parse(body, size, fail, NULL);
    if (s3_sts_parse(body, size, &credentials) == 0 &&
        (credentials.access_key[0] == '\0' ||
         credentials.secret_key[0] == '\0' ||
         credentials.session_token[0] == '\0'))
        abort();
    return 0;
}
