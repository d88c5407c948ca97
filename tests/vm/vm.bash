# SPDX-License-Identifier: BSD-2-Clause
#
# vm - a virtual machine with systemd and a real kernel, for stories that
# need one: "load vm" at the top of a file.
#
#     setup_file() {
#         vm_possible || return 0
#         vm_new
#         vm_disk cache 1G
#         vm_start
#     }
#     teardown_file() {
#         vm_end
#     }
#     @test "a sentence" {
#         guest 'systemctl is-active nbd@nbd0.service'
#         vm_power_cut
#         vm_start
#     }
#
# The machine is emulated, so it needs no other one's help, and is slow.  The
# tests of a file share it, in their order; once one has failed, the others are
# not run.  What is kept of it is in $VM, and its console in
# build/vm/console/.
#
# Its disks but the first have a volatile cache: what was not flushed is lost
# when the power goes, which is what vm_power_cut does.  The first one loses
# only what its own kernel has not written; this host's one is not asked to
# sync it.
#
# Nothing here waits for a time: what is waited for is an event; a deadline
# only ends what hangs.

ROOT=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
BUILD=$(cd "$ROOT" && realpath "${BUILD:-build}")
VM=$BATS_FILE_TMPDIR/vm
# What an answer may take on a machine that has much else to do.
GUEST_DEADLINE_S=300

setup() {
    [ -z "${VM_SKIP:-}" ] || skip "$VM_SKIP"
    [ ! -e "$VM/failed" ] || skip "an earlier test of this file has failed"
}

teardown() {
    [ -n "${BATS_TEST_COMPLETED:-}" ] && return
    [ -d "$VM" ] && [ ! -e "$VM/failed" ] || return 0
    touch "$VM/failed"
    echo "what the machine said:"
    tail -n 30 "$(vm_console)" | tr -d '\r'
    if vm_runs; then
        GUEST_DEADLINE_S=20 guest \
            'systemctl --failed --no-legend; journalctl -b -o short-monotonic |
            tail -n 80' || true
    fi
}

vm_console() {
    echo "$BUILD/vm/console/$(basename "$BATS_TEST_FILENAME" .bats)"
}

# vm_possible: whether there can be a machine here; if not, the tests of the
# file are skipped, aloud
vm_possible() {
    local command

    if [ "$(uname -m)" != x86_64 ]; then
        export VM_SKIP="the machine is an x86-64"
    elif ! grep -qs '^ID=debian' /etc/os-release; then
        export VM_SKIP="the machine is made of this host's Debian, and it is none"
    elif [ "$(id -u)" != 0 ]; then
        export VM_SKIP="only root can make a machine's disk"
    fi
    for command in qemu-system-x86_64 nbdkit mmdebstrap busybox \
        cpio lz4 modprobe mke2fs python3; do
        command -v "$command" > /dev/null ||
            export VM_SKIP="$command is not installed"
    done
    [ -z "${VM_SKIP:-}" ]
}

# vm_new [PACKAGE...]: make a machine, which has these packages, too
vm_new() {
    local image

    image=$("$ROOT/tests/vm/image" "$BUILD/vm/image" "$@")
    mkdir -p "$VM" "$BUILD/vm/console"
    : > "$(vm_console)"
    ln -sfn "$image" "$VM/image"
    : > "$VM/disks"
    : > "$VM/ports"
    cp --sparse=always "$image/root.img" "$VM/root.img"
}

# vm_disk NAME SIZE: give it a disk, as /dev/disk/by-id/virtio-NAME
vm_disk() {
    truncate -s "$2" "$VM/$1.img"
    echo "$1" >> "$VM/disks"
}

# vm_port NAME: give it a port, /dev/virtio-ports/NAME; what is written to it
# goes to $VM/NAME, and is there when the write has returned
vm_port() {
    : > "$VM/$1"
    echo "$1" >> "$VM/ports"
}

# vm_payload FILE: the file that it finds as /dev/disk/by-id/virtio-payload
# from its next start on
vm_payload() {
    rm -f "$VM/payload"
    cp "$1" "$VM/payload"
    truncate -s %4096 "$VM/payload"
}

# vm_start [OPTION...]: switch it on, with options for qemu; it boots
vm_start() {
    local disk drive port n=1 arguments=()
    # Translated code may otherwise take more memory than the machine itself.
    local accelerate=(-accel "tcg,thread=multi,tb-size=256" -cpu Nehalem)
    # Its cycles are this host's, and it has to find out how many a second are:
    # on a busy host it can be wrong by a factor of ten, and so be its clock.
    local clock=(tsc=unstable clocksource=hpet)

    vm_gone
    if grep -qwE 'vmx|svm' /proc/cpuinfo && [ -w /dev/kvm ]; then
        accelerate=(-accel kvm -cpu host)
        clock=(tsc=reliable)
    fi
    while read -r disk; do
        rm -f "$VM/$disk.sock"
        # exitlast: it does not outlive the machine.
        nbdkit -U "$VM/$disk.sock" -P "$VM/$disk.pid" \
            --filter=exitlast --filter=cache \
            file "$VM/$disk.img" cache=writeback 3>&-
        drive=id=$disk,if=none,format=raw,cache=none,file.driver=nbd
        drive+=,file.server.type=unix,file.server.path=$VM/$disk.sock
        arguments+=(-drive "$drive"
            -device "virtio-blk-pci,drive=$disk,serial=$disk")
    done < "$VM/disks"
    if [ -e "$VM/payload" ]; then
        arguments+=(
            -drive "id=payload,if=none,format=raw,readonly=on,file=$VM/payload"
            -device "virtio-blk-pci,drive=payload,serial=payload")
    fi
    while read -r port; do
        n=$((n + 1))
        arguments+=(
            -chardev "file,id=$port,path=$VM/$port,append=on"
            -device "virtserialport,chardev=$port,name=$port,nr=$n")
    done < "$VM/ports"
    rm -f "$VM"/agent.in "$VM"/agent.out
    mkfifo "$VM/agent.in" "$VM/agent.out"
    # The limit is for one that nobody ends.
    timeout 1800 qemu-system-x86_64 -M q35 "${accelerate[@]}" -m 768 -smp 2 \
        -nodefaults -display none -monitor none -no-reboot \
        -pidfile "$VM/qemu.pid" \
        -chardev "file,id=console,path=$(vm_console),append=on" \
        -serial chardev:console \
        -kernel "$VM/image/vmlinux" -initrd "$VM/image/initrd" \
        -drive "id=root,if=none,format=raw,cache=unsafe,file=$VM/root.img" \
        -device virtio-blk-pci,drive=root,serial=root \
        -device virtio-serial-pci \
        -chardev "pipe,id=agent,path=$VM/agent" \
        -device virtserialport,chardev=agent,name=agent,nr=1 \
        -device virtio-rng-pci "${arguments[@]}" "$@" \
        -append "root=/dev/vda rw console=ttyS0 quiet nokaslr \
${clock[*]} no_timer_check nowatchdog cryptomgr.notests rcupdate.rcu_expedited=1 \
mitigations=off random.trust_cpu=on panic=-1 systemd.show_status=0 \
systemd.default_device_timeout_sec=1800 systemd.default_timeout_start_sec=600" \
        < /dev/null >> "$(vm_console)" 2>&1 3>&- &
    # Returns when it answers: qemu, that is, and then what runs in it.
    guest true
}

# vm_booted: return when its boot is over, and show which units have failed
vm_booted() {
    guest 'systemctl is-system-running --wait'
}

vm_pid() {
    local pid

    pid=$(cat "$VM/$1.pid" 2> /dev/null) || return
    [[ $(readlink "/proc/$pid/exe") == */"$2"* ]] && echo "$pid"
}

vm_runs() {
    vm_pid qemu qemu-system > /dev/null
}

# pids_end PID...: return when processes that may not be our children are gone
pids_end() {
    timeout "${DEADLINE_S:-180}" python3 -c '
import os, select, sys
for pid in sys.argv[1:]:
    try:
        select.select([os.pidfd_open(int(pid))], [], [])
    except ProcessLookupError:
        pass
' "$@"
}

# vm_gone: return when it has ended by itself, as after a poweroff
vm_gone() {
    local disk pids=()

    while read -r pid; do
        pids+=("$pid")
    done < <(vm_pid qemu qemu-system
        while read -r disk; do
            vm_pid "$disk" nbdkit
        done < "$VM/disks")
    pids_end "${pids[@]}"
}

# vm_reboot: reboot it in order
vm_reboot() {
    guest 'systemctl --no-block start reboot.target'
    vm_gone
    vm_start "$@"
}

# vm_poweroff: switch it off in order
vm_poweroff() {
    guest 'systemctl --no-block start poweroff.target'
    vm_gone
}

# vm_power_cut: the power goes; all of the disks' caches is lost
vm_power_cut() {
    local disk pids=()

    while read -r pid; do
        pids+=("$pid")
    done < <(while read -r disk; do
            vm_pid "$disk" nbdkit
        done < "$VM/disks"
        vm_pid qemu qemu-system)
    kill -KILL "${pids[@]}"
    pids_end "${pids[@]}"
    echo "---- power cut" >> "$(vm_console)"
}

# vm_end: it is of no more use
vm_end() {
    if vm_runs; then
        vm_power_cut
    fi
}

# guest [COMMAND]: run it there by "bash -e", as root; what it writes, its
# status.  Without an argument the command is standard input.  In front of it
# goes $GUEST_PRELUDE, and "not COMMAND...", for what is to fail.
# shellcheck disable=SC2016 # for the guest
guest() {
    local LC_ALL=C id=$RANDOM$RANDOM in out answer status size
    local command='not() { ! "$@"; }'$'\n'${GUEST_PRELUDE:-}$'\n'

    command+=${1-$(cat)}
    exec {in}<> "$VM/agent.in" {out}<> "$VM/agent.out"
    printf '%s %d\n%s' "$id" "${#command}" "$command" >&"$in"
    # An answer that nobody has waited for may be in front of it.
    until [ "${answer:-}" = "$id" ]; do
        guest_line || return
        head -c "$size" <&"$out" > "$VM/answer"
    done
    exec {in}>&- {out}>&-
    cat "$VM/answer"
    return "$status"
}

# guest_line: read answer, status and size, while there is a machine
guest_line() {
    local waited=0 line='' part

    # What was read when the time was over is the line's beginning.
    until read -r -t 1 -u "$out" part; do
        line+=$part
        waited=$((waited + 1))
        if [ "$waited" -ge "$GUEST_DEADLINE_S" ]; then
            echo "no answer after $GUEST_DEADLINE_S s"
            return 124
        fi
        # qemu itself takes a moment to be there.
        if [ "$waited" -gt 10 ] && ! vm_runs; then
            echo "the machine has ended"
            return 125
        fi
    done
    read -r answer status size <<< "$line$part"
}
