/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_parts - what the modules of s3_store share.
 *
 * s3_store.c makes and frees it; the pointers and values do not change in
 * between, and what they lead to locks itself.  No lock of any of them is held
 * while another one is called, but for s3_hedge's, then s3_endpoint's or
 * s3_hold's, and that one, then s3_pool's.
 */
#ifndef S3_S3_PARTS_H
#define S3_S3_PARTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "s3/s3_bell.h"
#include "s3/s3_complaint.h"
#include "s3/s3_request.h"
#include "s3/s3_site.h"

struct credentials;
struct object_store;
struct s3_endpoints;
struct s3_gate;
struct s3_hedges;
struct s3_limits;
struct s3_places;
struct s3_pool;

enum { S3_VERBS = S3_HEAD_BUCKET + 1 };

struct s3_parts {
    struct s3_endpoints *endpoints;
    struct s3_places *places;
    struct s3_gate *gate;
    struct s3_pool *pool;
    struct credentials *credentials;
    struct s3_limits *limits;
    struct s3_hedges *hedges;
    struct s3_bell bell;
    struct s3_complaint complaints[S3_VERBS]; /* one a verb */
    /* As it was at first: for what does not change, and is of all sites. */
    struct s3_site site;
    struct s3_storage storage;
    bool is_unsigned; /* bodies are not hashed */
    uint64_t timeout_ns;
    atomic_uint_fast64_t hurry_ns; /* see s3_store_hurry */
    /* The store knows no delete of many.  Relaxed: learning it twice, or a
     * little later, does no harm. */
    atomic_bool deletes_singly;
};

/* Returns the parts of a store that s3_store_open made. */
struct s3_parts *s3_parts_of_store(struct object_store *store);

#endif
