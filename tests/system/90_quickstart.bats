#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# scripts/quickstart does what it says, again and again, and nothing else.

load helpers

# Leave nothing running, whatever failed.
teardown() {
    "$ROOT/scripts/quickstart" stop "$DIR/quick" > /dev/null 2>&1 || true
}

# It would install packages and build; here it only has to find both done.
needs_all_built() {
    local lacking

    # shellcheck source=scripts/packages.sh
    . "$ROOT/scripts/packages.sh"
    lacking=$(packages_missing "${packages_build[@]}" "${packages_try[@]}")
    [ -z "$lacking" ] || skip "not installed: ${lacking//$'\n'/ }"
}

@test "quickstart copies an image in and out, leaves a server, and can be repeated" {
    needs_all_built
    "$ROOT/scripts/quickstart" "$DIR/quick" > "$DIR/output" 2>&1 3>&-
    grep "^Identical: " "$DIR/output"
    pid=$(cat "$DIR/quick/s3blkdevd.pid")
    uri="nbd+unix:///disk?socket=$DIR/quick/nbd.sock"
    grep -F "nbdinfo \"$uri\"" "$DIR/output"
    [ "$(nbdinfo --size "$uri")" = $((1 << 30)) ]

    "$ROOT/scripts/quickstart" "$DIR/quick" > "$DIR/output" 2>&1 3>&-
    grep "^Identical: " "$DIR/output"
    pid_ends "$pid"
    [ "$(cat "$DIR/quick/s3blkdevd.pid")" != "$pid" ]

    "$ROOT/scripts/quickstart" stop "$DIR/quick"
    [ ! -e "$DIR/quick/s3blkdevd.pid" ]
    [ ! -e "$DIR/quick/nbd.sock" ]
    run "$ROOT/scripts/quickstart" stop "$DIR/quick"
    [ "$status" = 1 ]
}

@test "quickstart refuses a directory that is somebody else's" {
    mkdir "$DIR/mine"
    echo precious > "$DIR/mine/file"
    run "$ROOT/scripts/quickstart" "$DIR/mine"
    [ "$status" = 1 ]
    [[ $output == *"not made by quickstart"* ]]
    [ "$(ls -A "$DIR/mine")" = file ]
    [ "$(cat "$DIR/mine/file")" = precious ]
}
