/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3blkdev-sync - bring what changed into the bucket, make room, and what
 * else there is to do with devices and their images.
 *
 * Everything is asked of the owner of a device's cache directory, over its
 * control socket (control_message.h); without one, sync_session.c makes us the
 * owner.  Only the uploading itself is done here (uploader.c).
 *
 * A file for each use: sync_evict.c, sync_image.c, sync_device.c; here are the
 * status, and the first and the last steps.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pid_file.h"
#include "cache/status_text.h"
#include "common.h"
#include "sync_device.h"
#include "sync_evict.h"
#include "sync_image.h"
#include "sync_run.h"

static const struct common_program program = {
    .name = "s3blkdev-sync",
    .usage =
        "s3blkdev-sync [OPTION...] -p FILE MAX MIN [START STOP]\n"
        "           evict what is in the bucket when more than MAX percent "
        "are used,\n"
        "           until no more than MIN percent are\n"
        "       s3blkdev-sync [OPTION...] -p FILE SECONDS [START STOP]\n"
        "           upload what changed, for so long\n"
        "       s3blkdev-sync [OPTION...] COMMAND\n"
        "           status [--json]\n"
        "           snapshot DEVICE NAME [--now]\n"
        "           snapshots DEVICE\n"
        "           rollback DEVICE NAME [--discard]\n"
        "           clone DEVICE[@NAME] NEW-DEVICE\n"
        "           takeover DEVICE\n"
        "           fork DEVICE NEW-DEVICE\n"
        "           discard DEVICE\n"
        "           release DEVICE\n"
        "           scrub DEVICE [--local | --sample PERCENT] [--rate BYTES] "
        "[--restart]\n"
        "                 [--others]\n"
        "           drop DEVICE[@NAME] [--yes]\n"
        "       s3blkdev-sync -h | -V\n"
        "\n"
        "  -c FILE    the configuration, instead of " COMMON_CONFIG_PATH "\n"
        "  -d DEVICE  only this one; can be given several times\n"
        "  -p FILE    where to write the pid, so that it does not run twice\n"
        "  -w TIME    how long to look for a daemon that restarts (60s)\n"
        "  -h, -V     show this help; show the version\n"
        "\n"
        "START and STOP, percent, choose a part of the chunks: several can "
        "share the work.\n"
        "--others also deletes what a host that lost the device to a takeover "
        "uploaded\n"
        "and did not publish: if it comes back, what it has cannot be forked "
        "any more.\n",
};

/* ---- status ------------------------------------------------------------- */

/* Fill in what is known of a device; returns an exit code. */
static int ask_status(struct sync *sync, const struct config_device *device,
                      struct control_message *ret_status)
{
    int error = sync_open(sync, device, DEVICE_ATTACH_NORMAL);
    int code = COMMON_OK;

    if (!error) {
        (void)sync_request(sync, "status");
        error = sync_ask_any(sync);
        if (!error) {
            *ret_status = sync->reply; /* its payload, too */
            sync->reply.payload = NULL;
            sync->reply.payload_size = 0;
        }
        code = sync_close(sync);
    }
    if (!error)
        return code;
    control_message_start(ret_status, "ok");
    control_message_add(ret_status, "device", device->name);
    control_message_add_number(ret_status, "size", device->size);
    control_message_add(ret_status, "state", "not to be asked");
    control_message_add(ret_status, "held", log_errno(error));
    return COMMON_FAILED;
}

static int show_statuses(const struct sync *sync,
                         const struct control_message statuses[], size_t count)
{
    uint64_t now_ns = clock_realtime_ns();
    char *text;

    if (sync->command.json) {
        text = status_text_json_of_all(statuses, count);
        (void)printf("%s", text ? text : "");
        free(text);
        return text ? COMMON_OK : COMMON_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        text = status_text_table(&statuses[i], now_ns);
        (void)printf("%s", text ? text : "");
        if (!text)
            return COMMON_FAILED;
        free(text);
    }
    return COMMON_OK;
}

static int show_status(struct sync *sync)
{
    size_t count;
    AUTO_FREE struct sync_candidate *list =
        sync_choose_devices(sync, true, &count);
    AUTO_FREE struct control_message *statuses =
        calloc(count + 1, sizeof(*statuses));
    int code = COMMON_OK;

    if (!list || !statuses)
        return COMMON_FAILED;
    for (size_t i = 0; i < count; i++)
        code = sync_worse(code, ask_status(sync, list[i].device, &statuses[i]));
    code = sync_worse(code, show_statuses(sync, statuses, count));
    for (size_t i = 0; i < count; i++)
        control_message_clear(&statuses[i]);
    return code;
}

/* ---- main --------------------------------------------------------------- */

static int run(struct sync *sync)
{
    if (sync->command.verb == SYNC_EVICT)
        return sync_evict_devices(sync);
    if (sync->command.verb == SYNC_UPLOAD)
        return sync_upload_devices(sync);
    if (sync->command.verb == SYNC_STATUS)
        return show_status(sync);
    return sync_run_command(sync);
}

/* Whether all devices that were named are in the configuration. */
static bool devices_are_known(const struct sync *sync)
{
    const struct sync_command *command = &sync->command;
    const char *missing = NULL;

    for (size_t i = 0; i < command->devices_count; i++) {
        if (!sync_find_device(sync, command->devices[i]))
            missing = command->devices[i];
    }
    if (command->device[0] != '\0' && !sync_find_device(sync, command->device))
        missing = command->device;
    if (missing)
        (void)fprintf(stderr, "%s: %s: no such device in the configuration\n",
                      program.name, missing);
    return missing == NULL;
}

/* Run with signals heard, and the pid file, if any, taken. */
static int run_alone(struct sync *sync)
{
    struct pid_file pid_file;
    int code = COMMON_FAILED;
    int error = pid_file_take(sync->command.pid_path, true, &pid_file);

    if (error)
        return error == -EBUSY ? COMMON_RUNS_ALREADY : COMMON_FAILED;
    mutex_init(&sync->mutex);
    control_message_start(&sync->reply, "");
    if (pid_file_write(&pid_file) == 0 && sync_start_hearing(sync) == 0) {
        code = run(sync);
        sync_stop_hearing(sync);
    }
    control_message_clear(&sync->reply);
    mutex_done(&sync->mutex);
    pid_file_remove(&pid_file);
    return code;
}

/* Answer -h and -V, or what is wrong with the arguments; else go on. */
static int parse(struct sync *sync, int argc, char **argv)
{
    char problem[SYNC_PROBLEM_SIZE];

    if (sync_command_parse(argc, argv, &sync->command, problem) != 0) {
        (void)fprintf(stderr, "%s: %s\nusage: %s", program.name, problem,
                      program.usage);
        return COMMON_USAGE;
    }
    if (sync->command.verb == SYNC_HELP) {
        (void)printf("usage: %s", program.usage);
        return COMMON_OK;
    }
    if (sync->command.verb == SYNC_VERSION) {
        (void)printf("%s %s\n", program.name, COMMON_VERSION);
        return COMMON_OK;
    }
    return COMMON_GO_ON;
}

int main(int argc, char **argv)
{
    struct sync *sync = calloc(1, sizeof(*sync));
    int code = COMMON_FAILED;

    if (!sync)
        return code;
    sync->deadline_ns = UINT64_MAX;
    sync->has_terminal = isatty(STDOUT_FILENO);
    code = parse(sync, argc, argv);
    if (code == COMMON_GO_ON)
        code = common_load_config(&program,
                                  sync->command.config_path
                                      ? sync->command.config_path
                                      : COMMON_CONFIG_PATH,
                                  &sync->config);
    if (code == COMMON_GO_ON) {
        /* What goes as it should is no news: cron would send it by mail. */
        if (sync->config->log_level == LOG_LEVEL_INFO)
            log_set_level(LOG_LEVEL_WARNING);
        common_prepare_process();
        code = devices_are_known(sync) ? run_alone(sync) : COMMON_USAGE;
        config_free(sync->config);
    }
    free(sync);
    return code;
}
