"""Broken on purpose: one of two fails."""

import unittest

from careless import __main__ as careless


class Careless(unittest.TestCase):
    def test_has_a_page(self):
        self.assertTrue(callable(careless.main))

    def test_greets_politely(self):
        self.assertEqual(careless.GREETING, b"Welcome!\n")
