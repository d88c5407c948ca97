# SPDX-License-Identifier: BSD-2-Clause
"""
page - what the status page costs: the daemon that is asked every second, the
page's server, and whoever waits for the first paint, with 200 devices and
1,000,000 chunks.

A part of tests/bench/run.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request

DEVICES = 200
CHUNKS = 1000000
CHUNK = 256 << 10
SMALL = 1000  # chunks of every device but the first
LARGE = CHUNKS - SMALL * (DEVICES - 1)
ZEROS_AT_ONCE = 1 << 30
ANSWERS = 50
IDLE_S = 10
OPEN_S = 30
TICKS = os.sysconf("SC_CLK_TCK")


def ask(path, question):
    """Returns the JSON of an answer of the status socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(question.encode() + b"\n")
        with client.makefile("rb") as answer:
            line = answer.readline().decode().split()
            size = int(line[1].split("=")[1])
            return answer.read(size)


def processor_time(pid):
    """Returns the seconds that a process was on a processor."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_memory(pid):
    """Returns the most MiB that a process ever had in memory."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0


def write_config(base):
    """Returns the path of a configuration with all devices."""
    path = os.path.join(base, "s3blkdev.conf")
    lines = [f"listen {base}/nbd", f"status {base}/status",
             f"s3dir {base}/store", "loglevel warning"]
    os.makedirs(os.path.join(base, "store"))
    for i in range(DEVICES):
        os.makedirs(os.path.join(base, f"cache{i}"), mode=0o700)
        lines += [f"[disk{i}]", f"cachedir {base}/cache{i}",
                  f"size {(SMALL if i else LARGE) * CHUNK}",
                  "chunksize 256K", "journalsize 16M", "cachemem 1M"]
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    os.chmod(path, 0o600)
    return path


@contextlib.contextmanager
def running(command, **options):
    """A process that is ended at the end."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_for(what, process):
    """Return when what() is true, unless the process ends."""
    while process.poll() is None:
        try:
            if what():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{process.args[0]} ended: {process.returncode}")


def fill(base):
    """Map all chunks of all devices, as zeros that are no holes."""
    import nbd  # pylint: disable=import-outside-toplevel

    for i in range(DEVICES):
        client = nbd.NBD()
        client.connect_uri(f"nbd+unix:///disk{i}?socket={base}/nbd")
        size = client.get_size()
        for at in range(0, size, ZEROS_AT_ONCE):
            client.zero(min(ZEROS_AT_ONCE, size - at), at,
                        nbd.CMD_FLAG_NO_HOLE)
        client.flush()
        client.shutdown()


def cost_of(process, path, question):
    """Returns milliseconds of processor time, and bytes, of an answer."""
    before = processor_time(process.pid)
    time.sleep(IDLE_S)
    idle = (processor_time(process.pid) - before) / IDLE_S
    before, begin = processor_time(process.pid), time.monotonic()
    for _ in range(ANSWERS):
        size = len(ask(path, question))
    used = processor_time(process.pid) - before
    used -= idle * (time.monotonic() - begin)
    return used * 1000 / ANSWERS, size


def server_figures(bench, base):
    """Returns processor time a second, and MiB, of the page's server."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    path = os.path.join(base, "gui.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"listen 127.0.0.1:{port}\nstatus {base}/status\n")
    url = f"http://127.0.0.1:{port}"

    def is_up():
        with urllib.request.urlopen(f"{url}/api/status") as answer:
            return json.load(answer)["server"]["state"] == "up"

    # As its unit starts it.
    with running(["node", "--max-semi-space-size=2",
                  os.path.join(bench.options.root, "gui/server.mjs"),
                  "-c", path], stderr=subprocess.DEVNULL) as server:
        wait_for(is_up, server)
        with running(["curl", "-sN", "-o", "/dev/null", f"{url}/api/events"]):
            before = processor_time(server.pid)
            time.sleep(OPEN_S)
            used = (processor_time(server.pid) - before) / OPEN_S
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            answer.read()
        paint = first_paint(bench, url)
        return used, peak_memory(server.pid), paint


def first_paint(bench, url):
    """Returns words on how fast a browser shows the page."""
    result = subprocess.run(
        [os.path.join(bench.options.root, "tests/bench/first_paint.mjs"),
         url, str(DEVICES)], stdout=subprocess.PIPE, check=False)
    if result.returncode != 0:
        return "no browser was there to paint it"
    times = json.loads(result.stdout)
    return (f"first paint after {times['paint_ms']} ms (aim: 1 s), all "
            f"devices shown after {times['shown_ms']} ms")


def figures(bench):
    """Returns lines for the document."""
    base = os.path.join(bench.directory, "s3blkdevd-page")
    shutil.rmtree(base, ignore_errors=True)
    os.makedirs(base, mode=0o700)
    config = write_config(base)
    status = os.path.join(base, "status")
    with running([bench.options.daemon, "-c", config]) as daemon:
        wait_for(lambda: len(json.loads(ask(status, "status"))["devices"])
                 == DEVICES, daemon)
        fill(base)
        subprocess.run([bench.options.sync, "-c", config, "-p",
                        os.path.join(base, "sync.pid"), "3600"], check=True)
        chunks = sum(device["chunks"] for device in
                     json.loads(ask(status, "status"))["devices"])
        answer_ms, size = cost_of(daemon, status, "status")
        map_ms, _ = cost_of(daemon, status, "map device=disk0 cells=4096")
        used, memory, paint = server_figures(bench, base)
    shutil.rmtree(base)
    return [
        f"- The status page, with {DEVICES} devices and {chunks:,} chunks: "
        f"{answer_ms:.1f} ms of the daemon's processor time for each answer "
        f"to `status`, of {size / 1000:.0f} kB, so {answer_ms / 10:.2f} % of "
        f"a core at one a second (aim: 1 %); {map_ms:.1f} ms for the map of "
        f"a device with {LARGE:,} chunks. The page's server: {used * 100:.1f} "
        f"% of a core with one page open, {memory:.0f} MiB (aim: 150 MiB); "
        f"{paint}."]
