# SPDX-License-Identifier: BSD-2-Clause
"""
model - what a device that was written by one client may hold.

Every write has a number, which is in each page that it wrote.  With the list
of all writes that is enough to say whether a whole device is what it was at
some instant: of the newest write that can be seen in it, all that had been
answered before that one was sent must be there, too.
"""

import array
import hashlib
import struct

PAGE = 4096
HEAD = struct.Struct("<8sQQ")
MAGIC = b"soakpage"
NOISE = 2048  # bytes of a page that do not compress
ZEROS = bytes(PAGE)


class Wrong(Exception):
    """The device holds what it may not."""


def page_of(number, page):
    """Returns what write number puts into a page."""
    head = HEAD.pack(MAGIC, number, page)
    noise = hashlib.shake_128(head).digest(NOISE - HEAD.size)
    return head + noise + bytes(PAGE - NOISE)


def number_in(content, page):
    """Returns which write made this page: 0 if it is all zeros."""
    if content == ZEROS:
        return 0
    magic, number, where = HEAD.unpack_from(content)
    if magic != MAGIC or where != page or content != page_of(number, page):
        raise Wrong(f"page {page} is torn, or another's: it begins with "
                    f"{bytes(content[:24]).hex()}")
    return number


class History:
    """All writes, by their numbers from 1: no two in flight overlap."""

    def __init__(self, depth):
        self.depth = depth  # most writes in flight
        self.first = array.array("L", [0])
        self.count = array.array("H", [0])
        self.is_zero = array.array("B", [0])
        self.before = array.array("L", [1])  # all below were answered by then
        self.in_flight = set()

    def begin(self, first, count, is_zero):
        """A write of these pages is sent.  Returns its number."""
        number = len(self.first)
        self.in_flight.add(number)
        self.first.append(first)
        self.count.append(count)
        self.is_zero.append(is_zero)
        self.before.append(min(self.in_flight))
        return number

    def answered(self, number):
        """It was answered."""
        self.in_flight.remove(number)

    def mark(self):
        """Returns a number: all writes below it are answered by now."""
        return min(self.in_flight, default=len(self.first))

    def pages(self, number):
        """Returns the pages of a write."""
        first = self.first[number]
        return range(first, first + self.count[number])

    def newest(self, pages, below):
        """Returns for each page the newest write below that number."""
        found = array.array("L", bytes(8 * pages))
        for number in range(1, min(below, len(self.first))):
            for page in self.pages(number):
                found[page] = number
        return found

    def check(self, numbers, at_least):
        """Say Wrong unless a device, told by the numbers in its pages, is
        what this one was at an instant when all writes below at_least had
        been answered.  Returns the newest write in it.

        Zeros do not tell which write made them: those that were sent shortly
        after the newest visible write are taken for part of it, too."""
        newest = max(numbers, default=0)
        if newest >= len(self.first):
            raise Wrong(f"there is write {newest} of {len(self.first) - 1}")
        floor = max(self.before[newest], at_least)
        base = self.newest(len(numbers), floor)
        later = {}
        for number in range(floor, min(newest + 2 * self.depth,
                                       len(self.first))):
            for page in self.pages(number):
                later.setdefault(page, []).append(number)
        for page, found in enumerate(numbers):
            allowed = [base[page]] + later.get(page, [])
            if found not in [0 if self.is_zero[n] else n for n in allowed]:
                raise Wrong(
                    f"page {page} has write {found} of {newest}, with all "
                    f"below {floor}; it may have {allowed}")
        return newest


def numbers_of(read, pages, step=256):
    """Returns the number in each page of what read(first, count) reads."""
    numbers = array.array("L")
    for first in range(0, pages, step):
        count = min(step, pages - first)
        data = bytes(read(first, count))
        for i in range(count):
            numbers.append(number_in(data[i * PAGE:(i + 1) * PAGE],
                                     first + i))
    return numbers
