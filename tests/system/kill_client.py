#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
kill_client - kill s3blkdevd under load again and again, and see what is left.

usage: kill_client.py ROUNDS SEED URI DAEMON ARGUMENT...

Starts the daemon, writes, trims and flushes on four connections, kills it by
SIGKILL when so many requests have been answered as the seed says, starts it
again and compares all of the device with a model: every sector holds the last
acknowledged write, or one that was in flight; nothing else.  Then, as a
client does that had lost its server, it connects again, sends once more what
was not answered, flushes, and goes on.
"""

import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile

import nbd

SECTOR = 512
PAGE = 4096
CONNECTIONS = 4
DEPTH = 8  # requests in flight on each of them


def stamp(number, sector, count):
    """Returns the content that write number gives to count sectors."""
    if number == 0:
        return bytes(count * SECTOR)
    return b"".join(struct.pack("<QQ", number, sector + i) * (SECTOR // 16)
                    for i in range(count))


class Daemon:
    """s3blkdevd, started and killed."""

    def __init__(self, command):
        self.command = command
        self.process = None

    def start(self):
        """Return when it serves."""
        with tempfile.TemporaryDirectory() as directory:
            address = os.path.join(directory, "notify")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.bind(address)
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL,
                    env={**os.environ, "NOTIFY_SOCKET": address})
                pidfd = os.pidfd_open(self.process.pid)
                try:
                    self.wait_ready(notify, pidfd)
                finally:
                    os.close(pidfd)

    def wait_ready(self, notify, pidfd):
        """Return when it says so; fail if it ends."""
        while True:
            readable, _, _ = select.select([notify, pidfd], [], [])
            if notify in readable and b"READY=1" in notify.recv(4096):
                return
            if pidfd in readable:
                sys.exit(f"the daemon ended: {self.process.wait()}")

    def kill(self):
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Stop in order."""
        self.process.terminate()
        if self.process.wait() != 0:
            sys.exit(f"the daemon stopped with {self.process.returncode}")


class Request:
    """One request in flight."""

    def __init__(self, kind, number, sector, count):
        self.kind = kind
        self.number = number
        self.sector = sector
        self.count = count
        self.is_answered = False


class Client:
    """Four connections and what they know."""

    def __init__(self, uri, size, seed):
        self.uri = uri
        self.sectors = size // SECTOR
        self.random = random.Random(seed)
        self.known = [0] * self.sectors  # number of the last acknowledged
        self.busy = set()  # sectors of requests in flight
        self.in_flight = []
        self.handles = []
        self.number = 0
        self.answered = 0

    def connect(self):
        """Connect all."""
        self.handles = []
        for _ in range(CONNECTIONS):
            handle = nbd.NBD()
            handle.connect_uri(self.uri)
            self.handles.append(handle)

    def choose(self):
        """Returns a new request that overlaps none in flight, or None."""
        dice = self.random.random()
        if dice < 0.04 and self.handles[0].can_flush():
            return Request("flush", 0, 0, 0)
        count = self.random.choice([1, 1, 3, 8, 8, 8, 16, 65, 256])
        area = self.sectors if dice < 0.5 else self.sectors // 16
        sector = self.random.randrange(area - count)
        kind = "write"
        if dice > 0.9:
            kind = "trim" if dice > 0.95 else "zero"
            sector -= sector % (PAGE // SECTOR)
            count = max(count - count % 8, 8)
        if any(s in self.busy for s in range(sector, sector + count)):
            return None
        self.number += 1
        return Request(kind, self.number if kind == "write" else 0, sector,
                       count)

    def submit(self, handle, request):
        """Send a request."""
        def completed(error):
            if error.value == 0:
                self.answer(request)
            return 1

        at = request.sector * SECTOR
        if request.kind == "flush":
            handle.aio_flush(completion=completed)
        elif request.kind == "write":
            data = stamp(request.number, request.sector, request.count)
            flags = nbd.CMD_FLAG_FUA if self.random.random() < 0.02 else 0
            handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), at,
                              completion=completed, flags=flags)
        elif request.kind == "trim":
            handle.aio_trim(request.count * SECTOR, at, completion=completed)
        else:
            handle.aio_zero(request.count * SECTOR, at, completion=completed)

    def begin(self, handle, request):
        """Keep account of a request, and send it."""
        self.busy.update(range(request.sector,
                               request.sector + request.count))
        self.in_flight.append(request)
        self.submit(handle, request)

    def answer(self, request):
        """A request was acknowledged."""
        request.is_answered = True
        self.answered += 1
        for sector in range(request.sector, request.sector + request.count):
            self.known[sector] = request.number
        self.busy.difference_update(
            range(request.sector, request.sector + request.count))
        self.in_flight.remove(request)

    def work(self, until):
        """Keep all connections busy until so many requests were answered."""
        poll = select.poll()
        while self.answered < until:
            for handle in self.handles:
                for _ in range(2 * DEPTH):
                    if handle.aio_in_flight() >= DEPTH:
                        break
                    request = self.choose()
                    if request:
                        self.begin(handle, request)
            for handle in self.handles:
                events = 0
                if handle.aio_get_direction() & nbd.AIO_DIRECTION_READ:
                    events |= select.POLLIN
                if handle.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
                    events |= select.POLLOUT
                poll.register(handle.aio_get_fd(), events)
            ready = dict(poll.poll())
            for handle in self.handles:
                events = ready.get(handle.aio_get_fd(), 0)
                if events & select.POLLIN:
                    handle.aio_notify_read()
                elif events & select.POLLOUT:
                    handle.aio_notify_write()

    def finish(self):
        """Return when all that is in flight was answered."""
        for handle in self.handles:
            while handle.aio_in_flight() > 0:
                handle.poll(-1)

    def compare(self):
        """Compare the device with the model after a kill."""
        handle = self.handles[0]
        maybe = {}
        for request in self.in_flight:
            for sector in range(request.sector,
                                request.sector + request.count):
                maybe[sector] = request.number
        step = 2048
        for first in range(0, self.sectors, step):
            count = min(step, self.sectors - first)
            data = handle.pread(count * SECTOR, first * SECTOR)
            for i in range(count):
                sector = first + i
                found = bytes(data[i * SECTOR:(i + 1) * SECTOR])
                if found == stamp(self.known[sector], sector, 1):
                    continue
                if sector in maybe and \
                        found == stamp(maybe[sector], sector, 1):
                    self.known[sector] = maybe[sector]
                    continue
                number, where = struct.unpack("<QQ", found[:16])
                sys.exit(f"sector {sector}: has write {number} (of sector "
                         f"{where}), whole: "
                         f"{found == stamp(number, where, 1)}; wanted "
                         f"{self.known[sector]}, or in flight "
                         f"{maybe.get(sector)}")

    def resume(self):
        """Send again what was not answered, and flush."""
        lost, self.in_flight = self.in_flight, []
        self.busy = set()
        for i, request in enumerate(lost):
            if request.kind != "flush":
                self.begin(self.handles[i % CONNECTIONS], request)
        self.finish()
        if self.handles[0].can_flush():
            self.handles[0].flush()


def main():
    """Do what the usage says."""
    rounds, seed, uri = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    daemon = Daemon(sys.argv[4:])
    daemon.start()
    handle = nbd.NBD()
    handle.connect_uri(uri)
    client = Client(uri, handle.get_size(), seed)
    handle.shutdown()
    client.connect()
    for number in range(rounds):
        client.work(client.answered + client.random.randrange(1, 3000))
        in_flight = len(client.in_flight)
        daemon.kill()
        daemon.start()
        client.connect()
        client.compare()
        # Sometimes it is killed again before anybody writes.
        if client.random.random() < 0.2:
            daemon.kill()
            daemon.start()
            client.connect()
            client.compare()
        client.resume()
        print(f"round {number}: {client.answered} answered, {in_flight} in "
              "flight when killed", flush=True)
    client.in_flight = []
    client.compare()
    daemon.stop()
    daemon.start()
    client.connect()
    client.compare()
    daemon.stop()


if __name__ == "__main__":
    try:
        main()
    except nbd.Error as error:
        sys.exit(f"{error.string}")
