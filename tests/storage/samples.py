"""Users, groups, drafts and marks that the storage tests are made of."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from chatd.models import (
    Conversation,
    Draft,
    Group,
    Mark,
    Message,
    Outcome,
    ReceiptKind,
    Stored,
    User,
    group_conversation,
    pair_conversation,
)

T = TypeVar("T")

ANN: Final = "ann@example.org"
BOB: Final = "bob@example.org"
CAT: Final = "cat@example.org"

ANN_AND_BOB: Final = pair_conversation(ANN, BOB)
ANN_HERSELF: Final = pair_conversation(ANN, ANN)
CLUB: Final = group_conversation("club")

DELIVERED: Final = ReceiptKind.DELIVERED
READ: Final = ReceiptKind.READ


def user(email: str, *, created_at: int = 1) -> User:
    return User(
        id=str(uuid.uuid4()), email=email, password_hash=f"hash of {email}", created_at=created_at
    )


def group(name: str, *, created_by: str = ANN, created_at: int = 1) -> Group:
    return Group(name=name, title=None, created_by=created_by, created_at=created_at)


def draft(
    conversation: Conversation = ANN_AND_BOB,
    sender: str = ANN,
    text: str = "hello",
    *,
    client_id: str | None = None,
    sent_at: int = 1,
) -> Draft:
    return Draft(
        id=str(uuid.uuid4()),
        conversation=conversation,
        sender=sender,
        text=text,
        sent_at=sent_at,
        client_id=client_id,
    )


def drafts(count: int, conversation: Conversation = ANN_AND_BOB, sender: str = ANN) -> list[Draft]:
    return [draft(conversation, sender, f"text {number}") for number in range(1, count + 1)]


def delivered(user: str, seq: int, conversation: Conversation = ANN_AND_BOB, at: int = 50) -> Mark:
    return Mark(conversation=conversation, user=user, kind=DELIVERED, seq=seq, at=at)


def read(user: str, seq: int, conversation: Conversation = ANN_AND_BOB, at: int = 60) -> Mark:
    return Mark(conversation=conversation, user=user, kind=READ, seq=seq, at=at)


def stored(outcome: Outcome) -> Message:
    """The message of an outcome that must be `Stored`."""
    assert isinstance(outcome, Stored), outcome
    return outcome.message


async def walk(page: Callable[[T | None], Awaitable[list[T]]], size: int) -> list[T]:
    """All that a list has, page by page; ``page`` is given the last one of the page before."""
    found: list[T] = []
    while True:
        items = await page(found[-1] if found else None)
        assert len(items) <= size
        assert not found or not items or items[-1] != found[-1], "the walk stands still"
        found += items
        if len(items) < size:
            return found
