/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/nbdtab.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { FIELDS_MAX = 4, LINE_SIZE = 4096 };

/*
 * Cut a line into its fields, in place, up to a comment.  Returns how many
 * there are; one more than FIELDS_MAX stands for all that are too many.
 */
static size_t split_fields(char *line, char *fields[FIELDS_MAX])
{
    static const char space[] = " \t\r";
    size_t count = 0;

    for (;;) {
        line += strspn(line, space);
        if (*line == '\0' || *line == '#')
            return count;
        if (count == FIELDS_MAX)
            return count + 1;
        fields[count++] = line;
        line += strcspn(line, space);
        if (*line != '\0')
            *line++ = '\0';
    }
}

static int set_options(struct target *target, char *options,
                       struct net_failure *ret_failure)
{
    int error = 0;

    while (error == 0 && options) {
        char *name = strsep(&options, ",");
        char *value = strchr(name, '=');

        if (value)
            *value++ = '\0';
        error = target_set_option(target, name, value, ret_failure);
    }
    return error;
}

/* Fill in the target from the fields of its line. */
static int parse_fields(char *const fields[], size_t count, uint32_t index,
                        struct target *target, struct net_failure *ret_failure)
{
    int error;

    if (count < 3 || count > FIELDS_MAX) {
        net_failure_set(ret_failure, -EINVAL,
                        "it is not DEVICE SERVER EXPORT [OPTIONS]");
        return -EINVAL;
    }
    target_init(target);
    target->index = index;
    error = target_set_server(target, fields[1], ret_failure);
    if (error == 0)
        error = target_set_export(target, fields[2], ret_failure);
    if (error == 0 && count > 3)
        error = set_options(target, fields[3], ret_failure);
    return error == 0 ? target_check(target, ret_failure) : error;
}

/* Read one line; -ENOENT: it is of another device, or of none. */
static int read_line(const char *text, size_t len, uint32_t index,
                     struct target *target, struct net_failure *ret_failure)
{
    char line[LINE_SIZE];
    char *fields[FIELDS_MAX];
    uint32_t found;
    size_t count;

    /* No device has so long a line, nor one that ends in its middle. */
    if (len >= sizeof(line) || memchr(text, '\0', len))
        return -ENOENT;
    memcpy(line, text, len);
    line[len] = '\0';
    count = split_fields(line, fields);
    if (count == 0 || target_parse_device(fields[0], &found) != 0 ||
        found != index)
        return -ENOENT;
    return parse_fields(fields, count, index, target, ret_failure);
}

int nbdtab_find(const char *text, size_t len, uint32_t index,
                struct target *ret_target, struct net_failure *ret_failure)
{
    size_t number = 1;

    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t line_len = end ? (size_t)(end - text) : len;
        struct target target;
        struct net_failure failure;
        int error = read_line(text, line_len, index, &target, &failure);

        if (error == 0)
            *ret_target = target;
        else if (error != -ENOENT)
            net_failure_set(ret_failure, error, "line %zu: %s", number,
                            failure.text);
        if (error != -ENOENT)
            return error;
        number++;
        text += line_len + (end ? 1 : 0);
        len -= line_len + (end ? 1 : 0);
    }
    net_failure_set(ret_failure, -ENOENT, "there is no line of nbd%u", index);
    return -ENOENT;
}
