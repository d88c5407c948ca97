/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_prober - asks endpoints that rest whether they are well again, and looks
 * after what nobody does while there are no requests.
 *
 * Short probes come often, so that who comes back is found soon; each endpoint
 * has a thread for them, so that one that keeps silent does not hold up the
 * others.  One that was silent is also asked by a patient probe, or behind a
 * slow line nobody would ever be found again; the short ones go on meanwhile,
 * for what is silent to an old connection may answer a new one.
 */
#ifndef S3_S3_PROBER_H
#define S3_S3_PROBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct s3_parts;
struct s3_prober;

/*
 * Returns how long a probe may take.  A patient one has as long as a request
 * to connect and to be answered, but no more than ten seconds.
 */
uint64_t s3_prober_patience_ns(bool is_patient, uint64_t timeout_ns);

/*
 * Returns the first after number last that is wanted, of count, and again from
 * 0; count: none is.  So each has its turn: patient probes take long, and there
 * are threads for two of them.
 */
size_t s3_prober_next(const bool wanted[], size_t count, size_t last);

/* Start the threads; parts must be complete. */
int s3_prober_new(struct s3_parts *parts, struct s3_prober **ret_prober);

/*
 * Wait for the threads, which end when endpoints and pool were interrupted,
 * and free it.  NULL does nothing.
 */
void s3_prober_free(struct s3_prober *prober);

#endif
