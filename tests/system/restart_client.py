#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
restart_client - keep a device busy while its server is restarted, and see that
each request is answered once, without an error and with what was written.

usage: restart_client.py URI CONNECTIONS SEED

Reads, writes, trims, zeroes and flushes on all connections, all the time.
Commands come on standard input, and each is answered by a line:

  more N    when N more requests were answered: "more TOTAL"
  lose N    when so many connections were closed: "lose N"; from here on that
            is no error.  What was in flight on others is answered, and new
            connections compare all of the device: each sector holds the last
            write that was acknowledged, or one that was in flight
  end       finishes what is in flight, compares all of the device with what
            must be there, and tells the longest request: "longest SECONDS"

Ends with 1 and a word as soon as something is not as it must be.
"""

import os
import random
import select
import struct
import sys
import time

import nbd

SECTOR = 512
PAGE = 4096
DEPTH = 16  # requests in flight on each connection


def stamp(number, sector, count):
    """Returns the content that write number gives to count sectors."""
    if number == 0:
        return bytes(count * SECTOR)
    return b"".join(struct.pack("<QQ", number, sector + i) * (SECTOR // 16)
                    for i in range(count))


class Request:
    """One request in flight."""

    def __init__(self, kind, sector, count, number=0):
        self.kind = kind
        self.sector = sector
        self.count = count
        self.number = number
        self.begin = time.monotonic()
        self.is_answered = False


class Client:
    """The connections, and what is known of the device."""

    def __init__(self, uri, connections, seed):
        self.random = random.Random(seed)
        self.handles = []
        for _ in range(connections):
            handle = nbd.NBD()
            handle.connect_uri(uri)
            self.handles.append(handle)
        self.sectors = self.handles[0].get_size() // SECTOR
        self.known = [0] * self.sectors  # number of the last write
        self.busy = set()  # sectors of requests in flight
        self.number = 0
        self.answered = 0
        self.longest = 0.0
        self.uri = uri
        self.wanted = None  # how many are to be answered
        self.may_lose = 0  # how many connections will be closed
        self.in_flight = set()
        self.typed = b""
        self.is_ended = False

    def choose(self):
        """Returns a new request that overlaps none in flight, or None."""
        dice = self.random.random()
        if dice < 0.02:
            return Request("flush", 0, 0)
        count = self.random.choice([1, 3, 8, 8, 8, 16, 65, 256, 1024])
        area = self.sectors if dice < 0.6 else self.sectors // 8
        sector = self.random.randrange(area - count)
        kind = self.random.choices(["write", "read", "trim", "zero"],
                                   [50, 40, 5, 5])[0]
        if kind in ("trim", "zero"):
            sector -= sector % (PAGE // SECTOR)
            count = max(count - count % 8, 8)
        if any(s in self.busy for s in range(sector, sector + count)):
            return None
        self.number += kind == "write"
        return Request(kind, sector, count,
                       self.number if kind == "write" else 0)

    def submit(self, handle, request):
        """Send a request, and keep account of it."""
        at, size = request.sector * SECTOR, request.count * SECTOR
        buffer = None

        def completed(error):
            if error.value != 0 and self.may_lose > 0:
                return 1
            if error.value != 0:
                sys.exit(f"{request.kind} at sector {request.sector}: "
                         f"{os.strerror(error.value)}")
            self.take_answer(request, buffer)
            return 1

        self.busy.update(range(request.sector,
                               request.sector + request.count))
        self.in_flight.add(request)
        if request.kind == "flush":
            handle.aio_flush(completion=completed)
        elif request.kind == "write":
            data = stamp(request.number, request.sector, request.count)
            flags = nbd.CMD_FLAG_FUA if self.random.random() < 0.02 else 0
            handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), at,
                              completion=completed, flags=flags)
        elif request.kind == "read":
            buffer = nbd.Buffer(size)
            handle.aio_pread(buffer, at, completion=completed)
        elif request.kind == "trim":
            handle.aio_trim(size, at, completion=completed)
        else:
            handle.aio_zero(size, at, completion=completed)

    def take_answer(self, request, buffer):
        """A request was answered."""
        if request.is_answered:
            sys.exit(f"{request.kind} at sector {request.sector}: "
                     "two answers")
        request.is_answered = True
        self.in_flight.remove(request)
        self.answered += 1
        self.longest = max(self.longest, time.monotonic() - request.begin)
        sectors = range(request.sector, request.sector + request.count)
        if request.kind == "read":
            self.compare(request.sector, buffer.to_bytearray())
        elif request.kind != "trim":
            for sector in sectors:
                self.known[sector] = request.number
        else:
            for sector in sectors:
                self.known[sector] = 0
        self.busy.difference_update(sectors)

    def compare(self, first, data, maybe=None):
        """Compare what was read with what must be there, or may be."""
        for i in range(len(data) // SECTOR):
            sector = first + i
            found = bytes(data[i * SECTOR:(i + 1) * SECTOR])
            if found == stamp(self.known[sector], sector, 1):
                continue
            if maybe and sector in maybe and \
                    found == stamp(maybe[sector], sector, 1):
                self.known[sector] = maybe[sector]
            else:
                number, where = struct.unpack("<QQ", found[:16])
                sys.exit(f"sector {sector}: has write {number} of sector "
                         f"{where}, wanted {self.known[sector]}")

    def count_in_flight(self):
        """Returns how many requests wait for their answers."""
        return sum(handle.aio_in_flight() for handle in self.handles)

    def obey(self):
        """Carry out what standard input says."""
        data = os.read(0, 4096)
        if not data:
            sys.exit("standard input has ended")
        self.typed += data
        *lines, self.typed = self.typed.split(b"\n")
        for line in lines:
            verb, *arguments = line.decode().split()
            if verb == "more":
                self.wanted = self.answered + int(arguments[0])
            elif verb == "lose":
                self.may_lose = int(arguments[0])
            else:
                self.is_ended = True

    def tell(self):
        """Answer what has come to be."""
        if self.wanted is not None and self.answered >= self.wanted:
            print(f"more {self.answered}", flush=True)
            self.wanted = None

    def lose(self):
        """Connections were closed: see what has become of the device."""
        lost = [handle for handle in self.handles if is_lost(handle)]
        if len(lost) < self.may_lose:
            return
        for handle in self.handles:
            try:
                while not is_lost(handle) and handle.aio_in_flight() > 0:
                    handle.poll(-1)
            except nbd.Error:
                pass  # it is lost then
        lost = [handle for handle in self.handles if is_lost(handle)]
        if len(lost) != self.may_lose:
            sys.exit(f"{len(lost)} connections were closed")
        for i, handle in enumerate(self.handles):
            if handle in lost:
                self.handles[i] = nbd.NBD()
                self.handles[i].connect_uri(self.uri)
        maybe = {sector: request.number for request in self.in_flight
                 if request.kind not in ("read", "flush")
                 for sector in range(request.sector,
                                     request.sector + request.count)}
        self.in_flight.clear()
        self.busy.clear()
        self.compare_all(maybe)
        print(f"lose {self.may_lose}", flush=True)
        self.may_lose = 0

    def work(self):
        """Keep all connections busy until the end."""
        while not self.is_ended or self.count_in_flight() > 0:
            poll = select.poll()
            poll.register(0, select.POLLIN)
            for handle in self.handles:
                for _ in range(2 * DEPTH):
                    if self.is_ended or is_lost(handle) or \
                            handle.aio_in_flight() >= DEPTH:
                        break
                    request = self.choose()
                    if request:
                        self.submit(handle, request)
                if is_lost(handle):
                    continue
                events = 0
                if handle.aio_get_direction() & nbd.AIO_DIRECTION_READ:
                    events |= select.POLLIN
                if handle.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
                    events |= select.POLLOUT
                poll.register(handle.aio_get_fd(), events)
            ready = dict(poll.poll())
            for handle in self.handles:
                if is_lost(handle):
                    continue
                events = ready.get(handle.aio_get_fd(), 0)
                try:
                    if events & (select.POLLIN | select.POLLHUP):
                        handle.aio_notify_read()
                    elif events & select.POLLOUT:
                        handle.aio_notify_write()
                except nbd.Error:
                    if self.may_lose == 0:
                        raise
                if is_lost(handle) and self.may_lose == 0:
                    sys.exit("a connection was closed")
            if 0 in ready:
                self.obey()
            if self.may_lose > 0:
                self.lose()
            self.tell()

    def compare_all(self, maybe=None):
        """Compare all of the device."""
        step = 2048
        for first in range(0, self.sectors, step):
            count = min(step, self.sectors - first)
            self.compare(first,
                         self.handles[0].pread(count * SECTOR, first * SECTOR),
                         maybe)


def is_lost(handle):
    """Returns whether the connection was closed."""
    return handle.aio_is_dead() or handle.aio_is_closed()


def main():
    """Do what the usage says."""
    client = Client(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print("connected", flush=True)
    client.work()
    client.compare_all()
    for handle in client.handles:
        handle.shutdown()
    print(f"longest {client.longest:.2f}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except nbd.Error as error:
        sys.exit(f"{error.string}")
