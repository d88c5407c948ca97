/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each use of a segment has a number; its header names the number before it.
 * L is the segment in which the valid log ends, at E; D is how far some
 * record or header vouches that it was durable.
 *
 *   header of a use      written and synced before its first record; all of
 *                        it in one sector, so it is there or it is not
 *   ... made ahead       previous = the number before it, previous_end = 0:
 *                        follows when that one has its END, vouches nothing
 *   ... of a fresh start previous = L, previous_end = E: written after a sync
 *                        of everything, so it vouches for all up to E, and
 *                        voids whatever lies between E and itself
 *   record               vouches for `durable`; names the gap before it, so a
 *                        lost one between two others is a hole, not a tail
 *
 * A power cut, or a kill, during a start, and what the next start sees:
 *
 *   before the fresh header is durable   the same log: nothing was written,
 *                        and what was synced is what was read: the same E
 *   its header durable   L, then the fresh segment F, empty
 *   segments after L recycled, not F     impossible: F comes first
 *   records in F         L up to E, then F
 *   F empty, next start  L up to E; the new F' names L, and F is free: with
 *                        or without F', the log ends at E
 *   F's slot taken for F', F' not durable  the slot has F's header or F''s
 *   no slot was free     the log is served, F is written when one retires;
 *                        until then the same as before the fresh header
 *
 * So of all headers that name the same predecessor the highest is right: the
 * others were voided by it.  And the log is whole if it leads, from the first
 * segment at or after begin, to the newest header there is; else something is
 * missing in between.
 *
 * E < D is damage: never cut.  The bytes after E are searched for a record
 * that vouches for more.  Records after D whose payload does not verify are a
 * torn tail too, in order: the first ends the log.  Before D they stay: their
 * pages are damaged, which reading them will say.
 */
#include "cache/journal_replay.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/log.h"
#include "cache/geometry.h"
#include "cache/journal_segment.h"

struct scan {
    const struct journal_options *options;
    struct journal_found_slot *slots;
    unsigned count;
    struct journal_found *found;
    uint32_t size;         /* of a segment */
    unsigned char *buffer; /* one segment */
    uint32_t unreadable;   /* end of the last page of it that is; 0: none */
    bool is_blind;         /* a page was unreadable where vouchers may be */
    uint64_t durable;      /* D */
    uint64_t end;          /* E */
    uint64_t damaged;      /* pages before D that do not verify */
};

/* What is wrong was logged: an error, unless all that is sure is wanted. */
static int refuse(const struct scan *scan, int error)
{
    return scan->options->read_only ? 0 : error;
}

static const char *device_name(const struct scan *scan)
{
    return scan->options->device_name;
}

static bool is_ours(const struct scan *scan,
                    const struct journal_segment_header *header)
{
    return memcmp(header->journal_id, scan->options->journal_id, UUID_SIZE) ==
               0 &&
           memcmp(header->cachedir_id, scan->options->cachedir_id, UUID_SIZE) ==
               0;
}

/* ---- headers ------------------------------------------------------------- */

static int read_slot(struct scan *scan, unsigned slot)
{
    struct journal_found_slot *at = &scan->slots[slot];
    uint64_t size = 0;
    int error = journal_segment_read_header(at->fd, &at->header);

    if (error == -ENODATA)
        return 0;
    if (error == 0 && !is_ours(scan, &at->header)) {
        log_error("%s: journal/segment.%04x belongs to another cache "
                  "directory or journal",
                  device_name(scan), slot);
        return -ENXIO;
    }
    if (error == 0)
        error = file_size(at->fd, &size);
    if (error == 0 && size < at->header.segment_size) {
        log_error("%s: journal/segment.%04x is cut short: %" PRIu64
                  " bytes instead of %" PRIu32,
                  device_name(scan), slot, size, at->header.segment_size);
        return -EUCLEAN;
    }
    if (error == 0) {
        at->has_header = true;
        return 0;
    }
    log_error("%s: journal/segment.%04x: its header %s", device_name(scan),
              slot,
              error == -EBADMSG           ? "is damaged"
              : error == -EPROTONOSUPPORT ? "was written by a later version"
                                          : log_errno(error));
    return error == -EBADMSG ? -EUCLEAN : error;
}

static struct journal_found_slot *find_number(const struct scan *scan,
                                              uint64_t number)
{
    for (unsigned slot = 0; slot < scan->count; slot++) {
        if (scan->slots[slot].has_header &&
            scan->slots[slot].header.number == number)
            return &scan->slots[slot];
    }
    return NULL;
}

/* All headers are of one journal, of one size, and of different numbers. */
static int compare_headers(struct scan *scan)
{
    const struct journal_found_slot *newest =
        find_number(scan, scan->found->highest);

    assert(newest);
    for (unsigned slot = 0; slot < scan->count; slot++) {
        struct journal_found_slot *at = &scan->slots[slot];
        const char *what = NULL;

        if (!at->has_header)
            continue;
        if (at->header.segment_size != newest->header.segment_size)
            what = "has another size than the newest one";
        else if (find_number(scan, at->header.number) != at)
            what = "is there twice";
        if (what) {
            log_error("%s: journal: segment %" PRIu64
                      " (journal/segment.%04x) %s",
                      device_name(scan), at->header.number, slot, what);
            if (!scan->options->read_only)
                return -EUCLEAN;
            at->has_header = false;
        }
    }
    for (unsigned slot = 0; slot < newest->header.slots; slot++) {
        if (slot < scan->count && scan->slots[slot].fd >= 0)
            continue;
        log_error("%s: journal/segment.%04x is missing", device_name(scan),
                  slot);
        if (!scan->options->read_only)
            return -ENXIO;
    }
    scan->size = newest->header.segment_size;
    scan->found->segment_size = scan->size;
    scan->found->slots = newest->header.slots;
    return 0;
}

static int read_headers(struct scan *scan)
{
    struct journal_found *found = scan->found;
    bool has_file = false;

    for (unsigned slot = 0; slot < scan->count; slot++) {
        const struct journal_segment_header *header = &scan->slots[slot].header;
        int error;

        if (scan->slots[slot].fd < 0)
            continue;
        has_file = true;
        error = read_slot(scan, slot);
        if (error != 0 && !scan->options->read_only)
            return error;
        if (!scan->slots[slot].has_header)
            continue;
        if (header->number > found->highest)
            found->highest = header->number;
        if (header->begin > found->begin)
            found->begin = header->begin;
        if (header->state_commit > found->known_commit)
            found->known_commit = header->state_commit;
    }
    if (found->highest == 0) {
        log_error("%s: journal: %s", device_name(scan),
                  has_file ? "no segment has a header"
                           : "there are no segments");
        return refuse(scan, has_file ? -EUCLEAN : -ENXIO);
    }
    return compare_headers(scan);
}

/* ---- which segments are the log ------------------------------------------ */

/*
 * Returns the segment that comes first, with previous below begin, or that
 * follows the one numbered previous; NULL if there is none.  Of several the
 * newest is right, see above.
 */
static struct journal_found_slot *find_next(const struct scan *scan,
                                            bool is_first, uint64_t previous)
{
    struct journal_found_slot *best = NULL;

    for (unsigned slot = 0; slot < scan->count; slot++) {
        struct journal_found_slot *at = &scan->slots[slot];
        const struct journal_segment_header *header = &at->header;

        if (!at->has_header || header->number < scan->found->begin)
            continue;
        if (is_first ? header->previous < scan->found->begin
                     : header->previous == previous) {
            if (!best || header->number > best->header.number)
                best = at;
        }
    }
    return best;
}

/* Say which link is not there. */
static int link_is_missing(const struct scan *scan, uint64_t reached)
{
    uint64_t lowest = UINT64_MAX;
    uint64_t missing = scan->found->begin;

    for (unsigned slot = 0; slot < scan->count; slot++) {
        const struct journal_segment_header *header = &scan->slots[slot].header;

        if (scan->slots[slot].has_header && header->number > reached &&
            header->number >= scan->found->begin && header->number < lowest) {
            lowest = header->number;
            missing = header->previous;
        }
    }
    log_error("%s: journal: segment %" PRIu64 " is missing; the log begins at "
              "%" PRIu64 " and should lead to %" PRIu64,
              device_name(scan), missing, scan->found->begin,
              scan->found->highest);
    return refuse(scan, -ENXIO);
}

static int find_log(struct scan *scan)
{
    struct journal_found *found = scan->found;
    struct journal_found_slot *at;
    uint64_t reached = 0;

    if (scan->options->begin > found->begin)
        found->begin = scan->options->begin;
    found->log = calloc(scan->count, sizeof(found->log[0]));
    if (!found->log)
        return -ENOMEM;
    for (at = find_next(scan, true, 0); at && found->log_count < scan->count;
         at = find_next(scan, false, reached)) {
        found->log[found->log_count++] = (unsigned)(at - scan->slots);
        reached = at->header.number;
    }
    return reached == found->highest ? 0 : link_is_missing(scan, reached);
}

/* ---- records ------------------------------------------------------------- */

static const struct journal_segment_header *log_header(const struct scan *scan,
                                                       size_t i)
{
    return &scan->slots[scan->found->log[i]].header;
}

/* Returns where the segment of the log must end; 0: at its END. */
static uint64_t wanted_end(const struct scan *scan, size_t i)
{
    return i + 1 < scan->found->log_count
               ? log_header(scan, i + 1)->previous_end
               : 0;
}

/*
 * Read a segment of the log into the buffer.  Pages that cannot be read are
 * zeros there, so that only what is in them is lost.
 */
static void read_segment(struct scan *scan, size_t i)
{
    unsigned slot = scan->found->log[i];
    int fd = scan->slots[slot].fd;
    ssize_t size = file_read(fd, scan->buffer, scan->size, 0);

    scan->unreadable = 0;
    if (size == (ssize_t)scan->size)
        return;
    for (uint32_t at = 0; at < scan->size; at += CACHE_PAGE) {
        size = file_read(fd, scan->buffer + at, CACHE_PAGE, at);
        if (size == CACHE_PAGE)
            continue;
        memset(scan->buffer + at, 0, CACHE_PAGE);
        if (scan->unreadable == 0)
            log_error("%s: journal: segment %" PRIu64
                      " (journal/segment.%04x) cannot be read at %" PRIu32
                      ": %s",
                      device_name(scan), log_header(scan, i)->number, slot, at,
                      size < 0 ? log_errno((int)size) : "it ends there");
        scan->unreadable = at + CACHE_PAGE;
    }
}

static int decode_at(const struct scan *scan,
                     const struct journal_segment_header *header, uint32_t at,
                     struct journal_record *ret_record, uint32_t *ret_checksums)
{
    int error;

    if (at >= scan->size)
        return -EBADMSG;
    error = journal_record_decode(scan->buffer + at, scan->size - at,
                                  header->number * scan->size + at,
                                  header->salt, ret_record, ret_checksums);
    if (error == 0 && journal_record_size(ret_record) > scan->size - at)
        return -EBADMSG;
    return error;
}

/*
 * Decode the record that follows the one which ended at *at: right there, or
 * on the next page if it says so.  On success *at is where this one ends.
 */
static int next_record(const struct scan *scan,
                       const struct journal_segment_header *header,
                       uint32_t *at, struct journal_record *ret_record,
                       uint32_t *ret_checksums)
{
    uint32_t border = (uint32_t)round_up(*at, CACHE_PAGE);
    uint32_t start = *at;
    int error = decode_at(scan, header, start, ret_record, ret_checksums);

    if (error == -EBADMSG && border != start) {
        start = border;
        error = decode_at(scan, header, start, ret_record, ret_checksums);
    }
    if (error == 0 && ret_record->gap != start - *at)
        return -EBADMSG;
    if (error == 0)
        *at = start + (uint32_t)journal_record_size(ret_record);
    return error;
}

static void vouch(struct scan *scan, uint64_t durable)
{
    if (durable > scan->durable)
        scan->durable = durable;
}

/*
 * Behind the place where the log of a segment breaks off: does any record
 * vouch for more?  It may begin at any aligned place.
 */
static int search_vouchers(struct scan *scan, size_t i, uint32_t from)
{
    const struct journal_segment_header *header = log_header(scan, i);
    uint32_t at = (uint32_t)round_up(from, JOURNAL_RECORD_ALIGN);

    if (scan->unreadable > from)
        scan->is_blind = true;
    while (at + JOURNAL_RECORD_HEADER <= scan->size) {
        struct journal_record record;
        int error = decode_at(scan, header, at, &record, NULL);

        if (error == -EPROTONOSUPPORT)
            return error;
        if (error == 0)
            vouch(scan, record.durable);
        at += error == 0 ? (uint32_t)journal_record_size(&record)
                         : JOURNAL_RECORD_ALIGN;
    }
    return 0;
}

/*
 * Follow the records of a segment of the log, as far as they are valid.
 * *ret_is_whole: up to where the next segment begins.
 */
static int follow_segment(struct scan *scan, size_t i, bool *ret_is_whole)
{
    const struct journal_segment_header *header = log_header(scan, i);
    uint64_t start = header->number * scan->size;
    uint64_t wanted = wanted_end(scan, i);
    uint32_t at = JOURNAL_HEADER_SIZE;
    struct journal_record record = {.kind = JOURNAL_MARK};
    int error = 0;

    read_segment(scan, i);
    while (wanted != 0 ? start + at < wanted : record.kind != JOURNAL_END) {
        error = next_record(scan, header, &at, &record, NULL);
        if (error != 0)
            break;
        vouch(scan, record.durable);
    }
    scan->end = start + at;
    *ret_is_whole = error == 0 && (wanted == 0 || scan->end == wanted);
    if (*ret_is_whole)
        return 0;
    return error == -EPROTONOSUPPORT ? error : search_vouchers(scan, i, at);
}

/* Find E and D. */
static int follow_log(struct scan *scan)
{
    size_t count = scan->found->log_count;
    bool is_whole = true;
    size_t i;

    for (i = 0; i < count && is_whole; i++) {
        int error = follow_segment(scan, i, &is_whole);

        if (error == -EPROTONOSUPPORT)
            log_error("%s: journal: segment %" PRIu64
                      " has records of a later version",
                      device_name(scan), log_header(scan, i)->number);
        if (error != 0)
            return error;
    }
    if (is_whole && count > 0) {
        log_error("%s: journal: the segment after %" PRIu64 " is missing",
                  device_name(scan), log_header(scan, count - 1)->number);
        return refuse(scan, -ENXIO);
    }
    /* Further on nothing counts any more, but may vouch. */
    for (; i < count; i++) {
        int error;

        vouch(scan, log_header(scan, i)->previous_end);
        read_segment(scan, i);
        error = search_vouchers(scan, i, JOURNAL_HEADER_SIZE);
        if (error != 0)
            return error;
    }
    for (i = 1; i < count; i++)
        vouch(scan, log_header(scan, i)->previous_end);
    return 0;
}

static int check_end(struct scan *scan)
{
    uint64_t number = scan->end / scan->size;

    if (scan->end < scan->durable) {
        log_error("%s: journal: segment %" PRIu64 " is damaged at %" PRIu64
                  ": no valid record is there, but the log was durable up to "
                  "%" PRIu64 " of segment %" PRIu64,
                  device_name(scan), number, scan->end % scan->size,
                  scan->durable % scan->size, scan->durable / scan->size);
        return refuse(scan, -EUCLEAN);
    }
    if (scan->is_blind) {
        log_error("%s: journal: what follows %" PRIu64 " of segment %" PRIu64
                  " cannot be read, so it cannot be known for a torn end",
                  device_name(scan), scan->end % scan->size, number);
        return refuse(scan, -EIO);
    }
    return 0;
}

/* ---- replay -------------------------------------------------------------- */

/* Returns whether all pages of the record, which ends at end, verify. */
static bool verify_pages(struct scan *scan,
                         const struct journal_segment_header *header,
                         const struct journal_record *record, uint32_t end,
                         const uint32_t checksums[])
{
    static struct log_limit limit;
    bool is_durable = record->position < scan->durable;
    uint32_t at = end - (uint32_t)record->count * CACHE_PAGE;
    uint64_t left_out;
    bool are_valid = true;

    for (uint64_t i = 0; i < record->count; i++, at += CACHE_PAGE) {
        if (journal_page_checksum(header->salt, scan->buffer + at) ==
            checksums[i])
            continue;
        are_valid = false;
        if (!is_durable)
            break;
        scan->damaged++;
        if (log_limit_allows(&limit, &left_out))
            log_error("%s: page %" PRIu64 " is damaged in the journal, "
                      "segment %" PRIu64 " at %" PRIu32 " (%" PRIu64
                      " more not told)",
                      device_name(scan), record->page + i, header->number, at,
                      left_out);
    }
    return are_valid;
}

/* Tell the records of a segment up to E, which moves to a torn one. */
static int tell_segment(struct scan *scan, size_t i)
{
    const struct journal_segment_header *header = log_header(scan, i);
    const struct journal_events *events = &scan->options->events;
    struct journal_found *found = scan->found;
    uint64_t start = header->number * scan->size;
    uint64_t wanted = wanted_end(scan, i);
    uint32_t at = JOURNAL_HEADER_SIZE;
    uint64_t stop = scan->end;

    if (wanted != 0 && wanted < stop)
        stop = wanted;
    read_segment(scan, i);
    while (start + at < stop && at < scan->size) {
        uint32_t checksums[JOURNAL_RECORD_PAGES_MAX];
        uint64_t content;
        struct journal_record record;
        int error;

        if (next_record(scan, header, &at, &record, checksums) != 0) {
            log_error("%s: journal: segment %" PRIu64 " at %" PRIu32
                      " cannot be read again",
                      device_name(scan), header->number, at);
            return refuse(scan, -EIO);
        }
        if (record.kind == JOURNAL_PAGES &&
            !verify_pages(scan, header, &record, at, checksums) &&
            record.position >= scan->durable) {
            scan->end = record.position - record.gap;
            scan->is_blind = start + scan->unreadable > record.position;
            return check_end(scan);
        }
        found->last = header->number;
        found->end = start + at;
        content = record.position;
        if (record.kind == JOURNAL_PAGES)
            content += journal_record_head_size(&record);
        error = 0;
        if (events->replay &&
            (record.kind == JOURNAL_PAGES || record.kind == JOURNAL_ZERO))
            error =
                events->replay(events->context, &record, content, checksums);
        if (error != 0)
            return error;
        if (record.kind == JOURNAL_END)
            break;
    }
    return 0;
}

/* Leave of the log what has records, and lies between others that have. */
static void trim_log(struct scan *scan, size_t first)
{
    struct journal_found *found = scan->found;
    size_t end = 0;

    if (found->last == 0) {
        found->log_count = 0;
        return;
    }
    while (log_header(scan, end)->number != found->last)
        end++;
    memmove(found->log, found->log + first,
            (end + 1 - first) * sizeof(found->log[0]));
    found->log_count = end + 1 - first;
    found->begin = log_header(scan, 0)->number;
}

static int tell_log(struct scan *scan)
{
    struct journal_found *found = scan->found;
    size_t first = 0;

    for (size_t i = 0; i < found->log_count; i++) {
        int error = 0;

        if (log_header(scan, i)->number * scan->size < scan->end)
            error = tell_segment(scan, i);
        if (error != 0)
            return error;
        if (found->last == 0)
            first = i + 1;
    }
    trim_log(scan, first);
    if (scan->damaged > 0)
        log_error("%s: %" PRIu64 " pages are damaged in the journal: they "
                  "cannot be read until they are written again",
                  device_name(scan), scan->damaged);
    return 0;
}

int journal_replay(const struct journal_options *options,
                   struct journal_found_slot slots[], unsigned count,
                   struct journal_found *ret_found)
{
    struct journal_found found = {.segment_size = 0};
    struct scan scan = {
        .options = options,
        .slots = slots,
        .count = count,
        .found = &found,
    };
    int error = read_headers(&scan);

    if (error == 0 && found.highest != 0)
        error = find_log(&scan);
    if (error == 0 && found.log_count > 0) {
        scan.buffer = malloc(scan.size);
        error = scan.buffer ? follow_log(&scan) : -ENOMEM;
        if (error == 0)
            error = check_end(&scan);
        if (error == 0)
            error = tell_log(&scan);
        found.durable = scan.durable;
        free(scan.buffer);
    }
    if (error != 0) {
        journal_replay_done(&found);
        return error;
    }
    *ret_found = found;
    return 0;
}

void journal_replay_done(struct journal_found *found)
{
    free(found->log);
    found->log = NULL;
    found->log_count = 0;
}
