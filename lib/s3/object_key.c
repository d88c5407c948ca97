/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * object_key - which names an object may have, in every store alike.
 */
#include "object_store.h"

#include <string.h>

static bool is_key_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';
}

/* Whether the len bytes may stand between two slashes of a key. */
static bool part_is_valid(const char *part, size_t len)
{
    if (len == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_key_byte(part[i]))
            return false;
    }
    return !(len == 1 && part[0] == '.') &&
           !(len == 2 && part[0] == '.' && part[1] == '.');
}

bool object_key_is_valid(const char *key)
{
    if (strnlen(key, OBJECT_KEY_MAX + 1) > OBJECT_KEY_MAX)
        return false;
    for (;;) {
        size_t len = strcspn(key, "/");

        if (!part_is_valid(key, len))
            return false;
        if (key[len] == '\0')
            return true;
        key += len + 1;
    }
}
