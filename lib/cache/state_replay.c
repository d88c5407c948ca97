/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/state_replay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"

/* Pages are looked at in pieces of this size. */
enum { SCAN_SIZE = 1 << 16 };

/* Say what is wrong with the log.  Returns error. */
static int complain(const struct state_replay *replay, const char *what,
                    int error)
{
    return state_file_complain(replay->files, STATE_FILE_LOG,
                               replay->header.number, what, error);
}

/* ---- open ---------------------------------------------------------------- */

static int check_header(const struct state_replay *replay, uint64_t number,
                        uint64_t size, const uint8_t cachedir_id[UUID_SIZE])
{
    const struct state_header *header = &replay->header;

    if (header->number != number)
        return complain(replay, "is another log, renamed", -EUCLEAN);
    if (memcmp(header->cachedir_id, cachedir_id, UUID_SIZE) != 0)
        return complain(replay, "belongs to another cache directory", -EUCLEAN);
    if (size != header->size || size % STATE_PAGE != 0)
        return complain(replay, "has not the size that its header says",
                        -EUCLEAN);
    return 0;
}

static int read_header(struct state_replay *replay,
                       const uint8_t cachedir_id[UUID_SIZE])
{
    uint64_t number = replay->header.number, size = 0;
    unsigned char page[STATE_PAGE];
    int error = file_size(replay->fd, &size);
    ssize_t n = error < 0 ? error : file_read(replay->fd, page, STATE_PAGE, 0);

    if (n < 0)
        return complain(replay, log_errno((int)n), (int)n);
    error = n < STATE_PAGE
                ? -EBADMSG
                : state_header_decode(page, STATE_FILE_LOG, &replay->header);
    if (error == -EPROTONOSUPPORT)
        return complain(replay, "written by a later version of this program",
                        error);
    if (error < 0)
        return complain(replay, "its header is damaged", -EUCLEAN);
    return check_header(replay, number, size, cachedir_id);
}

int state_replay_open(const struct state_files *files, uint64_t number,
                      const uint8_t cachedir_id[UUID_SIZE], bool read_only,
                      struct state_replay *ret_replay)
{
    struct state_replay *replay = ret_replay;
    char name[STATE_FILE_NAME];
    int error;

    *replay = (struct state_replay){
        .files = files,
        .header.number = number,
        .end = STATE_PAGE,
        .torn_end = STATE_PAGE,
    };
    state_file_name(STATE_FILE_LOG, number, name);
    replay->fd =
        file_open(files->dirfd, name, read_only ? O_RDONLY : O_RDWR, 0);
    if (replay->fd == -ENOENT)
        return complain(replay, "missing", -EUCLEAN);
    if (replay->fd < 0)
        return complain(replay, log_errno(replay->fd), replay->fd);
    error = read_header(replay, cachedir_id);
    if (error < 0)
        (void)file_close(replay->fd);
    return error;
}

/* ---- behind the end ------------------------------------------------------ */

/* Read exactly size bytes, which are inside the file. */
static int read_inside(const struct state_replay *replay, void *data,
                       size_t size, uint64_t offset)
{
    ssize_t n = file_read(replay->fd, data, size, offset);

    if (n < 0)
        return complain(replay, log_errno((int)n), (int)n);
    return (size_t)n == size
               ? 0
               : complain(replay, "shrank while it was read", -EUCLEAN);
}

/* Whether a page begins a group; the one right at the end may, a torn one. */
static bool begins_group(const struct state_replay *replay,
                         const unsigned char *page, uint64_t offset)
{
    struct state_group group;

    return offset != replay->end &&
           state_group_decode(page, &replay->header, &group) == 0;
}

/* Look at pages behind the end of the log. */
static void look_at_pages(struct state_replay *replay,
                          const unsigned char *pages, size_t size,
                          uint64_t offset, bool *ret_has_group)
{
    for (size_t at = 0; at < size; at += STATE_PAGE) {
        if (bytes_are_zero(pages + at, STATE_PAGE))
            continue;
        replay->torn_end = offset + at + STATE_PAGE;
        if (begins_group(replay, pages + at, offset + at))
            *ret_has_group = true;
    }
}

/*
 * Find torn_end, and whether a group begins anywhere behind the end but right
 * there.
 */
static int look_behind_end(struct state_replay *replay, bool *ret_has_group)
{
    AUTO_FREE unsigned char *pages = malloc(SCAN_SIZE);
    uint64_t offset = replay->end;
    int error = pages ? 0 : -ENOMEM;

    replay->torn_end = offset;
    *ret_has_group = false;
    while (error == 0 && offset < replay->header.size) {
        uint64_t left = replay->header.size - offset;
        size_t size = left < SCAN_SIZE ? (size_t)left : SCAN_SIZE;

        error = read_inside(replay, pages, size, offset);
        if (error == 0)
            look_at_pages(replay, pages, size, offset, ret_has_group);
        offset += size;
    }
    return error;
}

int state_replay_is_empty(struct state_replay *replay, bool *ret_is_empty)
{
    bool has_group;
    int error = look_behind_end(replay, &has_group);

    if (error == 0)
        *ret_is_empty = replay->torn_end == STATE_PAGE;
    return error;
}

/* ---- groups -------------------------------------------------------------- */

static int apply_change(struct state_contents *contents,
                        const struct state_change *change)
{
    struct chunk_object *objects;
    int error = state_contents_prepare(contents, change, &objects);

    if (error < 0)
        return error;
    if (state_facts_follow(&contents->facts, change) < 0) {
        free(objects);
        return -EBADMSG;
    }
    state_contents_apply(contents, change, objects);
    return 0;
}

static int apply_changes(const struct state_replay *replay,
                         const struct state_group *group,
                         const unsigned char *changes,
                         struct state_contents *contents)
{
    uint64_t left = group->size, count = 0;

    for (; left > 0; count++) {
        struct state_change change;
        size_t size = 0;
        int error = state_change_decode(changes, left, &change, &size);

        if (error == 0)
            error = apply_change(contents, &change);
        if (error == -ENOMEM)
            return complain(replay, "no memory for it", error);
        if (error < 0)
            return complain(replay,
                            error == -EINVAL
                                ? "has a chunk past the end of the device"
                                : "has a change that makes no sense",
                            -EUCLEAN);
        changes += size;
        left -= size;
    }
    left = state_group_file_size(group->size) - STATE_GROUP_HEAD - group->size;
    if (count != group->count || !bytes_are_zero(changes, left))
        return complain(replay, "has a group with changes too many or too few",
                        -EUCLEAN);
    return 0;
}

/*
 * Read the changes of a group.  *ret_changes stays NULL if they are not what
 * its head says: it is torn.
 */
static int read_changes(const struct state_replay *replay,
                        const struct state_group *group,
                        unsigned char **ret_changes)
{
    size_t size = state_group_file_size(group->size) - STATE_GROUP_HEAD;
    AUTO_FREE unsigned char *changes = malloc(size);
    int error;

    if (!changes)
        return complain(replay, "no memory for it", -ENOMEM);
    error = read_inside(replay, changes, size, replay->end + STATE_GROUP_HEAD);
    if (error == 0 &&
        group->checksum == crc32c(state_seed(&replay->header), changes, size))
        *ret_changes = take_pointer(&changes);
    return error;
}

/* Apply the next group.  *ret_is_good: there was one. */
static int replay_group(struct state_replay *replay,
                        struct state_contents *contents, bool *ret_is_good)
{
    uint64_t left = replay->header.size - replay->end;
    unsigned char head[STATE_GROUP_HEAD];
    AUTO_FREE unsigned char *changes = NULL;
    struct state_group group;
    int error;

    *ret_is_good = false;
    error = read_inside(replay, head, sizeof(head), replay->end);
    if (error < 0 || state_group_decode(head, &replay->header, &group) < 0)
        return error;
    if (group.commit != contents->numbers.commit + 1)
        return complain(replay, "a commit is missing", -EUCLEAN);
    if (group.size > left - STATE_GROUP_HEAD)
        return complain(replay, "a group goes past the end", -EUCLEAN);
    error = read_changes(replay, &group, &changes);
    if (error < 0 || !changes)
        return error;
    error = apply_changes(replay, &group, changes, contents);
    if (error < 0)
        return error;
    contents->numbers.commit = group.commit;
    replay->end += state_group_file_size(group.size);
    *ret_is_good = true;
    return 0;
}

int state_replay_run(struct state_replay *replay, bool sync,
                     struct state_contents *contents)
{
    bool is_good = true, has_group = false;
    int error = 0;

    if (replay->header.commit != contents->numbers.commit)
        return complain(replay, "commits in front of it are missing", -EUCLEAN);
    /* Groups that an earlier process wrote may not be on the disk yet. */
    if (sync)
        error = file_sync_data(replay->fd);
    if (error < 0)
        return complain(replay, log_errno(error), error);
    while (error == 0 && is_good && replay->end < replay->header.size)
        error = replay_group(replay, contents, &is_good);
    if (error == 0)
        error = look_behind_end(replay, &has_group);
    if (error == 0 && has_group)
        return complain(replay, "damaged in front of a later commit", -EUCLEAN);
    if (error == 0 && replay->torn_end > replay->end)
        log_info("%s/state/log.%016" PRIx64 ": what comes after commit %" PRIu64
                 " was cut off before it was durable",
                 replay->files->cachedir, replay->header.number,
                 contents->numbers.commit);
    return error;
}
