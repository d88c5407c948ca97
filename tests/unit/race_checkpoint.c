/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * Writers, readers and an owner who makes checkpoints, uploads, evicts and
 * publishes, with so small a journal that destage is at work all the time.
 *
 * Each writer counts: it writes its number to one page, waits for the answer,
 * and writes it to another one, of another chunk.  So in whatever state of the
 * device the second is the first, or one less.
 */
#include <errno.h>
#include <pthread.h>

#include "base/log.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/checkpoint_image.h"
#include "support/crash_states.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum {
    PAGE = CACHE_PAGE,
    CHUNK = 256 << 10,
    CHUNKS = 6,
    SIZE = CHUNKS * CHUNK,
    WRITERS = 2,
    IMAGES = 25,
};

static struct device_fixture disk;
static atomic_bool is_over;
static _Atomic uint64_t written[WRITERS]; /* to both pages, and answered */

/* The pages of a writer; they share blocks with those of others. */
static uint64_t first_of(unsigned writer)
{
    return (uint64_t)writer * PAGE;
}

static uint64_t second_of(unsigned writer)
{
    return (uint64_t)(CHUNKS - 1) * CHUNK + (uint64_t)(writer + 1) * 5 * PAGE;
}

static void write_number(uint64_t offset, uint64_t number)
{
    uint64_t page[PAGE / sizeof(uint64_t)];

    for (size_t i = 0; i < PAGE / sizeof(uint64_t); i++)
        page[i] = number;
    CHECK(fixture_write(&disk, offset, page, PAGE, 0) == 0);
}

/* Returns the number that a page is full of. */
static uint64_t number_in(const unsigned char *content)
{
    uint64_t page[PAGE / sizeof(uint64_t)];

    memcpy(page, content, PAGE);
    for (size_t i = 1; i < PAGE / sizeof(uint64_t); i++)
        CHECK(page[i] == page[0]);
    return page[0];
}

static void *write_all(void *argument)
{
    unsigned writer = (unsigned)(uintptr_t)argument;

    for (uint64_t number = 1; !atomic_load(&is_over); number++) {
        uint64_t noise = crash_random(writer, number);
        uint64_t offset = (1 + noise % (CHUNKS - 2)) * CHUNK;

        write_number(first_of(writer), number);
        write_number(second_of(writer), number);
        atomic_store(&written[writer], number);
        /* And something that fills the journal, and empties it. */
        if (noise / 64 % 4 == 0)
            CHECK(fixture_trim(&disk, offset, CHUNK) == 0);
        else
            write_number(offset + noise / 256 % (CHUNK / PAGE) * PAGE, number);
    }
    return NULL;
}

static void *read_all(void *argument)
{
    uint64_t seen[WRITERS] = {0};

    (void)argument;
    while (!atomic_load(&is_over)) {
        for (unsigned writer = 0; writer < WRITERS; writer++) {
            unsigned char page[PAGE];
            uint64_t least = atomic_load(&written[writer]);
            uint64_t number;

            CHECK(fixture_read(&disk, second_of(writer), page, PAGE) == 0);
            number = number_in(page);
            CHECK(number >= least && number >= seen[writer]);
            seen[writer] = number;
        }
    }
    return NULL;
}

/* One image, and evictions meanwhile. */
static void make_image(struct checkpoint_image *image, uint64_t round,
                       unsigned char *content)
{
    uint64_t chunks[CHUNKS] = {0, 1, 2, 3, 4, 5};
    uint64_t least[WRITERS];
    uint64_t freed;

    for (unsigned writer = 0; writer < WRITERS; writer++)
        least[writer] = atomic_load(&written[writer]);
    CHECK(device_checkpoint(disk.device, round) == 0);
    CHECK(checkpoint_image_upload(image, round, false) == 0);
    CHECK(checkpoint_image_upload_newest(image, round) == 0);
    CHECK(device_evict(disk.device, chunks, CHUNKS,
                       round % 2 == 0 ? EVICT_BLOCKS : EVICT_FILE,
                       &freed) == 0);
    if (round % 5 == 4) {
        CHECK(device_drop_checkpoint(disk.device) == 0);
        return;
    }
    CHECK(checkpoint_image_upload(image, round, true) == 0);
    CHECK(checkpoint_image_publish(image) == 0);
    CHECK(checkpoint_image_read(image, content) == 0);
    for (unsigned writer = 0; writer < WRITERS; writer++) {
        uint64_t first = number_in(content + first_of(writer));
        uint64_t second = number_in(content + second_of(writer));

        CHECK(first == second || first == second + 1);
        CHECK(second >= least[writer]);
        CHECK(second <= atomic_load(&written[writer]) + 1);
    }
}

TEST("images that are made while others write are each of one moment")
{
    struct checkpoint_image image;
    pthread_t writers[WRITERS];
    pthread_t reader;
    unsigned char *content = malloc(SIZE);

    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    disk.options.size = SIZE;
    disk.options.journal_size = 512 << 10;
    disk.options.store = memory_store_new();
    NEED(content != NULL && fixture_open(&disk) == 0);
    checkpoint_image_begin(&image, disk.device, NULL);
    for (uintptr_t i = 0; i < WRITERS; i++)
        CHECK(pthread_create(&writers[i], NULL, write_all, (void *)i) == 0);
    CHECK(pthread_create(&reader, NULL, read_all, NULL) == 0);
    for (uint64_t round = 0; round < IMAGES; round++)
        make_image(&image, round, content);
    atomic_store(&is_over, true);
    for (size_t i = 0; i < WRITERS; i++)
        CHECK(pthread_join(writers[i], NULL) == 0);
    CHECK(pthread_join(reader, NULL) == 0);
    checkpoint_image_end(&image);
    fixture_end(&disk);
    fault_reset();
    free(content);
}
