/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_credentials_file - any bytes as a file with profiles.
 *
 * Values lie in the text, in one line, without blanks around them; a mistake
 * is in a line that the text has.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "s3/credentials_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void check_text(struct credentials_text found, const char *text,
                       size_t size)
{
    if (found.len == 0)
        return;
    require(found.bytes >= text && found.len <= size &&
            found.bytes + found.len <= text + size);
    require(!memchr(found.bytes, '\n', found.len) &&
            !memchr(found.bytes, '\0', found.len));
    require(!is_blank(found.bytes[0]) && !is_blank(found.bytes[found.len - 1]));
}

static void check_parse(const char *text, size_t size,
                        enum credentials_file_kind kind, const char *profile)
{
    struct credentials_file_mistake mistake;
    struct credentials_profile found;
    size_t lines = 1;

    if (credentials_file_parse(text, size, kind, profile, &found, &mistake)) {
        for (size_t i = 0; i < size; i++)
            lines += text[i] == '\n';
        require(mistake.line >= 1 && mistake.line <= lines && mistake.what);
        return;
    }
    check_text(found.access_key, text, size);
    check_text(found.secret_key, text, size);
    check_text(found.session_token, text, size);
    check_text(found.region, text, size);
    check_text(found.role_arn, text, size);
    check_text(found.role_session_name, text, size);
    check_text(found.token_file, text, size);
    check_text(found.foreign, text, size);
    require(found.is_there || found.access_key.len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum credentials_file_kind kinds[] = {
        CREDENTIALS_FILE_KEYS, CREDENTIALS_FILE_CONFIG, CREDENTIALS_FILE_OWN};

    for (size_t i = 0; i < 3; i++) {
        check_parse((const char *)data, size, kinds[i], "default");
        check_parse((const char *)data, size, kinds[i], "a");
    }
    return 0;
}
