/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_delete - remove objects: one, or a thousand by one request where the
 * store can do that.
 *
 * Threads: any.
 */
#ifndef S3_S3_DELETE_H
#define S3_S3_DELETE_H

#include <stddef.h>

struct s3_parts;

/* As the delete of object_store.h; the keys are valid ones. */
int s3_delete_run(struct s3_parts *parts, const char *const keys[],
                  size_t count);

#endif
