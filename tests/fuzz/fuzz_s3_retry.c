/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_s3_retry - anything that a server may say, or not say: status, code
 * and Retry-After.
 *
 * Once everything that is followed only once was followed, nothing of it is
 * said again; no key is taken for absent or for existing by who did not ask;
 * no wait is longer than half a minute and a bit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "s3/s3_retry.h"

enum { HEAD = 14 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct s3_seen see(const uint8_t *data, const char *code)
{
    static const int errors[] = {0,       -ECONNRESET,   -ETIMEDOUT,
                                 -EPROTO, -EMSGSIZE,     -ECONNABORTED,
                                 -ENOMEM, -ECONNREFUSED, -ECANCELED};
    unsigned flags = get_le16(data + 3);

    return (struct s3_seen){
        .error = errors[data[0] % (sizeof(errors) / sizeof(errors[0]))],
        .status = get_le16(data + 1) % 1000,
        .code = code,
        .is_connected = flags & 1,
        .is_reused = flags & 2,
        .any_byte = flags & 4,
        .is_sent = flags & 8,
        .is_conditional = flags & 16,
        .may_be_absent = flags & 32,
        .is_head = flags & 64,
        .has_retry_after = flags & 128,
        .may_be_applied = flags & 256,
        .free_is_used = flags & 512,
        .clock_is_fixed = flags & 1024,
        .credentials_read = flags & 2048,
        .region_followed = flags & 4096,
        .skew_s = data[5],
    };
}

static void try_judge(struct s3_seen seen)
{
    enum s3_verdict verdict = s3_retry_judge(&seen);

    if (verdict == S3_VERDICT_DONE &&
        (seen.error != 0 || seen.status < 200 || seen.status > 299))
        abort();
    if (verdict == S3_VERDICT_ABSENT && !seen.may_be_absent)
        abort();
    if ((verdict == S3_VERDICT_EXISTS || verdict == S3_VERDICT_COMPARE ||
         verdict == S3_VERDICT_NO_CONDITIONAL) &&
        !seen.is_conditional)
        abort();
    if (verdict == S3_VERDICT_EXISTS && seen.may_be_applied)
        abort();
    if (s3_retry_health(&seen) > S3_HEALTH_ABANDONED)
        abort();
    if (s3_retry_may_be_applied(&seen) && !seen.is_sent)
        abort();
    seen.free_is_used = seen.clock_is_fixed = true;
    seen.credentials_read = seen.region_followed = true;
    verdict = s3_retry_judge(&seen);
    if (verdict == S3_VERDICT_AGAIN_NOW || verdict == S3_VERDICT_CLOCK ||
        verdict == S3_VERDICT_CREDENTIALS || verdict == S3_VERDICT_REGION)
        abort();
}

static void try_delay(const uint8_t *data, const char *text)
{
    const uint64_t longest_ns = UINT64_C(30000000000);
    uint64_t random = get_le64(data + 6), now_s = random % 253402300800;
    uint64_t after_ns = s3_retry_after_ns(text, NULL, now_s), delay_ns;

    if (after_ns > longest_ns ||
        s3_retry_after_ns(NULL, text, now_s) > longest_ns)
        abort();
    delay_ns = s3_retry_delay_ns(data[0], data[3] & 1, after_ns, random);
    if (delay_ns < after_ns || delay_ns > longest_ns + longest_ns / 8)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[128];
    size_t len = size - HEAD;

    if (size < HEAD || len >= sizeof(text))
        return 0;
    memcpy(text, data + HEAD, len);
    text[len] = '\0';
    try_judge(see(data, text));
    try_delay(data, text);
    return 0;
}
