/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * Two or three hosts, each with a cache directory, and one store: every line
 * of "Who writes now", with devices that are written to.
 */
#include "cache/device_claim.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cache/claim.h"
#include "cache/geometry.h"
#include "cache/snapshot.h"
#include "cache/state_log.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/upload_host.h"
#include "unit/test.h"

enum {
    CHUNK = 256 << 10,
    CHUNKS = 8,
    SIZE = CHUNKS * CHUNK,
    HOSTS = 3,
};

static struct upload_host hosts[HOSTS];
static struct device_fixture *disks[HOSTS];
static struct fault_store *fault;
static unsigned char data[CHUNK];
static unsigned char got[CHUNK];

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fault = fault_store_new(memory_store_new());
    for (unsigned i = 0; i < HOSTS; i++) {
        char dir[PATH_MAX];

        memset(&hosts[i], 0, sizeof(hosts[i]));
        disks[i] = &hosts[i].fixture;
        if (snprintf(dir, sizeof(dir), "%s/host%u", test_dir(), i) >=
                (int)sizeof(dir) ||
            mkdir(dir, 0700) != 0)
            return false;
        fixture_begin(disks[i], dir, false);
        disks[i]->options.size = SIZE;
        disks[i]->options.store = fault_store_of(fault);
        disks[i]->options.read_back_ns = 1;
    }
    return true;
}

static void end(void)
{
    struct object_store *store = fault_store_of(fault);

    for (unsigned i = 0; i < HOSTS; i++) {
        (void)upload_host_close(&hosts[i]);
        disks[i]->options.store = NULL;
        fixture_end(disks[i]);
    }
    store->close(store);
    fault_reset();
    test_dir_remove();
}

/* Have the chunk of a host's device hold this content, and no other. */
static bool put(unsigned host, uint64_t chunk, uint64_t seed)
{
    fixture_fill(data, CHUNK, seed);
    return fixture_write(disks[host], chunk * CHUNK, data, CHUNK, 0) == 0;
}

static bool has(unsigned host, uint64_t chunk, uint64_t seed)
{
    if (seed == 0)
        memset(data, 0, CHUNK);
    else
        fixture_fill(data, CHUNK, seed);
    return fixture_read(disks[host], chunk * CHUNK, got, CHUNK) == 0 &&
           memcmp(got, data, CHUNK) == 0;
}

static bool publish(unsigned host, uint64_t time_ns)
{
    return upload_host_finish(&hosts[host], time_ns) == 0;
}

static enum claim_state state_of(unsigned host)
{
    return claim_state(device_claim(disks[host]->device));
}

static bool release(unsigned host)
{
    return claim_release(device_claim(disks[host]->device)) == 0;
}

/* Open without being an owner: nothing is claimed that need not be. */
static int open_as(unsigned host, enum device_attach attach)
{
    disks[host]->options.attach = attach;
    return fixture_open(disks[host]);
}

static int open_normally(unsigned host)
{
    return open_as(host, DEVICE_ATTACH_NORMAL);
}

static struct epoch_record newest(void)
{
    struct epoch_newest found = {.count = 0};

    CHECK(epoch_read_newest(fault_store_of(fault), "disk", 0, &found) == 0);
    CHECK(found.count == 1);
    return found.records[0];
}

/* A host that has published chunk 0 with content 1, and closed. */
static bool begin_with_image(void)
{
    return begin() && upload_host_open(&hosts[0]) == 0 && put(0, 0, 1) &&
           publish(0, 100);
}

/* A write that may have to wait: it is answered by write_done. */
struct write {
    struct device_request request;
    atomic_bool is_done;
    int error;
};

static void write_done(struct device_request *request, int error)
{
    struct write *write = request->caller;

    write->error = error;
    atomic_store(&write->is_done, true);
}

static void submit_write(unsigned host, struct write *write)
{
    struct device_request *request = &write->request;

    memset(write, 0, sizeof(*write));
    fixture_fill(data, CHUNK, 77);
    request->operation = DEVICE_WRITE;
    request->offset = (uint64_t)7 * CHUNK;
    request->length = CACHE_PAGE;
    request->data = data;
    request->done = write_done;
    request->caller = write;
    device_submit(disks[host]->device, &request, 1);
}

/* ---- the ordinary life ------------------------------------------- */

TEST("a host that crashes goes on silently, dirty or not")
{
    NEED(begin_with_image());
    CHECK(put(0, 1, 2));
    NEED(upload_host_crash(&hosts[0]) == 0);
    CHECK(has(0, 0, 1) && has(0, 1, 2) && state_of(0) == CLAIM_CLAIMED);
    CHECK(publish(0, 200));
    CHECK(upload_host_close(&hosts[0]) == 0);
    NEED(open_normally(0) == 0);
    CHECK(state_of(0) == CLAIM_OURS && has(0, 1, 2));
    end();
}

TEST("a clean move: released here, attached there, and back to a cache that "
     "is stale")
{
    NEED(begin_with_image());
    CHECK(put(0, 1, 2) && publish(0, 200) && release(0));
    CHECK(upload_host_close(&hosts[0]) == 0);

    NEED(upload_host_open(&hosts[1]) == 0);
    CHECK(has(1, 0, 1) && has(1, 1, 2) && has(1, 2, 0));
    CHECK(put(1, 1, 3) && put(1, 2, 4));
    CHECK(fixture_trim(disks[1], 0, CHUNK) == 0);
    CHECK(publish(1, 300) && release(1));
    CHECK(upload_host_close(&hosts[1]) == 0);

    NEED(upload_host_open(&hosts[0]) == 0);
    CHECK(has(0, 0, 0) && has(0, 1, 3) && has(0, 2, 4));
    CHECK(put(0, 3, 5) && publish(0, 400));
    NEED(upload_host_crash(&hosts[0]) == 0);
    CHECK(has(0, 0, 0) && has(0, 1, 3) && has(0, 2, 4) && has(0, 3, 5));
    end();
}

TEST("what is the same in cache and image is not fetched again")
{
    uint64_t gets;

    NEED(begin_with_image());
    CHECK(put(0, 1, 2) && publish(0, 200) && release(0));
    CHECK(upload_host_close(&hosts[0]) == 0);
    NEED(upload_host_open(&hosts[1]) == 0);
    CHECK(put(1, 1, 3) && publish(1, 300) && release(1));
    CHECK(upload_host_close(&hosts[1]) == 0);
    NEED(upload_host_open(&hosts[0]) == 0);
    gets = fault_store_count(fault, STORE_GET);
    CHECK(has(0, 0, 1));
    CHECK(fault_store_count(fault, STORE_GET) == gets);
    CHECK(has(0, 1, 3));
    CHECK(fault_store_count(fault, STORE_GET) > gets);
    end();
}

TEST("after a release a write waits until the device is claimed; reads do not")
{
    struct write write;

    NEED(begin_with_image());
    CHECK(release(0) && upload_host_close(&hosts[0]) == 0);
    NEED(open_normally(0) == 0);
    CHECK(state_of(0) == CLAIM_RELEASED && has(0, 0, 1));
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_WAIT);
    submit_write(0, &write);
    CHECK(fixture_flush(disks[0]) == 0);
    CHECK(!atomic_load(&write.is_done));
    CHECK(claim_take(device_claim(disks[0]->device)) == 0);
    CHECK(fixture_flush(disks[0]) == 0);
    while (!atomic_load(&write.is_done)) /* the one that waits is awake */
        (void)usleep(1000);
    CHECK(write.error == 0 && newest().kind == EPOCH_CLAIM);
    end();
}

TEST("what is dirty is not released")
{
    NEED(begin_with_image());
    CHECK(put(0, 1, 2));
    CHECK(claim_release(device_claim(disks[0]->device)) == -EBUSY);
    CHECK(device_destage(disks[0]->device) == 0);
    CHECK(claim_release(device_claim(disks[0]->device)) == -EBUSY);
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_OPEN);
    CHECK(put(0, 2, 3) && publish(0, 200) && release(0));
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_WAIT);
    end();
}

/* ---- another has it ---------------------------------------------- */

TEST("a cache disk that was not mounted at boot is not a lost host, and "
     "nothing is made below its mount point")
{
    char path[PATH_MAX + 16];
    struct stat status;

    NEED(begin_with_image());
    CHECK(upload_host_close(&hosts[0]) == 0);
    CHECK(open_normally(1) == -ENXIO);
    CHECK(open_normally(1) == -ENXIO);
    (void)snprintf(path, sizeof(path), "%s/superblock", disks[1]->cachedir);
    CHECK(stat(path, &status) != 0);
    (void)snprintf(path, sizeof(path), "%s/journal", disks[1]->cachedir);
    CHECK(stat(path, &status) != 0);
    CHECK(newest().kind == EPOCH_IMAGE);
    NEED(upload_host_open(&hosts[0]) == 0);
    CHECK(has(0, 0, 1));
    end();
}

TEST("a lost host is taken over, its image kept by a name, and when it comes "
     "back it is fenced; what it had is given up by discard")
{
    struct snapshot snapshot;
    uint64_t epoch;

    NEED(begin_with_image());
    epoch = newest().epoch;
    CHECK(put(0, 1, 2)); /* in no image */
    NEED(open_as(1, DEVICE_ATTACH_TAKEOVER) == 0);
    CHECK(state_of(1) == CLAIM_CLAIMED);
    CHECK(has(1, 0, 1) && has(1, 1, 0));
    CHECK(snapshot_find(fault_store_of(fault), "disk", "takeover-2",
                        &snapshot) == 0);
    CHECK(epoch == 2 && snapshot.record.epoch == epoch);
    CHECK(fixture_close(disks[1]) == 0);
    NEED(upload_host_open(&hosts[1]) != -ENXIO);
    CHECK(put(1, 1, 3) && publish(1, 300));

    CHECK(claim_watch(hosts[0].claim, true) == -ESTALE);
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_FENCED);
    CHECK(!put(0, 1, 9) && fixture_flush(disks[0]) == -EIO);
    CHECK(has(0, 0, 1) && has(0, 1, 2));
    CHECK(upload_host_close(&hosts[0]) == 0);
    CHECK(open_normally(0) == -ENXIO);
    CHECK(open_as(0, DEVICE_ATTACH_TAKEOVER) == -ENXIO); /* it is dirty */
    NEED(open_as(0, DEVICE_ATTACH_DISCARD) == 0);
    CHECK(state_of(0) == CLAIM_FENCED && has(0, 1, 3));
    CHECK(!put(0, 1, 9));
    CHECK(fixture_close(disks[0]) == 0);
    CHECK(open_normally(0) == -ENXIO); /* held; but clean */
    CHECK(upload_host_close(&hosts[1]) == 0);
    NEED(open_as(0, DEVICE_ATTACH_TAKEOVER) == 0);
    CHECK(has(0, 0, 1) && has(0, 1, 3) && put(0, 4, 5));
    end();
}

TEST("a restore drill on a third host takes nothing from the second unless it "
     "is told to, and then leaves both images")
{
    struct snapshot snapshot;

    NEED(begin_with_image());
    CHECK(release(0) && upload_host_close(&hosts[0]) == 0);
    NEED(upload_host_open(&hosts[1]) == 0);
    CHECK(put(1, 1, 2) && publish(1, 200));
    CHECK(open_normally(2) == -ENXIO);
    NEED(open_as(2, DEVICE_ATTACH_TAKEOVER) == 0);
    CHECK(has(2, 0, 1) && has(2, 1, 2) && put(2, 0, 9));
    CHECK(snapshot_find(fault_store_of(fault), "disk", "takeover-5",
                        &snapshot) == 0);
    CHECK(claim_watch(hosts[1].claim, false) == -ESTALE);
    end();
}

TEST("discard makes of a device what its last image holds")
{
    NEED(begin_with_image());
    CHECK(put(0, 0, 2) && put(0, 1, 3));
    CHECK(device_destage(disks[0]->device) == 0);
    CHECK(upload_host_checkpoint(&hosts[0], 200) == 0 && put(0, 2, 4));
    CHECK(upload_host_close(&hosts[0]) == 0);
    NEED(open_as(0, DEVICE_ATTACH_DISCARD) == 0);
    CHECK(state_of(0) == CLAIM_OURS);
    CHECK(has(0, 0, 1) && has(0, 1, 0) && has(0, 2, 0));
    CHECK(put(0, 3, 5));
    disks[0]->options.attach = DEVICE_ATTACH_NORMAL;
    NEED(fixture_crash(disks[0]) == 0);
    CHECK(has(0, 0, 1));
    CHECK(has(0, 1, 0));
    CHECK(has(0, 2, 0));
    CHECK(has(0, 3, 5));
    end();
}

TEST("an old copy of a cache directory is refused, also after a release")
{
    char original[PATH_MAX];

    NEED(begin_with_image());
    memcpy(original, disks[0]->cachedir, sizeof(original));
    /* The crash goes on with a copy; the original stays behind. */
    NEED(upload_host_crash(&hosts[0]) == 0);
    CHECK(put(0, 1, 2) && publish(0, 200) && release(0));
    CHECK(upload_host_close(&hosts[0]) == 0);
    memcpy(disks[1]->cachedir, original, sizeof(original));
    CHECK(open_normally(1) == -ENXIO);
    NEED(open_as(1, DEVICE_ATTACH_TAKEOVER) == 0);
    CHECK(has(1, 0, 1) && has(1, 1, 2));
    CHECK(put(1, 2, 3));
    CHECK(open_normally(0) == -ENXIO);
    end();
}

TEST("sizes that are not those of the device in the store are refused before "
     "anything is made")
{
    NEED(begin_with_image());
    CHECK(release(0) && upload_host_close(&hosts[0]) == 0);
    disks[1]->options.chunk_size = 2 * CHUNK;
    CHECK(open_normally(1) == -EINVAL);
    disks[1]->options.chunk_size = CHUNK;
    disks[1]->options.size = SIZE / 2;
    CHECK(open_normally(1) == -EINVAL);
    disks[1]->options.size = 2 * SIZE;
    NEED(upload_host_open(&hosts[1]) == 0);
    CHECK(has(1, 0, 1) && put(1, 2 * CHUNKS - 1, 2) && publish(1, 200));
    CHECK(newest().size == 2 * SIZE);
    end();
}

/* ---- the store does not answer ----------------------------------- */

TEST("without the store at the start what is here is served, and what is "
     "written meanwhile is published later")
{
    NEED(begin_with_image());
    CHECK(upload_host_close(&hosts[0]) == 0);
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -ETIMEDOUT);
    NEED(open_normally(0) == 0);
    CHECK(state_of(0) == CLAIM_UNKNOWN && has(0, 0, 1) && put(0, 1, 2));
    CHECK(claim_take(device_claim(disks[0]->device)) == -ETIMEDOUT);
    fault_store_clear(fault);
    CHECK(claim_watch(device_claim(disks[0]->device), true) == 0);
    CHECK(state_of(0) == CLAIM_OURS);
    CHECK(fixture_close(disks[0]) == 0);
    NEED(upload_host_open(&hosts[0]) == 0);
    CHECK(has(0, 1, 2) && publish(0, 200));
    end();
}

TEST("a clone that starts without the store finds its origin when there is "
     "an answer")
{
    struct clone_plan plan = {
        .source = "disk",
        .name = "clone",
        .device_id = {1},
        .cachedir_id = {2},
        .host = "here",
    };
    struct epoch_record record;

    NEED(begin_with_image());
    plan.store = fault_store_of(fault);
    CHECK(clone_create(&plan, &record) == 0 && record.kind == EPOCH_FORK);
    disks[1]->options.name = "clone";
    NEED(open_normally(1) == 0);
    CHECK(state_of(1) == CLAIM_RELEASED && has(1, 7, 0));
    CHECK(claim_take(device_claim(disks[1]->device)) == 0);
    CHECK(fixture_close(disks[1]) == 0);
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -EIO);
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
    NEED(open_normally(1) == 0);
    CHECK(state_of(1) == CLAIM_UNKNOWN && !has(1, 0, 1));
    fault_store_clear(fault);
    CHECK(claim_watch(device_claim(disks[1]->device), false) == 0);
    CHECK(has(1, 0, 1));
    end();
}

TEST("an image that is loaded while the store fails at any call is loaded "
     "by the next start, and nothing else is served")
{
    static const enum store_call kinds[] = {STORE_LIST, STORE_GET, STORE_PUT};

    for (unsigned kind = 0; kind < 3; kind++) {
        unsigned failures = 0;

        for (uint64_t nth = 1; nth < 30; nth++) {
            int error;

            NEED(begin_with_image());
            CHECK(put(0, 5, 2) && publish(0, 200));
            fault_store_plan(fault, kinds[kind], nth, 1, STORE_FAILS, -EIO);
            error = open_as(1, DEVICE_ATTACH_TAKEOVER);
            if (error != 0) {
                failures++;
                NEED(open_as(1, DEVICE_ATTACH_TAKEOVER) == 0);
            }
            fault_store_clear(fault);
            CHECK(has(1, 0, 1) && has(1, 5, 2) && has(1, 6, 0));
            CHECK(put(1, 6, 3) && has(1, 6, 3));
            end();
            if (error == 0)
                break;
        }
        CHECK(failures > 0);
    }
}

/* ---- the process dies anywhere ------------------------------------------- */

/*
 * Host 0 was taken over while it was dirty; what becomes of a start of host 1
 * or 0 that cannot change a file any more from some call on, and of the start
 * after it?  Returns whether that call was reached.
 */
static bool die_in_start(unsigned host, enum device_attach attach,
                         unsigned long nth)
{
    struct fault_calls calls = {FAULT_ANY_CHANGE, NULL, nth};
    bool was_reached;

    if (!CHECK(begin_with_image()) || !CHECK(put(0, 5, 2)) ||
        !CHECK(publish(0, 200)) || !CHECK(put(0, 5, 9)) ||
        !CHECK(put(0, 6, 9)) || !CHECK(upload_host_close(&hosts[0]) == 0))
        return false;
    fault_fail(&calls, -EIO, true, 512);
    (void)open_as(host, attach);
    (void)fixture_close(disks[host]);
    was_reached = fault_count() >= nth;
    fault_reset();
    fault_skip_syncs(true);
    if (CHECK(open_as(host, attach) == 0)) {
        CHECK(has(host, 0, 1) && has(host, 5, 2) && has(host, 6, 0));
        CHECK(put(host, 6, 3));
        disks[host]->options.attach = DEVICE_ATTACH_NORMAL;
        CHECK(fixture_crash(disks[host]) == 0);
        CHECK(has(host, 0, 1) && has(host, 5, 2) && has(host, 6, 3));
        CHECK(state_of(host) == CLAIM_OURS && newest().kind != EPOCH_RELEASE);
    }
    end();
    return was_reached;
}

TEST("whichever change of a file is the last of a takeover, the next one is "
     "whole")
{
    unsigned long nth = 1;

    while (die_in_start(1, DEVICE_ATTACH_TAKEOVER, nth))
        nth++;
    CHECK(nth > 20);
}

TEST("whichever change of a file is the last of a discard, the next one is "
     "whole")
{
    unsigned long nth = 1;

    while (die_in_start(0, DEVICE_ATTACH_DISCARD, nth))
        nth++;
    CHECK(nth > 10);
}

/* A discard that ends early; returns whether it was begun, and must go on. */
static bool begin_discard(unsigned long nth)
{
    struct fault_calls calls = {FAULT_ANY_CHANGE, "/state/", nth};
    struct state_facts facts;

    fault_fail(&calls, -EIO, true, 512);
    (void)open_as(0, DEVICE_ATTACH_DISCARD);
    (void)fixture_close(disks[0]);
    fault_reset();
    fault_skip_syncs(true);
    disks[0]->options.read_only = true;
    CHECK(fixture_open(disks[0]) == 0);
    state_log_facts(device_state_log(disks[0]->device), &facts);
    CHECK(fixture_close(disks[0]) == 0);
    disks[0]->options.read_only = false;
    return facts.must_adopt;
}

TEST("a discard that was begun is finished by the next start, also if nobody "
     "says so again; without the image nothing is served")
{
    unsigned begun = 0;

    for (unsigned long nth = 1; nth < 30; nth++) {
        NEED(begin_with_image());
        CHECK(put(0, 0, 2) && put(0, 1, 9));
        CHECK(upload_host_close(&hosts[0]) == 0);
        if (begin_discard(nth)) {
            begun++;
            fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
            CHECK(open_normally(0) == -EIO);
            fault_store_clear(fault);
            NEED(open_normally(0) == 0);
            CHECK(has(0, 0, 1) && has(0, 1, 0));
        } else {
            NEED(open_normally(0) == 0);
            CHECK((has(0, 0, 1) && has(0, 1, 0)) ||
                  (has(0, 0, 2) && has(0, 1, 9)));
        }
        end();
    }
    CHECK(begun > 0);
}

/* Publish what the first image had. */
static bool roll_back_to(const struct epoch_record *first)
{
    struct claim_image image = {
        .root = first->root,
        .content_time_ns = first->content_time_ns,
        .chunks = first->chunks,
        .replaces_content = true,
    };

    return claim_publish(hosts[0].claim, &image) == 0;
}

TEST("a rollback that cannot be finished serves nothing; the next start does "
     "it")
{
    struct epoch_record first;

    NEED(begin_with_image());
    CHECK(claim_content(hosts[0].claim, &first) == 0);
    CHECK(put(0, 0, 2) && put(0, 1, 3) && publish(0, 200));
    device_shut(disks[0]->device, true);
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_FENCED);
    CHECK(roll_back_to(&first));
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(device_adopt_published(disks[0]->device) == -EHOSTDOWN);
    device_shut(disks[0]->device, false);
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_FENCED);
    CHECK(!has(0, 0, 2) && !has(0, 7, 0) && !put(0, 7, 1));
    NEED(upload_host_crash(&hosts[0]) == 0);
    CHECK(has(0, 0, 1) && has(0, 1, 0) && put(0, 2, 4) && publish(0, 300));
    end();
}

TEST("a rollback that is finished is the device from then on")
{
    struct epoch_record first;

    NEED(begin_with_image());
    CHECK(claim_content(hosts[0].claim, &first) == 0);
    CHECK(put(0, 0, 2) && put(0, 1, 3) && publish(0, 200));
    CHECK(roll_back_to(&first));
    CHECK(device_adopt_published(disks[0]->device) == 0);
    CHECK(has(0, 0, 1) && has(0, 1, 0) && put(0, 2, 4));
    NEED(upload_host_crash(&hosts[0]) == 0);
    CHECK(has(0, 0, 1) && has(0, 1, 0) && has(0, 2, 4) && publish(0, 300));
    CHECK(release(0) && upload_host_close(&hosts[0]) == 0);
    NEED(upload_host_open(&hosts[1]) == 0);
    CHECK(has(1, 0, 1) && has(1, 1, 0) && has(1, 2, 4));
    end();
}

/* Images of content 1 and 2 in chunk 0, and a rollback to the first of which
 * nobody knows whether it is in the bucket: the put failed so. */
static bool begin_doubtful_rollback(enum store_fault kind)
{
    struct epoch_record first;

    if (!begin_with_image() || claim_content(hosts[0].claim, &first) != 0 ||
        !put(0, 0, 2) || !publish(0, 200))
        return false;
    fault_store_plan(fault, STORE_PUT, 1, 1, kind, -ETIMEDOUT);
    return !roll_back_to(&first);
}

/* ---- incarnation -------------------------------------------------- */

static void tell_incarnation(unsigned host, char text[DEVICE_INCARNATION_SIZE])
{
    device_incarnation(disks[host]->device, text);
}

static bool is_incarnation(unsigned host, const char *text)
{
    char now[DEVICE_INCARNATION_SIZE];

    tell_incarnation(host, now);
    return strcmp(now, text) == 0;
}

TEST("a restart, and a crash of the process, leave the incarnation as it is")
{
    char first[DEVICE_INCARNATION_SIZE];

    NEED(begin_with_image());
    tell_incarnation(0, first);
    CHECK(strlen(first) == 34 && strspn(first, "0123456789abcdef") == 32);
    CHECK(strcmp(first + 32, "-1") == 0);
    CHECK(put(0, 1, 2));
    NEED(upload_host_crash(&hosts[0]) == 0);
    CHECK(is_incarnation(0, first));
    CHECK(upload_host_close(&hosts[0]) == 0);
    NEED(open_normally(0) == 0);
    CHECK(is_incarnation(0, first));
    end();
}

TEST("whatever replaces the content makes another incarnation of the device: "
     "rollback, discard, what another host wrote; and so it stays")
{
    char first[DEVICE_INCARNATION_SIZE], rolled[DEVICE_INCARNATION_SIZE];
    char discarded[DEVICE_INCARNATION_SIZE], other[DEVICE_INCARNATION_SIZE];
    struct epoch_record image;

    NEED(begin_with_image());
    tell_incarnation(0, first);
    CHECK(claim_content(hosts[0].claim, &image) == 0);
    CHECK(put(0, 0, 2) && publish(0, 200) && roll_back_to(&image));
    CHECK(is_incarnation(0, first));
    CHECK(device_adopt_published(disks[0]->device) == 0);
    CHECK(!is_incarnation(0, first));
    tell_incarnation(0, rolled);
    NEED(upload_host_crash(&hosts[0]) == 0);
    CHECK(is_incarnation(0, rolled));

    CHECK(put(0, 0, 3) && upload_host_close(&hosts[0]) == 0);
    NEED(open_as(0, DEVICE_ATTACH_DISCARD) == 0);
    CHECK(!is_incarnation(0, first) && !is_incarnation(0, rolled));
    tell_incarnation(0, discarded);
    CHECK(fixture_close(disks[0]) == 0);

    disks[0]->options.attach = DEVICE_ATTACH_NORMAL;
    NEED(upload_host_open(&hosts[0]) == 0 && is_incarnation(0, discarded));
    CHECK(publish(0, 300) && release(0) && upload_host_close(&hosts[0]) == 0);
    NEED(upload_host_open(&hosts[1]) == 0);
    tell_incarnation(1, other);
    CHECK(strncmp(other, first, 32) != 0 && strcmp(other + 32, "-1") == 0);
    CHECK(put(1, 0, 4) && publish(1, 400) && release(1));
    CHECK(upload_host_close(&hosts[1]) == 0);
    NEED(upload_host_open(&hosts[0]) == 0 && has(0, 0, 4));
    CHECK(!is_incarnation(0, first) && !is_incarnation(0, rolled) &&
          !is_incarnation(0, discarded));
    end();
}

/* Discard, and die at the nth change of a file; returns whether it did. */
static bool die_in_discard(unsigned long nth)
{
    struct fault_calls calls = {FAULT_ANY_CHANGE, NULL, nth};
    char before[DEVICE_INCARNATION_SIZE];
    bool has_died;

    if (!begin_with_image() || !put(0, 0, 2))
        return false;
    tell_incarnation(0, before);
    CHECK(upload_host_close(&hosts[0]) == 0);
    fault_fail(&calls, -EIO, true, 512);
    (void)open_as(0, DEVICE_ATTACH_DISCARD);
    (void)fixture_close(disks[0]);
    has_died = fault_count() >= nth;
    fault_reset();
    fault_skip_syncs(true);
    if (CHECK(open_normally(0) == 0))
        CHECK(has(0, 0, 2) || !is_incarnation(0, before));
    end();
    return has_died;
}

TEST("wherever a discard dies, a content that is another is never served as "
     "the same incarnation")
{
    unsigned long nth = 1;

    while (die_in_discard(nth))
        nth++;
    CHECK(nth > 10);
}

/* ---- a rollback in doubt ------------------------------------------ */

TEST("a rollback that was not decided is done by the next start, and once")
{
    NEED(begin_doubtful_rollback(STORE_FAILS));
    CHECK(upload_host_close(&hosts[0]) == 0 && open_normally(0) == 0);
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_OPEN && has(0, 0, 1));
    NEED(fixture_close(disks[0]) == 0 && upload_host_open(&hosts[0]) == 0);
    CHECK(put(0, 1, 3) && publish(0, 300) && put(0, 2, 4));
    NEED(upload_host_crash(&hosts[0]) == 0);
    CHECK(has(0, 0, 1) && has(0, 1, 3) && has(0, 2, 4));
    end();
}

TEST("until a rollback is decided, and its content here, nothing is served, "
     "and nothing is published")
{
    struct device *device;

    NEED(begin_doubtful_rollback(STORE_FAILS_AFTER));
    device = disks[0]->device;
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_FENCED);
    CHECK(!has(0, 0, 2) && !put(0, 7, 1));
    CHECK(claim_watch(hosts[0].claim, false) == -EINPROGRESS);
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_FENCED);
    CHECK(claim_take(hosts[0].claim) == -EINPROGRESS);
    CHECK(claim_release(hosts[0].claim) == -EINPROGRESS);
    CHECK(device_adopt_published(device) == 0);
    CHECK(fixture_status(disks[0]).gate == DEVICE_GATE_OPEN && has(0, 0, 1));
    CHECK(put(0, 1, 3) && publish(0, 300));
    NEED(upload_host_crash(&hosts[0]) == 0);
    CHECK(has(0, 0, 1) && has(0, 1, 3));
    end();
}

/* ---- no conditional put ------------------------------------------ */

/* A store that ignores conditions. */
static struct object_store disobedient;

static int put_anyway(struct object_store *store, const char *key,
                      const void *bytes, size_t len, bool if_absent)
{
    struct object_store *inner = fault_store_of(fault);

    (void)store;
    (void)if_absent;
    return inner->put(inner, key, bytes, len, false);
}

static int get_inner(struct object_store *store, const char *key,
                     uint64_t offset, void *bytes, size_t len,
                     enum object_urgency urgency)
{
    struct object_store *inner = fault_store_of(fault);

    (void)store;
    return inner->get(inner, key, offset, bytes, len, urgency);
}

static int head_inner(struct object_store *store, const char *key,
                      struct object_info *ret_info)
{
    struct object_store *inner = fault_store_of(fault);

    (void)store;
    return inner->head(inner, key, ret_info);
}

static int delete_inner(struct object_store *store, const char *const keys[],
                        size_t count)
{
    struct object_store *inner = fault_store_of(fault);

    (void)store;
    return inner->delete (inner, keys, count);
}

static int list_inner(struct object_store *store, const char *prefix,
                      const char *after, object_store_each *each, void *context)
{
    struct object_store *inner = fault_store_of(fault);

    (void)store;
    return inner->list(inner, prefix, after, each, context);
}

TEST("without conditional put two that go on at once are told, nothing that "
     "was published is destroyed, and takeover goes on with one's own")
{
    struct claim *first, *second;
    struct epoch_newest found = {.count = 0};
    struct snapshot snapshot;

    NEED(begin());
    disobedient = (struct object_store){
        .put = put_anyway,
        .get = get_inner,
        .head = head_inner,
        .delete = delete_inner,
        .list = list_inner,
    };
    for (unsigned i = 0; i < HOSTS; i++)
        disks[i]->options.store = &disobedient;
    NEED(upload_host_open(&hosts[0]) == 0);
    CHECK(put(0, 0, 1) && publish(0, 100) && release(0));
    CHECK(upload_host_close(&hosts[0]) == 0);
    NEED(open_normally(0) == 0 && open_normally(1) == 0);
    first = device_claim(disks[0]->device);
    second = device_claim(disks[1]->device);
    CHECK(claim_take(first) == 0 && put(0, 1, 2));
    CHECK(claim_take(second) == -ESTALE);
    CHECK(claim_watch(first, true) == -ESTALE);
    CHECK(state_of(0) == CLAIM_FENCED && state_of(1) == CLAIM_FENCED);
    CHECK(fixture_close(disks[0]) == 0 && fixture_close(disks[1]) == 0);
    CHECK(epoch_read_newest(&disobedient, "disk", 0, &found) == 0);
    CHECK(found.count == 2);
    CHECK(open_normally(0) == -ENXIO && open_normally(1) == -ENXIO);
    CHECK(open_normally(2) == -ENXIO);
    NEED(open_as(0, DEVICE_ATTACH_TAKEOVER) == 0);
    CHECK(state_of(0) == CLAIM_CLAIMED && has(0, 0, 1) && has(0, 1, 2));
    CHECK(snapshot_find(&disobedient, "disk", "conflict-4", &snapshot) == 0);
    CHECK(put(0, 2, 3));
    CHECK(open_normally(1) == -ENXIO);
    end();
}
