#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The scripts init.sh, start.sh and stop.sh, on a loop device: what attaches
# one here has the name and the arguments of s3blkdev-attach.  With the real
# one, and nbd-client, they run in tests/vm.

bats_require_minimum_version 1.5.0
load helpers
load filesystem

JOURNAL=

eval "fs_$(declare -f setup)"
eval "fs_$(declare -f teardown)"

setup() {
    fs_setup
    needs_loop
    needs mkfs.ext4 wipefs dumpe2fs
    write_config
    add_device disk 256M "writethrough 1"
    start_daemon
    attach
    mkdir "$DIR/bin"
    truncate -s 64M "$DIR/journal"
    JOURNAL=$(losetup -f --show "$DIR/journal")
    cat > "$DIR/bin/s3blkdev-attach" << EOF_
#!/bin/sh
echo "\$@" >> "$DIR/said"
case \$1 in
attach) [ ! -e "$DIR/attached" ] && touch "$DIR/attached" ;;
detach) rm "$DIR/attached" ;;
esac
EOF_
    chmod 755 "$DIR/bin/s3blkdev-attach"
    PATH=$DIR/bin:$PATH
    settings
}

teardown() {
    fs_teardown
    [ -z "$JOURNAL" ] || losetup -d "$JOURNAL"
}

# settings [LINE...]: those of the test
settings() {
    {
        echo ". $ROOT/scripts/settings.sh"
        printf '%s\n' "SOCKET=$SOCKET" EXPORT=disk "DEVICE=$LOOP" \
            "MOUNT_POINT=$DIR/mnt" "CONFIG=$CONFIG" "$@"
    } > "$DIR/settings"
}

# on NAME: that script
on() {
    "$ROOT/scripts/$1.sh" "$DIR/settings"
}

# end: undo what setup did
end() {
    detach
    stop_daemon
}

@test "a file system is made, mounted, and unmounted" {
    on init
    dumpe2fs -h "$LOOP" 2> /dev/null > "$DIR/super"
    grep -q '^Block size: *4096$' "$DIR/super"
    grep -q '^RAID stride: *2048$' "$DIR/super"
    grep -q '^RAID stripe width: *2048$' "$DIR/super"
    run on start
    [ "$status" = 0 ]
    [[ $output != *WARNING* ]]
    is_mounted
    findmnt -no OPTIONS "$DIR/mnt" | grep -q stripe=2048
    echo data > "$DIR/mnt/file"
    on stop
    run ! mountpoint -q "$DIR/mnt"
    on start
    [ "$(cat "$DIR/mnt/file")" = data ]
    on stop
    diff "$DIR/said" - << SAID
attach $LOOP disk $SOCKET
detach $LOOP
attach $LOOP disk $SOCKET
detach $LOOP
attach $LOOP disk $SOCKET
detach $LOOP
SAID
    end
}

@test "with its journal on another disk" {
    settings "JOURNAL_DEVICE=$JOURNAL"
    on init
    dumpe2fs -h "$LOOP" 2> /dev/null | grep -q '^Journal UUID: '
    on start
    echo data > "$DIR/mnt/file"
    on stop
    # Its name may be another one after a reboot.
    losetup -d "$JOURNAL"
    JOURNAL=$(losetup -f --show "$DIR/journal")
    on start
    [ "$(cat "$DIR/mnt/file")" = data ]
    on stop
    end
}

@test "a journal on another disk without writethrough is warned of" {
    settings "JOURNAL_DEVICE=$JOURNAL"
    run on init
    [ "$status" = 0 ]
    [[ $output != *WARNING* ]]
    sed -i 's/^writethrough .*/writethrough 0/' "$CONFIG"
    run on start
    [ "$status" = 0 ]
    [[ $output == *"WARNING: the file system's journal is on $JOURNAL"* ]]
    on stop
    # That of another device does not count.
    printf '%s\n' "[other]" "writethrough 1" >> "$CONFIG"
    run on start
    [ "$status" = 0 ]
    [[ $output == *WARNING* ]]
    on stop
    end
}

@test "what has anything on it is refused, and stays as it is" {
    settings "JOURNAL_DEVICE=$JOURNAL"
    mkfs.ext4 -q "$JOURNAL"
    sha256sum "$DIR/journal" > "$DIR/sum"
    run on init
    [ "$status" = 1 ]
    [[ $output == *"$JOURNAL has something on it: ext4"* ]]
    sha256sum -c "$DIR/sum"
    [ ! -e "$DIR/said" ]
    wipefs -q -a "$JOURNAL"
    on init
    sha256sum "$DIR/journal" > "$DIR/sum"
    run on init
    [ "$status" = 1 ]
    [[ $output == *"$JOURNAL has something on it: "* ]]
    settings
    run on init
    [ "$status" = 1 ]
    [[ $output == *"$LOOP has something on it: ext4"* ]]
    [ ! -e "$DIR/attached" ]
    sha256sum -c "$DIR/sum"
    end
}

@test "what is mounted is neither mounted over nor detached" {
    on init
    on start
    run on start
    [ "$status" = 1 ]
    [[ $output == *"something is mounted on $DIR/mnt already"* ]]
    mkdir "$DIR/elsewhere"
    mount --bind "$DIR/mnt" "$DIR/elsewhere"
    run on stop
    umount "$DIR/elsewhere"
    [ "$status" = 1 ]
    [[ $output == *"$LOOP is mounted on $DIR/elsewhere"* ]]
    [ -e "$DIR/attached" ]
    on stop
    [ ! -e "$DIR/attached" ]
    end
}

@test "a file system that cannot be mounted is detached again" {
    run on start
    [ "$status" = 1 ]
    [[ $output == *"$LOOP has no file system; init.sh makes one"* ]]
    [ ! -e "$DIR/attached" ]
    on init
    settings "MOUNT_OPTIONS=journal_async_commit"
    run on start
    [ "$status" != 0 ]
    [ ! -e "$DIR/attached" ]
    settings "MOUNT_OPTIONS=data=writeback,journal_async_commit"
    on start
    on stop
    settings ATTACH_BY=nothing
    run on start
    [ "$status" = 1 ]
    [[ $output == *"ATTACH_BY=nothing"* ]]
    end
}

# stand_in NAME LINE...: a program of that name, in front of the real one
stand_in() {
    printf '%s\n' '#!/bin/sh' "${@:2}" > "$DIR/bin/$1"
    chmod 755 "$DIR/bin/$1"
}

@test "what is ended in the middle is detached again" {
    # shellcheck disable=SC2016 # for the other shell
    stand_in mkfs.ext4 'kill -s "$(cat "$DIR/signal")" $PPID'
    export DIR
    for signal in INT TERM HUP; do
        echo $signal > "$DIR/signal"
        run on init
        [ "$status" -gt 128 ]
        [ ! -e "$DIR/attached" ]
    done
    rm "$DIR/bin/mkfs.ext4"
    on init
    # shellcheck disable=SC2016 # for the other shell
    stand_in e2fsck 'kill -s "$(cat "$DIR/signal")" $PPID'
    for signal in INT TERM HUP; do
        echo $signal > "$DIR/signal"
        run on start
        [ "$status" -gt 128 ]
        [ ! -e "$DIR/attached" ]
    done
    rm "$DIR/bin/e2fsck"
    run ! mountpoint -q "$DIR/mnt"
    end
}

@test "a disk that cannot be looked at is not taken for an empty one" {
    stand_in wipefs "exit 1"
    run on init
    rm "$DIR/bin/wipefs"
    [ "$status" = 1 ]
    [[ $output == *"cannot tell whether $LOOP has something on it"* ]]
    [ ! -e "$DIR/attached" ]
    [ -z "$(wipefs --no-act --noheadings "$LOOP")" ]
    # Nor is one detached then: somebody may use it.
    stand_in mountpoint "exit 1"
    run on init
    rm "$DIR/bin/mountpoint"
    [ "$status" = 1 ]
    [[ $output == *"cannot tell whether $LOOP is mounted"* ]]
    [ -e "$DIR/attached" ]
    [ -z "$(wipefs --no-act --noheadings "$LOOP")" ]
    on stop
    end
}

@test "what nobody knows, but is not zeros, is refused as well" {
    echo precious | dd of="$LOOP" bs=4096 seek=20 conv=sync status=none
    run on init
    [ "$status" = 1 ]
    [[ $output == *"$LOOP has data"*"blkdiscard $LOOP"* ]]
    [ "$(dd if="$LOOP" bs=4096 skip=20 count=1 status=none | head -1 |
        tr -d '\0')" = precious ]
    [ ! -e "$DIR/attached" ]
    blkdiscard "$LOOP"
    on init
    end
}

@test "without the disk of its journal it is not mounted, and not called new" {
    settings "JOURNAL_DEVICE=$JOURNAL"
    on init
    rm "$DIR/said"
    settings "JOURNAL_DEVICE=$DIR/gone"
    run on start
    [ "$status" = 1 ]
    [[ $output == *"$DIR/gone, which has the file system's journal, is not there"* ]]
    [ ! -e "$DIR/said" ]
    losetup -d "$JOURNAL"
    JOURNAL=
    settings
    run on start
    [ "$status" = 1 ]
    [[ $output == *"could not be repaired without questions"* ]]
    [[ $output != *init.sh* ]]
    [ ! -e "$DIR/attached" ]
    JOURNAL=$(losetup -f --show "$DIR/journal")
    settings "JOURNAL_DEVICE=$JOURNAL"
    on start
    on stop
    end
}
