#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# s3blkdevd as a program: options, start, sockets, signals, end.
# shellcheck disable=SC2153 # what helpers.bash sets

load helpers

# in_background: start it with -p, as a user would; sets DAEMON_PID
in_background() {
    run "$DAEMON" -c "$CONFIG" -p "$PID_FILE" 3>&-
    [ "$status" = 0 ] || return "$status"
    DAEMON_PID=$(cat "$PID_FILE")
    RUNNING+=("$DAEMON_PID")
}

@test "-V and -h answer and end with 0" {
    run "$DAEMON" -V
    [ "$status" = 0 ]
    [[ $output == "s3blkdevd "[0-9]* ]]
    run "$DAEMON" -h
    [ "$status" = 0 ]
    [[ $output == "usage: s3blkdevd "* ]]
}

@test "an unknown option, a missing value and an argument end with 2" {
    run "$DAEMON" -x
    [ "$status" = 2 ]
    run "$DAEMON" -c
    [ "$status" = 2 ]
    run "$DAEMON" --double
    [ "$status" = 2 ]
    run "$DAEMON" start
    [ "$status" = 2 ]
    [[ $output == *"start: there are no arguments"* ]]
}

@test "in the foreground it serves until SIGTERM, ends with 0, leaves no socket" {
    needs nbdinfo
    write_config
    add_device disk 64M
    start_daemon
    [ "$(nbdinfo --size "$(uri disk)")" = $((64 << 20)) ]
    [ "$(stat -c %a "$SOCKET")" = 660 ]
    stop_daemon
    [ ! -e "$SOCKET" ]
}

@test "SIGINT ends it as SIGTERM does" {
    write_config
    add_device disk 64M
    start_daemon
    kill -INT "$DAEMON_PID"
    wait_daemon
    [ ! -e "$SOCKET" ]
}

@test "with -p it returns when it serves, writes its pid, removes it at the end" {
    needs nbdinfo
    write_config
    add_device disk 64M
    in_background
    nbdinfo "$(uri disk)"
    [ "$(readlink "/proc/$DAEMON_PID/exe")" = "$(realpath "$DAEMON")" ]
    kill -TERM "$DAEMON_PID"
    pid_ends "$DAEMON_PID"
    [ ! -e "$PID_FILE" ]
    [ ! -e "$SOCKET" ]
}

@test "with -p it has no terminal, no open files of its starter, and cwd /" {
    write_config
    add_device disk 64M
    in_background
    [ "$(readlink "/proc/$DAEMON_PID/cwd")" = / ]
    for fd in 0 1 2; do
        [ "$(readlink "/proc/$DAEMON_PID/fd/$fd")" = /dev/null ]
    done
    # Its session is none of ours, and it does not lead it.
    session=$(cut -d ' ' -f 6 "/proc/$DAEMON_PID/stat")
    [ "$session" != "$DAEMON_PID" ]
    [ "$session" != "$(cut -d ' ' -f 6 /proc/self/stat)" ]
}

@test "with -p a relative path of the pid file is removed, too" {
    write_config
    add_device disk 64M
    cd "$DIR"
    "$DAEMON" -c s3blkdev.conf -p relative.pid 3>&-
    DAEMON_PID=$(cat relative.pid)
    RUNNING+=("$DAEMON_PID")
    kill -TERM "$DAEMON_PID"
    pid_ends "$DAEMON_PID"
    [ ! -e relative.pid ]
}

@test "with -p a start that fails is told on the terminal, by exit code too" {
    write_config
    add_device disk 64M
    rmdir "$DIR/disk"
    run "$DAEMON" -c "$CONFIG" -p "$PID_FILE" 3>&-
    [ "$status" = 1 ]
    [[ $output == *"disk: cannot be opened"* ]]
    [ ! -e "$PID_FILE" ]
    [ ! -e "$SOCKET" ]
}

@test "a second start right after the end of the first works, many times" {
    write_config
    add_device disk 64M
    for _ in 1 2 3 4 5; do
        in_background
        kill -TERM "$DAEMON_PID"
        pid_ends "$DAEMON_PID"
    done
}

@test "socket and pid file of a killed daemon do not hinder the next" {
    needs nbdinfo
    write_config
    add_device disk 64M
    start_daemon
    kill_daemon
    [ -S "$SOCKET" ]
    in_background
    kill -KILL "$DAEMON_PID"
    pid_ends "$DAEMON_PID"
    [ -S "$SOCKET" ]
    [ -s "$PID_FILE" ]
    in_background
    [ "$(cat "$PID_FILE")" = "$DAEMON_PID" ]
    nbdinfo "$(uri disk)"
}

@test "the pid file of a live daemon stops a second one, which names the pid" {
    needs nbdinfo
    write_config
    add_device disk 64M
    in_background
    sed "s|$SOCKET|$SOCKET.2|; s|$DIR/disk|$STORE.2|" "$CONFIG" > "$CONFIG.2"
    mkdir "$STORE.2"
    run "$DAEMON" -c "$CONFIG.2" -p "$PID_FILE"
    [ "$status" = 1 ]
    [[ $output == *"$PID_FILE: is held by a running process, pid $DAEMON_PID;"* ]]
    [ "$(cat "$PID_FILE")" = "$DAEMON_PID" ]
    nbdinfo "$(uri disk)"
}

@test "the socket of a live daemon stops a second one, and stays" {
    needs nbdinfo
    write_config
    add_device disk 64M
    start_daemon
    sed -i "s|^.disk.$|[other]|; s|$DIR/disk|$DIR/other|" "$CONFIG"
    mkdir "$DIR/other"
    fails_to_start || code=$?
    [ "$code" = 1 ]
    grep -F "listen $SOCKET: Address already in use: is a server running" \
        "$DIR/s3blkdevd.log"
    nbdinfo "$(uri disk)"
    stop_daemon
}

@test "the cache directory of a live daemon stops a second one" {
    needs nbdinfo
    write_config
    add_device disk 64M
    start_daemon
    sed -i "s|^listen .*|listen $SOCKET.2|" "$CONFIG"
    fails_to_start || code=$?
    [ "$code" = 1 ]
    [ ! -e "$SOCKET.2" ]
    nbdinfo "$(uri disk)"
    stop_daemon
}

@test "what is no socket is not replaced by one" {
    write_config
    add_device disk 64M
    echo precious > "$SOCKET"
    fails_to_start || code=$?
    [ "$code" = 1 ]
    [ "$(cat "$SOCKET")" = precious ]
}

@test "a socket that somebody else put in its place is not removed" {
    write_config
    add_device disk 64M
    start_daemon
    rm "$SOCKET"
    echo precious > "$SOCKET"
    stop_daemon
    [ "$(cat "$SOCKET")" = precious ]
}

@test "an address and a socket are served side by side" {
    needs nbdinfo python3
    port=$(python3 -c 'import socket; s = socket.socket()
s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    write_config "listen 127.0.0.1" "port $port"
    add_device disk 64M
    start_daemon
    nbdinfo "$(uri disk)"
    [ "$(nbdinfo --size "nbd://127.0.0.1:$port/disk")" = $((64 << 20)) ]
    stop_daemon
}

@test "without anything to listen on it does not start" {
    write_config
    add_device disk 64M
    sed -i /^listen/d "$CONFIG"
    fails_to_start || code=$?
    [ "$code" = 1 ]
    grep "nothing to listen on" "$DAEMON_LOG"
}

@test "a device that cannot be opened does not keep the others from being served" {
    needs nbdinfo
    write_config
    add_device good 64M
    add_device bad 64M
    rmdir "$DIR/bad"
    start_daemon
    grep "bad: cannot be opened, and is not served" "$DAEMON_LOG"
    nbdinfo "$(uri good)"
    run nbdinfo "$(uri bad)"
    [ "$status" != 0 ]
    grep "STATUS=1 of 2 devices" "$NOTIFY_LOG"
    stop_daemon
}

@test "without any device it does not start" {
    write_config
    fails_to_start || code=$?
    [ "$code" = 1 ]
    grep "there is no device in the configuration" "$DAEMON_LOG"
}

# unreachable_bucket SETTING: a configuration with a bucket where nobody listens
unreachable_bucket() {
    printf '%s\n' "listen $SOCKET" "s3host 127.0.0.1" "s3port 1" "$1" \
        "s3bucket bucket" "s3accesskey a" "s3secretkey s" > "$CONFIG"
    chmod 600 "$CONFIG"
    add_device disk 64M
}

@test "a bucket that cannot be reached is told by -t, and by a start, which waits for it" {
    unreachable_bucket "s3ssl 0"
    run "$DAEMON" -t -c "$CONFIG"
    [ "$status" = 0 ]
    [[ $output == *"127.0.0.1:1: cannot be reached"* ]]
    [[ $output == *"no mistakes in it, but not all that it names can be used" ]]
    start_daemon
    grep "error: S3 127.0.0.1:1: cannot be reached" "$DAEMON_LOG"
    grep "disk: waits: the store is needed to open it" "$DAEMON_LOG"
    grep "STATUS=0 of 1 devices on 1 sockets, 0 failed, 1 waiting" "$NOTIFY_LOG"
    stop_daemon
}

@test "s3insecure is warned of at every start" {
    unreachable_bucket "s3insecure 1"
    start_daemon
    grep "warning: s3insecure is set: " "$DAEMON_LOG"
    stop_daemon
}

@test "a store that is not there is no store that is empty" {
    write_config
    add_device disk 64M
    rmdir "$STORE"
    fails_to_start || code=$?
    [ "$code" = 1 ]
    grep "s3dir $STORE: " "$DAEMON_LOG"
    [ ! -e "$STORE" ]
}

@test "keys for TLS that cannot be read stop the start" {
    write_config "tls required" "tlspsk $BATS_TEST_TMPDIR/missing"
    add_device disk 64M
    fails_to_start || code=$?
    [ "$code" = 1 ]
    grep "$DIR/missing" "$DAEMON_LOG"
}

@test "systemd is told when it is ready, how it goes, and that it ends" {
    write_config
    add_device disk 64M
    start_daemon
    stop_daemon
    [ "$(grep -c READY=1 "$NOTIFY_LOG")" = 1 ]
    grep "STATUS=1 of 1 devices on 1 sockets" "$NOTIFY_LOG"
    [ "$(tail -n 1 "$NOTIFY_LOG")" = STOPPING=1 ]
}

@test "the watchdog is fed again and again" {
    write_config
    add_device disk 64M
    WATCHDOG_USEC=100000 start_daemon
    wait_for_line 5 WATCHDOG=1 "$NOTIFY_LOG"
    stop_daemon
}

@test "SIGHUP is answered in the log, and it goes on" {
    needs nbdinfo
    write_config
    add_device disk 64M
    start_daemon
    kill -HUP "$DAEMON_PID"
    wait_for_line 1 "SIGHUP: .* is read again" "$DAEMON_LOG"
    nbdinfo "$(uri disk)"
    stop_daemon
}

@test "loglevel decides what is said" {
    write_config "loglevel error"
    add_device disk 64M
    start_daemon
    stop_daemon
    [ ! -s "$DAEMON_LOG" ]
}

@test "an idle client does not delay the end, and sees it" {
    write_config
    add_device disk 64M
    start_daemon
    nbd_python -u "$(uri disk)" -c "
import os, signal
h.pwrite(b'x' * 512, 0)
os.kill($DAEMON_PID, signal.SIGTERM)
while not (h.aio_is_dead() or h.aio_is_closed()):
    try:
        h.poll(-1)
    except nbd.Error:
        break
"
    wait_daemon
}

@test "a client that does not even shake hands does not delay the end" {
    needs python3
    write_config
    add_device disk 64M
    start_daemon
    python3 -c "
import os, signal, socket
s = socket.socket(socket.AF_UNIX)
s.connect('$SOCKET')
assert s.recv(18)[:8] == b'NBDMAGIC'
os.kill($DAEMON_PID, signal.SIGTERM)
while s.recv(100):
    pass
"
    wait_daemon
}

@test "libnbd's socket activation works, and listen is not used then" {
    needs nbdinfo
    write_config
    add_device disk 64M
    [ "$(nbdinfo --size -- [ "$DAEMON" -c "$CONFIG" ])" = $((64 << 20)) ]
    [ ! -e "$SOCKET" ]
}

@test "libnbd's socket activation works with --single" {
    needs nbdinfo
    write_config
    add_device disk 64M
    [ "$(nbdinfo --size -- [ "$DAEMON" -c "$CONFIG" --single ])" = \
        $((64 << 20)) ]
}

@test "several sockets that are handed over are all served" {
    needs python3 nbdinfo
    write_config
    add_device disk 64M
    # Binds two sockets, and becomes the daemon.
    python3 - "$DAEMON" "$CONFIG" "$DIR/a.sock" "$DIR/b.sock" \
        2>> "$DAEMON_LOG" 3>&- << 'PYTHON' &
import os
import socket
import sys

listening = []
for number, path in enumerate(sys.argv[3:]):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen()
    os.dup2(s.fileno(), 100 + number)
    listening.append(s)
for number in range(len(listening)):
    os.dup2(100 + number, 3 + number)
os.environ.update(LISTEN_FDS=str(len(listening)), LISTEN_PID=str(os.getpid()),
                  LISTEN_FDNAMES='a:b')
os.execv(sys.argv[1], [sys.argv[1], '-c', sys.argv[2]])
PYTHON
    DAEMON_PID=$!
    # shellcheck disable=SC2034 # for wait_daemon
    DAEMON_JOB=$!
    RUNNING+=("$DAEMON_PID")
    wait_for_line 1 "serving; devices: 1, sockets: 2" "$DAEMON_LOG"
    nbdinfo "nbd+unix:///disk?socket=$DIR/a.sock"
    nbdinfo "nbd+unix:///disk?socket=$DIR/b.sock"
    [ ! -e "$SOCKET" ]
    stop_daemon
    # They belong to who made them.
    [ -S "$DIR/a.sock" ]
    [ -S "$DIR/b.sock" ]
}

@test "a connection that is handed over by inetd or systemd is served alone" {
    write_config
    add_device disk 64M
    # connect_command gives the program one end of a pair as standard input.
    nbd_python -c "
h.connect_command(['$DAEMON', '-c', '$CONFIG', '--single'])
h.pwrite(b'one' + b'\\0' * 509, 512)
h.flush()
h.shutdown()
"
    nbd_python -c "
import os, socket
ours, theirs = socket.socketpair()
pid = os.fork()
if pid == 0:
    os.dup2(theirs.fileno(), 3)
    os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
    os.execv('$DAEMON', ['$DAEMON', '-c', '$CONFIG'])
theirs.close()
h.connect_socket(ours.detach())
assert h.pread(3, 512) == b'one'
h.shutdown()
assert os.waitpid(pid, 0)[1] == 0
"
}

@test "--single without a socket on standard input is refused" {
    write_config
    add_device disk 64M
    run "$DAEMON" -c "$CONFIG" --single < /dev/null
    [ "$status" = 1 ]
    [[ $output == *"standard input is not a connected socket"* ]]
}

# single_python: Python that starts it on one connection, ours
single_python() {
    cat << END
ours, theirs = socket.socketpair()
pid = os.fork()
if pid == 0:
    os.dup2(theirs.fileno(), 0)
    os.execv('$DAEMON', ['$DAEMON', '-c', '$CONFIG', '--single'])
theirs.close()
END
}

@test "--single ends by SIGTERM while its client is connected" {
    write_config
    add_device disk 64M
    nbd_python -c "
import os, signal, socket
$(single_python)
h.connect_socket(ours.detach())
h.pwrite(b'x' * 512, 0)
os.kill(pid, signal.SIGTERM)
assert os.waitpid(pid, 0)[1] == 0
"
}

@test "--single whose status socket cannot be made ends with 1" {
    needs python3
    write_config
    echo "status $DIR/missing/status.sock" >> "$CONFIG"
    add_device disk 64M
    python3 -c "
import os, socket
$(single_python)
assert ours.recv(1) == b''
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
" 2>> "$DAEMON_LOG" 3>&-
    grep -q 'missing/status.sock' "$DAEMON_LOG"
}
