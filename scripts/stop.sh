#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# stop - unmount the file system, and detach the device.
#
# usage: stop.sh [SETTINGS]        (default: settings.sh, beside this file)
set -eu
here=$(dirname "$0")
# shellcheck source=scripts/filesystem.sh
. "$here/filesystem.sh"

load_settings "${1:-$here/settings.sh}"
if mounts_of "$DEVICE" | grep -qxF "$(realpath "$MOUNT_POINT")"; then
    umount "$MOUNT_POINT"
fi
detach
