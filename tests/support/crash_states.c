/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/crash_states.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, PAGE = 4096, PIECE = 1 << 16 };

/* A write or truncation of a file that is not durable. */
struct change {
    const struct record_entry *entry;
    size_t size;       /* WRITE: of the entry's bytes, the first so many */
    uint64_t sequence; /* grows over all recordings */
};

/* What a file holds. */
struct content {
    unsigned char *data;
    size_t size, room;
};

/* A file or directory; of a file what is durable, and what happened since. */
struct node {
    bool is_dir;
    struct content durable;
    struct change *changes;
    size_t changes_count, changes_room;
    /*
     * After a sync that failed: what the process sees.  The kernel takes what
     * it could not write for clean, but still shows it.
     */
    bool has_cached;
    struct content cached;
};

struct name {
    unsigned dir;
    const char *text;
    unsigned node;
};

struct names {
    struct name *names;
    size_t count, room;
};

/* A change of names that is not durable. */
struct name_change {
    const struct record_entry *entry;
    unsigned node, dir, to_dir;
    uint64_t sequence;
};

struct crash_disk {
    const struct recording *recording;
    size_t cut;
    uint64_t base;    /* sequence of the recording's first entry */
    unsigned *lookup; /* the recording's nodes -> ours */
    struct node *nodes;
    unsigned nodes_count, nodes_room;
    struct names names; /* durable */
    struct name_change *name_changes;
    size_t name_changes_count, name_changes_room;
    char **own_names; /* those that no recording keeps */
    size_t own_names_count;
};

uint64_t crash_random(uint64_t seed, uint64_t n)
{
    uint64_t z = seed * 0xd1342543de82ef95U + n * 0x9e3779b97f4a7c15U + 1;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    z ^= z >> 31;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    return z ^ (z >> 27);
}

/* A test that has no memory or disk cannot say anything: it ends. */
static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static void must_succeed(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        abort();
    }
}

/* Make room for one more in an array. */
static void *grow(void *array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return array;
    *room = *room ? 2 * *room : 16;
    return must(realloc(array, *room * size));
}

/* ---- names ---- */

static struct name *names_find(const struct names *names, unsigned dir,
                               const char *text)
{
    for (size_t i = 0; i < names->count; i++) {
        if (names->names[i].dir == dir &&
            strcmp(names->names[i].text, text) == 0)
            return &names->names[i];
    }
    return NULL;
}

static void names_set(struct names *names, unsigned dir, const char *text,
                      unsigned node)
{
    struct name *name = names_find(names, dir, text);

    if (!name) {
        names->names = grow(names->names, names->count, &names->room,
                            sizeof(*names->names));
        name = &names->names[names->count++];
    }
    *name = (struct name){dir, text, node};
}

static void names_remove(struct names *names, unsigned dir, const char *text)
{
    struct name *name = names_find(names, dir, text);

    if (name)
        *name = names->names[--names->count];
}

static void names_apply(struct names *names, const struct name_change *change)
{
    const struct record_entry *entry = change->entry;

    switch (entry->kind) {
    case RECORD_CREATE:
    case RECORD_MAKE_DIR:
    case RECORD_LINK:
        names_set(names, change->dir, entry->name, change->node);
        break;
    case RECORD_RENAME:
        names_remove(names, change->dir, entry->name);
        names_set(names, change->to_dir, entry->to_name, change->node);
        break;
    case RECORD_UNLINK:
        names_remove(names, change->dir, entry->name);
        break;
    case RECORD_WRITE:
    case RECORD_TRUNCATE:
    case RECORD_SYNC:
    case RECORD_SYNC_FAILED:
        break;
    }
}

static struct names names_copy(const struct names *names)
{
    struct names copy = {.count = names->count, .room = names->count + 1};

    copy.names = must(malloc(copy.room * sizeof(*copy.names)));
    if (names->count > 0)
        memcpy(copy.names, names->names, names->count * sizeof(*copy.names));
    return copy;
}

/* ---- content ---- */

static void set_size(struct content *content, size_t size)
{
    if (size > content->room) {
        content->room = size + size / 2;
        content->data = must(realloc(content->data, content->room));
    }
    if (size > content->size)
        memset(content->data + content->size, 0, size - content->size);
    content->size = size;
}

static void set_content(struct content *content, const unsigned char *data,
                        size_t size)
{
    set_size(content, size);
    if (size > 0)
        memcpy(content->data, data, size);
}

/* Where a change begins and ends, if the file's size before it was size. */
static void change_range(const struct change *change, size_t size,
                         size_t *ret_from, size_t *ret_to)
{
    *ret_from = (size_t)change->entry->offset;
    *ret_to =
        change->entry->kind == RECORD_WRITE ? *ret_from + change->size : size;
    if (*ret_to < *ret_from)
        *ret_to = *ret_from;
}

/* The file's size after a change, if it was size before. */
static size_t size_after(const struct change *change, size_t size)
{
    size_t end = (size_t)change->entry->offset;

    if (change->entry->kind == RECORD_TRUNCATE)
        return end;
    end += change->size;
    return end > size ? end : size;
}

static void apply_whole(struct content *content, const struct change *change)
{
    set_size(content, size_after(change, content->size));
    if (change->entry->kind == RECORD_WRITE)
        memcpy(content->data + change->entry->offset, change->entry->bytes,
               change->size);
}

/* How much of a file's changes a power cut lets through. */
enum keep {
    KEEP_NOTHING,
    KEEP_ALL,
    KEEP_SECTORS, /* of each change any sectors */
    KEEP_CHANGES, /* any changes */
    KEEP_OLDEST,  /* up to a moment, of that change any sectors */
    KEEP_NEWEST,  /* from a moment on */
    KEEP_KINDS,
};

struct cut {
    enum keep keep;
    uint64_t seed;
    uint64_t moment; /* a sequence */
    unsigned share;  /* of 16 that are kept */
};

static bool is_kept(const struct cut *cut, const struct change *change,
                    size_t sector)
{
    uint64_t dice = crash_random(cut->seed ^ change->sequence, sector + 1);

    switch (cut->keep) {
    case KEEP_ALL:
        return true;
    case KEEP_SECTORS:
        return dice % 16 < cut->share;
    case KEEP_CHANGES:
        return crash_random(cut->seed, change->sequence) % 16 < cut->share;
    case KEEP_OLDEST:
        return change->sequence < cut->moment ||
               (change->sequence == cut->moment && dice % 2);
    case KEEP_NEWEST:
        return change->sequence >= cut->moment;
    case KEEP_NOTHING:
    case KEEP_KINDS:
        break;
    }
    return false;
}

static size_t choose_size(const struct node *node, const struct cut *cut)
{
    uint64_t dice = crash_random(cut->seed, 0);
    size_t size = node->durable.size;
    size_t stop = node->changes_count;

    if (cut->keep == KEEP_NOTHING)
        return size;
    if (cut->keep == KEEP_OLDEST) {
        for (stop = 0; stop < node->changes_count; stop++) {
            if (node->changes[stop].sequence >= cut->moment + dice % 2)
                break;
        }
    } else if (cut->keep != KEEP_ALL && dice % 2) {
        stop = (size_t)(dice / 2 % (node->changes_count + 1));
    }
    for (size_t i = 0; i < stop; i++)
        size = size_after(&node->changes[i], size);
    return size;
}

/* What of a file is there after a cut, and how many sectors were at stake. */
struct rest {
    unsigned char *data;
    size_t size;
    size_t sectors_kept, sectors;
};

/*
 * The page cache is what reaches the disk, so a sector holds all changes up
 * to the last one that is kept there, never a later one without an earlier.
 */
static struct rest cut_content(const struct node *node, const struct cut *cut)
{
    struct rest rest = {.size = choose_size(node, cut)};
    size_t largest = node->durable.size, size = largest, from, to;
    size_t *kept; /* per sector: so many changes are in it */

    for (size_t i = 0; i < node->changes_count; i++) {
        size = size_after(&node->changes[i], size);
        if (size > largest)
            largest = size;
    }
    rest.data = must(calloc(1, largest + SECTOR));
    kept = must(calloc(largest / SECTOR + 2, sizeof(*kept)));
    if (node->durable.size > 0)
        memcpy(rest.data, node->durable.data, node->durable.size);
    size = node->durable.size;
    for (size_t i = 0; i < node->changes_count; i++) {
        change_range(&node->changes[i], size, &from, &to);
        size = size_after(&node->changes[i], size);
        for (size_t s = from / SECTOR; s * SECTOR < to; s++) {
            rest.sectors++;
            if (is_kept(cut, &node->changes[i], s)) {
                rest.sectors_kept++;
                kept[s] = i + 1;
            }
        }
    }
    size = node->durable.size;
    for (size_t i = 0; i < node->changes_count; i++) {
        const struct record_entry *entry = node->changes[i].entry;

        change_range(&node->changes[i], size, &from, &to);
        size = size_after(&node->changes[i], size);
        for (size_t s = from / SECTOR; s * SECTOR < to; s++) {
            size_t begin = s * SECTOR < from ? from : s * SECTOR;
            size_t end = (s + 1) * SECTOR > to ? to : (s + 1) * SECTOR;

            if (kept[s] <= i)
                continue;
            if (entry->kind == RECORD_WRITE)
                memcpy(rest.data + begin, entry->bytes + (begin - from),
                       end - begin);
            else
                memset(rest.data + begin, 0, end - begin);
        }
    }
    free(kept);
    return rest;
}

static struct cut all_of_it(void)
{
    return (struct cut){.keep = KEEP_ALL};
}

/* ---- winding forward ---- */

static unsigned add_node(struct crash_disk *disk, bool is_dir)
{
    size_t room = disk->nodes_room;

    disk->nodes =
        grow(disk->nodes, disk->nodes_count, &room, sizeof(*disk->nodes));
    disk->nodes_room = (unsigned)room;
    disk->nodes[disk->nodes_count] = (struct node){.is_dir = is_dir};
    return disk->nodes_count++;
}

static void begin_recording(struct crash_disk *disk,
                            const struct recording *recording)
{
    disk->base += disk->cut;
    disk->cut = 0;
    disk->recording = recording;
    free(disk->lookup);
    disk->lookup = must(calloc(recording->nodes_count, sizeof(*disk->lookup)));
}

/* The text is kept until the disk is freed. */
static const char *own_name(struct crash_disk *disk, const char *text)
{
    disk->own_names =
        must(realloc(disk->own_names,
                     (disk->own_names_count + 1) * sizeof(*disk->own_names)));
    disk->own_names[disk->own_names_count] = must(strdup(text));
    return disk->own_names[disk->own_names_count++];
}

/* Find a path in names. Returns the node, or UINT_MAX. */
static unsigned find_path(const struct names *names, const char *path)
{
    char part[NAME_MAX + 1];
    unsigned node = 0;

    while (*path) {
        size_t len = strcspn(path, "/");
        const struct name *name;

        assert(len < sizeof(part));
        memcpy(part, path, len);
        part[len] = '\0';
        name = names_find(names, node, part);
        if (!name)
            return UINT_MAX;
        node = name->node;
        path += len;
        path += *path == '/';
    }
    return node;
}

struct crash_disk *crash_disk_new(const struct recording *recording)
{
    struct crash_disk *disk = must(calloc(1, sizeof(*disk)));

    begin_recording(disk, recording);
    for (unsigned i = 0; i < recording->nodes_count; i++) {
        const char *path = recording->nodes[i].path;
        const char *slash = path ? strrchr(path, '/') : NULL;
        char parent[PATH_MAX];

        if (!path)
            break;
        assert(recording->nodes[i].is_dir);
        disk->lookup[i] = add_node(disk, true);
        if (i == 0)
            continue;
        (void)snprintf(parent, sizeof(parent), "%.*s",
                       slash ? (int)(slash - path) : 0, path);
        names_set(&disk->names, find_path(&disk->names, parent),
                  own_name(disk, slash ? slash + 1 : path), disk->lookup[i]);
    }
    return disk;
}

void crash_disk_free(struct crash_disk *disk)
{
    if (!disk)
        return;
    for (unsigned i = 0; i < disk->nodes_count; i++) {
        free(disk->nodes[i].durable.data);
        free(disk->nodes[i].cached.data);
        free(disk->nodes[i].changes);
    }
    for (size_t i = 0; i < disk->own_names_count; i++)
        free(disk->own_names[i]);
    free(disk->own_names);
    free(disk->nodes);
    free(disk->names.names);
    free(disk->name_changes);
    free(disk->lookup);
    free(disk);
}

static void add_change(struct crash_disk *disk, struct node *node,
                       const struct record_entry *entry, size_t size)
{
    node->changes = grow(node->changes, node->changes_count,
                         &node->changes_room, sizeof(*node->changes));
    node->changes[node->changes_count++] =
        (struct change){entry, size, disk->base + disk->cut};
    if (node->has_cached)
        apply_whole(&node->cached, &node->changes[node->changes_count - 1]);
}

static void add_name_change(struct crash_disk *disk,
                            const struct record_entry *entry)
{
    const unsigned *lookup = disk->lookup;

    disk->name_changes =
        grow(disk->name_changes, disk->name_changes_count,
             &disk->name_changes_room, sizeof(*disk->name_changes));
    disk->name_changes[disk->name_changes_count++] = (struct name_change){
        .entry = entry,
        .node = lookup[entry->node],
        .dir = lookup[entry->dir],
        .to_dir = lookup[entry->to_dir],
        .sequence = disk->base + disk->cut,
    };
}

/* Make durable what happened to the names in a directory before end. */
static void sync_names(struct crash_disk *disk, unsigned dir, uint64_t end)
{
    size_t left = 0;

    for (size_t i = 0; i < disk->name_changes_count; i++) {
        struct name_change change = disk->name_changes[i];
        bool is_here = change.entry->kind == RECORD_RENAME
                           ? change.to_dir == dir
                           : change.dir == dir;

        if (is_here && change.sequence < end)
            names_apply(&disk->names, &change);
        else
            disk->name_changes[left++] = change;
    }
    disk->name_changes_count = left;
}

/* Make durable what happened to a file before end, or, failed, some of it. */
static void sync_content(struct crash_disk *disk, struct node *node,
                         uint64_t end, bool failed)
{
    size_t count = 0;

    while (count < node->changes_count && node->changes[count].sequence < end)
        count++;
    if (failed) {
        struct cut cut = {
            .keep = KEEP_SECTORS,
            .seed = crash_random(disk->base + disk->cut, 1),
            .share = 8,
        };
        struct node old = *node;
        struct rest rest;

        if (!node->has_cached) {
            node->has_cached = true;
            set_content(&node->cached, node->durable.data, node->durable.size);
            for (size_t i = 0; i < node->changes_count; i++)
                apply_whole(&node->cached, &node->changes[i]);
        }
        old.changes_count = count;
        rest = cut_content(&old, &cut);
        set_content(&node->durable, rest.data, rest.size);
        free(rest.data);
    } else {
        for (size_t i = 0; i < count; i++)
            apply_whole(&node->durable, &node->changes[i]);
    }
    node->changes_count -= count;
    if (node->changes_count > 0)
        memmove(node->changes, node->changes + count,
                node->changes_count * sizeof(*node->changes));
}

void crash_disk_advance(struct crash_disk *disk, size_t cut)
{
    assert(cut >= disk->cut && cut <= disk->recording->entries_count);
    for (; disk->cut < cut; disk->cut++) {
        const struct record_entry *entry = &disk->recording->entries[disk->cut];
        unsigned *node = &disk->lookup[entry->node];

        switch (entry->kind) {
        case RECORD_CREATE:
        case RECORD_MAKE_DIR:
            *node = add_node(disk, entry->kind == RECORD_MAKE_DIR);
            add_name_change(disk, entry);
            break;
        case RECORD_LINK:
        case RECORD_RENAME:
        case RECORD_UNLINK:
            add_name_change(disk, entry);
            break;
        case RECORD_WRITE:
        case RECORD_TRUNCATE:
            add_change(disk, &disk->nodes[*node], entry, entry->size);
            break;
        case RECORD_SYNC:
        case RECORD_SYNC_FAILED:
            if (!disk->nodes[*node].is_dir)
                sync_content(disk, &disk->nodes[*node],
                             disk->base + entry->offset,
                             entry->kind == RECORD_SYNC_FAILED);
            else if (entry->kind == RECORD_SYNC)
                sync_names(disk, *node, disk->base + entry->offset);
            break;
        }
    }
}

/* ---- writing a state ---- */

/* One state under way. */
struct writing {
    const struct crash_disk *disk;
    struct names names;
    bool is_kill;
    uint64_t seed;
    uint64_t oldest, newest; /* sequences of what is not durable */
    FILE *recipe;
    char **written; /* per node: a path that it has */
    const char *root;
};

static struct cut choose_cut(const struct writing *writing, unsigned node)
{
    /* Three states in four treat all files alike. */
    uint64_t same = crash_random(writing->seed, 1);
    uint64_t own = crash_random(same, 2 + (same % 4 ? 0 : (uint64_t)node));

    if (writing->is_kill)
        return all_of_it();
    return (struct cut){
        .keep = own % KEEP_KINDS,
        .seed = crash_random(writing->seed, 1000 + (uint64_t)node),
        .share = (unsigned[]){1, 4, 8, 12, 15}[own / 16 % 5],
        .moment = writing->oldest +
                  own / 256 % (writing->newest - writing->oldest + 1),
    };
}

static void write_content(const char *path, const unsigned char *data,
                          size_t size)
{
    static const unsigned char zeros[PIECE];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    must_succeed(fd, path);
    must_succeed(ftruncate(fd, (off_t)size), path);
    for (size_t at = 0; at < size; at += PIECE) {
        size_t len = size - at < PIECE ? size - at : PIECE;

        if (memcmp(data + at, zeros, len) != 0 &&
            pwrite(fd, data + at, len, (off_t)at) != (ssize_t)len)
            must_succeed(-1, path);
    }
    must_succeed(close(fd), path);
}

static void write_file(struct writing *writing, unsigned number,
                       const char *path)
{
    static const char *const keeps[] = {"nothing", "all",    "sectors",
                                        "changes", "oldest", "newest"};
    const struct node *node = &writing->disk->nodes[number];
    struct cut cut = choose_cut(writing, number);
    struct rest rest;

    if (writing->written[number]) {
        must_succeed(link(writing->written[number], path), path);
        return;
    }
    writing->written[number] = must(strdup(path));
    if (writing->is_kill && node->has_cached) {
        write_content(path, node->cached.data, node->cached.size);
        return;
    }
    if (node->changes_count == 0) {
        write_content(path, node->durable.data, node->durable.size);
        return;
    }
    rest = cut_content(node, &cut);
    write_content(path, rest.data, rest.size);
    if (writing->recipe)
        (void)fprintf(writing->recipe,
                      "#   %s: size %zu; %zu changes (size durable %zu), kept: "
                      "%s, %zu of %zu sectors\n",
                      path + strlen(writing->root) + 1, rest.size,
                      node->changes_count, node->durable.size, keeps[cut.keep],
                      rest.sectors_kept, rest.sectors);
    free(rest.data);
}

static void write_dir(struct writing *writing, unsigned dir, const char *path)
{
    for (size_t i = 0; i < writing->names.count; i++) {
        const struct name *name = &writing->names.names[i];
        char below[PATH_MAX];

        if (name->dir != dir)
            continue;
        if (snprintf(below, sizeof(below), "%s/%s", path, name->text) >=
            (int)sizeof(below))
            abort();
        if (writing->disk->nodes[name->node].is_dir) {
            must_succeed(mkdir(below, 0700), below);
            write_dir(writing, name->node, below);
        } else {
            write_file(writing, name->node, below);
        }
    }
}

/* Decide which changes of names are there. */
static void choose_names(struct writing *writing)
{
    const struct crash_disk *disk = writing->disk;
    struct cut cut = choose_cut(writing, UINT_MAX);
    /* Names are changed one by one: no newer half of a directory's. */
    bool in_order = cut.keep == KEEP_OLDEST || cut.keep == KEEP_NEWEST;

    for (size_t i = 0; i < disk->name_changes_count; i++) {
        const struct name_change *change = &disk->name_changes[i];
        bool kept = cut.keep == KEEP_ALL;

        if (in_order)
            kept = change->sequence < cut.moment;
        else if (cut.keep == KEEP_SECTORS || cut.keep == KEEP_CHANGES)
            kept = crash_random(cut.seed, change->sequence) % 16 < cut.share;
        if (kept)
            names_apply(&writing->names, change);
        if (writing->recipe) {
            static const char *const kinds[] = {"create", "mkdir", "link",
                                                "rename", "unlink"};

            (void)fprintf(writing->recipe, "#   %s of %s%s%s %s\n",
                          kinds[change->entry->kind], change->entry->name,
                          change->entry->to_name ? " to " : "",
                          change->entry->to_name ? change->entry->to_name : "",
                          kept ? "kept" : "lost");
        }
    }
}

static void write_state(const struct crash_disk *disk, bool is_kill,
                        uint64_t seed, const char *root, FILE *recipe)
{
    struct writing writing = {
        .disk = disk,
        .names = names_copy(&disk->names),
        .is_kill = is_kill,
        .seed = seed,
        .oldest = disk->base + disk->cut,
        .newest = disk->base + disk->cut,
        .recipe = recipe,
        .written = must(calloc(disk->nodes_count, sizeof(char *))),
        .root = root,
    };

    for (unsigned i = 0; i < disk->nodes_count; i++) {
        if (disk->nodes[i].changes_count > 0 &&
            disk->nodes[i].changes[0].sequence < writing.oldest)
            writing.oldest = disk->nodes[i].changes[0].sequence;
    }
    if (disk->name_changes_count > 0 &&
        disk->name_changes[0].sequence < writing.oldest)
        writing.oldest = disk->name_changes[0].sequence;
    choose_names(&writing);
    write_dir(&writing, 0, root);
    for (unsigned i = 0; i < disk->nodes_count; i++)
        free(writing.written[i]);
    free(writing.written);
    free(writing.names.names);
}

/*
 * Returns the file that the next entry writes to if it does write, and to one
 * that is ours.
 */
static struct node *next_written(const struct crash_disk *disk)
{
    const struct record_entry *entry = &disk->recording->entries[disk->cut];

    if (disk->cut == disk->recording->entries_count ||
        entry->kind != RECORD_WRITE)
        return NULL;
    return &disk->nodes[disk->lookup[entry->node]];
}

void crash_disk_power_cut(const struct crash_disk *disk, uint64_t seed,
                          const char *root, FILE *recipe)
{
    struct crash_disk now = *disk;
    struct node *node = next_written(disk);

    /* Like any other change, the write under way is there in part. */
    if (node) {
        const struct record_entry *entry = &disk->recording->entries[disk->cut];

        add_change(&now, node, entry, entry->size);
    }
    write_state(&now, false, seed, root, recipe);
    if (node)
        node->changes_count--;
}

void crash_disk_kill(struct crash_disk *disk, uint64_t seed, const char *root)
{
    struct node *node = next_written(disk);

    /* write(2) goes from page to page. */
    if (node) {
        const struct record_entry *entry = &disk->recording->entries[disk->cut];
        uint64_t end = entry->offset + crash_random(seed, 0) % entry->size;

        end -= end % PAGE;
        if (end > entry->offset)
            add_change(disk, node, entry, (size_t)(end - entry->offset));
    }
    write_state(disk, true, seed, root, NULL);
    /* Of this recording nothing more will come. */
    disk->cut = disk->recording->entries_count;
}

void crash_disk_continue(struct crash_disk *disk,
                         const struct recording *recording)
{
    struct names names = names_copy(&disk->names);

    for (size_t i = 0; i < disk->name_changes_count; i++)
        names_apply(&names, &disk->name_changes[i]);
    disk->cut++; /* the write that was under way has a sequence of its own */
    begin_recording(disk, recording);
    for (unsigned i = 0; i < recording->nodes_count; i++) {
        if (!recording->nodes[i].path)
            break;
        disk->lookup[i] = find_path(&names, recording->nodes[i].path);
        assert(disk->lookup[i] != UINT_MAX);
    }
    free(names.names);
}
