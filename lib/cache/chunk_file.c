/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why a power cut is survived at each step:
 *
 * write, write_slot   past everything that the ruling slot and the pinned one
 *                     name, and in a third: neither state is touched.  A
 *                     table that was written and not committed may stay in
 *                     its slot; the next one of the same generation and
 *                     revision takes that slot, so that only one is found.
 * create              the name may be lost, or may come back after remove:
 *                     the state log names no generation in it, so the next
 *                     create replaces it.
 * rewrite             the new file is synced under a name that nobody reads
 *                     before it takes the old one's: either has the ruling
 *                     slot, the pinned one, and all that they name, though
 *                     not at the same places.  A later generation must
 *                     not be written to the new one before its name is
 *                     durable, else the old one, without it, could come
 *                     back: so chunk_dir_open syncs every directory, and a
 *                     rewrite that could not sync its own ends all writing.
 */
#include "cache/chunk_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/number.h"
#include "cache/block_codec.h"
#include "cache/geometry.h"

static const char DIRECTORY[] = "chunk";
static const char UNFINISHED[] = ".new";
static const char SET_ASIDE[] = ".lost";

enum {
    DIRECTORY_MODE = 0700,
    FILE_MODE = 0600,
    SHARD_CHUNKS = 4096, /* files in a directory: any file system likes that */
    NAME_MAX_SIZE = 8 + 1 + 16 + sizeof(SET_ASIDE),
    HEAD_SIZE = 64,        /* of a slot: what says whose table it has */
    COPY_BUFFER = 1 << 20, /* gathers blocks in a rewrite */
    /*
     * A file this many times as large as its chunk was to be rewritten often,
     * and a block of it could never be read: so it is lost, as it must not
     * grow until it has no places left, or the disk no room.
     */
    GIVE_UP_CHUNKS = 8,
};

struct chunk_dir {
    int fd;
    const char *device_name;
    uint32_t chunk_size;
    int file_flags;             /* to open a file with */
    atomic_bool names_in_doubt; /* a rewrite's new name may not be durable */
    struct mutex mutex;
    uint64_t shards_made GUARDED_BY(mutex);   /* by this process */
    uint64_t shards_synced GUARDED_BY(mutex); /* so many names are durable */
};

struct chunk_file {
    atomic_uint references;
    int fd;
    uint64_t chunk;
    const struct chunk_dir *dir;
};

/* What can fail, in the words of the log. */
enum action {
    MAKE_DIRECTORY,
    SYNC_DIRECTORY,
    CREATE,
    REMOVE,
    KEEP,
    WRITE_BLOCKS,
    WRITE_TABLE,
    SYNC,
    CLOSE,
    COPY_BLOCK,
    RENAME,
};

static const char *const action_words[] = {
    [MAKE_DIRECTORY] = "make its directory",
    [SYNC_DIRECTORY] = "sync its directory",
    [CREATE] = "create its file",
    [REMOVE] = "remove its file",
    [KEEP] = "set its damaged file aside",
    [WRITE_BLOCKS] = "write blocks to its file",
    [WRITE_TABLE] = "write the table of its file",
    [SYNC] = "sync its file",
    [CLOSE] = "close its file",
    [COPY_BLOCK] = "read a block to be moved",
    [RENAME] = "rename its rewritten file",
};

/* Log the failure, unless there were many like it just now, and return it. */
static int failed(const struct chunk_dir *dir, uint64_t chunk,
                  enum action action, int error)
{
    static struct log_limit
        limits[sizeof(action_words) / sizeof(action_words[0])];
    uint64_t left_out;

    if (log_limit_allows(&limits[action], &left_out))
        log_error("%s: chunk %016" PRIx64 ": cannot %s: %s (%" PRIu64
                  " like it not logged)",
                  dir->device_name, chunk, action_words[action],
                  log_errno(error), left_out);
    return error;
}

/* ---- names --------------------------------------------------------------- */

static uint32_t shard_of(uint64_t chunk)
{
    return (uint32_t)(chunk / SHARD_CHUNKS);
}

static void format_shard(uint32_t shard, char name[NAME_MAX_SIZE])
{
    (void)snprintf(name, NAME_MAX_SIZE, "%08" PRIx32, shard);
}

static void format_name(uint64_t chunk, char name[NAME_MAX_SIZE])
{
    (void)snprintf(name, NAME_MAX_SIZE, "%08" PRIx32 "/%016" PRIx64,
                   shard_of(chunk), chunk);
}

static void format_unfinished(uint64_t chunk, char name[NAME_MAX_SIZE])
{
    (void)snprintf(name, NAME_MAX_SIZE, "%016" PRIx64 "%s", chunk, UNFINISHED);
}

static void format_set_aside(uint64_t chunk, char name[NAME_MAX_SIZE])
{
    (void)snprintf(name, NAME_MAX_SIZE, "%08" PRIx32 "/%016" PRIx64 "%s",
                   shard_of(chunk), chunk, SET_ASIDE);
}

/* ---- the directory ------------------------------------------------------- */

/* Sync the directory of that name; if there is none, it needs no sync. */
static int sync_shard(struct chunk_dir *dir, const char *name)
{
    int fd = file_open(dir->fd, name, O_RDONLY | O_DIRECTORY, 0);
    int error;

    if (fd == -ENOENT)
        return 0;
    if (fd < 0)
        return fd;
    error = file_sync(fd);
    (void)file_close(fd);
    return error;
}

/* Remove an unfinished file; sync what else is there. */
static int settle_entry(void *context, const char *name)
{
    struct chunk_dir *dir = context;
    size_t len = strlen(name), end = sizeof(UNFINISHED) - 1;
    int error;

    if (len >= end && strcmp(name + len - end, UNFINISHED) == 0)
        return file_unlink(dir->fd, name);
    error = sync_shard(dir, name);
    return error == -ENOTDIR ? 0 : error;
}

/* Open or make the directory, clean it, and make all of it durable. */
static int open_settled(struct chunk_dir *dir, int cache_dirfd,
                        enum chunk_dir_access access)
{
    int error;

    if (access == CHUNK_DIR_CREATE) {
        error = file_make_dir(cache_dirfd, DIRECTORY, DIRECTORY_MODE);
        if (error && error != -EEXIST)
            return error;
    }
    dir->fd = file_open(cache_dirfd, DIRECTORY, O_RDONLY | O_DIRECTORY, 0);
    if (dir->fd < 0 || access == CHUNK_DIR_READ)
        return dir->fd < 0 ? dir->fd : 0;
    error = file_list(dir->fd, ".", settle_entry, dir);
    if (error)
        return error;
    error = file_sync(dir->fd);
    if (error)
        return error;
    return file_sync(cache_dirfd);
}

int chunk_dir_open(int cache_dirfd, const char *device_name,
                   uint32_t chunk_size, enum chunk_dir_access access,
                   struct chunk_dir **ret_dir)
{
    struct chunk_dir *dir = calloc(1, sizeof(*dir));
    int error;

    if (!dir)
        return -ENOMEM;
    dir->fd = -1;
    dir->device_name = device_name;
    dir->chunk_size = chunk_size;
    dir->file_flags = access == CHUNK_DIR_READ ? O_RDONLY : O_RDWR;
    mutex_init(&dir->mutex);
    error = open_settled(dir, cache_dirfd, access);
    if (error) {
        log_error("%s: cannot open the directory '%s': %s", device_name,
                  DIRECTORY, log_errno(error));
        chunk_dir_close(dir);
        return error;
    }
    *ret_dir = dir;
    return 0;
}

void chunk_dir_close(struct chunk_dir *dir)
{
    if (!dir)
        return;
    if (dir->fd >= 0)
        (void)file_close(dir->fd);
    mutex_done(&dir->mutex);
    free(dir);
}

/* What chunk_dir_each is about. */
struct listing {
    struct chunk_dir *dir;
    uint32_t shard;
    int (*each)(void *context, uint64_t chunk);
    void *context;
    int result; /* of each() */
};

static int each_file(void *context, const char *name)
{
    struct listing *listing = context;
    char expected[NAME_MAX_SIZE];
    uint64_t chunk;

    if (number_parse_hex(name, 0, UINT64_MAX, &chunk) < 0 ||
        shard_of(chunk) != listing->shard)
        return 0;
    format_name(chunk, expected);
    if (strcmp(strchr(expected, '/') + 1, name) != 0)
        return 0;
    listing->result = listing->each(listing->context, chunk);
    return listing->result;
}

static int each_shard(void *context, const char *name)
{
    struct listing *listing = context;
    char expected[NAME_MAX_SIZE];
    uint64_t shard;
    int error;

    if (number_parse_hex(name, 0, UINT32_MAX, &shard) < 0)
        return 0;
    listing->shard = (uint32_t)shard;
    format_shard(listing->shard, expected);
    if (strcmp(expected, name) != 0)
        return 0;
    error = file_list(listing->dir->fd, name, each_file, listing);
    return error == -ENOTDIR ? 0 : error;
}

int chunk_dir_each(struct chunk_dir *dir,
                   int (*each)(void *context, uint64_t chunk), void *context)
{
    struct listing listing = {.dir = dir, .each = each, .context = context};
    int error = file_list(dir->fd, ".", each_shard, &listing);

    if (error < 0 && listing.result == 0)
        log_error("%s: cannot list the directory '%s': %s", dir->device_name,
                  DIRECTORY, log_errno(error));
    return error;
}

/*
 * Make the directory of a chunk's file.  Counted under the lock that
 * chunk_dir_sync takes: whoever sees the directory, and then asks for its
 * durability, sees the count too.
 */
static int make_shard(struct chunk_dir *dir, uint64_t chunk)
{
    char name[NAME_MAX_SIZE];
    int error;

    format_shard(shard_of(chunk), name);
    mutex_lock(&dir->mutex);
    error = file_make_dir(dir->fd, name, DIRECTORY_MODE);
    if (!error)
        dir->shards_made++;
    mutex_unlock(&dir->mutex);
    return error == -EEXIST ? 0 : error;
}

static int sync_new_shards(struct chunk_dir *dir)
{
    uint64_t made;
    bool all_synced;
    int error;

    mutex_lock(&dir->mutex);
    made = dir->shards_made;
    all_synced = made == dir->shards_synced;
    mutex_unlock(&dir->mutex);
    if (all_synced)
        return 0;
    error = file_sync(dir->fd);
    if (error)
        return error;
    mutex_lock(&dir->mutex);
    if (dir->shards_synced < made)
        dir->shards_synced = made;
    mutex_unlock(&dir->mutex);
    return 0;
}

static int compare_shards(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;

    return (first > second) - (first < second);
}

int chunk_dir_sync(struct chunk_dir *dir, const uint64_t chunks[], size_t count)
{
    AUTO_FREE uint32_t *shards = NULL;
    char name[NAME_MAX_SIZE];
    int error;

    if (count == 0)
        return 0;
    shards = calloc(count, sizeof(*shards));
    if (!shards)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        shards[i] = shard_of(chunks[i]);
    qsort(shards, count, sizeof(*shards), compare_shards);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && shards[i] == shards[i - 1])
            continue;
        format_shard(shards[i], name);
        error = sync_shard(dir, name);
        if (error)
            return failed(dir, (uint64_t)shards[i] * SHARD_CHUNKS,
                          SYNC_DIRECTORY, error);
    }
    error = sync_new_shards(dir);
    if (error)
        return failed(dir, chunks[0], SYNC_DIRECTORY, error);
    return 0;
}

/* ---- files --------------------------------------------------------------- */

/* Returns a file with one reference that owns fd; NULL: no memory. */
static struct chunk_file *file_new(struct chunk_dir *dir, uint64_t chunk,
                                   int fd)
{
    struct chunk_file *file = calloc(1, sizeof(*file));

    if (!file)
        return NULL;
    atomic_init(&file->references, 1);
    file->fd = fd;
    file->chunk = chunk;
    file->dir = dir;
    return file;
}

struct chunk_file *chunk_file_hold(struct chunk_file *file)
{
    /* Relaxed: who holds a reference already sees the whole of it. */
    atomic_fetch_add_explicit(&file->references, 1, memory_order_relaxed);
    return file;
}

void chunk_file_release(struct chunk_file *file)
{
    int error;

    /* Whoever closes must come after all that the others did with it. */
    if (!file || atomic_fetch_sub_explicit(&file->references, 1,
                                           memory_order_acq_rel) != 1)
        return;
    error = file_close(file->fd);
    if (error)
        (void)failed(file->dir, file->chunk, CLOSE, error);
    free(file);
}

int chunk_file_open(struct chunk_dir *dir, uint64_t chunk,
                    struct chunk_file **ret_file)
{
    char name[NAME_MAX_SIZE];
    int fd;

    format_name(chunk, name);
    fd = file_open(dir->fd, name, dir->file_flags, 0);
    if (fd < 0)
        return fd;
    *ret_file = file_new(dir, chunk, fd);
    if (!*ret_file) {
        (void)file_close(fd);
        return -ENOMEM;
    }
    return 0;
}

/* Create and open a file under a name that is not taken afterwards. */
static int create_file(struct chunk_dir *dir, uint64_t chunk, const char *name,
                       struct chunk_file **ret_file)
{
    int fd = file_unlink(dir->fd, name);

    if (fd && fd != -ENOENT)
        return failed(dir, chunk, REMOVE, fd);
    fd = file_open(dir->fd, name, O_RDWR | O_CREAT | O_EXCL, FILE_MODE);
    if (fd < 0)
        return failed(dir, chunk, CREATE, fd);
    *ret_file = file_new(dir, chunk, fd);
    if (!*ret_file) {
        (void)file_close(fd);
        (void)file_unlink(dir->fd, name);
        return -ENOMEM;
    }
    return 0;
}

int chunk_file_create(struct chunk_dir *dir, uint64_t chunk,
                      struct chunk_file **ret_file)
{
    char name[NAME_MAX_SIZE];
    int error = make_shard(dir, chunk);

    if (error)
        return failed(dir, chunk, MAKE_DIRECTORY, error);
    format_name(chunk, name);
    return create_file(dir, chunk, name, ret_file);
}

int chunk_file_set_aside(struct chunk_dir *dir, uint64_t chunk)
{
    char name[NAME_MAX_SIZE], aside[NAME_MAX_SIZE];
    int error;

    format_name(chunk, name);
    format_set_aside(chunk, aside);
    error = file_link(dir->fd, name, dir->fd, aside);
    if (error == 0) {
        log_warning("%s: chunk %016" PRIx64
                    ": its damaged file is kept as chunk/%s",
                    dir->device_name, chunk, aside);
        return 0;
    }
    if (error == -EEXIST || error == -ENOENT)
        return 0;
    error = failed(dir, chunk, KEEP, error);
    /* Where there are no second names, the chunk matters more. */
    return error == -EPERM || error == -EOPNOTSUPP ? 0 : error;
}

int chunk_file_remove(struct chunk_dir *dir, uint64_t chunk)
{
    char name[NAME_MAX_SIZE];
    int error;

    format_name(chunk, name);
    error = file_unlink(dir->fd, name);
    if (error && error != -ENOENT)
        return failed(dir, chunk, REMOVE, error);
    return 0;
}

uint32_t chunk_file_data_start(uint32_t chunk_size)
{
    return CHUNK_SLOTS * (uint32_t)chunk_table_encoded_max(chunk_size);
}

/* ---- slots --------------------------------------------------------------- */

/*
 * Decode a slot of size bytes.  -ENOENT if none was written there yet; then
 * it is a hole of the file, or past its end.
 */
static int decode_slot(const struct chunk_file *file, const void *slot,
                       size_t size, struct chunk_table **ret_table)
{
    struct chunk_table *table;
    int error;

    if (bytes_are_zero(slot, size))
        return -ENOENT;
    error = chunk_table_decode(slot, size, &table);
    if (error)
        return error;
    if (table->chunk != file->chunk ||
        table->chunk_size != file->dir->chunk_size || table->data_end == 0) {
        chunk_table_release(table);
        return -EBADMSG; /* of another chunk, or an object's */
    }
    *ret_table = table;
    return 0;
}

int chunk_file_read_table(struct chunk_file *file, uint64_t generation,
                          uint32_t revision, struct chunk_table **ret_table)
{
    size_t slot_size = chunk_table_encoded_max(file->dir->chunk_size);
    AUTO_FREE unsigned char *slots = calloc(CHUNK_SLOTS, slot_size);
    ssize_t size;
    int result = -ESTALE;

    if (!slots)
        return -ENOMEM;
    size = file_read(file->fd, slots, CHUNK_SLOTS * slot_size, 0);
    if (size < 0)
        return (int)size;
    for (unsigned slot = 0; slot < CHUNK_SLOTS; slot++) {
        struct chunk_table *table;
        int error =
            decode_slot(file, slots + slot * slot_size, slot_size, &table);

        if (!error && table->generation == generation &&
            table->revision == revision) {
            table->slot = slot;
            *ret_table = table;
            return 0;
        }
        if (!error)
            chunk_table_release(table);
        else if (error == -ENOMEM)
            return error;
        else if (error != -ENOENT && result != -EPROTONOSUPPORT)
            result = error;
    }
    return result;
}

/* What the slot has to say to whether it has that table. */
enum claim {
    CLAIM_NO,
    CLAIM_PERHAPS, /* it cannot be read now */
    CLAIM_YES,
};

static enum claim slot_claims(const struct chunk_file *file, unsigned slot,
                              uint64_t generation, uint32_t revision)
{
    unsigned char head[HEAD_SIZE];
    ssize_t size =
        file_read(file->fd, head, sizeof(head),
                  slot * chunk_table_encoded_max(file->dir->chunk_size));

    if (size < 0)
        return CLAIM_PERHAPS;
    return chunk_table_claims(head, (size_t)size, generation, revision)
               ? CLAIM_YES
               : CLAIM_NO;
}

unsigned chunk_file_choose_slot(struct chunk_file *file, uint64_t generation,
                                uint32_t revision, unsigned taken)
{
    enum claim strongest = CLAIM_NO;
    unsigned chosen = CHUNK_SLOTS;

    for (unsigned slot = 0; slot < CHUNK_SLOTS; slot++) {
        enum claim claim;

        if ((taken >> slot & 1) != 0)
            continue;
        claim = slot_claims(file, slot, generation, revision);
        if (chosen < CHUNK_SLOTS && claim <= strongest)
            continue;
        chosen = slot;
        strongest = claim;
    }
    assert(chosen < CHUNK_SLOTS);
    return chosen;
}

/* Whether the name of each file is known to be durably its own. */
static int check_names(const struct chunk_dir *dir)
{
    /* Relaxed: who writes a chunk's file came after who rewrote that file;
     * to all others it is only a hint. */
    return atomic_load_explicit(&dir->names_in_doubt, memory_order_relaxed)
               ? -EIO
               : 0;
}

int chunk_file_write_slot(struct chunk_file *file,
                          const struct chunk_table *table)
{
    size_t slot_size = chunk_table_encoded_max(table->chunk_size);
    AUTO_FREE void *slot = malloc(slot_size);
    size_t size;
    int error;

    assert(table->chunk == file->chunk && table->slot < CHUNK_SLOTS &&
           table->chunk_size == file->dir->chunk_size && table->data_end != 0);
    if (!slot)
        return -ENOMEM;
    error = check_names(file->dir);
    if (error)
        return failed(file->dir, file->chunk, WRITE_TABLE, error);
    size = chunk_table_encode(table, slot);
    error = file_write(file->fd, slot, size, table->slot * slot_size);
    if (error)
        return failed(file->dir, file->chunk, WRITE_TABLE, error);
    return 0;
}

/* ---- blocks -------------------------------------------------------------- */

/* Read the stored bytes of a block.  -EBADMSG: the file ends before. */
static int read_stored(const struct chunk_file *file,
                       const struct chunk_block *block, void *stored,
                       bool nowait)
{
    ssize_t size =
        nowait ? file_read_nowait(file->fd, stored, block->stored_size,
                                  block->place)
               : file_read(file->fd, stored, block->stored_size, block->place);

    if (size < 0)
        return (int)size;
    return size == block->stored_size ? 0 : -EBADMSG;
}

/*
 * Put the pages of a block that is all here where they belong: those that
 * were stored lie one after the other, at the start of plain.
 */
static void spread(const struct chunk_block *b, unsigned char *plain)
{
    unsigned stored = chunk_block_stored_pages(b);
    unsigned from = (unsigned)__builtin_popcount(stored);

    for (unsigned page = PAGES_PER_BLOCK; page-- > 0;) {
        unsigned char *to = plain + page * CACHE_PAGE;

        if ((stored & 1U << page) == 0)
            memset(to, 0, CACHE_PAGE);
        else if (--from != page)
            memcpy(to, plain + from * CACHE_PAGE, CACHE_PAGE);
    }
}

int chunk_file_read_block(struct chunk_file *file,
                          const struct chunk_table *table, uint32_t block,
                          void *plain, bool nowait)
{
    const struct chunk_block *b = &table->blocks[block];
    unsigned pages = chunk_block_stored_pages(b);
    size_t size = (size_t)__builtin_popcount(pages) * CACHE_PAGE;
    struct block_stored how = {b->codec, b->stored_size, b->checksum};
    AUTO_FREE void *room = NULL;
    void *stored = plain; /* raw bytes need no other room */
    int error;

    assert(block < table->blocks_count && size > 0);
    assert(b->codec != BLOCK_RAW || b->stored_size == size);
    if (b->codec != BLOCK_RAW) {
        stored = room = malloc(b->stored_size);
        if (!stored)
            return -ENOMEM;
    }
    error = read_stored(file, b, stored, nowait);
    if (!error)
        error = block_decode(&how, stored, plain, size);
    if (!error && b->zero_pages != 0)
        spread(b, plain);
    return error;
}

int chunk_file_read_stored(struct chunk_file *file,
                           const struct chunk_table *table, uint32_t block,
                           void *stored)
{
    const struct chunk_block *b = &table->blocks[block];
    int error;

    assert(block < table->blocks_count && b->local_pages != 0);
    error = read_stored(file, b, stored, false);
    if (!error && crc32c(0, stored, b->stored_size) != b->checksum)
        error = -EBADMSG;
    return error;
}

int chunk_file_end(struct chunk_file *file, uint32_t *ret_end)
{
    uint32_t start = chunk_file_data_start(file->dir->chunk_size);
    uint64_t size;
    int error = file_size(file->fd, &size);

    if (error)
        return error;
    size = round_up(size, CACHE_PAGE);
    if (size > UINT32_MAX)
        return -EFBIG;
    *ret_end = size < start ? start : (uint32_t)size;
    return 0;
}

int chunk_file_write(struct chunk_file *file, const void *data, size_t size,
                     uint32_t place)
{
    int error;

    assert(place >= chunk_file_data_start(file->dir->chunk_size) &&
           place % CACHE_PAGE == 0);
    error = check_names(file->dir);
    if (!error)
        error = file_write(file->fd, data, size, place);
    if (error)
        return failed(file->dir, file->chunk, WRITE_BLOCKS, error);
    return 0;
}

int chunk_file_sync(struct chunk_file *file)
{
    int error = file_sync_data(file->fd);

    if (error)
        return failed(file->dir, file->chunk, SYNC, error);
    return 0;
}

/* ---- rewrite ------------------------------------------------------------- */

/* The blocks of one file on their way into another. */
struct copy {
    const struct chunk_file *from;
    struct chunk_file *to;
    struct chunk_table *table;  /* the new ones */
    struct chunk_table *pinned; /* or NULL */
    unsigned char *buffer;      /* of COPY_BUFFER */
    size_t used;
    uint32_t end;  /* of what was written already */
    bool gives_up; /* what cannot be read */
    bool has_lost; /* pages, which the old file may still have in some form */
};

static int copy_flush(struct copy *copy)
{
    int error;

    if (copy->used == 0)
        return 0;
    error = chunk_file_write(copy->to, copy->buffer, copy->used, copy->end);
    if (error)
        return error;
    copy->end += (uint32_t)round_up(copy->used, CACHE_PAGE);
    copy->used = 0;
    return 0;
}

/* Whether it is unchanged since an object, and may be fetched from there. */
static bool is_in_object(const struct chunk_block *block)
{
    return block->base == BASE_OBJECT && block->local_pages == ALL_PAGES;
}

/* The local bytes of this block are bad. */
static void give_up_local(struct copy *copy, struct chunk_block *b,
                          uint32_t block)
{
    bool is_lost = !is_in_object(b);

    if (is_lost)
        b->damaged_pages |= b->local_pages;
    copy->has_lost |= is_lost;
    b->local_pages = b->zero_pages = 0;
    log_error("%s: chunk %016" PRIx64 ", block %" PRIu32
              ": is damaged in its file; %s",
              copy->from->dir->device_name, copy->from->chunk, block,
              is_lost ? "its pages are lost until overwritten"
                      : "it will be fetched again");
}

static int copy_block(struct copy *copy, struct chunk_block *b, uint32_t block)
{
    unsigned char *stored;
    int error;

    if (copy->used + b->stored_size > COPY_BUFFER) {
        error = copy_flush(copy);
        if (error)
            return error;
    }
    stored = copy->buffer + copy->used;
    error = read_stored(copy->from, b, stored, false);
    /* The disk may give tomorrow what it does not give today: keep that. */
    if (error && error != -EBADMSG && !is_in_object(b) && !copy->gives_up)
        return failed(copy->from->dir, copy->from->chunk, COPY_BLOCK, error);
    if (error || crc32c(0, stored, b->stored_size) != b->checksum) {
        give_up_local(copy, b, block);
        return 0;
    }
    b->place = copy->end + (uint32_t)copy->used;
    copy->used += b->stored_size;
    return 0;
}

/* Whether both are the same bytes of the file: none are written twice. */
static bool is_same_local(const struct chunk_block *block,
                          const struct chunk_block *other)
{
    return block->local_pages != 0 && other->local_pages != 0 &&
           block->place == other->place &&
           block->stored_size == other->stored_size &&
           block->codec == other->codec && block->checksum == other->checksum;
}

/* A block of both tables. */
static int copy_both(struct copy *copy, uint32_t block)
{
    struct chunk_block *newest = &copy->table->blocks[block];
    struct chunk_block *pinned =
        copy->pinned ? &copy->pinned->blocks[block] : NULL;
    bool is_shared = pinned && is_same_local(newest, pinned);
    int error = 0;

    if (newest->local_pages != 0)
        error = copy_block(copy, newest, block);
    if (error || !pinned || pinned->local_pages == 0)
        return error;
    if (is_shared && newest->local_pages != 0) {
        pinned->place = newest->place;
        return 0;
    }
    /* What was given up for the newest may have no object for this one. */
    return copy_block(copy, pinned, block);
}

static int copy_all(struct copy *copy)
{
    int error;

    copy->end = chunk_file_data_start(copy->table->chunk_size);
    for (uint32_t i = 0; i < copy->table->blocks_count; i++) {
        error = copy_both(copy, i);
        if (error)
            return error;
    }
    error = copy_flush(copy);
    if (error)
        return error;
    copy->table->slot = 0;
    copy->table->data_end = copy->end;
    if (copy->pinned) {
        copy->pinned->slot = 1;
        copy->pinned->data_end = copy->end;
        error = chunk_file_write_slot(copy->to, copy->pinned);
        if (error)
            return error;
    }
    error = chunk_file_write_slot(copy->to, copy->table);
    if (error)
        return error;
    return chunk_file_sync(copy->to);
}

/* Put the finished file in the place of the old one, durably. */
static int take_place(struct chunk_dir *dir, uint64_t chunk)
{
    char unfinished[NAME_MAX_SIZE], name[NAME_MAX_SIZE];
    int error;

    format_unfinished(chunk, unfinished);
    format_name(chunk, name);
    error = file_rename(dir->fd, unfinished, dir->fd, name);
    if (error)
        return failed(dir, chunk, RENAME, error);
    error = chunk_dir_sync(dir, &chunk, 1);
    if (error) {
        atomic_store(&dir->names_in_doubt, true);
        log_error("%s: no chunk file is written to until the next start",
                  dir->device_name);
    }
    return error;
}

int chunk_file_rewrite(struct chunk_dir *dir, struct chunk_file *file,
                       const struct chunk_table *table,
                       const struct chunk_table *pinned,
                       struct chunk_file **ret_file,
                       struct chunk_table **ret_table,
                       struct chunk_table **ret_pinned)
{
    AUTO_FREE unsigned char *buffer = malloc(COPY_BUFFER);
    struct copy copy = {
        .from = file,
        .buffer = buffer,
        .gives_up = table->data_end / GIVE_UP_CHUNKS >= table->chunk_size,
    };
    char unfinished[NAME_MAX_SIZE];
    int error = -ENOMEM;

    copy.table = chunk_table_copy(table);
    copy.pinned = pinned ? chunk_table_copy(pinned) : NULL;
    if (!buffer || !copy.table || (pinned && !copy.pinned))
        goto out;
    format_unfinished(file->chunk, unfinished);
    error = create_file(dir, file->chunk, unfinished, &copy.to);
    if (error)
        goto out;
    error = copy_all(&copy);
    if (!error && copy.has_lost)
        error = chunk_file_set_aside(dir, file->chunk);
    if (!error)
        error = take_place(dir, file->chunk);
    if (error) {
        (void)file_unlink(dir->fd, unfinished); /* unless renamed already */
        goto out;
    }
    *ret_file = take_pointer(&copy.to);
    *ret_table = take_pointer(&copy.table);
    if (pinned)
        *ret_pinned = take_pointer(&copy.pinned);
out:
    chunk_file_release(copy.to);
    chunk_table_release(copy.table);
    chunk_table_release(copy.pinned);
    return error;
}

uint32_t chunk_file_pages(const struct chunk_table *table, unsigned slots)
{
    uint64_t data = table->data_end - chunk_file_data_start(table->chunk_size);

    return (uint32_t)((round_up(data, CACHE_PAGE) +
                       slots * (uint64_t)chunk_table_encoded_size(table)) /
                      CACHE_PAGE);
}
