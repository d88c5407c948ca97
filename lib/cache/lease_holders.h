/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lease_holders - who uploads for a device, and how much each has done (pure).
 *
 * Used by lease.c, under its lock, for the status.  All zero is an empty book;
 * one who finds no room in it is not told of, which harms nothing.
 */
#ifndef CACHE_LEASE_HOLDERS_H
#define CACHE_LEASE_HOLDERS_H

#include <stddef.h>
#include <stdint.h>

enum { LEASE_HOLDERS_MAX = 8 };

struct lease_holder {
    uint64_t holder;   /* its number; 0, the owner itself, is not told of */
    uint64_t since_ns; /* since 1970: when it took its first lease */
    uint64_t leased;   /* chunks in its hands */
    uint64_t chunks;   /* that it has uploaded */
    uint64_t bytes;    /* of their objects */
};

struct lease_holders {
    struct lease_holder list[LEASE_HOLDERS_MAX];
    size_t count;
};

/* It takes a lease, at that time; gives it back; uploaded so many bytes. */
void lease_holders_take(struct lease_holders *holders, uint64_t holder,
                        uint64_t now_ns);
void lease_holders_give_back(struct lease_holders *holders, uint64_t holder);
void lease_holders_uploaded(struct lease_holders *holders, uint64_t holder,
                            uint64_t size);

/* It is gone. */
void lease_holders_remove(struct lease_holders *holders, uint64_t holder);

#endif
