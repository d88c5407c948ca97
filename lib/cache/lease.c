/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which chunks the checkpoint still wants is told by its catalog alone; what
 * is kept here says only in which order they go.  So whatever is in the queue
 * is looked up again when its turn comes, and nothing goes wrong if it is
 * there twice, or has been uploaded otherwise.
 *
 *   queue    the pending chunks of the checkpoint, by hundredth, and in that
 *            the most recently used first; an entry is taken out once
 *   again    chunks whose upload failed, or whose holder went
 *   given    chunks that are leased
 */
#include "cache/lease.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/chunk_file.h"
#include "cache/chunk_work.h"
#include "cache/state_log.h"
#include "cache/use.h"

enum {
    HUNDREDTHS = 100,
    IDS_RESERVED = 1024, /* object ids, by one commit */
    /*
     * After so many failures it is no bad moment any more, and what the disk
     * or the bucket has lost must not keep the rest from becoming an image.
     */
    FAILURES_LOST = 6,
    FLOOR_SHARE = 4, /* uploads get 1 / this of the time that reads want */
    REFUSED_MAX = 64,
};

static const uint64_t MILLISECOND = 1000000;
static const uint64_t POLL_NS = 50 * MILLISECOND; /* nothing says when */
static const uint64_t RETRY_FIRST_NS = 1000 * MILLISECOND; /* then doubled */
static const uint64_t RETRY_MAX_NS = 60000 * MILLISECOND;
static const uint64_t YIELD_MAX_NS = 10000 * MILLISECOND; /* to reads */

struct queued {
    uint64_t chunk;
    uint32_t last_used; /* use_tick */
    uint32_t file_pages;
};

/* A candidate whose upload came to nothing, and which may be one again. */
struct refused {
    uint64_t chunk;
    unsigned failures; /* 0: none */
    uint64_t not_before_ns;
};

/* A chunk that is, was, or is about to be leased. */
struct job {
    struct job *next;
    uint64_t chunk;
    unsigned failures;
    unsigned doubts; /* of these, those that may mean a loss */
    enum upload_loss loss;
    uint64_t not_before_ns;

    /* While it is given. */
    struct lease lease;
    uint64_t holder;
    uint64_t started_ns;
    bool is_reported; /* its report is being recorded: it stays where it is */
};

struct leases {
    struct lease_options options;
    struct mutex mutex;
    struct condition changed; /* of reserving, beginning, reporting */

    /* GUARDED_BY(mutex), as all that follows. */
    struct object_id next_id; /* epoch 0: no claim */
    uint64_t ids_end;
    bool is_reserving;
    uint64_t last_number;

    bool has_checkpoint;
    bool is_beginning;  /* its chunks are being counted: no reports now */
    unsigned reporting; /* reports that are being recorded */
    struct queued *queue;
    uint64_t next[HUNDREDTHS + 1]; /* where that part of the queue begins, */
    uint64_t end[HUNDREDTHS];      /* and ends */
    uint64_t pending[HUNDREDTHS];  /* chunks, leased or not */
    uint64_t pages[HUNDREDTHS];    /* of their files */
    uint64_t pending_all;

    uint64_t *candidates;
    size_t candidates_next;
    size_t candidates_count;
    struct refused refused[REFUSED_MAX]; /* the last ones */
    unsigned refused_next;

    struct job *again;
    struct job *given;
    unsigned given_count;

    unsigned failures; /* since one went well */
    uint64_t failed_ns;
    uint64_t hold_until_ns; /* because of failures */
    uint64_t ended_ns;      /* the last upload, */
    uint64_t lasted_ns;     /* and how long it took */

    unsigned parallel;   /* at once, at most: fewer when the store is busy */
    unsigned good;       /* uploads that went well since it changed */
    uint64_t reduced_ns; /* when it became fewer */

    uint64_t uploaded;
    uint64_t bytes;
    int last_error;
    struct lease_holders holders;
};

unsigned lease_percent(uint64_t chunk)
{
    /* Neighbours, and any stride, must spread evenly: mix all bits. */
    chunk ^= chunk >> 33;
    chunk *= UINT64_C(0xff51afd7ed558ccd);
    chunk ^= chunk >> 33;
    chunk *= UINT64_C(0xc4ceb9fe1a85ec53);
    chunk ^= chunk >> 33;
    return (unsigned)(chunk % HUNDREDTHS);
}

bool lease_is_in_part(uint64_t chunk, unsigned start_percent,
                      unsigned stop_percent)
{
    unsigned percent = lease_percent(chunk);

    return percent >= start_percent && percent < stop_percent;
}

/* ---- the checkpoint's chunks --------------------------------------------- */

/* Whether the checkpoint waits for the chunk, and its entry there. */
static bool is_pending(const struct leases *leases, uint64_t chunk,
                       struct catalog_entry *ret_entry)
{
    catalog_get(leases->options.checkpoint, chunk, ret_entry);
    return ret_entry->generation != 0 &&
           (ret_entry->flags & (CATALOG_ZERO | CATALOG_HOLE)) == 0 &&
           ret_entry->uploaded_generation != ret_entry->generation;
}

/* Whether it could be uploaded for the sake of eviction. */
static bool is_dirty(const struct leases *leases, uint64_t chunk,
                     struct catalog_entry *ret_entry)
{
    catalog_get(leases->options.catalog, chunk, ret_entry);
    return ret_entry->generation != 0 &&
           (ret_entry->flags & (CATALOG_ZERO | CATALOG_HOLE)) == 0 &&
           (ret_entry->flags & CATALOG_FILE) != 0 &&
           ret_entry->uploaded_generation != ret_entry->generation;
}

static bool goes_before(const struct queued *one, const struct queued *other)
{
    return one->last_used != other->last_used
               ? one->last_used > other->last_used
               : one->chunk < other->chunk;
}

static int compare_queued(const void *a, const void *b)
{
    const struct queued *one = a, *other = b;
    unsigned percent = lease_percent(one->chunk);
    unsigned other_percent = lease_percent(other->chunk);

    if (percent != other_percent)
        return percent < other_percent ? -1 : 1;
    return goes_before(one, other) ? -1 : goes_before(other, one);
}

/* Forget the checkpoint's queue. */
static void clear_queue_locked(struct leases *leases) REQUIRES(leases->mutex)
{
    free(leases->queue);
    leases->queue = NULL;
    memset(leases->next, 0, sizeof(leases->next));
    memset(leases->end, 0, sizeof(leases->end));
    memset(leases->pending, 0, sizeof(leases->pending));
    memset(leases->pages, 0, sizeof(leases->pages));
    leases->pending_all = 0;
    leases->has_checkpoint = false;
}

/* Tell all pending chunks, sorted; *ret_queue is for free(). */
static int collect_pending(const struct leases *leases,
                           struct queued **ret_queue, size_t *ret_count)
{
    struct catalog *checkpoint = leases->options.checkpoint;
    size_t room = catalog_count(checkpoint), count = 0;
    struct queued *queue = malloc((room + 1) * sizeof(*queue));
    uint64_t chunk = 0;

    if (queue == NULL)
        return -ENOMEM;
    while (count < room &&
           catalog_next(checkpoint, chunk, UINT64_MAX, &chunk)) {
        struct catalog_entry entry;

        if (is_pending(leases, chunk, &entry))
            queue[count++] = (struct queued){
                .chunk = chunk,
                .last_used = use_tick(leases->options.use, chunk),
                .file_pages = entry.file_pages,
            };
        chunk++;
    }
    qsort(queue, count, sizeof(*queue), compare_queued);
    *ret_queue = queue;
    *ret_count = count;
    return 0;
}

static uint64_t backoff_ns(unsigned failures)
{
    uint64_t ns = RETRY_FIRST_NS;

    for (unsigned i = 1; i < failures && ns < RETRY_MAX_NS; i++)
        ns *= 2;
    return ns < RETRY_MAX_NS ? ns : RETRY_MAX_NS;
}

/* ---- jobs -----------------------------------------------------------------
 */

static struct job *find_given_locked(struct leases *leases, uint64_t chunk)
    REQUIRES(leases->mutex)
{
    struct job *job = leases->given;

    while (job != NULL && job->chunk != chunk)
        job = job->next;
    return job;
}

static void unlink_job(struct job **list, const struct job *job)
{
    while (*list != job)
        list = &(*list)->next;
    *list = job->next;
}

static void free_jobs(struct job *job)
{
    while (job != NULL) {
        struct job *next = job->next;

        free(job);
        job = next;
    }
}

/*
 * The job is not given any more; if the checkpoint still wants its chunk, it
 * waits again.
 */
static void give_back_locked(struct leases *leases, struct job *job)
    REQUIRES(leases->mutex)
{
    struct catalog_entry entry;

    unlink_job(&leases->given, job);
    leases->given_count--;
    lease_holders_give_back(&leases->holders, job->holder);
    if (leases->has_checkpoint && is_pending(leases, job->chunk, &entry)) {
        job->next = leases->again;
        leases->again = job;
    } else {
        free(job);
    }
}

/* Returns a lease that nobody reports just now, and that which asks for. */
static struct job *find_which_locked(struct leases *leases,
                                     bool (*which)(const struct job *job,
                                                   uint64_t of),
                                     uint64_t of) REQUIRES(leases->mutex)
{
    struct job *job = leases->given;

    while (job != NULL && (job->is_reported || !which(job, of)))
        job = job->next;
    return job;
}

/* Make void what is given and asked for by which. */
static void void_given_locked(struct leases *leases,
                              bool (*which)(const struct job *job, uint64_t of),
                              uint64_t of) REQUIRES(leases->mutex)
{
    struct job *job;

    while ((job = find_which_locked(leases, which, of)) != NULL)
        give_back_locked(leases, job);
}

static bool is_any(const struct job *job, uint64_t of)
{
    (void)job;
    (void)of;
    return true;
}

static bool is_of_holder(const struct job *job, uint64_t holder)
{
    return job->holder == holder;
}

static bool is_of_checkpoint(const struct job *job, uint64_t of)
{
    (void)of;
    return job->lease.is_for_checkpoint;
}

/* ---- begin and end --------------------------------------------------------
 */

int leases_new(const struct lease_options *options, struct leases **ret_leases)
{
    struct leases *leases = calloc(1, sizeof(*leases));
    struct state_facts facts;

    assert(options->parallel >= 1);
    if (leases == NULL)
        return -ENOMEM;
    leases->options = *options;
    leases->parallel = options->parallel;
    mutex_init(&leases->mutex);
    condition_init(&leases->changed);
    state_log_facts(options->state_log, &facts);
    leases->next_id.counter = facts.counter;
    leases->ids_end = facts.counter;
    /* So that a lease of an owner before this one is none of this one's. */
    leases->last_number = clock_realtime_ns();
    *ret_leases = leases;
    return 0;
}

void leases_free(struct leases *leases)
{
    if (leases == NULL)
        return;
    free(leases->queue);
    free(leases->candidates);
    free_jobs(leases->again);
    free_jobs(leases->given);
    condition_done(&leases->changed);
    mutex_done(&leases->mutex);
    free(leases);
}

void leases_set_parallel(struct leases *leases, unsigned parallel)
{
    assert(parallel >= 1);
    mutex_lock(&leases->mutex);
    /* While the store is busy it is fewer anyhow, and grows by itself. */
    if (leases->parallel == leases->options.parallel ||
        leases->parallel > parallel)
        leases->parallel = parallel;
    leases->options.parallel = parallel;
    mutex_unlock(&leases->mutex);
}

void leases_set_claim(struct leases *leases, uint64_t epoch, uint64_t nonce)
{
    mutex_lock(&leases->mutex);
    if (leases->next_id.epoch != epoch || leases->next_id.nonce != nonce)
        void_given_locked(leases, is_any, 0);
    leases->next_id.epoch = epoch;
    leases->next_id.nonce = nonce;
    mutex_unlock(&leases->mutex);
}

static void end_checkpoint_locked(struct leases *leases) REQUIRES(leases->mutex)
{
    clear_queue_locked(leases);
    void_given_locked(leases, is_of_checkpoint, 0);
    free_jobs(leases->again);
    leases->again = NULL;
}

/* Take over the sorted queue. */
static void set_queue_locked(struct leases *leases, struct queued *queue,
                             size_t count) REQUIRES(leases->mutex)
{
    size_t i = 0;

    leases->has_checkpoint = true;
    leases->queue = queue;
    leases->pending_all = count;
    for (unsigned percent = 0; percent < HUNDREDTHS; percent++) {
        leases->next[percent] = i;
        for (; i < count && lease_percent(queue[i].chunk) == percent; i++) {
            leases->pending[percent]++;
            leases->pages[percent] += queue[i].file_pages;
        }
        leases->end[percent] = i;
    }
}

int leases_begin_checkpoint(struct leases *leases, uint64_t *ret_count)
{
    struct queued *queue = NULL;
    size_t count = 0;
    int error;

    /* A chunk that is recorded meanwhile would be counted, or not, wrongly. */
    mutex_lock(&leases->mutex);
    end_checkpoint_locked(leases);
    leases->is_beginning = true;
    while (leases->reporting > 0)
        condition_wait(&leases->changed, &leases->mutex);
    mutex_unlock(&leases->mutex);

    error = collect_pending(leases, &queue, &count);

    mutex_lock(&leases->mutex);
    if (error == 0)
        set_queue_locked(leases, queue, count);
    leases->is_beginning = false;
    condition_broadcast(&leases->changed);
    mutex_unlock(&leases->mutex);
    if (error == 0)
        *ret_count = count;
    return error;
}

void leases_end_checkpoint(struct leases *leases)
{
    mutex_lock(&leases->mutex);
    end_checkpoint_locked(leases);
    mutex_unlock(&leases->mutex);
}

/* The candidates that are left, of other hundredths, after those. */
static size_t add_others_locked(const struct leases *leases,
                                unsigned start_percent, unsigned stop_percent,
                                uint64_t chunks[], size_t count)
    REQUIRES(leases->mutex)
{
    for (size_t i = leases->candidates_next; i < leases->candidates_count;
         i++) {
        uint64_t chunk = leases->candidates[i];

        if (chunk != UINT64_MAX &&
            !lease_is_in_part(chunk, start_percent, stop_percent))
            chunks[count++] = chunk;
    }
    return count;
}

int leases_set_candidates(struct leases *leases, unsigned start_percent,
                          unsigned stop_percent, const uint64_t chunks[],
                          size_t count)
{
    uint64_t *list;

    mutex_lock(&leases->mutex);
    list = calloc(count + leases->candidates_count + 1, sizeof(*list));
    if (list != NULL) {
        if (count > 0)
            memcpy(list, chunks, count * sizeof(*list));
        leases->candidates_count =
            add_others_locked(leases, start_percent, stop_percent, list, count);
        leases->candidates_next = 0;
        free(leases->candidates);
        leases->candidates = list;
    }
    mutex_unlock(&leases->mutex);
    return list != NULL ? 0 : -ENOMEM;
}

/* ---- object ids -----------------------------------------------------------
 */

/*
 * Make more ids ours.  What is committed and then not used, because the
 * process ends, is lost: there are enough.
 */
static int reserve_locked(struct leases *leases) REQUIRES(leases->mutex)
{
    struct state_change change = {
        .kind = STATE_COUNTER,
        .number = leases->ids_end + IDS_RESERVED,
    };
    int error;

    leases->is_reserving = true;
    mutex_unlock(&leases->mutex);
    error = state_log_commit(leases->options.state_log, &change, 1);
    mutex_lock(&leases->mutex);
    leases->is_reserving = false;
    if (error == 0)
        leases->ids_end = change.number;
    condition_broadcast(&leases->changed);
    return error;
}

/*
 * Have an id to give out, next_id.  On success the lock is held since that
 * was looked at.
 */
static int need_id_locked(struct leases *leases) REQUIRES(leases->mutex)
{
    int error = 0;

    while (error == 0 && leases->next_id.epoch != 0 &&
           leases->next_id.counter == leases->ids_end) {
        if (leases->is_reserving)
            condition_wait(&leases->changed, &leases->mutex);
        else
            error = reserve_locked(leases);
    }
    return error == 0 && leases->next_id.epoch == 0 ? -EPERM : error;
}

uint64_t lease_first_counter(struct leases *leases)
{
    uint64_t first;

    mutex_lock(&leases->mutex);
    first = leases->next_id.counter;
    for (const struct job *job = leases->given; job != NULL; job = job->next) {
        if (job->lease.work.id.counter < first)
            first = job->lease.work.id.counter;
    }
    mutex_unlock(&leases->mutex);
    return first;
}

/* ---- whose turn it is -----------------------------------------------------
 */

static bool wants(const struct lease_wish *wish, uint64_t chunk)
{
    return lease_is_in_part(chunk, wish->start_percent, wish->stop_percent);
}

/* Let the job be for the state that the checkpoint wants. */
static bool describe_pending_locked(struct leases *leases, struct job *job)
    REQUIRES(leases->mutex)
{
    struct catalog_entry entry;

    if (!leases->has_checkpoint || !is_pending(leases, job->chunk, &entry))
        return false;
    job->lease.is_for_checkpoint = true;
    job->lease.work.generation = entry.generation;
    job->lease.work.revision = entry.revision;
    job->lease.work.loss = job->loss;
    return true;
}

/* Or for the newest one, which gets lost while it is uploaded, or not. */
static bool describe_dirty(const struct leases *leases, struct job *job)
{
    struct catalog_entry entry;

    if (!is_dirty(leases, job->chunk, &entry))
        return false;
    job->lease.is_for_checkpoint = false;
    job->lease.work.generation = entry.generation;
    job->lease.work.revision = entry.revision;
    job->lease.work.loss = UPLOAD_NO_LOSS;
    return true;
}

/*
 * Returns a chunk that is to be tried again, out of the list, or NULL;
 * *ret_wait_ns is then after how long there will be one, or unchanged.
 */
static struct job *take_again_locked(struct leases *leases,
                                     const struct lease_wish *wish,
                                     uint64_t now_ns, uint64_t *ret_wait_ns)
    REQUIRES(leases->mutex)
{
    struct job **link = &leases->again;

    while (*link != NULL) {
        struct job *job = *link;
        bool is_given = find_given_locked(leases, job->chunk) != NULL;

        if (!wants(wish, job->chunk)) {
            link = &job->next;
        } else if (is_given || !describe_pending_locked(leases, job)) {
            *link = job->next; /* somebody else sees, or saw, to it */
            free(job);
        } else if (job->not_before_ns > now_ns) {
            if (*ret_wait_ns > job->not_before_ns - now_ns)
                *ret_wait_ns = job->not_before_ns - now_ns;
            link = &job->next;
        } else {
            *link = job->next;
            return job;
        }
    }
    return NULL;
}

static bool is_again_locked(const struct leases *leases, uint64_t chunk)
    REQUIRES(leases->mutex)
{
    const struct job *job = leases->again;

    while (job != NULL && job->chunk != chunk)
        job = job->next;
    return job != NULL;
}

/* Take the most recently used chunk out of these hundredths of the queue. */
static bool take_queued_locked(struct leases *leases,
                               const struct lease_wish *wish,
                               uint64_t *ret_chunk) REQUIRES(leases->mutex)
{
    const struct queued *best = NULL;
    unsigned from = 0;

    if (!leases->has_checkpoint)
        return false;
    for (unsigned percent = wish->start_percent;
         percent < wish->stop_percent && percent < HUNDREDTHS; percent++) {
        const struct queued *head = &leases->queue[leases->next[percent]];

        if (leases->next[percent] < leases->end[percent] &&
            (best == NULL || goes_before(head, best))) {
            best = head;
            from = percent;
        }
    }
    if (best == NULL)
        return false;
    leases->next[from]++;
    *ret_chunk = best->chunk;
    return true;
}

/* Returns the checkpoint's next chunk as a job of its own, or NULL. */
static struct job *next_of_checkpoint_locked(struct leases *leases,
                                             const struct lease_wish *wish,
                                             struct job *job)
    REQUIRES(leases->mutex)
{
    uint64_t chunk;

    while (take_queued_locked(leases, wish, &chunk)) {
        if (find_given_locked(leases, chunk) != NULL ||
            is_again_locked(leases, chunk))
            continue;
        *job = (struct job){.chunk = chunk};
        if (describe_pending_locked(leases, job))
            return job;
    }
    return NULL;
}

/* Returns what is known of such a candidate, or NULL. */
static struct refused *find_refused_locked(struct leases *leases,
                                           uint64_t chunk)
    REQUIRES(leases->mutex)
{
    for (unsigned i = 0; i < REFUSED_MAX; i++) {
        if (leases->refused[i].failures > 0 &&
            leases->refused[i].chunk == chunk)
            return &leases->refused[i];
    }
    return NULL;
}

/* A candidate was uploaded in vain: not at once again, if it is one again. */
static void refuse_locked(struct leases *leases, uint64_t chunk,
                          uint64_t now_ns) REQUIRES(leases->mutex)
{
    struct refused *refused = find_refused_locked(leases, chunk);

    if (refused == NULL) {
        refused = &leases->refused[leases->refused_next];
        leases->refused_next = (leases->refused_next + 1) % REFUSED_MAX;
        *refused = (struct refused){.chunk = chunk};
    }
    refused->failures++;
    refused->not_before_ns = now_ns + backoff_ns(refused->failures);
}

static bool is_refused_locked(struct leases *leases, uint64_t chunk,
                              uint64_t now_ns) REQUIRES(leases->mutex)
{
    const struct refused *refused = find_refused_locked(leases, chunk);

    return refused != NULL && refused->not_before_ns > now_ns;
}

/* Its failures are forgotten, once it is uploaded. */
static void forgive_locked(struct leases *leases, uint64_t chunk)
    REQUIRES(leases->mutex)
{
    struct refused *refused = find_refused_locked(leases, chunk);

    if (refused != NULL)
        refused->failures = 0;
}

/* Whether it can be given out now, if it is dirty or pending. */
static bool may_begin_locked(struct leases *leases, uint64_t chunk,
                             uint64_t now_ns) REQUIRES(leases->mutex)
{
    return find_given_locked(leases, chunk) == NULL &&
           !is_again_locked(leases, chunk) &&
           !is_refused_locked(leases, chunk, now_ns);
}

bool lease_may_begin(struct leases *leases, uint64_t chunk)
{
    bool result;

    mutex_lock(&leases->mutex);
    result = may_begin_locked(leases, chunk, clock_monotonic_ns());
    mutex_unlock(&leases->mutex);
    return result;
}

/* Returns the next chunk that must go, as a job, or NULL. */
static struct job *next_to_evict_locked(struct leases *leases,
                                        const struct lease_wish *wish,
                                        uint64_t now_ns, struct job *job)
    REQUIRES(leases->mutex)
{
    for (size_t i = leases->candidates_next; i < leases->candidates_count;
         i++) {
        uint64_t chunk = leases->candidates[i];

        if (chunk == UINT64_MAX || !wants(wish, chunk) ||
            !may_begin_locked(leases, chunk, now_ns))
            continue;
        leases->candidates[i] = UINT64_MAX; /* taken */
        while (leases->candidates_next < leases->candidates_count &&
               leases->candidates[leases->candidates_next] == UINT64_MAX)
            leases->candidates_next++;
        *job = (struct job){.chunk = chunk};
        if (describe_pending_locked(leases, job) || describe_dirty(leases, job))
            return job;
    }
    return NULL;
}

/*
 * How many may be given now; 0: none, and *ret_wait_ns says for how long.
 * Reads that wait get the line, but for a share that lets images go on.
 */
static unsigned allowed_locked(const struct leases *leases,
                               const struct lease_pressure *pressure,
                               uint64_t now_ns, uint64_t *ret_wait_ns)
    REQUIRES(leases->mutex)
{
    uint64_t yield_ns = leases->lasted_ns * (FLOOR_SHARE - 1);

    *ret_wait_ns = POLL_NS;
    if (leases->hold_until_ns > now_ns) {
        *ret_wait_ns = leases->hold_until_ns - now_ns;
        return 0;
    }
    if (pressure->writes_wait || !pressure->reads_wait)
        return leases->parallel;
    if (yield_ns > YIELD_MAX_NS)
        yield_ns = YIELD_MAX_NS;
    return leases->ended_ns + yield_ns > now_ns ? 0 : 1;
}

/* Choose a chunk, fresh may become its job, and give it out. */
static int take_locked(struct leases *leases, const struct lease_wish *wish,
                       struct job *fresh, struct job **ret_job,
                       uint64_t *ret_wait_ns) REQUIRES(leases->mutex)
{
    uint64_t now_ns = clock_monotonic_ns(), again_ns = UINT64_MAX;
    struct job *job = take_again_locked(leases, wish, now_ns, &again_ns);

    if (job == NULL)
        job = wish->purpose == LEASE_EVICTION
                  ? next_to_evict_locked(leases, wish, now_ns, fresh)
                  : next_of_checkpoint_locked(leases, wish, fresh);
    if (job == NULL && again_ns == UINT64_MAX)
        return -ENODATA;
    if (job == NULL) {
        *ret_wait_ns = again_ns;
        return -EAGAIN;
    }
    job->lease.number = ++leases->last_number;
    job->lease.work.chunk = job->chunk;
    job->lease.work.id = leases->next_id;
    leases->next_id.counter++;
    job->holder = wish->holder;
    job->started_ns = now_ns;
    job->next = leases->given;
    leases->given = job;
    leases->given_count++;
    lease_holders_take(&leases->holders, wish->holder, clock_realtime_ns());
    *ret_job = job;
    return 0;
}

int lease_take(struct leases *leases, const struct lease_wish *wish,
               struct lease *ret_lease, uint64_t *ret_wait_ns)
{
    struct job *fresh = calloc(1, sizeof(*fresh)), *job = NULL;
    struct lease_pressure pressure;
    unsigned allowed;
    int error;

    if (fresh == NULL)
        return -ENOMEM;
    leases->options.pressure(leases->options.context, &pressure);
    mutex_lock(&leases->mutex);
    error = need_id_locked(leases);
    allowed =
        allowed_locked(leases, &pressure, clock_monotonic_ns(), ret_wait_ns);
    if (error == 0 && leases->given_count >= allowed)
        error = -EAGAIN;
    if (error == 0)
        error = take_locked(leases, wish, fresh, &job, ret_wait_ns);
    if (error == 0) {
        job->lease.parallel = allowed;
        *ret_lease = job->lease;
    }
    mutex_unlock(&leases->mutex);
    if (job != fresh)
        free(fresh);
    return error;
}

/* ---- what became of it ----------------------------------------------------
 */

/* Find out, if a state was not there, whether it is lost. */
static bool state_is_lost(const struct leases *leases,
                          const struct upload_work *work)
{
    struct chunk_file *file;
    struct chunk_table *table;
    int error;

    error = chunk_file_open(leases->options.chunk_dir, work->chunk, &file);
    if (error == 0) {
        error = chunk_file_read_table(file, work->generation, work->revision,
                                      &table);
        chunk_file_release(file);
        if (error == 0)
            chunk_table_release(table);
    }
    return error == -ENOENT || error == -ESTALE || error == -EBADMSG;
}

/*
 * The store asked to slow down: half as many at once.  Those that were under
 * way then say nothing new.
 */
static void note_busy_locked(struct leases *leases, const struct job *job,
                             uint64_t now_ns) REQUIRES(leases->mutex)
{
    leases->good = 0;
    if (job->started_ns <= leases->reduced_ns)
        return;
    leases->parallel = (leases->parallel + 1) / 2;
    leases->reduced_ns = now_ns;
}

/* As many went well as may be under way: one more. */
static void note_room_locked(struct leases *leases) REQUIRES(leases->mutex)
{
    if (leases->parallel == leases->options.parallel ||
        ++leases->good < leases->parallel)
        return;
    leases->parallel++;
    leases->good = 0;
}

/*
 * Whether it may be that the file or the bucket has lost something; else the
 * store does not answer, or refuses, which says nothing of that.
 */
static bool is_doubtful(int error)
{
    return error != -EREMOTEIO && error != -ETIMEDOUT && error != -EBUSY &&
           error != -EACCES;
}

/* The upload failed, or could not be recorded. */
static void note_failure_locked(struct leases *leases, struct job *job,
                                int error, bool is_lost, uint64_t now_ns)
    REQUIRES(leases->mutex)
{
    job->failures++;
    job->doubts += is_doubtful(error);
    if (error == -EBUSY)
        note_busy_locked(leases, job, now_ns);
    if (!job->lease.is_for_checkpoint)
        refuse_locked(leases, job->chunk, now_ns);
    if (is_lost)
        job->loss = UPLOAD_TABLE_LOST;
    else if (job->doubts >= FAILURES_LOST && job->loss == UPLOAD_NO_LOSS)
        job->loss = UPLOAD_BLOCKS_LOST;
    job->not_before_ns = now_ns + backoff_ns(job->failures);
    if (error == -ESTALE)
        return; /* it was overtaken, or is lost: nothing to wait for */
    leases->last_error = error;
    /* Those that were under way together fail together: that is one. */
    if (leases->failures == 0 || job->started_ns >= leases->failed_ns)
        leases->failures++;
    leases->failed_ns = now_ns;
    leases->hold_until_ns = now_ns + backoff_ns(leases->failures);
}

static void note_success_locked(struct leases *leases, const struct job *job,
                                uint64_t size, uint64_t now_ns)
    REQUIRES(leases->mutex)
{
    leases->failures = 0;
    leases->hold_until_ns = 0;
    leases->last_error = 0;
    leases->ended_ns = now_ns;
    leases->lasted_ns = now_ns - job->started_ns;
    leases->uploaded++;
    leases->bytes += size;
    forgive_locked(leases, job->chunk);
    lease_holders_uploaded(&leases->holders, job->holder, size);
    note_room_locked(leases);
}

/* Returns whether that was the last chunk that the checkpoint waited for. */
static bool note_not_pending_locked(struct leases *leases,
                                    const struct catalog_entry *entry,
                                    uint64_t chunk) REQUIRES(leases->mutex)
{
    unsigned percent = lease_percent(chunk);

    if (!leases->has_checkpoint || leases->pending[percent] == 0)
        return false;
    leases->pending[percent]--;
    leases->pages[percent] -= leases->pages[percent] < entry->file_pages
                                  ? leases->pages[percent]
                                  : entry->file_pages;
    return --leases->pending_all == 0;
}

/* Check the result of an upload, and have it recorded. */
static int record(struct leases *leases, const struct lease *lease,
                  const struct upload_result *result)
{
    struct uploaded uploaded = {
        .chunk = lease->work.chunk,
        .generation = lease->work.generation,
        .revision = lease->work.revision,
        .for_checkpoint = lease->is_for_checkpoint,
    };
    struct uploaded *list[1] = {&uploaded};
    int error =
        upload_decode_table(result->table, result->table_size, &lease->work,
                            leases->options.chunk_size, &uploaded.table);

    if (error != 0) {
        log_error("%s: chunk %016" PRIx64 ": what an uploader reports is not "
                  "the table of its object",
                  leases->options.device_name, lease->work.chunk);
        return error;
    }
    error = leases->options.uploaded(leases->options.context, list, 1);
    chunk_table_release(uploaded.table);
    return error != 0 ? error : uploaded.error;
}

/* Returns the lease's job, from now on in nobody else's hands; or NULL. */
static struct job *begin_report(struct leases *leases, uint64_t holder,
                                uint64_t number)
{
    struct job *job;

    mutex_lock(&leases->mutex);
    while (leases->is_beginning)
        condition_wait(&leases->changed, &leases->mutex);
    job = leases->given;
    while (job != NULL && (job->lease.number != number ||
                           job->holder != holder || job->is_reported))
        job = job->next;
    if (job != NULL) {
        job->is_reported = true;
        leases->reporting++;
    }
    mutex_unlock(&leases->mutex);
    return job;
}

int lease_report(struct leases *leases, uint64_t holder, uint64_t number,
                 int error, const struct upload_result *result)
{
    struct job *job = begin_report(leases, holder, number);
    struct catalog_entry before, after;
    bool was_pending, is_lost = false, is_complete = false;
    uint64_t now_ns;
    int answer = 0;

    if (job == NULL)
        return -ESTALE;
    was_pending = is_pending(leases, job->chunk, &before);
    if (error == 0)
        error = answer = record(leases, &job->lease, result);
    else if (error == -ESTALE && job->lease.is_for_checkpoint)
        is_lost = state_is_lost(leases, &job->lease.work);

    now_ns = clock_monotonic_ns();
    mutex_lock(&leases->mutex);
    job->is_reported = false;
    leases->reporting--;
    condition_broadcast(&leases->changed);
    if (error == 0)
        note_success_locked(leases, job, result->size, now_ns);
    else
        note_failure_locked(leases, job, error, is_lost, now_ns);
    if (was_pending && !is_pending(leases, job->chunk, &after))
        is_complete = note_not_pending_locked(leases, &before, job->chunk);
    give_back_locked(leases, job);
    mutex_unlock(&leases->mutex);
    if (is_complete)
        leases->options.complete(leases->options.context);
    return answer;
}

void lease_holder_gone(struct leases *leases, uint64_t holder)
{
    mutex_lock(&leases->mutex);
    void_given_locked(leases, is_of_holder, holder);
    lease_holders_remove(&leases->holders, holder);
    mutex_unlock(&leases->mutex);
}

void lease_count(struct leases *leases, unsigned start_percent,
                 unsigned stop_percent, struct lease_counts *ret_counts)
{
    struct lease_wish wish = {.start_percent = start_percent,
                              .stop_percent = stop_percent};
    struct lease_counts counts = {0};

    mutex_lock(&leases->mutex);
    for (unsigned i = start_percent; i < stop_percent && i < HUNDREDTHS; i++) {
        counts.waiting += leases->pending[i];
        counts.pages += leases->pages[i];
    }
    for (const struct job *job = leases->given; job != NULL; job = job->next) {
        if (wants(&wish, job->chunk) && job->lease.is_for_checkpoint &&
            counts.waiting > 0) {
            counts.waiting--;
            counts.leased++;
        }
    }
    for (const struct job *job = leases->again; job != NULL; job = job->next) {
        if (wants(&wish, job->chunk) && job->failures > 0)
            counts.failing++;
    }
    counts.uploaded = leases->uploaded;
    counts.bytes = leases->bytes;
    counts.last_error = leases->last_error;
    mutex_unlock(&leases->mutex);
    *ret_counts = counts;
}

void lease_get_holders(struct leases *leases, struct lease_holders *ret_holders)
{
    mutex_lock(&leases->mutex);
    *ret_holders = leases->holders;
    mutex_unlock(&leases->mutex);
}
