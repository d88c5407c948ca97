/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/state_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

enum { DIGITS_COUNT = 16 };

static const char *prefix_of(enum state_file_kind kind)
{
    return kind == STATE_FILE_LOG ? "log." : "catalog.";
}

void state_file_name(enum state_file_kind kind, uint64_t number,
                     char name[STATE_FILE_NAME])
{
    (void)snprintf(name, STATE_FILE_NAME, "%s%016" PRIx64, prefix_of(kind),
                   number);
}

const char *state_file_new_name(enum state_file_kind kind)
{
    return kind == STATE_FILE_LOG ? "log.new" : "catalog.new";
}

int state_file_complain(const struct state_files *files,
                        enum state_file_kind kind, uint64_t number,
                        const char *what, int error)
{
    log_error("%s/state/%s%016" PRIx64 ": %s", files->cachedir, prefix_of(kind),
              number, what);
    return error;
}

int state_files_complain(const struct state_files *files, const char *what,
                         int error)
{
    log_error("%s/state: cannot %s: %s", files->cachedir, what,
              log_errno(error));
    return error;
}

/* ---- list ---------------------------------------------------------------- */

/* Read the number of a name.  Returns whether it is one of this kind. */
static bool parse_name(const char *name, enum state_file_kind kind,
                       uint64_t *ret_number)
{
    static const char DIGITS[] = "0123456789abcdef";
    const char *prefix = prefix_of(kind);
    size_t len = strlen(prefix);
    uint64_t number = 0;

    if (strncmp(name, prefix, len) != 0 || strlen(name) != len + DIGITS_COUNT)
        return false;
    for (name += len; *name != '\0'; name++) {
        const char *digit = strchr(DIGITS, *name);

        if (!digit)
            return false;
        number = number << 4 | (uint64_t)(digit - DIGITS);
    }
    *ret_number = number;
    /* Neither is ever written, and one more than a number is a number. */
    return number > 0 && number < UINT64_MAX;
}

static int add_number(struct state_file_numbers *numbers, uint64_t number)
{
    if (numbers->count == numbers->room) {
        size_t room = numbers->room * 2 + 8;
        uint64_t *list = realloc(numbers->list, room * sizeof(list[0]));

        if (!list)
            return -ENOMEM;
        numbers->list = list;
        numbers->room = room;
    }
    numbers->list[numbers->count++] = number;
    return 0;
}

static int add_name(void *context, const char *name)
{
    struct state_inventory *inventory = context;
    uint64_t number;

    if (parse_name(name, STATE_FILE_LOG, &number))
        return add_number(&inventory->logs, number);
    if (parse_name(name, STATE_FILE_SNAPSHOT, &number))
        return add_number(&inventory->snapshots, number);
    return 0;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void sort(struct state_file_numbers *numbers)
{
    if (numbers->count > 0)
        qsort(numbers->list, numbers->count, sizeof(numbers->list[0]),
              compare_numbers);
}

int state_files_list(const struct state_files *files,
                     struct state_inventory *ret_inventory)
{
    int error;

    memset(ret_inventory, 0, sizeof(*ret_inventory));
    error = file_list(files->dirfd, ".", add_name, ret_inventory);
    if (error < 0)
        return state_files_complain(files, "list it", error);
    sort(&ret_inventory->logs);
    sort(&ret_inventory->snapshots);
    return 0;
}

void state_inventory_done(struct state_inventory *inventory)
{
    free(inventory->logs.list);
    free(inventory->snapshots.list);
}

uint64_t state_newest(const struct state_file_numbers *numbers)
{
    return numbers->count > 0 ? numbers->list[numbers->count - 1] : 0;
}

/* ---- remove -------------------------------------------------------------- */

void state_file_remove(const struct state_files *files, const char *name)
{
    int error = file_unlink(files->dirfd, name);

    if (error < 0 && error != -ENOENT)
        log_warning("%s/state/%s: cannot remove: %s", files->cachedir, name,
                    log_errno(error));
}

static void remove_below(const struct state_files *files,
                         enum state_file_kind kind,
                         const struct state_file_numbers *numbers,
                         uint64_t number)
{
    char name[STATE_FILE_NAME];

    for (size_t i = 0; i < numbers->count && numbers->list[i] < number; i++) {
        state_file_name(kind, numbers->list[i], name);
        state_file_remove(files, name);
    }
}

void state_files_remove_older(const struct state_files *files, uint64_t number)
{
    struct state_inventory inventory;

    if (state_files_list(files, &inventory) == 0) {
        remove_below(files, STATE_FILE_SNAPSHOT, &inventory.snapshots, number);
        remove_below(files, STATE_FILE_LOG, &inventory.logs, number);
    }
    state_inventory_done(&inventory);
}
