#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# s3blkdev-sync as a program: its arguments, its exit codes, who owns a cache
# directory while it runs, and how it ends.
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
    [ -z "${OTHERS_DIR:-}" ] || rm -rf "${OTHERS_DIR:?}"
}

# sync_with ARGUMENT...: run it on our configuration
sync_with() {
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" "$@"
}

# start_sync ARGUMENT...: the same in the background; sets SYNC_PID
start_sync() {
    "$SYNC" -c "$CONFIG" "$@" > "$DIR/sync.out" 2>&1 3>&- &
    SYNC_PID=$!
}

# written_device SIZE: a device of 1 GiB with so much on it, and no server
written_device() {
    needs nbdcopy
    write_config "$@"
    add_device disk 1G "chunksize 1M"
    start_daemon
    head -c "$WRITTEN" /dev/urandom > "$DIR/image"
    nbdcopy "$DIR/image" "$(uri disk)"
    stop_daemon
}
WRITTEN=20M

# wait_for_object: return when an upload has begun
wait_for_object() {
    local deadline=$((SECONDS + DEADLINE_S))

    until [ -n "$(store keys disk/chunk/)" ]; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
    done
}

# get KEY [DEVICE]: what status --json says of the first device
get() {
    sync_with status --json | python3 -c "
import json, sys
print(json.load(sys.stdin)['devices'][0].get('$1', 'nothing'))"
}

# has_image: whether all that was written is in the image in the bucket: it is
# what another host sees that has nothing else
has_image() {
    local of_other=$DIR/other.conf

    rm -rf "$DIR/elsewhere"
    mkdir "$DIR/elsewhere"
    sed "s|^cachedir .*|cachedir $DIR/elsewhere|; s|^listen .*|listen $SOCKET|" \
        "$CONFIG" > "$of_other"
    chmod 600 "$of_other" # there may be a secret in it
    timeout "$DEADLINE_S" "$SYNC" -c "$of_other" takeover disk
    CONFIG=$of_other start_daemon
    nbdcopy "$(uri disk)" "$DIR/copy"
    stop_daemon
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
}

@test "-V and -h answer and end with 0" {
    run "$SYNC" -V
    [ "$status" = 0 ]
    [[ $output == "s3blkdev-sync "[0-9]* ]]
    run "$SYNC" -h
    [ "$status" = 0 ]
    [[ $output == "usage: s3blkdev-sync "* ]]
}

@test "wrong and contradictory arguments end with 2 and the usage" {
    write_config
    add_device disk 64M
    for arguments in "" "-x" "-p" "3600" "90 80" "-p $DIR/p 80 90" \
        "-p $DIR/p 0" "-p $DIR/p 3600 50 50" "-p $DIR/p 90 80 0 101" \
        "-p $DIR/p 1 2 3 4 5" "stat" "snapshot disk" "clone disk disk" \
        "status --now" "-d disk takeover disk" "drop disk extra"; do
        # shellcheck disable=SC2086 # several arguments
        run "$SYNC" -c "$CONFIG" $arguments
        echo "$arguments: $status"
        [ "$status" = 2 ]
        [[ $output == *"usage: s3blkdev-sync"* ]]
    done
    [ ! -e "$DIR/p" ]
}

@test "a device that is not in the configuration ends with 2" {
    write_config
    add_device disk 64M
    run "$SYNC" -c "$CONFIG" -d other status
    [ "$status" = 2 ]
    [[ $output == *"other: no such device in the configuration"* ]]
    run "$SYNC" -c "$CONFIG" takeover other
    [ "$status" = 2 ]
}

@test "who has the pid file keeps others from running, quietly, with 4" {
    needs flock
    write_config
    add_device disk 64M
    mkfifo "$DIR/ready" "$DIR/end"
    flock "$DIR/sync.pid" \
        sh -c "echo > '$DIR/ready'; read -r _ < '$DIR/end'" 3>&- &
    holder=$!
    read -r -t "$DEADLINE_S" _ < "$DIR/ready"
    run "$SYNC" -c "$CONFIG" -p "$DIR/sync.pid" 3600
    echo > "$DIR/end"
    wait "$holder"
    [ "$status" = 4 ]
    [ "$output" = "" ]
}

@test "a stale pid file does no harm, and is gone at the end" {
    written_device
    echo 1 > "$DIR/sync.pid"
    sync_with -p "$DIR/sync.pid" 3600
    [ ! -e "$DIR/sync.pid" ]
}

@test "an empty directory is not made a device" {
    write_config
    add_device disk 64M
    run "$SYNC" -c "$CONFIG" -p "$DIR/sync.pid" 3600
    [ "$status" = 1 ]
    [[ $output == *"disk: $DIR/disk has nothing of it: "* ]]
    [ ! -e "$DIR/disk/superblock" ]
    [ -z "$(store keys "")" ]
}

@test "what was written is an image, made without a server, in silence" {
    written_device
    [ "$(get image_epoch)" = nothing ]
    [ "$(get oldest_unpublished_ns)" != nothing ]
    run sync_with -p "$DIR/sync.pid" 3600
    [ "$status" = 0 ]
    [ "$output" = "" ]
    [ "$(get oldest_unpublished_ns)" = nothing ]
    [ "$(get dirty_chunks)" = 0 ]
    [ ! -e "$DIR/disk/control" ]
    [ ! -e "$DIR/sync.pid" ]
    has_image
}

@test "a run without changes makes no new image" {
    written_device
    sync_with -p "$DIR/sync.pid" 3600
    before=$(get image_epoch)
    run sync_with -p "$DIR/sync.pid" 3600
    [ "$status" = 0 ]
    [ "$output" = "" ]
    [ "$(get image_epoch)" = "$before" ]
}

@test "what was written is an image, made beside a server" {
    needs nbdcopy
    write_config
    add_device disk 1G "chunksize 1M"
    start_daemon
    head -c 20M /dev/urandom > "$DIR/image"
    nbdcopy "$DIR/image" "$(uri disk)"
    [ "$(stat -c %a "$DIR/disk/control")" = 600 ]
    run sync_with -p "$DIR/sync.pid" 3600
    [ "$status" = 0 ]
    [ "$output" = "" ]
    [ "$(get oldest_unpublished_ns)" = nothing ]
    [ "$(get connections)" = 0 ]
    nbdcopy "$(uri disk)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
    stop_daemon
    [ ! -e "$DIR/disk/control" ]
    has_image
}

@test "several by percentage share the work, and the last one publishes" {
    written_device
    start_daemon
    for i in 0 25 50 75; do
        sync_with -p "$DIR/$i.pid" 3600 "$i" $((i + 25)) 3>&- &
        pids="${pids:-} $!"
    done
    for pid in $pids; do
        wait "$pid"
    done
    [ "$(get oldest_unpublished_ns)" = nothing ]
    [ "$(get checkpoint)" = none ]
    stop_daemon
    has_image
}

@test "several without a server find who has the directory, and go on after it" {
    written_device
    for i in 0 25 50 75; do
        sync_with -p "$DIR/$i.pid" 3600 "$i" $((i + 25)) 3>&- &
        pids="${pids:-} $!"
    done
    for pid in $pids; do
        wait "$pid"
    done
    [ "$(get oldest_unpublished_ns)" = nothing ]
    [ "$(get checkpoint)" = none ]
    has_image
}

@test "a part of the chunks alone makes no image, but the rest does" {
    written_device
    sync_with -p "$DIR/sync.pid" 3600 0 50
    [ "$(get checkpoint)" = open ]
    left=$(get checkpoint_left)
    [ "$left" -gt 0 ]
    [ "$left" -lt "$(get chunks)" ]
    sync_with -p "$DIR/sync.pid" 3600 50 100
    [ "$(get checkpoint)" = none ]
    has_image
}

@test "runs whose time is up end with 5 until one has done the rest" {
    WRITTEN=100M written_device "uploads 1"
    while :; do
        code=0
        sync_with -p "$DIR/sync.pid" 1 || code=$?
        [ "$code" = 5 ] || break
        [ "$(get checkpoint)" = open ]
    done
    [ "$code" = 0 ]
    has_image
}

@test "SIGTERM ends it after the chunk in hand; the next run does the rest" {
    WRITTEN=120M written_device "uploads 1"
    start_sync -p "$DIR/sync.pid" 3600
    # It uploads when the first object is there.
    wait_for_object
    kill -TERM "$SYNC_PID"
    code=0
    wait "$SYNC_PID" || code=$?
    echo "exit code $code: $(cat "$DIR/sync.out")"
    [ "$code" = 5 ] || [ "$code" = 0 ]
    [ ! -s "$DIR/sync.out" ]
    [ ! -e "$DIR/sync.pid" ]
    [ ! -e "$DIR/disk/control" ]
    sync_with -p "$DIR/sync.pid" 3600
    [ "$(get checkpoint)" = none ]
    has_image
}

@test "SIGKILL leaves nothing that is in the way of the next run" {
    WRITTEN=100M written_device
    start_sync -p "$DIR/sync.pid" 3600
    timeout "$DEADLINE_S" sh -c "until [ -S '$DIR/disk/control' ]; do :; done"
    kill -KILL "$SYNC_PID"
    wait "$SYNC_PID" || true
    # Who left a socket may be restarting: -w says that nobody is.
    sync_with -w 0 -p "$DIR/sync.pid" 3600
    [ "$(get checkpoint)" = none ]
    has_image
}

@test "a server that starts gets the directory at once, and sync goes on" {
    needs nbdinfo
    WRITTEN=120M written_device "uploads 1"
    start_sync -p "$DIR/sync.pid" 3600
    timeout "$DEADLINE_S" sh -c "until [ -S '$DIR/disk/control' ]; do :; done"
    start_daemon
    nbdinfo --size "$(uri disk)"
    code=0
    wait "$SYNC_PID" || code=$?
    cat "$DIR/sync.out"
    [ "$code" = 0 ]
    [ "$(get oldest_unpublished_ns)" = nothing ]
    stop_daemon
    has_image
}

@test "a server that ends and comes back meanwhile is found again" {
    WRITTEN=120M written_device "uploads 1"
    start_daemon
    start_sync -p "$DIR/sync.pid" 3600
    wait_for_object
    kill_daemon
    start_daemon
    code=0
    wait "$SYNC_PID" || code=$?
    cat "$DIR/sync.out"
    [ "$code" = 0 ]
    [ "$(get oldest_unpublished_ns)" = nothing ]
    stop_daemon
    has_image
}

@test "what is evicted is read from the bucket, also by a server" {
    needs nbdcopy
    written_device
    sed -i 's/^chunksize .*/&\ncachesize 64M/' "$CONFIG"
    sync_with -p "$DIR/sync.pid" 1 0
    [ "$(get cache_used)" -lt $((1 << 20)) ]
    start_daemon
    nbdcopy "$(uri disk)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
    stop_daemon
}

@test "nothing is evicted while less is used than the most" {
    written_device
    sed -i 's/^chunksize .*/&\ncachesize 64M/' "$CONFIG"
    sync_with -p "$DIR/sync.pid" 3600
    before=$(get cache_used)
    [ "$before" -gt $((16 << 20)) ]
    run sync_with -p "$DIR/sync.pid" 90 10
    [ "$status" = 0 ]
    [ "$output" = "" ]
    [ "$(get cache_used)" = "$before" ]
    sync_with -p "$DIR/sync.pid" 20 15
    used=$(get cache_used)
    echo "$before bytes were used, $used are"
    [ "$used" -le $(((64 << 20) * 15 / 100)) ]
    [ "$used" -gt 0 ]
}

# evict_often START STOP: a part of the work, again and again
evict_often() {
    for _ in $(seq 200); do
        sync_with -p "$DIR/$1-$2.pid" 60 40 "$1" "$2" || return 1
    done
}

@test "several make room beside a writer, and none finds it cannot be done" {
    needs fio
    write_config
    add_device disk 256M "cachesize 24M" "chunksize 1M"
    start_daemon
    fio --name=job --ioengine=nbd --uri="$(uri disk)" --rw=randwrite --bs=64k \
        --size=256M --iodepth=4 --rate=30m --time_based --runtime=3600 \
        > "$DIR/fio.log" 2>&1 3>&- &
    writer=$!
    for part in "0 50" "50 100" "0 100"; do
        # shellcheck disable=SC2086 # two numbers
        evict_often $part > "$DIR/evict.${part/ /-}" 2>&1 3>&- &
        pids="${pids:-} $!"
    done
    for pid in $pids; do
        wait "$pid" || failed=1
    done
    kill -INT "$writer"
    wait "$writer" || true
    # They are through, and said nothing.
    cat "$DIR"/evict.*
    [ -z "${failed:-}" ]
    [ -z "$(cat "$DIR"/evict.*)" ]
    stop_daemon
}

@test "status tells people and programs the same, also by its socket" {
    needs socat
    written_device "status $DIR/status.sock"
    add_device second 64M
    start_daemon
    [ "$(stat -c %a "$DIR/status.sock")" = 660 ]
    run sync_with status
    [ "$status" = 0 ]
    [[ $output == *"disk: new, 1.0 GiB, 0 connections"* ]]
    [[ $output == *"second: new, 64.0 MiB, 0 connections"* ]]
    run sync_with -d second status
    [[ $output != *"disk:"* ]]
    sync_with status --json > "$DIR/by_command"
    echo status | socat -t 10 - "UNIX:$DIR/status.sock" > "$DIR/by_socket"
    python3 -c "
import json
command = json.load(open('$DIR/by_command'))['devices']
answer = open('$DIR/by_socket').read().split('\n', 1)
assert answer[0] == 'ok payload=%d' % len(answer[1]), answer[0]
by_socket = json.loads(answer[1])['devices']
assert [d['device'] for d in command] == ['disk', 'second']
for a, b in zip(command, by_socket):
    assert a.keys() == b.keys()
    assert a['device'] == b['device'] and a['chunks'] == b['chunks']
"
    # It answers nothing else.
    echo drop | socat -t 10 - "UNIX:$DIR/status.sock" | grep '^error errno=13 '
    stop_daemon
    [ ! -e "$DIR/status.sock" ]
}

@test "a device that cannot be asked does not hide the others" {
    written_device
    add_device second 64M
    run sync_with status
    [ "$status" = 1 ]
    [[ $output == *"disk: new, "* ]]
    [[ $output == *"second: not to be asked, "* ]]
}

@test "as root it works as the owner of the cache directory" {
    needs_dir_store
    [ "$(id -u)" = 0 ] || skip "only root can be somebody else"
    written_device
    OTHERS_DIR=$(mktemp -d)
    chmod 755 "$OTHERS_DIR"
    cp -a "$DIR/disk" "$STORE" "$OTHERS_DIR/"
    sed -i "s|^cachedir .*|cachedir $OTHERS_DIR/disk|
        s|^s3dir .*|s3dir $OTHERS_DIR/store|" "$CONFIG"
    chown -R 65534:65534 "$OTHERS_DIR/disk" "$OTHERS_DIR/store"
    sync_with -p "$DIR/sync.pid" 3600
    [ "$(get oldest_unpublished_ns)" = nothing ]
    [ -z "$(find "$OTHERS_DIR/disk" "$OTHERS_DIR/store" ! -user 65534)" ]
    [ ! -e "$DIR/sync.pid" ]
}

@test "snapshots are taken, listed, cloned, rolled back to, and dropped" {
    needs nbdcopy
    written_device
    sync_with snapshot disk before --now
    run sync_with snapshots disk
    [ "$status" = 0 ]
    [[ $output == "before"*"image "* ]]
    start_daemon
    head -c 5M /dev/zero | tr '\0' x > "$DIR/second"
    nbdcopy "$DIR/second" "$(uri disk)"
    stop_daemon
    sync_with -p "$DIR/sync.pid" 3600
    run sync_with snapshot disk before
    [ "$status" = 1 ]
    [[ $output == *"there is a snapshot of that name"* ]]
    sync_with rollback disk before
    start_daemon
    nbdcopy "$(uri disk)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
    stop_daemon
    sync_with clone disk@before twin
    add_device twin 1G "chunksize 1M"
    start_daemon
    nbdcopy "$(uri twin)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
    stop_daemon
    run sync_with drop disk@before < /dev/null
    [ "$status" = 1 ]
    [[ $output == *"needs --yes"* ]]
    sync_with drop disk@before --yes
    run sync_with snapshots disk
    if grep "^before[[:space:]]" <<< "$output"; then
        return 1
    fi
}

@test "a device moves to another host when it was released" {
    needs nbdcopy
    written_device
    run sync_with release disk
    [ "$status" = 1 ]
    [[ $output == *"no image holds"* ]]
    sync_with -p "$DIR/sync.pid" 3600
    mv "$DIR/disk" "$DIR/first"
    mkdir "$DIR/disk"
    start_daemon
    nbdcopy "$(uri disk)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
    stop_daemon
}

@test "a device of a lost host is refused until it is taken over" {
    needs nbdcopy
    written_device
    sync_with -p "$DIR/sync.pid" 3600
    start_daemon
    head -c 1M /dev/urandom > "$DIR/second"
    nbdcopy "$DIR/second" "$(uri disk)"
    kill_daemon
    mv "$DIR/disk" "$DIR/lost"
    mkdir "$DIR/disk"
    fails_to_start || code=$?
    [ "$code" = 1 ]
    grep "takeover" "$DAEMON_LOG"
    sync_with takeover disk
    start_daemon
    nbdcopy "$(uri disk)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/image")" "$DIR/image" "$DIR/copy"
    stop_daemon
}

@test "what a host has that lost its device becomes another one, or is given up" {
    needs nbdcopy
    written_device
    sync_with -p "$DIR/sync.pid" 3600
    # It writes on, and another host takes over from the image.
    start_daemon
    head -c 5M /dev/urandom > "$DIR/second"
    nbdcopy "$DIR/second" "$(uri disk)"
    stop_daemon
    cp "$CONFIG" "$DIR/other.conf"
    mkdir "$DIR/elsewhere"
    sed -i "s|^cachedir .*|cachedir $DIR/elsewhere|" "$DIR/other.conf"
    "$SYNC" -c "$DIR/other.conf" takeover disk

    run sync_with -p "$DIR/sync.pid" 3600
    [ "$status" = 1 ]
    fails_to_start || code=$?
    [ "$code" = 1 ]
    sync_with fork disk rescued
    run sync_with fork disk rescued
    [ "$status" = 1 ]
    [[ $output == *"there is a device of that name"* ]]
    sync_with discard disk
    add_device rescued 1G "chunksize 1M"
    # The device is the other host's; what is here is the rescued one.
    sed -i "/^.disk.$/,/^cachemem/d" "$CONFIG"
    start_daemon
    nbdcopy "$(uri rescued)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/second")" "$DIR/second" "$DIR/copy"
    cmp -i "$(stat -c %s "$DIR/second")" -n $((15 << 20)) \
        "$DIR/image" "$DIR/copy"
    stop_daemon
}

@test "a device that is only read says how it is, and is left alone" {
    written_device
    sync_with -p "$DIR/sync.pid" 3600
    sed -i 's/^chunksize .*/&\nreadonly 1/' "$CONFIG"
    sync_with -p "$DIR/sync.pid" 3600
    sync_with -p "$DIR/sync.pid" 1 0
    [ "$(get state)" = read-only ]
    start_daemon
    [ "$(get state)" = read-only ]
    run sync_with release disk
    [ "$status" = 1 ]
    [[ $output == *"the device is only read"* ]]
    stop_daemon
}

@test "a snapshot is served beside its device, only to be read" {
    needs nbdcopy nbdinfo
    written_device
    sync_with snapshot disk before --now
    cp "$DIR/image" "$DIR/first"
    add_device drill 1G "chunksize 1M" "image disk@before"
    start_daemon
    head -c 5M /dev/urandom > "$DIR/second"
    nbdcopy "$DIR/second" "$(uri disk)"
    nbdcopy "$(uri drill)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/first")" "$DIR/first" "$DIR/copy"
    nbdinfo "$(uri drill)" | grep "is_read_only: true"
    sync_with -p "$DIR/sync.pid" 3600
    stop_daemon
    start_daemon
    nbdcopy "$(uri drill)" "$DIR/copy"
    cmp -n "$(stat -c %s "$DIR/first")" "$DIR/first" "$DIR/copy"
    run sync_with -d drill status
    [ "$status" = 0 ]
    [[ $output == "drill: read-only, 1.0 GiB"* ]]
    stop_daemon
    [ -z "$(store keys drill)" ]
}

@test "a store that takes nothing is told, with 1, and nothing is lost" {
    needs_dir_store
    written_device
    # Where chunks go there is a file.
    mkdir -p "$STORE/disk"
    touch "$STORE/disk/chunk"
    run sync_with -p "$DIR/sync.pid" 2
    [ "$status" = 1 ]
    [[ $output == *"chunks are left"* ]]
    [ "$(get image_epoch)" = nothing ]
    rm "$STORE/disk/chunk"
    sync_with -p "$DIR/sync.pid" 3600
    has_image
}

@test "scrub names what is bad, and what is good here is uploaded again" {
    needs nbdcopy
    written_device
    sync_with snapshot disk before --now
    run sync_with scrub disk
    [ "$status" = 0 ]
    [ "$output" = "" ]
    store change "$(store keys disk/chunk | head -n 1)" 100000 \
        "$(printf 'not what it was' | od -A n -t x1 | tr -d ' ')"
    store remove "$(store keys disk/chunk | tail -n 1)"
    run sync_with scrub disk --restart
    [ "$status" = 0 ]
    [[ $output == *"is damaged"* ]]
    [[ $output == *"is missing"* ]]
    [[ $output == *"snapshot disk@before needs it"* ]]
    sync_with -p "$DIR/sync.pid" 3600
    run sync_with scrub disk --restart
    [ "$status" = 0 ]
    [ "$output" = "" ]
    has_image
}

@test "scrub ends with 1 when what is bad is nowhere else" {
    written_device
    sync_with -p "$DIR/sync.pid" 3600
    sed -i 's/^chunksize .*/&\ncachesize 64M/' "$CONFIG"
    sync_with -p "$DIR/sync.pid" 1 0
    store remove "$(store keys disk/chunk | head -n 1)"
    run sync_with scrub disk
    [ "$status" = 1 ]
    [[ $output == *"is missing"* ]]
}

@test "a device is dropped only if that is meant; its name can be used again" {
    needs nbdcopy
    written_device
    sync_with -p "$DIR/sync.pid" 3600
    run sync_with drop disk < /dev/null
    [ "$status" = 1 ]
    [[ $output == *"needs --yes"* ]]
    sync_with drop disk --yes
    fails_to_start || code=$?
    [ "$code" = 1 ]
    rm -rf "${DIR:?}/disk"
    mkdir "$DIR/disk"
    start_daemon
    head -c 3M /dev/urandom > "$DIR/image"
    nbdcopy "$DIR/image" "$(uri disk)"
    stop_daemon
    sync_with -p "$DIR/sync.pid" 3600
    has_image
}

@test "a device that falls behind is told, with 6, until it has caught up" {
    WRITTEN=100M written_device "uploads 1"
    sed -i 's/^chunksize .*/&\nmaxage 1s/' "$CONFIG"
    code=6
    while [ "$code" = 6 ]; do
        code=0
        # Who has uploaded for a second has a write that is older than that.
        sync_with -p "$DIR/sync.pid" 1 2> "$DIR/said" || code=$?
        [ "$code" = 0 ] || grep "more than maxage" "$DIR/said"
    done
    [ "$code" = 0 ]
    [ "$(get behind)" = False ]
    has_image
}

@test "what is kept in one store is not uploaded to another" {
    written_device
    start_daemon
    other_store other < "$CONFIG" > "$DIR/other.conf"
    chmod 600 "$DIR/other.conf"
    run timeout "$DEADLINE_S" "$SYNC" -c "$DIR/other.conf" -p "$DIR/pid" 3600
    [ "$status" = 1 ]
    [[ $output == *"not the one"* ]]
    [ -z "$(CONFIG=$DIR/other.conf store keys disk/chunk/)" ]
    sync_with -p "$DIR/pid" 3600
    stop_daemon
    has_image
}
