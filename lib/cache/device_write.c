/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why no write to a part of a page undoes another write: its stamp is taken
 * before the page is read.  Every append changes the stamps of its pages
 * twice, when it gets its place and when the index shows it.  A reader of the
 * old content took its stamp before the second change at the latest, so its
 * comparison, made while nobody else can append, fails.
 */
#include "cache/device_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/device_read.h"
#include "cache/geometry.h"
#include "cache/throttle.h"

enum { ITEMS_AT_ONCE = 256 };

/* A page that the request covers only in part. */
struct edge {
    bool is_used;
    bool is_read; /* stamp and content are those of one reading */
    uint64_t page;
    uint64_t stamp;
    unsigned char *content; /* CACHE_PAGE bytes */
};

struct plan {
    struct journal_waiter waiter; /* first, see when_durable */
    struct device_request *request;
    /* It says of bytes past the device's end that they are zeros, which holds
     * for a device of this size; 0: it does not. */
    uint64_t padded_size;
    struct edge head;
    struct edge tail;
    uint64_t end;       /* of what was placed, in the journal */
    size_t items_count; /* that still have to be placed */
    struct journal_item items[];
};

/* The pages that a request covers, and how. */
struct span {
    uint64_t first;       /* page */
    uint64_t end;         /* page after the last */
    bool has_head;        /* the first is covered in part only */
    bool has_tail;        /* the last is, and is not the first */
    uint64_t padded_size; /* as in a plan */
};

static struct span span_of(const struct device *device,
                           const struct device_request *request)
{
    uint64_t offset = request->offset;
    uint64_t end = offset + request->length;
    struct span span = {.padded_size = 0};

    /* Nothing is behind the device's end: zeros may fill its last page. */
    if (request->operation != DEVICE_WRITE && end % CACHE_PAGE != 0 &&
        end == device_size(device)) {
        span.padded_size = end;
        end = round_up(end, CACHE_PAGE);
    }
    if (request->operation == DEVICE_TRIM) {
        offset = round_up(offset, CACHE_PAGE);
        end = round_down(end, CACHE_PAGE);
        if (end < offset)
            end = offset;
    }
    span.first = offset / CACHE_PAGE;
    span.end = (end + CACHE_PAGE - 1) / CACHE_PAGE;
    if (end == offset) { /* nothing is left */
        span.end = span.first;
        span.has_head = false;
        span.has_tail = false;
        return span;
    }
    span.has_head = offset % CACHE_PAGE != 0 ||
                    (span.end == span.first + 1 && end % CACHE_PAGE != 0);
    span.has_tail = end % CACHE_PAGE != 0 && span.end > span.first + 1;
    return span;
}

static void add_piece(struct journal_item *item, void *data, size_t size)
{
    item->pieces[item->pieces_count].iov_base = data;
    item->pieces[item->pieces_count].iov_len = size;
    item->pieces_count++;
}

/* The items of a WRITE: pages in records of at most `most` pages. */
static void plan_write(struct plan *plan, const struct span *span,
                       uint64_t most)
{
    const struct device_request *request = plan->request;
    unsigned char *data = request->data;
    uint64_t page = span->first;

    while (page < span->end) {
        struct journal_item *item = &plan->items[plan->items_count++];
        uint64_t end = span->end - page < most ? span->end : page + most;
        uint64_t from = page;
        uint64_t to = end;

        item->kind = JOURNAL_PAGES;
        item->page = page;
        item->count = end - page;
        item->owner = plan;
        if (span->has_head && page == span->first) {
            add_piece(item, plan->head.content, CACHE_PAGE);
            from++;
        }
        if (span->has_tail && end == span->end)
            to--;
        if (to > from)
            add_piece(item, data + (from * CACHE_PAGE - request->offset),
                      (to - from) * CACHE_PAGE);
        if (to < end)
            add_piece(item, plan->tail.content, CACHE_PAGE);
        /* Zeros need no more than to be said. */
        if (from == page && to == end && end - page >= PAGES_PER_BLOCK &&
            bytes_are_zero(item->pieces[0].iov_base, item->pieces[0].iov_len)) {
            item->kind = JOURNAL_ZERO;
            item->hole = true;
        }
        page = end;
    }
}

static void plan_edge_item(struct plan *plan, struct edge *edge)
{
    struct journal_item *item = &plan->items[plan->items_count++];

    item->kind = JOURNAL_PAGES;
    item->page = edge->page;
    item->count = 1;
    item->owner = plan;
    add_piece(item, edge->content, CACHE_PAGE);
}

static void plan_zero(struct plan *plan, const struct span *span)
{
    uint64_t first = span->first + (span->has_head ? 1 : 0);
    uint64_t end = span->end - (span->has_tail ? 1 : 0);

    if (span->has_head)
        plan_edge_item(plan, &plan->head);
    if (end > first) {
        struct journal_item *item = &plan->items[plan->items_count++];

        item->kind = JOURNAL_ZERO;
        item->hole = (plan->request->flags & DEVICE_NO_HOLE) == 0;
        item->page = first;
        item->count = end - first;
        item->owner = plan;
    }
    if (span->has_tail)
        plan_edge_item(plan, &plan->tail);
}

static void free_plan(struct plan *plan)
{
    if (plan == NULL)
        return;
    free(plan->head.content);
    free(plan->tail.content);
    free(plan);
}

static bool edge_begin(struct edge *edge, bool is_used, uint64_t page)
{
    edge->is_used = is_used;
    edge->page = page;
    edge->content = is_used ? malloc(CACHE_PAGE) : NULL;
    return !is_used || edge->content != NULL;
}

static struct plan *make_plan(struct device *device,
                              struct device_request *request)
{
    struct span span = span_of(device, request);
    uint64_t most = journal_pages_max(device->journal);
    uint64_t items = request->operation == DEVICE_WRITE
                         ? (span.end - span.first + most - 1) / most
                         : 3;
    struct plan *plan =
        calloc(1, sizeof(*plan) + items * sizeof(plan->items[0]));

    if (plan == NULL)
        return NULL;
    plan->request = request;
    plan->padded_size = span.padded_size;
    if (!edge_begin(&plan->head, span.has_head, span.first) ||
        !edge_begin(&plan->tail, span.has_tail, span.end - 1)) {
        free_plan(plan);
        return NULL;
    }
    if (request->operation == DEVICE_WRITE)
        plan_write(plan, &span, most);
    else
        plan_zero(plan, &span);
    return plan;
}

/* The request's own bytes over the old ones. */
static void merge_edge(const struct device_request *request, struct edge *edge)
{
    uint64_t page_start = edge->page * CACHE_PAGE;
    uint64_t start =
        request->offset > page_start ? request->offset : page_start;
    uint64_t end = request->offset + request->length;
    unsigned char *to = edge->content + (start - page_start);

    if (end > page_start + CACHE_PAGE)
        end = page_start + CACHE_PAGE;
    if (request->operation == DEVICE_WRITE)
        memcpy(to, (unsigned char *)request->data + (start - request->offset),
               end - start);
    else
        memset(to, 0, end - start);
}

/* Have the edge's page as it would be with this request. */
static int read_edge(struct device *device,
                     const struct device_request *request, struct edge *edge,
                     enum patience patience)
{
    uint64_t progress = 0;
    int error;

    if (!edge->is_used || edge->is_read)
        return 0;
    edge->stamp = page_index_stamp(device->index, edge->page);
    error = device_read_range(device, edge->page * CACHE_PAGE, CACHE_PAGE,
                              edge->content, patience, &progress);
    if (error != 0)
        return error;
    merge_edge(request, edge);
    edge->is_read = true;
    return 0;
}

static void finish(struct plan *plan, int error)
{
    struct device_request *request = plan->request;

    request->scratch = NULL;
    free_plan(plan);
    request->done(request, error);
}

void device_write_abandon(struct device_request *request)
{
    free_plan(request->scratch);
    request->scratch = NULL;
}

static void when_durable(struct journal_waiter *waiter, int error)
{
    finish((struct plan *)waiter, error);
}

static bool edge_is_in(const struct edge *edge, const struct journal_item *item)
{
    return edge->is_used && item->kind == JOURNAL_PAGES &&
           edge->page >= item->page && edge->page < item->page + item->count;
}

static bool edge_is_stale(struct device *device, const struct edge *edge,
                          const struct journal_item *item)
{
    return edge_is_in(edge, item) &&
           edge->stamp != page_index_stamp(device->index, edge->page);
}

/*
 * A trim may free the space that destage lacks, so it may still enter a
 * journal that data has filled: the last segments are kept for it.
 */
static bool has_space_for_data(struct device *device)
{
    uint64_t kept = journal_segment_start(device->journal, 1);
    struct journal_fill fill;

    journal_get_fill(device->journal, &fill);
    return fill.capacity < 8 * kept || fill.used + kept <= fill.capacity;
}

/*
 * Whether the device has grown since the plan was made, so that others may
 * have written to what it says is past the end.
 */
static bool plan_is_outgrown(const struct device *device,
                             const struct plan *plan)
{
    return plan->padded_size != 0 && plan->padded_size != device_size(device);
}

int device_write_admit(void *context, struct journal_item *item)
{
    struct device *device = context;
    struct plan *plan = item->owner;
    const atomic_bool *client_is_gone = plan->request->client_is_gone;

    if (client_is_gone != NULL && atomic_load(client_is_gone))
        return -ECANCELED;
    if (atomic_load(&device->has_failed))
        return -EIO;
    if (atomic_load(&device->gate) != DEVICE_GATE_OPEN)
        return atomic_load(&device->gate) == DEVICE_GATE_WAIT ? -EAGAIN : -EIO;
    if (!page_index_has_room(device->index,
                             item->kind == JOURNAL_PAGES ? item->count : 0))
        return -EAGAIN;
    if (item->kind == JOURNAL_PAGES && !has_space_for_data(device))
        return -EAGAIN;
    if (edge_is_stale(device, &plan->head, item) ||
        edge_is_stale(device, &plan->tail, item) ||
        plan_is_outgrown(device, plan))
        return -ESTALE;
    page_index_touch(device->index, item->page, item->count);
    return 0;
}

static void touch_chunks(struct device *device, const struct journal_item *item)
{
    uint64_t pages = device->options.chunk_size / CACHE_PAGE;

    for (uint64_t chunk = item->page / pages;
         chunk <= (item->page + item->count - 1) / pages; chunk++)
        use_touch(device->use, chunk);
}

void device_write_placed(void *context, struct journal_item *item)
{
    struct device *device = context;
    int error =
        item->kind == JOURNAL_PAGES
            ? page_index_put(device->index, item->page, item->count,
                             item->position, item->checksums)
            : page_index_put_zero(device->index, item->page, item->count,
                                  item->hole, item->position);

    page_index_touch(device->index, item->page, item->count);
    if (item->kind == JOURNAL_PAGES)
        touch_chunks(device, item);
    if (unpublished_is_none(&device->unpublished))
        unpublished_note(&device->unpublished, clock_realtime_ns());
    if (error == 0)
        return;
    /* In the journal, but nobody will read it before the next start. */
    if (!atomic_exchange(&device->has_failed, true))
        log_error("%s: no memory for the journal's index: no writes any more",
                  device->options.name);
    parking_wake(device->parking);
}

/* Leave only the items that are still to be placed. */
static int keep_refused(struct plan *plan)
{
    size_t kept = 0;
    int error = 0;

    for (size_t i = 0; i < plan->items_count; i++) {
        if (plan->items[i].error == 0)
            continue;
        /* -EIO is final, and a client that is gone more so than space. */
        if (error == 0 || plan->items[i].error == -EIO ||
            (plan->items[i].error == -ECANCELED && error != -EIO) ||
            (plan->items[i].error == -EAGAIN && error == -ESTALE))
            error = plan->items[i].error;
        if (kept != i)
            plan->items[kept] = plan->items[i];
        kept++;
    }
    plan->items_count = kept;
    return error;
}

/* Before another attempt: what is placed is of no interest any more. */
static void forget_edge(const struct plan *plan, struct edge *edge)
{
    bool is_used = false;

    for (size_t i = 0; i < plan->items_count && !is_used; i++)
        is_used = edge_is_in(edge, &plan->items[i]);
    edge->is_used = is_used;
    edge->is_read = false;
}

static void forget_edges(struct plan *plan)
{
    forget_edge(plan, &plan->head);
    forget_edge(plan, &plan->tail);
}

/*
 * What became of the plan.  Returns true if it has to be tried again now,
 * with its edges read anew.
 */
static bool settle(struct device *device, struct plan *plan)
{
    struct device_request *request = plan->request;

    switch (keep_refused(plan)) {
    case 0:
        if (atomic_load(&device->has_failed)) {
            finish(plan, -EIO);
            return false;
        }
        atomic_fetch_add(&device->user_written,
                         request->operation == DEVICE_WRITE ? request->length
                                                            : 0);
        if ((request->flags & DEVICE_FUA) == 0 &&
            !device->options.write_through) {
            finish(plan, 0);
            return false;
        }
        plan->waiter.position = plan->end;
        plan->waiter.done = when_durable;
        journal_when_durable(device->journal, &plan->waiter);
        return false;
    case -EAGAIN:
        forget_edges(plan);
        destage_kick(device->destage);
        /* Last: it may be answered by now, and the device be gone. */
        parking_add_for_space(device->parking, request, request->progress);
        return false;
    case -ESTALE:
        forget_edges(plan);
        return true;
    case -ECANCELED:
        finish(plan, -ECANCELED);
        return false;
    default:
        finish(plan, -EIO);
        return false;
    }
}

/* Append items, and have their plans know up to where. */
static void append_items(struct device *device, struct journal_item *items[],
                         size_t count)
{
    uint64_t end;

    if (count == 0)
        return;
    journal_append(device->journal, items, count, &end);
    destage_stir(device->destage);
    for (size_t i = 0; i < count; i++) {
        struct plan *plan = items[i]->owner;

        if (items[i]->error == 0)
            plan->end = end;
    }
}

/* Append the plans' items together, and settle each; keep what is stale. */
static size_t append_plans(struct device *device, struct plan *plans[],
                           size_t count)
{
    struct journal_item *items[ITEMS_AT_ONCE];
    size_t stale = 0;
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < plans[i]->items_count; j++) {
            items[used++] = &plans[i]->items[j];
            if (used == ITEMS_AT_ONCE) {
                append_items(device, items, used);
                used = 0;
            }
        }
    }
    append_items(device, items, used);
    for (size_t i = 0; i < count; i++) {
        if (settle(device, plans[i]))
            plans[stale++] = plans[i];
    }
    return stale;
}

/*
 * Make ready what can be.  Returns the plan, or NULL if the request was
 * finished, parked or handed on.
 */
static struct plan *ready_plan(struct device *device,
                               struct device_request *request,
                               enum patience patience)
{
    struct plan *plan = request->scratch;
    int error;

    /* What of it is placed already may as well be placed again. */
    if (plan != NULL && plan_is_outgrown(device, plan)) {
        free_plan(plan);
        request->scratch = plan = NULL;
    }
    if (plan == NULL) {
        plan = make_plan(device, request);
        if (plan == NULL) {
            request->done(request, -ENOMEM);
            return NULL;
        }
        request->scratch = plan;
    }
    error = read_edge(device, request, &plan->head, patience);
    if (error == 0)
        error = read_edge(device, request, &plan->tail, patience);
    if (error == -EAGAIN) {
        device_run_later(device, request, patience + 1);
        return NULL;
    }
    if (error != 0) {
        finish(plan, error);
        return NULL;
    }
    return plan;
}

/* How long a write waits as the journal fills, or what chunk files may take. */
static uint64_t delay_by_fill(struct device *device, uint64_t size,
                              const struct journal_fill *fill)
{
    uint64_t delay_ns = throttle_delay_ns(fill->used, fill->capacity, size);
    struct destage_space space;
    uint64_t cache_delay_ns;

    destage_get_space(device->destage, &space);
    if (space.room >= space.tight)
        return delay_ns;
    cache_delay_ns =
        throttle_delay_ns(space.tight - space.room, space.tight, size);
    return delay_ns > cache_delay_ns ? delay_ns : cache_delay_ns;
}

/* Returns whether the request has to wait first, and is parked. */
static bool park_by_fill(struct device *device, struct device_request *request,
                         const struct journal_fill *fill)
{
    uint64_t delay_ns;

    if (request->due_ns != 0) /* it has waited */
        return false;
    delay_ns = delay_by_fill(
        device,
        request->operation == DEVICE_WRITE ? request->length : CACHE_PAGE,
        fill);
    if (delay_ns == 0)
        return false;
    parking_add(device->parking, request, clock_monotonic_ns() + delay_ns);
    return true;
}

/* The device has failed, or belongs to another. */
static void refuse(struct device_request *request)
{
    device_write_abandon(request);
    request->done(request, -EIO);
}

void device_write_requests(struct device *device,
                           struct device_request *requests[], size_t count,
                           enum patience patience)
{
    uint64_t wakes = parking_wakes(device->parking);
    struct journal_fill fill;
    size_t done = 0;

    /* After the wakes were counted: see parking_add_for_space. */
    if (atomic_load(&device->has_failed) ||
        atomic_load(&device->gate) == DEVICE_GATE_FENCED) {
        for (; done < count; done++)
            refuse(requests[done]);
        return;
    }
    journal_get_fill(device->journal, &fill);
    if (fill.used > fill.capacity / 2)
        destage_kick(device->destage);
    while (done < count) {
        struct plan *plans[ITEMS_AT_ONCE];
        size_t used = 0;

        for (; done < count && used < ITEMS_AT_ONCE; done++) {
            requests[done]->progress = wakes;
            if (park_by_fill(device, requests[done], &fill))
                continue;
            plans[used] = ready_plan(device, requests[done], patience);
            if (plans[used] != NULL)
                used++;
        }
        while (used > 0) {
            size_t stale = append_plans(device, plans, used);

            used = 0;
            for (size_t i = 0; i < stale; i++) {
                plans[used] = ready_plan(device, plans[i]->request, patience);
                if (plans[used] != NULL)
                    used++;
            }
        }
    }
}
