# SPDX-License-Identifier: BSD-2-Clause
#
# filesystem - the device "disk" as a loop device, to be mounted on $DIR/mnt:
# "load filesystem" behind "load helpers".
#
# Nothing is done to a mount point before it was seen to be one, of the loop
# device that is ours: else it would be done to the host's own disk.
# shellcheck disable=SC2154 # what helpers.bash sets

eval "helpers_$(declare -f teardown)"

LOOP=
FUSE_PID=

teardown() {
    is_mounted && umount "$DIR/mnt"
    detach
    helpers_teardown
}

# Whether our loop device is what is mounted on $DIR/mnt.
is_mounted() {
    [ -n "$LOOP" ] && mountpoint -q "$DIR/mnt" &&
        [ "$(findmnt -no SOURCE "$DIR/mnt")" = "$LOOP" ]
}

# needs_loop: skip the test, aloud, where there is no FUSE or no loop device
needs_loop() {
    needs nbdfuse losetup fusermount3 findmnt fstrim
    [ "$(id -u)" = 0 ] || skip "only root can mount"
    [ -w /dev/fuse ] || skip "there is no /dev/fuse"
    losetup -f > /dev/null 2>&1 || skip "there is no loop device"
}

# attach: make $LOOP of the device
attach() {
    local pid_file=$DIR/fuse.pid

    mkdir -p "$DIR/fuse" "$DIR/mnt"
    rm -f "$pid_file"
    # nbdfuse writes its number when it is ready: that is what we wait for.
    mkfifo "$pid_file"
    nbdfuse -C 4 -P "$pid_file" "$DIR/fuse/nbd" "$(uri disk)" 3>&- &
    FUSE_PID=$!
    read -r -t "$DEADLINE_S" _ < "$pid_file" || [ -e "$DIR/fuse/nbd" ]
    LOOP=$(losetup -f --show --sector-size 4096 --direct-io=on "$DIR/fuse/nbd")
}

# detach: undo attach
detach() {
    if [ -n "$LOOP" ]; then
        losetup -d "$LOOP" || true
    fi
    if [ -n "$FUSE_PID" ]; then
        fusermount3 -u "$DIR/fuse" || true
        wait "$FUSE_PID" || true
    fi
    LOOP=
    FUSE_PID=
}

mount_loop() {
    mount "$LOOP" "$DIR/mnt"
    is_mounted
}

unmount() {
    is_mounted
    umount "$DIR/mnt"
}
