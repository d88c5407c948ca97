/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_tally.h"

#include "unit/test.h"

static const uint64_t MS = 1000000;
static const uint64_t S = 1000000000;

static void end(struct s3_tally *tally, enum s3_health health,
                uint64_t latency_ns, uint64_t now_ns)
{
    const struct s3_outcome outcome = {.health = health,
                                       .latency_ns = latency_ns,
                                       .bytes_up = 3,
                                       .bytes_down = 5,
                                       .text = "connection refused"};

    s3_tally_begin(tally);
    s3_tally_end(tally, &outcome, now_ns);
}

/* As a JSON object; the caller frees it. */
static char *written(const struct s3_tally *tally, uint64_t epoch_ns)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        abort();
    s3_tally_write(tally, epoch_ns, stream);
    if (fclose(stream) != 0)
        abort();
    return text;
}

TEST("what is neither answered, nor throttled, nor given up is an error")
{
    static const struct {
        enum s3_health health;
        unsigned errors, throttled;
    } rows[] = {{S3_HEALTH_ANSWERED, 0, 0},     {S3_HEALTH_THROTTLED, 0, 1},
                {S3_HEALTH_SERVER_ERROR, 1, 0}, {S3_HEALTH_BROKEN, 1, 0},
                {S3_HEALTH_UNREACHABLE, 1, 0},  {S3_HEALTH_ABANDONED, 0, 0}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct s3_tally tally = {0};

        end(&tally, rows[i].health, 0, 7 * S);
        CHECK(tally.requests == 1 && tally.in_flight == 0);
        CHECK(tally.errors == rows[i].errors);
        CHECK(tally.throttled == rows[i].throttled);
        CHECK(tally.bytes_up == 3 && tally.bytes_down == 5);
        CHECK((tally.last_error_ns == 7 * S) == (rows[i].errors > 0));
        CHECK((tally.last_error[0] != '\0') == (rows[i].errors > 0));
    }
}

TEST("a later error replaces the one before, and a long one is cut off")
{
    char text[1000];
    struct s3_tally tally = {0};
    struct s3_outcome outcome = {.health = S3_HEALTH_BROKEN, .text = text};

    end(&tally, S3_HEALTH_UNREACHABLE, 0, S);
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    s3_tally_begin(&tally);
    CHECK(tally.in_flight == 1);
    s3_tally_end(&tally, &outcome, 2 * S);
    CHECK(strlen(tally.last_error) == S3_TALLY_TEXT - 1);
    CHECK(tally.last_error[0] == 'x' && tally.last_error_ns == 2 * S);
    outcome.text = NULL;
    s3_tally_begin(&tally);
    s3_tally_end(&tally, &outcome, 3 * S);
    CHECK(tally.last_error[0] == '\0' && tally.last_error_ns == 3 * S);
}

TEST("latencies of long ago are in the sum, and count for less in the latest")
{
    struct s3_tally tally = {0};

    for (unsigned i = 0; i < 100; i++)
        end(&tally, S3_HEALTH_ANSWERED, 10 * MS, 1000 * S);
    CHECK(tally.latest.total == 100);
    end(&tally, S3_HEALTH_ANSWERED, 10 * MS, 1059 * S);
    CHECK(tally.latest.total == 101);
    end(&tally, S3_HEALTH_ANSWERED, 10 * MS, 1060 * S);
    CHECK(tally.latest.total == 51);
    end(&tally, S3_HEALTH_ANSWERED, 500 * MS, 1180 * S);
    CHECK(tally.latest.total == 13);
    /* After hours only what comes now. */
    end(&tally, S3_HEALTH_ANSWERED, 500 * MS, 90000 * S);
    CHECK(tally.latest.total == 1);
    CHECK(histogram_percentile(&tally.latest, 500) > 400 * MS);
    CHECK(tally.latencies.total == 104);
    end(&tally, S3_HEALTH_ANSWERED, 500 * MS, 90059 * S);
    CHECK(tally.latest.total == 2);
}

TEST("what had no first byte has no latency")
{
    struct s3_tally tally = {0};

    end(&tally, S3_HEALTH_BROKEN, 0, S);
    CHECK(tally.latencies.total == 0 && tally.latest.total == 0);
    end(&tally, S3_HEALTH_ANSWERED, 3, S);
    end(&tally, S3_HEALTH_ANSWERED, 4, S);
    CHECK(tally.latencies.total == 2 && tally.latency_ns == 7);
}

TEST("written, each member has its key, and moments are since 1970")
{
    struct s3_tally tally = {0};
    char *text;

    end(&tally, S3_HEALTH_ANSWERED, 1, 8 * S);
    end(&tally, S3_HEALTH_ANSWERED, UINT64_MAX, 8 * S);
    end(&tally, S3_HEALTH_UNREACHABLE, 0, 9 * S);
    tally.rests = 4;
    text = written(&tally, 1000 * S);
    CHECK(strstr(text, ", \"requests\": 3, \"errors\": 1, \"throttled\": 0, "
                       "\"rests\": 4, \"bytes_up\": 9, \"bytes_down\": 15, "
                       "\"in_flight\": 0, \"latency_p50_ns\": 1") == text);
    CHECK(strstr(text, "\"latency_sum_ns\": "));
    CHECK(strstr(text, "\"latency_buckets\": [{\"le_ns\": 16383, \"count\": "
                       "1}, {\"le_ns\": null, \"count\": 1}], "
                       "\"last_error\": \"connection refused\", "
                       "\"last_error_ns\": 1009000000000") != NULL);
    free(text);
}

TEST("an empty one is written without buckets and errors")
{
    const struct s3_tally tally = {0};
    char *text = written(&tally, 1000 * S);

    CHECK(strcmp(text, ", \"requests\": 0, \"errors\": 0, \"throttled\": 0, "
                       "\"rests\": 0, \"bytes_up\": 0, \"bytes_down\": 0, "
                       "\"in_flight\": 0, \"latency_p50_ns\": 0, "
                       "\"latency_p99_ns\": 0, \"latency_sum_ns\": 0, "
                       "\"latency_buckets\": [], "
                       "\"last_error\": \"\", \"last_error_ns\": 0") == 0);
    free(text);
}
