/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/publish.h"

#include "base/bytes.h"
#include "cache/chunk_file.h"
#include "cache/image.h"
#include "cache/state_log.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/upload_host.h"
#include "unit/test.h"

enum { CHUNK = 256 << 10, PAGE = 4096, SIZE = 16 << 20 };

static struct upload_host host;
static struct fault_store *fault;
static struct object_store *store;
static unsigned char model[SIZE], content[SIZE];

static bool begin(void)
{
    fault_skip_syncs(true);
    fault = fault_store_new(memory_store_new());
    store = fault_store_of(fault);
    memset(&host, 0, sizeof(host));
    memset(model, 0, sizeof(model));
    fixture_begin(&host.fixture, test_dir(), false);
    host.fixture.options.store = store;
    return CHECK(upload_host_open(&host) == 0);
}

static void end(void)
{
    CHECK(upload_host_close(&host) == 0);
    fixture_end(&host.fixture); /* and the store */
}

static bool write_page(uint64_t offset, uint64_t seed)
{
    fixture_fill(model + offset, PAGE, seed);
    return CHECK(
        fixture_write(&host.fixture, offset, model + offset, PAGE, 0) == 0);
}

static uint64_t requests(void)
{
    uint64_t all = 0;

    for (unsigned call = 0; call < STORE_CALLS; call++)
        all += fault_store_count(fault, (enum store_call)call);
    return all;
}

static struct state_facts facts(void)
{
    struct state_facts is;

    state_log_facts(device_state_log(host.fixture.device), &is);
    return is;
}

/* The checkpoint, all of which is uploaded, is cut at that time. */
static bool make_ready(uint64_t time_ns)
{
    uint64_t count;

    return CHECK(upload_host_checkpoint(&host, time_ns) == 0) &&
           CHECK(upload_host_upload(&host, LEASE_CHECKPOINT, UINT64_MAX,
                                    &count) == 0);
}

/* Open the newest image. */
static struct image *open_image(struct epoch_record *ret_record)
{
    struct image *image;

    if (!CHECK(claim_content(host.claim, ret_record) == 0) ||
        !CHECK(image_open(store, "disk", &ret_record->root, &image) == 0))
        abort();
    return image;
}

/* Attach in an empty directory: whether that has what model has. */
static bool is_elsewhere(const char *name)
{
    struct upload_host other = {.completed = 0};
    char dir[PATH_MAX];
    bool is_right;

    (void)snprintf(dir, sizeof(dir), "%s/%s", test_dir(), name);
    if (!CHECK(mkdir(dir, 0700) == 0))
        return false;
    fixture_begin(&other.fixture, dir, false);
    other.fixture.options.store = store;
    other.fixture.options.attach = DEVICE_ATTACH_TAKEOVER;
    is_right = CHECK(upload_host_open(&other) == 0) &&
               CHECK(upload_host_read(&other, content) == 0) &&
               CHECK(memcmp(content, model, SIZE) == 0);
    CHECK(upload_host_close(&other) == 0);
    other.fixture.options.store = NULL; /* it goes on */
    fixture_end(&other.fixture);
    return is_right;
}

TEST("an image says of each chunk what the checkpoint did")
{
    struct epoch_record record;
    struct image_entry entry;
    struct image *image;
    bool is_new = false;

    NEED(begin());
    NEED(write_page(0, 1) && write_page(5 * CHUNK, 2) &&
         write_page(9 * CHUNK, 3));
    NEED(fixture_zero(&host.fixture, 7 * CHUNK, CHUNK, DEVICE_NO_HOLE) == 0);
    NEED(make_ready(1000));
    NEED(upload_host_publish(&host, &is_new) == 0);
    CHECK(is_new);
    image = open_image(&record);
    CHECK(record.kind == EPOCH_IMAGE && record.content_time_ns == 1000);
    CHECK(record.chunks == 4 && image_root(image)->chunks == 4);
    CHECK(image_get(image, 0, &entry) == 1 && entry.objects_count == 1);
    CHECK(image_get(image, 5, &entry) == 1 && entry.objects_count == 1);
    CHECK(image_get(image, 7, &entry) == 1 && entry.objects_count == 0);
    CHECK(image_get(image, 6, &entry) == 0);
    image_close(image);
    CHECK(facts().phase == CHECKPOINT_NONE);
    CHECK(facts().published_time_ns == 1000);

    /* The next one has the changes on top of that. */
    NEED(fixture_trim(&host.fixture, 5 * CHUNK, CHUNK) == 0);
    memset(model + 5 * CHUNK, 0, CHUNK);
    NEED(write_page(9 * CHUNK + PAGE, 4));
    NEED(make_ready(2000));
    NEED(upload_host_publish(&host, &is_new) == 0);
    image = open_image(&record);
    CHECK(record.content_time_ns == 2000 && record.chunks == 3);
    CHECK(image_get(image, 0, &entry) == 1 && entry.objects_count == 1);
    CHECK(image_get(image, 5, &entry) == 0);
    CHECK(image_get(image, 7, &entry) == 1 && entry.objects_count == 0);
    CHECK(image_get(image, 9, &entry) == 1);
    image_close(image);
    CHECK(is_elsewhere("elsewhere"));
    end();
}

TEST("the first image of a device is made though nothing was written to it")
{
    struct epoch_record record;
    struct image *image;
    bool is_new = false;

    NEED(begin());
    NEED(make_ready(1000));
    NEED(upload_host_publish(&host, &is_new) == 0);
    CHECK(is_new);
    image = open_image(&record);
    CHECK(record.chunks == 0);
    image_close(image);
    CHECK(is_elsewhere("elsewhere"));
    end();
}

TEST("a checkpoint without a change is dropped, and nothing asked of the store")
{
    bool is_new = true;
    uint64_t before;

    NEED(begin());
    NEED(write_page(0, 1) && make_ready(1000));
    NEED(upload_host_publish(&host, &is_new) == 0);
    before = requests();
    NEED(make_ready(2000));
    NEED(upload_host_publish(&host, &is_new) == 0);
    CHECK(!is_new);
    CHECK(requests() == before);
    CHECK(facts().phase == CHECKPOINT_NONE);
    CHECK(facts().published_time_ns == 1000);
    end();
}

TEST("without a checkpoint, or before all of it is there, there is no image")
{
    uint64_t before, count;
    bool is_new;

    NEED(begin());
    CHECK(upload_host_publish(&host, &is_new) == -ENOENT);
    NEED(write_page(0, 1) && write_page(CHUNK, 2));
    NEED(upload_host_checkpoint(&host, 1000) == 0);
    NEED(upload_host_upload(&host, LEASE_CHECKPOINT, 1, &count) == 0);
    CHECK(count == 1 && host.completed == 0);
    before = requests();
    CHECK(upload_host_publish(&host, &is_new) == -EAGAIN);
    CHECK(requests() == before);
    CHECK(facts().phase == CHECKPOINT_OPEN);
    NEED(upload_host_upload(&host, LEASE_CHECKPOINT, UINT64_MAX, &count) == 0);
    CHECK(count == 1 && host.completed == 1);
    NEED(upload_host_publish(&host, &is_new) == 0);
    CHECK(is_elsewhere("elsewhere"));
    end();
}

TEST("whichever request fails, or loses its answer, the next try publishes")
{
    static const enum store_call calls[] = {STORE_PUT, STORE_GET, STORE_LIST};
    static const enum store_fault faults[] = {STORE_FAILS, STORE_FAILS_AFTER};
    uint64_t time_ns = 1000, failed = 0;

    NEED(begin());
    for (unsigned i = 0; i < 3 * 2; i++) {
        for (unsigned nth = 1; nth < 8; nth++) {
            enum store_call call = calls[i / 2];
            bool is_new, is_kill = nth % 2 == 0;
            uint64_t made;
            int error;

            NEED(write_page(nth * CHUNK, ++time_ns) && make_ready(time_ns));
            made = fault_store_count(fault, call);
            fault_store_plan(fault, call, nth, 1, faults[i % 2], -ETIMEDOUT);
            error = upload_host_publish(&host, &is_new);
            made = fault_store_count(fault, call) - made;
            fault_store_clear(fault);
            if (error != 0) {
                CHECK(error == -ETIMEDOUT || error == -EIO);
                failed++;
                if (is_kill)
                    NEED(upload_host_crash(&host) == 0);
                /* That may have found that it had been published. */
                if (facts().phase == CHECKPOINT_OPEN)
                    NEED(upload_host_publish(&host, &is_new) == 0);
            }
            CHECK(facts().phase == CHECKPOINT_NONE);
            CHECK(facts().published_time_ns == time_ns);
            if (made < nth)
                break;
        }
    }
    CHECK(failed >= 6);
    CHECK(is_elsewhere("elsewhere"));
    end();
}

/* Spoil what the first block of a chunk is stored as. */
static bool spoil_first_block(uint64_t chunk)
{
    char path[PATH_MAX];
    unsigned char bytes[16];
    int fd;
    bool is_ok;

    fixture_chunk_path(&host.fixture, chunk, path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    is_ok = CHECK(fd >= 0) &&
            CHECK(pread(fd, bytes, sizeof(bytes),
                        chunk_file_data_start(CHUNK)) == sizeof(bytes));
    bytes[5] ^= 0x40;
    is_ok =
        is_ok && CHECK(pwrite(fd, bytes, sizeof(bytes),
                              chunk_file_data_start(CHUNK)) == sizeof(bytes));
    (void)close(fd);
    return is_ok;
}

TEST("what was lost is an error elsewhere too, until it is overwritten")
{
    struct upload_host other = {.completed = 0};
    unsigned char page[PAGE];
    char dir[PATH_MAX];

    NEED(begin());
    for (unsigned i = 0; i < 8; i++)
        NEED(write_page(i * PAGE, 10 + i));
    NEED(upload_host_checkpoint(&host, 1000) == 0 && spoil_first_block(0));
    NEED(upload_host_finish(&host, 0) == 0);

    (void)snprintf(dir, sizeof(dir), "%s/elsewhere", test_dir());
    NEED(mkdir(dir, 0700) == 0);
    fixture_begin(&other.fixture, dir, false);
    other.fixture.options.store = store;
    other.fixture.options.attach = DEVICE_ATTACH_TAKEOVER;
    NEED(upload_host_open(&other) == 0);
    CHECK(fixture_read(&other.fixture, PAGE, page, PAGE) == -EIO);
    CHECK(fixture_read(&other.fixture, 4 * PAGE, page, PAGE) == 0);
    CHECK(memcmp(page, model + 4 * PAGE, PAGE) == 0);

    /* Also where a new file does not know what it lies over. */
    NEED(upload_host_evict(&other, 1, EVICT_FILE) == 0);
    NEED(upload_host_close(&other) == 0 && upload_host_open(&other) == 0);
    NEED(fixture_write(&other.fixture, 2 * PAGE, model + 2 * PAGE, PAGE, 0) ==
         0);
    NEED(device_destage(other.fixture.device) == 0);
    CHECK(fixture_read(&other.fixture, 2 * PAGE, page, PAGE) == 0);
    CHECK(memcmp(page, model + 2 * PAGE, PAGE) == 0);
    CHECK(fixture_read(&other.fixture, PAGE, page, PAGE) == -EIO);
    CHECK(fixture_read(&other.fixture, 3 * PAGE, page, PAGE) == -EIO);
    NEED(upload_host_finish(&other, 2000) == 0);
    CHECK(fixture_read(&other.fixture, PAGE, page, PAGE) == -EIO);
    NEED(fixture_write(&other.fixture, 0, model, 4 * PAGE, 0) == 0);
    NEED(upload_host_finish(&other, 3000) == 0);
    NEED(upload_host_read(&other, content) == 0);
    CHECK(memcmp(content, model, SIZE) == 0);
    CHECK(upload_host_close(&other) == 0);
    other.fixture.options.store = NULL;
    fixture_end(&other.fixture);
    CHECK(is_elsewhere("again"));
    end();
}

TEST("nights too short for what changes still make images, and room")
{
    enum { NIGHTS = 24, A_NIGHT = 6, ALL = SIZE / CHUNK };
    static unsigned char cut[SIZE];
    uint64_t images = 0, evicted = 0, quiet[ALL / 2];

    NEED(begin());
    for (uint64_t i = 0; i < ALL / 2; i++)
        quiet[i] = 2 * i + 1;
    for (uint64_t night = 1; night <= NIGHTS; night++) {
        struct device_status before, after;
        uint64_t count;
        bool is_new;
        int error;

        /* By day half of it changes, and now and then all. */
        for (uint64_t chunk = 0; chunk < ALL; chunk++) {
            if (chunk % 2 == 0 || night % 8 == 1)
                NEED(write_page(chunk * CHUNK + night % 8 * PAGE,
                                night * ALL + chunk));
        }
        if (facts().phase == CHECKPOINT_NONE) {
            NEED(upload_host_checkpoint(&host, night) == 0);
            memcpy(cut, model, SIZE);
        }
        NEED(upload_host_upload(&host, LEASE_CHECKPOINT, A_NIGHT, &count) == 0);
        CHECK(count > 0);
        error = upload_host_publish(&host, &is_new);
        CHECK(error == 0 || error == -EAGAIN);
        images += error == 0;
        /* What does not change any more can go, image or not. */
        NEED(device_destage(host.fixture.device) == 0);
        NEED(leases_set_candidates(host.leases, 0, 100, quiet, ALL / 2) == 0);
        NEED(upload_host_upload(&host, LEASE_EVICTION, A_NIGHT / 2, &count) ==
             0);
        before = fixture_status(&host.fixture);
        NEED(upload_host_evict(&host, night, EVICT_BLOCKS) == 0);
        after = fixture_status(&host.fixture);
        evicted += before.cache_used - after.cache_used;
    }
    CHECK(images >= 2 && images < NIGHTS / 2);
    CHECK(evicted > 0);
    NEED(upload_host_read(&host, content) == 0);
    CHECK(memcmp(content, model, SIZE) == 0);

    /* The last one, which took many nights, is as it was at its cut. */
    if (facts().phase == CHECKPOINT_NONE) {
        NEED(upload_host_checkpoint(&host, 1000) == 0);
        memcpy(cut, model, SIZE);
        NEED(write_page(0, 77777));
    }
    NEED(upload_host_finish(&host, 0) == 0);
    memcpy(model, cut, SIZE);
    CHECK(is_elsewhere("elsewhere"));
    end();
}

TEST("who lost the device publishes nothing, and keeps what it has")
{
    bool is_new;

    NEED(begin());
    NEED(write_page(0, 1) && make_ready(1000));
    NEED(upload_host_publish(&host, &is_new) == 0);
    NEED(is_elsewhere("elsewhere"));
    NEED(write_page(PAGE, 2));
    NEED(make_ready(2000));
    CHECK(upload_host_publish(&host, &is_new) == -ESTALE);
    CHECK(claim_state(host.claim) == CLAIM_FENCED);
    CHECK(facts().phase == CHECKPOINT_OPEN);
    NEED(upload_host_read(&host, content) == 0);
    CHECK(memcmp(content, model, SIZE) == 0);
    CHECK(fixture_write(&host.fixture, 0, model, PAGE, 0) == -EIO);
    end();
}
