from __future__ import annotations

from typing import Any

import pytest

from chatd.directory import Directory
from chatd.errors import Unavailable, UnknownUser
from chatd.models import User, group_conversation, pair_conversation
from chatd.neighbours import Alone
from tests.rooms import ANN, BOB


class Users:
    """Knows Ann, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.out = False
        self.id = "u1"

    async def user_by_email(self, email: str) -> User | None:
        self.asked.append(email)
        if self.out:
            raise Unavailable("no")
        return User(self.id, email, "", 1) if email != BOB else None


@pytest.fixture
def users() -> Users:
    return Users()


async def test_a_user_is_known_in_any_spelling_and_asked_for_once(
    io_loop: Any, users: Users
) -> None:
    directory = Directory(users, Alone())
    for spelling in (ANN, " Ann@Example.ORG ", ANN):
        assert await directory.require(spelling) == ANN
    assert users.asked == [ANN]


async def test_who_is_no_user_is_asked_for_every_time(io_loop: Any, users: Users) -> None:
    directory = Directory(users, Alone())
    for _ in range(2):
        with pytest.raises(UnknownUser, match="nobody has signed up as 'bob@"):
            await directory.require(BOB)
    assert users.asked == [BOB, BOB]


@pytest.mark.parametrize("email", ["", "no address", "x" * 100_000, "a b@example.org", "\0@x.org"])
async def test_what_is_no_address_is_no_user(io_loop: Any, users: Users, email: str) -> None:
    with pytest.raises(UnknownUser) as got:
        await Directory(users, Alone()).require(email)
    assert users.asked == []
    assert len(got.value.detail) < 2000


async def test_a_failure_is_not_remembered(io_loop: Any, users: Users) -> None:
    directory = Directory(users, Alone())
    users.out = True
    with pytest.raises(Unavailable):
        await directory.require(ANN)
    users.out = False
    assert await directory.require(ANN) == ANN


async def test_it_remembers_so_many_and_no_more(
    io_loop: Any, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.directory._REMEMBERED", 3)
    directory = Directory(users, Alone())
    emails = [f"u{number}@example.org" for number in range(4)]
    for email in [*emails, *emails[1:], emails[0]]:
        await directory.require(email)
    assert users.asked == [*emails, emails[0]]


async def test_who_is_gone_can_not_be_written_to_until_they_sign_up_anew(
    io_loop: Any, users: Users
) -> None:
    """Also by who asked for the conversation before: nothing lies between this and the storing."""
    directory = Directory(users, Alone())
    user = await directory.user(ANN)
    conversation = pair_conversation(ANN, BOB)
    directory.check_open(conversation)
    directory.close(user)
    assert not directory.knows(ANN)
    with pytest.raises(UnknownUser):
        directory.check_open(conversation)
    directory.check_open(group_conversation("club"))
    # Who asks for it at the same time may have read it before it was closed.
    with pytest.raises(UnknownUser):
        await directory.require(ANN)
    users.id = "u2"
    await directory.require(ANN)
    directory.check_open(conversation)


def test_who_was_erased_can_not_be_written_to(users: Users) -> None:
    nobody = User.nobody("1", "erased-1a2b", 1)
    with pytest.raises(UnknownUser):
        Directory(users, Alone()).check_open(pair_conversation(nobody.email, ANN))
