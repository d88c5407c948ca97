/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A segment is written under another name until it is full of zeros and
 * durable, so that a short file, or one without a sane header, is damage and
 * not the rest of an unfinished start.
 */
#include "cache/journal_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/number.h"

/*
 * Bytes written at a time.  The page cache keeps a file in pieces as large as
 * it was written, and looks through all of a piece for each later write into
 * it: after 1 MiB at a time, an append takes twice as long.
 */
enum { ZEROS_SIZE = 32 << 10 };

static const char PREFIX[] = "segment.";
static const char NEW[] = ".new";

void journal_segment_name(unsigned slot, char name[JOURNAL_SEGMENT_NAME])
{
    (void)snprintf(name, JOURNAL_SEGMENT_NAME, "%s%04x", PREFIX,
                   slot % JOURNAL_SLOTS_MAX);
}

static void name_of_new(unsigned slot, char name[JOURNAL_SEGMENT_NAME])
{
    (void)snprintf(name, JOURNAL_SEGMENT_NAME, "%s%04x%s", PREFIX,
                   slot % JOURNAL_SLOTS_MAX, NEW);
}

bool journal_segment_parse(const char *name, unsigned *ret_slot,
                           bool *ret_is_new)
{
    char digits[5] = "";
    uint64_t slot;
    const char *rest;

    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 ||
        strlen(name + strlen(PREFIX)) < 4)
        return false;
    memcpy(digits, name + strlen(PREFIX), 4);
    rest = name + strlen(PREFIX) + 4;
    if (number_parse_hex(digits, 0, JOURNAL_SLOTS_MAX - 1, &slot) != 0 ||
        (*rest != '\0' && strcmp(rest, NEW) != 0))
        return false;
    *ret_slot = (unsigned)slot;
    *ret_is_new = *rest != '\0';
    return true;
}

static int write_zeros(int fd, uint32_t size)
{
    AUTO_FREE void *zeros = calloc(1, ZEROS_SIZE);
    uint32_t done = 0;
    int error = zeros ? 0 : -ENOMEM;

    while (error == 0 && done < size) {
        uint32_t part = size - done < ZEROS_SIZE ? size - done : ZEROS_SIZE;

        error = file_write(fd, zeros, part, done);
        done += part;
    }
    return error;
}

int journal_segment_create(int dirfd, unsigned slot, uint32_t size)
{
    char name[JOURNAL_SEGMENT_NAME];
    char new_name[JOURNAL_SEGMENT_NAME];
    int fd;
    int error;

    journal_segment_name(slot, name);
    name_of_new(slot, new_name);
    fd = file_open(dirfd, new_name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return fd;
    error = write_zeros(fd, size);
    if (error == 0)
        error = file_sync(fd);
    if (error == 0)
        error = file_rename(dirfd, new_name, dirfd, name);
    if (error == 0) {
        error = file_sync(dirfd);
        if (error != 0)
            (void)file_unlink(dirfd, name);
    } else {
        (void)file_unlink(dirfd, new_name);
    }
    if (error != 0) {
        (void)file_close(fd);
        return error;
    }
    return fd;
}

int journal_segment_read_header(int fd,
                                struct journal_segment_header *ret_header)
{
    AUTO_FREE unsigned char *page = malloc(JOURNAL_HEADER_SIZE);
    ssize_t size;

    if (!page)
        return -ENOMEM;
    size = file_read(fd, page, JOURNAL_HEADER_SIZE, 0);
    if (size < 0)
        return (int)size;
    if (size < JOURNAL_HEADER_SIZE)
        return -EBADMSG;
    if (bytes_are_zero(page, JOURNAL_HEADER_SIZE))
        return -ENODATA;
    return journal_header_decode(page, ret_header);
}

int journal_segment_write_header(int fd,
                                 const struct journal_segment_header *header)
{
    AUTO_FREE unsigned char *page = malloc(JOURNAL_HEADER_SIZE);
    int error;

    if (!page)
        return -ENOMEM;
    journal_header_encode(header, page);
    error = file_write(fd, page, JOURNAL_HEADER_SIZE, 0);
    return error != 0 ? error : file_sync_data(fd);
}
