/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * background - go on in a new process, and let the old one tell how it went.
 *
 * Threads: one, the first.
 */
#ifndef BASE_BACKGROUND_H
#define BASE_BACKGROUND_H

#include <stdbool.h>

/*
 * Go into the background.  Returns in the new process only, without a
 * terminal that controls it, in the root directory.  The old process waits
 * for background_report and ends with the code that it is given, or with
 * EXIT_FAILURE if the new process ends without a report.  Until then standard
 * error stays what it was, so that errors of a start are seen.
 * *ret_report_fd is what to report to.  Returns a negative errno if nothing
 * was done.
 */
int background_enter(int *ret_report_fd);

/* Let the old process end with that code; nothing if *report_fd is -1. */
void background_report(int *report_fd, int exit_code);

/*
 * Replace standard input, output and error, which may belong to a terminal or
 * to somebody who waits for their end.  Standard error stays if it is a
 * regular file, where somebody wants to read it later: returns whether.
 */
bool background_leave_terminal(void);

#endif
