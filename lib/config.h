/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config - the configuration, and the file that it is read from.
 *
 * config_table.c has a row for each setting, from which parser and checks are
 * made; a check keeps s3blkdev.conf.dist and the manual page equal to it.
 *
 * A file has lines "name value" and sections "[device]", each up to the next;
 * a setting that is not one of a device is global wherever it stands.  # and
 * ; begin a comment, at the start of a line or after a blank.
 *
 * Threads: one.  Nothing outside this file reads the table to find values:
 * programs hand them down in structs.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CONFIG_FILE_MAX = 1 << 20, /* bytes of a file */
    CONFIG_LIST_MAX = 16,      /* values of a setting that may be repeated */
    CONFIG_DEVICES_MAX = 256,
    CONFIG_DEVICE_NAME_MAX = 63,
};

enum config_tls {
    CONFIG_TLS_OFF,
    CONFIG_TLS_ON,       /* for clients that ask for it */
    CONFIG_TLS_REQUIRED, /* clients that do not ask are told nothing */
};

enum config_addressing {
    CONFIG_ADDRESSING_AUTO, /* as the host's name suggests */
    CONFIG_ADDRESSING_PATH,
    CONFIG_ADDRESSING_VIRTUAL,
};

enum config_sse { CONFIG_SSE_NONE, CONFIG_SSE_AES256, CONFIG_SSE_KMS };

struct config_list {
    char *items[CONFIG_LIST_MAX];
    size_t count;
};

/* Strings that are not set are NULL; a list that is not set has no items. */
struct config_device {
    char *name;
    char *description;
    char *cachedir;
    char *journal;
    uint64_t size;
    uint64_t chunk_size;
    uint64_t journal_size;
    uint64_t cache_size; /* bytes of chunk files; 0: all of the disk */
    uint64_t cache_memory;
    uint64_t grace_s;
    uint64_t max_age_s;
    unsigned keep; /* images */
    char *image;   /* "device@snapshot"; then it is read-only, too */
    bool write_through;
    bool read_only;
};

struct config {
    struct config_list listen; /* addresses, and paths of Unix sockets */
    char *status;              /* path of the status socket */
    unsigned port;
    unsigned workers;
    unsigned fetchers;
    unsigned uploads;
    uint64_t upload_rate; /* bytes a second, for a device; 0: no limit */
    unsigned max_connections;
    unsigned handshake_timeout_ms;
    unsigned log_level; /* of enum log_level */
    unsigned tls;       /* of enum config_tls */
    char *tls_certificates;
    char *tls_psk;
    bool tls_verify;
    char *s3dir; /* if set, nothing that follows is used but s3uploads */
    struct config_list s3hosts;
    struct config_list s3ports;
    bool s3ssl;
    char *s3accesskey;
    char *s3secretkey;
    char *s3bucket;
    char *s3name;
    unsigned s3timeout_ms;
    unsigned s3maxreqsperconn; /* 0: no limit */
    char *s3region;
    unsigned s3addressing; /* of enum config_addressing */
    char *s3prefix;
    char *s3ca;
    bool s3insecure;
    char *s3sessiontoken;
    char *s3credentials; /* as credentials_options.source of lib/s3 */
    bool s3unsigned_payload;
    struct config_list s3uploads;   /* as bandwidth_parse reads them, also */
    struct config_list s3downloads; /* with s3dir */
    char *s3storage_class;
    unsigned s3sse; /* of enum config_sse */
    char *s3sse_key;
    struct config_device *devices;
    size_t devices_count;
};

/* Mistakes, one line of text each, "file:line: what, what is allowed". */
struct config_problems {
    char **lines;
    size_t count;
};

/*
 * Read and parse the file.  Returns 0 and a configuration that the caller
 * frees, or -EINVAL if there are problems, or another error if the file
 * cannot be read, which then is the only problem.  *ret_problems is always
 * written, and freed by the caller.
 */
int config_load(const char *path, struct config **ret_config,
                struct config_problems *ret_problems);

/*
 * As config_load, for text that came from a file of that name.  others_may:
 * who is neither the file's owner nor in its group can read or write it.
 */
int config_parse(const char *file, const char *text, size_t len,
                 bool others_may, struct config **ret_config,
                 struct config_problems *ret_problems);

/* Free a configuration, its secrets overwritten; NULL does nothing. */
void config_free(struct config *config);

/* Free the lines; the struct may be used again. */
void config_problems_free(struct config_problems *problems);

/* What there is to know about a setting, as text. */
struct config_description {
    const char *name;
    const char *scope;   /* "global" or "device" */
    const char *initial; /* the default, "" if there is none */
    char allowed[128];
    const char *help;
    bool is_reloaded; /* a reload applies it; else it takes a restart */
};

/*
 * Describe the setting of that number, counted from 0 in the order of the
 * documentation.  Returns false behind the last one.
 */
bool config_describe(size_t number, struct config_description *ret_description);

#endif
