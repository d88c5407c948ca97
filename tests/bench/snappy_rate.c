/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * snappy_rate - print how many MiB of a file one core compresses in a second,
 * in blocks of 16 KiB.
 */
#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BLOCK = 16384, BLOCKS = 8192, ROUNDS = 5 };

static double seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    static char packed[2 * BLOCK];
    char *data = malloc((size_t)BLOCK * BLOCKS);
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    double best = 0;

    if (!data || !file || fread(data, BLOCK, BLOCKS, file) != BLOCKS) {
        (void)fprintf(stderr, "usage: snappy_rate FILE, of 128 MiB or more\n");
        return 1;
    }
    for (int round = 0; round < ROUNDS; round++) {
        double begin = seconds(), rate;

        for (size_t i = 0; i < BLOCKS; i++) {
            size_t size = sizeof(packed);

            if (snappy_compress(data + i * BLOCK, BLOCK, packed, &size) !=
                SNAPPY_OK)
                return 1;
        }
        rate = (double)BLOCK * BLOCKS / (1 << 20) / (seconds() - begin);
        best = rate > best ? rate : best;
    }
    (void)fclose(file);
    free(data);
    return printf("%.0f\n", best) < 0;
}
