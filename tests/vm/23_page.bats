#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The status page as its unit runs it, with Debian's node: what it shows, what
# it may do, and how it gets on while the daemon comes and goes.
# shellcheck disable=SC2154 # what vm.bash and bats set

load vm
load gateway

# What commands find in the guest.
# shellcheck disable=SC2016,SC2034 # for vm.bash, and the guest
GUEST_PRELUDE='CONF=/usr/local/etc/s3blkdev.conf
PAGE_CONF=/usr/local/etc/s3blkdev-gui.conf
PAGE=http://127.0.0.1:8080
SOCKET=/run/s3blkdev/status/socket
# page PATH [OPTION...]: what it answers with 200
page() {
    curl -sS --fail --max-time 100 "${@:2}" "$PAGE$1"
}
# code PATH [OPTION...]: the status of its answer
code() {
    curl -sS --max-time 100 -o /run/answer -w "%{http_code}" "${@:2}" "$PAGE$1"
}
# as_page COMMAND...: run it as the user of the page
as_page() {
    setpriv --reuid=s3blkdev-gui --regid=s3blkdev-gui --clear-groups "$@"
}
# sees STATE: return when it has told of the daemon that it is so
sees() {
    timeout 100 grep -q -m 1 "\"state\":\"$1\"" <(
        curl -s -N "$PAGE/api/events")
}
# log_says TEXT: return when the log of this start of the page has a line
log_says() {
    local id

    id=$(systemctl show -P InvocationID s3blkdev-gui.service)
    timeout 100 grep -q -m 1 -e "$1" <(
        journalctl -f -n all -o cat "_SYSTEMD_INVOCATION_ID=$id")
}'

setup_file() {
    vm_possible || return 0
    [ -e "$ROOT/gui/node_modules/uplot/dist/uPlot.esm.js" ] ||
        make -s -C "$ROOT" BUILD="$BUILD" plots ||
        export VM_SKIP="npm cannot get the page's plots"
    [ -z "${VM_SKIP:-}" ] || return 0
    vm_new curl nodejs
    gateway_payload
    vm_start
}

teardown_file() {
    vm_end
}

@test "systemd finds nothing wrong in any unit, with everything installed" {
    install_payload
    guest << 'END'
share=/usr/local/share/s3blkdev
install -D -m 644 $share/nbd-watch.conf \
    /etc/systemd/system/nbd@nbd0.service.d/s3blkdev.conf
install -D -m 644 $share/nbd-client.conf \
    /etc/systemd/system/nbd@nbd1.service.d/s3blkdev.conf
systemctl daemon-reload
cd /usr/local/lib/systemd/system
[ "$(ls -d s3blkdev*.service | wc -l)" = 4 ]
systemd-analyze verify --man=no s3blkdev* nbd@nbd0.service nbd@nbd1.service \
    > /run/verify 2>&1
# Said of Debian's own unit.
sed -i '/Dependency Before=dev-nbd[01].device ignored/d' /run/verify
cat /run/verify
[ ! -s /run/verify ]
systemd-analyze security --no-pager --threshold=25 s3blkdev-gui.service \
    > /run/security || { cat /run/security; exit 1; }
tail -n 1 /run/security
END
}

@test "without a daemon, and a file of its own, it starts and says so" {
    guest << 'END'
[ ! -e $PAGE_CONF ]
systemctl enable --now s3blkdev-gui.service
log_says "serving http://127.0.0.1:8080/"
log_says "status: $SOCKET is not there"
[ "$(code /healthz)" = 503 ]
cat /run/answer
sees down
page / | grep -i '<!doctype html>'
END
}

@test "it goes on as soon as there is a daemon, and shows its devices" {
    guest << 'END'
install -d -o s3blkdev -g s3blkdev -m 700 /var/lib/s3blkdev/disk \
    /var/lib/s3blkdev/store
install -m 640 -g s3blkdev /dev/stdin $CONF << 'FILE'
listen /run/s3blkdev/nbd.sock
status /run/s3blkdev/status/socket
s3dir /var/lib/s3blkdev/store
[disk]
cachedir /var/lib/s3blkdev/disk
size 128M
journalsize 64M
cachemem 16M
FILE
systemctl enable --now s3blkdevd.service
sees up
[ "$(code /healthz)" = 200 ]
cat /run/answer
# One daemon is asked twice: by the page, and here.
pid=$(systemctl show -P MainPID s3blkdevd.service)
page /api/status > /run/status
grep "\"pid\":$pid[,}]" /run/status
grep '"device":"disk"' /run/status
grep '"word":"safe"' /run/status
page /metrics > /run/metrics
grep '^# HELP s3blkdev_' /run/metrics
grep '^s3blkdev_[a-z_]*{.*device="disk".*} 134217728$' /run/metrics
page '/api/map?device=disk' | grep '"device":"disk"'
END
}

@test "the page and all that it loads come from there" {
    guest << 'END'
page / > /run/index
for path in $(grep -oE '(src|href)="[^"#]+"' /run/index |
    sed -E 's/^[a-z]+="(.*)"$/\1/'); do
    echo "$path"
    [ "$(code "/${path#/}")" = 200 ]
    [ -s /run/answer ]
done
page /uplot/uPlot.esm.js > /run/answer
cmp /run/answer \
    /usr/local/share/s3blkdev/gui/node_modules/uplot/dist/uPlot.esm.js
page /uplot/uPlot.min.css > /run/answer
[ -s /run/answer ]
not grep -q '^warning: .*plot' <(journalctl -b -o cat -u s3blkdev-gui.service)
END
}

@test "it runs with a user's rights, and without those of others" {
    guest << 'END'
pid=$(systemctl show -P MainPID s3blkdev-gui.service)
[ "$(stat -c %U:%G "/proc/$pid")" = s3blkdev-gui:s3blkdev-gui ]
not grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb):.*[1-9a-f]' "/proc/$pid/status"
grep '^NoNewPrivs:[[:space:]]*1$' "/proc/$pid/status"
grep '^Seccomp:[[:space:]]*2$' "/proc/$pid/status"
as_page test -w $SOCKET
# connects PATH: curl says 7 if it cannot
connects() {
    local status=0

    as_page curl -sS --unix-socket "$1" http://localhost/ || status=$?
    [ "$status" != 7 ]
}
connects $SOCKET
# Neither what is secret, nor the devices, nor what changes them.
not as_page cat $CONF
install -D -m 600 /dev/stdin /etc/credstore/s3blkdev.credentials << 'KEYS'
aws_access_key_id = A
KEYS
systemctl restart s3blkdevd.service
secret=/run/credentials/s3blkdevd.service/s3blkdev.credentials
[ -s $secret ]
not as_page cat $secret
not as_page cat /etc/credstore/s3blkdev.credentials
not as_page ls /var/lib/s3blkdev
[ -S /var/lib/s3blkdev/disk/control ]
[ -S /run/s3blkdev/nbd.sock ]
not connects /var/lib/s3blkdev/disk/control
not connects /run/s3blkdev/nbd.sock
not as_page nbd-client -unix /run/s3blkdev/nbd.sock -l
not as_page s3blkdev-sync -c $CONF status
# Nor can it write anywhere, where it runs, not even what is its own.
install -d -o s3blkdev-gui /srv/its
as_page touch /srv/its/file
there() {
    nsenter --target "$pid" --mount setpriv --reuid=s3blkdev-gui \
        --regid=s3blkdev-gui --clear-groups "$@"
}
there test -e /srv/its/file
not there touch /srv/its/file
there touch /var/tmp/file # which others do not see
[ ! -e /var/tmp/file ]
sees up
END
}

@test "it says when the daemon is away, and is there again with it" {
    guest << 'END'
before=$(systemctl show -P InvocationID s3blkdev-gui.service)
systemctl restart s3blkdevd.service
sees up
pid=$(systemctl show -P MainPID s3blkdevd.service)
timeout 100 grep -q -m 1 "\"pid\":$pid[,}]" <(curl -s -N "$PAGE/api/events")
systemctl stop s3blkdevd.socket s3blkdevd.service
sees down
[ "$(code /healthz)" = 503 ]
# As it was last known.
page /api/status | grep '"device":"disk"'
systemctl start s3blkdevd.service
sees up
[ "$(code /healthz)" = 200 ]
systemctl kill -s STOP s3blkdevd.service
sees hung
systemctl kill -s CONT s3blkdevd.service
sees up
systemctl kill -s KILL s3blkdevd.service
log_says 'status: the daemon .*'
sees up
[ "$(systemctl show -P InvocationID s3blkdev-gui.service)" = "$before" ]
[ "$(systemctl show -P NRestarts s3blkdev-gui.service)" = 0 ]
END
}

@test "a password of its configuration is asked for" {
    guest << 'END'
server=/usr/local/share/s3blkdev/gui/server.mjs
{
    echo 'listen 127.0.0.1:8080'
    echo "a secret" | node $server --hash-password
} > $PAGE_CONF
chmod 644 $PAGE_CONF
# Others can read the hash: that is refused, once, with the remedy.
systemctl restart s3blkdev-gui.service
timeout 100 grep -q -m 1 "chmod o= $PAGE_CONF" <(
    journalctl -b -f -n all -o cat -u s3blkdev-gui.service)
systemctl stop s3blkdev-gui.service
[ "$(systemctl show -P ExecMainStatus s3blkdev-gui.service)" = 3 ]
[ "$(systemctl show -P NRestarts s3blkdev-gui.service)" = 0 ]
chgrp s3blkdev-gui $PAGE_CONF
chmod 640 $PAGE_CONF
systemctl reset-failed s3blkdev-gui.service
systemctl start s3blkdev-gui.service
log_says "serving http://127.0.0.1:8080/"
for path in / /healthz /api/status /metrics /uplot/uPlot.esm.js; do
    [ "$(code "$path")" = 401 ]
done
[ "$(code / -u 'me:a secret')" = 200 ]
[ "$(code /api/status -u 'me:a secret')" = 200 ]
grep '"device"' /run/answer
[ "$(code / -u 'me:another')" = 401 ]
END
}

@test "it is there after a boot, with the daemon and the timers, and ends in time" {
    guest << 'END'
systemctl enable s3blkdev-sync.timer s3blkdev-evict.timer
rm $PAGE_CONF
END
    vm_reboot
    run vm_booted
    [ "$output" = running ]
    guest << 'END'
systemctl is-active s3blkdev-gui.service s3blkdevd.service \
    s3blkdev-sync.timer s3blkdev-evict.timer
log_says "serving http://127.0.0.1:8080/"
for unit in sync evict; do
    [ "$(systemctl show -P NextElapseUSecRealtime s3blkdev-$unit.timer)" != '' ]
done
sees up
# Who is looking at it does not hold it up.
timeout 100 curl -sS -N $PAGE/api/events > /run/events &
looking=$!
timeout 100 tail -F -n +1 /run/events 2> /dev/null | grep -q -m 1 '^event: status'
systemctl stop s3blkdev-gui.service
[ "$(systemctl show -P Result s3blkdev-gui.service)" = success ]
wait $looking || :
not grep -E 'Killing|timed out' <(
    journalctl -b -o cat -u s3blkdev-gui.service)
[ -z "$(systemctl --failed --no-legend)" ]
END
}
