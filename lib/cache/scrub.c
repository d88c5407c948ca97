/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/cache_dir.h"
#include "cache/device.h"
#include "cache/epoch.h"
#include "cache/scrub_chunk.h"
#include "cache/scrub_place.h"
#include "cache/scrub_repair.h"

enum {
    TEXT_MAX = 64 << 10, /* bytes: with more to say a step ends */
    POLITE_TRIES = 5,    /* so often a read waits for those of others */
};

static const uint64_t STEP_NS = 1000000000;
static const uint64_t POLITE_NS = 20000000;
static const uint64_t SECOND_NS = 1000000000;

struct scrub {
    struct scrub_options options;
    bool has_place;
    struct scrub_place place;
    uint64_t due_ns; /* when the next read may begin, by the rate */

    /* The newest image, when that was asked last; NULL: there is none. */
    struct image *image;
    bool has_bad_root; /* it cannot be read: told already */
    struct root_ref bad_root;
    bool has_bad_leaf;
    uint64_t bad_leaf; /* the same of one of its leaves */
};

/* A step under way. */
struct step {
    struct scrub *scrub;
    const struct scrub_request *request;
    struct scrub_result *result;
    struct scrub_how how;
    FILE *text;
    uint64_t began_ns;
    bool has_turn; /* then nobody should wait for us */
};

int scrub_new(const struct scrub_options *options, struct scrub **ret_scrub)
{
    struct scrub *scrub = calloc(1, sizeof(*scrub));

    if (scrub == NULL)
        return -ENOMEM;
    scrub->options = *options;
    *ret_scrub = scrub;
    return 0;
}

void scrub_free(struct scrub *scrub)
{
    if (scrub == NULL)
        return;
    image_close(scrub->image);
    free(scrub);
}

/* ---- how fast ------------------------------------------------------------ */

/* Let those first who wait for the bucket, but not for ever. */
static int let_others_read(struct step *step)
{
    const struct scrub_options *options = &step->scrub->options;
    struct device_status status;
    int error = 0;

    for (unsigned i = 0; i < POLITE_TRIES && error == 0; i++) {
        device_status(options->device, &status);
        if (status.cold_reads == 0)
            break;
        error = options->wait(options->context, POLITE_NS);
    }
    return error;
}

/* Of struct scrub_how. */
static int pace(void *context, size_t size, bool is_in_bucket)
{
    struct step *step = context;
    struct scrub *scrub = step->scrub;
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t wait_ns = 0;
    int error = 0;

    if (step->has_turn)
        return 0;
    if (is_in_bucket)
        error = let_others_read(step);
    if (step->request->rate > 0) {
        wait_ns = scrub->due_ns > now_ns ? scrub->due_ns - now_ns : 0;
        scrub->due_ns = now_ns + wait_ns +
                        (uint64_t)((double)size / (double)step->request->rate *
                                   (double)SECOND_NS);
    }
    if (error == 0 && (wait_ns > 0 || is_in_bucket))
        error = scrub->options.wait(scrub->options.context, wait_ns);
    return error;
}

/* ---- the newest image ---------------------------------------------------- */

static bool is_same_root(const struct root_ref *a, const struct root_ref *b)
{
    return a->epoch == b->epoch && a->nonce == b->nonce && a->page == b->page;
}

/*
 * A page of the image cannot be read: is it bad?  Then that is told, else the
 * error of the store is returned.
 */
static int look_at_page(struct step *step, const char *device,
                        const struct manifest_leaf_ref *page, const char *what)
{
    AUTO_FREE void *data = malloc((size_t)page->size + 1);
    enum object_state state;
    char key[IMAGE_KEY_MAX];
    int error;

    if (data == NULL)
        return -ENOMEM;
    image_page_key(device, page->epoch, page->nonce, page->page, key);
    error = object_check(step->how.store, key, 0, data, page->size,
                         page->checksum, &state);
    if (error != 0)
        return error;
    /* As bytes it is right: so it is in its form that something is wrong. */
    if (state == OBJECT_GOOD)
        state = OBJECT_CHANGED;
    step->result->bad++;
    (void)fprintf(step->text, "%s: %s, a page of the newest image, %s: %s\n",
                  device_name(step->how.device), key, object_state_text(state),
                  what);
    return 0;
}

/* Whether an error of reading the image may mean that it is damaged. */
static bool may_be_damage(int error)
{
    return error == -EIO || error == -EPROTONOSUPPORT;
}

/* Have the newest image open, unless it is bad. */
static int open_image(struct step *step)
{
    struct scrub *scrub = step->scrub;
    const char *device = device_name(step->how.device);
    struct epoch_record content;
    int error = scrub->options.content(scrub->options.context, &content);

    if (error == -ENOENT || (error == 0 && content.root.size == 0)) {
        image_close(scrub->image);
        scrub->image = NULL;
        return 0;
    }
    if (error != 0)
        return error;
    if (scrub->image != NULL &&
        is_same_root(image_root_ref(scrub->image), &content.root))
        return 0;
    image_close(scrub->image);
    scrub->image = NULL;
    scrub->has_bad_leaf = false;
    if (scrub->has_bad_root && is_same_root(&scrub->bad_root, &content.root))
        return 0;
    error = image_open(step->how.store, device, &content.root, &scrub->image);
    if (may_be_damage(error)) {
        struct manifest_leaf_ref root = {
            .epoch = content.root.epoch,
            .nonce = content.root.nonce,
            .page = content.root.page,
            .size = content.root.size,
            .checksum = content.root.checksum,
        };

        error = look_at_page(step, device, &root,
                             "what is in the bucket is not checked");
        scrub->has_bad_root = error == 0;
        scrub->bad_root = content.root;
    }
    return error;
}

/*
 * Tell the first chunk >= from and <= last that has an entry in one leaf.
 * Returns 1, or 0 if there is none, or the leaf is bad; or an error.
 */
static int first_of_leaf(struct step *step, uint64_t number, uint64_t from,
                         uint64_t last, uint64_t *ret_chunk)
{
    struct scrub *scrub = step->scrub;
    const struct manifest_leaf_ref *ref = image_leaf_ref(scrub->image, number);
    uint64_t begin = number * MANIFEST_LEAF_CHUNKS;
    const struct manifest_leaf *leaf = NULL;
    char owner[DEVICE_NAME_MAX + 1], what[96];
    int result;

    if (scrub->has_bad_leaf && scrub->bad_leaf == number)
        return 0;
    result = image_read_leaf(scrub->image, number, &leaf);
    for (uint64_t i = from > begin ? from - begin : 0;
         result == 1 && i < MANIFEST_LEAF_CHUNKS && begin + i <= last; i++) {
        if (leaf->is_mapped[i]) {
            *ret_chunk = begin + i;
            return 1;
        }
    }
    if (result >= 0 || !may_be_damage(result))
        return result < 0 ? result : 0;
    (void)snprintf(what, sizeof(what),
                   "chunks %016" PRIx64 " and following, up to %u, are not"
                   " checked in the bucket",
                   begin, (unsigned)MANIFEST_LEAF_CHUNKS);
    if (scrub_origin_name(&step->how, ref->origin, owner) != 0)
        return result;
    result = look_at_page(step, owner, ref, what);
    scrub->has_bad_leaf = result == 0;
    scrub->bad_leaf = number;
    return result;
}

/* The same in all leaves. */
static int first_of_image(struct step *step, uint64_t from, uint64_t last,
                          uint64_t *ret_chunk)
{
    uint64_t number = from / MANIFEST_LEAF_CHUNKS;
    int result = 0;

    while (result == 0 && step->scrub->image != NULL &&
           image_next_leaf(step->scrub->image, number, &number) &&
           number * MANIFEST_LEAF_CHUNKS <= last) {
        result = first_of_leaf(step, number, from, last, ret_chunk);
        number++;
    }
    return result;
}

/* Tell the next chunk that there is, here or in the image; 1, 0, or an error.
 */
static int next_chunk(struct step *step, uint64_t from, uint64_t *ret_chunk)
{
    uint64_t last = step->result->chunks - 1;
    uint64_t chunk;
    bool is_found;
    int result = 0;

    if (from > last)
        return 0;
    is_found =
        catalog_next(device_catalog(step->how.device), from, last + 1, &chunk);
    if (is_found)
        last = chunk;
    if (!step->request->is_local)
        result = first_of_image(step, from, last, ret_chunk);
    if (result == 0 && is_found) {
        *ret_chunk = chunk;
        return 1;
    }
    return result;
}

/* Tell what the image has of a chunk.  Returns 1, 0, or an error. */
static int get_entry(struct step *step, uint64_t chunk,
                     struct image_entry *ret_entry)
{
    struct scrub *scrub = step->scrub;
    uint64_t ignored;
    int result;

    if (scrub->image == NULL)
        return 0;
    /* So that a bad leaf is told as such. */
    if (image_leaf_ref(scrub->image, chunk / MANIFEST_LEAF_CHUNKS) == NULL)
        return 0;
    result = first_of_leaf(step, chunk / MANIFEST_LEAF_CHUNKS, chunk, chunk,
                           &ignored);
    return result <= 0 ? result : image_get(scrub->image, chunk, ret_entry);
}

/* ---- a chunk ------------------------------------------------------------- */

/* Within the turn: look again, and do what can be done. */
static int look_again(struct step *step, uint64_t chunk)
{
    const struct scrub_options *options = &step->scrub->options;
    struct scrub_repair repair = {
        .how = &step->how,
        .claim = options->claim,
        .context = options->context,
        .text = step->text,
    };
    struct scrub_chunk c = {.flags = NULL};
    struct image_entry entry;
    int error = open_image(step);
    int has_entry = 0;

    if (error == 0)
        has_entry = get_entry(step, chunk, &entry);
    if (has_entry < 0)
        error = has_entry;
    if (error == 0)
        error = scrub_chunk_look(&step->how, chunk,
                                 has_entry == 1 ? &entry : NULL, &c);
    if (error == 0 && c.is_bad)
        error = scrub_repair(&repair, &c);
    scrub_chunk_done(&c);
    step->result->bad += repair.bad;
    step->result->repaired += repair.repaired;
    return error;
}

static int do_chunk(struct step *step, uint64_t chunk)
{
    const struct scrub_options *options = &step->scrub->options;
    struct scrub_chunk c = {.flags = NULL};
    struct image_entry entry;
    bool is_bad;
    int has_entry = 0, error;

    if (!step->request->is_local)
        has_entry = get_entry(step, chunk, &entry);
    if (has_entry < 0)
        return has_entry;
    error =
        scrub_chunk_look(&step->how, chunk, has_entry == 1 ? &entry : NULL, &c);
    step->result->objects += c.objects;
    step->result->blocks += c.blocks;
    step->result->bytes += c.bytes;
    is_bad = error == 0 && c.is_bad;
    scrub_chunk_done(&c);
    if (!is_bad)
        return error;
    error = options->begin(options->context);
    if (error != 0)
        return error;
    step->has_turn = true;
    error = look_again(step, chunk);
    step->has_turn = false;
    options->end(options->context);
    return error;
}

/* ---- a step -------------------------------------------------------------- */

static int begin_anew(struct scrub *scrub, bool is_local)
{
    scrub->place = (struct scrub_place){
        .is_local = is_local,
        .began_ns = clock_realtime_ns(),
    };
    scrub->has_place = true;
    scrub->has_bad_root = false;
    scrub->has_bad_leaf = false;
    return getrandom(&scrub->place.seed, sizeof(scrub->place.seed), 0) ==
                   (ssize_t)sizeof(scrub->place.seed)
               ? 0
               : -EIO;
}

static int find_place(struct scrub *scrub, const struct scrub_request *request)
{
    int dirfd = cache_dir_fd(device_cache_dir(scrub->options.device));
    int error;

    if (!scrub->has_place && !request->restart) {
        error = scrub_place_load(dirfd, &scrub->place);
        scrub->has_place = error == 0;
        if (error != 0 && error != -ENOENT)
            log_info("%s: where the last scrub ended is not known: %s",
                     device_name(scrub->options.device),
                     error == -EBADMSG ? "damaged" : log_errno(error));
    }
    if (scrub->has_place && !request->restart &&
        scrub->place.is_local == request->is_local)
        return 0;
    return begin_anew(scrub, request->is_local);
}

/* The place is known to us all the same, should it not be possible. */
static void keep_place(struct scrub *scrub, bool is_done)
{
    int dirfd = cache_dir_fd(device_cache_dir(scrub->options.device));
    int error = is_done ? scrub_place_remove(dirfd)
                        : scrub_place_save(dirfd, &scrub->place);

    if (is_done)
        scrub->has_place = false;
    if (error != 0)
        log_warning("%s: how far the scrub has come cannot be written: %s",
                    device_name(scrub->options.device), log_errno(error));
}

/* Returns whether another chunk should follow. */
static bool has_time(const struct step *step)
{
    return clock_monotonic_ns() - step->began_ns < STEP_NS &&
           ftell(step->text) < TEXT_MAX;
}

static int run(struct step *step)
{
    struct scrub_place *place = &step->scrub->place;
    int error = 0;

    /* What is here needs the bucket only when something is bad. */
    if (!step->request->is_local)
        error = open_image(step);
    while (error == 0) {
        uint64_t chunk = 0;
        int result = next_chunk(step, place->chunk, &chunk);

        if (result == 0) {
            place->chunk = step->result->chunks;
            step->result->is_done = true;
        }
        if (result <= 0)
            return result;
        error = do_chunk(step, chunk);
        if (error == 0)
            place->chunk = chunk + 1;
        if (!has_time(step))
            break;
    }
    return error;
}

static uint64_t chunks_of(const struct device *device)
{
    uint64_t size = device_size(device);
    uint32_t chunk_size = device_chunk_size(device);

    return size / chunk_size + (size % chunk_size != 0);
}

int scrub_step(struct scrub *scrub, const struct scrub_request *request,
               struct scrub_result *ret_result)
{
    struct step step = {
        .scrub = scrub,
        .request = request,
        .result = ret_result,
        .began_ns = clock_monotonic_ns(),
    };
    uint64_t from;
    int error;

    *ret_result = (struct scrub_result){
        .chunks = chunks_of(scrub->options.device),
    };
    error = find_place(scrub, request);
    if (error != 0)
        return error;
    step.text = open_memstream(&ret_result->text, &ret_result->text_size);
    if (step.text == NULL)
        return -ENOMEM;
    step.how = (struct scrub_how){
        .device = scrub->options.device,
        .store = scrub->options.store,
        .is_local = request->is_local,
        .sample = request->sample,
        .seed = scrub->place.seed,
        .pace = pace,
        .context = &step,
    };
    from = scrub->place.chunk;
    error = run(&step);
    keep_place(scrub, ret_result->is_done);
    ret_result->position = scrub->place.chunk;
    if (fclose(step.text) != 0 && error == 0)
        error = -ENOMEM;
    /* What was found is not lost: the error comes again. */
    if (error != -ENOMEM && scrub->place.chunk > from)
        error = 0;
    if (error != 0 || ret_result->text_size == 0)
        free(take_pointer(&ret_result->text));
    return error;
}
