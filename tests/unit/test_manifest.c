/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/manifest.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "unit/test.h"

enum {
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_SIZE = 16,
    AT_CHECKSUM = 20,
};

static const uint64_t TEBI = UINT64_C(1) << 40;

/* Set what must be right so that decode looks at everything else. */
static void seal(unsigned char *data, size_t size)
{
    uint32_t checksum;

    put_le32(data + AT_SIZE, (uint32_t)size);
    checksum = crc32c(0, data, AT_CHECKSUM);
    put_le32(data + AT_CHECKSUM,
             crc32c(checksum, data + AT_CHECKSUM + 4, size - AT_CHECKSUM - 4));
}

/* Chunk i has i % 18 - 1 objects: none is zeros, -1 a hole. */
static void fill_leaf(struct manifest_leaf *leaf)
{
    uint32_t next = 0;

    memset(leaf, 0, sizeof(*leaf));
    leaf->number = 77;
    leaf->objects = calloc(MANIFEST_LEAF_CHUNKS * CHUNK_OBJECTS_MAX,
                           sizeof(*leaf->objects));
    if (!leaf->objects)
        abort();
    for (unsigned i = 0; i < MANIFEST_LEAF_CHUNKS; i++) {
        leaf->first[i] = next;
        leaf->is_mapped[i] = i % 18 != 0;
        leaf->count += leaf->is_mapped[i];
        for (unsigned o = 1; o < i % 18; o++) {
            struct chunk_object *object = &leaf->objects[next++];

            object->id.epoch = 1 + i % 5;
            object->id.nonce = UINT64_C(0xfedcba9876543210) - o % 3;
            object->id.counter = (uint64_t)i << 40 | o;
            object->origin = i % 7 == 0 ? 0xabcdef01 : 0;
            object->table_size = 4096 * (1 + o % 4);
            object->table_checksum = 0x01020304 * o;
        }
    }
    leaf->first[MANIFEST_LEAF_CHUNKS] = next;
}

static bool objects_are_equal(const struct chunk_object *a,
                              const struct chunk_object *b)
{
    return a->id.epoch == b->id.epoch && a->id.nonce == b->id.nonce &&
           a->id.counter == b->id.counter && a->origin == b->origin &&
           a->table_size == b->table_size &&
           a->table_checksum == b->table_checksum;
}

TEST("a leaf is decoded to what was encoded")
{
    struct manifest_leaf leaf, found;
    void *data;
    size_t size;

    fill_leaf(&leaf);
    CHECK(manifest_leaf_encode(&leaf, &data, &size) == 0);
    CHECK(size <= MANIFEST_LEAF_MAX);
    CHECK(manifest_leaf_decode(data, size, &found) == 0);
    CHECK(found.number == 77 && found.count == leaf.count);
    CHECK(memcmp(found.first, leaf.first, sizeof(leaf.first)) == 0);
    CHECK(memcmp(found.is_mapped, leaf.is_mapped, sizeof(leaf.is_mapped)) == 0);
    for (uint32_t i = 0; i < leaf.first[MANIFEST_LEAF_CHUNKS]; i++)
        CHECK(objects_are_equal(&found.objects[i], &leaf.objects[i]));
    manifest_leaf_done(&found);
    manifest_leaf_done(&leaf);
    free(data);
}

TEST("a full leaf, one object a chunk, of one claim, takes less than 48 KiB")
{
    struct manifest_leaf leaf = {.count = MANIFEST_LEAF_CHUNKS};
    void *data;
    size_t size;

    leaf.objects = calloc(MANIFEST_LEAF_CHUNKS, sizeof(*leaf.objects));
    for (uint32_t i = 0; i < MANIFEST_LEAF_CHUNKS; i++) {
        leaf.is_mapped[i] = 1;
        leaf.first[i + 1] = i + 1;
        leaf.objects[i].id.counter = i;
        leaf.objects[i].table_size = 4096;
    }
    CHECK(manifest_leaf_encode(&leaf, &data, &size) == 0);
    CHECK(size < 48 << 10);
    manifest_leaf_done(&leaf);
    free(data);
}

TEST("a leaf with any one bit changed is refused")
{
    struct manifest_leaf leaf, found;
    unsigned char *bytes;
    void *data;
    size_t size;

    fill_leaf(&leaf);
    CHECK(manifest_leaf_encode(&leaf, &data, &size) == 0);
    bytes = data;
    for (size_t bit = 0; bit < size * 8; bit += bit < 1024 ? 1 : 4099) {
        bytes[bit / 8] ^= (unsigned char)(1U << bit % 8);
        CHECK(manifest_leaf_decode(data, size, &found) == -EBADMSG);
        bytes[bit / 8] ^= (unsigned char)(1U << bit % 8);
    }
    CHECK(manifest_leaf_decode(data, size - 1, &found) == -EBADMSG);
    CHECK(manifest_leaf_decode(data, 0, &found) == -EBADMSG);
    manifest_leaf_done(&leaf);
    free(data);
}

/* A small leaf: chunk 1 zeros, chunk 3 two objects of two claims. */
static void *small_leaf(size_t *ret_size)
{
    struct chunk_object objects[2] = {
        {.id = {1, 2, 3}, .table_size = 4096, .table_checksum = 9},
        {.id = {4, 5, 6}, .table_size = 8192, .table_checksum = 8},
    };
    struct manifest_leaf leaf = {.count = 2, .objects = objects};
    void *data = NULL;

    leaf.is_mapped[1] = leaf.is_mapped[3] = 1;
    for (unsigned i = 4; i <= MANIFEST_LEAF_CHUNKS; i++)
        leaf.first[i] = 2;
    CHECK(manifest_leaf_encode(&leaf, &data, ret_size) == 0);
    return data;
}

enum {
    NAMES = 64,              /* where the dictionary of small_leaf is */
    BITMAP = NAMES + 2 * 20, /* and so on */
    COUNTS = BITMAP + 256,
    OBJECTS = COUNTS + 2,
};

/* What decode says to small_leaf with size bytes at offset changed. */
static int decode_with(size_t offset, const void *bytes, size_t len)
{
    struct manifest_leaf found;
    size_t size;
    unsigned char *data = small_leaf(&size);
    int error;

    memcpy(data + offset, bytes, len);
    seal(data, size);
    error = manifest_leaf_decode(data, size, &found);
    if (error == 0)
        manifest_leaf_done(&found);
    free(data);
    return error;
}

static int decode_with_32(size_t offset, uint32_t value)
{
    unsigned char bytes[4];

    put_le32(bytes, value);
    return decode_with(offset, bytes, sizeof(bytes));
}

TEST("every number in a leaf is checked, whatever the checksum says")
{
    static const unsigned char zeros[40], ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};

    CHECK(decode_with(0, "s3bmleaf", 8) == 0);
    CHECK(decode_with(0, "s3bmroot", 8) == -EBADMSG);
    CHECK(decode_with_32(AT_VERSION, 2) == -EPROTONOSUPPORT);
    CHECK(decode_with_32(AT_FLAGS, 1) == -EPROTONOSUPPORT);
    CHECK(decode_with_32(32, 0) == -EBADMSG); /* chunks */
    CHECK(decode_with_32(32, 3) == -EBADMSG);
    CHECK(decode_with_32(32, UINT32_MAX) == -EBADMSG);
    CHECK(decode_with_32(36, 1) == -EBADMSG); /* names */
    CHECK(decode_with_32(36, UINT32_MAX) == -EBADMSG);
    CHECK(decode_with_32(40, 1) == -EBADMSG); /* objects */
    CHECK(decode_with_32(40, UINT32_MAX) == -EBADMSG);
    CHECK(decode_with_32(44, 1) == -EBADMSG); /* reserved */
    CHECK(decode_with_32(60, 1) == -EBADMSG);
    /* The dictionary: doubles, not ascending, unused. */
    CHECK(decode_with(NAMES + 20, zeros, 20) == -EBADMSG);
    CHECK(decode_with_32(NAMES, 9) == -EBADMSG);
    CHECK(decode_with(OBJECTS, ones, 1) == -EBADMSG);
    CHECK(decode_with(OBJECTS, ones, 2) == -EBADMSG); /* no such name */
    /* Which chunks, and how many objects. */
    CHECK(decode_with(BITMAP, zeros, 1) == -EBADMSG);
    CHECK(decode_with(BITMAP + 255, ones, 1) == -EBADMSG);
    CHECK(decode_with(COUNTS, ones, 1) == -EBADMSG);
    CHECK(decode_with(COUNTS + 1, "\x11", 1) == -EBADMSG);
    /* An object's table. */
    CHECK(decode_with_32(OBJECTS + 10, 0) == -EBADMSG);
    CHECK(decode_with_32(OBJECTS + 10, 1 << 20) == -EBADMSG);
    CHECK(decode_with_32(OBJECTS + 10, 5000) == 0);
}

static void fill_root(struct manifest_root *root, uint32_t leaves)
{
    memset(root, 0, sizeof(*root));
    root->epoch = 9;
    root->nonce = 0x1234;
    root->size = 10 * TEBI;
    root->chunk_size = 8 << 20;
    root->leaves = calloc(leaves + 1UL, sizeof(*root->leaves));
    root->origins = calloc(2, sizeof(*root->origins));
    if (!root->leaves || !root->origins)
        abort();
    root->leaves_count = leaves;
    for (uint32_t i = 0; i < leaves; i++) {
        root->leaves[i] = (struct manifest_leaf_ref){
            .number = i,
            .epoch = 3 + i % 4,
            .nonce = 99,
            .origin = i % 9 == 0 ? manifest_origin("golden") : 0,
            .page = i / 4,
            .size = 40000 + i,
            .checksum = i * 31,
            .chunks = (uint16_t)(1 + i % MANIFEST_LEAF_CHUNKS)};
        root->chunks += root->leaves[i].chunks;
    }
    root->origins_count = 1;
    memcpy(root->origins[0], "golden", 6);
}

TEST("a root is decoded to what was encoded, also without a leaf")
{
    static const uint32_t counts[] = {0, 1, 640};

    for (size_t c = 0; c < 3; c++) {
        struct manifest_root root, found;
        void *data;
        size_t size;

        fill_root(&root, counts[c]);
        CHECK(manifest_root_encode(&root, &data, &size) == 0);
        CHECK(manifest_root_decode(data, size, &found) == 0);
        CHECK(found.epoch == 9 && found.nonce == 0x1234);
        CHECK(found.size == root.size && found.chunk_size == 8 << 20);
        CHECK(found.chunks == root.chunks);
        CHECK(found.leaves_count == counts[c] && found.origins_count == 1);
        CHECK(strcmp(found.origins[0], "golden") == 0);
        for (uint32_t i = 0; i < counts[c]; i++) {
            const struct manifest_leaf_ref *a = &found.leaves[i],
                                           *b = &root.leaves[i];

            CHECK(a->number == b->number && a->epoch == b->epoch &&
                  a->nonce == b->nonce && a->origin == b->origin &&
                  a->page == b->page && a->size == b->size &&
                  a->checksum == b->checksum && a->chunks == b->chunks);
        }
        manifest_root_done(&found);
        manifest_root_done(&root);
        free(data);
    }
}

TEST("a root with any one bit changed is refused")
{
    struct manifest_root root, found;
    unsigned char *bytes;
    void *data;
    size_t size;

    fill_root(&root, 3);
    CHECK(manifest_root_encode(&root, &data, &size) == 0);
    bytes = data;
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1U << bit % 8);
        CHECK(manifest_root_decode(data, size, &found) == -EBADMSG);
        bytes[bit / 8] ^= (unsigned char)(1U << bit % 8);
    }
    manifest_root_done(&root);
    free(data);
}

/* What decode says to a root of two leaves with these bytes changed. */
static int decode_root_with(size_t offset, const void *bytes, size_t len)
{
    struct manifest_root root, found;
    void *data;
    size_t size;
    int error;

    fill_root(&root, 2);
    CHECK(manifest_root_encode(&root, &data, &size) == 0);
    memcpy((unsigned char *)data + offset, bytes, len);
    seal(data, size);
    error = manifest_root_decode(data, size, &found);
    if (error == 0)
        manifest_root_done(&found);
    manifest_root_done(&root);
    free(data);
    return error;
}

static int decode_root_with_32(size_t offset, uint32_t value)
{
    unsigned char bytes[4];

    put_le32(bytes, value);
    return decode_root_with(offset, bytes, sizeof(bytes));
}

TEST("every number in a root is checked, whatever the checksum says")
{
    enum { ORIGIN = 96, NAME = ORIGIN + 64, LEAF = NAME + 2 * 20 };
    static const unsigned char zeros[64];

    CHECK(decode_root_with(0, "s3bmroot", 8) == 0);
    CHECK(decode_root_with(0, "s3bmleaf", 8) == -EBADMSG);
    CHECK(decode_root_with_32(AT_VERSION, 2) == -EPROTONOSUPPORT);
    CHECK(decode_root_with_32(AT_FLAGS, 8) == -EPROTONOSUPPORT);
    CHECK(decode_root_with(40, zeros, 8) == -EBADMSG); /* size of device */
    CHECK(decode_root_with_32(48, 0) == -EBADMSG);     /* chunk size */
    CHECK(decode_root_with_32(48, 3 << 20) == -EBADMSG);
    CHECK(decode_root_with_32(48, 1U << 31) == -EBADMSG);
    CHECK(decode_root_with_32(52, 1) == -EBADMSG); /* leaves */
    CHECK(decode_root_with_32(52, UINT32_MAX) == -EBADMSG);
    CHECK(decode_root_with_32(56, 3) == -EBADMSG); /* names */
    CHECK(decode_root_with_32(60, 2) == -EBADMSG); /* origins */
    CHECK(decode_root_with_32(60, UINT32_MAX) == -EBADMSG);
    CHECK(decode_root_with_32(92, 1) == -EBADMSG); /* reserved */
    CHECK(decode_root_with(ORIGIN, zeros, 64) == -EBADMSG);
    CHECK(decode_root_with(ORIGIN, "other", 5) == -EBADMSG); /* leaf 0's */
    CHECK(decode_root_with(ORIGIN, "../..", 5) == -EBADMSG);
    CHECK(decode_root_with(ORIGIN + 63, "x", 1) == -EBADMSG);
    CHECK(decode_root_with_32(LEAF + 26, 0) == -EBADMSG); /* number: double */
    CHECK(decode_root_with_32(LEAF + 26, 640) == -EBADMSG);
    CHECK(decode_root_with_32(LEAF + 26, 639) == 0);
    CHECK(decode_root_with_32(LEAF + 8, 2) == -EBADMSG); /* name */
    CHECK(decode_root_with_32(LEAF + 8, 1) == -EBADMSG); /* 0 is unused */
    CHECK(decode_root_with_32(LEAF + 16, 0) == -EBADMSG);
    CHECK(decode_root_with_32(LEAF + 16, UINT32_MAX) == -EBADMSG);
    CHECK(decode_root_with(LEAF + 24, zeros, 2) == -EBADMSG); /* chunks */
    CHECK(decode_root_with(LEAF + 24, "\x01\x08", 2) == -EBADMSG);
}

TEST("more leaves than a root has room for are refused")
{
    struct manifest_root root;
    void *data;
    size_t size;

    fill_root(&root, 0);
    free(root.leaves);
    root.leaves_count = (MANIFEST_ROOT_MAX - 96 - 64) / 26;
    root.leaves = calloc(root.leaves_count + 1UL, sizeof(*root.leaves));
    root.size = UINT64_C(1) << 60;
    for (uint32_t i = 0; i <= root.leaves_count; i++)
        root.leaves[i] = (struct manifest_leaf_ref){
            .number = i, .size = 1, .chunks = 1, .epoch = 1};
    /* One name, of 20 bytes, takes the room of one leaf. */
    CHECK(manifest_root_encode(&root, &data, &size) == -EFBIG);
    root.leaves_count--;
    CHECK(manifest_root_encode(&root, &data, &size) == 0);
    CHECK(size <= MANIFEST_ROOT_MAX);
    manifest_root_done(&root);
    free(data);
}

TEST("an origin's number follows from the name, and is never 0")
{
    CHECK(manifest_origin("123456789") == 0xe3069283);
    CHECK(manifest_origin("disk") != manifest_origin("disc"));
    CHECK(manifest_origin("") == 1);
}
