#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# fio's nbd engine with verification: random sizes, four connections, reads
# while chunk files are written, and again after a restart.

load helpers

# verify_by_fio OPTION...: write and verify with four connections
verify_by_fio() {
    local log=$DIR/fio.log

    fio --name=job --ioengine=nbd --thread --uri="$(uri disk)" \
        --size=24M --numjobs=4 --offset_increment=24M --iodepth=32 \
        --verify=crc32c --verify_fatal=1 --group_reporting \
        --random_generator=lfsr --randseed=7 \
        --aux-path="$DIR" "$@" > "$log" 2>&1 || { cat "$log" && false; }
    if grep -i 'verify:\|error=' "$log"; then
        return 1
    fi
}

@test "what four connections write in random sizes is what they read" {
    needs fio
    write_config
    add_device disk 96M "chunksize 1M" "journalsize 16M" "cachemem 4M"
    start_daemon
    verify_by_fio --rw=randwrite --bsrange=512-64k --verify_backlog=512 \
        --buffer_compress_percentage=50 --random_generator=tausworthe
    stop_daemon
}

@test "what was written before a restart is verified after it" {
    needs fio
    write_config
    add_device disk 96M "journalsize 16M" "cachemem 4M"
    start_daemon
    verify_by_fio --rw=randwrite --bs=4k --do_verify=0 --fsync=64
    stop_daemon
    start_daemon
    verify_by_fio --rw=randread --bs=4k --verify_only
    kill_daemon
    start_daemon
    verify_by_fio --rw=randread --bs=4k --verify_only
    stop_daemon
}

@test "reads and writes mixed with trims are verified" {
    needs fio
    write_config
    add_device disk 96M "chunksize 256K" "journalsize 16M" "cachemem 4M"
    start_daemon
    verify_by_fio --rw=randrw --bsrange=4k-128k --verify_backlog=64 \
        --random_generator=tausworthe
    # fio does not order a trim and the write after it, but one by one.
    verify_by_fio --rw=trimwrite --bs=16k --iodepth=1
    stop_daemon
}
