/* SPDX-License-Identifier: BSD-2-Clause */
#include "config_table.h"

#include "config.h"
#include "unit/test.h"

/* Returns what config_table_store says of a value of that setting. */
static int store(const char *name, const char *value, void *object)
{
    char copy[512];

    (void)snprintf(copy, sizeof(copy), "%s", value);
    return config_table_store(config_table_find(name), copy, object);
}

TEST("every setting is found by its name, and no other")
{
    for (size_t i = 0; i < CONFIG_TABLE_COUNT; i++)
        CHECK(config_table_find(config_table_at(i)->name) == i);
    CHECK(config_table_find("") == CONFIG_TABLE_COUNT);
    CHECK(config_table_find("listen ") == CONFIG_TABLE_COUNT);
    CHECK(config_table_find("Listen") == CONFIG_TABLE_COUNT);
}

TEST("every setting describes itself, shortly")
{
    struct config_description description;
    size_t count = 0;

    for (; config_describe(count, &description); count++) {
        CHECK(strlen(description.help) > 10 && strlen(description.help) <= 72);
        CHECK(strlen(description.allowed) > 5);
        CHECK(strlen(description.allowed) < CONFIG_TABLE_ALLOWED - 1);
    }
    CHECK(count == CONFIG_TABLE_COUNT);
}

TEST("every default is a value that the setting takes")
{
    for (size_t i = 0; i < CONFIG_TABLE_COUNT; i++) {
        const struct config_setting *setting = config_table_at(i);
        struct config config = {.port = 0};
        struct config_device device = {.size = 0};
        void *object =
            setting->scope == CONFIG_GLOBAL ? (void *)&config : (void *)&device;

        if (setting->initial)
            CHECK(store(setting->name, setting->initial, object) == 0);
    }
}

TEST("what is allowed names the bounds and gives a valid example")
{
    char text[CONFIG_TABLE_ALLOWED];

    config_table_describe_allowed(config_table_find("workers"), text);
    CHECK(strcmp(text, "a number from 1 to 127") == 0);
    config_table_describe_allowed(config_table_find("chunksize"), text);
    CHECK(strcmp(text, "a size from 256K to 32M, such as 8M, a power of two") ==
          0);
    config_table_describe_allowed(config_table_find("loglevel"), text);
    CHECK(strcmp(text, "error, warning, info or debug") == 0);
    config_table_describe_allowed(config_table_find("grace"), text);
    CHECK(strcmp(text, "a time from 1s to 365d, such as 24h") == 0);
    config_table_describe_allowed(config_table_find("s3ssl"), text);
    CHECK(strcmp(text, "0 or 1") == 0);
}

TEST("a near name is found, a far one is not")
{
    static const struct {
        const char *wrong, *right;
    } names[] = {
        {"worker", "workers"},           {"lisen", "listen"},
        {"cache_dir", "cachedir"},       {"s3secretky", "s3secretkey"},
        {"journal-size", "journalsize"}, {"readonyl", "readonly"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        CHECK(config_table_find_nearest(names[i].wrong) ==
              config_table_find(names[i].right));
    CHECK(config_table_find_nearest("colour") == CONFIG_TABLE_COUNT);
    CHECK(config_table_find_nearest("zz") == CONFIG_TABLE_COUNT);
    CHECK(config_table_find_nearest(
              "sizesizesizesizesizesizesizesizesizesizesizesizesizesizesizesize"
              "size") == CONFIG_TABLE_COUNT);
}

TEST("a value goes into its field, and into no other")
{
    struct config config = {.port = 1}, before = config;

    CHECK(store("workers", "77", &config) == 0);
    CHECK(config.workers == 77);
    config.workers = 0;
    CHECK(memcmp(&config, &before, sizeof(config)) == 0);
    CHECK(store("workers", "128", &config) == -EINVAL);
    CHECK(memcmp(&config, &before, sizeof(config)) == 0);
}

TEST("a list takes each value once, and only so many")
{
    struct config config = {.port = 0};

    CHECK(store("s3port", "1", &config) == 0);
    CHECK(store("s3port", "1", &config) == -EEXIST);
    CHECK(store("s3port", "65536", &config) == -EINVAL);
    CHECK(store("s3port", "2", &config) == 0);
    CHECK(store("s3port", "3", &config) == 0);
    CHECK(store("s3port", "4", &config) == 0);
    CHECK(store("s3port", "5", &config) == -E2BIG);
    CHECK(config.s3ports.count == 4);
    CHECK(strcmp(config.s3ports.items[3], "4") == 0);
    config_table_free_values(CONFIG_GLOBAL, &config);
}

TEST("paths are absolute, without . and .., and made canonical")
{
    static const char *const wrong[] = {
        "",    "/",     "//",     "a",       "./a",   "/.",
        "/..", "/a/..", "/a/./b", "/a/../b", "/\x01", "/\xff",
    };
    struct config_device device = {.size = 0};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        CHECK(store("cachedir", wrong[i], &device) == -EINVAL);
    CHECK(!device.cachedir);
    NEED(store("cachedir", "//a///b.//..c//", &device) == 0);
    CHECK(strcmp(device.cachedir, "/a/b./..c") == 0);
    NEED(store("journal", "/\xc3\xa4 b", &device) == 0);
    CHECK(strcmp(device.journal, "/\xc3\xa4 b") == 0);
    config_table_free_values(CONFIG_DEVICE, &device);
}

TEST("text is UTF-8 without control characters")
{
    static const char *const wrong[] = {
        "a\tb",
        "\x7f",
        "\x80",
        "\xc3",
        "\xc3(",
        "\xe2\x82",
        "\xf5\x80\x80\x80",
        "\xed\xa0\x80",
        "\xe0\x80\xaf",
    };
    struct config_device device = {.size = 0};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        CHECK(store("description", wrong[i], &device) == -EINVAL);
    CHECK(store("description", "\xe2\x82\xac \xf0\x9f\x98\x80", &device) == 0);
    config_table_free_values(CONFIG_DEVICE, &device);
}
