#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The configuration as users meet it: the files that come with the program,
# and how mistakes are told.

load helpers

@test "the example that is installed is accepted as it is" {
    run "$DAEMON" -t -c "$ROOT/s3blkdev.conf.dist"
    [ "$status" = 0 ]
    [[ $output == *"s3blkdev.conf.dist: no mistakes"* ]]
}

@test "the example of the original is accepted as it is" {
    printf '%s\n' "listen /tmp/s3blkdevd.sock" "port 10809" "workers 8" \
        "fetchers 2" "" "s3host " "s3port " "s3ssl 1" "s3accesskey " \
        "s3secretkey " "s3bucket " "s3timeout 10000" "# s3name" \
        "# s3maxreqsperconn 100" "" "# [device1]" "# cachedir /ssd/device1" \
        "# size 200000000000" > "$CONFIG"
    run "$DAEMON" -t -c "$CONFIG"
    [ "$status" = 0 ]
}

@test "-t opens nothing: no socket, no file in the cache directory" {
    write_config
    add_device disk 64M
    run "$DAEMON" -t -c "$CONFIG"
    [ "$output" = "$CONFIG: no mistakes" ]
    [ ! -e "$SOCKET" ]
    [ -z "$(find "$DIR/disk" "$STORE" -mindepth 1)" ]
}

@test "-t warns of directories that are missing, which is no mistake" {
    write_config
    add_device disk 64M
    rmdir "$DIR/disk" "$STORE"
    run "$DAEMON" -t -c "$CONFIG"
    [ "$status" = 0 ]
    [[ $output == *"warning: cachedir $DIR/disk: No such file"* ]]
    [[ $output == *"warning: s3dir $STORE: No such file"* ]]
    [[ ${lines[-1]} == "$CONFIG: no mistakes in it, but not all that it names can be used" ]]
}

@test "every mistake of a file is told at once, with file, line and remedy" {
    write_config "workers 65544" "s3timeout 10s" "wokers 3" "port"
    add_device disk 200X
    add_device disk 1G
    for options in "-t -c" "-c"; do
        # shellcheck disable=SC2086 # these are two words
        run "$DAEMON" $options "$CONFIG"
        [ "$status" = 3 ]
        [ "${lines[0]}" = "$CONFIG:3: workers 65544: not valid; allowed: a number from 1 to 127" ]
        [ "${lines[1]}" = "$CONFIG:4: s3timeout 10s: not valid; allowed: a number from 100 to 3600000" ]
        [ "${lines[2]}" = "$CONFIG:5: wokers: no such setting; did you mean workers?" ]
        [[ ${lines[3]} == "$CONFIG:6: port: has no value; allowed: "* ]]
        [[ ${lines[4]} == "$CONFIG:9: size 200X: not valid; allowed: "* ]]
        [[ ${lines[5]} == "$CONFIG:12: [disk]: this device is in line 7 already" ]]
        [[ $output == *"$CONFIG:13: cachedir $DIR/disk: is, or lies in, or holds cachedir of line 8"* ]]
    done
}

@test "s3blkdev-sync tells the same mistakes, and ends with 3, too" {
    write_config "workers 0"
    run "$PROGRAMS/s3blkdev-sync" -c "$CONFIG" status
    [ "$status" = 3 ]
    [[ $output == "$CONFIG:3: workers 0: not valid; "* ]]
}

@test "a file that is not there is told, and ends with 3" {
    run "$DAEMON" -c "$DIR/missing.conf"
    [ "$status" = 3 ]
    [ "$output" = "$DIR/missing.conf: cannot be read: No such file or directory" ]
}

@test "a secret key that others can read is refused, with the remedy" {
    write_config "s3secretkey sesame"
    chmod 644 "$CONFIG"
    run "$DAEMON" -t -c "$CONFIG"
    [ "$status" = 3 ]
    [[ $output == *"run: chmod o= $CONFIG" ]]
    [[ $output != *sesame* ]]
    chmod o= "$CONFIG"
    "$DAEMON" -t -c "$CONFIG"
}

@test "size 200G is 200 GiB" {
    needs nbdinfo
    write_config
    add_device disk 200G
    start_daemon
    [ "$(nbdinfo --size "$(uri disk)")" = $((200 << 30)) ]
    stop_daemon
}

@test "description and readonly reach the client" {
    needs nbdinfo
    write_config
    add_device disk 64M "description Grüße vom Server" "readonly 0"
    add_device locked 64M
    start_daemon
    nbdinfo --list "$(uri)" | grep "description: Grüße vom Server"
    run nbdinfo --is readonly "$(uri disk)"
    [ "$status" = 2 ]
    stop_daemon
    echo "readonly 1" >> "$CONFIG"
    start_daemon
    nbdinfo --is readonly "$(uri locked)"
    run nbdinfo --is readonly "$(uri disk)"
    [ "$status" = 2 ]
    stop_daemon
}
