#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The README's way from nothing to a disk that is mounted at boot, word by
# word; but the objects are in a directory, and the disk is smaller.
# shellcheck disable=SC2154 # what vm.bash and bats set

load vm
load gateway

setup_file() {
    vm_new
    vm_disk ssd 3G
    gateway_payload
    vm_start
}

teardown_file() {
    vm_end
}

# step NUMBER: the commands of that step there
step() {
    awk -v step="**$1. " '
        /^## / { is_ours = 0 }
        /^\*\*[0-9]\. / { is_ours = index($0, step) == 1 }
        is_ours && /^```$/ { is_code = 0 }
        is_ours && is_code
        is_ours && /^```sh$/ { is_code = 1 }' "$ROOT/README.md"
}

@test "the README's steps lead to a mounted disk" {
    # The first step, from the tree of this test.
    install_payload
    guest << 'END'
mkfs.ext4 -q /dev/disk/by-id/virtio-ssd
mkdir /ssd /srv/objects
chown s3blkdev: /srv/objects
echo '/dev/disk/by-id/virtio-ssd /ssd ext4 defaults 0 2' >> /etc/fstab
mount /ssd
END
    guest "$(step 3 | sed '/^s3[^b]/d; /^s3bucket/d; s|^\[mail\]|s3dir /srv/objects\n&|
        s/^size .*/size 4G/; s/^cachesize .*/cachesize 1G/')"
    guest "$(step 4)"
    guest "$(step 5)"
    guest "$(step 6)"
    guest "mountpoint /mnt/mail; echo content > /mnt/mail/file"
    guest "$(step 7)"
    guest 's3blkdev-attach list | grep nbd0'
}

@test "it is mounted again after the next boot, and is uploaded" {
    vm_reboot
    run vm_booted
    [ "$output" = running ]
    guest << 'END'
mountpoint /mnt/mail
grep content /mnt/mail/file
systemctl start s3blkdev-sync.service
s3blkdev-sync status
s3blkdev-sync status --json | grep '"image_epoch": [1-9]'
END
}

@test "it grows while it is mounted" {
    guest << 'END'
sed -i 's/^size .*/size 5G/' /usr/local/etc/s3blkdev.conf
systemctl reload s3blkdevd
s3blkdev-attach resize nbd0 && resize2fs /dev/nbd0
[ "$(blockdev --getsize64 /dev/nbd0)" = $((5 << 30)) ]
[ "$(df --output=size -BM /mnt/mail | tr -dc 0-9)" -gt 4500 ]
END
}

@test "it goes back to a snapshot" {
    guest << 'END'
s3blkdev-sync snapshot mail friday --now
echo other > /mnt/mail/file
umount /mnt/mail && systemctl stop nbd@nbd0
s3blkdev-sync -d mail -p /run/s3blkdev/sync.pid 86400
s3blkdev-sync rollback mail friday
systemctl start nbd@nbd0 && mount /mnt/mail
grep content /mnt/mail/file
s3blkdev-sync snapshots mail | grep friday
END
}

@test "it moves to another host, and is taken over from a lost one" {
    guest << 'END'
umount /mnt/mail && systemctl stop nbd@nbd0
systemctl stop s3blkdevd.socket s3blkdevd.service
s3blkdev-sync -d mail -p /run/s3blkdev/move.pid 86400
s3blkdev-sync release mail
# Another host is another directory.
rm -r /ssd/mail
install -d -o s3blkdev -g s3blkdev -m 700 /ssd/mail
systemctl start s3blkdevd
systemctl start nbd@nbd0 && mount /mnt/mail
grep content /mnt/mail/file
umount /mnt/mail && systemctl stop nbd@nbd0
systemctl kill -s KILL s3blkdevd.service
systemctl stop s3blkdevd.socket s3blkdevd.service
rm -r /ssd/mail
install -d -o s3blkdev -g s3blkdev -m 700 /ssd/mail
s3blkdev-sync takeover mail
systemctl start s3blkdevd
systemctl start nbd@nbd0 && mount /mnt/mail
grep content /mnt/mail/file
END
}
