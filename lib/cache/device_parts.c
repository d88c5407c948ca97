/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device is made in this order, so that a power cut at any moment leaves
 * nothing, or a superblock that says that it was never served (incarnation
 * 0, and the next start makes it again), or the whole device:
 *
 *   superblock with incarnation 0 - state log - journal - (the image that the
 *   bucket has is loaded) - superblock with incarnation 1 - first epoch
 *
 * A directory that has anything in it, but no superblock, is refused.
 */
#include "cache/device_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/device_claim.h"
#include "cache/geometry.h"
#include "cache/strays.h"
#include "object_store.h"

enum {
    OPEN_CHUNKS_MAX = 1024,
    SEGMENT_SIZE_MAX = 16 << 20,
    SEGMENT_SIZE_MIN = 64 << 10,
    SEGMENTS_WANTED = 64,
    SEGMENTS_MIN = 4,
};

/* Memory for the index is taken as it is used: this is only a limit. */
static const uint64_t INDEX_PAGES_MIN = (UINT64_C(4) << 30) / CACHE_PAGE;
/* Enough for the chunk files and state log of a pass; a small device's pass
 * is small. */
static const uint64_t RESERVE_MAX = UINT64_C(64) << 20;
enum { RESERVE_SHARE = 8 }; /* of the journal: one part in so many */
static const uint64_t IDLE_NS = UINT64_C(5) * 1000000000;

uint64_t device_parts_chunks(const struct device *device, uint64_t size)
{
    return (size + device->options.chunk_size - 1) / device->options.chunk_size;
}

static uint64_t chunks_count(const struct device *device)
{
    return device_parts_chunks(device, device->options.size);
}

static int check_options(const struct device_options *options)
{
    uint32_t chunk_size = options->chunk_size;

    if (options->size == 0 || options->size % DEVICE_SECTOR != 0 ||
        options->size > INT64_MAX || chunk_size < DEVICE_CHUNK_SIZE_MIN ||
        chunk_size > DEVICE_CHUNK_SIZE_MAX ||
        (chunk_size & (chunk_size - 1)) != 0 ||
        strlen(options->name) > DEVICE_NAME_MAX ||
        options->segment_size % CACHE_PAGE != 0 ||
        (options->segment_size != 0 &&
         options->segment_size < SEGMENT_SIZE_MIN)) {
        log_error("%s: size or chunk size is not allowed", options->name);
        return -EINVAL;
    }
    return 0;
}

static uint64_t reserve_size(const struct device_options *options)
{
    uint64_t size = options->journal_size / RESERVE_SHARE;

    return size < RESERVE_MAX ? size : RESERVE_MAX;
}

static uint32_t segment_size_of(const struct device_options *options)
{
    uint64_t size = options->journal_size / SEGMENTS_WANTED;

    if (options->segment_size != 0)
        return options->segment_size;
    if (size > SEGMENT_SIZE_MAX)
        size = SEGMENT_SIZE_MAX;
    if (size < SEGMENT_SIZE_MIN)
        size = SEGMENT_SIZE_MIN;
    return (uint32_t)round_down(size, CACHE_PAGE);
}

static int begin_superblock(struct device *device)
{
    struct superblock *superblock = &device->superblock;
    bool is_empty;
    int error = cache_dir_is_empty(device->cache_dir, &is_empty);

    if (error != 0)
        return error;
    if (!is_empty) {
        log_error("%s: %s has files, but no superblock: it is damaged, or not"
                  " a cache directory",
                  device->options.name, device->options.cachedir);
        return -EUCLEAN;
    }
    if (device->options.read_only) {
        log_error("%s: %s is empty: there is nothing to read",
                  device->options.name, device->options.cachedir);
        return -ENXIO;
    }
    memset(superblock, 0, sizeof(*superblock));
    error = uuid_make(superblock->cachedir_id);
    if (error == 0)
        error = uuid_make(superblock->journal_id);
    if (error == 0)
        error = uuid_make(superblock->device_id);
    if (error == 0)
        error = uuid_of_boot(superblock->boot_id);
    if (error != 0)
        return error;
    (void)snprintf(superblock->device_name, sizeof(superblock->device_name),
                   "%s", device->options.name);
    superblock->size = device->options.size;
    superblock->chunk_size = device->options.chunk_size;
    error = device_claim_ask_new(device);
    return error != 0
               ? error
               : cache_dir_write_superblock(device->cache_dir, superblock);
}

/* Whether what is there is what the configuration says. */
static int check_superblock(const struct device *device)
{
    const struct device_options *options = &device->options;
    const struct superblock *superblock = &device->superblock;

    if (strcmp(superblock->device_name, options->name) != 0) {
        log_error("%s: %s is the cache directory of device %s", options->name,
                  options->cachedir, superblock->device_name);
        return -EINVAL;
    }
    if (superblock->chunk_size != options->chunk_size) {
        log_error("%s: was made with chunksize %" PRIu32 ", which cannot be"
                  " changed to %" PRIu32,
                  options->name, superblock->chunk_size, options->chunk_size);
        return -EINVAL;
    }
    if (superblock->size > options->size) {
        log_error("%s: has %" PRIu64 " bytes and cannot shrink to %" PRIu64,
                  options->name, superblock->size, options->size);
        return -EINVAL;
    }
    return 0;
}

static int read_superblock(struct device *device)
{
    int error =
        cache_dir_read_superblock(device->cache_dir, &device->superblock);

    if (error == -ENOENT)
        return begin_superblock(device);
    if (error == -EBADMSG) {
        log_error("%s: the superblock of %s is damaged", device->options.name,
                  device->options.cachedir);
        return -EUCLEAN;
    }
    if (error == 0 && device->superblock.incarnation == 0 &&
        device->options.read_only) {
        log_error("%s: %s was never finished: there is nothing to read",
                  device->options.name, device->options.cachedir);
        return -ENXIO;
    }
    if (error == 0)
        error = check_superblock(device);
    /* What was begun and never finished may be somebody else's by now. */
    if (error == 0 && device->superblock.incarnation == 0)
        error = device_claim_ask_new(device);
    return error;
}

static int unlink_file(int dirfd, const char *name)
{
    int error = file_unlink(dirfd, name);

    return error == -ENOENT ? 0 : error;
}

/* What an unfinished creation left in a directory of files. */
struct leftovers {
    int dirfd;
    const uint8_t *journal_id;
};

static int unlink_state(void *context, const char *name)
{
    const struct leftovers *in = context;

    return unlink_file(in->dirfd, name);
}

/* A segment is ours if it says so, or never became one. */
static int unlink_segment(void *context, const char *name)
{
    const struct leftovers *in = context;
    AUTO_FREE unsigned char *page = calloc(1, JOURNAL_HEADER_SIZE);
    AUTO_CLOSE int fd = file_open(in->dirfd, name, O_RDONLY, 0);
    struct journal_segment_header header;
    ssize_t size;

    if (page == NULL)
        return -ENOMEM;
    if (fd < 0)
        return fd;
    size = file_read(fd, page, JOURNAL_HEADER_SIZE, 0);
    if (size < 0)
        return (int)size;
    if (!bytes_are_zero(page, JOURNAL_HEADER_SIZE) &&
        (journal_header_decode(page, &header) != 0 ||
         memcmp(header.journal_id, in->journal_id, UUID_SIZE) != 0))
        return 0;
    return unlink_file(in->dirfd, name);
}

static int remove_leftovers(const struct device *device, int parent,
                            const char *name,
                            int (*remove)(void *context, const char *name))
{
    AUTO_CLOSE int dirfd = file_open(parent, name, O_RDONLY | O_DIRECTORY, 0);
    struct leftovers in = {dirfd, device->superblock.journal_id};

    if (dirfd == -ENOENT)
        return 0;
    return dirfd < 0 ? dirfd : file_list(dirfd, ".", remove, &in);
}

static int journal_parent(const struct device *device)
{
    return device->journal_dirfd >= 0 ? device->journal_dirfd
                                      : cache_dir_fd(device->cache_dir);
}

static uint64_t last_commit(void *context)
{
    const struct device *device = context;

    return state_log_last_commit(device->state_log);
}

/* A checkpoint was being folded: what was after its cut is apart again. */
static int cut_again(struct device *device)
{
    device->replayed_cut = UINT64_MAX;
    return page_index_cut(device->index);
}

static int replay(void *context, const struct journal_record *record,
                  uint64_t position, const uint32_t *checksums)
{
    struct device *device = context;
    uint64_t pages = (device->options.size + CACHE_PAGE - 1) / CACHE_PAGE;

    if (record->kind != JOURNAL_PAGES && record->kind != JOURNAL_ZERO)
        return 0;
    if (record->page >= pages || record->count > pages - record->page) {
        log_error("%s: the journal has a record past the device's end",
                  device->options.name);
        return -EUCLEAN;
    }
    if (record->position < device->folded_position)
        return 0;
    if (record->position >= device->replayed_cut) {
        int error = cut_again(device);

        if (error != 0)
            return error;
    }
    if (record->kind == JOURNAL_PAGES)
        return page_index_put(device->index, record->page, record->count,
                              position, checksums);
    return page_index_put_zero(device->index, record->page, record->count,
                               record->hole, position);
}

static int open_journal(struct device *device, bool create,
                        const struct device_callbacks *callbacks)
{
    struct journal_options options = {
        .device_name = device->options.name,
        .dirfd = journal_parent(device),
        .segment_size = device->options.segment_size,
        .begin = state_log_journal_begin(device->state_log),
        .create = create,
        .read_only = device->options.read_only,
        .state_commit = last_commit,
        .events =
            {
                .admit = callbacks->admit,
                .placed = callbacks->placed,
                .space = callbacks->made_room,
                .failed = callbacks->failed,
                .replay = replay,
                .context = device,
            },
    };
    uint64_t segments = device->options.journal_size / options.segment_size;
    struct state_facts facts;
    int error;

    state_log_facts(device->state_log, &facts);
    device->folded_position = facts.folded_position;
    device->replayed_cut = facts.phase == CHECKPOINT_FOLDING
                               ? facts.checkpoint_position
                               : UINT64_MAX;
    memcpy(options.journal_id, device->superblock.journal_id, UUID_SIZE);
    memcpy(options.cachedir_id, device->superblock.cachedir_id, UUID_SIZE);
    if (segments > UINT16_MAX)
        segments = UINT16_MAX;
    options.segments_max =
        segments < SEGMENTS_MIN ? SEGMENTS_MIN : (unsigned)segments;
    error = journal_open(&options, &device->journal);
    if (error == 0 && device->replayed_cut != UINT64_MAX)
        error = cut_again(device);
    if (error == -EEXIST) {
        log_error("%s: the journal of another device is where that of this new"
                  " one should be",
                  device->options.name);
        return -ENXIO;
    }
    return error;
}

static void keep_block(void *context, uint64_t chunk, uint32_t block,
                       const struct chunk_block *as_read,
                       const struct object_id *id, const void *stored)
{
    device_keep(context, chunk, block, as_read, id, stored);
}

static int open_chunks(struct device *device, bool create)
{
    const struct device_options *options = &device->options;
    enum chunk_dir_access access = options->read_only ? CHUNK_DIR_READ
                                   : create           ? CHUNK_DIR_CREATE
                                                      : CHUNK_DIR_WRITE;
    int error = chunk_dir_open(cache_dir_fd(device->cache_dir), options->name,
                               options->chunk_size, access, &device->chunk_dir);

    if (error == 0)
        error = open_chunks_new(OPEN_CHUNKS_MAX, &device->open_chunks);
    if (error == 0)
        error =
            block_cache_new(options->block_cache_size, &device->block_cache);
    if (error == 0 && options->store != NULL)
        error = fetch_new(options->store, device_claim_prefix(device),
                          &device->fetch);
    if (error != 0)
        return error;
    device->reader.device_name = options->name;
    device->reader.chunk_size = options->chunk_size;
    device->reader.catalog = device->catalog;
    device->reader.dir = device->chunk_dir;
    device->reader.open_chunks = device->open_chunks;
    device->reader.blocks = device->block_cache;
    device->reader.fetch = device->fetch;
    device->reader.keep = keep_block;
    device->reader.keep_context = device;
    return 0;
}

static int start_destage(struct device *device,
                         const struct device_callbacks *callbacks)
{
    struct destage_options options = {
        .fold = &device->fold,
        .chunk_dir = device->chunk_dir,
        .state_log = device->state_log,
        .cache_dir = device->cache_dir,
        .reserve_size = reserve_size(&device->options),
        .cachesize = device->options.cachesize,
        .idle_ns = IDLE_NS,
        .made_room = callbacks->made_room,
        .failed = callbacks->failed,
        .cut = callbacks->cut,
        .published = callbacks->published,
        .looked = callbacks->looked,
        .woke = callbacks->stirred,
        .context = device,
    };

    device->fold.device_name = device->options.name;
    device->fold.reader = &device->reader;
    device->fold.checkpoint = device->checkpoint_catalog;
    device->fold.index = device->index;
    device->fold.journal = device->journal;
    atomic_store(&device->fold.generation,
                 state_log_last_generation(device->state_log));
    return destage_start(&options, &device->destage);
}

/* Whether a chunk changed after the open checkpoint was cut. */
static bool has_newer_chunk(const struct device *device)
{
    uint64_t chunk = 0;

    for (; catalog_next(device->catalog, chunk, UINT64_MAX, &chunk); chunk++) {
        struct catalog_entry entry;

        catalog_get(device->catalog, chunk, &entry);
        if (entry.generation != entry.published_generation &&
            entry.generation !=
                catalog_generation(device->checkpoint_catalog, chunk, NULL))
            return true;
    }
    return false;
}

/*
 * How old may the oldest write be that no image has?  What was told when the
 * device was opened or closed last, or the cut of the last image.
 */
static void find_unpublished(struct device *device)
{
    uint64_t oldest_ns = device->superblock.unpublished_since_ns;
    bool is_dirty = catalog_unpublished(device->catalog) > 0 ||
                    !page_index_is_empty(device->index);
    struct state_facts facts;

    state_log_facts(device->state_log, &facts);
    if (oldest_ns < facts.published_time_ns)
        oldest_ns = facts.published_time_ns;
    if (oldest_ns == 0)
        oldest_ns = clock_realtime_ns();
    if (facts.phase == CHECKPOINT_NONE)
        unpublished_set(&device->unpublished, is_dirty ? oldest_ns : 0, 0);
    else
        unpublished_set(&device->unpublished,
                        is_dirty && (!page_index_is_empty(device->index) ||
                                     has_newer_chunk(device))
                            ? facts.checkpoint_time_ns
                            : 0,
                        oldest_ns);
}

/* What the superblock says of it: until the next open or close, no other
 * write can be older. */
static uint64_t oldest_unpublished(struct device *device)
{
    uint64_t since_ns = unpublished_since(&device->unpublished);

    return since_ns != 0 ? since_ns : clock_realtime_ns();
}

/* Whether answered writes may be lost, since it was not closed in order. */
static bool may_lack_writes(const struct superblock *superblock,
                            const uint8_t boot_id[UUID_SIZE])
{
    return superblock->incarnation != 0 && !superblock->clean &&
           memcmp(boot_id, superblock->boot_id, UUID_SIZE) != 0;
}

/*
 * What is only read has its incarnation in memory; the next that is written to
 * comes to the same, and has the same content.
 */
static int mark_opened_to_read(struct device *device)
{
    uint8_t boot_id[UUID_SIZE];
    int error = uuid_of_boot(boot_id);

    if (error == 0 && may_lack_writes(&device->superblock, boot_id))
        device->superblock.incarnation += 1;
    return error;
}

/* The device is served from here on: say so, and what was lost. */
static int mark_opened(struct device *device)
{
    struct superblock *superblock = &device->superblock;
    uint8_t boot_id[UUID_SIZE];
    int error = uuid_of_boot(boot_id);

    if (error != 0)
        return error;
    if (superblock->incarnation == 0) {
        superblock->incarnation = 1;
        log_info("%s: new device of %" PRIu64 " bytes in %s",
                 device->options.name, device->options.size,
                 device->options.cachedir);
    } else if (!superblock->clean) {
        bool lacks_writes = may_lack_writes(superblock, boot_id);

        superblock->incarnation += lacks_writes ? 1 : 0;
        log_warning("%s: was not closed in order%s", device->options.name,
                    lacks_writes
                        ? ", and the host was restarted since, or the journal"
                          " had failed: writes that nobody flushed may be lost"
                        : "; nothing that was acknowledged is lost");
    }
    if (superblock->size < device->options.size)
        log_info("%s: grows from %" PRIu64 " to %" PRIu64 " bytes",
                 device->options.name, superblock->size, device->options.size);
    superblock->size = device->options.size;
    superblock->clean = false;
    find_unpublished(device);
    superblock->unpublished_since_ns = oldest_unpublished(device);
    memcpy(superblock->boot_id, boot_id, UUID_SIZE);
    return cache_dir_write_superblock(device->cache_dir, superblock);
}

/* Everything that has to be there to read. */
static int open_to_read(struct device *device,
                        const struct device_callbacks *callbacks)
{
    const struct device_options *options = &device->options;
    uint64_t pages = options->journal_size / CACHE_PAGE;
    bool create;
    int error = cache_dir_open(options->cachedir, options->read_only,
                               &device->cache_dir);

    if (error == 0)
        error = read_superblock(device);
    if (error != 0)
        return error;
    create = device->superblock.incarnation == 0;
    if (options->journal_dir != NULL) {
        device->journal_dirfd = file_open(AT_FDCWD, options->journal_dir,
                                          O_RDONLY | O_DIRECTORY, 0);
        if (device->journal_dirfd < 0) {
            log_error("%s: journal %s: %s", options->name, options->journal_dir,
                      log_errno(device->journal_dirfd));
            return -ENXIO;
        }
        error =
            cache_dir_check_access(device->journal_dirfd, options->journal_dir);
        if (error != 0)
            return error;
    }
    if (create) {
        error = remove_leftovers(device, cache_dir_fd(device->cache_dir),
                                 "state", unlink_state);
        if (error == 0)
            error = remove_leftovers(device, journal_parent(device), "journal",
                                     unlink_segment);
    }
    if (error == 0)
        error = catalog_new(chunks_count(device), &device->catalog);
    if (error == 0)
        error = catalog_new(chunks_count(device), &device->checkpoint_catalog);
    if (error == 0)
        catalog_set_table_pages(device->catalog,
                                chunk_file_data_start(options->chunk_size) /
                                    CACHE_PAGE);
    if (error == 0)
        error = state_log_open(device->cache_dir, device->catalog,
                               device->checkpoint_catalog, create,
                               options->read_only, &device->state_log);
    if (error == -ENOENT)
        log_error("%s: the state log of %s is missing", options->name,
                  options->cachedir);
    if (error == 0)
        error = open_chunks(device, create);
    if (error == 0)
        error = page_index_new(
            options->chunk_size / CACHE_PAGE,
            pages > INDEX_PAGES_MIN ? pages : INDEX_PAGES_MIN, &device->index);
    /* Before the journal, whose threads wake it. */
    if (error == 0 && !options->read_only)
        error = parking_start(callbacks->unpark, callbacks->expelled,
                              callbacks->stirred, device, &device->parking);
    if (error == 0)
        error = open_journal(device, create, callbacks);
    return error == -ENOENT ? -EUCLEAN : error;
}

/* After a crash: what takes up room and is of no use, or not known to be. */
static void remove_strays(struct device *device)
{
    uint64_t count = 0;
    int error = strays_remove(device->chunk_dir, device->catalog, &count);

    if (error != 0)
        log_warning("%s: cannot remove the files that a crash left: %s",
                    device->options.name, log_errno(error));
    else if (count > 0)
        log_info("%s: %" PRIu64 " chunk files that a crash left were removed",
                 device->options.name, count);
}

int device_parts_open(struct device *device,
                      const struct device_callbacks *callbacks)
{
    int error = check_options(&device->options);

    device->journal_dirfd = -1;
    atomic_store(&device->size, device->options.size);
    mutex_init(&device->gate_mutex);
    mutex_init(&device->superblock_mutex);
    condition_init(&device->superblock_is_free);
    unpublished_init(&device->unpublished);
    device_rest_init(&device->rest);
    device_ahead_init(device);
    device->options.segment_size = segment_size_of(&device->options);
    if (error == 0)
        error = open_to_read(device, callbacks);
    if (error == 0 && device->options.read_only)
        return mark_opened_to_read(device);
    if (error != 0)
        return error;

    if (cache_dir_keep_reserve(device->cache_dir,
                               reserve_size(&device->options)) != 0)
        log_warning("%s: no room for the reserve in %s", device->options.name,
                    device->options.cachedir);
    if (!device->superblock.clean)
        remove_strays(device);
    device->use_saved_ns = clock_monotonic_ns();
    error = use_open(cache_dir_fd(device->cache_dir), device->options.name,
                     chunks_count(device), &device->use);
    if (error == 0)
        error = start_destage(device, callbacks);
    if (error == 0)
        error = device_claim_attach(device);
    if (error == 0)
        error = mark_opened(device);
    if (error == 0)
        error = device_claim_finish(device);
    return error;
}

/* It was served, and is not any more. */
static int mark_closed(struct device *device, bool has_failed)
{
    struct superblock *superblock = &device->superblock;

    if (has_failed) {
        /* The kernel may have dropped what it could not write: what is there
         * at the next start is as after a power cut. */
        memset(superblock->boot_id, 0, UUID_SIZE);
    } else {
        superblock->clean = true;
        superblock->unpublished_since_ns = oldest_unpublished(device);
    }
    return cache_dir_write_superblock(device->cache_dir, superblock);
}

int device_parts_close(struct device *device, bool was_opened)
{
    int error, mark_error = 0;

    device_ahead_done(device); /* hands what it fetched to destage */
    destage_stop(device->destage);
    device_claim_close(device);
    error = journal_close(device->journal);
    parking_stop(device->parking);
    if (was_opened && !device->options.read_only)
        mark_error =
            mark_closed(device, error != 0 || atomic_load(&device->has_failed));
    error = error != 0 ? error : mark_error;
    use_close(device->use);
    page_index_free(device->index);
    if (device->fetch != NULL)
        fetch_free(device->fetch);
    open_chunks_free(device->open_chunks);
    if (device->block_cache != NULL)
        block_cache_free(device->block_cache);
    if (device->chunk_dir != NULL)
        chunk_dir_close(device->chunk_dir);
    if (device->state_log != NULL)
        state_log_close(device->state_log);
    catalog_free(device->checkpoint_catalog);
    catalog_free(device->catalog);
    if (device->journal_dirfd >= 0)
        (void)file_close(device->journal_dirfd);
    cache_dir_close(device->cache_dir);
    device_rest_done(&device->rest);
    unpublished_done(&device->unpublished);
    condition_done(&device->superblock_is_free);
    mutex_done(&device->superblock_mutex);
    mutex_done(&device->gate_mutex);
    return error;
}
