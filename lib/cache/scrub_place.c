/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/scrub_place.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"

static const char NAME[] = "scrub";
static const char NAME_NEW[] = "scrub.new";
static const unsigned char MAGIC[8] = "s3bscrub";

/* The file; docs/FORMAT.md says the same in words. */
enum {
    VERSION = 1,
    FLAG_LOCAL = 1 << 0,

    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_CHUNK = 16,
    AT_SEED = 24,
    AT_BEGAN = 32,
    AT_RESERVED = 40,
    AT_CHECKSUM = SCRUB_PLACE_SIZE - 4,
};

void scrub_place_encode(const struct scrub_place *place,
                        uint8_t data[SCRUB_PLACE_SIZE])
{
    memset(data, 0, SCRUB_PLACE_SIZE);
    memcpy(data + AT_MAGIC, MAGIC, sizeof(MAGIC));
    put_le32(data + AT_VERSION, VERSION);
    put_le32(data + AT_FLAGS, place->is_local ? FLAG_LOCAL : 0);
    put_le64(data + AT_CHUNK, place->chunk);
    put_le64(data + AT_SEED, place->seed);
    put_le64(data + AT_BEGAN, place->began_ns);
    put_le32(data + AT_CHECKSUM, crc32c(0, data, AT_CHECKSUM));
}

int scrub_place_decode(const uint8_t data[SCRUB_PLACE_SIZE],
                       struct scrub_place *ret_place)
{
    uint32_t flags = get_le32(data + AT_FLAGS);

    if (memcmp(data + AT_MAGIC, MAGIC, sizeof(MAGIC)) != 0 ||
        get_le32(data + AT_CHECKSUM) != crc32c(0, data, AT_CHECKSUM) ||
        get_le32(data + AT_VERSION) != VERSION ||
        (flags & ~(uint32_t)FLAG_LOCAL) != 0 ||
        !bytes_are_zero(data + AT_RESERVED, AT_CHECKSUM - AT_RESERVED))
        return -EBADMSG;
    *ret_place = (struct scrub_place){
        .is_local = (flags & FLAG_LOCAL) != 0,
        .chunk = get_le64(data + AT_CHUNK),
        .seed = get_le64(data + AT_SEED),
        .began_ns = get_le64(data + AT_BEGAN),
    };
    return 0;
}

int scrub_place_load(int cache_dirfd, struct scrub_place *ret_place)
{
    uint8_t data[SCRUB_PLACE_SIZE];
    int fd = file_open(cache_dirfd, NAME, O_RDONLY, 0);
    ssize_t n;

    if (fd < 0)
        return fd;
    n = file_read(fd, data, sizeof(data), 0);
    (void)file_close(fd);
    if (n < 0)
        return (int)n;
    return n < SCRUB_PLACE_SIZE ? -EBADMSG
                                : scrub_place_decode(data, ret_place);
}

/* What is under the name is always whole: the new file is synced before. */
int scrub_place_save(int cache_dirfd, const struct scrub_place *place)
{
    uint8_t data[SCRUB_PLACE_SIZE];
    int fd =
        file_open(cache_dirfd, NAME_NEW, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int error, close_error;

    if (fd < 0)
        return fd;
    scrub_place_encode(place, data);
    error = file_write(fd, data, sizeof(data), 0);
    if (error == 0)
        error = file_sync_data(fd);
    close_error = file_close(fd);
    if (error == 0)
        error = close_error;
    if (error == 0)
        error = file_rename(cache_dirfd, NAME_NEW, cache_dirfd, NAME);
    if (error != 0)
        (void)file_unlink(cache_dirfd, NAME_NEW);
    return error;
}

int scrub_place_remove(int cache_dirfd)
{
    int error = file_unlink(cache_dirfd, NAME);

    return error == -ENOENT ? 0 : error;
}
