/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/device_tell.h"

#include "base/json_check.h"
#include "cache/catalog.h"
#include "cache/control_message.h"
#include "support/device_fixture.h"
#include "unit/test.h"

enum { CHUNK = 256 << 10 };

static struct device_fixture fixture;
static struct control_message reply;

/* A device of 64 chunks: 3 and 4 are dirty, 10 is zeros, 20 is remote and 21
 * clean; the others are holes. */
static bool begin(void)
{
    static uint8_t data[2 * CHUNK];
    struct catalog_entry entry = {
        .generation = 5, .uploaded_generation = 5, .flags = CATALOG_FILE};
    struct catalog *catalog;

    fixture_begin(&fixture, test_dir(), false);
    fixture_fill(data, sizeof(data), 1);
    if (!CHECK(fixture_open(&fixture) == 0) ||
        !CHECK(fixture_write(&fixture, 3 * CHUNK, data, sizeof(data), 0) ==
               0) ||
        !CHECK(fixture_zero(&fixture, 10 * CHUNK, CHUNK, DEVICE_NO_HOLE) ==
               0) ||
        !CHECK(device_destage(fixture.device) == 0))
        return false;
    catalog = device_catalog(fixture.device);
    entry.file_pages = 1;
    if (!CHECK(catalog_set(catalog, 20, &entry) == 0))
        return false;
    entry.file_pages = 60;
    return CHECK(catalog_set(catalog, 21, &entry) == 0);
}

static void end(void)
{
    static const struct catalog_entry hole;

    /* Whoever closes it must not look for files that never were. */
    (void)catalog_set(device_catalog(fixture.device), 20, &hole);
    (void)catalog_set(device_catalog(fixture.device), 21, &hole);
    fixture_end(&fixture);
}

static uint64_t number_of(const char *key)
{
    uint64_t value = UINT64_MAX;

    (void)control_message_get_number(&reply, key, 0, UINT64_MAX, &value);
    return value;
}

/* Whether the map ends in these cells, and is JSON. */
static bool map_is(uint64_t from, uint64_t to, uint64_t cells,
                   const char *expected)
{
    const struct device_map map = {.from = from, .to = to, .cells = cells};
    char *text = device_map_json(fixture.device, &map), *found;
    bool is_same;

    if (!CHECK(text))
        return false;
    text[strlen(text) - 1] = '\0'; /* the newline */
    found = strstr(text, "\"from\"");
    is_same = json_check_object(text, strlen(text)) && found &&
              strcmp(found, expected) == 0;
    if (!is_same)
        printf("# instead: %s\n", text);
    free(text);
    return is_same;
}

TEST("the chunks are counted by what they are")
{
    NEED(begin());
    control_message_start(&reply, "ok");
    device_tell_chunks(fixture.device, &reply);
    CHECK(number_of("all_chunks") == 64);
    CHECK(number_of("zero_chunks") == 1);
    CHECK(number_of("remote_chunks") == 1);
    CHECK(number_of("clean_chunks") == 1);
    CHECK(fixture_status(&fixture).dirty_chunks == 2);
    CHECK(fixture_status(&fixture).chunks_mapped == 5);
    end();
}

TEST("the map of a device tells every chunk if there are enough cells")
{
    NEED(begin());
    CHECK(map_is(0, UINT64_MAX, 64,
                 "\"from\": 0, \"to\": 64, \"step\": 1, \"cells\": "
                 "[[3, 0, 0, 0, 0], [2, 0, 0, 0, 1], [5, 0, 0, 0, 0], "
                 "[1, 1, 0, 0, 0], [9, 0, 0, 0, 0], [1, 0, 1, 0, 0], "
                 "[1, 0, 0, 1, 0], [42, 0, 0, 0, 0]]}"));
    CHECK(map_is(20, 22, 4096,
                 "\"from\": 20, \"to\": 22, \"step\": 1, \"cells\": "
                 "[[1, 0, 1, 0, 0], [1, 0, 0, 1, 0]]}"));
    end();
}

TEST("with fewer cells each of them tells of several chunks")
{
    NEED(begin());
    CHECK(map_is(0, 64, 8,
                 "\"from\": 0, \"to\": 64, \"step\": 8, \"cells\": "
                 "[[1, 0, 0, 0, 2], [1, 1, 0, 0, 0], [1, 0, 1, 1, 0], "
                 "[5, 0, 0, 0, 0]]}"));
    CHECK(map_is(0, 64, 1,
                 "\"from\": 0, \"to\": 64, \"step\": 64, \"cells\": "
                 "[[1, 1, 1, 1, 2]]}"));
    /* From the beginning of a cell, and to the very end. */
    CHECK(map_is(3, 21, 3,
                 "\"from\": 0, \"to\": 21, \"step\": 8, \"cells\": "
                 "[[1, 0, 0, 0, 2], [1, 1, 0, 0, 0], [1, 0, 1, 0, 0]]}"));
    end();
}

TEST("a map of nothing, or of what is past the end, is empty")
{
    NEED(begin());
    CHECK(
        map_is(5, 5, 1, "\"from\": 5, \"to\": 5, \"step\": 1, \"cells\": []}"));
    CHECK(
        map_is(9, 5, 1, "\"from\": 5, \"to\": 5, \"step\": 1, \"cells\": []}"));
    CHECK(map_is(UINT64_MAX, UINT64_MAX, 1,
                 "\"from\": 64, \"to\": 64, \"step\": 1, \"cells\": []}"));
    end();
}
