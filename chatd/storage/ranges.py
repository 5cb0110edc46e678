"""Ranges over text and numbers.

Text is in code point order, which is how Python, SQLite's BINARY and MongoDB's simple collation
all compare it.
"""

from __future__ import annotations

from typing import Final

_GREATEST: Final = "\U0010ffff"

ENDLESS: Final = 2**62
"""A ``seq`` or a time that nothing reaches."""


def behind(text: str) -> str:
    """The least text greater than ``text``; the least of all texts that are not empty for ''."""
    return text + "\0"


def end_of(prefix: str) -> str:
    """A text behind everything that starts with ``prefix``.

    No address or name holds U+10FFFF, the greatest code point: it is no character.
    """
    return prefix + _GREATEST


def within_64_bits(number: int) -> int:
    """A number that a store can hold. Cursors come from clients, and may name any."""
    return max(-ENDLESS, min(number, ENDLESS))
