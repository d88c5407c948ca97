/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * race_credentials - requests borrow keys while those are replaced.
 */
#include <pthread.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "s3/credentials.h"
#include "unit/test.h"

#define LATER UINT64_MAX

enum { BORROWERS = 3, BORROWINGS = 2000, REFUSALS = 20 };

/* Make or replace the file with keys, at once. */
static void write_keys(const char *path, const char *key)
{
    char new_path[PATH_MAX + 128];
    FILE *file;

    (void)snprintf(new_path, sizeof(new_path), "%s.new", path);
    file = fopen(new_path, "we");
    if (!file ||
        fprintf(file, "aws_access_key_id = %s\naws_secret_access_key = %s\n",
                key, key) < 0 ||
        fclose(file) != 0 || chmod(new_path, 0600) != 0 ||
        rename(new_path, path) != 0)
        abort();
}

/* Borrow and return, as requests do: a set does not change meanwhile. */
static void *borrow(void *argument)
{
    struct credentials *credentials = argument;

    for (unsigned i = 0; i < BORROWINGS; i++) {
        const struct credentials_set *set = NULL;

        if (!CHECK(credentials_borrow(credentials, LATER, &set) == 0))
            break;
        CHECK(strcmp(set->access_key, set->secret_key) == 0);
        credentials_return(credentials, set);
    }
    return NULL;
}

TEST("keys are replaced under those who sign, are refused, and look")
{
    char path[PATH_MAX + 64], source[PATH_MAX + 128];
    struct credentials_options options = {.source = source};
    struct credentials_summary summary;
    struct credentials *credentials;
    pthread_t threads[BORROWERS];
    unsigned changes = 0;

    log_set_level(LOG_LEVEL_ERROR);
    (void)snprintf(path, sizeof(path), "%s/keys", test_dir());
    (void)snprintf(source, sizeof(source), "file:%s", path);
    write_keys(path, "FIRST");
    clock_set_for_tests(UINT64_C(1) << 60);
    NEED(credentials_new(&options, &credentials) == 0);
    for (size_t i = 0; i < BORROWERS; i++)
        NEED(pthread_create(&threads[i], NULL, borrow, credentials) == 0);
    for (unsigned i = 0; i < REFUSALS; i++) {
        const struct credentials_set *set = NULL;

        NEED(credentials_borrow(credentials, LATER, &set) == 0);
        write_keys(path, i % 2 == 0 ? "ONE" : "TWO");
        clock_set_for_tests(clock_monotonic_ns() + UINT64_C(10000000000));
        changes += credentials_refused(credentials, set, LATER);
        credentials_summarize(credentials, &summary);
        CHECK(summary.problem[0] == '\0');
        credentials_return(credentials, set);
    }
    CHECK(changes == REFUSALS);
    for (size_t i = 0; i < BORROWERS; i++)
        (void)pthread_join(threads[i], NULL);
    credentials_free(credentials);
    clock_set_for_tests(0);
}
