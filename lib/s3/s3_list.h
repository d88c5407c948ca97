/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_list - all keys below a prefix, page by page.
 *
 * A page is taken in whole, and believed only if its keys are what was asked
 * for: with the prefix, ascending, behind those of the page before.  Keys that
 * cannot be ours are passed over.
 *
 * Threads: any.
 */
#ifndef S3_S3_LIST_H
#define S3_S3_LIST_H

#include "object_store.h"

struct s3_parts;

/* As the list of object_store.h. */
int s3_list_run(struct s3_parts *parts, const char *prefix, const char *after,
                object_store_each *each, void *context);

#endif
