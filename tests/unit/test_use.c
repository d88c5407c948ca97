/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/use.h"

#include "base/clock.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum { CHUNKS = 100000 };

static const uint64_t SECOND = 1000000000;
static uint64_t now;

static int open_test_dir(void)
{
    fault_reset();
    now = 1000 * SECOND;
    clock_set_for_tests(now);
    return open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void pass_time(uint64_t seconds)
{
    now += seconds * SECOND;
    clock_set_for_tests(now);
}

static struct use *open_use(int dirfd, uint64_t chunks)
{
    struct use *use = NULL;

    return CHECK(use_open(dirfd, "disk", chunks, &use) == 0) ? use : NULL;
}

TEST("a tick is a tenth of a second")
{
    int dirfd = open_test_dir();
    struct use *use = open_use(dirfd, 3);

    NEED(use);
    use_touch(use, 0);
    clock_set_for_tests(now + SECOND / 10 - 1);
    use_touch(use, 1);
    CHECK(use_tick(use, 1) == use_tick(use, 0));
    clock_set_for_tests(now + SECOND / 10);
    use_touch(use, 2);
    CHECK(use_tick(use, 2) == use_tick(use, 0) + 1);
    use_close(use);
    (void)close(dirfd);
    clock_set_for_tests(0);
}

TEST("a chunk that is used has a later tick than those used before")
{
    int dirfd = open_test_dir();
    struct use *use = open_use(dirfd, CHUNKS);
    uint32_t first;

    NEED(use);
    CHECK(use_tick(use, 5) == 0);
    use_touch(use, 5);
    first = use_tick(use, 5);
    CHECK(first > 0);
    use_touch(use, 5);
    CHECK(use_tick(use, 5) == first);
    pass_time(1);
    use_touch(use, 6);
    CHECK(use_tick(use, 5) == first && use_tick(use, 6) > first);
    use_touch(use, 5);
    CHECK(use_tick(use, 5) == use_tick(use, 6));
    CHECK(use_tick(use, 4) == 0 && use_tick(use, CHUNKS - 1) == 0);
    use_close(use);
    (void)close(dirfd);
}

TEST("no use, and a chunk past the end, are nothing")
{
    int dirfd = open_test_dir();
    struct use *use = open_use(dirfd, 10);

    NEED(use);
    use_touch(NULL, 1);
    CHECK(use_tick(NULL, 1) == 0);
    use_touch(use, 10);
    use_touch(use, UINT64_MAX);
    CHECK(use_tick(use, 10) == 0 && use_tick(use, UINT64_MAX) == 0);
    CHECK(use_tick(use, 9) == 0);
    use_close(use);
    use_close(NULL);
    (void)close(dirfd);
}

TEST("a device that grows keeps what is known, and has room for what is new")
{
    int dirfd = open_test_dir();
    struct use *use = open_use(dirfd, 10);
    uint32_t first;

    NEED(use);
    use_touch(use, 5);
    first = use_tick(use, 5);
    pass_time(1);
    /* By so little that the list of sheets is long enough, and by more. */
    for (uint64_t chunks = 20; chunks <= CHUNKS; chunks *= 5) {
        use_touch(use, chunks - 1);
        CHECK(use_tick(use, chunks - 1) == 0);
        CHECK(use_grow(use, chunks) == 0);
        CHECK(use_tick(use, chunks - 1) == 0);
        use_touch(use, chunks - 1);
        CHECK(use_tick(use, chunks - 1) > first);
        CHECK(use_tick(use, 5) == first);
    }
    CHECK(use_grow(use, 1) == 0); /* never fewer */
    CHECK(use_tick(use, 62499) > first);
    CHECK(use_grow(NULL, 1) == 0);
    use_close(use);
    use = open_use(dirfd, CHUNKS);
    NEED(use);
    CHECK(use_tick(use, 5) == first && use_tick(use, 62499) > first);
    use_close(use);
    (void)close(dirfd);
}

TEST("what was saved is there again, older than all that comes after it")
{
    int dirfd = open_test_dir();
    struct use *use = open_use(dirfd, CHUNKS);
    uint32_t last = 0, next;

    NEED(use);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk += 777) {
        pass_time(1);
        use_touch(use, chunk);
    }
    last = use_tick(use, (CHUNKS - 1) / 777 * 777);
    use_close(use);
    /* The clock went back, and the device grew. */
    now = SECOND;
    clock_set_for_tests(now);
    use = open_use(dirfd, CHUNKS * 2);
    NEED(use);
    for (uint64_t chunk = 0, before = 0; chunk < CHUNKS; chunk++) {
        CHECK((use_tick(use, chunk) > 0) == (chunk % 777 == 0));
        if (chunk % 777 == 0) {
            CHECK(use_tick(use, chunk) > before);
            before = use_tick(use, chunk);
        }
    }
    use_touch(use, CHUNKS + 5);
    next = use_tick(use, CHUNKS + 5);
    CHECK(next > last);
    use_close(use);
    /* It shrank: what is too much is passed over. */
    use = open_use(dirfd, 1000);
    NEED(use);
    CHECK(use_tick(use, 777) > 0 && use_tick(use, 1554) == 0);
    use_close(use);
    (void)close(dirfd);
}

TEST("nothing is written when nothing has changed")
{
    int dirfd = open_test_dir();
    struct fault_calls writes = {.kinds = FAULT_ANY_CHANGE, .nth = 1000};
    struct use *use = open_use(dirfd, CHUNKS);

    NEED(use);
    fault_fail(&writes, -EIO, false, 0);
    use_save(use);
    CHECK(fault_count() == 0);
    use_touch(use, 3);
    use_save(use);
    CHECK(fault_count() > 0);
    fault_fail(&writes, -EIO, false, 0);
    use_touch(use, 3); /* in the same tick */
    use_save(use);
    use_close(use);
    CHECK(fault_count() == 0);
    fault_reset();
    (void)close(dirfd);
}

static void flip(int dirfd, off_t offset)
{
    int fd = openat(dirfd, "use", O_RDWR | O_CLOEXEC);
    unsigned char byte = 0;

    CHECK(fd >= 0 && pread(fd, &byte, 1, offset) == 1);
    byte ^= 0x10;
    CHECK(pwrite(fd, &byte, 1, offset) == 1);
    (void)close(fd);
}

TEST("what is damaged counts as not used, what is not stays")
{
    int dirfd = open_test_dir();
    struct use *use = open_use(dirfd, CHUNKS);
    int fd;

    NEED(use);
    use_touch(use, 10);
    use_touch(use, 5000);
    use_close(use);
    flip(dirfd, 64 + 4096 + 100);
    use = open_use(dirfd, CHUNKS);
    NEED(use);
    CHECK(use_tick(use, 10) > 0 && use_tick(use, 5000) == 0);
    use_touch(use, 5000);
    use_close(use);
    for (off_t offset = 0; offset < 64; offset++) {
        flip(dirfd, offset);
        use = open_use(dirfd, CHUNKS);
        NEED(use);
        CHECK(use_tick(use, 10) == 0 && use_tick(use, 5000) == 0);
        use_close(use);
        flip(dirfd, offset);
    }
    fd = openat(dirfd, "use", O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, 64 + 4096 + 4095) == 0);
    (void)close(fd);
    use = open_use(dirfd, CHUNKS);
    NEED(use);
    CHECK(use_tick(use, 10) > 0 && use_tick(use, 5000) == 0);
    use_close(use);
    (void)close(dirfd);
}

TEST("whatever call fails, the file before stays, and the next save succeeds")
{
    for (unsigned long nth = 1;; nth++) {
        int dirfd = open_test_dir();
        struct use *use = open_use(dirfd, CHUNKS);
        unsigned long count;

        NEED(use);
        use_touch(use, 1);
        use_save(use);
        pass_time(1);
        use_touch(use, 2);
        fault_fail(&(struct fault_calls){.kinds = FAULT_ANY_CHANGE, .nth = nth},
                   -ENOSPC, false, 100);
        use_save(use);
        count = fault_count();
        fault_reset();
        if (count >= nth) {
            struct use *other = open_use(dirfd, CHUNKS);

            NEED(other);
            CHECK(use_tick(other, 1) > 0);
            use_close(other);
            use_save(use); /* it has not forgotten that it must */
        }
        use_close(use);
        use = open_use(dirfd, CHUNKS);
        NEED(use);
        CHECK(use_tick(use, 1) > 0 && use_tick(use, 2) > use_tick(use, 1));
        use_close(use);
        (void)close(dirfd);
        if (count < nth)
            break;
        CHECK(nth < 100);
    }
    clock_set_for_tests(0);
}

enum { SAVES = 4, FEW = 3000 };

/* Whether the chunks have the ticks that some save, or none, had seen. */
static bool is_one_of(const struct use *use, uint32_t saved[SAVES][FEW])
{
    for (size_t save = 0; save < SAVES; save++) {
        size_t equal = 0;

        while (equal < FEW && use_tick(use, equal) == saved[save][equal])
            equal++;
        if (equal == FEW)
            return true;
    }
    return false;
}

TEST("after a power cut there is one of the saved states, whole, or none")
{
    static uint32_t saved[SAVES][FEW];
    char root[PATH_MAX], after[PATH_MAX];
    int dirfd, states = 0;
    struct recording *recording;
    struct crash_disk *disk;
    struct use *use;

    (void)close(open_test_dir());
    (void)snprintf(root, sizeof(root), "%s/root", test_dir());
    (void)snprintf(after, sizeof(after), "%s/after", test_dir());
    NEED(mkdir(root, 0700) == 0);
    fault_skip_syncs(true);
    fault_record_begin(root);
    dirfd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    use = open_use(dirfd, FEW);
    NEED(use);
    for (size_t save = 1; save < SAVES; save++) {
        pass_time(1);
        for (uint64_t chunk = 0; chunk < FEW; chunk += save)
            use_touch(use, chunk);
        for (uint64_t chunk = 0; chunk < FEW; chunk++)
            saved[save][chunk] = use_tick(use, chunk);
        use_save(use);
    }
    use_close(use);
    (void)close(dirfd);
    recording = fault_record_end();
    disk = crash_disk_new(recording);
    for (size_t cut = 0; cut <= recording->entries_count; cut++) {
        crash_disk_advance(disk, cut);
        for (uint64_t seed = 0; seed < 20; seed++, states++) {
            test_remove_tree(AT_FDCWD, after);
            NEED(mkdir(after, 0700) == 0);
            crash_disk_power_cut(disk, crash_random(cut, seed), after, NULL);
            dirfd = open(after, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            use = open_use(dirfd, FEW);
            NEED(use);
            CHECK(is_one_of(use, saved));
            use_close(use);
            (void)close(dirfd);
        }
    }
    CHECK(states > 100);
    crash_disk_free(disk);
    recording_free(recording);
    clock_set_for_tests(0);
}
