#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# File systems on a device, through nbdfuse and a loop device: fill, delete,
# fstrim, check, and compare after a restart of the daemon.

load helpers
load filesystem

# fill NUMBER: write files of all sorts below $DIR/mnt/NUMBER
fill() {
    local to=$DIR/mnt/$1 i

    is_mounted
    mkdir "$to"
    for i in $(seq 24); do
        head -c $((i * 70001)) /dev/urandom > "$to/random$i"
        yes "line of file $i" | head -c $((i * 50021)) > "$to/text$i"
    done
    cp -r "$ROOT/lib" "$to/lib"
    for i in $(seq 300); do
        echo "$i" > "$to/small$i"
    done
    truncate -s 100M "$to/sparse"
    echo end >> "$to/sparse"
}

holes() {
    nbdinfo --map --totals "$(uri disk)" |
        awk '$3 == 3 { n = $1 } END { print n + 0 }'
}

# tell_story CHECK MKFS...: the story of one file system
tell_story() {
    local check=$1 before
    shift

    write_config
    add_device disk 400M "cachemem 16M"
    start_daemon
    attach
    "$@" "$LOOP"
    mount_loop
    fill 1
    fill 2
    sync -f "$DIR/mnt"
    fill 3
    sync -f "$DIR/mnt"
    is_mounted && rm -r "$DIR/mnt/2"
    # xfs frees what was removed some time later, but before an unmount.
    unmount
    mount_loop
    before=$(holes)
    is_mounted && fstrim -v "$DIR/mnt"
    sync -f "$DIR/mnt"
    echo "holes: $before bytes before, $(holes) after fstrim"
    [ "$(holes)" -gt $((before + 10000000)) ]
    (cd "$DIR/mnt" && find . -type f -print0 | sort -z |
        xargs -0 sha256sum) > "$DIR/sums"
    unmount
    $check "$LOOP"
    detach

    stop_daemon
    start_daemon
    attach
    $check "$LOOP"
    mount_loop
    (cd "$DIR/mnt" && sha256sum --quiet -c "$DIR/sums")
    [ "$(find "$DIR/mnt" -type f | wc -l)" = "$(wc -l < "$DIR/sums")" ]
    unmount
    detach
    stop_daemon
}

@test "ext4 as documented is filled, trimmed, checked and found again" {
    needs_loop
    needs mkfs.ext4 e2fsck
    tell_story 'e2fsck -f -n' \
        mkfs.ext4 -q -F -b 4096 -E stride=2048,stripe_width=2048
}

@test "xfs is filled, trimmed, checked and found again" {
    needs_loop
    needs mkfs.xfs xfs_repair
    tell_story 'xfs_repair -n' mkfs.xfs -q -f
}

@test "btrfs is filled, trimmed, checked and found again" {
    needs_loop
    needs mkfs.btrfs btrfs
    tell_story 'btrfs check' mkfs.btrfs -q -f
}

@test "ext4 after kill -9 of the daemon is what was synced" {
    needs_loop
    needs mkfs.ext4 e2fsck
    write_config
    add_device disk 400M
    start_daemon
    attach
    mkfs.ext4 -q -F -b 4096 -E stride=2048,stripe_width=2048 "$LOOP"
    mount_loop
    fill 1
    sync -f "$DIR/mnt"
    (cd "$DIR/mnt" && find 1 -type f -print0 | xargs -0 sha256sum) \
        > "$DIR/sums"
    kill_daemon
    # The file system has lost its disk: it cannot be written any more.
    is_mounted
    umount "$DIR/mnt" || umount -l "$DIR/mnt"
    detach
    start_daemon
    attach
    e2fsck -p "$LOOP" || [ $? = 1 ]
    mount_loop
    (cd "$DIR/mnt" && sha256sum --quiet -c "$DIR/sums")
    unmount
    detach
    stop_daemon
}
