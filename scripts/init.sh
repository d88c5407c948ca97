#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# init - make the first file system on a device, and its journal on another
# disk if one is set.  s3blkdevd must be running.
#
# usage: init.sh [SETTINGS]        (default: settings.sh, beside this file)
#
# A disk that has anything on it is refused: one of s3blkdevd also if nobody
# knows what it is, for a new one is all zeros.
set -eu
here=$(dirname "$0")
# shellcheck source=scripts/filesystem.sh
. "$here/filesystem.sh"

# Refuse a disk that is in use, or has something on it.
check_empty()
{
    [ -b "$1" ] || fail "$1 is not a block device"
    check_unmounted "$1"
    for holder in "/sys/class/block/$(basename "$(realpath "$1")")/holders"/*; do
        [ ! -e "$holder" ] || fail "$1 is in use by ${holder##*/}"
    done
    found=$(wipefs --no-act --noheadings --output TYPE "$1") ||
        fail "cannot tell whether $1 has something on it"
    # shellcheck disable=SC2086 # one line of all
    [ -z "$found" ] ||
        fail "$1 has something on it:" $found". If that is to be lost, and" \
            "only then, run: $2 $1"
}

# Refuse a disk of which the first MiB, where all begin, is not all zeros.
check_zeros()
{
    cmp --silent --bytes=1048576 "$1" /dev/zero ||
        fail "$1 has data, though nobody knows of what kind.  If they are to" \
            "be lost, and only then, run: blkdiscard $1"
}

load_settings "${1:-$here/settings.sh}"
warn_of_journal
[ -z "$JOURNAL_DEVICE" ] || check_empty "$JOURNAL_DEVICE" "wipefs --all"
attach
detach_at_end
check_empty "$DEVICE" blkdiscard
check_zeros "$DEVICE"
if [ -n "$JOURNAL_DEVICE" ]; then
    mkfs.ext4 -b 4096 -O journal_dev "$JOURNAL_DEVICE"
    set -- -J "device=$JOURNAL_DEVICE"
else
    set --
fi
mkfs.ext4 -b 4096 "$@" -E "stride=$STRIPE,stripe_width=$STRIPE" "$DEVICE"
e2fsck -f -n "$DEVICE"
