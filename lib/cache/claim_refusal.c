/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/claim_refusal.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"

/* An age in the unit that suits it. */
struct age {
    uint64_t count;
    const char *unit;
};

static struct age age_of(const struct epoch_record *record)
{
    uint64_t now_ns = clock_realtime_ns();
    uint64_t seconds =
        now_ns > record->time_ns ? (now_ns - record->time_ns) / 1000000000 : 0;

    if (seconds < 120)
        return (struct age){seconds, "seconds"};
    if (seconds < 120 * 60)
        return (struct age){seconds / 60, "minutes"};
    if (seconds < 48 * 60 * 60)
        return (struct age){seconds / 60 / 60, "hours"};
    return (struct age){seconds / 60 / 60 / 24, "days"};
}

const char *claim_refusal_host(const struct epoch_record *record)
{
    return record->host[0] != '\0' ? record->host : "(unknown)";
}

/* What another host did, and what the user can do. */
struct refusal {
    const char *what;
    const char *advice; /* the device's name follows */
};

static const struct refusal REFUSALS[] = {
    [CLAIM_REFUSE_HELD] =
        {"another host writes this device",
         "Is the cache disk mounted?  If that host is gone for good:"
         " s3blkdev-sync takeover"},
    [CLAIM_REFUSE_COPY] =
        {"this cache directory is an old copy, another one went on",
         "If that one is gone for good: s3blkdev-sync takeover"},
    [CLAIM_REFUSE_DIRTY] =
        {"here is what no image has, but the device went on elsewhere",
         "Keep what is here as a device of its own (s3blkdev-sync fork), or"
         " give it up: s3blkdev-sync discard"},
    [CLAIM_REFUSE_DROPPED] =
        {"the device was dropped",
         "What is here can be kept as another device: s3blkdev-sync fork"},
    [CLAIM_REFUSE_CONFLICT] =
        {"two hosts created the newest epoch, both images are kept",
         "Say on which host the device goes on: s3blkdev-sync takeover"},
};

static void log_refusal(const char *device_name, const struct refusal *refusal,
                        const struct epoch_record *record)
{
    struct age age = age_of(record);

    log_error("%s: %s: host %s, %" PRIu64 " %s ago, epoch %" PRIu64 ".  %s %s",
              device_name, refusal->what, claim_refusal_host(record), age.count,
              age.unit, record->epoch, refusal->advice, device_name);
}

void claim_refusal_log(const char *device_name, enum claim_action action,
                       const struct epoch_record *record)
{
    switch (action) {
    case CLAIM_REFUSE_HELD:
    case CLAIM_REFUSE_COPY:
    case CLAIM_REFUSE_DIRTY:
    case CLAIM_REFUSE_DROPPED:
    case CLAIM_REFUSE_CONFLICT:
        log_refusal(device_name, &REFUSALS[action], record);
        break;
    case CLAIM_SERVE:
        log_warning("%s: the store does not answer: what is here is served,"
                    " nothing is uploaded",
                    device_name);
        break;
    case CLAIM_SERVE_LOST:
        log_error("%s: the store does not have the last epochs of the device:"
                  " wrong bucket, or an old copy of it?  What is here is"
                  " served, nothing is uploaded",
                  device_name);
        break;
    case CLAIM_WAIT: /* said once by who opens the device, again and again */
    case CLAIM_CREATE:
    case CLAIM_GO_ON:
    case CLAIM_LOAD:
    case CLAIM_TAKE:
    case CLAIM_TAKE_OWN:
        break;
    }
}
