"""What every adapter promises of taking away: old messages, people, pairs and groups."""

from __future__ import annotations

from typing import Final

import pytest

from chatd.models import (
    Conversation,
    Duplicate,
    Group,
    Mark,
    Place,
    Position,
    Stored,
    User,
    pair_conversation,
)
from chatd.storage.base import Storage
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    ANN_HERSELF,
    BOB,
    CAT,
    CLUB,
    READ,
    delivered,
    draft,
    group,
    read,
    stored,
    user,
)

NOBODY: Final = User.nobody("1", "erased-1a2b", 9).email
NOBODY_AND_BOB: Final = pair_conversation(NOBODY, BOB)

FOREVER: Final = 2**53


async def at_times(
    storage: Storage, *times: int, conversation: Conversation = CLUB, sender: str = ANN
) -> None:
    for at in times:
        await storage.append([draft(conversation, sender, f"at {at}", sent_at=at)])


async def seqs(storage: Storage, conversation: Conversation = CLUB) -> list[int]:
    return [one.seq for one in await storage.history(conversation, limit=100)]


# -- old messages ----------------------------------------------------------------------------------


async def test_what_was_sent_before_a_time_is_removed(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await at_times(storage, 10, 20, 30, 40)
    first, *_ = await storage.history(CLUB, limit=9)
    assert await storage.prune(CLUB, 30, 100) == 2
    assert await seqs(storage) == [3, 4]
    assert await storage.message(first.id) is None
    assert await storage.prune(CLUB, 30, 100) == 0
    assert await storage.last_seq(CLUB) == 4


async def test_it_goes_by_the_front_even_where_a_clock_was_set(storage: Storage) -> None:
    await at_times(storage, 10, 40, 20, 50)
    assert await storage.prune(CLUB, 30, 100) == 1
    assert await seqs(storage) == [2, 3, 4]


async def test_no_more_is_removed_than_was_asked_for(storage: Storage) -> None:
    await at_times(storage, 1, 2, 3, 4, 50)
    assert await storage.prune(CLUB, 10, 3) == 3
    assert await seqs(storage) == [4, 5]
    assert await storage.prune(CLUB, 10, 3) == 1
    assert await seqs(storage) == [5]


async def test_the_last_message_s_text_counts_as_well(storage: Storage) -> None:
    await at_times(storage, 1, 2, 3)
    assert await storage.prune(CLUB, 10, 2) == 2
    (last,) = await storage.history(CLUB, limit=9)
    assert last.text == "at 3"
    assert await storage.prune(CLUB, 10, 2) == 1
    (last,) = await storage.history(CLUB, limit=9)
    assert last.text == ""


async def test_the_last_message_keeps_its_place_without_its_text(storage: Storage) -> None:
    await at_times(storage, 1, 2)
    await storage.append([draft(CLUB, BOB, "the last", client_id="c", sent_at=3)])
    assert await storage.prune(CLUB, 10, 100) == 3
    (last,) = await storage.history(CLUB, limit=9)
    assert (last.seq, last.sender, last.text, last.sent_at) == (3, BOB, "", 3)
    assert last.client_id is None
    assert await storage.message(last.id) == last
    assert await storage.prune(CLUB, 10, 100) == 0

    (outcome,) = await storage.append([draft(CLUB, BOB, "the last", client_id="c", sent_at=20)])
    assert stored(outcome).seq == 4
    assert await storage.prune(CLUB, 10, 100) == 1
    assert await seqs(storage) == [4]


async def test_nothing_is_removed_where_nothing_was_written(storage: Storage) -> None:
    assert await storage.prune(CLUB, 10, 100) == 0
    await storage.create_group(group("club"))
    assert await storage.prune(CLUB, 10, 100) == 0
    assert await storage.last_seq(CLUB) == 0


async def test_pages_of_history_begin_where_messages_do(storage: Storage) -> None:
    await at_times(storage, 1, 2, 3, 40, 50, 60)
    await storage.prune(CLUB, 10, 100)

    async def page(after: int | None = None, before: int | None = None) -> list[int]:
        found = await storage.history(CLUB, after_seq=after, before_seq=before, limit=2)
        return [one.seq for one in found]

    assert await page() == [5, 6]
    assert await page(before=6) == [4, 5]
    assert await page(before=5) == [4]
    assert await page(before=4) == []
    assert await page(before=2) == []
    assert await page(after=0) == [4, 5]
    assert await page(after=1) == [4, 5]
    assert await page(after=5) == [6]
    assert await page(after=0, before=3) == []
    assert await page(after=0, before=5) == [4]


async def test_marks_stay_and_only_what_is_there_is_unread(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 1)
    await storage.join("club", CAT, 1)
    for at, sender in ((1, ANN), (2, BOB), (3, ANN), (40, BOB), (50, ANN), (60, ANN)):
        await at_times(storage, at, sender=sender)
    await storage.advance([delivered(BOB, 2, CLUB), read(BOB, 1, CLUB), read(CAT, 5, CLUB)])
    assert await storage.prune(CLUB, 10, 100) == 3

    async def unread(email: str) -> int:
        (summary,) = await storage.summaries(email, limit=5)
        return summary.unread

    assert await storage.positions(BOB) == [Position(CLUB, 6, 2, 1)]
    assert [await unread(email) for email in (ANN, BOB, CAT)] == [1, 2, 1]
    (advance,) = [one for one in await storage.advance([read(BOB, 5, CLUB)]) if one.kind is READ]
    assert (advance.old, advance.seq, advance.senders) == (1, 5, frozenset({ANN}))
    assert [await unread(email) for email in (ANN, BOB, CAT)] == [1, 1, 1]
    await at_times(storage, 70, sender=BOB)
    assert [await unread(email) for email in (ANN, BOB, CAT)] == [2, 1, 2]


async def test_a_conversation_whose_messages_went_is_still_listed(storage: Storage) -> None:
    await at_times(storage, 5, 6, conversation=ANN_AND_BOB)
    await storage.prune(ANN_AND_BOB, 10, 100)
    (summary,) = await storage.summaries(BOB, limit=5)
    assert summary.last_message is not None
    assert (summary.last_message.text, summary.active_at, summary.last_seq) == ("", 6, 2)


# -- people ----------------------------------------------------------------------------------------


async def test_an_author_takes_the_place_of_a_user_in_a_group(storage: Storage) -> None:
    await storage.create_group(Group("club", None, ANN, 1))
    await storage.join("club", BOB, 1)
    await storage.append(
        [draft(CLUB, ANN, "one", client_id="c"), draft(CLUB, BOB, "two"), draft(CLUB, ANN, "three")]
    )
    await storage.advance([read(BOB, 1, CLUB)])
    await storage.reassign(CLUB, ANN, NOBODY, blank=False)
    found = await storage.history(CLUB, limit=9)
    assert [(one.sender, one.text) for one in found] == [
        (NOBODY, "one"),
        (BOB, "two"),
        (NOBODY, "three"),
    ]
    assert [one.client_id for one in found] == [None] * 3
    assert await storage.message(found[0].id) == found[0]
    club = await storage.group("club")
    assert club is not None
    assert (club.created_by, club.members) == (NOBODY, 2)
    # Who is in the group is no matter of this.
    assert await storage.group_names_of(ANN) == ["club"]
    (summary,) = await storage.summaries(BOB, limit=5)
    assert summary.unread == 1


async def test_what_is_blanked_keeps_its_place(storage: Storage) -> None:
    await storage.append([draft(text="mine"), draft(sender=BOB, text="his"), draft(text="again")])
    await storage.reassign(ANN_AND_BOB, ANN, NOBODY, blank=True)
    found = await storage.history(NOBODY_AND_BOB, limit=9)
    assert [(one.seq, one.sender, one.text) for one in found] == [
        (1, NOBODY, ""),
        (2, BOB, "his"),
        (3, NOBODY, ""),
    ]


async def test_a_pair_becomes_that_of_the_author(storage: Storage) -> None:
    await storage.append(
        [draft(text="hello", client_id="c"), draft(sender=BOB, text="hi", client_id="d")]
    )
    await storage.advance([read(BOB, 1), delivered(ANN, 2)])
    before = await storage.history(ANN_AND_BOB, limit=9)
    await storage.reassign(ANN_AND_BOB, ANN, NOBODY, blank=False)

    assert await storage.history(ANN_AND_BOB, limit=9) == []
    assert await storage.last_seq(ANN_AND_BOB) == 0
    assert await storage.positions(ANN) == []
    assert await storage.summaries(ANN, limit=5) == []
    assert await storage.positions(BOB) == [Position(NOBODY_AND_BOB, 2, 1, 1)]
    assert await storage.positions(NOBODY) == [Position(NOBODY_AND_BOB, 2, 2, 0)]
    found = await storage.history(NOBODY_AND_BOB, limit=9)
    assert [(one.id, one.sender, one.text) for one in found] == [
        (before[0].id, NOBODY, "hello"),
        (before[1].id, BOB, "hi"),
    ]
    assert {one.conversation for one in found} == {NOBODY_AND_BOB}
    assert (found[0].delivered_at, found[0].read_at) == (60, 60)
    assert found[1].delivered_at == 50
    (summary,) = await storage.summaries(BOB, limit=5)
    assert (summary.unread, summary.last_message) == (0, found[1])


async def test_a_renamed_pair_goes_on(storage: Storage) -> None:
    await storage.append([draft(text="hello"), draft(sender=BOB, text="hi", client_id="d")])
    await storage.reassign(ANN_AND_BOB, ANN, NOBODY, blank=False)
    # The others' client ids hold on: a repeat is told from a new message.
    (outcome,) = await storage.append([draft(NOBODY_AND_BOB, BOB, "hi", client_id="d")])
    assert isinstance(outcome, Duplicate)
    (outcome,) = await storage.append([draft(NOBODY_AND_BOB, BOB, "more")])
    assert stored(outcome).seq == 3
    # Whoever has the address next begins anew.
    (outcome,) = await storage.append([draft(text="hello again")])
    assert stored(outcome).seq == 1
    assert len(await storage.positions(BOB)) == 2


async def test_somebody_who_wrote_to_themselves(storage: Storage) -> None:
    await storage.append([draft(ANN_HERSELF, ANN, "note")])
    await storage.reassign(ANN_HERSELF, ANN, NOBODY, blank=False)
    theirs = pair_conversation(NOBODY, NOBODY)
    assert [one.sender for one in await storage.history(theirs, limit=9)] == [NOBODY]
    assert await storage.positions(ANN) == []
    assert await storage.positions(NOBODY) == [Position(theirs, 1, 0, 0)]


@pytest.mark.parametrize("conversation", [CLUB, ANN_AND_BOB])
async def test_reassigning_again_changes_nothing(
    storage: Storage, conversation: Conversation
) -> None:
    await storage.reassign(conversation, ANN, NOBODY, blank=False)
    assert await storage.conversations(limit=5) == []
    await storage.append([draft(conversation), draft(conversation, BOB)])
    await storage.reassign(conversation, ANN, NOBODY, blank=False)
    (there,) = await storage.conversations(limit=5)
    before = await storage.history(there, limit=9)
    await storage.reassign(conversation, ANN, NOBODY, blank=False)
    assert await storage.conversations(limit=5) == [there]
    assert await storage.history(there, limit=9) == before


async def test_a_long_conversation_is_reassigned_whole(storage: Storage) -> None:
    texts = [f"text {number}" for number in range(3000)]
    await storage.append([draft(text=text, sender=ANN) for text in texts])
    await storage.reassign(ANN_AND_BOB, ANN, NOBODY, blank=True)
    found = await storage.history(NOBODY_AND_BOB, limit=5000)
    assert [(one.seq, one.sender, one.text) for one in found] == [
        (seq, NOBODY, "") for seq in range(1, 3001)
    ]


async def test_what_a_user_wrote(storage: Storage) -> None:
    await storage.append(
        [draft(CLUB, ANN if number % 3 else BOB, f"text {number}") for number in range(1, 11)]
    )
    everything = await storage.history(CLUB, limit=99)
    bobs = [one for one in everything if one.sender == BOB]
    assert await storage.written_by(BOB, CLUB, limit=99) == bobs
    assert await storage.written_by(BOB, CLUB, limit=2) == bobs[:2]
    assert await storage.written_by(BOB, CLUB, after_seq=bobs[0].seq, limit=99) == bobs[1:]
    assert await storage.written_by(BOB, CLUB, after_seq=9, limit=99) == []
    assert await storage.written_by(CAT, CLUB, limit=99) == []
    assert await storage.written_by(ANN, ANN_AND_BOB, limit=99) == []


async def test_a_deleted_user_is_none(storage: Storage) -> None:
    ann, bob = user(ANN), user(BOB)
    await storage.create_user(ann)
    await storage.create_user(bob)
    assert await storage.delete_user(ANN)
    assert not await storage.delete_user(ANN)
    assert await storage.user_by_email(ANN) is None
    assert await storage.user_by_id(ann.id) is None
    assert await storage.list_users(limit=5) == [bob]
    assert await storage.create_user(user(ANN))


# -- pairs and groups ------------------------------------------------------------------------------


async def test_a_deleted_pair_never_was(storage: Storage) -> None:
    await storage.append([draft(client_id="c"), draft(sender=BOB), draft(CLUB)])
    before = await storage.history(ANN_AND_BOB, limit=9)
    await storage.delete_conversation(ANN_AND_BOB)
    await storage.delete_conversation(ANN_AND_BOB)
    assert await storage.history(ANN_AND_BOB, limit=9) == []
    assert await storage.message(before[0].id) is None
    assert await storage.positions(ANN) == await storage.positions(BOB) == []
    assert await storage.places(ANN_AND_BOB, limit=5) == []
    assert await storage.conversations(limit=5) == [CLUB]
    (outcome,) = await storage.append([draft(client_id="c")])
    assert stored(outcome).seq == 1
    assert await storage.positions(BOB) == [Position(ANN_AND_BOB, 1, 0, 0)]


async def test_a_deleted_group_has_no_members(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.create_group(group("other"))
    await storage.join("club", BOB, 1)
    await storage.append([draft(CLUB), draft(CLUB, BOB)])
    assert await storage.delete_group("club")
    assert not await storage.delete_group("club")
    assert await storage.group("club") is None
    assert [one.name for one in await storage.list_groups(limit=5)] == ["other"]
    assert await storage.members("club", limit=5) == []
    assert await storage.group_names_of(BOB) == []
    assert await storage.positions(BOB) == []
    assert not await storage.leave("club", BOB)
    assert not await storage.join("club", BOB, 1)


async def test_a_group_that_is_made_again_goes_on_behind(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 1)
    await at_times(storage, 1, 2, 3)
    await storage.prune(CLUB, FOREVER, 100)
    await storage.delete_group("club")
    assert await storage.create_group(group("club", created_by=CAT, created_at=7))
    assert await storage.places(CLUB, limit=5) == [Place(CLUB, CAT, 7, 3, 3)]
    (outcome,) = await storage.append([draft(CLUB, CAT)])
    assert isinstance(outcome, Stored)
    assert outcome.message.seq == 4


async def test_a_group_without_messages_leaves_nothing(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.delete_group("club")
    assert await storage.conversations(limit=5) == []
    assert await storage.create_group(group("club"))
    assert await storage.conversations(limit=5) == [CLUB]
    (outcome,) = await storage.append([draft(CLUB)])
    assert stored(outcome).seq == 1


async def test_marks_of_who_is_gone_move_no_more(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.append([draft(CLUB, BOB), draft()])
    await storage.delete_group("club")
    await storage.reassign(ANN_AND_BOB, ANN, NOBODY, blank=False)
    marks: list[Mark] = [read(ANN, 1, CLUB), read(BOB, 1)]
    assert await storage.advance(marks) == []
