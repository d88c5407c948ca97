/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ticks are in sheets, as in the file; a sheet is made when the first of its
 * chunks is used, and stays.  When the device grows past the list of sheets,
 * a longer list takes the place of the old one, which stays too: so whoever
 * has found a sheet may use it without a lock.
 */
#include "cache/use.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"

static const char NAME[] = "use";
static const char NAME_NEW[] = "use.new";
static const unsigned char MAGIC[8] = "s3busage";

/* Long enough that most touches change nothing; wraps in 13 years of use. */
static const uint64_t TICK_NS = 100 * 1000 * 1000;

/* The file; docs/FORMAT.md says the same in words. */
enum {
    VERSION = 1,

    HEADER_SIZE = 64,
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_TICK = 16,
    AT_RESERVED = 20,
    AT_HEADER_CHECKSUM = HEADER_SIZE - 4,

    SHEET_SIZE = 4096,
    SHEET_NUMBER = 0,
    SHEET_TICKS = 8,
    SHEET_CHECKSUM = SHEET_SIZE - 4,
    SHEET_CHUNKS = (SHEET_CHECKSUM - SHEET_TICKS) / 4,

    BUFFER_SHEETS = 32, /* read and written at once */
};

struct sheet {
    _Atomic uint32_t ticks[SHEET_CHUNKS];
};

struct sheets {
    struct sheets *replaced; /* the shorter list before */
    uint64_t count;
    _Atomic(struct sheet *) list[];
};

struct use {
    int cache_dirfd;
    const char *device_name;
    uint32_t first_tick; /* above all that were read */
    uint64_t opened_ns;
    atomic_bool has_changed; /* since it was saved */
    /* Changed under the lock: first the list, then how far it may be used. */
    struct mutex lock;
    _Atomic(struct sheets *) sheets;
    _Atomic uint64_t chunks_count;
};

/* ---- sheets -------------------------------------------------------------- */

static struct sheets *new_sheets(uint64_t chunks_count)
{
    uint64_t count = chunks_count / SHEET_CHUNKS + 1;
    struct sheets *sheets;

    if (count > (SIZE_MAX - sizeof(*sheets)) / sizeof(sheets->list[0]))
        return NULL;
    sheets = calloc(1, sizeof(*sheets) + count * sizeof(sheets->list[0]));
    if (sheets)
        sheets->count = count;
    return sheets;
}

static void free_sheets(struct sheets *sheets)
{
    for (uint64_t i = 0; i < sheets->count; i++)
        free(atomic_load(&sheets->list[i]));
    while (sheets) {
        struct sheets *replaced = sheets->replaced;

        free(sheets);
        sheets = replaced;
    }
}

/* Returns a sheet of the list, or NULL: none of its chunks was used. */
static struct sheet *sheet_at(const struct sheets *sheets, uint64_t number)
{
    return atomic_load_explicit(&sheets->list[number], memory_order_acquire);
}

/* Returns the sheet of a chunk that is not past the end, or NULL. */
static struct sheet *find_sheet(const struct use *use, uint64_t chunk)
{
    struct sheets *sheets =
        atomic_load_explicit(&use->sheets, memory_order_acquire);

    return sheet_at(sheets, chunk / SHEET_CHUNKS);
}

/* Returns the sheet of that number, made if need be; NULL: no memory. */
static struct sheet *make_sheet(struct use *use, uint64_t number)
{
    struct sheets *sheets;
    struct sheet *sheet;

    mutex_lock(&use->lock);
    sheets = atomic_load(&use->sheets);
    assert(number < sheets->count);
    sheet = atomic_load(&sheets->list[number]);
    if (!sheet) {
        sheet = calloc(1, sizeof(*sheet));
        atomic_store_explicit(&sheets->list[number], sheet,
                              memory_order_release);
    }
    mutex_unlock(&use->lock);
    return sheet;
}

static int grow_locked(struct use *use, uint64_t chunks_count)
    REQUIRES(use->lock)
{
    struct sheets *old = atomic_load(&use->sheets), *sheets;

    if (chunks_count / SHEET_CHUNKS >= old->count) {
        sheets = new_sheets(chunks_count);
        if (!sheets)
            return -ENOMEM;
        /* Sheets are made under the lock only: none is left behind. */
        for (uint64_t i = 0; i < old->count; i++)
            atomic_init(&sheets->list[i], atomic_load(&old->list[i]));
        sheets->replaced = old;
        atomic_store_explicit(&use->sheets, sheets, memory_order_release);
    }
    atomic_store_explicit(&use->chunks_count, chunks_count,
                          memory_order_release);
    return 0;
}

int use_grow(struct use *use, uint64_t chunks_count)
{
    int error = 0;

    if (!use)
        return 0;
    mutex_lock(&use->lock);
    if (chunks_count > atomic_load(&use->chunks_count))
        error = grow_locked(use, chunks_count);
    mutex_unlock(&use->lock);
    return error;
}

/* ---- read ---------------------------------------------------------------- */

static int decode_header(const unsigned char *from, uint32_t *ret_tick)
{
    if (memcmp(from + AT_MAGIC, MAGIC, sizeof(MAGIC)) != 0 ||
        get_le32(from + AT_HEADER_CHECKSUM) !=
            crc32c(0, from, AT_HEADER_CHECKSUM) ||
        get_le32(from + AT_VERSION) != VERSION ||
        get_le32(from + AT_FLAGS) != 0 ||
        !bytes_are_zero(from + AT_RESERVED, AT_HEADER_CHECKSUM - AT_RESERVED))
        return -EBADMSG;
    *ret_tick = get_le32(from + AT_TICK);
    return 0;
}

/* Take what a sheet says, unless it is damaged. */
static int decode_sheet(struct use *use, const unsigned char *from,
                        uint32_t highest)
{
    uint64_t number = get_le64(from + SHEET_NUMBER);
    struct sheet *sheet;

    if (get_le32(from + SHEET_CHECKSUM) != crc32c(0, from, SHEET_CHECKSUM))
        return -EBADMSG;
    if (number >= atomic_load(&use->sheets)->count)
        return 0;
    sheet = make_sheet(use, number);
    if (!sheet)
        return -ENOMEM;
    for (uint64_t i = 0; i < SHEET_CHUNKS; i++) {
        uint32_t tick = get_le32(from + SHEET_TICKS + i * 4);

        atomic_init(&sheet->ticks[i], tick < highest ? tick : highest);
    }
    return 0;
}

static int read_sheets(struct use *use, int fd, uint32_t highest)
{
    AUTO_FREE unsigned char *sheets = malloc(BUFFER_SHEETS * SHEET_SIZE);
    uint64_t offset = HEADER_SIZE;
    int error = sheets ? 0 : -ENOMEM;
    ssize_t n = SHEET_SIZE;

    while (error >= 0 && n > 0) {
        n = file_read(fd, sheets, BUFFER_SHEETS * SHEET_SIZE, offset);
        for (ssize_t at = 0; at < n && error >= 0; at += SHEET_SIZE)
            error = n - at < SHEET_SIZE
                        ? -EBADMSG
                        : decode_sheet(use, sheets + at, highest);
        offset += n > 0 ? (uint64_t)n : 0;
    }
    return n < 0 ? (int)n : error;
}

static int read_file(struct use *use, uint32_t *ret_tick)
{
    unsigned char header[HEADER_SIZE];
    int fd = file_open(use->cache_dirfd, NAME, O_RDONLY, 0);
    ssize_t n;
    int error;

    if (fd < 0)
        return fd;
    n = file_read(fd, header, sizeof(header), 0);
    error = n < 0 ? (int)n : n < HEADER_SIZE ? -EBADMSG : 0;
    if (error == 0)
        error = decode_header(header, ret_tick);
    if (error == 0)
        error = read_sheets(use, fd, *ret_tick);
    (void)file_close(fd);
    return error;
}

int use_open(int cache_dirfd, const char *device_name, uint64_t chunks_count,
             struct use **ret_use)
{
    struct sheets *sheets = new_sheets(chunks_count);
    struct use *use = calloc(1, sizeof(*use));
    uint32_t highest = 0;
    int error;

    if (!sheets || !use) {
        free(sheets);
        free(use);
        return -ENOMEM;
    }
    mutex_init(&use->lock);
    use->cache_dirfd = cache_dirfd;
    use->device_name = device_name;
    atomic_init(&use->sheets, sheets);
    atomic_init(&use->chunks_count, chunks_count);
    use->opened_ns = clock_monotonic_ns();
    error = read_file(use, &highest);
    if (error < 0 && error != -ENOENT)
        log_info("%s: '%s' cannot be read: %s; some chunks count as not used"
                 " for long",
                 device_name, NAME,
                 error == -EBADMSG ? "damaged" : log_errno(error));
    use->first_tick = highest < UINT32_MAX ? highest + 1 : highest;
    *ret_use = use;
    return 0;
}

/* ---- ticks --------------------------------------------------------------- */

static uint32_t tick_now(const struct use *use)
{
    uint64_t passed = (clock_monotonic_ns() - use->opened_ns) / TICK_NS;

    return passed < UINT32_MAX - use->first_tick
               ? use->first_tick + (uint32_t)passed
               : UINT32_MAX;
}

static bool is_past_end(const struct use *use, uint64_t chunk)
{
    return chunk >=
           atomic_load_explicit(&use->chunks_count, memory_order_acquire);
}

void use_touch(struct use *use, uint64_t chunk)
{
    _Atomic uint32_t *tick;
    struct sheet *sheet;
    uint32_t now;

    if (!use || is_past_end(use, chunk))
        return;
    sheet = find_sheet(use, chunk);
    if (!sheet)
        sheet = make_sheet(use, chunk / SHEET_CHUNKS);
    if (!sheet) /* it counts as not used for long */
        return;
    now = tick_now(use);
    tick = &sheet->ticks[chunk % SHEET_CHUNKS];
    if (atomic_load_explicit(tick, memory_order_relaxed) == now)
        return;
    atomic_store_explicit(tick, now, memory_order_relaxed);
    if (!atomic_load_explicit(&use->has_changed, memory_order_relaxed))
        atomic_store_explicit(&use->has_changed, true, memory_order_relaxed);
}

uint32_t use_tick(const struct use *use, uint64_t chunk)
{
    struct sheet *sheet;

    if (!use || is_past_end(use, chunk))
        return 0;
    sheet = find_sheet(use, chunk);
    return sheet ? atomic_load_explicit(&sheet->ticks[chunk % SHEET_CHUNKS],
                                        memory_order_relaxed)
                 : 0;
}

/* ---- save ---------------------------------------------------------------- */

static int write_header(const struct use *use, int fd)
{
    unsigned char header[HEADER_SIZE] = {0};

    memcpy(header + AT_MAGIC, MAGIC, sizeof(MAGIC));
    put_le32(header + AT_VERSION, VERSION);
    put_le32(header + AT_TICK, tick_now(use));
    put_le32(header + AT_HEADER_CHECKSUM,
             crc32c(0, header, AT_HEADER_CHECKSUM));
    return file_write(fd, header, sizeof(header), 0);
}

static void encode_sheet(const struct sheet *sheet, uint64_t number,
                         unsigned char *to)
{
    put_le64(to + SHEET_NUMBER, number);
    for (uint64_t i = 0; i < SHEET_CHUNKS; i++)
        put_le32(to + SHEET_TICKS + i * 4,
                 atomic_load_explicit(&sheet->ticks[i], memory_order_relaxed));
    put_le32(to + SHEET_CHECKSUM, crc32c(0, to, SHEET_CHECKSUM));
}

static int write_sheets(const struct use *use, int fd)
{
    const struct sheets *sheets =
        atomic_load_explicit(&use->sheets, memory_order_acquire);
    AUTO_FREE unsigned char *buffer = malloc(BUFFER_SHEETS * SHEET_SIZE);
    uint64_t offset = HEADER_SIZE;
    size_t size = 0;
    int error = buffer ? 0 : -ENOMEM;

    for (uint64_t i = 0; error == 0 && i < sheets->count; i++) {
        const struct sheet *sheet = sheet_at(sheets, i);

        if (!sheet)
            continue;
        encode_sheet(sheet, i, buffer + size);
        size += SHEET_SIZE;
        if (size < BUFFER_SHEETS * SHEET_SIZE)
            continue;
        error = file_write(fd, buffer, size, offset);
        offset += size;
        size = 0;
    }
    return error == 0 && size > 0 ? file_write(fd, buffer, size, offset)
                                  : error;
}

/* What is under the name is always whole: the new file is synced before. */
static int write_file(const struct use *use)
{
    int fd = file_open(use->cache_dirfd, NAME_NEW, O_WRONLY | O_CREAT | O_TRUNC,
                       0600);
    int error, close_error;

    if (fd < 0)
        return fd;
    error = write_header(use, fd);
    if (error == 0)
        error = write_sheets(use, fd);
    if (error == 0)
        error = file_sync_data(fd);
    close_error = file_close(fd);
    if (error == 0)
        error = close_error;
    if (error == 0)
        error = file_rename(use->cache_dirfd, NAME_NEW, use->cache_dirfd, NAME);
    if (error < 0)
        (void)file_unlink(use->cache_dirfd, NAME_NEW);
    return error;
}

void use_save(struct use *use)
{
    int error;

    /* Cleared before: what is touched meanwhile is saved the next time. */
    if (!atomic_exchange(&use->has_changed, false))
        return;
    error = write_file(use);
    if (error == 0)
        return;
    atomic_store(&use->has_changed, true);
    log_warning("%s: '%s' cannot be written: %s", use->device_name, NAME,
                log_errno(error));
}

void use_close(struct use *use)
{
    if (!use)
        return;
    use_save(use);
    free_sheets(atomic_load(&use->sheets));
    mutex_done(&use->lock);
    free(use);
}
