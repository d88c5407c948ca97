/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A record's memfd, integers little-endian, of which the size is sealed:
 *
 *   0   8  magic
 *   8   4  version
 *   12  4  1: it is being used, or was
 *   16  8  how long the rest is
 *   24     the record
 *
 * The order, which makes it be used once at most: marked here, removed from
 * the store, used.  The record's content is checked by who made it.
 */
#include "base/fd_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/log.h"
#include "base/number.h"

#define RECORD_MAGIC "s3bl-fds"

enum {
    RECORD_VERSION = 1,
    AT_VERSION = 8,
    AT_USED = 12,
    AT_LEN = 16,
    HEAD_SIZE = 24,
    NAME_SIZE = 48,
    RECORD_SEALS = F_SEAL_SHRINK | F_SEAL_GROW,
    PATIENCE_US = 5000000, /* who keeps descriptors answers at once */
    FDS_EACH = 2,          /* of a connection: socket and record */
};

/* ---- names -------------------------------------------------------------- */

static void make_name(char name[NAME_SIZE], uint64_t number, const char *what)
{
    (void)snprintf(name, NAME_SIZE, "nbd-%" PRIu64 "-%s", number, what);
}

/* Parse a name that make_name made.  Returns which of the two it is of, or
 * NULL. */
static const char *parse_name(const char *name, uint64_t *ret_number)
{
    static const char *const kinds[] = {"socket", "record"};
    char expected[NAME_SIZE], digits[NAME_SIZE];
    size_t len;

    if (strncmp(name, "nbd-", 4) != 0)
        return NULL;
    len = strspn(name + 4, "0123456789");
    if (len >= sizeof(digits))
        return NULL;
    memcpy(digits, name + 4, len);
    digits[len] = '\0';
    /* The one after it must be a number, too. */
    if (number_parse(digits, 0, UINT64_MAX - 1, ret_number) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        make_name(expected, *ret_number, kinds[i]);
        if (strcmp(name, expected) == 0)
            return kinds[i];
    }
    return NULL;
}

/* ---- what is said to who keeps them ------------------------------------- */

/* Send a descriptor that is to be kept. */
static int send_fd(uint64_t number, const char *what, int fd)
{
    char name[NAME_SIZE], text[NAME_SIZE + 64];
    int result;

    make_name(name, number, what);
    (void)snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
    result = sd_pid_notify_with_fds(0, 0, text, &fd, 1);
    if (result == 0)
        return -EDESTADDRREQ;
    return result < 0 ? result : 0;
}

/* Have both of a pair removed.  If that is not heard, the mark remains. */
static void remove_names(uint64_t number)
{
    static const char *const kinds[] = {"socket", "record"};
    char name[NAME_SIZE];

    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        make_name(name, number, kinds[i]);
        (void)sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
    }
}

/* Returns the value of a variable, or "". */
static const char *environment(const char *name)
{
    /* Nothing in this program changes the environment. */
    /* NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *value = getenv(name);

    return value ? value : "";
}

bool fd_store_is_there(void)
{
    return environment("NOTIFY_SOCKET")[0] != '\0';
}

bool fd_store_has_left(void)
{
    const char *names = environment("LISTEN_FDNAMES");

    return strncmp(names, "nbd-", 4) == 0 || strstr(names, ":nbd-") != NULL;
}

size_t fd_store_room(void)
{
    static const char *const names[] = {"FDSTORE", "FDSTORE_MAX"};
    uint64_t descriptors;

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (number_parse(environment(names[i]), 0, SIZE_MAX, &descriptors) == 0)
            return descriptors / FDS_EACH;
    }
    return SIZE_MAX;
}

/* ---- records ------------------------------------------------------------ */

/* Make the memfd of a record.  Returns it, or a negative errno. */
static int make_record(const void *record, size_t len)
{
    AUTO_CLOSE int fd =
        memfd_create("nbd-record", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    unsigned char head[HEAD_SIZE] = RECORD_MAGIC;
    int error;

    if (fd < 0)
        return -errno;
    put_le32(head + AT_VERSION, RECORD_VERSION);
    put_le64(head + AT_LEN, len);
    error = file_write(fd, head, sizeof(head), 0);
    if (!error)
        error = file_write(fd, record, len, sizeof(head));
    if (!error && fcntl(fd, F_ADD_SEALS, RECORD_SEALS | F_SEAL_SEAL) != 0)
        error = -errno;
    /* See is_kept. */
    if (!error && flock(fd, LOCK_EX | LOCK_NB) != 0)
        error = -errno;
    return error ? error : take_fd(&fd);
}

/*
 * Returns whether somebody else has a record that was sent, too.  It is closed
 * here, and so the lock on it is gone if nobody else holds that.  Where it
 * cannot be opened again nothing is known, and the best is believed.
 */
static bool is_kept(int *record)
{
    char path[NAME_SIZE];
    AUTO_CLOSE int other = -1;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", *record);
    other = open(path, O_RDWR | O_CLOEXEC);
    (void)close(take_fd(record));
    return other < 0 || flock(other, LOCK_EX | LOCK_NB) != 0;
}

/* Returns what is wrong with what is said to be a record, or NULL. */
static const char *record_fault(int fd)
{
    unsigned char head[HEAD_SIZE];
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    /* It will be mapped: nobody may cut it off then. */
    if (seals < 0 || (seals & RECORD_SEALS) != RECORD_SEALS ||
        fstat(fd, &st) != 0)
        return "its record is none";
    if (st.st_size < HEAD_SIZE ||
        file_read(fd, head, sizeof(head), 0) != sizeof(head) ||
        memcmp(head, RECORD_MAGIC, AT_VERSION) != 0)
        return "its record is not whole";
    if (get_le32(head + AT_VERSION) != RECORD_VERSION)
        return "its record is of another version";
    if (get_le64(head + AT_LEN) != (uint64_t)st.st_size - HEAD_SIZE)
        return "its record is not whole";
    if (get_le32(head + AT_USED) != 0)
        return "its record was used before";
    return NULL;
}

/* ---- what was left ------------------------------------------------------ */

static void prepare(struct fd_store *store)
{
    *store = (struct fd_store){.connected = -1, .patience_us = PATIENCE_US};
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(take_fd(fd));
}

/* Returns the pair of that number, which may be a new one. */
static struct fd_store_pair *find_pair(struct fd_store *store, uint64_t number)
{
    for (size_t i = 0; i < store->pairs_count; i++) {
        if (store->pairs[i].number == number)
            return &store->pairs[i];
    }
    store->pairs[store->pairs_count] =
        (struct fd_store_pair){.number = number, .socket = -1, .record = -1};
    return &store->pairs[store->pairs_count++];
}

/* Put a descriptor with such a name where it belongs. */
static void take_of_pair(struct fd_store *store, int fd, uint64_t number,
                         bool is_socket)
{
    struct fd_store_pair *pair = find_pair(store, number);
    int *place = is_socket ? &pair->socket : &pair->record;

    if (number >= store->next_number)
        store->next_number = number + 1;
    if (*place >= 0) {
        pair->is_doubled = true;
        (void)close(fd);
        return;
    }
    *place = fd;
}

/* Returns why nothing can be resumed from it, or NULL. */
static const char *pair_fault(const struct fd_store_pair *pair)
{
    if (pair->is_doubled)
        return "there are two of its name";
    if (pair->socket < 0)
        return "there is no socket";
    if (pair->record < 0)
        return "there is no record";
    if (sd_is_socket(pair->socket, AF_UNSPEC, SOCK_STREAM, 0) <= 0)
        return "its socket is none";
    return record_fault(pair->record);
}

/* Keep the pairs that can be resumed. */
static void drop_faulty_pairs(struct fd_store *store)
{
    size_t count = 0;

    for (size_t i = 0; i < store->pairs_count; i++) {
        struct fd_store_pair *pair = &store->pairs[i];
        const char *fault = pair_fault(pair);

        if (!fault) {
            store->pairs[count++] = *pair;
            continue;
        }
        log_warning("connection %" PRIu64 " of the process before is closed, "
                    "not resumed: %s",
                    pair->number, fault);
        close_fd(&pair->socket);
        close_fd(&pair->record);
        remove_names(pair->number);
    }
    store->pairs_count = count;
}

int fd_store_take(struct fd_store *store, const int fds[], char *const names[],
                  size_t count)
{
    int others = -1, error = 0;
    size_t others_count = 0;

    prepare(store);
    store->listening = calloc(count + 1, sizeof(*store->listening));
    store->pairs = calloc(count + 1, sizeof(*store->pairs));
    if (!store->listening || !store->pairs)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        uint64_t number;
        const char *kind = parse_name(names[i], &number);

        if (sd_is_socket(fds[i], AF_UNSPEC, SOCK_STREAM, 1) > 0) {
            store->listening[store->listening_count++] = fds[i];
        } else if (kind) {
            take_of_pair(store, fds[i], number, kind[0] == 's');
        } else {
            others = fds[i];
            others_count++;
        }
    }
    drop_faulty_pairs(store);
    if (others_count == 1 && count == 1 &&
        sd_is_socket(others, AF_UNSPEC, SOCK_STREAM, 0) > 0) {
        store->connected = others;
    } else if (others_count > 0) {
        log_error("descriptor %d of LISTEN_FDS: neither a socket that listens "
                  "nor a single one that is connected",
                  others);
        error = -ENOTSOCK;
    }
    return error;
}

int fd_store_open(struct fd_store *store)
{
    AUTO_FREE int *fds = NULL;
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    int error = -ENOMEM;

    prepare(store);
    if (count <= 0)
        return count;
    fds = calloc((size_t)count, sizeof(*fds));
    if (fds) {
        for (int i = 0; i < count; i++)
            fds[i] = SD_LISTEN_FDS_START + i;
        error = fd_store_take(store, fds, names, (size_t)count);
    }
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return error;
}

int fd_store_put(struct fd_store *store, int socket, const void *record,
                 size_t len)
{
    AUTO_CLOSE int fd = -1;
    uint64_t number = store->next_number;
    int error;

    if (store->is_stuck)
        return -ETIMEDOUT;
    if (store->is_full)
        return -EMFILE;
    fd = make_record(record, len);
    if (fd < 0)
        return fd;
    store->next_number++;
    /* The record last: if that found room, so did the socket. */
    error = send_fd(number, "socket", socket);
    if (!error)
        error = send_fd(number, "record", fd);
    /* Whoever ends before that was heard may not be known any more. */
    if (!error && sd_notify_barrier(0, store->patience_us) < 0) {
        store->is_stuck = true;
        error = -ETIMEDOUT;
    }
    if (!error && !is_kept(&fd)) {
        log_error("no more connections are kept for the next process: "
                  "FileDescriptorStoreMax= of the service is too low; each "
                  "takes %d",
                  FDS_EACH);
        remove_names(number);
        store->is_full = true;
        error = -EMFILE;
    }
    return error;
}

/* Go on with one pair; both of its descriptors are used up. */
static int resume_pair(struct fd_store_pair *pair,
                       int (*resume)(void *context, int socket,
                                     const void *record, size_t len),
                       void *context)
{
    unsigned char is_used[4];
    struct stat st;
    unsigned char *bytes = MAP_FAILED;
    size_t size = 0;
    int error = 0;

    put_le32(is_used, 1);
    if (fstat(pair->record, &st) != 0)
        error = -errno;
    if (!error)
        error = file_write(pair->record, is_used, sizeof(is_used), AT_USED);
    remove_names(pair->number);
    if (!error) {
        size = (size_t)st.st_size;
        bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, pair->record, 0);
        error = bytes == MAP_FAILED ? -errno : 0;
    }
    if (error) {
        log_error("connection %" PRIu64 " of the process before is closed, "
                  "not resumed: %s",
                  pair->number, log_errno(error));
        close_fd(&pair->socket);
    } else {
        error = resume(context, take_fd(&pair->socket), bytes + HEAD_SIZE,
                       size - HEAD_SIZE);
        (void)munmap(bytes, size);
    }
    close_fd(&pair->record);
    return error;
}

size_t fd_store_resume(struct fd_store *store,
                       int (*resume)(void *context, int socket,
                                     const void *record, size_t len),
                       void *context)
{
    size_t count = 0;

    for (size_t i = 0; i < store->pairs_count; i++)
        count += resume_pair(&store->pairs[i], resume, context) == 0;
    store->pairs_count = 0;
    return count;
}

void fd_store_close(struct fd_store *store)
{
    for (size_t i = 0; i < store->pairs_count; i++) {
        close_fd(&store->pairs[i].socket);
        close_fd(&store->pairs[i].record);
    }
    free(store->pairs);
    free(store->listening);
    prepare(store);
}
