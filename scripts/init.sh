#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# init - make the first file system on a device, and its journal on another
# disk if one is set.  s3blkdevd must be running.
#
# usage: init.sh [SETTINGS]        (default: settings.sh, beside this file)
#
# A disk that has anything on it is refused.
set -eu
here=$(dirname "$0")
# shellcheck source=scripts/filesystem.sh
. "$here/filesystem.sh"

# Refuse a disk that is in use, or has something on it.
check_empty()
{
    [ -b "$1" ] || fail "$1 is not a block device"
    [ -z "$(mounts_of "$1")" ] || fail "$1 is mounted on $(mounts_of "$1")"
    for holder in "/sys/class/block/$(basename "$(realpath "$1")")/holders"/*; do
        [ ! -e "$holder" ] || fail "$1 is in use by ${holder##*/}"
    done
    found=$(wipefs --no-act --noheadings --output TYPE "$1" | xargs)
    [ -z "$found" ] ||
        fail "$1 has something on it: $found.  If that is to be lost, and" \
            "only then, run: wipefs --all $1"
}

load_settings "${1:-$here/settings.sh}"
warn_of_journal
[ -z "$JOURNAL_DEVICE" ] || check_empty "$JOURNAL_DEVICE"
attach
detach_at_end
check_empty "$DEVICE"
if [ -n "$JOURNAL_DEVICE" ]; then
    mkfs.ext4 -b 4096 -O journal_dev "$JOURNAL_DEVICE"
    set -- -J "device=$JOURNAL_DEVICE"
else
    set --
fi
mkfs.ext4 -b 4096 "$@" -E "stride=$STRIPE,stripe_width=$STRIPE" "$DEVICE"
e2fsck -f -n "$DEVICE"
