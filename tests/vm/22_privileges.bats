#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What the units take away, and what is left: a server that can do what it has
# to, its keys, and a page that sees the status only.
# shellcheck disable=SC2154 # what vm.bash and bats set

load vm
load gateway

setup_file() {
    vm_possible || return 0
    vm_new
    gateway_payload
    vm_start
}

teardown_file() {
    vm_end
}

@test "without a configuration nothing fails, and nothing listens" {
    install_payload
    guest << 'END'
systemctl enable --now s3blkdevd.socket s3blkdevd.service \
    s3blkdev-evict.timer s3blkdev-sync.timer
systemctl is-active s3blkdev-evict.timer s3blkdev-sync.timer
not systemctl is-active s3blkdevd.socket
not systemctl is-active s3blkdevd.service
systemctl start s3blkdev-evict.service s3blkdev-sync.service
[ -z "$(systemctl --failed --no-legend)" ]
END
}

@test "with a configuration it runs, without any privilege" {
    guest << 'END'
install -d -o s3blkdev -g s3blkdev -m 700 /var/lib/s3blkdev/disk \
    /var/lib/s3blkdev/store
cat > /usr/local/etc/s3blkdev.conf << 'CONF'
listen /run/s3blkdev/nbd.sock
status /run/s3blkdev/status/socket
s3dir /var/lib/s3blkdev/store
[disk]
cachedir /var/lib/s3blkdev/disk
size 128M
journalsize 64M
cachemem 16M
CONF
chown root:s3blkdev /usr/local/etc/s3blkdev.conf
chmod 640 /usr/local/etc/s3blkdev.conf
systemctl start s3blkdevd.service
systemctl is-active s3blkdevd.socket
pid=$(systemctl show -P MainPID s3blkdevd.service)
[ "$(stat -c %U "/proc/$pid")" = s3blkdev ]
grep -q '^CapEff:[[:space:]]*0*$' "/proc/$pid/status"
grep -q '^CapBnd:[[:space:]]*0*$' "/proc/$pid/status"
grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$pid/status"
grep -q '^Max open files *65536 *65536' "/proc/$pid/limits"
[ "$(stat -c '%U %G %a' /run/s3blkdev/nbd.sock)" = 's3blkdev s3blkdev 660' ]
END
}

@test "its room is made and its images are uploaded, and nobody complains" {
    guest << 'END'
for unit in s3blkdev-evict s3blkdev-sync; do
    systemctl start "$unit.service"
    [ "$(systemctl show -P Result "$unit.service")" = success ]
done
[ -n "$(ls /var/lib/s3blkdev/store/disk/epoch)" ]
s3blkdev-sync status
[ -z "$(journalctl -b -q -o cat -u 's3blkdev*' -p warning)" ]
END
}

@test "the page's user can ask for the status, and neither use nor read more" {
    guest << 'END'
ask() {
    setpriv --reuid s3blkdev-gui --regid s3blkdev-gui --clear-groups "$@" 2>&1
}
[ "$(stat -c '%U %G %a' /run/s3blkdev/status/socket)" = \
    's3blkdev s3blkdev-gui 660' ]
ask test -w /run/s3blkdev/status/socket
not ask test -w /run/s3blkdev/nbd.sock
not ask cat /usr/local/etc/s3blkdev.conf
not ask ls /var/lib/s3blkdev
END
}

@test "a credential is handed over if it is there, and to nobody else" {
    guest << 'END'
of=/run/credentials/s3blkdevd.service/s3blkdev.credentials
[ ! -e "$of" ]
install -D -m 600 /dev/null /etc/credstore/s3blkdev.credentials
echo 'aws_access_key_id = A' > /etc/credstore/s3blkdev.credentials
systemctl restart s3blkdevd.service
[ "$(setpriv --reuid s3blkdev --regid s3blkdev --clear-groups cat "$of")" = \
    'aws_access_key_id = A' ]
# As the program wants it: of root or of its own user, and closed to others.
[[ $(stat -c %U "$of") =~ ^(root|s3blkdev)$ ]]
[ $((0$(stat -c %a "$of") & 7)) = 0 ]
not setpriv --reuid s3blkdev-gui --regid s3blkdev-gui --clear-groups \
    cat "$of" 2>&1
rm /etc/credstore/s3blkdev.credentials
systemctl restart s3blkdevd.service
[ ! -e "$of" ]
END
}

@test "connections that systemd has no room for end, which is said before" {
    guest << 'END'
install -D -m 644 /dev/stdin \
    /etc/systemd/system/s3blkdevd.service.d/room.conf << 'UNIT'
[Service]
FileDescriptorStoreMax=2
Environment=FDSTORE_MAX=2
UNIT
systemctl daemon-reload
systemctl restart s3blkdevd.service
log() {
    journalctl -b -o cat -u s3blkdevd.service
}
log | grep 'no more than 1 connections outlive a restart.*StoreMax=200 '
nbd-client -unix /run/s3blkdev/nbd.sock -N disk -b 4096 -C 2 /dev/nbd0
systemctl restart s3blkdevd.service
log | grep 'no more connections are kept for the next process'
log | grep 'connections left to the next process: 1$'
log | grep 'connections of the process before: 1, resumed: 1$'
dd if=/dev/nbd0 of=/dev/null bs=4k count=16 iflag=direct
nbd-client -d /dev/nbd0
rm -r /etc/systemd/system/s3blkdevd.service.d
systemctl daemon-reload
systemctl restart s3blkdevd.service
[ "$(log | grep -c 'outlive a restart')" = 2 ]
END
}

@test "a server that cannot start tries again, but not every second" {
    guest << 'END'
systemctl stop s3blkdevd.service
chmod 0 /var/lib/s3blkdev/disk
not systemctl start s3blkdevd.service
# attempts COUNT: the seconds since the boot of so many, when they were made
attempts() {
    timeout 100 grep -m "$1" 'Main process exited, code=exited, status=1' <(
        journalctl -b -f -n all -o short-monotonic \
            -u s3blkdevd.service) | sed 's/^\[ *\([0-9]*\).*/\1/'
}
read -r first second third < <(attempts 3 | xargs)
[ $((second - first)) -ge 9 ]
[ $((third - second)) -ge 9 ]
starts=$(journalctl -b -o cat -u s3blkdevd.service | grep -c '^Started')
chmod 700 /var/lib/s3blkdev/disk
timeout 100 grep -m $((starts + 1)) '^Started' <(
    journalctl -b -f -n all -o cat -u s3blkdevd.service)
systemctl is-active s3blkdevd.service
END
}
