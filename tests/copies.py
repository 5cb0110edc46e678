"""Stores to copy: one with a bit of everything, one with much, and all that a store shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from chatd.models import (
    Group,
    GroupSort,
    Message,
    Place,
    Record,
    User,
    group_conversation,
    pair_conversation,
)
from chatd.storage import open_storage
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
    user,
)

ERASED: Final = User("author", "erased-0123@erased.invalid", "!", 5)
ERASED_AND_BOB: Final = pair_conversation(ERASED.email, BOB)
GONE: Final = group_conversation("gone")
COUNTS: Final = {"users": 4, "groups": 2, "messages": 541, "places": 8, "tokens": 2}
"""What `fill` makes."""


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Storage]:
    """The store of a URL, for as long as that takes."""
    storage = open_storage(url, folder)
    try:
        await storage.start()
        yield storage
    finally:
        await storage.close()


async def fill(storage: Storage) -> None:
    """A bit of everything: users disabled and erased, groups empty and gone, a front pruned."""
    for email in (ANN, BOB, CAT):
        await storage.create_user(user(email))
    await storage.touch_last_seen({ANN: 7})
    cat = await storage.user_by_email(CAT)
    assert cat is not None
    await storage.set_password(BOB, "another", 3)
    await storage.append([draft(pair_conversation(BOB, CAT), CAT, client_id="forgotten")])
    await storage.create_user(ERASED)
    await storage.reassign(pair_conversation(BOB, CAT), CAT, ERASED.email, blank=True)
    await storage.set_password(CAT, cat.locked_hash, 1)
    await storage.create_group(Group("club", "The Club 🎈", ANN, 2))
    await storage.create_group(group("empty"))
    await storage.create_group(group("gone"))
    await storage.join("club", BOB, 3)
    await storage.join("club", CAT, 3)
    wrote = (ANN, BOB, CAT)
    await storage.append([draft(CLUB, wrote[n % 3], f"text {n}", sent_at=n) for n in range(530)])
    await storage.append([draft(GONE, sent_at=1), draft(GONE, BOB, sent_at=9)])
    await storage.append([draft(client_id="c"), draft(sender=BOB), *drafts(10, sender=BOB)])
    await storage.append([draft(ANN_HERSELF, text='a "note" \\ to\nself\x7f')])
    await storage.advance([read(ANN, 9, CLUB), delivered(BOB, 520, CLUB), read(BOB, 1)])
    await storage.prune(CLUB, 5, 100)
    await storage.leave("club", CAT)
    await storage.delete_group("gone")
    await storage.revoke_token("one token", 50)
    await storage.revoke_token("another token", 1 << 45)


async def everything(storage: Storage) -> list[Record]:
    """All records, read in one go, in an order that `load` takes."""
    found: list[Record] = [
        *await storage.list_users(limit=10**6),
        *await storage.list_groups(limit=10**6),
    ]
    for conversation in await storage.conversations(limit=10**6):
        found += await storage.history(conversation, after_seq=0, limit=10**6)
        found += await storage.places(conversation, limit=10**6)
    return [*found, *await storage.revoked_tokens(0)]


async def seen(storage: Storage) -> dict[str, Any]:
    """All that the contract shows of a store, but for its epoch."""
    records = await everything(storage)
    found: dict[str, Any] = {"records": records}
    for sort in GroupSort:
        found[f"groups by {sort}"] = await storage.list_groups(sort=sort, limit=99)
    for one in [record for record in records if isinstance(record, User)]:
        found[one.id] = await storage.user_by_id(one.id)
        found[one.email] = (
            await storage.positions(one.email),
            await storage.summaries(one.email, limit=99),
            await storage.group_names_of(one.email),
        )
        for conversation in await storage.conversations(limit=99):
            written = await storage.written_by(one.email, conversation, limit=999)
            found[f"{one.email} in {conversation}"] = written
    for conversation in await storage.conversations(limit=99):
        found[conversation] = await storage.last_seq(conversation)
    for name in ("club", "empty", "gone"):
        found[f"members of {name}"] = await storage.members(name, limit=99)
        found[name] = await storage.group(name)
    for record in records:
        if isinstance(record, Message):
            found[record.id] = await storage.message(record.id)
    return found


async def fill_long(storage: Storage, messages: int) -> None:
    """One pair's long conversation; another one's short one, and a group's, stand beside it."""
    users: list[Record] = [user(ANN), user(BOB), user(CAT)]
    await storage.load([*users, group("club")])
    short = pair_conversation(BOB, CAT)
    await storage.load([_message(CLUB, 1), Place(CLUB, ANN, 1, 1, 0)])
    for start in range(0, messages, 1000):
        numbers = range(start + 1, min(start + 1000, messages) + 1)
        await storage.load([_message(ANN_AND_BOB, seq) for seq in numbers])
    await storage.load([Place(ANN_AND_BOB, one, 1, 3, 2) for one in (ANN, BOB)])
    await storage.load([_message(short, 1), *(Place(short, one, 1, 0, 0) for one in (BOB, CAT))])


def _message(conversation: Any, seq: int) -> Message:
    return Message(f"{conversation} {seq}", conversation, seq, ANN, f"text {seq}", seq)
