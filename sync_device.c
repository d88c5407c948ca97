/* SPDX-License-Identifier: BSD-2-Clause */
#include "sync_device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/human.h"
#include "base/log.h"
#include "base/number.h"
#include "common.h"
#include "sync_image.h"
#include "sync_session.h"

enum { NAME_LINE = 128 };

/* ---- commands on one device --------------------------------------------- */

/* Ask what was begun, once; returns an exit code. */
static int ask_once(struct sync *sync, const struct config_device *device)
{
    char verb[NAME_LINE];
    int error;

    (void)snprintf(verb, sizeof(verb), "%s",
                   control_message_verb(&sync->request));
    error = sync_ask(sync);
    if (error == -EPIPE)
        return sync_fail(device,
                         "%s: the owner went away; whether it is done, status "
                         "tells",
                         verb);
    return error ? sync_fail_request(sync, device, verb, error) : COMMON_OK;
}

/* Say what an epoch and a snapshot in the reply mean. */
static void tell_epoch(struct sync *sync, const struct config_device *device,
                       const char *what)
{
    const char *snapshot = control_message_get(&sync->reply, "snapshot");

    (void)printf("%s: %s; epoch %" PRIu64, device->name, what,
                 sync_number(sync, "epoch"));
    if (snapshot)
        (void)printf("; what was before is snapshot %s", snapshot);
    (void)printf("\n");
}

static int take_snapshot(struct sync *sync, const struct config_device *device)
{
    struct sync_image image = {.is_made = false};
    int code = COMMON_OK;

    if (sync->command.now) {
        code = sync_make_image(sync, device, &image);
        /* It began before it was asked for: the next one is wanted. */
        if (code == COMMON_OK && image.joined && image.is_made)
            code = sync_make_image(sync, device, &image);
    }
    if (code != COMMON_OK)
        return code;
    control_message_add(sync_request(sync, "snapshot"), "name",
                        sync->command.name);
    if (image.is_made)
        control_message_add_number(&sync->request, "epoch", image.epoch);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        (void)printf("%s: image %" PRIu64 " is snapshot %s\n", device->name,
                     sync_number(sync, "epoch"), sync->command.name);
    return code;
}

/* Show a line "name epoch time". */
static void show_snapshot(char *line)
{
    char *name = strsep(&line, " "), *epoch = strsep(&line, " ");
    char moment[HUMAN_TEXT] = "?";
    uint64_t time_ns;

    if (line && number_parse(line, 0, UINT64_MAX, &time_ns) == 0)
        (void)human_time(time_ns, moment);
    if (epoch)
        (void)printf("%s\timage %s of %s\n", name, epoch, moment);
}

static int show_snapshots(struct sync *sync, const struct config_device *device)
{
    AUTO_FREE char *text = NULL;
    char *rest;
    int code;

    (void)sync_request(sync, "snapshots");
    code = ask_once(sync, device);
    if (code != COMMON_OK || sync->reply.payload_size == 0)
        return code;
    text = strndup(sync->reply.payload, sync->reply.payload_size);
    rest = text;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        if (*line != '\0')
            show_snapshot(line);
    }
    return text ? COMMON_OK : COMMON_FAILED;
}

static int roll_back(struct sync *sync, const struct config_device *device)
{
    int code;

    control_message_add(sync_request(sync, "rollback"), "name",
                        sync->command.name);
    if (sync->command.discard)
        control_message_add_number(&sync->request, "discard", 1);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        tell_epoch(sync, device, "is what the snapshot holds");
    return code;
}

static int make_clone(struct sync *sync, const struct config_device *device)
{
    int code;

    control_message_add(sync_request(sync, "clone"), "to", sync->command.to);
    if (sync->command.name[0] != '\0')
        control_message_add(&sync->request, "name", sync->command.name);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        (void)printf("%s: device %s is a clone of it\n", device->name,
                     sync->command.to);
    return code;
}

/* What was done when we opened the device, or what its owner does. */
static int change_claim(struct sync *sync, const struct config_device *device,
                        const char *verb, const char *what)
{
    int code;

    (void)sync_request(sync,
                       sync_session_is_own(sync->session) ? "status" : verb);
    code = ask_once(sync, device);
    if (code != COMMON_OK)
        return code;
    (void)printf("%s: %s\n", device->name, what);
    return code;
}

static int take_over(struct sync *sync, const struct config_device *device)
{
    return change_claim(sync, device, "takeover", "belongs to this host now");
}

static int discard(struct sync *sync, const struct config_device *device)
{
    return change_claim(sync, device, "discard",
                        "is what its last image holds");
}

static int release(struct sync *sync, const struct config_device *device)
{
    int code;

    (void)sync_request(sync, "release");
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        tell_epoch(sync, device, "can be attached by another host");
    return code;
}

static int fork_device(struct sync *sync, const struct config_device *device)
{
    int code;

    control_message_add(sync_request(sync, "fork"), "to", sync->command.to);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        (void)printf("%s: what is here is device %s, too\n", device->name,
                     sync->command.to);
    return code;
}

/* ---- scrub -------------------------------------------------------------- */

/* What all steps found. */
struct scrub {
    uint64_t objects, blocks, bytes, bad, repaired;
};

static void show_scrub(const struct sync *sync,
                       const struct config_device *device,
                       const struct scrub *scrub, const char *end)
{
    char bytes[HUMAN_TEXT];

    (void)printf(
        "%s%s: chunk %" PRIu64 " of %" PRIu64 ": %" PRIu64 " objects, %" PRIu64
        " blocks, %s; %" PRIu64 " bad, %" PRIu64 " repaired%s",
        sync->has_terminal ? "\r" : "", device->name,
        sync_number(sync, "position"), sync_number(sync, "chunks"),
        scrub->objects, scrub->blocks, human_size(scrub->bytes, bytes),
        scrub->bad, scrub->repaired, sync->has_terminal ? "\033[K" : "");
    (void)printf("%s", end);
    (void)fflush(stdout);
}

static void begin_scrub_step(struct sync *sync, bool is_first)
{
    const struct sync_command *command = &sync->command;
    struct control_message *message = sync_request(sync, "scrub");

    if (is_first && command->restart)
        control_message_add_number(message, "restart", 1);
    if (command->local)
        control_message_add_number(message, "local", 1);
    if (command->sample < 100)
        control_message_add_number(message, "sample", command->sample);
    if (command->rate > 0)
        control_message_add_number(message, "rate", command->rate);
    if (command->others)
        control_message_add_number(message, "others", 1);
}

/* What there is to say of those objects, that were asked for. */
static int show_condemned(struct sync *sync, const struct config_device *device)
{
    if (!control_message_has(&sync->reply, "condemned"))
        return sync_fail(device, "%s",
                         "what no image names cannot be looked for: see the "
                         "log");
    (void)printf("%s: %" PRIu64
                 " objects that no image names will be deleted\n",
                 device->name, sync_number(sync, "condemned"));
    return COMMON_OK;
}

static int scrub(struct sync *sync, const struct config_device *device)
{
    struct scrub sum = {.objects = 0};
    bool is_first = true;
    int code = COMMON_OK;

    do {
        int error;

        begin_scrub_step(sync, is_first);
        error = sync_ask_any(sync);
        if (error)
            return sync_fail_request(sync, device, "scrub", error);
        is_first = false;
        sum.objects += sync_number(sync, "objects");
        sum.blocks += sync_number(sync, "blocks");
        sum.bytes += sync_number(sync, "bytes");
        sum.bad += sync_number(sync, "bad");
        sum.repaired += sync_number(sync, "repaired");
        if (sync->reply.payload_size > 0)
            (void)printf("%s%.*s", sync->has_terminal ? "\r\033[K" : "",
                         (int)sync->reply.payload_size,
                         (const char *)sync->reply.payload);
        if (sync->has_terminal)
            show_scrub(sync, device, &sum, "");
    } while (sync_number(sync, "done") == 0 && !sync_is_stopping(sync));
    if (sync->has_terminal || sum.bad > 0)
        show_scrub(sync, device, &sum, "\n");
    if (sync_number(sync, "done") == 0)
        code = COMMON_TIME_UP;
    else if (sync->command.others)
        code = show_condemned(sync, device);
    return sum.bad > sum.repaired ? COMMON_FAILED : code;
}

/* ---- drop --------------------------------------------------------------- */

/* Whether the user means it. */
static bool is_confirmed(const struct sync *sync,
                         const struct config_device *device)
{
    char line[NAME_LINE];

    if (sync->command.yes)
        return true;
    if (!isatty(STDIN_FILENO)) {
        (void)sync_fail(device, "%s",
                        "drop needs --yes, or a terminal to ask on");
        return false;
    }
    if (sync->command.name[0] != '\0')
        (void)printf("Snapshot %s of device %s is deleted.\n",
                     sync->command.name, device->name);
    else
        (void)printf(
            "Device %s is deleted, with all its images.  What is in its "
            "cache directory is of no use then.\n",
            device->name);
    (void)printf("Type the device's name if you mean it: ");
    (void)fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        return false;
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, device->name) == 0)
        return true;
    (void)printf("Nothing is deleted.\n");
    return false;
}

static int drop(struct sync *sync, const struct config_device *device)
{
    int code;

    (void)sync_request(sync, "drop");
    if (sync->command.name[0] != '\0')
        control_message_add(&sync->request, "name", sync->command.name);
    code = ask_once(sync, device);
    if (code == COMMON_OK)
        (void)printf("%s%s%s: is dropped\n", device->name,
                     sync->command.name[0] != '\0' ? "@" : "",
                     sync->command.name);
    if (code == COMMON_OK && sync->command.name[0] == '\0')
        (void)printf("%s: what is in %s is of no use any more\n", device->name,
                     device->cachedir);
    return code;
}

/* ---- all of them -------------------------------------------------------- */

/* What is done with one device, in a session. */
typedef int device_command(struct sync *sync,
                           const struct config_device *device);

static const struct {
    enum sync_verb verb;
    device_command *run;
    enum device_attach attach;
} commands[] = {
    {SYNC_SNAPSHOT, take_snapshot, DEVICE_ATTACH_NORMAL},
    {SYNC_SNAPSHOTS, show_snapshots, DEVICE_ATTACH_NORMAL},
    {SYNC_ROLLBACK, roll_back, DEVICE_ATTACH_NORMAL},
    {SYNC_CLONE, make_clone, DEVICE_ATTACH_NORMAL},
    {SYNC_TAKEOVER, take_over, DEVICE_ATTACH_TAKEOVER},
    {SYNC_FORK, fork_device, DEVICE_ATTACH_FORK},
    {SYNC_DISCARD, discard, DEVICE_ATTACH_DISCARD},
    {SYNC_RELEASE, release, DEVICE_ATTACH_NORMAL},
    {SYNC_SCRUB, scrub, DEVICE_ATTACH_NORMAL},
    {SYNC_DROP, drop, DEVICE_ATTACH_NORMAL},
};

/*
 * How to open the device.  One that is dropped as a whole stands aside, as to
 * be forked: an earlier try may have come as far as the tombstone.
 */
static enum device_attach attach_for(const struct sync *sync, size_t i)
{
    return commands[i].verb == SYNC_DROP && sync->command.name[0] == '\0'
               ? DEVICE_ATTACH_FORK
               : commands[i].attach;
}

int sync_run_command(struct sync *sync)
{
    const struct config_device *device =
        sync_find_device(sync, sync->command.device);
    int code, error;

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (commands[i].verb != sync->command.verb)
            continue;
        if (sync->command.verb == SYNC_DROP && !is_confirmed(sync, device))
            return COMMON_FAILED;
        error = sync_open(sync, device, attach_for(sync, i));
        if (error)
            return error == -ECANCELED ? COMMON_TIME_UP : COMMON_FAILED;
        code = commands[i].run(sync, device);
        return sync_worse(code, sync_close(sync));
    }
    return COMMON_USAGE; /* the parser knows no other */
}
