/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fault_file - base/file.h with faults, gates and a recorder.
 *
 * A test with the line "links: fault_file" as a comment gets this in place of
 * lib/base/file.c, which it contains.  Until one of the functions here is
 * called every call goes straight through, without a lock, so that the thread
 * sanitizer sees what it would see without it.
 *
 * Threads: any may make file calls; one at a time sets up faults, gates and
 * recordings, while no file call is under way.  Only fault_fail, fault_reset,
 * fault_gate_wait, fault_gate_open, fault_count and fault_record_position may
 * come at any time.
 */
#ifndef SUPPORT_FAULT_FILE_H
#define SUPPORT_FAULT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fault_kind {
    FAULT_OPEN = 1 << 0,   /* of a name that is there */
    FAULT_CREATE = 1 << 1, /* open with O_CREAT, whether it is there or not */
    FAULT_MAKE_DIR = 1 << 2,
    FAULT_READ = 1 << 3,
    FAULT_WRITE = 1 << 4,
    FAULT_SYNC_DATA = 1 << 5,
    FAULT_SYNC = 1 << 6,
    FAULT_TRUNCATE = 1 << 7,
    FAULT_RENAME = 1 << 8,
    FAULT_LINK = 1 << 9,
    FAULT_UNLINK = 1 << 10,
    FAULT_ANY_SYNC = FAULT_SYNC_DATA | FAULT_SYNC,
    FAULT_ANY_CHANGE = FAULT_CREATE | FAULT_MAKE_DIR | FAULT_WRITE |
                       FAULT_ANY_SYNC | FAULT_TRUNCATE | FAULT_RENAME |
                       FAULT_LINK | FAULT_UNLINK,
};

/*
 * Calls that count: of these kinds, on a path that contains path_part (NULL:
 * on any).  The string must live as long as it is in use.
 */
struct fault_calls {
    unsigned kinds;
    const char *path_part;
    unsigned long nth; /* the one that is meant; 1: the next */
};

/* Take back all faults, gates and the rest, but not a recording. */
void fault_reset(void);

/*
 * Have the nth of these calls fail with error, a negative errno, and if
 * forever all after it.  A write puts torn_bytes, rounded down to 512, on the
 * file before it fails; the others do nothing.
 */
void fault_fail(const struct fault_calls *calls, int error, bool forever,
                size_t torn_bytes);

/* Returns how many calls counted for fault_fail since it was called. */
unsigned long fault_count(void);

/*
 * Have the nth of these calls wait: a write when half of it (rounded down to
 * 512 bytes) is on the file, the others before they do anything.
 */
void fault_gate_set(const struct fault_calls *calls);
/* Return when a call stands in the gate. */
void fault_gate_wait(void);
/* Let it go on; if none came so far, none will wait. */
void fault_gate_open(void);

/*
 * From now on these syncs say that they succeeded, do nothing and are not
 * recorded: the bug that a crash test must find.  nth is not looked at.
 */
void fault_swallow(const struct fault_calls *calls);

/* Syncs are recorded but not done: what is below /dev/shm needs none. */
void fault_skip_syncs(bool skip);

/* ---- the recorder ---- */

enum record_kind {
    RECORD_CREATE,   /* node, an empty file, is now dir/name */
    RECORD_MAKE_DIR, /* node, an empty directory, is now dir/name */
    RECORD_LINK,     /* node is also dir/name */
    RECORD_RENAME,   /* node, dir/name until now, is to_dir/to_name */
    RECORD_UNLINK,   /* dir/name is gone */
    RECORD_WRITE,    /* size bytes at offset of node */
    RECORD_TRUNCATE, /* node's size is now offset */
    RECORD_SYNC,     /* what happened to node before entry offset is durable */
    RECORD_SYNC_FAILED, /* of that nothing is sure, now or later */
};

struct record_entry {
    enum record_kind kind;
    unsigned node;
    unsigned dir, to_dir;
    char *name, *to_name;
    uint64_t offset;
    size_t size;
    unsigned char *bytes;
};

/* A file or directory, from its creation to its end. */
struct record_node {
    uint64_t device, inode; /* as stat(2) tells */
    bool is_dir;
    char *path; /* below the root when recording began ("" is the root), or
                   NULL: made since then */
};

/*
 * All that happened below a directory, in order.  A sync stands where it had
 * ended; a write, rename and so on where it took effect.
 */
struct recording {
    struct record_node *nodes; /* the first is the root */
    unsigned nodes_count;
    struct record_entry *entries;
    size_t entries_count;
};

/*
 * Record what happens below the directory root, which exists; what is in it
 * now counts as durable (but see crash_states.h).  One at a time.
 */
void fault_record_begin(const char *root);

/* Returns how many entries there are now: a moment of the recording. */
size_t fault_record_position(void);

/* Tell the same; false: nothing is being recorded. */
bool fault_record_tell(size_t *ret_position);

/* Stop recording.  The caller frees it by recording_free. */
struct recording *fault_record_end(void);
void recording_free(struct recording *recording);

#endif
