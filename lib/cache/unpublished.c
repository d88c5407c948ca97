/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/unpublished.h"

void unpublished_init(struct unpublished *unpublished)
{
    mutex_init(&unpublished->lock);
    unpublished_set(unpublished, 0, 0);
}

void unpublished_done(struct unpublished *unpublished)
{
    mutex_done(&unpublished->lock);
}

/* Returns the older one of two times. */
static uint64_t older(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

void unpublished_set(struct unpublished *unpublished, uint64_t since_cut_ns,
                     uint64_t in_checkpoint_ns)
{
    mutex_lock(&unpublished->lock);
    atomic_store(&unpublished->since_cut_ns, since_cut_ns);
    atomic_store(&unpublished->in_checkpoint_ns, in_checkpoint_ns);
    mutex_unlock(&unpublished->lock);
}

void unpublished_note(struct unpublished *unpublished, uint64_t now_ns)
{
    mutex_lock(&unpublished->lock);
    if (unpublished_is_none(unpublished))
        atomic_store(&unpublished->since_cut_ns, now_ns);
    mutex_unlock(&unpublished->lock);
}

void unpublished_cut(struct unpublished *unpublished)
{
    mutex_lock(&unpublished->lock);
    atomic_store(
        &unpublished->in_checkpoint_ns,
        older(unpublished->since_cut_ns, unpublished->in_checkpoint_ns));
    atomic_store(&unpublished->since_cut_ns, 0);
    mutex_unlock(&unpublished->lock);
}

void unpublished_drop(struct unpublished *unpublished)
{
    mutex_lock(&unpublished->lock);
    atomic_store(
        &unpublished->since_cut_ns,
        older(unpublished->since_cut_ns, unpublished->in_checkpoint_ns));
    atomic_store(&unpublished->in_checkpoint_ns, 0);
    mutex_unlock(&unpublished->lock);
}

void unpublished_publish(struct unpublished *unpublished)
{
    mutex_lock(&unpublished->lock);
    atomic_store(&unpublished->in_checkpoint_ns, 0);
    mutex_unlock(&unpublished->lock);
}

uint64_t unpublished_since(struct unpublished *unpublished)
{
    uint64_t since;

    mutex_lock(&unpublished->lock);
    since = older(unpublished->since_cut_ns, unpublished->in_checkpoint_ns);
    mutex_unlock(&unpublished->lock);
    return since;
}
