/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/journal_segment.h"

#include "base/bytes.h"
#include "support/fault_file.h"
#include "unit/test.h"

static int open_test_dir(void)
{
    return open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

TEST("a slot's name is parsed back, and no other name is")
{
    char name[JOURNAL_SEGMENT_NAME];
    unsigned slot = 0;
    bool is_new = true;

    journal_segment_name(0xab1, name);
    CHECK(strcmp(name, "segment.0ab1") == 0);
    CHECK(journal_segment_parse(name, &slot, &is_new) && slot == 0xab1);
    CHECK(!is_new);
    CHECK(journal_segment_parse("segment.ffff.new", &slot, &is_new));
    CHECK(slot == 0xffff && is_new);
    CHECK(!journal_segment_parse("segment.", &slot, &is_new));
    CHECK(!journal_segment_parse("segment.123", &slot, &is_new));
    CHECK(!journal_segment_parse("segment.12345", &slot, &is_new));
    CHECK(!journal_segment_parse("segment.12g4", &slot, &is_new));
    CHECK(!journal_segment_parse("segment.1234.old", &slot, &is_new));
    CHECK(!journal_segment_parse("lost+found", &slot, &is_new));
}

TEST("a new segment is full of zeros and has never had a header")
{
    int dirfd = open_test_dir();
    int fd = journal_segment_create(dirfd, 3, (3 << 20) + 4096);
    struct journal_segment_header header;
    static unsigned char data[(3 << 20) + 4096];
    struct stat status;

    NEED(fd >= 0);
    CHECK(pread(fd, data, sizeof(data), 0) == sizeof(data));
    CHECK(bytes_are_zero(data, sizeof(data)));
    CHECK(fstat(fd, &status) == 0 && status.st_size == sizeof(data));
    CHECK((size_t)status.st_blocks * 512 >= sizeof(data)); /* written full */
    CHECK(journal_segment_read_header(fd, &header) == -ENODATA);
    CHECK(faccessat(dirfd, "segment.0003", F_OK, 0) == 0);
    CHECK(faccessat(dirfd, "segment.0003.new", F_OK, 0) != 0);
    (void)close(fd);
    (void)close(dirfd);
}

TEST("a segment that cannot be made in full has no name")
{
    static const unsigned kinds[] = {FAULT_CREATE, FAULT_WRITE, FAULT_SYNC,
                                     FAULT_RENAME};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        for (unsigned long nth = 1;; nth++) {
            int dirfd = open_test_dir();
            struct fault_calls calls = {.kinds = kinds[i], .nth = nth};
            unsigned long count;
            int fd;

            fault_fail(&calls, -ENOSPC, false, 512);
            fd = journal_segment_create(dirfd, 0, 2 << 20);
            count = fault_count();
            fault_reset();
            if (fd >= 0)
                (void)close(fd);
            CHECK(count < nth ? fd >= 0 : fd == -ENOSPC);
            CHECK((faccessat(dirfd, "segment.0000", F_OK, 0) == 0) ==
                  (count < nth));
            CHECK(faccessat(dirfd, "segment.0000.new", F_OK, 0) != 0);
            (void)unlinkat(dirfd, "segment.0000", 0);
            (void)close(dirfd);
            if (count < nth)
                break;
        }
    }
}

TEST("a header is read back; damage and an empty file are told")
{
    int dirfd = open_test_dir();
    int fd = journal_segment_create(dirfd, 0, 65536);
    struct journal_segment_header header = {
        .number = 5,
        .begin = 4,
        .previous = 4,
        .segment_size = 65536,
    };
    struct journal_segment_header back;

    NEED(fd >= 0);
    CHECK(journal_segment_write_header(fd, &header) == 0);
    CHECK(journal_segment_read_header(fd, &back) == 0);
    CHECK(back.number == 5 && back.segment_size == 65536);
    CHECK(pwrite(fd, "x", 1, 50) == 1);
    CHECK(journal_segment_read_header(fd, &back) == -EBADMSG);
    CHECK(ftruncate(fd, 4000) == 0);
    CHECK(journal_segment_read_header(fd, &back) == -EBADMSG);
    (void)close(fd);
    (void)close(dirfd);
}

TEST("a header counts as written only once it is synced")
{
    int dirfd = open_test_dir();
    int fd = journal_segment_create(dirfd, 0, 65536);
    struct journal_segment_header header = {.number = 1, .segment_size = 65536};
    struct fault_calls calls = {.kinds = FAULT_SYNC_DATA, .nth = 1};

    NEED(fd >= 0);
    fault_fail(&calls, -EIO, false, 0);
    CHECK(journal_segment_write_header(fd, &header) == -EIO);
    fault_reset();
    (void)close(fd);
    (void)close(dirfd);
}
