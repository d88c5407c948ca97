#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What is wrong between here and the S3 server is told in words, and what is
# here is served all the same.

# shellcheck disable=SC2034 # for the helpers
STORE_KIND=radosgw-https-path-1
bats_require_minimum_version 1.5.0
load helpers
load hostile

SYNC=$PROGRAMS/s3blkdev-sync

sync_with() {
    timeout "$DEADLINE_S" "$SYNC" -c "$CONFIG" "$@"
}

# cold_device: a device with the first MiB only in the bucket and the second
# only here, and no server
cold_device() {
    needs qemu-io
    add_device disk 64M "chunksize 1M" "cachesize 64M"
    start_daemon
    io "write -P 1 0 1M"
    sync_with -p "$DIR/sync.pid" 60
    sync_with -p "$DIR/sync.pid" 1 0
    io "write -P 2 1M 1M"
    stop_daemon
}

# io COMMAND...: qemu-io on the device; fails if one of them does
io() {
    local command options=()

    for command; do
        options+=(-c "$command")
    done
    timeout "$DEADLINE_S" qemu-io -f raw "${options[@]}" "$(uri disk)" \
        > "$DIR/qemu-io.log" 2>&1 || return 1
    ! grep -i 'error\|failed' "$DIR/qemu-io.log"
}

# configure NAME VALUE: change a setting
configure() {
    sed -i "s|^$1 .*|$1 $2|" "$CONFIG"
}

# is_told WORDS...: the check of the configuration and the server both say
# it; what is here is served, and with the right setting all is well
is_told() {
    local words

    run "$DAEMON" -t -c "$CONFIG"
    echo "$output"
    for words; do
        [[ $output == *"$words"* ]]
    done
    start_daemon
    for words; do
        grep -F "$words" "$DAEMON_LOG"
    done
    io "read -P 2 1M 1M" "write -P 3 1M 1M" "read -P 3 1M 1M" "write -P 2 1M 1M"
}

# is_well: all can be read
is_well() {
    start_daemon
    io "read -P 1 0 1M" "read -P 2 1M 1M"
    stop_daemon
}

@test "with the right settings nothing is said against the store" {
    write_config
    cold_device
    run -0 "$DAEMON" -t -c "$CONFIG"
    [[ $output != *"S3"* ]]
    is_well
    run ! grep "error: S3" "$DAEMON_LOG"
}

@test "a wrong secret key" {
    write_config
    cold_device
    configure s3secretkey "wrong"
    is_told "the secret key is not the one of access key test..."
    stop_daemon
    configure s3secretkey "$(setting secretkey)"
    is_well
}

@test "an access key that the store does not know" {
    write_config
    cold_device
    configure s3accesskey "nobodyskey"
    is_told "it does not know the access key nobo..."
    stop_daemon
    configure s3accesskey "$(setting accesskey)"
    is_well
}

@test "a bucket that is not there" {
    write_config
    cold_device
    configure s3bucket "nobodys-bucket"
    is_told "there is no bucket nobodys-bucket"
    stop_daemon
    configure s3bucket test
    is_well
}

@test "a certificate that nobody vouches for, or for another name" {
    write_config
    cold_device
    sed -i "/^s3ca /d" "$CONFIG"
    is_told "cannot be reached" "not trusted"
    stop_daemon
    sed -i "s|^s3ssl .*|&\ns3ca $(setting ca)\ns3name another.example.org|" \
        "$CONFIG"
    is_told "cannot be reached" "s3.localhost"
    stop_daemon
    sed -i "/^s3name /d" "$CONFIG"
    is_well
}

@test "TLS where there is none, and none where there is" {
    # Who waits for a client to begin TLS says nothing.
    write_config "s3timeout 1000"
    cold_device
    configure s3port "$(setting http)"
    is_told "cannot be reached" "s3ssl"
    stop_daemon
    configure s3port "$(setting https)"
    sed -i "s|^s3ssl .*|s3ssl 0|; /^s3ca /d" "$CONFIG"
    is_told "S3 127.0.0.1:$(setting https)"
    stop_daemon
    sed -i "s|^s3ssl .*|s3ssl 1\ns3ca $(setting ca)|" "$CONFIG"
    is_well
}

@test "nobody at the port; who comes there later is found" {
    write_config
    cold_device
    "$RADOSGW" gateway "$SERVER_DIR" 1 stop
    is_told "cannot be reached" "refused"
    io "read -P 1 0 1M" &
    reader=$!
    "$RADOSGW" gateway "$SERVER_DIR" 1 start
    wait "$reader"
    stop_daemon
}

@test "a clock that is an hour off is told, and corrected" {
    start_hostile
    write_hostile_config
    cold_device
    hostile '{"set":{"clock_ms":3600000}}'
    is_told "the clock here is 60 minutes behind"
    io "read -P 1 0 1M"
    sync_with -p "$DIR/sync.pid" 60
    hostile '{"set":{"clock_ms":-3600000}}'
    sync_with -p "$DIR/sync.pid" 1 0
    io "read -P 1 0 1M" "read -P 2 1M 1M"
    stop_daemon
}

@test "a region that is another one is told, and followed" {
    start_hostile '{"region":"eu-central-2"}'
    write_hostile_config
    cold_device
    is_told "eu-central-2"
    stop_daemon
    echo "s3region eu-central-2" | cat - "$CONFIG" > "$DIR/new"
    cat "$DIR/new" > "$CONFIG"
    run -0 "$DAEMON" -t -c "$CONFIG"
    [[ $output != *"eu-central-2"* ]]
    is_well
}

@test "a store that knows no conditional put is used, and that is told" {
    start_hostile '{"conditional":"unknown"}'
    write_hostile_config
    cold_device
    grep -i "conditional" "$DAEMON_LOG"
    is_well
}
