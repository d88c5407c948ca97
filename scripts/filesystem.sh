# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
#
# filesystem - what init.sh, start.sh and stop.sh share; sourced by them.

# Take the settings of this file, which settings.sh explains.
load_settings()
{
    case $1 in
    */*) settings=$1 ;;
    *) settings=./$1 ;;
    esac
    [ -r "$settings" ] || fail "$settings cannot be read"
    # shellcheck source=scripts/settings.sh
    . "$settings"
    [ "$(id -u)" = 0 ] || fail "this needs root"
}

fail()
{
    echo "${0##*/}: $*" >&2
    exit 1
}

# Undo attach at the end, however it comes.
detach_at_end()
{
    trap detach EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# Print where a device, or a partition of it, is mounted, a line each; nothing
# if it is not.  Fails if that cannot be told.
mounts_of()
{
    number=$(mountpoint -x "$1") || return 1
    targets=$(cat "/sys/dev/block/$number/dev" \
        "/sys/dev/block/$number"/*/dev 2> /dev/null |
        awk 'FNR == NR { numbers[$1]; next } $3 in numbers { print $5 }' \
            - /proc/self/mountinfo) || return 1
    # Blanks are written as octal numbers there.
    [ -z "$targets" ] || printf '%b\n' "$targets"
}

# Refuse to go on with a device that is mounted.
check_unmounted()
{
    mounts=$(mounts_of "$1") || fail "cannot tell whether $1 is mounted"
    [ -z "$mounts" ] || fail "$1 is mounted on" "$mounts"
}

# Say loudly if what is synced can be lost.
warn_of_journal()
{
    [ -n "$JOURNAL_DEVICE" ] || return 0
    if awk -v section="[$EXPORT]" '
        $1 ~ /^\[/ { inside = $1 == section }
        inside && $1 == "writethrough" && $2 == 1 { found = 1 }
        END { exit !found }' "$CONFIG"; then
        return 0
    fi
    cat >&2 << WARNING
WARNING: the file system's journal is on $JOURNAL_DEVICE, and $CONFIG
does not say "writethrough 1" in [$EXPORT].  Linux flushes only the journal's
disk when a file is synced: when the power fails, such a file can be lost.
WARNING
}

# Make $DEVICE of the export.
attach()
{
    [ -b "$DEVICE" ] || modprobe nbd
    [ -b "$DEVICE" ] || fail "$DEVICE is not a block device"
    [ ! -e "/sys/block/${DEVICE#/dev/}/pid" ] ||
        fail "$DEVICE is attached to something already; stop.sh detaches it"
    case $ATTACH_BY in
    s3blkdev-attach) s3blkdev-attach attach "$DEVICE" "$EXPORT" "$SOCKET" ;;
    nbd-client) nbd-client -unix "$SOCKET" -N "$EXPORT" -b 4096 "$DEVICE" ;;
    *) fail "ATTACH_BY=$ATTACH_BY: there are s3blkdev-attach and nbd-client" ;;
    esac
}

# Undo attach; never below a file system that is mounted.
detach()
{
    check_unmounted "$DEVICE"
    case $ATTACH_BY in
    s3blkdev-attach) s3blkdev-attach detach "$DEVICE" ;;
    *) nbd-client -d "$DEVICE" ;;
    esac
}
