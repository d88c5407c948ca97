/* SPDX-License-Identifier: BSD-2-Clause */

/* The real thing first, under other names. */
#define FILE_IOV_MAX     REAL_FILE_IOV_MAX
#define file_open        real_file_open
#define file_close       real_file_close
#define file_make_dir    real_file_make_dir
#define file_read        real_file_read
#define file_read_nowait real_file_read_nowait
#define file_write       real_file_write
#define file_writev      real_file_writev
#define file_sync_data   real_file_sync_data
#define file_sync        real_file_sync
#define file_truncate    real_file_truncate
#define file_size        real_file_size
#define file_rename      real_file_rename
#define file_link        real_file_link
#define file_unlink      real_file_unlink
#define file_lock        real_file_lock
#define file_space       real_file_space
#define file_list        real_file_list
#include "base/file.c" /* NOLINT(bugprone-suspicious-include) */
#undef FILE_IOV_MAX
#undef file_open
#undef file_close
#undef file_make_dir
#undef file_read
#undef file_read_nowait
#undef file_write
#undef file_writev
#undef file_sync_data
#undef file_sync
#undef file_truncate
#undef file_size
#undef file_rename
#undef file_link
#undef file_unlink
#undef file_lock
#undef file_space
#undef file_list
#undef BASE_FILE_H

#include "support/fault_file.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/mutex.h"

enum { SECTOR = 512 };

/* What is switched on.  0: every call goes straight through. */
enum active {
    ACTIVE_FAIL = 1 << 0,
    ACTIVE_GATE = 1 << 1,
    ACTIVE_SWALLOW = 1 << 2,
    ACTIVE_SKIP = 1 << 3,
    ACTIVE_RECORD = 1 << 4,
};
/* Relaxed: must not order the calls of threads that race in a test. */
static atomic_uint active;

/* Under the lock, as a device's own threads may call at any time. */
static struct {
    pthread_mutex_t lock;
    struct fault_calls calls;
    int error;
    bool forever;
    size_t torn_bytes;
    atomic_ulong count;
    struct fault_calls swallowed;
} fail = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct {
    struct fault_calls calls;
    unsigned long count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open, is_reached;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .changed = PTHREAD_COND_INITIALIZER};

/* Held while an effect is made and recorded, so that the order is true. */
static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;
static struct recording *recorded;
static size_t entries_room;
static unsigned nodes_room;

static bool is_active(unsigned what)
{
    return (atomic_load_explicit(&active, memory_order_relaxed) & what) != 0;
}

static void set_active(unsigned what, bool on)
{
    if (on)
        atomic_fetch_or_explicit(&active, what, memory_order_relaxed);
    else
        atomic_fetch_and_explicit(&active, ~what, memory_order_relaxed);
}

/* A test that has no memory cannot say anything: it ends. */
static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

/* ---- which calls are meant ---- */

/* Write where dirfd/path, or if path is NULL the file fd itself, is. */
static void find_path(int fd, const char *path, char *to, size_t size)
{
    char link[64];
    ssize_t len = 0;

    to[0] = '\0';
    if (fd != AT_FDCWD && !(path && path[0] == '/')) {
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        len = readlink(link, to, size - 1);
        if (len < 0)
            len = 0;
        to[len] = '\0';
    }
    if (path)
        (void)snprintf(to + len, size - (size_t)len, "/%s", path);
}

static bool is_meant(const struct fault_calls *calls, unsigned kind, int fd,
                     const char *path)
{
    char whole[2 * PATH_MAX];

    if (!(calls->kinds & kind))
        return false;
    if (!calls->path_part)
        return true;
    find_path(fd, path, whole, sizeof(whole));
    return strstr(whole, calls->path_part) != NULL;
}

/*
 * Returns the error that this call shall fail with, or 0; *ret_torn, unless
 * NULL, is how much of a write is to be on the file then.
 */
static int failure(unsigned kind, int fd, const char *path, size_t *ret_torn)
{
    unsigned long count;
    int error = 0;

    if (!is_active(ACTIVE_FAIL))
        return 0;
    (void)pthread_mutex_lock(&fail.lock);
    if (is_meant(&fail.calls, kind, fd, path)) {
        count = 1 + atomic_fetch_add(&fail.count, 1);
        if (count == fail.calls.nth || (fail.forever && count > fail.calls.nth))
            error = fail.error;
    }
    if (ret_torn)
        *ret_torn = fail.torn_bytes;
    (void)pthread_mutex_unlock(&fail.lock);
    return error;
}

/* Returns whether this call is the one that the gate stops. */
static bool is_for_gate(unsigned kind, int fd, const char *path)
{
    bool is_one;

    if (!is_active(ACTIVE_GATE))
        return false;
    (void)pthread_mutex_lock(&gate.lock);
    is_one =
        is_meant(&gate.calls, kind, fd, path) && ++gate.count == gate.calls.nth;
    (void)pthread_mutex_unlock(&gate.lock);
    return is_one;
}

/* Returns whether this sync is to do nothing, and to say that it did. */
static bool is_swallowed(unsigned kind, int fd)
{
    bool is_one;

    if (!is_active(ACTIVE_SWALLOW))
        return false;
    (void)pthread_mutex_lock(&fail.lock);
    is_one = is_meant(&fail.swallowed, kind, fd, NULL);
    (void)pthread_mutex_unlock(&fail.lock);
    return is_one;
}

static void stand_in_gate(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.is_reached = true;
    (void)pthread_cond_broadcast(&gate.changed);
    while (!gate.is_open)
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    (void)pthread_mutex_unlock(&gate.lock);
}

/* For all but writes: wait in the gate, and tell whether to fail. */
static int before(unsigned kind, int fd, const char *path)
{
    if (is_for_gate(kind, fd, path))
        stand_in_gate();
    return failure(kind, fd, path, NULL);
}

void fault_reset(void)
{
    fault_gate_open();
    set_active(ACTIVE_FAIL | ACTIVE_GATE | ACTIVE_SWALLOW | ACTIVE_SKIP, false);
}

void fault_fail(const struct fault_calls *calls, int error, bool forever,
                size_t torn_bytes)
{
    (void)pthread_mutex_lock(&fail.lock);
    fail.calls = *calls;
    fail.error = error;
    fail.forever = forever;
    fail.torn_bytes = torn_bytes;
    atomic_store(&fail.count, 0);
    (void)pthread_mutex_unlock(&fail.lock);
    set_active(ACTIVE_FAIL, true);
}

unsigned long fault_count(void)
{
    return atomic_load(&fail.count);
}

void fault_gate_set(const struct fault_calls *calls)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.calls = *calls;
    gate.is_open = false;
    gate.is_reached = false;
    gate.count = 0;
    (void)pthread_mutex_unlock(&gate.lock);
    set_active(ACTIVE_GATE, true);
}

void fault_gate_wait(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    while (!gate.is_reached)
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    (void)pthread_mutex_unlock(&gate.lock);
}

void fault_gate_open(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.is_open = true;
    (void)pthread_cond_broadcast(&gate.changed);
    (void)pthread_mutex_unlock(&gate.lock);
    set_active(ACTIVE_GATE, false);
}

void fault_swallow(const struct fault_calls *calls)
{
    (void)pthread_mutex_lock(&fail.lock);
    fail.swallowed = *calls;
    (void)pthread_mutex_unlock(&fail.lock);
    set_active(ACTIVE_SWALLOW, true);
}

void fault_skip_syncs(bool skip)
{
    set_active(ACTIVE_SKIP, skip);
}

/* ---- the recorder ---- */

static struct record_entry *add_entry(enum record_kind kind)
{
    struct record_entry *entry;

    if (recorded->entries_count == entries_room) {
        entries_room = entries_room ? 2 * entries_room : 1024;
        recorded->entries = must(realloc(
            recorded->entries, entries_room * sizeof(*recorded->entries)));
    }
    entry = &recorded->entries[recorded->entries_count++];
    *entry = (struct record_entry){.kind = kind};
    return entry;
}

static unsigned add_node(const struct stat *status, const char *path)
{
    if (recorded->nodes_count == nodes_room) {
        nodes_room = nodes_room ? 2 * nodes_room : 64;
        recorded->nodes = must(
            realloc(recorded->nodes, nodes_room * sizeof(*recorded->nodes)));
    }
    recorded->nodes[recorded->nodes_count] = (struct record_node){
        .device = status->st_dev,
        .inode = status->st_ino,
        .is_dir = S_ISDIR(status->st_mode),
        .path = path ? must(strdup(path)) : NULL,
    };
    return recorded->nodes_count++;
}

/*
 * Find the node with that inode; an inode number may come again, so the
 * newest.  There are few: a search needs no help.
 */
static bool find_node(const struct stat *status, unsigned *ret_node)
{
    for (unsigned i = recorded->nodes_count; i-- > 0;) {
        if (recorded->nodes[i].inode == status->st_ino &&
            recorded->nodes[i].device == status->st_dev) {
            *ret_node = i;
            return true;
        }
    }
    return false;
}

static bool find_node_of_fd(int fd, unsigned *ret_node)
{
    struct stat status;

    return fstat(fd, &status) == 0 && find_node(&status, ret_node);
}

static bool find_node_of_path(int dirfd, const char *path, unsigned *ret_node)
{
    struct stat status;

    return fstatat(dirfd, path, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           find_node(&status, ret_node);
}

/* Find the directory that the last part of path is in, and that part. */
static bool find_parent(int dirfd, const char *path, unsigned *ret_dir,
                        const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    char parent[PATH_MAX];

    *ret_name = slash ? slash + 1 : path;
    (void)snprintf(parent, sizeof(parent), "%.*s",
                   slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    return find_node_of_path(dirfd, parent, ret_dir);
}

static void add_tree(int dirfd, const char *name, const char *path)
{
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct dirent *entry;
    struct stat status;
    DIR *dir;

    if (fd < 0 || fstat(fd, &status) < 0)
        abort();
    (void)add_node(&status, path);
    if (!S_ISDIR(status.st_mode)) {
        (void)close(fd);
        return;
    }
    dir = must(fdopendir(fd));
    while ((entry = readdir(dir)) != NULL) {
        char below[PATH_MAX];

        if (is_dot_name(entry->d_name))
            continue;
        if (snprintf(below, sizeof(below), "%s%s%s", path, path[0] ? "/" : "",
                     entry->d_name) >= (int)sizeof(below))
            abort();
        add_tree(fd, entry->d_name, below);
    }
    (void)closedir(dir);
}

void fault_record_begin(const char *root)
{
    recorded = must(calloc(1, sizeof(*recorded)));
    entries_room = 0;
    nodes_room = 0;
    add_tree(AT_FDCWD, root, "");
    set_active(ACTIVE_RECORD, true);
}

bool fault_record_tell(size_t *ret_position)
{
    bool is_recording;

    (void)pthread_mutex_lock(&record_lock);
    is_recording = recorded != NULL;
    *ret_position = is_recording ? recorded->entries_count : 0;
    (void)pthread_mutex_unlock(&record_lock);
    return is_recording;
}

size_t fault_record_position(void)
{
    size_t position;

    (void)fault_record_tell(&position);
    return position;
}

struct recording *fault_record_end(void)
{
    struct recording *recording;

    set_active(ACTIVE_RECORD, false);
    (void)pthread_mutex_lock(&record_lock);
    recording = recorded;
    recorded = NULL;
    (void)pthread_mutex_unlock(&record_lock);
    return recording;
}

void recording_free(struct recording *recording)
{
    if (!recording)
        return;
    for (size_t i = 0; i < recording->entries_count; i++) {
        free(recording->entries[i].name);
        free(recording->entries[i].to_name);
        free(recording->entries[i].bytes);
    }
    for (unsigned i = 0; i < recording->nodes_count; i++)
        free(recording->nodes[i].path);
    free(recording->entries);
    free(recording->nodes);
    free(recording);
}

/*
 * Begin an effect that may have to be recorded.  Returns whether it has; the
 * lock is held then, until end_effect.  A call that began before the
 * recording ended may find that there is none any more.
 */
static bool begin_effect(void)
{
    if (!is_active(ACTIVE_RECORD))
        return false;
    (void)pthread_mutex_lock(&record_lock);
    if (recorded)
        return true;
    (void)pthread_mutex_unlock(&record_lock);
    return false;
}

static void end_effect(bool is_recorded)
{
    if (is_recorded)
        (void)pthread_mutex_unlock(&record_lock);
}

/* ---- base/file.h ---- */

int file_open(int dirfd, const char *path, int flags, mode_t mode)
{
    unsigned kind = flags & O_CREAT ? FAULT_CREATE : FAULT_OPEN;
    bool is_recorded, was_there;
    struct record_entry *entry;
    struct stat status;
    unsigned dir, node;
    const char *name;
    int fd, error;

    if (!is_active(~0U))
        return real_file_open(dirfd, path, flags, mode);
    error = before(kind, dirfd, path);
    if (error)
        return error;
    is_recorded = begin_effect();
    was_there = fstatat(dirfd, path, &status, 0) == 0;
    fd = real_file_open(dirfd, path, flags, mode);
    if (is_recorded && fd >= 0 && fstat(fd, &status) == 0) {
        if (!was_there && find_parent(dirfd, path, &dir, &name)) {
            node = add_node(&status, NULL);
            entry = add_entry(RECORD_CREATE);
            entry->node = node;
            entry->dir = dir;
            entry->name = must(strdup(name));
        } else if (was_there && (flags & O_TRUNC) &&
                   find_node(&status, &node)) {
            entry = add_entry(RECORD_TRUNCATE);
            entry->node = node;
        }
    }
    end_effect(is_recorded);
    return fd;
}

int file_close(int fd)
{
    return real_file_close(fd);
}

int file_make_dir(int dirfd, const char *path, mode_t mode)
{
    int error = before(FAULT_MAKE_DIR, dirfd, path);
    struct record_entry *entry;
    struct stat status;
    const char *name;
    bool is_recorded;
    unsigned dir;

    if (error)
        return error;
    is_recorded = begin_effect();
    error = real_file_make_dir(dirfd, path, mode);
    if (is_recorded && error == 0 && find_parent(dirfd, path, &dir, &name) &&
        fstatat(dirfd, path, &status, AT_SYMLINK_NOFOLLOW) == 0) {
        entry = add_entry(RECORD_MAKE_DIR);
        entry->node = add_node(&status, NULL);
        entry->dir = dir;
        entry->name = must(strdup(name));
    }
    end_effect(is_recorded);
    return error;
}

ssize_t file_read(int fd, void *data, size_t len, uint64_t offset)
{
    int error = before(FAULT_READ, fd, NULL);

    return error ? error : real_file_read(fd, data, len, offset);
}

ssize_t file_read_nowait(int fd, void *data, size_t len, uint64_t offset)
{
    int error = before(FAULT_READ, fd, NULL);

    return error ? error : real_file_read_nowait(fd, data, len, offset);
}

/* Write some bytes and record them. */
static int put(int fd, const unsigned char *bytes, size_t len, uint64_t offset)
{
    struct record_entry *entry;
    bool is_recorded;
    unsigned node;
    int error;

    if (len == 0)
        return 0;
    is_recorded = begin_effect();
    error = real_file_write(fd, bytes, len, offset);
    if (is_recorded && error == 0 && find_node_of_fd(fd, &node)) {
        entry = add_entry(RECORD_WRITE);
        entry->node = node;
        entry->offset = offset;
        entry->size = len;
        entry->bytes = must(malloc(len));
        memcpy(entry->bytes, bytes, len);
    }
    end_effect(is_recorded);
    return error;
}

/* A write that may stop in the gate, fail or be recorded. */
static int write_watched(int fd, const unsigned char *bytes, size_t len,
                         uint64_t offset)
{
    size_t first = 0, torn;
    int error;

    if (is_for_gate(FAULT_WRITE, fd, NULL)) {
        first = len / 2 / SECTOR * SECTOR;
        error = put(fd, bytes, first, offset);
        if (error)
            return error;
        stand_in_gate();
    }
    error = failure(FAULT_WRITE, fd, NULL, &torn);
    if (error) {
        torn = torn / SECTOR * SECTOR;
        (void)put(fd, bytes, torn < len ? torn : len, offset);
        return error;
    }
    return put(fd, bytes + first, len - first, offset + first);
}

int file_write(int fd, const void *data, size_t len, uint64_t offset)
{
    if (!is_active(~0U))
        return real_file_write(fd, data, len, offset);
    return write_watched(fd, data, len, offset);
}

int file_writev(int fd, struct iovec *pieces, int count, uint64_t offset)
{
    unsigned char *bytes;
    size_t len = 0;
    int error;

    if (!is_active(~0U))
        return real_file_writev(fd, pieces, count, offset);
    assert(count >= 0 && count <= FILE_IOV_MAX);
    for (int i = 0; i < count; i++)
        len += pieces[i].iov_len;
    bytes = must(malloc(len + 1));
    len = 0;
    for (int i = 0; i < count; i++) {
        memcpy(bytes + len, pieces[i].iov_base, pieces[i].iov_len);
        len += pieces[i].iov_len;
    }
    error = write_watched(fd, bytes, len, offset);
    free(bytes);
    return error;
}

/* A sync of either kind, which may be swallowed, fail or be recorded. */
static int sync_watched(unsigned kind, int fd, int (*real)(int fd))
{
    size_t begin = fault_record_position();
    struct record_entry *entry;
    bool is_recorded;
    unsigned node;
    int error = before(kind, fd, NULL);

    if (is_swallowed(kind, fd))
        return 0;
    if (error == 0 && !is_active(ACTIVE_SKIP))
        error = real(fd);
    is_recorded = begin_effect();
    if (is_recorded && find_node_of_fd(fd, &node)) {
        entry = add_entry(error ? RECORD_SYNC_FAILED : RECORD_SYNC);
        entry->node = node;
        entry->offset = begin;
    }
    end_effect(is_recorded);
    return error;
}

int file_sync_data(int fd)
{
    if (!is_active(~0U))
        return real_file_sync_data(fd);
    return sync_watched(FAULT_SYNC_DATA, fd, real_file_sync_data);
}

int file_sync(int fd)
{
    if (!is_active(~0U))
        return real_file_sync(fd);
    return sync_watched(FAULT_SYNC, fd, real_file_sync);
}

int file_truncate(int fd, uint64_t size)
{
    int error = before(FAULT_TRUNCATE, fd, NULL);
    struct record_entry *entry;
    bool is_recorded;
    unsigned node;

    if (error)
        return error;
    is_recorded = begin_effect();
    error = real_file_truncate(fd, size);
    if (is_recorded && error == 0 && find_node_of_fd(fd, &node)) {
        entry = add_entry(RECORD_TRUNCATE);
        entry->node = node;
        entry->offset = size;
    }
    end_effect(is_recorded);
    return error;
}

int file_size(int fd, uint64_t *ret_size)
{
    return real_file_size(fd, ret_size);
}

int file_rename(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
    int error = before(FAULT_RENAME, to_dirfd, to);
    unsigned node = 0, dir = 0, to_dir = 0;
    const char *name = NULL, *to_name = NULL;
    struct record_entry *entry;
    bool is_recorded, is_inside;

    if (error)
        return error;
    is_recorded = begin_effect();
    is_inside = is_recorded && find_node_of_path(from_dirfd, from, &node) &&
                find_parent(from_dirfd, from, &dir, &name) &&
                find_parent(to_dirfd, to, &to_dir, &to_name);
    error = real_file_rename(from_dirfd, from, to_dirfd, to);
    if (is_inside && error == 0) {
        entry = add_entry(RECORD_RENAME);
        entry->node = node;
        entry->dir = dir;
        entry->name = must(strdup(name));
        entry->to_dir = to_dir;
        entry->to_name = must(strdup(to_name));
    }
    end_effect(is_recorded);
    return error;
}

int file_link(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
    int error = before(FAULT_LINK, to_dirfd, to);
    struct record_entry *entry;
    unsigned node, dir;
    const char *name;
    bool is_recorded;

    if (error)
        return error;
    is_recorded = begin_effect();
    error = real_file_link(from_dirfd, from, to_dirfd, to);
    if (is_recorded && error == 0 && find_node_of_path(to_dirfd, to, &node) &&
        find_parent(to_dirfd, to, &dir, &name)) {
        entry = add_entry(RECORD_LINK);
        entry->node = node;
        entry->dir = dir;
        entry->name = must(strdup(name));
    }
    end_effect(is_recorded);
    return error;
}

int file_unlink(int dirfd, const char *path)
{
    int error = before(FAULT_UNLINK, dirfd, path);
    struct record_entry *entry;
    bool is_recorded;
    const char *name;
    unsigned dir;

    if (error)
        return error;
    is_recorded = begin_effect();
    error = real_file_unlink(dirfd, path);
    if (is_recorded && error == 0 && find_parent(dirfd, path, &dir, &name)) {
        entry = add_entry(RECORD_UNLINK);
        entry->dir = dir;
        entry->name = must(strdup(name));
    }
    end_effect(is_recorded);
    return error;
}

int file_lock(int fd)
{
    return real_file_lock(fd);
}

int file_space(int fd, struct file_space *ret_space)
{
    struct real_file_space space;
    int error = real_file_space(fd, &space);

    if (error == 0) {
        *ret_space = (struct file_space){
            .total = space.total,
            .available = space.available,
            .inodes_total = space.inodes_total,
            .inodes_available = space.inodes_available,
        };
    }
    return error;
}

int file_list(int dirfd, const char *path,
              int (*each)(void *context, const char *name), void *context)
{
    return real_file_list(dirfd, path, each, context);
}
