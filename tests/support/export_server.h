/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export_server - an NBD server that knows the handshake only, says what the
 * test wants, and can be killed.
 *
 * It shares no code with lib but the numbers.  What comes after the handshake
 * it reads and forgets.  Threads: any.
 */
#ifndef SUPPORT_EXPORT_SERVER_H
#define SUPPORT_EXPORT_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct export_server;

/* What is said; it may change while the server runs. */
struct export_server_script {
    uint64_t size;
    uint16_t flags;
    uint32_t block_size_min; /* 0: nothing is said of it */
    const char *incarnation; /* NULL: contexts are not known */
    /* From the n-th question on (0: never) another incarnation. */
    unsigned next_at;
    const char *next_incarnation;
    uint32_t refusal; /* of GO; 0: none */
};

/* What s3blkdevd says of a device of that size. */
struct export_server_script export_server_good(uint64_t size);

/* Listen on a Unix socket. */
struct export_server *export_server_start(const char *path,
                                          struct export_server_script script);

/* Change what is said from now on. */
void export_server_change(struct export_server *server,
                          struct export_server_script script);

/* As kill -9: all connections end, nobody listens.  Frees it. */
void export_server_kill(struct export_server *server);

/* Returns how many connections have chosen an export, and live. */
size_t export_server_chosen(struct export_server *server);

/* Wait until so many have. */
void export_server_wait_chosen(struct export_server *server, size_t count);

#endif
