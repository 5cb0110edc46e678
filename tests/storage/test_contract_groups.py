"""What every adapter promises of groups and their members."""

from __future__ import annotations

import asyncio

import pytest

from chatd.models import Group, GroupCursor, GroupSort, Member, Position
from chatd.storage.base import Storage
from tests.storage.samples import (
    ANN,
    BOB,
    CAT,
    CLUB,
    draft,
    drafts,
    group,
    read,
    stored,
    walk,
)

# -- making and finding ----------------------------------------------------------------------------


async def test_a_new_group_has_its_maker_as_only_member(storage: Storage) -> None:
    assert await storage.create_group(Group("club", "The Club ✨", ANN, created_at=5))
    assert await storage.group("club") == Group("club", "The Club ✨", ANN, 5, 1, 0)
    assert await storage.members("club", limit=5) == [Member("club", ANN, 5, 0, 0)]
    assert await storage.group_names_of(ANN) == ["club"]


async def test_the_counts_of_a_group_to_be_made_are_ignored(storage: Storage) -> None:
    await storage.create_group(Group("club", None, ANN, 5, members=77, messages=88))
    assert await storage.group("club") == Group("club", None, ANN, 5, members=1, messages=0)


async def test_a_taken_name_changes_nothing(storage: Storage) -> None:
    assert await storage.create_group(group("club"))
    assert not await storage.create_group(Group("club", "another", BOB, created_at=9))
    assert await storage.group("club") == group("club")
    assert await storage.member("club", BOB) is None
    assert await storage.group_names_of(BOB) == []


async def test_of_many_who_take_one_name_at_once_one_gets_it(storage: Storage) -> None:
    makers = [f"maker-{number}@example.org" for number in range(20)]
    made = await asyncio.gather(
        *(storage.create_group(group("club", created_by=maker)) for maker in makers)
    )
    assert sum(made) == 1
    winner = makers[made.index(True)]
    assert await storage.group("club") == group("club", created_by=winner)
    assert [one.email for one in await storage.members("club", limit=30)] == [winner]


async def test_no_group_is_found_where_there_is_none(storage: Storage) -> None:
    assert await storage.group("club") is None
    assert await storage.list_groups(limit=5) == []
    assert await storage.members("club", limit=5) == []
    assert await storage.member("club", ANN) is None
    assert await storage.group_names_of(ANN) == []


# -- joining and leaving ---------------------------------------------------------------------------


async def test_joining_sets_both_marks_at_the_last_seq(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.append(drafts(3, CLUB))
    assert await storage.join("club", BOB, 9)
    assert await storage.member("club", BOB) == Member("club", BOB, 9, 3, 3)
    assert await storage.positions(BOB) == [Position(CLUB, 3, 3, 3)]
    (summary,) = await storage.summaries(BOB, limit=5)
    assert summary.unread == 0


async def test_joining_again_changes_nothing(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 2)
    await storage.append(drafts(3, CLUB))
    assert not await storage.join("club", BOB, 9)
    assert await storage.member("club", BOB) == Member("club", BOB, 2, 0, 0)
    assert not await storage.join("club", ANN, 9)
    found = await storage.group("club")
    assert found is not None
    assert found.members == 2


async def test_no_group_can_be_joined_where_there_is_none(storage: Storage) -> None:
    await storage.append(drafts(1, CLUB))
    assert not await storage.join("club", ANN, 1)
    assert await storage.group_names_of(ANN) == []
    assert await storage.positions(ANN) == []


async def test_of_many_joins_of_one_user_at_once_one_counts(storage: Storage) -> None:
    await storage.create_group(group("club"))
    joined = await asyncio.gather(*(storage.join("club", BOB, 1) for _ in range(10)))
    assert sum(joined) == 1
    found = await storage.group("club")
    assert found is not None
    assert found.members == 2


async def test_leaving_drops_the_membership_and_its_marks(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 2)
    assert await storage.leave("club", BOB)
    assert not await storage.leave("club", BOB)
    assert await storage.member("club", BOB) is None
    assert await storage.positions(BOB) == []
    assert await storage.summaries(BOB, limit=5) == []
    assert await storage.group_names_of(BOB) == []
    assert [one.email for one in await storage.members("club", limit=5)] == [ANN]
    found = await storage.group("club")
    assert found is not None
    assert found.members == 1


async def test_what_one_is_not_in_cannot_be_left(storage: Storage) -> None:
    assert not await storage.leave("club", ANN)
    await storage.create_group(group("club"))
    assert not await storage.leave("club", BOB)


async def test_a_group_that_everyone_left_can_be_joined_again(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.append(drafts(2, CLUB))
    assert await storage.leave("club", ANN)
    assert await storage.group("club") == Group("club", None, ANN, 1, members=0, messages=2)
    assert await storage.join("club", BOB, 5)
    assert not await storage.create_group(group("club"))


async def test_joining_again_starts_at_the_last_seq_with_the_history_kept(
    storage: Storage,
) -> None:
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 2)
    await storage.append([*drafts(2, CLUB), *drafts(3, CLUB, BOB)])
    await storage.advance([read(BOB, 1, CLUB)])
    await storage.leave("club", BOB)
    await storage.append(drafts(1, CLUB))
    assert await storage.join("club", BOB, 9)
    assert await storage.member("club", BOB) == Member("club", BOB, 9, 6, 6)
    assert [one.seq for one in await storage.history(CLUB, limit=10)] == [1, 2, 3, 4, 5, 6]
    await storage.append([draft(CLUB, BOB), draft(CLUB, ANN)])
    (summary,) = await storage.summaries(BOB, limit=5)
    assert (summary.last_seq, summary.read_seq, summary.unread) == (8, 6, 1)


async def test_joins_during_appends_stand_where_the_appends_stood(storage: Storage) -> None:
    await storage.create_group(group("club"))
    joiners = [f"joiner-{number}@example.org" for number in range(20)]

    async def write() -> None:
        for one in drafts(40, CLUB):
            stored((await storage.append([one]))[0])

    writing = asyncio.ensure_future(write())
    last_before = []
    for joiner in joiners:
        last_before.append(await storage.last_seq(CLUB))
        assert await storage.join("club", joiner, 1)
    await writing
    members = {one.email: one for one in await storage.members("club", limit=50)}
    for joiner, last in zip(joiners, last_before, strict=True):
        assert last <= members[joiner].delivered_seq == members[joiner].read_seq <= 40
    found = await storage.group("club")
    assert found is not None
    assert (found.members, found.messages) == (21, 40)


# -- members ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7])
async def test_pages_of_members_lose_and_repeat_nobody(storage: Storage, size: int) -> None:
    await storage.create_group(group("club"))
    await storage.create_group(group("other", created_by="stranger@example.org"))
    emails = [ANN, BOB, CAT, "Zed@example.org", "zoë@example.org", "𝔞@example.org"]
    for email in emails[1:]:
        await storage.join("club", email, 1)

    async def page(last: Member | None) -> list[Member]:
        return await storage.members("club", after=last.email if last else "", limit=size)

    assert [one.email for one in await walk(page, size)] == sorted(emails)


async def test_the_groups_of_a_user_are_named_in_order(storage: Storage) -> None:
    for name in ("b", "c", "a", "a-1"):
        await storage.create_group(group(name))
    await storage.create_group(group("not-mine", created_by=BOB))
    await storage.append([draft()])
    assert await storage.group_names_of(ANN) == ["a", "a-1", "b", "c"]


# -- lists -----------------------------------------------------------------------------------------

# name: members beside Ann, messages. Many ties in both.
GROUPS = {
    "a.1": (0, 2),
    "a-1": (1, 0),
    "a_1": (2, 2),
    "ab": (1, 5),
    "b": (2, 0),
    "b-2": (0, 0),
    "c": (0, 2),
    "c0": (0, 12),
}


async def _make_groups(storage: Storage) -> None:
    for name, (others, messages) in GROUPS.items():
        await storage.create_group(group(name))
        for other in (BOB, CAT)[:others]:
            await storage.join(name, other, 1)
        conversation = CLUB.replace("club", name)
        await storage.append(drafts(messages, type(CLUB)(conversation)))


def _expected(sort: GroupSort, prefix: str, member: str | None) -> list[str]:
    members = {name: {ANN, *(BOB, CAT)[:others]} for name, (others, _) in GROUPS.items()}
    rank = {
        GroupSort.NAME: lambda name: (0, name),
        GroupSort.MEMBERS: lambda name: (-len(members[name]), name),
        GroupSort.MESSAGES: lambda name: (-GROUPS[name][1], name),
    }[sort]
    return sorted(
        (
            name
            for name in GROUPS
            if name.startswith(prefix) and (member is None or member in members[name])
        ),
        key=rank,
    )


@pytest.mark.parametrize("sort", GroupSort)
@pytest.mark.parametrize("prefix", ["", "a", "a-", "a_", "a.", "%", "x"])
@pytest.mark.parametrize("member", [None, BOB, "stranger@example.org"])
async def test_pages_of_groups_lose_and_repeat_none_in_any_order(
    storage: Storage, sort: GroupSort, prefix: str, member: str | None
) -> None:
    await _make_groups(storage)
    for size in (1, 2, 3, 8, 9):

        async def page(last: Group | None, size: int = size) -> list[Group]:
            count = {
                GroupSort.NAME: 0,
                GroupSort.MEMBERS: last.members if last else 0,
                GroupSort.MESSAGES: last.messages if last else 0,
            }[sort]
            after = GroupCursor(last.name, count) if last else None
            return await storage.list_groups(
                sort=sort, prefix=prefix, member=member, after=after, limit=size
            )

        found = [one.name for one in await walk(page, size)]
        assert found == _expected(sort, prefix, member)


async def test_listed_groups_are_as_found_by_name(storage: Storage) -> None:
    await _make_groups(storage)
    for listed in await storage.list_groups(limit=20):
        others, messages = GROUPS[listed.name]
        assert (listed.members, listed.messages) == (others + 1, messages)
        assert await storage.group(listed.name) == listed


async def test_a_cursor_may_name_a_group_or_a_count_that_is_not_there(storage: Storage) -> None:
    await _make_groups(storage)
    found = await storage.list_groups(after=GroupCursor("a0"), limit=20)
    assert [one.name for one in found] == ["a_1", "ab", "b", "b-2", "c", "c0"]
    found = await storage.list_groups(
        sort=GroupSort.MESSAGES, after=GroupCursor("zzz", 3), limit=20
    )
    assert [one.name for one in found] == ["a.1", "a_1", "c", "a-1", "b", "b-2"]
    for count in (-(10**30), 10**30):
        found = await storage.list_groups(
            sort=GroupSort.MEMBERS, after=GroupCursor("a", count), limit=20
        )
        assert len(found) == (0 if count < 0 else len(GROUPS))
