/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "base/log.h"
#include "cache/destage_parts.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/checkpoint_image.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum {
    PAGE = CACHE_PAGE,
    BLOCK = CACHE_BLOCK,
    CHUNK = 256 << 10,
    CHUNKS = 400, /* more than three batches */
};

static struct device_fixture disk;
static struct checkpoint_image image;

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    disk.options.size = (uint64_t)CHUNKS * CHUNK;
    disk.options.journal_size = 8 << 20;
    disk.options.store = memory_store_new();
    if (!CHECK(fixture_open(&disk) == 0))
        return false;
    checkpoint_image_begin(&image, disk.device, NULL);
    return true;
}

static void end(void)
{
    fault_reset();
    checkpoint_image_end(&image);
    fixture_end(&disk);
}

static bool put(uint64_t offset, size_t size, uint64_t seed)
{
    static unsigned char data[CHUNK];

    fixture_fill(data, size, seed);
    return fixture_write(&disk, offset, data, size, 0) == 0;
}

static bool reads(uint64_t offset, size_t size, uint64_t seed)
{
    static unsigned char data[CHUNK], got[CHUNK];

    fixture_fill(data, size, seed);
    return fixture_read(&disk, offset, got, size) == 0 &&
           memcmp(got, data, size) == 0;
}

static bool file_exists(uint64_t chunk)
{
    char path[PATH_MAX];

    fixture_chunk_path(&disk, chunk, path);
    return access(path, F_OK) == 0;
}

static uint64_t commits(void)
{
    return state_log_last_commit(disk.device->state_log);
}

/* Return when somebody has asked for something. */
static void wait_for_jobs(size_t count)
{
    struct destage *destage = disk.device->destage;
    size_t found;

    do {
        const struct destage_job *job;

        (void)sched_yield();
        found = 0;
        mutex_lock(&destage->lock);
        for (job = destage->jobs; job != NULL; job = job->next)
            found++;
        mutex_unlock(&destage->lock);
    } while (found < count);
}

/* Return when somebody waits for all to be folded. */
static void wait_for_destage_all(void)
{
    struct destage *destage = disk.device->destage;
    bool is_asked;

    do {
        (void)sched_yield();
        mutex_lock(&destage->lock);
        is_asked = destage->asked != destage->answered;
        mutex_unlock(&destage->lock);
    } while (!is_asked);
}

/* ---- uploaded, evict, keep ----------------------------------------------- */

TEST("many uploads are recorded by one commit; each has its own answer")
{
    enum { MANY = 100 };
    struct uploaded uploaded[MANY];
    struct uploaded *list[MANY];
    struct chunk_table *table;
    uint64_t before;

    NEED(begin());
    for (uint64_t chunk = 0; chunk < MANY; chunk++)
        CHECK(put(chunk * CHUNK, PAGE, chunk));
    CHECK(device_destage(disk.device) == 0);
    table = chunk_table_new(0, CHUNK);
    for (size_t i = 0; i < MANY; i++) {
        uploaded[i] = (struct uploaded){
            .chunk = i,
            .generation = UINT64_C(1) << 40, /* of no state that there is */
            .table = table,
            .error = 1,
        };
        list[i] = &uploaded[i];
    }
    before = commits();
    CHECK(device_uploaded(disk.device, list, 0) == 0);
    CHECK(device_uploaded(disk.device, list, MANY) == 0);
    for (size_t i = 0; i < MANY; i++)
        CHECK(uploaded[i].error == -ESTALE);
    CHECK(commits() == before);
    CHECK(checkpoint_image_upload_newest(&image, 1) == 0);
    CHECK(catalog_dirty(disk.device->catalog) < MANY);
    chunk_table_release(table);
    end();
}

TEST("what may be evicted is, by one commit, also if it is named twice")
{
    uint64_t chunks[60];
    uint64_t before;
    uint64_t freed;

    NEED(begin());
    for (uint64_t chunk = 0; chunk < 30; chunk++)
        CHECK(put(chunk * CHUNK, PAGE, chunk));
    CHECK(device_checkpoint(disk.device, 1) == 0);
    CHECK(checkpoint_image_upload(&image, 1, true) == 0);
    CHECK(put(0, PAGE, 100)); /* not uploaded */
    CHECK(device_destage(disk.device) == 0);
    for (size_t i = 0; i < 30; i++)
        chunks[i] = i;
    before = commits();
    CHECK(device_evict(disk.device, chunks, 30, EVICT_FILE, &freed) == 0);
    CHECK(commits() == before + 1);
    CHECK(freed > 0 && freed < fixture_status(&disk).cache_used);
    CHECK(file_exists(0));
    for (uint64_t chunk = 1; chunk < 30; chunk++) {
        CHECK(!file_exists(chunk));
        CHECK(reads(chunk * CHUNK, PAGE, chunk));
    }
    CHECK(reads(0, PAGE, 100));
    for (size_t i = 0; i < 60; i++)
        chunks[i] = i / 2;
    CHECK(device_evict(disk.device, chunks, 60, EVICT_FILE, &freed) == 0);
    CHECK(device_evict(disk.device, chunks, 0, EVICT_FILE, &freed) == 0);
    CHECK(freed == 0);
    end();
}

/* A block of a chunk, as it came from the bucket. */
struct arrived {
    struct chunk_table *table;
    uint32_t block;
};

static void keep_arrived(void *context, uint32_t block, const void *stored,
                         const void *plain)
{
    const struct arrived *arrived = context;
    const struct chunk_block *entry = &arrived->table->blocks[block];

    (void)plain;
    device_keep(disk.device, arrived->table->chunk, block, entry,
                &arrived->table->objects[entry->object].id, stored);
}

/* Fetch the first count blocks, and have them kept. */
static void keep_blocks(uint64_t chunk, uint32_t count)
{
    static const uint32_t blocks[] = {0, 1, 2, 3};
    struct catalog_entry entry;
    struct arrived arrived;

    catalog_get(disk.device->catalog, chunk, &entry);
    NEED(entry.objects_count > 0);
    NEED(fetch_table(device_fetch(disk.device), chunk, CHUNK,
                     &entry.objects[entry.objects_count - 1], OBJECT_BACKGROUND,
                     &arrived.table) == 0);
    CHECK(fetch_blocks(device_fetch(disk.device), arrived.table, blocks, count,
                       OBJECT_BACKGROUND, keep_arrived, &arrived) == 0);
    chunk_table_release(arrived.table);
}

TEST("blocks that were fetched are kept, those of a chunk together")
{
    uint64_t chunks[] = {0, 1};
    uint64_t none = 300;
    uint64_t freed;

    NEED(begin());
    for (uint64_t chunk = 0; chunk < 2; chunk++)
        CHECK(put(chunk * CHUNK, 4 * BLOCK, chunk));
    CHECK(device_checkpoint(disk.device, 1) == 0);
    CHECK(checkpoint_image_upload(&image, 1, true) == 0);
    CHECK(checkpoint_image_publish(&image) == 0);
    CHECK(device_evict(disk.device, chunks, 2, EVICT_FILE, &freed) == 0);
    CHECK(!file_exists(0) && !file_exists(1));
    /* Without their tables at hand they are not kept. */
    keep_blocks(1, 4);
    CHECK(device_evict(disk.device, &none, 1, EVICT_FILE, &freed) == 0);
    CHECK(!file_exists(1));
    CHECK(reads(0, 4 * BLOCK, 0));
    keep_blocks(0, 4);
    keep_blocks(0, 2);
    /* Whatever was to be kept is, when something that came later is done. */
    CHECK(device_evict(disk.device, &none, 1, EVICT_FILE, &freed) == 0);
    CHECK(file_exists(0));
    CHECK(catalog_dirty(disk.device->catalog) == 0);
    CHECK(reads(0, 4 * BLOCK, 0) && reads(CHUNK, 4 * BLOCK, 1));
    end();
}

/* ---- while a pass is under way ------------------------------------------- */

static void *destage_of(void *context)
{
    int *ret_error = context;

    *ret_error = device_destage(disk.device);
    return NULL;
}

static void *checkpoint_of(void *context)
{
    int *ret_error = context;

    *ret_error = device_checkpoint(disk.device, 1);
    return NULL;
}

static bool had_folded_first, had_folded_last;

static void look_at_cut(void *context, bool is_cut)
{
    struct page_location locations[2];

    (void)context;
    CHECK(is_cut);
    page_index_find(disk.device->index, 0, 1, &locations[0]);
    page_index_find(disk.device->index, (uint64_t)(CHUNKS - 1) * (CHUNK / PAGE),
                    1, &locations[1]);
    had_folded_first = locations[0].kind == PAGE_ABSENT;
    had_folded_last = locations[1].kind == PAGE_ABSENT;
}

TEST("a job waits for a batch of a pass, not for the pass")
{
    /* A chunk of the second batch. */
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/0000000000000085", 1};
    pthread_t threads[2];
    int errors[2] = {-EBUSY, -EBUSY};

    NEED(begin());
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(put(chunk * CHUNK, PAGE, chunk));
    disk.device->destage->options.cut = look_at_cut;
    fault_gate_set(&syncs);
    NEED(pthread_create(&threads[0], NULL, destage_of, &errors[0]) == 0);
    fault_gate_wait();
    NEED(pthread_create(&threads[1], NULL, checkpoint_of, &errors[1]) == 0);
    wait_for_jobs(1);
    fault_gate_open();
    for (size_t i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0 && errors[i] == 0);
    CHECK(had_folded_first && !had_folded_last);
    CHECK(page_index_is_empty(disk.device->index));
    CHECK(checkpoint_image_pending(&image) == CHUNKS);
    end();
}

static void *stop(void *context)
{
    (void)context;
    destage_stop(disk.device->destage);
    return NULL;
}

static void *evict_of(void *context)
{
    int *ret_error = context;
    uint64_t chunk = 1;
    uint64_t freed;

    *ret_error = device_evict(disk.device, &chunk, 1, EVICT_FILE, &freed);
    return NULL;
}

static bool is_stopping(void)
{
    return destage_must_stop(disk.device->destage);
}

TEST("a stop answers everybody who waits")
{
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/0000000000000001", 1};
    pthread_t threads[4];
    int errors[3] = {0, 0, 0};

    NEED(begin());
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(put(chunk * CHUNK, PAGE, chunk));
    fault_gate_set(&syncs);
    NEED(pthread_create(&threads[0], NULL, checkpoint_of, &errors[0]) == 0);
    fault_gate_wait();
    NEED(pthread_create(&threads[1], NULL, evict_of, &errors[1]) == 0);
    wait_for_jobs(1);
    NEED(pthread_create(&threads[2], NULL, destage_of, &errors[2]) == 0);
    wait_for_destage_all();
    NEED(pthread_create(&threads[3], NULL, stop, NULL) == 0);
    while (!is_stopping())
        (void)sched_yield();
    fault_gate_open();
    for (size_t i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    /* The evict may have had its turn before the stop was seen. */
    CHECK(errors[0] == -ECANCELED);
    CHECK(errors[1] == -ECANCELED || errors[1] == 0);
    CHECK(errors[2] == -ECANCELED);
    disk.device->destage = NULL;
    /* What was begun is completed by the next start. */
    NEED(fixture_reopen(&disk) == 0);
    image.device = disk.device;
    CHECK(device_destage(disk.device) == 0);
    CHECK(checkpoint_image_pending(&image) == CHUNKS);
    end();
}

/* ---- adopt --------------------------------------------------------------- */

struct adoption {
    int error;
    bool was_empty;
    uint64_t begin; /* oldest segment needed, when it was called */
};

static int adopt(void *context)
{
    struct adoption *adoption = context;
    struct state_change change = {
        .kind = STATE_CHUNK,
        .chunk = 0,
        .entry = {.generation = 1000, .flags = CATALOG_ZERO},
    };

    adoption->was_empty = page_index_is_empty(disk.device->index);
    adoption->begin = state_log_journal_begin(disk.device->state_log);
    CHECK(catalog_count(disk.device->checkpoint_catalog) == 0);
    if (adoption->error == 0)
        CHECK(state_log_commit(disk.device->state_log, &change, 1) == 0);
    return adoption->error;
}

TEST("an adoption finds everything folded and no checkpoint, and what it did "
     "is built on")
{
    struct adoption adoption = {.error = -EXDEV};
    uint64_t generation;

    NEED(begin());
    CHECK(put(0, PAGE, 1));
    CHECK(device_checkpoint(disk.device, 1) == 0);
    CHECK(put(CHUNK, PAGE, 2));
    device_set_gate(disk.device, DEVICE_GATE_WAIT);
    CHECK(device_adopt(disk.device, adopt, &adoption) == -EXDEV);
    CHECK(adoption.was_empty && adoption.begin > 0);
    adoption.error = 0;
    CHECK(device_adopt(disk.device, adopt, &adoption) == 0);
    CHECK(fixture_status(&disk).unpublished_since_ns == 0);
    device_set_gate(disk.device, DEVICE_GATE_OPEN);
    CHECK(put(2 * CHUNK, PAGE, 3));
    CHECK(device_destage(disk.device) == 0);
    generation = catalog_generation(disk.device->catalog, 2, NULL);
    CHECK(generation > 1000);
    end();
}
