#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# libnbd's tools against the daemon: what it says of a device, and copies both
# ways.

load helpers

# Make $DIR/image, SIZE bytes: random, compressible and never written parts.
make_image() {
    local size=$1

    truncate -s "$size" "$DIR/image"
    head -c 5000000 /dev/urandom | dd of="$DIR/image" bs=1M conv=notrunc \
        oflag=seek_bytes seek=1048576 iflag=fullblock status=none
    yes 'half of this compresses' | head -c 9000001 |
        dd of="$DIR/image" conv=notrunc oflag=seek_bytes seek=9437183 \
            bs=1M iflag=fullblock status=none
    head -c 70000 /dev/urandom | dd of="$DIR/image" conv=notrunc \
        oflag=seek_bytes seek=$((size - 70000)) iflag=fullblock bs=70000 \
        status=none
}

@test "nbdinfo is told what a device can do, in every way it asks" {
    local what

    needs nbdinfo
    write_config
    add_device disk 48M "description the first disk"
    add_device other 1G "readonly 0"
    start_daemon

    nbdinfo --json "$(uri disk)" > "$DIR/info"
    grep -q '"export-size": 50331648' "$DIR/info"
    grep -q '"description": "the first disk"' "$DIR/info"
    grep -q 'base:allocation' "$DIR/info"
    [ "$(nbdinfo --size "$(uri disk)")" = 50331648 ]
    for what in cache df fast-zero flush fua multi-conn trim zero write \
        structured-reply; do
        nbdinfo --can "$what" "$(uri disk)" ||
            { echo "cannot: $what" && false; }
    done
    run nbdinfo --is read-only "$(uri disk)"
    [ "$status" = 2 ]

    nbdinfo --list --json "$(uri)" > "$DIR/list"
    grep -q '"export-name": "disk"' "$DIR/list"
    grep -q '"export-name": "other"' "$DIR/list"
    stop_daemon
}

@test "a read-only device says so, and refuses a writer" {
    needs nbdinfo nbdcopy
    write_config
    add_device disk 16M
    start_daemon
    stop_daemon
    echo "readonly 1" >> "$CONFIG"
    start_daemon
    nbdinfo --is read-only "$(uri disk)"
    truncate -s 16M "$DIR/image"
    run nbdcopy "$DIR/image" "$(uri disk)"
    [ "$status" != 0 ]
    stop_daemon
}

@test "a new device is one hole, and nbdinfo sees what is written to it" {
    needs nbdinfo
    /usr/bin/python3 -c 'import nbd' || skip "python3-libnbd is not installed"
    write_config
    add_device disk 40M
    start_daemon
    [ "$(nbdinfo --map "$(uri disk)" | awk '{ print $1, $2, $3 }')" = \
        "0 41943040 3" ]
    /usr/bin/python3 -m nbd -u "$(uri disk)" -c 'h.pwrite(b"x" * 4096, 8388608 - 2048)'
    nbdinfo --map --totals "$(uri disk)" > "$DIR/totals"
    cat "$DIR/totals"
    # Two pages, one on either side of a chunk's border.
    [ "$(awk '$3 == 0 { print $1 }' "$DIR/totals")" = 8192 ]
    stop_daemon
}

@test "nbdcopy brings an image in and out, with four connections" {
    local size=$((64 * 1024 * 1024 + 512))

    needs nbdcopy
    write_config
    add_device disk $size
    make_image $size
    start_daemon
    nbdcopy --flush --connections=4 --requests=64 "$DIR/image" "$(uri disk)"
    nbdcopy --connections=4 --requests=64 "$(uri disk)" "$DIR/copy"
    cmp "$DIR/image" "$DIR/copy"
    # Again, after a restart, and with everything written explicitly.
    stop_daemon
    start_daemon
    nbdcopy --connections=4 "$(uri disk)" "$DIR/copy2"
    cmp "$DIR/image" "$DIR/copy2"
    nbdcopy --allocated --flush --connections=4 "$DIR/image" "$(uri disk)"
    nbdcopy --connections=1 --requests=1 "$(uri disk)" "$DIR/copy3"
    cmp "$DIR/image" "$DIR/copy3"
    stop_daemon
}

@test "a disk as nbdkit invents it comes back as nbdkit remembers it" {
    needs nbdkit nbdcopy
    write_config
    add_device disk 512M
    start_daemon
    # shellcheck disable=SC2016 # nbdkit sets $uri
    nbdkit -U - sparse-random 512M seed=7 percent=10 \
        --run 'nbdcopy --flush --connections=4 "$uri" "'"$(uri disk)"'"'
    # The plugin compares what is written to it with what it had given.
    # shellcheck disable=SC2016
    nbdkit -U - sparse-random 512M seed=7 percent=10 \
        --run 'nbdcopy --connections=4 "'"$(uri disk)"'" "$uri"'
    stop_daemon
}
