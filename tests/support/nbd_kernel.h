/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_kernel - stands in for the kernel's NBD driver: answers the messages of
 * generic netlink over a pair of sockets, holds connections that it is given,
 * and has the files of /sys, /proc and /dev below a directory.
 *
 * Threads: any.
 */
#ifndef SUPPORT_NBD_KERNEL_H
#define SUPPORT_NBD_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NBD_KERNEL_DEVICES = 4 }; /* nbd0 to nbd3 */

struct nbd_kernel;

/* What a device was told. */
struct nbd_kernel_device {
    bool is_configured;
    unsigned attached_by; /* a process of its own for each attachment */
    uint64_t size, block_size, flags, timeout_s, dead_timeout_s;
    char backend[512]; /* "": none */
    size_t connections;
    size_t dead; /* of them: those that the driver knows of */
};

/* Begin; root is an empty directory. */
struct nbd_kernel *nbd_kernel_start(const char *root);

/* End it; all descriptors of nbd_kernel_open must be closed. */
void nbd_kernel_stop(struct nbd_kernel *kernel);

/*
 * Returns what a netlink socket would be, for the caller to close.  hears:
 * events are sent to it.
 */
int nbd_kernel_open(struct nbd_kernel *kernel, bool hears);

/* The next message but those that ask for the family is answered so. */
void nbd_kernel_fail_next(struct nbd_kernel *kernel, int error);

/* The same of the next one that is to change something. */
void nbd_kernel_fail_change(struct nbd_kernel *kernel, int error);

/* What is known of a device now. */
struct nbd_kernel_device nbd_kernel_device(struct nbd_kernel *kernel,
                                           uint32_t index);

/*
 * Have the driver see which connections of a device their peers have closed,
 * and send an event for each (if heard).  Returns how many.
 */
size_t nbd_kernel_notice(struct nbd_kernel *kernel, uint32_t index, bool heard);

/*
 * Somebody has a device open that is not attached, until it was asked for or to
 * be attached so many times.
 */
void nbd_kernel_keep_open(struct nbd_kernel *kernel, uint32_t index,
                          unsigned times);

/* Detach a device, as another process would. */
void nbd_kernel_detach(struct nbd_kernel *kernel, uint32_t index);

/* Wait until so many connections were offered in all, taken or not. */
void nbd_kernel_wait_offers(struct nbd_kernel *kernel, size_t count);

/* Returns how many have been. */
size_t nbd_kernel_offers(struct nbd_kernel *kernel);

/*
 * Detach a device and attach it again, as other means would: nobody is told to
 * what.  Its one connection is lost at once, which is heard.
 */
void nbd_kernel_attach_foreign(struct nbd_kernel *kernel, uint32_t index,
                               uint64_t size);

/* Write a file below root; directories are made. */
void nbd_kernel_write(struct nbd_kernel *kernel, const char *path,
                      const char *text);

#endif
