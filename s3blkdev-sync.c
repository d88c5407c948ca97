/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3blkdev-sync - bring what changed into the bucket, and make room.
 *
 * This version checks its options and the configuration, and says that it
 * does neither: s3blkdevd writes no objects that would have to be published.
 */
#include <stdio.h>

#include "common.h"

static const struct common_program program = {
    .name = "s3blkdev-sync",
    .usage = "s3blkdev-sync [-c FILE]\n"
             "       s3blkdev-sync -h | -V\n"
             "\n"
             "  -c FILE  the configuration, instead of " COMMON_CONFIG_PATH "\n"
             "  -h, -V   show this help; show the version\n",
    .letters = "c:hV",
};

int main(int argc, char **argv)
{
    struct common_options options;
    struct config *config;
    int code = common_parse_options(&program, argc, argv, &options);

    if (code != COMMON_GO_ON)
        return code;
    code = common_load_config(&program, options.config_path, &config);
    if (code != COMMON_GO_ON)
        return code;
    config_free(config);
    (void)fprintf(
        stderr,
        "%s: this version neither uploads nor evicts; all data is in the "
        "cache directories, and stays there\n",
        program.name);
    return COMMON_FAILED;
}
