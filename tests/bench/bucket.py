# SPDX-License-Identifier: BSD-2-Clause
"""
bucket - how fast s3blkdev-sync uploads and evicts, and what that costs those
who use the device meanwhile.

A part of tests/bench/run.  The store is a directory on the same disk, so what
is measured is ours and the disk's; a line to S3 is mostly slower than both.
"""

import json
import os
import signal
import statistics
import subprocess
import time

MIB = 1 << 20
GIB = 1 << 30
IDLE_CHUNKS = 100000


class Run:
    """One run of s3blkdev-sync beside its daemon."""

    def __init__(self, bench, server, *arguments):
        self.server = server
        self.server_cpu = server.cpu_seconds()
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            [bench.options.sync, "-c", os.path.join(server.base,
                                                    "s3blkdev.conf"),
             "-p", os.path.join(server.base, "sync.pid"), *arguments],
            stdin=subprocess.DEVNULL)
        self.seconds = None  # that it took
        self.cpu = None  # seconds of it and of the daemon

    def wait(self):
        """Wait for it, and return itself."""
        _, status, used = os.wait4(self.process.pid, 0)
        self.seconds = time.monotonic() - self.begin
        self.cpu = (used.ru_utime + used.ru_stime
                    + self.server.cpu_seconds() - self.server_cpu)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            raise SystemExit(f"bench: s3blkdev-sync ended with "
                             f"{self.process.returncode}")
        return self


def whole_status(bench, server):
    """Returns what s3blkdev-sync says."""
    text = subprocess.run(
        [bench.options.sync, "-c", os.path.join(server.base, "s3blkdev.conf"),
         "status", "--json"], stdout=subprocess.PIPE, check=True).stdout
    return json.loads(text)


def status_of(bench, server):
    """Returns what it says of the only device."""
    return whole_status(bench, server)["devices"][0]


def fill(bench, server, size):
    """Write all of the device anew, and wait until it is in chunk files."""
    bench.fio(server, ["--rw=write", "--bs=1m", "--iodepth=8"], size, 0)
    server.settle()


def described(values, unit, digits=0):
    """Returns the median of values, and the least and the greatest."""
    return (f"{statistics.median(values):,.{digits}f} {unit} "
            f"({min(values):,.{digits}f}–{max(values):,.{digits}f})")


def upload_and_evict(bench, start):
    """Lines on the upload of 1 GiB that changed, and its eviction."""
    server = start("upload", size=GIB, settings=("cachesize 4G",))
    rates, costs, object_rates, evictions, chunks = [], [], [], [], GIB >> 23
    Run(bench, server, "60").wait()  # the first one claims the device
    for _ in range(bench.repetitions):
        fill(bench, server, GIB)
        before = status_of(bench, server)["uploaded"]
        run = Run(bench, server, "3600").wait()
        uploaded = status_of(bench, server)["uploaded"] - before
        rates.append(GIB / 1e6 / run.seconds)
        object_rates.append(uploaded / 1e6 / run.seconds)
        costs.append(run.cpu)
        evictions.append(chunks / Run(bench, server, "1", "0").wait().seconds)
        left = status_of(bench, server)["cache_used"]
        if left:
            raise SystemExit(f"bench: {left} bytes were not evicted")
    server.stop()
    return [
        f"- Upload of 1 GiB that changed, four at once "
        f"(`s3blkdev-sync -p FILE 3600`): {described(rates, 'MB/s')} of the "
        f"device's data, {described(object_rates, 'MB/s')} of objects; "
        f"{described(costs, 'CPU seconds per GiB', 2)}, daemon and "
        f"s3blkdev-sync together, the file system's copying for the store "
        f"included.",
        f"- Eviction of these {chunks} chunks of 8 MiB "
        f"(`s3blkdev-sync -p FILE 1 0`): {described(evictions, 'chunks/s')}."]


def idle(bench, start):
    """A line on a run that finds nothing to do."""
    def prepare(base):
        subprocess.run([bench.options.mapped_cache, base, str(IDLE_CHUNKS)],
                       check=True)

    server = start("idle", size=IDLE_CHUNKS << 18,
                   settings=("chunksize 256K",), prepare=prepare)
    first = Run(bench, server, "3600").wait().seconds
    seconds = [Run(bench, server, "3600").wait().seconds
               for _ in range(bench.repetitions)]
    server.stop()
    return [
        f"- Idle run with {IDLE_CHUNKS:,} chunks that are in the bucket "
        f"(`s3blkdev-sync -p FILE 3600`): "
        f"{described([1e3 * s for s in seconds], 'ms', 1)} (aim: 1 s). "
        f"The run before it, which published their first image: "
        f"{1e3 * first:.0f} ms."]


def latencies(bench, server, size, is_over):
    """Read and write here and there until is_over() returns.  Returns the
    50th and the 99th percentile of each, in microseconds."""
    command = bench.fio_command(
        server, ["--rw=randrw", "--bs=4k", "--iodepth=1",
                 "--rate_iops=500,500", "--time_based"], size, 600)
    fio = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE)
    is_over()
    fio.send_signal(signal.SIGINT)  # it tells what it has so far
    text = fio.communicate()[0].decode()
    job = json.loads(text[text.index("{"):])["jobs"][0]
    return {f"{kind} {number}":
            job[kind]["clat_ns"]["percentile"][f"{number}.000000"] / 1e3
            for kind in ("read", "write") for number in (50, 99)}


def beside_others(bench, start, *pace):
    """A line on who uses the device while all of it is uploaded."""
    size = 2 * GIB
    server = start("beside-" + pace[-1].split()[-1], size=size,
                   settings=("cachesize 8G",), general=pace)
    alone, beside, seconds = [], [], []
    Run(bench, server, "60").wait()
    for _ in range(bench.repetitions):
        fill(bench, server, size)
        alone.append(latencies(bench, server, size, lambda: time.sleep(5)))
        fill(bench, server, size)

        def sync():
            time.sleep(0.5)  # fio has begun
            seconds.append(Run(bench, server, "3600").wait().seconds)

        beside.append(latencies(bench, server, size, sync))
    server.stop()
    texts = []
    for kind in ("read", "write"):
        for number in (50, 99):
            name = f"{kind} {number}"
            one = statistics.median(of[name] for of in alone)
            two = statistics.median(of[name] for of in beside)
            aim = " (aim: 2)" if number == 99 else ""
            texts.append(f"{kind}s, {number}th percentile: {one:.0f} µs alone, "
                         f"{two:.0f} µs beside it, {two / one:.2f} ×{aim}")
    return [
        f"- 4 KiB random reads and writes, 500 of each a second, one at a "
        f"time, alone and beside an upload of 2 GiB that changed, "
        f"`{'`, `'.join(pace)}` (`s3blkdev-sync -p FILE 3600`, "
        f"{statistics.median(seconds):.1f} s; fio `--rw=randrw --bs=4k "
        f"--iodepth=1 --rate_iops=500,500`): {'; '.join(texts)}."]


def figures(bench, start):
    """Yields lines for the document.  start(name, size=, settings=,
    general=, prepare=) returns a server that runs."""
    yield from upload_and_evict(bench, start)
    yield from idle(bench, start)
    yield from beside_others(bench, start, "uploads 1", "uploadrate 40M")
    yield from beside_others(bench, start, "uploads 4")
