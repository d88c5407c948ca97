#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Two hosts and one bucket: a device moves, is taken over, and what the host
# that lost it still has is saved as a device of its own, or given up.

load helpers

SYNC=$PROGRAMS/s3blkdev-sync

# on HOST: go on as that host: a, b or c, each with a cache directory
on() {
    DIR=$BATS_TEST_TMPDIR/$1
    CONFIG=$DIR/s3blkdev.conf
    # shellcheck disable=SC2034 # for the helpers
    SOCKET=$DIR/nbd.sock
    # shellcheck disable=SC2034 # likewise
    STORE=$BATS_TEST_TMPDIR/store
    DAEMON_PID=${PIDS[$1]:-}
    DAEMON_JOB=${JOBS[$1]:-}
    HOST=$1
}

declare -gA PIDS JOBS

# make_host HOST DEVICE
make_host() {
    on "$1"
    mkdir -p "$DIR"
    write_config
    add_device "$2" 32M "chunksize 1M" "journalsize 16M"
}

start() {
    start_daemon
    PIDS[$HOST]=$DAEMON_PID
    JOBS[$HOST]=$DAEMON_JOB
}

# io COMMAND...: qemu-io on the device; fails if one of them does
io() {
    local command device=disk options=()

    [ "$HOST" != c ] || device=saved
    for command; do
        options+=(-c "$command")
    done
    timeout 100 qemu-io -f raw "${options[@]}" "$(uri "$device")" \
        > "$DIR/qemu-io.log" 2>&1 || return 1
    ! grep -i 'error\|failed' "$DIR/qemu-io.log"
}

sync() {
    timeout 100 "$SYNC" -c "$CONFIG" "$@"
}

upload() {
    sync -p "$DIR/sync.pid" 60
}

setup_hosts() {
    needs qemu-io
    make_host a disk
    make_host b disk
}

@test "a device moves to another host and back, by stopping here and starting there" {
    setup_hosts
    on a
    start
    io "write -P 1 0 3M" "write -P 2 8M 1M"
    upload
    stop_daemon
    on b
    start
    io "read -P 1 0 3M" "read -P 2 8M 1M" "read -P 0 16M 1M"
    io "write -P 3 1M 1M" "discard 8M 1M"
    upload
    stop_daemon
    on a
    start
    io "read -P 1 0 1M" "read -P 3 1M 1M" "read -P 1 2M 1M" "read -P 0 8M 1M"
    stop_daemon
}

@test "an empty directory where the cache disk should be is not the device" {
    setup_hosts
    on a
    start
    io "write -P 1 0 3M"
    upload
    io "write -P 2 0 1M"
    stop_daemon
    mv "$DIR/disk" "$DIR/away"
    mkdir "$DIR/disk"
    fails_to_start || [ $? != 99 ]
    # shellcheck disable=SC2153 # the helpers set it
    grep -q "mounted?" "$DAEMON_LOG"
    [ "$(find "$DIR/disk" -type f | wc -l)" -le 1 ] # the lock, at most
    rm -r "$DIR/disk"
    mv "$DIR/away" "$DIR/disk"
    start
    io "read -P 2 0 1M" "read -P 1 1M 2M"
    stop_daemon
}

@test "a host that is taken over is fenced; what it still has is forked, then discarded" {
    setup_hosts
    on a
    start
    io "write -P 1 0 3M"
    upload
    io "write -P 2 1M 1M"
    on b
    fails_to_start || [ $? != 99 ]
    grep -q "takeover disk" "$DAEMON_LOG"
    sync takeover disk
    start
    io "read -P 1 0 3M" "write -P 3 0 1M"
    sync snapshots disk | grep takeover-
    on a
    run upload
    [ "$status" != 0 ]
    run io "write -P 4 0 1M"
    [ "$status" != 0 ]
    io "read -P 1 0 1M" "read -P 2 1M 1M"
    sync status | grep fenced
    stop_daemon
    fails_to_start || [ $? != 99 ]
    grep -q "s3blkdev-sync discard disk" "$DAEMON_LOG"
    run sync takeover disk
    [ "$status" != 0 ]
    sync fork disk saved
    sync discard disk
    make_host c saved
    start
    io "read -P 1 0 1M" "read -P 2 1M 1M" "read -P 1 2M 1M" "write -P 5 0 1M"
    stop_daemon
    on b
    upload
    io "read -P 3 0 1M" "read -P 1 1M 2M"
    stop_daemon
    on a
    start
    io "read -P 3 0 1M" "read -P 1 1M 2M"
    stop_daemon
}

@test "a host that was killed goes on without a word, and beside a bucket that is not its own" {
    setup_hosts
    on a
    start
    io "write -P 1 0 3M"
    upload
    io "write -P 2 1M 1M" "flush"
    kill_daemon
    store move disk/ away/
    start
    grep -q "wrong bucket" "$DAEMON_LOG"
    io "read -P 1 0 1M" "read -P 2 1M 1M" "write -P 3 4M 1M"
    run upload
    [ "$status" != 0 ]
    stop_daemon
    [ -z "$(store keys disk/epoch/)" ]
    store remove disk/
    store move away/ disk/
    start
    upload
    stop_daemon
    on b
    start
    io "read -P 1 0 1M" "read -P 2 1M 1M" "read -P 3 4M 1M"
    stop_daemon
}
