#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# scripts/s3blkdev-export: what is in the bucket can be read without us.
# shellcheck disable=SC2153 # what helpers.bash sets

bats_require_minimum_version 1.5.0
load helpers

SYNC=$PROGRAMS/s3blkdev-sync
EXPORT=$ROOT/scripts/s3blkdev-export

# sync_disk: everything into the bucket, and an image of it
sync_disk() {
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" -p "$DIR/sync.pid" 60
}

# command_of_sync ARGUMENT...: a subcommand of s3blkdev-sync
command_of_sync() {
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" "$@"
}

# write_some: data of many kinds, at the start, in the middle, at the end of a
# device that ends within a chunk, and holes
write_some() {
    nbd_python -u "$(uri disk)" -c '
import random
random.seed(1)
text = b"".join(b"%d bottles of beer on the wall\n" % n for n in range(20000))
h.pwrite(text[:300000], 12345)
h.pwrite(random.randbytes(200000), 1 << 20)
h.pwrite(b"x" * 1000000, 5 << 20)
h.pwrite(b"end of the disk!" * 64, h.get_size() - 1024)
h.zero(100000, 5 << 20)
h.trim(1 << 16, (1 << 20) + (1 << 16))
h.flush()'
}

setup_disk() {
    needs_dir_store
    needs nbdcopy
    write_config
    add_device disk 99999744 "chunksize 1M"
    start_daemon
}

@test "an image is exported as the device was, small changes and all" {
    setup_disk
    write_some
    sync_disk
    nbdcopy "$(uri disk)" "$DIR/first"
    command_of_sync snapshot disk first
    # Deltas: parts of blocks, in chunks that are in the bucket.
    nbd_python -u "$(uri disk)" -c '
h.pwrite(b"a few bytes", 70000)
h.pwrite(b"some more" * 1000, (1 << 20) + 5000)
h.trim(1 << 20, 5 << 20)
h.pwrite(b"y" * 4096, 40 << 20)'
    sync_disk
    nbdcopy "$(uri disk)" "$DIR/second"
    # In no image yet.
    nbd_python -u "$(uri disk)" -c 'h.pwrite(b"z" * 100, 0)'
    "$EXPORT" "$STORE" disk "$DIR/export"
    cmp "$DIR/second" "$DIR/export"
    "$EXPORT" --snapshot first "$STORE" disk "$DIR/export.first"
    cmp "$DIR/first" "$DIR/export.first"
    # It is as thin as the device.
    [ "$(du -k "$DIR/export" | cut -f 1)" -lt 4096 ]
    run -0 "$EXPORT" "$STORE" disk
    [[ $output == *"snapshot first: epoch "* ]]
    stop_daemon
}

@test "a clone is exported with what it has of its source" {
    setup_disk
    write_some
    sync_disk
    nbd_python -u "$(uri disk)" -c 'h.pwrite(b"a delta", 70000)'
    sync_disk
    nbdcopy "$(uri disk)" "$DIR/source"
    command_of_sync clone disk copy
    "$EXPORT" "$STORE" copy "$DIR/export"
    cmp "$DIR/source" "$DIR/export"
    stop_daemon
    # The clone goes its own way: deltas on its source's objects.
    add_device copy 99999744 "chunksize 1M"
    start_daemon
    cmp "$DIR/source" <(nbdcopy "$(uri copy)" -)
    nbd_python -u "$(uri copy)" -c '
h.pwrite(b"of the clone", 80000)
h.pwrite(b"new", 50 << 20)'
    sync_disk
    nbdcopy "$(uri copy)" "$DIR/copy.raw"
    stop_daemon
    "$EXPORT" "$STORE" copy "$DIR/export.copy"
    cmp "$DIR/copy.raw" "$DIR/export.copy"
    "$EXPORT" "$STORE" disk "$DIR/export.source"
    cmp "$DIR/source" "$DIR/export.source"
}

@test "what is damaged or missing is told, and the rest is exported" {
    local objects

    setup_disk
    write_some
    sync_disk
    nbdcopy "$(uri disk)" "$DIR/disk.raw"
    stop_daemon
    # The object of chunk 1 is gone, in that of chunk 5 a bit is wrong.
    objects=("$STORE"/disk/chunk/0000000000000001/*)
    rm "${objects[0]}"
    objects=("$STORE"/disk/chunk/0000000000000005/*)
    python3 - "${objects[0]}" << 'END'
import sys
with open(sys.argv[1], 'r+b') as file:
    file.seek(-1, 2)
    last = file.read()[0]
    file.seek(-1, 2)
    file.write(bytes([last ^ 1]))
END
    run -1 "$EXPORT" "$STORE" disk "$DIR/export"
    [[ $output == *"bytes 1048576 to 2097151 are lost"* ]]
    [ "${#lines[@]}" = 2 ]
    # The first chunk is right, and so is all behind the sixth.
    cmp -n 1048576 "$DIR/disk.raw" "$DIR/export"
    cmp -i 6291456 "$DIR/disk.raw" "$DIR/export"
    [ "$(stat -c %s "$DIR/export")" = 99999744 ]

    # Nothing is written over, and a manifest that is damaged is no image.
    run -2 "$EXPORT" "$STORE" disk "$DIR/export"
    run -2 "$EXPORT" "$STORE" nothing "$DIR/other"
    objects=("$STORE"/disk/manifest/*/00000001)
    echo x >> "${objects[0]}"
    run -0 "$EXPORT" "$STORE" disk
    truncate -s 50 "${objects[0]}"
    run -2 "$EXPORT" "$STORE" disk "$DIR/other"
}
