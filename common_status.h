/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * common_status - the status socket: how all devices are, and maps of their
 * chunks, as JSON.  docs/STATUS.md tells what is in it.
 *
 * Threads: those of the control server.  common_serve_status is in common.h.
 */
#ifndef COMMON_STATUS_H
#define COMMON_STATUS_H

struct control_message;
struct nbd_tally_sums;

/* Add what the clients of a device did to its status. */
void common_tell_clients(const struct nbd_tally_sums *sums,
                         struct control_message *status);

#endif
