/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/claim.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cache/catalog.h"
#include "cache/put_probe.h"
#include "cache/state_log.h"
#include "object_store.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum { CHUNKS = 64, CHUNK_SIZE = 1 << 18 };

/* ---- hosts, each with a cache directory, over one store --------------------
 */

struct host {
    uint8_t number;
    struct object_store *store; /* as this host sees it */
    struct put_probe probe;
    struct cache_dir *cache_dir;
    struct catalog *catalog, *checkpoint;
    struct state_log *state_log;
    struct superblock superblock;
    struct claim *claim;
    bool is_dirty, may_write;
    unsigned images; /* that were recorded as published */
};

static struct fault_store *fault; /* what all hosts see */
static struct host hosts[2];

static int count_image(void *context, const uint8_t record[EPOCH_RECORD_SIZE])
{
    struct host *host = context;
    struct state_change change = {.kind = STATE_EPOCH_DECIDED};

    memcpy(change.record, record, EPOCH_RECORD_SIZE);
    host->images++;
    return state_log_commit(host->state_log, &change, 1);
}

static bool is_dirty(void *context)
{
    struct host *host = context;

    host->may_write = claim_may_write(host->claim);
    return host->is_dirty;
}

static void note_change(void *context)
{
    struct host *host = context;

    host->may_write = claim_may_write(host->claim);
}

static const char *path_of(const struct host *host)
{
    static char path[PATH_MAX];

    CHECK(snprintf(path, sizeof(path), "%s/%u", test_dir(), host->number) <
          (int)sizeof(path));
    return path;
}

/* Open what is in the host's directory, as a start does. */
static bool start(struct host *host, bool create)
{
    struct claim_options options = {
        .device_name = "disk",
        .store = host->store,
        .probe = &host->probe,
        .superblock = &host->superblock,
        .published = count_image,
        .is_dirty = is_dirty,
        .changed = note_change,
        .context = host,
        .read_back_ns = 1,
    };

    host->may_write = true;
    if (!CHECK(cache_dir_open(path_of(host), false, &host->cache_dir) == 0) ||
        !CHECK(catalog_new(CHUNKS, &host->catalog) == 0) ||
        !CHECK(catalog_new(CHUNKS, &host->checkpoint) == 0))
        return false;
    if (create)
        CHECK(cache_dir_write_superblock(host->cache_dir, &host->superblock) ==
              0);
    if (!CHECK(state_log_open(host->cache_dir, host->catalog, host->checkpoint,
                              create, false, &host->state_log) == 0))
        return false;
    options.state_log = host->state_log;
    return CHECK(claim_new(&options, &host->claim) == 0);
}

/* The process ends, in whatever way: all that it did is in its directory. */
static void stop(struct host *host)
{
    claim_free(host->claim);
    state_log_close(host->state_log);
    catalog_free(host->catalog);
    catalog_free(host->checkpoint);
    cache_dir_close(host->cache_dir);
    host->claim = NULL;
}

static void restart(struct host *host)
{
    stop(host);
    (void)start(host, false);
}

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fault = fault_store_new(memory_store_new());
    for (uint8_t i = 0; i < 2; i++) {
        struct host *host = &hosts[i];

        memset(host, 0, sizeof(*host));
        host->number = i;
        host->store = fault_store_of(fault);
        put_probe_init(&host->probe);
        host->superblock.size = (uint64_t)CHUNKS * CHUNK_SIZE;
        host->superblock.chunk_size = CHUNK_SIZE;
        host->superblock.incarnation = 1;
        memset(host->superblock.cachedir_id, 'a' + i, UUID_SIZE);
        memset(host->superblock.device_id, 'd', UUID_SIZE);
        (void)snprintf(host->superblock.device_name,
                       sizeof(host->superblock.device_name), "disk");
        (void)mkdir(path_of(host), 0700);
        if (!start(host, true))
            return false;
    }
    return true;
}

static void end(void)
{
    struct object_store *store = fault_store_of(fault);

    for (unsigned i = 0; i < 2; i++) {
        stop(&hosts[i]);
        put_probe_done(&hosts[i].probe);
    }
    fault_reset();
    store->close(store);
    test_dir_remove();
}

static enum claim_action attach(struct host *host, enum claim_mode mode)
{
    struct epoch_record record;
    enum claim_action action = CLAIM_WAIT;

    CHECK(claim_attach(host->claim, mode, host->is_dirty, &action, &record) ==
          0);
    /* What device_claim.c does of it. */
    if (action == CLAIM_LOAD || action == CLAIM_TAKE)
        CHECK(claim_loaded(host->claim, &record) == 0);
    return action;
}

static struct epoch_record content_of(const struct host *host)
{
    struct epoch_record record = {.epoch = 0};

    (void)claim_content(host->claim, &record);
    return record;
}

static struct epoch_newest newest(void)
{
    struct object_store *store = fault_store_of(fault);
    struct epoch_newest found = {.count = 0};

    CHECK(epoch_read_newest(store, "disk", 0, &found) == 0);
    return found;
}

/* Publish an image that is known again by its number. */
static int publish(struct host *host, uint32_t number)
{
    struct claim_image image = {
        .root = {.page = number, .size = 4096, .checksum = number},
        .content_time_ns = number,
        .chunks = number,
    };
    int error = claim_next(host->claim, &image.root.epoch, &image.root.nonce);

    return error != 0 ? error : claim_publish(host->claim, &image);
}

static bool is_owner(const struct host *host, uint64_t epoch)
{
    struct epoch_newest found = newest();
    struct epoch_record content = content_of(host);

    return found.count == 1 && found.records[0].epoch == epoch &&
           epoch_is_same(&found.records[0], &content);
}

/* ---- the ordinary life -----------------------------------------------------
 */

TEST("a device is created, claimed, published, released, and moves")
{
    struct host *a = &hosts[0], *b = &hosts[1];
    uint64_t epoch, nonce;

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE);
    CHECK(claim_state(a->claim) == CLAIM_OURS && a->may_write);
    CHECK(claim_id(a->claim, &epoch, &nonce) == -EPERM);
    CHECK(claim_next(a->claim, &epoch, &nonce) == -EPERM);
    CHECK(claim_take(a->claim) == 0 && is_owner(a, 1));
    CHECK(claim_state(a->claim) == CLAIM_CLAIMED);
    CHECK(claim_id(a->claim, &epoch, &nonce) == 0);
    CHECK(epoch == 1 && nonce == content_of(a).nonce);
    CHECK(claim_take(a->claim) == 0 && is_owner(a, 1));
    CHECK(publish(a, 7) == 0 && is_owner(a, 2) && a->images == 1);
    CHECK(content_of(a).root.page == 7 && content_of(a).chunks == 7);
    CHECK(content_of(a).image_epoch == 2);
    CHECK(claim_id(a->claim, &epoch, &nonce) == 0 && epoch == 1);
    CHECK(attach(b, CLAIM_NORMAL) == CLAIM_REFUSE_HELD);
    CHECK(claim_release(a->claim) == 0 && is_owner(a, 3));
    CHECK(claim_state(a->claim) == CLAIM_RELEASED && !a->may_write);
    CHECK(content_of(a).image_epoch == 2 && content_of(a).root.page == 7);
    CHECK(claim_id(a->claim, &epoch, &nonce) == -EPERM);

    CHECK(attach(b, CLAIM_NORMAL) == CLAIM_LOAD);
    CHECK(claim_state(b->claim) == CLAIM_RELEASED && !b->may_write);
    CHECK(claim_take(b->claim) == 0 && is_owner(b, 4) && b->may_write);
    CHECK(content_of(b).root.page == 7 && content_of(b).image_epoch == 2);
    CHECK(claim_watch(a->claim, false) == -ESTALE);
    CHECK(claim_state(a->claim) == CLAIM_FENCED && !a->may_write);
    CHECK(claim_release(b->claim) == 0);
    restart(a);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_LOAD);
    CHECK(claim_take(a->claim) == 0 && is_owner(a, 6));
    end();
}

TEST("a host that crashed goes on silently, and claims before it uploads")
{
    struct host *a = &hosts[0];
    uint64_t first = 0, second = 0, nonce;

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    CHECK(publish(a, 1) == 0 && claim_id(a->claim, &first, &nonce) == 0);
    restart(a);
    CHECK(claim_state(a->claim) == CLAIM_UNKNOWN);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_GO_ON);
    CHECK(claim_state(a->claim) == CLAIM_OURS && a->may_write);
    CHECK(claim_take(a->claim) == 0 && is_owner(a, 3));
    CHECK(claim_id(a->claim, &second, &nonce) == 0 && second > first);
    CHECK(content_of(a).root.page == 1);
    end();
}

TEST("to watch is one LIST, and a GET of the newest")
{
    struct host *a = &hosts[0];
    uint64_t lists, gets, puts;

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    lists = fault_store_count(fault, STORE_LIST);
    gets = fault_store_count(fault, STORE_GET);
    puts = fault_store_count(fault, STORE_PUT);
    CHECK(claim_watch(a->claim, true) == 0);
    CHECK(fault_store_count(fault, STORE_LIST) == lists + 1);
    CHECK(fault_store_count(fault, STORE_GET) <= gets + 1);
    CHECK(fault_store_count(fault, STORE_PUT) == puts);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(claim_watch(a->claim, true) == -ETIMEDOUT);
    CHECK(claim_state(a->claim) == CLAIM_CLAIMED);
    end();
}

TEST("what is dirty is not released; while it is looked, nobody may write")
{
    struct host *a = &hosts[0];

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    a->is_dirty = true;
    a->may_write = true;
    CHECK(claim_release(a->claim) == -EBUSY);
    CHECK(a->may_write && claim_state(a->claim) == CLAIM_CLAIMED);
    CHECK(is_owner(a, 1));
    a->is_dirty = false;
    CHECK(claim_release(a->claim) == 0 && !a->may_write);
    CHECK(claim_release(a->claim) == 0 && is_owner(a, 2));
    end();
}

/* ---- takeover --------------------------------------------------------------
 */

TEST("who is taken over is fenced at the next thing that it asks for")
{
    static const char *const calls[] = {"watch", "publish", "release"};

    for (unsigned i = 0; i < 3; i++) {
        struct host *a = &hosts[0], *b = &hosts[1];
        struct epoch_record holder;
        int error;

        NEED(begin());
        CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE);
        CHECK(claim_take(a->claim) == 0 && publish(a, 1) == 0);
        CHECK(attach(b, CLAIM_TAKEOVER) == CLAIM_TAKE);
        CHECK(claim_state(b->claim) == CLAIM_FENCED);
        CHECK(claim_takeover(b->claim) == 0 && is_owner(b, 3));
        CHECK(claim_state(b->claim) == CLAIM_CLAIMED && b->may_write);
        error = i == 0   ? claim_watch(a->claim, true)
                : i == 1 ? publish(a, 2)
                         : claim_release(a->claim);
        if (!CHECK(error == -ESTALE))
            printf("# %s\n", calls[i]);
        CHECK(claim_state(a->claim) == CLAIM_FENCED && !a->may_write);
        CHECK(claim_holder(a->claim, &holder) == 0 && holder.epoch == 3);
        CHECK(claim_take(a->claim) == -ESTALE);
        CHECK(claim_publish(a->claim, &(struct claim_image){.chunks = 1}) ==
              -ESTALE);
        CHECK(is_owner(b, 3) && content_of(b).root.page == 1);
        restart(a);
        a->is_dirty = true;
        CHECK(attach(a, CLAIM_NORMAL) == CLAIM_REFUSE_DIRTY);
        CHECK(attach(a, CLAIM_TAKEOVER) == CLAIM_REFUSE_DIRTY);
        CHECK(attach(a, CLAIM_DISCARD) == CLAIM_LOAD);
        CHECK(claim_state(a->claim) == CLAIM_FENCED);
        restart(a);
        a->is_dirty = false;
        CHECK(attach(a, CLAIM_NORMAL) == CLAIM_REFUSE_HELD);
        CHECK(attach(a, CLAIM_TAKEOVER) == CLAIM_TAKE);
        CHECK(claim_takeover(a->claim) == 0 && is_owner(a, 4));
        end();
    }
}

TEST("a takeover that another one was faster than takes nothing")
{
    struct host *a = &hosts[0], *b = &hosts[1];

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    CHECK(attach(b, CLAIM_TAKEOVER) == CLAIM_TAKE);
    CHECK(publish(a, 1) == 0);
    CHECK(claim_takeover(b->claim) == -ESTALE);
    CHECK(claim_state(b->claim) == CLAIM_FENCED);
    CHECK(is_owner(a, 2) && claim_watch(a->claim, true) == 0);
    end();
}

TEST("an old copy of a cache directory is another's, also after a release")
{
    struct host *a = &hosts[0], *b = &hosts[1];

    NEED(begin());
    b->superblock = a->superblock; /* without what the original did since */
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    CHECK(attach(b, CLAIM_NORMAL) == CLAIM_REFUSE_COPY);
    CHECK(claim_release(a->claim) == 0);
    CHECK(attach(b, CLAIM_NORMAL) == CLAIM_REFUSE_COPY);
    CHECK(attach(b, CLAIM_TAKEOVER) == CLAIM_TAKE);
    CHECK(claim_takeover(b->claim) == 0 && is_owner(b, 3));
    CHECK(claim_watch(a->claim, false) == -ESTALE);
    end();
}

/* ---- the store does not answer ----------------------------------------------
 */

TEST("without an answer at the start what is ours is served, and found out "
     "later")
{
    struct host *a = &hosts[0];

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    restart(a);
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -ETIMEDOUT);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_SERVE);
    CHECK(claim_state(a->claim) == CLAIM_UNKNOWN && a->may_write);
    CHECK(claim_take(a->claim) == -ETIMEDOUT);
    CHECK(claim_watch(a->claim, true) == -ETIMEDOUT);
    fault_store_clear(fault);
    CHECK(claim_watch(a->claim, true) == 0);
    CHECK(claim_state(a->claim) == CLAIM_OURS && is_owner(a, 1));
    end();
}

TEST("without an answer at the start what we released waits with its writes")
{
    struct host *a = &hosts[0];

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE);
    CHECK(claim_release(a->claim) == 0);
    restart(a);
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -ETIMEDOUT);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_SERVE);
    CHECK(!a->may_write && claim_state(a->claim) == CLAIM_UNKNOWN);
    CHECK(claim_take(a->claim) == -ETIMEDOUT && !a->may_write);
    fault_store_clear(fault);
    CHECK(claim_take(a->claim) == 0 && a->may_write && is_owner(a, 2));
    end();
}

TEST("what went on elsewhere while the store did not answer is fenced")
{
    struct host *a = &hosts[0], *b = &hosts[1];

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE);
    CHECK(claim_take(a->claim) == 0);
    restart(a);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_SERVE && a->may_write);
    CHECK(attach(b, CLAIM_TAKEOVER) == CLAIM_TAKE);
    CHECK(claim_takeover(b->claim) == 0 && claim_release(b->claim) == 0);
    CHECK(claim_take(a->claim) == -ESTALE);
    CHECK(claim_state(a->claim) == CLAIM_FENCED && !a->may_write);
    end();
}

TEST("a bucket without our epochs is served beside, and gets nothing")
{
    struct object_store *store = fault_store_of(fault);
    struct host *a = &hosts[0];

    NEED(begin());
    store = fault_store_of(fault);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE);
    CHECK(claim_take(a->claim) == 0 && publish(a, 1) == 0);
    restart(a);
    CHECK(object_delete_one(store, "disk/epoch/0000000000000002") == 0);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(attach(a, CLAIM_NORMAL) == CLAIM_SERVE_LOST);
        CHECK(claim_state(a->claim) == CLAIM_UNKNOWN && a->may_write);
        CHECK(claim_take(a->claim) == -EAGAIN);
        CHECK(claim_watch(a->claim, true) == -EAGAIN);
        CHECK(claim_release(a->claim) == -EAGAIN);
        CHECK(object_delete_one(store, "disk/epoch/0000000000000001") == 0);
    }
    CHECK(newest().count == 0);
    end();
}

/* ---- each step fails, and the process ends ----------------------------------
 */

/* What the store does to the nth call of a kind. */
struct step {
    enum store_call call;
    uint64_t nth;
    enum store_fault kind;
};

/* Returns whether the step was reached: something failed. */
static bool try_story(const struct step *step, bool crash, uint32_t number)
{
    struct host *a = &hosts[0];
    bool has_failed = false;
    int error = 0;

    fault_store_plan(fault, step->call, step->nth, 1, step->kind, -ETIMEDOUT);
    for (unsigned tries = 0; tries < 8; tries++) {
        if (error != 0 && crash)
            restart(a);
        if (claim_state(a->claim) == CLAIM_UNKNOWN) {
            enum claim_action action = attach(a, CLAIM_NORMAL);

            CHECK(action == CLAIM_CREATE || action == CLAIM_GO_ON ||
                  action == CLAIM_SERVE);
        }
        error = claim_take(a->claim);
        if (error == 0 && content_of(a).content_time_ns != number)
            error = publish(a, number);
        if (error == 0)
            error = claim_release(a->claim);
        if (error == 0)
            break;
        has_failed = true;
        CHECK(error == -ETIMEDOUT || error == -EIO);
    }
    CHECK(error == 0);
    fault_store_clear(fault);
    return has_failed;
}

static bool story_with(const struct step *step, bool crash)
{
    struct host *a = &hosts[0];
    bool has_failed;

    if (!CHECK(begin()))
        return false;
    has_failed = try_story(step, crash, 7);
    CHECK(newest().count == 1);
    CHECK(newest().records[0].kind == EPOCH_RELEASE);
    CHECK(newest().records[0].root.page == 7);
    CHECK(is_owner(a, newest().records[0].epoch));
    CHECK(a->images == 1); /* neither lost nor said twice */
    CHECK(claim_state(a->claim) == CLAIM_RELEASED && !a->may_write);
    restart(a);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_GO_ON);
    end();
    return has_failed;
}

TEST("whatever call of the store fails, with or without effect, and whether "
     "the process dies of it or not, the same history comes of it")
{
    static const enum store_fault faults[] = {STORE_FAILS, STORE_FAILS_AFTER};
    static const enum store_call kinds[] = {STORE_PUT, STORE_LIST, STORE_GET};
    unsigned reached = 0;

    for (unsigned i = 0; i < 12; i++) {
        bool crash = (i & 1) != 0;
        uint64_t nth = 1;

        for (bool has_failed = true; has_failed && nth < 100; nth++) {
            struct step step = {kinds[i / 4], nth, faults[i / 2 % 2]};

            has_failed = story_with(&step, crash);
            reached += has_failed;
        }
    }
    CHECK(reached > 40);
}

TEST("a put that was given up and lands later is ours all the same")
{
    struct host *a = &hosts[0];
    struct object_store *store;
    struct state_facts facts;
    struct epoch_record intent;
    char key[EPOCH_KEY_MAX];

    NEED(begin());
    store = fault_store_of(fault);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(publish(a, 7) == -ETIMEDOUT && a->images == 0);
    restart(a);
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -EIO);
    fault_store_plan(fault, STORE_PUT, 1, 0, STORE_FAILS, -EIO);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_SERVE);
    fault_store_clear(fault);
    state_log_facts(a->state_log, &facts);
    CHECK(facts.has_intent && epoch_decode(facts.intent, &intent) == 0);
    epoch_key("disk", &intent, key);
    CHECK(store->put(store, key, facts.intent, sizeof(facts.intent), true) ==
          0);
    CHECK(claim_watch(a->claim, true) == 0 && a->images == 1);
    CHECK(claim_state(a->claim) == CLAIM_OURS && is_owner(a, 2));
    CHECK(content_of(a).root.page == 7);
    end();
}

TEST("an image whose create was undecided is not published twice")
{
    struct host *a = &hosts[0];

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS_AFTER, -ETIMEDOUT);
    CHECK(publish(a, 7) == -ETIMEDOUT);
    CHECK(publish(a, 7) == 0 && a->images == 1 && is_owner(a, 2));
    CHECK(publish(a, 8) == 0 && a->images == 2 && is_owner(a, 3));
    end();
}

TEST("whose epoch another has created meanwhile has lost, and says so")
{
    struct host *a = &hosts[0], *b = &hosts[1];
    struct state_facts facts;

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(publish(a, 7) == -ETIMEDOUT);
    CHECK(attach(b, CLAIM_TAKEOVER) == CLAIM_TAKE);
    CHECK(claim_takeover(b->claim) == 0 && is_owner(b, 2));
    CHECK(publish(a, 7) == -ESTALE && a->images == 0);
    CHECK(claim_state(a->claim) == CLAIM_FENCED);
    state_log_facts(a->state_log, &facts);
    CHECK(!facts.has_intent);
    CHECK(is_owner(b, 2) && claim_watch(b->claim, true) == 0);
    end();
}

TEST("a publisher that was suspended, and wakes after its epoch was pruned, "
     "is fenced, and destroys nothing")
{
    for (unsigned crash = 0; crash < 2; crash++) {
        struct host *a = &hosts[0], *b = &hosts[1];
        struct object_store *store;

        NEED(begin());
        store = fault_store_of(fault);
        CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE);
        CHECK(claim_take(a->claim) == 0);
        fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -ETIMEDOUT);
        CHECK(publish(a, 7) == -ETIMEDOUT);
        CHECK(attach(b, CLAIM_TAKEOVER) == CLAIM_TAKE);
        CHECK(claim_takeover(b->claim) == 0);
        CHECK(publish(b, 8) == 0 && publish(b, 9) == 0);
        CHECK(object_delete_one(store, "disk/epoch/0000000000000001") == 0);
        CHECK(object_delete_one(store, "disk/epoch/0000000000000002") == 0);
        CHECK(object_delete_one(store, "disk/epoch/0000000000000003") == 0);
        if (crash) {
            restart(a);
            CHECK(attach(a, CLAIM_NORMAL) == CLAIM_REFUSE_HELD);
        } else {
            CHECK(publish(a, 7) == -ESTALE);
            CHECK(claim_state(a->claim) == CLAIM_FENCED);
        }
        CHECK(a->images == 0);
        CHECK(is_owner(b, 4) && content_of(b).root.page == 9);
        CHECK(claim_watch(b->claim, true) == 0 && publish(b, 10) == 0);
        end();
    }
}

TEST("nothing is released while the store does not answer: writes go on")
{
    struct host *a = &hosts[0];
    struct state_facts facts;

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    fault_store_plan(fault, STORE_PUT, 1, 0, STORE_FAILS, -ECANCELED);
    fault_store_plan(fault, STORE_LIST, 1, 0, STORE_FAILS, -ECANCELED);
    CHECK(claim_release(a->claim) == -ECANCELED && a->may_write);
    state_log_facts(a->state_log, &facts);
    CHECK(!facts.has_intent);
    restart(a);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_SERVE && a->may_write);
    end();
}

TEST("who lost the device has nothing to release")
{
    struct host *a = &hosts[0], *b = &hosts[1];

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    CHECK(attach(b, CLAIM_TAKEOVER) == CLAIM_TAKE);
    CHECK(claim_takeover(b->claim) == 0);
    fault_store_plan(fault, STORE_PUT, 1, 0, STORE_FAILS, -EIO);
    CHECK(claim_release(a->claim) == -ESTALE);
    CHECK(claim_state(a->claim) == CLAIM_FENCED && is_owner(b, 2));
    end();
}

TEST("a release that is undecided keeps writes waiting, and comes to an end")
{
    struct host *a = &hosts[0];

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(claim_release(a->claim) == -ETIMEDOUT && !a->may_write);
    restart(a);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_SERVE && !a->may_write);
    CHECK(claim_take(a->claim) == 0 && a->may_write && is_owner(a, 3));
    end();
}

/* ---- no conditional put
 * ------------------------------------------------------ */

/* A store that ignores conditions, over the one of all hosts. */
static int put_anyway(struct object_store *store, const char *key,
                      const void *data, size_t len, bool if_absent)
{
    struct object_store *all = fault_store_of(fault);

    (void)store;
    (void)if_absent;
    return all->put(all, key, data, len, false);
}

static struct object_store disobedient_store(void)
{
    struct object_store *all = fault_store_of(fault);
    struct object_store store = *all;

    store.put = put_anyway;
    return store;
}

static int get_of_all(struct object_store *store, const char *key,
                      uint64_t offset, void *data, size_t len,
                      enum object_urgency urgency)
{
    struct object_store *all = fault_store_of(fault);

    (void)store;
    return all->get(all, key, offset, data, len, urgency);
}

static int delete_of_all(struct object_store *store, const char *const keys[],
                         size_t count)
{
    struct object_store *all = fault_store_of(fault);

    (void)store;
    return all->delete (all, keys, count);
}

static int list_of_all(struct object_store *store, const char *prefix,
                       const char *after, object_store_each *each,
                       void *context)
{
    struct object_store *all = fault_store_of(fault);

    (void)store;
    return all->list(all, prefix, after, each, context);
}

static struct object_store disobedient;

static void obey_no_more(void)
{
    disobedient = disobedient_store();
    disobedient.get = get_of_all;
    disobedient.delete = delete_of_all;
    disobedient.list = list_of_all;
    for (unsigned i = 0; i < 2; i++) {
        hosts[i].store = &disobedient;
        put_probe_doubt(&hosts[i].probe);
        restart(&hosts[i]);
    }
}

TEST("without conditional put the life is the same, by other keys")
{
    struct host *a = &hosts[0], *b = &hosts[1];

    NEED(begin());
    obey_no_more();
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    CHECK(content_of(a).key_has_nonce);
    CHECK(publish(a, 1) == 0 && claim_release(a->claim) == 0);
    CHECK(is_owner(a, 3));
    CHECK(attach(b, CLAIM_NORMAL) == CLAIM_LOAD && claim_take(b->claim) == 0);
    CHECK(is_owner(b, 4) && content_of(b).root.page == 1);
    restart(b);
    CHECK(attach(b, CLAIM_NORMAL) == CLAIM_GO_ON);
    end();
}

TEST("without conditional put, two that publish at once are both fenced, both "
     "images stay, and one goes on by takeover")
{
    struct host *a = &hosts[0], *b = &hosts[1];
    struct epoch_record holder;

    NEED(begin());
    obey_no_more();
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    CHECK(publish(a, 1) == 0 && claim_release(a->claim) == 0);
    CHECK(attach(b, CLAIM_NORMAL) == CLAIM_LOAD);
    CHECK(claim_take(a->claim) == 0); /* epoch 4 */
    /* What b asks before it creates is as of a moment ago. */
    CHECK(claim_take(b->claim) == -ESTALE); /* epoch 4, too */
    CHECK(claim_state(b->claim) == CLAIM_FENCED && !b->may_write);
    CHECK(newest().count == 2);
    CHECK(claim_watch(a->claim, true) == -ESTALE);
    CHECK(claim_state(a->claim) == CLAIM_FENCED);
    CHECK(claim_holder(a->claim, &holder) == 0);
    CHECK(memcmp(holder.cachedir_id, b->superblock.cachedir_id, UUID_SIZE) ==
          0);
    restart(a);
    restart(b);
    a->is_dirty = b->is_dirty = true;
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_REFUSE_CONFLICT);
    CHECK(attach(b, CLAIM_NORMAL) == CLAIM_REFUSE_CONFLICT);
    CHECK(attach(b, CLAIM_TAKEOVER) == CLAIM_TAKE_OWN);
    CHECK(claim_holder(b->claim, &holder) == 0);
    CHECK(memcmp(holder.cachedir_id, a->superblock.cachedir_id, UUID_SIZE) ==
          0);
    CHECK(claim_takeover(b->claim) == 0 && is_owner(b, 5) && b->may_write);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_REFUSE_DIRTY);
    end();
}

TEST("an image in conflict is published, as one of two")
{
    struct host *a = &hosts[0], *b = &hosts[1];
    struct epoch_newest found;

    NEED(begin());
    obey_no_more();
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    CHECK(attach(b, CLAIM_TAKEOVER) == CLAIM_TAKE);
    CHECK(publish(a, 1) == 0);
    CHECK(claim_takeover(b->claim) == -ESTALE);
    found = newest();
    CHECK(found.count == 2);
    CHECK(publish(a, 2) == 0); /* a has not looked yet, and goes on */
    found = newest();
    CHECK(found.count == 1 && found.records[0].root.page == 2);
    CHECK(a->images == 2);
    restart(b);
    CHECK(attach(b, CLAIM_NORMAL) == CLAIM_REFUSE_HELD);
    end();
}

TEST("a store that refuses conditions from now on is taken at its word")
{
    struct host *a = &hosts[0];
    struct state_facts facts;

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    fault_store_plan(fault, STORE_PUT, 1, 2, STORE_FAILS, -EOPNOTSUPP);
    CHECK(publish(a, 1) == -EAGAIN);
    state_log_facts(a->state_log, &facts);
    CHECK(!facts.has_intent);
    CHECK(publish(a, 1) == 0 && content_of(a).key_has_nonce);
    CHECK(is_owner(a, 2) && a->images == 1);
    end();
}

/* ---- the rest
 * ---------------------------------------------------------------- */

TEST("with a rollback it becomes durable that the catalog is to follow")
{
    struct host *a = &hosts[0];
    struct claim_image image = {
        .content_time_ns = 5,
        .chunks = 5,
        .replaces_content = true,
    };
    struct state_facts facts;
    struct epoch_record record;

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    CHECK(publish(a, 1) == 0);
    image.root = content_of(a).root;
    CHECK(publish(a, 2) == 0);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS_AFTER, -EIO);
    CHECK(claim_publish(a->claim, &image) == -EIO);
    state_log_facts(a->state_log, &facts);
    CHECK(!facts.must_adopt);
    restart(a);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_GO_ON && is_owner(a, 4));
    state_log_facts(a->state_log, &facts);
    CHECK(facts.must_adopt && epoch_decode(facts.adopt, &record) == 0);
    CHECK(record.epoch == 4 && record.root.page == 1);
    CHECK(a->images == 2);
    end();
}

TEST("a new device goes on counting after one of its name that was dropped")
{
    struct host *a = &hosts[0];
    struct epoch_record tombstone = {
        .kind = EPOCH_TOMBSTONE,
        .epoch = 17,
        .nonce = 3,
        .chunk_size = CHUNK_SIZE,
    };
    enum epoch_outcome outcome;

    NEED(begin());
    CHECK(epoch_create(a->store, "disk", &tombstone, NULL, &outcome) == 0);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE);
    CHECK(claim_take(a->claim) == 0 && is_owner(a, 18));
    end();
}

TEST("an empty directory asks before anything is made in it")
{
    struct host *a = &hosts[0];
    struct epoch_record record;

    NEED(begin());
    CHECK(claim_ask_for_new(a->store, "disk", CLAIM_NORMAL, &record) ==
          CLAIM_CREATE);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -EIO);
    CHECK(claim_ask_for_new(a->store, "disk", CLAIM_NORMAL, &record) ==
          CLAIM_WAIT);
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE && claim_take(a->claim) == 0);
    CHECK(claim_ask_for_new(a->store, "disk", CLAIM_NORMAL, &record) ==
          CLAIM_REFUSE_HELD);
    CHECK(claim_ask_for_new(a->store, "disk", CLAIM_TAKEOVER, &record) ==
          CLAIM_TAKE);
    CHECK(record.epoch == 1 && record.chunk_size == CHUNK_SIZE);
    end();
}

static void *take_in_thread(void *context)
{
    struct host *host = context;

    return (void *)(intptr_t)claim_take(host->claim);
}

TEST("who is stopped while the store does not answer waits no longer")
{
    struct host *a = &hosts[0];
    pthread_t first, second;
    void *first_error, *second_error;

    NEED(begin());
    CHECK(attach(a, CLAIM_NORMAL) == CLAIM_CREATE);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_HOLDS, 0);
    CHECK(pthread_create(&first, NULL, take_in_thread, a) == 0);
    fault_store_wait_held(fault, 1);
    claim_stop(a->claim);
    CHECK(pthread_create(&second, NULL, take_in_thread, a) == 0);
    CHECK(pthread_join(second, &second_error) == 0);
    CHECK((intptr_t)second_error == -ECANCELED);
    fault_store_release(fault);
    CHECK(pthread_join(first, &first_error) == 0);
    CHECK((intptr_t)first_error == 0 && is_owner(a, 1));
    CHECK(claim_watch(a->claim, true) == -ECANCELED);
    end();
}

TEST("states have names")
{
    CHECK(strcmp(claim_state_name(CLAIM_UNKNOWN), "unknown") == 0);
    CHECK(strcmp(claim_state_name(CLAIM_OURS), "ours") == 0);
    CHECK(strcmp(claim_state_name(CLAIM_CLAIMED), "claimed") == 0);
    CHECK(strcmp(claim_state_name(CLAIM_RELEASED), "released") == 0);
    CHECK(strcmp(claim_state_name(CLAIM_FENCED), "fenced") == 0);
}
