/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_nbdtab - any bytes as a file; what is understood is written as a line
 * that says the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attach/nbdtab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char line[TARGET_LINE_SIZE], again[TARGET_LINE_SIZE];
    struct net_failure failure;
    struct target target;

    for (uint32_t index = 0; index < 3; index++) {
        if (nbdtab_find((const char *)data, size, index, &target, &failure) !=
            0)
            continue;
        require(target.index == index);
        require(target.connections >= 1 &&
                target.connections <= TARGET_CONNECTIONS_MAX);
        (void)target_format(&target, line);
        require(nbdtab_find(line, strlen(line), index, &target, &failure) == 0);
        require(strcmp(target_format(&target, again), line) == 0);
    }
    return 0;
}
