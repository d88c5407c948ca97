#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# kill -9 under load: kill_client.py does it and compares.  KILLS says how
# often (10), KILL_SEED with which seed (1).

load helpers

# kill_and_compare DEVICE-LINE...
kill_and_compare() {
    /usr/bin/python3 -c 'import nbd' || skip "python3-libnbd is not installed"
    write_config "loglevel warning"
    add_device disk 32M "$@"
    "$BATS_TEST_DIRNAME/kill_client.py" "${KILLS:-10}" "${KILL_SEED:-1}" \
        "$(uri disk)" "$DAEMON" -c "$CONFIG"
}

@test "every acknowledged write survives kill -9, and nothing else appears" {
    kill_and_compare "chunksize 1M" "journalsize 16M" "cachemem 4M"
}

@test "the same with writethrough, and the journal in a directory of its own" {
    mkdir "$DIR/journal"
    kill_and_compare "chunksize 256K" "journalsize 16M" "cachemem 4M" \
        "writethrough 1" "journal $DIR/journal"
}
