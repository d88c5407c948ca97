/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A slot's way:
 *
 *   free       no record in it is needed.  Its number changes in memory before
 *              anything in it is overwritten, so a reader that comes late
 *              notices
 *   prepared   its header of the next use is durable; no record yet
 *   used       in the log, the last of them is appended to
 *   free       once the state log durably says that it is not needed
 *
 * journal_replay.c says what is where after a power cut.  Kept here for it:
 * a header is durable before the first record of its use, and headers are
 * written in the order of their numbers; segments are synced in order; what
 * a record says was durable, was; a synced page is never written again, as
 * after a sync the next record begins on a page of its own.
 *
 * The turn: one caller at a time appends, for all that wait.  What only the
 * turn touches has no lock.  Two threads of the journal's own: one syncs and
 * answers waiters, one prepares segments and makes new ones.
 */
#include "cache/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/workers.h"
#include "cache/geometry.h"
#include "cache/journal_replay.h"
#include "cache/journal_segment.h"

enum {
    SEGMENT_SIZE_MIN = 1 << 15,
    SEGMENTS_MIN = 4,
    SEGMENTS_AT_FIRST = 4, /* so that a new journal is there quickly */
    PREPARED_AHEAD = 2,
    FREE_AHEAD = 3, /* prepared or free: else a new one is made */
    HINTS = 1024,

    /* What one write takes along at most. */
    BATCH_BYTES = 4 << 20,
    BATCH_PAGES = BATCH_BYTES / CACHE_PAGE + JOURNAL_RECORD_PAGES_MAX,
    BATCH_ITEMS = FILE_IOV_MAX / 2,
    BATCH_HEADS = 1 << 16,
    /* Pieces for an END, its head's page from memory, and the padding. */
    SPARE_PIECES = 3,

    TURNS_AT_ONCE = 8, /* then whoever appends hands the turn on */
};

static const uint64_t MARK_AFTER_NS = 1000000000;  /* 1 s */
static const uint64_t GROW_AGAIN_NS = 10000000000; /* 10 s */

static const unsigned char zero_page[CACHE_PAGE];

struct slot {
    _Atomic uint64_t number; /* of its use; 0: its content may change */
    _Atomic uint32_t salt;   /* set before number */
    int fd;                  /* -1: no file yet; set before number */
    struct slot *next;
};

struct slot_list {
    struct slot *first;
    struct slot **end;
    size_t count;
};

enum call_kind { CALL_ITEMS, CALL_MARK, CALL_ROTATE };

/* Somebody who wants the turn, on his stack. */
struct call {
    enum call_kind kind;
    struct journal_item **items;
    size_t count;
    uint64_t end; /* of the last record placed for it */
    int error;    /* CALL_MARK, CALL_ROTATE */
    bool is_done;
    bool has_turn;
    struct condition woken;
    struct call *next;
};

/* Records of one segment that are written together. */
struct batch {
    struct iovec pieces[FILE_IOV_MAX];
    int pieces_count;
    uint64_t start; /* of the first piece: a page border */
    uint64_t end;   /* of the last record */
    uint64_t durable; /* what the records vouch for */
    uint64_t data_end; /* of the last record that has data; 0: none has */
    unsigned char heads[BATCH_HEADS];
    size_t heads_used;
    uint32_t checksums[BATCH_PAGES];
    size_t checksums_used;
    struct journal_item *items[BATCH_ITEMS];
    size_t items_count;
};

struct journal {
    struct journal_options options;
    int dirfd;
    uint32_t segment_size;
    unsigned segments_max;
    uint64_t known_commit;
    struct workers *syncer;
    struct workers_task syncer_task;
    struct workers *preparer;
    struct workers_task preparer_task;

    /* Read by anybody, without a lock; each stands for itself, unless said. */
    _Atomic uint64_t head;    /* released after everything before is placed */
    _Atomic uint64_t durable; /* released after the sync */
    _Atomic uint64_t oldest;  /* segment in use */
    _Atomic uint64_t newest;
    _Atomic uint64_t used_count; /* segments in use */
    _Atomic uint64_t capacity;   /* bytes */
    _Atomic uint64_t written;
    _Atomic uint64_t last_append_ns;
    _Atomic uint64_t data_end; /* of the last record that has data */
    _Atomic uint64_t vouched;  /* what some record or header says is durable */
    _Atomic uint32_t hints[HINTS]; /* number to slot, may be wrong */
    _Atomic int failed;

    struct mutex lock; /* a leaf */
    struct call *calls GUARDED_BY(lock); /* waiting for the turn */
    struct call **calls_end GUARDED_BY(lock);
    bool turn_is_taken GUARDED_BY(lock);
    bool boundary_wanted GUARDED_BY(lock); /* by the syncer */
    struct condition boundary;

    struct condition sync_wanted;
    struct journal_waiter *waiters GUARDED_BY(lock);
    struct journal_waiter **waiters_end GUARDED_BY(lock);
    struct slot *sync_from GUARDED_BY(lock); /* the oldest not all synced */
    struct slot *sync_last GUARDED_BY(lock); /* of the sync that began */
    uint64_t sync_target GUARDED_BY(lock);
    bool failure_told GUARDED_BY(lock);
    bool is_stopping GUARDED_BY(lock);

    struct condition segment_wanted;
    struct condition segment_prepared;
    struct slot *slots; /* slots_capacity of them */
    unsigned slots_capacity;
    unsigned slots_count GUARDED_BY(lock); /* that have a file */
    struct slot_list free GUARDED_BY(lock);
    struct slot_list prepared GUARDED_BY(lock);
    struct slot_list used GUARDED_BY(lock);
    uint64_t begin GUARDED_BY(lock);        /* as retired */
    uint64_t last_number GUARDED_BY(lock);  /* of any header written */
    uint64_t previous GUARDED_BY(lock);     /* for the next header */
    uint64_t previous_end GUARDED_BY(lock); /* the same */
    bool space_wanted GUARDED_BY(lock);
    bool is_preparing GUARDED_BY(lock);
    uint64_t grow_after_ns GUARDED_BY(lock); /* the disk was full */

    /* The turn's. */
    struct slot *current; /* NULL: none is prepared yet */
    uint64_t tail;        /* where the last record ends */
    bool new_page;        /* the next record begins on one */
    bool no_space;        /* for an earlier item of the same turn */
    unsigned char open_pages[2][CACHE_PAGE];
    unsigned open_page; /* of the two: what is on the page of tail */
    struct batch batch;
};

/* ---- slots --------------------------------------------------------------- */

static void list_init(struct slot_list *list)
{
    list->first = NULL;
    list->end = &list->first;
    list->count = 0;
}

static void list_push(struct slot_list *list, struct slot *slot)
{
    slot->next = NULL;
    *list->end = slot;
    list->end = &slot->next;
    list->count++;
}

static struct slot *list_pop(struct slot_list *list)
{
    struct slot *slot = list->first;

    if (!slot)
        return NULL;
    list->first = slot->next;
    if (!list->first)
        list->end = &list->first;
    slot->next = NULL;
    list->count--;
    return slot;
}

static uint64_t slot_number(const struct slot *slot)
{
    return atomic_load_explicit(&slot->number, memory_order_acquire);
}

/* Let readers find the slot by this number. */
static void publish_slot(struct journal *journal, struct slot *slot,
                         uint64_t number, uint32_t salt)
{
    atomic_store_explicit(&slot->salt, salt, memory_order_relaxed);
    atomic_store_explicit(&slot->number, number, memory_order_release);
    atomic_store_explicit(&journal->hints[number % HINTS],
                          (uint32_t)(slot - journal->slots),
                          memory_order_relaxed);
}

static struct slot *find_slot(struct journal *journal, uint64_t number)
{
    uint32_t hint = atomic_load_explicit(&journal->hints[number % HINTS],
                                         memory_order_relaxed);

    if (slot_number(&journal->slots[hint]) == number)
        return &journal->slots[hint];
    for (unsigned i = 0; i < journal->slots_capacity; i++) {
        if (slot_number(&journal->slots[i]) == number)
            return &journal->slots[i];
    }
    return NULL;
}

static void count_capacity(struct journal *journal) REQUIRES(journal->lock)
{
    unsigned slots = journal->grow_after_ns != 0 ||
                             journal->slots_count > journal->segments_max
                         ? journal->slots_count
                         : journal->segments_max;

    atomic_store(&journal->capacity, (uint64_t)slots * journal->segment_size);
}

static void count_used(struct journal *journal) REQUIRES(journal->lock)
{
    const struct slot *first = journal->used.first;

    atomic_store(&journal->used_count, journal->used.count);
    atomic_store(&journal->oldest, first ? slot_number(first)
                                         : atomic_load(&journal->newest));
}

/* The journal is lost; the syncer tells everybody. */
static void fail_locked(struct journal *journal, int error, const char *what)
    REQUIRES(journal->lock)
{
    if (atomic_load(&journal->failed) == 0) {
        atomic_store(&journal->failed, error);
        log_error("%s: the journal cannot be %s: %s; no write or flush is "
                  "possible any more",
                  journal->options.device_name, what, log_errno(error));
    }
    condition_signal(&journal->sync_wanted);
    condition_broadcast(&journal->segment_prepared);
}

static void fail(struct journal *journal, int error, const char *what)
{
    mutex_lock(&journal->lock);
    fail_locked(journal, error, what);
    mutex_unlock(&journal->lock);
}

static bool has_failed(struct journal *journal)
{
    return atomic_load_explicit(&journal->failed, memory_order_acquire) != 0;
}

/* Free the oldest segments that neither the state log nor a sync needs. */
static void retire_locked(struct journal *journal) REQUIRES(journal->lock)
{
    bool has_freed = false;

    while (journal->used.first && journal->used.first != journal->sync_from &&
           slot_number(journal->used.first) < journal->begin) {
        list_push(&journal->free, list_pop(&journal->used));
        has_freed = true;
    }
    if (has_freed) {
        count_used(journal);
        condition_signal(&journal->segment_wanted);
    }
}

/* ---- preparing segments -------------------------------------------------- */

/* Describe the next use of a slot, whose content nobody finds any more. */
static int describe_use(struct journal *journal, struct slot *slot,
                        struct journal_segment_header *ret_header)
    REQUIRES(journal->lock)
{
    uint32_t old_salt = atomic_load(&slot->salt);
    struct journal_segment_header header = {
        .number = journal->last_number + 1,
        .begin = journal->begin,
        .previous = journal->previous,
        .previous_end = journal->previous_end,
        .segment_size = journal->segment_size,
        .slots = journal->slots_count,
    };

    memcpy(header.journal_id, journal->options.journal_id, UUID_SIZE);
    memcpy(header.cachedir_id, journal->options.cachedir_id, UUID_SIZE);
    do {
        if (getrandom(&header.salt, sizeof(header.salt), 0) !=
            (ssize_t)sizeof(header.salt))
            return -EIO;
    } while (header.salt == old_salt);
    /* Seen by readers before any byte that comes; journal_read's mate. */
    atomic_store(&slot->number, 0);
    atomic_thread_fence(memory_order_seq_cst);
    *ret_header = header;
    return 0;
}

/* Write the header of the next use of a free slot. */
static int prepare_locked(struct journal *journal) REQUIRES(journal->lock)
{
    struct slot *slot = list_pop(&journal->free);
    struct journal_segment_header header;
    int error = describe_use(journal, slot, &header);

    journal->is_preparing = true;
    mutex_unlock(&journal->lock);
    if (error == 0) {
        if (journal->options.state_commit)
            header.state_commit = journal->options.state_commit(
                journal->options.events.context);
        error = journal_segment_write_header(slot->fd, &header);
        atomic_fetch_add(&journal->written, JOURNAL_HEADER_SIZE);
    }
    mutex_lock(&journal->lock);
    journal->is_preparing = false;
    if (error != 0) {
        fail_locked(journal, error, "prepared");
        return error;
    }
    publish_slot(journal, slot, header.number, header.salt);
    journal->last_number = header.number;
    journal->previous = header.number;
    journal->previous_end = 0;
    list_push(&journal->prepared, slot);
    condition_broadcast(&journal->segment_prepared);
    return 0;
}

static bool may_grow(struct journal *journal) REQUIRES(journal->lock)
{
    return journal->slots_count < journal->segments_max &&
           journal->free.count + journal->prepared.count < FREE_AHEAD;
}

/* Make one more segment.  Not a failure of the journal, if there is none. */
static void grow_locked(struct journal *journal) REQUIRES(journal->lock)
{
    static struct log_limit limit;
    unsigned slot = journal->slots_count;
    uint64_t left_out;
    int fd;

    journal->is_preparing = true;
    mutex_unlock(&journal->lock);
    fd = journal_segment_create(journal->dirfd, slot, journal->segment_size);
    if (fd < 0 && log_limit_allows(&limit, &left_out))
        log_warning("%s: no further segment of the journal can be made, it "
                    "goes on with %u: %s",
                    journal->options.device_name, slot, log_errno(fd));
    mutex_lock(&journal->lock);
    journal->is_preparing = false;
    if (fd < 0) {
        journal->grow_after_ns = clock_monotonic_ns() + GROW_AGAIN_NS;
        condition_broadcast(&journal->segment_prepared);
    } else {
        atomic_fetch_add(&journal->written, journal->segment_size);
        journal->slots[slot].fd = fd;
        journal->slots_count++;
        journal->grow_after_ns = 0;
        list_push(&journal->free, &journal->slots[slot]);
    }
    count_capacity(journal);
}

/* Whoever was refused for lack of space may come again. */
static void tell_space(struct journal *journal) REQUIRES(journal->lock)
{
    if (!journal->space_wanted || journal->prepared.count == 0)
        return;
    journal->space_wanted = false;
    mutex_unlock(&journal->lock);
    if (journal->options.events.space)
        journal->options.events.space(journal->options.events.context);
    mutex_lock(&journal->lock);
}

static void prepare_segments(struct workers_task *task)
{
    struct journal *journal =
        (struct journal *)(void *)((char *)task -
                                   offsetof(struct journal, preparer_task));

    mutex_lock(&journal->lock);
    while (!journal->is_stopping) {
        bool has_failed_now = has_failed(journal);

        if (!has_failed_now && journal->free.count > 0 &&
            journal->prepared.count < PREPARED_AHEAD) {
            (void)prepare_locked(journal);
            tell_space(journal);
        } else if (!has_failed_now && may_grow(journal) &&
                   clock_monotonic_ns() >= journal->grow_after_ns) {
            grow_locked(journal);
        } else if (!has_failed_now && may_grow(journal)) {
            (void)condition_wait_until(&journal->segment_wanted,
                                       &journal->lock, journal->grow_after_ns);
        } else {
            condition_wait(&journal->segment_wanted, &journal->lock);
        }
    }
    mutex_unlock(&journal->lock);
}

/* ---- appending: the turn ------------------------------------------------- */

static bool batch_is_empty(const struct batch *batch)
{
    return batch->pieces_count == 0;
}

static void add_piece(struct batch *batch, const void *data, size_t size)
{
    if (size == 0)
        return;
    assert(batch->pieces_count < FILE_IOV_MAX);
    batch->pieces[batch->pieces_count++] = (struct iovec){
        .iov_base = (void *)(uintptr_t)data, /* only read */
        .iov_len = size,
    };
}

/* Returns where the next record goes. */
static uint64_t next_position(const struct journal *journal)
{
    if (!batch_is_empty(&journal->batch))
        return journal->batch.end;
    return journal->new_page ? round_up(journal->tail, CACHE_PAGE)
                             : journal->tail;
}

static void start_batch(struct journal *journal)
{
    struct batch *batch = &journal->batch;
    uint64_t position = next_position(journal);

    batch->start = round_down(position, CACHE_PAGE);
    batch->end = position;
    batch->data_end = 0;
    batch->durable =
        atomic_load_explicit(&journal->durable, memory_order_relaxed);
    batch->heads_used = 0;
    batch->checksums_used = 0;
    batch->items_count = 0;
    add_piece(batch, journal->open_pages[journal->open_page],
              (size_t)(position - batch->start));
}

/* Add the head of a record; its pages, if any, must follow. */
static void add_record(struct journal *journal, struct journal_record *record,
                       const uint32_t *checksums)
{
    struct batch *batch = &journal->batch;
    unsigned char *head;
    size_t size = journal_record_head_size(record);

    record->position = next_position(journal);
    if (batch_is_empty(batch)) {
        record->gap = (uint32_t)(record->position - journal->tail);
        start_batch(journal);
    }
    head = batch->heads + batch->heads_used;
    assert(batch->heads_used + size <= BATCH_HEADS);
    record->durable = batch->durable;
    journal_record_encode(record, checksums,
                          atomic_load_explicit(&journal->current->salt,
                                               memory_order_relaxed),
                          head);
    batch->heads_used += size;
    add_piece(batch, head, size);
    batch->end += journal_record_size(record);
}

/* Keep what is on the last, open page, as the next write begins with it. */
static void keep_open_page(struct journal *journal)
{
    const struct batch *batch = &journal->batch;
    unsigned char *page = journal->open_pages[1 - journal->open_page];
    size_t left = (size_t)(batch->end % CACHE_PAGE);

    for (int i = batch->pieces_count - 1; left > 0; i--) {
        const struct iovec *piece = &batch->pieces[i];
        size_t part = piece->iov_len < left ? piece->iov_len : left;

        left -= part;
        memcpy(page + left,
               (const unsigned char *)piece->iov_base + piece->iov_len - part,
               part);
    }
}

/* Write what was collected, and show it. */
static void write_batch(struct journal *journal)
{
    const struct journal_events *events = &journal->options.events;
    struct batch *batch = &journal->batch;
    uint64_t end = round_up(batch->end, CACHE_PAGE);
    int error;

    if (batch_is_empty(batch))
        return;
    keep_open_page(journal);
    add_piece(batch, zero_page, (size_t)(end - batch->end));
    error = file_writev(journal->current->fd, batch->pieces,
                        batch->pieces_count,
                        batch->start % journal->segment_size);
    batch->pieces_count = 0;
    if (error != 0)
        fail(journal, error, "written");
    /* Before anything of it is seen: else that would seem to be old. */
    atomic_store(&journal->last_append_ns, clock_monotonic_ns());
    for (size_t i = 0; i < batch->items_count; i++) {
        struct journal_item *item = batch->items[i];

        item->error = error != 0 ? -EIO : 0;
        if (error == 0 && events->placed)
            events->placed(events->context, item);
        item->checksums = NULL;
    }
    if (error != 0)
        return;
    journal->open_page = 1 - journal->open_page;
    journal->new_page = false;
    journal->tail = batch->end;
    atomic_fetch_add_explicit(&journal->written, end - batch->start,
                              memory_order_relaxed);
    if (batch->data_end != 0)
        atomic_store_explicit(&journal->data_end, batch->data_end,
                              memory_order_relaxed);
    atomic_store_explicit(&journal->vouched, batch->durable,
                          memory_order_relaxed);
    atomic_store_explicit(&journal->head, batch->end, memory_order_release);
}

/* Whether a record of this size leaves a page for the END of the segment. */
static bool record_fits(const struct journal *journal, uint64_t size)
{
    return journal->current &&
           next_position(journal) % journal->segment_size + size +
                   CACHE_PAGE <=
               journal->segment_size;
}

/* Go on in the next segment.  Returns false if there is none, or it failed. */
static bool switch_segment(struct journal *journal)
{
    struct journal_record end = {.kind = JOURNAL_END};
    struct slot *next;

    mutex_lock(&journal->lock);
    next = list_pop(&journal->prepared);
    if (!next)
        journal->space_wanted = true;
    condition_signal(&journal->segment_wanted);
    mutex_unlock(&journal->lock);
    if (!next)
        return false;
    if (journal->current) {
        add_record(journal, &end, NULL);
        write_batch(journal);
    }
    mutex_lock(&journal->lock);
    list_push(&journal->used, next);
    if (!journal->sync_from)
        journal->sync_from = next;
    atomic_store(&journal->newest, slot_number(next));
    count_used(journal);
    mutex_unlock(&journal->lock);
    if (has_failed(journal))
        return false;
    journal->current = next;
    journal->tail =
        slot_number(next) * journal->segment_size + JOURNAL_HEADER_SIZE;
    journal->new_page = false;
    atomic_store_explicit(&journal->head, journal->tail, memory_order_release);
    return true;
}

/* Whether the batch has room for the item, and an END after it. */
static bool item_fits_batch(const struct batch *batch,
                            const struct journal_item *item, size_t head_size)
{
    return batch_is_empty(batch) ||
           ((size_t)batch->pieces_count + item->pieces_count + 1 +
                    SPARE_PIECES <=
                FILE_IOV_MAX &&
            batch->heads_used + head_size + JOURNAL_RECORD_HEADER <=
                BATCH_HEADS &&
            batch->checksums_used + (size_t)item->count <= BATCH_PAGES &&
            batch->end - batch->start < BATCH_BYTES &&
            batch->items_count < BATCH_ITEMS);
}

/* Checksum the pages of an item, whose pieces may end anywhere in them. */
static void checksum_pages(const struct journal_item *item, uint32_t salt,
                           uint32_t checksums[])
{
    unsigned piece = 0;
    size_t used = 0; /* of that piece */

    for (uint64_t i = 0; i < item->count; i++) {
        size_t left = CACHE_PAGE;

        checksums[i] = salt;
        while (left > 0) {
            const struct iovec *from = &item->pieces[piece];
            size_t part;

            if (used == from->iov_len) {
                piece++;
                used = 0;
                assert(piece < item->pieces_count);
                continue;
            }
            part = from->iov_len - used < left ? from->iov_len - used : left;
            checksums[i] =
                crc32c(checksums[i],
                       (const unsigned char *)from->iov_base + used, part);
            used += part;
            left -= part;
        }
    }
}

static void add_item(struct journal *journal, struct journal_item *item,
                     struct journal_record *record)
{
    struct batch *batch = &journal->batch;
    size_t head_size = journal_record_head_size(record);
    uint32_t *checksums;

    if (batch_is_empty(batch))
        batch->checksums_used = 0;
    checksums = batch->checksums + batch->checksums_used;
    if (item->kind == JOURNAL_PAGES) {
        checksum_pages(item,
                       atomic_load_explicit(&journal->current->salt,
                                            memory_order_relaxed),
                       checksums);
    }
    add_record(journal, record, checksums);
    if (item->kind == JOURNAL_PAGES) {
        for (unsigned i = 0; i < item->pieces_count; i++)
            add_piece(batch, item->pieces[i].iov_base, item->pieces[i].iov_len);
        batch->checksums_used += (size_t)item->count;
    }
    item->checksums = checksums;
    item->position = record->position +
                     (item->kind == JOURNAL_PAGES ? head_size : 0);
    batch->items[batch->items_count++] = item;
    batch->data_end = batch->end;
}

static void append_item(struct journal *journal, struct call *call,
                        struct journal_item *item)
{
    const struct journal_events *events = &journal->options.events;
    struct journal_record record = {
        .kind = item->kind,
        .hole = item->kind == JOURNAL_ZERO && item->hole,
        .page = item->page,
        .count = item->count,
    };
    uint64_t size = journal_record_size(&record);

    assert(item->kind == JOURNAL_ZERO ||
           (item->kind == JOURNAL_PAGES && item->count > 0 &&
            item->count <= journal_pages_max(journal)));
    if (!item_fits_batch(&journal->batch, item,
                         journal_record_head_size(&record)))
        write_batch(journal);
    if (has_failed(journal)) {
        item->error = -EIO;
        return;
    }
    if (journal->no_space ||
        (!record_fits(journal, size) && !switch_segment(journal))) {
        item->error = has_failed(journal) ? -EIO : -EAGAIN;
        journal->no_space = true;
        return;
    }
    item->error = events->admit ? events->admit(events->context, item) : 0;
    if (item->error != 0)
        return;
    add_item(journal, item, &record);
    call->end = journal->batch.end;
}

static int append_mark(struct journal *journal, struct call *call)
{
    struct journal_record mark = {.kind = JOURNAL_MARK};

    write_batch(journal);
    if (!has_failed(journal) && !record_fits(journal, JOURNAL_RECORD_HEADER))
        return -EAGAIN;
    if (!has_failed(journal)) {
        add_record(journal, &mark, NULL);
        call->end = journal->batch.end;
        write_batch(journal);
    }
    return has_failed(journal) ? -EIO : 0;
}

static int rotate(struct journal *journal)
{
    write_batch(journal);
    if (!has_failed(journal)) {
        if (journal->current &&
            journal->tail % journal->segment_size == JOURNAL_HEADER_SIZE)
            return 0;
        if (switch_segment(journal))
            return 0;
    }
    return has_failed(journal) ? -EIO : -EAGAIN;
}

/* Do what all these callers want, in order. */
static void run_calls(struct journal *journal, struct call *calls)
{
    journal->no_space = false;
    for (struct call *call = calls; call; call = call->next) {
        switch (call->kind) {
        case CALL_ITEMS:
            for (size_t i = 0; i < call->count; i++)
                append_item(journal, call, call->items[i]);
            break;
        case CALL_MARK:
            call->error = append_mark(journal, call);
            break;
        case CALL_ROTATE:
            call->error = rotate(journal);
            break;
        }
    }
    write_batch(journal);
}

/* Between two writes: from here on the syncer syncs. */
static void begin_sync_locked(struct journal *journal) REQUIRES(journal->lock)
{
    journal->sync_target = atomic_load(&journal->head);
    journal->sync_last = journal->current;
    journal->new_page = true;
}

/* With the turn: serve all that wait, own first; then hand the turn on. */
static void lead_locked(struct journal *journal) REQUIRES(journal->lock)
{
    for (unsigned turns = 0;; turns++) {
        struct call *calls = journal->calls;

        journal->calls = NULL;
        journal->calls_end = &journal->calls;
        mutex_unlock(&journal->lock);
        run_calls(journal, calls);
        mutex_lock(&journal->lock);
        while (calls) {
            struct call *call = calls;

            calls = call->next; /* once done, it may be gone */
            call->is_done = true;
            if (!call->has_turn)
                condition_signal(&call->woken);
        }
        if (journal->boundary_wanted) {
            begin_sync_locked(journal);
            journal->boundary_wanted = false;
            condition_signal(&journal->boundary);
        }
        if (!journal->calls) {
            journal->turn_is_taken = false;
            return;
        }
        if (turns + 1 == TURNS_AT_ONCE) {
            journal->calls->has_turn = true;
            condition_signal(&journal->calls->woken);
            return;
        }
    }
}

/* Have the call done, by this thread or the one that has the turn. */
static void run_call(struct journal *journal, struct call *call)
{
    mutex_lock(&journal->lock);
    *journal->calls_end = call;
    journal->calls_end = &call->next;
    if (journal->turn_is_taken) {
        condition_init(&call->woken);
        while (!call->is_done && !call->has_turn)
            condition_wait(&call->woken, &journal->lock);
    } else {
        journal->turn_is_taken = true;
        call->has_turn = true;
        /* Nobody signals woken. */
        lead_locked(journal);
        mutex_unlock(&journal->lock);
        return;
    }
    if (!call->is_done)
        lead_locked(journal);
    mutex_unlock(&journal->lock);
    condition_done(&call->woken);
}

void journal_append(struct journal *journal, struct journal_item *items[],
                    size_t count, uint64_t *ret_end)
{
    struct call call = {.kind = CALL_ITEMS, .items = items, .count = count};

    if (journal->options.read_only) {
        for (size_t i = 0; i < count; i++)
            items[i]->error = -EROFS;
    } else {
        run_call(journal, &call);
    }
    *ret_end = call.end;
}

/* Whether the preparer has, or will have, a segment to go on in. */
static bool segment_will_come(struct journal *journal) REQUIRES(journal->lock)
{
    return journal->is_preparing || journal->free.count > 0 ||
           (may_grow(journal) && journal->grow_after_ns == 0);
}

int journal_rotate(struct journal *journal)
{
    struct call call = {.kind = CALL_ROTATE};

    bool may_come;

    if (journal->options.read_only)
        return -EROFS;
    do {
        mutex_lock(&journal->lock);
        while (journal->prepared.count == 0 && segment_will_come(journal) &&
               !has_failed(journal))
            condition_wait(&journal->segment_prepared, &journal->lock);
        may_come = segment_will_come(journal);
        mutex_unlock(&journal->lock);
        call = (struct call){.kind = CALL_ROTATE};
        run_call(journal, &call);
        /* Another one may have taken the segment that was there. */
    } while (call.error == -EAGAIN && may_come);
    return call.error;
}

/* ---- syncing ------------------------------------------------------------- */

/* Sync all segments up to a boundary between two writes. */
static void sync_round(struct journal *journal) REQUIRES(journal->lock)
{
    struct slot *slot;
    int error = 0;

    if (journal->turn_is_taken) {
        journal->boundary_wanted = true;
        while (journal->boundary_wanted)
            condition_wait(&journal->boundary, &journal->lock);
    } else {
        begin_sync_locked(journal);
    }
    slot = journal->sync_from;
    if (has_failed(journal) ||
        journal->sync_target == atomic_load(&journal->durable))
        return;
    /* In order: of a younger segment nothing counts without the older. */
    while (slot) {
        mutex_unlock(&journal->lock);
        error = file_sync_data(slot->fd);
        mutex_lock(&journal->lock);
        if (error != 0 || slot == journal->sync_last)
            break;
        slot = slot->next;
    }
    if (error != 0) {
        fail_locked(journal, error, "synced");
        return;
    }
    journal->sync_from = journal->sync_last;
    atomic_store_explicit(&journal->durable, journal->sync_target,
                          memory_order_release);
    retire_locked(journal);
}

/* Take the waiters that can be answered, in order. */
static struct journal_waiter *take_answerable(struct journal *journal,
                                              uint64_t durable, bool all)
    REQUIRES(journal->lock)
{
    struct journal_waiter *taken = NULL;
    struct journal_waiter **taken_end = &taken;
    struct journal_waiter **link = &journal->waiters;

    while (*link) {
        struct journal_waiter *waiter = *link;

        if (all || waiter->position <= durable) {
            *link = waiter->next;
            waiter->next = NULL;
            *taken_end = waiter;
            taken_end = &waiter->next;
        } else {
            link = &waiter->next;
        }
    }
    journal->waiters_end = link;
    return taken;
}

static void answer_waiters(struct journal *journal) REQUIRES(journal->lock)
{
    uint64_t durable = atomic_load(&journal->durable);
    bool is_lost = has_failed(journal);
    bool tell_failure = is_lost && !journal->failure_told;
    struct journal_waiter *waiter = take_answerable(journal, durable, is_lost);

    if (tell_failure)
        journal->failure_told = true;
    mutex_unlock(&journal->lock);
    if (tell_failure && journal->options.events.failed)
        journal->options.events.failed(journal->options.events.context,
                                       atomic_load(&journal->failed));
    while (waiter) {
        struct journal_waiter *next = waiter->next;

        waiter->done(waiter, waiter->position <= durable ? 0 : -EIO);
        waiter = next;
    }
    mutex_lock(&journal->lock);
}

/* Whether data is durable, but no record or header says so yet. */
static bool lacks_mark(struct journal *journal)
{
    uint64_t data_end = atomic_load(&journal->data_end);

    return data_end > atomic_load(&journal->vouched) &&
           data_end <= atomic_load(&journal->durable);
}

static void put_mark(struct journal *journal) REQUIRES(journal->lock)
{
    struct call call = {.kind = CALL_MARK};

    mutex_unlock(&journal->lock);
    run_call(journal, &call);
    mutex_lock(&journal->lock);
    if (call.error == 0)
        sync_round(journal);
    else /* no room: the next record, or start, will say it */
        atomic_store(&journal->vouched, atomic_load(&journal->data_end));
}

static void sync_when_wanted(struct workers_task *task)
{
    struct journal *journal =
        (struct journal *)(void *)((char *)task -
                                   offsetof(struct journal, syncer_task));

    mutex_lock(&journal->lock);
    for (;;) {
        bool is_lost = has_failed(journal);

        if (journal->waiters && !is_lost) {
            sync_round(journal);
            answer_waiters(journal);
        } else if (journal->waiters || (is_lost && !journal->failure_told)) {
            answer_waiters(journal);
        } else if (journal->is_stopping) {
            break;
        } else if (!is_lost && lacks_mark(journal)) {
            uint64_t mark_ns =
                atomic_load(&journal->last_append_ns) + MARK_AFTER_NS;

            if (clock_monotonic_ns() >= mark_ns)
                put_mark(journal);
            else
                (void)condition_wait_until(&journal->sync_wanted,
                                           &journal->lock, mark_ns);
        } else {
            condition_wait(&journal->sync_wanted, &journal->lock);
        }
    }
    mutex_unlock(&journal->lock);
}

uint64_t journal_head(struct journal *journal)
{
    return atomic_load_explicit(&journal->head, memory_order_acquire);
}

void journal_when_durable(struct journal *journal,
                          struct journal_waiter *waiter)
{
    uint64_t durable =
        atomic_load_explicit(&journal->durable, memory_order_acquire);
    int error = 0;

    if (waiter->position > durable) {
        mutex_lock(&journal->lock);
        /* What failed to be written has a position past the head, too. */
        if (has_failed(journal)) {
            error = -EIO;
        } else if (waiter->position > atomic_load(&journal->durable)) {
            assert(waiter->position <= journal_head(journal));
            waiter->next = NULL;
            *journal->waiters_end = waiter;
            journal->waiters_end = &waiter->next;
            condition_signal(&journal->sync_wanted);
            waiter = NULL; /* whoever answers may free it */
        }
        mutex_unlock(&journal->lock);
    }
    if (waiter)
        waiter->done(waiter, error);
}

/* A thread that waits. */
struct sleeper {
    struct journal_waiter waiter; /* the first member */
    struct mutex lock;
    struct condition woken;
    bool is_done GUARDED_BY(lock);
    int error GUARDED_BY(lock);
};

static void wake_sleeper(struct journal_waiter *waiter, int error)
{
    struct sleeper *sleeper = (struct sleeper *)waiter;

    mutex_lock(&sleeper->lock);
    sleeper->is_done = true;
    sleeper->error = error;
    condition_signal(&sleeper->woken);
    mutex_unlock(&sleeper->lock);
}

int journal_sync(struct journal *journal)
{
    struct sleeper sleeper = {.is_done = false};
    struct call nothing = {.kind = CALL_ITEMS};
    int error;

    /* What was placed, and can be seen, is before the head after that. */
    run_call(journal, &nothing);
    sleeper.waiter.position = journal_head(journal);
    sleeper.waiter.done = wake_sleeper;
    mutex_init(&sleeper.lock);
    condition_init(&sleeper.woken);
    journal_when_durable(journal, &sleeper.waiter);
    mutex_lock(&sleeper.lock);
    while (!sleeper.is_done)
        condition_wait(&sleeper.woken, &sleeper.lock);
    error = sleeper.error;
    mutex_unlock(&sleeper.lock);
    condition_done(&sleeper.woken);
    mutex_done(&sleeper.lock);
    return error;
}

/* ---- reading, retiring, asking ------------------------------------------- */

int journal_read(struct journal *journal, uint64_t position, uint32_t checksum,
                 size_t offset, void *data, size_t size, bool nowait)
{
    uint64_t number = position / journal->segment_size;
    struct slot *slot = find_slot(journal, number);
    unsigned char page[CACHE_PAGE];
    void *to = size == CACHE_PAGE ? data : page;
    uint32_t salt;
    ssize_t got;

    assert(offset <= CACHE_PAGE && size <= CACHE_PAGE - offset);
    if (!slot)
        return -ESTALE;
    salt = atomic_load_explicit(&slot->salt, memory_order_relaxed);
    got = nowait ? file_read_nowait(slot->fd, to, CACHE_PAGE,
                                    position % journal->segment_size)
                 : file_read(slot->fd, to, CACHE_PAGE,
                             position % journal->segment_size);
    /* If these were bytes of a later use, its number was 0 before them. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&slot->number) != number)
        return -ESTALE;
    if (got < 0)
        return (int)got;
    if (got != CACHE_PAGE || journal_page_checksum(salt, to) != checksum)
        return -EBADMSG;
    if (to == page)
        memcpy(data, page + offset, size);
    return 0;
}

uint64_t journal_segment_of(const struct journal *journal, uint64_t position)
{
    return position / journal->segment_size;
}

uint64_t journal_segment_start(const struct journal *journal, uint64_t number)
{
    return number * journal->segment_size;
}

uint64_t journal_known_commit(const struct journal *journal)
{
    return journal->known_commit;
}

uint64_t journal_pages_max(const struct journal *journal)
{
    /* Between the header's page and that of the END, after the head. */
    uint64_t pages = (journal->segment_size - 2 * CACHE_PAGE -
                      JOURNAL_HEAD_MAX) /
                     CACHE_PAGE;

    return pages < JOURNAL_RECORD_PAGES_MAX ? pages : JOURNAL_RECORD_PAGES_MAX;
}

void journal_retire(struct journal *journal, uint64_t begin)
{
    mutex_lock(&journal->lock);
    if (begin > journal->begin)
        journal->begin = begin;
    retire_locked(journal);
    mutex_unlock(&journal->lock);
}

void journal_get_fill(struct journal *journal, struct journal_fill *ret_fill)
{
    uint64_t head = atomic_load(&journal->head);
    uint64_t used = atomic_load(&journal->used_count) * journal->segment_size;
    uint64_t rest = journal->segment_size - head % journal->segment_size;

    *ret_fill = (struct journal_fill){
        .used = used > rest ? used - rest : 0,
        .capacity = atomic_load(&journal->capacity),
        .begin = atomic_load(&journal->oldest),
        .newest = atomic_load(&journal->newest),
        .written = atomic_load(&journal->written),
        .last_append_ns = atomic_load(&journal->last_append_ns),
    };
}

/* ---- open and close ------------------------------------------------------ */

/* What the directory holds. */
struct listing {
    unsigned slots; /* one more than the highest */
    struct journal *journal;
};

static int list_name(void *context, const char *name)
{
    struct listing *listing = context;
    unsigned slot;
    bool is_new;

    if (journal_segment_parse(name, &slot, &is_new) && !is_new &&
        slot >= listing->slots)
        listing->slots = slot + 1;
    return 0;
}

/* Remove what an unfinished growth left. */
static int remove_new(void *context, const char *name)
{
    const struct journal *journal = context;
    unsigned slot;
    bool is_new;

    if (journal_segment_parse(name, &slot, &is_new) && is_new)
        (void)file_unlink(journal->dirfd, name);
    return 0;
}

static int open_directory(struct journal *journal)
{
    const struct journal_options *options = &journal->options;
    int error = 0;

    if (options->create) {
        error = file_make_dir(options->dirfd, "journal", 0700);
        if (error == -EEXIST)
            error = 0;
        if (error == 0)
            error = file_sync(options->dirfd);
    }
    if (error == 0) {
        journal->dirfd = file_open(options->dirfd, "journal",
                                   O_RDONLY | O_DIRECTORY, 0);
        error = journal->dirfd < 0 ? journal->dirfd : 0;
    }
    if (error != 0)
        log_error("%s: journal: %s", options->device_name, log_errno(error));
    return error == -ENOENT ? -ENXIO : error;
}

static int allocate_slots(struct journal *journal, unsigned count)
{
    journal->slots_capacity = count;
    journal->slots = calloc(count, sizeof(journal->slots[0]));
    if (!journal->slots)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++)
        journal->slots[i].fd = -1;
    return 0;
}

static int create_segments(struct journal *journal)
{
    unsigned count = SEGMENTS_AT_FIRST;
    int error = allocate_slots(journal, journal->segments_max);

    for (unsigned i = 0; error == 0 && i < count; i++) {
        int fd =
            journal_segment_create(journal->dirfd, i, journal->segment_size);

        if (fd < 0) {
            error = fd;
            log_error("%s: journal/segment.%04x cannot be made: %s",
                      journal->options.device_name, i, log_errno(error));
            break;
        }
        journal->slots[i].fd = fd;
        journal->slots_count = i + 1;
        list_push(&journal->free, &journal->slots[i]);
        atomic_fetch_add(&journal->written, journal->segment_size);
    }
    journal->begin = 1;
    return error;
}

/* Open the files there are; a missing one is told by the replay. */
static int open_segments(struct journal *journal, unsigned files)
{
    int flags = journal->options.read_only ? O_RDONLY : O_RDWR;
    unsigned count =
        files > journal->segments_max ? files : journal->segments_max;
    int error = allocate_slots(journal, count);

    for (unsigned i = 0; error == 0 && i < files; i++) {
        char name[JOURNAL_SEGMENT_NAME];
        int fd;

        journal_segment_name(i, name);
        fd = file_open(journal->dirfd, name, flags, 0);
        if (fd < 0 && fd != -ENOENT) {
            error = fd;
            log_error("%s: journal/%s: %s", journal->options.device_name, name,
                      log_errno(error));
        }
        journal->slots[i].fd = fd < 0 ? -1 : fd;
    }
    journal->slots_count = files;
    return error;
}

/* The journal has another segment size than is wanted now: it stays. */
static int adopt_size(struct journal *journal, uint32_t segment_size)
{
    uint64_t bytes = (uint64_t)journal->options.segments_max *
                     journal->options.segment_size;
    uint64_t segments = bytes / segment_size;
    struct slot *slots;

    if (segments < SEGMENTS_MIN)
        segments = SEGMENTS_MIN;
    if (segments > JOURNAL_SLOTS_MAX)
        segments = JOURNAL_SLOTS_MAX;
    journal->segment_size = segment_size;
    journal->segments_max = (unsigned)segments;
    if (segments <= journal->slots_capacity)
        return 0;
    slots = reallocarray(journal->slots, segments, sizeof(slots[0]));
    if (!slots)
        return -ENOMEM;
    journal->slots = slots;
    while (journal->slots_capacity < segments)
        slots[journal->slots_capacity++] = (struct slot){.fd = -1};
    return 0;
}

/* Take over what the replay found. */
static void adopt(struct journal *journal, const struct journal_found *found,
                  const struct journal_found_slot slots[])
{
    for (size_t i = 0; i < found->log_count; i++) {
        unsigned at = found->log[i];

        publish_slot(journal, &journal->slots[at], slots[at].header.number,
                     slots[at].header.salt);
        list_push(&journal->used, &journal->slots[at]);
    }
    for (unsigned i = 0; i < journal->slots_count; i++) {
        if (journal->slots[i].fd >= 0 && slot_number(&journal->slots[i]) == 0)
            list_push(&journal->free, &journal->slots[i]);
        if (slot_number(&journal->slots[i]) == 0)
            atomic_store(&journal->slots[i].salt, slots[i].header.salt);
    }
    journal->known_commit = found->known_commit;
    journal->last_number = found->highest;
    journal->previous = found->last != 0 ? found->last : found->highest;
    journal->previous_end = found->end;
    /* Without any record the log begins with the segment that comes. */
    journal->begin = found->last != 0 ? found->begin : found->highest + 1;
    journal->tail = found->end;
    atomic_store(&journal->head, found->end);
    atomic_store(&journal->durable, found->end);
    atomic_store(&journal->data_end, found->end);
    atomic_store(&journal->vouched, found->end);
    atomic_store(&journal->newest, found->last);
}

static int replay_segments(struct journal *journal, unsigned files)
{
    AUTO_FREE struct journal_found_slot *slots =
        calloc(files + 1, sizeof(slots[0]));
    struct journal_found found;
    int error = slots ? 0 : -ENOMEM;

    for (unsigned i = 0; error == 0 && i < files; i++)
        slots[i].fd = journal->slots[i].fd;
    if (error == 0)
        error = journal_replay(&journal->options, slots, files, &found);
    if (error != 0)
        return error;
    if (found.segment_size != 0 && found.segment_size != journal->segment_size)
        error = adopt_size(journal, found.segment_size);
    if (error == 0)
        adopt(journal, &found, slots);
    journal_replay_done(&found);
    return error;
}

/* What an earlier process wrote may still be in the page cache alone. */
static int sync_all(struct journal *journal)
{
    int error = file_sync(journal->dirfd);

    for (unsigned i = 0; error == 0 && i < journal->slots_count; i++) {
        if (journal->slots[i].fd >= 0)
            error = file_sync_data(journal->slots[i].fd);
    }
    if (error != 0)
        log_error("%s: journal: cannot be synced: %s",
                  journal->options.device_name, log_errno(error));
    return error;
}

/*
 * Returns how many files, from the top, are to go: free ones, more than there
 * should be, or above a gap that an earlier removal left.
 */
static unsigned count_surplus(const struct journal *journal)
{
    unsigned kept = 0;

    while (kept < journal->slots_count && journal->slots[kept].fd >= 0)
        kept++;
    if (kept > journal->segments_max)
        kept = journal->segments_max;
    for (unsigned i = kept; i < journal->slots_count; i++) {
        const struct slot *slot = &journal->slots[i];

        if (slot_number(slot) != 0 || journal->free.first == slot)
            kept = i + 1;
    }
    return journal->slots_count - kept;
}

static void remove_surplus(struct journal *journal, unsigned surplus)
{
    struct slot_list kept;
    struct slot *slot;

    list_init(&kept);
    while ((slot = list_pop(&journal->free)) != NULL) {
        unsigned at = (unsigned)(slot - journal->slots);
        char name[JOURNAL_SEGMENT_NAME];

        if (at < journal->slots_count) {
            list_push(&kept, slot);
            continue;
        }
        journal_segment_name(at, name);
        (void)file_close(slot->fd);
        slot->fd = -1;
        (void)file_unlink(journal->dirfd, name);
    }
    while ((slot = list_pop(&kept)) != NULL)
        list_push(&journal->free, slot);
    if (surplus > 0)
        log_info("%s: journal: %u segments removed, %u are left",
                 journal->options.device_name, surplus, journal->slots_count);
}

/*
 * Begin the fresh segment, durably, before anything else changes.  Without a
 * free slot it begins when one is retired.
 */
static int begin_fresh(struct journal *journal)
{
    unsigned surplus = count_surplus(journal);
    int error = 0;

    for (unsigned i = 0; i < journal->slots_count - surplus; i++) {
        if (journal->slots[i].fd >= 0)
            continue;
        log_error("%s: journal/segment.%04x is missing",
                  journal->options.device_name, i);
        return -ENXIO;
    }
    mutex_lock(&journal->lock);
    if (journal->free.count > 0) {
        journal->slots_count -= surplus;
        error = prepare_locked(journal);
    }
    mutex_unlock(&journal->lock);
    if (error != 0 || journal->prepared.count == 0)
        return error;
    (void)switch_segment(journal);
    /* Empty, and nothing in it to be synced. */
    atomic_store(&journal->durable, journal->tail);
    atomic_store(&journal->vouched, journal->tail);
    remove_surplus(journal, surplus);
    return 0;
}

static int open_parts(struct journal *journal)
{
    const struct journal_options *options = &journal->options;
    struct listing listing = {.slots = 0};
    int error = open_directory(journal);

    if (error == 0)
        error = file_list(journal->dirfd, ".", list_name, &listing);
    if (error != 0)
        return error;
    if (options->create) {
        if (listing.slots > 0)
            return -EEXIST;
        error = create_segments(journal);
    } else {
        error = open_segments(journal, listing.slots);
        if (error == 0)
            error = replay_segments(journal, listing.slots);
    }
    if (error == 0 && !options->read_only) {
        (void)file_list(journal->dirfd, ".", remove_new, journal);
        error = sync_all(journal);
        if (error == 0)
            error = begin_fresh(journal);
    }
    mutex_lock(&journal->lock);
    count_used(journal);
    count_capacity(journal);
    mutex_unlock(&journal->lock);
    return error;
}

static int start_threads(struct journal *journal)
{
    int error = workers_start("journal-sync", 1, &journal->syncer);

    if (error == 0)
        error = workers_start("journal-prepare", 1, &journal->preparer);
    if (error != 0)
        return error;
    journal->syncer_task.run = sync_when_wanted;
    workers_submit(journal->syncer, &journal->syncer_task);
    journal->preparer_task.run = prepare_segments;
    workers_submit(journal->preparer, &journal->preparer_task);
    return 0;
}

static void stop_threads(struct journal *journal)
{
    mutex_lock(&journal->lock);
    journal->is_stopping = true;
    condition_signal(&journal->sync_wanted);
    condition_signal(&journal->segment_wanted);
    mutex_unlock(&journal->lock);
    workers_stop(journal->syncer);
    workers_stop(journal->preparer);
}

static void free_journal(struct journal *journal)
{
    for (unsigned i = 0; i < journal->slots_capacity; i++) {
        if (journal->slots && journal->slots[i].fd >= 0)
            (void)file_close(journal->slots[i].fd);
    }
    if (journal->dirfd >= 0)
        (void)file_close(journal->dirfd);
    condition_done(&journal->boundary);
    condition_done(&journal->sync_wanted);
    condition_done(&journal->segment_wanted);
    condition_done(&journal->segment_prepared);
    mutex_done(&journal->lock);
    free(journal->slots);
    free(journal);
}

int journal_open(const struct journal_options *options,
                 struct journal **ret_journal)
{
    struct journal *journal = calloc(1, sizeof(*journal));
    int error;

    assert(options->segment_size >= SEGMENT_SIZE_MIN &&
           options->segment_size % CACHE_PAGE == 0 &&
           options->segments_max >= SEGMENTS_MIN &&
           options->segments_max <= JOURNAL_SLOTS_MAX);
    if (!journal)
        return -ENOMEM;
    journal->options = *options;
    journal->segment_size = options->segment_size;
    journal->segments_max = options->segments_max;
    journal->dirfd = -1;
    atomic_store(&journal->last_append_ns, clock_monotonic_ns());
    journal->calls_end = &journal->calls;
    journal->waiters_end = &journal->waiters;
    list_init(&journal->free);
    list_init(&journal->prepared);
    list_init(&journal->used);
    mutex_init(&journal->lock);
    condition_init(&journal->boundary);
    condition_init(&journal->sync_wanted);
    condition_init(&journal->segment_wanted);
    condition_init(&journal->segment_prepared);
    error = open_parts(journal);
    if (error == 0 && !options->read_only) {
        error = start_threads(journal);
        if (error != 0)
            stop_threads(journal);
    }
    if (error != 0) {
        free_journal(journal);
        return error;
    }
    *ret_journal = journal;
    return 0;
}

int journal_close(struct journal *journal)
{
    int error = 0;

    if (!journal)
        return 0;
    if (!journal->options.read_only) {
        error = journal_sync(journal);
        if (error == 0 && lacks_mark(journal)) {
            struct call mark = {.kind = CALL_MARK};

            run_call(journal, &mark);
            error = mark.error == -EAGAIN ? 0 : mark.error;
            if (error == 0)
                error = journal_sync(journal);
        }
        stop_threads(journal);
        if (has_failed(journal))
            error = -EIO;
    }
    free_journal(journal);
    return error;
}
