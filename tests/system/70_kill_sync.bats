#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# kill -9 of the server and of s3blkdev-sync, each at moments of its own,
# while a device is written, uploaded and evicted: kill_client.py compares all
# of it after each start, and at the end the bucket alone has the same.  KILLS
# says how often the server is killed (5), KILL_SEED with which seed (1).

load helpers

SYNC=$PROGRAMS/s3blkdev-sync
KILLER=

eval "helpers_$(declare -f teardown)"
teardown() {
    rm -f "$DIR/go_on"
    [ -z "$KILLER" ] || wait "$KILLER" || true
    helpers_teardown
}

@test "what is acknowledged survives, here and in the bucket, and an image is made" {
    /usr/bin/python3 -c 'import nbd' || skip "python3-libnbd is not installed"
    needs nbdcopy
    write_config "loglevel warning"
    add_device disk 32M "chunksize 256K" "journalsize 16M" "cachemem 4M" \
        "cachesize 128M" "grace 1s" "keep 1"
    touch "$DIR/go_on"
    "$BATS_TEST_DIRNAME/kill_sync.py" "${KILL_SEED:-1}" "$CONFIG" \
        "$DIR/go_on" "$SYNC" -c "$CONFIG" > "$DIR/killed" 2>&1 3>&- &
    KILLER=$!
    "$BATS_TEST_DIRNAME/kill_client.py" "${KILLS:-5}" "${KILL_SEED:-1}" \
        "$(uri disk)" "$DAEMON" -c "$CONFIG"
    rm "$DIR/go_on"
    code=0
    wait "$KILLER" || code=$?
    KILLER=
    cat "$DIR/killed"
    [ "$code" = 0 ]

    # Nothing of all this is in the way of a run, which finishes the checkpoint
    # that was open; what the next one makes is the device.
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" -w 0 -p "$DIR/sync.pid" 3600
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" -p "$DIR/sync.pid" 3600
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" -p "$DIR/sync.pid" 1 0
    start_daemon
    nbdcopy "$(uri disk)" "$DIR/here"
    stop_daemon
    mkdir "$DIR/elsewhere"
    sed -i "s|^cachedir .*|cachedir $DIR/elsewhere|" "$CONFIG"
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" takeover disk
    start_daemon
    nbdcopy "$(uri disk)" "$DIR/there"
    stop_daemon
    cmp "$DIR/here" "$DIR/there"
}
