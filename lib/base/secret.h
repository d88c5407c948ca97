/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * secret - memory and files for what nobody else may see.
 *
 * The memory is left out of core dumps, and overwritten when it is freed.
 * Threads: any.
 */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <stddef.h>
#include <sys/types.h>

#include "base/net_address.h"

/* Returns size bytes (not 0) of zeros, for secret_free; NULL: no memory. */
void *secret_new(size_t size);

/* Overwrite and free what secret_new gave for that size; NULL: nothing. */
void secret_free(void *memory, size_t size);

/* The contents of a file, and who may change what. */
struct secret_text {
    char *bytes; /* with a zero behind the last one */
    size_t len;
    size_t size; /* of the memory */
    uid_t owner;
    mode_t mode;
};

/*
 * Read a file of at most max bytes; the caller frees the text.  -ENOENT: it is
 * not there; -EACCES: it cannot be read; -EFBIG, -EINVAL: it is too long, or
 * no regular file; -EIO, -ENOMEM.  In words in *ret_failure.
 */
int secret_read(const char *path, size_t max, struct secret_text *ret_text,
                struct net_failure *ret_failure);

/*
 * Check that nobody but root, us, and the file's group could see or choose
 * what was read from path.  -EACCES, with the command that mends it.
 */
int secret_check(const char *path, const struct secret_text *text,
                 struct net_failure *ret_failure);

/* Overwrite and free the contents; one that is all zeros does nothing. */
void secret_text_free(struct secret_text *text);

#endif
