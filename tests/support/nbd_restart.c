/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/nbd_restart.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/net.h"

static int keep(void *context, int fd, const void *record, size_t record_len)
{
    struct nbd_restart *restart = context;
    struct nbd_restart_item *item = &restart->items[restart->count];

    if (restart->error < 0)
        return restart->error;
    assert(restart->count < NBD_RESTART_MAX);
    item->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    item->record = malloc(record_len);
    item->record_len = record_len;
    assert(item->fd >= 0 && item->record);
    memcpy(item->record, record, record_len);
    restart->count++;
    return 0;
}

void nbd_restart_hand_over(struct nbd_restart *restart,
                           struct nbd_fixture *fixture, unsigned deadline_ms)
{
    size_t before = restart->count, count = SIZE_MAX;

    restart->result = nbd_server_hand_over(fixture->server, deadline_ms, keep,
                                           restart, &count);
    assert(count == restart->count - before);
    nbd_server_free(fixture->server);
    fixture->server = NULL;
}

void nbd_restart_resume(struct nbd_restart *restart,
                        struct nbd_fixture *fixture)
{
    struct nbd_server_options options = fixture->options;
    int error;

    options.exports_count = 0;
    options.default_name = "main";
    error = nbd_server_start(&options, &fixture->server);
    assert(error == 0);
    for (size_t i = 0; i < restart->count; i++) {
        struct nbd_restart_item *item = &restart->items[i];

        error = nbd_server_resume(fixture->server, item->fd, item->record,
                                  item->record_len);
        assert(error == 0);
        free(item->record);
    }
    restart->count = 0;
}

void nbd_restart_open(struct nbd_fixture *fixture)
{
    int error = nbd_server_add_export(fixture->server, &fixture->exports[0]);
    int fd;

    assert(error == 0);
    error = nbd_server_add_export(fixture->server, &fixture->exports[1]);
    assert(error == 0);
    fd = net_listen_unix(fixture->socket, 0600);
    assert(fd >= 0);
    error = nbd_server_listen(fixture->server, fd);
    assert(error == 0);
}

void nbd_restart_at_once(struct nbd_fixture *fixture)
{
    struct nbd_restart restart = {.count = 0};

    nbd_restart_hand_over(&restart, fixture, 0);
    nbd_restart_resume(&restart, fixture);
    nbd_restart_open(fixture);
}

void nbd_restart_done(struct nbd_restart *restart)
{
    for (size_t i = 0; i < restart->count; i++) {
        (void)close(restart->items[i].fd);
        free(restart->items[i].record);
    }
    restart->count = 0;
}
