/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/journal_story.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "cache/geometry.h"
#include "cache/journal_segment.h"

static int admit(void *context, struct journal_item *item)
{
    const struct story *story = context;

    (void)item;
    return story->refuse;
}

static void note(struct story_step *step, const struct journal_item *item,
                 uint64_t value)
{
    *step = (struct story_step){
        .kind = item->kind,
        .hole = item->hole,
        .page = item->page,
        .count = item->count,
        .position = item->position,
        .value = value,
    };
    if (item->kind == JOURNAL_PAGES)
        memcpy(step->checksums, item->checksums,
               (size_t)item->count * sizeof(uint32_t));
}

static void placed(void *context, struct journal_item *item)
{
    struct story *story = context;

    if (story->appended_count < STORY_STEPS_MAX)
        note(&story->appended[story->appended_count++], item,
             *(const uint64_t *)item->owner);
}

static void space(void *context)
{
    struct story *story = context;

    atomic_fetch_add(&story->spaces, 1);
}

static void failed(void *context, int error)
{
    struct story *story = context;

    (void)error;
    atomic_fetch_add(&story->failures, 1);
}

int story_replay(void *context, const struct journal_record *record,
                 uint64_t position, const uint32_t *checksums)
{
    struct story *story = context;
    struct story_step *step = &story->replayed[story->replayed_count];

    if (story->replayed_count == STORY_STEPS_MAX)
        return -ENOMEM;
    *step = (struct story_step){
        .kind = record->kind,
        .hole = record->hole,
        .page = record->page,
        .count = record->count,
        .position = position,
    };
    if (record->kind == JOURNAL_PAGES && record->count <= STORY_PAGES_MAX)
        memcpy(step->checksums, checksums,
               (size_t)record->count * sizeof(uint32_t));
    story->replayed_count++;
    return 0;
}

static uint64_t state_commit(void *context)
{
    (void)context;
    return 4711;
}

void story_init(struct story *story, const char *dir)
{
    memset(story, 0, sizeof(*story));
    story->options = (struct journal_options){
        .device_name = "test",
        .dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .segment_size = STORY_SEGMENT,
        .segments_max = STORY_SEGMENTS,
        .state_commit = state_commit,
        .events =
            {
                .admit = admit,
                .placed = placed,
                .space = space,
                .failed = failed,
                .replay = story_replay,
                .context = story,
            },
    };
    memset(story->options.journal_id, 0x11, UUID_SIZE);
    memset(story->options.cachedir_id, 0x22, UUID_SIZE);
    story->appended = calloc(STORY_STEPS_MAX, sizeof(struct story_step));
    story->replayed = calloc(STORY_STEPS_MAX, sizeof(struct story_step));
    if (!story->appended || !story->replayed || story->options.dirfd < 0)
        abort();
    story->next_value = 1;
}

void story_done(struct story *story)
{
    if (story->journal)
        (void)story_close(story);
    (void)close(story->options.dirfd);
    free(story->appended);
    free(story->replayed);
}

int story_open(struct story *story, bool create)
{
    story->options.create = create;
    story->replayed_count = 0;
    return journal_open(&story->options, &story->journal);
}

int story_close(struct story *story)
{
    struct journal *journal = story->journal;

    story->journal = NULL;
    return journal_close(journal);
}

void story_fill_page(uint64_t value, uint64_t i, unsigned char page[4096])
{
    uint64_t state = value * 0x9e3779b97f4a7c15U + i + 1;

    put_le64(page, value);
    put_le64(page + 8, i);
    for (size_t at = 16; at < CACHE_PAGE; at += 8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        put_le64(page + at, state);
    }
}

static int append_one(struct story *story, struct journal_item *item)
{
    struct journal_item *items[] = {item};
    uint64_t value = story->next_value;
    uint64_t end;

    item->owner = &value;
    journal_append(story->journal, items, 1, &end);
    if (item->error == 0)
        story->next_value++;
    if (item->error == -EIO)
        story->doubtful = 1; /* what comes after it fails in memory */
    return item->error;
}

int story_write(struct story *story, uint64_t page, uint64_t count)
{
    struct journal_item item = {
        .kind = JOURNAL_PAGES,
        .page = page,
        .count = count,
        .pieces_count = 3,
    };
    size_t size = (size_t)count * CACHE_PAGE;
    unsigned char *content = malloc(size);
    int error;

    if (!content || count > STORY_PAGES_MAX)
        abort();
    for (uint64_t i = 0; i < count; i++)
        story_fill_page(story->next_value, i, content + i * CACHE_PAGE);
    /* Pieces end anywhere, and may be empty. */
    item.pieces[0] = (struct iovec){content, 512};
    item.pieces[1] = (struct iovec){content + 512, size - 512 - 1024};
    item.pieces[2] = (struct iovec){content + size - 1024, 1024};
    if (story->next_value % 2 == 0) {
        item.pieces[0].iov_len = 0;
        item.pieces[1] = (struct iovec){content, size - 1024};
    }
    error = append_one(story, &item);
    free(content);
    return error;
}

int story_zero(struct story *story, uint64_t page, uint64_t count, bool hole)
{
    struct journal_item item = {
        .kind = JOURNAL_ZERO,
        .hole = hole,
        .page = page,
        .count = count,
    };

    return append_one(story, &item);
}

int story_write_patiently(struct story *story, uint64_t page, uint64_t count)
{
    for (;;) {
        unsigned spaces = atomic_load(&story->spaces);
        int error = story_write(story, page, count);

        if (error != -EAGAIN)
            return error;
        story_retire(story);
        while (atomic_load(&story->spaces) == spaces &&
               atomic_load(&story->failures) == 0)
            (void)usleep(100);
    }
}

int story_sync(struct story *story)
{
    size_t count = story->appended_count;
    int error = journal_sync(story->journal);

    if (error == 0)
        story->durable_count = count;
    return error;
}

void story_retire(struct story *story)
{
    struct journal_fill fill;

    /* As destage does: what goes was synced. */
    if (story_sync(story) != 0)
        return;
    journal_get_fill(story->journal, &fill);
    story->options.begin = fill.newest;
    journal_retire(story->journal, fill.newest);
}

static bool pages_are_right(struct story *story, const struct story_step *step)
{
    unsigned char expected[CACHE_PAGE];
    unsigned char page[CACHE_PAGE];

    for (uint64_t i = 0; i < step->count; i++) {
        int error =
            journal_read(story->journal, step->position + i * CACHE_PAGE,
                         step->checksums[i], 0, page, CACHE_PAGE, false);

        story_fill_page(step->value, i, expected);
        if (error != 0 || memcmp(page, expected, CACHE_PAGE) != 0) {
            printf("# page %" PRIu64 " of value %" PRIu64 ": %d\n",
                   step->page + i, step->value, error);
            return false;
        }
    }
    return true;
}

bool story_list_is_right(const struct story *story, size_t first)
{
    for (size_t i = 0; i < story->replayed_count; i++) {
        const struct story_step *is = &story->replayed[i];
        const struct story_step *should = &story->appended[first + i];

        if (first + i >= story->appended_count &&
            first + i < story->appended_count + story->doubtful)
            continue;
        if (first + i >= story->appended_count || is->kind != should->kind ||
            is->hole != should->hole || is->page != should->page ||
            is->count != should->count || is->position != should->position ||
            memcmp(is->checksums, should->checksums, sizeof(is->checksums)) !=
                0) {
            printf("# record %zu of the replay is not number %zu of %zu\n", i,
                   first + i, story->appended_count);
            return false;
        }
    }
    if (first + story->replayed_count < story->durable_count) {
        printf("# %zu records from %zu on, but %" PRIu64 " were durable\n",
               story->replayed_count, first, story->durable_count);
        return false;
    }
    return true;
}

bool story_replay_is_right(struct story *story, size_t first)
{
    if (!story_list_is_right(story, first))
        return false;
    for (size_t i = 0; i < story->replayed_count; i++) {
        const struct story_step *step = &story->appended[first + i];

        if (first + i < story->appended_count && step->kind == JOURNAL_PAGES &&
            !pages_are_right(story, step))
            return false;
    }
    return true;
}

/* What the files of a journal show. */
struct view {
    int dirfd;
    unsigned files;
    bool has_new;
    uint64_t highest;
};

static int view_file(void *context, const char *name)
{
    struct view *view = context;
    struct journal_segment_header header;
    unsigned slot;
    bool is_new;
    int fd;

    if (!journal_segment_parse(name, &slot, &is_new))
        return 0;
    if (is_new) {
        view->has_new = true;
        return 0;
    }
    view->files++;
    fd = openat(view->dirfd, name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (journal_segment_read_header(fd, &header) == 0 &&
            header.number > view->highest)
            view->highest = header.number;
        (void)close(fd);
    }
    return 0;
}

void story_settle(struct story *story)
{
    int dirfd = openat(story->options.dirfd, "journal",
                       O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (;;) {
        struct view view = {.dirfd = dirfd};
        struct journal_fill fill;
        uint64_t used;

        journal_get_fill(story->journal, &fill);
        used = (fill.used + story->options.segment_size - 1) /
               story->options.segment_size;
        if (file_list(dirfd, ".", view_file, &view) != 0)
            abort();
        if (!view.has_new &&
            (view.files - used >= 3 ||
             view.files >= story->options.segments_max) &&
            view.highest ==
                fill.newest + (view.files - used < 2 ? view.files - used : 2))
            break;
        (void)usleep(200);
    }
    (void)close(dirfd);
}

static void copy_file(int from_dir, int to_dir, const char *name)
{
    int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC);
    int to =
        openat(to_dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    static unsigned char data[1 << 16];
    ssize_t size;

    if (from < 0 || to < 0)
        abort();
    while ((size = read(from, data, sizeof(data))) > 0) {
        if (write(to, data, (size_t)size) != size)
            abort();
    }
    (void)close(from);
    (void)close(to);
}

void story_copy_files(struct story *story, const char *to)
{
    int from_dir = openat(story->options.dirfd, "journal",
                          O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int top = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int to_dir;
    DIR *dir = from_dir < 0 ? NULL : fdopendir(from_dir);
    struct dirent *entry;

    (void)mkdirat(top, "journal", 0700);
    to_dir = openat(top, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!dir || top < 0 || to_dir < 0)
        abort();
    if (story->journal)
        story_settle(story);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.')
            copy_file(from_dir, to_dir, entry->d_name);
    }
    (void)closedir(dir);
    (void)close(to_dir);
    (void)close(top);
}

size_t story_first_in(const struct story *story, uint64_t number)
{
    size_t first = 0;

    while (first < story->appended_count &&
           story->appended[first].position / story->options.segment_size <
               number)
        first++;
    return first;
}

void story_accept(struct story *story, size_t first)
{
    story->appended_count = first + story->replayed_count;
}
