/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/lease.h"

#include <errno.h>
#include <pthread.h>

#include "base/clock.h"
#include "cache/cache_dir.h"
#include "cache/chunk_work.h"
#include "cache/state_log.h"
#include "cache/use.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum { CHUNKS = 4000, CHUNK_SIZE = 1 << 18 };

static const uint64_t SECOND = 1000000000;

/* An owner's parts; what is uploaded is recorded in the catalogs at once. */
static struct cache_dir *cache_dir;
static int cache_fd;
static struct catalog *catalog, *checkpoint;
static struct state_log *state_log;
static struct chunk_dir *chunk_dir;
static struct use *use;
static struct leases *leases;
static struct lease_pressure pressure;
static unsigned parallel;
static int uploaded_error; /* of each one */
static atomic_uint recorded;
static atomic_uint completed;
static atomic_uint twice; /* chunks that were recorded again */
static uint64_t now_ns;

static void set_entry(struct catalog *of, uint64_t chunk, uint64_t generation,
                      bool is_uploaded)
{
    struct catalog_entry entry;

    memset(&entry, 0, sizeof(entry));
    entry.generation = generation;
    entry.revision = 3;
    entry.file_pages = 10;
    entry.flags = CATALOG_FILE;
    entry.uploaded_generation = is_uploaded ? generation : 0;
    CHECK(catalog_set(of, chunk, &entry) == 0);
}

/* lease_options.uploaded */
static int record_uploaded(void *context, struct uploaded *list[], size_t count)
{
    (void)context;
    for (size_t i = 0; i < count; i++) {
        struct uploaded *it = list[i];
        struct catalog_entry entry;

        it->error = uploaded_error;
        if (uploaded_error != 0)
            continue;
        atomic_fetch_add(&recorded, 1);
        catalog_get(checkpoint, it->chunk, &entry);
        if (entry.generation == it->generation) {
            if (entry.uploaded_generation == it->generation)
                atomic_fetch_add(&twice, 1);
            set_entry(checkpoint, it->chunk, it->generation, true);
        }
        catalog_get(catalog, it->chunk, &entry);
        if (entry.generation == it->generation)
            set_entry(catalog, it->chunk, it->generation, true);
    }
    return 0;
}

static void tell_pressure(void *context, struct lease_pressure *ret_pressure)
{
    (void)context;
    *ret_pressure = pressure;
}

static void count_complete(void *context)
{
    (void)context;
    atomic_fetch_add(&completed, 1);
}

static bool begin_leases(void)
{
    struct lease_options options = {
        .device_name = "disk",
        .chunk_size = CHUNK_SIZE,
        .catalog = catalog,
        .checkpoint = checkpoint,
        .state_log = state_log,
        .chunk_dir = chunk_dir,
        .use = use,
        .parallel = parallel,
        .uploaded = record_uploaded,
        .pressure = tell_pressure,
        .complete = count_complete,
    };

    if (!CHECK(leases_new(&options, &leases) == 0))
        return false;
    leases_set_claim(leases, 7, 0xabc);
    return true;
}

static bool open_parts(bool create)
{
    return CHECK(cache_dir_open(test_dir(), false, &cache_dir) == 0) &&
           CHECK(catalog_new(CHUNKS, &catalog) == 0) &&
           CHECK(catalog_new(CHUNKS, &checkpoint) == 0) &&
           CHECK(state_log_open(cache_dir, catalog, checkpoint, create, false,
                                &state_log) == 0) &&
           CHECK(chunk_dir_open(cache_fd, "disk", CHUNK_SIZE, CHUNK_DIR_CREATE,
                                &chunk_dir) == 0) &&
           CHECK(use_open(cache_fd, "disk", CHUNKS, &use) == 0) &&
           begin_leases();
}

static void close_parts(void)
{
    leases_free(leases);
    use_close(use);
    chunk_dir_close(chunk_dir);
    state_log_close(state_log);
    catalog_free(checkpoint);
    catalog_free(catalog);
    cache_dir_close(cache_dir);
}

static bool begin(void)
{
    struct superblock superblock = {.chunk_size = CHUNK_SIZE, .size = 1 << 30};
    struct cache_dir *dir = NULL;
    bool is_ok;

    fault_reset();
    fault_skip_syncs(true);
    cache_fd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    memset(superblock.cachedir_id, 1, UUID_SIZE);
    is_ok = CHECK(cache_dir_open(test_dir(), false, &dir) == 0) &&
            CHECK(cache_dir_write_superblock(dir, &superblock) == 0);
    cache_dir_close(dir);
    pressure = (struct lease_pressure){false, false};
    parallel = 1000;
    uploaded_error = 0;
    atomic_store(&recorded, 0);
    atomic_store(&completed, 0);
    atomic_store(&twice, 0);
    now_ns = 1000 * SECOND;
    clock_set_for_tests(now_ns);
    return is_ok && open_parts(true);
}

static void end(void)
{
    fault_reset();
    close_parts();
    (void)close(cache_fd);
    clock_set_for_tests(0);
}

static void pass_time(uint64_t ns)
{
    now_ns += ns;
    clock_set_for_tests(now_ns);
}

/* So many chunks wait in a checkpoint: first, first + step, ... */
static bool begin_checkpoint(uint64_t first, uint64_t count, uint64_t step)
{
    uint64_t pending;

    for (uint64_t i = 0; i < count; i++) {
        set_entry(checkpoint, first + i * step, 100 + i, false);
        set_entry(catalog, first + i * step, 100 + i, false);
    }
    return CHECK(leases_begin_checkpoint(leases, &pending) == 0) &&
           CHECK(pending == count);
}

static const struct lease_wish ANY = {1, LEASE_CHECKPOINT, 0, 100};
static const struct lease_wish SPACE = {1, LEASE_EVICTION, 0, 100};

static int take(const struct lease_wish *wish, struct lease *ret_lease,
                uint64_t *ret_wait_ns)
{
    uint64_t wait_ns = 0;
    int error = lease_take(leases, wish, ret_lease, &wait_ns);

    if (ret_wait_ns != NULL)
        *ret_wait_ns = wait_ns;
    return error;
}

/* The table of an object as upload_chunk would have made it. */
static void make_result(const struct upload_work *work,
                        struct upload_result *ret_result)
{
    struct chunk_table *table = chunk_table_new(work->chunk, CHUNK_SIZE);
    void *bytes = malloc(chunk_table_encoded_max(CHUNK_SIZE));

    if (table == NULL || bytes == NULL)
        abort();
    table->generation = work->generation;
    table->data_end = 0;
    table->objects_count = 1;
    table->objects[0].id = work->id;
    memset(ret_result, 0, sizeof(*ret_result));
    ret_result->table_size = chunk_table_encode(table, bytes);
    ret_result->table = bytes;
    ret_result->size = ret_result->table_size;
    chunk_table_release(table);
}

static int report(uint64_t holder, const struct lease *lease)
{
    struct upload_result result;
    int error;

    make_result(&lease->work, &result);
    error = lease_report(leases, holder, lease->number, 0, &result);
    free(result.table);
    return error;
}

static int report_failure(const struct lease *lease, int error)
{
    return lease_report(leases, 1, lease->number, error, NULL);
}

static struct lease_counts counts(unsigned start, unsigned stop)
{
    struct lease_counts is;

    lease_count(leases, start, stop, &is);
    return is;
}

/* ---- order and percentages ------------------------------------------------
 */

TEST("chunks go in the order of their last use, the latest first")
{
    static const uint64_t order[] = {30, 10, 50, 20, 40};
    struct lease lease;

    NEED(begin());
    for (size_t i = 0; i < 5; i++) {
        use_touch(use, order[4 - i]);
        pass_time(SECOND);
    }
    NEED(begin_checkpoint(10, 5, 10));
    for (size_t i = 0; i < 5; i++) {
        NEED(take(&ANY, &lease, NULL) == 0);
        CHECK(lease.work.chunk == order[i]);
        CHECK(lease.is_for_checkpoint && lease.work.revision == 3);
        CHECK(lease.work.generation == 100 + order[i] / 10 - 1);
        CHECK(lease.work.loss == UPLOAD_NO_LOSS);
    }
    CHECK(take(&ANY, &lease, NULL) == -ENODATA);
    end();
}

TEST("percentages share the chunks out, evenly and without a rest")
{
    static const unsigned borders[] = {0, 20, 55, 100};
    static unsigned char seen[CHUNKS];
    unsigned in_part[3] = {0, 0, 0};

    NEED(begin());
    memset(seen, 0, sizeof(seen));
    parallel = CHUNKS;
    leases_free(leases);
    NEED(begin_leases());
    NEED(begin_checkpoint(0, CHUNKS / 2, 2));
    for (unsigned part = 0; part < 3; part++) {
        struct lease_wish wish = {1, LEASE_CHECKPOINT, borders[part],
                                  borders[part + 1]};
        struct lease lease;

        CHECK(counts(borders[part], borders[part + 1]).waiting > 0);
        while (take(&wish, &lease, NULL) == 0) {
            seen[lease.work.chunk]++;
            in_part[part]++;
            CHECK(lease_percent(lease.work.chunk) >= borders[part] &&
                  lease_percent(lease.work.chunk) < borders[part + 1]);
        }
        CHECK(counts(borders[part], borders[part + 1]).waiting == 0);
    }
    for (uint64_t i = 0; i < CHUNKS; i++)
        CHECK(seen[i] == (i % 2 == 0));
    CHECK(in_part[0] > 320 && in_part[0] < 480);
    CHECK(in_part[1] > 600 && in_part[1] < 800);
    end();
}

TEST("what is zeros, a hole or in the bucket already does not wait")
{
    struct catalog_entry entry;
    struct lease lease;
    uint64_t pending;

    NEED(begin());
    set_entry(checkpoint, 1, 5, true);
    memset(&entry, 0, sizeof(entry));
    entry.generation = 6;
    entry.flags = CATALOG_ZERO;
    CHECK(catalog_set(checkpoint, 2, &entry) == 0);
    entry.flags = CATALOG_HOLE | CATALOG_FILE;
    CHECK(catalog_set(checkpoint, 3, &entry) == 0);
    NEED(leases_begin_checkpoint(leases, &pending) == 0);
    CHECK(pending == 0);
    CHECK(take(&ANY, &lease, NULL) == -ENODATA);
    end();
}

/* ---- leases and reports ---------------------------------------------------
 */

TEST("a chunk is leased to one holder, who alone may report it, once")
{
    struct lease lease, other;
    struct lease_wish second = {2, LEASE_CHECKPOINT, 0, 100};

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(take(&second, &other, NULL) == -ENODATA);
    CHECK(counts(0, 100).leased == 1);
    CHECK(report(2, &lease) == -ESTALE);
    other = lease;
    other.number++;
    CHECK(report(1, &other) == -ESTALE);
    CHECK(atomic_load(&recorded) == 0);
    CHECK(report(1, &lease) == 0);
    CHECK(report(1, &lease) == -ESTALE);
    CHECK(atomic_load(&recorded) == 1 && atomic_load(&completed) == 1);
    CHECK(counts(0, 100).uploaded == 1);
    CHECK(counts(0, 100).pages == 0);
    end();
}

TEST("the last chunk of a checkpoint, and no other, completes it")
{
    struct lease lease[20];

    NEED(begin());
    NEED(begin_checkpoint(0, 20, 1));
    for (unsigned i = 0; i < 20; i++)
        NEED(take(&ANY, &lease[i], NULL) == 0);
    for (unsigned i = 0; i < 20; i++) {
        CHECK(atomic_load(&completed) == 0);
        CHECK(counts(0, 100).leased == 20 - i);
        CHECK(report(1, &lease[i]) == 0);
    }
    CHECK(atomic_load(&completed) == 1);
    end();
}

TEST("the chunks of a holder that is gone wait again, and its reports are void")
{
    struct lease lease, again;
    struct lease_wish second = {2, LEASE_CHECKPOINT, 0, 100};

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    NEED(take(&ANY, &lease, NULL) == 0);
    lease_holder_gone(leases, 2);
    CHECK(take(&second, &again, NULL) == -ENODATA);
    lease_holder_gone(leases, 1);
    NEED(take(&second, &again, NULL) == 0);
    CHECK(again.work.chunk == lease.work.chunk);
    CHECK(again.number != lease.number);
    CHECK(again.work.id.counter != lease.work.id.counter);
    CHECK(report(1, &lease) == -ESTALE);
    CHECK(report(2, &again) == 0);
    CHECK(atomic_load(&recorded) == 1 && atomic_load(&completed) == 1);
    end();
}

TEST("who holds leases is told, with what it has done, until it is gone")
{
    struct lease_wish second = {2, LEASE_CHECKPOINT, 0, 100};
    struct lease_holders holders;
    struct lease lease, other;

    NEED(begin());
    NEED(begin_checkpoint(4, 2, 1));
    lease_get_holders(leases, &holders);
    CHECK(holders.count == 0);
    NEED(take(&ANY, &lease, NULL) == 0);
    NEED(take(&second, &other, NULL) == 0);
    CHECK(report(1, &lease) == 0);
    lease_get_holders(leases, &holders);
    CHECK(holders.count == 2);
    CHECK(holders.list[0].holder == 1 && holders.list[0].leased == 0);
    CHECK(holders.list[0].chunks == 1 && holders.list[0].bytes > 0);
    CHECK(holders.list[1].holder == 2 && holders.list[1].leased == 1);
    CHECK(holders.list[1].chunks == 0);
    lease_holder_gone(leases, 1);
    lease_get_holders(leases, &holders);
    CHECK(holders.count == 1 && holders.list[0].holder == 2);
    end();
}

TEST("a table that is not that of the work is not recorded")
{
    struct lease lease, wrong;

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    NEED(take(&ANY, &lease, NULL) == 0);
    wrong = lease;
    wrong.work.id.counter++;
    CHECK(report(1, &wrong) == -EBADMSG);
    CHECK(atomic_load(&recorded) == 0);
    pass_time(100 * SECOND);
    CHECK(take(&ANY, &lease, NULL) == 0);
    CHECK(report(1, &lease) == 0);
    end();
}

TEST("what could not be recorded is handed out again")
{
    struct lease lease;

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    NEED(take(&ANY, &lease, NULL) == 0);
    uploaded_error = -ENOSPC;
    CHECK(report(1, &lease) == -ENOSPC);
    uploaded_error = 0;
    CHECK(counts(0, 100).failing == 1);
    pass_time(100 * SECOND);
    CHECK(take(&ANY, &lease, NULL) == 0);
    CHECK(report(1, &lease) == 0);
    CHECK(atomic_load(&completed) == 1);
    end();
}

TEST("with its checkpoint a lease ends; one for eviction goes on")
{
    static const uint64_t dirty = 9;
    struct lease lease, space;
    uint64_t pending;

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    set_entry(catalog, dirty, 50, false);
    NEED(leases_set_candidates(leases, 0, 100, &dirty, 1) == 0);
    NEED(take(&ANY, &lease, NULL) == 0);
    NEED(take(&SPACE, &space, NULL) == 0);
    CHECK(!space.is_for_checkpoint && space.work.generation == 50);
    leases_end_checkpoint(leases);
    CHECK(report(1, &lease) == -ESTALE);
    /* The next checkpoint wants that very state: then it counts for it. */
    set_entry(checkpoint, 4, 100, true);
    set_entry(checkpoint, dirty, 50, false);
    NEED(leases_begin_checkpoint(leases, &pending) == 0);
    CHECK(pending == 1);
    CHECK(take(&ANY, &lease, NULL) == -ENODATA);
    CHECK(report(1, &space) == 0);
    CHECK(atomic_load(&completed) == 1);
    end();
}

/* ---- eviction -------------------------------------------------------------
 */

TEST("candidates go in their order, the state of the checkpoint first")
{
    static const uint64_t candidates[] = {8, 4, 7, 6};
    struct lease lease;

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1)); /* generation 100 */
    set_entry(catalog, 4, 200, false);
    set_entry(catalog, 6, 300, false);
    set_entry(catalog, 7, 301, true); /* clean */
    set_entry(catalog, 8, 302, false);
    NEED(leases_set_candidates(leases, 0, 100, candidates, 4) == 0);
    NEED(take(&SPACE, &lease, NULL) == 0);
    CHECK(lease.work.chunk == 8 && lease.work.generation == 302 &&
          !lease.is_for_checkpoint);
    NEED(take(&SPACE, &lease, NULL) == 0);
    CHECK(lease.work.chunk == 4 && lease.work.generation == 100 &&
          lease.is_for_checkpoint);
    CHECK(report(1, &lease) == 0 && atomic_load(&completed) == 1);
    NEED(take(&SPACE, &lease, NULL) == 0);
    CHECK(lease.work.chunk == 6);
    CHECK(take(&SPACE, &lease, NULL) == -ENODATA);
    /* Next time it is the newest state's turn. */
    NEED(leases_set_candidates(leases, 0, 100, candidates, 4) == 0);
    NEED(take(&SPACE, &lease, NULL) == 0);
    CHECK(lease.work.chunk == 4 && lease.work.generation == 200);
    end();
}

TEST("a candidate that the checkpoint waits for is not given out twice")
{
    static const uint64_t candidate = 4;
    struct lease lease, other;

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    NEED(leases_set_candidates(leases, 0, 100, &candidate, 1) == 0);
    NEED(take(&SPACE, &lease, NULL) == 0);
    CHECK(take(&ANY, &other, NULL) == -ENODATA);
    /* And is not forgotten, when that comes to nothing. */
    CHECK(report_failure(&lease, -EIO) == 0);
    pass_time(100 * SECOND);
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(report(1, &lease) == 0 && atomic_load(&completed) == 1);
    end();
}

TEST("a candidate that was uploaded in vain is passed over for a while")
{
    static const uint64_t candidates[] = {4, 5};
    struct lease lease;

    NEED(begin());
    set_entry(catalog, 4, 200, false);
    set_entry(catalog, 5, 201, false);
    for (unsigned i = 0; i < 3; i++) {
        NEED(leases_set_candidates(leases, 0, 100, candidates, 2) == 0);
        NEED(take(&SPACE, &lease, NULL) == 0);
        CHECK(lease.work.chunk == 4);
        uploaded_error = -ESTALE;
        CHECK(report(1, &lease) == -ESTALE);
        uploaded_error = 0;
        NEED(leases_set_candidates(leases, 0, 100, candidates, 2) == 0);
        NEED(take(&SPACE, &lease, NULL) == 0);
        CHECK(lease.work.chunk == 5);
        lease_holder_gone(leases, 1);
        pass_time(SECOND << i);
    }
    end();
}

TEST("a chunk may begin unless it is given, or was uploaded in vain just now")
{
    static const uint64_t candidate = 4;
    struct lease lease;

    NEED(begin());
    for (unsigned i = 0; i < 3; i++) {
        /* What failed before it went well is not held against it. */
        for (unsigned failures = 0; failures < 2; failures++) {
            set_entry(catalog, 4, 200 + i, false);
            CHECK(lease_may_begin(leases, 4) && lease_may_begin(leases, 5));
            NEED(leases_set_candidates(leases, 0, 100, &candidate, 1) == 0);
            NEED(take(&SPACE, &lease, NULL) == 0);
            CHECK(!lease_may_begin(leases, 4) && lease_may_begin(leases, 5));
            if (failures == 0) {
                CHECK(report_failure(&lease, -ESTALE) == 0);
                CHECK(!lease_may_begin(leases, 4));
                pass_time(SECOND - 1);
                CHECK(!lease_may_begin(leases, 4));
                pass_time(1);
            }
        }
        CHECK(report(1, &lease) == 0);
        CHECK(lease_may_begin(leases, 4));
    }
    end();
}

TEST("who asks for a part has its own candidates")
{
    const struct lease_wish first = {1, LEASE_EVICTION, 0, 50};
    const struct lease_wish second = {2, LEASE_EVICTION, 50, 100};
    uint64_t low[2], high[2];
    unsigned lows = 0, highs = 0;
    struct lease lease;

    NEED(begin());
    for (uint64_t chunk = 0; lows < 2 || highs < 2; chunk++) {
        set_entry(catalog, chunk, 200 + chunk, false);
        if (lease_percent(chunk) < 50 && lows < 2)
            low[lows++] = chunk;
        else if (lease_percent(chunk) >= 50 && highs < 2)
            high[highs++] = chunk;
    }
    NEED(leases_set_candidates(leases, 0, 50, low, 2) == 0);
    NEED(leases_set_candidates(leases, 50, 100, high, 2) == 0);
    NEED(take(&first, &lease, NULL) == 0);
    CHECK(lease.work.chunk == low[0]);
    NEED(take(&second, &lease, NULL) == 0);
    CHECK(lease.work.chunk == high[0]);
    NEED(leases_set_candidates(leases, 50, 100, NULL, 0) == 0);
    CHECK(take(&second, &lease, NULL) == -ENODATA);
    NEED(take(&first, &lease, NULL) == 0);
    CHECK(lease.work.chunk == low[1]);
    /* All of them: what a part had is replaced. */
    NEED(leases_set_candidates(leases, 0, 50, low, 2) == 0);
    NEED(leases_set_candidates(leases, 0, 100, &high[1], 1) == 0);
    CHECK(take(&first, &lease, NULL) == -ENODATA);
    NEED(take(&SPACE, &lease, NULL) == 0);
    CHECK(lease.work.chunk == high[1]);
    end();
}

TEST("that the store does not answer, however often, says nothing of what is "
     "lost")
{
    static const int errors[] = {-ETIMEDOUT, -EBUSY, -EACCES, -EREMOTEIO};
    struct lease lease;
    uint64_t wait_ns;

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    NEED(take(&ANY, &lease, NULL) == 0);
    for (unsigned i = 0; i < 12; i++) {
        CHECK(report_failure(&lease, errors[i % 4]) == 0);
        while (take(&ANY, &lease, &wait_ns) == -EAGAIN)
            pass_time(wait_ns);
        CHECK(lease.work.loss == UPLOAD_NO_LOSS);
    }
    for (unsigned i = 0; i < 6; i++) {
        CHECK(lease.work.loss == UPLOAD_NO_LOSS);
        CHECK(report_failure(&lease, -EIO) == 0);
        while (take(&ANY, &lease, &wait_ns) == -EAGAIN)
            pass_time(wait_ns);
    }
    CHECK(lease.work.loss == UPLOAD_BLOCKS_LOST);
    CHECK(report(1, &lease) == 0);
    end();
}

/* ---- failures -------------------------------------------------------------
 */

TEST("after a failure there is a pause, longer each time, and others go first")
{
    struct lease lease, other;
    uint64_t wait_ns, last_ns = 0, failing;

    NEED(begin());
    NEED(begin_checkpoint(4, 2, 1));
    NEED(take(&ANY, &lease, NULL) == 0);
    failing = lease.work.chunk;
    CHECK(report_failure(&lease, -EIO) == 0);
    CHECK(counts(0, 100).last_error == -EIO);
    CHECK(take(&ANY, &other, &wait_ns) == -EAGAIN);
    CHECK(wait_ns == SECOND);
    pass_time(wait_ns);
    NEED(take(&ANY, &lease, NULL) == 0);
    if (lease.work.chunk != failing) {
        CHECK(report(1, &lease) == 0);
        NEED(take(&ANY, &lease, NULL) == 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        CHECK(lease.work.chunk == failing);
        CHECK(lease.work.loss ==
              (i + 1 < 6 ? UPLOAD_NO_LOSS : UPLOAD_BLOCKS_LOST));
        CHECK(report_failure(&lease, -EIO) == 0);
        /* First the store gets its rest, then the chunk. */
        while (take(&ANY, &lease, &wait_ns) == -EAGAIN) {
            CHECK(wait_ns > 0 && wait_ns <= 60 * SECOND);
            last_ns = wait_ns > last_ns ? wait_ns : last_ns;
            pass_time(wait_ns);
            if (counts(0, 100).failing == 0)
                NEED(take(&ANY, &lease, NULL) == 0);
        }
    }
    CHECK(last_ns == 60 * SECOND);
    CHECK(report(1, &lease) == 0);
    CHECK(counts(0, 100).last_error == 0);
    end();
}

TEST("uploads that were under way together fail once")
{
    struct lease lease[4], other;
    uint64_t wait_ns;

    NEED(begin());
    NEED(begin_checkpoint(4, 8, 1));
    for (unsigned i = 0; i < 4; i++)
        NEED(take(&ANY, &lease[i], NULL) == 0);
    pass_time(SECOND);
    for (unsigned i = 0; i < 4; i++)
        CHECK(report_failure(&lease[i], -EIO) == 0);
    CHECK(take(&ANY, &other, &wait_ns) == -EAGAIN);
    CHECK(wait_ns == SECOND);
    end();
}

TEST("a state is lost when its file, looked at here, has not got it")
{
    struct lease lease;
    struct chunk_file *file;
    struct chunk_table *table;

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    NEED(chunk_file_create(chunk_dir, 4, &file) == 0);
    table = chunk_table_new(4, CHUNK_SIZE);
    NEED(table != NULL);
    table->generation = 100;
    table->revision = 3;
    NEED(chunk_file_write_slot(file, table) == 0);

    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(report_failure(&lease, -ESTALE) == 0);
    pass_time(100 * SECOND);
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(lease.work.loss == UPLOAD_NO_LOSS); /* for it is there */

    table->generation = 101;
    NEED(chunk_file_write_slot(file, table) == 0);
    CHECK(report_failure(&lease, -ESTALE) == 0);
    CHECK(counts(0, 100).last_error == 0); /* nothing is wrong outside */
    pass_time(100 * SECOND);
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(lease.work.loss == UPLOAD_TABLE_LOST);
    chunk_table_release(table);
    chunk_file_release(file);
    end();
}

/* ---- pace -----------------------------------------------------------------
 */

TEST("while reads wait uploads have a quarter of the time, one at once")
{
    struct lease lease, other;
    uint64_t wait_ns;

    NEED(begin());
    NEED(begin_checkpoint(0, 10, 1));
    pressure.reads_wait = true;
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(lease.parallel == 1);
    CHECK(take(&ANY, &other, &wait_ns) == -EAGAIN && wait_ns > 0);
    pass_time(SECOND); /* so long does it take */
    CHECK(report(1, &lease) == 0);
    CHECK(take(&ANY, &lease, NULL) == -EAGAIN);
    pass_time(3 * SECOND - 1);
    CHECK(take(&ANY, &lease, NULL) == -EAGAIN);
    pass_time(1);
    CHECK(take(&ANY, &lease, NULL) == 0);

    /* Nothing is held back while somebody waits for room. */
    pressure.writes_wait = true;
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(lease.parallel == parallel);
    pressure = (struct lease_pressure){false, false};
    CHECK(take(&ANY, &lease, NULL) == 0);
    end();
}

TEST("not more are given out at once than there may be")
{
    struct lease lease[4];
    uint64_t wait_ns;

    NEED(begin());
    leases_free(leases);
    parallel = 3;
    NEED(begin_leases());
    NEED(begin_checkpoint(0, 10, 1));
    for (unsigned i = 0; i < 3; i++)
        NEED(take(&ANY, &lease[i], NULL) == 0);
    CHECK(take(&ANY, &lease[3], &wait_ns) == -EAGAIN && wait_ns > 0);
    CHECK(report(1, &lease[0]) == 0);
    CHECK(take(&ANY, &lease[3], NULL) == 0);
    end();
}

TEST("how many there may be can change while they are out")
{
    struct lease lease[6], more;

    NEED(begin());
    NEED(begin_checkpoint(0, 10, 1));
    leases_set_parallel(leases, 4);
    for (unsigned i = 0; i < 4; i++)
        NEED(take(&ANY, &lease[i], NULL) == 0);
    CHECK(lease[3].parallel == 4);
    CHECK(take(&ANY, &more, NULL) == -EAGAIN);
    leases_set_parallel(leases, 6);
    NEED(take(&ANY, &lease[4], NULL) == 0);
    NEED(take(&ANY, &lease[5], NULL) == 0);
    leases_set_parallel(leases, 1);
    for (unsigned i = 0; i < 6; i++) {
        CHECK(take(&ANY, &more, NULL) == -EAGAIN);
        CHECK(report(1, &lease[i]) == 0);
    }
    NEED(take(&ANY, &more, NULL) == 0);
    CHECK(more.parallel == 1 && report(1, &more) == 0);
    /* A store that is busy has as many as it can bear. */
    leases_set_parallel(leases, 8);
    NEED(take(&ANY, &more, NULL) == 0);
    CHECK(report_failure(&more, -EBUSY) == 0);
    leases_set_parallel(leases, 20);
    pass_time(600 * SECOND);
    NEED(take(&ANY, &more, NULL) == 0);
    CHECK(more.parallel == 4 && report(1, &more) == 0);
    end();
}

/* Let so many uploads, one after the other, go well. */
static void upload_well(unsigned count)
{
    struct lease lease;

    for (unsigned i = 0; i < count; i++) {
        pass_time(SECOND);
        if (CHECK(take(&ANY, &lease, NULL) == 0))
            CHECK(report(1, &lease) == 0);
    }
}

TEST("a store that is busy gets half as many at once, once for those that were "
     "under way, and one more when as many went well")
{
    struct lease lease[8], one;

    NEED(begin());
    leases_free(leases);
    parallel = 8;
    NEED(begin_leases());
    NEED(begin_checkpoint(0, 300, 1));
    for (unsigned i = 0; i < 8; i++)
        NEED(take(&ANY, &lease[i], NULL) == 0);
    CHECK(lease[7].parallel == 8);
    pass_time(SECOND);
    for (unsigned i = 0; i < 8; i++)
        CHECK(report_failure(&lease[i], -EBUSY) == 0);
    pass_time(600 * SECOND);
    for (unsigned i = 0; i < 4; i++)
        NEED(take(&ANY, &lease[i], NULL) == 0);
    CHECK(lease[3].parallel == 4);
    CHECK(take(&ANY, &one, NULL) == -EAGAIN);
    for (unsigned i = 0; i < 4; i++)
        CHECK(report(1, &lease[i]) == 0); /* so many: one more */
    NEED(take(&ANY, &one, NULL) == 0);
    CHECK(one.parallel == 5 && report(1, &one) == 0);
    upload_well(4 + 6 + 7);
    NEED(take(&ANY, &one, NULL) == 0);
    CHECK(one.parallel == 8 && report(1, &one) == 0);
    upload_well(20);
    NEED(take(&ANY, &one, NULL) == 0);
    CHECK(one.parallel == 8); /* no more than at first */
    for (unsigned i = 0; i < 5; i++) {
        CHECK(report_failure(&one, -EBUSY) == 0);
        pass_time(600 * SECOND);
        NEED(take(&ANY, &one, NULL) == 0);
    }
    CHECK(one.parallel == 1); /* no fewer than one */
    end();
}

TEST("another failure than being busy leaves as many at once")
{
    struct lease lease;

    NEED(begin());
    leases_free(leases);
    parallel = 8;
    NEED(begin_leases());
    NEED(begin_checkpoint(0, 10, 1));
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(report_failure(&lease, -ETIMEDOUT) == 0);
    pass_time(600 * SECOND);
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(lease.parallel == 8);
    end();
}

/* ---- claim and ids --------------------------------------------------------
 */

TEST("without a claim nothing is given out, and what was is void")
{
    struct lease lease;

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(lease.work.id.epoch == 7 && lease.work.id.nonce == 0xabc);
    leases_set_claim(leases, 7, 0xabc);
    leases_set_claim(leases, 0, 0);
    CHECK(report(1, &lease) == -ESTALE);
    CHECK(take(&ANY, &lease, NULL) == -EPERM);
    leases_set_claim(leases, 9, 0xdef);
    NEED(take(&ANY, &lease, NULL) == 0);
    CHECK(lease.work.id.epoch == 9 && lease.work.id.nonce == 0xdef);
    CHECK(report(1, &lease) == 0);
    end();
}

TEST("no id is given out twice, whatever the process comes to")
{
    uint64_t last = 0;

    NEED(begin());
    for (unsigned run = 0; run < 4; run++) {
        NEED(begin_checkpoint(4, 1, 1));
        for (unsigned i = 0; i < 700; i++) {
            struct lease lease;

            NEED(take(&ANY, &lease, NULL) == 0);
            CHECK(lease.work.id.counter >= last);
            last = lease.work.id.counter + 1;
            lease_holder_gone(leases, ANY.holder);
        }
        close_parts();
        NEED(open_parts(false));
    }
    end();
}

TEST("no id is given out that is not durably ours")
{
    struct fault_calls writes = {FAULT_WRITE, "state/log", 1};
    struct lease lease;

    NEED(begin());
    NEED(begin_checkpoint(4, 1, 1));
    fault_fail(&writes, -EIO, true, 0);
    CHECK(take(&ANY, &lease, NULL) < 0);
    CHECK(counts(0, 100).waiting == 1);
    end();
}

/* ---- many at once ---------------------------------------------------------
 */

static atomic_uint next_holder;

/* Takes, reports, fails and goes, as the number says. */
static void *hold(void *arg)
{
    struct lease_wish wish = {0, LEASE_CHECKPOINT, 0, 100};
    unsigned step = 0;
    int error;

    (void)arg;
    wish.holder = atomic_fetch_add(&next_holder, 1);
    do {
        struct lease lease;
        uint64_t wait_ns;

        wish.purpose = ++step % 5 == 0 ? LEASE_EVICTION : LEASE_CHECKPOINT;
        error = lease_take(leases, &wish, &lease, &wait_ns);
        if (error == -ENODATA && wish.purpose == LEASE_EVICTION)
            error = -EAGAIN;
        if (error != 0)
            continue;
        if (lease.number % 7 == 0) {
            lease_holder_gone(leases, wish.holder);
            CHECK(report(wish.holder, &lease) == -ESTALE);
            wish.holder = atomic_fetch_add(&next_holder, 1);
        } else {
            CHECK(report(wish.holder, &lease) == 0);
        }
    } while (error != -ENODATA);
    return NULL;
}

TEST("many holders at once upload each chunk once, and complete once")
{
    static uint64_t candidates[500];
    pthread_t threads[6];
    unsigned left = 0;

    NEED(begin());
    clock_set_for_tests(0);
    for (uint64_t i = 0; i < 500; i++)
        candidates[i] = i * 3;
    NEED(leases_set_candidates(leases, 0, 100, candidates, 500) == 0);
    NEED(begin_checkpoint(0, 1500, 1));
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 6; i++)
            CHECK(pthread_create(&threads[i], NULL, hold, NULL) == 0);
        for (unsigned i = 0; i < 6; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        left = (unsigned)counts(0, 100).waiting;
        if (left == 0)
            break;
    }
    CHECK(left == 0);
    CHECK(atomic_load(&recorded) == 1500);
    CHECK(atomic_load(&twice) == 0);
    CHECK(atomic_load(&completed) == 1);
    end();
}
