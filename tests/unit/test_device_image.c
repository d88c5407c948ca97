/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/device_image.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cache/geometry.h"
#include "cache/snapshot.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/upload_host.h"
#include "unit/test.h"

enum { CHUNK = 256 << 10, CHUNKS = 8, SIZE = CHUNKS * CHUNK };

static struct upload_host writer, reader;
static struct fault_store *fault;
static unsigned char data[CHUNK], got[CHUNK];

static bool begin_host(struct upload_host *host, const char *name)
{
    char dir[2 * PATH_MAX];

    memset(host, 0, sizeof(*host));
    (void)snprintf(dir, sizeof(dir), "%s/%s", test_dir(), name);
    if (mkdir(dir, 0700) != 0)
        return false;
    fixture_begin(&host->fixture, dir, false);
    host->fixture.options.name = name;
    host->fixture.options.size = SIZE;
    host->fixture.options.store = fault_store_of(fault);
    host->fixture.options.read_back_ns = 1;
    return true;
}

static bool put(uint64_t chunk, uint64_t seed)
{
    fixture_fill(data, CHUNK, seed);
    return fixture_write(&writer.fixture, chunk * CHUNK, data, CHUNK, 0) == 0;
}

static bool reads(uint64_t chunk, uint64_t seed)
{
    memset(data, 0, CHUNK);
    if (seed != 0)
        fixture_fill(data, CHUNK, seed);
    return fixture_read(&reader.fixture, chunk * CHUNK, got, CHUNK) == 0 &&
           memcmp(got, data, CHUNK) == 0;
}

/* Give the newest image of the writer's device a name. */
static bool snapshot(const char *name)
{
    struct epoch_record content;

    return claim_content(writer.claim, &content) == 0 &&
           snapshot_create(fault_store_of(fault), "disk", name, &content) == 0;
}

/* A device with chunk 0 of content 1, as snapshot "one", which went on. */
static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    fault = fault_store_new(memory_store_new());
    if (!begin_host(&writer, "disk") || !begin_host(&reader, "drill"))
        return false;
    reader.fixture.options.image_device = "disk";
    reader.fixture.options.image_name = "one";
    return upload_host_open(&writer) == 0 && put(0, 1) &&
           upload_host_finish(&writer, 100) == 0 && snapshot("one") &&
           put(0, 2) && put(1, 3) && upload_host_finish(&writer, 200) == 0 &&
           snapshot("two");
}

static void end(void)
{
    struct object_store *store = fault_store_of(fault);

    (void)upload_host_close(&writer);
    (void)fixture_close(&reader.fixture);
    writer.fixture.options.store = reader.fixture.options.store = NULL;
    fixture_end(&writer.fixture);
    fixture_end(&reader.fixture);
    store->close(store);
    fault_reset();
    test_dir_remove();
}

TEST("an image is what the snapshot holds, while the device goes on elsewhere")
{
    uint64_t puts;

    NEED(begin());
    puts = fault_store_count(fault, STORE_PUT);
    NEED(fixture_open(&reader.fixture) == 0);
    CHECK(device_is_read_only(reader.fixture.device));
    CHECK(reads(0, 1) && reads(1, 0));
    CHECK(fault_store_count(fault, STORE_PUT) == puts);
    CHECK(put(0, 4) && upload_host_finish(&writer, 300) == 0);
    CHECK(reads(0, 1) && reads(1, 0));
    end();
}

TEST("an image that is here is opened again, also without an answer")
{
    NEED(begin());
    NEED(fixture_open(&reader.fixture) == 0 && reads(0, 1));
    NEED(fixture_close(&reader.fixture) == 0);
    NEED(fixture_open(&reader.fixture) == 0);
    CHECK(reads(0, 1));
    NEED(fixture_close(&reader.fixture) == 0);
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -ETIMEDOUT);
    NEED(fixture_open(&reader.fixture) == 0);
    CHECK(reads(1, 0));
    end();
}

TEST("without an answer, or without the snapshot, nothing is begun")
{
    NEED(begin());
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -ETIMEDOUT);
    CHECK(fixture_open(&reader.fixture) == -EHOSTDOWN);
    fault_store_clear(fault);
    reader.fixture.options.image_name = "three";
    CHECK(fixture_open(&reader.fixture) == -ENXIO);
    reader.fixture.options.image_name = "one";
    CHECK(fixture_open(&reader.fixture) == 0);
    CHECK(reads(0, 1));
    end();
}

TEST("a directory belongs to one image for good, and a device's to none")
{
    NEED(begin());
    NEED(fixture_open(&reader.fixture) == 0 && reads(0, 1));
    NEED(fixture_close(&reader.fixture) == 0);
    reader.fixture.options.image_name = "two";
    CHECK(fixture_open(&reader.fixture) == -ENXIO);
    reader.fixture.options.image_name = "one";
    CHECK(fixture_open(&reader.fixture) == 0);
    CHECK(reads(0, 1));

    NEED(upload_host_close(&writer) == 0);
    writer.fixture.options.image_device = "disk";
    writer.fixture.options.image_name = "two";
    CHECK(fixture_open(&writer.fixture) == -ENXIO);
    writer.fixture.options.image_device = NULL;
    CHECK(upload_host_open(&writer) == 0);
    end();
}

TEST("a device that is smaller, or has other chunks, cannot show the image")
{
    NEED(begin());
    reader.fixture.options.size = SIZE - CHUNK;
    CHECK(fixture_open(&reader.fixture) == -EINVAL);
    reader.fixture.options.size = SIZE;
    reader.fixture.options.chunk_size = 2 * CHUNK;
    CHECK(fixture_open(&reader.fixture) == -EINVAL);
    end();
}
