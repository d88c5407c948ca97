#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The Debian package on a machine: installed, upgraded below a disk that is
# mounted, removed and purged.
# shellcheck disable=SC2154 # what vm.bash and bats set
# shellcheck disable=SC2016 # for the guest

load vm
load gateway

setup_file() {
    vm_new
    package_payload
    vm_port acknowledged-disk
    vm_start
    guest 'mkdir /root/payload
        tar -x -C /root/payload -f /dev/disk/by-id/virtio-payload
        cp /root/payload/fsync_load /usr/local/bin/'
}

teardown_file() {
    vm_end
}

# package_payload: the package, and one like it of a later version
package_payload() {
    local deb

    mkdir "$VM/stage"
    env -u MAKEFLAGS -u MAKELEVEL make -s -C "$ROOT" BUILD="$VM/build" deb
    deb=$(echo "$VM"/build/deb/s3blkdev_*.deb)
    cp "$deb" "$VM/stage/first.deb"
    dpkg-deb -R "$deb" "$VM/later"
    sed -i 's/^Version: .*/&+later/' "$VM/later/DEBIAN/control"
    dpkg-deb -Zgzip -b "$VM/later" "$VM/stage/later.deb"
    cp "$BUILD/release/tests/vm/fsync_load" "$VM/stage/"
    tar -C "$VM/stage" --owner=0 --group=0 -cf "$VM/tar" .
    vm_payload "$VM/tar"
}

@test "installed without a configuration, nothing fails and nothing listens" {
    guest 'dpkg -i /root/payload/first.deb 2>&1
        systemctl is-enabled s3blkdevd.socket s3blkdevd.service \
            s3blkdev-evict.timer s3blkdev-sync.timer
        systemctl is-active s3blkdev-evict.timer s3blkdev-sync.timer
        not systemctl is-active s3blkdevd.socket s3blkdevd.service
        not systemctl is-enabled s3blkdev-gui.service
        systemctl start s3blkdev-evict.service
        [ -z "$(systemctl --failed --no-legend)" ]
        [ "$(stat -c "%U %G %a" /var/lib/s3blkdev)" = "s3blkdev s3blkdev 750" ]
        [ "$(stat -c "%U %G %a" /run/s3blkdev/status)" = \
            "s3blkdev s3blkdev-gui 2750" ]
        [ ! -e /etc/s3blkdev.conf ]'
}

@test "with a configuration it runs, as a user that can write to its own only" {
    guest 'install -d -o s3blkdev -g s3blkdev -m 700 /var/lib/s3blkdev/disk \
            /var/lib/s3blkdev/store
        cat > /etc/s3blkdev.conf << END
listen /run/s3blkdev/nbd.sock
status /run/s3blkdev/status/socket
s3dir /var/lib/s3blkdev/store
[disk]
cachedir /var/lib/s3blkdev/disk
size 128M
journalsize 64M
cachemem 16M
END
        chown root:s3blkdev /etc/s3blkdev.conf
        chmod 640 /etc/s3blkdev.conf
        systemctl start s3blkdevd.service
        systemctl is-active s3blkdevd.socket s3blkdevd.service
        pid=$(systemctl show -P MainPID s3blkdevd.service)
        [ "$(stat -c %U "/proc/$pid")" = s3blkdev ]
        grep -q "^CapEff:[[:space:]]*0*$" "/proc/$pid/status"
        grep -q "^NoNewPrivs:[[:space:]]*1$" "/proc/$pid/status"
        grep -q "^Max open files *65536 *65536" "/proc/$pid/limits"
        [ "$(stat -c "%U %G %a" /run/s3blkdev/nbd.sock)" = \
            "s3blkdev s3blkdev 660" ]
        [ "$(stat -c "%U %G %a" /run/s3blkdev/status/socket)" = \
            "s3blkdev s3blkdev-gui 660" ]
        for unit in s3blkdev-evict s3blkdev-sync; do
            systemctl start "$unit.service"
            [ "$(systemctl show -P Result "$unit.service")" = success ]
        done
        [ -n "$(ls /var/lib/s3blkdev/store/disk/epoch)" ]
        s3blkdev-sync status
        not journalctl -b -o cat -u "s3blkdev*" -p warning --grep .'
}

@test "the page's user can ask for the status, and neither use nor read more" {
    guest 'ask() {
            setpriv --reuid s3blkdev-gui --regid s3blkdev-gui --clear-groups \
                "$@" 2>&1
        }
        ask test -w /run/s3blkdev/status/socket
        not ask test -w /run/s3blkdev/nbd.sock
        not ask cat /etc/s3blkdev.conf
        not ask ls /var/lib/s3blkdev'
}

@test "a credential is handed over if it is there, and to nobody else" {
    guest 'of=/run/credentials/s3blkdevd.service/s3blkdev.credentials
        [ ! -e "$of" ]
        install -D -m 600 /dev/null /etc/credstore/s3blkdev.credentials
        echo "aws_access_key_id = A" > /etc/credstore/s3blkdev.credentials
        systemctl restart s3blkdevd.service
        setpriv --reuid s3blkdev --regid s3blkdev --clear-groups cat "$of" |
            grep AWS -i
        [ "$(stat -c %u "$of")" = 0 ] ||
            [ "$(stat -c %U "$of")" = s3blkdev ]
        [ "$(($(stat -c 0%a "$of") & 7))" = 0 ]
        not setpriv --reuid s3blkdev-gui --regid s3blkdev-gui --clear-groups \
            cat "$of" 2>&1
        rm /etc/credstore/s3blkdev.credentials
        systemctl restart s3blkdevd.service
        [ ! -e "$of" ]'
}

@test "an upgrade below a mounted disk is a pause" {
    local before

    guest 'echo "nbd0 /run/s3blkdev/nbd.sock disk unix,bs=4096" > /etc/nbdtab
        install -D -m 644 /usr/share/s3blkdev/nbd-client.conf \
            /etc/systemd/system/nbd@nbd0.service.d/s3blkdev.conf
        systemctl daemon-reload
        systemctl start nbd@nbd0.service
        mkfs.ext4 -q -b 4096 /dev/nbd0
        mkdir -p /mnt/disk
        mount /dev/nbd0 /mnt/disk'
    write_load disk
    goes_on disk
    before=$(kernel_lines)
    guest 'systemctl show -P MainPID s3blkdevd.service > /root/pid
        dpkg -i /root/payload/later.deb 2>&1
        [ "$(systemctl show -P MainPID s3blkdevd.service)" != \
            "$(cat /root/pid)" ]
        systemctl is-active s3blkdevd.socket s3blkdevd.service'
    goes_on disk
    end_load disk
    [ "$(kernel_lines)" = "$before" ]
    guest 'umount /mnt/disk
        systemctl stop nbd@nbd0.service'
}

@test "purged, it leaves the data and says where, and nothing else" {
    run guest 'dpkg --purge s3blkdev 2>&1'
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == *"left as they are"*"/etc/s3blkdev.conf"* ]]
    [[ $output == *"/var/lib/s3blkdev/disk"* ]]
    guest '[ -s /var/lib/s3blkdev/disk/superblock ]
        [ -s /etc/s3blkdev.conf ]
        [ -z "$(systemctl list-unit-files --no-legend "s3blkdev*")" ]
        [ -z "$(systemctl --failed --no-legend)" ]
        [ ! -e /run/s3blkdev/nbd.sock ]
        [ -z "$(stat -c %U /proc/[0-9]* 2> /dev/null | grep -x s3blkdev)" ]'
}
