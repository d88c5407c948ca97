/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_set.h"

#include <errno.h>
#include <string.h>

#include "base/secret.h"

int credentials_set_new(struct credentials_set **ret_set)
{
    struct credentials_set *set = secret_new(sizeof(*set));

    if (!set)
        return -ENOMEM;
    set->expires_ns = CREDENTIALS_NEVER;
    *ret_set = set;
    return 0;
}

void credentials_set_free(struct credentials_set *set)
{
    secret_free(set, sizeof(*set));
}

/* Returns where the text goes, and how much there is room for. */
static char *field_of(struct credentials_set *set, enum credentials_field field,
                      size_t *ret_size)
{
    switch (field) {
    case CREDENTIALS_ACCESS_KEY:
        *ret_size = sizeof(set->access_key);
        return set->access_key;
    case CREDENTIALS_SECRET_KEY:
        *ret_size = sizeof(set->secret_key);
        return set->secret_key;
    case CREDENTIALS_SESSION_TOKEN:
        *ret_size = sizeof(set->session_token);
        return set->session_token;
    case CREDENTIALS_REGION:
    default:
        *ret_size = sizeof(set->region);
        return set->region;
    }
}

/* The secret key is only hashed; all others become part of a header line. */
static bool is_allowed(enum credentials_field field, unsigned char byte)
{
    if (field == CREDENTIALS_SECRET_KEY)
        return byte >= 0x20 && byte != 0x7f;
    return byte > 0x20 && byte < 0x7f;
}

const char *credentials_set_put(struct credentials_set *set,
                                enum credentials_field field, const char *text,
                                size_t len)
{
    size_t size;
    char *to = field_of(set, field, &size);

    if (len >= size)
        return "is too long";
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];

        if (byte == '\n' || byte == '\r')
            return "has more than one line";
        if (!is_allowed(field, byte))
            return "has a blank or a byte that is not printable";
    }
    explicit_bzero(to, size);
    memcpy(to, text, len);
    return NULL;
}

bool credentials_set_has_same_keys(const struct credentials_set *one,
                                   const struct credentials_set *other)
{
    return strcmp(one->access_key, other->access_key) == 0 &&
           strcmp(one->secret_key, other->secret_key) == 0 &&
           strcmp(one->session_token, other->session_token) == 0;
}
