/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_config - any bytes as a configuration file.
 *
 * What is accepted obeys the rules that the programs rely on; what is refused
 * has at least one problem, and each problem is one printable line.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bandwidth.h"
#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void check_limits(const struct config_list *list)
{
    struct bandwidth_entry entry;

    for (size_t i = 0; i < list->count; i++)
        require(bandwidth_parse(list->items[i], &entry) == 0);
}

static void check_accepted(const struct config *config)
{
    require(config->fetchers >= 1 && config->fetchers <= config->workers);
    require(config->workers <= 127 && config->port >= 1);
    require(config->devices_count <= CONFIG_DEVICES_MAX);
    require(
        config->devices_count == 0 || config->s3dir ||
        (config->s3hosts.count > 0 && config->s3bucket && config->s3credentials
             ? !config->s3accesskey
             : config->s3accesskey && config->s3secretkey));
    require(!config->s3sessiontoken || config->s3accesskey);
    require(!config->s3unsigned_payload || config->s3ssl);
    check_limits(&config->s3uploads);
    check_limits(&config->s3downloads);
    for (size_t i = 0; i < config->devices_count; i++) {
        const struct config_device *device = &config->devices[i];

        require(strlen(device->name) <= CONFIG_DEVICE_NAME_MAX);
        require(strspn(device->name, "./") < strlen(device->name) ||
                strlen(device->name) > 2);
        require(device->cachedir[0] == '/' && device->cachedir[1] != '/');
        require(device->size >= 512 && device->size % 512 == 0);
        require((device->chunk_size & (device->chunk_size - 1)) == 0);
        for (size_t j = 0; j < i; j++)
            require(strcmp(device->cachedir, config->devices[j].cachedir) !=
                        0 &&
                    strcmp(device->name, config->devices[j].name) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_problems problems;
    struct config *config = NULL;

    if (config_parse("file", (const char *)data, size, false, &config,
                     &problems) == 0) {
        require(problems.count == 0);
        check_accepted(config);
    } else {
        require(problems.count > 0 && !config);
    }
    for (size_t i = 0; i < problems.count; i++) {
        require(problems.lines[i][0] != '\0');
        for (const char *c = problems.lines[i]; *c != '\0'; c++)
            require((unsigned char)*c >= 0x20 && *c != 0x7f);
    }
    config_problems_free(&problems);
    config_free(config);
    return 0;
}
