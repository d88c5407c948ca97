/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_condemned - any bytes as a page of a list of what may be deleted, as
 * they are and with a checksum that is right.
 *
 * What is accepted is a page that encodes to the very same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/condemned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_page(const uint8_t *data, size_t size)
{
    static struct condemned entries[CONDEMNED_COUNT_MAX];
    static uint8_t again[CONDEMNED_PAGE_MAX];
    struct condemned_page page;

    if (condemned_decode(data, size, &page, entries) != 0)
        return;
    if (condemned_encode(&page, entries, again) != size ||
        memcmp(data, again, size) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { AT_SIZE = 16, AT_CHECKSUM = 20, AT_REST = 24 };
    uint8_t *page;
    uint32_t checksum;

    try_page(data, size);
    if (size < AT_REST)
        return 0;
    page = malloc(size);
    if (!page)
        abort();
    memcpy(page, data, size);
    put_le32(page + AT_SIZE, (uint32_t)size);
    checksum = crc32c(0, page, AT_CHECKSUM);
    put_le32(page + AT_CHECKSUM,
             crc32c(checksum, page + AT_REST, size - AT_REST));
    try_page(page, size);
    free(page);
    return 0;
}
