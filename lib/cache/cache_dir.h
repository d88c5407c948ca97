/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cache_dir - a device's cache directory: its lock, its superblock, how full
 * its disk is.
 *
 *   lock        flock: who owns the directory
 *   superblock  what device this is; replaced as a whole
 *   reserve     space that is given up only for what frees space
 *   state/      see state_log.h
 *   journal/    see journal.h; may lie in another directory
 *   chunk/      see chunk_file.h
 */
#ifndef CACHE_CACHE_DIR_H
#define CACHE_CACHE_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"

enum { UUID_SIZE = 16 };

struct superblock {
    uint8_t cachedir_id[UUID_SIZE]; /* of this directory */
    uint8_t journal_id[UUID_SIZE];  /* of the journal that belongs to it */
    uint8_t device_id[UUID_SIZE];   /* of the device, wherever it goes */
    uint8_t boot_id[UUID_SIZE];     /* of the host when last opened; zeros: of
                                       none, the journal had failed */
    char device_name[64];
    /* These two change while the device is open, see device_superblock.h. */
    _Atomic uint64_t size;        /* bytes */
    _Atomic uint64_t incarnation; /* grows when answered writes may be lost,
                                     or the content becomes another one */
    uint32_t chunk_size;          /* bytes */
    bool clean;                   /* closed in order since it was last opened */
    /* No image lacks a write older than that, or than its cut (since 1970). */
    uint64_t unpublished_since_ns;
};

struct cache_dir;

/*
 * Check that not everybody can write to a directory of a device.  -EACCES:
 * everybody can, which is logged with the command that mends it.
 */
int cache_dir_check_access(int dirfd, const char *path);

/*
 * Open an existing directory, check who can write to it, and take its lock.
 * -EWOULDBLOCK: another process has it (logged as information, with its pid
 * where the lock file tells it).
 * read_only: nothing is written, so its lock must be there: else -ENXIO.
 */
int cache_dir_open(const char *path, bool read_only,
                   struct cache_dir **ret_dir);

/* Give up the lock and free.  NULL does nothing. */
void cache_dir_close(struct cache_dir *dir);

/* Returns the directory's descriptor, which stays the cache_dir's. */
int cache_dir_fd(const struct cache_dir *dir);

/* Returns the path that it was opened by, for messages. */
const char *cache_dir_path(const struct cache_dir *dir);

/*
 * Returns whether nothing is in the directory but what cache_dir_open and
 * mkfs put there (lock, lost+found).
 */
int cache_dir_is_empty(struct cache_dir *dir, bool *ret_is_empty);

/*
 * Read the superblock.  -ENOENT: there is none; -EBADMSG: damaged;
 * -EPROTONOSUPPORT: written by a later version.
 */
int cache_dir_read_superblock(struct cache_dir *dir,
                              struct superblock *ret_superblock);

/* Replace the superblock; durable on return. */
int cache_dir_write_superblock(struct cache_dir *dir,
                               const struct superblock *superblock);

/*
 * Make sure that the reserve file exists with size bytes, written full.
 * -ENOSPC if that is not possible now.
 */
int cache_dir_keep_reserve(struct cache_dir *dir, uint64_t size);

/* Give the reserve up.  Returns whether there was one. */
bool cache_dir_release_reserve(struct cache_dir *dir);

/* Tell how full the directory's file system is. */
int cache_dir_space(struct cache_dir *dir, struct file_space *ret_space);

/* Fill id with random bytes, or with the boot id of this host. */
int uuid_make(uint8_t id[UUID_SIZE]);
int uuid_of_boot(uint8_t id[UUID_SIZE]);

#endif
