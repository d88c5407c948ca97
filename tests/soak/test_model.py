#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""test_model - what the soak believes of an image can be wrong."""

import sys
import unittest

sys.dont_write_bytecode = True  # nothing beside the sources
import model

PAGES = 8


class CheckTest(unittest.TestCase):
    """An image of a device, told by the numbers in its pages."""

    def setUp(self):
        self.history = model.History(2)

    def write(self, page, is_zero=False):
        """A write that is answered."""
        number = self.history.begin(page, 1, is_zero)
        self.history.answered(number)
        return number

    def refuses(self, numbers, at_least=1):
        """The check says that this is wrong."""
        with self.assertRaises(model.Wrong):
            self.history.check(numbers, at_least)

    def image(self, **pages):
        """The numbers of an image: p3=7 is write 7 in page 3."""
        numbers = [0] * PAGES
        for name, number in pages.items():
            numbers[int(name[1:])] = number
        return numbers

    def test_every_instant_is_right(self):
        """Of writes that came one after the other."""
        for page in (0, 1, 0, 2):
            self.write(page)
        for image in (self.image(), self.image(p0=1), self.image(p0=1, p1=2),
                      self.image(p0=3, p1=2), self.image(p0=3, p1=2, p2=4)):
            self.assertEqual(self.history.check(image, 1), max(image))

    def test_a_lost_write(self):
        """An older one is not there, a newer one is."""
        for page in (0, 1, 0, 2):
            self.write(page)
        self.refuses(self.image(p0=1, p1=2, p2=4))
        self.refuses(self.image(p0=3))

    def test_in_flight_together(self):
        """Either of two may be there alone."""
        first, second = (self.history.begin(page, 1, False) for page in (0, 1))
        self.assertEqual(self.history.check(self.image(p0=first), 1), first)
        self.assertEqual(self.history.check(self.image(p1=second), 1), second)
        self.history.answered(first)
        third = self.history.begin(2, 1, False)
        self.refuses(self.image(p2=third))
        self.history.check(self.image(p0=first, p2=third), 1)

    def test_too_old(self):
        """It lacks what was answered before the image was begun."""
        self.write(0)
        mark = self.history.mark()
        self.refuses(self.image(), mark)
        self.history.check(self.image(p0=1), mark)

    def test_zeros(self):
        """They are a write, too."""
        self.write(0)
        self.write(0, is_zero=True)
        for page in range(1, 7):
            self.write(page)
        newest = self.image(p1=3, p2=4, p3=5, p4=6, p5=7, p6=8)
        self.history.check(newest, 1)
        self.refuses([1] + newest[1:])
        self.refuses(self.image(p2=4, p3=5, p4=6, p5=7, p6=8))

    def test_a_write_that_was_never_made(self):
        """A number too high."""
        self.refuses(self.image(p0=1))


class PageTest(unittest.TestCase):
    """The content of a page."""

    def test_tells_its_write(self):
        """And zeros tell none."""
        self.assertEqual(model.number_in(model.page_of(9, 3), 3), 9)
        self.assertEqual(model.number_in(model.ZEROS, 3), 0)

    def test_damage(self):
        """Of any byte, or another page's content."""
        page = model.page_of(9, 3)
        for at in (0, 8, 16, 24, 2047, 4095):
            bad = page[:at] + bytes([page[at] ^ 1]) + page[at + 1:]
            with self.assertRaises(model.Wrong):
                model.number_in(bad, 3)
        with self.assertRaises(model.Wrong):
            model.number_in(page, 4)


if __name__ == "__main__":
    unittest.main()
