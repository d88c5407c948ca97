/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * analyzer - what clang's analyzer has to be told; included before every file
 * that it looks at, and by nothing else.
 *
 * It thinks that errno may be 0 after a failed call, so that "return -errno"
 * would be a success that wrote no result; and it cannot follow the sign of a
 * value that it does not know.  So reading errno gives one of two values.
 */
#ifndef TESTS_LINT_ANALYZER_H
#define TESTS_LINT_ANALYZER_H

#ifdef __clang_analyzer__
#include <errno.h>

/* Defined nowhere: the analyzer looks at both results. */
int analyzer_either(void);

/* Returns where errno is, with an error there. */
static inline __attribute__((unused)) int *analyzer_errno(void)
{
    int *location = __errno_location();

    *location = analyzer_either() ? EINTR : EIO;
    return location;
}

#undef errno
#define errno (*analyzer_errno())
#endif

#endif
