/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_describe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/json_string.h"
#include "s3/credentials.h"
#include "s3/s3_endpoint.h"
#include "s3/s3_gate.h"
#include "s3/s3_hedge.h"
#include "s3/s3_parts.h"
#include "s3/s3_places.h"

/* As a member of an object that has others before it. */
static void write_member(FILE *file, const char *name, const char *text)
{
    (void)fprintf(file, ", \"%s\": ", name);
    json_string_write(file, text);
}

static void write_place(FILE *file, struct s3_parts *parts)
{
    struct s3_site site;
    uint64_t there_s;

    s3_places_look(parts->places, 0, 0, &site, &there_s);
    (void)fprintf(file, "\"bucket\": ");
    json_string_write(file, site.bucket);
    write_member(file, "prefix", site.prefix);
    write_member(file, "region", site.region);
}

static void write_credentials(FILE *file, struct s3_parts *parts)
{
    struct credentials_summary summary;

    credentials_summarize(parts->credentials, &summary);
    (void)fprintf(file, ", \"credentials\": {\"expires_ns\": %" PRIu64,
                  summary.expires_ns == CREDENTIALS_NEVER ? 0
                                                          : summary.expires_ns);
    write_member(file, "source", summary.source);
    write_member(file, "access_key_start", summary.access_key_start);
    write_member(file, "problem", summary.problem);
    (void)fputc('}', file);
}

static void write_requests(FILE *file, struct s3_parts *parts)
{
    struct s3_gate_state gate;
    struct s3_hedge_counts hedges;

    s3_gate_look(parts->gate, &gate);
    s3_hedge_look(parts->hedges, &hedges);
    (void)fprintf(file,
                  ", \"requests\": {\"places\": %u, \"places_max\": %u, "
                  "\"waited_for\": %u, \"ahead\": %u, \"background\": %u, "
                  "\"halvings\": %" PRIu64 "}",
                  gate.places, gate.max, gate.in_flight[OBJECT_WAITED_FOR],
                  gate.in_flight[OBJECT_AHEAD],
                  gate.in_flight[OBJECT_BACKGROUND], gate.cuts);
    (void)fprintf(file,
                  ", \"hedges\": {\"gets\": %" PRIu64 ", \"begun\": %" PRIu64
                  ", \"won\": %" PRIu64 "}",
                  hedges.gets, hedges.begun, hedges.won);
}

char *s3_describe(struct s3_parts *parts)
{
    AUTO_FREE char *endpoints =
        s3_endpoints_describe(parts->endpoints, clock_monotonic_ns());
    char *text = NULL;
    size_t len;
    FILE *file;

    file = endpoints ? open_memstream(&text, &len) : NULL;
    if (!file)
        return NULL;
    (void)fputc('{', file);
    write_place(file, parts);
    write_credentials(file, parts);
    write_requests(file, parts);
    /* Theirs is an object, too, of one member, which becomes one of ours. */
    (void)fprintf(file, ", %s", endpoints + 1);
    if (fclose(file) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
