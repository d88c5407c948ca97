#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# qemu's tools against the daemon: images, holes, and patterns at the borders
# of pages, blocks, chunks and the device.

load helpers

# says_no_failure FILE: qemu-io exits with 0 also if a pattern differs
says_no_failure() {
    if grep -i 'fail\|error' "$1"; then
        return 1
    fi
}

# data_bytes URI: print how many bytes of a device are data.
data_bytes() {
    nbdinfo --map --totals "$1" | awk '$3 == 0 { n = $1 } END { print n + 0 }'
}

@test "qemu-img converts onto a device and back, and holes stay holes" {
    needs qemu-img nbdinfo
    write_config
    add_device disk 96M
    start_daemon
    truncate -s 96M "$DIR/image"
    head -c 3M /dev/urandom | dd of="$DIR/image" bs=1M seek=7 conv=notrunc \
        iflag=fullblock status=none
    head -c 1M /dev/urandom | dd of="$DIR/image" bs=1M seek=63 conv=notrunc \
        iflag=fullblock status=none

    qemu-img convert -n -f raw -O raw "$DIR/image" "$(uri disk)"
    qemu-img compare -f raw -F raw "$DIR/image" "$(uri disk)"
    [ "$(data_bytes "$(uri disk)")" = $((4 * 1024 * 1024)) ]

    # Data, then holes where there was data.
    head -c 96M /dev/urandom > "$DIR/full"
    qemu-img convert -n -f raw -O raw "$DIR/full" "$(uri disk)"
    [ "$(data_bytes "$(uri disk)")" = $((96 * 1024 * 1024)) ]
    qemu-img convert -n -f raw -O raw "$DIR/image" "$(uri disk)"
    qemu-img compare -f raw -F raw "$DIR/image" "$(uri disk)"
    [ "$(data_bytes "$(uri disk)")" = $((4 * 1024 * 1024)) ]

    qemu-img convert -f raw -O qcow2 "$(uri disk)" "$DIR/image.qcow2"
    qemu-img compare -f qcow2 -F raw "$DIR/image.qcow2" "$DIR/image"
    stop_daemon
}

@test "a qcow2 image lives on a device" {
    needs qemu-img qemu-io
    write_config
    add_device disk 96M
    start_daemon
    head -c 20M /dev/urandom > "$DIR/image"
    truncate -s 64M "$DIR/image"
    qemu-img create -q -f qcow2 "$(uri disk)" 64M
    qemu-img convert -n -f raw -O qcow2 "$DIR/image" "$(uri disk)"
    qemu-img check -f qcow2 "$(uri disk)"
    qemu-img compare -f raw -F qcow2 "$DIR/image" "$(uri disk)"
    stop_daemon
    start_daemon
    qemu-img check -f qcow2 "$(uri disk)"
    qemu-img compare -f raw -F qcow2 "$DIR/image" "$(uri disk)"
    stop_daemon
}

@test "patterns at odd offsets, at every border and at the last byte hold" {
    local size=$((24 * 1024 * 1024 + 1536)) chunk=$((1 << 20)) at length i=16
    local -a writes reads

    needs qemu-io
    write_config
    add_device disk $size "chunksize 1M"
    start_daemon
    while read -r at length; do
        writes+=(-c "write -P $i $at $length")
        reads+=(-c "read -P $i $at $length" -c "read -P 0 $((at - 1)) 1")
        # The neighbours stay what they are.
        [ $((at + length)) = $size ] ||
            reads+=(-c "read -P 0 $((at + length)) 1")
        i=$((i + 1))
    done <<- END
	512 1024
	3584 4097
	$((16384 - 512)) 1024
	$((chunk - 512)) 1024
	$((3 * chunk - 7168)) $((chunk + 3))
	$((5 * chunk + 4096)) 4097
	$((7 * chunk - 1)) 2
	$((9 * chunk + 1)) 4097
	$((11 * chunk - 16385)) $((2 * chunk + 5))
	$((size - 8193)) 4097
	$((size - 1)) 1
	END
    [ ${#writes[@]} = 22 ]
    qemu-io -f raw "${writes[@]}" -c flush "$(uri disk)" > "$DIR/out"
    says_no_failure "$DIR/out"
    qemu-io -f raw "${reads[@]}" "$(uri disk)" > "$DIR/out"
    says_no_failure "$DIR/out"
    stop_daemon
    start_daemon
    qemu-io -f raw "${reads[@]}" "$(uri disk)" > "$DIR/out"
    says_no_failure "$DIR/out"
    stop_daemon
}

@test "zeros, discards, FUA and requests in flight do what they say" {
    needs qemu-io
    write_config
    add_device disk 32M
    start_daemon
    qemu-io -f raw -d unmap \
        -c 'write -P 0xab 4k 64k' -c 'read -P 0xab 4k 64k' \
        -c 'write -z 8k 4k' -c 'read -P 0 8k 4k' -c 'read -P 0xab 12k 4k' \
        -c 'write -z -u 16k 8k' -c 'read -P 0 16k 8k' \
        -c 'write -z 25000 1000' -c 'read -P 0 25000 1000' \
        -c 'read -P 0xab 24576 424' -c 'read -P 0xab 26000 1000' \
        -c 'discard 32k 4k' -c 'read -P 0 32k 4k' -c 'read -P 0xab 36k 4k' \
        -c flush -c 'write -f -P 1 0 512' -c 'read -P 1 0 512' \
        -c 'aio_write -P 3 1M 1M' -c 'aio_write -P 4 2M 1M' \
        -c 'aio_write -P 5 8388607 3' -c aio_flush \
        -c 'read -P 3 1M 1M' -c 'read -P 4 2M 1M' -c 'read -P 5 8388607 3' \
        -c 'read -P 0 8388610 4096' "$(uri disk)" > "$DIR/out"
    says_no_failure "$DIR/out"
    stop_daemon
}
