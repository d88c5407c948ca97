# SPDX-License-Identifier: BSD-2-Clause
#
# helpers - what the system tests share: "load helpers" at the top of a file.
#
#     @test "a sentence" {
#         needs nbdinfo
#         write_config
#         add_device disk 64M
#         start_daemon
#         nbdinfo "$(uri disk)"
#         stop_daemon
#     }
#
# Each test has the directory $DIR to itself, and there: $CONFIG, the socket
# $SOCKET, and for a device d its cache directory d/.  Its objects are where
# STORE_KIND says: "dir" (in $STORE), or as store_kind.bash tells, on a server
# that is started once for the file.
# Nothing here waits for a time: what is waited for is an event; a deadline
# only ends what hangs.  teardown kills what a failed test left running.

ROOT=$BATS_TEST_DIRNAME/../..
PROGRAMS=${PROGRAMS:-$ROOT/build/release}
DAEMON=$PROGRAMS/s3blkdevd
DEADLINE_S=60
RUNNING=() # numbers of daemons that were started, also of ended ones

load store_kind

setup_file() {
    start_store
}

teardown_file() {
    stop_store
}

setup() {
    DIR=$BATS_TEST_TMPDIR
    CONFIG=$DIR/s3blkdev.conf
    SOCKET=$DIR/nbd.sock
    # shellcheck disable=SC2034 # for store_kind
    STORE=$DIR/store
    # shellcheck disable=SC2034 # for the tests
    PID_FILE=$DIR/s3blkdevd.pid
    DAEMON_LOG=$DIR/s3blkdevd.log # what daemons said
    NOTIFY_LOG=$DIR/notify.log    # what they told systemd
}

teardown() {
    local pid

    for pid in "${RUNNING[@]}"; do
        # A number may have been given to somebody else meanwhile.
        if [ "$(readlink "/proc/$pid/exe")" = "$(realpath "$DAEMON")" ]; then
            kill -KILL "$pid" || true
        fi
    done
    # Shown by bats if the test failed.
    if [ -s "$DAEMON_LOG" ]; then
        echo "what the daemon said:"
        tail -n 50 "$DAEMON_LOG"
    fi
}

# needs COMMAND...: skip the test, aloud, if one is not installed
needs() {
    local command

    for command; do
        command -v "$command" > /dev/null || skip "$command is not installed"
    done
}

# Debian's python, for which python3-libnbd is; nbdsh may find another one.
PYTHON=/usr/bin/python3

# nbd_python OPTION...: nbdsh, or a skip if it is not installed
nbd_python() {
    "$PYTHON" -c "import nbd" 2> /dev/null ||
        skip "python3-libnbd is not installed"
    "$PYTHON" -m nbd "$@"
}

# write_config [LINE...]: a configuration with a socket, a store and LINEs
write_config() {
    {
        echo "listen $SOCKET"
        store_settings
        printf '%s\n' "$@"
    } > "$CONFIG"
    make_bucket
}

# add_device NAME SIZE [LINE...]: add a device, with LINEs in its section;
# unless they say otherwise, its journal and memory are small
add_device() {
    local name=$1 size=$2 default

    shift 2
    mkdir -p "$DIR/$name"
    printf '%s\n' "[$name]" "cachedir $DIR/$name" "size $size" "$@" >> "$CONFIG"
    for default in "journalsize 64M" "cachemem 16M"; do
        printf '%s\n' "$@" | grep -q "^${default%% *} " ||
            echo "$default" >> "$CONFIG"
    done
}

# uri [NAME]: where libnbd and qemu find that device, or the first one
uri() {
    printf 'nbd+unix:///%s?socket=%s' "${1:-}" "$SOCKET"
}

# start_daemon [OPTION...]: start it, and return when it serves, or with a
# failure if it ended.  Sets DAEMON_PID, the number of the daemon, and
# DAEMON_JOB, that of its supervisor, whose exit code is the daemon's.
start_daemon() {
    local fifo

    fifo=$(mktemp -u "$DIR/ready.XXXXXX")
    mkfifo "$fifo"
    # 3 is bats' own, and it would wait for whoever has it.
    "$ROOT/tests/support/supervise" "$NOTIFY_LOG" "$DAEMON" -c "$CONFIG" "$@" \
        > "$fifo" 2>> "$DAEMON_LOG" 3>&- &
    DAEMON_JOB=$!
    DAEMON_PID=
    read -r -t "$DEADLINE_S" DAEMON_PID < "$fifo" || true
    rm -f "$fifo"
    [ -n "$DAEMON_PID" ] || return 1
    RUNNING+=("$DAEMON_PID")
}

# fails_to_start [OPTION...]: start one that is expected to end before it
# serves, beside a running one or not; returns its exit code
fails_to_start() {
    local DAEMON_PID DAEMON_JOB

    ! start_daemon "$@" || return 99
    wait_daemon
}

# wait_daemon: return when it has ended, with its exit code
wait_daemon() {
    wait "$DAEMON_JOB"
}

# stop_daemon: end it by SIGTERM; its exit code must be 0
stop_daemon() {
    kill -TERM "$DAEMON_PID"
    wait_daemon
}

# kill_daemon: end it by SIGKILL, and return when it is gone
kill_daemon() {
    kill -KILL "$DAEMON_PID"
    wait_daemon || [ $? = 137 ]
}

# wait_for_line COUNT PATTERN FILE: return when so many lines of a log match
wait_for_line() {
    local count

    # Not -q, which is content with the first.
    count=$(timeout "$DEADLINE_S" grep -c -m "$1" -e "$2" \
        <(tail --pid="$DAEMON_PID" -n +1 -F "$3" 2> /dev/null 3>&-))
    [ "$count" = "$1" ]
}

# pid_ends PID: return when a process that is not our child has ended
pid_ends() {
    timeout "$DEADLINE_S" python3 -c '
import os, select, sys
try:
    select.select([os.pidfd_open(int(sys.argv[1]))], [], [])
except ProcessLookupError:
    pass
' "$1"
}
