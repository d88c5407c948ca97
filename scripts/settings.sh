# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# shellcheck disable=SC2034 # they are for who reads this
#
# settings - what init.sh, start.sh and stop.sh work on.  Copy this file, edit
# the copy, and name it as their only argument; without one they take this.

# Where s3blkdevd listens, and the name of the device there.
SOCKET=/run/s3blkdev/nbd.sock
EXPORT=device1

# The kernel's device, and where its file system is mounted.
DEVICE=/dev/nbd0
MOUNT_POINT=/mnt

# An empty partition or volume on a fast disk, for the journal of the file
# system; if empty, the journal is in the file system itself, as it should be
# unless the device has "writethrough 1": without it, Linux syncs only the
# journal's disk, and files that were synced can be lost when the power is.
JOURNAL_DEVICE=
# JOURNAL_DEVICE=/dev/vg0/lvjournal1

# Chunks of 8 MiB, in blocks of 4096 bytes.
STRIPE=2048

# Of mount(8).  journal_async_commit would need data=writeback as well: then
# files may have old contents after a crash.
MOUNT_OPTIONS=stripe=$STRIPE,noatime

# s3blkdev-attach brings the connections back when s3blkdevd was killed;
# nbd-client does not.
ATTACH_BY=s3blkdev-attach

# The configuration, to see whether the device has "writethrough 1".
CONFIG=/usr/local/etc/s3blkdev.conf
