/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache_dir.h"
#include "cache/catalog.h"
#include "cache/chunk_reader.h"
#include "cache/fetch.h"
#include "cache/geometry.h"
#include "cache/image.h"
#include "cache/scrub_place.h"
#include "cache/snapshot.h"
#include "support/fault_store.h"
#include "support/lying_store.h"
#include "support/memory_store.h"
#include "support/upload_host.h"
#include "unit/test.h"

enum { CHUNK = 256 << 10, BLOCKS = CHUNK / CACHE_BLOCK, CHUNKS = 4 };

static struct upload_host host;
static struct fault_store *fault;
static struct scrub *scrub;
static struct scrub_request request;
static struct scrub_result result;
static char text[1 << 16]; /* what all steps said */
static uint64_t bad, repaired;
static unsigned char plain[CHUNKS][CHUNK], back[CHUNK];
static uint64_t now_ns; /* of the next checkpoint */
static unsigned waits;  /* that are left before the device is closed */
static bool has_turn;

/* ---- a device whose image is in the bucket, and which is scrubbed ---------
 */

static int content(void *context, struct epoch_record *ret_record)
{
    (void)context;
    return claim_content(host.claim, ret_record);
}

static int begin_turn(void *context)
{
    (void)context;
    CHECK(!has_turn);
    has_turn = true;
    return 0;
}

static void end_turn(void *context)
{
    (void)context;
    CHECK(has_turn);
    has_turn = false;
}

static int be_claimed(void *context)
{
    (void)context;
    CHECK(has_turn);
    return claim_take(host.claim);
}

static int wait_for(void *context, uint64_t ns)
{
    (void)context;
    (void)ns;
    if (waits == 0)
        return -ECANCELED;
    waits--;
    return 0;
}

static bool open_scrub(void)
{
    const struct scrub_options options = {
        .device = host.fixture.device,
        .store = host.fixture.options.store,
        .content = content,
        .begin = begin_turn,
        .end = end_turn,
        .claim = be_claimed,
        .wait = wait_for,
    };

    return CHECK(scrub_new(&options, &scrub) == 0);
}

static bool publish(void)
{
    now_ns += 1000;
    return CHECK(upload_host_finish(&host, now_ns) == 0);
}

/* A device over that store, with all its chunks here and in an image. */
static bool begin_in(const char *dir, struct object_store *store)
{
    memset(&host, 0, sizeof(host));
    fixture_begin(&host.fixture, dir, false);
    host.fixture.options.store = store;
    host.fixture.options.size = (uint64_t)CHUNKS * CHUNK;
    request = (struct scrub_request){.sample = 100};
    waits = UINT32_MAX;
    now_ns = 1000;
    if (!CHECK(upload_host_open(&host) == 0))
        return false;
    for (unsigned i = 0; i < CHUNKS; i++) {
        fixture_fill(plain[i], CHUNK, 1 + i);
        if (!CHECK(fixture_write(&host.fixture, (uint64_t)i * CHUNK, plain[i],
                                 CHUNK, 0) == 0))
            return false;
    }
    return publish() && open_scrub();
}

static bool begin(void)
{
    fault = fault_store_new(memory_store_new());
    return begin_in(test_dir(), fault_store_of(fault));
}

static void end(void)
{
    scrub_free(scrub);
    scrub = NULL;
    CHECK(upload_host_close(&host) == 0);
    fixture_end(&host.fixture);
}

/* Start the programs anew: nothing is left in memory. */
static bool restart(void)
{
    scrub_free(scrub);
    scrub = NULL;
    return CHECK(upload_host_close(&host) == 0) &&
           CHECK(upload_host_open(&host) == 0) && open_scrub();
}

/* Scrub to the end, or to an error, which is returned. */
static int scrub_all(void)
{
    int error;

    bad = repaired = 0;
    text[0] = '\0';
    do {
        error = scrub_step(scrub, &request, &result);
        if (error != 0)
            break;
        bad += result.bad;
        repaired += result.repaired;
        if (result.text != NULL)
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                           "%s", result.text);
        free(result.text);
        request.restart = false;
    } while (!result.is_done);
    return error;
}

static bool finds_nothing(void)
{
    bool is_well = scrub_all() == 0 && bad == 0;

    if (!is_well)
        printf("# %" PRIu64 " bad: %s\n", bad, text);
    return is_well;
}

/* Whether the scrub said that. */
static bool said(const char *what)
{
    bool is_there = strstr(text, what) != NULL;

    if (!is_there)
        printf("# '%s' is not in: %s\n", what, text);
    return is_there;
}

/* ---- doing harm ---------------------------------------------------------- */

/* The newest object of a chunk, by the catalog. */
static struct chunk_object object_of(uint64_t chunk)
{
    struct catalog_entry entry;

    catalog_get(device_catalog(host.fixture.device), chunk, &entry);
    CHECK(entry.objects_count > 0);
    return entry.objects[entry.objects_count > 0 ? entry.objects_count - 1 : 0];
}

static void key_of(uint64_t chunk, char key[FETCH_KEY_MAX])
{
    struct chunk_object object = object_of(chunk);

    fetch_object_key("disk", chunk, &object.id, key);
}

static void delete_object(uint64_t chunk)
{
    struct object_store *store = host.fixture.options.store;
    char key[FETCH_KEY_MAX];

    key_of(chunk, key);
    CHECK(object_delete_one(store, key) == 0);
}

/* Change a byte of what has that key; or cut it there. */
static void spoil_key(const char *key, uint64_t at, bool cut)
{
    struct object_store *store = host.fixture.options.store;
    struct object_info info = {.size = 0};
    unsigned char *data;

    CHECK(store->head(store, key, &info) == 0 && at < info.size);
    data = malloc(info.size);
    if (!CHECK(data != NULL))
        return;
    CHECK(store->get(store, key, 0, data, info.size, OBJECT_BACKGROUND) == 0);
    data[at] ^= 0x10;
    CHECK(object_delete_one(store, key) == 0);
    CHECK(store->put(store, key, data, cut ? at : info.size, false) == 0);
    free(data);
}

/* The table that rules in a chunk's file. */
static struct chunk_table *table_of(uint64_t chunk)
{
    struct chunk_table *table = NULL;
    struct chunk_file *file = NULL;

    CHECK(chunk_reader_open_file(device_reader(host.fixture.device), chunk,
                                 &file, &table) == 0);
    chunk_file_release(file);
    return table;
}

/* Spoil a block of a chunk in the newest object. */
static void spoil_object(uint64_t chunk, uint32_t block)
{
    struct chunk_table *table = table_of(chunk);
    char key[FETCH_KEY_MAX];

    if (table == NULL || !CHECK(table->blocks[block].base == BASE_OBJECT))
        return;
    key_of(chunk, key);
    spoil_key(key, table->blocks[block].object_place + 5, false);
    chunk_table_release(table);
}

static void spoil_file(uint64_t chunk, uint64_t at)
{
    char path[PATH_MAX];
    unsigned char byte = 0;
    int fd;

    fixture_chunk_path(&host.fixture, chunk, path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= 0x10;
    CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1);
    (void)close(fd);
}

/* Spoil a block of a chunk in its file, or its table. */
static void spoil_copy(uint64_t chunk, uint32_t block)
{
    struct chunk_table *table = table_of(chunk);

    if (table == NULL || !CHECK(table->blocks[block].local_pages != 0))
        return;
    spoil_file(chunk, table->blocks[block].place + 5);
    chunk_table_release(table);
}

static void spoil_table(uint64_t chunk)
{
    struct chunk_table *table = table_of(chunk);

    if (table == NULL)
        return;
    spoil_file(chunk, table->slot * chunk_table_encoded_max(CHUNK) + 50);
    chunk_table_release(table);
}

static void evict(uint64_t chunk, enum evict_depth depth)
{
    uint64_t freed;

    CHECK(device_evict(host.fixture.device, &chunk, 1, depth, &freed) == 0);
    CHECK(freed > 0);
}

static bool write_block(uint64_t chunk, uint32_t block, uint64_t seed)
{
    unsigned char *at = plain[chunk] + (size_t)block * CACHE_BLOCK;

    fixture_fill(at, CACHE_BLOCK, seed);
    return CHECK(fixture_write(&host.fixture,
                               chunk * CHUNK + (uint64_t)block * CACHE_BLOCK,
                               at, CACHE_BLOCK, 0) == 0) &&
           CHECK(device_destage(host.fixture.device) == 0);
}

/* ---- and looking what has become of it ----------------------------------- */

static int read_chunk(uint64_t chunk)
{
    return fixture_read(&host.fixture, chunk * CHUNK, back, CHUNK);
}

static bool reads_well(uint64_t chunk)
{
    return read_chunk(chunk) == 0 && memcmp(back, plain[chunk], CHUNK) == 0;
}

/* Whether all chunks can be read from the bucket alone. */
static bool bucket_has_all(void)
{
    uint64_t chunks[CHUNKS], freed;
    bool has_all = true;

    for (uint64_t i = 0; i < CHUNKS; i++)
        chunks[i] = i;
    CHECK(device_evict(host.fixture.device, chunks, CHUNKS, EVICT_FILE,
                       &freed) == 0);
    if (!restart())
        return false;
    for (uint64_t i = 0; i < CHUNKS; i++)
        has_all = has_all && reads_well(i);
    return has_all;
}

/* ---- tests ----------------------------------------------------------------
 */

TEST("of a sound device all is read, and nothing is bad")
{
    struct scrub_place place;

    if (!begin())
        return;
    CHECK(finds_nothing());
    CHECK(result.position == CHUNKS && result.chunks == CHUNKS);
    CHECK(result.objects == CHUNKS);
    /* Each block here and there. */
    CHECK(result.blocks == (uint64_t)2 * CHUNKS * BLOCKS);
    CHECK(scrub_place_load(cache_dir_fd(device_cache_dir(host.fixture.device)),
                           &place) == -ENOENT);
    end();
}

TEST("a block that is bad in an object and good here is uploaded again")
{
    char key[FETCH_KEY_MAX], before[FETCH_KEY_MAX];

    if (!begin())
        return;
    spoil_object(2, 7);
    key_of(2, before);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 1);
    CHECK(said("chunk 0000000000000002: object disk/chunk/"));
    CHECK(said(before) && said("is damaged: blocks 7\n"));
    CHECK(said("image 2 of disk needs it"));
    CHECK(said("will be uploaded again, for the next image: blocks 7\n"));
    CHECK(publish());
    key_of(2, key);
    CHECK(strcmp(key, before) != 0);
    CHECK(finds_nothing());
    CHECK(bucket_has_all());
    end();
}

TEST("what was to be uploaded again still is after a power cut")
{
    if (!begin())
        return;
    spoil_object(2, 7);
    CHECK(scrub_all() == 0 && repaired == 1);
    scrub_free(scrub);
    scrub = NULL;
    CHECK(upload_host_crash(&host) == 0);
    CHECK(fixture_status(&host.fixture).dirty_chunks == 1);
    CHECK(fixture_status(&host.fixture).unpublished_since_ns != 0);
    if (open_scrub() && publish()) {
        CHECK(finds_nothing());
        CHECK(bucket_has_all());
    }
    end();
}

TEST("an object that is missing is made anew from what is here")
{
    if (!begin())
        return;
    delete_object(1);
    CHECK(scrub_all() == 0);
    /* Its table, too. */
    CHECK(bad == 1 + BLOCKS && repaired == bad);
    CHECK(said("is missing: its table, blocks 0-15\n"));
    CHECK(publish());
    CHECK(finds_nothing());
    CHECK(bucket_has_all());
    end();
}

TEST("an object that was cut, or whose table is bad, is made anew too")
{
    char key[FETCH_KEY_MAX];

    if (!begin())
        return;
    key_of(0, key);
    spoil_key(key, object_of(0).table_size + (uint64_t)3 * CACHE_BLOCK, true);
    key_of(3, key);
    spoil_key(key, 100, false);
    CHECK(scrub_all() == 0);
    CHECK(bad > 1 && repaired == bad);
    CHECK(said("is too short: blocks "));
    CHECK(said("is damaged: its table\n"));
    CHECK(publish());
    CHECK(finds_nothing());
    CHECK(bucket_has_all());
    end();
}

TEST("what has no good copy is told, and an error to readers, never zeros")
{
    if (!begin())
        return;
    evict(1, EVICT_BLOCKS);
    evict(3, EVICT_FILE);
    delete_object(1);
    delete_object(3);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 + BLOCKS + 1 && repaired == 0);
    CHECK(said("chunk 0000000000000001: no good copy is left, an error until"
               " it is written again: the object's table, blocks 0-15\n"));
    CHECK(said("chunk 0000000000000003: no good copy is left, an error until"
               " it is written again: the object's table\n"));
    CHECK(read_chunk(1) == -EIO);
    CHECK(read_chunk(3) == -EIO);
    CHECK(reads_well(0) && reads_well(2));
    end();
}

TEST("of what is bad in the bucket, content that was written since is no loss")
{
    if (!begin())
        return;
    spoil_object(1, 4);
    CHECK(write_block(1, 4, 77));
    CHECK(fixture_trim(&host.fixture, (uint64_t)2 * CHUNK, CHUNK) == 0);
    CHECK(device_destage(host.fixture.device) == 0);
    memset(plain[2], 0, CHUNK);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 1);
    CHECK(said("other content by now, which the next image will have:"
               " blocks 4\n"));
    CHECK(publish());
    CHECK(finds_nothing());
    CHECK(bucket_has_all());
    end();
}

TEST("a bad object of what was trimmed since is no loss")
{
    if (!begin())
        return;
    spoil_object(2, 5);
    delete_object(3);
    for (uint64_t i = 2; i < 4; i++)
        CHECK(fixture_trim(&host.fixture, i * CHUNK, CHUNK) == 0);
    CHECK(device_destage(host.fixture.device) == 0);
    CHECK(scrub_all() == 0);
    CHECK(bad == 2 && repaired == 2);
    CHECK(said("other content by now, which the next image will have:"
               " blocks 5\n"));
    CHECK(publish());
    CHECK(finds_nothing());
    end();
}

TEST("a bad object of what was written anew since is no loss")
{
    if (!begin())
        return;
    spoil_object(2, 5);
    spoil_object(3, 15);
    for (uint64_t i = 2; i < 4; i++) {
        fixture_fill(plain[i], CHUNK, 90 + i);
        CHECK(fixture_write(&host.fixture, i * CHUNK, plain[i], CHUNK, 0) == 0);
    }
    CHECK(device_destage(host.fixture.device) == 0);
    CHECK(scrub_all() == 0);
    CHECK(bad == 2 && repaired == 2);
    CHECK(publish());
    CHECK(finds_nothing());
    CHECK(bucket_has_all());
    end();
}

TEST("a block that is bad here and good in the bucket is taken from there")
{
    if (!begin())
        return;
    spoil_copy(1, 9);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 1);
    CHECK(said("chunk 0000000000000001: damaged in its file: blocks 9\n"));
    CHECK(said("taken from the bucket from now on: blocks 9\n"));
    /* Nothing is to be uploaded for that. */
    CHECK(fixture_status(&host.fixture).dirty_chunks == 0);
    CHECK(finds_nothing());
    CHECK(restart() && reads_well(1));
    end();
}

TEST("a block that is bad both here and in the bucket is lost")
{
    if (!begin())
        return;
    spoil_object(1, 9);
    spoil_copy(1, 9);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 0);
    CHECK(said("no good copy is left"));
    CHECK(restart() && read_chunk(1) == -EIO);
    end();
}

TEST("a block that is bad here and nowhere else is lost")
{
    if (!begin())
        return;
    CHECK(write_block(1, 9, 78));
    spoil_copy(1, 9);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 0);
    CHECK(said("damaged in its file: blocks 9\n"));
    CHECK(restart() && read_chunk(1) == -EIO);
    /* Until it is written again. */
    CHECK(write_block(1, 9, 79));
    CHECK(finds_nothing());
    CHECK(reads_well(1));
    end();
}

TEST("a file with a damaged table goes if all of it is in the bucket")
{
    char path[PATH_MAX];

    if (!begin())
        return;
    spoil_table(2);
    CHECK(restart());
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 1);
    CHECK(said("chunk 0000000000000002: the table of its file is damaged\n"));
    CHECK(said("taken from the bucket from now on: its file\n"));
    fixture_chunk_path(&host.fixture, 2, path);
    CHECK(access(path, F_OK) < 0);
    CHECK(finds_nothing());
    CHECK(reads_well(2));
    end();
}

TEST("a file with a damaged table stays if something is only there")
{
    char path[PATH_MAX];

    if (!begin())
        return;
    CHECK(write_block(2, 3, 80));
    spoil_table(2);
    CHECK(restart());
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 0);
    CHECK(said("no good copy is left"));
    fixture_chunk_path(&host.fixture, 2, path);
    CHECK(access(path, F_OK) == 0);
    CHECK(read_chunk(2) == -EIO);
    end();
}

TEST("a file with a damaged table stays while its object is bad")
{
    char path[PATH_MAX];

    if (!begin())
        return;
    spoil_object(2, 3);
    spoil_table(2);
    CHECK(restart());
    CHECK(scrub_all() == 0);
    CHECK(bad == 2 && repaired == 0);
    fixture_chunk_path(&host.fixture, 2, path);
    CHECK(access(path, F_OK) == 0);
    end();
}

TEST("a scrub of what is here alone asks the bucket only for what is bad")
{
    uint64_t gets;

    if (!begin())
        return;
    request.is_local = true;
    delete_object(1);
    gets = fault_store_count(fault, STORE_GET);
    CHECK(finds_nothing());
    CHECK(fault_store_count(fault, STORE_GET) == gets);
    spoil_copy(2, 3);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 1);
    CHECK(reads_well(2));
    end();
}

static void clone_to(const char *name, const char *source, uint8_t seed)
{
    struct epoch_record record;
    struct clone_plan plan = {
        .store = host.fixture.options.store,
        .source = source,
        .name = name,
        .host = "host",
        .time_ns = 1,
    };

    memset(plan.device_id, seed, sizeof(plan.device_id));
    memset(plan.cachedir_id, seed + 1, sizeof(plan.cachedir_id));
    CHECK(clone_create(&plan, &record) == 0);
}

TEST("all that needs a bad object is named: images, snapshots, clones, theirs")
{
    struct epoch_record record;

    if (!begin())
        return;
    CHECK(claim_content(host.claim, &record) == 0);
    CHECK(snapshot_create(host.fixture.options.store, "disk", "first",
                          &record) == 0);
    clone_to("twin", "disk", 10);
    clone_to("grandchild", "twin", 20);
    CHECK(write_block(0, 1, 81) && publish());
    spoil_object(1, 2);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 1);
    CHECK(said("image 3 of disk needs it\n"));
    CHECK(said("image 2 of disk needs it\n"));
    CHECK(said("snapshot disk@first needs it\n"));
    CHECK(said("clone twin of disk needs it\n"));
    CHECK(said("image 1 of twin needs it\n"));
    CHECK(said("image 1 of grandchild needs it\n"));
    /* What only the newest image has does not concern them. */
    CHECK(publish() && write_block(2, 1, 82) && publish());
    delete_object(2);
    CHECK(scrub_all() == 0);
    CHECK(bad > 0 && strstr(text, "twin") == NULL);
    CHECK(strstr(text, "first") == NULL);
    end();
}

TEST("what the open checkpoint waits for is repaired by the scrub after it")
{
    if (!begin())
        return;
    CHECK(write_block(1, 1, 83));
    CHECK(upload_host_checkpoint(&host, now_ns + 500) == 0);
    spoil_object(1, 6);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 0);
    CHECK(said("the open checkpoint waits for it\n"));
    CHECK(said("cannot be repaired now: blocks 6\n"));
    CHECK(upload_host_finish(&host, 0) == 0);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 1);
    CHECK(publish());
    CHECK(finds_nothing());
    CHECK(bucket_has_all());
    end();
}

TEST("a scrub that was stopped goes on where it was, also after a restart")
{
    struct scrub_place place;
    uint64_t objects;

    if (!begin())
        return;
    waits = 5; /* two requests for a chunk */
    CHECK(scrub_step(scrub, &request, &result) == 0);
    free(result.text);
    CHECK(!result.is_done && result.position == 2);
    objects = result.objects;
    CHECK(scrub_place_load(cache_dir_fd(device_cache_dir(host.fixture.device)),
                           &place) == 0);
    CHECK(place.chunk == 2);
    /* Nothing could be done: that is an error now. */
    waits = 0;
    CHECK(scrub_step(scrub, &request, &result) == -ECANCELED);
    waits = UINT32_MAX;
    CHECK(restart());
    CHECK(finds_nothing());
    CHECK(result.objects == 2 && objects >= 2);
    end();
}

TEST("restart begins anew, and so does a scrub of another kind")
{
    if (!begin())
        return;
    waits = 5;
    CHECK(scrub_step(scrub, &request, &result) == 0 && result.position == 2);
    free(result.text);
    waits = UINT32_MAX;
    request.restart = true;
    CHECK(finds_nothing() && result.objects == CHUNKS);
    waits = 5;
    CHECK(scrub_step(scrub, &request, &result) == 0 && result.position == 2);
    free(result.text);
    request.is_local = true;
    CHECK(finds_nothing() && result.blocks == (uint64_t)CHUNKS * BLOCKS);
    end();
}

TEST("a store that does not answer is an error, and no damage")
{
    if (!begin())
        return;
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -ETIMEDOUT);
    CHECK(scrub_all() == -ETIMEDOUT);
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
    fault_store_plan(fault, STORE_HEAD, 1, 0, STORE_FAILS, -ETIMEDOUT);
    CHECK(scrub_all() == -ETIMEDOUT);
    fault_store_clear(fault);
    CHECK(fixture_status(&host.fixture).dirty_chunks == 0);
    CHECK(finds_nothing());
    end();
}

TEST("what was bad on the way only is good when it is looked at again")
{
    if (!begin())
        return;
    fault_store_plan(fault, STORE_GET, 3, 1, STORE_CORRUPTS, 0);
    CHECK(finds_nothing());
    fault_store_plan(fault, STORE_GET, 3, 1, STORE_FAILS, -ENOENT);
    CHECK(finds_nothing());
    CHECK(fixture_status(&host.fixture).dirty_chunks == 0);
    end();
}

TEST("a sample is of some blocks, and of every object and table")
{
    if (!begin())
        return;
    request.sample = 1;
    CHECK(finds_nothing());
    CHECK(result.blocks >= CHUNKS && result.blocks < CHUNKS * BLOCKS / 2);
    delete_object(3);
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 + BLOCKS && repaired == bad);
    end();
}

TEST("a page of the image that is bad is told, and all else is looked at")
{
    struct epoch_record record;
    struct image *image;
    char key[IMAGE_KEY_MAX];
    const struct manifest_leaf_ref *leaf;

    if (!begin())
        return;
    CHECK(claim_content(host.claim, &record) == 0);
    if (!CHECK(image_open(host.fixture.options.store, "disk", &record.root,
                          &image) == 0))
        return;
    leaf = image_leaf_ref(image, 0);
    image_page_key("disk", leaf->epoch, leaf->nonce, leaf->page, key);
    image_close(image);
    spoil_key(key, 40, false);
    spoil_copy(1, 3);
    CHECK(scrub_all() == 0);
    CHECK(bad == 2 && repaired == 1);
    CHECK(said(key) && said("a page of the newest image, is damaged"));
    /* And the root. */
    image_page_key("disk", record.root.epoch, record.root.nonce,
                   record.root.page, key);
    spoil_key(key, 40, false);
    CHECK(restart());
    CHECK(scrub_all() == 0);
    CHECK(bad == 1 && repaired == 0 && said(key));
    end();
}

TEST("whatever the store says, a scrub makes nothing worse")
{
    unsigned lies = 1U << LIE_FAILS | 1U << LIE_DENIED | 1U << LIE_CHANGED |
                    1U << LIE_SHORT | 1U << LIE_EMPTY;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct lying_store *lying = lying_store_new(memory_store_new(), seed);

        char dir[PATH_MAX];

        (void)snprintf(dir, sizeof(dir), "%s/%" PRIu64, test_dir(), seed);
        CHECK(mkdir(dir, 0700) == 0);
        if (!begin_in(dir, lying_store_of(lying)))
            return;
        lying_store_tell(lying, lies, 3);
        for (unsigned i = 0; i < 5; i++)
            (void)scrub_all();
        lying_store_tell(lying, 0, 0);
        CHECK(publish());
        CHECK(finds_nothing());
        CHECK(bucket_has_all());
        end();
    }
}
