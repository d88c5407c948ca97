/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_nbd_record - any bytes as a record, with a checksum that is right; what
 * is understood lies inside them, and is the same when written again.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "nbd/nbd_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { AT_CHECKSUM = 12 };

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void require_same(const struct nbd_record *record, const uint8_t *bytes,
                         size_t len)
{
    AUTO_FREE uint8_t *again = malloc(len);
    struct nbd_record read;
    uint8_t *replies, *requests;

    require(again != NULL && nbd_record_size(record) == len);
    nbd_record_begin(record, again, &replies, &requests);
    require(replies - again == record->replies - bytes);
    require(requests - again == record->requests - bytes);
    if (record->replies_len > 0)
        memcpy(replies, record->replies, record->replies_len);
    if (record->requests_len > 0)
        memcpy(requests, record->requests, record->requests_len);
    nbd_record_seal(again, len);
    require(nbd_record_read(again, len, &read) == 0);
    require(strcmp(read.name, record->name) == 0);
    require(strcmp(read.incarnation, record->incarnation) == 0);
    require(read.is_discarding == record->is_discarding);
    require(!read.is_discarding || read.discard_at == record->discard_at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE uint8_t *bytes = malloc(size + 1);
    struct nbd_record record;

    require(bytes != NULL);
    memcpy(bytes, data, size);
    if (size >= AT_CHECKSUM + 4)
        nbd_record_seal(bytes, size);
    if (nbd_record_read(bytes, size, &record) == 0)
        require_same(&record, bytes, size);
    return 0;
}
