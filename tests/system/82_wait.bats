#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A start while the store does not answer: what is here is served, and what
# is not waits, and is served when the store is there.

# shellcheck disable=SC2034 # for the helpers
STORE_KIND=radosgw-http-path-1
bats_require_minimum_version 1.5.0
load helpers

gateway() {
    "$RADOSGW" gateway "$SERVER_DIR" 1 "$1"
}

eval "helpers_$(declare -f teardown)"

teardown() {
    helpers_teardown
    # For the next test, whatever became of this one.
    gateway kill
    gateway start
}

# exports: the names that the server lists
exports() {
    nbdinfo --list --json "$(uri)" | python3 -c '
import json, sys
for export in json.load(sys.stdin)["exports"]:
    print(export["export-name"])'
}

# ask_status: the answer of the status socket
ask_status() {
    python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"status\n")
head = b""
while not head.endswith(b"\n"):
    head += s.recv(1)
left = int(head.split(b"payload=")[1])
while left:
    part = s.recv(left)
    left -= len(part)
    sys.stdout.buffer.write(part)
' "$DIR/status.sock"
}

# state DEVICE: what the status says of it
state() {
    ask_status | python3 -c '
import json, sys
print([d["state"] for d in json.load(sys.stdin)["devices"]
       if d["device"] == sys.argv[1]][0])' "$1"
}

write_to() {
    qemu-io -f raw -c "write -P $2 0 1M" -c flush "$(uri "$1")"
}

reads() {
    qemu-io -f raw -c "read -P $2 0 1M" "$(uri "$1")" | tee "$DIR/read.log"
    ! grep -i 'error\|failed' "$DIR/read.log"
}

# here_and_there: "here" has its cache, that of "there" is lost, and what was
# in it is in the bucket only
here_and_there() {
    needs nbdinfo qemu-io
    write_config "status $DIR/status.sock"
    add_device there 64M "chunksize 1M"
    add_device here 64M "chunksize 1M"
    start_daemon
    write_to here 1
    write_to there 2
    timeout "$DEADLINE_S" "$PROGRAMS/s3blkdev-sync" -c "$CONFIG" \
        -p "$DIR/sync.pid" 60
    stop_daemon
    rm -r "${DIR:?}/there"
    mkdir "$DIR/there"
}

@test "what is here is served without the store; what is not, as soon as it answers" {
    here_and_there
    gateway stop
    start_daemon
    grep "there: waits: the store is needed to open it" "$DAEMON_LOG"
    [ "$(exports)" = here ]
    reads here 1
    [ "$(state there)" = waiting ]
    # No other disk takes the place of the first one.
    run ! nbdinfo "$(uri)"
    gateway start
    wait_for_line 1 "there: waits no longer, and is served" "$DAEMON_LOG"
    exports | sort | diff - <(printf '%s\n' here there)
    reads there 2
    write_to here 3
    write_to there 4
    reads here 3
    reads there 4
    [ "$(state there)" = serving ]
    [ "$(grep -c "there: waits:" "$DAEMON_LOG")" = 1 ]
    [ -S "$DIR/there/control" ]
    timeout "$DEADLINE_S" "$PROGRAMS/s3blkdev-sync" -c "$CONFIG" status
    stop_daemon
    run ! grep "there: cannot be opened" "$DAEMON_LOG"
}

@test "a server all of whose devices wait starts, and ends at once" {
    needs nbdinfo
    write_config
    add_device one 64M
    add_device two 64M
    gateway stop
    start_daemon
    [ "$(grep -c "waits: the store is needed to open it" "$DAEMON_LOG")" = 2 ]
    grep "STATUS=0 of 2 devices on 1 sockets, 0 failed, 2 waiting" "$NOTIFY_LOG"
    [ "$(exports)" = "" ]
    stop_daemon
    gateway start
    start_daemon
    exports | sort | diff - <(printf '%s\n' one two)
    stop_daemon
}

@test "a server that waits for a store that is silent ends, too" {
    write_config "s3timeout 1000"
    add_device one 64M
    gateway pause
    start_daemon
    grep "one: waits: the store is needed to open it" "$DAEMON_LOG"
    stop_daemon
}

@test "a single connection does not wait for its device: the start fails, and says why" {
    write_config
    add_device disk 64M
    gateway stop
    run python3 -c '
import socket, subprocess, sys
ours, theirs = socket.socketpair()
sys.exit(subprocess.run(sys.argv[1:], stdin=theirs).returncode)
' "$DAEMON" -c "$CONFIG" --single
    [ "$status" = 1 ]
    [[ $output == *"disk: cannot be opened, and is not served: the store is needed"* ]]
}
