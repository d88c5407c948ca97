#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What is deleted in the bucket, and when.
# shellcheck disable=SC2153 # what helpers.bash sets

bats_require_minimum_version 1.5.0
load helpers

SYNC=$PROGRAMS/s3blkdev-sync

# sync ARGUMENT...: s3blkdev-sync on our configuration
sync_with() {
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" "$@"
}

upload() {
    sync_with -p "$DIR/sync.pid" 60
}

# objects DEVICE: how many objects of chunks there are
objects() {
    store keys "$1/chunk/" | wc -l
}

# pass_grace: restart the daemon, with the grace time of all lists over, as
# far as their age in the store tells
pass_grace() {
    stop_daemon
    find "$STORE" -path '*/condemned/*' -type f -exec touch -d '2 days ago' {} +
    start_daemon
}

# write_chunks FIRST LAST: other data than before into these chunks
write_chunks() {
    nbd_python -u "$(uri disk)" -c "
import random
for chunk in range($1, $2 + 1):
    h.pwrite(random.randbytes(4096), chunk << 20)
h.flush()"
}

@test "all trimmed, one image kept: only epochs and manifests are left" {
    needs_dir_store
    write_config
    add_device disk 256M "chunksize 1M" "keep 1"
    start_daemon
    write_chunks 0 99
    upload
    [ "$(objects disk)" = 100 ]
    nbd_python -u "$(uri disk)" -c 'h.trim(h.get_size(), 0); h.flush()'
    upload
    [ "$(objects disk)" = 100 ]
    stop_daemon
    upload
    [ "$(objects disk)" = 100 ]
    start_daemon
    pass_grace
    upload
    [ "$(store keys disk/ | grep -cv -e /epoch/ -e /manifest/)" = 0 ]
    stop_daemon
}

@test "snapshots keep what they need until they are dropped" {
    needs_dir_store
    write_config
    add_device disk 256M "chunksize 1M" "keep 1"
    start_daemon
    write_chunks 0 9
    upload
    sync_with snapshot disk first
    nbdcopy "$(uri disk)" "$DIR/first"
    write_chunks 0 4
    upload
    write_chunks 0 4
    upload
    pass_grace
    upload
    # Of the second image nothing, of the first and the last all.
    [ "$(objects disk)" = 15 ]
    "$ROOT/scripts/s3blkdev-export" --snapshot first "$STORE" disk \
        "$DIR/export"
    cmp "$DIR/first" "$DIR/export"
    sync_with drop disk@first --yes
    pass_grace
    upload
    [ "$(objects disk)" = 10 ]
    nbdcopy "$(uri disk)" "$DIR/last"
    "$ROOT/scripts/s3blkdev-export" "$STORE" disk "$DIR/export.last"
    cmp "$DIR/last" "$DIR/export.last"
    stop_daemon
}

@test "a device is dropped when no clone needs it, and can be made again" {
    write_config
    add_device disk 256M "chunksize 1M"
    start_daemon
    write_chunks 0 9
    upload
    # Not while it is served.
    run ! sync_with drop disk --yes
    stop_daemon
    sync_with clone disk copy
    run ! sync_with drop disk --yes
    [ "$(objects disk)" = 10 ]
    [ "$STORE_KIND" != dir ] ||
        "$ROOT/scripts/s3blkdev-export" "$STORE" copy "$DIR/export"

    add_device copy 256M "chunksize 1M"
    start_daemon
    stop_daemon
    sync_with drop copy --yes
    [ "$(store keys copy/ | wc -l)" = 1 ]
    sync_with drop disk --yes
    [ "$(store keys disk/ | wc -l)" = 1 ]
    # What is dropped is dropped, whoever still has a cache of it.
    sync_with drop disk --yes
    run ! start_daemon
    rm -rf "${DIR:?}/disk" "${DIR:?}/copy"
    mkdir "$DIR/disk" "$DIR/copy"
    start_daemon
    write_chunks 0 2
    upload
    [ "$(objects disk)" = 3 ]
    stop_daemon
}
