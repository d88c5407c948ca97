/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_check - at start: can the bucket be used, and if not, why not, in words
 * for whoever wrote the configuration.
 */
#ifndef S3_S3_CHECK_H
#define S3_S3_CHECK_H

#include <stdbool.h>

struct object_store;

/*
 * A line of text, valid during the call.  is_error: it keeps the store, or
 * this endpoint, from being used; else it is worth a warning (a clock that is
 * off, a region that was followed).
 */
typedef void s3_check_say(void *context, bool is_error, const char *text);

/*
 * Ask each endpoint of a store that s3_store_open made, and say what is wrong
 * (never secrets), nothing if all is well.  0 if at least one endpoint serves
 * the bucket, else the error of the last.  Ends within the store's timeout,
 * and five seconds, whatever the endpoints do.
 */
int s3_check(struct object_store *store, s3_check_say *say, void *context);

#endif
