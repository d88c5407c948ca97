/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_manifest - any bytes as a page of a manifest, as they are and with a
 * checksum that is right.
 *
 * What is accepted is a page that encodes to the very same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const uint8_t *data, size_t size, void *again,
                    size_t again_size)
{
    if (size != again_size || memcmp(data, again, size) != 0)
        abort();
    free(again);
}

static void try_page(const uint8_t *data, size_t size)
{
    struct manifest_leaf *leaf = malloc(sizeof(*leaf));
    struct manifest_root root;
    size_t again_size;
    void *again;

    if (!leaf)
        abort();
    if (manifest_leaf_decode(data, size, leaf) == 0) {
        if (manifest_leaf_encode(leaf, &again, &again_size) != 0)
            abort();
        compare(data, size, again, again_size);
        manifest_leaf_done(leaf);
    }
    if (manifest_root_decode(data, size, &root) == 0) {
        if (manifest_root_encode(&root, &again, &again_size) != 0)
            abort();
        compare(data, size, again, again_size);
        manifest_root_done(&root);
    }
    free(leaf);
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
