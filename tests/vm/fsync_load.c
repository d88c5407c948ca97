/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fsync_load - write files, and say of each when it is on the disk; find them
 * again.
 *
 *   fsync_load write DIRECTORY ACKNOWLEDGED
 *       until SIGTERM.  A line "NAME GENERATION" goes to the file (or port)
 *       ACKNOWLEDGED each time that fsync or fdatasync has returned.  Ends
 *       with a line that tells the longest calls, or, at the first call that
 *       fails, with status 1.
 *   fsync_load verify DIRECTORY ACKNOWLEDGED
 *       after whatever has happened: is everything there that was
 *       acknowledged?
 *
 * Some files are created, each once; others, of a fixed size, are written
 * again in place, where a write that was not acknowledged may be there as a
 * whole, in part, or not at all.  Each block tells whose it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    BLOCK = 4096,
    SLOTS = 16, /* files that are written again and again */
    SLOT_BLOCKS = 16,
    CREATED_MAX = 3000, /* so that a small device has room for them */
    CREATED_BLOCKS_MAX = 12,
    NAME_SIZE = 64,
};

/* A file, as it is to be: number counts from 0 in its kind. */
struct content {
    bool is_slot;
    unsigned number;
    unsigned generation; /* counts from 1 */
};

/* What is in front of each block; what follows is made of it. */
struct mark {
    uint64_t magic, is_slot, number, generation, index;
};

static const uint64_t MAGIC = 0x6b636f6c62626476;

static volatile sig_atomic_t is_over;

static void end_it(int signal)
{
    (void)signal;
    is_over = 1;
}

static unsigned content_blocks(const struct content *content)
{
    if (content->is_slot)
        return SLOT_BLOCKS;
    return 1 + content->number * 7 % CREATED_BLOCKS_MAX;
}

static void content_name(const struct content *content, char name[NAME_SIZE])
{
    (void)snprintf(name, NAME_SIZE, "%s-%u",
                   content->is_slot ? "slot" : "created", content->number);
}

static void make_block(unsigned char block[BLOCK],
                       const struct content *content, unsigned index)
{
    struct mark mark = {.magic = MAGIC,
                        .is_slot = content->is_slot,
                        .number = content->number,
                        .generation = content->generation,
                        .index = index};
    uint64_t x = mark.number * 0x9e3779b97f4a7c15 + mark.generation * 8191 +
                 mark.index * 127 + mark.is_slot + 1;
    size_t at = sizeof(mark);

    memcpy(block, &mark, sizeof(mark));
    for (; at < BLOCK; at += sizeof(x)) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(block + at, &x, sizeof(x));
    }
}

/* ---- write ------------------------------------------------------------- */

/* The longest call so far. */
struct longest {
    uint64_t write_ns, sync_ns;
};

static void failed(const char *what, const char *name)
{
    (void)fprintf(stderr, "fsync_load: %s %s: errno %d\n", what, name, errno);
    exit(EXIT_FAILURE);
}

static void keep_longest(uint64_t *longest, uint64_t since_ns)
{
    uint64_t took = clock_monotonic_ns() - since_ns;

    if (took > *longest)
        *longest = took;
}

static void write_file(int directory, const struct content *content,
                       bool data_only, struct longest *longest)
{
    static unsigned char blocks[SLOT_BLOCKS * BLOCK];
    unsigned count = content_blocks(content), i;
    char name[NAME_SIZE];
    uint64_t begin;
    int fd;

    content_name(content, name);
    for (i = 0; i < count; i++)
        make_block(blocks + (size_t)i * BLOCK, content, i);
    begin = clock_monotonic_ns();
    fd = openat(directory, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        failed("open", name);
    if (pwrite(fd, blocks, (size_t)count * BLOCK, 0) !=
        (ssize_t)((size_t)count * BLOCK))
        failed("write", name);
    keep_longest(&longest->write_ns, begin);
    begin = clock_monotonic_ns();
    if ((data_only ? fdatasync(fd) : fsync(fd)) != 0)
        failed("sync", name);
    keep_longest(&longest->sync_ns, begin);
    if (close(fd) != 0)
        failed("close", name);
}

/* Once this has returned, nobody may forget the file. */
static void acknowledge(int fd, const struct content *content)
{
    char name[NAME_SIZE], line[NAME_SIZE + 16];
    int length;

    content_name(content, name);
    length = snprintf(line, sizeof(line), "%s %u\n", name, content->generation);
    if (write(fd, line, (size_t)length) != (ssize_t)length)
        failed("acknowledge", name);
}

static int write_until_over(int directory, int acknowledged)
{
    struct sigaction action = {.sa_handler = end_it, .sa_flags = SA_RESTART};
    struct longest longest = {0};
    unsigned step, created = 0;

    if (sigaction(SIGTERM, &action, NULL) != 0)
        failed("sigaction", "SIGTERM");
    for (step = 0; !is_over; step++) {
        struct content content = {.is_slot = true,
                                  .number = step / 2 % SLOTS,
                                  .generation = 1 + step / 2 / SLOTS};

        if (step % 2 == 0 && created < CREATED_MAX)
            content = (struct content){.number = created++, .generation = 1};
        write_file(directory, &content, step % 4 == 3, &longest);
        acknowledge(acknowledged, &content);
    }
    (void)printf(
        "%u files written, longest write %.3f s, longest sync %.3f s\n", step,
        (double)longest.write_ns / 1e9, (double)longest.sync_ns / 1e9);
    return EXIT_SUCCESS;
}

/* ---- verify ------------------------------------------------------------ */

/* What is wrong with the file, or NULL. */
static const char *verify_file(int directory, const struct content *content)
{
    unsigned char is[BLOCK], expected[BLOCK];
    struct content found = *content;
    unsigned count = content_blocks(content), i;
    const char *wrong = NULL;
    char name[NAME_SIZE];
    struct mark mark;
    int fd;

    content_name(content, name);
    fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return "is not there";
    for (i = 0; i < count && !wrong; i++) {
        if (pread(fd, is, BLOCK, (off_t)i * BLOCK) != BLOCK) {
            wrong = "is too short";
            break;
        }
        memcpy(&mark, is, sizeof(mark));
        found.generation = (unsigned)mark.generation;
        make_block(expected, &found, i);
        if (memcmp(is, expected, BLOCK) != 0)
            wrong = "has a block that is none of it";
        else if (found.generation < content->generation)
            wrong = "has a block of an earlier time";
        else if (found.generation > content->generation + 1)
            wrong = "has a block of a later time";
    }
    (void)close(fd);
    return wrong;
}

/* Read a line; false at the end. */
static bool next_acknowledged(FILE *file, struct content *content)
{
    char kind[8];

    if (fscanf(file, " %7[a-z]-%u %u", kind, &content->number,
               &content->generation) != 3)
        return false;
    content->is_slot = strcmp(kind, "slot") == 0;
    return true;
}

static int verify(int directory, FILE *acknowledged)
{
    unsigned slots[SLOTS] = {0}, count = 0, lost = 0, i;
    struct content content;
    char name[NAME_SIZE];
    const char *wrong;

    while (next_acknowledged(acknowledged, &content)) {
        count++;
        if (content.is_slot) {
            slots[content.number % SLOTS] = content.generation;
            continue;
        }
        wrong = verify_file(directory, &content);
        if (wrong) {
            content_name(&content, name);
            (void)printf("%s %s\n", name, wrong);
            lost++;
        }
    }
    for (i = 0; i < SLOTS; i++) {
        content = (struct content){
            .is_slot = true, .number = i, .generation = slots[i]};
        wrong = slots[i] ? verify_file(directory, &content) : NULL;
        if (wrong) {
            (void)printf("slot-%u %s\n", i, wrong);
            lost++;
        }
    }
    (void)printf("%u acknowledged, %u lost\n", count, lost);
    return count == 0 || lost > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    int directory;

    if (argc == 4) {
        directory = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0)
            failed("open", argv[2]);
        if (strcmp(argv[1], "write") == 0) {
            int fd = open(argv[3], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

            if (fd < 0)
                failed("open", argv[3]);
            return write_until_over(directory, fd);
        }
        if (strcmp(argv[1], "verify") == 0) {
            FILE *file = fopen(argv[3], "re");

            if (!file)
                failed("open", argv[3]);
            return verify(directory, file);
        }
    }
    (void)fprintf(stderr,
                  "usage: fsync_load write|verify DIRECTORY ACKNOWLEDGED\n");
    return EXIT_FAILURE;
}
