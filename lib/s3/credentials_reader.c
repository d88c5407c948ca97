/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_reader.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* As getenv: nothing in this program changes the environment. */
static const char *get_own(const char *name)
{
    size_t len = strlen(name);

    for (char **variable = environ; variable && *variable; variable++) {
        if (strncmp(*variable, name, len) == 0 && (*variable)[len] == '=')
            return *variable + len + 1;
    }
    return NULL;
}

const char *credentials_reader_get(const struct credentials_reader *reader,
                                   const char *name)
{
    const char *value =
        reader->environment
            ? reader->environment(reader->environment_context, name)
            : get_own(name);

    return value && value[0] != '\0' ? value : NULL;
}

int credentials_reader_put(struct credentials_set *set,
                           enum credentials_field field, const char *name,
                           const char *text, size_t len,
                           struct net_failure *ret_failure)
{
    const char *mistake;

    if (len > 0 && text[len - 1] == '\n')
        len--;
    mistake = credentials_set_put(set, field, text, len);
    if (!mistake)
        return 0;
    net_failure_set(ret_failure, -EACCES, "%s %s", name, mistake);
    return -EACCES;
}

int credentials_reader_put_region(const struct credentials_reader *reader,
                                  struct credentials_set *set,
                                  struct net_failure *ret_failure)
{
    const char *name = "AWS_REGION";
    const char *value = credentials_reader_get(reader, name);

    if (!value)
        value = credentials_reader_get(reader, name = "AWS_DEFAULT_REGION");
    if (!value)
        return 0;
    return credentials_reader_put(set, CREDENTIALS_REGION, name, value,
                                  strlen(value), ret_failure);
}
