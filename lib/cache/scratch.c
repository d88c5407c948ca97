/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/scratch.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

static void make_key(void)
{
    has_key = pthread_key_create(&key, free) == 0;
}

struct scratch *scratch_get(void)
{
    struct scratch *scratch;

    if (pthread_once(&once, make_key) != 0 || !has_key)
        return NULL;
    scratch = pthread_getspecific(key);
    if (scratch != NULL)
        return scratch;
    scratch = malloc(sizeof(*scratch));
    if (scratch != NULL && pthread_setspecific(key, scratch) != 0) {
        free(scratch);
        return NULL;
    }
    return scratch;
}
