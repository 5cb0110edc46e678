"""What every adapter promises of messages, histories and lists of conversations."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from chatd.models import (
    ClientIdConflict,
    Conversation,
    Draft,
    Duplicate,
    Message,
    Outcome,
    Position,
    Stored,
    Summary,
    SummaryCursor,
    group_conversation,
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
    delivered,
    draft,
    drafts,
    group,
    read,
    stored,
    walk,
)

# -- append ----------------------------------------------------------------------------------------


async def test_a_draft_is_stored_as_it_is_with_the_next_seq(storage: Storage) -> None:
    one = Draft("id-1", ANN_AND_BOB, ANN, "hello", 5, "client-1")
    outcomes = await storage.append([one, draft(sender=BOB)])
    message = Message("id-1", ANN_AND_BOB, 1, ANN, "hello", 5, "client-1")
    assert outcomes[0] == Stored(message)
    assert stored(outcomes[1]).seq == 2
    assert await storage.message("id-1") == message
    assert await storage.history(ANN_AND_BOB, limit=1, before_seq=2) == [message]


async def test_outcomes_come_in_the_order_of_the_drafts(storage: Storage) -> None:
    batch = [draft(random.choice((ANN_AND_BOB, CLUB, ANN_HERSELF))) for _ in range(300)]
    outcomes = await storage.append(batch)
    assert [stored(outcome).id for outcome in outcomes] == [one.id for one in batch]


async def test_an_empty_batch_stores_nothing(storage: Storage) -> None:
    assert await storage.append([]) == []


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 130, 1000])
async def test_a_batch_of_any_size_is_stored_in_order(storage: Storage, size: int) -> None:
    batch = drafts(size)
    await storage.append(batch)
    found = await storage.history(ANN_AND_BOB, limit=size + 1)
    assert [one.seq for one in found] == list(range(1, size + 1))
    assert [one.id for one in found] == [one.id for one in batch]


async def test_seqs_count_on_over_batches_for_each_conversation_alone(storage: Storage) -> None:
    for batch in ([ANN_AND_BOB, CLUB], [CLUB], [CLUB, ANN_AND_BOB, CLUB]):
        await storage.append([draft(conversation) for conversation in batch])
    for conversation, last in ((ANN_AND_BOB, 2), (CLUB, 4), (ANN_HERSELF, 0)):
        assert await storage.last_seq(conversation) == last
        found = await storage.history(conversation, limit=10)
        assert [one.seq for one in found] == list(range(1, last + 1))


TEXTS = [
    "",
    " \t\r\n ",
    "'; DROP TABLE messages; --",
    '{"$gt": ""} \\ " \\u0000 \\',
    "naïve 日本語 🙂 \U0010ffff \uffff \ue000 \x01\x1f\x7f\x85\u2028",
    "e\u0301 is not é",
    "x" * 20_000,
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
async def test_any_text_comes_back_as_it_was(storage: Storage, text: str) -> None:
    one = draft(text=text, client_id=text or None)
    message = stored((await storage.append([one]))[0])
    assert message.text == text
    assert await storage.history(ANN_AND_BOB, limit=1) == [message]
    assert await storage.message(one.id) == message
    (summary,) = await storage.summaries(BOB, limit=1)
    assert summary.last_message == message
    assert await storage.append([msgspec.structs.replace(one, id="2")]) == [
        Duplicate(message) if text else Stored(msgspec.structs.replace(message, id="2", seq=2))
    ]


async def test_a_client_id_is_stored_once_for_its_sender(storage: Storage) -> None:
    first = stored((await storage.append([draft(client_id="1")]))[0])
    for _ in range(3):
        assert await storage.append([draft(client_id="1")]) == [Duplicate(first)]
    assert await storage.last_seq(ANN_AND_BOB) == 1


async def test_a_client_id_is_stored_once_within_a_batch(storage: Storage) -> None:
    batch = [
        draft(client_id="1"),
        draft(client_id="2"),
        draft(client_id="1"),
        draft(client_id="1", text="other"),
        draft(),
    ]
    outcomes = await storage.append(batch)
    first, second, last = (stored(outcomes[index]) for index in (0, 1, 4))
    assert [first.seq, second.seq, last.seq] == [1, 2, 3]
    assert outcomes[2:4] == [Duplicate(first), ClientIdConflict()]
    assert await storage.history(ANN_AND_BOB, limit=5) == [first, second, last]


@pytest.mark.parametrize(
    "other",
    [
        draft(text="other", client_id="1"),
        draft(CLUB, client_id="1"),
        draft(pair_conversation(ANN, CAT), client_id="1"),
    ],
)
async def test_a_client_id_with_another_text_or_target_is_a_conflict(
    storage: Storage, other: Draft
) -> None:
    await storage.append([draft(client_id="1")])
    assert await storage.append([other]) == [ClientIdConflict()]
    assert await storage.message(other.id) is None
    assert await storage.last_seq(ANN_AND_BOB) == 1
    assert [one.conversation for one in await storage.positions(ANN)] == [ANN_AND_BOB]
    assert await storage.positions(CAT) == []


async def test_two_senders_may_have_the_same_client_id(storage: Storage) -> None:
    outcomes = await storage.append([draft(client_id="1"), draft(sender=BOB, client_id="1")])
    assert [stored(outcome).seq for outcome in outcomes] == [1, 2]


async def test_a_duplicate_tells_the_receipts_of_the_first(storage: Storage) -> None:
    await storage.append([draft(client_id="1")])
    await storage.advance([delivered(BOB, 1, at=70)])
    (outcome,) = await storage.append([draft(client_id="1")])
    assert isinstance(outcome, Duplicate)
    assert outcome.message.delivered_at == 70
    assert outcome.message.read_at is None


async def test_a_draft_may_be_stored_again_without_harm(storage: Storage) -> None:
    batch = [draft(), draft(client_id="1"), draft(CLUB)]
    first = [stored(outcome) for outcome in await storage.append(batch)]
    again = await storage.append(batch)
    assert again == [Duplicate(message) for message in first]
    assert await storage.last_seq(ANN_AND_BOB) == 2
    assert await storage.last_seq(CLUB) == 1


async def test_an_id_is_never_given_to_a_second_message(storage: Storage) -> None:
    first = draft()
    others = [
        msgspec.structs.replace(first, text="other"),
        msgspec.structs.replace(first, conversation=CLUB),
        msgspec.structs.replace(first, sender=BOB),
        msgspec.structs.replace(first, client_id="1"),
    ]
    assert (await storage.append([first, *others]))[1:] == [ClientIdConflict()] * 4
    outcomes = await storage.append([*others, draft()])
    assert outcomes[:4] == [ClientIdConflict()] * 4
    assert stored(outcomes[4]).seq == 2
    assert await storage.last_seq(CLUB) == 0


async def test_many_appends_at_once_leave_one_order_without_hole_or_double(
    storage: Storage,
) -> None:
    conversations = [ANN_AND_BOB, CLUB, ANN_HERSELF, group_conversation("other")]

    async def write(writer: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for number in range(15):
            # Half of the client ids are used by every writer.
            client_id = f"shared-{number}" if number % 2 else f"{writer}-{number}"
            conversation = conversations[number % 4]
            batch = [
                draft(conversation, ANN, f"text {number}", client_id=client_id),
                draft(conversation, ANN, f"from {writer}"),
            ]
            outcomes += await storage.append(batch)
        return outcomes

    outcomes = [one for each in await asyncio.gather(*map(write, range(8))) for one in each]
    messages = [one.message for one in outcomes if isinstance(one, Stored)]
    repeats = [one.message for one in outcomes if isinstance(one, Duplicate)]
    assert len(messages) + len(repeats) == len(outcomes) == 8 * 30
    assert len(repeats) == 7 * 7
    assert {one.id for one in repeats} <= {one.id for one in messages}
    for conversation in conversations:
        found = await storage.history(conversation, limit=1000)
        assert [one.seq for one in found] == list(range(1, len(found) + 1))
        mine = [one for one in messages if one.conversation == conversation]
        assert found == sorted(mine, key=lambda one: one.seq)


async def test_of_one_client_id_at_once_one_is_stored(storage: Storage) -> None:
    attempts = [draft(client_id="1") for _ in range(20)]
    outcomes = [
        one
        for each in await asyncio.gather(*([storage.append([attempt]) for attempt in attempts]))
        for one in each
    ]
    (first,) = [one.message for one in outcomes if isinstance(one, Stored)]
    assert sum(one == Duplicate(first) for one in outcomes) == 19
    assert await storage.history(ANN_AND_BOB, limit=5) == [first]


async def test_appends_are_stored_in_the_order_of_the_calls(storage: Storage) -> None:
    batches = [drafts(3) for _ in range(20)]
    await asyncio.gather(*(storage.append(batch) for batch in batches))
    found = await storage.history(ANN_AND_BOB, limit=100)
    assert [one.id for one in found] == [one.id for batch in batches for one in batch]


async def test_the_first_message_of_a_pair_makes_the_marks_of_both(storage: Storage) -> None:
    await storage.append([draft()])
    for email in (ANN, BOB):
        assert await storage.positions(email) == [Position(ANN_AND_BOB, 1, 0, 0)]
    assert await storage.positions(CAT) == []


async def test_who_writes_to_a_group_does_not_become_a_member(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.append([draft(CLUB, BOB)])
    assert await storage.member("club", BOB) is None
    assert await storage.positions(BOB) == []


async def test_a_groups_messages_are_counted(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.create_group(group("other"))
    await storage.append([*drafts(3, CLUB), *drafts(2)])
    await storage.append([draft(CLUB, client_id="1"), draft(CLUB, client_id="1")])
    counts = {one.name: one.messages for one in await storage.list_groups(limit=5)}
    assert counts == {"club": 4, "other": 0}


# -- history ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after_seq", "before_seq", "limit", "expected"),
    [
        (None, None, 3, [8, 9, 10]),
        (None, None, 20, list(range(1, 11))),
        (None, 8, 3, [5, 6, 7]),
        (None, 3, 5, [1, 2]),
        (None, 1, 5, []),
        (None, 11, 2, [9, 10]),
        (None, 500, 2, [9, 10]),
        (None, -1, 2, []),
        (0, None, 3, [1, 2, 3]),
        (7, None, 5, [8, 9, 10]),
        (7, None, 2, [8, 9]),
        (10, None, 5, []),
        (500, None, 5, []),
        (-5, None, 2, [1, 2]),
        (2, 6, 10, [3, 4, 5]),
        (2, 6, 2, [3, 4]),
        (2, 3, 5, []),
        (6, 2, 5, []),
        (None, 10**30, 1, [10]),
        (10**30, None, 1, []),
        (-(10**30), 10**30, 1, [1]),
    ],
)
async def test_a_history_is_the_part_that_was_asked_for(
    storage: Storage,
    after_seq: int | None,
    before_seq: int | None,
    limit: int,
    expected: list[int],
) -> None:
    await storage.append(drafts(10))
    await storage.append(drafts(5, CLUB))
    found = await storage.history(
        ANN_AND_BOB, after_seq=after_seq, before_seq=before_seq, limit=limit
    )
    assert [one.seq for one in found] == expected
    assert {one.conversation for one in found} <= {ANN_AND_BOB}


async def test_where_nothing_was_written_there_is_no_history(storage: Storage) -> None:
    await storage.create_group(group("club"))
    assert await storage.history(CLUB, limit=5) == []
    assert await storage.history(CLUB, after_seq=0, limit=5) == []
    assert await storage.history(ANN_AND_BOB, limit=5) == []
    assert await storage.last_seq(CLUB) == 0
    assert await storage.last_seq(ANN_AND_BOB) == 0


@pytest.mark.parametrize("size", [1, 3, 10, 11])
async def test_a_history_can_be_walked_either_way(storage: Storage, size: int) -> None:
    await storage.append(drafts(10))
    expected = await storage.history(ANN_AND_BOB, limit=10)

    async def forward(last: Message | None) -> list[Message]:
        after_seq = last.seq if last else 0
        return await storage.history(ANN_AND_BOB, after_seq=after_seq, limit=size)

    async def back(last: Message | None) -> list[Message]:
        before_seq = last.seq if last else None
        found = await storage.history(ANN_AND_BOB, before_seq=before_seq, limit=size)
        return found[::-1]

    assert await walk(forward, size) == expected
    assert await walk(back, size) == expected[::-1]


async def test_an_unknown_message_is_not_found(storage: Storage) -> None:
    await storage.append([draft()])
    for unknown in ("", "x", "00000000-0000-0000-0000-000000000000", "%"):
        assert await storage.message(unknown) is None


# -- positions and summaries -----------------------------------------------------------------------


async def test_positions_are_groups_and_pairs_by_conversation(storage: Storage) -> None:
    for name in ("club", "a-club", "not-mine"):
        await storage.create_group(group(name, created_by=BOB))
    await storage.append(drafts(2, CLUB, BOB))
    for name in ("club", "a-club"):
        await storage.join(name, ANN, 1)
    await storage.append([draft(CLUB, BOB), draft(ANN_HERSELF), *drafts(3, sender=BOB)])
    await storage.append([draft(pair_conversation(BOB, CAT), BOB)])
    await storage.advance([read(ANN, 1), delivered(ANN, 3)])
    assert await storage.positions(ANN) == [
        Position(group_conversation("a-club"), 0, 0, 0),
        Position(CLUB, 3, 2, 2),
        Position(ANN_HERSELF, 1, 0, 0),
        Position(ANN_AND_BOB, 3, 3, 1),
    ]


async def test_a_summary_tells_the_last_message_and_what_others_wrote_unread(
    storage: Storage,
) -> None:
    await storage.append(
        [
            draft(sender=ANN, sent_at=10),
            draft(sender=BOB, sent_at=11),
            draft(sender=ANN, sent_at=12),
            draft(sender=BOB, sent_at=13),
            draft(sender=BOB, sent_at=14, client_id="1"),
        ]
    )
    (last,) = await storage.history(ANN_AND_BOB, limit=1)
    assert await storage.summaries(ANN, limit=5) == [Summary(ANN_AND_BOB, last, 5, 0, 3, 14)]
    assert await storage.summaries(BOB, limit=5) == [Summary(ANN_AND_BOB, last, 5, 0, 2, 14)]
    await storage.advance([read(ANN, 2), read(BOB, 2), delivered(ANN, 5)])
    (last,) = await storage.history(ANN_AND_BOB, limit=1)
    assert last.delivered_at == 50
    assert await storage.summaries(ANN, limit=5) == [Summary(ANN_AND_BOB, last, 5, 2, 2, 14)]
    assert await storage.summaries(BOB, limit=5) == [Summary(ANN_AND_BOB, last, 5, 2, 1, 14)]
    await storage.advance([read(ANN, 5), read(BOB, 4), read(ANN, 3)])
    assert [one.unread for one in await storage.summaries(ANN, limit=5)] == [0]
    assert [one.unread for one in await storage.summaries(BOB, limit=5)] == [0]


async def test_ones_own_messages_are_never_unread(storage: Storage) -> None:
    await storage.append(drafts(3, ANN_HERSELF))
    await storage.advance([read(ANN, 2, ANN_HERSELF)])
    (summary,) = await storage.summaries(ANN, limit=5)
    assert (summary.last_seq, summary.read_seq, summary.unread) == (3, 2, 0)


async def test_a_group_without_messages_was_active_when_the_user_joined(storage: Storage) -> None:
    await storage.create_group(group("club", created_at=5))
    await storage.join("club", BOB, 8)
    assert await storage.summaries(ANN, limit=5) == [Summary(CLUB, None, 0, 0, 0, 5)]
    assert await storage.summaries(BOB, limit=5) == [Summary(CLUB, None, 0, 0, 0, 8)]
    message = stored((await storage.append([draft(CLUB, ANN, sent_at=6)]))[0])
    assert await storage.summaries(BOB, limit=5) == [Summary(CLUB, message, 1, 0, 1, 6)]


async def test_the_most_recently_active_comes_first_and_ties_go_by_conversation(
    storage: Storage,
) -> None:
    for name, at in (("b", 5), ("a", 5), ("d", 9), ("c", 1)):
        await storage.create_group(group(name, created_at=at))
    others = ("cat@example.org", "bob@example.org", "dan@example.org")
    pairs = [pair_conversation(ANN, other) for other in others]
    await storage.append(
        [draft(pair, sent_at=at) for pair, at in zip(pairs, (5, 5, 7), strict=True)]
    )
    await storage.append([draft(group_conversation("c"), sent_at=8)])
    expected = ["g:d", "g:c", pairs[2], "g:a", "g:b", pairs[1], pairs[0]]
    found = await storage.summaries(ANN, limit=20)
    assert [one.conversation for one in found] == expected
    for size in (1, 2, 3, 6, 7, 8):

        async def page(last: Summary | None, size: int = size) -> list[Summary]:
            after = SummaryCursor(last.active_at, last.conversation) if last else None
            return await storage.summaries(ANN, after=after, limit=size)

        assert await walk(page, size) == found


async def test_a_cursor_may_name_a_time_or_a_conversation_that_is_not_there(
    storage: Storage,
) -> None:
    await storage.append([draft(sent_at=5), draft(ANN_HERSELF, sent_at=7)])

    async def behind(active_at: int, conversation: str) -> list[Conversation]:
        after = SummaryCursor(active_at, Conversation(conversation))
        return [one.conversation for one in await storage.summaries(ANN, after=after, limit=5)]

    assert await behind(6, "zzz") == [ANN_AND_BOB]
    assert await behind(5, "") == [ANN_AND_BOB]
    assert await behind(5, "zzz") == []
    assert await behind(10**30, "") == [ANN_HERSELF, ANN_AND_BOB]
    assert await behind(-(10**30), "") == []
