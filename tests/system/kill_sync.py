#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
kill_sync - kill s3blkdev-sync again and again, while something else goes on.

usage: kill_sync.py SEED CONFIG GO-ON SYNC ARGUMENT...

As long as the file GO-ON is there: starts SYNC to upload, or to evict all it
can, and kills it by SIGKILL when so many objects have come or gone in the
store of CONFIG as the seed says, unless it has ended before.  Says at the end
how often it was killed, and fails if that was never.
"""

import os
import random
import select
import signal
import subprocess
import sys
import time

from store import open_store

DEADLINE_S = 60


def run(command, store, changes, pid_file):
    """Run it until so many objects changed.  Returns whether it was killed."""
    before = set(store.keys(""))
    deadline = time.monotonic() + DEADLINE_S
    with open(pid_file + ".log", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log)
    pidfd = os.pidfd_open(process.pid)
    try:
        while not select.select([pidfd], [], [], 0.002)[0]:
            if len(before.symmetric_difference(store.keys(""))) >= changes:
                break
            if time.monotonic() > deadline:
                sys.exit("s3blkdev-sync does not end: " + " ".join(command))
        else:
            process.wait()
            return False
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL
    finally:
        os.close(pidfd)


def main():
    """Kill until we are told to end."""
    choose = random.Random(int(sys.argv[1]))
    store, go_on = open_store(sys.argv[2]), sys.argv[3]
    sync = sys.argv[4:]
    pid_file = go_on + ".pid"
    killed = runs = 0
    while os.path.exists(go_on):
        # -w 0: who left its socket behind will not come back.
        how = choose.choice([["3600"], ["1", "0"]])
        runs += 1
        killed += run(sync + ["-w", "0", "-p", pid_file] + how, store,
                      choose.choice([0, 1, 2, 5, 12, 30]), pid_file)
    print(f"# s3blkdev-sync ran {runs} times and was killed {killed} times")
    if killed == 0:
        sys.exit("it was never killed")


main()
