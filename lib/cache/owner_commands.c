/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/owner_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cache/cache_dir.h"
#include "cache/catalog.h"
#include "cache/drop.h"
#include "cache/fetch.h"
#include "cache/fork.h"
#include "cache/geometry.h"
#include "cache/snapshot.h"

enum { PERCENT = 100 };

/* Who has nothing to upload but what others may bring back looks so often. */
static const uint64_t OTHERS_UPLOAD_NS = 200000000;

/* ---- helpers ------------------------------------------------------------- */

/* Read [from to); all without these keys. */
static int get_percents(const struct control_message *request,
                        unsigned *ret_from, unsigned *ret_to)
{
    uint64_t from = 0, to = PERCENT;
    int error = control_message_get_number(request, "from", 0, PERCENT, &from);

    if (error == 0 || error == -ENOENT)
        error = control_message_get_number(request, "to", 0, PERCENT, &to);
    if ((error != 0 && error != -ENOENT) || from > to)
        return -EINVAL;
    *ret_from = (unsigned)from;
    *ret_to = (unsigned)to;
    return 0;
}

static int bad_request(struct control_message *reply, const char *what)
{
    control_message_start_error(reply, -EINVAL, "%s", what);
    return 0;
}

static int ok_epoch(struct owner *owner, struct control_message *reply)
{
    struct epoch_record content;
    int error = claim_content(owner->claim, &content);

    if (error != 0)
        return error;
    control_message_start(reply, "ok");
    control_message_add_number(reply, "epoch", content.epoch);
    return 0;
}

static const char *get_name(const struct control_message *request)
{
    const char *name = control_message_get(request, "name");

    return name != NULL && snapshot_name_is_valid(name) ? name : NULL;
}

static void count_all(struct owner *owner, struct lease_counts *ret_counts)
{
    lease_count(owner->leases, 0, PERCENT, ret_counts);
}

/* Whether no chunk of a checkpoint is left to upload. */
static bool is_complete(struct owner *owner)
{
    struct lease_counts counts;

    count_all(owner, &counts);
    return counts.waiting + counts.leased == 0;
}

/* ---- uploads ------------------------------------------------------------- */

static int tell_checkpoint(struct owner *owner, bool joined,
                           struct control_message *reply)
{
    struct state_facts facts;
    struct lease_counts counts;
    uint64_t chunks;

    state_log_facts(device_state_log(owner->options.device), &facts);
    count_all(owner, &counts);
    mutex_lock(&owner->lock);
    chunks = owner->chunks;
    mutex_unlock(&owner->lock);
    control_message_start(reply, "ok");
    control_message_add_number(reply, "time_ns", facts.checkpoint_time_ns);
    control_message_add_number(reply, "joined", joined);
    control_message_add_number(reply, "chunks", chunks);
    control_message_add_number(reply, "left", counts.waiting + counts.leased);
    control_message_add_number(reply, "bytes", counts.pages * CACHE_PAGE);
    return 0;
}

static int checkpoint(struct owner *owner,
                      const struct control_message *request, uint64_t holder,
                      struct control_message *reply)
{
    bool joined = false;
    int error = owner_take_turn(owner);

    (void)request;
    (void)holder;
    if (error != 0)
        return error;
    error = owner_open_checkpoint(owner, &joined);
    owner_end_turn(owner);
    if (error == 0)
        return tell_checkpoint(owner, joined, reply);
    if (error != -ENODATA)
        return error;
    control_message_start(reply, "ok");
    control_message_add_number(reply, "chunks", 0);
    control_message_add_number(reply, "joined", 0);
    control_message_add_number(reply, "left", 0);
    control_message_add_number(reply, "bytes", 0);
    control_message_add_number(reply, "time_ns", 0);
    return 0;
}

/*
 * Whether others have chunks of these hundredths in hand, so that there may be
 * something to do again: who asks has not done all before they have.
 */
static bool others_upload(struct owner *owner, const struct lease_wish *wish)
{
    struct lease_counts counts;

    if (wish->purpose != LEASE_CHECKPOINT)
        return false;
    lease_count(owner->leases, wish->start_percent, wish->stop_percent,
                &counts);
    return counts.leased > 0;
}

static int lease(struct owner *owner, const struct control_message *request,
                 uint64_t holder, struct control_message *reply)
{
    const char *purpose = control_message_get(request, "purpose");
    struct lease_wish wish = {.holder = holder};
    struct control_lease answer = {.rate = 0};
    struct lease_counts counts;
    struct lease taken;
    uint64_t wait_ns = 0;
    int error = 0;

    if (purpose == NULL ||
        get_percents(request, &wish.start_percent, &wish.stop_percent) != 0)
        return bad_request(reply, "lease: purpose, from or to are wrong");
    if (strcmp(purpose, "space") == 0)
        wish.purpose = LEASE_EVICTION;
    else if (strcmp(purpose, "image") == 0)
        wish.purpose = LEASE_CHECKPOINT;
    else
        return bad_request(reply, "lease: no such purpose");
    if (wish.purpose == LEASE_CHECKPOINT)
        error = is_complete(owner) ? -ENODATA : 0;
    if (error == 0)
        error = owner_claim(owner);
    if (error == 0)
        error = lease_take(owner->leases, &wish, &taken, &wait_ns);
    if (error == -ENODATA && others_upload(owner, &wish)) {
        wait_ns = OTHERS_UPLOAD_NS;
        error = -EAGAIN;
    }
    if (error == -EAGAIN) {
        control_message_start(reply, "wait");
        control_message_add_number(reply, "milliseconds",
                                   wait_ns / 1000000 + 1);
        return 0;
    }
    if (error == -ENODATA) {
        count_all(owner, &counts);
        control_message_start(reply, "none");
        control_message_add_number(reply, "left",
                                   counts.waiting + counts.leased);
        return 0;
    }
    if (error != 0)
        return error;
    answer.lease = taken.number;
    answer.work = taken.work;
    answer.parallelism = taken.parallel;
    answer.rate = owner_upload_rate(owner, wish.purpose, taken.parallel);
    control_message_start(reply, "ok");
    control_lease_encode(&answer, reply);
    return 0;
}

static int report(struct owner *owner, const struct control_message *request,
                  uint64_t holder, struct control_message *reply)
{
    struct control_report of;
    struct lease_counts counts;
    int error = control_report_decode(request, &of);

    if (error != 0)
        return bad_request(reply, "report: it makes no sense");
    error = lease_report(owner->leases, holder, of.lease, of.error, &of.result);
    if (error != 0)
        return error;
    count_all(owner, &counts);
    control_message_start(reply, "ok");
    control_message_add_number(reply, "left", counts.waiting + counts.leased);
    return 0;
}

static int progress(struct owner *owner, const struct control_message *request,
                    uint64_t holder, struct control_message *reply)
{
    struct lease_counts counts;
    uint64_t chunks;

    (void)request;
    (void)holder;
    count_all(owner, &counts);
    mutex_lock(&owner->lock);
    chunks = owner->chunks;
    mutex_unlock(&owner->lock);
    control_message_start(reply, "ok");
    control_message_add_number(reply, "chunks", chunks);
    control_message_add_number(reply, "left", counts.waiting + counts.leased);
    control_message_add_number(reply, "bytes", counts.pages * CACHE_PAGE);
    control_message_add_number(reply, "uploaded", counts.bytes);
    control_message_add_number(reply, "evicted", atomic_load(&owner->evicted));
    return 0;
}

/* ---- eviction ------------------------------------------------------------ */

static const char *evict_state_name(enum owner_evict_state state)
{
    switch (state) {
    case OWNER_EVICT_DONE:
        return "done";
    case OWNER_EVICT_MORE:
        return "more";
    case OWNER_EVICT_UPLOAD:
        return "upload";
    case OWNER_EVICT_STUCK:
        break;
    }
    return "stuck";
}

static int evict(struct owner *owner, const struct control_message *request,
                 uint64_t holder, struct control_message *reply)
{
    struct owner_evict step = {.state = OWNER_EVICT_DONE};
    struct owner_space space;
    uint64_t above, hundredths;
    char used[32];
    int error;

    (void)holder;
    if (control_message_get_number(request, "above", 0, PERCENT, &above) != 0 ||
        get_percents(request, &step.start_percent, &step.stop_percent) != 0)
        return bad_request(reply, "evict: above, from or to are wrong");
    error = owner_space(owner, &space);
    if (error != 0)
        return error;
    step.above = space.limit / PERCENT * above;
    error = owner_evict(owner, &step);
    if (error == 0)
        error = owner_space(owner, &space);
    if (error != 0)
        return error;
    hundredths = space.limit < PERCENT * PERCENT
                     ? 0
                     : space.used / (space.limit / (PERCENT * PERCENT));
    (void)snprintf(used, sizeof(used), "%" PRIu64 ".%02" PRIu64,
                   hundredths / PERCENT, hundredths % PERCENT);
    control_message_start(reply, "ok");
    control_message_add(reply, "state", evict_state_name(step.state));
    control_message_add(reply, "used", used);
    control_message_add_number(reply, "chunks", step.chunks);
    control_message_add_number(reply, "freed", step.freed);
    return 0;
}

/* ---- images -------------------------------------------------------------- */

static int publish(struct owner *owner, const struct control_message *request,
                   uint64_t holder, struct control_message *reply)
{
    struct epoch_record content;
    struct lease_counts counts;
    bool is_new;
    int error = owner_take_turn(owner);

    (void)request;
    (void)holder;
    if (error != 0)
        return error;
    error = owner_publish(owner, &is_new);
    owner_end_turn(owner);
    if (error == -EAGAIN) {
        count_all(owner, &counts);
        control_message_start(reply, "ok");
        control_message_add_number(reply, "left",
                                   counts.waiting + counts.leased);
        return 0;
    }
    if (error == 0 || error == -ENOENT) /* there was none, or was just made */
        error = claim_content(owner->claim, &content);
    if (error != 0)
        return error;
    control_message_start(reply, "ok");
    control_message_add_number(reply, "left", 0);
    control_message_add_number(reply, "epoch", content.image_epoch);
    control_message_add_number(reply, "time_ns", content.content_time_ns);
    return 0;
}

static int collect(struct owner *owner, const struct control_message *request,
                   uint64_t holder, struct control_message *reply)
{
    struct collect_counts counts = {.condemned = 0};
    int error = owner_take_turn(owner);

    (void)request;
    (void)holder;
    if (error != 0)
        return error;
    if (owner_should_collect(owner))
        error = owner_collect(owner, &counts);
    owner_end_turn(owner);
    if (error != 0)
        return error;
    control_message_start(reply, "ok");
    control_message_add_number(reply, "condemned", counts.condemned);
    control_message_add_number(reply, "deleted", counts.deleted);
    control_message_add_number(reply, "more", counts.has_more);
    return 0;
}

static int name_image(struct owner *owner, const char *name, uint64_t epoch,
                      struct epoch_record *ret_record)
{
    int error = claim_content(owner->claim, ret_record);

    if (error != 0)
        return error;
    if (ret_record->root.size == 0 ||
        (epoch != 0 && epoch != ret_record->image_epoch))
        return -ENOENT;
    return snapshot_create(owner->options.store,
                           device_name(owner->options.device), name,
                           ret_record);
}

static int snapshot(struct owner *owner, const struct control_message *request,
                    uint64_t holder, struct control_message *reply)
{
    const char *name = get_name(request);
    struct epoch_record record;
    uint64_t epoch = 0;
    int error =
        control_message_get_number(request, "epoch", 1, UINT64_MAX, &epoch);

    (void)holder;
    if (name == NULL || (error != 0 && error != -ENOENT))
        return bad_request(reply, "snapshot: name or epoch are wrong");
    error = owner_take_turn(owner);
    if (error != 0)
        return error;
    error = owner_claim(owner);
    if (error == 0)
        error = name_image(owner, name, epoch, &record);
    owner_end_turn(owner);
    if (error != 0) {
        control_message_start_error(
            reply, error, "%s",
            error == -EEXIST   ? "there is a snapshot of that name"
            : error == -ENOENT ? "there is no such image"
                               : log_errno(error));
        return 0;
    }
    control_message_start(reply, "ok");
    control_message_add_number(reply, "epoch", record.image_epoch);
    return 0;
}

/* Lines for the payload. */
struct lines {
    FILE *stream;
};

static int add_line(void *context, const struct snapshot *of)
{
    struct lines *lines = context;

    return fprintf(lines->stream, "%s %" PRIu64 " %" PRIu64 "\n", of->name,
                   of->record.image_epoch, of->record.content_time_ns) < 0
               ? -ENOMEM
               : 0;
}

/* Answer with what was written to the lines, which are closed. */
static int answer_lines(struct lines *lines, char **text, const size_t *size,
                        int error, struct control_message *reply)
{
    if (fclose(lines->stream) != 0 && error == 0)
        error = -ENOMEM;
    if (error == 0 && *size > CONTROL_PAYLOAD_MAX)
        error = -E2BIG;
    if (error != 0) {
        free(*text);
        return error;
    }
    control_message_start(reply, "ok");
    if (*size > 0)
        control_message_set_payload(reply, *text, *size);
    else
        free(*text);
    return 0;
}

static int snapshots(struct owner *owner, const struct control_message *request,
                     uint64_t holder, struct control_message *reply)
{
    char *text = NULL;
    size_t size = 0;
    struct lines lines = {open_memstream(&text, &size)};
    int error;

    (void)request;
    (void)holder;
    if (lines.stream == NULL)
        return -ENOMEM;
    error = snapshot_list(owner->options.store,
                          device_name(owner->options.device), add_line, &lines);
    return answer_lines(&lines, &text, &size, error, reply);
}

static int add_origin(void *context, uint32_t origin, const char *name)
{
    struct lines *lines = context;

    return fprintf(lines->stream, "%" PRIu32 " %s\n", origin, name) < 0
               ? -ENOMEM
               : 0;
}

static int origins(struct owner *owner, const struct control_message *request,
                   uint64_t holder, struct control_message *reply)
{
    char *text = NULL;
    size_t size = 0;
    struct lines lines = {open_memstream(&text, &size)};
    int error;

    (void)request;
    (void)holder;
    if (lines.stream == NULL)
        return -ENOMEM;
    error = fetch_each_origin(device_fetch(owner->options.device), add_origin,
                              &lines);
    return answer_lines(&lines, &text, &size, error, reply);
}

static int rollback(struct owner *owner, const struct control_message *request,
                    uint64_t holder, struct control_message *reply)
{
    const char *name = get_name(request);
    uint64_t epoch;
    int error;

    (void)holder;
    if (name == NULL)
        return bad_request(reply, "rollback: the name is wrong");
    error = owner_take_turn(owner);
    if (error != 0)
        return error;
    error = owner_rollback(owner, name, control_message_has(request, "discard"),
                           &epoch);
    owner_end_turn(owner);
    if (error != 0) {
        control_message_start_error(
            reply, error, "%s",
            error == -EBUSY       ? "a client is attached"
            : error == -ENOENT    ? "there is no such snapshot"
            : error == -ENOTEMPTY ? "there are changes that no image holds"
                                  : log_errno(error));
        return 0;
    }
    control_message_start(reply, "ok");
    control_message_add_number(reply, "epoch", epoch);
    return 0;
}

/* Answer what came of making a device, which has this first epoch then. */
static int answer_made(int error, const struct epoch_record *record,
                       struct control_message *reply)
{
    if (error != 0) {
        control_message_start_error(
            reply, error, "%s",
            error == -EEXIST   ? "there is a device of that name"
            : error == -ENOENT ? "there is no such image"
            : error == -EINVAL ? "this is no name for it"
                               : log_errno(error));
        return 0;
    }
    control_message_start(reply, "ok");
    control_message_add_number(reply, "epoch", record->epoch);
    return 0;
}

static int make_clone(struct owner *owner,
                      const struct control_message *request, uint64_t holder,
                      struct control_message *reply)
{
    const char *to = control_message_get(request, "to");
    const char *name = control_message_get(request, "name");
    struct clone_plan plan = {
        .store = owner->options.store,
        .source = device_name(owner->options.device),
        .snapshot = name,
        .name = to,
        .time_ns = owner_now_ns(),
    };
    struct epoch_pace pace = {owner_wait, owner, EPOCH_READ_BACK_NS};
    char host[EPOCH_HOST];
    struct epoch_record content, record;
    uint8_t own_id[UUID_SIZE];
    int error;

    (void)holder;
    if (to == NULL || to[0] == '\0' ||
        (name != NULL && !snapshot_name_is_valid(name)))
        return bad_request(reply, "clone: a name is wrong");
    epoch_host(host);
    plan.host = host;
    device_ids(owner->options.device, own_id, plan.cachedir_id);
    error = uuid_make(plan.device_id);
    if (error == 0)
        error = owner_take_turn(owner);
    if (error != 0)
        return error;
    error = claim_content(owner->claim, &content);
    if (error == 0) {
        plan.key_has_nonce = content.key_has_nonce;
        plan.pace = &pace;
        error = clone_create(&plan, &record);
    }
    owner_end_turn(owner);
    return answer_made(error, &record, reply);
}

/* The device itself: not while it is served. */
static int drop_whole(struct owner *owner, struct control_message *reply)
{
    struct epoch_pace pace = {owner_wait, owner, EPOCH_READ_BACK_NS};
    struct drop_plan plan = {
        .store = owner->options.store,
        .device_name = device_name(owner->options.device),
        .time_ns = owner_now_ns(),
        .pace = &pace,
        .must_stop = owner_is_interrupted,
        .context = owner,
    };
    char host[EPOCH_HOST];
    uint8_t device_id[UUID_SIZE];
    int error;

    if (owner->options.is_daemon)
        return -EBUSY;
    epoch_host(host);
    plan.host = host;
    device_ids(owner->options.device, device_id, plan.cachedir_id);
    error = owner_take_turn(owner);
    if (error != 0)
        return error;
    error = drop_device(&plan);
    /* The claim is gone with it: nothing is published or released any more. */
    (void)claim_watch(owner->claim, false);
    owner_end_turn(owner);
    if (error != 0) {
        control_message_start_error(
            reply, error, "%s",
            error == -EPERM    ? "another host writes it"
            : error == -EBUSY  ? "a clone needs it: see the log"
            : error == -ENOENT ? "it is not in the bucket"
                               : log_errno(error));
        return 0;
    }
    control_message_start(reply, "ok");
    return 0;
}

static int drop(struct owner *owner, const struct control_message *request,
                uint64_t holder, struct control_message *reply)
{
    const char *name = get_name(request);
    struct collect_options options;
    struct epoch_record own;
    int error;

    (void)holder;
    if (name == NULL)
        return control_message_get(request, "name") != NULL
                   ? bad_request(reply, "drop: the name is wrong")
                   : drop_whole(owner, reply);
    error = owner_take_turn(owner);
    if (error != 0)
        return error;
    error = owner_claim(owner);
    if (error == 0)
        error = owner_collect_options(owner, &own, &options);
    if (error == 0)
        error = collect_drop_snapshot(&options, name);
    owner_end_turn(owner);
    if (error == -ENOENT) {
        control_message_start_error(reply, error, "there is no such snapshot");
        return 0;
    }
    if (error != 0)
        return error;
    owner_collect_soon(owner);
    return ok_epoch(owner, reply);
}

/* ---- who writes ---------------------------------------------------------- */

static int release(struct owner *owner, const struct control_message *request,
                   uint64_t holder, struct control_message *reply)
{
    const struct owner_options *options = &owner->options;
    int error = owner_take_turn(owner);

    (void)request;
    (void)holder;
    if (error != 0)
        return error;
    if (options->connections != NULL &&
        options->connections(options->context) > 0)
        error = -EBUSY;
    else if (owner_is_dirty(owner))
        error = -ENOTEMPTY;
    else
        error = owner_release(owner);
    owner_end_turn(owner);
    if (error == -EBUSY || error == -ENOTEMPTY) {
        control_message_start_error(
            reply, error, "%s",
            error == -EBUSY ? "a client is attached"
                            : "there are changes that no image holds");
        return 0;
    }
    return error != 0 ? error : ok_epoch(owner, reply);
}

static int hello(struct owner *owner, const struct control_message *request,
                 uint64_t holder, struct control_message *reply)
{
    struct device *device = owner->options.device;

    (void)request;
    (void)holder;
    control_message_start(reply, "ok");
    control_message_add_number(reply, "version", CONTROL_VERSION);
    control_message_add(reply, "device", device_name(device));
    control_message_add_number(reply, "size", device_size(device));
    control_message_add_number(reply, "chunksize", device_chunk_size(device));
    control_message_add_number(reply, "daemon", owner->options.is_daemon);
    control_message_add_number(reply, "pid", (uint64_t)getpid());
    return 0;
}

/* What only s3blkdev-sync does, when nobody else has the device open. */
static int not_while_served(struct owner *owner,
                            const struct control_message *request,
                            uint64_t holder, struct control_message *reply)
{
    (void)owner;
    (void)holder;
    control_message_start_error(reply, -EBUSY,
                                "%s: the device is being served: end the"
                                " server first",
                                control_message_verb(request));
    return 0;
}

/* What is here becomes another device; nobody may write meanwhile. */
static int make_fork(struct owner *owner, const struct control_message *request,
                     uint64_t holder, struct control_message *reply)
{
    const char *to = control_message_get(request, "to");
    char host[EPOCH_HOST];
    struct epoch_pace pace = {owner_wait, owner, EPOCH_READ_BACK_NS};
    struct fork_plan plan = {
        .device = owner->options.device,
        .store = owner->options.store,
        .name = to,
        .host = host,
        .time_ns = owner_now_ns(),
        .pace = &pace,
        .must_stop = owner_is_interrupted,
        .context = owner,
    };
    struct epoch_record content, record;
    int error;

    if (owner->options.is_daemon)
        return not_while_served(owner, request, holder, reply);
    if (to == NULL)
        return bad_request(reply, "fork: the name is missing");
    epoch_host(host);
    error = owner_take_turn(owner);
    if (error != 0)
        return error;
    if (claim_content(owner->claim, &content) == 0)
        plan.key_has_nonce = content.key_has_nonce;
    error = fork_create(&plan, &record);
    owner_end_turn(owner);
    return answer_made(error, &record, reply);
}

static const struct {
    const char *verb;
    owner_command *run;
} commands[] = {
    {"hello", hello},
    {"status", owner_tell_status},
    {"checkpoint", checkpoint},
    {"lease", lease},
    {"report", report},
    {"progress", progress},
    {"evict", evict},
    {"publish", publish},
    {"collect", collect},
    {"snapshot", snapshot},
    {"snapshots", snapshots},
    {"rollback", rollback},
    {"clone", make_clone},
    {"drop", drop},
    {"release", release},
    {"scrub", owner_do_scrub},
    {"takeover", not_while_served},
    {"origins", origins},
    {"fork", make_fork},
    {"discard", not_while_served},
};

owner_command *owner_find_command(const char *verb)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].verb, verb) == 0)
            return commands[i].run;
    }
    return NULL;
}
