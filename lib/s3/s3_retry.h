/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_retry - what an answer, or none, means: what to do next, after how long,
 * and what it says of the endpoint (pure).
 *
 * Used by s3_store.c after each attempt.  The table is in s3_retry.c.
 */
#ifndef S3_S3_RETRY_H
#define S3_S3_RETRY_H

#include <stdbool.h>
#include <stdint.h>

/* What was seen of one attempt; all zero but for what applies. */
struct s3_seen {
    /*
     * Why there is no whole answer, a negative errno of s3_pool_borrow or
     * http_exchange, or 0: then status is that of a final answer.  A status
     * of 300 and above counts even if error says that its body was cut off.
     */
    int error;
    unsigned status;  /* 0: none was received */
    const char *code; /* of the error document; NULL or "": there was none */

    bool is_connected; /* the request could begin: not so, error is of connect
                          or TLS handshake */
    bool is_reused;    /* the connection had carried another request before */
    bool any_byte;     /* of the answer was received */
    bool is_sent;      /* all of the request left this host, body and all */

    bool is_conditional; /* a put with If-None-Match */
    bool may_be_absent; /* get, head or delete of an object: 404 is an answer */
    bool is_head;       /* there is no body, hence no code */

    uint64_t skew_s;       /* between the answer's Date and x-amz-date */
    bool has_retry_after;  /* the answer says when to come again */
    bool may_be_applied;   /* s3_retry_may_be_applied of an earlier attempt */
    bool free_is_used;     /* S3_VERDICT_AGAIN_NOW was followed already */
    bool clock_is_fixed;   /* S3_VERDICT_CLOCK was, */
    bool credentials_read; /* S3_VERDICT_CREDENTIALS, */
    bool region_followed;  /* S3_VERDICT_REGION, or there is none to follow */
};

enum s3_verdict {
    /* 2xx: the caller looks whether headers and body are what it asked for. */
    S3_VERDICT_DONE,
    /*
     * The object is not there: said by the store itself.  But an answer to a
     * HEAD has no words: it may be a proxy's, or mean the bucket.
     */
    S3_VERDICT_ABSENT,
    /* The key of a conditional put is taken, by somebody else. */
    S3_VERDICT_EXISTS,
    /* It is taken, maybe by an earlier attempt: get and compare. */
    S3_VERDICT_COMPARE,
    /* Try again at once on a fresh connection; counts as no attempt. */
    S3_VERDICT_AGAIN_NOW,
    /* Try again after s3_retry_delay_ns, on another endpoint if there is. */
    S3_VERDICT_AGAIN,
    /* The same, and the store wants fewer requests. */
    S3_VERDICT_THROTTLED,
    /* Learn the clock's offset from Date, then try at once. */
    S3_VERDICT_CLOCK,
    /*
     * Have the credentials read again.  They changed: try at once.  They did
     * not: judge again, with credentials_read.
     */
    S3_VERDICT_CREDENTIALS,
    /*
     * Follow the region that the answer names, then try at once.  It names
     * none, or the one in use: judge again, with region_followed.
     */
    S3_VERDICT_REGION,
    /* The store refuses, and will until somebody changes something. */
    S3_VERDICT_CONFIGURATION,
    /* The store knows no conditional put. */
    S3_VERDICT_NO_CONDITIONAL,
    /* The answer makes no sense: try again a few times, then give up. */
    S3_VERDICT_NONSENSE,
};

/* What an attempt says of the endpoint: see s3_endpoint.h, s3_gate.h. */
enum s3_health {
    S3_HEALTH_ANSWERED,     /* well: also by refusing what we want */
    S3_HEALTH_THROTTLED,    /* well, but has too much to do */
    S3_HEALTH_SERVER_ERROR, /* 5xx, or an answer that makes no sense */
    S3_HEALTH_BROKEN,       /* connected, then silent or cut off */
    S3_HEALTH_UNREACHABLE,  /* there was no connection to be had */
    S3_HEALTH_ABANDONED,    /* ended by us: says nothing */
};

/* Returns what to do after this attempt. */
enum s3_verdict s3_retry_judge(const struct s3_seen *seen);

/* Returns what this attempt says of its endpoint. */
enum s3_health s3_retry_health(const struct s3_seen *seen);

/*
 * Returns whether this attempt of a put, which did not succeed, may have
 * created the object all the same, now or later.
 */
bool s3_retry_may_be_applied(const struct s3_seen *seen);

/*
 * Returns how long to wait before the next attempt: a random time, up to a
 * limit that doubles with each one, from 50 ms to 2 s, or if throttled from
 * 1 s to 20 s; never less than after_ns.  attempt counts from 1: those that
 * failed so far.  random is any 64 random bits.
 */
uint64_t s3_retry_delay_ns(unsigned attempt, bool is_throttled,
                           uint64_t after_ns, uint64_t random);

/*
 * Returns how long the answer asks us to wait, at most half a minute; 0: it
 * does not say.  retry_after is the header of that name, seconds or a date;
 * milliseconds is x-amz-retry-after; each may be NULL.  now_s is the answer's
 * own Date, or the time here, in seconds since 1970.
 */
uint64_t s3_retry_after_ns(const char *retry_after, const char *milliseconds,
                           uint64_t now_s);

#endif
