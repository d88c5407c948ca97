#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A machine from "make install" to disks that are mounted at boot: users,
# timers, restarts, crashes and a power cut, under load.
# shellcheck disable=SC2154 # what vm.bash and bats set

load vm
load gateway

setup_file() {
    vm_possible || return 0
    gateway_new
}

teardown_file() {
    vm_end
}

@test "make install brings a user, its directories, and units" {
    install_payload
    guest << 'END'
id -u s3blkdev
[ "$(stat -c '%U:%G %a' /var/lib/s3blkdev)" = 's3blkdev:s3blkdev 750' ]
[ "$(stat -c '%U:%G %a' /run/s3blkdev)" = 's3blkdev:s3blkdev 755' ]
cd /usr/local/lib/systemd/system
# That of the page needs node, which is not installed.
printf '%s\n' s3blkdev* | grep -v gui |
    xargs systemd-analyze verify --man=no --recursive-errors=no
END
}

@test "systemd calls the exposure of each service 2.5 at most" {
    guest << 'END'
cd /usr/local/lib/systemd/system
status=0
for unit in s3blkdev*.service; do
    systemd-analyze security --no-pager --threshold=25 "$unit" > /run/security ||
        status=1
    tail -n 1 /run/security
done
exit $status
END
}

@test "two devices are made, with file systems that are mounted at boot" {
    guest << 'END'
mkdir -p /srv/store /mnt/plain /mnt/external
for device in plain external; do
    mkfs.ext4 -q -b 4096 /dev/disk/by-id/virtio-$device
    mkdir -p /srv/cache/$device
    mount /dev/disk/by-id/virtio-$device /srv/cache/$device
    mkdir /srv/cache/$device/s3blkdev
done
chown s3blkdev: /srv/cache/*/s3blkdev /srv/store
chmod 700 /srv/cache/*/s3blkdev /srv/store
cat > $CONF << 'CONF'
listen /run/s3blkdev/nbd.sock
status /run/s3blkdev/status/socket
s3dir /srv/store
[plain]
cachedir /srv/cache/plain/s3blkdev
size 320M
cachesize 256M
journalsize 64M
cachemem 16M
[external]
cachedir /srv/cache/external/s3blkdev
size 256M
cachesize 256M
journalsize 64M
cachemem 16M
writethrough 1
CONF
chown root:s3blkdev $CONF
chmod 640 $CONF
mkdir /etc/systemd/system/s3blkdevd.service.d
cat > /etc/systemd/system/s3blkdevd.service.d/local.conf << 'UNIT'
[Unit]
RequiresMountsFor=/srv/cache/plain /srv/cache/external
UNIT
cat > /etc/nbdtab << TAB
nbd0 /run/s3blkdev/nbd.sock plain unix,bs=4096,conns=$CONNECTIONS
nbd1 /run/s3blkdev/nbd.sock external unix,bs=4096
TAB
after=_netdev,nofail,x-systemd.requires=nbd@nbdN.service,x-systemd.after=nbd@nbdN.service
cat >> /etc/fstab << TAB
/dev/disk/by-id/virtio-plain /srv/cache/plain ext4 defaults 0 2
/dev/disk/by-id/virtio-external /srv/cache/external ext4 defaults 0 2
/dev/nbd0 /mnt/plain $FILESYSTEM ${after//nbdN/nbd0} 0 0
/dev/nbd1 /mnt/external ext4 ${after//nbdN/nbd1} 0 0
TAB
cd /usr/local/share/s3blkdev
install -D -m 644 nbd-watch.conf \
    /etc/systemd/system/nbd@nbd0.service.d/s3blkdev.conf
install -D -m 644 nbd-client.conf \
    /etc/systemd/system/nbd@nbd1.service.d/s3blkdev.conf
systemctl daemon-reload
systemctl enable --now s3blkdevd.service
END
    guest << 'END'
cd /usr/local/share/s3blkdev
cat > /root/external << 'SETTINGS'
. ./settings.sh
EXPORT=external
DEVICE=/dev/nbd1
JOURNAL_DEVICE=/dev/disk/by-id/virtio-journal
ATTACH_BY=nbd-client
SETTINGS
./init.sh /root/external
systemctl start nbd@nbd0.service
case $FILESYSTEM in
ext4) mkfs.ext4 -q -b 4096 -E stride=2048,stripe_width=2048 /dev/nbd0 ;;
xfs) mkfs.xfs -q /dev/nbd0 ;;
esac
systemctl start mnt-plain.mount mnt-external.mount
mountpoint /mnt/plain
mountpoint /mnt/external
END
}

@test "a reboot in order finds everything, with nobody there" {
    guest << 'END'
for to in plain external; do
    mountpoint -q /mnt/$to
    head -c 8M /dev/urandom > /mnt/$to/random
    cp -r /etc /usr/local/share /mnt/$to
done
cd /mnt
find . -type f -print0 | sort -z | xargs -0 sha256sum > /root/sums
END
    vm_reboot
    run vm_booted
    [ "$output" = running ]
    guest << 'END'
mountpoint /mnt/plain
mountpoint /mnt/external
cd /mnt
sha256sum --quiet -c /root/sums
[ "$(find . -type f | wc -l)" = "$(wc -l < /root/sums)" ]
END
    # Unmounted, detached, and closed, one after the other: nothing was left.
    run guest 'journalctl -b -o cat --no-pager'
    [[ $output != *"was not closed in order"* ]]
    [[ $output != *"recovery complete"* ]]
    kernel_is_content
}

@test "others can neither read nor use what belongs to the devices" {
    guest << 'END'
as() {
    setpriv --reuid="$1" --regid="$1" --clear-groups "${@:2}"
}
useradd --system --user-group somebody
mountpoint -q /mnt/plain
as somebody true
not as somebody cat $CONF
not as somebody ls /srv/cache/plain/s3blkdev
not as somebody ls /srv/store
not as somebody ls /var/lib/s3blkdev
not as somebody touch /run/s3blkdev/file
not as somebody nbd-client -unix /run/s3blkdev/nbd.sock -l
not as somebody s3blkdev-sync -c $CONF status
[ -z "$(find /srv/cache/*/s3blkdev /srv/store /var/lib/s3blkdev -perm /o=rwx)" ]
[ -z "$(find /srv/cache/*/s3blkdev /srv/store ! -user s3blkdev)" ]
# Nor is the daemon more than some user.
pid=$(systemctl show -P MainPID s3blkdevd.service)
[ "$(stat -c %U /proc/$pid)" = s3blkdev ]
not grep -E '^Cap[A-Za-z]+:.*[1-9a-f]' /proc/$pid/status
grep 'NoNewPrivs:.*1' /proc/$pid/status
not as s3blkdev cat /etc/shadow
not as s3blkdev ls /root
not as s3blkdev touch $CONF
END
}

@test "systemctl reload brings a new device, and refuses mistakes" {
    guest << 'END'
exported() {
    nbd-client -unix /run/s3blkdev/nbd.sock -l
}
cp -p $CONF /root/before
not grep further < <(exported)
echo loglevel loud >> $CONF
not systemctl reload s3blkdevd.service
systemctl is-active s3blkdevd.service
journalctl -b -o cat -u s3blkdevd.service | grep 's3blkdev.conf:.*loglevel'
cat /root/before > $CONF
mkdir -m 700 /srv/cache/plain/further
chown s3blkdev: /srv/cache/plain/further
cat >> $CONF << 'CONF'
[further]
cachedir /srv/cache/plain/further
size 64M
cachesize 64M
journalsize 64M
CONF
systemctl reload s3blkdevd.service
export -f exported
timeout 60 bash -c 'until exported | grep further; do :; done'
END
}

@test "timers fire: changes are uploaded, and chunks leave the cache" {
    guest << 'END'
mountpoint -q /mnt/plain
mkdir /etc/systemd/system/s3blkdev-{sync.timer,evict.service}.d
cat > /etc/systemd/system/s3blkdev-sync.timer.d/often.conf << 'UNIT'
[Timer]
OnCalendar=
OnCalendar=*:5/10
RandomizedDelaySec=0
UNIT
cat > /etc/systemd/system/s3blkdev-evict.service.d/more.conf << 'UNIT'
[Service]
Environment=MAX=2 MIN=1
UNIT
systemctl daemon-reload
# fires NAME MINUTE: it does at that minute of ten, or at the next one, by
# which timers may be late.  Only then is there another timer, for the clock
# passes what that waits for, too.
fires() {
    systemctl enable --now s3blkdev-$1.timer
    date -s @$((($(date +%s) / 600 + 1) * 600 + $2 * 60 + 61))
    timeout 100 grep -q -m 1 -E '^(Finished|Failed)' <(
        journalctl -b -f -n all -o cat -u s3blkdev-$1.service)
    [ "$(systemctl show -P Result s3blkdev-$1.service)" = success ]
    s3blkdev-sync status
}
fires sync 5
fires evict 0
s3blkdev-sync status --json | tr ',' '\n' > /run/status
[ "$(grep -c '"image_epoch": [1-9]' /run/status)" -ge 2 ]
[ "$(grep -c '"evicted": [1-9]' /run/status)" -ge 2 ]
echo 3 > /proc/sys/vm/drop_caches
cd /mnt && sha256sum --quiet -c /root/sums
END
}

@test "restarts under load are pauses, by s3blkdev-attach and by nbd-client" {
    local before

    write_load plain
    write_load external
    goes_on plain
    goes_on external
    before=$(kernel_lines)
    guest 'systemctl restart s3blkdevd.service'
    goes_on plain
    goes_on external
    # An upgrade.
    install_payload
    guest 'systemctl restart s3blkdevd.service'
    goes_on plain
    goes_on external
    end_load plain
    end_load external
    # The kernel has not seen anything at all.
    [ "$(kernel_lines)" = "$before" ]
    report "plain: $(cat "$VM/load-plain")"
    report "external: $(cat "$VM/load-external")"
}

@test "kill -9 under load is a pause, by s3blkdev-attach" {
    guest << 'END'
systemctl stop mnt-external.mount nbd@nbd1.service
install -D -m 644 /usr/local/share/s3blkdev/nbd-watch.conf \
    /etc/systemd/system/nbd@nbd1.service.d/s3blkdev.conf
systemctl daemon-reload
systemctl start mnt-external.mount
# The next test is about what the devices lose.
sync
END
    write_load plain
    write_load external
    goes_on plain
    goes_on external
    guest 'systemctl kill -s KILL s3blkdevd.service'
    goes_on plain
    goes_on external
    end_load plain
    end_load external
    kernel_is_content
    report "plain: $(cat "$VM/load-plain")"
    report "external: $(cat "$VM/load-external")"
}

@test "after a power cut under load every file that was synced is there" {
    local name

    write_load plain
    write_load external
    goes_on plain 100
    goes_on external 100
    vm_power_cut
    vm_start
    run vm_booted
    [ "$output" = running ]
    for name in plain external; do
        verify_load "$name"
        guest "cd /mnt && grep ' ./$name/' /root/sums | sha256sum --quiet -c"
    done
    run guest 'journalctl -b -o cat --no-pager'
    [[ $output == *"plain: was not closed in order"* ]]
    guest << 'END'
systemctl stop mnt-plain.mount mnt-external.mount
case $FILESYSTEM in
ext4) e2fsck -f -n /dev/nbd0 ;;
xfs) xfs_repair -n /dev/nbd0 ;;
esac
e2fsck -f -n /dev/nbd1
END
    kernel_is_content
}
