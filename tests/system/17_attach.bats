#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# s3blkdev-attach where the kernel has no NBD driver: what it says then, and
# of itself.  What it does with one is told in tests/vm.

bats_require_minimum_version 1.5.0
load helpers

ATTACH=$PROGRAMS/s3blkdev-attach

# Nothing is attached here, and no store is needed.
setup_file() { :; }
teardown_file() { :; }

@test "-h shows all that the manual explains, and -V the version" {
    local option

    run -0 --separate-stderr "$ATTACH" -h
    [ -z "$stderr" ]
    [[ $output == "usage: s3blkdev-attach attach"*--watch*--dead-timeout* ]]
    while read -r option; do
        grep -q -E "Fl -${option#--}( |$)" "$ROOT/docs/s3blkdev-attach.8"
    done < <(grep -o -E -- '--[a-z-]+' <<< "$output")
    run -0 "$ATTACH" -V
    [[ $output == "s3blkdev-attach "* ]]
}

@test "wrong arguments end with 2, what is wrong, and the usage" {
    local arguments

    for arguments in "" "mount nbd0" "attach" "attach sda" "detach nbd0 nbd1" \
        "attach nbd0 export" "list --all" "detach --watch nbd0" "--nonsense"; do
        # shellcheck disable=SC2086 # they are words
        run -2 --separate-stderr "$ATTACH" $arguments
        [ -z "$output" ]
        [[ $stderr == "s3blkdev-attach: "*usage:* ]]
    done
}

@test "without the driver each command ends with 1, and tells how to load it" {
    local arguments

    [ ! -e /sys/module/nbd ] || skip "the driver is loaded"
    for arguments in list "attach nbd0 disk /nowhere/socket" "detach nbd0" \
        "attach --watch nbd0" "resize nbd0" "reconnect --all"; do
        # shellcheck disable=SC2086 # they are words
        run -1 --separate-stderr "$ATTACH" $arguments
        [ -z "$output" ]
        [[ $stderr == *"modprobe nbd"* ]]
    done
}
