#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Restarts that clients do not see: the daemon hands their connections over to
# the next one, whatever they do at that moment.  How long they waited is
# told, and nothing is decided by it.

# shellcheck disable=SC2034 # for the helpers
bats_require_minimum_version 1.5.0
load helpers
load hostile
load filesystem
load service

SYNC=$PROGRAMS/s3blkdev-sync

sync_with() {
    timeout 120 "$SYNC" -c "$CONFIG" "$@"
}

# write_slow_config: a store that obeys commands, and gives up soon
write_slow_config() {
    start_hostile
    write_hostile_config "status $DIR/status.sock" "s3timeout 2000"
}

# write_cold SIZE: so much of "cold" is only in the bucket
write_cold() {
    head -c "$1" /dev/urandom > "$DIR/image"
    nbdcopy "$DIR/image" "$(uri cold)"
    sync_with -d cold -p "$DIR/sync.pid" 3600
    sync_with -d cold -p "$DIR/sync.pid" 1 0
}

# start_reading: read what is cold, in the background
start_reading() {
    nbdcopy "$(uri cold)" "$DIR/copy" 3>&- &
    READER=$!
}

# reading_is_right: it has come, and is what was written
reading_is_right() {
    wait "$READER"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
}

@test "ten restarts under load are not seen by four connections" {
    write_config
    add_device disk 96M "chunksize 1M" "journalsize 16M" "cachemem 4M"
    start_service
    start_client disk 4
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        client more 300
        restart_service
    done
    client more 300
    end_client
    stop_service
    [ "$(grep -c "left to the next process: 4" "$DAEMON_LOG")" = 10 ]
    [ "$(grep -c "process before: 4, resumed: 4" "$DAEMON_LOG")" = 10 ]
}

@test "fio verifies what it wrote over three restarts" {
    needs fio
    write_config "status $DIR/status.sock"
    add_device disk 96M "chunksize 1M" "journalsize 16M" "cachemem 4M"
    start_service
    fio --name=job --ioengine=nbd --thread --uri="$(uri disk)" \
        --rw=randrw --bsrange=4k-64k --size=24M --numjobs=4 --iodepth=16 \
        --offset_increment=24M --verify=crc32c --verify_fatal=1 \
        --verify_backlog=128 --random_generator=tausworthe --randseed=7 \
        --aux-path="$DIR" --time_based --runtime=3600 \
        > "$DIR/fio.log" 2>&1 3>&- &
    fio=$!
    for _ in 1 2 3; do
        until_number disk user_written $((4 << 20))
        restart_service
        kill -0 "$fio"
    done
    until_number disk user_written $((4 << 20))
    kill -INT "$fio"
    wait "$fio" || true
    run ! grep -i 'verify:\|error=' "$DIR/fio.log"
    grep 'err= 0: pid=' "$DIR/fio.log"
    stop_service
}

@test "a file system stays mounted over restarts, and keeps its files" {
    needs_loop
    write_config
    add_device disk 96M "chunksize 1M" "journalsize 16M" "cachemem 4M"
    start_service
    attach
    mkfs.ext4 -q "$LOOP"
    mount_loop
    touch "$DIR/go_on"
    (
        cd "$DIR/mnt"
        for number in $(seq 100000); do
            [ -e "$DIR/go_on" ] || exit 0
            head -c 100000 /dev/urandom > "file.$((number % 100))"
            sync -d "file.$((number % 100))"
            sha256sum "file.$((number % 100))" > "$DIR/sum.$((number % 100))"
            echo "$number" > "$DIR/number"
        done
    ) 3>&- &
    writer=$!
    for wanted in 20 40 60 80; do
        until [ "$(cat "$DIR/number" 2> /dev/null || echo 0)" -ge "$wanted" ]; do
            kill -0 "$writer"
            sleep 0.1
        done
        restart_service
    done
    rm "$DIR/go_on"
    wait "$writer"
    unmount
    mount_loop
    (cd "$DIR/mnt" && cat "$DIR"/sum.* | sha256sum --quiet -c)
    unmount
    e2fsck -fn "$LOOP"
    detach
    stop_service
    [ "$(grep -c "resumed: 4" "$DAEMON_LOG")" = 4 ]
}

@test "reads that wait for a silent store wait on in the next process" {
    needs nbdcopy
    write_slow_config
    add_device cold 16M "chunksize 1M" "cachesize 64M"
    add_device disk 32M "chunksize 1M"
    start_service
    write_cold 8M
    start_client disk 2
    hostile '{"endpoint":0,"state":"mute"}'
    start_reading
    until_number cold cold_reads 1
    for _ in 1 2 3; do
        client more 100
        restart_service
        until_number cold cold_reads 1
        kill -0 "$READER"
    done
    client more 100
    hostile '{"endpoint":0,"state":"up"}'
    reading_is_right
    end_client
    stop_service
    # Not even by the end of each process was one of them refused.
    run ! grep -i "read error\|I/O error" "$DAEMON_LOG"
}

@test "reads that a store holds back are answered after a restart" {
    needs nbdcopy
    write_slow_config
    add_device cold 16M "chunksize 1M" "cachesize 64M"
    start_service
    write_cold 8M
    hostile '{"fault":{"op":"get","key":"test/cold/*","count":-1,"hold":true}}'
    start_reading
    until_number cold cold_reads 1
    restart_service
    until_number cold cold_reads 1
    hostile '{"clear":true}'
    hostile '{"release":true}'
    reading_is_right
    stop_service
}

@test "a write to a part of what only the store has waits on in the next process" {
    write_slow_config
    add_device cold 16M "chunksize 1M" "cachesize 64M"
    start_service
    write_cold 8M
    hostile '{"fault":{"op":"get","key":"test/cold/*","count":-1,"hold":true}}'
    printf 'few bytes' > "$DIR/few"
    "$PYTHON" - "$(uri cold)" "$DIR/few" 3>&- << 'END' &
import sys, nbd
handle = nbd.NBD()
handle.connect_uri(sys.argv[1])
handle.pwrite(open(sys.argv[2], "rb").read(), 5000)
END
    writer=$!
    hostile '{"await":"waiting","count":1}'
    restart_service
    kill -0 "$writer"
    restart_service
    kill -0 "$writer"
    hostile '{"clear":true}'
    hostile '{"release":true}'
    wait "$writer"
    dd if="$DIR/few" of="$DIR/image" bs=1 seek=5000 conv=notrunc status=none
    start_reading
    reading_is_right
    stop_service
    [ "$(grep -c "process before: 1, resumed: 1" "$DAEMON_LOG")" = 2 ]
}

@test "writes that wait for space wait on, and are carried out once there is some" {
    write_slow_config
    # More than the cache may hold is written, and the store takes nothing.
    add_device disk 64M "chunksize 1M" "journalsize 16M" "cachesize 32M" \
        "cachemem 4M"
    start_service
    hostile '{"endpoint":0,"state":"mute"}'
    start_client disk 4
    until_number disk parked 1
    for _ in 1 2 3; do
        restart_service
        until_number disk parked 1
    done
    hostile '{"endpoint":0,"state":"up"}'
    client more 200
    end_client
    stop_service
    [ "$(grep -c "resumed: 4" "$DAEMON_LOG")" = 3 ]
}

@test "who looks for the daemon between two of them waits for the next" {
    write_config
    add_device disk 32M "chunksize 1M"
    start_service
    start_client disk 2
    client more 100
    service down
    wait_event 1 down
    [ -S "$DIR/disk/control" ]
    sync_with -d disk -p "$DIR/sync.pid" 3600 > "$DIR/sync.log" 2>&1 3>&- &
    sync=$!
    service up
    wait_event 2 ready
    note_daemon
    wait "$sync"
    client more 100
    end_client
    stop_service
    [ ! -e "$DIR/disk/control" ]
    run ! grep "was not closed in order" "$DAEMON_LOG"
}

@test "an upload goes on over a restart, and nobody notices" {
    write_slow_config
    add_device disk 32M "chunksize 1M"
    start_service
    start_client disk 2
    client more 300
    hostile '{"fault":{"op":"put","key":"test/disk/*","skip":2,"count":-1,"hold":true}}'
    sync_with -d disk -p "$DIR/sync.pid" 3600 > "$DIR/sync.log" 2>&1 3>&- &
    sync=$!
    hostile '{"await":"waiting","count":1}'
    restart_service
    client more 100
    restart_service
    hostile '{"clear":true}'
    hostile '{"release":true}'
    client more 100
    wait "$sync"
    end_client
    stop_service
}

# killed_in_between COUNT CLOSED: the daemon is killed when so many descriptors
# are left with systemd; the rest of four connections is closed
killed_in_between() {
    write_config
    add_device disk 64M "chunksize 1M" "journalsize 16M" "cachemem 4M"
    start_service --on-failure
    start_client disk 4
    client more 300
    echo "lose $2" >&"$CLIENT_IN"
    service kill-at "$1"
    restart_service
    client_says lose
    client more 300
    end_client
    stop_service
    [ "$(count_events kept)" = "$1" ]
    [ "$(count_events removed)" -ge "$1" ]
    grep "ended .* 137" "$EVENTS"
}

@test "killed in the middle of leaving a connection, none is resumed" {
    killed_in_between 1 4
    grep "connection 0 of the process before is closed, not resumed: there is no record" "$DAEMON_LOG"
}

@test "killed between two connections, those that were left are resumed" {
    killed_in_between 4 2
    grep "process before: 2, resumed: 2" "$DAEMON_LOG"
}

@test "a record that was cut off is not used; its client sees an end" {
    write_config
    add_device disk 64M "chunksize 1M"
    start_service
    start_client disk 3
    client more 300
    echo "lose 1" >&"$CLIENT_IN"
    service down
    wait_event 1 down
    service cut nbd-1-record 1
    service up
    wait_event 2 ready
    note_daemon
    client_says lose
    client more 300
    end_client
    stop_service
    grep "connection 1 of the process before is closed, not resumed: its record is not whole" "$DAEMON_LOG"
    grep "process before: 2, resumed: 2" "$DAEMON_LOG"
}

@test "what systemd has no room for is closed, the rest is resumed" {
    write_config
    add_device disk 64M "chunksize 1M"
    start_service --keep 5
    start_client disk 3
    client more 300
    echo "lose 1" >&"$CLIENT_IN"
    restart_service
    client_says lose
    client more 300
    end_client
    stop_service
    [ "$(count_events refused)" = 1 ]
    grep "no more connections are kept for the next process" "$DAEMON_LOG"
    grep "left to the next process: 2" "$DAEMON_LOG"
    grep "process before: 2, resumed: 2" "$DAEMON_LOG"
}

@test "more connections than systemd has room for are warned of" {
    write_config "maxconnections 5"
    add_device disk 64M "chunksize 1M"
    # As the unit tells it.
    FDSTORE_MAX=8 start_service
    grep "maxconnections is 5, but no more than 4 connections outlive" \
        "$DAEMON_LOG"
    for number in 4 6; do
        sed -i "s/^maxconnections .*/maxconnections $number/" "$CONFIG"
        ready=$(count_events ready)
        service reload
        wait_event $((ready + 1)) ready
    done
    grep "maxconnections is 6, .* FileDescriptorStoreMax=12 " "$DAEMON_LOG"
    run ! grep "maxconnections is 4" "$DAEMON_LOG"
    stop_service
}

@test "clients of a device that waits for the store wait, and see an end if it is refused" {
    needs nbdcopy
    write_slow_config
    add_device cold 16M "chunksize 1M" "cachesize 64M"
    start_service
    write_cold 4M
    hostile '{"fault":{"op":"get","count":-1,"hold":true}}'
    start_reading
    hostile '{"await":"waiting","count":1}'
    hostile '{"endpoint":0,"state":"mute"}'
    service down
    wait_event 1 down
    # Somebody empties its disk.
    rm -r "${DIR:?}/cold"
    mkdir "$DIR/cold"
    service up
    wait_event 2 ready
    note_daemon
    grep "cold: waits: the store is needed to open it" "$DAEMON_LOG"
    kill -0 "$READER"
    # Who has not even begun hands on what it was given.
    restart_service
    kill -0 "$READER"
    [ "$(grep "process before: " "$DAEMON_LOG" | uniq -c | awk '{ print $1 }')" = 2 ]
    hostile '{"clear":true}'
    hostile '{"endpoint":0,"state":"up"}'
    wait "$READER" || code=$?
    [ "$code" = 1 ]
    grep "cold: unix (pid [0-9]*) is closed: the device is not served" "$DAEMON_LOG"
    stop_service
}

@test "clients wait for a configuration whose mistakes are found at a restart" {
    local ended ready

    write_config
    add_device disk 64M "chunksize 1M"
    start_service --on-failure
    start_client disk 2
    client more 100
    ended=$(count_events ended)
    ready=$(count_events ready)
    echo "no such setting" >> "$CONFIG"
    service restart
    wait_event $((ended + 3)) ended
    sed -i '/^no such setting$/d' "$CONFIG"
    wait_event $((ready + 1)) ready
    note_daemon
    client more 100
    end_client
    stop_service
    grep "process before: 2, resumed: 2" "$DAEMON_LOG"
}

@test "clients of a device that is gone from the configuration see an end" {
    write_config
    add_device disk 64M "chunksize 1M"
    add_device other 64M "chunksize 1M"
    start_service
    start_client disk 2
    client more 100
    sed -i 's/^\[disk\]/[renamed]/' "$CONFIG"
    mkdir "$DIR/renamed"
    sed -i "s|^cachedir $DIR/disk\$|cachedir $DIR/renamed|" "$CONFIG"
    restart_service
    wait "$CLIENT_JOB" || code=$?
    CLIENT_JOB=
    [ "$code" = 1 ]
    stop_service
}

@test "without systemd it says that nobody keeps clients, and stops as ever" {
    write_config
    add_device disk 64M
    env -u NOTIFY_SOCKET "$DAEMON" -c "$CONFIG" --hand-over \
        2> "$DAEMON_LOG" 3>&- &
    DAEMON_PID=$!
    RUNNING+=("$DAEMON_PID")
    wait_for_line 1 "serving; devices" "$DAEMON_LOG"
    kill -TERM "$DAEMON_PID"
    wait "$DAEMON_PID"
    grep "hand-over: NOTIFY_SOCKET is not set" "$DAEMON_LOG"
}
