#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# start - attach the device, check its file system, and mount it.  s3blkdevd
# must be running.
#
# usage: start.sh [SETTINGS]        (default: settings.sh, beside this file)
set -eu
here=$(dirname "$0")
# shellcheck source=scripts/filesystem.sh
. "$here/filesystem.sh"

load_settings "${1:-$here/settings.sh}"
[ -d "$MOUNT_POINT" ] || fail "$MOUNT_POINT is not a directory"
! mountpoint -q "$MOUNT_POINT" ||
    fail "something is mounted on $MOUNT_POINT already"
[ -z "$JOURNAL_DEVICE" ] || [ -b "$JOURNAL_DEVICE" ] ||
    fail "$JOURNAL_DEVICE, which has the file system's journal, is not there"
warn_of_journal
attach
detach_at_end
[ -n "$(wipefs --no-act --noheadings "$DEVICE")" ] ||
    fail "$DEVICE has no file system; init.sh makes one"
# 1: it found something to repair, and did.
e2fsck -p "$DEVICE" || [ $? = 1 ] ||
    fail "$DEVICE could not be repaired without questions, see above"
mount -t ext4 -o "$MOUNT_OPTIONS" "$DEVICE" "$MOUNT_POINT"
trap - EXIT
