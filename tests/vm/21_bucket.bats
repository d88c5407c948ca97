#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A machine with a bucket on a real S3 server: keys that systemd keeps, a boot
# without the server, and another machine that begins with the last image when
# the first one is lost with all that it had.
# shellcheck disable=SC2154 # what vm.bash and bats set

load vm
load gateway

RADOSGW=$ROOT/tests/support/radosgw
# The network: this host, as 10.0.2.2, by DHCP.
NETWORK=(-netdev "user,id=network"
    -device "virtio-net-pci,netdev=network,romfile=")

setup_file() {
    vm_possible || return 0
    for command in ceph-mon ceph-osd radosgw curl; do
        command -v "$command" > /dev/null ||
            export VM_SKIP="$command is not installed"
    done
    [ -z "${VM_SKIP:-}" ] || return 0
    export SERVER=$BATS_FILE_TMPDIR/server
    "$RADOSGW" start "$SERVER" 1 $$
    "$RADOSGW" bucket "$SERVER" test
    vm_new
    vm_disk plain 1G
    vm_port acknowledged-plain
    gateway_payload
    vm_start "${NETWORK[@]}"
}

teardown_file() {
    vm_end
    [ -z "${SERVER:-}" ] || "$RADOSGW" stop "$SERVER"
}

# setting NAME: what the server has told of itself
setting() {
    sed -n "s/^$1 //p" "$SERVER/settings"
}

# gateway_configured LINE...: all but the keys, for which these lines are
gateway_configured() {
    install_payload
    guest "cat > /run/store << 'CONF'
s3host 10.0.2.2
s3port $(setting http)
s3ssl 0
s3bucket test
$(printf '%s\n' "$@")
CONF"
    guest << 'END'
cat > /etc/systemd/network/slirp.network << 'NETWORK'
[Match]
Name=e*
[Network]
DHCP=ipv4
NETWORK
systemctl enable --now systemd-networkd.service
timeout 100 /lib/systemd/systemd-networkd-wait-online --any
mkfs.ext4 -q -b 4096 /dev/disk/by-id/virtio-plain
mkdir -p /srv/cache /mnt/plain
# However long the server is silent: what has given up is not tried again.
options=_netdev,nofail,x-systemd.requires=nbd@nbd0.service
options+=,x-systemd.after=nbd@nbd0.service
options+=,x-systemd.device-timeout=infinity,x-systemd.mount-timeout=infinity
cat >> /etc/fstab << TAB
/dev/disk/by-id/virtio-plain /srv/cache ext4 defaults 0 2
/dev/nbd0 /mnt/plain ext4 $options 0 0
TAB
systemctl daemon-reload
mount /srv/cache
install -d -m 700 -o s3blkdev -g s3blkdev /srv/cache/plain
install -m 640 -g s3blkdev /run/store $CONF
cat >> $CONF << 'CONF'
listen /run/s3blkdev/nbd.sock
[plain]
cachedir /srv/cache/plain
size 256M
journalsize 64M
cachemem 16M
CONF
echo 'nbd0 /run/s3blkdev/nbd.sock plain unix,bs=4096' > /etc/nbdtab
install -D -m 644 /usr/local/share/s3blkdev/nbd-watch.conf \
    /etc/systemd/system/nbd@nbd0.service.d/s3blkdev.conf
install -D -m 644 /dev/stdin \
    /etc/systemd/system/s3blkdevd.service.d/local.conf << 'UNIT'
[Unit]
RequiresMountsFor=/srv/cache
UNIT
systemctl daemon-reload
END
}

@test "keys that systemd keeps open the bucket, and only it can read them" {
    gateway_configured "s3credentials auto"
    guest "install -D -m 600 /dev/stdin /etc/credstore/s3blkdev.credentials << 'KEYS'
aws_access_key_id = $(setting accesskey)
aws_secret_access_key = $(setting secretkey)
KEYS"
    guest << 'END'
systemctl enable --now s3blkdevd.service
systemctl start nbd@nbd0.service
mkfs.ext4 -q -b 4096 /dev/nbd0
systemctl start mnt-plain.mount
mountpoint -q /mnt/plain
head -c 8M /dev/urandom > /mnt/plain/random
cp -r /etc /mnt/plain
cd /mnt/plain
find . -type f -print0 | sort -z | xargs -0 sha256sum > /root/sums
sync -f /mnt/plain
systemctl start s3blkdev-sync.service
s3blkdev-sync status | grep -E 'image +[1-9]'
END
}

@test "a boot while the server is silent goes on, to the end when it is back" {
    "$RADOSGW" pause "$SERVER"
    vm_reboot "${NETWORK[@]}"
    guest << 'END'
systemctl start s3blkdevd.service
systemctl is-active nbd@nbd0.service || systemctl start nbd@nbd0.service
END
    "$RADOSGW" resume "$SERVER"
    run vm_booted
    [ "$output" = running ]
    guest << 'END'
mountpoint -q /mnt/plain
cd /mnt/plain
sha256sum --quiet -c /root/sums
echo more > more
sync more
systemctl start s3blkdev-sync.service
END
}

@test "another machine begins with the last image of one that is lost" {
    local sums

    guest 'echo late > /mnt/plain/late && sync /mnt/plain/late'
    sums=$(guest 'cat /root/sums')
    vm_power_cut
    rm "$VM/root.img" "$VM/plain.img"
    vm_new
    vm_disk plain 1G
    vm_port acknowledged-plain
    vm_start "${NETWORK[@]}"
    gateway_configured "s3accesskey $(setting accesskey)" \
        "s3secretkey $(setting secretkey)"
    guest << 'END'
s3blkdev-sync takeover plain
systemctl enable --now s3blkdevd.service
systemctl start mnt-plain.mount
mountpoint -q /mnt/plain
cat /mnt/plain/more
[ ! -e /mnt/plain/late ]
END
    guest "cd /mnt/plain && sha256sum --quiet -c << 'SUMS'
$sums
SUMS"
    write_load plain
    goes_on plain
    end_load plain
    guest 'systemctl stop mnt-plain.mount && e2fsck -f -n /dev/nbd0'
    kernel_is_content
}
