/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_client - a client that speaks NBD byte by byte, right or wrong, for
 * tests; and a server over memory_device that it speaks to.
 *
 * It shares no code with lib/nbd but the numbers.  Receiving waits without a
 * deadline: the runner of the tests has one.
 */
#ifndef SUPPORT_NBD_CLIENT_H
#define SUPPORT_NBD_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/nbd_protocol.h"
#include "nbd/nbd_server.h"

struct device;

/* ---- the server --------------------------------------------------------- */

enum { NBD_FIXTURE_SIZE = 8 << 20 };

/* A server on a Unix socket; exports "main", of device, and "second". */
struct nbd_fixture {
    struct device *device;
    struct device *second; /* 1 MiB, read-only export */
    struct nbd_export exports[2];
    struct nbd_server_options options;
    struct nbd_server *server;
    char socket[100];
};

/*
 * Fill in the fixture: devices, exports and options, which the test may then
 * change, and a socket in the directory.
 */
void nbd_fixture_init(struct nbd_fixture *fixture, const char *dir);

/* Start the server and have it listen. */
void nbd_fixture_start(struct nbd_fixture *fixture);

/* Stop the server, if it was not, and free everything. */
void nbd_fixture_done(struct nbd_fixture *fixture);

/* Returns a connection to the server, or -1 if it does not listen. */
int nbd_fixture_connect(const struct nbd_fixture *fixture);

/* Wait until the server has as many connections. */
void nbd_fixture_wait_connections(const struct nbd_fixture *fixture,
                                  size_t count);

/* ---- the client --------------------------------------------------------- */

struct tls_client;

struct nbd_client {
    int fd;
    struct tls_client *tls; /* or NULL */
    bool structured;
    bool extended;
    /* What the server said of the export. */
    uint64_t size;
    uint16_t flags;
};

/* Send all bytes; false if the peer is gone. */
bool nbd_client_send(struct nbd_client *client, const void *data, size_t len);

/* Receive exactly len bytes; false if the peer ends before that. */
bool nbd_client_receive(struct nbd_client *client, void *data, size_t len);

/* Whether the server sends nothing more, and closes.  Closes, too. */
bool nbd_client_is_hung_up(struct nbd_client *client);

/* Close the connection, without a word. */
void nbd_client_close(struct nbd_client *client);

/* Connect, check the greeting, send these client flags. */
bool nbd_client_greet(struct nbd_client *client,
                      const struct nbd_fixture *fixture, uint32_t flags);

/* Send an option with len bytes of data. */
bool nbd_client_send_option(struct nbd_client *client, uint32_t option,
                            const void *data, size_t len);

struct nbd_client_answer {
    uint32_t option;
    uint32_t type;
    uint32_t len;
    uint8_t data[16384];
};
/* Receive an answer to an option; false also if its magic is wrong. */
bool nbd_client_receive_answer(struct nbd_client *client,
                               struct nbd_client_answer *answer);

/* Send an option and receive one answer: returns its type, or 0. */
uint32_t nbd_client_ask(struct nbd_client *client, uint32_t option,
                        const void *data, size_t len);

/* Fill in the data of INFO or GO; returns their length. */
size_t nbd_client_put_info(uint8_t *to, const char *name, const uint16_t *types,
                           size_t count);

/* The same for LIST_META_CONTEXT and SET_META_CONTEXT. */
size_t nbd_client_put_context(uint8_t *to, const char *name,
                              const char *const queries[], size_t count);

/* Ask to GO to the export; true when transmission follows. */
bool nbd_client_go(struct nbd_client *client, const char *name);

enum nbd_client_mode {
    NBD_CLIENT_SIMPLE,
    NBD_CLIENT_STRUCTURED, /* with base:allocation */
    NBD_CLIENT_EXTENDED,   /* the same */
};
/* From the connection to transmission. */
bool nbd_client_enter(struct nbd_client *client,
                      const struct nbd_fixture *fixture,
                      enum nbd_client_mode mode, const char *name);

/* Send the head of a request. */
bool nbd_client_request(struct nbd_client *client, uint16_t flags,
                        uint16_t type, uint64_t cookie, uint64_t offset,
                        uint64_t length);

/* Receive a simple reply: its error, or -1 if it is none for the cookie. */
int64_t nbd_client_simple(struct nbd_client *client, uint64_t cookie);

struct nbd_client_chunk {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;
    uint64_t offset; /* of extended ones */
    uint64_t length;
};
/* Receive the head of a chunk. */
bool nbd_client_chunk(struct nbd_client *client,
                      struct nbd_client_chunk *chunk);

/*
 * Receive a whole reply that has at most one chunk without data, simple,
 * structured or extended: its error, or -1 if it is none for the cookie.
 * The text of an error is dropped.
 */
int64_t nbd_client_result(struct nbd_client *client, uint64_t cookie);

/* WRITE, or READ, and wait for the result. */
int64_t nbd_client_write(struct nbd_client *client, uint16_t flags,
                         uint64_t offset, const void *data, size_t len);
int64_t nbd_client_read(struct nbd_client *client, uint16_t flags,
                        uint64_t offset, void *data, size_t len);

/* Send a request without data, and wait for the result. */
int64_t nbd_client_do(struct nbd_client *client, uint16_t flags, uint16_t type,
                      uint64_t offset, uint64_t length);

/* Whether a FLUSH is answered, without an error. */
bool nbd_client_is_alive(struct nbd_client *client);

/*
 * Send count WRITEs of a page of 'w' each, one behind the other, which the
 * fixture's device holds from then on; they have arrived there.
 */
void nbd_client_send_held(const struct nbd_fixture *fixture,
                          struct nbd_client *client, size_t count);

#endif
