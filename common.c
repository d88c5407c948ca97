/* SPDX-License-Identifier: BSD-2-Clause */
#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "base/log.h"

/* ---- options ------------------------------------------------------------ */

enum long_option { OPTION_SINGLE = 256, OPTION_HAND_OVER };

static const struct option long_options[] = {
    {"single", no_argument, NULL, OPTION_SINGLE},
    {"hand-over", no_argument, NULL, OPTION_HAND_OVER},
    {NULL, 0, NULL, 0},
};

int common_parse_options(const struct common_program *program, int argc,
                         char **argv, struct common_options *ret_options)
{
    const struct option *longs = long_options;
    struct common_options options = {
        .config_path = COMMON_CONFIG_PATH,
    };
    int option;

    if (!strchr(program->letters, 't'))
        longs = &long_options[sizeof(long_options) / sizeof(*longs) - 1];
    while ((option = getopt_long(argc, argv, program->letters, longs, NULL)) !=
           -1) {
        switch (option) {
        case 'c':
            options.config_path = optarg;
            break;
        case 'p':
            options.pid_path = optarg;
            break;
        case 't':
            options.check_only = true;
            break;
        case OPTION_SINGLE:
            options.single = true;
            break;
        case OPTION_HAND_OVER:
            options.hand_over = true;
            break;
        case 'h':
            (void)printf("usage: %s", program->usage);
            return COMMON_OK;
        case 'V':
            (void)printf("%s %s\n", program->name, COMMON_VERSION);
            return COMMON_OK;
        default: /* getopt_long said what is wrong */
            (void)fprintf(stderr, "%s -h tells the options\n", program->name);
            return COMMON_USAGE;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "%s: %s: there are no arguments but options\n",
                      program->name, argv[optind]);
        return COMMON_USAGE;
    }
    if (options.single && options.hand_over) {
        (void)fprintf(stderr,
                      "%s: --single and --hand-over exclude each other\n",
                      program->name);
        return COMMON_USAGE;
    }
    *ret_options = options;
    return COMMON_GO_ON;
}

/* ---- configuration and log ---------------------------------------------- */

int common_load_config(const struct common_program *program, const char *path,
                       struct config **ret_config)
{
    struct config_problems problems;
    int error = config_load(path, ret_config, &problems);

    for (size_t i = 0; i < problems.count; i++)
        (void)fprintf(stderr, "%s\n", problems.lines[i]);
    config_problems_free(&problems);
    if (error)
        return COMMON_CONFIG;
    log_open(program->name, LOG_TARGET_AUTO,
             (enum log_level)(*ret_config)->log_level);
    return COMMON_GO_ON;
}

static bool check_directory(const char *setting, const char *path)
{
    struct stat st;

    if (!path)
        return true;
    if (stat(path, &st) != 0)
        log_warning("%s %s: %s", setting, path, log_errno(-errno));
    else if (!S_ISDIR(st.st_mode))
        log_warning("%s %s: not a directory", setting, path);
    else
        return true;
    return false;
}

bool common_check_directories(const struct config *config)
{
    bool are_there = check_directory("s3dir", config->s3dir);

    are_there &= check_directory("tlscertificates", config->tls_certificates);
    for (size_t i = 0; i < config->devices_count; i++) {
        are_there &= check_directory("cachedir", config->devices[i].cachedir);
        are_there &= check_directory("journal", config->devices[i].journal);
    }
    return are_there;
}

/* ---- process ------------------------------------------------------------ */

/*
 * A chunk that is folded or uploaded is in a buffer of a MiB or so, for a
 * moment, in any of many threads.  malloc by itself learns from the first of
 * them to take the next out of its arenas, of which it has up to eight for
 * each processor, and where they leave holes that stay for good.  A buffer of
 * its own goes back when it is freed; small things share few arenas.
 */
static void bound_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 128 << 10);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 20);
    (void)mallopt(M_ARENA_MAX, 4);
}

void common_prepare_process(void)
{
    struct rlimit files;

    bound_memory();
    (void)signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0)
            log_warning("the number of open files stays limited: %s",
                        log_errno(-errno));
    }
}

int common_open_signals(int *ret_fd)
{
    sigset_t wanted;
    int fd;

    (void)sigemptyset(&wanted);
    (void)sigaddset(&wanted, SIGTERM);
    (void)sigaddset(&wanted, SIGINT);
    (void)sigaddset(&wanted, SIGHUP);
    if (pthread_sigmask(SIG_BLOCK, &wanted, NULL) != 0)
        return -EINVAL;
    fd = signalfd(-1, &wanted, SFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}
