#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The Debian package on a machine: from dpkg -i to its purge, with an upgrade
# under load.
# shellcheck disable=SC2154 # what vm.bash and bats set

load vm
load gateway

setup_file() {
    vm_possible || return 0
    for command in dpkg-buildpackage dh; do
        command -v "$command" > /dev/null ||
            export VM_SKIP="$command is not installed"
    done
    [ -z "${VM_SKIP:-}" ] || return 0
    vm_new
    vm_disk plain 1G
    vm_port acknowledged-plain
    make -s -C "$ROOT" BUILD="$BUILD" deb > "$VM/deb.log" 2>&1 || {
        tail -n 30 "$VM/deb.log"
        return 1
    }
    mkdir "$VM/stage"
    cp "$BUILD"/deb/s3blkdev_*.deb "$VM/stage/s3blkdev.deb"
    cp "$BUILD/release/tests/vm/fsync_load" "$VM/stage"
    tar -C "$VM/stage" -cf "$VM/tar" .
    vm_payload "$VM/tar"
    vm_start
}

teardown_file() {
    vm_end
}

@test "the package installs, and waits for a configuration" {
    guest << 'END'
cd /root
tar -xf /dev/disk/by-id/virtio-payload
install fsync_load /usr/local/bin
dpkg -i s3blkdev.deb
systemctl is-enabled s3blkdevd.service s3blkdevd.socket s3blkdev-evict.timer \
    s3blkdev-sync.timer
not systemctl is-active s3blkdevd.service
[ -z "$(systemctl --failed --no-legend)" ]
[ "$(stat -c '%U:%G %a' /var/lib/s3blkdev)" = 's3blkdev:s3blkdev 750' ]
END
}

@test "a disk of it is mounted" {
    guest << 'END'
mkfs.ext4 -q -b 4096 /dev/disk/by-id/virtio-plain
mkdir -p /srv/cache /srv/store /mnt/plain
mount /dev/disk/by-id/virtio-plain /srv/cache
install -d -m 700 -o s3blkdev -g s3blkdev /srv/cache/plain /srv/store
cat > /etc/s3blkdev.conf << 'CONF'
listen /run/s3blkdev/nbd.sock
s3dir /srv/store
[plain]
cachedir /srv/cache/plain
size 256M
journalsize 64M
cachemem 16M
CONF
chown root:s3blkdev /etc/s3blkdev.conf
chmod 640 /etc/s3blkdev.conf
echo 'nbd0 /run/s3blkdev/nbd.sock plain unix,bs=4096' > /etc/nbdtab
install -D -m 644 /usr/share/s3blkdev/nbd-watch.conf \
    /etc/systemd/system/nbd@nbd0.service.d/s3blkdev.conf
systemctl daemon-reload
systemctl start s3blkdevd.service nbd@nbd0.service
mkfs.ext4 -q -b 4096 /dev/nbd0
mount /dev/nbd0 /mnt/plain
mountpoint /mnt/plain
END
}

@test "an upgrade under load is a pause" {
    local before

    write_load plain
    goes_on plain
    before=$(kernel_lines)
    guest << 'END'
before=$(systemctl show -P MainPID s3blkdevd.service)
dpkg -i /root/s3blkdev.deb
after=$(systemctl show -P MainPID s3blkdevd.service)
[ "$after" != 0 ] && [ "$after" != "$before" ]
END
    goes_on plain
    end_load plain
    [ "$(kernel_lines)" = "$before" ]
    report "plain: $(cat "$VM/load-plain")"
}

@test "purged, it leaves what is the user's, says so, and nothing else" {
    guest << 'END'
umount /mnt/plain
systemctl stop nbd@nbd0.service
dpkg --purge s3blkdev > /run/purge
cat /run/purge
for path in /etc/s3blkdev.conf /srv/cache/plain /srv/store; do
    grep -F "$path" /run/purge
    [ -e $path ]
done
[ -n "$(ls /srv/cache/plain)" ]
[ -z "$(systemctl list-unit-files --no-legend 's3blkdev*')" ]
not command -v s3blkdevd
systemctl daemon-reload
[ -z "$(systemctl --failed --no-legend)" ]
dpkg -i /root/s3blkdev.deb
systemctl start nbd@nbd0.service
mount /dev/nbd0 /mnt/plain
END
    verify_load plain
}
