/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bytes of a manifest's pages; docs/FORMAT.md says the same in words.
 *
 * Both kinds begin alike and have a dictionary: the claims, or images, whose
 * epoch and nonce (and origin) the rest names by their number in it.  It is
 * sorted, without doubles, and nothing in it is unused.
 */
#include "cache/manifest.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "object_store.h"

static const unsigned char LEAF_MAGIC[8] = "s3bmleaf";
static const unsigned char ROOT_MAGIC[8] = "s3bmroot";

enum {
    VERSION = 1,

    /* These five stay where they are in every later version. */
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_SIZE = 16,
    AT_CHECKSUM = 20,
    AT_CHECKSUM_END = 24,

    LEAF_AT_NUMBER = 24,
    LEAF_AT_CHUNKS = 32,
    LEAF_AT_NAMES = 36,
    LEAF_AT_OBJECTS = 40,
    LEAF_AT_RESERVED = 44,
    LEAF_HEADER = 64,
    BITMAP_SIZE = MANIFEST_LEAF_CHUNKS / CHAR_BIT,
    OBJECT_SIZE = 18,
    LEAF_OBJECTS_MAX = MANIFEST_LEAF_CHUNKS * CHUNK_OBJECTS_MAX,

    ROOT_AT_EPOCH = 24,
    ROOT_AT_NONCE = 32,
    ROOT_AT_DEVICE_SIZE = 40,
    ROOT_AT_CHUNK_SIZE = 48,
    ROOT_AT_LEAVES = 52,
    ROOT_AT_NAMES = 56,
    ROOT_AT_ORIGINS = 60,
    ROOT_AT_RESERVED = 64,
    ROOT_HEADER = 96,
    LEAF_REF_SIZE = 26,
    ORIGIN_SIZE = DEVICE_NAME_MAX + 1,

    NAME_SIZE = 20,
};

_Static_assert(LEAF_HEADER + BITMAP_SIZE + MANIFEST_LEAF_CHUNKS +
                       LEAF_OBJECTS_MAX * (NAME_SIZE + OBJECT_SIZE) <=
                   MANIFEST_LEAF_MAX,
               "the largest leaf has room");
_Static_assert(LEAF_OBJECTS_MAX <= UINT16_MAX, "a number has room");

uint32_t manifest_origin(const char *device_name)
{
    uint32_t number = crc32c(0, device_name, strlen(device_name));

    return number == 0 ? 1 : number;
}

/* ---- what both pages have ------------------------------------------------ */

static uint32_t checksum_of(const unsigned char *data, size_t size)
{
    uint32_t checksum = crc32c(0, data, AT_CHECKSUM);

    return crc32c(checksum, data + AT_CHECKSUM_END, size - AT_CHECKSUM_END);
}

static void seal(unsigned char *data, size_t size, const unsigned char magic[8])
{
    memcpy(data + AT_MAGIC, magic, 8);
    put_le32(data + AT_VERSION, VERSION);
    put_le32(data + AT_FLAGS, 0);
    put_le32(data + AT_SIZE, (uint32_t)size);
    put_le32(data + AT_CHECKSUM, checksum_of(data, size));
}

static int check_seal(const unsigned char *data, size_t size,
                      const unsigned char magic[8], size_t header)
{
    if (size < AT_CHECKSUM_END || memcmp(data + AT_MAGIC, magic, 8) != 0 ||
        get_le32(data + AT_SIZE) != size ||
        get_le32(data + AT_CHECKSUM) != checksum_of(data, size))
        return -EBADMSG;
    if (get_le32(data + AT_VERSION) != VERSION ||
        get_le32(data + AT_FLAGS) != 0)
        return -EPROTONOSUPPORT;
    return size < header ? -EBADMSG : 0;
}

/* An entry of the dictionary. */
struct name {
    uint64_t epoch;
    uint64_t nonce;
    uint32_t origin;
};

static int compare_numbers(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_names(const void *left, const void *right)
{
    const struct name *a = left, *b = right;
    int order = compare_numbers(a->epoch, b->epoch);

    if (order == 0)
        order = compare_numbers(a->nonce, b->nonce);
    return order == 0 ? compare_numbers(a->origin, b->origin) : order;
}

/* Sort names and remove doubles.  Returns how many are left. */
static uint32_t make_dictionary(struct name *names, uint32_t count)
{
    uint32_t kept = 0;

    if (count == 0)
        return 0;
    qsort(names, count, sizeof(names[0]), compare_names);
    for (uint32_t i = 1; i < count; i++) {
        if (compare_names(&names[i], &names[kept]) != 0)
            names[++kept] = names[i];
    }
    return kept + 1;
}

/* Returns the number of a name that is in the dictionary. */
static uint32_t look_up(const struct name *names, uint32_t count,
                        uint64_t epoch, uint64_t nonce, uint32_t origin)
{
    struct name name = {epoch, nonce, origin};
    const struct name *found =
        bsearch(&name, names, count, sizeof(names[0]), compare_names);

    assert(found);
    return (uint32_t)(found - names);
}

static unsigned char *put_names(unsigned char *at, const struct name *names,
                                uint32_t count)
{
    for (uint32_t i = 0; i < count; i++, at += NAME_SIZE) {
        put_le64(at, names[i].epoch);
        put_le64(at + 8, names[i].nonce);
        put_le32(at + 16, names[i].origin);
    }
    return at;
}

/* The dictionary of a page that is being decoded, as it stands there. */
struct dictionary {
    const unsigned char *bytes;
    uint32_t count;
    uint8_t *is_used; /* a byte for each */
};

static struct name name_at(const struct dictionary *names, uint32_t number)
{
    const unsigned char *at = names->bytes + (size_t)number * NAME_SIZE;

    return (struct name){get_le64(at), get_le64(at + 8), get_le32(at + 16)};
}

static bool is_sorted(const struct dictionary *names)
{
    for (uint32_t i = 1; i < names->count; i++) {
        struct name before = name_at(names, i - 1), name = name_at(names, i);

        if (compare_names(&before, &name) >= 0)
            return false;
    }
    return true;
}

static bool all_are_used(const struct dictionary *names)
{
    return names->count == 0 || memchr(names->is_used, 0, names->count) == NULL;
}

/* ---- leaf --------------------------------------------------------------- */

void manifest_leaf_done(struct manifest_leaf *leaf)
{
    free(leaf->objects);
    leaf->objects = NULL;
}

static bool object_is_valid(const struct chunk_object *object)
{
    return object->table_size > 0 &&
           object->table_size <= chunk_table_encoded_max(DEVICE_CHUNK_SIZE_MAX);
}

static size_t leaf_size(uint32_t names, unsigned chunks, uint32_t objects)
{
    return LEAF_HEADER + (size_t)names * NAME_SIZE + BITMAP_SIZE + chunks +
           (size_t)objects * OBJECT_SIZE;
}

static void put_leaf(const struct manifest_leaf *leaf, const struct name *names,
                     uint32_t names_count, unsigned char *data, size_t size)
{
    uint32_t objects = leaf->first[MANIFEST_LEAF_CHUNKS];
    unsigned char *at, *bitmap;

    put_le64(data + LEAF_AT_NUMBER, leaf->number);
    put_le32(data + LEAF_AT_CHUNKS, leaf->count);
    put_le32(data + LEAF_AT_NAMES, names_count);
    put_le32(data + LEAF_AT_OBJECTS, objects);
    bitmap = put_names(data + LEAF_HEADER, names, names_count);
    at = bitmap + BITMAP_SIZE;
    for (unsigned i = 0; i < MANIFEST_LEAF_CHUNKS; i++) {
        uint32_t count = leaf->first[i + 1] - leaf->first[i];

        assert(count <= CHUNK_OBJECTS_MAX && (leaf->is_mapped[i] || !count));
        if (!leaf->is_mapped[i])
            continue;
        bitmap[i / CHAR_BIT] |= (unsigned char)(1U << i % CHAR_BIT);
        *at++ = (unsigned char)count;
    }
    for (uint32_t i = 0; i < objects; i++, at += OBJECT_SIZE) {
        const struct chunk_object *object = &leaf->objects[i];

        assert(object_is_valid(object));
        put_le16(at, (uint16_t)look_up(names, names_count, object->id.epoch,
                                       object->id.nonce, object->origin));
        put_le64(at + 2, object->id.counter);
        put_le32(at + 10, object->table_size);
        put_le32(at + 14, object->table_checksum);
    }
    assert(at == data + size);
    seal(data, size, LEAF_MAGIC);
}

int manifest_leaf_encode(const struct manifest_leaf *leaf, void **ret_data,
                         size_t *ret_size)
{
    uint32_t objects = leaf->first[MANIFEST_LEAF_CHUNKS], names_count;
    AUTO_FREE struct name *names = calloc(objects + 1UL, sizeof(*names));
    unsigned char *data;
    size_t size;

    assert(leaf->count > 0 && leaf->count <= MANIFEST_LEAF_CHUNKS);
    if (!names)
        return -ENOMEM;
    for (uint32_t i = 0; i < objects; i++)
        names[i] =
            (struct name){leaf->objects[i].id.epoch, leaf->objects[i].id.nonce,
                          leaf->objects[i].origin};
    names_count = make_dictionary(names, objects);
    size = leaf_size(names_count, leaf->count, objects);
    data = calloc(1, size);
    if (!data)
        return -ENOMEM;
    put_leaf(leaf, names, names_count, data, size);
    *ret_data = data;
    *ret_size = size;
    return 0;
}

/* Read which chunks have entries, and how many objects each. */
static bool take_counts(const unsigned char *bitmap, unsigned chunks,
                        uint32_t objects, struct manifest_leaf *leaf)
{
    const unsigned char *counts = bitmap + BITMAP_SIZE;
    uint32_t next = 0;
    unsigned mapped = 0;

    for (unsigned i = 0; i < MANIFEST_LEAF_CHUNKS; i++) {
        leaf->first[i] = next;
        leaf->is_mapped[i] = bitmap[i / CHAR_BIT] >> i % CHAR_BIT & 1;
        if (!leaf->is_mapped[i])
            continue;
        if (mapped == chunks || counts[mapped] > CHUNK_OBJECTS_MAX)
            return false;
        next += counts[mapped++];
    }
    leaf->first[MANIFEST_LEAF_CHUNKS] = next;
    leaf->count = mapped;
    return mapped == chunks && next == objects;
}

static bool take_objects(const unsigned char *at,
                         const struct dictionary *names,
                         struct manifest_leaf *leaf)
{
    uint32_t count = leaf->first[MANIFEST_LEAF_CHUNKS];

    for (uint32_t i = 0; i < count; i++, at += OBJECT_SIZE) {
        struct chunk_object *object = &leaf->objects[i];
        uint16_t number = get_le16(at);
        struct name name;

        if (number >= names->count)
            return false;
        names->is_used[number] = 1;
        name = name_at(names, number);
        object->id.epoch = name.epoch;
        object->id.nonce = name.nonce;
        object->id.counter = get_le64(at + 2);
        object->origin = name.origin;
        object->table_size = get_le32(at + 10);
        object->table_checksum = get_le32(at + 14);
        if (!object_is_valid(object))
            return false;
    }
    return all_are_used(names);
}

static int decode_leaf(const unsigned char *data, size_t size,
                       struct manifest_leaf *leaf)
{
    uint32_t chunks = get_le32(data + LEAF_AT_CHUNKS);
    uint32_t objects = get_le32(data + LEAF_AT_OBJECTS);
    struct dictionary names = {data + LEAF_HEADER,
                               get_le32(data + LEAF_AT_NAMES), NULL};
    const unsigned char *bitmap;
    AUTO_FREE uint8_t *is_used = NULL;

    if (chunks == 0 || chunks > MANIFEST_LEAF_CHUNKS ||
        objects > LEAF_OBJECTS_MAX || names.count > objects ||
        size != leaf_size(names.count, chunks, objects) ||
        !bytes_are_zero(data + LEAF_AT_RESERVED,
                        LEAF_HEADER - LEAF_AT_RESERVED) ||
        !is_sorted(&names))
        return -EBADMSG;
    bitmap = names.bytes + (size_t)names.count * NAME_SIZE;
    if (!take_counts(bitmap, chunks, objects, leaf))
        return -EBADMSG;
    leaf->number = get_le64(data + LEAF_AT_NUMBER);
    is_used = calloc(1, names.count + 1UL);
    leaf->objects = calloc(objects + 1UL, sizeof(leaf->objects[0]));
    if (!is_used || !leaf->objects)
        return -ENOMEM;
    names.is_used = is_used;
    return take_objects(bitmap + BITMAP_SIZE + chunks, &names, leaf) ? 0
                                                                     : -EBADMSG;
}

int manifest_leaf_decode(const void *data, size_t size,
                         struct manifest_leaf *ret_leaf)
{
    int error = size > MANIFEST_LEAF_MAX
                    ? -EBADMSG
                    : check_seal(data, size, LEAF_MAGIC, LEAF_HEADER);

    if (error)
        return error;
    ret_leaf->objects = NULL;
    error = decode_leaf(data, size, ret_leaf);
    if (error)
        manifest_leaf_done(ret_leaf);
    return error;
}

/* ---- root --------------------------------------------------------------- */

void manifest_root_done(struct manifest_root *root)
{
    free(root->leaves);
    free(root->origins);
    root->leaves = NULL;
    root->origins = NULL;
}

static bool geometry_is_valid(const struct manifest_root *root)
{
    uint32_t chunk_size = root->chunk_size;

    return chunk_size >= DEVICE_CHUNK_SIZE_MIN &&
           chunk_size <= DEVICE_CHUNK_SIZE_MAX &&
           (chunk_size & (chunk_size - 1)) == 0 && root->size > 0;
}

/* Whether a name can be the first part of a key, and ends. */
static bool origin_is_valid(const char name[ORIGIN_SIZE])
{
    size_t len = strnlen(name, ORIGIN_SIZE);

    return len < ORIGIN_SIZE && bytes_are_zero(name + len, ORIGIN_SIZE - len) &&
           object_key_is_valid(name) && !strchr(name, '/');
}

static bool origins_are_valid(const struct manifest_root *root)
{
    uint32_t before = 0;

    if (root->origins_count > MANIFEST_ORIGINS_MAX)
        return false;
    for (uint32_t i = 0; i < root->origins_count; i++) {
        uint32_t number;

        if (!origin_is_valid(root->origins[i]))
            return false;
        number = manifest_origin(root->origins[i]);
        if (number <= before)
            return false;
        before = number;
    }
    return true;
}

static bool origin_is_known(const struct manifest_root *root, uint32_t origin)
{
    bool is_known = origin == 0;

    for (uint32_t i = 0; i < root->origins_count && !is_known; i++)
        is_known = manifest_origin(root->origins[i]) == origin;
    return is_known;
}

static bool leaves_are_valid(const struct manifest_root *root)
{
    uint64_t leaf_bytes = (uint64_t)root->chunk_size * MANIFEST_LEAF_CHUNKS;
    uint64_t last = (root->size - 1) / leaf_bytes;

    for (uint32_t i = 0; i < root->leaves_count; i++) {
        const struct manifest_leaf_ref *leaf = &root->leaves[i];

        if (leaf->number > last || leaf->size == 0 ||
            leaf->size > MANIFEST_LEAF_MAX || leaf->chunks == 0 ||
            leaf->chunks > MANIFEST_LEAF_CHUNKS ||
            (i > 0 && leaf->number <= leaf[-1].number) ||
            !origin_is_known(root, leaf->origin))
            return false;
    }
    return true;
}

static bool root_is_valid(const struct manifest_root *root)
{
    return geometry_is_valid(root) && origins_are_valid(root) &&
           leaves_are_valid(root);
}

static uint64_t root_size(uint32_t names, uint32_t leaves, uint32_t origins)
{
    return ROOT_HEADER + (uint64_t)origins * ORIGIN_SIZE +
           (uint64_t)names * NAME_SIZE + (uint64_t)leaves * LEAF_REF_SIZE;
}

static void put_root(const struct manifest_root *root, const struct name *names,
                     uint32_t names_count, unsigned char *data, size_t size)
{
    unsigned char *at = data + ROOT_HEADER;
    size_t origins_size = (size_t)root->origins_count * ORIGIN_SIZE;

    put_le64(data + ROOT_AT_EPOCH, root->epoch);
    put_le64(data + ROOT_AT_NONCE, root->nonce);
    put_le64(data + ROOT_AT_DEVICE_SIZE, root->size);
    put_le32(data + ROOT_AT_CHUNK_SIZE, root->chunk_size);
    put_le32(data + ROOT_AT_LEAVES, root->leaves_count);
    put_le32(data + ROOT_AT_NAMES, names_count);
    put_le32(data + ROOT_AT_ORIGINS, root->origins_count);
    if (origins_size > 0)
        memcpy(at, root->origins, origins_size);
    at = put_names(at + origins_size, names, names_count);
    for (uint32_t i = 0; i < root->leaves_count; i++, at += LEAF_REF_SIZE) {
        const struct manifest_leaf_ref *leaf = &root->leaves[i];

        put_le64(at, leaf->number);
        put_le32(at + 8, look_up(names, names_count, leaf->epoch, leaf->nonce,
                                 leaf->origin));
        put_le32(at + 12, leaf->page);
        put_le32(at + 16, leaf->size);
        put_le32(at + 20, leaf->checksum);
        put_le16(at + 24, leaf->chunks);
    }
    assert(at == data + size);
    seal(data, size, ROOT_MAGIC);
}

int manifest_root_encode(const struct manifest_root *root, void **ret_data,
                         size_t *ret_size)
{
    AUTO_FREE struct name *names = NULL;
    uint32_t names_count;
    unsigned char *data;
    uint64_t size;

    assert(root_is_valid(root));
    names = calloc(root->leaves_count + 1UL, sizeof(*names));
    if (!names)
        return -ENOMEM;
    for (uint32_t i = 0; i < root->leaves_count; i++)
        names[i] = (struct name){root->leaves[i].epoch, root->leaves[i].nonce,
                                 root->leaves[i].origin};
    names_count = make_dictionary(names, root->leaves_count);
    size = root_size(names_count, root->leaves_count, root->origins_count);
    if (size > MANIFEST_ROOT_MAX)
        return -EFBIG;
    data = calloc(1, size);
    if (!data)
        return -ENOMEM;
    put_root(root, names, names_count, data, size);
    *ret_data = data;
    *ret_size = size;
    return 0;
}

static bool take_leaves(const unsigned char *at, const struct dictionary *names,
                        struct manifest_root *root)
{
    for (uint32_t i = 0; i < root->leaves_count; i++, at += LEAF_REF_SIZE) {
        struct manifest_leaf_ref *leaf = &root->leaves[i];
        uint32_t number = get_le32(at + 8);
        struct name name;

        if (number >= names->count)
            return false;
        names->is_used[number] = 1;
        name = name_at(names, number);
        leaf->number = get_le64(at);
        leaf->epoch = name.epoch;
        leaf->nonce = name.nonce;
        leaf->origin = name.origin;
        leaf->page = get_le32(at + 12);
        leaf->size = get_le32(at + 16);
        leaf->checksum = get_le32(at + 20);
        leaf->chunks = get_le16(at + 24);
        root->chunks += leaf->chunks;
    }
    return all_are_used(names);
}

static int decode_root(const unsigned char *data, size_t size,
                       struct manifest_root *root)
{
    const unsigned char *at = data + ROOT_HEADER;
    struct dictionary names = {.count = get_le32(data + ROOT_AT_NAMES)};
    AUTO_FREE uint8_t *is_used = NULL;
    size_t origins_size;

    root->epoch = get_le64(data + ROOT_AT_EPOCH);
    root->nonce = get_le64(data + ROOT_AT_NONCE);
    root->size = get_le64(data + ROOT_AT_DEVICE_SIZE);
    root->chunk_size = get_le32(data + ROOT_AT_CHUNK_SIZE);
    root->leaves_count = get_le32(data + ROOT_AT_LEAVES);
    root->origins_count = get_le32(data + ROOT_AT_ORIGINS);
    root->chunks = 0;
    if (root->origins_count > MANIFEST_ORIGINS_MAX ||
        names.count > root->leaves_count ||
        size !=
            root_size(names.count, root->leaves_count, root->origins_count) ||
        !bytes_are_zero(data + ROOT_AT_RESERVED,
                        ROOT_HEADER - ROOT_AT_RESERVED))
        return -EBADMSG;

    is_used = calloc(1, names.count + 1UL);
    root->leaves = calloc(root->leaves_count + 1UL, sizeof(root->leaves[0]));
    root->origins = calloc(root->origins_count + 1UL, ORIGIN_SIZE);
    if (!is_used || !root->leaves || !root->origins)
        return -ENOMEM;
    origins_size = (size_t)root->origins_count * ORIGIN_SIZE;
    memcpy(root->origins, at, origins_size);
    names.bytes = at + origins_size;
    names.is_used = is_used;
    if (!is_sorted(&names) ||
        !take_leaves(names.bytes + (size_t)names.count * NAME_SIZE, &names,
                     root))
        return -EBADMSG;
    return root_is_valid(root) ? 0 : -EBADMSG;
}

int manifest_root_decode(const void *data, size_t size,
                         struct manifest_root *ret_root)
{
    int error = size > MANIFEST_ROOT_MAX
                    ? -EBADMSG
                    : check_seal(data, size, ROOT_MAGIC, ROOT_HEADER);

    if (error)
        return error;
    ret_root->leaves = NULL;
    ret_root->origins = NULL;
    error = decode_root(data, size, ret_root);
    if (error)
        manifest_root_done(ret_root);
    return error;
}
