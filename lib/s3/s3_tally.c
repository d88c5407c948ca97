/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_tally.h"

#include <inttypes.h>

#include "base/json_string.h"

/* Of the latest latencies, those that are older count for half. */
static const uint64_t HALVE_NS = UINT64_C(60000000000);

void s3_tally_begin(struct s3_tally *tally)
{
    tally->in_flight++;
}

static void add_latency(struct s3_tally *tally, uint64_t latency_ns,
                        uint64_t now_ns)
{
    while (tally->latest.total > 0 && now_ns >= tally->halved_ns + HALVE_NS) {
        histogram_halve(&tally->latest);
        tally->halved_ns += HALVE_NS;
    }
    if (tally->latest.total == 0)
        tally->halved_ns = now_ns;
    tally->latency_ns += latency_ns;
    histogram_add(&tally->latencies, latency_ns);
    histogram_add(&tally->latest, latency_ns);
}

void s3_tally_end(struct s3_tally *tally, const struct s3_outcome *outcome,
                  uint64_t now_ns)
{
    bool is_error = outcome->health == S3_HEALTH_SERVER_ERROR ||
                    outcome->health == S3_HEALTH_BROKEN ||
                    outcome->health == S3_HEALTH_UNREACHABLE;

    tally->in_flight--;
    tally->requests++;
    tally->errors += is_error;
    tally->throttled += outcome->health == S3_HEALTH_THROTTLED;
    tally->bytes_up += outcome->bytes_up;
    tally->bytes_down += outcome->bytes_down;
    if (outcome->latency_ns > 0)
        add_latency(tally, outcome->latency_ns, now_ns);
    if (is_error) {
        (void)snprintf(tally->last_error, S3_TALLY_TEXT, "%s",
                       outcome->text ? outcome->text : "");
        tally->last_error_ns = now_ns;
    }
}

static void write_number(FILE *stream, const char *key, uint64_t value)
{
    (void)fprintf(stream, ", \"%s\": %" PRIu64, key, value);
}

static void write_buckets(FILE *stream, const struct histogram *latencies)
{
    const char *separator = "";

    (void)fprintf(stream, ", \"latency_buckets\": [");
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t end_ns = histogram_bucket_end_ns(i);

        if (latencies->counts[i] == 0)
            continue;
        (void)fprintf(stream, "%s{\"le_ns\": ", separator);
        if (end_ns == UINT64_MAX)
            (void)fprintf(stream, "null");
        else
            (void)fprintf(stream, "%" PRIu64, end_ns);
        (void)fprintf(stream, ", \"count\": %" PRIu64 "}",
                      latencies->counts[i]);
        separator = ", ";
    }
    (void)fprintf(stream, "]");
}

void s3_tally_write(const struct s3_tally *tally, uint64_t epoch_ns,
                    FILE *stream)
{
    write_number(stream, "requests", tally->requests);
    write_number(stream, "errors", tally->errors);
    write_number(stream, "throttled", tally->throttled);
    write_number(stream, "rests", tally->rests);
    write_number(stream, "bytes_up", tally->bytes_up);
    write_number(stream, "bytes_down", tally->bytes_down);
    write_number(stream, "in_flight", tally->in_flight);
    write_number(stream, "latency_p50_ns",
                 histogram_percentile(&tally->latest, 500));
    write_number(stream, "latency_p99_ns",
                 histogram_percentile(&tally->latest, 990));
    write_number(stream, "latency_sum_ns", tally->latency_ns);
    write_buckets(stream, &tally->latencies);
    (void)fputs(", \"last_error\": ", stream);
    json_string_write(stream, tally->last_error);
    write_number(stream, "last_error_ns",
                 tally->last_error_ns > 0 ? tally->last_error_ns + epoch_ns
                                          : 0);
}
