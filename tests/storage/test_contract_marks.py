"""What every adapter promises of delivered and read marks."""

from __future__ import annotations

import asyncio

import pytest

from chatd.models import Advance, Conversation, Mark, Message, ReceiptKind
from chatd.storage.base import Storage
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    ANN_HERSELF,
    BOB,
    CAT,
    CLUB,
    DELIVERED,
    READ,
    delivered,
    draft,
    drafts,
    group,
    read,
)


async def _club_of_three(storage: Storage) -> None:
    await storage.create_group(group("club"))
    for email in (BOB, CAT):
        await storage.join("club", email, 1)


async def _marks(
    storage: Storage, user: str, conversation: Conversation = ANN_AND_BOB
) -> tuple[int, int]:
    """The user's delivered and read seq."""
    for position in await storage.positions(user):
        if position.conversation == conversation:
            return position.delivered_seq, position.read_seq
    raise AssertionError(f"{user} has no marks in {conversation}")


async def _receipts(
    storage: Storage, conversation: Conversation = ANN_AND_BOB
) -> list[tuple[int | None, int | None]]:
    """Each message's delivered_at and read_at."""
    found = await storage.history(conversation, limit=100)
    assert found == [await storage.message(one.id) for one in found]
    return [(one.delivered_at, one.read_at) for one in found]


@pytest.mark.parametrize("kind", ReceiptKind)
async def test_a_mark_moves_forward_only(storage: Storage, kind: ReceiptKind) -> None:
    await storage.append(drafts(5))
    seqs = []
    for seq in (2, 1, 2, 0, -1, 4, 3, 5):
        moved = await storage.advance([Mark(ANN_AND_BOB, BOB, kind, seq, at=50)])
        seqs += [(one.old, one.seq) for one in moved if one.kind is kind]
    assert seqs == [(0, 2), (2, 4), (4, 5)]
    assert (await _marks(storage, BOB))[0] == 5


async def test_an_advance_tells_what_moved_and_who_wrote_in_between(storage: Storage) -> None:
    await storage.append([draft(sender=ANN), draft(sender=BOB), draft(sender=ANN)])
    assert await storage.advance([delivered(BOB, 2, at=7)]) == [
        Advance(ANN_AND_BOB, BOB, DELIVERED, 0, 2, 7, frozenset({ANN}))
    ]
    assert await _marks(storage, BOB) == (2, 0)
    assert await _marks(storage, ANN) == (0, 0)


async def test_a_mark_never_passes_the_last_seq(storage: Storage) -> None:
    await storage.append(drafts(3))
    assert await storage.advance([delivered(BOB, 4), read(BOB, 10**30)]) == []
    assert await _marks(storage, BOB) == (0, 0)
    assert await storage.advance([delivered(BOB, 3), read(BOB, 4)]) != []
    assert await _marks(storage, BOB) == (3, 0)


async def test_only_who_has_marks_in_a_conversation_can_move_them(storage: Storage) -> None:
    await _club_of_three(storage)
    await storage.append([*drafts(3), *drafts(3, CLUB)])
    await storage.leave("club", CAT)
    stranger = "stranger@example.org"
    nobodys = [delivered(CAT, 1), read(stranger, 1), delivered(CAT, 1, CLUB), read(CAT, 1, CLUB)]
    nobodys.append(delivered(ANN, 1, Conversation("g:no-such-group")))
    assert await storage.advance(nobodys) == []
    assert await storage.positions(CAT) == []
    assert await _receipts(storage) == [(None, None)] * 3


async def test_what_may_not_move_is_passed_over_and_the_rest_moves(storage: Storage) -> None:
    await storage.append(drafts(3))
    moved = await storage.advance([delivered(BOB, 9), delivered(BOB, 2), delivered(CAT, 1)])
    assert [(one.user, one.old, one.seq) for one in moved] == [(BOB, 0, 2)]
    assert await storage.advance([]) == []


@pytest.mark.parametrize("kind", ReceiptKind)
async def test_a_mark_moves_only_from_where_the_claim_begins(
    storage: Storage, kind: ReceiptKind
) -> None:
    await storage.append(drafts(9))

    async def moves(since: int, seq: int) -> list[tuple[int, int]]:
        mark = Mark(ANN_AND_BOB, BOB, kind, seq, at=5, since=since)
        return [(one.old, one.seq) for one in await storage.advance([mark]) if one.kind is kind]

    assert await moves(since=2, seq=5) == []
    assert await moves(since=1, seq=3) == [(0, 3)]
    assert await moves(since=5, seq=6) == []
    assert await moves(since=4, seq=5) == [(3, 5)]
    assert await moves(since=2, seq=7) == [(5, 7)]
    assert await moves(since=9, seq=9) == []


async def test_the_claim_of_a_read_mark_is_held_against_the_read_mark(storage: Storage) -> None:
    await storage.append(drafts(5))
    await storage.advance([delivered(BOB, 4), read(BOB, 2)])
    assert await storage.advance([Mark(ANN_AND_BOB, BOB, READ, 5, at=9, since=4)]) == []
    moved = await storage.advance([Mark(ANN_AND_BOB, BOB, READ, 5, at=9, since=3)])
    assert [(one.kind, one.old, one.seq) for one in moved] == [(DELIVERED, 4, 5), (READ, 2, 5)]


async def test_reading_beyond_the_delivered_mark_moves_it_along_and_tells_it_first(
    storage: Storage,
) -> None:
    await storage.append([*drafts(2), draft(sender=BOB), draft()])
    await storage.advance([delivered(BOB, 2, at=5)])
    assert await storage.advance([read(BOB, 4, at=9)]) == [
        Advance(ANN_AND_BOB, BOB, DELIVERED, 2, 4, 9, frozenset({ANN})),
        Advance(ANN_AND_BOB, BOB, READ, 0, 4, 9, frozenset({ANN})),
    ]
    assert await _marks(storage, BOB) == (4, 4)
    assert await _receipts(storage) == [(5, 9), (5, 9), (None, None), (9, 9)]


async def test_reading_up_to_the_delivered_mark_tells_the_read_alone(storage: Storage) -> None:
    await storage.append(drafts(3))
    await storage.advance([delivered(BOB, 3)])
    (moved,) = await storage.advance([read(BOB, 3)])
    assert (moved.kind, moved.old, moved.seq) == (READ, 0, 3)


async def test_delivered_never_moves_the_read_mark(storage: Storage) -> None:
    await storage.append(drafts(3))
    await storage.advance([read(BOB, 1), delivered(BOB, 3)])
    assert await _marks(storage, BOB) == (3, 1)


async def test_marks_of_one_call_move_in_its_order(storage: Storage) -> None:
    await storage.append(drafts(5))
    marks = [delivered(BOB, 2), delivered(BOB, 1), read(BOB, 3), delivered(BOB, 5), read(BOB, 2)]
    moved = await storage.advance(marks)
    assert [(one.kind, one.old, one.seq) for one in moved] == [
        (DELIVERED, 0, 2),
        (DELIVERED, 2, 3),
        (READ, 0, 3),
        (DELIVERED, 3, 5),
    ]
    assert await _marks(storage, BOB) == (5, 3)


async def test_senders_are_of_the_moved_range_alone_and_never_the_marks_own(
    storage: Storage,
) -> None:
    await _club_of_three(storage)
    await storage.append([draft(CLUB, sender) for sender in (ANN, BOB, CAT, BOB, CAT, CAT, ANN)])

    async def senders(seq: int) -> set[str]:
        (moved,) = await storage.advance([delivered(BOB, seq, CLUB)])
        return set(moved.senders)

    assert await senders(1) == {ANN}
    assert await senders(2) == set()
    assert await senders(3) == {CAT}
    assert await senders(4) == set()
    assert await senders(7) == {ANN, CAT}


async def test_many_members_move_over_the_same_messages_each_with_own_senders(
    storage: Storage,
) -> None:
    await storage.create_group(group("club"))
    members = [f"member-{number:03}@example.org" for number in range(120)]
    for member in members:
        await storage.join("club", member, 1)
    await storage.append([draft(CLUB, sender) for sender in (members[0], ANN, members[1])])
    moved = await storage.advance([read(member, 3, CLUB) for member in members])
    assert len(moved) == 240
    everyone = {members[0], ANN, members[1]}
    assert all(one.senders == everyone - {one.user} for one in moved)
    assert [one.user for one in moved[::2]] == [one.user for one in moved[1::2]] == members
    for member in members:
        assert await _marks(storage, member, CLUB) == (3, 3)
        (summary,) = await storage.summaries(member, limit=1)
        assert summary.unread == 0


async def test_receipts_are_stored_once_and_on_the_other_sides_messages(
    storage: Storage,
) -> None:
    await storage.append([draft(sender=ANN), draft(sender=BOB), draft(sender=ANN)])
    await storage.advance([delivered(BOB, 1, at=5)])
    await storage.advance([delivered(BOB, 3, at=6), delivered(BOB, 3, at=7)])
    assert await _receipts(storage) == [(5, None), (None, None), (6, None)]
    await storage.advance([read(BOB, 2, at=8)])
    await storage.advance([read(BOB, 3, at=9), read(ANN, 3, at=10)])
    assert await _receipts(storage) == [(5, 8), (10, 10), (6, 9)]


async def test_messages_of_groups_get_no_receipts(storage: Storage) -> None:
    await _club_of_three(storage)
    await storage.append([draft(CLUB, ANN), draft(CLUB, BOB)])
    await storage.advance([read(BOB, 2, CLUB), delivered(CAT, 2, CLUB)])
    assert await _receipts(storage, CLUB) == [(None, None), (None, None)]


async def test_writing_to_oneself_one_is_the_recipient_but_no_sender_to_be_told(
    storage: Storage,
) -> None:
    await storage.append(drafts(3, ANN_HERSELF))
    assert await storage.advance([delivered(ANN, 2, ANN_HERSELF, at=5)]) == [
        Advance(ANN_HERSELF, ANN, DELIVERED, 0, 2, 5, frozenset())
    ]
    await storage.advance([read(ANN, 3, ANN_HERSELF, at=6)])
    assert await _receipts(storage, ANN_HERSELF) == [(5, 6), (5, 6), (6, 6)]


async def test_a_mark_that_is_stored_again_changes_nothing(storage: Storage) -> None:
    await storage.append(drafts(3))
    marks = [delivered(BOB, 2, at=5), read(BOB, 1, at=6)]
    assert len(await storage.advance(marks)) == 2
    before = (await _marks(storage, BOB), await _receipts(storage))
    assert await storage.advance(marks) == []
    assert (await _marks(storage, BOB), await _receipts(storage)) == before


async def test_marks_at_once_move_over_every_message_once(storage: Storage) -> None:
    await storage.append(drafts(30))
    calls = [storage.advance([delivered(BOB, seq, at=seq)]) for seq in (5, 30, 12, 20, 1, 29)]
    moved = [one for each in await asyncio.gather(*calls) for one in each]
    assert sum(one.seq - one.old for one in moved) == 30
    assert await _marks(storage, BOB) == (30, 0)
    at_of = {seq: one.at for one in moved for seq in range(one.old + 1, one.seq + 1)}
    history: list[Message] = await storage.history(ANN_AND_BOB, limit=50)
    assert [one.delivered_at for one in history] == [at_of[one.seq] for one in history]


async def test_marks_and_appends_at_once_agree(storage: Storage) -> None:
    async def write() -> None:
        for _ in range(20):
            await storage.append([draft(sender=ANN), draft(sender=BOB)])

    async def confirm() -> None:
        for seq in range(1, 41):
            await storage.advance([delivered(BOB, seq), read(ANN, seq)])

    await asyncio.gather(write(), confirm())
    await storage.advance([read(ANN, 40), read(BOB, 40)])
    for email in (ANN, BOB):
        assert await _marks(storage, email) == (40, 40)
        (summary,) = await storage.summaries(email, limit=1)
        assert summary.unread == 0
    assert all(None not in receipts for receipts in await _receipts(storage))
