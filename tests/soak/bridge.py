# SPDX-License-Identifier: BSD-2-Clause
"""
bridge - fio on a device, by way of somebody who survives the end of a server:
qemu's NBD client, or that of nbdkit.  Both connect again, and send once more
what was not answered.
"""

import json
import os
import subprocess
import time

from programs import DEADLINE_S, Trouble

MIB = 1 << 20


class Bridge:
    """A process with a Unix socket on which a device can be had."""

    def __init__(self, base, kind, server, device):
        self.path = base + ".sock"
        self.uri = f"nbd+unix:///{device}?socket={self.path}"
        uri = f"nbd+unix:///{device}?socket={server}"
        if kind == "qemu":
            command = [
                "qemu-nbd", "--persistent", "--shared=8", "--discard=unmap",
                "--socket", self.path, "--export-name", device,
                "--image-opts", f"driver=nbd,server.type=unix,"
                f"server.path={server},export={device},reconnect-delay=3600"]
        else:
            command = ["nbdkit", "-f", "-U", self.path, "--filter=retry",
                       "nbd", f"uri={uri}", "retries=3600", "retry-delay=1",
                       "retry-exponential=no"]
        with open(base + ".log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + DEADLINE_S
        while not os.path.exists(self.path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Trouble(f"{command[0]} does not start: see {base}.log")
            time.sleep(0.05)

    def end(self):
        """End it: it may be waiting for its server."""
        self.process.kill()
        self.process.wait()


class Rounds:
    """Rounds of fio on a bridge: each writes and reads at random, and then
    reads and verifies all that it has written."""

    def __init__(self, bridge, base, size, jobs, pause_ms):
        self.bridge = bridge
        self.base = base
        self.size = size // jobs
        self.jobs = jobs
        self.pause_ms = pause_ms  # of each job, between two requests
        self.count = 0
        self.requests = 0
        self.longest = 0.0  # seconds that a write took
        self.process = None
        self.is_ending = False

    def run(self, filling=False):
        """One round, to its end."""
        self.count += 1
        how = (["--rw=write", "--bs=256k", "--iodepth=4"] if filling else
               ["--rw=randrw", "--bsrange=4k-64k", "--iodepth=8",
                "--fsync=64", f"--thinktime={self.pause_ms}ms"])
        output = self.base + ".json"
        with open(self.base + ".log", "ab") as log:
            self.process = subprocess.Popen(
                ["fio", "--name=soak", "--ioengine=nbd", "--thread",
                 f"--uri={self.bridge.uri}", f"--size={self.size}",
                 f"--numjobs={self.jobs}", f"--offset_increment={self.size}",
                 *how, "--verify=crc32c", "--verify_fatal=1",
                 "--buffer_compress_percentage=50",
                 "--random_generator=tausworthe",
                 f"--randseed={self.count}", "--group_reporting",
                 f"--aux-path={os.path.dirname(self.base)}",
                 "--output-format=json", f"--output={output}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        code = self.process.wait()
        if self.is_ending:
            return
        if code != 0:
            raise Trouble(f"fio ended with {code}: see {self.base}.log, "
                          f"{output}")
        self.account(output)

    def account(self, output):
        """Add up what it did."""
        with open(output, encoding="utf-8") as text:
            # What fio has to say comes before the JSON.
            content = text.read()
        job = json.loads(content[content.index("{"):])["jobs"][0]
        if job["error"] != 0:
            raise Trouble(f"fio: error {job['error']}: see {output}")
        self.requests += job["read"]["total_ios"] + job["write"]["total_ios"]
        self.longest = max(self.longest,
                           job["write"]["clat_ns"]["max"] / 1e9)

    def end(self):
        """End a round before its time."""
        self.is_ending = True
        if self.process and self.process.poll() is None:
            self.process.kill()
