/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * auto - release a local variable's resource when its scope ends.
 *
 * AUTO_FREE and AUTO_CLOSE belong to the declaration; the variable must be
 * initialised there.  To hand the resource on, use take_pointer or take_fd.
 */
#ifndef BASE_AUTO_H
#define BASE_AUTO_H

#include <stdlib.h>
#include <unistd.h>

/* What AUTO_FREE calls, with the address of the variable. */
static inline void auto_free_pointer(void *pointer)
{
    free(*(void **)pointer);
}

/* What AUTO_CLOSE calls, with the address of the variable. */
static inline void auto_close_fd(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

/* Free the memory that this pointer holds at the end of the scope. */
#define AUTO_FREE __attribute__((cleanup(auto_free_pointer)))

/*
 * Close this descriptor, if not negative, at the end of the scope.  Only for
 * descriptors whose close cannot lose data: sockets, and files that were
 * synced or only read.
 */
#define AUTO_CLOSE __attribute__((cleanup(auto_close_fd)))

/* Returns *fd and leaves -1 there: the caller owns the descriptor now. */
static inline int take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

/* Returns *pointer and leaves NULL there: the caller owns the memory now. */
#define take_pointer(pointer)                                                  \
    __extension__({                                                            \
        __auto_type taken_ = *(pointer);                                       \
        *(pointer) = NULL;                                                     \
        taken_;                                                                \
    })

#endif
