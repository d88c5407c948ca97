/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/object_check.h"

#include <errno.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "object_store.h"

const char *object_state_text(enum object_state state)
{
    switch (state) {
    case OBJECT_MISSING:
        return "is missing";
    case OBJECT_SHORT:
        return "is too short";
    case OBJECT_CHANGED:
        return "is damaged";
    case OBJECT_UNREADABLE:
        return "cannot be read by the store";
    case OBJECT_GOOD:
        break;
    }
    return "is good";
}

static int no_answer(const char *key, int error)
{
    log_error("%s: cannot be checked: %s", key, log_errno(error));
    return error;
}

int object_read(struct object_store *store, const char *key, uint64_t place,
                void *data, size_t size, enum object_state *ret_state)
{
    struct object_info info;
    int error = store->get(store, key, place, data, size, OBJECT_BACKGROUND);

    *ret_state = OBJECT_GOOD;
    if (error == 0)
        return 0;
    if (error != -ENOENT && error != -EIO)
        return no_answer(key, error);
    error = store->head(store, key, &info);
    if (error == -ENOENT) {
        *ret_state = OBJECT_MISSING;
        return 0;
    }
    if (error != 0)
        return no_answer(key, error);
    if (info.size < place || info.size - place < size) {
        *ret_state = OBJECT_SHORT;
        return 0;
    }
    error = store->get(store, key, place, data, size, OBJECT_BACKGROUND);
    if (error == 0)
        return 0;
    if (error != -ENOENT && error != -EIO)
        return no_answer(key, error);
    *ret_state = error == -ENOENT ? OBJECT_MISSING : OBJECT_UNREADABLE;
    return 0;
}

int object_check(struct object_store *store, const char *key, uint64_t place,
                 void *data, size_t size, uint32_t checksum,
                 enum object_state *ret_state)
{
    int error = object_read(store, key, place, data, size, ret_state);

    if (error == 0 && *ret_state == OBJECT_GOOD &&
        crc32c(0, data, size) != checksum)
        *ret_state = OBJECT_CHANGED;
    return error;
}
