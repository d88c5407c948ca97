/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A put writes a file of a unique name in TEMPORARY_DIR, which no key can
 * name, syncs it, and then gives it its key as a name: by link(2), which
 * fails if the name is taken, or by rename(2), which replaces.  Death at any
 * point leaves at most a temporary file, and power loss no object whose data
 * was not synced before its name.
 *
 * Order of durability: data, then every directory from the root down to the
 * name.  Also those that were there already: whoever created them may not
 * have synced them yet.  For the same reason a conditional put that finds the
 * key taken syncs the directories before it says so.
 *
 * delete removes directories that became empty, as a bucket has none.  A put
 * whose directories vanish before it names its object makes them again.
 */
#include "s3/dir_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/file.h"
#include "base/log.h"
#include "object_store.h"

#define TEMPORARY_DIR "~tmp" /* no key has a tilde */

enum {
    TEMPORARY_MAX = 64,             /* bytes of a temporary path */
    TEMPORARY_AGE_S = 24 * 60 * 60, /* no put takes that long */
    NAMING_TRIES = 100, /* against deletes that remove the directories */
};

struct dir_store {
    struct object_store store;  /* first: what callers hold is this */
    char *path;                 /* for messages */
    int root;                   /* descriptor of the directory */
    uint64_t instance[2];       /* random: temporary names are unique */
    atomic_uint_fast64_t next;  /* counts temporary names, nothing else */
    atomic_bool is_interrupted; /* of itself: nothing else depends on it */
};

static struct dir_store *of_store(struct object_store *store)
{
    return (struct dir_store *)store;
}

/*
 * Turn what the file system said into what an object_store says; logs all
 * but "no such object".
 */
static int store_error(const struct dir_store *dir, const char *what,
                       const char *key, int error)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (log_limit_allows(&limit, &left_out)) {
        log_error("%s/%s: %s: %s", dir->path, key, what, log_errno(error));
        if (left_out > 0)
            log_error("%s: %" PRIu64 " more errors were not shown", dir->path,
                      left_out);
    }
    switch (error) {
    case -EACCES:
    case -EPERM:
    case -EROFS:
        return -EACCES;
    case -ETIMEDOUT:
        return -ETIMEDOUT;
    default:
        return -EIO;
    }
}

/*
 * Nothing is found in a directory that was itself removed, which would pass
 * for an answer.  Returns 0 if the store is still there.
 */
static int check_root(const struct dir_store *dir)
{
    struct stat st;

    if (fstat(dir->root, &st) != 0)
        return store_error(dir, "stat", "", -errno);
    if (st.st_nlink == 0)
        return store_error(dir, "the directory was removed", "", -ENOENT);
    return 0;
}

/* The file system found no such name: returns what the store says then. */
static int absent(const struct dir_store *dir)
{
    int error = check_root(dir);

    return error ? error : -ENOENT;
}

static bool means_absent(int error)
{
    return error == -ENOENT || error == -ENOTDIR || error == -ENAMETOOLONG;
}

static bool is_interrupted(const struct dir_store *dir)
{
    return atomic_load_explicit(&dir->is_interrupted, memory_order_relaxed);
}

/* Open the object for reading and tell its status. */
static int open_object(const struct dir_store *dir, const char *key,
                       int *ret_fd, struct stat *ret_st)
{
    int fd;

    if (!object_key_is_valid(key))
        return -EINVAL;
    if (is_interrupted(dir))
        return -ECANCELED;
    /* O_NONBLOCK: opening a FIFO that somebody put there does not hang. */
    fd = file_open(dir->root, key, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return means_absent(fd) ? absent(dir)
                                : store_error(dir, "open", key, fd);
    if (fstat(fd, ret_st) != 0) {
        int error = store_error(dir, "stat", key, -errno);

        (void)close(fd);
        return error;
    }
    if (!S_ISREG(ret_st->st_mode)) {
        (void)close(fd);
        return -ENOENT; /* a directory: a part of keys, itself none */
    }
    *ret_fd = fd;
    return 0;
}

static int dir_store_get(struct object_store *store, const char *key,
                         uint64_t offset, void *data, size_t len,
                         enum object_urgency urgency)
{
    struct dir_store *dir = of_store(store);
    AUTO_CLOSE int fd = -1;
    struct stat st;
    ssize_t got;
    int error;

    (void)urgency; /* a file system answers once and for all */
    error = open_object(dir, key, &fd, &st);
    if (error)
        return error;
    if (offset > (uint64_t)st.st_size || len > (uint64_t)st.st_size - offset)
        return store_error(dir, "range outside the object", key, -EIO);
    got = file_read(fd, data, len, offset);
    if (got < 0)
        return store_error(dir, "read", key, (int)got);
    if ((size_t)got != len)
        return store_error(dir, "cut short", key, -EIO);
    return 0;
}

static struct object_info info_of(const struct stat *st)
{
    return (struct object_info){
        .size = (uint64_t)st->st_size,
        .modified_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000 +
                       (uint64_t)st->st_mtim.tv_nsec,
    };
}

static int dir_store_head(struct object_store *store, const char *key,
                          struct object_info *ret_info)
{
    AUTO_CLOSE int fd = -1;
    struct stat st;
    int error;

    error = open_object(of_store(store), key, &fd, &st);
    if (error)
        return error;
    *ret_info = info_of(&st);
    return 0;
}

/* ---- put ---------------------------------------------------------------- */

/* Sync the directory at path, "" for the root. */
static int sync_dir(const struct dir_store *dir, const char *path)
{
    int fd, error;

    if (path[0] == '\0')
        return file_sync(dir->root);
    fd = file_open(dir->root, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    error = file_sync(fd);
    (void)close(fd); /* only read */
    return error;
}

/* Call step for the root and each directory on the way to key, downwards. */
static int for_each_parent(const struct dir_store *dir, const char *key,
                           int (*step)(const struct dir_store *dir,
                                       const char *path))
{
    char path[OBJECT_KEY_MAX + 1];
    int error = step(dir, "");

    for (size_t i = 0; !error && key[i] != '\0'; i++) {
        path[i] = key[i];
        if (key[i] == '/') {
            path[i] = '\0';
            error = step(dir, path);
            path[i] = '/';
        }
    }
    return error;
}

static int make_dir(const struct dir_store *dir, const char *path)
{
    int error;

    if (path[0] == '\0')
        return 0;
    error = file_make_dir(dir->root, path, 0700);
    return error == -EEXIST ? 0 : error;
}

static void choose_temporary(struct dir_store *dir, char *path)
{
    (void)snprintf(path, TEMPORARY_MAX,
                   TEMPORARY_DIR "/%016" PRIx64 "%016" PRIx64 "-%" PRIx64,
                   dir->instance[0], dir->instance[1],
                   (uint64_t)atomic_fetch_add_explicit(&dir->next, 1,
                                                       memory_order_relaxed));
}

/* Write all data into a new file at path, and sync it. */
static int write_temporary(const struct dir_store *dir, const char *path,
                           const void *data, size_t len)
{
    int fd, error, close_error;

    fd = file_open(dir->root, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return fd;
    error = file_write(fd, data, len, 0);
    if (!error)
        error = file_sync(fd);
    close_error = file_close(fd); /* NFS may tell only now */
    return error ? error : close_error;
}

/*
 * Give the file at temporary the name key if nothing has it.  An NFS client
 * that repeats a call whose answer was lost is told EEXIST although the link
 * was made; the number of names of our file, which nobody else can link, says
 * what is true.
 */
static int link_if_absent(const struct dir_store *dir, const char *temporary,
                          const char *key)
{
    struct statx file;
    int error = file_link(dir->root, temporary, dir->root, key);

    if (error != -EEXIST)
        return error;
    if (statx(dir->root, temporary, AT_STATX_FORCE_SYNC, STATX_NLINK, &file) !=
        0)
        return -errno;
    return file.stx_nlink == 2 ? 0 : -EEXIST;
}

/* Name the temporary file, making its directories, as often as they vanish. */
static int name_object(const struct dir_store *dir, const char *temporary,
                       const char *key, bool if_absent)
{
    int error = -ENOENT;

    for (int i = 0; error == -ENOENT && i < NAMING_TRIES; i++) {
        error = for_each_parent(dir, key, make_dir);
        if (error)
            continue;
        error = if_absent ? link_if_absent(dir, temporary, key)
                          : file_rename(dir->root, temporary, dir->root, key);
    }
    return error;
}

/*
 * Sync all directories of the key.  One of them is missing if the object was
 * deleted meanwhile; then there is nothing that could still be lost.
 */
static int sync_parents(const struct dir_store *dir, const char *key)
{
    int error = for_each_parent(dir, key, sync_dir);

    return error == -ENOENT ? 0 : error;
}

static int dir_store_put(struct object_store *store, const char *key,
                         const void *data, size_t len, bool if_absent)
{
    struct dir_store *dir = of_store(store);
    char temporary[TEMPORARY_MAX];
    int error, sync_error;

    if (!object_key_is_valid(key))
        return -EINVAL;
    if (is_interrupted(dir))
        return -ECANCELED;
    choose_temporary(dir, temporary);
    error = write_temporary(dir, temporary, data, len);
    if (!error)
        error = name_object(dir, temporary, key, if_absent);
    /* After a rename it is gone; what cannot be removed, an open removes. */
    (void)file_unlink(dir->root, temporary);
    if (error && error != -EEXIST)
        return store_error(dir, "put", key, error);
    sync_error = sync_parents(dir, key);
    if (sync_error)
        return store_error(dir, "sync of directories", key, sync_error);
    return error;
}

/* ---- delete ------------------------------------------------------------- */

/*
 * Remove the directories on the way to key that are empty, deepest first.
 * Any failure is fine: mostly they are not empty.
 */
static void remove_empty_parents(const struct dir_store *dir, const char *key)
{
    char path[OBJECT_KEY_MAX + 1];
    char *slash;

    (void)snprintf(path, sizeof(path), "%s", key);
    while ((slash = strrchr(path, '/')) != NULL) {
        *slash = '\0';
        if (unlinkat(dir->root, path, AT_REMOVEDIR) != 0)
            return;
    }
}

static int delete_object(const struct dir_store *dir, const char *key)
{
    int error;

    if (!object_key_is_valid(key))
        return -EINVAL;
    if (is_interrupted(dir))
        return -ECANCELED;
    error = file_unlink(dir->root, key);
    if (means_absent(error)) {
        error = absent(dir);
        if (error != -ENOENT)
            return error;
    } else if (error && error != -EISDIR) {
        return store_error(dir, "delete", key, error);
    }
    remove_empty_parents(dir, key);
    return 0;
}

static int dir_store_delete(struct object_store *store,
                            const char *const keys[], size_t count)
{
    int error = 0;

    for (size_t i = 0; i < count && !error; i++)
        error = delete_object(of_store(store), keys[i]);
    return error;
}

/* ---- list --------------------------------------------------------------- */

struct listing {
    struct dir_store *dir;
    const char *prefix;
    const char *after;
    object_store_each *each;
    void *context;
    char path[OBJECT_KEY_MAX + 2]; /* now: "", or ending with a slash */
    size_t path_len;
};

/* A name in a directory: of an object, or of a directory with a slash. */
struct entry {
    char *name;
    struct object_info info;
    bool is_dir;
};

struct entries {
    const struct listing *listing;
    struct entry *items;
    size_t count;
    size_t room;
};

static void entries_free(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        free(entries->items[i].name);
    free(entries->items);
}

/* Whether a key that is this one, or starts with it, may have the prefix. */
static bool may_have_prefix(const char *key, bool is_dir, const char *prefix)
{
    size_t key_len = strlen(key), prefix_len = strlen(prefix);

    if (is_dir && key_len < prefix_len)
        return strncmp(key, prefix, key_len) == 0;
    return strncmp(key, prefix, prefix_len) == 0;
}

/* Whether the key, or one that starts with it, may be greater than after. */
static bool may_be_after(const char *key, bool is_dir, const char *after)
{
    return strcmp(key, after) > 0 ||
           (is_dir && strncmp(key, after, strlen(key)) == 0);
}

static int append_entry(struct entries *entries, const char *name, bool is_dir,
                        const struct stat *st)
{
    struct entry *entry;
    size_t len = strlen(name);

    if (entries->count == entries->room) {
        size_t room = entries->room ? entries->room * 2 : 64;
        void *items = reallocarray(entries->items, room, sizeof(*entry));

        if (!items)
            return -ENOMEM;
        entries->items = items;
        entries->room = room;
    }
    entry = &entries->items[entries->count];
    entry->name = malloc(len + 2);
    if (!entry->name)
        return -ENOMEM;
    memcpy(entry->name, name, len);
    memcpy(entry->name + len, is_dir ? "/" : "", is_dir ? 2 : 1);
    entry->is_dir = is_dir;
    entry->info = info_of(st);
    entries->count++;
    return 0;
}

/* Note the entry of a directory, if it is, or leads to, what is asked for. */
static int note_entry(void *context, const char *name)
{
    struct entries *entries = context;
    const struct listing *listing = entries->listing;
    char key[OBJECT_KEY_MAX + 2]; /* with the slash of a directory */
    struct stat st;
    bool is_dir;
    int len;

    len = snprintf(key, sizeof(key), "%s%s", listing->path, name);
    if (len < 0 || len > OBJECT_KEY_MAX || !object_key_is_valid(key))
        return 0; /* not ours: lost+found, TEMPORARY_DIR */
    if (!may_have_prefix(key, true, listing->prefix))
        return 0;
    if (fstatat(listing->dir->root, key, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -errno;
    is_dir = S_ISDIR(st.st_mode);
    if (!is_dir && !S_ISREG(st.st_mode))
        return 0;
    if (is_dir)
        memcpy(key + len, "/", 2);
    if (!may_have_prefix(key, is_dir, listing->prefix) ||
        !may_be_after(key, is_dir, listing->after))
        return 0;
    return append_entry(entries, name, is_dir, &st);
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name,
                  ((const struct entry *)b)->name);
}

static int list_dir(struct listing *listing);

/* Hand over the object, or all that are in the directory. */
static int list_entry(struct listing *listing, const struct entry *entry)
{
    size_t path_len = listing->path_len, len = strlen(entry->name);
    int result;

    /* Fits: note_entry made sure. */
    memcpy(listing->path + path_len, entry->name, len + 1);
    listing->path_len = path_len + len;
    result = entry->is_dir
                 ? list_dir(listing)
                 : listing->each(listing->context, listing->path, &entry->info);
    listing->path_len = path_len;
    listing->path[path_len] = '\0';
    return result;
}

/*
 * List the directory at listing->path and those below.  Directories sort with
 * their slash, which puts all keys in bytewise order.  The depth is bounded
 * by the length of a key.
 */
static int list_dir(struct listing *listing)
{
    struct entries entries = {.listing = listing};
    bool is_root = listing->path_len == 0;
    int result;

    if (is_interrupted(listing->dir))
        return -ECANCELED;
    result = file_list(listing->dir->root, is_root ? "." : listing->path,
                       note_entry, &entries);
    if (result) {
        /* A directory that was removed since its parent was read is empty. */
        if (means_absent(result) && !is_root)
            result = 0;
        else
            result = store_error(listing->dir, "list", listing->path, result);
        goto out;
    }
    if (entries.count > 0)
        qsort(entries.items, entries.count, sizeof(entries.items[0]),
              compare_entries);
    for (size_t i = 0; !result && i < entries.count; i++)
        result = list_entry(listing, &entries.items[i]);
out:
    entries_free(&entries);
    return result;
}

static int dir_store_list(struct object_store *store, const char *prefix,
                          const char *after, object_store_each *each,
                          void *context)
{
    struct listing listing = {
        .dir = of_store(store),
        .prefix = prefix,
        .after = after,
        .each = each,
        .context = context,
    };
    int error = check_root(listing.dir);

    return error ? error : list_dir(&listing);
}

/* ---- open and close ----------------------------------------------------- */

static void dir_store_interrupt(struct object_store *store)
{
    atomic_store_explicit(&of_store(store)->is_interrupted, true,
                          memory_order_relaxed);
}

/* A directory has no endpoints. */
static char *dir_store_describe(struct object_store *store)
{
    (void)store;
    return NULL;
}

static void dir_store_close(struct object_store *store)
{
    struct dir_store *dir = of_store(store);

    if (dir->root >= 0)
        (void)close(dir->root);
    free(dir->path);
    free(dir);
}

/*
 * Write and link a temporary file, as a put does.  Tells the file system's
 * own time, against which the age of what is left over is judged.
 */
static int try_out(struct dir_store *dir, time_t *ret_now)
{
    char first[TEMPORARY_MAX], second[TEMPORARY_MAX];
    struct stat st;
    int error;

    choose_temporary(dir, first);
    choose_temporary(dir, second);
    error = write_temporary(dir, first, "", 0);
    if (!error && fstatat(dir->root, first, &st, 0) != 0)
        error = -errno;
    if (!error)
        error = file_link(dir->root, first, dir->root, second);
    (void)file_unlink(dir->root, first);
    (void)file_unlink(dir->root, second);
    if (!error)
        *ret_now = st.st_mtim.tv_sec;
    return error;
}

struct leftovers {
    const struct dir_store *dir;
    time_t oldest; /* what is older is nobody's any more */
};

static int remove_leftover(void *context, const char *name)
{
    const struct leftovers *leftovers = context;
    char path[sizeof(TEMPORARY_DIR) + NAME_MAX + 1];
    struct stat st;

    (void)snprintf(path, sizeof(path), TEMPORARY_DIR "/%s", name);
    if (fstatat(leftovers->dir->root, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(st.st_mode) && st.st_mtim.tv_sec < leftovers->oldest)
        (void)file_unlink(leftovers->dir->root, path);
    return 0;
}

static int make_ready(struct dir_store *dir)
{
    struct leftovers leftovers = {.dir = dir};
    time_t now = 0;
    int error;

    if (getrandom(dir->instance, sizeof(dir->instance), 0) !=
        (ssize_t)sizeof(dir->instance))
        return -EIO;
    error = make_dir(dir, TEMPORARY_DIR);
    if (!error)
        error = try_out(dir, &now);
    if (error)
        return error;
    leftovers.oldest = now - TEMPORARY_AGE_S;
    return file_list(dir->root, TEMPORARY_DIR, remove_leftover, &leftovers);
}

int dir_store_open(const char *path, struct object_store **ret_store)
{
    struct dir_store *dir = calloc(1, sizeof(*dir));
    int error;

    if (!dir)
        return -ENOMEM;
    dir->store = (struct object_store){
        .get = dir_store_get,
        .put = dir_store_put,
        .head = dir_store_head,
        .delete = dir_store_delete,
        .list = dir_store_list,
        .interrupt = dir_store_interrupt,
        .describe = dir_store_describe,
        .close = dir_store_close,
    };
    dir->root = -1;
    dir->path = strdup(path);
    error = dir->path ? 0 : -ENOMEM;
    if (!error) {
        dir->root = file_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
        error = dir->root < 0 ? dir->root : make_ready(dir);
    }
    if (error) {
        log_error("s3dir %s: cannot keep objects here: %s", path,
                  log_errno(error));
        dir_store_close(&dir->store);
        return error;
    }
    *ret_store = &dir->store;
    return 0;
}
