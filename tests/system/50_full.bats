#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A cache disk that is full, by us or by others, or has no inodes left: writes
# wait, reads go on, nothing is lost, and all goes on when there is room.
#
# The cache disk is a small file system of its own.  Nothing is written below
# its mount point before it was seen to be one.

# shellcheck disable=SC2030,SC2031 # each test has a WRITER of its own

load helpers
eval "helpers_$(declare -f teardown)"

teardown() {
    helpers_teardown
    [ -z "${WRITER:-}" ] || kill "$WRITER" 2> /dev/null || true
    if is_mounted; then
        umount "$DISK" || umount -l "$DISK"
    fi
}

# is_mounted: whether the cache disk is there, and is not part of another one
is_mounted() {
    [ -n "${DISK:-}" ] && mountpoint -q "$DISK"
}

needs_root() {
    needs mountpoint nbdcopy nbdinfo
    [ "$(id -u)" = 0 ] || skip "only root can mount"
    /usr/bin/python3 -c 'import nbd' || skip "python3-libnbd is not installed"
}

# mount_ext4 SIZE OPTION...: an ext4 of that size is $DISK
mount_ext4() {
    local size=$1

    shift
    needs mkfs.ext4 losetup
    losetup -f > /dev/null 2>&1 || skip "there is no loop device"
    DISK=$DIR/disk
    mkdir "$DISK"
    truncate -s "$size" "$DIR/disk.img"
    mkfs.ext4 -q -F -m 0 "$@" "$DIR/disk.img"
    mount -o loop "$DIR/disk.img" "$DISK"
    is_mounted
}

# serve SIZE LINE...: a device of that size with its cache on $DISK
serve() {
    is_mounted
    write_config "loglevel info"
    add_device disk "$@" "journalsize 16M"
    mkdir -p "$DISK/cache"
    sed -i "s|^cachedir .*|cachedir $DISK/cache|" "$CONFIG"
    start_daemon
}

# run_nbd CODE: run it on a connection h
run_nbd() {
    timeout "$DEADLINE_S" /usr/bin/python3 -m nbd -u "$(uri disk)" -c "$1"
}

# wait_for_log PATTERN: return when the daemon has said it
wait_for_log() {
    # tail ends at the next line after that; nobody waits for it.
    grep -q -m 1 "$1" < <(timeout "$DEADLINE_S" tail -n +1 -F "$DAEMON_LOG" \
        2> /dev/null 3>&-)
}

# fill_up LEAVE: have others take the disk's space, but for LEAVE MiB
fill_up() {
    local free

    is_mounted
    free=$(($(stat -f -c '%a * %S' "$DISK") / 1024 / 1024))
    [ "$free" -gt "$1" ]
    fallocate -l $((free - $1))M "$DISK/others"
}

# begin_writing IMAGE: copy it onto the device, in the background: $WRITER
begin_writing() {
    nbdcopy --flush --connections=4 "$1" "$(uri disk)" 3>&- &
    WRITER=$!
}

# The writer waits; it has not failed, nor finished.
writer_waits() {
    kill -0 "$WRITER"
}

# Somebody else can read meanwhile.
reads_go_on() {
    run_nbd 'assert len(h.pread(65536, 0)) == 65536'
    nbdinfo --map "$(uri disk)" > /dev/null
}

@test "a disk that others have filled fails no write" {
    needs_root
    mount_ext4 200M
    serve 80M "chunksize 1M"
    head -c 80M /dev/urandom > "$DIR/image"
    fill_up 30
    begin_writing "$DIR/image"
    # Chunks leave for the bucket meanwhile, so it may never stop for long.
    wait_for_log 'No space left on device\|nothing can be evicted'
    reads_go_on
    rm "$DISK/others"
    wait "$WRITER"
    WRITER=
    nbdcopy --connections=4 "$(uri disk)" "$DIR/copy"
    cmp "$DIR/image" "$DIR/copy"
    stop_daemon
    start_daemon
    nbdcopy --connections=4 "$(uri disk)" "$DIR/copy2"
    cmp "$DIR/image" "$DIR/copy2"
    stop_daemon
}

@test "what was acknowledged on a full disk survives kill -9 there" {
    needs_root
    mount_ext4 120M
    # No chunk can be uploaded to make room: where they go there is a file.
    mkdir -p "$STORE/disk"
    touch "$STORE/disk/chunk"
    serve 80M "chunksize 1M"
    fill_up 25
    # Each answer is counted by the reader at the other end of the pipe.
    run_nbd '
import os
number = 0
while True:
    h.pwrite(bytes([number % 251 + 1]) + os.urandom(65535), number * 65536)
    print(number, flush=True)
    number += 1
' > "$DIR/acknowledged" 3>&- &
    WRITER=$!
    wait_for_log 'No space left on device'
    writer_waits
    kill_daemon
    wait "$WRITER" || true
    WRITER=
    [ -s "$DIR/acknowledged" ]
    # The disk is as full as before.
    start_daemon
    run_nbd "
last = int(open('$DIR/acknowledged').read().split()[-1])
for number in range(last + 1):
    assert h.pread(1, number * 65536)[0] == number % 251 + 1, number
"
    rm "$DISK/others"
    run_nbd 'h.pwrite(b"x" * 1048576, 79 * 1048576); h.flush()'
    stop_daemon
}

@test "a disk that the device itself has filled has room again after a trim" {
    needs_root
    mount_ext4 120M
    # No chunk can be uploaded to make room: where they go there is a file.
    mkdir -p "$STORE/disk"
    touch "$STORE/disk/chunk"
    serve 400M "chunksize 1M"
    head -c 400M /dev/urandom > "$DIR/image"
    begin_writing "$DIR/image"
    wait_for_log 'No space left on device'
    reads_go_on
    writer_waits
    kill "$WRITER"
    wait "$WRITER" || true
    WRITER=
    # A trim needs no room, and makes some.
    run_nbd 'for i in range(0, 400, 100): h.trim(100 * 1048576, i * 1048576)'
    run_nbd 'h.flush()'
    head -c 40M /dev/urandom > "$DIR/small"
    run_nbd "
data = open('$DIR/small', 'rb').read()
for at in range(0, len(data), 1048576):
    h.pwrite(data[at:at + 1048576], at)
h.flush()
for at in range(0, len(data), 1048576):
    assert h.pread(1048576, at) == data[at:at + 1048576]
"
    stop_daemon
}

@test "a disk without inodes makes writes wait until there are some" {
    local i

    needs_root
    mount_ext4 200M -N 128
    serve 64M "chunksize 256K"
    is_mounted
    mkdir "$DISK/others"
    for i in $(seq 200); do
        : > "$DISK/others/$i" || break
    done 2> /dev/null
    is_mounted && rm "$DISK/others/1" "$DISK/others/2"
    head -c 64M /dev/urandom > "$DIR/image"
    begin_writing "$DIR/image"
    wait_for_log 'No space left on device'
    reads_go_on
    writer_waits
    kill "$WRITER"
    wait "$WRITER" || true
    WRITER=
    # 128 inodes are too few for all of it: for the first 8 MiB they will do.
    is_mounted && rm -r "$DISK/others"
    run_nbd "
data = open('$DIR/image', 'rb').read(8388608)
h.trim(64 * 1048576, 0)
for at in range(0, len(data), 1048576):
    h.pwrite(data[at:at + 1048576], at)
h.flush()
for at in range(0, len(data), 1048576):
    assert h.pread(1048576, at) == data[at:at + 1048576]
"
    stop_daemon
}
