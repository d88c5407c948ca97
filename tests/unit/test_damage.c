/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Damage to the files of a cache directory, of every kind and in every place:
 * docs/DAMAGE.md says what is expected where, and this follows it.
 *
 * Whatever is damaged, a device that opens reads, for each page, what was
 * last written or -EIO, counts that, and goes on serving all the rest.
 *
 * DAMAGE_FLIPS says how many bytes of each file are flipped (24).
 */
#include "unit/test.h"

#include <sys/stat.h>

#include "base/log.h"
#include "base/number.h"
#include "base/workers.h"
#include "cache/device.h"
#include "support/crash_states.h"
#include "support/device_fixture.h"
#include "support/memory_store.h"

enum {
    PAGE = 4096,
    SIZE = 2 << 20,
    CHUNK = 256 << 10,
    PAGES = SIZE / PAGE,
    CHUNKS = SIZE / CHUNK,
    VERSIONS = 4,
    FILES_MAX = 64,
};

/* What has to come of a damaged place. */
enum expectation {
    EXPECT_HARMLESS, /* all is as it was */
    EXPECT_LOCAL,    /* opens; pages of one chunk at most are -EIO */
    EXPECT_REFUSED,  /* -EUCLEAN */
    EXPECT_MISSING,  /* -ENXIO */
    EXPECT_NOTICED,  /* refused in either way, or local, or harmless */
};

/* A device that was closed in order, and what it has held. */
struct scene {
    struct device_fixture fixture;
    struct object_store *store;
    char base[PATH_MAX]; /* the good cache directory */
    unsigned char *held[VERSIONS];
    unsigned versions;      /* the last one is what it holds */
    char *files[FILES_MAX]; /* below base */
    size_t files_count;
};

static void path_in(char *to, const char *dir, const char *name)
{
    if (snprintf(to, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        abort();
}

/* Copy a directory, and all that is in it, to a new one. */
static void copy_tree(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    struct dirent *entry;

    if (!dir || mkdir(to, 0700) < 0)
        abort();
    while ((entry = readdir(dir)) != NULL) {
        char source[PATH_MAX], target[PATH_MAX];
        static char data[1 << 20];
        struct stat status;
        ssize_t len;
        int in, out;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        path_in(source, from, entry->d_name);
        path_in(target, to, entry->d_name);
        if (stat(source, &status) < 0)
            abort();
        if (S_ISDIR(status.st_mode)) {
            copy_tree(source, target);
            continue;
        }
        in = open(source, O_RDONLY | O_CLOEXEC);
        out = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        while ((len = read(in, data, sizeof(data))) > 0) {
            if (write(out, data, (size_t)len) != len)
                abort();
        }
        (void)close(in);
        (void)close(out);
    }
    (void)closedir(dir);
}

static void find_files(struct scene *scene, const char *below)
{
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *dir;

    path_in(path, scene->base, below);
    dir = opendir(path);
    if (!dir)
        abort();
    while ((entry = readdir(dir)) != NULL) {
        char name[PATH_MAX];
        struct stat status;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (below[0])
            path_in(name, below, entry->d_name);
        else
            (void)snprintf(name, sizeof(name), "%s", entry->d_name);
        path_in(path, scene->base, name);
        if (stat(path, &status) < 0)
            abort();
        if (S_ISDIR(status.st_mode))
            find_files(scene, name);
        else if (scene->files_count < FILES_MAX)
            scene->files[scene->files_count++] = strdup(name);
    }
    (void)closedir(dir);
}

/* ---- what the device holds ---- */

static void write_page(struct scene *scene, unsigned char *model, uint64_t page,
                       const unsigned char *data)
{
    CHECK(fixture_write(&scene->fixture, page * PAGE, data, PAGE, 0) == 0);
    memcpy(model + page * PAGE, data, PAGE);
}

static void fill_page(unsigned char *data, uint64_t page, unsigned version)
{
    for (size_t i = 0; i < PAGE; i += 8) {
        uint64_t word = crash_random(page * 8 + version, i % 2048);

        memcpy(data + i, &word, sizeof(word));
    }
}

/* Begin the next version, as a copy of the last. */
static unsigned char *next_version(struct scene *scene)
{
    unsigned char *held = calloc(1, SIZE);

    if (!held)
        abort();
    if (scene->versions > 0)
        memcpy(held, scene->held[scene->versions - 1], SIZE);
    scene->held[scene->versions++] = held;
    return held;
}

/* Records of the journal as a guest's data: they must not be taken for ours. */
static void write_records(struct scene *scene, unsigned char *model)
{
    unsigned char data[PAGE];
    char path[PATH_MAX];
    int fd;

    path_in(path, scene->base, "journal/segment.0000");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    for (uint64_t i = 0; i < 6; i++) {
        CHECK(pread(fd, data, PAGE, (off_t)(i * PAGE)) == PAGE);
        write_page(scene, model, 60 + i, data);
    }
    (void)close(fd);
}

static void begin(struct scene *scene, bool with_store)
{
    unsigned char data[PAGE], *held;

    *scene = (struct scene){.files_count = 0};
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fixture_begin(&scene->fixture, test_dir(), false);
    scene->fixture.options.size = SIZE;
    scene->fixture.options.chunk_size = CHUNK;
    scene->fixture.options.journal_size = 512 << 10;
    scene->fixture.options.segment_size = 64 << 10;
    scene->fixture.options.block_cache_size = 128 << 10;
    if (with_store)
        scene->store = scene->fixture.options.store = memory_store_new();
    memcpy(scene->base, scene->fixture.cachedir, sizeof(scene->base));
    if (fixture_open(&scene->fixture) != 0)
        abort();
    held = next_version(scene);
    for (uint64_t page = 0; page < PAGES; page += 1 + page % 3) {
        fill_page(data, page, 1);
        write_page(scene, held, page, data);
    }
    CHECK(device_destage(scene->fixture.device) == 0);
    held = next_version(scene);
    for (uint64_t page = 0; page < PAGES / 2; page += 5) {
        fill_page(data, page, 2);
        write_page(scene, held, page, data);
    }
    CHECK(device_destage(scene->fixture.device) == 0);
    /* From here on in the journal only. */
    held = next_version(scene);
    for (uint64_t page = 0; page < 20; page += 2) {
        fill_page(data, page, 3);
        write_page(scene, held, page, data);
    }
    CHECK(fixture_flush(&scene->fixture) == 0);
    CHECK(fixture_zero(&scene->fixture, 40 * PAGE, 8 * PAGE, 0) == 0);
    memset(held + (size_t)40 * PAGE, 0, (size_t)8 * PAGE);
    write_records(scene, held);
    CHECK(fixture_flush(&scene->fixture) == 0);
    CHECK(fixture_close(&scene->fixture) == 0);
    find_files(scene, "");
}

static void end(struct scene *scene)
{
    for (size_t i = 0; i < scene->files_count; i++)
        free(scene->files[i]);
    for (unsigned i = 0; i < scene->versions; i++)
        free(scene->held[i]);
    scene->fixture.options.store = NULL;
    fixture_end(&scene->fixture);
    if (scene->store)
        scene->store->close(scene->store);
}

/* ---- looking at a damaged device ---- */

/* Take a fresh copy of the good directory.  Returns its path. */
static const char *fresh_copy(struct scene *scene)
{
    char *path = scene->fixture.cachedir;

    path_in(path, test_dir(), "damaged");
    if (strstr(path, "/s3blkdev-test.") != NULL)
        test_remove_tree(AT_FDCWD, path);
    copy_tree(scene->base, path);
    return path;
}

/* Read a page; count it if it cannot be.  Returns false if it is wrong. */
static bool page_is_right(struct scene *scene, uint64_t page, unsigned oldest,
                          bool *ret_is_damaged)
{
    unsigned char data[PAGE];
    int error = fixture_read(&scene->fixture, page * PAGE, data, PAGE);

    *ret_is_damaged = error == -EIO;
    if (error != 0)
        return error == -EIO;
    for (unsigned v = scene->versions; v-- > oldest;) {
        if (memcmp(data, scene->held[v] + page * PAGE, PAGE) == 0)
            return true;
    }
    return false;
}

/* What is damaged can be written again, destaged, and read. */
static void check_cure(struct scene *scene, const bool is_damaged[PAGES])
{
    unsigned char data[PAGE], found[PAGE];

    for (uint64_t page = 0; page < PAGES; page++) {
        if (!is_damaged[page])
            continue;
        fill_page(data, page, 9);
        CHECK(fixture_write(&scene->fixture, page * PAGE, data, PAGE, 0) == 0);
    }
    CHECK(device_destage(scene->fixture.device) == 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        if (!is_damaged[page])
            continue;
        fill_page(data, page, 9);
        CHECK(fixture_read(&scene->fixture, page * PAGE, found, PAGE) == 0);
        CHECK(memcmp(data, found, PAGE) == 0);
    }
}

/* Returns how many pages are damaged. */
static unsigned check_content(struct scene *scene, enum expectation expected)
{
    static bool is_damaged[PAGES];
    struct device_status status;
    unsigned damaged = 0;
    uint64_t chunk = UINT64_MAX;

    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(
            page_is_right(scene, page, scene->versions - 1, &is_damaged[page]));
        if (!is_damaged[page])
            continue;
        damaged++;
        /* One bad place stops nothing else. */
        if (expected == EXPECT_LOCAL)
            CHECK(chunk == UINT64_MAX || chunk == page * PAGE / CHUNK);
        chunk = page * PAGE / CHUNK;
    }
    device_status(scene->fixture.device, &status);
    CHECK(!status.failed);
    CHECK(damaged == 0 || status.damaged_reads > 0);
    CHECK(damaged == 0 || expected != EXPECT_HARMLESS);
    check_cure(scene, is_damaged);
    return damaged;
}

/* By option, what is sure can be read after all: nothing that never was. */
static void check_read_only(struct scene *scene)
{
    bool is_damaged;
    int error;

    scene->fixture.options.read_only = true;
    error = fixture_open(&scene->fixture);
    if (error == 0) {
        for (uint64_t page = 0; page < PAGES; page++)
            CHECK(page_is_right(scene, page, 0, &is_damaged));
        CHECK(fixture_close(&scene->fixture) == 0);
    } else {
        CHECK(error == -EUCLEAN || error == -ENXIO);
    }
    scene->fixture.options.read_only = false;
}

/* Open the damaged copy and see that what is expected came of it. */
static void check_damaged(struct scene *scene, enum expectation expected,
                          unsigned *ret_refused, unsigned *ret_damaged)
{
    int error = fixture_open(&scene->fixture);
    unsigned damaged = 0;

    if (error != 0) {
        CHECK(error == -EUCLEAN || error == -ENXIO);
        CHECK(expected != EXPECT_HARMLESS && expected != EXPECT_LOCAL);
        CHECK(expected != EXPECT_REFUSED || error == -EUCLEAN);
        CHECK(expected != EXPECT_MISSING || error == -ENXIO);
        if (ret_refused)
            ++*ret_refused;
        check_read_only(scene);
        return;
    }
    CHECK(expected != EXPECT_REFUSED && expected != EXPECT_MISSING);
    damaged = check_content(scene, expected);
    if (ret_damaged)
        *ret_damaged += damaged > 0;
    CHECK(fixture_close(&scene->fixture) == 0);
    /* And it stays so. */
    CHECK(fixture_open(&scene->fixture) == 0);
    CHECK(fixture_close(&scene->fixture) == 0);
}

/* ---- damage ---- */

static bool is_of(const char *file, const char *kind)
{
    return strncmp(file, kind, strlen(kind)) == 0;
}

static off_t size_of(const char *dir, const char *file)
{
    char path[PATH_MAX];
    struct stat status;

    path_in(path, dir, file);
    return stat(path, &status) == 0 ? status.st_size : 0;
}

static void flip_byte(const char *dir, const char *file, off_t at,
                      unsigned char bits)
{
    char path[PATH_MAX];
    unsigned char byte;
    int fd;

    path_in(path, dir, file);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &byte, 1, at) != 1)
        abort();
    byte ^= bits;
    if (pwrite(fd, &byte, 1, at) != 1)
        abort();
    (void)close(fd);
}

static uint64_t flips_wanted(void)
{
    const char *text = getenv("DAMAGE_FLIPS");
    uint64_t flips;

    return text && number_parse(text, 1, 1 << 20, &flips) == 0 ? flips : 24;
}

/* Flip single bytes, in the head of each such file and anywhere in it. */
static void flip_all(struct scene *scene, const char *kind,
                     enum expectation expected, unsigned *ret_refused,
                     unsigned *ret_damaged)
{
    uint64_t flips = flips_wanted();
    unsigned seen = 0;

    for (size_t f = 0; f < scene->files_count; f++) {
        const char *file = scene->files[f];
        off_t size = size_of(scene->base, file);

        if (!is_of(file, kind) || size == 0)
            continue;
        seen++;
        for (uint64_t i = 0; i < flips && !atomic_load(&test_has_failed); i++) {
            uint64_t dice = crash_random(f, i);
            off_t at = (off_t)(dice / 4 % (uint64_t)size);

            if (dice % 4 == 0)
                at %= 256;
            else if (dice % 4 == 1)
                at %= PAGE;
            if (at >= size)
                at %= size;
            flip_byte(fresh_copy(scene), file, at,
                      (unsigned char)(1 << dice / 1024 % 8));
            check_damaged(scene, expected, ret_refused, ret_damaged);
            if (atomic_load(&test_has_failed))
                printf("# flipped: byte %lld of %s\n", (long long)at, file);
        }
    }
    CHECK(seen > 0);
}

enum blow { TRUNCATED_BY_HALF, TRUNCATED_BY_ONE, EMPTIED, DELETED };

static void hit(const char *dir, const char *file, enum blow blow)
{
    off_t size = size_of(dir, file);
    char path[PATH_MAX];

    path_in(path, dir, file);
    if (blow == DELETED
            ? unlink(path) < 0
            : truncate(path, blow == EMPTIED            ? 0
                             : blow == TRUNCATED_BY_ONE ? size - 1
                                                        : size / 2) < 0)
        abort();
}

/* Cut and delete each such file. */
static void hit_all(struct scene *scene, const char *kind,
                    enum expectation expected, unsigned *ret_refused,
                    unsigned *ret_damaged)
{
    for (size_t f = 0; f < scene->files_count; f++) {
        const char *file = scene->files[f];

        if (!is_of(file, kind) || size_of(scene->base, file) == 0)
            continue;
        for (enum blow blow = TRUNCATED_BY_HALF;
             blow <= DELETED && !atomic_load(&test_has_failed); blow++) {
            hit(fresh_copy(scene), file, blow);
            check_damaged(scene, expected, ret_refused, ret_damaged);
            if (atomic_load(&test_has_failed))
                printf("# blow %d to %s\n", (int)blow, file);
        }
    }
}

static void swap_files(const char *dir, const char *one, const char *other)
{
    char first[PATH_MAX], second[PATH_MAX], between[PATH_MAX];

    path_in(first, dir, one);
    path_in(second, dir, other);
    path_in(between, dir, "between");
    if (rename(first, between) < 0 || rename(second, first) < 0 ||
        rename(between, second) < 0)
        abort();
}

/* Let each such file and the next one change places. */
static void swap_all(struct scene *scene, const char *kind,
                     enum expectation expected, unsigned *ret_refused)
{
    const char *last = NULL;

    for (size_t f = 0; f < scene->files_count; f++) {
        const char *file = scene->files[f];

        if (!is_of(file, kind) || size_of(scene->base, file) == 0)
            continue;
        if (last && !atomic_load(&test_has_failed)) {
            swap_files(fresh_copy(scene), file, last);
            check_damaged(scene, expected, ret_refused, NULL);
            if (atomic_load(&test_has_failed))
                printf("# swapped: %s and %s\n", file, last);
        }
        last = file;
    }
}

/* ---- the table of docs/DAMAGE.md ---- */

TEST("a chunk file: a flipped byte costs at most that chunk's pages, and they "
     "can be written again")
{
    unsigned damaged = 0;
    struct scene scene;

    begin(&scene, false);
    flip_all(&scene, "chunk/", EXPECT_LOCAL, NULL, &damaged);
    CHECK(damaged > 0);
    end(&scene);
}

TEST("a chunk file that is cut or gone costs at most that chunk's pages")
{
    unsigned damaged = 0;
    struct scene scene;

    begin(&scene, false);
    hit_all(&scene, "chunk/", EXPECT_LOCAL, NULL, &damaged);
    CHECK(damaged > 0);
    end(&scene);
}

TEST("chunk files that changed places give no page of the wrong chunk")
{
    struct scene scene;

    begin(&scene, false);
    swap_all(&scene, "chunk/", EXPECT_NOTICED, NULL);
    end(&scene);
}

TEST("a journal segment: a flipped byte is refused or costs its page, and is "
     "never cut off")
{
    unsigned refused = 0;
    struct scene scene;

    begin(&scene, false);
    flip_all(&scene, "journal/", EXPECT_NOTICED, &refused, NULL);
    CHECK(refused > 0);
    end(&scene);
}

TEST("a journal segment that is cut, gone or in another's place is refused, "
     "unless it was free")
{
    unsigned refused = 0;
    struct scene scene;

    begin(&scene, false);
    hit_all(&scene, "journal/", EXPECT_NOTICED, &refused, NULL);
    CHECK(refused > 0);
    swap_all(&scene, "journal/", EXPECT_NOTICED, NULL);
    end(&scene);
}

TEST("the state: a flipped byte is refused or of no consequence, never zeros")
{
    unsigned refused = 0, damaged = 0;
    struct scene scene;

    begin(&scene, false);
    flip_all(&scene, "state/", EXPECT_NOTICED, &refused, &damaged);
    CHECK(damaged == 0);
    end(&scene);
}

TEST("the state that is cut, gone or mixed up is refused or found elsewhere, "
     "never zeros")
{
    unsigned refused = 0, damaged = 0;
    struct scene scene;

    begin(&scene, false);
    hit_all(&scene, "state/", EXPECT_NOTICED, &refused, &damaged);
    swap_all(&scene, "state/", EXPECT_NOTICED, &refused);
    CHECK(refused > 0 && damaged == 0);
    end(&scene);
}

TEST("no state at all beside a superblock is refused")
{
    struct scene scene;
    char path[PATH_MAX];

    begin(&scene, false);
    path_in(path, fresh_copy(&scene), "state");
    NEED(strstr(path, "/s3blkdev-test.") != NULL);
    test_remove_tree(AT_FDCWD, path);
    check_damaged(&scene, EXPECT_REFUSED, NULL, NULL);
    end(&scene);
}

TEST("the superblock: a flipped byte, a cut or its loss is refused")
{
    struct scene scene;

    begin(&scene, false);
    flip_all(&scene, "superblock", EXPECT_REFUSED, NULL, NULL);
    hit_all(&scene, "superblock", EXPECT_REFUSED, NULL, NULL);
    end(&scene);
}

TEST("the reserve and the lock file hold nothing that matters")
{
    struct scene scene;

    begin(&scene, false);
    flip_all(&scene, "reserve", EXPECT_HARMLESS, NULL, NULL);
    hit_all(&scene, "reserve", EXPECT_HARMLESS, NULL, NULL);
    hit_all(&scene, "lock", EXPECT_HARMLESS, NULL, NULL);
    end(&scene);
}

TEST("an empty directory where the cache should be mounted is refused")
{
    struct scene scene;
    char path[PATH_MAX];

    begin(&scene, true);
    path_in(path, test_dir(), "empty");
    NEED(mkdir(path, 0700) == 0);
    memcpy(scene.fixture.cachedir, path, sizeof(path));
    check_damaged(&scene, EXPECT_MISSING, NULL, NULL);
    end(&scene);
}

TEST("a journal that is missing, or another device's, is refused")
{
    struct scene scene;
    char journal[PATH_MAX];

    begin(&scene, false);
    /* The directory that should hold it is not there, or is empty. */
    (void)fresh_copy(&scene);
    path_in(scene.fixture.journal_dir, test_dir(), "elsewhere");
    scene.fixture.options.journal_dir = scene.fixture.journal_dir;
    check_damaged(&scene, EXPECT_MISSING, NULL, NULL);
    NEED(mkdir(scene.fixture.journal_dir, 0700) == 0);
    check_damaged(&scene, EXPECT_MISSING, NULL, NULL);
    /* Its own journal, moved there, is what it needs. */
    path_in(journal, scene.base, "journal");
    {
        char to[PATH_MAX];

        path_in(to, scene.fixture.journal_dir, "journal");
        if (access(to, F_OK) == 0) {
            NEED(strstr(to, "/s3blkdev-test.") != NULL);
            test_remove_tree(AT_FDCWD, to);
        }
        copy_tree(journal, to);
    }
    check_damaged(&scene, EXPECT_HARMLESS, NULL, NULL);
    end(&scene);
}

TEST("the journal of another device is refused")
{
    struct scene scene, other;
    char from[PATH_MAX], to[PATH_MAX];

    begin(&other, false);
    end(&other);
    /* test_dir is the same: what the other left is moved out of the way. */
    path_in(from, other.base, "journal");
    path_in(to, test_dir(), "foreign");
    NEED(rename(from, to) == 0);
    NEED(strstr(other.base, "/s3blkdev-test.") != NULL);
    test_remove_tree(AT_FDCWD, other.base);
    begin(&scene, false);
    path_in(from, fresh_copy(&scene), "journal");
    NEED(strstr(from, "/s3blkdev-test.") != NULL);
    test_remove_tree(AT_FDCWD, from);
    copy_tree(to, from);
    check_damaged(&scene, EXPECT_MISSING, NULL, NULL);
    end(&scene);
}
