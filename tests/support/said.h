/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * said - what is logged, to be looked at.
 *
 * Threads: one.
 */
#ifndef SUPPORT_SAID_H
#define SUPPORT_SAID_H

/* From now on, what goes to standard error is kept in memory. */
void said_begin(void);

/*
 * To standard error again.  Returns what was said, one line for each message,
 * "test: level: text", from LOG_LEVEL_INFO on; good until the next call.
 */
const char *said_end(void);

#endif
