/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_slots.c has the segments, journal_replay.c says what is where after
 * a power cut.  Kept here for it: what a record says was durable, was; and a
 * synced page is never written again, as after a sync the next record begins
 * on a page of its own.
 *
 * The turn: one caller at a time appends, for all that wait.  What only the
 * turn touches has no lock.  A thread of the journal's own syncs, and answers
 * those who wait for it.
 */
#include "cache/journal.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/workers.h"
#include "cache/geometry.h"
#include "cache/journal_segment.h"
#include "cache/journal_slots.h"

enum {
    SEGMENT_SIZE_MIN = 1 << 15,
    SEGMENTS_MIN = 4,

    /* What one write takes along at most. */
    BATCH_BYTES = 4 << 20,
    BATCH_PAGES = BATCH_BYTES / CACHE_PAGE + JOURNAL_RECORD_PAGES_MAX,
    BATCH_ITEMS = FILE_IOV_MAX / 2,
    BATCH_HEADS = 1 << 16,
    /* Pieces for an END, its head's page from memory, and the padding. */
    SPARE_PIECES = 3,

    TURNS_AT_ONCE = 8, /* then whoever appends hands the turn on */

    /* After a flush a record has a page of its own: room for 32 trims. */
    ZEROS_ROOM_MAX = 32 * CACHE_PAGE,
};

static const uint64_t MARK_AFTER_NS = 1000000000; /* 1 s */

static const unsigned char zero_page[CACHE_PAGE];

enum call_kind { CALL_ITEMS, CALL_MARK, CALL_ROTATE, CALL_CUT };

/* Somebody who wants the turn, on his stack. */
struct call {
    enum call_kind kind;
    struct journal_item **items;
    size_t count;
    uint64_t end; /* of the last record placed for it */
    int error;    /* but for CALL_ITEMS */
    int (*cut)(void *context, uint64_t position); /* CALL_CUT */
    void *context;
    bool is_done;
    bool has_turn;
    struct condition woken;
    struct call *next;
};

/* Records of one segment that are written together. */
struct batch {
    struct iovec pieces[FILE_IOV_MAX];
    int pieces_count;
    uint64_t start;    /* of the first piece: a page border */
    uint64_t end;      /* of the last record */
    uint64_t durable;  /* what the records vouch for */
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
    struct journal_slots *slots;
    uint32_t segment_size;
    struct workers *syncer;
    struct workers_task syncer_task;

    /* Read by anybody, without a lock; each stands for itself, unless said. */
    _Atomic uint64_t head;    /* released after everything before is placed */
    _Atomic uint64_t durable; /* released after the sync */
    _Atomic uint64_t written;
    _Atomic uint64_t last_append_ns;
    _Atomic uint64_t data_end; /* of the last record that has data */
    _Atomic uint64_t vouched;  /* what some record or header says is durable */
    _Atomic int failed;

    struct mutex lock;                   /* a leaf */
    struct call *calls GUARDED_BY(lock); /* waiting for the turn */
    struct call **calls_end GUARDED_BY(lock);
    bool turn_is_taken GUARDED_BY(lock);
    bool boundary_wanted GUARDED_BY(lock); /* by the syncer */
    struct condition boundary;

    struct condition sync_wanted;
    struct journal_waiter *waiters GUARDED_BY(lock);
    struct journal_waiter **waiters_end GUARDED_BY(lock);
    uint64_t sync_target GUARDED_BY(lock); /* of the sync that began */
    struct journal_slot *sync_last GUARDED_BY(lock); /* the same */
    bool failure_told GUARDED_BY(lock);
    bool is_stopping GUARDED_BY(lock);

    /* The turn's. */
    struct journal_slot *current; /* NULL: none is prepared yet */
    uint64_t tail;                /* where the last record ends */
    bool new_page;                /* the next record begins on one */
    bool no_space;                /* in this turn, for pages */
    unsigned char open_pages[2][CACHE_PAGE];
    unsigned open_page; /* of the two: what is on the page of tail */
    struct batch batch;
};

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
                          journal_slot_salt(journal->current), head);
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
    error =
        file_writev(journal_slot_fd(journal->current), batch->pieces,
                    batch->pieces_count, batch->start % journal->segment_size);
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

/*
 * Bytes at the end of each segment that pages leave to zeros: on a device
 * that has filled its disk, trims make room, so they must find some.
 */
static uint64_t room_for_zeros(const struct journal *journal)
{
    uint64_t room = round_down(journal->segment_size / 16, CACHE_PAGE);

    return room < ZEROS_ROOM_MAX ? room : ZEROS_ROOM_MAX;
}

/* Whether such a record leaves a page for the END of the segment. */
static bool record_fits(const struct journal *journal, enum journal_kind kind,
                        uint64_t size)
{
    if (kind == JOURNAL_PAGES)
        size += room_for_zeros(journal);
    return journal->current &&
           next_position(journal) % journal->segment_size + size + CACHE_PAGE <=
               journal->segment_size;
}

/* Go on in the next segment.  Returns false if there is none, or it failed. */
static bool switch_segment(struct journal *journal)
{
    struct journal_record end = {.kind = JOURNAL_END};
    struct journal_slot *next = journal_slots_take(journal->slots);

    if (!next)
        return false;
    if (journal->current) {
        add_record(journal, &end, NULL);
        write_batch(journal);
    }
    journal_slots_use(journal->slots, next);
    if (has_failed(journal))
        return false;
    journal->current = next;
    journal->tail =
        journal_slot_number(next) * journal->segment_size + JOURNAL_HEADER_SIZE;
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
        checksum_pages(item, journal_slot_salt(journal->current), checksums);
    }
    add_record(journal, record, checksums);
    if (item->kind == JOURNAL_PAGES) {
        for (unsigned i = 0; i < item->pieces_count; i++)
            add_piece(batch, item->pieces[i].iov_base, item->pieces[i].iov_len);
        batch->checksums_used += (size_t)item->count;
    }
    item->checksums = checksums;
    item->position =
        record->position + (item->kind == JOURNAL_PAGES ? head_size : 0);
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
    if ((journal->no_space && item->kind == JOURNAL_PAGES) ||
        (!record_fits(journal, item->kind, size) && !switch_segment(journal))) {
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
    if (!has_failed(journal) &&
        !record_fits(journal, JOURNAL_MARK, JOURNAL_RECORD_HEADER))
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

static int cut(struct journal *journal, const struct call *call)
{
    write_batch(journal);
    return has_failed(journal) ? -EIO : call->cut(call->context, journal->tail);
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
        case CALL_CUT:
            call->error = cut(journal, call);
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

int journal_rotate(struct journal *journal)
{
    struct call call;
    bool may_work;

    if (journal->options.read_only)
        return -EROFS;
    do {
        may_work = journal_slots_wait(journal->slots);
        call = (struct call){.kind = CALL_ROTATE};
        run_call(journal, &call);
        /* Another one may have taken the segment that was there. */
    } while (call.error == -EAGAIN && may_work);
    return call.error;
}

int journal_cut(struct journal *journal,
                int (*at_cut)(void *context, uint64_t position), void *context)
{
    struct call call = {.kind = CALL_CUT, .cut = at_cut, .context = context};

    if (journal->options.read_only)
        return -EROFS;
    run_call(journal, &call);
    return call.error;
}

/* ---- syncing ------------------------------------------------------------- */

/* Sync everything up to a boundary between two writes. */
static void sync_round(struct journal *journal) REQUIRES(journal->lock)
{
    uint64_t target;
    const struct journal_slot *last;
    int error;

    if (journal->turn_is_taken) {
        journal->boundary_wanted = true;
        while (journal->boundary_wanted)
            condition_wait(&journal->boundary, &journal->lock);
    } else {
        begin_sync_locked(journal);
    }
    target = journal->sync_target;
    last = journal->sync_last;
    if (has_failed(journal) || target == atomic_load(&journal->durable))
        return;
    mutex_unlock(&journal->lock);
    error = journal_slots_sync(journal->slots, last);
    mutex_lock(&journal->lock);
    if (error != 0)
        fail_locked(journal, error, "synced");
    else
        atomic_store_explicit(&journal->durable, target, memory_order_release);
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
    if (tell_failure)
        journal_slots_stop(journal->slots);
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

/* As journal_read, but of a whole page. */
static int read_page(struct journal *journal, uint64_t position,
                     uint32_t checksum, void *page, bool nowait)
{
    uint64_t number = position / journal->segment_size;
    uint64_t offset = position % journal->segment_size;
    const struct journal_slot *slot =
        journal_slots_find(journal->slots, number);
    uint32_t salt;
    ssize_t got;

    if (!slot)
        return -ESTALE;
    salt = journal_slot_salt(slot);
    got = nowait ? file_read_nowait(journal_slot_fd(slot), page, CACHE_PAGE,
                                    offset)
                 : file_read(journal_slot_fd(slot), page, CACHE_PAGE, offset);
    if (!journal_slot_is(slot, number))
        return -ESTALE;
    if (got < 0)
        return (int)got;
    return got == CACHE_PAGE && journal_page_checksum(salt, page) == checksum
               ? 0
               : -EBADMSG;
}

int journal_read(struct journal *journal, uint64_t position, uint32_t checksum,
                 size_t offset, void *data, size_t size, bool nowait)
{
    unsigned char page[CACHE_PAGE];
    int error;

    assert(offset <= CACHE_PAGE && size <= CACHE_PAGE - offset);
    if (size == CACHE_PAGE)
        return read_page(journal, position, checksum, data, nowait);
    error = read_page(journal, position, checksum, page, nowait);
    if (error == 0)
        memcpy(data, page + offset, size);
    return error;
}

uint64_t journal_segment_start(const struct journal *journal, uint64_t number)
{
    return number * journal->segment_size;
}

uint64_t journal_pages_max(const struct journal *journal)
{
    /* Between the header's page and what is left to zeros and the END. */
    uint64_t pages = (journal->segment_size - room_for_zeros(journal) -
                      2 * CACHE_PAGE - JOURNAL_HEAD_MAX) /
                     CACHE_PAGE;

    return pages < JOURNAL_RECORD_PAGES_MAX ? pages : JOURNAL_RECORD_PAGES_MAX;
}

void journal_retire(struct journal *journal, uint64_t begin)
{
    journal_slots_retire(journal->slots, begin);
}

void journal_get_fill(struct journal *journal, struct journal_fill *ret_fill)
{
    struct journal_slots_fill slots;
    uint64_t head = atomic_load(&journal->head);
    uint64_t rest = journal->segment_size - head % journal->segment_size;
    uint64_t used;

    journal_slots_get_fill(journal->slots, &slots);
    used = slots.in_use * journal->segment_size;
    *ret_fill = (struct journal_fill){
        .used = used > rest ? used - rest : 0,
        .capacity = slots.capacity,
        .begin = slots.oldest,
        .newest = slots.newest,
        .written = slots.written + atomic_load(&journal->written),
        .last_append_ns = atomic_load(&journal->last_append_ns),
        .is_lost = has_failed(journal),
    };
}

/* ---- open and close ------------------------------------------------------ */

static void tell_space(void *context)
{
    const struct journal *journal = context;

    if (journal->options.events.space)
        journal->options.events.space(journal->options.events.context);
}

static void preparing_failed(void *context, int error)
{
    fail(context, error, "prepared");
}

/* The log ends there; what comes goes into the fresh segment, if it is. */
static void begin_at(struct journal *journal, const struct journal_log_end *end)
{
    journal->tail = end->position;
    atomic_store(&journal->head, end->position);
    if (!journal->options.read_only)
        (void)switch_segment(journal);
    /* All before was synced, and is vouched for by the fresh header. */
    atomic_store(&journal->durable, journal->tail);
    atomic_store(&journal->data_end, end->position);
    atomic_store(&journal->vouched, journal->tail);
}

static int start_threads(struct journal *journal)
{
    int error = workers_start("journal-sync", 1, &journal->syncer);

    if (error != 0)
        return error;
    journal->syncer_task.run = sync_when_wanted;
    workers_submit(journal->syncer, &journal->syncer_task);
    return journal_slots_start(journal->slots);
}

/* The syncer last: it tells everybody of a failure. */
static void end_threads(struct journal *journal)
{
    if (journal->slots)
        journal_slots_end(journal->slots);
    mutex_lock(&journal->lock);
    journal->is_stopping = true;
    condition_signal(&journal->sync_wanted);
    mutex_unlock(&journal->lock);
    workers_stop(journal->syncer);
    journal->syncer = NULL;
}

static void free_journal(struct journal *journal)
{
    end_threads(journal);
    journal_slots_close(journal->slots);
    condition_done(&journal->boundary);
    condition_done(&journal->sync_wanted);
    mutex_done(&journal->lock);
    free(journal);
}

int journal_open(const struct journal_options *options,
                 struct journal **ret_journal)
{
    struct journal *journal = calloc(1, sizeof(*journal));
    struct journal_slots_events events = {
        .space = tell_space,
        .failed = preparing_failed,
        .context = journal,
    };
    struct journal_log_end end;
    int error;

    assert(options->segment_size >= SEGMENT_SIZE_MIN &&
           options->segment_size % CACHE_PAGE == 0 &&
           options->segments_max >= SEGMENTS_MIN &&
           options->segments_max <= JOURNAL_SLOTS_MAX);
    if (!journal)
        return -ENOMEM;
    journal->options = *options;
    journal->calls_end = &journal->calls;
    journal->waiters_end = &journal->waiters;
    mutex_init(&journal->lock);
    condition_init(&journal->boundary);
    condition_init(&journal->sync_wanted);
    atomic_store(&journal->last_append_ns, clock_monotonic_ns());
    error =
        journal_slots_open(&journal->options, &events, &journal->slots, &end);
    if (error == 0) {
        journal->segment_size = journal_slots_segment_size(journal->slots);
        begin_at(journal, &end);
        if (!options->read_only)
            error = start_threads(journal);
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
        end_threads(journal);
        if (has_failed(journal))
            error = -EIO;
    }
    free_journal(journal);
    return error;
}
