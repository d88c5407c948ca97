/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_reader.h"

#include "support/key_service.h"
#include "unit/test.h"

TEST("the environment is this process's, unless another one is given")
{
    struct credentials_reader own = {0};
    struct key_service *service = key_service_start(NULL, 0);
    const struct credentials_reader *other = key_service_reader(service);

    NEED(setenv("S3BLKDEV_TEST", "x=y", 1) == 0);
    NEED(setenv("S3BLKDEV_TEST_EMPTY", "", 1) == 0);
    CHECK(strcmp(credentials_reader_get(&own, "S3BLKDEV_TEST"), "x=y") == 0);
    CHECK(!credentials_reader_get(&own, "S3BLKDEV_TES"));
    CHECK(!credentials_reader_get(&own, "S3BLKDEV_TEST_EMPTY"));
    CHECK(!credentials_reader_get(other, "S3BLKDEV_TEST"));
    key_service_set(service, "A", "1");
    CHECK(strcmp(credentials_reader_get(other, "A"), "1") == 0);
    key_service_set(service, "A", "");
    CHECK(!credentials_reader_get(other, "A"));
    key_service_stop(service);
}

TEST("a value loses the line feed at its end, and is refused with another")
{
    struct net_failure failure;
    struct credentials_set *set;

    NEED(credentials_set_new(&set) == 0);
    CHECK(credentials_reader_put(set, CREDENTIALS_SECRET_KEY, "x", "ab\n", 3,
                                 &failure) == 0);
    CHECK(strcmp(set->secret_key, "ab") == 0);
    CHECK(credentials_reader_put(set, CREDENTIALS_SECRET_KEY, "the secret",
                                 "a\nb\n", 4, &failure) == -EACCES);
    CHECK(strcmp(failure.text, "the secret has more than one line") == 0);
    CHECK(strcmp(set->secret_key, "ab") == 0);
    credentials_set_free(set);
}

TEST("the region is that of AWS_REGION, else of AWS_DEFAULT_REGION, if any")
{
    struct key_service *service = key_service_start(NULL, 0);
    const struct credentials_reader *reader = key_service_reader(service);
    struct net_failure failure;
    struct credentials_set *set;

    NEED(credentials_set_new(&set) == 0);
    CHECK(credentials_reader_put_region(reader, set, &failure) == 0);
    CHECK(set->region[0] == '\0');
    key_service_set(service, "AWS_DEFAULT_REGION", "a");
    CHECK(credentials_reader_put_region(reader, set, &failure) == 0);
    CHECK(strcmp(set->region, "a") == 0);
    key_service_set(service, "AWS_REGION", "b");
    CHECK(credentials_reader_put_region(reader, set, &failure) == 0);
    CHECK(strcmp(set->region, "b") == 0);
    key_service_set(service, "AWS_REGION", "b c");
    CHECK(credentials_reader_put_region(reader, set, &failure) == -EACCES);
    CHECK(strncmp(failure.text, "AWS_REGION has", 14) == 0);
    credentials_set_free(set);
    key_service_stop(service);
}
