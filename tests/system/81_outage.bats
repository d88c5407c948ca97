#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The store goes away, hangs, or answers badly, under random I/O that is
# verified: what is here goes on, what is not waits, and nobody sees an error.
# OUTAGE_SECONDS says how long it is away (20).

# shellcheck disable=SC2034 # for the helpers
STORE_KIND=radosgw-https-path-2
bats_require_minimum_version 1.5.0
load helpers
load hostile
eval "outage_$(declare -f teardown)"

SYNC=$PROGRAMS/s3blkdev-sync
OUTAGE_SECONDS=${OUTAGE_SECONDS:-20}
WORKERS=()

teardown() {
    rm -f "$DIR/go_on"
    # What hangs in a test that failed would hang on.
    [ ${#WORKERS[@]} = 0 ] || kill "${WORKERS[@]}" 2> /dev/null || true
    [ -z "${SERVER_DIR:-}" ] || "$RADOSGW" resume "$SERVER_DIR" || true
    outage_teardown
}

sync_with() {
    timeout 280 "$SYNC" -c "$CONFIG" "$@"
}

# add_devices: "hot" fits into its cache, "cold" and "random" do not
add_devices() {
    needs fio qemu-io nbdcopy python3
    add_device hot 96M "cachesize 256M" "chunksize 1M"
    add_device cold 128M "cachesize 64M" "chunksize 1M"
    add_device random 128M "cachesize 48M" "chunksize 1M"
}

# write_cold: 64 MiB that are only in the bucket
write_cold() {
    head -c 64M /dev/urandom > "$DIR/image"
    nbdcopy "$DIR/image" "$(uri cold)"
    sync_with -d cold -p "$DIR/sync.pid" 3600
    evict_cold
}

evict_cold() {
    # Beside the runs of start_uploads, which have a pid file of their own.
    sync_with -d cold -p "$DIR/cold.pid" 1 0
}

# read_cold: the same comes back
read_cold() {
    nbdcopy "$(uri cold)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
}

# fio_on DEVICE SIZE OPTION...: verified random reads and writes
fio_on() {
    local device=$1 size=$2

    shift 2
    exec fio --name="$device" --ioengine=nbd --thread --uri="$(uri "$device")" \
        --size="$size" --rw=randrw --bsrange=4k-64k --iodepth=16 \
        --verify=crc32c --verify_fatal=1 --verify_backlog=256 \
        --random_generator=tausworthe --randseed=7 --aux-path="$DIR" "$@"
}

# start_fio DEVICE SIZE OPTION...: the same in the background, into a log
start_fio() {
    fio_on "$@" > "$DIR/fio.$1.log" 2>&1 3>&- &
    WORKERS+=($!)
}

# stop_fio DEVICE...: end them; all that they verified was right.  That their
# logs tell: the exit code only says that a signal ended them.
stop_fio() {
    local device

    kill -INT "${WORKERS[@]}"
    wait "${WORKERS[@]}" || true
    WORKERS=()
    for device; do
        run ! grep -i 'verify:\|error=' "$DIR/fio.$device.log"
        grep 'err= 0: pid=' "$DIR/fio.$device.log"
    done
}

# start_uploads: one run after the other, and evictions, until go_on is gone.
# Any of them may fail, but none may be refused.
start_uploads() {
    touch "$DIR/go_on"
    while [ -e "$DIR/go_on" ]; do
        for arguments in 5 "40 20"; do
            # shellcheck disable=SC2086 # several arguments
            sync_with -w 0 -p "$DIR/sync.pid" $arguments || [ $? != 2 ] || exit 1
        done
    done > "$DIR/uploads.log" 2>&1 3>&- &
    UPLOADS=$!
}

stop_uploads() {
    rm "$DIR/go_on"
    wait "$UPLOADS"
}

# hot_io: behind what fio has of it
hot_io() {
    timeout "$DEADLINE_S" qemu-io -f raw -c "write -P $1 80M 1M" -c flush \
        -c "read -P $1 80M 1M" "$(uri hot)" > "$DIR/qemu-io.log" 2>&1
    ! grep -i 'error\|failed' "$DIR/qemu-io.log"
}

# last SECONDS: so long, what is here goes on, and the reader of cold data
# waits
last() {
    local end=$((SECONDS + $1)) number=0

    while [ "$SECONDS" -lt "$end" ]; do
        number=$((number % 255 + 1))
        hot_io "$number"
        kill -0 "$reader"
    done
}

gateway() {
    "$RADOSGW" gateway "$SERVER_DIR" "$@"
}

start_all() {
    write_config "s3timeout 2000"
    add_devices
    start_daemon
    write_cold
    start_fio hot 64M --time_based --runtime=3600
    start_fio random 128M --time_based --runtime=3600
    start_uploads
}

stop_all() {
    stop_fio hot random
    stop_uploads
    stop_daemon
    run ! grep "read error\|write error\|I/O error" "$DAEMON_LOG"
}

@test "all gateways go and come back" {
    start_all
    gateway 1 kill
    gateway 2 kill
    read_cold 3>&- &
    reader=$!
    last "$OUTAGE_SECONDS"
    gateway 1 start
    gateway 2 start
    wait "$reader"
    stop_all
}

@test "a run that begins without the store goes on when that is back" {
    write_config "s3timeout 2000"
    add_device one 32M "chunksize 1M"
    add_device two 32M "chunksize 1M"
    head -c 2M /dev/urandom > "$DIR/small"
    start_daemon
    nbdcopy "$DIR/small" "$(uri one)"
    nbdcopy "$DIR/small" "$(uri two)"
    # What was not released is not claimed by who starts again.
    stop_daemon
    start_daemon
    gateway 1 kill
    gateway 2 kill
    sync_with -p "$DIR/sync.pid" 3600 > "$DIR/run.log" 2>&1 3>&- &
    run=$!
    until grep -q 'two: no checkpoint' "$DIR/run.log"; do
        kill -0 "$run"
        sleep 0.1
    done
    gateway 1 start
    gateway 2 start
    wait "$run"
    sync_with status | grep -c 'unpublished nothing' | grep -qx 2
    stop_daemon
}

@test "what was written in small parts, and uploaded, is read without the store" {
    write_config "s3timeout 2000"
    add_device small 32M "chunksize 1M"
    start_daemon
    qemu-io -f raw -c "write -P 7 4k 4k" -c "write -P 8 2M 4k" \
        -c "write -P 9 2060k 4k" -c flush "$(uri small)"
    sync_with -p "$DIR/sync.pid" 3600
    # Nothing is in memory any more.
    stop_daemon
    start_daemon
    gateway 1 kill
    gateway 2 kill
    timeout "$DEADLINE_S" qemu-io -f raw -c "read -P 0 0 4k" \
        -c "read -P 7 4k 4k" -c "read -P 0 8k 2040k" -c "read -P 8 2M 4k" \
        -c "read -P 0 2052k 8k" -c "read -P 9 2060k 4k" \
        "$(uri small)" > "$DIR/qemu-io.log" 2>&1
    gateway 1 start
    gateway 2 start
    run ! grep -i 'error\|failed' "$DIR/qemu-io.log"
    grep -c '^read ' "$DIR/qemu-io.log" | grep -qx 6
    stop_daemon
}

@test "one of two gateways goes and comes back" {
    start_all
    gateway 2 kill
    read_cold
    evict_cold
    gateway 2 start
    gateway 1 kill
    read_cold
    gateway 1 start
    stop_all
}

@test "the store's disk hangs and goes on" {
    start_all
    "$RADOSGW" pause "$SERVER_DIR"
    read_cold 3>&- &
    reader=$!
    last 6
    "$RADOSGW" resume "$SERVER_DIR"
    wait "$reader"
    stop_all
}

@test "connections are reset and requests fail at random" {
    start_hostile '{"endpoints":2,"tls":true,"seed":3}'
    write_hostile_config "s3timeout 5000"
    add_devices
    start_daemon
    write_cold
    hostile '{"fault":{"count":-1,"chance":0.01,"status":500}}'
    hostile '{"fault":{"count":-1,"chance":0.01,"drop":"rst"}}'
    hostile '{"fault":{"count":-1,"chance":0.005,"apply":true,"drop":"fin"}}'
    hostile '{"fault":{"count":-1,"chance":0.005,"cut_body":100,"end":"rst"}}'
    hostile '{"fault":{"count":-1,"chance":0.005,"early":true,"status":503}}'
    start_uploads
    # So much as is wanted, not so long.
    (fio_on random 128M --io_size=256M) 3>&-
    read_cold
    stop_uploads
    stop_daemon
    # All of it from the bucket, by another host that has nothing else.
    nbd_copy_of_another_host random "$DIR/there"
    [ "$(hostile_number refused)" = 0 ]
    [ "$(hostile_number complaints)" = 0 ]
}

# publish_all DEVICE: an image of all of it
publish_all() {
    sync_with -p "$DIR/sync.pid" 3600
    sync_with -d "$1" status | grep "unpublished *nothing"
}

# nbd_copy_of_another_host DEVICE FILE: what is there and here is the same
nbd_copy_of_another_host() {
    start_daemon
    nbdcopy "$(uri "$1")" "$DIR/here"
    stop_daemon
    publish_all "$1"
    mkdir "$DIR/elsewhere"
    sed "s|^cachedir .*/$1\$|cachedir $DIR/elsewhere|" "$CONFIG" \
        > "$DIR/other.conf"
    chmod 600 "$DIR/other.conf"
    CONFIG=$DIR/other.conf sync_with takeover "$1"
    CONFIG=$DIR/other.conf start_daemon
    nbdcopy "$(uri "$1")" "$2"
    stop_daemon
    cmp "$DIR/here" "$2"
}

@test "one of two endpoints is a hundred times slower" {
    start_hostile '{"endpoints":2}'
    write_hostile_config "s3timeout 5000"
    add_devices
    start_daemon
    write_cold
    hostile '{"fault":{"endpoint":1,"count":-1,"delay_ms":200}}'
    before=$(hostile_number endpoint1)
    start_uploads
    (fio_on random 128M --io_size=128M) 3>&-
    read_cold
    stop_uploads
    stop_daemon
    # It is asked now and then, and that is all.
    slow=$(($(hostile_number endpoint1) - before))
    fast=$(($(hostile_number endpoint0) - before))
    echo "$fast requests to the fast one, $slow to the slow one"
    [ "$fast" -gt $((5 * slow)) ]
}
