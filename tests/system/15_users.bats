#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A server without privileges beside users who are curious, or want to do harm:
# what is whose, who can open it, and what is refused with the command that
# mends it.

bats_require_minimum_version 1.5.0
load helpers

# Users that need no account: the server's, with its group, and another one.
SERVER=47110
OTHER=47111

eval "helpers_$(declare -f setup)"
eval "helpers_$(declare -f teardown)"

setup() {
    helpers_setup
    needs setpriv socat
    [ "$(id -u)" = 0 ] || skip "only root can run programs as other users"
    # The directory of the test, and perhaps that of the programs, are root's.
    DIR=$(mktemp -d /tmp/s3blkdev-users.XXXXXX)
    chmod 755 "$DIR"
    STORE=$DIR/store
    SOCKET=$DIR/run/nbd.sock
    CONFIG=$DIR/s3blkdev.conf
    DAEMON_LOG=$DIR/run/log
    cp "$PROGRAMS/s3blkdevd" "$PROGRAMS/s3blkdev-sync" "$DIR/"
    DAEMON=$DIR/s3blkdevd
    mkdir "$DIR/run"
    chown $SERVER:$SERVER "$DIR/run"
    umask 000 # what is made is closed all the same
    write_config "status $DIR/run/status.sock"
    mkdir -m 755 "$DIR/disk"
    printf '%s\n' "[disk]" "cachedir $DIR/disk" "size 64M" "journalsize 64M" \
        "cachemem 16M" >> "$CONFIG"
    chown $SERVER:$SERVER "$DIR/disk" "$STORE"
    chmod 755 "$STORE"
    chown root:$SERVER "$CONFIG"
    chmod 640 "$CONFIG"
}

teardown() {
    helpers_teardown
    case $DIR in
    /tmp/s3blkdev-users.*) rm -rf "$DIR" ;;
    esac
}

# as USER COMMAND...: run it as that user, with nothing but his own group
as() {
    setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"
}

# serve: start the server as its user; returns when it serves, or its exit code
serve() {
    as $SERVER "$DAEMON" -c "$CONFIG" -p "$DIR/run/pid" 2>> "$DAEMON_LOG" \
        3>&- || return
    DAEMON_PID=$(cat "$DIR/run/pid")
    RUNNING+=("$DAEMON_PID")
}

end_server() {
    kill -TERM "$DAEMON_PID"
    pid_ends "$DAEMON_PID"
}

# mend: run the first command that the log tells
mend() {
    local command

    command=$(sed -n 's/.*; run: //p' "$DAEMON_LOG" | head -n 1)
    echo "to mend it: $command"
    case $command in
    "chmod o"*" $DIR/"* | "chmod o"*" '$DIR/"* | "chown root '$DIR/"*) ;;
    *) return 1 ;;
    esac
    : > "$DAEMON_LOG"
    eval "$command"
}

# connects USER SOCKET: whether he can
connects() {
    as "$1" socat -u OPEN:/dev/null "UNIX-CONNECT:$2"
}

@test "nobody else can read, change or connect to what the server has" {
    serve
    as $SERVER nbdcopy "$DAEMON" "$(uri disk)"
    as $SERVER "$DIR/s3blkdev-sync" -c "$CONFIG" snapshot disk one --now
    # All that it made is closed, whatever the umask.
    find "$DIR/disk" "$STORE" -mindepth 1 ! -type s -perm /077 |
        diff /dev/null -
    [ -n "$(find "$STORE" -type f)" ]
    find "$DIR/run" -mindepth 1 ! -name log -perm /002 | diff /dev/null -
    run ! as $OTHER cat "$DIR/disk/superblock"
    run ! as $OTHER ls "$DIR/disk/journal"
    run ! as $OTHER touch "$DIR/disk/mine"
    run ! as $OTHER cat "$CONFIG"
    connects $SERVER "$SOCKET"
    connects $SERVER "$DIR/run/status.sock"
    run ! connects $OTHER "$SOCKET"
    run ! connects $OTHER "$DIR/run/status.sock"
    run ! connects $OTHER "$DIR/disk/control"
    end_server
}

@test "only root and the server's own user can command it" {
    serve
    chmod 644 "$CONFIG"
    run as $OTHER "$DIR/s3blkdev-sync" -c "$CONFIG" -w 1s status
    [ "$status" = 1 ]
    [[ $output == *"Permission denied"* ]]
    # Not even through a door that somebody left open.
    chmod 666 "$DIR/disk/control"
    run as $OTHER "$DIR/s3blkdev-sync" -c "$CONFIG" -w 1s \
        snapshot disk mine --now
    [ "$status" = 1 ]
    grep -q "the control socket was opened by uid $OTHER, " "$DAEMON_LOG"
    as $SERVER "$DIR/s3blkdev-sync" -c "$CONFIG" snapshot disk one --now
    "$DIR/s3blkdev-sync" -c "$CONFIG" snapshot disk two --now
    run "$DIR/s3blkdev-sync" -c "$CONFIG" snapshots disk
    [[ $output == *one*two* && $output != *mine* ]]
    end_server
    # Without the server, root works as the user whose directory it is.
    "$DIR/s3blkdev-sync" -c "$CONFIG" -w 1s -p "$DIR/sync.pid" 60
    find "$DIR/disk" "$STORE" ! -user $SERVER | diff /dev/null -
    serve
    end_server
}

@test "the server cannot open what is somebody else's, and says so" {
    chown -R $OTHER:$OTHER "$DIR/disk"
    run serve
    [ "$status" = 1 ]
    grep -q "$DIR/disk/lock: Permission denied" "$DAEMON_LOG"
    [ -z "$(find "$DIR/disk" -mindepth 1)" ]
    chmod 600 "$CONFIG"
    run serve
    [ "$status" = 3 ]
    grep -q "$CONFIG: cannot be read: Permission denied" "$DAEMON_LOG"
}

@test "a configuration with secrets that others can read is refused until it is mended" {
    sed -i '1i s3accesskey AKID\ns3secretkey sesame' "$CONFIG"
    sed -i "s|^s3dir .*|s3host 127.0.0.1\ns3port 1\ns3bucket b|" "$CONFIG"
    for mode in 644 642 646; do
        chmod $mode "$CONFIG"
        run serve
        [ "$status" = 3 ]
        run -3 as $SERVER "$DIR/s3blkdev-sync" -c "$CONFIG" status
        run ! grep sesame "$DAEMON_LOG"
        mend
        [ "$(stat -c %a "$CONFIG")" = 640 ]
    done
    as $SERVER "$DAEMON" -t -c "$CONFIG"
}

@test "a configuration that others can change is refused until it is mended" {
    chmod 646 "$CONFIG"
    run serve
    [ "$status" = 3 ]
    run -3 "$DIR/s3blkdev-sync" -c "$CONFIG" status
    mend
    [ "$(stat -c %a "$CONFIG")" = 644 ]
    serve
    end_server
}

@test "a cache directory that others can write to is refused until it is mended" {
    chmod 1777 "$DIR/disk"
    run serve
    [ "$status" = 1 ]
    [ -z "$(find "$DIR/disk" -mindepth 1)" ]
    mend
    [ "$(stat -c %a "$DIR/disk")" = 1775 ]
    serve
    end_server
}

@test "keys of TLS that others can read, or own, are refused until it is mended" {
    local keys=$DIR/keys.psk

    echo "alice:000102030405060708090a0b0c0d0e0f" > "$keys"
    chmod 644 "$keys"
    sed -i "1i tls required\ntlspsk $keys" "$CONFIG"
    chown $OTHER:$SERVER "$keys"
    run serve
    [ "$status" = 1 ]
    mend
    [ "$(stat -c %u "$keys")" = 0 ]
    run serve
    [ "$status" = 1 ]
    mend
    [ "$(stat -c %a "$keys")" = 640 ]
    serve
    end_server
}
