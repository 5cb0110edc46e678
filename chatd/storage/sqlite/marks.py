"""Moving delivered and read marks in SQLite, hundreds at a time."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from chatd.models import Advance, Mark, ReceiptKind, other_of, pair_of
from chatd.storage.moves import moves
from chatd.storage.sqlite.conversations import Conversations
from chatd.storage.sqlite.rows import as_json, fetch


class _Place(msgspec.Struct, array_like=True):
    """A row of ``marks``."""

    conversation: int
    user: str
    delivered_seq: int
    read_seq: int


class _Range(NamedTuple):
    """The messages of a conversation behind ``old``, up to ``seq``."""

    conversation: int
    old: int
    seq: int


_Written = Mapping[_Range, Mapping[str, int]]
"""How many messages each sender wrote in a range."""


class _Move(NamedTuple):
    mark: Mark
    kind: ReceiptKind
    place: _Place
    range: _Range


_PLACES: Final = msgspec.json.Decoder(list[_Place])
_WRITTEN: Final = msgspec.json.Decoder(list[tuple[int, str, int]])

_FIND_PLACES: Final = """
    SELECT json_group_array(json_array(marks.conversation, user, delivered_seq, read_seq))
    FROM json_each(:wanted) JOIN marks
    ON marks.conversation = json_extract(value, '$[0]') AND user = json_extract(value, '$[1]')
"""

_COUNT_WRITTEN: Final = """
    SELECT json_group_array(json_array(place, sender, written)) FROM (
        SELECT json_each.key AS place, sender, count(*) AS written
        FROM json_each(:ranges) JOIN messages
        ON conversation = json_extract(value, '$[0]')
        AND seq > json_extract(value, '$[1]') AND seq <= json_extract(value, '$[2]')
        GROUP BY place, sender
    )
"""

_STORE_PLACES: Final = """
    UPDATE marks
    SET delivered_seq = moved.delivered_seq, read_seq = moved.read_seq,
        own_after_read = own_after_read - moved.own_read
    FROM (
        SELECT json_extract(value, '$[0]') AS conversation, json_extract(value, '$[1]') AS user,
               json_extract(value, '$[2]') AS delivered_seq,
               json_extract(value, '$[3]') AS read_seq,
               json_extract(value, '$[4]') AS own_read
        FROM json_each(?)
    ) AS moved
    WHERE marks.conversation = moved.conversation AND marks.user = moved.user
"""

_STORE_RECEIPTS: Final = """
    UPDATE messages SET {column} = covered.at
    FROM (
        SELECT json_extract(value, '$[0]') AS conversation, json_extract(value, '$[1]') AS old,
               json_extract(value, '$[2]') AS seq, json_extract(value, '$[3]') AS sender,
               json_extract(value, '$[4]') AS at
        FROM json_each(?)
    ) AS covered
    WHERE messages.conversation = covered.conversation AND messages.sender = covered.sender
    AND messages.seq > covered.old AND messages.seq <= covered.seq
"""

_STORE_RECEIPTS_OF: Final = MappingProxyType(
    {
        ReceiptKind.DELIVERED: _STORE_RECEIPTS.format(column="delivered_at"),
        ReceiptKind.READ: _STORE_RECEIPTS.format(column="read_at"),
    }
)


def advance(
    db: sqlite3.Connection, conversations: Conversations, marks: Sequence[Mark]
) -> list[Advance]:
    conversations.make_room()
    moves = list(_moves(db, conversations, marks))
    if not moves:
        return []
    written = _written(db, {move.range for move in moves})
    _store_places(db, moves, written)
    for kind in ReceiptKind:
        _store_receipts(db, kind, moves)
    return [_advance(move, written[move.range]) for move in moves]


def _moves(
    db: sqlite3.Connection, conversations: Conversations, marks: Sequence[Mark]
) -> Iterator[_Move]:
    """The moves that the marks may make, in order; the places are moved along."""
    known = [(mark, conversations.find(db, mark.conversation)) for mark in marks]
    wanted = {(where.number, mark.user) for mark, where in known if where}
    found = fetch(db, _PLACES, _FIND_PLACES, {"wanted": as_json(list(wanted))})
    places = {(place.conversation, place.user): place for place in found}
    for mark, where in known:
        if where is None or mark.seq > where.last_seq:
            continue
        place = places.get((where.number, mark.user))
        if place is None:
            continue
        for kind, old in moves(mark, place):
            yield _Move(mark, kind, place, _Range(place.conversation, old, mark.seq))


def _written(db: sqlite3.Connection, ranges: set[_Range]) -> _Written:
    """How many messages each sender wrote in each range; many marks have a range in common."""
    listed = list(ranges)
    written: dict[_Range, dict[str, int]] = {covered: {} for covered in listed}
    for place, sender, count in fetch(db, _WRITTEN, _COUNT_WRITTEN, {"ranges": as_json(listed)}):
        written[listed[place]][sender] = count
    return written


def _store_places(db: sqlite3.Connection, moves: Sequence[_Move], written: _Written) -> None:
    own_read: Counter[tuple[int, str]] = Counter()
    for move in moves:
        own = written[move.range].get(move.mark.user, 0) if move.kind is ReceiptKind.READ else 0
        own_read[move.place.conversation, move.place.user] += own
    rows = {
        (place.conversation, place.user): (place.delivered_seq, place.read_seq)
        for place in (move.place for move in moves)
    }
    stored = [(*key, *seqs, own_read[key]) for key, seqs in rows.items()]
    db.execute(_STORE_PLACES, (as_json(stored),))


def _store_receipts(db: sqlite3.Connection, kind: ReceiptKind, moves: Sequence[_Move]) -> None:
    """On the other side's messages of pairs; on one's own where one talks to oneself."""
    covered = [
        (*move.range, other_of(move.mark.conversation, move.mark.user), move.mark.at)
        for move in moves
        if move.kind is kind and pair_of(move.mark.conversation)
    ]
    if covered:
        db.execute(_STORE_RECEIPTS_OF[kind], (as_json(covered),))


def _advance(move: _Move, written: Mapping[str, int]) -> Advance:
    return Advance(
        conversation=move.mark.conversation,
        user=move.mark.user,
        kind=move.kind,
        old=move.range.old,
        seq=move.range.seq,
        at=move.mark.at,
        senders=frozenset(written) - {move.mark.user},
    )
