/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * Writers, flushers, readers, and one who retires, all at once; then what is
 * in the journal is compared with what they were told.
 */
#include <pthread.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/journal.h"
#include "support/fault_file.h"
#include "support/journal_story.h"
#include "unit/test.h"

enum {
    WRITERS = 4,
    READERS = 2,
    ROUNDS = 400,
    BATCH = 5,
    PAGES = 64, /* of each writer */
    SEGMENT = 256 << 10,
};

/* What a page's newest record is, as an index would know it. */
struct known {
    uint64_t position;
    uint64_t value;
    uint32_t checksum;
};

struct race {
    struct journal *journal;
    struct mutex lock;
    struct condition space;
    unsigned spaces GUARDED_BY(lock);
    uint64_t last_position GUARDED_BY(lock); /* places come in order */
    struct known known[WRITERS * PAGES] GUARDED_BY(lock);
    struct known replayed[WRITERS * PAGES];
    atomic_bool is_over;
    _Atomic uint64_t reads, stale;
};

static struct race race;

static void placed(void *context, struct journal_item *item)
{
    struct race *to = context;

    mutex_lock(&to->lock);
    CHECK(item->position > to->last_position);
    to->last_position = item->position;
    to->known[item->page] = (struct known){
        .position = item->position,
        .value = *(const uint64_t *)item->owner,
        .checksum = item->checksums[0],
    };
    mutex_unlock(&to->lock);
}

static void has_space(void *context)
{
    struct race *to = context;

    mutex_lock(&to->lock);
    to->spaces++;
    condition_broadcast(&to->space);
    mutex_unlock(&to->lock);
}

static int replay(void *context, const struct journal_record *record,
                  uint64_t position, const uint32_t *checksums)
{
    struct race *to = context;

    to->replayed[record->page] = (struct known){
        .position = position,
        .checksum = checksums[0],
    };
    return 0;
}

static void wake(struct journal_waiter *waiter, int error)
{
    CHECK(error == 0);
    free(waiter);
}

/* Append all, some perhaps again. */
static void append_all(struct journal_item *items[], size_t count)
{
    while (count > 0) {
        unsigned spaces;
        uint64_t end;

        mutex_lock(&race.lock);
        spaces = race.spaces;
        mutex_unlock(&race.lock);
        journal_append(race.journal, items, count, &end);
        while (count > 0 && items[0]->error == 0) {
            items++;
            count--;
        }
        if (count == 0)
            return;
        if (!CHECK(items[0]->error == -EAGAIN))
            return;
        mutex_lock(&race.lock);
        while (race.spaces == spaces)
            condition_wait(&race.space, &race.lock);
        mutex_unlock(&race.lock);
    }
}

static void *run_writer(void *argument)
{
    size_t writer = (size_t)(uintptr_t)argument;
    unsigned char(*content)[4096] = calloc(BATCH, 4096);

    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct journal_item list[BATCH];
        struct journal_item *items[BATCH];
        uint64_t values[BATCH];

        for (size_t i = 0; i < BATCH; i++) {
            values[i] = (round * BATCH + i) * WRITERS + writer;
            story_fill_page(values[i], 0, content[i]);
            list[i] = (struct journal_item){
                .kind = JOURNAL_PAGES,
                .page = writer * PAGES + (round * BATCH + i) % PAGES,
                .count = 1,
                .pieces = {{content[i], 4096}},
                .pieces_count = 1,
                .owner = &values[i],
            };
            items[i] = &list[i];
        }
        append_all(items, BATCH);
        if (round % 7 == writer)
            CHECK(journal_sync(race.journal) == 0);
        if (round % 5 == 0) {
            struct journal_waiter *waiter = calloc(1, sizeof(*waiter));

            waiter->position = journal_head(race.journal);
            waiter->done = wake;
            journal_when_durable(race.journal, waiter);
        }
    }
    free(content);
    return NULL;
}

static void *run_reader(void *argument)
{
    uint64_t page = (uint64_t)(uintptr_t)argument;

    while (!atomic_load(&race.is_over)) {
        unsigned char data[4096];
        struct known known;
        int error;

        page = (page * 5 + 1) % (WRITERS * PAGES);
        mutex_lock(&race.lock);
        known = race.known[page];
        mutex_unlock(&race.lock);
        if (known.position == 0)
            continue;
        error = journal_read(race.journal, known.position, known.checksum, 0,
                             data, 4096, page % 2 == 0);
        CHECK(error == 0 || error == -ESTALE || error == -EAGAIN);
        /* Never the bytes of anything else. */
        if (error == 0)
            CHECK(get_le64(data) == known.value);
        atomic_fetch_add(error == -ESTALE ? &race.stale : &race.reads, 1);
    }
    return NULL;
}

/* As destage would: retire what is in older segments, while they go on. */
static void *run_retirer(void *argument)
{
    (void)argument;
    while (!atomic_load(&race.is_over)) {
        struct journal_fill fill;

        journal_get_fill(race.journal, &fill);
        if (fill.newest - fill.begin >= 3) {
            CHECK(journal_sync(race.journal) == 0);
            journal_retire(race.journal, fill.newest - 1);
        } else if (fill.newest == fill.begin) {
            int error = journal_rotate(race.journal);

            CHECK(error == 0 || error == -EAGAIN);
        }
    }
    return NULL;
}

TEST("writers, flushes, readers and recycling get along")
{
    struct journal_options options = {
        .device_name = "race",
        .dirfd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .segment_size = SEGMENT,
        .segments_max = 6,
        .create = true,
        .events = {.placed = placed,
                   .space = has_space,
                   .replay = replay,
                   .context = &race},
    };
    pthread_t writers[WRITERS];
    pthread_t readers[READERS];
    pthread_t retirer;
    struct journal_fill fill;

    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    mutex_init(&race.lock);
    condition_init(&race.space);
    NEED(journal_open(&options, &race.journal) == 0);
    for (uintptr_t i = 0; i < WRITERS; i++)
        CHECK(pthread_create(&writers[i], NULL, run_writer, (void *)i) == 0);
    for (uintptr_t i = 0; i < READERS; i++)
        CHECK(pthread_create(&readers[i], NULL, run_reader, (void *)i) == 0);
    CHECK(pthread_create(&retirer, NULL, run_retirer, NULL) == 0);
    for (size_t i = 0; i < WRITERS; i++)
        CHECK(pthread_join(writers[i], NULL) == 0);
    atomic_store(&race.is_over, true);
    for (size_t i = 0; i < READERS; i++)
        CHECK(pthread_join(readers[i], NULL) == 0);
    CHECK(pthread_join(retirer, NULL) == 0);
    CHECK(atomic_load(&race.reads) > 0);
    journal_get_fill(race.journal, &fill);
    options.begin = fill.begin;
    options.create = false;
    CHECK(journal_close(race.journal) == 0);

    /* What is not in a retired segment is there, the newest of each page. */
    NEED(journal_open(&options, &race.journal) == 0);
    for (size_t i = 0; i < WRITERS * PAGES; i++) {
        const struct known *known = &race.known[i];

        if (known->position / SEGMENT >= fill.begin)
            CHECK(race.replayed[i].position == known->position &&
                  race.replayed[i].checksum == known->checksum);
        else
            CHECK(race.replayed[i].position == 0);
    }
    CHECK(journal_close(race.journal) == 0);
    (void)close(options.dirfd);
    condition_done(&race.space);
    mutex_done(&race.lock);
    fault_reset();
}
