"""The judge of the fault tests, itself judged: each way to break a promise, put into a good log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from tests.e2e.faults.checker import check
from tests.e2e.faults.log import Acked, Event, Gap, Log, Receipt, Received, Refused, Sent
from tests.e2e.faults.stored import Row

E = TypeVar("E", bound=Event)

CLUB = "g:club"
ANN, BOB = "ann@example.org", "bob@example.org"


class Story:
    """Ann sends three messages; Bob's one device gets them, live and then by a second connection,
    which leaves one to be fetched."""

    def __init__(self) -> None:
        self.rows = [Row(CLUB, n, f"id{n}", ANN, f"text {n}", f"c{n}") for n in (1, 2, 3)]
        self.ann = Log(ANN, "ann's phone", [])
        self.bob = Log(BOB, "bob's phone", [])
        for row in self.rows:
            client_id = str(row.client_id)
            self.ann.events += [
                Sent(client_id, CLUB, row.text, at=row.seq, connection=1),
                Acked(CLUB, row.seq, row.id, client_id, False, at=row.seq + 0.1, connection=1),
            ]
        self.bob.events += [
            self.arrives(1, 1),
            self.arrives(2, 1),
            Gap(CLUB, 2, 2, at=9, connection=2),
            self.arrives(3, 2),
            replace(self.arrives(2, 2), fetched=True),
        ]
        self.ann.events += [
            Receipt(CLUB, BOB, 1, at=11, connection=1),
            Receipt(CLUB, BOB, 3, at=14, connection=1),
        ]

    def arrives(self, seq: int, connection: int) -> Received:
        row = self.rows[seq - 1]
        return Received(
            CLUB, seq, row.id, row.sender, row.text, at=10.0 + seq, connection=connection
        )

    def check(self) -> str:
        return str(check([self.ann, self.bob], self.rows, complete=[self.bob]))


def last(log: Log, kind: type[E]) -> E:
    return list(log.of(kind))[-1]


def test_what_is_right_is_counted() -> None:
    assert Story().check() == "3 acked, 3 stored, 4 received, 2 receipts, 3 connections"


def without_the_last_row(story: Story) -> None:
    story.rows.pop()


def with_another_text_stored(story: Story) -> None:
    story.rows[0] = story.rows[0]._replace(text="another")


def with_a_second_answer(story: Story) -> None:
    again = replace(last(story.ann, Acked), id="id2", seq=2, duplicate=True)
    story.ann.events.append(again)


def with_a_second_row(story: Story) -> None:
    story.rows.append(story.rows[2]._replace(seq=4, id="id4"))


def with_an_id_used_again(story: Story) -> None:
    story.rows.append(story.rows[2]._replace(seq=4, client_id=None))


def with_a_seq_skipped(story: Story) -> None:
    story.rows.append(Row(CLUB, 5, "id5", BOB, "text 5"))


def with_sends_in_another_order(story: Story) -> None:
    events = story.ann.events
    events[0], events[2] = events[2], events[0]


def with_a_skip_on_a_connection(story: Story) -> None:
    story.bob.events += [story.arrives(1, 3), story.arrives(3, 3)]


def with_a_repeat_on_a_connection(story: Story) -> None:
    story.bob.events.append(story.arrives(3, 2))


def with_an_older_message_after_a_newer(story: Story) -> None:
    story.bob.events.append(story.arrives(1, 2))


def without_what_was_fetched(story: Story) -> None:
    story.bob.events = [
        event for event in story.bob.events if not (isinstance(event, Received) and event.seq == 2)
    ]


def with_nothing_of_a_pair(story: Story) -> None:
    story.rows.append(Row(f"u:{ANN} {BOB}", 1, "id4", ANN, "hello"))


def with_a_receipt_too_early(story: Story) -> None:
    story.ann.events[-1] = replace(last(story.ann, Receipt), at=12.5)


def with_a_receipt_for_what_has_a_hole(story: Story) -> None:
    without_what_was_fetched(story)


def with_a_receipt_behind_a_later_one(story: Story) -> None:
    story.ann.events.append(replace(last(story.ann, Receipt), at=15, seq=2))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (without_the_last_row, "acked, not stored: 1"),
        (without_the_last_row, "delivered, not stored: 1"),
        (with_another_text_stored, "acked, stored otherwise: 1"),
        (with_a_second_answer, "acked twice, differently: 1"),
        (with_a_second_row, "stored more than once: 1"),
        (with_an_id_used_again, "stored more than once: 1"),
        (with_a_seq_skipped, "hole in storage: 1"),
        (with_sends_in_another_order, "stored out of order: 1"),
        (with_a_skip_on_a_connection, "hole, not announced: 1"),
        (with_a_repeat_on_a_connection, "repeat or inversion: 1"),
        (with_an_older_message_after_a_newer, "repeat or inversion: 1"),
        (without_what_was_fetched, "missing: 1"),
        (with_nothing_of_a_pair, "missing: 1"),
        (with_a_receipt_too_early, "receipt that was not true: 1"),
        (with_a_receipt_for_what_has_a_hole, "receipt that was not true: 1"),
        (with_a_receipt_behind_a_later_one, "receipt goes back: 1"),
    ],
)
def test_each_broken_promise_is_found(fault: Callable[[Story], None], kind: str) -> None:
    story = Story()
    fault(story)
    with pytest.raises(AssertionError) as failure:
        story.check()
    assert kind in str(failure.value).splitlines(), failure.value


def test_a_refused_message_may_come_later_than_those_sent_behind_it() -> None:
    story = Story()
    with_sends_in_another_order(story)
    story.ann.events.append(Refused("c2", "unavailable", connection=1))
    story.check()


def test_a_refused_message_may_be_acked_behind_later_ones() -> None:
    story = Story()
    ack = story.ann.events.pop(1)
    story.ann.events[3:3] = [Refused("c1", "unavailable", connection=1), ack]
    story.check()
