# SPDX-License-Identifier: BSD-2-Clause
#
# hostile - the S3 server that does wrong on command, for one test: "load
# hostile" behind "load helpers".  See tests/support/hostile_s3.mjs.
# shellcheck disable=SC2154 # what helpers.bash sets

eval "hostile_before_$(declare -f teardown)"

HOSTILE_PID=

teardown() {
    hostile_before_teardown
    [ -z "$HOSTILE_PID" ] || stop_hostile
}

# start_hostile [SETTINGS]: start it, with settings in JSON
start_hostile() {
    needs node
    mkdir "$DIR/hostile"
    mkfifo "$DIR/hostile/in" "$DIR/hostile/out"
    node "$ROOT/tests/support/hostile_s3.mjs" "$DIR/hostile" "$@" \
        < "$DIR/hostile/in" > "$DIR/hostile/out" 3>&- &
    HOSTILE_PID=$!
    exec {HOSTILE_IN}> "$DIR/hostile/in" {HOSTILE_OUT}< "$DIR/hostile/out"
    read -r -t "$DEADLINE_S" -u "$HOSTILE_OUT" HOSTILE_STARTED
}

stop_hostile() {
    kill "$HOSTILE_PID" || true
    wait "$HOSTILE_PID" || true
    exec {HOSTILE_IN}>&- {HOSTILE_OUT}<&-
    HOSTILE_PID=
}

# hostile COMMAND: have it carried out; prints the answer, JSON
hostile() {
    local answer

    echo "$1" >&"$HOSTILE_IN"
    read -r -t "$DEADLINE_S" -u "$HOSTILE_OUT" answer
    echo "$answer"
    [[ $answer == '{"ok":true'* ]]
}

# hostile_number NAME: one of its counters
hostile_number() {
    hostile '{"counters":true}' | python3 -c "
import json, sys
print(json.load(sys.stdin).get('$1', 0))"
}

# hostile_settings: lines for a configuration
hostile_settings() {
    echo "s3host 127.0.0.1"
    python3 -c '
import json, sys
told = json.loads(sys.argv[1])
for port in told["https"] or told["http"]:
    print("s3port", port)
print("s3ssl", int(bool(told["https"])))
if told["https"]:
    print("s3ca", told["ca"])' "$HOSTILE_STARTED"
    printf '%s\n' "s3accesskey testkey12345" \
        "s3secretkey testsecret0123456789abcdef" "s3bucket bucket" \
        "s3prefix test/"
}

# write_hostile_config [LINE...]: as write_config, with that server
write_hostile_config() {
    {
        echo "listen $SOCKET"
        hostile_settings
        printf '%s\n' "$@"
    } > "$CONFIG"
    chmod 600 "$CONFIG"
}
