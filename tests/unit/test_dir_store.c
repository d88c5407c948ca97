/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "s3/dir_store.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "object_store.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "unit/test.h"

static struct object_store *open_store(void)
{
    struct object_store *store = NULL;

    return dir_store_open(test_dir(), &store) == 0 ? store : NULL;
}

static int put_text(struct object_store *store, const char *key,
                    const char *text, bool if_absent)
{
    return store->put(store, key, text, strlen(text), if_absent);
}

static bool object_is(struct object_store *store, const char *key,
                      const char *text)
{
    char data[64] = "";
    struct object_info info;

    return store->head(store, key, &info) == 0 && info.size == strlen(text) &&
           info.size < sizeof(data) &&
           store->get(store, key, 0, data, strlen(text), OBJECT_BACKGROUND) ==
               0 &&
           strcmp(data, text) == 0;
}

/* How many names there are in a directory of the test, -1 if it is absent. */
static int count_names(const char *name)
{
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *dir;
    int count = 0;

    (void)snprintf(path, sizeof(path), "%s/%s", test_dir(), name);
    dir = opendir(path);
    if (!dir)
        return -1;
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.';
    (void)closedir(dir);
    return count;
}

/* ---- get, put, head ------------------------------------------------------ */

TEST("what was put is read back, whole and in part")
{
    struct object_store *store = open_store();
    char part[4] = "";

    NEED(store);
    CHECK(put_text(store, "disk/chunk/01/x", "hello world", true) == 0);
    CHECK(object_is(store, "disk/chunk/01/x", "hello world"));
    CHECK(store->get(store, "disk/chunk/01/x", 6, part, 3, OBJECT_BACKGROUND) ==
          0);
    CHECK(memcmp(part, "wor", 3) == 0);
    store->close(store);
}

TEST("an empty object exists")
{
    struct object_store *store = open_store();
    struct object_info info = {.size = 1};
    char none;

    NEED(store);
    CHECK(store->put(store, "empty", "", 0, true) == 0);
    CHECK(store->head(store, "empty", &info) == 0 && info.size == 0);
    CHECK(info.modified_ns > 0);
    CHECK(store->get(store, "empty", 0, &none, 0, OBJECT_BACKGROUND) == 0);
    CHECK(store->get(store, "empty", 0, &none, 1, OBJECT_BACKGROUND) == -EIO);
    store->close(store);
}

TEST("a range that is not wholly inside the object is an error")
{
    struct object_store *store = open_store();
    char data[8];

    NEED(store);
    CHECK(put_text(store, "k", "1234", true) == 0);
    CHECK(store->get(store, "k", 0, data, 5, OBJECT_BACKGROUND) == -EIO);
    CHECK(store->get(store, "k", 4, data, 1, OBJECT_BACKGROUND) == -EIO);
    CHECK(store->get(store, "k", 5, data, 0, OBJECT_BACKGROUND) == -EIO);
    CHECK(store->get(store, "k", UINT64_MAX, data, 2, OBJECT_BACKGROUND) ==
          -EIO);
    CHECK(store->get(store, "k", 4, data, 0, OBJECT_BACKGROUND) == 0);
    CHECK(store->get(store, "k", 0, data, 4, OBJECT_BACKGROUND) == 0);
    store->close(store);
}

TEST("an absent object is ENOENT, also where a part of its key is an object")
{
    struct object_store *store = open_store();
    struct object_info info;
    char data[1];

    NEED(store);
    CHECK(put_text(store, "a/b", "x", true) == 0);
    CHECK(store->head(store, "c", &info) == -ENOENT);
    CHECK(store->head(store, "a/c", &info) == -ENOENT);
    CHECK(store->head(store, "a/b/c", &info) == -ENOENT);
    CHECK(store->head(store, "a", &info) == -ENOENT);
    CHECK(store->get(store, "c", 0, data, 0, OBJECT_BACKGROUND) == -ENOENT);
    CHECK(store->get(store, "a", 0, data, 0, OBJECT_BACKGROUND) == -ENOENT);
    store->close(store);
}

TEST("a key that is not valid reaches no file")
{
    struct object_store *store = open_store();
    struct object_info info;
    char data[1];

    NEED(store);
    CHECK(put_text(store, "../escaped", "x", false) == -EINVAL);
    CHECK(put_text(store, "/etc/s3blkdev", "x", false) == -EINVAL);
    CHECK(put_text(store, "~tmp/x", "x", false) == -EINVAL);
    CHECK(store->get(store, "a//b", 0, data, 0, OBJECT_BACKGROUND) == -EINVAL);
    CHECK(store->head(store, "..", &info) == -EINVAL);
    CHECK(object_delete_one(store, "../escaped") == -EINVAL);
    store->close(store);
}

TEST("nothing is found in a store whose directory was removed, as an error")
{
    struct object_store *store;
    struct object_info info;
    char path[PATH_MAX], temporary[PATH_MAX + 8];

    (void)snprintf(path, sizeof(path), "%s/store", test_dir());
    (void)snprintf(temporary, sizeof(temporary), "%s/~tmp", path);
    NEED(mkdir(path, 0700) == 0);
    NEED(dir_store_open(path, &store) == 0);
    CHECK(store->head(store, "a", &info) == -ENOENT);
    CHECK(rmdir(temporary) == 0 && rmdir(path) == 0);
    CHECK(store->head(store, "a", &info) == -EIO);
    CHECK(store->list(store, "", "", NULL, NULL) == -EIO);
    CHECK(object_delete_one(store, "a") == -EIO);
    CHECK(put_text(store, "a", "x", true) == -EIO);
    store->close(store);
}

/* ---- conditional puts -----------------------------------------------------
 */

TEST("a conditional put leaves what is there, a plain one replaces it")
{
    struct object_store *store = open_store();

    NEED(store);
    CHECK(put_text(store, "k", "first", true) == 0);
    CHECK(put_text(store, "k", "second", true) == -EEXIST);
    CHECK(object_is(store, "k", "first"));
    CHECK(put_text(store, "k", "third", false) == 0);
    CHECK(object_is(store, "k", "third"));
    CHECK(count_names("~tmp") == 0);
    store->close(store);
}

enum { RACERS = 8, RACES = 50 };

struct racer {
    pthread_t thread;
    pthread_barrier_t *barrier;
    struct object_store *store;
    char name;
    unsigned wins;
    unsigned others;
};

static void *race(void *context)
{
    struct racer *racer = context;

    for (int i = 0; i < RACES; i++) {
        char key[32];
        int error;

        (void)snprintf(key, sizeof(key), "disk/epoch/%d", i);
        (void)pthread_barrier_wait(racer->barrier);
        error = racer->store->put(racer->store, key, &racer->name, 1, true);
        racer->wins += error == 0;
        racer->others += error != 0 && error != -EEXIST;
    }
    return NULL;
}

TEST("of conditional puts that race for a key, through two stores, one wins")
{
    struct object_store *stores[2] = {open_store(), open_store()};
    struct racer racers[RACERS];
    pthread_barrier_t barrier;
    unsigned wins = 0, others = 0;

    NEED(stores[0] && stores[1]);
    NEED(pthread_barrier_init(&barrier, NULL, RACERS) == 0);
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.barrier = &barrier,
                                   .store = stores[i % 2],
                                   .name = (char)('a' + i)};
        NEED(pthread_create(&racers[i].thread, NULL, race, &racers[i]) == 0);
    }
    for (int i = 0; i < RACERS; i++) {
        (void)pthread_join(racers[i].thread, NULL);
        wins += racers[i].wins;
        others += racers[i].others;
    }
    CHECK(wins == RACES);
    CHECK(others == 0);
    CHECK(count_names("disk/epoch") == RACES);
    CHECK(count_names("~tmp") == 0);
    (void)pthread_barrier_destroy(&barrier);
    stores[0]->close(stores[0]);
    stores[1]->close(stores[1]);
}

/* ---- delete ----------------------------------------------------------------
 */

TEST("delete removes the object and the directories that it leaves empty")
{
    struct object_store *store = open_store();
    struct object_info info;

    NEED(store);
    CHECK(put_text(store, "d/chunk/1/x", "x", true) == 0);
    CHECK(put_text(store, "d/chunk/2/y", "y", true) == 0);
    CHECK(object_delete_one(store, "d/chunk/1/x") == 0);
    CHECK(store->head(store, "d/chunk/1/x", &info) == -ENOENT);
    CHECK(count_names("d/chunk") == 1);
    CHECK(object_is(store, "d/chunk/2/y", "y"));
    CHECK(object_delete_one(store, "d/chunk/2/y") == 0);
    CHECK(count_names("d") == -1);
    store->close(store);
}

TEST("deleting what is absent succeeds and harms nothing beside it")
{
    struct object_store *store = open_store();

    NEED(store);
    CHECK(put_text(store, "a/b", "x", true) == 0);
    CHECK(object_delete_one(store, "a/c") == 0);
    CHECK(object_delete_one(store, "c/d/e") == 0);
    CHECK(object_delete_one(store, "a") == 0);
    CHECK(object_delete_one(store, "a/b/c") == 0);
    CHECK(object_is(store, "a/b", "x"));
    store->close(store);
}

struct remover {
    struct object_store *store;
    atomic_bool stop;
    atomic_uint failures;
};

static void *put_and_delete(void *context)
{
    struct remover *remover = context;

    while (!atomic_load(&remover->stop)) {
        atomic_fetch_add(&remover->failures,
                         put_text(remover->store, "d/e/f/other", "y", false) !=
                             0);
        atomic_fetch_add(&remover->failures,
                         object_delete_one(remover->store, "d/e/f/other") != 0);
    }
    return NULL;
}

TEST("a put survives that deletes beside it remove its directories")
{
    struct remover remover = {.store = open_store()};
    struct object_store *store = remover.store;
    pthread_t thread;

    NEED(store);
    NEED(pthread_create(&thread, NULL, put_and_delete, &remover) == 0);
    for (int i = 0; i < 300; i++) {
        CHECK(put_text(store, "d/e/f/mine", "x", true) == 0);
        CHECK(object_is(store, "d/e/f/mine", "x"));
        CHECK(object_delete_one(store, "d/e/f/mine") == 0);
    }
    atomic_store(&remover.stop, true);
    (void)pthread_join(thread, NULL);
    CHECK(atomic_load(&remover.failures) == 0);
    store->close(store);
}

/* ---- list -------------------------------------------------------------------
 */

struct listed {
    char text[512];
    unsigned until; /* stop at this many; 0: never */
    unsigned count;
};

static int append_key(void *context, const char *key,
                      const struct object_info *info)
{
    struct listed *listed = context;
    size_t len = strlen(listed->text);

    (void)snprintf(listed->text + len, sizeof(listed->text) - len, "%s=%d ",
                   key, (int)info->size);
    return ++listed->count == listed->until ? 77 : 0;
}

static bool list_is(struct object_store *store, const char *prefix,
                    const char *after, const char *expected)
{
    struct listed listed = {.until = 0};

    if (store->list(store, prefix, after, append_key, &listed) != 0)
        return false;
    if (strcmp(listed.text, expected) != 0)
        printf("# prefix '%s' after '%s': %s\n", prefix, after, listed.text);
    return strcmp(listed.text, expected) == 0;
}

static struct object_store *store_with_keys(void)
{
    static const char *const keys[] = {"b/c",  "a.b",   "a-b", "a/z", "a/b/c",
                                       "a/b-", "a/b/a", "a0",  "B",   "b/ca"};
    struct object_store *store = open_store();

    for (size_t i = 0; store && i < sizeof(keys) / sizeof(keys[0]); i++)
        CHECK(put_text(store, keys[i], &"1234"[i % 5], true) == 0);
    return store;
}

TEST("list gives all keys in ascending bytewise order across directories")
{
    struct object_store *store = store_with_keys();

    NEED(store);
    CHECK(list_is(store, "", "",
                  "B=1 a-b=2 a.b=3 a/b-=4 a/b/a=3 a/b/c=0 a/z=1 a0=2 b/c=4 "
                  "b/ca=0 "));
    store->close(store);
}

TEST("list cuts a prefix anywhere, also in the middle of a name")
{
    struct object_store *store = store_with_keys();

    NEED(store);
    CHECK(list_is(store, "a/b", "", "a/b-=4 a/b/a=3 a/b/c=0 "));
    CHECK(list_is(store, "a/b/", "", "a/b/a=3 a/b/c=0 "));
    CHECK(list_is(store, "a/", "", "a/b-=4 a/b/a=3 a/b/c=0 a/z=1 "));
    CHECK(list_is(store, "b/ca", "", "b/ca=0 "));
    CHECK(list_is(store, "b/cab", "", ""));
    CHECK(list_is(store, "c", "", ""));
    CHECK(list_is(store, "a/b/c/d", "", ""));
    store->close(store);
}

TEST("list starts after any key, present or not")
{
    struct object_store *store = store_with_keys();

    NEED(store);
    CHECK(list_is(store, "", "a/b/a", "a/b/c=0 a/z=1 a0=2 b/c=4 b/ca=0 "));
    CHECK(list_is(store, "", "a/b/b", "a/b/c=0 a/z=1 a0=2 b/c=4 b/ca=0 "));
    CHECK(list_is(store, "", "a/y", "a/z=1 a0=2 b/c=4 b/ca=0 "));
    CHECK(list_is(store, "a/", "a/b", "a/b-=4 a/b/a=3 a/b/c=0 a/z=1 "));
    CHECK(list_is(store, "a/", "a/z", ""));
    CHECK(list_is(store, "", "b/ca", ""));
    CHECK(list_is(store, "", "zzz", ""));
    store->close(store);
}

TEST("list ends when it is told to, and returns what it was told")
{
    struct object_store *store = store_with_keys();
    struct listed listed = {.until = 5};

    NEED(store);
    CHECK(store->list(store, "", "", append_key, &listed) == 77);
    CHECK(strcmp(listed.text, "B=1 a-b=2 a.b=3 a/b-=4 a/b/a=3 ") == 0);
    store->close(store);
}

TEST("list shows nothing that is not an object: no FIFO, link, lost+found")
{
    struct object_store *store = open_store();
    char path[PATH_MAX];
    struct object_info info;

    NEED(store);
    CHECK(put_text(store, "real", "x", true) == 0);
    (void)snprintf(path, sizeof(path), "%s/fifo", test_dir());
    CHECK(mkfifo(path, 0600) == 0);
    (void)snprintf(path, sizeof(path), "%s/link", test_dir());
    CHECK(symlink("real", path) == 0);
    (void)snprintf(path, sizeof(path), "%s/lost+found", test_dir());
    CHECK(mkdir(path, 0700) == 0);
    CHECK(list_is(store, "", "", "real=1 "));
    CHECK(store->head(store, "fifo", &info) == -ENOENT);
    store->close(store);
}

/* ---- death and leftovers
 * ------------------------------------------------------ */

TEST("a put killed at any moment leaves the object whole or not at all")
{
    enum { SIZE = 1 << 20 };
    struct object_store *store = open_store();
    char *data = malloc(SIZE), *back = malloc(SIZE);
    int complete = 0;

    NEED(store && data && back);
    memset(data, 'd', SIZE);
    for (int round = 0; round < 20; round++) {
        struct object_info info;
        int pipe_fds[2], status;
        pid_t child;
        char key[32];

        NEED(pipe(pipe_fds) == 0);
        child = fork();
        NEED(child >= 0);
        if (child == 0) {
            struct object_store *own = open_store();

            for (int i = 0; own; i++) {
                (void)snprintf(key, sizeof(key), "r%d/o%d", round, i);
                if (own->put(own, key, data, SIZE, true) != 0 ||
                    write(pipe_fds[1], "x", 1) != 1)
                    break;
            }
            _exit(1);
        }
        (void)close(pipe_fds[1]);
        /* After the n-th object the child is somewhere in the next one. */
        for (int i = 0; i <= round % 4; i++)
            CHECK(read(pipe_fds[0], key, 1) == 1);
        CHECK(kill(child, SIGKILL) == 0);
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        (void)close(pipe_fds[0]);
        for (int i = 0;; i++) {
            (void)snprintf(key, sizeof(key), "r%d/o%d", round, i);
            if (store->head(store, key, &info) != 0) {
                CHECK(i > round % 4);
                break;
            }
            complete++;
            CHECK(info.size == SIZE);
            CHECK(store->get(store, key, 0, back, SIZE, OBJECT_BACKGROUND) ==
                  0);
            CHECK(memcmp(data, back, SIZE) == 0);
        }
    }
    CHECK(complete >= 20);
    free(data);
    free(back);
    store->close(store);
}

TEST("open removes what is old in the temporary directory, not what is new")
{
    struct timespec long_ago[2] = {{.tv_sec = time(NULL) - 25 * 60 * 60},
                                   {.tv_sec = time(NULL) - 25 * 60 * 60}};
    struct object_store *store = open_store();
    char path[PATH_MAX];
    int fd;

    NEED(store);
    store->close(store);
    (void)snprintf(path, sizeof(path), "%s/~tmp/new", test_dir());
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    NEED(fd >= 0 && close(fd) == 0);
    (void)snprintf(path, sizeof(path), "%s/~tmp/old", test_dir());
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    NEED(fd >= 0 && futimens(fd, long_ago) == 0 && close(fd) == 0);
    CHECK(count_names("~tmp") == 2);
    store = open_store();
    NEED(store);
    CHECK(count_names("~tmp") == 1);
    CHECK(access(path, F_OK) != 0);
    store->close(store);
}

TEST("a directory that is not there, or is none, is not opened nor made")
{
    struct object_store *store = NULL;
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/missing", test_dir());
    CHECK(dir_store_open(path, &store) == -ENOENT);
    CHECK(access(path, F_OK) != 0);
    CHECK(dir_store_open("/dev/null", &store) == -ENOTDIR);
    CHECK(store == NULL);
}

/* ---- faults
 * ------------------------------------------------------------------- */

TEST("whichever call of a put fails, the object is there whole or not at all")
{
    struct object_store *store = open_store();
    unsigned long n = 0, calls;
    unsigned failures = 0;

    NEED(store);
    do {
        struct fault_calls nth = {.kinds = FAULT_ANY_CHANGE | FAULT_OPEN,
                                  .nth = ++n};
        struct object_info info;
        char key[32];
        int error;

        (void)snprintf(key, sizeof(key), "d/%lu/object", n);
        fault_fail(&nth, n % 2 ? -EIO : -ENOSPC, false, 0);
        error = put_text(store, key, "content", true);
        calls = fault_count();
        fault_reset();
        CHECK(error == 0 || error == -EIO);
        failures += error != 0;
        if (error == 0 || store->head(store, key, &info) == 0)
            CHECK(object_is(store, key, "content"));
        /* The caller that was told an error tries again. */
        error = put_text(store, key, "content", true);
        CHECK(error == 0 || error == -EEXIST);
        CHECK(object_is(store, key, "content"));
    } while (n <= calls);
    CHECK(failures > 10);
    store->close(store);
}

TEST("what the file system refuses is told as the store refusing")
{
    static const struct {
        int error, expected;
    } errors[] = {{-EACCES, -EACCES},       {-EROFS, -EACCES},
                  {-EPERM, -EACCES},        {-ENOSPC, -EIO},
                  {-ETIMEDOUT, -ETIMEDOUT}, {-ESTALE, -EIO}};
    struct object_store *store = open_store();
    char data[1];

    NEED(store);
    CHECK(put_text(store, "k", "x", true) == 0);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct fault_calls next = {.kinds = FAULT_OPEN | FAULT_CREATE,
                                   .nth = 1};

        fault_fail(&next, errors[i].error, true, 0);
        CHECK(store->get(store, "k", 0, data, 1, OBJECT_BACKGROUND) ==
              errors[i].expected);
        CHECK(put_text(store, "l", "x", true) == errors[i].expected);
        fault_reset();
    }
    store->close(store);
}

TEST("a read that fails, or a delete, is an error and not an absent object")
{
    struct object_store *store = open_store();
    struct fault_calls read = {.kinds = FAULT_READ, .nth = 1};
    struct fault_calls unlink = {.kinds = FAULT_UNLINK, .nth = 1};
    char data[1];

    NEED(store);
    CHECK(put_text(store, "k", "x", true) == 0);
    fault_fail(&read, -EIO, false, 0);
    CHECK(store->get(store, "k", 0, data, 1, OBJECT_BACKGROUND) == -EIO);
    fault_fail(&unlink, -EIO, false, 0);
    CHECK(object_delete_one(store, "k") == -EIO);
    fault_reset();
    CHECK(object_is(store, "k", "x"));
    store->close(store);
}

/* Returns the only name in the temporary directory. */
static const char *temporary_path(void)
{
    static char path[PATH_MAX];
    struct dirent *entry;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "%s/~tmp", test_dir());
    dir = opendir(path);
    while (dir && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            size_t len = strlen(path);

            (void)snprintf(path + len, sizeof(path) - len, "/%s",
                           entry->d_name);
            break;
        }
    }
    if (dir)
        (void)closedir(dir);
    return path;
}

static void *put_one(void *context)
{
    struct racer *racer = context;

    racer->others = (unsigned)-put_text(racer->store, "dir/k", "ours", true);
    return NULL;
}

TEST("a link that was made, but is told as taken, as NFS may, is a success")
{
    struct racer racer = {.store = open_store()};
    struct fault_calls link_call = {.kinds = FAULT_LINK, .nth = 1};
    char name[PATH_MAX];

    NEED(racer.store);
    fault_gate_set(&link_call);
    NEED(pthread_create(&racer.thread, NULL, put_one, &racer) == 0);
    fault_gate_wait();
    (void)snprintf(name, sizeof(name), "%s/dir/k", test_dir());
    CHECK(link(temporary_path(), name) == 0);
    fault_gate_open();
    (void)pthread_join(racer.thread, NULL);
    fault_reset();
    CHECK(racer.others == 0);
    CHECK(object_is(racer.store, "dir/k", "ours"));
    racer.store->close(racer.store);
}

/* ---- power cuts
 * ---------------------------------------------------------------- */

enum { PUTS = 5, SEEDS = 6 };

static const char *const put_keys[PUTS] = {"a/b/first", "a/b/second", "a/third",
                                           "top", "a/b/first"};

/* Check what a power cut left at root, after the first puts were answered. */
static void check_after_cut(const char *root, unsigned answered)
{
    struct object_store *store;

    NEED(dir_store_open(root, &store) == 0);
    for (unsigned i = 0; i < PUTS; i++) {
        bool is_last = i == PUTS - 1; /* it replaces the first */
        struct object_info info;
        int error = store->head(store, put_keys[i], &info);

        CHECK(error == 0 || error == -ENOENT);
        CHECK(error == 0 || i >= answered || (is_last && answered < PUTS));
        if (error == 0)
            CHECK(object_is(store, put_keys[i], "12345678") ||
                  (i % (PUTS - 1) == 0 &&
                   object_is(store, put_keys[i], "replaced")));
    }
    if (answered == PUTS)
        CHECK(object_is(store, put_keys[0], "replaced"));
    store->close(store);
}

TEST("after a power cut at any moment there is all that was answered, whole")
{
    char root[PATH_MAX], state[PATH_MAX];
    struct object_store *store;
    struct recording *recording;
    struct crash_disk *disk;
    size_t ends[PUTS];

    (void)snprintf(root, sizeof(root), "%s/root", test_dir());
    (void)snprintf(state, sizeof(state), "%s/state", test_dir());
    NEED(mkdir(root, 0700) == 0);
    NEED(dir_store_open(root, &store) == 0);
    fault_record_begin(root);
    for (unsigned i = 0; i < PUTS; i++) {
        bool is_last = i == PUTS - 1;

        CHECK(put_text(store, put_keys[i], is_last ? "replaced" : "12345678",
                       !is_last) == 0);
        ends[i] = fault_record_position();
    }
    recording = fault_record_end();
    store->close(store);
    disk = crash_disk_new(recording);
    for (size_t cut = 0; cut <= recording->entries_count; cut++) {
        unsigned answered = 0;

        crash_disk_advance(disk, cut);
        while (answered < PUTS && ends[answered] <= cut)
            answered++;
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            NEED(mkdir(state, 0700) == 0);
            crash_disk_power_cut(disk, seed, state, NULL);
            check_after_cut(state, answered);
            test_remove_tree(AT_FDCWD, state);
        }
    }
    crash_disk_free(disk);
    recording_free(recording);
}
