/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The owner's part of a scrub: the verb, one at a time, and what no image ever
 * had; what is looked at is tested by test_scrub.c.
 */
#include "cache/owner_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "cache/fetch.h"
#include "cache/geometry.h"
#include "cache/scrub.h"
#include "support/device_fixture.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/upload_host.h"
#include "unit/test.h"

enum { CHUNK = 256 << 10, HOLDER = 7 };

static struct device_fixture fixture;
static struct fault_store *fault;
static struct object_store *memory;
static struct owner *owner;
static struct control_message reply;

static void make_store(void)
{
    memory = memory_store_new();
    fault = fault_store_new(memory);
}

/* Open a device over the store, and start its owner. */
static bool open_owner(enum device_attach attach)
{
    struct owner_options options;

    fixture_begin(&fixture, test_dir(), false);
    fixture.options.store = fault_store_of(fault);
    fixture.options.attach = attach;
    if (!CHECK(fixture_open(&fixture) == 0))
        return false;
    options = (struct owner_options){
        .device = fixture.device,
        .store = fixture.options.store,
        .limits = {.keep = 2, .grace_ns = 1000, .uploads = 1},
    };
    return CHECK(owner_start(&options, &owner) == 0);
}

static bool begin(void)
{
    make_store();
    return open_owner(DEVICE_ATTACH_NORMAL);
}

static void end(void)
{
    control_message_clear(&reply);
    owner_stop(owner);
    fixture_end(&fixture);
}

/* Ask what was begun.  Returns 0, or the errno of an answer "error". */
static int ask(struct control_message *request)
{
    uint64_t number = 0;
    int error;

    control_message_clear(&reply);
    error = owner_handle(owner, request, HOLDER, &reply);
    control_message_clear(request);
    if (error != 0)
        return error;
    if (control_message_is(&reply, "ok") || control_message_is(&reply, "none"))
        return 0;
    (void)control_message_get_number(&reply, "errno", 1, 4096, &number);
    return -(int)number;
}

static int ask_for(const char *verb, const char *key, uint64_t value)
{
    struct control_message request;

    control_message_start(&request, verb);
    if (key != NULL)
        control_message_add_number(&request, key, value);
    return ask(&request);
}

static uint64_t number_of(const char *key)
{
    uint64_t number = UINT64_MAX;

    CHECK(control_message_get_number(&reply, key, 0, UINT64_MAX, &number) == 0);
    return number;
}

/* Returns whether there was a chunk to upload, and it was. */
static bool upload_one(void)
{
    struct upload_context context = {
        .device_name = "disk",
        .store = fixture.options.store,
        .fetch = device_fetch(fixture.device),
        .chunk_dir = device_chunk_dir(fixture.device),
        .chunk_size = CHUNK,
    };
    struct control_message request;
    struct control_lease lease;
    struct control_report report;

    control_message_start(&request, "lease");
    control_message_add(&request, "purpose", "image");
    if (ask(&request) != 0 || !control_message_is(&reply, "ok") ||
        !CHECK(control_lease_decode(&reply, &lease) == 0))
        return false;
    report.lease = lease.lease;
    report.error = upload_chunk(&context, &lease.work, &report.result);
    control_report_encode(&report, &request);
    return ask(&request) == 0;
}

static void publish_chunk(uint64_t chunk)
{
    unsigned char data[CACHE_BLOCK];

    fixture_fill(data, sizeof(data), 5);
    CHECK(fixture_write(&fixture, chunk * CHUNK, data, sizeof(data), 0) == 0);
    CHECK(ask_for("checkpoint", NULL, 0) == 0);
    while (upload_one())
        continue;
    CHECK(ask_for("publish", NULL, 0) == 0 && number_of("left") == 0);
}

TEST("a scrub is answered with what was done, and how far it is")
{
    if (!begin())
        return;
    publish_chunk(3);
    CHECK(ask_for("scrub", NULL, 0) == 0);
    CHECK(number_of("done") == 1 && number_of("bad") == 0);
    CHECK(number_of("objects") == 1 && number_of("blocks") == 2);
    CHECK(number_of("position") == 64 && number_of("chunks") == 64);
    CHECK(reply.payload_size == 0);
    CHECK(ask_for("scrub", "local", 1) == 0);
    CHECK(number_of("done") == 1 && number_of("objects") == 0);
    end();
}

TEST("what is bad is told in lines, and can be an image's again")
{
    struct catalog_entry entry;
    char key[FETCH_KEY_MAX];

    if (!begin())
        return;
    publish_chunk(3);
    catalog_get(device_catalog(fixture.device), 3, &entry);
    fetch_object_key("disk", 3, &entry.objects[0].id, key);
    CHECK(object_delete_one(memory, key) == 0);
    CHECK(ask_for("scrub", NULL, 0) == 0);
    CHECK(number_of("bad") == 2 && number_of("repaired") == 2);
    CHECK(reply.payload_size > 0 &&
          memmem(reply.payload, reply.payload_size, key, strlen(key)) != NULL);
    /* The device differs from its image, although nobody wrote. */
    CHECK(ask_for("checkpoint", NULL, 0) == 0 && number_of("chunks") == 1);
    CHECK(upload_one());
    CHECK(ask_for("publish", NULL, 0) == 0 && number_of("left") == 0);
    CHECK(ask_for("scrub", NULL, 0) == 0 && number_of("bad") == 0);
    end();
}

TEST("wrong numbers are refused")
{
    if (!begin())
        return;
    CHECK(ask_for("scrub", "sample", 0) == -EINVAL);
    CHECK(ask_for("scrub", "sample", 101) == -EINVAL);
    CHECK(ask_for("scrub", "rate", 0) == -EINVAL);
    CHECK(ask_for("scrub", "sample", 1) == 0);
    end();
}

static void *scrub_beside(void *context)
{
    struct control_message request, answer;
    int *error = context;

    control_message_start(&request, "scrub");
    control_message_start(&answer, "");
    *error = owner_handle(owner, &request, HOLDER + 1, &answer);
    control_message_clear(&request);
    control_message_clear(&answer);
    return NULL;
}

TEST("of two scrubs at once one is told so, and an end interrupts the other")
{
    pthread_t thread;
    int error = 0;

    if (!begin())
        return;
    publish_chunk(3);
    /* So that nobody else gets anything from now on. */
    CHECK(ask_for("collect", NULL, 0) == 0);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_HOLDS, 0);
    CHECK(pthread_create(&thread, NULL, scrub_beside, &error) == 0);
    fault_store_wait_held(fault, 1);
    CHECK(ask_for("scrub", NULL, 0) == -EBUSY);
    owner_interrupt(owner);
    fault_store_release(fault);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(error == -ECANCELED);
    end();
}

/* Put what nobody knows of, as an upload whose end was never told. */
static void put_stray(uint64_t counter, char key[FETCH_KEY_MAX])
{
    uint64_t epoch, nonce;
    struct object_id id;

    CHECK(claim_id(device_claim(fixture.device), &epoch, &nonce) == 0);
    id = (struct object_id){epoch, nonce, counter};
    fetch_object_key("disk", 3, &id, key);
    CHECK(memory->put(memory, key, "stray", 5, false) == 0);
}

TEST("at its end what was uploaded and came into no image is condemned")
{
    uint64_t counter;
    char stray[FETCH_KEY_MAX], fresh[FETCH_KEY_MAX];

    if (!begin())
        return;
    publish_chunk(3);
    publish_chunk(4);
    counter = lease_first_counter(owner->leases);
    CHECK(counter >= 2);
    put_stray(counter, fresh); /* it may be that of an upload to come */
    put_stray(counter - 1, stray);
    CHECK(ask_for("scrub", NULL, 0) == 0 && number_of("done") == 1);
    /* The next collection but one deletes it, after the grace time. */
    for (unsigned i = 0; i < 2; i++) {
        struct object_info info;

        mutex_lock(&owner->lock);
        owner->collect_ns = 0;
        mutex_unlock(&owner->lock);
        CHECK(ask_for("collect", NULL, 0) == 0);
        if (memory->head(memory, stray, &info) == -ENOENT)
            break;
        CHECK(i == 0);
    }
    {
        struct object_info info;

        CHECK(memory->head(memory, stray, &info) == -ENOENT);
        CHECK(memory->head(memory, fresh, &info) == 0);
    }
    end();
}

/* ---- what a lost host uploaded --------------------------------------------
 */

enum { PUBLISHED = 3, UNPUBLISHED = 4, LEFT = 5 }; /* chunks of the lost host */

/*
 * A host of which one chunk is in an image, one was uploaded and came into
 * none, and one was not even uploaded, when it was lost.
 */
static bool lose_host(void)
{
    struct upload_host lost = {.completed = 0};
    unsigned char data[CACHE_BLOCK];
    char dir[PATH_MAX];
    uint64_t count = 0;
    bool is_done;

    (void)snprintf(dir, sizeof(dir), "%s/lost", test_dir());
    if (!CHECK(mkdir(dir, 0700) == 0))
        return false;
    fixture_begin(&lost.fixture, dir, false);
    lost.fixture.options.store = fault_store_of(fault);
    fixture_fill(data, sizeof(data), PUBLISHED);
    is_done =
        CHECK(upload_host_open(&lost) == 0) &&
        CHECK(fixture_write(&lost.fixture, PUBLISHED * CHUNK, data,
                            sizeof(data), 0) == 0) &&
        CHECK(upload_host_finish(&lost, 1000) == 0) &&
        CHECK(fixture_write(&lost.fixture, UNPUBLISHED * CHUNK, data,
                            sizeof(data), 0) == 0) &&
        CHECK(fixture_write(&lost.fixture, LEFT * CHUNK, data, sizeof(data),
                            0) == 0) &&
        CHECK(upload_host_checkpoint(&lost, 2000) == 0) &&
        CHECK(upload_host_upload(&lost, LEASE_CHECKPOINT, 1, &count) == 0) &&
        CHECK(count == 1);
    CHECK(upload_host_close(&lost) == 0);
    lost.fixture.options.store = NULL; /* it goes on */
    fixture_end(&lost.fixture);
    return is_done;
}

/* An object_store_each: count them. */
static int count_one(void *context, const char *key,
                     const struct object_info *info)
{
    unsigned *count = context;

    (void)key;
    (void)info;
    (*count)++;
    return 0;
}

/* Returns how many objects there are of a chunk. */
static unsigned objects_of(unsigned chunk)
{
    unsigned count = 0;
    char prefix[64];

    (void)snprintf(prefix, sizeof(prefix), "disk/chunk/%016x/", chunk);
    CHECK(memory->list(memory, prefix, "", count_one, &count) == 0);
    return count;
}

/* Delete what was condemned, and may go. */
static void collect(void)
{
    mutex_lock(&owner->lock);
    owner->collect_ns = 0;
    mutex_unlock(&owner->lock);
    CHECK(ask_for("collect", NULL, 0) == 0);
}

TEST("what a lost host uploaded and did not publish stays, unless others' "
     "is asked for")
{
    unsigned char data[CACHE_BLOCK], wanted[CACHE_BLOCK];

    make_store();
    if (!lose_host() || !open_owner(DEVICE_ATTACH_TAKEOVER))
        return;
    publish_chunk(1);
    CHECK(objects_of(PUBLISHED) == 1 && objects_of(LEFT) == 0);
    CHECK(objects_of(UNPUBLISHED) == 1);
    CHECK(ask_for("scrub", NULL, 0) == 0 && number_of("condemned") == 0);
    collect();
    CHECK(objects_of(UNPUBLISHED) == 1);
    CHECK(ask_for("scrub", "others", 1) == 0);
    CHECK(number_of("condemned") == 1 && number_of("bad") == 0);
    CHECK(objects_of(UNPUBLISHED) == 1); /* until the next collection */
    collect();
    CHECK(objects_of(UNPUBLISHED) == 0);
    /* What came into an image is the device's. */
    CHECK(objects_of(PUBLISHED) == 1 && objects_of(1) == 1);
    fixture_fill(wanted, sizeof(wanted), PUBLISHED);
    CHECK(fixture_read(&fixture, PUBLISHED * CHUNK, data, sizeof(data)) == 0);
    CHECK(memcmp(data, wanted, sizeof(data)) == 0);
    CHECK(ask_for("scrub", NULL, 0) == 0 && number_of("bad") == 0);
    end();
}

TEST(
    "for what others left the device is claimed; a step that cannot look tells "
    "no number")
{
    make_store();
    if (!lose_host() || !open_owner(DEVICE_ATTACH_TAKEOVER))
        return;
    CHECK(ask_for("release", NULL, 0) == 0);
    CHECK(claim_state(owner->claim) != CLAIM_CLAIMED);
    CHECK(ask_for("scrub", NULL, 0) == 0);
    CHECK(number_of("done") == 1 && !control_message_has(&reply, "condemned"));
    CHECK(claim_state(owner->claim) != CLAIM_CLAIMED);
    fault_store_plan(fault, STORE_PUT, 1, 0, STORE_FAILS, -EACCES);
    CHECK(ask_for("scrub", "others", 1) == 0);
    CHECK(number_of("done") == 1 && !control_message_has(&reply, "condemned"));
    fault_store_clear(fault);
    CHECK(ask_for("scrub", "others", 1) == 0);
    CHECK(number_of("condemned") == 1);
    CHECK(claim_state(owner->claim) == CLAIM_CLAIMED);
    end();
}
