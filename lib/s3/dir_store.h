/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dir_store - an object_store on a directory, also one on NFS.
 *
 * Fifth of the five files of a request; fetch.c before it.
 *
 * The setting s3dir.  A key is the path of a file below the directory, so
 * that the tree can be copied into a bucket as it is, and back.  Several
 * processes, also on several hosts, may use one directory at the same time.
 * No key may be the directory of another one ("a" beside "a/b").
 *
 * Threads: any.  Locks: none; all is decided by the file system.
 * Promise: an object is seen whole or not at all, and of several conditional
 * puts on one key exactly one succeeds.
 */
#ifndef S3_DIR_STORE_H
#define S3_DIR_STORE_H

struct object_store;

/*
 * Open the store on an existing directory, try out that its file system can
 * do what is needed, and remove what puts of dead processes left behind more
 * than a day ago.  The caller ends it by (*ret_store)->close.
 *
 * -ENOENT, -ENOTDIR: no such directory; it is never created, for it may be
 * one whose file system is not mounted.  The reason of any error is logged.
 */
int dir_store_open(const char *path, struct object_store **ret_store);

#endif
