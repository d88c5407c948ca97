/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * throttle - how long a write waits as journal or cache disk fill.
 *
 * Pure.  Nothing below the first mark; from there the delay grows smoothly,
 * without a jump, up to the longest one at the brim.
 */
#ifndef CACHE_THROTTLE_H
#define CACHE_THROTTLE_H

#include <stdint.h>

/*
 * Returns the nanoseconds that a write of size bytes waits when used of
 * capacity bytes are taken; 0 while there is plenty.
 */
uint64_t throttle_delay_ns(uint64_t used, uint64_t capacity, uint64_t size);

#endif
