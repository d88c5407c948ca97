/* SPDX-License-Identifier: BSD-2-Clause */
/* The bytes; docs/FORMAT.md says the same in words. */
#include "cache/condemned.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

static const unsigned char MAGIC[8] = "s3bcondm";

enum {
    VERSION = 1,

    /* These five stay where they are in every later version. */
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_SIZE = 16,
    AT_CHECKSUM = 20,
    AT_CHECKSUM_END = 24,

    AT_EPOCH = 24,
    AT_NONCE = 32,
    AT_PAGE = 40,
    AT_IS_END = 44,
    AT_COUNT = 48,
    AT_RESERVED = 52,
};

static uint32_t checksum_of(const unsigned char *data, size_t size)
{
    uint32_t checksum = crc32c(0, data, AT_CHECKSUM);

    return crc32c(checksum, data + AT_CHECKSUM_END, size - AT_CHECKSUM_END);
}

static bool entry_is_valid(const struct condemned *entry)
{
    switch (entry->kind) {
    case CONDEMNED_ROOT:
    case CONDEMNED_PAGE:
        return entry->chunk == 0 && entry->number <= UINT32_MAX;
    case CONDEMNED_OBJECT:
        return true;
    case CONDEMNED_EPOCH:
        return entry->chunk == 0 && entry->epoch > 0 && entry->number <= 1;
    case CONDEMNED_PIN:
        return entry->chunk == 0 && entry->number == 0;
    default:
        return false;
    }
}

size_t condemned_encode(const struct condemned_page *page,
                        const struct condemned entries[], void *data)
{
    unsigned char *bytes = data, *at = bytes + CONDEMNED_HEADER;
    size_t size = CONDEMNED_HEADER + (size_t)page->count * CONDEMNED_ENTRY;

    assert(page->count <= CONDEMNED_COUNT_MAX);
    memset(bytes, 0, CONDEMNED_HEADER);
    memcpy(bytes + AT_MAGIC, MAGIC, sizeof(MAGIC));
    put_le32(bytes + AT_VERSION, VERSION);
    put_le32(bytes + AT_SIZE, (uint32_t)size);
    put_le64(bytes + AT_EPOCH, page->epoch);
    put_le64(bytes + AT_NONCE, page->nonce);
    put_le32(bytes + AT_PAGE, page->page);
    put_le32(bytes + AT_IS_END, page->is_end);
    put_le32(bytes + AT_COUNT, page->count);
    for (uint32_t i = 0; i < page->count; i++, at += CONDEMNED_ENTRY) {
        assert(entry_is_valid(&entries[i]));
        put_le32(at, (uint32_t)entries[i].kind);
        put_le64(at + 4, entries[i].chunk);
        put_le64(at + 12, entries[i].epoch);
        put_le64(at + 20, entries[i].nonce);
        put_le64(at + 28, entries[i].number);
    }
    put_le32(bytes + AT_CHECKSUM, checksum_of(bytes, size));
    return size;
}

static bool take_entries(const unsigned char *at, uint32_t count,
                         struct condemned entries[])
{
    for (uint32_t i = 0; i < count; i++, at += CONDEMNED_ENTRY) {
        uint32_t kind = get_le32(at);

        if (kind < CONDEMNED_ROOT || kind > CONDEMNED_PIN)
            return false;
        entries[i].kind = (enum condemned_kind)kind;
        entries[i].chunk = get_le64(at + 4);
        entries[i].epoch = get_le64(at + 12);
        entries[i].nonce = get_le64(at + 20);
        entries[i].number = get_le64(at + 28);
        if (!entry_is_valid(&entries[i]))
            return false;
    }
    return true;
}

int condemned_decode(const void *data, size_t size,
                     struct condemned_page *ret_page,
                     struct condemned entries[])
{
    const unsigned char *bytes = data;
    struct condemned_page page;

    if (size < AT_CHECKSUM_END || size > CONDEMNED_PAGE_MAX ||
        memcmp(bytes + AT_MAGIC, MAGIC, sizeof(MAGIC)) != 0 ||
        get_le32(bytes + AT_SIZE) != size ||
        get_le32(bytes + AT_CHECKSUM) != checksum_of(bytes, size))
        return -EBADMSG;
    if (get_le32(bytes + AT_VERSION) != VERSION ||
        get_le32(bytes + AT_FLAGS) != 0)
        return -EPROTONOSUPPORT;
    if (size < CONDEMNED_HEADER)
        return -EBADMSG;
    page.epoch = get_le64(bytes + AT_EPOCH);
    page.nonce = get_le64(bytes + AT_NONCE);
    page.page = get_le32(bytes + AT_PAGE);
    page.is_end = get_le32(bytes + AT_IS_END) == 1;
    page.count = get_le32(bytes + AT_COUNT);
    if (get_le32(bytes + AT_IS_END) > 1 || page.count > CONDEMNED_COUNT_MAX ||
        size != CONDEMNED_HEADER + (size_t)page.count * CONDEMNED_ENTRY ||
        !bytes_are_zero(bytes + AT_RESERVED, CONDEMNED_HEADER - AT_RESERVED) ||
        !take_entries(bytes + CONDEMNED_HEADER, page.count, entries))
        return -EBADMSG;
    *ret_page = page;
    return 0;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

int condemned_compare(const struct condemned *a, const struct condemned *b)
{
    int order = compare_numbers(a->kind, b->kind);

    if (order == 0)
        order = compare_numbers(a->chunk, b->chunk);
    if (order == 0)
        order = compare_numbers(a->epoch, b->epoch);
    if (order == 0)
        order = compare_numbers(a->nonce, b->nonce);
    return order == 0 ? compare_numbers(a->number, b->number) : order;
}

void condemned_key(const char *device_name, const struct condemned_page *page,
                   char key[CONDEMNED_KEY_MAX])
{
    char name[9] = "end";

    if (!page->is_end)
        (void)snprintf(name, sizeof(name), "%08" PRIx32, page->page);
    (void)snprintf(key, CONDEMNED_KEY_MAX,
                   "%s/condemned/%016" PRIx64 "-%016" PRIx64 "/%s", device_name,
                   page->epoch, page->nonce, name);
}
