/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim_refusal - what the user is told when a start cannot have the device,
 * or not all of it: who has it, since when, and what to do.
 */
#ifndef CACHE_CLAIM_REFUSAL_H
#define CACHE_CLAIM_REFUSAL_H

#include "cache/claim_decide.h"

/*
 * Log why the action was decided on, by this record; nothing for an action
 * that needs no word.
 */
void claim_refusal_log(const char *device_name, enum claim_action action,
                       const struct epoch_record *record);

/* Returns the host that made a record, as messages name it. */
const char *claim_refusal_host(const struct epoch_record *record);

#endif
