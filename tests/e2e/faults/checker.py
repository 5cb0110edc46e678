"""What devices saw against what is stored: every way in which a promise can be broken.

`check` is the only judge of the fault tests. It knows nothing of the faults put in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from math import inf
from typing import NamedTuple

from chatd.models import Conversation, pair_of
from tests.e2e.faults.log import Acked, Gap, Held, Log, Receipt, Received, Refused, Sent
from tests.e2e.faults.stored import Row

_SHOWN = 5
"""How many cases of each kind a failure shows."""


class Counts(NamedTuple):
    """How much there was to compare."""

    acked: int
    stored: int
    received: int
    receipts: int
    connections: int

    def __str__(self) -> str:
        return (
            f"{self.acked:,} acked, {self.stored:,} stored, {self.received:,} received,"
            f" {self.receipts:,} receipts, {self.connections:,} connections"
        )


def check(logs: Sequence[Log], rows: Sequence[Row], *, complete: Iterable[Log] = ()) -> Counts:
    """Raises AssertionError that lists all that is wrong.

    ``logs`` are of all devices that sent anything. ``complete`` are those that by now should
    have all of every conversation they have anything of, from the first message they have on.
    """
    troubles = [
        *_acked_not_stored(logs, rows),
        *_delivered_not_stored(logs, rows),
        *_stored_twice(rows),
        *_holes_in_storage(rows),
        *_stored_out_of_order(logs, rows),
        *_untrue_receipts(logs),
    ]
    for log in logs:
        troubles += _wrong_on_a_connection(log)
    for log in complete:
        troubles += _missing(log, rows)
    if troubles:
        raise AssertionError("\n".join(_summary(troubles)))
    return Counts(
        acked=len({(log.device, one.client_id) for log in logs for one in log.of(Acked)}),
        stored=len(rows),
        received=sum(1 for log in logs for _ in log.of(Received)),
        receipts=sum(1 for log in logs for _ in log.of(Receipt)),
        connections=sum(len({one.connection for one in log.events}) for log in logs),
    )


class Trouble(NamedTuple):
    """One broken promise."""

    kind: str
    case: str


def _summary(troubles: Sequence[Trouble]) -> Iterator[str]:
    for kind, count in Counter(one.kind for one in troubles).items():
        yield f"{kind}: {count}"
        cases = [one.case for one in troubles if one.kind == kind]
        yield from (f"    {case}" for case in cases[:_SHOWN])


# -- against what is stored --------------------------------------------------------------------


def _acked_not_stored(logs: Sequence[Log], rows: Sequence[Row]) -> Iterator[Trouble]:
    stored = {row.id: row for row in rows}
    for log in logs:
        texts = {one.client_id: one.text for one in log.of(Sent)}
        answers: dict[str, tuple[str, int]] = {}
        for ack in log.of(Acked):
            row = stored.get(ack.id)
            said = (ack.conversation, ack.seq, log.user, texts.get(ack.client_id))
            if row is None:
                yield Trouble("acked, not stored", f"{log.device}: {ack}")
            elif said != (row.conversation, row.seq, row.sender, row.text):
                yield Trouble("acked, stored otherwise", f"{log.device}: {ack} {row}")
            if answers.setdefault(ack.client_id, (ack.id, ack.seq)) != (ack.id, ack.seq):
                yield Trouble("acked twice, differently", f"{log.device}: {ack}")


def _delivered_not_stored(logs: Sequence[Log], rows: Sequence[Row]) -> Iterator[Trouble]:
    stored = {(row.conversation, row.seq, row.id, row.sender, row.text) for row in rows}
    for log in logs:
        for one in log.of(Received):
            if (one.conversation, one.seq, one.id, one.sender, one.text) not in stored:
                yield Trouble("delivered, not stored", f"{log.device}: {one}")


def _stored_twice(rows: Sequence[Row]) -> Iterator[Trouble]:
    ids = Counter(row.id for row in rows)
    client_ids = Counter((row.sender, row.client_id) for row in rows if row.client_id is not None)
    for what, count in (*ids.items(), *client_ids.items()):
        if count > 1:
            yield Trouble("stored more than once", f"{what}: {count} times")


def _holes_in_storage(rows: Sequence[Row]) -> Iterator[Trouble]:
    for conversation, seqs in _seqs(rows).items():
        for before, seq in pairwise([0, *sorted(seqs)]):
            if seq != before + 1:
                yield Trouble("hole in storage", f"{conversation}: {before} is followed by {seq}")


def _seqs(rows: Sequence[Row]) -> dict[str, list[int]]:
    seqs: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        seqs[row.conversation].append(row.seq)
    return seqs


def _stored_out_of_order(logs: Sequence[Log], rows: Sequence[Row]) -> Iterator[Trouble]:
    """A device's messages have the order in which they were sent, but for refused ones."""
    seqs = {row.id: row.seq for row in rows}
    for log in logs:
        refused = {one.client_id for one in log.of(Refused)}
        ids = {one.client_id: one.id for one in log.of(Acked)}
        last: dict[str, int] = {}
        for client_id, sent in {one.client_id: one for one in log.of(Sent)}.items():
            seq = seqs.get(ids.get(client_id, ""))
            if seq is None or client_id in refused:
                continue
            if seq < last.get(sent.conversation, 0):
                yield Trouble("stored out of order", f"{log.device}: {sent.text} got {seq}")
            last[sent.conversation] = seq


# -- within one device's log -------------------------------------------------------------------


def _wrong_on_a_connection(log: Log) -> Iterator[Trouble]:
    """What a connection brings of a conversation goes up by one, where no gap says otherwise.

    A message that was refused and yet is stored has been in a gap: its ack comes late.
    """
    refused = {one.client_id for one in log.of(Refused)}
    at: dict[tuple[int, str], int] = {}
    for event in log.events:
        if isinstance(event, Gap):
            first, last = event.first, event.last
        elif isinstance(event, Held) and _is_live(event):
            first = last = event.seq
        else:
            continue
        key = (event.connection, event.conversation)
        before = at.get(key)
        if isinstance(event, Acked) and event.client_id in refused and last <= (before or 0):
            continue
        at[key] = last
        if before is not None and first != before + 1:
            kind = "hole, not announced" if first > before else "repeat or inversion"
            yield Trouble(kind, f"{log.device}: {before} is followed by {event}")


def _is_live(event: Held) -> bool:
    """Whether it has its place in the order of its connection."""
    match event:
        case Acked():
            return not event.duplicate
        case Received():
            return not event.fetched
    return False


def _missing(log: Log, rows: Sequence[Row]) -> Iterator[Trouble]:
    have: dict[str, set[int]] = defaultdict(set)
    for one in log.of(Held):
        have[one.conversation].add(one.seq)
    for conversation, seqs in _seqs(rows).items():
        first = min(have[conversation], default=None)
        if first is None:
            if _is_of(conversation, log.user):
                yield Trouble("missing", f"{log.device}: all of {conversation}")
            continue
        missing = sorted(seq for seq in seqs if seq >= first and seq not in have[conversation])
        if missing:
            yield Trouble("missing", f"{log.device}: {conversation} {missing[:10]}")


def _is_of(conversation: str, user: str) -> bool:
    """Whether everything of it is the user's; of a group only what came behind joining is."""
    return user in (pair_of(Conversation(conversation)) or ())


# -- receipts ----------------------------------------------------------------------------------


def _untrue_receipts(logs: Sequence[Log]) -> Iterator[Trouble]:
    """A receipt is true if a device of who it names had all up to there by then."""
    arrivals = _arrivals(logs)
    for log in logs:
        at: dict[tuple[int, str, str], int] = {}
        for receipt in log.of(Receipt):
            key = (receipt.connection, receipt.conversation, receipt.by)
            if receipt.seq <= at.get(key, 0):
                yield Trouble("receipt goes back", f"{log.device}: {at[key]} before {receipt}")
            at[key] = max(receipt.seq, at.get(key, 0))
            known = arrivals.get((receipt.by, receipt.conversation))
            if known is not None and known.get(receipt.seq, inf) > receipt.at:
                yield Trouble("receipt that was not true", f"{log.device}: {receipt}")


def _arrivals(logs: Sequence[Log]) -> dict[tuple[str, str], dict[int, float]]:
    """When the devices of a user had a conversation up to each message, by both.

    Behind a message that none of them has, they have it up to nowhere.
    """
    arrivals: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for log in logs:
        for one in log.of(Held):
            times = arrivals[log.user, one.conversation]
            times[one.seq] = min(one.at, times.get(one.seq, inf))
    return {key: _up_to(times) for key, times in arrivals.items()}


def _up_to(times: dict[int, float]) -> dict[int, float]:
    first, last = min(times), max(times)
    seqs = range(first, last + 1)
    return dict(zip(seqs, accumulate((times.get(seq, inf) for seq in seqs), max), strict=True))
