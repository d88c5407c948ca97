/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A slot's way:
 *
 *   free       no record in it is needed.  Its number changes in memory before
 *              anything in it is overwritten, so a reader that comes late
 *              notices
 *   prepared   its header of the next use is durable; no record yet
 *   in use     in the log, the last of them is appended to
 *   free       once the state log durably says that it is not needed
 *
 * journal_replay.c says what is where after a power cut.
 */
#include "cache/journal_slots.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/workers.h"
#include "cache/geometry.h"
#include "cache/journal_replay.h"
#include "cache/journal_segment.h"

enum {
    SEGMENTS_MIN = 4,
    SEGMENTS_AT_FIRST = 4, /* so that a new journal is there quickly */
    PREPARED_AHEAD = 2,
    FREE_AHEAD = 3, /* prepared or free: else a new one is made */
    HINTS = 1024,
    REWRITE_SIZE = 1 << 20, /* bytes at a time */
};

static const uint64_t GROW_AGAIN_NS = 10000000000; /* 10 s */

struct journal_slot {
    _Atomic uint64_t number; /* of its use; 0: its content may change */
    _Atomic uint32_t salt;   /* set before number */
    int fd;                  /* -1: no file yet; set before number */
    struct journal_slot *next;
};

struct slot_list {
    struct journal_slot *first;
    struct journal_slot **end;
    size_t count;
};

struct journal_slots {
    const struct journal_options *options;
    struct journal_slots_events events;
    int dirfd;
    uint32_t segment_size;
    unsigned segments_max;
    struct workers *preparer;
    struct workers_task preparer_task;
    struct journal_slot *array;
    unsigned array_size;

    /* Read without the lock; each stands for itself, unless said. */
    _Atomic uint64_t in_use;
    _Atomic uint64_t capacity; /* bytes */
    _Atomic uint64_t oldest;
    _Atomic uint64_t newest;
    _Atomic uint64_t written;
    _Atomic uint32_t hints[HINTS]; /* number to slot, may be wrong */

    struct mutex lock;
    struct condition wanted; /* something for the preparer to do */
    struct condition prepared_or_not;
    unsigned count GUARDED_BY(lock); /* of slots that have a file */
    struct slot_list free GUARDED_BY(lock);
    struct slot_list prepared GUARDED_BY(lock);
    struct slot_list used GUARDED_BY(lock);
    /* The oldest that is not known to be synced in full; NULL: all are. */
    struct journal_slot *sync_from GUARDED_BY(lock);
    uint64_t begin GUARDED_BY(lock);         /* as retired */
    uint64_t last_number GUARDED_BY(lock);   /* of any header written */
    uint64_t previous GUARDED_BY(lock);      /* for the next header */
    uint64_t previous_end GUARDED_BY(lock);  /* the same */
    uint64_t grow_after_ns GUARDED_BY(lock); /* 0 unless the disk was full */
    bool space_wanted GUARDED_BY(lock);
    bool is_preparing GUARDED_BY(lock);
    bool is_stopped GUARDED_BY(lock); /* the journal is lost */
    bool is_closing GUARDED_BY(lock);
};

/* ---- which slot is what ---------------------------------------------------
 */

static void list_init(struct slot_list *list)
{
    list->first = NULL;
    list->end = &list->first;
    list->count = 0;
}

static void list_push(struct slot_list *list, struct journal_slot *slot)
{
    slot->next = NULL;
    *list->end = slot;
    list->end = &slot->next;
    list->count++;
}

static struct journal_slot *list_pop(struct slot_list *list)
{
    struct journal_slot *slot = list->first;

    if (!slot)
        return NULL;
    list->first = slot->next;
    if (!list->first)
        list->end = &list->first;
    slot->next = NULL;
    list->count--;
    return slot;
}

uint64_t journal_slot_number(const struct journal_slot *slot)
{
    return atomic_load_explicit(&slot->number, memory_order_acquire);
}

uint32_t journal_slot_salt(const struct journal_slot *slot)
{
    return atomic_load_explicit(&slot->salt, memory_order_relaxed);
}

int journal_slot_fd(const struct journal_slot *slot)
{
    return slot->fd;
}

bool journal_slot_is(const struct journal_slot *slot, uint64_t number)
{
    /* If bytes of a later use were read, its number was 0 before them. */
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load(&slot->number) == number;
}

/* Let readers find the slot by this number. */
static void publish_slot(struct journal_slots *slots, struct journal_slot *slot,
                         uint64_t number, uint32_t salt)
{
    atomic_store_explicit(&slot->salt, salt, memory_order_relaxed);
    atomic_store_explicit(&slot->number, number, memory_order_release);
    atomic_store_explicit(&slots->hints[number % HINTS],
                          (uint32_t)(slot - slots->array),
                          memory_order_relaxed);
}

struct journal_slot *journal_slots_find(struct journal_slots *slots,
                                        uint64_t number)
{
    uint32_t hint = atomic_load_explicit(&slots->hints[number % HINTS],
                                         memory_order_relaxed);

    if (number == 0)
        return NULL;
    if (journal_slot_number(&slots->array[hint]) == number)
        return &slots->array[hint];
    for (unsigned i = 0; i < slots->array_size; i++) {
        if (journal_slot_number(&slots->array[i]) == number)
            return &slots->array[i];
    }
    return NULL;
}

/* While the disk is full the journal is as large as it is. */
static void count_capacity(struct journal_slots *slots) REQUIRES(slots->lock)
{
    unsigned count = slots->segments_max;

    if (slots->grow_after_ns != 0 || slots->count > count)
        count = slots->count;
    atomic_store(&slots->capacity, (uint64_t)count * slots->segment_size);
}

static void count_used(struct journal_slots *slots) REQUIRES(slots->lock)
{
    const struct journal_slot *first = slots->used.first;

    atomic_store(&slots->in_use, slots->used.count);
    atomic_store(&slots->oldest, first ? journal_slot_number(first)
                                       : atomic_load(&slots->newest));
}

/* Free the oldest segments that neither the state log nor a sync needs. */
static void retire_locked(struct journal_slots *slots) REQUIRES(slots->lock)
{
    bool has_freed = false;

    while (slots->used.first && slots->used.first != slots->sync_from &&
           journal_slot_number(slots->used.first) < slots->begin) {
        list_push(&slots->free, list_pop(&slots->used));
        has_freed = true;
    }
    if (has_freed) {
        count_used(slots);
        condition_signal(&slots->wanted);
    }
}

void journal_slots_retire(struct journal_slots *slots, uint64_t begin)
{
    mutex_lock(&slots->lock);
    if (begin > slots->begin)
        slots->begin = begin;
    retire_locked(slots);
    mutex_unlock(&slots->lock);
}

/* ---- preparing ----------------------------------------------------------- */

/* Describe the next use of a slot, whose content nobody finds any more. */
static int describe_use(struct journal_slots *slots, struct journal_slot *slot,
                        struct journal_segment_header *ret_header)
    REQUIRES(slots->lock)
{
    uint32_t old_salt = atomic_load(&slot->salt);
    struct journal_segment_header header = {
        .number = slots->last_number + 1,
        .begin = slots->begin,
        .previous = slots->previous,
        .previous_end = slots->previous_end,
        .segment_size = slots->segment_size,
        .slots = slots->count,
    };

    memcpy(header.journal_id, slots->options->journal_id, UUID_SIZE);
    memcpy(header.cachedir_id, slots->options->cachedir_id, UUID_SIZE);
    do {
        if (getrandom(&header.salt, sizeof(header.salt), 0) !=
            (ssize_t)sizeof(header.salt))
            return -EIO;
    } while (header.salt == old_salt);
    /* Seen by readers before any byte that comes; journal_slot_is's mate. */
    atomic_store(&slot->number, 0);
    atomic_thread_fence(memory_order_seq_cst);
    *ret_header = header;
    return 0;
}

/* Write the header of the next use of a free slot. */
static int prepare_locked(struct journal_slots *slots) REQUIRES(slots->lock)
{
    struct journal_slot *slot = list_pop(&slots->free);
    struct journal_segment_header header;
    int error = describe_use(slots, slot, &header);

    slots->is_preparing = true;
    mutex_unlock(&slots->lock);
    if (error == 0) {
        if (slots->options->state_commit)
            header.state_commit =
                slots->options->state_commit(slots->options->events.context);
        error = journal_segment_write_header(slot->fd, &header);
        atomic_fetch_add(&slots->written, JOURNAL_HEADER_SIZE);
    }
    mutex_lock(&slots->lock);
    slots->is_preparing = false;
    if (error != 0) {
        slots->is_stopped = true;
        condition_broadcast(&slots->prepared_or_not);
        return error;
    }
    publish_slot(slots, slot, header.number, header.salt);
    slots->last_number = header.number;
    slots->previous = header.number;
    slots->previous_end = 0;
    list_push(&slots->prepared, slot);
    condition_broadcast(&slots->prepared_or_not);
    return 0;
}

static bool may_grow(struct journal_slots *slots) REQUIRES(slots->lock)
{
    return slots->count < slots->segments_max &&
           slots->free.count + slots->prepared.count < FREE_AHEAD;
}

/* Make one more segment.  Not a failure of the journal, if there is none. */
static void grow_locked(struct journal_slots *slots) REQUIRES(slots->lock)
{
    static struct log_limit limit;
    unsigned slot = slots->count;
    uint64_t left_out;
    int fd;

    slots->is_preparing = true;
    mutex_unlock(&slots->lock);
    fd = journal_segment_create(slots->dirfd, slot, slots->segment_size);
    if (fd < 0 && log_limit_allows(&limit, &left_out))
        log_warning("%s: no further segment of the journal can be made, it "
                    "goes on with %u: %s",
                    slots->options->device_name, slot, log_errno(fd));
    mutex_lock(&slots->lock);
    slots->is_preparing = false;
    if (fd < 0) {
        slots->grow_after_ns = clock_monotonic_ns() + GROW_AGAIN_NS;
        condition_broadcast(&slots->prepared_or_not);
    } else {
        atomic_fetch_add(&slots->written, slots->segment_size);
        slots->array[slot].fd = fd;
        slots->count++;
        slots->grow_after_ns = 0;
        list_push(&slots->free, &slots->array[slot]);
    }
    count_capacity(slots);
}

/* Whoever was refused for lack of space may come again. */
static void tell_space(struct journal_slots *slots) REQUIRES(slots->lock)
{
    if (!slots->space_wanted || slots->prepared.count == 0)
        return;
    slots->space_wanted = false;
    mutex_unlock(&slots->lock);
    slots->events.space(slots->events.context);
    mutex_lock(&slots->lock);
}

static void prepare_one(struct journal_slots *slots) REQUIRES(slots->lock)
{
    int error = prepare_locked(slots);

    if (error == 0) {
        tell_space(slots);
        return;
    }
    mutex_unlock(&slots->lock);
    slots->events.failed(slots->events.context, error);
    mutex_lock(&slots->lock);
}

static void prepare_segments(struct workers_task *task)
{
    struct journal_slots *slots =
        (struct journal_slots *)(void *)((char *)task -
                                         offsetof(struct journal_slots,
                                                  preparer_task));

    mutex_lock(&slots->lock);
    while (!slots->is_closing) {
        bool grows = !slots->is_stopped && may_grow(slots);

        if (!slots->is_stopped && slots->free.count > 0 &&
            slots->prepared.count < PREPARED_AHEAD)
            prepare_one(slots);
        else if (grows && clock_monotonic_ns() >= slots->grow_after_ns)
            grow_locked(slots);
        else if (grows)
            (void)condition_wait_until(&slots->wanted, &slots->lock,
                                       slots->grow_after_ns);
        else
            condition_wait(&slots->wanted, &slots->lock);
    }
    mutex_unlock(&slots->lock);
}

int journal_slots_start(struct journal_slots *slots)
{
    int error = workers_start("journal-prepare", 1, &slots->preparer);

    if (error != 0)
        return error;
    slots->preparer_task.run = prepare_segments;
    workers_submit(slots->preparer, &slots->preparer_task);
    return 0;
}

void journal_slots_stop(struct journal_slots *slots)
{
    mutex_lock(&slots->lock);
    slots->is_stopped = true;
    condition_broadcast(&slots->prepared_or_not);
    mutex_unlock(&slots->lock);
}

void journal_slots_end(struct journal_slots *slots)
{
    mutex_lock(&slots->lock);
    slots->is_closing = true;
    condition_signal(&slots->wanted);
    mutex_unlock(&slots->lock);
    workers_stop(slots->preparer);
    slots->preparer = NULL;
}

/* ---- giving out, syncing ------------------------------------------------- */

struct journal_slot *journal_slots_take(struct journal_slots *slots)
{
    struct journal_slot *slot;

    mutex_lock(&slots->lock);
    slot = list_pop(&slots->prepared);
    if (!slot)
        slots->space_wanted = true;
    condition_signal(&slots->wanted);
    mutex_unlock(&slots->lock);
    return slot;
}

void journal_slots_use(struct journal_slots *slots, struct journal_slot *slot)
{
    mutex_lock(&slots->lock);
    list_push(&slots->used, slot);
    if (!slots->sync_from)
        slots->sync_from = slot;
    atomic_store(&slots->newest, journal_slot_number(slot));
    count_used(slots);
    mutex_unlock(&slots->lock);
}

bool journal_slots_wait(struct journal_slots *slots)
{
    bool is_there;

    mutex_lock(&slots->lock);
    while (slots->prepared.count == 0 && !slots->is_stopped &&
           (slots->is_preparing || slots->free.count > 0 ||
            (may_grow(slots) && slots->grow_after_ns == 0)))
        condition_wait(&slots->prepared_or_not, &slots->lock);
    is_there = slots->prepared.count > 0;
    mutex_unlock(&slots->lock);
    return is_there;
}

int journal_slots_sync(struct journal_slots *slots,
                       const struct journal_slot *last)
{
    struct journal_slot *slot;
    int error = 0;

    mutex_lock(&slots->lock);
    /* In order: of a younger segment nothing counts without the older. */
    for (slot = slots->sync_from; slot; slot = slot->next) {
        mutex_unlock(&slots->lock);
        error = file_sync_data(slot->fd);
        mutex_lock(&slots->lock);
        if (error != 0 || slot == last)
            break;
    }
    if (error == 0) {
        slots->sync_from = slot;
        retire_locked(slots);
    }
    mutex_unlock(&slots->lock);
    return error;
}

uint32_t journal_slots_segment_size(const struct journal_slots *slots)
{
    return slots->segment_size;
}

void journal_slots_get_fill(struct journal_slots *slots,
                            struct journal_slots_fill *ret_fill)
{
    *ret_fill = (struct journal_slots_fill){
        .in_use = atomic_load(&slots->in_use),
        .capacity = atomic_load(&slots->capacity),
        .oldest = atomic_load(&slots->oldest),
        .newest = atomic_load(&slots->newest),
        .written = atomic_load(&slots->written),
    };
}

/* ---- open and close ------------------------------------------------------ */

/* One more than the highest slot. */
static int list_name(void *context, const char *name)
{
    unsigned *count = context;
    unsigned slot;
    bool is_new;

    if (journal_segment_parse(name, &slot, &is_new) && !is_new &&
        slot >= *count)
        *count = slot + 1;
    return 0;
}

/* Remove what an unfinished growth left. */
static int remove_new(void *context, const char *name)
{
    const struct journal_slots *slots = context;
    unsigned slot;
    bool is_new;

    if (journal_segment_parse(name, &slot, &is_new) && is_new)
        (void)file_unlink(slots->dirfd, name);
    return 0;
}

static int open_directory(struct journal_slots *slots)
{
    const struct journal_options *options = slots->options;
    int error = 0;

    if (options->create) {
        error = file_make_dir(options->dirfd, "journal", 0700);
        if (error == -EEXIST)
            error = 0;
        if (error == 0)
            error = file_sync(options->dirfd);
    }
    if (error == 0) {
        slots->dirfd =
            file_open(options->dirfd, "journal", O_RDONLY | O_DIRECTORY, 0);
        error = slots->dirfd < 0 ? slots->dirfd : 0;
    }
    if (error != 0)
        log_error("%s: journal: %s", options->device_name, log_errno(error));
    return error == -ENOENT ? -ENXIO : error;
}

static int allocate_slots(struct journal_slots *slots, unsigned count)
{
    slots->array_size = count;
    slots->array = calloc(count, sizeof(slots->array[0]));
    if (!slots->array)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++)
        slots->array[i].fd = -1;
    return 0;
}

static int create_segments(struct journal_slots *slots)
{
    unsigned count = SEGMENTS_AT_FIRST;
    int error = allocate_slots(slots, slots->segments_max);

    for (unsigned i = 0; error == 0 && i < count; i++) {
        int fd = journal_segment_create(slots->dirfd, i, slots->segment_size);

        if (fd < 0) {
            error = fd;
            log_error("%s: journal/segment.%04x cannot be made: %s",
                      slots->options->device_name, i, log_errno(error));
            break;
        }
        slots->array[i].fd = fd;
        slots->count = i + 1;
        list_push(&slots->free, &slots->array[i]);
        atomic_fetch_add(&slots->written, slots->segment_size);
    }
    slots->begin = 1;
    return error;
}

/* Open the files there are; a missing one is told by the replay. */
static int open_segments(struct journal_slots *slots, unsigned files)
{
    int flags = slots->options->read_only ? O_RDONLY : O_RDWR;
    unsigned count = files > slots->segments_max ? files : slots->segments_max;
    int error = allocate_slots(slots, count);

    for (unsigned i = 0; error == 0 && i < files; i++) {
        char name[JOURNAL_SEGMENT_NAME];
        int fd;

        journal_segment_name(i, name);
        fd = file_open(slots->dirfd, name, flags, 0);
        if (fd < 0 && fd != -ENOENT) {
            error = fd;
            log_error("%s: journal/%s: %s", slots->options->device_name, name,
                      log_errno(error));
        }
        slots->array[i].fd = fd < 0 ? -1 : fd;
    }
    slots->count = files;
    return error;
}

/* The journal has another segment size than is wanted now: it stays. */
static int adopt_size(struct journal_slots *slots, uint32_t segment_size)
{
    uint64_t bytes =
        (uint64_t)slots->options->segments_max * slots->options->segment_size;
    uint64_t segments = bytes / segment_size;
    struct journal_slot *array;

    if (segments < SEGMENTS_MIN)
        segments = SEGMENTS_MIN;
    if (segments > JOURNAL_SLOTS_MAX)
        segments = JOURNAL_SLOTS_MAX;
    slots->segment_size = segment_size;
    slots->segments_max = (unsigned)segments;
    if (segments <= slots->array_size)
        return 0;
    array = reallocarray(slots->array, segments, sizeof(array[0]));
    if (!array)
        return -ENOMEM;
    slots->array = array;
    while (slots->array_size < segments)
        array[slots->array_size++] = (struct journal_slot){.fd = -1};
    return 0;
}

/* Take over what the replay found. */
static void adopt(struct journal_slots *slots,
                  const struct journal_found *found,
                  const struct journal_found_slot files[])
{
    for (size_t i = 0; i < found->log_count; i++) {
        struct journal_slot *slot = &slots->array[found->log[i]];
        const struct journal_segment_header *header =
            &files[found->log[i]].header;

        publish_slot(slots, slot, header->number, header->salt);
        list_push(&slots->used, slot);
    }
    /* What is above a gap was about to be removed, and is not used again. */
    for (unsigned i = 0; i < slots->count && slots->array[i].fd >= 0; i++) {
        struct journal_slot *slot = &slots->array[i];

        if (journal_slot_number(slot) != 0)
            continue;
        atomic_store(&slot->salt, files[i].header.salt);
        list_push(&slots->free, slot);
    }
    slots->last_number = found->highest;
    slots->previous = found->last != 0 ? found->last : found->highest;
    slots->previous_end = found->end;
    /* Without any record the log begins with the segment that comes. */
    slots->begin = found->last != 0 ? found->begin : found->highest + 1;
    atomic_store(&slots->newest, found->last);
}

/* Write the pages from .. end - 1 of a segment again, as they are. */
static int rewrite(int fd, uint64_t from, uint64_t end)
{
    AUTO_FREE unsigned char *data = malloc(REWRITE_SIZE);
    int error = data ? 0 : -ENOMEM;

    while (error == 0 && from < end) {
        size_t part = end - from < REWRITE_SIZE ? (size_t)(end - from)
                                                : (size_t)REWRITE_SIZE;
        ssize_t size = file_read(fd, data, part, from);

        if (size < 0)
            return (int)size;
        error = size == (ssize_t)part ? file_write(fd, data, part, from) : -EIO;
        from += part;
    }
    return error;
}

/*
 * After a write-back that failed, an earlier process may have left pages that
 * look well in the page cache, are not on the disk, and that no sync tries
 * again.  So what nobody vouches for is written once more.
 */
static int rewrite_tail(struct journal_slots *slots,
                        const struct journal_found *found)
{
    int error = 0;

    for (size_t i = 0; error == 0 && i < found->log_count; i++) {
        const struct journal_slot *slot = &slots->array[found->log[i]];
        uint64_t start = journal_slot_number(slot) * slots->segment_size;
        uint64_t from = start + JOURNAL_HEADER_SIZE;
        uint64_t end = start + slots->segment_size;

        /* After a sync the next record began on a page of its own. */
        if (from < found->durable)
            from = round_up(found->durable, CACHE_PAGE);
        if (end > found->end)
            end = found->end;
        if (from < end)
            error = rewrite(slot->fd, from - start,
                            round_up(end - start, CACHE_PAGE));
    }
    if (error != 0)
        log_error("%s: journal: its end cannot be written again: %s",
                  slots->options->device_name, log_errno(error));
    return error;
}

/*
 * The journal knows up to where the state log was durable.  Looked at before
 * anything is written: a fresh header would say that all is well.
 */
static int check_state(const struct journal_slots *slots, uint64_t known_commit)
{
    const struct journal_options *options = slots->options;
    uint64_t last = UINT64_MAX;

    if (options->state_commit)
        last = options->state_commit(options->events.context);
    if (known_commit <= last)
        return 0;
    log_error("%s: the state log ends at commit %" PRIu64 ", but the journal "
              "knows of %" PRIu64 ": the state log is damaged",
              options->device_name, last, known_commit);
    return options->read_only ? 0 : -EUCLEAN;
}

static int replay_segments(struct journal_slots *slots,
                           struct journal_log_end *ret_end)
{
    AUTO_FREE struct journal_found_slot *files =
        calloc(slots->count + 1, sizeof(files[0]));
    struct journal_found found;
    int error;

    if (!files)
        return -ENOMEM;
    for (unsigned i = 0; i < slots->count; i++)
        files[i].fd = slots->array[i].fd;
    error = journal_replay(slots->options, files, slots->count, &found);
    if (error != 0)
        return error;
    error = check_state(slots, found.known_commit);
    if (error == 0 && found.segment_size != 0 &&
        found.segment_size != slots->segment_size)
        error = adopt_size(slots, found.segment_size);
    if (error == 0)
        adopt(slots, &found, files);
    if (error == 0 && !slots->options->read_only)
        error = rewrite_tail(slots, &found);
    *ret_end = (struct journal_log_end){
        .position = found.end,
        .segment = found.last,
    };
    journal_replay_done(&found);
    return error;
}

/* What an earlier process wrote may still be in the page cache alone. */
static int sync_all(struct journal_slots *slots)
{
    int error = file_sync(slots->dirfd);

    for (unsigned i = 0; error == 0 && i < slots->count; i++) {
        if (slots->array[i].fd >= 0)
            error = file_sync_data(slots->array[i].fd);
    }
    if (error != 0)
        log_error("%s: journal: cannot be synced: %s",
                  slots->options->device_name, log_errno(error));
    return error;
}

/*
 * Returns how many files are kept: not those above a gap that a removal left,
 * nor free ones that are more than there should be.
 */
static unsigned count_kept(const struct journal_slots *slots)
{
    unsigned kept = 0;

    while (kept < slots->count && slots->array[kept].fd >= 0)
        kept++;
    if (kept > slots->segments_max)
        kept = slots->segments_max;
    for (unsigned i = kept; i < slots->count; i++) {
        const struct journal_slot *slot = &slots->array[i];

        if (journal_slot_number(slot) != 0 || slots->free.first == slot)
            kept = i + 1;
    }
    return kept;
}

/* Remove the files of the slots kept .. count - 1. */
static void remove_surplus(struct journal_slots *slots, unsigned kept,
                           unsigned count)
{
    struct slot_list free_ones = slots->free;
    struct journal_slot *next;

    list_init(&slots->free);
    for (struct journal_slot *slot = free_ones.first; slot; slot = next) {
        next = slot->next;
        if (slot < slots->array + kept)
            list_push(&slots->free, slot);
    }
    for (unsigned i = kept; i < count; i++) {
        char name[JOURNAL_SEGMENT_NAME];

        if (slots->array[i].fd < 0)
            continue;
        journal_segment_name(i, name);
        (void)file_close(slots->array[i].fd);
        slots->array[i].fd = -1;
        (void)file_unlink(slots->dirfd, name);
    }
    log_info("%s: journal: %u segments are left of %u",
             slots->options->device_name, kept, count);
}

/*
 * Prepare the fresh segment, durably, before anything else changes.  Without
 * a free slot that is done when one is retired.
 */
static int prepare_fresh(struct journal_slots *slots)
{
    unsigned count = slots->count;
    unsigned kept = count_kept(slots);
    int error = 0;

    for (unsigned i = 0; i < kept; i++) {
        if (slots->array[i].fd >= 0)
            continue;
        log_error("%s: journal/segment.%04x is missing",
                  slots->options->device_name, i);
        return -ENXIO;
    }
    mutex_lock(&slots->lock);
    slots->count = kept; /* as the fresh header is to say */
    if (slots->free.count > 0)
        error = prepare_locked(slots);
    mutex_unlock(&slots->lock);
    if (error != 0)
        log_error("%s: journal: the fresh segment cannot be written: %s",
                  slots->options->device_name, log_errno(error));
    else if (kept < count)
        remove_surplus(slots, kept, count);
    return error;
}

static int open_parts(struct journal_slots *slots,
                      struct journal_log_end *ret_end)
{
    const struct journal_options *options = slots->options;
    unsigned files = 0;
    int error = open_directory(slots);

    if (error == 0)
        error = file_list(slots->dirfd, ".", list_name, &files);
    if (error != 0)
        return error;
    if (options->create && files > 0)
        return -EEXIST;
    error =
        options->create ? create_segments(slots) : open_segments(slots, files);
    if (error == 0 && !options->create)
        error = replay_segments(slots, ret_end);
    if (error == 0 && !options->read_only) {
        (void)file_list(slots->dirfd, ".", remove_new, slots);
        error = sync_all(slots);
        if (error == 0)
            error = prepare_fresh(slots);
    }
    mutex_lock(&slots->lock);
    count_used(slots);
    count_capacity(slots);
    mutex_unlock(&slots->lock);
    return error;
}

int journal_slots_open(const struct journal_options *options,
                       const struct journal_slots_events *events,
                       struct journal_slots **ret_slots,
                       struct journal_log_end *ret_end)
{
    struct journal_slots *slots = calloc(1, sizeof(*slots));
    int error;

    if (!slots)
        return -ENOMEM;
    slots->options = options;
    slots->events = *events;
    slots->segment_size = options->segment_size;
    slots->segments_max = options->segments_max;
    slots->dirfd = -1;
    list_init(&slots->free);
    list_init(&slots->prepared);
    list_init(&slots->used);
    mutex_init(&slots->lock);
    condition_init(&slots->wanted);
    condition_init(&slots->prepared_or_not);
    *ret_end = (struct journal_log_end){.position = 0};
    error = open_parts(slots, ret_end);
    if (error != 0) {
        journal_slots_close(slots);
        return error;
    }
    *ret_slots = slots;
    return 0;
}

void journal_slots_close(struct journal_slots *slots)
{
    if (!slots)
        return;
    journal_slots_end(slots);
    for (unsigned i = 0; i < slots->array_size; i++) {
        if (slots->array && slots->array[i].fd >= 0)
            (void)file_close(slots->array[i].fd);
    }
    if (slots->dirfd >= 0)
        (void)file_close(slots->dirfd);
    condition_done(&slots->wanted);
    condition_done(&slots->prepared_or_not);
    mutex_done(&slots->lock);
    free(slots->array);
    free(slots);
}
