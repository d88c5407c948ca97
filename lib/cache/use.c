/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/use.h"

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

struct use {
    int cache_dirfd;
    const char *device_name;
    uint64_t chunks_count;
    uint64_t sheets_count;
    uint32_t first_tick; /* above all that were read */
    uint64_t opened_ns;
    atomic_bool has_changed;  /* since it was saved */
    _Atomic uint8_t *is_used; /* of a sheet: it has ticks */
    _Atomic uint32_t ticks[];
};

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
    uint64_t sheet = get_le64(from + SHEET_NUMBER);

    if (get_le32(from + SHEET_CHECKSUM) != crc32c(0, from, SHEET_CHECKSUM))
        return -EBADMSG;
    if (sheet >= use->sheets_count)
        return 0;
    use->is_used[sheet] = true;
    for (uint64_t i = 0; i < SHEET_CHUNKS; i++) {
        uint32_t tick = get_le32(from + SHEET_TICKS + i * 4);

        use->ticks[sheet * SHEET_CHUNKS + i] = tick < highest ? tick : highest;
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
    uint64_t sheets = chunks_count / SHEET_CHUNKS + 1;
    struct use *use;
    uint32_t highest = 0;
    int error;

    if (sheets > SIZE_MAX / SHEET_SIZE)
        return -ENOMEM;
    use =
        calloc(1, sizeof(*use) + sheets * SHEET_CHUNKS * sizeof(use->ticks[0]));
    if (!use)
        return -ENOMEM;
    use->is_used = calloc(sheets, sizeof(use->is_used[0]));
    if (!use->is_used) {
        free(use);
        return -ENOMEM;
    }
    use->cache_dirfd = cache_dirfd;
    use->device_name = device_name;
    use->chunks_count = chunks_count;
    use->sheets_count = sheets;
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

void use_touch(struct use *use, uint64_t chunk)
{
    _Atomic uint8_t *is_used;
    uint32_t now;

    if (!use || chunk >= use->chunks_count)
        return;
    now = tick_now(use);
    if (atomic_load_explicit(&use->ticks[chunk], memory_order_relaxed) == now)
        return;
    atomic_store_explicit(&use->ticks[chunk], now, memory_order_relaxed);
    is_used = &use->is_used[chunk / SHEET_CHUNKS];
    if (!atomic_load_explicit(is_used, memory_order_relaxed))
        atomic_store_explicit(is_used, true, memory_order_relaxed);
    if (!atomic_load_explicit(&use->has_changed, memory_order_relaxed))
        atomic_store_explicit(&use->has_changed, true, memory_order_relaxed);
}

uint32_t use_tick(const struct use *use, uint64_t chunk)
{
    if (!use || chunk >= use->chunks_count)
        return 0;
    return atomic_load_explicit(&use->ticks[chunk], memory_order_relaxed);
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

static void encode_sheet(const struct use *use, uint64_t sheet,
                         unsigned char *to)
{
    put_le64(to + SHEET_NUMBER, sheet);
    for (uint64_t i = 0; i < SHEET_CHUNKS; i++)
        put_le32(to + SHEET_TICKS + i * 4,
                 atomic_load_explicit(&use->ticks[sheet * SHEET_CHUNKS + i],
                                      memory_order_relaxed));
    put_le32(to + SHEET_CHECKSUM, crc32c(0, to, SHEET_CHECKSUM));
}

static int write_sheets(const struct use *use, int fd)
{
    AUTO_FREE unsigned char *sheets = malloc(BUFFER_SHEETS * SHEET_SIZE);
    uint64_t offset = HEADER_SIZE;
    size_t size = 0;
    int error = sheets ? 0 : -ENOMEM;

    for (uint64_t i = 0; error == 0 && i < use->sheets_count; i++) {
        if (!atomic_load_explicit(&use->is_used[i], memory_order_relaxed))
            continue;
        encode_sheet(use, i, sheets + size);
        size += SHEET_SIZE;
        if (size < BUFFER_SHEETS * SHEET_SIZE)
            continue;
        error = file_write(fd, sheets, size, offset);
        offset += size;
        size = 0;
    }
    return error == 0 && size > 0 ? file_write(fd, sheets, size, offset)
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
    free((void *)(uintptr_t)use->is_used);
    free(use);
}
