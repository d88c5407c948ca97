/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The input is a list of commands that fill the files of a small journal:
 * headers and records that are right in their checksums, but may say
 * anything, and any bytes over them.  Replay must not crash, tell records in
 * order, and tell the same twice.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "cache/journal_replay.h"

enum { SLOTS = 4, SEGMENT = 8 * 4096, SALT = 99 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In place of the log: a hundred thousand complaints help nobody. */
void log_error(const char *format, ...)
{
    (void)format;
}

bool log_limit_allows(struct log_limit *limit, uint64_t *ret_left_out)
{
    (void)limit;
    *ret_left_out = 0;
    return false;
}

const char *log_errno(int error)
{
    (void)error;
    return "";
}

/* What is left of the input; 0 when it is used up. */
struct input {
    const uint8_t *data;
    size_t size;
};

static uint8_t take(struct input *input)
{
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->data++;
}

struct image {
    int fds[SLOTS];
    uint64_t numbers[SLOTS];
    uint32_t at[SLOTS];  /* where the next record goes */
    uint32_t end[SLOTS]; /* of the one before */
};

static struct image image = {.fds = {-1, -1, -1, -1}};

static void must_write(int fd, const void *data, size_t size, uint64_t at)
{
    if (at + size <= SEGMENT &&
        pwrite(fd, data, size, (off_t)at) != (ssize_t)size)
        abort();
}

static void put_header(struct input *input, unsigned slot)
{
    struct journal_segment_header header = {
        .number = take(input),
        .begin = take(input),
        .previous = take(input),
        .previous_end = (uint64_t)take(input) * SEGMENT / 8,
        .segment_size = SEGMENT,
        .salt = SALT,
        .slots = take(input) % (SLOTS + 2),
    };
    unsigned char page[JOURNAL_HEADER_SIZE];

    journal_header_encode(&header, page);
    must_write(image.fds[slot], page, sizeof(page), 0);
    image.numbers[slot] = header.number;
    image.at[slot] = image.end[slot] = JOURNAL_HEADER_SIZE;
}

static void put_record(struct input *input, unsigned slot)
{
    static const unsigned char page[4096];
    uint8_t kind = take(input);
    uint32_t checksums[JOURNAL_RECORD_PAGES_MAX];
    unsigned char head[JOURNAL_HEAD_MAX];
    struct journal_record record = {
        .kind = (enum journal_kind)(kind % 6),
        .hole = (kind & 64) != 0,
        .page = take(input),
        .count = take(input) % 5,
    };

    if ((kind & 128) != 0) /* on a new page */
        image.at[slot] = (image.at[slot] + 4095U) & ~4095U;
    record.gap = image.at[slot] - image.end[slot];
    record.position = image.numbers[slot] * SEGMENT + image.at[slot];
    record.durable = record.position - (uint64_t)take(input) * 64;
    if (record.kind == JOURNAL_MARK || record.kind == JOURNAL_END)
        record.page = record.count = 0;
    for (size_t i = 0; i < record.count; i++)
        checksums[i] =
            journal_page_checksum(SALT, page) + (take(input) == 255 ? 1 : 0);
    journal_record_encode(&record, checksums, SALT, head);
    must_write(image.fds[slot], head, journal_record_head_size(&record),
               image.at[slot]);
    if (image.at[slot] < SEGMENT)
        image.at[slot] += (uint32_t)journal_record_size(&record);
    image.end[slot] = image.at[slot];
}

static void put_bytes(struct input *input, unsigned slot)
{
    uint64_t at = (uint64_t)take(input) * 128 + take(input);
    size_t size = take(input);

    if (size > input->size)
        size = input->size;
    must_write(image.fds[slot], input->data, size, at);
    input->data += size;
    input->size -= size;
}

static void fill(struct input *input)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (image.fds[slot] < 0)
            image.fds[slot] = memfd_create("segment", MFD_CLOEXEC);
        if (ftruncate(image.fds[slot], 0) != 0 ||
            ftruncate(image.fds[slot], SEGMENT) != 0)
            abort();
        image.numbers[slot] = slot + 1;
        image.at[slot] = image.end[slot] = JOURNAL_HEADER_SIZE;
    }
    while (input->size > 0) {
        uint8_t command = take(input);
        unsigned slot = command % SLOTS;

        switch (command / SLOTS % 8) {
        case 0:
            put_header(input, slot);
            break;
        case 1:
            put_bytes(input, slot);
            break;
        case 2:
            if (ftruncate(image.fds[slot], take(input) * 256) != 0)
                abort();
            break;
        default:
            put_record(input, slot);
            break;
        }
    }
}

/* What a replay told. */
struct told {
    uint64_t position;
    uint64_t count;
    uint64_t sum;
};

static int replay(void *context, const struct journal_record *record,
                  uint64_t position, const uint32_t *checksums)
{
    struct told *told = context;

    assert(position > told->position);
    assert(position % SEGMENT >= JOURNAL_HEADER_SIZE);
    assert(record->kind == JOURNAL_PAGES || record->kind == JOURNAL_ZERO);
    assert(record->count > 0);
    told->position = position;
    told->count++;
    told->sum = told->sum * 31 + position + record->page;
    if (record->kind == JOURNAL_PAGES)
        told->sum += checksums[record->count - 1];
    return 0;
}

static int run(bool read_only, uint64_t begin, struct told *told)
{
    struct journal_options options = {
        .device_name = "fuzz",
        .segment_size = SEGMENT,
        .segments_max = SLOTS,
        .begin = begin,
        .read_only = read_only,
        .events = {.replay = replay, .context = told},
    };
    struct journal_found_slot slots[SLOTS];
    struct journal_found found;
    int error;

    memset(slots, 0, sizeof(slots));
    memset(told, 0, sizeof(*told));
    for (unsigned slot = 0; slot < SLOTS; slot++)
        slots[slot].fd = image.fds[slot];
    error = journal_replay(&options, slots, SLOTS, &found);
    if (error != 0)
        return error;
    assert((found.last == 0) == (found.log_count == 0));
    assert(found.end == 0 || found.end / SEGMENT == found.last ||
           found.end == (found.last + 1) * SEGMENT);
    assert(found.end >= told->position);
    assert(found.highest >= found.last);
    journal_replay_done(&found);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct told strict;
    struct told again;
    struct told lenient;
    uint64_t begin = take(&input) % 4;
    int error;

    fill(&input);
    error = run(false, begin, &strict);
    assert(error == 0 || error == -EUCLEAN || error == -ENXIO ||
           error == -EPROTONOSUPPORT || error == -EIO);
    assert(run(false, begin, &again) == error && again.sum == strict.sum);
    if (run(true, begin, &lenient) == 0 && error == 0)
        assert(lenient.sum == strict.sum);
    return 0;
}
