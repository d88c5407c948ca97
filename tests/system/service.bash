# SPDX-License-Identifier: BSD-2-Clause
#
# service - the daemon as a service that hands its clients over, under
# tests/support/service: "load service" behind "load helpers".
# shellcheck disable=SC2154 # what helpers.bash sets

eval "service_before_$(declare -f teardown)"

SERVICE_JOB=
CLIENT_JOB=

teardown() {
    [ -z "$CLIENT_JOB" ] || kill "$CLIENT_JOB" || true
    if [ -n "$SERVICE_JOB" ]; then
        kill -TERM "$SERVICE_JOB" || true
        wait "$SERVICE_JOB" || true
    fi
    service_before_teardown
    if [ -s "$DIR/service/events" ]; then
        echo "what happened:"
        tail -n 50 "$DIR/service/events"
    fi
}

# start_service [OPTION...]: start it, with options of the stand-in, and
# return when it is ready
start_service() {
    EVENTS=$DIR/service/events
    "$ROOT/tests/support/service" --listen "$SOCKET" "$@" "$DIR/service" \
        "$DAEMON" -c "$CONFIG" --hand-over >> "$DAEMON_LOG" 2>&1 3>&- &
    SERVICE_JOB=$!
    until [ -e "$EVENTS" ]; do
        kill -0 "$SERVICE_JOB"
        sleep 0.05
    done
    wait_event 1 'ready'
    note_daemon
}

# note_daemon: sets DAEMON_PID to the one that is ready
note_daemon() {
    DAEMON_PID=$(sed -n 's/.* ready //p' "$EVENTS" | tail -n 1)
    RUNNING+=("$DAEMON_PID")
}

# service COMMAND...: have it carried out
service() {
    echo "$*" | timeout "$DEADLINE_S" tee "$DIR/service/control" > /dev/null
}

# wait_event COUNT PATTERN: return when so many events have been such
wait_event() {
    [ "$(timeout "$DEADLINE_S" grep -m "$1" -e " $2" \
        <(tail --pid="$SERVICE_JOB" -n +1 -F "$EVENTS" 2> /dev/null 3>&-) |
        wc -l)" = "$1" ]
}

# count_events PATTERN: how many there were until now
count_events() {
    grep -c -e " $1" "$EVENTS" || true
}

# restart_service: a planned restart; returns when the next one is ready
restart_service() {
    local ready

    ready=$(count_events ready)
    service restart
    wait_event $((ready + 1)) ready
    note_daemon
    echo "# not ready for $(last_pause) s" >&3
}

# last_pause: seconds from the end of one to the readiness of the next
last_pause() {
    awk '/ notified STOPPING=1$/ { begin = $1 }
         / ready / { if (begin) pause = $1 - begin }
         END { printf "%.2f", pause }' "$EVENTS"
}

# stop_service: end it; its exit code, and that of the daemon, must be 0
stop_service() {
    local job=$SERVICE_JOB

    service stop
    SERVICE_JOB=
    wait "$job"
}

# status_number DEVICE KEY: that number of the device, by the status socket
status_number() {
    "$PYTHON" -c '
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"status\n")
answer = s.makefile("rb")
size = int(answer.readline().split(b"payload=")[1])
for device in json.loads(answer.read(size))["devices"]:
    if device["device"] == sys.argv[2]:
        print(device.get(sys.argv[3], 0))' "$DIR/status.sock" "$@"
}

# until_number DEVICE KEY NUMBER: return when it is at least so much
until_number() {
    local end=$((SECONDS + DEADLINE_S))

    until [ "$(status_number "$1" "$2")" -ge "$3" ]; do
        [ "$SECONDS" -lt "$end" ]
        sleep 0.1
    done
}

# start_client NAME [CONNECTIONS]: keep the device of that name busy by
# restart_client.py, which sees whether all is as it must be
start_client() {
    "$PYTHON" -c "import nbd" 2> /dev/null ||
        skip "python3-libnbd is not installed"
    mkfifo "$DIR/client.in" "$DIR/client.out"
    "$PYTHON" "$BATS_TEST_DIRNAME/restart_client.py" "$(uri "$1")" "${2:-4}" 1 \
        < "$DIR/client.in" > "$DIR/client.out" 3>&- &
    CLIENT_JOB=$!
    exec {CLIENT_IN}> "$DIR/client.in" {CLIENT_OUT}< "$DIR/client.out"
    client_says connected
}

# client COMMAND...: have it carried out, and wait for the answer
client() {
    echo "$*" >&"$CLIENT_IN"
    client_says "$1"
}

# client_says WORD: its next line begins so; sets SAID to the rest
client_says() {
    local word

    read -r -t "$DEADLINE_S" -u "$CLIENT_OUT" word SAID
    [ "$word" = "$1" ]
}

# end_client: all was as it had to be
end_client() {
    local job=$CLIENT_JOB

    echo end >&"$CLIENT_IN"
    client_says longest
    echo "# the longest request took $SAID s" >&3
    CLIENT_JOB=
    wait "$job"
    exec {CLIENT_IN}>&- {CLIENT_OUT}<&-
}
