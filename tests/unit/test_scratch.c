/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/scratch.h"

#include <pthread.h>
#include <string.h>

#include "test.h"

static void *fill(void *context)
{
    struct scratch *scratch = scratch_get();

    if (scratch != NULL)
        memset(scratch, 0xff, sizeof(*scratch));
    *(bool *)context = scratch != NULL && scratch == scratch_get();
    return NULL;
}

/* Nothing of an ended thread is left: that is for the leak checker to say. */
TEST("a thread keeps what it was given, and no other has it")
{
    struct scratch *own = scratch_get();
    bool is_same = false;
    pthread_t thread;

    CHECK(own != NULL && own == scratch_get());
    memset(own, 0x11, sizeof(*own));
    CHECK(pthread_create(&thread, NULL, fill, &is_same) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(is_same);
    CHECK(own->fold_block[0] == 0x11);
    CHECK(own->reader_read_part[CACHE_BLOCK - 1] == 0x11);
}
