# SPDX-License-Identifier: BSD-2-Clause
#
# gateway - a machine on which s3blkdev is installed and used: "load gateway"
# behind "load vm".
#
# It has two devices, each with a file system, mounted at boot: "plain", with
# the file system and the number of connections that VM_KIND says (ext4-1, or
# xfs-4), attached by s3blkdev-attach; and "external", ext4 with its journal on
# another disk, attached by nbd-client.  Each cache directory is on a disk of
# its own.
# shellcheck disable=SC2154 # what vm.bash and bats set

VM_KIND=${VM_KIND:-ext4-1}
# What commands find in the guest.
# shellcheck disable=SC2034 # for vm.bash
GUEST_PRELUDE="CONF=/usr/local/etc/s3blkdev.conf
FILESYSTEM=${VM_KIND%-*} CONNECTIONS=${VM_KIND#*-}"

# gateway_new: the machine, switched on, with all of it in its payload
gateway_new() {
    vm_new
    # One each: what one device flushes must not save the other.
    vm_disk plain 1G
    vm_disk external 1G
    vm_disk journal 64M
    vm_port acknowledged-plain
    vm_port acknowledged-external
    gateway_payload
    vm_start
}

# add_program FILE: for the guest, with those libraries that it has not
add_program() {
    local file

    install -D "$1" "$VM/stage$1"
    ldd "$1" | sed -n -E 's/.*=> ([^ ]*lib(inih|urcu)[^ ]*) .*/\1/p' |
        while read -r file; do
            install -D "$file" "$VM/stage/usr/local/lib/${file##*/}"
        done
}

# gateway_payload: what "make install" installs, and what the tests need
gateway_payload() {
    mkdir "$VM/stage"
    make -s -C "$ROOT" BUILD="$BUILD" DESTDIR="$VM/stage" install
    install -D "$BUILD/release/tests/vm/fsync_load" \
        "$VM/stage/usr/local/bin/fsync_load"
    if [ "${VM_KIND%-*}" = xfs ]; then
        add_program "$(command -v mkfs.xfs)"
        add_program "$(command -v xfs_repair)"
    fi
    tar -C "$VM/stage" --owner=0 --group=0 -cf "$VM/tar" .
    vm_payload "$VM/tar"
    rm -r "$VM/tar" "$VM/stage"
}

# install_payload: what "make install" does there
install_payload() {
    guest 'tar -x -C / --no-overwrite-dir -f /dev/disk/by-id/virtio-payload
        ldconfig
        systemd-sysusers
        systemd-tmpfiles --create
        systemctl daemon-reload'
}

# write_load NAME: begin to write files to /mnt/NAME/load, which is new
write_load() {
    : > "$VM/acknowledged-$1"
    guest "mountpoint -q /mnt/$1
        rm -rf /mnt/$1/load
        mkdir /mnt/$1/load
        systemd-run --quiet --unit=load-$1 -p Type=exec \
            -p StandardOutput=truncate:/run/load-$1 \
            -p StandardError=append:/run/load-$1 \
            -p TimeoutStopSec=infinity fsync_load write /mnt/$1/load \
            /dev/virtio-ports/acknowledged-$1"
}

acknowledged() {
    wc -l < "$VM/acknowledged-$1"
}

# goes_on NAME [COUNT]: return when so many more files were acknowledged
goes_on() {
    local goal waited=0

    goal=$(($(acknowledged "$1") + ${2:-20}))
    until [ "$(acknowledged "$1")" -ge "$goal" ]; do
        vm_runs
        guest "systemctl is-active --quiet load-$1.service ||
            { cat /run/load-$1; exit 1; }"
        waited=$((waited + 1))
        if [ "$waited" -ge 600 ]; then
            echo "/mnt/$1: no file is synced any more"
            return 1
        fi
    done
}

# end_load NAME: end it; it must not have failed, and tells the longest calls
end_load() {
    guest "systemctl stop load-$1.service; cat /run/load-$1" > "$VM/load-$1"
    cat "$VM/load-$1"
    grep -q ' files written, longest write ' "$VM/load-$1"
    verify_load "$1"
}

# verify_load NAME: all that was acknowledged is there
verify_load() {
    guest "mountpoint -q /mnt/$1 && cat > /run/acknowledged << 'END' &&
$(cat "$VM/acknowledged-$1")
END
        fsync_load verify /mnt/$1/load /run/acknowledged"
}

# report TEXT: above the result of the test, also if it passes
report() {
    echo "# $1" >&3
}

# kernel_lines: what the kernel has said of NBD and file systems, but for
# requests that only took long
kernel_lines() {
    guest 'journalctl -k -b -o cat --no-pager' |
        grep -E 'nbd|EXT4-fs|JBD2|XFS|I/O error' |
        grep -v 'Possible stuck request' || :
}

# kernel_is_content: no file system has seen an error since it was booted
kernel_is_content() {
    local bad='I/O error|EXT4-fs (error|warning)|JBD2.*(error|fail|abort)'

    bad+='|XFS.*(error|corrupt|shut)'
    ! kernel_lines | grep -iE "$bad"
}
