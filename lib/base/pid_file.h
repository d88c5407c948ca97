/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pid_file - a file with the process's number, locked while the process lives.
 *
 * The lock, not the number, says whether a process lives: numbers are used
 * again.  It is kept by the descriptor, and so by a process that forked from
 * the one that took it.
 *
 * Threads: one.
 */
#ifndef BASE_PID_FILE_H
#define BASE_PID_FILE_H

#include <stdbool.h>

struct pid_file {
    char *path; /* absolute; NULL: there is none */
    int fd;
};

/*
 * Open and lock the pid file, which is empty then; path may be NULL: none is
 * wanted.  What a dead process left is taken over; -EBUSY: a live one has it,
 * which is logged, as information, not as an error, if that is expected.
 * -ELOOP, -EINVAL: what has that name is a link, has one, or is no file.  Root
 * gives the file to the user whose directory it is in.
 * Other errors are logged as such.
 */
int pid_file_take(const char *path, bool is_expected,
                  struct pid_file *ret_pid_file);

/* Write our number: others may rely on us from now on. */
int pid_file_write(const struct pid_file *pid_file);

/* Remove and unlock it; one that was never taken is left alone. */
void pid_file_remove(struct pid_file *pid_file);

#endif
