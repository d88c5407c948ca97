/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/claim_decide.h"

#include "unit/test.h"

/* What is here. */
enum here {
    NOTHING,
    CLEAN,  /* all that is here is in some image */
    DIRTY,  /* not all of it is */
    HERE,   /* both of these alike */
    LOCAL,  /* the store was never told of it; clean and dirty alike */
    HEIRED, /* the content of epoch 5, which another made, was loaded */
};

/* What is there.  Ours is epoch 5 with nonce 1. */
enum there {
    SILENCE,
    NO_EPOCH,
    DROPPED,       /* a tombstone, epoch 9 */
    OUR_CLAIM,     /* epoch 5, as we know it */
    OUR_IMAGE,     /* the same */
    OUR_RELEASE,   /* the same */
    OLDER,         /* only epoch 4, of whomever */
    COPY_HELD,     /* epoch 9, by a copy of our cache directory */
    COPY_RELEASED, /* the same */
    HELD,          /* epoch 9, by another */
    RELEASED,      /* the same */
    FORKED,        /* nobody's, epoch 9 */
    HEIR_HELD,     /* epoch 5, by another, as we know it */
    HEIR_RELEASED, /* the same */
    CONFLICT_OURS, /* epoch 5: ours, and another's */
    CONFLICT,      /* epoch 9: two others' */
};

static const uint8_t OUR_ID[UUID_SIZE] = {1};
static const uint8_t THEIR_ID[UUID_SIZE] = {2};

static struct epoch_record make(enum epoch_kind kind, uint64_t epoch,
                                uint64_t nonce, const uint8_t *id)
{
    struct epoch_record record = {
        .kind = kind,
        .epoch = epoch,
        .nonce = nonce,
        .content_time_ns = nonce,
    };

    memcpy(record.cachedir_id, id, UUID_SIZE);
    return record;
}

static struct epoch_record record_of(enum there there)
{
    switch (there) {
    case DROPPED:
        return make(EPOCH_TOMBSTONE, 9, 2, THEIR_ID);
    case OUR_CLAIM:
        return make(EPOCH_CLAIM, 5, 1, OUR_ID);
    case OUR_IMAGE:
    case CONFLICT_OURS:
        return make(EPOCH_IMAGE, 5, 1, OUR_ID);
    case OUR_RELEASE:
        return make(EPOCH_RELEASE, 5, 1, OUR_ID);
    case OLDER:
        return make(EPOCH_CLAIM, 4, 3, OUR_ID);
    case COPY_HELD:
        return make(EPOCH_IMAGE, 9, 2, OUR_ID);
    case COPY_RELEASED:
        return make(EPOCH_RELEASE, 9, 2, OUR_ID);
    case RELEASED:
        return make(EPOCH_RELEASE, 9, 2, THEIR_ID);
    case FORKED:
        return make(EPOCH_FORK, 9, 2, THEIR_ID);
    case HEIR_HELD:
        return make(EPOCH_IMAGE, 5, 1, THEIR_ID);
    case HEIR_RELEASED:
        return make(EPOCH_RELEASE, 5, 1, THEIR_ID);
    case SILENCE:
    case NO_EPOCH:
    case HELD:
    case CONFLICT:
        break;
    }
    return make(EPOCH_CLAIM, 9, 2, THEIR_ID);
}

static enum claim_action decide(enum claim_mode mode, enum here here,
                                bool is_dirty, enum there there,
                                size_t *ret_which)
{
    struct epoch_newest newest = {.count = 1, .records = {record_of(there)}};
    struct claim_local local = {
        .is_empty = here == NOTHING,
        .is_dirty = is_dirty,
        .has_epoch = here != NOTHING && here != LOCAL,
        .epoch = make(EPOCH_IMAGE, 5, 1, here == HEIRED ? THEIR_ID : OUR_ID),
    };

    memcpy(local.cachedir_id, OUR_ID, UUID_SIZE);
    if (there == NO_EPOCH)
        newest.count = 0;
    if (there == CONFLICT_OURS || there == CONFLICT) {
        newest.count = 2;
        newest.records[1] = newest.records[0];
        newest.records[0].nonce = 7;
        newest.records[0].content_time_ns = 7;
        memcpy(newest.records[0].cachedir_id, THEIR_ID, UUID_SIZE);
    }
    return claim_decide(mode, &local, there == SILENCE ? NULL : &newest,
                        ret_which);
}

/* A line of "Who writes now", for each mode. */
struct line {
    enum here here;
    enum there there;
    enum claim_action normal, takeover, discard;
};

static const struct line LINES[] = {
    /* A device that is neither here nor, by a LIST that succeeded, in the
     * bucket is created; without an answer it waits. */
    {NOTHING, NO_EPOCH, CLAIM_CREATE, CLAIM_CREATE, CLAIM_CREATE},
    {NOTHING, SILENCE, CLAIM_WAIT, CLAIM_WAIT, CLAIM_WAIT},
    /* A device of a dropped one's name goes on counting after it. */
    {NOTHING, DROPPED, CLAIM_CREATE, CLAIM_CREATE, CLAIM_CREATE},
    {LOCAL, DROPPED, CLAIM_CREATE, CLAIM_CREATE, CLAIM_CREATE},
    {HERE, DROPPED, CLAIM_REFUSE_DROPPED, CLAIM_REFUSE_DROPPED,
     CLAIM_REFUSE_DROPPED},
    /* An empty cache directory loads the newest image, if nobody has it: and
     * a cache disk that is not mounted is not taken for a lost host. */
    {NOTHING, RELEASED, CLAIM_LOAD, CLAIM_TAKE, CLAIM_LOAD},
    {NOTHING, FORKED, CLAIM_LOAD, CLAIM_TAKE, CLAIM_LOAD},
    {NOTHING, HELD, CLAIM_REFUSE_HELD, CLAIM_TAKE, CLAIM_REFUSE_HELD},
    {NOTHING, CONFLICT, CLAIM_REFUSE_CONFLICT, CLAIM_TAKE,
     CLAIM_REFUSE_CONFLICT},
    /* Its own, and that nonce is recorded here: go on silently. */
    {HERE, OUR_CLAIM, CLAIM_GO_ON, CLAIM_GO_ON, CLAIM_LOAD},
    {HERE, OUR_IMAGE, CLAIM_GO_ON, CLAIM_GO_ON, CLAIM_LOAD},
    {HERE, OUR_RELEASE, CLAIM_GO_ON, CLAIM_GO_ON, CLAIM_LOAD},
    /* The store was never told of what is here. */
    {LOCAL, NO_EPOCH, CLAIM_CREATE, CLAIM_CREATE, CLAIM_CREATE},
    {LOCAL, SILENCE, CLAIM_SERVE, CLAIM_SERVE, CLAIM_SERVE},
    /* S3 unreachable at a start: serve what is here. */
    {HERE, SILENCE, CLAIM_SERVE, CLAIM_SERVE, CLAIM_SERVE},
    /* The bucket is older than we are: another one, or an old copy. */
    {HERE, NO_EPOCH, CLAIM_SERVE_LOST, CLAIM_SERVE_LOST, CLAIM_SERVE_LOST},
    {HERE, OLDER, CLAIM_SERVE_LOST, CLAIM_SERVE_LOST, CLAIM_SERVE_LOST},
    /* Our own id with an unknown nonce is an old copy of the disk. */
    {CLEAN, COPY_HELD, CLAIM_REFUSE_COPY, CLAIM_TAKE, CLAIM_LOAD},
    {CLEAN, COPY_RELEASED, CLAIM_REFUSE_COPY, CLAIM_TAKE, CLAIM_LOAD},
    {DIRTY, COPY_HELD, CLAIM_REFUSE_COPY, CLAIM_REFUSE_DIRTY, CLAIM_LOAD},
    {DIRTY, COPY_RELEASED, CLAIM_REFUSE_COPY, CLAIM_REFUSE_DIRTY, CLAIM_LOAD},
    /* Another's, released, nothing dirty here: revalidate. */
    {CLEAN, RELEASED, CLAIM_LOAD, CLAIM_TAKE, CLAIM_LOAD},
    {CLEAN, FORKED, CLAIM_LOAD, CLAIM_TAKE, CLAIM_LOAD},
    /* Released, but dirty here: refuse, naming fork. */
    {DIRTY, RELEASED, CLAIM_REFUSE_DIRTY, CLAIM_REFUSE_DIRTY, CLAIM_LOAD},
    {DIRTY, FORKED, CLAIM_REFUSE_DIRTY, CLAIM_REFUSE_DIRTY, CLAIM_LOAD},
    /* Not released: refuse, until the user says takeover. */
    {CLEAN, HELD, CLAIM_REFUSE_HELD, CLAIM_TAKE, CLAIM_LOAD},
    {DIRTY, HELD, CLAIM_REFUSE_DIRTY, CLAIM_REFUSE_DIRTY, CLAIM_LOAD},
    /* What another made is here already. */
    {HEIRED, HEIR_RELEASED, CLAIM_GO_ON, CLAIM_GO_ON, CLAIM_LOAD},
    {HEIRED, HEIR_HELD, CLAIM_REFUSE_HELD, CLAIM_TAKE, CLAIM_LOAD},
    {HEIRED, HELD, CLAIM_REFUSE_HELD, CLAIM_TAKE, CLAIM_LOAD},
    /* No conditional put: who made one of the two goes on with its own. */
    {HERE, CONFLICT_OURS, CLAIM_REFUSE_CONFLICT, CLAIM_TAKE_OWN,
     CLAIM_REFUSE_CONFLICT},
    {CLEAN, CONFLICT, CLAIM_REFUSE_CONFLICT, CLAIM_TAKE, CLAIM_REFUSE_CONFLICT},
    {DIRTY, CONFLICT, CLAIM_REFUSE_CONFLICT, CLAIM_REFUSE_DIRTY,
     CLAIM_REFUSE_CONFLICT},
};

static void check_line(size_t number, bool is_dirty)
{
    const struct line *line = &LINES[number];
    const enum claim_action wanted[] = {
        [CLAIM_NORMAL] = line->normal,
        [CLAIM_TAKEOVER] = line->takeover,
        [CLAIM_DISCARD] = line->discard,
    };

    for (int mode = CLAIM_NORMAL; mode <= CLAIM_DISCARD; mode++) {
        size_t which;
        enum claim_action action = decide((enum claim_mode)mode, line->here,
                                          is_dirty, line->there, &which);

        if (!CHECK(action == wanted[mode]))
            printf("# line %zu, mode %d, dirty %d: %d\n", number, mode,
                   is_dirty, (int)action);
    }
}

TEST("every line of who writes now")
{
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        if (LINES[i].here != DIRTY)
            check_line(i, false);
        if (LINES[i].here == DIRTY || LINES[i].here == HERE ||
            LINES[i].here == LOCAL)
            check_line(i, true);
    }
}

TEST("of two in conflict, ours is meant, else the later")
{
    size_t which;

    CHECK(decide(CLAIM_TAKEOVER, HERE, true, CONFLICT_OURS, &which) ==
          CLAIM_TAKE_OWN);
    CHECK(which == 1);
    CHECK(decide(CLAIM_TAKEOVER, NOTHING, false, CONFLICT, &which) ==
          CLAIM_TAKE);
    CHECK(which == 0);
}

TEST("what ends a start is told apart from what does not")
{
    static const enum claim_action refusals[] = {
        CLAIM_WAIT,         CLAIM_REFUSE_HELD,    CLAIM_REFUSE_COPY,
        CLAIM_REFUSE_DIRTY, CLAIM_REFUSE_DROPPED, CLAIM_REFUSE_CONFLICT,
    };
    static const enum claim_action others[] = {
        CLAIM_CREATE,   CLAIM_GO_ON, CLAIM_LOAD,       CLAIM_TAKE,
        CLAIM_TAKE_OWN, CLAIM_SERVE, CLAIM_SERVE_LOST,
    };

    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        CHECK(claim_action_refuses(refusals[i]));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        CHECK(!claim_action_refuses(others[i]));
}
