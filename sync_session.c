/* SPDX-License-Identifier: BSD-2-Clause */
#include "sync_session.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/number.h"
#include "cache/chunk_file.h"
#include "cache/epoch.h"
#include "cache/fetch.h"
#include "cache/interrupter.h"
#include "common.h"
#include "config.h"
#include "config_table.h"
#include "object_store.h"

enum {
    POLL_MS = 100,       /* while there is no socket to connect to */
    BUSY_TIMEOUT_S = 60, /* for who has the lock, and no socket yet */
    YIELDS_MAX = 16,     /* who ask for the directory at the same time */
    CLOSE_MS = 60000,    /* for the store, when we end owning a directory */
};

/* A directory that we own, until the session ends or a daemon wants it. */
struct ownership {
    int hurry_fd; /* of the session */
    struct common_opening opening;
    struct common_resources resources;
    pthread_t keeper;
    struct mutex mutex;
    struct condition changed;
    int asking[YIELDS_MAX]; /* GUARDED_BY(mutex): who want it */
    size_t asking_count;    /* GUARDED_BY(mutex) */
    bool must_end;          /* GUARDED_BY(mutex) */
    int error;              /* of the end: to be read after a join */
};

struct sync_session {
    struct sync_session_options options;
    struct ownership *own; /* or NULL */
    struct mutex mutex;
    struct control_client *client; /* GUARDED_BY(mutex), for others */
    bool is_interrupted;           /* GUARDED_BY(mutex) */
    bool has_daemon;               /* that client's owner is one */
    bool is_other_user;            /* we took on the uid of the owner */

    struct upload_context uploads;   /* chunk_dir NULL: not ready */
    struct interrupter *interrupter; /* of their store */
    uint64_t epoch;                  /* that the store of uploads must have */
    atomic_bool has_checked;         /* it has */
    int dirfd;
};

/* ---- whose directory it is ---------------------------------------------- */

/*
 * What we create must belong to whom the directory belongs to.  Only the
 * effective ids are changed: the pid file is removed by who made it.
 */
static int become_owner(struct sync_session *session)
{
    const char *path = session->options.device->cachedir;
    struct stat info;

    if (geteuid() != 0)
        return 0;
    if (stat(path, &info) != 0) {
        log_error("%s: %s", path, log_errno(-errno));
        return -errno;
    }
    if (info.st_uid == 0)
        return 0;
    if (setgroups(0, NULL) != 0 || setegid(info.st_gid) != 0 ||
        seteuid(info.st_uid) != 0) {
        int error = -errno;

        log_error("%s: cannot become its owner, uid %u: %s", path,
                  (unsigned)info.st_uid, log_errno(error));
        return error;
    }
    session->is_other_user = true;
    return 0;
}

static void become_root_again(struct sync_session *session)
{
    if (session->is_other_user && (seteuid(0) != 0 || setegid(0) != 0))
        log_warning("cannot become root again: %s", log_errno(-errno));
    session->is_other_user = false;
}

/* ---- owning it ---------------------------------------------------------- */

/* A daemon wants it: its connection ends when it is free. */
static void note_yield(void *context, int fd)
{
    struct ownership *own = context;

    mutex_lock(&own->mutex);
    if (own->asking_count == YIELDS_MAX) {
        (void)close(fd); /* it asks again */
    } else {
        own->asking[own->asking_count++] = fd;
        condition_signal(&own->changed);
    }
    mutex_unlock(&own->mutex);
}

/* Keep what is open until it must end, and end it. */
static void *keep(void *context)
{
    struct ownership *own = context;
    bool releases;

    mutex_lock(&own->mutex);
    while (!own->must_end && own->asking_count == 0)
        condition_wait(&own->changed, &own->mutex);
    /* A daemon that is there already goes on under our claim. */
    releases = own->asking_count == 0;
    mutex_unlock(&own->mutex);
    common_limit_closing(&own->resources, own->hurry_fd, CLOSE_MS);
    own->error = common_close_resources(&own->resources, releases);
    /* No server runs that could add to them. */
    for (size_t i = 0; i < own->asking_count; i++)
        (void)close(own->asking[i]);
    return NULL;
}

static void free_ownership(struct ownership *own)
{
    condition_done(&own->changed);
    mutex_done(&own->mutex);
    free(own);
}

/*
 * A device begins when a server opens it, or when it is taken over; an empty
 * directory may as well be one whose disk is not mounted.
 */
static int check_begun(const struct sync_session *session)
{
    const struct config_device *device = session->options.device;
    AUTO_CLOSE int fd =
        file_open(AT_FDCWD, device->cachedir, O_RDONLY | O_DIRECTORY, 0);
    struct stat info;

    if (fd < 0 || session->options.attach == DEVICE_ATTACH_TAKEOVER ||
        fstatat(fd, "superblock", &info, 0) == 0 || errno != ENOENT)
        return 0; /* device_open knows better */
    log_error("%s: %s has nothing of it: no server has opened it yet, or its "
              "disk is not mounted",
              device->name, device->cachedir);
    return -ENODEV;
}

/* Open the device as its owner. */
static int own_device(struct sync_session *session)
{
    struct ownership *own;
    int error = check_begun(session);

    if (error)
        return error;
    own = calloc(1, sizeof(*own));
    if (!own)
        return -ENOMEM;
    mutex_init(&own->mutex);
    condition_init(&own->changed);
    own->hurry_fd = session->options.hurry_fd;
    own->opening = (struct common_opening){
        .only = session->options.device,
        .attach = session->options.attach,
        .yield = note_yield,
        .context = own,
    };
    error = common_open_resources(session->options.config, &own->opening,
                                  &own->resources);
    if (!error) {
        error = -pthread_create(&own->keeper, NULL, keep, own);
        if (error)
            (void)common_close_resources(&own->resources, false);
    }
    if (error) {
        free_ownership(own);
        return error;
    }
    session->own = own;
    return 0;
}

/* End what we own, if a daemon did not ask for it before. */
static int disown_device(struct sync_session *session)
{
    struct ownership *own = session->own;
    int error;

    if (!own)
        return 0;
    session->own = NULL;
    mutex_lock(&own->mutex);
    own->must_end = true;
    condition_signal(&own->changed);
    mutex_unlock(&own->mutex);
    (void)pthread_join(own->keeper, NULL);
    error = own->error;
    free_ownership(own);
    return error;
}

/* ---- the connection ----------------------------------------------------- */

/* Returns false if we are to stop. */
static bool rest(const struct sync_session *session)
{
    struct pollfd stop = {.fd = session->options.stop_fd, .events = POLLIN};

    return poll(&stop, 1, POLL_MS) <= 0;
}

static void set_client(struct sync_session *session,
                       struct control_client *client)
{
    struct control_client *old;

    mutex_lock(&session->mutex);
    old = session->client;
    session->client = client;
    if (client && session->is_interrupted)
        control_client_interrupt(client);
    mutex_unlock(&session->mutex);
    control_client_close(old);
}

static int try_connect(struct sync_session *session)
{
    const struct config_device *device = session->options.device;
    struct control_client *client;
    struct control_owner owner;
    int error = control_client_open(device->cachedir, &client, &owner);

    if (error)
        return error;
    if (strcmp(owner.device_name, device->name) != 0) {
        log_error("%s: is the directory of device %s, not of %s",
                  device->cachedir, owner.device_name, device->name);
        control_client_close(client);
        return -EINVAL;
    }
    session->has_daemon = owner.is_daemon;
    set_client(session, client);
    return 0;
}

/*
 * Connect to the owner, or be it.  is_expected: there was one a moment ago,
 * so one that restarts is waited for.  A socket without a listener says the
 * same: who stops in order removes it.
 */
static int connect_or_own(struct sync_session *session, bool is_expected)
{
    uint64_t began_ns = clock_monotonic_ns();
    uint64_t wait_ns = session->options.wait_ns;
    uint64_t busy_ns = (uint64_t)BUSY_TIMEOUT_S * 1000000000U;

    for (;;) {
        int error = try_connect(session);

        is_expected = is_expected || error == -ECONNREFUSED;
        if (error != -ENOENT && error != -ECONNREFUSED)
            return error;
        if (!is_expected || clock_monotonic_ns() - began_ns >= wait_ns) {
            error = own_device(session);
            if (!error)
                return try_connect(session);
            if (error != -EWOULDBLOCK)
                return error;
            /* Somebody is just starting, or ending. */
            if (clock_monotonic_ns() - began_ns >= wait_ns + busy_ns) {
                log_error("%s: another process has it, and does not answer",
                          session->options.device->cachedir);
                return -EBUSY;
            }
        }
        if (!rest(session))
            return -ECANCELED;
    }
}

int sync_session_open(const struct sync_session_options *options,
                      struct sync_session **ret_session)
{
    struct sync_session *session = calloc(1, sizeof(*session));
    int error;

    if (!session)
        return -ENOMEM;
    session->options = *options;
    session->dirfd = -1;
    mutex_init(&session->mutex);
    error = become_owner(session);
    if (!error)
        error = connect_or_own(session, false);
    if (error) {
        (void)sync_session_close(session);
        return error;
    }
    *ret_session = session;
    return 0;
}

static void end_uploads(struct sync_session *session)
{
    struct upload_context *uploads = &session->uploads;

    chunk_dir_close(uploads->chunk_dir);
    fetch_free(uploads->fetch);
    interrupter_stop(take_pointer(&session->interrupter));
    if (uploads->store)
        uploads->store->close(uploads->store);
    if (session->dirfd >= 0)
        (void)close(session->dirfd);
    session->dirfd = -1;
    atomic_store(&session->has_checked, false);
    *uploads = (struct upload_context){.store = NULL};
}

int sync_session_close(struct sync_session *session)
{
    int error;

    if (!session)
        return 0;
    end_uploads(session);
    set_client(session, NULL);
    error = disown_device(session);
    become_root_again(session);
    mutex_done(&session->mutex);
    free(session);
    return error;
}

const char *sync_session_cachedir(const struct sync_session *session)
{
    return session->options.device->cachedir;
}

bool sync_session_is_own(const struct sync_session *session)
{
    return session->own != NULL;
}

int sync_session_ask(struct sync_session *session,
                     const struct control_message *request,
                     struct control_message *ret_reply)
{
    return control_client_ask(session->client, request, ret_reply);
}

int sync_session_renew(struct sync_session *session)
{
    /* One that restarts, or the one that we gave it up for. */
    bool is_expected = session->has_daemon || session->own;

    end_uploads(session);
    set_client(session, NULL);
    (void)disown_device(session);
    /* A takeover was done by the first of us. */
    session->options.attach = DEVICE_ATTACH_NORMAL;
    return connect_or_own(session, is_expected);
}

void sync_session_interrupt(struct sync_session *session)
{
    mutex_lock(&session->mutex);
    session->is_interrupted = true;
    if (session->client)
        control_client_interrupt(session->client);
    mutex_unlock(&session->mutex);
}

/* ---- uploads ------------------------------------------------------------ */

/* Take a line "number device" of the owner's answer. */
static int set_origin(struct fetch *fetch, char *line)
{
    char *blank = strchr(line, ' ');
    uint64_t number;

    if (!blank)
        return -EBADMSG;
    *blank = '\0';
    if (number_parse(line, 1, UINT32_MAX, &number) != 0 ||
        !config_table_name_is_valid(blank + 1, strlen(blank + 1)))
        return -EBADMSG;
    return fetch_set_origin(fetch, (uint32_t)number, blank + 1);
}

/* Tell the fetch whose objects a clone's chunks are in. */
static int set_origins(struct fetch *fetch, const struct control_message *reply)
{
    AUTO_FREE char *text =
        strndup(reply->payload ? reply->payload : "", reply->payload_size);
    char *rest_of_text = text;
    int error = text ? 0 : -ENOMEM;

    for (char *line = strsep(&rest_of_text, "\n"); line && !error;
         line = strsep(&rest_of_text, "\n")) {
        if (*line != '\0')
            error = set_origin(fetch, line);
    }
    return error;
}

static int ask_origins(struct sync_session *session, struct fetch *fetch)
{
    AUTO_FREE struct control_message *message = malloc(2 * sizeof(*message));
    int error;

    if (!message)
        return -ENOMEM;
    control_message_start(&message[0], "origins");
    error = sync_session_ask(session, &message[0], &message[1]);
    if (error)
        return error;
    error = control_message_is(&message[1], "ok")
                ? set_origins(fetch, &message[1])
                : -EPROTO;
    control_message_clear(&message[1]);
    return error;
}

/* An epoch_each: one is enough. */
static int note_epoch(void *context, const char *key,
                      const struct epoch_record *record,
                      const struct object_info *info)
{
    bool *is_there = context;

    (void)key;
    (void)record;
    (void)info;
    *is_there = true;
    return 0;
}

/* Have session->epoch be the newest that the owner knows of; 0: none. */
static int ask_epoch(struct sync_session *session)
{
    AUTO_FREE struct control_message *message = malloc(2 * sizeof(*message));
    int error;

    if (!message)
        return -ENOMEM;
    control_message_start(&message[0], "status");
    error = sync_session_ask(session, &message[0], &message[1]);
    if (error)
        return error;
    error = control_message_is(&message[1], "ok") ? 0 : -EPROTO;
    session->epoch = 0;
    if (!error)
        (void)control_message_get_number(&message[1], "claim_epoch", 1,
                                         UINT64_MAX, &session->epoch);
    control_message_clear(&message[1]);
    return error;
}

/*
 * A server keeps the store that it was started with.  What is uploaded to
 * another one, because the configuration was changed since, or what is mounted
 * there, would be in an image, and not be found.  -ENODEV: it is another one;
 * other errors: it does not answer.
 */
static int check_store(struct sync_session *session)
{
    const char *name = session->options.device->name;
    bool is_there = false;
    int error;

    if (atomic_load(&session->has_checked))
        return 0;
    error = epoch_list(session->uploads.store, name, session->epoch, note_epoch,
                       &is_there);
    if (!error && !is_there) {
        log_error("%s: the store of this configuration is not the one that "
                  "the device is kept in: was it changed since the server was "
                  "started?",
                  name);
        error = -ENODEV;
    }
    atomic_store(&session->has_checked, error == 0);
    return error;
}

int sync_session_prepare_uploads(struct sync_session *session)
{
    const struct config_device *device = session->options.device;
    struct upload_context *uploads = &session->uploads;
    int error;

    if (uploads->chunk_dir)
        return 0;
    end_uploads(session);
    uploads->device_name = device->name;
    uploads->chunk_size = (uint32_t)device->chunk_size;
    session->dirfd =
        file_open(AT_FDCWD, device->cachedir, O_RDONLY | O_DIRECTORY, 0);
    error = session->dirfd < 0 ? session->dirfd : 0;
    /* A store of our own: the owner's ends with the owner. */
    if (!error)
        error = common_open_store(session->options.config, &uploads->store);
    if (!error)
        error = interrupter_start(uploads->store, session->options.hurry_fd,
                                  UINT64_MAX, &session->interrupter);
    if (!error)
        error = ask_epoch(session);
    /* One that does not answer now is asked again with each upload. */
    if (!error && check_store(session) == -ENODEV)
        error = -ENODEV;
    if (!error)
        error = fetch_new(uploads->store, device->name, &uploads->fetch);
    if (!error)
        error = ask_origins(session, uploads->fetch);
    if (!error)
        error =
            chunk_dir_open(session->dirfd, device->name, uploads->chunk_size,
                           CHUNK_DIR_READ, &uploads->chunk_dir);
    if (error) {
        if (error != -EPIPE && error != -ECANCELED)
            log_error("%s: its chunks cannot be uploaded: %s", device->name,
                      log_errno(error));
        end_uploads(session);
    }
    return error;
}

int sync_session_upload(void *session, const struct upload_work *work,
                        struct upload_result *ret_result)
{
    struct sync_session *of = session;
    int error = check_store(of);

    if (error == -EIO)
        error = -EREMOTEIO; /* which is no failure of a chunk's file */
    return error ? error : upload_chunk(&of->uploads, work, ret_result);
}
