/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/hook_store.h"

static struct object_store *hook(struct object_store *store)
{
    struct hook_store *hooked = (struct hook_store *)(void *)store;

    if (++hooked->calls == hooked->nth)
        hooked->hook(hooked->context);
    return hooked->inner;
}

static int hook_get(struct object_store *store, const char *key,
                    uint64_t offset, void *data, size_t len,
                    enum object_urgency urgency)
{
    struct object_store *inner = hook(store);

    return inner->get(inner, key, offset, data, len, urgency);
}

static int hook_put(struct object_store *store, const char *key,
                    const void *data, size_t len, bool if_absent)
{
    struct object_store *inner = hook(store);

    return inner->put(inner, key, data, len, if_absent);
}

static int hook_head(struct object_store *store, const char *key,
                     struct object_info *ret_info)
{
    struct object_store *inner = hook(store);

    return inner->head(inner, key, ret_info);
}

static int hook_delete(struct object_store *store, const char *const keys[],
                       size_t count)
{
    struct object_store *inner = hook(store);

    return inner->delete (inner, keys, count);
}

static void hook_interrupt(struct object_store *store)
{
    struct object_store *inner = ((struct hook_store *)(void *)store)->inner;

    inner->interrupt(inner);
}

static char *hook_describe(struct object_store *store)
{
    struct object_store *inner = ((struct hook_store *)(void *)store)->inner;

    return inner->describe(inner);
}

static int hook_list(struct object_store *store, const char *prefix,
                     const char *after, object_store_each *each, void *context)
{
    struct object_store *inner = hook(store);

    return inner->list(inner, prefix, after, each, context);
}

void hook_store_init(struct hook_store *hooked, struct object_store *inner,
                     uint64_t nth, void (*hook_call)(void *context),
                     void *context)
{
    *hooked = (struct hook_store){
        .inner = inner, .nth = nth, .hook = hook_call, .context = context};
    hooked->store.get = hook_get;
    hooked->store.put = hook_put;
    hooked->store.head = hook_head;
    hooked->store.delete = hook_delete;
    hooked->store.list = hook_list;
    hooked->store.interrupt = hook_interrupt;
    hooked->store.describe = hook_describe;
}
