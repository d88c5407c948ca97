#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# s3blkdev-sync scrub: what is bad, here and in the bucket, is named with all
# that needs it, and repaired from what is good.
# shellcheck disable=SC2153 # what helpers.bash sets

load helpers
eval "helpers_$(declare -f teardown)"

SYNC=$PROGRAMS/s3blkdev-sync
SYNC_PID=

teardown() {
    if [ -n "$SYNC_PID" ] &&
        [ "$(readlink "/proc/$SYNC_PID/exe")" = "$(realpath "$SYNC")" ]; then
        kill -KILL "$SYNC_PID" || true
    fi
    helpers_teardown
}

# sync_with ARGUMENT...: run it on our configuration
sync_with() {
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" "$@"
}

# published_device: a device with 8 MiB on it, all of it also in an image, and
# no server
published_device() {
    needs nbdcopy
    write_config
    add_device disk 64M "chunksize 1M"
    start_daemon
    head -c 8M /dev/urandom > "$DIR/image"
    nbdcopy "$DIR/image" "$(uri disk)"
    stop_daemon
    upload
}

upload() {
    sync_with -p "$DIR/sync.pid" 3600
}

# flip FILE OFFSET: change a byte of it
flip() {
    python3 -c '
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    byte = f.read(1)[0]
    f.seek(-1, 1)
    f.write(bytes([byte ^ 1]))' "$1" "$2"
}

# middle FILE: an offset that is in a block of it, not in its tables
middle() {
    echo $(($(stat -c %s "$1") / 2))
}

# object CHUNK: the key of its newest object
object() {
    store keys "disk/chunk/$(printf %016x "$1")/" | tail -n 1
}

# chunk_file CHUNK: the file of it in the cache
chunk_file() {
    printf '%s/disk/chunk/%08x/%016x' "$DIR" 0 "$1"
}

# evict: have nothing in the cache
evict() {
    sed -i 's/^chunksize .*/&\ncachesize 64M/' "$CONFIG"
    sync_with -p "$DIR/sync.pid" 1 0
    sed -i '/^cachesize /d' "$CONFIG"
}

# reads_well: whether a server has on the device what was written
reads_well() {
    start_daemon
    nbdcopy "$(uri disk)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
    stop_daemon
}

@test "of a sound device nothing is said, and it is 0" {
    published_device
    run sync_with scrub disk
    [ "$status" = 0 ]
    [ "$output" = "" ]
    run sync_with scrub disk --local
    [ "$status" = 0 ]
    [ "$output" = "" ]
    run sync_with scrub disk --sample 5
    [ "$status" = 0 ]
    [ "$output" = "" ]
    [ ! -e "$DIR/disk/scrub" ]
}

@test "what is bad in the bucket is made anew from the cache, without a server" {
    published_device
    bad=$(object 3)
    store change "$bad" $(($(store size "$bad") / 2))
    store remove "$(object 5)"
    run sync_with scrub disk
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == *"chunk 0000000000000003: object $bad is damaged: blocks "* ]]
    [[ $output == *"chunk 0000000000000005: object disk/chunk/"*" is missing: its table, blocks "* ]]
    [[ $output == *"image 3 of disk needs it"* ]]
    # The next image has it under a new name.
    upload
    [ "$(object 3)" != "$bad" ]
    run sync_with scrub disk
    [ "$status" = 0 ]
    [ "$output" = "" ]
    evict
    reads_well
}

@test "what is bad in the cache is taken from the bucket, beside a server" {
    published_device
    start_daemon
    flip "$(chunk_file 2)" "$(middle "$(chunk_file 2)")"
    run sync_with scrub disk --local
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == *"chunk 0000000000000002: damaged in its file: blocks "* ]]
    [[ $output == *"taken from the bucket from now on: blocks "* ]]
    run sync_with scrub disk
    [ "$status" = 0 ]
    [ "$output" = "" ]
    nbdcopy "$(uri disk)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
    stop_daemon
}

@test "what is bad both here and there is told, with 1, and an error to readers" {
    published_device
    bad=$(object 4)
    store change "$bad" $(($(store size "$bad") - 100))
    file=$(chunk_file 4)
    flip "$file" $(($(stat -c %s "$file") - 100))
    run sync_with scrub disk
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"no good copy is left, an error until it is written again: blocks 63"* ]]
    start_daemon
    nbd_python -u "$(uri disk)" -c "
import errno
expected = open('$DIR/image', 'rb').read()
assert h.pread(1 << 20, 3 << 20) == expected[3 << 20:4 << 20]
try:
    h.pread(4096, (5 << 20) - 4096)
    raise SystemExit('read what is lost')
except nbd.Error as error:
    assert error.errnum == errno.EIO, error
data = b'again'.ljust(16384, b'!')
h.pwrite(data, (5 << 20) - 16384)
h.flush()
assert h.pread(16384, (5 << 20) - 16384) == data"
    stop_daemon
    upload
    run sync_with scrub disk
    [ "$status" = 0 ]
    [ "$output" = "" ]
}

@test "snapshots and clones that need a bad object are named" {
    published_device
    sync_with snapshot disk before
    sync_with clone disk@before twin
    store remove "$(object 1)"
    run sync_with scrub disk
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == *"snapshot disk@before needs it"* ]]
    [[ $output == *"clone twin of disk needs it"* ]]
    [[ $output == *"image 1 of twin needs it"* ]]
}

@test "a scrub that was ended with a signal goes on where it was" {
    published_device
    "$SYNC" -c "$CONFIG" scrub disk --rate 1M > "$DIR/sync.out" 2>&1 3>&- &
    SYNC_PID=$!
    timeout "$DEADLINE_S" sh -c "until [ -e '$DIR/disk/scrub' ]; do :; done"
    kill -TERM "$SYNC_PID"
    code=0
    wait "$SYNC_PID" || code=$?
    cat "$DIR/sync.out"
    [ "$code" = 5 ]
    [ -e "$DIR/disk/scrub" ]
    # What lies behind it is not looked at any more, unless that is asked for.
    store remove "$(object 0)"
    run sync_with scrub disk
    [ "$status" = 0 ]
    [ "$output" = "" ]
    [ ! -e "$DIR/disk/scrub" ]
    run sync_with scrub disk --restart
    [ "$status" = 0 ]
    [[ $output == *"chunk 0000000000000000: object "*"is missing"* ]]
}

# go_to HOST: be it from now on, in a directory of its own, beside one bucket
# shellcheck disable=SC2034 # for the helpers
go_to() {
    DIR=$BATS_TEST_TMPDIR/$1
    CONFIG=$DIR/s3blkdev.conf
    SOCKET=$DIR/nbd.sock
    DAEMON_LOG=$DIR/s3blkdevd.log
    STORE=$BATS_TEST_TMPDIR/store
    mkdir "$DIR"
    write_config
    add_device disk 64M "chunksize 1M"
}

# pass_grace: let all that is in the bucket be of the day before yesterday
pass_grace() {
    find "$STORE" -type f -exec touch -d '2 days ago' {} +
}

# write_chunks FIRST LAST: other data than before into these chunks
write_chunks() {
    nbd_python -u "$(uri disk)" -c "
import random
for chunk in range($1, $2 + 1):
    h.pwrite(random.randbytes(1 << 20), chunk << 20)
h.flush()"
}

# objects: how many there are of chunks
objects() {
    store keys disk/chunk/ | wc -l
}

@test "what a lost host uploaded and did not publish goes only with --others" {
    needs_dir_store
    needs nbdcopy
    go_to a
    start_daemon
    write_chunks 0 3
    upload
    # A part of a checkpoint comes into the bucket, and no image.
    write_chunks 2 5
    write_chunks 40 43
    sync_with -p "$DIR/sync.pid" 3600 0 50
    kill_daemon
    strays=$(($(objects) - 4))
    [ "$strays" -gt 0 ]
    [ "$strays" -lt 8 ]

    go_to b
    sync_with takeover disk
    start_daemon
    write_chunks 0 0
    write_chunks 60 60
    upload
    nbdcopy "$(uri disk)" "$DIR/image"
    pass_grace
    run sync_with scrub disk
    [ "$status" = 0 ]
    [ "$output" = "" ]
    [ ! -e "$STORE/disk/condemned" ]
    run sync_with scrub disk --others
    echo "$output"
    [ "$status" = 0 ]
    [ "$output" = "disk: $strays objects that no image names will be deleted" ]
    [ "$(objects)" = $((4 + strays + 2)) ]
    stop_daemon
    pass_grace
    # The next image has them deleted: what is left are four and three.
    start_daemon
    write_chunks 61 61
    upload
    [ "$(objects)" = 7 ]
    run sync_with scrub disk
    [ "$status" = 0 ]
    [ "$output" = "" ]
    stop_daemon
    # All of it is there, also for who has nothing else.
    "$ROOT/scripts/s3blkdev-export" "$STORE" disk "$DIR/export"
    cmp -n $((61 << 20)) "$DIR/image" "$DIR/export"
    "$ROOT/scripts/s3blkdev-export" --snapshot takeover-2 "$STORE" disk \
        "$DIR/taken"
    cmp -n $((59 << 20)) -i $((1 << 20)) "$DIR/image" "$DIR/taken"
}
