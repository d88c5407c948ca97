# SPDX-License-Identifier: BSD-2-Clause
"""
writer - a client of one device that knows what must be on it.

It writes, zeroes, trims, flushes and reads pages on two connections, in a
process of its own; what it reads is compared at once.  When its server is
gone it connects again, sends once more what was not answered, and goes on, as
nbd-client in the kernel does with s3blkdev-attach.  See model.py for what it
can say of the device, and of images of it.
"""

import multiprocessing
import random
import select
import sys
import threading
import time
import traceback

import nbd

import model

CONNECTIONS = 2
DEPTH = 8  # requests in flight on each of them
PATIENCE_S = 600  # for a server that is away, or a request without an answer
RUNS = [1, 1, 1, 2, 4, 16, 32]  # pages of a request


class Request:
    """One request in flight."""

    def __init__(self, kind, pages, number=0, wanted=()):
        self.kind = kind
        self.pages = pages
        self.number = number  # of a write
        self.wanted = wanted  # for each page of a read: which write is there
        self.since = time.monotonic()
        self.buffer = None
        self.is_answered = False
        self.error = 0


class Client:
    """The connections, and what is known of the device."""

    def __init__(self, uri, seed, rate):
        self.uri = uri
        self.random = random.Random(seed)
        self.interval = 1 / rate
        self.next_at = time.monotonic()
        self.history = model.History(CONNECTIONS * DEPTH)
        self.handles = []
        self.in_flight = [set() for _ in range(CONNECTIONS)]
        self.busy = set()  # pages of requests in flight
        self.connect()
        self.pages = self.handles[0].get_size() // model.PAGE
        self.known = [0] * self.pages
        self.answered = 0
        self.breaks = 0  # how often the server was gone
        self.longest = 0.0  # seconds that a request took since the last sample

    # ---- connections ------------------------------------------------------

    def connect(self):
        """Connect, however long the server is away."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.handles = [self.connected() for _ in range(CONNECTIONS)]
                return
            except nbd.Error as error:
                if not multiprocessing.parent_process().is_alive():
                    sys.exit(1)
                if time.monotonic() > deadline:
                    raise model.Wrong(f"the server stays away: {error.string}")
                time.sleep(0.1)

    def connected(self):
        """Returns a new connection."""
        handle = nbd.NBD()
        handle.connect_uri(self.uri)
        return handle

    def again(self):
        """The server is gone: connect, and send once more what it owes."""
        self.breaks += 1
        owed, self.in_flight = self.in_flight, [set() for _ in self.handles]
        # That closes them: a server that is there after all must not have an
        # old copy of what is sent once more.
        self.handles = []
        self.connect()
        size = self.handles[0].get_size() // model.PAGE
        self.known += [0] * (size - self.pages)  # it may have grown
        self.pages = size
        for index, requests in enumerate(owed):
            for request in sorted(requests, key=lambda r: r.since):
                if not request.is_answered:
                    self.send(index, request)

    # ---- requests ---------------------------------------------------------

    def choose(self):
        """Returns a new request, or None if it would overlap another."""
        dice = self.random.random()
        if dice < 0.06:
            return Request("flush", range(0))
        count = self.random.choice(RUNS)
        # Half of it in a quarter of the device: hot and cold.
        area = self.pages // 4 if self.random.random() < 0.5 else self.pages
        first = self.random.randrange(area - count)
        pages = range(first, first + count)
        if not self.busy.isdisjoint(pages):
            return None
        self.busy.update(pages)
        if dice < 0.35:
            return Request("read", pages,
                           wanted=self.known[first:first + count])
        kind = ("trim" if dice > 0.97 else "zero" if dice > 0.94 else
                "fua" if dice > 0.92 else "write")
        is_zero = kind in ("trim", "zero")
        return Request(kind, pages,
                       self.history.begin(first, count, is_zero))

    def send(self, index, request):
        """Send it on a connection."""
        def completed(error):
            request.is_answered = True
            request.error = error.value
            return 1

        handle = self.handles[index]
        at = request.pages.start * model.PAGE
        size = len(request.pages) * model.PAGE
        self.in_flight[index].add(request)
        if request.kind == "flush":
            handle.aio_flush(completion=completed)
        elif request.kind == "read":
            request.buffer = nbd.Buffer(size)
            handle.aio_pread(request.buffer, at, completion=completed)
        elif request.kind == "trim":
            handle.aio_trim(size, at, completion=completed)
        elif request.kind == "zero":
            handle.aio_zero(size, at, completion=completed)
        else:
            data = b"".join(model.page_of(request.number, page)
                            for page in request.pages)
            handle.aio_pwrite(
                nbd.Buffer.from_bytearray(bytearray(data)), at,
                completion=completed,
                flags=nbd.CMD_FLAG_FUA if request.kind == "fua" else 0)

    def finish(self, request):
        """It was answered: is that right?"""
        self.answered += 1
        self.longest = max(self.longest, time.monotonic() - request.since)
        self.busy.difference_update(request.pages)
        if request.error:
            raise model.Wrong(f"{request.kind} of pages {request.pages}: "
                              f"error {request.error}")
        if request.kind == "read":
            data = bytes(request.buffer.to_bytearray())
            for i, page in enumerate(request.pages):
                found = model.number_in(
                    data[i * model.PAGE:(i + 1) * model.PAGE], page)
                if found != request.wanted[i]:
                    raise model.Wrong(f"page {page} reads as write {found}, "
                                      f"not {request.wanted[i]}")
        elif request.number:
            is_zero = self.history.is_zero[request.number]
            for page in request.pages:
                self.known[page] = 0 if is_zero else request.number
            self.history.answered(request.number)

    # ---- the loop ---------------------------------------------------------

    def submit(self):
        """Send what is due, and find room for."""
        now = time.monotonic()
        # What was not sent while the server was away is not made up for.
        self.next_at = max(self.next_at, now - 1)
        while self.next_at <= now:
            index = min(range(CONNECTIONS),
                        key=lambda i: len(self.in_flight[i]))
            if len(self.in_flight[index]) >= DEPTH:
                return
            self.next_at += self.interval
            request = self.choose()
            if request:
                self.send(index, request)

    def transfer(self, more, timeout_s):
        """Wait for something, at most so long, and have it done.  Returns
        whether there is a command."""
        poll = select.poll()
        poll.register(more, select.POLLIN)
        for handle in self.handles:
            direction = handle.aio_get_direction()
            events = 0
            if direction & nbd.AIO_DIRECTION_READ:
                events |= select.POLLIN
            if direction & nbd.AIO_DIRECTION_WRITE:
                events |= select.POLLOUT
            poll.register(handle.aio_get_fd(), events)
        ready = dict(poll.poll(1000 * timeout_s))
        for handle in self.handles:
            events = ready.get(handle.aio_get_fd(), 0)
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                handle.aio_notify_read()
            elif events & select.POLLOUT:
                handle.aio_notify_write()
        return more in ready

    def step(self, more, may_send):
        """Once around.  Returns whether there is a command."""
        has_command = False
        try:
            if may_send:
                self.submit()
            wait = max(self.next_at - time.monotonic(), 0.001)
            has_command = self.transfer(more, wait if may_send else 0.1)
        except nbd.Error:
            pass  # a connection is dead, below
        # What a dead connection answered before it died was answered.
        is_dead = any(h.aio_is_dead() or h.aio_is_closed()
                      for h in self.handles)
        for requests in self.in_flight:
            for request in [r for r in requests
                            if r.is_answered and not (is_dead and r.error)]:
                requests.remove(request)
                self.finish(request)
        if is_dead:
            for requests in self.in_flight:
                for request in requests:
                    request.is_answered = False
            self.again()
        self.look_for_hangs()
        return has_command

    def look_for_hangs(self):
        """Say Wrong if a request has been without an answer for ever."""
        oldest = min((r.since for rs in self.in_flight for r in rs),
                     default=time.monotonic())
        if time.monotonic() - oldest > PATIENCE_S:
            raise model.Wrong(f"no answer for {PATIENCE_S} s")

    # ---- commands ---------------------------------------------------------

    def sample(self):
        """Returns counters, and begins a new interval."""
        now = time.monotonic()
        waiting = [now - r.since for rs in self.in_flight for r in rs]
        found = {"answered": self.answered, "breaks": self.breaks,
                 "longest": max([self.longest] + waiting)}
        self.longest = 0.0
        return found

    def numbers(self, uri, pages=None):
        """Returns the number in each page of a whole device."""
        handle = nbd.NBD()
        handle.connect_uri(uri)
        pages = pages or handle.get_size() // model.PAGE
        numbers = model.numbers_of(
            lambda first, count: handle.pread(count * model.PAGE,
                                              first * model.PAGE), pages)
        handle.shutdown()
        return numbers

    def compare(self):
        """Compare all of the device, with nothing in flight, with what is
        known.  Returns how many pages that are."""
        numbers = self.numbers(self.uri, self.pages)
        for page, found in enumerate(numbers):
            if found != self.known[page]:
                raise model.Wrong(f"page {page} has write {found}, not "
                                  f"{self.known[page]}")
        return self.pages

    def check(self, uri, at_least):
        """Check an image.  Returns how many writes behind the last it is."""
        newest = self.history.check(self.numbers(uri), at_least)
        return len(self.history.first) - 1 - newest


def serve(client, pipe, checks):
    """Work until told to stop, and to end."""
    is_working = True
    while True:
        if is_working and not client.step(pipe.fileno(), True):
            continue
        name, *arguments = pipe.recv()
        if name == "end":
            return
        if name == "stop":
            while any(client.in_flight):
                client.step(pipe.fileno(), False)
            is_working = False
            client.handles = []
            pipe.send(("ok", None))
        elif name == "mark":
            pipe.send(("ok", client.history.mark()))
        elif name == "check":
            # The work goes on in a process that has a copy of what is known.
            check(client, arguments, checks)
        else:
            pipe.send(("ok", getattr(client, name)(*arguments)))


def check(client, arguments, checks):
    """Check an image in a process of its own, which answers."""
    def run():
        try:
            answer = ("ok", client.check(*arguments))
        except (model.Wrong, nbd.Error) as error:
            answer = ("wrong", str(error))
        checks.send(answer)

    multiprocessing.get_context("fork").Process(target=run).start()


def main(uri, seed, rate, pipe, checks):
    """The process."""
    try:
        serve(Client(uri, seed, rate), pipe, checks)
    except model.Wrong as error:
        pipe.send(("wrong", str(error)))
    except Exception:  # pylint: disable=broad-except
        pipe.send(("wrong", traceback.format_exc()))
        sys.exit(1)


class Writer:
    """The process, for who has started it."""

    def __init__(self, uri, seed, rate):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.checks, theirs_too = context.Pipe()
        self.process = context.Process(
            target=main, args=(uri, seed, rate, theirs, theirs_too))
        self.process.start()
        theirs.close()
        self.lock = threading.Lock()

    def ask(self, *command):
        """Returns the answer to a command; Wrong if something is."""
        with self.lock:
            try:
                self.pipe.send(command)
            except BrokenPipeError:
                pass  # it has said why
            return self.answer(self.pipe)

    def check(self, uri, at_least):
        """Check an image, while everything goes on; see Client.check."""
        with self.lock:
            self.pipe.send(("check", uri, at_least))
        return self.answer(self.checks)

    def answer(self, pipe):
        """Returns what it says."""
        try:
            if not pipe.poll(PATIENCE_S + 60):
                raise model.Wrong("the writer does not answer")
            verdict, value = pipe.recv()
        except (EOFError, ConnectionError):
            raise model.Wrong("the writer ended") from None
        if verdict != "ok":
            raise model.Wrong(value)
        return value

    def end(self):
        """End it."""
        if self.process.is_alive():
            try:
                self.pipe.send(("end",))
            except ConnectionError:
                pass
            self.process.join(30)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
