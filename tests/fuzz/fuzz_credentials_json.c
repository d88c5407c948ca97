/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_credentials_json - any bytes as a document with keys.
 *
 * What is accepted can be sent in a request's head; what is refused is said in
 * printable words.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "s3/credentials_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void check_printable(const char *text, unsigned char least)
{
    for (; *text != '\0'; text++)
        require((unsigned char)*text >= least && (unsigned char)*text < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct net_failure failure = {0};
    struct credentials_set *set;

    if (credentials_set_new(&set) != 0)
        return 0;
    if (credentials_json_parse((const char *)data, size, set, &failure) == 0) {
        require(set->access_key[0] != '\0' && set->secret_key[0] != '\0');
        check_printable(set->access_key, 0x21);
        check_printable(set->session_token, 0x21);
        require(!strpbrk(set->secret_key, "\r\n"));
    } else {
        require(failure.error < 0 && failure.text[0] != '\0');
        check_printable(failure.text, 0x20);
    }
    credentials_set_free(set);
    return 0;
}
