/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_complaint.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

static const uint64_t AGAIN_NS = UINT64_C(600) * 1000000000;

void s3_complaint_init(struct s3_complaint *complaint)
{
    mutex_init(&complaint->mutex);
    atomic_init(&complaint->is_open, false);
    complaint->again_ns = 0;
    complaint->text[0] = '\0';
}

void s3_complaint_done(struct s3_complaint *complaint)
{
    mutex_done(&complaint->mutex);
}

bool s3_complaint_say(struct s3_complaint *complaint, const char *text,
                      uint64_t now_ns)
{
    char shown[sizeof(complaint->text)];
    bool is_news;

    (void)snprintf(shown, sizeof(shown), "%s", text);
    mutex_lock(&complaint->mutex);
    is_news =
        !atomic_load_explicit(&complaint->is_open, memory_order_relaxed) ||
        now_ns >= complaint->again_ns || strcmp(shown, complaint->text) != 0;
    if (is_news) {
        complaint->again_ns = now_ns + AGAIN_NS;
        memcpy(complaint->text, shown, sizeof(shown));
        atomic_store_explicit(&complaint->is_open, true, memory_order_relaxed);
    }
    mutex_unlock(&complaint->mutex);
    if (is_news)
        log_error("%s", shown);
    return is_news;
}

void s3_complaint_settle(struct s3_complaint *complaint)
{
    if (!atomic_load_explicit(&complaint->is_open, memory_order_relaxed))
        return;
    if (atomic_exchange_explicit(&complaint->is_open, false,
                                 memory_order_relaxed))
        log_info("S3: what was refused is granted again");
}
