#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The configuration is changed while the daemon serves: what SIGHUP applies,
# what it leaves to a restart, and that no client notices.

load helpers
load hostile

# set_setting NAME VALUE [OLD]: change the line of a setting, or that with OLD
set_setting() {
    sed -i "s|^$1 ${3:-.*}\$|$1 $2|" "$CONFIG"
    grep -q "^$1 $2\$" "$CONFIG"
}

# reload: have the daemon read the file again, and return when it has
reload() {
    local before

    before=$(grep -c '^READY=1' "$NOTIFY_LOG")
    kill -HUP "$DAEMON_PID"
    wait_for_line $((before + 1)) '^READY=1' "$NOTIFY_LOG"
}

size_of() {
    nbdinfo --size "$(uri "$1")"
}

@test "a device that grows is larger for who connects, and what is new is kept" {
    needs nbdinfo qemu-io
    write_config
    add_device disk 64M
    start_daemon
    [ "$(size_of disk)" = $((64 << 20)) ]
    set_setting size 96M
    reload
    [ "$(size_of disk)" = $((96 << 20)) ]
    qemu-io -f raw -c "write -P 7 80M 1M" "$(uri disk)"
    kill_daemon
    start_daemon
    qemu-io -f raw -c "read -P 7 80M 1M" -c "read -P 0 64M 1M" "$(uri disk)"
    # It does not shrink, and says so.
    set_setting size 64M
    reload
    [ "$(size_of disk)" = $((96 << 20)) ]
    grep -q "disk: has 100663296 bytes and cannot shrink to 67108864" \
        "$DAEMON_LOG"
    stop_daemon
}

@test "a device that is new is served, as after a start" {
    needs nbdinfo qemu-io
    write_config
    add_device disk 64M
    start_daemon
    run size_of second
    [ "$status" != 0 ]
    add_device second 32M
    reload
    wait_for_line 1 'second: new device' "$DAEMON_LOG"
    # It is opened beside the reload, which does not wait for it.
    until nbdinfo --list "$(uri)" | grep -q 'export="second"'; do :; done
    [ "$(size_of second)" = $((32 << 20)) ]
    [ "$(size_of disk)" = $((64 << 20)) ]
    qemu-io -f raw -c "write -P 3 0 1M" -c "flush" "$(uri second)"
    # Its section goes, and it does not, until there is a restart.
    sed -i '/^\[second\]/,$d' "$CONFIG"
    reload
    grep -q "second: has no section any more; it is served until a restart" \
        "$DAEMON_LOG"
    qemu-io -f raw -c "read -P 3 0 1M" "$(uri second)"
    stop_daemon
    start_daemon
    run size_of second
    [ "$status" != 0 ]
    stop_daemon
}

@test "a device that could not be opened is opened when it can be" {
    needs nbdinfo
    write_config
    add_device disk 64M
    add_device second 32M
    rmdir "$DIR/second"
    start_daemon
    grep -q "second: cannot be opened, and is not served" "$DAEMON_LOG"
    mkdir "$DIR/second"
    reload
    until nbdinfo --list "$(uri)" | grep -q 'export="second"'; do :; done
    [ "$(size_of second)" = $((32 << 20)) ]
    stop_daemon
}

@test "a file with mistakes changes nothing, and all of them are told" {
    needs nbdinfo
    write_config "uploads 4"
    add_device disk 64M
    start_daemon
    set_setting uploads 400
    set_setting size 96M
    echo "kep 3" >> "$CONFIG"
    reload
    grep -q "reload: $CONFIG:.*: uploads 400: not valid; allowed" "$DAEMON_LOG"
    grep -q "reload: $CONFIG:.*: kep: no such setting; did you mean keep?" \
        "$DAEMON_LOG"
    grep -q "reload: nothing has changed" "$DAEMON_LOG"
    [ "$(size_of disk)" = $((64 << 20)) ]
    rm "$CONFIG"
    reload
    grep -q "reload: $CONFIG: cannot be read" "$DAEMON_LOG"
    [ "$(size_of disk)" = $((64 << 20)) ]
    stop_daemon
}

@test "each change is told once, and what takes a restart each time" {
    write_config "uploads 4" "workers 8" "loglevel info"
    add_device disk 64M "grace 24h" "readonly 0"
    start_daemon
    set_setting uploads 9
    set_setting workers 7
    set_setting grace 2h
    set_setting readonly 1
    reload
    grep -q "info: reload: uploads: 9, was 4" "$DAEMON_LOG"
    grep -q "info: reload: disk: grace: 2h, was 1d" "$DAEMON_LOG"
    grep -q "warning: reload: workers: 7 takes a restart; it is still 8" \
        "$DAEMON_LOG"
    grep -q "warning: reload: disk: readonly: 1 takes a restart" "$DAEMON_LOG"
    set_setting readonly 0
    reload
    [ "$(grep -c "reload: uploads" "$DAEMON_LOG")" = 1 ]
    [ "$(grep -c "reload: workers: 7 takes" "$DAEMON_LOG")" = 2 ]
    [ "$(grep -c "reload: disk: readonly" "$DAEMON_LOG")" = 1 ]
    set_setting loglevel error
    reload
    [ "$(grep -c "reload: loglevel: error, was info" "$DAEMON_LOG")" = 1 ]
    : > "$DAEMON_LOG"
    reload
    [ ! -s "$DAEMON_LOG" ]
    stop_daemon
}

# second_client: whether another client may come while one is there
second_client() {
    nbd_python -u "$(uri disk)" -c '
other = nbd.NBD()
try:
    other.connect_uri(h.get_uri())
    print("both are served")
except nbd.Error:
    print("the second is refused")'
}

@test "limits hold for what comes: connections, and the size of the cache" {
    needs qemu-io
    write_config "maxconnections 10" "status $DIR/status.sock"
    add_device disk 64M "cachesize 64M"
    start_daemon
    [ "$(second_client)" = "both are served" ]
    set_setting maxconnections 1
    set_setting cachesize 32M
    reload
    [ "$(second_client)" = "the second is refused" ]
    "$PROGRAMS/s3blkdev-sync" -c "$CONFIG" status > "$DIR/status"
    grep -q "of 32" "$DIR/status"
    stop_daemon
}

# replace_key: the store knows only this one from now on
replace_key() {
    hostile "{\"access\":{\"key\":\"$1\",\"secret\":\"$2\"}}"
}

# read_with_old_key: a read that needs the store waits, as the key is refused
read_with_old_key() {
    head -c 8M /dev/urandom > "$DIR/image"
    nbdcopy "$DIR/image" "$(uri disk)"
    "$PROGRAMS/s3blkdev-sync" -c "$CONFIG" -p "$DIR/sync.pid" 60
    "$PROGRAMS/s3blkdev-sync" -c "$CONFIG" -p "$DIR/sync.pid" 1 0
    # It has no block in memory any more.
    stop_daemon
    start_daemon
    replace_key newkey "newsecret"
    nbdcopy "$(uri disk)" "$DIR/copy" 3>&- &
    READER=$!
    wait_for_line 1 "get .* does not know the access key" "$DAEMON_LOG"
}

@test "a key that was revoked is replaced in the file, and all goes on" {
    needs nbdcopy
    start_hostile
    write_hostile_config
    add_device disk 64M "chunksize 1M" "cachesize 16M"
    start_daemon
    read_with_old_key
    set_setting s3accesskey newkey
    set_setting s3secretkey newsecret
    reload
    wait "$READER"
    cmp -n $((8 << 20)) "$DIR/image" "$DIR/copy"
    [ "$(grep -c newsecret "$DAEMON_LOG")" = 0 ]
    stop_daemon
}

@test "keys in a file of their own are read again, though nothing else is new" {
    needs nbdcopy
    start_hostile
    write_hostile_config
    sed -i '/^s3accesskey/d; /^s3secretkey/d' "$CONFIG"
    (umask 077 && printf '%s\n' "aws_access_key_id = testkey12345" \
        "aws_secret_access_key = testsecret0123456789abcdef" > "$DIR/keys")
    sed -i "1i s3credentials file:$DIR/keys" "$CONFIG"
    add_device disk 64M "chunksize 1M" "cachesize 16M"
    start_daemon
    read_with_old_key
    (umask 077 && printf '%s\n' "aws_access_key_id = newkey" \
        "aws_secret_access_key = newsecret" > "$DIR/keys.new")
    mv "$DIR/keys.new" "$DIR/keys"
    reload
    wait "$READER"
    cmp -n $((8 << 20)) "$DIR/image" "$DIR/copy"
    stop_daemon
}

# with_key FILE: whether a client with that pre-shared key is served
with_key() {
    nbdinfo --size "nbds+unix://alice@/disk?socket=$SOCKET&tls-psk-file=$1"
}

@test "TLS can begin, get other keys, and end, with a reload" {
    needs nbdinfo
    (umask 077
    echo "alice:$(printf '%064d' 1)" > "$DIR/one.psk"
    echo "alice:$(printf '%064d' 2)" > "$DIR/two.psk")
    write_config "tls off" "tlspsk $DIR/one.psk"
    add_device disk 64M
    start_daemon
    set_setting tls required
    reload
    run size_of disk
    [ "$status" != 0 ]
    with_key "$DIR/one.psk"
    set_setting tlspsk "$DIR/two.psk"
    reload
    run with_key "$DIR/one.psk"
    [ "$status" != 0 ]
    with_key "$DIR/two.psk"
    # What cannot be loaded changes nothing.
    set_setting tlspsk "$DIR/missing.psk"
    set_setting tls on
    reload
    grep -q "reload: nothing has changed" "$DAEMON_LOG"
    with_key "$DIR/two.psk"
    run size_of disk
    [ "$status" != 0 ]
    set_setting tls off
    reload
    size_of disk
    stop_daemon
}

# busy COMMAND: have the client do it, and return when it says so
busy() {
    local answer

    echo "$1" >&"$BUSY_IN"
    read -r -t "$DEADLINE_S" -u "$BUSY_OUT" answer
    [[ $answer == "${1%% *}"* || $answer == longest* ]]
}

@test "clients that write and verify notice nothing of many reloads" {
    local size answer client

    "$PYTHON" -c "import nbd" 2> /dev/null ||
        skip "python3-libnbd is not installed"
    write_config "uploads 4" "s3upload 50M" "loglevel info" "maxconnections 10"
    add_device disk 32M "keep 7"
    start_daemon
    coproc BUSY {
        "$PYTHON" "$BATS_TEST_DIRNAME/restart_client.py" "$(uri disk)" 3 7 3>&-
    }
    client=$BUSY_PID
    # Our own: bash closes those of a coprocess when it has ended.
    exec {BUSY_IN}>&"${BUSY[1]}" {BUSY_OUT}<&"${BUSY[0]}"
    read -r -t "$DEADLINE_S" -u "$BUSY_OUT" answer
    [ "$answer" = connected ]
    for size in {33..62}; do
        busy "more 200"
        set_setting size "${size}M"
        set_setting uploads $((size % 7 + 1))
        set_setting keep $((size % 5 + 1))
        set_setting s3upload "$((size % 9 + 1))M"
        set_setting maxconnections $((size % 8 + 1))
        reload
    done
    busy end
    wait "$client"
    [ "$(size_of disk)" = $((62 << 20)) ]
    [ "$(grep -c "reload: disk: size: " "$DAEMON_LOG")" = 30 ]
    [ "$(grep -c error "$DAEMON_LOG")" = 0 ]
    stop_daemon
}
