/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/scrub_place.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "unit/test.h"

static const struct scrub_place PLACE = {
    .is_local = true,
    .chunk = 0x123456789a,
    .seed = UINT64_MAX,
    .began_ns = 42,
};

static int open_dir(void)
{
    return open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool is_same(const struct scrub_place *a, const struct scrub_place *b)
{
    return a->is_local == b->is_local && a->chunk == b->chunk &&
           a->seed == b->seed && a->began_ns == b->began_ns;
}

TEST("a place is what was saved last, until it is removed")
{
    struct scrub_place other = {.chunk = 7}, found;
    int dirfd = open_dir();

    CHECK(scrub_place_load(dirfd, &found) == -ENOENT);
    CHECK(scrub_place_save(dirfd, &PLACE) == 0);
    CHECK(scrub_place_load(dirfd, &found) == 0 && is_same(&found, &PLACE));
    CHECK(scrub_place_save(dirfd, &other) == 0);
    CHECK(scrub_place_load(dirfd, &found) == 0 && is_same(&found, &other));
    CHECK(scrub_place_remove(dirfd) == 0);
    CHECK(scrub_place_load(dirfd, &found) == -ENOENT);
    CHECK(scrub_place_remove(dirfd) == 0);
    (void)close(dirfd);
}

TEST("a file that is short, or changed in any bit, is of no use")
{
    struct scrub_place found;
    uint8_t data[SCRUB_PLACE_SIZE];
    int dirfd = open_dir(), fd;

    scrub_place_encode(&PLACE, data);
    for (unsigned bit = 0; bit < SCRUB_PLACE_SIZE * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        CHECK(scrub_place_decode(data, &found) == -EBADMSG);
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    CHECK(scrub_place_decode(data, &found) == 0 && is_same(&found, &PLACE));
    CHECK(scrub_place_save(dirfd, &PLACE) == 0);
    fd = openat(dirfd, "scrub", O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, SCRUB_PLACE_SIZE - 1) == 0);
    (void)close(fd);
    CHECK(scrub_place_load(dirfd, &found) == -EBADMSG);
    (void)close(dirfd);
}

TEST("what an interrupted save left is in nobody's way")
{
    struct scrub_place found;
    int dirfd = open_dir();
    int fd = openat(dirfd, "scrub.new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && write(fd, &PLACE, sizeof(PLACE)) > 0);
    (void)close(fd);
    CHECK(scrub_place_load(dirfd, &found) == -ENOENT);
    CHECK(scrub_place_save(dirfd, &PLACE) == 0);
    CHECK(scrub_place_load(dirfd, &found) == 0 && is_same(&found, &PLACE));
    CHECK(faccessat(dirfd, "scrub.new", F_OK, 0) < 0);
    (void)close(dirfd);
}
