/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * file - the file calls that durability rests on, a wrapper each.
 *
 * All that opens, reads, writes, syncs, renames, links and unlinks in a cache
 * directory goes through here, so that a test program can link fault_file.c
 * in this file's place, fail the n-th call, or record what a power cut would
 * leave.  Threads: any.  All return 0 (or a count) or a negative errno;
 * EINTR and short transfers are dealt with here.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* More pieces than this never go into one file_writev. */
enum { FILE_IOV_MAX = 1024 };

/*
 * Open path, relative to dirfd (or AT_FDCWD), with open(2)'s flags; O_CLOEXEC
 * is added.  Returns the descriptor, which the caller closes by file_close.
 * Creating a name is durable only after file_sync of its directory.
 */
int file_open(int dirfd, const char *path, int flags, mode_t mode);

/* Close fd; nothing that was not synced may depend on the result. */
int file_close(int fd);

/* Make a directory.  -EEXIST if the name is taken. */
int file_make_dir(int dirfd, const char *path, mode_t mode);

/*
 * Read up to len bytes at offset.  Returns how many: fewer than len only at
 * the end of the file.
 */
ssize_t file_read(int fd, void *data, size_t len, uint64_t offset);

/*
 * As file_read, but only what the page cache holds: -EAGAIN if a disk would
 * have to be waited for, also when only a part is there or the file ends
 * before len: file_read then tells.
 */
ssize_t file_read_nowait(int fd, void *data, size_t len, uint64_t offset);

/*
 * Write all len bytes at offset.  After an error any part of it may have
 * been written.
 */
int file_write(int fd, const void *data, size_t len, uint64_t offset);

/*
 * Write all pieces, one after the other, at offset.  count is at most
 * FILE_IOV_MAX; the array is used up (its contents change).
 */
int file_writev(int fd, struct iovec *pieces, int count, uint64_t offset);

/*
 * Return when the file's data, and the size needed to read it, are durable.
 * After an error what was written since the last success may be lost even if
 * a later call succeeds.
 */
int file_sync_data(int fd);

/* Return when a directory's entries (or all of a file) are durable. */
int file_sync(int fd);

/* Set the file's size. */
int file_truncate(int fd, uint64_t size);

/* Tell the file's size. */
int file_size(int fd, uint64_t *ret_size);

/*
 * Rename within one file system, replacing the target, or give a file a
 * second name (-EEXIST if taken), or remove a name.  Durable after file_sync
 * of the directories.
 */
int file_rename(int from_dirfd, const char *from, int to_dirfd, const char *to);
int file_link(int from_dirfd, const char *from, int to_dirfd, const char *to);
int file_unlink(int dirfd, const char *path);

/*
 * Take the exclusive lock of an open file, without waiting: -EWOULDBLOCK if
 * another open file description has it.  It ends with the descriptor.
 */
int file_lock(int fd);

/* What the file system of fd has, in bytes and inodes. */
struct file_space {
    uint64_t total;
    uint64_t available;    /* to us, now */
    uint64_t inodes_total; /* 0: this file system does not count them */
    uint64_t inodes_available;
};
int file_space(int fd, struct file_space *ret_space);

/*
 * Call each(context, name) for every entry of the directory but . and ..;
 * stops at, and returns, the first result other than 0.  Entries that each()
 * adds or removes may or may not be seen.
 */
int file_list(int dirfd, const char *path,
              int (*each)(void *context, const char *name), void *context);

#endif
