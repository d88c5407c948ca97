/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "unit/test.h"

#include "base/file.h"
#include "support/crash_states.h"

enum { SECTOR = 512, STATES = 200 };

/* A directory that is recorded, and one after the other what crashes left. */
struct scene {
    char root[PATH_MAX];
    int dirfd;
    unsigned states;
    char state[PATH_MAX]; /* the directory of the newest state */
};

static void scene_begin(struct scene *scene)
{
    *scene = (struct scene){.states = 0};
    (void)snprintf(scene->root, sizeof(scene->root), "%s/root", test_dir());
    if (mkdir(scene->root, 0700) < 0)
        abort();
    scene->dirfd = file_open(AT_FDCWD, scene->root, O_RDONLY, 0);
    fault_skip_syncs(true);
    fault_record_begin(scene->root);
}

static void scene_end(struct scene *scene)
{
    (void)file_close(scene->dirfd);
    fault_reset();
}

static const char *next_state(struct scene *scene)
{
    (void)snprintf(scene->state, sizeof(scene->state), "%s/state%u", test_dir(),
                   scene->states++);
    if (mkdir(scene->state, 0700) < 0)
        abort();
    return scene->state;
}

/* Read a file of the newest state.  Returns its size, or -1: not there. */
static ssize_t read_state(const struct scene *scene, const char *name,
                          char *data, size_t size)
{
    char path[2 * PATH_MAX];
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", scene->state, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    len = read(fd, data, size);
    (void)close(fd);
    return len;
}

static void fill(int fd, char letter, size_t sectors, size_t at)
{
    char data[16 * SECTOR];

    memset(data, letter, sizeof(data));
    CHECK(sectors <= 16);
    CHECK(file_write(fd, data, sectors * SECTOR, at * SECTOR) == 0);
}

TEST("what was synced is there, what was not may be lost, torn or reordered")
{
    bool lost = false, whole = false, torn = false, reordered = false;
    bool shorter = false, zeros = false;
    struct recording *recording;
    struct crash_disk *disk;
    struct scene scene;
    char data[8192];
    int fd;

    scene_begin(&scene);
    fd = file_open(scene.dirfd, "a", O_RDWR | O_CREAT, 0600);
    fill(fd, 'a', 8, 0);
    CHECK(file_sync_data(fd) == 0);
    CHECK(file_sync(scene.dirfd) == 0);
    fill(fd, 'b', 4, 0);
    fill(fd, 'c', 8, 4); /* over the end */
    recording = fault_record_end();
    disk = crash_disk_new(recording);
    crash_disk_advance(disk, recording->entries_count);
    for (unsigned seed = 0; seed < STATES; seed++) {
        unsigned b = 0, c = 0;
        ssize_t len;

        crash_disk_power_cut(disk, seed, next_state(&scene), NULL);
        len = read_state(&scene, "a", data, sizeof(data));
        NEED(len >= 8 * SECTOR && len <= 12 * SECTOR && len % SECTOR == 0);
        shorter |= len == 8 * SECTOR;
        for (ssize_t s = 0; s < len / SECTOR; s++) {
            char letter = data[s * SECTOR];

            /* No sector is a mixture, none holds what was never there. */
            CHECK(memcmp(data + s * SECTOR, data + s * SECTOR + 1,
                         SECTOR - 1) == 0);
            if (s < 4)
                CHECK(letter == 'a' || letter == 'b');
            else if (s < 8)
                CHECK(letter == 'a' || letter == 'c');
            else
                CHECK(letter == 0 || letter == 'c');
            zeros |= letter == 0;
            b += letter == 'b';
            c += letter == 'c';
        }
        lost |= b == 0 && c == 0;
        whole |= b == 4 && c == 8;
        torn |= (b > 0 && b < 4) || (c > 0 && c < 8);
        reordered |= b == 0 && c > 0;
    }
    CHECK(lost && whole && torn && reordered && shorter && zeros);
    crash_disk_free(disk);
    recording_free(recording);
    CHECK(file_close(fd) == 0);
    scene_end(&scene);
}

/* Replace file "a" as one should, but for the parts that are left out. */
static void replace(struct scene *scene, bool sync_data, bool sync_dir)
{
    int fd = file_open(scene->dirfd, "a.new", O_RDWR | O_CREAT, 0600);

    fill(fd, 'n', 8, 0);
    if (sync_data)
        CHECK(file_sync_data(fd) == 0);
    CHECK(file_close(fd) == 0);
    CHECK(file_rename(scene->dirfd, "a.new", scene->dirfd, "a") == 0);
    if (sync_dir)
        CHECK(file_sync(scene->dirfd) == 0);
}

/*
 * Replace a file and cut the power anywhere.  Returns in how many states "a"
 * was neither old nor new, or old after the replacement had returned.
 */
static unsigned count_bad(bool sync_data, bool sync_dir)
{
    struct recording *recording;
    struct crash_disk *disk;
    unsigned bad = 0;
    struct scene scene;
    char data[8192];
    size_t begin;
    int fd;

    scene_begin(&scene);
    fd = file_open(scene.dirfd, "a", O_RDWR | O_CREAT, 0600);
    fill(fd, 'o', 8, 0);
    CHECK(file_sync_data(fd) == 0 && file_sync(scene.dirfd) == 0);
    CHECK(file_close(fd) == 0);
    begin = fault_record_position();
    replace(&scene, sync_data, sync_dir);
    recording = fault_record_end();
    disk = crash_disk_new(recording);
    for (size_t cut = begin; cut <= recording->entries_count; cut++) {
        crash_disk_advance(disk, cut);
        for (unsigned seed = 0; seed < STATES / 4; seed++) {
            ssize_t len;

            crash_disk_power_cut(disk, seed, next_state(&scene), NULL);
            len = read_state(&scene, "a", data, sizeof(data));
            if (len != 8 * SECTOR || memcmp(data, data + 1, 8 * SECTOR - 1) ||
                (data[0] != 'o' && data[0] != 'n') ||
                (cut == recording->entries_count && data[0] != 'n'))
                bad++;
        }
    }
    crash_disk_free(disk);
    recording_free(recording);
    scene_end(&scene);
    return bad;
}

TEST("a file replaced with both syncs is old or new in every state")
{
    CHECK(count_bad(true, true) == 0);
}

TEST("a rename may be there without the data, if that was not synced")
{
    CHECK(count_bad(false, true) > 0);
}

TEST("a rename may be lost, if the directory was not synced")
{
    CHECK(count_bad(true, false) > 0);
}

TEST("a kill loses nothing, but for the end of the write under way")
{
    bool cut_short = false, complete = false;
    struct recording *recording;
    struct scene scene;
    char data[8192];
    int fd;

    scene_begin(&scene);
    fd = file_open(scene.dirfd, "a", O_RDWR | O_CREAT, 0600);
    fill(fd, 'a', 4, 0);
    fill(fd, 'b', 16, 0);
    recording = fault_record_end();
    for (unsigned seed = 0; seed < STATES / 4; seed++) {
        struct crash_disk *disk = crash_disk_new(recording);
        ssize_t len;

        crash_disk_advance(disk, seed % 2 ? 2 : 3);
        crash_disk_kill(disk, seed, next_state(&scene));
        crash_disk_free(disk);
        len = read_state(&scene, "a", data, sizeof(data));
        if (seed % 2) {
            cut_short |= len == 8 * SECTOR && data[0] == 'b';
            CHECK((len == 4 * SECTOR && data[0] == 'a') ||
                  (len == 8 * SECTOR && data[0] == 'b'));
        } else {
            complete |= len == 16 * SECTOR && data[0] == 'b';
            CHECK(len == 16 * SECTOR);
        }
    }
    CHECK(cut_short && complete);
    recording_free(recording);
    CHECK(file_close(fd) == 0);
    scene_end(&scene);
}

TEST("after a kill the next process's syncs count, and nothing else does")
{
    bool a_lost = false, a_kept = false, b_lost = false;
    struct recording *first, *second;
    struct crash_disk *disk;
    struct scene scene, next;
    char data[8192];
    int fd;

    scene_begin(&scene);
    for (const char *name = "a\0b\0c\0"; *name; name += 2) {
        fd = file_open(scene.dirfd, name, O_RDWR | O_CREAT, 0600);
        fill(fd, *name, 4, 0);
        CHECK(file_close(fd) == 0);
    }
    CHECK(file_sync(scene.dirfd) == 0);
    first = fault_record_end();
    disk = crash_disk_new(first);
    crash_disk_advance(disk, first->entries_count);

    next = scene;
    (void)next_state(&next);
    crash_disk_kill(disk, 1, next.state);
    fault_record_begin(next.state);
    next.dirfd = file_open(AT_FDCWD, next.state, O_RDONLY, 0);
    /* c is synced, though another process wrote it; b is overwritten. */
    fd = file_open(next.dirfd, "c", O_RDWR, 0);
    CHECK(file_sync_data(fd) == 0);
    CHECK(file_close(fd) == 0);
    fd = file_open(next.dirfd, "b", O_RDWR, 0);
    fill(fd, 'B', 4, 0);
    CHECK(file_close(fd) == 0);
    second = fault_record_end();
    crash_disk_continue(disk, second);
    crash_disk_advance(disk, second->entries_count);
    for (unsigned seed = 0; seed < STATES; seed++) {
        ssize_t len;

        crash_disk_power_cut(disk, seed, next_state(&next), NULL);
        len = read_state(&next, "a", data, sizeof(data));
        a_lost |= len == 0;
        a_kept |= len == 4 * SECTOR && data[0] == 'a';
        len = read_state(&next, "b", data, sizeof(data));
        b_lost |= len == 0;
        for (ssize_t s = 0; s < len / SECTOR; s++)
            CHECK(strchr("Bb", data[s * SECTOR]) != NULL);
        len = read_state(&next, "c", data, sizeof(data));
        CHECK(len == 4 * SECTOR && data[0] == 'c');
    }
    CHECK(a_lost && a_kept && b_lost);
    crash_disk_free(disk);
    recording_free(first);
    recording_free(second);
    CHECK(file_close(next.dirfd) == 0);
    scene_end(&scene);
}

TEST("what a failed sync was for is not saved by a later one that succeeds")
{
    struct fault_calls first_sync = {FAULT_ANY_SYNC, "/a", 1};
    struct recording *recording;
    struct crash_disk *disk;
    unsigned x = 0, y = 0;
    struct scene scene;
    char data[8192];
    int fd;

    scene_begin(&scene);
    fd = file_open(scene.dirfd, "a", O_RDWR | O_CREAT, 0600);
    CHECK(file_sync(scene.dirfd) == 0);
    fault_fail(&first_sync, -EIO, false, 0);
    fill(fd, 'x', 16, 0);
    CHECK(file_sync_data(fd) == -EIO);
    fill(fd, 'y', 4, 12);
    CHECK(file_sync_data(fd) == 0);
    recording = fault_record_end();
    disk = crash_disk_new(recording);
    crash_disk_advance(disk, recording->entries_count);
    crash_disk_power_cut(disk, 1, next_state(&scene), NULL);
    CHECK(read_state(&scene, "a", data, sizeof(data)) == 16 * SECTOR);
    for (size_t s = 0; s < 16; s++) {
        x += data[s * SECTOR] == 'x';
        y += data[s * SECTOR] == 'y';
    }
    CHECK(x < 12 && y == 4);
    crash_disk_free(disk);
    recording_free(recording);
    CHECK(file_close(fd) == 0);
    scene_end(&scene);
}
