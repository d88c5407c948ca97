#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A host is lost while an ext4 is written, uploaded and evicted: what another
# one attaches from the bucket alone is a whole file system, as it was when
# the last image was cut.  HOST_LOSS_MOMENTS says how often (4).

load helpers
load filesystem

SYNC=$PROGRAMS/s3blkdev-sync
MOMENTS=${HOST_LOSS_MOMENTS:-4}
WORKERS=

eval "filesystem_$(declare -f teardown)"
teardown() {
    rm -f "$DIR/go_on"
    # shellcheck disable=SC2086 # several numbers
    [ -z "$WORKERS" ] || wait $WORKERS || true
    # Shown by bats if the test failed.
    if [ -s "$DIR/sync.log" ]; then
        echo "what s3blkdev-sync said:"
        tail -n 20 "$DIR/sync.log"
    fi
    filesystem_teardown
}

# write_files: files, each synced, whose names say what is in them; the log
# has a name when its file is safe on the device
write_files() {
    python3 - "$DIR" << 'EOF'
import hashlib, os, random, sys

base = sys.argv[1]
choose = random.Random(11)
number = 0
while os.path.exists(base + "/go_on"):
    number += 1
    data = choose.randbytes(choose.choice([5000, 70000, 900000]))
    name = f"{number:06d}-{hashlib.sha256(data).hexdigest()}"
    directory = f"{base}/mnt/{number % 7}"
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/{name}", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    with open(base + "/synced", "a") as log:
        log.write(f"{number % 7}/{name}\n")
    if number > 60: # the oldest make room
        for old in os.listdir(directory)[:1]:
            with open(base + "/removed", "a") as log:
                log.write(f"{number % 7}/{old}\n")
            os.unlink(f"{directory}/{old}")
EOF
}

# upload_and_evict: one run after the other, as cron would, but at once
upload_and_evict() {
    while [ -e "$DIR/go_on" ]; do
        timeout 200 "$SYNC" -c "$CONFIG" -p "$DIR/sync.pid" 60 &&
            timeout 200 "$SYNC" -c "$CONFIG" -p "$DIR/sync.pid" 60 40 ||
            return 1
    done
}

images() {
    store keys disk/manifest/ | cut -d / -f 3 | uniq | wc -l
}

# wait_for_images COUNT: return when there are so many
wait_for_images() {
    local deadline=$((SECONDS + DEADLINE_S))

    until [ "$(images)" -ge "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        [ -e "$DIR/go_on" ] || return 1
    done
}

# lose_host NUMBER: copy the bucket, what names others before what is named
lose_host() {
    local part

    other_store "copy$1" < "$CONFIG" > "$DIR/copy$1.conf"
    # What was safe before the copy began, and may be asked for.
    for part in epoch snapshot manifest chunk; do
        store copy "disk/$part/" "$DIR/copy$1.conf"
    done
}

# attach_elsewhere NUMBER: a host that has nothing but that copy
attach_elsewhere() {
    local there=$DIR/there$1

    mkdir -p "$there/cache"
    sed -e "s|$DIR/disk\$|$there/cache|" \
        -e "s|^listen .*|listen $there/nbd.sock|" "$DIR/copy$1.conf" \
        > "$there/s3blkdev.conf"
    chmod 600 "$there/s3blkdev.conf"
    timeout 60 "$SYNC" -c "$there/s3blkdev.conf" takeover disk
    CONFIG=$there/s3blkdev.conf start_daemon
    timeout 200 nbdcopy "nbd+unix:///disk?socket=$there/nbd.sock" "$there/raw"
    stop_daemon
}

# check_filesystem NUMBER: e2fsck finds nothing once the journal is replayed,
# and every file is what its name says
check_filesystem() {
    local raw=$DIR/there$1/raw mnt=$DIR/there$1/mnt

    e2fsck -f -p "$raw" > "$DIR/there$1/replay" ||
        [ $? = 1 ] # the journal was replayed
    e2fsck -f -n "$raw"
    if grep -i 'unexpected\|inconsisten' "$DIR/there$1/replay"; then
        return 1
    fi
    mkdir "$mnt"
    debugfs -R "rdump / $mnt" "$raw" 2> "$DIR/there$1/dump"
    python3 - "$mnt" << 'EOF'
import hashlib, os, sys

count = 0
for path, _, names in os.walk(sys.argv[1]):
    for name in names:
        if len(name) != 71:
            continue
        with open(os.path.join(path, name), "rb") as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() == name[7:]:
            count += 1
        elif data: # it was being written when the image was cut
            print(name, len(data))
            sys.exit(1)
print(count, "files are right")
EOF
}

@test "the image of a lost host is a whole file system, at any moment" {
    local i

    needs_loop
    needs mkfs.ext4 e2fsck debugfs nbdcopy python3
    write_config
    add_device disk 256M "cachesize 24M" "chunksize 1M"
    start_daemon
    attach
    mkfs.ext4 -q -F -b 4096 "$LOOP"
    mount_loop
    touch "$DIR/go_on"
    write_files 3>&- &
    WORKERS=$!
    upload_and_evict > "$DIR/sync.log" 2>&1 3>&- &
    WORKERS="$WORKERS $!"
    for i in $(seq "$MOMENTS"); do
        wait_for_images $((2 * i))
        lose_host "$i"
    done
    rm "$DIR/go_on"
    # shellcheck disable=SC2086 # several numbers
    wait $WORKERS
    WORKERS=
    unmount
    detach
    stop_daemon
    for i in $(seq "$MOMENTS"); do
        attach_elsewhere "$i"
        check_filesystem "$i"
    done
}
