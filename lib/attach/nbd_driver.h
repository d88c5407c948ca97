/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_driver - the kernel's NBD driver, asked by generic netlink.
 *
 * What it is told it does at once; nothing here waits for a server.  All but
 * asking for the state needs root's rights.
 *
 * Threads: one at a time for each struct nbd_driver.
 */
#ifndef ATTACH_NBD_DRIVER_H
#define ATTACH_NBD_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net_address.h"

struct nbd_driver;

/*
 * Find the driver.  -ENODEV: the module is not loaded; -EPERM and others, in
 * words in *ret_failure.
 */
int nbd_driver_open(struct nbd_driver **ret_driver,
                    struct net_failure *ret_failure);

/* The same over a socket that is there; it belongs to the driver from now. */
int nbd_driver_open_over(int fd, struct nbd_driver **ret_driver,
                         struct net_failure *ret_failure);

/* Close and free it; NULL does nothing. */
void nbd_driver_close(struct nbd_driver *driver);

/* What a device is configured with. */
struct nbd_driver_config {
    uint32_t index;
    uint64_t size;
    uint32_t block_size;
    uint16_t flags; /* the server's, of the handshake */
    uint64_t timeout_s;
    uint64_t dead_timeout_s;
    const char *backend; /* an identifier, or NULL */
    const int *fds;      /* the kernel takes references of its own */
    size_t fds_count;
};

/*
 * Configure the device, which is then attached.  -EBUSY: it is already, or is
 * still open; -EINVAL: the kernel does not like the values.
 */
int nbd_driver_connect(struct nbd_driver *driver,
                       const struct nbd_driver_config *config);

/*
 * Offer a connection to a device that has lost one.  0 also if it has lost
 * none (or the driver has not seen that yet), and takes nothing.  -EINVAL: it
 * is not attached, by netlink, to this backend.
 */
int nbd_driver_offer(struct nbd_driver *driver, uint32_t index,
                     const char *backend, int fd);

/* Change the size of an attached device. */
int nbd_driver_resize(struct nbd_driver *driver, uint32_t index,
                      const char *backend, uint64_t size);

/* Detach a device, mounted or not; 0 also if it is not attached. */
int nbd_driver_disconnect(struct nbd_driver *driver, uint32_t index);

/*
 * Tell whether a device is configured: it may be so without a connection that
 * lives.
 */
int nbd_driver_is_configured(struct nbd_driver *driver, uint32_t index,
                             bool *ret_is_configured);

/*
 * List the devices that are configured; the caller frees the numbers, which
 * ascend.
 */
int nbd_driver_list(struct nbd_driver *driver, uint32_t **ret_indexes,
                    size_t *ret_count);

/* From now on nbd_driver_next_event tells of connections that are lost. */
int nbd_driver_listen(struct nbd_driver *driver);

/* Returns the descriptor that is readable when there is an event. */
int nbd_driver_fd(const struct nbd_driver *driver);

/*
 * Take the next event: a connection of *ret_index is lost.  -EAGAIN: there is
 * none; -ENOBUFS: some were not kept.
 */
int nbd_driver_next_event(struct nbd_driver *driver, uint32_t *ret_index);

#endif
