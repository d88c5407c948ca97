/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/device_rest.h"

#include <stddef.h>

#include "cache/destage.h"
#include "cache/device_parts.h"
#include "cache/parking.h"

void device_rest_init(struct device_rest *rest)
{
    mutex_init(&rest->lock);
}

void device_rest_done(struct device_rest *rest)
{
    mutex_done(&rest->lock);
}

bool device_is_resting(struct device *device)
{
    return device->destage != NULL && destage_is_asleep(device->destage) &&
           parking_count(device->parking) == 0;
}

void device_watch(struct device *device, void (*stirred)(void *context),
                  void *context)
{
    struct device_rest *rest = &device->rest;

    mutex_lock(&rest->lock);
    rest->stirred = stirred;
    rest->context = context;
    mutex_unlock(&rest->lock);
}

void device_stirred(void *device)
{
    struct device_rest *rest = &((struct device *)device)->rest;

    mutex_lock(&rest->lock);
    if (rest->stirred != NULL)
        rest->stirred(rest->context);
    mutex_unlock(&rest->lock);
}
