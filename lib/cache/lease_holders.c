/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/lease_holders.h"

#include <string.h>

static struct lease_holder *find(struct lease_holders *holders, uint64_t holder)
{
    for (size_t i = 0; i < holders->count; i++) {
        if (holders->list[i].holder == holder)
            return &holders->list[i];
    }
    return NULL;
}

void lease_holders_take(struct lease_holders *holders, uint64_t holder,
                        uint64_t now_ns)
{
    struct lease_holder *found = find(holders, holder);

    if (found == NULL && holder != 0 && holders->count < LEASE_HOLDERS_MAX) {
        found = &holders->list[holders->count++];
        *found = (struct lease_holder){.holder = holder, .since_ns = now_ns};
    }
    if (found != NULL)
        found->leased++;
}

void lease_holders_give_back(struct lease_holders *holders, uint64_t holder)
{
    struct lease_holder *found = find(holders, holder);

    if (found != NULL && found->leased > 0)
        found->leased--;
}

void lease_holders_uploaded(struct lease_holders *holders, uint64_t holder,
                            uint64_t size)
{
    struct lease_holder *found = find(holders, holder);

    if (found != NULL) {
        found->chunks++;
        found->bytes += size;
    }
}

void lease_holders_remove(struct lease_holders *holders, uint64_t holder)
{
    struct lease_holder *found = find(holders, holder);
    size_t index;

    if (found == NULL)
        return;
    index = (size_t)(found - holders->list);
    holders->count--;
    memmove(found, found + 1, (holders->count - index) * sizeof(*found));
}
