#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Restarts that clients do not see: the daemon hands their connections over to
# the next one, whatever they do at that moment.  How long they waited is
# told, and nothing is decided by it.

# shellcheck disable=SC2034 # for the helpers
bats_require_minimum_version 1.5.0
load helpers
load service

@test "ten restarts under load are not seen by four connections" {
    write_config
    add_device disk 96M "chunksize 1M" "journalsize 16M" "cachemem 4M"
    start_service
    start_client disk 4
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        client more 300
        restart_service
    done
    client more 300
    end_client
    stop_service
    [ "$(grep -c "left to the next process: 4" "$DAEMON_LOG")" = 10 ]
    [ "$(grep -c "process before: 4, resumed: 4" "$DAEMON_LOG")" = 10 ]
}
