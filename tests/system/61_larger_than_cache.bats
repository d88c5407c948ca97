#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The main job from end to end: an ext4 on a device of 64 GiB whose cache has
# 256 MiB, with files three times that; uploads by several processes while it
# is written and while fio verifies beside it; eviction; cold reads; a host
# that is lost.

load helpers
load filesystem

SYNC=$PROGRAMS/s3blkdev-sync
FIO_PID=

eval "filesystem_$(declare -f teardown)"
teardown() {
    [ -z "$FIO_PID" ] || kill "$FIO_PID" 2> /dev/null || true
    filesystem_teardown
}

sync_with() {
    timeout 280 "$SYNC" -c "$CONFIG" "$@"
}

# get KEY: what status --json says of the device "disk"
get() {
    sync_with -d disk status --json | python3 -c "
import json, sys
print(json.load(sys.stdin)['devices'][0].get('$1', 'nothing'))"
}

# write_tree NUMBER MIB: a tree of files, half of whose bytes are random
write_tree() {
    local to=$DIR/mnt/$1 i

    is_mounted
    mkdir "$to"
    cp -r "$ROOT/lib" "$ROOT/docs" "$to/"
    for i in $(seq $(($2 / 4))); do
        head -c 4M /dev/urandom > "$to/file$i"
    done
    for i in $(seq 200); do
        echo "$1, small file $i" > "$to/small$i"
    done
    (cd "$DIR/mnt" && find "$1" -type f -print0 | sort -z |
        xargs -0 sha256sum) >> "$DIR/sums"
}

# sync_by_percentage: four processes, each with a quarter of the chunks
sync_by_percentage() {
    local i pids=

    for i in 0 25 50 75; do
        sync_with -d disk -p "$DIR/$i.pid" 3600 "$i" $((i + 25)) 3>&- &
        pids="$pids $!"
    done
    for i in $pids; do
        wait "$i"
    done
}

# start_fio: verified random writes to the device "beside"
start_fio() {
    fio --name=job --ioengine=nbd --thread --uri="$(uri beside)" \
        --size=96M --rw=randrw --bsrange=4k-64k --iodepth=16 --time_based \
        --runtime=3600 --verify=crc32c --verify_fatal=1 --verify_backlog=256 \
        --random_generator=tausworthe --randseed=7 --aux-path="$DIR" \
        > "$DIR/fio.log" 2>&1 3>&- &
    FIO_PID=$!
}

# stop_fio: end it; all that it verified was right.  That its log tells: its
# exit code only says that a signal ended it.
stop_fio() {
    kill -INT "$FIO_PID"
    wait "$FIO_PID" || true
    FIO_PID=
    if grep -i 'verify:\|error=' "$DIR/fio.log"; then
        return 1
    fi
    grep 'err= 0: pid=' "$DIR/fio.log"
}

# compare: every file is what was written
compare() {
    is_mounted
    (cd "$DIR/mnt" && sha256sum --quiet -c "$DIR/sums")
}

@test "files three times the cache are written, uploaded, evicted, compared" {
    needs_loop
    needs mkfs.ext4 e2fsck fio python3
    write_config
    add_device disk 64G "cachesize 256M" "cachemem 32M"
    add_device beside 128M "cachesize 64M" "chunksize 1M"
    start_daemon
    start_fio
    attach
    mkfs.ext4 -q -F -b 4096 -E stride=2048,stripe_width=2048 "$LOOP"
    mount_loop

    # More than the cache takes: the daemon makes room by itself.
    write_tree 1 400
    sync -f "$DIR/mnt"
    sync_by_percentage &
    uploading=$!
    write_tree 2 380
    wait "$uploading"
    sync -f "$DIR/mnt"
    [ "$(get cache_used)" -le $((272 << 20)) ]
    unmount
    sync_by_percentage
    sync_with -p "$DIR/sync.pid" 3600
    [ "$(get oldest_unpublished_ns)" = nothing ]
    sync_with -d disk -p "$DIR/sync.pid" 1 0
    [ "$(get cache_used)" -le $((4 << 20)) ]

    # Nothing of it is in the page cache: the file system is mounted anew.
    e2fsck -f -n "$LOOP"
    mount_loop
    compare
    [ "$(get alarms)" = 0 ]
    [ "$(get damaged)" = 0 ]
    unmount
    detach
    stop_fio
    stop_daemon

    # The host is lost with its cache; another one goes on.
    mv "$DIR/disk" "$DIR/lost"
    mkdir "$DIR/disk"
    sync_with takeover disk
    start_daemon
    attach
    e2fsck -f -n "$LOOP"
    mount_loop
    compare
    unmount
    detach
    stop_daemon
}
