/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/state_snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/file.h"

/* ---- write --------------------------------------------------------------- */

struct writer {
    int fd;
    uint32_t seed;
    uint64_t offset;
    struct state_end end;
    size_t used; /* of the sheet's room */
    unsigned char *sheet;
};

static int write_at_end(struct writer *writer, const void *data, size_t size)
{
    int error = file_write(writer->fd, data, size, writer->offset);

    writer->offset += size;
    return error;
}

static int write_sheet(struct writer *writer)
{
    state_sheet_seal(writer->sheet, writer->end.sheets, writer->used,
                     writer->seed);
    writer->end.sheets++;
    writer->used = 0;
    return write_at_end(writer, writer->sheet, STATE_SHEET);
}

static int write_entry(struct writer *writer, const struct state_change *change)
{
    int error = 0;

    if (writer->used + state_change_size(change) > STATE_SHEET_ROOM)
        error = write_sheet(writer);
    writer->used += state_change_encode(
        change, writer->sheet + STATE_SHEET_HEAD + writer->used);
    return error;
}

/* Write all entries of a catalog; *ret_count is how many. */
static int write_entries(struct writer *writer, struct catalog *catalog,
                         enum state_change_kind kind, uint64_t *ret_count)
{
    struct state_change change = {.kind = kind};
    uint64_t from = 0;
    int error = 0;

    *ret_count = 0;
    while (error == 0 &&
           catalog_next(catalog, from, UINT64_MAX, &change.chunk)) {
        catalog_get(catalog, change.chunk, &change.entry);
        error = write_entry(writer, &change);
        from = change.chunk + 1;
        ++*ret_count;
    }
    return error;
}

static int write_all(struct writer *writer, const struct state_header *header,
                     struct state_contents *contents)
{
    int error;

    state_header_encode(header, writer->sheet);
    error = write_at_end(writer, writer->sheet, STATE_PAGE);
    if (error == 0)
        error = write_entries(writer, contents->catalog, STATE_CHUNK,
                              &writer->end.entries);
    if (error == 0)
        error =
            write_entries(writer, contents->checkpoint, STATE_CHECKPOINT_CHUNK,
                          &writer->end.checkpoint_entries);
    if (error == 0 && writer->used > 0)
        error = write_sheet(writer);
    if (error < 0)
        return error;
    writer->end.facts = contents->facts;
    state_end_encode(&writer->end, writer->seed, writer->sheet);
    error = write_at_end(writer, writer->sheet, STATE_PAGE);
    return error < 0 ? error : file_sync_data(writer->fd);
}

int state_snapshot_write(int dirfd, const char *name,
                         const struct state_header *header,
                         struct state_contents *contents, uint64_t *ret_size)
{
    AUTO_FREE unsigned char *sheet = calloc(1, STATE_SHEET);
    struct writer writer = {.seed = state_seed(header), .sheet = sheet};
    int error, close_error;

    if (!sheet)
        return -ENOMEM;
    writer.fd = file_open(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (writer.fd < 0)
        return writer.fd;
    error = write_all(&writer, header, contents);
    close_error = file_close(writer.fd);
    if (error == 0)
        error = close_error;
    if (error == 0)
        *ret_size = writer.offset;
    return error;
}

/* ---- read ---------------------------------------------------------------- */

/* Read exactly size bytes.  -EBADMSG: the file ends before. */
static int read_exactly(int fd, void *data, size_t size, uint64_t offset)
{
    ssize_t n = file_read(fd, data, size, offset);

    if (n < 0)
        return (int)n;
    return (size_t)n == size ? 0 : -EBADMSG;
}

/*
 * Set the entries of a sheet, in ascending order from *next: those of the
 * catalog, and when these are all, those of the checkpoint.
 */
static int set_entries(const unsigned char *changes, size_t size,
                       uint64_t last_generation, const struct state_end *end,
                       struct state_contents *contents, uint64_t *next)
{
    while (size > 0) {
        enum state_change_kind kind = STATE_CHUNK;
        struct catalog *catalog = contents->catalog;
        struct state_change change;
        size_t used;
        int error = state_change_decode(changes, size, &change, &used);

        if (error < 0)
            return error;
        if (catalog_count(catalog) == end->entries) {
            kind = STATE_CHECKPOINT_CHUNK;
            catalog = contents->checkpoint;
            if (catalog_count(catalog) == 0)
                *next = 0;
        }
        if (change.kind != kind || change.entry.generation == 0 ||
            change.entry.generation > last_generation || change.chunk < *next ||
            change.chunk == UINT64_MAX)
            return -EBADMSG;
        error = catalog_set(catalog, change.chunk, &change.entry);
        if (error < 0)
            return error;
        *next = change.chunk + 1;
        changes += used;
        size -= used;
    }
    return 0;
}

static int read_sheets(int fd, const struct state_end *end,
                       const struct state_header *header, unsigned char *sheet,
                       struct state_contents *contents)
{
    uint32_t seed = state_seed(header);
    uint64_t next = 0;

    for (uint64_t i = 0; i < end->sheets; i++) {
        size_t used = 0;
        int error =
            read_exactly(fd, sheet, STATE_SHEET, STATE_PAGE + i * STATE_SHEET);

        if (error == 0)
            error = state_sheet_check(sheet, i, seed, &used);
        if (error == 0)
            error = set_entries(sheet + STATE_SHEET_HEAD, used,
                                header->last_generation, end, contents, &next);
        if (error < 0)
            return error;
    }
    return catalog_count(contents->catalog) == end->entries &&
                   catalog_count(contents->checkpoint) ==
                       end->checkpoint_entries
               ? 0
               : -EBADMSG;
}

static int read_all(int fd, unsigned char *sheet,
                    struct state_contents *contents,
                    struct state_header *ret_header)
{
    struct state_end end;
    uint64_t size;
    int error = file_size(fd, &size);

    if (error == 0)
        error = read_exactly(fd, sheet, STATE_PAGE, 0);
    if (error == 0)
        error = state_header_decode(sheet, STATE_FILE_SNAPSHOT, ret_header);
    if (error < 0)
        return error;
    if (size < 2 * STATE_PAGE || (size - 2 * STATE_PAGE) % STATE_SHEET != 0)
        return -EBADMSG;
    error = read_exactly(fd, sheet, STATE_PAGE, size - STATE_PAGE);
    if (error == 0)
        error = state_end_decode(sheet, state_seed(ret_header), &end);
    if (error == 0 &&
        (end.sheets != (size - 2 * STATE_PAGE) / STATE_SHEET ||
         (end.facts.phase == CHECKPOINT_NONE && end.checkpoint_entries > 0)))
        error = -EBADMSG;
    if (error == 0)
        error = read_sheets(fd, &end, ret_header, sheet, contents);
    if (error < 0)
        return error;
    contents->facts = end.facts;
    contents->numbers.commit = ret_header->commit;
    contents->numbers.journal_begin = ret_header->journal_begin;
    contents->numbers.last_generation = ret_header->last_generation;
    return 0;
}

int state_snapshot_read(int dirfd, const char *name, bool sync,
                        struct state_contents *contents,
                        struct state_header *ret_header)
{
    AUTO_FREE unsigned char *sheet = malloc(STATE_SHEET);
    int error = 0, fd;

    if (!sheet)
        return -ENOMEM;
    fd = file_open(dirfd, name, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    if (sync)
        error = file_sync_data(fd);
    if (error == 0)
        error = read_all(fd, sheet, contents, ret_header);
    (void)file_close(fd);
    return error;
}
