/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials - with which key requests are signed now.
 *
 * Used by s3_store.  A thread of its own reads the sources (credentials_chain
 * tells them) and reads them again before the keys expire, five minutes ahead,
 * or when the store refuses them.  The keys that are there stay in use until
 * there are others.
 *
 * Threads: any.  Locks: its own; interrupts a reading while holding it, and
 * calls nothing else.
 * Promise: what was borrowed does not change; secrets are in no message and
 * no core dump, and are overwritten when they are not needed any more.
 */
#ifndef S3_CREDENTIALS_H
#define S3_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/credentials_set.h"

struct credentials;

/* Returns the value of an environment variable, or NULL. */
typedef const char *credentials_environment(void *context, const char *name);

/* All texts may be NULL, and are copied by credentials_new. */
struct credentials_options {
    /* Keys of the configuration: both or none, without a source. */
    const char *access_key;
    const char *secret_key;
    const char *session_token;
    /* As credentials_chain.h says; NULL: "auto". */
    const char *source;
    /* The bucket is Amazon's: "auto" asks the instance's metadata, too. */
    bool is_aws;
    const char *region;  /* of the configuration, for the token service */
    const char *ca_file; /* for that service, too; NULL: the system's */
    /* In place of this process's environment; NULL: that one. */
    credentials_environment *environment;
    void *environment_context;
    /*
     * Called by the thread, without locks, when borrowing gives other keys
     * than before; it must not free the credentials.  May be NULL.
     */
    void (*changed)(void *context);
    void *changed_context;
};

/*
 * Begin to read the sources; does not wait for them.  -EINVAL: the options
 * contradict each other, which is logged.  The caller ends it by
 * credentials_free; only after the process went into the background.
 */
int credentials_new(const struct credentials_options *options,
                    struct credentials **ret_credentials);

/*
 * Read the sources that these options tell, now, in place of those before;
 * does not wait for it.  Errors as of credentials_new; then all stays as it
 * was.
 */
int credentials_change(struct credentials *credentials,
                       const struct credentials_options *options);

/*
 * Take the keys to sign with, to be given back by credentials_return.  Waits
 * only while there have never been any, for the reading that runs now:
 * -ETIMEDOUT past the deadline (of clock_monotonic_ns()), -ECANCELED after
 * credentials_interrupt, -EACCES when no source has any, or one is wrong;
 * credentials_summarize says why in words, and sources are tried again by
 * themselves.
 */
int credentials_borrow(struct credentials *credentials, uint64_t deadline_ns,
                       const struct credentials_set **ret_set);

/* Give back what was borrowed; NULL does nothing. */
void credentials_return(struct credentials *credentials,
                        const struct credentials_set *set);

/*
 * The store refused this borrowed set (expired, unknown, not permitted): read
 * the sources again now, though not more often than every ten seconds, and
 * wait for that, not past the deadline.  Returns whether there are other keys
 * now than those of this set.
 */
bool credentials_refused(struct credentials *credentials,
                         const struct credentials_set *set,
                         uint64_t deadline_ns);

/* What may be shown of the present state. */
struct credentials_summary {
    char source[CREDENTIALS_SOURCE_SIZE]; /* "": there are no keys */
    char access_key_start[5];             /* its first four characters */
    uint64_t expires_ns; /* of clock_realtime_ns(), or CREDENTIALS_NEVER */
    char problem[256];   /* why the last reading failed; "": it did not */
};

/* Tell the present state, without secrets. */
void credentials_summarize(struct credentials *credentials,
                           struct credentials_summary *ret_summary);

/* End all waiting: from now on borrowing is -ECANCELED.  Any thread. */
void credentials_interrupt(struct credentials *credentials);

/*
 * Interrupt, wait for the thread, which takes a few seconds at most, and free
 * all.  Everything borrowed has been returned.  NULL does nothing.
 */
void credentials_free(struct credentials *credentials);

#endif
