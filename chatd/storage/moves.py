"""How far a mark may move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from chatd.models import Mark, ReceiptKind


class Place(Protocol):
    """Where a user stands in a conversation."""

    delivered_seq: int
    read_seq: int


def moves(mark: Mark, place: Place) -> Iterator[tuple[ReceiptKind, int]]:
    """What the mark moves, the delivered mark first, and where each stood before.

    Moves ``place`` along. That the mark is not beyond the conversation's end, the caller knows.
    """
    stands = place.read_seq if mark.kind is ReceiptKind.READ else place.delivered_seq
    if mark.seq <= stands or stands < mark.since - 1:
        return
    if mark.seq > place.delivered_seq:
        old, place.delivered_seq = place.delivered_seq, mark.seq
        yield ReceiptKind.DELIVERED, old
    if mark.kind is ReceiptKind.READ:
        old, place.read_seq = place.read_seq, mark.seq
        yield ReceiptKind.READ, old
