/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_prober - asks endpoints that rest whether they are well again, and looks
 * after what nobody does while there are no requests.
 *
 * A few threads of its own, so that one endpoint that keeps silent does not
 * hold up the others.
 */
#ifndef S3_S3_PROBER_H
#define S3_S3_PROBER_H

#include <stdint.h>

struct s3_parts;
struct s3_prober;

/*
 * Returns how long a probe may take, after so many in a row that ended in
 * silence.  Mostly it is short, so that who comes back is found soon; but now
 * and then ten seconds, or behind a slow line nobody would ever be found
 * again.
 */
uint64_t s3_prober_patience_ns(unsigned silences, uint64_t timeout_ns);

/* Start the threads; parts must be complete. */
int s3_prober_new(struct s3_parts *parts, struct s3_prober **ret_prober);

/*
 * Wait for the threads, which end when endpoints and pool were interrupted,
 * and free it.  NULL does nothing.
 */
void s3_prober_free(struct s3_prober *prober);

#endif
